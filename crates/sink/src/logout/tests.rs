use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_host::ConnectPhase;
use tokensink_testkit::{Errno, Faults, Scripted};
use tokensink_types::UnixMillis;
use tokensink_types::record::RecordState;

use crate::error::ErrorKind;
use crate::flights::Flights;
use crate::report::Revocation;
use crate::sink::Sink;
use crate::world::{World, agent, at, generation, id, key, oauth, spend};

const CONFIG: &str = r#"// my config
{
  "auth": {
    "profiles": {
      "rig:a": { "provider": "rig", "mode": "oauth" }, // the one
      "groq:a": { "provider": "groq", "mode": "api_key" },
    },
    "order": { "rig": ["rig:a"], "groq": ["groq:a"] },
  },
}
"#;

/// `rig:a` is a grant whose record is one generation ahead of the store.
fn world() -> World {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    world.store(
        "main",
        &json!({"rig:a": oauth("rig", "a"), "groq:a": key("groq")}),
    );
    let usage = json!({"rig:a": {"lastUsed": 5}, "groq:a": {"lastUsed": 6}});
    let state = json!({"version": 1, "usageStats": usage, "order": {"rig": ["rig:a"], "groq": ["groq:a"]}, "lastGood": {"rig": "rig:a"}});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    world.record("main", "rig:a", generation("a2", 90), |record| {
        record.state = RecordState::Answered {
            parent: spend("a"),
            at: UnixMillis(1),
        };
    });
    world
}

#[test]
fn nothing_of_a_logged_out_profile_stays() {
    let world = world();
    let report = world.sink().logout(&agent("main"), &id("rig:a"), false).unwrap();
    assert_eq!(report.removed_from, at("agents/main/agent/auth-profiles.json"));
    assert_eq!(
        (report.revoked, report.reaches.len(), report.notes.len()),
        (Revocation::NotAsked, 0, 0)
    );
    assert_eq!(world.stored("main"), json!({"groq:a": key("groq")}));
    let state =
        json!({"version": 1, "usageStats": {"groq:a": {"lastUsed": 6}}, "order": {"groq": ["groq:a"]}});
    assert_eq!(world.state("main"), state);
    assert_eq!(world.recorded("main", "rig:a"), None);
    for secret in ["refresh-a-canary", "refresh-a2-canary", "access-a2-canary"] {
        assert_eq!(world.files_with(secret), Vec::<PathBuf>::new());
    }
    let config = world.text("openclaw.json");
    assert!(!config.contains("rig"), "{config}");
    assert!(
        config.starts_with("// my config\n{\n  \"auth\": {\n    \"profiles\": {"),
        "{config}"
    );
    assert!(
        config.contains("\"groq:a\": { \"provider\": \"groq\", \"mode\": \"api_key\" },"),
        "{config}"
    );
    let audit = world.json("tokensink/audit.jsonl");
    assert_eq!(
        (&audit["event"], &audit["profile"], &audit["detail"]),
        (&json!("logout"), &json!("rig:a"), &json!("not revoked"))
    );
    assert_eq!(world.test.transport.connections(), 0);
    let error = world
        .sink()
        .logout(&agent("main"), &id("rig:a"), false)
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "no_profile"));
}

#[test]
fn revoking_sends_the_newest_refresh_token_and_tells_what_it_reaches() {
    let world = world();
    // A copy of the newest generation in another agent's store, and an unrelated grant.
    world.store(
        "work",
        &json!({"rig:copy": oauth("rig", "a2"), "rig:other": oauth("rig", "b")}),
    );
    world.test.transport.push(Scripted::json(200, ""));
    let report = world.sink().logout(&agent("main"), &id("rig:a"), true).unwrap();
    assert_eq!(report.revoked, Revocation::Done);
    let requests = world.test.transport.requests();
    assert_eq!(requests[0].uri(), "http://127.0.0.1:9400/revoke");
    let body = String::from_utf8(requests[0].body().expose().to_vec()).unwrap();
    assert_eq!(
        body,
        "token=refresh-a2-canary&token_type_hint=refresh_token&client_id=rig"
    );
    assert!(
        report.reaches[0].contains("every program") && report.reaches[0].contains("rigctl"),
        "{report:?}"
    );
    assert_eq!(
        report.reaches[1..],
        ["profile rig:copy of agent work holds the same grant"]
    );
    assert!(!format!("{report:?}").contains("canary"));
    assert!(!world.text("tokensink/audit.jsonl").contains("canary"));
}

#[test]
fn a_revocation_that_fails_stops_no_logout() {
    let cases = [
        (Scripted::no_connection(ConnectPhase::Dns), "no connection to"),
        (Scripted::not_written(), "was not sent"),
        (Scripted::ambiguous(), "no complete answer"),
        (
            Scripted::json(503, r#"{"error":"temporarily_unavailable"}"#),
            "http://127.0.0.1:9400/revoke answered 503",
        ),
        (Scripted::json(400, "refresh-a2-canary is odd"), "answered 400"),
    ];
    for (scripted, why) in cases {
        let world = world();
        world.store("work", &json!({"rig:copy": oauth("rig", "a2")}));
        world.test.transport.push(scripted);
        let report = world.sink().logout(&agent("main"), &id("rig:a"), true).unwrap();
        let Revocation::Failed(reason) = &report.revoked else {
            panic!("{report:?}")
        };
        assert!(reason.contains(why), "{reason}");
        assert!(!format!("{report:?}").contains("canary"), "{report:?}");
        assert_eq!(world.stored("main"), json!({"groq:a": key("groq")}));
        assert_eq!(world.recorded("main", "rig:a"), None);
        assert!(report.reaches.is_empty());
        let notes = report.notes.join("\n");
        assert!(
            notes.contains("profile rig:copy of agent work holds the same grant and stays logged in"),
            "{notes}"
        );
        assert!(notes.contains("stay valid at the provider"), "{notes}");
    }
}

#[test]
fn what_cannot_be_revoked_says_so() {
    let world = world();
    world.store(
        "work",
        &json!({"mute:a": oauth("mute", "m"), "groq:w": key("groq")}),
    );
    world
        .test
        .transport
        .push(Scripted::json(400, r#"{"error":"unsupported_token_type"}"#));
    let sink = world.sink();
    for (owner, profile) in [
        ("main", "rig:a"),
        ("main", "groq:a"),
        ("work", "mute:a"),
        ("work", "groq:w"),
    ] {
        let report = sink.logout(&agent(owner), &id(profile), true).unwrap();
        assert_eq!(report.revoked, Revocation::NotSupported, "{profile}");
    }
    assert_eq!(
        (world.stored("main"), world.stored("work")),
        (json!({}), json!({}))
    );
    assert_eq!(world.test.transport.connections(), 1);
}

#[test]
fn without_a_refresh_token_the_access_token_is_revoked() {
    let world = World::new();
    let mut grant = oauth("rig", "a");
    grant.as_object_mut().unwrap().remove("refresh");
    world.store("main", &json!({"rig:a": grant}));
    world.test.transport.push(Scripted::json(200, "{}"));
    let report = world.sink().logout(&agent("main"), &id("rig:a"), true).unwrap();
    assert_eq!(report.revoked, Revocation::Done);
    let request = world.test.transport.requests().remove(0);
    let body = String::from_utf8(request.body().expose().to_vec()).unwrap();
    assert!(
        body.starts_with("token=access-a-canary&token_type_hint=access_token"),
        "{body}"
    );
}

#[test]
fn an_inherited_profile_is_logged_out_where_it_lives() {
    let world = world();
    world.store("work", &json!({"groq:w": key("groq")}));
    let before = world.test.files.snapshot();
    let error = world
        .sink()
        .logout(&agent("work"), &id("rig:a"), false)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.fix()),
        (
            ErrorKind::Usage,
            Some("tokensink models auth logout rig:a --agent main")
        )
    );
    assert_eq!(world.test.files.snapshot(), before);
}

#[test]
fn other_agents_files_are_not_touched() {
    let world = world();
    world.store(
        "work",
        &json!({"rig:a": oauth("rig", "a"), "groq:w": key("groq")}),
    );
    world.put(
        "agents/work/agent/auth-state.json",
        r#"{"version":1,"order":{"rig":["rig:a"]}}"#,
    );
    let theirs = || {
        (
            world.text("agents/work/agent/auth-profiles.json"),
            world.text("agents/work/agent/auth-state.json"),
        )
    };
    let before = theirs();
    let report = world.sink().logout(&agent("main"), &id("rig:a"), false).unwrap();
    assert_eq!(theirs(), before);
    assert_eq!(
        world.text("openclaw.json"),
        CONFIG,
        "the config still lists the id for the other agent"
    );
    let notes = report.notes.join("\n");
    assert!(
        notes.contains("profile rig:a of agent work holds the same grant and stays logged in"),
        "{notes}"
    );
    assert!(
        notes.contains("openclaw.json still lists rig:a, because agent work has a profile of that id"),
        "{notes}"
    );
}

#[test]
fn an_agent_that_falls_back_to_main_is_told() {
    let world = world();
    world.store("work", &json!({"rig:w": oauth("rig", "w")}));
    let report = world.sink().logout(&agent("work"), &id("rig:w"), false).unwrap();
    assert_eq!(
        report.notes,
        ["agent work now inherits main's profiles of rig: rig:a"]
    );
}

#[test]
fn a_login_that_only_the_record_holds_can_be_logged_out() {
    let world = World::new();
    world.record("main", "rig:a", generation("a", 60), |_| {});
    world.test.transport.push(Scripted::json(200, ""));
    let report = world.sink().logout(&agent("main"), &id("rig:a"), true).unwrap();
    assert_eq!(report.revoked, Revocation::Done);
    assert_eq!(
        (
            world.recorded("main", "rig:a"),
            world.files_with("refresh-a-canary")
        ),
        (None, vec![])
    );
}

#[test]
fn an_unreadable_record_stops_no_logout() {
    let world = world();
    let sink = world.sink();
    let path = sink.journal().path(
        &sink
            .record_key(&crate::world::target("main", "rig:a"))
            .unwrap()
            .unwrap(),
    );
    world.test.files.put(&path, "garbage", 0o600);
    sink.logout(&agent("main"), &id("rig:a"), false).unwrap();
    assert_eq!(world.stored("main"), json!({"groq:a": key("groq")}));
    assert!(!world.test.files.snapshot().contains_key(&path));
}

#[test]
fn a_refresh_under_way_is_waited_for_and_then_named() {
    let world = world();
    let lock = world.refreshing_elsewhere("rig", "rig:a");
    let before = world.stored("main");
    let error = world
        .sink()
        .logout(&agent("main"), &id("rig:a"), true)
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::TryAgain, "refreshing"));
    assert!(error.to_string().contains("4711"), "{error}");
    assert!(
        world.test.clock.slept() >= Duration::from_secs(10)
            && world.test.clock.slept() < Duration::from_secs(11)
    );
    assert_eq!(
        (world.stored("main"), world.test.transport.connections()),
        (before, 0)
    );
    drop(lock);
    world.sink().logout(&agent("main"), &id("rig:a"), false).unwrap();
}

#[test]
fn readonly_removes_nothing() {
    let world = world();
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let before = world.test.files.snapshot();
    let error = world
        .sink()
        .logout(&agent("main"), &id("rig:a"), true)
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Failed, "readonly"));
    assert_eq!(
        (world.test.files.snapshot(), world.test.transport.connections()),
        (before, 0)
    );
}

#[test]
fn a_full_disk_loses_nothing() {
    let world = world();
    let sink = world.sink();
    let record = world.recorded("main", "rig:a");
    world.test.files.set_free_space(Some(0));
    let error = sink.logout(&agent("main"), &id("rig:a"), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(
        (&world.stored("main")["rig:a"], world.recorded("main", "rig:a")),
        (&oauth("rig", "a"), record)
    );
    world.test.files.set_free_space(None);
    sink.logout(&agent("main"), &id("rig:a"), false).unwrap();
}

#[test]
fn a_config_that_cannot_be_edited_is_a_note() {
    let world = world();
    let sink = world.sink();
    world.put("openclaw.json", "{ torn");
    let report = sink.logout(&agent("main"), &id("rig:a"), false).unwrap();
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("openclaw.json still lists rig:a")),
        "{report:?}"
    );
    assert_eq!(world.text("openclaw.json"), "{ torn");
    assert_eq!(world.stored("main"), json!({"groq:a": key("groq")}));
}

/// Whatever single call fails: the profile is untouched or gone, and the same command ends the work.
#[test]
fn each_failing_call_leaves_a_whole_profile_or_none() {
    for n in 1.. {
        let world = world();
        let faults = Faults::fail_at(n, Errno::IO);
        let Ok(sink) = Sink::open_with(world.test.host_with(&faults), Flights::inline()) else {
            continue;
        };
        let result = sink.logout(&agent("main"), &id("rig:a"), false);
        let stored = world.stored("main");
        assert_eq!(stored["groq:a"], key("groq"), "call {n}: {}", faults.last());
        let left = stored["rig:a"].clone();
        let gone = left == Value::Null;
        assert!(gone || left == oauth("rig", "a"), "call {n}: {}", faults.last());
        assert!(gone || result.is_err(), "call {n}: {}", faults.last());
        if !gone {
            assert!(
                world.recorded("main", "rig:a").is_some(),
                "call {n}: {}",
                faults.last()
            );
        }
        match world
            .sink_with_warnings()
            .logout(&agent("main"), &id("rig:a"), false)
        {
            Ok(_) => {}
            Err(error) => assert_eq!((error.code(), gone), ("no_profile", true), "call {n}: {error}"),
        }
        assert_eq!(
            world.files_with("refresh-a"),
            Vec::<PathBuf>::new(),
            "call {n}: {}",
            faults.last()
        );
        if !faults.fired() {
            assert!(n > 20, "the logout makes more calls than {n}");
            return;
        }
    }
}
