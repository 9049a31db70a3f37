//! Every host of the internet on one loopback server: a CONNECT proxy that ends TLS itself, with certificates of its
//! own authority, and hands each request to a plain server. For programs whose endpoints cannot be moved.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

/// A client that opens a connection and asks nothing keeps a thread for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The proxy. Its threads end with the process; nothing waits for them.
pub(crate) struct TlsFront {
    addr: SocketAddr,
    dir: TempDir,
    connects: Arc<Mutex<Vec<String>>>,
}

impl TlsFront {
    /// Starts a proxy all of whose hosts are the plain HTTP server at `to`.
    pub(crate) fn start(to: SocketAddr) -> Self {
        let authority = Arc::new(authority());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        let connects = Arc::new(Mutex::new(Vec::new()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let noted = Arc::clone(&connects);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (authority, noted) = (Arc::clone(&authority), Arc::clone(&noted));
                // A client may leave at any moment; what that means is its own business.
                thread::spawn(move || client.and_then(|client| serve(client, to, &authority, &noted)));
            }
        });
        Self { addr, dir, connects }
    }

    /// The proxy's URL, for `HTTPS_PROXY`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The certificate of its authority, in PEM.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The variables by which Node programs and we find it.
    pub(crate) fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("HTTPS_PROXY", self.url()),
            ("NODE_EXTRA_CA_CERTS", self.ca().display().to_string()),
            ("NODE_USE_ENV_PROXY", "1".to_owned()),
        ]
    }

    /// The hosts that were asked for, `name:port`, in order.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.connects.lock().unwrap().clone()
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of a test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server's settings for `name`.
fn settings(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    let certificate = params.signed_by(&key, authority).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

fn serve(
    mut client: TcpStream,
    to: SocketAddr,
    authority: &CertifiedIssuer<'static, KeyPair>,
    noted: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let head = String::from_utf8_lossy(&read_head(&mut client)?).into_owned();
    let Some(host) = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next())
    else {
        return client.write_all(b"HTTP/1.1 405 Only CONNECT\r\ncontent-length: 0\r\n\r\n");
    };
    noted.lock().unwrap().push(host.to_owned());
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let connection = ServerConnection::new(settings(authority, name)).unwrap();
    let mut stream = StreamOwned::new(connection, client);
    let request = read_request(&mut stream)?;
    // The plain server answers one request per connection and closes it, and so do we.
    let mut server = TcpStream::connect(to)?;
    server.write_all(&request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    stream.write_all(&answer)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Reads up to the empty line.
fn read_head(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.push(byte[0]);
    }
    Ok(bytes)
}

/// Reads a request as it comes: its head, and a body whose length the head gives or that comes in chunks.
fn read_request(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = read_head(stream)?;
    let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    if let Some(length) = field("content-length:") {
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body)?;
        bytes.extend(body);
    } else if field("transfer-encoding:").is_some() {
        while !bytes.ends_with(b"\r\n0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
    }
    Ok(bytes)
}
