//! `onboard` and `configure` walked through on a terminal, and given up at every question.

use serde_json::Value;

use crate::real_logins::{assert_chatgpt_login, chatgpt};
use crate::support::guests;
use crate::world::{API_KEY, BROWSER, SETUP_TOKEN, Said, Session, World};

/// No colours, so that a text stands on the screen in one piece.
const PLAIN: (&str, &str) = ("NO_COLOR", "1");

const ESC: &str = "\u{1b}";
const CTRL_C: &str = "\u{3}";
const ENTER: &str = "\r";
const DOWN: &str = "\u{1b}[B";

/// Waits for each text, then presses the keys.
fn walk(session: &mut Session, dialogue: &[(&str, &str)]) {
    for (shown, keys) in dialogue {
        session.wait_for(shown);
        session.type_in(keys);
    }
}

fn walked(world: &World, line: &str, variables: &[(&str, &str)], dialogue: &[(&str, &str)]) -> Said {
    let variables: Vec<(&str, &str)> = std::iter::once(PLAIN).chain(variables.iter().copied()).collect();
    let mut session = world.session_with(line, &variables);
    walk(&mut session, dialogue);
    session.finish()
}

fn profiles(world: &World) -> Vec<String> {
    let list = world.run("tokensink models auth list --json").code(0).json();
    let ids = list["profiles"].as_array().unwrap().iter();
    ids.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_api_key() {
    let world = World::new();
    let key = format!("{API_KEY}\r");
    let said = walked(
        &world,
        "openclaw onboard",
        &[],
        &[
            ("Which provider?", "openr\r"),
            ("? OpenRouter API key", &key),
            ("Default model?", ENTER),
            ("Go ahead?", ENTER),
        ],
    )
    .code(0);
    assert!(!said.out.contains("canary"), "{said:?}");
    for part in [
        "Esc or Ctrl-C leaves everything as it was",
        "store what was typed (OpenRouter API key) -> openrouter:default",
        "make openrouter/auto the default model",
        "Auth profile: openrouter:default (openrouter/api_key, stored)",
        "Default model set to openrouter/auto",
        "openrouter:default  api_key  usable",
        "openclaw exec --provider openrouter -- <your program>",
    ] {
        assert!(said.out.contains(part), "no {part:?} in {}", said.out);
    }
    assert_eq!(
        world.run("tokensink token --provider openrouter").code(0).out,
        format!("{API_KEY}\n")
    );
    let model = world.run("tokensink models status --plain").code(0).out;
    assert_eq!(model, "openrouter/auto\n");
}

#[test]
fn a_setup_token_is_checked_where_it_is_typed() {
    let world = World::new();
    let token = format!("{SETUP_TOKEN}\r");
    let said = walked(
        &world,
        "openclaw onboard",
        &[],
        &[
            ("Which provider?", "anthr\r"),
            ("How to log in?", "setup\r"),
            ("Run `claude setup-token`", ""),
            ("? Setup-token of a Claude subscription", "sk-ant-oat01-short\r"),
            ("Token looks too short", ""),
            ("? Setup-token of a Claude subscription", &token),
            ("Default model?", "none\r"),
            ("not a promise of", ""),
            ("Go ahead?", "y\r"),
        ],
    )
    .code(0);
    assert!(!said.out.contains("canary"), "{said:?}");
    assert!(
        said.out
            .contains("export ANTHROPIC_AUTH_TOKEN=\"$(openclaw token --provider anthropic)\""),
        "{said:?}"
    );
    assert_eq!(profiles(&world), ["anthropic:default"]);
    assert!(!said.out.contains("Default model set"), "{said:?}");
}

#[test]
fn chatgpt_in_the_browser() {
    let stage = chatgpt();
    let said = walked(
        &stage.world,
        "openclaw onboard",
        &[("BROWSER", BROWSER)],
        &[
            ("Which provider?", "openai\r"),
            ("How to log in?", "in the browser\r"),
            ("Default model?", ENTER),
            (
                "log in: ChatGPT login in the browser -> openai-codex:<e-mail>",
                "",
            ),
            ("Go ahead?", ENTER),
            ("Your browser was opened", ""),
        ],
    )
    .code(0);
    for part in [
        "Auth profile: openai-codex:alice@example.com (openai-codex/oauth, stored)",
        "Default model set to openai-codex/gpt-5.1-codex",
        "openclaw renew",
        "openclaw external wire codex ",
    ] {
        assert!(said.out.contains(part), "no {part:?} in {}", said.out);
    }
    assert_chatgpt_login(&stage, "alice");
}

#[test]
fn keys_of_the_environment_are_taken_when_they_are_marked() {
    let world = World::new();
    let variables = [
        ("GROQ_API_KEY", "gsk-canary-0123456789"),
        ("XAI_API_KEY", "xai-canary-0123456789"),
    ];
    let keys = format!("{DOWN} \r");
    walked(
        &world,
        "tokensink onboard",
        &variables,
        &[
            ("Which are to be stored?", &keys),
            ("Log in to another provider?", ENTER),
            ("Default model?", ENTER),
            ("store XAI_API_KEY -> xai:default", ""),
            ("Go ahead?", ENTER),
        ],
    )
    .code(0);
    assert_eq!(profiles(&world), ["xai:default"]);
    // What is stored is not offered again.
    let said = walked(
        &world,
        "tokensink configure",
        &variables,
        &[
            ("Stored already: xai:default", ""),
            ("Which are to be stored?", ENTER),
            ("Log in to another provider?", ENTER),
        ],
    )
    .code(0);
    assert!(
        said.out.contains("GROQ_API_KEY") && !said.out.contains("XAI_API_KEY"),
        "{said:?}"
    );
    assert!(said.out.contains("No login was set up."), "{said:?}");
}

#[test]
fn a_second_login_takes_the_place_that_is_asked_for() {
    for (answer, want) in [
        ("y\r", ["openrouter:work", "openrouter:default"]),
        ("n\r", ["openrouter:default", "openrouter:work"]),
    ] {
        let world = World::new();
        let line = "tokensink onboard --non-interactive --accept-risk --openrouter-api-key -";
        world.feed(line, "sk-or-canary-first").code(0);
        let key = format!("{API_KEY}\r");
        walked(
            &world,
            "tokensink configure --auth-choice openrouter-api-key --profile-id openrouter:work",
            &[],
            &[
                ("? OpenRouter API key", &key),
                (
                    "Try the new login of openrouter before openrouter:default?",
                    answer,
                ),
                ("Go ahead?", ENTER),
            ],
        )
        .code(0);
        let order = world
            .run("tokensink models auth order get --provider openrouter --json")
            .code(0)
            .json();
        let known: Vec<Value> = want.iter().map(|id| Value::from(*id)).collect();
        // Configuring never changes the model, and an order that is in force already is not written.
        assert!(
            order["order"].is_null() || order["order"] == Value::from(known),
            "{order}"
        );
        let token = world
            .run("tokensink token --provider openrouter --json")
            .code(0)
            .json();
        assert_eq!(token["profileId"], want[0], "{token}");
    }
}

#[test]
fn a_service_of_the_users_own() {
    let world = World::new();
    let key = format!("{API_KEY}\r");
    walked(
        &world,
        "tokensink onboard",
        &[],
        &[
            ("Which provider?", "another\r"),
            ("Address of its API", "https://llm.example.com/v1\r"),
            ("Model that it serves", "my-model\r"),
            ("? API key", &key),
            ("define the provider at https://llm.example.com/v1", ""),
            ("Go ahead?", ENTER),
        ],
    )
    .code(0);
    assert_eq!(profiles(&world), ["custom-llm-example-com:default"]);
}

#[test]
fn logins_of_other_programs_are_proposed_with_their_modes() {
    let world = World::new();
    guests::claude(&world);
    guests::codex(&world);
    world.write(".clawdbot/clawdbot.json", "{}");
    let said = walked(
        &world,
        "tokensink onboard",
        &[],
        &[
            ("tokensink import openclaw --from", ""),
            ("Claude Code is logged in (max, its token ends in 3 hours)", ""),
            ("How to use the login of Claude Code?", ENTER),
            ("Codex CLI is logged in as alice@example.com", ""),
            ("How to use the login of Codex CLI?", "borrowed\r"),
            ("Log in to another provider?", ENTER),
            ("Default model?", "codex\r"),
            ("not a promise of", ""),
            (
                "use the login of Claude Code, cooperative -> anthropic:claude-cli",
                "",
            ),
            (
                "use the login of Codex CLI, borrowed -> openai-codex:codex-cli",
                "",
            ),
            ("make openai-codex/gpt-5.1-codex the default model", ""),
            ("Go ahead?", ENTER),
        ],
    )
    .code(0);
    assert!(
        said.out.contains("(cooperative suits this host)"),
        "nobody sits here: {said:?}"
    );
    assert_eq!(
        profiles(&world),
        ["anthropic:claude-cli", "openai-codex:codex-cli"]
    );
    let model = world.run("tokensink models status --plain").code(0).out;
    assert_eq!(model, "openai-codex/gpt-5.1-codex\n");
    // What was decided is not asked again; a login that stays where it is can be chosen by option.
    let said = walked(
        &world,
        "tokensink configure",
        &[],
        &[("Log in to another provider?", ENTER)],
    )
    .code(0);
    assert!(!said.out.contains("How to use the login"), "{said:?}");

    let world = World::new();
    guests::codex(&world);
    for keys in [ESC, CTRL_C] {
        let dialogue = [("How to use the login of Codex CLI?", keys)];
        let said = walked(
            &world,
            "tokensink configure --auth-choice codex-cli",
            &[],
            &dialogue,
        );
        assert!(said.code(1).out.contains("given up: nothing was changed"));
        assert_eq!(world.files(), []);
    }
    // Somebody who sits here runs the program, and that renews its login.
    let said = walked(
        &world,
        "tokensink configure --auth-choice codex-cli",
        &[("DISPLAY", ":0")],
        &[
            ("How to use the login of Codex CLI?", ENTER),
            ("Go ahead?", ENTER),
        ],
    );
    assert!(said.code(0).out.contains("(borrowed suits this host)"));
}

#[test]
fn a_login_moves_in_and_the_next_command_is_named() {
    let world = World::new();
    let file = guests::codex(&world);
    let said = walked(
        &world,
        "tokensink onboard",
        &[],
        &[
            ("How to use the login of Codex CLI?", "owned\r"),
            ("Log in to another provider?", ENTER),
            ("Default model?", ENTER),
            ("Codex CLI is signed out until it is wired", ""),
            ("Go ahead?", ENTER),
        ],
    )
    .code(0);
    assert!(
        said.out.contains("next: tokensink external wire codex"),
        "{said:?}"
    );
    assert_eq!(profiles(&world), ["openai-codex:default"]);
    let left = std::fs::read_to_string(file).unwrap_or_default();
    assert!(!left.contains("rt-canary"), "one place has the grant");
}

/// The questions of a login with a typed key, each with the keys that answer it.
const QUESTIONS: [(&str, &str); 5] = [
    ("Which provider?", "openai\r"),
    ("How to log in?", "api key\r"),
    ("? OpenAI API key", "sk-canary-typed\r"),
    ("Default model?", "\r"),
    ("Go ahead?", "\r"),
];

#[test]
fn giving_up_at_any_question_leaves_everything_as_it_was() {
    for stop in 0..QUESTIONS.len() {
        for keys in [ESC, CTRL_C] {
            let world = World::new();
            let mut dialogue = QUESTIONS[..=stop].to_vec();
            dialogue[stop].1 = keys;
            let said = walked(&world, "tokensink onboard", &[], &dialogue);
            assert!(failed(&said), "{stop} {keys:?}: {said:?}");
            assert!(
                said.out.contains("given up: nothing was changed"),
                "{stop} {keys:?}: {said:?}"
            );
            assert_eq!(world.files(), [], "{stop} {keys:?}");
        }
    }
    let world = World::new();
    let mut dialogue = QUESTIONS.to_vec();
    dialogue[4].1 = "n\r";
    let said = walked(&world, "tokensink onboard", &[], &dialogue).code(0);
    assert!(said.out.contains("Nothing was changed."), "{said:?}");
    assert_eq!(world.files(), []);
}

/// The shell that the terminal runs our command in gets the Ctrl-C too, and then has a code of its own.
fn failed(said: &Said) -> bool {
    matches!(said.code, 1 | 130)
}

#[test]
fn a_login_can_be_given_up_while_it_waits() {
    let waits = [
        ("openai-codex", "Paste the redirect URL"),
        ("openai-codex-device-code", "The code ends in"),
    ];
    for (choice, shown) in waits {
        let stage = chatgpt();
        let before = stage.world.files();
        let said = walked(
            &stage.world,
            &format!("tokensink configure --no-browser --auth-choice {choice}"),
            &[("GROQ_API_KEY", "gsk-canary-0123456789")],
            &[("Go ahead?", ENTER), (shown, CTRL_C)],
        );
        assert!(failed(&said), "{said:?}");
        assert!(said.out.contains("was given up; nothing was stored"), "{said:?}");
        assert_eq!(stage.world.files(), before, "{choice}");
    }
}

#[test]
fn a_dumb_terminal_gets_numbers_and_lines() {
    let world = World::new();
    let key = format!("{API_KEY}\r");
    let variables = [("TERM", "dumb"), ("GROQ_API_KEY", "gsk-canary-0123456789")];
    let said = walked(
        &world,
        "tokensink onboard",
        &variables,
        &[
            ("(Groq API key) (y/N): ", "y\r"),
            ("  2  Anthropic", ""),
            ("Number (Enter for 1): ", "99\r"),
            ("Type a number from 1 to", ""),
            ("Number (Enter for 1): ", "2\r"),
            ("  3  Anthropic API key (billed by use)", ""),
            ("Number (Enter for 1): ", "3\r"),
            ("Anthropic API key (not shown): ", &key),
            ("Number (Enter for 1): ", "3\r"),
            ("Go ahead? (Y/n): ", ENTER),
        ],
    )
    .code(0);
    assert!(
        !said.out.contains(ESC) && !said.out.contains("sk-or-v1-canary"),
        "{said:?}"
    );
    assert_eq!(profiles(&world), ["anthropic:default", "groq:default"]);
    for keys in ["\u{4}", CTRL_C] {
        let world = World::new();
        let said = walked(
            &world,
            "tokensink onboard",
            &[("TERM", "dumb")],
            &[("Number (Enter for 1): ", keys)],
        );
        assert!(
            failed(&said) && said.out.contains("given up: nothing was changed"),
            "{said:?}"
        );
        assert_eq!(world.files(), []);
    }
}

#[test]
fn the_last_lines_of_json_are_one_object() {
    let world = World::new();
    let key = format!("{API_KEY}\r");
    let said = walked(
        &world,
        "tokensink configure --auth-choice groq-api-key --json",
        &[],
        &[("? Groq API key", &key), ("Go ahead?", ENTER)],
    )
    .code(0);
    let at = said.out.find("{\r\n  \"ok\"").unwrap();
    let value: Value = serde_json::from_str(&said.out[at..]).unwrap();
    assert_eq!(value["profiles"][0]["id"], "groq:default");
}

#[test]
fn a_new_agent_is_logged_in_at_once_where_that_is_wanted() {
    let world = World::new();
    let key = format!("{API_KEY}\r");
    let said = walked(
        &world,
        "openclaw agents add",
        &[],
        &[
            ("Name of the agent", "Work\r"),
            ("Log in for this agent now?", "y\r"),
            ("Agent: work", ""),
            ("Logins of agent work.", ""),
            ("Which provider?", "groq\r"),
            ("? Groq API key", &key),
            ("Go ahead?", ENTER),
        ],
    )
    .code(0);
    assert!(said.out.contains("Auth profile: groq:default"), "{said:?}");
    let list = world
        .run("tokensink models auth --agent work list --json")
        .code(0)
        .json();
    assert_eq!(list["profiles"][0]["id"], "groq:default", "{list}");
    assert!(!world.state("agents/main/agent/auth-profiles.json").exists());

    let said = walked(
        &world,
        "openclaw agents add play",
        &[],
        &[("Log in for this agent now?", ENTER)],
    )
    .code(0);
    assert!(
        said.out.contains("openclaw models auth login --agent play"),
        "{said:?}"
    );
    let said = walked(
        &world,
        "openclaw agents add none",
        &[],
        &[("Log in for this agent now?", ESC)],
    );
    assert_ne!(said.code, 0);
    let said = walked(
        &world,
        "openclaw agents add left",
        &[],
        &[("Log in for this agent now?", "y\r"), ("Which provider?", ESC)],
    );
    assert!(said.code(0).out.contains("given up: agent left is there"));
    let agents = world.run("tokensink agents list --json").code(0).json();
    let ids: Vec<&str> = agents
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|agent| agent["id"].as_str())
        .collect();
    assert_eq!(
        ids,
        ["main", "work", "play", "left"],
        "none was given up before it was there"
    );
}
