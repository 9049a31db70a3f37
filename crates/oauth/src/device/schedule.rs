//! When to poll (RFC 8628 sections 3.2 and 3.5). Pure: instants come in, waits go out.

use std::time::Duration;

use super::DeviceAuthorization;

/// How much slower each `slow_down` makes the polls (RFC 8628 section 3.5).
const SLOWER_BY: Duration = Duration::from_secs(5);

/// The waits of one login. Instants are monotonic (time since a fixed point, as `Clock::monotonic` gives it), so that
/// a wall clock that jumps neither ends nor prolongs a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollSchedule {
    interval: Duration,
    ends_at: Duration,
}

impl PollSchedule {
    /// Begins at `now`, when the authorization arrived.
    #[must_use]
    pub fn new(authorization: &DeviceAuthorization, now: Duration) -> Self {
        Self {
            interval: authorization.interval,
            ends_at: now.saturating_add(authorization.expires_in),
        }
    }

    /// How long to wait from `now`, the end of the last poll, to the next one; the last poll falls on the end of the
    /// codes' life. `None` when that is over.
    #[must_use]
    pub fn next(&self, now: Duration) -> Option<Duration> {
        let left = self.ends_at.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(self.interval.min(left))
    }

    /// After [`super::DevicePoll::SlowDown`]: 5 s more between polls from now on.
    pub fn slow_down(&mut self) {
        self.interval = self.interval.saturating_add(SLOWER_BY);
    }

    /// Is the life of the codes over?
    #[must_use]
    pub fn expired(&self, now: Duration) -> bool {
        now >= self.ends_at
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn polls_at_intervals_slows_down_and_ends() {
        let seconds = Duration::from_secs;
        let authorization = DeviceAuthorization {
            device_code: "d".into(),
            user_code: "u".into(),
            verification_uri: Url::parse("https://as.example/").unwrap(),
            verification_uri_complete: None,
            expires_in: seconds(30),
            interval: seconds(5),
        };
        let mut schedule = PollSchedule::new(&authorization, seconds(100));
        let mut now = seconds(100);
        let mut polls = Vec::new();
        while let Some(wait) = schedule.next(now) {
            assert!(!schedule.expired(now));
            now += wait;
            polls.push(now.as_secs() - 100);
            if polls.len() == 2 {
                schedule.slow_down();
            }
        }
        assert_eq!(polls, [5, 10, 20, 30]);
        assert!(schedule.expired(now));
        assert!(!schedule.expired(seconds(0)));
    }
}
