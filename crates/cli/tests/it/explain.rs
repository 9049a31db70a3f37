//! Why an account was chosen, as people ask.

use serde_json::json;

use crate::world::World;

#[test]
fn a_choice_that_was_not_the_first_is_told_and_made_again() {
    let world = World::new();
    world.run("tokensink explain").code(2);
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
    let said = world.run("tokensink explain").code(2);
    assert!(said.err.contains("no choice is kept yet"), "{said:#?}");

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
        .filter(|(path, _)| path.to_string_lossy().contains("state/decisions"))
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept.iter().all(|(_, text)| !text.contains("canary")));
}
