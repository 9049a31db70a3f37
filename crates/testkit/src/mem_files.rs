//! A file system in memory with links, modes, stamps, locks and switches that make it fail.
//!
//! It is strict where real systems are lenient: after [`MemFiles::lose_power`] only synced contents and synced names
//! are left, permission bits count for everybody, and two stamps are never equal by chance.

mod disk;
mod power;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tokensink_host::{Clock, FileFacts, FileHandle, FileKind, FileStamp, Files, OpenMode};
use tokensink_types::UnixMillis;

use self::disk::{Disk, Kind, READ, WRITE, directory, file};
use crate::FakeClock;

/// Files in memory. Clones share one file system.
#[derive(Clone)]
pub struct MemFiles(Arc<Mutex<Disk>>);

impl fmt::Debug for MemFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemFiles({} nodes)", self.disk().nodes.len())
    }
}

impl Default for MemFiles {
    fn default() -> Self {
        Self::new(Arc::new(FakeClock::default()))
    }
}

impl MemFiles {
    /// An empty file system whose stamps follow `clock`, used by user 1000.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Mutex::new(Disk::new(clock))))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a directory and its parents with mode 0700, durably.
    ///
    /// # Panics
    /// When something else is in the way.
    pub fn mkdir(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        tokensink_host::atomic::ensure_dir(self, path, 0o700).expect("mkdir");
    }

    /// Puts a file there with its parents, durably, over what was there.
    ///
    /// # Panics
    /// When a directory is in the way, or a switch makes it fail.
    pub fn put(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>, mode: u32) {
        let path = path.as_ref();
        let dir = path.parent().expect("a path with a parent");
        self.mkdir(dir);
        let mut handle = match self.create_new(path, mode) {
            Ok(handle) => handle,
            Err(_) => self.open(path, OpenMode::ReadWrite).expect("put"),
        };
        handle.truncate(0).expect("put");
        handle.write_at(0, bytes.as_ref()).expect("put");
        handle.sync().expect("put");
        self.set_mode(path, mode).expect("put");
        self.sync_dir(dir).expect("put");
    }

    /// Creates a link at `at` that points to `target`, durably.
    ///
    /// # Panics
    /// When something is there already.
    pub fn symlink(&self, target: impl AsRef<Path>, at: impl AsRef<Path>) {
        let at = at.as_ref();
        let dir = at.parent().expect("a path with a parent");
        self.mkdir(dir);
        {
            let mut disk = self.disk();
            let found = disk.walk(at, false).expect("symlink");
            assert!(found.node.is_none(), "{} exists", at.display());
            let node = disk.node(Kind::Link(target.as_ref().to_owned()), 0o777);
            disk.link(found.dir, &found.name, node).expect("symlink");
        }
        self.sync_dir(dir).expect("symlink");
    }

    /// The content of a file as text.
    ///
    /// # Panics
    /// When there is no such file or it is not UTF-8.
    #[must_use]
    pub fn text(&self, path: impl AsRef<Path>) -> String {
        let path = path.as_ref();
        let bytes = self
            .read(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// The permission bits of what is there, `None` when nothing is.
    #[must_use]
    pub fn mode(&self, path: impl AsRef<Path>) -> Option<u32> {
        self.stat(path.as_ref()).ok().flatten().map(|stamp| stamp.mode)
    }

    /// Every file with its content, links not followed: for comparing the whole disk.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.disk();
        let mut all = BTreeMap::new();
        let mut todo = vec![(PathBuf::from("/"), 0)];
        while let Some((path, node)) = todo.pop() {
            match &disk.nodes[node].kind {
                Kind::File { bytes, .. } => {
                    all.insert(path, bytes.clone());
                }
                Kind::Dir { names, .. } => {
                    todo.extend(names.iter().map(|(name, &node)| (path.join(name), node)));
                }
                Kind::Link(_) => {}
            }
        }
        all
    }

    /// Bytes that can still be written before ENOSPC; `None` lifts the bound. Writes in place that do not grow a
    /// file always succeed, as on most real disks.
    pub fn set_free_space(&self, bytes: Option<usize>) {
        let mut disk = self.disk();
        disk.capacity = bytes.map(|bytes| disk.used() + bytes);
    }

    /// Makes every rename fail, as on a bind-mounted file (`EBUSY`) or across file systems (`EXDEV`).
    pub fn refuse_renames(&self, errno: Option<Errno>) {
        self.disk().refuse_rename = errno;
    }

    /// Makes every change fail with EROFS.
    pub fn set_read_only(&self, read_only: bool) {
        self.disk().read_only = read_only;
    }

    /// Makes locks fail, as on a file system without them.
    pub fn set_no_locks(&self, no_locks: bool) {
        self.disk().no_locks = no_locks;
    }

    /// Makes every call that names exactly this path fail; `None` heals it.
    pub fn set_fault(&self, path: impl AsRef<Path>, errno: Option<Errno>) {
        let path = path.as_ref().to_owned();
        let faults = &mut self.disk().faults;
        match errno {
            Some(errno) => faults.insert(path, errno),
            None => faults.remove(&path),
        };
    }

    /// Gives a file to another user; we are user 1000.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32) {
        let mut disk = self.disk();
        let (_, node) = disk.existing(path.as_ref(), true).expect("chown");
        disk.nodes[node].uid = uid;
    }

    /// The machine loses power: what was not synced is gone, and so are all locks.
    pub fn lose_power(&self) {
        self.disk().lose_power();
    }

    /// The machine loses power, and of what was not synced each sector and each name is there or not: `choose` is
    /// given a number of outcomes and picks one of them, 0 being the old. All locks are gone.
    pub fn lose_power_by(&self, choose: &mut dyn FnMut(u64) -> u64) {
        self.disk().cut(choose);
    }

    /// What was not synced of the file at `path` was dropped by a sync that failed: it reads as written until a loss
    /// of power, and only writing it again can make it durable.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn drop_unsynced(&self, path: impl AsRef<Path>) {
        let mut disk = self.disk();
        let (_, node) = disk.existing(path.as_ref(), true).expect("drop_unsynced");
        disk.forget_unsynced(node);
    }

    /// Every file that a loss of power now would leave in any case, with the content that it would have.
    #[must_use]
    pub fn durable(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.disk().durable()
    }

    /// A copy of the whole disk that changes on its own from here on. Its stamps follow `clock`, and nobody holds a
    /// lock on it.
    #[must_use]
    pub fn fork(&self, clock: Arc<dyn Clock>) -> Self {
        let mut disk = self.disk().clone();
        disk.clock = clock;
        for node in &mut disk.nodes {
            node.lock = None;
        }
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Makes everything durable, as after a long quiet time.
    pub fn settle(&self) {
        self.disk().settle();
    }

    fn open_node(&self, disk: &mut Disk, node: usize, path: &Path, writable: bool) -> Box<dyn FileHandle> {
        Box::new(MemHandle {
            files: self.clone(),
            node,
            number: disk.handle_number(),
            writable,
            path: path.to_owned(),
        })
    }
}

impl Files for MemFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        disk.gate(path, false)?;
        let (_, node) = disk.existing(path, true)?;
        disk.may(node, READ)?;
        match &disk.nodes[node].kind {
            Kind::File { bytes, .. } => Ok(bytes.clone()),
            Kind::Dir { .. } | Kind::Link(_) => Err(Errno::ISDIR.into()),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        let disk = self.disk();
        disk.gate(path, false)?;
        match disk.existing(path, true) {
            Ok((_, node)) => Ok(Some(disk.stamp(node))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let disk = self.disk();
        disk.gate(path, false)?;
        disk.existing(path, true).map(|(found, _)| found.path)
    }

    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let disk = self.disk();
        disk.gate(path, false)?;
        match disk.existing(path, false) {
            Ok((_, node)) => match &disk.nodes[node].kind {
                Kind::Link(target) => Ok(Some(target.clone())),
                Kind::File { .. } | Kind::Dir { .. } => Ok(None),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn inspect(&self, path: &Path) -> io::Result<Option<FileFacts>> {
        let disk = self.disk();
        disk.gate(path, false)?;
        match disk.existing(path, false) {
            Ok((_, node)) => Ok(Some(FileFacts {
                kind: match &disk.nodes[node].kind {
                    Kind::File { .. } => FileKind::File,
                    Kind::Dir { .. } => FileKind::Dir,
                    Kind::Link(_) => FileKind::Link,
                },
                stamp: disk.stamp(node),
                links: disk.nodes[node].links as u64,
                born_ns: Some(disk.nodes[node].born_ns),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_itself(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let mut disk = self.disk();
        disk.gate(path, false)?;
        let (_, node) = disk.existing(path, false)?;
        if matches!(disk.nodes[node].kind, Kind::Link(_)) {
            return Err(Errno::LOOP.into());
        }
        disk.may(node, READ)?;
        Ok(self.open_node(&mut disk, node, path, false))
    }

    fn user(&self) -> u32 {
        self.disk().uid
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let disk = self.disk();
        disk.gate(dir, false)?;
        let node = match disk.existing(dir, true) {
            Ok((_, node)) => node,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        disk.may(node, READ)?;
        Ok(disk.names(node)?.keys().cloned().collect())
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
        let mut disk = self.disk();
        disk.gate(path, true)?;
        let found = disk.walk(path, false)?;
        if found.node.is_some() {
            return Err(Errno::EXIST.into());
        }
        disk.may(found.dir, WRITE)?;
        let node = disk.node(directory(), mode);
        disk.link(found.dir, &found.name, node)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.gate(path, true)?;
        let (found, node) = disk.existing(path, false)?;
        if !disk.names(node)?.is_empty() {
            return Err(Errno::NOTEMPTY.into());
        }
        disk.unlink(found.dir, &found.name)
    }

    fn set_modified(&self, path: &Path, at: UnixMillis) -> io::Result<()> {
        let mut disk = self.disk();
        disk.gate(path, true)?;
        let (_, node) = disk.existing(path, true)?;
        disk.touch(node);
        disk.nodes[node].modified_ns = i128::from(at.0) * 1_000_000;
        Ok(())
    }

    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FileHandle>> {
        let mut disk = self.disk();
        disk.gate(path, true)?;
        let found = disk.walk(path, false)?;
        if found.node.is_some() {
            return Err(Errno::EXIST.into());
        }
        disk.may(found.dir, WRITE)?;
        let node = disk.node(file(), mode);
        disk.link(found.dir, &found.name, node)?;
        Ok(self.open_node(&mut disk, node, path, true))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let mut disk = self.disk();
        let writable = mode == OpenMode::ReadWrite;
        disk.gate(path, writable)?;
        let (_, node) = disk.existing(path, true)?;
        disk.may(node, READ)?;
        if writable {
            if matches!(disk.nodes[node].kind, Kind::Dir { .. }) {
                return Err(Errno::ISDIR.into());
            }
            disk.may(node, WRITE)?;
        }
        Ok(self.open_node(&mut disk, node, path, writable))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.gate(from, true)?;
        disk.gate(to, true)?;
        if let Some(errno) = disk.refuse_rename {
            return Err(errno.into());
        }
        let (source, node) = disk.existing(from, false)?;
        let target = disk.walk(to, false)?;
        if target.node == Some(node) {
            return Ok(());
        }
        let is_dir = |node: usize| matches!(disk.nodes[node].kind, Kind::Dir { .. });
        match target.node {
            Some(old) if is_dir(old) && !is_dir(node) => return Err(Errno::ISDIR.into()),
            Some(old) if !is_dir(old) && is_dir(node) => return Err(Errno::NOTDIR.into()),
            Some(old) if is_dir(old) && !disk.names(old)?.is_empty() => return Err(Errno::NOTEMPTY.into()),
            _ => {}
        }
        disk.may(source.dir, WRITE)?;
        disk.may(target.dir, WRITE)?;
        disk.unlink(target.dir, &target.name)?;
        disk.link(target.dir, &target.name, node)?;
        disk.unlink(source.dir, &source.name)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.gate(from, true)?;
        disk.gate(to, true)?;
        let (_, node) = disk.existing(from, false)?;
        let target = disk.walk(to, false)?;
        if target.node.is_some() {
            return Err(Errno::EXIST.into());
        }
        disk.link(target.dir, &target.name, node)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.gate(path, true)?;
        let (found, node) = disk.existing(path, false)?;
        if matches!(disk.nodes[node].kind, Kind::Dir { .. }) {
            return Err(Errno::ISDIR.into());
        }
        disk.unlink(found.dir, &found.name)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.gate(dir, false)?;
        let (_, node) = disk.existing(dir, true)?;
        match &mut disk.nodes[node].kind {
            Kind::Dir { names, durable } => {
                durable.clone_from(names);
                Ok(())
            }
            Kind::File { .. } | Kind::Link(_) => Err(Errno::NOTDIR.into()),
        }
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut disk = self.disk();
        disk.gate(path, true)?;
        let (_, node) = disk.existing(path, true)?;
        if disk.nodes[node].uid != disk.uid {
            return Err(Errno::PERM.into());
        }
        disk.nodes[node].mode = mode;
        let now = disk.tick();
        disk.nodes[node].changed_ns = now;
        Ok(())
    }

    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        let disk = self.disk();
        disk.existing(path, true)?;
        Ok(disk.free().and_then(|bytes| u64::try_from(bytes).ok()))
    }
}

/// An open file in memory.
#[derive(Debug)]
struct MemHandle {
    files: MemFiles,
    node: usize,
    number: u64,
    writable: bool,
    path: PathBuf,
}

impl MemHandle {
    fn disk(&self, write: bool) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.files.disk();
        disk.gate(&self.path, write)?;
        if write && !self.writable {
            return Err(Errno::BADF.into());
        }
        Ok(disk)
    }
}

impl FileHandle for MemHandle {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk(false)?;
        let Kind::File { bytes, .. } = &disk.nodes[self.node].kind else {
            return Err(Errno::ISDIR.into());
        };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let rest = &bytes[offset..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
        self.disk(true)?.write(self.node, offset, bytes)
    }

    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let size = usize::try_from(size).map_err(|_| Errno::FBIG)?;
        let mut disk = self.disk(true)?;
        let free = disk.free();
        let Kind::File { bytes, .. } = &mut disk.nodes[self.node].kind else {
            return Err(Errno::ISDIR.into());
        };
        if free.is_some_and(|free| size > bytes.len() + free) {
            return Err(Errno::NOSPC.into());
        }
        bytes.resize(size, 0);
        disk.touch(self.node);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk(false)?.sync(self.node);
        Ok(())
    }

    fn stamp(&self) -> io::Result<FileStamp> {
        Ok(self.disk(false)?.stamp(self.node))
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        let mut disk = self.disk(false)?;
        if disk.no_locks {
            return Err(Errno::OPNOTSUPP.into());
        }
        let holder = disk.nodes[self.node].lock.get_or_insert(self.number);
        Ok(*holder == self.number)
    }

    fn into_fd(self: Box<Self>) -> Option<OwnedFd> {
        None
    }
}

impl Drop for MemHandle {
    fn drop(&mut self) {
        let mut disk = self.files.disk();
        let lock = &mut disk.nodes[self.node].lock;
        if *lock == Some(self.number) {
            *lock = None;
        }
    }
}

#[cfg(test)]
mod tests;
