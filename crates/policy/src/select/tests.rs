//! Small worlds, enumerated, against the promises of the decision.

use proptest::prelude::*;
use tokensink_types::{CredentialKind, Expiry};

use super::*;
use crate::worlds::{
    NOTHING, NOW, api_key, candidate, config, cooling, id, ids, later, oauth, provider, state, token, used,
};
use crate::{ConfigProfile, CredentialForm, EligibilityCode, HealthStatus, health};

fn decide(config: &Config, state: &State, request: &Request) -> Decision {
    select(config, state, request, NOW).unwrap()
}

fn any_of(of: &str) -> Request {
    Request::new(Target::Provider(provider(of)))
}

fn this(profile: &str) -> Request {
    Request::new(Target::Profile(id(profile)))
}

fn chosen(decision: &Decision) -> Option<&str> {
    decision.choice().map(|choice| choice.profile.as_str())
}

#[test]
fn takes_the_first_that_may_be_used_now() {
    let state = state(vec![
        used(candidate("rig:a", "rig", oauth(None)), 9),
        cooling(candidate("rig:b", "rig", oauth(None)), 60_000),
        candidate("rig:c", "rig", api_key()),
    ]);
    let decision = decide(&Config::default(), &state, &any_of("rig"));
    assert_eq!(chosen(&decision), Some("rig:a"));
    let rules: Vec<_> = decision
        .verdicts
        .iter()
        .map(|verdict| (verdict.profile.as_str(), verdict.rule))
        .collect();
    assert_eq!(
        rules,
        [
            ("rig:a", Rule::Chosen),
            ("rig:c", Rule::Usable),
            ("rig:b", Rule::Benched)
        ]
    );
}

#[test]
fn a_preferred_profile_leads_unless_it_cools_down() {
    let profiles = |b: Candidate| state(vec![candidate("rig:a", "rig", oauth(None)), b]);
    let b = candidate("rig:b", "rig", api_key());
    let request = Request {
        preferred: Some(id("rig:b")),
        ..any_of("rig")
    };
    let cases = [
        (b.clone(), "rig:b"),
        (cooling(b, 1), "rig:a"),
        (
            candidate("rig:b", "rig", CredentialForm::ApiKey(NOTHING)),
            "rig:a",
        ),
        (candidate("rig:b", "other", api_key()), "rig:a"),
    ];
    for (b, want) in cases {
        let decision = decide(&Config::default(), &profiles(b), &request);
        assert_eq!(chosen(&decision), Some(want));
    }
}

#[test]
fn the_model_of_the_request_counts() {
    let mut first = cooling(candidate("rig:a", "rig", oauth(None)), 60_000);
    first.usage.cooldown_model = Some("big".to_owned());
    let state = state(vec![first, candidate("rig:b", "rig", api_key())]);
    for (model, want) in [(None, "rig:b"), (Some("big"), "rig:b"), (Some("small"), "rig:a")] {
        let request = Request {
            model: model.map(str::to_owned),
            ..any_of("rig")
        };
        let decision = decide(&Config::default(), &state, &request);
        assert_eq!(chosen(&decision), Some(want), "{model:?}");
    }
}

#[test]
fn a_profile_asked_for_by_its_id_is_the_only_one() {
    let mut world = state(vec![
        candidate("rig:a", "rig", oauth(None)),
        cooling(candidate("rig:b", "rig", oauth(None)), 60_000),
        candidate("rig:dead", "rig", token(Expiry::At(NOW))),
    ]);
    world.order.insert(provider("rig"), ids(&["rig:a"]));
    let cases = [
        ("rig:a", Some("rig:a"), EligibilityCode::Ok),
        // Neither the order nor a cooldown keeps back what was asked for by name.
        ("rig:b", Some("rig:b"), EligibilityCode::Ok),
        ("rig:dead", None, EligibilityCode::Expired),
        ("rig:gone", None, EligibilityCode::ProfileMissing),
    ];
    for (ask, want, code) in cases {
        let decision = decide(&Config::default(), &world, &this(ask));
        assert_eq!(chosen(&decision), want, "{ask}");
        assert_eq!(decision.verdicts.len(), 1);
        assert_eq!(decision.verdicts[0].eligibility.code, code);
    }
    let benched = decide(&Config::default(), &world, &this("rig:b"));
    assert_eq!(
        benched.verdicts[0].why(NOW),
        "asked for by its id, in spite of a cooldown for 60 s more (rate_limit)"
    );
}

#[test]
fn bearer_modes_go_with_each_other_by_id() {
    let config = config(&[("rig:a", "rig", CredentialKind::Token)]);
    let state = state(vec![candidate("rig:a", "rig", oauth(None))]);
    assert_eq!(chosen(&decide(&config, &state, &this("rig:a"))), Some("rig:a"));
    assert_eq!(chosen(&decide(&config, &state, &any_of("rig"))), None);
}

#[test]
fn the_choice_names_its_owner_and_its_cost() {
    let mut inherited = candidate("rig:a", "rig", oauth(None));
    inherited.inherited = true;
    inherited.billing = BillingClass::Metered;
    let mut world = state(vec![inherited]);
    world.agent = AgentId::normalise("work");
    let decision = decide(&Config::default(), &world, &any_of("rig"));
    let choice = decision.choice().unwrap();
    assert_eq!((choice.owner.as_str(), choice.inherited), ("main", true));
    assert_eq!(choice.billing, BillingClass::Metered);
}

#[test]
fn nothing_to_choose_is_told_apart() {
    let dead = || candidate("rig:dead", "rig", token(Expiry::At(later(-60_000))));
    let late = || cooling(candidate("rig:late", "rig", oauth(None)), 7_200_000);
    let soon = || cooling(candidate("rig:soon", "rig", oauth(None)), 300_000);
    let none_selected = |list: &[&str]| {
        let mut config = Config::default();
        config.order.insert(provider("rig"), ids(list));
        config
    };
    let stale = config(&[("rig:gone", "rig", CredentialKind::OAuth)]);
    let cases = [
        (
            Config::default(),
            vec![],
            "no profile of rig is stored; run `tokensink models auth login --provider rig`",
        ),
        (
            stale,
            vec![],
            "no profile of rig is stored; run `tokensink models auth login --provider rig`",
        ),
        (
            none_selected(&[]),
            vec![late()],
            "auth.order.rig in openclaw.json selects no profile; add one to it or remove it",
        ),
        (
            Config::default(),
            vec![dead()],
            "no profile of rig can be used: rig:dead: the token of rig:dead ended 1m ago; run `tokensink models auth \
             paste-token --provider rig --profile-id rig:dead` with a new one",
        ),
        (
            Config::default(),
            vec![late(), dead(), soon()],
            "every profile of rig is cooling down; the first, rig:soon (rate_limit), is free in 5m",
        ),
    ];
    for (config, profiles, want) in cases {
        let decision = decide(&config, &state(profiles), &any_of("rig"));
        let Outcome::Unavailable(unavailable) = &decision.outcome else {
            panic!("{decision:?}");
        };
        assert_eq!(unavailable.to_string(), want);
        let retries = matches!(unavailable, Unavailable::AllBenched { .. });
        assert_eq!(unavailable.retry_at(), retries.then(|| later(300_000)));
    }
}

#[test]
fn a_stored_order_that_selects_none_names_the_command() {
    let mut world = state(vec![candidate("rig:a", "rig", oauth(None))]);
    world.order.insert(provider("rig"), ids(&["rig:gone"]));
    let decision = decide(&Config::default(), &world, &any_of("rig"));
    let Outcome::Unavailable(unavailable) = decision.outcome else {
        panic!("{decision:?}");
    };
    assert!(
        unavailable.to_string().contains("no profile rig:gone is stored"),
        "{unavailable}"
    );
}

/// What a decision promises, whatever it was asked.
fn check_promises(config: &Config, state: &State, request: &Request) {
    let decision = decide(config, state, request);
    let context = || format!("{config:?}\n{state:?}\n{request:?}\n{decision:?}");
    let verdicts = &decision.verdicts;

    for (at, verdict) in verdicts.iter().enumerate() {
        assert!(
            !verdicts[..at]
                .iter()
                .any(|other| other.profile == verdict.profile),
            "{}",
            context()
        );
        assert_eq!(
            verdict.position.is_some(),
            verdict.eligibility.is_ok(),
            "{}",
            context()
        );
        assert!(
            verdict.position.is_none_or(|position| position == at),
            "{}",
            context()
        );
        assert!(!verdict.why(NOW).is_empty(), "{}", context());
    }
    let usable = verdicts
        .iter()
        .any(|verdict| verdict.position.is_some() && verdict.bench.is_none());
    if let Some(choice) = decision.choice() {
        let verdict = verdicts
            .iter()
            .find(|verdict| verdict.profile == choice.profile)
            .unwrap();
        let candidate = state.candidate(&choice.profile).expect("chosen from the list");
        assert!(verdict.eligibility.is_ok(), "{}", context());
        assert!(
            verdict.bench.is_none() || matches!(request.target, Target::Profile(_)),
            "{}",
            context()
        );
        assert_eq!(
            (&choice.owner, choice.inherited),
            (&candidate.owner, candidate.inherited)
        );
        assert_eq!(
            verdicts
                .iter()
                .filter(|one| matches!(one.rule, Rule::Chosen | Rule::ChosenById))
                .count(),
            1
        );
    } else {
        assert!(!usable, "{}", context());
    }
    if let Target::Provider(wanted) = &request.target {
        check_order_promises(config, state, request, wanted, &decision);
    }
}

fn check_order_promises(
    config: &Config,
    state: &State,
    request: &Request,
    wanted: &ProviderId,
    decision: &Decision,
) {
    let context = || format!("{config:?}\n{state:?}\n{request:?}\n{decision:?}");
    let placed: Vec<&Verdict> = decision
        .verdicts
        .iter()
        .filter(|verdict| verdict.position.is_some() && Some(&verdict.profile) != request.preferred.as_ref())
        .collect();
    let ends: Vec<_> = placed
        .iter()
        .map(|verdict| verdict.bench.as_ref().map(|window| window.until))
        .collect();
    assert!(
        ends.is_sorted(),
        "usable first, then by soonest end\n{}",
        context()
    );
    for candidate in &state.candidates {
        let looked_at = decision
            .verdicts
            .iter()
            .any(|verdict| verdict.profile == candidate.id);
        assert!(looked_at || candidate.facts.provider != *wanted, "{}", context());
    }
    let stored_order = state.order.get(wanted).filter(|list| !list.is_empty());
    let explicit = stored_order.or_else(|| config.order.get(wanted));
    if let (Some(list), Some(choice)) = (explicit, decision.choice()) {
        let drifted = list.iter().all(|id| state.candidate(id).is_none()) && !config.profiles.is_empty();
        assert!(
            list.contains(&choice.profile) || (drifted && !list.is_empty()),
            "{}",
            context()
        );
    }
    // Status and selection agree (spec.md appendix B 5).
    let served = decision.choice().is_some()
        || matches!(
            decision.outcome,
            Outcome::Unavailable(Unavailable::AllBenched { .. })
        );
    let status = health::health(config, state, NOW)
        .into_iter()
        .find(|one| one.provider == *wanted);
    assert_eq!(
        status.as_ref().is_some_and(|one| one.usable),
        served,
        "{}",
        context()
    );
    if let Some(status) = status.filter(|_| !served) {
        assert!(
            matches!(status.status, HealthStatus::Missing | HealthStatus::Expired),
            "{}",
            context()
        );
    }
}

const IDS: [&str; 3] = ["rig:a", "rig:b", "rig:c"];

fn forms() -> Vec<CredentialForm> {
    let barren = |access, expires| CredentialForm::OAuth {
        access,
        refresh: false,
        expires,
    };
    vec![
        api_key(),
        CredentialForm::ApiKey(NOTHING),
        token(Expiry::Never),
        token(Expiry::At(NOW)),
        token(Expiry::Invalid),
        oauth(Some(later(1))),
        oauth(Some(later(-1))),
        barren(false, None),
        barren(true, Some(later(-1))),
    ]
}

/// Every form, not benched, benched for two lengths of time, or benched in the past; and not stored at all.
fn states_of(profile: &str) -> Vec<Option<Candidate>> {
    let mut all = vec![None, Some(candidate(profile, "other", api_key()))];
    for form in forms() {
        let fresh = candidate(profile, "rig", form);
        for bench in [None, Some(-1), Some(0), Some(10), Some(20)] {
            all.push(Some(
                bench.map_or_else(|| fresh.clone(), |ms| cooling(fresh.clone(), ms)),
            ));
        }
    }
    all
}

fn orders() -> Vec<Option<Vec<ProfileId>>> {
    let lists: [&[&str]; 6] = [
        &[],
        &["rig:a"],
        &["rig:b", "rig:a", "rig:b"],
        &["rig:gone"],
        &["rig:gone", "rig:b"],
        &["other:x", "rig:a"],
    ];
    std::iter::once(None)
        .chain(lists.map(|list| Some(ids(list))))
        .collect()
}

fn requests() -> Vec<Request> {
    let preferring = |profile| Request {
        preferred: Some(id(profile)),
        ..any_of("rig")
    };
    vec![
        any_of("rig"),
        preferring("rig:b"),
        preferring("rig:gone"),
        this("rig:a"),
        this("rig:gone"),
    ]
}

fn world_config(entries: usize, order: Option<Vec<ProfileId>>) -> Config {
    let all = [
        ("rig:b", "rig", CredentialKind::OAuth),
        ("rig:gone", "rig", CredentialKind::ApiKey),
    ];
    let mut config = match entries {
        0 => Config::default(),
        1 => config(&all[1..]),
        _ => config(&all),
    };
    config.order.extend(order.map(|list| (provider("rig"), list)));
    config
}

/// Two profiles in every state, under every order and every config: 324,723 worlds, five requests each.
#[test]
fn every_small_world_keeps_the_promises() {
    let mut worlds = 0_u32;
    let configs: Vec<Config> = orders()
        .into_iter()
        .flat_map(|order| (0..3).map(move |entries| world_config(entries, order.clone())))
        .collect();
    let requests = requests();
    let (firsts, seconds) = (states_of(IDS[0]), states_of(IDS[1]));
    for (first, second) in firsts.iter().flat_map(|a| seconds.iter().map(move |b| (a, b))) {
        let mut state = state([first, second].into_iter().flatten().cloned().collect());
        for order in orders() {
            state.order = order.map(|list| (provider("rig"), list)).into_iter().collect();
            for config in &configs {
                worlds += 1;
                for request in thin(&requests, worlds) {
                    check_promises(config, &state, request);
                }
            }
        }
    }
    assert_eq!(worlds, 47 * 47 * 7 * 21);
}

/// In a debug build one request per world, in turn, so that the run stays short; in a release build all.
fn thin(requests: &[Request], world: u32) -> impl Iterator<Item = &Request> {
    let every = if cfg!(debug_assertions) { requests.len() } else { 1 };
    let first = usize::try_from(world).unwrap_or(0) % every;
    requests.iter().skip(first).step_by(every)
}

/// What a decision says apart from how long ago things were.
fn gist<'a>(decision: &'a Decision) -> Vec<(&'a ProfileId, Rule, Option<usize>, EligibilityCode, bool)> {
    let gist = |verdict: &'a Verdict| {
        let (code, benched) = (verdict.eligibility.code, verdict.bench.is_some());
        (&verdict.profile, verdict.rule, verdict.position, code, benched)
    };
    decision.verdicts.iter().map(gist).collect()
}

#[test]
fn the_next_change_is_the_first_end_that_is_ahead() {
    let ending = |ms| candidate("rig:a", "rig", token(Expiry::At(later(ms))));
    let cases = [
        (vec![], None),
        (vec![candidate("rig:a", "rig", api_key())], None),
        (vec![ending(0), ending(-5)], None),
        (vec![ending(9), ending(7), ending(-1)], Some(7)),
        (
            vec![candidate("rig:a", "rig", oauth(Some(later(3)))), ending(7)],
            Some(3),
        ),
        (vec![cooling(ending(9), 4)], Some(4)),
        (vec![cooling(ending(9), -4)], Some(9)),
    ];
    for (candidates, want) in cases {
        let next = state(candidates.clone()).next_change(NOW);
        assert_eq!(next, want.map(later), "{candidates:?}");
    }
}

prop_compose! {
    fn any_candidate(index: usize)(
        form in prop::sample::select(forms()),
        other in prop::bool::weighted(0.1),
        bench in prop::option::of(-5_i64..50),
        model in prop::option::of(prop::sample::select(vec!["big", "small"])),
        last_used in prop::option::of(0_i64..5),
    ) -> Candidate {
        let mut one = candidate(IDS[index], if other { "other" } else { "rig" }, form);
        if let Some(ms) = bench {
            one = cooling(one, ms);
            one.usage.cooldown_model = model.map(str::to_owned);
        }
        one.usage.last_used = last_used.map(UnixMillis);
        one
    }
}

fn any_list() -> impl Strategy<Value = Vec<ProfileId>> {
    prop::collection::vec(
        prop::sample::select(vec!["rig:a", "rig:b", "rig:c", "rig:gone"]),
        0..5,
    )
    .prop_map(|list| ids(&list))
}

fn any_entries() -> impl Strategy<Value = Vec<ConfigProfile>> {
    let kinds = vec![
        None,
        Some(CredentialKind::OAuth),
        Some(CredentialKind::Token),
        Some(CredentialKind::ApiKey),
    ];
    let entry = (
        prop::sample::select(vec!["rig:a", "rig:b", "rig:gone"]),
        prop::sample::select(vec!["rig", "other"]),
        prop::sample::select(kinds),
    );
    prop::collection::vec(entry, 0..3).prop_map(|list| {
        list.into_iter()
            .map(|(profile, of, mode)| ConfigProfile {
                id: id(profile),
                provider: provider(of),
                mode,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn larger_worlds_keep_the_promises(
        candidates in (any_candidate(0), any_candidate(1), any_candidate(2)),
        kept in 0_usize..4,
        stored in prop::option::of(any_list()),
        by_config in prop::option::of(any_list()),
        entries in any_entries(),
        preferred in prop::option::of(prop::sample::select(IDS.to_vec())),
    ) {
        let mut world = state(vec![candidates.0, candidates.1, candidates.2]);
        world.candidates.truncate(kept);
        world.order = stored.map(|list| (provider("rig"), list)).into_iter().collect();
        let mut config = Config { profiles: entries, ..Config::default() };
        config.order = by_config.map(|list| (provider("rig"), list)).into_iter().collect();
        let request = Request { preferred: preferred.map(id), ..any_of("rig") };
        check_promises(&config, &world, &request);
        prop_assert_eq!(decide(&config, &world, &request), decide(&config, &world, &request));
    }

    /// Between now and the next change, time alone changes nothing.
    #[test]
    fn a_decision_holds_until_the_next_change(
        candidates in prop::collection::vec((0_usize..3).prop_flat_map(any_candidate), 0..4),
        stored in prop::option::of(any_list()),
        request in prop::sample::select(requests()),
        step in 0_i64..60,
    ) {
        let mut world = state(candidates);
        world.order = stored.map(|list| (provider("rig"), list)).into_iter().collect();
        let at = later(step);
        if world.next_change(NOW).is_none_or(|next| at < next) {
            let config = Config::default();
            let (now, then) = (decide(&config, &world, &request), select(&config, &world, &request, at).unwrap());
            prop_assert_eq!(gist(&then), gist(&now));
        }
    }
}
