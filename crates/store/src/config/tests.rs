use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use tokensink_testkit::{Errno, Faults, MapEnvironment, TestHost};
use tokensink_types::{AgentId, ProfileId, ProviderId};

use super::*;

const PATH: &str = "/s/openclaw.json";

/// As people write it: comments, single quotes, bare keys, trailing commas, hex, duplicate blanks.
const SAMPLE: &str = r#"// my config
{
  /* logins */
  auth: {
    profiles: {
      'anthropic:work': { provider: "anthropic", mode: 'token' }, // work
      "rig:a@b.c": {
        provider: "rig",
        mode: "oauth",
        email: "a@b.c", // mine
        x: 0x1F,
      },
    },

    order: { anthropic: ['anthropic:work', "anthropic:manual"] },
    "cooldowns": { billingMaxHours: +24, },
  },
  agents: {
    defaults: { model: { primary: "anthropic/opus", fallbacks: ["rig/small"] }, models: { "anthropic/opus": { alias: "opus" } } },
    list: [
      { id: "main", default: true },
      { id: 'Work', agentDir: '~/w', model: "rig/small" }, // second
    ],
  },
  bindings: [ { agentId: "work", match: { channel: "whatsapp" } } ],
  models: { providers: { openrouter: { apiKey: "${OPENROUTER_API_KEY}", baseUrl: "https://x" } } },
  limit: Infinity,
}
"#;

fn store(test: &TestHost) -> ConfigStore {
    let env = MapEnvironment::of([("OPENCLAW_STATE_DIR", "/s")]);
    ConfigStore::new(test.host(), Paths::resolve(&env).unwrap(), false)
}

fn id(text: &str) -> ProfileId {
    ProfileId::parse(text).unwrap()
}

fn provider(text: &str) -> ProviderId {
    ProviderId::parse(text).unwrap()
}

/// The lines that an edit of the sample removed and added.
fn diff(change: impl FnOnce(&Editor)) -> (Vec<String>, Vec<String>) {
    let editor = Editor::parse(SAMPLE).unwrap();
    change(&editor);
    let after = editor.text();
    Config::parse(&after).unwrap();
    let mut removed: Vec<String> = SAMPLE.lines().map(str::to_owned).collect();
    let mut added = Vec::new();
    let mut from = 0;
    for line in after.lines() {
        match removed.iter().skip(from).position(|known| known == line) {
            Some(at) => {
                removed.remove(from + at);
                from += at;
            }
            None => added.push(line.trim().to_owned()),
        }
    }
    (removed.iter().map(|line| line.trim().to_owned()).collect(), added)
}

fn strings(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn getters() {
    let config = Config::parse(SAMPLE).unwrap();
    let profiles = config.auth_profiles();
    let seen: Vec<_> = profiles
        .iter()
        .map(|p| (p.id.as_str(), p.mode.as_str(), p.email.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            ("anthropic:work", "token", None),
            ("rig:a@b.c", "oauth", Some("a@b.c"))
        ]
    );
    let order = vec![(
        provider("anthropic"),
        vec![id("anthropic:work"), id("anthropic:manual")],
    )];
    assert_eq!(config.auth_order(), order);
    assert_eq!(config.cooldowns().unwrap()["billingMaxHours"], json!(24));
    let agents = config.agents();
    assert_eq!(
        (
            agents.len(),
            agents[1].id.as_str(),
            agents[1].agent_dir.as_deref()
        ),
        (2, "work", Some("~/w"))
    );
    assert_eq!(config.default_agent(), AgentId::main());
    let model = config.default_model(ModelKind::Text);
    assert_eq!(
        (model.primary.as_deref(), model.fallbacks),
        (Some("anthropic/opus"), vec!["rig/small".to_owned()])
    );
    assert_eq!(agents[1].model.primary.as_deref(), Some("rig/small"));
    assert_eq!(config.default_model(ModelKind::Image), ModelChoice::default());
    assert_eq!(config.models()[0].alias.as_deref(), Some("opus"));
    let providers = config.providers();
    assert!(providers[0].api_key.inline.is_some());
    assert_eq!(providers[0].base_url.as_deref(), Some("https://x"));
    assert_eq!(config.bindings().len(), 1);
    assert_eq!(Config::default().default_agent(), AgentId::main());
    assert!(!format!("{config:?}").contains("OPENROUTER"));
}

#[test]
fn an_unedited_text_is_the_same() {
    let crlf = SAMPLE.replace('\n', "\r\n");
    let bom = format!("\u{feff}{SAMPLE}");
    for text in [SAMPLE, &crlf, &bom, "{}", "{ }\n\n", "// a\n{} // b\n"] {
        assert_eq!(Editor::parse(text).unwrap().text(), text);
    }
}

#[test]
fn apply_profile_touches_its_lines_only() {
    let rig = provider("rig");
    let front = OrderPlacement::Front;
    let apply =
        |id: ProfileId, provider: ProviderId, mode: &'static str, email: Option<&'static str>, place| {
            diff(move |editor| editor.apply_profile(&id, &provider, mode, email, place).unwrap())
        };
    assert_eq!(
        apply(id("rig:a@b.c"), rig.clone(), "oauth", Some("a@b.c"), front),
        (vec![], vec![])
    );
    let (removed, added) = apply(id("rig:a@b.c"), rig.clone(), "token", Some("a@b.c"), front);
    assert_eq!(
        (removed, added),
        (strings(&["mode: \"oauth\","]), strings(&["mode: \"token\","]))
    );
    let (removed, added) = apply(id("rig:a@b.c"), rig, "oauth", None, front);
    assert_eq!(added, Vec::<String>::new());
    assert_eq!(removed, strings(&["email: \"a@b.c\", // mine"]));
    let (removed, added) = apply(id("anthropic:new"), provider("anthropic"), "api_key", None, front);
    let order = "order: { anthropic: [\"anthropic:new\", 'anthropic:work', \"anthropic:manual\"] },";
    assert!(added.contains(&order.to_owned()), "{added:?}");
    assert!(added.contains(&"\"anthropic:new\": {".to_owned()), "{added:?}");
    assert_eq!(
        removed,
        strings(&["order: { anthropic: ['anthropic:work', \"anthropic:manual\"] },"])
    );
    let (removed, added) = apply(
        id("anthropic:manual"),
        provider("anthropic"),
        "token",
        None,
        OrderPlacement::AppendIfMissing,
    );
    assert_eq!(removed, Vec::<String>::new());
    assert_eq!(added.len(), 4, "{added:?}");
}

#[test]
fn an_order_is_never_made() {
    let editor = Editor::parse("{}").unwrap();
    editor
        .apply_profile(
            &id("rig:a"),
            &provider("rig"),
            "oauth",
            None,
            OrderPlacement::Front,
        )
        .unwrap();
    let config = Config::parse(&editor.text()).unwrap();
    assert_eq!(config.auth_profiles().len(), 1);
    assert_eq!(config.at(&["auth", "order"]), None);
}

#[test]
fn removing_a_profile() {
    let editor = Editor::parse(SAMPLE).unwrap();
    assert!(editor.remove_profile(&id("anthropic:work")).unwrap());
    assert!(!editor.remove_profile(&id("anthropic:work")).unwrap());
    let config = Config::parse(&editor.text()).unwrap();
    assert_eq!(config.auth_profiles().len(), 1);
    assert_eq!(
        config.auth_order(),
        vec![(provider("anthropic"), vec![id("anthropic:manual")])]
    );
    assert!(editor.remove_profile(&id("anthropic:manual")).unwrap());
    assert_eq!(
        Config::parse(&editor.text()).unwrap().auth_order(),
        vec![],
        "an empty order would select none"
    );
}

#[test]
fn models_and_fallbacks() {
    let text = |text: &str, change: &dyn Fn(&Editor)| {
        let editor = Editor::parse(text).unwrap();
        change(&editor);
        Config::parse(&editor.text()).unwrap()
    };
    let kind = ModelKind::Text;
    let set = |editor: &Editor| editor.set_default_model(kind, "a/b").unwrap();
    for start in [
        "{}",
        "{agents:{defaults:{model:'x/y'}}}",
        "{agents:{defaults:{model:{primary:'x/y',fallbacks:['f']}}}}",
    ] {
        let config = text(start, &set);
        let model = config.default_model(kind);
        assert_eq!(model.primary.as_deref(), Some("a/b"), "{start}");
        assert_eq!(
            model.fallbacks.len(),
            usize::from(start.contains("'f'")),
            "{start}"
        );
    }
    let config = text(SAMPLE, &set);
    assert_eq!(
        config.models().len(),
        2,
        "a catalogue forbids what it does not list"
    );
    let add = |editor: &Editor| {
        assert!(editor.add_fallback(kind, "a/b").unwrap());
        assert!(!editor.add_fallback(kind, "a/b").unwrap());
    };
    assert_eq!(
        text(SAMPLE, &add).default_model(kind).fallbacks,
        ["rig/small", "a/b"]
    );
    let model = text("{agents:{defaults:{model:'x/y'}}}", &add).default_model(kind);
    assert_eq!(
        (model.primary.as_deref(), model.fallbacks),
        (Some("x/y"), vec!["a/b".to_owned()])
    );
    let remove = |editor: &Editor| {
        assert!(editor.remove_fallback(kind, "rig/small").unwrap());
        assert!(!editor.remove_fallback(kind, "rig/small").unwrap());
    };
    let model = text(SAMPLE, &remove).default_model(kind);
    assert_eq!(
        (model.primary.as_deref(), model.fallbacks.len()),
        (Some("anthropic/opus"), 0)
    );
}

#[test]
fn aliases() {
    let editor = Editor::parse(SAMPLE).unwrap();
    editor.set_alias("rig/small", "Opus").unwrap();
    let config = Config::parse(&editor.text()).unwrap();
    let aliases: Vec<_> = config
        .models()
        .into_iter()
        .map(|model| (model.key, model.alias))
        .collect();
    let want = [
        ("anthropic/opus".to_owned(), None),
        ("rig/small".to_owned(), Some("Opus".to_owned())),
    ];
    assert_eq!(aliases, want);
    assert!(editor.remove_alias("opus"));
    assert!(!editor.remove_alias("opus"));
    assert_eq!(
        Config::parse(&editor.text()).unwrap().models().len(),
        2,
        "the models stay in the catalogue"
    );
}

#[test]
fn agents_come_and_go() {
    let work = AgentId::normalise("work");
    let editor = Editor::parse("{}").unwrap();
    editor.add_agent(&work, &[("workspace", json!("/w"))]).unwrap();
    let config = Config::parse(&editor.text()).unwrap();
    let ids: Vec<_> = config.agents().into_iter().map(|agent| agent.id).collect();
    assert_eq!(ids, [AgentId::main(), work.clone()]);
    assert_eq!(config.default_agent(), AgentId::main(), "main stays the default");
    assert!(
        editor
            .add_agent(&work, &[])
            .unwrap_err()
            .contains("exists already")
    );
    assert!(editor.set_agent_field(&work, "model", &json!("a/b")).unwrap());
    assert!(editor.remove_agent(&work));
    assert!(!editor.remove_agent(&work));
    let (removed, added) = diff(|editor| assert!(editor.remove_agent(&work)));
    assert_eq!(added, Vec::<String>::new());
    assert!(removed.iter().all(|line| line.contains("Work")), "{removed:?}");
}

#[test]
fn bindings_are_edited_raw() {
    let editor = Editor::parse(SAMPLE).unwrap();
    editor
        .push(
            &["bindings"],
            &json!({"agentId": "main", "match": {"channel": "x"}}),
        )
        .unwrap();
    assert!(editor.replace_at(&["bindings"], 0, &json!({"agentId": "other"})));
    assert!(editor.remove_at(&["bindings"], 1));
    assert!(!editor.remove_at(&["bindings"], 1));
    let config = Config::parse(&editor.text()).unwrap();
    assert_eq!(config.bindings(), [json!({"agentId": "other"})]);
}

#[test]
fn a_field_of_an_element_is_set_and_the_rest_of_it_stays_as_written() {
    let text = "{ list: [ 1, { a: 'x', /* why */ in: { b: 2 }, }, ], }";
    let editor = Editor::parse(text).unwrap();
    let set = |index, fields: &[&str], value| editor.set_at(&["list"], index, fields, &value);
    assert_eq!(set(1, &["a"], json!("x")), Ok(true));
    assert_eq!(editor.text(), text, "an equal value is left as written");
    assert_eq!(set(1, &["in", "b"], json!("new")), Ok(true));
    assert_eq!(editor.text(), text.replace("b: 2", "b: \"new\""));
    assert_eq!(set(2, &["a"], json!(1)), Ok(false));
    assert!(
        set(0, &["a"], json!(1))
            .unwrap_err()
            .contains("list[0] is no object")
    );
    assert!(
        set(1, &["a", "c"], json!(1))
            .unwrap_err()
            .contains("a is not an object")
    );
}

#[test]
fn the_last_of_two_equal_keys_counts() {
    let editor = Editor::parse("{ a: { x: 1 }, a: { x: 2 } }").unwrap();
    assert_eq!(editor.get(&["a", "x"]), Some(json!(2)));
    editor.set(&["a", "x"], &json!(3)).unwrap();
    assert_eq!(
        Config::parse(&editor.text()).unwrap().at(&["a", "x"]),
        Some(&json!(3))
    );
    assert!(editor.remove(&["a"]));
    assert_eq!(editor.get(&["a"]), None, "nothing older comes to light");
}

#[test]
fn something_else_in_the_way_is_a_sentence() {
    let editor = Editor::parse("{ auth: 5 }").unwrap();
    let error = editor.set(&["auth", "profiles", "x"], &json!({})).unwrap_err();
    assert!(error.contains("auth is not an object"), "{error}");
    assert_eq!(editor.text(), "{ auth: 5 }");
}

#[test]
fn broken_texts_name_the_place_and_are_left() {
    let cases = [
        ("{\n  a: 1\n  b: 2\n}", 2),
        ("{ a: ", 1),
        ("", 0),
        ("[]", 0),
        ("{\n\n  a: b }", 3),
        ("{ a: 1 } }", 1),
    ];
    for (text, line) in cases {
        let test = TestHost::new();
        test.files.put(PATH, text, 0o600);
        let error = store(&test).load().unwrap_err();
        let StoreError::Unreadable(unreadable) = &error else {
            panic!("{error}")
        };
        assert_eq!(unreadable.failure.line, line, "{text:?}: {error}");
        let edit = store(&test).edit(|editor| editor.set(&["x"], &json!(1)));
        assert!(matches!(edit, Err(StoreError::Unreadable(_))), "{text:?}");
        assert_eq!(test.files.text(PATH), text);
    }
    let test = TestHost::new();
    test.files.put(PATH, b"{\n a: '\xff' }", 0o600);
    assert!(store(&test).load().unwrap_err().to_string().contains("line 2"));
}

#[test]
fn edits_replace_the_file_under_its_lock() {
    let test = TestHost::new();
    test.files.put("/real/config.json", SAMPLE, 0o644);
    test.files.symlink("/real/config.json", PATH);
    let store = store(&test);
    assert_eq!(store.load().unwrap().agents().len(), 2);
    store
        .edit(|editor| {
            assert!(
                test.files.mode("/s/openclaw.json.lock").is_some(),
                "OpenClaw sees the lock"
            );
            editor.set_default_model(ModelKind::Text, "a/b")
        })
        .unwrap();
    assert_eq!(test.files.mode("/s/openclaw.json.lock"), None);
    assert!(
        test.files.text("/real/config.json").contains("a/b"),
        "the link was followed"
    );
    assert_eq!(test.files.mode("/real/config.json"), Some(0o600));
    assert_eq!(
        store
            .load()
            .unwrap()
            .default_model(ModelKind::Text)
            .primary
            .as_deref(),
        Some("a/b")
    );
    let before = test.files.snapshot();
    let refused: Result<(), _> = store.edit(|editor| {
        editor.set(&["x"], &json!(1))?;
        Err("no such model; see `openclaw models list`".to_owned())
    });
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("{PATH}: no such model; see `openclaw models list`")
    );
    assert_eq!(
        test.files.text("/real/config.json").as_bytes(),
        before[Path::new("/real/config.json")]
    );
}

#[test]
fn a_missing_config_is_made() {
    let test = TestHost::new();
    let store = store(&test);
    assert_eq!(*store.load().unwrap(), Config::default());
    store
        .edit(|editor| editor.set(&["a"], &json!({"b": [1]})))
        .unwrap();
    assert_eq!(test.files.text(PATH), "{\n  \"a\": {\n    \"b\": [1]\n  }\n}\n");
    assert_eq!(test.files.mode(PATH), Some(0o600));
}

#[test]
fn readonly_and_faults_leave_the_file() {
    let test = TestHost::new();
    test.files.put(PATH, SAMPLE, 0o600);
    let env = MapEnvironment::of([("OPENCLAW_STATE_DIR", "/s")]);
    let paths = Paths::resolve(&env).unwrap();
    let before = test.files.snapshot();
    let readonly = ConfigStore::new(test.host(), paths.clone(), true);
    assert!(matches!(
        readonly.edit(|editor| editor.set(&["x"], &json!(1))),
        Err(StoreError::ReadOnly { .. })
    ));
    assert_eq!(test.files.snapshot(), before);
    for n in 1.. {
        let faults = Faults::fail_at(n, Errno::NOSPC).torn();
        let store = ConfigStore::new(test.host_with(&faults), paths.clone(), false);
        let result = store.edit(|editor| editor.set(&["x"], &json!(n)));
        let text = test.files.text(PATH);
        assert!(Config::parse(&text).is_ok(), "call {n}: {}", faults.last());
        if result.is_ok() && !faults.fired() {
            assert!(text.contains(&format!("\"x\": {n}")));
            break;
        }
    }
}

proptest! {
    /// Any list becomes any other, and the rest of the text does not move.
    #[test]
    fn lists_become_what_is_wanted(from in prop::collection::vec("[a-e]", 0..6), to in prop::collection::vec("[a-e]", 0..6), lines in any::<bool>()) {
        let separator = if lines { ",\n    " } else { ", " };
        let quoted: Vec<String> = from.iter().map(|text| format!("'{text}'")).collect();
        let head = "{ // head\n  before: [1, 2], /* c */\n  list: [";
        let tail = "], // tail\n  after: {x: 1,},\n}\n";
        let text = format!("{head}{}{tail}", quoted.join(separator));
        let editor = Editor::parse(&text).unwrap();
        editor.set_list(&["list"], &to).unwrap();
        let after = editor.text();
        let config = Config::parse(&after).unwrap();
        prop_assert_eq!(config.at(&["list"]), Some(&json!(to)));
        prop_assert!(after.starts_with(head) && after.ends_with(tail), "{}", after);
    }

    #[test]
    fn parsing_never_panics(text in "\\PC{0,80}") {
        let _ = Config::parse(&text);
        let _ = Editor::parse(&text);
    }
}

#[test]
fn a_profile_gets_another_id_everywhere() {
    let text = r#"{
  // mine
  auth: {
    profiles: { "rig:default": { provider: "rig", mode: "oauth", x: 1 } },
    order: { rig: ["rig:default", "rig:key", "rig:a@b.c"], other: ["other:x"] },
  },
}
"#;
    let editor = Editor::parse(text).unwrap();
    let id = |text: &str| ProfileId::parse(text).unwrap();
    editor
        .rename_profile(&id("rig:default"), &id("rig:a@b.c"))
        .unwrap();
    let after = editor.text();
    assert!(after.contains("// mine"), "{after}");
    assert_eq!(
        editor.get(&["auth", "profiles"]).unwrap(),
        json!({"rig:a@b.c": {"provider": "rig", "mode": "oauth", "x": 1}})
    );
    assert_eq!(
        editor.get(&["auth", "order"]).unwrap(),
        json!({"rig": ["rig:a@b.c", "rig:key"], "other": ["other:x"]})
    );
    let before = editor.text();
    editor.rename_profile(&id("rig:gone"), &id("rig:a@b.c")).unwrap();
    assert_eq!(editor.text(), before);
}
