//! The model APIs of Claude and ChatGPT, as far as their own programs ask them for one answer (clients.md 2.5, 3.2).
//! Pure: who may ask is decided elsewhere. An account is alice's, as the kit's logins are. Public for tests that let the
//! same programs share their logins with others.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokensink_types::Body;

pub use crate::api::HELLO;

/// The client that Claude Code and OpenClaw name to Claude's server.
pub const CLAUDE_CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
/// The client that Codex names to OpenAI's server.
pub const CODEX_CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";
/// What a Claude login is granted, and what a refresh of it asks for.
pub const CLAUDE_SCOPES: [&str; 6] = [
    "user:profile",
    "user:inference",
    "user:sessions:claude_code",
    "user:mcp_servers",
    "user:file_upload",
    "user:plugins",
];
/// What a ChatGPT login is granted.
pub const CODEX_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// Whose API a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// `api.anthropic.com`.
    Anthropic,
    /// `chatgpt.com`.
    Openai,
}

impl Vendor {
    /// Whose API serves `path`, for the paths that take an access token; `None` for all others.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/messages" | "/api/oauth/profile" => Some(Self::Anthropic),
            _ if path.starts_with("/backend-api/") => Some(Self::Openai),
            _ => None,
        }
    }

    /// The answer to a token that is not live.
    #[must_use]
    pub fn refusal(self) -> Response<Body> {
        let body = match self {
            Self::Anthropic => {
                json!({"type": "error", "error": {"type": "authentication_error", "message": "Invalid bearer token"}})
            }
            Self::Openai => {
                json!({"error": {"code": "token_expired", "message": "Provided authentication token is expired."}})
            }
        };
        answer(StatusCode::UNAUTHORIZED, "application/json", body.to_string())
    }
}

/// The answer to a request whose token is live, or that needs none.
#[must_use]
pub fn served(method: &str, path: &str, body: &[u8]) -> Response<Body> {
    match (method, path) {
        ("POST", "/v1/messages") => message(body),
        ("GET", "/api/oauth/profile") => json_answer(&profile()),
        ("GET", "/backend-api/wham/accounts/check") => json_answer(&workspaces()),
        ("GET", "/backend-api/codex/models") => json_answer(&json!({"models": []})),
        // It tries a WebSocket first and goes on over HTTP when told to.
        ("GET", "/backend-api/codex/responses") => {
            answer(StatusCode::UPGRADE_REQUIRED, "application/json", "{}".to_owned())
        }
        ("POST", "/backend-api/codex/responses") => {
            answer(StatusCode::OK, "text/event-stream", codex_events())
        }
        _ => answer(StatusCode::NOT_FOUND, "application/json", "{}".to_owned()),
    }
}

fn profile() -> Value {
    json!({
        "account": {"uuid": "acct-alice", "email": "alice@example.com", "has_claude_max": true, "has_claude_pro": false},
        "organization": {
            "uuid": "org-alice", "organization_type": "claude_max", "rate_limit_tier": "default_claude_max_5x",
        },
    })
}

fn workspaces() -> Value {
    json!({"accounts": [{
        "id": "acct-alice", "workspace_backend_origin": "https://chatgpt.com",
        "account_routing_override": "NO_CONSTRAINT",
    }]})
}

fn events(list: &[Value]) -> String {
    let event = |value: &Value| {
        format!(
            "event: {}\ndata: {value}\n\n",
            value["type"].as_str().unwrap_or_default()
        )
    };
    list.iter().map(event).collect()
}

fn codex_events() -> String {
    let said = json!({"type": "message", "role": "assistant", "id": "msg_1",
        "content": [{"type": "output_text", "text": HELLO}]});
    let usage = json!({"input_tokens": 1, "input_tokens_details": null, "output_tokens": 1,
        "output_tokens_details": null, "total_tokens": 2});
    events(&[
        json!({"type": "response.created", "response": {"id": "resp_1"}}),
        json!({"type": "response.output_item.done", "item": said}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "usage": usage}}),
    ])
}

/// Claude's answer, as a stream or whole, as asked.
fn message(request: &[u8]) -> Response<Body> {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let head = |content: Value, stop: Value| {
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": request["model"],
            "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage})
    };
    if request["stream"] != json!(true) {
        return json_answer(&head(json!([{"type": "text", "text": HELLO}]), json!("end_turn")));
    }
    let stream = events(&[
        json!({"type": "message_start", "message": head(json!([]), Value::Null)}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": HELLO}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": usage}),
        json!({"type": "message_stop"}),
    ]);
    answer(StatusCode::OK, "text/event-stream", stream)
}

fn json_answer(value: &Value) -> Response<Body> {
    answer(StatusCode::OK, "application/json", value.to_string())
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
