//! What can go wrong while a neighbour's store is written, in words that say what, where, why and how to fix it.
//!
//! No message holds a secret or a part of a file's content.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokensink_host::atomic::ReplaceError;

/// Why a neighbour's store was not locked or not written. What was there before is still there, except where
/// [`NeighbourError::Write`] says otherwise.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NeighbourError {
    /// The program holds a lock of its own, so it is probably refreshing right now.
    #[error(
        "{title} holds {} (touched {} s ago); waited {:.1} s. It is probably refreshing: try again",
        path.display(), age.as_secs(), waited.as_secs_f64()
    )]
    Busy {
        /// Whose lock it is.
        title: &'static str,
        /// The lock.
        path: PathBuf,
        /// How long ago the holder said that it lives; zero where such a lock does not tell.
        age: Duration,
        /// How long we waited.
        waited: Duration,
    },
    /// Something that is no lock of the program stands where its lock belongs.
    #[error("{} is in the way of the program's lock: {why}", path.display())]
    Blocked {
        /// The path of the lock.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The login may not be written.
    #[error("{place} may only be read: {reason}")]
    OnlyBorrowed {
        /// The place.
        place: String,
        /// Why.
        reason: String,
    },
    /// The content cannot be edited.
    #[error("{place} cannot be edited: {why}")]
    Edit {
        /// The place.
        place: String,
        /// What was wrong.
        why: String,
    },
    /// The system refused an operation.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was not written; after a failed write in place it may be torn.
    #[error(transparent)]
    Write(#[from] ReplaceError),
}

impl NeighbourError {
    /// True when the program itself is in the way and it helps to wait.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// The command that fixes it, where one does.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        match self {
            Self::Blocked { path, .. } => Some(format!("rm -r '{}'", path.display())),
            Self::Io { path, source, .. } => system(path, source),
            Self::Write(ReplaceError::Refused { path, source, .. }) => system(path, source),
            Self::Write(ReplaceError::Failed { path, source, .. }) => system(path, source),
            Self::Write(_) | Self::Busy { .. } | Self::OnlyBorrowed { .. } | Self::Edit { .. } => None,
        }
    }

    /// Attaches operation and path to an error of the system.
    pub(crate) fn io<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}

fn system(path: &Path, error: &io::Error) -> Option<String> {
    let dir = path.parent().unwrap_or(path).display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(format!("df -h '{dir}'")),
        io::ErrorKind::PermissionDenied => Some(format!("ls -ld '{dir}' '{}'", path.display())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_where_and_why() {
        let busy = NeighbourError::Busy {
            title: "Claude Code",
            path: "/h/.claude/.oauth_refresh.lock".into(),
            age: Duration::from_secs(3),
            waited: Duration::from_millis(7500),
        };
        assert!(busy.is_busy());
        assert_eq!(
            busy.to_string(),
            "Claude Code holds /h/.claude/.oauth_refresh.lock (touched 3 s ago); waited 7.5 s. It is probably \
             refreshing: try again"
        );
        let full = NeighbourError::io("create", Path::new("/h/a.lock"))(io::ErrorKind::StorageFull.into());
        assert_eq!(full.command().as_deref(), Some("df -h '/h'"));
        let blocked = NeighbourError::Blocked {
            path: "/h/a.lock".into(),
            why: "it is a file",
        };
        assert_eq!(blocked.command().as_deref(), Some("rm -r '/h/a.lock'"));
    }
}
