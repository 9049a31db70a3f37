use std::time::Duration;

use tokensink_types::record::{Generation, Record, RecordState, Rotation};
use tokensink_types::{Account, UnixMillis};

use super::pilot::{Pilot, failure, setup};
use super::{NOW, account, answered, at, backoff, committed, generation, key, parked, record, refused, sent};
use crate::{Action, Answer, Death, Demand, Event, Flight, Policy, Standing, Verdict, overlay, stand};

fn granted(name: &str) -> Answer {
    let mut generation = generation(name, 3600);
    generation.issued_at = Some(NOW);
    Answer::Granted(Box::new(generation))
}

fn ambiguous() -> Answer {
    Answer::Ambiguous(failure("cut"))
}

fn not_written() -> Answer {
    Answer::NotWritten(failure("closed"))
}

fn unavailable(retry_after: u64) -> Answer {
    Answer::Unspent {
        failure: failure("503"),
        retry_after: Some(Duration::from_secs(retry_after)),
    }
}

fn no() -> Answer {
    Answer::Refused {
        code: "invalid_grant".to_owned(),
        description: "gone".to_owned(),
    }
}

fn grace() -> Policy {
    Policy {
        rotation: Rotation::Always,
        replay_grace: Duration::from_secs(30),
        idle_limit: None,
    }
}

/// A grant whose access token ended a minute ago.
fn dead() -> Generation {
    generation("1", -60)
}

/// ... with a record in `state`.
fn in_state(state: RecordState) -> Pilot {
    Pilot::new(dead(), Some(record(dead(), state)))
}

fn access(generation: Option<&Generation>) -> &str {
    generation.map_or("", |generation| generation.tokens.access.expose())
}

#[test]
fn each_path() {
    let cases = [
        (
            "happy",
            in_state(committed()).answering([granted("2")]),
            "read connect admit send answered commit committed served",
        ),
        (
            "without a record",
            Pilot::new(dead(), None).answering([granted("2")]),
            "read connect admit send answered commit committed served",
        ),
        (
            "fresh already",
            Pilot::new(generation("1", 3600), None),
            "read served",
        ),
        (
            "cannot read",
            in_state(committed()).failing(&["read"]),
            "read again",
        ),
        (
            "cannot connect",
            in_state(committed()).failing(&["connect"]),
            "read connect again",
        ),
        (
            "cannot record the send",
            in_state(committed()).failing(&["admit"]),
            "read connect admit again",
        ),
        (
            "cannot connect, in doubt",
            in_state(sent("1", -60, 1)).failing(&["connect"]),
            "read connect unknown",
        ),
        (
            "not written",
            in_state(committed()).answering([not_written()]),
            "read connect admit send committed again",
        ),
        (
            "not written, in doubt",
            in_state(sent("1", -60, 1)).answering([not_written()]),
            "read connect admit send sent unknown",
        ),
        (
            "unspent",
            in_state(committed()).answering([unavailable(20)]),
            "read connect admit send idle again",
        ),
        (
            "unspent, in doubt",
            in_state(sent("1", -60, 1)).answering([unavailable(20)]),
            "read connect admit send sent unknown",
        ),
        (
            "ambiguous",
            in_state(committed()).answering([ambiguous()]),
            "read connect admit send sent unknown",
        ),
        (
            "the caller cannot say how the request ended",
            in_state(committed()).failing(&["send"]),
            "read connect admit send sent unknown",
        ),
        (
            "refused",
            in_state(committed()).answering([no()]),
            "read connect admit send read refused login",
        ),
        (
            "another account",
            in_state(committed()).answering([{
                let mut other = generation("2", 3600);
                other.account = account("two");
                Answer::Granted(Box::new(other))
            }]),
            "read connect admit send parked login",
        ),
        (
            "store broken",
            in_state(committed())
                .answering([granted("2")])
                .failing(&["!commit"]),
            "read connect admit send answered commit behind",
        ),
        (
            "record broken",
            in_state(committed())
                .answering([granted("2")])
                .failing(&["answered", "committed"]),
            "read connect admit send answered commit committed served",
        ),
        (
            "both broken for a moment",
            in_state(committed())
                .answering([granted("2")])
                .failing(&["answered", "answered", "commit", "commit"]),
            "read connect admit send answered commit wait answered commit wait answered commit committed served",
        ),
        (
            "rolled back",
            {
                let mut newest = record(generation("2", 3600), committed());
                newest.ancestors = vec![key("1")];
                Pilot::new(dead(), Some(newest))
            },
            "read commit served",
        ),
        (
            "rolled back, store broken",
            {
                let mut newest = record(generation("2", 3600), committed());
                newest.ancestors = vec![key("1")];
                Pilot::new(dead(), Some(newest)).failing(&["commit"])
            },
            "read commit behind",
        ),
        (
            "rolled back, and due",
            {
                let mut newest = record(generation("2", -1), committed());
                newest.ancestors = vec![key("1")];
                Pilot::new(generation("1", -3600), Some(newest)).answering([granted("3")])
            },
            "read commit connect admit send answered commit committed served",
        ),
        (
            "rolled back, due, store broken",
            {
                let mut newest = record(generation("2", -1), committed());
                newest.ancestors = vec![key("1")];
                Pilot::new(generation("1", -3600), Some(newest))
                    .answering([granted("3")])
                    .failing(&["!commit"])
            },
            "read commit connect admit send answered commit behind",
        ),
        (
            "killed before the commit",
            Pilot::new(dead(), Some(record(generation("2", 3600), answered("1")))),
            "read commit committed served",
        ),
        (
            "killed after the send, access token alive",
            Pilot::new(
                generation("1", 180),
                Some(record(generation("1", 180), sent("1", -60, 1))),
            ),
            "read unknown",
        ),
        (
            "killed after the send, access token dead",
            in_state(sent("1", -60, 1)).answering([granted("2")]),
            "read connect admit send answered commit committed served",
        ),
        ("refused before", in_state(refused("1")), "read login"),
        ("parked before", in_state(parked("1")), "read login"),
        (
            "logged in since the refusal",
            Pilot::new(generation("9", 3600), Some(record(dead(), refused("1")))),
            "read served",
        ),
        (
            "waiting",
            {
                let mut waiting = record(dead(), RecordState::Idle);
                waiting.backoff = backoff(5);
                Pilot::new(dead(), Some(waiting))
            },
            "read again",
        ),
        (
            "gone",
            {
                let mut gone = in_state(committed());
                gone.stored = None;
                gone
            },
            "read gone",
        ),
    ];
    for (name, mut pilot, want) in cases {
        let before = pilot.stored.clone();
        let (words, _) = pilot.fly();
        assert_eq!(words, want, "{name}");
        assert!(pilot.answers.is_empty(), "{name}: an answer was not asked for");
        // Whatever happened, nothing was taken away: what was stored is there, or what was issued for it.
        let stored = pilot.stored.as_ref().map(|now| now.spend_key().is_some());
        assert_eq!(stored, before.map(|_| true), "{name}");
    }
}

#[test]
fn a_request_is_announced_durably_before_it_leaves() {
    let mut pilot = in_state(committed()).answering([granted("2")]);
    pilot.fly();
    let [announced, kept, closed] = &pilot.written[..] else {
        panic!("{:?}", pilot.written)
    };
    let RecordState::Sent(request) = &announced.state else {
        panic!("{announced:?}")
    };
    assert_eq!(
        (request.spend, request.first_at, request.sends),
        (key("1"), NOW, 1)
    );
    assert_eq!(access(announced.generation.as_ref()), "a1");
    assert_eq!(
        kept.state,
        RecordState::Answered {
            parent: key("1"),
            at: NOW
        }
    );
    assert_eq!(access(kept.generation.as_ref()), "a2");
    assert_eq!(
        (kept.ancestors.as_slice(), kept.rotation),
        (&[key("1")][..], Rotation::Always)
    );
    assert_eq!(closed.state, RecordState::Committed { at: NOW });
    assert_eq!(access(pilot.stored.as_ref()), "a2");
}

#[test]
fn not_written_leaves_the_record_as_it_was() {
    for state in [committed(), answered("0"), sent("1", -60, 3), RecordState::Idle] {
        let mut before = record(dead(), state);
        before.ancestors = vec![key("0")];
        let mut pilot = Pilot::new(dead(), Some(before.clone())).answering([not_written()]);
        pilot.fly();
        assert_eq!(pilot.record, Some(before));
    }
}

#[test]
fn not_written_does_not_forget_the_newer_login_that_was_to_be_sent() {
    let mut pilot =
        Pilot::new(generation("9", -1), Some(record(dead(), sent("1", -60, 1)))).answering([not_written()]);
    pilot.fly();
    // Meanwhile the older copy comes back: it is healed, not sent.
    pilot.stored = Some(dead());
    let view = overlay(pilot.stored.as_ref().unwrap(), pilot.record.as_ref());
    assert_eq!((access(Some(view.current)), view.heal), ("a9", true));
}

#[test]
fn an_unspent_token_waits_as_long_as_the_server_says() {
    let mut pilot = in_state(committed()).answering([unavailable(20)]);
    let (_, verdict) = pilot.fly();
    let Verdict::TryAgain { until, .. } = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(until, Some(at(20)));
    assert_eq!(pilot.fly().0, "read again");
    pilot.now = at(20);
    pilot.answers.push_back(unavailable(0));
    pilot.fly();
    let waits = pilot
        .record
        .as_ref()
        .and_then(|record| record.backoff.clone())
        .unwrap();
    assert_eq!((waits.failures, waits.not_before), (2, at(24)));
    pilot.now = at(30);
    pilot.answers.push_back(granted("2"));
    assert!(matches!(pilot.fly().1, Verdict::Served { .. }));
    assert_eq!(pilot.record.unwrap().backoff, None);
}

#[test]
fn within_the_grace_a_request_is_repeated_at_once() {
    let repeat = "sent connect admit send";
    let cases = [
        (
            1,
            format!("read connect admit send {repeat} answered commit committed served"),
        ),
        (
            2,
            format!("read connect admit send {repeat} {repeat} answered commit committed served"),
        ),
    ];
    for (lost, want) in cases {
        let mut pilot = in_state(committed()).answering((0..lost).map(|_| ambiguous()).chain([granted("2")]));
        pilot.policy = grace();
        assert_eq!(pilot.fly().0, want);
    }
    let mut pilot = in_state(committed()).answering([ambiguous(), ambiguous(), ambiguous()]);
    pilot.policy = grace();
    assert_eq!(
        pilot.fly().0,
        format!("read connect admit send {repeat} {repeat} sent unknown")
    );
    // Further flights wait their turn, within the grace and after it.
    assert_eq!(pilot.fly().0, "read unknown");
    assert_eq!(pilot.sends, 3);
}

#[test]
fn the_grace_may_run_out_while_connecting_or_recording() {
    let alive = generation("1", 180);
    let doubtful = record(alive.clone(), sent("1", -10, 1));
    let read = Event::Read(Box::new(crate::Snapshot {
        stored: Some(alive),
        record: Some(doubtful),
        holders: Vec::new(),
        rivals: Vec::new(),
    }));
    for (connected, admitted) in [(at(25), None), (at(5), Some(at(25)))] {
        let (mut flight, _) = Flight::start(setup(&grace(), &Demand::default()));
        assert_eq!(flight.on(read.clone(), NOW), Action::Connect);
        let mut action = flight.on(Event::Connected, connected);
        if let Some(admitted) = admitted {
            assert!(matches!(action, Action::Admit(_)), "{action:?}");
            action = flight.on(Event::Admitted, admitted);
        }
        let Action::Finish(Verdict::TryAgain { outcome_unknown, .. }) = action else {
            panic!("{action:?}")
        };
        assert!(outcome_unknown);
    }
}

#[test]
fn a_process_that_dies_each_time_it_sends_does_not_send_at_each_start() {
    let mut pilot = in_state(sent("1", -60, 1));
    for (seconds, sends) in [(0, 2), (1, 2), (2, 3), (5, 3), (6, 4), (13, 4), (14, 5)] {
        let (mut flight, _) = Flight::start(setup(&pilot.policy, &pilot.demand));
        let read = Event::Read(Box::new(crate::Snapshot {
            stored: pilot.stored.clone(),
            record: pilot.record.clone(),
            holders: Vec::new(),
            rivals: Vec::new(),
        }));
        if flight.on(read, at(seconds)) == Action::Connect
            && let Action::Admit(record) = flight.on(Event::Connected, at(seconds))
        {
            pilot.record = Some(*record);
        }
        let Some(RecordState::Sent(request)) = pilot.record.as_ref().map(|record| &record.state) else {
            panic!("{:?}", pilot.record)
        };
        assert_eq!(request.sends, sends, "at {seconds} s");
        assert_eq!(request.first_at, at(-60));
    }
}

#[test]
fn a_refusal_is_the_echo_of_a_lost_answer_if_there_was_an_earlier_request() {
    for (state, echo) in [(committed(), false), (sent("1", -60, 1), true)] {
        let mut pilot = in_state(state).answering([no()]);
        let (_, verdict) = pilot.fly();
        let Verdict::LoginNeeded(Death::Refused {
            code,
            description,
            after_lost_answer,
        }) = verdict
        else {
            panic!("{verdict:?}")
        };
        assert_eq!(
            (code.as_str(), description.as_str(), after_lost_answer),
            ("invalid_grant", "gone", echo)
        );
        // It survives a restart, and the store still has what it had.
        assert_eq!(pilot.fly().0, "read login");
        assert_eq!(pilot.stored, Some(dead()));
    }
}

#[test]
fn a_refusal_is_overtaken_by_a_newer_login() {
    let mut pilot = in_state(committed()).answering([no()]);
    pilot.disturb = vec![(4, Some(generation("9", 3600)))];
    assert_eq!(pilot.fly().0, "read connect admit send read served");
    // One that is due itself is refreshed in the same flight; the refused key is never sent again.
    let mut pilot = in_state(committed()).answering([no(), granted("10")]);
    pilot.disturb = vec![(4, Some(generation("9", -1)))];
    assert_eq!(
        pilot.fly().0,
        "read connect admit send read connect admit send answered commit committed served"
    );
    assert!(pilot.record.unwrap().is_ancestor(key("1")));
}

#[test]
fn a_flight_ends_however_often_a_refusal_is_overtaken() {
    let mut pilot = in_state(committed()).answering([no(), no(), no(), no()]);
    let login = |index: usize| (4 * index, Some(generation(&format!("login{index}"), -1)));
    pilot.disturb = (1..6).map(login).collect();
    let (words, _) = pilot.fly();
    assert!(
        words.ends_with("read again") || words.ends_with("read unknown"),
        "{words}"
    );
    assert_eq!(pilot.sends, 4);
}

#[test]
fn a_refusal_is_not_believed_while_the_holders_cannot_be_read() {
    let read = |failures: usize| {
        let mut pilot = in_state(committed()).answering([no()]);
        let (mut flight, _) = Flight::start(setup(&pilot.policy, &pilot.demand));
        let snapshot = |record: Option<Record>| {
            Event::Read(Box::new(crate::Snapshot {
                stored: Some(dead()),
                record,
                holders: Vec::new(),
                rivals: Vec::new(),
            }))
        };
        flight.on(snapshot(pilot.record.clone()), NOW);
        let Action::Admit(admitted) = flight.on(Event::Connected, NOW) else {
            panic!()
        };
        flight.on(Event::Admitted, NOW);
        let mut action = flight.on(Event::Answer(pilot.answers.pop_front().unwrap()), NOW);
        for _ in 0..failures {
            assert_eq!(action, Action::Read);
            action = flight.on(Event::Failed(failure("busy")), NOW);
            if let Action::Wait(_) = action {
                action = flight.on(Event::Waited, NOW);
            }
        }
        match action {
            Action::Read => flight.on(snapshot(Some(*admitted)), NOW),
            other => other,
        }
    };
    let refusal = |action: &Action| matches!(action, Action::Record(record) if matches!(record.state, RecordState::Refused { .. }));
    assert!(refusal(&read(0)));
    assert!(refusal(&read(3)));
    let Action::Record(record) = read(4) else { panic!() };
    assert!(matches!(record.state, RecordState::Sent(_)), "{record:?}");
    assert!(record.backoff.is_some());
}

#[test]
fn another_account_s_answer_is_parked() {
    let mut other = generation("2", 3600);
    other.account = account("two");
    let mut pilot = in_state(committed()).answering([Answer::Granted(Box::new(other.clone()))]);
    assert_eq!(pilot.fly().1, Verdict::LoginNeeded(Death::OtherAccount));
    let parked = pilot.record.clone().unwrap();
    let RecordState::Parked { spent, answer, .. } = &parked.state else {
        panic!("{parked:?}")
    };
    assert_eq!((*spent, answer.as_ref()), (key("1"), &other));
    assert_eq!(pilot.stored, Some(dead()));
    assert_eq!(access(parked.generation.as_ref()), "a1");
    // A login ends it, and the spent key stays spent.
    pilot.stored = Some(generation("9", -1));
    pilot.answers.push_back(granted("10"));
    assert!(matches!(pilot.fly().1, Verdict::Served { .. }));
    assert!(pilot.record.unwrap().is_ancestor(key("1")));
}

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
        // The store is put back to an older copy, to our own answer, to a newer login.
        ("older", generation("0", -7200), "a2"),
        ("our answer", generation("2", 3600), "a2"),
        ("newer login", generation("9", 7200), "a9"),
    ];
    for (name, found, want) in cases {
        let mut before = record(dead(), committed());
        before.ancestors = vec![key("0")];
        let mut pilot = Pilot::new(dead(), Some(before))
            .answering([granted("2")])
            .failing(&["answered"]);
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
