//! The model: three processes, two owner stores of one grant, another program that refreshes it too, and a server,
//! explored by a model checker within bounds: every order of their steps, with crashes, a pause, a jump of the clock,
//! a stale write by a foreign program and a spoilt request wherever they can happen. The processes run the machine of
//! production itself. Broken variants show that each invariant can fail.
#![expect(clippy::unwrap_used, reason = "a failure of the model itself fails the test")]
#![expect(clippy::print_stdout, reason = "how much was explored is part of the result")]

mod future;
mod hands;
mod mistakes;
mod model;
#[path = "../shared/mod.rs"]
mod shared;
mod state;
mod stepping;
mod tables;
mod words;

use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};
use tokensink_refresh::Flight;

use mistakes::{
    ForgetsRefusals, IgnoresHolders, IgnoresRivals, IgnoresTheirBackOff, StretchesTheGrace,
    TakesRivalsForDead,
};
use model::{Bounds, Lapse, Refreshing};
use shared::invariant::Invariant;
use shared::machine::Machine;
use shared::server::{LIFE, Mode};
use shared::variants::{
    Blanks, Broken, ForgetsDoubt, HandsOutEarly, IgnoresAncestors, IgnoresBackOff, NeverGivesUp,
    NeverRepeats, ServesAnything, SkipsAdmit, TrustsAnyAccount,
};
use state::{Habit, Left, Scenario, State, bit};
use stepping::Step;

const PROMISE: &str = "the promise is kept";

impl<M> Model for Refreshing<M>
where
    M: Machine + Clone + Debug + PartialEq + Send + Sync + 'static,
{
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        (0..self.scenarios.len())
            .map(|index| self.initial(index))
            .collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.past.broken & self.wanted == 0 {
            self.steps(state, steps);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        self.take(&mut next, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(PROMISE, |model, state| {
            model.broken(state) & model.wanted == 0
        })]
    }
}

/// What the issue asks for, `faults` of it in one story; the passing of time counts for none.
fn bounds(faults: u8) -> Bounds {
    Bounds {
        left: Left {
            faults,
            crashes: 2,
            pauses: 1,
            jumps: 1,
            stale: 1,
            spoilt: 1,
            shorts: 1,
            longs: 1,
        },
        runs: 1,
    }
}

/// The stories of a server: of main's login in our own store, first without more, then rejected by an API, then with a
/// copy that may not look at main; and in the file of another program, with a lock for its refresh and without.
fn scenarios(mode: Mode) -> [Scenario; 5] {
    let plain = Scenario::new(mode);
    let rejected = Scenario {
        age: LIFE / 2,
        rejected: true,
        ..plain.clone()
    };
    let apart = Scenario {
        inherits: false,
        ..plain.clone()
    };
    let beside = |habit| Scenario {
        neighbour: Some(habit),
        ..plain.clone()
    };
    let (locking, lockless) = (beside(Habit::Locking), beside(Habit::Lockless));
    [plain, rejected, apart, locking, lockless]
}

fn check(name: &str, scenarios: &[Scenario], bounds: &Bounds) {
    #[expect(clippy::disallowed_methods, reason = "how long it took is part of the result")]
    let begun = Instant::now();
    let model = Refreshing::<Flight>::new(scenarios.to_vec(), bounds.clone(), Lapse::None, u16::MAX);
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let model = checker.model();
    println!(
        "{name}, {} faults: {} states ({} generated), depth {}, {} steps of the machine; ends: {} live, {} with a true reason for a login; {:.1} s",
        bounds.left.faults,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        model.tables.steps(),
        model.live.load(Ordering::Relaxed),
        model.lost.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    );
    if let Some(path) = checker.discovery(PROMISE) {
        tell(model, &path.into_vec());
    }
}

/// Tells a story that ends badly, and fails.
fn tell(model: &Refreshing<Flight>, path: &[(State, Option<Step>)]) {
    let mut before = None;
    for (state, step) in path {
        println!("{}\n  {step:?}", model.changes(before, state));
        before = Some(state);
    }
    let (last, _) = path.last().unwrap();
    println!("and then, without faults:");
    model.futures.clear();
    model.aloud.store(true, Ordering::Relaxed);
    panic!("broken: {:?}", names(model.broken(last)));
}

fn names(broken: u16) -> Vec<Invariant> {
    let all = [
        Invariant::SendOnce,
        Invariant::BackOff,
        Invariant::RecordedFirst,
        Invariant::Durable,
        Invariant::Serves,
        Invariant::Kept,
        Invariant::Account,
        Invariant::Ends,
        Invariant::Live,
    ];
    let is_broken = |invariant: &Invariant| broken & bit(*invariant) != 0;
    all.into_iter().filter(is_broken).collect()
}

fn is_full() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "the long run is asked for in the environment"
    )]
    let asked = std::env::var_os("TOKENSINK_TEST_FULL");
    asked.is_some_and(|value| value == "1")
}

/// All that the issue asks for, in one story.
const ALL_FAULTS: u8 = 5;

/// Every single fault in every story; in the full run every pair, and all that the issue asks for in the plain one.
fn explore(name: &str, mode: Mode) {
    let mut stories = scenarios(mode).to_vec();
    if is_full() {
        for (story, index) in stories.iter().zip(1..) {
            let name = format!("{name}, story {index}");
            check(&name, std::slice::from_ref(story), &bounds(2));
        }
        check(&format!("{name}, story 1"), &stories[..1], &asked_for(ALL_FAULTS));
        return;
    }
    if mode == Mode::NonRotating {
        // Who is not kept apart costs most states, and where nothing is spent nobody need be kept apart.
        stories.pop();
    }
    check(name, &stories, &bounds(1));
}

/// Without what the network spoils: a crash loses an answer, too.
fn asked_for(faults: u8) -> Bounds {
    let mut bounds = bounds(faults);
    bounds.left.spoilt = 0;
    bounds
}

#[test]
fn strict_server() {
    explore("strict", Mode::Strict);
}

#[test]
fn server_with_replay_grace() {
    explore("grace", Mode::Grace);
}

#[test]
fn server_that_does_not_rotate() {
    explore("no rotation", Mode::NonRotating);
}

#[test]
fn several_faults_in_one_story() {
    let stories = scenarios(Mode::Strict);
    if is_full() {
        check("strict, story 4", &stories[3..4], &asked_for(3));
    } else {
        check("strict, story 1", &stories[..1], &asked_for(2));
    }
}

/// All that the issue asks for at once, and with it another program beside us that holds a lock for its refresh.
fn all_faults_beside_a_neighbour(name: &str, mode: Mode) {
    let stories = scenarios(mode);
    check(
        &format!("{name}, story 4"),
        &stories[3..4],
        &asked_for(ALL_FAULTS),
    );
}

#[test]
#[ignore = "hundreds of millions of states; docs/simulation.md says how to run it"]
fn all_faults_beside_a_neighbour_strict() {
    all_faults_beside_a_neighbour("strict", Mode::Strict);
}

#[test]
#[ignore = "hundreds of millions of states; docs/simulation.md says how to run it"]
fn all_faults_beside_a_neighbour_grace() {
    all_faults_beside_a_neighbour("grace", Mode::Grace);
}

#[test]
#[ignore = "hundreds of millions of states; docs/simulation.md says how to run it"]
fn all_faults_beside_a_neighbour_no_rotation() {
    all_faults_beside_a_neighbour("no rotation", Mode::NonRotating);
}

/// Explores a machine with a mistake, or hands with one, until it breaks `invariant`.
fn breaks<M>(invariant: Invariant, lapse: Lapse) -> bool
where
    M: Machine + Clone + Debug + PartialEq + Send + Sync + 'static,
{
    breaks_with::<M>(Mode::Strict, invariant, lapse)
}

/// The same with another server.
fn breaks_with<M>(mode: Mode, invariant: Invariant, lapse: Lapse) -> bool
where
    M: Machine + Clone + Debug + PartialEq + Send + Sync + 'static,
{
    scenarios(mode).into_iter().any(|scenario| {
        let model = Refreshing::<M>::new(vec![scenario], bounds(2), lapse, bit(invariant));
        let checker = model
            .checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .target_state_count(STATES_OF_A_VARIANT)
            .spawn_bfs()
            .join();
        checker.discovery(PROMISE).is_some()
    })
}

/// A mistake that shows only later counts as not found.
const STATES_OF_A_VARIANT: usize = 400_000;

#[test]
fn every_invariant_can_fail() {
    type Breaks = fn(Invariant, Lapse) -> bool;
    let cases: [(&str, Breaks, Invariant); 16] = [
        (
            "skips admit",
            breaks::<Broken<SkipsAdmit>>,
            Invariant::RecordedFirst,
        ),
        ("skips admit", breaks::<Broken<SkipsAdmit>>, Invariant::SendOnce),
        (
            "forgets doubt",
            breaks::<Broken<ForgetsDoubt>>,
            Invariant::SendOnce,
        ),
        (
            "ignores ancestors",
            breaks::<Broken<IgnoresAncestors>>,
            Invariant::SendOnce,
        ),
        (
            "ignores rivals",
            breaks::<Broken<IgnoresRivals>>,
            Invariant::SendOnce,
        ),
        (
            "takes rivals for dead",
            breaks::<Broken<TakesRivalsForDead>>,
            Invariant::SendOnce,
        ),
        (
            "forgets refusals",
            breaks::<Broken<ForgetsRefusals>>,
            Invariant::SendOnce,
        ),
        (
            "ignores holders",
            breaks::<Broken<IgnoresHolders>>,
            Invariant::Live,
        ),
        (
            "ignores back-off",
            breaks::<Broken<IgnoresBackOff>>,
            Invariant::BackOff,
        ),
        (
            "ignores their back-off",
            breaks::<Broken<IgnoresTheirBackOff>>,
            Invariant::BackOff,
        ),
        (
            "hands out early",
            breaks::<Broken<HandsOutEarly>>,
            Invariant::Durable,
        ),
        (
            "serves anything",
            breaks::<Broken<ServesAnything>>,
            Invariant::Serves,
        ),
        ("blanks", breaks::<Broken<Blanks>>, Invariant::Kept),
        (
            "trusts any account",
            breaks::<Broken<TrustsAnyAccount>>,
            Invariant::Account,
        ),
        ("never gives up", breaks::<Broken<NeverGivesUp>>, Invariant::Ends),
        ("never repeats", breaks::<Broken<NeverRepeats>>, Invariant::Live),
    ];
    for (mistake, breaks, invariant) in cases {
        let found = breaks(invariant, Lapse::None);
        assert!(found, "a machine that {mistake} keeps {invariant:?}");
    }
    // A grace is as long as the server says and no longer.
    let found = breaks_with::<Broken<StretchesTheGrace>>(Mode::Grace, Invariant::SendOnce, Lapse::None);
    assert!(
        found,
        "a machine that stretches the grace keeps {:?}",
        Invariant::SendOnce
    );
    for lapse in [Lapse::AdmitsBlindly, Lapse::BreaksLocks] {
        let found = breaks::<Flight>(Invariant::SendOnce, lapse);
        assert!(found, "{lapse:?} keeps {:?}", Invariant::SendOnce);
    }
}
