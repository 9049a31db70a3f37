//! The API, userinfo, revocation, metadata and the control paths.

use serde_json::json;

use super::*;

#[test]
fn the_api_takes_live_tokens_and_keys_only() {
    let mut rig = Rig::default();
    let access = rig.login().access_token();
    let cases = [
        ("authorization", format!("Bearer {access}"), 200),
        ("authorization", format!("bearer {access}"), 200),
        ("x-api-key", access.clone(), 200),
        ("x-api-key", "rig-key-1".to_owned(), 200),
        ("authorization", "Bearer rig-key-1".to_owned(), 200),
        ("authorization", format!("Bearer {access}x"), 401),
        ("authorization", access.clone(), 401),
        ("authorization", "Bearer ".to_owned(), 401),
        ("x-api-key", "rig-key-2".to_owned(), 401),
        ("x-other", access, 401),
    ];
    for (header, value, want) in &cases {
        let got = rig.get_with("/v1/models", header, value);
        assert_eq!(got.status, *want, "{header}: {value}");
        assert_eq!(got.headers.contains_key("www-authenticate"), *want == 401);
    }
    let ledger = rig.server.ledger();
    assert_eq!((ledger.api_served, ledger.api_refused), (5, 5));
}

#[test]
fn the_api_says_whom_it_served() {
    let mut rig = Rig::default();
    let access = rig.login().access_token();
    let got = rig.get_with("/v1/models", "authorization", &format!("Bearer {access}"));
    assert_eq!(got.headers["x-account"], "alice");
    assert_eq!(got.json()["data"][0]["id"], "rig-small");
    let got = rig.get_with("/v1/models", "x-api-key", "rig-key-1");
    assert!(!got.headers.contains_key("x-account"));
}

#[test]
fn userinfo_is_for_access_tokens() {
    let mut rig = Rig::default();
    let access = rig.login().access_token();
    let got = rig.get_with("/userinfo", "authorization", &format!("Bearer {access}"));
    let want =
        json!({"sub": "alice", "email": "alice@example.com", "account_id": "acct-alice", "plan": "plus"});
    assert_eq!(got.json(), want);
    assert_eq!(rig.get_with("/userinfo", "x-api-key", "rig-key-1").status, 401);
    assert_eq!(rig.get("/userinfo").status, 401);
}

#[test]
fn revocation() {
    // What is revoked, and what then still works: the API, a refresh.
    let cases = [
        ("refresh_token", 401, 400, Some(RevokedBecause::Client)),
        ("access_token", 401, 200, None),
    ];
    for (member, api, refresh, revoked) in cases {
        let mut rig = Rig::default();
        let login = rig.login();
        let body = json!({"token": login.text(member), "token_type_hint": member, "client_id": "rig"});
        assert_eq!(rig.post_json("/oauth/revoke", &body).status, 200);
        // Again is as good as once (RFC 7009 section 2.2).
        assert_eq!(rig.post_json("/oauth/revoke", &body).status, 200);
        assert_eq!(rig.api(&login.access_token()), api, "{member}");
        assert_eq!(rig.refresh(&login.refresh_token()).status, refresh, "{member}");
        assert_eq!(rig.server.ledger().families[0].revoked, revoked, "{member}");
    }
}

#[test]
fn revocation_refuses_what_is_not_the_clients() {
    let mut rig = Rig::new(ServerConfig {
        client_ids: vec!["rig".to_owned(), "other".to_owned()],
        ..ServerConfig::default()
    });
    let token = rig.login().refresh_token();
    let got = rig.post("/oauth/revoke", &[("token", &token), ("client_id", "other")]);
    assert_eq!(got.error(), (400, "unauthorized_client".to_owned()));
    assert_eq!(rig.post("/oauth/revoke", &[("token", &token)]).error().0, 400);
    assert_eq!(rig.post("/oauth/revoke", &[("client_id", "rig")]).error().0, 400);
    assert_eq!(
        rig.post("/oauth/revoke", &[("token", "x"), ("client_id", "rig")])
            .status,
        200
    );
    assert_eq!(rig.refresh(&token).status, 200);
}

#[test]
fn a_spent_token_can_still_be_revoked() {
    let mut rig = Rig::default();
    let first = rig.login().refresh_token();
    let second = rig.refresh(&first).refresh_token();
    assert_eq!(
        rig.post("/oauth/revoke", &[("token", &first), ("client_id", "rig")])
            .status,
        200
    );
    assert_eq!(rig.refresh(&second).status, 400);
    assert_eq!(rig.server.ledger().reuses, 0);
}

#[test]
fn the_server_describes_itself() {
    let mut rig = Rig::default();
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let metadata = rig.get(path).json();
        assert_eq!(metadata["issuer"], ISSUER);
        for (name, value) in metadata.as_object().unwrap() {
            if name.ends_with("_endpoint") {
                let path = value.as_str().unwrap().strip_prefix(ISSUER).unwrap();
                assert_ne!(Endpoint::of(path), Endpoint::Unknown, "{name}");
            }
        }
    }
}

#[test]
fn control_paths_are_there_only_when_asked_for() {
    let mut closed = Rig::default();
    assert_eq!(closed.get("/__ledger").status, 404);
    assert_eq!(
        closed.post_json("/__issue", &json!({"account": "alice"})).status,
        404
    );
    let mut rig = Rig::new(ServerConfig {
        control: true,
        ..ServerConfig::default()
    });
    let tokens = rig.post_json("/__issue", &json!({"account": "bob", "scope": "openid a"}));
    assert_eq!(tokens.json()["scope"], "openid a");
    assert_eq!(rig.api(&tokens.access_token()), 200);
    assert_eq!(rig.post_json("/__invalidate", &json!({})).status, 200);
    assert_eq!(rig.api(&tokens.access_token()), 401);
    assert_eq!(rig.post_json("/__access_token_seconds", &json!(7)).status, 200);
    let next = rig.refresh(&tokens.refresh_token());
    assert_eq!(next.json()["expires_in"], 7);
    assert_eq!(
        rig.post_json("/__revoke", &json!({"account": "bob"})).json(),
        json!({"revoked": 1})
    );
    assert_eq!(rig.refresh(&next.refresh_token()).status, 400);
    assert_eq!(
        rig.post_json("/__logins", &json!([{"approve": "bob"}, "deny"]))
            .status,
        200
    );
    let code = rig.code();
    assert_eq!(rig.exchange(&code, &[]).claims("access_token")["sub"], "bob");
    assert_eq!(
        rig.authorize(&[]).redirected("error").as_deref(),
        Some("access_denied")
    );
    let ledger: Ledger = serde_json::from_value(rig.get("/__ledger").json()).unwrap();
    assert_eq!(&ledger, rig.server.ledger());
    assert!(
        ledger
            .requests
            .iter()
            .all(|request| !request.path.starts_with("/__"))
    );
}

#[test]
fn control_requests_that_are_wrong_say_so() {
    let mut rig = Rig::new(ServerConfig {
        control: true,
        ..ServerConfig::default()
    });
    let cases = [
        (
            "/__faults",
            json!({"action": {"kind": "nope"}}),
            "unknown variant `nope`",
        ),
        (
            "/__faults",
            json!([{"action": {"kind": "hold"}, "nht": 2}]),
            "unknown field `nht`",
        ),
        (
            "/__issue",
            json!({"account": "nobody"}),
            "there is no account \"nobody\"",
        ),
        ("/__revoke", json!({}), "missing field `account`"),
        ("/__nowhere", json!({}), "there is no POST /__nowhere"),
    ];
    for (path, body, want) in cases {
        let got = rig.post_json(path, &body);
        assert_eq!(got.status, 400, "{path}");
        assert!(got.text("error").contains(want), "{got:?}");
    }
}
