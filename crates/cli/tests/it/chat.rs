//! `chat` as a user sees it: three kinds of API, a program as back end, a terminal, and what goes wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokensink_host::http_server::{Reply, Server};
use tokensink_types::Body;

use crate::support::processes::{signal, wait_for_state};
use crate::world::{Said, World};

/// Servers of three kinds of API in one, which know an account by the word in its key.
struct Upstream {
    server: Server,
    seen: Arc<Mutex<Vec<Request<Body>>>>,
}

impl Upstream {
    fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        let handler = Arc::new(move |request: Request<Body>, _| {
            let reply = reply(&request);
            note.lock().unwrap().push(request);
            reply
        });
        Self {
            server: Server::start("127.0.0.1:0".parse().unwrap(), handler).unwrap(),
            seen,
        }
    }

    /// A world with a provider of each kind and the given accounts of it: profile and key.
    fn world(&self, kind: &str, accounts: &[(&str, &str)]) -> World {
        let world = World::new();
        self.provider(&world, "rig", kind, "subscription");
        for (profile, key) in accounts {
            let line =
                format!("tokensink models auth paste-api-key --provider rig --profile-id rig:{profile}");
            world.feed(&line, key).code(0);
        }
        world.run("tokensink models set rig/small").code(0);
        world
    }

    fn provider(&self, world: &World, id: &str, kind: &str, billing: &str) {
        let definition = format!(
            "id = \"{id}\"\nname = \"{id}\"\nbilling = \"{billing}\"\n[api]\nkind = \"{kind}\"\n\
             base_url = \"http://{}/v1\"\nmodels = [\"small\", \"large\"]\n\
             [[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n",
            self.server.addr()
        );
        world.write(&format!(".openclaw/tokensink/providers/{id}.toml"), &definition);
    }

    /// The words of the accounts that were asked, in order.
    fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(account).collect()
    }

    fn body(&self, at: usize) -> Value {
        serde_json::from_slice(self.seen.lock().unwrap()[at].body().expose()).unwrap()
    }
}

fn account(request: &Request<Body>) -> String {
    let value = request.headers()["authorization"].to_str().unwrap();
    value
        .strip_prefix("Bearer sk-")
        .unwrap()
        .split('-')
        .next()
        .unwrap()
        .to_owned()
}

fn reply(request: &Request<Body>) -> Reply {
    let answer = |status: u16, body: &str| {
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("retry-after", "1200")
            .body(Body::new(body))
            .unwrap()
    };
    let stream = stream(request.uri().path());
    match account(request).as_str() {
        "slow" => answer(
            429,
            r#"{"error":{"type":"rate_limit_error","message":"Slow down"}}"#,
        )
        .into(),
        "bad" => answer(
            401,
            r#"{"error":{"code":"invalid_api_key","message":"Wrong key"}}"#,
        )
        .into(),
        "cut" => Reply::Cut {
            after_bytes: "HTTP/1.1 200 OK\r\n".len() + 120 + stream.find("lo").unwrap(),
            response: answer(200, &stream),
        },
        _ => answer(200, &stream).into(),
    }
}

/// `hello` in two pieces.
fn stream(path: &str) -> String {
    let events = match path {
        "/v1/v1/messages" => vec![
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 5}}}),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hel"}}),
            json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "lo"}}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
            json!({"type": "message_stop"}),
        ],
        "/v1/responses" => vec![
            json!({"type": "response.output_text.delta", "delta": "hel"}),
            json!({"type": "response.output_text.delta", "delta": "lo"}),
            json!({"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 2}}}),
        ],
        "/v1/chat/completions" => vec![
            json!({"choices": [{"delta": {"content": "hel"}}]}),
            json!({"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}),
        ],
        other => panic!("{other} was asked"),
    };
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

const KINDS: [&str; 3] = ["anthropic-messages", "openai-responses", "openai-chat"];

#[test]
fn the_answer_alone_is_printed_for_each_kind_of_api() {
    let upstream = Upstream::start();
    for kind in KINDS {
        let world = upstream.world(kind, &[("a", "sk-good-0123456789abcdef")]);
        let said = world.run("tokensink chat -p hi").code(0);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("hello\n", ""), "{kind}");
        let said = world.feed("tokensink chat -p --json", "how are you?").code(0);
        let object = said.json();
        let want = json!({
            "answer": "hello", "model": "rig/small", "profile": "rig:a", "program": null,
            "billing": "subscription", "stopReason": null,
            "usage": {"inputTokens": 5, "outputTokens": 2}, "attempts": [],
        });
        assert_eq!((&object, said.err.as_str()), (&want, ""), "{kind}");
        let sent = upstream.body(upstream.asked().len() - 1).to_string();
        assert!(
            sent.contains("how are you?") && !sent.contains("\"hi\""),
            "{kind}: {sent}"
        );
    }
}

#[test]
fn a_failover_is_one_line_on_standard_error() {
    let upstream = Upstream::start();
    let world = upstream.world(
        "openai-chat",
        &[
            ("a", "sk-slow-0123456789abcdef"),
            ("b", "sk-good-0123456789abcdef"),
        ],
    );
    let said = world.run("tokensink chat -p hi").code(0);
    assert_eq!(said.out, "hello\n");
    assert!(
        said.err
            .starts_with("note: rig:a: 429: Slow down, not tried until 2"),
        "{said:#?}"
    );
    assert!(
        said.err.ends_with("; going on with rig:b\n") && said.err.lines().count() == 1,
        "{said:#?}"
    );
    // Another process knows it.
    let said = world.run("tokensink chat -p hi --json").code(0);
    assert_eq!(
        (&said.json()["profile"], &said.json()["attempts"]),
        (&json!("rig:b"), &json!([]))
    );
    assert_eq!(upstream.asked(), ["slow", "good", "good"]);
}

#[test]
fn what_is_to_be_done_is_in_the_exit_code() {
    let upstream = Upstream::start();
    let world = upstream.world("openai-chat", &[("a", "sk-slow-0123456789abcdef")]);
    let said = world.run("tokensink chat -p hi --json").code(75);
    assert_eq!(said.json()["error"]["code"], "all_models_failed");
    assert!(said.json()["error"]["retryAt"].is_number(), "{said:#?}");
    // A dearer account is left alone.
    upstream.provider(&world, "dear", "openai-chat", "metered");
    world
        .feed(
            "tokensink models auth paste-api-key --provider dear",
            "sk-good-0123456789abcdef",
        )
        .code(0);
    world.run("tokensink models fallbacks add dear/small").code(0);
    let said = world.run("tokensink chat -p hi").code(75);
    assert!(
        said.err.contains("is metered") && said.out.is_empty(),
        "{said:#?}"
    );
    assert_eq!(upstream.asked(), ["slow"]);
    world.write(
        ".openclaw/tokensink/config.toml",
        "[billing]\nallow = [\"subscription -> metered\"]\n",
    );
    let said = world.run("tokensink chat -p hi").code(0);
    assert_eq!(said.out, "hello\n");
    assert!(
        said.err.contains("which is metered instead of subscription"),
        "{said:#?}"
    );
    let trail = world.run("tokensink audit list").code(0);
    assert!(
        trail.out.contains("crossing") && trail.out.contains("subscription -> metered"),
        "{trail:#?}"
    );
    let world = upstream.world("openai-chat", &[("a", "sk-bad-0123456789abcdef")]);
    let said = world.run("tokensink chat -p hi").code(3);
    assert!(
        said.err.contains("401: Wrong key") && said.err.contains("fix: tokensink models auth paste-api-key"),
        "{said:#?}"
    );
    let world = upstream.world(
        "openai-chat",
        &[
            ("a", "sk-cut-0123456789abcdef"),
            ("b", "sk-good-0123456789abcdef"),
        ],
    );
    let before = upstream.asked().len();
    let said = world.run("tokensink chat -p hi").code(1);
    assert!(said.err.contains("did not answer to the end"), "{said:#?}");
    assert_eq!(upstream.asked().len(), before + 1, "it is not asked again");
    let world = upstream.world("openai-chat", &[]);
    world.run("tokensink chat -p hi").code(3);
    for line in [
        "tokensink chat -p hi --model nobody/x",
        "tokensink chat -p hi --agent nobody",
        "tokensink chat --json",
    ] {
        world.run(line).code(2);
    }
    world.feed("tokensink chat -p", " \n").code(2);
}

#[test]
fn a_session_stays_with_its_account_and_its_conversation() {
    let upstream = Upstream::start();
    let world = upstream.world(
        "openai-chat",
        &[
            ("a", "sk-good-0123456789abcdef"),
            ("b", "sk-other-0123456789abcdef"),
        ],
    );
    world
        .feed("tokensink chat --session notes", "/model large@rig:b\nfirst\n")
        .code(0);
    world
        .run("tokensink models auth order set --provider rig rig:a rig:b")
        .code(0);
    let said = world
        .run("tokensink chat --session notes -p second --json")
        .code(0)
        .json();
    assert_eq!(
        (&said["profile"], &said["model"]),
        (&json!("rig:b"), &json!("rig/large"))
    );
    let said = world.run("tokensink chat -p third --json").code(0).json();
    assert_eq!(
        (&said["profile"], &said["model"]),
        (&json!("rig:a"), &json!("rig/small")),
        "other sessions are free"
    );
    assert_eq!(upstream.asked(), ["other", "other", "good"]);
    let texts = |at| -> Vec<String> {
        let body = upstream.body(at);
        let messages = body["messages"].as_array().unwrap().iter();
        messages
            .map(|message| message["content"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(texts(1), ["first", "hello", "second"]);
    assert_eq!(texts(2), ["third"]);
    // A new conversation begins with nothing, and with the next account (spec.md 4.5).
    let said = world
        .feed("tokensink chat --session notes", "/new\nfourth\n")
        .code(0);
    assert!(said.out.starts_with("New session started."), "{said:#?}");
    assert_eq!(texts(3), ["fourth"]);
    let files = world.files();
    let kept: Vec<_> = files
        .iter()
        .filter(|(path, _)| path.to_string_lossy().contains("state/chat/"))
        .collect();
    let [(path, text)] = kept.as_slice() else {
        panic!("{kept:?}")
    };
    assert_eq!(
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(text.contains("fourth") && !text.contains("first"), "{text}");
}

#[test]
fn a_mistyped_command_costs_nothing() {
    let upstream = Upstream::start();
    let world = upstream.world("openai-chat", &[("a", "sk-good-0123456789abcdef")]);
    let cases = [
        ("-p", "/modle small", "/model"),
        ("-p", "/compact", "/model, /models, /status, /new, /reset"),
        ("-p", "/status", "--session"),
        ("--session x", "/resett\n", "/reset"),
        ("--session x", "/exit\n", "end the input"),
        (
            "--session x",
            "/help models\n",
            "fix: /model, /models, /status, /new, /reset",
        ),
    ];
    for (how, text, told) in cases {
        let said = world.feed(&format!("tokensink chat {how}"), text).code(2);
        assert!(
            said.err.contains(told) && said.out.is_empty(),
            "{text}: {said:#?}"
        );
    }
    assert_eq!(upstream.asked().len(), 0);
    // A path is no command, and a space says that none is meant.
    for text in ["/etc/passwd is what?", " /modle small"] {
        world.feed("tokensink chat -p", text).code(0);
    }
    assert_eq!(upstream.asked().len(), 2);
}

#[test]
fn what_a_chat_was_opened_with_shows_and_gives_way_to_a_choice() {
    let upstream = Upstream::start();
    let world = upstream.world("openai-chat", &[("a", "sk-good-0123456789abcdef")]);
    let said = world
        .feed(
            "tokensink chat --model rig/large",
            "/status\nfirst\n/model small\nsecond\n/status\n",
        )
        .code(0);
    let lines: Vec<_> = said.out.lines().chain(said.err.lines()).collect();
    let here = lines
        .iter()
        .filter(|line| line.starts_with("Here: rig/large (--model)"));
    assert_eq!(here.count(), 1, "only before another was chosen: {said:#?}");
    // `small` is the default, so that nothing changes in the session by choosing it.
    let models = [
        upstream.body(0)["model"].clone(),
        upstream.body(1)["model"].clone(),
    ];
    assert_eq!(models, ["large", "small"], "{said:#?}");
}

/// `claude` as far as a chat needs it; it tells how it was called.
const CLAUDE: &str = r#"#!/bin/sh
prompt=$(cat)
printf '%s\n' "$PWD" "$*" "$prompt" >> "$HOME/called"
env | sort >> "$HOME/environment"
echo '{"type":"system","subtype":"init","session_id":"s-1"}'
case $prompt in
limit) echo '{"type":"result","is_error":true,"api_error_status":429,"api_error_type":"rate_limit_error","result":"You have hit your limit"}' ;;
wait) sleep 600 & echo $! > "$HOME/child"; wait ;;
*) echo '{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"hel"}}}'
   echo '{"type":"result","is_error":false,"result":"hello","usage":{"input_tokens":5,"output_tokens":2}}' ;;
esac
"#;

/// A world in which Claude Code is logged in, its login is borrowed, and a stand-in of it is on PATH.
fn with_claude() -> World {
    let world = World::new();
    let login = json!({"claudeAiOauth": {
        "accessToken": "sk-ant-oat01-canary", "refreshToken": "sk-ant-ort01-canary",
        "expiresAt": 1_999_999_999_999_i64, "scopes": ["user:inference"], "subscriptionType": "max",
    }});
    world.write(".claude/.credentials.json", &login.to_string());
    let program = world.write("programs/claude", CLAUDE);
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.run("tokensink external set claude borrowed").code(0);
    world
        .run("tokensink models set anthropic/claude-sonnet-4-5")
        .code(0);
    world
}

fn path(world: &World) -> String {
    format!("{}:/usr/bin:/bin", world.path("programs").display())
}

fn chat_with_claude(world: &World, line: &str, input: Option<&str>) -> Said {
    let path = path(world);
    let variables = [
        ("PATH", path.as_str()),
        ("ANTHROPIC_API_KEY", "sk-ant-canary"),
        ("OPENAI_API_KEY", "sk-canary"),
        ("KEPT", "yes"),
    ];
    world.run_with(line, input, &variables)
}

#[test]
fn claude_answers_in_the_workspace_with_its_own_login() {
    let world = with_claude();
    let said = chat_with_claude(&world, "tokensink chat -p --json", Some("who are you?")).code(0);
    let object = said.json();
    assert_eq!(
        (&object["answer"], &object["program"]),
        (&json!("hel"), &json!("claude")),
        "{said:#?}"
    );
    assert_eq!(object["profile"], "anthropic:claude-cli");
    let called = std::fs::read_to_string(world.path("called")).unwrap();
    let [dir, words, prompt] = called.lines().collect::<Vec<_>>()[..] else {
        panic!("{called}")
    };
    assert_eq!(
        std::path::Path::new(dir),
        world.state("agents/main/workspace").canonicalize().unwrap()
    );
    assert_eq!(
        words,
        "-p --output-format stream-json --verbose --include-partial-messages --model claude-sonnet-4-5"
    );
    assert_eq!(prompt, "who are you?");
    let environment = std::fs::read_to_string(world.path("environment")).unwrap();
    assert!(
        environment.contains("KEPT=yes") && !environment.contains("canary"),
        "{environment}"
    );
    // A kept conversation is resumed by the program itself.
    chat_with_claude(&world, "tokensink chat --session x -p one", None).code(0);
    chat_with_claude(&world, "tokensink chat --session x -p two", None).code(0);
    let called = std::fs::read_to_string(world.path("called")).unwrap();
    assert!(called.contains("--resume s-1\ntwo\n"), "{called}");
    let said = chat_with_claude(&world, "tokensink chat -p limit", None).code(75);
    assert!(
        said.err
            .contains("anthropic:claude-cli: 429: You have hit your limit"),
        "{said:#?}"
    );
    std::fs::remove_file(world.path("programs/claude")).unwrap();
    world.run("tokensink models set claude-cli/opus").code(0);
    let said = chat_with_claude(&world, "tokensink chat -p hi", None).code(1);
    assert!(said.err.contains("claude is not on PATH"), "{said:#?}");
}

#[test]
fn ctrl_c_ends_the_program_and_what_it_has_started() {
    let world = with_claude();
    let mut command = world.command(&["tokensink", "chat", "-p", "wait"]);
    let child = command.env("PATH", path(&world)).spawn().unwrap();
    let noted = world.path("child");
    let begun = Instant::now();
    let started = loop {
        let text = std::fs::read_to_string(&noted).unwrap_or_default();
        if let Ok(pid) = text.trim().parse::<i32>() {
            break pid;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::yield_now();
    };
    signal(i32::try_from(child.id()).unwrap(), Signal::INT);
    let said = Said::of(child.wait_with_output().unwrap()).code(1);
    assert!(said.err.contains("given up"), "{said:#?}");
    wait_for_state(started, None);
}

#[test]
fn a_conversation_on_a_terminal() {
    let upstream = Upstream::start();
    let world = upstream.world(
        "openai-chat",
        &[
            ("a", "sk-slow-0123456789abcdef"),
            ("b", "sk-good-0123456789abcdef"),
        ],
    );
    let mut session = world.session("tokensink chat");
    session.wait_for("rig/small · /help shows the commands");
    session.wait_for("main · rig/small · rig:a › ");
    session.type_in("hi\r");
    // On a terminal the line is broken at words.
    session.wait_for("going on with");
    session.wait_for("hello");
    session.wait_for("main · rig/small · rig:b › ");
    session.type_in("/model large@rig:b\r");
    session.wait_for("Model set to rig/large. Auth profile set to rig:b.");
    session.wait_for("main · rig/large · rig:b › ");
    session.type_in("/model nobody/x\r");
    session.wait_for("unknown provider");
    session.wait_for("main · rig/large · rig:b › ");
    session.type_in("thrown away\u{3}");
    session.wait_for("main · rig/large · rig:b › ");
    session.type_in("again\r");
    session.wait_for("hello");
    session.type_in("/help models\r");
    session.wait_for("/new");
    session.wait_for("rig:b › ");
    session.type_in("/exit now\r");
    let said = session.finish().code(0);
    assert!(said.out.contains("\u{1b}["), "a terminal shows colours");
    // What is piped is plain, and the conversation was not kept.
    let said = world.feed("tokensink chat", "once more\n").code(0);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("hello\n", ""));
    let last = upstream.body(upstream.asked().len() - 1);
    assert_eq!(last["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["model"], "large", "but its model was");
}
