//! Real processes of the program under test: started, waited for, killed with everything that they started.
//!
//! The port for processes keeps programs apart from us in ways that we need here in others: a whole environment of their
//! own, standard error kept, and death by SIGKILL of all that a program left running, wherever it went. What is killed
//! is found by a variable that only our processes have.

#![expect(
    clippy::disallowed_methods,
    reason = "runs foreign programs and kills them with all their children; the one place where this crate does"
)]

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokensink_host::Host;

use crate::home::MARKER;

/// How often a running process is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// How long a process that a dead program left behind may keep its output open before we stop reading.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Most that is kept of each output, in bytes.
const OUTPUT_BYTES: usize = 1 << 20;
/// How often is looked for processes that were started while we killed others.
const SWEEPS: usize = 20;

/// A command line with all that it gets.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The program: an absolute path or a name on PATH.
    pub program: OsString,
    /// Its arguments, never with a secret among them.
    pub args: Vec<OsString>,
    /// Its whole environment; begin with [`Home::variables`](crate::Home::variables).
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, which exists.
    pub dir: PathBuf,
    /// What it reads on standard input.
    pub input: Vec<u8>,
    /// How long it may run before it is killed.
    pub time: Duration,
}

impl Invocation {
    /// The command line for people.
    pub(crate) fn shown(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code, 128 + n after signal n; `None` where it did not end in time and was killed.
    pub code: Option<i32>,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub complaint: String,
    /// From its start to its end.
    pub took: Duration,
}

/// Whether whoever waits for the kit has lost patience; clones tell the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the kit's work soon: processes are killed, and nothing new is begun.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is to end.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A process that runs. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: Kept,
    complaint: Kept,
    host: Host,
    stop: Stop,
    started: Duration,
    time: Duration,
}

/// What came out of a pipe so far, and whether it is closed.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<(Vec<u8>, bool)>>);

impl Kept {
    fn get(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.get().0).into_owned()
    }

    fn is_closed(&self) -> bool {
        self.get().1
    }
}

impl Process {
    /// Starts a process in a group of its own.
    pub(crate) fn start(host: &Host, invocation: &Invocation, stop: &Stop) -> Result<Self, String> {
        let mut child = Command::new(&invocation.program)
            .args(&invocation.args)
            .env_clear()
            .envs(invocation.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&invocation.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", invocation.program.to_string_lossy()))?;
        let (output, complaint) = (Kept::default(), Kept::default());
        if let Some(pipe) = child.stdout.take() {
            keep(pipe, &output);
        }
        if let Some(pipe) = child.stderr.take() {
            keep(pipe, &complaint);
        }
        if let Some(mut pipe) = child.stdin.take() {
            let input = invocation.input.clone();
            // A program that does not read its input ends this thread with a broken pipe, which is fine.
            std::thread::spawn(move || pipe.write_all(&input));
        }
        Ok(Self {
            child,
            output,
            complaint,
            started: host.clock.monotonic(),
            time: invocation.time,
            stop: stop.clone(),
            host: host.clone(),
        })
    }

    /// Whether something may still come of it: it runs, for no longer than it may, and nobody has lost patience.
    pub(crate) fn is_running(&mut self) -> bool {
        let ran = self.host.clock.monotonic().saturating_sub(self.started);
        ran <= self.time && !self.stop.is_set() && matches!(self.child.try_wait(), Ok(None))
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(self.finish(Some(status)))
    }

    /// Waits for its end; one that does not end in time is killed.
    pub(crate) fn wait(mut self) -> Ended {
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            if !self.is_running() {
                // Its end may fall between the two looks.
                let status = self.child.try_wait().ok().flatten();
                self.kill();
                return self.finish(status);
            }
            self.host.clock.sleep(GLANCE);
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }

    fn finish(&self, status: Option<ExitStatus>) -> Ended {
        let took = self.host.clock.monotonic().saturating_sub(self.started);
        let until = self.host.clock.monotonic() + LAST_WORDS;
        while !(self.output.is_closed() && self.complaint.is_closed()) && self.host.clock.monotonic() < until
        {
            self.host.clock.sleep(GLANCE);
        }
        Ended {
            code: status.and_then(|status| {
                status
                    .code()
                    .or_else(|| status.signal().map(|signal| 128 + signal))
            }),
            output: self.output.text(),
            complaint: self.complaint.text(),
            took,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a pipe to its end in a thread of its own.
fn keep(mut pipe: impl Read + Send + 'static, kept: &Kept) {
    let kept = kept.clone();
    std::thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            let mut kept = kept.get();
            let room = OUTPUT_BYTES.saturating_sub(kept.0.len());
            kept.0.extend_from_slice(&chunk[..count.min(room)]);
        }
        kept.get().1 = true;
    });
}

/// Kills every process whose environment has our marker with this value, and those that they start meanwhile; how many
/// were killed. Processes are found in `/proc`; where there is none, only the process itself is killed when dropped.
pub(crate) fn kill_all(host: &Host, marker: &str) -> usize {
    let wanted = format!("{MARKER}={marker}\0").into_bytes();
    let mut killed = 0;
    for _ in 0..SWEEPS {
        let found = processes(host, &wanted);
        if found.is_empty() {
            return killed;
        }
        for pid in found {
            killed += usize::from(kill_process(pid, Signal::KILL).is_ok());
        }
        host.clock.sleep(GLANCE);
    }
    killed
}

fn processes(host: &Host, wanted: &[u8]) -> Vec<Pid> {
    let names = host.files.list("/proc".as_ref()).unwrap_or_default();
    let of_us = |name: &OsStr| {
        let pid: i32 = name.to_str()?.parse().ok()?;
        // One that ended, even if nobody has taken notice of it, has no environment any more.
        let environment = host.files.read(format!("/proc/{pid}/environ").as_ref()).ok()?;
        let is_ours = environment.windows(wanted.len()).any(|part| part == wanted);
        Pid::from_raw(pid).filter(|_| is_ours)
    };
    names.iter().filter_map(|name| of_us(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(host: &Host, script: &str, marker: &str) -> Process {
        let invocation = Invocation {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![
                (MARKER.into(), marker.into()),
                ("PATH".into(), "/usr/bin:/bin".into()),
            ],
            dir: "/".into(),
            input: b"in\n".to_vec(),
            time: Duration::from_secs(20),
        };
        Process::start(host, &invocation, &Stop::default()).unwrap()
    }

    #[test]
    fn a_process_is_heard_to_its_end() {
        let host = Host::real();
        let ended = shell(&host, "cat; echo oops >&2; exit 3", "test-heard").wait();
        assert_eq!(
            (ended.code, &*ended.output, &*ended.complaint),
            (Some(3), "in\n", "oops\n")
        );
    }

    #[test]
    fn nobody_waits_for_a_process_when_it_is_time_to_stop() {
        let host = Host::real();
        let process = shell(&host, "sleep 300", "test-stopped");
        process.stop.stop();
        assert_eq!(process.wait().code, None);
    }

    #[test]
    fn what_a_process_started_dies_with_it_even_in_a_session_of_its_own() {
        let host = Host::real();
        let marker = format!("test-{}", host.processes.this().pid);
        let mut process = shell(&host, "setsid sleep 300 & echo started; sleep 300", &marker);
        while process.output.text().is_empty() {
            assert!(process.ended().is_none());
            host.clock.sleep(GLANCE);
        }
        let mut killed = 0;
        // The shell says so before its children are there.
        while killed < 2 {
            killed += kill_all(&host, &marker);
        }
        assert_eq!(process.wait().code, Some(137));
        assert_eq!(kill_all(&host, &marker), 0);
    }
}
