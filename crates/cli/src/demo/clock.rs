//! A clock that is moved instead of waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokensink_host::{Clock, SystemClock};
use tokensink_types::UnixMillis;

/// The time of the demo: the system's, moved forward. Processes that are told the same offset read the same time.
#[derive(Debug, Clone, Default)]
pub(super) struct DemoClock {
    /// Without the offset that this process may have been started with: its children get the demo's only.
    system: SystemClock,
    offset_seconds: Arc<AtomicI64>,
}

impl DemoClock {
    /// Moves the time of everybody who shares this clock; parts of a second are dropped.
    pub(super) fn advance(&self, by: Duration) {
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        self.offset_seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    /// How far it is ahead of the system's clock, in seconds.
    pub(super) fn offset_seconds(&self) -> i64 {
        self.offset_seconds.load(Ordering::SeqCst)
    }
}

impl Clock for DemoClock {
    fn now(&self) -> UnixMillis {
        let ahead = self.offset_seconds().saturating_mul(1000);
        UnixMillis(self.system.now().0.saturating_add(ahead))
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn sleep(&self, time: Duration) {
        self.system.sleep(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_move_together() {
        let clock = DemoClock::default();
        let shared = clock.clone();
        let before = shared.now();
        clock.advance(Duration::from_secs(3600));
        clock.advance(Duration::from_secs(60));
        assert_eq!(shared.offset_seconds(), 3660);
        let moved = shared.now().0 - before.0;
        assert!((3_660_000..3_670_000).contains(&moved), "{moved}");
    }
}
