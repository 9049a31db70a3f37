//! What the settings allow and forbid reaches the decision.

use std::time::Duration;

use serde_json::json;
use tokensink_types::{BillingClass, UnixMillis};

use crate::error::ErrorKind;
use crate::world::{World, agent, key};
use crate::{AcquireRequest, Asked, ExplainAsk, Lease, Reproduced, Result, Sink, Want};

const NOW: i64 = 1_767_225_600_000;

const DAY: Duration = Duration::from_secs(24 * 3600);
const LEAVE: &str = "[billing]\nallow = [\"subscription -> metered\"]\n";

/// A subscription that cools down for a minute, and a metered profile behind it.
fn world(settings: &str) -> World {
    resting(Duration::from_secs(60), settings)
}

/// The same with another rest.
fn resting(rest: Duration, settings: &str) -> World {
    let world = World::new();
    world.store("main", &json!({"rig:a": key("rig"), "rig:b": key("rig")}));
    let until = UnixMillis(NOW).plus(rest).0;
    let state = json!({"version": 1, "usageStats": {"rig:a": {"cooldownUntil": until, "cooldownReason": "rate_limit"}}});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    let settings = format!("[profiles.\"rig:b\"]\nbilling = \"metered\"\n{settings}");
    world.put("tokensink/config.toml", &settings);
    world
}

/// For any account. With time to spare it would wait for the cheaper one.
fn any() -> AcquireRequest {
    AcquireRequest {
        wait: Duration::ZERO,
        ..AcquireRequest::new(agent("main"), Want::Provider("rig".into()))
    }
}

fn ask(sink: &Sink) -> Result<Lease> {
    sink.acquire(&any())
}

#[test]
fn a_costlier_profile_serves_by_leave_only_and_a_forbidden_one_never() {
    let deny = format!("{LEAVE}[[deny]]\nid = \"no-b\"\nprofile = \"rig:b\"\n");
    let refused = world("").sink().acquire(&any()).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::TryAgain, "too_costly")
    );
    assert_eq!(
        refused.to_string(),
        "only rig:b is left, which is metered, while rig:a is subscription; add \"subscription -> metered\" to `allow` under \
         [billing] in tokensink/config.toml to let it serve; rig:a (rate_limit) is free in 60 s"
    );
    let lease = world(LEAVE).sink().acquire(&any()).unwrap();
    assert_eq!(
        (lease.profile.as_str(), lease.billing.as_str()),
        ("rig:b", "metered")
    );
    let refused = world(&deny).sink().acquire(&any()).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::TryAgain, "all_benched")
    );
    let by_id = AcquireRequest::new(agent("main"), Want::Profile(crate::world::id("rig:b")));
    assert!(
        world("").sink().acquire(&by_id).is_ok(),
        "who names it has decided"
    );
    let refused = world(&deny).sink().acquire(&by_id).unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string().as_str()),
        (
            "denied",
            "rig:b is denied by the rule no-b; change it in tokensink/config.toml"
        )
    );
}

#[test]
fn as_many_calls_a_day_cost_more_as_the_user_says() {
    let world = resting(3 * DAY, &format!("{LEAVE}crossings_per_day = 2\n"));
    let other = world.test.other_process(77);
    let other = Sink::open_with(other.host(), crate::Flights::inline()).unwrap();
    let sink = world.sink();
    assert!(
        sink.acquire_ready(&any()).unwrap().is_none(),
        "it is counted, which is nothing for an event loop"
    );
    for sink in [&sink, &other] {
        let lease = ask(sink).unwrap();
        assert_eq!(
            (lease.profile.as_str(), lease.crosses),
            ("rig:b", Some(BillingClass::Subscription))
        );
    }
    world.test.clock.advance(Duration::from_secs(3600));
    for sink in [&sink, &other, &world.sink()] {
        let refused = ask(sink).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.code(), refused.retry_at()),
            (
                ErrorKind::TryAgain,
                "crossings_spent",
                Some(UnixMillis(NOW).plus(DAY))
            )
        );
        assert_eq!(
            refused.to_string(),
            "only rig:b is left, which is metered; as many calls as may on one day (crossings_per_day: 2) have moved to a \
             costlier class; the next may in 23h"
        );
        let fix = refused.fix().unwrap();
        assert!(
            fix.starts_with("raise crossings_per_day under [billing] in "),
            "{fix}"
        );
    }
    let by_id = AcquireRequest::new(agent("main"), Want::Profile(crate::world::id("rig:b")));
    assert!(sink.acquire(&by_id).is_ok(), "who names it has decided");
    world.test.clock.advance(DAY);
    assert!(
        ask(&sink).is_ok() && ask(&other).is_ok() && ask(&sink).is_err(),
        "another day"
    );
}

#[test]
fn of_a_crowd_no_more_calls_cost_more_than_the_user_says() {
    let world = resting(3 * DAY, &format!("{LEAVE}crossings_per_day = 3\n"));
    world.test.clock.be_patient();
    let sinks: Vec<Sink> = (0..4).map(|_| world.sink()).collect();
    let served = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn({
                    let sink = &sinks[n % 4];
                    move || ask(sink).is_ok()
                })
            })
            .collect();
        all.into_iter()
            .filter_map(|one| one.join().ok().filter(|served| *served))
            .count()
    });
    assert_eq!(served, 3);
}

#[test]
fn a_call_that_costs_more_counts_no_more_when_its_lease_is_taken_back() {
    let world = resting(3 * DAY, &format!("{LEAVE}crossings_per_day = 1\n"));
    let sink = world.sink();
    sink.take_back(&ask(&sink).unwrap()).unwrap();
    assert!(ask(&sink).is_ok());
    assert_eq!(ask(&sink).unwrap_err().code(), "crossings_spent");
}

#[test]
fn who_costs_less_serves_when_no_call_may_cost_more() {
    let world = resting(3 * DAY, &format!("{LEAVE}crossings_per_day = 1\n"));
    world.store(
        "main",
        &json!({"rig:a": key("rig"), "rig:b": key("rig"), "rig:c": key("rig")}),
    );
    world.put(
        "openclaw.json",
        "{ auth: { order: { rig: ['rig:a', 'rig:b', 'rig:c'] } } }",
    );
    let sink = world.sink();
    let recording = sink.record_decisions().unwrap();
    let ids: Vec<_> = ["rig:b", "rig:c", "rig:c"]
        .map(|want| {
            let lease = ask(&sink).unwrap();
            assert_eq!(lease.profile.as_str(), want);
            lease.id.to_string()
        })
        .into();
    drop(recording);
    for id in ids {
        let told = world.sink().explain(&Asked::Id(id)).unwrap();
        assert_eq!(told.choices[0].reproduced, Reproduced::Same);
    }
}

/// Where nothing can be written, every process counts for itself.
#[test]
fn a_sink_that_writes_nothing_counts_its_own_calls() {
    let world = resting(3 * DAY, &format!("{LEAVE}crossings_per_day = 1\n"));
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let sink = world.sink();
    assert!(ask(&sink).is_ok());
    assert_eq!(ask(&sink).unwrap_err().code(), "crossings_spent");
}

#[test]
fn explain_says_what_lets_more_calls_cost_more() {
    let world = resting(3 * DAY, &format!("{LEAVE}crossings_per_day = 0\n"));
    let asked = Asked::Now(ExplainAsk {
        agent: agent("main"),
        provider: "rig".to_owned(),
        model: None,
        session: None,
    });
    let told = world.sink().explain(&asked).unwrap();
    let fix = told.choices[0].fix.clone().unwrap_or_default();
    assert!(fix.contains("crossings_per_day"), "{told:#?}");
    // And afterwards that it was this.
    ask(&world.sink()).unwrap_err();
    let told = world.sink().explain(&Asked::Last).unwrap();
    let why = told.choices[0].unavailable.clone().unwrap_or_default();
    assert!(
        why.contains("crossings_per_day") && !why.contains("add"),
        "{told:#?}"
    );
}

/// What time alone does not mend is told, though no call may cost more today either.
#[test]
fn what_was_never_allowed_is_told_as_that() {
    let world = World::new();
    world.store(
        "main",
        &json!({"rig:f": key("rig"), "rig:s": key("rig"), "rig:m": key("rig")}),
    );
    world.put(
        "openclaw.json",
        "{ auth: { order: { rig: ['rig:f', 'rig:s', 'rig:m'] } } }",
    );
    let resting = json!({"cooldownUntil": NOW + 60_000, "cooldownReason": "rate_limit"});
    let state = json!({"version": 1, "usageStats": {"rig:f": resting, "rig:s": resting}});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    world.put(
        "tokensink/config.toml",
        "[profiles.\"rig:f\"]\nbilling = \"free\"\n[profiles.\"rig:s\"]\nbilling = \"subscription\"\n\
         [profiles.\"rig:m\"]\nbilling = \"metered\"\n\
         [billing]\nallow = [\"free -> metered\", \"free -> subscription\"]\ncrossings_per_day = 0\n",
    );
    let refused = ask(&world.sink()).unwrap_err();
    assert_eq!(refused.code(), "too_costly", "{refused}");
    assert!(
        refused
            .to_string()
            .contains("add \"subscription -> metered\" to `allow`"),
        "{refused}"
    );
}

/// A process that watches its files learns of the last call of another one with the next request.
#[test]
fn a_watched_sink_sees_that_the_last_call_was_made() {
    let world = resting(3 * DAY, &format!("{LEAVE}crossings_per_day = 2\n"));
    let sink = world.sink();
    sink.watch_begins();
    assert!(ask(&sink).is_ok() && ask(&world.sink()).is_ok());
    assert_eq!(ask(&sink).unwrap_err().code(), "crossings_spent");
    world.test.clock.advance(DAY);
    assert!(ask(&sink).is_ok(), "another day");
    sink.watch_ends();
}
