//! `agents/<id>/sessions/sessions.json`: which model and which profile a conversation has (spec.md 4.4).
//!
//! The file is OpenClaw's. An edit replaces the values that it is about where they stand and leaves every other byte as
//! it is, under the `.lock` file that OpenClaw takes for it and our kernel lock. What only we know of a session is in a
//! file of our own ([`marks`]) and written first: a mark without its pin counts for nothing. A file that does not parse
//! reads as empty, with a warning; the first write sets it aside and starts a new one, as OpenClaw does without keeping
//! the old. Which profile a session gets is not known here.

mod entry;
mod marks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokensink_host::{Host, atomic};
use tokensink_types::{AgentId, SessionKey, UnixMillis};

use crate::agent_store::STORE_LOCK_WAIT;
use crate::cache::StampCache;
use crate::config::Editor;
use crate::disk;
use crate::error::{StoreError, Unreadable};
use crate::json::{self as js, ParseFailure};
use crate::openclaw_lock::{GuardedLock, LockKind};
use crate::paths::{Paths, lock_sibling, real_dir_path, real_path};
use crate::quarantine;
use marks::Marks;

pub use entry::{OtherPin, Session};

/// How long a session that was made for a client's header is kept after its last use: longer than any client resumes
/// a conversation by itself, and as long as OpenClaw keeps its own.
pub const MADE_KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many of those are kept. OpenClaw keeps 500 sessions in a file and drops the oldest; ours must leave room for
/// its own.
pub const MADE_MAX: usize = 200;
/// How often the last use of such a session is written down. Finer than the days by which they are kept, and rare enough
/// that a call costs no write.
pub const USE_NOTED_EVERY: Duration = Duration::from_secs(3600);

/// The sessions of one agent as they were read.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Sessions {
    /// By key.
    pub map: BTreeMap<SessionKey, Session>,
    /// Files that could not be read and count as empty.
    pub unreadable: Vec<Unreadable>,
}

/// What became of an update.
#[derive(Debug, Clone)]
pub struct SessionUpdate {
    /// The session as it is now.
    pub session: Session,
    /// A file that did not parse and is now here.
    pub set_aside: Vec<PathBuf>,
}

/// The sessions of all agents of a state directory.
#[derive(Debug)]
pub struct SessionStore {
    host: Host,
    paths: Paths,
    readonly: bool,
    cache: StampCache<AgentId, Sessions>,
}

impl SessionStore {
    /// The sessions of a state directory. With `readonly` every change is refused.
    #[must_use]
    pub fn new(host: Host, paths: Paths, readonly: bool) -> Self {
        Self {
            host,
            paths,
            readonly,
            cache: StampCache::default(),
        }
    }

    /// The agent's file.
    #[must_use]
    pub fn path(&self, agent: &AgentId) -> PathBuf {
        self.paths.sessions_file(agent)
    }

    /// The sessions of an agent; none where there is no file. Two `stat`s while nothing changes.
    ///
    /// # Errors
    /// [`StoreError::Io`]. A file that does not parse is no error but named in [`Sessions::unreadable`].
    pub fn load(&self, agent: &AgentId) -> Result<Arc<Sessions>, StoreError> {
        let files = [self.path(agent), self.marks_path(agent)];
        let stat = |path: &PathBuf| {
            self.host
                .files
                .stat(path)
                .map_err(StoreError::io("look at", path))
        };
        let stamps = [stat(&files[0])?, stat(&files[1])?];
        if let Some(known) = self.cache.get(agent, stamps) {
            return Ok(known);
        }
        let mut unreadable = Vec::new();
        let mut read = |path: &Path| -> Result<_, StoreError> {
            let Some(content) = disk::read(&self.host, &self.paths, path)? else {
                return Ok((Map::new(), None));
            };
            let map = js::parse_object(content.bytes.expose()).unwrap_or_else(|failure| {
                unreadable.push(broken(path, failure));
                Map::new()
            });
            Ok((map, Some(content.stamp)))
        };
        let (entries, entries_stamp) = read(&files[0])?;
        let (marks, marks_stamp) = read(&files[1])?;
        let sessions = Sessions {
            map: typed(&entries, &Marks::of(marks)),
            unreadable,
        };
        let stamps = [entries_stamp, marks_stamp];
        let clock = &*self.host.clock;
        Ok(self.cache.put(agent.clone(), stamps, sessions, clock))
    }

    /// Changes one session, on what is there under the lock. A session that is new gets an id, and one that changes the
    /// time of now. Nothing is written when `change` changes nothing. With a new session that was made for a client, the
    /// oldest of its kind go ([`MADE_MAX`], [`MADE_KEPT_FOR`]); one that holds a user's choice, or anything that another
    /// program wrote, never does.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::Kernel`] or [`StoreError::Busy`] when the lock is not to be had,
    /// [`StoreError::Edit`] when the entry is no object, [`StoreError::Io`]. The old content is then still there.
    pub fn update(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        change: impl FnOnce(&mut Session),
    ) -> Result<SessionUpdate, StoreError> {
        let path = self.path(agent);
        if self.readonly {
            return Err(StoreError::ReadOnly { path });
        }
        let _lock = self.lock(&path)?;
        let mut set_aside = Vec::new();
        let text = self.open(&path, &mut set_aside)?;
        let marks_path = self.marks_path(agent);
        let marks_text = self.open(&marks_path, &mut set_aside)?;
        let object = |text: &str, path: &Path| {
            js::parse_object(text.as_bytes())
                .map_err(|failure| StoreError::Unreadable(Box::new(broken(path, failure))))
        };
        let entries = object(&text, &path)?;
        let mut marks = Marks::of(object(&marks_text, &marks_path)?);
        let known = typed(&entries, &marks);
        let before = known.get(key).cloned().unwrap_or_default();
        let mut session = before.clone();
        change(&mut session);
        if session == before && set_aside.is_empty() {
            return Ok(SessionUpdate { session, set_aside });
        }
        let edit = Edit::new(self, &path, &text)?;
        if !session.has_same_fields(&before) {
            self.complete(&mut session)?;
            edit.write(key, &before, &session)?;
        }
        if session.made && !known.contains_key(key) {
            for old in prunable(&known, &entries, self.host.clock.now()) {
                edit.editor.remove(&[old.as_str()]);
                marks.remove(old);
            }
        }
        marks.retain(|known| known == key || entries.contains_key(known.as_str()));
        marks.set(key, &session);
        self.cache.forget(agent);
        // The marks first: one that is there without its pin counts for nothing.
        if let Some(bytes) = marks.changed() {
            disk::write(&self.host, &self.paths, &marks_path, &bytes)?;
        }
        edit.save()?;
        Ok(SessionUpdate { session, set_aside })
    }

    /// Sets an agent's files that do not parse aside, as the next change would, and says where they are now.
    ///
    /// # Errors
    /// As for [`SessionStore::update`].
    pub fn set_unreadable_aside(&self, agent: &AgentId) -> Result<Vec<PathBuf>, StoreError> {
        let path = self.path(agent);
        if self.readonly {
            return Err(StoreError::ReadOnly { path });
        }
        let _lock = self.lock(&path)?;
        let mut set_aside = Vec::new();
        self.open(&path, &mut set_aside)?;
        self.open(&self.marks_path(agent), &mut set_aside)?;
        self.cache.forget(agent);
        Ok(set_aside)
    }

    /// What every session of OpenClaw has: an id and a time.
    fn complete(&self, session: &mut Session) -> Result<(), StoreError> {
        session.updated_at = Some(self.host.clock.now());
        if session.session_id.is_none() {
            session.session_id = Some(self.new_id()?);
        }
        Ok(())
    }

    /// A new id of a session: a random UUID, as OpenClaw names its transcripts.
    ///
    /// # Errors
    /// [`StoreError::Io`] when there is no randomness.
    pub fn new_id(&self) -> Result<String, StoreError> {
        let mut bytes = [0; 16];
        let failed = StoreError::io("make an id for a session of", self.paths.state_dir());
        self.host.random.fill(&mut bytes).map_err(failed)?;
        // Version 4, variant 1 (RFC 9562, section 5.4).
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = hex::encode(bytes);
        let parts = [
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..],
        ];
        Ok(parts.join("-"))
    }

    fn marks_path(&self, agent: &AgentId) -> PathBuf {
        let dir = self.paths.own_state_dir().join("sessions");
        dir.join(format!("{agent}.json"))
    }

    /// The text of a file under the lock; one that does not parse is set aside.
    fn open(&self, path: &Path, set_aside: &mut Vec<PathBuf>) -> Result<String, StoreError> {
        disk::recover(&self.host, &self.paths, path)?;
        let content = disk::read(&self.host, &self.paths, path)?;
        let text = match content {
            None => None,
            Some(content) => match js::parse_object(content.bytes.expose()) {
                // What parses is UTF-8.
                Ok(_) => Some(String::from_utf8_lossy(content.bytes.expose()).into_owned()),
                Err(_) => {
                    set_aside.push(quarantine::set_aside(&self.host, path)?);
                    None
                }
            },
        };
        Ok(text.unwrap_or_else(|| "{}\n".to_owned()))
    }

    fn lock(&self, path: &Path) -> Result<GuardedLock, StoreError> {
        let files = &*self.host.files;
        if let Some(dir) = path.parent() {
            atomic::ensure_dir(files, dir, disk::DIR_MODE)
                .map_err(StoreError::io("create the directory of", path))?;
        }
        let real = real_path(files, path).map_err(StoreError::io("resolve", path))?;
        let beside = real_dir_path(files, path).map_err(StoreError::io("resolve", path))?;
        GuardedLock::acquire(
            &self.host,
            &self.paths.file_lock(&real),
            &lock_sibling(&beside),
            LockKind::Store,
            STORE_LOCK_WAIT,
        )
    }
}

/// The text of `sessions.json` being edited.
struct Edit<'a> {
    store: &'a SessionStore,
    path: &'a Path,
    before: &'a str,
    editor: Editor,
}

impl<'a> Edit<'a> {
    fn new(store: &'a SessionStore, path: &'a Path, text: &'a str) -> Result<Self, StoreError> {
        let editor =
            Editor::parse(text).map_err(|failure| StoreError::Unreadable(Box::new(broken(path, failure))))?;
        Ok(Self {
            store,
            path,
            before: text,
            editor,
        })
    }

    fn write(&self, key: &SessionKey, before: &Session, after: &Session) -> Result<(), StoreError> {
        for (field, value) in after.fields_that_differ(before) {
            let at = [key.as_str(), field];
            match value {
                Some(value) => self.editor.set(&at, &value).map_err(|why| self.wrong(why))?,
                None => {
                    self.editor.remove(&at);
                }
            }
        }
        Ok(())
    }

    fn save(&self) -> Result<(), StoreError> {
        let after = self.editor.text();
        if after == self.before {
            return Ok(());
        }
        js::parse_object(after.as_bytes()).map_err(|failure| {
            self.wrong(format!(
                "the edit would have broken the file ({}), so nothing was written; this is a bug in tokensink",
                failure.why
            ))
        })?;
        disk::write(&self.store.host, &self.store.paths, self.path, after.as_bytes())
    }

    fn wrong(&self, why: String) -> StoreError {
        StoreError::Edit {
            path: self.path.to_owned(),
            why,
        }
    }
}

/// The sessions with what we know of them. Keys and entries of another kind are left out.
fn typed(entries: &Map<String, Value>, marks: &Marks) -> BTreeMap<SessionKey, Session> {
    let session = |(key, entry): (&String, &Value)| {
        let key = SessionKey::parse(key)
            .ok()
            .filter(|parsed| parsed.as_str() == key)?;
        let mut session = Session::of(entry.as_object()?);
        marks.apply(&key, &mut session);
        Some((key, session))
    };
    entries.iter().filter_map(session).collect()
}

/// The sessions that were made for clients and go when another one comes.
fn prunable<'a>(
    known: &'a BTreeMap<SessionKey, Session>,
    entries: &Map<String, Value>,
    now: UnixMillis,
) -> Vec<&'a SessionKey> {
    let only_ours = |key: &SessionKey| {
        let entry = entries.get(key.as_str()).and_then(Value::as_object);
        entry.is_some_and(|entry| entry.keys().all(|field| entry::is_ours(field)))
    };
    let made = known
        .iter()
        .filter(|(key, session)| session.made && only_ours(key));
    let mut made: Vec<(UnixMillis, &SessionKey)> = made
        .map(|(key, session)| {
            let last = session.used_at.max(session.updated_at);
            (last.unwrap_or(UnixMillis(0)), key)
        })
        .collect();
    made.sort();
    // The new one is one of those that may be there.
    let too_many = (made.len() + 1).saturating_sub(MADE_MAX);
    let is_old = |last: UnixMillis| last.until(now) > MADE_KEPT_FOR;
    made.iter()
        .enumerate()
        .filter(|(at, (last, _))| *at < too_many || is_old(*last))
        .map(|(_, (_, key))| *key)
        .collect()
}

fn broken(path: &Path, failure: ParseFailure) -> Unreadable {
    Unreadable {
        path: path.to_owned(),
        failure,
        fix: "Its sessions count as unknown; correct that place, or the next write sets the file aside"
            .to_owned(),
    }
}
