//! Every answer that a token endpoint may give to a refresh: the bodies of `answers/bodies.json` under each status,
//! through the whole sink. What must come of it is written down here by RFC 6749 sections 5.1, 5.2 and 6 and the rules of
//! send-once, not by the code that classifies.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use tokensink_sink::{AcquireRequest, ErrorKind, SinkError};
use tokensink_testkit::Scripted;
use tokensink_types::Body;

use crate::world::{HOUR, PROFILE, World, request, store_path, strict};

/// Those that servers, gateways and proxies in front of them answer with.
const STATUSES: [u16; 24] = [
    200, 201, 204, 301, 302, 307, 400, 401, 403, 404, 405, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503,
    504, 520, 529,
];

/// What a body says, whatever its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// New tokens.
    Grant,
    /// The provider's terminal error, in any of its spellings.
    Terminal,
    /// Anything else.
    Other,
}

/// What must come of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// The new generation is complete in the store, and handed out.
    Renewed,
    /// Only a login helps; the old generation is still there.
    LoginNeeded,
    /// The refresh token is unspent; it is sent again later.
    Unspent,
    /// Nobody knows; the old generation is kept, and sent again when nothing else is left.
    Unknown,
}

/// A success has tokens (5.1) or nobody knows what the server did; a gateway that lost its server knows nothing; the
/// declared error of a client error ends the grant (5.2); everything else leaves the token unspent.
fn fate(status: u16, means: Means) -> Fate {
    match (status, means) {
        (200..=299, Means::Grant) => Fate::Renewed,
        (200..=299 | 400..=499, Means::Terminal) => Fate::LoginNeeded,
        (200..=299, Means::Other) | (502 | 504 | 520, _) => Fate::Unknown,
        _ => Fate::Unspent,
    }
}

struct Answer {
    name: String,
    means: Means,
    /// The error code that is to be told.
    code: Option<String>,
    /// The answer brings no refresh token, so that the old one stays (section 6).
    keeps_refresh: bool,
    kind: Option<String>,
    body: Vec<u8>,
}

fn answers() -> Vec<Answer> {
    let all: Vec<Value> = serde_json::from_str(include_str!("answers/bodies.json")).unwrap();
    all.iter().map(answer).collect()
}

fn answer(entry: &Value) -> Answer {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    let repeated = || {
        let times = entry["repeat"][1].as_u64().unwrap();
        entry["repeat"][0]
            .as_str()
            .unwrap()
            .repeat(usize::try_from(times).unwrap())
    };
    let body = match (text("body"), text("hex")) {
        (Some(body), _) => body.into_bytes(),
        (None, Some(hex)) => bytes_of(&hex),
        (None, None) => repeated().into_bytes(),
    };
    Answer {
        name: text("name").unwrap(),
        means: match entry["means"].as_str().unwrap() {
            "grant" => Means::Grant,
            "terminal" => Means::Terminal,
            "other" => Means::Other,
            unknown => panic!("{unknown}"),
        },
        code: text("code"),
        keeps_refresh: text("refresh").is_some_and(|refresh| refresh == "kept"),
        // Where nothing is said it is JSON; null is no content type at all.
        kind: match entry.get("type") {
            None => Some("application/json".to_owned()),
            Some(kind) => kind.as_str().map(str::to_owned),
        },
        body,
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

impl Answer {
    /// As it is sent to whoever sent `refresh`.
    fn response(&self, status: u16, refresh: &str) -> Response<Body> {
        let body = match str::from_utf8(&self.body) {
            Ok(text) => text.replace("{refresh}", refresh).into_bytes(),
            Err(_) => self.body.clone(),
        };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let headers = response.headers_mut();
        if let Some(kind) = &self.kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        }
        if (300..400).contains(&status) {
            let elsewhere = HeaderValue::from_static("https://elsewhere.test/token");
            headers.insert(header::LOCATION, elsewhere);
        }
        response
    }
}

/// A caller that does not wait.
fn at_once() -> AcquireRequest {
    AcquireRequest {
        wait: Duration::ZERO,
        ..request()
    }
}

fn check(answer: &Answer, status: u16) -> Fate {
    let at = format!("{} with status {status}", answer.name);
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    let before = world.test.files.text(store_path("main"));
    let old = world.stored("main", PROFILE);
    let refresh = old["refresh"].as_str().unwrap().to_owned();
    let response = answer.response(status, &refresh);
    world.test.transport.push(Scripted::Exchange(Ok(response)));
    let outcome = world.sink().acquire(&at_once());
    assert_eq!(
        world.test.transport.requests().len(),
        1,
        "{at}: one request, and none elsewhere"
    );
    let fate = fate(status, answer.means);
    match (fate, outcome) {
        (Fate::Renewed, Ok(lease)) => {
            assert_eq!(lease.secret.expose(), "new-access", "{at}");
            renewed(answer, &world, &old, &at);
        }
        (_, Err(error)) if fate != Fate::Renewed => {
            assert_eq!(
                world.test.files.text(store_path("main")),
                before,
                "{at}: the store is as it was"
            );
            told(answer, status, fate, &error, &at);
            hides(
                &error,
                &[
                    &refresh,
                    old["access"].as_str().unwrap(),
                    "new-access",
                    "new-refresh",
                ],
                &at,
            );
            afterwards(&world, fate, &at);
        }
        (_, outcome) => panic!("{at}: {fate:?} is to come of it, and it was {outcome:?}"),
    }
    fate
}

/// The new generation is whole in the store, and what else was there stays.
fn renewed(answer: &Answer, world: &World, old: &Value, at: &str) {
    let new = world.stored("main", PROFILE);
    let refresh = if answer.keeps_refresh {
        old["refresh"].as_str()
    } else {
        Some("new-refresh")
    };
    assert_eq!(new["access"].as_str(), Some("new-access"), "{at}");
    assert_eq!(new["refresh"].as_str(), refresh, "{at}");
    assert_eq!(
        (&new["note"], &new["email"]),
        (&old["note"], &old["email"]),
        "{at}"
    );
    let again = world.sink().acquire(&at_once()).map(|lease| lease.secret.clone());
    assert_eq!(again.unwrap().expose(), "new-access", "{at}");
}

/// The kind, the code and the way out are said.
fn told(answer: &Answer, status: u16, fate: Fate, error: &SinkError, at: &str) {
    let text = error.to_string();
    let kind = if fate == Fate::LoginNeeded {
        ErrorKind::LoginNeeded
    } else {
        ErrorKind::TryAgain
    };
    assert_eq!(error.kind(), kind, "{at}: {text}");
    if fate == Fate::LoginNeeded {
        let fix = error.fix().unwrap_or_default();
        assert!(fix.contains("models auth login"), "{at}: {fix}");
    }
    let gateway = matches!(status, 502 | 504 | 520);
    let code = answer.code.as_deref().filter(|_| !gateway).unwrap_or_default();
    assert!(text.contains(code), "{at}: {text}");
    let number = if fate == Fate::LoginNeeded {
        String::new()
    } else {
        status.to_string()
    };
    assert!(text.contains(&number), "{at}: {text}");
    let is_plain = !text.chars().any(|c| c.is_control() && c != '\n');
    assert!(is_plain && text.len() < 2_000, "{at}: {text:?}");
}

fn hides(error: &SinkError, secrets: &[&str], at: &str) {
    let text = format!("{error} {error:?} {:?}", error.fix());
    for secret in secrets {
        assert!(!text.contains(secret), "{at}: a token is shown: {text}");
    }
    assert!(
        !text.contains("new-acc"),
        "{at}: a part of a token is shown: {text}"
    );
}

/// A login that is over is not asked for again; anything else works once the server does.
fn afterwards(world: &World, fate: Fate, at: &str) {
    world.test.clock.advance(HOUR);
    let outcome = world.sink().acquire(&at_once());
    if fate == Fate::LoginNeeded {
        let error = outcome.map(|lease| lease.secret.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginNeeded, "{at}");
        assert_eq!(
            world.test.transport.requests().len(),
            1,
            "{at}: the dead token is not sent again"
        );
        return;
    }
    let lease = outcome.unwrap_or_else(|error| panic!("{at}: afterwards: {error}"));
    assert!(world.is_live(&lease), "{at}");
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (1, 0), "{at}");
}

/// Every body under every fourth status.
#[expect(clippy::print_stdout, reason = "what was covered is printed")]
fn check_every_fourth(first: usize) {
    let answers = answers();
    let mut counts = BTreeMap::new();
    for status in STATUSES.into_iter().skip(first).step_by(4) {
        for answer in &answers {
            *counts.entry(check(answer, status)).or_insert(0) += 1;
        }
    }
    println!(
        "{} bodies, statuses {first}, {}, …: {counts:?}",
        answers.len(),
        first + 4
    );
    assert_eq!(counts.values().sum::<usize>(), answers.len() * STATUSES.len() / 4);
}

#[test]
fn statuses_a() {
    check_every_fourth(0);
}

#[test]
fn statuses_b() {
    check_every_fourth(1);
}

#[test]
fn statuses_c() {
    check_every_fourth(2);
}

#[test]
fn statuses_d() {
    check_every_fourth(3);
}

#[test]
fn the_corpus_is_rich() {
    let answers = answers();
    let count = |means| answers.iter().filter(|answer| answer.means == means).count();
    assert!(count(Means::Grant) >= 20 && count(Means::Terminal) >= 10 && count(Means::Other) >= 40);
}
