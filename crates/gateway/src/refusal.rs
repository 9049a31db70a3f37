//! What the gateway itself has to say: a status, a reason and what to do.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Bytes;
use serde_json::json;

use crate::stream::Answer;

/// An answer of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status.
    pub(crate) status: StatusCode,
    /// A word for programs.
    pub(crate) kind: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// When it is worth another try.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(crate) fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    pub(crate) fn no_key(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
    }

    /// The body, without the head.
    fn body(&self) -> Bytes {
        let body = json!({"error": {"type": self.kind, "message": self.message}});
        Bytes::from(body.to_string())
    }

    pub(crate) fn into_response(self) -> Response<Answer> {
        let mut response = Response::new(Answer::whole(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(time) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds_up(time)));
        }
        response
    }

    /// The whole answer as bytes, for a connection that is past the HTTP library's help. It closes the connection.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let body = self.body();
        let retry = self.retry_after.map_or_else(String::new, |time| {
            format!("retry-after: {}\r\n", seconds_up(time))
        });
        let mut bytes = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
            self.status,
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }
}

/// Whole seconds, at least one: a client that is told 0 comes back at once.
fn seconds_up(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}
