//! What `claude -p --output-format stream-json` says, line by line (seen in Claude Code 2.1.329). Pure.
//!
//! A program that knows no such format just prints its answer; its lines are taken as they are.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokensink_types::Body;

use super::decode::Usage;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// More of the answer.
    Text(String),
    /// The program's own name for the conversation.
    Session(String),
    /// The end.
    Result(Outcome),
}

/// How the program's turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered.
    Answered(Usage),
    /// It has no conversation of the name that it was to resume; nothing was asked.
    NoSuchSession,
    /// It says what went wrong.
    Failed(Failure),
}

/// A failure, in the form in which the API would have told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The status that the program was answered with.
    pub(crate) status: Option<u16>,
    /// The limit headers that it was told, as far as it passed them on.
    pub(crate) headers: HeaderMap,
    /// The API's error body, rebuilt.
    pub(crate) body: Body,
    /// Its own words.
    pub(crate) words: String,
}

/// Reads the lines of one turn.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// The message that is being said came in pieces.
    pieces: bool,
    /// Something of the answer was said.
    said: bool,
    /// A message has ended: the next begins a paragraph of its own.
    ended: bool,
    /// It speaks plainly.
    plain: bool,
    headers: HeaderMap,
    /// What kind of error the last message told of.
    error: Option<String>,
}

impl Lines {
    /// What one line says.
    pub(crate) fn read(&mut self, line: &str) -> Vec<Told> {
        let value = match serde_json::from_str::<Value>(line) {
            Ok(value) if value.is_object() && !self.plain => value,
            _ => return self.plain(line),
        };
        // What its own helpers say is not the answer.
        if value["parent_tool_use_id"].is_string() {
            return Vec::new();
        }
        match value["type"].as_str() {
            Some("system") if value["subtype"] == "init" => value["session_id"]
                .as_str()
                .map(|id| Told::Session(id.to_owned()))
                .into_iter()
                .collect(),
            Some("stream_event") => self.piece(&value["event"]),
            Some("assistant") => self.message(&value),
            Some("rate_limit_event") => {
                self.limits(&value["rate_limit_info"]);
                Vec::new()
            }
            Some("result") => self.result(&value),
            _ => Vec::new(),
        }
    }

    /// It has ended without a result: the answer of a program that speaks plainly is whole then.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    fn plain(&mut self, line: &str) -> Vec<Told> {
        // A line before the format begins is a remark; once there was JSON, nothing else is part of the answer.
        if !self.plain && (self.said || !self.headers.is_empty() || line.trim().is_empty()) {
            return Vec::new();
        }
        let text = if std::mem::replace(&mut self.plain, true) {
            format!("\n{line}")
        } else {
            line.to_owned()
        };
        vec![Told::Text(text)]
    }

    fn piece(&mut self, event: &Value) -> Vec<Told> {
        match event["delta"]["text"].as_str() {
            Some(text) if event["type"] == "content_block_delta" => {
                self.pieces = true;
                self.text(text)
            }
            _ => Vec::new(),
        }
    }

    fn message(&mut self, value: &Value) -> Vec<Told> {
        let pieces = std::mem::take(&mut self.pieces);
        if value["is_api_error_message"] == true {
            self.error = value["error"].as_str().map(str::to_owned);
            return Vec::new();
        }
        let parts = value["message"]["content"].as_array().into_iter().flatten();
        let text: String = parts.filter_map(|part| part["text"].as_str()).collect();
        let told = if pieces { Vec::new() } else { self.text(&text) };
        self.ended |= self.said;
        told
    }

    fn text(&mut self, text: &str) -> Vec<Told> {
        if text.is_empty() {
            return Vec::new();
        }
        self.said = true;
        let text = if std::mem::take(&mut self.ended) {
            format!("\n\n{text}")
        } else {
            text.to_owned()
        };
        vec![Told::Text(text)]
    }

    /// The limits in the words of the headers that they came in (clients.md 5).
    fn limits(&mut self, info: &Value) {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        for (field, header) in [
            ("status", "anthropic-ratelimit-unified-status"),
            ("resetsAt", "anthropic-ratelimit-unified-reset"),
            (
                "rateLimitType",
                "anthropic-ratelimit-unified-representative-claim",
            ),
        ] {
            let value = text(&info[field]).and_then(|text| HeaderValue::from_str(&text).ok());
            if let Some(value) = value {
                self.headers.insert(HeaderName::from_static(header), value);
            }
        }
    }

    fn result(&mut self, value: &Value) -> Vec<Told> {
        let words = value["result"].as_str().unwrap_or_default();
        if value["is_error"] != true {
            // A program without events of its own says everything here.
            let mut told = if self.said { Vec::new() } else { self.text(words) };
            told.push(Told::Result(Outcome::Answered(Usage::of(&value["usage"]))));
            return told;
        }
        let errors: Vec<&str> = value["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if errors
            .iter()
            .any(|error| error.starts_with("No conversation found"))
        {
            return vec![Told::Result(Outcome::NoSuchSession)];
        }
        let words = if words.is_empty() {
            errors.join("; ")
        } else {
            words.to_owned()
        };
        let kind = value["api_error_type"].as_str().or(self.error.as_deref());
        let body = json!({"type": "error", "error": {"type": kind, "message": words}});
        vec![Told::Result(Outcome::Failed(Failure {
            status: value["api_error_status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok()),
            headers: std::mem::take(&mut self.headers),
            body: Body::new(body.to_string()),
            words,
        }))]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (String, Vec<Told>) {
        let (mut lines, mut answer, mut rest) = (Lines::default(), String::new(), Vec::new());
        for told in text.lines().flat_map(|line| lines.read(line)).collect::<Vec<_>>() {
            match told {
                Told::Text(text) => answer.push_str(&text),
                other => rest.push(other),
            }
        }
        (answer, rest)
    }

    const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"s-1","tools":[]}
{"type":"system","subtype":"status","status":"requesting","session_id":"s-1"}
"#;
    const PIECES: &str = r#"{"type":"stream_event","event":{"type":"message_start","message":{}},"parent_tool_use_id":null}
{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hel"}}}
{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo"}}}
"#;
    const MESSAGE: &str = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"hello"}]},"parent_tool_use_id":null}
"#;
    const RESULT: &str = r#"{"duration_ms":1,"usage":{"input_tokens":10,"output_tokens":5},"is_error":false,"subtype":"success","result":"hello","type":"result"}
"#;

    fn answered() -> Told {
        Told::Result(Outcome::Answered(Usage {
            input_tokens: Some(10),
            output_tokens: Some(5),
        }))
    }

    #[test]
    fn the_answer_comes_once_however_it_is_told() {
        let session = Told::Session("s-1".to_owned());
        let cases = [
            (format!("{INIT}{PIECES}{MESSAGE}{RESULT}"), "hello"),
            (format!("{INIT}{MESSAGE}{RESULT}"), "hello"),
            (format!("{INIT}{RESULT}"), "hello"),
            // A tool is used in between: two messages, and what a helper says to itself.
            (
                format!(
                    "{INIT}{PIECES}{MESSAGE}{}{MESSAGE}{RESULT}",
                    MESSAGE.replace("null", "\"tool-1\"")
                ),
                "hello\n\nhello",
            ),
        ];
        for (text, want) in cases {
            assert_eq!(
                read(&text),
                (want.to_owned(), vec![session.clone(), answered()]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_program_that_just_prints_is_heard() {
        let mut lines = Lines::default();
        let told: Vec<_> = ["hello", "", "{\"type\":\"result\"}"]
            .iter()
            .flat_map(|line| lines.read(line))
            .collect();
        let text = |text: &str| Told::Text(text.to_owned());
        assert_eq!(told, [text("hello"), text("\n"), text("\n{\"type\":\"result\"}")]);
        assert!(lines.is_plain());
    }

    #[test]
    fn a_limit_is_told_as_the_api_tells_it() {
        let text = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795262408,"rateLimitType":"five_hour"}}
{"type":"assistant","message":{"model":"<synthetic>","content":[{"type":"text","text":"You've hit your 5-hour limit"}]},"error":"rate_limit","is_api_error_message":true}
{"is_error":true,"api_error_status":429,"api_error_type":"rate_limit_error","result":"You've hit your 5-hour limit","type":"result"}"#;
        let (answer, told) = read(text);
        assert_eq!(answer, "");
        let [Told::Result(Outcome::Failed(failure))] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(failure.status, Some(429));
        assert_eq!(failure.headers["anthropic-ratelimit-unified-reset"], "1795262408");
        assert_eq!(failure.headers["anthropic-ratelimit-unified-status"], "rejected");
        let body: Value = serde_json::from_slice(failure.body.expose()).unwrap();
        assert_eq!(body["error"]["type"], "rate_limit_error");
        assert_eq!(failure.words, "You've hit your 5-hour limit");
    }

    #[test]
    fn what_else_goes_wrong() {
        let gone =
            r#"{"type":"result","is_error":true,"errors":["No conversation found with session ID: 9"]}"#;
        assert_eq!(read(gone).1, [Told::Result(Outcome::NoSuchSession)]);
        let out = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"Not logged in"}]},"error":"authentication_failed","is_api_error_message":true}
{"type":"result","is_error":true,"api_error_status":null,"result":"Not logged in · Please run /login"}"#;
        let (answer, told) = read(out);
        assert_eq!(answer, "");
        let [Told::Result(Outcome::Failed(failure))] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!(failure.status, None);
        assert!(String::from_utf8_lossy(failure.body.expose()).contains("authentication_failed"));
    }

    proptest! {
        #[test]
        fn any_lines_are_read(lines in prop::collection::vec("\\PC{0,40}|\\{\"type\":\"(result|assistant|stream_event|rate_limit_event)\".{0,40}\\}", 0..6)) {
            read(&lines.join("\n"));
        }
    }
}
