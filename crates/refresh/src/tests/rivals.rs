use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{Account, SpendKey};

use super::pilot::{Pilot, access, dead, failure, granted};
use super::{
    NOW, account, answered, at, backoff, committed, generation, key, parked, record, record_of, refused, sent,
};
use crate::view::note_newer_login;
use crate::{Answer, Death, Demand, Holder, Rival, Verdict, after_login};

/// The record of a copy of this login under another name.
fn copy(generation: Generation, state: RecordState, ancestors: &[SpendKey]) -> Record {
    let mut record = record_of("rig:copy", generation, state);
    record.ancestors = ancestors.to_vec();
    record
}

fn with_rival(stored: Generation, record: Record, may_be_alive: bool) -> Pilot {
    let mut pilot = Pilot::new(stored, None);
    pilot.rivals.push(Rival { record, may_be_alive });
    pilot
}

fn alive() -> Generation {
    generation("1", 180)
}

#[test]
fn copies_of_one_login() {
    let spent = [key("1")];
    let newer = |seconds| generation("2", seconds);
    let cases = [
        (
            "the copy has the newer generation",
            with_rival(dead(), copy(newer(3600), committed(), &spent), true),
            "read answered commit committed read served",
        ),
        (
            "ours is fresh",
            with_rival(
                generation("1", 3600),
                copy(newer(3600), committed(), &spent),
                true,
            ),
            "read served",
        ),
        (
            "the newer generation is due itself",
            with_rival(dead(), copy(newer(-1), committed(), &spent), true).answering([granted("3")]),
            "read answered commit committed read connect admit send answered commit committed served",
        ),
        (
            "the newer generation is refused",
            with_rival(dead(), copy(newer(-1), refused("2"), &spent), true),
            "read answered commit committed read login",
        ),
        (
            "the newer generation is on its way",
            with_rival(dead(), copy(newer(-1), sent("2", -5, 1), &spent), true),
            "read answered commit committed read again",
        ),
        (
            "the copy has the same refresh token with an access token that lives",
            with_rival(dead(), copy(generation("1", 3600), committed(), &[]), true),
            "read answered commit committed read served",
        ),
        (
            "what it has lasts no longer than ours",
            with_rival(dead(), copy(dead(), committed(), &[]), true).answering([granted("2")]),
            "read connect admit send answered commit committed served",
        ),
        (
            "a request of the copy is on its way",
            with_rival(dead(), copy(dead(), sent("1", -5, 1), &[]), true),
            "read again",
        ),
        (
            "its holder is dead, our access token alive",
            with_rival(alive(), copy(alive(), sent("1", -5, 1), &[]), false),
            "read unknown",
        ),
        (
            "its holder is dead, our access token too",
            with_rival(dead(), copy(dead(), sent("1", -5, 1), &[]), false).answering([granted("2")]),
            "read connect admit send answered commit committed served",
        ),
        (
            "the copy was refused",
            with_rival(dead(), copy(dead(), refused("1"), &[]), true),
            "read login",
        ),
        (
            "the copy's answer is parked",
            with_rival(dead(), copy(dead(), parked("1"), &[]), true),
            "read login",
        ),
        (
            "the copy has another key on its way",
            with_rival(dead(), copy(generation("7", 0), sent("7", -5, 1), &[]), true)
                .answering([granted("2")]),
            "read connect admit send answered commit committed served",
        ),
    ];
    for (name, mut pilot, want) in cases {
        assert_eq!(pilot.fly().0, want, "{name}");
        assert!(pilot.answers.is_empty(), "{name}: an answer was not asked for");
    }
}

#[test]
fn the_doubt_of_a_copy_is_our_doubt() {
    // Whatever our own record says about other keys.
    for own in [
        None,
        Some(committed()),
        Some(answered("0")),
        Some(sent("0", -90, 1)),
        Some(refused("0")),
    ] {
        let mut pilot = with_rival(alive(), copy(alive(), sent("1", -5, 1), &[]), false);
        pilot.record = own.clone().map(|state| record(generation("0", 0), state));
        assert_eq!(pilot.fly().0, "read unknown", "{own:?}");
        let mut pilot =
            with_rival(dead(), copy(dead(), sent("1", -5, 1), &[]), false).answering([Answer::Refused {
                code: "invalid_grant".to_owned(),
                description: String::new(),
            }]);
        pilot.record = own.clone().map(|state| record(generation("0", 0), state));
        let (_, verdict) = pilot.fly();
        let Verdict::LoginNeeded(Death::Refused {
            after_lost_answer, ..
        }) = verdict
        else {
            panic!("{own:?}: {verdict:?}")
        };
        assert!(after_lost_answer, "{own:?}");
    }
}

#[test]
fn what_a_copy_was_answered_does_not_end_our_doubt() {
    let doubtful = record(dead(), sent("1", -600, 1));
    let mut pilot = Pilot::new(dead(), Some(doubtful));
    pilot.rivals.push(Rival {
        record: copy(generation("1", 3600), committed(), &[]),
        may_be_alive: true,
    });
    assert_eq!(pilot.fly().0, "read sent commit sent read served");
    assert_eq!(pilot.sends, 0);
    assert_eq!(pilot.stored, Some(generation("1", 3600)));
    let state = pilot.written.last().map(|record| &record.state);
    assert_eq!(state, Some(&sent("1", -600, 1)));
}

#[test]
fn the_wait_of_a_copy_is_our_wait() {
    for (own, theirs, want) in [
        (None, backoff(20), "read unknown"),
        (backoff(20), backoff(-1), "read unknown"),
        (backoff(-1), backoff(20), "read unknown"),
        (
            backoff(-1),
            backoff(-1),
            "read connect admit send answered commit committed served",
        ),
    ] {
        let mut rival = copy(dead(), sent("1", -5, 2), &[]);
        rival.backoff.clone_from(&theirs);
        let mut pilot = with_rival(dead(), rival, false).answering([granted("2")]);
        pilot.record = own.as_ref().map(|_| record(dead(), sent("1", -9, 1)));
        if let Some(record) = &mut pilot.record {
            record.backoff.clone_from(&own);
        }
        assert_eq!(pilot.fly().0, want, "ours {own:?}, theirs {theirs:?}");
    }
}

#[test]
fn the_refusal_of_a_copy_ends_our_doubt() {
    let mut pilot = with_rival(dead(), copy(dead(), refused("1"), &[]), false);
    pilot.record = Some(record(dead(), sent("1", -90, 1)));
    let (story, verdict) = pilot.fly();
    assert_eq!((story.as_str(), pilot.sends), ("read login", 0));
    let Verdict::LoginNeeded(Death::Refused {
        after_lost_answer, ..
    }) = verdict
    else {
        panic!("{verdict:?}")
    };
    assert!(
        after_lost_answer,
        "it may be the echo of the answer that we never saw"
    );
}

#[test]
fn a_copy_tells_that_our_store_was_rolled_back() {
    // Key 0 is older than our record; the copy knows that it was spent for key 1, and we have spent that one.
    let ours = |state| {
        let mut record = record(generation("2", 3600), state);
        record.ancestors = vec![key("1")];
        record
    };
    let cases = [
        (
            generation("1", 0),
            ours(answered("1")),
            "read answered read commit committed served",
        ),
        (
            generation("2", 3600),
            ours(committed()),
            "read committed read commit served",
        ),
        (generation("1", 0), ours(refused("2")), "read refused read login"),
    ];
    for (theirs, own, want) in cases {
        let mut known = vec![key("0")];
        if theirs.spend_key() != Some(key("1")) {
            known.insert(0, key("1"));
        }
        let mut pilot = with_rival(generation("0", -1), copy(theirs, committed(), &known), false);
        pilot.record = Some(own.clone());
        if matches!(own.state, RecordState::Refused { .. }) {
            pilot.record.as_mut().unwrap().generation = Some(generation("2", -1));
        }
        assert_eq!((pilot.fly().0.as_str(), pilot.sends), (want, 0));
        let kept = pilot.record.unwrap().generation;
        assert_eq!(kept.and_then(|kept| kept.spend_key()), Some(key("2")));
    }
}

#[test]
fn a_copy_that_saw_another_program_refresh_tells_it_too() {
    let of = |name: &str, seconds| {
        let mut generation = generation(name, seconds);
        generation.account = account("one");
        generation
    };
    // The copy found key 1 in the other program's file: to its record that was a newer login.
    let mut theirs = copy(of("0", -1), committed(), &[]);
    note_newer_login(&mut theirs, Some(&of("1", 0)));
    theirs.generation = Some(of("1", 0));
    let mut ours = record(of("2", 3600), answered("1"));
    ours.ancestors = vec![key("1")];
    let mut pilot = with_rival(of("0", -1), theirs, false);
    pilot.record = Some(ours);
    assert_eq!(
        (pilot.fly().0.as_str(), pilot.sends),
        ("read answered read commit committed served", 0)
    );
    let kept = pilot.record.unwrap().generation;
    assert_eq!(kept.and_then(|kept| kept.spend_key()), Some(key("2")));
}

#[test]
fn what_another_program_replaced_is_older_if_it_is_the_same_accounts() {
    for (before, is_older) in [
        (account("one"), true),
        (account("two"), false),
        (Account::default(), false),
    ] {
        let mut known = generation("1", 0);
        known.account = before.clone();
        let mut pilot = Pilot::new(generation("2", -1), Some(record(known.clone(), committed())));
        pilot = pilot.answering([granted("3")]);
        pilot.fly();
        let record = pilot.record.clone().unwrap();
        assert_eq!(record.is_ancestor(key("1")), is_older, "{before:?}");
        // A stale copy of it is written back: healed, or somebody went back to the other account.
        pilot.stored = Some(known);
        if !is_older {
            pilot = pilot.answering([granted("4")]);
        }
        let healed = pilot.fly().0 == "read commit served";
        assert_eq!(healed, is_older, "{before:?}");
    }
}

#[test]
fn a_copy_that_went_on_to_another_login_is_not_followed() {
    let other_person = |account: Account| {
        let mut login = generation("9", 3600);
        login.account = account;
        login
    };
    let relogged = |login: Generation| {
        let mut earlier = copy(generation("2", 0), committed(), &[key("1")]);
        earlier = after_login(Some(&earlier), copy(login, RecordState::Idle, &[]));
        with_rival(dead(), earlier, true)
    };
    // Neither a known stranger nor somebody unknown; but the same account is adopted.
    for (account, want) in [
        (account("two"), "read refused login"),
        (Account::default(), "read refused login"),
        (account("one"), "read answered commit committed read served"),
    ] {
        let mut pilot = relogged(other_person(account.clone()));
        assert_eq!(pilot.fly().0, want, "{account:?}");
        assert_eq!(pilot.sends, 0, "the spent key is not sent");
    }
    // The same where the login was made by another program and only noticed by a flight.
    let earlier = record_of("rig:copy", generation("2", 0), committed());
    let mut noticed = Pilot::new(other_person(Account::default()), Some(earlier)).answering([granted("10")]);
    noticed.record.as_mut().unwrap().ancestors = vec![key("1")];
    noticed.stored.as_mut().unwrap().tokens.expires = Some(at(-1));
    noticed.fly();
    let mut strangers = noticed.record.unwrap();
    strangers.generation.as_mut().unwrap().account = Account::default();
    let mut pilot = with_rival(dead(), strangers, true);
    pilot.record = Some(record(generation("0", 0), committed()));
    assert_eq!(pilot.fly().0, "read refused login");
    assert_eq!(
        pilot.record.unwrap().generation,
        Some(dead()),
        "the refusal is of what counts here"
    );
    // The account of a copy that only refreshed need not be known.
    let mut unknown = other_person(Account::default());
    unknown.tokens.refresh = Some("r2".into());
    let mut pilot = with_rival(dead(), copy(unknown, committed(), &[key("1")]), true);
    assert_eq!(pilot.fly().0, "read answered commit committed read served");
    assert_eq!(
        pilot.stored.unwrap().account,
        account("one"),
        "what was known of ours is kept"
    );
}

#[test]
fn what_cannot_be_adopted_stays_where_it_is() {
    let newer = copy(generation("2", 3600), committed(), &[key("1")]);
    let mut pilot = with_rival(dead(), newer, true).failing(&["!answered", "!commit"]);
    assert_eq!(pilot.fly().0, "read answered commit again");
    assert_eq!(pilot.stored, Some(dead()));
}

#[test]
fn a_rival_at_the_gate_is_looked_at_a_few_times() {
    use super::pilot::setup;
    use crate::{Action, Event, Flight, Policy, Snapshot};
    let (mut flight, mut action) = Flight::start(setup(&Policy::default(), &Demand::default()));
    let mut reads = 0;
    while !matches!(action, Action::Finish(_)) {
        let event = match action {
            Action::Read => {
                reads += 1;
                assert!(reads < 10, "endless");
                Event::Read(Box::new(Snapshot {
                    stored: Some(dead()),
                    record: None,
                    holders: Vec::new(),
                    rivals: Vec::new(),
                }))
            }
            Action::Connect => Event::Connected,
            Action::Admit(_) => Event::Rival,
            _ => Event::Failed(failure("unexpected")),
        };
        action = flight.on(event, NOW);
    }
    assert_eq!(reads, 4);
}

#[test]
fn other_holders() {
    let holder = |generation: Generation| Holder {
        place: "main".to_owned(),
        generation,
    };
    let of = |mut generation: Generation, account: Account| {
        generation.account = account;
        generation
    };
    let mut same_refresh = generation("1", 3600);
    same_refresh.tokens.access = "x".into();
    let mut spent = copy(dead(), committed(), &[key("0")]);
    spent.profile = super::record(dead(), committed()).profile;
    let mut blank = generation("2", -10);
    blank.tokens.refresh = None;
    let cases = [
        ("newer", generation("2", 3600), None, "elsewhere"),
        (
            "newer, expired, renewable",
            generation("2", -10),
            None,
            "elsewhere",
        ),
        ("newer, expired, not renewable", blank, None, "sends"),
        (
            "the same refresh token, newer access token",
            same_refresh.clone(),
            None,
            "elsewhere",
        ),
        ("older", generation("00", -120), None, "sends"),
        (
            "spent, whatever its expiry says",
            generation("0", 3600),
            None,
            "sends",
        ),
        (
            "another account",
            of(generation("2", 3600), account("two")),
            None,
            "sends",
        ),
        (
            "an unknown account",
            of(generation("2", 3600), Account::default()),
            None,
            "sends",
        ),
        (
            "the very token that was rejected",
            same_refresh,
            Some("x"),
            "sends",
        ),
        (
            "rejected, but renewable",
            generation("2", 3600),
            Some("a2"),
            "elsewhere",
        ),
    ];
    for (name, theirs, rejected, want) in cases {
        let mut pilot = Pilot::new(dead(), Some(spent.clone())).answering([granted("3")]);
        pilot.demand.rejected = rejected.map(Into::into);
        pilot.holders.push(holder(theirs));
        let (words, _) = pilot.fly();
        let got = if pilot.sends > 0 {
            "sends"
        } else {
            words.rsplit(' ').next().unwrap()
        };
        assert_eq!(got, want, "{name}: {words}");
    }
    let mut fresh = Pilot::new(generation("1", 3600), None);
    fresh.holders.push(holder(generation("2", 7200)));
    assert_eq!(fresh.fly().0, "read served", "what serves is served");
}

#[test]
fn a_refusal_is_overtaken_by_a_copy_or_a_holder() {
    let refusal = || Answer::Refused {
        code: "invalid_grant".to_owned(),
        description: String::new(),
    };
    let mut pilot = Pilot::new(dead(), None).answering([refusal()]);
    pilot.late_rivals = vec![Rival {
        record: copy(generation("2", 3600), committed(), &[key("1")]),
        may_be_alive: false,
    }];
    assert_eq!(
        pilot.fly().0,
        "read connect admit send read answered commit committed read served"
    );
    let mut pilot = Pilot::new(dead(), None).answering([refusal()]);
    pilot.late_holders = vec![Holder {
        place: "main".to_owned(),
        generation: generation("2", 3600),
    }];
    assert_eq!(pilot.fly().0, "read connect admit send read refused elsewhere");
    assert_eq!(pilot.fly().0, "read elsewhere", "the newer one serves");
    pilot.holders.clear();
    assert_eq!(pilot.fly().0, "read login", "what was refused is not sent again");
    assert_eq!(access(pilot.stored.as_ref()), "a1", "and not forgotten");
}
