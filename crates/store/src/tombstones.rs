//! What was moved away from here: `tokensink/state/tombstones.json`.
//!
//! A login that was moved into a bundle belongs to whoever opens the bundle. Its tombstone keeps an older copy of it,
//! in a backup or in another program's file, from being taken in again, and tells where it went. The file holds no
//! secrets: a grant is known by the hash of its refresh token. One that does not parse is reported and never written
//! over.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokensink_host::Host;
use tokensink_host::lock::{KernelLock, Wait};
use tokensink_types::{AgentId, ProfileId, SpendKey, UnixMillis};

use crate::disk;
use crate::error::StoreError;
use crate::json::{self as js, ParseFailure};
use crate::paths::Paths;

/// How long a change waits for another.
const LOCK_WAIT: Wait = Wait {
    deadline: Duration::from_secs(10),
};

/// One login that was moved away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Whose it was.
    pub agent: AgentId,
    /// Its id.
    pub profile: ProfileId,
    /// The id of the bundle that holds it.
    pub bundle: String,
    /// When it was moved.
    pub at: UnixMillis,
    /// Every refresh token of it that was or may have been sent, and the one in the bundle; empty for a key or token.
    pub keys: Vec<SpendKey>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct Tombstones {
    host: Host,
    paths: Paths,
}

impl Tombstones {
    /// The tombstones of a state directory.
    #[must_use]
    pub fn new(host: Host, paths: Paths) -> Self {
        Self { host, paths }
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.paths.own_state_dir().join("tombstones.json")
    }

    /// All tombstones, oldest first; none where there is no file.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] or [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<Tombstone>, StoreError> {
        let map = self.read()?;
        let items = map.get("tombstones").and_then(Value::as_array);
        Ok(items.map_or_else(Vec::new, |items| items.iter().filter_map(parse).collect()))
    }

    /// Sets a tombstone, durably; one of the same profile is replaced.
    ///
    /// # Errors
    /// As for [`Tombstones::list`], or when the lock is not to be had; nothing has changed then.
    pub fn set(&self, stone: &Tombstone) -> Result<(), StoreError> {
        self.change(|items| {
            items.retain(|item| !is_of(item, &stone.agent, &stone.profile));
            items.push(value(stone));
        })
    }

    /// Removes the tombstone of a profile; fine when there is none.
    ///
    /// # Errors
    /// As for [`Tombstones::set`].
    pub fn clear(&self, agent: &AgentId, profile: &ProfileId) -> Result<(), StoreError> {
        self.change(|items| items.retain(|item| !is_of(item, agent, profile)))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<(), StoreError> {
        let lock = self.paths.locks_dir().join("tombstones");
        let _lock = KernelLock::acquire(&self.host, &lock, LOCK_WAIT)?;
        let path = self.path();
        disk::recover(&self.host, &self.paths, &path)?;
        let mut map = self.read()?;
        let before = map.clone();
        let slot = map.entry("tombstones").or_insert_with(|| json!([]));
        let Some(items) = slot.as_array_mut() else {
            let failure = ParseFailure::whole("\"tombstones\" is no list");
            return Err(self.unreadable(failure));
        };
        change(items);
        if map == before || (before.is_empty() && self.is_bare(&map)) {
            return Ok(());
        }
        map.entry("version").or_insert_with(|| json!(1));
        disk::write(&self.host, &self.paths, &path, &js::to_bytes(&map))
    }

    fn is_bare(&self, map: &Map<String, Value>) -> bool {
        map.get("tombstones")
            .and_then(Value::as_array)
            .is_some_and(Vec::is_empty)
    }

    fn read(&self) -> Result<Map<String, Value>, StoreError> {
        match disk::read(&self.host, &self.paths, &self.path())? {
            Some(content) => {
                js::parse_object(content.bytes.expose()).map_err(|failure| self.unreadable(failure))
            }
            None => Ok(Map::new()),
        }
    }

    fn unreadable(&self, failure: ParseFailure) -> StoreError {
        let path = self.path();
        let fix = format!(
            "It says which logins were moved away; correct it, or move it away: mv '{0}' '{0}.bad'",
            path.display()
        );
        StoreError::unreadable(&path, failure, fix)
    }
}

fn is_of(item: &Value, agent: &AgentId, profile: &ProfileId) -> bool {
    item["agent"] == agent.as_str() && item["profile"] == profile.as_str()
}

fn value(stone: &Tombstone) -> Value {
    json!({
        "agent": stone.agent.as_str(),
        "profile": stone.profile.as_str(),
        "bundle": stone.bundle,
        "at": stone.at.0,
        "keys": stone.keys.iter().map(|key| hex::encode(key.0)).collect::<Vec<_>>(),
    })
}

/// What a later version wrote and we cannot read stays in the file and counts for nothing.
fn parse(item: &Value) -> Option<Tombstone> {
    let key = |text: &Value| {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_str()?, &mut bytes).ok()?;
        Some(SpendKey(bytes))
    };
    Some(Tombstone {
        agent: AgentId::normalise(item["agent"].as_str()?),
        profile: ProfileId::parse(item["profile"].as_str()?).ok()?,
        bundle: item["bundle"].as_str()?.to_owned(),
        at: UnixMillis(item["at"].as_i64()?),
        keys: item["keys"].as_array()?.iter().filter_map(key).collect(),
    })
}

#[cfg(test)]
mod tests {
    use tokensink_testkit::TestHost;

    use super::*;

    fn stone(profile: &str, bundle: &str) -> Tombstone {
        Tombstone {
            agent: AgentId::main(),
            profile: ProfileId::parse(profile).unwrap(),
            bundle: bundle.to_owned(),
            at: UnixMillis(7),
            keys: vec![SpendKey([1; 32])],
        }
    }

    fn world() -> (TestHost, Tombstones) {
        let test = TestHost::new();
        let paths = Paths::resolve(&test.env).unwrap();
        let stones = Tombstones::new(test.host(), paths);
        (test, stones)
    }

    #[test]
    fn set_replaced_and_cleared() {
        let (test, stones) = world();
        stones
            .clear(&AgentId::main(), &stone("a:x", "b").profile)
            .unwrap();
        assert!(
            !test.files.snapshot().contains_key(&stones.path()),
            "nothing to say, no file"
        );
        for (profile, bundle) in [("a:x", "b1"), ("a:y", "b1"), ("a:x", "b2")] {
            stones.set(&stone(profile, bundle)).unwrap();
        }
        assert_eq!(stones.list().unwrap(), [stone("a:y", "b1"), stone("a:x", "b2")]);
        stones.clear(&AgentId::main(), &stone("a:x", "").profile).unwrap();
        assert_eq!(stones.list().unwrap(), [stone("a:y", "b1")]);
    }

    #[test]
    fn what_is_not_understood_stays() {
        let (test, stones) = world();
        let cases = ["{", "[]", r#"{"tombstones":5}"#];
        for text in cases {
            test.files.put(stones.path(), text, 0o600);
            assert!(stones.set(&stone("a:x", "b")).is_err(), "{text}");
            assert_eq!(test.files.snapshot()[&stones.path()], text.as_bytes());
        }
        test.files.put(
            stones.path(),
            r#"{"later":1,"tombstones":[{"agent":"x"}]}"#,
            0o600,
        );
        stones.set(&stone("a:x", "b")).unwrap();
        let text = String::from_utf8(test.files.snapshot().remove(&stones.path()).unwrap()).unwrap();
        assert!(
            text.contains("later") && text.contains("\"agent\": \"x\""),
            "{text}"
        );
        assert_eq!(stones.list().unwrap().len(), 1);
    }
}
