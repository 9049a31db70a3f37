//! Plugins that are data, from the file that somebody was given to a login.

use serde_json::json;

use crate::world::{API_KEY, World};

const ACME: &str = r#"
id = "acme"
billing = "metered"
env = ["ACME_API_KEY"]
[api]
kind = "openai-chat"
base_url = "https://api.acme.example/v1"
[[auth]]
id = "api-key"
kind = "api_key"
"#;

#[test]
fn a_definition_is_shown_asked_for_and_installed() {
    let world = World::new();
    world.write("acme.toml", ACME);
    let said = world.run("tokensink plugins install acme.toml").code(2);
    assert!(
        said.out.contains("secrets go to: https://api.acme.example"),
        "{said:#?}"
    );
    assert!(
        said.err
            .contains("fix: look at the plan above, then: tokensink plugins install acme.toml --yes"),
        "{said:#?}"
    );
    assert!(!world.state("tokensink/providers/acme.toml").exists());
    let said = world
        .on_terminal("tokensink plugins install acme.toml", &[("Install it?", "n\r")])
        .code(1);
    assert!(said.out.contains("nothing was installed"), "{said:#?}");
    let said = world
        .on_terminal("tokensink plugins install acme.toml", &[("Install it?", "y\r")])
        .code(0);
    assert!(said.out.contains("Installed: acme"), "{said:#?}");
    world.store_key("acme");
    assert_eq!(
        world.run("tokensink token --provider acme").code(0).out,
        format!("{API_KEY}\n")
    );
    let list = world.run("tokensink plugins list --json").code(0).json();
    assert_eq!(list[0]["id"], "acme");
    assert_eq!(list[0]["ok"], true);
    let again = world.run("tokensink plugins install acme.toml").code(0);
    assert!(again.out.contains("installed just so already"), "{again:#?}");
    let said = world.run("tokensink plugins remove acme").code(0);
    assert!(said.err.contains("logins of acme stay stored"), "{said:#?}");
    assert_eq!(
        world.run("tokensink plugins list").code(0).out,
        "No plugins are installed.\n"
    );
}

#[test]
fn a_manifest_of_openclaw_is_checked_and_installed() {
    let world = World::new();
    let manifest = json!({
        "id": "acme", "providers": ["acme"],
        "setup": {"providers": [{"id": "acme", "envVars": ["ACME_API_KEY"]}]},
        "providerAuthChoices": [
            {"provider": "acme", "method": "api-key", "choiceId": "acme-api-key", "choiceLabel": "Acme API key"},
            {"provider": "acme", "method": "oauth", "choiceId": "acme-oauth"},
        ],
    });
    world.write("acme/openclaw.plugin.json", &manifest.to_string());
    let checked = world.run("tokensink plugins check acme --json").code(0).json();
    assert_eq!(checked["kind"], "openclaw");
    let skipped = checked["scenarios"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(skipped["passed"], json!(null));
    assert!(
        skipped["detail"]
            .as_str()
            .unwrap()
            .contains("needs the plugin's program"),
        "{skipped}"
    );
    world.run("tokensink plugins install acme --yes").code(0);
    world.store_key("acme");
    let text = world.run("tokensink providers show acme").code(0).out;
    assert!(text.contains("ACME_API_KEY"), "{text}");
}

#[test]
fn a_plugin_that_does_not_hold_is_refused_with_its_line() {
    let world = World::new();
    world.write("bad.toml", "id = \"acme\"\nbiling = \"free\"\n");
    let said = world.run("tokensink plugins check bad.toml").code(1);
    assert!(said.out.contains("bad.toml:2:1"), "{said:#?}");
    let said = world.run("tokensink plugins install bad.toml --yes").code(1);
    assert!(
        said.err.contains("bad.toml:2:1") && said.err.contains("fix: tokensink plugins check"),
        "{said:#?}"
    );
    let said = world.run("tokensink plugins install nothing-there --yes").code(2);
    assert!(said.err.contains("there is nothing at"), "{said:#?}");
    assert_eq!(world.files(), []);
}
