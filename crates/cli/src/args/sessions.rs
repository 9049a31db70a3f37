//! `sessions …`: which model and account a conversation has.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use tokensink_sink::SessionKey;

use crate::complete;

/// `sessions`.
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    /// The agent (default: the default agent)
    #[arg(long, global = true, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    #[command(subcommand)]
    pub(crate) command: SessionsCommand,
}

/// The commands under `sessions`.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List the sessions, what changed last first
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Show the model and the account of a session
    Show {
        /// Its key, e.g. agent:main:main
        key: SessionKey,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Begin a new conversation, as /new in a chat: the next account of the order takes over
    Reset {
        /// Its key, e.g. agent:main:main
        key: SessionKey,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
}

impl SessionsCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json } | Self::Show { json, .. } | Self::Reset { json, .. } => *json,
        }
    }
}
