//! Secrets outside the files, with real files and real programs.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::snapshot::Snapshot;
use crate::support::stage::add_profile;
use crate::world::{Said, World};

/// A secret that must show up on standard output of `token` alone.
const SECRET: &str = "sk-canary-outside-0123456789";

/// Writes a file in the home with these permission bits.
fn put(world: &World, path: &str, text: &str, mode: u32) -> String {
    let path = world.write(path, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A program in the home.
fn program(world: &World, script: &str) -> String {
    put(world, "tools/get", &format!("#!/bin/sh\n{script}\n"), 0o755)
}

/// A home with one profile that refers to the program, whose entry in the config is `entry` besides the command.
fn with_program(script: &str, entry: &Value) -> World {
    let world = World::new();
    let mut provider = json!({"source": "exec", "command": program(&world, script)});
    for (key, value) in entry.as_object().unwrap() {
        provider[key] = value.clone();
    }
    configure(&world, &json!({"vault": provider}));
    add_reference(
        &world,
        "openrouter:vault",
        &json!({"source": "exec", "provider": "vault", "id": "or/key"}),
    );
    world
}

fn configure(world: &World, providers: &Value) {
    let config = json!({"secrets": {"providers": providers}});
    world.write(".openclaw/openclaw.json", &format!("{config:#}\n"));
}

fn add_reference(world: &World, profile: &str, reference: &Value) {
    let entry = json!({"type": "api_key", "provider": "openrouter", "keyRef": reference});
    add_profile(world, "main", profile, entry);
}

fn token(world: &World) -> Said {
    world.run("tokensink token --profile-id openrouter:vault")
}

#[track_caller]
fn nothing_leaks(world: &World, said: &Said) {
    assert!(
        !said.out.contains("canary") && !said.err.contains("canary"),
        "{said:#?}"
    );
    for (path, text) in world.files() {
        assert!(!text.contains(SECRET), "{}", path.display());
    }
}

#[test]
fn a_program_and_a_file_feed_token_and_leave_nothing_on_disk() {
    let script = format!(
        "read -r request; case $request in *'\"ids\":[\"or/key\"]'*) ;; *) exit 9 ;; esac
         echo '{{\"protocolVersion\": 1, \"values\": {{\"or/key\": \"{SECRET}\"}}}}'"
    );
    let world = with_program(&script, &json!({}));
    let said = token(&world).code(0);
    assert_eq!((said.out.trim(), said.err.as_str()), (SECRET, ""));
    let file = put(
        &world,
        "keys.json",
        &json!({"openrouter": {"key": SECRET}}).to_string(),
        0o600,
    );
    configure(&world, &json!({"disk": {"source": "file", "path": file}}));
    add_reference(
        &world,
        "openrouter:vault",
        &json!({"source": "file", "provider": "disk", "id": "/openrouter/key"}),
    );
    assert_eq!(token(&world).code(0).out.trim(), SECRET);
    let child = world.run("tokensink exec --profile-id openrouter:vault -- printenv OPENROUTER_API_KEY");
    assert_eq!(child.code(0).out.trim(), SECRET);
    let status = world.run("tokensink models status").code(0);
    nothing_leaks(&world, &status);
}

#[test]
fn programs_that_misbehave_are_bounded_and_named() {
    let quick = json!({"timeoutMs": 1000});
    let cases = [
        ("sleep 600", &quick, "did not end within 1000 ms and was killed"),
        (
            "trap '' TERM; while :; do sleep 1; done",
            &quick,
            "did not end within",
        ),
        (
            "echo canary; exec sleep 600",
            &json!({"noOutputTimeoutMs": 500}),
            "wrote nothing for 500 ms",
        ),
        (
            "exec yes canary",
            &json!({"maxOutputBytes": 1000}),
            "wrote more than 1000 bytes",
        ),
        (
            "printf '{\"protocolVersion\": 1, \"values\": {\"or/key\": \"can'; printf ary",
            &quick,
            "not JSON (line 1",
        ),
        (
            "echo canary >&2; echo canary; exit 4",
            &quick,
            "ended with exit code 4",
        ),
        ("kill -9 $$", &quick, "ended with exit code 137"),
        ("exec <&-; exec >&-; exec sleep 600", &quick, "did not end within"),
    ];
    for (script, entry, want) in cases {
        let world = with_program(script, entry);
        let begun = Instant::now();
        let said = token(&world).code(1);
        assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
        let named = "the reference exec:vault:or/key gives no value (secrets.providers.vault.";
        assert!(
            said.err.contains(named) && said.err.contains(want),
            "{script}: {said:#?}"
        );
        assert!(said.err.contains("\nfix: ") && said.out.is_empty(), "{said:#?}");
        nothing_leaks(&world, &said);
    }
}

#[test]
fn what_others_can_read_or_replace_is_refused() {
    let world = with_program("echo canary", &json!({"jsonOnly": false}));
    std::fs::set_permissions(world.path("tools/get"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let said = token(&world).code(1);
    assert!(said.err.contains("chmod go-w "), "{said:#?}");
    let file = put(&world, "key.txt", SECRET, 0o644);
    configure(
        &world,
        &json!({"disk": {"source": "file", "path": file, "mode": "singleValue"}}),
    );
    add_reference(
        &world,
        "openrouter:vault",
        &json!({"source": "file", "provider": "disk", "id": "value"}),
    );
    let said = token(&world).code(1);
    assert!(said.err.contains(&format!("fix: chmod 600 {file}")), "{said:#?}");
    nothing_leaks(&world, &said);
    let status = world.run("tokensink models status").code(0);
    assert!(
        status.out.contains("unresolved ref") && status.out.contains("chmod 600"),
        "{status:#?}"
    );
}

#[test]
fn an_oauth_profile_with_a_reference_is_refused_with_its_fields_named() {
    let world = World::new();
    let entry = json!({
        "type": "oauth", "provider": "anthropic", "access": {"source": "exec", "provider": "vault", "id": "a"},
        "refresh": "canary", "expires": 1, "tokenRef": {"source": "env", "id": "A"},
    });
    add_profile(&world, "main", "anthropic:work", entry);
    let said = world.run("tokensink token --provider anthropic").code(1);
    for field in ["access", "tokenRef"] {
        let line =
            format!("profiles.anthropic:work.{field}: a profile of type oauth cannot hold a reference");
        assert!(said.err.contains(&line), "{said:#?}");
    }
    assert!(
        said.err.contains("OAuth + SecretRef is not supported"),
        "{said:#?}"
    );
    nothing_leaks(&world, &said);
}

/// A home with a plain key for `openrouter`, and a program that prints the same key.
fn with_a_plain_key() -> World {
    let world = World::new();
    world
        .feed(
            "tokensink models auth paste-api-key --provider openrouter",
            SECRET,
        )
        .code(0);
    program(&world, "cat ../kept");
    put(&world, "kept", SECRET, 0o600);
    world
}

fn plan(world: &World) -> Value {
    json!({
        "version": 1,
        "targets": [{
            "type": "auth-profiles.api_key.key", "path": "profiles.openrouter:manual.key", "agentId": "main",
            "ref": {"source": "exec", "provider": "kept", "id": "key"},
        }],
        "providerUpserts": {
            "kept": {"source": "exec", "command": world.path("tools/get"), "jsonOnly": false},
        },
    })
}

#[test]
fn an_audit_exits_by_what_it_finds_and_apply_mends_it() {
    let world = with_a_plain_key();
    let said = world.run("tokensink secrets audit").code(0);
    assert!(
        said.out
            .contains("PLAINTEXT_FOUND profiles.openrouter:manual.key"),
        "{said:#?}"
    );
    assert!(!said.out.contains("canary"), "{said:#?}");
    let report = world.run("tokensink secrets audit --check --json").code(1).json();
    assert_eq!(report["findings"][0]["code"], "PLAINTEXT_FOUND");

    let text = plan(&world).to_string();
    let before = Snapshot::of(&world.state(""));
    let refused = world.feed("tokensink secrets apply --from -", &text).code(2);
    assert!(refused.err.contains("--allow-exec"), "{refused:#?}");
    let dry = world
        .feed("tokensink secrets apply --from - --dry-run", &text)
        .code(0);
    assert!(dry.out.contains("nothing was written"), "{dry:#?}");
    assert_eq!(Snapshot::of(&world.state("")).contents(), before.contents());
    world.write("plan.json", &text);
    let done = world
        .run("tokensink secrets apply --from plan.json --allow-exec --json")
        .code(0);
    assert_eq!(done.json()["changes"][1]["value"], "exec:kept:key");
    nothing_leaks(&world, &done);

    world.run("tokensink secrets audit --check --allow-exec").code(0);
    assert_eq!(
        world
            .run("tokensink token --provider openrouter")
            .code(0)
            .out
            .trim(),
        SECRET
    );
    let reload = world.run("tokensink secrets reload --json").code(0).json();
    assert_eq!(reload, json!({"resolved": 1, "failed": [], "announced": true}));
    std::fs::remove_file(world.path("kept")).unwrap();
    let reload = world.run("tokensink secrets reload").code(1);
    assert!(reload.out.contains("exec:kept:key gives no value"), "{reload:#?}");
    let audit = world.run("tokensink secrets audit --check --allow-exec").code(1);
    assert!(audit.out.contains("REF_UNRESOLVED"), "{audit:#?}");
}

#[test]
fn a_value_that_differs_is_not_replaced() {
    let world = with_a_plain_key();
    put(&world, "kept", "sk-canary-of-another-account", 0o600);
    let text = plan(&world).to_string();
    let before = Snapshot::of(&world.state(""));
    let said = world
        .feed("tokensink secrets apply --from - --allow-exec", &text)
        .code(1);
    assert!(
        said.err.contains("gives another value") && !said.err.contains("canary"),
        "{said:#?}"
    );
    assert_eq!(Snapshot::of(&world.state("")).contents(), before.contents());
    assert_eq!(
        world
            .run("tokensink token --provider openrouter")
            .code(0)
            .out
            .trim(),
        SECRET
    );
}

#[test]
fn configure_asks_its_way_from_a_plain_key_to_a_reference() {
    let world = with_a_plain_key();
    let program = format!("{}\r", world.path("tools/get").display());
    let dialogue = [
        ("Add a secret provider?", "\u{1b}[B\r"),
        ("Its alias", "kept\r"),
        ("Path of the program", program.as_str()),
        ("Its arguments", "\r"),
        ("Variables that it needs", "\r"),
        ("just the secret", "y\r"),
        ("Add a secret provider?", "\r"),
        ("Which secrets become references?", " \r"),
        ("Where is openrouter:manual", "\u{1b}[B\r"),
        ("Its id there", "key\r"),
        ("Apply it now?", "y\r"),
    ];
    let said = world
        .on_terminal("tokensink secrets configure", &dialogue)
        .code(0);
    assert!(said.out.contains("2 changes written"), "{}", said.out);
    nothing_leaks(&world, &said);
    assert_eq!(
        world
            .run("tokensink token --provider openrouter")
            .code(0)
            .out
            .trim(),
        SECRET
    );
    let said = world.run("tokensink secrets configure").code(2);
    assert!(
        said.err.contains("needs a terminal") && said.err.contains("secrets apply --from"),
        "{said:#?}"
    );
}
