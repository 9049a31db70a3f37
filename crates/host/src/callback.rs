//! The loopback listener that receives an OAuth redirect (RFC 8252 sections 7.3 and 8.3).
//!
//! It binds to loopback addresses only and answers only requests whose Host is loopback, so that neither the network
//! nor a page that rebinds a name can talk to it. One slow or silent client does not keep others out: all
//! connections are read side by side, each for a bounded time and a bounded number of bytes.
//! What a request means (state, code, error) is not known here.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use thiserror::Error;
use tokensink_types::{Body, Secret};

use crate::deadline::{Deadline, wait_ready};
use crate::http_server::{close_gently, parse_head, plain, response_bytes, write_all};
use crate::wake::{Latch, LatchSetter, latch};

/// Largest request in bytes. A redirect carries a code and a state, not documents.
const REQUEST_BYTES: usize = 8 * 1024;
/// How long one client may take to send its request.
const CLIENT_TIME: Duration = Duration::from_secs(10);
/// How long one client may take to read its answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long the refusal of a client may take; others wait meanwhile.
const REFUSAL_TIME: Duration = Duration::from_millis(100);
/// How long one client may take to close.
const LINGER: Duration = Duration::from_millis(500);
/// Most clients at once; the oldest goes when one more comes.
const MAX_CLIENTS: usize = 32;
/// How often another free port is tried when the first one is taken on the other address family.
const MAX_PORTS: usize = 16;

/// Why the listener cannot listen. Each kind has its own way out (pains.md 35).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "{addr} is in use by another program (see which: ss -ltnp 'sport = :{}'); end the other login, or paste the \
         redirect URL by hand",
        addr.port()
    )]
    InUse {
        /// Where.
        addr: SocketAddr,
    },
    /// We may not listen there, for example on a port below 1024.
    #[error("this user may not listen on {addr}; paste the redirect URL by hand")]
    Forbidden {
        /// Where.
        addr: SocketAddr,
    },
    /// The system keeps the port for itself (Windows: an excluded range).
    #[error(
        "the system has reserved {addr} (see the ranges: netsh interface ipv4 show excludedportrange protocol=tcp); \
         paste the redirect URL by hand"
    )]
    Reserved {
        /// Where.
        addr: SocketAddr,
    },
    /// An address that is not loopback was asked for.
    #[error("{ip} is not a loopback address")]
    NotLoopback {
        /// The address.
        ip: IpAddr,
    },
    /// Anything else.
    #[error("cannot listen on port {port}: {source}")]
    Other {
        /// The port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
}

/// A listener on one port of one or more loopback addresses.
#[derive(Debug)]
pub struct CallbackListener {
    listeners: Vec<TcpListener>,
    port: u16,
    stop: LatchSetter,
    stopped: Latch,
    clients: Mutex<VecDeque<Client>>,
    client_time: Duration,
}

/// Ends [`CallbackListener::accept`] from another thread.
#[derive(Debug, Clone)]
pub struct StopHandle(LatchSetter);

impl StopHandle {
    /// Makes this and every later `accept` return `None` at once.
    pub fn stop(&self) {
        self.0.set();
    }
}

impl CallbackListener {
    /// Listens on `port` of every address in `hosts` that this machine has, usually 127.0.0.1 and `::1`; at least one
    /// is needed. With port 0 a port is chosen that is free on all of them.
    ///
    /// # Errors
    /// [`BindError`]. A port that is taken on one address counts as taken: the redirect could end up there.
    pub fn bind(hosts: &[IpAddr], port: u16) -> Result<Self, BindError> {
        if let Some(ip) = hosts.iter().find(|ip| !ip.is_loopback()) {
            return Err(BindError::NotLoopback { ip: *ip });
        }
        let mut tries = 0;
        let (listeners, port) = loop {
            tries += 1;
            match bind_all(hosts, port) {
                Err(BindError::InUse { .. }) if port == 0 && tries < MAX_PORTS => {}
                result => break result?,
            }
        };
        let (stop, stopped) = latch().map_err(|source| BindError::Other { port, source })?;
        Ok(Self {
            listeners,
            port,
            stop,
            stopped,
            clients: Mutex::new(VecDeque::new()),
            client_time: CLIENT_TIME,
        })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses that it listens on.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// A handle that ends `accept`.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.stop.clone())
    }

    /// Waits for the next well-formed GET or HEAD request to a loopback host; `None` after `deadline` (real time) or
    /// once stopped. Everything else (other methods and hosts, oversized, slow and broken requests) is answered here.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn accept(&self, deadline: Duration) -> io::Result<Option<CallbackRequest>> {
        let deadline = Deadline::after(deadline);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_over = false;
        loop {
            if self.stop.is_set() {
                return Ok(None);
            }
            drop_slow(&mut clients);
            while let Some(at) = clients.iter().position(|client| client.is_ready) {
                if let Some(request) = clients.remove(at).and_then(Client::into_request) {
                    return Ok(Some(request));
                }
            }
            if is_over {
                return Ok(None);
            }
            let oldest = clients.front().map(|client| client.deadline);
            let until = oldest.map_or(deadline, |oldest| deadline.min(oldest));
            self.wait(&mut clients, until)?;
            is_over = deadline.passed();
        }
    }

    /// Waits for something to happen and takes it in.
    fn wait(&self, clients: &mut VecDeque<Client>, until: Deadline) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.stopped, PollFlags::IN)];
        fds.extend(self.listeners.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(
            clients
                .iter()
                .map(|client| PollFd::new(&client.stream, PollFlags::IN)),
        );
        if !wait_ready(&mut fds, until)? {
            return Ok(());
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let (sources, readable) = ready.split_at(1 + self.listeners.len());
        for (client, _) in clients.iter_mut().zip(readable).filter(|(_, ready)| **ready) {
            client.read();
        }
        for (listener, _) in self
            .listeners
            .iter()
            .zip(&sources[1..])
            .filter(|(_, ready)| **ready)
        {
            if let Some(client) = Client::accept(listener, self.client_time) {
                if clients.len() == MAX_CLIENTS {
                    clients.pop_front();
                }
                clients.push_back(client);
            }
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this module is the listening side of the host"
)]
fn bind_all(hosts: &[IpAddr], port: u16) -> Result<(Vec<TcpListener>, u16), BindError> {
    let mut listeners = Vec::new();
    let mut port = port;
    let mut missing = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for ip in hosts {
        let addr = SocketAddr::new(*ip, port);
        let bound = TcpListener::bind(addr).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((listener, port))
        });
        match bound {
            Ok((listener, its_port)) => {
                port = its_port;
                listeners.push(listener);
            }
            Err(error) => match bind_error(addr, error) {
                // A machine without IPv6, usually. The other address will do.
                BindError::Other { source, .. } if is_missing(&source) => missing = source,
                error => return Err(error),
            },
        }
    }
    if listeners.is_empty() {
        return Err(BindError::Other {
            port,
            source: missing,
        });
    }
    Ok((listeners, port))
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

fn bind_error(addr: SocketAddr, source: io::Error) -> BindError {
    /// `WSAEACCES`: what Windows says for a port in an excluded range.
    const RESERVED: i32 = 10_013;
    match source.kind() {
        _ if source.raw_os_error() == Some(RESERVED) => BindError::Reserved { addr },
        io::ErrorKind::AddrInUse => BindError::InUse { addr },
        io::ErrorKind::PermissionDenied => BindError::Forbidden { addr },
        _ => BindError::Other {
            port: addr.port(),
            source,
        },
    }
}

/// Answers and drops the clients whose time is up; they are in the order in which they came.
fn drop_slow(clients: &mut VecDeque<Client>) {
    while clients.front().is_some_and(|client| client.deadline.passed()) {
        if let Some(client) = clients.pop_front() {
            client.refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long");
        }
    }
}

/// A client that has not sent its whole request yet.
struct Client {
    stream: TcpStream,
    deadline: Deadline,
    bytes: Vec<u8>,
    /// The head is complete, too long or broken, or the client left.
    is_ready: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({} bytes)", self.bytes.len())
    }
}

impl Client {
    fn accept(listener: &TcpListener, time: Duration) -> Option<Self> {
        let (stream, _) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(Self {
            stream,
            deadline: Deadline::after(time),
            bytes: Vec::new(),
            is_ready: false,
        })
    }

    fn read(&mut self) {
        let mut chunk = [0; 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.is_ready = true,
            Ok(n) => {
                self.bytes.extend_from_slice(&chunk[..n]);
                self.is_ready = receive(&self.bytes) != Received::Part;
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.is_ready = true,
        }
    }

    /// The request, if it is one for us; else the client is answered.
    fn into_request(self) -> Option<CallbackRequest> {
        match receive(&self.bytes) {
            Received::Request { method, target } => Some(CallbackRequest {
                stream: self.stream,
                method,
                target,
            }),
            Received::Refused { status, why } => {
                self.refuse(status, &why);
                None
            }
            // It left in the middle.
            Received::Part => None,
        }
    }

    fn refuse(self, status: StatusCode, text: &str) {
        let mut response = plain(status, text);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        // Nobody waits for a client that is refused: the answer fits into the kernel's buffer, what came in is read
        // so that closing does not reset it, and a client that misses it all the same has lost nothing.
        let sent = self
            .stream
            .set_nonblocking(false)
            .and_then(|()| write_all(&self.stream, &response_bytes(&response, false), REFUSAL_TIME))
            .and_then(|()| self.stream.shutdown(Shutdown::Write))
            .and_then(|()| self.stream.set_nonblocking(true));
        let mut rest = [0; REQUEST_BYTES];
        if sent.is_ok() {
            let _ = (&self.stream).read(&mut rest);
        }
    }
}

/// What the bytes are that a client of the listener has sent so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Not the whole head yet.
    Part,
    /// A GET or HEAD request to a loopback host.
    Request {
        /// Which of the two.
        method: Method,
        /// Path and query, as sent. The query holds the authorization code.
        target: Secret,
    },
    /// Nothing for us.
    Refused {
        /// The status that answers it.
        status: StatusCode,
        /// The reason, for whoever sent it. Holds nothing of what was sent.
        why: String,
    },
}

/// Reads what a client has sent so far: the whole judgement of the listener on bytes that anybody on this machine, and
/// any page in the browser, may send. What follows the head is not looked at.
#[must_use]
pub fn receive(bytes: &[u8]) -> Received {
    let refused = |status, why: &str| Received::Refused {
        status,
        why: why.to_owned(),
    };
    if bytes.len() > REQUEST_BYTES {
        return refused(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the request is too large",
        );
    }
    let head = match parse_head(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Received::Part,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here");
    }
    if !names_loopback(&head.headers) {
        return refused(StatusCode::FORBIDDEN, "this address is for this machine only");
    }
    Received::Request {
        method: head.method,
        target: Secret::new(head.target.to_string()),
    }
}

/// True when the one Host field names this machine (RFC 9110 section 7.2; against DNS rebinding). The port is not
/// compared: it differs behind a forwarded one.
fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(authority) = http::uri::Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let host = authority.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// One request that waits for its answer.
pub struct CallbackRequest {
    stream: TcpStream,
    method: Method,
    /// Holds the authorization code.
    target: Secret,
}

impl fmt::Debug for CallbackRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.expose().split('?').next().unwrap_or_default();
        write!(f, "CallbackRequest({} {path})", self.method)
    }
}

impl CallbackRequest {
    /// GET or HEAD.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query, as sent. **The query holds the authorization code.**
    #[must_use]
    pub fn target(&self) -> &str {
        self.target.expose()
    }

    /// Answers with a page and closes. The page may bring its own styles and nothing else; it is not cached and its
    /// address (with the code) is not passed on as a referrer.
    ///
    /// # Errors
    /// As the system gives them; the browser may be gone.
    pub fn respond(self, status: StatusCode, html: &str) -> io::Result<()> {
        let mut response = Response::new(Body::new(html));
        *response.status_mut() = status;
        let fields = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
            ),
        ];
        for (name, value) in fields {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        answer(&self.stream, &response, self.method == Method::HEAD)
    }
}

fn answer(stream: &TcpStream, response: &Response<Body>, head_only: bool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    write_all(stream, &response_bytes(response, head_only), ANSWER_TIME)?;
    close_gently(stream, LINGER);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Ipv4Addr;

    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a client on a real socket")]
    fn slow_clients_are_told_and_dropped_while_others_wait() {
        let mut listener = CallbackListener::bind(&[V4], 0).unwrap();
        listener.client_time = Duration::from_millis(30);
        let mut slow = TcpStream::connect((V4, listener.port())).unwrap();
        slow.write_all(b"GET /slow").unwrap();
        let none = listener.accept(Duration::from_millis(200)).unwrap();
        assert!(none.is_none(), "the end of a client is not the end of the wait");
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(listener.clients.lock().unwrap().is_empty());
    }

    #[test]
    fn reasons_by_error() {
        let addr = SocketAddr::new(V4, 1455);
        let of = |code: i32| bind_error(addr, io::Error::from_raw_os_error(code));
        assert!(matches!(
            of(Errno::ADDRINUSE.raw_os_error()),
            BindError::InUse { .. }
        ));
        assert!(matches!(
            of(Errno::ACCESS.raw_os_error()),
            BindError::Forbidden { .. }
        ));
        assert!(matches!(of(10_013), BindError::Reserved { .. }));
        assert!(matches!(of(Errno::NOMEM.raw_os_error()), BindError::Other { .. }));
    }
}
