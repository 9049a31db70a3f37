use tokensink_types::record::{Record, RecordState, Rotation};

use super::pilot::{
    Pilot, access, ambiguous, dead, failure, grace, granted, in_state, no, not_written, setup, unavailable,
};
use super::{NOW, account, answered, at, backoff, committed, generation, key, parked, record, refused, sent};
use crate::{Action, Answer, Death, Demand, Event, Flight, Verdict, overlay};

/// Flies each pilot and compares what it did.
fn check(cases: Vec<(&str, Pilot, &str)>) {
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

const HAPPY: &str = "read connect admit send answered commit committed served";

#[test]
fn each_way_in() {
    let calm = || in_state(committed());
    let doubt = || in_state(sent("1", -60, 1));
    let alive = generation("1", 180);
    let mut waiting = record(dead(), RecordState::Idle);
    waiting.backoff = backoff(5);
    let mut gone = calm();
    gone.stored = None;
    let login = Pilot::new(generation("9", 3600), Some(record(dead(), refused("1"))));
    let killed = Pilot::new(alive.clone(), Some(record(alive, sent("1", -60, 1))));
    check(vec![
        ("happy", calm().answering([granted("2")]), HAPPY),
        (
            "without a record",
            Pilot::new(dead(), None).answering([granted("2")]),
            HAPPY,
        ),
        (
            "fresh already",
            Pilot::new(generation("1", 3600), None),
            "read served",
        ),
        ("gone", gone, "read gone"),
        (
            "killed after the send, access token alive",
            killed,
            "read unknown",
        ),
        (
            "killed after the send, access token dead",
            doubt().answering([granted("2")]),
            HAPPY,
        ),
        ("refused before", in_state(refused("1")), "read login"),
        ("parked before", in_state(parked("1")), "read login"),
        ("logged in since the refusal", login, "read served"),
        ("waiting", Pilot::new(dead(), Some(waiting)), "read again"),
        ("cannot read", calm().failing(&["read"]), "read again"),
        (
            "cannot connect",
            calm().failing(&["connect"]),
            "read connect again",
        ),
        (
            "cannot connect, in doubt",
            doubt().failing(&["connect"]),
            "read connect unknown",
        ),
        (
            "cannot record the send",
            calm().failing(&["admit"]),
            "read connect admit again",
        ),
    ]);
}

#[test]
fn each_answer() {
    let calm = || in_state(committed());
    let doubt = || in_state(sent("1", -60, 1));
    let mut other = generation("2", 3600);
    other.account = account("two");
    let other = Answer::Granted(Box::new(other));
    check(vec![
        (
            "not written",
            calm().answering([not_written()]),
            "read connect admit send committed again",
        ),
        (
            "not written, in doubt",
            doubt().answering([not_written()]),
            "read connect admit send sent unknown",
        ),
        (
            "unspent",
            calm().answering([unavailable(20)]),
            "read connect admit send idle again",
        ),
        (
            "unspent, in doubt",
            doubt().answering([unavailable(20)]),
            "read connect admit send sent unknown",
        ),
        (
            "ambiguous",
            calm().answering([ambiguous()]),
            "read connect admit send sent unknown",
        ),
        (
            "nobody can say",
            calm().failing(&["send"]),
            "read connect admit send sent unknown",
        ),
        (
            "refused",
            calm().answering([no()]),
            "read connect admit send read refused login",
        ),
        (
            "another account",
            calm().answering([other]),
            "read connect admit send parked login",
        ),
    ]);
}

#[test]
fn each_broken_disk_and_stale_store() {
    let granted = |fails| in_state(committed()).answering([granted("2")]).failing(fails);
    let rolled_back = |seconds| {
        let mut newest = record(generation("2", seconds), committed());
        newest.ancestors = vec![key("1")];
        Pilot::new(dead(), Some(newest))
    };
    let killed = Pilot::new(dead(), Some(record(generation("2", 3600), answered("1"))));
    let third = || super::pilot::granted("3");
    check(vec![
        (
            "store broken",
            granted(&["!commit"]),
            "read connect admit send answered commit behind",
        ),
        ("record broken", granted(&["answered", "committed"]), HAPPY),
        (
            "both broken for a moment",
            granted(&["answered", "answered", "commit", "commit"]),
            "read connect admit send answered commit wait answered commit wait answered commit committed served",
        ),
        ("killed before the commit", killed, "read commit committed served"),
        ("rolled back", rolled_back(3600), "read commit served"),
        (
            "rolled back, store broken",
            rolled_back(3600).failing(&["commit"]),
            "read commit behind",
        ),
        (
            "rolled back, and due",
            rolled_back(-1).answering([third()]),
            "read commit connect admit send answered commit committed served",
        ),
        (
            "rolled back, due, store broken",
            rolled_back(-1).answering([third()]).failing(&["!commit"]),
            "read commit connect admit send answered commit behind",
        ),
    ]);
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
fn a_repeated_answer_counts_from_the_first_request() {
    let doubtful = record(dead(), sent("1", -20, 1));
    let mut pilot = Pilot::new(dead(), Some(doubtful)).answering([granted("2")]);
    pilot.policy = grace();
    assert!(matches!(pilot.fly().1, Verdict::Served { .. }));
    let kept = pilot.record.unwrap().generation.unwrap();
    assert_eq!(
        kept.tokens.expires,
        Some(at(3600 - 20)),
        "the server may have answered 20 s ago already"
    );
    assert_eq!(kept.issued_at, Some(at(-20)));
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

/// `name` as it came from a bundle: whether it was spent since is not known.
fn restored(name: &str) -> RecordState {
    let RecordState::Sent(mut sent) = sent(name, -86_400, 1) else {
        unreachable!("that is what it makes")
    };
    sent.holder = tokensink_types::ProcessId::elsewhere(&sent.holder, "bundle b1 of yesterday");
    RecordState::Sent(sent)
}

#[test]
fn what_was_restored_is_used_to_its_end_and_sent_only_then() {
    let alive = generation("1", 180);
    let living = Pilot::new(alive.clone(), Some(record(alive, restored("1"))));
    let ended = || in_state(restored("1"));
    check(vec![
        (
            "fresh",
            Pilot::new(
                generation("1", 3600),
                Some(record(generation("1", 3600), restored("1"))),
            ),
            "read served",
        ),
        ("alive", living, "read unknown"),
        ("ended, unspent", ended().answering([granted("2")]), HAPPY),
    ]);
    let mut pilot = ended().answering([no()]);
    let (_, verdict) = pilot.fly();
    let Verdict::LoginNeeded(Death::Refused {
        code, description, ..
    }) = verdict
    else {
        panic!("{verdict:?}")
    };
    assert_eq!(code, crate::RESTORED_SPENT);
    assert!(
        description.contains("bundle b1 of yesterday") && description.contains("invalid_grant gone"),
        "{description}"
    );
    // The same where something newer is found beside the refusal: nothing of it was lost on the way.
    let after_lost_answer = |pilot: &Pilot| match &pilot.record.as_ref().unwrap().state {
        RecordState::Refused {
            code,
            after_lost_answer,
            ..
        } => (code.clone(), *after_lost_answer),
        other => panic!("{other:?}"),
    };
    let mut pilot = ended().answering([no()]);
    pilot.disturb = vec![(4, Some(generation("9", 3600)))];
    assert_eq!(pilot.fly().0, "read connect admit send read refused read served");
    assert_eq!(
        after_lost_answer(&pilot),
        (crate::RESTORED_SPENT.to_owned(), false)
    );
    let mut pilot = ended().answering([no()]);
    pilot.late_holders = vec![crate::Holder {
        place: "main".to_owned(),
        generation: generation("9", 3600),
    }];
    assert_eq!(pilot.fly().0, "read connect admit send read refused elsewhere");
    assert_eq!(
        after_lost_answer(&pilot),
        (crate::RESTORED_SPENT.to_owned(), false)
    );
    // After a crash of its own request it is a matter of that one.
    let mut pilot = ended().answering([ambiguous()]);
    assert!(!pilot.fly().0.contains("login"));
}

#[test]
fn a_refusal_is_overtaken_by_a_newer_login() {
    let mut pilot = in_state(committed()).answering([no()]);
    pilot.disturb = vec![(4, Some(generation("9", 3600)))];
    assert_eq!(pilot.fly().0, "read connect admit send read refused read served");
    // A stale copy that brings the refused one back is healed.
    pilot.disturb.clear();
    pilot.stored = Some(dead());
    assert_eq!(pilot.fly().0, "read commit served");
    assert_eq!(access(pilot.stored.as_ref()), "a9");
    // An older copy that is still of use does not drive out of the record what the server has refused.
    let mut pilot = in_state(committed()).answering([no()]);
    pilot.demand.rejected = None;
    let mut older = generation("0", 3600);
    older.tokens.expires = None;
    pilot.disturb = vec![(4, Some(older))];
    assert_eq!(pilot.fly().0, "read connect admit send read refused read served");
    let kept = pilot
        .record
        .as_ref()
        .and_then(|record| record.generation.as_ref());
    assert_eq!(access(kept), "a1");
    // Where nothing can be written, what the store holds serves all the same.
    let mut pilot = in_state(committed()).answering([no()]).failing(&["refused"]);
    pilot.disturb = vec![(4, Some(generation("9", 3600)))];
    assert_eq!(pilot.fly().0, "read connect admit send read refused read served");
    // One that is due itself is refreshed in the same flight; the refused key is never sent again.
    let mut pilot = in_state(committed()).answering([no(), granted("10")]);
    pilot.disturb = vec![(4, Some(generation("9", -1)))];
    assert_eq!(
        pilot.fly().0,
        "read connect admit send read refused read connect admit send answered commit committed served"
    );
    assert!(pilot.record.unwrap().is_ancestor(key("1")));
}

#[test]
fn a_flight_ends_however_often_a_refusal_is_overtaken() {
    let mut pilot = in_state(committed()).answering([no(), no(), no(), no()]);
    // In each round the store is changed between the answer and the reading.
    let login = |index: usize| (6 * index - 2, Some(generation(&format!("login{index}"), -1)));
    pilot.disturb = (1..6).map(login).collect();
    let (words, _) = pilot.fly();
    assert!(words.ends_with("read refused again"), "{words}");
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
