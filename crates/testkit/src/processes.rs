//! Processes that never start.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokensink_host::{
    BoundedEnd, BoundedError, BoundedRequest, Dialogue, DialogueRequest, HelperReport, Liveness,
    ProcessRequest, Processes, StdioSource,
};
use tokensink_types::{Body, ProcessId};

use crate::FakeClock;
use crate::talk::{FakeTalk, Reply};

/// How a program was to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// [`Processes::spawn_detached`].
    Detached,
    /// [`Processes::spawn_helper`].
    Helper,
    /// [`Processes::run`].
    Run,
    /// [`Processes::output`].
    Output,
    /// [`Processes::run_bounded`].
    Bounded,
    /// [`Processes::spawn_dialogue`].
    Dialogue,
}

/// A program that was to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// By which call.
    pub start: Start,
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables that were set for it.
    pub set_env: Vec<(OsString, OsString)>,
    /// Variables that were hidden from it.
    pub remove_env: Vec<OsString>,
    /// True when it was given a descriptor as standard input.
    pub has_descriptor: bool,
    /// What a bounded program was given on standard input.
    pub input: String,
    /// Where a bounded program was to work.
    pub dir: Option<PathBuf>,
}

/// What a program does: its output (or its helper's report), or an error; for [`Processes::run`] the first byte of
/// the output is the exit code, and no output means 0.
pub type Program = dyn Fn(&Started) -> io::Result<Vec<u8>> + Send + Sync;

/// A program that is talked to: given what it is told (`None` when it starts), it says what it answers.
pub type Talker = dyn Fn(&Started, Option<&str>) -> Vec<Reply> + Send + Sync;

/// Processes that never start: a record of what was to be started, scripted results, and a table of the living.
/// Clones share one record.
#[derive(Debug, Clone)]
pub struct FakeProcesses(Arc<Mutex<State>>);

struct State {
    this: ProcessId,
    liveness: HashMap<ProcessId, Liveness>,
    started: Vec<Started>,
    results: VecDeque<io::Result<Vec<u8>>>,
    program: Option<Arc<Program>>,
    talker: Option<(FakeClock, Arc<Talker>)>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} started", self.this, self.started.len())
    }
}

impl Default for FakeProcesses {
    /// We are process 4242 of host `testhost`.
    fn default() -> Self {
        Self::of(4242)
    }
}

impl FakeProcesses {
    /// We are process `pid` of host `testhost`, boot `boot-1`, started at `pid` ticks.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let state = State {
            this: Self::id(pid),
            liveness: HashMap::new(),
            started: Vec::new(),
            results: VecDeque::new(),
            program: None,
            talker: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The id that process `pid` has on this host.
    #[must_use]
    pub fn id(pid: u32) -> ProcessId {
        ProcessId {
            host: "testhost".to_owned(),
            boot: "boot-1".to_owned(),
            pid,
            start: u64::from(pid),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what is known of a process; others are `Dead`, we are `Running`.
    pub fn set_liveness(&self, process: ProcessId, liveness: Liveness) {
        self.state().liveness.insert(process, liveness);
    }

    /// What was to be started so far, in order.
    #[must_use]
    pub fn started(&self) -> Vec<Started> {
        self.state().started.clone()
    }

    /// Scripts the result of the next start. Without script and program, everything works and says nothing.
    pub fn push_result(&self, result: io::Result<Vec<u8>>) {
        self.state().results.push_back(result);
    }

    /// Runs `program` in this process for every start that has no scripted result.
    pub fn on_start(&self, program: impl Fn(&Started) -> io::Result<Vec<u8>> + Send + Sync + 'static) {
        self.state().program = Some(Arc::new(program));
    }

    /// Runs `talker` in this process for every [`Processes::spawn_dialogue`]; where it says nothing, `clock` moves on
    /// by the time that the listener waits.
    pub fn on_dialogue(
        &self,
        clock: &FakeClock,
        talker: impl Fn(&Started, Option<&str>) -> Vec<Reply> + Send + Sync + 'static,
    ) {
        self.state().talker = Some((clock.clone(), Arc::new(talker)));
    }

    fn start(&self, start: Start, request: &ProcessRequest) -> io::Result<Vec<u8>> {
        self.begin(&Started {
            start,
            program: request.program.clone(),
            args: request.args.clone(),
            set_env: request.set_env.clone(),
            remove_env: request.remove_env.clone(),
            has_descriptor: matches!(request.stdin, StdioSource::Descriptor(_)),
            input: String::new(),
            dir: None,
        })
    }

    fn begin(&self, started: &Started) -> io::Result<Vec<u8>> {
        let program = {
            let mut state = self.state();
            state.started.push(started.clone());
            if let Some(result) = state.results.pop_front() {
                return result;
            }
            state.program.clone()
        };
        program.map_or_else(|| Ok(Vec::new()), |program| program(started))
    }
}

impl Processes for FakeProcesses {
    fn this(&self) -> ProcessId {
        self.state().this.clone()
    }

    /// The user of [`MemFiles`](crate::MemFiles).
    fn user(&self) -> Option<u32> {
        Some(1000)
    }

    fn this_program(&self) -> io::Result<PathBuf> {
        Ok(PathBuf::from("/usr/bin/tokensink"))
    }

    fn liveness(&self, process: &ProcessId) -> Liveness {
        let state = self.state();
        match state.liveness.get(process) {
            Some(liveness) => *liveness,
            None if *process == state.this => Liveness::Running,
            None if process.host != state.this.host => Liveness::Unknown,
            None => Liveness::Dead,
        }
    }

    fn spawn_detached(&self, request: ProcessRequest) -> io::Result<()> {
        self.start(Start::Detached, &request).map(drop)
    }

    fn spawn_helper(&self, request: ProcessRequest) -> io::Result<Box<dyn HelperReport>> {
        let report = self.start(Start::Helper, &request)?;
        Ok(Box::new(FakeReport(report)))
    }

    fn run(&self, request: ProcessRequest) -> io::Result<i32> {
        let output = self.start(Start::Run, &request)?;
        Ok(output.first().copied().map_or(0, i32::from))
    }

    fn output(&self, request: ProcessRequest, _deadline: Duration) -> io::Result<Vec<u8>> {
        self.start(Start::Output, &request)
    }

    /// A scripted error of kind `TimedOut` means that it took too long, any other that it could not be started.
    fn run_bounded(&self, request: BoundedRequest) -> Result<BoundedEnd, BoundedError> {
        let time = request.bounds.time;
        let answered = self.begin(&Started {
            start: Start::Bounded,
            program: request.program.into_os_string(),
            args: request.args,
            set_env: request
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.expose().into()))
                .collect(),
            remove_env: Vec::new(),
            has_descriptor: false,
            input: String::from_utf8_lossy(request.input.expose()).into_owned(),
            dir: Some(request.dir),
        });
        match answered {
            Ok(output) => Ok(BoundedEnd {
                code: 0,
                output: Body::new(output),
            }),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(BoundedError::TooLong(time)),
            Err(error) => Err(BoundedError::NotStarted(error)),
        }
    }

    fn spawn_dialogue(&self, request: DialogueRequest) -> io::Result<Box<dyn Dialogue>> {
        let started = Started {
            start: Start::Dialogue,
            program: request.program.into(),
            args: request.args,
            set_env: request.env,
            remove_env: Vec::new(),
            has_descriptor: false,
            input: String::new(),
            dir: Some(request.dir),
        };
        let mut state = self.state();
        state.started.push(started.clone());
        if let Some(Err(error)) = state.results.pop_front() {
            return Err(error);
        }
        let (clock, talker) = state.talker.clone().ok_or(io::ErrorKind::NotFound)?;
        drop(state);
        Ok(Box::new(FakeTalk::start(clock, talker, started)))
    }
}

/// The report of a helper that never started; it is complete at once.
struct FakeReport(Vec<u8>);

impl fmt::Debug for FakeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeReport")
    }
}

impl HelperReport for FakeReport {
    fn pid(&self) -> Option<u32> {
        None
    }

    fn wait(&mut self, _deadline: Duration) -> io::Result<Option<Vec<u8>>> {
        Ok(Some(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(program: &str) -> ProcessRequest {
        ProcessRequest {
            program: program.into(),
            args: vec!["a".into()],
            set_env: Vec::new(),
            remove_env: Vec::new(),
            stdin: StdioSource::Null,
        }
    }

    #[test]
    fn starts_are_recorded_and_scripted() {
        let processes = FakeProcesses::default();
        processes.push_result(Err(io::ErrorKind::NotFound.into()));
        processes.push_result(Ok(vec![3]));
        processes.on_start(|started| Ok(started.program.as_encoded_bytes().to_vec()));
        assert!(processes.spawn_detached(request("one")).is_err());
        assert_eq!(processes.run(request("two")).unwrap(), 3);
        assert_eq!(
            processes.output(request("three"), Duration::ZERO).unwrap(),
            b"three"
        );
        let mut helper = processes.spawn_helper(request("four")).unwrap();
        assert_eq!(helper.wait(Duration::ZERO).unwrap().unwrap(), b"four");
        let starts: Vec<_> = processes.started().iter().map(|started| started.start).collect();
        assert_eq!(
            starts,
            [Start::Detached, Start::Run, Start::Output, Start::Helper]
        );
    }

    #[test]
    fn others_are_dead_unless_said_otherwise() {
        let processes = FakeProcesses::of(7);
        let foreign = ProcessId {
            host: "elsewhere".to_owned(),
            ..FakeProcesses::id(8)
        };
        assert_eq!(processes.liveness(&FakeProcesses::id(7)), Liveness::Running);
        assert_eq!(processes.liveness(&FakeProcesses::id(8)), Liveness::Dead);
        assert_eq!(processes.liveness(&foreign), Liveness::Unknown);
        processes.set_liveness(FakeProcesses::id(8), Liveness::Stopped);
        assert_eq!(processes.liveness(&FakeProcesses::id(8)), Liveness::Stopped);
    }
}
