//! `token` and `exec`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::world::{API_KEY, World};

#[test]
fn a_key_comes_back_alone_on_standard_output() {
    let world = World::new();
    world.store_key("openrouter");
    for line in [
        "tokensink token --provider openrouter",
        "openclaw token --profile-id openrouter:manual",
        "tokensink token --provider OpenRouter --agent main --min-ttl 1h",
    ] {
        let said = world.run(line).code(0);
        assert_eq!(said.out, format!("{API_KEY}\n"), "{line}");
        assert_eq!(said.err, "", "{line}");
    }
    let value = world
        .run("tokensink token --provider openrouter --json")
        .code(0)
        .json();
    assert_eq!(value["token"], API_KEY);
    assert_eq!(value["profileId"], "openrouter:manual");
    assert_eq!(value["type"], "api_key");
}

#[test]
fn without_a_login_the_exit_code_and_the_fix_say_so() {
    let world = World::new();
    let said = world.run("openclaw token --provider anthropic").code(3);
    assert_eq!(said.out, "");
    assert!(said.err.starts_with("error: "), "{said:#?}");
    assert!(said.err.contains("fix: openclaw models auth "), "{said:#?}");
    let said = world.run("tokensink token --provider anthropic --json").code(3);
    assert!(said.json()["error"]["code"].is_string(), "{said:#?}");
    let said = world.run("tokensink token --provider nobody").code(2);
    assert!(said.err.contains("nobody"), "{said:#?}");
    world
        .run("tokensink token --provider anthropic --agent nobody")
        .code(2);
}

#[test]
fn who_waits_for_a_bench_is_told_so() {
    let world = World::new();
    world.store_key("anthropic");
    let window = |left: Duration| {
        let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + left;
        json!({"disabledUntil": until.as_millis(), "disabledReason": "billing"})
    };
    let state = |windows: serde_json::Value| {
        let state = json!({"version": 1, "usageStats": windows});
        world.write(".openclaw/agents/main/agent/auth-state.json", &state.to_string());
    };
    let bench = |left: Duration| state(json!({"anthropic:manual": window(left)}));
    bench(Duration::from_secs(3));
    let said = world.run("tokensink token --provider anthropic").code(0);
    assert_eq!(said.out, format!("{API_KEY}\n"));
    assert!(said.err.starts_with("note: "), "{said:#?}");
    assert!(said.err.contains("waiting for that (--wait)"), "{said:#?}");
    // One that is longer than the patience is not waited for.
    bench(Duration::from_secs(3600));
    let said = world.run("tokensink token --provider anthropic").code(75);
    assert!(!said.err.contains("waiting for that"), "{said:#?}");
    // Nor is one that is free soon and must not serve.
    let line = "tokensink models auth paste-api-key --provider anthropic --profile-id anthropic:other";
    world.feed(line, API_KEY).code(0);
    let soon = window(Duration::from_secs(20));
    let late = window(Duration::from_secs(3600));
    state(json!({"anthropic:manual": late, "anthropic:other": soon}));
    let rule = "[[deny]]\nid = \"no-other\"\nprofile = \"anthropic:other\"\n";
    world.write(".openclaw/tokensink/config.toml", rule);
    let said = world.run("tokensink token --provider anthropic").code(75);
    assert!(!said.err.contains("waiting for that"), "{said:#?}");
}

#[test]
fn a_child_finds_the_key_and_no_other() {
    let world = World::new();
    world.store_key("openrouter");
    let words = [
        "tokensink",
        "exec",
        "--provider",
        "openrouter",
        "--",
        "/bin/sh",
        "-c",
        "env; exit 7",
    ];
    let output = world
        .command(&words)
        .env("ANTHROPIC_API_KEY", "foreign-canary")
        .env("OTHER", "stays")
        .output()
        .unwrap();
    let seen = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(7), "{seen}");
    assert!(
        seen.contains(&format!("OPENROUTER_API_KEY={API_KEY}\n")),
        "{seen}"
    );
    assert!(seen.contains("OTHER=stays\n"), "{seen}");
    assert!(!seen.contains("foreign-canary"), "{seen}");
}

#[test]
fn a_program_that_is_not_there() {
    let world = World::new();
    world.store_key("openrouter");
    let said = world
        .run("tokensink exec --provider openrouter -- no-such-program x")
        .code(127);
    assert!(said.err.contains("no-such-program could not be run"), "{said:#?}");
}

#[test]
fn there_may_be_nothing_to_renew() {
    let world = World::new();
    let said = world.run("tokensink renew").code(0);
    assert_eq!(said.out, "");
    assert_eq!(
        world.run("tokensink renew --json").code(0).json(),
        serde_json::json!([])
    );
}
