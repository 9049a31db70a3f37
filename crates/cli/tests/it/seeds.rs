//! Every command line of the seeds works as written, under every name of the command.

use std::collections::BTreeSet;

use tokensink_authserver::ServerConfig;

use crate::support::stage::Stage;
use crate::world::{BROWSER, SETUP_TOKEN, World};

const SEEDS: &str = include_str!("../data/seed-commands.txt");
const NAMES: [&str; 4] = ["openclaw", "openclaw-cn", "clawdbot", "tokensink"];

/// One line of the data file.
struct Row {
    name: &'static str,
    arguments: &'static str,
    code: i32,
    says: Vec<&'static str>,
}

fn rows() -> Vec<Row> {
    let lines = SEEDS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, command, code, says] = columns[..] else {
                panic!("not four columns: {line}");
            };
            let (name, arguments) = command.split_once(' ').unwrap();
            Row {
                name,
                arguments,
                code: code.parse().unwrap(),
                says: says.split("; ").collect(),
            }
        })
        .collect()
}

/// Runs one row under a name in a home.
fn run(stage: &Stage, name: &str, row: &Row) {
    let line = format!("{name} {}", row.arguments.replace("<id>", "rig"));
    let browser = [("BROWSER", BROWSER)];
    let said = stage
        .world
        .run_with(&line, Some(SETUP_TOKEN), &browser)
        .code(row.code);
    for part in &row.says {
        assert!(said.out.contains(part), "{line}: no {part:?} in {said:#?}");
    }
    assert!(
        !said.out.contains(SETUP_TOKEN) && !said.err.contains(SETUP_TOKEN),
        "{line}: {said:#?}"
    );
}

#[test]
fn every_command_line_of_the_seeds_runs_as_written() {
    assert_eq!(rows().len(), 13);
    for written in ["openclaw", "openclaw-cn", "clawdbot"] {
        let stage = Stage::new(ServerConfig::default());
        for row in rows().iter().filter(|row| row.name == written) {
            run(&stage, written, row);
        }
    }
}

#[test]
fn every_command_line_of_the_seeds_runs_under_every_name() {
    for name in NAMES {
        let stage = Stage::new(ServerConfig::default());
        let mut ran = BTreeSet::new();
        for row in rows() {
            if ran.insert(row.arguments) {
                run(&stage, name, &row);
            }
        }
        assert_eq!(ran.len(), 8);
        let list = stage
            .world
            .run(&format!("{name} models auth list --json"))
            .code(0)
            .json();
        let ids: Vec<&str> = list["profiles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|profile| profile["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, ["anthropic:manual", "rig:alice@example.com"]);
    }
}

#[test]
fn suggestions_use_the_name_that_was_called() {
    for name in NAMES {
        let said = World::new()
            .run(&format!("{name} token --provider anthropic"))
            .code(3);
        assert!(
            said.err.contains(&format!("fix: {name} models auth login ")),
            "{said:#?}"
        );
    }
}

#[test]
fn a_probe_of_nothing_asks_nobody() {
    let world = World::new();
    let said = world.run("tokensink models status --probe --probe-profile a:x,b:y --json");
    assert!(said.code(2).err.contains("a:x"));
    for alone in [
        "--probe-provider groq",
        "--probe-profile a:x",
        "--probe-timeout 50",
    ] {
        let said = world.run(&format!("tokensink models status {alone}")).code(2);
        assert!(said.err.contains("--probe"), "{said:#?}");
    }
    let said = world.run("tokensink models status --probe --json").code(0);
    let probes = &said.json()["auth"]["probes"];
    assert_eq!(probes["totalTargets"], 0, "{said:#?}");
    assert_eq!(probes["options"]["timeoutMs"], 8000);
}
