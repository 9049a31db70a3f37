//! A cache keyed by file stamps: unchanged stamps mean unchanged content, except right after a change.
//!
//! A file system's clock ticks in steps of some milliseconds, so a file that is written in place twice within one
//! step looks the same after both writes. An entry is therefore trusted only when its content was read well after
//! its stamps were first seen. Until then every look reads the file again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokensink_host::FileStamp;

/// How long stamps must have stood before content read under them is trusted. Several steps of any file system's
/// clock.
const SETTLE: Duration = Duration::from_millis(50);
/// Entries kept; a store of 1,000 profiles needs no more records than that.
const ENTRIES_MAX: usize = 2048;

#[derive(Debug)]
struct Entry<T> {
    stamps: [Option<FileStamp>; 2],
    value: Arc<T>,
    first_seen: Duration,
    read_at: Duration,
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
    pub(crate) fn get(&self, key: &K, stamps: [Option<FileStamp>; 2]) -> Option<Arc<T>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(key)
            .filter(|entry| entry.stamps == stamps)
            .filter(|entry| entry.read_at.saturating_sub(entry.first_seen) >= SETTLE)
            .map(|entry| Arc::clone(&entry.value))
    }

    /// Notes what was read under these stamps at the monotonic time `now`.
    pub(crate) fn put(&self, key: K, stamps: [Option<FileStamp>; 2], value: Arc<T>, now: Duration) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= ENTRIES_MAX && !map.contains_key(&key) {
            map.clear();
        }
        let first_seen = map
            .get(&key)
            .filter(|entry| entry.stamps == stamps)
            .map_or(now, |entry| entry.first_seen);
        map.insert(
            key,
            Entry {
                stamps,
                value,
                first_seen,
                read_at: now,
            },
        );
    }

    /// Forgets a key after a write of our own.
    pub(crate) fn forget(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_entries_are_not_trusted() {
        let cache = StampCache::default();
        let at = Duration::from_millis;
        cache.put("k", [None, None], Arc::new(1), at(0));
        assert!(cache.get(&"k", [None, None]).is_none(), "read in the same step");
        cache.put("k", [None, None], Arc::new(2), at(49));
        assert!(cache.get(&"k", [None, None]).is_none());
        cache.put("k", [None, None], Arc::new(3), at(50));
        assert_eq!(cache.get(&"k", [None, None]).as_deref(), Some(&3));
        cache.forget(&"k");
        assert!(cache.get(&"k", [None, None]).is_none());
    }
}
