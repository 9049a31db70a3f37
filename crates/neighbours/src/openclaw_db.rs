//! The databases of OpenClaw's newest age as a source of logins (spec.md 2.8; openclaw-live.md 3).
//!
//! A database is never opened where it lies: SQLite would create and change files beside it. Database, write-ahead
//! log and rollback journal are copied into a private directory of ours, so that what is only in the log counts too,
//! and the copy is opened and removed again. A copy that was made while the database changed is made anew. What the
//! rows hold is JSON in the shapes of the file store; it is parsed elsewhere. SQLite opens the copy itself, past the
//! file port, so this module works on real directories only.

pub mod fence;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use thiserror::Error;
use tokensink_host::{FileStamp, Files, Host, OpenMode};
use tokensink_types::Body;

/// What belongs to one database: itself, the write-ahead log, the rollback journal.
const PARTS: [&str; 3] = ["", "-wal", "-journal"];
/// How often a copy is made again because the database changed meanwhile.
const COPIES_MAX: u32 = 5;
/// The pause between two copies.
const COPY_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;

/// Which of the two databases it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// `state/openclaw.sqlite`: what belongs to all agents.
    Shared,
    /// `agents/<id>/agent/openclaw-agent.sqlite`: an agent's own.
    Agent,
}

impl Database {
    /// The query that finds the text under one of its keys, by table, column of the text and column of the key.
    fn table(self, what: What) -> [&'static str; 3] {
        match (self, what) {
            (Self::Shared, _) => ["config_machine_state", "value_json", "state_key"],
            (Self::Agent, What::State) => ["auth_profile_state", "state_json", "state_key"],
            (Self::Agent, _) => ["auth_profile_store", "store_json", "store_key"],
        }
    }

    fn key(self, what: What) -> &'static str {
        match (self, what) {
            (Self::Agent, _) => "primary",
            (Self::Shared, What::Store) => "authProfiles.store",
            (Self::Shared, What::State) => "authProfiles.state",
            (Self::Shared, What::Owner) => "auth.sharedStore",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum What {
    Store,
    State,
    Owner,
}

/// The rows that concern logins.
#[derive(Debug, Default)]
pub struct Rows {
    /// The credentials, in the shape of `auth-profiles.json`.
    pub store: Option<Body>,
    /// Order and statistics, in the shape of `auth-state.json`.
    pub state: Option<Body>,
    /// In the shared database: it is the store of the agent main. While this is false OpenClaw ignores what stands in
    /// [`Rows::store`] there and uses main's own database.
    pub is_main_store: bool,
}

/// Why a database could not be read. The source is untouched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenClawDbError {
    /// The system refused a file.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another program kept writing.
    #[error(
        "{} changed each time that it was copied; stop OpenClaw and run the command again",
        path.display()
    )]
    Restless {
        /// The database.
        path: PathBuf,
    },
    /// SQLite refused the copy.
    #[error("{} cannot be read as a database of OpenClaw: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// Reads the logins in a database; `None` when there is none. `scratch` is a directory of ours that no other process
/// uses; it is made with mode 0700 and removed again with all that is in it.
///
/// # Errors
/// [`OpenClawDbError`]. The copy is removed even then, as far as the system lets us.
pub fn read(
    host: &Host,
    database: &Path,
    which: Database,
    scratch: &Path,
) -> Result<Option<Rows>, OpenClawDbError> {
    let stat = host.files.stat(database).map_err(io_error("look at", database))?;
    if stat.is_none() {
        return Ok(None);
    }
    host.files
        .create_dir(scratch, 0o700)
        .map_err(io_error("create", scratch))?;
    let copy = Copied {
        files: &*host.files,
        dir: scratch,
    };
    let place = copy.of(host, database)?;
    rows(&place, which)
        .map(Some)
        .map_err(|source| OpenClawDbError::Sqlite {
            path: database.to_owned(),
            source,
        })
}

/// Removes what a crash left of [`read`] in `scratch`.
///
/// # Errors
/// As the system gives them.
pub fn clear(files: &dyn Files, scratch: &Path) -> io::Result<()> {
    let names = files.list(scratch)?;
    if names.is_empty() && files.stat(scratch)?.is_none() {
        return Ok(());
    }
    names
        .iter()
        .try_for_each(|name| files.remove(&scratch.join(name)))?;
    files.remove_dir(scratch)
}

/// The directory of a copy, removed on drop.
struct Copied<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
}

impl Drop for Copied<'_> {
    fn drop(&mut self) {
        if let Err(error) = clear(self.files, self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "the copy of a database could not be removed");
        }
    }
}

impl Copied<'_> {
    /// Copies all parts while none of them changes; returns the path of the copied database.
    fn of(&self, host: &Host, database: &Path) -> Result<PathBuf, OpenClawDbError> {
        for attempt in 0..COPIES_MAX {
            if attempt > 0 {
                host.clock.sleep(COPY_PAUSE);
            }
            let before = self.stamps(database)?;
            for (part, stamp) in PARTS.iter().zip(&before) {
                let to = self.dir.join(format!("copy.sqlite{part}"));
                remove_if_there(self.files, &to)?;
                if stamp.is_some() {
                    copy(self.files, &with_part(database, part), &to)?;
                }
            }
            if self.stamps(database)? == before {
                return Ok(self.dir.join("copy.sqlite"));
            }
        }
        Err(OpenClawDbError::Restless {
            path: database.to_owned(),
        })
    }

    fn stamps(&self, database: &Path) -> Result<Vec<Option<FileStamp>>, OpenClawDbError> {
        PARTS
            .iter()
            .map(|part| {
                let path = with_part(database, part);
                self.files.stat(&path).map_err(io_error("look at", &path))
            })
            .collect()
    }
}

fn with_part(database: &Path, part: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(part);
    PathBuf::from(name)
}

fn copy(files: &dyn Files, from: &Path, to: &Path) -> Result<(), OpenClawDbError> {
    let mut source = match files.open(from, OpenMode::Read) {
        Ok(source) => source,
        // A part that has just gone shows in the stamps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("open", from)(error)),
    };
    let mut target = files.create_new(to, 0o600).map_err(io_error("create", to))?;
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    loop {
        let count = source
            .read_at(offset, &mut buffer)
            .map_err(io_error("read", from))?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            tokensink_types::wipe(&mut buffer);
            return Ok(());
        };
        target.write_at(offset, bytes).map_err(io_error("write", to))?;
        offset += count as u64;
    }
}

fn remove_if_there(files: &dyn Files, path: &Path) -> Result<(), OpenClawDbError> {
    match files.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn rows(copy: &Path, which: Database) -> rusqlite::Result<Rows> {
    // Writable, because SQLite has to bring the log into the database; the copy is ours.
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let text = |what| row(&connection, which.table(what), which.key(what));
    let owner = match which {
        Database::Shared => text(What::Owner)?,
        Database::Agent => None,
    };
    Ok(Rows {
        store: text(What::Store)?,
        state: text(What::State)?,
        is_main_store: owner.is_some_and(|text| is_state_db(&text)),
    })
}

fn row(connection: &Connection, table: [&str; 3], key: &str) -> rusqlite::Result<Option<Body>> {
    let [table, value, key_column] = table;
    let known = connection
        .query_row(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1",
            [table],
            |_| Ok(()),
        )
        .optional()?;
    if known.is_none() {
        return Ok(None);
    }
    // The names are constants of this file.
    let query = format!("SELECT {value} FROM {table} WHERE {key_column} = ?1");
    connection
        .query_row(&query, [key], |row| row.get::<_, String>(0))
        .optional()
        .map(|text| text.map(|text| Body::new(text.into_bytes())))
}

/// `{"location": "state-db"}`: the shared database has taken over from main's own.
fn is_state_db(text: &Body) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(text.expose()).ok();
    value.is_some_and(|value| value["location"] == "state-db")
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenClawDbError {
    let path = path.to_owned();
    move |source| OpenClawDbError::Io {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the databases of these tests are real files"
)]
mod tests;
