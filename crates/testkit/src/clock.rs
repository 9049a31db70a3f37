//! A clock that tests move.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokensink_host::Clock;
use tokensink_types::UnixMillis;

/// Time that stands still until a test, or somebody's sleep, moves it. Clones share one time.
#[derive(Debug, Clone)]
pub struct FakeClock(Arc<Mutex<Times>>);

#[derive(Debug)]
struct Times {
    wall: UnixMillis,
    monotonic: Duration,
    slept: Duration,
    is_patient: bool,
}

/// Longest real time that a sleep of a patient clock takes.
const PATIENCE: Duration = Duration::from_millis(20);

impl Default for FakeClock {
    /// Starts at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at(UnixMillis(1_767_225_600_000))
    }
}

impl FakeClock {
    /// Starts at `now`, with the monotonic time at one hour (so that nobody relies on zero).
    #[must_use]
    pub fn at(now: UnixMillis) -> Self {
        Self(Arc::new(Mutex::new(Times {
            wall: now,
            monotonic: Duration::from_secs(3600),
            slept: Duration::ZERO,
            is_patient: false,
        })))
    }

    /// From now on a sleep takes a moment of real time too. For tests whose threads wait for each other with a limit:
    /// without it, a busy machine lets the whole limit pass before the other thread runs once.
    pub fn be_patient(&self) {
        self.times().is_patient = true;
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves both times on.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times();
        let before = times.monotonic.as_millis();
        times.monotonic += by;
        // Whole milliseconds of the sum, so that many short steps are not lost to rounding.
        let passed = u64::try_from(times.monotonic.as_millis() - before).unwrap_or(u64::MAX);
        times.wall = times.wall.plus(Duration::from_millis(passed));
    }

    /// Sets the wall time alone, as a user or NTP does.
    pub fn set_wall(&self, now: UnixMillis) {
        self.times().wall = now;
    }

    /// How long all sleeps together were.
    #[must_use]
    pub fn slept(&self) -> Duration {
        self.times().slept
    }
}

impl Clock for FakeClock {
    fn now(&self) -> UnixMillis {
        self.times().wall
    }

    fn monotonic(&self) -> Duration {
        self.times().monotonic
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
        let mut times = self.times();
        times.slept += time;
        let is_patient = times.is_patient;
        drop(times);
        // Threads that wait for each other by polling must get their turn.
        if is_patient {
            doze(time.min(PATIENCE));
        } else {
            std::thread::yield_now();
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a test's clock takes real time, so that another thread can run"
)]
fn doze(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_advances_both_times_without_losing_fractions() {
        let clock = FakeClock::at(UnixMillis(5_000));
        let start = clock.monotonic();
        for _ in 0..10 {
            clock.sleep(Duration::from_micros(300));
        }
        assert_eq!(clock.now(), UnixMillis(5_003));
        assert_eq!(clock.monotonic() - start, Duration::from_millis(3));
        assert_eq!(clock.slept(), Duration::from_millis(3));
        clock.set_wall(UnixMillis(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), UnixMillis(1_001));
        assert_eq!(clock.monotonic() - start, Duration::from_millis(1_003));
    }
}
