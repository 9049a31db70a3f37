use tokensink_types::{Expiry, UnixMillis};

use super::*;
use crate::worlds::{
    NOTHING, NOW, REFERENCE, api_key, candidate, config, cooling, id, ids, later, oauth, provider, state,
    token,
};
use crate::{ProviderAliases, References};

const HOUR: i64 = 3_600_000;

fn in_use(list: &[&str]) -> Vec<ProviderInUse> {
    list.iter()
        .map(|of| ProviderInUse {
            provider: provider(of),
            other_auth: false,
        })
        .collect()
}

#[test]
fn words_by_kind_and_end() {
    use EligibilityCode as Code;
    use HealthStatus::{Expired, Expiring, Missing, Ok, Static};
    let barren = CredentialForm::OAuth {
        access: false,
        refresh: false,
        expires: Some(later(100 * HOUR)),
    };
    let stuck = CredentialForm::OAuth {
        access: true,
        refresh: false,
        expires: Some(later(-1)),
    };
    // (form) -> status, reason, whether the end is shown
    let cases = [
        (api_key(), Static, None, false),
        (
            CredentialForm::ApiKey(NOTHING),
            Missing,
            Some(Code::MissingCredential),
            false,
        ),
        (token(Expiry::Never), Static, None, false),
        (token(Expiry::Invalid), Missing, Some(Code::InvalidExpires), false),
        (token(Expiry::At(later(24 * HOUR + 1))), Ok, None, true),
        (token(Expiry::At(later(24 * HOUR))), Expiring, None, true),
        (token(Expiry::At(later(1))), Expiring, None, true),
        (token(Expiry::At(NOW)), Expired, Some(Code::Expired), false),
        (
            CredentialForm::Token {
                token: NOTHING,
                expires: Expiry::Never,
            },
            Missing,
            Some(Code::MissingCredential),
            false,
        ),
        (oauth(None), Missing, None, false),
        (oauth(Some(UnixMillis(0))), Missing, None, false),
        (oauth(Some(later(24 * HOUR + 1))), Ok, None, true),
        (oauth(Some(later(24 * HOUR))), Expiring, None, true),
        (oauth(Some(NOW)), Expired, None, true),
        (barren, Missing, Some(Code::MissingCredential), false),
        (stuck, Expired, Some(Code::Expired), true),
    ];
    for (form, status, reason, shown) in cases {
        let all = health(
            &Config::default(),
            &state(vec![candidate("rig:a", "rig", form)]),
            NOW,
        );
        let one = &all[0].profiles[0];
        assert_eq!((one.status, one.reason), (status, reason), "{form:?}");
        assert_eq!(one.expires_at.is_some(), shown, "{form:?}");
        assert_eq!(
            one.remaining_ms,
            one.expires_at.map(|at| at.0 - NOW.0),
            "{form:?}"
        );
        assert_eq!(one.detail.is_empty(), reason.is_none(), "{form:?}");
    }
    assert_eq!((Missing.as_str(), Missing.text()), ("missing", "unknown"));
}

#[test]
fn a_reference_that_fails_is_missing() {
    let mut one = candidate("rig:a", "rig", CredentialForm::ApiKey(REFERENCE));
    one.references = References::Failed;
    let all = health(&Config::default(), &state(vec![one]), NOW);
    assert_eq!(all[0].profiles[0].reason, Some(EligibilityCode::UnresolvedRef));
    assert_eq!((all[0].status, all[0].usable), (HealthStatus::Missing, false));
}

#[test]
fn roll_up_follows_the_order() {
    let profiles = || {
        vec![
            candidate("rig:dead", "rig", oauth(Some(later(-1)))),
            candidate("rig:soon", "rig", oauth(Some(later(HOUR)))),
            candidate("rig:fine", "rig", oauth(Some(later(100 * HOUR)))),
            candidate("rig:token", "rig", token(Expiry::At(NOW))),
            candidate("rig:key", "rig", api_key()),
        ]
    };
    type Case = (
        Option<&'static [&'static str]>,
        HealthStatus,
        &'static [&'static str],
    );
    let cases: [Case; 7] = [
        (
            None,
            HealthStatus::Expired,
            &["rig:dead", "rig:soon", "rig:fine", "rig:key"],
        ),
        (
            Some(&["rig:fine", "rig:soon"]),
            HealthStatus::Expiring,
            &["rig:fine", "rig:soon"],
        ),
        (
            Some(&["rig:fine", "rig:key"]),
            HealthStatus::Ok,
            &["rig:fine", "rig:key"],
        ),
        (Some(&["rig:key"]), HealthStatus::Static, &["rig:key"]),
        (Some(&["rig:token"]), HealthStatus::Expired, &["rig:token"]),
        (Some(&["rig:token", "rig:fine"]), HealthStatus::Ok, &["rig:fine"]),
        (Some(&["rig:gone"]), HealthStatus::Missing, &[]),
    ];
    for (order, status, effective) in cases {
        let mut world = state(profiles());
        world.order.extend(order.map(|list| (provider("rig"), ids(list))));
        let all = health(&Config::default(), &world, NOW);
        assert_eq!(all.len(), 1);
        assert_eq!(
            (all[0].status, all[0].effective.clone()),
            (status, ids(effective)),
            "{order:?}"
        );
        let names: Vec<_> = all[0].profiles.iter().map(|one| one.profile.as_str()).collect();
        assert_eq!(
            names,
            ["rig:dead", "rig:fine", "rig:key", "rig:soon", "rig:token"]
        );
    }
    let all = health(&Config::default(), &state(profiles()), NOW);
    assert_eq!(
        (all[0].expires_at, all[0].remaining_ms),
        (Some(later(-1)), Some(-1))
    );
}

#[test]
fn a_credential_that_does_not_fit_the_config_is_not_called_ok() {
    let config = config(&[("rig:a", "rig", CredentialKind::ApiKey)]);
    let all = health(
        &config,
        &state(vec![candidate("rig:a", "rig", oauth(Some(later(100 * HOUR))))]),
        NOW,
    );
    assert_eq!(all[0].profiles[0].reason, Some(EligibilityCode::ModeMismatch));
    assert_eq!((all[0].status, all[0].usable), (HealthStatus::Missing, false));
}

#[test]
fn a_grant_kept_as_a_reference_is_missing_and_said_so() {
    let mut one = candidate("rig:a", "rig", oauth(Some(later(100 * HOUR))));
    one.ref_fields = vec!["access".to_owned()];
    let all = health(&Config::default(), &state(vec![one]), NOW);
    // A missing grant makes its provider `expired` (spec.md 12.4); the profile's own word is `missing`.
    assert_eq!((all[0].status, all[0].usable), (HealthStatus::Expired, false));
    assert_eq!(all[0].profiles[0].status, HealthStatus::Missing);
    assert!(all[0].profiles[0].detail.contains("profiles.rig:a.access"));
}

/// Oracle 12 of spec.md 19, for both scopes.
#[test]
fn exit_codes() {
    let expired = || candidate("rig:x", "rig", oauth(Some(later(-1))));
    let ended = || candidate("rig:x", "rig", token(Expiry::At(NOW)));
    let expiring = || candidate("rig:y", "rig", oauth(Some(later(HOUR))));
    let fine = || candidate("rig:z", "rig", oauth(Some(later(100 * HOUR))));
    let key = || candidate("rig:k", "rig", api_key());
    let empty_key = || candidate("rig:e", "rig", CredentialForm::ApiKey(NOTHING));
    let unknown = || candidate("rig:u", "rig", oauth(None));
    // (profiles) -> exit code
    let cases = [
        (vec![expired(), expiring()], 1),
        (vec![ended(), expiring()], 1),
        (vec![expiring(), fine()], 2),
        (vec![fine(), key()], 0),
        (vec![key()], 0),
        (vec![unknown(), fine()], 1),
        (vec![empty_key(), fine()], 0),
        (vec![empty_key()], 1),
        (vec![], 1),
    ];
    for (profiles, want) in cases {
        let all = health(&Config::default(), &state(profiles.clone()), NOW);
        for scope in [CheckScope::InUse, CheckScope::All] {
            let exit = check_exit_code(&Config::default(), &all, &in_use(&["rig"]), scope);
            assert_eq!(exit.code(), want, "{profiles:?}");
        }
    }
}

/// The store of the live comparison: an expired grant of a provider that no model uses, an expiring one that is used.
#[test]
fn only_providers_in_use_count_unless_all_do() {
    let world = state(vec![
        candidate("anthropic:default", "anthropic", api_key()),
        candidate("anthropic:old", "anthropic", oauth(Some(later(-HOUR)))),
        candidate("openai-codex:a", "openai-codex", oauth(Some(later(240 * HOUR)))),
        candidate("openai-codex:b", "openai-codex", oauth(Some(later(2 * HOUR)))),
        candidate("zai:exp", "zai", token(Expiry::At(later(-HOUR)))),
    ]);
    let all = health(&Config::default(), &world, NOW);
    let cases: [(&[&str], CheckScope, u8); 5] = [
        (&["openai-codex"], CheckScope::InUse, 2),
        (&["openai-codex"], CheckScope::All, 1),
        (&["openai-codex", "anthropic"], CheckScope::InUse, 1),
        (&["openai-codex", "missing"], CheckScope::InUse, 1),
        (&[], CheckScope::InUse, 0),
    ];
    for (used, scope, want) in cases {
        let exit = check_exit_code(&Config::default(), &all, &in_use(used), scope);
        assert_eq!(exit.code(), want, "{used:?} {scope:?}");
    }
}

#[test]
fn what_the_order_leaves_out_does_not_alarm() {
    let mut world = state(vec![
        candidate("rig:dead", "rig", oauth(Some(later(-1)))),
        candidate("rig:fine", "rig", oauth(Some(later(100 * HOUR)))),
    ]);
    world.order.insert(provider("rig"), ids(&["rig:fine"]));
    let all = health(&Config::default(), &world, NOW);
    let used = in_use(&["rig"]);
    assert_eq!(
        check_exit_code(&Config::default(), &all, &used, CheckScope::InUse),
        CheckExit::Healthy
    );
    assert_eq!(
        check_exit_code(&Config::default(), &all, &used, CheckScope::All),
        CheckExit::Failing
    );
}

#[test]
fn providers_without_credentials_are_listed_once() {
    let config = Config {
        aliases: ProviderAliases::new([(provider("alias"), provider("rig"))]),
        ..Config::default()
    };
    let world = state(vec![
        cooling(candidate("rig:a", "rig", api_key()), HOUR),
        candidate("dead:a", "dead", token(Expiry::At(NOW))),
    ]);
    let all = health(&config, &world, NOW);
    let mut used = in_use(&["alias", "zzz", "dead", "zzz", "env"]);
    used[4].other_auth = true;
    let missing: Vec<&str> = missing_in_use(&config, &all, &used)
        .into_iter()
        .map(ProviderId::as_str)
        .collect();
    assert_eq!(missing, ["dead", "zzz"]);
}

#[test]
fn cooling_profiles_are_listed_by_soonest_end() {
    let world = state(vec![
        cooling(candidate("rig:late", "rig", api_key()), 900),
        candidate("rig:fine", "rig", api_key()),
        cooling(candidate("rig:soon", "rig", api_key()), 300),
        cooling(candidate("openrouter:a", "openrouter", api_key()), 100),
    ]);
    let list = unusable_profiles(&Config::default(), &world, NOW);
    let short: Vec<_> = list
        .iter()
        .map(|one| (one.profile.clone(), one.remaining_ms))
        .collect();
    assert_eq!(short, [(id("rig:soon"), 300), (id("rig:late"), 900)]);
}
