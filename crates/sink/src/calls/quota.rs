//! What providers have said of their limits, per profile: `tokensink/state/quota/<owner agent>.json`.
//!
//! Nobody is asked: what is known comes from the answers to calls that were made anyway. It is in memory at once and in
//! the file every few seconds, for other processes, and at the end of a process that runs for long. A number belongs to
//! the account that it was said of; where the profile holds another credential now, nothing is known.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Map, Value, json};
use tokensink_host::Host;
use tokensink_host::lock::Wait;
use tokensink_policy::quota::{Headers, Reading, open_windows, readings, readings_of_json};
use tokensink_store::{Beliefs, Paths};
use tokensink_types::{AgentId, Credential, ProfileId, UnixMillis};

use super::epoch::{Identity, account_of, hash};
use crate::error::Result;
use crate::lease::Lease;
use crate::sink::Sink;

/// How often the file is written at most.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// A reading without a reset counts no more after this time.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a write waits for another process's; the next one brings the same.
const LOCK_WAIT: Wait = Wait {
    deadline: Duration::from_millis(200),
};

/// What is known of one profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Known {
    /// Which credential it was said of.
    about: String,
    readings: Vec<Reading>,
}

type Book = BTreeMap<ProfileId, Known>;

/// The limits of all owners' profiles.
#[derive(Debug)]
pub(crate) struct Quotas {
    files: Beliefs<Book>,
    fresh: Mutex<HashMap<AgentId, Fresh>>,
    readonly: bool,
}

/// What this process has learned.
#[derive(Debug, Default)]
struct Fresh {
    book: Book,
    /// Monotonic.
    written: Option<Duration>,
    unwritten: bool,
}

impl Fresh {
    fn is_due(&self, now: Duration) -> bool {
        let rested = |written| now.saturating_sub(written) >= WRITE_EVERY;
        self.unwritten && self.written.is_none_or(rested)
    }
}

impl Quotas {
    pub(crate) fn new(host: Host, paths: Paths, readonly: bool) -> Self {
        Self {
            files: Beliefs::new(host, paths, "quota", book),
            fresh: Mutex::default(),
            readonly,
        }
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<AgentId, Fresh>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of readings.
    fn learn(&self, owner: &AgentId, id: &ProfileId, about: String, readings: Vec<Reading>) {
        let mut all = self.fresh();
        let fresh = all.entry(owner.clone()).or_default();
        let known = fresh.book.entry(id.clone()).or_default();
        if known.about != about {
            *known = Known {
                about,
                readings: Vec::new(),
            };
        }
        merge(&mut known.readings, readings);
        fresh.unwritten = true;
    }

    /// Is there something to write, and is it time?
    fn is_due(&self, owner: &AgentId, now: Duration) -> bool {
        let all = self.fresh();
        !self.readonly && all.get(owner).is_some_and(|fresh| fresh.is_due(now))
    }

    /// The owners of whose profiles there is something to write: what it is time for, or with `all` everything.
    fn unwritten(&self, all: bool, now: Duration) -> Vec<AgentId> {
        let known = self.fresh();
        let unwritten = |fresh: &Fresh| !self.readonly && (fresh.is_due(now) || all && fresh.unwritten);
        let unwritten = known.iter().filter(|(_, fresh)| unwritten(fresh));
        unwritten.map(|(owner, _)| owner.clone()).collect()
    }

    /// Writes what this process has learned.
    fn write(&self, owner: &AgentId, now: Duration) {
        let learned = match self.fresh().get_mut(owner) {
            Some(fresh) => {
                fresh.written = Some(now);
                fresh.unwritten = false;
                fresh.book.clone()
            }
            None => return,
        };
        let written = self.files.update(owner, LOCK_WAIT, |map| {
            let mut all = book(map);
            for (id, known) in learned {
                add(all.entry(id).or_default(), known);
            }
            let profiles = all.iter().map(|(id, known)| (id.to_string(), known_json(known)));
            map.insert("profiles".to_owned(), Value::Object(profiles.collect()));
        });
        if let Err(error) = written {
            tracing::debug!(%owner, %error, "what is known of limits was not written");
            if let Some(fresh) = self.fresh().get_mut(owner) {
                fresh.unwritten = true;
            }
        }
    }

    /// What is known of a profile that holds this credential, the newest of each window.
    fn known(&self, owner: &AgentId, id: &ProfileId, about: &str, now: UnixMillis) -> Vec<Reading> {
        let mut known = self.files.read(owner).value.get(id).cloned().unwrap_or_default();
        let fresh = self.fresh();
        if let Some(fresh) = fresh.get(owner).and_then(|fresh| fresh.book.get(id)) {
            if fresh.about == about && known.about != about {
                known = fresh.clone();
            } else {
                add(&mut known, fresh.clone());
            }
        }
        if known.about != about {
            return Vec::new();
        }
        let counts = |reading: &Reading| match reading.resets_at {
            Some(reset) => now < reset,
            None => now < reading.at.plus(KEPT),
        };
        known.readings.retain(counts);
        known.readings
    }

    /// Whatever was said belonged to an earlier login.
    pub(crate) fn forget(&self, owner: &AgentId, id: &ProfileId) {
        if let Some(fresh) = self.fresh().get_mut(owner) {
            fresh.book.remove(id);
        }
        if self.readonly || !self.files.read(owner).value.contains_key(id) {
            return;
        }
        let forgotten = self.files.update(owner, LOCK_WAIT, |map| {
            let profiles = map.get_mut("profiles").and_then(Value::as_object_mut);
            profiles.and_then(|profiles| profiles.shift_remove(id.as_str()));
        });
        if let Err(error) = forgotten {
            tracing::warn!(%owner, profile = %id, %error, "an earlier login's limits are still in the file");
        }
    }
}

/// The newer of two accounts' readings; of one account's the newest of each window.
fn add(known: &mut Known, more: Known) {
    let newest = |known: &Known| known.readings.iter().map(|reading| reading.at).max();
    if known.about == more.about {
        merge(&mut known.readings, more.readings);
    } else if newest(&more) >= newest(known) {
        *known = more;
    }
}

fn merge(known: &mut Vec<Reading>, more: Vec<Reading>) {
    for reading in more {
        let same = |other: &&mut Reading| other.window == reading.window && other.source == reading.source;
        match known.iter_mut().find(same) {
            Some(other) if other.at > reading.at => {}
            Some(other) => *other = reading,
            None => known.push(reading),
        }
    }
}

fn book(map: &Map<String, Value>) -> Book {
    let Some(profiles) = map.get("profiles").and_then(Value::as_object) else {
        return Book::new();
    };
    let known = |value: &Value| Known {
        about: value
            .get("about")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        readings: value
            .get("readings")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |all| {
                all.iter()
                    .filter_map(|one| serde_json::from_value(one.clone()).ok())
                    .collect()
            }),
    };
    profiles
        .iter()
        .filter_map(|(id, value)| Some((ProfileId::parse(id).ok()?, known(value))))
        .collect()
}

fn known_json(known: &Known) -> Value {
    json!({"about": known.about, "readings": known.readings})
}

/// Which account a credential is of, as far as can be told: the secret itself, or who has logged in.
fn about(credential: &Credential) -> String {
    match credential.as_oauth() {
        None => Identity::of(credential).material.unwrap_or_default(),
        Some(oauth) => hash(&["account", account_of(oauth).unwrap_or_default()]),
    }
}

impl Sink {
    /// What is known of the limits of every profile that `agent` sees: the newest reading of each window, with source
    /// and time. A profile without an entry is one of which nothing is known.
    ///
    /// # Errors
    /// When the agent's own store or the config cannot be read.
    pub fn quota(&self, agent: &AgentId) -> Result<BTreeMap<ProfileId, Vec<Reading>>> {
        let snapshot = self.snapshot(agent)?;
        let now = self.now();
        let known = snapshot.view.profiles.iter().filter_map(|profile| {
            let (owner, id) = (&profile.owner, &profile.entry.id);
            let about = about(&profile.entry.credential);
            let readings = self.calls().quotas.known(owner, id, &about, now);
            (!readings.is_empty()).then(|| (id.clone(), readings))
        });
        Ok(known.collect())
    }

    /// The windows of a plan that an answer says have room.
    pub(super) fn windows_with_room(&self, headers: &HeaderMap) -> Vec<String> {
        let headers = limit_headers(headers);
        if headers.is_empty() {
            return Vec::new();
        }
        open_windows(&headers, self.now())
    }

    fn limits_in(&self, headers: &HeaderMap) -> Vec<Reading> {
        let headers = limit_headers(headers);
        if headers.is_empty() {
            return Vec::new();
        }
        readings(&headers, self.now())
    }

    /// Keeps what an event inside an answer says of the account's limits (`codex.rate_limits`, clients.md 5), in memory.
    /// Any other JSON says nothing.
    pub fn note_limits(&self, lease: &Lease, event: &[u8]) {
        self.learn_limits(lease, readings_of_json(event, self.now()));
    }

    /// Keeps what an answer's headers say of the account's limits (clients.md 5), in memory. To be called when the answer
    /// comes: the last word counts.
    pub fn note_limit_headers(&self, lease: &Lease, headers: &HeaderMap) {
        self.learn_limits(lease, self.limits_in(headers));
    }

    fn learn_limits(&self, lease: &Lease, found: Vec<Reading>) {
        if found.is_empty() {
            return;
        }
        let Ok(snapshot) = self.snapshot(&lease.owner) else {
            return;
        };
        if let Some(profile) = snapshot.profile(&lease.profile)
            && self.is_of_this_login(&snapshot, lease)
        {
            let about = about(&profile.entry.credential);
            self.calls()
                .quotas
                .learn(&lease.owner, &lease.profile, about, found);
        }
    }

    /// Is it time to write what is known of limits?
    pub(super) fn is_quota_due(&self, lease: &Lease) -> bool {
        let now = self.host().clock.monotonic();
        self.calls().quotas.is_due(&lease.owner, now)
    }

    /// Writes what a report has brought to light: what it is time for, but everything where nothing is written later.
    pub(super) fn write_quotas(&self) {
        self.flush_quotas(!self.is_recording());
    }

    /// Writes what is known of limits and not yet written: what it is time for, or with `all` everything.
    pub(crate) fn flush_quotas(&self, all: bool) {
        let (quotas, now) = (&self.calls().quotas, self.host().clock.monotonic());
        for owner in quotas.unwritten(all, now) {
            quotas.write(&owner, now);
        }
    }
}

/// What of an answer's headers speaks of limits.
pub(super) fn limit_headers(headers: &HeaderMap) -> Headers<'_> {
    let texts = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    Headers::of(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, agent, key};
    use crate::{AcquireRequest, Want};

    /// Also when no further answer comes.
    #[test]
    fn what_was_learned_is_written_when_it_is_time() {
        let world = World::new();
        world.store("main", &json!({"rig:a": key("rig")}));
        let sink = world.sink();
        let _recording = sink.record_decisions().unwrap();
        let request = AcquireRequest::new(agent("main"), Want::Provider("rig".into()));
        let lease = sink.acquire(&request).unwrap();
        let used = |share: &'static str| {
            let name = http::HeaderName::from_static("anthropic-ratelimit-unified-5h-utilization");
            HeaderMap::from_iter([(name, http::HeaderValue::from_static(share))])
        };
        let told = || {
            let known = world.sink().quota(&agent("main")).unwrap();
            known
                .values()
                .flatten()
                .map(|reading| reading.used)
                .collect::<Vec<_>>()
        };
        let headers = used("0.25");
        sink.report(&lease, &crate::world::whole(&headers)).unwrap();
        world.test.clock.advance(Duration::from_secs(1));
        sink.note_limit_headers(&lease, &used("0.75"));
        sink.flush_quotas(false);
        assert_eq!(told(), [0.25], "it is not time");
        world.test.clock.advance(WRITE_EVERY);
        sink.flush_quotas(false);
        assert_eq!(told(), [0.75]);
    }
}
