use std::collections::BTreeMap;

use super::{file, id};
use crate::{Registry, UnknownChoice, check};

/// Choice, provider, method, profile, option: those that spec.md 13.1 and 13.3 name.
#[rustfmt::skip]
const EXPECTED: &[(&str, &str, &str, &str, &str)] = &[
    ("setup-token", "anthropic", "setup-token", "anthropic:default", "--token"),
    ("token", "anthropic", "setup-token", "anthropic:default", "--token"),
    ("apiKey", "anthropic", "api-key", "anthropic:default", "--anthropic-api-key"),
    ("oauth", "anthropic", "oauth", "anthropic:<e-mail>", ""),
    ("claude-cli", "anthropic", "claude-cli", "anthropic:claude-cli", ""),
    ("anthropic-cli", "anthropic", "claude-cli", "anthropic:claude-cli", ""),
    ("openai-codex", "openai-codex", "oauth", "openai-codex:<e-mail>", ""),
    ("openai-codex-device-code", "openai-codex", "device-code", "openai-codex:<e-mail>", ""),
    ("codex-cli", "openai-codex", "codex-cli", "openai-codex:codex-cli", ""),
    ("openai-api-key", "openai", "api-key", "openai:default", "--openai-api-key"),
    ("openrouter-api-key", "openrouter", "api-key", "openrouter:default", "--openrouter-api-key"),
    ("ai-gateway-api-key", "vercel-ai-gateway", "api-key", "vercel-ai-gateway:default", "--ai-gateway-api-key"),
    ("moonshot-api-key", "moonshot", "api-key", "moonshot:default", "--moonshot-api-key"),
    ("kimi-code-api-key", "kimi", "api-key", "kimi:default", "--kimi-code-api-key"),
    ("synthetic-api-key", "synthetic", "api-key", "synthetic:default", "--synthetic-api-key"),
    ("venice-api-key", "venice", "api-key", "venice:default", "--venice-api-key"),
    ("gemini-api-key", "google", "api-key", "google:default", "--gemini-api-key"),
    ("zai-api-key", "zai", "api-key", "zai:default", "--zai-api-key"),
    ("opencode-zen", "opencode", "api-key", "opencode:default", "--opencode-zen-api-key"),
    ("opencode-go", "opencode-go", "api-key", "opencode-go:default", "--opencode-go-api-key"),
    ("minimax-api", "minimax", "api-key", "minimax:default", "--minimax-api-key"),
    ("minimax-api-lightning", "minimax", "api-key", "minimax:default", "--minimax-api-key"),
    ("minimax-global-oauth", "minimax-portal", "oauth", "minimax-portal:<e-mail>", ""),
    ("minimax-cn-oauth", "minimax-portal", "oauth-cn", "minimax-portal:<e-mail>", ""),
    ("minimax-portal", "minimax-portal", "oauth", "minimax-portal:<e-mail>", ""),
    ("qwen-api-key", "qwen", "api-key", "qwen:default", "--modelstudio-api-key"),
    ("qwen-portal", "qwen-portal", "device", "qwen-portal:<e-mail>", ""),
    ("github-copilot", "github-copilot", "device", "github-copilot:github", "--github-copilot-token"),
    ("mistral-api-key", "mistral", "api-key", "mistral:default", "--mistral-api-key"),
    ("deepseek-api-key", "deepseek", "api-key", "deepseek:default", "--deepseek-api-key"),
    ("cerebras-api-key", "cerebras", "api-key", "cerebras:default", "--cerebras-api-key"),
    ("xai-api-key", "xai", "api-key", "xai:default", "--xai-api-key"),
    ("groq-api-key", "groq", "api-key", "groq:default", "--groq-api-key"),
    ("volcengine-api-key", "volcengine", "api-key", "volcengine:default", "--volcengine-api-key"),
    ("chutes", "chutes", "oauth", "chutes:<e-mail>", ""),
    ("chutes-api-key", "chutes", "api-key", "chutes:default", "--chutes-api-key"),
    // Any case, with white space.
    (" APIKEY ", "anthropic", "api-key", "anthropic:default", "--anthropic-api-key"),
];

#[test]
fn every_documented_choice_of_a_defined_provider_is_there() {
    let registry = Registry::builtin();
    for (text, provider, method, leaves, option) in EXPECTED {
        let found = registry.choice(text).unwrap();
        let got = (
            found.definition.id.as_str(),
            found.method.id.as_str(),
            found.leaves(),
        );
        assert_eq!(got, (*provider, *method, (*leaves).to_owned()), "{text}");
        assert_eq!(
            found.choice.option.as_deref().unwrap_or_default(),
            *option,
            "{text}"
        );
    }
}

#[test]
fn a_word_and_an_option_lead_to_one_method() {
    let registry = Registry::builtin();
    let (mut words, mut options) = (BTreeMap::new(), BTreeMap::new());
    for one in registry.choices() {
        let place = (one.definition.id.as_str(), one.method.id.as_str());
        assert!(!one.choice.name.is_empty() && !one.choice.group.is_empty());
        for word in std::iter::once(&one.choice.id).chain(&one.choice.deprecated) {
            let before = words.insert(word.to_lowercase(), place);
            assert_eq!(before, None, "{word}");
        }
        if let Some(option) = &one.choice.option {
            let before = *options.entry(option.clone()).or_insert(place);
            assert_eq!(before, place, "{option}");
        }
    }
}

#[test]
fn an_unknown_choice_names_what_helps() {
    let registry = Registry::builtin();
    let unknown = |text: &str| registry.choice(text).unwrap_err();
    assert_eq!(
        unknown("openai-code").to_string(),
        "unknown auth choice \"openai-code\"; did you mean openai-codex?"
    );
    let UnknownChoice { undefined, .. } = unknown("xiaomi-api-key");
    assert_eq!(undefined, Some("xiaomi"));
    assert!(
        unknown("xiaomi-api-key")
            .to_string()
            .contains("tokensink/providers/xiaomi.toml"),
    );
    assert_eq!(unknown("").nearest, Vec::<String>::new());
}

#[test]
fn a_provider_of_the_user_has_the_usual_choices() {
    let text = "id = \"my_rig\"\nname = \"Rig\"\nextends = \"openai-compatible\"\n\
                [api]\nbase_url = \"https://rig.example/v1\"\n";
    let (registry, problems) = Registry::load(&[file("rig.toml", text)]);
    assert_eq!(problems, []);
    let found = registry.choices_of(&id("my_rig"));
    let [one] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(one.choice.id, "my_rig-api-key");
    assert_eq!(one.choice.option.as_deref(), Some("--my-rig-api-key"));
    assert_eq!(one.leaves(), "my_rig:default");
    assert_eq!(one.choice.group, "Rig");
}

#[test]
fn a_file_changes_adds_and_removes_choices() {
    let text = "id = \"openrouter\"\n[[auth]]\nid = \"api-key\"\n\
                [[auth.choice]]\nid = \"openrouter-api-key\"\nname = \"Company key\"\nprofile_name = \"work\"\n\
                [[auth.choice]]\nid = \"or-second\"\noption = \"--second-key\"\n";
    let (registry, problems) = Registry::load(&[file("o.toml", text)]);
    assert_eq!(problems, []);
    let changed = registry.choice("openrouter-api-key").unwrap();
    assert_eq!(changed.choice.name, "Company key");
    assert_eq!(changed.leaves(), "openrouter:work");
    assert_eq!(
        changed.choice.option.as_deref(),
        Some("--openrouter-api-key"),
        "the built-in one stays"
    );
    assert_eq!(
        registry.choice("or-second").unwrap().leaves(),
        "openrouter:default"
    );

    let text = "id = \"openrouter\"\n[[auth]]\nid = \"api-key\"\n\
                [[auth.choice]]\nid = \"openrouter-api-key\"\ndisabled = true\n";
    let (registry, problems) = Registry::load(&[file("o.toml", text)]);
    assert_eq!(problems, []);
    assert!(registry.choices_of(&id("openrouter")).is_empty());
}

#[test]
fn a_user_cannot_take_a_word_from_a_built_in_choice() {
    let text = "id = \"aaa\"\nextends = \"openai-compatible\"\n[api]\nbase_url = \"https://a.example\"\n\
                [[auth]]\nid = \"api-key\"\n[[auth.choice]]\nid = \"apiKey\"\noption = \"--aaa-key\"\n";
    let (registry, problems) = Registry::load(&[file("a.toml", text)]);
    assert_eq!(problems, []);
    assert_eq!(
        registry.choice("apiKey").unwrap().definition.id.as_str(),
        "anthropic"
    );
}

#[test]
fn a_wrong_choice_is_named() {
    let registry = Registry::builtin();
    let head = "id = \"rig\"\nbilling = \"free\"\n[api]\nkind = \"none\"\n";
    let cases = [
        (
            "[[auth]]\nid = \"k\"\nkind = \"api_key\"\n[[auth.choice]]\nname = \"x\"\n",
            "an auth choice ([[auth.choice]]) has no id",
        ),
        (
            "[[auth]]\nid = \"k\"\nkind = \"api_key\"\n[[auth.choice]]\nid = \"x\"\noption = \"-x\"\n",
            "auth.k.choice.x.option: \"-x\" is no name of an option",
        ),
        (
            "[[auth]]\nid = \"e\"\nkind = \"external\"\ncli = \"e\"\n[[auth.choice]]\nid = \"x\"\noption = \"--x\"\n",
            "auth.e.choice.x.option: this method leaves no credential",
        ),
        (
            "[[auth]]\nid = \"k\"\nkind = \"api_key\"\n[[auth.choice]]\nid = \"x\"\nlabel = \"y\"\n",
            "unknown field \"label\" in auth.k.choice.x",
        ),
        (
            "[[auth]]\nid = \"k\"\nkind = \"api_key\"\n[[auth.choice]]\nid = \"x\"\n[[auth.choice]]\nid = \"X\"\n",
            "the auth choice \"x\" is given twice",
        ),
    ];
    for (text, want) in cases {
        let problems = check(
            std::path::Path::new("p.toml"),
            &format!("{head}{text}"),
            &registry,
        );
        let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            words.iter().any(|line| line.contains(want)),
            "wanted {want}\ngot {words:#?}"
        );
    }
}

#[test]
fn no_undefined_choice_is_defined() {
    let registry = Registry::builtin();
    for (choice, provider) in crate::choice::UNDEFINED {
        assert!(registry.get(&id(provider)).is_none(), "{provider}");
        assert_eq!(
            registry.choice(choice).unwrap_err().undefined,
            Some(*provider),
            "{choice}"
        );
    }
}
