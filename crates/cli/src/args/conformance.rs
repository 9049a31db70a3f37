//! `conformance`: the kit with which programs are tested.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    /// The scenarios: what happens, what is right, and why it matters
    List {
        /// Print an array
        #[arg(long)]
        json: bool,
    },
}

/// `conformance run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct ConformanceRunArgs {
    /// The program: tokensink, or the path of a file that describes another
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
}
