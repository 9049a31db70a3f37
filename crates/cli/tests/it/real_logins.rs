//! Logins as a user does them: against the real `oidc-provider`, and against stand-ins for ChatGPT and Claude that a
//! provider file of the user puts in the place of the built-in endpoints.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokensink_authserver::{DeviceConfig, Endpoint, ServerConfig};
use tokensink_testkit::{Oidc, loopback};
use url::Url;

use crate::support::recorder::Recorder;
use crate::support::screen::{address, user_code};
use crate::support::stage::{Stage, run_at, stored};
use crate::world::{BROWSER, Session, World};

/// A home that knows the real server as provider `rig`.
fn real() -> (World, Oidc) {
    let oidc = Oidc::start(&[]);
    let world = World::new();
    world.write(
        ".openclaw/tokensink/providers/rig.toml",
        &oidc.provider_toml("rig"),
    );
    (world, oidc)
}

/// What a real login must have left: a profile under its e-mail address, whose token the server takes.
#[track_caller]
fn assert_logged_in(world: &World, oidc: &Oidc) {
    let kept = stored(world, "main", "rig:alice@example.com");
    assert_eq!(kept["type"], "oauth", "{kept:#}");
    assert_eq!(kept["email"], "alice@example.com", "{kept:#}");
    assert_eq!(kept["accountId"], "alice", "{kept:#}");
    for field in ["access", "refresh", "expires"] {
        assert!(!kept[field].is_null(), "{field}: {kept:#}");
    }
    let token = world.run("tokensink token --provider rig").code(0).out;
    let bearer = format!("Bearer {}", token.trim());
    let answer = loopback::send("GET", &oidc.url("/me"), &[("authorization", &bearer)], "");
    assert_eq!(answer.json()["email"], "alice@example.com", "{answer:?}");
}

#[test]
fn in_a_browser() {
    let (world, oidc) = real();
    let said = world
        .run_with(
            "openclaw models auth login --provider rig",
            None,
            &[("BROWSER", BROWSER)],
        )
        .code(0);
    assert!(
        said.out.contains("Auth profile: rig:alice@example.com"),
        "{said:#?}"
    );
    assert!(!said.err.contains("error"), "{said:#?}");
    assert_logged_in(&world, &oidc);
    assert_eq!(oidc.ledger()["token_posts"], json!({"authorization_code": 1}));
    // A second login of the same person keeps the profile.
    world
        .run_with(
            "openclaw models auth login --provider rig",
            None,
            &[("BROWSER", BROWSER)],
        )
        .code(0);
    let listed = world.run("tokensink models auth list --json").code(0).json();
    assert_eq!(listed["profiles"].as_array().unwrap().len(), 1, "{listed:#}");
    assert_logged_in(&world, &oidc);
}

#[test]
fn by_pasting_where_the_browser_ended() {
    let (world, oidc) = real();
    let mut session = world.session("openclaw models auth login --provider rig --no-browser");
    let url = address(&session.wait_for("Paste"), &oidc.url("/auth?"));
    let ended_at = loopback::browse(&url);
    session.type_in(&format!("{ended_at}\r"));
    session.finish().code(0);
    assert_logged_in(&world, &oidc);
}

#[test]
fn by_a_code_on_another_device() {
    let (world, oidc) = real();
    let mut session = world.session("openclaw models auth login --provider rig --device-code");
    let code = user_code(&session.wait_for("The code ends in "));
    let answer = loopback::get(&oidc.url(&format!("/__approve?user_code={code}")));
    assert_eq!(answer.status, 200, "{answer:?}");
    session.finish().code(0);
    assert_logged_in(&world, &oidc);
}

#[test]
fn a_real_refresh_and_a_real_revocation() {
    let (world, oidc) = real();
    let said = world
        .run_with(
            "openclaw models auth login --provider rig",
            None,
            &[("BROWSER", BROWSER)],
        )
        .code(0);
    assert!(said.out.contains("rig:alice@example.com"), "{said:#?}");
    let first = world.run("tokensink token --provider rig").code(0).out;
    let second = run_at(&world, "tokensink token --provider rig", 3_700)
        .code(0)
        .out;
    assert_ne!(first, second);
    world
        .run("tokensink models auth logout rig:alice@example.com --revoke")
        .code(0);
    world.run("tokensink token --provider rig").code(3);
    let bearer = format!("Bearer {}", second.trim());
    let answer = loopback::send("GET", &oidc.url("/me"), &[("authorization", &bearer)], "");
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(oidc.ledger()["reuses"], 0);
}

/// A server in the place of `auth.openai.com`, by a user's provider file over the built-in id.
pub(crate) fn chatgpt() -> Stage {
    let stage = Stage::new(ServerConfig {
        client_ids: vec!["app_EMoamEEZ73f0CkXaXp7hrann".to_owned()],
        device: DeviceConfig {
            interval_seconds: 1,
            ..DeviceConfig::default()
        },
        ..ServerConfig::default()
    });
    let url = |path| stage.server.url(path);
    let file = format!(
        "id = \"openai-codex\"\n\n[[auth]]\nid = \"oauth\"\nauthorization_endpoint = \"{}\"\ntoken_endpoint = \"{}\"\n\
         redirect_uri = \"http://localhost:0/auth/callback\"\n\n[[auth]]\nid = \"device-code\"\n\
         device_authorization_endpoint = \"{}\"\ntoken_endpoint = \"{}\"\n",
        url("/oauth/authorize"),
        url("/oauth/token"),
        url("/api/accounts/deviceauth/usercode"),
        url("/oauth/token"),
    );
    stage
        .world
        .write(".openclaw/tokensink/providers/openai-codex.toml", &file);
    stage
}

#[track_caller]
pub(crate) fn assert_chatgpt_login(stage: &Stage, account: &str) {
    let id = format!("openai-codex:{account}@example.com");
    let kept = stored(&stage.world, "main", &id);
    assert_eq!(kept["type"], "oauth", "{kept:#}");
    assert_eq!(kept["provider"], "openai-codex", "{kept:#}");
    assert_eq!(kept["accountId"], format!("acct-{account}"), "{kept:#}");
    assert_eq!(kept["email"], format!("{account}@example.com"), "{kept:#}");
    assert!(
        kept["refresh"].is_string() && kept["expires"].is_i64(),
        "{kept:#}"
    );
    let token = stage
        .world
        .run("tokensink token --provider openai-codex")
        .code(0)
        .out;
    assert_eq!(kept["access"], token.trim());
    assert_eq!(token.split('.').count(), 3, "a JWT");
    let token = run_at(&stage.world, "tokensink token --provider openai-codex", 3_700)
        .code(0)
        .out;
    stage.assert_works(&token);
    stage.assert_refreshes(1);
}

#[test]
fn chatgpt_in_a_browser() {
    let stage = chatgpt();
    let said = stage
        .world
        .run_with(
            "openclaw models auth login --provider openai-codex",
            None,
            &[("BROWSER", BROWSER)],
        )
        .code(0);
    assert!(
        said.out.contains("Auth profile: openai-codex:alice@example.com"),
        "{said:#?}"
    );
    assert_chatgpt_login(&stage, "alice");
    let status = stage.world.run("openclaw models status").code(0).out;
    assert!(
        status.contains(stage.server.base_url().as_str().trim_end_matches('/')),
        "an overridden endpoint is shown: {status}"
    );
}

#[test]
fn chatgpt_by_device_code() {
    let stage = chatgpt();
    let mut session = stage
        .world
        .session("openclaw models auth login --provider openai-codex --device-code");
    let code = user_code(&session.wait_for("The code ends in "));
    assert!(stage.server.approve_device(&code, Some("bob")), "{code:?}");
    session.finish().code(0);
    assert!(stage.server.ledger().requests_to(Endpoint::DevicePoll).count() >= 1);
    assert_chatgpt_login(&stage, "bob");
}

const CLAUDE_CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
const CLAUDE_ANSWER: &str = r#"{"token_type":"Bearer","access_token":"sk-ant-oat01-canary-access","expires_in":28800,
    "refresh_token":"sk-ant-ort01-canary-refresh","scope":"user:inference",
    "account":{"uuid":"acct-claude","email_address":"claude@example.com"}}"#;

/// One of the two ways in which Claude's subscription login was made (spec.md 11.4).
struct Claude {
    method: &'static str,
    redirect_uri: &'static str,
    scope: &'static str,
}

/// Starts the login at a stand-in for Claude's endpoints.
fn claude(way: &Claude) -> (World, Recorder, Session) {
    let recorder = Recorder::start(CLAUDE_ANSWER);
    let world = World::new();
    // Both methods share a client, and a stored grant is refreshed by the first of them: both are pointed here.
    let moved = |method: &str, more: &str| {
        format!(
            "\n[[auth]]\nid = \"{method}\"\nauthorization_endpoint = \"{}\"\ntoken_endpoint = \"{}\"\n{more}",
            recorder.url("/oauth/authorize"),
            recorder.url("/v1/oauth/token"),
        )
    };
    let redirects = format!(
        "redirects = [{{ uri = \"{}\", mode = \"paste\" }}]\n",
        way.redirect_uri
    );
    let more = |method| {
        if method == way.method {
            redirects.as_str()
        } else {
            ""
        }
    };
    let file = format!(
        "id = \"anthropic\"\n{}{}",
        moved("oauth", more("oauth")),
        moved("oauth-2026-01", more("oauth-2026-01"))
    );
    world.write(".openclaw/tokensink/providers/anthropic.toml", &file);
    let line = format!(
        "openclaw models auth login --provider anthropic --method {} --no-browser",
        way.method
    );
    let session = world.session(&line);
    (world, recorder, session)
}

fn assert_claude(way: &Claude) {
    let (world, recorder, mut session) = claude(way);
    let url = address(&session.wait_for("Paste"), &recorder.url("/oauth/authorize"));
    let parsed = Url::parse(&url).unwrap();
    let state = loopback::query(&parsed, "state").unwrap();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&state));
    let wanted = [
        ("code", "true"),
        ("client_id", CLAUDE_CLIENT),
        ("response_type", "code"),
        ("redirect_uri", way.redirect_uri),
        ("scope", way.scope),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("state", &state),
    ];
    assert_eq!(
        url,
        format!("{}?{}", recorder.url("/oauth/authorize"), loopback::form(&wanted))
    );

    session.type_in(&format!("the-code#{state}\r"));
    let said = session.finish().code(0);
    assert!(
        said.out.contains("Auth profile: anthropic:claude@example.com"),
        "{said:#?}"
    );
    let kept = stored(&world, "main", "anthropic:claude@example.com");
    assert_eq!(
        (&kept["access"], &kept["refresh"], &kept["accountId"]),
        (
            &json!("sk-ant-oat01-canary-access"),
            &json!("sk-ant-ort01-canary-refresh"),
            &json!("acct-claude")
        ),
    );
    run_at(&world, "tokensink token --provider anthropic", 28_900).code(0);

    let seen: Vec<_> = recorder.seen();
    let bodies: Vec<&str> = seen.iter().map(|seen| seen.body.as_str()).collect();
    let exchange = format!(
        "{{\"grant_type\":\"authorization_code\",\"client_id\":\"{CLAUDE_CLIENT}\",\"code\":\"the-code\",\
         \"state\":\"{state}\",\"redirect_uri\":\"{}\",\"code_verifier\":\"{state}\"}}",
        way.redirect_uri
    );
    let refresh = format!(
        "{{\"grant_type\":\"refresh_token\",\"client_id\":\"{CLAUDE_CLIENT}\",\
         \"refresh_token\":\"sk-ant-ort01-canary-refresh\"}}"
    );
    assert_eq!(bodies, [exchange, refresh]);
    for seen in &seen {
        assert_eq!(seen.line, "POST /v1/oauth/token");
        assert_eq!(seen.content_type, "application/json");
    }
}

#[test]
fn claude_as_today() {
    assert_claude(&Claude {
        method: "oauth",
        redirect_uri: "https://platform.claude.com/oauth/code/callback",
        scope: "org:create_api_key user:profile user:inference user:sessions:claude_code user:mcp_servers \
                user:file_upload",
    });
}

#[test]
fn claude_as_in_january_2026() {
    assert_claude(&Claude {
        method: "oauth-2026-01",
        redirect_uri: "https://console.anthropic.com/oauth/code/callback",
        scope: "org:create_api_key user:profile user:inference",
    });
}
