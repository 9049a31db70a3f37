//! `cargo xtask simulate`: the simulator beyond what the tests run of it.
//!
//! It is the ignored test `replay::simulate` of the sink's test binary `sim`, told by variables what to do.

use crate::args::SimulateOptions;
use crate::run::{Failure, cargo, run as run_program};

/// A run without any wish ends after this many minutes.
const MINUTES: u64 = 5;

/// Runs one seed with its trace, or many.
pub(crate) fn run(options: &SimulateOptions) -> Result<(), Failure> {
    let mut command = cargo([
        "test",
        "--quiet",
        "--release",
        "--package",
        "tokensink-sink",
        "--test",
        "sim",
    ]);
    command.args(["--", "--ignored", "--exact", "--nocapture", "replay::simulate"]);
    let mut wish = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            command.env(format!("TOKENSINK_SIMULATE_{name}"), value);
        }
    };
    let minutes = options.minutes.or(options.runs.is_none().then_some(MINUTES));
    wish("SEED", options.seed.clone());
    wish("FROM", options.from.map(|from| from.to_string()));
    wish("RUNS", options.runs.map(|runs| runs.to_string()));
    wish("MINUTES", minutes.map(|minutes| minutes.to_string()));
    run_program(&mut command)
}
