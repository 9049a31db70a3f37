//! `channels`, `providers`, `completions` and `man`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCandidates;

use crate::complete;
use crate::name::Name;

/// `channels`.
#[derive(Debug, Args)]
pub(crate) struct ChannelsArgs {
    #[command(subcommand)]
    pub(crate) command: ChannelsCommand,
}

/// The commands under `channels`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelsCommand {
    /// List the chat channels and the logins
    List {
        /// Print an object; its `auth` array holds the profile ids
        #[arg(long)]
        json: bool,
        /// Never ask a provider how much of a plan is used (which is never done anyway)
        #[arg(long)]
        no_usage: bool,
    },
}

impl ChannelsCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json, .. } => *json,
        }
    }
}

/// `providers`.
#[derive(Debug, Args)]
pub(crate) struct ProvidersArgs {
    #[command(subcommand)]
    pub(crate) command: ProvidersCommand,
}

/// The commands under `providers`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProvidersCommand {
    /// List the providers and their login methods
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Show a provider's definition and where each field comes from
    Show {
        /// The provider
        #[arg(value_name = "ID", add = ArgValueCandidates::new(complete::providers))]
        id: String,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
    /// Check a definition file before it is put into <state dir>/tokensink/providers/
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print an object
        #[arg(long)]
        json: bool,
    },
}

impl ProvidersCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json } | Self::Show { json, .. } | Self::Check { json, .. } => *json,
        }
    }
}

/// The shells for which there are completion scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl Shell {
    /// The name that the completion library uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// How to install the script, by the name that is in use.
pub(super) fn completions_help(name: Name) -> String {
    let name = name.as_str();
    format!(
        "To install:\n  \
         bash:  source <({name} completions bash)     in ~/.bashrc\n  \
         zsh:   source <({name} completions zsh)      in ~/.zshrc\n  \
         fish:  {name} completions fish | source      in ~/.config/fish/config.fish\n\
         Provider, profile and agent ids complete too."
    )
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages; it is made where it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
