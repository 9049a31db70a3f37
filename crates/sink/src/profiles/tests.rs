use serde_json::json;
use tokensink_testkit::Errno;
use tokensink_types::record::RecordState;
use tokensink_types::{CredentialKind, UnixMillis};

use crate::error::ErrorKind;
use crate::report::ProfileState;
use crate::world::{World, agent, generation, key, oauth, spend, target};

#[test]
fn own_and_inherited_profiles_are_sorted_by_id() {
    let world = World::new();
    world.store(
        "main",
        &json!({"rig:b": oauth("rig", "b"), "groq:default": key("groq"), "rig:a": key("rig")}),
    );
    world.store("work", &json!({"groq:work": key("groq")}));
    let sink = world.sink();
    let list = sink.profiles(&agent("work"), None).unwrap();
    let shown: Vec<_> = list
        .iter()
        .map(|one| (one.id.as_str(), one.owner.as_str(), one.inherited))
        .collect();
    assert_eq!(
        shown,
        [
            ("groq:work", "work", false),
            ("rig:a", "main", true),
            ("rig:b", "main", true)
        ]
    );
    let grant = &list[2];
    assert_eq!(
        (grant.kind, grant.label.as_str()),
        (CredentialKind::OAuth, "rig:b (b@example.com)")
    );
    assert_eq!(grant.email.as_deref(), Some("b@example.com"));
    assert_eq!(
        (grant.state.clone(), grant.is_external),
        (ProfileState::Usable, false)
    );
    assert_eq!((list[1].label.as_str(), list[1].expires), ("rig:a", None));
}

#[test]
fn a_provider_is_asked_for_by_id_or_alias() {
    let world = World::new();
    world.store(
        "main",
        &json!({"rig:a": key("rig"), "rig:old": key("r1g"), "groq:a": key("groq"), "own:a": key("own")}),
    );
    let sink = world.sink();
    for (provider, want) in [("rig", 2), ("R1G", 2), ("groq", 1), ("own", 1), ("mistral", 0)] {
        assert_eq!(
            sink.profiles(&agent("main"), Some(provider)).unwrap().len(),
            want,
            "{provider}"
        );
    }
    let error = sink.profiles(&agent("main"), Some("rigg")).unwrap_err();
    assert_eq!(
        (error.kind(), error.fix()),
        (ErrorKind::Usage, Some("tokensink providers list"))
    );
}

#[test]
fn the_end_is_that_of_the_newest_tokens_and_a_window_shows() {
    let world = World::new();
    world.store("main", &json!({"rig:a": oauth("rig", "a")}));
    let now = 1_767_225_600_000_i64;
    let usage = json!({"rig:a": {"cooldownUntil": now + 60_000, "cooldownReason": "rate_limit"}});
    world.put(
        "agents/main/agent/auth-state.json",
        &json!({"version": 1, "usageStats": usage}).to_string(),
    );
    world.record("main", "rig:a", generation("a2", 120), |record| {
        record.state = RecordState::Answered {
            parent: spend("a"),
            at: UnixMillis(now),
        };
    });
    let one = world.sink().profiles(&agent("main"), None).unwrap().remove(0);
    assert_eq!(one.expires, Some(UnixMillis(now + 120 * 60_000)));
    let bench = one.bench.unwrap();
    assert_eq!(
        (bench.kind, bench.reason.as_deref(), bench.until),
        ("cooldown", Some("rate_limit"), UnixMillis(now + 60_000))
    );
}

#[test]
fn an_unreadable_record_hides_no_profile() {
    let world = World::new();
    world.store("main", &json!({"rig:a": oauth("rig", "a"), "rig:b": key("rig")}));
    let sink = world.sink();
    let path = sink
        .journal()
        .path(&sink.record_key(&target("main", "rig:a")).unwrap().unwrap());
    world.test.files.put(&path, "garbage", 0o600);
    assert_eq!(
        sink.profiles(&agent("main"), None).unwrap()[0].state,
        ProfileState::Usable,
        "the store counts then"
    );
    world.test.files.set_fault(&path, Some(Errno::IO));
    let list = sink.profiles(&agent("main"), None).unwrap();
    let ProfileState::Waiting { reason, .. } = &list[0].state else {
        panic!("{:?}", list[0].state)
    };
    assert!(reason.contains(&*path.to_string_lossy()), "{reason}");
    assert_eq!(list[1].state, ProfileState::Usable);
}
