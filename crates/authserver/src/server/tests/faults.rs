//! Faults, as far as the state machine plays them; how they look on a socket is tested on one.

use super::*;

/// What the client got from a refresh under `action`, what the log says of it, and whether the token was spent.
fn under(action: FaultAction) -> (Got, RequestRecord, bool) {
    let mut rig = Rig::default();
    let token = rig.login().refresh_token();
    let name = action.to_string();
    rig.server.push_fault(Fault::on_refresh(action));
    let got = rig.refresh(&token);
    let record = rig.server.ledger().requests.back().unwrap().clone();
    assert_eq!(record.fault, Some(name));
    let spent = rig.server.ledger().families[0].generations == 2;
    // The next refresh is free of faults, and so tells whether the token is still good.
    assert!(rig.server.faults().is_empty());
    assert_eq!(rig.refresh(&token).status, if spent { 400 } else { 200 });
    assert_eq!(
        (
            rig.server.ledger().faults,
            rig.server.ledger().posts(GrantType::RefreshToken)
        ),
        (1, 2)
    );
    (got, record, spent)
}

#[test]
fn faults_that_spend_the_token_and_faults_that_do_not() {
    let status = FaultAction::Status {
        status: 502,
        body: "{}".to_owned(),
    };
    let later = FaultAction::RetryAfter {
        seconds: 7,
        status: 429,
    };
    // The fault; how its answer travels; its status in the log; whether the token was spent.
    let cases = [
        (status, Delivery::Whole, Some(502), false),
        (later, Delivery::Whole, Some(429), false),
        (FaultAction::CutBeforeHandling, Delivery::Nothing, None, false),
        (
            FaultAction::Garbage { handled: false },
            Delivery::Whole,
            Some(200),
            false,
        ),
        (
            FaultAction::Garbage { handled: true },
            Delivery::Whole,
            Some(200),
            true,
        ),
        (FaultAction::CutBeforeAnswer, Delivery::Nothing, Some(200), true),
        (
            FaultAction::CutAfterBytes { bytes: 30 },
            Delivery::CutAfter(30),
            Some(200),
            true,
        ),
        (FaultAction::Hold, Delivery::Held, Some(200), true),
        (
            FaultAction::HugeBody { bytes: 1000 },
            Delivery::Whole,
            Some(200),
            true,
        ),
    ];
    for (action, delivery, logged, spent) in cases {
        let name = action.to_string();
        let (got, record, was_spent) = under(action);
        assert_eq!((got.delivery, was_spent), (delivery, spent), "{name}");
        assert_eq!(record.status, logged, "{name}");
        assert_eq!(record.outcome == NOT_HANDLED, !spent, "{name}");
        assert!(record.key.is_some() == spent, "{name}");
    }
}

#[test]
fn what_the_client_sees_of_a_fault() {
    let (got, ..) = under(FaultAction::Status {
        status: 503,
        body: r#"{"error":"x"}"#.to_owned(),
    });
    assert_eq!(got.error(), (503, "x".to_owned()));
    let (got, ..) = under(FaultAction::RetryAfter {
        seconds: 7,
        status: 503,
    });
    assert_eq!(
        (got.status, &got.headers["retry-after"]),
        (503, &HeaderValue::from_static("7"))
    );
    let (got, ..) = under(FaultAction::Garbage { handled: true });
    assert!(serde_json::from_str::<serde_json::Value>(&got.body).is_err());
    let (got, ..) = under(FaultAction::HugeBody { bytes: 2_000_000 });
    assert_eq!(got.json()["padding"].as_str().unwrap().len(), 2_000_000);
    assert!(!got.refresh_token().is_empty());
}

#[test]
fn answers_that_lack_something() {
    let omit = |fields: &[&str]| FaultAction::Omit {
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let (got, _, spent) = under(omit(&["expires_in", "id_token"]));
    assert!(spent);
    assert_eq!(
        (got.json().get("expires_in"), got.json().get("id_token")),
        (None, None)
    );
    // An answer without a refresh token leaves the old one good.
    let (got, _, spent) = under(omit(&["refresh_token"]));
    assert!(!spent);
    assert_eq!(got.json().get("refresh_token"), None);
    assert!(!got.access_token().is_empty());
}

#[test]
fn an_answer_for_somebody_else() {
    let (got, _, spent) = under(FaultAction::WrongAccount {
        account: "bob".to_owned(),
    });
    assert!(spent);
    assert_eq!(got.claims("access_token")["sub"], "bob");
    assert_eq!(got.claims("id_token")["email"], "bob@example.com");
    // At a login the whole grant is the other account's.
    let mut rig = Rig::default();
    let fault = FaultAction::WrongAccount {
        account: "bob".to_owned(),
    };
    rig.server
        .push_fault(Fault::on_grant(GrantType::AuthorizationCode, fault));
    let got = rig.login();
    assert_eq!(rig.server.ledger().families[0].account, "bob");
    assert_eq!(
        rig.refresh(&got.refresh_token()).claims("access_token")["sub"],
        "bob"
    );
}

#[test]
fn within_the_grace_a_lost_answer_is_found_again() {
    let mut rig = Rig::new(ServerConfig {
        replay_grace_seconds: 30,
        ..ServerConfig::default()
    });
    let token = rig.login().refresh_token();
    rig.server
        .push_fault(Fault::on_refresh(FaultAction::CutBeforeAnswer));
    let lost = rig.refresh(&token);
    let found = rig.refresh(&token);
    assert_eq!((found.status, &found.body), (200, &lost.body));
    assert_eq!(rig.server.ledger().reuses, 0);
}

#[test]
fn faults_reach_any_endpoint_but_not_the_control_paths() {
    let mut rig = Rig::new(ServerConfig {
        control: true,
        ..ServerConfig::default()
    });
    let status = |status| FaultAction::Status {
        status,
        body: String::new(),
    };
    let endpoints = [
        (Endpoint::Api, "/v1/models"),
        (Endpoint::Authorization, "/oauth/authorize"),
        (Endpoint::Metadata, "/.well-known/oauth-authorization-server"),
        (Endpoint::Userinfo, "/userinfo"),
        (Endpoint::Verification, "/codex/device"),
    ];
    for (endpoint, path) in endpoints {
        rig.server.push_fault(Fault::at(endpoint, status(418)));
        assert_eq!(rig.get("/__ledger").status, 200);
        assert_eq!(rig.get(path).status, 418, "{path}");
        assert_ne!(rig.get(path).status, 418, "{path}");
    }
}
