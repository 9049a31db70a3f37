//! The server as a state machine: a request, the time and randomness in; an answer out, together with how much of it
//! reaches the client. No sockets, no clock; [`crate::Running`] brings those.

mod answer;
mod authorization;
mod control;
mod device;
mod grants;
mod resource;
mod token;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use http::header::{ALLOW, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;
use tokensink_host::Random;
use tokensink_types::{Body, Secret, SpendKey, UnixMillis};

use self::answer::{Refusal, Reply, json_answer, page_answer};
use self::device::Device;
use self::grants::Grants;
use crate::config::{ConfigError, LoginAnswer, ServerConfig};
use crate::faults::{Endpoint, Fault, FaultAction, FaultScript, GrantType};
use crate::ledger::{Ledger, RequestRecord, RevokedBecause};
use crate::pages;
use crate::params::{Params, media_type};

pub use self::grants::Issued;

/// Largest body that [`FaultAction::HugeBody`] makes, in bytes.
const HUGE_BODY_MAX: usize = 64 << 20;

/// The outcome of a request that a fault kept from being handled.
const NOT_HANDLED: &str = "not_handled";

/// How an answer reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As it is.
    Whole,
    /// The connection is closed without a byte.
    Nothing,
    /// The connection is closed after so many bytes, the head counted.
    CutAfter(usize),
    /// As it is, but only when the test releases it.
    Held,
}

/// An answer, and how it reaches the client.
#[derive(Debug)]
pub struct ServerAnswer {
    /// What the server says.
    pub response: Response<Body>,
    /// How much of it arrives.
    pub delivery: Delivery,
}

/// The authorization server, with the API that its access tokens are for. A clone goes its own way.
#[derive(Debug, Clone)]
pub struct AuthorizationServer {
    config: ServerConfig,
    issuer: String,
    grants: Grants,
    devices: HashMap<SpendKey, Device>,
    logins: VecDeque<LoginAnswer>,
    script: FaultScript,
    ledger: Ledger,
}

/// One request while it is handled.
struct Call<'a> {
    now: UnixMillis,
    random: &'a dyn Random,
    /// Issue tokens for this account instead ([`FaultAction::WrongAccount`]).
    instead: Option<usize>,
    /// Leave these members out ([`FaultAction::Omit`]).
    omit: Vec<String>,
    /// For the log.
    client_id: Option<String>,
    key: Option<SpendKey>,
    outcome: &'static str,
}

impl<'a> Call<'a> {
    fn new(now: UnixMillis, random: &'a dyn Random) -> Self {
        Self {
            now,
            random,
            instead: None,
            omit: Vec::new(),
            client_id: None,
            key: None,
            outcome: "served",
        }
    }

    /// Notes the token that the request is about.
    fn present(&mut self, token: &Secret) -> SpendKey {
        let key = SpendKey::of(token);
        self.key = Some(key);
        key
    }

    fn leaves_out(&self, member: &str) -> bool {
        self.omit.iter().any(|name| name == member)
    }
}

impl AuthorizationServer {
    /// A server without grants. `issuer` is its base URL without a slash at the end (RFC 8414 section 2).
    ///
    /// # Errors
    /// What [`ServerConfig::check`] finds.
    pub fn new(config: ServerConfig, issuer: impl Into<String>) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self {
            logins: config.logins.iter().cloned().collect(),
            config,
            issuer: issuer.into(),
            grants: Grants::default(),
            devices: HashMap::new(),
            script: FaultScript::default(),
            ledger: Ledger::default(),
        })
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        &self.config
    }

    /// Its base URL, without a slash at the end.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The port is known only once the socket is open, and nobody can have asked before.
    pub(crate) fn set_issuer(&mut self, issuer: String) {
        self.issuer = issuer;
    }

    /// The books.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Adds a fault to the script.
    pub fn push_fault(&mut self, fault: Fault) {
        self.script.push(fault);
    }

    /// Drops the faults that are still to come.
    pub fn clear_faults(&mut self) {
        self.script.clear();
    }

    /// The faults that are still to come.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.script.remaining()
    }

    /// Says how a coming authorization request is answered; each answer serves one.
    pub fn push_login(&mut self, login: LoginAnswer) {
        self.logins.push_back(login);
    }

    /// Changes the life of the access tokens that are issued from now on, in seconds.
    pub fn set_access_token_seconds(&mut self, seconds: u64) {
        self.config.access_token_seconds = seconds;
    }

    /// Ends every grant of this account (its `sub`, e-mail address or account id), as its owner can at a real
    /// provider. Returns how many were alive.
    pub fn revoke_account(&mut self, account: &str) -> usize {
        let Some(account) = self.config.find_account(account) else {
            return 0;
        };
        let alive = self.grants.alive_of(account);
        for family in &alive {
            self.revoke(*family, RevokedBecause::Owner);
        }
        alive.len()
    }

    /// Makes the API refuse every access token that is out, although none has expired; refresh tokens stay good.
    pub fn invalidate_access_tokens(&mut self) {
        self.grants.forget_access_tokens();
    }

    /// Handles one request.
    pub fn handle(&mut self, request: &Request<Body>, now: UnixMillis, random: &dyn Random) -> ServerAnswer {
        let path = request.uri().path();
        let mut call = Call::new(now, random);
        if self.config.control && path.starts_with("/__") {
            return whole(self.control(request, &mut call));
        }
        let endpoint = Endpoint::of(path);
        let params = match endpoint {
            Endpoint::Authorization | Endpoint::Verification => Params::of(request),
            Endpoint::Token | Endpoint::DeviceAuthorization | Endpoint::DevicePoll | Endpoint::Revocation => {
                Params::of_body(request)
            }
            Endpoint::Userinfo | Endpoint::Metadata | Endpoint::Api | Endpoint::Unknown => {
                Ok(Params::default())
            }
        };
        let grant = (endpoint == Endpoint::Token && request.method() == Method::POST)
            .then(|| GrantType::of(params.as_ref().ok().and_then(|params| params.text("grant_type"))));
        let fault = self.script.take(endpoint, grant);
        let name = fault.as_ref().map(ToString::to_string);
        let answer = match fault {
            None => whole(self.dispatch(request, endpoint, params, &mut call)),
            Some(fault) => self.dispatch_under(fault, request, endpoint, params, &mut call),
        };
        let record = record(request, endpoint, grant, &call, name, &answer);
        self.ledger.record(record);
        answer
    }

    fn dispatch(
        &mut self,
        request: &Request<Body>,
        endpoint: Endpoint,
        params: Result<Params, String>,
        call: &mut Call<'_>,
    ) -> Response<Body> {
        if let Some(refused) = wrong_method(request.method(), endpoint) {
            call.outcome = "wrong_method";
            return refused;
        }
        let params = match params {
            Ok(params) => params,
            Err(why) => return self.refuse(Refusal::request("malformed_request", why), call),
        };
        let reply = match endpoint {
            Endpoint::Authorization => return self.authorization(request, &params, call),
            Endpoint::Verification => return self.verification(request, &params, call),
            Endpoint::Userinfo => return self.userinfo(request, call),
            Endpoint::Api => return self.api(request, call),
            Endpoint::Metadata => return self.metadata(),
            Endpoint::Unknown => return self.elsewhere(request, call),
            Endpoint::Token => self.token(request, &params, call),
            Endpoint::DeviceAuthorization => self.device_authorization(request, &params, call),
            Endpoint::DevicePoll => return self.openai_device_poll(&params, call),
            Endpoint::Revocation => self.revocation(request, &params, call),
        };
        reply.unwrap_or_else(|refusal| self.refuse(refusal, call))
    }

    /// Plays a fault on a request.
    fn dispatch_under(
        &mut self,
        fault: FaultAction,
        request: &Request<Body>,
        endpoint: Endpoint,
        params: Result<Params, String>,
        call: &mut Call<'_>,
    ) -> ServerAnswer {
        let delivery = match &fault {
            FaultAction::CutBeforeHandling | FaultAction::CutBeforeAnswer => Delivery::Nothing,
            FaultAction::CutAfterBytes { bytes } => Delivery::CutAfter(*bytes),
            FaultAction::Hold => Delivery::Held,
            _ => Delivery::Whole,
        };
        if let FaultAction::WrongAccount { account } = &fault {
            call.instead = self.config.find_account(account);
        }
        if let FaultAction::Omit { fields } = &fault {
            call.omit.clone_from(fields);
        }
        let handled = match &fault {
            FaultAction::Status { .. }
            | FaultAction::RetryAfter { .. }
            | FaultAction::Redirect { .. }
            | FaultAction::CutBeforeHandling => false,
            FaultAction::Garbage { handled } => *handled,
            _ => true,
        };
        let response = if handled {
            self.dispatch(request, endpoint, params, call)
        } else {
            call.outcome = NOT_HANDLED;
            Response::default()
        };
        let response = match fault {
            FaultAction::Status { status, body } => fixed(status, body, None),
            FaultAction::RetryAfter { seconds, status } => fixed(status, String::new(), Some(seconds)),
            FaultAction::Redirect { location } => elsewhere(&location),
            FaultAction::Garbage { .. } => page_answer(StatusCode::OK, "<html>\u{fffd} not what you expect"),
            FaultAction::HugeBody { bytes } => inflated(&response, bytes),
            _ => response,
        };
        ServerAnswer { response, delivery }
    }

    /// Anything that is not an endpoint of the protocol.
    fn elsewhere(&self, request: &Request<Body>, call: &mut Call<'_>) -> Response<Body> {
        match request.uri().path() {
            "/" if self.config.control => page_answer(
                StatusCode::OK,
                &pages::books(&self.issuer, &self.ledger, &self.faults(), call.now),
            ),
            "/" => page_answer(
                StatusCode::OK,
                &pages::message("tokensink test server", &format!("Issuer {}", self.issuer)),
            ),
            "/oauth/code/callback" => self.show_code(request),
            _ => {
                call.outcome = "not_found";
                json_answer(
                    StatusCode::NOT_FOUND,
                    &json!({"error": "not_found", "error_description": "nothing is served at this path"}),
                )
            }
        }
    }

    fn refuse(&self, refusal: Refusal, call: &mut Call<'_>) -> Response<Body> {
        call.outcome = refusal.reason;
        refusal.answer(self.config.error_style)
    }

    fn revoke(&mut self, family: usize, because: RevokedBecause) {
        self.grants.revoke(family);
        self.ledger.revoked(family, because);
    }

    /// Which client asks (RFC 6749 section 2.3), by HTTP Basic or in the body.
    fn client(&self, request: &Request<Body>, params: &Params, call: &mut Call<'_>) -> Reply<String> {
        let basic = answer::basic_credentials(request.headers())?;
        let (id, secret) = match &basic {
            Some((id, secret)) => {
                if params.text("client_id").is_some_and(|other| other != id) {
                    return Err(Refusal::request(
                        "client_mismatch",
                        "client_id differs from the Authorization header",
                    ));
                }
                (Some(id.as_str()), Some(secret))
            }
            None => (params.text("client_id"), params.secret("client_secret")),
        };
        let Some(id) = id else {
            return Err(Refusal::request("no_client", "client_id is missing"));
        };
        call.client_id = Some(id.to_owned());
        if !self.knows_client(id) {
            return Err(Refusal::client(
                "unknown_client",
                format!("client_id {id:?} is not registered"),
            ));
        }
        match &self.config.client_secret {
            Some(wanted) if secret != Some(wanted) => Err(Refusal::client(
                "bad_client_secret",
                "client_secret is missing or wrong",
            )),
            _ => Ok(id.to_owned()),
        }
    }

    fn knows_client(&self, id: &str) -> bool {
        self.config.client_ids.is_empty() || self.config.client_ids.iter().any(|known| known == id)
    }

    /// The scopes that a request may have; absent means all that are configured, or `openid`.
    fn scopes(&self, params: &Params) -> Reply<Vec<String>> {
        let known = &self.config.scopes;
        match params.scopes() {
            Some(wanted) => match wanted
                .iter()
                .find(|word| !known.is_empty() && !known.contains(word))
            {
                Some(unknown) => Err(Refusal::scope(format!("scope {unknown:?} is not offered"))),
                None => Ok(wanted),
            },
            None if known.is_empty() => Ok(vec!["openid".to_owned()]),
            None => Ok(known.clone()),
        }
    }
}

fn whole(response: Response<Body>) -> ServerAnswer {
    ServerAnswer {
        response,
        delivery: Delivery::Whole,
    }
}

/// The answer to a request whose method the endpoint does not know (RFC 6749 section 3.2: token requests are POSTs).
fn wrong_method(method: &Method, endpoint: Endpoint) -> Option<Response<Body>> {
    let allowed = match endpoint {
        Endpoint::Token | Endpoint::DeviceAuthorization | Endpoint::DevicePoll | Endpoint::Revocation => {
            "POST"
        }
        Endpoint::Authorization | Endpoint::Verification | Endpoint::Userinfo => "GET, POST",
        Endpoint::Metadata | Endpoint::Api => "GET",
        Endpoint::Unknown => return None,
    };
    if allowed.split(", ").any(|allowed| allowed == method.as_str()) {
        return None;
    }
    let mut response = json_answer(
        StatusCode::METHOD_NOT_ALLOWED,
        &json!({"error": "invalid_request", "error_description": format!("use {allowed}")}),
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    Some(response)
}

fn fixed(status: u16, body: String, retry_after: Option<u64>) -> Response<Body> {
    let mut response = answer::raw_answer(
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        "application/json",
        body.into_bytes(),
    );
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The same request, please, at `location`; a text that can be no header's value leaves the header out.
fn elsewhere(location: &str) -> Response<Body> {
    let mut response = fixed(StatusCode::TEMPORARY_REDIRECT.as_u16(), String::new(), None);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The same JSON object with one more member of `bytes` bytes.
fn inflated(response: &Response<Body>, bytes: usize) -> Response<Body> {
    let body = response.body().expose();
    let kept = body.strip_suffix(b"}").unwrap_or(body);
    let mut inflated = kept.to_vec();
    inflated.extend_from_slice(b",\"padding\":\"");
    inflated.resize(inflated.len() + bytes.min(HUGE_BODY_MAX), b'x');
    inflated.extend_from_slice(b"\"}");
    answer::raw_answer(response.status(), "application/json", inflated)
}

fn record(
    request: &Request<Body>,
    endpoint: Endpoint,
    grant: Option<GrantType>,
    call: &Call<'_>,
    fault: Option<String>,
    answer: &ServerAnswer,
) -> RequestRecord {
    let header = |name: HeaderName| {
        let value = request.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    RequestRecord {
        at: call.now.0,
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        endpoint,
        grant,
        client_id: call.client_id.clone(),
        content_type: media_type(request.headers()),
        user_agent: header(USER_AGENT),
        key: call.key.map(|key| hex::encode(&key.0[..8])),
        status: (call.outcome != NOT_HANDLED || answer.delivery == Delivery::Whole)
            .then(|| answer.response.status().as_u16()),
        outcome: call.outcome.to_owned(),
        fault,
    }
}
