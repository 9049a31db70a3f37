//! The catalogue as clients ask for it.

use serde_json::{Value, json};

use crate::world::{World, client, error};

#[test]
fn a_client_finds_the_models_that_it_can_ask_for() {
    let world = World::new(&["one"], |_, talk| talk.json(200, "{}"));
    let gateway = world.gateway();
    let ask = |path: &str, headers: &str| {
        let answer = client(&gateway).request("GET", path, headers).answer_to("GET");
        (answer.status, answer.body)
    };
    let (status, body) = ask("/v1/models?client_version=0.169.0", "");
    let listed: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, &listed["object"], &listed["data"][0]["id"]),
        (200, &json!("list"), &json!("rig/small"))
    );
    let (_, body) = ask("/v1/models", "anthropic-version: 2023-06-01\r\n");
    let other_api: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(other_api["data"], json!([]));
    assert_eq!(ask("/v1/models/rig/small", "").0, 200);
    let (status, body) = ask("/v1/models/anthropic%2Fclaude-opus-4-6", "");
    assert_eq!((status, &error(&body)["code"]), (404, &json!("unknown_model")));
    assert_eq!(world.upstream.connections(), 0);
}
