//! The real clock, randomness and environment.

#![expect(
    clippy::disallowed_methods,
    reason = "the one real implementation of Clock, Random and Environment"
)]

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tokensink_types::UnixMillis;

use crate::{Clock, Environment, Random};

/// The clock of a machine that sleeps: the time in suspend counts.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SINCE_BOOT: ClockId = ClockId::Boottime;
/// Elsewhere the plain monotonic clock must do.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SINCE_BOOT: ClockId = ClockId::Monotonic;

/// The clocks of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock {
    /// Added to the wall time, in milliseconds.
    offset_ms: i64,
}

impl SystemClock {
    /// **A testing aid**: a clock whose wall time is moved by the whole number of seconds, positive or negative, in
    /// `TOKENSINK_CLOCK_OFFSET_SECONDS`, so that a demo and tests of the real program can let tokens age. Waiting is
    /// not affected, nor are certificate checks. A value that is no number counts as none.
    #[must_use]
    pub fn from_env(env: &dyn Environment) -> Self {
        let seconds = env
            .var("TOKENSINK_CLOCK_OFFSET_SECONDS")
            .and_then(|text| text.parse::<i64>().ok());
        Self {
            offset_ms: seconds.unwrap_or(0).saturating_mul(1000),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let now = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        };
        UnixMillis(now.saturating_add(self.offset_ms))
    }

    fn monotonic(&self) -> Duration {
        let time = clock_gettime(SINCE_BOOT);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buffer).map_err(io::Error::from)
    }
}

/// The environment that this process was started with.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        // std panics for names that no variable can have.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        let value = std::env::var(name).ok()?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect();
        names.sort();
        names
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| home.is_absolute())
    }

    fn current_dir(&self) -> Option<PathBuf> {
        std::env::current_dir().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Debug)]
    struct Variables(BTreeMap<&'static str, &'static str>);

    impl Environment for Variables {
        fn var(&self, name: &str) -> Option<String> {
            self.0.get(name).map(|value| (*value).to_owned())
        }
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
        fn home(&self) -> Option<PathBuf> {
            None
        }
        fn current_dir(&self) -> Option<PathBuf> {
            None
        }
    }

    #[test]
    fn the_offset_moves_wall_time_only() {
        let cases = [("3600", 3_600_000), ("-60", -60_000), ("soon", 0), ("1.5", 0)];
        for (text, offset) in cases {
            let env = Variables(BTreeMap::from([("TOKENSINK_CLOCK_OFFSET_SECONDS", text)]));
            let (moved, plain) = (SystemClock::from_env(&env), SystemClock::default());
            assert_eq!(moved.offset_ms, offset, "{text}");
            let difference = moved.now().0 - plain.now().0 - offset;
            assert!(difference.abs() < 10_000, "{text}: {difference} ms off");
            let difference = moved.monotonic().abs_diff(plain.monotonic());
            assert!(difference < Duration::from_secs(10), "{text}");
        }
    }

    #[test]
    fn monotonic_time_passes_in_sleep() {
        let clock = SystemClock::default();
        let start = clock.monotonic();
        clock.sleep(Duration::from_millis(2));
        assert!(clock.monotonic() - start >= Duration::from_millis(2));
    }

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        OsRandom.fill(&mut a).unwrap();
        OsRandom.fill(&mut b).unwrap();
        assert_ne!(a, b);
    }

    #[test]
    fn impossible_names_are_unset() {
        for name in ["", "A=B", "A\0B", "TOKENSINK_TEST_SURELY_UNSET"] {
            assert_eq!(ProcessEnvironment.var(name), None, "{name:?}");
        }
        assert!(ProcessEnvironment.names().contains(&"PATH".to_owned()));
    }
}
