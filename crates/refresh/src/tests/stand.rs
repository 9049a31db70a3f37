use std::time::Duration;

use tokensink_types::record::{Generation, Record, RecordState, Rotation};

use super::{MINUTE, NOW, answered, at, backoff, committed, generation, key, parked, record, refused, sent};
use crate::{
    BACKOFF_MAX, Death, Demand, Due, Horizon, Policy, RETRY_AFTER_MAX, Standing, alive, backoff_delay,
    renewal_due_at, stand,
};

const GRACE: Policy = Policy {
    rotation: Rotation::Always,
    replay_grace: Duration::from_secs(30),
    idle_limit: None,
    first: false,
};

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Fresh => "fresh",
        Standing::Due(Due::Stale) => "stale",
        Standing::Due(Due::Rejected) => "rejected",
        Standing::Due(Due::WithinGrace) => "grace",
        Standing::Due(Due::LastResort) => "last",
        Standing::Unknown { .. } => "unknown",
        Standing::BackOff { .. } => "backoff",
        Standing::Dead(Death::NoRefreshToken) => "no token",
        Standing::Dead(Death::Refused { .. }) => "refused",
        Standing::Dead(Death::OtherAccount) => "other",
    }
}

fn rejecting(generation: &Generation) -> Demand {
    Demand {
        rejected: Some(generation.tokens.access.clone()),
        ..Demand::default()
    }
}

/// The standings of an access token that is within its margin, dead, and rejected half an hour before its end.
fn standings(record: Option<&Record>, policy: &Policy) -> [&'static str; 3] {
    let long = generation("1", 1800);
    let cases = [
        (generation("1", 180), Demand::default()),
        (generation("1", -1), Demand::default()),
        (long.clone(), rejecting(&long)),
    ];
    cases.map(|(current, demand)| {
        let standing = stand(&current, record, policy, &demand, NOW);
        if let Standing::Unknown { until, .. } | Standing::BackOff { until, .. } = &standing {
            assert!(*until > NOW, "a wait that is over: {standing:?} for {record:?}");
        }
        word(&standing)
    })
}

#[test]
fn every_state_and_every_access_token() {
    const DUE: [&str; 3] = ["stale", "stale", "rejected"];
    const OPEN: [&str; 3] = ["unknown", "last", "last"];
    const REPEAT: [&str; 3] = ["grace"; 3];
    const WAITING: [&str; 3] = ["unknown"; 3];
    let with = |state| record(generation("1", 0), state);
    let waiting = |state, seconds| {
        let mut record = with(state);
        record.backoff = backoff(seconds);
        record
    };
    // Record, strict server, server with a grace of 30 s.
    let cases = [
        ("no record", None, DUE, DUE),
        ("idle", Some(with(RecordState::Idle)), DUE, DUE),
        ("answered", Some(with(answered("0"))), DUE, DUE),
        ("committed", Some(with(committed())), DUE, DUE),
        ("sent", Some(with(sent("1", -10, 1))), OPEN, REPEAT),
        ("sent, grace over", Some(with(sent("1", -30, 1))), OPEN, OPEN),
        ("sent, wait", Some(waiting(sent("1", -10, 1), 5)), WAITING, REPEAT),
        (
            "sent twice, wait",
            Some(waiting(sent("1", -10, 2), 5)),
            WAITING,
            REPEAT,
        ),
        (
            "sent three times, wait",
            Some(waiting(sent("1", -10, 3), 5)),
            WAITING,
            WAITING,
        ),
        (
            "sent three times, wait over",
            Some(waiting(sent("1", -10, 3), -1)),
            OPEN,
            REPEAT,
        ),
        ("sent, clock put back", Some(with(sent("1", 600, 1))), OPEN, OPEN),
        (
            "sent, wait, clock put back",
            Some(waiting(sent("1", 600, 1), 605)),
            OPEN,
            OPEN,
        ),
        ("sent another key", Some(with(sent("0", -10, 1))), DUE, DUE),
        (
            "wait",
            Some(waiting(RecordState::Idle, 5)),
            ["backoff"; 3],
            ["backoff"; 3],
        ),
        ("wait over", Some(waiting(RecordState::Idle, 0)), DUE, DUE),
        (
            "wait of days: the clock was put back",
            Some(waiting(RecordState::Idle, 7200)),
            DUE,
            DUE,
        ),
        (
            "refused",
            Some(with(refused("1"))),
            ["refused"; 3],
            ["refused"; 3],
        ),
        ("another key refused", Some(with(refused("0"))), DUE, DUE),
        ("parked", Some(with(parked("1"))), ["other"; 3], ["other"; 3]),
        ("another key parked", Some(with(parked("0"))), DUE, DUE),
    ];
    for (name, record, strict, grace) in cases {
        assert_eq!(
            standings(record.as_ref(), &Policy::default()),
            strict,
            "{name}, strict"
        );
        assert_eq!(standings(record.as_ref(), &GRACE), grace, "{name}, grace");
    }
}

#[test]
fn only_a_declared_never_exempts_and_only_until_a_rotation_is_seen() {
    let never = Policy {
        rotation: Rotation::Never,
        ..Policy::default()
    };
    let mut doubtful = record(generation("1", 0), sent("1", -10, 1));
    assert_eq!(standings(Some(&doubtful), &never), ["stale", "stale", "rejected"]);
    doubtful.rotation = Rotation::Always;
    assert_eq!(standings(Some(&doubtful), &never), ["unknown", "last", "last"]);
    doubtful.rotation = Rotation::Never;
    assert_eq!(
        standings(Some(&doubtful), &Policy::default()),
        ["unknown", "last", "last"]
    );
}

#[test]
fn an_unknown_outcome_is_left_alone_until_the_access_token_ends() {
    let current = generation("1", 180);
    let record = record(current.clone(), sent("1", -10, 1));
    let standing = stand(
        &current,
        Some(&record),
        &Policy::default(),
        &Demand::default(),
        NOW,
    );
    assert!(
        matches!(standing, Standing::Unknown { until, .. } if until == at(180)),
        "{standing:?}"
    );
}

#[test]
fn freshness() {
    let issued = |seconds_ago: i64, left: i64| {
        let mut generation = generation("1", left);
        generation.issued_at = Some(at(-seconds_ago));
        generation
    };
    let lasting = |seconds| Horizon::AtLeast(Duration::from_secs(seconds));
    let mut endless = generation("1", 0);
    endless.tokens.expires = None;
    let mut blank = generation("1", 3600);
    blank.tokens.access = " ".into();
    let cases = [
        ("at the margin", generation("1", 300), Horizon::Usual, "stale"),
        ("beyond the margin", generation("1", 301), Horizon::Usual, "fresh"),
        ("without end", endless, Horizon::Usual, "fresh"),
        ("blank", blank, Horizon::Usual, "stale"),
        (
            "a quarter of a short life",
            issued(300, 100),
            Horizon::Usual,
            "stale",
        ),
        ("more than a quarter", issued(299, 101), Horizon::Usual, "fresh"),
        (
            "a caller's minimum",
            generation("1", 1800),
            lasting(1800),
            "stale",
        ),
        (
            "less than the minimum is asked",
            generation("1", 1800),
            lasting(1799),
            "fresh",
        ),
        (
            "more than a life is asked, nine tenths left",
            issued(300, 3300),
            lasting(7200),
            "fresh",
        ),
        (
            "more than a life is asked",
            issued(400, 3200),
            lasting(7200),
            "stale",
        ),
        ("ahead", generation("1", 900), Horizon::Ahead, "stale"),
        ("not yet ahead", generation("1", 901), Horizon::Ahead, "fresh"),
        (
            "ahead, half of the life",
            issued(600, 600),
            Horizon::Ahead,
            "stale",
        ),
        ("ahead, less than half", issued(599, 601), Horizon::Ahead, "fresh"),
        (
            "just issued, margin or not",
            issued(59, 4000),
            lasting(4000),
            "fresh",
        ),
        (
            "just issued, ended at birth: the clock is wrong",
            issued(59, -3600),
            Horizon::Usual,
            "fresh",
        ),
        ("a minute later", issued(60, -3600), Horizon::Usual, "stale"),
        (
            "the clock was put back a minute",
            issued(-60, 4000),
            Horizon::Usual,
            "fresh",
        ),
        (
            "the clock was put back a day",
            issued(-86_400, 90_000),
            Horizon::Usual,
            "stale",
        ),
        (
            "a life of seconds is a wrong clock too",
            issued(30, -25),
            Horizon::Usual,
            "fresh",
        ),
        (
            "a short life is believed",
            issued(31, -1),
            Horizon::Usual,
            "stale",
        ),
        ("half of a short life", issued(14, 16), Horizon::Usual, "fresh"),
        (
            "issued in the future, ended",
            issued(-600, -1),
            Horizon::Usual,
            "stale",
        ),
    ];
    for (name, current, horizon, want) in cases {
        let demand = Demand {
            horizon,
            rejected: None,
        };
        let standing = stand(&current, None, &Policy::default(), &demand, NOW);
        assert_eq!(word(&standing), want, "{name}");
        if standing == Standing::Fresh {
            assert!(alive(&current, &demand, NOW), "{name}: fresh, but not alive");
        }
    }
}

#[test]
fn an_idle_grant_is_renewed_before_its_limit() {
    let policy = Policy {
        idle_limit: Some(Duration::from_secs(4 * 3600)),
        ..Policy::default()
    };
    let mut current = generation("1", 86_400);
    for (hours, want) in [(2, "fresh"), (3, "stale")] {
        current.issued_at = Some(at(-hours * 3600));
        let ahead = stand(&current, None, &policy, &Demand::ahead(), NOW);
        assert_eq!(word(&ahead), want, "{hours} h");
        let usual = stand(&current, None, &policy, &Demand::default(), NOW);
        assert_eq!(usual, Standing::Fresh, "the limit matters to renewal only");
    }
}

#[test]
fn without_a_refresh_token_the_access_token_serves_to_its_end() {
    let token = |seconds| {
        let mut current = generation("1", seconds);
        current.tokens.refresh = Some("".into());
        current
    };
    let usual = Demand::default();
    let policy = Policy::default();
    assert_eq!(stand(&token(1), None, &policy, &usual, NOW), Standing::Fresh);
    assert_eq!(word(&stand(&token(0), None, &policy, &usual, NOW)), "no token");
    let rejecting = rejecting(&token(3600));
    assert_eq!(
        word(&stand(&token(3600), None, &policy, &rejecting, NOW)),
        "no token"
    );
}

#[test]
fn a_rejection_forces_one_refresh_of_a_revision() {
    let current = generation("1", 1800);
    let demand = rejecting(&current);
    let policy = Policy::default();
    assert!(!alive(&current, &demand, NOW));
    let mut forced = record(current.clone(), committed());
    assert_eq!(
        stand(&current, Some(&forced), &policy, &demand, NOW),
        Standing::Due(Due::Rejected)
    );
    forced.rejected = Some(current.revision());
    let standing = stand(&current, Some(&forced), &policy, &demand, NOW);
    assert!(
        matches!(standing, Standing::BackOff { until, .. } if until == at(1800)),
        "{standing:?}"
    );
    // Another access token's rejection says nothing about this one.
    let other = rejecting(&generation("0", 0));
    assert_eq!(
        stand(&current, Some(&forced), &policy, &other, NOW),
        Standing::Fresh
    );
    let mut young = current.clone();
    young.issued_at = Some(at(-10));
    let standing = stand(&young, None, &policy, &demand, NOW);
    assert!(
        matches!(standing, Standing::BackOff { until, .. } if until == at(50)),
        "{standing:?}"
    );
}

#[test]
fn backoff_doubles_to_a_minute() {
    let seconds = Duration::from_secs;
    let cases = [
        (0, 0, None, seconds(2)),
        (1, 0, None, seconds(2)),
        (2, 0, None, seconds(4)),
        (5, 0, None, seconds(32)),
        (6, 0, None, BACKOFF_MAX),
        (u32::MAX, 0, None, BACKOFF_MAX),
        (1, 255, None, Duration::from_millis(1500)),
        (6, 255, None, seconds(45)),
        (1, 0, Some(seconds(20)), seconds(20)),
        (6, 0, Some(seconds(20)), BACKOFF_MAX),
        (1, 0, Some(seconds(86_400)), RETRY_AFTER_MAX),
    ];
    for (failures, jitter, retry_after, want) in cases {
        assert_eq!(
            backoff_delay(failures, jitter, retry_after),
            want,
            "{failures} {jitter} {retry_after:?}"
        );
    }
}

#[test]
fn when_renewal_falls_due() {
    let hours = |hours: i64| at(hours * 3600);
    let idle = |hours: u64| Some(Duration::from_secs(hours * 3600));
    // Issued, expires, idle limit, due; seconds from now.
    let cases = [
        (
            "15 minutes before the end",
            None,
            Some(hours(1)),
            None,
            Some(at(2700)),
        ),
        (
            "half of a short life",
            Some(NOW),
            Some(at(1200)),
            None,
            Some(at(600)),
        ),
        (
            "before the idle limit",
            Some(NOW),
            Some(hours(48)),
            idle(24),
            Some(hours(18)),
        ),
        (
            "expiry before idle limit",
            Some(NOW),
            Some(hours(1)),
            idle(24),
            Some(at(2700)),
        ),
        ("idle limit only", Some(NOW), None, idle(24), Some(hours(18))),
        ("neither", Some(NOW), None, None, None),
        ("idle limit of a grant of unknown age", None, None, idle(24), None),
        (
            "ended at birth: not at once again",
            Some(NOW),
            Some(at(-3600)),
            None,
            Some(NOW.plus(MINUTE)),
        ),
        (
            "a life of half a minute",
            Some(NOW),
            Some(at(30)),
            None,
            Some(at(15)),
        ),
    ];
    for (name, issued_at, expires, idle_limit, want) in cases {
        let mut current = generation("1", 0);
        current.issued_at = issued_at;
        current.tokens.expires = expires;
        let policy = Policy {
            idle_limit,
            ..Policy::default()
        };
        let due = renewal_due_at(&current, &policy);
        assert_eq!(due, want, "{name}");
        // A loop that sleeps until then must find something to do.
        if let Some(due) = due {
            let standing = stand(&current, None, &policy, &Demand::ahead(), due);
            assert_eq!(word(&standing), "stale", "{name}");
        }
    }
}

#[test]
fn a_key_that_was_refused_or_parked_is_never_due() {
    for state in [refused("1"), parked("1")] {
        let record = record(generation("1", 0), state);
        assert_eq!(generation("1", 0).spend_key(), Some(key("1")));
        for seconds in [-86_400, -1, 0, 180] {
            let current = generation("1", seconds);
            for demand in [Demand::default(), Demand::ahead(), rejecting(&current)] {
                let standing = stand(&current, Some(&record), &GRACE, &demand, NOW);
                assert!(matches!(standing, Standing::Dead(_)), "{standing:?}");
            }
        }
    }
}

#[test]
fn where_another_program_acts_at_five_minutes_we_act_at_fifteen() {
    let policy = Policy { first: true, ..GRACE };
    let half_an_hour = |left: i64| {
        let mut current = generation("1", left);
        current.issued_at = Some(at(left - 1200));
        current
    };
    let cases = [
        ("fifteen minutes", generation("1", 900), "stale"),
        ("a second more", generation("1", 901), "fresh"),
        ("half of a life of twenty minutes", half_an_hour(600), "stale"),
        ("a second more", half_an_hour(601), "fresh"),
    ];
    for (name, current, want) in cases {
        assert_eq!(
            word(&stand(&current, None, &policy, &Demand::default(), NOW)),
            want,
            "{name}"
        );
    }
}
