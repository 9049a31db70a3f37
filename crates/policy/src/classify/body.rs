//! What an error body says: its codes and its words, from the shapes that providers use.

use serde_json::Value;

use super::TEXT_MAX;
use super::echo::{Status, without_echoes};

/// How deep an error is looked for in errors that quote the answer of somebody else.
const DEPTH_MAX: u8 = 6;

/// The codes and words of an error, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorText {
    codes: Vec<String>,
    text: String,
    /// The text without what the client wrote.
    own: String,
    /// The same with the statuses in it.
    with_statuses: String,
}

impl ErrorText {
    /// Reads the body of an answer: JSON in the shapes of the known providers, a stream whose first event is an error,
    /// or plain text or HTML. Never fails; what it cannot read is text.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let trimmed = text.trim().trim_start_matches('\u{feff}');
        let mut found = Self::default();
        let json = serde_json::from_str::<Value>(trimmed)
            .ok()
            .filter(|value| value.is_object() || value.is_array())
            .or_else(|| first_event(trimmed));
        match json {
            Some(value) => found.gather(&value, DEPTH_MAX),
            None => found.say(trimmed),
        }
        found
    }

    /// What the system, a library or another program said, with its code if it has one (`ECONNRESET`).
    #[must_use]
    pub fn of_words(code: Option<&str>, words: &str) -> Self {
        let mut found = Self::default();
        if let Some(code) = code {
            found.code(code);
        }
        found.say(words);
        found
    }

    /// Its codes, most specific first.
    #[must_use]
    pub fn codes(&self) -> &[String] {
        &self.codes
    }

    /// All that it says, codes included.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says in the provider's own words: its codes, and its text without what the request is quoted with. Without
    /// bare statuses, too, which are not those of the answer.
    #[must_use]
    pub fn own_words(&self) -> &str {
        &self.own
    }

    /// The same with bare statuses: for what came without one.
    #[must_use]
    pub fn own_words_and_statuses(&self) -> &str {
        &self.with_statuses
    }

    fn code(&mut self, code: &str) {
        let code = code.trim().to_lowercase();
        if !code.is_empty() && !self.codes.contains(&code) {
            // A field for a code may hold a sentence, which quotes like any other.
            let is_word = !code.contains(char::is_whitespace);
            self.add(&code, is_word);
            self.codes.push(code);
        }
    }

    fn say(&mut self, words: &str) {
        self.add(words, false);
    }

    fn add(&mut self, words: &str, is_code: bool) {
        let room = TEXT_MAX.saturating_sub(self.text.chars().count());
        let words = words.trim();
        if room == 0 || words.is_empty() {
            return;
        }
        // Typographic apostrophes would hide "can't" from the rules.
        let lower = words.chars().take(room).flat_map(char::to_lowercase);
        let lower: String = lower
            .map(|letter| if letter == '\u{2019}' { '\'' } else { letter })
            .collect();
        push_line(&mut self.text, &lower);
        if is_code {
            push_line(&mut self.own, &lower);
            push_line(&mut self.with_statuses, &lower);
        } else {
            push_line(&mut self.own, &without_echoes(&lower, Status::OfAnswer));
            push_line(&mut self.with_statuses, &without_echoes(&lower, Status::InText));
        }
    }

    /// Collects from one object; `depth` bounds quoted errors within errors.
    fn gather(&mut self, value: &Value, depth: u8) {
        if depth == 0 {
            return;
        }
        match value {
            Value::Array(items) => items.iter().take(8).for_each(|item| self.gather(item, depth - 1)),
            Value::Object(fields) => {
                for name in [
                    "code",
                    "type",
                    "status",
                    "reason",
                    "status_code",
                    "errorType",
                    "__type",
                ] {
                    match fields.get(name) {
                        Some(Value::String(code)) => self.code(code),
                        Some(Value::Number(code)) => self.code(&code.to_string()),
                        _ => {}
                    }
                }
                for name in [
                    "message",
                    "msg",
                    "status_msg",
                    "detail",
                    "error_description",
                    "title",
                    "raw",
                    "Message",
                ] {
                    match fields.get(name) {
                        Some(Value::String(words)) => self.quoted(words, depth - 1),
                        Some(nested @ (Value::Object(_) | Value::Array(_))) => self.gather(nested, depth - 1),
                        _ => {}
                    }
                }
                for name in [
                    "error",
                    "errors",
                    "details",
                    "metadata",
                    "base_resp",
                    "response",
                    "data",
                    "cause",
                ] {
                    match fields.get(name) {
                        Some(Value::String(words)) => {
                            // The short form of RFC 6749: the error is its code.
                            self.code(words);
                        }
                        Some(nested @ (Value::Object(_) | Value::Array(_))) => self.gather(nested, depth - 1),
                        _ => {}
                    }
                }
            }
            Value::String(words) => self.say(words),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Text that may itself be the JSON of the provider behind the provider.
    fn quoted(&mut self, words: &str, depth: u8) {
        match serde_json::from_str::<Value>(words.trim()) {
            Ok(value) if value.is_object() => self.gather(&value, depth),
            _ => self.say(words),
        }
    }
}

fn push_line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

/// The first `data:` line of a stream that holds an object.
fn first_event(text: &str) -> Option<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data:"));
    lines
        .filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok())
        .find(Value::is_object)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes() {
        let cases: &[(&str, &[&str], &str)] = &[
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                &["error", "overloaded_error"],
                "error\noverloaded_error\noverloaded",
            ),
            (
                r#"{"error":{"message":"No","code":429,"metadata":{"raw":"{\"error\":{\"message\":\"Deep\"}}"}}}"#,
                &["429"],
                "429\nno\ndeep",
            ),
            (
                r#"[{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}]"#,
                &["429", "resource_exhausted"],
                "429\nresource_exhausted\nquota",
            ),
            (
                r#"{"error":"invalid_grant"}"#,
                &["invalid_grant"],
                "invalid_grant",
            ),
            (
                "event: error\ndata: {\"error\":{\"type\":\"api_error\",\"message\":\"Oh\"}}\n",
                &["api_error"],
                "api_error\noh",
            ),
            (
                "<html>502 Bad Gateway</html>",
                &[],
                "<html>502 bad gateway</html>",
            ),
            ("", &[], ""),
            ("\"just text\"", &[], "\"just text\""),
        ];
        for (body, codes, text) in cases {
            let found = ErrorText::of_body(body.as_bytes());
            assert_eq!(
                (found.codes(), found.text()),
                (
                    &codes.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>()[..],
                    *text
                ),
                "{body}"
            );
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_within_bounds(body in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let found = ErrorText::of_body(&body);
            prop_assert!(found.text().chars().count() <= 3 * TEXT_MAX);
            prop_assert!(found.own_words().len() <= found.text().len());
        }

        #[test]
        fn deep_nesting_ends(depth in 0_usize..200) {
            let body = format!("{}\"x\"{}", "{\"error\":".repeat(depth), "}".repeat(depth));
            let found = ErrorText::of_body(body.as_bytes());
            prop_assert!(found.text().contains('x') || depth > usize::from(DEPTH_MAX));
        }
    }
}
