//! One request and its whole answer, or the answer as it comes ([`HttpStream`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokensink_types::Body;

use super::OwnRuntime;
use super::dial::{Destination, Dialed, Stream, Target};
use super::streaming::HttpStream;
use crate::{AnswerStream, Connection, ExchangeError, Limits};

/// Largest head of an answer in bytes; hyper may take in one read more.
const HEAD_BYTES: usize = 64 * 1024;
/// Who we say we are when the request does not say it.
const AGENT: &str = concat!("tokensink/", env!("CARGO_PKG_VERSION"));
/// Header fields that carry credentials; marked so that no library prints them.
const SENSITIVE: [HeaderName; 3] = [AUTHORIZATION, COOKIE, HeaderName::from_static("x-api-key")];

/// A connection over TCP or TLS.
pub(super) struct HttpConnection {
    /// Dropped first, so that nothing moves any more when the stream goes.
    runtime: OwnRuntime,
    stream: Stream,
    written: Arc<AtomicU64>,
    to: Destination,
}

impl HttpConnection {
    pub(super) fn new(runtime: OwnRuntime, dialed: Dialed, to: Destination) -> Self {
        Self {
            runtime,
            stream: dialed.stream,
            written: dialed.written,
            to,
        }
    }
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpConnection({})", self.to.target().authority())
    }
}

impl Connection for HttpConnection {
    fn exchange(
        self: Box<Self>,
        request: Request<Body>,
        limits: Limits,
    ) -> Result<Response<Body>, ExchangeError> {
        let Self {
            runtime,
            stream,
            written,
            to,
        } = *self;
        let request = prepare(request, &to).map_err(ExchangeError::NotWritten)?;
        // What TLS wrote for its handshake does not count.
        let before = written.load(Ordering::SeqCst);
        let outcome = runtime.block_on(async {
            tokio::time::timeout(limits.time, send(stream, request, limits.body_bytes)).await
        });
        // Nothing runs outside block_on, so the count stands still now.
        let was_written = written.load(Ordering::SeqCst) != before;
        let cause = match outcome {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(cause)) => cause,
            Err(_) => format!("no complete answer within {:.1} s", limits.time.as_secs_f64()),
        };
        let cause = format!("{}: {cause}", to.target().authority());
        Err(if was_written {
            ExchangeError::Ambiguous(cause)
        } else {
            ExchangeError::NotWritten(cause)
        })
    }

    fn start(self: Box<Self>, request: Request<Body>) -> Result<Box<dyn AnswerStream>, ExchangeError> {
        let Self {
            runtime,
            stream,
            written,
            to,
        } = *self;
        let request = prepare(request, &to).map_err(ExchangeError::NotWritten)?;
        let authority = to.target().authority();
        Ok(Box::new(HttpStream::new(
            runtime, stream, written, request, authority,
        )))
    }
}

/// Turns the request into origin form (RFC 9112 section 3.2.1) for this connection and no other.
fn prepare(request: Request<Body>, to: &Destination) -> Result<Request<Full<Bytes>>, String> {
    let (mut parts, body) = request.into_parts();
    let uri = url::Url::parse(&parts.uri.to_string())
        .ok()
        .and_then(|url| Target::of(&url).ok());
    if uri.as_ref() != Some(to.target()) {
        return Err(format!(
            "the request is not for {}, where the connection goes",
            to.target().authority()
        ));
    }
    let host = HeaderValue::from_str(&to.host_header()).map_err(|error| error.to_string())?;
    parts.headers.insert(HOST, host);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    parts
        .headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    for name in SENSITIVE {
        if let Some(value) = parts.headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
    let path = parts
        .uri
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
    parts.version = http::Version::HTTP_11;
    Ok(Request::from_parts(
        parts,
        Full::new(Bytes::from_owner(Owner(body))),
    ))
}

/// Lends the body to hyper without a copy, so that it is wiped afterwards.
struct Owner(Body);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

async fn send(
    stream: Stream,
    request: Request<Full<Bytes>>,
    body_bytes: usize,
) -> Result<Response<Body>, String> {
    let (parts, body) = request_on(stream, request).await?.into_parts();
    let body = collect(body, body_bytes).await?;
    Ok(Response::from_parts(parts, body))
}

/// Sends the request and waits for the answer's head.
pub(super) async fn request_on(
    stream: Stream,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, String> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| in_words(&error))?;
    // Its end is the end of the exchange, which reports the same error. It moves only while something is waited for.
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|error| in_words(&error))
}

async fn collect(mut body: Incoming, most: usize) -> Result<Body, String> {
    // Grown copies would leave parts of tokens behind in freed memory; a token answer fits into this.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(most.min(64 * 1024)));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| in_words(&error))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > most {
                return Err(format!("the answer is larger than {most} bytes"));
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Body::new(std::mem::take(&mut *bytes)))
}

/// An error with its causes, which the HTTP library leaves out of its own text.
#[must_use]
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}
