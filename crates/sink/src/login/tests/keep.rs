//! Where a login goes: ids, what is never replaced, and what survives a full disk or another program's old copy.

use serde_json::{Value, json};
use tokensink_testkit::{Errno, Faults, Scripted};

use super::{Person, access, code_and_state, granted, granted_to, log_in, request, response, told, world};
use crate::error::SinkError;
use crate::flights::Flights;
use crate::login::LoginRequest;
use crate::sink::Sink;
use crate::world::{World, agent, at, id, oauth};

const STORE: &str = "agents/main/agent/auth-profiles.json";
const STORE_LOCK: &str = "agents/main/agent/auth-profiles.json.lock";

fn profiles(world: &World) -> Vec<String> {
    world
        .stored("main")
        .as_object()
        .map(|map| map.keys().cloned().collect())
        .unwrap_or_default()
}

#[test]
fn a_second_login_updates_and_ends_the_bench() {
    let world = world();
    world.store("main", &json!({"desk:work": oauth("desk", "alice")}));
    world.put(
        "agents/main/agent/auth-state.json",
        &json!({"version": 1, "usageStats": {"desk:work": {
            "lastUsed": 5, "errorCount": 3, "cooldownUntil": 1_867_225_600_000_i64, "disabledUntil": 1_867_225_600_000_i64,
            "disabledReason": "auth_permanent", "failureCounts": {"auth": 3},
        }}})
        .to_string(),
    );
    world.put(
        "openclaw.json",
        r#"{"auth": {"order": {"desk": ["desk:other", "desk:work"]}}} // kept"#,
    );
    let sink = world.sink();
    world
        .test
        .transport
        .push(granted_to("new", "account-alice", "alice@example.com"));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    let outcome = sink.login(&request(), &person).unwrap();
    assert_eq!((outcome.profile, outcome.updated), (id("desk:work"), true));
    assert_eq!(outcome.store_path, at(STORE));
    assert_eq!(profiles(&world), ["desk:work"]);
    assert_eq!(access(&sink, "desk:work"), "fresh-access-new-canary");
    let usage = world.state("main")["usageStats"]["desk:work"].clone();
    assert_eq!(usage["lastUsed"], 5);
    assert_eq!(
        (&usage["cooldownUntil"], &usage["disabledUntil"]),
        (&Value::Null, &Value::Null),
        "{usage}"
    );
    let config = world.text("openclaw.json");
    assert!(config.ends_with("// kept"), "{config}");
    let order = sink.config().unwrap().auth_order();
    assert_eq!(
        order[0].1,
        [id("desk:work"), id("desk:other")],
        "moved to the front (2.9)"
    );
    let audit = world.text("tokensink/audit.jsonl");
    assert!(
        audit.contains(r#""event":"login","agent":"main","profile":"desk:work""#),
        "{audit}"
    );
    assert!(!audit.contains("canary"));
}

#[test]
fn an_older_copy_of_the_store_that_comes_back_is_healed() {
    let world = world();
    let old = json!({"desk:work": oauth("desk", "alice")});
    world.store("main", &old);
    let sink = world.sink();
    world
        .test
        .transport
        .push(granted_to("new", "account-alice", "alice@example.com"));
    sink.login(&request(), &Person::pasting(&world, vec![code_and_state("c")]))
        .unwrap();
    // Another program read the whole store before the login and writes it back now.
    world.store("main", &old);
    assert_eq!(access(&sink, "desk:work"), "fresh-access-new-canary");
    assert_eq!(
        world.stored("main")["desk:work"]["access"],
        "fresh-access-new-canary"
    );
}

#[test]
fn identities_do_not_push_each_other_out() {
    let world = world();
    let sink = world.sink();
    let login = |account: &str, email: &str| {
        world.test.transport.push(granted_to(account, account, email));
        sink.login(&request(), &Person::pasting(&world, vec![code_and_state("c")]))
            .unwrap()
    };
    let cases = [
        ("acct-one", "a@example.com", "desk:a@example.com", false),
        ("acct-two", "a@example.com", "desk:a@example.com-two", false),
        ("acct-one", "b@example.com", "desk:b@example.com", false),
        ("acct-two", "b@example.com", "desk:b@example.com-two", false),
        ("acct-two", "a@example.com", "desk:a@example.com-two", true),
        ("acct-one", "A@example.com", "desk:a@example.com", true),
    ];
    for (account, email, want, updated) in cases {
        let outcome = login(account, email);
        assert_eq!(
            (outcome.profile.as_str(), outcome.updated),
            (want, updated),
            "{account} {email}"
        );
    }
    assert_eq!(profiles(&world).len(), 4);
}

#[test]
fn an_id_that_is_asked_for_is_used_unless_it_is_somebody_elses() {
    let world = world();
    let sink = world.sink();
    let named = LoginRequest {
        profile_id: Some(id("desk:mine")),
        ..request()
    };
    let outcome = log_in(&world, &sink, "alice", &named).unwrap();
    assert_eq!((outcome.profile.as_str(), outcome.updated), ("desk:mine", false));
    let outcome = log_in(&world, &sink, "alice", &named).unwrap();
    assert_eq!((outcome.profile.as_str(), outcome.updated), ("desk:mine", true));
    let outcome = log_in(&world, &sink, "bob", &named).unwrap();
    assert_eq!(
        outcome.profile.as_str(),
        "desk:bob@example.com",
        "the fresh tokens are kept"
    );
    let note = &outcome.notes[0];
    assert!(
        note.contains("belongs to alice@example.com") && note.contains("logged in bob@example.com"),
        "{note}"
    );
    assert_eq!(access(&sink, "desk:mine"), "fresh-access-alice-canary");
    assert_eq!(access(&sink, "desk:bob@example.com"), "fresh-access-bob-canary");
}

#[test]
fn each_agent_has_its_own() {
    let world = world();
    let sink = world.sink();
    log_in(&world, &sink, "alice", &request()).unwrap();
    world.put(
        "openclaw.json",
        r#"{"agents": {"list": [{"id": "main"}, {"id": "work"}]}}"#,
    );
    let work = LoginRequest {
        agent: agent("work"),
        ..request()
    };
    let outcome = log_in(&world, &sink, "alice", &work).unwrap();
    assert!(!outcome.updated);
    assert!(
        outcome
            .store_path
            .ends_with("agents/work/agent/auth-profiles.json")
    );
    assert_eq!(world.stored("work").as_object().unwrap().len(), 1);
}

#[test]
fn the_default_model_is_named_or_set() {
    let world = world();
    let sink = world.sink();
    let outcome = log_in(&world, &sink, "alice", &request()).unwrap();
    assert_eq!(outcome.default_model, Some(("desk/desk-1".to_owned(), false)));
    assert_eq!(world.json("openclaw.json")["agents"], Value::Null);
    let set = LoginRequest {
        set_default: true,
        ..request()
    };
    let outcome = log_in(&world, &sink, "alice", &set).unwrap();
    assert_eq!(outcome.default_model, Some(("desk/desk-1".to_owned(), true)));
    assert_eq!(
        world.json("openclaw.json")["agents"]["defaults"]["model"]["primary"],
        "desk/desk-1"
    );
}

#[test]
fn a_config_that_cannot_be_edited_is_a_note() {
    let world = world();
    world.put("openclaw.json", r#"{"auth": "odd"}"#);
    let sink = world.sink();
    let set = LoginRequest {
        set_default: true,
        ..request()
    };
    let outcome = log_in(&world, &sink, "alice", &set).unwrap();
    assert_eq!(outcome.default_model, Some(("desk/desk-1".to_owned(), false)));
    assert!(outcome.notes[0].contains("openclaw.json"), "{:?}", outcome.notes);
    assert_eq!(
        access(&sink, "desk:alice@example.com"),
        "fresh-access-alice-canary"
    );
}

#[test]
fn an_order_that_hides_the_new_profile_is_told() {
    let world = world();
    world.put(
        "agents/main/agent/auth-state.json",
        r#"{"version": 1, "order": {"desk": ["desk:work"]}}"#,
    );
    let outcome = log_in(&world, &world.sink(), "alice", &request()).unwrap();
    let want =
        "tokensink models auth order set --provider desk --agent main desk:work desk:alice@example.com";
    assert!(outcome.notes[0].ends_with(want), "{:?}", outcome.notes);
}

#[test]
fn without_a_refresh_token_it_is_kept_and_told() {
    let world = world();
    let answer = r#"{"access_token": "only-access", "expires_in": 60, "account": {"uuid": "u"}}"#;
    world.test.transport.push(Scripted::json(200, answer));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    let outcome = world.sink().login(&request(), &person).unwrap();
    assert!(
        outcome.notes[0].contains("no refresh token"),
        "{:?}",
        outcome.notes
    );
    assert_eq!(outcome.profile, id("desk:default"));
}

#[test]
fn a_store_that_is_full_at_the_wrong_moment_loses_nothing() {
    let world = world();
    let sink = world.sink();
    log_in(&world, &sink, "alice", &request()).unwrap();
    let files = world.test.files.clone();
    world.test.transport.on_request(move |_| {
        files.set_free_space(Some(0));
        let account = json!({"uuid": "uuid-alice", "email_address": "alice@example.com"});
        Ok(response(200, &json!({"access_token": "second-canary", "refresh_token": "r2-canary", "expires_in": 60, "account": account})))
    });
    let error = sink
        .login(&request(), &Person::pasting(&world, vec![code_and_state("c")]))
        .unwrap_err();
    assert_eq!(error.code(), "kept_in_record");
    let told = told(&error);
    assert!(
        told.starts_with("the login of alice@example.com at desk worked and its tokens are kept"),
        "{told}"
    );
    assert!(
        told.ends_with("| tokensink models auth retry desk:alice@example.com"),
        "{told}"
    );
    assert_eq!(
        access(&sink, "desk:alice@example.com"),
        "second-canary",
        "the record serves"
    );
    world.test.files.set_free_space(None);
    assert_eq!(access(&sink, "desk:alice@example.com"), "second-canary");
    assert_eq!(
        world.stored("main")["desk:alice@example.com"]["access"],
        "second-canary",
        "and is put into the store"
    );
}

#[test]
fn a_first_login_that_only_the_record_holds_is_put_back_by_retry() {
    let world = world();
    let sink = world.sink();
    world.test.files.mkdir(at("agents/main/agent"));
    world.test.files.set_fault(at(STORE_LOCK), Some(Errno::NOSPC));
    let error = log_in(&world, &sink, "alice", &request()).unwrap_err();
    assert_eq!(error.code(), "kept_in_record");
    world.test.files.set_fault(at(STORE_LOCK), None);
    sink.retry(&agent("main"), &id("desk:alice@example.com")).unwrap();
    assert_eq!(
        access(&sink, "desk:alice@example.com"),
        "fresh-access-alice-canary"
    );
}

#[test]
fn a_store_that_cannot_be_read_leaves_the_tokens_in_the_record() {
    let world = world();
    let sink = world.sink();
    log_in(&world, &sink, "bob", &request()).unwrap();
    let files = world.test.files.clone();
    let Scripted::Exchange(Ok(answer)) = granted_to("carol", "uuid-carol", "bob@example.com") else {
        unreachable!("it is an answer")
    };
    world.test.transport.on_request(move |_| {
        // A command run with sudo leaves files like this.
        files.chown(at(STORE), 0);
        Ok(answer.clone())
    });
    let error = sink
        .login(&request(), &Person::pasting(&world, vec![code_and_state("c")]))
        .unwrap_err();
    assert_eq!(error.code(), "kept_in_record");
    assert_eq!(
        error.profile(),
        Some(&id("desk:bob@example.com-carol")),
        "the record of bob is not written over"
    );
    world.test.files.chown(at(STORE), 1000);
    sink.retry(&agent("main"), &id("desk:bob@example.com-carol"))
        .unwrap();
    assert_eq!(
        access(&sink, "desk:bob@example.com-carol"),
        "fresh-access-carol-canary"
    );
    assert_eq!(access(&sink, "desk:bob@example.com"), "fresh-access-bob-canary");
}

#[test]
fn any_one_failing_call_loses_neither_the_new_login_nor_the_old() {
    for n in 1.. {
        let world = world();
        world.store("main", &json!({"desk:other": oauth("desk", "other")}));
        let faults = Faults::fail_at(n, Errno::IO);
        let Ok(sink) = Sink::open_with(world.test.host_with(&faults), Flights::inline()) else {
            continue;
        };
        let Scripted::Exchange(Ok(answer)) = granted("alice") else {
            unreachable!("it is an answer")
        };
        world.test.transport.on_request(move |_| Ok(answer.clone()));
        let outcome = sink.login(&request(), &Person::pasting(&world, vec![code_and_state("c")]));
        let code = outcome.as_ref().err().map(SinkError::code);
        let exchanged = !world.test.transport.requests().is_empty() && code != Some("no_answer");
        if exchanged && faults.fired() {
            let kept = world
                .test
                .files
                .snapshot()
                .values()
                .any(|bytes| String::from_utf8_lossy(bytes).contains("fresh-refresh-alice-canary"));
            assert!(kept, "call {n} ({}): {outcome:?}", faults.last());
        }
        assert_eq!(
            world.stored("main")["desk:other"],
            oauth("desk", "other"),
            "call {n}"
        );
        if let Ok(outcome) = &outcome {
            let again = Sink::open_with(world.test.host(), Flights::inline()).unwrap();
            assert_eq!(
                access(&again, outcome.profile.as_str()),
                "fresh-access-alice-canary",
                "call {n}"
            );
        } else if let Err(error) = &outcome {
            told(error);
        }
        if !faults.fired() {
            assert!(outcome.is_ok() && n > 30, "the sweep reached the end at call {n}");
            return;
        }
    }
}

#[test]
fn a_store_that_does_not_parse_is_set_aside() {
    let world = world();
    world.put(STORE, "{ broken");
    let outcome = log_in(
        &world,
        &Sink::open(world.test.host()).unwrap(),
        "alice",
        &request(),
    )
    .unwrap();
    assert_eq!(outcome.profile, id("desk:alice@example.com"));
    let kept = world
        .test
        .files
        .snapshot()
        .into_iter()
        .any(|(_, bytes)| bytes == b"{ broken");
    assert!(kept, "the unreadable file is kept beside it");
}

#[test]
fn a_login_while_another_holds_the_grant_goes_on_with_a_warning() {
    let world = world();
    let sink = world.sink();
    log_in(&world, &sink, "alice", &request()).unwrap();
    let path = sink.refresh_lock_path(&"desk".parse().unwrap(), &id("desk:alice@example.com"));
    let held = sink.try_lock(&path).unwrap();
    let outcome = log_in(&world, &sink, "alice", &request()).unwrap();
    assert!(
        outcome.notes[0].contains("without waiting for a refresh"),
        "{:?}",
        outcome.notes
    );
    assert!(world.test.clock.slept().as_secs() >= 10, "it waited before");
    drop(held);
}

#[test]
fn reserved_names_are_never_taken() {
    let world = world();
    world.store("main", &json!({"anthropic:claude-cli": {
        "type": "oauth", "provider": "anthropic", "access": "a", "refresh": "r", "expires": 1, "email": "me@example.com",
    }}));
    let answer = json!({
        "access_token": "x", "refresh_token": "y", "expires_in": 60, "account": {"email_address": "me@example.com"},
    });
    world
        .test
        .transport
        .push(Scripted::json(200, &answer.to_string()));
    let login = LoginRequest {
        provider: "anthropic".to_owned(),
        method: Some("oauth-2026-01".parse().unwrap()),
        ..request()
    };
    let outcome = world
        .sink()
        .login(&login, &Person::pasting(&world, vec![code_and_state("c")]))
        .unwrap();
    assert_eq!(
        (outcome.profile.as_str(), outcome.updated),
        ("anthropic:me@example.com", false)
    );
}
