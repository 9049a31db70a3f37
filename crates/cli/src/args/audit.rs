//! `audit …`: the record of changes.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    pub(crate) command: AuditCommand,
}

/// The commands under `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the last changes: logins, refreshes, logouts, keys
    List {
        /// How many
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: usize,

        /// Only those of this profile
        #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::profiles))]
        profile: Option<String>,

        /// Only those of this agent
        #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
        agent: Option<String>,

        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Check that no line was changed, removed or put in; exit code 1 if one was
    Verify {
        /// A hash that `audit verify` printed earlier: the line with it must still be there
        #[arg(long, value_name = "HASH")]
        head: Option<String>,

        /// Print an object
        #[arg(long)]
        json: bool,
    },
}

impl AuditCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json, .. } | Self::Verify { json, .. } => *json,
        }
    }
}
