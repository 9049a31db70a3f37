//! `sessions …`, on what OpenClaw and we have stored.

use serde_json::json;

use crate::world::World;

const FILE: &str = "agents/main/sessions/sessions.json";

#[test]
fn sessions_are_listed_shown_and_reset() {
    let world = World::new();
    let said = world.run("tokensink sessions list").code(0);
    assert_eq!(said.out, "Agent main has no sessions.\n");
    world.store_key("openrouter");
    let text = r#"{
  "agent:main:main": {
    "sessionId": "old", "updatedAt": 5, "skillsSnapshot": {"x": [1.0]},
    "providerOverride": "openrouter", "modelOverride": "openrouter/auto",
    "authProfileOverride": "openrouter:manual", "authProfileOverrideSource": "user"
  }
}
"#;
    let path = world.state(FILE);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();

    let said = world.run("tokensink sessions list").code(0);
    assert!(said.out.contains("agent:main:main"), "{said:#?}");
    let list = world.run("tokensink sessions list --json").code(0).json();
    let wanted = json!({"profileId": "openrouter:manual", "source": "user", "exists": true});
    assert_eq!(
        (&list[0]["model"], &list[0]["pin"]),
        (&json!("openrouter/auto"), &wanted)
    );
    let said = world.run("tokensink sessions show agent:main:main").code(0);
    assert!(
        said.out.contains("openrouter:manual (chosen by the user)"),
        "{said:#?}"
    );

    let value = world
        .run("tokensink sessions reset agent:main:main --json")
        .code(0)
        .json();
    assert_eq!(value["pin"]["source"], "auto");
    assert_ne!(value["sessionId"], "old");
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(stored.contains("\"skillsSnapshot\": {\"x\": [1.0]}"), "{stored}");
    assert!(stored.contains(value["sessionId"].as_str().unwrap()), "{stored}");

    let said = world.run("tokensink sessions show nobody --json").code(2);
    assert_eq!(said.json()["error"]["code"], "no_session");
    assert!(said.err.contains("fix: tokensink sessions list"), "{said:#?}");
    world.run("tokensink sessions list --agent nobody").code(2);
    std::fs::write(&path, "{").unwrap();
    let said = world.run("tokensink sessions list").code(0);
    assert!(
        said.err.contains("warning:") && said.err.contains(FILE),
        "{said:#?}"
    );
}
