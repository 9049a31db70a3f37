//! The audit trail: one JSON line per change or denial in `tokensink/audit.jsonl`, each bound to the one before by
//! its hash, without secrets. Leases are counted, not logged.
//!
//! The trail is a help, not a gate: a line that cannot be written is reported to the log and changes nothing else,
//! because losing a login to a full audit file would be worse.

mod read;
mod report;

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokensink_host::lock::{KernelLock, Wait};
use tokensink_host::{Host, OpenMode};
use tokensink_types::{AgentId, ProfileId};

pub use report::{AuditCheck, AuditFault, AuditLine, AuditList};

/// Longest wait for another process that writes a line, in milliseconds.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_millis(500);

/// How much of the file's end is read to find the last line, in bytes.
const TAIL_MAX: u64 = 16 * 1024;

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event<'a> {
    /// What happened, for example `login`, `refresh`, `logout`.
    pub(crate) what: &'static str,
    /// Whose store.
    pub(crate) agent: &'a AgentId,
    /// Which profile.
    pub(crate) profile: &'a ProfileId,
    /// Further words, without secrets.
    pub(crate) detail: String,
}

/// One event of a client of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct ClientEvent<'a> {
    /// What happened, for example `key_add`.
    pub(crate) what: &'static str,
    /// The agent as which the client calls.
    pub(crate) agent: &'a AgentId,
    /// The client's name.
    pub(crate) client: &'a str,
    /// Further words, without secrets.
    pub(crate) detail: String,
}

/// What a line says besides when, by whom and after what.
pub(crate) trait Entry {
    /// Its fields, in their order.
    fn fields(&self) -> Vec<(&'static str, &str)>;
}

impl Entry for Event<'_> {
    fn fields(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("event", self.what),
            ("agent", self.agent.as_str()),
            ("profile", self.profile.as_str()),
            ("detail", &self.detail),
        ]
    }
}

impl Entry for ClientEvent<'_> {
    fn fields(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("event", self.what),
            ("agent", self.agent.as_str()),
            ("client", self.client),
            ("detail", &self.detail),
        ]
    }
}

/// Appends `event`.
pub(crate) fn append(host: &Host, path: &Path, lock: &Path, event: &dyn Entry) {
    if let Err(error) = try_append(host, path, lock, event) {
        tracing::warn!(path = %path.display(), %error, "the audit line could not be written");
    }
}

fn try_append(host: &Host, path: &Path, lock: &Path, event: &dyn Entry) -> io::Result<()> {
    let _lock = KernelLock::acquire(host, lock, Wait { deadline: LOCK_WAIT }).map_err(io::Error::other)?;
    if host.files.stat(path)?.is_none() {
        match host.files.create_new(path, 0o600) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let mut file = host.files.open(path, OpenMode::ReadWrite)?;
    let size = file.stamp()?.size;
    let start = size.saturating_sub(TAIL_MAX);
    let mut tail = vec![0; usize::try_from(size - start).unwrap_or(0)];
    let read = file.read_at(start, &mut tail)?;
    tail.truncate(read);
    // By its bytes: a line that was cut off within a character is hashed as it stands in the file.
    let closed = tail.strip_suffix(b"\n");
    let previous = closed.unwrap_or(&tail).rsplit(|byte| *byte == b'\n').next();
    let line = line(event, host, previous.unwrap_or_default());
    // A torn last line stays as it is and is closed by our newline; the chain names it by its hash all the same.
    let separator = if size == 0 || closed.is_some() { "" } else { "\n" };
    file.write_at(size, format!("{separator}{line}\n").as_bytes())
}

fn line(event: &dyn Entry, host: &Host, previous: &[u8]) -> String {
    let mut map = Map::new();
    map.insert("at".into(), json!(host.clock.now().0));
    for (name, text) in event.fields() {
        if !text.is_empty() {
            map.insert(name.into(), json!(text));
        }
    }
    map.insert("pid".into(), json!(host.processes.this().pid));
    map.insert("previous".into(), json!(hex::encode(Sha256::digest(previous))));
    Value::Object(map).to_string()
}
