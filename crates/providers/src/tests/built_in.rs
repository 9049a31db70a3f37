use std::collections::BTreeMap;
use std::path::Path;

use tokensink_types::{Account, BillingClass, CredentialKind, MethodId, Secret};

use super::{definition, id};
use crate::builtin::BUILTIN;
use crate::{ApiKind, Flow, Origin, Registry, StateSource, check};

/// Every provider that the design, the seeds and spec.md 4.6 name.
const EXPECTED: [&str; 30] = [
    "anthropic",
    "claude-cli",
    "openai-codex",
    "openai",
    "github-copilot",
    "google",
    "google-vertex",
    "openrouter",
    "groq",
    "xai",
    "mistral",
    "deepseek",
    "moonshot",
    "chutes",
    "qwen",
    "qwen-portal",
    "minimax",
    "minimax-portal",
    "zai",
    "opencode",
    "kimi",
    "cerebras",
    "venice",
    "vercel-ai-gateway",
    "synthetic",
    "deepgram",
    "amazon-bedrock",
    "volcengine",
    "openai-compatible",
    "anthropic-compatible",
];

#[test]
fn every_built_in_definition_holds_and_is_named_like_its_file() {
    let registry = Registry::builtin();
    for builtin in BUILTIN {
        // Under another id, so that the file stands on its own and is not laid over itself.
        let own = builtin.text.replacen("id = \"", "id = \"copy-of-", 1);
        let own: String = own
            .lines()
            .filter(|line| !line.starts_with("aliases = ["))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            check(Path::new(builtin.file), &own, &registry),
            [],
            "{}",
            builtin.id
        );
        let definition = registry.get(&id(builtin.id)).unwrap();
        assert_eq!(definition.id.as_str(), builtin.id);
        assert_eq!(
            definition.aliases, builtin.aliases,
            "{}: the table of built-in definitions is behind its file",
            builtin.id
        );
        assert!(registry.is_builtin(&definition.id));
    }
    assert_eq!(registry.all().count(), BUILTIN.len());
    for name in EXPECTED {
        assert!(registry.get(&id(name)).is_some(), "{name}");
    }
}

#[test]
fn the_table_knows_what_every_credential_costs() {
    let registry = Registry::builtin();
    let kinds = [
        CredentialKind::OAuth,
        CredentialKind::Token,
        CredentialKind::ApiKey,
    ];
    for (definition, kind) in registry.all().flat_map(|one| kinds.map(|kind| (one, kind))) {
        let known = registry.billing_for(&definition.id, kind, None);
        assert_eq!(
            known,
            Some(definition.billing_for(kind, None)),
            "{} {kind:?}",
            definition.id
        );
        // Not even the client makes a difference, which the table could not tell.
        let methods = definition
            .methods
            .iter()
            .filter(|method| method.stores() == Some(kind));
        for method in methods {
            assert_eq!(Some(method.billing), known, "{} {:?}", definition.id, method.id);
        }
    }
    assert_eq!(
        registry.billing_for(&id("nobody"), CredentialKind::ApiKey, None),
        None
    );
    let dear = super::file("x.toml", "id = \"anthropic\"\nbilling = \"free\"\n");
    let (changed, problems) = Registry::load(&[dear]);
    assert_eq!(problems, []);
    let billing = changed.billing_for(&id("anthropic"), CredentialKind::ApiKey, None);
    assert_eq!(billing, Some(BillingClass::Free), "the user's file counts");
}

#[test]
fn definitions_survive_being_written_and_read_again() {
    let registry = Registry::builtin();
    for before in registry.all() {
        let text = registry.to_toml(&before.id).unwrap();
        let (again, problems) = Registry::load(&[super::file("x.toml", &text)]);
        assert_eq!(problems, [], "{}", before.id);
        assert_eq!(again.get(&before.id), Some(before));
    }
}

#[test]
fn aliases_lead_to_one_provider() {
    let registry = Registry::builtin();
    let cases = [
        ("z.ai", "zai"),
        (" Z-AI ", "zai"),
        ("opencode-zen", "opencode"),
        ("opencode-go-auth", "opencode-go"),
        ("qwen", "qwen"),
        ("modelstudio", "qwen"),
        ("qwencloud", "qwen"),
        ("kimi-code", "kimi"),
        ("kimi-coding", "kimi"),
        ("bedrock", "amazon-bedrock"),
        ("aws-bedrock", "amazon-bedrock"),
        ("bytedance", "volcengine"),
        ("doubao", "volcengine"),
        ("Anthropic", "anthropic"),
    ];
    for (text, want) in cases {
        assert_eq!(registry.resolve(text).unwrap().id.as_str(), want, "{text}");
        assert_eq!(registry.canonical(&id(text)).as_str(), want, "{text}");
    }
    assert_eq!(registry.canonical(&id("nobody")).as_str(), "nobody");
    let mut seen = BTreeMap::new();
    for definition in registry.all() {
        for alias in &definition.aliases {
            assert!(registry.get(&id(alias)).is_none(), "{alias} is a provider");
            assert_eq!(seen.insert(alias.clone(), &definition.id), None, "{alias} twice");
        }
    }
}

#[test]
fn an_unknown_provider_gets_the_nearest_names() {
    let registry = Registry::builtin();
    let error = registry.resolve("antropic").unwrap_err();
    assert_eq!(error.nearest, ["anthropic"]);
    assert_eq!(
        error.to_string(),
        "unknown provider \"antropic\"; did you mean anthropic? `tokensink providers list` shows all"
    );
    assert_eq!(registry.resolve("/").unwrap_err().nearest, [""; 0]);
}

#[test]
fn model_aliases_are_data() {
    let registry = Registry::builtin();
    let cases = [
        ("Opus", "anthropic", "claude-opus-4-6"),
        ("sonnet", "anthropic", "claude-sonnet-4-5"),
        ("haiku", "anthropic", "claude-haiku-4-5"),
        ("gpt", "openai", "gpt-5.1"),
        ("codex", "openai-codex", "gpt-5.1-codex"),
        ("gemini", "google", "gemini-2.5-pro"),
        ("grok", "xai", "grok-4"),
    ];
    for (alias, provider, model) in cases {
        assert_eq!(
            registry.model_alias(alias),
            Some((&id(provider), model)),
            "{alias}"
        );
    }
    assert_eq!(registry.model_alias("nothing"), None);
    let mut seen = BTreeMap::new();
    for definition in registry.all() {
        for (alias, model) in &definition.api.aliases {
            assert!(
                definition.api.models.contains(model),
                "{model} of {}",
                definition.id
            );
            assert_eq!(seen.insert(alias, &definition.id), None, "{alias} twice");
        }
    }
}

#[test]
fn variables_of_the_table_stand_in_their_order() {
    let registry = Registry::builtin();
    let cases: [(&str, &[&str]); 14] = [
        ("anthropic", &["ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY"]),
        ("openai", &["OPENAI_API_KEY"]),
        ("google", &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
        (
            "github-copilot",
            &["COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"],
        ),
        ("chutes", &["CHUTES_OAUTH_TOKEN", "CHUTES_API_KEY"]),
        ("qwen-portal", &["QWEN_OAUTH_TOKEN", "QWEN_PORTAL_API_KEY"]),
        ("zai", &["ZAI_API_KEY", "Z_AI_API_KEY"]),
        ("opencode", &["OPENCODE_API_KEY", "OPENCODE_ZEN_API_KEY"]),
        ("vercel-ai-gateway", &["AI_GATEWAY_API_KEY"]),
        ("kimi", &["KIMICODE_API_KEY", "KIMI_API_KEY"]),
        ("amazon-bedrock", &["AWS_BEARER_TOKEN_BEDROCK"]),
        ("deepgram", &["DEEPGRAM_API_KEY"]),
        ("synthetic", &["SYNTHETIC_API_KEY"]),
        ("moonshot", &["MOONSHOT_API_KEY"]),
    ];
    for (provider, want) in cases {
        let names: Vec<&str> = definition(&registry, provider)
            .env
            .iter()
            .map(|v| v.name.as_str())
            .collect();
        assert_eq!(names, want, "{provider}");
    }
    let all = registry.env_names();
    let shared: Vec<&str> = all
        .iter()
        .filter(|e| e.variable.shared)
        .map(|e| e.variable.name.as_str())
        .collect();
    assert_eq!(shared, ["GH_TOKEN", "GITHUB_TOKEN"]);
    let anthropic = definition(&registry, "anthropic");
    let kinds: Vec<CredentialKind> = anthropic.env.iter().map(|v| anthropic.env_kind(v)).collect();
    assert_eq!(kinds, [CredentialKind::Token, CredentialKind::ApiKey]);
}

#[test]
fn lease_headers_by_provider_and_kind() {
    let registry = Registry::builtin();
    let account = Account {
        account_id: Some("acct-1".into()),
        ..Account::default()
    };
    let beta = ("anthropic-beta", "oauth-2025-04-20");
    type Headers = [(&'static str, &'static str)];
    let cases: [(&str, CredentialKind, &Headers); 9] = [
        ("anthropic", CredentialKind::ApiKey, &[("x-api-key", "s")]),
        (
            "anthropic",
            CredentialKind::Token,
            &[("authorization", "Bearer s"), beta],
        ),
        (
            "anthropic",
            CredentialKind::OAuth,
            &[("authorization", "Bearer s"), beta],
        ),
        (
            "openai-codex",
            CredentialKind::OAuth,
            &[("authorization", "Bearer s"), ("chatgpt-account-id", "acct-1")],
        ),
        ("openai", CredentialKind::ApiKey, &[("authorization", "Bearer s")]),
        ("minimax", CredentialKind::ApiKey, &[("x-api-key", "s")]),
        (
            "minimax-portal",
            CredentialKind::OAuth,
            &[("authorization", "Bearer s")],
        ),
        (
            "deepgram",
            CredentialKind::ApiKey,
            &[("authorization", "Token s")],
        ),
        (
            "anthropic-compatible",
            CredentialKind::Token,
            &[("authorization", "Bearer s")],
        ),
    ];
    for (provider, kind, want) in cases {
        let api = definition(&registry, provider).api_for(kind, None);
        let got = api
            .lease_headers(&Secret::new(" s\n"), &account, &BTreeMap::new())
            .unwrap();
        let want: Vec<(String, Secret)> = want
            .iter()
            .map(|(n, v)| ((*n).to_owned(), Secret::new(*v)))
            .collect();
        assert_eq!(got.len(), want.len(), "{provider} {kind:?}");
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(
                (&got.0, got.1.expose()),
                (&want.0, want.1.expose()),
                "{provider} {kind:?}"
            );
        }
    }
}

#[test]
fn anthropic_has_the_logins_of_all_seeds() {
    let registry = Registry::builtin();
    let anthropic = definition(&registry, "anthropic");
    let ids: Vec<&str> = anthropic.methods.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "setup-token",
            "paste-token",
            "api-key",
            "oauth",
            "oauth-2026-01",
            "claude-cli"
        ]
    );
    for word in [
        "not a promise",
        "blocked",
        "allowed again",
        "terms",
        "API key is the safer",
    ] {
        assert!(anthropic.notice.contains(word), "{word}");
    }
    assert!(!anthropic.notice.contains("\n"), "one paragraph");
    let billing = |kind| anthropic.billing_for(kind, None);
    assert_eq!(billing(CredentialKind::ApiKey), BillingClass::Metered);
    assert_eq!(billing(CredentialKind::Token), BillingClass::Subscription);
    assert_eq!(billing(CredentialKind::OAuth), BillingClass::Subscription);
    assert_eq!(anthropic.method_named("API Key").unwrap().notice, "");
    let oauth = anthropic
        .method_for(
            CredentialKind::OAuth,
            Some("9d1c250a-e61b-44d9-88ed-5944d1962f5e"),
        )
        .unwrap();
    assert_eq!(oauth.id.as_str(), "oauth");
    for name in ["oauth", "oauth-2026-01"] {
        let Flow::Pkce(flow) = &anthropic.method(&MethodId::parse(name).unwrap()).unwrap().flow else {
            panic!("{name}")
        };
        assert_eq!((flow.state, flow.exchange_state), (StateSource::Verifier, true));
        assert_eq!(flow.client.expiry_buffer.as_secs(), 300);
        assert!(flow.redirect(true).unwrap().uri.starts_with("https://"), "{name}");
    }
    let cli = anthropic.method_named("claude-cli").unwrap();
    assert_eq!(anthropic.refresh_client(cli), oauth.oauth_client());
    assert_eq!(cli.profile_name(&Account::default()), "claude-cli");
}

#[test]
fn codex_listens_on_both_loopback_addresses() {
    let registry = Registry::builtin();
    let codex = definition(&registry, "openai-codex");
    let method = codex.default_method().unwrap();
    let Flow::Pkce(flow) = &method.flow else {
        panic!("{method:?}")
    };
    let hosts: Vec<String> = flow.callback_hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["127.0.0.1", "::1"]);
    for remote in [false, true] {
        assert_eq!(
            flow.redirect(remote).unwrap().uri,
            "http://localhost:1455/auth/callback"
        );
    }
    assert_eq!(
        flow.client.terminal_errors,
        [
            "invalid_grant",
            "refresh_token_expired",
            "refresh_token_reused",
            "refresh_token_invalidated"
        ]
    );
    assert_eq!(codex.api.kind, ApiKind::OpenAiResponses);
    let ids: Vec<&str> = codex.methods.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(ids, ["oauth", "device-code", "codex-cli"]);
}

#[test]
fn copilot_leaves_a_token_under_its_own_name() {
    let registry = Registry::builtin();
    let copilot = definition(&registry, "github-copilot");
    let method = copilot.method_for(CredentialKind::Token, None).unwrap();
    assert_eq!(method.profile_name(&Account::default()), "github");
    assert!(method.oauth_client().unwrap().runtime_key.is_some());
    assert_eq!(copilot.method_for(CredentialKind::ApiKey, None), None);
}

#[test]
fn fields_of_a_built_in_definition_come_from_there() {
    let registry = Registry::builtin();
    let origins = registry.origins(&id("anthropic"));
    assert!(origins.iter().all(|field| field.origin == Origin::Builtin));
    let field = origins
        .iter()
        .find(|field| field.path == "auth.oauth.token_endpoint")
        .unwrap();
    assert_eq!(field.value, "\"https://platform.claude.com/v1/oauth/token\"");
    assert_eq!(registry.overridden_endpoints(&id("anthropic")), []);
    assert_eq!(registry.origins(&id("nobody")), []);
}
