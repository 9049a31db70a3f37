//! A provider's API on loopback that does what a test says: whole answers, streams, silence, cuts.
//!
//! Each connection has a thread; a handler is given every request with the connection to answer on. What came is kept
//! in a log, and so is whether the other side left before the answer was over.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a server for tests on real sockets, which says what is wrong by panicking"
)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a connection waits for its client; only a hanging test ever waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Header fields as sent, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without its transfer coding.
    pub body: Vec<u8>,
    /// When the request was complete.
    pub at: Instant,
    /// Which of the server's connections it came over, counted from 1.
    pub connection: usize,
}

impl Seen {
    /// The first value of a header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    /// The token of `authorization: Bearer …`.
    #[must_use]
    pub fn bearer(&self) -> &str {
        let value = self.header("authorization").unwrap_or_default();
        value.strip_prefix("Bearer ").unwrap_or_default()
    }
}

/// The connection that a request came over, to answer on. Without an answer it is closed.
#[derive(Debug)]
pub struct Talk {
    stream: TcpStream,
    keep: bool,
}

impl Talk {
    /// A whole answer with its length.
    pub fn answer(&mut self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut bytes = head(status, headers, &format!("content-length: {}\r\n", body.len()));
        bytes.extend_from_slice(body);
        self.keep = self.raw(&bytes);
    }

    /// A JSON answer.
    pub fn json(&mut self, status: u16, body: &str) {
        self.answer(status, &[("content-type", "application/json")], body);
    }

    /// The head of an answer that comes in chunks.
    pub fn begin(&mut self, status: u16, headers: &[(&str, &str)]) -> bool {
        self.raw(&head(status, headers, "transfer-encoding: chunked\r\n"))
    }

    /// The head of an event stream.
    pub fn begin_events(&mut self) -> bool {
        self.begin(200, &[("content-type", "text/event-stream")])
    }

    /// One chunk.
    pub fn chunk(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.raw(&chunk)
    }

    /// The end of an answer in chunks.
    pub fn end(&mut self) {
        self.keep = self.raw(b"0\r\n\r\n");
    }

    /// Bytes as they are; `false` when nobody takes them any more.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Closes the connection here and now.
    pub fn cut(&mut self) {
        self.keep = false;
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until the other side closes; `None` when it has not within `time`.
    #[must_use]
    pub fn left_within(&mut self, time: Duration) -> Option<Duration> {
        let began = Instant::now();
        self.stream.set_read_timeout(Some(time)).unwrap();
        let mut scrap = [0; 1024];
        let left = loop {
            match self.stream.read(&mut scrap) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        };
        self.keep = false;
        left.then(|| began.elapsed())
    }
}

fn head(status: u16, headers: &[(&str, &str)], framing: &str) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n{framing}");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

type Handler = dyn Fn(&Seen, &mut Talk) + Send + Sync;

/// The server; it ends when dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<Handler>,
    log: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// The connections that are open, by number.
    open: Mutex<HashMap<usize, TcpStream>>,
    over: AtomicBool,
}

impl Upstream {
    /// A server on a free port that answers by `handler`, in the connection's thread.
    ///
    /// # Panics
    /// When there is no port to be had.
    #[must_use]
    pub fn start(handler: impl Fn(&Seen, &mut Talk) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            log: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    ///
    /// # Panics
    /// When a handler has panicked in a bad place.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    ///
    /// # Panics
    /// When a connection's thread has panicked in a bad place.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    /// Closes every connection that is open now, as a server that restarts does.
    ///
    /// # Panics
    /// When a connection's thread has panicked in a bad place.
    pub fn hang_up(&self) {
        for stream in self.shared.open.lock().unwrap().values() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread. Connections end by their clients or their patience.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let another = stream.try_clone().unwrap();
            shared.open.lock().unwrap().insert(number, another);
            serve(&stream, number, &shared);
            shared.open.lock().unwrap().remove(&number);
        });
    }
}

/// Serves requests until one is not answered whole or the client leaves.
fn serve(stream: &TcpStream, connection: usize, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let Some(seen) = read_request(&mut reader, stream, connection) else {
            return;
        };
        shared.log.lock().unwrap().push(seen.clone());
        let mut talk = Talk {
            stream: stream.try_clone().unwrap(),
            keep: false,
        };
        (shared.handler)(&seen, &mut talk);
        if !talk.keep {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// `None` at the end of the connection, or of this reader's understanding.
fn read_request(
    reader: &mut BufReader<TcpStream>,
    mut stream: &TcpStream,
    connection: usize,
) -> Option<Seen> {
    let mut line = || {
        let mut line = String::new();
        let read = reader.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| {
        let found = headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    if header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = Vec::new();
    if header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = header("content-length") {
        body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
    }
    Some(Seen {
        method,
        path,
        headers,
        body,
        at: Instant::now(),
        connection,
    })
}
