//! The time of a soak: the machine's, moved ahead for everybody at once. Processes of the command are told the offset
//! when they start; servers of this process and processes that live on read it again and again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokensink_host::{Clock, SystemClock};
use tokensink_types::UnixMillis;

/// The clock of the process that moves it.
#[derive(Debug, Clone)]
pub(super) struct SoakClock {
    ahead_seconds: Arc<AtomicI64>,
    /// Where other processes read the offset.
    file: PathBuf,
}

impl SoakClock {
    /// The machine's time, and a file that says so.
    pub(super) fn new(file: PathBuf) -> Self {
        let clock = Self {
            ahead_seconds: Arc::default(),
            file,
        };
        clock.advance(Duration::ZERO);
        clock
    }

    /// Moves everybody's time on by whole seconds.
    pub(super) fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_secs()).unwrap();
        let ahead = self.ahead_seconds.fetch_add(by, Ordering::SeqCst) + by;
        let new = self.file.with_extension("new");
        std::fs::write(&new, ahead.to_string()).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    pub(super) fn ahead_seconds(&self) -> i64 {
        self.ahead_seconds.load(Ordering::SeqCst)
    }
}

impl Clock for SoakClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemClock::default().now().0 + self.ahead_seconds() * 1_000)
    }

    fn monotonic(&self) -> Duration {
        SystemClock::default().monotonic()
    }

    fn sleep(&self, time: Duration) {
        SystemClock::default().sleep(time);
    }
}

/// The same time in another process. It wakes from a sleep of the host as a real one does: both times have jumped,
/// and who waits has waited no longer for that.
#[derive(Debug)]
pub(super) struct FollowingClock {
    file: PathBuf,
}

impl FollowingClock {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
        }
    }

    fn ahead_seconds(&self) -> i64 {
        std::fs::read_to_string(&self.file).unwrap().parse().unwrap()
    }
}

impl Clock for FollowingClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemClock::default().now().0 + self.ahead_seconds() * 1_000)
    }

    fn monotonic(&self) -> Duration {
        let slept = Duration::from_secs(u64::try_from(self.ahead_seconds()).unwrap());
        SystemClock::default().monotonic() + slept
    }

    fn sleep(&self, time: Duration) {
        SystemClock::default().sleep(time);
    }
}
