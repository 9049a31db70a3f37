//! `external …`: the logins that other programs keep.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use tokensink_sink::ExternalMode;

use crate::complete;

/// `external`.
#[derive(Debug, Args)]
pub(crate) struct ExternalArgs {
    #[command(subcommand)]
    pub(crate) command: ExternalCommand,
}

/// The commands under `external`.
#[derive(Debug, Subcommand)]
pub(crate) enum ExternalCommand {
    /// List the logins that other programs keep on this host
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
    /// Choose how the login of a program is used
    Set(ExternalSetArgs),
    /// Make a program ask for each token here: write its hook into its settings
    Wire(ExternalWireArgs),
    /// Bring a program's settings back to what they were
    Unwire(ExternalWireArgs),
}

impl ExternalCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json } => *json,
            Self::Set(args) => args.json,
            Self::Wire(args) | Self::Unwire(args) => args.json,
        }
    }
}

/// `external wire` and `external unwire`.
#[derive(Debug, Args)]
pub(crate) struct ExternalWireArgs {
    /// The program: claude or codex
    #[arg(value_name = "CLI")]
    pub(crate) cli: String,

    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// The agent whose token the program gets (default: main)
    #[arg(long, value_name = "ID", add = ArgValueCandidates::new(complete::agents))]
    pub(crate) agent: Option<String>,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// `external set`.
#[derive(Debug, Args)]
pub(crate) struct ExternalSetArgs {
    /// The program: claude, codex, qwen, gemini or minimax
    #[arg(value_name = "CLI")]
    pub(crate) cli: String,

    /// How its login is used
    #[arg(value_name = "MODE", value_parser = mode_parser())]
    pub(crate) mode: ExternalMode,

    /// The file that holds the login, or the program's home (default: where the program looks first)
    #[arg(long, value_name = "PATH")]
    pub(crate) place: Option<PathBuf>,

    /// Do not ask before a login is moved
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print an object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The words of the modes.
pub(super) fn mode_parser() -> impl TypedValueParser<Value = ExternalMode> {
    let words = ExternalMode::ALL.map(|mode| PossibleValue::new(mode.as_str()).help(mode.meaning()));
    PossibleValuesParser::new(words).map(|word| ExternalMode::parse(&word).unwrap_or(ExternalMode::Off))
}
