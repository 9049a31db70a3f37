//! What the events of each model API say: text, usage, errors, the end. Pure.
//!
//! Events that are not known are passed over, since every API adds some now and then. What is never passed over is the
//! lack of the event that ends an answer: without it the answer was cut.

use serde_json::{Value, json};
use tokensink_providers::ApiKind;

use super::sse::Event;

/// Tokens of one answer, as far as the API told them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the request that were not taken from a cache.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
}

impl Usage {
    /// What is told later counts; what it does not tell stays.
    pub(crate) fn updated_by(self, later: Self) -> Self {
        Self {
            input_tokens: later.input_tokens.or(self.input_tokens),
            output_tokens: later.output_tokens.or(self.output_tokens),
        }
    }

    /// From an object with the fields of any of the APIs.
    pub(crate) fn of(value: &Value) -> Self {
        let first = |names: [&str; 2]| names.iter().find_map(|name| value[*name].as_u64());
        Self {
            input_tokens: first(["input_tokens", "prompt_tokens"]),
            output_tokens: first(["output_tokens", "completion_tokens"]),
        }
    }
}

/// One thing that an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// More of the answer.
    Text(String),
    /// What it costs.
    Usage(Usage),
    /// An error in the middle of a stream, as the error body that the API would have answered.
    Failed(String),
    /// The answer is whole; with a word where it ended otherwise than by itself (`max_tokens`).
    Done(Option<String>),
}

/// Reads the events of one answer.
#[derive(Debug)]
pub(crate) struct Decoder {
    kind: ApiKind,
    /// Text of the item that is being said came in pieces, so that it need not be taken from its end.
    pieces: bool,
    /// Why the answer ends, told before its last event.
    stop: Option<String>,
    /// A reason to end was told (OpenAI chat): the last event is a formality then.
    stopped: bool,
}

impl Decoder {
    pub(crate) fn new(kind: ApiKind) -> Self {
        Self {
            kind,
            pieces: false,
            stop: None,
            stopped: false,
        }
    }

    /// What one event says.
    pub(crate) fn read(&mut self, event: &Event) -> Vec<Said> {
        if event.data.trim() == "[DONE]" {
            return vec![self.done()];
        }
        // Whatever is no JSON keeps the connection alive, or is nothing that we could read.
        let Ok(value) = serde_json::from_str::<Value>(&event.data) else {
            return Vec::new();
        };
        let kind = value["type"].as_str().unwrap_or(&event.name);
        match self.kind {
            ApiKind::AnthropicMessages => self.messages(kind, &value),
            ApiKind::OpenAiResponses => self.responses(kind, &value),
            ApiKind::OpenAiChat | ApiKind::Cli | ApiKind::None => self.chat(&value),
        }
    }

    /// The stream has ended in good order without saying so: is the answer whole all the same?
    pub(crate) fn finish(mut self) -> Option<Said> {
        self.stopped.then(|| self.done())
    }

    fn done(&mut self) -> Said {
        Said::Done(self.stop.take())
    }

    fn messages(&mut self, kind: &str, value: &Value) -> Vec<Said> {
        match kind {
            "message_start" => vec![Said::Usage(Usage::of(&value["message"]["usage"]))],
            "content_block_start" => text(&value["content_block"]["text"]),
            "content_block_delta" => text(&value["delta"]["text"]),
            "message_delta" => {
                let reason = value["delta"]["stop_reason"].as_str();
                self.stop = reason.filter(|reason| *reason != "end_turn").map(str::to_owned);
                vec![Said::Usage(Usage::of(&value["usage"]))]
            }
            "message_stop" => vec![self.done()],
            "error" => vec![Said::Failed(value.to_string())],
            _ => Vec::new(),
        }
    }

    fn responses(&mut self, kind: &str, value: &Value) -> Vec<Said> {
        let response = &value["response"];
        match kind {
            "response.output_text.delta" | "response.refusal.delta" => {
                self.pieces = true;
                text(&value["delta"])
            }
            "response.output_item.done" => {
                if std::mem::take(&mut self.pieces) {
                    return Vec::new();
                }
                let parts = value["item"]["content"].as_array().into_iter().flatten();
                parts
                    .filter(|part| part["type"] == "output_text")
                    .flat_map(|part| text(&part["text"]))
                    .collect()
            }
            "response.completed" | "response.incomplete" => {
                let reason = response["incomplete_details"]["reason"].as_str();
                self.stop = reason.map(str::to_owned);
                vec![Said::Usage(Usage::of(&response["usage"])), self.done()]
            }
            "response.failed" => vec![Said::Failed(json!({"error": response["error"]}).to_string())],
            "error" => {
                let nested = value["error"].is_object();
                let body = if nested {
                    value.clone()
                } else {
                    json!({"error": value})
                };
                vec![Said::Failed(body.to_string())]
            }
            _ => Vec::new(),
        }
    }

    fn chat(&mut self, value: &Value) -> Vec<Said> {
        if value["error"].is_object() || value["error"].is_string() {
            return vec![Said::Failed(value.to_string())];
        }
        let choice = &value["choices"][0];
        let mut said = text(&choice["delta"]["content"]);
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.stopped = true;
            self.stop = Some(reason).filter(|reason| *reason != "stop").map(str::to_owned);
        }
        if value["usage"].is_object() {
            said.push(Said::Usage(Usage::of(&value["usage"])));
        }
        said
    }
}

fn text(value: &Value) -> Vec<Said> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(|text| Said::Text(text.to_owned())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::sse::Events;

    const MESSAGES: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":10,"output_tokens":1}}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"hel"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lo ä"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}

event: message_stop
data: {"type":"message_stop"}

"#;

    const RESPONSES: &str = r#"event: response.created
data: {"type":"response.created","response":{"id":"r"}}

data: {"type":"response.output_text.delta","delta":"hel"}

data: {"type":"response.output_text.delta","delta":"lo ä"}

data: {"type":"response.output_item.done","item":{"type":"message","content":[{"type":"output_text","text":"hello ä"}]}}

data: {"type":"response.completed","response":{"usage":{"input_tokens":10,"output_tokens":7}}}

"#;

    const CHAT: &str = r#": keep alive

data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"content":"hel"}}],"usage":null}

data: {"choices":[{"index":0,"delta":{"content":"lo ä"},"finish_reason":"stop"}]}

data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7}}

data: [DONE]

"#;

    /// Text, usage, failure, end.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Heard {
        text: String,
        usage: Usage,
        failed: Option<String>,
        done: Option<Option<String>>,
    }

    fn hear(kind: ApiKind, chunks: &[&[u8]]) -> Heard {
        let (mut events, mut decoder, mut heard) = (Events::default(), Decoder::new(kind), Heard::default());
        let mut all = Vec::new();
        for chunk in chunks {
            all.extend(events.feed(chunk).unwrap());
        }
        all.extend(events.finish());
        let mut said: Vec<Said> = all.iter().flat_map(|event| decoder.read(event)).collect();
        said.extend(decoder.finish());
        for one in said {
            match one {
                Said::Text(text) => heard.text.push_str(&text),
                Said::Usage(usage) => heard.usage = heard.usage.updated_by(usage),
                Said::Failed(body) => heard.failed = Some(body),
                Said::Done(stop) => heard.done = heard.done.or(Some(stop)),
            }
        }
        heard
    }

    fn whole(stop: Option<&str>) -> Heard {
        Heard {
            text: "hello ä".to_owned(),
            usage: Usage {
                input_tokens: Some(10),
                output_tokens: Some(7),
            },
            failed: None,
            done: Some(stop.map(str::to_owned)),
        }
    }

    const ALL: [(ApiKind, &str); 3] = [
        (ApiKind::AnthropicMessages, MESSAGES),
        (ApiKind::OpenAiResponses, RESPONSES),
        (ApiKind::OpenAiChat, CHAT),
    ];

    #[test]
    fn a_whole_answer_of_each_api() {
        for (kind, stream) in ALL {
            assert_eq!(hear(kind, &[stream.as_bytes()]), whole(None), "{kind:?}");
        }
    }

    #[test]
    fn an_answer_that_ran_into_a_limit_says_so() {
        let cases = [
            (ApiKind::AnthropicMessages, MESSAGES, "end_turn", "max_tokens"),
            (ApiKind::OpenAiChat, CHAT, "\"stop\"", "\"length\""),
            (
                ApiKind::OpenAiResponses,
                RESPONSES,
                "response.completed\",\"response\":{",
                "response.incomplete\",\"response\":{\"incomplete_details\":{\"reason\":\"max_output_tokens\"},",
            ),
        ];
        for (kind, stream, from, to) in cases {
            let heard = hear(kind, &[stream.replace(from, to).as_bytes()]);
            let words = heard.done.clone().flatten().unwrap_or_default();
            assert!(to.contains(&words) && !words.is_empty(), "{kind:?}: {heard:?}");
        }
    }

    #[test]
    fn without_its_last_event_an_answer_is_not_whole() {
        for (kind, stream) in ALL {
            let last = stream.trim_end().rfind("\n\n").unwrap();
            let heard = hear(kind, &[&stream.as_bytes()[..last]]);
            // A chat answer has given its reason to end by then.
            let is_done = kind == ApiKind::OpenAiChat;
            assert_eq!(heard.done.is_some(), is_done, "{kind:?}");
            let middle = stream.find("lo ä").unwrap();
            let heard = hear(kind, &[&stream.as_bytes()[..middle]]);
            assert_eq!((heard.text.as_str(), heard.done), ("hel", None), "{kind:?}");
        }
    }

    #[test]
    fn errors_in_the_middle_are_error_bodies() {
        let cases = [
            (
                ApiKind::AnthropicMessages,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                "overloaded_error",
            ),
            (
                ApiKind::OpenAiResponses,
                r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"slow"}}}"#,
                r#"{"error":{"code":"rate_limit_exceeded""#,
            ),
            (
                ApiKind::OpenAiResponses,
                r#"{"type":"error","code":"server_error","message":"oops"}"#,
                r#""code":"server_error""#,
            ),
            (
                ApiKind::OpenAiChat,
                r#"{"error":{"message":"slow","code":429}}"#,
                r#""code":429"#,
            ),
        ];
        for (kind, data, want) in cases {
            let heard = hear(kind, &[format!("data: {data}\n\n").as_bytes()]);
            let body = heard.failed.unwrap_or_default();
            assert!(body.contains(want), "{kind:?}: {body}");
            assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_object());
        }
    }

    #[test]
    fn a_responses_answer_may_come_as_whole_items() {
        let stream = RESPONSES
            .lines()
            .filter(|line| !line.contains("delta"))
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(hear(ApiKind::OpenAiResponses, &[stream.as_bytes()]), whole(None));
    }

    fn any_json() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "type",
            "error",
            "choices",
            "delta",
            "content",
            "usage",
            "response",
            "item",
            "message",
            "text",
            "message_delta",
            "response.failed",
            "content_block_delta",
            "response.output_item.done",
        ]);
        let leaf = prop_oneof![
            words.clone().prop_map(|word| json!(word)),
            any::<i64>().prop_map(|number| json!(number)),
            Just(Value::Null),
        ];
        let value = leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((words.clone(), inner), 0..4).prop_map(|pairs| {
                    Value::Object(
                        pairs
                            .into_iter()
                            .map(|(key, value)| (key.to_owned(), value))
                            .collect(),
                    )
                }),
            ]
        });
        value.prop_map(|value| value.to_string())
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cut in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
            for (kind, stream) in ALL {
                let bytes = stream.as_bytes();
                let (a, b) = (cut.index(bytes.len() + 1), other.index(bytes.len() + 1));
                let (a, b) = (a.min(b), a.max(b));
                prop_assert_eq!(hear(kind, &[&bytes[..a], &bytes[a..b], &bytes[b..]]), whole(None));
            }
        }

        #[test]
        fn any_json_is_read(data in any_json()) {
            for (kind, _) in ALL {
                hear(kind, &[format!("data: {data}\n\n").as_bytes()]);
            }
        }
    }
}
