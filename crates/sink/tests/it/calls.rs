//! What becomes of a call, and what follows from it for the next one, in this process and in others.

use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};
use tokensink_sink::{
    AcquireRequest, AgentId, Bucket, CallOutcome, Lease, ProfileId, Proof, Reason, Reported, Sink,
    UnixMillis, Want,
};

use tokensink_testkit::{Errno, Faults};

use crate::world::{self, STATE, World, every_point};

pub(crate) const A: &str = "rig:a";
pub(crate) const B: &str = "rig:b";
pub(crate) const LIMITED: &[u8] = br#"{"error":{"type":"rate_limit_error","message":"slow down"}}"#;
pub(crate) const NO_MONEY: &[u8] =
    br#"{"error":{"message":"Your credit balance is too low to access the API"}}"#;

/// Two keys of one provider, to be used in this order.
pub(crate) fn two_keys() -> World {
    let world = World::new(world::strict());
    let key = |key: &str| json!({"type": "api_key", "provider": "rig", "key": key});
    world.put_store("main", &json!({ A: key("sk-aaaa"), B: key("sk-bbbb") }));
    let config = json!({"auth": {"order": {"rig": [A, B]}}}).to_string();
    world
        .test
        .files
        .put(format!("{STATE}/openclaw.json"), config, 0o600);
    world
}

pub(crate) fn asking(model: Option<&str>) -> AcquireRequest {
    AcquireRequest {
        model: model.map(str::to_owned),
        wait: Duration::ZERO,
        ..world::request()
    }
}

pub(crate) fn take(sink: &Sink, model: Option<&str>) -> Lease {
    sink.acquire(&asking(model)).unwrap()
}

/// The leases of one profile and no other, benched or not.
pub(crate) fn of(sink: &Sink, id: &str, model: Option<&str>) -> Lease {
    let request = AcquireRequest {
        want: Want::Profile(ProfileId::parse(id).unwrap()),
        ..asking(model)
    };
    sink.acquire(&request).unwrap()
}

pub(crate) fn fail(
    sink: &Sink,
    lease: &Lease,
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
) -> Reported {
    let mut headers = HeaderMap::new();
    if let Some(text) = retry_after {
        headers.insert("retry-after", text.parse().unwrap());
    }
    let outcome = CallOutcome::Failed {
        status: Some(status),
        headers: &headers,
        body,
    };
    sink.report(lease, &outcome).unwrap()
}

/// A whole answer with these headers.
pub(crate) fn whole(headers: &HeaderMap) -> CallOutcome<'_> {
    CallOutcome::Served {
        headers,
        proof: Proof::Whole,
    }
}

pub(crate) fn served(sink: &Sink, lease: &Lease) {
    let headers = HeaderMap::new();
    let outcome = whole(&headers);
    assert_eq!(sink.report(lease, &outcome).unwrap(), Reported::default());
}

fn state_path() -> String {
    format!("{STATE}/agents/main/agent/auth-state.json")
}

pub(crate) fn benches_path() -> String {
    format!("{STATE}/tokensink/state/benches/main.json")
}

pub(crate) fn stats(world: &World, id: &str) -> Value {
    let snapshot = world.test.files.snapshot();
    let Some(bytes) = snapshot.get(std::path::Path::new(&state_path())) else {
        return Value::Null;
    };
    serde_json::from_slice::<Value>(bytes).unwrap()["usageStats"][id].clone()
}

fn put_stats(world: &World, id: &str, stats: &Value) {
    let text = json!({"version": 1, "usageStats": {id: stats}}).to_string();
    world.test.files.put(state_path(), text, 0o600);
}

/// Every file but the locks and what is kept for `explain`.
pub(crate) fn files(world: &World) -> Vec<(String, String)> {
    let all = world.test.files.snapshot().into_iter();
    let all = all.map(|(path, bytes)| {
        (
            path.display().to_string(),
            String::from_utf8_lossy(&bytes).into_owned(),
        )
    });
    let aside = ["/locks/", "/state/decisions/"];
    all.filter(|(path, _)| !aside.iter().any(|part| path.contains(part)))
        .collect()
}

pub(crate) fn later(world: &World, seconds: u64) {
    world.test.clock.advance(Duration::from_secs(seconds));
}

#[test]
fn a_limit_benches_for_as_long_as_the_server_says_in_every_process() {
    let world = two_keys();
    let (ours, theirs) = (world.sink(), world.sink());
    let lease = take(&ours, Some("m"));
    assert_eq!(lease.profile.as_str(), A);
    let begun = world.now();
    let reported = fail(&ours, &lease, 429, Some("120"), LIMITED);
    let until = begun.plus(Duration::from_secs(120));
    assert_eq!(reported.class.unwrap().reason, Reason::RateLimit);
    let bench = reported.bench.unwrap();
    assert_eq!(
        (bench.bucket, bench.until, bench.stated),
        (Bucket::Model("m".to_owned()), until, true)
    );
    // (model, who serves it)
    for (model, want) in [(Some("m"), B), (Some("other"), A)] {
        for sink in [&ours, &theirs] {
            assert_eq!(take(sink, model).profile.as_str(), want, "{model:?}");
        }
    }
    let shown = stats(&world, A);
    assert_eq!(
        (
            &shown["cooldownUntil"],
            &shown["cooldownReason"],
            &shown["cooldownModel"]
        ),
        (&json!(until.0), &json!("rate_limit"), &json!("m"))
    );
    assert_eq!(
        (&shown["errorCount"], &shown["lastFailureAt"]),
        (&json!(1), &json!(begun.0))
    );
    assert_eq!(shown["failureCounts"], json!({"rate_limit": 1}));
    // A failure inside the window moves nothing, and writes nothing.
    later(&world, 10);
    let before = files(&world);
    let again = fail(&theirs, &of(&theirs, A, Some("m")), 429, None, LIMITED);
    assert_eq!(again.bench.unwrap().until, until);
    assert_eq!(files(&world), before);
    later(&world, 110);
    assert_eq!(
        take(&theirs, Some("m")).profile.as_str(),
        A,
        "the window has ended by itself"
    );
}

#[test]
fn a_success_ends_what_it_disproves_and_notes_the_use_once_a_minute() {
    let world = two_keys();
    let sink = world.sink();
    for model in ["m", "n"] {
        fail(&sink, &of(&sink, A, Some(model)), 429, Some("500"), LIMITED);
    }
    let early = of(&sink, A, Some("m"));
    later(&world, 1);
    fail(&sink, &of(&sink, A, Some("m")), 402, None, NO_MONEY);
    served(&sink, &early);
    assert_eq!(
        take(&sink, Some("x")).profile.as_str(),
        B,
        "a call that began before the bench says nothing about it"
    );
    later(&world, 1);
    served(&world.sink(), &of(&sink, A, Some("m")));
    for (model, want) in [("m", A), ("n", B), ("x", A)] {
        assert_eq!(take(&sink, Some(model)).profile.as_str(), want, "{model}");
    }
    let shown = stats(&world, A);
    assert_eq!(
        (&shown["errorCount"], &shown["disabledUntil"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(
        (&shown["cooldownModel"], &shown["lastUsed"]),
        (&json!("n"), &json!(world.now().0))
    );
    let before = files(&world);
    later(&world, 30);
    served(&sink, &of(&sink, A, Some("m")));
    served(&world.sink(), &of(&sink, A, Some("m")));
    assert_eq!(files(&world), before, "once a minute, over all processes");
    later(&world, 31);
    served(&sink, &of(&sink, A, Some("m")));
    assert_eq!(stats(&world, A)["lastUsed"], json!(world.now().0));
}

#[test]
fn nobody_is_benched_for_the_network_the_request_or_an_answer_that_was_served() {
    let world = two_keys();
    let sink = world.sink();
    let before = files(&world);
    let headers = HeaderMap::new();
    let failed = |status, body| CallOutcome::Failed {
        status: Some(status),
        headers: &headers,
        body,
    };
    let cases = [
        CallOutcome::NotConnected {
            error: "refused: rate limit",
        },
        CallOutcome::TimedOut,
        CallOutcome::CutOff,
        CallOutcome::Abandoned,
        failed(200, LIMITED),
        failed(
            400,
            br#"{"error":{"message":"messages: at least one message is required"}}"#,
        ),
        failed(
            403,
            br#"{"error":{"message":"This credential is only authorized for use with Claude Code"}}"#,
        ),
    ];
    for outcome in cases {
        let lease = take(&sink, Some("m"));
        assert!(lease.profile.as_str() == A && !lease.tests, "{outcome:?}");
        assert_eq!(sink.report(&lease, &outcome).unwrap().bench, None, "{outcome:?}");
    }
    assert_eq!(files(&world), before);
}

#[test]
fn providers_that_spread_requests_themselves_are_never_benched() {
    let world = World::new(world::strict());
    let key = json!({"type": "api_key", "provider": "openrouter", "key": "sk-or"});
    world.put_store("main", &json!({ "openrouter:a": key }));
    let sink = world.sink();
    let reported = fail(&sink, &of(&sink, "openrouter:a", None), 402, None, NO_MONEY);
    assert_eq!(
        (reported.class.unwrap().reason, reported.bench),
        (Reason::Billing, None)
    );
    of(&sink, "openrouter:a", None);
    assert_eq!(stats(&world, "openrouter:a"), Value::Null);
}

#[test]
fn what_others_wrote_counts_and_what_they_cleared_has_ended() {
    let world = two_keys();
    let now = world.now().0;
    let (hour, theirs) = (now + 3_600_000, json!({"note": "kept"}));
    put_stats(
        &world,
        A,
        &json!({"cooldownUntil": hour, "cooldownReason": "overloaded", "future": theirs}),
    );
    let sink = world.sink();
    assert_eq!(take(&sink, Some("m")).profile.as_str(), B);
    // Our own shorter one stands beside it, and neither hides the other.
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("60"), LIMITED);
    let shown = stats(&world, A);
    assert_eq!(
        (&shown["cooldownUntil"], &shown["future"]),
        (&json!(hour), &theirs)
    );
    put_stats(&world, A, &json!({}));
    assert_eq!(take(&sink, Some("n")).profile.as_str(), A, "theirs was cleared");
    // A longer one of ours is shown; clearing it by hand ends ours, in every process.
    later(&world, 61);
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("600"), LIMITED);
    assert_eq!(stats(&world, A)["cooldownModel"], json!("m"));
    assert_eq!(take(&world.sink(), Some("m")).profile.as_str(), B);
    put_stats(&world, A, &json!({"lastUsed": now}));
    for sink in [&sink, &world.sink()] {
        assert_eq!(take(sink, Some("m")).profile.as_str(), A);
    }
}

#[test]
fn two_processes_lose_nothing_of_each_other() {
    let world = two_keys();
    // They wait for each other's lock.
    world.test.clock.be_patient();
    let sinks = [world.sink(), world.sink()];
    let models: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    std::thread::scope(|scope| {
        for (n, sink) in sinks.iter().enumerate() {
            let mine = models.iter().skip(n).step_by(2);
            scope.spawn(move || {
                for model in mine {
                    fail(sink, &of(sink, A, Some(model)), 429, Some("900"), LIMITED);
                }
            });
        }
    });
    let book: Value = serde_json::from_str(&world.test.files.text(benches_path())).unwrap();
    let benched = book["profiles"][A]["benches"].as_array().unwrap();
    let mut found: Vec<&str> = benched
        .iter()
        .map(|bench| bench["model"].as_str().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, models);
}

/// A program that writes it in two steps leaves half of it for a moment, which clears nothing.
#[test]
fn a_state_file_that_does_not_parse_ends_no_bench() {
    let world = two_keys();
    let sink = world.sink();
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("900"), LIMITED);
    let lease = of(&sink, A, Some("n"));
    let path = format!("{STATE}/agents/main/agent/auth-state.json");
    world.test.files.put(path, "{\"usa", 0o600);
    for sink in [&sink, &world.sink()] {
        assert_eq!(take(sink, Some("m")).profile.as_str(), B);
    }
    fail(&sink, &lease, 429, Some("900"), LIMITED);
    for model in ["m", "n"] {
        assert_eq!(take(&sink, Some(model)).profile.as_str(), B, "{model}");
    }
}

#[test]
fn without_a_place_to_write_benches_hold_in_memory() {
    let world = two_keys();
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let readonly = world.sink();
    world.test.env.unset("OPENCLAW_AUTH_STORE_READONLY");
    let before = files(&world);
    fail(&readonly, &of(&readonly, A, Some("m")), 429, Some("60"), LIMITED);
    assert_eq!(take(&readonly, Some("m")).profile.as_str(), B);
    assert_eq!(
        (files(&world), take(&world.sink(), Some("m")).profile.as_str()),
        (before.clone(), A)
    );
    // A disk that cannot be written now: others learn it as soon as it can.
    let sink = world.sink();
    world.test.files.set_read_only(true);
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("60"), LIMITED);
    assert_eq!(take(&sink, Some("m")).profile.as_str(), B);
    world.test.files.set_read_only(false);
    assert_eq!(files(&world), before);
    fail(&sink, &of(&sink, A, Some("n")), 429, Some("60"), LIMITED);
    for model in ["m", "n"] {
        assert_eq!(take(&world.sink(), Some(model)).profile.as_str(), B, "{model}");
    }
}

#[test]
fn a_broken_file_stops_nothing_and_is_kept() {
    let world = two_keys();
    world.test.files.put(benches_path(), "{ nonsense", 0o600);
    let sink = world.sink();
    assert_eq!(take(&sink, Some("m")).profile.as_str(), A);
    let warned = |sink: &Sink| {
        let warnings = sink.status(&AgentId::main()).unwrap().warnings;
        warnings.iter().any(|text| text.contains("benches/main.json"))
    };
    assert!(warned(&sink));
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("60"), LIMITED);
    assert_eq!(take(&world.sink(), Some("m")).profile.as_str(), B);
    assert!(files(&world).iter().any(|(_, text)| text == "{ nonsense"));
    assert!(warned(&world.sink()));
}

/// Reports a failure under `faults`; afterwards this process must know it, and the next one that can write must have it.
fn report_under(faults: &Faults) -> (bool, bool) {
    let world = two_keys();
    let lease = of(&world.sink(), A, Some("m"));
    let Ok(sink) = world.faulty(faults) else {
        return (faults.fired(), false);
    };
    let headers = HeaderMap::new();
    let outcome = CallOutcome::Failed {
        status: Some(429),
        headers: &headers,
        body: LIMITED,
    };
    let reported = sink.report(&lease, &outcome);
    let fired = faults.fired();
    for (path, text) in files(&world) {
        let whole = !path.ends_with(".json") || serde_json::from_str::<Value>(&text).is_ok();
        assert!(whole, "{path} is torn after {}: {text:?}", faults.last());
    }
    let benched = reported.is_ok_and(|reported| reported.bench.is_some());
    let crashed = files(&world).iter().any(|(path, _)| path.ends_with(".tmp"));
    if benched && !crashed {
        let asked = sink.acquire(&asking(Some("m")));
        if let Ok(lease) = asked {
            assert_eq!(lease.profile.as_str(), B, "after {}", faults.last());
        }
    }
    // Whatever happened, an hour later nothing is in the way, and a report works.
    let later = world.an_hour_after_a_crash();
    let sink = later.sink();
    assert_eq!(
        take(&sink, Some("m")).profile.as_str(),
        A,
        "after {}",
        faults.last()
    );
    fail(&sink, &of(&sink, A, Some("m")), 429, Some("60"), LIMITED);
    assert_eq!(
        take(&later.sink(), Some("m")).profile.as_str(),
        B,
        "after {}",
        faults.last()
    );
    let until = later.now().plus(Duration::from_secs(60));
    assert_eq!(
        UnixMillis(stats(&later, A)["cooldownUntil"].as_i64().unwrap()),
        until
    );
    served(&sink, &{
        later.test.clock.advance(Duration::from_secs(1));
        of(&sink, A, Some("m"))
    });
    assert_eq!(
        stats(&later, A)["cooldownUntil"],
        Value::Null,
        "after {}",
        faults.last()
    );
    assert_eq!(
        take(&later.sink(), Some("m")).profile.as_str(),
        A,
        "after {}",
        faults.last()
    );
    (fired, false)
}

#[test]
fn no_failing_call_and_no_crash_leaves_a_report_half_done() {
    for errno in [Errno::IO, Errno::NOSPC] {
        let (points, _) = every_point(report_under, |n| Faults::fail_at(n, errno));
        assert!(points > 20, "{points}");
    }
    every_point(report_under, Faults::crash_before);
    every_point(report_under, Faults::crash_after);
}
