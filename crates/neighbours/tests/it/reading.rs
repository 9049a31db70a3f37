//! Every shape in which a neighbour's login is found, also torn, blank and strange.

use proptest::prelude::*;
use serde_json::{Value, json};
use tokensink_neighbours::{Keychain, Neighbour, Place, Reading, described_account, places, read, read_all};
use tokensink_testkit::{Errno, TestHost};
use tokensink_types::{Credential, Expiry, UnixMillis};

use crate::support::{CLAUDE, CODEX, claude_file, codex_file, jwt, login, look, place};

/// The kind of reading in one word, with the credential's kind.
fn word(reading: &Reading) -> String {
    match reading {
        Reading::Login(login) => {
            let borrowed = login.only_borrowed.as_ref().map_or("", |_| ", only borrowed");
            format!("{}{borrowed}", login.credential.kind().as_str())
        }
        Reading::Blanked(_) => "blanked".to_owned(),
        Reading::SignedOut => "signed out".to_owned(),
        Reading::Missing => "missing".to_owned(),
        Reading::Unusable { reason } => {
            assert!(!reason.contains("canary"), "{reason}");
            "unusable".to_owned()
        }
        Reading::Locked { .. } => "locked".to_owned(),
    }
}

fn file_of(neighbour: Neighbour) -> &'static str {
    match neighbour {
        Neighbour::ClaudeCode => CLAUDE,
        Neighbour::Codex => CODEX,
        Neighbour::QwenCode => "/home/user/.qwen/oauth_creds.json",
        Neighbour::GeminiCli => "/home/user/.gemini/oauth_creds.json",
        Neighbour::MiniMax => "/home/user/.minimax/oauth_creds.json",
        Neighbour::OpenCode => "/home/user/.local/share/opencode/auth.json",
    }
}

fn check(neighbour: Neighbour, content: &str, want: &str) {
    let test = TestHost::new();
    test.files.put(file_of(neighbour), content, 0o600);
    let before = test.files.snapshot();
    let found = look(&test, neighbour);
    assert_eq!(word(&found), want, "{neighbour} {content}: {found:?}");
    assert_eq!(test.files.snapshot(), before, "reading changes nothing");
}

#[test]
fn shapes_of_claude_code() {
    let section = |section: Value| json!({"claudeAiOauth": section, "mcpOAuth": {}}).to_string();
    let cases = [
        (claude_file(1), "oauth"),
        (
            section(
                json!({"accessToken": "a", "refreshToken": "r", "expiresAt": 5, "scopes": ["user:profile"]}),
            ),
            "oauth, only borrowed",
        ),
        (
            section(
                json!({"accessToken": "a", "refreshToken": "r", "expiresAt": 5.0, "subscriptionType": "pro"}),
            ),
            "oauth",
        ),
        (
            section(json!({"accessToken": "a", "expiresAt": 5, "scopes": ["user:inference"]})),
            "token",
        ),
        (
            section(json!({"accessToken": "a", "refreshToken": null, "expiresAt": null})),
            "token",
        ),
        (
            section(
                json!({"accessToken": "", "refreshToken": "", "expiresAt": 0, "scopes": ["user:inference"]}),
            ),
            "blanked",
        ),
        (section(json!({})), "blanked"),
        (section(json!(null)), "signed out"),
        (json!({"mcpOAuth": {}}).to_string(), "signed out"),
        ("{}".to_owned(), "signed out"),
        (section(json!("canary")), "unusable"),
        (
            section(json!({"accessToken": "", "refreshToken": "canary"})),
            "unusable",
        ),
        (
            section(json!({"accessToken": "canary", "refreshToken": "canary", "expiresAt": "soon"})),
            "unusable",
        ),
        (
            section(json!({"accessToken": "canary", "refreshToken": "canary"})),
            "unusable",
        ),
        ("[\"canary\"]".to_owned(), "unusable"),
        (String::new(), "unusable"),
        (
            "{\"claudeAiOauth\":{\"accessToken\":\"canary".to_owned(),
            "unusable",
        ),
        ("\0\0\0\0".to_owned(), "unusable"),
    ];
    for (content, want) in cases {
        check(Neighbour::ClaudeCode, &content, want);
    }
}

#[test]
fn shapes_of_codex() {
    let tokens = json!({"id_token": "i", "access_token": "a", "refresh_token": "r", "account_id": "acct"});
    let cases = [
        (codex_file(1), "oauth"),
        (
            json!({"tokens": tokens, "last_refresh": "2026-01-01T00:00:00Z"}).to_string(),
            "oauth",
        ),
        (
            json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": "sk", "tokens": tokens}).to_string(),
            "oauth",
        ),
        (
            json!({"OPENAI_API_KEY": "sk", "tokens": tokens}).to_string(),
            "api_key",
        ),
        (
            json!({"auth_mode": "apikey", "OPENAI_API_KEY": "sk"}).to_string(),
            "api_key",
        ),
        (
            json!({"auth_mode": "apikey", "OPENAI_API_KEY": null}).to_string(),
            "signed out",
        ),
        (
            json!({"auth_mode": "chatgpt", "tokens": null}).to_string(),
            "signed out",
        ),
        (
            json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": "sk"}).to_string(),
            "signed out",
        ),
        (
            json!({"auth_mode": "chatgptAuthTokens", "tokens": tokens}).to_string(),
            "oauth, only borrowed",
        ),
        (
            json!({"auth_mode": "agentIdentity", "agent_identity": "canary"}).to_string(),
            "unusable",
        ),
        (
            json!({"tokens": {"access_token": "", "refresh_token": "", "id_token": ""}}).to_string(),
            "blanked",
        ),
        (
            json!({"tokens": {"access_token": "canary", "refresh_token": ""}}).to_string(),
            "unusable",
        ),
        (
            json!({"tokens": {"access_token": "", "refresh_token": "canary"}}).to_string(),
            "unusable",
        ),
        (json!({"tokens": ["canary"]}).to_string(), "unusable"),
        ("{\"tokens\": canary}".to_owned(), "unusable"),
    ];
    for (content, want) in cases {
        check(Neighbour::Codex, &content, want);
    }
}

#[test]
fn shapes_of_the_others() {
    let google = json!({"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expiry_date": 5});
    for neighbour in [Neighbour::QwenCode, Neighbour::GeminiCli, Neighbour::MiniMax] {
        check(neighbour, &google.to_string(), "oauth, only borrowed");
        check(neighbour, "{}", "signed out");
        check(neighbour, r#"{"access_token":"","refresh_token":""}"#, "blanked");
        check(
            neighbour,
            r#"{"access_token":"canary","expiry_date":5}"#,
            "unusable",
        );
        let endless = r#"{"access_token":"canary","refresh_token":"canary","expiry_date":null}"#;
        check(neighbour, endless, "unusable");
    }
    let oauth = json!({"type": "oauth", "refresh": "r", "access": "a", "expires": 5});
    let opencode = |entries: Value| entries.to_string();
    check(
        Neighbour::OpenCode,
        &opencode(json!({"anthropic": oauth})),
        "oauth, only borrowed",
    );
    check(
        Neighbour::OpenCode,
        &opencode(json!({"zai": {"type": "api", "key": "k"}})),
        "api_key, only borrowed",
    );
    check(
        Neighbour::OpenCode,
        &opencode(json!({"a": oauth, "b": oauth})),
        "unusable",
    );
    check(Neighbour::OpenCode, "{}", "signed out");
}

#[test]
fn a_claude_login_in_full() {
    let test = TestHost::new();
    test.files.put(CLAUDE, claude_file(7), 0o600);
    let login = login(look(&test, Neighbour::ClaudeCode));
    let oauth = login.credential.as_oauth().unwrap();
    assert_eq!(oauth.provider.as_str(), "anthropic");
    assert_eq!(oauth.tokens.access.expose(), "sk-ant-oat01-7");
    assert_eq!(oauth.tokens.refresh.as_ref().unwrap().expose(), "sk-ant-ort01-7");
    assert_eq!(oauth.tokens.expires, Some(UnixMillis(1_767_229_200_000)));
    assert!(oauth.account.is_unknown(), "the file does not say whose it is");
    assert_eq!(oauth.fields["rateLimitTier"], "default_claude_max_5x");
    assert_eq!(login.plan.as_deref(), Some("max"));
    assert_eq!(login.scopes, ["user:inference", "user:profile"]);
    assert_eq!(login.only_borrowed, None);
    let stamp = login.stamp.unwrap();
    assert_eq!((stamp.mode, stamp.is_dir), (0o600, false));
}

#[test]
fn what_claude_code_says_of_its_account() {
    let test = TestHost::new();
    let account = r#"{"oauthAccount":{"accountUuid":"u-1","emailAddress":"ann@example.com"},"x":1}"#;
    test.files.put("/home/user/.claude.json", account, 0o600);
    test.files.put("/c/.claude.json", "{", 0o600);
    let host = test.host();
    let described = described_account(&host, &place(&test, Neighbour::ClaudeCode));
    assert_eq!(described.email.as_deref(), Some("ann@example.com"));
    assert_eq!(described.account_id.as_deref(), Some("u-1"));
    test.env.set("CLAUDE_CONFIG_DIR", "/c");
    assert!(described_account(&host, &place(&test, Neighbour::ClaudeCode)).is_unknown());
    assert!(described_account(&host, &place(&test, Neighbour::Codex)).is_unknown());
}

#[test]
fn a_codex_login_in_full() {
    let test = TestHost::new();
    test.files.put(CODEX, codex_file(7), 0o600);
    let login = login(look(&test, Neighbour::Codex));
    let oauth = login.credential.as_oauth().unwrap();
    assert_eq!(oauth.provider.as_str(), "openai-codex");
    assert_eq!(oauth.tokens.refresh.as_ref().unwrap().expose(), "rt_7");
    assert_eq!(oauth.tokens.expires, Some(UnixMillis(1_767_229_200_000)));
    assert!(oauth.tokens.id_token.is_some());
    assert_eq!(oauth.account.account_id.as_deref(), Some("acct-1"));
    assert_eq!(oauth.account.email.as_deref(), Some("ann@example.com"));
    assert_eq!(oauth.account.subject.as_deref(), Some("user-1"));
    assert_eq!((login.plan.as_deref(), login.only_borrowed), (Some("plus"), None));
}

#[test]
fn codex_expiry_is_the_tokens_else_counted_from_the_last_refresh() {
    let hour = 3_600_000;
    let written = 1_767_225_600_000;
    let far = jwt(&json!({"exp": 1_800_000_000}));
    let cases = [
        (
            json!({"access_token": far}),
            json!("2026-01-01T00:00:00Z"),
            1_800_000_000_000,
        ),
        (
            json!({"access_token": "opaque"}),
            json!("2025-12-31T20:00:00.5Z"),
            written - 4 * hour + 500 + hour,
        ),
        (json!({"access_token": "opaque"}), json!(null), written + hour),
        (
            json!({"access_token": "opaque"}),
            json!("yesterday"),
            written + hour,
        ),
    ];
    for (mut tokens, refreshed, want) in cases {
        tokens["refresh_token"] = json!("r");
        let test = TestHost::new();
        let content = json!({"tokens": tokens, "last_refresh": refreshed}).to_string();
        test.files.put(CODEX, &content, 0o600);
        let host = test.host();
        host.files
            .set_modified(CODEX.as_ref(), UnixMillis(written))
            .unwrap();
        let login = login(look(&test, Neighbour::Codex));
        let expires = login.credential.as_oauth().unwrap().tokens.expires;
        assert_eq!(expires, Some(UnixMillis(want)), "{content}");
    }
}

#[test]
fn codex_with_another_store_is_borrowed_at_most() {
    let cases = [
        ("", true),
        ("cli_auth_credentials_store = \"file\"\n", true),
        ("cli_auth_credentials_store = \"keyring\"\n", false),
        ("cli_auth_credentials_store = \"auto\"\n", false),
        ("cli_auth_credentials_store = 5\n", false),
        ("model = [broken", false),
    ];
    for (config, cooperates) in cases {
        let test = TestHost::new();
        test.files.put(CODEX, codex_file(1), 0o600);
        test.files.put("/home/user/.codex/config.toml", config, 0o600);
        let login = login(look(&test, Neighbour::Codex));
        assert_eq!(
            login.only_borrowed.is_none(),
            cooperates,
            "{config}: {:?}",
            login.only_borrowed
        );
    }
}

#[test]
fn opencode_holds_many() {
    let test = TestHost::new();
    let content = json!({
        "anthropic": {"type": "oauth", "refresh": "r1", "access": "a1", "expires": 5},
        "openai": {"type": "oauth", "refresh": "r2", "access": "a2", "expires": 6, "accountId": "acct"},
        "github-copilot": {"type": "oauth", "refresh": "gho_1", "access": "", "expires": 0},
        "zai": {"type": "api", "key": "k", "metadata": {"region": "eu", "n": 1}},
        "https://corp.example": {"type": "wellknown", "key": "K", "token": "canary"},
        "broken": 5,
    });
    test.env.set("OPENCODE_AUTH_CONTENT", content.to_string());
    let host = test.host();
    let all = read_all(&host, &place(&test, Neighbour::OpenCode));
    let told: Vec<_> = all
        .iter()
        .map(|named| {
            let provider = named.provider.as_ref().map_or("-", |provider| provider.as_str());
            format!("{} -> {provider}: {}", named.name, word(&named.reading))
        })
        .collect();
    assert_eq!(
        told,
        [
            "anthropic -> anthropic: oauth, only borrowed",
            "openai -> openai-codex: oauth, only borrowed",
            "github-copilot -> github-copilot: token, only borrowed",
            "zai -> zai: api_key, only borrowed",
            "https://corp.example -> -: unusable",
            "broken -> -: unusable",
        ]
    );
    let Some(Credential::Token(copilot)) = all[2].reading.login().map(|login| &login.credential) else {
        panic!("{:?}", all[2]);
    };
    assert_eq!(copilot.expires, Expiry::Never);
}

#[test]
fn places_without_a_login() {
    let test = TestHost::new();
    let host = test.host();
    for neighbour in Neighbour::ALL {
        assert_eq!(look(&test, neighbour), Reading::Missing, "{neighbour}");
        let all = read_all(&host, &place(&test, neighbour));
        assert_eq!(all[0].reading, Reading::Missing);
    }
    test.files
        .put("/home/user/.codex", "a file where the home should be", 0o600);
    assert_eq!(look(&test, Neighbour::Codex), Reading::Missing);
    test.files.put(CLAUDE, claude_file(1), 0o600);
    test.files.set_fault(CLAUDE, Some(Errno::ACCESS));
    let Reading::Unusable { reason } = look(&test, Neighbour::ClaudeCode) else {
        panic!("it cannot be read");
    };
    assert!(reason.contains(CLAUDE), "{reason}");
}

#[test]
fn a_file_that_is_being_written_in_place_is_read_again() {
    let test = TestHost::new();
    let whole = codex_file(2);
    test.files.put(CODEX, &whole[..whole.len() / 2], 0o600);
    // The clock that stands in for the writer: it finishes while the reader waits.
    #[derive(Debug)]
    struct Writer(TestHost, String);
    impl tokensink_host::Clock for Writer {
        fn now(&self) -> UnixMillis {
            self.0.host().clock.now()
        }
        fn monotonic(&self) -> std::time::Duration {
            self.0.host().clock.monotonic()
        }
        fn sleep(&self, _: std::time::Duration) {
            self.0.files.put(CODEX, &self.1, 0o600);
        }
    }
    let mut host = test.host();
    host.clock = std::sync::Arc::new(Writer(test.clone(), whole));
    assert_eq!(word(&read(&host, &place(&test, Neighbour::Codex))), "oauth");
}

#[test]
fn a_linked_login_is_read_through_the_link() {
    let test = TestHost::new();
    test.files.put("/vault/auth.json", codex_file(3), 0o600);
    test.files.symlink("/vault/auth.json", CODEX);
    let found = place(&test, Neighbour::Codex);
    assert_eq!(
        (found.key().as_str(), found.to_string().as_str()),
        ("/vault/auth.json", CODEX)
    );
    assert_eq!(word(&look(&test, Neighbour::Codex)), "oauth");
    let named = Place::file(&test.host(), Neighbour::Codex, "/vault/auth.json".as_ref());
    assert_eq!(named.key(), found.key());
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200), json in "\\PC{0,80}") {
        let test = TestHost::new();
        let host = test.host();
        for neighbour in Neighbour::ALL {
            for content in [&bytes[..], json.as_bytes(), format!("{{{json}}}").as_bytes()] {
                test.files.put(file_of(neighbour), content, 0o600);
                for place in places(&host, neighbour, Keychain::Absent) {
                    let _ = read(&host, &place);
                }
            }
        }
    }
}
