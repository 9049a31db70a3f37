//! Instants and waits as headers and bodies write them.

use std::time::Duration;

use tokensink_types::{DurationUnit, UnixMillis, parse_duration};

/// Longest text that is looked at; an HTTP date has 29 characters.
const TEXT_MAX: usize = 64;
/// A bare number from here on is an instant, in seconds since the epoch (September 2001), below it a wait.
const EPOCH_SECONDS: f64 = 1e9;
/// A bare number from here on is in milliseconds since the epoch.
const EPOCH_MILLIS: f64 = 1e11;

/// A finite number.
pub(super) fn number(text: &str) -> Option<f64> {
    let text = Some(text.trim()).filter(|text| text.len() <= TEXT_MAX)?;
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// An instant in any of the forms in use: a number (seconds from now, or since the epoch, or milliseconds since it), a
/// duration (`6m0s`), RFC 3339, or an HTTP date (RFC 9110 section 5.6.7).
pub(super) fn instant(text: &str, now: UnixMillis) -> Option<UnixMillis> {
    let text = Some(text.trim()).filter(|text| text.len() <= TEXT_MAX)?;
    if let Ok(number) = text.parse::<f64>() {
        return of_number(number, now);
    }
    if let Ok(wait) = parse_duration(text, DurationUnit::Seconds) {
        return Some(now.plus(wait));
    }
    let rfc3339 = || text.parse::<jiff::Timestamp>().ok();
    let http_date = || jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    let at = rfc3339().or_else(http_date)?;
    Some(UnixMillis(at.as_millisecond()))
}

/// A number as an instant.
pub(super) fn of_number(number: f64, now: UnixMillis) -> Option<UnixMillis> {
    match number {
        _ if !number.is_finite() || number < 0.0 => None,
        _ if number >= EPOCH_MILLIS => since_epoch(number / 1000.0),
        _ if number >= EPOCH_SECONDS => since_epoch(number),
        _ => after(number, now),
    }
}

/// `seconds` from now.
pub(super) fn after(seconds: f64, now: UnixMillis) -> Option<UnixMillis> {
    Some(now.plus(Duration::try_from_secs_f64(seconds).ok()?))
}

fn since_epoch(seconds: f64) -> Option<UnixMillis> {
    after(seconds, UnixMillis(0))
}
