//! The gateway's own answers: what was refused, why, and the command that mends it, in the shape that the caller's API
//! uses for errors, so that every client shows the sentence.
//!
//! Whether a client tries again is said as well as the clients understand it (clients.md 5): `retry-after` with the
//! seconds, and `x-should-retry: false` where trying again soon is pointless.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokensink_sink::{ErrorKind, SinkError, UnixMillis};

/// The longest wait, in seconds, for which a client is left to try again by itself. Some clients obey a `retry-after` of
/// any length and sleep for hours; others give up on one beyond about a minute and try at once, several times.
const RETRY_BY_ITSELF_MAX_S: u64 = 60;

/// How long a client is asked to wait where nobody knows the end, as of a refresh of another process.
const UNKNOWN_WAIT_S: u64 = 5;

/// The header by which the clients of Anthropic and OpenAI are told whether to try again (clients.md 5).
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// How an API writes its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"type":"error","error":{"type","message"}}`.
    Anthropic,
    /// `{"error":{"message","type","param","code"}}`; also what the gateway's own endpoints answer with.
    OpenAi,
    /// `{"error":{"code","message","status"}}`.
    Google,
}

/// A request that is answered by the gateway itself, with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// A stable word for programs, for example `two_models`.
    pub code: &'static str,
    /// One sentence for people: what was refused and why. Holds no secret.
    pub message: String,
    /// The command or change that mends it.
    pub fix: Option<String>,
    /// When it makes sense to try again.
    pub until: Option<Until>,
    /// Further headers of the answer, for example `allow`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// From now, in whole seconds, at least 1.
    pub seconds: u64,
    /// The same as Unix time in seconds.
    pub at: i64,
}

impl Until {
    /// The wait from `now` to `at`, rounded up.
    #[must_use]
    pub fn new(at: UnixMillis, now: UnixMillis) -> Self {
        let millis = at.0.saturating_sub(now.0).max(1);
        let seconds = u64::try_from(millis).unwrap_or(1).div_ceil(1000);
        Self {
            seconds,
            at: at.0.saturating_add(999).div_euclid(1000),
        }
    }
}

impl Refusal {
    /// A refusal without a fix.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            fix: None,
            until: None,
            headers: Vec::new(),
        }
    }

    /// A 400: the request itself is wrong.
    #[must_use]
    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The same with what mends it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The same with a further header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with the time at which to try again.
    #[must_use]
    pub fn with_until(mut self, until: Until) -> Self {
        self.until = Some(until);
        self
    }

    /// What a state that belongs to one account means for a request that another one would have to serve.
    #[must_use]
    pub fn continuity_break(what: &str) -> Self {
        Self::bad(
            "continuity_break",
            format!("the request refers to {what}, which belongs to the account that made it, and that account cannot serve now"),
        )
        .with_fix("start a new conversation, or wait until that account is back (tokensink models status)")
    }

    /// The same where the request itself names another account than the one that has what it refers to.
    #[must_use]
    pub fn named_another(what: &str) -> Self {
        Self::bad(
            "continuity_break",
            format!("the request refers to {what}, which belongs to another account than the one that its model names"),
        )
        .with_fix("leave the @ and what follows it out of the model, or start a new conversation")
    }

    /// The same where it is not known whether the request refers to anything, since its body cannot be read.
    #[must_use]
    pub fn not_read() -> Self {
        Self::bad(
            "continuity_break",
            "the request's body cannot be read, so that it is not known whether it refers to something that one account \
             keeps, and no account has answered in its session",
        )
        .with_fix(
            "send the body as one JSON object with one \"model\", of at most 32 MiB, uncompressed or as gzip or zstd",
        )
    }

    /// What an error of the sink means to an API client. A missing login is not the client's 401, on which clients
    /// throw their own login away: it is the gateway that cannot serve (503). What the settings forbid is no fault that
    /// trying again mends (403).
    #[must_use]
    pub fn from_sink(error: &SinkError, now: UnixMillis) -> Self {
        let status = match error.kind() {
            ErrorKind::Usage if error.code().starts_with("unknown_") => StatusCode::NOT_FOUND,
            ErrorKind::Usage => StatusCode::BAD_REQUEST,
            ErrorKind::LoginNeeded => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::TryAgain if error.retry_at().is_some() => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::TryAgain => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Failed if matches!(error.code(), "denied" | "too_costly") => StatusCode::FORBIDDEN,
            ErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut refusal = Self::new(status, error.code(), error.to_string());
        refusal.fix = error.fix().map(str::to_owned);
        refusal.until = error.retry_at().map(|at| Until::new(at, now));
        match (error.kind(), refusal.until) {
            (ErrorKind::LoginNeeded, _) => {
                refusal.with_header(SHOULD_RETRY, HeaderValue::from_static("false"))
            }
            (ErrorKind::TryAgain, None) => {
                refusal.with_header(RETRY_AFTER, HeaderValue::from(UNKNOWN_WAIT_S))
            }
            _ => refusal,
        }
    }

    /// The sentence with its fix.
    #[must_use]
    pub fn text(&self) -> String {
        let message = self.message.trim_end_matches('.');
        match &self.fix {
            Some(fix) => format!("tokensink: {message}. To fix it: {fix}"),
            None => format!("tokensink: {message}"),
        }
    }

    /// The answer. `request_id` is what `tokensink explain` takes.
    #[must_use]
    pub fn answer(&self, shape: ErrorShape, request_id: Option<&str>) -> Response<Bytes> {
        let body = self.body(shape, request_id).to_string();
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(until) = self.until {
            headers.insert(RETRY_AFTER, HeaderValue::from(until.seconds));
            if until.seconds > RETRY_BY_ITSELF_MAX_S {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        answer
    }

    fn body(&self, shape: ErrorShape, request_id: Option<&str>) -> Value {
        let message = self.text();
        let mut body = match shape {
            ErrorShape::Anthropic => json!({
                "type": "error",
                "error": { "type": self.anthropic_type(), "message": message, "code": self.code },
            }),
            ErrorShape::OpenAi => json!({
                "error": { "message": message, "type": self.openai_type(), "param": null, "code": self.code },
            }),
            ErrorShape::Google => json!({
                "error": { "code": self.status.as_u16(), "message": message, "status": self.google_status() },
            }),
        };
        if let Some(id) = request_id {
            body["request_id"] = id.into();
        }
        // Codex stops at once and shows the time when it finds these (clients.md 5).
        if let (ErrorShape::OpenAi, Some(until)) = (shape, self.until) {
            body["error"]["resets_at"] = until.at.into();
            body["error"]["resets_in_seconds"] = until.seconds.into();
        }
        body
    }

    fn anthropic_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            408 | 504 => "timeout_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    fn openai_type(&self) -> &'static str {
        let long = self
            .until
            .is_some_and(|until| until.seconds > RETRY_BY_ITSELF_MAX_S);
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            408 => "timeout_error",
            429 if long => "usage_limit_reached",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The canonical codes of google.rpc.
    fn google_status(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            429 => "RESOURCE_EXHAUSTED",
            500 => "INTERNAL",
            504 => "DEADLINE_EXCEEDED",
            502.. => "UNAVAILABLE",
            _ => "INVALID_ARGUMENT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &Response<Bytes>) -> Value {
        serde_json::from_slice(answer.body()).unwrap()
    }

    #[test]
    fn each_api_finds_the_sentence_where_it_looks() {
        let refusal = Refusal::bad("two_models", "the body names two models").with_fix("send one");
        let sentence = "tokensink: the body names two models. To fix it: send one";
        let cases = [
            (
                ErrorShape::Anthropic,
                "/error/type",
                json!("invalid_request_error"),
            ),
            (ErrorShape::OpenAi, "/error/code", json!("two_models")),
            (ErrorShape::Google, "/error/status", json!("INVALID_ARGUMENT")),
        ];
        for (shape, pointer, want) in cases {
            let answer = refusal.answer(shape, Some("req-1"));
            let body = read(&answer);
            assert_eq!(answer.status(), 400);
            assert_eq!(
                body.pointer("/error/message"),
                Some(&json!(sentence)),
                "{shape:?}"
            );
            assert_eq!(body.pointer(pointer), Some(&want), "{shape:?}");
            assert_eq!(body["request_id"], "req-1", "{shape:?}");
            assert_eq!(answer.headers()["content-type"], "application/json");
        }
    }

    #[test]
    fn statuses_have_the_words_of_each_api() {
        let cases = [
            (
                401,
                "authentication_error",
                "authentication_error",
                "UNAUTHENTICATED",
            ),
            (403, "permission_error", "permission_error", "PERMISSION_DENIED"),
            (404, "not_found_error", "invalid_request_error", "NOT_FOUND"),
            (408, "timeout_error", "timeout_error", "INVALID_ARGUMENT"),
            (
                413,
                "request_too_large",
                "invalid_request_error",
                "INVALID_ARGUMENT",
            ),
            (429, "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
            (500, "api_error", "server_error", "INTERNAL"),
            (502, "api_error", "server_error", "UNAVAILABLE"),
            (503, "overloaded_error", "server_error", "UNAVAILABLE"),
            (504, "timeout_error", "server_error", "DEADLINE_EXCEEDED"),
        ];
        for (status, anthropic, openai, google) in cases {
            let refusal = Refusal::new(StatusCode::from_u16(status).unwrap(), "x", "no");
            let seen = [
                read(&refusal.answer(ErrorShape::Anthropic, None))["error"]["type"].clone(),
                read(&refusal.answer(ErrorShape::OpenAi, None))["error"]["type"].clone(),
                read(&refusal.answer(ErrorShape::Google, None))["error"]["status"].clone(),
            ];
            assert_eq!(seen, [anthropic, openai, google], "{status}");
        }
    }

    #[test]
    fn waits_are_told_in_the_clients_ways() {
        let now = UnixMillis(1_000_000);
        let waiting = |millis: i64| {
            let error = SinkError::new(ErrorKind::TryAgain, "all_benched", "all wait")
                .until(Some(UnixMillis(1_000_000 + millis)));
            Refusal::from_sink(&error, now).answer(ErrorShape::OpenAi, None)
        };
        let short = waiting(1_500);
        assert_eq!(short.status(), 429);
        assert_eq!(short.headers()["retry-after"], "2");
        assert_eq!(short.headers().get("x-should-retry"), None);
        assert_eq!(read(&short)["error"]["type"], "rate_limit_error");
        let long = waiting(3_600_000);
        assert_eq!(long.headers()["retry-after"], "3600");
        assert_eq!(long.headers()["x-should-retry"], "false");
        assert_eq!(read(&long)["error"]["type"], "usage_limit_reached");
        assert_eq!(read(&long)["error"]["resets_at"], 4_600);
        assert_eq!(waiting(-5).headers()["retry-after"], "1");
    }

    #[test]
    fn errors_of_the_sink_are_no_errors_of_the_clients_key() {
        let cases = [
            (ErrorKind::Usage, "unknown_provider", 404),
            (ErrorKind::Usage, "no_model", 400),
            (ErrorKind::LoginNeeded, "no_credential", 503),
            (ErrorKind::TryAgain, "busy", 503),
            (ErrorKind::Failed, "store", 500),
            (ErrorKind::Failed, "denied", 403),
            (ErrorKind::Failed, "too_costly", 403),
        ];
        for (kind, code, status) in cases {
            let error = SinkError::new(kind, code, "why").with_fix("tokensink x");
            let refusal = Refusal::from_sink(&error, UnixMillis(0));
            assert_eq!(refusal.status.as_u16(), status, "{code}");
            assert_eq!(refusal.text(), "tokensink: why. To fix it: tokensink x");
            let retry = refusal.answer(ErrorShape::Anthropic, None);
            let told = retry.headers().get("x-should-retry").is_some();
            assert_eq!(told, kind == ErrorKind::LoginNeeded, "{code}");
            let told = retry.headers().get("retry-after").is_some();
            assert_eq!(told, kind == ErrorKind::TryAgain, "{code}");
        }
    }
}
