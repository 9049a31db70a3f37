use std::time::Duration;

use serde_json::json;
use tokensink_types::{Secret, UnixMillis};

use super::{KeyAdd, KeyAdded, KeyCheck, KeyInfo};
use crate::error::ErrorKind;
use crate::sink::Sink;
use crate::world::{World, at, key};

const FILE: &str = "tokensink/state/keys.json";

fn request(name: &str, agent: &str, providers: &[&str]) -> KeyAdd {
    KeyAdd {
        name: name.to_owned(),
        agent: agent.to_owned(),
        providers: providers.iter().map(|&id| id.to_owned()).collect(),
    }
}

fn add(sink: &Sink, name: &str, agent: &str) -> KeyAdded {
    sink.key_add(&request(name, agent, &[])).unwrap()
}

fn check(sink: &Sink, key: &Secret) -> KeyCheck {
    sink.key_verify(key).unwrap()
}

fn valid(check: KeyCheck) -> KeyInfo {
    match check {
        KeyCheck::Valid(info) => KeyInfo::clone(&info),
        other => panic!("{other:?}"),
    }
}

/// A world with the agents main and work.
fn world() -> World {
    let world = World::new();
    world.store("work", &json!({"rig:a": key("rig")}));
    world
}

#[test]
fn a_key_lets_its_holder_in_and_is_kept_nowhere() {
    let world = world();
    let sink = world.sink();
    let added = sink.key_add(&request("ci", "Work", &["r1g", "rig"])).unwrap();
    let info = valid(check(&sink, &added.key));
    assert_eq!((info.name.as_str(), info.agent.as_str()), ("ci", "work"));
    let providers: Vec<&str> = info
        .providers
        .iter()
        .flatten()
        .map(tokensink_types::ProviderId::as_str)
        .collect();
    assert_eq!(providers, ["rig"], "an alias is the provider itself");
    assert!(world.files_with(added.key.expose()).is_empty());
    assert!(world.files_with(&added.key.expose()[10..]).is_empty());
    assert_eq!(
        world.test.files.mode(at(FILE)),
        Some(0o600),
        "readable by its owner only"
    );
    let audit = world.text("tokensink/audit.jsonl");
    assert!(
        audit.contains(r#""event":"key_add","agent":"work","client":"ci","detail":"ci tsink_"#),
        "{audit}"
    );
}

#[test]
fn what_is_no_valid_key_is_told_apart() {
    let world = world();
    let sink = world.sink();
    let added = add(&sink, "ci", "work");
    let text = added.key.expose();
    let other = crate::client_keys::form::make(&*sink.host().random).unwrap();
    let cases: [(&str, &str, KeyCheck); 5] = [
        ("empty", "", KeyCheck::Unknown),
        ("another program's", "sk-ant-oat01-xxx", KeyCheck::Unknown),
        ("cut off", &text[..40], KeyCheck::Damaged),
        ("mistyped", &text.replace("tsink_", "tsink_0"), KeyCheck::Damaged),
        ("never given out", other.expose(), KeyCheck::Unknown),
    ];
    for (what, text, want) in cases {
        assert_eq!(check(&sink, &text.into()), want, "{what}");
    }
}

#[test]
fn a_revocation_is_seen_by_a_running_process_at_once() {
    let world = world();
    let (server, command) = (world.sink(), world.sink());
    let key = add(&command, "ci", "work").key;
    let other = add(&command, "ci-2", "main").key;
    for settled in [false, true] {
        if settled {
            world.test.clock.advance(Duration::from_secs(60));
        }
        valid(check(&server, &key));
    }
    let revoked = command.key_revoke("ci").unwrap();
    assert_eq!(revoked.revoked_at, Some(world.sink().now()));
    assert_eq!(
        check(&server, &key),
        KeyCheck::Revoked {
            name: "ci".to_owned()
        }
    );
    valid(check(&server, &other));
    let again = command.key_revoke("ci").unwrap();
    assert_eq!(again, revoked, "a second time changes nothing");
    assert!(
        world
            .text("tokensink/audit.jsonl")
            .contains(r#""event":"key_revoke""#)
    );
    assert!(
        !world.json(FILE)["keys"]["ci"]
            .as_object()
            .unwrap()
            .contains_key("sha256")
    );
    // The name may be used again; the old key stays dead.
    let new = add(&command, "ci", "main").key;
    assert_eq!(valid(check(&server, &new)).agent.as_str(), "main");
    assert_eq!(check(&server, &key), KeyCheck::Unknown);
}

#[test]
fn a_check_costs_one_stat_while_nothing_changes() {
    let world = world();
    let sink = world.sink();
    let key = add(&sink, "ci", "work").key;
    world.test.clock.advance(Duration::from_secs(10));
    let faults = tokensink_testkit::Faults::none();
    let counted = Sink::open_with(world.test.host_with(&faults), crate::flights::Flights::inline()).unwrap();
    valid(check(&counted, &key));
    let before = faults.calls();
    for _ in 0..10 {
        valid(check(&counted, &key));
    }
    assert_eq!(faults.calls() - before, 10);
}

#[test]
fn requests_that_are_wrong_change_nothing() {
    let world = world();
    let sink = world.sink();
    add(&sink, "ci", "work");
    let before = world.text(FILE);
    let long = "x".repeat(65);
    let cases = [
        (request("", "work", &[]), "bad_key_name"),
        (request("-x", "work", &[]), "bad_key_name"),
        (request("a b", "work", &[]), "bad_key_name"),
        (request(&long, "work", &[]), "bad_key_name"),
        (request("tsink_abc", "work", &[]), "bad_key_name"),
        (request("ci", "work", &[]), "key_exists"),
        (request("new", "nobody", &[]), "unknown_agent"),
        (request("new", "work", &["rgi"]), "unknown_provider"),
    ];
    for (request, code) in cases {
        let error = sink.key_add(&request).unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            (code, ErrorKind::Usage),
            "{request:?}"
        );
        assert!(error.fix().is_some(), "{request:?}");
        assert_eq!(world.text(FILE), before);
    }
    assert_eq!(sink.key_revoke("new").unwrap_err().code(), "unknown_key");
}

#[test]
fn a_file_that_cannot_be_read_lets_nobody_in_and_is_not_written() {
    let world = world();
    let sink = world.sink();
    let key = add(&sink, "ci", "work").key;
    for text in ["{", "[]", r#"{"keys": []}"#] {
        world.put(FILE, text);
        let error = sink.key_verify(&key).unwrap_err();
        assert_eq!(error.code(), "keys_unreadable");
        assert!(error.fix().unwrap().contains("keys.json.bad"), "{error:?}");
        sink.key_add(&request("new", "work", &[])).unwrap_err();
        sink.key_revoke("ci").unwrap_err();
        assert_eq!(world.text(FILE), text);
    }
    world.test.host().files.remove(&at(FILE)).unwrap();
    assert_eq!(check(&sink, &key), KeyCheck::Unknown);
}

#[test]
fn the_keys_of_an_agent_end_with_it() {
    let world = world();
    world.put("openclaw.json", "{ agents: { list: [{ id: 'temp' }] } }");
    let sink = world.sink();
    let (temp, work) = (add(&sink, "a", "temp").key, add(&sink, "b", "work").key);
    sink.agent_delete("temp", false).unwrap();
    assert_eq!(check(&sink, &temp), KeyCheck::Revoked { name: "a".to_owned() });
    valid(check(&sink, &work));
    // Taken out by hand, it is not served main's logins either.
    let files = world.test.host().files;
    files.rename(&at("agents/work"), &at("gone")).unwrap();
    world.test.clock.advance(Duration::from_secs(2));
    match check(&sink, &work) {
        KeyCheck::NoAgent { name, agent } => assert_eq!((name.as_str(), agent.as_str()), ("b", "work")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn last_uses_are_written_once_a_minute() {
    const USES: &str = "tokensink/state/keys-used.json";
    let world = world();
    let sink = world.sink();
    let key = add(&sink, "ci", "work").key;
    assert_eq!(sink.keys().unwrap()[0].last_used, None);
    let started = world.sink().now();
    valid(check(&sink, &key));
    sink.keys_flush(false).unwrap();
    assert_eq!(world.json(USES), json!({"ci": started.0}));
    world.test.clock.advance(Duration::from_secs(59));
    valid(check(&sink, &key));
    sink.keys_flush(false).unwrap();
    assert_eq!(world.json(USES), json!({"ci": started.0}), "not yet");
    assert_eq!(
        sink.keys().unwrap()[0].last_used,
        Some(UnixMillis(started.0 + 59_000))
    );
    sink.keys_flush(true).unwrap();
    assert_eq!(world.json(USES), json!({"ci": started.0 + 59_000}), "at the end");
    // Another process with an older time does not take it back.
    let other = world.sink();
    world.test.clock.advance(Duration::from_secs(61));
    valid(check(&other, &key));
    other.keys_flush(false).unwrap();
    assert_eq!(world.json(USES), json!({"ci": started.0 + 120_000}));
    let before = world.text(FILE);
    sink.key_revoke("ci").unwrap();
    assert_ne!(world.text(FILE), before);
    add(&sink, "ci", "main");
    let infos = sink.keys().unwrap();
    assert_eq!(
        (infos.len(), infos[0].last_used),
        (1, None),
        "a new key of an old name"
    );
}

#[test]
fn within_a_turn_of_an_event_loop_the_file_is_looked_at_once() {
    let world = world();
    let (server, command) = (world.sink(), world.sink());
    let keys = ["one", "two", "three"].map(|name| add(&command, name, "main").key);
    world.test.clock.advance(Duration::from_secs(60));
    let is_valid = |key: &Secret| matches!(check(&server, key), KeyCheck::Valid(_));
    let turns = server.turns();
    assert!(keys.iter().all(is_valid));
    command.key_revoke("one").unwrap();
    assert!(is_valid(&keys[0]), "what was seen in this turn counts");
    turns.next();
    assert!(!is_valid(&keys[0]), "the next turn looks again");
    // The change is settled again.
    world.test.clock.advance(Duration::from_secs(60));
    assert!(is_valid(&keys[1]));
    command.key_revoke("two").unwrap();
    assert!(is_valid(&keys[1]));
    world.test.clock.advance(Duration::from_millis(1));
    assert!(!is_valid(&keys[1]), "a turn lasts a millisecond at most");
    world.test.clock.advance(Duration::from_secs(60));
    assert!(is_valid(&keys[2]));
    server.key_revoke("three").unwrap();
    assert!(!is_valid(&keys[2]), "this process knows what it has done itself");
    drop(turns);
    assert!(!is_valid(&keys[0]));
}
