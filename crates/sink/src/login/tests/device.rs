//! The device login: polls at the server's pace, ends at its word, and needs no terminal.

use std::time::Duration;

use serde_json::json;
use tokensink_host::ConnectPhase;
use tokensink_testkit::Scripted;

use super::{Person, body, granted, request, told, world};
use crate::error::ErrorKind;
use crate::login::LoginRequest;
use crate::world::{World, id};

fn by_device() -> LoginRequest {
    LoginRequest {
        device_code: true,
        ..request()
    }
}

fn begin(world: &World) {
    let begun = json!({
        "device_code": "device-canary-0123456789",
        "user_code": "ABCD-1234",
        "verification_uri": "https://desk.test/go",
        "verification_uri_complete": "https://desk.test/go?c=ABCD-1234",
        "expires_in": 60,
        "interval": 5,
    });
    world.test.transport.push(Scripted::json(200, &begun.to_string()));
}

fn poll(world: &World, error: &str) {
    let answer = json!({"error": error, "error_description": "about device-canary-0123456789"});
    world
        .test
        .transport
        .push(Scripted::json(400, &answer.to_string()));
}

#[test]
fn polls_until_the_user_has_approved() {
    let world = world();
    begin(&world);
    poll(&world, "authorization_pending");
    poll(&world, "slow_down");
    world
        .test
        .transport
        .push(Scripted::no_connection(ConnectPhase::Tcp));
    world.test.transport.push(granted("alice"));
    let person = Person::nobody(&world);
    let outcome = world.sink().login(&by_device(), &person).unwrap();
    assert_eq!(outcome.profile, id("desk:alice@example.com"));
    // 5 s twice, then 10 s after slow_down, then 15 s after the lost connection.
    assert_eq!(world.test.clock.slept(), Duration::from_secs(35));
    assert_eq!(
        person.said("device"),
        "device ABCD-1234 https://desk.test/go Some(\"https://desk.test/go?c=ABCD-1234\") 60"
    );
    assert_eq!(person.said("slower"), "slower");
    assert_eq!(body(&world, 0), "client_id=desk-client");
    assert_eq!(
        body(&world, 1),
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&client_id=desk-client\
         &device_code=device-canary-0123456789"
    );
    assert!(
        world.test.processes.started().is_empty(),
        "the code may be meant for another device"
    );
}

#[test]
fn ends_at_the_servers_word() {
    let cases = [
        (
            "access_denied",
            "login_denied",
            "The provider refused the login (access_denied: about [redacted])",
        ),
        (
            "expired_token",
            "device_expired",
            "The code was not entered in time",
        ),
        (
            "invalid_grant",
            "device_failed",
            "The device login failed: the provider answered 400 (invalid_grant",
        ),
    ];
    for (answer, code, want) in cases {
        let world = world();
        begin(&world);
        poll(&world, answer);
        let error = world
            .sink()
            .login(&by_device(), &Person::nobody(&world))
            .unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Failed, code));
        let told = told(&error);
        assert!(told.starts_with(want), "{told}");
        assert!(
            told.ends_with("| tokensink models auth login --provider desk --device-code"),
            "{told}"
        );
        assert_eq!(world.test.transport.left(), 0);
    }
}

#[test]
fn ends_with_the_life_of_the_code() {
    let world = world();
    begin(&world);
    world
        .test
        .transport
        .on_request(|_| Ok(super::response(400, &json!({"error": "authorization_pending"}))));
    let error = world
        .sink()
        .login(&by_device(), &Person::nobody(&world))
        .unwrap_err();
    assert_eq!(error.code(), "device_expired");
    assert_eq!(
        world.test.transport.requests().len(),
        1 + 12,
        "every 5 s for 60 s"
    );

    let world = super::world();
    begin(&world);
    let error = world
        .sink()
        .login(&by_device(), &Person::nobody(&world))
        .unwrap_err();
    assert!(
        told(&error).contains("could not be asked: no connection to https://desk.test"),
        "{error}"
    );
}

#[test]
fn a_device_login_that_is_not_there_names_another_way() {
    let world = world();
    world.test.transport.push(Scripted::json(404, "{}"));
    let codex = LoginRequest {
        provider: "openai-codex".to_owned(),
        ..by_device()
    };
    let error = world.sink().login(&codex, &Person::nobody(&world)).unwrap_err();
    assert!(
        told(&error).contains("device login is not enabled for this account"),
        "{error}"
    );
    assert_eq!(
        error.fix(),
        Some("tokensink models auth login --provider openai-codex")
    );
    let rig = LoginRequest {
        provider: "rig".to_owned(),
        ..by_device()
    };
    let error = world.sink().login(&rig, &Person::nobody(&world)).unwrap_err();
    assert_eq!(
        told(&error),
        "Rig has no login by device code | tokensink models auth login --provider rig"
    );
}

/// A token as `OpenAI` makes them; only its claims are read.
fn jwt(claims: &serde_json::Value) -> String {
    format!("e30.{}.sig-canary", base64url(claims.to_string().as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for n in 0..=chunk.len() {
            text.push(char::from(LETTERS[(word >> (18 - 6 * n)) & 63]));
        }
    }
    text
}

#[test]
fn openai_gives_a_code_that_is_exchanged() {
    let world = world();
    let claims = json!({
        "https://api.openai.com/auth": {"chatgpt_account_id": "acct-1", "chatgpt_user_id": "user-1", "chatgpt_plan_type": "plus"},
    });
    world.test.transport.push(Scripted::json(
        200,
        r#"{"device_auth_id": "dev-canary", "user_code": "WXYZ", "interval": "5"}"#,
    ));
    world.test.transport.push(Scripted::json(403, "{}"));
    world.test.transport.push(Scripted::json(
        200,
        r#"{"authorization_code": "code-canary", "code_verifier": "verifier-canary"}"#,
    ));
    let answer = json!({"access_token": jwt(&claims), "refresh_token": "refresh-canary", "expires_in": 3600});
    world
        .test
        .transport
        .push(Scripted::json(200, &answer.to_string()));
    let codex = LoginRequest {
        provider: "openai-codex".to_owned(),
        ..by_device()
    };
    let person = Person::nobody(&world);
    let outcome = world.sink().login(&codex, &person).unwrap();
    assert_eq!(
        person.said("device"),
        "device WXYZ https://auth.openai.com/codex/device None 900"
    );
    assert_eq!(body(&world, 0), r#"{"client_id":"app_EMoamEEZ73f0CkXaXp7hrann"}"#);
    assert_eq!(
        body(&world, 1),
        r#"{"device_auth_id":"dev-canary","user_code":"WXYZ"}"#
    );
    assert_eq!(
        body(&world, 3),
        "grant_type=authorization_code&client_id=app_EMoamEEZ73f0CkXaXp7hrann&code=code-canary\
         &code_verifier=verifier-canary&redirect_uri=https%3A%2F%2Fauth.openai.com%2Fdeviceauth%2Fcallback"
    );
    assert_eq!(outcome.account.account_id.as_deref(), Some("acct-1"));
    assert_eq!(outcome.account.plan.as_deref(), Some("plus"));
    assert_eq!(
        outcome.profile,
        id("openai-codex:id-dXNlci0x"),
        "no e-mail address: the subject's name"
    );
}

#[test]
fn a_chatgpt_token_without_account_is_of_no_use() {
    let world = world();
    world.test.transport.push(Scripted::json(
        200,
        r#"{"device_auth_id": "d", "user_code": "W"}"#,
    ));
    world.test.transport.push(Scripted::json(
        200,
        r#"{"authorization_code": "c", "code_verifier": "v"}"#,
    ));
    let answer = json!({"access_token": jwt(&json!({"sub": "x"})), "refresh_token": "r", "expires_in": 3600});
    world
        .test
        .transport
        .push(Scripted::json(200, &answer.to_string()));
    let codex = LoginRequest {
        provider: "openai-codex".to_owned(),
        ..by_device()
    };
    let error = world.sink().login(&codex, &Person::nobody(&world)).unwrap_err();
    assert!(
        told(&error).starts_with("Failed to extract accountId from token"),
        "{error}"
    );
}

#[test]
fn a_token_of_github_is_stored_as_a_token() {
    let world = world();
    let begun = r#"{"device_code": "d-canary", "user_code": "G-1", "verification_uri": "https://github.com/login/device", "interval": 5, "expires_in": 900}"#;
    for _ in 0..2 {
        world.test.transport.push(Scripted::json(200, begun));
        world
            .test
            .transport
            .push(Scripted::json(200, r#"{"error": "authorization_pending"}"#));
        world.test.transport.push(Scripted::json(
            200,
            r#"{"access_token": "gho-canary", "token_type": "bearer", "scope": "read:user"}"#,
        ));
        let copilot = LoginRequest {
            provider: "github-copilot".to_owned(),
            ..request()
        };
        let outcome = world.sink().login(&copilot, &Person::nobody(&world)).unwrap();
        assert_eq!(
            (outcome.profile.as_str(), outcome.mode.as_str()),
            ("github-copilot:github", "token")
        );
    }
    let stored = &world.stored("main");
    assert_eq!(
        stored["github-copilot:github"],
        json!({"type": "token", "provider": "github-copilot", "token": "gho-canary"})
    );
    assert_eq!(
        stored.as_object().unwrap().len(),
        1,
        "the second login updates the first"
    );
}
