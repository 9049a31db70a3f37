use std::time::Duration;

use tokensink_types::record::Rotation;
use tokensink_types::{Account, UnixMillis};

use super::pilot::{Pilot, access, dead, granted, in_state, no, not_written, setup, unavailable};
use super::{NOW, at, committed, generation, key, parked, record, refused, sent};
use crate::{Action, Answer, Demand, Event, Flight, Policy, Standing, Verdict, overlay, stand};

#[test]
fn what_an_answer_lacks_keeps_its_value() {
    let mut old = dead();
    old.account.email = Some("a@b.c".to_owned());
    old.tokens.id_token = Some("id".into());
    old.fields.insert("projectId".to_owned(), "p".to_owned());
    let mut poor = generation("2", 3600);
    poor.tokens.refresh = Some("".into());
    poor.account = Account::default();
    let mut pilot = Pilot::new(old.clone(), None).answering([Answer::Granted(Box::new(poor.clone()))]);
    assert!(matches!(pilot.fly().1, Verdict::Served { .. }));
    let stored = pilot.stored.unwrap();
    assert_eq!(access(Some(&stored)), "a2");
    assert_eq!(stored.tokens.refresh, old.tokens.refresh);
    assert_eq!(stored.tokens.id_token, old.tokens.id_token);
    assert_eq!(
        (stored.account, stored.fields),
        (old.account.clone(), old.fields.clone())
    );
    assert_eq!(pilot.record.unwrap().rotation, Rotation::Never);
    // Without an access token the new refresh token is kept, and nothing is handed out.
    let mut empty = generation("2", 3600);
    empty.tokens.access = "".into();
    let mut pilot = Pilot::new(old.clone(), None).answering([Answer::Granted(Box::new(empty))]);
    assert!(pilot.fly().0.ends_with("commit committed again"));
    let stored = pilot.stored.unwrap();
    assert_eq!(
        (access(Some(&stored)), stored.spend_key()),
        ("a1", Some(key("2")))
    );
}

#[test]
fn an_answer_that_can_be_stored_nowhere_is_held_for_minutes() {
    let mut pilot = in_state(committed())
        .answering([granted("2")])
        .failing(&["!answered", "!commit"]);
    let (words, verdict) = pilot.fly();
    assert!(words.ends_with("wait answered commit unknown"), "{words}");
    assert!(
        NOW.until(pilot.now) > Duration::from_secs(300),
        "{:?}",
        NOW.until(pilot.now)
    );
    assert!(matches!(verdict, Verdict::TryAgain { .. }), "{verdict:?}");
    // It was never durable, so the old access token is all there is, and that is dead.
    assert!(!pilot.flight.unwrap().old_token_lives(NOW));
}

#[test]
fn an_unrecorded_answer_survives_a_store_that_moves() {
    let cases = [
        // The store is put back to an older copy, to our own answer, to a newer login; the record works again or not.
        ("older", generation("0", -7200), "answered", "a2"),
        ("older, record broken", generation("0", -7200), "!answered", "a2"),
        ("our answer", generation("2", 3600), "answered", "a2"),
        (
            "our answer, record broken",
            generation("2", 3600),
            "!answered",
            "a2",
        ),
        ("newer login", generation("9", 7200), "answered", "a9"),
    ];
    for (name, found, fails, want) in cases {
        let mut before = record(dead(), committed());
        before.ancestors = vec![key("0")];
        let mut pilot = Pilot::new(dead(), Some(before))
            .answering([granted("2")])
            .failing(&[fails]);
        pilot.disturb = vec![(5, Some(found))];
        let (words, verdict) = pilot.fly();
        assert!(
            matches!(verdict, Verdict::Served { store_behind: None }),
            "{name}: {words}"
        );
        assert_eq!(access(pilot.stored.as_ref()), want, "{name}: {words}");
    }
}

#[test]
fn a_store_that_moves_under_the_commit_is_read_again() {
    for (found, want) in [(generation("0", -7200), "a2"), (generation("9", 7200), "a9")] {
        let mut before = record(dead(), committed());
        before.ancestors = vec![key("0")];
        let mut pilot = Pilot::new(dead(), Some(before)).answering([granted("2")]);
        pilot.disturb = vec![(5, Some(found))];
        let (words, _) = pilot.fly();
        assert!(words.ends_with("served"), "{words}");
        assert_eq!(access(pilot.stored.as_ref()), want, "{words}");
    }
    let mut pilot = in_state(committed()).answering([granted("2")]);
    pilot.disturb = vec![(5, None)];
    assert!(pilot.fly().0.ends_with("read gone"));
}

#[test]
fn a_rejected_access_token_is_refreshed_once() {
    let current = generation("1", 1800);
    let demand = Demand {
        rejected: Some(current.tokens.access.clone()),
        ..Demand::default()
    };
    let stubborn = || {
        let mut same = current.clone();
        same.tokens.expires = Some(at(3600));
        same.tokens.refresh = Some("r2".into());
        Answer::Granted(Box::new(same))
    };
    // A try that brought no answer does not count.
    for failed in [not_written(), unavailable(0)] {
        let mut pilot = Pilot::new(current.clone(), None).answering([failed, granted("2")]);
        pilot.demand = demand.clone();
        assert!(matches!(pilot.fly().1, Verdict::TryAgain { .. }));
        pilot.now = at(10);
        assert!(matches!(pilot.fly().1, Verdict::Served { .. }));
    }
    // The same access token again is kept, but not served, and not asked for again.
    let mut pilot = Pilot::new(current.clone(), None).answering([stubborn()]);
    pilot.demand = demand.clone();
    let (words, verdict) = pilot.fly();
    assert_eq!(words, "read connect admit send answered commit committed again");
    assert!(
        matches!(verdict, Verdict::TryAgain { until: Some(until), .. } if until == at(3600)),
        "{verdict:?}"
    );
    assert_eq!(pilot.fly().0, "read again");
    let stored = pilot.stored.clone().unwrap();
    assert_eq!(stored.spend_key(), Some(key("2")));
    // A server that gives the same access token again unasked is not held against it.
    let mut calm = Pilot::new(dead(), None).answering([granted("1")]);
    assert!(matches!(calm.fly().1, Verdict::Served { .. }));
    assert_eq!(calm.record.unwrap().rejected, None);
    // Whoever does not know of the rejection is served.
    assert_eq!(
        stand(
            &stored,
            pilot.record.as_ref(),
            &Policy::default(),
            &Demand::default(),
            NOW
        ),
        Standing::Fresh
    );
}

#[test]
fn keys_of_an_earlier_login_stay_spent() {
    for state in [sent("1", -60, 1), refused("1"), parked("1")] {
        let mut pilot =
            Pilot::new(generation("9", -1), Some(record(dead(), state.clone()))).answering([granted("10")]);
        pilot.fly();
        pilot.stored = Some(dead());
        let record = pilot.record.as_ref().unwrap();
        let view = overlay(pilot.stored.as_ref().unwrap(), Some(record));
        assert_eq!(
            (access(Some(view.current)), view.heal),
            ("a10", true),
            "{state:?}"
        );
    }
}

#[test]
fn a_key_that_comes_back_is_no_longer_spent() {
    let mut before = record(dead(), committed());
    before.ancestors = vec![key("2"), key("0")];
    let mut pilot = Pilot::new(dead(), Some(before)).answering([granted("2")]);
    pilot.fly();
    assert_eq!(pilot.record.unwrap().ancestors, [key("1"), key("0")]);
}

#[test]
fn the_store_that_heals_for_long_is_judged_when_it_is_healed() {
    let mut newest = record(generation("2", 301), committed());
    newest.ancestors = vec![key("1")];
    let (mut flight, _) = Flight::start(setup(&Policy::default(), &Demand::default()));
    let snapshot = crate::Snapshot {
        stored: Some(dead()),
        record: Some(newest),
        holders: Vec::new(),
        rivals: Vec::new(),
    };
    assert!(matches!(
        flight.on(Event::Read(Box::new(snapshot)), NOW),
        Action::Commit { .. }
    ));
    assert_eq!(flight.on(Event::Committed, at(10)), Action::Connect);
}

#[test]
fn a_server_that_does_not_rotate_may_be_asked_again() {
    let mut pilot = in_state(sent("1", -10, 1)).answering([granted("1")]);
    pilot.policy.rotation = Rotation::Never;
    assert!(matches!(pilot.fly().1, Verdict::Served { .. }));
    let record = pilot.record.unwrap();
    assert_eq!((record.rotation, record.ancestors.len()), (Rotation::Never, 0));
}

#[test]
fn an_event_out_of_turn_ends_the_flight() {
    let (mut flight, _) = Flight::start(setup(&Policy::default(), &Demand::default()));
    let action = flight.on(Event::Committed, NOW);
    let Action::Finish(Verdict::TryAgain { failure, .. }) = action else {
        panic!("{action:?}")
    };
    assert_eq!(failure.reason, "internal error: event committed in phase reading");
    assert!(matches!(flight.on(Event::Connected, NOW), Action::Finish(_)));
}

#[test]
fn the_old_token_serves_while_it_lives() {
    let alive = generation("1", 180);
    let mut pilot = Pilot::new(alive.clone(), Some(record(alive, sent("1", -60, 1))));
    pilot.fly();
    let flight = pilot.flight.unwrap();
    let lives = |now: UnixMillis| flight.old_token_lives(now);
    assert_eq!((lives(NOW), lives(at(179)), lives(at(180))), (true, true, false));
}

#[test]
fn no_secret_shows() {
    let mut pilot = in_state(committed()).answering([no()]);
    pilot.fly();
    let shown = format!("{:?} {:?}", pilot.written, pilot.flight);
    assert!(!shown.contains("\"a1\"") && !shown.contains("\"r1\""), "{shown}");
}
