//! What providers say of their limits: how much is used, when it is reset, and how long to wait (clients.md 5).
//!
//! All of it is foreign text and believed within bounds: a share lies between 0 and 1, a reset in the next forty
//! days, a wait in the next eight; what is not a number is not there. Nothing here decides who is tried; an answer that
//! tells that the windows have room which were full ([`full_windows`], [`open_windows`]) ends a rate-limit bench early.

mod headers;
mod instants;
mod json;

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokensink_types::UnixMillis;

use crate::bench::STATED_MAX;

pub use headers::{Headers, full_windows, open_windows, readings};
pub use json::readings_of_json;

/// How far ahead a reset is believed: limits by the month are the longest.
const RESET_MAX: Duration = Duration::from_secs(40 * 24 * 3600);
/// Windows of one answer that are kept; real answers have up to six.
const WINDOWS_MAX: usize = 16;

/// One limit of an account, as a provider said it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The limit's name: `5h`, `7d`, `requests`, or the provider's word.
    pub window: String,
    /// The share that is used, from 0 to 1.
    pub used: f64,
    /// When it is reset, if that was said and lies ahead.
    pub resets_at: Option<UnixMillis>,
    /// Who said so.
    pub source: Source,
    /// When.
    pub at: UnixMillis,
}

impl Reading {
    /// Something of the limit is left.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.used < 1.0
    }
}

/// What kind of statement a reading comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `anthropic-ratelimit-unified-*`: a plan's windows.
    AnthropicPlan,
    /// `anthropic-ratelimit-requests-*` and the like: a key's limits per minute.
    AnthropicKey,
    /// `x-codex-*`.
    CodexHeaders,
    /// The event `codex.rate_limits` in a stream, or the usage endpoint.
    CodexJson,
    /// `x-ratelimit-*`, of OpenAI and those who took it over.
    OpenAi,
    /// `ratelimit-*`, the draft of the IETF.
    Generic,
}

impl Source {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnthropicPlan => "anthropic-plan",
            Self::AnthropicKey => "anthropic-key",
            Self::CodexHeaders => "codex-headers",
            Self::CodexJson => "codex-json",
            Self::OpenAi => "open-ai",
            Self::Generic => "generic",
        }
    }
}

/// When the server says that it will serve again; `None` when it says nothing of the kind, or names a time that has
/// passed. Not later than eight days from `now`.
///
/// First what names the limit that was met (a rejected plan window, `resets_at` of the body), because the wait beside
/// it is often only for the next retry; then `retry-after-ms`, `retry-after`, and a delay in the body; last the resets
/// of the limits of which nothing remains.
#[must_use]
pub fn stated_wait(headers: &Headers<'_>, body: &[u8], now: UnixMillis) -> Option<UnixMillis> {
    let body = json::of_error(body);
    let said = headers::rejected_plan(headers, now)
        .or_else(|| json::resets_at(body.as_ref(), now))
        .or_else(|| headers::retry_after(headers, now))
        .or_else(|| json::retry_delay(body.as_ref(), now))
        .or_else(|| headers::exhausted(headers, now))?;
    Some(said.min(now.plus(STATED_MAX))).filter(|at| now < *at)
}

/// A reading within its bounds; `None` when `used` is not a number.
fn reading(
    window: &str,
    used: f64,
    resets_at: Option<UnixMillis>,
    source: Source,
    at: UnixMillis,
) -> Option<Reading> {
    Some(Reading {
        window: window.to_owned(),
        used: Some(used).filter(|used| !used.is_nan())?.clamp(0.0, 1.0),
        resets_at: resets_at
            .filter(|end| at < *end)
            .map(|end| end.min(at.plus(RESET_MAX))),
        source,
        at,
    })
}

/// The name of a window by its length in minutes, as the plans have them.
fn by_minutes(minutes: u64) -> String {
    match minutes {
        0 => "0m".to_owned(),
        _ if minutes.is_multiple_of(1440) => format!("{}d", minutes / 1440),
        _ if minutes.is_multiple_of(60) => format!("{}h", minutes / 60),
        _ => format!("{minutes}m"),
    }
}
