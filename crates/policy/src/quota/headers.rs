//! The limit headers of an answer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tokensink_types::UnixMillis;

use super::instants::{after, instant, number};
use super::{Reading, Source, WINDOWS_MAX, by_minutes, reading};

/// Longest name of a window that is kept.
const NAME_MAX: usize = 40;
/// The windows of a plan are named between these: `anthropic-ratelimit-unified-5h-utilization`.
const PLAN: &str = "anthropic-ratelimit-unified-";
const KEY: &str = "anthropic-ratelimit-";
const OPEN_AI: &str = "x-ratelimit-";
const GENERIC: &str = "ratelimit-";
const RETRY: &str = "retry-after";
/// The windows of a ChatGPT plan are named by this, a family of limits and a lane: `x-codex-primary-used-percent`.
const PLAN_OF_CODEX: &str = "x-";
const LANES: [&str; 2] = ["primary", "secondary"];

/// The headers of an answer that speak of limits.
#[derive(Debug, Clone, Default)]
pub struct Headers<'a> {
    by_name: BTreeMap<Cow<'a, str>, &'a str>,
}

impl<'a> Headers<'a> {
    /// Takes what matters of the headers of an answer, in any case of letters; of a name that stands twice the first.
    #[must_use]
    pub fn of(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut by_name = BTreeMap::new();
        for (name, value) in headers {
            // Most servers, and the HTTP library, write them small.
            let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                Cow::Owned(name.to_ascii_lowercase())
            } else {
                Cow::Borrowed(name)
            };
            if may_speak_of_limits(&name) {
                by_name.entry(name).or_insert(value);
            }
        }
        Self { by_name }
    }

    /// Is nothing said of limits, as in most answers?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.by_name.get(name).copied()
    }

    fn number(&self, name: &str) -> Option<f64> {
        number(self.get(name)?)
    }

    fn instant(&self, name: &str, now: UnixMillis) -> Option<UnixMillis> {
        instant(self.get(name)?, now)
    }

    /// What stands between `prefix` and `suffix` in the names that have both.
    fn between<'h>(&'h self, prefix: &'h str, suffix: &'h str) -> impl Iterator<Item = &'h str> {
        self.by_name.keys().filter_map(move |name| {
            let middle = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            (!middle.is_empty() && middle.len() <= NAME_MAX).then_some(middle)
        })
    }
}

/// Can a header of this name, in small letters, speak of limits? It is asked of every header of every answer, and nearly
/// none can.
fn may_speak_of_limits(name: &str) -> bool {
    [KEY, OPEN_AI, GENERIC, RETRY]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        || name.starts_with(PLAN_OF_CODEX) && LANES.iter().any(|lane| name.contains(lane))
}

/// Everything that the headers of an answer say of limits.
#[must_use]
pub fn readings(headers: &Headers<'_>, now: UnixMillis) -> Vec<Reading> {
    let mut all = plan(headers, now);
    all.extend(codex(headers, now));
    all.extend(counted(headers, KEY, Source::AnthropicKey, now));
    all.extend(counted(headers, OPEN_AI, Source::OpenAi, now));
    all.extend(counted(headers, GENERIC, Source::Generic, now));
    all.truncate(WINDOWS_MAX);
    all
}

/// A plan's windows: the share, or that the window rejects. `overage` is no window: being off is its usual state.
fn plan(headers: &Headers<'_>, now: UnixMillis) -> Vec<Reading> {
    let rejects = |window: &str| headers.get(&format!("{PLAN}{window}-status")) == Some("rejected");
    let mut names: Vec<&str> = headers.between(PLAN, "-utilization").collect();
    let silent = headers.between(PLAN, "-status").filter(|window| rejects(window));
    names.extend(silent.filter(|window| *window != "overage"));
    names.sort_unstable();
    names.dedup();
    let windows = names.into_iter().filter_map(|window| {
        let share = headers.number(&format!("{PLAN}{window}-utilization"));
        let used = if rejects(window) { 1.0 } else { share? };
        let resets_at = headers.instant(&format!("{PLAN}{window}-reset"), now);
        reading(window, used, resets_at, Source::AnthropicPlan, now)
    });
    windows.collect()
}

/// The windows of a ChatGPT plan, for each family of limits; `codex` is the usual one.
fn codex(headers: &Headers<'_>, now: UnixMillis) -> Vec<Reading> {
    let mut all = Vec::new();
    for lane in LANES {
        for family in headers.between(PLAN_OF_CODEX, &format!("-{lane}-used-percent")) {
            let field = |field: &str| format!("{PLAN_OF_CODEX}{family}-{lane}-{field}");
            let minutes = headers.number(&field("window-minutes"));
            let window = codex_window(family, lane, minutes);
            let Some(percent) = headers.number(&field("used-percent")) else {
                continue;
            };
            let resets_at = headers.instant(&field("reset-at"), now);
            all.extend(reading(
                &window,
                percent / 100.0,
                resets_at,
                Source::CodexHeaders,
                now,
            ));
        }
    }
    all
}

/// `5h`; with the family's name where it is not the usual one.
pub(super) fn codex_window(family: &str, lane: &str, minutes: Option<f64>) -> String {
    let whole = minutes.filter(|minutes| (1.0..1e6).contains(minutes));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and a million"
    )]
    let name = whole.map_or_else(|| lane.to_owned(), |minutes| by_minutes(minutes as u64));
    match family {
        "codex" => name,
        _ => format!("{family}:{name}"),
    }
}

/// Limits that are counted down: `<prefix>requests-limit`, or `<prefix>limit-requests`, or `<prefix>limit` alone.
fn counted(headers: &Headers<'_>, prefix: &str, source: Source, now: UnixMillis) -> Vec<Reading> {
    let counters = counters(headers, prefix);
    let readings = counters.into_iter().filter_map(|counter| {
        let remaining = headers.number(&counter.remaining)?;
        let used = match headers.number(&counter.limit).filter(|limit| *limit > 0.0) {
            Some(limit) => 1.0 - remaining / limit,
            // Without a limit only its end is known.
            None if remaining <= 0.0 => 1.0,
            None => return None,
        };
        let resets_at = headers.instant(&counter.reset, now);
        reading(&counter.window, used, resets_at, source, now)
    });
    readings.collect()
}

struct Counter {
    window: String,
    limit: String,
    remaining: String,
    reset: String,
}

fn counters(headers: &Headers<'_>, prefix: &str) -> Vec<Counter> {
    let mut all = Vec::new();
    for window in headers.between(prefix, "-remaining") {
        all.push(Counter {
            window: window.to_owned(),
            limit: format!("{prefix}{window}-limit"),
            remaining: format!("{prefix}{window}-remaining"),
            reset: format!("{prefix}{window}-reset"),
        });
    }
    for window in headers.between(&format!("{prefix}remaining-"), "") {
        all.push(Counter {
            window: window.to_owned(),
            limit: format!("{prefix}limit-{window}"),
            remaining: format!("{prefix}remaining-{window}"),
            reset: format!("{prefix}reset-{window}"),
        });
    }
    if headers.get(&format!("{prefix}remaining")).is_some() {
        all.push(Counter {
            window: "requests".to_owned(),
            limit: format!("{prefix}limit"),
            remaining: format!("{prefix}remaining"),
            reset: format!("{prefix}reset"),
        });
    }
    all
}

/// The windows of a plan that an answer says are used up (clients.md 5). Where it rejects without saying how much is used, the
/// one that it names as the reason.
#[must_use]
pub fn full_windows(headers: &Headers<'_>, now: UnixMillis) -> Vec<String> {
    let full: Vec<String> = of_plan(headers, now)
        .filter(|window| !window.has_room())
        .map(|window| window.window)
        .collect();
    let is_rejected = headers.get("anthropic-ratelimit-unified-status") == Some("rejected");
    let claim = headers
        .get("anthropic-ratelimit-unified-representative-claim")
        .filter(|_| is_rejected && full.is_empty());
    match claim {
        Some(claim) => vec![window_of_claim(claim)],
        None => full,
    }
}

/// The windows of a plan of which an answer says that something is left (clients.md 5).
#[must_use]
pub fn open_windows(headers: &Headers<'_>, now: UnixMillis) -> Vec<String> {
    of_plan(headers, now)
        .filter(Reading::has_room)
        .map(|window| window.window)
        .collect()
}

fn of_plan(headers: &Headers<'_>, now: UnixMillis) -> impl Iterator<Item = Reading> {
    plan(headers, now).into_iter().chain(codex(headers, now))
}

/// `seven_day_opus` is the window `7d_opus`.
fn window_of_claim(claim: &str) -> String {
    let short = |claim: &str, long: &str, short: &str| {
        let rest = claim.strip_prefix(long)?;
        (rest.is_empty() || rest.starts_with('_')).then(|| format!("{short}{rest}"))
    };
    short(claim, "five_hour", "5h")
        .or_else(|| short(claim, "seven_day", "7d"))
        .unwrap_or_else(|| claim.to_owned())
}

/// When the plan window that rejects is reset: the one that the answer names, else the last of them.
pub(super) fn rejected_plan(headers: &Headers<'_>, now: UnixMillis) -> Option<UnixMillis> {
    if headers.get("anthropic-ratelimit-unified-status") != Some("rejected") {
        return None;
    }
    let named = headers.instant("anthropic-ratelimit-unified-reset", now);
    let windows = plan(headers, now).into_iter().filter(|window| !window.has_room());
    let last = || windows.filter_map(|window| window.resets_at).max();
    named.filter(|at| now < *at).or_else(last)
}

/// `retry-after-ms`, else `retry-after` in seconds or as an HTTP date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &Headers<'_>, now: UnixMillis) -> Option<UnixMillis> {
    let millis = headers
        .number("retry-after-ms")
        .and_then(|millis| after(millis / 1000.0, now));
    let wait = || headers.instant("retry-after", now);
    millis.or_else(wait).filter(|at| now < *at)
}

/// When the last of the limits is reset of which nothing remains.
pub(super) fn exhausted(headers: &Headers<'_>, now: UnixMillis) -> Option<UnixMillis> {
    let empty = readings(headers, now)
        .into_iter()
        .filter(|reading| !reading.has_room());
    empty.filter_map(|reading| reading.resets_at).max()
}
