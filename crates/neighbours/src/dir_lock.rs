//! Locks that are directories, as the npm package `proper-lockfile` makes them for Claude Code (clients.md 3.4):
//! whoever creates the directory has the lock, says that it lives by touching it, and loses it to the next one when it
//! has not done so for the stale time.
//!
//! It promises: a directory is ours only while device, inode and time are those that we left it with, since an inode
//! alone may come back; a lock that is not ours any more is not removed; a crash leaves an empty directory that goes
//! stale by itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokensink_host::{Clock, FileStamp, Files, Host};
use tokensink_types::UnixMillis;

use crate::NeighbourError;

/// Permission bits of a lock.
const MODE: u32 = 0o700;
/// How often a name that others keep taking and leaving is tried in one go.
const TRIES: usize = 3;

/// A directory lock that is held, or was. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct DirLock {
    files: Arc<dyn Files>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    /// How we left it; `None` once it is released or lost.
    mark: Mutex<Option<Mark>>,
}

/// What tells our directory from another of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    modified_ns: i128,
}

impl Mark {
    fn of(stamp: &FileStamp) -> Self {
        Self {
            device: stamp.device,
            inode: stamp.inode,
            modified_ns: stamp.modified_ns,
        }
    }
}

/// One try.
pub(crate) enum Attempt {
    Taken(DirLock),
    /// Somebody has it, and touched it so long ago.
    Held(Duration),
}

impl DirLock {
    /// Tries once; a lock that was not touched for `stale` is taken over, and one that is `abandoned` at once. That is
    /// asked only after the directory was looked at, and the directory is removed only if it is still as it was then: so
    /// what is judged and what is removed are one lock, although others may take it over at any moment.
    ///
    /// # Errors
    /// When the system refuses, or something that is no such lock has the name.
    pub(crate) fn attempt(
        host: &Host,
        path: &Path,
        stale: Duration,
        abandoned: impl Fn() -> bool,
    ) -> Result<Attempt, NeighbourError> {
        let mut age = Duration::ZERO;
        for _ in 0..TRIES {
            match host.files.create_dir_new(path, MODE) {
                Ok(()) => return Self::marked(host, path).map(Attempt::Taken),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(NeighbourError::io("create the lock", path)(error)),
            }
            let Some(stamp) = look(host, path)? else {
                continue;
            };
            if !stamp.is_dir {
                return Err(NeighbourError::Blocked {
                    path: path.to_owned(),
                    why: "it is no directory",
                });
            }
            age = modified(&stamp).until(host.clock.now());
            if age <= stale && !abandoned() {
                return Ok(Attempt::Held(age));
            }
            remove_stale(host, path, &stamp)?;
        }
        Ok(Attempt::Held(age))
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves our mark on the directory that we just made.
    fn marked(host: &Host, path: &Path) -> Result<Self, NeighbourError> {
        let touched = host
            .files
            .set_modified(path, host.clock.now())
            .and_then(|()| host.files.stat(path))
            .and_then(|stamp| stamp.ok_or_else(|| io::ErrorKind::NotFound.into()));
        match touched {
            Ok(stamp) => Ok(Self {
                files: Arc::clone(&host.files),
                clock: Arc::clone(&host.clock),
                path: path.to_owned(),
                mark: Mutex::new(Some(Mark::of(&stamp))),
            }),
            Err(error) => {
                // Made a moment ago, so it cannot be anybody else's yet.
                let _ = host.files.remove_dir(path);
                Err(NeighbourError::io("touch the lock", path)(error))
            }
        }
    }

    /// Says that we live. `false` once the lock is lost; an error of the system does not count as that.
    pub(crate) fn touch(&self) -> bool {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = *mark else {
            return false;
        };
        match self.files.stat(&self.path) {
            Ok(Some(stamp)) if Mark::of(&stamp) == before => {}
            Ok(_) => {
                *mark = None;
                return false;
            }
            Err(_) => return true,
        }
        let touched = self
            .files
            .set_modified(&self.path, self.clock.now())
            .and_then(|()| self.files.stat(&self.path));
        if let Ok(Some(stamp)) = touched
            && stamp.inode == before.inode
        {
            *mark = Some(Mark::of(&stamp));
        }
        true
    }

    /// True while the directory is as we left it, as far as the system says.
    pub(crate) fn is_ours(&self) -> bool {
        let mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        mark.is_some_and(|mark| match self.files.stat(&self.path) {
            Ok(stamp) => stamp.is_some_and(|stamp| Mark::of(&stamp) == mark),
            Err(_) => true,
        })
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        let mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner).take();
        let there = self.files.stat(&self.path).ok().flatten();
        if mark.is_some() && mark == there.as_ref().map(Mark::of) {
            // One that stays goes stale by itself.
            let _ = self.files.remove_dir(&self.path);
        }
    }
}

fn look(host: &Host, path: &Path) -> Result<Option<FileStamp>, NeighbourError> {
    host.files
        .stat(path)
        .map_err(NeighbourError::io("look at the lock", path))
}

fn modified(stamp: &FileStamp) -> UnixMillis {
    UnixMillis(i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(i64::MAX))
}

/// Removes a stale lock, unless its holder moved or another one took its place meanwhile.
fn remove_stale(host: &Host, path: &Path, stale: &FileStamp) -> Result<(), NeighbourError> {
    if look(host, path)?.as_ref().map(Mark::of) != Some(Mark::of(stale)) {
        return Ok(());
    }
    tracing::info!(path = %path.display(), "took over a lock whose holder is gone");
    match host.files.remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(NeighbourError::Blocked {
            path: path.to_owned(),
            why: "it is abandoned, and holds something",
        }),
        result => result.map_err(NeighbourError::io("remove the abandoned lock", path)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokensink_testkit::TestHost;

    use super::*;

    const STALE: Duration = Duration::from_secs(60);

    #[test]
    fn who_takes_an_abandoned_lock_over_first_keeps_it() {
        let test = TestHost::new();
        let host = test.host();
        let path = Path::new("/h/.oauth_refresh.lock");
        test.files.mkdir(path);
        let asked = Cell::new(0);
        // While it is judged, another program takes the lock over.
        let overtaken = || {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                test.clock.advance(Duration::from_secs(1));
                host.files.remove_dir(path).unwrap();
                host.files.create_dir_new(path, MODE).unwrap();
                return true;
            }
            false
        };
        let attempt = DirLock::attempt(&host, path, STALE, overtaken).unwrap();
        assert!(matches!(attempt, Attempt::Held(_)));
        assert_eq!(asked.get(), 2, "the new one was judged for itself");
        assert!(look(&host, path).unwrap().is_some(), "and stands");
        let attempt = DirLock::attempt(&host, path, STALE, || true).unwrap();
        assert!(matches!(attempt, Attempt::Taken(_)));
    }
}
