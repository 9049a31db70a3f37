use tokensink_types::{CredentialKind, Expiry};

use super::*;
use crate::worlds::{
    NOW, api_key, candidate, config, cooling, id, ids, later, oauth, provider, state, token, used,
};
use crate::{CredentialForm, ProviderAliases};

fn resolve(config: &Config, state: &State, preferred: Option<&str>, model: Option<&str>) -> ResolvedOrder {
    resolve_order(OrderInput {
        config,
        state,
        provider: &provider("rig"),
        preferred: preferred.map(id).as_ref(),
        model,
        now: NOW,
    })
    .unwrap()
}

fn names(order: &ResolvedOrder) -> Vec<&str> {
    order.profiles().map(ProfileId::name_part).collect()
}

fn with_config_order(mut config: Config, key: &str, list: &[&str]) -> Config {
    config.order.insert(provider(key), ids(list));
    config
}

fn with_stored_order(mut state: State, key: &str, list: &[&str]) -> State {
    state.order.insert(provider(key), ids(list));
    state
}

/// One key, two grants and a token, as in oracle 3.
fn four() -> Vec<Candidate> {
    vec![
        used(candidate("rig:key", "rig", api_key()), 1),
        used(candidate("rig:oauth5", "rig", oauth(Some(later(1)))), 5),
        used(candidate("rig:oauth3", "rig", oauth(Some(later(-1)))), 3),
        used(candidate("rig:token", "rig", token(Expiry::Never)), 0),
    ]
}

/// Oracle 3 of spec.md 19.
#[test]
fn round_robin_by_kind_then_by_last_use() {
    let order = resolve(&Config::default(), &state(four()), None, None);
    assert_eq!(names(&order), ["oauth3", "oauth5", "token", "key"]);
    assert_eq!(order.source, OrderSource::AllStored);

    let mut profiles = four();
    profiles[2] = cooling(profiles[2].clone(), 1000);
    let order = resolve(&Config::default(), &state(profiles), None, None);
    assert_eq!(names(&order), ["oauth5", "token", "key", "oauth3"]);
    let last = order.verdict(&id("rig:oauth3")).unwrap();
    assert_eq!((last.position, last.rule), (Some(3), Rule::Benched));
    assert_eq!(last.why(NOW), "cooldown for 1 s more (rate_limit)");
}

/// Oracle 4 of spec.md 19, and the rest of the precedence.
#[test]
fn precedence_of_the_sources() {
    let configured = || config(&[("rig:key", "rig", CredentialKind::ApiKey)]);
    // (stored order, config order, auth.profiles is there) -> result, source
    type Case = (
        Option<&'static [&'static str]>,
        Option<&'static [&'static str]>,
        bool,
        &'static [&'static str],
        OrderSource,
    );
    let cases: [Case; 9] = [
        (
            None,
            None,
            false,
            &["oauth3", "oauth5", "token", "key"],
            OrderSource::AllStored,
        ),
        (None, None, true, &["key"], OrderSource::Configured),
        (
            None,
            Some(&["rig:token", "rig:key"]),
            true,
            &["token", "key"],
            OrderSource::Config,
        ),
        (None, Some(&[]), true, &[], OrderSource::Config),
        (None, Some(&[]), false, &[], OrderSource::Config),
        (
            Some(&["rig:oauth5"]),
            Some(&["rig:token"]),
            true,
            &["oauth5"],
            OrderSource::Stored,
        ),
        (
            Some(&["rig:oauth5"]),
            Some(&[]),
            true,
            &["oauth5"],
            OrderSource::Stored,
        ),
        (
            Some(&[]),
            Some(&["rig:token"]),
            true,
            &["token"],
            OrderSource::Config,
        ),
        (Some(&[]), None, true, &["key"], OrderSource::Configured),
    ];
    for (stored, configured_order, entries, want, source) in cases {
        let mut config = if entries { configured() } else { Config::default() };
        if let Some(list) = configured_order {
            config = with_config_order(config, "rig", list);
        }
        let mut state = state(four());
        if let Some(list) = stored {
            state = with_stored_order(state, "rig", list);
        }
        let order = resolve(&config, &state, None, None);
        assert_eq!(
            (names(&order), order.source),
            (want.to_vec(), source),
            "{stored:?} {configured_order:?}"
        );
        assert!(!order.repaired);
        assert_eq!(order.verdicts.len(), 4, "every stored profile has a verdict");
    }
}

#[test]
fn what_is_left_out_is_told_why() {
    let stored = with_stored_order(state(four()), "rig", &["rig:key"]);
    let configured = config(&[("rig:key", "rig", CredentialKind::ApiKey)]);
    let by_config = with_config_order(Config::default(), "rig", &["rig:key"]);
    let cases = [
        (
            resolve(&Config::default(), &stored, None, None),
            Rule::NotInOrder,
            EligibilityCode::ExcludedByAuthOrder,
            "order clear --provider rig",
        ),
        (
            resolve(&by_config, &state(four()), None, None),
            Rule::NotInOrder,
            EligibilityCode::ExcludedByAuthOrder,
            "auth.order.rig",
        ),
        (
            resolve(&configured, &state(four()), None, None),
            Rule::NotConfigured,
            EligibilityCode::IneligibleProfile,
            "auth.profiles",
        ),
    ];
    for (order, rule, code, text) in cases {
        let verdict = order.verdict(&id("rig:token")).unwrap();
        assert_eq!(
            (verdict.rule, verdict.eligibility.code, verdict.position),
            (rule, code, None)
        );
        assert!(verdict.why(NOW).contains(text), "{}", verdict.why(NOW));
    }
}

#[test]
fn an_explicit_sequence_is_kept_but_cooling_ones_go_last() {
    let profiles = vec![
        candidate("rig:a", "rig", api_key()),
        cooling(candidate("rig:b", "rig", oauth(None)), 900),
        cooling(candidate("rig:c", "rig", oauth(None)), 300),
        candidate("rig:d", "rig", token(Expiry::At(NOW))),
        candidate("rig:e", "rig", oauth(None)),
    ];
    let list = ["rig:b", "rig:a", "rig:c", "rig:a", "rig:d", "rig:gone", "rig:e"];
    let state = with_stored_order(state(profiles), "rig", &list);
    // (preferred) -> order
    let cases: [(Option<&str>, &[&str]); 4] = [
        (None, &["a", "e", "c", "b"]),
        (Some("rig:e"), &["e", "a", "c", "b"]),
        (Some("rig:b"), &["b", "a", "e", "c"]),
        (Some("rig:d"), &["a", "e", "c", "b"]),
    ];
    for (preferred, want) in cases {
        let order = resolve(&Config::default(), &state, preferred, None);
        assert_eq!(names(&order), want, "{preferred:?}");
        assert_eq!(
            order.verdict(&id("rig:d")).unwrap().eligibility.code,
            EligibilityCode::Expired
        );
        assert_eq!(order.verdict(&id("rig:gone")).unwrap().owner, None);
        assert_eq!(order.verdicts.len(), 6);
    }
    let front = resolve(&Config::default(), &state, Some("rig:e"), None);
    assert_eq!(front.verdicts[0].rule, Rule::Preferred);
}

#[test]
fn drift_between_config_and_store_is_repaired() {
    let gone = [("rig:gone", "rig", CredentialKind::OAuth)];
    // (auth.profiles, config order, stored order) -> repaired
    type Case = (
        bool,
        Option<&'static [&'static str]>,
        Option<&'static [&'static str]>,
        bool,
    );
    let cases: [Case; 8] = [
        (true, None, None, true),
        (true, Some(&["rig:gone", "rig:lost"]), None, true),
        (true, None, Some(&["rig:gone"]), true),
        (true, Some(&[]), None, false),
        (true, Some(&["rig:gone", "rig:key"]), None, false),
        (false, Some(&["rig:gone"]), None, false),
        (false, None, Some(&["rig:gone"]), false),
        (false, None, None, false),
    ];
    for (entries, by_config, by_store, repaired) in cases {
        let mut config = if entries { config(&gone) } else { Config::default() };
        let mut state = state(four());
        if let Some(list) = by_config {
            config = with_config_order(config, "rig", list);
        }
        if let Some(list) = by_store {
            state = with_stored_order(state, "rig", list);
        }
        let order = resolve(&config, &state, None, None);
        assert_eq!(order.repaired, repaired, "{entries} {by_config:?} {by_store:?}");
        if repaired {
            let explicit = by_config.is_some() || by_store.is_some();
            let want: &[&str] = if explicit {
                &["key", "oauth5", "oauth3", "token"]
            } else {
                &["oauth3", "oauth5", "token", "key"]
            };
            assert_eq!(names(&order), want);
        }
    }
}

#[test]
fn an_unusable_profile_that_is_stored_is_no_drift() {
    let config = config(&[("rig:dead", "rig", CredentialKind::Token)]);
    let state = state(vec![
        candidate("rig:dead", "rig", token(Expiry::At(NOW))),
        candidate("rig:key", "rig", api_key()),
    ]);
    let order = resolve(&config, &state, None, None);
    assert!(!order.repaired);
    assert_eq!(names(&order), Vec::<&str>::new());
}

#[test]
fn orders_are_found_under_names_that_mean_the_same() {
    let aliases = ProviderAliases::new([
        (provider("r.i.g"), provider("rig")),
        (provider("rig"), provider("real")),
    ]);
    // A list under the very id wins over one under the provider that it stands for, that over any other alias.
    type Case = (
        &'static [(&'static str, &'static [&'static str])],
        &'static [&'static str],
    );
    let cases: [Case; 4] = [
        (&[("rig", &["rig:key"]), ("real", &["rig:token"])], &["key"]),
        (&[("r.i.g", &["rig:key"]), ("real", &["rig:token"])], &["token"]),
        (&[("r.i.g", &["rig:key"])], &["key"]),
        (&[("other", &["rig:key"])], &["oauth3", "oauth5", "token", "key"]),
    ];
    for (orders, want) in cases {
        let mut config = Config {
            aliases: aliases.clone(),
            ..Config::default()
        };
        for (key, list) in orders {
            config = with_config_order(config, key, list);
        }
        assert_eq!(
            names(&resolve(&config, &state(four()), None, None)),
            want,
            "{orders:?}"
        );
    }
}

#[test]
fn other_providers_have_no_part() {
    let mut profiles = four();
    profiles.push(candidate("other:a", "other", oauth(None)));
    let order = resolve(
        &Config::default(),
        &state(profiles.clone()),
        Some("other:a"),
        None,
    );
    assert_eq!(names(&order), ["oauth3", "oauth5", "token", "key"]);
    assert_eq!(order.verdict(&id("other:a")), None);
    let named = with_stored_order(state(profiles), "rig", &["other:a", "rig:key"]);
    let order = resolve(&Config::default(), &named, None, None);
    assert_eq!(names(&order), ["key"]);
    let verdict = order.verdict(&id("other:a")).unwrap();
    assert_eq!(verdict.eligibility.code, EligibilityCode::ProviderMismatch);
}

#[test]
fn a_window_of_one_model_counts_for_that_model() {
    let mut a = cooling(candidate("rig:a", "rig", api_key()), 500);
    a.usage.cooldown_model = Some("big".to_owned());
    let state = state(vec![a, candidate("rig:b", "rig", api_key())]);
    for (model, want) in [
        (None, ["b", "a"]),
        (Some("big"), ["b", "a"]),
        (Some("small"), ["a", "b"]),
    ] {
        assert_eq!(
            names(&resolve(&Config::default(), &state, None, model)),
            want,
            "{model:?}"
        );
    }
}

/// The worked example of spec.md appendix A.
#[test]
fn worked_example() {
    let mut work = candidate(
        "anthropic:work",
        "anthropic",
        CredentialForm::ApiKey(crate::worlds::REFERENCE),
    );
    work.usage = crate::Usage {
        last_used: Some(UnixMillis(1_780_000_000_000)),
        cooldown_until: Some(UnixMillis(1_780_000_030_000)),
        cooldown_reason: Some("rate_limit".to_owned()),
        cooldown_model: Some("claude-opus-4-6".to_owned()),
        ..crate::Usage::default()
    };
    let manual = token(Expiry::At(UnixMillis(1_790_000_000_000)));
    let state = state(vec![candidate("anthropic:manual", "anthropic", manual), work]);
    let state = with_stored_order(state, "anthropic", &["anthropic:work", "anthropic:manual"]);
    for (model, want) in [
        (None, ["manual", "work"]),
        (Some("claude-sonnet-4-6"), ["work", "manual"]),
    ] {
        let order = resolve_order(OrderInput {
            config: &Config::default(),
            state: &state,
            provider: &provider("anthropic"),
            preferred: None,
            model,
            now: UnixMillis(1_780_000_010_000),
        });
        assert_eq!(names(&order.unwrap()), want, "{model:?}");
    }
}

#[test]
fn a_reference_in_a_grant_stops_the_order_only_where_it_is_named() {
    let mut profiles = four();
    profiles[1].ref_fields = vec!["refresh".to_owned()];
    let input = |state: &State| {
        resolve_order(OrderInput {
            config: &Config::default(),
            state,
            provider: &provider("rig"),
            preferred: None,
            model: None,
            now: NOW,
        })
    };
    assert!(input(&state(profiles.clone())).is_err());
    let named = with_stored_order(state(profiles), "rig", &["rig:key"]);
    assert_eq!(names(&input(&named).unwrap()), ["key"]);
}
