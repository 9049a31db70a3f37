//! Reading one HTTP/1.1 request and writing one answer (RFC 9112), within limits.
//!
//! Strict where leniency would be a hole: a body has a `Content-Length` (chunked requests get 411, as RFC 9112
//! section 6.3 allows), repeated lengths must agree, and nothing after the body is read.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use thiserror::Error;
use tokensink_types::Body;

use crate::deadline::Deadline;

/// Most header fields of one request.
const MAX_HEADERS: usize = 100;
/// Bytes taken from a socket at once.
const CHUNK: usize = 8 * 1024;

/// Bounds of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Largest request line and header fields together, in bytes.
    pub head_bytes: usize,
    /// Largest body in bytes.
    pub body_bytes: usize,
    /// From the acceptance of the connection to the last byte of the request.
    pub time: Duration,
}

impl Default for RequestLimits {
    /// 32 KiB of head, 1 MiB of body, 30 seconds.
    fn default() -> Self {
        Self {
            head_bytes: 32 * 1024,
            body_bytes: 1024 * 1024,
            time: Duration::from_secs(30),
        }
    }
}

/// Why there is no request.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not HTTP/1.x.
    #[error("not an HTTP/1.1 request: {0}")]
    Malformed(String),
    /// More head than allowed.
    #[error("the request's header fields are too large")]
    HeadTooLarge,
    /// More body than allowed.
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// A body without a `Content-Length`.
    #[error("the request's body has no Content-Length")]
    LengthRequired,
    /// Too slow.
    #[error("the request took too long")]
    TimedOut,
    /// The client left, or the connection broke.
    #[error("the connection ended before the request was complete")]
    Closed(#[source] io::Error),
}

impl RequestError {
    /// The status that answers it, `None` when nobody is there to read an answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Malformed(_) => Some(StatusCode::BAD_REQUEST),
            Self::HeadTooLarge => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Self::BodyTooLarge => Some(StatusCode::PAYLOAD_TOO_LARGE),
            Self::LengthRequired => Some(StatusCode::LENGTH_REQUIRED),
            Self::TimedOut => Some(StatusCode::REQUEST_TIMEOUT),
            Self::Closed(_) => None,
        }
    }
}

/// Request line and header fields.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) target: Uri,
    pub(crate) headers: HeaderMap,
    /// Bytes of the head itself, with the empty line that ends it.
    pub(crate) length: usize,
    /// Bytes of body that follow.
    pub(crate) body: usize,
}

/// Parses a head; `None` while it is incomplete.
///
/// # Errors
/// `Malformed` or `LengthRequired`.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<Option<Head>, RequestError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::HeadTooLarge),
        Err(error) => return Err(RequestError::Malformed(error.to_string())),
    };
    let malformed = |what: &str| RequestError::Malformed(what.to_owned());
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| malformed("unknown method"))?;
    let target = parsed.path.unwrap_or_default();
    let target = Uri::try_from(target).map_err(|_| malformed("the request target is no URI"))?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed("bad field name"))?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| malformed("bad field value"))?;
        headers.append(name, value);
    }
    let body = body_length(&headers)?;
    Ok(Some(Head {
        method,
        target,
        headers,
        length,
        body,
    }))
}

/// The length of the body by RFC 9112 section 6.3.
fn body_length(headers: &HeaderMap) -> Result<usize, RequestError> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(RequestError::LengthRequired);
    }
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let this = value
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse::<usize>().ok());
        match (this, length) {
            (Some(this), None) => length = Some(this),
            (Some(this), Some(before)) if this == before => {}
            _ => return Err(RequestError::Malformed("bad Content-Length".to_owned())),
        }
    }
    Ok(length.unwrap_or(0))
}

/// Reads one request. Only its own bytes count against the limits; what the client sends after them is left alone.
///
/// # Errors
/// [`RequestError`], with the status that answers it.
pub fn read_request(stream: &TcpStream, limits: RequestLimits) -> Result<Request<Body>, RequestError> {
    let deadline = Deadline::after(limits.time);
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = parse_head(&bytes)? {
            break head;
        }
        if bytes.len() >= limits.head_bytes {
            return Err(RequestError::HeadTooLarge);
        }
        read_some(stream, deadline, &mut bytes, limits.head_bytes)?;
    };
    if head.body > limits.body_bytes {
        return Err(RequestError::BodyTooLarge);
    }
    if bytes.len() == head.length && expects_continue(&head.headers) {
        write_all(stream, b"HTTP/1.1 100 Continue\r\n\r\n", limits.time).map_err(RequestError::Closed)?;
    }
    let end = head.length + head.body;
    while bytes.len() < end {
        read_some(stream, deadline, &mut bytes, end)?;
    }
    let mut request = Request::new(Body::new(&bytes[head.length..end]));
    *request.method_mut() = head.method;
    *request.uri_mut() = head.target;
    *request.headers_mut() = head.headers;
    Ok(request)
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Appends what has arrived, waiting for at least one byte, until `bytes` has `limit` of them at most.
fn read_some(
    mut stream: &TcpStream,
    deadline: Deadline,
    bytes: &mut Vec<u8>,
    limit: usize,
) -> Result<(), RequestError> {
    let timeout = deadline.socket_timeout().map_err(|_| RequestError::TimedOut)?;
    stream.set_read_timeout(timeout).map_err(RequestError::Closed)?;
    let mut chunk = [0; CHUNK];
    let room = limit.saturating_sub(bytes.len()).clamp(1, CHUNK);
    match stream.read(&mut chunk[..room]) {
        Ok(0) => Err(RequestError::Closed(io::ErrorKind::UnexpectedEof.into())),
        Ok(n) => {
            bytes.extend_from_slice(&chunk[..n]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) if is_timeout(&error) => Err(RequestError::TimedOut),
        Err(error) => Err(RequestError::Closed(error)),
    }
}

/// A socket time-out shows as either kind, depending on the system.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The bytes of an answer: its own fields, `Content-Length` unless set, `Connection: close`. With `head_only` (HEAD,
/// RFC 9110 section 9.3.2) the length is told and the body left out.
#[must_use]
pub fn response_bytes(response: &Response<Body>, head_only: bool) -> Vec<u8> {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("");
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    let mut field = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    for (name, value) in response.headers() {
        field(name.as_str(), value.as_bytes());
    }
    if !response.headers().contains_key(CONTENT_LENGTH) {
        field("content-length", response.body().len().to_string().as_bytes());
    }
    if !response.headers().contains_key(CONNECTION) {
        field("connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(response.body().expose());
    }
    out
}

/// Writes all of `bytes` within `time`.
///
/// # Errors
/// As the system gives them; `TimedOut` when the peer does not read.
pub(crate) fn write_all(mut stream: &TcpStream, bytes: &[u8], time: Duration) -> io::Result<()> {
    use std::io::Write as _;
    let deadline = Deadline::after(time);
    let mut rest = bytes;
    while !rest.is_empty() {
        stream.set_write_timeout(deadline.socket_timeout()?)?;
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends our side and waits, within bounds, for the client to end its own: closing with unread bytes would send a
/// reset that can destroy an answer on its way (RFC 9112 section 9.6).
pub(crate) fn close_gently(mut stream: &TcpStream, time: Duration) {
    /// Most bytes of an unwanted body that are read and thrown away.
    const MOST: usize = 256 * 1024;
    if stream.shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let deadline = Deadline::after(time);
    let (mut chunk, mut read) = ([0; CHUNK], 0);
    while read < MOST {
        let Ok(timeout) = deadline.socket_timeout() else {
            return;
        };
        if stream.set_read_timeout(timeout).is_err() {
            return;
        }
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => read += n,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse_head(&bytes);
        }

        #[test]
        fn a_head_is_complete_at_its_last_byte_and_not_before(
            path in "/[a-z0-9/?=&%]{0,30}",
            name in "[a-z][a-z-]{0,10}",
            value in "[a-zA-Z0-9 ]{0,20}",
            length in 0_usize..100,
        ) {
            let text = format!("POST {path} HTTP/1.1\r\nx-{name}: {value}\r\nContent-Length: {length}\r\n\r\n");
            for end in 0..text.len() {
                prop_assert!(matches!(parse_head(&text.as_bytes()[..end]), Ok(None)), "{}", &text[..end]);
            }
            let head = parse_head(format!("{text}body").as_bytes()).unwrap().unwrap();
            prop_assert_eq!((head.length, head.body), (text.len(), length));
            prop_assert_eq!(head.target.to_string(), path);
            let found = &head.headers[format!("x-{name}")];
            prop_assert_eq!(found.to_str().unwrap(), value.trim());
        }
    }
}
