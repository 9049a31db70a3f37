//! Every host of the internet on loopback: a CONNECT proxy that ends TLS itself, with certificates of an authority of
//! its own, and hands each request to a plain server. For programs whose endpoints cannot be moved (clients.md 8).
//!
//! It passes bytes on as they are, so that an answer that the server cuts is cut for the program too, and refuses
//! connections while the server does. It takes one request per connection, as the server behind it does.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tokensink_host::{Host, atomic};

/// A program that opens a connection and asks nothing keeps a thread for so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest head of a request in bytes.
const HEAD_BYTES: usize = 128 << 10;
/// Largest body of a request in bytes; programs send long lists of tools.
const BODY_BYTES: usize = 16 << 20;

/// The proxy. It ends when dropped.
pub struct Front {
    addr: SocketAddr,
    ca: PathBuf,
    /// Where `ca` is; removed with the proxy.
    _dir: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    /// The plain server that answers for every host.
    to: SocketAddr,
    /// Whose certificate the program is given.
    authority: Authority,
    /// One that it does not know.
    stranger: Authority,
    is_trusted: AtomicBool,
    connects: Mutex<Vec<String>>,
    stopping: AtomicBool,
}

/// An authority and the certificates that it has issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    issued: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Front {
    /// Starts a proxy all of whose hosts are the plain HTTP server at `to`.
    ///
    /// # Errors
    /// A sentence that says what failed: a key, the file of its certificate, or the socket.
    pub fn start(host: &Host, to: SocketAddr) -> Result<Self, String> {
        let (authority, stranger) = (Authority::new()?, Authority::new()?);
        let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let ca = dir.path().join("ca.pem");
        atomic::replace(
            &*host.files,
            &*host.random,
            &ca,
            authority.issuer.pem().as_bytes(),
            0o644,
        )
        .map_err(|error| error.to_string())?;
        let listener = listen().map_err(|error| format!("no socket for the proxy: {error}"))?;
        let addr = listener
            .local_addr()
            .map_err(|error| format!("the proxy's socket: {error}"))?;
        let shared = Arc::new(Shared {
            to,
            authority,
            stranger,
            is_trusted: AtomicBool::new(true),
            connects: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &serving));
        Ok(Self {
            addr,
            ca,
            _dir: dir,
            shared,
        })
    }

    /// The proxy's URL, for `HTTPS_PROXY`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The certificate of its authority, in PEM.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// The variables by which programs find it: Node programs, and those that take the usual names.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("HTTPS_PROXY", self.url()),
            ("NODE_EXTRA_CA_CERTS", self.ca.display().to_string()),
            ("NODE_USE_ENV_PROXY", "1".to_owned()),
        ]
    }

    /// The hosts that were asked for, `name:port`, in order.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        locked(&self.shared.connects).clone()
    }

    /// Whether hosts show certificates of the authority that programs are told to trust, from their next connection
    /// on; the others are of one that nobody knows.
    pub fn set_trusted(&self, trusted: bool) {
        self.shared.is_trusted.store(trusted, Ordering::SeqCst);
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the one that accepts; a socket that is gone already needs no waking.
        drop(dial(self.addr));
    }
}

impl Shared {
    fn authority(&self) -> &Authority {
        if self.is_trusted.load(Ordering::SeqCst) {
            &self.authority
        } else {
            &self.stranger
        }
    }
}

impl Authority {
    fn new() -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("no certificate authority: {error}");
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "tokensink conformance kit");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(failed)?;
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, key).map_err(failed)?,
            issued: Mutex::default(),
        })
    }

    /// A server's settings for `name`.
    fn settings(&self, name: &str) -> io::Result<Arc<ServerConfig>> {
        let mut issued = locked(&self.issued);
        if let Some(settings) = issued.get(name) {
            return Ok(Arc::clone(settings));
        }
        let settings = Arc::new(self.issue(name).map_err(io::Error::other)?);
        issued.insert(name.to_owned(), Arc::clone(&settings));
        Ok(settings)
    }

    fn issue(&self, name: &str) -> Result<ServerConfig, String> {
        let failed = |error: rcgen::Error| format!("no certificate for {name}: {error}");
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2120, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| format!("no certificate for {name}: {error}"))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What one connection's thread left is whole: every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a proxy listens; host's server answers requests and cannot end TLS"
)]
fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a proxy passes bytes on as they are, which host's transport for whole exchanges cannot"
)]
fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(to)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        // A program may leave at any moment; what that means is its own business.
        std::thread::spawn(move || client.and_then(|client| serve(client, &shared)));
    }
}

/// One connection of a program: CONNECT, TLS, one request and its answer.
fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let head = read_head(&mut client)?;
    let Some(target) = connect_target(&head) else {
        return client
            .write_all(b"HTTP/1.1 405 Only CONNECT\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    locked(&shared.connects).push(target.clone());
    let name = target.rsplit_once(':').map_or(&*target, |(name, _)| name);
    let Ok(mut server) = dial(shared.to) else {
        return client
            .write_all(b"HTTP/1.1 502 Connection refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let connection = ServerConnection::new(shared.authority().settings(name)?).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, client);
    let request = read_request(&mut stream)?;
    server.write_all(&request)?;
    let passed = pass_on(&mut server, &mut stream);
    stream.conn.send_close_notify();
    let flushed = stream.flush();
    // The server sees that its client is gone.
    let _closed = server.shutdown(Shutdown::Both);
    passed.and(flushed)
}

/// Passes an answer on as it comes.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = [0; 16 << 10];
    loop {
        let count = from.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..count])?;
        to.flush()?;
    }
}

/// `name:port` of a CONNECT request (RFC 9110 section 9.3.6).
fn connect_target(head: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(head);
    let target = line.strip_prefix("CONNECT ")?.split(' ').next()?;
    Some(target.to_owned())
}

/// Reads up to the empty line; not a byte more, since what follows may be TLS.
fn read_head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() == HEAD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(bytes)
}

/// Reads a request as it comes: its head, and a body whose length the head gives or that comes in chunks (RFC 9112
/// section 6).
fn read_request(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = read_head(stream)?;
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if let Some(length) = field("content-length:") {
        let length: usize = length.parse().map_err(io::Error::other)?;
        if length > BODY_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        bytes.extend(body);
    } else if field("transfer-encoding:").is_some() {
        while !bytes.ends_with(b"\r\n0\r\n\r\n") {
            if bytes.len() > BODY_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use tokensink_host::http_server::{Handler, Reply, Server, plain};
    use tokensink_host::{ConnectPhase, HttpTransport, Limits, Transport as _};
    use tokensink_testkit::MapEnvironment;
    use tokensink_types::Body;
    use url::Url;

    use super::*;

    const TIME: Duration = Duration::from_secs(20);

    fn echo() -> Server {
        let handler: Handler = Arc::new(|request, _| match request.uri().path() {
            "/cut" => Reply::Cut {
                response: plain(StatusCode::OK, "0123456789"),
                after_bytes: 60,
            },
            path => {
                let sent = String::from_utf8_lossy(request.body().expose()).into_owned();
                Reply::Answer(Response::new(Body::new(format!("{path} {sent}"))))
            }
        });
        Server::start((Ipv4Addr::LOCALHOST, 0).into(), handler).unwrap()
    }

    fn transport(front: &Front) -> HttpTransport {
        let ca = front.ca().display().to_string();
        let env = MapEnvironment::of([("HTTPS_PROXY", &front.url()), ("NODE_EXTRA_CA_CERTS", &ca)]);
        HttpTransport::new(Arc::new(env), Vec::new())
    }

    fn ask(front: &Front, url: &str) -> Result<String, String> {
        let connection = transport(front)
            .connect(&Url::parse(url).unwrap(), TIME)
            .map_err(|error| error.to_string())?;
        let limits = Limits {
            time: TIME,
            body_bytes: 1000,
        };
        let request = Request::post(url).body(Body::new("question")).unwrap();
        let answer = connection
            .exchange(request, limits)
            .map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(answer.body().expose()).into_owned())
    }

    #[test]
    fn every_host_is_the_server() {
        let server = echo();
        let front = Front::start(&Host::real(), server.addr()).unwrap();
        let cases = [
            ("https://auth.example.com/token?a=b", "/token question"),
            ("https://api.example.com/v1/messages", "/v1/messages question"),
        ];
        for (url, answer) in cases {
            assert_eq!(ask(&front, url).as_deref(), Ok(answer), "{url}");
        }
        let cut = ask(&front, "https://api.example.com/cut").unwrap_err();
        assert!(cut.contains("no complete answer"), "{cut}");
        let hosts = [
            "auth.example.com:443",
            "api.example.com:443",
            "api.example.com:443",
        ];
        assert_eq!(front.hosts(), hosts);
    }

    #[test]
    fn a_network_that_does_not_work_is_met_before_the_request_leaves() {
        let server = echo();
        let front = Front::start(&Host::real(), server.addr()).unwrap();
        let url = Url::parse("https://auth.example.com/token").unwrap();
        let phase = || transport(&front).connect(&url, TIME).unwrap_err().phase;
        front.set_trusted(false);
        assert_eq!(phase(), ConnectPhase::Tls);
        front.set_trusted(true);
        assert_eq!(ask(&front, url.as_str()).as_deref(), Ok("/token question"));
        server.shutdown();
        assert_eq!(phase(), ConnectPhase::Proxy);
    }
}
