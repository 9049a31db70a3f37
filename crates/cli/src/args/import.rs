//! `import …` and `export`: logins that come from elsewhere, and logins that leave.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::ArgValueCandidates;
use tokensink_types::ProfileId;

use super::KeySource;
use super::values;
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
    /// Take in the logins of a bundle that `export` wrote
    Bundle(ImportBundleArgs),
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

/// `import bundle`.
#[derive(Debug, Args)]
pub(crate) struct ImportBundleArgs {
    /// The bundle
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Open it with the identities (AGE-SECRET-KEY-1…) in this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "passphrase_from")]
    pub(crate) identity: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,

    /// Only the logins of this agent
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    #[command(flatten)]
    pub(crate) manner: ImportManner,
}

/// Where a passphrase comes from.
#[derive(Debug, Args)]
pub(crate) struct PassphraseArgs {
    /// Where the passphrase is: `-` (standard input), `file:PATH` or `env:NAME` (default: it is asked for)
    #[arg(long, value_name = "SOURCE", allow_hyphen_values = true, value_parser = source)]
    pub(crate) passphrase_from: Option<KeySource>,
}

#[expect(clippy::unnecessary_wraps, reason = "the signature is that of a value parser")]
fn source(text: &str) -> Result<KeySource, String> {
    Ok(KeySource::parse(text))
}

const EXPORT_HELP: &str = "\
A login whose refresh tokens are used once must not be in two places. It leaves by --move, which removes it here once the \
bundle is written and read back, or as an access token alone (--access-only), for example for a CI job.";

/// `export`.
#[derive(Debug, Args)]
#[command(after_help = EXPORT_HELP)]
pub(crate) struct ExportArgs {
    /// The bundle, which must not exist; `-` is standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) to: PathBuf,

    /// Only this profile; may be repeated
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::profiles))]
    pub(crate) profile_id: Vec<ProfileId>,

    /// Only this agent; may be repeated (default: all agents)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Vec<String>,

    /// Encrypt to this recipient (age1…) instead of by a passphrase; may be repeated
    #[arg(long, value_name = "RECIPIENT", conflicts_with = "passphrase_from")]
    pub(crate) recipient: Vec<String>,

    #[command(flatten)]
    pub(crate) passphrase: PassphraseArgs,

    /// Remove the logins here once the bundle is written and read back
    #[arg(long = "move", conflicts_with = "access_only")]
    pub(crate) moves: bool,

    /// Export access tokens alone, which nobody can renew
    #[arg(long, requires = "ttl")]
    pub(crate) access_only: bool,

    /// When the exported access tokens end at the latest, e.g. 1h
    #[arg(long, value_name = "DURATION", requires = "access_only", value_parser = values::seconds)]
    pub(crate) ttl: Option<Duration>,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}
