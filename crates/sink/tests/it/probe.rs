//! `models status --probe`: real requests, counted like any other call.

use std::time::Duration;

use http::Response;
use serde_json::{Value, json};
use tokensink_sink::{AgentId, ErrorKind, ProbeReport, ProbeRequest, ProfileId};
use tokensink_types::Body;

use crate::world::{self, STATE, World};

fn ask(profiles: &[&str]) -> ProbeRequest {
    ProbeRequest {
        agent: AgentId::main(),
        provider: None,
        profiles: profiles.iter().map(|id| ProfileId::parse(id).unwrap()).collect(),
        timeout: Duration::from_secs(8),
        concurrency: 2,
        max_tokens: 8,
    }
}

fn rows(report: &ProbeReport) -> Vec<(&str, &str, Option<&str>)> {
    let mut rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.profile.as_str(), row.status, row.reason_code.as_deref()))
        .collect();
    rows.sort_unstable();
    rows
}

/// An API that knows what each key is worth.
fn world_with_keys() -> World {
    let world = World::new(world::strict());
    let key = |key: &str| json!({"type": "api_key", "provider": "rig", "key": key});
    world.put_store(
        "main",
        &json!({"rig:good": key("sk-good"), "rig:full": key("sk-full"), "rig:old": key("sk-old"),
            "rig:empty": {"type": "api_key", "provider": "rig"},
            "bot:x": {"type": "api_key", "provider": "bot", "key": "sk-bot"}}),
    );
    let answer = |status: u16, body: Value| {
        Response::builder()
            .status(status)
            .body(Body::new(body.to_string().into_bytes()))
            .unwrap()
    };
    world.test.transport.on_request(move |request| {
        assert!(
            request.uri().path().ends_with("/v1/chat/completions"),
            "{}",
            request.uri()
        );
        let body: Value = serde_json::from_slice(request.body().expose()).unwrap();
        assert_eq!(
            (&body["model"], &body["max_tokens"]),
            (&json!("rig-small"), &json!(8))
        );
        let key = request.headers()["authorization"].to_str().unwrap();
        Ok(match key {
            "Bearer sk-good" => answer(200, json!({"choices": []})),
            "Bearer sk-full" => answer(
                429,
                json!({"error": {"type": "rate_limit_error", "message": "slow down"}}),
            ),
            _ => answer(
                401,
                json!({"error": {"message": "Incorrect API key provided: sk-old"}}),
            ),
        })
    });
    world
}

#[test]
fn every_profile_is_asked_once_and_what_it_says_counts() {
    let world = world_with_keys();
    let sink = world.sink();
    let report = sink.probe(&ask(&[])).unwrap();
    assert_eq!(
        rows(&report),
        [
            ("bot:x", "unknown", Some("not_probed")),
            ("rig:empty", "unknown", Some("missing_credential")),
            ("rig:full", "rate_limit", None),
            ("rig:good", "ok", None),
            ("rig:old", "auth", None),
        ]
    );
    let called = |row: &&tokensink_sink::ProbeRow| row.latency.is_some();
    assert_eq!(report.rows.iter().filter(called).count(), 3);
    assert!(
        report.rows[0].latency.is_none(),
        "those that were not called come first"
    );
    for row in &report.rows {
        assert!(
            !row.error.as_deref().unwrap_or_default().contains("sk-old"),
            "{row:?}"
        );
    }
    let status = sink.status(&AgentId::main()).unwrap();
    let benched: Vec<&str> = status
        .profiles
        .iter()
        .filter(|profile| !profile.benches.is_empty())
        .map(|profile| profile.id.as_str())
        .collect();
    assert_eq!(benched, ["rig:full", "rig:old"]);
}

#[test]
fn only_what_was_asked_for_is_asked() {
    let world = world_with_keys();
    let config = json!({"auth": {"order": {"rig": ["rig:good"]}}}).to_string();
    world
        .test
        .files
        .put(format!("{STATE}/openclaw.json"), config, 0o600);
    let sink = world.sink();
    let report = sink.probe(&ask(&["rig:full", "rig:good"])).unwrap();
    assert_eq!(
        rows(&report),
        [
            ("rig:full", "unknown", Some("excluded_by_auth_order")),
            ("rig:good", "ok", None)
        ]
    );
    let error = sink.probe(&ask(&["rig:nobody"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let provider = |text: &str| ProbeRequest {
        provider: Some(text.to_owned()),
        ..ask(&[])
    };
    assert_eq!(sink.probe(&provider("bot")).unwrap().rows.len(), 1);
    assert_eq!(
        sink.probe(&provider("nonsense")).unwrap_err().kind(),
        ErrorKind::Usage
    );
}
