//! Status and runtime agree: whatever the state, what status says of a profile is what a caller who asks is given.
//!
//! The states are drawn at random: stored tokens, refresh record, clock, provider rules. Each is shown to status and
//! then to one `acquire` that does not wait, against a server that refreshes everything.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Response;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokensink_host::Liveness;
use tokensink_host::lock::KernelLock;
use tokensink_sink::{
    AcquireRequest, AgentId, ErrorKind, Flights, Lease, ProfileId, Sink, SinkError, UnixMillis, Want,
};
use tokensink_store::{Journal, Paths, RecordKey};
use tokensink_testkit::{FakeProcesses, TestHost};
use tokensink_types::record::{Backoff, Generation, Record, RecordState, Rotation, Sent};
use tokensink_types::{Account, Body, ProviderId, Revision, SpendKey, TokenSet};

use crate::world::{STATE, store_path};

/// A failure is looked for in this many states; unoptimised code takes much longer for each.
const STATES: u32 = if cfg!(debug_assertions) { 200 } else { 10_000 };

/// The first moment of a test host.
const START: i64 = 1_767_225_600_000;

const DEFINITION: &str = r#"
id = "rig"
name = "Rig"
billing = "subscription"
[api]
kind = "openai-chat"
base_url = "http://127.0.0.1:9500/v1"
models = ["rig-small"]
[[auth]]
id = "oauth"
kind = "pkce"
client_id = "rig"
authorization_endpoint = "http://127.0.0.1:9400/auth"
token_endpoint = "http://127.0.0.1:9400/token"
redirect_uri = "http://127.0.0.1:1455/auth/callback"
scopes = ["openid"]
"#;

/// A generation by its number; `None` is a blank.
#[derive(Debug, Clone)]
struct Tokens {
    access: Option<u8>,
    refresh: Option<u8>,
    /// Seconds from now.
    expires: Option<i64>,
}

#[derive(Debug, Clone)]
enum Stored {
    OAuth(Tokens),
    Token { expires: Option<i64> },
    Key { reference: Option<bool> },
}

#[derive(Debug, Clone)]
struct Recorded {
    generation: Option<Tokens>,
    /// Seconds from now.
    issued: Option<i64>,
    /// 0 idle, 1 sent, 2 answered, 3 committed, 4 parked, 5 refused.
    state: u8,
    /// The number of the refresh token that the state is about.
    key: u8,
    ancestors: Vec<u8>,
    /// Seconds from now.
    backoff: Option<i64>,
    rejected: bool,
    rotation: Rotation,
    /// Seconds from now: first and last.
    sent: (i64, i64),
    sends: u32,
    flying: bool,
}

#[derive(Debug, Clone)]
struct State {
    stored: Stored,
    record: Option<Recorded>,
    rotation: &'static str,
    grace: u32,
}

fn moments() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        -5_i64..5,
        -90_i64..90,
        -400_i64..400,
        -8_000_i64..8_000,
        Just(1_000_000),
        Just(-1_000_000)
    ]
}

fn tokens() -> impl Strategy<Value = Tokens> {
    let number = || prop_oneof![1 => Just(None), 6 => (1_u8..4).prop_map(Some)];
    (number(), number(), proptest::option::weighted(0.9, moments())).prop_map(|(access, refresh, expires)| {
        Tokens {
            access,
            refresh,
            expires,
        }
    })
}

fn stored() -> impl Strategy<Value = Stored> {
    prop_oneof![
        10 => tokens().prop_map(Stored::OAuth),
        1 => proptest::option::of(moments()).prop_map(|expires| Stored::Token { expires }),
        1 => proptest::option::of(any::<bool>()).prop_map(|reference| Stored::Key { reference }),
    ]
}

fn recorded() -> impl Strategy<Value = Recorded> {
    let rotation = prop_oneof![
        Just(Rotation::Unknown),
        Just(Rotation::Always),
        Just(Rotation::Never)
    ];
    let grant = (
        proptest::option::weighted(0.9, tokens()),
        proptest::option::of(moments()),
        0_u8..6,
        1_u8..4,
    );
    let rest = (
        proptest::collection::vec(1_u8..4, 0..3),
        proptest::option::of(moments()),
        any::<bool>(),
        rotation,
        (moments(), moments()),
        1_u32..5,
        any::<bool>(),
    );
    (grant, rest).prop_map(
        |(
            (generation, issued, state, key),
            (ancestors, backoff, rejected, rotation, sent, sends, flying),
        )| {
            Recorded {
                generation,
                issued,
                state,
                key,
                ancestors,
                backoff,
                rejected,
                rotation,
                sent,
                sends,
                flying,
            }
        },
    )
}

fn states() -> impl Strategy<Value = State> {
    let rotation = prop_oneof![Just("unknown"), Just("always"), Just("never")];
    let grace = prop_oneof![Just(0_u32), Just(60), Just(6_000)];
    (
        stored(),
        proptest::option::weighted(0.8, recorded()),
        rotation,
        grace,
    )
        .prop_map(|(stored, record, rotation, grace)| State {
            stored,
            record,
            rotation,
            grace,
        })
}

fn access(number: Option<u8>) -> String {
    number.map_or_else(String::new, |number| format!("access-{number}"))
}

fn refresh(number: Option<u8>) -> String {
    number.map_or_else(String::new, |number| format!("refresh-{number}"))
}

fn at(seconds: i64) -> UnixMillis {
    UnixMillis(START + seconds * 1000)
}

fn key(number: u8) -> SpendKey {
    SpendKey::of(&refresh(Some(number)).into())
}

impl Tokens {
    fn generation(&self, issued: Option<i64>) -> Generation {
        Generation {
            tokens: TokenSet {
                access: access(self.access).into(),
                refresh: self.refresh.map(|number| refresh(Some(number)).into()),
                expires: self.expires.map(at),
                id_token: None,
            },
            account: Account {
                account_id: Some("acct".to_owned()),
                ..Account::default()
            },
            issued_at: issued.map(at),
            fields: BTreeMap::new(),
        }
    }
}

impl Stored {
    fn entry(&self) -> Value {
        match self {
            Self::OAuth(tokens) => json!({
                "type": "oauth",
                "provider": "rig",
                "access": access(tokens.access),
                "refresh": refresh(tokens.refresh),
                "expires": tokens.expires.map(|seconds| at(seconds).0),
                "accountId": "acct",
            }),
            Self::Token { expires } => json!({
                "type": "token",
                "provider": "rig",
                "token": "token-1",
                "expires": expires.map(|seconds| at(seconds).0),
            }),
            Self::Key { reference: None } => json!({"type": "api_key", "provider": "rig", "key": "key-1"}),
            Self::Key { reference: Some(set) } => {
                let name = if *set { "THERE" } else { "NOWHERE" };
                json!({
                    "type": "api_key",
                    "provider": "rig",
                    "keyRef": {"source": "env", "provider": "default", "id": name},
                })
            }
        }
    }
}

impl Recorded {
    fn record(&self, store: String, profile: ProfileId) -> Record {
        let generation = self.generation.as_ref().map(|one| one.generation(self.issued));
        let rejected = generation.as_ref().map(Generation::revision);
        let mut record = Record::idle(ProviderId::parse("rig").unwrap(), profile, store, generation);
        record.ancestors = self.ancestors.iter().map(|number| key(*number)).collect();
        record.rotation = self.rotation;
        record.rejected = rejected.filter(|_: &Revision| self.rejected);
        record.backoff = self.backoff.map(|seconds| Backoff {
            failures: 2,
            not_before: at(seconds),
            reason: "the token endpoint answered 503".to_owned(),
        });
        record.state = self.state();
        record
    }

    fn state(&self) -> RecordState {
        let (spent, now) = (key(self.key), at(self.sent.1));
        match self.state {
            0 => RecordState::Idle,
            1 => RecordState::Sent(Sent {
                spend: spent,
                first_at: at(self.sent.0.min(self.sent.1)),
                last_at: now,
                sends: self.sends,
                holder: FakeProcesses::id(4711),
            }),
            2 => RecordState::Answered {
                parent: spent,
                at: now,
            },
            3 => RecordState::Committed { at: now },
            4 => RecordState::Parked {
                spent,
                answer: Box::new(
                    Tokens {
                        access: Some(9),
                        refresh: Some(9),
                        expires: None,
                    }
                    .generation(None),
                ),
                at: now,
            },
            _ => RecordState::Refused {
                spent,
                code: "invalid_grant".to_owned(),
                description: String::new(),
                after_lost_answer: false,
                at: now,
            },
        }
    }
}

/// What status said, and what came of asking.
struct Seen {
    word: &'static str,
    answer: Result<Lease, SinkError>,
    requests: usize,
    /// Another process has the grant's lock.
    locked: bool,
}

fn look(state: &State) -> Seen {
    let test = TestHost::new();
    let definition = format!(
        "{DEFINITION}rotation = \"{}\"\nreplay_grace_seconds = {}\n",
        state.rotation, state.grace
    );
    test.files
        .put(format!("{STATE}/tokensink/providers/rig.toml"), definition, 0o600);
    let store = json!({"version": 1, "profiles": {"rig:a": state.stored.entry()}});
    test.files.put(store_path("main"), store.to_string(), 0o600);
    test.env.set("THERE", "key-2");
    test.transport.on_request(|_| {
        let body = r#"{"access_token":"access-new","refresh_token":"refresh-new","token_type":"Bearer","expires_in":3600}"#;
        Ok(Response::builder()
            .header("content-type", "application/json")
            .body(Body::new(body))
            .unwrap())
    });
    let profile = ProfileId::parse("rig:a").unwrap();
    let paths = Paths::resolve(&test.env).unwrap();
    if let Some(recorded) = &state.record {
        let key = RecordKey {
            store: store_path("main"),
            profile: profile.clone(),
        };
        let record = recorded.record(key.store, key.profile);
        Journal::new(test.host(), &paths).write(&record).unwrap();
    }
    // Whoever has sent and is alive has the lock.
    let flying = state
        .record
        .as_ref()
        .is_some_and(|one| one.flying && one.state == 1);
    let other = test.other_process(4711);
    let _lock = flying.then(|| {
        test.processes
            .set_liveness(FakeProcesses::id(4711), Liveness::Running);
        let path = paths.refresh_lock(&ProviderId::parse("rig").unwrap(), &profile);
        KernelLock::try_acquire(&other.host(), &path).unwrap()
    });
    let open = || Sink::open_with(test.host(), Flights::inline()).unwrap();
    let report = open().status(&AgentId::main()).unwrap();
    let word = report.profiles[0].state.word();
    let request = AcquireRequest {
        wait: Duration::ZERO,
        ..AcquireRequest::new(AgentId::main(), Want::Profile(profile))
    };
    let answer = open().acquire(&request);
    Seen {
        word,
        answer,
        requests: test.transport.requests().len(),
        locked: flying,
    }
}

fn check(seen: &Seen) -> Result<(), String> {
    let kind = seen.answer.as_ref().err().map(SinkError::kind);
    let note = seen.answer.as_ref().is_ok_and(|lease| lease.note.is_some());
    let quiet = seen.requests == 0;
    let agrees = match seen.word {
        "usable" | "expiring" => kind.is_none() && quiet,
        // What is in flight may be an earlier login; the caller's turn comes after it.
        "refreshable" if seen.locked => quiet && (note || kind == Some(ErrorKind::TryAgain)),
        // Two where a repeated request was answered with tokens that had run out meanwhile.
        "refreshable" => kind.is_none() && (1..=2).contains(&seen.requests),
        // The old token while it lives, and else the word to come again.
        "refreshing" | "waiting" => quiet && (note || kind == Some(ErrorKind::TryAgain)),
        "login_needed" => quiet && kind == Some(ErrorKind::LoginNeeded),
        "unresolved_ref" => quiet && kind == Some(ErrorKind::Failed),
        _ => false,
    };
    if agrees {
        return Ok(());
    }
    let answer = match &seen.answer {
        Ok(lease) => format!("a lease with note {:?}", lease.note),
        Err(error) => format!("{:?} {}: {error}", error.kind(), error.code()),
    };
    Err(format!(
        "status says {}, acquire gives {answer} after {} requests",
        seen.word, seen.requests
    ))
}

#[test]
fn what_status_says_is_what_a_caller_gets() {
    let config = Config {
        cases: STATES,
        failure_persistence: None,
        ..Config::default()
    };
    let words = std::cell::RefCell::new(BTreeMap::<&'static str, u32>::new());
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let result = runner.run(&states(), |state| {
        let seen = look(&state);
        *words.borrow_mut().entry(seen.word).or_default() += 1;
        check(&seen).map_err(TestCaseError::fail)
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let words = words.into_inner();
    assert_eq!(words.len(), 7, "every word was seen: {words:?}");
}
