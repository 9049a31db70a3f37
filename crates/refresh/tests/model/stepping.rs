//! The steps: a process begins, takes one action of its machine, or is struck by a fault; the server handles a
//! request; the other program follows its habits; time passes.

use std::fmt::Debug;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokensink_refresh::Standing;

use crate::model::{Lapse, Refreshing};
use crate::shared::machine::Machine;
use crate::state::{
    COPY, Change, Flying, Habit, JUMP, LONG, MAIN, NO_ORPHAN, NOTHING, Neighbour, PLACE_OF, SHORT, State,
    Wire, harm,
};
use crate::tables::{Act, End, Id, Told};

/// One step of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The process takes its place's lock and begins a flight.
    Start(usize),
    /// It performs its machine's action; a request leaves.
    Act(usize),
    /// The server handles its request.
    Handle(usize),
    /// The answer arrives.
    Deliver(usize),
    Crash {
        slot: usize,
        /// Its request reaches the server all the same, at some time.
        orphan: bool,
    },
    Pause(usize),
    Resume(usize),
    NotWritten(usize),
    /// The connection is cut; of a request that the server has not handled yet, `orphan` still reaches it.
    Cut {
        slot: usize,
        orphan: bool,
    },
    /// The server answers 503.
    Unavailable(usize),
    /// The server answers with another account's tokens.
    OtherAccount(usize),
    HandleOrphan(usize),
    Jump(i64),
    /// Another program writes back an older content of the store as a whole.
    Stale {
        place: usize,
        image: Id,
    },
    Neighbour,
    Pass(Duration),
}

/// How long before the end of the token the other program refreshes.
const THEIR_MARGIN: i64 = 300_000;

impl<M: Machine + Clone + Debug + PartialEq> Refreshing<M> {
    pub(crate) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        for slot in 0..3 {
            if let Some(flying) = &state.processes[slot].flying
                && self.steps_alone(state, slot, flying, steps)
            {
                return;
            }
        }
        for slot in 0..3 {
            match &state.processes[slot].flying {
                None if self.may_start(state, slot) => steps.push(Step::Start(slot)),
                None => {}
                Some(flying) => self.steps_of(state, slot, flying, steps),
            }
        }
        let orphans = [0, 1].into_iter();
        steps.extend(
            orphans
                .filter(|index| state.orphans[*index] != NO_ORPHAN)
                .map(Step::HandleOrphan),
        );
        if state.neighbour.is_busy() || self.neighbour_may_begin(state) {
            steps.push(Step::Neighbour);
        }
        if state.left.jumps > 0 {
            steps.extend([Step::Jump(JUMP), Step::Jump(-JUMP)]);
        }
        if state.left.stale > 0 {
            for place in [MAIN, COPY] {
                let at = &state.places[place];
                let past = self.lists.get(at.past);
                let images = past.iter().filter(|image| **image != at.store);
                steps.extend(images.map(|image| Step::Stale { place, image: *image }));
            }
        }
        self.passing(state, steps);
    }

    /// A step that no other process can see or disturb, so that it may as well come first; only what befalls it itself is
    /// tried, too. That goes for as long as the clock cannot jump between the steps of others, and where the step may
    /// come late, for as long as time cannot pass.
    fn steps_alone(&self, state: &State, slot: usize, flying: &Flying, steps: &mut Vec<Step>) -> bool {
        let left = &state.left;
        let steady = left.jumps == 0;
        match (flying.wire, flying.act) {
            _ if flying.paused => return false,
            // Whoever has taken the lock reads; others that act in between might as well have acted before.
            (Wire::Silent, Act::Read) if flying.begins => {
                steps.push(Step::Act(slot));
                return true;
            }
            (Wire::Silent, Act::Connect) if steady => steps.push(Step::Act(slot)),
            (Wire::Silent, Act::Send(_)) if steady => {
                steps.push(Step::Act(slot));
                if left.spoilt > 0 {
                    steps.push(Step::NotWritten(slot));
                }
            }
            // Nobody but a foreign writer looks into the copy's store.
            (Wire::Silent, Act::Commit { .. }) if steady && PLACE_OF[slot] == COPY && left.stale == 0 => {
                steps.push(Step::Act(slot));
                if left.crashes > 0 {
                    steps.push(Step::Crash { slot, orphan: false });
                }
            }
            (Wire::Reply(_), _) if steady && left.shorts == 0 => {
                steps.push(Step::Deliver(slot));
                if left.spoilt > 0 {
                    steps.push(Step::Cut { slot, orphan: false });
                }
            }
            _ => return false,
        }
        if left.pauses > 0 {
            steps.push(Step::Pause(slot));
        }
        true
    }

    fn steps_of(&self, state: &State, slot: usize, flying: &Flying, steps: &mut Vec<Step>) {
        let left = &state.left;
        let is_out = matches!(flying.wire, Wire::Sent(_));
        if is_out {
            steps.push(Step::Handle(slot));
        }
        if left.crashes > 0 {
            steps.push(Step::Crash { slot, orphan: false });
            if is_out {
                steps.push(Step::Crash { slot, orphan: true });
            }
        }
        if flying.paused {
            steps.push(Step::Resume(slot));
            return;
        }
        if left.pauses > 0 {
            steps.push(Step::Pause(slot));
        }
        match flying.wire {
            Wire::Silent => steps.push(Step::Act(slot)),
            Wire::Sent(_) => {}
            Wire::Reply(_) => steps.push(Step::Deliver(slot)),
        }
        if left.spoilt == 0 {
            return;
        }
        match (flying.wire, flying.act) {
            (Wire::Silent, Act::Send(_)) => steps.push(Step::NotWritten(slot)),
            (Wire::Sent(_), _) => steps.extend([
                Step::Cut { slot, orphan: false },
                Step::Cut { slot, orphan: true },
                Step::Unavailable(slot),
                Step::OtherAccount(slot),
            ]),
            (Wire::Reply(_), _) => steps.push(Step::Cut { slot, orphan: false }),
            (Wire::Silent, _) => {}
        }
    }

    /// A process that waits for the lock is one that has not begun yet. Two that want the same are alike, so the
    /// first goes first.
    fn may_start(&self, state: &State, slot: usize) -> bool {
        let place = PLACE_OF[slot];
        let has_run_left = |slot: usize| {
            let process = &state.processes[slot];
            process.flying.is_none() && process.runs > 0
        };
        if !has_run_left(slot) || (slot == 1 && has_run_left(0)) {
            return false;
        }
        if let Some(holder) = state.holder(place)
            && !(self.lapse == Lapse::BreaksLocks && holder.stale)
        {
            return false;
        }
        let locked_out = self.scenario(state).neighbour == Some(Habit::Locking) && state.neighbour.is_busy();
        if place == MAIN && locked_out {
            return false;
        }
        match self.look(state, place, None) {
            (_, heal, Standing::Fresh) => heal,
            (_, _, Standing::Dead(_)) => false,
            (_, _, Standing::Due(_) | Standing::Unknown { .. } | Standing::BackOff { .. }) => true,
        }
    }

    fn neighbour_may_begin(&self, state: &State) -> bool {
        let Some(habit) = self.scenario(state).neighbour else {
            return false;
        };
        let file = self.facts(state.places[MAIN].store);
        let due = file.expires - THEIR_MARGIN <= state.wall().0;
        let locked = habit == Habit::Locking && state.holder(MAIN).is_some_and(|holder| !holder.stale);
        state.neighbour == Neighbour::Rests && file.refresh.is_some() && due && !locked
    }

    /// A process that runs is quick; a network may be slow, and who is paused is not asked.
    fn passing(&self, state: &State, steps: &mut Vec<Step>) {
        let running = state
            .processes
            .iter()
            .filter_map(|process| process.flying.as_ref())
            .filter(|flying| !flying.paused);
        let (mut busy, mut waiting) = (false, state.neighbour.is_busy());
        for flying in running {
            waiting |= flying.wire != Wire::Silent;
            busy |= flying.wire == Wire::Silent;
        }
        if state.left.shorts > 0 && !busy {
            steps.push(Step::Pass(SHORT));
        }
        if state.left.longs > 0 && !busy && !waiting {
            steps.push(Step::Pass(LONG));
        }
    }

    /// Takes `step`, which must be one of [`Refreshing::steps`]; tells how a flight ended, if one did.
    pub(crate) fn take(&self, state: &mut State, step: Step) -> Option<End> {
        let before = self.aloud.load(Ordering::Relaxed).then(|| state.clone());
        let mut end = None;
        match step {
            Step::Start(slot) => self.start_flight(state, slot),
            Step::Act(slot) => end = self.act(state, slot),
            Step::Handle(slot) => self.handle(state, slot, false),
            Step::Deliver(slot) => end = self.deliver(state, slot),
            Step::Crash { slot, orphan } => {
                state.left.crashes -= 1;
                self.end_wire(state, slot, orphan);
                state.processes[slot].flying = None;
            }
            Step::Pause(slot) => {
                state.left.pauses -= 1;
                self.with(state, slot, |flying| flying.paused = true);
            }
            Step::Resume(slot) => self.with(state, slot, |flying| flying.paused = false),
            Step::NotWritten(slot) => {
                state.left.spoilt -= 1;
                end = self.tell(state, slot, Told::NotWritten);
            }
            Step::Cut { slot, orphan } => {
                state.left.spoilt -= 1;
                self.end_wire(state, slot, orphan);
                end = self.tell(state, slot, Told::Ambiguous);
            }
            Step::Unavailable(slot) => {
                state.left.spoilt -= 1;
                self.change_requests(state, Change::Unspent(PLACE_OF[slot]));
                self.with(state, slot, |flying| flying.wire = Wire::Reply(Told::Unspent));
            }
            Step::OtherAccount(slot) => {
                state.left.spoilt -= 1;
                self.handle(state, slot, true);
            }
            Step::HandleOrphan(index) => {
                let token = std::mem::replace(&mut state.orphans[index], NO_ORPHAN);
                state.orphans.sort_unstable();
                self.ask_server(state, token, false, 0);
                state.past.harm |= harm::LOST_ANSWER;
            }
            Step::Jump(by) => {
                state.left.jumps -= 1;
                state.skew += by;
                state.past.jumps += 1;
            }
            Step::Stale { place, image } => {
                state.left.stale -= 1;
                self.write_from_outside(state, place, image);
            }
            Step::Neighbour => self.neighbour(state),
            Step::Pass(time) => self.pass(state, time),
        }
        self.spend(state, step);
        if before.is_some() {
            println!("  {step:?}\n{}", self.changes(before.as_ref(), state));
        }
        end
    }

    /// Faults count together, too. What cannot be used any more is forgotten, so that states meet.
    fn spend(&self, state: &mut State, step: Step) {
        let is_fault = !matches!(
            step,
            Step::Start(_)
                | Step::Act(_)
                | Step::Handle(_)
                | Step::Deliver(_)
                | Step::Resume(_)
                | Step::HandleOrphan(_)
                | Step::Neighbour
                | Step::Pass(_)
        );
        let left = &mut state.left;
        left.faults = left.faults.saturating_sub(u8::from(is_fault));
        *left = std::mem::take(left).usable();
        if left.stale == 0 {
            for place in &mut state.places {
                place.past = NOTHING;
            }
        }
    }

    pub(crate) fn with(&self, state: &mut State, slot: usize, change: impl FnOnce(&mut Flying)) {
        if let Some(flying) = &mut state.processes[slot].flying {
            change(flying);
        }
    }

    fn pass(&self, state: &mut State, time: Duration) {
        if time == SHORT {
            state.left.shorts -= 1;
        } else {
            state.left.longs -= 1;
        }
        state.time += i64::try_from(time.as_millis()).unwrap();
        let by_age =
            self.lapse == Lapse::BreaksLocks || self.scenario(state).neighbour == Some(Habit::Locking);
        for process in &mut state.processes {
            if let Some(flying) = &mut process.flying {
                flying.stale = flying.paused && by_age;
            }
        }
    }

    pub(crate) fn start_flight(&self, state: &mut State, slot: usize) {
        let pid = self.free_pid(state);
        let (flight, act) = self.start(state.scenario, PLACE_OF[slot], pid, None);
        state.processes[slot].runs = state.processes[slot].runs.saturating_sub(1);
        state.processes[slot].flying = Some(Flying {
            pid,
            begins: true,
            flight,
            act,
            wire: Wire::Silent,
            paused: false,
            stale: false,
            granted: 0,
            newest_read: 0,
            admitted_at: 0,
            admitted_jumps: 0,
            rejected: u8::from(self.scenario(state).rejected),
            rival: None,
            overwritten: None,
        });
    }

    pub(crate) fn handle(&self, state: &mut State, slot: usize, foreign: bool) {
        let Some((token, wall)) = self.on_wire(state, slot) else {
            return;
        };
        let told = self.ask_server(state, token, foreign, wall);
        if foreign {
            state.past.harm |= harm::OTHER_ACCOUNT;
        }
        self.with(state, slot, |flying| flying.wire = Wire::Reply(told));
    }

    /// The token of the request that is out and not handled yet.
    fn on_wire(&self, state: &State, slot: usize) -> Option<(u8, i64)> {
        let flying = state.processes[slot].flying.as_ref()?;
        match (flying.act, flying.wire) {
            (Act::Send(sent), Wire::Sent(wall)) => Some((self.facts(sent).refresh?, wall)),
            _ => None,
        }
    }

    /// Nobody is there any more to hear the answer.
    fn end_wire(&self, state: &mut State, slot: usize, orphan: bool) {
        let Some(flying) = &state.processes[slot].flying else {
            return;
        };
        let lost = matches!(flying.wire, Wire::Reply(Told::Granted(_))) || flying.granted > 0;
        if lost {
            state.past.harm |= harm::LOST_ANSWER;
        }
        if let Some((token, _)) = self.on_wire(state, slot).filter(|_| orphan) {
            state.orphan(token);
        }
    }

    /// The other program reads its file and asks the server; is answered; writes its file. It writes only if the file
    /// is as it was (clients.md 0.3).
    pub(crate) fn neighbour(&self, state: &mut State) {
        let file = state.places[MAIN].store;
        state.neighbour = match state.neighbour {
            Neighbour::Rests => {
                let token = self.facts(file).refresh.unwrap_or_default();
                let wall = state.wall().0;
                state.neighbour = Neighbour::Asked { file, token, wall };
                self.on_clash(state, token);
                state.neighbour
            }
            Neighbour::Asked { file, token, wall } => {
                let told = self.ask_server(state, token, false, wall);
                Neighbour::Answered { file, token, told }
            }
            Neighbour::Answered {
                file: read,
                token,
                told,
            } => {
                let unchanged = self.facts(read).key == self.facts(file).key;
                match told {
                    Told::Granted(answer) if unchanged => {
                        let image = self.store(answer);
                        self.write_from_outside(state, MAIN, image);
                    }
                    // It drops what it was given.
                    Told::Granted(_) => state.past.harm |= harm::CLASH,
                    _ if unchanged && self.scenario(state).neighbour == Some(Habit::Locking) => {
                        self.blank(state);
                    }
                    _ => {}
                }
                Neighbour::Done { token }
            }
            done @ Neighbour::Done { .. } => done,
        };
    }

    fn blank(&self, state: &mut State) {
        let mut blank = (*self.tables.stores.get(state.places[MAIN].store)).clone();
        blank.tokens.access = "".into();
        blank.tokens.refresh = Some("".into());
        let image = self.tables.stores.number(blank);
        self.write_from_outside(state, MAIN, image);
    }
}
