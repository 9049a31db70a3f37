//! A cooperative refresh with every n-th call failing, and with a crash before and after every call.

use std::time::Duration;

use tokensink_authserver::ServerConfig;
use tokensink_sink::ExternalMode;
use tokensink_testkit::{Errno, ExchangeFault, Faults};

use super::{chosen, request, section, text};
use crate::world::{self, strict};

/// Runs one acquire over an expiry under `faults`, then healthy ones. Returns whether a fault fired, and whether the
/// login was lost.
fn run(config: &ServerConfig, faults: &Faults) -> (bool, bool) {
    let world = chosen(config.clone(), ExternalMode::Cooperative);
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
    }
    assert!(
        !text(&section(&world)["refreshToken"]).is_empty(),
        "blanked after {}",
        faults.last()
    );
    // The locks in the other program's folder are still there, and grow old.
    let later = world.an_hour_after_a_crash();
    let lost = match later.sink().acquire(&request()) {
        Ok(lease) => {
            assert!(later.is_live(&lease), "after {}", faults.last());
            assert_eq!(
                lease.secret.expose(),
                text(&section(&later)["accessToken"]),
                "after {}",
                faults.last()
            );
            false
        }
        Err(error) => {
            assert_eq!(
                error.code(),
                "refused_after_lost_answer",
                "{error} after {}",
                faults.last()
            );
            true
        }
    };
    assert_eq!(later.ledger().reuses, u64::from(lost), "after {}", faults.last());
    (faults.fired(), lost)
}

fn every_point(config: &ServerConfig, make: impl Fn(usize) -> Faults) -> (usize, usize) {
    world::every_point(|faults| run(config, faults), make)
}

fn no_failing_call_loses_it(errno: Errno) {
    let (points, lost) = every_point(&strict(), |n| {
        Faults::fail_at(n, errno)
            .torn()
            .exchange(ExchangeFault::default())
    });
    assert!(points > 40, "only {points} calls were tried");
    assert_eq!(lost, 0, "{errno:?}");
}

#[test]
fn no_failing_call_loses_a_cooperative_login() {
    no_failing_call_loses_it(Errno::IO);
}

#[test]
fn no_full_disk_loses_a_cooperative_login() {
    no_failing_call_loses_it(Errno::NOSPC);
}

/// The window between the server's answer and the record is as small as for a login of our own.
fn few_crashes_lose_it(make: fn(usize) -> Faults) {
    let (points, lost) = every_point(&strict(), |n| make(n).torn());
    assert!(points > 40, "only {points} calls were tried");
    assert!(lost <= 5, "{lost} of {points} crash points lose a login");
}

#[test]
fn a_crash_before_a_call_loses_a_cooperative_login_only_while_the_answer_is_not_durable() {
    few_crashes_lose_it(Faults::crash_before);
}

#[test]
fn a_crash_after_a_call_loses_a_cooperative_login_only_while_the_answer_is_not_durable() {
    few_crashes_lose_it(Faults::crash_after);
}
