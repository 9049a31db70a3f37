//! Inheritance: nothing is copied, and an agent's own login never touches main's.

use serde_json::json;
use tokensink_authserver::{Fault, FaultAction};
use tokensink_sink::{AgentId, ErrorKind, ProfileState};

use crate::world::{HOUR, PROFILE, STATE, World, request, request_of, store_path, strict};

fn files_of(world: &World, agent: &str) -> usize {
    let dir = format!("{STATE}/agents/{agent}");
    world
        .test
        .files
        .snapshot()
        .keys()
        .filter(|path| path.starts_with(&dir))
        .count()
}

#[test]
fn an_agent_without_profiles_uses_mains_and_refreshes_it_there() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request_of("work")).unwrap();
    assert!(lease.inherited && lease.owner.is_main() && world.is_live(&lease));
    assert_eq!(world.stored("main", PROFILE)["access"], lease.secret.expose());
    assert_eq!(files_of(&world, "work"), 0, "the agent has no file of its own");
    assert_eq!(world.sink().acquire(&request()).unwrap().secret, lease.secret);
    assert_eq!(world.ledger().refreshes, 1);
}

#[test]
fn an_agent_with_its_own_login_never_uses_mains() {
    let world = World::logged_in(strict());
    world.put_store(
        "work",
        &json!({ "rig:bob@example.com": world.grant_entry("bob") }),
    );
    let main_before = world.test.files.text(store_path("main"));
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request_of("work")).unwrap();
    assert_eq!(lease.profile.as_str(), "rig:bob@example.com");
    assert!(!lease.inherited);
    world.test.clock.advance(HOUR);
    world.push(Fault::on_refresh(FaultAction::Status {
        status: 400,
        body: r#"{"error":"invalid_grant"}"#.into(),
    }));
    let error = world.sink().acquire(&request_of("work")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginNeeded, "{error}");
    assert_eq!(error.profile().unwrap().as_str(), "rig:bob@example.com");
    assert_eq!(world.test.files.text(store_path("main")), main_before);
}

#[test]
fn inheritance_can_be_turned_off() {
    let world = World::logged_in(strict());
    world.test.files.put(
        format!("{STATE}/tokensink/config.toml"),
        "[agents.work]\ninherit = false\n",
        0o600,
    );
    let error = world.sink().acquire(&request_of("work")).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::LoginNeeded, "no_credential")
    );
    assert!(
        error.fix().unwrap().ends_with("--agent work"),
        "{:?}",
        error.fix()
    );
}

#[test]
fn a_broken_store_of_main_does_not_stop_an_agent_with_its_own() {
    let world = World::logged_in(strict());
    world.put_store(
        "work",
        &json!({ "rig:bob@example.com": world.grant_entry("bob") }),
    );
    world
        .test
        .files
        .put(store_path("main"), "{\"version\": 1, \"profiles\": {", 0o600);
    assert!(world.is_live(&world.sink().acquire(&request_of("work")).unwrap()));
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("auth-profiles.json"), "{error}");
    let inheriting = world.sink().acquire(&request_of("other")).unwrap_err();
    assert!(
        inheriting.to_string().contains("auth-profiles.json"),
        "not mistaken for 'no login': {inheriting}"
    );
}

/// Main and another agent have the same login.
fn with_a_copy() -> World {
    let world = World::new(strict());
    let entry = world.grant_entry("alice");
    for agent in ["main", "work"] {
        world.put_store(agent, &json!({ PROFILE: entry }));
    }
    world
}

#[test]
fn an_old_copy_of_mains_login_follows_main() {
    let world = with_a_copy();
    world.test.clock.advance(HOUR);
    world.sink().acquire(&request()).unwrap();
    let lease = world.sink().acquire(&request_of("work")).unwrap();
    assert!(world.is_live(&lease));
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (1, 0));
}

/// It is not dead as long as main can serve it: main was logged in again, or another program has refreshed it there.
#[test]
fn a_copy_that_was_refused_follows_mains_newer_login() {
    let world = with_a_copy();
    world.test.clock.advance(HOUR);
    world.push(Fault::on_refresh(FaultAction::Status {
        status: 400,
        body: r#"{"error":"invalid_grant"}"#.into(),
    }));
    let refused = || world.sink().acquire(&request_of("work")).unwrap_err();
    assert_eq!(refused().kind(), ErrorKind::LoginNeeded);
    assert_eq!(refused().kind(), ErrorKind::LoginNeeded, "main has nothing newer");
    let state = || {
        world.sink().status(&AgentId::normalise("work")).unwrap().profiles[0]
            .state
            .clone()
    };
    assert!(
        matches!(state(), ProfileState::LoginNeeded { .. }),
        "{:?}",
        state()
    );
    world.put_store("main", &json!({ PROFILE: world.grant_entry("alice") }));
    for _ in 0..2 {
        let lease = world.sink().acquire(&request_of("work")).unwrap();
        assert!(world.is_live(&lease));
        assert_eq!(state(), ProfileState::Usable);
    }
    world.test.clock.advance(HOUR);
    assert!(
        world.is_live(&world.sink().acquire(&request_of("work")).unwrap()),
        "it is refreshed there"
    );
    assert_eq!(world.ledger().reuses, 0);
}
