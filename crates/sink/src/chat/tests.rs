//! Turns against a scripted network.

mod cancel;
mod chain;
mod program;

use std::time::Duration;

use http::Response;
use serde_json::{Value, json};
use tokensink_testkit::{Scripted, Step};
use tokensink_types::{Body, SessionKey};

use super::*;
use crate::error::{ErrorKind, SinkError};
use crate::login::Cancel;
use crate::world::{World, agent, key, oauth};

const SMALL: &str = "{ agents: { defaults: { model: 'rig/rig-small' } } }";

/// What a turn told.
#[derive(Debug, Default)]
struct Told {
    text: String,
    moved: Vec<Moved>,
    serving: Vec<Serving>,
}

fn world(config: &str, profiles: &Value) -> World {
    let world = World::new();
    world.put("openclaw.json", config);
    world.store("main", profiles);
    world
}

fn two_accounts() -> World {
    world(
        SMALL,
        &json!({"rig:a": oauth("rig", "a"), "rig:b": oauth("rig", "b")}),
    )
}

fn request(session: Option<&str>) -> ChatRequest {
    ChatRequest {
        agent: agent("main"),
        session: session.map(|key| SessionKey::parse(key).unwrap()),
        kept: session.is_some(),
        model: None,
    }
}

fn ask_in(world: &World, chat: &mut Chat, prompt: &str) -> (Result<ChatAnswer>, Told) {
    let mut told = Told::default();
    let answer = world
        .sink()
        .chat_turn(chat, prompt, &Cancel::default(), &mut |event| match event {
            ChatEvent::Text(text) => told.text.push_str(text),
            ChatEvent::Moved(moved) => told.moved.push(moved.clone()),
            ChatEvent::Serving(serving) => told.serving.push(serving.clone()),
            ChatEvent::Note(_) => {}
        });
    (answer, told)
}

fn ask(world: &World) -> (Result<ChatAnswer>, Told) {
    let mut chat = world.sink().chat(request(None)).unwrap();
    ask_in(world, &mut chat, "hi")
}

fn chat_events(pieces: &[&str]) -> Vec<Step> {
    let mut steps: Vec<Step> = pieces
        .iter()
        .map(|text| {
            Step::text(&format!(
                "data: {}\n\n",
                json!({"choices": [{"delta": {"content": text}}]})
            ))
        })
        .collect();
    let last = json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
    steps.push(Step::text(&format!("data: {last}\n\ndata: [DONE]\n\n")));
    steps
}

fn answers(world: &World, pieces: &[&str]) {
    world.test.transport.push(Scripted::events(chat_events(pieces)));
}

fn refuses(world: &World, status: u16, header: Option<(&'static str, &str)>, body: &str) {
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    let response = response.body(Body::new(body)).unwrap();
    world.test.transport.push(Scripted::Exchange(Ok(response)));
}

const SLOW: &str = r#"{"error":{"message":"Rate limit reached","type":"rate_limit_error"}}"#;
const DENIED: &str =
    r#"{"error":{"message":"Invalid token","type":"invalid_request_error","code":"invalid_api_key"}}"#;

/// Who was asked, by the bearer token.
fn bearers(world: &World) -> Vec<String> {
    let requests = world.test.transport.requests();
    let token = |request: &http::Request<Body>| {
        let value = request.headers().get("authorization")?.to_str().ok()?;
        value.strip_prefix("Bearer ").map(str::to_owned)
    };
    requests.iter().filter_map(token).collect()
}

fn profile_of(answer: &ChatAnswer) -> &str {
    answer.serving.profile.as_ref().map_or("", ProfileId::as_str)
}

#[track_caller]
fn failed(answer: Result<ChatAnswer>) -> SinkError {
    match answer {
        Ok(answer) => panic!("{answer:?}"),
        Err(error) => error,
    }
}

#[test]
fn an_answer_is_told_as_it_comes_and_kept_whole() {
    let world = two_accounts();
    answers(&world, &["hel", "lo"]);
    let mut chat = world.sink().chat(request(Some("agent:main:x"))).unwrap();
    let (answer, told) = ask_in(&world, &mut chat, "hi");
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), told.text.as_str()), ("hello", "hello"));
    assert_eq!(profile_of(&answer), "rig:a");
    assert_eq!(answer.serving.email.as_deref(), Some("a@example.com"));
    assert_eq!(
        (answer.usage.input_tokens, answer.usage.output_tokens),
        (Some(3), Some(2))
    );
    assert_eq!((told.moved.len(), told.serving.len()), (0, 1));
    let sent = &world.test.transport.requests()[0];
    assert_eq!(sent.uri(), "http://127.0.0.1:9500/v1/chat/completions");
    let body: Value = serde_json::from_slice(sent.body().expose()).unwrap();
    assert_eq!(body["model"], "rig-small");
    // A second turn sends the first along, in another process as well.
    answers(&world, &["fine"]);
    let mut again = world.sink().chat(request(Some("agent:main:x"))).unwrap();
    assert_eq!(again.messages(), chat.messages());
    ask_in(&world, &mut again, "and?").0.unwrap();
    let body: Value = serde_json::from_slice(world.test.transport.requests()[1].body().expose()).unwrap();
    let texts: Vec<&str> = body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["content"].as_str())
        .collect();
    assert_eq!(texts, ["hi", "hello", "and?"]);
    world.sink().chat_anew(&mut again).unwrap();
    assert!(
        world
            .sink()
            .chat(request(Some("agent:main:x")))
            .unwrap()
            .messages()
            .is_empty()
    );
}

#[test]
fn who_would_be_asked_is_known_beforehand() {
    let world = two_accounts();
    let sink = world.sink();
    let mut chat = sink.chat(request(Some("agent:main:x"))).unwrap();
    let who = |chat: &Chat| {
        let serving = sink.chat_prospect(chat)?;
        Some(format!("{} {}", serving.model, serving.profile?))
    };
    assert_eq!(who(&chat).as_deref(), Some("rig/rig-small rig:a"));
    sink.chat_directive(&mut chat, "/model rig-large@rig:b").unwrap();
    assert_eq!(who(&chat).as_deref(), Some("rig/rig-large rig:b"));
    assert_eq!(world.test.transport.requests().len(), 0);
    let nobody = self::world(SMALL, &json!({}));
    assert_eq!(nobody.sink().chat_prospect(&chat), None);
}

#[test]
fn a_limit_moves_the_turn_to_the_next_account() {
    let world = two_accounts();
    refuses(&world, 429, Some(("retry-after", "120")), SLOW);
    answers(&world, &["hello"]);
    let (answer, told) = ask(&world);
    let answer = answer.unwrap();
    assert_eq!(profile_of(&answer), "rig:b");
    let [moved] = told.moved.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(moved.from.profile.as_ref().map(ProfileId::as_str), Some("rig:a"));
    assert_eq!(moved.from.text, "429: Rate limit reached");
    assert_eq!(moved.from.reason, Reason::RateLimit);
    assert!(moved.from.until.is_some_and(|until| until > world.sink().now()));
    assert_eq!(answer.attempts.len(), 1);
    assert_eq!(bearers(&world), ["access-a-canary", "access-b-canary"]);
    // The next turn does not ask the first again.
    answers(&world, &["hello"]);
    let (answer, told) = ask(&world);
    assert_eq!((profile_of(&answer.unwrap()), told.moved.len()), ("rig:b", 0));
}

#[test]
fn money_is_never_crossed_unasked() {
    let with_key = json!({"rig:a": oauth("rig", "a"), "openai:key": key("openai")});
    let config =
        "{ agents: { defaults: { model: { primary: 'rig/rig-small', fallbacks: ['openai/gpt-5.1'] } } } }";
    let world = world(config, &with_key);
    refuses(&world, 429, Some(("retry-after", "120")), SLOW);
    let (answer, told) = ask(&world);
    let error = failed(answer);
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    assert!(error.retry_at().is_some());
    assert!(
        error
            .to_string()
            .starts_with("All models failed (2): rig/rig-small: rig:a: 429"),
        "{error}"
    );
    assert!(error.to_string().contains("is metered"), "{error}");
    assert!(told.moved.is_empty());
    assert_eq!(world.test.transport.requests().len(), 1);
    // Neither while the first is benched from before.
    let error = failed(ask(&world).0);
    assert!(error.to_string().contains("is metered"), "{error}");
    assert_eq!(world.test.transport.requests().len(), 1);
}

/// The trail names who asked, whoever owns the account that costs more.
#[test]
fn an_allowed_crossing_is_that_of_the_asking_agent() {
    let profiles = json!({"rig:a": oauth("rig", "a"), "mute:b": oauth("mute", "b")});
    let config =
        "{ agents: { defaults: { model: { primary: 'rig/rig-small', fallbacks: ['mute/rig-large'] } } } }";
    let world = world(config, &profiles);
    let allowed =
        "[profiles.\"mute:b\"]\nbilling = \"metered\"\n[billing]\nallow = [\"subscription -> metered\"]\n";
    world.put("tokensink/config.toml", allowed);
    refuses(&world, 429, Some(("retry-after", "120")), SLOW);
    answers(&world, &["hello"]);
    let of_work = ChatRequest {
        agent: agent("work"),
        ..request(None)
    };
    let mut chat = world.sink().chat(of_work).unwrap();
    let answer = ask_in(&world, &mut chat, "hi").0.unwrap();
    assert_eq!(profile_of(&answer), "mute:b");
    let trail = world.text("tokensink/audit.jsonl");
    let crossing =
        r#""event":"crossing","agent":"work","profile":"mute:b","detail":"subscription -> metered"#;
    assert!(trail.contains(crossing), "{trail}");
}

#[test]
fn another_model_of_the_same_price_answers() {
    let profiles = json!({"rig:a": oauth("rig", "a"), "mute:b": oauth("mute", "b")});
    let config =
        "{ agents: { defaults: { model: { primary: 'rig/rig-small', fallbacks: ['mute/rig-large'] } } } }";
    let world = world(config, &profiles);
    refuses(
        &world,
        404,
        None,
        r#"{"error":{"message":"The model does not exist","code":"model_not_found"}}"#,
    );
    answers(&world, &["hello"]);
    let (answer, told) = ask(&world);
    assert_eq!(profile_of(&answer.unwrap()), "mute:b");
    assert_eq!(
        (told.moved.len(), told.moved[0].to.model.as_str()),
        (1, "mute/rig-large")
    );
}

/// Answers of the token endpoint.
fn renews(world: &World, name: &str) {
    let body = json!({"access_token": format!("access-{name}-canary"), "refresh_token": format!("refresh-{name}-canary"), "expires_in": 7200});
    world.test.transport.push(Scripted::json(200, &body.to_string()));
}

#[test]
fn a_refused_token_is_refreshed_once() {
    let world = world(SMALL, &json!({"rig:a": oauth("rig", "a")}));
    world.test.clock.advance(Duration::from_secs(600));
    refuses(&world, 401, None, DENIED);
    renews(&world, "new");
    answers(&world, &["hello"]);
    let (answer, told) = ask(&world);
    assert_eq!(profile_of(&answer.unwrap()), "rig:a");
    assert_eq!(bearers(&world), ["access-a-canary", "access-new-canary"]);
    assert!(told.moved.is_empty(), "nobody else took over");
    // Refused again, it is not refreshed again, and nobody is left.
    world.test.clock.advance(Duration::from_secs(600));
    refuses(&world, 401, None, DENIED);
    renews(&world, "newer");
    refuses(&world, 401, None, DENIED);
    let error = failed(ask(&world).0);
    assert_eq!(error.kind(), ErrorKind::LoginNeeded, "{error}");
    assert_eq!(world.test.transport.left(), 0);
    assert_eq!(bearers(&world).len(), 4);
}

#[test]
fn a_refused_key_is_not_sent_again() {
    let profiles = json!({"rig:a": key("rig")});
    let world = world(SMALL, &profiles);
    refuses(&world, 401, None, DENIED);
    let error = failed(ask(&world).0);
    assert_eq!(
        (error.kind(), world.test.transport.requests().len()),
        (ErrorKind::LoginNeeded, 1)
    );
    assert!(!error.to_string().contains("sk-canary"));
}

#[test]
fn what_may_have_been_billed_is_not_asked_again() {
    let piece = chat_events(&["hel"]).remove(0);
    let cases: [(&str, Vec<Step>); 5] = [
        ("a cut after text", vec![piece.clone(), Step::Cut]),
        ("an early end", vec![piece.clone()]),
        ("a cut before text", vec![Step::text(": ping\n\n"), Step::Cut]),
        ("no first byte", vec![Step::Silence(Duration::from_secs(601))]),
        (
            "no next byte",
            vec![piece.clone(), Step::Silence(Duration::from_secs(301))],
        ),
    ];
    for (name, steps) in cases {
        let world = two_accounts();
        world.test.transport.push(Scripted::events(steps));
        let mut chat = world.sink().chat(request(Some("agent:main:x"))).unwrap();
        let error = failed(ask_in(&world, &mut chat, "hi").0);
        assert_eq!(error.code(), "answer_broken", "{name}: {error}");
        assert_eq!(world.test.transport.connections(), 1, "{name}");
        assert!(chat.messages().is_empty(), "{name}: half an answer is none");
    }
    // An error that is told after text ends the turn, too.
    let world = two_accounts();
    let oops = Step::text(&format!("data: {SLOW}\n\n"));
    world.test.transport.push(Scripted::events([piece, oops]));
    let error = failed(ask(&world).0);
    assert_eq!(
        (error.code(), world.test.transport.connections()),
        ("answer_broken", 1)
    );
}

#[test]
fn an_error_before_any_text_is_like_an_error_answer() {
    let world = two_accounts();
    world
        .test
        .transport
        .push(Scripted::events([Step::text(&format!("data: {SLOW}\n\n"))]));
    answers(&world, &["hello"]);
    let (answer, told) = ask(&world);
    assert_eq!((profile_of(&answer.unwrap()), told.moved.len()), ("rig:b", 1));
}

#[test]
fn a_question_that_is_too_long_is_said_so() {
    let world = two_accounts();
    refuses(
        &world,
        400,
        None,
        r#"{"error":{"message":"This model's maximum context length is 10 tokens","code":"context_length_exceeded"}}"#,
    );
    let error = failed(ask(&world).0);
    assert_eq!(error.code(), "context_overflow", "{error}");
    assert!(error.fix().is_some_and(|fix| fix.contains("/new")));
}
