//! Models that a program with a login of its own is asked for.

use tokensink_testkit::{Reply, Start, Started};

use super::*;
use crate::external::{ExternalMode, ExternalSet};

/// A world in which Claude Code is logged in and its login is in use, and `claude` is there.
pub(super) fn with_claude(profiles: &Value, mode: ExternalMode) -> World {
    let world = world(
        "{ agents: { defaults: { model: 'anthropic/claude-opus-4-6' } } }",
        profiles,
    );
    let files = &world.test.files;
    files.mkdir("/home/user/.claude");
    files.mkdir("/bin");
    files.put("/bin/claude", "program", 0o755);
    world.test.env.set("PATH", "relative:/usr/bin:/bin");
    let login = json!({"claudeAiOauth": {
        "accessToken": "access-claude-canary", "refreshToken": "refresh-claude-canary",
        "expiresAt": 1_767_225_600_000_i64 + 3_600_000, "scopes": ["user:inference"], "subscriptionType": "max",
    }});
    files.put("/home/user/.claude/.credentials.json", login.to_string(), 0o600);
    let choice = ExternalSet {
        cli: "claude".to_owned(),
        mode,
        place: None,
        terminal: false,
    };
    world.sink().external_set(&choice).unwrap();
    world
}

fn claude_says(world: &World, lines: &'static [&'static str]) {
    world
        .test
        .processes
        .on_dialogue(&world.test.clock, move |_, told| match told {
            Some("") => lines
                .iter()
                .map(|line| Reply::Line((*line).to_owned()))
                .chain([Reply::End(0, String::new())])
                .collect(),
            _ => Vec::new(),
        });
}

const CLAUDE_ANSWERS: &[&str] = &[
    r#"{"type":"system","subtype":"init","session_id":"s-1"}"#,
    r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"hello"}}}"#,
    r#"{"type":"result","is_error":false,"result":"hello","usage":{"input_tokens":1,"output_tokens":1}}"#,
];

const CLAUDE_AT_ITS_LIMIT: &[&str] = &[
    r#"{"type":"system","subtype":"init","session_id":"s-1"}"#,
    r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1767229000,"rateLimitType":"five_hour"}}"#,
    r#"{"type":"result","is_error":true,"api_error_status":429,"api_error_type":"rate_limit_error","result":"You've hit your 5-hour limit"}"#,
];

#[test]
fn models_of_anthropic_go_to_the_program_that_is_logged_in() {
    for mode in [ExternalMode::Borrowed, ExternalMode::Cooperative] {
        let world = with_claude(&json!({}), mode);
        for name in [
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
        ] {
            world.test.env.set(name, "value-canary");
        }
        claude_says(&world, CLAUDE_ANSWERS);
        let mut chat = world.sink().chat(request(Some("agent:main:x"))).unwrap();
        let prospect = world.sink().chat_prospect(&chat);
        let (answer, told) = ask_in(&world, &mut chat, "say hello");
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), told.text.as_str()), ("hello", "hello"));
        assert_eq!(profile_of(&answer), "anthropic:claude-cli");
        let of = |serving: &Serving| (serving.profile.clone(), serving.program.clone(), serving.billing);
        assert_eq!(prospect.as_ref().map(of), Some(of(&answer.serving)));
        assert_eq!(answer.serving.program.as_deref(), Some("claude"));
        ask_in(&world, &mut chat, "again").0.unwrap();
        let started = world.test.processes.started();
        let [first, second] = started.as_slice() else {
            panic!("{started:?}")
        };
        assert_eq!(
            (first.start, first.program.to_str()),
            (Start::Dialogue, Some("/bin/claude"))
        );
        assert_eq!(
            first.dir.as_deref().and_then(|dir| dir.to_str()),
            Some("/home/user/.openclaw/agents/main/workspace")
        );
        let words = |started: &Started| {
            started
                .args
                .iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(
            words(first).starts_with("-p --output-format stream-json"),
            "{}",
            words(first)
        );
        assert!(
            words(first).ends_with("--model claude-opus-4-6"),
            "{}",
            words(first)
        );
        assert!(words(second).ends_with("--resume s-1"), "{}", words(second));
        assert!(!words(first).contains("hello"), "the prompt is no argument");
        let names: Vec<&str> = first
            .set_env
            .iter()
            .filter_map(|(name, _)| name.to_str())
            .collect();
        assert_eq!(names, ["ANTHROPIC_BASE_URL", "PATH"]);
    }
}

#[test]
fn what_speaks_for_another_account_is_heard() {
    let profiles = json!({"anthropic:work": key("anthropic")});
    // An order of the user's.
    let world = with_claude(&profiles, ExternalMode::Borrowed);
    claude_says(&world, CLAUDE_ANSWERS);
    world.put(
        "openclaw.json",
        "{ agents: { defaults: { model: 'anthropic/claude-opus-4-6' } }, auth: { order: { anthropic: ['anthropic:work'] } } }",
    );
    let message = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    world.test.transport.push(Scripted::events([Step::text(message)]));
    assert_eq!(profile_of(&ask(&world).0.unwrap()), "anthropic:work");
    // A profile that is asked for.
    let world = with_claude(&profiles, ExternalMode::Borrowed);
    world.test.transport.push(Scripted::events([Step::text(message)]));
    let mut asked = request(None);
    asked.model = Some("opus@anthropic:work".to_owned());
    let mut chat = world.sink().chat(asked).unwrap();
    assert_eq!(
        profile_of(&ask_in(&world, &mut chat, "hi").0.unwrap()),
        "anthropic:work"
    );
    // No program: the lease is spent directly.
    let world = with_claude(&json!({}), ExternalMode::Borrowed);
    world.test.env.set("PATH", "/usr/bin");
    world.test.transport.push(Scripted::events([Step::text(message)]));
    let answer = ask(&world).0.unwrap();
    assert_eq!(
        (profile_of(&answer), &answer.serving.program),
        ("anthropic:claude-cli", &None)
    );
    assert_eq!(bearers(&world), ["access-claude-canary"]);
}

#[test]
fn a_login_that_only_the_program_renews_is_left_to_it() {
    let world = with_claude(&json!({}), ExternalMode::Borrowed);
    claude_says(&world, CLAUDE_ANSWERS);
    world.test.clock.advance(Duration::from_secs(7200));
    let answer = ask(&world).0.unwrap();
    assert_eq!(answer.serving.program.as_deref(), Some("claude"));
}

/// What is decided about every account is decided about that one, too.
#[test]
fn a_login_that_only_the_program_renews_is_no_exception() {
    let ended = |profiles: &Value, rules: &str| {
        let world = with_claude(profiles, ExternalMode::Borrowed);
        claude_says(&world, CLAUDE_ANSWERS);
        world.test.clock.advance(Duration::from_secs(7200));
        let settings = world.text("tokensink/config.toml") + rules;
        world.put("tokensink/config.toml", &settings);
        world
    };
    let started = |world: &World| world.test.processes.started().len();
    let dearer = json!({"anthropic:work": key("anthropic")});
    // A rule of the user's.
    let world = ended(
        &dearer,
        "[[deny]]\nid = \"mine\"\nprofile = \"anthropic:claude-cli\"\n",
    );
    let error = failed(ask(&world).0);
    assert!(error.to_string().contains("the rule mine forbids it"), "{error}");
    assert_eq!(started(&world), 0);
    // Its limit: it is asked once, and again when that is over.
    let world = ended(&dearer, "");
    claude_says(&world, CLAUDE_AT_ITS_LIMIT);
    for _ in 0..2 {
        let error = failed(ask(&world).0);
        assert_eq!(
            (error.kind(), error.retry_at().is_some()),
            (ErrorKind::TryAgain, true),
            "{error}"
        );
        assert_eq!(started(&world), 1);
    }
    claude_says(&world, CLAUDE_ANSWERS);
    world.test.clock.advance(Duration::from_secs(6 * 3600));
    assert_eq!(profile_of(&ask(&world).0.unwrap()), "anthropic:claude-cli");
    // An account that the session keeps.
    let token = json!({"type": "token", "provider": "anthropic", "token": "token-canary"});
    let world = ended(&json!({"anthropic:manual": token}), "");
    let sessions = r#"{"agent:main:x": {"authProfileOverride": "anthropic:manual", "authProfileOverrideSource": "auto"}}"#;
    world.put("agents/main/sessions/sessions.json", sessions);
    let message = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    world.test.transport.push(Scripted::events([Step::text(message)]));
    let mut chat = world.sink().chat(request(Some("agent:main:x"))).unwrap();
    let answer = ask_in(&world, &mut chat, "hi").0.unwrap();
    assert_eq!((profile_of(&answer), started(&world)), ("anthropic:manual", 0));
}

#[test]
fn a_program_at_its_limit_gives_way_but_not_to_a_dearer_account() {
    let world = with_claude(
        &json!({"anthropic:work": key("anthropic")}),
        ExternalMode::Borrowed,
    );
    claude_says(&world, CLAUDE_AT_ITS_LIMIT);
    let error = failed(ask(&world).0);
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    assert!(
        error.to_string().contains("429: You've hit your 5-hour limit"),
        "{error}"
    );
    assert_eq!(world.test.transport.connections(), 0);
    let token = json!({"type": "token", "provider": "anthropic", "token": "token-canary"});
    let world = with_claude(&json!({"anthropic:manual": token}), ExternalMode::Borrowed);
    claude_says(&world, CLAUDE_AT_ITS_LIMIT);
    let message = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    world.test.transport.push(Scripted::events([Step::text(message)]));
    let (answer, told) = ask(&world);
    assert_eq!(
        (profile_of(&answer.unwrap()), told.moved.len()),
        ("anthropic:manual", 1)
    );
}

#[test]
fn a_program_that_lost_its_conversation_is_told_it_again() {
    let world = with_claude(&json!({}), ExternalMode::Borrowed);
    claude_says(&world, CLAUDE_ANSWERS);
    let mut chat = world.sink().chat(request(None)).unwrap();
    ask_in(&world, &mut chat, "first").0.unwrap();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = std::sync::Arc::clone(&heard);
    world.test.processes.on_dialogue(&world.test.clock, move |started, told| {
        let resumes = started.args.iter().any(|arg| arg == "--resume");
        let gone = r#"{"type":"result","is_error":true,"errors":["No conversation found with session ID: s-1"]}"#;
        match told {
            Some("") if resumes => vec![Reply::Line(gone.to_owned()), Reply::End(1, String::new())],
            Some("") => CLAUDE_ANSWERS.iter().map(|line| Reply::Line((*line).to_owned())).collect(),
            Some(prompt) => {
                note.lock().unwrap().push(prompt.to_owned());
                Vec::new()
            }
            None => Vec::new(),
        }
    });
    assert_eq!(ask_in(&world, &mut chat, "second").0.unwrap().text, "hello");
    let heard = heard.lock().unwrap().clone();
    assert_eq!((heard.len(), heard[0].as_str()), (2, "second"));
    assert!(
        heard[1].contains("User: first") && heard[1].contains("You: hello") && heard[1].ends_with("second")
    );
}

#[test]
fn a_program_that_is_its_own_provider_needs_no_profile() {
    let world = with_claude(&json!({}), ExternalMode::Off);
    claude_says(&world, CLAUDE_ANSWERS);
    let mut asked = request(None);
    asked.model = Some("claude-cli/sonnet".to_owned());
    let mut chat = world.sink().chat(asked).unwrap();
    let prospect = world.sink().chat_prospect(&chat);
    let answer = ask_in(&world, &mut chat, "hi").0.unwrap();
    assert_eq!(
        (answer.serving.model.as_str(), &answer.serving.profile),
        ("claude-cli/sonnet", &None)
    );
    assert_eq!(prospect.as_ref(), Some(&answer.serving));
    world.test.env.set("PATH", "/usr/bin");
    let error = failed(ask_in(&world, &mut chat, "hi").0);
    assert!(error.to_string().contains("claude is not on PATH"), "{error}");
    // A rule may forbid it.
    world.put(
        "tokensink/config.toml",
        "[[deny]]\nid = \"no-cli\"\nprovider = \"claude-cli\"\n",
    );
    let error = failed(ask_in(&world, &mut chat, "hi").0);
    assert!(
        error.to_string().contains("the rule no-cli forbids it"),
        "{error}"
    );
    // At its limit it gives way, but not to what costs more.
    let world = with_claude(&json!({"openai:key": key("openai")}), ExternalMode::Off);
    claude_says(&world, CLAUDE_AT_ITS_LIMIT);
    let models = "{ primary: 'claude-cli/opus', fallbacks: ['openai/gpt-5.1'] }";
    let config = format!("{{ agents: {{ defaults: {{ model: {models} }} }} }}");
    world.put("openclaw.json", &config);
    let error = failed(ask(&world).0);
    assert!(
        error
            .to_string()
            .contains("openai:key costs more (metered instead of subscription)"),
        "{error}"
    );
    assert!(
        error
            .fix()
            .is_some_and(|fix| fix.contains("subscription -> metered")),
        "{error:?}"
    );
    assert_eq!(world.test.transport.connections(), 0);
}
