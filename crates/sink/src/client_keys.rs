//! Client keys: who may call the gateway, and as which agent.
//!
//! A key is shown once, when it is made; what is kept is its hash. A revocation counts for the next request of every
//! process: a check costs one `stat` of `tokensink/state/keys.json` (one in each turn of an event loop), and a file that
//! cannot be read lets nobody in. Nothing here knows of HTTP.

mod file;
mod form;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokensink_host::lock::{KernelLock, LockError, Wait};
use tokensink_host::{FileStamp, atomic};
use tokensink_types::{AgentId, ProviderId, Secret, UnixMillis};

use crate::acquire::unknown_provider;
use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;
use crate::turns::Turn;
use file::{Document, Entry};

/// How long a change waits for another one.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How old the written time of a key's last use may become before it is written again.
const USE_STEP: Duration = Duration::from_secs(60);
/// How long before it was read a file must have been changed for its stamp to be trusted: a file system's clock goes
/// in steps, and two writes within one step leave the same stamp.
const SETTLE: Duration = Duration::from_secs(2);
/// How long it is believed that an agent exists.
const AGENT_RECHECK: Duration = Duration::from_secs(1);
/// Longest name of a key, in characters.
const NAME_MAX: usize = 64;

/// A key that is wanted.
#[derive(Debug, Clone)]
pub struct KeyAdd {
    /// What its owner calls it: letters, digits, `.`, `_` and `-`, at most 64.
    pub name: String,
    /// The agent as which its holder calls; it must exist.
    pub agent: String,
    /// The only providers that its holder may use, by id or alias; empty for all of the agent's.
    pub providers: Vec<String>,
}

/// A key that was made.
#[derive(Debug, Clone)]
pub struct KeyAdded {
    /// The key itself. It is kept nowhere; this is the only time that it is seen.
    pub key: Secret,
    /// What is known of it from now on.
    pub info: KeyInfo,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// The agent as which its holder calls.
    pub agent: AgentId,
    /// The only providers that its holder may use; `None` for all of the agent's.
    pub providers: Option<BTreeSet<ProviderId>>,
    /// How it begins.
    pub hint: String,
    /// When it was made, where that is known.
    pub created_at: Option<UnixMillis>,
    /// When it last let somebody in; a minute late at most.
    pub last_used: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// What a key is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCheck {
    /// It lets its holder in.
    Valid(Arc<KeyInfo>),
    /// It did so until it was revoked.
    Revoked {
        /// Its name.
        name: String,
    },
    /// Its agent exists no longer.
    NoAgent {
        /// Its name.
        name: String,
        /// The agent.
        agent: AgentId,
    },
    /// It begins like one of ours and is cut off or mistyped.
    Damaged,
    /// It is none of ours.
    Unknown,
}

/// What is kept between two checks.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// What the file held, with its stamp; `None` before the first look.
    seen: Option<(Option<FileStamp>, Known)>,
    /// In which turn its stamp was last looked at.
    looked_in: Option<Turn>,
    /// Whether agents exist, and when that was looked up.
    agents: HashMap<AgentId, (Duration, bool)>,
    /// Last uses that are not written yet.
    used: BTreeMap<String, UnixMillis>,
    /// What this process wrote last.
    written: BTreeMap<String, UnixMillis>,
}

impl Cache {
    fn known(&self) -> Option<&Known> {
        self.seen.as_ref().map(|(_, known)| known)
    }

    fn was_used(&mut self, name: &str, at: UnixMillis) {
        match self.used.get_mut(name) {
            Some(last) => *last = at,
            None => {
                self.used.insert(name.to_owned(), at);
            }
        }
    }
}

/// What is wrong with a file that is never the same twice.
const CHANGING: &str = "it changes all the time";

#[derive(Debug, Default)]
struct Known {
    keys: Vec<([u8; 32], Arc<KeyInfo>)>,
    settled: bool,
}

impl Sink {
    /// Makes a key. The name of a revoked key may be used again.
    ///
    /// # Errors
    /// A usage error for a name that is none or taken, and for an unknown agent or provider; otherwise when the file
    /// cannot be read or written. Nothing is changed then.
    pub fn key_add(&self, request: &KeyAdd) -> Result<KeyAdded> {
        self.require_writable("adding a client key")?;
        let name = valid_name(&request.name)?;
        let agent = self.agent(Some(&request.agent))?;
        let providers = request
            .providers
            .iter()
            .map(|text| match self.registry().resolve(text) {
                Ok(definition) => Ok(definition.id.clone()),
                Err(unknown) => Err(unknown_provider(&unknown)),
            })
            .collect::<Result<BTreeSet<_>>>()?;
        let _lock = self.lock_keys()?;
        let mut document = self.load_keys()?;
        if document.is_taken(name) {
            let message = format!("there is a client key {name:?} already; its text cannot be shown again");
            return Err(SinkError::new(ErrorKind::Usage, "key_exists", message)
                .with_fix(format!("tokensink keys revoke {}", quoted(name))));
        }
        let key = form::make(&*self.host().random).map_err(|error| {
            let message = format!("no key could be made: the system gives no randomness: {error}");
            SinkError::new(ErrorKind::Failed, "no_randomness", message)
        })?;
        let entry = Entry {
            name: name.to_owned(),
            digest: form::digest_of(&key),
            agent,
            providers: (!providers.is_empty()).then_some(providers),
            hint: form::hint_of(&key),
            created_at: Some(self.now()),
            revoked_at: None,
        };
        document.add(&entry);
        self.write_keys(&document)?;
        self.forget_use(name);
        self.audit_key("key_add", &entry);
        Ok(KeyAdded {
            key,
            info: info_of(entry, None),
        })
    }

    /// All keys, revoked ones included, in the order in which they were made.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        let written = self.written_uses();
        let cache = self.key_cache();
        let entries = self.load_keys()?.entries().into_iter();
        let latest = |name: &str| written.get(name).max(cache.used.get(name)).copied();
        Ok(entries
            .map(|entry| {
                let used = latest(&entry.name);
                info_of(entry, used)
            })
            .collect())
    }

    /// Ends a key at once, for every running process.
    ///
    /// # Errors
    /// A usage error for a name that no key has; otherwise when the file cannot be read or written.
    pub fn key_revoke(&self, name: &str) -> Result<KeyInfo> {
        self.require_writable("revoking a client key")?;
        let _lock = self.lock_keys()?;
        let mut document = self.load_keys()?;
        let known = document.entries().into_iter().find(|entry| entry.name == name);
        let Some(mut entry) = known else {
            let message = if document.is_taken(name) {
                format!(
                    "the entry {name:?} in {} is not understood; it lets nobody in",
                    self.keys_file().display()
                )
            } else {
                format!("there is no client key {name:?}")
            };
            return Err(
                SinkError::new(ErrorKind::Usage, "unknown_key", message).with_fix("tokensink keys list")
            );
        };
        if entry.revoked_at.is_none() {
            let now = self.now();
            document.revoke(name, now);
            self.write_keys(&document)?;
            entry.revoked_at = Some(now);
            self.audit_key("key_revoke", &entry);
        }
        let used = self.written_uses().get(name).copied();
        Ok(info_of(entry, used))
    }

    /// Does this text look like a client key, whole or not?
    #[must_use]
    pub fn is_client_key(text: &Secret) -> bool {
        text.expose().starts_with(form::PREFIX)
    }

    /// What a key is worth now. One `stat` while nothing changes, and in a turn of an event loop ([`Sink::turns`]) one for
    /// all keys; never writes.
    ///
    /// # Errors
    /// When the file cannot be read or does not parse: nobody is let in then.
    pub fn key_verify(&self, key: &Secret) -> Result<KeyCheck> {
        if !Self::is_client_key(key) {
            return Ok(KeyCheck::Unknown);
        }
        let digest = form::digest_of(key);
        let mut cache = self.key_cache();
        let found = self.known_keys(&mut cache).map(|known| known.find(&digest));
        let info = match found {
            Ok(Some(info)) => info,
            Ok(None) | Err(_) if !form::is_whole(key) => return Ok(KeyCheck::Damaged),
            Ok(None) => return Ok(KeyCheck::Unknown),
            Err(error) => return Err(error),
        };
        if info.revoked_at.is_some() {
            let name = info.name.clone();
            return Ok(KeyCheck::Revoked { name });
        }
        if !self.agent_exists(&mut cache, &info.agent)? {
            let (name, agent) = (info.name.clone(), info.agent.clone());
            return Ok(KeyCheck::NoAgent { name, agent });
        }
        cache.was_used(&info.name, self.now());
        Ok(KeyCheck::Valid(info))
    }

    /// Writes when keys were last used, those whose written time is a minute behind; for a server to call now and
    /// then, and with `all` at its end. That it fails is no reason to turn anybody away.
    ///
    /// # Errors
    /// When the file cannot be written; the times are tried again with the next call.
    pub fn keys_flush(&self, all: bool) -> Result<()> {
        let due: BTreeMap<String, UnixMillis> = {
            let cache = self.key_cache();
            let is_due = |name: &str, at: UnixMillis| match cache.written.get(name) {
                None => true,
                Some(before) if all => *before < at,
                Some(before) => before.until(at) >= USE_STEP,
            };
            let used = cache.used.iter();
            used.filter(|(name, at)| is_due(name, **at))
                .map(|(name, at)| (name.clone(), *at))
                .collect()
        };
        if due.is_empty() || self.store().is_readonly() {
            return Ok(());
        }
        let _lock = self.lock_keys()?;
        let mut uses = self.written_uses();
        for (name, at) in &due {
            let newest = uses.entry(name.clone()).or_insert(*at);
            *newest = (*newest).max(*at);
        }
        self.replace_in_state(&self.uses_file(), &file::uses_to_bytes(&uses))?;
        self.key_cache().written.extend(due);
        Ok(())
    }

    /// Ends all keys of an agent that is being deleted: one of the same name that is added later is another.
    pub(crate) fn revoke_keys_of(&self, agent: &AgentId) -> Result<Vec<String>> {
        let all = self.load_keys()?.entries().into_iter();
        let names: Vec<String> = all
            .filter(|entry| entry.agent == *agent && entry.revoked_at.is_none())
            .map(|entry| entry.name)
            .collect();
        for name in &names {
            self.key_revoke(name)?;
        }
        Ok(names)
    }

    fn known_keys<'a>(&self, cache: &'a mut Cache) -> Result<&'a Known> {
        let turn = self.turn();
        let looked = turn.is_some() && cache.looked_in == turn;
        if looked && matches!(&cache.seen, Some((_, known)) if known.settled) {
            return cache.known().ok_or_else(|| self.unreadable(CHANGING));
        }
        let stamp = self
            .host()
            .files
            .stat(&self.keys_file())
            .map_err(|error| self.unreadable(&error.to_string()))?;
        let current = cache
            .seen
            .as_ref()
            .is_some_and(|(seen, known)| *seen == stamp && known.settled);
        if !current {
            cache.seen = None;
            let entries = self.load_keys()?.entries().into_iter();
            let known = Known {
                keys: entries
                    .map(|entry| (entry.digest, Arc::new(info_of(entry, None))))
                    .collect(),
                settled: stamp.is_none_or(|stamp| has_settled(&stamp, self.now())),
            };
            cache.seen = Some((stamp, known));
        }
        cache.looked_in = turn;
        cache.known().ok_or_else(|| self.unreadable(CHANGING))
    }

    fn agent_exists(&self, cache: &mut Cache, agent: &AgentId) -> Result<bool> {
        let now = self.host().clock.monotonic();
        if let Some((at, exists)) = cache.agents.get(agent)
            && now.saturating_sub(*at) < AGENT_RECHECK
        {
            return Ok(*exists);
        }
        let exists = match self.agent(Some(agent.as_str())) {
            Ok(_) => true,
            Err(error) if error.code() == "unknown_agent" => false,
            Err(error) => return Err(error),
        };
        cache.agents.insert(agent.clone(), (now, exists));
        Ok(exists)
    }

    fn load_keys(&self) -> Result<Document> {
        let read = atomic::read_stable(&*self.host().files, &self.keys_file());
        let Some((bytes, _)) = read.map_err(|error| self.unreadable(&error.to_string()))? else {
            return Ok(Document::default());
        };
        let document = Document::parse(&bytes).map_err(|why| self.unreadable(&why))?;
        for name in document.blemished() {
            tracing::warn!(path = %self.keys_file().display(), name, "a client key is not understood and lets nobody in");
        }
        Ok(document)
    }

    fn unreadable(&self, why: &str) -> SinkError {
        let path = self.keys_file();
        let path = path.to_string_lossy();
        let message = format!("{path} cannot be read, so no client key counts: {why}");
        SinkError::new(ErrorKind::Failed, "keys_unreadable", message).with_fix(format!(
            "mv {0} {0}.bad  # then give every client a new key: tokensink keys add <name> --agent <id>",
            quoted(&path)
        ))
    }

    fn write_keys(&self, document: &Document) -> Result<()> {
        let written = self.replace_in_state(&self.keys_file(), &document.to_bytes());
        self.key_cache().seen = None;
        self.end_turn();
        written
    }

    fn replace_in_state(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let files = &*self.host().files;
        atomic::ensure_dir(files, &self.paths().own_state_dir(), 0o700)
            .and_then(|()| {
                let replaced = atomic::replace(files, &*self.host().random, path, bytes, 0o600);
                Ok(replaced.map(|_| ())?)
            })
            .map_err(|error| {
                let message = format!("{} cannot be written: {error}", path.display());
                SinkError::new(ErrorKind::Failed, "keys_unwritable", message)
            })
    }

    fn lock_keys(&self) -> Result<KernelLock> {
        let path = self.paths().locks_dir().join("keys");
        KernelLock::acquire(self.host(), &path, Wait { deadline: LOCK_WAIT }).map_err(|error| {
            let kind = if matches!(error, LockError::Busy { .. }) {
                ErrorKind::TryAgain
            } else {
                ErrorKind::Failed
            };
            SinkError::new(kind, "lock", error.to_string())
        })
    }

    /// A key of the name of an older one has not been used.
    fn forget_use(&self, name: &str) {
        {
            let mut cache = self.key_cache();
            cache.used.remove(name);
            cache.written.remove(name);
        }
        let mut uses = self.written_uses();
        if uses.remove(name).is_some()
            && let Err(error) = self.replace_in_state(&self.uses_file(), &file::uses_to_bytes(&uses))
        {
            tracing::warn!(%error, "the last use of an older key of this name stays in the list");
        }
    }

    fn written_uses(&self) -> BTreeMap<String, UnixMillis> {
        let read = atomic::read_stable(&*self.host().files, &self.uses_file());
        read.ok()
            .flatten()
            .map(|(bytes, _)| file::uses(&bytes))
            .unwrap_or_default()
    }

    fn keys_file(&self) -> PathBuf {
        self.paths().own_state_dir().join("keys.json")
    }

    fn uses_file(&self) -> PathBuf {
        self.paths().own_state_dir().join("keys-used.json")
    }

    fn key_cache(&self) -> MutexGuard<'_, Cache> {
        self.client_keys().lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn audit_key(&self, what: &'static str, entry: &Entry) {
        let detail = match &entry.providers {
            None => format!("{} {}", entry.name, entry.hint),
            Some(providers) => {
                let ids: Vec<&str> = providers.iter().map(ProviderId::as_str).collect();
                format!("{} {} only {}", entry.name, entry.hint, ids.join(","))
            }
        };
        self.audit_client(what, &entry.agent, &entry.name, detail);
    }
}

impl Known {
    /// Compares with every key and each time in full, so that timing tells nothing about any of them.
    fn find(&self, digest: &[u8; 32]) -> Option<Arc<KeyInfo>> {
        let mut found = None;
        for (known, info) in &self.keys {
            let difference = known
                .iter()
                .zip(digest)
                .fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
            if difference == 0 {
                found = Some(info);
            }
        }
        found.cloned()
    }
}

fn has_settled(stamp: &FileStamp, now: UnixMillis) -> bool {
    let changed = i64::try_from(stamp.changed_ns.max(stamp.modified_ns) / 1_000_000).unwrap_or(i64::MAX);
    UnixMillis(changed).until(now) >= SETTLE
}

fn info_of(entry: Entry, last_used: Option<UnixMillis>) -> KeyInfo {
    KeyInfo {
        name: entry.name,
        agent: entry.agent,
        providers: entry.providers,
        hint: entry.hint,
        created_at: entry.created_at,
        last_used,
        revoked_at: entry.revoked_at,
    }
}

/// A name that needs no quotes anywhere. What looks like a key is none: it would stand in the list for ever.
fn valid_name(text: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let wrong = |why: &str| {
        let message = format!("this is no name for a client key: {why}");
        SinkError::new(ErrorKind::Usage, "bad_key_name", message)
            .with_fix("tokensink keys add my-laptop --agent main")
    };
    match text {
        "" => Err(wrong("it is empty")),
        text if text.starts_with(form::PREFIX) => Err(wrong("it looks like a key itself")),
        text if text.len() > NAME_MAX => Err(wrong("it has more than 64 characters")),
        text if text.starts_with('-') || !text.chars().all(plain) => Err(wrong(
            "it may hold letters, digits, '.', '_' and '-', and begins with no '-'",
        )),
        text => Ok(text),
    }
}
