//! `import openclaw` on real directories: files and databases as OpenClaw leaves them (openclaw-live.md 3).

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::world::World;

/// The tables of the databases as a running OpenClaw makes them.
const SHARED: &str = "PRAGMA user_version = 18; CREATE TABLE config_machine_state(state_key TEXT PRIMARY KEY, \
                      value_json TEXT NOT NULL, updated_at_ms INTEGER NOT NULL) STRICT";
const AGENT: &str = "PRAGMA user_version = 23; \
    CREATE TABLE schema_meta(role TEXT, agent_id TEXT); \
    CREATE TABLE auth_profile_store(store_key TEXT PRIMARY KEY, store_json TEXT NOT NULL, updated_at INTEGER NOT NULL) STRICT; \
    CREATE TABLE auth_profile_state(state_key TEXT PRIMARY KEY, state_json TEXT NOT NULL, updated_at INTEGER NOT NULL) STRICT";

/// Far enough away.
const EXPIRES: i64 = 4_102_444_800_000;

fn grant(provider: &str, name: &str) -> Value {
    json!({
        "type": "oauth", "provider": provider, "access": format!("access-{name}-canary"),
        "refresh": format!("refresh-{name}-canary"), "expires": EXPIRES,
        "email": format!("{name}@example.com"), "accountId": format!("account-{name}"),
    })
}

/// What the JSON files held before the newest age took them over.
fn ancestor() -> Value {
    json!({
        "openai-codex:default": grant("openai-codex", "alice"),
        "openai-codex:work": grant("openai-codex", "bob"),
        "openai:default": {"type": "api_key", "provider": "openai", "key": "sk-openai-canary"},
        "anthropic:manual": {"type": "token", "provider": "anthropic", "token": "sk-ant-oat01-canary", "expires": EXPIRES},
        "openrouter:default": {"type": "api_key", "provider": "openrouter", "key": "sk-or-canary", "later": {"a": 1}},
    })
}

/// A database whose newest rows stand in its write-ahead log, as long as the connection lives.
fn database(path: &Path, schema: &str) -> Connection {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0")
        .unwrap();
    connection.execute_batch(schema).unwrap();
    connection
}

fn shared(world: &World, profiles: &Value, order: &Value) -> Connection {
    let connection = database(&world.path("newest/state/openclaw.sqlite"), SHARED);
    let rows = [
        ("authProfiles.store", json!({"version": 1, "profiles": profiles})),
        ("authProfiles.state", json!({"version": 1, "order": order})),
        ("auth.sharedStore", json!({"location": "state-db"})),
    ];
    for (key, value) in rows {
        connection
            .execute(
                "INSERT INTO config_machine_state VALUES (?1, ?2, 1)",
                [key, &value.to_string()],
            )
            .unwrap();
    }
    connection
}

fn own(world: &World, agent: &str, profiles: &Value) -> Connection {
    let path = world.path(&format!("newest/agents/{agent}/agent/openclaw-agent.sqlite"));
    let connection = database(&path, AGENT);
    let text = json!({"version": 1, "profiles": profiles}).to_string();
    connection
        .execute("INSERT INTO auth_profile_store VALUES ('primary', ?1, 1)", [text])
        .unwrap();
    connection
}

fn archive(world: &World, profiles: &Value) -> PathBuf {
    let name = "auth-profiles.json.migrated-2026-09-06T10-00-00.000Z-5c1d";
    let text = json!({"version": 1, "profiles": profiles}).to_string();
    world.write(&format!("newest/agents/main/agent/{name}"), &text)
}

/// Every file of the source with its bytes and what `stat` says of it.
fn source(world: &World) -> Vec<(PathBuf, Vec<u8>, std::time::SystemTime)> {
    let mut found = Vec::new();
    let mut dirs = vec![world.path("newest")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let modified = fs::metadata(&path).unwrap().modified().unwrap();
                found.push((path.clone(), fs::read(&path).unwrap(), modified));
            }
        }
    }
    found.sort();
    found
}

fn stored(world: &World, agent: &str) -> Value {
    let path = world.state(&format!("agents/{agent}/agent/auth-profiles.json"));
    let text = fs::read_to_string(path).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str::<Value>(&text).unwrap()["profiles"].clone()
}

fn renamed(mut entry: Value) -> Value {
    entry["provider"] = "openai".into();
    entry
}

#[test]
fn a_store_of_the_newest_age_becomes_what_its_json_ancestor_had() {
    let world = World::new();
    let before = ancestor();
    // Doctor has moved the ChatGPT logins to ids that were free.
    let mut now = before.clone();
    now["openai:default-2"] = renamed(before["openai-codex:default"].clone());
    now["openai:work"] = renamed(before["openai-codex:work"].clone());
    for gone in ["openai-codex:default", "openai-codex:work"] {
        now.as_object_mut().unwrap().remove(gone);
    }
    let _open = shared(
        &world,
        &now,
        &json!({"openai": ["openai:work", "openai:default", "openai:default-2"]}),
    );
    let _work = own(
        &world,
        "work",
        &json!({"zai:manual": {"type": "api_key", "provider": "zai", "key": "sk-zai-canary"}}),
    );
    archive(&world, &before);
    let files = source(&world);
    let line = "tokensink import openclaw --from newest";
    let refused = world.run(line).code(2);
    assert!(refused.err.contains("--yes"), "{refused:#?}");
    let plan = world.run(&format!("{line} --dry-run --json")).code(0);
    assert_eq!(plan.json()["done"], false);
    assert!(!world.state("agents").exists(), "a plan stores nothing");
    let said = world.run(&format!("{line} --yes")).code(0);
    assert_eq!(stored(&world, "main"), before);
    assert_eq!(stored(&world, "work")["zai:manual"]["key"], "sk-zai-canary");
    let order = world
        .run("tokensink models auth order get --provider openai-codex --json")
        .code(0);
    assert_eq!(
        order.json()["order"],
        json!(["openai-codex:work", "openai-codex:default"])
    );
    assert_eq!(source(&world), files);
    let text = format!("{plan:?}{said:?}{refused:?}");
    assert!(!text.contains("canary"), "{text}");
    assert!(!world.state("tokensink/run/import").exists());
    let again = world.run(&format!("{line} --yes")).code(0);
    assert!(again.err.contains("nothing to import"), "{again:#?}");
}

#[test]
fn without_an_archive_the_ids_follow_from_the_provider() {
    let world = World::new();
    let now = json!({"openai:default": renamed(grant("openai-codex", "alice"))});
    drop(shared(&world, &now, &json!({})));
    world.run("tokensink import openclaw --from newest --yes").code(0);
    assert_eq!(
        stored(&world, "main"),
        json!({"openai-codex:default": grant("openai-codex", "alice")})
    );
}

#[test]
fn a_fenced_grant_is_not_taken_and_its_archive_is_named() {
    let world = World::new();
    let digest = |kind: &str, secret: &str| {
        let text = format!(
            r#"["openclaw.oauth-refresh-generation",1,"openai:default","openai","{kind}","{secret}"]"#
        );
        hex(&Sha256::digest(text.as_bytes()))
    };
    let mark = |kind: &str, secret: &str| {
        format!(
            "openclaw-oauth-refresh-fence:v1:0123456789abcdef0123456789abcdef:failed:{kind}:{}",
            digest(kind, secret)
        )
    };
    let mut fenced = renamed(grant("openai-codex", "alice"));
    fenced["access"] = mark("access", "access-alice-canary").into();
    fenced["refresh"] = mark("refresh", "refresh-alice-canary").into();
    fenced["expires"] = 1.into();
    drop(shared(&world, &json!({"openai:default": fenced}), &json!({})));
    let file = archive(
        &world,
        &json!({"openai-codex:default": grant("openai-codex", "alice")}),
    );
    let said = world
        .run("tokensink import openclaw --from newest --yes --json")
        .code(0);
    let row = &said.json()["rows"][0];
    assert_eq!(row["action"], "skipped", "{row}");
    assert!(
        row["why"].as_str().unwrap().contains("may be spent or not"),
        "{row}"
    );
    assert!(!world.state("agents/main/agent/auth-profiles.json").exists());
    let fix = row["fix"].as_str().unwrap();
    assert!(fix.ends_with(file.to_str().unwrap()), "{fix}");
    world.run(&format!("{fix} --yes")).code(0);
    assert_eq!(
        stored(&world, "main")["openai-codex:default"],
        grant("openai-codex", "alice")
    );
    let said = world.run("tokensink token --provider openai-codex").code(0);
    assert_eq!(said.out.trim(), "access-alice-canary");
}

#[test]
fn a_shared_database_that_is_not_the_store_is_left_out() {
    let world = World::new();
    let connection = shared(
        &world,
        &json!({"zai:a": {"type": "api_key", "provider": "zai", "key": "sk-a"}}),
        &json!({}),
    );
    connection
        .execute(
            "DELETE FROM config_machine_state WHERE state_key = 'auth.sharedStore'",
            [],
        )
        .unwrap();
    let _own = own(
        &world,
        "main",
        &json!({"zai:b": {"type": "api_key", "provider": "zai", "key": "sk-b"}}),
    );
    let said = world
        .run("tokensink import openclaw --from newest --yes --json")
        .code(0)
        .json();
    assert_eq!(said["stored"], json!([{"agentId": "main", "profileId": "zai:b"}]));
    assert!(
        said["notes"][0].as_str().unwrap().contains("not marked"),
        "{said}"
    );
}

#[test]
fn a_file_that_is_no_database() {
    let world = World::new();
    world.write(
        "newest/state/openclaw.sqlite",
        "this is no database, however long the text in it may be",
    );
    let said = world.run("tokensink import openclaw --from newest --yes").code(1);
    assert!(said.err.contains("openclaw.sqlite"), "{said:#?}");
    let said = world.run("tokensink import openclaw --from nowhere").code(2);
    assert!(said.err.contains("nowhere"), "{said:#?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
