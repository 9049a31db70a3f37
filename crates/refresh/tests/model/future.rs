//! What becomes of a state when nothing goes wrong any more: whoever is under way comes to an end, and then each place
//! is asked for a token until it has one that works, or a true reason for a login. It is what the checker's own
//! `eventually` cannot say, which is not sound where paths meet again.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use tokensink_refresh::Standing;

use crate::model::Refreshing;
use crate::shared::invariant::Invariant;
use crate::shared::machine::Machine;
use crate::state::{COPY, MAIN, NO_ORPHAN, PLACE_OF, State, Wire, bit, harm};
use crate::stepping::Step;
use crate::tables::{End, Id};

/// A flight has no need of more actions than this.
const ACTIONS_MAX: usize = 120;
/// Flights in which a grant must be usable again once faults have stopped.
const FLIGHTS_MAX: usize = 12;
/// The pause between two of them where nothing better is known.
const PAUSE: i64 = 61_000;

/// How a place ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The API takes its access token.
    Works,
    /// Main has a newer one.
    Elsewhere,
    LoginNeeded,
    Stuck,
}

impl<M: Machine + Clone + Debug + PartialEq> Refreshing<M> {
    /// The invariants that `state` or its fault-free future breaks.
    pub(crate) fn broken(&self, state: &State) -> u16 {
        state.past.broken | self.future(state)
    }

    fn future(&self, state: &State) -> u16 {
        let mut calm = state.calm();
        let mut path = Vec::new();
        let bits = self.settle(&mut calm, &mut path);
        for fingerprint in path {
            self.futures.insert(fingerprint, bits);
        }
        bits
    }

    /// Lets whoever is under way come to an end.
    fn settle(&self, state: &mut State, path: &mut Vec<u64>) -> u16 {
        for _ in 0..3 * ACTIONS_MAX {
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            let fingerprint = hasher.finish();
            if let Some(known) = self.futures.get(&fingerprint) {
                return known;
            }
            path.push(fingerprint);
            let Some(step) = self.harmless(state) else {
                return self.rest(state) | state.past.broken;
            };
            self.take(state, step);
        }
        bit(Invariant::Ends)
    }

    /// The next step of somebody who is under way.
    fn harmless(&self, state: &State) -> Option<Step> {
        if state.orphans[0] != NO_ORPHAN {
            return Some(Step::HandleOrphan(0));
        }
        if state.neighbour.is_busy() {
            return Some(Step::Neighbour);
        }
        (0..3).find_map(|slot| {
            let flying = state.processes[slot].flying.as_ref()?;
            Some(match flying.wire {
                Wire::Sent(_) => Step::Handle(slot),
                _ if flying.paused => Step::Resume(slot),
                Wire::Silent => Step::Act(slot),
                Wire::Reply(_) => Step::Deliver(slot),
            })
        })
    }

    /// From a state in which nobody is under way. Whoever is asked first, the outcome must be right.
    fn rest(&self, state: &State) -> u16 {
        let token = self.newest(state, MAIN).max(self.newest(state, COPY));
        let server = self.servers.get(state.server);
        let is_live = !server.revoked && token.map(u32::from) == Some(server.refresh);
        let counter = if is_live { &self.live } else { &self.lost };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut broken = 0;
        for order in [[MAIN, COPY], [COPY, MAIN]] {
            if self.aloud.load(Ordering::Relaxed) {
                println!("  asked in the order {order:?}, live {is_live}");
            }
            let mut state = state.clone();
            let outcomes = order.map(|place| (place, self.ask(&mut state, place)));
            if self.aloud.load(Ordering::Relaxed) {
                println!("  outcomes {outcomes:?}");
            }
            let well = outcomes
                .iter()
                .all(|(place, outcome)| self.is_well(&state, is_live, *place, *outcome));
            if !well {
                broken |= bit(Invariant::Live);
            }
            broken |= state.past.broken;
        }
        broken
    }

    fn is_well(&self, state: &State, is_live: bool, place: usize, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Works => true,
            Outcome::Elsewhere => place == COPY,
            Outcome::LoginNeeded if is_live => state.past.harm & harm::OTHER_ACCOUNT != 0,
            Outcome::LoginNeeded => state.past.harm != 0,
            Outcome::Stuck => false,
        }
    }

    /// Asks for a token that works, again and again, waiting as told.
    fn ask(&self, state: &mut State, place: usize) -> Outcome {
        let slot = if place == MAIN { MAIN } else { COPY + 1 };
        let mut rejected = None;
        for _ in 0..FLIGHTS_MAX {
            let Some(end) = self.fly(state, slot, rejected) else {
                state.breaks(Invariant::Ends);
                return Outcome::Stuck;
            };
            let until = match end {
                End::Served => {
                    let counts = self.look(state, place, rejected).0;
                    let access = u32::from(self.facts(counts).access);
                    if self.servers.get(state.server).accepts(access, state.now()) {
                        return Outcome::Works;
                    }
                    // What a clock that was put back takes for fresh, the API rejects.
                    rejected = Some(counts);
                    None
                }
                End::TryAgain { until } => until,
                End::Elsewhere => return Outcome::Elsewhere,
                End::LoginNeeded | End::OtherAccount | End::Gone => return Outcome::LoginNeeded,
            };
            let wait = until.map_or(PAUSE, |until| until - state.wall().0);
            state.time += wait.max(1000);
        }
        Outcome::Stuck
    }

    /// One flight without faults; `None` when it does not end.
    fn fly(&self, state: &mut State, slot: usize, rejected: Option<Id>) -> Option<End> {
        let place = PLACE_OF[slot];
        if matches!(self.look(state, place, rejected), (_, false, Standing::Fresh)) {
            return Some(End::Served);
        }
        self.start_flight(state, slot);
        let refused = rejected.map(|rejected| self.facts(rejected).access);
        let scenario = state.scenario;
        self.with(state, slot, |flying| {
            flying.flight = self.start(scenario, place, flying.pid, rejected).0;
            flying.rejected = refused.unwrap_or(flying.rejected);
        });
        for _ in 0..ACTIONS_MAX {
            let flying = state.processes[slot].flying.as_ref()?;
            let step = match flying.wire {
                Wire::Silent => Step::Act(slot),
                Wire::Sent(_) => Step::Handle(slot),
                Wire::Reply(_) => Step::Deliver(slot),
            };
            if let Some(end) = self.take(state, step) {
                return Some(end);
            }
        }
        None
    }
}
