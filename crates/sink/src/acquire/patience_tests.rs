//! A caller that asks again is not sent to another account for the sake of a moment.

use std::time::Duration;

use serde_json::json;

use crate::decisions::Asked;
use crate::error::ErrorKind;
use crate::world::{World, agent, key, oauth};
use crate::{AcquireRequest, Want};

#[test]
fn a_refresh_under_way_is_told_and_nothing_is_noted_of_it() {
    let world = World::new();
    world.store("main", &json!({"rig:a": oauth("rig", "a"), "rig:b": key("rig")}));
    world.put(
        "openclaw.json",
        "{ auth: { order: { rig: ['rig:a', 'rig:b'] } } }",
    );
    world.put(
        "tokensink/config.toml",
        "[billing]\nallow = [\"subscription -> metered\"]\n[profiles.\"rig:b\"]\nbilling = \"metered\"\n",
    );
    world.test.clock.advance(Duration::from_secs(7_200));
    let elsewhere = world.refreshing_elsewhere("rig", "rig:a");
    let sink = world.sink();
    let asked = |asks_again| {
        sink.acquire(&AcquireRequest {
            wait: Duration::ZERO,
            asks_again,
            ..AcquireRequest::new(agent("main"), Want::Provider("rig".into()))
        })
    };
    let refused = asked(true).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.code()),
        (ErrorKind::TryAgain, "refreshing")
    );
    assert!(sink.explain(&Asked::Last).unwrap().choices.is_empty());
    // Whoever has no more time is better served by the next one, and finds it in the notes.
    assert_eq!(asked(false).unwrap().profile.as_str(), "rig:b");
    assert_eq!(sink.explain(&Asked::Last).unwrap().choices.len(), 1);
    drop(elsewhere);
}

#[test]
fn a_refusal_that_is_asked_about_again_is_noted_once() {
    let world = World::new();
    world.store("main", &json!({"rig:a": key("rig")}));
    let state = json!({"version": 1, "usageStats":
        {"rig:a": {"cooldownUntil": 1_767_225_660_000_i64, "cooldownReason": "rate_limit"}}});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    let sink = world.sink();
    let is_noted = || !world.text("tokensink/state/decisions/kept.jsonl").is_empty();
    for (asks_again, noted) in [(true, false), (true, false), (false, true)] {
        let refused = sink
            .acquire(&AcquireRequest {
                wait: Duration::ZERO,
                asks_again,
                ..AcquireRequest::new(agent("main"), Want::Provider("rig".into()))
            })
            .unwrap_err();
        assert_eq!((refused.code(), is_noted()), ("all_benched", noted));
    }
}
