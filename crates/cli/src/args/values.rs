//! Values on the command line, parsed once at the edge.

use std::time::Duration;

use tokensink_types::{DurationUnit, parse_duration};

/// `--expires-in`: a bare number counts days (spec.md 11.8).
pub(crate) fn days(text: &str) -> Result<Duration, String> {
    duration(text, DurationUnit::Days)
}

/// `--min-ttl`, `--wait`: a bare number counts seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    duration(text, DurationUnit::Seconds)
}

fn duration(text: &str, unit: DurationUnit) -> Result<Duration, String> {
    parse_duration(text, unit).map_err(|error| error.to_string())
}
