//! Keys for clients of the gateway, as people make and end them.

use serde_json::json;

use crate::world::World;

#[test]
fn a_key_is_printed_once_listed_and_revoked() {
    let world = World::new();
    world.run("tokensink agents add work").code(0);
    let said = world
        .run("tokensink keys add ci --agent work --provider claude")
        .code(2);
    assert!(said.err.contains("unknown provider"), "{said:#?}");
    let said = world
        .run("tokensink keys add ci --agent work --provider anthropic")
        .code(0);
    let key = said.out.trim_end();
    assert!(key.starts_with("tsink_") && key.len() == 55, "{said:#?}");
    assert!(
        said.err.contains("cannot be shown again") && !said.err.contains(key),
        "{said:#?}"
    );
    assert!(
        world.files().iter().all(|(_, text)| !text.contains(&key[10..])),
        "kept nowhere"
    );

    let value = world
        .run("tokensink keys add all --agent main --json")
        .code(0)
        .json();
    assert_eq!(value["key"].as_str().unwrap().len(), 55);
    let said = world.run("tokensink keys list").code(0);
    assert!(
        said.out.contains("anthropic") && said.out.contains(&key[..10]),
        "{said:#?}"
    );
    assert!(!said.out.contains(&key[..12]), "{said:#?}");
    let list = world.run("tokensink keys list --json").code(0).json();
    assert_eq!(list[0]["providers"], json!(["anthropic"]));
    assert_eq!(
        (&list[1]["providers"], &list[1].get("key")),
        (&json!(null), &None)
    );

    world.run("tokensink keys add ci --agent main").code(2);
    let said = world.run("tokensink keys revoke ci").code(0);
    assert_eq!(said.out, "Revoked: ci\n");
    assert!(world.run("tokensink keys list").out.contains("revoked"));
    let said = world.run("tokensink keys revoke ic").code(2);
    assert!(said.err.contains("fix: tokensink keys list"), "{said:#?}");
    let audit = std::fs::read_to_string(world.state("tokensink/audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"key_revoke\"").count(), 1, "{audit}");
}
