//! Storing, listing, ordering and removing credentials.

use crate::world::{API_KEY, SETUP_TOKEN, World};

#[test]
fn a_piped_token_may_end_in_any_way() {
    for end in ["\n", "\r", "\r\n", ""] {
        let world = World::new();
        let said = world
            .feed(
                "openclaw models auth paste-token --provider anthropic",
                &format!("{SETUP_TOKEN}{end}"),
            )
            .code(0);
        assert!(
            said.out
                .contains("Auth profile: anthropic:manual (anthropic/token)\n"),
            "{said:#?}"
        );
        let token = world.run("tokensink token --profile-id anthropic:manual").code(0);
        assert_eq!(token.out, format!("{SETUP_TOKEN}\n"), "{end:?}");
    }
}

#[test]
fn the_policy_note_stands_at_paste_and_in_the_status() {
    let world = World::new();
    let said = world
        .feed("openclaw models auth setup-token", SETUP_TOKEN)
        .code(0);
    assert!(said.err.contains("note: "), "{said:#?}");
    let text = world.run("openclaw models status").code(0).out;
    assert!(text.contains("\nNotes\n- anthropic: "), "{text}");
    let value = world.run("openclaw models status --json").code(0).json();
    assert!(value["auth"]["providers"][0]["notice"].is_string(), "{value:#}");
}

#[test]
fn a_token_comes_from_a_file_too() {
    let world = World::new();
    let file = world.write("token.txt", &format!("{SETUP_TOKEN}\n"));
    let line = format!(
        "tokensink models auth paste-token --provider anthropic --profile-id anthropic:file --expires-in 30d --from-file {}",
        file.display()
    );
    world.run(&line).code(0);
    let listed = world.run("tokensink models auth list --json").code(0).json();
    assert_eq!(listed["profiles"][0]["id"], "anthropic:file");
    assert!(
        listed["profiles"][0]["expiresAt"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    let said = world
        .run("tokensink models auth paste-token --provider anthropic --from-file /no/such")
        .code(2);
    assert!(said.err.contains("/no/such could not be read"), "{said:#?}");
}

#[test]
fn a_wrong_secret_is_refused_by_name() {
    let world = World::new();
    let cases = [
        ("", "required"),
        ("sk-wrong", "sk-ant-oat01-"),
        ("sk-ant-oat01-short", "80"),
    ];
    for (input, said_of) in cases {
        let said = world.feed("openclaw models auth setup-token --provider anthropic", input);
        assert_ne!(said.code, 0, "{input:?}: {said:#?}");
        assert!(said.err.contains(said_of), "{input:?}: {said:#?}");
    }
    assert!(!world.state("agents/main/agent/auth-profiles.json").exists());
}

#[test]
fn a_prompt_shows_nothing_of_what_is_typed() {
    let world = World::new();
    let typed = format!("{API_KEY}\r");
    let said = world
        .on_terminal(
            "tokensink models auth paste-api-key --provider openrouter",
            &[("(not shown): ", &typed)],
        )
        .code(0);
    assert!(
        said.out
            .contains("Auth profile: openrouter:manual (openrouter/api_key)"),
        "{said:#?}"
    );
    assert!(!said.out.contains("canary"), "{said:#?}");
    assert_eq!(
        world.run("tokensink token --provider openrouter").code(0).out,
        format!("{API_KEY}\n")
    );
}

#[test]
fn a_prompt_asks_again_and_gives_up() {
    let world = World::new();
    let said = world.on_terminal(
        "openclaw models auth setup-token",
        &[
            ("(not shown): ", "sk-wrong\r"),
            ("(not shown): ", "\r"),
            ("(not shown): ", "sk-ant-oat01-short\r"),
        ],
    );
    assert_ne!(said.code, 0, "{said:#?}");
    assert!(said.out.contains("Run `claude setup-token`"), "{said:#?}");
    assert!(said.out.contains("sk-ant-oat01-"), "{said:#?}");
    assert!(said.out.contains("error:"), "{said:#?}");
}

#[test]
fn orders() {
    let world = World::new();
    for name in ["a", "b"] {
        let line = format!(
            "tokensink models auth paste-api-key --provider openrouter --profile-id openrouter:{name}"
        );
        world.feed(&line, API_KEY).code(0);
    }
    let get = "openclaw models auth order get --provider openrouter";
    let said = world.run(get).code(0);
    assert!(said.out.contains("Order override: (none)\n"), "{said:#?}");
    let said = world
        .run("openclaw models auth order set --provider openrouter openrouter:b openrouter:a")
        .code(0);
    assert_eq!(
        said.out,
        "Agent: main\nProvider: openrouter\nOrder override: openrouter:b, openrouter:a\n"
    );
    let value = world.run(&format!("{get} --json")).code(0).json();
    assert_eq!(
        value["order"],
        serde_json::json!(["openrouter:b", "openrouter:a"])
    );
    assert_eq!(
        world.run("tokensink token --provider openrouter --json").json()["profileId"],
        "openrouter:b"
    );
    let said = world.run("openclaw models auth order set --provider openrouter openrouter:nope");
    assert_ne!(said.code, 0);
    assert!(said.err.contains("openrouter:nope"), "{said:#?}");
    let said = world
        .run("openclaw models auth order clear --provider openrouter")
        .code(0);
    assert!(
        said.out.contains("Cleared per-agent order override.\n"),
        "{said:#?}"
    );
    assert_eq!(
        world.run(&format!("{get} --json")).json()["order"],
        serde_json::Value::Null
    );
}

#[test]
fn logging_out_removes_one_profile() {
    let world = World::new();
    world.store_key("openrouter");
    world.store_key("groq");
    let said = world
        .run("tokensink models auth logout openrouter:manual")
        .code(0);
    assert!(
        said.out
            .starts_with("Logged out: openrouter:manual (removed from "),
        "{said:#?}"
    );
    world.run("tokensink token --provider openrouter").code(3);
    world.run("tokensink token --provider groq").code(0);
    let said = world.run("tokensink models auth logout openrouter:manual");
    assert_ne!(said.code, 0, "{said:#?}");
    // A key has no grant that could be revoked: that is said, and the local logout stands.
    let said = world
        .run("tokensink models auth logout groq:manual --revoke")
        .code(1);
    assert!(said.err.contains("not revoked"), "{said:#?}");
    world.run("tokensink token --provider groq").code(3);
}

#[test]
fn retrying_says_what_it_cleared() {
    let world = World::new();
    world.store_key("openrouter");
    let said = world.run("tokensink models auth retry openrouter:manual").code(0);
    assert_eq!(said.out, "Nothing stood in the way of openrouter:manual.\n");
    assert_ne!(world.run("tokensink models auth retry openrouter:nope").code, 0);
}

#[test]
fn menus_need_somebody() {
    let world = World::new();
    for line in ["tokensink models auth add", "tokensink models auth login"] {
        let said = world.run(line).code(2);
        assert!(said.err.contains("needs a terminal"), "{said:#?}");
        assert!(said.err.contains("fix: "), "{said:#?}");
    }
}

#[test]
fn no_secret_is_in_a_log_a_message_or_an_argument() {
    let world = World::new();
    let loud = [("TOKENSINK_LOG", "trace")];
    let paste = "tokensink -vvv models auth paste-token --provider anthropic";
    let mut all = vec![world.run_with(paste, Some(SETUP_TOKEN), &loud)];
    for line in [
        "tokensink models status --all",
        "tokensink models status --json",
        "tokensink models auth list --json",
        "tokensink channels list --json",
        "tokensink models list",
        "tokensink renew --json",
        "tokensink exec --provider anthropic -- /bin/true",
        "tokensink models auth logout anthropic:manual --revoke",
    ] {
        all.push(world.run_with(line, None, &loud));
    }
    for said in all {
        assert!(!said.out.contains("canary"), "{said:#?}");
        assert!(!said.err.contains("canary"), "{said:#?}");
    }
}

#[test]
fn agents_do_not_see_each_other() {
    let world = World::new();
    world.run("tokensink agents add work").code(0);
    world
        .feed(
            "tokensink models auth --agent work paste-api-key --provider openrouter",
            API_KEY,
        )
        .code(0);
    world
        .run("tokensink token --provider openrouter --agent work")
        .code(0);
    world.run("tokensink token --provider openrouter").code(3);
    let holders: Vec<_> = world
        .files()
        .into_iter()
        .filter(|(_, text)| text.contains(API_KEY))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(holders, [world.state("agents/work/agent/auth-profiles.json")]);
}
