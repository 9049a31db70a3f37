//! Handing out, from the warm case to the odd ones.

use std::time::Duration;

use serde_json::json;
use tokensink_authserver::{Fault, FaultAction};
use tokensink_sink::{AcquireRequest, ErrorKind, ProfileState};
use tokensink_testkit::Faults;

use crate::world::{HOUR, PROFILE, STATE, World, request, request_profile, store_path, strict, with_grace};

#[test]
fn a_warm_call_takes_four_stats_and_nothing_else() {
    let world = World::logged_in(strict());
    let faults = Faults::none();
    let sink = world.faulty(&faults).unwrap();
    sink.acquire(&request()).unwrap();
    // Content read in the same moment as it was written is not trusted yet; the second look is.
    world.test.clock.advance(Duration::from_millis(100));
    sink.acquire(&request()).unwrap();
    let before = faults.calls();
    for _ in 0..10 {
        sink.acquire(&request()).unwrap();
    }
    let trace = faults.trace();
    assert_eq!(faults.calls() - before, 40, "{:#?}", &trace[before..]);
    assert!(
        trace[before..].iter().all(|call| call.contains("stat")),
        "{:#?}",
        &trace[before..]
    );
}

#[test]
fn an_expired_token_is_refreshed_once_and_everything_else_is_kept() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    assert!(world.is_live(&lease));
    assert_eq!(lease.profile.as_str(), PROFILE);
    let again = world.sink().acquire(&request()).unwrap();
    assert_eq!(again.secret, lease.secret);
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (1, 0));
    let stored = world.stored("main", PROFILE);
    assert_eq!(stored["access"], lease.secret.expose());
    assert_eq!(stored["note"], "kept", "unknown keys of a profile survive");
    assert!(
        world.test.files.text(store_path("main")).contains("\"extra\""),
        "unknown keys of the file survive"
    );
}

#[test]
fn many_generations_in_a_row() {
    let world = World::logged_in(strict());
    for generation in 1..=30 {
        world.test.clock.advance(HOUR);
        let lease = world.sink().acquire(&request()).unwrap();
        assert!(world.is_live(&lease));
        assert_eq!((world.ledger().refreshes, world.ledger().reuses), (generation, 0));
    }
}

#[test]
fn a_token_near_its_end_is_refreshed_ahead_and_min_ttl_is_obeyed() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR - Duration::from_secs(301));
    world.sink().acquire(&request()).unwrap();
    assert_eq!(
        world.ledger().refreshes,
        0,
        "five minutes and a second are enough"
    );
    world.test.clock.advance(Duration::from_secs(1));
    world.sink().acquire(&request()).unwrap();
    assert_eq!(
        world.ledger().refreshes,
        1,
        "five minutes are not (equal counts as expiring)"
    );
    world.test.clock.advance(Duration::from_secs(600));
    let long = AcquireRequest {
        min_ttl: Some(Duration::from_secs(3300)),
        ..request()
    };
    world.sink().acquire(&long).unwrap();
    assert_eq!(world.ledger().refreshes, 2);
    // A demand that no token of this server can meet does not refresh again and again.
    let never = AcquireRequest {
        min_ttl: Some(Duration::from_secs(7200)),
        ..request()
    };
    world.sink().acquire(&never).unwrap();
    assert_eq!(world.ledger().refreshes, 2);
}

#[test]
fn a_rejected_token_forces_one_refresh() {
    let world = World::logged_in(strict());
    let lease = world.sink().acquire(&request()).unwrap();
    world.test.clock.advance(Duration::from_secs(120));
    world.invalidate_access_tokens();
    let rejected = AcquireRequest {
        rejected: Some(lease.secret.clone()),
        ..request()
    };
    let next = world.sink().acquire(&rejected).unwrap();
    assert!(world.is_live(&next));
    assert_ne!(next.secret, lease.secret);
    let other_caller = world.sink().acquire(&rejected).unwrap();
    assert_eq!(
        other_caller.secret, next.secret,
        "whoever reports the same token gets the new one"
    );
    assert_eq!(world.ledger().refreshes, 1);
    let at_once = AcquireRequest {
        rejected: Some(next.secret.clone()),
        wait: Duration::ZERO,
        ..request()
    };
    let error = world.sink().acquire(&at_once).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    assert_eq!(
        world.ledger().refreshes,
        1,
        "a token of the last minute is not replaced again"
    );
}

#[test]
fn a_terminal_refusal_is_remembered_until_the_next_login() {
    let world = World::logged_in(strict());
    world.push(Fault::on_refresh(FaultAction::Status {
        status: 400,
        body: r#"{"error":"invalid_grant","error_description":"revoked by the owner"}"#.into(),
    }));
    world.test.clock.advance(HOUR);
    for _ in 0..3 {
        let error = world.sink().acquire(&request()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginNeeded, "{error}");
        assert!(error.to_string().contains("revoked by the owner"), "{error}");
        assert!(
            error
                .fix()
                .unwrap()
                .contains("models auth login --provider rig --profile-id rig:alice@example.com")
        );
    }
    assert_eq!(world.test.transport.requests().len(), 1, "it is asked once");
    assert_ne!(world.stored("main", PROFILE)["refresh"], "", "nothing is blanked");
    world.put_store("main", &json!({ PROFILE: world.grant_entry("alice") }));
    assert!(
        world.is_live(&world.sink().acquire(&request()).unwrap()),
        "a newer login ends it"
    );
}

#[test]
fn a_lost_answer_of_a_strict_server_ends_in_one_precise_sentence() {
    let world = World::logged_in(strict());
    world.push(Fault::on_refresh(FaultAction::CutBeforeAnswer));
    world.test.clock.advance(HOUR);
    let error = world
        .sink()
        .acquire(&AcquireRequest {
            wait: Duration::ZERO,
            ..request()
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    world.test.clock.advance(HOUR);
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::LoginNeeded, "refused_after_lost_answer"),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("the answer to an earlier refresh was lost"),
        "{error}"
    );
}

#[test]
fn a_lost_answer_within_the_grace_is_fetched_again_at_once() {
    let world = World::logged_in(with_grace(30));
    world.push(Fault::on_refresh(FaultAction::CutBeforeAnswer));
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    assert!(world.is_live(&lease));
    let ledger = world.ledger();
    assert_eq!((ledger.refreshes, ledger.replays, ledger.reuses), (1, 1, 0));
}

#[test]
fn while_the_outcome_is_unknown_the_living_token_is_served() {
    let world = World::logged_in(strict());
    world.push(Fault::on_refresh(FaultAction::CutBeforeAnswer));
    world.test.clock.advance(HOUR - Duration::from_secs(200));
    for _ in 0..5 {
        let lease = world.sink().acquire(&request()).unwrap();
        assert!(world.is_live(&lease));
        assert!(lease.note.is_some());
    }
    assert_eq!(
        world.test.transport.requests().len(),
        1,
        "the doubt is not resolved by sending again"
    );
    let report = world.sink().status(&tokensink_sink::AgentId::main()).unwrap();
    assert!(
        matches!(report.profiles[0].state, ProfileState::Waiting { .. }),
        "{:?}",
        report.profiles[0].state
    );
}

#[test]
fn an_answer_for_another_account_is_never_handed_out() {
    let world = World::logged_in(strict());
    world.push(Fault::on_refresh(FaultAction::WrongAccount {
        account: "bob".into(),
    }));
    world.test.clock.advance(HOUR);
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::LoginNeeded, "other_account"),
        "{error}"
    );
    assert_eq!(world.stored("main", PROFILE)["accountId"], "acct-alice");
    assert_eq!(
        world.sink().acquire(&request()).unwrap_err().code(),
        "other_account",
        "also the next time"
    );
}

#[test]
fn a_store_that_was_rolled_back_is_healed() {
    let world = World::logged_in(strict());
    let old = world.test.files.text(store_path("main"));
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    world.test.files.put(store_path("main"), old, 0o600);
    let healed = world.sink().acquire(&request()).unwrap();
    assert_eq!(healed.secret, lease.secret);
    assert_eq!(world.stored("main", PROFILE)["access"], lease.secret.expose());
    world.test.clock.advance(HOUR);
    assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
    assert_eq!(world.ledger().reuses, 0);
}

#[test]
fn copies_of_one_grant_are_admitted_once() {
    let world = World::new(strict());
    let entry = world.grant_entry("alice");
    world.put_store("main", &json!({ "rig:a": entry, "rig:b": entry }));
    world.test.clock.advance(HOUR);
    let a = world.sink().acquire(&request_profile("rig:a")).unwrap();
    let b = world.sink().acquire(&request_profile("rig:b")).unwrap();
    assert!(world.is_live(&a) && world.is_live(&b));
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (1, 0));
    world.test.clock.advance(HOUR);
    for id in ["rig:b", "rig:a"] {
        assert!(world.is_live(&world.sink().acquire(&request_profile(id)).unwrap()));
    }
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (2, 0));
}

#[test]
fn a_read_only_store_is_not_touched() {
    let world = World::logged_in(strict());
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let before = world.test.files.snapshot();
    assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
    world.test.clock.advance(HOUR);
    let error = world.sink().acquire(&request()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Failed, "readonly"));
    let report = world.sink().status(&tokensink_sink::AgentId::main()).unwrap();
    assert_eq!(
        report.profiles[0].state.word(),
        "waiting",
        "status says what a caller gets"
    );
    assert_eq!(world.test.files.snapshot(), before);
    assert_eq!(world.ledger().refreshes, 0);
}

#[test]
fn a_clock_that_was_set_back_loses_nothing() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    world.sink().acquire(&request()).unwrap();
    world.test.clock.set_wall(world.now().minus(HOUR * 30));
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(lease.secret.expose(), world.stored("main", PROFILE)["access"]);
    world.test.clock.set_wall(world.now().plus(HOUR * 31));
    assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
    assert_eq!(world.ledger().reuses, 0);
}

#[test]
fn errors_name_the_profile_and_the_command() {
    let world = World::new(strict());
    let cases = [
        (
            request(),
            ErrorKind::LoginNeeded,
            "no_credential",
            "tokensink models auth login --provider rig",
        ),
        (
            request_profile("rig:none"),
            ErrorKind::Usage,
            "no_profile",
            "tokensink models auth list",
        ),
        (
            AcquireRequest::new(
                tokensink_sink::AgentId::main(),
                tokensink_sink::Want::Provider("nothing".into()),
            ),
            ErrorKind::Usage,
            "unknown_provider",
            "tokensink providers list",
        ),
    ];
    for (request, kind, code, fix) in cases {
        let error = world.sink().acquire(&request).unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
        assert!(error.fix().unwrap().contains(fix), "{error}: {:?}", error.fix());
    }
    assert!(
        !world
            .test
            .files
            .snapshot()
            .keys()
            .any(|path| path.starts_with(format!("{STATE}/agents"))),
        "reading creates nothing"
    );
}

#[test]
fn what_is_kept_of_a_call_ends_with_what_it_was_made_of() {
    let world = World::new(strict());
    let (alice, bob) = ("rig:alice@example.com", "rig:bob@example.com");
    world.put_store(
        "main",
        &json!({alice: world.grant_entry("alice"), bob: world.grant_entry("bob")}),
    );
    let bench = |seconds: i64| {
        let until = world.now().0 + seconds * 1000;
        let state = json!({"version": 1, "usageStats": {alice: {"cooldownUntil": until}}});
        let path = format!("{STATE}/agents/main/agent/auth-state.json");
        world.test.files.put(path, state.to_string(), 0o600);
    };
    let sink = world.sink();
    let served = || {
        // Asked twice, so that the second answer comes from what is kept, and that from files that have settled.
        sink.acquire(&request()).unwrap();
        world.test.clock.advance(Duration::from_secs(5));
        let first = sink.acquire(&request()).unwrap();
        let again = sink.acquire(&request()).unwrap();
        assert_eq!((&again.profile, &again.secret), (&first.profile, &first.secret));
        first
    };
    assert_eq!(served().profile.as_str(), alice);
    bench(60);
    assert_eq!(served().profile.as_str(), bob, "the state has changed");
    world.test.clock.advance(Duration::from_secs(60));
    let before = served();
    assert_eq!(before.profile.as_str(), alice, "the bench has ended by itself");
    world.test.clock.advance(HOUR);
    let renewed = served();
    assert_ne!(renewed.secret, before.secret, "the token has ended");
    assert!(world.is_live(&renewed));
    let replaced = world.grant_entry("alice");
    world.put_store("main", &json!({ alice: replaced, bob: world.grant_entry("bob") }));
    assert_eq!(
        served().secret.expose(),
        replaced["access"],
        "somebody has logged in anew"
    );
}

#[test]
fn a_rejected_token_is_not_served_from_what_is_kept() {
    let world = World::logged_in(strict());
    let sink = world.sink();
    sink.acquire(&request()).unwrap();
    world.test.clock.advance(Duration::from_secs(100));
    let lease = sink.acquire(&request()).unwrap();
    let rejecting = AcquireRequest {
        rejected: Some(lease.secret.clone()),
        ..request()
    };
    assert_ne!(sink.acquire(&rejecting).unwrap().secret, lease.secret);
}

#[test]
fn a_pasted_token_that_ends_too_early_is_served_and_said_to_be_so() {
    let world = World::logged_in(strict());
    let expires = world.sink().now().plus(HOUR).0;
    let profiles =
        json!({"rig:manual": {"type": "token", "provider": "rig", "token": "t-canary", "expires": expires}});
    let store = json!({"version": 1, "profiles": profiles});
    world.test.files.put(store_path("main"), store.to_string(), 0o600);
    let note_for = |min_ttl| {
        let mut request = request_profile("rig:manual");
        request.min_ttl = min_ttl;
        world.sink().acquire(&request).unwrap().note
    };
    assert_eq!(note_for(None), None);
    assert_eq!(note_for(Some(HOUR)), None);
    let note = note_for(Some(HOUR * 2)).unwrap();
    assert!(
        note.contains("3600 s") && note.contains("cannot be renewed"),
        "{note}"
    );
}
