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
        /// With the chats that each of them answers
        #[arg(long)]
        bindings: bool,
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Let an agent answer further chats
    Bind(AgentBindArgs),
    /// Take chats away from an agent
    Unbind(AgentUnbindArgs),
    /// List which agent answers which chats
    Bindings {
        /// Only those of this agent
        #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
        agent: Option<String>,
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Delete an agent
    Delete(AgentDeleteArgs),
}

impl AgentsCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Add(args) => args.json,
            Self::List { json, .. } | Self::Bindings { json, .. } => *json,
            Self::Bind(args) => args.json,
            Self::Unbind(args) => args.json,
            Self::Delete(args) => args.json,
        }
    }
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

    /// A chat that it answers, e.g. telegram or telegram:biz; may be repeated
    #[arg(long, value_name = "CHANNEL[:ACCOUNT]")]
    pub(crate) bind: Vec<String>,

    /// Ask nothing
    #[arg(long)]
    pub(crate) non_interactive: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agents bind`.
#[derive(Debug, Args)]
pub(crate) struct AgentBindArgs {
    /// The agent (default: the default agent)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// The chat: a channel, or an account of it, e.g. telegram:biz; `*` is every account; may be repeated
    #[arg(long, value_name = "CHANNEL[:ACCOUNT]", required = true)]
    pub(crate) bind: Vec<String>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agents unbind`.
#[derive(Debug, Args)]
pub(crate) struct AgentUnbindArgs {
    /// The agent (default: the default agent)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// The chat, written as for `bind`; may be repeated
    #[arg(
        long,
        value_name = "CHANNEL[:ACCOUNT]",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub(crate) bind: Vec<String>,

    /// Every binding that names the agent
    #[arg(long)]
    pub(crate) all: bool,

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
