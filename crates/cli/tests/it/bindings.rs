//! Bindings and routes, on a config as people write it.

use serde_json::json;

use crate::world::World;

/// Every degree, in an order that helps nobody.
const CONFIG: &str = r#"{
  // my agents
  agents: { list: [{ id: 'main' }, { id: 'a' }, { id: 'b' }, { id: 'c' }, { id: 'd' }, { id: 'e' }] },
  bindings: [
    { agentId: 'a', match: { channel: 'telegram', accountId: '*' } }, // all of it
    { agentId: 'b', match: { channel: 'telegram' } },
    'an old note',
    { agentId: 'b', match: { channel: 'telegram', accountId: 'biz' } },
    { agentId: 'c', match: { channel: 'telegram', teamId: 't1' } },
    { agentId: 'd', match: { channel: 'telegram', guildId: 'g1' } },
    { agentId: 'e', match: { channel: 'telegram', peer: { kind: 'dm', id: '42' } } },
    { agentId: 'a', match: { channel: 'telegram', peer: { kind: 'direct', id: '42' } } },
    { agentId: 'gone', match: { channel: 'irc' } },
  ], /* the end */
}
"#;

#[test]
fn the_most_specific_binding_answers_and_says_why() {
    let world = World::new();
    world.write(".openclaw/openclaw.json", CONFIG);
    let cases = [
        ("--channel telegram", "b", "by account: bindings[1], telegram"),
        (
            "--channel Telegram --account biz",
            "b",
            "bindings[3], telegram accountId=biz",
        ),
        (
            "--channel telegram --account other",
            "a",
            "by channel: bindings[0], telegram accountId=*",
        ),
        ("--channel telegram --team t1", "c", "by team: bindings[4]"),
        (
            "--channel telegram --team t1 --guild g1",
            "d",
            "by guild: bindings[5]",
        ),
        (
            "--channel telegram --guild g1 --peer direct:42",
            "e",
            "by peer: bindings[6]",
        ),
        (
            "--channel telegram --peer group:42",
            "b",
            "by account: bindings[1]",
        ),
        (
            "--channel telegram --account other --peer dm:42",
            "a",
            "by channel: bindings[0]",
        ),
        ("--channel slack", "main", "by default: no binding fits"),
        ("--channel irc", "main", "bindings[8] is for agent \"gone\""),
        ("--channel nochat", "main", "Unknown channel \"nochat\"."),
    ];
    for (arguments, agent, reason) in cases {
        let said = world.run(&format!("openclaw route {arguments}")).code(0);
        assert_eq!(said.out, format!("{agent}\n"), "{arguments}");
        assert!(said.err.contains(reason), "{arguments}: {said:#?}");
        assert!(
            said.err.contains("bindings[2] in openclaw.json routes nothing"),
            "{said:#?}"
        );
    }
    let said = world.run("tokensink route --channel irc --json").code(0).json();
    assert_eq!(
        (&said["agentId"], &said["unknownAgentId"]),
        (&json!("main"), &json!("gone"))
    );
    assert_eq!(said["binding"]["match"], json!({"channel": "irc"}));
    world.run("tokensink route --channel irc --peer 42").code(2);
}

#[test]
fn bindings_come_and_go_and_the_rest_of_the_file_stays() {
    let world = World::new();
    let file = world.write(".openclaw/openclaw.json", CONFIG);
    let text = || std::fs::read_to_string(&file).unwrap();
    let line = "openclaw agents bind --agent b --bind telegram:new --bind irc --bind slack --json";
    let said = world.run(line).code(1);
    assert_eq!(
        said.json(),
        json!({"agentId": "b", "added": ["slack"], "updated": ["telegram accountId=new"], "skipped": [],
            "conflicts": ["irc (agent=gone)"]})
    );
    assert!(said.err.contains("irc belongs to agent gone"), "{said:#?}");
    let bound = text();
    let untouched = CONFIG
        .lines()
        .filter(|line| !line.contains("'b', match: { channel: 'telegram' }"));
    for line in untouched.take(12) {
        assert!(bound.contains(line.trim_end_matches(',')), "{line} in {bound}");
    }
    world.run(line).code(1);
    assert_eq!(text(), bound, "repeated, it changes nothing");
    let said = world.run("tokensink agents bind --agent b --bind slack").code(0);
    assert_eq!(said.out, "Already there:\n- slack\n");
    assert_eq!(text(), bound);
    assert_eq!(
        world.run("openclaw route --channel telegram --account new").out,
        "b\n"
    );

    let said = world.run("openclaw agents bindings --agent b").code(0);
    assert_eq!(
        said.out,
        "Bindings:\n- b <- telegram accountId=new\n- b <- telegram accountId=biz\n- b <- slack\n"
    );
    let value = world.run("openclaw agents bindings --json").code(0).json();
    assert_eq!(value.as_array().unwrap().len(), 9);
    assert_eq!(value[6]["match"]["peer"], json!({"kind": "direct", "id": "42"}));
    let value = world.run("openclaw agents list --bindings --json").code(0).json();
    assert_eq!(value[2]["bindingDetails"][2], "slack");
    let said = world.run("openclaw agents list --bindings").code(0);
    assert!(said.out.contains("\n    telegram accountId=new\n"), "{said:#?}");

    let said = world
        .run("clawdbot agents unbind --agent b --bind slack --bind irc --bind line")
        .code(1);
    assert_eq!(said.out, "Removed:\n- slack\nNot there:\n- line\n");
    world.run("clawdbot agents unbind --agent b --all").code(0);
    assert_eq!(
        world.run("openclaw agents bindings --agent b").out,
        "Bindings: none\n"
    );
    assert!(
        text().contains("'an old note',") && text().contains("// all of it"),
        "{}",
        text()
    );
    world
        .run("openclaw agents bind --agent nobody --bind slack")
        .code(2);
    let before = text();
    let said = world
        .run("openclaw agents bind --bind slack --bind nochat")
        .code(2);
    assert!(said.err.contains("Unknown channel \"nochat\"."), "{said:#?}");
    assert_eq!(text(), before);
}

#[test]
fn an_agent_is_added_with_its_chats() {
    let world = World::new();
    let said = world
        .run("openclaw agents add work --bind telegram:work --bind whatsapp")
        .code(0);
    assert!(
        said.out
            .ends_with("Added:\n- telegram accountId=work\n- whatsapp\n"),
        "{said:#?}"
    );
    let line = "openclaw agents add home --workspace /tmp/h --bind whatsapp --bind signal --json";
    let value = world.run(line).code(0).json();
    assert_eq!(
        value["bindings"],
        json!({"added": ["signal"], "updated": [], "skipped": [], "conflicts": ["whatsapp (agent=work)"]})
    );
    assert_eq!(world.run("openclaw route --channel signal").out, "home\n");
    world.run("openclaw agents add third --bind telegram:").code(2);
    world.run("openclaw models status --agent third").code(2);
}
