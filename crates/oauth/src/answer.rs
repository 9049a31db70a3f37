//! The shape of answers: objects in JSON or form encoding, and the dialects in which servers report errors.

use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Map, Value};
use tokensink_types::{Body, Secret};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::text::tidy;

/// Largest answer that is looked into, in bytes (spec.md 11.2: token requests are limited to 1 MiB).
const BODY_MAX: usize = 1024 * 1024;

/// The fields of an answer: a JSON object, or form pairs where the content type says so (GitHub without `accept`).
pub(crate) fn object(response: &Response<Body>) -> Option<Map<String, Value>> {
    let bytes = response.body().expose();
    if bytes.len() > BODY_MAX {
        return None;
    }
    if content_type(response.headers()).starts_with("application/x-www-form-urlencoded") {
        let pairs = form_urlencoded::parse(bytes);
        return Some(
            pairs
                .map(|(k, v)| (k.into_owned(), Value::from(v.into_owned())))
                .collect(),
        );
    }
    match json(bytes) {
        Some(Value::Object(map)) => Some(map),
        Some(_) | None => None,
    }
}

/// A JSON text, also one after a byte order mark, which a reader may ignore (RFC 8259 section 8.1), or with bytes that
/// are not UTF-8 in it: whatever a label beside them is encoded in, the tokens of an answer are granted, and the old
/// ones spent.
fn json(bytes: &[u8]) -> Option<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(_) if str::from_utf8(bytes).is_err() => {
            let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
            serde_json::from_str(&text).ok()
        }
        Err(_) => None,
    }
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}

/// What a server says about a failure.
pub(crate) struct ErrorBody {
    /// All that may be the code, the most likely first, as sent: only compared, never shown.
    codes: Vec<String>,
    /// The first of them, cleaned.
    pub(crate) code: Option<String>,
    /// For people, cleaned, or empty.
    pub(crate) description: String,
}

impl ErrorBody {
    /// Reads the code from `error`, `error.code`, `error.type` or `code`, the description from `error_description`,
    /// `error.message` or `message` (RFC 6749 section 5.2, OpenAI, Anthropic) or minimax's `base_resp.status_msg`.
    /// `sent` are the secrets of the request; no trace of them remains.
    pub(crate) fn read(response: &Response<Body>, sent: &[&Secret]) -> Self {
        let Some(map) = object(response) else {
            return Self {
                codes: Vec::new(),
                code: None,
                description: describe_text(response, sent),
            };
        };
        let body = Value::Object(map);
        let texts = |pointers: &[&str]| -> Vec<String> {
            let found = pointers
                .iter()
                .filter_map(|pointer| text_of(body.pointer(pointer)?));
            found.collect()
        };
        let codes = texts(&["/error", "/error/code", "/error/type", "/code"]);
        let descriptions = texts(&[
            "/error_description",
            "/error/message",
            "/message",
            "/base_resp/status_msg",
        ]);
        let told = |text: &String| without_token(text, sent, Form::Parsed);
        Self {
            code: codes.first().map(told),
            description: descriptions.first().map_or_else(String::new, told),
            codes,
        }
    }

    /// The first of `known` that the server may mean. Compared as sent: a short secret must not hide a code.
    pub(crate) fn code_among<'k, S: AsRef<str>>(&self, known: &'k [S]) -> Option<&'k str> {
        let mut known = known.iter().map(AsRef::as_ref);
        known.find(|known| self.codes.iter().any(|code| code == known))
    }

    /// Code and description in a few words.
    pub(crate) fn words(&self) -> String {
        words(self.code.as_deref(), &self.description)
    }
}

/// A code and a description in a few words.
pub(crate) fn words(code: Option<&str>, description: &str) -> String {
    match (code, description) {
        (None, "") => "no further words".to_owned(),
        (None, description) => description.to_owned(),
        (Some(code), "") => code.to_owned(),
        (Some(code), description) => format!("{code}: {description}"),
    }
}

/// A short plain answer speaks for itself; a page of HTML does not, and what names a token may hold one that was granted
/// a moment ago: a JSON text that was cut off, or a form under the wrong content type.
fn describe_text(response: &Response<Body>, sent: &[&Secret]) -> String {
    let bytes = response.body().expose();
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    if content_type(response.headers()).contains("html") || text.trim_start().starts_with('<') {
        return "an HTML page instead of JSON".to_owned();
    }
    without_token(&text, sent, Form::Raw)
}

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All that was answered.
    Raw,
    /// One field of it, in which `refresh_token: not found` is a sentence for people.
    Parsed,
}

/// The text in tidy words, unless it names a token. It is asked before the words of the request are taken out, which may
/// be a part of that name, and again afterwards, because what was cut out may have stood within it.
fn without_token(text: &str, sent: &[&Secret], form: Form) -> String {
    let words = tidy(text, sent);
    if names_a_token(text, form) || names_a_token(&words, form) {
        "an answer with a token in it that cannot be read".to_owned()
    } else {
        words
    }
}

/// Does the text give a value to a field of RFC 6749 section 5.1 or OpenID Connect that holds a token?
fn names_a_token(text: &str, form: Form) -> bool {
    const QUOTES: [char; 3] = ['"', '\'', '\\'];
    let text = Zeroizing::new(text.to_ascii_lowercase());
    let given = |name: &str| {
        text.match_indices(name).any(|(at, _)| {
            let rest = &text[at + name.len()..];
            let value = rest.trim_start_matches(QUOTES).trim_start_matches(' ');
            let is_field = form == Form::Raw || rest.starts_with(QUOTES);
            value.starts_with('=') || is_field && value.starts_with(':')
        })
    };
    [
        "access_token",
        "refresh_token",
        "id_token",
        "accesstoken",
        "refreshtoken",
    ]
    .into_iter()
    .any(given)
}

/// A string, or a number as text; blank is nothing.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// A number, or a string that is one (OpenAI's device interval, some `expires_in`).
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    number.is_finite().then_some(number)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An answer for the tests of this crate.
    pub(crate) fn answer(status: u16, body: &str) -> Response<Body> {
        Response::builder().status(status).body(Body::new(body)).unwrap()
    }

    #[test]
    fn errors_in_all_dialects() {
        let cases = [
            (
                r#"{"error":"invalid_grant","error_description":"gone"}"#,
                Some("invalid_grant"),
                "gone",
            ),
            (
                r#"{"error":{"code":"refresh_token_reused","message":"used","type":"invalid_request_error"}}"#,
                Some("refresh_token_reused"),
                "used",
            ),
            (
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#,
                Some("rate_limit_error"),
                "slow",
            ),
            (r#"{"error":{"code":null,"type":"t"}}"#, Some("t"), ""),
            (
                r#"{"code":"refresh_token_expired","message":"m"}"#,
                Some("refresh_token_expired"),
                "m",
            ),
            (r#"{"code":1004}"#, Some("1004"), ""),
            (r#"{"base_resp":{"status_code":5,"status_msg":"no"}}"#, None, "no"),
            (r#"{"error":" "}"#, None, ""),
            ("upstream\nconnect error", None, "upstream connect error"),
            ("<!doctype html><p>x", None, "an HTML page instead of JSON"),
            ("", None, ""),
            ("[1]", None, "[1]"),
        ];
        for (body, code, description) in cases {
            let error = ErrorBody::read(&answer(400, body), &[]);
            assert_eq!(error.code.as_deref(), code, "{body}");
            assert_eq!(error.description, description, "{body}");
        }
    }

    #[test]
    fn form_answers_are_objects_too() {
        let mut response = answer(200, "error=access_denied&error_description=a+b");
        let form = "application/x-www-form-urlencoded; charset=utf-8"
            .parse()
            .unwrap();
        response.headers_mut().insert(CONTENT_TYPE, form);
        let error = ErrorBody::read(&response, &[]);
        assert_eq!(
            (error.code.as_deref(), error.description.as_str()),
            (Some("access_denied"), "a b")
        );
    }

    #[test]
    fn sent_secrets_are_not_repeated() {
        let body = r#"{"error":"bad rt-canary-1","error_description":"token rt-canary-1 was used"}"#;
        let error = ErrorBody::read(&answer(400, body), &[&"rt-canary-1".into()]);
        assert_eq!(error.code.as_deref(), Some("bad [redacted]"));
        assert_eq!(error.words(), "bad [redacted]: token [redacted] was used");
    }

    #[test]
    fn a_granted_token_that_cannot_be_read_is_not_quoted() {
        let unreadable = [
            r#"{"access_token":"canary-1","refresh_to"#,
            r#"[{"refresh_token" : "canary-1"}]"#,
            "access_token=canary-1&refresh_token=canary-2",
            r#"he said \"id_token\": \"canary-1\""#,
            "{'accessToken': 'canary-1'}",
            "{\0\"\0a\0c\0c\0e\0s\0s\0_\0t\0o\0k\0e\0n\0\"\0:\0\"\0canary-1",
        ];
        for body in unreadable {
            for status in [200, 400, 500] {
                let words = ErrorBody::read(&answer(status, body), &[]).words();
                assert_eq!(
                    words, "an answer with a token in it that cannot be read",
                    "{body}"
                );
            }
        }
        for field in [
            r#"{"error":"invalid_grrefresh_token\":\"canary-1\""}"#,
            r#"{"error":"e","error_description":"access_token=canary-1&x=y"}"#,
        ] {
            let words = ErrorBody::read(&answer(200, field), &[]).words();
            assert!(!words.contains("canary"), "{words}");
        }
        let cut_into_by_what_was_sent = r#"refresh-carefresh_token":"canary-1"#;
        let words =
            ErrorBody::read(&answer(500, cut_into_by_what_was_sent), &[&"refresh-car".into()]).words();
        assert!(!words.contains("canary"), "{words}");
        let plain = ErrorBody::read(&answer(400, "the refresh_token is missing"), &[]).words();
        assert_eq!(plain, "the refresh_token is missing");
        let sentence = r#"{"error":"invalid_grant","error_description":"refresh_token: not found"}"#;
        let words = ErrorBody::read(&answer(400, sentence), &[]).words();
        assert_eq!(words, "invalid_grant: refresh_token: not found");
    }

    #[test]
    fn an_object_is_read_whatever_stands_around_its_tokens() {
        let read = |bytes: &[u8]| object(&Response::new(Body::new(bytes)));
        let bom = read(b"\xef\xbb\xbf{\"access_token\":\"a\"}").unwrap();
        assert_eq!(bom["access_token"], "a");
        let latin = read(b"{\"access_token\":\"a\",\"name\":\"Ren\xe9\"}").unwrap();
        assert_eq!(latin["access_token"], "a");
        assert_eq!(read(b"{\"a\":\xff\xfe"), None);
    }

    #[test]
    fn codes_are_compared_as_sent() {
        let error = ErrorBody::read(&answer(400, r#"{"error":"invalid_grant"}"#), &[&"r".into()]);
        assert_eq!(
            error.code_among(&["other", "invalid_grant"]),
            Some("invalid_grant")
        );
        assert_eq!(error.code_among(&["invalid"]), None);
        assert_eq!(error.code.as_deref(), Some("invalid_g[redacted]ant"));
    }

    #[test]
    fn words_say_what_there_is() {
        for (body, want) in [
            ("", "no further words"),
            ("plain", "plain"),
            (r#"{"error":"e"}"#, "e"),
            (r#"{"error":"e","message":"m"}"#, "e: m"),
        ] {
            assert_eq!(ErrorBody::read(&answer(500, body), &[]).words(), want);
        }
    }
}
