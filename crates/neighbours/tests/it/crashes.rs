//! A crash, or an error of the system, at every single call of a refresh's write-back: the old or the new login can be
//! read afterwards, and nothing keeps the program waiting for longer than its own stale limit.

use std::time::Duration;

use tokensink_neighbours::{
    Neighbour, Written, compare_and_set, lock_for_refresh, put_login, read, take_login,
};
use tokensink_store::Expected;
use tokensink_testkit::{Errno, Faults, TestHost};
use tokensink_types::{OAuth, UnixMillis};

use crate::support::{generation, names, oauth, place, spend, writable};

const NOW: UnixMillis = UnixMillis(1_767_229_200_000);
const STALE: Duration = Duration::from_secs(61);

fn with_login(path: &str, content: &str) -> TestHost {
    let test = TestHost::new();
    test.files.put(path, content, 0o600);
    test
}

/// What a process does under its faults; errors end it as they end a flight.
fn write_back(test: &TestHost, faults: &Faults, neighbour: Neighbour) -> Option<Written> {
    let host = test.host_with(faults);
    let place = place(test, neighbour);
    let locks = lock_for_refresh(&host, &place, Duration::ZERO).ok()?;
    let expected = Expected::Spend(spend(&generation(neighbour, 1)));
    let written = compare_and_set(&host, &place, expected, &generation(neighbour, 2), NOW).ok();
    drop(locks);
    written
}

/// Another process, later: everything can be locked and written.
fn all_is_well(test: &TestHost, neighbour: Neighbour, allowed: &[&OAuth], after: &str) {
    let later = test.other_process(7);
    let host = later.host();
    let place = place(&later, neighbour);
    let found = oauth(read(&host, &place));
    let is_allowed = allowed
        .iter()
        .any(|oauth| oauth.tokens.refresh == found.tokens.refresh);
    assert!(is_allowed, "{neighbour}, {after}: {found:?}");

    test.clock.advance(STALE);
    let locks = lock_for_refresh(&host, &place, Duration::ZERO);
    let locks = locks.unwrap_or_else(|error| panic!("{neighbour}, {after}: {error}"));
    let third = generation(neighbour, 3);
    let written = compare_and_set(&host, &place, Expected::Spend(spend(&found)), &third, NOW).unwrap();
    assert_eq!(written, Written::Done, "{neighbour}, {after}");
    drop(locks);
    let home = place.home().unwrap().to_str().unwrap();
    let left: Vec<_> = names(&later, home)
        .into_iter()
        .filter(|name| name.ends_with(".tmp") || name.contains("refresh.lock") || name.contains("storage"))
        .collect();
    assert!(left.is_empty(), "{neighbour}, {after}: {left:?}");
}

type Plan = (&'static str, fn(usize) -> Faults);

const PLANS: [Plan; 5] = [
    ("crash before", Faults::crash_before),
    ("torn crash before", |n| Faults::crash_before(n).torn()),
    ("crash after", Faults::crash_after),
    ("EIO", |n| Faults::fail_at(n, Errno::IO)),
    ("ENOSPC", |n| Faults::fail_at(n, Errno::NOSPC)),
];

#[test]
fn a_write_back_that_fails_anywhere() {
    for (neighbour, path, content) in writable() {
        let (old, new) = (generation(neighbour, 1), generation(neighbour, 2));
        for (name, plan) in PLANS {
            let mut calls = 0;
            for n in 1.. {
                let test = with_login(path, &content);
                let faults = plan(n);
                let written = write_back(&test, &faults, neighbour);
                if !faults.fired() {
                    assert_eq!(written, Some(Written::Done));
                    break;
                }
                calls = n;
                let after = format!("{name} at {}", faults.last());
                let allowed: &[&OAuth] = if written == Some(Written::Done) {
                    &[&new]
                } else {
                    &[&old, &new]
                };
                all_is_well(&test, neighbour, allowed, &after);
            }
            assert!(calls > 10, "{neighbour}, {name}: only {calls} calls");
        }
    }
}

#[test]
fn a_power_cut_keeps_one_of_both() {
    for (neighbour, path, content) in writable() {
        let (old, new) = (generation(neighbour, 1), generation(neighbour, 2));
        for n in 1.. {
            let test = with_login(path, &content);
            test.files.settle();
            let faults = Faults::crash_after(n);
            let written = write_back(&test, &faults, neighbour);
            test.files.lose_power();
            let allowed: &[&OAuth] = if written == Some(Written::Done) {
                &[&new]
            } else {
                &[&old, &new]
            };
            all_is_well(
                &test,
                neighbour,
                allowed,
                &format!("power cut after {}", faults.last()),
            );
            if !faults.fired() {
                break;
            }
        }
    }
}

/// Taking and giving back: the grant that the caller has kept can always be put, and is never in both places unseen.
#[test]
fn a_move_that_fails_anywhere_can_be_repeated() {
    for (neighbour, path, content) in writable() {
        let grant = generation(neighbour, 1);
        for (name, plan) in PLANS {
            for n in 1.. {
                let test = with_login(path, &content);
                let faults = plan(n);
                let host = test.host_with(&faults);
                let place = place(&test, neighbour);
                let _ = take_login(&host, &place, spend(&grant))
                    .and_then(|_| put_login(&host, &place, &grant, None, NOW));
                let after = format!("{neighbour}, {name} at {}", faults.last());
                test.clock.advance(STALE);
                let host = test.host();
                let put = put_login(&host, &place, &grant, None, NOW).unwrap();
                if let Written::Conflict(found) = put {
                    assert_eq!(oauth(found).tokens.refresh, grant.tokens.refresh, "{after}");
                }
                assert_eq!(
                    oauth(read(&host, &place)).tokens.refresh,
                    grant.tokens.refresh,
                    "{after}"
                );
                assert_eq!(
                    take_login(&host, &place, spend(&grant)).unwrap(),
                    Written::Done,
                    "{after}"
                );
                if !faults.fired() {
                    break;
                }
            }
        }
    }
}
