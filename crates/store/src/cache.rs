//! A cache keyed by file stamps: unchanged stamps mean unchanged content, except right after a change.
//!
//! A file system's clock ticks in steps of some milliseconds, so a file that is written in place twice within one
//! step looks the same after both writes. An entry is therefore trusted only when its content was read well after the
//! file was changed, as the file's own stamp says, or well after its stamps were first seen, where the clocks do not
//! agree. Until then every look reads the file again; what reads the same stays the very same value, so that nothing
//! that was made of it is made again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokensink_host::{Clock, FileStamp};
use tokensink_types::UnixMillis;

/// How long stamps must have stood before content read under them is trusted. Several steps of any file system's
/// clock.
const SETTLE: Duration = Duration::from_millis(50);
/// How long ago a file must have been changed for its content to be trusted at once. A file server's clock may differ
/// from ours by some part of that.
const LONG_AGO: Duration = Duration::from_secs(2);
/// Entries kept; a store of 1,000 profiles needs no more records than that.
const ENTRIES_MAX: usize = 2048;

/// The stamps of the one or two files behind an entry; `None` for a missing one.
type Stamps = [Option<FileStamp>; 2];

#[derive(Debug)]
struct Entry<T> {
    /// `None` for what stands in for a file that could not be read, which is never trusted.
    stamps: Option<Stamps>,
    value: Arc<T>,
    first_seen: Duration,
    read_at: Duration,
    /// Every file was changed long before it was read.
    old: bool,
}

impl<T> Entry<T> {
    fn is_settled(&self) -> bool {
        self.old || self.read_at.saturating_sub(self.first_seen) >= SETTLE
    }
}

/// What was read last.
#[derive(Debug)]
pub(crate) struct Known<T> {
    /// The value; old, perhaps, until it is held against the stamps of now.
    pub(crate) value: Arc<T>,
    stamps: Option<Stamps>,
    settled: bool,
}

impl<T> Known<T> {
    /// The value, if it was read under exactly these stamps and can be trusted.
    pub(crate) fn under(self, stamps: Stamps) -> Option<Arc<T>> {
        (self.settled && self.stamps == Some(stamps)).then_some(self.value)
    }
}

/// Parsed files by key.
#[derive(Debug)]
pub(crate) struct StampCache<K, T>(Mutex<HashMap<K, Entry<T>>>);

impl<K, T> Default for StampCache<K, T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, T> StampCache<K, T> {
    /// The value read under exactly these stamps, if it can be trusted.
    pub(crate) fn get(&self, key: &K, stamps: Stamps) -> Option<Arc<T>> {
        self.known(key)?.under(stamps)
    }

    /// What was read last, whatever the files look like now.
    pub(crate) fn known(&self, key: &K) -> Option<Known<T>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(key).map(|entry| Known {
            value: Arc::clone(&entry.value),
            stamps: entry.stamps,
            settled: entry.is_settled(),
        })
    }

    /// Notes what was read under these stamps just now. Returns it, or the value that was known before where the two are
    /// equal.
    pub(crate) fn put(&self, key: K, stamps: Stamps, value: T, clock: &dyn Clock) -> Arc<T>
    where
        T: PartialEq,
    {
        self.keep(key, Some(stamps), value, clock)
    }

    /// Notes what stands in for a file that could not be read just now: the next look reads again. Returns it, or the
    /// value that was known before where the two are equal.
    pub(crate) fn put_unread(&self, key: K, value: T, clock: &dyn Clock) -> Arc<T>
    where
        T: PartialEq,
    {
        self.keep(key, None, value, clock)
    }

    fn keep(&self, key: K, stamps: Option<Stamps>, value: T, clock: &dyn Clock) -> Arc<T>
    where
        T: PartialEq,
    {
        let now = clock.monotonic();
        let wall = clock.now();
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= ENTRIES_MAX && !map.contains_key(&key) {
            map.clear();
        }
        let known = map.get(&key);
        let first_seen = known
            .filter(|entry| entry.stamps == stamps)
            .map_or(now, |entry| entry.first_seen);
        let value = known
            .filter(|entry| *entry.value == value)
            .map_or_else(|| Arc::new(value), |entry| Arc::clone(&entry.value));
        let entry = Entry {
            stamps,
            value: Arc::clone(&value),
            first_seen,
            read_at: now,
            old: stamps
                .iter()
                .flatten()
                .flatten()
                .all(|stamp| is_long_ago(stamp, wall)),
        };
        map.insert(key, entry);
        value
    }

    /// Forgets a key after a write of our own.
    pub(crate) fn forget(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Was the file changed long before `now`? The change time counts, which no program can set. A time in the future
/// tells that the clocks differ, and then nothing.
fn is_long_ago(stamp: &FileStamp, now: UnixMillis) -> bool {
    let age_ns = i128::from(now.0) * 1_000_000 - stamp.changed_ns;
    u128::try_from(age_ns).is_ok_and(|age| age >= LONG_AGO.as_nanos())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Wall time and monotonic time, both in milliseconds.
    #[derive(Debug)]
    struct Hands(AtomicI64);

    impl Clock for Hands {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.load(Ordering::Relaxed))
        }
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed).unsigned_abs())
        }
        fn sleep(&self, _: Duration) {}
    }

    fn at(millis: i64) -> Hands {
        Hands(AtomicI64::new(millis))
    }

    fn changed_at(millis: i64) -> Stamps {
        let stamp = FileStamp {
            device: 1,
            inode: 2,
            size: 3,
            modified_ns: 0,
            changed_ns: i128::from(millis) * 1_000_000,
            mode: 0o600,
            uid: 1,
            is_dir: false,
        };
        [Some(stamp), None]
    }

    #[test]
    fn young_entries_are_not_trusted() {
        let cache = StampCache::default();
        let stamps = changed_at(1000);
        cache.put("k", stamps, 1, &at(1000));
        assert!(cache.get(&"k", stamps).is_none(), "read in the same step");
        cache.put("k", stamps, 2, &at(1049));
        assert!(cache.get(&"k", stamps).is_none());
        cache.put("k", stamps, 3, &at(1050));
        assert_eq!(cache.get(&"k", stamps).as_deref(), Some(&3));
        cache.forget(&"k");
        assert!(cache.get(&"k", stamps).is_none());
    }

    #[test]
    fn what_reads_the_same_stays_the_same_value() {
        let cache = StampCache::default();
        let one = cache.put("k", changed_at(1000), 1, &at(1000));
        assert!(Arc::ptr_eq(&one, &cache.put("k", changed_at(1000), 1, &at(1001))));
        assert!(Arc::ptr_eq(&one, &cache.put("k", changed_at(1002), 1, &at(1002))));
        let two = cache.put("k", changed_at(1002), 2, &at(1003));
        assert_eq!(*two, 2);
    }

    #[test]
    fn what_was_changed_long_ago_is_trusted_at_once() {
        let cases = [
            (changed_at(0), true),
            (changed_at(8000), true),
            (changed_at(8001), false),
            (changed_at(10_001), false),
            ([changed_at(0)[0], changed_at(9000)[0]], false),
            ([None, None], true),
        ];
        for (stamps, trusted) in cases {
            let cache = StampCache::default();
            cache.put("k", stamps, 1, &at(10_000));
            assert_eq!(cache.get(&"k", stamps).is_some(), trusted, "{stamps:?}");
        }
    }
}
