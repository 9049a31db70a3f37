//! One small JSON file per agent in our own folder, for what is believed rather than owned: benches, limits.
//!
//! Losing such a file costs a wasted request, so it must never stop anything: one that does not parse reads as empty
//! and is reported, and the next writer sets it aside before it begins a new one. Every change is made under a kernel
//! lock on a fresh read, and the file is replaced whole, so that no process loses another's change. While nothing
//! changes, a look costs one `stat`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokensink_host::Host;
use tokensink_host::lock::{KernelLock, Wait};
use tokensink_types::AgentId;

use crate::cache::StampCache;
use crate::disk;
use crate::error::StoreError;
use crate::in_turn::InTurn;
use crate::json as js;
use crate::paths::Paths;
use crate::quarantine;

/// How a file of this kind is read. It is given the whole object and skips what it does not understand.
pub type Reading<T> = fn(&Map<String, Value>) -> T;

/// All files of one kind.
#[derive(Debug)]
pub struct Beliefs<T> {
    host: Host,
    paths: Paths,
    kind: &'static str,
    reading: Reading<T>,
    cache: StampCache<AgentId, Believed<T>>,
    /// The threads of this process that are about to change an agent's file.
    writers: InTurn,
}

/// One agent's file as it was read.
#[derive(Debug, PartialEq)]
pub struct Believed<T> {
    /// What it says; nothing, for a file that is missing or cannot be read.
    pub value: T,
    /// What is wrong with the file, or was with an earlier one, for the user.
    pub warnings: Vec<String>,
    path: PathBuf,
}

impl<T: PartialEq> Beliefs<T> {
    /// The files `tokensink/state/<kind>/<agent>.json`.
    #[must_use]
    pub fn new(host: Host, paths: Paths, kind: &'static str, reading: Reading<T>) -> Self {
        Self {
            host,
            paths,
            kind,
            reading,
            cache: StampCache::default(),
            writers: InTurn::default(),
        }
    }

    /// The agent's file.
    #[must_use]
    pub fn path(&self, agent: &AgentId) -> PathBuf {
        let dir = self.paths.own_state_dir().join(self.kind);
        dir.join(format!("{agent}.json"))
    }

    /// What the agent's file says. One `stat` while it does not change; never fails.
    pub fn read(&self, agent: &AgentId) -> Arc<Believed<T>> {
        if let Some(known) = self.cache.known(agent)
            && let Ok(stamp) = self.host.files.stat(&known.value.path)
            && let Some(believed) = known.under([stamp, None])
        {
            return believed;
        }
        let path = self.path(agent);
        let (map, stamp, trouble) = match disk::read(&self.host, &self.paths, &path) {
            Ok(None) => (Map::new(), None, None),
            Ok(Some(content)) => match js::parse_object(content.bytes.expose()) {
                Ok(map) => (map, Some(content.stamp), None),
                Err(failure) => {
                    let trouble = StoreError::unreadable(&path, failure, FIX.to_owned()).to_string();
                    (Map::new(), Some(content.stamp), Some(trouble))
                }
            },
            Err(error) => {
                let believed = self.believed(path, &Map::new(), Some(error.to_string()));
                return self.cache.put_unread(agent.clone(), believed, &*self.host.clock);
            }
        };
        let believed = self.believed(path, &map, trouble);
        let (stamps, clock) = ([stamp, None], &*self.host.clock);
        self.cache.put(agent.clone(), stamps, believed, clock)
    }

    fn believed(&self, path: PathBuf, map: &Map<String, Value>, trouble: Option<String>) -> Believed<T> {
        let aside = quarantine::set_aside_before(&self.host, &path).unwrap_or_default();
        let aside = aside.iter().map(|kept| {
            format!(
                "an earlier {} could not be read and was set aside as {}; it can be removed",
                path.display(),
                kept.display()
            )
        });
        Believed {
            value: (self.reading)(map),
            warnings: trouble.into_iter().chain(aside).collect(),
            path,
        }
    }

    /// Changes the agent's file under its lock, on what it says now. It is written only when `change` changed
    /// something; a file that does not parse is set aside first. `wait` counts for the other threads of this process
    /// and for the lock together.
    ///
    /// # Errors
    /// [`StoreError::Kernel`] when the lock is not to be had in time, or [`StoreError::Io`]. The file is then as it
    /// was, or has what `change` made of it.
    pub fn update<R>(
        &self,
        agent: &AgentId,
        wait: Wait,
        change: impl FnOnce(&mut Map<String, Value>) -> R,
    ) -> Result<R, StoreError> {
        let queue = self.writers.of(agent);
        let (_turn, wait) = queue.turn(&*self.host.clock, wait);
        let lock = self.paths.locks_dir().join(format!("{}-{agent}", self.kind));
        let _lock = KernelLock::acquire(&self.host, &lock, wait)?;
        let path = self.path(agent);
        let mut map = self.fresh(&path)?;
        let before = map.clone();
        let result = change(&mut map);
        if map == before {
            return Ok(result);
        }
        map.entry("version").or_insert_with(|| json!(1));
        let written = disk::write(&self.host, &self.paths, &path, &js::to_bytes(&map));
        self.cache.forget(agent);
        written.map(|()| result)
    }

    /// What the file says, for the holder of its lock.
    fn fresh(&self, path: &Path) -> Result<Map<String, Value>, StoreError> {
        let folder = path
            .parent()
            .map_or(Ok(None), |folder| self.host.files.stat(folder));
        if folder
            .map_err(StoreError::io("look at the directory of", path))?
            .is_none()
        {
            return Ok(Map::new());
        }
        disk::recover(&self.host, &self.paths, path)?;
        let Some(content) = disk::read(&self.host, &self.paths, path)? else {
            return Ok(Map::new());
        };
        if let Ok(map) = js::parse_object(content.bytes.expose()) {
            return Ok(map);
        }
        quarantine::set_aside(&self.host, path)?;
        Ok(Map::new())
    }
}

/// What the user need do about a file that does not parse.
const FIX: &str = "It holds nothing that is needed; it is set aside when it is next written";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokensink_testkit::{Errno, TestHost};

    use super::*;

    const WAIT: Wait = Wait {
        deadline: Duration::from_secs(1),
    };

    fn count(map: &Map<String, Value>) -> i64 {
        map.get("count").and_then(Value::as_i64).unwrap_or(0)
    }

    fn beliefs(test: &TestHost) -> Beliefs<i64> {
        let paths = Paths::resolve(&test.env).unwrap();
        Beliefs::new(test.host(), paths, "counts", count)
    }

    fn add(beliefs: &Beliefs<i64>) {
        let more = |map: &mut Map<String, Value>| {
            let next = count(map) + 1;
            map.insert("count".to_owned(), next.into());
        };
        beliefs.update(&AgentId::main(), WAIT, more).unwrap();
    }

    #[test]
    fn every_process_sees_and_keeps_what_the_others_wrote() {
        let test = TestHost::new();
        let other = test.other_process(4000);
        let (ours, theirs) = (beliefs(&test), beliefs(&other));
        assert_eq!(ours.read(&AgentId::main()).value, 0);
        ours.update(&AgentId::main(), WAIT, |_| ()).unwrap();
        assert!(
            !test.files.snapshot().contains_key(&ours.path(&AgentId::main())),
            "nothing to say, no file"
        );
        for n in 1..=5 {
            add(if n % 2 == 0 { &ours } else { &theirs });
            assert_eq!(ours.read(&AgentId::main()).value, n);
            assert_eq!(theirs.read(&AgentId::main()).value, n);
        }
    }

    #[test]
    fn what_does_not_parse_is_reported_and_set_aside_by_the_next_writer() {
        let test = TestHost::new();
        let beliefs = beliefs(&test);
        let path = beliefs.path(&AgentId::main());
        for broken in ["{", "[]", "nonsense \u{0}"] {
            test.files.put(&path, broken, 0o600);
            let read = beliefs.read(&AgentId::main());
            assert_eq!((read.value, read.warnings.is_empty()), (0, false), "{broken:?}");
            add(&beliefs);
            let read = beliefs.read(&AgentId::main());
            assert_eq!((read.value, read.warnings.is_empty()), (1, false), "{broken:?}");
            test.clock.advance(Duration::from_secs(1));
        }
        let kept = quarantine::set_aside_before(&test.host(), &path).unwrap();
        assert_eq!(kept.len(), 3, "nothing is lost: {kept:?}");
    }

    /// Whoever keeps something that was made of a reading compares by identity.
    #[test]
    fn what_cannot_be_read_twice_for_the_same_reason_is_the_same_reading() {
        let test = TestHost::new();
        let beliefs = beliefs(&test);
        let path = beliefs.path(&AgentId::main());
        let (first, third) = {
            add(&beliefs);
            test.files.set_fault(&path, Some(Errno::ACCESS));
            let first = beliefs.read(&AgentId::main());
            let second = beliefs.read(&AgentId::main());
            assert_eq!((first.value, first.warnings.len()), (0, 1));
            assert!(Arc::ptr_eq(&first, &second));
            test.files.set_fault(&path, Some(Errno::IO));
            (first, beliefs.read(&AgentId::main()))
        };
        assert_ne!(first.warnings, third.warnings, "another reason is told");
        test.files.set_fault(&path, None);
        let healed = beliefs.read(&AgentId::main());
        assert_eq!((healed.value, healed.warnings.len()), (1, 0));
        // Nothing that stands in for a file is taken for the reading of one that is not there.
        test.files.set_fault(&path, Some(Errno::IO));
        assert_eq!(beliefs.read(&AgentId::main()).warnings.len(), 1);
        test.files.set_fault(&path, None);
        test.host().files.remove(&path).unwrap();
        let gone = beliefs.read(&AgentId::main());
        assert_eq!((gone.value, gone.warnings.len()), (0, 0));
    }

    /// Whoever waits for the lock of one agent does not hold up those who want another's.
    #[test]
    fn a_lock_that_is_kept_holds_up_its_own_agent_only() {
        let test = TestHost::new();
        let other = test.other_process(4000);
        let beliefs = beliefs(&test);
        let work = AgentId::normalise("work");
        let lock = beliefs.paths.locks_dir().join("counts-main");
        let _held = KernelLock::try_acquire(&other.host(), &lock).unwrap();
        let queue = beliefs.writers.of(&AgentId::main());
        let turn = queue.turn(&test.clock, WAIT);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| beliefs.update(&AgentId::main(), WAIT, |_| ()));
            beliefs.update(&work, WAIT, |_| ()).unwrap();
            drop(turn);
            assert!(waiting.join().unwrap().is_err());
        });
    }

    #[test]
    fn unknown_keys_survive() {
        let test = TestHost::new();
        let beliefs = beliefs(&test);
        test.files
            .put(beliefs.path(&AgentId::main()), r#"{"later":{"deep":[1]}}"#, 0o600);
        add(&beliefs);
        let text = test.files.text(beliefs.path(&AgentId::main()));
        assert!(text.contains("\"deep\""), "{text}");
    }
}
