//! A provider's API that refuses one call in twenty, tokens that ran out and tokens that have a successor; it keeps books
//! on who could have served what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tokensink_testkit::{Seen, Talk};

/// One call in so many is refused.
const REFUSED_OF: u64 = 20;
/// How long a refusal says that its account is closed.
const CLOSED: Duration = Duration::from_millis(200);
/// How long an answer takes, and an event.
const THINKS: Duration = Duration::from_millis(15);
const BETWEEN_EVENTS: Duration = Duration::from_millis(4);
/// Events of a stream.
pub(super) const EVENTS: usize = 6;

#[derive(Debug, Default)]
pub(super) struct Api(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    calls: u64,
    figures: Figures,
    /// The tokens of each account that came and were valid, by the second in which they run out and by themselves; the
    /// last is the one in use.
    tokens: HashMap<String, BTreeSet<(u64, String)>>,
    /// Until when an account has said that it serves nobody.
    closed: HashMap<String, Instant>,
    /// The accounts that refused a request, and how.
    attempts: HashMap<usize, Vec<(String, u16)>>,
}

/// What was answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) served: u64,
    pub(super) refused: u64,
    pub(super) unauthorized: u64,
}

/// What a call gets.
enum Verdict {
    Served,
    Refused(u16),
    Unauthorized,
}

impl Api {
    pub(super) fn answer(&self, seen: &Seen, talk: &mut Talk) {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let request = usize::try_from(body["messages"][0]["content"].as_u64().unwrap()).unwrap();
        let verdict = self.judge(seen.bearer(), request);
        let wait = CLOSED.as_millis().to_string();
        let wait = ("retry-after-ms", wait.as_str());
        match verdict {
            Verdict::Unauthorized => talk.json(
                401,
                r#"{"error":{"message":"The access token expired","code":"token_expired"}}"#,
            ),
            Verdict::Refused(429) => talk.answer(
                429,
                &[wait],
                r#"{"error":{"message":"Rate limit reached","type":"rate_limit_error"}}"#,
            ),
            Verdict::Refused(status) => talk.answer(
                status,
                &[wait],
                r#"{"error":{"message":"The server is overloaded","type":"overloaded_error"}}"#,
            ),
            Verdict::Served if body["stream"] == true => {
                std::thread::sleep(THINKS);
                talk.begin_events();
                for event in 0..EVENTS {
                    talk.chunk(format!("data: {{\"of\":{request},\"event\":{event}}}\n\n"));
                    std::thread::sleep(BETWEEN_EVENTS);
                }
                talk.end();
            }
            Verdict::Served => {
                std::thread::sleep(THINKS);
                talk.json(
                    200,
                    &format!("{{\"of\":{request},\"object\":\"chat.completion\"}}"),
                );
            }
        }
    }

    fn judge(&self, token: &str, request: usize) -> Verdict {
        let mut books = self.0.lock().unwrap();
        let (account, end) = claims_of(token);
        let known = books.tokens.entry(account.clone()).or_default();
        let has_successor = known.last().is_some_and(|(last, _)| *last > end);
        let ran_out = SystemTime::now() >= UNIX_EPOCH + Duration::from_secs(end);
        if has_successor || ran_out {
            books.figures.unauthorized += 1;
            return Verdict::Unauthorized;
        }
        known.insert((end, token.to_owned()));
        books.calls += 1;
        if books.calls.is_multiple_of(REFUSED_OF) {
            let status = if books.calls.is_multiple_of(2 * REFUSED_OF) {
                429
            } else {
                503
            };
            books.figures.refused += 1;
            books.closed.insert(account.clone(), Instant::now() + CLOSED);
            books.attempts.entry(request).or_default().push((account, status));
            return Verdict::Refused(status);
        }
        books.figures.served += 1;
        Verdict::Served
    }

    /// The accounts that could serve this request now: they did not refuse it, and are not closed.
    pub(super) fn able_accounts<'a>(&self, request: usize, all: &[&'a str]) -> Vec<&'a str> {
        let books = self.0.lock().unwrap();
        let refused_it = |account: &str| {
            let attempts = books.attempts.get(&request).into_iter().flatten();
            attempts.into_iter().any(|(by, _)| by == account)
        };
        let is_closed = |account: &str| {
            let until = books.closed.get(account);
            until.is_some_and(|until| Instant::now() < *until)
        };
        all.iter()
            .copied()
            .filter(|account| !refused_it(account) && !is_closed(account))
            .collect()
    }

    pub(super) fn attempts(&self, request: usize) -> Vec<(String, u16)> {
        let books = self.0.lock().unwrap();
        books.attempts.get(&request).cloned().unwrap_or_default()
    }

    /// The request was served in the end.
    pub(super) fn forget(&self, request: usize) {
        self.0.lock().unwrap().attempts.remove(&request);
    }

    pub(super) fn figures(&self) -> Figures {
        self.0.lock().unwrap().figures
    }

    /// How many tokens of each account were used.
    pub(super) fn tokens_by_account(&self) -> BTreeMap<String, u64> {
        let books = self.0.lock().unwrap();
        let count = |tokens: &BTreeSet<_>| u64::try_from(tokens.len()).unwrap();
        let counts = books
            .tokens
            .iter()
            .map(|(account, tokens)| (account.clone(), count(tokens)));
        counts.collect()
    }
}

/// Whose access token this is, and the second in which it runs out.
fn claims_of(token: &str) -> (String, u64) {
    let claims = token.split('.').nth(1).unwrap_or_else(|| panic!("no JWT"));
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let email = claims["email"].as_str().unwrap();
    let account = email.split('@').next().unwrap().to_owned();
    (account, claims["exp"].as_u64().unwrap())
}
