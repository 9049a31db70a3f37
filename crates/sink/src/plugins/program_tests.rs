//! What a program does in each step of a login and a refresh, and what that means for the stored grant.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_testkit::Reply;
use tokensink_types::record::RecordState;

use crate::error::ErrorKind;
use crate::lease::{AcquireRequest, Lease, Want};
use crate::login::tests::Person;
use crate::login::{LoginRequest, LoginUi as _};
use crate::world::{World, agent, id, oauth};

const NOW: i64 = 1_767_225_600_000;

const MANIFEST: &str = r#"
id = "prog"
version = "1"
protocol = [1]
program = "prog.sh"
providers = ["prog.toml"]
actions = ["login", "refresh", "identity"]
"#;

const DEFINITION: &str = r#"
id = "prog"
billing = "free"
[api]
kind = "none"
[[auth]]
id = "first"
kind = "program"
plugin = "prog"
[[auth]]
id = "second"
kind = "program"
plugin = "prog"
"#;

/// What the program was told, line by line.
type Told = Arc<Mutex<Vec<Value>>>;

/// A world with the plugin `prog`, whose program answers a request by `script`.
fn world(script: impl Fn(&Value) -> Vec<Reply> + Send + Sync + 'static) -> (World, Told) {
    let world = World::new();
    let dir = Path::new("/home/user/prog");
    world.test.files.mkdir(dir);
    for (name, text) in [
        ("plugin.toml", MANIFEST),
        ("prog.toml", DEFINITION),
        ("prog.sh", "#!/bin/sh\n"),
    ] {
        world.test.files.put(dir.join(name), text, 0o644);
    }
    let sink = world.sink();
    let plan = sink.plan_plugin(dir).unwrap();
    sink.install_plugin(&plan, false).unwrap();
    let told = Told::default();
    let log = Arc::clone(&told);
    world
        .test
        .processes
        .on_dialogue(&world.test.clock, move |_, line| match line {
            None => vec![say(&json!({"type": "hello", "versions": [1]}))],
            Some(line) => {
                let value: Value = serde_json::from_str(line).unwrap();
                log.lock().unwrap().push(value.clone());
                script(&value)
            }
        });
    (world, told)
}

fn say(value: &Value) -> Reply {
    Reply::Line(value.to_string())
}

/// A world whose stored grant of `prog` has run out.
fn expired(script: impl Fn(&Value) -> Vec<Reply> + Send + Sync + 'static) -> (World, Told) {
    let (world, told) = world(script);
    let mut grant = oauth("prog", "a");
    grant["expires"] = json!(NOW - 60_000);
    world.store("main", &json!({"prog:a": grant}));
    (world, told)
}

fn acquire(world: &World) -> crate::Result<Lease> {
    let want = Want::Profile(id("prog:a"));
    let request = AcquireRequest {
        wait: Duration::ZERO,
        ..AcquireRequest::new(agent("main"), want)
    };
    world.sink().acquire(&request)
}

/// The word for where the refresh record stands.
fn standing(world: &World) -> &'static str {
    match world.recorded("main", "prog:a").map(|record| record.state) {
        None => "none",
        Some(RecordState::Idle) => "idle",
        Some(RecordState::Sent(_)) => "sent",
        Some(RecordState::Answered { .. }) => "answered",
        Some(RecordState::Committed { .. }) => "committed",
        Some(RecordState::Refused { .. }) => "refused",
        Some(RecordState::Parked { .. }) => "parked",
    }
}

#[test]
fn a_refresh_is_sent_once_and_kept() {
    let (world, told) = expired(|_| {
        vec![
            say(&json!({"type": "progress", "text": "asking"})),
            say(
                &json!({"type": "result", "access_token": "next-access", "refresh_token": "next-refresh",
                        "expires_in": 3600, "account": {"id": "account-a"}}),
            ),
        ]
    });
    for _ in 0..3 {
        assert_eq!(acquire(&world).unwrap().secret, "next-access".into());
    }
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["tokens"]["refresh_token"], "refresh-a-canary");
    assert_eq!(
        (&told[0]["profile"], &told[0]["method"]),
        (&json!("prog:a"), &json!("first"))
    );
    assert_eq!(standing(&world), "committed");
    assert_eq!(world.stored("main")["prog:a"]["refresh"], "next-refresh");
}

/// How a refresh ends, what the program says, how the record stands then, and what the caller is told.
type End = (&'static str, Vec<Reply>, &'static str, ErrorKind);

fn ends() -> [End; 14] {
    let error = |kind: &str, unspent: bool| {
        vec![say(
            &json!({"type": "error", "kind": kind, "message": "no", "unspent": unspent}),
        )]
    };
    let result = |more: Value| {
        let mut line = json!({"type": "result", "access_token": "lie-access", "expires_in": 3600});
        for (key, value) in more.as_object().unwrap() {
            line[key] = value.clone();
        }
        vec![say(&line)]
    };
    [
        (
            "nothing was taken",
            vec![Reply::Took(0)],
            "idle",
            ErrorKind::TryAgain,
        ),
        (
            "some was taken",
            vec![Reply::Took(7)],
            "sent",
            ErrorKind::TryAgain,
        ),
        ("silence", vec![], "sent", ErrorKind::TryAgain),
        (
            "the end",
            vec![Reply::End(1, "boom".to_owned())],
            "sent",
            ErrorKind::TryAgain,
        ),
        ("a flood", vec![Reply::Flood], "sent", ErrorKind::TryAgain),
        (
            "junk",
            vec![Reply::Line("{".to_owned())],
            "sent",
            ErrorKind::TryAgain,
        ),
        (
            "another profile",
            result(json!({"profile": "rig:a"})),
            "sent",
            ErrorKind::TryAgain,
        ),
        (
            "another account",
            result(json!({"account": {"id": "b"}})),
            "parked",
            ErrorKind::LoginNeeded,
        ),
        (
            "transient",
            error("transient", false),
            "sent",
            ErrorKind::TryAgain,
        ),
        ("unspent", error("transient", true), "idle", ErrorKind::TryAgain),
        ("denied", error("denied", false), "idle", ErrorKind::TryAgain),
        ("usage", error("usage", false), "idle", ErrorKind::TryAgain),
        (
            "terminal",
            error("terminal", false),
            "refused",
            ErrorKind::LoginNeeded,
        ),
        (
            "not supported",
            error("not_supported", false),
            "refused",
            ErrorKind::LoginNeeded,
        ),
    ]
}

#[test]
fn every_end_of_a_refresh_means_what_it_should() {
    for (what, replies, want, kind) in ends() {
        let (world, told) = expired(move |_| replies.clone());
        let refused = acquire(&world).unwrap_err();
        assert_eq!(
            (standing(&world), refused.kind()),
            (want, kind),
            "{what}: {refused}"
        );
        assert!(!refused.to_string().contains("canary"), "{what}: {refused}");
        assert_eq!(told.lock().unwrap().len(), 1, "{what}");
        assert_eq!(
            world.stored("main")["prog:a"]["refresh"],
            "refresh-a-canary",
            "{what}"
        );
    }
}

#[test]
fn what_fails_before_the_request_costs_nothing() {
    let (world, told) = expired(|_| Vec::new());
    world
        .test
        .processes
        .push_result(Err(std::io::ErrorKind::PermissionDenied.into()));
    let error = acquire(&world).unwrap_err();
    assert!(error.to_string().contains("cannot be started"), "{error}");
    world.test.processes.on_dialogue(&world.test.clock, |_, _| {
        vec![say(&json!({"type": "hello", "versions": [9]}))]
    });
    let error = acquire(&world).unwrap_err();
    assert!(error.to_string().contains("it speaks versions 9"), "{error}");
    assert_eq!(told.lock().unwrap().len(), 0);
    assert!(
        matches!(standing(&world), "none" | "idle"),
        "{}",
        standing(&world)
    );
}

fn request(method: Option<&str>) -> LoginRequest {
    LoginRequest {
        agent: agent("main"),
        provider: "prog".to_owned(),
        method: method.map(|method| tokensink_types::MethodId::parse(method).unwrap()),
        profile_id: None,
        set_default: false,
        device_code: false,
        no_browser: true,
    }
}

#[test]
fn a_login_tries_the_next_method_and_asks_whose_it_is() {
    let (world, told) = world(
        |request| match (request["action"].as_str(), request["method"].as_str()) {
            (Some("login"), Some("first")) => {
                vec![say(
                    &json!({"type": "error", "kind": "not_supported", "message": "not here"}),
                )]
            }
            (Some("login"), _) => vec![say(
                &json!({"type": "result", "access_token": "at", "expires_in": 60}),
            )],
            _ => vec![say(
                &json!({"type": "result", "account": {"email": "a@example.com"}}),
            )],
        },
    );
    let person = Person::nobody(&world);
    assert!(!person.interactive());
    let outcome = world.sink().login(&request(None), &person).unwrap();
    assert_eq!(outcome.profile, id("prog:a@example.com"));
    assert!(person.said("plugin prog").contains("trying method second"));
    let stored = &world.stored("main")["prog:a@example.com"];
    // The grant finds the method that it came from.
    assert_eq!(stored["clientId"], "plugin:prog:second", "{stored:#}");
    let third = told.lock().unwrap()[2].clone();
    assert_eq!(third["action"], "identity");
    assert_eq!(third["tokens"]["access_token"], "at");
    // Who names a method gets that one or nothing.
    let error = world.sink().login(&request(Some("first")), &person).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "not_supported"));
}

#[test]
fn a_login_that_goes_wrong_stores_nothing() {
    let error = |kind: &str| {
        vec![say(
            &json!({"type": "error", "kind": kind, "message": "no", "retry_after": 9}),
        )]
    };
    let cases = [
        (error("denied"), ErrorKind::Failed, "denied: no"),
        (
            error("transient"),
            ErrorKind::TryAgain,
            "it did not work this time",
        ),
        (error("terminal"), ErrorKind::Failed, "this login is over"),
        (
            error("usage"),
            ErrorKind::Usage,
            "the request or a setting is wrong",
        ),
        (Vec::new(), ErrorKind::Failed, "said nothing for 60 seconds"),
        (
            vec![Reply::Took(3)],
            ErrorKind::Failed,
            "did not take the request",
        ),
        (
            vec![Reply::End(3, "boom".to_owned())],
            ErrorKind::Failed,
            "(exit code 3); it complained: boom",
        ),
        (
            vec![say(
                &json!({"type": "result", "access_token": "at", "profile": "rig:a"}),
            )],
            ErrorKind::Failed,
            "answered for another profile",
        ),
        (
            vec![say(
                &json!({"type": "prompt", "id": "1", "kind": "text", "text": "Name?"}),
            )],
            ErrorKind::Usage,
            "requires an interactive TTY: plugin prog asks \"Name?\"",
        ),
        (
            // A page is open, so the user is waited for, but not for ever.
            vec![say(&json!({"type": "open_url", "url": "https://login.example/"}))],
            ErrorKind::Failed,
            "took longer than 600 seconds",
        ),
    ];
    for (replies, kind, told) in cases {
        let (world, _) = world(move |_| replies.clone());
        let person = Person::nobody(&world);
        let error = world.sink().login(&request(None), &person).unwrap_err();
        assert_eq!(error.kind(), kind, "{told}: {error}");
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert_eq!(world.stored("main"), Value::Null, "{told}");
    }
}
