//! Models, their status, and agents.

use serde_json::{Value, json};

use crate::world::{SETUP_TOKEN, World};

#[test]
fn check_follows_the_providers_in_use() {
    let world = World::new();
    // Nothing stored: the provider of the default model is missing.
    world.run("openclaw models status --check").code(1);
    world.run("openclaw models status").code(0);
    world.run("openclaw models set anthropic/claude-opus-4-6").code(0);
    let paste = "openclaw models auth paste-token --provider anthropic";
    world.feed(paste, SETUP_TOKEN).code(0);
    world.run("openclaw models status --check --json").code(0);
    world
        .feed(&format!("{paste} --expires-in 2h"), SETUP_TOKEN)
        .code(0);
    world.run("openclaw models status --check").code(2);
    // A provider that no model uses counts with --all only.
    world.run("openclaw models set openrouter/auto").code(0);
    world.store_key("openrouter");
    world.run("openclaw models status --check").code(0);
    world.run("openclaw models status --check --all").code(2);
}

#[test]
fn plain_is_the_default_model_alone() {
    let world = World::new();
    world.run("openclaw models set anthropic/claude-opus-4-6").code(0);
    for line in ["openclaw models status --plain", "openclaw models --plain"] {
        assert_eq!(world.run(line).code(0).out, "anthropic/claude-opus-4-6\n");
    }
    world.run("openclaw models status --plain --json").code(2);
    let said = world.run("openclaw models --json list").code(2);
    assert!(said.err.contains("behind the subcommand"), "{said:#?}");
}

#[test]
fn status_as_json_has_the_documented_fields() {
    let world = World::new();
    let value = world.run("openclaw models --json").code(0).json();
    for field in [
        "configPath",
        "agentDir",
        "defaultModel",
        "resolvedDefault",
        "fallbacks",
        "imageModel",
        "imageFallbacks",
        "aliases",
        "allowed",
        "auth",
    ] {
        assert!(value.get(field).is_some(), "{field} in {value:#}");
    }
    for field in [
        "storePath",
        "shellEnvFallback",
        "providersWithOAuth",
        "missingProvidersInUse",
        "providers",
        "unusableProfiles",
        "oauth",
    ] {
        assert!(value["auth"].get(field).is_some(), "{field} in {value:#}");
    }
    assert_eq!(value["auth"]["oauth"]["warnAfterMs"], 86_400_000);
}

#[test]
fn aliases_and_fallbacks() {
    let world = World::new();
    world
        .run("openclaw models aliases add best anthropic/claude-opus-4-6")
        .code(0);
    let value = world.run("openclaw models aliases list --json").code(0).json();
    assert_eq!(value["aliases"]["best"], "anthropic/claude-opus-4-6");
    world.run("openclaw models set best").code(0);
    let status = world.run("openclaw models status --json").json();
    assert_eq!(status["resolvedDefault"], "anthropic/claude-opus-4-6");
    world.run("openclaw models aliases remove best").code(0);
    world.run("openclaw models fallbacks add openrouter/auto").code(0);
    world.run("openclaw models fallbacks add openai/gpt-5.5").code(0);
    let value = world.run("openclaw models fallbacks list --json").code(0).json();
    assert_eq!(value["fallbacks"], json!(["openrouter/auto", "openai/gpt-5.5"]));
    world
        .run("openclaw models fallbacks remove openrouter/auto")
        .code(0);
    let said = world.run("openclaw models fallbacks list").code(0);
    assert_eq!(said.out, "Fallbacks (1):\n- openai/gpt-5.5\n");
    world.run("openclaw models fallbacks clear").code(0);
    assert_eq!(
        world.run("openclaw models fallbacks list").code(0).out,
        "Fallbacks (0):\n"
    );
}

#[test]
fn models_are_listed() {
    let world = World::new();
    world.run("openclaw models set anthropic/claude-opus-4-6").code(0);
    let value = world.run("openclaw models list --json").code(0).json();
    let model = &value["models"][0];
    assert_eq!(model["key"], "anthropic/claude-opus-4-6");
    assert_eq!(model["available"], false);
    assert!(
        model["tags"]
            .as_array()
            .unwrap()
            .contains(&Value::from("default")),
        "{value:#}"
    );
    let plain = world
        .run("openclaw models list --all --provider anthropic --plain")
        .code(0)
        .out;
    assert!(
        plain.lines().all(|line| line.starts_with("anthropic/")),
        "{plain}"
    );
}

#[test]
fn agents_come_and_go_without_a_terminal() {
    let world = World::new();
    let said = world.run("openclaw agents add work").code(0);
    assert!(said.out.starts_with("Agent: work\nWorkspace: "), "{said:#?}");
    let value = world
        .run("openclaw agents add Other --workspace /tmp/w --json")
        .code(0)
        .json();
    assert_eq!(value["agentId"], "other");
    assert_eq!(value["workspace"], "/tmp/w");
    assert_eq!(
        value["bindings"],
        json!({"added": [], "updated": [], "skipped": [], "conflicts": []})
    );
    let list = world.run("openclaw agents list --json").code(0).json();
    let ids: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["main", "work", "other"]);
    world.run("openclaw agents add work").code(2);
    let said = world.run("openclaw agents delete work").code(2);
    assert!(
        said.err.contains("fix: openclaw agents delete work --force"),
        "{said:#?}"
    );
    world.run("openclaw agents delete work --force").code(0);
    world.run("openclaw models status --agent work").code(2);
    world.run("openclaw agents add").code(2);
}

#[test]
fn an_agent_can_be_asked_about_and_answered_no() {
    let world = World::new();
    world.run("openclaw agents add work").code(0);
    let said = world
        .on_terminal("openclaw agents delete work", &[("Delete agent work?", "n\r")])
        .code(0);
    assert!(said.out.contains("Nothing was done."), "{said:#?}");
    world.run("openclaw models status --agent work").code(0);
}

#[test]
fn changes_of_models_are_told_as_json_too() {
    let world = World::new();
    let cases = [
        (
            "set anthropic/opus",
            json!({"defaultModel": "anthropic/claude-opus-4-6"}),
        ),
        (
            "set-image openrouter/auto",
            json!({"imageModel": "openrouter/auto"}),
        ),
        (
            "aliases add auto openrouter/auto",
            json!({"aliases": {"auto": "openrouter/auto"}}),
        ),
        ("aliases remove auto", json!({"aliases": {}})),
        ("fallbacks add groq/x", json!({"fallbacks": ["groq/x"]})),
        ("fallbacks remove groq/x", json!({"fallbacks": []})),
        ("fallbacks clear", json!({"fallbacks": []})),
        (
            "image-fallbacks add groq/x",
            json!({"imageFallbacks": ["groq/x"]}),
        ),
        ("image-fallbacks clear", json!({"imageFallbacks": []})),
    ];
    for (line, wanted) in cases {
        let value = world
            .run(&format!("tokensink models {line} --json"))
            .code(0)
            .json();
        assert_eq!(value, wanted, "{line}");
    }
    let said = world
        .run("tokensink models fallbacks remove groq/x --json")
        .code(2);
    assert_eq!(said.json()["error"]["code"], "no_fallback");
}

/// A file that was named and is not there is a wrong argument, whichever command it was given to.
#[test]
fn files_that_are_not_there() {
    let world = World::new();
    for line in [
        "import bundle nowhere",
        "providers check nowhere",
        "plugins install nowhere",
        "plugins check nowhere",
        "secrets apply --from nowhere",
        "models auth paste-api-key --provider groq --from-file nowhere",
        "import openclaw --from nowhere",
    ] {
        let said = world.run(&format!("tokensink {line}")).code(2);
        assert!(said.err.contains("nowhere"), "{line}: {said:#?}");
    }
}
