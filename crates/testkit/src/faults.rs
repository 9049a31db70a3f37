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

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use rustix::io::Errno;
use tokensink_host::{
    AnswerStream, ConnectError, ConnectPhase, Connection, ExchangeError, Files, Host, Limits, Transport,
};
use tokensink_types::Body;
use url::Url;

use crate::{Course, FileCall, Steer, Steered};

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
        Arc::new(Steered::new(files, Arc::new(self.clone())))
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

impl Steer for Faults {
    fn steer(&self, call: &FileCall<'_>) -> Course {
        let error: io::Error = match self.enter(|| format!("{} {}", call.name, short(call.path))) {
            Verdict::Pass => return Course::Go,
            Verdict::Gone => return Course::Refuse(crash()),
            Verdict::CrashAfter => return Course::GoThenFail(crash()),
            Verdict::Fail(errno) => errno.into(),
            Verdict::CrashBefore => crash(),
        };
        if self.state().torn {
            return Course::Partly(call.bytes / 2, error);
        }
        Course::Refuse(error)
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
