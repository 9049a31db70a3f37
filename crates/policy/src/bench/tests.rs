use proptest::prelude::*;

use super::*;

const T: UnixMillis = UnixMillis(1_780_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn failed(reason: Reason, model: Option<&str>, now: UnixMillis) -> Failed<'_> {
    Failed {
        reason,
        model,
        stated: None,
        test: None,
        now,
    }
}

/// The windows of failures that each come a second after the window before has ended.
fn windows(reason: Reason, count: usize) -> Vec<u64> {
    let mut benches = Benches::default();
    let mut now = T;
    let mut seen = Vec::new();
    for _ in 0..count {
        let bench = benches
            .fail(&failed(reason, Some("m"), now), &Limits::default())
            .unwrap();
        seen.push(now.until(bench.until).as_secs());
        now = bench.until.plus(SECOND);
    }
    seen
}

/// Oracles 1 and 2 of spec.md 19.
#[test]
fn the_steps_are_those_of_age_c2() {
    assert_eq!(windows(Reason::RateLimit, 5), [30, 60, 300, 300, 300]);
    assert_eq!(windows(Reason::Overloaded, 3), [30, 60, 300]);
    assert_eq!(windows(Reason::Auth, 3), [30, 60, 300]);
    assert_eq!(
        windows(Reason::Billing, 5)
            .iter()
            .map(|s| s / 3600)
            .collect::<Vec<_>>(),
        [5, 10, 20, 24, 24]
    );
    assert_eq!(
        windows(Reason::AuthPermanent, 5)
            .iter()
            .map(|s| s / 60)
            .collect::<Vec<_>>(),
        [10, 20, 40, 60, 60]
    );
    assert_eq!(windows(Reason::Unclassified, 4), [30, 30, 30, 30]);
}

#[test]
fn the_network_and_the_request_bench_nobody() {
    for reason in [
        Reason::Timeout,
        Reason::Format,
        Reason::Refused,
        Reason::NotPermitted,
        Reason::ContextOverflow,
        Reason::SessionExpired,
    ] {
        let mut benches = Benches::default();
        assert_eq!(
            benches.fail(&failed(reason, Some("m"), T), &Limits::default()),
            None
        );
        assert_eq!(benches, Benches::default(), "{reason:?}");
    }
}

#[test]
fn a_failure_inside_a_window_moves_nothing() {
    let mut benches = Benches::default();
    benches.fail(&failed(Reason::RateLimit, Some("m"), T), &Limits::default());
    let before = benches.clone();
    for second in 0..30 {
        benches.fail(
            &failed(Reason::RateLimit, Some("m"), T.plus(SECOND * second)),
            &Limits::default(),
        );
    }
    assert_eq!(benches, before);
}

#[test]
fn the_servers_word_beats_the_steps_in_both_directions() {
    let mut benches = Benches::default();
    let mut saying = failed(Reason::RateLimit, Some("m"), T);
    assert_eq!(
        benches.fail(&saying, &Limits::default()).unwrap().until,
        T.plus(SECOND * 30)
    );
    saying.stated = Some(T.plus(HOUR * 3));
    let bench = benches.fail(&saying, &Limits::default()).unwrap();
    assert_eq!(
        (bench.until, bench.half_open, bench.failures),
        (T.plus(HOUR * 3), T.plus(MINUTE * 5), 1)
    );
    // Inside a window that it named, calls that were under way meet other limits: the window stays.
    for said in [HOUR * 8, SECOND * 2, MINUTE] {
        saying.stated = Some(T.plus(said));
        let bench = benches.fail(&saying, &Limits::default()).unwrap();
        assert_eq!((bench.until, bench.failures), (T.plus(HOUR * 3), 1), "{said:?}");
    }
    // A test of it shows that a limit was lifted early, and never makes it longer.
    for (at, said, until) in [
        (MINUTE * 5, HOUR * 8, HOUR * 3),
        (MINUTE * 10, HOUR, HOUR),
        (MINUTE * 15, MINUTE * 16, MINUTE * 16),
    ] {
        let now = T.plus(at);
        assert!(benches.probe(Some("m"), now), "{at:?}");
        let mut tested = failed(Reason::RateLimit, Some("m"), now);
        tested.stated = Some(T.plus(said));
        // One that is no test, since its user asked for this profile, says nothing of the end, and ends no test.
        let bench = benches.fail(&tested, &Limits::default()).unwrap();
        assert!(bench.until >= T.plus(until) && bench.is_probed(now), "{at:?}");
        tested.test = Some(now);
        let bench = benches.fail(&tested, &Limits::default()).unwrap();
        assert_eq!((bench.until, bench.failures), (T.plus(until), 1), "{at:?}");
    }
    // Nonsense is not believed: a time in the past, a year ahead.
    saying.stated = Some(T.minus(HOUR));
    assert_eq!(
        Benches::default()
            .fail(&saying, &Limits::default())
            .unwrap()
            .until,
        T.plus(SECOND * 30)
    );
    saying.stated = Some(T.plus(HOUR * 24 * 365));
    assert_eq!(
        Benches::default()
            .fail(&saying, &Limits::default())
            .unwrap()
            .until,
        T.plus(STATED_MAX)
    );
}

#[test]
fn a_call_without_a_model_says_nothing_of_any_model() {
    let mut benches = Benches::default();
    let limits = Limits::default();
    assert_eq!(
        benches.fail(&failed(Reason::ModelNotFound, None, T), &limits),
        None,
        "no model can be missing"
    );
    let bench = benches
        .fail(&failed(Reason::RateLimit, None, T), &limits)
        .unwrap();
    assert_eq!(bench.bucket, Bucket::Unnamed);
    assert_eq!(benches.gate(Some("m"), T), Gate::Open);
    assert!(matches!(benches.gate(None, T), Gate::Shut(_)));
    assert!(
        !benches.succeed(Some("m")),
        "a model's success says nothing of them"
    );
    assert!(benches.succeed(None));
    benches.fail(&failed(Reason::Auth, None, T), &limits).unwrap();
    assert!(
        matches!(benches.gate(Some("m"), T), Gate::Shut(_)),
        "a login is of the account"
    );
}

#[test]
fn counters_decay() {
    let mut benches = Benches::default();
    let limits = Limits::default();
    let first = benches
        .fail(&failed(Reason::RateLimit, None, T), &limits)
        .unwrap()
        .until;
    let late = first.plus(STEP_MEMORY);
    assert_eq!(
        benches
            .fail(&failed(Reason::RateLimit, None, late), &limits)
            .unwrap()
            .failures,
        1
    );
    let mut benches = Benches::default();
    let first = benches
        .fail(&failed(Reason::Billing, None, T), &limits)
        .unwrap()
        .until;
    let soon = first.plus(HOUR);
    assert_eq!(
        benches
            .fail(&failed(Reason::Billing, None, soon), &limits)
            .unwrap()
            .failures,
        2
    );
}

#[test]
fn success_ends_what_it_disproves_and_nothing_else() {
    let mut benches = Benches::default();
    let limits = Limits::default();
    benches.fail(&failed(Reason::RateLimit, Some("a"), T), &limits);
    benches.fail(&failed(Reason::RateLimit, Some("b"), T), &limits);
    benches.fail(&failed(Reason::Billing, Some("a"), T), &limits);
    assert!(matches!(benches.gate(Some("c"), T), Gate::Shut(bench) if bench.reason == Reason::Billing));
    assert!(benches.succeed(Some("a")));
    assert_eq!(benches.gate(Some("a"), T), Gate::Open);
    assert!(matches!(benches.gate(Some("b"), T), Gate::Shut(_)));
    assert!(!benches.succeed(Some("a")));
    assert!(
        !benches.succeed(None),
        "a call of an unknown model proves nothing of b"
    );
}

#[test]
fn one_request_tests_a_bench() {
    let mut benches = Benches::default();
    let limits = Limits::default();
    let mut saying = failed(Reason::RateLimit, Some("m"), T);
    saying.stated = Some(T.plus(HOUR * 5));
    benches.fail(&saying, &limits);
    let early = T.plus(MINUTE * 4);
    assert!(!benches.probe(Some("m"), early));
    let due = T.plus(MINUTE * 5);
    assert_eq!(benches.soonest(Some("m"), early), Some(due));
    assert!(matches!(benches.gate(Some("m"), due), Gate::HalfOpen(_)));
    assert!(benches.probe(Some("m"), due));
    assert!(!benches.probe(Some("m"), due), "one at a time");
    assert!(matches!(benches.gate(Some("m"), due), Gate::Shut(_)));
    // It failed: the end stays, and the next test comes five minutes later.
    let mut again = failed(Reason::RateLimit, Some("m"), due.plus(SECOND));
    again.stated = Some(T.plus(HOUR * 5));
    again.test = Some(due);
    let bench = benches.fail(&again, &limits).unwrap();
    assert_eq!(
        (bench.until, bench.half_open),
        (T.plus(HOUR * 5), due.plus(SECOND).plus(MINUTE * 5))
    );
    // A tester that died is not waited for.
    let next = due.plus(MINUTE * 6);
    assert!(benches.probe(Some("m"), next));
    let second = next.plus(PROBE_PATIENCE);
    assert!(benches.probe(Some("m"), second));
    // One that is said to go on is waited for, by whoever made it and for what it was made.
    let most = second.plus(PROBE_PATIENCE).minus(SECOND);
    benches.still_probed(Some("m"), next, most);
    benches.still_probed(Some("other"), second, most);
    assert_eq!(
        benches.soonest(Some("m"), most),
        Some(second.plus(PROBE_PATIENCE))
    );
    benches.still_probed(Some("m"), second, most);
    assert_eq!(benches.soonest(Some("m"), most), Some(most.plus(PROBE_PATIENCE)));
    assert!(!benches.probe(Some("m"), second.plus(PROBE_PATIENCE)));
    assert!(benches.all[0].is_probed_since(second) && !benches.all[0].is_probed_since(next));
    assert!(benches.probe(Some("m"), most.plus(PROBE_PATIENCE)));
    // It was served.
    assert!(benches.succeed(Some("m")));
    assert_eq!(benches.gate(Some("m"), next), Gate::Open);
}

#[test]
fn a_clock_set_back_does_not_bench_for_ever() {
    let mut benches = Benches::default();
    let limits = Limits::default();
    benches.fail(&failed(Reason::RateLimit, None, T.plus(HOUR * 24)), &limits);
    assert_eq!(benches.gate(None, T), Gate::Open);
    // The clock was put right: the failure now opens a window of its own.
    let bench = benches
        .fail(&failed(Reason::RateLimit, None, T), &limits)
        .unwrap();
    assert_eq!(bench.until, T.plus(MINUTE));
}

fn any_reason() -> impl Strategy<Value = Reason> {
    (0..Reason::ALL.len()).prop_map(|at| Reason::ALL[at])
}

proptest! {
    /// Whatever happens: nobody is benched beyond the server's word plus one step of the reason.
    #[test]
    fn no_bench_is_longer_than_the_stated_wait_plus_one_step(
        trace in proptest::collection::vec((any_reason(), 0_u8..3, 0_u64..4_000, proptest::option::of(0_u64..20_000)), 1..60)
    ) {
        let limits = Limits::default();
        let models = [None, Some("a"), Some("b")];
        let mut benches = Benches::default();
        let mut now = T;
        let mut stated_end = T;
        for (reason, model, pause, stated) in trace {
            now = now.plus(Duration::from_secs(pause));
            let stated = stated.map(|seconds| now.plus(Duration::from_secs(seconds)));
            stated_end = stated_end.max(stated.unwrap_or(T));
            let model = models[usize::from(model)];
            benches.fail(&Failed { reason, model, stated, test: None, now }, &limits);
            for bench in &benches.all {
                let longest = match bench.reason {
                    Reason::Billing => limits.billing_max,
                    Reason::AuthPermanent => limits.auth_permanent_max,
                    _ => STEPS[2],
                };
                prop_assert!(bench.until <= now.plus(longest).max(stated_end));
                prop_assert!(bench.half_open <= bench.until);
            }
        }
    }

    /// A failure of one model never shuts another.
    #[test]
    fn one_bench_never_widens_another(trace in proptest::collection::vec((any_reason(), 0_u64..400), 1..40)) {
        let limits = Limits::default();
        let mut with = Benches::default();
        let mut now = T;
        for (reason, pause) in trace {
            now = now.plus(Duration::from_secs(pause));
            with.fail(&failed(reason, Some("a"), now), &limits);
            let shut = !matches!(with.gate(Some("b"), now), Gate::Open);
            let accounts = with.all.iter().any(|bench| bench.bucket == Bucket::Account && now < bench.until);
            prop_assert_eq!(shut, accounts);
        }
    }
}

/// Clients make up names of models; what is remembered of them has an end, and never at the account's own expense.
#[test]
fn benches_of_made_up_models_have_an_end() {
    let mut benches = Benches::default();
    benches.fail(&failed(Reason::Auth, None, T), &Limits::default());
    let mut long = failed(Reason::RateLimit, Some("long"), T);
    long.stated = Some(T.plus(HOUR));
    benches.fail(&long, &Limits::default());
    for n in 0..500_u64 {
        let model = format!("made-up-{n}");
        let now = T.plus(Duration::from_millis(10 * n));
        benches.fail(&failed(Reason::RateLimit, Some(&model), now), &Limits::default());
        let gate = benches.gate(Some(&model), now);
        assert!(matches!(gate, Gate::Shut(_)), "the newest counts: {n}");
    }
    let of_models = benches.all.iter().filter(|bench| bench.bucket != Bucket::Account);
    assert_eq!(of_models.count(), MODELS_MAX);
    for kept in ["long", "made-up-499"] {
        let kept = Bucket::Model(kept.to_owned());
        assert!(benches.all.iter().any(|bench| bench.bucket == kept), "{kept:?}");
    }
    assert!(benches.all.iter().any(|bench| bench.bucket == Bucket::Account));
    // One more failure of a model that is known drops nothing.
    let before = benches.all.len();
    benches.fail(&failed(Reason::RateLimit, Some("long"), T), &Limits::default());
    assert_eq!(benches.all.len(), before);
}
