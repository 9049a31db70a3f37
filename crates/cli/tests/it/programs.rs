//! Plugins with a program: the documented examples against a strict server, and programs that mean harm.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;
use tokensink_authserver::{DeviceConfig, GrantType, ServerConfig};

use crate::support::stage::{ONE_LIFE, Stage, add_profile, run_at, stored};
use crate::world::{API_KEY, BROWSER, Said, World};

/// A home into which an example was installed that logs in at the stage's server.
fn with_example(name: &str, config: ServerConfig) -> Stage {
    let stage = Stage::new(config);
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/plugins")
        .join(name);
    let settings = format!("[plugins.{name}]\nserver = \"{}\"\n", stage.server.url(""));
    stage.world.write(".openclaw/tokensink/config.toml", &settings);
    let said = stage
        .world
        .run(&format!("tokensink plugins install {} --yes", source.display()))
        .code(0);
    assert!(said.out.contains("it runs as you"), "{said:#?}");
    stage
}

#[test]
fn the_python_example_logs_in_refreshes_and_revokes() {
    let stage = with_example("python-rig", ServerConfig::default());
    let world = &stage.world;
    let said = world
        .run_with(
            "tokensink models auth login --provider python-rig",
            None,
            &[("BROWSER", BROWSER)],
        )
        .code(0);
    assert!(
        said.out.contains("Auth profile: python-rig:alice@example.com"),
        "{said:#?}"
    );
    assert!(said.err.contains("python-rig: fetching the tokens"), "{said:#?}");
    let first = world.run("tokensink token --provider python-rig").code(0).out;
    stage.assert_works(&first);
    let kept = stored(world, "main", "python-rig:alice@example.com");
    assert_eq!(
        (kept["type"].as_str(), kept["email"].as_str()),
        (Some("oauth"), Some("alice@example.com"))
    );

    let second = run_at(world, "tokensink token --provider python-rig", ONE_LIFE)
        .code(0)
        .out;
    assert_ne!(first, second);
    let renewed = run_at(world, "tokensink renew --json", 2 * ONE_LIFE).code(0).out;
    assert!(renewed.contains("\"renewed\""), "{renewed}");
    stage.assert_refreshes(2);

    let said = run_at(
        world,
        "tokensink models auth logout python-rig:alice@example.com --revoke",
        2 * ONE_LIFE,
    )
    .code(0);
    assert!(said.out.contains("evoked"), "{said:#?}");
    assert_eq!(
        stage.server.ledger().revocations,
        1,
        "{:#?}",
        stage.server.ledger()
    );
}

#[test]
fn the_shell_example_logs_in_without_a_browser_and_tells_whose_login_it_is() {
    let device = DeviceConfig {
        interval_seconds: 1,
        approve_at_poll: Some(1),
        ..DeviceConfig::default()
    };
    let stage = with_example(
        "shell-rig",
        ServerConfig {
            device,
            ..ServerConfig::default()
        },
    );
    let world = &stage.world;
    let said = world
        .run("tokensink models auth login --provider shell-rig")
        .code(0);
    assert!(said.err.contains("shell-rig: enter the code "), "{said:#?}");
    assert!(
        said.out.contains("Auth profile: shell-rig:alice@example.com"),
        "{said:#?}"
    );
    let first = world.run("tokensink token --provider shell-rig").code(0).out;
    let second = run_at(world, "tokensink token --provider shell-rig", ONE_LIFE)
        .code(0)
        .out;
    assert_ne!(first, second);
    stage.assert_refreshes(1);
    // What the server refuses for good ends in a login, not in more requests.
    assert_eq!(stage.server.revoke_account("alice"), 1);
    let said = run_at(world, "tokensink token --provider shell-rig", 3 * ONE_LIFE).code(3);
    assert!(
        said.err.contains("models auth login --provider shell-rig"),
        "{said:#?}"
    );
    run_at(world, "tokensink token --provider shell-rig", 3 * ONE_LIFE).code(3);
    assert_eq!(stage.server.ledger().posts(GrantType::RefreshToken), 2);
}

/// What a conformance run came to: each scenario's id with its outcome.
fn outcomes(said: &Said) -> Vec<(String, Option<bool>)> {
    let report = said.json();
    let scenarios = report["scenarios"].as_array().unwrap();
    let pairs = scenarios.iter().map(|scenario| {
        let id = scenario["id"].as_str().unwrap().to_owned();
        (id, scenario["passed"].as_bool())
    });
    pairs
        .filter(|(id, _)| id != "readable" && id != "definition")
        .collect()
}

#[test]
fn the_examples_conform() {
    let device = DeviceConfig {
        interval_seconds: 1,
        approve_at_poll: Some(1),
        ..DeviceConfig::default()
    };
    for (name, identity) in [("python-rig", "identity"), ("shell-rig", "identity")] {
        let config = ServerConfig {
            device: device.clone(),
            ..ServerConfig::default()
        };
        let stage = with_example(name, config);
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/plugins")
            .join(name);
        let line = format!("tokensink plugins check {} --login --json", source.display());
        let said = stage.world.run_with(&line, None, &[("BROWSER", BROWSER)]).code(0);
        let wanted = [
            "hello",
            "end_of_input",
            "unknown_request",
            "unknown_token",
            "login",
            identity,
            "refresh",
            "revoke",
        ];
        let wanted: Vec<(String, Option<bool>)> = wanted.map(|id| (id.to_owned(), Some(true))).into();
        assert_eq!(outcomes(&said), wanted, "{name}: {said:#?}");
        // Nothing of it was stored.
        let listed = stage
            .world
            .run("tokensink models auth list --json")
            .code(0)
            .json();
        assert_eq!(listed["profiles"], json!([]), "{name}");
    }
}

#[test]
fn a_program_that_does_not_conform_is_told_why() {
    let world = World::new();
    install_rogue(&world, "junk");
    let said = world.run("tokensink plugins check rogue --json").code(1);
    let outcomes = outcomes(&said);
    let failed: Vec<&str> = outcomes
        .iter()
        .filter(|(_, passed)| *passed == Some(false))
        .map(|(id, _)| id.as_str())
        .collect();
    assert_eq!(failed, ["unknown_request", "unknown_token"], "{said:#?}");
    let mute = World::new();
    install_rogue(&mute, "mute");
    let said = mute.run("tokensink plugins check rogue").code(1);
    assert!(
        said.out.contains("hello") && said.out.contains("took longer than 1 seconds"),
        "{said:#?}"
    );
}

const ROGUE: &str = r#"#!/bin/sh
say() { printf '%s\n' "$1"; }
[ "$1" = mute ] && exec sleep 600
say '{"type": "hello", "versions": [1]}'
IFS= read -r request
log=$(printf '%s' "$request" | sed -n 's/.*"log":"\([^"]*\)".*/\1/p')
printf '%s\n' "$request" >> "$log"
env >> "$log.env"
act() {
    case $1 in
        hang) sleep 600 & sleep 600 ;;
        flood) while :; do say '{"type": "progress", "text": "still at it"}'; done ;;
        endless) while :; do printf 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'; done ;;
        crash) printf 'I had %s\n' "$request" >&2; exit 7 ;;
        junk) say 'certainly' ;;
        empty) say '{"type": "result"}' ;;
        other-profile) say '{"type": "result", "access_token": "lie-access", "expires_in": 3600, "profile": "anthropic:work"}' ;;
        other-account) say '{"type": "result", "access_token": "lie-access", "refresh_token": "lie-refresh", "expires_in": 3600, "account": {"id": "somebody-else"}}' ;;
        past) say '{"type": "result", "access_token": "lie-access", "refresh_token": "lie-refresh", "expires_at": 1000}' ;;
        same) say '{"type": "result", "access_token": "access-canary-000000", "refresh_token": "refresh-canary-000000", "expires_in": 1}' ;;
        ask) say '{"type": "prompt", "id": "1", "kind": "secret", "text": "Your password for everything?"}'; sleep 600 ;;
        terminal) say '{"type": "error", "kind": "terminal", "message": "revoked"}' ;;
        not-now) say '{"type": "error", "kind": "transient", "unspent": true, "message": "busy"}' ;;
    esac
}
act "$1"
"#;

const ROGUE_DEFINITION: &str = r#"
id = "rogue"
billing = "free"
[api]
kind = "none"
[[auth]]
id = "oauth"
kind = "program"
plugin = "rogue"
"#;

/// Installs a program that does `what`, with limits that a test can wait for.
fn install_rogue(world: &World, what: &str) {
    let manifest = format!(
        "id = \"rogue\"\nversion = \"1\"\nprotocol = [1]\nprogram = \"rogue.sh\"\nargs = [{what:?}]\n\
         providers = [\"rogue.toml\"]\nactions = [\"login\", \"refresh\", \"revoke\"]\nenv = [\"ROGUE_REGION\"]\n\
         [settings.log]\ndefault = \"{}\"\n[limits]\nhello_seconds = {}\nanswer_seconds = {}\n",
        world.path("runs").display(),
        if what == "mute" { 1 } else { 20 },
        if what == "hang" { 1 } else { 20 },
    );
    world.write("rogue/plugin.toml", &manifest);
    world.write("rogue/rogue.toml", ROGUE_DEFINITION);
    let program = world.write("rogue/rogue.sh", ROGUE);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    world
        .run("tokensink plugins install rogue --yes --replace")
        .code(0);
}

/// How often it was asked something.
fn runs(world: &World) -> usize {
    std::fs::read_to_string(world.path("runs")).map_or(0, |text| text.lines().count())
}

/// A home with a program that does `what`, an expired login of it, and a key of another provider.
fn rogue(what: &str) -> World {
    let world = World::new();
    install_rogue(&world, what);
    add_profile(
        &world,
        "main",
        "rogue:alice",
        json!({"type": "oauth", "provider": "rogue", "access": "access-canary-000000",
               "refresh": "refresh-canary-000000", "expires": 1_000, "accountId": "alice"}),
    );
    world.store_key("openrouter");
    world
}

fn token(world: &World) -> Said {
    let variables = [
        ("ROGUE_REGION", "eu"),
        ("OPENROUTER_API_KEY", "env-canary"),
        ("ANTHROPIC_API_KEY", "env-canary"),
    ];
    world.run_with("tokensink token --provider rogue --wait 2s", None, &variables)
}

/// Whose patience ends when a refresh has begun again is told of that one, not of the first.
fn has_begun_again(said: &Said) -> bool {
    said.code == 75 && (said.err.contains("still under way") || said.err.contains("never arrived"))
}

/// What the back-off lets through in the time of a test.
const SOME: usize = 8;

/// One program that means harm: what it does, the exit code that follows, what is told, and how often it may be run
/// when it is asked for twice.
type Case = (&'static str, i32, &'static str, usize);

const HARMFUL: &[Case] = &[
    ("mute", 75, "plugin rogue took longer than 1 seconds", 0),
    ("hang", 75, "plugin rogue took longer than 1 seconds", SOME),
    ("flood", 75, "it sent more than 1000 messages", SOME),
    (
        "endless",
        75,
        "said too much: a line of more than 65536 bytes",
        SOME,
    ),
    (
        "crash",
        75,
        "ended without an answer (exit code 7); it complained: I had",
        SOME,
    ),
    ("junk", 75, "it said something that is not a JSON object", SOME),
    ("empty", 75, "there is no access_token", SOME),
    ("other-profile", 75, "answered for another profile", SOME),
    ("other-account", 3, "another account", 1),
    (
        "ask",
        75,
        "attention during a refresh, when nobody is there",
        SOME,
    ),
    ("terminal", 3, "revoked", 1),
    ("not-now", 75, "busy", SOME),
];

#[test]
fn programs_that_do_not_end_harm_only_their_own_provider() {
    contain(&HARMFUL[..4]);
}

#[test]
fn programs_that_break_the_protocol_harm_only_their_own_provider() {
    contain(&HARMFUL[4..8]);
}

#[test]
fn programs_that_lie_or_refuse_harm_only_their_own_provider() {
    contain(&HARMFUL[8..]);
}

#[track_caller]
fn contain(cases: &[Case]) {
    for (what, code, told, most) in cases {
        let world = rogue(what);
        let said = token(&world);
        assert_eq!(said.code, *code, "{what}: {said:#?}");
        assert!(
            said.err.contains(told) || has_begun_again(&said),
            "{what}: {said:#?}"
        );
        assert!(
            !said.err.contains("canary") && !said.out.contains("canary"),
            "{what}: {said:#?}"
        );
        assert_eq!(token(&world).code, *code, "{what}");
        assert!(runs(&world) <= *most, "{what}: {} runs", runs(&world));
        // The stored login is what it was, and everybody else's works.
        let kept = stored(&world, "main", "rogue:alice");
        assert_eq!(kept["refresh"], "refresh-canary-000000", "{what}: {kept:#}");
        let other = world.run("tokensink token --provider openrouter").code(0);
        assert_eq!(other.out, format!("{API_KEY}\n"), "{what}");
        let status = world.run("tokensink models status --json").code(0);
        assert!(status.json().is_object(), "{what}");
    }
}

#[test]
fn a_token_that_has_ended_or_was_not_renewed_is_not_fetched_again_and_again() {
    for what in ["past", "same"] {
        let world = rogue(what);
        for _ in 0..5 {
            let said = token(&world);
            assert!(matches!(said.code, 0 | 3 | 75), "{what}: {said:#?}");
        }
        assert!(runs(&world) <= 2, "{what}: {} runs", runs(&world));
        world.run("tokensink token --provider openrouter").code(0);
    }
}

#[test]
fn a_program_is_told_and_sees_only_what_is_its_own() {
    let world = rogue("not-now");
    token(&world).code(75);
    let told = std::fs::read_to_string(world.path("runs")).unwrap();
    let request: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!(request["profile"], "rogue:alice");
    assert_eq!(request["tokens"]["refresh_token"], "refresh-canary-000000");
    assert!(!request.to_string().contains(API_KEY), "{request:#}");
    let env = std::fs::read_to_string(world.path("runs.env")).unwrap();
    let names: Vec<&str> = env
        .lines()
        .filter_map(|line| line.split_once('=').map(|(name, _)| name))
        .filter(|name| !matches!(*name, "PWD" | "_" | "SHLVL" | "OLDPWD"))
        .collect();
    assert!(
        !names.is_empty() && names.iter().all(|name| *name == "ROGUE_REGION"),
        "{env}"
    );
    assert!(
        env.contains(&format!(
            "PWD={}",
            world.state("tokensink/plugins/rogue").display()
        )),
        "{env}"
    );
    // It may not even declare another provider's variable.
    let manifest = std::fs::read_to_string(world.path("rogue/plugin.toml")).unwrap();
    world.write(
        "rogue/plugin.toml",
        &manifest.replace("ROGUE_REGION", "ANTHROPIC_API_KEY"),
    );
    let said = world
        .run("tokensink plugins install rogue --yes --replace")
        .code(1);
    assert!(
        said.err
            .contains("ANTHROPIC_API_KEY holds a credential of anthropic"),
        "{said:#?}"
    );
}

#[test]
fn a_program_that_was_changed_is_not_run_until_it_is_installed_again() {
    let world = rogue("not-now");
    let installed = world.state("tokensink/plugins/rogue/rogue.sh");
    for (what, change) in [
        ("a changed program", installed.clone()),
        ("a file that came later", installed.with_file_name("later.sh")),
    ] {
        std::fs::write(&change, "#!/bin/sh\necho owned\n").unwrap();
        let said = token(&world).code(75);
        assert!(said.err.contains("so it is not run"), "{what}: {said:#?}");
        assert!(
            said.err.contains("tokensink plugins install"),
            "{what}: {said:#?}"
        );
        let list = world.run("tokensink plugins list --json").code(0).json();
        assert_eq!(
            (&list[0]["id"], &list[0]["ok"]),
            (&json!("rogue"), &json!(false)),
            "{list:#}"
        );
        world
            .run("tokensink plugins install rogue --yes --replace")
            .code(0);
        let list = world.run("tokensink plugins list --json").code(0).json();
        assert_eq!(list[0]["ok"], true, "{what}: {list:#}");
    }
    assert_eq!(runs(&world), 0);
    let said = world.run("tokensink plugins remove rogue").code(0);
    assert!(said.err.contains("logins of rogue stay stored"), "{said:#?}");
    assert!(!world.state("tokensink/plugins/rogue").exists());
    assert_eq!(
        stored(&world, "main", "rogue:alice")["refresh"],
        "refresh-canary-000000"
    );
}

const ASKER: &str = r#"#!/bin/sh
say() { printf '%s\n' "$1"; }
value() { sed -n 's/.*"value":"\([^"]*\)".*/\1/p'; }
say '{"type": "hello", "versions": [1]}'
IFS= read -r request
say '{"type": "prompt", "id": "a", "kind": "text", "text": "Which tenant?"}'
IFS= read -r tenant
say '{"type": "prompt", "id": "b", "kind": "secret", "text": "Password?"}'
IFS= read -r password
say '{"type": "prompt", "id": "c", "kind": "confirm", "text": "Stay logged in?"}'
IFS= read -r stay
say '{"type": "prompt", "id": "d", "kind": "select", "text": "Which plan?", "options": [{"value": "s", "label": "Small"}, {"value": "l", "label": "Large"}]}'
IFS= read -r plan
say "{\"type\": \"progress\", \"text\": \"the password was $(printf '%s' "$password" | value)\"}"
say "{\"type\": \"result\", \"access_token\": \"at-$(printf '%s' "$tenant" | value)-$(printf '%s' "$stay" | value)-$(printf '%s' "$plan" | value)\", \"account\": {\"email\": \"a@example.com\"}}"
"#;

#[test]
fn a_program_asks_at_the_terminal_and_nobody_is_asked_without_one() {
    let world = World::new();
    install_rogue(&world, "");
    let program = world.write("rogue/rogue.sh", ASKER);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    world
        .run("tokensink plugins install rogue --yes --replace")
        .code(0);
    let said = world.run("tokensink models auth login --provider rogue").code(2);
    assert!(
        said.err.contains("plugin rogue asks \"Which tenant?\""),
        "{said:#?}"
    );
    assert!(said.err.contains("fix: run it in a terminal"), "{said:#?}");
    let dialogue = [
        ("rogue asks: Which tenant?: ", "acme\r"),
        ("rogue asks: Password? (not shown): ", "hunter2-canary\r"),
        ("Stay logged in?", "y\r"),
        ("Which plan?", "\u{1b}[B\r"),
    ];
    let said = world
        .on_terminal("tokensink models auth login --provider rogue", &dialogue)
        .code(0);
    assert!(
        said.out.contains("Auth profile: rogue:a@example.com"),
        "{said:#?}"
    );
    assert!(said.out.contains("the password was [redacted]"), "{said:#?}");
    assert!(!said.out.contains("canary"), "{said:#?}");
    let stored = stored(&world, "main", "rogue:a@example.com");
    assert_eq!(stored["access"], "at-acme-yes-l");
}
