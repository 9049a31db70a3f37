//! What a conversation looks like as a request of each model API. Pure: an address, headers and a body.
//!
//! Nothing here pretends to be another program: there is no system prompt of somebody else's, and who we are stands in
//! `user-agent`.

use serde_json::{Value, json};
use tokensink_providers::ApiKind;

/// Longest answer that is asked for where the API wants to be told (Anthropic Messages), in tokens. Every model that
/// is served today allows it; an answer that reaches it is said to be cut.
const ANSWER_TOKENS: u32 = 8192;

/// What the Responses API is told of its part; ChatGPT's backend answers nobody who says nothing.
const INSTRUCTIONS: &str = "You are a helpful assistant in a terminal. Answer in plain text or Markdown.";

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word of the APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub text: String,
}

/// A request before it has a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    /// What comes after the API's base address.
    pub(crate) path: &'static str,
    /// Headers beside the credential's.
    pub(crate) headers: &'static [(&'static str, &'static str)],
    /// The body, as JSON text.
    pub(crate) body: String,
}

const EVENTS: (&str, &str) = ("accept", "text/event-stream");
const JSON: (&str, &str) = ("content-type", "application/json");

/// The request that continues `messages`, the last of which is the person's; `None` for an API that we do not speak.
pub(crate) fn build(kind: ApiKind, model: &str, messages: &[Message]) -> Option<Built> {
    let plain = || -> Vec<Value> {
        let message = |message: &Message| json!({"role": message.role.as_str(), "content": message.text});
        messages.iter().map(message).collect()
    };
    let (headers, body): (&[_], _) = match kind {
        ApiKind::AnthropicMessages => (
            &[JSON, EVENTS, ("anthropic-version", "2023-06-01")],
            json!({"model": model, "max_tokens": ANSWER_TOKENS, "messages": plain(), "stream": true}),
        ),
        ApiKind::OpenAiChat => (
            // `stream_options` would have the usage told, but some servers of this API refuse what they do not know.
            &[JSON, EVENTS],
            json!({"model": model, "messages": plain(), "stream": true}),
        ),
        ApiKind::OpenAiResponses => (
            &[JSON, EVENTS],
            json!({
                "model": model,
                "instructions": INSTRUCTIONS,
                "input": messages.iter().map(item).collect::<Vec<_>>(),
                "stream": true,
                // The conversation is ours to keep: what the server keeps could only be continued with one account.
                "store": false,
            }),
        ),
        ApiKind::Cli | ApiKind::None => return None,
    };
    Some(Built {
        path: kind.path()?,
        headers,
        body: body.to_string(),
    })
}

/// A message as an input item of the Responses API.
fn item(message: &Message) -> Value {
    let kind = match message.role {
        Role::User => "input_text",
        Role::Assistant => "output_text",
    };
    json!({
        "type": "message",
        "role": message.role.as_str(),
        "content": [{"type": kind, "text": message.text}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Vec<Message> {
        let message = |role, text: &str| Message {
            role,
            text: text.to_owned(),
        };
        vec![
            message(Role::User, "hi"),
            message(Role::Assistant, "hello"),
            message(Role::User, "who \"are\" you?"),
        ]
    }

    fn body(kind: ApiKind) -> (Built, Value) {
        let built = build(kind, "m-1", &conversation()).unwrap();
        let body = serde_json::from_str(&built.body).unwrap();
        (built, body)
    }

    #[test]
    fn each_api_has_its_shape() {
        let plain = json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "who \"are\" you?"},
        ]);
        let (built, sent) = body(ApiKind::AnthropicMessages);
        assert_eq!(built.path, "/v1/messages");
        assert!(built.headers.contains(&("anthropic-version", "2023-06-01")));
        assert_eq!(
            sent,
            json!({"model": "m-1", "max_tokens": 8192, "messages": plain, "stream": true})
        );
        let (built, sent) = body(ApiKind::OpenAiChat);
        assert_eq!(built.path, "/chat/completions");
        assert_eq!(sent, json!({"model": "m-1", "messages": plain, "stream": true}));
        let (built, sent) = body(ApiKind::OpenAiResponses);
        assert_eq!(built.path, "/responses");
        assert_eq!((&sent["store"], &sent["stream"]), (&json!(false), &json!(true)));
        assert_eq!(
            sent["input"][1],
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]})
        );
        assert_eq!(sent["input"][2]["content"][0]["type"], "input_text");
        assert!(sent["instructions"].as_str().is_some_and(|text| !text.is_empty()));
        for kind in [ApiKind::Cli, ApiKind::None] {
            assert_eq!(build(kind, "m-1", &conversation()), None, "{kind:?}");
        }
    }
}
