//! Outages of the network and of the server: a hundred tries each, and the first after it works.

use tokensink_authserver::{Fault, FaultAction};
use tokensink_host::ConnectPhase;
use tokensink_sink::{AcquireRequest, ErrorKind};
use tokensink_testkit::Scripted;

use std::time::Duration;

use crate::world::{HOUR, PROFILE, World, request, strict, with_grace};

const TRIES: usize = 100;

fn check(name: &str, world: &World, break_it: impl Fn(&World)) {
    world.test.clock.advance(HOUR);
    let before = world.stored("main", PROFILE)["refresh"].clone();
    for _ in 0..TRIES {
        break_it(world);
        let error = world
            .sink()
            .acquire(&AcquireRequest {
                wait: Duration::ZERO,
                ..request()
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TryAgain, "{name}: {error}");
        assert_eq!(world.stored("main", PROFILE)["refresh"], before, "{name}");
    }
    world.clear_faults();
    let left = world.test.transport.left();
    assert!(left <= TRIES, "{name}");
}

fn recovers(name: &str, world: &World) {
    let lease = world
        .sink()
        .acquire(&request())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(world.is_live(&lease), "{name}");
    assert_eq!(
        (world.ledger().refreshes, world.ledger().reuses),
        (1, 0),
        "{name}"
    );
}

#[test]
fn failed_connections_cost_nothing() {
    for phase in [
        ConnectPhase::Dns,
        ConnectPhase::Tcp,
        ConnectPhase::Proxy,
        ConnectPhase::Tls,
    ] {
        let world = World::logged_in(strict());
        let name = format!("{phase:?}");
        check(&name, &world, |world| {
            world.test.transport.push(Scripted::no_connection(phase));
        });
        assert_eq!(world.test.transport.requests().len(), 0, "{name}");
        recovers(&name, &world);
    }
}

#[test]
fn server_errors_leave_the_token_unspent() {
    let answers = [
        FaultAction::Status {
            status: 500,
            body: "{}".into(),
        },
        FaultAction::Status {
            status: 503,
            body: "<html>maintenance</html>".into(),
        },
        FaultAction::Status {
            status: 403,
            body: "blocked".into(),
        },
        FaultAction::Status {
            status: 400,
            body: r#"{"error":"temporarily_unavailable"}"#.into(),
        },
        FaultAction::Status {
            status: 401,
            body: r#"{"error":"invalid_client"}"#.into(),
        },
        FaultAction::RetryAfter {
            seconds: 20,
            status: 429,
        },
    ];
    for action in answers {
        let world = World::logged_in(strict());
        let name = format!("{action:?}");
        check(&name, &world, |world| {
            world.clear_faults();
            world.push(Fault::on_refresh(action.clone()));
        });
        assert!(
            world.test.transport.requests().len() < TRIES / 2,
            "{name}: back-off keeps the server from a storm"
        );
        recovers(&name, &world);
    }
}

#[test]
fn ambiguous_answers_that_spent_nothing_are_recovered_from() {
    let answers = [
        FaultAction::CutBeforeHandling,
        FaultAction::Garbage { handled: false },
        FaultAction::Status {
            status: 502,
            body: String::new(),
        },
        FaultAction::Status {
            status: 504,
            body: String::new(),
        },
    ];
    for action in answers {
        let world = World::logged_in(strict());
        let name = format!("{action:?}");
        check(&name, &world, |world| {
            world.clear_faults();
            world.push(Fault::on_refresh(action.clone()).times(10));
        });
        recovers(&name, &world);
    }
}

#[test]
fn a_cut_after_the_server_rotated_is_recovered_from_within_its_grace() {
    let world = World::logged_in(with_grace(60));
    world.test.clock.advance(HOUR);
    world.push(Fault::on_refresh(FaultAction::CutBeforeAnswer).times(2));
    recovers("cut after rotation, grace", &world);
}

#[test]
fn a_retry_after_is_obeyed_by_every_process_and_waited_out_by_a_patient_one() {
    let world = World::logged_in(strict());
    world.test.clock.advance(HOUR);
    world.push(Fault::on_refresh(FaultAction::RetryAfter {
        seconds: 40,
        status: 429,
    }));
    let slept = world.test.clock.slept();
    let lease = world.sink().acquire(&request()).unwrap();
    assert!(world.is_live(&lease));
    assert!(
        world.test.clock.slept() - slept >= Duration::from_secs(40),
        "a caller with 90 s to spare waits"
    );
    assert_eq!(world.test.transport.requests().len(), 2);
}
