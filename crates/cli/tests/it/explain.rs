//! Why an account was chosen, as people ask.

use serde_json::json;

use crate::world::World;

#[test]
fn a_choice_that_was_not_the_first_is_told_and_made_again() {
    let world = World::new();
    let said = world.run("tokensink explain").code(0);
    assert!(
        said.out.is_empty() && said.err.contains("No choice is kept yet"),
        "{said:#?}"
    );
    let said = world.run("tokensink explain --json").code(0);
    assert_eq!(said.json()["choices"], json!([]));
    // Nobody is logged in: the command that helps stands there.
    let said = world.run("tokensink explain --provider groq").code(0);
    let fix = "To fix it: tokensink models auth paste-api-key --provider groq";
    assert!(said.out.contains(fix), "{said:#?}");
    let profile =
        |name: &str| json!({"type": "api_key", "provider": "openai", "key": format!("sk-{name}-canary")});
    let store = json!({"version": 1, "profiles": {"openai:a": profile("a"), "openai:b": profile("b")}});
    world.write(
        ".openclaw/agents/main/agent/auth-profiles.json",
        &store.to_string(),
    );
    world.write(
        ".openclaw/openclaw.json",
        "{ auth: { order: { openai: ['openai:a', 'openai:b'] } } }",
    );
    world.run("tokensink token --provider openai").code(0);
    let said = world.run("tokensink explain").code(0);
    assert!(said.err.contains("No choice is kept yet"), "{said:#?}");

    let until = 4_102_444_800_000_i64;
    let state = json!({"version": 1, "usageStats": {"openai:a": {"disabledUntil": until, "disabledReason": "billing"}}});
    world.write(".openclaw/agents/main/agent/auth-state.json", &state.to_string());
    world.run("tokensink token --provider openai").code(0);
    let said = world.run("tokensink explain").code(0);
    for part in [
        "config-order",
        "openai:a",
        "benched",
        "billing",
        "Chosen: openai:b",
        "Reproduced: ",
    ] {
        assert!(said.out.contains(part), "{part}: {said:#?}");
    }
    let value = world.run("tokensink explain --json").code(0).json();
    let choice = &value["choices"][0];
    assert_eq!(
        (&choice["served"], &choice["reproduced"]),
        (&json!("openai:b"), &json!(true))
    );
    let id = choice["id"].as_str().unwrap();
    let same = world
        .run(&format!("tokensink explain {id} --json"))
        .code(0)
        .json();
    assert_eq!(same["choices"], value["choices"]);
    let now = world
        .run("tokensink explain --provider openai --json")
        .code(0)
        .json();
    assert_eq!(
        now["choices"][0]["chosen"], choice["chosen"],
        "nothing has changed since"
    );
    assert_eq!(now["choices"][0]["id"], json!(null));
    world.run("tokensink explain 0123456789abcdef").code(2);
    world.run("tokensink explain --provider nobody").code(2);
    world.run("tokensink explain --model x").code(2);
    let kept: Vec<_> = world
        .files()
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("state/decisions/"))
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.iter().all(|(_, text)| !text.contains("canary")));
}

#[test]
fn a_model_is_written_as_elsewhere() {
    let world = World::new();
    let profile =
        |name: &str| json!({"type": "api_key", "provider": "anthropic", "key": format!("sk-{name}-canary")});
    let store = json!({"version": 1, "profiles": {"anthropic:a": profile("a"), "anthropic:b": profile("b")}});
    world.write(
        ".openclaw/agents/main/agent/auth-profiles.json",
        &store.to_string(),
    );
    world.write(
        ".openclaw/openclaw.json",
        "{ agents: { defaults: { models: { 'anthropic/claude-opus-4-6': { alias: 'best' } } } } }",
    );
    // (what is asked, the model that is meant, the only profile that may serve)
    let cases = [
        ("claude-opus-4-6", "claude-opus-4-6", None),
        ("opus", "claude-opus-4-6", None),
        ("best", "claude-opus-4-6", None),
        ("anthropic/opus", "claude-opus-4-6", None),
        ("opus@anthropic:b", "claude-opus-4-6", Some("anthropic:b")),
        ("came-out-today", "came-out-today", None),
        ("openai/gpt-5.1", "openai/gpt-5.1", None),
    ];
    for (asked, model, only) in cases {
        let told = world.run(&format!(
            "tokensink explain --provider anthropic --model {asked} --json"
        ));
        let choice = &told.code(0).json()["choices"][0];
        assert_eq!(choice["model"], json!(model), "{asked}");
        assert_eq!(choice["wanted"], json!(only.unwrap_or("anthropic")), "{asked}");
    }
}
