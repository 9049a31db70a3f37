//! Processes of this machine.
//!
//! A process is identified by host, boot, pid and start time, so a pid that was given to somebody else is not mistaken
//! for its first owner. Linux tells all of it in `/proc`; elsewhere the start time is unknown and a pid counts as
//! alive as long as somebody has it.

#![expect(
    clippy::disallowed_methods,
    reason = "the one real implementation of the Processes port"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, getpgid, getppid, setpgid, setsid, test_kill_process};
use tokensink_types::ProcessId;

use crate::deadline::{Deadline, wait_ready};
use crate::{
    BoundedEnd, BoundedError, BoundedRequest, ChildProcess, Dialogue, DialogueRequest, Ended, HelperReport,
    Liveness, ProcessRequest, Processes, StdioSource, bounded,
};

mod dialogue;

/// Most standard output that [`Processes::output`] accepts, in bytes.
const OUTPUT_BYTES: usize = 1024 * 1024;
/// Most of a helper's report that is kept, in bytes.
const REPORT_BYTES: usize = 64 * 1024;
/// Most standard error that is kept for a message, in bytes.
const COMPLAINT_BYTES: usize = 16 * 1024;
/// How often a child that closed its output, or left it to a grandchild, is looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// In the environment of a program that [`start_anew`] has started.
const STARTED_ANEW: &str = "TOKENSINK_STARTED_ANEW";
/// Inode of the first pid namespace of a Linux system.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Processes of this machine, seen from this one.
#[derive(Debug, Clone, Default)]
pub struct OsProcesses {
    /// Found out when it is first asked for: a command that only reads never does.
    this: OnceLock<ProcessId>,
}

impl OsProcesses {
    /// Looks at nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn who_we_are(&self) -> &ProcessId {
        self.this.get_or_init(this_process)
    }
}

fn this_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // After an upgrade in place Linux appends this to the path; the new file stands where the old one was.
    let text = path.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or_else(|| path.clone(), PathBuf::from))
}

fn this_process() -> ProcessId {
    let start = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| parse_stat(&stat))
        .map_or(0, |stat| stat.start);
    ProcessId {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot: boot(),
        pid: std::process::id(),
        start,
    }
}

/// The boot id, with the pid namespace behind an `@` in a container: the same pid in two containers that share host
/// name and state directory is two processes, and neither can see the other.
fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.trim().to_owned();
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if !boot.is_empty() && namespace.as_os_str() != FIRST_PID_NAMESPACE => {
            format!("{boot}@{}", namespace.display())
        }
        _ => boot,
    }
}

impl Processes for OsProcesses {
    fn this(&self) -> ProcessId {
        self.who_we_are().clone()
    }

    fn user(&self) -> Option<u32> {
        Some(rustix::process::geteuid().as_raw())
    }

    fn this_program(&self) -> io::Result<PathBuf> {
        this_program()
    }

    fn liveness(&self, process: &ProcessId) -> Liveness {
        if process.host != self.who_we_are().host {
            return Liveness::Unknown;
        }
        if process.boot != self.who_we_are().boot {
            let boot = |text: &str| text.split('@').next().unwrap_or_default().to_owned();
            return if boot(&process.boot) == boot(&self.who_we_are().boot) || process.boot.is_empty() {
                Liveness::Unknown
            } else {
                Liveness::Dead
            };
        }
        match fs::read_to_string(format!("/proc/{}/stat", process.pid)) {
            Ok(stat) => parse_stat(&stat).map_or(Liveness::Unknown, |stat| stat.liveness(process.start)),
            Err(_) => liveness_by_signal(process),
        }
    }

    fn identify(&self, pid: u32) -> Option<ProcessId> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let start = parse_stat(&stat)?.start;
        let us = self.who_we_are().clone();
        Some(ProcessId { pid, start, ..us })
    }

    fn end_of(&self, pid: u32) -> io::Result<Option<OwnedFd>> {
        end_of(pid)
    }

    fn spawn_detached(&self, request: ProcessRequest) -> io::Result<()> {
        let mut command = command(request);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        reap(child);
        Ok(())
    }

    fn spawn_helper(&self, request: ProcessRequest) -> io::Result<Box<dyn HelperReport>> {
        let mut command = command(request);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let (output, pid) = (child.stdout.take(), child.id());
        reap(child);
        let output = output.ok_or_else(|| io::Error::other("the helper has no output"))?;
        Ok(Box::new(Report {
            pid,
            output: Some(output),
            bytes: Vec::new(),
        }))
    }

    fn run(&self, request: ProcessRequest) -> io::Result<i32> {
        command(request).status().map(exit_code)
    }

    fn output(&self, mut request: ProcessRequest, deadline: Duration) -> io::Result<Vec<u8>> {
        request.stdin = StdioSource::Null;
        let program = request.program.to_string_lossy().into_owned();
        let ended = self.spawn(request)?.wait(deadline)?;
        if ended.code == 0 {
            return Ok(ended.output);
        }
        let complaint = String::from_utf8_lossy(&ended.complaint);
        Err(io::Error::other(format!(
            "{program} ended with exit code {}: {}",
            ended.code,
            complaint.trim()
        )))
    }

    fn run_bounded(&self, request: BoundedRequest) -> Result<BoundedEnd, BoundedError> {
        bounded::run(request)
    }

    fn spawn(&self, request: ProcessRequest) -> io::Result<Box<dyn ChildProcess>> {
        let program = request.program.to_string_lossy().into_owned();
        let child = command(request)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Box::new(Running { child, program }))
    }

    fn spawn_dialogue(&self, request: DialogueRequest) -> io::Result<Box<dyn Dialogue>> {
        dialogue::start(request)
    }
}

/// Leaves the terminal's session for good, so that neither its end nor its job control reaches us. A child of
/// [`Processes::spawn_detached`] calls this first; std has no safe way to do it for the child.
///
/// # Errors
/// `PermissionDenied` when we lead a process group whose parent is gone already. Nothing is lost then: in a group of
/// our own we get no signals from the terminal's keys either way.
pub fn detach_self() -> io::Result<()> {
    match setsid() {
        Ok(_) => Ok(()),
        Err(Errno::PERM) => {
            // The leader of a group cannot open a session, and spawn_detached made us one. Back in the parent's
            // group for a moment we are none.
            let group = parents_group().ok_or(Errno::PERM)?;
            setpgid(None, Some(group))?;
            setsid().map(drop).map_err(io::Error::from)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Starts this program anew in this process, which keeps its id, its parent and what it inherited, with more variables in
/// its environment: for what is read only when a program starts, such as the settings of the system's allocator.
/// `args` are all arguments, the program's name first. To be called before anything is begun, since nothing is ended.
///
/// Returns only when that failed, and nothing has happened then; or when it was done before, so that a system that takes
/// variables away does not make us do it for ever.
pub fn start_anew(args: &[OsString], variables: &[(&str, &str)]) -> io::Error {
    if std::env::var_os(STARTED_ANEW).is_some() {
        return io::Error::other("the program was started anew already");
    }
    let started = || -> io::Result<Infallible> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let program = text(this_program()?.as_os_str())?;
        let args: Vec<CString> = args.iter().map(|arg| text(arg)).collect::<io::Result<_>>()?;
        let mut environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let more = variables.iter().copied().chain([(STARTED_ANEW, "1")]);
        environment.extend(more.map(|(name, value)| (name.into(), value.into())));
        let environment: Vec<CString> = environment
            .into_iter()
            .map(|(mut variable, value)| {
                variable.push("=");
                variable.push(value);
                text(&variable)
            })
            .collect::<io::Result<_>>()?;
        // Not by Command, whose attempt changes what a broken pipe does to this process, also when it fails.
        nix::unistd::execve(&program, &args, &environment).map_err(io::Error::from)
    };
    match started() {
        Err(error) => error,
    }
}

/// The process group of our parent, if it has one that we can name. When it is gone already, our parent is init or a
/// process of another pid namespace, whose group the kernel shows as 0; `getpgid` of rustix takes that for impossible,
/// so `/proc` is asked where there is one.
fn parents_group() -> Option<Pid> {
    let parent = getppid().filter(|parent| *parent != Pid::INIT)?;
    match fs::read_to_string(format!("/proc/{}/stat", parent.as_raw_pid())) {
        Ok(stat) => Pid::from_raw(parse_stat(&stat)?.group),
        Err(_) if cfg!(target_os = "linux") => None,
        Err(_) => getpgid(Some(parent)).ok(),
    }
}

fn command(request: ProcessRequest) -> Command {
    let mut command = Command::new(&request.program);
    command.args(&request.args);
    for name in &request.remove_env {
        command.env_remove(name);
    }
    for (name, value) in &request.set_env {
        command.env(name, value);
    }
    command.stdin(match request.stdin {
        StdioSource::Null => Stdio::null(),
        StdioSource::Inherit => Stdio::inherit(),
        StdioSource::Descriptor(fd) => Stdio::from(fd),
    });
    command
}

/// Waits for the child in a thread, so that it does not stay a zombie while we live. Without the thread it does.
fn reap(mut child: Child) {
    let _ = std::thread::Builder::new()
        .name("reaper".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || child.wait());
}

/// As a shell tells it: 128 + n after signal n.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}

/// A child that does not outlive the wait for it.
#[derive(Debug)]
struct Running {
    child: Child,
    program: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl ChildProcess for Running {
    fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    fn wait(&mut self, deadline: Duration) -> io::Result<Ended> {
        let collected = self.collect(Deadline::after(deadline));
        if collected.is_err() {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        let (output, complaint) = collected?;
        Ok(Ended {
            code: exit_code(status),
            output,
            complaint,
        })
    }
}

impl Running {
    /// Standard output and standard error, read side by side so that neither blocks the child. Ends when both are
    /// closed, or the child has ended and what it left is read (a grandchild may keep them open).
    fn collect(&mut self, deadline: Deadline) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut out, mut err) = (self.child.stdout.take(), self.child.stderr.take());
        let (mut output, mut complaint) = (Vec::new(), Vec::new());
        loop {
            let ended = self.child.try_wait()?.is_some();
            let pause = if ended { Duration::ZERO } else { GLANCE };
            let quiet = !drain(&mut out, &mut output, &mut err, &mut complaint, pause)?;
            if output.len() > OUTPUT_BYTES {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("{} printed more than {OUTPUT_BYTES} bytes", self.program),
                ));
            }
            complaint.truncate(COMPLAINT_BYTES);
            if ended && quiet {
                return Ok((output, complaint));
            }
            if deadline.passed() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} did not end in time and was killed", self.program),
                ));
            }
        }
    }
}

/// Reads what is there, waiting at most `pause` for it; `false` when nothing was.
fn drain(
    out: &mut Option<impl Read + std::os::fd::AsFd>,
    output: &mut Vec<u8>,
    err: &mut Option<impl Read + std::os::fd::AsFd>,
    complaint: &mut Vec<u8>,
    pause: Duration,
) -> io::Result<bool> {
    let mut fds = Vec::with_capacity(2);
    fds.extend(out.as_ref().map(|out| PollFd::new(out, PollFlags::IN)));
    fds.extend(err.as_ref().map(|err| PollFd::new(err, PollFlags::IN)));
    if !wait_ready(&mut fds, Deadline::after(pause))? {
        return Ok(false);
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    let mut ready = ready.into_iter();
    if out.is_some() && ready.next() == Some(true) {
        read_chunk(out, output)?;
    }
    if err.is_some() && ready.next() == Some(true) {
        read_chunk(err, complaint)?;
    }
    Ok(true)
}

/// Reads once from a pipe that is ready; at its end the pipe becomes `None`.
fn read_chunk(pipe: &mut Option<impl Read>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 16 * 1024];
    let Some(open) = pipe else { return Ok(()) };
    match open.read(&mut chunk) {
        Ok(0) => *pipe = None,
        Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What a helper says.
struct Report {
    pid: u32,
    /// `None` once it was closed.
    output: Option<ChildStdout>,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Report({} bytes)", self.bytes.len())
    }
}

impl HelperReport for Report {
    fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }

    fn wait(&mut self, deadline: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Deadline::after(deadline);
        while let Some(output) = &self.output {
            let mut fds = [PollFd::new(output, PollFlags::IN)];
            if !wait_ready(&mut fds, deadline)? {
                return Ok(None);
            }
            read_chunk(&mut self.output, &mut self.bytes)?;
            self.bytes.truncate(REPORT_BYTES);
        }
        Ok(Some(self.bytes.clone()))
    }
}

/// What `/proc/<pid>/stat` tells (`proc_pid_stat(5)`).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Field 3.
    state: char,
    /// Field 5, 0 for a group of another pid namespace.
    group: i32,
    /// Field 22, in clock ticks since boot.
    start: u64,
}

impl Stat {
    /// For the process that started at `start`; 0 is an unknown start.
    fn liveness(&self, start: u64) -> Liveness {
        match self.state {
            _ if start != 0 && start != self.start => Liveness::Dead,
            'Z' | 'X' | 'x' => Liveness::Dead,
            'T' | 't' => Liveness::Stopped,
            _ => Liveness::Running,
        }
    }
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name in brackets; it may hold blanks and brackets itself.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, group, start })
}

/// Where `/proc` shows nothing, the kernel still says whether somebody has the pid.
fn liveness_by_signal(process: &ProcessId) -> Liveness {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    match pid.map(test_kill_process) {
        Some(Err(Errno::SRCH)) => Liveness::Dead,
        // Somebody has it; without its start time it may be another one.
        Some(_) if process.start == 0 => Liveness::Running,
        _ => Liveness::Unknown,
    }
}

/// Linux has such descriptors since 5.3.
#[cfg(target_os = "linux")]
fn end_of(pid: u32) -> io::Result<Option<OwnedFd>> {
    use rustix::process::{PidfdFlags, pidfd_open};
    let no_such = || io::Error::from(io::ErrorKind::NotFound);
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(no_such)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Err(no_such()),
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn end_of(_pid: u32) -> io::Result<Option<OwnedFd>> {
    Ok(None)
}

#[cfg(test)]
mod tests;
