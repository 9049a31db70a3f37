//! File sources in memory; databases are tested with real files by the command's tests.

use serde_json::json;
use tokensink_testkit::Faults;

use super::*;
use crate::flights::Flights;
use crate::world::{World, agent, generation, id, key, oauth, spend};

const THERE: &str = "/home/user/.clawdbot";

/// A machine with an OpenClaw of age A, in its own directory.
fn old_world() -> World {
    let world = World::new();
    let store = json!({"version": 1, "profiles": {
        "rig:alice": with_note(oauth("rig", "alice")),
        "rig:key": key("rig"),
        "anthropic:claude-cli": oauth("anthropic", "claude"),
        "odd": 5,
    }, "order": {"rig": ["rig:key", "rig:alice", "rig:gone"]}});
    there(&world, "agents/main/agent/auth-profiles.json", &store.to_string());
    let work = json!({"version": 1, "profiles": {"rig:alice": oauth("rig", "alice"), "rig:bob": oauth("rig", "bob"), "mute:k": key("mute")}});
    there(&world, "agents/work/agent/auth-profiles.json", &work.to_string());
    there(
        &world,
        "agents/main/agent/auth.json",
        r#"{"mute":{"type":"api_key","key":"sk-canary"}}"#,
    );
    there(
        &world,
        "credentials/oauth.json",
        &json!({"mute": oauth("mute", "carol")}).to_string(),
    );
    there(
        &world,
        "clawdbot.json",
        "{ /* theirs */ auth: { order: { mute: ['mute:default'] }, \
        profiles: { 'rig:key': { provider: 'rig', mode: 'api_key', email: 'k@example.com' } } } }",
    );
    world
}

fn with_note(mut entry: serde_json::Value) -> serde_json::Value {
    entry["note"] = json!("kept");
    entry
}

fn there(world: &World, path: &str, text: &str) {
    world.test.files.put(Path::new(THERE).join(path), text, 0o600);
}

fn request() -> OpenClawImport {
    OpenClawImport {
        from: Some(THERE.into()),
        agent: None,
    }
}

fn words(plan: &ImportPlan) -> Vec<String> {
    let row = |row: &ImportRow| format!("{}/{} {}", row.agent, row.profile, row.action.word());
    plan.rows.iter().map(row).collect()
}

fn of_source(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let files = world.test.files.snapshot().into_iter();
    files.filter(|(path, _)| path.starts_with(THERE)).collect()
}

#[test]
fn an_old_state_dir_is_taken_over_whole() {
    let world = old_world();
    let before = of_source(&world);
    let sink = world.sink();
    let plan = sink.plan_openclaw_import(&request()).unwrap();
    let want = [
        "main/rig:alice new",
        "main/rig:key new",
        "main/mute:default new",
        "main/odd skipped",
        "main/anthropic:claude-cli skipped",
        "work/rig:alice linked",
        "work/rig:bob new",
        "work/mute:k new",
    ];
    assert_eq!(words(&plan), want);
    assert_eq!(world.stored("main"), json!(null), "a plan stores nothing");
    let report = sink.apply_import(&plan).unwrap();
    assert!(report.failed.is_empty() && report.notes.is_empty(), "{report:?}");
    assert_eq!(report.stored.len(), 5);
    assert_eq!(
        world.stored("main")["rig:alice"],
        with_note(oauth("rig", "alice"))
    );
    assert_eq!(world.stored("work")["rig:bob"], oauth("rig", "bob"));
    assert_eq!(world.stored("work")["rig:alice"], json!(null));
    assert_eq!(
        world.state("main")["order"],
        json!({"rig": ["rig:key", "rig:alice"]})
    );
    let config = world.json("openclaw.json");
    assert_eq!(config["auth"]["order"], json!({"mute": ["mute:default"]}));
    assert_eq!(config["auth"]["profiles"]["rig:key"]["email"], "k@example.com");
    let record = world.recorded("main", "rig:alice").unwrap();
    assert_eq!(record.generation.unwrap().spend_key(), Some(spend("alice")));
    assert_eq!(of_source(&world), before);
    assert!(!format!("{plan:?}{report:?}").contains("canary"));
    // Again: nothing is left to do.
    let again = world.sink().plan_openclaw_import(&request()).unwrap();
    assert!(!again.has_work(), "{:?}", words(&again));
}

#[test]
fn static_copies_of_mains_are_not_copied_again() {
    let world = World::new();
    let main = json!({"profiles": {"rig:k": key("rig"), "mute:k": key("mute")}});
    there(&world, "agents/main/agent/auth-profiles.json", &main.to_string());
    let mut mixed =
        json!({"profiles": {"rig:k": key("rig"), "mute:k": key("mute"), "mute:own": key("mute")}});
    mixed["profiles"]["mute:own"]["key"] = "sk-own".into();
    there(&world, "agents/work/agent/auth-profiles.json", &mixed.to_string());
    let plan = world.sink().plan_openclaw_import(&request()).unwrap();
    let rows: Vec<String> = words(&plan)
        .into_iter()
        .filter(|row| row.starts_with("work"))
        .collect();
    assert_eq!(
        rows,
        ["work/mute:k new", "work/mute:own new", "work/rig:k linked"]
    );
}

#[test]
fn what_is_here_stays() {
    let world = old_world();
    let mut ours = key("rig");
    ours["key"] = "sk-ours".into();
    world.store(
        "main",
        &json!({"rig:key": ours, "rig:alice": oauth("rig", "alice")}),
    );
    world.record("main", "rig:alice", generation("alice2", 90), |record| {
        record.push_ancestor(spend("alice"));
    });
    world.put(
        "agents/main/agent/auth-state.json",
        r#"{"version":1,"order":{"rig":["rig:alice"]}}"#,
    );
    let sink = world.sink();
    let plan = sink.plan_openclaw_import(&request()).unwrap();
    let rows = words(&plan);
    assert_eq!(
        rows[..2],
        ["main/rig:alice linked", "main/rig:key kept ours"],
        "{rows:?}"
    );
    sink.apply_import(&plan).unwrap();
    assert_eq!(world.stored("main")["rig:key"]["key"], "sk-ours");
    assert_eq!(world.state("main")["order"], json!({"rig": ["rig:alice"]}));
}

#[test]
fn one_agent_and_one_file() {
    let world = old_world();
    let only = OpenClawImport {
        agent: Some(agent("work")),
        ..request()
    };
    let plan = world.sink().plan_openclaw_import(&only).unwrap();
    assert_eq!(
        words(&plan),
        ["work/rig:alice new", "work/rig:bob new", "work/mute:k new"]
    );
    let archive = format!("{THERE}/agents/main/agent/auth-profiles.json.migrated-2026-08-01T00-00-00.000Z-0");
    world.test.files.put(
        &archive,
        json!({"profiles": {"rig:alice": oauth("rig", "alice")}}).to_string(),
        0o600,
    );
    let file = OpenClawImport {
        from: Some(archive.into()),
        agent: None,
    };
    let sink = world.sink();
    let plan = sink.plan_openclaw_import(&file).unwrap();
    assert_eq!(words(&plan), ["main/rig:alice new"]);
    sink.apply_import(&plan).unwrap();
    let record = world.recorded("main", "rig:alice").unwrap();
    let tokensink_types::record::RecordState::Sent(sent) = record.state else {
        panic!("its key may be spent: {:?}", record.state);
    };
    assert!(
        sent.holder
            .origin()
            .is_some_and(|origin| origin.contains("migrated")),
        "{sent:?}"
    );
}

#[test]
fn bad_sources_change_nothing() {
    let world = World::new();
    let cases = [
        ("agents/main/agent/auth-profiles.json", "{"),
        ("agents/work/agent/auth.json", "[]"),
    ];
    for (path, text) in cases {
        let world = old_world();
        there(&world, path, text);
        let error = world.sink().plan_openclaw_import(&request()).unwrap_err();
        assert!(error.to_string().contains(path), "{error}");
    }
    let error = world.sink().plan_openclaw_import(&request()).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Usage, "nothing_to_import")
    );
    let error = world
        .sink()
        .plan_openclaw_import(&OpenClawImport::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    // A config that does not parse costs its names and orders only.
    let world = old_world();
    there(&world, "clawdbot.json", "{ broken");
    let plan = world.sink().plan_openclaw_import(&request()).unwrap();
    assert!(plan.notes[0].contains("clawdbot.json"), "{:?}", plan.notes);
    assert_eq!(plan.orders.len(), 1);
}

/// A grant, a key and an order.
fn small_world() -> World {
    let world = World::new();
    let store = json!({"profiles": {"rig:alice": oauth("rig", "alice"), "rig:key": key("rig")},
        "order": {"rig": ["rig:key", "rig:alice"]}});
    there(&world, "agents/main/agent/auth-profiles.json", &store.to_string());
    world
}

fn import(sink: &Sink) -> Result<crate::ImportReport> {
    let plan = sink.plan_openclaw_import(&request())?;
    sink.apply_import(&plan)
}

#[test]
fn whatever_fails_or_crashes_a_second_run_finishes_and_the_source_stays() {
    type Make = fn(usize) -> Faults;
    let full: Make = |n| Faults::fail_at(n, tokensink_testkit::Errno::NOSPC);
    for make in [Faults::crash_before as Make, full] {
        for n in 1.. {
            let world = small_world();
            let before = of_source(&world);
            let faults = make(n).torn();
            let first = Sink::open_with(world.test.host_with(&faults), Flights::inline());
            let _ = first.and_then(|sink| import(&sink));
            let was = world.test.host().processes.this();
            world
                .test
                .processes
                .set_liveness(was, tokensink_host::Liveness::Dead);
            let next = World {
                test: world.test.other_process(5000),
            };
            let after = faults.last();
            let report =
                import(&next.sink_with_warnings()).unwrap_or_else(|error| panic!("{error} after {after}"));
            assert!(report.failed.is_empty(), "{report:?} after {after}");
            assert_eq!(
                next.stored("main")["rig:alice"],
                oauth("rig", "alice"),
                "after {after}"
            );
            assert_eq!(next.stored("main")["rig:key"], key("rig"), "after {after}");
            let order = json!({"rig": ["rig:key", "rig:alice"]});
            assert_eq!(next.state("main")["order"], order, "after {after}");
            assert!(next.recorded("main", "rig:alice").is_some(), "after {after}");
            assert_eq!(of_source(&next), before, "after {after}");
            if !faults.fired() {
                assert!(n > 100, "only {n} calls were tried");
                break;
            }
        }
    }
}

#[test]
fn ids_of_the_newest_age() {
    let provider = |text: &str| ProviderId::parse(text).unwrap();
    let found = |profile: &str, provider: &str, name: &str| Found {
        entry: tokensink_store::ForeignEntry::from_value(id(profile), oauth(provider, name)).unwrap(),
        place: "/db".into(),
    };
    let archive = [found("openai-codex:old", "openai-codex", "alice")];
    let cases = [
        ("openai:default", "openai", "alice", Some("openai-codex:old")),
        ("openai:default", "openai", "bob", Some("openai-codex:default")),
        (
            "openai:bob@example.com",
            "openai",
            "bob",
            Some("openai-codex:bob@example.com"),
        ),
        ("openai:taken", "openai", "bob", Some("openai-codex:taken-2")),
        ("anthropic:default", "anthropic", "alice", None),
    ];
    let taken = [id("openai-codex:taken")];
    for (profile, of, name, want) in cases {
        let got = former(&found(profile, of, name), &archive, &taken);
        assert_eq!(
            got,
            want.map(|want| (id(want), provider("openai-codex"))),
            "{profile} {name}"
        );
    }
    let renamed = [Renamed {
        was: id("openai:a"),
        now: id("openai-codex:a"),
        provider: provider("openai-codex"),
    }];
    let split = split_order(&provider("openai"), &[id("openai:key"), id("openai:a")], &renamed);
    assert_eq!(
        split,
        [
            (provider("openai"), vec![id("openai:key")]),
            (provider("openai-codex"), vec![id("openai-codex:a")])
        ]
    );
}
