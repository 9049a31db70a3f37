//! `import …`: logins that other programs hold.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) command: ImportCommand,
}

/// The sources.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Take over the logins of an OpenClaw or Clawdbot of any age, from its files or databases
    Openclaw(ImportOpenClawArgs),
}

/// How an import asks and answers.
#[derive(Debug, Args)]
pub(crate) struct ImportManner {
    /// Show what would be done and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `import openclaw`.
#[derive(Debug, Args)]
pub(crate) struct ImportOpenClawArgs {
    /// Its state directory, or one archived file (default: the usual places, ~/.openclaw and ~/.clawdbot among them)
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,

    /// Only the logins of this agent
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    #[command(flatten)]
    pub(crate) manner: ImportManner,
}
