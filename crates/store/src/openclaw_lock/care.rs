//! Looking at `.lock` files without wanting them, and clearing those that nobody can hold any more.
//!
//! OpenClaw never reclaims a lock that is empty, half-written or a directory (openclaw-live.md 6), so somebody has to.
//! A lock with a living holder is never touched, and one that its maker may be writing at this moment is not either:
//! it must be older than the age at which OpenClaw itself takes a lock for abandoned.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokensink_host::lock::{KernelLock, Wait};
use tokensink_host::{Host, Liveness};
use tokensink_types::UnixMillis;

use super::{DIRECTORY_STALE, DotLock, Found, LockKind, look, remove_directory, remove_stale};
use crate::error::StoreError;
use crate::paths::{Paths, lock_sibling, real_dir_path, real_path};

/// A `.lock` file with the kernel lock that guards it among ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockPlace {
    /// The file of our kernel lock; it need not exist.
    pub kernel: PathBuf,
    /// The `.lock` file.
    pub dot: PathBuf,
    /// What it is for.
    pub kind: LockKind,
}

impl LockPlace {
    /// The locks of a file of the state directory, such as `auth-profiles.json` or `openclaw.json`.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn of_file(host: &Host, paths: &Paths, file: &Path) -> Result<Self, StoreError> {
        let files = &*host.files;
        let real = real_path(files, file).map_err(StoreError::io("resolve", file))?;
        let beside = real_dir_path(files, file).map_err(StoreError::io("resolve", file))?;
        Ok(Self {
            kernel: paths.file_lock(&real),
            dot: lock_sibling(&beside),
            kind: LockKind::Store,
        })
    }

    /// The locks of a refresh, by the kernel lock's path ([`Paths::refresh_lock`]).
    #[must_use]
    pub fn of_refresh(kernel: &Path) -> Self {
        Self {
            kernel: kernel.to_owned(),
            dot: lock_sibling(kernel),
            kind: LockKind::Refresh,
        }
    }
}

/// What a `.lock` file is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// There is none.
    Free,
    /// Somebody holds it, or may be about to.
    Held {
        /// The holder's process id, where the lock names one.
        pid: Option<u32>,
        /// What is known of the holder.
        liveness: Liveness,
    },
    /// Its holder is dead, or it names none and is old. The next program that wants it takes it over.
    Stale {
        /// How long it has been there.
        age: Duration,
    },
    /// Empty or half-written, and too old for its maker to be writing it still: OpenClaw waits for it for ever.
    Torn {
        /// How long it has been there; `None` for a link that leads nowhere.
        age: Option<Duration>,
    },
    /// A directory, and no longer kept fresh: OpenClaw from 2026.3.13 on can never take the lock.
    Directory {
        /// How long it has not been touched.
        age: Duration,
        /// True when nothing is in it.
        empty: bool,
    },
}

/// What became of a lock that was to be cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleared {
    /// It is gone.
    Gone,
    /// It is a directory with something in it, which only its owner can judge.
    NotEmpty,
    /// Somebody holds it, so it stays.
    Held,
}

/// Judges what is at a lock's place. Takes nothing, creates nothing.
///
/// # Errors
/// As the system gives them.
pub fn lock_state(host: &Host, place: &LockPlace) -> Result<LockState, StoreError> {
    let path = &place.dot;
    let stamp = host.files.stat(path).map_err(StoreError::io("look at", path))?;
    let age = stamp.map_or(Duration::ZERO, |stamp| {
        let modified = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(i64::MAX);
        UnixMillis(modified).until(host.clock.now())
    });
    if stamp.is_some_and(|stamp| stamp.is_dir) {
        let names = host.files.list(path).map_err(StoreError::io("list", path))?;
        return Ok(if age > DIRECTORY_STALE {
            LockState::Directory {
                age,
                empty: names.is_empty(),
            }
        } else {
            LockState::Held {
                pid: None,
                liveness: Liveness::Unknown,
            }
        });
    }
    Ok(match look(host, path, place.kind, "")? {
        Found::Nothing => LockState::Free,
        Found::Stale(_) | Found::StaleDirectory => LockState::Stale { age },
        // A holder without a pid and with a remedy is a lock that cannot be read.
        Found::Held(holder) if holder.pid.is_none() && holder.remedy.is_some() => {
            if holder.age.is_none_or(|age| age > place.kind.stale_after()) {
                LockState::Torn { age: holder.age }
            } else {
                LockState::Held {
                    pid: None,
                    liveness: Liveness::Unknown,
                }
            }
        }
        Found::Held(holder) => LockState::Held {
            pid: holder.pid,
            liveness: holder.liveness,
        },
    })
}

/// Removes a lock that nobody can hold: stale, torn, or an abandoned empty directory. Our kernel lock is held
/// meanwhile, so that none of ours takes it at the same time; what was replaced since it was judged is put back.
///
/// # Errors
/// [`StoreError::Kernel`] when one of ours is at work there, else [`StoreError::Io`].
pub fn clear_lock(host: &Host, place: &LockPlace) -> Result<Cleared, StoreError> {
    let kernel = KernelLock::try_acquire(host, &place.kernel)?;
    match lock_state(host, place)? {
        LockState::Free => Ok(Cleared::Gone),
        LockState::Held { .. } => Ok(Cleared::Held),
        LockState::Stale { .. } => {
            let now = Wait {
                deadline: Duration::ZERO,
            };
            match DotLock::acquire(host, &kernel, &place.dot, place.kind, now) {
                Ok(_) => Ok(Cleared::Gone),
                Err(StoreError::Busy(_)) => Ok(Cleared::Held),
                Err(error) => Err(error),
            }
        }
        LockState::Torn { age: None } => {
            host.files
                .remove(&place.dot)
                .map_err(StoreError::io("remove the lock", &place.dot))?;
            Ok(Cleared::Gone)
        }
        LockState::Torn { age: Some(_) } => {
            let bytes = host
                .files
                .read(&place.dot)
                .map_err(StoreError::io("read", &place.dot))?;
            remove_stale(host, &place.dot, &bytes)?;
            Ok(Cleared::Gone)
        }
        LockState::Directory { empty: true, .. } => {
            remove_directory(host, &place.dot)?;
            Ok(Cleared::Gone)
        }
        LockState::Directory { empty: false, .. } => Ok(Cleared::NotEmpty),
    }
}

#[cfg(test)]
mod tests;
