//! Connecting: name, TCP, proxy, TLS; up to the first byte of the request, and no further.
//!
//! [`Dialer`] is what the one-shot transport and the gateway's pool have in common. It is asynchronous, because both
//! stand on an event loop; whoever wants a blocking call takes [`super::HttpTransport`]. Everything that fails here
//! fails before anything was sent. The stream counts the bytes that the kernel took ([`Dialed::written`]): whether a
//! failed exchange can have reached the server is decided by that number and not by a library's error text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use url::{Host as UrlHost, Url};

use super::joined::poll_write_parts;
use super::proxy::{self, Proxy, route};
use super::tls;
use crate::deadline::Deadline;
use crate::{ConnectError, ConnectPhase, Environment};

/// What to allow for a connection when nothing else is known: long enough for a slow proxy, short enough for a
/// caller who waits.
pub const CONNECT_TIME: Duration = Duration::from_secs(20);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// A byte stream to a server: TCP, or TLS over it.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// A [`ByteStream`] of any kind.
pub type Stream = Box<dyn ByteStream>;

/// Where connections go, and through which proxy. Two that are equal may share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    target: Target,
    proxy: Option<Proxy>,
}

impl Destination {
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What the Host header of a request says (RFC 9110 section 7.2): the port is left out where it is the scheme's.
    #[must_use]
    pub fn host_header(&self) -> String {
        let authority = self.target.authority();
        let default_port = if self.target.https { ":443" } else { ":80" };
        authority
            .strip_suffix(default_port)
            .map_or_else(|| authority.clone(), str::to_owned)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.target.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host_header())
    }
}

/// A connection that was made.
pub struct Dialed {
    /// The stream.
    pub stream: Stream,
    /// How many bytes the kernel took so far, those of the handshakes among them.
    pub written: Arc<AtomicU64>,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// Makes connections.
pub struct Dialer {
    env: Arc<dyn Environment>,
    extra_ca: Vec<PathBuf>,
    /// Loaded at the first https connection: reading all roots costs milliseconds that most commands need not pay.
    tls: Mutex<Option<Arc<ClientConfig>>>,
}

impl Dialer {
    /// Proxies and certificate files are taken from `env` (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` in either case,
    /// `SSL_CERT_FILE`, `SSL_CERT_DIR`, `NODE_EXTRA_CA_CERTS`); the certificates in the PEM files `extra_ca` are
    /// trusted besides (`[network] extra_ca` in tokensink/config.toml).
    #[must_use]
    pub fn new(env: Arc<dyn Environment>, extra_ca: Vec<PathBuf>) -> Self {
        Self {
            env,
            extra_ca,
            tls: Mutex::new(None),
        }
    }

    /// Where a connection for `url` goes.
    ///
    /// # Errors
    /// For another scheme than http and https, for plain http to a host that is not this machine, and for a proxy
    /// setting that cannot be used.
    pub fn destination(&self, url: &Url) -> Result<Destination, ConnectError> {
        self.to(url)
            .map_err(|failure| failure.into_error(url.origin().ascii_serialization()))
    }

    fn to(&self, url: &Url) -> Result<Destination, Failure> {
        let target = Target::of(url)?;
        if !target.https && !target.is_loopback {
            return Err(Failure::new(
                ConnectPhase::Tcp,
                "plain http is refused for a host that is not this machine: tokens would cross the network in the clear",
            )
            .hint("use an https:// address"));
        }
        let proxy = route(&*self.env, &target)?;
        Ok(Destination { target, proxy })
    }

    /// Connects within `time`. Must be called on an event loop with timers.
    ///
    /// # Errors
    /// With the phase that failed; nothing of a request was sent.
    pub async fn dial(&self, to: &Destination, time: Duration) -> Result<Dialed, ConnectError> {
        let dialing = async {
            let needs_tls = to.target.https || to.proxy.as_ref().is_some_and(|proxy| proxy.https);
            let tls = needs_tls.then(|| self.tls()).transpose()?;
            let progress = Progress {
                phase: Mutex::new(ConnectPhase::Dns),
                deadline: Deadline::after(time),
            };
            let proxy = to.proxy.as_ref();
            tokio::time::timeout(time, connect(&to.target, proxy, tls, &progress))
                .await
                .unwrap_or_else(|_| Err(timed_out(progress.phase(), time, proxy)))
        };
        let (stream, written) = dialing
            .await
            .map_err(|failure: Failure| failure.into_error(to.to_string()))?;
        Ok(Dialed { stream, written })
    }

    /// The TLS settings; a failure is not remembered, so that a corrected file helps at once.
    fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*tls {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(tls::config(&*self.env, &self.extra_ca)?);
        *tls = Some(Arc::clone(&config));
        Ok(config)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("extra_ca", &self.extra_ca)
            .finish_non_exhaustive()
    }
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) https: bool,
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_loopback: bool,
}

impl Target {
    pub(super) fn of(url: &Url) -> Result<Self, Failure> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => {
                return Err(Failure::new(ConnectPhase::Dns, format!("{other}:// is not HTTP"))
                    .hint("use an https:// address"));
            }
        };
        let (host, is_loopback) = match url.host() {
            Some(UrlHost::Domain(name)) => (name.to_owned(), name.eq_ignore_ascii_case("localhost")),
            Some(UrlHost::Ipv4(ip)) => (ip.to_string(), ip.is_loopback()),
            Some(UrlHost::Ipv6(ip)) => (ip.to_string(), ip.is_loopback()),
            None => return Err(Failure::new(ConnectPhase::Dns, "the address names no host")),
        };
        Ok(Self {
            https,
            host,
            port: url
                .port_or_known_default()
                .unwrap_or(if https { 443 } else { 80 }),
            is_loopback,
        })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub(super) fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// A [`ConnectError`] that does not know its origin yet.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) phase: ConnectPhase,
    pub(super) cause: String,
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn new(phase: ConnectPhase, cause: impl Into<String>) -> Self {
        Self {
            phase,
            cause: cause.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn into_error(self, origin: String) -> ConnectError {
        ConnectError {
            origin,
            phase: self.phase,
            cause: self.cause,
            hint: self.hint,
        }
    }
}

/// How far the connection came, for the message when time runs out.
struct Progress {
    phase: Mutex<ConnectPhase>,
    deadline: Deadline,
}

impl Progress {
    fn enter(&self, phase: ConnectPhase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    fn phase(&self) -> ConnectPhase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(
    target: &Target,
    proxy: Option<&Proxy>,
    tls: Option<Arc<ClientConfig>>,
    progress: &Progress,
) -> Result<(Stream, Arc<AtomicU64>), Failure> {
    let (host, port) = proxy.map_or((&*target.host, target.port), |proxy| (&*proxy.host, proxy.port));
    let only_loopback = proxy.is_none() && target.is_loopback;
    let addresses = look_up(host, port, only_loopback, proxy).await?;
    progress.enter(ConnectPhase::Tcp);
    let tcp = connect_any(&addresses, progress.deadline, proxy).await?;
    let written = Arc::new(AtomicU64::new(0));
    let mut stream: Stream = Box::new(Counted {
        inner: tcp,
        written: Arc::clone(&written),
    });
    if let Some(proxy) = proxy {
        progress.enter(ConnectPhase::Proxy);
        if let (true, Some(config)) = (proxy.https, &tls) {
            stream = tls::handshake(config, &proxy.host, stream)
                .await
                .map_err(|failure| proxy.explain(&failure))?;
        }
        stream = proxy::tunnel(stream, proxy, target).await?;
    }
    if let (true, Some(config)) = (target.https, &tls) {
        progress.enter(ConnectPhase::Tls);
        stream = tls::handshake(config, &target.host, stream).await?;
    }
    Ok((stream, written))
}

async fn look_up(
    host: &str,
    port: u16,
    only_loopback: bool,
    proxy: Option<&Proxy>,
) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let failed = |cause: String| {
        let failure = Failure::new(ConnectPhase::Dns, cause).hint(
            "check the network and the name; if this machine reaches the internet through a proxy, \
             set HTTPS_PROXY=http://proxy:port",
        );
        match proxy {
            Some(proxy) => proxy.explain(&failure),
            None => failure,
        }
    };
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| failed(format!("the name {host} could not be looked up: {error}")))?;
    let mut addresses: Vec<_> = found
        .filter(|address| !only_loopback || address.ip().is_loopback())
        .collect();
    addresses.dedup();
    addresses.truncate(MAX_ADDRESSES);
    if addresses.is_empty() {
        return Err(failed(format!("the name {host} has no usable address")));
    }
    Ok(addresses)
}

/// Tries the addresses in turn. Each gets an equal share of the time that is left, so that one that swallows packets
/// leaves time for the others.
async fn connect_any(
    addresses: &[SocketAddr],
    deadline: Deadline,
    proxy: Option<&Proxy>,
) -> Result<TcpStream, Failure> {
    let mut causes = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.left().unwrap_or(CONNECT_TIME) / others;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a small request can wait for the acknowledgement of the handshake; with it, all works.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => causes.push(format!("{address}: {error}")),
            Err(_) => causes.push(format!("{address}: no answer")),
        }
    }
    let failure = Failure::new(ConnectPhase::Tcp, causes.join("; "));
    Err(match proxy {
        Some(proxy) => proxy.explain(&failure),
        None => failure,
    })
}

fn timed_out(phase: ConnectPhase, time: Duration, proxy: Option<&Proxy>) -> Failure {
    let what = match phase {
        ConnectPhase::Dns => "the name lookup",
        ConnectPhase::Tcp => "connecting",
        ConnectPhase::Proxy => "the proxy's CONNECT",
        ConnectPhase::Tls => "the TLS handshake",
    };
    let cause = format!("{what} took longer than {:.1} s", time.as_secs_f64());
    let failure = Failure::new(phase, cause);
    match proxy {
        Some(proxy) => proxy.explain(&failure),
        None => failure.hint(
            "check the network; if this machine reaches the internet through a proxy, set HTTPS_PROXY=http://proxy:port",
        ),
    }
}

/// Counts the bytes that the kernel took. It stands below TLS, where "written" means "may be on the wire".
struct Counted {
    inner: TcpStream,
    written: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self, result: &Poll<std::io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = result {
            let n = u64::try_from(*n).unwrap_or(u64::MAX);
            self.written.fetch_add(n, Ordering::SeqCst);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.count(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let result = poll_write_parts(Pin::new(&mut self.inner), context, bytes);
        self.count(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
