//! Logs to standard error, only when asked for: the hot path builds no subscriber.

use std::io;

use tokensink_host::Environment;
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// The variable with the filter, in the syntax of `tracing-subscriber` (`debug`, `tokensink_sink=trace`, …).
pub(crate) const FILTER_VARIABLE: &str = "TOKENSINK_LOG";

/// The variable with the form of the lines: `text` or `json`, one object per line.
const FORMAT_VARIABLE: &str = "TOKENSINK_LOG_FORMAT";

/// Starts logging where `-v` or `TOKENSINK_LOG` asks for it; the variable wins. `asked` is the form that the command line
/// asks for, which wins over `TOKENSINK_LOG_FORMAT`. Returns what is wrong with a variable, if anything; the parts that
/// are right are then used.
pub(crate) fn start(verbose: u8, asked: Option<LogFormat>, env: &dyn Environment) -> Option<String> {
    let variable = env.var(FILTER_VARIABLE);
    let filter = match (variable.as_deref(), verbose) {
        (Some(text), _) => text,
        (None, 0) => return None,
        (None, 1) => "info",
        (None, 2) => "debug",
        (None, _) => "trace",
    };
    let wrong = EnvFilter::try_new(filter).err();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .with_writer(io::stderr)
        .with_ansi(false);
    let variable = env.var(FORMAT_VARIABLE);
    match (asked, variable.as_deref()) {
        (Some(LogFormat::Text), _) | (None, None | Some("text")) => lines.init(),
        (Some(LogFormat::Json), _) | (None, Some("json")) => lines.json().init(),
        (None, Some(other)) => {
            lines.init();
            return Some(format!("{FORMAT_VARIABLE}={other}: text or json is meant"));
        }
    }
    wrong.map(|error| format!("{FILTER_VARIABLE}={filter}: {error}"))
}
