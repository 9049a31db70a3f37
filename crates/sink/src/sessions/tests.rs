use serde_json::{Value, json};
use tokensink_host::Liveness;
use tokensink_policy::pin::{PinSource, Why};
use tokensink_policy::{self as policy, Target};
use tokensink_testkit::FakeProcesses;
use tokensink_types::{ProfileId, ProviderId, Secret, SessionKey};

use crate::error::ErrorKind;
use crate::lease::{AcquireRequest, Want};
use crate::login::PasteRequest;
use crate::sink::Sink;
use crate::world::{World, agent, id, key as api_key};

const FILE: &str = "agents/main/sessions/sessions.json";

fn session_key() -> SessionKey {
    SessionKey::parse("agent:main:main").unwrap()
}

fn paste(sink: &Sink, profile: &str, secret: &str) {
    let request = PasteRequest {
        agent: agent("main"),
        provider: id(profile).provider_part().unwrap().to_owned(),
        profile_id: Some(id(profile)),
        expires_in: None,
        setup_token: false,
    };
    sink.store_api_key(&request, Secret::new(secret)).unwrap();
}

fn say(sink: &Sink, text: &str) -> String {
    let reply = sink.chat_command(&agent("main"), &session_key(), text).unwrap();
    reply.unwrap().lines.join("\n")
}

fn refused(sink: &Sink, text: &str) -> String {
    let error = sink
        .chat_command(&agent("main"), &session_key(), text)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.fix().is_some(), "{error}");
    error.to_string()
}

fn entry(world: &World) -> Value {
    world.json(FILE)[session_key().as_str()].clone()
}

/// Two keys of `rig`, tried in this order, and one of `mute`.
fn with_keys() -> World {
    let world = World::new();
    world.store(
        "main",
        &json!({"rig:a": api_key("rig"), "rig:b": api_key("rig"), "mute:m": api_key("mute")}),
    );
    world.put(
        "openclaw.json",
        "{ agents: { defaults: { model: 'rig/rig-small', models: { 'rig/rig-large': { alias: 'Best' } } } },
           auth: { order: { rig: ['rig:a', 'rig:b'] } } }",
    );
    world
}

/// What a request for `provider` in the session does, without the credential.
fn ask(sink: &Sink, provider: &str) -> (Option<ProfileId>, Why) {
    let provider = ProviderId::parse(provider).unwrap();
    let snapshot = sink.snapshot(&agent("main")).unwrap();
    let read = sink.session_pin(&snapshot, &session_key(), &provider).unwrap();
    let ask = policy::Request {
        session: Some(read.clone()),
        ..policy::Request::new(Target::Provider(provider.clone()))
    };
    let decision = policy::select(&snapshot.config, &snapshot.state, &ask, sink.now()).unwrap();
    let pinned = decision.pin.clone().unwrap();
    sink.store_pin(&snapshot, (&session_key(), &provider), &read, &pinned)
        .unwrap();
    (decision.choice().map(|choice| choice.profile.clone()), pinned.why)
}

fn benched(world: &World, profile: &str) {
    let until = 1_767_225_600_000_i64 + 600_000;
    let state = json!({"version": 1, "usageStats": {profile: {"cooldownUntil": until, "cooldownReason": "rate_limit"}}});
    world.put("agents/main/agent/auth-state.json", &state.to_string());
}

#[test]
fn opus_at_anthropic_work_on_a_fresh_state_dir() {
    let world = World::new();
    let sink = world.sink();
    let not_yet = refused(&sink, "/model Opus@anthropic:work");
    assert_eq!(not_yet, "Auth profile \"anthropic:work\" not found.");
    assert_eq!(world.text(FILE), "", "what is refused writes nothing");
    paste(&sink, "anthropic:work", "sk-ant-api03-work-canary-000000000000");
    paste(&sink, "rig:a", "sk-rig-canary-0000000000000000");
    let reply = sink
        .chat_command(
            &agent("main"),
            &session_key(),
            "/model Opus@anthropic:work and hello",
        )
        .unwrap()
        .unwrap();
    assert_eq!((reply.rest.as_str(), reply.new_session), ("and hello", None));
    assert_eq!(
        reply.lines,
        ["Model reset to default (Opus (anthropic/claude-opus-4-6)). Auth profile set to anthropic:work."]
    );
    say(&sink, "/model haiku@anthropic:work");
    let stored = entry(&world);
    let wanted = json!({
        "sessionId": stored["sessionId"], "updatedAt": 1_767_225_600_000_i64,
        "providerOverride": "anthropic", "modelOverride": "claude-haiku-4-5",
        "authProfileOverride": "anthropic:work", "authProfileOverrideSource": "user",
    });
    assert_eq!(stored, wanted);
    // Another process sees it.
    let session = world.sink().session(&agent("main"), &session_key()).unwrap();
    let pin = session.pin.unwrap();
    assert_eq!(
        (pin.exists(), pin.profile, pin.source),
        (true, id("anthropic:work"), PinSource::User)
    );
    assert_eq!(session.model, "anthropic/claude-haiku-4-5");
    for command in [
        "/model",
        "/model status",
        "/status",
        "/models",
        "/models anthropic",
    ] {
        let said = say(&sink, command);
        assert!(!said.contains("canary"), "{command}: {said}");
    }
    assert_eq!(
        refused(&sink, "/model opus@rig:a"),
        "Auth profile \"rig:a\" is for rig, not anthropic."
    );
    assert_eq!(entry(&world), wanted, "what is refused changes nothing");
}

#[test]
fn what_is_answered() {
    let world = with_keys();
    let sink = world.sink();
    let told = say(&sink, "/model");
    assert!(told.starts_with("Current: rig/rig-small\nSwitch: "), "{told}");
    assert_eq!(say(&sink, "/best"), "Model set to Best (rig/rig-large).");
    assert_eq!(
        say(&sink, "/MODEL: rig-large@rig:b"),
        "Model set to rig/rig-large. Auth profile set to rig:b."
    );
    let told = say(&sink, "what is /model");
    assert!(
        told.starts_with("Current: rig/rig-large@rig:b (user)\n"),
        "{told}"
    );
    let status = say(&sink, "/model status");
    for wanted in [
        "Current: rig/rig-large\nDefault: rig/rig-small\nAgent: main\nAuth file: /home/user/.openclaw/agents/main/agent/auth-profiles.json\n",
        "[rig] endpoint: default api: openai-chat auth: rig:a=sk...ry, rig:b=sk...ry (next); auth-profiles.json: /home",
        "  • rig/rig-large (Best)",
        "  • rig/rig-small",
    ] {
        assert!(status.contains(wanted), "{wanted}:\n{status}");
    }
    let status = say(&sink, "/status");
    for wanted in [
        "Model: rig/rig-large · auth: api-key sk...ry (rig:b)",
        "compactions: 0",
        "Pinned: rig:b (user)",
    ] {
        assert!(status.contains(wanted), "{wanted}:\n{status}");
    }
    assert_eq!(say(&sink, "/models rig"), say(&sink, "/model list r1g"));
    assert!(
        say(&sink, "/models").contains("- rig (2)"),
        "{}",
        say(&sink, "/models")
    );
    assert!(say(&sink, "/models rig").contains("- rig/rig-large"));
    let refusals = [
        ("/model 3", "Numeric model selection is not supported in chat."),
        (
            "/model status@rig:a",
            "Auth profile override requires a model selection.",
        ),
        (
            "/model @rig:a",
            "Auth profile override requires a model selection.",
        ),
        (
            "/model rig-large --runtime codex",
            "the runtime \"codex\" cannot be chosen",
        ),
        ("/model nonsense", "there is no model or alias \"nonsense\""),
        ("/models nonsense", "nonsense"),
    ];
    for (text, words) in refusals {
        let said = refused(&sink, text);
        assert!(said.contains(words), "{text}: {said}");
    }
    for text in [
        "hello",
        "a/model",
        "where is /new?",
        "so /new it is",
        "see /models",
    ] {
        let reply = sink.chat_command(&agent("main"), &session_key(), text).unwrap();
        assert_eq!(reply, None, "{text}");
    }
}

#[test]
fn a_choice_without_a_profile_clears_the_pin_and_the_default_is_not_stored() {
    let world = with_keys();
    let sink = world.sink();
    say(&sink, "/model best@rig:b");
    say(&sink, "/model best");
    let stored = entry(&world);
    assert_eq!(
        (&stored["modelOverride"], stored.get("authProfileOverride")),
        (&json!("rig-large"), None)
    );
    for default in ["/model rig/rig-small@rig:b", "/model DEFAULT@rig:b"] {
        let said = say(&sink, default);
        assert!(
            said.starts_with("Model reset to default (rig/rig-small)."),
            "{said}"
        );
        let stored = entry(&world);
        assert_eq!(
            (stored.get("modelOverride"), stored.get("providerOverride")),
            (None, None)
        );
        assert_eq!(stored["authProfileOverride"], "rig:b");
    }
}

#[test]
fn a_profile_with_a_plus_is_pinned_and_an_inline_reset_hides_no_choice() {
    let world = with_keys();
    let sink = world.sink();
    paste(&sink, "rig:me", "sk-me-canary-0000000000000000");
    let plus = "/model best@rig:me+work@gmail.com";
    assert_eq!(
        refused(&sink, plus),
        "Auth profile \"rig:me+work@gmail.com\" not found."
    );
    paste(&sink, "rig:me+work@gmail.com", "sk-plus-canary-0000000000000000");
    let command = format!("hello /new then {plus} please");
    let reply = sink
        .chat_command(&agent("main"), &session_key(), &command)
        .unwrap()
        .unwrap();
    assert_eq!(
        (reply.rest.as_str(), reply.new_session),
        ("hello /new then please", None)
    );
    assert_eq!(entry(&world)["authProfileOverride"], "rig:me+work@gmail.com");
}

#[test]
fn a_session_keeps_its_profile_also_over_a_restart() {
    let world = with_keys();
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::First));
    let stored = entry(&world);
    assert_eq!(stored["authProfileOverrideSource"], "auto");
    assert_eq!(stored["authProfileOverrideCompactionCount"], 0);
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::Kept));
    // Benched, another one answers, and the session returns home.
    benched(&world, "rig:a");
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:b")), Why::Escaped));
    world.test.clock.advance(std::time::Duration::from_secs(601));
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::Kept));
    assert_eq!(entry(&world), stored, "all this wrote nothing");
    // A new login under the same id is no reason, its removal is.
    paste(&world.sink(), "rig:a", "sk-new-canary-0000000000000000");
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::Kept));
    world.store("main", &json!({"rig:b": api_key("rig")}));
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:b")), Why::Gone));
}

#[test]
fn a_new_order_moves_automatic_pins_and_no_others() {
    let world = with_keys();
    let sink = world.sink();
    ask(&sink, "rig");
    sink.order_set(&agent("main"), "rig", &[id("rig:b"), id("rig:a")])
        .unwrap();
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::OrderChanged));
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::Kept));
    say(&sink, "/model rig-small@rig:b");
    sink.order_set(&agent("main"), "rig", &[id("rig:a")]).unwrap();
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::Locked));
}

#[test]
fn a_new_session_moves_on() {
    let world = with_keys();
    let sink = world.sink();
    say(&sink, "/model best@rig:a");
    let before = entry(&world)["sessionId"].clone();
    let reply = sink
        .chat_command(&agent("main"), &session_key(), "/NEW and hello")
        .unwrap()
        .unwrap();
    assert_eq!(reply.rest, "and hello");
    assert_eq!(
        reply.lines,
        ["New session started. Its account is rig:b, before rig:a."]
    );
    let stored = entry(&world);
    assert_ne!(stored["sessionId"], before);
    assert_eq!(reply.new_session.as_deref(), stored["sessionId"].as_str());
    // A user's pin has become an automatic one, the model stays.
    assert_eq!(
        (
            &stored["authProfileOverride"],
            &stored["authProfileOverrideSource"],
            &stored["modelOverride"]
        ),
        (&json!("rig:b"), &json!("auto"), &json!("rig-large"))
    );
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::Kept));
    assert_eq!(
        say(&sink, "/reset"),
        "New session started. Its account is rig:a, before rig:b."
    );
    // Nobody can serve: it is done by the next request.
    world.store("main", &json!({}));
    say(&sink, "/new");
    assert!(sink.session(&agent("main"), &session_key()).unwrap().is_new);
    world.store("main", &json!({"rig:a": api_key("rig"), "rig:b": api_key("rig")}));
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:b")), Why::NewSession));
    assert!(!sink.session(&agent("main"), &session_key()).unwrap().is_new);
}

#[test]
fn what_the_user_chose_meanwhile_counts() {
    let world = with_keys();
    let sink = world.sink();
    let snapshot = sink.snapshot(&agent("main")).unwrap();
    let rig = ProviderId::parse("rig").unwrap();
    let read = sink.session_pin(&snapshot, &session_key(), &rig).unwrap();
    say(&sink, "/model rig-small@rig:b");
    let ask_now = policy::Request {
        session: Some(read.clone()),
        ..policy::Request::new(Target::Provider(rig.clone()))
    };
    let decision = policy::select(&snapshot.config, &snapshot.state, &ask_now, sink.now()).unwrap();
    let pinned = decision.pin.unwrap();
    sink.store_pin(&snapshot, (&session_key(), &rig), &read, &pinned)
        .unwrap();
    assert_eq!(entry(&world)["authProfileOverride"], "rig:b");
    // A request for another provider leaves the user's choice alone as well.
    assert_eq!(ask(&sink, "mute"), (Some(id("mute:m")), Why::First));
    assert_eq!(entry(&world)["authProfileOverride"], "rig:b");
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::Locked));
}

/// Two keys of each of two providers.
fn with_two_providers() -> World {
    let world = with_keys();
    world.store(
        "main",
        &json!({
            "rig:a": api_key("rig"), "rig:b": api_key("rig"),
            "mute:m": api_key("mute"), "mute:n": api_key("mute"),
        }),
    );
    world
}

#[test]
fn a_session_keeps_an_account_of_each_provider_that_it_asks() {
    let world = with_two_providers();
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::First));
    assert_eq!(ask(&world.sink(), "mute"), (Some(id("mute:m")), Why::First));
    for _ in 0..2 {
        assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::Kept));
        assert_eq!(ask(&world.sink(), "mute"), (Some(id("mute:m")), Why::Kept));
    }
    // OpenClaw sees the one that its fields have room for.
    assert_eq!(entry(&world)["authProfileOverride"], "rig:a");
    let info = world.sink().session(&agent("main"), &session_key()).unwrap();
    let others: Vec<&str> = info.other_pins.iter().map(|pin| pin.profile.as_str()).collect();
    assert_eq!(
        (info.pin.unwrap().profile, &*others),
        (id("rig:a"), &["mute:m"][..])
    );
    benched(&world, "rig:a");
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:b")), Why::Escaped));
    assert_eq!(ask(&world.sink(), "mute"), (Some(id("mute:m")), Why::Kept));
    world.test.clock.advance(std::time::Duration::from_secs(601));
    // A change of one provider's order is nothing to the other.
    let sink = world.sink();
    sink.order_set(&agent("main"), "mute", &[id("mute:n"), id("mute:m")])
        .unwrap();
    assert_eq!(ask(&sink, "mute"), (Some(id("mute:n")), Why::OrderChanged));
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:a")), Why::Kept));
}

#[test]
fn a_new_conversation_moves_on_at_every_provider() {
    let world = with_two_providers();
    let sink = world.sink();
    ask(&sink, "rig");
    ask(&sink, "mute");
    say(&sink, "/new");
    // The model's provider is settled at once, the other when it is asked.
    assert_eq!(entry(&world)["authProfileOverride"], "rig:b");
    assert_eq!(ask(&world.sink(), "mute"), (Some(id("mute:n")), Why::NewSession));
    assert_eq!(ask(&world.sink(), "mute"), (Some(id("mute:n")), Why::Kept));
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:b")), Why::Kept));
    // OpenClaw begins one by writing another id and the next profile of its own provider.
    let mut all = world.json(FILE);
    all[session_key().as_str()]["sessionId"] = json!("2c1d");
    all[session_key().as_str()]["authProfileOverride"] = json!("rig:a");
    world.put(FILE, &all.to_string());
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::Kept));
    assert_eq!(ask(&world.sink(), "mute"), (Some(id("mute:m")), Why::NewSession));
    assert_eq!(ask(&world.sink(), "mute"), (Some(id("mute:m")), Why::Kept));
}

#[test]
fn what_is_said_of_a_session_is_about_its_models_provider() {
    let world = with_two_providers();
    let sink = world.sink();
    ask(&sink, "mute");
    ask(&sink, "rig");
    // The first took the place in OpenClaw's file; the session's model is of the other.
    assert_eq!(entry(&world)["authProfileOverride"], "mute:m");
    let said = say(&sink, "/model");
    assert!(
        said.starts_with("Current: rig/rig-small@rig:a (auto)\n"),
        "{said}"
    );
    let said = say(&sink, "/status");
    assert!(
        said.contains("Pinned: rig:a (auto)") && !said.contains("mute:m"),
        "{said}"
    );
    assert_eq!(
        say(&sink, "/new"),
        "New session started. Its account is rig:b, before rig:a."
    );
}

#[test]
fn a_choice_for_one_provider_leaves_what_is_kept_at_another() {
    let world = with_two_providers();
    let sink = world.sink();
    sink.order_set(&agent("main"), "rig", &[id("rig:b"), id("rig:a")])
        .unwrap();
    ask(&sink, "rig");
    ask(&sink, "mute");
    say(&sink, "/model mute/mute-large@mute:n");
    assert_eq!(entry(&world)["authProfileOverride"], "mute:n");
    assert_eq!(ask(&sink, "mute"), (Some(id("mute:n")), Why::Locked));
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::Kept));
    // Without a profile nothing is kept of that provider any more.
    say(&sink, "/model rig/rig-large");
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::First));
    assert_eq!(ask(&sink, "mute"), (Some(id("mute:m")), Why::First));
}

/// What OpenClaw pinned by itself is left as it stands, and a change of the order ends it like one of ours.
#[test]
fn an_automatic_pin_of_openclaw_moves_with_the_order() {
    let world = with_keys();
    let theirs = json!({session_key().as_str(): {
        "sessionId": "0c1d", "updatedAt": 5, "compactionCount": 3,
        "authProfileOverride": "rig:a", "authProfileOverrideSource": "auto",
    }});
    world.put(FILE, &theirs.to_string());
    assert_eq!(ask(&world.sink(), "rig"), (Some(id("rig:a")), Why::Kept));
    assert_eq!(world.json(FILE), theirs, "all of it is still theirs");
    let sink = world.sink();
    sink.order_set(&agent("main"), "rig", &[id("rig:b"), id("rig:a")])
        .unwrap();
    assert_eq!(ask(&sink, "rig"), (Some(id("rig:b")), Why::OrderChanged));
}

#[test]
fn sessions_made_for_clients_are_told_from_others() {
    let world = with_keys();
    let sink = world.sink();
    ask(&sink, "rig");
    let view = sink.sessions(&agent("main")).unwrap();
    assert_eq!(view.sessions.len(), 1);
    assert!(view.sessions[0].is_automatic && view.warnings.is_empty());
    say(&sink, "/model best");
    assert!(!sink.session(&agent("main"), &session_key()).unwrap().is_automatic);
    world.put(FILE, "{");
    let view = world.sink().sessions(&agent("main")).unwrap();
    assert!(
        view.sessions.is_empty() && view.warnings[0].contains(FILE),
        "{:?}",
        view.warnings
    );
}

fn request() -> AcquireRequest {
    AcquireRequest {
        session: Some(session_key()),
        ..AcquireRequest::new(agent("main"), Want::Provider("rig".to_owned()))
    }
}

#[test]
fn what_acquire_serves_the_session_keeps() {
    let world = with_keys();
    let sink = world.sink();
    let served = |sink: &Sink| sink.acquire(&request()).unwrap().profile.clone();
    assert!(
        sink.acquire_ready(&request()).unwrap().is_none(),
        "the first call of a session writes"
    );
    assert_eq!(served(&sink), id("rig:a"));
    assert_eq!(entry(&world)["authProfileOverride"], "rig:a");
    let ready = sink.acquire_ready(&request()).unwrap().unwrap();
    assert_eq!(ready.profile, id("rig:a"));
    say(&sink, "/model best@rig:b");
    assert_eq!(served(&sink), id("rig:b"));
    assert_eq!(served(&world.sink()), id("rig:b"), "also after a restart");
    let outside = AcquireRequest {
        session: None,
        ..request()
    };
    assert_eq!(sink.acquire(&outside).unwrap().profile, id("rig:a"));
    sink.order_set(&agent("main"), "rig", &[id("rig:a")]).unwrap();
    assert_eq!(served(&sink), id("rig:b"));
    say(&sink, "/new");
    assert_eq!(served(&sink), id("rig:a"));
    // What failed in this request already is not handed out again, and the session returns.
    sink.order_clear(&agent("main"), "rig").unwrap();
    assert_eq!(served(&sink), id("rig:a"));
    let again = AcquireRequest {
        tried: vec![id("rig:a")],
        ..request()
    };
    assert_eq!(sink.acquire(&again).unwrap().profile, id("rig:b"));
    assert_eq!(served(&sink), id("rig:a"));
}

#[test]
fn no_failure_leaves_a_locked_profile() {
    let world = with_keys();
    let mut grant = crate::world::oauth("rig", "due");
    grant["expires"] = json!(1);
    world.store("main", &json!({"rig:a": grant, "rig:b": api_key("rig")}));
    let sink = world.sink();
    let automatic = sink.acquire(&request()).unwrap();
    assert_eq!(
        automatic.profile,
        id("rig:b"),
        "its refresh fails, so another one serves"
    );
    assert_eq!(
        entry(&world)["authProfileOverride"],
        "rig:b",
        "and keeps the session that begins"
    );
    say(&sink, "/model rig-small@rig:a");
    let error = sink.acquire(&request()).unwrap_err();
    assert_eq!(error.profile(), Some(&id("rig:a")), "{error}");
    assert_eq!(entry(&world)["authProfileOverride"], "rig:a");
    benched(&world, "rig:a");
    sink.acquire(&request()).unwrap_err();
}

/// That the order of an automatic pin of OpenClaw is noted is no reason to move it.
#[test]
fn a_pin_of_openclaw_whose_refresh_fails_stays() {
    let world = with_keys();
    let mut grant = crate::world::oauth("rig", "due");
    grant["expires"] = json!(1);
    world.store("main", &json!({"rig:a": grant, "rig:b": api_key("rig")}));
    let theirs = json!({session_key().as_str(): {
        "sessionId": "0c1d", "updatedAt": 5,
        "authProfileOverride": "rig:a", "authProfileOverrideSource": "auto",
    }});
    world.put(FILE, &theirs.to_string());
    let sink = world.sink();
    for _ in 0..2 {
        assert_eq!(sink.acquire(&request()).unwrap().profile, id("rig:b"));
        assert_eq!(world.json(FILE), theirs);
    }
}

#[test]
fn sessions_that_cannot_be_read_or_written_stop_no_lease() {
    let world = with_keys();
    world.put(FILE, "{ broken");
    let lease = world.sink().acquire(&request()).unwrap();
    let note = lease.note.unwrap();
    assert!(
        note.contains("set aside as") && note.contains("sessions.json.unreadable-"),
        "{note}"
    );
    assert_eq!(world.sink().acquire(&request()).unwrap().note, None);
    // Another program holds the file for long.
    let world = with_keys();
    let lock = tokensink_store::foreign_lock_text(4712, 4712, world.sink().now());
    world
        .test
        .processes
        .set_liveness(FakeProcesses::id(4712), Liveness::Running);
    world
        .test
        .files
        .put(crate::world::at(&format!("{FILE}.lock")), lock, 0o600);
    let lease = world.sink().acquire(&request()).unwrap();
    let note = lease.note.unwrap();
    assert!(
        note.contains("could not be kept") && note.contains("4712"),
        "{note}"
    );
    // Nothing may be written, and nothing is.
    let world = with_keys();
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    assert_eq!(world.sink().acquire(&request()).unwrap().profile, id("rig:a"));
    assert_eq!(world.text(FILE), "");
}

/// Whoever reads where an account is used must see that a file of their own sends it elsewhere.
#[test]
fn an_overridden_endpoint_is_named() {
    let world = with_keys();
    let endpoint = |sink: &Sink| {
        let status = say(sink, "/model status");
        let line = status.lines().find(|line| line.starts_with("[openai] ")).unwrap();
        line.split_once(" api:").unwrap().0.to_owned()
    };
    let config = "{ agents: { defaults: { model: 'openai/gpt-5.1' } } }";
    world.put("openclaw.json", config);
    assert_eq!(endpoint(&world.sink()), "[openai] endpoint: default");
    let mine = "id = \"openai\"\n[api]\nbase_url = \"http://127.0.0.1:9/v1\"\n";
    world.put("tokensink/providers/openai.toml", mine);
    let file = "/home/user/.openclaw/tokensink/providers/openai.toml:3";
    assert_eq!(
        endpoint(&world.sink()),
        format!("[openai] endpoint: http://127.0.0.1:9/v1 (by {file})")
    );
}
