//! The claim on a place: of all state dirs of a user, one at most refreshes a login in another program's store.
//!
//! A claim is a file that names the state dir, outside of every state dir: `tokensink/claims/<hash>` under
//! `XDG_STATE_HOME`, else under `~/.local/state`. It is taken over when the state dir that it names is gone or says no
//! longer that it refreshes the place. It keeps honest installations apart; the program's own locks do the rest.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokensink_host::lock::{KernelLock, LockError, Wait};
use tokensink_host::{Host, atomic};

use super::modes::{ExternalMode, Modes};
use crate::block::quoted;

/// How long another process may hold the claims; it needs milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A claim that cannot be read or written.
#[derive(Debug, Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub(crate) struct ClaimError {
    doing: &'static str,
    path: PathBuf,
    /// Where all claims are.
    dir: PathBuf,
    source: io::Error,
}

impl ClaimError {
    /// The command that mends it, or that shows what stands in the way; `None` where only waiting helps.
    pub(crate) fn command(&self) -> Option<String> {
        let word = |path: &Path| quoted(&path.to_string_lossy());
        let (dir, path) = (word(&self.dir), word(&self.path));
        match self.source.kind() {
            io::ErrorKind::WouldBlock => None,
            // Often after a run with sudo.
            io::ErrorKind::PermissionDenied => Some(format!(
                "sudo chown -R \"$(id -un)\" {dir} && chmod -R u+rwX {dir}"
            )),
            _ => Some(format!("ls -ld {dir} {path}")),
        }
    }
}

type Result<T> = std::result::Result<T, ClaimError>;

/// The claims of this user.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    host: Host,
    /// `None` where neither variable nor home says where they are; then nobody can be kept apart.
    dir: Option<PathBuf>,
    state_dir: PathBuf,
}

impl Claims {
    /// The claims as seen from the state dir `state_dir`.
    pub(crate) fn new(host: &Host, state_dir: &Path) -> Self {
        let set = host.env.var("XDG_STATE_HOME").map(PathBuf::from);
        let base = set
            .filter(|dir| dir.is_absolute())
            .or_else(|| Some(host.env.home()?.join(".local").join("state")));
        Self {
            host: host.clone(),
            dir: base.map(|base| base.join("tokensink").join("claims")),
            state_dir: tokensink_store::real_path(&*host.files, state_dir)
                .unwrap_or_else(|_| state_dir.to_owned()),
        }
    }

    /// The other state dir that refreshes the place `key` now, if there is one.
    ///
    /// # Errors
    /// When the claim is there and cannot be read.
    pub(crate) fn other(&self, key: &str) -> Result<Option<PathBuf>> {
        let Some(path) = self.path(key) else {
            return Ok(None);
        };
        let bytes = match self.host.files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read the claim", &path)(error)),
        };
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let named = value.get("stateDir").and_then(Value::as_str).map(PathBuf::from);
        Ok(named.filter(|dir| *dir != self.state_dir && self.still_refreshes(dir, key)))
    }

    /// Takes the claim; `Some` names the state dir that has it and keeps it.
    ///
    /// # Errors
    /// When the claim cannot be read or written.
    pub(crate) fn take(&self, key: &str) -> Result<Option<PathBuf>> {
        let (Some(dir), Some(path)) = (&self.dir, self.path(key)) else {
            return Ok(None);
        };
        atomic::ensure_dir(&*self.host.files, dir, 0o700).map_err(self.failed("create", dir))?;
        let _lock = self.lock(dir)?;
        if let Some(other) = self.other(key)? {
            return Ok(Some(other));
        }
        let claim = json!({"stateDir": self.state_dir.to_string_lossy(), "place": key});
        let text = format!("{claim}\n");
        atomic::replace(
            &*self.host.files,
            &*self.host.random,
            &path,
            text.as_bytes(),
            0o600,
        )
        .map_err(|error| self.failed("write the claim", &path)(error.into()))?;
        Ok(None)
    }

    /// Gives the claim up, if it is ours.
    ///
    /// # Errors
    /// When it cannot be removed. Since the state dir no longer says that it refreshes the place, nobody is hindered.
    pub(crate) fn release(&self, key: &str) -> Result<()> {
        let (Some(dir), Some(path)) = (&self.dir, self.path(key)) else {
            return Ok(());
        };
        let stamp = self.host.files.stat(&path);
        if stamp.map_err(self.failed("look at the claim", &path))?.is_none() {
            return Ok(());
        }
        let _lock = self.lock(dir)?;
        let bytes = self.host.files.read(&path);
        let bytes = bytes.map_err(self.failed("read the claim", &path))?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let ours = value.get("stateDir").and_then(Value::as_str) == Some(&*self.state_dir.to_string_lossy());
        if ours {
            let removed = self.host.files.remove(&path);
            removed.map_err(self.failed("remove the claim", &path))?;
        }
        Ok(())
    }

    fn still_refreshes(&self, state_dir: &Path, key: &str) -> bool {
        let path = state_dir.join("tokensink").join("state").join("external.json");
        match Modes::load(&self.host, &path) {
            Ok((modes, _)) => modes
                .entries(&self.host)
                .iter()
                .any(|entry| entry.key == key && entry.mode == ExternalMode::Cooperative),
            // Unreadable is not gone: whoever repairs it goes on refreshing.
            Err(_) => true,
        }
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        let name = hex::encode(Sha256::digest(key.as_bytes()));
        Some(self.dir.as_ref()?.join(name))
    }

    fn lock(&self, dir: &Path) -> Result<KernelLock> {
        let wait = Wait { deadline: LOCK_WAIT };
        let path = dir.join("lock");
        KernelLock::acquire(&self.host, &path, wait).map_err(|error| {
            let kind = match &error {
                LockError::Busy { .. } => io::ErrorKind::WouldBlock,
                LockError::Io { source, .. } => source.kind(),
                _ => io::ErrorKind::Other,
            };
            self.failed("lock", &path)(io::Error::new(kind, error))
        })
    }

    /// Wraps what the system said.
    fn failed(&self, doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClaimError {
        let path = path.to_owned();
        let dir = self.dir.clone().unwrap_or_default();
        move |source| ClaimError {
            doing,
            path,
            dir,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokensink_neighbours::{Neighbour, Place};
    use tokensink_testkit::{Errno, TestHost};
    use tokensink_types::UnixMillis;

    use super::*;
    use crate::external::modes::Entry;

    const KEY: &str = "/home/user/.claude/.credentials.json";

    fn choose(test: &TestHost, state_dir: &str, mode: ExternalMode) {
        let mut modes = Modes::default();
        let entry = Entry {
            key: KEY.to_owned(),
            place: Place::file(&test.host(), Neighbour::ClaudeCode, Path::new(KEY)),
            mode,
            profile: Neighbour::ClaudeCode.profile_id().unwrap(),
            moving: None,
        };
        modes.set(&entry, UnixMillis(1));
        let path = format!("{state_dir}/tokensink/state/external.json");
        test.files.put(path, modes.to_bytes(), 0o600);
    }

    #[test]
    fn one_state_dir_has_a_place_until_it_gives_it_up_or_is_gone() {
        let test = TestHost::new();
        let (one, two) = (Path::new("/one"), Path::new("/two"));
        let claims = |dir| Claims::new(&test.host(), dir);
        choose(&test, "/one", ExternalMode::Cooperative);
        assert_eq!(claims(one).take(KEY).unwrap(), None);
        assert_eq!(claims(one).take(KEY).unwrap(), None, "twice is once");
        assert_eq!(claims(two).take(KEY).unwrap().as_deref(), Some(one));
        assert_eq!(claims(one).other(KEY).unwrap(), None);
        claims(two).release(KEY).unwrap();
        assert_eq!(
            claims(two).other(KEY).unwrap().as_deref(),
            Some(one),
            "not ours to release"
        );

        choose(&test, "/one", ExternalMode::Borrowed);
        assert_eq!(claims(two).take(KEY).unwrap(), None, "it refreshes no longer");
        choose(&test, "/one", ExternalMode::Cooperative);
        choose(&test, "/two", ExternalMode::Cooperative);
        assert_eq!(claims(one).take(KEY).unwrap().as_deref(), Some(two));
        let path = Path::new("/two/tokensink/state/external.json");
        test.host().files.remove(path).unwrap();
        assert_eq!(claims(one).take(KEY).unwrap(), None, "the state dir is gone");
        claims(one).release(KEY).unwrap();
        assert!(
            test.files
                .snapshot()
                .keys()
                .all(|path| !path.starts_with("/home/user/.local/state/tokensink/claims/a"))
        );
    }

    #[test]
    fn a_state_dir_that_cannot_be_read_keeps_its_claim_and_a_torn_claim_binds_nobody() {
        let test = TestHost::new();
        choose(&test, "/one", ExternalMode::Cooperative);
        Claims::new(&test.host(), Path::new("/one")).take(KEY).unwrap();
        test.files.put("/one/tokensink/state/external.json", "{", 0o600);
        let two = Claims::new(&test.host(), Path::new("/two"));
        assert_eq!(two.take(KEY).unwrap().as_deref(), Some(Path::new("/one")));
        let claim = two.path(KEY).unwrap();
        test.files.put(claim, "{\"sta", 0o600);
        assert_eq!(two.take(KEY).unwrap(), None);
    }

    #[test]
    fn a_claim_that_cannot_be_read_is_named_with_what_helps() {
        let test = TestHost::new();
        choose(&test, "/one", ExternalMode::Cooperative);
        Claims::new(&test.host(), Path::new("/one")).take(KEY).unwrap();
        let two = Claims::new(&test.host(), Path::new("/two"));
        let (claim, dir) = (two.path(KEY).unwrap(), two.dir.clone().unwrap());
        let (claim, dir) = (claim.to_str().unwrap(), dir.to_str().unwrap());
        let lock = format!("{dir}/lock");
        let cases = [
            (claim, Errno::ACCESS, "sudo chown -R \"$(id -un)\" "),
            (claim, Errno::IO, "ls -ld "),
            (&*lock, Errno::ACCESS, "sudo chown -R \"$(id -un)\" "),
        ];
        for (path, errno, fix) in cases {
            test.files.set_fault(path, Some(errno));
            let mut errors = vec![two.take(KEY).unwrap_err()];
            if path == claim {
                errors.push(two.other(KEY).unwrap_err());
            }
            for error in errors {
                let text = error.to_string();
                assert!(text.contains(path), "{text}");
                let command = error.command().unwrap();
                assert!(command.starts_with(&format!("{fix}{dir}")), "{command}");
            }
            test.files.set_fault(path, None);
        }
        assert_eq!(two.take(KEY).unwrap().as_deref(), Some(Path::new("/one")));
        // Somebody else is at it: nothing but waiting helps.
        let _held = KernelLock::try_acquire(&test.other_process(4000).host(), Path::new(&lock)).unwrap();
        let error = two.take(KEY).unwrap_err();
        assert!(error.to_string().contains(&lock), "{error}");
        assert_eq!(error.command(), None);
    }

    #[test]
    fn the_variable_says_where_claims_are() {
        let test = TestHost::new();
        test.env.set("XDG_STATE_HOME", "/xdg");
        choose(&test, "/one", ExternalMode::Cooperative);
        Claims::new(&test.host(), Path::new("/one")).take(KEY).unwrap();
        let found = test.files.snapshot();
        assert!(found.keys().any(|path| path.starts_with("/xdg/tokensink/claims")));
        test.env.unset("XDG_STATE_HOME");
        test.env.set_home(None);
        assert_eq!(
            Claims::new(&test.host(), Path::new("/two")).take(KEY).unwrap(),
            None
        );
    }
}
