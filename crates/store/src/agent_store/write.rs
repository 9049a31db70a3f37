//! The write side: everything here runs under the store's lock, on what was read under it.

use tokensink_host::atomic;
use tokensink_host::lock::Wait;
use tokensink_types::{AgentId, Credential, ProfileId};
use zeroize::Zeroizing;

use super::{CasOutcome, Expected, FileStore};
use crate::disk;
use crate::error::StoreError;
use crate::openclaw_lock::{GuardedLock, LockKind};
use crate::paths::{lock_sibling, real_dir_path, real_path};
use crate::profiles::ProfilesDocument;
use crate::quarantine;
use crate::state_file::StateDocument;

/// How long a write waits for the store's lock. OpenClaw gives up after about 50 s and holds the lock over a
/// refresh, so a writer that can come back later should not wait that long.
pub const STORE_LOCK_WAIT: Wait = Wait {
    deadline: std::time::Duration::from_secs(20),
};

/// One agent's files as read under the lock.
pub(crate) struct Opened {
    /// `auth-profiles.json`.
    pub(crate) profiles: ProfilesDocument,
    /// `auth-state.json`, without what an older layout keeps in the other file.
    state: StateDocument,
    profiles_before: Option<Zeroizing<Vec<u8>>>,
    state_before: Option<Vec<u8>>,
}

impl FileStore {
    /// Writes `new` (`None` removes) under `id` into the store of `owner`, if what is there meets `expected`. The
    /// check is made under the lock on a fresh read; the file is replaced whole and read back.
    ///
    /// A login (`Absent` or `Any` with a credential) into a file that does not parse sets that file aside and starts
    /// a new one; any other write into it fails and leaves it.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::Kernel`] or [`StoreError::Busy`] when the lock is not to be had,
    /// [`StoreError::Unreadable`], [`StoreError::Io`]. The old content is then still there.
    pub fn compare_and_set(
        &self,
        owner: &AgentId,
        id: &ProfileId,
        expected: Expected,
        new: Option<&Credential>,
    ) -> Result<CasOutcome, StoreError> {
        let is_login = new.is_some() && matches!(expected, Expected::Absent | Expected::Any);
        self.edit(owner, is_login, |opened| {
            let current = opened.profiles.get(id);
            if !expected.is_met_by(current) {
                return CasOutcome::Conflict(current.cloned().map(Box::new));
            }
            match new {
                Some(credential) => opened.profiles.upsert(id, credential),
                None => {
                    opened.profiles.remove(id);
                }
            }
            CasOutcome::Done
        })
    }

    /// Writes `new` in the place of exactly `old`: for moving a static secret, whose old value must still be the one that
    /// was looked at.
    ///
    /// # Errors
    /// As for [`FileStore::compare_and_set`].
    pub fn exchange(
        &self,
        owner: &AgentId,
        id: &ProfileId,
        old: &Credential,
        new: &Credential,
    ) -> Result<CasOutcome, StoreError> {
        self.edit(owner, false, |opened| {
            let current = opened.profiles.get(id);
            if current != Some(old) {
                return CasOutcome::Conflict(current.cloned().map(Box::new));
            }
            opened.profiles.upsert(id, new);
            CasOutcome::Done
        })
    }

    /// Changes order, lastGood or usage of one agent, under the same lock (spec.md appendix B.1). A state file that
    /// does not parse is set aside. With all maps empty the file is deleted (2.3).
    ///
    /// # Errors
    /// As for [`FileStore::compare_and_set`]. An unreadable `auth-profiles.json` is no hindrance.
    pub fn update_state<T>(
        &self,
        owner: &AgentId,
        change: impl FnOnce(&mut StateDocument) -> T,
    ) -> Result<T, StoreError> {
        self.update_state_within(owner, STORE_LOCK_WAIT, change)
    }

    /// The same with another patience: for what can as well be written later.
    ///
    /// # Errors
    /// As for [`FileStore::update_state`].
    pub fn update_state_within<T>(
        &self,
        owner: &AgentId,
        wait: Wait,
        change: impl FnOnce(&mut StateDocument) -> T,
    ) -> Result<T, StoreError> {
        let _lock = self.lock_within(owner, wait)?;
        let mut opened = match self.open(owner, false) {
            Err(StoreError::Unreadable(_)) => self.open_state_only(owner)?,
            result => result?,
        };
        self.split_older_layout(owner, &mut opened)?;
        let result = change(&mut opened.state);
        let written = self.save_state(owner, &opened);
        self.cache.forget(owner);
        written.map(|()| result)
    }

    /// Runs `change` on the documents of one agent and saves what it changed.
    pub(crate) fn edit<T>(
        &self,
        owner: &AgentId,
        may_set_aside: bool,
        change: impl FnOnce(&mut Opened) -> T,
    ) -> Result<T, StoreError> {
        let _lock = self.lock(owner)?;
        let mut opened = self.open(owner, may_set_aside)?;
        let before = opened.profiles.clone();
        let result = change(&mut opened);
        if opened.profiles == before {
            return Ok(result);
        }
        let written = self
            .split_older_layout(owner, &mut opened)
            .and_then(|()| self.save_profiles(owner, &opened));
        self.cache.forget(owner);
        written.map(|()| result)
    }

    /// Takes the store's two locks: ours, named after the real file, and OpenClaw's beside the file.
    pub(crate) fn lock(&self, owner: &AgentId) -> Result<GuardedLock, StoreError> {
        self.lock_within(owner, STORE_LOCK_WAIT)
    }

    fn lock_within(&self, owner: &AgentId, wait: Wait) -> Result<GuardedLock, StoreError> {
        let path = self.paths.profiles_file(owner);
        if self.readonly {
            return Err(StoreError::ReadOnly { path });
        }
        let files = &*self.host.files;
        if let Some(dir) = path.parent() {
            atomic::ensure_dir(files, dir, disk::DIR_MODE)
                .map_err(StoreError::io("create the directory of", &path))?;
        }
        let real = real_path(files, &path).map_err(StoreError::io("resolve", &path))?;
        let beside = real_dir_path(files, &path).map_err(StoreError::io("resolve", &path))?;
        GuardedLock::acquire(
            &self.host,
            &self.paths.file_lock(&real),
            &lock_sibling(&beside),
            LockKind::Store,
            wait,
        )
    }

    fn open(&self, owner: &AgentId, may_set_aside: bool) -> Result<Opened, StoreError> {
        let path = self.paths.profiles_file(owner);
        disk::recover(&self.host, &self.paths, &path)?;
        let profiles = match self.read_document(&path, ProfilesDocument::parse) {
            Ok((profiles, _)) => profiles,
            Err(StoreError::Unreadable(_)) if may_set_aside => {
                quarantine::set_aside(&self.host, &path)?;
                None
            }
            Err(error) => return Err(error),
        };
        let mut opened = self.open_state_only(owner)?;
        opened.profiles_before = profiles
            .as_ref()
            .map(|profiles| Zeroizing::new(profiles.to_bytes()));
        opened.profiles = profiles.unwrap_or_default();
        Ok(opened)
    }

    fn open_state_only(&self, owner: &AgentId) -> Result<Opened, StoreError> {
        let path = self.paths.state_file(owner);
        disk::recover(&self.host, &self.paths, &path)?;
        let state = match self.read_document(&path, StateDocument::parse) {
            Ok((state, _)) => state,
            Err(StoreError::Unreadable(_)) => {
                quarantine::set_aside(&self.host, &path)?;
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Opened {
            profiles: ProfilesDocument::empty(),
            state_before: state.as_ref().and_then(StateDocument::to_bytes),
            state: state.unwrap_or_default(),
            profiles_before: None,
        })
    }

    /// Brings a one-file store into the layout of age C2, as a step of its own before any change: the state file is
    /// durable before the maps leave the other file, and a crash in between changes nothing that is read.
    fn split_older_layout(&self, owner: &AgentId, opened: &mut Opened) -> Result<(), StoreError> {
        if !opened.profiles.has_state_maps() {
            return Ok(());
        }
        if opened.state.absorb(&opened.profiles.state_maps()) {
            self.save_state(owner, opened)?;
            opened.state_before = opened.state.to_bytes();
        }
        opened.profiles.drop_state_maps();
        self.save_profiles(owner, opened)
    }

    fn save_profiles(&self, owner: &AgentId, opened: &Opened) -> Result<(), StoreError> {
        let path = self.paths.profiles_file(owner);
        let bytes = Zeroizing::new(opened.profiles.to_bytes());
        if opened.profiles_before.as_ref() == Some(&bytes) {
            return Ok(());
        }
        disk::write(&self.host, &self.paths, &path, &bytes)
    }

    fn save_state(&self, owner: &AgentId, opened: &Opened) -> Result<(), StoreError> {
        let path = self.paths.state_file(owner);
        let bytes = opened.state.to_bytes();
        if bytes == opened.state_before {
            return Ok(());
        }
        match bytes {
            Some(bytes) => disk::write(&self.host, &self.paths, &path, &bytes),
            None => self.delete_state(&path),
        }
    }

    /// A link stays where it is and leads to an empty state instead.
    fn delete_state(&self, path: &std::path::Path) -> Result<(), StoreError> {
        let files = &*self.host.files;
        if files
            .link_target(path)
            .map_err(StoreError::io("look at", path))?
            .is_some()
        {
            return disk::write(&self.host, &self.paths, path, b"{\n  \"version\": 1\n}\n");
        }
        disk::remove_if_there(&self.host, path)
    }
}
