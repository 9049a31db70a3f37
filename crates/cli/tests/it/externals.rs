//! Logins that other programs keep, with real processes: the helper that refreshes under the program's locks, its death,
//! and the hook in the program's settings.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokensink_authserver::{GrantType, ServerConfig};
use tokensink_host::Host;

use crate::support::crowd::{Dice, finish, start};
use crate::support::full;
use crate::support::processes::{helper_of, helpers_of, kill, wait_for_state};
use crate::support::stage::{Stage, clock, run_at};
use crate::world::World;

const TOKEN: &str = "tokensink token --provider anthropic";
const LOGIN: &str = ".claude/.credentials.json";
/// Claude Code takes a lock for stale that was not touched for this long (clients.md 3.4).
const STALE: Duration = Duration::from_secs(60);

/// A home in which Claude Code is logged in and its login has run out.
fn stage(config: ServerConfig) -> Stage {
    let stage = Stage::new(config);
    let definition = format!(
        "id = \"anthropic\"\n[[auth]]\nid = \"oauth\"\nclient_id = \"rig\"\ntoken_endpoint = \"{}\"\n",
        stage.server.url("/oauth/token")
    );
    stage
        .world
        .write(".openclaw/tokensink/providers/anthropic.toml", &definition);
    log_in(&stage, -1);
    stage
}

fn log_in(stage: &Stage, seconds: i64) {
    let issued = stage
        .server
        .issue("alice", &["openid", "offline_access"])
        .unwrap();
    let file = json!({
        "claudeAiOauth": {
            "accessToken": issued.access_token.expose(),
            "refreshToken": issued.refresh_token.unwrap().expose(),
            "expiresAt": Host::real().clock.now().0 + seconds * 1_000,
            "scopes": ["user:inference"],
            "subscriptionType": "max",
        },
        "mcpOAuth": {"server": "theirs"},
    });
    let path = stage.world.write(LOGIN, &file.to_string());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn login(world: &World) -> Value {
    serde_json::from_str(&std::fs::read_to_string(world.path(LOGIN)).unwrap()).unwrap()
}

/// The locks of Claude Code that are there.
fn locks(world: &World) -> Vec<PathBuf> {
    let all = [
        ".claude/.oauth_refresh.lock",
        ".claude.lock",
        ".claude/.storage-write.lock",
    ];
    let paths = all.into_iter().map(|name| world.path(name));
    paths.filter(|path| path.exists()).collect()
}

/// Lets what a dead process left behind grow old.
fn age_locks(world: &World) {
    let long_ago = SystemTime::now() - 2 * STALE;
    for lock in locks(world) {
        std::fs::File::open(lock).unwrap().set_modified(long_ago).unwrap();
    }
}

/// Waits until every helper is done: a caller may have its token before the helper has written it into the file and
/// given back its locks.
fn land(world: &World) {
    for helper in helpers_of(world) {
        wait_for_state(helper, None);
    }
}

#[test]
fn a_cooperative_login_is_refreshed_by_a_helper_in_the_programs_own_file() {
    let stage = stage(ServerConfig::default());
    let world = &stage.world;
    let said = world.run(TOKEN).code(3);
    assert!(
        said.err
            .contains("fix: tokensink external set claude cooperative"),
        "{said:#?}"
    );
    world.run("tokensink external set claude cooperative").code(0);
    let before = login(world);
    let token = world.run(TOKEN).code(0).out;
    stage.assert_works(&token);
    stage.assert_refreshes(1);
    land(world);
    let mut after = login(world);
    assert_eq!(after["claudeAiOauth"]["accessToken"], token.trim());
    for field in ["accessToken", "refreshToken", "expiresAt"] {
        after["claudeAiOauth"][field] = before["claudeAiOauth"][field].clone();
    }
    assert_eq!(after, before);
    assert_eq!(
        std::fs::metadata(world.path(LOGIN)).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(locks(world).is_empty());
    // Nothing of it is in our files but the record.
    for (path, text) in world.files() {
        let holds = text.contains(token.trim());
        assert!(
            !holds || path.parent().unwrap().ends_with("journal"),
            "{}",
            path.display()
        );
    }
    let listed = world.run("tokensink external list --json").code(0).json();
    assert_eq!(listed[0]["mode"], "cooperative");
    assert_eq!(listed[0]["state"], "usable");
    let status = world.run("tokensink models status --json").code(0).json();
    assert_eq!(status["auth"]["external"], listed);
    assert_eq!(status["auth"]["oauth"]["profiles"][0]["source"], "claude-cli");
    let channels = world.run("tokensink channels list --json").code(0).json();
    assert_eq!(channels["auth"][0]["isExternal"], true);
    let said = world
        .run("tokensink models auth logout anthropic:claude-cli")
        .code(2);
    assert!(
        said.err.contains("fix: tokensink external set claude off"),
        "{said:#?}"
    );
}

#[test]
fn many_processes_refresh_it_once() {
    let stage = stage(ServerConfig::default());
    stage
        .world
        .run("tokensink external set claude cooperative")
        .code(0);
    for round in 0..3 {
        let crowd = crate::support::crowd::Crowd::start(&stage.world, [TOKEN; 16], &clock(round * 3_700));
        let token = crowd.finish_with_one_token();
        land(&stage.world);
        assert_eq!(login(&stage.world)["claudeAiOauth"]["accessToken"], token.trim());
    }
    stage.assert_refreshes(3);
}

#[test]
fn killed_while_it_holds_the_programs_locks_it_keeps_nobody_out_for_good() {
    let stage = stage(ServerConfig {
        replay_grace_seconds: 600,
        ..ServerConfig::default()
    });
    let world = &stage.world;
    world.run("tokensink external set claude cooperative").code(0);
    stage.hold_the_next_refresh();
    let caller = start(world, &format!("{TOKEN} --wait 2s"), &clock(0));
    stage.wait_until_held();
    assert_eq!(
        locks(world).len(),
        2,
        "both locks of a refresh, and no write lock"
    );
    let helper = helper_of(world);
    kill(helper);
    let said = finish(caller);
    assert!(said.code == 75 || said.code == 0, "{said:#?}");
    stage.server.faults().release();
    age_locks(world);
    let token = world.run(TOKEN).code(0).out;
    stage.assert_works(&token);
    land(world);
    assert_eq!(login(world)["claudeAiOauth"]["accessToken"], token.trim());
    assert!(locks(world).is_empty());
    assert_eq!(stage.server.ledger().reuses, 0);
}

#[test]
fn killed_at_any_moment_it_loses_no_login() {
    let mut dice = Dice::new(20_261_121);
    let stage = stage(ServerConfig {
        replay_grace_seconds: 100_000_000,
        ..ServerConfig::default()
    });
    let world = &stage.world;
    world.run("tokensink external set claude cooperative").code(0);
    let rounds: i64 = if full() { 100 } else { 12 };
    for round in 0..rounds {
        let now = round * 3_700;
        let caller = start(world, &format!("{TOKEN} --wait 1s"), &clock(now));
        let pause = Duration::from_micros(500 * u64::try_from(dice.below(80)).unwrap());
        std::thread::sleep(pause);
        for helper in helpers_of(world) {
            kill(helper);
        }
        finish(caller);
        age_locks(world);
        let token = run_at(world, TOKEN, now).code(0).out;
        land(world);
        assert_eq!(login(world)["claudeAiOauth"]["accessToken"], token.trim());
        // Killed between its commit and its end it leaves locks, which are stale by now and keep nobody out.
        for lock in locks(world) {
            let touched = std::fs::metadata(&lock).unwrap().modified().unwrap();
            assert!(touched.elapsed().unwrap() > STALE, "{}", lock.display());
        }
    }
    let ledger = stage.server.ledger();
    assert_eq!(ledger.reuses, 0, "{ledger:#?}");
    assert!(
        ledger.posts(GrantType::RefreshToken) >= rounds.unsigned_abs(),
        "{ledger:#?}"
    );
}

#[test]
fn a_borrowed_login_that_has_ended_is_told_with_its_programs_command() {
    let stage = stage(ServerConfig::default());
    let world = &stage.world;
    world.run("tokensink external set claude borrowed").code(0);
    let said = world.run(TOKEN).code(3);
    assert!(said.err.contains("fix: claude -p ok"), "{said:#?}");
    assert!(
        said.err.contains("tokensink external set claude cooperative"),
        "{said:#?}"
    );
    world.run("tokensink renew").code(0);
    stage.assert_refreshes(0);
    log_in(&stage, 3_600);
    assert_eq!(
        world.run(TOKEN).code(0).out.trim(),
        login(world)["claudeAiOauth"]["accessToken"]
    );
}

#[test]
fn what_cannot_be_wired_is_told_without_a_circle() {
    let world = World::new();
    let said = world.run("tokensink external wire gemini").code(2);
    assert!(said.err.contains("has no hook"), "{said:#?}");
    assert!(!said.err.contains("owned"), "{said:#?}");
    let said = world.run("tokensink external wire claude").code(2);
    assert!(said.err.contains("external set claude owned"), "{said:#?}");
}

#[test]
fn a_program_is_wired_to_us_and_released() {
    let stage = stage(ServerConfig::default());
    let world = &stage.world;
    let settings = "{\n  \"model\": \"opus\"\n}\n";
    world.write(".claude/settings.json", settings);
    let said = world.run("tokensink external set claude owned").code(2);
    assert!(
        said.err
            .contains("fix: tokensink external set claude owned --yes"),
        "{said:#?}"
    );
    world.run("tokensink external set claude owned --yes").code(0);
    assert!(login(world).get("claudeAiOauth").is_none());

    let text = || std::fs::read_to_string(world.path(".claude/settings.json")).unwrap();
    let said = world.run("tokensink external wire claude --dry-run").code(0);
    assert!(
        said.out.contains("+") && said.out.contains("apiKeyHelper"),
        "{said:#?}"
    );
    assert_eq!(text(), settings);
    let said = world.run("tokensink external wire claude").code(0);
    assert!(said.err.contains("claude is not on PATH"), "{said:#?}");
    let wired: Value = serde_json::from_str(&text()).unwrap();
    assert_eq!(wired["model"], "opus");
    // As Claude Code runs it, in a shell.
    let hook = wired["apiKeyHelper"].as_str().unwrap();
    let printed = std::process::Command::new("/bin/sh")
        .args(["-c", hook])
        .env_clear()
        .env("HOME", world.path(""))
        .output()
        .unwrap();
    stage.assert_works(&String::from_utf8(printed.stdout).unwrap());

    let program = world.write(
        "cli/claude",
        "#!/bin/sh\necho '{\"loggedIn\": true, \"authMethod\": \"api_key_helper\"}'\n",
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", world.path("cli").display());
    let said = world
        .run_with("tokensink external wire claude --json", None, &[("PATH", &path)])
        .code(0)
        .json();
    assert_eq!(said["changed"], false);
    assert_eq!(said["hookFails"], Value::Null);
    assert_eq!(said["proof"]["exitCode"], 0);
    assert_eq!(
        said["proof"]["output"],
        "loggedIn true, authMethod api_key_helper"
    );

    world.run("tokensink external unwire claude").code(0);
    assert_eq!(text(), settings);
    world.run("tokensink external unwire claude").code(2);
    world.run("tokensink external set claude cooperative").code(0);
    stage.assert_works(login(world)["claudeAiOauth"]["accessToken"].as_str().unwrap());
}

#[test]
fn codex_is_refreshed_in_its_own_file_and_wired_with_its_settings_kept() {
    let stage = stage(ServerConfig::default());
    let world = &stage.world;
    let definition = format!(
        "id = \"openai-codex\"\n[[auth]]\nid = \"oauth\"\nclient_id = \"rig\"\ntoken_endpoint = \"{}\"\n",
        stage.server.url("/oauth/token")
    );
    world.write(".openclaw/tokensink/providers/openai-codex.toml", &definition);
    let issued = stage.server.issue("bob", &["openid", "offline_access"]).unwrap();
    let login = json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": issued.access_token.expose(),
            "access_token": issued.access_token.expose(),
            "refresh_token": issued.refresh_token.unwrap().expose(),
            "account_id": "acct-bob",
        },
        "last_refresh": "2026-01-01T00:00:00Z",
    });
    // Behind a link, as some people keep it.
    let file = world.write("dotfiles/codex-auth.json", &format!("{login:#}"));
    std::fs::create_dir_all(world.path(".codex")).unwrap();
    std::os::unix::fs::symlink(&file, world.path(".codex/auth.json")).unwrap();
    world.run("tokensink external set codex cooperative").code(0);
    let line = "tokensink token --provider openai-codex";
    assert_eq!(
        world.run(line).code(0).out.trim(),
        login["tokens"]["access_token"]
    );
    // An hour's token, fifty minutes on.
    let token = run_at(world, line, 50 * 60).code(0).out;
    stage.assert_refreshes(1);
    land(world);
    assert!(world.path(".codex/auth.json").is_symlink());
    let mut after: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(after["tokens"]["access_token"], token.trim());
    for name in ["id_token", "access_token", "refresh_token"] {
        after["tokens"][name] = login["tokens"][name].clone();
    }
    assert_ne!(after["last_refresh"], login["last_refresh"]);
    after["last_refresh"] = login["last_refresh"].clone();
    assert_eq!(after, login);

    let settings = "# mine\nmodel = \"gpt-5.1-codex\" # good\nmodel_provider = \"other\"\n";
    world.write(".codex/config.toml", settings);
    world.run("tokensink external set codex owned --yes").code(0);
    let text = || std::fs::read_to_string(world.path(".codex/config.toml")).unwrap();
    world.run("tokensink external wire codex").code(0);
    let wired: toml::Table = text().parse().unwrap();
    let provider = &wired["model_providers"]["tokensink"];
    assert_eq!(wired["model_provider"].as_str(), Some("tokensink"));
    assert_eq!(
        provider["http_headers"]["chatgpt-account-id"].as_str(),
        Some("acct-bob")
    );
    assert_eq!(
        provider["base_url"].as_str(),
        Some("https://chatgpt.com/backend-api/codex")
    );
    let args = provider["auth"]["args"].as_array().unwrap();
    let printed = std::process::Command::new(provider["auth"]["command"].as_str().unwrap())
        .args(args.iter().map(|word| word.as_str().unwrap()))
        .env_clear()
        .env("HOME", world.path(""))
        .env("TOKENSINK_CLOCK_OFFSET_SECONDS", (50 * 60).to_string())
        .output()
        .unwrap();
    stage.assert_works(&String::from_utf8(printed.stdout).unwrap());
    assert!(text().contains("# mine") && text().contains("# good"));
    world.run("tokensink external unwire codex").code(0);
    assert_eq!(text(), settings);
}
