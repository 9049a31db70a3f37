use std::time::Duration;

use clap::error::ErrorKind;

use super::*;

const SEEDS: &str = include_str!("../../tests/data/seed-commands.txt");

fn try_parse(line: &str) -> Result<Cli, clap::Error> {
    let mut words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
    let name = Name::of(words.first().map(OsString::as_os_str));
    words[0] = name.as_str().into();
    parse(name, &words, Vec::new)
}

fn parsed(line: &str) -> Command {
    match try_parse(line) {
        Ok(cli) => cli.command,
        Err(error) => panic!("{line}: {error}"),
    }
}

fn built_in_keys() -> Vec<KeyOption> {
    onboard::key_options(&tokensink_sink::Registry::builtin())
}

#[test]
fn the_definitions_hold() {
    grammar(Name::OWN, &built_in_keys()).debug_assert();
}

#[test]
fn every_command_line_of_the_seeds_parses_under_every_name() {
    let lines: Vec<&str> = SEEDS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split('|').nth(1).unwrap().trim())
        .collect();
    assert_eq!(lines.len(), 13);
    for line in lines {
        let line = line.replace("<id>", "anthropic");
        let (_, arguments) = line.split_once(' ').unwrap();
        for name in Name::ALL {
            parsed(&format!("{} {arguments}", name.as_str()));
        }
    }
}

#[test]
fn what_works() {
    let lines = [
        "tokensink token --provider openai-codex",
        "tokensink token --profile-id anthropic:work --agent work --min-ttl 10m --json",
        "tokensink exec --provider anthropic -- sh -c env",
        "tokensink exec --provider anthropic --agent work -- claude -p --model x",
        "tokensink renew",
        "tokensink renew --agent work --json",
        "tokensink -v renew",
        "tokensink renew -vv",
        "tokensink secrets audit --check --allow-exec --json",
        "tokensink secrets configure --agent work --skip-provider-setup --apply",
        "tokensink secrets configure --providers-only",
        "tokensink secrets apply --from plan.json --dry-run --allow-exec --json",
        "tokensink secrets reload",
        "tokensink models",
        "tokensink models --json",
        "tokensink models --status-plain",
        "tokensink models --agent work",
        "tokensink models status --json --check --all --agent work",
        "tokensink models status --plain --check",
        "tokensink models list --all --provider zai --plain",
        "tokensink models set anthropic/claude-opus-4-6",
        "tokensink models set-image openai/gpt-5.5 --agent work",
        "tokensink models aliases list --json",
        "tokensink models aliases add opus anthropic/claude-opus-4-6",
        "tokensink models aliases remove opus",
        "tokensink models fallbacks list",
        "tokensink models fallbacks add openai/gpt-5.5",
        "tokensink models fallbacks remove openai/gpt-5.5",
        "tokensink models fallbacks clear",
        "tokensink models image-fallbacks list --json",
        "tokensink models image-fallbacks add openai/gpt-5.5",
        "tokensink models auth login",
        "tokensink models auth login --provider openai-codex --method oauth --profile-id openai-codex:work --agent work \
         --set-default --device-code --no-browser",
        "tokensink models auth --agent work login --provider anthropic",
        "tokensink models auth --agent work setup-token --yes",
        "tokensink models auth setup-token --profile-id anthropic:x --expires-in 365d --from-file -",
        "tokensink models auth paste-token --provider anthropic --profile-id a:b --expires-in 1h30m --from-file /t",
        "tokensink models auth paste-api-key --provider openrouter --from-file key.txt --agent work",
        "tokensink models auth add --agent work",
        "tokensink models auth list --provider anthropic --json",
        "tokensink models auth logout anthropic:work --revoke --yes",
        "tokensink models auth retry anthropic:work",
        "tokensink models auth login-github-copilot",
        "tokensink models auth order get --provider anthropic --json --agent work",
        "tokensink models auth order set --provider anthropic anthropic:a anthropic:b",
        "tokensink models auth order set --provider anthropic --agent work anthropic:a",
        "tokensink models auth order clear --provider anthropic",
        "tokensink channels list --no-usage --json",
        "tokensink agents add",
        "tokensink agents add work --workspace /w --agent-dir /a --model x/y --non-interactive --json",
        "tokensink agents add work --bind telegram --bind whatsapp:biz",
        "tokensink agents list --json",
        "tokensink agents list --bindings --json",
        "tokensink agents bind --bind telegram",
        "tokensink agents bind --agent work --bind telegram:* --bind slack --json",
        "tokensink agents unbind --agent work --bind telegram:biz --json",
        "tokensink agents unbind --all",
        "tokensink agents bindings --agent work --json",
        "tokensink route --channel telegram --account biz --peer group:-100 --guild g --team t --json",
        "tokensink agents delete work --force --keep-files --json",
        "tokensink providers list --json",
        "tokensink providers show anthropic",
        "tokensink providers check rig.toml --json",
        "tokensink doctor",
        "tokensink doctor --fix --yes --net --json --agent work",
        "tokensink doctor --yes",
        "tokensink doctor --repair --non-interactive",
        "tokensink doctor --duplicates --json",
        "tokensink completions bash",
        "tokensink man --out /tmp/man",
        "tokensink __flight --agent main --whatever=1 x",
    ];
    for line in lines {
        parsed(line);
    }
}

#[test]
fn what_does_not_work() {
    let lines = [
        ("tokensink token", ErrorKind::MissingRequiredArgument),
        ("tokensink route", ErrorKind::MissingRequiredArgument),
        ("tokensink agents bind", ErrorKind::MissingRequiredArgument),
        ("tokensink agents unbind", ErrorKind::MissingRequiredArgument),
        (
            "tokensink agents unbind --all --bind telegram",
            ErrorKind::ArgumentConflict,
        ),
        (
            "tokensink token --provider a --profile-id a:b",
            ErrorKind::ArgumentConflict,
        ),
        (
            "tokensink token --provider a --min-ttl soon",
            ErrorKind::ValueValidation,
        ),
        ("tokensink exec --provider a", ErrorKind::MissingRequiredArgument),
        ("tokensink exec --provider a sh", ErrorKind::UnknownArgument),
        (
            "tokensink models status --json --plain",
            ErrorKind::ArgumentConflict,
        ),
        (
            "tokensink models list --json --plain",
            ErrorKind::ArgumentConflict,
        ),
        ("tokensink models --json --plain", ErrorKind::ArgumentConflict),
        (
            "tokensink models status --probe-timeout 0",
            ErrorKind::ValueValidation,
        ),
        (
            "tokensink models status --probe --probe-concurrency x",
            ErrorKind::ValueValidation,
        ),
        (
            "tokensink models auth paste-token",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "tokensink models auth paste-token --provider a --token x",
            ErrorKind::UnknownArgument,
        ),
        (
            "tokensink models auth paste-token --provider a --expires-in foo",
            ErrorKind::ValueValidation,
        ),
        (
            "tokensink models auth paste-api-key --provider a --api-key x",
            ErrorKind::UnknownArgument,
        ),
        (
            "tokensink models auth order set --provider a",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "tokensink models auth order",
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
        ),
        ("tokensink doctor --duplicates --fix", ErrorKind::ArgumentConflict),
        ("tokensink agents rename", ErrorKind::InvalidSubcommand),
        (
            "tokensink agents add work --channel telegram",
            ErrorKind::UnknownArgument,
        ),
        ("tokensink completions tcsh", ErrorKind::InvalidValue),
    ];
    for (line, want) in lines {
        let error = try_parse(line).map(|cli| cli.command).unwrap_err();
        assert_eq!(error.kind(), want, "{line}: {error}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn the_agent_may_stand_at_any_level() {
    let cases = [
        ("models auth login", None),
        ("models auth login --agent b", Some("b")),
        ("models auth --agent a login", Some("a")),
        ("models --agent a auth login", Some("a")),
        ("models auth --agent a login --agent b", Some("b")),
        ("models status --agent a", Some("a")),
        ("models --agent a", Some("a")),
        ("models auth order set --provider p --agent a p:x", Some("a")),
        ("models set m --agent a", Some("a")),
    ];
    for (arguments, want) in cases {
        let Command::Models(models) = parsed(&format!("openclaw {arguments}")) else {
            panic!("{arguments}")
        };
        assert_eq!(models.agent.as_deref(), want, "{arguments}");
    }
}

#[test]
fn durations_have_their_own_default_unit() {
    let Command::Token(token) = parsed("tokensink token --provider a --min-ttl 90") else {
        panic!()
    };
    assert_eq!(token.lease.min_ttl, Some(Duration::from_secs(90)));
    let Command::Models(models) = parsed("tokensink models auth paste-token --provider a --expires-in 90")
    else {
        panic!()
    };
    let Some(ModelsCommand::Auth(AuthCommand::PasteToken(paste))) = models.command else {
        panic!()
    };
    assert_eq!(paste.expires_in, Some(Duration::from_secs(90 * 86_400)));
}

#[test]
fn help_carries_the_name() {
    for name in Name::ALL {
        let args = [name.as_str(), "models", "auth", "--help"].map(OsString::from);
        let error = parse(name, &args, Vec::new).map(|cli| cli.command).unwrap_err();
        assert_eq!(error.exit_code(), 0);
        let usage = format!("Usage: {} models auth [OPTIONS] <COMMAND>", name.as_str());
        assert!(error.to_string().contains(&usage), "{error}");
    }
}

#[test]
fn the_frequent_grammar_says_the_same_as_the_whole() {
    let taken = [
        "tokensink token --provider a --json -v",
        "tokensink token --profile-id a:b --agent work --min-ttl 10m",
        "tokensink exec --provider a -vv -- sh -c env",
        "tokensink __flight main a:b usual --x",
    ];
    let left = [
        "tokensink token",
        "tokensink token --help",
        "tokensink token --provider a --min-ttl soon",
        "tokensink exec --provider a",
        "tokensink -v token --provider a",
        "tokensink renew",
        "tokensink",
    ];
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    for line in taken {
        let matches = grammar(Name::OWN, &[]).try_get_matches_from(words(line)).unwrap();
        let whole = Cli::from_arg_matches(&matches).unwrap();
        let frequent = parse_frequent(&words(line)).unwrap();
        assert_eq!(format!("{frequent:?}"), format!("{whole:?}"), "{line}");
    }
    for line in left {
        assert!(parse_frequent(&words(line)).is_none(), "{line}");
    }
}

/// The help of every command that is shown, as people read it.
#[test]
fn help_texts() {
    let mut all = String::new();
    let mut grammar = grammar(Name::OWN, &built_in_keys()).term_width(80);
    grammar.build();
    collect(&mut grammar, &mut all);
    insta::assert_snapshot!(all);
}

fn collect(command: &mut clap::Command, all: &mut String) {
    all.push_str(&command.render_help().to_string());
    all.push_str("\n----\n\n");
    for below in command.get_subcommands_mut().filter(|below| !below.is_hide_set()) {
        collect(below, all);
    }
}
