//! What a reference leads to, and what is kept of it.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_testkit::{Start, Started};
use tokensink_types::Secret;

use super::{COMMAND, FILE, answer, exec_ref, runs, with_ref};
use crate::calls::CallOutcome;
use crate::error::ErrorKind;
use crate::lease::{AcquireRequest, Lease, Want};
use crate::secrets::memory::EXEC_KEPT;
use crate::sink::Sink;
use crate::world::{World, agent, id};

/// A machine with a file provider `disk`, a program `vault`, and these profiles.
fn world(profiles: &Value) -> World {
    let world = World::new();
    world.test.files.put(COMMAND, "#!", 0o755);
    configure(&world, &json!({"command": COMMAND}));
    world.store("main", profiles);
    world
}

fn configure(world: &World, exec: &Value) {
    let mut vault = json!({"source": "exec"});
    for (key, value) in exec.as_object().unwrap() {
        vault[key] = value.clone();
    }
    let config = json!({"secrets": {"providers": {
        "vault": vault,
        "disk": {"source": "file", "path": FILE},
        "whole": {"source": "file", "path": "/home/user/one", "mode": "singleValue"},
        "few": {"source": "env", "allowlist": ["ALLOWED"]},
    }}});
    world.put("openclaw.json", &config.to_string());
}

/// A program that answers every id with `secret-<id>-<number of this run>`.
fn answering(started: &Started) -> Value {
    let request: Value = serde_json::from_str(&started.input).unwrap();
    assert_eq!(request["protocolVersion"], 1);
    assert_eq!(request["provider"], "vault");
    let ids = request["ids"].as_array().unwrap().clone();
    let values: serde_json::Map<String, Value> = ids
        .iter()
        .map(|id| {
            (
                id.as_str().unwrap().to_owned(),
                json!(format!("secret-{}", id.as_str().unwrap())),
            )
        })
        .collect();
    json!({"protocolVersion": 1, "values": values})
}

fn ask(sink: &Sink, profile: &str) -> crate::Result<Lease> {
    sink.acquire(&AcquireRequest::new(agent("main"), Want::Profile(id(profile))))
}

fn token(sink: &Sink, profile: &str) -> String {
    ask(sink, profile).unwrap().secret.expose().to_owned()
}

#[track_caller]
fn refused(sink: &Sink, profile: &str) -> String {
    let error = ask(sink, profile).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Failed, "unresolved_ref"),
        "{error}"
    );
    format!("{error} | {}", error.fix().unwrap())
}

#[test]
fn each_source_gives_its_value() {
    let world = world(&json!({
        "rig:exec": with_ref(&exec_ref("team/rig#key")),
        "rig:file": with_ref(&json!({"source": "file", "provider": "disk", "id": "/keys/a~1b/0"})),
        "rig:one": {"type": "token", "provider": "rig", "tokenRef": {"source": "file", "provider": "whole", "id": "value"}},
        "rig:env": with_ref(&json!({"source": "env", "id": "RIG_KEY"})),
        "rig:place": {"type": "api_key", "provider": "rig", "key": exec_ref("in-place")},
        "rig:template": {"type": "api_key", "provider": "rig", "key": "${RIG_KEY}"},
        "rig:literal": {"type": "api_key", "provider": "rig", "key": "${UNSET_KEY}"},
        "rig:both": {"type": "api_key", "provider": "rig", "key": "plain", "keyRef": exec_ref("unused")},
    }));
    world
        .test
        .files
        .put(FILE, r#"{"keys": {"a/b": ["from-file"]}}"#, 0o600);
    world.test.files.put("/home/user/one", "  whole file\r\n", 0o400);
    world.test.env.set("RIG_KEY", "from-env");
    world
        .test
        .processes
        .on_start(|started| Ok(answering(started).to_string().into_bytes()));
    let sink = world.sink();
    let cases = [
        ("rig:exec", "secret-team/rig#key"),
        ("rig:file", "from-file"),
        ("rig:one", "whole file"),
        ("rig:env", "from-env"),
        ("rig:place", "secret-in-place"),
        ("rig:template", "from-env"),
        ("rig:literal", "${UNSET_KEY}"),
        ("rig:both", "plain"),
    ];
    for (profile, want) in cases {
        assert_eq!(token(&sink, profile), want, "{profile}");
    }
    assert_eq!(
        runs(&world),
        2,
        "one for each exec reference, none for the shadowed one"
    );
    assert_eq!(world.files_with("secret-team"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_program_sees_what_it_was_given_and_no_more() {
    let world = world(&json!({"rig:a": with_ref(&exec_ref("a"))}));
    configure(
        &world,
        &json!({
            "command": COMMAND, "args": ["--json", "$HOME"], "env": {"FIXED": "yes"}, "passEnv": ["TOKEN_FILE", "UNSET"],
        }),
    );
    world.test.env.set("TOKEN_FILE", "/t");
    world.test.env.set("OTHER_SECRET", "canary");
    world
        .test
        .processes
        .on_start(|started| Ok(answering(started).to_string().into_bytes()));
    let sink = world.sink();
    assert_eq!(token(&sink, "rig:a"), "secret-a");
    let started = world.test.processes.started();
    let run = started.iter().find(|one| one.start == Start::Bounded).unwrap();
    let env: Vec<(&str, &str)> = run
        .set_env
        .iter()
        .map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()))
        .collect();
    assert_eq!(env, [("TOKEN_FILE", "/t"), ("FIXED", "yes")]);
    assert_eq!(run.args, ["--json", "$HOME"], "no shell");
    assert_eq!(run.dir.as_deref(), Some(std::path::Path::new("/home/user/bin")));
}

#[test]
fn answers_that_are_none_say_why_and_never_what() {
    let cases: [(&str, &str); 12] = [
        ("", "printed nothing"),
        ("canary", "not JSON (line 1, column 1)"),
        ("\"canary\"", "printed a string instead of an object"),
        ("[\"canary\"]", "printed a list"),
        (r#"{"values": {"a": "canary"}}"#, "without \"protocolVersion\": 1"),
        (
            r#"{"protocolVersion": 2, "values": {"a": "canary"}}"#,
            "without \"protocolVersion\": 1",
        ),
        (
            r#"{"protocolVersion": 1, "values": ["canary"]}"#,
            "\"values\" is no object",
        ),
        (r#"{"protocolVersion": 1, "values": {"b": "canary"}}"#, "lacks it"),
        (
            r#"{"protocolVersion": 1, "values": {"a": 7}}"#,
            "a number instead of a text",
        ),
        (
            r#"{"protocolVersion": 1, "values": {"a": " "}}"#,
            "nothing but white space",
        ),
        (
            r#"{"protocolVersion": 1, "values": {"a": "__OPENCLAW_REDACTED__"}}"#,
            "placeholder",
        ),
        (
            r#"{"protocolVersion": 1, "values": {"b": "canary"}, "errors": {"a": {"message": "no canary here"}}}"#,
            "is not shown",
        ),
    ];
    for (output, want) in cases {
        let world = world(&json!({"rig:a": with_ref(&exec_ref("a"))}));
        world
            .test
            .processes
            .on_start(move |_| Ok(output.as_bytes().to_vec()));
        let said = refused(&world.sink(), "rig:a");
        assert!(
            said.contains("the reference exec:vault:a gives no value (secrets.providers.vault."),
            "{said}"
        );
        assert!(
            said.contains(want) && !said.contains("canary"),
            "{output}: {said}"
        );
    }
    let world = world(&json!({"rig:a": with_ref(&exec_ref("a"))}));
    answer(
        &world,
        json!({"protocolVersion": 1, "values": {}, "errors": {"a": {"message": "sealed\nvault"}}}),
    );
    let said = refused(&world.sink(), "rig:a");
    assert!(said.contains("the program says: sealed vault"), "{said}");
}

#[test]
fn a_program_that_prints_just_the_secret_is_asked_for_one_at_a_time() {
    let world = world(&json!({
        "rig:a": with_ref(&exec_ref("a")),
        "rig:b": with_ref(&exec_ref("b")),
    }));
    configure(&world, &json!({"command": COMMAND, "jsonOnly": false}));
    let cases: [(&str, &str); 5] = [
        ("sk-plain\n", "sk-plain"),
        ("\"sk-quoted\"", "sk-quoted"),
        ("1234567890123456789012345", "1234567890123456789012345"),
        ("{broken", "{broken"),
        (
            r#"{"protocolVersion": 1, "values": {"a": "asked", "b": "asked"}}"#,
            "asked",
        ),
    ];
    for (output, want) in cases {
        world
            .test
            .processes
            .on_start(move |_| Ok(output.as_bytes().to_vec()));
        let sink = world.sink();
        assert_eq!(token(&sink, "rig:a"), want);
        let before = runs(&world);
        assert_eq!(sink.reload_secrets(false).unwrap().failed, []);
        assert_eq!(runs(&world), before + 2);
    }
}

#[test]
fn wrong_references_and_providers_are_told_by_name() {
    let reference =
        |source: &str, provider: &str, id: &str| json!({"source": source, "provider": provider, "id": id});
    let cases = [
        (
            reference("exec", "none", "a"),
            "secrets.providers.none): no such provider",
        ),
        (reference("exec", "disk", "a"), "(secrets.providers.disk.source)"),
        (reference("store", "vault", "a"), "there is no source \"store\""),
        (reference("exec", "vault", "../a"), "the id is not"),
        (reference("file", "disk", "keys"), "JSON pointer"),
        (reference("file", "disk", "value"), "the id must be a pointer"),
        (reference("file", "disk", "/none"), "holds nothing at /none"),
        (
            reference("file", "disk", "/deep"),
            "holds an object, not a string, at /deep",
        ),
        (reference("file", "whole", "/a"), "the only id is \"value\""),
        (
            reference("env", "few", "OTHER"),
            "not on the provider's allowlist",
        ),
        (reference("env", "few", "ALLOWED"), "variable ALLOWED is not set"),
    ];
    for (reference, want) in cases {
        let world = world(&json!({"rig:a": with_ref(&reference)}));
        world.test.files.put(FILE, r#"{"keys": {}, "deep": {}}"#, 0o600);
        world.test.files.put("/home/user/one", "canary", 0o600);
        world.test.env.set("OTHER", "canary");
        let sink = world.sink();
        let said = refused(&sink, "rig:a");
        assert!(
            said.contains(want) && said.starts_with("rig:a: the reference "),
            "{said} lacks {want}"
        );
        assert!(!said.contains("canary"), "{said}");
        let status = sink.status(&agent("main")).unwrap();
        assert_eq!(status.profiles[0].state.word(), "unresolved_ref", "{want}");
        assert_eq!(status.check_all, 1);
    }
}

#[test]
fn files_that_others_could_have_written_are_refused_and_status_runs_no_program() {
    let world = world(&json!({
        "rig:exec": with_ref(&exec_ref("a")),
        "rig:file": with_ref(&json!({"source": "file", "provider": "disk", "id": "/a"})),
    }));
    world.test.files.put(FILE, r#"{"a": "canary"}"#, 0o644);
    world.test.files.put(COMMAND, "#!", 0o777);
    let sink = world.sink();
    assert!(refused(&sink, "rig:file").contains(&format!("chmod 600 {FILE}")));
    assert!(refused(&sink, "rig:exec").contains(&format!("chmod go-w {COMMAND}")));
    sink.status(&agent("main")).unwrap();
    assert_eq!(runs(&world), 0);
}

#[test]
fn one_reference_runs_one_program_and_its_answer_is_kept_for_a_while() {
    let world = world(&json!({
        "rig:a": with_ref(&exec_ref("a")),
        "rig:b": with_ref(&exec_ref("b")),
    }));
    world
        .test
        .processes
        .on_start(|started| Ok(answering(started).to_string().into_bytes()));
    let sink = world.sink();
    token(&sink, "rig:a");
    token(&sink, "rig:a");
    assert_eq!(runs(&world), 1);
    let request = world.test.processes.started()[0].input.clone();
    assert_eq!(request, r#"{"protocolVersion":1,"provider":"vault","ids":["a"]}"#);
    token(&sink, "rig:b");
    assert_eq!(runs(&world), 2);
    world.test.clock.advance(EXEC_KEPT);
    token(&sink, "rig:b");
    token(&sink, "rig:a");
    assert_eq!(runs(&world), 3, "what belongs together is asked for together");
    let request = world.test.processes.started()[2].input.clone();
    assert!(request.ends_with(r#""ids":["a","b"]}"#), "{request}");
}

#[test]
fn a_changed_file_is_seen_at_once_and_a_broken_one_keeps_the_last_good_value() {
    let world = world(&json!({
        "rig:file": with_ref(&json!({"source": "file", "provider": "disk", "id": "/a"})),
    }));
    world.test.files.put(FILE, r#"{"a": "first"}"#, 0o600);
    world.test.clock.advance(Duration::from_secs(10));
    let sink = world.sink();
    assert_eq!(token(&sink, "rig:file"), "first");
    world.test.files.put(FILE, r#"{"a": "second"}"#, 0o600);
    assert_eq!(token(&sink, "rig:file"), "second");
    world.test.files.put(FILE, r#"{"a": "#, 0o600);
    let lease = ask(&sink, "rig:file").unwrap();
    assert_eq!(lease.secret.expose(), "second");
    let note = lease.note.unwrap();
    assert!(
        note.starts_with("SECRETS_RELOADER_DEGRADED: the last good value"),
        "{note}"
    );
    assert!(
        note.contains("file:disk:/a") && note.contains("not JSON (line 1"),
        "{note}"
    );
    let warnings = |sink: &Sink| sink.status(&agent("main")).unwrap().warnings;
    assert!(warnings(&sink)[0].starts_with("SECRETS_RELOADER_DEGRADED: "));
    world.test.files.put(FILE, r#"{"a": "third"}"#, 0o600);
    let lease = ask(&sink, "rig:file").unwrap();
    assert_eq!((lease.secret.expose(), &lease.note), ("third", &None));
    assert_eq!(
        warnings(&sink),
        ["SECRETS_RELOADER_RECOVERED: every reference gives a value again"]
    );
    assert_eq!(warnings(&sink), [""; 0], "said once");
    // Another process has no last good value.
    world.test.files.put(FILE, "{", 0o600);
    refused(&world.sink(), "rig:file");
}

#[test]
fn a_reload_swaps_all_or_nothing_and_is_repeated_with_patience() {
    let world = world(&json!({
        "rig:a": with_ref(&exec_ref("a")),
        "rig:file": with_ref(&json!({"source": "file", "provider": "disk", "id": "/a"})),
    }));
    world.test.files.put(FILE, r#"{"a": "first"}"#, 0o600);
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "one"}}));
    world.test.clock.advance(Duration::from_secs(10));
    let sink = world.sink();
    assert_eq!(
        (token(&sink, "rig:a"), token(&sink, "rig:file")),
        ("one".to_owned(), "first".to_owned())
    );
    world.test.files.put(FILE, r#"{"a": "second"}"#, 0o600);
    world
        .test
        .processes
        .on_start(|_| Err(io::ErrorKind::TimedOut.into()));
    let reload = sink.reload_secrets(false).unwrap();
    assert_eq!((reload.resolved, reload.failed.len(), reload.kept), (1, 1, 1));
    assert!(
        reload.failed[0].0.contains("did not end within 5000 ms"),
        "{reload:?}"
    );
    let before = runs(&world);
    assert_eq!(
        (token(&sink, "rig:a"), token(&sink, "rig:file")),
        ("one".to_owned(), "first".to_owned())
    );
    assert_eq!(runs(&world), before, "not tried again at once");
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "two"}}));
    world.test.clock.advance(Duration::from_secs(31));
    assert_eq!(
        (token(&sink, "rig:a"), token(&sink, "rig:file")),
        ("two".to_owned(), "second".to_owned())
    );
}

/// What was believed of a key is not believed of the one that its reference gives now.
#[test]
fn another_secret_behind_a_reference_begins_anew() {
    let world = world(&json!({
        "rig:file": with_ref(&json!({"source": "file", "provider": "disk", "id": "/a"})),
        "rig:other": with_ref(&json!({"source": "file", "provider": "disk", "id": "/b"})),
    }));
    let put = |a: &str| {
        let text = json!({"a": a, "b": "other"}).to_string();
        world.test.files.put(FILE, text, 0o600);
    };
    put("revoked");
    let sink = world.sink();
    let refused = CallOutcome::Failed {
        status: Some(401),
        headers: &http::HeaderMap::new(),
        body: br#"{"error":{"message":"this key has been revoked"}}"#,
    };
    for profile in ["rig:file", "rig:other"] {
        let lease = ask(&sink, profile).unwrap();
        sink.report(&lease, &refused).unwrap();
    }
    let any = || {
        let request = AcquireRequest {
            wait: Duration::ZERO,
            ..AcquireRequest::new(agent("main"), Want::Provider("rig".into()))
        };
        sink.acquire(&request)
    };
    world.sink().reload_secrets(true).unwrap();
    assert_eq!(any().unwrap_err().code(), "all_benched", "they are the same");
    world.test.clock.advance(Duration::from_secs(1));
    put("new");
    world.sink().reload_secrets(true).unwrap();
    world.test.clock.advance(Duration::from_secs(2));
    let lease = any().unwrap();
    assert_eq!(
        (lease.profile.as_str(), lease.secret.expose()),
        ("rig:file", "new")
    );
    sink.report(&lease, &refused).unwrap();
    assert_eq!(
        any().unwrap_err().code(),
        "all_benched",
        "nothing was forgotten of the other"
    );
}

#[test]
fn the_config_and_other_processes_make_values_due() {
    let world = world(&json!({"rig:a": with_ref(&exec_ref("a"))}));
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "one"}}));
    let sink = world.sink();
    assert_eq!(token(&sink, "rig:a"), "one");
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "two"}}));
    assert_eq!(token(&sink, "rig:a"), "one");
    configure(&world, &json!({"command": COMMAND, "args": ["other"]}));
    world.test.clock.advance(Duration::from_secs(2));
    assert_eq!(token(&sink, "rig:a"), "two");
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "three"}}));
    assert!(world.sink().reload_secrets(true).unwrap().announced);
    world.test.clock.advance(Duration::from_secs(2));
    assert_eq!(token(&sink, "rig:a"), "three");
    // A config that takes the provider away keeps the last good value too.
    world.put("openclaw.json", "{}");
    world.test.clock.advance(Duration::from_secs(2));
    let lease = ask(&sink, "rig:a").unwrap();
    assert_eq!(lease.secret.expose(), "three");
    assert!(lease.note.unwrap().contains("no such provider"));
}

#[test]
fn a_value_that_the_api_rejected_is_looked_up_again() {
    let world = world(&json!({"rig:a": with_ref(&exec_ref("a"))}));
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "one"}}));
    let sink = world.sink();
    assert_eq!(token(&sink, "rig:a"), "one");
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "two"}}));
    let ask = || {
        let mut request = AcquireRequest::new(agent("main"), Want::Profile(id("rig:a")));
        request.rejected = Some(Secret::new("one"));
        sink.acquire(&request).unwrap().secret.clone()
    };
    assert_eq!(ask().expose(), "one", "it was looked up just now");
    world.test.clock.advance(Duration::from_secs(6));
    assert_eq!(ask().expose(), "two");
}

#[test]
fn what_is_no_longer_referred_to_does_not_hold_the_others_back() {
    let world = world(&json!({
        "rig:a": with_ref(&exec_ref("a")),
        "rig:b": with_ref(&exec_ref("b")),
    }));
    world
        .test
        .processes
        .on_start(|started| Ok(answering(started).to_string().into_bytes()));
    let sink = world.sink();
    token(&sink, "rig:a");
    token(&sink, "rig:b");
    world.store("main", &json!({"rig:a": with_ref(&exec_ref("a"))}));
    answer(&world, json!({"protocolVersion": 1, "values": {"a": "new"}}));
    world.test.clock.advance(EXEC_KEPT);
    assert_eq!(token(&sink, "rig:a"), "new");
}

#[test]
fn limits_on_batches_and_references() {
    let many: serde_json::Map<String, Value> = (0..5)
        .map(|n| (format!("rig:{n}"), with_ref(&exec_ref(&format!("id-{n}")))))
        .collect();
    let cases = [
        (
            json!({"maxRefsPerProvider": 4}),
            "at most 4 are resolved together",
        ),
        (json!({"maxBatchBytes": 60}), "larger than 60 bytes"),
    ];
    for (resolution, want) in cases {
        let world = world(&Value::Object(many.clone()));
        let config = json!({"secrets": {"resolution": resolution, "providers": {
            "vault": {"source": "exec", "command": COMMAND},
        }}});
        world.put("openclaw.json", &config.to_string());
        let reload = world.sink().reload_secrets(false).unwrap();
        assert_eq!((reload.resolved, reload.failed.len()), (0, 5));
        assert!(reload.failed[0].0.contains(want), "{reload:?}");
        assert_eq!(runs(&world), 0);
    }
}

#[test]
fn providers_are_asked_at_the_same_time_within_the_limit() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    let mut profiles = serde_json::Map::new();
    let mut providers = serde_json::Map::new();
    for n in 0..4 {
        let reference = json!({"source": "exec", "provider": format!("p{n}"), "id": "a"});
        profiles.insert(format!("rig:{n}"), with_ref(&reference));
        providers.insert(format!("p{n}"), json!({"source": "exec", "command": COMMAND}));
    }
    let world = world(&Value::Object(profiles));
    let config = json!({"secrets": {"providers": providers, "resolution": {"maxProviderConcurrency": 2}}});
    world.put("openclaw.json", &config.to_string());
    // Two must be at work at once for either to go on; a third would be seen.
    let barrier = Arc::new(Barrier::new(2));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    world.test.processes.on_start(move |_| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        barrier.wait();
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(json!({"protocolVersion": 1, "values": {"a": "x"}})
            .to_string()
            .into_bytes())
    });
    let reload = world.sink().reload_secrets(false).unwrap();
    assert_eq!((reload.resolved, reload.failed.len()), (4, 0));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn an_oauth_profile_with_a_reference_is_refused_with_its_fields_named() {
    let oauth = |name: &str, edit: fn(&mut Value)| {
        let mut entry = crate::world::oauth("rig", name);
        edit(&mut entry);
        entry
    };
    type Edit = fn(&mut Value);
    let cases: [(Edit, &[&str]); 4] = [
        (|entry| entry["refresh"] = exec_ref("r"), &["refresh"]),
        (|entry| entry["keyRef"] = exec_ref("r"), &["keyRef"]),
        (
            |entry| {
                entry["access"] = json!("${RIG_ACCESS}");
                entry["tokenRef"] = exec_ref("t");
            },
            &["access", "tokenRef"],
        ),
        (
            |entry| entry["refresh"] = json!("secretref-env:RIG_REFRESH"),
            &["refresh"],
        ),
    ];
    for (edit, fields) in cases {
        let world = world(&json!({"rig:alice": oauth("alice", edit)}));
        let sink = world.sink();
        let error = ask(&sink, "rig:alice").unwrap_err();
        assert_eq!(error.code(), "oauth_reference");
        let text = error.to_string();
        assert!(text.contains("OAuth + SecretRef is not supported"), "{text}");
        for field in fields {
            assert!(
                text.contains(&format!("\nprofiles.rig:alice.{field}: ")),
                "{text}"
            );
        }
        assert_eq!(text.lines().count(), 1 + fields.len());
        let inherited = AcquireRequest::new(agent("work"), Want::Provider("rig".to_owned()));
        assert_eq!(sink.acquire(&inherited).unwrap_err().code(), "oauth_reference");
    }
}
