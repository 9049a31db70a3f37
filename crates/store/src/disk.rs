//! Reading and writing the files of the store: content with its stamp, atomic replacement, and a redo file where the
//! system refuses a rename.
//!
//! A file that cannot be replaced by a rename (a bind-mounted single file, a directory that we may not write) is
//! written in place, but only after old and new content were made durable in a redo file in our own folder. A crash
//! in the middle is then repaired: readers see the new content through the redo file, the next writer restores it.
//! Nothing here takes a lock or knows what the files hold.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokensink_host::atomic::{self, ReplaceError};
use tokensink_host::{FileStamp, Host, OpenMode};
use tokensink_types::Body;
use zeroize::Zeroizing;

use crate::error::StoreError;
use crate::paths::{Paths, hash_hex, real_path};

/// Permission bits of every file that may hold a secret (spec.md 1.11).
pub(crate) const FILE_MODE: u32 = 0o600;
/// Permission bits of directories that we create.
pub(crate) const DIR_MODE: u32 = 0o700;
/// First bytes of a redo file.
const REDO_MAGIC: &[u8; 8] = b"tsredo1\n";

/// A file's bytes with the stamp that belongs to them.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Body,
    pub(crate) stamp: FileStamp,
}

/// Reads a file; `None` when it is missing. A file that was torn by a crash during a write in place reads as what
/// was being written.
pub(crate) fn read(host: &Host, paths: &Paths, path: &Path) -> Result<Option<Content>, StoreError> {
    let found = atomic::read_stable(&*host.files, path).map_err(StoreError::io("read", path))?;
    let Some((bytes, stamp)) = found else {
        return Ok(None);
    };
    let mut bytes = Body::new(bytes);
    if let Some(redo) = Redo::load(host, paths, path)?
        && redo.is_torn(bytes.expose())
    {
        bytes = Body::new(redo.new.to_vec());
    }
    Ok(Some(Content { bytes, stamp }))
}

/// Writes a file whole or not at all, mode 0600 from birth, in a directory that is created with 0700; a link at
/// `path` is followed. The caller holds the file's lock.
pub(crate) fn write(host: &Host, paths: &Paths, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    if let Some(dir) = path.parent() {
        atomic::ensure_dir(&*host.files, dir, DIR_MODE)
            .map_err(StoreError::io("create the directory of", path))?;
    }
    match atomic::replace(&*host.files, &*host.random, path, bytes, FILE_MODE) {
        Ok(_) => Ok(()),
        Err(refused @ ReplaceError::Refused { .. }) => write_in_place(host, paths, path, bytes, refused),
        Err(error) => Err(StoreError::replace(error)),
    }
}

/// Makes a store durable by content and by name. Who wrote it may not have come to that, or may have been killed before
/// it did, and what is handed out of it must not be lost. Fine when there is none: another program may keep its login
/// elsewhere than in a file.
///
/// # Errors
/// [`StoreError::Io`].
pub fn make_durable(host: &Host, path: &Path) -> Result<(), StoreError> {
    let mut handle = match host.files.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(StoreError::io("open", path))?,
    };
    handle.sync().map_err(StoreError::io("make durable", path))?;
    path.parent()
        .map_or(Ok(()), |dir| host.files.sync_dir(dir))
        .map_err(StoreError::io("make durable", path))
}

/// Finishes what a crash left of a write in place, and removes what it left of a replacement: such a file may hold
/// secrets. The caller holds the file's lock.
pub(crate) fn recover(host: &Host, paths: &Paths, path: &Path) -> Result<(), StoreError> {
    remove_leftovers(host, path)?;
    let Some(redo) = Redo::load(host, paths, path)? else {
        return Ok(());
    };
    let found = atomic::read_stable(&*host.files, path).map_err(StoreError::io("read", path))?;
    if found.is_some_and(|(bytes, _)| redo.is_torn(&Zeroizing::new(bytes))) {
        tracing::warn!(path = %path.display(), "restored a file that a crash had left half-written");
        atomic::overwrite_in_place(&*host.files, path, &redo.new, FILE_MODE).map_err(StoreError::replace)?;
    }
    redo.discard(host)
}

fn write_in_place(
    host: &Host,
    paths: &Paths,
    path: &Path,
    bytes: &[u8],
    refused: ReplaceError,
) -> Result<(), StoreError> {
    let old = atomic::read_stable(&*host.files, path).map_err(StoreError::io("read", path))?;
    let old = Zeroizing::new(old.map_or_else(Vec::new, |(bytes, _)| bytes));
    let redo = Redo::store(host, paths, path, &old, bytes)?;
    match atomic::overwrite_in_place(&*host.files, path, bytes, FILE_MODE) {
        Ok(_) => redo.discard(host),
        Err(error) => {
            let now = atomic::read_stable(&*host.files, path).ok().flatten();
            if now.is_some_and(|(bytes, _)| *old == Zeroizing::new(bytes).as_slice()) {
                // Nothing of it arrived: the file may not be written at all, which the first refusal explains.
                redo.discard(host)?;
                return Err(StoreError::replace(refused));
            }
            Err(StoreError::replace(error))
        }
    }
}

/// Old and new content of a write in place that may be under way.
struct Redo {
    file: PathBuf,
    old: Zeroizing<Vec<u8>>,
    new: Zeroizing<Vec<u8>>,
}

impl Redo {
    fn file(host: &Host, paths: &Paths, path: &Path) -> Result<PathBuf, StoreError> {
        let real = real_path(&*host.files, path).map_err(StoreError::io("resolve", path))?;
        let hash = hash_hex(&[real.as_os_str().as_encoded_bytes()]);
        Ok(paths.own_state_dir().join(format!("redo-{hash}")))
    }

    /// Layout: magic, SHA-256 of the rest, length of the old content (u64, little endian), old content, new content.
    /// The file is made without a rename, which may be refused here as well; one that a crash cut off is told by its
    /// checksum, and then nothing of the write in place was begun.
    fn store(host: &Host, paths: &Paths, path: &Path, old: &[u8], new: &[u8]) -> Result<Self, StoreError> {
        let file = Self::file(host, paths, path)?;
        let length = u64::try_from(old.len()).unwrap_or(u64::MAX).to_le_bytes();
        let mut bytes = Zeroizing::new(Vec::with_capacity(48 + old.len() + new.len()));
        bytes.extend_from_slice(REDO_MAGIC);
        bytes.extend_from_slice(&digest(&[&length, old, new]));
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(old);
        bytes.extend_from_slice(new);
        let dir = paths.own_state_dir();
        atomic::ensure_dir(&*host.files, &dir, DIR_MODE)
            .map_err(StoreError::io("create the directory of", &file))?;
        remove_if_there(host, &file)?;
        let mut handle = host
            .files
            .create_new(&file, FILE_MODE)
            .map_err(StoreError::io("create", &file))?;
        handle
            .write_at(0, &bytes)
            .and_then(|()| handle.sync())
            .and_then(|()| host.files.sync_dir(&dir))
            .map_err(StoreError::io("write", &file))?;
        Ok(Self {
            file,
            old: Zeroizing::new(old.to_vec()),
            new: Zeroizing::new(new.to_vec()),
        })
    }

    fn load(host: &Host, paths: &Paths, path: &Path) -> Result<Option<Self>, StoreError> {
        let file = Self::file(host, paths, path)?;
        let found = atomic::read_stable(&*host.files, &file).map_err(StoreError::io("read", &file))?;
        let Some((bytes, _)) = found else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        Ok(parse_redo(&bytes).map(|(old, new)| Self {
            file,
            old: Zeroizing::new(old.to_vec()),
            new: Zeroizing::new(new.to_vec()),
        }))
    }

    /// Is `now` a mixture of old and new content, such as a write that was cut off leaves?
    fn is_torn(&self, now: &[u8]) -> bool {
        if now == self.old.as_slice() || now == self.new.as_slice() {
            return false;
        }
        let longest = self.old.len().max(self.new.len());
        now.len() <= longest
            && now.iter().enumerate().all(|(at, byte)| {
                // Blocks that were added to the file and never filled read as zeros.
                let unfilled = at >= self.old.len() && *byte == 0;
                unfilled || self.old.get(at) == Some(byte) || self.new.get(at) == Some(byte)
            })
    }

    fn discard(self, host: &Host) -> Result<(), StoreError> {
        remove_if_there(host, &self.file)
    }
}

/// Old and new content, if the redo file is whole.
fn parse_redo(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (checksum, rest) = bytes.strip_prefix(REDO_MAGIC)?.split_first_chunk::<32>()?;
    let (length, contents) = rest.split_first_chunk::<8>()?;
    let (old, new) = contents.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    (digest(&[rest]) == *checksum).then_some((old, new))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Removes temporary files of crashed writers of `path`. The caller holds the file's lock.
pub(crate) fn remove_leftovers(host: &Host, path: &Path) -> Result<(), StoreError> {
    let leftovers =
        atomic::leftovers(&*host.files, path).map_err(StoreError::io("list the directory of", path))?;
    leftovers.iter().try_for_each(|file| remove_if_there(host, file))
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_there(host: &Host, path: &Path) -> Result<(), StoreError> {
    match host.files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
