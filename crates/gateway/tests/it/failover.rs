//! Another account, where that costs nobody anything; and where it does not come into question.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokensink_authserver::{Fault, FaultAction, Running, ServerConfig};
use tokensink_gateway::Bounds;
use tokensink_host::{OsRandom, SystemClock};
use tokensink_sink::{AgentId, Benched, Sink};
use tokensink_testkit::{MapEnvironment, Seen, Talk};

use crate::raw::Answer;
use crate::world::{World, client, error, eventually};

const LIMIT: &str = r#"{"error":{"type":"rate_limit_error","message":"too many"}}"#;
const CHAT: &str = r#"{"model":"small","messages":[]}"#;

fn served(seen: &Seen, talk: &mut Talk) {
    talk.json(200, &format!("{{\"by\":\"{}\"}}", seen.bearer()));
}

/// An API on which `sk-one` does as `one` says and every other key is served.
fn but_for_one(one: impl Fn(&Seen, &mut Talk) + Send + Sync + 'static) -> World {
    World::new(&["one", "two"], move |seen, talk| {
        if seen.bearer() == "sk-one" {
            one(seen, talk);
        } else {
            served(seen, talk);
        }
    })
}

fn calls_of(world: &World, key: &str) -> usize {
    world
        .upstream
        .seen()
        .iter()
        .filter(|seen| seen.bearer() == key)
        .count()
}

fn by(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.header("x-tokensink-profile").unwrap())
}

#[test]
fn a_limit_is_answered_by_the_second_account_until_its_window_ends() {
    let since = Mutex::new(None);
    let world = but_for_one(move |seen, talk| {
        let since = *since.lock().unwrap().get_or_insert(seen.at);
        if seen.at.duration_since(since) < Duration::from_millis(900) {
            talk.answer(429, &[("retry-after", "1")], LIMIT);
        } else {
            served(seen, talk);
        }
    });
    let gateway = world.gateway();
    let began = Instant::now();
    for path in ["/rig/chat/completions", "/v1/chat/completions", "/rig/v1/other"] {
        let answer = client(&gateway).post(path, CHAT).answer();
        assert_eq!(by(&answer), (200, "rig:two"), "{path}");
        assert_eq!(answer.text(), r#"{"by":"sk-two"}"#);
    }
    assert!(
        began.elapsed() < Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(calls_of(&world, "sk-one"), 1);
    std::thread::sleep(Duration::from_millis(1100).saturating_sub(began.elapsed()));
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(by(&answer), (200, "rig:one"), "the first is used again by itself");
    assert_eq!(calls_of(&world, "sk-one"), 2);
}

/// Seconds after which a limit without an end that is near may be tested: the five minutes of the policy, and one second.
const TESTABLE_AFTER: i64 = 5 * 60 + 1;

#[test]
fn a_test_whose_answer_is_slow_to_begin_is_said_to_go_on() {
    let calls = AtomicUsize::new(0);
    let (release, released) = std::sync::mpsc::channel();
    let released = Mutex::new(released);
    let world = but_for_one(move |seen, talk| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            return talk.answer(429, &[("retry-after", "36000")], LIMIT);
        }
        // Without a sender the test has failed already.
        let _ = released.lock().unwrap().recv();
        served(seen, talk);
    });
    let earlier = World::gateway_on(world.sink_at(-TESTABLE_AFTER), Bounds::default());
    let answer = client(&earlier).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(by(&answer), (200, "rig:two"));
    let bounds = Bounds {
        test_pulse: Duration::from_millis(10),
        ..Bounds::default()
    };
    let gateway = World::gateway_on(world.sink(), bounds);
    let bench = || {
        let file = world.state_dir().join("tokensink/state/benches/main.json");
        let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        all["profiles"]["rig:one"]["benches"][0].clone()
    };
    std::thread::scope(|scope| {
        // Dropped in here, so that what fails in here ends the request, too.
        let release = release;
        let asked = scope.spawn(|| client(&gateway).post("/v1/chat/completions", CHAT).answer());
        for _ in 0..2 {
            let last = bench()["probingSeen"].clone();
            eventually("a word of the test", || bench()["probingSeen"] != last);
        }
        let other = World::gateway_on(world.sink(), Bounds::default());
        let answer = client(&other).post("/v1/chat/completions", CHAT).answer();
        assert_eq!(by(&answer), (200, "rig:two"), "there is a test already");
        release.send(()).unwrap();
        assert_eq!(by(&asked.join().unwrap()), (200, "rig:one"));
    });
    eventually("the end of the bench", || bench().is_null());
    assert_eq!(calls_of(&world, "sk-one"), 2);
}

#[test]
fn an_overloaded_model_is_given_the_time_that_the_config_says() {
    let world = but_for_one(|_, talk| talk.answer(529, &[], r#"{"error":{"type":"overloaded_error"}}"#));
    world.put(
        "openclaw.json",
        "{ auth: { cooldowns: { overloadedBackoffMs: 300 } } }",
    );
    let gateway = world.gateway();
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(by(&answer), (200, "rig:two"));
    let seen = world.upstream.seen();
    let waited = seen[1].at.duration_since(seen[0].at);
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
}

#[test]
fn failures_that_another_account_does_not_have() {
    for (status, body) in [
        (401, r#"{"error":{"message":"invalid api key"}}"#),
        (402, r#"{"error":{"message":"insufficient credits"}}"#),
        (403, r#"{"error":{"message":"forbidden"}}"#),
        (
            403,
            r#"{"error":{"message":"Missing scopes: api.files.read","code":"missing_scope"}}"#,
        ),
        (429, LIMIT),
        (500, ""),
        (502, "<html>bad gateway</html>"),
        (503, r#"{"error":{"message":"overloaded"}}"#),
        (529, r#"{"type":"error","error":{"type":"overloaded_error"}}"#),
    ] {
        let world = but_for_one(move |_, talk| talk.answer(status, &[], body));
        let gateway = world.gateway();
        let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
        assert_eq!(by(&answer), (200, "rig:two"), "{status}");
        assert_eq!(calls_of(&world, "sk-one"), 1, "{status}");
    }
}

#[test]
fn what_may_have_been_billed_or_is_the_requests_fault_is_not_repeated() {
    for (name, want) in [
        ("cut", 502),
        ("silent", 504),
        ("half", 502),
        ("bad", 400),
        ("missing", 404),
    ] {
        let world = but_for_one(move |_, talk| match name {
            "cut" => talk.cut(),
            "silent" => {
                let _ = talk.left_within(Duration::from_secs(10));
            }
            "half" => {
                talk.raw(b"HTTP/1.1 429 Too");
                talk.cut();
            }
            "bad" => talk.json(400, r#"{"error":{"message":"messages: required"}}"#),
            _ => talk.json(404, "{}"),
        });
        let gateway = world.gateway_with(Bounds {
            first_byte: Duration::from_millis(200),
            ..Bounds::default()
        });
        let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
        assert_eq!((answer.status, answer.complete), (want, true), "{name}");
        assert_eq!(world.upstream.seen().len(), 1, "{name}");
        if name != "missing" {
            // And nobody is benched for it.
            client(&gateway).post("/v1/chat/completions", CHAT).answer();
            assert_eq!(calls_of(&world, "sk-one"), 2, "{name}");
        }
    }
}

#[test]
fn when_nobody_can_serve_the_limit_is_passed_on_byte_for_byte() {
    let world = World::new(&["one", "two"], |seen, talk| {
        if seen.bearer() == "sk-one" {
            talk.answer(429, &[("retry-after", "77"), ("x-own", "1")], LIMIT);
        } else {
            talk.answer(401, &[], r#"{"error":{"message":"revoked"}}"#);
        }
    });
    let gateway = world.gateway_with(Bounds {
        lease_wait: Duration::ZERO,
        failover_wait: Duration::ZERO,
        ..Bounds::default()
    });
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(
        by(&answer),
        (429, "rig:one"),
        "a limit says more than a refused login"
    );
    assert_eq!((answer.text(), answer.header("x-own")), (LIMIT, Some("1")));
    assert_eq!(answer.header("retry-after"), Some("77"));
    let calls = world.upstream.seen().len();
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(answer.status, 429, "{}", answer.text());
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=77).contains(&wait), "{wait}");
    assert_eq!(world.upstream.seen().len(), calls, "nobody is asked in vain");
}

/// Also where that is one that was not asked in this request, since it rests.
#[test]
fn a_client_is_told_of_the_account_that_is_free_first() {
    for (status, wait) in [(401, "3600"), (429, "3600"), (429, "5")] {
        let world = World::new(&["one", "two"], move |seen, talk| match seen.bearer() {
            "sk-one" => talk.answer(status, &[("retry-after", wait)], LIMIT),
            _ => talk.answer(429, &[("retry-after", "20")], LIMIT),
        });
        let gateway = world.gateway_with(Bounds {
            lease_wait: Duration::ZERO,
            failover_wait: Duration::ZERO,
            ..Bounds::default()
        });
        let of_two = CHAT.replace("small", "rig/small@rig:two");
        let answer = client(&gateway).post("/v1/chat/completions", of_two).answer();
        assert_eq!(by(&answer), (429, "rig:two"));
        let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
        let told: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(answer.status, 429, "{status} {wait}");
        if wait == "5" {
            assert_eq!((by(&answer), told), ((429, "rig:one"), 5), "its own word");
        } else {
            assert!((1..=20).contains(&told), "{status} {wait}: {told}");
            assert_eq!(answer.header("x-tokensink-profile"), None, "{status} {wait}");
        }
        assert_eq!(calls_of(&world, "sk-two"), 1);
    }
}

#[test]
fn of_two_limits_the_one_that_ends_first_is_passed_on() {
    for (one, two, by_whom) in [("3600", "10", "rig:two"), ("10", "3600", "rig:one")] {
        let world = World::new(&["one", "two"], move |seen, talk| {
            let wait = if seen.bearer() == "sk-one" { one } else { two };
            talk.answer(429, &[("retry-after", wait)], LIMIT);
        });
        let gateway = world.gateway_with(Bounds {
            lease_wait: Duration::ZERO,
            failover_wait: Duration::ZERO,
            ..Bounds::default()
        });
        let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
        assert_eq!(by(&answer), (429, by_whom));
        assert_eq!(answer.header("retry-after"), Some("10"));
    }
}

#[test]
fn what_fails_without_a_model_keeps_no_model_back() {
    let world = but_for_one(|seen, talk| match seen.path.as_str() {
        path if path.ends_with("/nothing") => talk.json(404, r#"{"error":{"message":"Not found"}}"#),
        path if path.ends_with("/upload") => talk.answer(429, &[("retry-after", "60")], LIMIT),
        _ => served(seen, talk),
    });
    let gateway = world.gateway();
    for calls in [1, 2] {
        let answer = client(&gateway)
            .request("GET", "/rig/nothing", "")
            .answer_to("GET");
        assert_eq!(
            by(&answer),
            (404, "rig:one"),
            "what does not exist is no fault of the account"
        );
        assert_eq!(calls_of(&world, "sk-one"), calls);
    }
    for _ in 0..2 {
        let answer = client(&gateway).post("/rig/upload", b"no JSON").answer();
        assert_eq!(by(&answer), (200, "rig:two"));
        assert_eq!(
            calls_of(&world, "sk-one"),
            3,
            "the limit of such calls is known now"
        );
    }
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(by(&answer), (200, "rig:one"), "and is none of a model's");
}

#[test]
fn a_body_that_is_not_held_has_one_attempt() {
    let world = but_for_one(|_, talk| talk.answer(429, &[], LIMIT));
    let gateway = world.gateway_with(Bounds {
        replay_body: 1000,
        ..Bounds::default()
    });
    let large = vec![b'x'; 100_000];
    let answer = client(&gateway).post("/rig/upload", &large).answer();
    assert_eq!((by(&answer), answer.text()), ((429, "rig:one"), LIMIT));
    let answer = client(&gateway).post("/v1/chat/completions", &large).answer();
    assert_eq!(answer.status, 413);
}

#[test]
fn a_provider_that_cannot_be_reached_is_said_so() {
    let world = but_for_one(served);
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    world.provider(&format!("http://{gone}"));
    let gateway = world.gateway();
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(answer.status, 502);
    assert_eq!(error(&answer.body)["code"], "upstream_unreachable");
}

#[test]
fn what_belongs_to_one_account_stays_with_it() {
    let limited = AtomicBool::new(false);
    let world = but_for_one(move |seen, talk| {
        if limited.load(Ordering::SeqCst) {
            talk.answer(429, &[], LIMIT);
        } else if seen.path.ends_with("limit") {
            limited.store(true, Ordering::SeqCst);
            talk.answer(429, &[("retry-after", "60")], LIMIT);
        } else {
            talk.json(200, r#"{"id":"resp_1","object":"response"}"#);
        }
    });
    let gateway = world.gateway_with(Bounds {
        lease_wait: Duration::ZERO,
        failover_wait: Duration::ZERO,
        ..Bounds::default()
    });
    let next = r#"{"model":"small","previous_response_id":"resp_1"}"#;
    let first = client(&gateway).post("/rig/responses", CHAT).answer();
    assert_eq!(by(&first), (200, "rig:one"));
    assert_eq!(
        by(&client(&gateway).post("/rig/responses", next).answer()),
        (200, "rig:one")
    );
    let limit = client(&gateway).post("/rig/limit", CHAT).answer();
    assert_eq!(by(&limit), (200, "rig:two"), "what is not bound goes on");
    let bound = client(&gateway).post("/rig/responses", next).answer();
    assert_eq!(
        (by(&bound), bound.text()),
        ((429, "rig:one"), LIMIT),
        "its own account's word"
    );
    let foreign = next.replace("resp_1", "resp_x");
    let unknown = client(&gateway).post("/rig/responses", foreign).answer();
    assert_eq!(error(&unknown.body)["code"], "continuity_break");
    let twos = world.upstream.seen();
    assert!(
        twos.iter()
            .all(|seen| seen.bearer() == "sk-one" || seen.path.ends_with("limit"))
    );
}

/// A session goes to two providers in turn: what is bound to an account of one is never sent to the other's.
#[test]
fn what_is_bound_stays_with_its_provider() {
    let world = World::new(&["one", "two"], |_, talk| {
        talk.json(200, r#"{"id":"resp_1","object":"response"}"#);
    });
    let other = std::fs::read_to_string(world.state_dir().join("tokensink/providers/rig.toml")).unwrap();
    let other = other.replace("\"rig\"", "\"other\"").replace("/base", "/other");
    world.put("tokensink/providers/other.toml", &other);
    let keys = ["rig:one", "rig:two", "other:a", "other:b"].map(|id| {
        let (provider, name) = id.split_once(':').unwrap();
        format!(r#""{id}":{{"type":"api_key","provider":"{provider}","key":"sk-{name}"}}"#)
    });
    let store = format!(r#"{{"version":1,"profiles":{{{}}}}}"#, keys.join(","));
    world.put("agents/main/agent/auth-profiles.json", &store);
    let post = |gateway: &tokensink_gateway::Running, path: &str, session: &str, body: &str| {
        let head = format!(
            "x-tokensink-session: {session}\r\ncontent-length: {}\r\n",
            body.len()
        );
        client(gateway).request("POST", path, &head).write(body).answer()
    };
    let gateway = world.gateway();
    assert_eq!(by(&post(&gateway, "/other/responses", "s", CHAT)).0, 200);
    let next = r#"{"model":"small","previous_response_id":"resp_1"}"#;
    for session in ["s", "t"] {
        let answer = post(&gateway, "/rig/responses", session, next);
        assert_eq!(error(&answer.body)["code"], "continuity_break", "{session}");
    }
    // Nor after a restart, by what is known of the session then.
    let gateway = world.gateway();
    let answer = post(&gateway, "/rig/responses", "s", next);
    assert_eq!(error(&answer.body)["code"], "continuity_break");
    for seen in world.upstream.seen() {
        assert!(seen.path.starts_with("/other/"), "{seen:?}");
    }
    assert_eq!(by(&post(&gateway, "/other/responses", "s", next)).0, 200);
}

#[test]
fn a_profile_that_is_named_is_the_only_one() {
    let world = but_for_one(|_, talk| talk.answer(429, &[("retry-after", "60")], LIMIT));
    let gateway = world.gateway_with(Bounds {
        lease_wait: Duration::ZERO,
        ..Bounds::default()
    });
    let named = r#"{"model":"rig/small@rig:one","messages":[]}"#;
    let answer = client(&gateway).post("/v1/chat/completions", named).answer();
    assert_eq!((by(&answer), answer.text()), ((429, "rig:one"), LIMIT));
    let sent = world.upstream.seen().remove(0);
    assert_eq!(
        sent.body,
        CHAT.as_bytes(),
        "the model is named as its provider does"
    );
    assert_eq!(sent.path, "/base/chat/completions");
}

#[test]
fn an_error_inside_a_stream_benches_and_changes_nothing_else() {
    let stream = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n\
                  event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow down\"}}\n\n";
    let world = but_for_one(move |_, talk| {
        talk.begin_events();
        talk.chunk(stream);
        talk.end();
    });
    let gateway = world.gateway();
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(
        (answer.status, answer.text(), answer.complete),
        (200, stream, true)
    );
    eventually("the second account", || {
        by(&client(&gateway).post("/v1/chat/completions", CHAT).answer()).1 == "rig:two"
    });
}

/// The head of a stream says that the account serves; that it has not failed again is known at the end. Some clients leave
/// as soon as the last event has come.
#[test]
fn failures_are_forgotten_at_the_end_of_a_stream() {
    failures_until_the_end_of_a_stream("");
    failures_until_the_end_of_a_stream("data: [DONE]\n\n");
}

fn failures_until_the_end_of_a_stream(last: &'static str) {
    let (told, heard) = std::sync::mpsc::channel::<()>();
    let heard = Mutex::new(heard);
    let limited = AtomicBool::new(true);
    let world = World::new(&["one"], move |_, talk| {
        if limited.swap(false, Ordering::SeqCst) {
            return talk.answer(429, &[("retry-after", "1")], LIMIT);
        }
        talk.begin_events();
        talk.chunk("data: {}\n\n");
        let heard = heard.lock().unwrap();
        heard.recv_timeout(Duration::from_secs(10)).unwrap();
        if last.is_empty() {
            return talk.end();
        }
        talk.chunk(last);
        assert!(talk.left_within(Duration::from_secs(10)).is_some());
    });
    let failures = || {
        let state = std::fs::read_to_string(world.state_dir().join("agents/main/agent/auth-state.json"));
        let state: Value = serde_json::from_str(&state.unwrap()).unwrap();
        state["usageStats"]["rig:one"]["errorCount"].as_u64().unwrap_or(0)
    };
    let gateway = world.gateway();
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!((answer.status, failures()), (429, 1));
    let mut streaming = client(&gateway);
    eventually("the end of its window", || {
        streaming = client(&gateway);
        let head = streaming.post("/v1/chat/completions", CHAT).head().unwrap();
        head.status == 200
    });
    assert_eq!(streaming.chunk().unwrap(), b"data: {}\n\n");
    assert_eq!(failures(), 1);
    told.send(()).unwrap();
    assert_eq!(streaming.chunk().unwrap(), last.as_bytes());
    drop(streaming);
    eventually("the end of the stream", || failures() == 0);
}

#[test]
fn a_list_of_models_says_nothing_of_money() {
    const HALF_AN_HOUR: i64 = 30 * 60 + 1;
    let world = World::new(&["one"], |seen, talk| {
        if seen.method == "GET" {
            talk.json(200, "{}");
        } else {
            talk.json(402, r#"{"error":{"message":"insufficient credits"}}"#);
        }
    });
    let now = world.gateway();
    let benches = |sink: &Sink| {
        let status = sink.status(&AgentId::main()).unwrap();
        let until = |bench: &Benched| (bench.reason.clone(), bench.until, bench.testing);
        status.profiles[0].benches.iter().map(until).collect::<Vec<_>>()
    };
    let answer = client(&now).post("/v1/chat/completions", CHAT).answer();
    let begun = benches(&world.sink());
    assert_eq!((answer.status, begun.len()), (402, 1));
    // At its half-open point anything may test it; what costs nothing leaves it as it was.
    let sink = world.sink_at(HALF_AN_HOUR);
    let later = World::gateway_on(sink.clone(), Bounds::default());
    let answer = client(&later).request("GET", "/rig/models", "").answer();
    assert_eq!(by(&answer), (200, "rig:one"));
    eventually("the test given back", || benches(&sink) == begun);
    let answer = client(&later).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(answer.status, 402, "tested again");
    assert_eq!(calls_of(&world, "sk-one"), 3);
}

#[test]
fn limits_told_inside_a_stream_are_kept_for_their_account() {
    let stream = "event: codex.rate_limits\ndata: {\"type\":\"codex.rate_limits\",\"rate_limits\":{\"primary\":\
                  {\"used_percent\":42.0,\"window_minutes\":300,\"reset_at\":4102444800}}}\n\n";
    let world = World::new(&["one"], move |_, talk| {
        talk.begin_events();
        talk.chunk(stream);
        talk.end();
    });
    let sink = world.sink();
    let gateway = World::gateway_on(sink.clone(), Bounds::default());
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!((answer.status, answer.text()), (200, stream));
    eventually("the reading", || {
        let known = sink.quota(&tokensink_sink::AgentId::main()).unwrap();
        let mut readings = known.values().flatten();
        readings.any(|reading| (reading.used - 0.42).abs() < 1e-9)
    });
}

#[test]
fn a_token_that_is_refused_is_refreshed_once_for_everybody() {
    let random = Arc::new(OsRandom);
    let clock = Arc::new(SystemClock::from_env(&MapEnvironment::default()));
    let server = Running::start(ServerConfig::default(), clock, random).unwrap();
    let issued = server.issue("alice", &["openid", "offline_access"]).unwrap();
    let old = issued.access_token.expose().to_owned();
    let (stale, live) = (old.clone(), AtomicBool::new(true));
    let world = World::new(&[], move |seen, talk| {
        if seen.path.ends_with("end") {
            live.store(false, Ordering::SeqCst);
        }
        if seen.bearer() == stale && !live.load(Ordering::SeqCst) {
            talk.json(401, r#"{"error":{"message":"invalid token"}}"#);
        } else {
            talk.json(200, "{}");
        }
    });
    world.login(&server.provider_toml("rig"), "rig:alice", &issued);
    let gateway = world.gateway();
    let answer = client(&gateway).post("/rig/x", "{}").answer();
    assert_eq!(by(&answer), (200, "rig:alice"));
    assert_eq!(calls_of(&world, &old), 1);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let answer = client(&gateway).post("/rig/end", "{}").answer();
                assert_eq!(by(&answer), (200, "rig:alice"), "{}", answer.text());
            });
        }
    });
    assert_eq!((server.ledger().refreshes, server.ledger().reuses), (1, 0));
}

/// A refresh takes a moment and costs nothing, unlike the session's move to another account.
#[test]
fn a_token_that_is_just_being_refreshed_is_waited_for_though_there_is_another_account() {
    let random = Arc::new(OsRandom);
    let clock = Arc::new(SystemClock::from_env(&MapEnvironment::default()));
    let server = Running::start(ServerConfig::default(), clock, random).unwrap();
    let issue = |account| server.issue(account, &["openid", "offline_access"]).unwrap();
    let (mut alice, bob) = (issue("alice"), issue("bob"));
    alice.expires_at.0 -= 7_200_000;
    let world = World::new(&[], served);
    world.logins(
        &server.provider_toml("rig"),
        &[("rig:alice", &alice), ("rig:bob", &bob)],
    );
    world.put(
        "agents/main/agent/auth-state.json",
        r#"{"version":1,"order":{"rig":["rig:alice","rig:bob"]}}"#,
    );
    let gateway = world.gateway();
    server.faults().push(Fault::on_refresh(FaultAction::Hold));
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| client(&gateway).post("/rig/x", "{}").answer()))
            .collect();
        assert!(server.faults().wait_until_held(1, Duration::from_secs(10)));
        server.faults().release();
        for asked in asking {
            assert_eq!(by(&asked.join().unwrap()), (200, "rig:alice"));
        }
    });
    assert_eq!(
        (
            calls_of(&world, bob.access_token.expose()),
            server.ledger().refreshes
        ),
        (0, 1)
    );
}

/// Each lease that waits for a refresh takes a thread and room for one. Who leaves takes neither any longer, and the
/// refresh goes on.
#[test]
fn who_leaves_waits_for_no_account() {
    let random = Arc::new(OsRandom);
    let clock = Arc::new(SystemClock::from_env(&MapEnvironment::default()));
    let server = Running::start(ServerConfig::default(), clock, random).unwrap();
    let issued = server.issue("alice", &["openid", "offline_access"]).unwrap();
    let world = World::new(&[], served);
    world.login(&server.provider_toml("rig"), "rig:alice", &issued);
    let gateway = world.gateway_with(Bounds {
        leases: 1,
        queue_time: Duration::from_secs(10),
        ..Bounds::default()
    });
    server.faults().push(Fault::on_refresh(FaultAction::Hold));
    let mut waiting = client(&gateway);
    let wish = r#"{"provider":"rig","min_ttl":86000,"deadline":600}"#;
    waiting.post("/tokensink/v1/lease", wish);
    assert!(server.faults().wait_until_held(1, Duration::from_secs(10)));
    drop(waiting);
    let any = r#"{"provider":"rig"}"#;
    let next = client(&gateway).post("/tokensink/v1/lease", any).answer();
    assert_eq!(next.status, 200, "{}", next.text());
    server.faults().release();
}

#[test]
fn no_client_sees_a_failure_that_the_second_account_could_have_served() {
    let count = AtomicUsize::new(0);
    let world = but_for_one(
        move |seen, talk| match count.fetch_add(1, Ordering::SeqCst) % 20 {
            7 => talk.answer(429, &[("retry-after", "1")], LIMIT),
            13 => talk.answer(503, &[], "{}"),
            _ => served(seen, talk),
        },
    );
    let gateway = world.gateway();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut client = client(&gateway);
                while began.elapsed() < Duration::from_millis(2500) {
                    let answer = client.post("/v1/chat/completions", CHAT).answer();
                    assert_eq!((answer.status, answer.complete), (200, true), "{}", answer.text());
                }
            });
        }
    });
    let ones = calls_of(&world, "sk-one");
    assert!(
        ones > 20,
        "the first account is used again between its failures: {ones}"
    );
}

#[test]
fn eight_gateways_on_one_state_dir_learn_of_one_limit() {
    let world = but_for_one(|_, talk| talk.answer(429, &[("retry-after", "600")], LIMIT));
    let gateways: Vec<_> = (0..8).map(|_| world.gateway()).collect();
    let first = client(&gateways[0]).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(by(&first), (200, "rig:two"));
    std::thread::scope(|scope| {
        for gateway in &gateways {
            scope.spawn(move || {
                let mut client = client(gateway);
                for _ in 0..10 {
                    let answer = client.post("/v1/chat/completions", CHAT).answer();
                    assert_eq!(by(&answer), (200, "rig:two"));
                }
            });
        }
    });
    let calls = calls_of(&world, "sk-one");
    assert!(calls <= 2, "{calls} calls of the account that is at its limit");
}
