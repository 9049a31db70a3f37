//! The connection: cut at every byte in both directions, and every answer that a server or a proxy can come up with.

use std::time::Duration;

use tokensink_authserver::FaultAction;

use crate::plan::{Act, Caller, Net, Plan};
use crate::run::{Outcome, play};
use crate::sweep::Tally;
use crate::world::{Base, Layout, Server, Spec};

fn base(server: Server) -> Base {
    Base::new(Spec {
        server,
        layout: Layout::Own,
        recorded: true,
        lives: false,
    })
}

fn with(base: &Base, net: Net, wait: Duration) -> Outcome {
    let caller = Caller {
        net: vec![net],
        wait,
        ..Caller::calm()
    };
    let plan = Plan {
        seed: 11,
        acts: vec![
            Act::of(base.spec.start(), caller),
            Act::of(Duration::from_secs(2), Caller::calm()),
        ],
    };
    play(&base.fork(11, false), &plan)
}

const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_cut_at_every_byte_of_the_request_costs_nothing() {
    let base = base(Server::Strict);
    let (length, _) = with(&base, Net::Fine, PATIENCE).lengths;
    let mut tally = Tally::default();
    for at in 0..length {
        let outcome = with(&base, Net::CutRequest(at), PATIENCE);
        assert_eq!(outcome.losses, [], "cut after {at} bytes of the request");
        tally.points += 1;
        tally.note(&format!("request cut at {at}"), Server::Strict, &outcome);
    }
    assert!(tally.points > 200);
    tally.settle("cuts of the request");
}

#[test]
fn a_cut_at_every_byte_of_the_answer_costs_nothing_within_a_grace() {
    let base = base(Server::Grace);
    let (_, length) = with(&base, Net::Fine, PATIENCE).lengths;
    let mut tally = Tally::default();
    for at in 0..=length {
        let outcome = with(&base, Net::CutAnswer(at), PATIENCE);
        tally.points += 1;
        tally.note(&format!("answer cut at {at}"), Server::Grace, &outcome);
    }
    assert!(tally.points > 500);
    tally.settle("cuts of the answer");
}

/// What a server, or something in front of it, answers.
fn answers() -> Vec<(Net, bool)> {
    let omit = |fields: &[&str]| FaultAction::Omit {
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
    };
    let mut answers: Vec<(Net, bool)> = [
        400, 401, 403, 404, 405, 408, 409, 413, 418, 422, 425, 429, 500, 501, 502, 503, 504, 520, 529,
    ]
    .into_iter()
    .flat_map(|status| {
        ["", "<html>", r#"{"error":"temporarily_unavailable"}"#].map(|body| {
            let body = body.to_owned();
            (Net::Answer(FaultAction::Status { status, body }), false)
        })
    })
    .collect();
    let others = [
        (
            Net::Answer(FaultAction::RetryAfter {
                seconds: 7,
                status: 429,
            }),
            false,
        ),
        (
            Net::Answer(FaultAction::RetryAfter {
                seconds: 7,
                status: 503,
            }),
            false,
        ),
        (Net::Answer(FaultAction::CutBeforeHandling), false),
        (Net::Answer(FaultAction::CutBeforeAnswer), true),
        (Net::Answer(FaultAction::Garbage { handled: false }), false),
        (Net::Answer(FaultAction::Garbage { handled: true }), true),
        (Net::Answer(FaultAction::HugeBody { bytes: 500_000 }), false),
        (Net::Answer(FaultAction::HugeBody { bytes: 5_000_000 }), true),
        (Net::Answer(omit(&["refresh_token"])), false),
        (Net::Answer(omit(&["expires_in"])), false),
        (
            Net::Answer(omit(&["refresh_token", "expires_in", "id_token"])),
            false,
        ),
        (Net::Doubled, true),
        (Net::Late(Duration::from_secs(10)), false),
        (Net::Late(Duration::from_secs(59)), false),
    ];
    answers.extend(others);
    answers
}

/// Only what the server has acted on and did not tell can be lost, and only where it has no grace; whether the caller
/// waits for the answer or has left does not matter.
#[test]
fn whatever_is_answered_nothing_is_lost_that_was_not_taken() {
    let mut tally = Tally::default();
    for server in [Server::Strict, Server::Grace, Server::Fixed] {
        let base = base(server);
        for (net, taken) in answers() {
            for wait in [PATIENCE, Duration::from_secs(1)] {
                let name = format!("{net:?} to a caller who waits {wait:?}");
                let outcome = with(&base, net.clone(), wait);
                let may_lose = taken && server == Server::Strict;
                assert_eq!(
                    outcome.losses.is_empty(),
                    !may_lose,
                    "{name}, {server:?}: {:?}",
                    outcome.violations
                );
                tally.points += 1;
                tally.note(&name, server, &outcome);
            }
        }
    }
    tally.settle("answers");
}

/// An answer for somebody else is kept aside. An answer that takes longer than the longest request and the grace
/// together is lost with either server.
#[test]
fn what_no_client_can_save_is_told_with_its_reason() {
    let bob = || {
        let account = "bob".to_owned();
        Net::Answer(FaultAction::WrongAccount { account })
    };
    for server in [Server::Strict, Server::Grace] {
        let base = base(server);
        for net in [bob(), Net::Late(Duration::from_secs(100))] {
            let outcome = with(&base, net.clone(), PATIENCE);
            assert_eq!(outcome.violations, Vec::<String>::new(), "{net:?}, {server:?}");
            assert_eq!(outcome.losses.len(), 1, "{net:?}, {server:?}");
        }
    }
}
