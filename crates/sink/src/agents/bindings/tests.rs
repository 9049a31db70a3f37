use serde_json::json;

use super::*;
use crate::report::AgentAdd;
use crate::world::{World, agent};

const CONFIG: &str = r#"{
  // who is there
  agents: { list: [{ id: 'main' }, { id: 'work' }, { id: 'home' }] },
  channels: { defaults: {}, mychat: { token: 'x' } },
  bindings: [
    { agentId: 'work', match: { channel: 'telegram' /* no account */, }, }, // one
    { agentId: 'home', match: { channel: 'slack', accountId: 'biz', teamId: 7 } },
    'nonsense', // kept
    { agentId: 'home', match: { channel: 'telegram', accountId: 'h' }, note: 1 },
    { agentId: 'work', match: { channel: 'discord', roles: ['x'] } },
  ],
}
"#;

fn specs(list: &[&str]) -> Vec<String> {
    list.iter().map(|&spec| spec.to_owned()).collect()
}

fn world() -> World {
    let world = World::new();
    world.put("openclaw.json", CONFIG);
    world
}

#[test]
fn what_is_not_understood_is_named_and_routes_nothing() {
    let cases = [
        (json!(1), "it is no object"),
        (json!({"match": {"channel": "x"}}), "agentId is missing"),
        (json!({"agentId": "a"}), "match is no object"),
        (json!({"agentId": "a", "match": {}}), "match.channel is missing"),
        (
            json!({"agentId": "a", "type": "acp", "match": {"channel": "x"}}),
            "its type \"acp\"",
        ),
        (
            json!({"agentId": "a", "match": {"channel": ["x"]}}),
            "channel is no text",
        ),
        (
            json!({"agentId": "a", "match": {"channel": "x", "roles": ["r"]}}),
            "match.roles",
        ),
        (
            json!({"agentId": "a", "match": {"channel": "x", "peer": "dm:1"}}),
            "match.peer is no object",
        ),
        (
            json!({"agentId": "a", "match": {"channel": "x", "peer": {"kind": "dm"}}}),
            "match.peer has no id",
        ),
        (
            json!({"agentId": "a", "match": {"channel": "x", "peer": {"id": "1"}}}),
            "match.peer.kind",
        ),
    ];
    for (entry, why) in cases {
        let view = read(Some(
            &json!([{"agentId": "B", "type": "route", "match": {"channel": "x", "roles": []}}, entry]),
        ));
        assert_eq!(view.bindings.len(), 1, "{entry}");
        assert!(
            view.warnings[0].starts_with("bindings[1] in "),
            "{:?}",
            view.warnings
        );
        assert!(view.warnings[0].contains(why), "{why}: {:?}", view.warnings);
    }
    assert_eq!(read(None), BindingsView::default());
    assert!(read(Some(&json!({}))).warnings[0].contains("is no list"));
    let numbers =
        json!([{"agentId": "a", "match": {"channel": "x", "guildId": 1_234_567_890_123_456_789_u64}}]);
    let view = read(Some(&numbers));
    assert_eq!(
        view.bindings[0].binding.guild.as_deref(),
        Some("1234567890123456789")
    );
}

#[test]
fn bindings_are_added_updated_skipped_and_left_to_others() {
    let world = world();
    let sink = world.sink();
    let asked = specs(&[
        "MyChat:a:b",
        "telegram:w",
        "slack:biz",
        "telegram:h",
        "mychat:a:b",
    ]);
    let report = sink.bind(&agent("work"), &asked).unwrap();
    assert_eq!(
        report,
        BindReport {
            agent: agent("work"),
            // The other slack binding is for one team only, which is another claim.
            added: specs(&["mychat accountId=a:b", "slack accountId=biz"]),
            updated: specs(&["telegram accountId=w"]),
            skipped: specs(&["mychat accountId=a:b"]),
            conflicts: vec![BindConflict {
                binding: "telegram accountId=h".to_owned(),
                agent: agent("home"),
            }],
        }
    );
    let text = world.text("openclaw.json");
    for kept in CONFIG.lines().take(5).chain(CONFIG.lines().skip(6).take(4)) {
        assert!(text.contains(kept.trim_end_matches(',')), "{kept} in {text}");
    }
    for part in ["/* no account */", "\"accountId\": \"w\"", "note: 1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let again = sink.bind(&agent("work"), &asked).unwrap();
    assert_eq!(
        (again.added.len(), again.updated.len(), again.skipped.len()),
        (0, 0, 4)
    );
    assert_eq!(world.text("openclaw.json"), text);
}

#[test]
fn a_binding_that_is_asked_for_itself_is_not_given_an_account() {
    let world = world();
    let sink = world.sink();
    let asked = specs(&["telegram", "telegram:w"]);
    let report = sink.bind(&agent("work"), &asked).unwrap();
    assert_eq!(
        (report.skipped, report.added),
        (specs(&["telegram"]), specs(&["telegram accountId=w"]))
    );
    let text = world.text("openclaw.json");
    assert_eq!(sink.bind(&agent("work"), &asked).unwrap().skipped.len(), 2);
    assert_eq!(world.text("openclaw.json"), text);
}

#[test]
fn bad_bindings_change_nothing() {
    let world = world();
    let sink = world.sink();
    let before = world.test.files.snapshot();
    let cases = [
        ("telegarm", "unknown_channel", "Unknown channel \"telegarm\"."),
        ("defaults", "unknown_channel", "Unknown channel \"defaults\"."),
        (
            "telegram: ",
            "bad_binding",
            "Invalid binding \"telegram:\" (empty account id).",
        ),
    ];
    for (spec, code, message) in cases {
        let asked = specs(&["slack", spec]);
        let add = AgentAdd {
            name: "new".to_owned(),
            workspace: None,
            agent_dir: None,
            model: None,
            bindings: asked.clone(),
        };
        let errors = [
            sink.bind(&agent("work"), &asked).unwrap_err(),
            sink.unbind(&agent("work"), &Unbind::Some(asked)).unwrap_err(),
            sink.agent_add(&add).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, code));
            assert_eq!(error.to_string(), message);
        }
    }
    assert_eq!(world.test.files.snapshot(), before);
}

#[test]
fn an_agent_comes_with_its_bindings() {
    let world = world();
    let request = AgentAdd {
        name: "new".to_owned(),
        workspace: None,
        agent_dir: None,
        model: None,
        bindings: specs(&["signal", "telegram:h"]),
    };
    let added = world.sink().agent_add(&request).unwrap();
    assert_eq!(
        (added.agent.bindings, added.bindings.added),
        (1, specs(&["signal"]))
    );
    assert_eq!(added.bindings.conflicts[0].agent, agent("home"));
}

#[test]
fn bindings_are_removed_and_those_of_others_stay() {
    let world = world();
    let sink = world.sink();
    let asked = specs(&["telegram:default", "telegram:h", "irc"]);
    let report = sink.unbind(&agent("work"), &Unbind::Some(asked)).unwrap();
    assert_eq!(report.removed, ["telegram accountId=default"]);
    assert_eq!(report.missing, ["irc"]);
    assert_eq!(report.conflicts[0].agent, agent("home"));
    let view = sink.bindings(None).unwrap();
    assert_eq!((view.bindings.len(), view.warnings.len()), (2, 2));
    let report = sink.unbind(&agent("work"), &Unbind::All).unwrap();
    assert_eq!(report.removed, ["bindings[3]"], "also what is not understood");
    let report = sink.unbind(&agent("home"), &Unbind::All).unwrap();
    assert_eq!(
        report.removed,
        ["slack accountId=biz team=7", "telegram accountId=h"]
    );
    assert_eq!(world.sink().config().unwrap().bindings(), [json!("nonsense")]);
    assert!(world.text("openclaw.json").contains("// kept"));
}

#[test]
fn routes_name_their_binding_by_its_place_in_the_file() {
    let world = World::new();
    world.put(
        "openclaw.json",
        r#"{ bindings: [ 'nonsense', { agentId: 'gone', match: { channel: 'odd', accountId: '*' } } ] }"#,
    );
    let sink = world.sink();
    let ask = |channel: &str, peer: Option<&str>| {
        sink.route(&RouteRequest {
            channel: channel.to_owned(),
            account: Some(" ".to_owned()),
            peer: peer.map(str::to_owned),
            ..RouteRequest::default()
        })
    };
    let route = ask("odd", Some("dm:1")).unwrap();
    assert_eq!((route.agent, route.degree), (AgentId::main(), Degree::Channel));
    assert_eq!(route.binding.unwrap().index, 1);
    assert_eq!(route.unknown_agent, Some(agent("gone")));
    assert_eq!(route.warnings.len(), 2, "{:?}", route.warnings);
    assert!(
        route.warnings[1].contains("tokensink agents add gone"),
        "{:?}",
        route.warnings
    );
    let route = ask("telegram", None).unwrap();
    assert_eq!(
        (route.degree, route.binding, route.warnings.len()),
        (Degree::Default, None, 1)
    );
    assert!(ask("telegarm", None).unwrap().warnings[1].contains("Unknown channel \"telegarm\"."));
    assert_eq!(ask(" ", None).unwrap_err().code(), "bad_channel");
    assert_eq!(ask("odd", Some("thread:1")).unwrap_err().code(), "bad_peer");
}
