//! The world of one scenario: the authorization server and the API on one loopback port, and what can go wrong between
//! them and a program.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use tokensink_authserver::{Endpoint, Fault, Faults, Ledger, Running, ServerConfig};
use tokensink_host::Host;
use tokensink_host::http_server::{Handler, Reply, RequestLimits, Server};
use tokensink_types::{Body, Secret};

use crate::api;
use crate::client::{Client, Reach, Tokens};
use crate::clock::ServerClock;
use crate::front::Front;
use crate::home::Endpoints;

/// The account that every login is of.
pub(crate) const ACCOUNT: &str = "alice";
/// Somebody else.
pub(crate) const STRANGER: &str = "bob";
/// Life of an access token in seconds.
pub(crate) const LIFE_SECONDS: i64 = 3600;
/// The path where nobody should send a token.
pub(crate) const TRAP: &str = "/trap/token";
/// How often it is tried to listen where we did before, and how long is waited in between.
const RETURN_TRIES: u32 = 50;
const RETURN_PAUSE: Duration = Duration::from_millis(100);
/// Programs send long lists of tools.
const BODY_MAX: usize = 16 << 20;

/// The kit itself could not do its part; no program is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble(pub(crate) String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// One request to the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiCall {
    /// Fingerprint of the access token that it came with.
    pub(crate) key: Option<String>,
    /// Whose token it was, if it lived.
    pub(crate) account: Option<String>,
}

/// Servers that answer until they are dropped.
#[derive(Debug)]
pub(crate) struct World {
    site: Arc<Site>,
    clock: ServerClock,
    addr: SocketAddr,
    /// For programs whose endpoints are fixed.
    front: Option<Front>,
    /// Gone while nobody listens.
    server: Mutex<Option<Server>>,
    client_id: String,
    scopes: Vec<String>,
}

/// What every request meets.
#[derive(Debug)]
struct Site {
    authority: Running,
    /// The API takes nothing, whatever it is shown.
    refuses: AtomicBool,
    calls: Mutex<Vec<ApiCall>>,
    trapped: Mutex<Vec<String>>,
    gate: Mutex<Gate>,
    changed: Condvar,
}

/// Where a token request is stopped before the server sees it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// The next one is stopped.
    Set,
    /// One stands there.
    Occupied,
}

impl World {
    /// Starts the servers for `client`; `adjust` says in what they differ from the strictest.
    pub(crate) fn start(
        host: &Host,
        client: &dyn Client,
        adjust: impl FnOnce(&mut ServerConfig),
    ) -> Result<Self, Trouble> {
        let dialect = client.dialect();
        let mut config = dialect.server();
        config.access_token_seconds = LIFE_SECONDS.unsigned_abs();
        adjust(&mut config);
        let clock = ServerClock::new(Arc::clone(&host.clock));
        let authority = Running::start(config, Arc::new(clock.clone()), Arc::clone(&host.random))
            .map_err(|error| Trouble(error.to_string()))?;
        let site = Arc::new(Site {
            authority,
            refuses: AtomicBool::default(),
            calls: Mutex::default(),
            trapped: Mutex::default(),
            gate: Mutex::default(),
            changed: Condvar::new(),
        });
        let server = listen(&site, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))?;
        let front = match client.reach() {
            Reach::Direct => None,
            Reach::Proxy => Some(Front::start(host, server.addr())?),
        };
        Ok(Self {
            addr: server.addr(),
            front,
            server: Mutex::new(Some(server)),
            site,
            clock,
            client_id: dialect.client_id,
            scopes: dialect.scopes,
        })
    }

    /// Where a program finds the servers.
    pub(crate) fn endpoints(&self) -> Endpoints {
        Endpoints {
            token: format!("http://{}/oauth/token", self.addr),
            api: format!("http://{}/v1", self.addr),
            proxy: self.front.as_ref().map(Front::url),
            ca: self.front.as_ref().map(|front| front.ca().to_owned()),
        }
    }

    /// A URL of ours that is no token endpoint, under another host name.
    pub(crate) fn trap_url(&self) -> String {
        format!("http://localhost:{}{TRAP}", self.addr.port())
    }

    /// What was sent to [`World::trap_url`].
    pub(crate) fn trapped(&self) -> Vec<String> {
        locked(&self.site.trapped).clone()
    }

    /// Moves the servers' clock to so many milliseconds ahead of the machine's.
    pub(crate) fn set_ahead(&self, millis: i64) {
        self.clock.set_ahead(millis);
    }

    /// A new login of [`ACCOUNT`] whose access token lives for so many seconds from the servers' now; a negative number
    /// is a token that ran out so long ago.
    pub(crate) fn issue(&self, seconds: i64) -> Result<Tokens, Trouble> {
        let ahead = self.clock.ahead();
        // What has run out was issued in the past, and what lives long in the future.
        self.clock
            .set_ahead(ahead.saturating_add((seconds - LIFE_SECONDS) * 1000));
        let issued_at = tokensink_host::Clock::now(&self.clock);
        let scopes: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        let issued = self.site.authority.issue(ACCOUNT, &scopes);
        self.clock.set_ahead(ahead);
        let issued = issued.map_err(Trouble)?;
        Ok(Tokens {
            access: issued.access_token,
            refresh: issued
                .refresh_token
                .ok_or_else(|| Trouble("the server issued no refresh token".to_owned()))?,
            id: issued.id_token,
            issued_at,
            expires_at: issued.expires_at,
            account: ACCOUNT.to_owned(),
            scopes: self.scopes.clone(),
            client_id: self.client_id.clone(),
        })
    }

    /// Whether the server takes this refresh token; it is spent then.
    pub(crate) fn takes(&self, refresh: &Secret) -> Result<bool, Trouble> {
        Ok(self.refresh(refresh)?.status() == StatusCode::OK)
    }

    fn refresh(&self, refresh: &Secret) -> Result<Response<Body>, Trouble> {
        let body = format!(
            "grant_type=refresh_token&client_id={}&refresh_token={}",
            self.client_id,
            refresh.expose()
        );
        let request = Request::post("/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::new(body))
            .map_err(|error| Trouble(format!("the kit's own refresh failed: {error}")))?;
        match self.site.authority.answer(&request) {
            Reply::Answer(answer) => Ok(answer),
            _ => Err(Trouble("the kit's own refresh got no answer".to_owned())),
        }
    }

    /// Another program spends a refresh token in time and gets the next generation.
    pub(crate) fn spend(&self, tokens: &Tokens) -> Result<Tokens, Trouble> {
        let answer = self.refresh(&tokens.refresh)?;
        let trouble = |what: &dyn fmt::Display| Trouble(format!("the kit's own refresh failed: {what}"));
        let issued: serde_json::Value =
            serde_json::from_slice(answer.body().expose()).map_err(|error| trouble(&error))?;
        let text = |name: &str| issued[name].as_str().map(Secret::new);
        let now = tokensink_host::Clock::now(&self.clock);
        Ok(Tokens {
            access: text("access_token").ok_or_else(|| trouble(&answer.status()))?,
            refresh: text("refresh_token").ok_or_else(|| trouble(&"no refresh token"))?,
            id: text("id_token"),
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(LIFE_SECONDS.unsigned_abs())),
            ..tokens.clone()
        })
    }

    /// The authorization server's books.
    pub(crate) fn ledger(&self) -> Ledger {
        self.site.authority.ledger()
    }

    /// The authorization server's script.
    pub(crate) fn faults(&self) -> Faults {
        self.site.authority.faults()
    }

    /// A fault for the coming refreshes.
    pub(crate) fn fault(&self, fault: Fault) {
        self.faults().push(fault);
    }

    /// Ends every login.
    pub(crate) fn revoke(&self) {
        let _ended = self.site.authority.revoke_account(ACCOUNT);
    }

    /// The API forgets every access token that is out; refresh tokens stay good.
    pub(crate) fn forget_access_tokens(&self) {
        self.site.authority.invalidate_access_tokens();
    }

    /// The API refuses everything from now on.
    pub(crate) fn refuse_all(&self) {
        self.site.refuses.store(true, Ordering::SeqCst);
    }

    /// Whose access token this is, if the server takes it now.
    pub(crate) fn account_of(&self, token: &Secret) -> Option<String> {
        self.site.account_of(token.expose())
    }

    /// The requests to the API so far.
    pub(crate) fn calls(&self) -> Vec<ApiCall> {
        locked(&self.site.calls).clone()
    }

    /// Nobody listens any more: connections are refused.
    pub(crate) fn hang_up(&self) {
        drop(locked(&self.server).take());
    }

    /// Listens again where it did before.
    pub(crate) fn come_back(&self) -> Result<(), Trouble> {
        // Somebody's outgoing connection may have our port for a moment.
        let mut tries = RETURN_TRIES;
        let server = loop {
            tries -= 1;
            match listen(&self.site, self.addr) {
                Err(_) if tries > 0 => tokensink_host::Clock::sleep(&self.clock, RETURN_PAUSE),
                done => break done?,
            }
        };
        *locked(&self.server) = Some(server);
        Ok(())
    }

    /// Whether the proxy, where there is one, shows certificates that its programs trust.
    pub(crate) fn set_trusted(&self, trusted: bool) {
        if let Some(front) = &self.front {
            front.set_trusted(trusted);
        }
    }

    /// Stops the next token request before the server sees it.
    pub(crate) fn stop_the_next(&self) {
        *locked(&self.site.gate) = Gate::Set;
    }

    /// Whether a token request stands where it was stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        *locked(&self.site.gate) == Gate::Occupied
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        *locked(&self.site.gate) = Gate::Open;
        self.site.changed.notify_all();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The server waits for its handlers, and those for us.
        self.faults().clear();
        self.go_on();
        self.faults().release();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere is told where it happened.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(site: &Arc<Site>, addr: SocketAddr) -> Result<Server, Trouble> {
    let handler: Handler = {
        let site = Arc::clone(site);
        Arc::new(move |request, _| site.serve(&request))
    };
    let limits = RequestLimits {
        body_bytes: BODY_MAX,
        ..RequestLimits::default()
    };
    Server::start_with(addr, limits, handler)
        .map_err(|error| Trouble(format!("cannot listen on {addr}: {error}")))
}

impl Site {
    fn serve(&self, request: &Request<Body>) -> Reply {
        let path = request.uri().path();
        if path == TRAP {
            locked(&self.trapped).push(String::from_utf8_lossy(request.body().expose()).into_owned());
            return Reply::Answer(Response::new(Body::default()));
        }
        if api::serves(path) {
            return Reply::Answer(self.api(request));
        }
        if Endpoint::of(path) == Endpoint::Token {
            self.stop();
        }
        self.authority.answer(request)
    }

    /// Waits here, if it is here that a request is to be stopped.
    fn stop(&self) {
        let mut gate = locked(&self.gate);
        if *gate == Gate::Set {
            *gate = Gate::Occupied;
            drop(
                self.changed
                    .wait_while(gate, |gate| *gate == Gate::Occupied)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }

    fn api(&self, request: &Request<Body>) -> Response<Body> {
        let token = bearer(request.headers());
        let account = token
            .filter(|_| !self.refuses.load(Ordering::SeqCst))
            .and_then(|token| self.account_of(token));
        let call = ApiCall {
            key: token.map(|token| tokensink_authserver::fingerprint(&Secret::new(token))),
            account: account.clone(),
        };
        locked(&self.calls).push(call);
        match account {
            Some(_) => api::answer(request),
            None => api::refusal(request.uri().path()),
        }
    }

    /// Whose access token this is, if the server takes it now.
    fn account_of(&self, token: &str) -> Option<String> {
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        let question = Request::get("/v1/models")
            .header(AUTHORIZATION, bearer)
            .body(Body::default())
            .ok()?;
        let Reply::Answer(answer) = self.authority.answer(&question) else {
            return None;
        };
        let account = answer.headers().get("x-account")?.to_str().ok()?.to_owned();
        (answer.status() == StatusCode::OK).then_some(account)
    }
}

/// The access token of a request, as a bearer token or in `x-api-key`: some programs tell one from an API key by its
/// first letters.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
