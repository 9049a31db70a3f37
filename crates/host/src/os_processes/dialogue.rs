//! A program that is talked to line by line: bounded in what it may say, and gone with its whole process group when
//! the talk is over.
//!
//! A program that leaves its process group (`setsid`) escapes the kill; its pipes are closed all the same.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokensink_types::Body;

use super::{GLANCE, exit_code, read_chunk};
use crate::deadline::{Deadline, wait_ready};
use crate::{Dialogue, DialogueLimits, DialogueRequest, Farewell, Heard, SayError};

/// Reads after its end, each of 16 KiB at most, in which the rest of its complaint is looked for.
const LAST_WORDS: u32 = 16;

/// Starts the program.
pub(super) fn start(request: DialogueRequest) -> io::Result<Box<dyn Dialogue>> {
    let mut child = Command::new(&request.program)
        .args(&request.args)
        .env_clear()
        .envs(request.env)
        .current_dir(&request.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut talk = Talk {
        input: child.stdin.take(),
        output: child.stdout.take(),
        errors: child.stderr.take(),
        child,
        limits: request.limits,
        heard: 0,
        line: Vec::new(),
        complaint: Vec::new(),
        over: false,
    };
    // A program that does not read must not hold us up.
    if let Some(input) = &mut talk.input {
        let flags = fcntl_getfl(&*input)?;
        fcntl_setfl(&*input, flags | OFlags::NONBLOCK)?;
    }
    Ok(Box::new(talk))
}

/// A child with its three pipes; a pipe that was closed is `None`.
struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
    limits: DialogueLimits,
    /// Bytes of standard output so far.
    heard: usize,
    /// What came after the last line that was handed out.
    line: Vec<u8>,
    complaint: Vec<u8>,
    /// It was waited for.
    over: bool,
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Talk(pid {}, {} bytes heard)", self.child.id(), self.heard)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        tokensink_types::wipe(&mut self.line);
        // Once it was waited for, its number may be somebody else's.
        if !self.over {
            self.kill_group();
            let _ = self.child.wait();
        }
    }
}

impl Talk {
    /// Kills all that is left of the group. The leader has not been waited for, so its number is still its own.
    fn kill_group(&self) {
        if let Some(group) = self.pid() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Has it ended? Looks without taking its exit status, so that its group cannot become somebody else's.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = self.pid().map(|pid| waitid(WaitId::Pid(pid), options));
        !matches!(status, Some(Ok(None)))
    }

    /// The next whole line of what was read, or the rest of it once nothing more can come.
    fn take_line(&mut self) -> io::Result<Option<Heard>> {
        let end = self.line.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(self.line.len());
        if length > self.limits.line_bytes {
            let message = format!("a line of more than {} bytes", self.limits.line_bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        if let Some(end) = end {
            let rest = self.line.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.line, rest);
            line.pop();
            return Ok(Some(Heard::Line(Body::new(line))));
        }
        Ok(match (&self.output, self.line.is_empty()) {
            (Some(_), _) => None,
            (None, true) => Some(Heard::End),
            (None, false) => Some(Heard::Line(Body::new(std::mem::take(&mut self.line)))),
        })
    }

    /// Reads what is there, waiting at most until `deadline` for it; with `writing`, also until there is room for
    /// more input.
    fn turn(&mut self, deadline: Deadline, writing: bool) -> io::Result<Turn> {
        let mut fds = Vec::with_capacity(3);
        fds.extend(self.output.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(self.errors.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let input = self.input.as_ref().filter(|_| writing);
        fds.extend(input.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        if !wait_ready(&mut fds, deadline)? {
            return Ok(Turn::TimeIsUp);
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut ready = ready.into_iter();
        if self.output.is_some() && ready.next() == Some(true) {
            let before = self.line.len();
            read_chunk(&mut self.output, &mut self.line)?;
            self.heard += self.line.len() - before;
            if self.heard > self.limits.output_bytes {
                let message = format!("more than {} bytes", self.limits.output_bytes);
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
        }
        if self.errors.is_some() && ready.next() == Some(true) {
            let mut chunk = Vec::new();
            read_chunk(&mut self.errors, &mut chunk)?;
            let room = self.limits.complaint_bytes.saturating_sub(self.complaint.len());
            chunk.truncate(room);
            self.complaint.append(&mut chunk);
        }
        Ok(if ready.next() == Some(true) {
            Turn::Writable
        } else {
            Turn::Read
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    TimeIsUp,
    Read,
    Writable,
}

impl Dialogue for Talk {
    fn listen(&mut self, time: Duration) -> io::Result<Heard> {
        let deadline = Deadline::after(time);
        loop {
            if let Some(heard) = self.take_line()? {
                return Ok(heard);
            }
            // A grandchild may hold the pipe open after the program's end; what it says is not the program's.
            let next = if self.has_ended() {
                Deadline::after(GLANCE)
            } else {
                deadline.min(Deadline::after(GLANCE * 10))
            };
            if self.turn(next, false)? == Turn::TimeIsUp {
                if self.has_ended() {
                    self.output = None;
                } else if deadline.passed() {
                    return Ok(Heard::Nothing);
                }
            }
        }
    }

    fn say(&mut self, line: &Body, time: Duration) -> Result<(), SayError> {
        let deadline = Deadline::after(time);
        let bytes = line.expose();
        let mut written = 0;
        while written < bytes.len() {
            let Some(input) = &mut self.input else {
                let source = io::ErrorKind::BrokenPipe.into();
                return Err(SayError { written, source });
            };
            match input.write(&bytes[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.turn(deadline, true) {
                    Ok(Turn::TimeIsUp) => {
                        let source = io::Error::new(io::ErrorKind::TimedOut, "it does not read");
                        return Err(SayError { written, source });
                    }
                    Ok(Turn::Read | Turn::Writable) => {}
                    Err(source) => return Err(SayError { written, source }),
                },
                Err(source) => return Err(SayError { written, source }),
            }
        }
        Ok(())
    }

    fn close_input(&mut self) {
        self.input = None;
    }

    fn end(mut self: Box<Self>, time: Duration) -> Farewell {
        let deadline = Deadline::after(time);
        self.input = None;
        let mut ended = self.has_ended();
        while !ended && !deadline.passed() {
            // What it says now nobody wants, but a full pipe would keep it from ending.
            if self.output.is_none() && self.errors.is_none() {
                let _ = wait_ready(&mut [], deadline.min(Deadline::after(GLANCE)));
            } else if self.turn(deadline.min(Deadline::after(GLANCE)), false).is_err() {
                break;
            }
            tokensink_types::wipe(&mut self.line);
            ended = self.has_ended();
        }
        self.kill_group();
        for _ in 0..LAST_WORDS {
            if !matches!(self.turn(Deadline::after(Duration::ZERO), false), Ok(Turn::Read)) {
                break;
            }
        }
        let status = self.child.wait().ok().filter(|_| ended);
        self.over = true;
        Farewell {
            code: status.map(exit_code),
            complaint: std::mem::take(&mut self.complaint),
        }
    }
}
