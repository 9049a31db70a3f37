//! `conformance`: the kit with which programs are tested.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::values;

const RUN_HELP: &str = "\
Exit codes: 0 every scenario passed, 1 one failed or could not be judged. A scenario that makes no sense for a program \
counts neither way. docs/conformance.md says how to put a program of your own to the test.";

/// `conformance`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ConformanceArgs {
    #[command(subcommand)]
    pub(crate) command: ConformanceCommand,
}

/// What the kit does.
#[derive(Debug, Subcommand)]
pub(crate) enum ConformanceCommand {
    /// Put a program through the scenarios and print its score
    Run(ConformanceRunArgs),
    /// Serve the strict authorization server alone, for tests by hand
    Serve(ConformanceServeArgs),
    /// The scenarios: what happens, what is right, and why it matters
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
}

impl ConformanceCommand {
    /// Whether it was asked for JSON.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::List { json } => *json,
            Self::Run(args) => args.json,
            Self::Serve(args) => args.json,
        }
    }
}

/// `conformance run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct ConformanceRunArgs {
    /// The program: tokensink, codex, claude, openclaw, or the path of a .toml file that describes another
    #[arg(value_name = "CLIENT")]
    pub(crate) client: String,

    /// Only this scenario; may be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) scenario: Vec<String>,

    /// Where the program is, if not where it is found by itself
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,

    /// How many scenarios are played at once (default: as many as suit the program)
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) jobs: usize,

    /// Print an object; progress goes to standard error
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the report as a page into this file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// The port where none is given: the one after the gateway's.
const SERVE_PORT: u16 = super::serve::PORT + 1;

/// `conformance serve`.
#[derive(Debug, Args)]
pub(crate) struct ConformanceServeArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = SERVE_PORT)]
    pub(crate) port: u16,

    /// Repeat the answer to a repeated refresh for so long (default: not at all)
    #[arg(long, value_name = "DURATION", value_parser = values::seconds)]
    pub(crate) grace: Option<Duration>,

    /// How long an access token lives (default: 1h)
    #[arg(long, value_name = "DURATION", value_parser = values::seconds)]
    pub(crate) access_life: Option<Duration>,

    /// After how long an unused refresh token dies (default: never)
    #[arg(long, value_name = "DURATION", value_parser = values::seconds)]
    pub(crate) idle_limit: Option<Duration>,

    /// Refuse a spent refresh token that comes again, but do not end its login
    #[arg(long)]
    pub(crate) no_revoke: bool,

    /// How the server differs and what goes wrong when: TOML, or JSON by its name (docs/conformance.md)
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,

    /// The provider's id in the definition for tokensink
    #[arg(long, value_name = "ID", default_value = "kit")]
    pub(crate) provider: String,

    /// Print an object once it serves
    #[arg(long)]
    pub(crate) json: bool,
}
