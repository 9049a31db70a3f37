//! Login on another device, in both dialects.

use serde_json::json;

use super::*;
use crate::{DeviceConfig, ErrorStyle};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Device code and user code.
fn begin(rig: &mut Rig, changes: &[(&str, &str)]) -> (String, String) {
    let pairs = changed(&[("client_id", "rig"), ("scope", "openid")], changes);
    let got = rig.post("/oauth/device/code", &pairs);
    assert_eq!(got.status, 200, "{got:?}");
    (got.text("device_code"), got.text("user_code"))
}

fn poll(rig: &mut Rig, code: &str) -> Got {
    poll_with(rig, code, &[])
}

fn poll_with(rig: &mut Rig, code: &str, changes: &[(&str, &str)]) -> Got {
    let usual = [("grant_type", GRANT), ("client_id", "rig"), ("device_code", code)];
    rig.post("/oauth/token", &changed(&usual, changes))
}

fn error(rig: &mut Rig, code: &str) -> String {
    let got = poll(rig, code);
    assert_eq!(got.status, 400, "{got:?}");
    got.text("error")
}

#[test]
fn the_answer_tells_the_device_everything() {
    let mut rig = Rig::default();
    let got = rig.post("/oauth/device/code", &[("client_id", "rig")]);
    let code = got.text("user_code");
    assert_eq!(code.len(), 9);
    assert_eq!(got.text("verification_uri"), format!("{ISSUER}/approve"));
    assert_eq!(
        got.text("verification_uri_complete"),
        format!("{ISSUER}/approve?user_code={code}")
    );
    assert_eq!(
        (got.json()["interval"].as_u64(), got.json()["expires_in"].as_u64()),
        (Some(5), Some(900))
    );
}

#[test]
fn a_device_waits_until_its_user_decides() {
    let mut rig = Rig::default();
    let (code, user_code) = begin(&mut rig, &[]);
    for _ in 0..3 {
        assert_eq!(error(&mut rig, &code), "authorization_pending");
        rig.pass(5_000);
    }
    let typed = user_code.to_lowercase().replace('-', " ");
    let target = format!("/approve?{}", form(&[("user_code", &typed), ("account", "bob")]));
    assert_eq!(rig.get(&target).status, 200);
    let got = poll(&mut rig, &code);
    assert_eq!(got.claims("access_token")["sub"], "bob");
    assert_eq!(rig.refresh(&got.refresh_token()).status, 200);
    rig.pass(5_000);
    assert_eq!(error(&mut rig, &code), "invalid_grant");
    // What was decided is decided.
    assert_eq!(rig.get(&target).status, 404);
    assert_eq!(rig.server.ledger().families.len(), 1);
}

#[test]
fn a_device_that_polls_too_fast_has_to_slow_down() {
    let mut rig = Rig::default();
    let (code, user_code) = begin(&mut rig, &[]);
    // Milliseconds since the poll before, and the answer; each slow_down adds five seconds for good.
    let polls = [
        (0, "authorization_pending"),
        (5_000, "authorization_pending"),
        (4_749, "slow_down"),
        (5_000, "slow_down"),
        (14_700, "slow_down"),
        (19_750, "authorization_pending"),
        (20_000, "authorization_pending"),
    ];
    for (turn, (later, want)) in polls.into_iter().enumerate() {
        rig.pass(later);
        assert_eq!(error(&mut rig, &code), want, "poll {turn}");
    }
    // Once approved the device need not be punished.
    assert!(rig.server.approve_device(&user_code, None, rig.now));
    assert_eq!(poll(&mut rig, &code).status, 200);
}

#[test]
fn a_device_code_ends() {
    let mut rig = Rig::default();
    let (code, user_code) = begin(&mut rig, &[]);
    rig.pass(899_999);
    assert_eq!(error(&mut rig, &code), "authorization_pending");
    rig.pass(1);
    assert_eq!(error(&mut rig, &code), "expired_token");
    assert!(!rig.server.approve_device(&user_code, None, rig.now));
    let (code, user_code) = begin(&mut rig, &[]);
    assert!(rig.server.deny_device(&user_code, rig.now));
    assert_eq!(error(&mut rig, &code), "access_denied");
    rig.pass(5_000);
    assert_eq!(error(&mut rig, &code), "access_denied");
    assert_eq!(error(&mut rig, "dc_unknown"), "invalid_grant");
    assert!(rig.server.ledger().families.is_empty());
}

#[test]
fn a_device_can_be_approved_by_itself() {
    let mut rig = Rig::new(ServerConfig {
        device: DeviceConfig {
            approve_at_poll: Some(3),
            ..DeviceConfig::default()
        },
        ..ServerConfig::default()
    });
    let (code, _) = begin(&mut rig, &[]);
    assert_eq!(error(&mut rig, &code), "authorization_pending");
    assert_eq!(error(&mut rig, &code), "slow_down");
    rig.pass(10_000);
    assert_eq!(error(&mut rig, &code), "authorization_pending");
    rig.pass(10_000);
    assert_eq!(poll(&mut rig, &code).status, 200);
}

#[test]
fn a_device_code_belongs_to_its_client_and_challenge() {
    let mut rig = Rig::new(ServerConfig {
        client_ids: vec!["rig".to_owned(), "other".to_owned()],
        error_style: ErrorStyle::Openai,
        ..ServerConfig::default()
    });
    let (code, user_code) = begin(
        &mut rig,
        &[("code_challenge", CHALLENGE), ("code_challenge_method", "S256")],
    );
    assert!(rig.server.approve_device(&user_code, Some("alice"), rig.now));
    assert_eq!(
        poll_with(
            &mut rig,
            &code,
            &[("client_id", "other"), ("code_verifier", VERIFIER)]
        )
        .status,
        401
    );
    assert_eq!(
        poll_with(&mut rig, &code, &[("code_verifier", CHALLENGE)]).status,
        401
    );
    assert_eq!(poll_with(&mut rig, &code, &[]).status, 401);
    assert_eq!(
        poll_with(&mut rig, &code, &[("code_verifier", VERIFIER)]).status,
        200
    );
}

#[test]
fn polls_are_answered_in_the_rfcs_shape_in_every_style() {
    let mut rig = Rig::new(ServerConfig {
        error_style: ErrorStyle::Openai,
        ..ServerConfig::default()
    });
    let (code, _) = begin(&mut rig, &[]);
    assert_eq!(error(&mut rig, &code), "authorization_pending");
}

#[test]
fn the_verification_page() {
    let mut rig = Rig::new(ServerConfig {
        interactive: true,
        ..ServerConfig::default()
    });
    let (code, user_code) = begin(&mut rig, &[]);
    let page = rig.get(&format!("/approve?user_code={user_code}"));
    assert!(
        page.body.contains(&format!("value=\"{user_code}\"")),
        "{}",
        page.body
    );
    assert_eq!(error(&mut rig, &code), "authorization_pending");
    assert_eq!(rig.post("/approve", &[("user_code", "XXXX-XXXX")]).status, 404);
    assert_eq!(
        rig.post("/approve", &[("user_code", &user_code), ("account", "nobody")])
            .status,
        404
    );
    assert_eq!(
        rig.post("/approve", &[("user_code", &user_code), ("decision", "deny")])
            .status,
        200
    );
    rig.pass(5_000);
    assert_eq!(error(&mut rig, &code), "access_denied");
}

#[test]
fn openais_dialect() {
    let mut rig = Rig::default();
    let got = rig.post_json("/api/accounts/deviceauth/usercode", &json!({"client_id": "rig"}));
    assert_eq!(got.json()["interval"], "5");
    let (id, user_code) = (got.text("device_auth_id"), got.text("user_code"));
    let poll = |rig: &mut Rig, id: &str, code: &str| {
        rig.post_json(
            "/api/accounts/deviceauth/token",
            &json!({"device_auth_id": id, "user_code": code}),
        )
    };
    assert_eq!(poll(&mut rig, &id, &user_code).status, 403);
    assert_eq!(poll(&mut rig, &id, "WRNG-CODE").status, 404);
    assert_eq!(poll(&mut rig, "deviceauth_unknown", &user_code).status, 404);
    assert_eq!(
        rig.get(&format!("/codex/device?user_code={user_code}")).status,
        200
    );
    rig.pass(5_000);
    let got = poll(&mut rig, &id, &user_code);
    let (code, verifier) = (got.text("authorization_code"), got.text("code_verifier"));
    assert_eq!(poll(&mut rig, &id, &user_code).status, 404);
    let redirect = format!("{ISSUER}/deviceauth/callback");
    let got = rig.exchange(
        &code,
        &[("redirect_uri", &redirect), ("code_verifier", &verifier)],
    );
    assert_eq!(got.json()["scope"], "openid profile email offline_access");
    assert_eq!(
        got.claims("access_token")["https://api.openai.com/auth"]["chatgpt_account_id"],
        "acct-alice"
    );
}

#[test]
fn openais_dialect_refuses() {
    let mut rig = Rig::default();
    let begin = |rig: &mut Rig| {
        let got = rig.post_json("/api/accounts/deviceauth/usercode", &json!({"client_id": "rig"}));
        (got.text("device_auth_id"), got.text("user_code"))
    };
    let poll = |rig: &mut Rig, (id, code): &(String, String)| {
        rig.post_json(
            "/api/accounts/deviceauth/token",
            &json!({"device_auth_id": id, "user_code": code}),
        )
        .status
    };
    let device = begin(&mut rig);
    rig.pass(900_000);
    assert_eq!(poll(&mut rig, &device), 400);
    let device = begin(&mut rig);
    assert!(rig.server.deny_device(&device.1, rig.now));
    assert_eq!(poll(&mut rig, &device), 400);
    assert_eq!(
        rig.post_json("/api/accounts/deviceauth/token", &json!({})).status,
        400
    );
    let mut config = ServerConfig::default();
    config.device.enabled = false;
    let mut rig = Rig::new(config);
    let got = rig.post_json("/api/accounts/deviceauth/usercode", &json!({"client_id": "rig"}));
    assert_eq!(got.status, 404);
    assert_eq!(
        rig.post("/oauth/device/code", &[("client_id", "rig")]).status,
        404
    );
}

#[test]
fn a_device_is_not_forgotten_while_it_waits() {
    let mut rig = Rig::default();
    let (code, user_code) = begin(&mut rig, &[]);
    for _ in 0..600 {
        begin(&mut rig, &[]);
    }
    assert!(rig.server.approve_device(&user_code, None, rig.now));
    assert_eq!(poll(&mut rig, &code).status, 200);
    rig.pass(900_000);
    begin(&mut rig, &[]);
    assert_eq!(rig.server.devices.len(), 1);
}
