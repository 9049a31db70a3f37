//! Who is next after a failure: tests of benches, waiting, money, new secrets, and what is known of limits.

use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use tokensink_authserver::{Fault, FaultAction};
use tokensink_sink::{
    AcquireRequest, AgentId, CallOutcome, Cancel, ErrorKind, Lease, ProfileId, Proof, Reason, Sink,
    UnixMillis, Want,
};

use crate::calls::{A, B, LIMITED, NO_MONEY, asking, fail, later, of, served, stats, take, two_keys, whole};
use crate::world::{self, HOUR, STATE, World};

/// Five minutes are believed without a test.
const HALF_OPEN: u64 = 300;

#[test]
fn at_the_half_open_point_one_request_of_all_processes_tests() {
    let world = two_keys();
    let sinks = [world.sink(), world.sink()];
    let begun = world.now();
    fail(
        &sinks[0],
        &of(&sinks[0], A, Some("m")),
        429,
        Some("36000"),
        LIMITED,
    );
    later(&world, HALF_OPEN - 1);
    assert_eq!(take(&sinks[1], Some("m")).profile.as_str(), B);
    later(&world, 1);
    world.test.clock.be_patient();
    assert!(
        sinks[1].acquire_ready(&asking(Some("m"))).unwrap().is_none(),
        "a claim is written, which is nothing for an event loop"
    );
    let leases: Vec<Lease> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|n| {
                let sink = &sinks[n % 2];
                scope.spawn(move || take(sink, Some("m")))
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let testing: Vec<&Lease> = leases
        .iter()
        .filter(|lease| lease.profile.as_str() == A)
        .collect();
    assert!(testing.len() == 1 && testing[0].tests, "{testing:?}");
    assert!(
        leases
            .iter()
            .all(|lease| lease.tests == (lease.profile.as_str() == A))
    );
    // Given up: the next request tests. Failed again: the window stays, and the next test comes later.
    sinks[0].report(testing[0], &CallOutcome::Abandoned).unwrap();
    let second = take(&sinks[1], Some("m"));
    assert!(second.tests);
    let still = fail(&sinks[1], &second, 429, None, LIMITED).bench.unwrap();
    assert_eq!(still.until, begun.plus(Duration::from_secs(36000)));
    later(&world, HALF_OPEN - 1);
    assert_eq!(take(&sinks[0], Some("m")).profile.as_str(), B);
    later(&world, 1);
    let third = take(&sinks[0], Some("m"));
    assert!(third.tests);
    served(&sinks[0], &third);
    for sink in &sinks {
        let lease = take(sink, Some("m"));
        assert!(lease.profile.as_str() == A && !lease.tests);
    }
    // One that nobody reports on counts as given up after a minute.
    fail(
        &sinks[0],
        &of(&sinks[0], A, Some("m")),
        429,
        Some("36000"),
        LIMITED,
    );
    later(&world, HALF_OPEN);
    assert!(take(&sinks[0], Some("m")).tests);
    later(&world, 59);
    assert_eq!(take(&sinks[1], Some("m")).profile.as_str(), B);
    later(&world, 1);
    assert!(take(&sinks[1], Some("m")).tests);
}

#[test]
fn a_test_that_is_said_to_go_on_stays_the_only_one() {
    let world = two_keys();
    let sinks = [world.sink(), world.sink()];
    let first = of(&sinks[0], A, Some("m"));
    fail(&sinks[0], &first, 429, Some("36000"), LIMITED);
    later(&world, HALF_OPEN);
    let test = take(&sinks[0], Some("m"));
    assert!(test.tests);
    for _ in 0..4 {
        later(&world, 50);
        sinks[0].still_tests(&test);
        assert_eq!(take(&sinks[1], Some("m")).profile.as_str(), B);
    }
    // What comes of it counts, however long it took, and nothing is tested any more.
    served(&sinks[0], &test);
    assert_eq!(take(&sinks[1], Some("m")).profile.as_str(), A);
    sinks[0].still_tests(&test);
    assert!(!take(&sinks[1], Some("m")).tests);
    // One that is no longer said to go on is given up; saying so late takes nothing from whoever tests then.
    fail(&sinks[0], &first, 429, Some("36000"), LIMITED);
    later(&world, HALF_OPEN);
    let late = take(&sinks[0], Some("m"));
    later(&world, 60);
    let now = take(&sinks[1], Some("m"));
    assert!(late.tests && now.tests);
    later(&world, 30);
    sinks[0].still_tests(&late);
    later(&world, 30);
    assert!(
        take(&sinks[0], Some("m")).tests,
        "a minute after the last word of `now`"
    );
}

#[test]
fn all_benched_is_told_with_profile_reason_and_time_or_waited_for() {
    let world = two_keys();
    let sink = world.sink();
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("90"), LIMITED);
    fail(&sink, &of(&sink, B, Some("m")), 429, Some("40"), LIMITED);
    let until = world.now().plus(Duration::from_secs(40));
    let error = sink.acquire(&asking(Some("m"))).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::TryAgain, "all_benched"));
    assert_eq!(
        (error.retry_at(), error.profile().unwrap().as_str()),
        (Some(until), B)
    );
    assert!(error.to_string().contains("rate_limit"), "{error}");
    let told = sink
        .order_get(&AgentId::main(), "rig")
        .unwrap()
        .unavailable
        .unwrap();
    assert!(told.contains(B) && told.contains("rate_limit"), "{told}");
    let patient = |seconds| AcquireRequest {
        wait: Duration::from_secs(seconds),
        ..asking(Some("m"))
    };
    let before = world.now();
    assert!(sink.acquire(&patient(39)).is_err());
    assert_eq!(world.now(), before, "nobody waits for what does not come in time");
    assert!(sink.acquire_ready(&patient(60)).unwrap().is_none());
    let lease = sink.acquire(&patient(60)).unwrap();
    assert_eq!((lease.profile.as_str(), world.now()), (B, until));
}

#[test]
fn what_was_tried_is_not_tried_again_and_nothing_costlier_without_leave() {
    let world = two_keys();
    let settings = format!("{STATE}/tokensink/config.toml");
    let classes =
        "[profiles.\"rig:a\"]\nbilling = \"subscription\"\n[profiles.\"rig:b\"]\nbilling = \"metered\"\n";
    world.test.files.put(&settings, classes, 0o600);
    let sink = world.sink();
    let tried = AcquireRequest {
        tried: vec![ProfileId::parse(A).unwrap()],
        ..asking(Some("m"))
    };
    let error = sink.acquire(&tried).unwrap_err();
    assert_eq!(error.code(), "too_costly", "{error}");
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("60"), LIMITED);
    let error = sink.acquire(&asking(Some("m"))).unwrap_err();
    let free_at = world.now().plus(Duration::from_secs(60));
    assert_eq!((error.code(), error.kind()), ("too_costly", ErrorKind::TryAgain));
    assert_eq!(error.retry_at(), Some(free_at));
    // The user's word.
    let allowed = format!("{classes}[billing]\nallow = [\"subscription -> metered\"]\n");
    world.test.files.put(&settings, allowed, 0o600);
    let sink = world.sink();
    let ready = asking(Some("m"));
    assert!(
        sink.acquire_ready(&ready).unwrap().is_none(),
        "a crossing is written down"
    );
    for request in [&tried, &ready] {
        let lease = sink.acquire(request).unwrap();
        assert_eq!(lease.profile.as_str(), B);
        assert!(lease.note.unwrap().contains("metered"));
    }
    assert!(sink.acquire_ready(&ready).unwrap().is_some(), "once in a while");
    let trail = world.test.files.text(format!("{STATE}/tokensink/audit.jsonl"));
    let crossings = trail
        .matches(r#""event":"crossing","agent":"main","profile":"rig:b","detail":"subscription -> metered"#);
    assert_eq!(crossings.count(), 1, "{trail}");
    let denied = format!("{classes}[[deny]]\nid = \"no-a\"\nprofile = \"rig:a\"\n");
    world.test.files.put(&settings, denied, 0o600);
    let by_id = AcquireRequest {
        want: Want::Profile(ProfileId::parse(A).unwrap()),
        ..asking(None)
    };
    let error = world.sink().acquire(&by_id).unwrap_err();
    assert!(
        error.code() == "denied" && error.to_string().contains("no-a"),
        "{error}"
    );
}

#[test]
fn a_new_secret_begins_anew() {
    let world = two_keys();
    let sink = world.sink();
    let bench = || {
        fail(&sink, &of(&sink, A, None), 402, None, NO_MONEY);
        assert_eq!(take(&sink, None).profile.as_str(), B);
    };
    let key = |text: &str| json!({"type": "api_key", "provider": "rig", "key": text});
    bench();
    let slow = of(&sink, A, None);
    world.put_store("main", &json!({ A: key("sk-new"), B: key("sk-bbbb") }));
    assert_eq!(
        take(&sink, None).profile.as_str(),
        A,
        "another program has changed the key"
    );
    assert_eq!(
        fail(&sink, &slow, 402, None, NO_MONEY).bench,
        None,
        "a call with the old one"
    );
    assert_eq!(take(&sink, None).profile.as_str(), A);
    later(&world, 1);
    bench();
    let report = sink
        .retry(&AgentId::main(), &ProfileId::parse(A).unwrap())
        .unwrap();
    assert!(
        report.cleared.iter().any(|text| text.contains("billing")),
        "{:?}",
        report.cleared
    );
    assert_eq!(take(&world.sink(), None).profile.as_str(), A);
    assert_eq!(stats(&world, A)["disabledUntil"], Value::Null);
}

/// Another program logs in under the same id: with another account all is new, with the same one the limit is the same.
#[test]
fn another_accounts_login_begins_anew() {
    let world = two_keys();
    let sink = world.sink();
    let key = json!({"type": "api_key", "provider": "rig", "key": "sk-bbbb"});
    let put = |login: &Value| world.put_store("main", &json!({A: login, B: key}));
    put(&world.grant_entry("alice"));
    let slow = of(&sink, A, None);
    let limit = |lease: &Lease| fail(&sink, lease, 429, Some("3600"), LIMITED).bench;
    assert!(limit(&of(&sink, A, None)).is_some());
    let serves = || take(&sink, None).profile.as_str().to_owned();
    assert_eq!(serves(), B);
    later(&world, 1);
    put(&world.grant_entry("alice"));
    assert_eq!(serves(), B, "the same account");
    put(&world.grant_entry("bob"));
    assert_eq!(serves(), A);
    assert_eq!(limit(&slow), None, "a call with the one before");
    assert_eq!(serves(), A);
    assert_eq!(take(&world.sink(), None).profile.as_str(), A);
}

#[test]
fn a_refresh_ends_what_was_said_of_the_old_token_and_nothing_else() {
    let world = World::logged_in(world::strict());
    let sink = world.sink();
    let refused: &[u8] = br#"{"error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
    let lease = of(&sink, world::PROFILE, Some("m"));
    let reported = fail(&sink, &lease, 401, None, refused);
    assert_eq!(reported.class.unwrap().reason, Reason::Auth);
    fail(
        &sink,
        &of(&sink, world::PROFILE, Some("m")),
        429,
        Some("7200"),
        LIMITED,
    );
    assert!(
        sink.acquire(&asking(Some("n"))).is_err(),
        "the account is benched"
    );
    later(&world, 31);
    fail(&sink, &of(&sink, world::PROFILE, Some("m")), 401, None, refused);
    assert!(sink.acquire(&asking(Some("n"))).is_err());
    let rejecting = AcquireRequest {
        rejected: Some(lease.secret.clone()),
        want: Want::Profile(lease.profile.clone()),
        ..AcquireRequest::new(AgentId::main(), Want::Profile(lease.profile.clone()))
    };
    let fresh = sink.acquire(&rejecting).unwrap();
    assert_ne!(fresh.secret, lease.secret);
    assert!(sink.acquire(&asking(Some("n"))).is_ok());
    assert_eq!(
        sink.acquire(&asking(Some("m"))).unwrap_err().code(),
        "all_benched"
    );
}

/// What a provider says of a plan's limit.
fn used(share: &str, reset: UnixMillis) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("anthropic-ratelimit-unified-5h-utilization", share.to_owned()),
        (
            "anthropic-ratelimit-unified-5h-reset",
            (reset.0 / 1000).to_string(),
        ),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}

/// What this process knows to be used of all limits.
fn shares(sink: &Sink) -> Vec<f64> {
    let known = sink.quota(&AgentId::main()).unwrap();
    known.values().flatten().map(|reading| reading.used).collect()
}

/// A server that fails and says when to come back is left alone until then; one that does not say is nobody's fault.
#[test]
fn a_server_error_with_a_wait_benches_for_so_long() {
    let world = two_keys();
    let sink = world.sink();
    let lease = of(&sink, A, Some("m"));
    assert_eq!(fail(&sink, &lease, 503, None, b"Service Unavailable").bench, None);
    let reported = fail(&sink, &lease, 503, Some("90"), b"Service Unavailable");
    assert_eq!(reported.class.unwrap().rule, "server-named-wait");
    let until = world.now().plus(Duration::from_secs(90));
    assert_eq!(reported.bench.unwrap().until, until);
    assert_eq!(take(&sink, Some("m")).profile.as_str(), B);
    assert_eq!(take(&sink, Some("n")).profile.as_str(), A);
}

/// An error event may follow the head of a stream: that ends the bench, and its failures count until the end has come.
#[test]
fn a_stream_that_fails_after_its_head_is_no_success() {
    let world = two_keys();
    let sink = world.sink();
    let headers = HeaderMap::new();
    let stream = |ends: &CallOutcome<'_>| {
        let lease = of(&sink, A, Some("m"));
        let begun = CallOutcome::Served {
            headers: &headers,
            proof: Proof::Begun,
        };
        sink.report(&lease, &begun).unwrap();
        assert_eq!(take(&sink, Some("m")).profile.as_str(), A, "it serves now");
        let bench = sink.report(&lease, ends).unwrap().bench;
        bench.map(|bench| world.now().until(bench.until).as_secs())
    };
    let overloaded = CallOutcome::Failed {
        status: None,
        headers: &headers,
        body: br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    };
    for step in [30, 60, 300, 300] {
        assert_eq!(stream(&overloaded), Some(step));
        later(&world, step - 1);
    }
    assert_eq!(stream(&CallOutcome::Finished), None);
    assert_eq!(stream(&overloaded), Some(30), "forgiven");
}

/// That a list of models is given shows that the key is taken, and not that there is money.
#[test]
fn a_call_that_costs_nothing_ends_no_want_of_money() {
    let world = two_keys();
    let sink = world.sink();
    let headers = HeaderMap::new();
    let free = CallOutcome::Served {
        headers: &headers,
        proof: Proof::Free,
    };
    let left = |at: UnixMillis| world.now().until(at).as_secs() / 3600;
    let broke = |sink: &Sink| {
        fail(sink, &of(sink, A, Some("m")), 402, None, NO_MONEY)
            .bench
            .unwrap()
    };
    assert_eq!(left(broke(&sink).until), 5);
    later(&world, 1800);
    let test = take(&sink, None);
    assert_eq!((test.profile.as_str(), test.tests), (A, true));
    sink.report(&test, &free).unwrap();
    assert!(take(&sink, None).tests, "the next one may test it again");
    assert_eq!(take(&world.sink(), Some("m")).profile.as_str(), B);
    later(&world, 5 * 3600);
    assert_eq!(left(broke(&sink).until), 10, "twice in a row");
    // What does cost something ends it, and what costs nothing shows that a key is taken again.
    later(&world, 1800);
    let test = take(&sink, Some("m"));
    assert!(test.tests);
    sink.report(&test, &whole(&headers)).unwrap();
    fail(
        &sink,
        &of(&sink, A, Some("m")),
        401,
        None,
        br#"{"error":"invalid api key"}"#,
    );
    assert_eq!(take(&sink, Some("m")).profile.as_str(), B);
    later(&world, 1);
    sink.report(&of(&sink, A, None), &free).unwrap();
    assert_eq!(take(&sink, Some("m")).profile.as_str(), A);
}

/// What is left of a plan says something about a window of the plan that was full, and nothing about another limit.
#[test]
fn an_answer_for_another_model_ends_a_limit_of_the_plan_only() {
    let world = two_keys();
    let sink = world.sink();
    let reset = world.now().plus(HOUR);
    let limit = |headers: &HeaderMap| {
        let outcome = CallOutcome::Failed {
            status: Some(429),
            headers,
            body: LIMITED,
        };
        sink.report(&of(&sink, A, Some("large")), &outcome).unwrap();
        later(&world, 1);
    };
    let serve = |headers: &HeaderMap| {
        let lease = of(&sink, A, Some("small"));
        sink.report(&lease, &whole(headers)).unwrap();
        later(&world, 1);
    };
    let served_by = |sink: &Sink| take(sink, Some("large")).profile.as_str().to_owned();
    let mut by_the_minute = used("0.30", reset);
    by_the_minute.insert("retry-after", "60".parse().unwrap());
    limit(&by_the_minute);
    serve(&used("0.31", reset));
    assert_eq!(served_by(&sink), B, "the wait that was named holds");
    later(&world, 60);
    // A window that the next answer does not speak of may still be full; one that has room is not.
    let mut of_large = used("0.31", reset);
    let claim = [("status", "rejected"), ("representative-claim", "seven_day_opus")];
    for (name, value) in claim {
        let name = format!("anthropic-ratelimit-unified-{name}");
        let name = http::HeaderName::try_from(name).unwrap();
        of_large.insert(name, value.parse().unwrap());
    }
    of_large.insert("retry-after", "3600".parse().unwrap());
    limit(&of_large);
    serve(&used("0.32", reset));
    assert_eq!(served_by(&sink), B);
    assert_eq!(served_by(&world.sink()), B);
    let mut again = used("0.33", reset);
    let name = http::HeaderName::from_static("anthropic-ratelimit-unified-7d_opus-utilization");
    again.insert(name, "0.10".parse().unwrap());
    serve(&again);
    assert_eq!(served_by(&sink), A, "it was reset early");
    assert_eq!(served_by(&world.sink()), A);
}

/// Every answer counts, also one that is not reported, and also the last before a pause.
#[test]
fn the_last_word_on_a_limit_reaches_other_processes() {
    let world = two_keys();
    let sink = world.sink();
    let reset = world.now().plus(HOUR);
    let lease = of(&sink, A, Some("m"));
    for said in ["0.20", "0.25"] {
        let headers = used(said, reset);
        sink.report(&lease, &whole(&headers)).unwrap();
    }
    assert_eq!(shares(&world.sink()), [0.25], "nobody would write it later");
    let recording = sink.record_decisions().unwrap();
    later(&world, 1);
    sink.note_limit_headers(&lease, &used("0.75", reset));
    assert_eq!(shares(&sink), [0.75]);
    assert_eq!(
        shares(&world.sink()),
        [0.25],
        "the file is written every few seconds"
    );
    drop(recording);
    assert_eq!(shares(&world.sink()), [0.75]);
}

/// The rest of a report runs on a thread, which may be late.
#[test]
fn a_late_report_does_not_undo_what_a_later_answer_said() {
    let world = two_keys();
    let sink = world.sink();
    let reset = world.now().plus(HOUR);
    let lease = of(&sink, A, Some("m"));
    let first = used("0.25", reset);
    let outcome = whole(&first);
    sink.note_limit_headers(&lease, &first);
    assert_eq!(
        sink.report_ready(&lease, &outcome).unwrap(),
        None,
        "its use is to be written"
    );
    sink.note_limit_headers(&lease, &used("0.75", reset));
    sink.report_rest(&lease, &outcome).unwrap();
    // Nor does an error event in the first answer, which has the headers of its head.
    let event = CallOutcome::Failed {
        status: None,
        headers: &first,
        body: b"{}",
    };
    sink.report(&lease, &event).unwrap();
    assert_eq!(shares(&sink), [0.75]);
}

#[test]
fn limits_are_kept_per_login_with_source_and_age() {
    let world = two_keys();
    let (sink, agent) = (world.sink(), AgentId::main());
    assert!(sink.quota(&agent).unwrap().is_empty());
    let reset = world.now().plus(HOUR);
    let headers = used("0.25", reset);
    let lease = of(&sink, A, Some("m"));
    sink.report(&lease, &whole(&headers)).unwrap();
    let a = ProfileId::parse(A).unwrap();
    for sink in [&sink, &world.sink()] {
        let known = sink.quota(&agent).unwrap();
        assert_eq!(known.keys().collect::<Vec<_>>(), [&a]);
        let reading = &known[&a][0];
        assert_eq!((&*reading.window, reading.used), ("5h", 0.25));
        assert_eq!((reading.resets_at, reading.at), (Some(reset), world.now()));
    }
    // The number is of this key, and of the window that it was said of.
    let key = |text: &str| json!({"type": "api_key", "provider": "rig", "key": text});
    world.put_store("main", &json!({ A: key("sk-new"), B: key("sk-bbbb") }));
    assert!(sink.quota(&agent).unwrap().is_empty());
    world.put_store("main", &json!({ A: key("sk-aaaa"), B: key("sk-bbbb") }));
    assert_eq!(sink.quota(&agent).unwrap().len(), 1);
    later(&world, 3600);
    assert!(sink.quota(&agent).unwrap().is_empty());
}

/// Nobody else can serve, so the first choice is waited for: it is still the one request that tests its bench.
#[test]
fn a_test_that_has_to_wait_for_a_refresh_is_still_a_test() {
    let world = World::new(world::strict());
    world.put_store(
        "main",
        &json!({ A: world.grant_entry("alice"), B: world.grant_entry("bob") }),
    );
    let config = json!({"auth": {"order": {"rig": [A, B]}}}).to_string();
    world
        .test
        .files
        .put(format!("{STATE}/openclaw.json"), config, 0o600);
    let sink = world.sink();
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("36000"), LIMITED);
    // The bench is half-open by now, and both tokens have ended.
    later(&world, 2 * HOUR.as_secs());
    for _ in [A, B] {
        world.push(Fault::on_refresh(FaultAction::RetryAfter {
            seconds: 20,
            status: 429,
        }));
    }
    let patient = AcquireRequest {
        wait: Duration::from_secs(60),
        ..asking(Some("m"))
    };
    let lease = sink.acquire(&patient).unwrap();
    assert_eq!((lease.profile.as_str(), lease.tests), (A, true));
    // And nobody else does so meanwhile.
    assert_eq!(world.sink().acquire(&patient).unwrap().profile.as_str(), B);
    served(&sink, &lease);
    assert!(!take(&sink, Some("m")).tests);
}

#[test]
fn who_gives_up_waits_no_longer() {
    let world = two_keys();
    let sink = world.sink();
    for id in [A, B] {
        fail(&sink, &of(&sink, id, Some("m")), 429, Some("40"), LIMITED);
    }
    let patient = |cancel: &Cancel| AcquireRequest {
        wait: Duration::from_secs(60),
        cancel: Some(cancel.clone()),
        ..asking(Some("m"))
    };
    let (before, cancel) = (world.now(), Cancel::default());
    cancel.set();
    assert_eq!(sink.acquire(&patient(&cancel)).unwrap_err().code(), "all_benched");
    assert_eq!(world.now(), before);
    assert!(sink.acquire(&patient(&Cancel::default())).is_ok());
}
