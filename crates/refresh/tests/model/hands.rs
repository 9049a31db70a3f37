//! The hands of the machine in the model, and the judge: what each action does to the world, and whether the promise
//! was kept, judged from what really happened.

use std::fmt::Debug;

use tokensink_refresh::Standing;

use crate::model::{Facts, Lapse, Refreshing};
use crate::shared::invariant::Invariant;
use crate::shared::machine::Machine;
use crate::shared::server::Mode;
use crate::state::{COPY, Change, Flying, Habit, MAIN, PLACE_OF, Request, State, Wire, harm};
use crate::tables::{Act, End, Id, Told};

impl<M: Machine + Clone + Debug + PartialEq> Refreshing<M> {
    /// Performs the action that the machine of `slot` asks for.
    pub(crate) fn act(&self, state: &mut State, slot: usize) -> Option<End> {
        let flying = state.processes[slot].flying.clone()?;
        let place = PLACE_OF[slot];
        let told = match flying.act {
            Act::Read => {
                let reading = self.read(state, place);
                self.with(state, slot, |flying| {
                    flying.begins = false;
                    flying.newest_read = reading.newest;
                    flying.rival = reading.rival;
                    flying.overwritten = None;
                });
                reading.told
            }
            Act::Connect => Told::Connected,
            Act::Admit(record) => self.admit(state, slot, record, &flying),
            Act::Record(record) => {
                self.write_record(state, slot, record);
                Told::Recorded
            }
            Act::Commit { expected, generation } => self.commit(state, slot, expected, generation),
            Act::Send(sent) => {
                self.leave(state, slot, sent, &flying);
                return None;
            }
            Act::Wait => Told::Waited,
            Act::Finish(_) => return None,
        };
        self.tell(state, slot, told)
    }

    /// Checks that no rival has moved since it was read, then makes the record durable.
    fn admit(&self, state: &mut State, slot: usize, record: Id, flying: &Flying) -> Told {
        let other = state.places[1 - PLACE_OF[slot]].record;
        let key = self.record_facts(record).sent.map(|(key, _)| key);
        let moved = key.is_some_and(|key| self.knows(other, key)) && flying.rival != Some(other);
        if moved && self.lapse != Lapse::AdmitsBlindly {
            return Told::Rival;
        }
        self.write_record(state, slot, record);
        Told::Admitted
    }

    fn commit(&self, state: &mut State, slot: usize, expected: Id, generation: Id) -> Told {
        let place = PLACE_OF[slot];
        let found = state.places[place].store;
        if self.facts(found).key != expected {
            return Told::Conflict(found);
        }
        let before = self.newest(state, place);
        let image = self.store(generation);
        self.replace_store(state, place, image);
        self.with(state, slot, |flying| flying.overwritten = None);
        if self.facts(image).refresh.is_none() {
            state.breaks(Invariant::Kept);
        }
        self.on_durable(state, slot, before);
        Told::Committed
    }

    fn write_record(&self, state: &mut State, slot: usize, record: Id) {
        let place = PLACE_OF[slot];
        let before = self.newest(state, place);
        state.places[place].record = record;
        let tombstone = self.record_facts(record).tombstone;
        state.past.tombstones |= tombstone.map_or(0, |token| 1 << token);
        self.on_durable(state, slot, before);
    }

    /// After a write of ours: nothing is taken away, nothing of another account is taken in.
    fn on_durable(&self, state: &mut State, slot: usize, before: Option<u8>) {
        let place = PLACE_OF[slot];
        if self.newest(state, place) < before {
            state.breaks(Invariant::Kept);
        }
        if self.durable(state, place).any(|facts| facts.foreign) {
            state.breaks(Invariant::Account);
        }
        let newest = self.newest_access(state);
        state.past.kept_once = state.past.kept_once.max(newest);
        let kept_once = state.past.kept_once;
        self.with(state, slot, |flying| {
            if flying.granted <= kept_once {
                flying.granted = 0;
            }
        });
    }

    fn replace_store(&self, state: &mut State, place: usize, image: Id) {
        let replaced = std::mem::replace(&mut state.places[place].store, image);
        if state.left.stale > 0 && replaced != image {
            let mut past = (*self.lists.get(state.places[place].past)).clone();
            past.push(replaced);
            past.sort_unstable();
            past.dedup();
            state.places[place].past = self.lists.number(past);
        }
    }

    /// Another program writes the store, under no rule of ours.
    pub(crate) fn write_from_outside(&self, state: &mut State, place: usize, image: Id) {
        let newest = |state: &State| self.newest(state, MAIN).max(self.newest(state, COPY));
        let before = newest(state);
        let replaced = state.places[place].store;
        self.replace_store(state, place, image);
        if newest(state) < before {
            state.past.harm |= harm::DESTROYED;
        }
        for slot in (0..3).filter(|slot| PLACE_OF[*slot] == place) {
            self.with(state, slot, |flying| {
                flying.overwritten = flying.overwritten.or(Some(replaced));
            });
        }
        state.past.kept_once = state.past.kept_once.max(self.newest_access(state));
    }

    /// Answers the machine, and judges what it wants next; tells how the flight ended, if it did.
    pub(crate) fn tell(&self, state: &mut State, slot: usize, told: Told) -> Option<End> {
        let wall = state.wall();
        let flying = state.processes[slot].flying.as_mut()?;
        let (flight, act) = self.tables.step(flying.flight, told, wall);
        (flying.flight, flying.act, flying.wire) = (flight, act, Wire::Silent);
        match act {
            Act::Admit(_) => (flying.admitted_at, flying.admitted_jumps) = (wall.0, state.past.jumps),
            Act::Send(sent) => self.on_send(state, slot, sent),
            Act::Finish(end) => {
                if end == End::Served {
                    self.on_served(state, slot);
                }
                state.processes[slot].flying = None;
                return Some(end);
            }
            Act::Read | Act::Connect | Act::Record(_) | Act::Commit { .. } | Act::Wait => {}
        }
        None
    }

    /// The answer reaches the process.
    pub(crate) fn deliver(&self, state: &mut State, slot: usize) -> Option<End> {
        let flying = state.processes[slot].flying.as_mut()?;
        let Wire::Reply(told) = flying.wire else {
            return None;
        };
        if let Told::Granted(answer) = told {
            let act = flying.act;
            let facts = self.facts(answer);
            flying.granted = facts.access;
            self.on_granted(state, act, facts);
        }
        self.tell(state, slot, told)
    }

    /// The server has answered, and let the token live.
    fn on_granted(&self, state: &mut State, act: Act, answer: Facts) {
        let Act::Send(sent) = act else { return };
        let sent = self.facts(sent);
        if let Some(token) = sent.refresh.filter(|_| sent.key == answer.key) {
            self.change_requests(state, Change::Alive(token));
        }
    }

    /// Judges the decision to send, by what could be known then.
    fn on_send(&self, state: &mut State, slot: usize, sent: Id) {
        let facts = self.facts(sent);
        let (Some(token), Some(flying)) = (facts.refresh, state.processes[slot].flying.clone()) else {
            return;
        };
        let record = state.places[PLACE_OF[slot]].record;
        if self.record_facts(record).sent.map(|(key, _)| key) != Some(facts.key) {
            state.breaks(Invariant::RecordedFirst);
        }
        let newest_read = std::mem::take(&mut state.processes[slot].flying.as_mut().unwrap().newest_read);
        if self.scenario(state).mode == Mode::NonRotating {
            return;
        }
        let superseded = newest_read > token || state.past.tombstones & (1 << token) != 0;
        let under_way = (0..3).filter(|other| *other != slot).any(|other| {
            let flying = state.processes[other].flying.as_ref();
            flying.is_some_and(|flying| self.is_sending(flying, facts.key))
        });
        if superseded || under_way {
            state.breaks(Invariant::SendOnce);
        }
        self.judge_repetition(state, token, facts, &flying);
    }

    fn is_sending(&self, flying: &Flying, key: Id) -> bool {
        matches!(flying.act, Act::Send(sent) if self.facts(sent).key == key)
    }

    /// Cases (c) and (d) of the promise, and the waits between repetitions.
    fn judge_repetition(&self, state: &mut State, token: u8, sent: Facts, flying: &Flying) {
        let requests = self.requests.get(state.past.requests);
        let earlier: Vec<&Request> = requests.iter().filter(|request| request.token == token).collect();
        let (Some(first), Some(last)) = (earlier.first(), earlier.last()) else {
            return;
        };
        let scenario = self.scenario(state);
        let wall = state.wall().0;
        // A clock that was put back by as much as has passed deceives every process.
        let grace = i64::try_from(scenario.mode.policy().replay_grace.as_millis()).unwrap();
        let within = |from: i64, now: i64| from <= now && now - from < grace;
        let in_grace = within(first.wall, wall) || within(first.at, state.time);
        let dead = sent.access == flying.rejected || sent.expires <= wall;
        let at_once = last.jumps == state.past.jumps && last.wall == wall;
        let allowed = if in_grace { 2 } else { 1 };
        let too_often = at_once && earlier.len() > allowed;
        if !in_grace && !dead {
            state.breaks(Invariant::SendOnce);
        }
        if too_often {
            state.breaks(Invariant::BackOff);
        }
    }

    /// The request leaves; from now on its token may be spent.
    fn leave(&self, state: &mut State, slot: usize, sent: Id, flying: &Flying) {
        let wall = state.wall().0;
        let Some(token) = self.facts(sent).refresh else {
            return;
        };
        if self.scenario(state).mode != Mode::NonRotating {
            self.note_request(state, slot, token, flying);
        }
        self.with(state, slot, |flying| {
            (flying.wire, flying.rival) = (Wire::Sent(wall), None);
            (flying.admitted_at, flying.admitted_jumps) = (0, 0);
        });
        self.on_clash(state, token);
    }

    fn note_request(&self, state: &mut State, slot: usize, token: u8, flying: &Flying) {
        let request = Request {
            token,
            from: PLACE_OF[slot],
            // It matters only where there is a grace.
            at: if self.scenario(state).mode == Mode::Grace {
                state.time
            } else {
                0
            },
            wall: flying.admitted_at,
            jumps: flying.admitted_jumps,
        };
        self.change_requests(state, Change::Sent(request));
    }

    /// The other program and we have both sent `token`, or it has sent one that was spent before. That is a true
    /// reason for a login where nothing kept us apart: it takes no lock, the request came from the copy, which it knows
    /// nothing of, or a fault came between.
    pub(crate) fn on_clash(&self, state: &mut State, token: u8) {
        if state.neighbour.token() != Some(token) {
            return;
        }
        let requests = self.requests.get(state.past.requests);
        let ours = requests.iter().find(|request| request.token == token);
        let superseded = self.newest(state, MAIN).max(self.newest(state, COPY)) > Some(token);
        if ours.is_none() && !superseded {
            return;
        }
        let lockless = self.scenario(state).neighbour == Some(Habit::Lockless);
        let from_copy = ours.is_some_and(|ours| ours.from == COPY);
        if lockless || from_copy || state.left.faults < self.bounds.left.faults {
            state.past.harm |= harm::CLASH;
        }
    }

    /// Someone was told that the grant serves.
    fn on_served(&self, state: &mut State, slot: usize) {
        let Some(flying) = state.processes[slot].flying.clone() else {
            return;
        };
        if flying.granted > state.past.kept_once {
            state.breaks(Invariant::Durable);
        }
        // Another program may meanwhile have destroyed the only copy, have put back tokens that the record does not know,
        // or an access token that a wrong clock makes look newer.
        let disturbed = state.past.harm & harm::DESTROYED != 0 || flying.granted > self.newest_access(state);
        // What somebody wrote since the flight read cannot be seen by it, no more than what is written just after its end:
        // it is judged by what it has read. Nobody hands out on its word alone; the store is read again.
        let mut read = state.clone();
        if let Some(store) = flying.overwritten {
            read.places[PLACE_OF[slot]].store = store;
        }
        let (counts, _, standing) = self.look(&read, PLACE_OF[slot], None);
        let counts = self.facts(counts);
        let unrotated = self.scenario(state).mode == Mode::NonRotating && flying.granted > counts.access;
        let behind = unrotated || counts.refresh < self.newest(&read, PLACE_OF[slot]);
        if !disturbed && !behind && standing != Standing::Fresh {
            state.breaks(Invariant::Serves);
        }
    }
}
