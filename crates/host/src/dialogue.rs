//! The port for programs that are talked to line by line.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokensink_types::Body;

/// A program to talk to, in an environment and a directory of its own.
#[derive(Debug)]
pub struct DialogueRequest {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments, never with a secret among them.
    pub args: Vec<OsString>,
    /// All variables that it sees.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub dir: PathBuf,
    /// How much it may say.
    pub limits: DialogueLimits,
}

/// How much a program may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialogueLimits {
    /// Longest line of its standard output in bytes, without its end.
    pub line_bytes: usize,
    /// Most bytes of standard output altogether.
    pub output_bytes: usize,
    /// Most bytes of standard error that are kept; the rest is read and forgotten.
    pub complaint_bytes: usize,
}

/// What a program said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line of its standard output, without its end.
    Line(Body),
    /// It closed its standard output.
    End,
    /// Nothing within the time.
    Nothing,
}

/// A line that did not reach a program whole.
#[derive(Debug, Error)]
#[error("the line was not taken ({written} bytes of it were): {source}")]
pub struct SayError {
    /// Bytes that the program can have read. At 0 it has nothing of the line.
    pub written: usize,
    /// What the system said; `TimedOut` where the program did not read.
    pub source: io::Error,
}

/// How a program that was talked to ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// Its exit code, 128 + n after signal n; `None` when it had to be killed.
    pub code: Option<i32>,
    /// Its standard error as far as it was kept.
    pub complaint: Vec<u8>,
}

/// A program that is talked to line by line. It has a process group of its own; dropping this kills the whole group.
pub trait Dialogue: Debug + Send {
    /// Waits at most `time` for the next line.
    ///
    /// # Errors
    /// `FileTooLarge` beyond a limit, or as the system gives them.
    fn listen(&mut self, time: Duration) -> io::Result<Heard>;
    /// Gives the program a line (end included), waiting at most `time` until it was taken.
    ///
    /// # Errors
    /// [`SayError`], which says how much the program may have read.
    fn say(&mut self, line: &Body, time: Duration) -> Result<(), SayError>;
    /// Closes its standard input: all is said. It can be listened to further.
    fn close_input(&mut self);
    /// Closes its standard input and waits at most `time` for its end; what is left of its process group is killed.
    fn end(self: Box<Self>, time: Duration) -> Farewell;
}
