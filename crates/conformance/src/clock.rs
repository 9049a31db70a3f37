//! The server's clock: the system's, moved. The programs under test keep the real one, so a token that has run out is
//! made by issuing it in the past, and a program whose clock is wrong by a server whose clock is wrong the other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokensink_host::Clock;
use tokensink_types::UnixMillis;

/// A clock that is moved instead of waited for; clones move together.
#[derive(Debug, Clone)]
pub(crate) struct ServerClock {
    system: Arc<dyn Clock>,
    ahead_ms: Arc<AtomicI64>,
}

impl ServerClock {
    /// The same time as `system`.
    pub(crate) fn new(system: Arc<dyn Clock>) -> Self {
        Self {
            system,
            ahead_ms: Arc::default(),
        }
    }

    /// By how many milliseconds it is ahead of the system's.
    pub(crate) fn ahead(&self) -> i64 {
        self.ahead_ms.load(Ordering::SeqCst)
    }

    /// Sets by how many milliseconds it is ahead.
    pub(crate) fn set_ahead(&self, millis: i64) {
        self.ahead_ms.store(millis, Ordering::SeqCst);
    }
}

impl Clock for ServerClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.system.now().0.saturating_add(self.ahead()))
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn sleep(&self, time: Duration) {
        self.system.sleep(time);
    }
}
