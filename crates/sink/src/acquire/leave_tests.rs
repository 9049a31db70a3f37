//! What the settings allow and forbid reaches the decision.

use serde_json::json;

use crate::error::ErrorKind;
use crate::world::{World, agent, key};
use crate::{AcquireRequest, Want};

const NOW: i64 = 1_767_225_600_000;

/// A subscription that cools down for a minute, and a metered profile behind it.
fn world(settings: &str) -> World {
    let world = World::new();
    world.store("main", &json!({"rig:a": key("rig"), "rig:b": key("rig")}));
    let state = json!({"version": 1, "usageStats": {"rig:a": {"cooldownUntil": NOW + 60_000, "cooldownReason": "rate_limit"}}});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    let settings = format!("[profiles.\"rig:b\"]\nbilling = \"metered\"\n{settings}");
    world.put("tokensink/config.toml", &settings);
    world
}

#[test]
fn a_costlier_profile_serves_by_leave_only_and_a_forbidden_one_never() {
    let leave = "[billing]\nallow = [\"subscription -> metered\"]\n";
    let deny = format!("{leave}[[deny]]\nid = \"no-b\"\nprofile = \"rig:b\"\n");
    // With time to spare it would wait for the cheaper one.
    let any = || AcquireRequest {
        wait: std::time::Duration::ZERO,
        ..AcquireRequest::new(agent("main"), Want::Provider("rig".into()))
    };
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
    let lease = world(leave).sink().acquire(&any()).unwrap();
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
