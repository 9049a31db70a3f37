use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokensink_testkit::Errno;

use crate::error::ErrorKind;
use crate::report::{AgentAdd, AgentInfo};
use crate::world::{World, agent, at, key};

const CONFIG: &str = r#"{
  // who is there
  agents: {
    defaults: { workspace: '~/ws' },
    list: [
      { id: 'main' }, // me
      { id: 'Work', name: 'Work!', workspace: '~/work', model: { primary: 'rig/tiny' } },
    ],
  },
  bindings: [
    { agentId: 'work', match: { channel: 'a' } }, // first
    { agentId: 'other', match: { channel: 'b' } }, // second
    { agentId: 'WORK', match: { channel: 'c' } },
  ],
}
"#;

fn add(name: &str) -> AgentAdd {
    AgentAdd {
        name: name.to_owned(),
        workspace: None,
        agent_dir: None,
        model: None,
        bindings: Vec::new(),
    }
}

fn ids(agents: &[AgentInfo]) -> Vec<&str> {
    agents.iter().map(|agent| agent.id.as_str()).collect()
}

#[test]
fn agents_of_the_config_come_first_then_those_on_disk() {
    let world = World::new();
    assert_eq!(ids(&world.sink().agents().unwrap()), ["main"]);
    world.put("openclaw.json", CONFIG);
    world.put("tokensink/config.toml", "[agents.disk]\ninherit = false\n");
    world.store("disk", &json!({"rig:a": key("rig")}));
    world.store("work", &json!({}));
    let agents = world.sink().agents().unwrap();
    assert_eq!(ids(&agents), ["main", "work", "disk"]);
    let (main, work, disk) = (&agents[0], &agents[1], &agents[2]);
    assert_eq!(
        (main.is_default, &main.workspace),
        (true, &PathBuf::from("/home/user/ws"))
    );
    assert_eq!(
        (work.is_default, work.name.as_deref(), work.bindings),
        (false, Some("Work!"), 2)
    );
    assert_eq!(
        (&work.workspace, work.model.as_deref()),
        (&PathBuf::from("/home/user/work"), Some("rig/tiny"))
    );
    assert_eq!((&work.agent_dir, work.inherits), (&at("agents/work/agent"), true));
    assert_eq!(
        (&disk.workspace, disk.inherits, disk.bindings),
        (&at("agents/disk/workspace"), false, 0)
    );
}

#[test]
fn an_added_agent_has_an_entry_and_directories() {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    let sink = world.sink();
    let request = AgentAdd {
        agent_dir: Some("logins".into()),
        model: Some("tiny".to_owned()),
        workspace: Some("~/elsewhere".into()),
        ..add(" My Agent ")
    };
    let added = sink.agent_add(&request).unwrap().agent;
    assert_eq!(
        (added.id.as_str(), added.name.as_deref()),
        ("my-agent", Some("My Agent"))
    );
    assert_eq!(
        (&added.workspace, &added.agent_dir),
        (
            &PathBuf::from("/home/user/elsewhere"),
            &PathBuf::from("/work/logins")
        )
    );
    assert_eq!(added.model.as_deref(), Some("rig/rig-small"));
    let plain = sink.agent_add(&add("plain")).unwrap().agent;
    assert_eq!(
        (&plain.workspace, &plain.agent_dir),
        (&at("agents/plain/workspace"), &at("agents/plain/agent"))
    );
    for dir in [
        &added.workspace,
        &added.agent_dir,
        &plain.workspace,
        &plain.agent_dir,
        &at("agents/plain"),
    ] {
        assert_eq!(world.test.files.mode(dir), Some(0o700), "{}", dir.display());
    }
    assert_eq!(
        ids(&world.sink().agents().unwrap()),
        ["main", "work", "my-agent", "plain"]
    );
    let text = world.text("openclaw.json");
    for line in CONFIG
        .lines()
        .filter(|line| line.contains("//") || line.contains("defaults"))
    {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn the_first_added_agent_does_not_become_the_default() {
    let world = World::new();
    let sink = world.sink();
    assert!(!sink.agent_add(&add("work")).unwrap().agent.is_default);
    assert_eq!(sink.default_agent().unwrap(), agent("main"));
    assert_eq!(sink.agent(Some("WORK")).unwrap(), agent("work"));
}

#[test]
fn names_and_directories_that_are_taken_are_refused() {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    let sink = world.sink();
    let before = world.test.files.snapshot();
    let shared = AgentAdd {
        agent_dir: Some(at("agents/main/agent")),
        ..add("new")
    };
    let unknown = AgentAdd {
        model: Some("nope/x".to_owned()),
        ..add("new")
    };
    let cases = [
        (add("Main "), "reserved_agent"),
        (add("  "), "bad_agent_name"),
        (add("---"), "bad_agent_name"),
        (add("work"), "agent_exists"),
        (shared, "shared_agent_dir"),
        (unknown, "unknown_provider"),
    ];
    for (request, code) in cases {
        let error = sink.agent_add(&request).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, code), "{error}");
        assert!(error.fix().is_some());
    }
    assert_eq!(world.test.files.snapshot(), before);
}

#[test]
fn a_deleted_agents_files_are_in_the_trash() {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    world.store("work", &json!({"rig:a": key("rig")}));
    world.put("agents/work/workspace/notes.md", "mine");
    world
        .test
        .files
        .put("/home/user/work/project.rs", "mine too", 0o644);
    let logins = world.text("agents/work/agent/auth-profiles.json");
    let sink = world.sink();
    let deleted = sink.agent_delete("Work", false).unwrap();
    assert_eq!(
        (deleted.id.as_str(), deleted.moved_to),
        ("work", vec![at("trash/work-20260101T000000Z")])
    );
    assert_eq!(
        world.text("trash/work-20260101T000000Z/agent/auth-profiles.json"),
        logins
    );
    assert_eq!(
        world.text("trash/work-20260101T000000Z/workspace/notes.md"),
        "mine"
    );
    assert_eq!(
        world.test.files.text("/home/user/work/project.rs"),
        "mine too",
        "a project is nobody's to move"
    );
    assert_eq!(world.test.files.mode(at("trash")), Some(0o700));
    assert_eq!(ids(&sink.agents().unwrap()), ["main"]);
    assert_eq!(sink.agent(Some("work")).unwrap_err().code(), "unknown_agent");
    let text = world.text("openclaw.json");
    assert!(
        text.contains("// who is there") && text.contains("{ id: 'main' }, // me"),
        "{text}"
    );
    assert!(
        text.contains("{ agentId: 'other', match: { channel: 'b' } }, // second"),
        "{text}"
    );
    assert!(!text.to_lowercase().contains("'work'"), "{text}");
    // The same name again, in the same second and later.
    for (seconds, want) in [
        (0, "trash/work-20260101T000000Z-2"),
        (5, "trash/work-20260101T000005Z"),
    ] {
        world.test.clock.advance(Duration::from_secs(seconds));
        sink.agent_add(&add("work")).unwrap();
        assert_eq!(sink.agent_delete("work", false).unwrap().moved_to, [at(want)]);
    }
}

#[test]
fn a_directory_elsewhere_moves_only_if_it_is_ours_alone() {
    let cases = [
        ("logins", vec!["trash/work-20260101T000000Z"]),
        ("../outside", vec![]),
        ("agents/main/agent", vec![]),
    ];
    for (dir, want) in cases {
        let world = World::new();
        let text = at(dir).to_string_lossy().into_owned();
        world.put(
            "openclaw.json",
            &json!({"agents": {"list": [{"id": "main"}, {"id": "work", "agentDir": text}]}}).to_string(),
        );
        world
            .test
            .files
            .put(at(dir).join("auth-profiles.json"), "{}", 0o600);
        let want: Vec<PathBuf> = want.into_iter().map(at).collect();
        assert_eq!(
            world.sink().agent_delete("work", false).unwrap().moved_to,
            want,
            "{dir}"
        );
        assert_eq!(
            world
                .test
                .files
                .snapshot()
                .keys()
                .filter(|path| path.ends_with("auth-profiles.json"))
                .count(),
            1
        );
    }
}

#[test]
fn files_can_be_kept() {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    world.store("work", &json!({"rig:a": key("rig")}));
    let sink = world.sink();
    assert!(sink.agent_delete("work", true).unwrap().moved_to.is_empty());
    assert_eq!(world.stored("work"), json!({"rig:a": key("rig")}));
    assert_eq!(
        ids(&sink.agents().unwrap()),
        ["main", "work"],
        "it is still on disk"
    );
    // Adding it again takes up what was kept.
    sink.agent_add(&add("work")).unwrap();
    assert_eq!(world.stored("work"), json!({"rig:a": key("rig")}));
}

#[test]
fn main_and_unknown_agents_are_not_deleted() {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    let before = world.test.files.snapshot();
    let sink = world.sink();
    for (name, code) in [
        ("main", "reserved_agent"),
        ("nope", "unknown_agent"),
        (" ", "unknown_agent"),
    ] {
        let error = sink.agent_delete(name, false).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, code), "{name:?}");
    }
    assert_eq!(world.test.files.snapshot(), before);
}

#[test]
fn a_deletion_that_was_cut_off_can_be_repeated() {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    world.store("work", &json!({"rig:a": key("rig")}));
    world.test.files.set_fault(at("agents/work"), Some(Errno::XDEV));
    let sink = world.sink();
    let error = sink.agent_delete("work", false).unwrap_err();
    assert_eq!(
        error.fix(),
        Some("tokensink agents delete work --force"),
        "{error}"
    );
    world.test.files.set_fault(at("agents/work"), None);
    assert_eq!(world.stored("work"), json!({"rig:a": key("rig")}));
    assert_eq!(sink.agent_delete("work", false).unwrap().moved_to.len(), 1);
}

#[test]
fn readonly_changes_nothing() {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let before = world.test.files.snapshot();
    let sink = world.sink();
    assert_eq!(sink.agent_add(&add("new")).unwrap_err().code(), "readonly");
    assert_eq!(sink.agent_delete("work", false).unwrap_err().code(), "readonly");
    assert_eq!(world.test.files.snapshot(), before);
}
