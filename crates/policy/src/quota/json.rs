//! Limits in the bodies of errors, in events of a stream and in the answers of usage endpoints.

use serde_json::Value;
use tokensink_types::UnixMillis;

use super::headers::codex_window;
use super::instants::{after, instant, of_number};
use super::{Reading, Source, WINDOWS_MAX, reading};

/// Longest body that is read for a wait; real errors are a tenth of it.
const BODY_MAX: usize = 64 * 1024;

/// An error's body, or its outermost object where it is wrapped in a list, as Google does.
pub(super) fn of_error(body: &[u8]) -> Option<Value> {
    let value = parse(body)?;
    match value {
        Value::Array(list) => list.into_iter().next(),
        other => Some(other),
    }
}

fn parse(body: &[u8]) -> Option<Value> {
    let body = Some(body).filter(|body| body.len() <= BODY_MAX)?;
    serde_json::from_slice(body).ok()
}

/// `resets_at` or `resets_in_seconds` of the error, as ChatGPT plans have them.
pub(super) fn resets_at(body: Option<&Value>, now: UnixMillis) -> Option<UnixMillis> {
    let body = body?;
    let ahead = |at: &UnixMillis| now < *at;
    [body.get("error"), Some(body)]
        .into_iter()
        .flatten()
        .find_map(|error| {
            let at = error
                .get("resets_at")
                .and_then(|at| moment(at, now))
                .filter(ahead);
            let seconds = || error.get("resets_in_seconds").and_then(Value::as_f64);
            at.or_else(|| after(seconds()?, now).filter(ahead))
        })
}

/// Google's `RetryInfo`, `retry_after` of some, and OpenAI's sentence.
pub(super) fn retry_delay(body: Option<&Value>, now: UnixMillis) -> Option<UnixMillis> {
    let error = body?.get("error").or(body)?;
    let details = error
        .get("details")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut delays = details.filter_map(|detail| moment(detail.get("retryDelay")?, now));
    let field = || error.get("retry_after").and_then(|wait| moment(wait, now));
    let sentence = || in_sentence(error.get("message")?.as_str()?, now);
    delays
        .next()
        .or_else(field)
        .or_else(sentence)
        .filter(|at| now < *at)
}

/// `Please try again in 1.898s.`
fn in_sentence(message: &str, now: UnixMillis) -> Option<UnixMillis> {
    let (_, rest) = message.split_once("try again in ")?;
    let word = rest.split_whitespace().next()?.trim_end_matches(['.', ',']);
    // A bare number may be of any unit.
    let unit = word.ends_with(|last: char| last.is_ascii_alphabetic());
    unit.then(|| instant(word, now)).flatten()
}

fn moment(value: &Value, now: UnixMillis) -> Option<UnixMillis> {
    match value {
        Value::Number(number) => of_number(number.as_f64()?, now),
        Value::String(text) => instant(text, now),
        _ => None,
    }
}

/// The readings of an event `codex.rate_limits`, or of the usage endpoint of ChatGPT plans (spec.md 5.6); none for
/// any other JSON.
#[must_use]
pub fn readings_of_json(json: &[u8], now: UnixMillis) -> Vec<Reading> {
    let Some(value) = parse(json) else {
        return Vec::new();
    };
    let event = value.get("type").and_then(Value::as_str);
    if event.is_some_and(|event| event != "codex.rate_limits") {
        return Vec::new();
    }
    let name = |key: &str| value.get(key).and_then(Value::as_str);
    let family = name("metered_limit_name")
        .or_else(|| name("limit_name"))
        .unwrap_or("codex");
    let family: String = family.to_lowercase().chars().take(40).collect();
    let limits = value.get("rate_limits").or_else(|| value.get("rate_limit"));
    let mut all = Vec::new();
    for lane in ["primary", "secondary"] {
        let window =
            limits.and_then(|limits| limits.get(lane).or_else(|| limits.get(format!("{lane}_window"))));
        all.extend(window.and_then(|window| of_window(&family, lane, window, now)));
    }
    all.truncate(WINDOWS_MAX);
    all
}

fn of_window(family: &str, lane: &str, window: &Value, now: UnixMillis) -> Option<Reading> {
    let number = |key: &str| window.get(key).and_then(Value::as_f64);
    let minutes = number("window_minutes").or_else(|| Some(number("limit_window_seconds")? / 60.0));
    let resets_at = window
        .get("reset_at")
        .and_then(|at| moment(at, now))
        .or_else(|| after(number("reset_after_seconds")?, now));
    let used = number("used_percent")? / 100.0;
    let name = codex_window(family, lane, minutes);
    reading(&name, used, resets_at, Source::CodexJson, now)
}
