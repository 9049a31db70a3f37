//! Pointing the programs at us and back again.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokensink_neighbours::wire::{
    WirePlan, WireRecord, WireRequest, apply, plan, settings_file, unwire_plan,
};
use tokensink_neighbours::{Neighbour, NeighbourError};
use tokensink_testkit::TestHost;

const SETTINGS: &str = "/home/user/.claude/settings.json";
const CONFIG: &str = "/home/user/.codex/config.toml";

fn request() -> WireRequest {
    let text = |text: &str| text.to_owned();
    WireRequest {
        program: "/usr/bin/tokensink".into(),
        args: vec![text("token"), text("--profile-id"), text("openai-codex:default")],
        base_url: Some(text("https://chatgpt.com/backend-api/codex")),
        headers: vec![(text("chatgpt-account-id"), text("acct-1"))],
        name: text("OpenAI Codex (tokensink)"),
    }
}

fn claude_request() -> WireRequest {
    WireRequest {
        base_url: None,
        headers: vec![("anthropic-beta".to_owned(), "oauth-2025-04-20".to_owned())],
        ..request()
    }
}

fn request_for(neighbour: Neighbour) -> WireRequest {
    match neighbour {
        Neighbour::ClaudeCode => claude_request(),
        _ => request(),
    }
}

fn file_of(neighbour: Neighbour) -> &'static str {
    match neighbour {
        Neighbour::ClaudeCode => SETTINGS,
        _ => CONFIG,
    }
}

fn planned(test: &TestHost, neighbour: Neighbour, earlier: Option<&WireRecord>) -> WirePlan {
    plan(&test.host(), neighbour, &request_for(neighbour), earlier).unwrap()
}

/// Wires and returns the record, as the caller's file gives it back.
fn wire(test: &TestHost, neighbour: Neighbour) -> WireRecord {
    let planned = planned(test, neighbour, None);
    apply(&test.host(), &planned).unwrap();
    let record = planned.record.unwrap();
    let again = WireRecord::from_json(&record.to_json()).unwrap();
    assert_eq!(again, record);
    again
}

fn unwire(test: &TestHost, record: &WireRecord) -> WirePlan {
    let back = unwire_plan(&test.host(), record).unwrap();
    apply(&test.host(), &back).unwrap();
    back
}

#[test]
fn claude_code_gets_the_hook_and_the_header_that_it_lacks() {
    let test = TestHost::new();
    let before = "{\n  \"model\": \"opus\",\n  \"env\": {\n    \"FOO\": \"1\"\n  }\n}\n";
    test.files.put(SETTINGS, before, 0o644);
    let shown = planned(&test, Neighbour::ClaudeCode, None);
    assert_eq!(test.files.text(SETTINGS), before, "a plan changes nothing");
    assert_eq!(
        shown.diff,
        "--- /home/user/.claude/settings.json\n+++ /home/user/.claude/settings.json\n\
         -    \"FOO\": \"1\"\n-  }\n\
         +    \"FOO\": \"1\",\n+    \"ANTHROPIC_BETAS\": \"oauth-2025-04-20\"\n+  },\n\
         +  \"apiKeyHelper\": \"/usr/bin/tokensink token --profile-id openai-codex:default\"\n"
    );
    let record = wire(&test, Neighbour::ClaudeCode);
    let settings: Value = serde_json::from_str(&test.files.text(SETTINGS)).unwrap();
    assert_eq!(
        settings,
        json!({
            "model": "opus",
            "env": {"FOO": "1", "ANTHROPIC_BETAS": "oauth-2025-04-20"},
            "apiKeyHelper": "/usr/bin/tokensink token --profile-id openai-codex:default",
        })
    );
    assert_eq!(test.files.mode(SETTINGS), Some(0o644), "the mode is the user's");
    unwire(&test, &record);
    assert_eq!(test.files.text(SETTINGS), before);
}

#[test]
fn what_claude_code_had_before_comes_back() {
    let test = TestHost::new();
    let before = r#"{"apiKeyHelper":"echo sk-ant-canary-canary","env":{"ANTHROPIC_BETAS":"mine-1"}}"#;
    test.files.put(SETTINGS, before, 0o600);
    let shown = planned(&test, Neighbour::ClaudeCode, None);
    assert!(!shown.diff.contains("canary"), "{}", shown.diff);
    assert!(!format!("{shown:?}").contains("canary"));
    let record = wire(&test, Neighbour::ClaudeCode);
    assert!(!format!("{record:?}").contains("canary"));
    assert!(
        test.files
            .text(SETTINGS)
            .contains(r#""ANTHROPIC_BETAS":"mine-1,oauth-2025-04-20""#)
    );
    unwire(&test, &record);
    assert_eq!(test.files.text(SETTINGS), before);
}

const CODEX_BEFORE: &str = "# mine
model = \"gpt-5.1-codex\"   # the good one
model_provider = \"corp\" # company

[model_providers.corp]
name = \"corp\"
base_url = \"https://llm.corp.example/v1\"

[features]
apps = false
";

#[test]
fn codex_gets_a_provider_and_keeps_its_comments() {
    let test = TestHost::new();
    test.files.put(CONFIG, CODEX_BEFORE, 0o600);
    let record = wire(&test, Neighbour::Codex);
    let added = "
[model_providers.tokensink]
name = \"OpenAI Codex (tokensink)\"
base_url = \"https://chatgpt.com/backend-api/codex\"
wire_api = \"responses\"
http_headers = { chatgpt-account-id = \"acct-1\" }

[model_providers.tokensink.auth]
command = \"/usr/bin/tokensink\"
args = [\"token\", \"--profile-id\", \"openai-codex:default\"]
timeout_ms = 65000
refresh_interval_ms = 300000
";
    let text = test.files.text(CONFIG);
    assert!(
        text.contains("model_provider = \"tokensink\" # company\n"),
        "{text}"
    );
    assert!(text.contains(added), "{text}");
    let rest = text
        .replace(added, "")
        .replace("\"tokensink\" # company", "\"corp\" # company");
    assert_eq!(rest, CODEX_BEFORE);
    unwire(&test, &record);
    assert_eq!(test.files.text(CONFIG), CODEX_BEFORE);
}

#[test]
fn settings_that_we_made_go_again() {
    for neighbour in [Neighbour::ClaudeCode, Neighbour::Codex] {
        let test = TestHost::new();
        let record = wire(&test, neighbour);
        assert_eq!(test.files.mode(file_of(neighbour)), Some(0o600));
        unwire(&test, &record);
        assert_eq!(test.files.mode(file_of(neighbour)), None, "{neighbour}");

        let record = wire(&test, neighbour);
        let path = file_of(neighbour);
        let more = match neighbour {
            Neighbour::ClaudeCode => test.files.text(path).replacen('{', "{\"model\":\"opus\",", 1),
            _ => format!("model = \"gpt\"\n{}", test.files.text(path)),
        };
        test.files.put(path, more, 0o600);
        unwire(&test, &record);
        assert!(
            test.files.text(path).contains("model"),
            "what the user added stays"
        );
    }
}

#[test]
fn wiring_twice_is_wiring_once() {
    for (neighbour, before) in [
        (Neighbour::ClaudeCode, "{\"apiKeyHelper\": \"mine\"}"),
        (Neighbour::Codex, CODEX_BEFORE),
    ] {
        let test = TestHost::new();
        test.files.put(file_of(neighbour), before, 0o600);
        let first = wire(&test, neighbour);
        let again = planned(&test, neighbour, Some(&first));
        assert!(
            again.already() && again.diff.is_empty(),
            "{neighbour}: {}",
            again.diff
        );
        assert_eq!(again.record.as_ref(), Some(&first));

        let mut moved = request_for(neighbour);
        moved.program = "/opt/tokensink".into();
        let moved = plan(&test.host(), neighbour, &moved, Some(&first)).unwrap();
        assert!(!moved.already());
        apply(&test.host(), &moved).unwrap();
        unwire(&test, moved.record.as_ref().unwrap());
        assert_eq!(test.files.text(file_of(neighbour)), before, "{neighbour}");
    }
}

#[test]
fn what_the_user_changed_after_us_is_not_undone() {
    let test = TestHost::new();
    test.files.put(CONFIG, CODEX_BEFORE, 0o600);
    let record = wire(&test, Neighbour::Codex);
    let text = test.files.text(CONFIG);
    test.files.put(
        CONFIG,
        text.replace("\"tokensink\" # company", "\"other\" # new"),
        0o600,
    );
    let back = unwire(&test, &record);
    assert_eq!(back.kept, ["model_provider"]);
    let want = CODEX_BEFORE.replace("\"corp\" # company", "\"other\" # new");
    assert_eq!(test.files.text(CONFIG), want);
    let again = unwire(&test, &record);
    assert!(again.already() && again.diff.is_empty());
}

#[test]
fn settings_that_do_not_parse_are_not_touched() {
    let cases = [
        (Neighbour::ClaudeCode, "{\n \"env\": canary }"),
        (Neighbour::ClaudeCode, "{\n // canary\n}"),
        (Neighbour::ClaudeCode, "[\"canary\"]"),
        (Neighbour::Codex, "a = \"canary\nb = 1"),
        (Neighbour::Codex, "model_providers = { canary = {} }"),
    ];
    for (neighbour, content) in cases {
        let test = TestHost::new();
        test.files.put(file_of(neighbour), content, 0o600);
        let error = plan(&test.host(), neighbour, &request_for(neighbour), None).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains(file_of(neighbour)) && !told.contains("canary"),
            "{told}"
        );
        assert_eq!(test.files.text(file_of(neighbour)), content);
    }
}

#[test]
fn a_plan_that_has_aged_is_not_applied() {
    let test = TestHost::new();
    let shown = planned(&test, Neighbour::ClaudeCode, None);
    test.files.put(SETTINGS, "{\"model\":\"opus\"}", 0o600);
    let error = apply(&test.host(), &shown).unwrap_err();
    assert!(error.to_string().contains("run the command again"), "{error}");
    assert_eq!(test.files.text(SETTINGS), "{\"model\":\"opus\"}");
}

#[test]
fn linked_settings_stay_linked_and_homes_can_be_elsewhere() {
    let test = TestHost::new();
    test.env.set("CLAUDE_CONFIG_DIR", "/c");
    test.files.put("/dotfiles/settings.json", "{\"a\":1}", 0o640);
    test.files.symlink("/dotfiles/settings.json", "/c/settings.json");
    let record = wire(&test, Neighbour::ClaudeCode);
    assert_eq!(record.file, std::path::Path::new("/c/settings.json"));
    assert!(
        test.files
            .text("/dotfiles/settings.json")
            .contains("apiKeyHelper")
    );
    assert_eq!(test.files.mode("/dotfiles/settings.json"), Some(0o640));
    unwire(&test, &record);
    assert_eq!(test.files.text("/dotfiles/settings.json"), "{\"a\":1}");
}

#[test]
fn what_cannot_be_wired_is_told() {
    let test = TestHost::new();
    let host = test.host();
    assert!(settings_file(&host, Neighbour::GeminiCli).is_err());
    let relative = WireRequest {
        program: "tokensink".into(),
        ..request()
    };
    for neighbour in [Neighbour::ClaudeCode, Neighbour::Codex] {
        let error = plan(&host, neighbour, &relative, None).unwrap_err();
        assert!(error.to_string().contains("absolute"), "{error}");
    }
    let nowhere = WireRequest {
        base_url: None,
        ..request()
    };
    let error = plan(&host, Neighbour::Codex, &nowhere, None).unwrap_err();
    assert!(matches!(error, NeighbourError::Edit { .. }), "{error}");
}

fn any_settings() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let value = prop_oneof![
        leaf.clone(),
        proptest::collection::vec(leaf.clone(), 0..3).prop_map(Value::from),
    ];
    let env = proptest::collection::vec(("[A-Z]{1,4}|ANTHROPIC_BETAS", "[a-z0-9-]{0,8}"), 0..3);
    let rest = proptest::collection::vec(("[a-z]{1,4}", value), 0..4);
    (rest, proptest::option::of(env)).prop_map(|(rest, env)| {
        let mut all: Map<String, Value> = rest.into_iter().collect();
        if let Some(env) = env {
            let env: Map<String, Value> = env.into_iter().map(|(key, value)| (key, value.into())).collect();
            all.insert("env".to_owned(), env.into());
        }
        all
    })
}

/// Found by fuzzing: they would have come back under headings of their own.
#[test]
fn what_would_not_come_back_as_it_was_is_refused() {
    for (text, words) in [
        ("model_provider.s.xname = \"3X\"\n", "model_provider is a table"),
        ("[[model_provider]]\na = 1\n", "model_provider is a table"),
        (
            "model_providers.tokensink.name = \"mine\"\n",
            "write it as [model_providers.tokensink]",
        ),
    ] {
        let test = TestHost::new();
        test.files.put(CONFIG, text, 0o600);
        let refused = plan(&test.host(), Neighbour::Codex, &request(), None).unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
        assert_eq!(test.files.text(CONFIG), text);
    }
}

/// Found by fuzzing: the TOML library spells every line end as a line feed.
#[test]
fn line_ends_of_codex_settings_stay() {
    let text = "# mine\r\nmodel = \"gpt-5\"\r\n\r\n[model_providers.x]\r\nname = \"X\"\r\n";
    let test = TestHost::new();
    test.files.put(CONFIG, text, 0o600);
    let record = wire(&test, Neighbour::Codex);
    let wired = test.files.text(CONFIG);
    assert_eq!(
        wired.matches('\n').count(),
        wired.matches("\r\n").count(),
        "{wired:?}"
    );
    assert!(wired.starts_with("# mine\r\nmodel = \"gpt-5\"\r\n"), "{wired:?}");
    unwire(&test, &record);
    assert_eq!(test.files.text(CONFIG), text);

    for mixed in ["a = 1\r\nb = 2\n", "\u{feff}a = 1\n"] {
        test.files.put(CONFIG, mixed, 0o600);
        let refused = plan(&test.host(), Neighbour::Codex, &request(), None).unwrap_err();
        assert!(refused.to_string().contains("dos2unix"), "{refused}");
        assert_eq!(test.files.text(CONFIG), mixed);
    }
}

proptest! {
    #[test]
    fn unwiring_restores_any_settings(settings in any_settings(), pretty: bool) {
        let json = if pretty { serde_json::to_string_pretty(&settings) } else { serde_json::to_string(&settings) }.unwrap();
        let test = TestHost::new();
        test.files.put(SETTINGS, &json, 0o600);
        let record = wire(&test, Neighbour::ClaudeCode);
        unwire(&test, &record);
        prop_assert_eq!(test.files.text(SETTINGS), json);
    }

    #[test]
    fn any_text_is_wired_or_refused(text in "\\PC{0,60}|[a-z\\[\\]{}\"=.\n# ]{0,40}") {
        for neighbour in [Neighbour::ClaudeCode, Neighbour::Codex] {
            let test = TestHost::new();
            test.files.put(file_of(neighbour), &text, 0o600);
            if let Ok(planned) = plan(&test.host(), neighbour, &request_for(neighbour), None) {
                apply(&test.host(), &planned).unwrap();
                let record = planned.record.unwrap();
                let back = unwire_plan(&test.host(), &record).unwrap();
                prop_assert!(back.kept.is_empty());
            }
        }
    }
}
