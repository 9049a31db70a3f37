//! The conformance kit and the real programs: each can be put to the test, and does right where it did when
//! docs/conformance.md was written. A new version of one of them is what these tests are for; what a program does wrong
//! is not held against it here, since it may mend it.

use std::path::Path;

use serde_json::Value;

use super::{installed, npm_cpu};
use crate::world::{Said, World};

/// What every program does right.
const COMMON: [&str; 12] = [
    "fresh-token-is-kept",
    "expired-token-is-refreshed-once",
    "answer-without-refresh-token",
    "rejected-token-is-refreshed-once",
    "status-503",
    "page-instead-of-tokens",
    "refused-while-a-newer-login-is-stored",
    "newer-login-is-adopted",
    "connection-refused",
    "cut-before-the-server-acted",
    "answer-lost",
    "store-stays-private",
];

/// Plays these scenarios with the program at `program`, with `dir` first on PATH.
fn play(name: &str, program: &Path, dir: Option<&Path>, ids: &[&str]) -> Said {
    let world = World::new();
    let program = program.display().to_string();
    let mut words = vec![
        "tokensink",
        "conformance",
        "run",
        name,
        "--program",
        &program,
        "--json",
    ];
    for id in ids {
        words.extend(["--scenario", id]);
    }
    let mut command = world.command(&words);
    if let Some(dir) = dir {
        command.env("PATH", format!("{}:/usr/bin:/bin", dir.display()));
    }
    Said::of(command.output().unwrap())
}

/// All were judged, and all passed.
#[track_caller]
fn assert_all_pass(said: Said, name: &str, version: &str, ids: &[&str]) {
    let said = said.code(0);
    let report = said.json();
    assert_eq!(
        (&report["client"], &report["version"]),
        (&name.into(), &version.into())
    );
    let scenarios = report["scenarios"].as_array().unwrap();
    assert_eq!(scenarios.len(), ids.len());
    for scenario in scenarios {
        let id = scenario["id"].as_str().unwrap();
        assert!(ids.contains(&id), "{scenario}");
        assert_eq!(scenario["passed"], true, "{scenario}");
        assert!(!scenario["detail"].as_str().unwrap().is_empty(), "{scenario}");
    }
}

/// The version that a folder of `tests` pins.
fn pinned(manifest: &str, package: &str) -> String {
    let manifest: Value = serde_json::from_str(manifest).unwrap();
    manifest["dependencies"][package].as_str().unwrap().to_owned()
}

const CLIS: &str = include_str!("../../../../../tests/real-clis/package.json");
const OPENCLAW: &str = include_str!("../../../../../tests/real-openclaw/package.json");

#[test]
fn codex_is_put_to_the_test() {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let file = format!("@openai/codex-linux-{}/vendor/{triple}/bin/codex", npm_cpu());
    let Some(program) = installed("real-clis", &file) else {
        return;
    };
    let said = play("codex", &program, None, &COMMON);
    assert_all_pass(said, "codex", &pinned(CLIS, "@openai/codex"), &COMMON);
}

#[test]
fn claude_code_is_put_to_the_test() {
    let file = format!("@anthropic-ai/claude-code-linux-{}/claude", npm_cpu());
    let Some(program) = installed("real-clis", &file) else {
        return;
    };
    let ids = [&COMMON[..], &["unknown-keys-survive"]].concat();
    let said = play("claude", &program, None, &ids);
    assert_all_pass(said, "claude", &pinned(CLIS, "@anthropic-ai/claude-code"), &ids);
}

#[test]
fn openclaw_is_put_to_the_test() {
    let Some(program) = installed("real-openclaw", "openclaw/openclaw.mjs") else {
        return;
    };
    let node = installed("node", &format!("node-linux-{}/bin/node", npm_cpu())).unwrap();
    // A turn of it takes five seconds of a processor, so only what stands for the rest.
    let ids = [
        "fresh-token-is-kept",
        "expired-token-is-refreshed-once",
        "newer-login-is-adopted",
        "store-stays-private",
    ];
    let said = play("openclaw", &program, node.parent(), &ids);
    assert_all_pass(said, "openclaw", &pinned(OPENCLAW, "openclaw"), &ids);
}

#[test]
fn what_is_not_installed_is_told_with_the_command_that_installs_it() {
    let world = World::new();
    for (name, package) in [
        ("codex", "@openai/codex@"),
        ("claude", "@anthropic-ai/claude-code@"),
        ("openclaw", "openclaw@2026.5.28"),
    ] {
        let mut command = world.command(&["tokensink", "conformance", "run", name]);
        command.env("PATH", world.path("empty"));
        let said = Said::of(command.output().unwrap()).code(1);
        assert!(
            said.err.contains(&format!("no program {name} is on PATH")),
            "{said:#?}"
        );
        assert!(
            said.err.contains("npm install") && said.err.contains(package),
            "{said:#?}"
        );
    }
}
