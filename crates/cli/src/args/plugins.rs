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
