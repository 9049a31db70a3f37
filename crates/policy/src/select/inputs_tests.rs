//! What the further inputs of the decision do: benches and their tests, pins, money, rules, what was tried.

use std::time::Duration;

use super::*;
use crate::bench::{Failed, Limits};
use crate::classify::Reason;
use crate::worlds::{NOW, api_key, candidate, cooling, id, ids, later, oauth, provider, state};
use crate::{DenyRule, EligibilityCode};

const MINUTE: i64 = 60_000;

fn decide(config: &Config, state: &State, request: &Request) -> Decision {
    select(config, state, request, NOW).unwrap()
}

fn any() -> Request {
    Request::new(Target::Provider(provider("rig")))
}

fn chosen(decision: &Decision) -> Option<&str> {
    decision.choice().map(|choice| choice.profile.as_str())
}

fn class(mut candidate: Candidate, billing: BillingClass) -> Candidate {
    candidate.billing = billing;
    candidate
}

/// A profile of which a call of `model` failed `ago` before now.
fn failed(profile: &str, model: Option<&str>, ago: i64, stated: Option<i64>) -> Candidate {
    let mut one = candidate(profile, "rig", oauth(None));
    let failed = Failed {
        reason: Reason::RateLimit,
        model,
        stated: stated.map(later),
        test: None,
        now: later(-ago),
    };
    one.benches.fail(&failed, &Limits::default());
    one
}

fn three() -> State {
    let mut world = state(
        ["rig:a", "rig:b", "rig:c"]
            .map(|profile| candidate(profile, "rig", oauth(None)))
            .into(),
    );
    world
        .order
        .insert(provider("rig"), ids(&["rig:a", "rig:b", "rig:c"]));
    world
}

fn pinned(to: &str, source: PinSource, world: &State) -> Request {
    let pin = Pin {
        profile: id(to),
        source,
        compactions: 0,
        order_mark: Some(order_mark(&Config::default(), world, &provider("rig"))),
    };
    Request {
        session: Some(SessionPin {
            pin: Some(pin),
            ..SessionPin::default()
        }),
        ..any()
    }
}

#[test]
fn a_bench_of_ours_keeps_its_bucket_back_until_it_may_be_tested() {
    // (model benched, ended how long ago the failure was, server's word, model asked) -> choice, tests
    let cases = [
        (Some("big"), 1000, None, Some("big"), "rig:b", false),
        (Some("big"), 1000, None, Some("small"), "rig:a", false),
        (Some("big"), 1000, None, None, "rig:b", false),
        (None, 1000, None, Some("small"), "rig:a", false),
        (None, 1000, None, None, "rig:b", false),
        (Some("big"), 31_000, None, Some("big"), "rig:a", false),
        (
            Some("big"),
            4 * MINUTE,
            Some(60 * MINUTE),
            Some("big"),
            "rig:b",
            false,
        ),
        (
            Some("big"),
            5 * MINUTE,
            Some(60 * MINUTE),
            Some("big"),
            "rig:a",
            true,
        ),
    ];
    for (benched, ago, stated, asked, want, tests) in cases {
        let mut world = three();
        world.candidates[0] = failed("rig:a", benched, ago, stated);
        let request = Request {
            model: asked.map(str::to_owned),
            ..any()
        };
        let decision = decide(&Config::default(), &world, &request);
        let got = decision
            .choice()
            .map(|choice| (choice.profile.as_str(), choice.tests));
        assert_eq!(got, Some((want, tests)), "{benched:?} {ago} {stated:?} {asked:?}");
    }
}

#[test]
fn a_verdict_names_the_calls_that_are_benched() {
    let cases = [
        (Some("big"), "cooldown for big for 29 s more (rate_limit)"),
        (
            None,
            "cooldown for calls without a model for 29 s more (rate_limit)",
        ),
    ];
    for (benched, want) in cases {
        let mut world = three();
        world.candidates[0] = failed("rig:a", benched, 1000, None);
        let decision = decide(&Config::default(), &world, &any());
        let whys: Vec<_> = decision.verdicts.iter().map(|verdict| verdict.why(NOW)).collect();
        assert!(whys.iter().any(|why| why == want), "{whys:?}");
    }
}

#[test]
fn a_bench_that_somebody_tests_keeps_the_others_back() {
    let mut world = three();
    world.candidates.truncate(1);
    world.order.clear();
    world.candidates[0] = failed("rig:a", None, 6 * MINUTE, Some(60 * MINUTE));
    assert!(decide(&Config::default(), &world, &any()).choice().unwrap().tests);
    assert!(world.candidates[0].benches.probe(None, later(-10_000)));
    let decision = decide(&Config::default(), &world, &any());
    let Outcome::Unavailable(Unavailable::AllBenched {
        until, ends, wait, ..
    }) = decision.outcome
    else {
        panic!("{decision:?}");
    };
    // The test counts as given up a minute after it began.
    assert_eq!((until, ends), (later(50_000), later(60 * MINUTE)));
    assert_eq!(wait, Duration::from_secs(50));
}

#[test]
fn our_own_window_in_auth_state_counts_once() {
    let mut world = three();
    let mut a = failed("rig:a", None, 6 * MINUTE, Some(60 * MINUTE));
    a.usage.cooldown_until = Some(later(60 * MINUTE));
    world.candidates[0] = a.clone();
    assert_eq!(chosen(&decide(&Config::default(), &world, &any())), Some("rig:a"));
    // Another program's window has no half-open point.
    a.usage.cooldown_until = Some(later(60 * MINUTE + 1));
    world.candidates[0] = a;
    assert_eq!(chosen(&decide(&Config::default(), &world, &any())), Some("rig:b"));
}

#[test]
fn a_users_pin_is_never_left() {
    let world = three();
    let request = pinned("rig:b", PinSource::User, &world);
    let benched = || {
        let mut world = world.clone();
        world.candidates[1] = cooling(world.candidates[1].clone(), MINUTE);
        world
    };
    let left_out = || {
        let mut world = world.clone();
        world.order.insert(provider("rig"), ids(&["rig:a"]));
        world
    };
    for world in [world.clone(), benched(), left_out()] {
        let decision = decide(&Config::default(), &world, &request);
        assert_eq!(chosen(&decision), Some("rig:b"));
        assert_eq!(decision.pin.as_ref().unwrap().why, Why::Locked);
        assert_eq!(decision.verdict(&id("rig:b")).unwrap().rule, Rule::ChosenByPin);
        assert_eq!(decision.verdicts.len(), 3);
    }
    let mut dead = world.clone();
    dead.candidates[1].facts.form = crate::CredentialForm::ApiKey(crate::worlds::NOTHING);
    let decision = decide(&Config::default(), &dead, &request);
    let Outcome::Unavailable(Unavailable::Profile { eligibility, .. }) = &decision.outcome else {
        panic!("{decision:?}");
    };
    assert_eq!(eligibility.code, EligibilityCode::MissingCredential);
    let pin = decision.pin.unwrap();
    assert_eq!(
        (pin.profile, pin.pin),
        (None, request.session.as_ref().unwrap().pin.clone())
    );
    let tried = Request {
        tried: ids(&["rig:b"]),
        ..request
    };
    let decision = decide(&Config::default(), &world, &tried);
    assert!(matches!(
        decision.outcome,
        Outcome::Unavailable(Unavailable::AllTried { .. })
    ));
}

#[test]
fn an_automatic_pin_is_kept_escaped_from_and_returned_to() {
    let mut world = three();
    let request = pinned("rig:b", PinSource::Auto, &world);
    let step = |world: &State, request: &Request| {
        let decision = decide(&Config::default(), world, request);
        let pin = decision.pin.clone().unwrap();
        let stored = pin.pin.map(|pin| pin.profile.as_str().to_owned());
        (chosen(&decision).map(str::to_owned), stored, pin.why)
    };
    let said = |serves: &str, stored: &str, why| (Some(serves.to_owned()), Some(stored.to_owned()), why);
    assert_eq!(step(&world, &request), said("rig:b", "rig:b", Why::Kept));
    world.candidates[1] = failed("rig:b", None, 0, None);
    assert_eq!(step(&world, &request), said("rig:a", "rig:b", Why::Escaped));
    world.candidates[1] = failed("rig:b", None, 31_000, None);
    assert_eq!(step(&world, &request), said("rig:b", "rig:b", Why::Kept));
    let tried = Request {
        tried: ids(&["rig:b", "rig:a"]),
        ..request.clone()
    };
    assert_eq!(step(&world, &tried), said("rig:c", "rig:b", Why::Escaped));
    // Changing the order re-evaluates it at once.
    world.order.insert(provider("rig"), ids(&["rig:c", "rig:b"]));
    assert_eq!(step(&world, &request), said("rig:c", "rig:c", Why::OrderChanged));
    let user = pinned("rig:b", PinSource::User, &three());
    assert_eq!(step(&world, &user), said("rig:b", "rig:b", Why::Locked));
}

/// What it shows, the classes of a, b, c, which are benched, what is allowed, whether the order is written down; then
/// who is chosen, and from which class that is a crossing.
type Crossing = (
    &'static str,
    [BillingClass; 3],
    &'static str,
    Config,
    bool,
    Option<(&'static str, Option<BillingClass>)>,
);

fn crossings() -> [Crossing; 9] {
    use BillingClass::{Free, Metered, Prepaid, Subscription};
    let leave = |pairs: &[(BillingClass, BillingClass)]| Config {
        allow_crossings: pairs.iter().copied().collect(),
        ..Config::default()
    };
    [
        (
            "the first is usable",
            [Subscription, Metered, Free],
            "",
            leave(&[]),
            true,
            Some(("rig:a", None)),
        ),
        (
            "a cheaper one may follow",
            [Subscription, Metered, Free],
            "a",
            leave(&[]),
            true,
            Some(("rig:c", None)),
        ),
        (
            "a costlier one may not",
            [Subscription, Metered, Metered],
            "a",
            leave(&[]),
            true,
            None,
        ),
        (
            "with leave",
            [Subscription, Metered, Metered],
            "a",
            leave(&[(Subscription, Metered)]),
            true,
            Some(("rig:b", Some(Subscription))),
        ),
        (
            "leave for another crossing",
            [Subscription, Metered, Prepaid],
            "a",
            leave(&[(Subscription, Prepaid)]),
            true,
            Some(("rig:c", Some(Subscription))),
        ),
        (
            "leave for one of two",
            [Free, Subscription, Metered],
            "ab",
            leave(&[(Subscription, Metered)]),
            true,
            None,
        ),
        (
            "what stands behind does not count",
            [Metered, Subscription, Subscription],
            "",
            leave(&[]),
            true,
            Some(("rig:a", None)),
        ),
        (
            "where nobody wrote an order, it counts",
            [Metered, Subscription, Subscription],
            "",
            leave(&[]),
            false,
            Some(("rig:b", None)),
        ),
        (
            "and it stays so when the cheap ones are benched",
            [Metered, Subscription, Subscription],
            "bc",
            leave(&[]),
            false,
            None,
        ),
    ]
}

#[test]
fn nothing_crosses_to_a_costlier_class_without_leave() {
    let one = |profile, billing| class(candidate(profile, "rig", oauth(None)), billing);
    for (what, classes, benched, config, written, want) in crossings() {
        let mut world = three();
        for (at, (name, billing)) in ["rig:a", "rig:b", "rig:c"].into_iter().zip(classes).enumerate() {
            let fresh = one(name, billing);
            let is_benched = benched.contains(name.trim_start_matches("rig:"));
            world.candidates[at] = if is_benched { cooling(fresh, MINUTE) } else { fresh };
        }
        if !written {
            world.order.clear();
        }
        let decision = decide(&config, &world, &any());
        let got = decision
            .choice()
            .map(|choice| (choice.profile.as_str(), choice.crosses));
        assert_eq!(got, want, "{what}: {decision:?}");
        if want.is_none() {
            let Outcome::Unavailable(why @ Unavailable::TooCostly { .. }) = &decision.outcome else {
                panic!("{what}: {decision:?}");
            };
            assert_eq!(why.retry_at(), Some(later(MINUTE)), "{what}");
        }
    }
}

/// An id that stands in the order by mistake is nobody's cheaper account.
#[test]
fn another_providers_profile_in_the_order_makes_nothing_too_costly() {
    let mut world = three();
    world.candidates[0] = class(candidate("rig:a", "other", oauth(None)), BillingClass::Free);
    let decision = decide(&Config::default(), &world, &any());
    assert_eq!(chosen(&decision), Some("rig:b"), "{decision:?}");
}

#[test]
fn what_was_tried_and_what_the_session_keeps_are_cheaper_whatever_the_order_says() {
    let mut world = three();
    world.candidates.truncate(2);
    world.candidates[0].billing = BillingClass::Metered;
    world.order.insert(provider("rig"), ids(&["rig:a", "rig:b"]));
    let tried = Request {
        tried: ids(&["rig:b"]),
        ..any()
    };
    let refused = decide(&Config::default(), &world, &tried);
    assert_eq!(chosen(&refused), None, "{refused:?}");
    assert_eq!(refused.verdict(&id("rig:a")).unwrap().rule, Rule::TooCostly);
    let request = pinned("rig:b", PinSource::Auto, &world);
    assert_eq!(
        chosen(&decide(&Config::default(), &world, &request)),
        Some("rig:b")
    );
    world.candidates[1] = cooling(world.candidates[1].clone(), MINUTE);
    assert_eq!(chosen(&decide(&Config::default(), &world, &request)), None);
    // A new order is the user's word.
    let mut old = request;
    old.session.as_mut().unwrap().pin.as_mut().unwrap().order_mark = Some(7);
    assert_eq!(chosen(&decide(&Config::default(), &world, &old)), Some("rig:a"));
}

#[test]
fn a_session_lives_with_the_cheaper_profile_and_returns_from_an_allowed_crossing() {
    let mut world = three();
    world.candidates[0] = cooling(world.candidates[0].clone(), MINUTE);
    world.candidates.truncate(2);
    world.candidates[1].billing = BillingClass::Metered;
    let config = Config {
        allow_crossings: [(BillingClass::Subscription, BillingClass::Metered)].into(),
        ..Config::default()
    };
    let mut request = any();
    request.session = Some(SessionPin::default());
    let first = decide(&config, &world, &request);
    assert_eq!(chosen(&first), Some("rig:b"));
    let pin = first.pin.unwrap().pin;
    assert_eq!(pin.as_ref().unwrap().profile, id("rig:a"));
    world.candidates[0].usage = crate::Usage::default();
    request.session.as_mut().unwrap().pin = pin;
    assert_eq!(chosen(&decide(&config, &world, &request)), Some("rig:a"));
    // The same for a pin that somebody else put on the costlier one.
    let request = pinned("rig:b", PinSource::Auto, &world);
    let back = decide(&config, &world, &request);
    assert_eq!(
        (chosen(&back), back.pin.as_ref().unwrap().why),
        (Some("rig:a"), Why::Cheaper)
    );
}

fn rule(change: &dyn Fn(&mut DenyRule)) -> DenyRule {
    let mut rule = DenyRule {
        id: "no".to_owned(),
        ..DenyRule::default()
    };
    change(&mut rule);
    rule
}

/// A rule, the model asked for, and who is chosen among a, b and c.
type Denial = (DenyRule, Option<&'static str>, Option<&'static str>);

fn denials() -> [Denial; 11] {
    let of = |text: &str| Some(provider(text));
    [
        (
            rule(&|rule| rule.profile = Some(id("rig:a"))),
            None,
            Some("rig:b"),
        ),
        (rule(&|rule| rule.agent = Some(AgentId::main())), None, None),
        (
            rule(&|rule| rule.agent = Some(AgentId::normalise("kids"))),
            None,
            Some("rig:a"),
        ),
        (rule(&|rule| rule.provider = of("rig")), None, None),
        (rule(&|rule| rule.provider = of("other")), None, Some("rig:a")),
        (
            rule(&|rule| rule.billing = Some(BillingClass::Subscription)),
            None,
            None,
        ),
        (
            rule(&|rule| rule.billing = Some(BillingClass::Metered)),
            None,
            Some("rig:a"),
        ),
        (
            rule(&|rule| rule.model = Some("big".to_owned())),
            Some("big"),
            None,
        ),
        (
            rule(&|rule| rule.model = Some("big".to_owned())),
            Some("small"),
            Some("rig:a"),
        ),
        (rule(&|rule| rule.model = Some("big".to_owned())), None, None),
        (rule(&|_| ()), Some("small"), None),
    ]
}

#[test]
fn a_rule_of_the_user_denies_whoever_asks_and_however() {
    let world = three();
    for (rule, model, want) in denials() {
        let config = Config {
            deny: vec![rule.clone()],
            ..Config::default()
        };
        let request = Request {
            model: model.map(str::to_owned),
            ..any()
        };
        let decision = decide(&config, &world, &request);
        assert_eq!(chosen(&decision), want, "{rule:?} {model:?}");
        if want.is_none() {
            assert!(matches!(
                &decision.outcome,
                Outcome::Unavailable(Unavailable::Denied { rule, .. }) if rule == "no"
            ));
        }
    }
    let config = Config {
        deny: vec![rule(&|rule| rule.profile = Some(id("rig:b")))],
        ..Config::default()
    };
    let by_id = Request::new(Target::Profile(id("rig:b")));
    for request in [by_id, pinned("rig:b", PinSource::User, &world)] {
        let decision = decide(&config, &world, &request);
        assert_eq!(chosen(&decision), None);
        assert_eq!(decision.verdict(&id("rig:b")).unwrap().rule, Rule::Denied);
    }
}

#[test]
fn a_preferred_profile_may_cost_more_but_what_follows_it_may_not() {
    let mut world = three();
    world.candidates[1].billing = BillingClass::Prepaid;
    world.candidates[2] = class(candidate("rig:c", "rig", api_key()), BillingClass::Metered);
    let request = Request {
        preferred: Some(id("rig:b")),
        ..any()
    };
    let decision = decide(&Config::default(), &world, &request);
    assert_eq!(chosen(&decision), Some("rig:b"));
    assert_eq!(decision.verdict(&id("rig:c")).unwrap().rule, Rule::TooCostly);
}

#[test]
fn the_mark_changes_with_the_order_and_with_nothing_else() {
    let mark = |config: &Config, state: &State| order_mark(config, state, &provider("rig"));
    let config = Config::default();
    let ordered = three();
    let mut other = ordered.clone();
    other.candidates[0] = cooling(other.candidates[0].clone(), 1);
    other.candidates.truncate(1);
    assert_eq!(mark(&config, &ordered), mark(&config, &other));
    other
        .order
        .insert(provider("rig"), ids(&["rig:b", "rig:a", "rig:c"]));
    assert_ne!(mark(&config, &ordered), mark(&config, &other));
    // The same sequence is the same order wherever it is written, and an id that is repeated says nothing.
    let mut by_config = Config::default();
    by_config
        .order
        .insert(provider("rig"), ids(&["rig:a", "rig:b", "rig:a", "rig:c"]));
    let bare = state(ordered.candidates.clone());
    assert_eq!(mark(&by_config, &bare), mark(&config, &ordered));
    assert_eq!(mark(&config, &bare), 0);
    let mut none = Config::default();
    none.order.insert(provider("rig"), Vec::new());
    assert_ne!(mark(&none, &bare), 0);
    assert!(mark(&config, &ordered) < 1 << 53);
}
