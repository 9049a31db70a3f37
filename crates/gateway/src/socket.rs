//! The Unix socket `tokensink/run/gateway.sock`: the same requests without a key, for processes of the same user.
//!
//! The directory is closed to others (0700) and so is the socket (0600); the kernel says whose process is at the other
//! end. One gateway of a state dir serves it at a time: whoever holds the kernel lock beside it. A gateway that was
//! killed holds nothing, so what it left behind is replaced by the next one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokensink_host::lock::{KernelLock, LockError};
use tokensink_host::{Host, atomic};
use tokensink_sink::{ErrorKind, Result, Sink, SinkError};
use tokensink_types::ProcessId;

/// The socket's name in `tokensink/run/`.
const NAME: &str = "gateway.sock";
/// Longest path of a Unix socket in bytes, the terminating zero included (unix(7); macOS has 104).
const PATH_MAX: usize = if cfg!(target_os = "linux") { 108 } else { 104 };

/// A process at the other end of the socket.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its user.
    pub user: u32,
    /// Its pid, where the system tells.
    pub pid: Option<u32>,
    /// Which process that is, where the system tells.
    pub process: Option<ProcessId>,
    /// Readable when it has ended, where the system has such descriptors.
    pub(crate) end: Option<Arc<OwnedFd>>,
}

impl Peer {
    /// The process that the kernel named for a connection.
    #[must_use]
    pub fn new(host: &Host, user: u32, pid: Option<u32>) -> Self {
        // In this order: should the pid be given to another process in between, the descriptor of the first tells.
        let end = pid.and_then(|pid| host.processes.end_of(pid).ok().flatten());
        Self {
            user,
            pid,
            process: pid.and_then(|pid| host.processes.identify(pid)),
            end: end.map(Arc::new),
        }
    }

    /// The process behind a connection.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn of(host: &Host, stream: &tokio::net::UnixStream) -> io::Result<Self> {
        let cred = stream.peer_cred()?;
        let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok());
        Ok(Self::new(host, cred.uid(), pid))
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        (self.user, self.pid, &self.process) == (other.user, other.pid, &other.process)
    }
}

impl Eq for Peer {}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.user, self.pid).hash(state);
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}"),
            None => write!(f, "a process of user {}", self.user),
        }
    }
}

/// The socket, while this gateway serves it. Taken away when it is dropped.
#[derive(Debug)]
pub struct LocalSocket {
    host: Host,
    path: PathBuf,
    listener: Option<UnixListener>,
    /// Shared with nobody; the cell makes the whole fit for sharing.
    _lock: Mutex<KernelLock>,
}

impl LocalSocket {
    /// Listens on the socket of this state dir; `None` when another gateway does.
    ///
    /// # Errors
    /// When the path is too long for a socket, or the system refuses.
    pub fn open(sink: &Sink) -> Result<Option<Self>> {
        let (host, dir) = (sink.host(), sink.run_dir());
        let path = dir.join(NAME);
        if path.as_os_str().len() + SUFFIX_MAX >= PATH_MAX {
            let message = format!("{} is too long for the path of a Unix socket", path.display());
            return Err(SinkError::new(ErrorKind::Failed, "socket_path", message)
                .with_fix("tokensink serve --no-socket  # or a state dir with a shorter path"));
        }
        let failed = |doing: &str, error: &dyn fmt::Display| {
            let message = format!("{} cannot be served: {doing}: {error}", path.display());
            SinkError::new(ErrorKind::Failed, "socket", message).with_fix("tokensink serve --no-socket")
        };
        atomic::ensure_dir(&*host.files, &dir, 0o700)
            .and_then(|()| host.files.set_mode(&dir, 0o700))
            .map_err(|error| failed("its directory", &error))?;
        let lock = match KernelLock::try_acquire(host, &dir.join(format!("{NAME}.lock"))) {
            Ok(lock) => lock,
            Err(LockError::Busy { .. }) => return Ok(None),
            Err(error) => return Err(failed("its lock", &error)),
        };
        let listener = listen(host, &path).map_err(|error| failed("listening", &error))?;
        Ok(Some(Self {
            host: host.clone(),
            path,
            listener: Some(listener),
            _lock: Mutex::new(lock),
        }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket for an event loop; `None` when it was taken already. Whoever has it ends the listening by dropping
    /// it.
    pub fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        // The lock is still ours, so this is our socket and not a successor's.
        if let Err(error) = self.host.files.remove(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

/// Room for the ending of the name under which the socket is made.
const SUFFIX_MAX: usize = 4;

/// Makes the socket under another name first and moves it over what a gateway before us left, so that there is no
/// moment without one and none in which others may connect.
fn listen(host: &Host, path: &Path) -> io::Result<UnixListener> {
    let fresh = path.with_extension("new");
    match host.files.remove(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    host.files.set_mode(&fresh, 0o600)?;
    listener.set_nonblocking(true)?;
    host.files.rename(&fresh, path)?;
    Ok(listener)
}
