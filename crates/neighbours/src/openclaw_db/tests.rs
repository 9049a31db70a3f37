//! Real database files with the tables of a running OpenClaw (openclaw-live.md 3).

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;
use tokensink_host::Host;

use super::*;

const SHARED: &str = "CREATE TABLE config_machine_state(state_key TEXT PRIMARY KEY, value_json TEXT NOT NULL, \
                      updated_at_ms INTEGER NOT NULL) STRICT";
const AGENT: &str = "CREATE TABLE auth_profile_store(store_key TEXT PRIMARY KEY, store_json TEXT NOT NULL, \
                     updated_at INTEGER NOT NULL) STRICT; \
                     CREATE TABLE auth_profile_state(state_key TEXT PRIMARY KEY, state_json TEXT NOT NULL, \
                     updated_at INTEGER NOT NULL) STRICT";

struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("source/openclaw.sqlite")
    }

    fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    /// A database in WAL mode whose rows are in the log alone as long as the connection is open.
    fn open(&self, schema: &str) -> Connection {
        fs::create_dir_all(self.database().parent().unwrap()).unwrap();
        let connection = Connection::open(self.database()).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0")
            .unwrap();
        connection.execute_batch(schema).unwrap();
        connection
    }

    fn read(&self, which: Database) -> Result<Option<Rows>, OpenClawDbError> {
        let rows = read(&Host::real(), &self.database(), which, &self.scratch());
        assert!(!self.scratch().exists(), "the copy is removed");
        rows
    }

    fn source(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(self.dir.path().join("source"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }
}

fn text(body: Option<&Body>) -> &str {
    body.map_or("", |body| std::str::from_utf8(body.expose()).unwrap())
}

fn put(connection: &Connection, key: &str, json: &str) {
    connection
        .execute("INSERT INTO config_machine_state VALUES (?1, ?2, 1)", [key, json])
        .unwrap();
}

#[test]
fn rows_that_are_only_in_the_log_count_and_the_source_stays_as_it_is() {
    let world = World::new();
    let connection = world.open(SHARED);
    put(
        &connection,
        "authProfiles.store",
        r#"{"version":1,"profiles":{}}"#,
    );
    put(&connection, "authProfiles.state", r#"{"version":1}"#);
    let before = world.source();
    assert!(
        before
            .iter()
            .any(|(path, bytes)| path.ends_with("openclaw.sqlite-wal") && !bytes.is_empty())
    );
    let rows = world.read(Database::Shared).unwrap().unwrap();
    assert_eq!(text(rows.store.as_ref()), r#"{"version":1,"profiles":{}}"#);
    assert_eq!(text(rows.state.as_ref()), r#"{"version":1}"#);
    assert!(
        !rows.is_main_store,
        "nothing says that the shared database is the store"
    );
    assert_eq!(world.source(), before);
    put(&connection, "auth.sharedStore", r#"{"location":"state-db"}"#);
    assert!(world.read(Database::Shared).unwrap().unwrap().is_main_store);
    drop(connection);
    assert!(
        world.read(Database::Shared).unwrap().unwrap().store.is_some(),
        "closed: no log"
    );
}

#[test]
fn an_agents_own_rows() {
    let world = World::new();
    let connection = world.open(AGENT);
    let insert = "INSERT INTO auth_profile_store VALUES ('primary', '{\"a\":1}', 1)";
    connection.execute(insert, []).unwrap();
    let rows = world.read(Database::Agent).unwrap().unwrap();
    assert_eq!(text(rows.store.as_ref()), "{\"a\":1}");
    assert!(rows.state.is_none());
}

#[test]
fn what_is_no_such_database() {
    let world = World::new();
    assert!(world.read(Database::Agent).unwrap().is_none(), "missing");
    drop(world.open("CREATE TABLE other(a)"));
    let rows = world.read(Database::Agent).unwrap().unwrap();
    assert!(
        rows.store.is_none(),
        "a database without the tables has no logins"
    );
    fs::write(world.database(), vec![7; 8192]).unwrap();
    let error = world.read(Database::Agent).unwrap_err();
    assert!(error.to_string().contains("openclaw.sqlite"), "{error}");
}

#[test]
fn a_copy_that_a_crash_left_is_removed() {
    let world = World::new();
    let clear = |dir: &Path| clear(&*Host::real().files, dir);
    clear(&world.scratch()).unwrap();
    fs::create_dir(world.scratch()).unwrap();
    fs::write(world.scratch().join("copy.sqlite"), "x").unwrap();
    clear(&world.scratch()).unwrap();
    assert!(!world.scratch().exists());
}
