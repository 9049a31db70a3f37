//! A small world, explored exhaustively: one server, one store, one record, processes that crash, and everything that
//! can go wrong at every step, in every combination up to a number of faults. After each step the invariants are judged
//! from what really happened, after each flight the grant must recover; machines with a mistake show that each
//! invariant can fail.
#![expect(clippy::unwrap_used, reason = "a failure of the world itself fails the test")]
#![expect(clippy::print_stdout, reason = "how much was explored is part of the result")]

mod choice;
mod flying;
#[path = "../shared/mod.rs"]
mod shared;
mod state;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use tokensink_refresh::{Death, Flight, Standing, Verdict};
use tokensink_types::record::{RecordState, Rotation};

use choice::Choices;
use flying::{End, fly};
use shared::invariant::Invariant;
use shared::machine::Machine;
use shared::server::{LIFE, Mode};
use shared::tokens::number;
use shared::variants::{self, Broken, Mistake};
use state::{Scenario, World};

/// What passes between two flights.
const GAPS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(120),
    Duration::from_secs(7200),
];

/// Flights in which a grant must be usable again once faults have stopped.
const RECOVERY_FLIGHTS: usize = 12;

#[derive(Default)]
struct Explorer {
    seen: HashSet<(String, usize, usize)>,
    recovered: HashSet<String>,
    flights: usize,
    runs: usize,
    /// What a variant is meant to break; it is then collected instead of reported.
    wanted: Option<Invariant>,
    broken: BTreeSet<Invariant>,
}

impl Explorer {
    /// Every flight with up to `faults` faults from `world`, and what follows it.
    fn explore<M: Machine>(&mut self, world: &World, flights: usize, faults: usize, story: &str) {
        if flights == 0 || !self.seen.insert((world.key(), flights, faults)) {
            return;
        }
        let mut next = Some(Choices::with_budget(faults));
        while let Some(mut choices) = next.filter(|_| !self.is_done()) {
            let mut after = world.clone();
            let end = fly::<M>(&mut after, &mut choices);
            self.flights += 1;
            let story = format!("{story}\n  faults {:?}, end {end:?}", choices.faults());
            after.lost |= lost(&after);
            self.recover::<M>(&after, &story);
            for gap in GAPS {
                let mut later = after.clone();
                later.time = later.time.plus(gap);
                let story = format!("{story}, then {gap:?}");
                self.explore::<M>(&later, flights - 1, faults - choices.used(), &story);
            }
            next = choices.next();
        }
    }

    /// From here on nothing goes wrong any more: the grant must come back, or name a true reason.
    fn recover<M: Machine>(&mut self, world: &World, story: &str) {
        let mut world = world.clone();
        if self.recovered.insert(world.key()) {
            self.runs += 1;
            let newest = world.newest_refresh();
            let end = self.fly_on::<M>(&mut world);
            if !is_well(&world, &end) || world.newest_refresh() < newest {
                world.broken.insert(Invariant::Live);
            }
            self.report(&world, &format!("{story}\n  recovery ended with {end:?}"));
        } else {
            self.report(&world, story);
        }
    }

    fn fly_on<M: Machine>(&mut self, world: &mut World) -> Option<Verdict> {
        let mut last = None;
        for _ in 0..RECOVERY_FLIGHTS {
            let End::Verdict(verdict) = fly::<M>(world, &mut Choices::with_budget(0)) else {
                return None;
            };
            self.flights += 1;
            let until = match &verdict {
                Verdict::Served { .. } => {
                    let access = world.current().map(|current| current.tokens.access);
                    let works = access
                        .as_ref()
                        .is_some_and(|access| world.server.accepts(number(access.expose()), world.time));
                    if works {
                        return Some(verdict);
                    }
                    // What a clock that was put back takes for fresh, the API rejects.
                    world.demand.rejected = access;
                    None
                }
                Verdict::TryAgain { until, .. } => *until,
                Verdict::LoginNeeded(_) | Verdict::Gone | Verdict::Elsewhere { .. } => return Some(verdict),
            };
            let wait = until.map_or(Duration::from_secs(61), |until| world.wall().until(until));
            world.time = world.time.plus(wait.max(Duration::from_secs(1)));
            last = Some(verdict);
        }
        last
    }

    fn is_done(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.broken.contains(&wanted))
    }

    fn report(&mut self, world: &World, story: &str) {
        self.broken.extend(&world.broken);
        assert!(
            self.wanted.is_some() || world.broken.is_empty(),
            "{:?} broken:{story}\nstore {:?}\nrecord {:?}",
            world.broken,
            world.store,
            world.record
        );
    }
}

/// Has the server issued tokens that are durable nowhere?
fn lost(world: &World) -> bool {
    let issued = world.server.issued_last();
    let parked = matches!(
        world.record.as_ref().map(|record| &record.state),
        Some(RecordState::Parked { .. })
    );
    !parked && world.newest() < Some(issued)
}

fn is_well(world: &World, end: &Option<Verdict>) -> bool {
    match end {
        Some(Verdict::Served { .. }) => world.standing() == Some(Standing::Fresh),
        Some(Verdict::LoginNeeded(Death::Refused {
            after_lost_answer, ..
        })) => {
            // Nothing can tell a key that another program put back from the newest one, once nothing else is left.
            let echo = world.lost && *after_lost_answer;
            world.server_fault || (world.server.revoked && (echo || world.destroyed))
        }
        Some(Verdict::LoginNeeded(Death::OtherAccount)) => world.server_fault,
        _ => false,
    }
}

/// The age of the access token when the first flight starts: within its margin, and dead.
const AGES: [Duration; 2] = [Duration::from_secs(3400), Duration::from_secs(3700)];

fn scenarios(mode: Mode) -> Vec<Scenario> {
    let mut scenarios: Vec<Scenario> = AGES.iter().map(|age| Scenario::new(mode, *age, false)).collect();
    scenarios.push(Scenario::new(mode, LIFE / 2, true));
    scenarios
}

/// Flights in a row, and faults in all of them together.
const FLIGHTS: usize = if cfg!(debug_assertions) { 2 } else { 3 };
const FAULTS: usize = 2;

fn check(name: &str, scenarios: &[Scenario]) {
    let mut explorer = Explorer::default();
    for scenario in scenarios {
        explorer.explore::<Flight>(&World::new(scenario), FLIGHTS, FAULTS, "");
        explorer.seen.clear();
        explorer.recovered.clear();
    }
    println!(
        "{name}: {} flights, {} recoveries explored",
        explorer.flights, explorer.runs
    );
    assert!(explorer.runs > 100, "the world was hardly explored");
}

#[test]
fn strict_server() {
    check("strict", &scenarios(Mode::Strict));
}

#[test]
fn server_with_replay_grace() {
    check("grace", &scenarios(Mode::Grace));
}

#[test]
fn server_that_does_not_rotate() {
    check("no rotation", &scenarios(Mode::NonRotating));
}

#[test]
fn server_that_does_not_rotate_and_nobody_said_so() {
    let mut scenarios = scenarios(Mode::NonRotating);
    for scenario in &mut scenarios {
        scenario.policy.rotation = Rotation::Unknown;
    }
    check("no rotation, undeclared", &scenarios);
}

/// Explores a machine with a mistake until it breaks `invariant`.
fn breaks<M: Mistake>(invariant: Invariant) -> bool {
    let mut explorer = Explorer {
        wanted: Some(invariant),
        ..Explorer::default()
    };
    for scenario in scenarios(Mode::Strict) {
        explorer.explore::<Broken<M>>(&World::new(&scenario), FLIGHTS, FAULTS, "");
    }
    explorer.is_done()
}

#[test]
fn every_invariant_can_fail() {
    let cases = [
        (
            "skips admit",
            breaks::<variants::SkipsAdmit> as fn(Invariant) -> bool,
            Invariant::RecordedFirst,
        ),
        ("skips admit", breaks::<variants::SkipsAdmit>, Invariant::SendOnce),
        (
            "forgets doubt",
            breaks::<variants::ForgetsDoubt>,
            Invariant::SendOnce,
        ),
        (
            "ignores ancestors",
            breaks::<variants::IgnoresAncestors>,
            Invariant::SendOnce,
        ),
        (
            "ignores back-off",
            breaks::<variants::IgnoresBackOff>,
            Invariant::BackOff,
        ),
        (
            "hands out early",
            breaks::<variants::HandsOutEarly>,
            Invariant::Durable,
        ),
        (
            "serves anything",
            breaks::<variants::ServesAnything>,
            Invariant::Serves,
        ),
        ("blanks", breaks::<variants::Blanks>, Invariant::Kept),
        (
            "trusts any account",
            breaks::<variants::TrustsAnyAccount>,
            Invariant::Account,
        ),
        (
            "never gives up",
            breaks::<variants::NeverGivesUp>,
            Invariant::Ends,
        ),
        ("never repeats", breaks::<variants::NeverRepeats>, Invariant::Live),
    ];
    for (mistake, breaks, invariant) in cases {
        assert!(breaks(invariant), "a machine that {mistake} keeps {invariant:?}");
    }
}
