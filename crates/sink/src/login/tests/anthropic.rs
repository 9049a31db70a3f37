//! Anthropic's two logins, to the byte (spec.md 11.4).

use serde_json::{Value, json};
use tokensink_testkit::Scripted;

use super::{Person, body, code_and_state, param, request, world};
use crate::login::LoginRequest;

const CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";

fn check(method: &str, env: &[(&str, &str)], redirect: &str, token_url: &str, scopes: &str) {
    let world = world();
    world.test.env.unset("DISPLAY");
    env.iter()
        .for_each(|(name, value)| world.test.env.set(name, *value));
    let answer = json!({
        "access_token": "sk-ant-oat01-canary", "refresh_token": "sk-ant-ort01-canary", "expires_in": 28_800,
        "account": {"uuid": "acc-1", "email_address": "me@example.com"},
    });
    world
        .test
        .transport
        .push(Scripted::json(200, &answer.to_string()));
    let login = LoginRequest {
        provider: "anthropic".to_owned(),
        method: Some(method.parse().unwrap()),
        ..request()
    };
    let person = Person::pasting(&world, vec![code_and_state("the-code")]);
    let outcome = world.sink().login(&login, &person).unwrap();

    let url = person.heard().url.unwrap();
    let state = param(&url, "state");
    let challenge = param(&url, "code_challenge");
    let want = url::Url::parse_with_params(
        "https://claude.ai/oauth/authorize",
        [
            ("code", "true"),
            ("client_id", CLIENT),
            ("response_type", "code"),
            ("redirect_uri", redirect),
            ("scope", scopes),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("state", &state),
        ],
    );
    assert_eq!(url, want.unwrap());
    let sent = world.test.transport.requests().remove(0);
    assert_eq!(sent.uri(), token_url);
    assert_eq!(sent.headers()["content-type"], "application/json");
    // The state is the verifier.
    let want = format!(
        r#"{{"grant_type":"authorization_code","client_id":"{CLIENT}","code":"the-code","state":"{state}","redirect_uri":"{redirect}","code_verifier":"{state}"}}"#
    );
    assert_eq!(body(&world, 0), want);
    assert_eq!(
        outcome.expires.map(|at| at.0),
        Some(1_767_225_600_000 + 28_800_000 - 300_000),
        "less 5 min (8.10)"
    );
    let mut wanted = json!({
        "type": "oauth", "provider": "anthropic", "email": "me@example.com", "access": "sk-ant-oat01-canary",
        "refresh": "sk-ant-ort01-canary", "accountId": "acc-1", "expires": 1_767_225_600_000_i64 + 28_500_000,
    });
    if method != "oauth" {
        // Both methods have one client: only its endpoint tells with which of them the grant is refreshed.
        wanted["tokenEndpoint"] = json!(token_url);
    }
    assert_eq!(world.stored("main"), json!({"anthropic:me@example.com": wanted}));
    refreshes_at(&world, token_url);
    let config: Value = world.json("openclaw.json");
    assert_eq!(
        config["auth"]["profiles"]["anthropic:me@example.com"],
        json!({"provider": "anthropic", "mode": "oauth", "email": "me@example.com"})
    );
}

/// The grant is refreshed where it was issued.
fn refreshes_at(world: &crate::world::World, token_url: &str) {
    let answer =
        r#"{"access_token":"sk-ant-oat01-next","refresh_token":"sk-ant-ort01-next","expires_in":28800}"#;
    world.test.transport.push(Scripted::json(200, answer));
    world.test.clock.advance(std::time::Duration::from_secs(28_800));
    let acquire = crate::AcquireRequest::new(
        crate::AgentId::main(),
        crate::Want::Provider("anthropic".to_owned()),
    );
    world.sink().acquire(&acquire).unwrap();
    assert_eq!(world.test.transport.requests().last().unwrap().uri(), token_url);
}

const SCOPES: &str = "org:create_api_key user:profile user:inference user:sessions:claude_code user:mcp_servers user:file_upload";

#[test]
fn todays_login_from_elsewhere() {
    let redirect = "https://platform.claude.com/oauth/code/callback";
    check(
        "oauth",
        &[("SSH_CONNECTION", "1")],
        redirect,
        "https://platform.claude.com/v1/oauth/token",
        SCOPES,
    );
}

#[test]
fn the_login_of_january_2026() {
    let redirect = "https://console.anthropic.com/oauth/code/callback";
    let scopes = "org:create_api_key user:profile user:inference";
    check(
        "oauth-2026-01",
        &[("DISPLAY", ":0")],
        redirect,
        "https://console.anthropic.com/v1/oauth/token",
        scopes,
    );
}
