//! What a source holds, before anything is decided.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokensink_host::Host;
use tokensink_store::{ConfigProfile, ForeignEntry, ParseFailure};
use tokensink_types::{AgentId, Body, ProfileId, ProviderId};

use super::Incoming;
use super::report::{ImportAction, ImportRow};
use crate::error::{ErrorKind, Result, SinkError};

/// How often a file that does not parse is read again before that is believed; older programs write in place.
const READS_MAX: u32 = 3;
/// Pause between these reads.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// Everything that a source offers.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Where, in words.
    pub(crate) from: String,
    /// What can be decided on.
    pub(crate) incoming: Vec<Incoming>,
    /// What cannot be taken over whatever is here.
    pub(crate) skipped: Vec<ImportRow>,
    /// Orders by agent; `None` for the config's.
    pub(crate) orders: Vec<(Option<AgentId>, ProviderId, Vec<ProfileId>)>,
    /// `auth.profiles` of its config.
    pub(crate) config: Vec<ConfigProfile>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    /// It may hold copies of what programs of this host hold: those programs' stores are looked at.
    pub(crate) may_copy_programs: bool,
}

/// What the config of the source says of a profile.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigEntry {
    /// `email`.
    pub(crate) email: Option<String>,
}

/// An entry with the place where it was read.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) entry: ForeignEntry,
    pub(crate) place: PathBuf,
}

impl Found {
    /// The row of an entry that cannot be taken over.
    pub(crate) fn skipped(&self, agent: &AgentId, why: impl Into<String>, fix: Option<String>) -> ImportRow {
        let credential = self.entry.credential();
        ImportRow {
            agent: agent.clone(),
            profile: self.entry.id().as_str().to_owned(),
            was: None,
            provider: Some(credential.provider().clone()),
            kind: Some(credential.kind()),
            place: self.place.clone(),
            action: ImportAction::Skipped { why: why.into(), fix },
        }
    }
}

/// Reads a file and parses it; `None` when it is missing. A file of an older program may be caught half-written.
///
/// # Errors
/// When it cannot be read, or does not parse each time that it is looked at.
pub(crate) fn read_file<T>(
    host: &Host,
    path: &Path,
    parse: impl Fn(&[u8]) -> std::result::Result<T, ParseFailure>,
) -> Result<Option<T>> {
    let mut reads = 1;
    loop {
        let bytes = match host.files.read(path) {
            Ok(bytes) => Body::new(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let message = format!("{} cannot be read: {error}", path.display());
                return Err(SinkError::new(ErrorKind::Failed, "source_unreadable", message));
            }
        };
        match parse(bytes.expose()) {
            Ok(value) => return Ok(Some(value)),
            Err(failure) if reads == READS_MAX => return Err(unreadable(path, &failure)),
            Err(_) => {
                reads += 1;
                host.clock.sleep(READ_PAUSE);
            }
        }
    }
}

/// A file, or rows of a database, that do not parse.
pub(crate) fn unreadable(path: &Path, failure: &ParseFailure) -> SinkError {
    let place = if failure.line == 0 {
        String::new()
    } else {
        format!(" at line {} column {}", failure.line, failure.column)
    };
    let message = format!("{} does not parse{place}: {}", path.display(), failure.why);
    SinkError::new(ErrorKind::Failed, "source_unreadable", message)
        .with_fix("correct it by hand, or import what is beside it with --agent <id>")
}
