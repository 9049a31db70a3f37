//! What can go wrong with the store, in words that say what, where, why and how to fix it.
//!
//! No message holds a secret or a part of a file's content.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokensink_host::Liveness;
use tokensink_host::atomic::ReplaceError;
use tokensink_host::lock::LockError;

use crate::json::ParseFailure;

/// Any failure of this crate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused an operation on a file.
    #[error("cannot {operation} {}: {source}. {}", path.display(), fix(source, path))]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not parse. Nothing was written.
    #[error(transparent)]
    Unreadable(#[from] Box<Unreadable>),
    /// Somebody else holds a lock.
    #[error(transparent)]
    Busy(#[from] Box<LockBusy>),
    /// `OPENCLAW_AUTH_STORE_READONLY=1` forbids the write.
    #[error(
        "{} was not written, because OPENCLAW_AUTH_STORE_READONLY is set; unset it and run the command again",
        path.display()
    )]
    ReadOnly {
        /// What would have been written.
        path: PathBuf,
    },
    /// Our kernel lock was not to be had.
    #[error(transparent)]
    Kernel(#[from] LockError),
    /// The file system has no hard links, so that a lock file cannot be created whole.
    #[error(
        "{} cannot be locked: {why}. Put the state directory on a local file system: OPENCLAW_STATE_DIR=/path",
        path.display()
    )]
    NoLocks {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// An edit of the config makes no sense for what the config holds.
    #[error("{}: {why}", path.display())]
    Edit {
        /// The config file.
        path: PathBuf,
        /// What was wrong, with the fix.
        why: String,
    },
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} cannot be read{}: {}. {fix}", path.display(), place(failure), failure.why)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Where and why.
    pub failure: ParseFailure,
    /// What to do about it.
    pub fix: String,
}

/// A lock that did not become free in time.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.sentence())]
pub struct LockBusy {
    /// The lock file.
    pub path: PathBuf,
    /// The holder's process id, where the lock names one.
    pub pid: Option<u32>,
    /// How long the lock has been there.
    pub age: Option<Duration>,
    /// What is known of the holder.
    pub liveness: Liveness,
    /// The command that removes a lock which nobody reclaims by itself: an empty or half-written file, or an old one
    /// whose holder cannot be seen from here.
    pub remedy: Option<String>,
    /// How long we waited.
    pub waited: Duration,
}

impl LockBusy {
    fn sentence(&self) -> String {
        let path = self.path.display();
        let waited = self.waited.as_secs();
        let age = self
            .age
            .map_or_else(String::new, |age| format!(" for {} s", age.as_secs()));
        if let Some(remedy) = &self.remedy {
            return format!(
                "{path} is a lock without a visible holder that has been there{age}; the program that made it may \
                 have died. If no other OpenClaw command is running, remove it: {remedy}"
            );
        }
        let holder = self
            .pid
            .map_or_else(|| "another program".to_owned(), |pid| format!("process {pid}"));
        let (state, advice) = match self.liveness {
            Liveness::Stopped => (
                ", which is stopped",
                self.pid.map_or_else(String::new, |pid| {
                    format!("Continue it with `kill -CONT {pid}` or end it, then try again")
                }),
            ),
            Liveness::Running | Liveness::Dead | Liveness::Unknown => {
                ("", "Try again in a moment".to_owned())
            }
        };
        format!("{path} is held by {holder}{state}{age}; waited {waited} s. {advice}")
    }
}

impl StoreError {
    /// Wraps what the system said.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    pub(crate) fn unreadable(path: &Path, failure: ParseFailure, fix: impl Into<String>) -> Self {
        Self::Unreadable(Box::new(Unreadable {
            path: path.to_owned(),
            failure,
            fix: fix.into(),
        }))
    }

    /// The command that mends it, or that shows what stands in the way; `None` where only waiting helps.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        match self {
            Self::Io { path, source, .. } => io_command(source.kind(), path),
            Self::Unreadable(unreadable) => {
                let place = match unreadable.failure.line {
                    0 => String::new(),
                    line => format!("+{line} "),
                };
                Some(format!("${{EDITOR:-vi}} {place}'{}'", unreadable.path.display()))
            }
            Self::Busy(busy) => busy.remedy.clone().or_else(|| match (busy.liveness, busy.pid) {
                (Liveness::Stopped, Some(pid)) => Some(format!("kill -CONT {pid}")),
                _ => None,
            }),
            Self::ReadOnly { .. } => Some("unset OPENCLAW_AUTH_STORE_READONLY".to_owned()),
            Self::NoLocks { .. } => Some("export OPENCLAW_STATE_DIR=/path/on/a/local/disk".to_owned()),
            Self::Kernel(_) | Self::Edit { .. } => None,
        }
    }

    /// True when trying again later may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Kernel(LockError::Busy { .. }))
    }

    /// Wraps a failed replacement of a file.
    pub(crate) fn replace(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Refused { path, doing, source } | ReplaceError::Failed { path, doing, source } => {
                Self::Io {
                    operation: "write",
                    path,
                    source: io::Error::new(source.kind(), format!("{doing}: {source}")),
                }
            }
            other => Self::Io {
                operation: "write",
                path: PathBuf::new(),
                source: other.into(),
            },
        }
    }
}

fn place(failure: &ParseFailure) -> String {
    if failure.line == 0 {
        String::new()
    } else {
        format!(" at line {}, column {}", failure.line, failure.column)
    }
}

/// The sentence that says what helps against an error of the system.
fn fix(error: &io::Error, path: &Path) -> String {
    let dir = path.parent().unwrap_or(path).display();
    let path = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!(
            "What was stored before is unchanged. Free some space (`df -h '{dir}'`) and run the command again"
        ),
        io::ErrorKind::ReadOnlyFilesystem => format!(
            "What was stored before is unchanged. Mount the file system of {dir} writable, or set OPENCLAW_STATE_DIR \
             to a writable directory"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "The file or its directory belongs to another user, often after a run with sudo. Give it back: \
             sudo chown -R \"$(id -un)\" '{dir}'"
        ),
        io::ErrorKind::NotFound => format!("{dir} is missing; create it: mkdir -p -m 700 '{dir}'"),
        io::ErrorKind::FileTooLarge => format!("{path} is far larger than any store; move it away"),
        _ => format!("What was stored before is unchanged. Check `ls -ld '{dir}' '{path}'`"),
    }
}

/// The command of [`fix`], alone.
fn io_command(kind: io::ErrorKind, path: &Path) -> Option<String> {
    let dir = path.parent().unwrap_or(path).display();
    let path = path.display();
    Some(match kind {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("df -h '{dir}'"),
        io::ErrorKind::ReadOnlyFilesystem => "export OPENCLAW_STATE_DIR=/a/writable/directory".to_owned(),
        io::ErrorKind::PermissionDenied => format!("sudo chown -R \"$(id -un)\" '{dir}'"),
        io::ErrorKind::NotFound => format!("mkdir -p -m 700 '{dir}'"),
        io::ErrorKind::FileTooLarge => format!("mv '{path}' '{path}.bad'"),
        _ => format!("ls -ld '{dir}' '{path}'"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_where_why_and_how() {
        let path = Path::new("/s/agents/main/agent/auth-profiles.json");
        let cases = [
            (io::ErrorKind::StorageFull, "df -h"),
            (io::ErrorKind::ReadOnlyFilesystem, "OPENCLAW_STATE_DIR"),
            (io::ErrorKind::PermissionDenied, "chown"),
            (io::ErrorKind::NotFound, "mkdir -p -m 700"),
        ];
        for (kind, fix) in cases {
            let text = StoreError::io("write", path)(kind.into()).to_string();
            assert!(text.contains("cannot write /s/agents/main"), "{text}");
            assert!(text.contains(fix), "{text}");
            let command = StoreError::io("write", path)(kind.into()).command().unwrap();
            assert!(command.contains(fix), "{command}");
        }
    }

    #[test]
    fn an_unreadable_file_is_opened_where_it_is_wrong() {
        let failure = |line| ParseFailure {
            line,
            column: 2,
            why: "no".to_owned(),
        };
        for (line, want) in [(3, "${EDITOR:-vi} +3 '/s/a b'"), (0, "${EDITOR:-vi} '/s/a b'")] {
            let error = StoreError::unreadable(Path::new("/s/a b"), failure(line), "Fix it");
            assert_eq!(error.command().as_deref(), Some(want));
        }
    }

    #[test]
    fn a_torn_lock_names_the_command() {
        let mut busy = LockBusy {
            path: "/s/a.lock".into(),
            pid: None,
            age: Some(Duration::from_secs(40)),
            liveness: Liveness::Unknown,
            remedy: Some("rm '/s/a.lock'".to_owned()),
            waited: Duration::from_secs(10),
        };
        assert!(busy.to_string().contains("rm '/s/a.lock'"), "{busy}");
        busy.remedy = None;
        busy.pid = Some(7);
        busy.liveness = Liveness::Stopped;
        let text = busy.to_string();
        assert!(
            text.contains("process 7, which is stopped for 40 s; waited 10 s"),
            "{text}"
        );
        assert!(text.contains("kill -CONT 7"), "{text}");
    }
}
