//! `export` and `import bundle` between two homes.

use std::fs;

use serde_json::json;

use crate::world::{API_KEY, World};

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const EXPIRES: i64 = 4_102_444_800_000;

fn with_login() -> World {
    let world = World::new();
    let store = json!({"version": 1, "profiles": {"openai-codex:a@example.com": {
        "type": "oauth", "provider": "openai-codex", "access": "access-canary", "refresh": "refresh-canary",
        "expires": EXPIRES, "email": "a@example.com", "accountId": "account-a"}}});
    world.write(
        ".openclaw/agents/main/agent/auth-profiles.json",
        &store.to_string(),
    );
    world.store_key("openrouter");
    world
}

fn carried(from: &World) -> World {
    let to = World::new();
    fs::copy(from.path("bundle.age"), to.path("bundle.age")).unwrap();
    to
}

fn holds(world: &World, text: &str) -> bool {
    world.files().iter().any(|(_, content)| content.contains(text))
}

#[test]
fn a_move_by_a_passphrase_in_a_terminal() {
    let from = with_login();
    let refused = from.run("tokensink export --to bundle.age").code(2);
    assert!(
        refused.err.contains("--move") && refused.err.contains("--access-only"),
        "{refused:#?}"
    );
    let refused = from.run("tokensink export --to bundle.age --move").code(2);
    assert!(
        refused
            .err
            .contains("tokensink export --to bundle.age --move --yes"),
        "{refused:#?}"
    );
    let moved = from
        .on_terminal(
            "tokensink export --to bundle.age --move",
            &[
                ("Remove openai-codex:a@example.com, openrouter:manual here", "y\r"),
                ("Passphrase of the bundle (not shown)", "pass phrase\r"),
                ("The same again (not shown)", "pass phrase\r"),
            ],
        )
        .code(0);
    assert!(
        moved.out.contains("Removed here: openrouter:manual"),
        "{}",
        moved.out
    );
    assert!(
        !moved.out.contains("pass phrase") && !moved.out.contains("canary"),
        "{}",
        moved.out
    );
    for secret in ["refresh-canary", "access-canary", API_KEY] {
        assert!(!holds(&from, secret), "{secret}");
    }
    let text = fs::read_to_string(from.path("bundle.age")).unwrap();
    assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") && !text.contains("canary"));

    let to = carried(&from);
    let line = "tokensink import bundle bundle.age --yes --json --passphrase-from";
    let wrong = to.feed(&format!("{line} -"), "other").code(1);
    assert!(
        wrong.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("passphrase"),
        "{wrong:#?}"
    );
    let bare = to.run(&format!("{line} hunter2")).code(2);
    assert!(!format!("{bare:?}").contains("hunter2"), "{bare:#?}");
    let said = to.feed(&format!("{line} -"), "pass phrase\n").code(0);
    assert_eq!(said.json()["stored"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        to.run("tokensink token --provider openai-codex")
            .code(0)
            .out
            .trim(),
        "access-canary"
    );
    assert_eq!(
        to.run("tokensink token --provider openrouter").code(0).out.trim(),
        API_KEY
    );
}

#[test]
fn access_tokens_for_a_job_through_a_pipe_and_a_recipient() {
    let from = with_login();
    let line = format!("tokensink export --to - --access-only --ttl 1h --recipient {RECIPIENT}");
    let said = from.run(&line).code(0);
    assert!(said.err.contains("openrouter:manual is left out"), "{said:#?}");
    assert!(holds(&from, "refresh-canary"), "it is still here");
    let to = World::new();
    to.write("job.age", &said.out);
    to.write("key.txt", &format!("# the job's\n{IDENTITY}\n"));
    let needs = to.run("tokensink import bundle job.age --yes").code(2);
    assert!(needs.err.contains("--identity"), "{needs:#?}");
    to.run("tokensink import bundle job.age --identity key.txt --yes")
        .code(0);
    assert!(!holds(&to, "refresh-canary"));
    let token = to
        .run("tokensink token --provider openai-codex --json")
        .code(0)
        .json();
    let end = &token["expiresAt"];
    assert!(
        end.as_i64().is_some_and(|end| end < EXPIRES) || end.as_str().is_some(),
        "{token}"
    );
    let list = to.run("tokensink models auth list --json").code(0).json();
    assert_eq!(list["profiles"].as_array().map(Vec::len), Some(1), "{list}");
}

#[test]
fn what_age_itself_cannot_read_is_no_bundle() {
    let world = with_login();
    world.write("text", "no bundle");
    for (line, code) in [
        ("tokensink import bundle text --yes", 1),
        ("tokensink import bundle nowhere --yes", 2),
        (
            "tokensink export --to nowhere/bundle.age --profile-id openrouter:manual --recipient RECIPIENT",
            1,
        ),
    ] {
        let said = world.run(&line.replace("RECIPIENT", RECIPIENT)).code(code);
        assert!(
            said.err.contains("text") || said.err.contains("nowhere"),
            "{said:#?}"
        );
    }
    let said = world
        .run("tokensink export --to b --recipient age1x --profile-id openrouter:manual")
        .code(2);
    assert!(said.err.contains("age1x"), "{said:#?}");
}
