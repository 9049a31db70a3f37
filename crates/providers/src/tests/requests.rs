use std::collections::BTreeMap;

use http::{Request, Response};
use serde_json::json;
use tokensink_oauth::callback::AuthorizationCode;
use tokensink_oauth::identity::IdentitySource;
use tokensink_oauth::metadata::{self, ServerMetadata};
use tokensink_oauth::pkce::{CodeChallenge, CodeVerifier, StateParam};
use tokensink_oauth::revoke::TokenTypeHint;
use tokensink_oauth::token::TokenGrant;
use tokensink_types::{Account, Body, Secret, UnixMillis};
use url::Url;

use super::{definition, file, load};
use crate::{BuildError, Flow, LeaseError, Method, PkceFlow, Registry, TokenCheck, TokenProblem};

fn no_env(_: &str) -> Option<String> {
    None
}

fn method<'a>(registry: &'a Registry, provider: &str, name: &str) -> &'a Method {
    definition(registry, provider).method_named(name).unwrap()
}

fn pkce<'a>(registry: &'a Registry, provider: &str, name: &str) -> &'a PkceFlow {
    match &method(registry, provider, name).flow {
        Flow::Pkce(flow) => flow,
        other => panic!("{other:?}"),
    }
}

fn body(request: &Request<Body>) -> &str {
    std::str::from_utf8(request.body().expose()).unwrap()
}

fn verifier() -> CodeVerifier {
    CodeVerifier::received("ver".into())
}

fn grant(value: &serde_json::Value) -> TokenGrant {
    TokenGrant::from_fields(value.as_object().unwrap().clone()).unwrap()
}

/// An unsigned token with these claims.
fn jwt(claims: &serde_json::Value) -> String {
    let part = |value: &serde_json::Value| base64url(value.to_string().as_bytes());
    format!("{}.{}.sig", part(&json!({"alg": "none"})), part(claims))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| (word << 8) | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}

#[test]
fn codex_asks_as_recorded() {
    let registry = Registry::builtin();
    let flow = pkce(&registry, "openai-codex", "oauth");
    let redirect = flow.redirect_uri(false, &no_env).unwrap();
    let state = StateParam::hex([0x5a; 16]);
    let url = flow
        .authorization_url(&redirect, &CodeChallenge::s256(&verifier()), &state, &no_env)
        .unwrap();
    let challenge = CodeChallenge::s256(&verifier());
    assert_eq!(
        url.as_str(),
        format!(
            "https://auth.openai.com/oauth/authorize?response_type=code&client_id=app_EMoamEEZ73f0CkXaXp7hrann\
             &redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&scope=openid+profile+email+offline_access\
             &code_challenge={challenge}&code_challenge_method=S256&state=5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\
             &id_token_add_organizations=true&codex_cli_simplified_flow=true&originator=openclaw"
        )
    );
    let code = AuthorizationCode::new("c1".into());
    let request = flow
        .exchange_request(&code, &verifier(), &redirect, &state, &no_env)
        .unwrap();
    assert_eq!(
        body(&request),
        "grant_type=authorization_code&client_id=app_EMoamEEZ73f0CkXaXp7hrann&code=c1&code_verifier=ver\
         &redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback"
    );
    let request = flow.client.refresh_request(&"rt".into(), None, &no_env).unwrap();
    assert_eq!(
        body(&request),
        "grant_type=refresh_token&refresh_token=rt&client_id=app_EMoamEEZ73f0CkXaXp7hrann"
    );
    let request = flow
        .client
        .revocation_request(&"rt".into(), TokenTypeHint::RefreshToken, None, &no_env)
        .unwrap()
        .unwrap();
    assert_eq!(
        body(&request),
        r#"{"token":"rt","token_type_hint":"refresh_token","client_id":"app_EMoamEEZ73f0CkXaXp7hrann"}"#
    );
}

#[test]
fn anthropic_asks_as_recorded_with_both_sets_of_hosts() {
    let registry = Registry::builtin();
    let cases = [
        (
            "oauth",
            "https://platform.claude.com/v1/oauth/token",
            "https://platform.claude.com/oauth/code/callback",
        ),
        (
            "oauth-2026-01",
            "https://console.anthropic.com/v1/oauth/token",
            "https://console.anthropic.com/oauth/code/callback",
        ),
    ];
    for (name, token_endpoint, callback) in cases {
        let flow = pkce(&registry, "anthropic", name);
        let redirect = flow.redirect_uri(true, &no_env).unwrap();
        assert_eq!(redirect, callback);
        let state = StateParam::from_verifier(&verifier());
        let url = flow
            .authorization_url(&redirect, &CodeChallenge::s256(&verifier()), &state, &no_env)
            .unwrap();
        assert!(
            url.as_str().starts_with(
                "https://claude.ai/oauth/authorize?code=true&client_id=9d1c250a-e61b-44d9-88ed-5944d1962f5e&response_type=code"
            ),
            "{url}"
        );
        let code = AuthorizationCode::new("c1".into());
        let request = flow
            .exchange_request(&code, &verifier(), &redirect, &state, &no_env)
            .unwrap();
        assert_eq!(request.uri(), token_endpoint);
        assert_eq!(
            body(&request),
            format!(
                r#"{{"grant_type":"authorization_code","client_id":"9d1c250a-e61b-44d9-88ed-5944d1962f5e","code":"c1","state":"ver","redirect_uri":"{callback}","code_verifier":"ver"}}"#
            )
        );
        let request = flow.client.refresh_request(&"rt".into(), None, &no_env).unwrap();
        assert_eq!(
            body(&request),
            r#"{"grant_type":"refresh_token","client_id":"9d1c250a-e61b-44d9-88ed-5944d1962f5e","refresh_token":"rt"}"#
        );
    }
    let flow = pkce(&registry, "anthropic", "oauth");
    assert_eq!(
        flow.redirect(false).unwrap().uri,
        "http://localhost:53692/callback"
    );
}

#[test]
fn chutes_takes_its_client_from_the_environment_or_the_store() {
    let registry = Registry::builtin();
    let flow = pkce(&registry, "chutes", "oauth");
    let env = |name: &str| match name {
        "CHUTES_CLIENT_ID" => Some("cid".to_owned()),
        "CHUTES_CLIENT_SECRET" => Some("cs".to_owned()),
        "CHUTES_OAUTH_SCOPES" => Some("openid  more".to_owned()),
        "CHUTES_OAUTH_REDIRECT_URI" => Some("http://127.0.0.1:7777/cb".to_owned()),
        _ => None,
    };
    let text = |request: Result<Request<Body>, BuildError>| body(&request.unwrap()).to_owned();
    assert_eq!(
        text(flow.client.refresh_request(&"rt".into(), None, &env)),
        "grant_type=refresh_token&refresh_token=rt&client_id=cid&client_secret=cs"
    );
    assert_eq!(
        text(flow.client.refresh_request(&"rt".into(), Some("stored"), &no_env)),
        "grant_type=refresh_token&refresh_token=rt&client_id=stored"
    );
    let error = flow
        .client
        .refresh_request(&"rt".into(), None, &no_env)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the client identifier is taken from the environment, but CHUTES_CLIENT_ID is not set; \
         set it, for example: export CHUTES_CLIENT_ID=..."
    );
    assert_eq!(flow.client.requested_scopes(&env), ["openid", "more"]);
    assert_eq!(
        flow.redirect_uri(false, &env).unwrap(),
        "http://127.0.0.1:7777/cb"
    );
    let bad = |name: &str| (name == "CHUTES_OAUTH_REDIRECT_URI").then(|| "http://far.example/cb".to_owned());
    assert!(matches!(
        flow.redirect_uri(false, &bad),
        Err(BuildError::EnvInvalid { .. })
    ));
    let account = flow.client.account(
        &grant(&json!({"access_token": "a"})),
        Some(&json!({"sub": "u-1", "username": "chris"})),
    );
    assert_eq!(
        (account.account_id.as_deref(), account.email.as_deref()),
        (Some("u-1"), Some("chris"))
    );
    assert!(flow.client.needs_userinfo());
}

#[test]
fn codex_needs_an_account_id() {
    let registry = Registry::builtin();
    let login = method(&registry, "openai-codex", "oauth");
    let client = login.oauth_client().unwrap();
    let auth = "https://api.openai.com/auth";
    let access = jwt(&json!({auth: {"chatgpt_account_id": "acct-1", "chatgpt_plan_type": "plus"}}));
    let id_token = jwt(&json!({"email": "a@b.c", auth: {"chatgpt_account_id": "other"}}));
    let account = client
        .login_account(
            &grant(&json!({"access_token": access, "id_token": id_token})),
            None,
        )
        .unwrap();
    assert_eq!(
        account.account_id.as_deref(),
        Some("acct-1"),
        "the access token comes first"
    );
    assert_eq!(account.plan.as_deref(), Some("plus"));
    assert_eq!(login.profile_name(&account), "a@b.c");
    let error = client
        .login_account(&grant(&json!({"access_token": "opaque"})), None)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token answer does not say the account id (looked at \
         /https:~1~1api.openai.com~1auth/chatgpt_account_id in the access token, the id token); log in again"
    );
    let unnamed = Account {
        subject: Some("user-9".into()),
        ..Account::default()
    };
    assert_eq!(login.profile_name(&unnamed), "id-dXNlci05");
    assert_eq!(login.profile_name(&Account::default()), "default");
}

#[test]
fn device_logins_of_all_dialects_begin_and_poll() {
    let registry = Registry::builtin();
    let cases = [
        (
            "openai-codex",
            "device-code",
            "https://auth.openai.com/api/accounts/deviceauth/usercode",
            r#"{"client_id":"app_EMoamEEZ73f0CkXaXp7hrann"}"#,
            "https://auth.openai.com/api/accounts/deviceauth/token",
        ),
        (
            "github-copilot",
            "device",
            "https://github.com/login/device/code",
            "client_id=Iv1.b507a08c87ecfe98&scope=read%3Auser",
            "https://github.com/login/oauth/access_token",
        ),
        (
            "minimax-portal",
            "oauth-cn",
            "https://api.minimaxi.com/oauth/code",
            "response_type=code&client_id=78257093-7e40-4613-99e0-527b14b39113&scope=group_id+profile+model.completion",
            "https://api.minimaxi.com/oauth/token",
        ),
        (
            "qwen-portal",
            "device",
            "https://chat.qwen.ai/api/v1/oauth2/device/code",
            "client_id=f0304373b74a44d2b584a3fb70ca9e56&scope=openid+profile+email+model.completion",
            "https://chat.qwen.ai/api/v1/oauth2/token",
        ),
    ];
    for (provider, name, begin, want, poll) in cases {
        let Flow::Device(flow) = &method(&registry, provider, name).flow else {
            panic!("{provider}")
        };
        let login = flow.login(&no_env).unwrap();
        let request = login.wire().authorization_request(None, None).unwrap();
        assert_eq!(
            (request.uri().to_string().as_str(), body(&request)),
            (begin, want)
        );
        assert_eq!(login.wire().poll.url.as_str(), poll);
    }
    let Flow::Device(codex) = &method(&registry, "openai-codex", "device-code").flow else {
        panic!()
    };
    assert_eq!(
        codex.redirect_uri.as_ref().unwrap().as_str(),
        "https://auth.openai.com/deviceauth/callback"
    );
    assert_eq!(
        codex.verification_uri.as_ref().unwrap().as_str(),
        "https://auth.openai.com/codex/device"
    );
}

fn xai_metadata(token_endpoint: &str) -> ServerMetadata {
    let document = json!({
        "issuer": "https://auth.x.ai",
        "authorization_endpoint": "https://accounts.x.ai/oauth2/authorize",
        "token_endpoint": token_endpoint,
        "device_authorization_endpoint": "https://auth.x.ai/oauth2/device/code",
    });
    let response = Response::new(Body::new(document.to_string()));
    metadata::parse(&response, &Url::parse("https://auth.x.ai").unwrap()).unwrap()
}

#[test]
fn discovered_endpoints_must_be_the_issuers() {
    let registry = Registry::builtin();
    let login = method(&registry, "xai", "oauth");
    let client = login.oauth_client().unwrap();
    assert!(
        client
            .metadata_urls()
            .iter()
            .any(|url| url.as_str() == "https://auth.x.ai/.well-known/openid-configuration")
    );
    assert!(matches!(
        client.refresh_request(&"rt".into(), None, &no_env),
        Err(BuildError::Endpoint {
            what: "token_endpoint"
        })
    ));
    let complete = login
        .with_metadata(&xai_metadata("https://auth.x.ai/oauth2/token"))
        .unwrap();
    let request = complete
        .oauth_client()
        .unwrap()
        .refresh_request(&"rt".into(), None, &no_env)
        .unwrap();
    assert_eq!(request.uri(), "https://auth.x.ai/oauth2/token");
    assert!(complete.oauth_client().unwrap().metadata_urls().is_empty());
    for foreign in ["https://x.ai.evil.example/token", "https://notx.ai/token"] {
        let error = login.with_metadata(&xai_metadata(foreign)).unwrap_err();
        assert_eq!(error.what, "token_endpoint", "{foreign}");
    }
    let codex = method(&registry, "openai-codex", "oauth");
    assert!(codex.oauth_client().unwrap().metadata_urls().is_empty());
}

#[test]
fn tokens_get_the_providers_expiry() {
    let registry = Registry::builtin();
    let answer =
        grant(&json!({"access_token": "a", "refresh_token": "r", "expires_in": 3600, "resource_url": "u"}));
    let sent_at = UnixMillis(1_000_000);
    for (provider, name, seconds) in [("anthropic", "oauth", 3300), ("openai-codex", "oauth", 3600)] {
        let client = method(&registry, provider, name).oauth_client().unwrap();
        let tokens = client.first_tokens(&answer, sent_at);
        assert_eq!(
            tokens.expires,
            Some(UnixMillis(1_000_000 + seconds * 1000)),
            "{provider}"
        );
        assert_eq!(client.merged_tokens(&tokens, &answer, sent_at), tokens);
    }
    let qwen = method(&registry, "qwen-portal", "device").oauth_client().unwrap();
    assert_eq!(
        qwen.store_fields(&answer),
        BTreeMap::from([("resourceUrl".to_owned(), "u".to_owned())])
    );
    assert_eq!(
        qwen.store_fields(&grant(&json!({"access_token": "a"}))),
        BTreeMap::new()
    );
}

#[test]
fn copilot_tokens_are_exchanged_for_keys() {
    let registry = Registry::builtin();
    let login = method(&registry, "github-copilot", "device");
    let runtime = login.oauth_client().unwrap().runtime_key.as_ref().unwrap();
    let stored = Secret::new("gho-canary");
    let request = runtime.request(&stored).unwrap();
    assert_eq!(request.uri(), "https://api.github.com/copilot_internal/v2/token");
    assert_eq!(request.headers()["authorization"], "Bearer gho-canary");
    assert!(!format!("{request:?}").contains("canary"));
    let cases = [
        ("https://api.business.githubcopilot.com", true),
        ("https://api.githubcopilot.com", true),
        ("https://githubcopilot.com.evil.example", false),
        ("https://evilgithubcopilot.com", false),
        ("http://api.githubcopilot.com", false),
    ];
    for (host, fine) in cases {
        let answer = json!({"token": "k", "expires_at": 2000, "endpoints": {"api": host}});
        let key = runtime
            .parse(&Response::new(Body::new(answer.to_string())), &stored, &login.api)
            .unwrap();
        assert_eq!(key.expires, UnixMillis(1_700_000));
        assert_eq!(key.base_url.is_some(), fine, "{host}");
    }
    for wrong in ["{}", "[", r#"{"token":"k"}"#, r#"{"token":" ","expires_at":1}"#] {
        assert!(
            runtime
                .parse(&Response::new(Body::new(wrong)), &stored, &login.api)
                .is_err(),
            "{wrong}"
        );
    }
    let mut refused = Response::new(Body::new(r#"{"message":"Bad credentials gho-canary"}"#));
    *refused.status_mut() = http::StatusCode::UNAUTHORIZED;
    let error = runtime.parse(&refused, &stored, &login.api).unwrap_err();
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[test]
fn pasted_tokens_are_checked() {
    let registry = Registry::builtin();
    let Flow::Token(check) = &method(&registry, "anthropic", "setup-token").flow else {
        panic!()
    };
    let good = format!("sk-ant-oat01-{}", "x".repeat(80));
    let wrapped = format!(" {}\n {}\r\n", &good[..40], &good[40..]);
    assert_eq!(check.accept(&wrapped.into()).unwrap(), Secret::new(good.clone()));
    let prefix = || TokenProblem::Prefix {
        prefix: "sk-ant-oat01-".to_owned(),
    };
    let cases = [
        (" \n".to_owned(), TokenProblem::Blank),
        ("sk-ant-api03-x".to_owned(), prefix()),
        ("abc#def".to_owned(), TokenProblem::CodeAndState),
        (format!("{good}#x"), TokenProblem::CodeAndState),
        (
            "sk-ant-oat01-x".to_owned(),
            TokenProblem::Short { length_min: 80 },
        ),
    ];
    for (text, want) in cases {
        assert_eq!(check.accept(&text.clone().into()), Err(want), "{text}");
    }
    let free = TokenCheck::default();
    assert_eq!(free.accept(&"a#b".into()).unwrap(), Secret::new("a#b"));
}

#[test]
fn headers_that_cannot_be_filled() {
    let rig = super::RIG;
    let registry = load(&[file("rig.toml", rig)]);
    let api = &definition(&registry, "rig").api;
    let none = BTreeMap::new();
    let headers = api
        .lease_headers(&"s".into(), &Account::default(), &none)
        .unwrap();
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["authorization", "x-static"],
        "an unknown account leaves its header out"
    );
    let codex = Registry::builtin();
    let codex = &definition(&codex, "openai-codex").api;
    assert_eq!(
        codex.lease_headers(&"s".into(), &Account::default(), &none),
        Err(LeaseError::Missing {
            header: "chatgpt-account-id".to_owned(),
            placeholder: "account_id".to_owned()
        })
    );
    let split = Account {
        account_id: Some("a\r\nx: y".to_owned()),
        ..Account::default()
    };
    assert!(matches!(
        codex.lease_headers(&"s".into(), &split, &none),
        Err(LeaseError::NotAHeaderValue { .. })
    ));
    assert_eq!(
        api.lease_headers(&" ".into(), &split, &none),
        Err(LeaseError::Blank)
    );
    assert!(
        api.lease_headers(&"a\nb".into(), &Account::default(), &none)
            .is_err()
    );
    let templated = rig.replace("{account_id}", "p={field.projectId}");
    let registry = load(&[file("rig.toml", &templated)]);
    let fields = BTreeMap::from([("projectId".to_owned(), "p-1".to_owned())]);
    let headers = definition(&registry, "rig")
        .api
        .lease_headers(&"s".into(), &Account::default(), &fields)
        .unwrap();
    assert_eq!(headers[1].1.expose(), "p=p-1");
}

#[test]
fn beta_features_of_a_client_are_kept() {
    let registry = Registry::builtin();
    let anthropic = definition(&registry, "anthropic");
    let key = &anthropic.method_named("api-key").unwrap().api;
    let oauth = &anthropic.method_named("oauth").unwrap().api;
    let sent = Some("claude-code-20250219, oauth-2025-04-20,x");
    assert_eq!(
        oauth.betas().merged(sent).unwrap(),
        "claude-code-20250219,oauth-2025-04-20,x"
    );
    assert_eq!(oauth.betas().merged(Some("x")).unwrap(), "x,oauth-2025-04-20");
    assert_eq!(key.betas().merged(sent).unwrap(), "claude-code-20250219,x");
    assert_eq!(key.betas().merged(Some("oauth-2025-04-20")), None);
}

#[test]
fn sources_are_asked_in_their_order() {
    let registry = Registry::builtin();
    let client = method(&registry, "openai-codex", "oauth").oauth_client().unwrap();
    assert_eq!(
        client.identity.from,
        [IdentitySource::AccessToken, IdentitySource::IdToken]
    );
}
