//! A sink in this process on a disk in memory, whose requests go over the real transport and real sockets: through a
//! cutting proxy to a strict authorization server, or astray. Both share one clock, which is moved.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::CertifiedKey;
use rustls::ServerConnection;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokensink_authserver::{Running, ServerConfig};
use tokensink_host::{ConnectError, ConnectPhase, Connection, Host, HttpTransport, Transport};
use tokensink_sink::{AcquireRequest, AgentId, Flights, Lease, Sink, Want};
use tokensink_testkit::{CuttingProxy, TestHost, loopback};
use url::Url;

const STATE: &str = "/home/user/.openclaw";
const PROFILE: &str = "rig:alice@example.com";
/// Life of an access token.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A machine, a server and the wire between them.
pub(crate) struct Wire {
    pub(crate) test: TestHost,
    pub(crate) server: Running,
    pub(crate) proxy: CuttingProxy,
    detour: Arc<Detour>,
    /// The process that asks, and how often it has.
    process: Mutex<Option<(Sink, u32)>>,
}

/// So often does one process ask before another one takes its place: to begin one reads and parses a lot.
const CALLS: u32 = 8;

/// The real transport, whose connections can be led elsewhere before they are made.
#[derive(Debug)]
struct Detour {
    real: HttpTransport,
    to: Mutex<Option<Url>>,
    failed: Mutex<Vec<ConnectPhase>>,
}

impl Transport for Detour {
    fn connect(&self, url: &Url, deadline: Duration) -> Result<Box<dyn Connection>, ConnectError> {
        let to = self.to.lock().unwrap().clone();
        let result = self.real.connect(to.as_ref().unwrap_or(url), deadline);
        if let Err(error) = &result {
            self.failed.lock().unwrap().push(error.phase);
        }
        result
    }
}

impl Wire {
    /// A server of this kind, and a home that is logged in there as alice for an hour.
    pub(crate) fn logged_in(config: ServerConfig) -> Self {
        let test = TestHost::new();
        let server = Running::start(config, Arc::new(test.clock.clone()), Host::real().random).unwrap();
        let proxy = CuttingProxy::start(addr(server.base_url()));
        let definition = server.provider_toml("rig").replace(
            &server.url("/oauth/token"),
            &format!("http://{}/oauth/token", proxy.addr()),
        );
        let place = format!("{STATE}/tokensink/providers/rig.toml");
        test.files.put(place, definition, 0o600);
        let real = HttpTransport::new(Arc::new(test.env.clone()), Vec::new());
        let detour = Arc::new(Detour {
            real,
            to: Mutex::default(),
            failed: Mutex::default(),
        });
        let wire = Self {
            test,
            server,
            proxy,
            detour,
            process: Mutex::default(),
        };
        wire.log_in();
        wire
    }

    /// Another login of alice in the place of the one that is stored.
    pub(crate) fn log_in(&self) {
        let issued = self
            .server
            .issue("alice", &["openid", "email", "offline_access"])
            .unwrap();
        let entry = json!({
            "type": "oauth",
            "provider": "rig",
            "email": "alice@example.com",
            "accountId": "acct-alice",
            "access": issued.access_token.expose(),
            "refresh": issued.refresh_token.unwrap().expose(),
            "expires": issued.expires_at.0,
        });
        let store = json!({"version": 1, "profiles": {PROFILE: entry}}).to_string();
        self.test.files.put(store_path(), store, 0o600);
    }

    /// Leads every coming connection to `url` instead of the token endpoint; `None` ends it.
    pub(crate) fn lead_to(&self, url: Option<&str>) {
        *self.detour.to.lock().unwrap() = url.map(|url| Url::parse(url).unwrap());
    }

    /// The phases in which connections have failed so far.
    pub(crate) fn failed_connections(&self) -> Vec<ConnectPhase> {
        self.detour.failed.lock().unwrap().clone()
    }

    /// A token for a caller with this patience. Every few calls another process asks.
    pub(crate) fn acquire(&self, wait: Duration) -> tokensink_sink::Result<Lease> {
        let mut process = self.process.lock().unwrap();
        let (sink, calls) = process.take().unwrap_or_else(|| (self.sink(), 0));
        let result = sink.acquire(&AcquireRequest {
            wait,
            ..AcquireRequest::new(AgentId::main(), Want::Provider("rig".to_owned()))
        });
        *process = Some((sink, calls + 1)).filter(|(_, calls)| *calls < CALLS);
        result
    }

    fn sink(&self) -> Sink {
        let host = Host {
            transport: Arc::clone(&self.detour) as Arc<dyn Transport>,
            ..self.test.host()
        };
        Sink::open_with(host, Flights::inline()).unwrap()
    }

    /// The stored login.
    pub(crate) fn stored(&self) -> Value {
        let store: Value = serde_json::from_str(&self.test.files.text(store_path())).unwrap();
        store["profiles"][PROFILE].clone()
    }

    /// Whether the server's API takes the lease's token.
    pub(crate) fn is_live(&self, lease: &Lease) -> bool {
        let bearer = format!("Bearer {}", lease.secret.expose());
        let headers = [("authorization", bearer.as_str())];
        loopback::send("GET", &self.server.url("/v1/models"), &headers, "").status == 200
    }
}

fn store_path() -> String {
    format!("{STATE}/agents/main/agent/auth-profiles.json")
}

fn addr(url: &Url) -> SocketAddr {
    url.socket_addrs(|| None).unwrap()[0]
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A TLS server for `localhost` whose certificate nobody has signed that is known here. Its thread ends with the process.
pub(crate) fn stranger() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // The client breaks it off, as it should.
            let _refused = connection.complete_io(&mut client);
        }
    });
    addr
}
