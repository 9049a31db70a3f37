//! `keys …`: who may call the gateway.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use crate::complete;

/// `keys`.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// The commands under `keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key for a client of the gateway and print it, once
    Add(KeyAddArgs),
    /// List the keys, without their texts
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// End a key at once
    Revoke(KeyRevokeArgs),
}

impl KeysCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Add(args) => args.json,
            Self::List { json } => *json,
            Self::Revoke(args) => args.json,
        }
    }
}

/// `keys add`.
#[derive(Debug, Args)]
pub(crate) struct KeyAddArgs {
    /// What you call the client, e.g. my-laptop
    pub(crate) name: String,

    /// The agent whose logins the client uses
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: String,

    /// The only provider that the client may use; may be repeated (default: all of the agent's)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
    pub(crate) provider: Vec<String>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `keys revoke`.
#[derive(Debug, Args)]
pub(crate) struct KeyRevokeArgs {
    /// The name of the key
    #[arg(add = ArgValueCandidates::new(complete::client_keys))]
    pub(crate) name: String,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}
