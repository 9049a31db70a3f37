//! What the files are like that are left behind, and what a child process is given.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use serde_json::json;
use tokensink_authserver::{GrantType, ServerConfig};

use crate::support::snapshot::Snapshot;
use crate::support::stage::{ONE_LIFE, Stage, add_profile, run_at, store_path, stored};
use crate::world::{API_KEY, BROWSER, Said, World};

/// Runs a command line under a umask.
fn run_under(world: &World, umask: &str, line: &str, input: &str, seconds: i64) -> Said {
    let words: Vec<&str> = line.split(' ').collect();
    let token = world.write("input.txt", input);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "umask $0; exec \"$@\"", umask])
        .arg(world.binary(words[0]))
        .args(&words[1..])
        .env_clear()
        .env("HOME", world.path(""))
        .env("PATH", "/usr/bin:/bin")
        .env("BROWSER", BROWSER)
        .env("TOKENSINK_CLOCK_OFFSET_SECONDS", seconds.to_string())
        .current_dir(world.path(""))
        .stdin(Stdio::from(std::fs::File::open(token).unwrap()));
    Said::of(command.output().unwrap())
}

#[test]
fn only_the_user_can_read_what_is_made() {
    for umask in ["000", "022", "077"] {
        let stage = Stage::new(ServerConfig::default());
        let before = Snapshot::of(&stage.world.state(""));
        let ours: Vec<_> = before.entries().map(|(path, _)| path.to_owned()).collect();
        for (line, input, seconds) in [
            ("tokensink models auth login --provider rig --set-default", "", 0),
            (
                "tokensink models auth paste-api-key --provider openrouter --profile-id openrouter:mine",
                API_KEY,
                0,
            ),
            ("tokensink agents add work", "", 0),
            (
                "tokensink models auth paste-api-key --provider groq --agent work",
                API_KEY,
                0,
            ),
            (
                "tokensink models auth order set --provider rig rig:alice@example.com",
                "",
                0,
            ),
            ("tokensink models aliases add small rig/rig-small", "", 0),
            ("tokensink token --provider rig", "", ONE_LIFE),
            ("tokensink token --provider rig --agent work", "", 2 * ONE_LIFE),
            ("tokensink models auth logout openrouter:mine", "", 0),
        ] {
            let said = run_under(&stage.world, umask, line, input, seconds);
            assert_eq!(said.code, 0, "{line}: {said:#?}");
        }
        let after = Snapshot::of(&stage.world.state(""));
        let mut made = 0;
        for (path, entry) in after
            .entries()
            .filter(|(path, _)| !ours.iter().any(|known| known == path))
        {
            let want = if entry.dir { 0o700 } else { 0o600 };
            assert_eq!(
                entry.mode,
                want,
                "{} is {:o} under umask {umask}",
                path.display(),
                entry.mode
            );
            made += 1;
        }
        assert!(made > 10, "{after:?}");
    }
}

#[test]
fn a_linked_store_is_followed_and_stays_a_link() {
    let stage = Stage::with_an_expired_grant();
    let link = store_path(&stage.world, "main");
    let target = stage.world.path("elsewhere/auth.json");
    std::fs::create_dir(target.parent().unwrap()).unwrap();
    std::fs::rename(&link, &target).unwrap();
    symlink(&target, &link).unwrap();
    let token = stage.world.run("tokensink token --provider rig").code(0).out;
    stage.world.store_key("openrouter");
    assert_eq!(std::fs::read_link(&link).unwrap(), target);
    let text = std::fs::read_to_string(&target).unwrap();
    assert!(text.contains(token.trim()) && text.contains(API_KEY));
    let names: Vec<_> = std::fs::read_dir(target.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names.iter().any(|name| name.to_string_lossy().contains("tmp")),
        "{names:?}"
    );
    // Whoever comes by the target's own path finds the same.
    assert_eq!(stored(&stage.world, "main", "rig:alice")["access"], token.trim());
    stage.assert_refreshes(1);
}

#[test]
fn what_others_wrote_into_the_store_survives() {
    let stage = Stage::with_an_expired_grant();
    let path = store_path(&stage.world, "main");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replacen('{', "{\n  \"x-mine\": [1, {\"deep\": null}],", 1)
        .replace("\"clientId\"", "\"x-note\": \"keep\",\n \"clientId\"");
    std::fs::write(&path, text).unwrap();
    stage.world.run("tokensink token --provider rig").code(0);
    stage.world.store_key("openrouter");
    let text = std::fs::read_to_string(&path).unwrap();
    let store: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(store["x-mine"], json!([1, {"deep": null}]));
    assert_eq!(store["profiles"]["rig:alice"]["x-note"], "keep");
    assert_eq!(store["version"], 1);
}

#[test]
fn a_child_sees_one_providers_secret() {
    let stage = Stage::with_an_expired_grant();
    add_profile(
        &stage.world,
        "main",
        "anthropic:a",
        json!({"type": "api_key", "provider": "anthropic", "key": "sk-ant-api03-mine"}),
    );
    let words = [
        "tokensink",
        "exec",
        "--provider",
        "anthropic",
        "--",
        "/bin/sh",
        "-c",
        "env; kill -TERM $$",
    ];
    let foreign = [
        "OPENAI_API_KEY",
        "OPENROUTER_API_KEY",
        "ANTHROPIC_OAUTH_TOKEN",
        "GROQ_API_KEY",
        "GITHUB_TOKEN",
    ];
    let mut command = stage.world.command(&words);
    command
        .envs(foreign.map(|name| (name, "foreign-canary")))
        .env("EDITOR", "vi");
    let said = Said::of(command.output().unwrap());
    assert_eq!(said.code, 143, "128 + SIGTERM: {said:#?}");
    assert!(
        said.out.contains("ANTHROPIC_API_KEY=sk-ant-api03-mine\n"),
        "{said:#?}"
    );
    assert!(said.out.contains("EDITOR=vi\n"), "{said:#?}");
    for name in [
        "OPENAI_API_KEY",
        "OPENROUTER_API_KEY",
        "ANTHROPIC_OAUTH_TOKEN",
        "GROQ_API_KEY",
    ] {
        assert!(!said.out.contains(name), "{name}: {said:#?}");
    }
    // An OAuth login is renewed first.
    for code in [0, 1, 42, 255] {
        let script = format!("exit {code}");
        let words = [
            "tokensink",
            "exec",
            "--provider",
            "rig",
            "--",
            "/bin/sh",
            "-c",
            &script,
        ];
        let said = Said::of(stage.world.command(&words).output().unwrap());
        assert_eq!(said.code, code, "{said:#?}");
    }
    stage.assert_refreshes(1);
}

#[test]
fn nothing_runs_without_a_login() {
    let stage = Stage::new(ServerConfig::default());
    let said = stage
        .world
        .run("tokensink exec --provider rig -- /bin/touch ran")
        .code(3);
    assert!(
        said.err
            .contains("fix: tokensink models auth login --provider rig"),
        "{said:#?}"
    );
    assert!(!stage.world.path("ran").exists());
}

#[test]
fn renewal_ahead_of_time() {
    let stage = Stage::new(ServerConfig::default());
    stage.world.run("tokensink agents add work").code(0);
    stage.store(&stage.world, "main", "rig:alice", "alice", 3_500);
    stage.store(&stage.world, "work", "rig:bob", "bob", 3_500);
    let outcomes = |seconds| {
        let list = run_at(&stage.world, "tokensink renew --json", seconds)
            .code(0)
            .json();
        let words: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["outcome"].as_str().unwrap().to_owned())
            .collect();
        words
    };
    assert_eq!(outcomes(0), ["not_due", "not_due"]);
    assert_eq!(stage.server.ledger().posts(GrantType::RefreshToken), 0);
    // A quarter of an hour before the end, long before `token` would.
    assert_eq!(outcomes(2_700), ["renewed", "renewed"]);
    stage.assert_refreshes(2);
    assert_eq!(outcomes(2_700), ["not_due", "not_due"]);
    for (agent, profile) in [("main", "rig:alice"), ("work", "rig:bob")] {
        let token = run_at(
            &stage.world,
            &format!("tokensink token --profile-id {profile} --agent {agent}"),
            2_700,
        )
        .code(0)
        .out;
        stage.assert_works(&token);
    }
    stage.assert_refreshes(2);
}

#[test]
fn check_by_the_state_of_the_login() {
    let day = 86_400;
    let cases: [(Option<i64>, i32, &str); 3] = [
        (None, 1, "missing"),
        (Some(3 * day), 0, "ok"),
        (Some(-10), 1, "expired"),
    ];
    for (seconds, code, what) in cases {
        let stage = Stage::new(ServerConfig::default());
        stage.world.run("tokensink models set rig/rig-small").code(0);
        if let Some(seconds) = seconds {
            stage.store(&stage.world, "main", "rig:alice", "alice", seconds);
        }
        let said = stage.world.run("tokensink models status --check");
        assert_eq!(said.code, code, "{what}: {said:#?}");
        assert_eq!(
            stage.world.run("tokensink models status --check --json").code,
            code,
            "{what}"
        );
        assert_eq!(stage.world.run("tokensink models status").code, 0, "{what}");
        assert_eq!(
            stage.server.ledger().posts(GrantType::RefreshToken),
            0,
            "looking refreshes nothing"
        );
    }
}
