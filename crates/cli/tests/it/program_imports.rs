//! `import claude|codex|…|cliproxyapi|env`: what is copied, and what stays where it is.

use std::fs;

use serde_json::{Value, json};

use crate::world::World;

const EXPIRES: i64 = 4_102_444_800_000;

fn stored(world: &World) -> Value {
    let path = world.state("agents/main/agent/auth-profiles.json");
    let text = fs::read_to_string(path).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str::<Value>(&text).unwrap()["profiles"].clone()
}

fn google(name: &str) -> String {
    json!({"access_token": format!("at-{name}-canary"), "refresh_token": format!("rt-{name}-canary"), "expiry_date": EXPIRES,
        "token_type": "Bearer"})
    .to_string()
}

#[test]
fn a_living_grant_stays_and_the_way_to_share_it_is_named() {
    let world = World::new();
    let claude = json!({"claudeAiOauth": {"accessToken": "at-canary", "refreshToken": "rt-canary", "expiresAt": EXPIRES,
        "scopes": ["user:inference"], "subscriptionType": "max"}});
    world.write(".claude/.credentials.json", &claude.to_string());
    world.write(".qwen/oauth_creds.json", &google("qwen"));
    let cases = [
        ("claude", "tokensink external set claude cooperative"),
        ("qwen", "tokensink import qwen --take-over"),
    ];
    for (program, fix) in cases {
        for manner in ["", " --yes", " --json"] {
            let said = world.run(&format!("tokensink import {program}{manner}")).code(2);
            let told = format!("{}{}", said.out, said.err);
            assert!(told.contains(fix) && !told.contains("canary"), "{said:#?}");
        }
        world
            .run(&format!("tokensink import {program} --dry-run"))
            .code(0);
    }
    assert_eq!(stored(&world), Value::Null);
    let missing = world.run("tokensink import codex").code(2);
    assert!(missing.err.contains(".codex/auth.json"), "{missing:#?}");
    let wrong = world.run("tokensink import claude --take-over").code(2);
    assert!(wrong.err.contains("external set claude owned"), "{wrong:#?}");
    // The same grant in an older OpenClaw is a copy of Claude Code's.
    let copy = json!({"profiles": {"anthropic:default": {"type": "oauth", "provider": "anthropic", "access": "at-canary",
        "refresh": "rt-canary", "expires": EXPIRES}}});
    world.write("old/agents/main/agent/auth-profiles.json", &copy.to_string());
    let said = world
        .run("tokensink import openclaw --from old --yes --json")
        .code(0)
        .json();
    assert_eq!(said["rows"][0]["action"], "skipped", "{said}");
    assert!(
        said["rows"][0]["why"]
            .as_str()
            .unwrap()
            .starts_with("Claude Code holds"),
        "{said}"
    );
    // Moved: the grant is here, and Claude Code is signed out.
    world.run("tokensink import claude --move --yes").code(0);
    let all = stored(&world);
    let moved = all.as_object().and_then(|all| all.values().next());
    assert_eq!(
        moved.map(|moved| &moved["refresh"]),
        Some(&json!("rt-canary")),
        "{all}"
    );
    assert!(
        !fs::read_to_string(world.path(".claude/.credentials.json"))
            .unwrap()
            .contains("canary")
    );
}

#[test]
fn in_a_terminal_the_login_of_claude_code_is_shared_by_a_choice() {
    let world = World::new();
    let claude = json!({"claudeAiOauth": {"accessToken": "at-canary", "refreshToken": "rt-canary", "expiresAt": EXPIRES,
        "scopes": ["user:inference"]}});
    world.write(".claude/.credentials.json", &claude.to_string());
    let said = world
        .on_terminal("tokensink import claude", &[("What is to be done", "\r")])
        .code(0);
    assert!(!said.out.contains("canary"), "{}", said.out);
    let list = world.run("tokensink external list --json").code(0);
    assert!(list.out.contains("cooperative"), "{list:#?}");
}

#[test]
fn keys_are_copied_and_grants_of_others_taken_over() {
    let world = World::new();
    let opencode = json!({
        "openrouter": {"type": "api", "key": "sk-or-canary"},
        "anthropic": {"type": "oauth", "access": "at-canary", "refresh": "rt-canary", "expires": EXPIRES},
    });
    world.write(".local/share/opencode/auth.json", &opencode.to_string());
    world.write(
        ".codex/auth.json",
        &json!({"OPENAI_API_KEY": "sk-openai-canary"}).to_string(),
    );
    let said = world.run("tokensink import opencode --yes --json").code(0);
    assert!(!format!("{said:?}").contains("canary"));
    assert_eq!(
        said.json()["stored"],
        json!([{"agentId": "main", "profileId": "openrouter:opencode"}])
    );
    world.run("tokensink import codex --yes").code(0);
    let all = stored(&world);
    assert_eq!(all["openrouter:opencode"]["key"], "sk-or-canary");
    assert_eq!(all["openai:codex"]["key"], "sk-openai-canary");
    assert_eq!(all["anthropic:opencode"], Value::Null);
    let said = world.run("tokensink import opencode --take-over --yes").code(0);
    assert!(
        said.err.contains("must not use its login of anthropic"),
        "{said:#?}"
    );
    assert_eq!(stored(&world)["anthropic:opencode"]["refresh"], "rt-canary");
}

#[test]
fn a_directory_of_the_proxy() {
    let world = World::new();
    let login = |kind: &str, name: &str| {
        json!({"type": kind, "access_token": format!("at-{name}-canary"), "refresh_token": format!("rt-{name}-canary"),
            "email": format!("{name}@example.com"), "account_id": "acc", "expired": "2100-01-01T00:00:00+08:00"})
        .to_string()
    };
    world.write(".cli-proxy-api/claude-a.json", &login("claude", "a"));
    world.write(".cli-proxy-api/codex-b.json", &login("codex", "b"));
    world.write(".cli-proxy-api/other.json", r#"{"type":"vertex"}"#);
    let said = world.run("tokensink import cliproxyapi --yes").code(2);
    assert!(said.err.contains("--take-over"), "{said:#?}");
    let before = fs::read(world.path(".cli-proxy-api/claude-a.json")).unwrap();
    world
        .run("tokensink import cliproxyapi --take-over --yes")
        .code(0);
    let all = stored(&world);
    assert_eq!(all["anthropic:a@example.com"]["refresh"], "rt-a-canary");
    assert_eq!(all["openai-codex:b@example.com"]["accountId"], "acc");
    assert_eq!(
        fs::read(world.path(".cli-proxy-api/claude-a.json")).unwrap(),
        before
    );
    assert_eq!(
        world
            .run("tokensink token --provider openai-codex")
            .code(0)
            .out
            .trim(),
        "at-b-canary"
    );
}

#[test]
fn keys_of_the_environment_are_adopted_by_reference_or_by_value() {
    let world = World::new();
    let vars = [
        ("OPENROUTER_API_KEY", "sk-or-v1-canary"),
        ("ZAI_API_KEY", "zai-canary"),
    ];
    let run = |line: &str| world.run_with(line, None, &vars);
    let plan = run("tokensink import env --dry-run --json").code(0);
    assert_eq!(plan.json()["rows"].as_array().map(Vec::len), Some(2), "{plan:#?}");
    assert_eq!(stored(&world), Value::Null);
    run("tokensink import env OPENROUTER_API_KEY --yes").code(0);
    let reference = json!({"source": "env", "provider": "default", "id": "OPENROUTER_API_KEY"});
    assert_eq!(stored(&world)["openrouter:default"]["keyRef"], reference);
    assert_eq!(stored(&world)["openrouter:default"]["key"], Value::Null);
    assert_eq!(stored(&world)["zai:default"], Value::Null);
    assert_eq!(
        run("tokensink token --provider openrouter").code(0).out.trim(),
        "sk-or-v1-canary"
    );
    run("tokensink import env ZAI_API_KEY --copy --yes").code(0);
    assert_eq!(stored(&world)["zai:default"]["key"], "zai-canary");
    let again = run("tokensink import env --yes --json").code(0).json();
    assert_eq!(again["stored"], json!([]), "{again}");
    let unknown = run("tokensink import env NO_SUCH_KEY --yes").code(2);
    assert!(unknown.err.contains("NO_SUCH_KEY"), "{unknown:#?}");
    world.run("tokensink import env").code(2);
}
