//! The server on a loopback socket: a thin actor around [`AuthorizationServer`]. All it adds is a lock, a clock, and
//! a place where held answers wait; which answer is cut or held, the state machine has decided.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response};
use serde_json::json;
use thiserror::Error;
use tokensink_host::http_server::{Handler, Reply, Server};
use tokensink_host::{Clock, Random};
use tokensink_types::Body;
use url::Url;

use crate::config::{ConfigError, LoginAnswer, ServerConfig};
use crate::faults::Fault;
use crate::ledger::Ledger;
use crate::provider::provider_toml;
use crate::server::{AuthorizationServer, Delivery, Issued, ServerAnswer};

/// Why a server did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be served.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket could not be opened.
    #[error("cannot listen on {listen}: {source}; give another port in `listen`, or port 0 for a free one")]
    Listen {
        /// The address that was wanted.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The base URL that the socket gave is none.
    #[error("{0:?} is not a base URL")]
    BaseUrl(String),
}

/// A server that answers on a loopback socket until it is shut down or dropped.
#[derive(Debug)]
pub struct Running {
    base_url: Url,
    shared: Arc<Shared>,
    /// Gone once shut down.
    server: Option<Server>,
}

/// The script of faults of a running server; clones steer the same server.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    core: Mutex<AuthorizationServer>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    held: Mutex<Held>,
    changed: Condvar,
}

/// The answers that wait for their release.
#[derive(Debug, Default)]
struct Held {
    waiting: usize,
    /// Counts releases; an answer goes out when the count has moved on since it came.
    releases: u64,
    closed: bool,
}

impl Running {
    /// Opens the socket and serves.
    ///
    /// # Errors
    /// When the configuration cannot be served or the address cannot be listened on.
    pub fn start(
        config: ServerConfig,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let listen = config.listen;
        let shared = Arc::new(Shared {
            core: Mutex::new(AuthorizationServer::new(config, "")?),
            clock,
            random,
            held: Mutex::default(),
            changed: Condvar::new(),
        });
        // Nobody is answered before the issuer is set.
        let mut core = shared.core();
        let handler: Handler = {
            let shared = Arc::clone(&shared);
            Arc::new(move |request, _| shared.serve(&request))
        };
        let server =
            Server::start(listen, handler).map_err(|source| StartError::Listen { listen, source })?;
        let issuer = format!("http://{}", server.addr());
        let base_url = Url::parse(&issuer).map_err(|_| StartError::BaseUrl(issuer.clone()))?;
        core.set_issuer(issuer);
        drop(core);
        Ok(Self {
            base_url,
            shared,
            server: Some(server),
        })
    }

    /// Where it answers, for example `http://127.0.0.1:41234/`.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// The URL of `path` (with a slash in front) at this server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url.as_str().trim_end_matches('/'))
    }

    /// Answers a request that came by another way than this server's socket, for example through a server that also
    /// serves an API. Waits where the script holds the answer back.
    #[must_use]
    pub fn answer(&self, request: &Request<Body>) -> Reply {
        self.shared.serve(request)
    }

    /// The books as they are now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.shared.core().ledger().clone()
    }

    /// The script of faults.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults(Arc::clone(&self.shared))
    }

    /// Starts a family without a login ([`AuthorizationServer::issue`]) for the first configured client.
    ///
    /// # Errors
    /// A sentence that says why not: no such account, or no randomness.
    pub fn issue(&self, account: &str, scopes: &[&str]) -> Result<Issued, String> {
        let mut core = self.shared.core();
        let client_id = core
            .config()
            .client_ids
            .first()
            .map_or_else(|| "rig".to_owned(), Clone::clone);
        core.issue(
            account,
            &client_id,
            scopes,
            self.shared.clock.now(),
            &*self.shared.random,
        )
    }

    /// Says how a coming authorization request is answered ([`AuthorizationServer::push_login`]).
    pub fn push_login(&self, login: LoginAnswer) {
        self.shared.core().push_login(login);
    }

    /// Approves a waiting device ([`AuthorizationServer::approve_device`]).
    #[must_use]
    pub fn approve_device(&self, user_code: &str, account: Option<&str>) -> bool {
        let now = self.shared.clock.now();
        self.shared.core().approve_device(user_code, account, now)
    }

    /// Denies a waiting device ([`AuthorizationServer::deny_device`]).
    #[must_use]
    pub fn deny_device(&self, user_code: &str) -> bool {
        let now = self.shared.clock.now();
        self.shared.core().deny_device(user_code, now)
    }

    /// Ends every grant of an account ([`AuthorizationServer::revoke_account`]).
    #[must_use]
    pub fn revoke_account(&self, account: &str) -> usize {
        self.shared.core().revoke_account(account)
    }

    /// Makes the API refuse every access token that is out ([`AuthorizationServer::invalidate_access_tokens`]).
    pub fn invalidate_access_tokens(&self) {
        self.shared.core().invalidate_access_tokens();
    }

    /// Changes the life of the access tokens to come ([`AuthorizationServer::set_access_token_seconds`]).
    pub fn set_access_token_seconds(&self, seconds: u64) {
        self.shared.core().set_access_token_seconds(seconds);
    }

    /// The definition of a provider `id` that points at this server, in the format that a user writes: methods
    /// `oauth` (PKCE), `device` (RFC 8628) and `api-key`.
    #[must_use]
    pub fn provider_toml(&self, id: &str) -> String {
        self.shared.core().provider_toml(id)
    }

    /// Lets every held answer go, stops listening and waits for all connections to end.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.shared.close();
        if let Some(server) = self.server.take() {
            server.shutdown();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl AuthorizationServer {
    /// The definition of a provider `id` that points at this server, in the format that a user writes: methods
    /// `oauth` (PKCE), `device` (RFC 8628) and `api-key`.
    #[must_use]
    pub fn provider_toml(&self, id: &str) -> String {
        provider_toml(self.config(), self.issuer(), id)
    }
}

impl Faults {
    /// Adds a fault to the script.
    pub fn push(&self, fault: Fault) {
        self.0.core().push_fault(fault);
    }

    /// Drops the faults that are still to come.
    pub fn clear(&self) {
        self.0.core().clear_faults();
    }

    /// The faults that are still to come.
    #[must_use]
    pub fn remaining(&self) -> Vec<Fault> {
        self.0.core().faults()
    }

    /// How many answers are held ([`FaultAction::Hold`](crate::FaultAction::Hold)).
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held().waiting
    }

    /// Waits until at least `count` answers are held; `false` when that does not happen within `patience` of real
    /// time.
    #[must_use]
    pub fn wait_until_held(&self, count: usize, patience: Duration) -> bool {
        let (held, _) = self
            .0
            .changed
            .wait_timeout_while(self.0.held(), patience, |held| held.waiting < count)
            .unwrap_or_else(PoisonError::into_inner);
        held.waiting >= count
    }

    /// Lets the answers go that are held now; returns how many.
    #[expect(
        clippy::must_use_candidate,
        reason = "the count is a courtesy; releasing is the point"
    )]
    pub fn release(&self) -> usize {
        self.0.release()
    }
}

impl Shared {
    fn core(&self) -> MutexGuard<'_, AuthorizationServer> {
        // A panic elsewhere is that test's failure; the books stay readable.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, request: &Request<Body>) -> Reply {
        if let Some(response) = self.control(request) {
            return Reply::Answer(response);
        }
        let ServerAnswer { response, delivery } =
            self.core().handle(request, self.clock.now(), &*self.random);
        match delivery {
            Delivery::Whole => Reply::Answer(response),
            Delivery::Nothing => Reply::Close,
            Delivery::CutAfter(after_bytes) => Reply::Cut {
                response,
                after_bytes,
            },
            Delivery::Held => {
                self.hold();
                Reply::Answer(response)
            }
        }
    }

    /// What concerns held answers is not the state machine's.
    fn control(&self, request: &Request<Body>) -> Option<Response<Body>> {
        if !self.core().config().control {
            return None;
        }
        let count = match (request.method(), request.uri().path()) {
            (&Method::GET, "/__held") => self.held().waiting,
            (&Method::POST, "/__release") => self.release(),
            _ => return None,
        };
        Some(Response::new(Body::new(json!({"held": count}).to_string())))
    }

    /// Waits for the release; shutting down releases everything.
    fn hold(&self) {
        let mut held = self.held();
        let came_at = held.releases;
        held.waiting += 1;
        self.changed.notify_all();
        let mut held = self
            .changed
            .wait_while(held, |held| held.releases == came_at && !held.closed)
            .unwrap_or_else(PoisonError::into_inner);
        held.waiting -= 1;
        self.changed.notify_all();
    }

    fn release(&self) -> usize {
        let mut held = self.held();
        held.releases += 1;
        self.changed.notify_all();
        held.waiting
    }

    fn close(&self) {
        self.held().closed = true;
        self.changed.notify_all();
    }
}
