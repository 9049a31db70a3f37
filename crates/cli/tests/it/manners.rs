//! What every command owes its caller: clean streams, exit codes, help, completions and manual pages.

use std::io::Read as _;

use crate::world::World;

#[test]
fn help_and_version_go_to_standard_output() {
    let world = World::new();
    for name in ["tokensink", "openclaw", "openclaw-cn", "clawdbot"] {
        let said = world.run(&format!("{name} --help")).code(0);
        assert!(
            said.out.contains(&format!("Usage: {name} [OPTIONS] <COMMAND>")),
            "{said:#?}"
        );
        assert_eq!(said.err, "");
        let said = world.run(&format!("{name} --version")).code(0);
        let whose = if name == "tokensink" { "" } else { " (tokensink)" };
        assert_eq!(said.out, format!("{name} {}{whose}\n", env!("CARGO_PKG_VERSION")));
    }
    let said = world.run("tokensink").code(2);
    assert!(said.err.contains("Usage: "), "{said:#?}");
}

#[test]
fn looking_creates_nothing() {
    let world = World::new();
    for line in [
        "tokensink models status",
        "tokensink models auth list",
        "tokensink agents list",
        "tokensink channels list",
        "tokensink providers list",
        "tokensink renew",
        "tokensink token --provider anthropic",
    ] {
        world.run(line);
        assert!(!world.state("").exists(), "{line} made {:?}", world.files());
    }
}

#[test]
fn a_reader_that_goes_away_is_quiet() {
    let world = World::new();
    let mut child = world
        .command(&["tokensink", "providers", "list", "--json"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{err}");
    assert_eq!(err, "");
}

#[test]
fn a_full_disk_is_not() {
    let world = World::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = world
        .command(&["tokensink", "providers", "list"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        err.starts_with("error: standard output could not be written"),
        "{err}"
    );
}

#[test]
fn colours_obey_pipes_and_the_environment() {
    let world = World::new();
    let line = "tokensink models status";
    assert!(!world.run(line).out.contains('\u{1b}'));
    let forced = world.run_with(line, None, &[("CLICOLOR_FORCE", "1")]);
    assert!(forced.out.contains("\u{1b}["), "{forced:#?}");
    let forbidden = world.run_with(line, None, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]);
    assert!(!forbidden.out.contains('\u{1b}'), "{forbidden:#?}");
    assert!(world.on_terminal(line, &[]).out.contains("\u{1b}["));
}

#[test]
fn ids_complete_under_the_name_that_was_typed() {
    let world = World::new();
    world.store_key("openrouter");
    let before = world.files();
    let cases = [
        (vec!["token", "--provider", "openr"], "openrouter"),
        (vec!["token", "--profile-id", ""], "openrouter:manual"),
        (vec!["models", "auth", "logout", ""], "openrouter:manual"),
        (
            vec!["models", "auth", "login", "--method", "setup"],
            "setup-token",
        ),
        (vec!["models", "--agent", ""], "main"),
        (vec!["models", "auth", ""], "paste-token"),
    ];
    for (words, want) in cases {
        let index = words.len().to_string();
        let mut line = vec!["openclaw", "--", "openclaw"];
        line.extend(words);
        let mut command = world.command(&line);
        command
            .env("TOKENSINK_COMPLETE", "zsh")
            .env("_CLAP_COMPLETE_INDEX", &index)
            .env("_CLAP_IFS", "\n");
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        let found = said.replace("\\:", ":");
        assert!(found.contains(want), "{line:?}: {said}");
    }
    assert_eq!(world.files(), before);
}

#[test]
fn bash_completes_ids_with_colons() {
    let world = World::new();
    for name in ["work", "home"] {
        let line = format!("tokensink models auth paste-api-key --provider groq --profile-id groq:{name}");
        world.feed(&line, crate::world::API_KEY).code(0);
    }
    // What bash makes of a line that ends where the bar is, and what it must be offered.
    let cases = [
        ("(openclaw token --profile-id gr)", 3, "groq:home groq:work"),
        ("(openclaw token --profile-id groq :)", 4, "home work"),
        ("(openclaw token --profile-id groq : w)", 5, "work"),
        ("(openclaw models auth log)", 3, "login logout"),
    ];
    let script = world.run("openclaw completions bash").code(0).out;
    let script = world.write("completions.bash", &script);
    let bin = world.binary("openclaw").parent().unwrap().to_owned();
    for (words, index, want) in cases {
        let program = format!(
            "source {}; COMP_WORDS={words}; COMP_CWORD={index}; COMP_TYPE=9; _complete_openclaw; echo \"${{COMPREPLY[*]}}\"",
            script.display()
        );
        let output = std::process::Command::new("bash")
            .args(["--norc", "-c", &program])
            .env_clear()
            .env("HOME", world.path(""))
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let mut offered: Vec<&str> = said.split_whitespace().collect();
        offered.sort_unstable();
        assert_eq!(
            offered.join(" "),
            want,
            "{words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn completion_scripts_call_the_command_by_its_name() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = world.run(&format!("clawdbot completions {shell}")).code(0);
        assert!(said.out.contains("TOKENSINK_COMPLETE"), "{said:#?}");
        assert!(said.out.contains("clawdbot"), "{said:#?}");
        assert!(!said.out.contains("/clawdbot"), "{said:#?}");
    }
}

#[test]
fn every_shown_command_has_a_manual_page() {
    let world = World::new();
    let said = world.run("tokensink man --out pages/man1").code(0);
    for page in [
        "tokensink.1",
        "tokensink-token.1",
        "tokensink-models-auth-login.1",
    ] {
        let text = std::fs::read_to_string(world.path("pages/man1").join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}: {text}");
    }
    assert!(!world.path("pages/man1/tokensink-__flight.1").exists());
    assert!(said.out.contains(" pages in "), "{said:#?}");
}

#[test]
fn a_provider_file_is_checked_with_its_line() {
    let world = World::new();
    world.write(
        "rig.toml",
        "id = \"rig\"\nname = \"Rig\"\nbilling = \"free beer\"\n",
    );
    let said = world.run("tokensink providers check rig.toml").code(1);
    assert!(said.out.contains("rig.toml:3:"), "{said:#?}");
    assert!(said.out.contains("subscription"), "{said:#?}");
    let value = world
        .run("tokensink providers check rig.toml --json")
        .code(1)
        .json();
    assert_eq!(value["ok"], false);
    assert_eq!(value["problems"][0]["line"], 3);
    let said = world.run("tokensink providers check missing.toml").code(2);
    assert!(said.err.contains("missing.toml could not be read"), "{said:#?}");
}

#[test]
fn providers_are_listed_and_shown() {
    let world = World::new();
    let listed = world.run("tokensink providers list --json").code(0).json();
    let ids: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["id"].as_str().unwrap())
        .collect();
    for id in ["anthropic", "openai-codex", "github-copilot"] {
        assert!(ids.contains(&id), "{ids:?}");
    }
    let shown = world.run("tokensink providers show openai-codex").code(0).out;
    assert!(shown.contains("auth.oauth.token_endpoint"), "{shown}");
    assert!(shown.contains("built in"), "{shown}");
    let said = world.run("tokensink providers show anthropi").code(2);
    assert!(said.err.contains("did you mean anthropic"), "{said:#?}");
}
