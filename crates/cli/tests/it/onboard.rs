//! `onboard` and `configure` without questions: every auth choice leaves the profile that the page says, a second run
//! changes nothing, and no secret is taken as an argument.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::Value;

use crate::support::guests;
use crate::world::{API_KEY, SETUP_TOKEN, Said, World};

const PAGE: &str = include_str!("../../../../docs/onboard.md");

/// A row of the page's table.
struct Row {
    words: Vec<String>,
    method: String,
    option: Option<String>,
    leaves: String,
}

/// The rows that the definitions give.
fn defined(world: &World) -> Vec<Row> {
    let providers = world.run("tokensink providers list --json").code(0).json();
    let mut rows = Vec::new();
    for provider in providers.as_array().unwrap() {
        for method in provider["methods"].as_array().unwrap() {
            for choice in method["choices"].as_array().unwrap() {
                let deprecated = choice["deprecated"].as_array().unwrap().iter();
                rows.push(Row {
                    words: std::iter::once(&choice["id"])
                        .chain(deprecated)
                        .map(text)
                        .collect(),
                    method: format!("{} / {}", text(&provider["id"]), text(&method["id"])),
                    option: choice["option"].as_str().map(str::to_owned),
                    leaves: text(&choice["leaves"]),
                });
            }
        }
    }
    rows
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn the_page_has_the_choices_of_the_definitions() {
    let mut want = String::new();
    for row in defined(&World::new()) {
        let words: Vec<String> = row.words.iter().map(|word| format!("`{word}`")).collect();
        let option = row.option.map_or("–".to_owned(), |option| format!("`{option}`"));
        want += &format!(
            "| {} | {} | {option} | `{}` |\n",
            words.join(", "),
            row.method,
            row.leaves
        );
    }
    let (_, rest) = PAGE.split_once("<!-- choices -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- end -->").unwrap();
    let rows = table.splitn(3, '\n').nth(2).unwrap();
    assert_eq!(rows, want, "docs/onboard.md is behind the definitions");
}

/// Every file below the state dir with its text and when it was written; directories are left out, because locks come
/// and go in them.
fn files(world: &World) -> BTreeMap<PathBuf, (String, SystemTime)> {
    let found = world.files().into_iter();
    found
        .map(|(path, text)| {
            let written = std::fs::metadata(&path).unwrap().modified().unwrap();
            (path, (text, written))
        })
        .collect()
}

fn onboard(world: &World, rest: &str, input: &str) -> Said {
    world.feed(
        &format!("tokensink onboard --non-interactive --accept-risk --json {rest}"),
        input,
    )
}

#[test]
fn each_choice_with_a_secret_leaves_the_profile_of_the_page_and_repeating_it_changes_nothing() {
    let rows = defined(&World::new());
    let mut tried = 0;
    for row in &rows {
        let Some(option) = &row.option else { continue };
        let secret = if option == "--token" { SETUP_TOKEN } else { API_KEY };
        for word in &row.words {
            let world = World::new();
            let arguments = format!("--auth-choice {word} {option} -");
            let said = onboard(&world, &arguments, secret).code(0).json();
            assert_eq!(said["profiles"][0]["id"], row.leaves, "{word}");
            assert_eq!(said["profiles"][0]["change"], "stored", "{word}");
            assert_eq!(said["authChoice"], row.words[0]);
            let (provider, _) = row.method.split_once(" / ").unwrap();
            let lease = world
                .run(&format!(
                    "tokensink models auth list --provider {provider} --json"
                ))
                .code(0)
                .json();
            assert_eq!(lease["profiles"][0]["id"], row.leaves, "{word}");
            assert_eq!(lease["profiles"].as_array().unwrap().len(), 1, "{word}");

            tried += 1;
            if *word != row.words[0] {
                continue;
            }
            let before = files(&world);
            let again = onboard(&world, &arguments, secret).code(0).json();
            assert_eq!(again["profiles"][0]["change"], "unchanged", "{word}");
            let from_store = onboard(&world, &format!("--auth-choice {word}"), "")
                .code(0)
                .json();
            assert_eq!(from_store["profiles"][0]["source"], "profile", "{word}");
            assert_eq!(from_store["profiles"][0]["id"], row.leaves, "{word}");
            assert_eq!(files(&world), before, "{word}");
        }
    }
    assert!(tried > 30, "{tried}");
}

#[test]
fn choices_that_need_somebody_refuse_and_name_what_does_not() {
    let world = World::new();
    for row in defined(&world).iter().filter(|row| row.option.is_none()) {
        let said = onboard(&world, &format!("--auth-choice {}", row.words[0]), "").code(1);
        let error = &said.json()["error"];
        let external = row.leaves.ends_with("-cli");
        let want = if external {
            "no_external_login"
        } else {
            "oauth_needs_terminal"
        };
        assert_eq!(error["code"], want, "{}", row.words[0]);
        if !external {
            assert!(
                text(&error["message"]).starts_with("OAuth requires interactive mode."),
                "{error}"
            );
        }
        assert!(
            error["fix"]
                .as_str()
                .is_some_and(|fix| fix.contains("--auth-choice")),
            "{error}"
        );
    }
    assert_eq!(world.files(), []);
    let said = onboard(&world, "--auth-choice anthropic-cli", "");
    assert!(
        said.err
            .contains("claude auth login, or --auth-choice setup-token --token -"),
        "{said:?}"
    );
}

#[test]
fn each_choice_that_uses_another_programs_login_leaves_the_profile_of_the_page() {
    let rows = defined(&World::new());
    let mut tried = 0;
    for row in rows.iter().filter(|row| row.leaves.ends_with("-cli")) {
        for word in &row.words {
            let world = World::new();
            let files_of_others = [guests::claude(&world), guests::codex(&world)];
            let texts = files_of_others
                .each_ref()
                .map(|path| std::fs::read(path).unwrap());
            let said = onboard(&world, &format!("--auth-choice {word}"), "")
                .code(0)
                .json();
            assert_eq!(said["profiles"][0]["id"], row.leaves, "{word}");
            assert_eq!(said["profiles"][0]["change"], "stored", "{word}");
            assert!(
                text(&said["profiles"][0]["source"]).ends_with(", cooperative"),
                "{said}"
            );
            let list = world.run("tokensink models auth list --json").code(0).json();
            assert_eq!(list["profiles"][0]["id"], row.leaves, "{list}");
            assert_eq!(list["profiles"].as_array().unwrap().len(), 1, "{list}");

            let before = files(&world);
            let again = onboard(&world, &format!("--auth-choice {word}"), "")
                .code(0)
                .json();
            assert_eq!(again["profiles"][0]["change"], "unchanged", "{word}");
            assert_eq!(files(&world), before, "{word}");
            let said = onboard(
                &world,
                &format!("--auth-choice {word} --external-mode borrowed"),
                "",
            );
            assert_eq!(said.code(0).json()["profiles"][0]["change"], "updated", "{word}");
            for (path, text) in files_of_others.iter().zip(&texts) {
                assert_eq!(&std::fs::read(path).unwrap(), text, "nothing was written there");
            }
            let ours: String = world.files().into_iter().map(|(_, text)| text).collect();
            assert!(!ours.contains("canary"), "nothing of the login was copied");
            tried += 1;
        }
    }
    assert_eq!(tried, 3, "claude-cli, anthropic-cli, codex-cli");
}

#[test]
fn what_is_wrong_with_the_command_changes_nothing() {
    let world = World::new();
    let cases = [
        (
            "--auth-choice apiKey",
            1,
            "Missing --anthropic-api-key (or ANTHROPIC_API_KEY in env, or existing anthropic API-key profile).",
        ),
        (
            "--auth-choice token",
            1,
            "Missing --token (or ANTHROPIC_OAUTH_TOKEN in env, or existing anthropic token profile).",
        ),
        (
            "--auth-choice apiKey --anthropic-api-key -",
            2,
            "standard input is empty",
        ),
        (
            "--auth-choice apiKey --anthropic-api-key file:nowhere",
            2,
            "nowhere could not be read",
        ),
        (
            "--auth-choice apiKey --anthropic-api-key env:NOT_SET",
            1,
            "the environment variable NOT_SET is not set",
        ),
        (
            "--auth-choice apiKey --openai-api-key -",
            2,
            "--openai-api-key does not belong to auth choice apiKey",
        ),
        (
            "--auth-choice setup-token --token file:short",
            2,
            "Token looks too short",
        ),
        (
            "--auth-choice apiKey --anthropic-api-key file:setup",
            2,
            "is a token of a subscription, not an API key",
        ),
        (
            "--auth-choice apiKey --anthropic-api-key file:key --token-profile-id openai:x",
            2,
            "belongs to provider openai",
        ),
        (
            "--auth-choice apiKey --anthropic-api-key file:key --secret-input-mode ref",
            1,
            "stores a reference to an environment variable",
        ),
        (
            "--auth-choice xiaomi-api-key",
            2,
            "tokensink/providers/xiaomi.toml",
        ),
        ("--auth-choice openai-code", 2, "did you mean openai-codex"),
        (
            "--auth-choice token --token-provider openai --token file:setup",
            2,
            "openai takes no pasted tokens",
        ),
        (
            "--anthropic-api-key - --openai-api-key -",
            2,
            "needs --auth-choice",
        ),
        ("--agent nobody --auth-choice skip", 2, "there is no agent"),
        (
            "--auth-choice custom-api-key --custom-api-key file:key",
            2,
            "Missing --custom-base-url.",
        ),
        (
            "--auth-choice custom-api-key --custom-base-url http://llm.example --custom-model-id m --custom-api-key file:key",
            2,
            "plain http",
        ),
        (
            "--auth-choice custom-api-key --custom-base-url https://llm.example --custom-model-id m",
            1,
            "Missing --custom-api-key (or CUSTOM_LLM_EXAMPLE_API_KEY in env).",
        ),
        (
            "--auth-choice custom-api-key --custom-base-url https://llm.example --custom-model-id m --custom-provider-id openai --custom-api-key file:key",
            2,
            "openai is a built-in provider",
        ),
    ];
    world.write("short", "sk-ant-oat01-short");
    world.write("setup", SETUP_TOKEN);
    world.write("key", API_KEY);
    for (arguments, code, words) in cases {
        let said = onboard(&world, arguments, "").code(code);
        assert!(
            text(&said.json()["error"]["message"]).contains(words),
            "{arguments}: {said:?}"
        );
        assert!(
            !said.err.contains(API_KEY) && !said.err.contains(SETUP_TOKEN),
            "{said:?}"
        );
    }
    let unasked = world
        .run("tokensink onboard --non-interactive --auth-choice apiKey")
        .code(1);
    assert!(
        unasked.err.contains("requires explicit risk acknowledgement"),
        "{unasked:?}"
    );
    let nobody = world.run("tokensink configure").code(2);
    assert!(
        nobody
            .err
            .contains("--non-interactive --accept-risk --auth-choice"),
        "{nobody:?}"
    );
    assert_eq!(world.files(), []);
}

#[test]
fn a_bare_secret_is_refused_and_never_shown() {
    let world = World::new();
    let values = [
        API_KEY,
        SETUP_TOKEN,
        "-canary",
        "file:",
        "env:",
        "https://canary",
        "--json",
    ];
    for option in [
        "--anthropic-api-key",
        "--token",
        "--custom-api-key",
        "--github-copilot-token",
    ] {
        for value in values {
            let line = format!(
                "tokensink onboard --non-interactive --accept-risk --auth-choice apiKey {option} {value}"
            );
            for line in [
                line.clone(),
                line.replace(&format!("{option} "), &format!("{option}=")),
            ] {
                let said = world.run(&line).code(2);
                let all = format!("{}{}", said.out, said.err);
                assert!(!all.contains("canary"), "{said:?}");
                assert!(
                    all.contains(&format!(
                        "{option} - (standard input), {option} file:PATH, or {option} env:NAME"
                    )),
                    "{said:?}"
                );
            }
        }
    }
    assert_eq!(world.files(), []);
}

#[test]
fn keys_come_from_files_variables_and_references() {
    let world = World::new();
    world.write("key", &format!("export OPENAI_API_KEY=\"{API_KEY}\";\n"));
    let said = onboard(&world, "--openai-api-key file:key", "").code(0).json();
    assert_eq!(
        said["authChoice"], "openai-api-key",
        "the choice follows from its option"
    );
    assert_eq!(said["defaultModelSet"], "openai/gpt-5.1", "no other was set");
    assert_eq!(
        world.run("tokensink token --provider openai").code(0).out.trim(),
        API_KEY
    );

    let onboard_with = |rest: &str, variables: &[(&str, &str)]| {
        let line = format!("tokensink onboard --non-interactive --accept-risk --json {rest}");
        world.run_with(&line, None, variables)
    };
    let groq = ("GROQ_API_KEY", "gsk-canary-1");
    let said = onboard_with("--auth-choice groq-api-key", &[groq]).code(0).json();
    assert_eq!(said["profiles"][0]["source"], "env: GROQ_API_KEY");
    assert_eq!(said["defaultModelSet"], Value::Null, "one is set");
    assert_eq!(
        world.run("tokensink token --provider groq").code(0).out.trim(),
        "gsk-canary-1"
    );

    let own = ("MY_OWN_KEY", "xai-canary");
    onboard_with(
        "--xai-api-key env:MY_OWN_KEY --secret-input-mode ref --set-default",
        &[own],
    )
    .code(0);
    let texts: String = world.files().into_iter().map(|(_, text)| text).collect();
    assert!(!texts.contains("xai-canary"), "only the reference is stored");
    let line = "tokensink token --provider xai";
    assert_eq!(
        world.run_with(line, None, &[own]).code(0).out.trim(),
        "xai-canary"
    );
    let before = files(&world);
    onboard_with(
        "--xai-api-key env:MY_OWN_KEY --secret-input-mode ref --set-default",
        &[own],
    )
    .code(0);
    assert_eq!(files(&world), before);
    let status = world.run("tokensink models status --plain").code(0);
    assert_eq!(status.out.trim(), "xai/grok-4");

    // Somebody else's token for git is no Copilot login.
    let git = ("GITHUB_TOKEN", "ghp-canary");
    let said = onboard_with("--auth-choice github-copilot", &[git]).code(1);
    assert!(
        said.err
            .contains("Missing --github-copilot-token (or COPILOT_GITHUB_TOKEN in env"),
        "{said:?}"
    );
    let own = ("COPILOT_GITHUB_TOKEN", "ghu-canary");
    let said = onboard_with("--auth-choice github-copilot", &[own])
        .code(0)
        .json();
    assert_eq!(said["profiles"][0]["id"], "github-copilot:github");
}

#[test]
fn what_another_kind_holds_is_kept() {
    let world = World::new();
    onboard(&world, "--anthropic-api-key -", API_KEY).code(0);
    let said = onboard(
        &world,
        "--auth-choice setup-token --token - --token-expires-in 365d",
        SETUP_TOKEN,
    )
    .code(0);
    assert_eq!(said.json()["profiles"][0]["id"], "anthropic:manual");
    assert!(
        said.err.contains("compatibility, not a promise"),
        "the policy note: {said:?}"
    );
    let before = files(&world);
    let again = "--auth-choice setup-token --token - --token-expires-in 365d";
    let said = onboard(&world, again, SETUP_TOKEN).code(0).json();
    assert_eq!(
        said["profiles"][0]["change"], "unchanged",
        "a token ends when it ends"
    );
    assert_eq!(files(&world), before);

    let other = format!("{API_KEY}-new");
    let said = onboard(&world, "--anthropic-api-key -", &other).code(0).json();
    assert_eq!(said["profiles"][0]["change"], "updated");
    let said = onboard(
        &world,
        "--anthropic-api-key - --token-profile-id anthropic:work",
        &other,
    )
    .code(0)
    .json();
    assert_eq!(said["profiles"][0]["id"], "anthropic:work");
    let list = world.run("tokensink models auth list --json").code(0).json();
    let ids: Vec<String> = list["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| text(&one["id"]))
        .collect();
    assert_eq!(ids, ["anthropic:default", "anthropic:manual", "anthropic:work"]);
}

#[test]
fn a_service_of_the_users_own_becomes_a_provider() {
    let world = World::new();
    let custom = "--auth-choice custom-api-key --custom-base-url https://llm.example.com/v1 --custom-model-id my-model \
                  --custom-compatibility anthropic --custom-api-key -";
    let said = onboard(&world, custom, API_KEY).code(0).json();
    assert_eq!(said["authChoice"], "custom-api-key");
    assert_eq!(said["profiles"][0]["id"], "custom-llm-example-com:default");
    assert_eq!(said["defaultModelSet"], "custom-llm-example-com/my-model");
    let before = files(&world);
    onboard(&world, custom, API_KEY).code(0);
    assert_eq!(files(&world), before);
    let lease = world
        .run("tokensink token --provider custom-llm-example-com --json")
        .code(0)
        .json();
    assert_eq!(lease["baseUrl"], "https://llm.example.com/v1", "{lease}");

    // The provider's own choice and option exist from now on.
    let own = "--custom-llm-example-com-api-key -";
    assert_eq!(
        onboard(&world, own, "another-canary").code(0).json()["profiles"][0]["change"],
        "updated"
    );
    let help = world.run("tokensink onboard --help").code(0);
    assert!(help.out.contains("--custom-llm-example-com-api-key <SECRET>"));
    let other = custom.replace("my-model", "your-model");
    let said = onboard(&world, &other, API_KEY).code(2);
    assert!(said.err.contains("is defined otherwise already"), "{said:?}");
}

#[test]
fn agents_have_logins_of_their_own_and_configure_leaves_the_model() {
    let world = World::new();
    world.run("tokensink agents add work").code(0);
    let said = onboard(&world, "--agent work --openrouter-api-key -", API_KEY)
        .code(0)
        .json();
    assert_eq!(said["agentId"], "work");
    assert_eq!(
        said["workspace"],
        world.state("agents/work/workspace").to_str().unwrap()
    );
    assert_eq!(
        said["defaultModelSet"],
        Value::Null,
        "the shared default is not this agent's"
    );
    assert!(world.state("agents/work/agent/auth-profiles.json").exists());
    assert!(!world.state("agents/main/agent/auth-profiles.json").exists());
    let said = onboard(
        &world,
        "--agent work --auth-choice openrouter-api-key --set-default",
        "",
    )
    .code(0)
    .json();
    assert_eq!(said["defaultModelSet"], "openrouter/auto");
    let agents = world.run("tokensink agents list --json").code(0).json();
    let work = agents
        .as_array()
        .unwrap()
        .iter()
        .find(|agent| agent["id"] == "work")
        .unwrap();
    assert_eq!(work["model"], "openrouter/auto", "{work}");

    let line = "tokensink configure --non-interactive --accept-risk --json --zai-api-key -";
    let said = world.feed(line, API_KEY).code(0).json();
    assert_eq!(said["defaultModelSet"], Value::Null);
    let skipped = onboard(
        &world,
        "--auth-choice skip --install-daemon --gateway-port 18789",
        "",
    )
    .code(0);
    assert_eq!(skipped.json()["profiles"], serde_json::json!([]));
    assert!(
        skipped
            .err
            .contains("no effect here: --install-daemon, --gateway-port"),
        "{skipped:?}"
    );
}

#[test]
fn the_words_of_older_versions_work_under_their_names() {
    for name in ["openclaw", "openclaw-cn", "clawdbot"] {
        let world = World::new();
        let line = format!(
            "{name} onboard --non-interactive --accept-risk --auth-choice token --token-provider anthropic --token - \
             --token-expires-in 365d --json"
        );
        let said = world.feed(&line, SETUP_TOKEN).code(0).json();
        assert_eq!(said["profiles"][0]["id"], "anthropic:default");
        let missing = world.run(&format!("{name} onboard --auth-choice apiKey")).code(2);
        assert!(
            missing
                .err
                .contains(&format!("fix: {name} onboard --non-interactive")),
            "{missing:?}"
        );
    }
}
