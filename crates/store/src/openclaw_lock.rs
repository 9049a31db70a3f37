//! The `.lock` files of OpenClaw (openclaw-live.md 6), and our kernel lock in front of them.
//!
//! Among ourselves the kernel's lock decides; the `.lock` file beside it is for OpenClaw. It promises: a lock file is
//! created whole (an empty one would wedge OpenClaw for ever), a live holder is never dispossessed, and a lock that is
//! not ours any more is not removed. A lock of ours that a killed process left behind is known by its mark: the
//! kernel lock that guarded it is named in it, and whoever holds that one knows that the file has no holder.
//!
//! OpenClaw judges the holder by its pid, so a holder in another pid namespace looks dead to it, and to us.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokensink_host::lock::{KernelLock, Wait};
use tokensink_host::{Files, Host, Liveness, atomic};
use tokensink_types::{ProcessId, UnixMillis};

use crate::disk::{DIR_MODE, FILE_MODE};
use crate::error::{LockBusy, StoreError};
use crate::json as js;
use crate::paths::with_suffix;

/// A directory at the lock's path belongs to OpenClaw of age A and is held while its time is fresher than this.
const DIRECTORY_STALE: Duration = Duration::from_secs(30);
/// First pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// What a lock is for; it sets the age at which a lock without a pid counts as abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// `auth-profiles.json.lock`, `openclaw.json.lock`: 30 s.
    Store,
    /// `locks/oauth-refresh/sha256-….lock`: 180 s.
    Refresh,
}

impl LockKind {
    fn stale_after(self) -> Duration {
        match self {
            Self::Store => Duration::from_secs(30),
            Self::Refresh => Duration::from_secs(180),
        }
    }
}

/// A kernel lock and the `.lock` file behind it. Dropping it releases both, the file first.
#[derive(Debug)]
pub struct GuardedLock {
    dot: DotLock,
    kernel: KernelLock,
}

impl GuardedLock {
    /// Takes the kernel lock on `kernel_path`, then the `.lock` file at `dot_path`; `wait` bounds both together.
    ///
    /// # Errors
    /// [`StoreError::Kernel`] or [`StoreError::Busy`] when a holder stays, else [`StoreError::Io`] or
    /// [`StoreError::NoLocks`].
    pub fn acquire(
        host: &Host,
        kernel_path: &Path,
        dot_path: &Path,
        kind: LockKind,
        wait: Wait,
    ) -> Result<Self, StoreError> {
        let start = host.clock.monotonic();
        let kernel = KernelLock::acquire(host, kernel_path, wait)?;
        let spent = host.clock.monotonic().saturating_sub(start);
        let left = Wait {
            deadline: wait.deadline.saturating_sub(spent),
        };
        Self::behind(host, kernel, dot_path, kind, left)
    }

    /// Takes the `.lock` file behind a kernel lock that is held already, for a child that got it from its parent
    /// ([`KernelLock::adopt_stdin`]): the file must name the process that works under it.
    ///
    /// # Errors
    /// As for [`DotLock::acquire`]; the kernel lock is then released.
    pub fn behind(
        host: &Host,
        kernel: KernelLock,
        dot_path: &Path,
        kind: LockKind,
        wait: Wait,
    ) -> Result<Self, StoreError> {
        let dot = DotLock::acquire(host, &kernel, dot_path, kind, wait)?;
        Ok(Self { dot, kernel })
    }

    /// True while both parts are still ours. Checked before a commit after a long pause.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn is_intact(&self, host: &Host) -> Result<bool, StoreError> {
        Ok(self.kernel.is_intact(host)? && self.dot.is_ours()?)
    }
}

/// The `.lock` file alone.
#[derive(Debug)]
pub struct DotLock {
    files: Arc<dyn Files>,
    path: PathBuf,
    content: Vec<u8>,
}

/// What is at the lock's path.
enum Found {
    Nothing,
    /// Nobody can hold it: these bytes may be removed.
    Stale(Vec<u8>),
    /// An abandoned, empty directory.
    StaleDirectory,
    Held(Holder),
}

/// Who holds it, as far as the lock says.
struct Holder {
    pid: Option<u32>,
    age: Option<Duration>,
    liveness: Liveness,
    remedy: Option<String>,
}

impl DotLock {
    /// Takes the `.lock` file at `path`. `kernel` is the lock that guards it.
    ///
    /// # Errors
    /// [`StoreError::Busy`] after the deadline, naming path, holder and age; [`StoreError::NoLocks`] where the file
    /// system has no hard links; [`StoreError::Io`].
    pub fn acquire(
        host: &Host,
        kernel: &KernelLock,
        path: &Path,
        kind: LockKind,
        wait: Wait,
    ) -> Result<Self, StoreError> {
        if let Some(dir) = path.parent() {
            atomic::ensure_dir(&*host.files, dir, DIR_MODE)
                .map_err(StoreError::io("create the directory of", path))?;
        }
        let guard = guard_name(host, kernel)?;
        let start = host.clock.monotonic();
        let mut pause = PAUSE_MIN;
        loop {
            let content = lock_text(host, &guard);
            if link_whole(host, path, &content)? {
                return Ok(Self {
                    files: Arc::clone(&host.files),
                    path: path.to_owned(),
                    content,
                });
            }
            match look(host, path, kind, &guard)? {
                Found::Nothing => {}
                Found::Stale(bytes) => remove_stale(host, path, &bytes)?,
                Found::StaleDirectory => remove_directory(host, path)?,
                Found::Held(holder) => {
                    let waited = host.clock.monotonic().saturating_sub(start);
                    let left = wait.deadline.saturating_sub(waited);
                    if left.is_zero() {
                        return Err(holder.busy(path, waited));
                    }
                    host.clock.sleep(pause.min(left));
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// The lock file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True while the file still holds what we wrote.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn is_ours(&self) -> Result<bool, StoreError> {
        match self.files.read(&self.path) {
            Ok(bytes) => Ok(bytes == self.content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }
}

impl Drop for DotLock {
    fn drop(&mut self) {
        // What cannot be removed is known by its mark to our next holder, and by its dead pid to OpenClaw.
        if self.is_ours().unwrap_or(false) {
            let _ = self.files.remove(&self.path);
        }
    }
}

impl Holder {
    fn busy(self, path: &Path, waited: Duration) -> StoreError {
        StoreError::Busy(Box::new(LockBusy {
            path: path.to_owned(),
            pid: self.pid,
            age: self.age,
            liveness: self.liveness,
            remedy: self.remedy,
            waited,
        }))
    }
}

/// Names the kernel lock independently of the path under which it is reached.
fn guard_name(host: &Host, kernel: &KernelLock) -> Result<String, StoreError> {
    let stamp = host
        .files
        .stat(kernel.path())
        .map_err(StoreError::io("look at", kernel.path()))?;
    Ok(stamp.map_or_else(String::new, |stamp| format!("{}:{}", stamp.device, stamp.inode)))
}

/// The content: OpenClaw's three keys, then ours.
fn lock_text(host: &Host, guard: &str) -> Vec<u8> {
    let this = host.processes.this();
    let content = json!({
        "pid": this.pid,
        "createdAt": iso(host.clock.now()),
        "starttime": this.start,
        "tokensink": env!("CARGO_PKG_VERSION"),
        "boot": this.boot,
        "guard": guard,
    });
    let mut bytes = serde_json::to_vec_pretty(&content).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Creates the lock with its content in one step, by linking a finished file to its name. `false` when the name is
/// taken.
fn link_whole(host: &Host, path: &Path, content: &[u8]) -> Result<bool, StoreError> {
    let mut number = [0; 8];
    host.random
        .fill(&mut number)
        .map_err(StoreError::io("find a name beside", path))?;
    let temporary = with_suffix(path, &format!(".{:016x}.tmp", u64::from_le_bytes(number)));
    let create = StoreError::io("create", &temporary);
    let mut handle = host.files.create_new(&temporary, FILE_MODE).map_err(create)?;
    // Without the sync a loss of power could leave the name without the content.
    let written = handle.write_at(0, content).and_then(|()| handle.sync());
    drop(handle);
    let linked = match written {
        Ok(()) => host.files.hard_link(&temporary, path),
        Err(error) => {
            let _ = host.files.remove(&temporary);
            return Err(StoreError::io("write", &temporary)(error));
        }
    };
    let _ = host.files.remove(&temporary);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Err(StoreError::NoLocks {
                path: path.to_owned(),
                why: format!("its file system has no hard links ({error})"),
            })
        }
        Err(error) => Err(StoreError::io("create", path)(error)),
    }
}

/// Judges what is at the lock's path.
fn look(host: &Host, path: &Path, kind: LockKind, guard: &str) -> Result<Found, StoreError> {
    let stamp = host.files.stat(path).map_err(StoreError::io("look at", path))?;
    let Some(stamp) = stamp else {
        // A link to nowhere occupies the name as well.
        let link = host
            .files
            .link_target(path)
            .map_err(StoreError::io("look at", path))?;
        return Ok(link.map_or(Found::Nothing, |_| Found::Held(torn(path, None))));
    };
    let modified = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(i64::MAX);
    let now = host.clock.now();
    let by_stamp = UnixMillis(modified).until(now);
    if stamp.is_dir {
        return look_at_directory(host, path, by_stamp);
    }
    let bytes = match host.files.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let Ok(map) = js::parse_object(&bytes) else {
        return Ok(Found::Held(torn(path, Some(by_stamp))));
    };
    let ours = map.contains_key("tokensink");
    if ours && map.get("guard").and_then(Value::as_str) == Some(guard) {
        return Ok(Found::Stale(bytes));
    }
    let created = js::text(&map, "createdAt").and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let age = created.map_or(by_stamp, |at| UnixMillis(at.as_millisecond()).until(now));
    Ok(judge(host, path, &map, age, kind).map_or(Found::Stale(bytes), Found::Held))
}

/// The rule of age C2: a pid decides by itself, and the age only where there is none. `None` means stale.
fn judge(
    host: &Host,
    path: &Path,
    map: &Map<String, Value>,
    age: Duration,
    kind: LockKind,
) -> Option<Holder> {
    let pid = map
        .get("pid")
        .and_then(js::count)
        .and_then(|pid| u32::try_from(pid).ok())
        .filter(|pid| *pid > 0);
    let liveness = match pid {
        Some(pid) => {
            let start = map.get("starttime").and_then(js::count).unwrap_or(0);
            let this = host.processes.this();
            // A lock of ours says in which boot and pid namespace the number counts.
            let boot = js::text(map, "boot").unwrap_or(this.boot);
            let process = ProcessId {
                host: this.host,
                boot,
                pid,
                start,
            };
            host.processes.liveness(&process)
        }
        None if age > kind.stale_after() => Liveness::Dead,
        None => Liveness::Unknown,
    };
    let is_invisible = pid.is_some() && liveness == Liveness::Unknown && age > kind.stale_after();
    (liveness != Liveness::Dead).then(|| Holder {
        pid,
        age: Some(age),
        liveness,
        remedy: is_invisible.then(|| format!("rm '{}'", path.display())),
    })
}

fn look_at_directory(host: &Host, path: &Path, age: Duration) -> Result<Found, StoreError> {
    let mut holder = Holder {
        pid: None,
        age: Some(age),
        liveness: Liveness::Unknown,
        remedy: None,
    };
    if age <= DIRECTORY_STALE {
        return Ok(Found::Held(holder));
    }
    let names = host.files.list(path).map_err(StoreError::io("list", path))?;
    if names.is_empty() {
        return Ok(Found::StaleDirectory);
    }
    holder.remedy = Some(format!("rm -r '{}'", path.display()));
    Ok(Found::Held(holder))
}

/// A lock without a readable holder: OpenClaw never reclaims it, and its maker may be about to write it.
fn torn(path: &Path, age: Option<Duration>) -> Holder {
    Holder {
        pid: None,
        age,
        liveness: Liveness::Unknown,
        remedy: Some(format!("rm '{}'", path.display())),
    }
}

/// Removes a stale lock, but not one that took its place meanwhile: the file is moved aside, compared, and put back
/// if it is another.
fn remove_stale(host: &Host, path: &Path, stale: &[u8]) -> Result<(), StoreError> {
    let mut number = [0; 8];
    host.random
        .fill(&mut number)
        .map_err(StoreError::io("find a name beside", path))?;
    let aside = with_suffix(path, &format!(".{:016x}.tmp", u64::from_le_bytes(number)));
    match host.files.rename(path, &aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => return remove_where_it_is(host, path, stale),
    }
    let moved = host.files.read(&aside).map_err(StoreError::io("read", &aside))?;
    if moved != stale {
        // Its holder is alive. If yet another one has the name by now, the two are among themselves, as without us.
        let _ = host.files.hard_link(&aside, path);
    }
    host.files
        .remove(&aside)
        .map_err(StoreError::io("remove the stale lock", &aside))
}

/// Where the system refuses renames, comparing just before is the best that can be done.
fn remove_where_it_is(host: &Host, path: &Path, stale: &[u8]) -> Result<(), StoreError> {
    let removed = match host.files.read(path) {
        Ok(bytes) if bytes == stale => host.files.remove(path),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(StoreError::io("remove the stale lock", path)),
    }
}

fn remove_directory(host: &Host, path: &Path) -> Result<(), StoreError> {
    match host.files.remove_dir(path) {
        // Gone, or in use again: the next look tells.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        result => result.map_err(StoreError::io("remove the stale lock", path)),
    }
}

/// The time as JavaScript writes it: always three digits of milliseconds.
fn iso(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| at.to_string(),
        |at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
    )
}

/// A file that both kinds of OpenClaw would find locked, for tests of other crates: the bytes of a foreign lock.
#[doc(hidden)]
#[must_use]
pub fn foreign_lock_text(pid: u32, start: u64, at: UnixMillis) -> Vec<u8> {
    let content = json!({"pid": pid, "createdAt": iso(at), "starttime": start});
    serde_json::to_vec_pretty(&content).unwrap_or_default()
}

/// Opens nothing, creates nothing: is somebody else holding the `.lock` at `path`? For status.
///
/// # Errors
/// As the system gives them.
pub fn is_held(host: &Host, path: &Path, kind: LockKind) -> Result<bool, StoreError> {
    Ok(matches!(look(host, path, kind, "")?, Found::Held(_)))
}

mod care;

pub use care::{Cleared, LockPlace, LockState, clear_lock, lock_state};

#[cfg(test)]
mod tests;
