use serde_json::{Value, json};
use tokensink_types::ProfileId;

use crate::error::ErrorKind;
use crate::report::OrderView;
use crate::world::{World, agent, at, id, key};

fn world() -> World {
    let world = World::new();
    world.store(
        "main",
        &json!({"rig:a": key("rig"), "rig:b": key("r1g"), "groq:a": key("groq")}),
    );
    world
}

fn texts(view: &OrderView) -> (Option<Vec<&str>>, Vec<&str>) {
    let order = view
        .order
        .as_ref()
        .map(|ids| ids.iter().map(ProfileId::as_str).collect());
    (order, view.effective.iter().map(ProfileId::as_str).collect())
}

#[test]
fn an_order_is_stored_once_per_id_under_the_canonical_provider() {
    let world = world();
    let sink = world.sink();
    let main = agent("main");
    let none = sink.order_get(&main, "rig").unwrap();
    assert_eq!(texts(&none), (None, vec!["rig:a", "rig:b"]));
    assert_eq!(
        (none.state_path, none.agent_dir),
        (at("agents/main/agent/auth-state.json"), at("agents/main/agent"))
    );
    let ids = [id(" rig:b "), id("rig:a"), id("rig:b")];
    let set = sink.order_set(&main, " R1G ", &ids).unwrap();
    assert_eq!(set.provider.as_str(), "rig");
    assert_eq!(
        texts(&set),
        (Some(vec!["rig:b", "rig:a"]), vec!["rig:b", "rig:a"])
    );
    assert_eq!(world.state("main")["order"], json!({"rig": ["rig:b", "rig:a"]}));
    let cleared = sink.order_clear(&main, "rig-old").unwrap();
    assert_eq!(texts(&cleared), (None, vec!["rig:a", "rig:b"]));
    assert_eq!(
        world.state("main"),
        Value::Null,
        "with nothing left in it the file is gone"
    );
}

#[test]
fn an_order_under_an_alias_is_seen_replaced_and_cleared() {
    let world = world();
    let state = json!({"version": 1, "order": {"rig-old": ["rig:b"], "r1g": ["rig:b"], "groq": ["groq:a"]}, "future": 1});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    let sink = world.sink();
    let main = agent("main");
    assert_eq!(
        texts(&sink.order_get(&main, "rig").unwrap()).0,
        Some(vec!["rig:b"])
    );
    sink.order_set(&main, "rig", &[id("rig:a")]).unwrap();
    assert_eq!(
        world.state("main")["order"],
        json!({"groq": ["groq:a"], "rig": ["rig:a"]})
    );
    world.put("agents/main/agent/auth-state.json", &state.to_string());
    sink.order_clear(&main, "rig").unwrap();
    assert_eq!(
        world.state("main"),
        json!({"version": 1, "order": {"groq": ["groq:a"]}, "future": 1})
    );
}

#[test]
fn what_does_not_belong_in_an_order_is_refused_by_name() {
    let world = world();
    let sink = world.sink();
    let before = world.test.files.snapshot();
    let list = "tokensink models auth list --provider rig";
    let cases = [
        (
            vec![id("rig:a"), id("rig:nope")],
            "no_profile",
            "Auth profile \"rig:nope\" not found in /home/user/.openclaw/agents/main/agent.",
        ),
        (
            vec![id("groq:a")],
            "other_provider",
            "Auth profile \"groq:a\" is for groq, not rig.",
        ),
        (vec![], "no_profiles", "an order needs at least one profile id"),
    ];
    for (ids, code, message) in cases {
        let error = sink.order_set(&agent("main"), "rig", &ids).unwrap_err();
        assert_eq!(
            (error.kind(), error.code(), error.to_string().as_str()),
            (ErrorKind::Usage, code, message)
        );
        assert_eq!(error.fix(), Some(list));
    }
    for provider in ["nope", ""] {
        assert_eq!(
            sink.order_get(&agent("main"), provider).unwrap_err().code(),
            "unknown_provider"
        );
    }
    assert_eq!(world.test.files.snapshot(), before);
}

#[test]
fn an_agent_orders_what_it_inherits_in_its_own_state() {
    let world = world();
    let sink = world.sink();
    sink.order_set(&agent("main"), "rig", &[id("rig:b"), id("rig:a")])
        .unwrap();
    let main_before = world.state("main");
    let work = agent("work");
    assert_eq!(
        texts(&sink.order_get(&work, "rig").unwrap()),
        (None, vec!["rig:b", "rig:a"])
    );
    let set = sink.order_set(&work, "rig", &[id("rig:a")]).unwrap();
    assert_eq!(texts(&set), (Some(vec!["rig:a"]), vec!["rig:a"]));
    assert_eq!(world.state("work")["order"], json!({"rig": ["rig:a"]}));
    assert_eq!(world.state("main"), main_before);
    let error = sink.order_set(&work, "rig", &[id("rig:x")]).unwrap_err();
    assert_eq!(
        error.fix(),
        Some("tokensink models auth list --provider rig --agent work")
    );
}

#[test]
fn an_unreadable_main_store_is_not_mistaken_for_a_missing_profile() {
    let world = world();
    world.put("agents/main/agent/auth-profiles.json", "{ torn");
    world.store("work", &json!({"groq:w": key("groq")}));
    let error = world
        .sink_with_warnings()
        .order_set(&agent("work"), "rig", &[id("rig:a")])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("auth-profiles.json"), "{error}");
}

#[test]
fn readonly_writes_nothing() {
    let world = world();
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let sink = world.sink();
    let before = world.test.files.snapshot();
    let set = sink.order_set(&agent("main"), "rig", &[id("rig:a")]).unwrap_err();
    let clear = sink.order_clear(&agent("main"), "rig").unwrap_err();
    for error in [set, clear] {
        assert_eq!(
            (error.code(), error.fix()),
            ("readonly", Some("unset OPENCLAW_AUTH_STORE_READONLY"))
        );
    }
    sink.order_get(&agent("main"), "rig").unwrap();
    assert_eq!(world.test.files.snapshot(), before);
}
