//! One client's connection: the HTTP library's server around it, and a watch over it.
//!
//! The library parses and writes. What it leaves out is here: a head that never ends gets 408 and a request of which
//! the client closed its half gets 400, while an idle connection just closes; a head that cannot be read is told what
//! is wrong with it; an answer that is sent before the request was read does not get lost to a reset; a client that takes
//! nothing of its answer is let go.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokensink_host::poll_write_parts;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::bounds::{Bounds, LINGER, LINGER_BYTES};
use crate::request::errors::{ErrorShape, Refusal};
use crate::server::Shared;
use crate::socket::Peer;
use crate::time::{Instant, lately, sleep, within};

/// A socket of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Where a connection is in its present request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Between requests.
    Idle,
    /// The head comes in.
    Head,
    /// The head is there; no answer has begun.
    Asked,
    /// The answer has begun.
    Answering,
}

impl Phase {
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Idle,
            1 => Self::Head,
            2 => Self::Asked,
            _ => Self::Answering,
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub(crate) enum From {
    /// An address.
    Net(SocketAddr),
    /// A process, over the Unix socket.
    Local(Peer),
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(address) => address.fmt(f),
            Self::Local(peer) => peer.fmt(f),
        }
    }
}

/// What the watch sees of a connection. Written by the connection's own task only.
#[derive(Debug)]
pub(crate) struct Line {
    peer: From,
    opened: Instant,
    phase: AtomicU8,
    /// When the phase Idle or Head began, in milliseconds after `opened`.
    since: AtomicU64,
    /// Since when a write waits for the client, as above; 0 when none does.
    blocked_since: AtomicU64,
    /// The present request's body was not read to its end.
    unread: AtomicBool,
    /// The status by which the library refuses the head that it cannot read; 0 while there is none.
    unreadable: AtomicU16,
}

impl Line {
    fn new(peer: From) -> Self {
        Self {
            peer,
            opened: lately(),
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            unreadable: AtomicU16::new(0),
        }
    }

    /// Where the client is.
    pub(crate) fn peer(&self) -> &From {
        &self.peer
    }

    /// The process of a local client.
    pub(crate) fn local(&self) -> Option<&Peer> {
        match &self.peer {
            From::Net(_) => None,
            From::Local(peer) => Some(peer),
        }
    }

    fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Ordering::Relaxed))
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn stamp(&self) -> u64 {
        u64::try_from(lately().duration_since(self.opened).as_millis()).unwrap_or(u64::MAX)
    }

    /// The answer is on its way; the returned guard ends the request when the answer's body is dropped.
    pub(crate) fn answering(self: &Arc<Self>) -> Turn {
        self.enter(Phase::Answering);
        Turn(Arc::clone(self))
    }

    /// The answer goes out although the client may still be sending.
    pub(crate) fn leave_body_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    fn read_some(&self) {
        if self.phase() == Phase::Idle {
            self.since.store(self.stamp(), Ordering::Relaxed);
            self.enter(Phase::Head);
        }
    }

    /// Are these bytes the library's own refusal of a head, which has no words? The last word is said by [`farewell`].
    fn keeps_back(&self, bytes: &[u8]) -> bool {
        // Of a head that came together with the one before it nothing was seen to come.
        let is_between = matches!(self.phase(), Phase::Idle | Phase::Head);
        let refused = is_between.then(|| bare_refusal(bytes)).flatten();
        if let Some(status) = refused {
            self.unreadable.store(status.as_u16(), Ordering::Relaxed);
        }
        refused.is_some()
    }

    fn wrote(&self, blocked: bool) {
        let since = self.blocked_since.load(Ordering::Relaxed);
        if blocked && since == 0 {
            self.blocked_since.store(self.stamp().max(1), Ordering::Relaxed);
        } else if !blocked && since != 0 {
            self.blocked_since.store(0, Ordering::Relaxed);
        }
    }

    /// Has something lasted too long?
    fn overdue(&self, bounds: &Bounds) -> bool {
        let now = self.stamp();
        let lasted = |since: &AtomicU64, bound: Duration| {
            Duration::from_millis(now.saturating_sub(since.load(Ordering::Relaxed))) >= bound
        };
        match self.phase() {
            Phase::Idle => lasted(&self.since, bounds.keep_alive),
            Phase::Head => lasted(&self.since, bounds.head_time),
            Phase::Asked | Phase::Answering => {
                self.blocked_since.load(Ordering::Relaxed) != 0
                    && lasted(&self.blocked_since, bounds.download_idle)
            }
        }
    }
}

/// A request in its answer; its end is the connection's next idle moment.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Line>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.since.store(self.0.stamp(), Ordering::Relaxed);
        self.0.enter(Phase::Idle);
    }
}

/// How a connection's service ended.
enum End {
    /// By itself or by the client.
    Closed(hyper::Result<()>),
    /// Something took too long.
    Overdue,
}

/// What may happen beside a connection's own steps.
enum Aside {
    /// Something took too long.
    Overdue,
    /// The gateway is to stop.
    Stopping,
}

/// Serves one connection to its end.
pub(crate) async fn serve<S: Stream>(shared: &Arc<Shared>, tcp: S, peer: From) {
    let line = Arc::new(Line::new(peer));
    let io = TokioIo::new(Watched {
        tcp,
        line: Arc::clone(&line),
    });
    let service = {
        let (shared, line) = (Arc::clone(shared), Arc::clone(&line));
        service_fn(move |request: Request<Incoming>| {
            line.enter(Phase::Asked);
            line.unread.store(false, Ordering::Relaxed);
            let (shared, line) = (Arc::clone(&shared), Arc::clone(&line));
            async move { Ok::<_, std::convert::Infallible>(shared.relay.answer(&line, request).await) }
        })
    };
    let bounds = &shared.bounds;
    let mut builder = http1::Builder::new();
    if bounds.header_fields != HEADER_FIELDS {
        builder.max_headers(bounds.header_fields);
    }
    let mut connection = builder
        .max_header_size(bounds.head_bytes)
        .max_buf_size(bounds.head_bytes.max(MIN_BUFFER))
        // The watch below tells an idle connection from a slow head; the library does not.
        .header_read_timeout(None)
        .auto_date_header(false)
        .serve_connection(io, service);
    let end = {
        let overdue = async {
            watch(&line, bounds).await;
            Aside::Overdue
        };
        let stopping = async {
            shared.stopping().await;
            Aside::Stopping
        };
        // They are asked only when they have something to say, not at each step of the connection.
        let mut asides = FuturesUnordered::from_iter([Either::Left(overdue), Either::Right(stopping)]);
        loop {
            tokio::select! {
                biased;
                result = &mut connection => break End::Closed(result),
                Some(aside) = asides.next() => match aside {
                    Aside::Overdue => break End::Overdue,
                    Aside::Stopping => Pin::new(&mut connection).graceful_shutdown(),
                },
            }
        }
    };
    let tcp = connection.into_parts().io.into_inner().tcp;
    farewell(tcp, &line, end, bounds).await;
}

/// As many header fields the library takes of itself, and has room for them on the stack. For any number that it is
/// given, be it the same, it allocates room with every request.
const HEADER_FIELDS: usize = 100;
/// The library wants at least this much.
const MIN_BUFFER: usize = 8192;

/// Resolves when something on the line has lasted too long.
async fn watch(line: &Line, bounds: &Bounds) {
    let shortest = bounds.head_time.min(bounds.keep_alive).min(bounds.download_idle);
    let tick = shortest / 4;
    while !line.overdue(bounds) {
        sleep(tick).await;
    }
}

/// The status of an answer that has no body and no header but those of a library that gives up. None of ours, and none
/// that is passed on, is without the request's id.
fn bare_refusal(bytes: &[u8]) -> Option<StatusCode> {
    let head = bytes.strip_prefix(b"HTTP/1.1 4")?.strip_suffix(b"\r\n\r\n")?;
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.get(..2)?.parse::<u16>().ok()?;
    let is_bare = |line: &str| ["content-length: 0", "connection: close"].contains(&line);
    lines
        .all(is_bare)
        .then(|| StatusCode::from_u16(400 + status).ok())
        .flatten()
}

/// What is said of a head that the library refused with this status, or without one (that of another version).
fn unreadable(status: u16, error: &hyper::Error, bounds: &Bounds) -> Option<Refusal> {
    let silent = error.is_parse().then_some(StatusCode::BAD_REQUEST);
    let status = StatusCode::from_u16(status).ok().or(silent)?;
    let (code, message) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "head_too_large",
            format!(
                "the head of the request has more than {} bytes or more than {} fields",
                bounds.head_bytes, bounds.header_fields
            ),
        ),
        StatusCode::URI_TOO_LONG => ("address_too_long", "the request's address is too long".to_owned()),
        _ => (
            "malformed_request",
            format!("the head of the request is no HTTP/1.1: {error}"),
        ),
    };
    Some(Refusal::new(status, code, message))
}

/// The last word to the client, where one is due and there is still somebody to hear it.
async fn farewell<S: Stream>(mut tcp: S, line: &Line, end: End, bounds: &Bounds) {
    let word = match (line.phase(), &end) {
        (Phase::Head, End::Overdue) => Some(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow_request",
            format!(
                "the head of the request did not come within {:?}",
                bounds.head_time
            ),
        )),
        (Phase::Head | Phase::Asked, End::Closed(Err(error))) if error.is_incomplete_message() => {
            Some(Refusal::bad(
                "half_closed",
                "the connection was closed by the client's side before the answer; \
                 keep it open in both directions until the answer is complete",
            ))
        }
        (_, End::Closed(Err(error))) => unreadable(line.unreadable.load(Ordering::Relaxed), error, bounds),
        _ => None,
    };
    if let End::Closed(Err(error)) = &end {
        tracing::debug!(peer = %line.peer(), "a connection ended: {error}");
    }
    let has_word = word.is_some();
    if let Some(word) = word {
        let _ = within(LINGER, tcp.write_all(&in_bytes(&word))).await;
    }
    if has_word || line.unread.load(Ordering::Relaxed) {
        let _ = within(LINGER, linger(&mut tcp)).await;
    }
}

/// Writes `word` and closes in a way that lets the client read it.
pub(crate) async fn say_and_close<S: Stream>(tcp: &mut S, word: &[u8]) {
    let saying = async {
        tcp.write_all(word).await?;
        linger(tcp).await
    };
    let _: Option<io::Result<()>> = within(LINGER, saying).await;
}

/// A whole answer as bytes, for a connection that is past the HTTP library's help; it closes the connection. What the
/// client speaks is not known here.
pub(crate) fn in_bytes(refusal: &Refusal) -> Vec<u8> {
    let answer = refusal.answer(ErrorShape::OpenAi, None);
    let mut bytes = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let end = format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        answer.body().len()
    );
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(answer.body());
    bytes
}

/// Reads on until the client has closed: closing with unread bytes would reset the connection, and the reset can
/// overtake the answer.
async fn linger<S: Stream>(tcp: &mut S) -> io::Result<()> {
    tcp.shutdown().await?;
    let mut scrap = vec![0; 16 * 1024];
    let mut left = LINGER_BYTES;
    loop {
        match tcp.read(&mut scrap).await? {
            0 => return Ok(()),
            n => left = left.saturating_sub(n),
        }
        if left == 0 {
            return Ok(());
        }
    }
}

/// The socket, with what the watch needs to know written down.
struct Watched<S> {
    tcp: S,
    line: Arc<Line>,
}

impl<S: Stream> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.tcp).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.line.read_some();
        }
        result
    }
}

impl<S: Stream> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.line.keeps_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = Pin::new(&mut self.tcp).poll_write(context, bytes);
        self.line.wrote(result.is_pending());
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts = bytes.iter().filter(|part| !part.is_empty());
        if let (Some(only), None) = (parts.next(), parts.next())
            && self.line.keeps_back(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let result = poll_write_parts(Pin::new(&mut self.tcp), context, bytes);
        self.line.wrote(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.line.unreadable.load(Ordering::Relaxed) != 0 {
            // There is something to be said yet.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
