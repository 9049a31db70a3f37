//! Where benches are kept: `tokensink/state/benches/<owner agent>.json`, for all agents that see the owner's profile.
//!
//! A change is made under a kernel lock on what the file says then, so that two processes lose nothing of each other.
//! Where the file cannot be written (a read-only state dir, a full disk), the process goes by what it would have
//! written and puts it into the file as soon as that can be written again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokensink_host::Host;
use tokensink_host::lock::Wait;
use tokensink_policy::bench::{Bench, Benches, Bucket, Probe};
use tokensink_policy::classify::Reason;
use tokensink_store::{Beliefs, Believed, Paths};
use tokensink_types::{AgentId, ProfileId, UnixMillis};

use super::projection::Lanes;

/// How long a change waits for another process's; one takes some milliseconds.
const LOCK_WAIT: Wait = Wait {
    deadline: Duration::from_secs(2),
};

/// The benches of one owner's profiles.
pub(crate) type Book = BTreeMap<ProfileId, Entry>;

/// What is believed of one profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Counts the logins: what was believed before one says nothing about what came after it.
    pub(crate) epoch: u64,
    /// The static secret that the benches are about, by its fingerprint; `None` for OAuth.
    pub(crate) material: Option<String>,
    /// The benches.
    pub(crate) benches: Vec<Noted>,
    /// What stood in `auth-state.json` after our last write there.
    pub(crate) projected: Lanes,
    /// What a write there that is under way will leave.
    pub(crate) intended: Option<Lanes>,
}

/// A bench with what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The bench.
    pub(crate) bench: Bench,
    /// What the failure said besides.
    pub(crate) about: About,
}

/// What a failure said of the account that opened a bench.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// The access token that was not taken, by its fingerprint: a refresh ends a bench of reason `auth`.
    pub(crate) generation: Option<String>,
    /// The secret that a reference gave for the call, by its fingerprint: another one begins a new epoch once it is known.
    pub(crate) referenced: Option<String>,
    /// The windows of the plan that were full: an answer by which all of them have room ends a bench of reason
    /// `rate_limit`.
    pub(crate) windows: Vec<String>,
}

impl About {
    /// What matters of it for a bench of this reason.
    fn of(&self, reason: Reason) -> Self {
        Self {
            generation: self.generation.clone().filter(|_| reason == Reason::Auth),
            referenced: self.referenced.clone(),
            windows: match reason {
                Reason::RateLimit => self.windows.clone(),
                _ => Vec::new(),
            },
        }
    }
}

impl Entry {
    /// The benches as the policy has them.
    pub(crate) fn all(&self) -> Benches {
        Benches {
            all: self.benches.iter().map(|noted| noted.bench.clone()).collect(),
        }
    }

    /// Takes over what the policy made of them. A new or renewed one is of `failure`.
    pub(crate) fn take(&mut self, benches: Benches, failure: &About) {
        let before = std::mem::take(&mut self.benches);
        let noted = |bench: Bench| {
            let known = before.iter().find(|noted| {
                noted.bench.bucket == bench.bucket
                    && noted.bench.reason == bench.reason
                    && noted.bench.since == bench.since
            });
            let about = match known {
                Some(noted) => noted.about.clone(),
                None => failure.of(bench.reason),
            };
            Noted { bench, about }
        };
        self.benches = benches.all.into_iter().map(noted).collect();
    }

    /// What shows of it in `auth-state.json`.
    pub(crate) fn lanes(&self, now: UnixMillis) -> Lanes {
        Lanes::of_benches(&self.all().all, now)
    }

    fn of_json(value: &Value) -> Self {
        let benches = value.get("benches").and_then(Value::as_array);
        Self {
            epoch: value.get("epoch").and_then(Value::as_u64).unwrap_or(0),
            material: value.get("material").and_then(Value::as_str).map(str::to_owned),
            benches: benches.map_or_else(Vec::new, |all| all.iter().filter_map(noted).collect()),
            projected: value.get("projected").map(Lanes::of_json).unwrap_or_default(),
            intended: value.get("intended").map(Lanes::of_json),
        }
    }

    /// Puts it over what the file has. Benches that a later version wrote and we cannot read stay.
    fn write_to(&self, map: &mut Map<String, Value>) {
        let unknown: Vec<Value> = map
            .get("benches")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |all| {
                all.iter().filter(|one| noted(one).is_none()).cloned().collect()
            });
        let benches: Vec<Value> = self.benches.iter().map(noted_json).chain(unknown).collect();
        put(map, "epoch", (self.epoch > 0).then(|| self.epoch.into()));
        put(map, "material", self.material.as_ref().map(|text| json!(text)));
        put(
            map,
            "benches",
            (!benches.is_empty()).then_some(Value::Array(benches)),
        );
        let projected = Some(&self.projected).filter(|lanes| !lanes.is_empty());
        put(map, "projected", projected.map(Lanes::json));
        put(map, "intended", self.intended.as_ref().map(Lanes::json));
    }

    /// What the file says with what this process could not write: of two benches of one bucket and reason the newer
    /// counts.
    fn catch_up(&mut self, unsaved: &Self) {
        if unsaved.epoch > self.epoch || unsaved.material != self.material {
            self.benches.clear();
        }
        self.epoch = self.epoch.max(unsaved.epoch);
        self.material.clone_from(&unsaved.material);
        for noted in &unsaved.benches {
            let same = |other: &&mut Noted| {
                other.bench.bucket == noted.bench.bucket && other.bench.reason == noted.bench.reason
            };
            match self.benches.iter_mut().find(same) {
                Some(other) if other.bench.since >= noted.bench.since => {}
                Some(other) => *other = noted.clone(),
                None => self.benches.push(noted.clone()),
            }
        }
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => {
            map.insert(key.to_owned(), value);
        }
        None => {
            map.shift_remove(key);
        }
    }
}

fn noted(value: &Value) -> Option<Noted> {
    let at = |key: &str| value.get(key).and_then(Value::as_i64).map(UnixMillis);
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let bucket = match value.get("model") {
        None => Bucket::Account,
        Some(Value::Null) => Bucket::Unnamed,
        Some(model) => Bucket::Model(model.as_str()?.to_owned()),
    };
    let failures = value.get("failures").and_then(Value::as_u64).unwrap_or(1);
    Some(Noted {
        bench: Bench {
            bucket,
            reason: Reason::parse(value.get("reason")?.as_str()?)?,
            since: at("since")?,
            until: at("until")?,
            stated: value.get("stated").and_then(Value::as_bool).unwrap_or(false),
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
            half_open: at("halfOpen").or(at("until"))?,
            probing: at("probing").map(|since| Probe {
                since,
                seen: at("probingSeen").unwrap_or(since),
            }),
        },
        about: About {
            generation: text("generation"),
            referenced: text("referenced"),
            windows: value
                .get("windows")
                .and_then(Value::as_array)
                .map_or_else(Vec::new, |all| {
                    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }),
        },
    })
}

fn noted_json(noted: &Noted) -> Value {
    let bench = &noted.bench;
    let mut map = Map::new();
    let model = match &bench.bucket {
        Bucket::Account => None,
        Bucket::Model(model) => Some(json!(model)),
        Bucket::Unnamed => Some(Value::Null),
    };
    put(&mut map, "model", model);
    map.insert("reason".to_owned(), json!(bench.reason.as_str()));
    map.insert("since".to_owned(), bench.since.0.into());
    map.insert("until".to_owned(), bench.until.0.into());
    if bench.stated {
        map.insert("stated".to_owned(), true.into());
    }
    map.insert("failures".to_owned(), bench.failures.into());
    map.insert("halfOpen".to_owned(), bench.half_open.0.into());
    if let Some(probe) = bench.probing {
        map.insert("probing".to_owned(), probe.since.0.into());
        if probe.seen != probe.since {
            map.insert("probingSeen".to_owned(), probe.seen.0.into());
        }
    }
    let About {
        generation,
        referenced,
        windows,
    } = &noted.about;
    put(
        &mut map,
        "generation",
        generation.as_ref().map(|text| json!(text)),
    );
    put(
        &mut map,
        "referenced",
        referenced.as_ref().map(|text| json!(text)),
    );
    put(&mut map, "windows", (!windows.is_empty()).then(|| json!(windows)));
    Value::Object(map)
}

fn book(map: &Map<String, Value>) -> Book {
    let Some(profiles) = map.get("profiles").and_then(Value::as_object) else {
        return Book::new();
    };
    profiles
        .iter()
        .filter_map(|(id, value)| Some((ProfileId::parse(id).ok()?, Entry::of_json(value))))
        .collect()
}

/// One owner's benches as they were at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    file: Arc<Believed<Book>>,
    /// What this process could not write.
    unsaved: Option<Arc<Book>>,
}

impl Seen {
    /// What is believed of a profile.
    pub(crate) fn entry(&self, id: &ProfileId) -> Option<&Entry> {
        let unsaved = self.unsaved.as_ref().and_then(|book| book.get(id));
        unsaved.or_else(|| self.file.value.get(id))
    }

    /// The very same reading?
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same_unsaved = match (&self.unsaved, &other.unsaved) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_unsaved && Arc::ptr_eq(&self.file, &other.file)
    }

    /// What the user should know about the file.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.file.warnings
    }
}

/// The benches of all owners.
#[derive(Debug)]
pub(crate) struct BenchFiles {
    files: Beliefs<Book>,
    unsaved: Mutex<HashMap<AgentId, Arc<Book>>>,
    readonly: bool,
}

impl BenchFiles {
    /// The benches of a state dir. With `readonly` they stay in memory.
    pub(crate) fn new(host: Host, paths: Paths, readonly: bool) -> Self {
        Self {
            files: Beliefs::new(host, paths, "benches", book),
            unsaved: Mutex::default(),
            readonly,
        }
    }

    /// What is believed now of `owner`'s profiles. One `stat` while nothing changes.
    pub(crate) fn read(&self, owner: &AgentId) -> Seen {
        Seen {
            unsaved: self.unsaved().get(owner).cloned(),
            file: self.files.read(owner),
        }
    }

    /// Changes what is believed of one profile. `change` may run twice, on different starting points; what it returned
    /// last counts.
    pub(crate) fn change<R>(&self, owner: &AgentId, id: &ProfileId, change: impl Fn(&mut Entry) -> R) -> R {
        if !self.readonly {
            let waiting = self.unsaved().get(owner).cloned();
            let saved = self.files.update(owner, LOCK_WAIT, |map| {
                for (id, entry) in waiting.iter().flat_map(|book| &**book) {
                    edit(map, id, |known| known.catch_up(entry));
                }
                edit(map, id, &change)
            });
            match saved {
                Ok(result) => {
                    self.saved(owner, waiting.as_ref());
                    return result;
                }
                Err(error) => tracing::warn!(%owner, %error, "a bench is kept in memory only"),
            }
        }
        let mut all = self.unsaved();
        let mut book = all.get(owner).map(|book| Book::clone(book)).unwrap_or_default();
        let known = book.get(id).cloned();
        let before =
            known.unwrap_or_else(|| self.files.read(owner).value.get(id).cloned().unwrap_or_default());
        let mut entry = before.clone();
        let result = change(&mut entry);
        // What changes nothing is not kept: it would hide what other processes write from now on.
        if entry != before {
            book.insert(id.clone(), entry);
            all.insert(owner.clone(), Arc::new(book));
        }
        result
    }

    /// Forgets what was in memory only and is in the file now, unless more came to it meanwhile.
    fn saved(&self, owner: &AgentId, waiting: Option<&Arc<Book>>) {
        let Some(waiting) = waiting else { return };
        let mut all = self.unsaved();
        if all.get(owner).is_some_and(|book| Arc::ptr_eq(book, waiting)) {
            all.remove(owner);
        }
    }

    fn unsaved(&self) -> MutexGuard<'_, HashMap<AgentId, Arc<Book>>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `change` on one profile's entry. One that says nothing is taken out.
fn edit<R>(map: &mut Map<String, Value>, id: &ProfileId, change: impl FnOnce(&mut Entry) -> R) -> R {
    let known = map.get("profiles").and_then(|profiles| profiles.get(id.as_str()));
    let before = known.map(Entry::of_json).unwrap_or_default();
    let mut entry = before.clone();
    let result = change(&mut entry);
    if entry == before {
        return result;
    }
    let profiles = map.entry("profiles").or_insert_with(|| json!({}));
    if !profiles.is_object() {
        *profiles = json!({});
    }
    if let Some(profiles) = profiles.as_object_mut() {
        let slot = profiles.entry(id.as_str()).or_insert_with(|| json!({}));
        if !slot.is_object() {
            *slot = json!({});
        }
        if let Some(slot) = slot.as_object_mut() {
            entry.write_to(slot);
            if slot.is_empty() {
                profiles.shift_remove(id.as_str());
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use tokensink_host::lock::KernelLock;
    use tokensink_testkit::TestHost;

    use super::*;

    fn files(test: &TestHost) -> BenchFiles {
        BenchFiles::new(test.host(), Paths::resolve(&test.env).unwrap(), false)
    }

    fn bench_for(entry: &mut Entry, until: i64) {
        let bench = Bench {
            bucket: Bucket::Account,
            reason: Reason::RateLimit,
            since: UnixMillis(1),
            until: UnixMillis(until),
            stated: false,
            failures: 1,
            half_open: UnixMillis(until),
            probing: None,
        };
        entry.benches = vec![Noted {
            bench,
            about: About::default(),
        }];
    }

    fn until(files: &BenchFiles, owner: &AgentId, id: &ProfileId) -> Option<i64> {
        let seen = files.read(owner);
        seen.entry(id)?.benches.first().map(|noted| noted.bench.until.0)
    }

    /// Whoever could not have the lock and had nothing to write goes on seeing what others write.
    #[test]
    fn what_changes_nothing_hides_nothing() {
        let test = TestHost::new();
        let other = test.other_process(4000);
        let (ours, theirs) = (files(&test), files(&other));
        let (owner, id) = (AgentId::main(), ProfileId::parse("rig:a").unwrap());
        theirs.change(&owner, &id, |entry| bench_for(entry, 5_000));
        let paths = Paths::resolve(&test.env).unwrap();
        let lock = paths.locks_dir().join("benches-main");
        let held = KernelLock::try_acquire(&other.host(), &lock).unwrap();
        ours.change(&owner, &id, |entry| assert_eq!(entry.benches.len(), 1));
        drop(held);
        theirs.change(&owner, &id, |entry| bench_for(entry, 9_000));
        assert_eq!(until(&ours, &owner, &id), Some(9_000));
        // What could not be written counts here until it can be.
        let held = KernelLock::try_acquire(&other.host(), &lock).unwrap();
        ours.change(&owner, &id, |entry| bench_for(entry, 11_000));
        drop(held);
        assert_eq!(
            (until(&ours, &owner, &id), until(&theirs, &owner, &id)),
            (Some(11_000), Some(9_000))
        );
    }
}
