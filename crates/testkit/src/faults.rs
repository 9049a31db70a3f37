//! Failing or crashing the n-th call into the world, for every n.
//!
//! A [`Faults`] wraps [`Files`] and [`Transport`], numbers every call from 1 and lets one of them go wrong. After a
//! crash every later call fails without effect, so the code under test unwinds and releases its locks as if the
//! process were gone; the test then looks at the same underlying ports through a fresh `Faults`. The usual loop:
//!
//! ```
//! # use std::path::Path;
//! # use tokensink_testkit::{Faults, TestHost};
//! for n in 1.. {
//!     let test = TestHost::new();
//!     let faults = Faults::crash_after(n);
//!     let host = faults.host(&test.host());
//!     let _ = host.files.create_dir(Path::new("/a"), 0o700); // the code under test
//!     // ... look at test.files here: whatever n was, nothing may be lost ...
//!     if !faults.fired() {
//!         break;
//!     }
//! }
//! ```

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use rustix::io::Errno;
use tokensink_host::{
    AnswerStream, ConnectError, ConnectPhase, Connection, ExchangeError, FileFacts, FileHandle, FileStamp,
    Files, Host, Limits, OpenMode, Transport,
};
use tokensink_types::{Body, UnixMillis};
use url::Url;

/// How an exchange fails when it is the call that was chosen by [`Faults::fail_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExchangeFault {
    /// No byte was written; the server knows nothing.
    #[default]
    NotWritten,
    /// The request was lost on its way, which nobody can know.
    RequestLost,
    /// The server handled the request; its answer was lost.
    AnswerLost,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Nothing,
    Fail(usize, Errno),
    CrashBefore(usize),
    CrashAfter(usize),
}

/// The plan and the count of calls. Clones share them.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    plan: Plan,
    exchange: ExchangeFault,
    torn: bool,
    trace: Vec<String>,
    fired: bool,
    crashed: bool,
}

/// What happens to one call.
enum Verdict {
    Pass,
    Fail(Errno),
    CrashBefore,
    CrashAfter,
    Gone,
}

impl Faults {
    fn of(plan: Plan) -> Self {
        Self(Arc::new(Mutex::new(State {
            plan,
            exchange: ExchangeFault::default(),
            torn: false,
            trace: Vec::new(),
            fired: false,
            crashed: false,
        })))
    }

    /// Counts only.
    #[must_use]
    pub fn none() -> Self {
        Self::of(Plan::Nothing)
    }

    /// Call `n` fails with `errno` and has no effect; all others work.
    #[must_use]
    pub fn fail_at(n: usize, errno: Errno) -> Self {
        Self::of(Plan::Fail(n, errno))
    }

    /// The process dies before call `n` has any effect.
    #[must_use]
    pub fn crash_before(n: usize) -> Self {
        Self::of(Plan::CrashBefore(n))
    }

    /// The process dies after call `n` had its effect, before it returns.
    #[must_use]
    pub fn crash_after(n: usize) -> Self {
        Self::of(Plan::CrashAfter(n))
    }

    /// If the chosen call is a write that fails or crashes "before", half of it is written all the same.
    #[must_use]
    pub fn torn(self) -> Self {
        self.state().torn = true;
        self
    }

    /// How the chosen call fails if it is an exchange.
    #[must_use]
    pub fn exchange(self, fault: ExchangeFault) -> Self {
        self.state().exchange = fault;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far, those after a crash not counted.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state().trace.len()
    }

    /// True once the fault has happened: while this stays false after a whole run, there is no call `n`.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.state().fired
    }

    /// The calls so far, for messages: `1 stat auth-profiles.json`.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// The last call that was let through or struck, for messages.
    #[must_use]
    pub fn last(&self) -> String {
        self.state().trace.last().cloned().unwrap_or_default()
    }

    /// True when `error` says that the process crashed in an earlier call or in this one.
    #[must_use]
    pub fn is_crash(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(inner) if inner.is::<Crashed>())
    }

    /// `files` with these faults.
    #[must_use]
    pub fn files(&self, files: Arc<dyn Files>) -> Arc<dyn Files> {
        Arc::new(FaultyFiles {
            inner: files,
            faults: self.clone(),
        })
    }

    /// `transport` with these faults.
    #[must_use]
    pub fn transport(&self, transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
        Arc::new(FaultyTransport {
            inner: transport,
            faults: self.clone(),
        })
    }

    /// `host` with faults in its files and its transport.
    #[must_use]
    pub fn host(&self, host: &Host) -> Host {
        Host {
            files: self.files(Arc::clone(&host.files)),
            transport: self.transport(Arc::clone(&host.transport)),
            ..host.clone()
        }
    }

    /// Counts a call and says what becomes of it.
    fn enter(&self, name: impl FnOnce() -> String) -> Verdict {
        let mut state = self.state();
        if state.crashed {
            return Verdict::Gone;
        }
        let number = state.trace.len() + 1;
        state.trace.push(format!("{number} {}", name()));
        let verdict = match state.plan {
            Plan::Fail(n, errno) if n == number => Verdict::Fail(errno),
            Plan::CrashBefore(n) if n == number => Verdict::CrashBefore,
            Plan::CrashAfter(n) if n == number => Verdict::CrashAfter,
            _ => return Verdict::Pass,
        };
        state.fired = true;
        state.crashed = !matches!(verdict, Verdict::Fail(_));
        verdict
    }

    fn call<T>(&self, name: &'static str, path: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.enter(|| format!("{name} {}", short(path))) {
            Verdict::Pass => run(),
            Verdict::Fail(errno) => Err(errno.into()),
            Verdict::CrashBefore | Verdict::Gone => Err(crash()),
            Verdict::CrashAfter => {
                drop(run());
                Err(crash())
            }
        }
    }
}

/// The last name of a path, enough to recognise a call.
fn short(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// What every call of a dead process comes to.
#[derive(Debug)]
struct Crashed;

impl fmt::Display for Crashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process crashed (injected)")
    }
}

impl std::error::Error for Crashed {}

fn crash() -> io::Error {
    io::Error::other(Crashed)
}

#[derive(Debug)]
struct FaultyFiles {
    inner: Arc<dyn Files>,
    faults: Faults,
}

impl FaultyFiles {
    fn handle(&self, path: &Path, handle: Box<dyn FileHandle>) -> Box<dyn FileHandle> {
        Box::new(FaultyHandle {
            inner: handle,
            path: path.to_owned(),
            faults: self.faults.clone(),
        })
    }
}

impl Files for FaultyFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.faults.call("read", path, || self.inner.read(path))
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        self.faults.call("stat", path, || self.inner.stat(path))
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.faults.call("canonical", path, || self.inner.canonical(path))
    }
    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.faults
            .call("link_target", path, || self.inner.link_target(path))
    }
    fn inspect(&self, path: &Path) -> io::Result<Option<FileFacts>> {
        self.faults.call("inspect", path, || self.inner.inspect(path))
    }
    fn open_itself(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        self.faults
            .call("open_itself", path, || self.inner.open_itself(path))
            .map(|handle| self.handle(path, handle))
    }
    fn user(&self) -> u32 {
        self.inner.user()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.faults.call("list", dir, || self.inner.list(dir))
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.faults
            .call("create_dir", path, || self.inner.create_dir(path, mode))
    }
    fn create_dir_new(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.faults
            .call("create_dir_new", path, || self.inner.create_dir_new(path, mode))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.faults
            .call("remove_dir", path, || self.inner.remove_dir(path))
    }
    fn set_modified(&self, path: &Path, at: UnixMillis) -> io::Result<()> {
        self.faults
            .call("set_modified", path, || self.inner.set_modified(path, at))
    }
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FileHandle>> {
        self.faults
            .call("create_new", path, || self.inner.create_new(path, mode))
            .map(|handle| self.handle(path, handle))
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        self.faults
            .call("open", path, || self.inner.open(path, mode))
            .map(|handle| self.handle(path, handle))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.call("rename", to, || self.inner.rename(from, to))
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults
            .call("hard_link", to, || self.inner.hard_link(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.call("remove", path, || self.inner.remove(path))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.faults.call("sync_dir", dir, || self.inner.sync_dir(dir))
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.faults
            .call("set_mode", path, || self.inner.set_mode(path, mode))
    }
    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        self.faults
            .call("free_space", path, || self.inner.free_space(path))
    }
}

#[derive(Debug)]
struct FaultyHandle {
    inner: Box<dyn FileHandle>,
    path: PathBuf,
    faults: Faults,
}

impl FileHandle for FaultyHandle {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = &mut self.inner;
        self.faults
            .call("read_at", &self.path, || inner.read_at(offset, buffer))
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let error = match self.faults.enter(|| format!("write_at {}", short(&self.path))) {
            Verdict::Pass => return self.inner.write_at(offset, bytes),
            Verdict::Gone => return Err(crash()),
            Verdict::CrashAfter => {
                let _ = self.inner.write_at(offset, bytes);
                return Err(crash());
            }
            Verdict::CrashBefore => crash(),
            Verdict::Fail(errno) => errno.into(),
        };
        if self.faults.state().torn {
            let _ = self.inner.write_at(offset, &bytes[..bytes.len() / 2]);
        }
        Err(error)
    }
    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let inner = &mut self.inner;
        self.faults.call("truncate", &self.path, || inner.truncate(size))
    }
    fn sync(&mut self) -> io::Result<()> {
        let inner = &mut self.inner;
        self.faults.call("sync", &self.path, || inner.sync())
    }
    fn stamp(&self) -> io::Result<FileStamp> {
        self.faults.call("stamp", &self.path, || self.inner.stamp())
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        let inner = &mut self.inner;
        self.faults.call("try_lock", &self.path, || inner.try_lock())
    }
    fn into_fd(self: Box<Self>) -> Option<OwnedFd> {
        self.inner.into_fd()
    }
}

#[derive(Debug)]
struct FaultyTransport {
    inner: Arc<dyn Transport>,
    faults: Faults,
}

impl Transport for FaultyTransport {
    fn connect(&self, url: &Url, deadline: Duration) -> Result<Box<dyn Connection>, ConnectError> {
        let failed = |cause: String| ConnectError {
            origin: url.origin().ascii_serialization(),
            phase: ConnectPhase::Tcp,
            cause,
            hint: None,
        };
        match self.faults.enter(|| format!("connect {url}")) {
            Verdict::Pass => {}
            Verdict::Fail(errno) => return Err(failed(errno.to_string())),
            Verdict::CrashBefore | Verdict::Gone => return Err(failed(Crashed.to_string())),
            Verdict::CrashAfter => {
                drop(self.inner.connect(url, deadline));
                return Err(failed(Crashed.to_string()));
            }
        }
        let inner = self.inner.connect(url, deadline)?;
        Ok(Box::new(FaultyConnection {
            inner,
            faults: self.faults.clone(),
        }))
    }
}

#[derive(Debug)]
struct FaultyConnection {
    inner: Box<dyn Connection>,
    faults: Faults,
}

impl Connection for FaultyConnection {
    fn exchange(
        self: Box<Self>,
        request: Request<Body>,
        limits: Limits,
    ) -> Result<Response<Body>, ExchangeError> {
        let Self { inner, faults } = *self;
        let verdict = faults.enter(|| format!("exchange {} {}", request.method(), request.uri().path()));
        let fault = faults.state().exchange;
        let ambiguous = |cause: &dyn fmt::Display| Err(ExchangeError::Ambiguous(cause.to_string()));
        match verdict {
            Verdict::Pass => inner.exchange(request, limits),
            Verdict::CrashBefore | Verdict::Gone => ambiguous(&Crashed),
            Verdict::CrashAfter => {
                drop(inner.exchange(request, limits));
                ambiguous(&Crashed)
            }
            Verdict::Fail(errno) => match fault {
                ExchangeFault::NotWritten => Err(ExchangeError::NotWritten(errno.to_string())),
                ExchangeFault::RequestLost => ambiguous(&errno),
                ExchangeFault::AnswerLost => {
                    drop(inner.exchange(request, limits));
                    ambiguous(&errno)
                }
            },
        }
    }

    fn start(self: Box<Self>, request: Request<Body>) -> Result<Box<dyn AnswerStream>, ExchangeError> {
        let Self { inner, faults } = *self;
        let cause = match faults.enter(|| format!("stream {} {}", request.method(), request.uri().path())) {
            Verdict::Pass => return inner.start(request),
            Verdict::Fail(errno) => errno.to_string(),
            Verdict::CrashBefore | Verdict::CrashAfter | Verdict::Gone => Crashed.to_string(),
        };
        Err(ExchangeError::NotWritten(cause))
    }
}

#[cfg(test)]
mod tests;
