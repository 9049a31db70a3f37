//! Every n-th call failing, and a crash before and after every call.

use std::time::Duration;

use serde_json::json;
use tokensink_authserver::ServerConfig;
use tokensink_sink::ErrorKind;
use tokensink_testkit::{Errno, ExchangeFault, Faults};

use crate::world::{self, HOUR, PROFILE, World, request, strict, with_grace};

/// Runs one acquire over an expiry under `faults`, then as many healthy ones as it takes, and checks what must hold.
/// Returns false once the fault no longer fires, and whether the login was lost.
fn run(config: &ServerConfig, faults: &Faults) -> (bool, bool) {
    let world = World::logged_in(config.clone());
    world
        .test
        .clock
        .advance(Duration::from_secs(config.access_token_seconds));
    let first = world.faulty(faults).and_then(|sink| sink.acquire(&request()));
    if let Ok(lease) = &first {
        assert!(
            world.is_live(lease),
            "a dead token was handed out after {}",
            faults.last()
        );
        let known = world
            .test
            .files
            .snapshot()
            .values()
            .any(|bytes| contains(bytes, lease.secret.expose()));
        assert!(
            known,
            "a token was handed out before it was durable, {}",
            faults.last()
        );
    }
    let stored = world.stored("main", PROFILE);
    assert!(
        stored["refresh"].as_str().is_some_and(|token| !token.is_empty()),
        "blanked after {}",
        faults.last()
    );
    let later = world.an_hour_after_a_crash();
    let lost = match later.sink().acquire(&request()) {
        Ok(lease) => {
            assert!(later.is_live(&lease), "after {}", faults.last());
            false
        }
        Err(error) => {
            assert_eq!(
                error.kind(),
                ErrorKind::LoginNeeded,
                "{error} after {}",
                faults.last()
            );
            assert_eq!(
                error.code(),
                "refused_after_lost_answer",
                "{error} after {}",
                faults.last()
            );
            true
        }
    };
    // A lost answer is found out by one repetition, which a strict server counts as reuse; nothing else is.
    assert_eq!(later.ledger().reuses, u64::from(lost), "after {}", faults.last());
    (faults.fired(), lost)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn every_point(config: &ServerConfig, make: impl Fn(usize) -> Faults) -> (usize, usize) {
    world::every_point(|faults| run(config, faults), make)
}

#[test]
fn with_a_grace_no_crash_loses_a_login() {
    // A token outlives the grace, and the grace the hour after which the next process asks.
    let config = ServerConfig {
        access_token_seconds: 4 * 3600,
        ..with_grace(7200)
    };
    for make in [Faults::crash_before as fn(usize) -> Faults, Faults::crash_after] {
        let (points, lost) = every_point(&config, |n| make(n).torn());
        assert!(points > 40, "only {points} calls were tried");
        assert_eq!(lost, 0);
    }
}

#[test]
fn with_a_strict_server_a_crash_loses_a_login_only_while_the_answer_is_not_durable() {
    let (points, lost) = every_point(&strict(), Faults::crash_before);
    assert!(points > 40);
    // Between the server's answer and the record there are few calls, and each is counted here: if this number
    // grows, the window has grown.
    assert!(lost <= 5, "{lost} of {points} crash points lose a login");
    let (_, lost_after) = every_point(&strict(), |n| Faults::crash_after(n).torn());
    assert!(lost_after <= 5, "{lost_after} crash points lose a login");
}

#[test]
fn no_failing_call_loses_a_login() {
    for errno in [
        Errno::IO,
        Errno::NOSPC,
        Errno::ACCESS,
        Errno::ROFS,
        Errno::INTR,
        Errno::BUSY,
    ] {
        let (points, lost) = every_point(&strict(), |n| {
            Faults::fail_at(n, errno)
                .torn()
                .exchange(ExchangeFault::default())
        });
        assert!(points > 40);
        assert_eq!(lost, 0, "{errno:?}");
    }
}

#[test]
fn a_full_disk_before_the_refresh_sends_nothing() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    world.test.files.set_free_space(Some(0));
    let error = world.sink().acquire(&request()).unwrap_err();
    assert!(error.to_string().contains("space"), "{error}");
    assert_eq!(world.test.transport.requests().len(), 0);
    world.test.files.set_free_space(None);
    assert!(world.is_live(&world.sink().acquire(&request()).unwrap()));
}

#[test]
fn a_full_disk_after_the_refresh_serves_from_the_record_and_heals_later() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    world.sink().acquire(&request()).unwrap();
    // The record exists in full from here on, as it does after a login.
    world.test.clock.advance(HOUR);
    world.test.files.set_free_space(Some(0));
    let lease = world.sink().acquire(&request()).unwrap();
    assert!(world.is_live(&lease));
    assert_ne!(
        world.stored("main", PROFILE)["access"],
        lease.secret.expose(),
        "there was no room in the store"
    );
    assert_eq!(
        world.sink().acquire(&request()).unwrap().secret,
        lease.secret,
        "served from the record"
    );
    world.test.files.set_free_space(None);
    assert_eq!(world.sink().acquire(&request()).unwrap().secret, lease.secret);
    assert_eq!(
        world.stored("main", PROFILE)["access"],
        lease.secret.expose(),
        "moved by the first call with room"
    );
    assert_eq!((world.ledger().refreshes, world.ledger().reuses), (2, 0));
}

#[test]
fn a_store_that_cannot_be_replaced_is_written_in_place() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    world.sink().acquire(&request()).unwrap();
    // The record is in place; the store is a bind-mounted file from here on.
    world.test.files.refuse_renames(Some(Errno::BUSY));
    world.test.clock.advance(HOUR);
    let lease = world.sink().acquire(&request()).unwrap();
    assert_eq!(world.stored("main", PROFILE)["access"], lease.secret.expose());
    assert_eq!(world.stored("main", PROFILE)["note"], json!("kept"));
}
