//! The real file system behind [`Files`].
//!
//! Promises modes from birth whatever the umask, and errors as the system gives them, without a path: callers add
//! the path and what they were doing.

#![expect(
    clippy::disallowed_methods,
    reason = "the one real implementation of the Files port"
)]

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileTimes, FileType, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use tokensink_types::UnixMillis;

use crate::os_watch::OsDirWatch;
use crate::{DirWatch, FileFacts, FileHandle, FileKind, FileStamp, Files, OpenMode};

/// Largest file that is read whole, in bytes: 64 MiB.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(LARGEST)).unwrap_or(0));
        let read = file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if u64::try_from(read).unwrap_or(u64::MAX) > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(stamp_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        match fs::read_link(path) {
            Ok(target) => Ok(Some(target)),
            // InvalidInput (EINVAL): something is there and it is no link.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn inspect(&self, path: &Path) -> io::Result<Option<FileFacts>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(FileFacts {
                kind: kind_of(metadata.file_type()),
                stamp: stamp_of(&metadata),
                links: metadata.nlink(),
                born_ns: born_of(&metadata),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_itself(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        match self.create_dir_new(path, mode) {
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && self.stat(path)?.is_some_and(|stamp| stamp.is_dir) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn create_dir_new(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)?;
        let born = fs::metadata(path)?.mode() & PERMISSIONS;
        give_back_mode(born, mode, |permissions| fs::set_permissions(path, permissions))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn set_modified(&self, path: &Path, at: UnixMillis) -> io::Result<()> {
        let at = Duration::from_millis(u64::try_from(at.0).unwrap_or(0));
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + at);
        File::open(path)?.set_times(times)
    }

    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FileHandle>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        let born = file.metadata()?.mode() & PERMISSIONS;
        give_back_mode(born, mode, |permissions| file.set_permissions(permissions))?;
        Ok(Box::new(OsFile(file)))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let file = OpenOptions::new()
            .read(true)
            .write(mode == OpenMode::ReadWrite)
            .open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match File::open(dir)?.sync_all() {
            // Some file systems (CIFS, some FUSE) cannot sync a directory and say so with EINVAL or ENOTSUP; then
            // there is nothing more to do for its names.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        let told = rustix::fs::statvfs(path)?;
        Ok(Some(told.f_bavail.saturating_mul(told.f_frsize)))
    }

    fn watch(&self, on_change: Box<dyn Fn() + Send>) -> io::Result<Box<dyn DirWatch>> {
        Ok(Box::new(OsDirWatch::start(on_change)?))
    }
}

/// Restores the bits that the umask took. A file system without modes (exFAT, some network mounts) keeps its own:
/// refusing to work there would protect nothing.
fn give_back_mode(
    born: u32,
    wanted: u32,
    set: impl FnOnce(fs::Permissions) -> io::Result<()>,
) -> io::Result<()> {
    if born == wanted {
        return Ok(());
    }
    match set(fs::Permissions::from_mode(wanted)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn kind_of(kind: FileType) -> FileKind {
    if kind.is_symlink() {
        FileKind::Link
    } else if kind.is_dir() {
        FileKind::Dir
    } else if kind.is_file() {
        FileKind::File
    } else {
        FileKind::Other
    }
}

fn born_of(metadata: &Metadata) -> Option<i128> {
    let born = metadata
        .created()
        .ok()?
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    i128::try_from(born.as_nanos()).ok()
}

fn stamp_of(metadata: &Metadata) -> FileStamp {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    FileStamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        mode: metadata.mode() & PERMISSIONS,
        uid: metadata.uid(),
        is_dir: metadata.is_dir(),
    }
}

/// An open file of this machine.
#[derive(Debug)]
pub(crate) struct OsFile(File);

impl From<OwnedFd> for OsFile {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl FileHandle for OsFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            let at = offset + u64::try_from(read).unwrap_or(u64::MAX);
            match self.0.read_at(&mut buffer[read..], at) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        self.0.metadata().map(|metadata| stamp_of(&metadata))
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn into_fd(self: Box<Self>) -> Option<OwnedFd> {
        Some(self.0.into())
    }
}
