//! Rotation, reuse, grace, idle limit: the rules that tokensink's refresh protocol is measured against.

use proptest::prelude::*;

use super::*;
use crate::{Rotation, TokenFormat};

#[test]
fn each_refresh_spends_its_token() {
    let mut rig = Rig::default();
    let login = rig.login();
    let mut token = login.refresh_token();
    for turn in 1..=3_u64 {
        let got = rig.refresh(&token);
        assert_eq!(got.status, 200, "{got:?}");
        assert_ne!(got.refresh_token(), token);
        assert_eq!(rig.api(&got.access_token()), 200);
        assert_eq!(rig.server.ledger().refreshes, turn);
        token = got.refresh_token();
    }
    // The access token of the login lives on by its own clock.
    assert_eq!(rig.api(&login.access_token()), 200);
    let family = &rig.server.ledger().families[0];
    assert_eq!((family.generations, family.refreshes, family.reuses), (4, 3, 0));
    assert_eq!(family.current, crate::fingerprint(&Secret::new(token)));
}

#[test]
fn a_spent_token_that_comes_again_ends_the_family() {
    for detection in [true, false] {
        let mut rig = Rig::new(ServerConfig {
            reuse_detection: detection,
            ..ServerConfig::default()
        });
        let first = rig.login().refresh_token();
        let second = rig.refresh(&first);
        let other = rig.login();
        assert_eq!(rig.refresh(&first).error(), (400, "invalid_grant".to_owned()));
        assert_eq!(rig.outcome(), "reuse");
        let (status, api) = if detection { (400, 401) } else { (200, 200) };
        assert_eq!(rig.api(&second.access_token()), api, "detection {detection}");
        assert_eq!(
            rig.refresh(&second.refresh_token()).status,
            status,
            "detection {detection}"
        );
        // Another grant of the same account is not touched.
        assert_eq!(rig.api(&other.access_token()), 200);
        assert_eq!(rig.refresh(&other.refresh_token()).status, 200);
        let ledger = rig.server.ledger();
        assert_eq!((ledger.reuses, ledger.families[0].reuses), (1, 1));
        let revoked = detection.then_some(RevokedBecause::RefreshTokenReuse);
        assert_eq!(ledger.families[0].revoked, revoked);
        assert_eq!(ledger.revocations, u64::from(detection));
    }
}

#[test]
fn every_reuse_is_counted_and_the_family_ends_once() {
    let mut rig = Rig::default();
    let first = rig.login().refresh_token();
    rig.refresh(&first);
    for _ in 0..3 {
        rig.refresh(&first);
    }
    let ledger = rig.server.ledger();
    assert_eq!(
        (
            ledger.reuses,
            ledger.revocations,
            ledger.posts(GrantType::RefreshToken)
        ),
        (3, 1, 4)
    );
}

#[test]
fn without_rotation_a_token_may_be_sent_again() {
    let mut rig = Rig::new(ServerConfig {
        rotation: Rotation::Never,
        ..ServerConfig::default()
    });
    let token = rig.login().refresh_token();
    for _ in 0..3 {
        let got = rig.refresh(&token);
        assert_eq!(
            (got.status, got.json().get("refresh_token").cloned()),
            (200, None)
        );
    }
    let family = &rig.server.ledger().families[0];
    assert_eq!((family.generations, family.refreshes, family.reuses), (1, 3, 0));
}

#[test]
fn within_the_grace_the_same_answer_comes_again() {
    // Milliseconds after the refresh, whether its successor was used in between, and whether the answer comes again.
    let cases = [
        (0, false, true),
        (29_999, false, true),
        (30_000, false, false),
        (0, true, false),
        (29_999, true, false),
    ];
    for (later, successor_used, want) in cases {
        let mut rig = Rig::new(ServerConfig {
            replay_grace_seconds: 30,
            ..ServerConfig::default()
        });
        let first = rig.login().refresh_token();
        let answer = rig.refresh(&first);
        if successor_used {
            assert_eq!(rig.refresh(&answer.refresh_token()).status, 200);
        }
        rig.pass(later);
        let again = rig.refresh(&first);
        let ledger = rig.server.ledger();
        let case = format!("{later} ms later, successor used: {successor_used}");
        if want {
            assert_eq!(again.body, answer.body, "{case}");
            assert_eq!(
                (ledger.replays, ledger.reuses, ledger.refreshes),
                (1, 0, 1),
                "{case}"
            );
            assert_eq!(rig.outcome(), "replayed");
            assert_eq!(rig.refresh(&again.refresh_token()).status, 200, "{case}");
        } else {
            assert_eq!(again.status, 400, "{case}");
            assert_eq!(
                (ledger.replays, ledger.reuses, ledger.revocations),
                (0, 1, 1),
                "{case}"
            );
        }
    }
}

#[test]
fn a_replay_of_a_revoked_family_is_no_replay() {
    let mut rig = Rig::new(ServerConfig {
        replay_grace_seconds: 30,
        ..ServerConfig::default()
    });
    let first = rig.login().refresh_token();
    rig.refresh(&first);
    assert_eq!(rig.server.revoke_account("bob"), 0);
    assert_eq!(rig.server.revoke_account("alice"), 1);
    assert_eq!(rig.server.revoke_account("alice"), 0);
    assert_eq!(rig.refresh(&first).status, 400);
}

#[test]
fn an_unused_token_dies_after_the_idle_limit() {
    for rotation in [Rotation::Always, Rotation::Never] {
        let mut rig = Rig::new(ServerConfig {
            idle_limit_seconds: Some(100),
            rotation,
            ..ServerConfig::default()
        });
        let mut token = rig.login().refresh_token();
        for _ in 0..3 {
            rig.pass(100_000);
            let got = rig.refresh(&token);
            assert_eq!(got.status, 200, "{rotation:?}");
            token = got.json()["refresh_token"].as_str().map_or(token, str::to_owned);
        }
        rig.pass(100_001);
        assert_eq!(rig.refresh(&token).error(), (400, "invalid_grant".to_owned()));
        assert_eq!(rig.outcome(), "idle");
        let ledger = rig.server.ledger();
        assert_eq!((ledger.idle_refusals, ledger.reuses, ledger.refreshes), (1, 0, 3));
    }
}

#[test]
fn access_tokens_end() {
    for format in [TokenFormat::Jwt, TokenFormat::Opaque] {
        let mut rig = Rig::new(ServerConfig {
            access_token_seconds: 10,
            token_format: format,
            ..ServerConfig::default()
        });
        let login = rig.login();
        let access = login.access_token();
        assert_eq!(
            access.split('.').count(),
            if format == TokenFormat::Jwt { 3 } else { 1 }
        );
        rig.pass(9_999);
        assert_eq!(rig.api(&access), 200);
        rig.pass(1);
        assert_eq!(rig.api(&access), 401);
        rig.server.set_access_token_seconds(20);
        let got = rig.refresh(&login.refresh_token());
        assert_eq!(got.json()["expires_in"], 20);
        rig.server.invalidate_access_tokens();
        assert_eq!(rig.api(&got.access_token()), 401);
        assert_eq!(rig.refresh(&got.refresh_token()).status, 200);
    }
}

#[test]
fn a_refresh_may_narrow_its_scope_but_not_widen_it() {
    let mut rig = Rig::default();
    let token = rig.login().refresh_token();
    let got = rig.refresh_with(&token, &[("scope", "openid admin")]);
    assert_eq!(got.error(), (400, "invalid_scope".to_owned()));
    let got = rig.refresh_with(&token, &[("scope", "email")]);
    assert_eq!(got.json()["scope"], "email");
    // What was narrowed once is not lost (RFC 6749 section 6).
    let got = rig.refresh(&got.refresh_token());
    assert_eq!(got.json()["scope"], "openid email");
}

#[test]
fn a_token_belongs_to_one_client() {
    let mut rig = Rig::new(ServerConfig {
        client_ids: vec!["rig".to_owned(), "other".to_owned()],
        ..ServerConfig::default()
    });
    let token = rig.login().refresh_token();
    let got = rig.refresh_with(&token, &[("client_id", "other")]);
    assert_eq!(
        (got.error(), rig.outcome()),
        ((400, "invalid_grant".to_owned()), "client_mismatch")
    );
    assert_eq!(rig.refresh(&token).status, 200);
}

#[test]
fn without_randomness_nothing_is_spent() {
    let mut rig = Rig::default();
    let token = rig.login().refresh_token();
    let before = rig.server.ledger().families.clone();
    rig.random.broken = true;
    assert_eq!(
        rig.refresh(&token).error(),
        (503, "temporarily_unavailable".to_owned())
    );
    assert_eq!(rig.server.ledger().families, before);
    rig.random.broken = false;
    assert_eq!(rig.refresh(&token).status, 200);
}

#[test]
fn the_books_hold_no_secret() {
    let mut rig = Rig::default();
    let redirect = rig.authorize(&[]);
    let code = redirect.redirected("code").unwrap();
    assert!(!format!("{:?}", redirect.headers).contains(&code));
    let login = rig.exchange(&code, &[]);
    let next = rig.refresh(&login.refresh_token());
    rig.api(&next.access_token());
    rig.refresh(&login.refresh_token());
    let books = serde_json::to_string(rig.server.ledger()).unwrap();
    for secret in [
        &code,
        &login.refresh_token(),
        &next.refresh_token(),
        &next.access_token(),
    ] {
        assert!(!books.contains(secret.as_str()), "{books}");
        assert!(!format!("{:?}", rig.server).contains(secret.as_str()));
        assert!(
            books.contains(&crate::fingerprint(&Secret::new(secret.as_str()))),
            "{books}"
        );
    }
    assert_eq!(
        &serde_json::from_str::<Ledger>(&books).unwrap(),
        rig.server.ledger()
    );
}

proptest! {
    /// Whatever order tokens are sent in, at most one of a family is good, a wrong one ends it for ever, and the books
    /// account for every request.
    #[test]
    fn one_token_of_a_family_is_good(sent in prop::collection::vec((0_usize..8, 0_i64..40), 1..30), grace in 0_u64..30) {
        let mut rig = Rig::new(ServerConfig { replay_grace_seconds: grace, ..ServerConfig::default() });
        let mut tokens = vec![rig.login().refresh_token()];
        let mut ended = false;
        for (back, seconds) in sent {
            rig.pass(seconds * 1000);
            let index = tokens.len().saturating_sub(1 + back);
            let newest = index + 1 == tokens.len();
            let got = rig.refresh(&tokens[index]);
            if got.status == 200 {
                prop_assert!(!ended, "a token of a revoked family was accepted");
                if newest {
                    tokens.push(got.refresh_token());
                } else {
                    prop_assert_eq!(index + 2, tokens.len(), "only the last answer may come again");
                    prop_assert_eq!(&got.refresh_token(), &tokens[index + 1]);
                }
            } else {
                prop_assert!(ended || !newest, "the live token was refused");
                ended = true;
            }
        }
        let ledger = rig.server.ledger();
        let refused = ledger.requests.iter().filter(|request| request.outcome == "revoked").count();
        prop_assert_eq!(ledger.refreshes, tokens.len() as u64 - 1);
        prop_assert_eq!(
            ledger.posts(GrantType::RefreshToken),
            ledger.refreshes + ledger.replays + ledger.reuses + refused as u64
        );
        prop_assert_eq!(ledger.revocations, u64::from(ended));
    }
}
