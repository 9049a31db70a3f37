//! What becomes of variables.

use serde_json::json;

use super::*;
use crate::world::{World, agent, key};

const RIG_ENV: &str = r#"
id = "rig"
name = "Rig"
billing = "metered"
env = ["RIG_API_KEY"]
[api]
kind = "openai-chat"
base_url = "http://127.0.0.1:9500/v1"
[[auth]]
id = "api-key"
kind = "api_key"
"#;

fn request() -> EnvImport {
    EnvImport {
        agent: agent("main"),
        names: vec!["RIG_API_KEY".to_owned()],
        provider: None,
        copy: false,
    }
}

fn world() -> World {
    let world = World::new();
    world.put("tokensink/providers/rig.toml", RIG_ENV);
    world.test.env.set("RIG_API_KEY", "sk-canary");
    world
}

fn planned(world: &World) -> (String, &'static str) {
    let plan = world.sink().plan_env_import(&request()).unwrap();
    assert!(!format!("{plan:?}").contains("canary"));
    (plan.rows[0].profile.clone(), plan.rows[0].action.word())
}

#[test]
fn the_id_follows_from_what_is_there() {
    let other = json!({"type": "api_key", "provider": "rig", "key": "sk-other"});
    let adopted = json!({"type": "api_key", "provider": "rig",
        "keyRef": {"source": "env", "provider": "default", "id": "RIG_API_KEY"}});
    let cases = [
        (json!({}), ("rig:default", "new")),
        (json!({"rig:default": other}), ("rig:env", "new")),
        (json!({"rig:default": key("rig")}), ("rig:default", "linked")),
        (json!({"rig:default": adopted.clone()}), ("rig:env", "linked")),
        (
            json!({"rig:default": other, "rig:env": adopted}),
            ("rig:env", "linked"),
        ),
        (
            json!({"rig:default": other, "rig:env": other}),
            ("rig:env", "kept ours"),
        ),
    ];
    for (profiles, want) in cases {
        let world = world();
        world.store("main", &profiles);
        let (profile, word) = planned(&world);
        assert_eq!((profile.as_str(), word), want, "{profiles}");
    }
}

#[test]
fn what_other_programs_need_too_is_adopted_only_by_name() {
    let world = World::new();
    world.test.env.set("GITHUB_TOKEN", "ghp_canary");
    let all = EnvImport {
        names: Vec::new(),
        ..request()
    };
    assert_eq!(
        world.sink().plan_env_import(&all).unwrap_err().code(),
        "nothing_to_import"
    );
    let named = EnvImport {
        names: vec!["GITHUB_TOKEN".to_owned()],
        ..request()
    };
    let plan = world.sink().plan_env_import(&named).unwrap();
    assert_eq!(plan.rows[0].kind, Some(CredentialKind::Token), "{:?}", plan.rows);
}

#[test]
fn what_is_not_set_or_not_known_is_a_usage_error() {
    let world = World::new();
    let error = world.sink().plan_env_import(&request()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Usage, "unknown_variable")
    );
    let all = EnvImport {
        names: Vec::new(),
        ..request()
    };
    assert_eq!(
        world.sink().plan_env_import(&all).unwrap_err().code(),
        "nothing_to_import"
    );
    let elsewhere = EnvImport {
        provider: Some("nobody".to_owned()),
        ..request()
    };
    assert_eq!(
        world.sink().plan_env_import(&elsewhere).unwrap_err().code(),
        "unknown_provider"
    );
}
