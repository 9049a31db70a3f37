//! The ports. Each method is one thing that can fail or crash on its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use thiserror::Error;
use tokensink_types::{Body, ProcessId, Secret, UnixMillis};
use url::Url;

use crate::{AnswerStream, Dialogue, DialogueRequest};

/// Everything that a sink is given of the world. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    /// Wall time and waiting.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Environment variables and directories.
    pub env: Arc<dyn Environment>,
    /// The file system.
    pub files: Arc<dyn Files>,
    /// HTTP to token endpoints.
    pub transport: Arc<dyn Transport>,
    /// This process and others.
    pub processes: Arc<dyn Processes>,
}

/// Time.
pub trait Clock: Debug + Send + Sync {
    /// Wall time, for what is stored. May jump.
    fn now(&self) -> UnixMillis;
    /// Time since some fixed point, for waiting. Never goes back and, where the system can, counts suspension.
    fn monotonic(&self) -> Duration;
    /// Waits. A test clock advances instead.
    fn sleep(&self, time: Duration);
}

/// Randomness.
pub trait Random: Debug + Send + Sync {
    /// Fills `buffer` with bytes that nobody can guess.
    ///
    /// # Errors
    /// When the system has none to give.
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()>;
}

/// Environment variables and the directories that the environment names.
pub trait Environment: Debug + Send + Sync {
    /// A variable, trimmed; unset, blank and not-Unicode all read as `None` (spec.md 1.1).
    fn var(&self, name: &str) -> Option<String>;
    /// The names of all variables, for cleaning a child's environment.
    fn names(&self) -> Vec<String>;
    /// The user's home directory.
    fn home(&self) -> Option<PathBuf>;
    /// The working directory.
    fn current_dir(&self) -> Option<PathBuf>;
}

/// What `stat` tells; two equal stamps mean an unchanged file for our purposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since the epoch.
    pub modified_ns: i128,
    /// Change time in nanoseconds since the epoch.
    pub changed_ns: i128,
    /// Permission bits, for example 0o600.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// True for a directory.
    pub is_dir: bool,
}

/// What sort of thing has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Other,
}

/// What is at a path, with a link in the last place not followed: for deciding whether it may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// What sort of thing it is.
    pub kind: FileKind,
    /// Its stamp; a link's own.
    pub stamp: FileStamp,
    /// How many names it has.
    pub links: u64,
    /// When it was made, in nanoseconds since the epoch, where the file system tells.
    pub born_ns: Option<i128>,
}

/// How an existing file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading.
    Read,
    /// For reading and writing in place.
    ReadWrite,
}

/// The file system. Paths are absolute; links are followed unless said otherwise.
pub trait Files: Debug + Send + Sync {
    /// The whole content.
    ///
    /// # Errors
    /// As the system gives them; `NotFound` for a missing file, `FileTooLarge` above 64 MiB.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// The stamp of what `path` leads to, `None` when nothing is there.
    ///
    /// # Errors
    /// As the system gives them, other than `NotFound`.
    fn stat(&self, path: &Path) -> io::Result<Option<FileStamp>>;
    /// The path with every link resolved.
    ///
    /// # Errors
    /// As the system gives them.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// What a link at `path` points to, `None` when `path` is no link or missing.
    ///
    /// # Errors
    /// As the system gives them.
    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>>;
    /// What is at `path`; a link in the last place is told as one. `None` when nothing is there.
    ///
    /// # Errors
    /// As the system gives them, other than `NotFound`.
    fn inspect(&self, path: &Path) -> io::Result<Option<FileFacts>>;
    /// Opens an existing file for reading. A link in the last place is not followed, and a pipe is not waited for.
    ///
    /// # Errors
    /// As the system gives them; `FilesystemLoop` for a link.
    fn open_itself(&self, path: &Path) -> io::Result<Box<dyn FileHandle>>;
    /// The user whose files are ours.
    fn user(&self) -> u32;
    /// The names in a directory, sorted; empty when it is missing.
    ///
    /// # Errors
    /// As the system gives them, other than `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Creates one directory with `mode` from birth; fine when it is there already.
    ///
    /// # Errors
    /// As the system gives them.
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Creates one directory that must not exist, with `mode` from birth: the lock of the tools that lock with
    /// `mkdir` (clients.md 3.4).
    ///
    /// # Errors
    /// `AlreadyExists`, or as the system gives them.
    fn create_dir_new(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Removes an empty directory.
    ///
    /// # Errors
    /// `DirectoryNotEmpty`, or as the system gives them.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Sets the modification time of a file or directory: the heartbeat of a `mkdir` lock.
    ///
    /// # Errors
    /// As the system gives them.
    fn set_modified(&self, path: &Path, at: UnixMillis) -> io::Result<()>;
    /// Creates a file that must not exist, with `mode` from birth.
    ///
    /// # Errors
    /// `AlreadyExists`, or as the system gives them.
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FileHandle>>;
    /// Opens an existing file.
    ///
    /// # Errors
    /// As the system gives them.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>>;
    /// Moves a file over another.
    ///
    /// # Errors
    /// As the system gives them.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name that must not exist.
    ///
    /// # Errors
    /// `AlreadyExists`, or as the system gives them.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; a link is removed, not followed.
    ///
    /// # Errors
    /// As the system gives them.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the system gives them.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Sets the permission bits.
    ///
    /// # Errors
    /// As the system gives them.
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Bytes that we may still write on the file system of `path`, which exists; `None` where that is not known.
    ///
    /// # Errors
    /// As the system gives them.
    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        let _ = path;
        Ok(None)
    }
    /// Starts telling of changes in directories, none at first. `on_change` is called from another thread, often more
    /// than once for one change, and must return at once.
    ///
    /// # Errors
    /// When the system cannot (`Unsupported`, no descriptors left); looking at stamps then has to do.
    fn watch(&self, on_change: Box<dyn Fn() + Send>) -> io::Result<Box<dyn DirWatch>> {
        let _ = on_change;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Directories that are watched. Dropping it ends that.
pub trait DirWatch: Debug + Send {
    /// Watches exactly these directories from now on: names that appear, vanish or are replaced in them, and what is
    /// written into their files. Not what lies deeper. Returns those that cannot be watched, missing ones included.
    fn set(&mut self, dirs: &BTreeSet<PathBuf>) -> Vec<PathBuf>;
}

/// An open file. Dropping it closes it and releases its lock.
pub trait FileHandle: Debug + Send {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// As the system gives them.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// As the system gives them; part may then be written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `size` bytes.
    ///
    /// # Errors
    /// As the system gives them.
    fn truncate(&mut self, size: u64) -> io::Result<()>;
    /// Makes the content durable (fsync).
    ///
    /// # Errors
    /// As the system gives them.
    fn sync(&mut self) -> io::Result<()>;
    /// The stamp of the open file.
    ///
    /// # Errors
    /// As the system gives them.
    fn stamp(&self) -> io::Result<FileStamp>;
    /// Takes the kernel's exclusive lock (`flock`) without waiting; `false` when another open file has it.
    ///
    /// # Errors
    /// As the system gives them, for example on a file system without locks.
    fn try_lock(&mut self) -> io::Result<bool>;
    /// Gives the descriptor away, lock included, for a child process to inherit. `None` where there is no
    /// descriptor (an in-memory file of a test).
    fn into_fd(self: Box<Self>) -> Option<OwnedFd>;
}

/// Bounds of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of the request to the last of the answer.
    pub time: Duration,
    /// Largest answer body in bytes.
    pub body_bytes: usize,
}

/// How far a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectPhase {
    /// Name resolution.
    Dns,
    /// Connecting to host or proxy.
    Tcp,
    /// The proxy's CONNECT.
    Proxy,
    /// The TLS handshake, including the certificate check.
    Tls,
}

/// No connection; nothing of the request left.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no connection to {origin}: {cause}")]
pub struct ConnectError {
    /// Scheme, host and port that were wanted.
    pub origin: String,
    /// How far it came.
    pub phase: ConnectPhase,
    /// What the system, proxy or TLS library said, in words.
    pub cause: String,
    /// What the user can do, with the exact setting or command, where something helps.
    pub hint: Option<String>,
}

/// No complete answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// No byte of the request was given to the network: sending it again is free.
    #[error("the request was not sent: {0}")]
    NotWritten(String),
    /// The request may have arrived, and what became of it is unknown.
    #[error("the request was sent, but no complete answer came: {0}")]
    Ambiguous(String),
}

/// HTTP/1.1 to a token endpoint, in two steps: all that can fail for free, then the exchange. No pool, no
/// redirects, no retries.
pub trait Transport: Debug + Send + Sync {
    /// Resolves, connects, goes through a proxy if one is set, and completes TLS.
    ///
    /// # Errors
    /// [`ConnectError`], with the phase that failed.
    fn connect(&self, url: &Url, deadline: Duration) -> Result<Box<dyn Connection>, ConnectError>;
}

/// A connection that is ready for one request.
pub trait Connection: Debug + Send {
    /// Sends one request and reads its whole answer. Answers of any status are `Ok`. The request's URI is absolute.
    ///
    /// # Errors
    /// [`ExchangeError`], which says whether the request can have arrived.
    fn exchange(
        self: Box<Self>,
        request: Request<Body>,
        limits: Limits,
    ) -> Result<Response<Body>, ExchangeError>;
    /// Takes one request whose answer is read as it comes. The request's URI is absolute; the connection is closed
    /// with the answer.
    ///
    /// # Errors
    /// `NotWritten` for a request that is not for this connection, or where answers come whole only.
    fn start(self: Box<Self>, request: Request<Body>) -> Result<Box<dyn AnswerStream>, ExchangeError> {
        let to = request
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str());
        Err(ExchangeError::NotWritten(format!("{to}: no streams here")))
    }
}

/// What is known of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs.
    Running,
    /// It exists but is stopped (SIGSTOP, debugger).
    Stopped,
    /// It ended: no such pid, another start time, or another boot of this host.
    Dead,
    /// It is on another host or cannot be seen.
    Unknown,
}

/// Where a child's standard input comes from.
#[derive(Debug)]
pub enum StdioSource {
    /// Nothing.
    Null,
    /// Our own.
    Inherit,
    /// A descriptor that the child takes over, with the lock on it.
    Descriptor(OwnedFd),
}

/// A program to run.
#[derive(Debug)]
pub struct ProcessRequest {
    /// Program: an absolute path or a name on PATH.
    pub program: OsString,
    /// Arguments, never with a secret among them.
    pub args: Vec<OsString>,
    /// Variables to set in the child, over ours.
    pub set_env: Vec<(OsString, OsString)>,
    /// Variables that the child must not see.
    pub remove_env: Vec<OsString>,
    /// Its standard input. Its output is ours with [`Processes::run`], nothing with [`Processes::spawn_detached`],
    /// and the report with [`Processes::spawn_helper`].
    pub stdin: StdioSource,
}

/// What a detached helper writes to its standard output, awaited from outside.
pub trait HelperReport: Debug + Send {
    /// The helper's process id, where it has one.
    fn pid(&self) -> Option<u32>;

    /// Waits until the helper closes its output, at most `deadline`; `None` when it is still at work then. Up to
    /// 64 KiB are kept.
    ///
    /// # Errors
    /// As the system gives them.
    fn wait(&mut self, deadline: Duration) -> io::Result<Option<Vec<u8>>>;
}

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, 128 + n after signal n.
    pub code: i32,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard error, up to 16 KiB.
    pub complaint: Vec<u8>,
}

/// A program that is asked something and must answer within bounds: it sees exactly this environment, has no terminal,
/// and on any breach the whole process group is killed.
#[derive(Debug)]
pub struct BoundedRequest {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Arguments, never with a secret among them.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, Secret)>,
    /// Its working directory.
    pub dir: PathBuf,
    /// What it reads on standard input; it may leave it unread.
    pub input: Body,
    /// What it must keep to.
    pub bounds: Bounds,
}

/// What a program that is asked something must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// From its start to its end.
    pub time: Duration,
    /// Longest time in which it writes nothing.
    pub quiet: Duration,
    /// Most bytes on standard output.
    pub output_bytes: usize,
}

/// How a bounded program ended. What it wrote to standard error is dropped, since it may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundedEnd {
    /// Its exit code, 128 + n after signal n.
    pub code: i32,
    /// Its standard output.
    pub output: Body,
}

/// A bounded program gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BoundedError {
    /// It could not be started.
    #[error("could not be started: {0}")]
    NotStarted(io::Error),
    /// It did not end in time.
    #[error("did not end within {} ms and was killed", .0.as_millis())]
    TooLong(Duration),
    /// It wrote nothing for too long.
    #[error("wrote nothing for {} ms and was killed", .0.as_millis())]
    TooQuiet(Duration),
    /// It wrote too much.
    #[error("wrote more than {0} bytes and was killed")]
    TooMuch(usize),
    /// The system failed while it was talked to.
    #[error("could not be talked to: {0}")]
    Io(io::Error),
}

/// A program that runs beside us and does not outlive this value.
pub trait ChildProcess: Debug + Send {
    /// Ends it at once (SIGKILL); the programs that it started live on. Fine when it has ended already.
    ///
    /// # Errors
    /// As the system gives them.
    fn kill(&mut self) -> io::Result<()>;
    /// Waits until it ends.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`, when it is killed; `FileTooLarge` above 1 MiB of standard output; or as the
    /// system gives them.
    fn wait(&mut self, deadline: Duration) -> io::Result<Ended>;
}

/// This process and others.
pub trait Processes: Debug + Send + Sync {
    /// Who we are.
    fn this(&self) -> ProcessId;
    /// The user in whose name we act (the effective uid), `None` where that is not known.
    fn user(&self) -> Option<u32> {
        None
    }
    /// Path of the running program, for starting a helper of the same version.
    ///
    /// # Errors
    /// As the system gives them.
    fn this_program(&self) -> io::Result<PathBuf>;
    /// What is known of `process`.
    fn liveness(&self, process: &ProcessId) -> Liveness;
    /// The process that has this pid now; `None` when there is none, or the system does not tell.
    fn identify(&self, pid: u32) -> Option<ProcessId> {
        let _ = pid;
        None
    }
    /// A descriptor that becomes readable when the process that has this pid now ends, and stays so. `None` where the
    /// system has no such thing: then [`Processes::liveness`] has to be asked again and again.
    ///
    /// # Errors
    /// As the system gives them; `NotFound` when there is no such process.
    fn end_of(&self, pid: u32) -> io::Result<Option<OwnedFd>> {
        let _ = pid;
        Ok(None)
    }
    /// Starts a program in a process group of its own with no terminal, and does not wait for it: it outlives us
    /// and signals meant for us do not reach it.
    ///
    /// # Errors
    /// As the system gives them.
    fn spawn_detached(&self, request: ProcessRequest) -> io::Result<()>;
    /// Starts a program like [`Processes::spawn_detached`], but with its standard output readable through the report.
    /// Dropping the report, or our death, does not end the helper (it must not die of a broken pipe).
    ///
    /// # Errors
    /// As the system gives them.
    fn spawn_helper(&self, request: ProcessRequest) -> io::Result<Box<dyn HelperReport>>;
    /// Runs a program with our standard streams and waits for it; returns its exit code, 128 + n after signal n.
    ///
    /// # Errors
    /// As the system gives them, for example when there is no such program.
    fn run(&self, request: ProcessRequest) -> io::Result<i32>;
    /// Runs a program without input and collects its standard output, up to 1 MiB.
    ///
    /// # Errors
    /// As the system gives them; an exit code other than 0 is an error with the program's standard error in it.
    fn output(&self, request: ProcessRequest, deadline: Duration) -> io::Result<Vec<u8>>;
    /// Runs a program in a process group of its own, gives it its input, and collects what it answers within bounds.
    ///
    /// # Errors
    /// [`BoundedError`]; neither input nor output is in it.
    fn run_bounded(&self, request: BoundedRequest) -> Result<BoundedEnd, BoundedError> {
        let program = request.program.display().to_string();
        Err(BoundedError::NotStarted(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{program} cannot run here"),
        )))
    }
    /// Starts a program beside us and collects what it says; many can run at once.
    ///
    /// # Errors
    /// As the system gives them; `Unsupported` where programs only pretend to run.
    fn spawn(&self, request: ProcessRequest) -> io::Result<Box<dyn ChildProcess>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{} cannot run beside us here", request.program.to_string_lossy()),
        ))
    }
    /// Starts a program that is talked to line by line.
    ///
    /// # Errors
    /// As the system gives them; `Unsupported` where programs only pretend to run.
    fn spawn_dialogue(&self, request: DialogueRequest) -> io::Result<Box<dyn Dialogue>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{} cannot be talked to here", request.program.display()),
        ))
    }
}
