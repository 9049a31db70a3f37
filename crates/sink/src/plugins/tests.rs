//! Installing and removing plugins that are data.

use std::path::Path;

use super::{FileFate, PluginKind, PluginState};
use crate::error::ErrorKind;
use crate::world::{World, at};

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

fn source(world: &World, name: &str, text: &str) -> std::path::PathBuf {
    let path = Path::new("/home/user/plugins").join(name);
    world.test.files.mkdir("/home/user/plugins");
    world.test.files.put(&path, text, 0o644);
    path
}

#[test]
fn a_definition_is_installed_once_replaced_on_demand_and_removed() {
    let world = World::new();
    let path = source(&world, "acme.toml", ACME);
    let sink = world.sink();
    let plan = sink.plan_plugin(&path).unwrap();
    assert_eq!((plan.id.as_str(), plan.kind), ("acme", PluginKind::Definition));
    assert_eq!(plan.providers[0].hosts, ["https://api.acme.example"]);
    assert_eq!(plan.files[0].fate, FileFate::New);
    assert_eq!(
        world.text("tokensink/providers/acme.toml"),
        "",
        "a plan writes nothing"
    );
    sink.install_plugin(&plan, false).unwrap();
    assert_eq!(world.text("tokensink/providers/acme.toml"), ACME);

    let sink = world.sink();
    assert!(sink.registry().resolve("acme").is_ok());
    let again = sink.plan_plugin(&path).unwrap();
    assert!(again.is_installed());
    assert_eq!(sink.install_plugin(&again, false).unwrap().files.len(), 0);

    let changed = ACME.replace("api.acme", "eu.acme");
    source(&world, "acme.toml", &changed);
    let plan = sink.plan_plugin(&path).unwrap();
    let error = sink.install_plugin(&plan, false).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Usage, "plugin_conflict")
    );
    assert!(error.fix().unwrap().contains("--replace"), "{error:?}");
    assert_eq!(world.text("tokensink/providers/acme.toml"), ACME);
    let change = sink.install_plugin(&plan, true).unwrap();
    assert_eq!(change.kept, [at("tokensink/providers/acme.toml.bak")]);
    assert_eq!(world.text("tokensink/providers/acme.toml"), changed);
    assert_eq!(world.text("tokensink/providers/acme.toml.bak"), ACME);

    let change = world.sink().remove_plugin("Acme").unwrap();
    assert!(
        change.notes[0].contains("logins of acme stay stored"),
        "{change:?}"
    );
    assert!(world.sink().registry().resolve("acme").is_err());
    assert_eq!(world.text("tokensink/providers/acme.toml.bak"), changed);
}

#[test]
fn an_id_keeps_the_file_that_defines_it() {
    let world = World::new();
    world.put("tokensink/providers/mine.toml", &ACME.replace("metered", "free"));
    let path = source(&world, "acme.toml", ACME);
    let sink = world.sink();
    let plan = sink.plan_plugin(&path).unwrap();
    assert_eq!(plan.conflicts(), [at("tokensink/providers/mine.toml")]);
    sink.install_plugin(&plan, true).unwrap();
    assert_eq!(world.text("tokensink/providers/mine.toml"), ACME);
    assert_eq!(world.text("tokensink/providers/acme.toml"), "");
}

#[test]
fn a_manifest_of_openclaw_becomes_definitions() {
    let world = World::new();
    let manifest = r#"{"id": "acme-plugin", "providers": ["acme", "beta"],
        "providerAuthChoices": [
            {"provider": "acme", "method": "api-key", "choiceId": "acme-api-key", "choiceLabel": "Acme API key"},
            {"provider": "beta", "method": "oauth", "choiceId": "beta"}]}"#;
    let path = source(&world, "openclaw.plugin.json", manifest);
    let sink = world.sink();
    for source in [path.as_path(), path.parent().unwrap()] {
        let plan = sink.plan_plugin(source).unwrap();
        assert_eq!(
            (plan.id.as_str(), plan.kind),
            ("acme-plugin", PluginKind::OpenClaw)
        );
        assert!(
            plan.left
                .iter()
                .any(|line| line.starts_with("beta: method oauth")),
            "{plan:#?}"
        );
        sink.install_plugin(&plan, false).unwrap();
    }
    let sink = world.sink();
    let definition = sink.registry().resolve("acme").unwrap();
    assert_eq!(definition.methods[0].name, "Acme API key");
    assert!(sink.registry().resolve("beta").is_err());
}

#[test]
fn what_does_not_hold_changes_nothing() {
    let world = World::new();
    let before = world.test.files.snapshot();
    let cases = [
        ("bad.toml", "id = \"acme\"\nbiling = \"free\"\n", "bad.toml:2"),
        ("torn.toml", "id = ", "torn.toml:1"),
        ("openclaw.plugin.json", "{", "it is not JSON"),
    ];
    for (name, text, told) in cases {
        let path = source(&world, name, text);
        let error = world.sink().plan_plugin(&path).unwrap_err();
        assert!(error.to_string().contains(told), "{name}: {error}");
    }
    let error = world
        .sink()
        .plan_plugin(Path::new("/home/user/none"))
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "no_plugin"));
    let error = world.sink().remove_plugin("acme").unwrap_err();
    assert!(error.to_string().contains("installed are mute, rig"), "{error}");
    let after = world.test.files.snapshot();
    for (path, bytes) in before {
        assert_eq!(after.get(&path), Some(&bytes), "{}", path.display());
    }
}

#[test]
fn the_list_tells_what_is_broken_and_what_changes_a_built_in_provider() {
    let world = World::new();
    world.put(
        "tokensink/providers/mute.toml",
        "id = \"mute\"\nbilling = \"dear\"\nprice = 1\n",
    );
    world.put(
        "tokensink/providers/a.toml",
        "id = \"anthropic\"\nname = \"Ours\"\n",
    );
    let list = world.sink_with_warnings().plugins().unwrap();
    let ids: Vec<&str> = list.iter().map(|plugin| plugin.id.as_str()).collect();
    assert_eq!(ids, ["anthropic", "mute", "rig"]);
    assert!(list[0].changes_builtin && list[0].state == PluginState::Ok);
    assert!(
        matches!(&list[1].state, PluginState::Broken(why) if why.contains("mute.toml:2") && why.contains("more")),
        "{list:#?}"
    );
}
