//! Replacing a file so that a reader, and a crash at any point, sees either the old content or the new one.
//!
//! [`replace`] writes a temporary sibling with its mode from birth, syncs it, renames it over the target, syncs the
//! directory and reads back. A crash can lose nothing but the new content, and can leave the sibling behind
//! ([`leftovers`] finds it). Where the system refuses the rename (a bind-mounted single file, a read-only directory,
//! another user's file) nothing is changed and the error says so; [`overwrite_in_place`] is then the caller's choice,
//! to be made only while the content is safe elsewhere, since a crash in the middle of it leaves a torn file.
//!
//! Nothing here takes a lock: two writers at once are the caller's business.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use crate::{FileHandle, FileStamp, Files, OpenMode, Random};

/// Most links that are followed, as in the Linux kernel.
const MAX_LINKS: usize = 40;
/// How often a read is repeated when the file changes under it.
const MAX_READS: usize = 16;
/// How often another temporary name is tried.
const MAX_NAMES: usize = 4;

/// A file that was written and read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The real file, with every link at the target resolved.
    pub path: PathBuf,
    /// Its stamp after the write.
    pub stamp: FileStamp,
}

/// Why a file was not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// The file is unchanged and cannot be replaced here, but may still be writable in place.
    #[error("{} cannot be replaced: {doing}: {source}", path.display())]
    Refused {
        /// The real file.
        path: PathBuf,
        /// What was refused.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It failed. With [`replace`] the old content or, if only the check afterwards failed, the new one is there.
    #[error("{} was not written: {doing}: {source}", path.display())]
    Failed {
        /// The real file, or the target where it could not be found out.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ReplaceError {
    /// What the system said.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        match self {
            Self::Refused { source, .. } | Self::Failed { source, .. } => source,
        }
    }

    /// True when [`overwrite_in_place`] may still work.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl From<ReplaceError> for io::Error {
    fn from(error: ReplaceError) -> Self {
        Self::new(error.io().kind(), error)
    }
}

/// Attaches path and action to an error of the system.
fn failed<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> ReplaceError + 'a {
    move |source| ReplaceError::Failed {
        path: path.to_owned(),
        doing,
        source,
    }
}

/// Writes `bytes` to the file that `path` leads to, whole or not at all, with permission bits `mode` (for example
/// 0o600) from birth (spec.md 1.11). The directory must exist.
///
/// # Errors
/// [`ReplaceError::Refused`] when the file exists and the system forbids to replace it (EBUSY, EPERM, EACCES, EROFS,
/// EXDEV, EEXIST), or when it belongs to another user, whom a rename would lock out; anything else is
/// [`ReplaceError::Failed`]. The old content is then still there and the temporary file gone, unless the message is
/// about making the directory durable or reading back: the new content is in place then.
pub fn replace(
    files: &dyn Files,
    random: &dyn Random,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<Replaced, ReplaceError> {
    let path = resolve(files, path)?;
    let before = files.stat(&path).map_err(failed(&path, "looking at it"))?;
    let (temporary, mut handle) = match create_sibling(files, random, &path, mode) {
        Ok(created) => created,
        Err(source) => {
            return Err(refusal(
                &path,
                before,
                "creating a temporary file beside it",
                source,
            ));
        }
    };
    let written = write_sibling(&mut *handle, &path, bytes, before);
    drop(handle);
    let renamed = written.and_then(|()| {
        files
            .rename(&temporary, &path)
            .map_err(|source| refusal(&path, before, "renaming the new file over it", source))
    });
    if let Err(error) = renamed {
        // The first error is the one to tell; a sibling that stays is found by `leftovers`.
        let _ = files.remove(&temporary);
        return Err(error);
    }
    files
        .sync_dir(parent(&path))
        .map_err(failed(&path, "making its directory durable"))?;
    read_back(files, path, bytes)
}

/// Fills the temporary file.
fn write_sibling(
    handle: &mut dyn FileHandle,
    path: &Path,
    bytes: &[u8],
    before: Option<FileStamp>,
) -> Result<(), ReplaceError> {
    let ours = handle
        .stamp()
        .map_err(failed(path, "looking at the temporary file"))?;
    if before.is_some_and(|before| before.uid != ours.uid) {
        return Err(ReplaceError::Refused {
            path: path.to_owned(),
            doing: "comparing owners",
            source: io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to another user, who could not read a file of ours",
            ),
        });
    }
    handle
        .write_at(0, bytes)
        .map_err(failed(path, "writing the temporary file"))?;
    handle
        .sync()
        .map_err(failed(path, "making the temporary file durable"))
}

/// Tells a refusal, after which writing in place may work, from a failure.
fn refusal(path: &Path, before: Option<FileStamp>, doing: &'static str, source: io::Error) -> ReplaceError {
    let refusable = [
        Errno::BUSY,
        Errno::PERM,
        Errno::ACCESS,
        Errno::ROFS,
        Errno::XDEV,
        Errno::EXIST,
    ];
    let refused = Errno::from_io_error(&source).is_some_and(|errno| refusable.contains(&errno));
    let path = path.to_owned();
    if refused && before.is_some_and(|before| !before.is_dir) {
        ReplaceError::Refused { path, doing, source }
    } else {
        ReplaceError::Failed { path, doing, source }
    }
}

/// Writes `bytes` over the content of the existing file that `path` leads to, cuts it to size, syncs it and reads it
/// back. Permission bits beyond `mode` are taken away first. **A crash in the middle leaves a torn file.**
///
/// # Errors
/// [`ReplaceError::Failed`]; the content may then be torn.
pub fn overwrite_in_place(
    files: &dyn Files,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<Replaced, ReplaceError> {
    let path = resolve(files, path)?;
    let mut handle = files
        .open(&path, OpenMode::ReadWrite)
        .map_err(failed(&path, "opening it"))?;
    let stamp = handle.stamp().map_err(failed(&path, "looking at it"))?;
    if stamp.mode & !mode != 0 {
        // Another user's file, or a file system without modes, keeps its bits: it had the secret under them before.
        let tightened = files.set_mode(&path, stamp.mode & mode);
        tightened
            .or_else(|error| match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => Ok(()),
                _ => Err(error),
            })
            .map_err(failed(&path, "setting its mode"))?;
    }
    handle
        .write_at(0, bytes)
        .and_then(|()| handle.truncate(u64::try_from(bytes.len()).unwrap_or(u64::MAX)))
        .map_err(failed(&path, "writing in place"))?;
    handle.sync().map_err(failed(&path, "making it durable"))?;
    drop(handle);
    read_back(files, path, bytes)
}

fn read_back(files: &dyn Files, path: PathBuf, bytes: &[u8]) -> Result<Replaced, ReplaceError> {
    let doing = "reading it back";
    match read_stable(files, &path).map_err(failed(&path, doing))? {
        Some((found, stamp)) if found == bytes => Ok(Replaced { path, stamp }),
        Some(_) => Err(failed(&path, doing)(io::Error::new(
            io::ErrorKind::InvalidData,
            "it holds something else than was written; another program writes it too",
        ))),
        None => Err(failed(&path, doing)(io::ErrorKind::NotFound.into())),
    }
}

/// The real file behind a target that may be a link to a link (spec.md 1.11). The file itself may be missing.
///
/// # Errors
/// `Failed` with the target's path after 40 links (a cycle), or as the system gives them.
pub fn resolve(files: &dyn Files, target: &Path) -> Result<PathBuf, ReplaceError> {
    let mut path = target.to_owned();
    for _ in 0..=MAX_LINKS {
        match files
            .link_target(&path)
            .map_err(failed(target, "following links"))?
        {
            Some(next) => path = parent(&path).join(next),
            None => return Ok(path),
        }
    }
    Err(failed(target, "following links (they lead in a circle)")(
        Errno::LOOP.into(),
    ))
}

/// Creates `path` and its missing parents with `mode`, durably. What exists already keeps its mode.
///
/// # Errors
/// As the system gives them, with the directory that could not be created in the message.
pub fn ensure_dir(files: &dyn Files, path: &Path, mode: u32) -> io::Result<()> {
    let name = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot create the directory {}: {error}", path.display()),
        )
    };
    match files.stat(path).map_err(name)? {
        Some(stamp) if stamp.is_dir => return Ok(()),
        Some(_) => return Err(name(io::ErrorKind::NotADirectory.into())),
        None => {}
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        ensure_dir(files, above, mode)?;
    }
    files.create_dir(path, mode).map_err(name)?;
    above.map_or(Ok(()), |above| files.sync_dir(above).map_err(name))
}

/// The content of a file together with the stamp that it had while it was read; `None` when there is no file.
///
/// # Errors
/// As the system gives them; `ResourceBusy` when the file changes faster than it can be read.
pub fn read_stable(files: &dyn Files, path: &Path) -> io::Result<Option<(Vec<u8>, FileStamp)>> {
    let mut before = files.stat(path)?;
    for _ in 0..MAX_READS {
        if before.is_none() {
            return Ok(None);
        }
        let bytes = match files.read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let after = files.stat(path)?;
        if let (Some(bytes), Some(stamp), true) = (bytes, after, before == after) {
            return Ok(Some((bytes, stamp)));
        }
        before = after;
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "the file keeps changing while it is read",
    ))
}

/// Temporary files that crashed writers of `path` left behind. They may hold secrets; removing one that is still
/// being written makes that write fail, so this is for the holder of the file's lock.
///
/// # Errors
/// As the system gives them.
pub fn leftovers(files: &dyn Files, path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = resolve(files, path)?;
    let dir = parent(&path);
    let prefix = sibling_prefix(&path);
    let is_leftover = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(b".tmp")
    };
    let names = files.list(dir)?;
    Ok(names
        .iter()
        .filter(|name| is_leftover(name))
        .map(|name| dir.join(name))
        .collect())
}

/// Creates a file of an unused name beside `path`.
fn create_sibling(
    files: &dyn Files,
    random: &dyn Random,
    path: &Path,
    mode: u32,
) -> io::Result<(PathBuf, Box<dyn FileHandle>)> {
    for _ in 0..MAX_NAMES {
        let mut number = [0; 8];
        random.fill(&mut number)?;
        let mut name = sibling_prefix(path);
        name.push(format!("{:016x}.tmp", u64::from_le_bytes(number)));
        let sibling = parent(path).join(name);
        match files.create_new(&sibling, mode) {
            Ok(handle) => return Ok((sibling, handle)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(
        "every random name that was tried is taken; is the random source broken?",
    ))
}

/// `.<name>.`: hidden, and recognisable as belonging to the file.
fn sibling_prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
