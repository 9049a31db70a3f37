use serde_json::json;

use crate::error::ErrorKind;
use crate::sink::Sink;
use crate::world::{World, agent, key};

const CONFIG: &str = r#"{
  agents: {
    defaults: {
      // the usual one
      model: { primary: 'best', fallbacks: ['groq/x', 'tiny'] }, // keep me
      imageModel: 'opus',
      models: { 'r1g/rig-large': { alias: 'Best' }, 'groq/x': {} },
    },
    list: [
      { id: 'main' },
      { id: 'own', model: 'groq/own' },
      { id: 'none', model: { primary: 'groq/own', fallbacks: [] } }, // on purpose
    ],
  },
  models: { providers: { house: { baseUrl: 'http://127.0.0.1:1/v1', models: [{ id: 'h1' }] } } },
}
"#;

fn configured() -> (World, Sink) {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    let sink = world.sink();
    (world, sink)
}

#[test]
fn references_are_resolved() {
    let (_, sink) = configured();
    let config = sink.config().unwrap();
    let cases = [
        ("BEST", "rig/rig-large"),
        ("opus", "anthropic/claude-opus-4-6"),
        (" tiny ", "rig/rig-small"),
        ("R1G/Tiny", "rig/rig-small"),
        ("anthropic/opus", "anthropic/claude-opus-4-6"),
        ("rig/unheard-of", "rig/unheard-of"),
        ("openrouter/anthropic/claude", "openrouter/anthropic/claude"),
        ("house/h1", "house/h1"),
        ("claude-haiku-4-5", "anthropic/claude-haiku-4-5"),
    ];
    for (text, want) in cases {
        assert_eq!(sink.model_key(&config, text).unwrap(), want, "{text:?}");
    }
    let refused = [
        ("", "no_model"),
        ("rig/", "no_model"),
        ("rig/a b", "no_model"),
        ("antropic/x", "unknown_provider"),
        ("/x", "unknown_provider"),
        ("unheard-of", "unknown_model"),
        ("rig-small", "unknown_model"),
    ];
    for (text, code) in refused {
        let error = sink.model_key(&config, text).unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Usage, code),
            "{text:?}: {error}"
        );
        assert!(
            error.fix().is_some_and(|fix| fix.starts_with("tokensink ")),
            "{text:?}"
        );
    }
    let ambiguous = sink.model_key(&config, "rig-small").unwrap_err().to_string();
    assert!(
        ambiguous.contains("mute/rig-small or rig/rig-small"),
        "{ambiguous}"
    );
    let unknown = sink.model_key(&config, "antropic/x").unwrap_err().to_string();
    assert!(unknown.contains("did you mean anthropic"), "{unknown}");
}

#[test]
fn the_view_shows_what_an_agent_uses() {
    let (_, sink) = configured();
    let main = sink.models_view(&agent("main")).unwrap();
    assert_eq!(
        (main.default.as_deref(), main.resolved_default.as_str()),
        (Some("best"), "rig/rig-large")
    );
    assert_eq!(
        (main.default_source, main.fallbacks),
        ("defaults", vec!["groq/x".to_owned(), "rig/rig-small".to_owned()])
    );
    assert_eq!(
        (main.image.as_deref(), main.image_fallbacks.len()),
        (Some("anthropic/claude-opus-4-6"), 0)
    );
    assert_eq!(main.aliases, [("Best".to_owned(), "rig/rig-large".to_owned())]);
    assert_eq!(main.allowed, ["rig/rig-large", "groq/x"]);
    let own = sink.models_view(&agent("own")).unwrap();
    assert_eq!(
        (
            own.default_source,
            own.resolved_default.as_str(),
            own.fallbacks.len()
        ),
        ("agent", "groq/own", 2)
    );
    assert!(
        sink.models_view(&agent("none")).unwrap().fallbacks.is_empty(),
        "an empty list of its own is one"
    );
}

#[test]
fn without_a_default_opus_counts_and_what_is_unknown_is_shown() {
    let world = World::new();
    let view = world.sink().models_view(&agent("main")).unwrap();
    assert_eq!(
        (view.default, view.resolved_default.as_str()),
        (None, "anthropic/claude-opus-4-6")
    );
    world.put("openclaw.json", "{agents: {defaults: {model: 'gone/x'}}}");
    let view = world.sink().models_view(&agent("main")).unwrap();
    assert_eq!(
        (view.default.as_deref(), view.resolved_default.as_str()),
        (Some("gone/x"), "gone/x")
    );
}

#[test]
fn lists_have_tags_and_say_what_is_available() {
    let (world, _) = configured();
    world.store("main", &json!({"rig:a": key("r1g")}));
    let sink = world.sink();
    let main = agent("main");
    let list = sink.models_list(&main, None, false).unwrap();
    let shown: Vec<_> = list
        .iter()
        .map(|one| (one.key.as_str(), one.tags.join(" "), one.available))
        .collect();
    let want = [
        ("rig/rig-large", "default configured alias:Best", true),
        ("groq/x", "fallback#1 configured", false),
        ("rig/rig-small", "fallback#2", true),
        ("anthropic/claude-opus-4-6", "image", false),
    ];
    assert_eq!(
        shown,
        want.map(|(key, tags, available)| (key, tags.to_owned(), available))
    );
    assert_eq!(
        (list[0].name.as_str(), list[0].provider.as_str()),
        ("rig-large", "rig")
    );
    let rig = sink.models_list(&main, Some("rig-old"), true).unwrap();
    let keys: Vec<_> = rig.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(keys, ["rig/rig-large", "rig/rig-small"]);
    let house = sink.models_list(&main, Some("house"), true).unwrap();
    assert_eq!(
        (house.len(), house[0].key.as_str(), house[0].tags.as_slice()),
        (1, "house/h1", ["configured".to_owned()].as_slice())
    );
    let all = sink.models_list(&main, None, true).unwrap();
    assert!(
        all.iter()
            .any(|one| one.key == "anthropic/claude-haiku-4-5" && one.tags.is_empty())
    );
    assert_eq!(
        sink.models_list(&main, Some("nope"), true).unwrap_err().code(),
        "unknown_provider"
    );
}

#[test]
fn the_default_is_set_and_comments_stay() {
    let (world, sink) = configured();
    assert_eq!(sink.set_default_model(None, "tiny").unwrap(), "rig/rig-small");
    let view = sink.models_view(&agent("main")).unwrap();
    assert_eq!(
        (view.default.as_deref(), view.fallbacks.len()),
        (Some("rig/rig-small"), 2)
    );
    assert!(
        view.allowed.contains(&"rig/rig-small".to_owned()),
        "a catalogue forbids what it does not list"
    );
    assert_eq!(sink.set_image_model(None, "house/h1").unwrap(), "house/h1");
    assert_eq!(
        sink.set_default_model(Some(&agent("own")), "groq/new").unwrap(),
        "groq/new"
    );
    assert_eq!(
        sink.set_default_model(Some(&agent("none")), "groq/new").unwrap(),
        "groq/new"
    );
    let text = world.text("openclaw.json");
    for comment in ["// the usual one\n", "// keep me\n", "// on purpose\n"] {
        assert!(text.contains(comment), "{text}");
    }
    assert_eq!(
        sink.models_view(&agent("own")).unwrap().default.as_deref(),
        Some("groq/new")
    );
    let none = sink.models_view(&agent("none")).unwrap();
    assert_eq!(
        (none.default.as_deref(), none.fallbacks.len()),
        (Some("groq/new"), 0)
    );
    assert_eq!(
        sink.models_view(&agent("main")).unwrap().default.as_deref(),
        Some("rig/rig-small")
    );
    let error = sink.set_image_model(Some(&agent("own")), "opus").unwrap_err();
    assert_eq!(
        error.fix(),
        Some("tokensink models set-image anthropic/claude-opus-4-6")
    );
}

#[test]
fn an_agent_on_disk_only_is_entered_for_its_model() {
    let world = World::new();
    world.store("disk", &json!({}));
    let sink = world.sink();
    sink.set_default_model(Some(&agent("disk")), "tiny").unwrap();
    assert_eq!(sink.models_view(&agent("disk")).unwrap().default_source, "agent");
    assert_eq!(sink.models_view(&agent("main")).unwrap().default, None);
    assert_eq!(sink.default_agent().unwrap(), agent("main"));
}

#[test]
fn fallbacks_come_and_go() {
    let (_, sink) = configured();
    let all = sink.fallbacks_add(None, "opus").unwrap();
    assert_eq!(all, ["groq/x", "rig/rig-small", "anthropic/claude-opus-4-6"]);
    assert_eq!(
        sink.fallbacks_add(None, "rig/tiny").unwrap(),
        all,
        "it is there already, under another name"
    );
    assert_eq!(
        sink.fallbacks_remove(None, "rig-old/rig-small").unwrap(),
        ["groq/x", "anthropic/claude-opus-4-6"]
    );
    let error = sink.fallbacks_remove(None, "groq/never").unwrap_err();
    assert_eq!(
        (error.kind(), error.fix()),
        (ErrorKind::Usage, Some("tokensink models fallbacks list"))
    );
    // An agent starts from what it had so far, and ends with a list of its own.
    let own = agent("own");
    assert_eq!(
        sink.fallbacks_add(Some(&own), "house/h1").unwrap(),
        ["groq/x", "anthropic/claude-opus-4-6", "house/h1"]
    );
    assert_eq!(
        sink.fallbacks_remove(Some(&own), "groq/x").unwrap(),
        ["anthropic/claude-opus-4-6", "house/h1"]
    );
    let view = sink.models_view(&own).unwrap();
    assert_eq!(
        (view.default.as_deref(), view.fallbacks.len()),
        (Some("groq/own"), 2)
    );
    assert!(sink.fallbacks_clear(None).unwrap().is_empty());
    assert!(sink.models_view(&agent("main")).unwrap().fallbacks.is_empty());
    assert_eq!(sink.models_view(&own).unwrap().fallbacks.len(), 2);
    sink.fallbacks_clear(Some(&own)).unwrap();
    sink.fallbacks_add(None, "opus").unwrap();
    assert!(
        sink.models_view(&own).unwrap().fallbacks.is_empty(),
        "cleared means none, not the shared ones"
    );
}

#[test]
fn image_fallbacks_come_and_go() {
    let (_, sink) = configured();
    assert_eq!(sink.image_fallbacks_add("tiny").unwrap(), ["rig/rig-small"]);
    let view = sink.models_view(&agent("main")).unwrap();
    assert_eq!(
        (view.image.as_deref(), view.image_fallbacks.len()),
        (Some("anthropic/claude-opus-4-6"), 1)
    );
    assert_eq!(sink.image_fallbacks_remove("tiny").unwrap(), [""; 0]);
    sink.image_fallbacks_add("tiny").unwrap();
    sink.image_fallbacks_clear().unwrap();
    assert!(
        sink.models_view(&agent("main"))
            .unwrap()
            .image_fallbacks
            .is_empty()
    );
}

#[test]
fn a_fallback_of_a_provider_that_is_gone_can_be_removed() {
    let world = World::new();
    world.put(
        "openclaw.json",
        "{agents: {defaults: {model: {fallbacks: ['gone/x', 'opus']}}}}",
    );
    assert_eq!(
        world.sink().fallbacks_remove(None, "gone/x").unwrap(),
        ["anthropic/claude-opus-4-6"]
    );
}

#[test]
fn aliases_come_move_and_go() {
    let (world, sink) = configured();
    let both = sink.alias_add("fast", "rig/tiny").unwrap();
    assert_eq!(
        both,
        [
            ("Best".to_owned(), "rig/rig-large".to_owned()),
            ("fast".to_owned(), "rig/rig-small".to_owned())
        ]
    );
    let moved = sink.alias_add("best", "groq/x").unwrap();
    assert!(
        moved.contains(&("best".to_owned(), "groq/x".to_owned())) && moved.len() == 2,
        "{moved:?}"
    );
    assert_eq!(sink.alias_remove(" BEST ").unwrap().len(), 1);
    assert!(world.text("openclaw.json").contains("// the usual one"));
    assert_eq!(sink.alias_remove("best").unwrap_err().code(), "no_alias");
    for alias in ["", "a/b", "a b"] {
        assert_eq!(
            sink.alias_add(alias, "opus").unwrap_err().code(),
            "bad_alias",
            "{alias:?}"
        );
    }
}

#[test]
fn readonly_and_broken_configs_are_left_alone() {
    let (world, sink) = configured();
    world.put("openclaw.json", "{ agents: ");
    assert!(
        sink.set_default_model(None, "opus")
            .unwrap_err()
            .to_string()
            .contains("openclaw.json")
    );
    assert_eq!(world.text("openclaw.json"), "{ agents: ");
    world.put("openclaw.json", CONFIG);
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let sink = world.sink();
    let before = world.test.files.snapshot();
    for result in [
        sink.set_default_model(None, "opus").map(|_| ()),
        sink.set_image_model(None, "opus").map(|_| ()),
        sink.fallbacks_clear(None).map(|_| ()),
        sink.alias_add("x", "opus").map(|_| ()),
    ] {
        assert!(
            result
                .unwrap_err()
                .to_string()
                .contains("OPENCLAW_AUTH_STORE_READONLY")
        );
    }
    assert_eq!(world.test.files.snapshot(), before);
}
