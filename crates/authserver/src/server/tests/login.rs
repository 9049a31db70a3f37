//! Authorization requests and the exchange of codes.

use serde_json::json;

use super::*;
use crate::{AccountConfig, ErrorStyle};

#[test]
fn what_a_client_gets_wrong_at_the_authorization_endpoint() {
    // An error that the client may hear of is redirected; a client or URI that is not known gets a page.
    let redirected: [(Pairs<'_>, &str); 8] = [
        (&[("response_type", "token")], "invalid_request"),
        (&[("response_type", "")], "invalid_request"),
        (&[("code_challenge", "")], "invalid_request"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("code_challenge_method", "")], "invalid_request"),
        (&[("code_challenge", "short")], "invalid_request"),
        (&[("scope", "openid admin")], "invalid_scope"),
        (&[("login_hint", "nobody")], "access_denied"),
    ];
    let mut rig = Rig::new(ServerConfig {
        scopes: vec!["openid".to_owned(), "email".to_owned()],
        ..ServerConfig::default()
    });
    for (changes, want) in redirected {
        let got = rig.authorize(changes);
        assert_eq!(got.status, 302, "{changes:?}");
        assert_eq!(got.redirected("error").as_deref(), Some(want), "{changes:?}");
        assert_eq!(got.redirected("state").as_deref(), Some("s-1"), "{changes:?}");
        assert_eq!(got.redirected("code"), None, "{changes:?}");
    }
    let refused: [Pairs<'_>; 5] = [
        &[("client_id", "")],
        &[("client_id", "stranger")],
        &[("redirect_uri", "")],
        &[("redirect_uri", "https://evil.example/cb")],
        &[("redirect_uri", "http://127.0.0.1:1455/else")],
    ];
    for changes in refused {
        let got = rig.authorize(changes);
        assert_eq!((got.status, got.location), (400, None), "{changes:?}");
    }
    assert_eq!(rig.get("/oauth/authorize?state=1&state=2").status, 400);
}

#[test]
fn who_signs_in() {
    let mut rig = Rig::new(ServerConfig {
        logins: vec![LoginAnswer::Approve("acct-bob".to_owned()), LoginAnswer::Deny],
        ..ServerConfig::default()
    });
    rig.server.push_login(LoginAnswer::Approve("nobody".to_owned()));
    let cases = [
        ("", Ok("bob")),
        ("bob", Err("access_denied")),
        ("bob", Err("access_denied")),
        ("bob@example.com", Ok("bob")),
        ("", Ok("alice")),
    ];
    for (turn, (hint, want)) in cases.into_iter().enumerate() {
        let got = rig.authorize(&[("login_hint", hint)]);
        match want {
            Ok(sub) => {
                assert_eq!(got.redirected("state").as_deref(), Some("s-1"));
                let answer = rig.exchange(&got.redirected("code").unwrap(), &[]);
                assert_eq!(answer.claims("access_token")["sub"], sub, "login {turn}");
            }
            Err(error) => assert_eq!(got.redirected("error").as_deref(), Some(error), "login {turn}"),
        }
    }
}

#[test]
fn a_person_is_asked_where_the_configuration_says_so() {
    let mut rig = Rig::new(ServerConfig {
        interactive: true,
        ..ServerConfig::default()
    });
    let page = rig.authorize(&[("state", "<x>")]);
    assert_eq!((page.status, &page.location), (200, &None));
    assert!(page.body.contains("Sign in as bob@example.com"), "{}", page.body);
    assert!(
        page.body.contains("name=\"state\" value=\"&lt;x&gt;\""),
        "{}",
        page.body
    );
    let usual = [
        ("response_type", "code"),
        ("client_id", "rig"),
        ("redirect_uri", REDIRECT),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("state", "s-2"),
    ];
    let got = rig.post("/oauth/authorize", &changed(&usual, &[("account", "bob")]));
    let answer = rig.exchange(&got.redirected("code").unwrap(), &[]);
    assert_eq!(answer.claims("access_token")["sub"], "bob");
    let got = rig.post("/oauth/authorize", &changed(&usual, &[("decision", "deny")]));
    assert_eq!(got.redirected("error").as_deref(), Some("access_denied"));
    assert_eq!(got.redirected("state").as_deref(), Some("s-2"));
}

#[test]
fn a_code_can_be_shown_for_pasting() {
    let mut rig = Rig::default();
    let own = format!("{ISSUER}/oauth/code/callback");
    let got = rig.authorize(&[("redirect_uri", &own)]);
    let code = got.redirected("code").unwrap();
    let url = got.location.unwrap();
    let page = rig.get(&format!("{}?{}", url.path(), url.query().unwrap()));
    assert!(page.body.contains(&format!("{code}#s-1")), "{}", page.body);
    assert_eq!(rig.exchange(&code, &[("redirect_uri", &own)]).status, 200);
}

#[test]
fn a_code_is_exchanged_for_tokens() {
    let mut rig = Rig::default();
    let code = rig.authorize(&[("nonce", "n-1")]).redirected("code").unwrap();
    let got = rig.exchange(&code, &[]);
    let answer = got.json();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 3600);
    assert_eq!(answer["scope"], "openid email");
    assert_eq!(got.headers["cache-control"], "no-store");
    let claims = got.claims("access_token");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        3600
    );
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(got.claims("id_token")["nonce"], "n-1");
    assert_eq!(got.claims("id_token")["aud"], "rig");
    assert_eq!(rig.api(&got.access_token()), 200);
    let family = &rig.server.ledger().families[0];
    assert_eq!((family.account.as_str(), family.generations), ("alice", 1));
    assert_eq!(
        family.current,
        crate::fingerprint(&Secret::new(got.refresh_token()))
    );
}

#[test]
fn a_wrong_exchange_burns_the_code() {
    let wrong_verifier = "x".repeat(43);
    let long_verifier = "x".repeat(129);
    let cases: [(Pairs<'_>, i64, (u16, &str), &str); 8] = [
        (
            &[("code_verifier", &wrong_verifier)],
            0,
            (400, "invalid_grant"),
            "pkce_mismatch",
        ),
        (
            &[("code_verifier", &long_verifier)],
            0,
            (400, "invalid_grant"),
            "pkce_mismatch",
        ),
        (
            &[("code_verifier", CHALLENGE)],
            0,
            (400, "invalid_grant"),
            "pkce_mismatch",
        ),
        (
            &[("code_verifier", "")],
            0,
            (400, "invalid_request"),
            "missing_parameter",
        ),
        (
            &[("redirect_uri", "http://127.0.0.1:1456/auth/callback")],
            0,
            (400, "invalid_grant"),
            "redirect_mismatch",
        ),
        (
            &[("redirect_uri", "")],
            0,
            (400, "invalid_grant"),
            "redirect_mismatch",
        ),
        (
            &[("client_id", "other")],
            0,
            (400, "invalid_grant"),
            "client_mismatch",
        ),
        (&[], 60_000, (400, "invalid_grant"), "expired_code"),
    ];
    for (changes, later, want, outcome) in cases {
        let mut rig = Rig::new(ServerConfig {
            client_ids: vec!["rig".to_owned(), "other".to_owned()],
            ..ServerConfig::default()
        });
        let code = rig.code();
        rig.pass(later);
        let got = rig.exchange(&code, changes);
        assert_eq!(got.error(), (want.0, want.1.to_owned()), "{changes:?}");
        assert_eq!(rig.outcome(), outcome, "{changes:?}");
        // Nothing wrong with it any more, and yet it is gone.
        let again = rig.exchange(&code, &[]);
        assert_eq!(again.error(), (400, "invalid_grant".to_owned()), "{changes:?}");
        assert!(rig.server.ledger().families.is_empty(), "{changes:?}");
    }
    let mut rig = Rig::default();
    let code = rig.code();
    rig.pass(59_999);
    assert_eq!(rig.exchange(&code, &[]).status, 200);
}

#[test]
fn a_code_that_comes_again_takes_its_tokens_with_it() {
    let mut rig = Rig::default();
    let code = rig.code();
    let tokens = rig.exchange(&code, &[]);
    assert_eq!(rig.api(&tokens.access_token()), 200);
    assert_eq!(
        rig.exchange(&code, &[]).error(),
        (400, "invalid_grant".to_owned())
    );
    assert_eq!(rig.outcome(), "code_reuse");
    assert_eq!(rig.api(&tokens.access_token()), 401);
    assert_eq!(
        rig.refresh(&tokens.refresh_token()).error(),
        (400, "invalid_grant".to_owned())
    );
    let ledger = rig.server.ledger();
    assert_eq!(ledger.families[0].revoked, Some(RevokedBecause::CodeReuse));
    assert_eq!((ledger.revocations, ledger.reuses), (1, 0));
}

#[test]
fn requests_that_are_none() {
    let mut rig = Rig::default();
    let cases: [(Pairs<'_>, (u16, &str)); 5] = [
        (&[("client_id", "rig")], (400, "unsupported_grant_type")),
        (
            &[("client_id", "rig"), ("grant_type", "password")],
            (400, "unsupported_grant_type"),
        ),
        (&[("grant_type", "refresh_token")], (400, "invalid_request")),
        (
            &[("client_id", "stranger"), ("grant_type", "refresh_token")],
            (401, "invalid_client"),
        ),
        (
            &[("client_id", "rig"), ("client_id", "rig")],
            (400, "invalid_request"),
        ),
    ];
    for (pairs, want) in cases {
        assert_eq!(
            rig.post("/oauth/token", pairs).error(),
            (want.0, want.1.to_owned()),
            "{pairs:?}"
        );
    }
    let got = rig.get("/oauth/token?grant_type=refresh_token");
    assert_eq!(
        (got.status, got.headers["allow"].to_str().unwrap()),
        (405, "POST")
    );
    let request = Request::post("/oauth/token")
        .body(Body::new("grant_type=refresh_token"))
        .unwrap();
    assert_eq!(rig.send(&request).error(), (400, "invalid_request".to_owned()));
    assert_eq!(rig.get("/nowhere").status, 404);
    assert_eq!(rig.post_json("/nowhere", &json!({"a": {}})).status, 404);
}

#[test]
fn json_is_as_good_as_a_form() {
    let mut rig = Rig::default();
    let code = rig.code();
    let body = json!({
        "grant_type": "authorization_code", "client_id": "rig", "code": code, "state": "s-1",
        "redirect_uri": REDIRECT, "code_verifier": VERIFIER,
    });
    let got = rig.post_json("/v1/oauth/token", &body);
    assert_eq!(got.status, 200, "{got:?}");
    let body =
        json!({"grant_type": "refresh_token", "client_id": "rig", "refresh_token": got.refresh_token()});
    assert_eq!(rig.post_json("/v1/oauth/token", &body).status, 200);
    let record = rig.server.ledger().requests.back().unwrap();
    assert_eq!(record.content_type.as_deref(), Some("application/json"));
}

#[test]
fn a_confidential_client_shows_its_secret() {
    let mut rig = Rig::new(ServerConfig {
        client_secret: Some(Secret::new("s3:cr t")),
        ..ServerConfig::default()
    });
    let issued = rig
        .server
        .issue("alice", "rig", &[], rig.now, &rig.random)
        .unwrap();
    let token = issued.refresh_token.unwrap();
    let mut refresh = |secret: &str, basic: Option<&str>| {
        use base64::Engine as _;
        let mut request =
            Request::post("/oauth/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(basic) = basic {
            let basic = base64::engine::general_purpose::STANDARD.encode(basic);
            request = request.header("authorization", format!("Basic {basic}"));
        }
        let usual = [("grant_type", "refresh_token"), ("refresh_token", token.expose())];
        let client = if basic.is_some() { "" } else { "rig" };
        let pairs = changed(&usual, &[("client_secret", secret), ("client_id", client)]);
        rig.send(&request.body(Body::new(form(&pairs))).unwrap())
    };
    for (secret, basic) in [
        ("", None),
        ("wrong", None),
        ("", Some("rig:wrong")),
        ("", Some("x:s3%3Acr+t")),
        ("", Some("rig")),
    ] {
        let got = refresh(secret, basic);
        assert_eq!(
            got.error(),
            (401, "invalid_client".to_owned()),
            "{secret:?} {basic:?}"
        );
        assert!(got.headers.contains_key("www-authenticate"));
    }
    let next = refresh("", Some("rig:s3%3Acr+t"));
    assert_eq!(next.status, 200, "{next:?}");
    let usual = next.refresh_token();
    let got = rig.refresh_with(&usual, &[("client_secret", "s3:cr t")]);
    assert_eq!(got.status, 200, "{got:?}");
}

#[test]
fn answers_hold_what_the_configuration_says() {
    let nameless = AccountConfig {
        sub: "x".to_owned(),
        email: Some("x@example.com".to_owned()),
        ..AccountConfig::default()
    };
    let mut config = ServerConfig {
        accounts: vec![nameless],
        ..ServerConfig::default()
    };
    config.answer.account = true;
    config.answer.expires_in = false;
    config.answer.id_token = false;
    config.answer.refresh_token = false;
    let mut rig = Rig::new(config);
    let got = rig.login();
    let answer = got.json();
    assert_eq!(
        answer["account"],
        json!({"uuid": "x", "email_address": "x@example.com"})
    );
    assert_eq!(answer.get("expires_in"), None);
    assert_eq!(answer.get("id_token"), None);
    assert_eq!(
        got.claims("access_token").get("https://api.openai.com/auth"),
        None
    );
    // Only refreshes go without a refresh token; then the old one stays good.
    let token = got.refresh_token();
    for _ in 0..2 {
        let got = rig.refresh(&token);
        assert_eq!(
            (got.status, got.json().get("refresh_token").cloned()),
            (200, None)
        );
    }
    assert_eq!(rig.server.ledger().reuses, 0);
}

#[test]
fn errors_in_openais_style() {
    let mut rig = Rig::new(ServerConfig {
        error_style: ErrorStyle::Openai,
        idle_limit_seconds: Some(10),
        ..ServerConfig::default()
    });
    let error = |got: &Got| {
        (
            got.status,
            got.json()["error"]["code"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(
        error(&rig.refresh("rt_unknown")),
        (401, "refresh_token_invalidated".to_owned())
    );
    assert_eq!(
        error(&rig.post("/oauth/token", &[("client_id", "rig")])),
        (400, "unsupported_grant_type".to_owned())
    );
    let first = rig.login().refresh_token();
    rig.pass(10_001);
    assert_eq!(
        error(&rig.refresh(&first)),
        (401, "refresh_token_expired".to_owned())
    );
    let first = rig.login().refresh_token();
    let second = rig.refresh(&first).refresh_token();
    assert_eq!(
        error(&rig.refresh(&first)),
        (401, "refresh_token_reused".to_owned())
    );
    assert_eq!(
        error(&rig.refresh(&second)),
        (401, "refresh_token_invalidated".to_owned())
    );
}
