//! `agents …` (spec.md 15.4, 15.5).

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `agents`.
#[derive(Debug, Args)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    pub(crate) command: AgentsCommand,
}

/// The commands under `agents`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentsCommand {
    /// Add an agent with logins, sessions and a workspace of its own
    Add(AgentAddArgs),
    /// List the agents
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Delete an agent
    Delete(AgentDeleteArgs),
}

/// `agents add`.
#[derive(Debug, Args)]
pub(crate) struct AgentAddArgs {
    /// Name of the agent; asked for where it is left out
    pub(crate) name: Option<String>,

    /// Where its command line back ends run (default: <state dir>/agents/<id>/workspace)
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,

    /// Where its logins are kept (default: <state dir>/agents/<id>/agent)
    #[arg(long, value_name = "DIR")]
    pub(crate) agent_dir: Option<PathBuf>,

    /// Its default model
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,

    /// Ask nothing
    #[arg(long)]
    pub(crate) non_interactive: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agents delete`.
#[derive(Debug, Args)]
pub(crate) struct AgentDeleteArgs {
    /// The agent
    #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) id: String,

    /// Do not ask
    #[arg(long)]
    pub(crate) force: bool,

    /// Take it out of the configuration only
    #[arg(long)]
    pub(crate) keep_files: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}
