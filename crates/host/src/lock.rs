//! Kernel locks with a deadline, on files that are never unlinked.
//!
//! The kernel releases such a lock when its holder dies, so there is no stale lock and no take-over: a live holder,
//! slow or stopped, is never dispossessed. The holder writes who it is into the file, for messages only; whether the
//! lock is free is the kernel's word alone. The lock can be handed to a child process as its standard input.
//!
//! Two opens exclude each other also within one process.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;
use tokensink_types::{ProcessId, UnixMillis};

use crate::os_files::OsFile;
use crate::{FileHandle, FileStamp, Host, Liveness, OpenMode, atomic};

/// First pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How often a lock file that was replaced under us is opened again without a pause.
const MAX_REOPENS: usize = 8;
/// Longest holder line in bytes.
const LINE_BYTES: usize = 1024;

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// From the first try to the last; zero means one try.
    pub deadline: Duration,
}

/// Who holds a lock, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: ProcessId,
    /// When it took the lock, by its wall clock.
    pub since: UnixMillis,
    /// How long ago that was, by ours.
    pub age: Duration,
    /// What is known of the process. `Dead` means that the line in the file is older than the present holder, or
    /// that the lock was passed on to a child.
    pub liveness: Liveness,
}

/// Why there is no lock.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else has it.
    #[error("{} is locked{}", path.display(), describe(holder.as_deref(), *waited))]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// Who has it, where that could be read.
        holder: Option<Box<Holder>>,
        /// How long we waited.
        waited: Duration,
    },
    /// The file system has no locks.
    #[error(
        "the file system of {} has no file locks ({source}); \
         put the state directory on a local disk, for example with OPENCLAW_STATE_DIR=/var/lib/openclaw",
        path.display()
    )]
    Unsupported {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}: {doing}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What failed.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The tail of the message for a lock that somebody else has.
fn describe(holder: Option<&Holder>, waited: Duration) -> String {
    let mut text = String::new();
    if let Some(holder) = holder {
        let age = holder.age.as_secs();
        // Writing to a String cannot fail.
        let _ = match holder.liveness {
            Liveness::Dead => write!(text, " by a successor of {}, which has ended", holder.process),
            Liveness::Stopped => write!(
                text,
                " by {}, which is stopped, for {age} s (let it go on: kill -CONT {})",
                holder.process, holder.process.pid
            ),
            Liveness::Running | Liveness::Unknown => write!(text, " by {} for {age} s", holder.process),
        };
    } else {
        text.push_str(" by another process");
    }
    if !waited.is_zero() {
        let _ = write!(text, "; waited {:.1} s", waited.as_secs_f64());
    }
    text
}

/// A lock that is held. Dropping it releases it.
#[derive(Debug)]
pub struct KernelLock {
    path: PathBuf,
    handle: Box<dyn FileHandle>,
}

impl KernelLock {
    /// Takes the lock on `path`, waiting at most `wait.deadline`. The file, with mode 0600, and its directories,
    /// with 0700, are created where missing.
    ///
    /// # Errors
    /// [`LockError::Busy`] after the deadline, [`LockError::Unsupported`], or [`LockError::Io`].
    pub fn acquire(host: &Host, path: &Path, wait: Wait) -> Result<Self, LockError> {
        let start = host.clock.monotonic();
        let mut pause = FIRST_PAUSE;
        loop {
            match try_once(host, path)? {
                Attempt::Taken(handle) => return Ok(Self::held(host, path, handle)),
                Attempt::Held(mut handle) => {
                    let waited = host.clock.monotonic().saturating_sub(start);
                    let left = wait.deadline.saturating_sub(waited);
                    if left.is_zero() {
                        return Err(LockError::Busy {
                            path: path.to_owned(),
                            holder: read_holder(host, &mut *handle),
                            waited,
                        });
                    }
                    drop(handle);
                    host.clock.sleep(pause.min(left));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// As for [`KernelLock::acquire`].
    pub fn try_acquire(host: &Host, path: &Path) -> Result<Self, LockError> {
        Self::acquire(
            host,
            path,
            Wait {
                deadline: Duration::ZERO,
            },
        )
    }

    /// Takes over a lock whose descriptor came from [`KernelLock::into_fd`].
    ///
    /// # Errors
    /// [`LockError::Io`] when the descriptor is not the file at `path`, [`LockError::Busy`] when another open file
    /// has the lock.
    pub fn from_fd(host: &Host, path: &Path, fd: OwnedFd) -> Result<Self, LockError> {
        let mut handle: Box<dyn FileHandle> = Box::new(OsFile::from(fd));
        if !same_file(host, path, &*handle)? {
            return Err(io_error(path, "taking over the lock")(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor that was handed over is another file",
            )));
        }
        if handle.try_lock().map_err(|error| lock_failed(path, error))? {
            Ok(Self::held(host, path, handle))
        } else {
            Err(LockError::Busy {
                path: path.to_owned(),
                holder: read_holder(host, &mut *handle),
                waited: Duration::ZERO,
            })
        }
    }

    /// Takes over the lock that our parent gave us as standard input. Standard input becomes empty, so that dropping
    /// the lock releases it.
    ///
    /// # Errors
    /// As for [`KernelLock::from_fd`], for example when standard input is something else.
    pub fn adopt_stdin(host: &Host, path: &Path) -> Result<Self, LockError> {
        let taken = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
            .and_then(|fd| {
                let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
                let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
                rustix::stdio::dup2_stdin(null)?;
                Ok(fd)
            })
            .map_err(|errno| io_error(path, "taking the lock from standard input")(errno.into()))?;
        Self::from_fd(host, path, taken)
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True while `path` still names the file that is locked. Somebody who removed it against the rules has opened
    /// the way for a second holder.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn is_intact(&self, host: &Host) -> Result<bool, LockError> {
        same_file(host, &self.path, &*self.handle)
    }

    /// Gives the descriptor away, lock included: the lock lives as long as any copy of it. `None` for an in-memory
    /// file; the lock is then released.
    #[must_use]
    pub fn into_fd(self) -> Option<OwnedFd> {
        self.handle.into_fd()
    }

    /// Notes for the child that was given the lock who has it now: until the child has come so far as to say so itself,
    /// messages would name the giver, and nothing to do about a child that was stopped before. `copy` is a copy of the
    /// descriptor that the child got; while it is open nobody else can have the lock, so no other holder's note is
    /// overwritten. It is closed before this returns.
    pub fn note_for(host: &Host, copy: OwnedFd, child: &ProcessId) {
        note(host, &mut OsFile::from(copy), child);
    }

    fn held(host: &Host, path: &Path, mut handle: Box<dyn FileHandle>) -> Self {
        note(host, &mut *handle, &host.processes.this());
        Self {
            path: path.to_owned(),
            handle,
        }
    }
}

/// Notes a holder in the file. The lock holds without the note (on a full disk, say), so a failure is dropped.
fn note(host: &Host, handle: &mut dyn FileHandle, holder: &ProcessId) {
    let line = holder_line(holder, host.clock.now());
    let _ = handle
        .write_at(0, line.as_bytes())
        .and_then(|()| handle.truncate(u64::try_from(line.len()).unwrap_or(u64::MAX)));
}

/// One try.
enum Attempt {
    Taken(Box<dyn FileHandle>),
    Held(Box<dyn FileHandle>),
}

fn try_once(host: &Host, path: &Path) -> Result<Attempt, LockError> {
    for _ in 0..MAX_REOPENS {
        let mut handle = open_or_create(host, path)?;
        if !handle.try_lock().map_err(|error| lock_failed(path, error))? {
            return Ok(Attempt::Held(handle));
        }
        // A file that was unlinked or replaced between open and lock is a lock that nobody else sees.
        if same_file(host, path, &*handle)? {
            return Ok(Attempt::Taken(handle));
        }
    }
    Err(io_error(path, "opening it")(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "another program keeps removing it",
    )))
}

fn open_or_create(host: &Host, path: &Path) -> Result<Box<dyn FileHandle>, LockError> {
    for _ in 0..MAX_REOPENS {
        match host.files.open(path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map_err(io_error(path, "opening it")),
        }
        if let Some(dir) = path.parent() {
            atomic::ensure_dir(&*host.files, dir, 0o700).map_err(io_error(path, "creating its directory"))?;
        }
        match host.files.create_new(path, 0o600) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) => {}
            result => return result.map_err(io_error(path, "creating it")),
        }
    }
    Err(io_error(path, "creating it")(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "another program keeps removing it, or it is a dangling link",
    )))
}

fn same_file(host: &Host, path: &Path, handle: &dyn FileHandle) -> Result<bool, LockError> {
    let id = |stamp: FileStamp| (stamp.device, stamp.inode);
    let open = handle.stamp().map_err(io_error(path, "looking at it"))?;
    let named = host.files.stat(path).map_err(io_error(path, "looking at it"))?;
    Ok(named.map(id) == Some(id(open)))
}

fn io_error<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> LockError + 'a {
    move |source| LockError::Io {
        path: path.to_owned(),
        doing,
        source,
    }
}

fn lock_failed(path: &Path, source: io::Error) -> LockError {
    let errno = Errno::from_io_error(&source);
    if source.kind() == io::ErrorKind::Unsupported || errno == Some(Errno::NOLCK) {
        LockError::Unsupported {
            path: path.to_owned(),
            source,
        }
    } else {
        io_error(path, "locking it")(source)
    }
}

/// `pid start since boot host`, one line. The host name comes last because it is the only field that is not ours.
fn holder_line(process: &ProcessId, since: UnixMillis) -> String {
    let boot = if process.boot.is_empty() {
        "-"
    } else {
        &process.boot
    };
    format!(
        "{} {} {since} {boot} {}\n",
        process.pid, process.start, process.host
    )
}

/// The holder by the note in the file; `None` while it is being written, or when the file holds something else.
fn read_holder(host: &Host, handle: &mut dyn FileHandle) -> Option<Box<Holder>> {
    let mut line = [0; LINE_BYTES];
    let read = handle.read_at(0, &mut line).ok()?;
    let (process, since) = parse_holder(std::str::from_utf8(&line[..read]).ok()?)?;
    Some(Box::new(Holder {
        liveness: host.processes.liveness(&process),
        age: since.until(host.clock.now()),
        process,
        since,
    }))
}

fn parse_holder(text: &str) -> Option<(ProcessId, UnixMillis)> {
    let (line, _) = text.split_once('\n')?;
    let mut fields = line.splitn(5, ' ');
    let pid = fields.next()?.parse().ok()?;
    let start = fields.next()?.parse().ok()?;
    let since = UnixMillis(fields.next()?.parse().ok()?);
    let boot = match fields.next()? {
        "-" => String::new(),
        boot => boot.to_owned(),
    };
    let host = fields.next()?.to_owned();
    Some((
        ProcessId {
            host,
            boot,
            pid,
            start,
        },
        since,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_note_is_read_as_written(
            host in "[^\\n]{0,40}",
            boot in "([0-9a-f-]{2,36})?(@pid:\\[[0-9]{1,9}\\])?",
            pid: u32,
            start: u64,
            since: i64,
        ) {
            let process = ProcessId { host, boot, pid, start };
            let line = holder_line(&process, UnixMillis(since));
            prop_assert_eq!(parse_holder(&line), Some((process, UnixMillis(since))));
            prop_assert_eq!(parse_holder(line.trim_end_matches('\n')), None, "torn");
        }

        #[test]
        fn any_text_is_a_note_or_none(text: String) {
            let _ = parse_holder(&text);
        }
    }
}
