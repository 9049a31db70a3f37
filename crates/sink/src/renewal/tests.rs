use tokensink_refresh::{Death, Due};
use tokensink_types::ProviderId;

use super::*;
use crate::world::target;

const NOW: UnixMillis = UnixMillis(1_000_000_000);
const MINUTE: i64 = 60_000;

fn at(minutes: i64) -> UnixMillis {
    UnixMillis(NOW.0 + minutes * MINUTE)
}

/// A grant of `provider` that is due in `due` minutes and ends 15 minutes later.
fn owned(provider: &str, name: &str, due: i64) -> Owned {
    Owned {
        target: target("main", &format!("{provider}:{name}")),
        provider: ProviderId::parse(provider).unwrap(),
        standing: if due > 0 {
            Standing::Fresh
        } else {
            Standing::Due(Due::Stale)
        },
        heal: false,
        due_at: Some(at(due)),
        expires: Some(at(due + 15)),
    }
}

fn planned(grants: &[Owned], tried: &HashMap<Target, Tried>, jitter: u8) -> Plan {
    plan(grants, tried, NOW, |_| jitter)
}

#[test]
fn every_standing_has_its_time() {
    let until = at(3);
    let reason = String::new();
    let with = |standing: Standing, due_at: Option<UnixMillis>, heal: bool| Owned {
        standing,
        due_at,
        heal,
        ..owned("rig", "a", 0)
    };
    let cases = [
        (with(Standing::Fresh, Some(at(5)), false), None, Some(at(5))),
        (with(Standing::Fresh, None, false), None, None),
        (with(Standing::Fresh, Some(at(5)), true), Some(0), None),
        (
            with(Standing::Due(Due::Stale), Some(at(-5)), false),
            Some(0),
            None,
        ),
        (with(Standing::Due(Due::Stale), None, false), Some(0), None),
        (
            with(Standing::BackOff { until, reason }, Some(at(-5)), false),
            None,
            Some(until),
        ),
        (
            with(Standing::Dead(Death::OtherAccount), Some(at(-5)), false),
            None,
            None,
        ),
    ];
    for (grant, now, next) in cases {
        let got = planned(std::slice::from_ref(&grant), &HashMap::new(), 0);
        assert_eq!((got.now.first().copied(), got.next), (now, next), "{grant:?}");
    }
}

#[test]
fn the_spread_never_comes_near_the_end_and_is_the_same_every_time() {
    for minutes in [0, 1, 2, 15, 600] {
        let grant = Owned {
            expires: Some(at(minutes)),
            ..owned("rig", "a", 0)
        };
        let latest = planned(std::slice::from_ref(&grant), &HashMap::new(), 255);
        let latest = latest.next.unwrap_or(NOW);
        assert!(
            latest <= at(1) && latest.0 - NOW.0 <= minutes * MINUTE / 5,
            "{minutes}: {latest}"
        );
    }
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let places: Vec<_> = names
        .iter()
        .map(|name| jitter_of(&target("main", &format!("rig:{name}"))))
        .collect();
    let again: Vec<_> = names
        .iter()
        .map(|name| jitter_of(&target("main", &format!("rig:{name}"))))
        .collect();
    let different: std::collections::BTreeSet<_> = places.iter().collect();
    assert!(places == again && different.len() >= 7, "{places:?}");
}

#[test]
fn what_ends_first_goes_first_and_one_provider_leaves_room_for_others() {
    let mut grants: Vec<Owned> = (0..10)
        .map(|number| owned("slow", &number.to_string(), -number))
        .collect();
    grants.push(owned("rig", "a", -1));
    let all = planned(&grants, &HashMap::new(), 0);
    assert_eq!(
        all.now,
        [9, 8, 7, 6, 10],
        "the four that end first, and the other provider's"
    );
    // The four hang.
    let mut tried = HashMap::new();
    for place in [9, 8, 7, 6] {
        let running = Tried {
            running: true,
            ..Tried::default()
        };
        tried.insert(grants[place].target.clone(), running);
    }
    assert_eq!(
        planned(&grants, &tried, 0).now,
        [10],
        "and it goes on without them"
    );
}

#[test]
fn failures_wait_longer_each_time_and_success_forgets_them() {
    let again = |at: Option<UnixMillis>| RenewResult::TryAgain {
        reason: String::new(),
        at,
    };
    let mut tried = Tried::default();
    let mut waits = Vec::new();
    for _ in 0..8 {
        tried = tried.after(&again(None), NOW, 0);
        waits.push(NOW.until(tried.not_before.unwrap()).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    let grant = owned("rig", "a", -5);
    let known = HashMap::from([(grant.target.clone(), tried)]);
    let waiting = planned(std::slice::from_ref(&grant), &known, 0);
    assert_eq!((waiting.now, waiting.next), (vec![], Some(at(1))));
    let told = tried.after(&again(Some(at(9))), NOW, 0);
    assert_eq!(
        told.not_before,
        Some(at(9)),
        "the server's word counts where it is longer"
    );
    let told = tried.after(&again(Some(at(9 * 24 * 60))), NOW, 0);
    assert_eq!(told.not_before, Some(at(60)), "a login may end it sooner");
    let done = RenewResult::Renewed { expires: None };
    assert_eq!(told.after(&done, NOW, 0), Tried::default());
}
