//! What belongs to one lease and no other: the test of a bench, a rejected token.

use tokensink_sink::{AcquireRequest, ProfileId, Want};

use super::*;

/// A test of a bench that came with a lease which was then refused is free for the next who asks.
#[test]
fn a_refused_lease_gives_its_test_back() {
    let world = World::new();
    let (all, narrow) = (key("one", "work", None), key("narrow", "work", Some(&["mute"])));
    let lease = world.leased(&all, &json!({"provider": "rig"}));
    let limited = json!({"lease": lease["id"], "outcome": "failed", "status": 429,
        "headers": {"retry-after": "36000"}, "body": r#"{"error":{"type":"rate_limit_error"}}"#});
    assert_eq!(world.ask("report", &all, &limited).0, 200);
    world.test.clock.advance(Duration::from_secs(300));
    let (status, refused) = world.ask("lease", &narrow, &json!({"profile": "rig:a"}));
    assert_eq!(
        (status, &refused["error"]["code"]),
        (403, &json!("provider_not_allowed"))
    );
    let asking = |wait: u64| AcquireRequest {
        wait: Duration::from_secs(wait),
        ..AcquireRequest::new(AgentId::normalise("work"), Want::Provider("rig".to_owned()))
    };
    assert!(
        world.api.sink.acquire(&asking(0)).unwrap().tests,
        "the test is free"
    );
    // Nor does one that came when its client had left keep it.
    world.test.clock.advance(Duration::from_secs(60));
    let gone = Cancel::default();
    gone.set();
    let uri: Uri = "/tokensink/v1/lease".parse().unwrap();
    let lease = route(&Method::POST, &uri, &http::HeaderMap::new()).unwrap();
    let answer = world
        .api
        .answer(&lease, &all, br#"{"provider":"rig"}"#, &gone)
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(world.api.leases_out().get("one"), Some(&1), "the one before");
    assert!(world.api.sink.acquire(&asking(0)).unwrap().tests);
}

/// Two agents have different tokens under the same id.
#[test]
fn a_rejected_token_is_its_agents() {
    let world = World::new();
    let lease = |agent: &str| {
        let id = ProfileId::parse("rig:a").unwrap();
        let request = AcquireRequest::new(AgentId::normalise(agent), Want::Profile(id));
        world.api.sink.acquire(&request).unwrap()
    };
    let (main, work) = (lease("main"), lease("work"));
    world.api.leases.note_rejected(&main);
    assert!(!world.api.leases.is_rejected(&work));
    world.api.leases.note_rejected(&work);
    assert!(world.api.leases.is_rejected(&main) && world.api.leases.is_rejected(&work));
}
