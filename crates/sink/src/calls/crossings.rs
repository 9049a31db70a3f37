//! Calls that cost more by the user's leave: written into the audit trail, not each of them, but that it happens and
//! since when; and counted, all of them, where the user has set how many a day may be
//! (`tokensink/state/crossings/main.json`).

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokensink_host::Host;
use tokensink_host::lock::Wait;
use tokensink_store::{Beliefs, Paths};
use tokensink_types::{AgentId, BillingClass, ProfileId, UnixMillis};

use crate::audit::Event;
use crate::decisions::Made;
use crate::sink::Sink;

/// The code of the refusal of a call that would cost more, when as many as may on one day have been made.
pub(crate) const CROSSINGS_SPENT: &str = "crossings_spent";
/// How often a crossing of one agent to one profile is written at most, by one process.
const NOTED_EVERY: Duration = Duration::from_secs(3600);
/// How long a call waits for others to be counted.
const LOCK_WAIT: Wait = Wait {
    deadline: Duration::from_secs(2),
};
const DAY_MILLIS: i64 = 24 * 3600 * 1000;

/// Who crosses to what, from which class.
type Crossing = (AgentId, ProfileId, BillingClass);

/// The calls of one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    /// Days since 1970, in UTC.
    day: i64,
    calls: u32,
}

impl Tally {
    fn read(map: &Map<String, Value>) -> Self {
        let number = |name: &str| map.get(name).and_then(Value::as_i64);
        Self {
            day: number("day").unwrap_or(0),
            calls: number("calls").map_or(0, |calls| u32::try_from(calls).unwrap_or(u32::MAX)),
        }
    }

    /// How many there were on a day.
    fn on(self, day: i64) -> u32 {
        if self.day == day { self.calls } else { 0 }
    }

    /// With one more on a day, if that is no more than `cap`.
    fn counted(self, day: i64, cap: u32) -> Option<Self> {
        let calls = self.on(day).checked_add(1).filter(|calls| *calls <= cap)?;
        Some(Self { day, calls })
    }

    /// Without those of `others`. What is left of an earlier day counts no more.
    fn without(self, others: Self) -> Self {
        if self.day > others.day {
            return self;
        }
        Self {
            day: others.day,
            calls: self.on(others.day).saturating_sub(others.calls),
        }
    }
}

fn day_of(now: UnixMillis) -> i64 {
    now.0.div_euclid(DAY_MILLIS)
}

/// What is known of crossings.
#[derive(Debug)]
pub(super) struct Crossings {
    /// When they were last written into the audit trail, monotonic.
    noted: Mutex<HashMap<Crossing, Duration>>,
    files: Beliefs<Tally>,
    /// What this process has counted where the file could not be written.
    unwritten: Mutex<Tally>,
    readonly: bool,
}

impl Crossings {
    pub(super) fn new(host: Host, paths: Paths, readonly: bool) -> Self {
        Self {
            noted: Mutex::default(),
            files: Beliefs::new(host, paths, "crossings", Tally::read),
            unwritten: Mutex::default(),
            readonly,
        }
    }

    fn is_due(&self, key: &Crossing, now: Duration) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted
            .get(key)
            .is_none_or(|last| now.saturating_sub(*last) >= NOTED_EVERY)
    }

    /// Is it due, and from now on not any more?
    fn take(&self, key: Crossing, now: Duration) -> bool {
        let is_due = self.is_due(&key, now);
        if is_due {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.insert(key, now);
        }
        is_due
    }

    fn unwritten(&self) -> MutexGuard<'_, Tally> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls_on(&self, day: i64) -> u32 {
        let written = self.files.read(&AgentId::main()).value;
        written.on(day).saturating_add(self.unwritten().on(day))
    }

    /// Counts one more, if that is no more than `cap`. The day is asked for when the count is ours to change.
    fn count(&self, cap: u32, day: impl Fn() -> i64) -> bool {
        // Another thread may add to what is unwritten while this one writes.
        let brought = Cell::new(Tally::default());
        let one_more = |map: &mut Map<String, Value>| {
            let day = day();
            let here = self.unwritten().on(day);
            brought.set(Tally { day, calls: here });
            let known = Tally::read(map);
            let all = Tally {
                day,
                calls: known.on(day).saturating_add(here),
            };
            let counted = all.counted(day, cap);
            if let Some(Tally { day, calls }) = counted {
                map.insert("day".to_owned(), json!(day));
                map.insert("calls".to_owned(), json!(calls));
            }
            counted.is_some()
        };
        if !self.readonly {
            match self.files.update(&AgentId::main(), LOCK_WAIT, one_more) {
                Ok(is_counted) => {
                    if is_counted {
                        let mut unwritten = self.unwritten();
                        *unwritten = unwritten.without(brought.get());
                    }
                    return is_counted;
                }
                Err(error) => {
                    tracing::warn!(%error, "a call that costs more is counted in this process only");
                }
            }
        }
        let day = day();
        let written = self.files.read(&AgentId::main()).value.on(day);
        let mut unwritten = self.unwritten();
        let counted = unwritten.counted(day, cap.saturating_sub(written));
        *unwritten = counted.unwrap_or(*unwritten);
        counted.is_some()
    }

    /// One call of a day was not made after all.
    fn uncount(&self, day: i64) {
        let one_less = |tally: Tally| tally.on(day).checked_sub(1).map(|calls| Tally { day, calls });
        let mut unwritten = self.unwritten();
        if let Some(less) = one_less(*unwritten) {
            *unwritten = less;
            return;
        }
        drop(unwritten);
        if self.readonly {
            return;
        }
        let updated = self.files.update(&AgentId::main(), LOCK_WAIT, |map| {
            if let Some(less) = one_less(Tally::read(map)) {
                map.insert("calls".to_owned(), json!(less.calls));
            }
        });
        if let Err(error) = updated {
            tracing::debug!(%error, "a call that was not made stays counted");
        }
    }
}

impl Sink {
    /// Have as many calls crossed today as may on one day? Where there is no bound, never.
    pub(crate) fn are_crossings_spent(&self) -> bool {
        let spent = |cap| self.calls().crossings.calls_on(day_of(self.now())) >= cap;
        self.crossings_per_day().is_some_and(spent)
    }

    /// When calls may cross again that may no more today.
    pub(crate) fn next_crossings(&self) -> UnixMillis {
        UnixMillis((day_of(self.now()) + 1).saturating_mul(DAY_MILLIS))
    }

    /// Counts a call that crosses. `false`: as many as may on one day have done so before.
    pub(crate) fn count_crossing(&self) -> bool {
        let count = |cap| self.calls().crossings.count(cap, || day_of(self.now()));
        self.crossings_per_day().is_none_or(count)
    }

    /// A call that was counted is not made.
    pub(crate) fn uncount_crossing(&self) {
        if self.crossings_per_day().is_some() {
            self.calls().crossings.uncount(day_of(self.now()));
        }
    }

    /// Does handing out `profile` cross a billing class, and is that to be counted or written down?
    pub(crate) fn is_crossing_due(&self, made: &Made, profile: &ProfileId, agent: &AgentId) -> bool {
        let crosses = made.verdict(profile).and_then(|verdict| verdict.crosses);
        crosses.is_some_and(|left| {
            let key = (agent.clone(), profile.clone(), left);
            let now = self.host().clock.monotonic();
            self.crossings_per_day().is_some() || self.calls().crossings.is_due(&key, now)
        })
    }

    /// Writes down that a profile is used that costs more than the class that was left for it, if that is due.
    pub(crate) fn note_crossing(
        &self,
        profile: &ProfileId,
        (left, billing): (BillingClass, BillingClass),
        agent: &AgentId,
    ) {
        let key = (agent.clone(), profile.clone(), left);
        if self.calls().crossings.take(key, self.host().clock.monotonic()) {
            self.audit(&Event {
                what: "crossing",
                agent,
                profile,
                detail: format!("{left} -> {billing}, as [billing] allow says"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokensink_testkit::TestHost;

    use super::*;

    /// What could not be written is written with the next call, and bounds it.
    #[test]
    fn calls_that_were_not_written_count() {
        let test = TestHost::new();
        let paths = Paths::resolve(&test.env).unwrap();
        let crossings = Crossings::new(test.host(), paths, false);
        *crossings.unwritten() = Tally { day: 3, calls: 1 };
        let count = || crossings.count(3, || 3);
        assert_eq!((crossings.calls_on(3), count()), (1, true));
        assert_eq!(crossings.unwritten().calls, 0);
        assert_eq!((crossings.calls_on(3), count(), count()), (2, true, false));
        crossings.uncount(3);
        assert_eq!((count(), count(), crossings.calls_on(3)), (true, false, 3));
        crossings.uncount(4);
        assert_eq!(crossings.calls_on(3), 3, "another day's");
    }

    #[test]
    fn a_day_has_its_own_count() {
        let tally = Tally::default().counted(3, 2).and_then(|one| one.counted(3, 2));
        assert_eq!(tally, Some(Tally { day: 3, calls: 2 }));
        let full = tally.unwrap();
        assert_eq!(full.counted(3, 2), None);
        assert_eq!(full.counted(4, 2), Some(Tally { day: 4, calls: 1 }));
        assert_eq!((full.on(3), full.on(4)), (2, 0));
        assert_eq!(Tally::default().counted(3, 0), None);
        assert_eq!(
            full.without(Tally { day: 3, calls: 1 }),
            Tally { day: 3, calls: 1 }
        );
        assert_eq!(
            full.without(Tally { day: 4, calls: 0 }),
            Tally { day: 4, calls: 0 }
        );
        assert_eq!(full.without(Tally { day: 2, calls: 2 }), full);
        let most = Tally {
            day: 3,
            calls: u32::MAX,
        };
        assert_eq!(most.counted(3, u32::MAX), None);
    }

    #[test]
    fn nonsense_in_the_file_is_no_call() {
        for (text, want) in [
            ("{}", Tally::default()),
            (r#"{"day":7,"calls":2}"#, Tally { day: 7, calls: 2 }),
            (r#"{"day":"7","calls":[]}"#, Tally::default()),
            (
                r#"{"day":7,"calls":-1}"#,
                Tally {
                    day: 7,
                    calls: u32::MAX,
                },
            ),
        ] {
            assert_eq!(Tally::read(&serde_json::from_str(text).unwrap()), want, "{text}");
        }
    }

    #[test]
    fn days_begin_at_midnight_of_utc() {
        for (millis, day) in [(0, 0), (-1, -1), (DAY_MILLIS - 1, 0), (DAY_MILLIS, 1)] {
            assert_eq!(day_of(UnixMillis(millis)), day);
        }
    }
}
