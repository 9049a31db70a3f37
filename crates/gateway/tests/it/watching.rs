//! Seeing what a gateway does: decisions, numbers, logs.

use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokensink_gateway::Bounds;
use tokensink_sink::{AgentId, Asked, Reproduced};
use tracing_subscriber::fmt::MakeWriter;

use crate::raw::Answer;
use crate::world::{KEY, World, client, error, eventually};

const CHAT: &str = r#"{"model":"small","messages":["prompt-canary"]}"#;

/// An API that limits the account `first-canary` and serves the other.
fn limited() -> World {
    World::new(&["first-canary", "second-canary"], |seen, talk| {
        if seen.bearer() == "sk-first-canary" {
            let body = r#"{"error":{"type":"rate_limit_error","message":"answer-canary"}}"#;
            talk.answer(429, &[("retry-after", "60")], body);
        } else {
            talk.json(200, r#"{"text":"answer-canary"}"#);
        }
    })
}

fn metrics(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    answer.text()
}

#[test]
fn an_answer_names_its_request_and_explain_tells_all_of_it() {
    let world = limited();
    let gateway = world.gateway();
    let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
    assert_eq!(answer.header("x-tokensink-profile"), Some("rig:second-canary"));
    let id = answer.header("x-tokensink-request").unwrap().to_owned();
    // The last choices are written when it ends.
    gateway.shutdown(std::time::Duration::from_secs(5));
    let told = world.sink().explain(&Asked::Id(id.clone())).unwrap();
    let served: Vec<_> = told
        .choices
        .iter()
        .map(|choice| choice.served.clone().unwrap())
        .collect();
    assert_eq!(served, ["rig:first-canary", "rig:second-canary"]);
    assert!(
        told.choices
            .iter()
            .all(|choice| choice.request.as_ref() == Some(&id)),
        "{told:#?}"
    );
    let attempt = &told.choices[0].attempts[0];
    assert_eq!((attempt.outcome.as_str(), attempt.status), ("failed", Some(429)));
    assert!(attempt.rule.is_some());
    assert!(told.choices[0].attempts[0].bench.is_some());
    assert!(
        told.choices
            .iter()
            .all(|choice| choice.reproduced == Reproduced::Same),
        "{told:#?}"
    );
}

/// What the gateway refuses itself can be looked up, too: here because every account rests.
#[test]
fn a_refusal_names_its_request_and_explain_tells_why() {
    let world = World::new(&["one"], |_, talk| {
        let body = r#"{"error":{"type":"rate_limit_error","message":"slow"}}"#;
        talk.answer(429, &[("retry-after", "600")], body);
    });
    let gateway = world.gateway();
    let ask = || client(&gateway).post("/v1/chat/completions", CHAT).answer();
    let (passed_on, refused) = (ask(), ask());
    assert_eq!((passed_on.status, refused.status), (429, 429));
    assert!(refused.text().contains("all_benched"), "{}", refused.text());
    let ids = [&passed_on, &refused].map(|answer| answer.header("x-tokensink-request").unwrap().to_owned());
    assert_ne!(ids[0], ids[1]);
    // So does one that comes to no choice at all.
    let unknown = client(&gateway).request("GET", "/nowhere", "").answer();
    assert!(unknown.status == 404 && unknown.header("x-tokensink-request").is_some());
    gateway.shutdown(std::time::Duration::from_secs(5));
    let told = world.sink().explain(&Asked::Id(ids[1].clone())).unwrap();
    assert_eq!(told.choices.len(), 1, "{told:#?}");
    assert_eq!(told.choices[0].error.as_deref(), Some("all_benched"), "{told:#?}");
}

#[test]
fn numbers_are_had_with_a_key_only_and_count_what_happened() {
    let world = limited();
    let gateway = world.gateway();
    for _ in 0..2 {
        assert_eq!(
            client(&gateway)
                .post("/rig/chat/completions", CHAT)
                .answer()
                .status,
            200
        );
    }
    assert_eq!(client(&gateway).post("/nobody/x", "{}").answer().status, 404);
    let lines = [
        "tokensink_requests_total{provider=\"rig\",profile=\"rig:second-canary\",outcome=\"served\"} 2",
        "tokensink_requests_total{provider=\"\",profile=\"\",outcome=\"refused\"} 1",
        "tokensink_retries_total{provider=\"rig\",reason=\"rate_limit\"} 1",
        "tokensink_head_seconds_count{provider=\"rig\"} 2",
        "tokensink_streams_open 0",
        "tokensink_benches_open{agent=\"main\",profile=\"rig:first-canary\",reason=\"rate_limit\"} 1",
    ];
    // An answer is over a moment after its last byte.
    eventually("every number", || {
        let answer = client(&gateway).request("GET", "/metrics", "").answer();
        let text = metrics(&answer).to_owned();
        lines.iter().all(|line| text.lines().any(|one| one == *line))
    });
    let answer = client(&gateway)
        .write("GET /metrics HTTP/1.1\r\nhost: gateway\r\n\r\n")
        .answer();
    assert_eq!(
        (answer.status, error(&answer.body)["code"].as_str()),
        (401, Some("no_key"))
    );
}

/// What the provider's side did is no refusal of the gateway's, also where nothing of an answer came.
#[test]
fn an_attempt_without_an_answer_counts_as_what_it_was() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = format!("http://{closed}/base");
    let cases = [
        (None, "/rig/cut", 502, "cut_off"),
        (None, "/rig/hang", 504, "timed_out"),
        (Some(elsewhere), "/rig/x", 502, "server_error"),
    ];
    for (base_url, path, status, outcome) in cases {
        let world = World::new(&["one"], |seen, talk| {
            if seen.path.ends_with("hang") {
                let _ = talk.left_within(Duration::from_secs(10));
            }
            talk.cut();
        });
        if let Some(base_url) = base_url {
            world.provider(&base_url);
        }
        let gateway = world.gateway_with(Bounds {
            first_byte: Duration::from_millis(300),
            ..Bounds::default()
        });
        let answer = client(&gateway).post(path, "{}").answer();
        assert_eq!(answer.status, status, "{}", answer.text());
        let line = format!(
            "tokensink_requests_total{{provider=\"rig\",profile=\"rig:one\",outcome=\"{outcome}\"}} 1"
        );
        eventually(&line, || {
            let answer = client(&gateway).request("GET", "/metrics", "").answer();
            metrics(&answer).lines().any(|one| one == line)
        });
    }
}

/// Everything that was logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn nothing_that_is_logged_holds_a_secret_or_what_was_said() {
    let kept = Kept::default();
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(kept.clone())
        .init();
    let world = limited();
    let gateway = world.gateway();
    client(&gateway).post("/v1/chat/completions", CHAT).answer();
    client(&gateway).post("/rig/x?key=query-canary", "{}").answer();
    client(&gateway)
        .request("GET", "/metrics", "cookie: cookie-canary\r\n")
        .answer();
    client(&gateway)
        .write("POST /rig/x HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer wrong-canary\r\ncontent-length: 0\r\n\r\n")
        .answer();
    client(&gateway)
        .post("/v1/chat/completions", r#"{"model":"a-canary","model":"b"}"#)
        .answer();
    eventually("the lines of all requests", || {
        kept.text().matches("tokensink_gateway::access").count() >= 5
    });
    gateway.shutdown(std::time::Duration::from_secs(5));
    let text = kept.text();
    for secret in [
        KEY,
        "sk-first-canary",
        "sk-second-canary",
        "wrong-canary",
        "query-canary",
        "cookie-canary",
        "prompt-canary",
        "answer-canary",
    ] {
        assert!(
            !text.contains(secret),
            "{secret} in {}",
            text.lines().find(|line| line.contains(secret)).unwrap()
        );
    }
    let line = text
        .lines()
        .find(|line| line.contains("access") && line.contains("rate_limit"))
        .unwrap();
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let fields = &value["fields"];
    assert_eq!((&fields["status"], &fields["tries"]), (&200.into(), &2.into()));
    assert_eq!(fields["profile"], "rig:second-canary");
    assert_eq!(fields["request"].as_str().map(str::len), Some(16));
}

/// Also when the answers come faster than successes are reported.
#[test]
fn the_limits_of_every_answer_are_known() {
    let asked = AtomicUsize::new(0);
    let world = World::new(&["one"], move |_, talk| {
        let used = ["0.25", "0.50", "0.75"][asked.fetch_add(1, Ordering::SeqCst)];
        let headers = [("anthropic-ratelimit-unified-5h-utilization", used)];
        talk.answer(200, &headers, r#"{"text":"hello"}"#);
    });
    let gateway = world.gateway();
    for _ in 0..3 {
        let answer = client(&gateway).post("/v1/chat/completions", CHAT).answer();
        assert_eq!(answer.status, 200);
    }
    // What is not in the file yet is written when it ends.
    gateway.shutdown(std::time::Duration::from_secs(5));
    let known = world.sink().quota(&AgentId::main()).unwrap();
    let shares: Vec<f64> = known.values().flatten().map(|reading| reading.used).collect();
    assert_eq!(shares, [0.75]);
}
