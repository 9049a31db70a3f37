//! Real time for sockets and children, which no test clock can advance.
//!
//! Everything that merely decides by time takes a [`crate::Clock`]. A `poll` on a real descriptor, however, waits in
//! real time whatever a clock says, so its bound is counted on the same scale.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// A point in real time until which something may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `time` from now; a time too long to count is no bound.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that counts real time for descriptors"
    )]
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// What is left of it; zero when it has passed, `None` when there is no bound.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that counts real time for descriptors"
    )]
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// True once it has passed.
    pub(crate) fn passed(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// What is left as a socket time-out, which may not be zero.
    ///
    /// # Errors
    /// `TimedOut` when it has passed.
    pub(crate) fn socket_timeout(self) -> io::Result<Option<Duration>> {
        match self.left() {
            Some(left) if left.is_zero() => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }

    /// The earlier of the two.
    pub(crate) fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}

/// Waits until one of `fds` is ready or `deadline` has passed; `false` on time-out. A signal does not end the wait.
///
/// # Errors
/// As `poll(2)` gives them.
pub(crate) fn wait_ready(fds: &mut [PollFd<'_>], deadline: Deadline) -> io::Result<bool> {
    loop {
        let timeout = deadline.left().map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(fds, timeout.as_ref()) {
            Ok(0) if deadline.passed() => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
