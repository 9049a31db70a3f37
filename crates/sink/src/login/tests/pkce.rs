//! The browser login with pasted answers: what is accepted, what is refused, and how each end is told.

use serde_json::json;
use tokensink_host::ConnectPhase;
use tokensink_testkit::Scripted;

use super::{Person, Then, access, body, code_and_state, granted, param, request, text, told, world};
use crate::error::ErrorKind;
use crate::login::LoginRequest;
use crate::world::id;

#[test]
fn every_form_of_paste_logs_in() {
    let forms: [fn() -> super::Paste; 4] = [
        || {
            Box::new(|url| {
                format!(
                    "https://desk.test/shown?code=code-canary&state={}",
                    param(url, "state")
                )
            })
        },
        || code_and_state("code-canary"),
        || Box::new(|url| format!("?code=code-canary&state={}", param(url, "state"))),
        || text("code-canary"),
    ];
    for form in forms {
        let world = world();
        let sink = world.sink();
        world.test.transport.push(granted("alice"));
        let person = Person::pasting(&world, vec![form()]);
        let outcome = sink.login(&request(), &person).unwrap();
        assert_eq!(outcome.profile, id("desk:alice@example.com"));
        assert_eq!(outcome.account.account_id.as_deref(), Some("uuid-alice"));
        assert_eq!(
            (outcome.updated, outcome.notes.as_slice()),
            (false, &[] as &[String])
        );
        assert_eq!(
            outcome.expires.map(|at| at.0),
            Some(1_767_225_600_000 + 3_600_000)
        );
        let url = person.heard().url.unwrap();
        let sent = body(&world, 0);
        assert!(sent.starts_with(
            "grant_type=authorization_code&client_id=desk-client&code=code-canary&code_verifier="
        ));
        assert!(
            sent.ends_with("&redirect_uri=https%3A%2F%2Fdesk.test%2Fshown"),
            "{sent}"
        );
        assert_eq!(param(&url, "redirect_uri"), "https://desk.test/shown");
        assert_eq!(param(&url, "state").len(), 32);
        assert_eq!(
            access(&sink, "desk:alice@example.com"),
            "fresh-access-alice-canary"
        );
    }
}

#[test]
fn what_is_shown_comes_in_order() {
    let world = world();
    world.test.transport.push(granted("alice"));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    let outcome = world.sink().login(&request(), &person).unwrap();
    let words = person.heard().words;
    assert_eq!(
        words,
        [
            "notice Desk wants to be asked first.",
            "open opened=true",
            "exchanging"
        ]
    );
    assert_eq!(outcome.notice.as_deref(), Some("Desk wants to be asked first."));
    let started = world.test.processes.started();
    assert_eq!(started[0].program, "xdg-open");
    assert_eq!(started[0].args, [person.heard().url.unwrap().as_str()]);
}

#[test]
fn a_browser_is_started_only_where_one_can_be_seen() {
    type Case<'a> = (&'a [(&'a str, &'a str)], bool, &'a str);
    let cases: [Case<'_>; 4] = [
        (&[("DISPLAY", ":0")], true, "--no-browser was given"),
        (
            &[("DISPLAY", ":0"), ("SSH_TTY", "/dev/pts/0")],
            false,
            "SSH_TTY is set, so this shell is a remote one; --device-code logs in without a redirect",
        ),
        (
            &[],
            false,
            "neither DISPLAY nor WAYLAND_DISPLAY is set; --device-code logs in without a redirect",
        ),
        (
            &[("SSH_TTY", "x"), ("BROWSER", "firefox")],
            true,
            "--no-browser was given",
        ),
    ];
    for (env, no_browser, why) in cases {
        let world = world();
        world.test.env.unset("DISPLAY");
        env.iter()
            .for_each(|(name, value)| world.test.env.set(name, *value));
        world.test.transport.push(granted("alice"));
        let person = Person::pasting(&world, vec![code_and_state("c")]);
        world
            .sink()
            .login(
                &LoginRequest {
                    method: Some("oauth".parse().unwrap()),
                    no_browser,
                    ..request()
                },
                &person,
            )
            .unwrap();
        assert_eq!(person.heard().why_no_browser.as_deref(), Some(why), "{env:?}");
        assert!(world.test.processes.started().is_empty(), "{env:?}");
    }
}

#[test]
fn a_browser_that_does_not_start_is_told_and_no_obstacle() {
    let world = world();
    world
        .test
        .processes
        .push_result(Err(std::io::ErrorKind::NotFound.into()));
    // The login by device code takes part then; here it has nothing to give.
    world.test.transport.push(Scripted::json(404, "{}"));
    world.test.transport.push(granted("alice"));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    world.sink().login(&request(), &person).unwrap();
    let why = person.heard().why_no_browser.unwrap();
    assert!(why.contains("xdg-open") && why.contains("set BROWSER"), "{why}");
    person.said("no device https://desk.test/device: ");
}

#[test]
fn texts_that_do_not_do_are_named_and_asked_for_again() {
    let world = world();
    world.test.transport.push(granted("alice"));
    let pastes = vec![
        text("code-canary#of-another-login"),
        text("https://desk.test/shown?lang=en"),
        code_and_state("code-canary"),
    ];
    let person = Person::pasting(&world, pastes);
    world.sink().login(&request(), &person).unwrap();
    let words = person.heard().words;
    assert!(words[2].starts_with("refused State mismatch"), "{words:?}");
    assert!(
        words[3].starts_with("refused Missing authorization code"),
        "{words:?}"
    );
    assert_eq!(
        world.test.transport.requests().len(),
        1,
        "nothing was tried with them"
    );
}

#[test]
fn a_refusal_is_shown_with_the_next_step() {
    let world = world();
    let denied = Box::new(|url: &url::Url| {
        format!(
            "https://desk.test/shown?error=invalid_scope&error_description=no+such+scope&state={}",
            param(url, "state")
        )
    });
    let request = LoginRequest {
        profile_id: Some(id("desk:a b")),
        ..request()
    };
    let error = world
        .sink()
        .login(&request, &Person::pasting(&world, vec![denied]))
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Failed, "login_denied"));
    assert_eq!(
        told(&error),
        "The provider refused the login: invalid_scope (no such scope) | tokensink models auth login --provider desk \
         --profile-id 'desk:a b'"
    );
}

#[test]
fn a_refused_code_is_spent_and_not_asked_for_again() {
    let world = world();
    let answer = json!({"error": "invalid_grant", "error_description": "bad code-canary-0123456789"});
    world
        .test
        .transport
        .push(Scripted::json(400, &answer.to_string()));
    let pastes = vec![text("code-canary-0123456789"), text("never asked")];
    let person = Person::pasting(&world, pastes);
    let error = world.sink().login(&request(), &person).unwrap_err();
    let told = told(&error);
    assert_eq!(error.code(), "exchange_refused");
    assert!(
        told.contains("https://desk.test/token refused the code: the provider answered 400 (invalid_grant"),
        "{told}"
    );
    assert!(
        told.contains("was used before") && told.ends_with("| tokensink models auth login --provider desk"),
        "{told}"
    );
    assert_eq!(world.test.transport.requests().len(), 1);
    assert_eq!(world.stored("main"), serde_json::Value::Null);
}

#[test]
fn answers_without_tokens_say_so() {
    for (status, answer, want) in [
        (200, "{}", "without access_token"),
        (200, "<html>", "not a JSON object"),
        (503, "busy", "the provider answered 503"),
    ] {
        let world = world();
        world.test.transport.push(Scripted::json(status, answer));
        let error = world
            .sink()
            .login(&request(), &Person::pasting(&world, vec![text("c")]))
            .unwrap_err();
        assert!(told(&error).contains(want), "{error}");
    }
}

#[test]
fn only_what_never_left_is_sent_again() {
    let world = world();
    world
        .test
        .transport
        .push(Scripted::no_connection(ConnectPhase::Tcp));
    world.test.transport.push(Scripted::not_written());
    world.test.transport.push(granted("alice"));
    world
        .sink()
        .login(&request(), &Person::pasting(&world, vec![text("c")]))
        .unwrap();
    assert_eq!(world.test.transport.connections(), 3);

    let world = super::world();
    for _ in 0..3 {
        world
            .test
            .transport
            .push(Scripted::no_connection(ConnectPhase::Dns));
    }
    let error = world
        .sink()
        .login(&request(), &Person::pasting(&world, vec![text("c")]))
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::TryAgain, "no_connection")
    );
    assert_eq!(world.test.transport.connections(), 3, "and then it ends");

    let world = super::world();
    world.test.transport.push(Scripted::ambiguous());
    let error = world
        .sink()
        .login(&request(), &Person::pasting(&world, vec![text("c")]))
        .unwrap_err();
    assert!(told(&error).contains("no complete answer came"), "{error}");
    assert_eq!(world.test.transport.connections(), 1, "the code may be spent");
}

#[test]
fn the_wait_ends_with_the_input_and_with_the_time() {
    let world = world();
    let error = world
        .sink()
        .login(&request(), &Person::who(&world, Then::Leaves))
        .unwrap_err();
    assert!(
        told(&error).contains("the input ended without an answer"),
        "{error}"
    );
    let error = world
        .sink()
        .login(&request(), &Person::who(&world, Then::Sleeps))
        .unwrap_err();
    assert!(
        told(&error).contains("no answer of Desk came within 15 minutes"),
        "{error}"
    );
    assert_eq!(world.test.transport.connections(), 0);
}

#[test]
fn without_a_terminal_what_cannot_end_does_not_begin() {
    let world = world();
    let person = Person::nobody(&world);
    let named = LoginRequest {
        method: Some("oauth".parse().unwrap()),
        ..request()
    };
    let error = world.sink().login(&named, &person).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "no_terminal"));
    let told = told(&error);
    assert!(
        told.starts_with("models auth login requires an interactive TTY"),
        "{told}"
    );
    assert!(
        told.contains("--device-code") && told.contains("paste-token --provider desk"),
        "{told}"
    );
    assert_eq!(person.heard().url, None);
    assert_eq!(world.test.transport.connections(), 0);
}

#[test]
fn a_login_that_could_not_be_kept_is_not_begun() {
    let world = world();
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let error = world
        .sink()
        .login(&request(), &Person::who(&world, Then::Leaves))
        .unwrap_err();
    assert_eq!(error.fix(), Some("unset OPENCLAW_AUTH_STORE_READONLY"));

    let world = super::world();
    let wrong = LoginRequest {
        profile_id: Some(id("anthropic:work")),
        ..request()
    };
    let error = world
        .sink()
        .login(&wrong, &Person::who(&world, Then::Leaves))
        .unwrap_err();
    assert_eq!(
        told(&error),
        "profile id anthropic:work belongs to provider anthropic, not to desk | --profile-id desk:work"
    );
    world.store(
        "main",
        &json!({"odd": {"type": "api_key", "provider": "rig", "key": "k"}}),
    );
    let wrong = LoginRequest {
        profile_id: Some(id("odd")),
        ..request()
    };
    let error = world
        .sink()
        .login(&wrong, &Person::who(&world, Then::Leaves))
        .unwrap_err();
    assert!(
        told(&error).contains("profile id odd belongs to provider rig"),
        "{error}"
    );
}

#[test]
fn an_identity_that_is_needed_must_be_there() {
    let world = world();
    let toml = super::DESK.replacen("rotation = \"always\"", "required_identity = [\"account\"]", 1);
    world.put("tokensink/providers/desk.toml", &toml);
    world.test.transport.push(Scripted::json(
        200,
        r#"{"access_token": "a", "refresh_token": "r", "expires_in": 60}"#,
    ));
    let error = world
        .sink()
        .login(&request(), &Person::pasting(&world, vec![text("c")]))
        .unwrap_err();
    assert!(
        told(&error).starts_with("Failed to extract accountId from token: looked at /account/uuid"),
        "{error}"
    );
    assert_eq!(world.stored("main"), serde_json::Value::Null);
}

#[test]
fn the_identity_may_stand_at_the_userinfo_endpoint() {
    let world = world();
    let toml = super::DESK.replacen("from = \"response\", account = \"/account/uuid\", email = \"/account/email_address\", plan = \"/plan\"", "from = \"userinfo\", account = \"/sub\", email = \"/username\"", 1);
    let toml = toml.replacen(
        "scopes",
        "userinfo_endpoint = \"https://desk.test/me\"\nscopes",
        1,
    );
    world.put("tokensink/providers/desk.toml", &toml);
    world.test.transport.push(granted("x"));
    world
        .test
        .transport
        .push(Scripted::json(200, r#"{"sub": "s1", "username": "alice"}"#));
    let outcome = world
        .sink()
        .login(&request(), &Person::pasting(&world, vec![text("c")]))
        .unwrap();
    assert_eq!(outcome.profile, id("desk:alice"));
    let asked = world.test.transport.requests().remove(1);
    assert_eq!(asked.uri(), "https://desk.test/me");
    assert_eq!(asked.headers()["authorization"], "Bearer fresh-access-x-canary");

    world.test.transport.push(granted("y"));
    world.test.transport.push(Scripted::json(500, "{}"));
    let outcome = world
        .sink()
        .login(&request(), &Person::pasting(&world, vec![text("c")]))
        .unwrap();
    assert_eq!(
        outcome.profile,
        id("desk:default"),
        "the tokens are kept all the same"
    );
    assert!(
        outcome.notes[0].contains("https://desk.test/me: the provider answered 500"),
        "{:?}",
        outcome.notes
    );
}

#[test]
fn endpoints_are_discovered_where_the_definition_leaves_them_open() {
    let world = world();
    let discovered = json!({
        "issuer": "https://auth.x.ai",
        "authorization_endpoint": "https://auth.x.ai/authorize",
        "token_endpoint": "https://auth.x.ai/token",
    });
    let xai = LoginRequest {
        provider: "xai".to_owned(),
        device_code: true,
        ..request()
    };
    world
        .test
        .transport
        .push(Scripted::json(200, &discovered.to_string()));
    let error = world.sink().login(&xai, &Person::nobody(&world)).unwrap_err();
    assert!(told(&error).contains("device_authorization_endpoint"), "{error}");
    let elsewhere = discovered
        .to_string()
        .replace("auth.x.ai/token", "evil.test/token");
    world.test.transport.push(Scripted::json(200, &elsewhere));
    let error = world.sink().login(&xai, &Person::nobody(&world)).unwrap_err();
    assert!(told(&error).contains("https://evil.test/token"), "{error}");
    assert_eq!(world.test.transport.requests().len(), 2, "nothing was sent there");
}
