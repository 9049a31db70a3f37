//! Telling threads of this process that something has changed, and telling them to stop.
//!
//! They wait by real time, not by a [`Clock`](tokensink_host::Clock): what they wait for comes from other programs,
//! which know nothing of a test's clock, and a clock whose sleep returns at once would make them spin.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A number that grows, and those who wait for it to grow.
#[derive(Debug)]
pub(crate) struct Pulse {
    beats: AtomicU64,
    waiting: Mutex<()>,
    news: Condvar,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            // Above zero, so that zero can stand for "never looked".
            beats: AtomicU64::new(1),
            waiting: Mutex::new(()),
            news: Condvar::new(),
        }
    }
}

impl Pulse {
    /// The number now.
    pub(crate) fn count(&self) -> u64 {
        self.beats.load(Ordering::Acquire)
    }

    /// Makes it grow.
    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::AcqRel);
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.news.notify_all();
    }

    /// Waits until it is above `seen`, at most `time`. Returns whether it is.
    pub(crate) fn wait_past(&self, seen: u64, time: Duration) -> bool {
        let guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self
            .news
            .wait_timeout_while(guard, time, |()| self.count() <= seen);
        drop(ended);
        self.count() > seen
    }
}
