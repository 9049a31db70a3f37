//! A file system whose every call is asked about first.
//!
//! [`Steer`] sees each call with its name and path and says what becomes of it; [`Steered`] does that to the files
//! below. [`Faults`](crate::Faults) is one way to steer, a simulator with many processes is another.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokensink_host::{FileFacts, FileHandle, FileStamp, Files, OpenMode};
use tokensink_types::UnixMillis;

/// One call into the file system.
#[derive(Debug, Clone, Copy)]
pub struct FileCall<'a> {
    /// The method's name, for example `rename`.
    pub name: &'static str,
    /// What it is about; the target of a rename or a link.
    pub path: &'a Path,
    /// How many bytes a write writes, else 0.
    pub bytes: usize,
}

/// What becomes of a call.
#[derive(Debug)]
pub enum Course {
    /// It is made.
    Go,
    /// It is not made, and fails.
    Refuse(io::Error),
    /// It is made, and said to have failed.
    GoThenFail(io::Error),
    /// A write, a sync or a lock is not made, and said to have worked. Any other call is made.
    Pretend,
    /// Of a write so many bytes are written, then it fails. Any other call is refused.
    Partly(usize, io::Error),
}

/// Who decides what becomes of each call.
pub trait Steer: Debug + Send + Sync {
    /// Asked before a call.
    fn steer(&self, call: &FileCall<'_>) -> Course;
    /// Told after a call that was made, whatever came of it.
    fn made(&self, call: &FileCall<'_>) {
        let _ = call;
    }
}

/// Files whose calls are steered.
#[derive(Debug, Clone)]
pub struct Steered {
    inner: Arc<dyn Files>,
    by: Arc<dyn Steer>,
}

impl Steered {
    /// `inner`, steered by `by`.
    #[must_use]
    pub fn new(inner: Arc<dyn Files>, by: Arc<dyn Steer>) -> Self {
        Self { inner, by }
    }

    fn call<T>(&self, name: &'static str, path: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        steered(&*self.by, name, path, run)
    }

    fn handle(&self, path: &Path, inner: Box<dyn FileHandle>) -> Box<dyn FileHandle> {
        Box::new(SteeredHandle {
            inner,
            path: path.to_owned(),
            by: Arc::clone(&self.by),
        })
    }
}

/// The same for a call that can be pretended.
fn pretended<T>(
    by: &dyn Steer,
    name: &'static str,
    path: &Path,
    done: T,
    run: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let call = FileCall { name, path, bytes: 0 };
    carry_out(by, &call, by.steer(&call), Some(done), run)
}

fn steered<T>(
    by: &dyn Steer,
    name: &'static str,
    path: &Path,
    run: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let call = FileCall { name, path, bytes: 0 };
    carry_out(by, &call, by.steer(&call), None, run)
}

fn carry_out<T>(
    by: &dyn Steer,
    call: &FileCall<'_>,
    course: Course,
    pretended: Option<T>,
    run: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let result = match (course, pretended) {
        (Course::Refuse(error) | Course::Partly(_, error), _) => return Err(error),
        (Course::Pretend, Some(done)) => Ok(done),
        (Course::Go | Course::Pretend, _) => run(),
        (Course::GoThenFail(error), _) => {
            drop(run());
            Err(error)
        }
    };
    by.made(call);
    result
}

impl Files for Steered {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call("read", path, || self.inner.read(path))
    }
    fn stat(&self, path: &Path) -> io::Result<Option<FileStamp>> {
        self.call("stat", path, || self.inner.stat(path))
    }
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.call("canonical", path, || self.inner.canonical(path))
    }
    fn link_target(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.call("link_target", path, || self.inner.link_target(path))
    }
    fn inspect(&self, path: &Path) -> io::Result<Option<FileFacts>> {
        self.call("inspect", path, || self.inner.inspect(path))
    }
    fn open_itself(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        self.call("open_itself", path, || self.inner.open_itself(path))
            .map(|handle| self.handle(path, handle))
    }
    fn user(&self) -> u32 {
        self.inner.user()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.call("list", dir, || self.inner.list(dir))
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.call("create_dir", path, || self.inner.create_dir(path, mode))
    }
    fn create_dir_new(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.call("create_dir_new", path, || self.inner.create_dir_new(path, mode))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call("remove_dir", path, || self.inner.remove_dir(path))
    }
    fn set_modified(&self, path: &Path, at: UnixMillis) -> io::Result<()> {
        self.call("set_modified", path, || self.inner.set_modified(path, at))
    }
    fn create_new(&self, path: &Path, mode: u32) -> io::Result<Box<dyn FileHandle>> {
        self.call("create_new", path, || self.inner.create_new(path, mode))
            .map(|handle| self.handle(path, handle))
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        self.call("open", path, || self.inner.open(path, mode))
            .map(|handle| self.handle(path, handle))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", to, || self.inner.rename(from, to))
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("hard_link", to, || self.inner.hard_link(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, || self.inner.remove(path))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        pretended(&*self.by, "sync_dir", dir, (), || self.inner.sync_dir(dir))
    }
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.call("set_mode", path, || self.inner.set_mode(path, mode))
    }
    fn free_space(&self, path: &Path) -> io::Result<Option<u64>> {
        self.call("free_space", path, || self.inner.free_space(path))
    }
}

#[derive(Debug)]
struct SteeredHandle {
    inner: Box<dyn FileHandle>,
    path: PathBuf,
    by: Arc<dyn Steer>,
}

impl FileHandle for SteeredHandle {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = &mut self.inner;
        steered(&*self.by, "read_at", &self.path, || inner.read_at(offset, buffer))
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let call = FileCall {
            name: "write_at",
            path: &self.path,
            bytes: bytes.len(),
        };
        let (written, outcome) = match self.by.steer(&call) {
            Course::Refuse(error) => return Err(error),
            Course::Pretend => (&bytes[..0], None),
            Course::Go => (bytes, None),
            Course::GoThenFail(error) => (bytes, Some(error)),
            Course::Partly(count, error) => (&bytes[..count.min(bytes.len())], Some(error)),
        };
        let result = self.inner.write_at(offset, written);
        self.by.made(&call);
        outcome.map_or(result, Err)
    }
    fn truncate(&mut self, size: u64) -> io::Result<()> {
        let inner = &mut self.inner;
        steered(&*self.by, "truncate", &self.path, || inner.truncate(size))
    }
    fn sync(&mut self) -> io::Result<()> {
        let inner = &mut self.inner;
        pretended(&*self.by, "sync", &self.path, (), || inner.sync())
    }
    fn stamp(&self) -> io::Result<FileStamp> {
        steered(&*self.by, "stamp", &self.path, || self.inner.stamp())
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        let inner = &mut self.inner;
        pretended(&*self.by, "try_lock", &self.path, true, || inner.try_lock())
    }
    fn into_fd(self: Box<Self>) -> Option<OwnedFd> {
        self.inner.into_fd()
    }
}
