//! The locks of the programs themselves: those that are held across a refresh, and those around a write
//! (clients.md 2.4 and 3.4).
//!
//! Order: Claude Code's two refresh locks, then its write lock; Codex has only the two around its write. They are
//! released in reverse. Nothing is ever made here that the program would take for a lock without an end: Claude
//! Code's go stale by themselves, and the kernel releases Codex' when we die.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokensink_host::{FileHandle, Host, OpenMode, Ticker};

use crate::dir_lock::{Attempt, DirLock};
use crate::owner::{self, OwnerRecord};
use crate::{Neighbour, NeighbourError, Place};

/// After so long without a touch Claude Code takes a refresh lock over.
const REFRESH_STALE: Duration = Duration::from_secs(60);
/// How often a refresh lock is touched.
const BEAT: Duration = Duration::from_secs(5);
/// After so long Claude Code takes its write lock over.
const WRITE_STALE: Duration = Duration::from_secs(15);
/// How long a write waits for Claude Code's lock: longer than a dead holder can keep it.
const CLAUDE_WRITE_WAIT: Duration = Duration::from_secs(16);
/// How long a write waits for each of Codex' locks, which are held for a moment only.
const CODEX_WRITE_WAIT: Duration = Duration::from_secs(5);
/// First pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The locks that keep the program from refreshing. Dropping it releases them.
#[derive(Debug)]
pub struct RefreshLocks {
    held: Arc<Vec<DirLock>>,
    heartbeat: Option<Ticker>,
    owner: Option<OwnerRecord>,
}

/// Takes the locks that the program holds across a refresh, waiting at most `wait` for the program. Codex has none
/// (clients.md 0.1). The caller reads the login again once it has them.
///
/// # Errors
/// [`NeighbourError::Busy`] when the program keeps them, [`NeighbourError::OnlyBorrowed`] for one whose locks we do
/// not know, or as the system gives them.
pub fn lock_for_refresh(host: &Host, place: &Place, wait: Duration) -> Result<RefreshLocks, NeighbourError> {
    let home = writable_home(place)?;
    if place.neighbour != Neighbour::ClaudeCode {
        return Ok(RefreshLocks {
            held: Arc::default(),
            heartbeat: None,
            owner: None,
        });
    }
    let held = Arc::new(claude_refresh(host, home, wait)?);
    let beating = Arc::clone(&held);
    let heartbeat = Ticker::start("claude-lock", BEAT, move || touch_all(&beating))
        .map_err(NeighbourError::io("start the heartbeat for the locks of", home))?;
    let (first, second) = (held.first(), held.get(1));
    let owner =
        first.and_then(|first| OwnerRecord::write(host, home, first.path(), second.map(DirLock::path)));
    Ok(RefreshLocks {
        held,
        heartbeat: Some(heartbeat),
        owner,
    })
}

impl RefreshLocks {
    /// True when a lock was taken away from us, as from a process that was stopped for longer than the stale time. The
    /// program may then have refreshed as well; an answer that we have is still committed by compare-and-set.
    #[must_use]
    pub fn lost(&self) -> bool {
        !self.held.iter().all(DirLock::is_ours)
    }

    /// One heartbeat, as happens every 5 s by itself. `false` once a lock is lost.
    #[must_use]
    pub fn beat(&self) -> bool {
        touch_all(&self.held)
    }
}

impl Drop for RefreshLocks {
    fn drop(&mut self) {
        // The heartbeat has its share of the locks, so it must end first.
        self.heartbeat = None;
        self.owner = None;
        if let Some(held) = Arc::get_mut(&mut self.held) {
            while held.pop().is_some() {}
        }
    }
}

/// Touches all, also behind one that is lost.
fn touch_all(locks: &[DirLock]) -> bool {
    locks.iter().filter(|lock| !lock.touch()).count() == 0
}

/// First `.oauth_refresh.lock` in the home, then `<real home>.lock` beside it, which older versions know alone. When
/// the second is held, the first is given back before the next try. When the second cannot be made at all, as in a
/// sandbox without a writable parent, Claude Code goes on with the first alone, and so do we (seen in its 2.1.329).
/// What a dead process has left behind is taken over at once: a request of it may be unanswered, and the server's grace
/// is short.
fn claude_refresh(host: &Host, home: &Path, wait: Duration) -> Result<Vec<DirLock>, NeighbourError> {
    let first = home.join(".oauth_refresh.lock");
    let real = host
        .files
        .canonical(home)
        .map_err(NeighbourError::io("resolve", home))?;
    let second = suffixed(&real, ".lock");
    patiently(host, Neighbour::ClaudeCode, wait, || {
        let abandoned = || owner::abandoned(host, home, &first, &second);
        let one = match DirLock::attempt(host, &first, REFRESH_STALE, || abandoned().first)? {
            Attempt::Taken(lock) => lock,
            Attempt::Held(age) => return Ok(Err((first.clone(), age))),
        };
        match DirLock::attempt(host, &second, REFRESH_STALE, || abandoned().second) {
            Ok(Attempt::Taken(two)) => Ok(Ok(vec![one, two])),
            Ok(Attempt::Held(age)) => Ok(Err((second.clone(), age))),
            Err(error) => {
                tracing::warn!(%error, "Claude Code's older refresh lock is left out");
                Ok(Ok(vec![one]))
            }
        }
    })
}

/// The locks around one write. Dropping it releases them, the last one first.
#[derive(Debug)]
pub(crate) struct WriteLocks {
    _inner: Option<Box<dyn FileHandle>>,
    _outer: Option<Box<dyn FileHandle>>,
    _dir: Option<DirLock>,
}

impl WriteLocks {
    /// Takes the locks that the program takes around a read-modify-write of its login.
    ///
    /// # Errors
    /// As for [`lock_for_refresh`].
    pub(crate) fn take(host: &Host, place: &Place) -> Result<Self, NeighbourError> {
        let home = writable_home(place)?;
        if place.neighbour == Neighbour::ClaudeCode {
            let path = home.join(".storage-write.lock");
            let dir = patiently(
                host,
                Neighbour::ClaudeCode,
                CLAUDE_WRITE_WAIT,
                || match DirLock::attempt(host, &path, WRITE_STALE, || false)? {
                    Attempt::Taken(lock) => Ok(Ok(lock)),
                    Attempt::Held(age) => Ok(Err((path.clone(), age))),
                },
            )?;
            return Ok(Self {
                _inner: None,
                _outer: None,
                _dir: Some(dir),
            });
        }
        refuse_another_users(host, home)?;
        let outer = flock(host, &home.join("auth.lock"))?;
        let inner = flock(host, &home.join("auth.json.lock"))?;
        Ok(Self {
            _inner: Some(inner),
            _outer: Some(outer),
            _dir: None,
        })
    }
}

/// The home of a program whose locks we know.
fn writable_home(place: &Place) -> Result<&Path, NeighbourError> {
    let borrowed = |reason: &str| NeighbourError::OnlyBorrowed {
        place: place.to_string(),
        reason: reason.to_owned(),
    };
    if !place.neighbour.may_cooperate() {
        let title = place.neighbour.title();
        return Err(borrowed(&format!(
            "it is not known by which locks {title} writes its login"
        )));
    }
    place
        .home()
        .ok_or_else(|| borrowed("it has no directory for locks"))
}

/// Codex' locks are the kernel's, on empty files that stay behind.
fn flock(host: &Host, path: &Path) -> Result<Box<dyn FileHandle>, NeighbourError> {
    patiently(host, Neighbour::Codex, CODEX_WRITE_WAIT, || {
        let mut handle = open_or_create(host, path)?;
        let taken = handle.try_lock().map_err(NeighbourError::io("lock", path))?;
        Ok(if taken {
            Ok(handle)
        } else {
            Err((path.to_owned(), Duration::ZERO))
        })
    })
}

/// Opened for writing where that is allowed, since network file systems want it for an exclusive lock.
fn open_or_create(host: &Host, path: &Path) -> Result<Box<dyn FileHandle>, NeighbourError> {
    let open = || match host.files.open(path, OpenMode::ReadWrite) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            host.files.open(path, OpenMode::Read)
        }
        result => result,
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result.map_err(NeighbourError::io("open the lock", path)),
    }
    match host.files.create_new(path, 0o600) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            open().map_err(NeighbourError::io("open the lock", path))
        }
        result => result.map_err(NeighbourError::io("create the lock", path)),
    }
}

/// A lock file of root in a user's home would shut its owner out for good.
fn refuse_another_users(host: &Host, home: &Path) -> Result<(), NeighbourError> {
    let theirs = host
        .files
        .stat(home)
        .map_err(NeighbourError::io("look at", home))?;
    if theirs.is_none_or(|theirs| theirs.uid == host.files.user()) {
        return Ok(());
    }
    Err(NeighbourError::OnlyBorrowed {
        place: home.display().to_string(),
        reason: "it belongs to another user; run tokensink as that user".to_owned(),
    })
}

/// Tries until it works or the time is over; `attempt` says who is in the way, and since when that one was silent.
fn patiently<T>(
    host: &Host,
    neighbour: Neighbour,
    wait: Duration,
    mut attempt: impl FnMut() -> Result<Result<T, (PathBuf, Duration)>, NeighbourError>,
) -> Result<T, NeighbourError> {
    let start = host.clock.monotonic();
    let mut pause = PAUSE_MIN;
    loop {
        let (path, age) = match attempt()? {
            Ok(taken) => return Ok(taken),
            Err(held) => held,
        };
        let waited = host.clock.monotonic().saturating_sub(start);
        let left = wait.saturating_sub(waited);
        if left.is_zero() {
            return Err(NeighbourError::Busy {
                title: neighbour.title(),
                path,
                age,
                waited,
            });
        }
        host.clock.sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
