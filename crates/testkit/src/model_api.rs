//! The APIs of Anthropic, OpenAI and ChatGPT on loopback, as far as their official clients and programs use them.
//!
//! It is strict where the real ones are: a credential in the one place where it belongs, the beta feature of a
//! subscription's token with such tokens and with no other, the workspace of a ChatGPT login, a stored response for the
//! account that made it. What it says follows from the last text of the user, see [`Prompt`]; any other text is
//! answered with `hello`.
//!
//! The base URLs are [`ModelApi::anthropic`], [`ModelApi::openai`] and [`ModelApi::chatgpt`].

#![expect(
    clippy::unwrap_used,
    reason = "a server for tests, which says what is wrong by panicking"
)]

mod anthropic;
mod openai;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{Seen, Talk, Upstream};

/// How long a stream without an end is kept up for a client that should leave it.
const ENDLESS: Duration = Duration::from_secs(20);

/// The feature that a subscription's token needs (clients.md 3.5).
const OAUTH_BETA: &str = "oauth-2025-04-20";

/// What a user's text makes the servers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompt {
    /// Says `hello`.
    Hello,
    /// `weather`: calls the tool of that name, and tells of it once its result is there.
    Weather,
    /// `wrong`: answers 400.
    Wrong,
    /// `limit`: answers 429, whoever asks.
    Limit,
    /// `endless`: a stream that ends when its client leaves.
    Endless,
    /// `have I left?`: waits until such a stream is over and says `yes`, or `no`.
    Left,
    /// `cut`: a stream that breaks off.
    Cut,
    /// `overloaded`: a stream with an error event.
    Overloaded,
}

impl Prompt {
    fn of(text: &str) -> Self {
        match text {
            "weather" => Self::Weather,
            "wrong" => Self::Wrong,
            "limit" => Self::Limit,
            "endless" => Self::Endless,
            "have I left?" => Self::Left,
            "cut" => Self::Cut,
            "overloaded" => Self::Overloaded,
            _ => Self::Hello,
        }
    }
}

/// A request as the servers understood it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// The credential that it came with.
    pub account: String,
    /// The `model` of its body; empty without one.
    pub model: String,
    /// The status that it was answered with.
    pub status: u16,
    /// Which attempt of its client it was, from 0, where the client says so.
    pub attempt: Option<String>,
    /// The body's coding.
    pub encoding: Option<String>,
}

/// The running servers.
#[derive(Debug)]
pub struct ModelApi {
    upstream: Upstream,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    limited: Mutex<BTreeSet<String>>,
    asked: Mutex<Vec<Asked>>,
    wrongs: Mutex<Vec<String>>,
    /// Streams without an end that their clients have left, and that were asked about.
    left: Mutex<(usize, usize)>,
    leaving: Condvar,
}

impl ModelApi {
    /// Starts them on a free port.
    #[must_use]
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let answering = Arc::clone(&shared);
        Self {
            upstream: Upstream::start(move |seen, talk| answering.answer(seen, talk)),
            shared,
        }
    }

    /// Anthropic's base URL, without a version.
    #[must_use]
    pub fn anthropic(&self) -> String {
        format!("{}/anthropic", self.upstream.url())
    }

    /// OpenAI's base URL.
    #[must_use]
    pub fn openai(&self) -> String {
        format!("{}/openai/v1", self.upstream.url())
    }

    /// The base URL of ChatGPT's backend for Codex.
    #[must_use]
    pub fn chatgpt(&self) -> String {
        format!("{}/chatgpt/backend-api/codex", self.upstream.url())
    }

    /// The requests so far, in the order of their answers.
    ///
    /// # Panics
    /// When an answer has panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The requests as they arrived.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.upstream.seen()
    }

    /// What the real servers would not have taken: a credential in a wrong place, a feature that must not be there.
    ///
    /// # Panics
    /// When an answer has panicked.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        self.shared.wrongs.lock().unwrap().clone()
    }

    /// From now on the limit of the account with this credential is used up.
    ///
    /// # Panics
    /// When an answer has panicked.
    pub fn limit(&self, account: &str) {
        self.shared.limited.lock().unwrap().insert(account.to_owned());
    }
}

/// A request that was let in.
struct Call<'a> {
    seen: &'a Seen,
    account: String,
    body: Value,
}

impl Call<'_> {
    fn model(&self) -> &str {
        self.body["model"].as_str().unwrap_or_default()
    }

    fn streams(&self) -> bool {
        self.body["stream"] == true
    }
}

impl Shared {
    fn answer(&self, seen: &Seen, talk: &mut Talk) {
        let path = seen.path.split('?').next().unwrap_or_default();
        let Some((vendor, path)) = path.trim_start_matches('/').split_once('/') else {
            return talk.json(404, "{}");
        };
        let body = readable(seen);
        let account = match admitted(vendor, seen) {
            Ok(account) => account,
            Err(why) => {
                self.wrongs
                    .lock()
                    .unwrap()
                    .push(format!("{} {}: {why}", seen.method, seen.path));
                self.note(seen, "", &body, 401);
                return talk.json(401, &error(vendor, "authentication_error", &why).to_string());
            }
        };
        let is_limited = self.limited.lock().unwrap().contains(&account);
        let call = Call { seen, account, body };
        let status = match vendor {
            _ if is_limited => Some(limited(vendor, &call, talk)),
            "anthropic" => anthropic::answer(self, &call, path, talk),
            _ => openai::answer(self, &call, path, talk),
        };
        // A stream was noted when it began.
        if let Some(status) = status {
            self.note(seen, &call.account, &call.body, status);
        }
    }

    fn note(&self, seen: &Seen, account: &str, body: &Value, status: u16) {
        let header = |name| seen.header(name).map(str::to_owned);
        self.asked.lock().unwrap().push(Asked {
            path: seen.path.clone(),
            account: account.to_owned(),
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            status,
            attempt: header("x-stainless-retry-count"),
            encoding: header("content-encoding"),
        });
    }

    /// A stream of these events, each in a chunk of its own.
    fn stream(&self, call: &Call<'_>, talk: &mut Talk, events: &[String]) {
        self.note(call.seen, &call.account, &call.body, 200);
        talk.begin_events();
        for event in events {
            talk.chunk(event);
        }
        talk.end();
    }

    /// These events and nothing after them, until the client leaves.
    fn endless(&self, call: &Call<'_>, talk: &mut Talk, events: &[String]) {
        self.note(call.seen, &call.account, &call.body, 200);
        talk.begin_events();
        for event in events {
            talk.chunk(event);
        }
        if talk.left_within(ENDLESS).is_some() {
            self.left.lock().unwrap().0 += 1;
            self.leaving.notify_all();
        }
    }

    /// These events, and then the connection breaks.
    fn cut(&self, call: &Call<'_>, talk: &mut Talk, events: &[String]) {
        self.note(call.seen, &call.account, &call.body, 200);
        talk.begin_events();
        for event in events {
            talk.chunk(event);
        }
        talk.cut();
    }

    /// Whether the client of the next stream without an end has left it, for which it has a moment.
    fn left(&self) -> &'static str {
        let mut left = self.left.lock().unwrap();
        left.1 += 1;
        let waiting = |(gone, asked): &mut (usize, usize)| gone < asked;
        let (left, _) = self
            .leaving
            .wait_timeout_while(left, ENDLESS / 4, waiting)
            .unwrap();
        if left.0 < left.1 { "no" } else { "yes" }
    }
}

/// The body as JSON, unpacked where it is compressed as Codex does; null where it is none.
fn readable(seen: &Seen) -> Value {
    if seen.header("content-encoding") != Some("zstd") {
        return serde_json::from_slice(&seen.body).unwrap_or_default();
    }
    let mut plain = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(&*seen.body)
        .unwrap()
        .read_to_end(&mut plain)
        .unwrap();
    serde_json::from_slice(&plain).unwrap()
}

/// The credential of a request, if it is where the real server looks for it, and nowhere else.
fn admitted(vendor: &str, seen: &Seen) -> Result<String, String> {
    let named = [
        "authorization",
        "x-api-key",
        "api-key",
        "cookie",
        "x-goog-api-key",
    ];
    let shown: BTreeSet<&str> = named
        .into_iter()
        .filter(|name| seen.header(name).is_some())
        .collect();
    if shown.len() != 1 {
        return Err(format!("one credential is wanted, and there are {shown:?}"));
    }
    if let Some(key) = seen.header("x-api-key").filter(|_| vendor == "anthropic") {
        return match seen.header("anthropic-beta") {
            Some(betas) if betas.contains(OAUTH_BETA) => {
                Err("a key comes with the feature of a token".to_owned())
            }
            _ => Ok(key.to_owned()),
        };
    }
    if seen.bearer().is_empty() {
        return Err(format!("{shown:?} is not where {vendor} looks"));
    }
    let betas = seen.header("anthropic-beta").unwrap_or_default();
    if vendor == "anthropic" && !betas.contains(OAUTH_BETA) {
        return Err("OAuth authentication is currently not supported.".to_owned());
    }
    if vendor == "chatgpt" && seen.header("chatgpt-account-id").is_none() {
        return Err("no workspace".to_owned());
    }
    Ok(seen.bearer().to_owned())
}

/// An error in the shape of its API.
fn error(vendor: &str, kind: &str, text: &str) -> Value {
    if vendor == "anthropic" {
        return json!({"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"});
    }
    json!({"error": {"message": text, "type": kind, "param": null, "code": kind}})
}

/// A limit that is over in two minutes, told as the real servers tell it where they leave the next attempt to the
/// client: by the time of the reset, without `retry-after` (clients.md 5).
#[expect(clippy::disallowed_methods, reason = "the reset is told as the time of day")]
fn limited(vendor: &str, call: &Call<'_>, talk: &mut Talk) -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let reset = (now + 120).to_string();
    let json = ("content-type", "application/json");
    if vendor == "anthropic" {
        let headers = [
            json,
            ("anthropic-ratelimit-unified-status", "rejected"),
            ("anthropic-ratelimit-unified-representative-claim", "five_hour"),
            ("anthropic-ratelimit-unified-reset", &reset),
        ];
        let text = "This request would exceed your account's rate limit. Please try again later.";
        talk.answer(429, &headers, error(vendor, "rate_limit_error", text).to_string());
    } else if call.seen.path.contains("/backend-api/") {
        let error = json!({"type": "usage_limit_reached", "message": "The usage limit has been reached",
            "plan_type": "plus", "resets_at": now + 120, "resets_in_seconds": 120});
        talk.answer(429, &[json], json!({"error": error}).to_string());
    } else {
        let headers = [
            json,
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "2m0s"),
        ];
        let text = "Rate limit reached for requests.";
        talk.answer(
            429,
            &headers,
            error(vendor, "rate_limit_exceeded", text).to_string(),
        );
    }
    429
}

/// An event with its name.
fn named(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap())
}
