//! The API that the logins are for, on loopback. It takes only access tokens that the authorization server takes too,
//! and says the same thing to everybody who brings one.

use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokensink_types::Body;

use crate::vendors::{self, Vendor};

/// What the API says when all is well.
pub const HELLO: &str = "hello from the kit";

/// The path under which requests go to the API of the chat completions kind; its base URL ends in `/v1`.
const CHAT: &str = "/v1/chat/completions";
const MODELS: &str = "/v1/models";

/// Whether `path` is one of the API.
pub(crate) fn serves(path: &str) -> bool {
    matches!(path, CHAT | MODELS) || Vendor::of(path).is_some()
}

/// The answer to a request with a living access token.
pub(crate) fn answer(request: &Request<Body>) -> Response<Body> {
    match request.uri().path() {
        CHAT => chat(request.body().expose()),
        path if Vendor::of(path).is_some() => {
            vendors::served(request.method().as_str(), path, request.body().expose())
        }
        _ => json_answer(
            StatusCode::OK,
            &json!({"object": "list", "data": [{"id": "kit-small", "object": "model", "created": 0, "owned_by": "kit"}]}),
        ),
    }
}

/// The answer to a request without one.
pub(crate) fn refusal(path: &str) -> Response<Body> {
    if let Some(vendor) = Vendor::of(path) {
        return vendor.refusal();
    }
    let error = json!({
        "message": "The access token is missing, unknown, expired or revoked.",
        "type": "authentication_error",
        "code": "token_invalid",
    });
    json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": error }))
}

/// Chat completions, as a stream or whole, as asked.
fn chat(request: &[u8]) -> Response<Body> {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    if request["stream"] == json!(true) {
        let chunk =
            |choice: Value| json!({"id": "kit", "object": "chat.completion.chunk", "choices": [choice]});
        let said = chunk(
            json!({"index": 0, "delta": {"role": "assistant", "content": HELLO}, "finish_reason": null}),
        );
        let end = chunk(json!({"index": 0, "delta": {}, "finish_reason": "stop"}));
        let events = format!("data: {said}\n\ndata: {end}\n\ndata: [DONE]\n\n");
        return typed(StatusCode::OK, "text/event-stream", events);
    }
    let message = json!({"role": "assistant", "content": HELLO});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    json_answer(
        StatusCode::OK,
        &json!({"id": "kit", "object": "chat.completion", "choices": [choice], "usage": usage}),
    )
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    typed(status, "application/json", value.to_string())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
