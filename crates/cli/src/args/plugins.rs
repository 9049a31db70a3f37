//! `plugins`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `plugins`.
#[derive(Debug, Args)]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    pub(crate) command: PluginsCommand,
}

/// The commands under `plugins`.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginsCommand {
    /// Install a provider definition (TOML), a plugin with a program (plugin.toml), or what is data in an OpenClaw
    /// plugin (openclaw.plugin.json)
    Install {
        /// A definition, or a directory with a plugin
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Replace what differs; a definition is kept as .bak
        #[arg(long)]
        replace: bool,
    },
    /// List what is installed
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Try a plugin out before anybody installs it
    Check {
        /// A definition, or a directory with a plugin
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Have a program log in for real, refresh, and end the login; nothing of it is stored
        #[arg(long)]
        login: bool,
        /// Answer a question of the program instead of asking it here; for a secret as ID=env:NAME
        #[arg(long, value_name = "ID=ANSWER", requires = "login", value_parser = pair)]
        answer: Vec<(String, String)>,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Remove a plugin; stored logins stay
    Remove {
        /// The plugin
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl PluginsCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json } | Self::Check { json, .. } => *json,
            Self::Install { .. } | Self::Remove { .. } => false,
        }
    }
}

/// `ID=ANSWER`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (id, answer) = text
        .split_once('=')
        .ok_or("write ID=ANSWER, with the id that the program gives its question")?;
    Ok((id.to_owned(), answer.to_owned()))
}
