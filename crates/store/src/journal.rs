//! The refresh records on disk (design: Refresh).
//!
//! One file per (owner store, profile). A file has two pages that are written in turn, each with a sequence number and
//! a checksum, so that a write that is cut off leaves the other page. It is written out in full when it is made:
//! later writes go over blocks that exist, and a full disk cannot hinder them (on file systems that write in place).
//! A record that no longer fits moves to a bigger file by a replacement.
//!
//! The journal takes no lock: a record is written by the holder of its grant's refresh lock. It does not know the
//! protocol; it keeps what it is told and never answers with anything else.

mod codec;
mod page;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokensink_host::lock::{KernelLock, Wait};
use tokensink_host::{FileStamp, Host, OpenMode, atomic};
use tokensink_types::ProfileId;
use tokensink_types::record::Record;
use zeroize::Zeroizing;

use crate::cache::StampCache;
use crate::disk::{self, DIR_MODE, FILE_MODE};
use crate::error::StoreError;
use crate::json::ParseFailure;
use crate::paths::{Paths, hash_hex};
use crate::quarantine;
use page::{Image, Pages};

/// What names a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The owner store's real path as text ([`crate::FileStore::owner_path`]).
    pub store: String,
    /// The profile in it.
    pub profile: ProfileId,
}

impl RecordKey {
    /// The key of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            store: record.store.clone(),
            profile: record.profile.clone(),
        }
    }

    /// The file's name: SHA-256 of store path, NUL and profile id, in hex.
    fn file_name(&self) -> String {
        hash_hex(&[self.store.as_bytes(), b"\0", self.profile.as_str().as_bytes()])
    }
}

/// A record's key with the path of its file, worked out once for many reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPlace {
    key: RecordKey,
    path: PathBuf,
}

/// What a scan of all records found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The readable ones.
    pub records: Vec<Record>,
    /// Those that are not, each with its path and reason.
    pub unreadable: Vec<StoreError>,
}

/// The records under one state directory.
#[derive(Debug)]
pub struct Journal {
    host: Host,
    dir: PathBuf,
    admission: PathBuf,
    cache: StampCache<RecordKey, Record>,
    /// Directories and records whose names are known to be durable, with the inodes that they lead to.
    named: Mutex<HashMap<PathBuf, u64>>,
}

impl Journal {
    /// The journal of a state directory. Nothing is created before the first write.
    #[must_use]
    pub fn new(host: Host, paths: &Paths) -> Self {
        Self {
            host,
            dir: paths.journal_dir(),
            admission: paths.admission_lock(),
            cache: StampCache::default(),
            named: Mutex::default(),
        }
    }

    /// The file of a record.
    #[must_use]
    pub fn path(&self, key: &RecordKey) -> PathBuf {
        self.dir.join(key.file_name())
    }

    /// The newest whole page of a record, `None` when there is none. While nothing changes this costs one `stat`.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when neither page is whole or the file belongs to another record; it stays as it is
    /// until the next write or [`Journal::set_aside`].
    pub fn read(&self, key: &RecordKey) -> Result<Option<Arc<Record>>, StoreError> {
        self.read_file(key, &self.path(key))
    }

    /// Where a record is, for [`Journal::read_at`].
    #[must_use]
    pub fn place(&self, key: RecordKey) -> RecordPlace {
        let path = self.path(&key);
        RecordPlace { key, path }
    }

    /// As [`Journal::read`], without working out the path again.
    ///
    /// # Errors
    /// As for [`Journal::read`].
    pub fn read_at(&self, place: &RecordPlace) -> Result<Option<Arc<Record>>, StoreError> {
        self.read_file(&place.key, &place.path)
    }

    fn read_file(&self, key: &RecordKey, path: &Path) -> Result<Option<Arc<Record>>, StoreError> {
        let stamp = self
            .host
            .files
            .stat(path)
            .map_err(StoreError::io("look at", path))?;
        if stamp.is_none() {
            self.cache.forget(key);
            return Ok(None);
        }
        if let Some(known) = self.cache.get(key, [stamp, None]) {
            return Ok(Some(known));
        }
        let Some((image, stamp)) = self.image(path)? else {
            return Ok(None);
        };
        let Some(record) = record_of(path, &image, Some(key))? else {
            return Ok(None);
        };
        let (stamps, clock) = ([Some(stamp), None], &*self.host.clock);
        Ok(Some(self.cache.put(key.clone(), stamps, record, clock)))
    }

    /// Writes a record durably. The first write makes the file in full; later ones go into the older page in place. A
    /// file that cannot be read is set aside first. The caller holds the grant's refresh lock.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the record as it was before can then still be read.
    pub fn write(&self, record: &Record) -> Result<(), StoreError> {
        let key = RecordKey::of(record);
        let path = self.path(&key);
        let payload = codec::encode(record);
        self.cache.forget(&key);
        let image = match self.image(&path)? {
            Some((image, stamp)) => match record_of(&path, &image, Some(&key)) {
                Ok(_) => {
                    self.name_durably(&path, stamp.inode)?;
                    Some(image)
                }
                Err(StoreError::Unreadable(_)) => {
                    quarantine::set_aside(&self.host, &path)?;
                    None
                }
                Err(error) => return Err(error),
            },
            None => None,
        };
        match image.as_ref().map(Pages::of) {
            Some(pages) if page::fits(&payload, pages.size()) && pages.is_regular() => {
                self.write_page(&path, &pages, &payload)
            }
            pages => self.write_file(&path, pages.map_or(1, |pages| pages.next_sequence()), &payload),
        }
    }

    /// Makes what can be read of a record durable. Its writer may not have come to that, or may have been killed before
    /// it did, and what is handed out must not be lost. Fine when there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn make_durable(&self, key: &RecordKey) -> Result<(), StoreError> {
        let path = self.path(key);
        let mut handle = match self.host.files.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(StoreError::io("open", &path))?,
        };
        let stamp = handle.stamp().map_err(StoreError::io("look at", &path))?;
        handle.sync().map_err(StoreError::io("make durable", &path))?;
        self.name_durably(&path, stamp.inode)
    }

    /// Overwrites a record's secrets and removes its file: what a logout does. Fine when there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn erase(&self, key: &RecordKey) -> Result<(), StoreError> {
        let path = self.path(key);
        self.cache.forget(key);
        let Some((image, _)) = self.image(&path)? else {
            return Ok(());
        };
        let open = self.host.files.open(&path, OpenMode::ReadWrite);
        let mut handle = open.map_err(StoreError::io("open", &path))?;
        // The newest page goes last, so that what is cut off never shows an older record.
        for (offset, length) in Pages::of(&image).oldest_first() {
            handle
                .write_at(offset, &vec![0; length])
                .and_then(|()| handle.sync())
                .map_err(StoreError::io("overwrite", &path))?;
        }
        drop(handle);
        self.host
            .files
            .remove(&path)
            .map_err(StoreError::io("remove", &path))?;
        self.host
            .files
            .sync_dir(&self.dir)
            .map_err(StoreError::io("make durable", &self.dir))
    }

    /// Sets a record's file aside under a new name, so that the next write starts a new one. The caller holds the
    /// grant's refresh lock and has found the file unreadable under it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_aside(&self, key: &RecordKey) -> Result<PathBuf, StoreError> {
        self.cache.forget(key);
        quarantine::set_aside(&self.host, &self.path(key))
    }

    /// All records, for scans such as "who else holds this spend key".
    ///
    /// # Errors
    /// When the directory cannot be listed; a single unreadable file is part of the answer.
    pub fn list(&self) -> Result<Scan, StoreError> {
        let names = self
            .host
            .files
            .list(&self.dir)
            .map_err(StoreError::io("list", &self.dir))?;
        let mut scan = Scan::default();
        for name in names.iter().filter_map(|name| name.to_str()) {
            if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                continue;
            }
            let path = self.dir.join(name);
            let record = self
                .image(&path)
                .and_then(|image| image.map_or(Ok(None), |(image, _)| record_of(&path, &image, None)));
            match record {
                Ok(Some(record)) => scan.records.push(record),
                Ok(None) => {}
                Err(error) => scan.unreadable.push(error),
            }
        }
        Ok(scan)
    }

    /// The lock under which a spend key is looked up in all records and admitted for one.
    ///
    /// # Errors
    /// As for [`KernelLock::acquire`].
    pub fn admission(&self, wait: Wait) -> Result<KernelLock, StoreError> {
        Ok(KernelLock::acquire(&self.host, &self.admission, wait)?)
    }

    fn image(&self, path: &Path) -> Result<Option<(Image, FileStamp)>, StoreError> {
        let read = atomic::read_stable(&*self.host.files, path).map_err(StoreError::io("read", path))?;
        Ok(read.map(|(bytes, stamp)| (Image::new(bytes), stamp)))
    }

    /// Whoever made the file may have been killed before its name was durable, and syncing the file does not make up for
    /// that. Once per process and record.
    fn name_durably(&self, path: &Path, inode: u64) -> Result<(), StoreError> {
        if self.named().get(path) == Some(&inode) {
            return Ok(());
        }
        self.name_dir_durably()?;
        self.host
            .files
            .sync_dir(&self.dir)
            .map_err(StoreError::io("make durable", &self.dir))?;
        self.named().insert(path.to_owned(), inode);
        Ok(())
    }

    /// The same for the journal's directory and the one above it. Neither is ever replaced.
    fn name_dir_durably(&self) -> Result<(), StoreError> {
        if self.named().contains_key(&self.dir) {
            return Ok(());
        }
        for above in self.dir.ancestors().skip(1).take(2) {
            self.host
                .files
                .sync_dir(above)
                .map_err(StoreError::io("make durable", above))?;
        }
        self.named().insert(self.dir.clone(), 0);
        Ok(())
    }

    fn named(&self) -> MutexGuard<'_, HashMap<PathBuf, u64>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_page(&self, path: &Path, pages: &Pages<'_>, payload: &[u8]) -> Result<(), StoreError> {
        let (offset, bytes) = pages.next_page(payload);
        let open = self.host.files.open(path, OpenMode::ReadWrite);
        let mut handle = open.map_err(StoreError::io("open", path))?;
        handle
            .write_at(offset, &bytes)
            .and_then(|()| handle.sync())
            .map_err(StoreError::io("write", path))
    }

    fn write_file(&self, path: &Path, sequence: u64, payload: &[u8]) -> Result<(), StoreError> {
        atomic::ensure_dir(&*self.host.files, &self.dir, DIR_MODE)
            .map_err(StoreError::io("create the directory of", path))?;
        self.name_dir_durably()?;
        disk::remove_leftovers(&self.host, path)?;
        let bytes: Zeroizing<Vec<u8>> = page::new_file(sequence, payload);
        let replaced = atomic::replace(&*self.host.files, &*self.host.random, path, &bytes, FILE_MODE)
            .map_err(StoreError::replace)?;
        // It has synced the directory; once more would only widen the moment in which an answer is not durable.
        self.named().insert(path.to_owned(), replaced.stamp.inode);
        Ok(())
    }
}

/// The record in a file's image. `None` for a file that is being erased. With a key, another record is refused.
fn record_of(path: &Path, image: &Image, key: Option<&RecordKey>) -> Result<Option<Record>, StoreError> {
    let unreadable = |why: String| {
        let fix = "It is set aside by the next refresh of its profile; if the login does not work any more then, log \
                   in again with `openclaw models auth login`";
        StoreError::unreadable(path, ParseFailure::whole(why), fix)
    };
    let pages = Pages::of(image);
    let Some(payload) = pages.newest() else {
        return if pages.is_blank() {
            Ok(None)
        } else {
            Err(unreadable("neither of its two pages is whole".to_owned()))
        };
    };
    let record = codec::decode(payload).map_err(unreadable)?;
    let found = RecordKey::of(&record);
    let name = path.file_name().and_then(|name| name.to_str());
    if key.is_some_and(|key| *key != found) || name != Some(found.file_name().as_str()) {
        return Err(unreadable(
            "it belongs to another profile or another store".to_owned(),
        ));
    }
    Ok(Some(record))
}
