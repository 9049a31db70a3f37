//! A minimal HTTP/1.1 server for loopback: one request per connection, one thread per connection.
//!
//! It serves the authorization server of the tests and the demo, so besides answers it can also misbehave on
//! purpose ([`Reply`]). It knows no routes, no TLS and no keep-alive; the gateway is built on something else.

mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use rustix::event::{PollFd, PollFlags};
use tokensink_types::Body;

pub use wire::{RequestError, RequestLimits, read_request, response_bytes};
pub(crate) use wire::{close_gently, parse_head, write_all};

use crate::deadline::{Deadline, wait_ready};
use crate::wake::{Latch, LatchSetter, latch};

/// Most connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take to read an answer.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long a client may take to close after its answer.
const LINGER: Duration = Duration::from_secs(2);

/// What a handler wants to happen on the connection.
#[derive(Debug)]
pub enum Reply {
    /// A proper answer.
    Answer(Response<Body>),
    /// The first bytes of an answer, counted from the status line, then the connection closes.
    Cut {
        /// The answer that is cut.
        response: Response<Body>,
        /// Bytes that are written of it.
        after_bytes: usize,
    },
    /// The connection closes without a byte.
    Close,
    /// Nothing, until the client leaves or the server shuts down.
    Hang,
    /// These bytes as they are, then the connection closes.
    Raw(Vec<u8>),
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Answer(response)
    }
}

/// Answers requests; called in a thread per connection.
pub type Handler = Arc<dyn Fn(Request<Body>, ConnectionControl) -> Reply + Send + Sync>;

/// What a handler can know of its connection.
#[derive(Debug, Clone)]
pub struct ConnectionControl {
    /// The client's address.
    peer: SocketAddr,
    /// Set when the server shuts down.
    stop: LatchSetter,
}

impl ConnectionControl {
    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// True once the server shuts down. A handler that waits for something looks here, since shutting down waits
    /// for every handler.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_set()
    }
}

/// A running server. Dropping it shuts it down.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    stop: LatchSetter,
    connections: Arc<Connections>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `addr` (port 0: any free port) and serves with the default limits.
    ///
    /// # Errors
    /// As the system gives them, for example when the port is in use.
    pub fn start(addr: SocketAddr, handler: Handler) -> io::Result<Self> {
        Self::start_with(addr, RequestLimits::default(), handler)
    }

    /// Listens on `addr` and serves requests within `limits`.
    ///
    /// # Errors
    /// As the system gives them, for example when the port is in use.
    #[expect(
        clippy::disallowed_methods,
        reason = "this module is the listening side of the host"
    )]
    pub fn start_with(addr: SocketAddr, limits: RequestLimits, handler: Handler) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        // poll says "ready" for a client that may be gone again; accept must not wait for the next one then.
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = latch()?;
        let connections = Arc::new(Connections::default());
        let shared = Shared {
            limits,
            handler,
            stop: stop.clone(),
            connections: Arc::clone(&connections),
        };
        let acceptor = std::thread::Builder::new()
            .name("http-accept".to_owned())
            .spawn(move || accept_loop(&listener, &stopped, &Arc::new(shared)))?;
        Ok(Self {
            addr,
            stop,
            connections,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops listening, ends every connection and waits for all threads. Handlers that are at work finish first.
    pub fn shutdown(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        self.stop.set();
        if let Some(acceptor) = self.acceptor.take() {
            // A thread that panicked has said so on standard error; there is nothing to add.
            let _ = acceptor.join();
        }
        self.connections.end_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

/// What every connection needs.
struct Shared {
    limits: RequestLimits,
    handler: Handler,
    stop: LatchSetter,
    connections: Arc<Connections>,
}

/// The open connections, so that shutting down can end their reads.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<HashMap<u64, TcpStream>>,
    changed: Condvar,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment for a free place; `false` when there is none yet.
    fn has_room(&self) -> bool {
        let open = self.open();
        if open.len() < MAX_CONNECTIONS {
            return true;
        }
        let (open, _) = self
            .changed
            .wait_timeout(open, Duration::from_millis(50))
            .unwrap_or_else(PoisonError::into_inner);
        open.len() < MAX_CONNECTIONS
    }

    fn end_all(&self) {
        let mut open = self.open();
        for stream in open.values() {
            // Already closed by the peer is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
        while !open.is_empty() {
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Takes a connection out of the list when its thread ends, by whatever way.
struct Registered {
    connections: Arc<Connections>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.open().remove(&self.number);
        self.connections.changed.notify_all();
    }
}

fn accept_loop(listener: &TcpListener, stopped: &Latch, shared: &Arc<Shared>) {
    let mut number = 0;
    while !shared.stop.is_set() {
        if !shared.connections.has_room() {
            continue;
        }
        let mut fds = [
            PollFd::new(stopped, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        if wait_ready(&mut fds, Deadline::after(Duration::MAX)).is_err() {
            return;
        }
        match listener.accept() {
            Ok((stream, peer)) => {
                number += 1;
                start_connection(stream, peer, number, shared);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Out of descriptors, most likely: let some close before the next try.
            Err(_) => {
                let pause = Deadline::after(Duration::from_millis(50));
                let _ = wait_ready(&mut [PollFd::new(stopped, PollFlags::IN)], pause);
            }
        }
    }
}

fn start_connection(stream: TcpStream, peer: SocketAddr, number: u64, shared: &Arc<Shared>) {
    // Where accepted sockets inherit O_NONBLOCK (BSD, macOS) it has to go; latency matters more than packets.
    let prepared = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_nodelay(true))
        .and_then(|()| stream.try_clone());
    let Ok(registered) = prepared else { return };
    shared.connections.open().insert(number, registered);
    let place = Registered {
        connections: Arc::clone(&shared.connections),
        number,
    };
    let shared = Arc::clone(shared);
    // Without a thread the connection is dropped with the closure, and its place with it.
    let _ = std::thread::Builder::new()
        .name("http-connection".to_owned())
        .spawn(move || {
            let _place = place;
            serve(&stream, peer, &shared);
        });
}

fn serve(stream: &TcpStream, peer: SocketAddr, shared: &Shared) {
    let request = match read_request(stream, shared.limits) {
        Ok(request) => request,
        Err(error) => {
            if let Some(status) = error.status() {
                send(stream, &response_bytes(&plain(status, &error.to_string()), false));
            }
            return;
        }
    };
    let head_only = request.method() == http::Method::HEAD;
    let control = ConnectionControl {
        peer,
        stop: shared.stop.clone(),
    };
    match (shared.handler)(request, control) {
        Reply::Answer(response) => send(stream, &response_bytes(&response, head_only)),
        Reply::Cut {
            response,
            after_bytes,
        } => {
            let bytes = response_bytes(&response, head_only);
            send(stream, &bytes[..after_bytes.min(bytes.len())]);
        }
        Reply::Close => {}
        Reply::Hang => wait_for_end(stream),
        Reply::Raw(bytes) => send(stream, &bytes),
    }
}

/// Writes and closes. A client that left needs no answer.
fn send(stream: &TcpStream, bytes: &[u8]) {
    if write_all(stream, bytes, WRITE_TIME).is_ok() {
        close_gently(stream, LINGER);
    }
}

fn wait_for_end(mut stream: &TcpStream) {
    use std::io::Read as _;
    let mut chunk = [0; 1024];
    if stream.set_read_timeout(None).is_ok() {
        while stream.read(&mut chunk).is_ok_and(|n| n > 0) {}
    }
}

/// A text answer: what a handler says to requests that it does not serve.
#[must_use]
pub fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::new(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
