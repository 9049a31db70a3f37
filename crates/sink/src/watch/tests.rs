use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokensink_host::{Environment, Host};
use tokensink_testkit::MapEnvironment;
use tokensink_types::ProviderId;

use super::*;
use crate::world::{World, agent, id, key};

/// A look by hand, as the watch does it.
struct Looking {
    world: World,
    looker: Looker,
}

impl Looking {
    fn new(world: World) -> Self {
        let sink = world.sink_with_warnings();
        sink.watch_begins();
        let looker = Looker::new(sink);
        Self { world, looker }
    }

    fn sink(&self) -> Sink {
        self.looker.sink.current()
    }

    /// Looks until nothing is settling; returns whether the generation has moved.
    fn look(&mut self) -> bool {
        let before = self.sink().generation();
        while self.looker.look() {
            self.world.test.clock.advance(SETTLE);
        }
        self.sink().generation() > before
    }
}

#[test]
fn every_file_that_decides_is_seen_and_nothing_else_is() {
    let world = World::new();
    world.store("main", &json!({ "rig:key": key("rig") }));
    world.put("tokensink/config.toml", "");
    let mut looking = Looking::new(world);
    assert!(!looking.look(), "nothing has changed");
    let cases = [
        ("openclaw.json", "{ auth: {} }", true),
        ("tokensink/config.toml", "[network]\n", true),
        ("tokensink/providers/mute.toml", "", true),
        ("tokensink/providers/README", "words", true),
        (
            "agents/main/agent/auth-profiles.json",
            "{\"version\":1,\"profiles\":{}}",
            true,
        ),
        ("agents/main/agent/auth-state.json", "{}", true),
        (
            "agents/new/agent/auth-profiles.json",
            "{\"version\":1,\"profiles\":{}}",
            true,
        ),
        ("agents/main/sessions/sessions.json", "{}", true),
        ("tokensink/journal/0000", "x", true),
        ("tokensink/state/keys.json", "{}", true),
        ("tokensink/state/benches/main.json", "{}", true),
        ("tokensink/state/decisions/recent.jsonl", "{}", false),
        ("tokensink/audit.jsonl", "{}", false),
        ("tokensink/locks/x", "", false),
        ("logs/gateway.log", "words", false),
    ];
    for (path, text, matters) in cases {
        looking.world.put(path, text);
        assert_eq!(looking.look(), matters, "{path}");
        assert!(!looking.look(), "{path}: seen once");
    }
}

#[test]
fn a_half_saved_file_leaves_what_was_there_and_is_taken_when_it_is_whole() {
    let world = World::new();
    world.store("work", &json!({ "rig:b": key("rig") }));
    world.store("main", &json!({ "rig:a": key("rig"), "rig:z": key("rig") }));
    world.put("openclaw.json", "{ auth: { order: { rig: ['rig:z'] } } }");
    world.put(
        "tokensink/config.toml",
        "[profiles.\"rig:z\"]\nbilling = \"free\"\n",
    );
    let mut looking = Looking::new(world);
    let chosen = |sink: &Sink| {
        let request = crate::AcquireRequest::new(agent("main"), crate::Want::Provider("rig".into()));
        let lease = sink.acquire(&request).unwrap();
        (lease.profile.to_string(), lease.billing.as_str())
    };
    assert_eq!(chosen(&looking.sink()), ("rig:z".to_owned(), "free"));
    let halves = [
        ("openclaw.json", "{ auth: { order: { rig: ["),
        ("tokensink/config.toml", "[profiles.\"rig:z\"]\nbill"),
        ("tokensink/providers/rig.toml", "id = \"rig\"\nname ="),
    ];
    for (path, half) in halves {
        let whole = looking.world.text(path);
        looking.world.put(path, half);
        assert!(looking.look(), "{path}");
        let sink = looking.sink();
        assert_eq!(chosen(&sink), ("rig:z".to_owned(), "free"), "{path}");
        let told: Vec<_> = sink
            .warnings()
            .iter()
            .filter(|line| line.contains(path))
            .collect();
        assert_eq!(told.len(), 1, "{:?}", sink.warnings());
        assert!(told[0].contains("stay"), "{told:?}");
        looking.world.put(path, &whole);
        assert!(looking.look(), "{path}");
        assert_eq!(looking.sink().warnings(), [""; 0], "{path} is whole again");
    }
    looking
        .world
        .put("openclaw.json", "{ auth: { order: { rig: ['rig:a'] } } }");
    looking.world.put(
        "tokensink/config.toml",
        "[profiles.\"rig:a\"]\nbilling = \"prepaid\"\n",
    );
    assert!(looking.look());
    assert_eq!(chosen(&looking.sink()), ("rig:a".to_owned(), "prepaid"));
    // The sink from before is still of one piece, but what it hands out is of the newest view.
    assert_eq!(chosen(&looking.looker.sink), ("rig:a".to_owned(), "prepaid"));
}

#[test]
fn a_file_that_vanishes_for_a_moment_is_still_there() {
    let world = World::new();
    world.put("tokensink/config.toml", "[agents.work]\ninherit = false\n");
    let mut looking = Looking::new(world);
    let path = crate::world::at("tokensink/config.toml");
    looking.sink().host().files.remove(&path).unwrap();
    for _ in 0..2 {
        looking.look();
        assert!(!looking.sink().inherits(&agent("work")), "an editor is saving");
        looking.world.test.clock.advance(LOOK_EVERY);
    }
    looking.world.test.clock.advance(GONE_AFTER);
    assert!(looking.look());
    assert!(looking.sink().inherits(&agent("work")), "the user has removed it");
}

#[test]
fn agent_dirs_and_providers_change_without_a_restart() {
    let mut looking = Looking::new(World::new());
    let work = agent("work");
    let profiles = json!({"version": 1, "profiles": { "rig:moved": key("rig") }}).to_string();
    looking.world.put("elsewhere/auth-profiles.json", &profiles);
    assert_eq!(looking.sink().snapshot(&work).unwrap().view.profiles.len(), 0);
    let dir = crate::world::at("elsewhere");
    let config = json!({"agents": {"list": [{"id": "work", "agentDir": dir}]}}).to_string();
    looking.world.put("openclaw.json", &config);
    assert!(looking.look());
    assert!(
        looking
            .sink()
            .snapshot(&work)
            .unwrap()
            .profile(&id("rig:moved"))
            .is_some()
    );
    assert!(looking.looker.dirs().contains_key(&dir), "and it is watched");
    // A look between two writes within one step of the file system's clock must not be the last one.
    let new = looking
        .world
        .text("tokensink/providers/mute.toml")
        .replace("mute", "other")
        .replace("little", "less");
    looking.world.put("tokensink/providers/other.toml", &new);
    assert!(looking.look());
    assert!(
        looking
            .sink()
            .registry()
            .get(&ProviderId::parse("other").unwrap())
            .is_some()
    );
}

#[test]
fn a_watched_sink_looks_at_the_benches_alone_while_nothing_has_changed() {
    let world = World::new();
    world.store("main", &json!({ "rig:one": crate::world::oauth("rig", "one") }));
    let mut looking = Looking::new(world);
    let request = crate::AcquireRequest::new(agent("main"), crate::Want::Provider("rig".into()));
    let faults = tokensink_testkit::Faults::none();
    let sink = Sink::open_with(looking.world.test.host_with(&faults), crate::Flights::inline()).unwrap();
    sink.watch_begins();
    looking.world.test.clock.advance(Duration::from_secs(5));
    for _ in 0..3 {
        sink.acquire(&request).unwrap();
    }
    let before = faults.trace().len();
    sink.acquire(&request).unwrap();
    let looked: Vec<_> = faults.trace()[before..].to_vec();
    let one = looked.len() == 1 && looked[0].ends_with("stat main.json");
    assert!(one, "all else is served from memory: {looked:?}");
    let turns = sink.turns();
    let looks = || {
        let before = faults.trace().len();
        sink.acquire(&request).unwrap();
        faults.trace().len() - before
    };
    assert_eq!([looks(), looks(), looks()], [1, 0, 0], "once in a turn");
    turns.next();
    assert_eq!([looks(), looks()], [1, 0]);
    drop(turns);
    assert_eq!([looks(), looks()], [1, 1]);
    sink.watch_ends();
    sink.acquire(&request).unwrap();
    assert!(
        faults.trace().len() > before,
        "and by its files when nobody watches"
    );
    assert!(!looking.look());
}

/// The real file system in a directory of its own.
fn real(dir: &Path) -> Host {
    let env = MapEnvironment::of([("OPENCLAW_STATE_DIR", dir.to_str().unwrap())]);
    env.set_home(Some(dir.to_owned()));
    let env: Arc<dyn Environment> = Arc::new(env);
    Host { env, ..Host::real() }
}

/// Longer than it takes, because the machine of the tests may be busy.
const SEEN_WITHIN: Duration = Duration::from_secs(8);

/// Waits until the generation is above `seen`; how long that took.
fn seen_after(sink: &Sink, seen: u64) -> Duration {
    let clock = &sink.host().clock;
    let begun = clock.monotonic();
    assert!(sink.wait_for_change(seen, Duration::from_secs(10)), "never seen");
    clock.monotonic().saturating_sub(begun)
}

/// Whether the agent is soon known. A file's birth may be told before what is written into it, or before its renaming,
/// so one change may be seen as two.
fn known_soon(sink: &Sink, name: &str) -> bool {
    let known = || sink.current().agent(Some(name)).is_ok();
    for _ in 0..10 {
        let seen = sink.generation();
        if known() {
            return true;
        }
        let _ = sink.wait_for_change(seen, Duration::from_secs(1));
    }
    known()
}

#[test]
fn real_files_are_seen_at_once_whatever_way_they_are_saved() {
    let dir = tempfile::tempdir().unwrap();
    let host = real(dir.path());
    let sink = Sink::open(host.clone()).unwrap();
    let state = dir.path();
    let files = &*host.files;
    for path in ["tokensink", "agents", "agents/main", "agents/main/agent"] {
        files.create_dir(&state.join(path), 0o700).unwrap();
    }
    let watch = sink.watch().unwrap();
    let quiet = || {
        // Whatever is still settling.
        while sink.wait_for_change(sink.generation(), SETTLE * 4) {}
        sink.generation()
    };
    let write = |path: &Path, text: &str| {
        let mut file = files.create_new(path, 0o600).unwrap();
        file.write_at(0, text.as_bytes()).unwrap();
    };
    let config = state.join("openclaw.json");
    let seen = quiet();
    write(&config, "{ agents: { list: [{ id: 'one' }] } }");
    assert!(seen_after(&sink, seen) < SEEN_WITHIN);
    assert!(known_soon(&sink, "one"));
    assert!(sink.agent(Some("one")).is_err(), "a sink is of one piece");
    // Replaced, so that it is another inode: a watch on the file would have ended.
    for name in ["two", "three"] {
        let seen = quiet();
        let fresh = state.join("fresh");
        write(&fresh, &format!("{{ agents: {{ list: [{{ id: '{name}' }}] }} }}"));
        files.rename(&fresh, &config).unwrap();
        assert!(seen_after(&sink, seen) < SEEN_WITHIN);
        assert!(known_soon(&sink, name), "{name}");
    }
    let seen = quiet();
    write(
        &state.join("agents/main/agent/auth-profiles.json"),
        "{\"version\":1,\"profiles\":{}}",
    );
    assert!(seen_after(&sink, seen) < SEEN_WITHIN);
    drop(watch);
    assert!(!sink.is_watched());
}

#[test]
fn where_the_system_tells_nothing_files_are_looked_at() {
    // Files in memory tell of no changes.
    let world = World::new();
    let sink = world.sink();
    let watch = sink.watch().unwrap();
    let seen = sink.generation();
    world.put("openclaw.json", "{ agents: { list: [{ id: 'one' }] } }");
    assert!(seen_after(&sink, seen) < Duration::from_secs(2));
    assert!(known_soon(&sink, "one"));
    drop(watch);
}

/// What this process has found out itself, or is told by a claim, counts before a watch tells of it.
#[test]
fn a_bench_and_a_claim_count_at_once() {
    use crate::{AcquireRequest, CallOutcome, Want};

    let world = World::new();
    world.store("main", &json!({ "rig:a": key("rig"), "rig:b": key("rig") }));
    world.put(
        "openclaw.json",
        r#"{"auth": {"order": {"rig": ["rig:a", "rig:b"]}}}"#,
    );
    let other = world.sink_with_warnings();
    let looking = Looking::new(world);
    let sink = looking.sink();
    let request = AcquireRequest {
        model: Some("m".to_owned()),
        wait: Duration::ZERO,
        ..AcquireRequest::new(agent("main"), Want::Provider("rig".to_owned()))
    };
    let served = |sink: &Sink| sink.acquire(&request).unwrap().profile.clone();
    assert_eq!(served(&sink), id("rig:a"));
    let lease = sink.acquire(&request).unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("retry-after", "36000".parse().unwrap());
    let limited = CallOutcome::Failed {
        status: Some(429),
        headers: &headers,
        body: b"",
    };
    sink.report(&lease, &limited).unwrap();
    assert_eq!(
        sink.acquire_ready(&request).unwrap().unwrap().profile,
        id("rig:b")
    );
    // Its half-open point: the other process tests, and this one has not heard of it.
    looking.world.test.clock.advance(Duration::from_secs(300));
    assert!(other.acquire(&request).unwrap().tests);
    assert_eq!(served(&sink), id("rig:b"));
}
