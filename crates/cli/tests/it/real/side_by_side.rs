//! OpenClaw and we write the same files at the same time: locks exclude each other, nothing is lost, and what one does
//! not know survives the other as far as it can.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_authserver::{ServerConfig, fingerprint};
use tokensink_types::Secret;

use super::openclaw::OpenClaw;
use crate::support::crowd::{finish, start};
use crate::support::processes::wait_for_landing;
use crate::support::stage::{ONE_LIFE, Stage, add_profile, run_at, store_path, stored};
use crate::world::{API_KEY, Said, World};

/// How often OpenClaw sets an order while we write; one takes it about two seconds.
const ROUNDS: i64 = 15;

const ANTHROPIC: [&str; 2] = ["anthropic:one", "anthropic:two"];

fn order_of(world: &World, provider: &str) -> Value {
    let line = format!("tokensink models auth order get --provider {provider} --json");
    world.run(&line).code(0).json()["order"].take()
}

/// Its `order set`, which writes both files whole, against our orders, logins and refreshes.
#[test]
fn orders_logins_and_refreshes_at_once() {
    let stage = Stage::new(ServerConfig::default());
    let Some(openclaw) = OpenClaw::in_home(&stage.world) else {
        return;
    };
    stage.store(&stage.world, "main", "rig:alice", "alice", -1);
    for id in ANTHROPIC {
        let entry = json!({"type": "api_key", "provider": "anthropic", "key": format!("canary-{id}")});
        add_profile(&stage.world, "main", id, entry);
    }
    let mut refreshes = 0;
    for round in 1..=ROUNDS {
        let [first, second] = if round % 2 == 0 {
            ANTHROPIC
        } else {
            [ANTHROPIC[1], ANTHROPIC[0]]
        };
        let theirs = format!("models auth order set --provider anthropic {first} {second}");
        let mut theirs = openclaw.start(&mut openclaw.command(&theirs));
        let mut step = 0;
        // As much of ours as fits beside one of theirs.
        while theirs.try_wait().unwrap().is_none() {
            refreshes += 1;
            step += 1;
            run_at(
                &stage.world,
                "tokensink token --provider rig",
                refreshes * ONE_LIFE,
            )
            .code(0);
            let id = format!("openrouter:r{round}s{step}");
            let paste =
                format!("tokensink models auth paste-api-key --provider openrouter --profile-id {id}");
            stage.world.feed(&paste, API_KEY).code(0);
            let order = format!("tokensink models auth order set --provider openrouter {id}");
            stage.world.run(&order).code(0);
            assert_eq!(order_of(&stage.world, "openrouter"), json!([id]));
        }
        finish(theirs).code(0);
        assert!(step > 0);
        assert_eq!(
            order_of(&stage.world, "anthropic"),
            json!([first, second]),
            "round {round}"
        );
        for step in 1..=step {
            let id = format!("openrouter:r{round}s{step}");
            assert_eq!(stored(&stage.world, "main", &id)["key"], API_KEY, "{id}");
        }
    }
    let ledger = stage.assert_refreshes(u64::try_from(refreshes).unwrap());
    let kept = stored(&stage.world, "main", "rig:alice");
    let refresh = Secret::new(kept["refresh"].as_str().unwrap());
    assert_eq!(
        fingerprint(&refresh),
        ledger.families[0].current,
        "the newest token is in the store"
    );
}

/// A lock file as a live process of ours would leave it, with its own pid.
fn lock_of(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start: u64 = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(19)
        .unwrap()
        .parse()
        .unwrap();
    let lock = json!({
        "pid": pid, "createdAt": "2026-11-21T08:00:00.000Z", "starttime": start,
        "tokensink": "0.1.0", "boot": "b", "guard": "locks/x",
    });
    format!("{lock:#}\n")
}

fn lock_path(world: &World) -> std::path::PathBuf {
    store_path(world, "main").with_extension("json.lock")
}

/// OpenClaw waits while somebody alive holds the lock in our format, and takes a dead one's.
#[test]
fn openclaw_waits_for_our_lock_while_its_holder_lives() {
    let world = World::new();
    let Some(openclaw) = OpenClaw::in_home(&world) else {
        return;
    };
    world.store_key("openrouter");
    let set = "models auth order set --provider openrouter openrouter:manual";
    let lock = lock_path(&world);

    std::fs::write(&lock, lock_of(std::process::id())).unwrap();
    let mut theirs = openclaw.start(&mut openclaw.command(set));
    // It takes two seconds without the lock.
    std::thread::sleep(Duration::from_secs(5));
    assert!(theirs.try_wait().unwrap().is_none(), "it did not wait");
    assert_eq!(order_of(&world, "openrouter"), Value::Null);
    std::fs::remove_file(&lock).unwrap();
    finish(theirs).code(0);
    assert_eq!(order_of(&world, "openrouter"), json!(["openrouter:manual"]));

    let mut gone = std::process::Command::new("/bin/cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::fs::write(&lock, lock_of(gone.id())).unwrap();
    drop(gone.stdin.take());
    gone.wait().unwrap();
    openclaw
        .run("models auth order clear --provider openrouter")
        .code(0);
    assert_eq!(order_of(&world, "openrouter"), Value::Null);
    assert!(!lock.exists());
}

/// OpenClaw's own lock file, caught while it writes, keeps us waiting in the same way.
#[test]
fn we_wait_for_openclaws_lock_while_its_holder_lives() {
    let world = World::new();
    let Some(openclaw) = OpenClaw::in_home(&world) else {
        return;
    };
    world.store_key("openrouter");
    let lock = lock_path(&world);
    // What it writes into its lock file is read from the real thing: a directory in the place of its state file keeps
    // it from ending before we have looked.
    let theirs = catch_lock(&openclaw, &lock);
    let holder: Value = serde_json::from_str(&theirs).unwrap();
    for key in ["pid", "createdAt"] {
        assert!(!holder[key].is_null(), "{theirs}");
    }
    let with_pid = |pid: u32| {
        let mut lock = holder.clone();
        let ours: Value = serde_json::from_str(&lock_of(pid)).unwrap();
        lock["pid"] = ours["pid"].clone();
        if holder.get("starttime").is_some() {
            lock["starttime"] = ours["starttime"].clone();
        }
        format!("{lock:#}\n")
    };

    std::fs::write(&lock, with_pid(std::process::id())).unwrap();
    let set = "tokensink models auth order set --provider openrouter openrouter:manual";
    let mut ours = start(&world, set, &[]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(ours.try_wait().unwrap().is_none(), "we did not wait");
    std::fs::remove_file(&lock).unwrap();
    finish(ours).code(0);
    assert_eq!(order_of(&world, "openrouter"), json!(["openrouter:manual"]));
}

/// The text of a lock file that OpenClaw has made.
fn catch_lock(openclaw: &OpenClaw<'_>, lock: &Path) -> String {
    let set = "models auth order set --provider openrouter openrouter:manual";
    for _ in 0..5 {
        let mut theirs = openclaw.start(&mut openclaw.command(set));
        let mut text = String::new();
        while theirs.try_wait().unwrap().is_none() {
            match std::fs::read_to_string(lock) {
                Ok(found) if found.ends_with("}\n") => text = found,
                Ok(_) | Err(_) => {}
            }
        }
        finish(theirs).code(0);
        openclaw
            .run("models auth order clear --provider openrouter")
            .code(0);
        if !text.is_empty() {
            return text;
        }
    }
    panic!("OpenClaw's lock file was never seen");
}

/// A whole store that OpenClaw read before our refresh and saves after it, as it does without the lock at times.
#[test]
fn a_store_written_back_stale_is_healed() {
    let stage = Stage::new(ServerConfig::default());
    let Some(openclaw) = OpenClaw::in_home(&stage.world) else {
        return;
    };
    stage.store(&stage.world, "main", "rig:alice", "alice", -1);
    // A first refresh, and then OpenClaw's own rendering of the store.
    stage.world.run("tokensink token --provider rig").code(0);
    openclaw
        .run("models auth order set --provider rig rig:alice")
        .code(0);
    let path = store_path(&stage.world, "main");
    let stale = std::fs::read(&path).unwrap();
    let token = run_at(&stage.world, "tokensink token --provider rig", ONE_LIFE)
        .code(0)
        .out;
    let fresh = stored(&stage.world, "main", "rig:alice");

    std::fs::write(&path, &stale).unwrap();
    let again = run_at(&stage.world, "tokensink token --provider rig", ONE_LIFE)
        .code(0)
        .out;
    assert_eq!(again, token);
    wait_for_landing(&stage.world);
    let healed = stored(&stage.world, "main", "rig:alice");
    assert_eq!(healed, fresh);
    stage.assert_refreshes(2);
    let theirs = openclaw.json("models status --json");
    assert_eq!(
        theirs["auth"]["oauth"]["profiles"][0]["expiresAt"], healed["expires"],
        "{theirs:#}"
    );
}

/// A credential with every field that OpenClaw knows, and fields that nobody knows.
fn full_entries() -> Vec<(&'static str, Value)> {
    vec![
        (
            "openai-codex:full",
            json!({
                "type": "oauth", "provider": "openai-codex", "copyToAgents": false, "email": "full@example.com",
                "displayName": "Full", "access": "canary-access", "refresh": "canary-refresh", "idToken": "canary-id",
                "clientId": "app_x", "enterpriseUrl": "https://e.example", "projectId": "p", "accountId": "acct-full",
                "chatgptPlanType": "pro", "expires": 4_000_000_000_000.5_f64,
            }),
        ),
        (
            "openrouter:full",
            json!({
                "type": "api_key", "provider": "openrouter", "copyToAgents": true, "email": "k@example.com",
                "displayName": "Key", "key": "canary-key", "metadata": {"team": "blue", "region": "eu"},
            }),
        ),
        (
            "zai:full",
            json!({
                "type": "token", "provider": "zai", "copyToAgents": true, "email": "t@example.com", "displayName": "Token",
                "tokenRef": {"source": "env", "provider": "default", "id": "ZAI_TOKEN"}, "expires": 4_000_000_000_000_i64,
            }),
        ),
    ]
}

fn full_state() -> Value {
    json!({
        "version": 1,
        "order": {"zai": ["zai:full"]},
        "lastGood": {"zai": "zai:full"},
        "usageStats": {"zai:full": {
            "lastUsed": 1, "blockedUntil": 4_000_000_000_000_i64, "blockedReason": "subscription_limit",
            "blockedSource": "wham", "blockedModel": "m", "cooldownUntil": 4_000_000_000_000_i64,
            "cooldownReason": "rate_limit", "cooldownModel": "m", "disabledUntil": 5, "disabledReason": "billing",
            "errorCount": 3, "failureCounts": {"rate_limit": 3}, "lastFailureAt": 4,
        }},
    })
}

/// Everything that OpenClaw writes survives our writes; what nobody knows survives them too; and what OpenClaw keeps of
/// it is all that we need.
#[test]
fn what_one_does_not_know_survives_the_other() {
    let world = World::new();
    let Some(openclaw) = OpenClaw::in_home(&world) else {
        return;
    };
    let mut entries = full_entries();
    for (id, entry) in &entries {
        add_profile(&world, "main", id, entry.clone());
    }
    let state = full_state();
    world.write(".openclaw/agents/main/agent/auth-state.json", &state.to_string());
    let state_now = || -> Value {
        serde_json::from_str(
            &std::fs::read_to_string(world.state("agents/main/agent/auth-state.json")).unwrap(),
        )
        .unwrap()
    };
    let written_by_us = || {
        world.store_key("anthropic");
        world
            .run("tokensink models auth order set --provider anthropic anthropic:manual")
            .code(0);
    };
    let assert_kept = |entries: &[(&str, Value)]| {
        for (id, entry) in entries {
            assert_eq!(stored(&world, "main", id), *entry, "{id}");
        }
        for map in ["order", "lastGood", "usageStats"] {
            assert_eq!(state_now()[map]["zai"], state[map]["zai"], "{map}");
            assert_eq!(state_now()[map]["zai:full"], state[map]["zai:full"], "{map}");
        }
    };

    written_by_us();
    assert_kept(&entries);
    openclaw
        .run("models auth order set --provider openrouter openrouter:full")
        .code(0);
    written_by_us();
    assert_kept(&entries);

    // Keys of a later version, or of nobody: ours keep them at every level.
    for (id, entry) in &mut entries {
        entry["xFuture"] = json!({"a": [1, 2.5, null]});
        add_profile(&world, "main", id, entry.clone());
    }
    let mut raw: Value =
        serde_json::from_str(&std::fs::read_to_string(store_path(&world, "main")).unwrap()).unwrap();
    raw["xTop"] = json!("kept");
    std::fs::write(store_path(&world, "main"), raw.to_string()).unwrap();
    written_by_us();
    assert_kept(&entries);
    let raw: Value =
        serde_json::from_str(&std::fs::read_to_string(store_path(&world, "main")).unwrap()).unwrap();
    assert_eq!(raw["xTop"], "kept");
}

/// `openclaw.json`: OpenClaw writes it whole, we edit it in place.
#[test]
fn the_config_file_keeps_what_the_other_wrote() {
    let world = World::new();
    let Some(openclaw) = OpenClaw::in_home(&world) else {
        return;
    };
    world.write(
        ".openclaw/openclaw.json",
        "{\n  // a note of the user\n  agents: {list: [{id: 'main'}]},\n}\n",
    );
    world.store_key("openrouter");
    let text = std::fs::read_to_string(world.state("openclaw.json")).unwrap();
    assert!(text.contains("// a note of the user"), "{text}");
    let said: Said = openclaw
        .feed("models auth paste-api-key --provider anthropic", API_KEY)
        .code(0);
    let config: Value = world.run("tokensink models status --json").code(0).json();
    assert!(
        config["warnings"].as_array().unwrap().is_empty(),
        "{config:#} {said:#?}"
    );
    let text = std::fs::read_to_string(world.state("openclaw.json")).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        parsed["auth"]["profiles"],
        json!({
            "openrouter:manual": {"provider": "openrouter", "mode": "api_key"},
            "anthropic:manual": {"provider": "anthropic", "mode": "api_key"},
        }),
        "{text}"
    );
    assert_eq!(parsed["agents"]["list"][0]["id"], "main", "{text}");
}
