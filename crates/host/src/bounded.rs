//! A program that is asked something: input in, output out, and bounds on everything ([`crate::BoundedRequest`]).
//!
//! Promises that the call ends soon after the bounds allow, whatever the program does: reads nothing, writes without
//! end, closes its pipes and stays, leaves a grandchild behind. On a breach its whole process group is killed, while
//! the program is not yet reaped, so that the group's number cannot be somebody else's. It does not know what is asked.

#![expect(
    clippy::disallowed_methods,
    reason = "part of the one real implementation of the Processes port"
)]

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokensink_types::{Body, Secret, wipe};
use zeroize::Zeroizing;

use crate::deadline::{Deadline, wait_ready};
use crate::os_processes::exit_code;
use crate::{BoundedEnd, BoundedError, BoundedRequest, Bounds};

/// How often a program that closed its output is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Runs the program to its end.
pub(crate) fn run(request: BoundedRequest) -> Result<BoundedEnd, BoundedError> {
    let mut program = Program::start(request)?;
    match program.talk() {
        Ok(()) => {
            let status = program.child.wait().map_err(BoundedError::Io)?;
            Ok(BoundedEnd {
                code: exit_code(status),
                output: Body::new(std::mem::take(&mut program.output)),
            })
        }
        Err(error) => {
            program.kill_group();
            Err(error)
        }
    }
}

struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    input: Body,
    /// Bytes of the input that were taken.
    written: usize,
    output: Vec<u8>,
    bounds: Bounds,
}

impl Drop for Program {
    fn drop(&mut self) {
        wipe(&mut self.output);
    }
}

impl Program {
    fn start(request: BoundedRequest) -> Result<Self, BoundedError> {
        let text = |(name, value): (_, Secret)| (name, value.expose().to_owned());
        let mut child = Command::new(&request.program)
            .args(&request.args)
            .env_clear()
            .envs(request.env.into_iter().map(text))
            .current_dir(&request.dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(BoundedError::NotStarted)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut program = Self {
            child,
            stdin,
            stdout,
            stderr,
            input: request.input,
            written: 0,
            output: Vec::new(),
            bounds: request.bounds,
        };
        // A program that does not read must not stop us.
        if let Some(Err(errno)) = program.stdin.as_ref().map(|stdin| ioctl_fionbio(stdin, true)) {
            program.kill_group();
            return Err(BoundedError::Io(errno.into()));
        }
        Ok(program)
    }

    /// Kills the program with all that it started in its group, and waits for its end.
    fn kill_group(&mut self) {
        if let Some(group) = self.pid() {
            // It may have ended by itself; it is reaped only below.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _ended = self.child.wait();
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Writes and reads until the program has ended and what it left is read (a grandchild may keep the pipes open).
    fn talk(&mut self) -> Result<(), BoundedError> {
        let Bounds {
            time,
            quiet,
            output_bytes,
        } = self.bounds;
        let deadline = Deadline::after(time);
        let mut silence = Deadline::after(quiet);
        loop {
            let ended = self.has_ended().map_err(BoundedError::Io)?;
            let pause = if ended {
                Deadline::after(Duration::ZERO)
            } else {
                deadline.min(silence).min(self.longest_pause())
            };
            let seen = self.exchange(pause).map_err(BoundedError::Io)?;
            if self.output.len() > output_bytes {
                return Err(BoundedError::TooMuch(output_bytes));
            }
            if ended && !seen {
                return Ok(());
            }
            if deadline.passed() {
                return Err(BoundedError::TooLong(time));
            }
            if seen {
                silence = Deadline::after(quiet);
            } else if silence.passed() {
                return Err(BoundedError::TooQuiet(quiet));
            }
        }
    }

    /// Its end is seen by a look now and then; the end of its output, which mostly comes with it, at once.
    fn longest_pause(&self) -> Deadline {
        let all_open = self.stdout.is_some() && self.stderr.is_some();
        Deadline::after(if all_open { GLANCE * 4 } else { GLANCE })
    }

    fn has_ended(&self) -> io::Result<bool> {
        let Some(pid) = self.pid() else { return Ok(true) };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(pid), options) {
            Ok(status) => Ok(status.is_some()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// One round of reading and writing, waiting for it until `pause` at most; true when something was read.
    fn exchange(&mut self, pause: Deadline) -> io::Result<bool> {
        let mut fds = Vec::with_capacity(3);
        fds.extend(self.stdin.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        fds.extend(self.stdout.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.stderr.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        if !wait_ready(&mut fds, pause)? {
            return Ok(false);
        }
        let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut is_ready = |open: bool| open && !ready.is_empty() && ready.remove(0);
        if is_ready(self.stdin.is_some()) {
            self.feed()?;
        }
        let (out, err) = (is_ready(self.stdout.is_some()), is_ready(self.stderr.is_some()));
        let mut seen = false;
        if out {
            seen |= read_chunk(&mut self.stdout, &mut self.output)?;
        }
        if err {
            let mut dropped = Vec::new();
            seen |= read_chunk(&mut self.stderr, &mut dropped)?;
            wipe(&mut dropped);
        }
        Ok(seen)
    }

    /// Writes what the pipe takes; closes it after the last byte, or when nobody reads.
    fn feed(&mut self) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Ok(());
        };
        let rest = &self.input.expose()[self.written..];
        if !rest.is_empty() {
            match stdin.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.written = self.input.len(),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        if self.written == self.input.len() {
            self.stdin = None;
        }
        Ok(())
    }
}

/// Reads once from a pipe that is ready; at its end the pipe becomes `None`. True when there was something.
fn read_chunk(pipe: &mut Option<impl Read>, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = Zeroizing::new([0; 16 * 1024]);
    let Some(open) = pipe else { return Ok(false) };
    match open.read(&mut *chunk) {
        Ok(0) => {
            *pipe = None;
            Ok(false)
        }
        Ok(count) => {
            append(bytes, &chunk[..count]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Appends without leaving a copy behind in memory that the vector has outgrown.
fn append(bytes: &mut Vec<u8>, new: &[u8]) {
    if bytes.capacity() - bytes.len() < new.len() {
        let mut larger = Vec::with_capacity((bytes.len() + new.len()) * 2);
        larger.extend_from_slice(bytes);
        wipe(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(new);
}
