//! The stage: processes that take turns, call by call, on one machine.
//!
//! Every call of a process into its ports comes through [`Stage::enter`]. There it is counted and written into the
//! trace, there another process may be given the turn, and there happens what was planned for this call: an error, a
//! death, a loss of power, a pause, a jump of the clock, another program's write. Only one process runs at a time, and
//! who is next is drawn from the seed, so that a run is repeated call by call. A process that dies unwinds without
//! another effect: none of its calls reaches the machine any more.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokensink_host::{Clock, Liveness};
use tokensink_testkit::{Errno, FakeClock, MemFiles};
use tokensink_types::ProcessId;

use crate::dice::Dice;
use crate::plan::{Intruder, Loss, Trouble};

/// The process ids of a run count from here.
const FIRST_PID: u32 = 1000;
/// What a process unwinds with when it dies.
struct Died;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Running,
    Ended,
    Died,
}

#[derive(Debug)]
struct Process {
    name: String,
    boot: u32,
    life: Life,
    calls: usize,
    troubles: Vec<(usize, Trouble)>,
    fired: usize,
    /// What follows once the present call was made.
    afterwards: Option<Trouble>,
    /// Monotonic time until which it sleeps or is stopped.
    wake: Option<Duration>,
    stopped: bool,
}

/// One machine and its processes. Clones share it.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Inner>);

/// Lets another program write.
type Intrude = Box<dyn FnMut(Intruder) + Send>;

struct Inner {
    state: Mutex<State>,
    news: Condvar,
    pub(crate) clock: FakeClock,
    pub(crate) files: MemFiles,
    intrude: Mutex<Option<Intrude>>,
}

struct State {
    processes: Vec<Process>,
    /// Those that are on now.
    on: Vec<usize>,
    turn: usize,
    dice: Dice,
    /// At one of how many calls the turn passes on; 0 for never.
    switch: u64,
    boot: u32,
    /// A request has left in this run.
    sent: bool,
    trace: Option<Vec<String>>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage({} processes)", self.state().processes.len())
    }
}

/// What a call is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Enter {
    /// It is made.
    Go,
    /// This goes wrong with it.
    Wrong(Trouble),
    /// The process is dead.
    Gone,
}

impl Stage {
    pub(crate) fn new(clock: FakeClock, files: MemFiles, seed: u64, traced: bool) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                processes: Vec::new(),
                on: Vec::new(),
                turn: 0,
                dice: Dice::new(seed),
                switch: 0,
                boot: 1,
                sent: false,
                trace: traced.then(Vec::new),
            }),
            news: Condvar::new(),
            clock,
            files,
            intrude: Mutex::new(None),
        }))
    }

    pub(crate) fn on_intrusion(&self, intrude: impl FnMut(Intruder) + Send + 'static) {
        *self.0.intrude.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(intrude));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn files(&self) -> &MemFiles {
        &self.0.files
    }

    pub(crate) fn clock(&self) -> &FakeClock {
        &self.0.clock
    }

    /// A new process, to which this happens at these calls.
    pub(crate) fn process(&self, name: impl Into<String>, troubles: Vec<(usize, Trouble)>) -> usize {
        let mut state = self.state();
        let boot = state.boot;
        state.processes.push(Process {
            name: name.into(),
            boot,
            life: Life::Running,
            calls: 0,
            troubles,
            fired: 0,
            afterwards: None,
            wake: None,
            stopped: false,
        });
        state.processes.len() - 1
    }

    pub(crate) fn id(&self, process: usize) -> ProcessId {
        let boot = self.state().processes[process].boot;
        let pid = FIRST_PID + u32::try_from(process).unwrap();
        ProcessId {
            host: "testhost".to_owned(),
            boot: format!("boot-{boot}"),
            pid,
            start: u64::from(pid),
        }
    }

    pub(crate) fn liveness(&self, id: &ProcessId) -> Liveness {
        let state = self.state();
        let process = id
            .pid
            .checked_sub(FIRST_PID)
            .and_then(|at| state.processes.get(at as usize));
        match process {
            Some(process) if process.life == Life::Running && id.boot == format!("boot-{}", process.boot) => {
                if process.stopped {
                    Liveness::Stopped
                } else {
                    Liveness::Running
                }
            }
            _ => Liveness::Dead,
        }
    }

    /// How it ended, how many calls it made, and how many of its troubles came.
    pub(crate) fn end_of(&self, process: usize) -> (Life, usize, usize) {
        let state = self.state();
        let process = &state.processes[process];
        (process.life, process.calls, process.fired)
    }

    /// Runs processes that were made with [`Stage::process`] until all have ended; at one of `switch` calls another
    /// one is given the turn.
    pub(crate) fn run(&self, processes: &[usize], switch: u64, body: impl Fn(usize) + Sync) {
        {
            let mut state = self.state();
            state.on = processes.to_vec();
            state.switch = switch;
            let first = state.dice.below(processes.len() as u64);
            state.turn = processes[usize::try_from(first).unwrap()];
        }
        if let [alone] = processes {
            self.live(*alone, &body);
            return;
        }
        thread::scope(|scope| {
            for &process in processes {
                let body = &body;
                scope.spawn(move || {
                    let state = self.state();
                    drop(self.wait_for_turn(state, process));
                    self.live(process, body);
                });
            }
        });
    }

    fn live(&self, process: usize, body: &(impl Fn(usize) + Sync)) {
        let outcome = catch_unwind(AssertUnwindSafe(|| body(process)));
        let mut state = self.state();
        if outcome.is_ok() && state.processes[process].life == Life::Running {
            state.processes[process].life = Life::Ended;
        }
        state.processes[process].life = match state.processes[process].life {
            Life::Running => Life::Died,
            other => other,
        };
        state.on.retain(|other| *other != process);
        if !state.on.is_empty() {
            self.pass_on(&mut state);
        }
        drop(state);
        self.0.news.notify_all();
        if let Err(panic) = outcome
            && !panic.is::<Died>()
        {
            resume_unwind(panic);
        }
    }

    /// Gives the turn to one that can go on; when all sleep, time passes until the first wakes.
    fn pass_on(&self, state: &mut State) {
        loop {
            let now = self.0.clock.monotonic();
            let mut ready = Vec::new();
            for &process in &state.on {
                let process_state = &mut state.processes[process];
                if process_state.wake.is_some_and(|wake| wake <= now) {
                    process_state.wake = None;
                    process_state.stopped = false;
                }
                if process_state.wake.is_none() {
                    ready.push(process);
                }
            }
            if !ready.is_empty() {
                let next = state.dice.below(ready.len() as u64);
                state.turn = ready[usize::try_from(next).unwrap()];
                return;
            }
            let wakes = state
                .on
                .iter()
                .filter_map(|process| state.processes[*process].wake);
            let Some(first) = wakes.min() else { return };
            self.0.clock.advance(first.saturating_sub(now));
        }
    }

    fn wait_for_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        process: usize,
    ) -> MutexGuard<'a, State> {
        while state.turn != process {
            state = self.0.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn yield_turn<'a>(&'a self, mut state: MutexGuard<'a, State>, process: usize) -> MutexGuard<'a, State> {
        self.pass_on(&mut state);
        if state.turn == process {
            return state;
        }
        self.0.news.notify_all();
        self.wait_for_turn(state, process)
    }

    /// The process sleeps; others go on meanwhile.
    pub(crate) fn sleep(&self, process: usize, time: Duration) {
        let mut state = self.state();
        if state.processes[process].life != Life::Running {
            return;
        }
        if state.on.len() < 2 {
            drop(state);
            self.0.clock.advance(time);
            return;
        }
        state.processes[process].wake = Some(self.0.clock.monotonic() + time);
        drop(self.yield_turn(state, process));
    }

    /// A call begins. Returns only for one that is to be made, fails, or is a dead process's last.
    pub(crate) fn enter(&self, process: usize, name: impl Fn() -> String) -> Enter {
        let mut state = self.state();
        let alive = state.processes[process].life == Life::Running;
        if alive && state.switch > 0 && state.on.len() > 1 {
            let switch = state.switch;
            if state.dice.below(switch) == 0 {
                state = self.yield_turn(state, process);
            }
        }
        if state.processes[process].life != Life::Running {
            drop(state);
            return gone();
        }
        state.processes[process].calls += 1;
        let number = state.processes[process].calls;
        let due = |at: &(usize, Trouble)| at.0 == number;
        let trouble = state.processes[process]
            .troubles
            .iter()
            .find(|at| due(at))
            .map(|at| at.1)
            .filter(|trouble| trouble.concerns(&name()));
        if state.trace.is_some() {
            let what = trouble.map_or_else(String::new, |trouble| format!("   <- {trouble:?}"));
            let line = format!("{} {number} {}{what}", state.processes[process].name, name());
            state.trace.get_or_insert_default().push(line);
        }
        let Some(trouble) = trouble else {
            return Enter::Go;
        };
        state.processes[process].fired += 1;
        self.strike(state, process, trouble)
    }

    fn strike(&self, mut state: MutexGuard<'_, State>, process: usize, trouble: Trouble) -> Enter {
        match trouble {
            Trouble::CrashBefore | Trouble::PowerBefore(_) => {
                self.kill(&mut state, process, trouble);
                drop(state);
                gone()
            }
            Trouble::CrashAfter | Trouble::PowerAfter(_) => {
                state.processes[process].afterwards = Some(trouble);
                Enter::Go
            }
            Trouble::Torn => {
                self.kill(&mut state, process, trouble);
                Enter::Wrong(trouble)
            }
            Trouble::Pause(time) => {
                state.processes[process].wake = Some(self.0.clock.monotonic() + time);
                state.processes[process].stopped = true;
                let state = self.yield_turn(state, process);
                let dead = state.processes[process].life != Life::Running;
                drop(state);
                if dead { gone() } else { Enter::Go }
            }
            Trouble::Clock(millis) => {
                self.turn_clock(millis);
                Enter::Go
            }
            Trouble::Suspend(time) => {
                self.0.clock.advance(time);
                Enter::Go
            }
            Trouble::Intrude(intruder) => {
                drop(state);
                self.intrude(intruder);
                Enter::Go
            }
            Trouble::Fail(_) | Trouble::FailAfter(_) | Trouble::Short(_) | Trouble::LostSync => {
                Enter::Wrong(trouble)
            }
        }
    }

    /// The call was made.
    pub(crate) fn made(&self, process: usize) {
        let mut state = self.state();
        if let Some(trouble) = state.processes[process].afterwards.take() {
            self.kill(&mut state, process, trouble);
        }
        // Or in the middle of the call.
        if state.processes[process].life != Life::Running {
            drop(state);
            die();
        }
    }

    /// Sets the wall clock, as a user or NTP does.
    pub(crate) fn turn_clock(&self, millis: i64) {
        let now = self.0.clock.now();
        self.0.clock.set_wall(tokensink_types::UnixMillis(now.0 + millis));
    }

    pub(crate) fn intrude(&self, intruder: Intruder) {
        let mut intrude = self.0.intrude.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(intrude) = intrude.as_mut() {
            intrude(intruder);
        }
    }

    fn kill(&self, state: &mut State, process: usize, trouble: Trouble) {
        let (Trouble::PowerBefore(loss) | Trouble::PowerAfter(loss)) = trouble else {
            state.processes[process].life = Life::Died;
            return;
        };
        for &process in &state.on {
            let process = &mut state.processes[process];
            process.life = Life::Died;
            process.wake = None;
        }
        state.boot += 1;
        match loss {
            Loss::All => self.0.files.lose_power(),
            Loss::Mixed(seed) => {
                let mut dice = Dice::new(seed);
                self.0.files.lose_power_by(&mut |outcomes| dice.below(outcomes));
            }
        }
    }

    /// A request leaves.
    pub(crate) fn sends(&self) {
        self.state().sent = true;
    }

    /// Has a request left in this run?
    pub(crate) fn has_sent(&self) -> bool {
        self.state().sent
    }

    /// Writes a line into the trace.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.state().trace {
            trace.push(line());
        }
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.clone().unwrap_or_default()
    }
}

fn die() -> ! {
    resume_unwind(Box::new(Died))
}

/// A dead process's call: the process unwinds, and while it does nothing happens any more.
fn gone() -> Enter {
    if thread::panicking() {
        return Enter::Gone;
    }
    die()
}

/// What a call of the dead comes to.
pub(crate) fn dead() -> io::Error {
    io::Error::other("the process is dead (simulated)")
}

/// The error of a call that fails as planned.
pub(crate) fn error_of(trouble: Trouble) -> io::Error {
    match trouble {
        Trouble::Fail(errno) | Trouble::FailAfter(errno) | Trouble::Short(errno) => errno.into(),
        Trouble::LostSync => Errno::IO.into(),
        _ => dead(),
    }
}
