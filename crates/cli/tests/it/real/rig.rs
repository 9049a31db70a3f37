//! Claude's and ChatGPT's servers on loopback, as far as Claude Code and Codex ask them (clients.md 2.5, 3.2): strict
//! authorization servers, and the APIs that their tokens are for. All the real hosts lead here, through a proxy.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use serde_json::Value;
use tokensink_authserver::{
    AccountConfig, AnswerConfig, AuthorizationServer, ErrorStyle, Issued, Ledger, ServerConfig, TokenFormat,
};
use tokensink_conformance::Front;
use tokensink_conformance::vendors::{self, CLAUDE_CLIENT, CODEX_CLIENT, CODEX_SCOPES};
pub(crate) use tokensink_conformance::vendors::{CLAUDE_SCOPES, Vendor};
use tokensink_host::http_server::{Handler, Reply, RequestLimits, Server};
use tokensink_host::{Host, Random};
use tokensink_types::{Body, UnixMillis};

/// Both clients send long lists of tools.
const BODY_MAX: usize = 16 << 20;

/// What becomes of a refresh token that comes a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It ends the login.
    Revokes,
    /// It is refused, and that is all.
    IsRefused,
    /// It gets the first answer again for a while.
    IsForgiven,
}

/// The while of [`Reuse::IsForgiven`].
const GRACE_SECONDS: u64 = 300;

/// Where the next token request stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has come, and nothing was done.
    BeforeHandling,
    /// It was handled, and nothing was answered.
    BeforeAnswer,
}

/// What stops.
#[derive(Debug, Default)]
struct Gate {
    next: Option<Stop>,
    waits: bool,
}

/// The servers.
struct Servers {
    anthropic: Mutex<AuthorizationServer>,
    openai: Mutex<AuthorizationServer>,
    gate: Mutex<Gate>,
    changed: Condvar,
    /// By how many milliseconds the servers' clock is ahead of the machine's.
    ahead: AtomicI64,
    /// What Claude was asked: the messages of each request, as JSON.
    prompts: Mutex<Vec<String>>,
    host: Host,
}

/// The running rig; gone when dropped.
pub(crate) struct Rig {
    servers: Arc<Servers>,
    front: Front,
    _server: Server,
}

impl Rig {
    /// Starts both.
    pub(crate) fn start(reuse: Reuse) -> Self {
        let account = AccountConfig::named("alice");
        let config = ServerConfig {
            accounts: vec![account],
            reuse_detection: reuse == Reuse::Revokes,
            replay_grace_seconds: if reuse == Reuse::IsForgiven {
                GRACE_SECONDS
            } else {
                0
            },
            ..ServerConfig::default()
        };
        let anthropic = ServerConfig {
            client_ids: vec![CLAUDE_CLIENT.to_owned()],
            token_format: TokenFormat::Opaque,
            answer: AnswerConfig {
                account: true,
                id_token: false,
                ..AnswerConfig::default()
            },
            ..config.clone()
        };
        let openai = ServerConfig {
            client_ids: vec![CODEX_CLIENT.to_owned()],
            error_style: ErrorStyle::Openai,
            answer: AnswerConfig {
                expires_in: false,
                ..AnswerConfig::default()
            },
            ..config
        };
        let new = |config, issuer| Mutex::new(AuthorizationServer::new(config, issuer).unwrap());
        let servers = Arc::new(Servers {
            anthropic: new(anthropic, "https://platform.claude.com"),
            openai: new(openai, "https://auth.openai.com"),
            gate: Mutex::default(),
            changed: Condvar::new(),
            ahead: AtomicI64::new(0),
            prompts: Mutex::default(),
            host: Host::real(),
        });
        let handler: Handler = {
            let servers = Arc::clone(&servers);
            Arc::new(move |request, _| Reply::Answer(servers.answer(&request)))
        };
        let limits = RequestLimits {
            body_bytes: BODY_MAX,
            ..RequestLimits::default()
        };
        let server = Server::start_with("127.0.0.1:0".parse().unwrap(), limits, handler).unwrap();
        Self {
            front: Front::start(&Host::real(), server.addr()).unwrap(),
            servers,
            _server: server,
        }
    }

    /// The proxy through which every host leads here.
    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    /// One of the authorization servers.
    pub(crate) fn server(&self, vendor: Vendor) -> MutexGuard<'_, AuthorizationServer> {
        self.servers.of(vendor)
    }

    /// Its books.
    pub(crate) fn ledger(&self, vendor: Vendor) -> Ledger {
        self.server(vendor).ledger().clone()
    }

    /// Makes the APIs refuse every access token that is out.
    pub(crate) fn invalidate_access_tokens(&self) {
        for vendor in [Vendor::Anthropic, Vendor::Openai] {
            self.server(vendor).invalidate_access_tokens();
        }
    }

    /// A new login of alice whose access token ends so many seconds from the servers' now; it may lie in the past.
    pub(crate) fn issue(&self, vendor: Vendor, seconds: i64) -> Issued {
        let (client, scopes): (_, &[&str]) = match vendor {
            Vendor::Anthropic => (CLAUDE_CLIENT, &CLAUDE_SCOPES),
            Vendor::Openai => (CODEX_CLIENT, &CODEX_SCOPES),
        };
        let mut server = self.server(vendor);
        let life = i64::try_from(server.config().access_token_seconds).unwrap();
        let issued_at = UnixMillis(self.servers.now().0 + (seconds - life) * 1000);
        server
            .issue("alice", client, scopes, issued_at, &*self.servers.host.random)
            .unwrap()
    }

    /// Stops the next token request.
    pub(crate) fn stop_the_next(&self, at: Stop) {
        self.servers.gate.lock().unwrap().next = Some(at);
    }

    /// Whether the request that is to be stopped has come.
    pub(crate) fn has_stopped(&self) -> bool {
        self.servers.gate.lock().unwrap().waits
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        *self.servers.gate.lock().unwrap() = Gate::default();
        self.servers.changed.notify_all();
    }

    /// Moves the servers' clock on.
    pub(crate) fn advance(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.servers.ahead.fetch_add(millis, Ordering::Relaxed);
    }

    /// What Claude was asked so far: the messages of each request, as JSON.
    pub(crate) fn prompts(&self) -> Vec<String> {
        self.servers.prompts.lock().unwrap().clone()
    }

    /// The servers' time.
    pub(crate) fn now(&self) -> UnixMillis {
        self.servers.now()
    }

    /// By how many seconds the servers' clock is ahead.
    pub(crate) fn ahead_seconds(&self) -> i64 {
        self.servers.ahead.load(Ordering::Relaxed) / 1000
    }
}

impl Servers {
    fn of(&self, vendor: Vendor) -> MutexGuard<'_, AuthorizationServer> {
        let server = match vendor {
            Vendor::Anthropic => &self.anthropic,
            Vendor::Openai => &self.openai,
        };
        server.lock().unwrap()
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.host.clock.now().0 + self.ahead.load(Ordering::Relaxed))
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let vendor = match path {
            "/v1/oauth/token" | "/v1/oauth/token/revoke" => Some(Vendor::Anthropic),
            "/oauth/token" | "/oauth/revoke" => Some(Vendor::Openai),
            _ => None,
        };
        let random: &dyn Random = &*self.host.random;
        if let Some(vendor) = vendor {
            self.stop(Stop::BeforeHandling);
            let response = self.of(vendor).handle(request, self.now(), random).response;
            self.stop(Stop::BeforeAnswer);
            return response;
        }
        self.api(request, path)
    }

    /// Waits here, if it is here that a request is to be stopped.
    fn stop(&self, at: Stop) {
        let mut gate = self.gate.lock().unwrap();
        if gate.next == Some(at) {
            *gate = Gate {
                next: None,
                waits: true,
            };
            drop(self.changed.wait_while(gate, |gate| gate.waits).unwrap());
        }
    }

    fn api(&self, request: &Request<Body>, path: &str) -> Response<Body> {
        if let Some(vendor) = Vendor::of(path)
            && !self.is_live(vendor, request)
        {
            return vendor.refusal();
        }
        let (method, body) = (request.method().as_str(), request.body().expose());
        if (method, path) == ("POST", "/v1/messages") {
            let asked: Value = serde_json::from_slice(body).unwrap_or_default();
            self.prompts.lock().unwrap().push(asked["messages"].to_string());
        }
        vendors::served(method, path, body)
    }

    /// Whether the server takes the access token of a request.
    fn is_live(&self, vendor: Vendor, request: &Request<Body>) -> bool {
        let mut question = Request::get("/v1/models").body(Body::default()).unwrap();
        if let Some(value) = request.headers().get("authorization") {
            question.headers_mut().insert("authorization", value.clone());
        }
        let answer = self.of(vendor).handle(&question, self.now(), &*self.host.random);
        answer.response.status() == StatusCode::OK
    }
}
