//! Who calls, from where, and as which agent. No key, no answer.
//!
//! Over TCP a caller shows a client key in whichever header its library puts it; over the Unix socket the kernel says
//! whose process it is. Before that, what a browser can be made to do is turned away: a name that leads here by DNS
//! rebinding (Host), and a page of another origin (Origin, Sec-Fetch-Site). No answer ever allows a foreign page to
//! read it. What a credential said that is none of ours is never looked at further, and never told.

mod recent;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use tokensink_sink::{AgentId, KeyCheck, KeyInfo, ProviderId, Secret, Sink};
use url::form_urlencoded;

use self::recent::{Recent, Usual};
use crate::request::errors::Refusal;
use crate::request::plan::Rights;
use crate::socket::Peer;

/// Headers that hold a bare key: Anthropic's, Azure's and Google's clients.
static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
/// The query parameter of Google's clients.
const KEY_PARAMETER: &str = "key";
/// By which a process on the socket says which agent it calls as.
const AGENT: HeaderName = HeaderName::from_static("x-tokensink-agent");
/// By which a browser says from where a request was caused (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Most callers that are kept; revoked keys and old readings of the file go with the others.
const CALLERS_MAX: usize = 64;
/// The command that gives a client its key.
const FIX: &str = "tokensink keys add <name> --agent <id>, and give the client that key";

/// A caller that may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name, for logs and counts: the key's, or the process's.
    pub name: String,
    /// The agent whose accounts it uses.
    pub agent: AgentId,
    /// The only providers that it may use; `None` for all of the agent's.
    pub providers: Option<BTreeSet<ProviderId>>,
    /// How it was recognised.
    pub kind: CallerKind,
}

/// How a caller was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerKind {
    /// By a client key.
    Key,
    /// By the kernel: a process of our user on the Unix socket. It could read our files as well.
    Socket(Peer),
}

impl Caller {
    /// May it use this provider?
    #[must_use]
    pub fn may_use(&self, provider: &ProviderId) -> bool {
        self.providers
            .as_ref()
            .is_none_or(|allowed| allowed.contains(provider))
    }

    /// What it may use, for the choice of an account.
    #[must_use]
    pub fn rights(&self) -> Rights<'_> {
        Rights {
            agent: &self.agent,
            providers: self.providers.as_ref(),
        }
    }

    /// True for a process on the Unix socket.
    #[must_use]
    pub fn is_local_process(&self) -> bool {
        matches!(self.kind, CallerKind::Socket(_))
    }
}

/// What stands before every request.
#[derive(Debug, Clone)]
pub struct Guard {
    sink: Sink,
    hosts: Hosts,
    /// Keys of the program that runs the gateway within itself.
    fixed: Vec<(Secret, AgentId)>,
    callers: Arc<Callers>,
    recent: Arc<Mutex<Recent>>,
}

/// The callers of keys that were seen before, so that none is made for every request.
#[derive(Debug, Default)]
struct Callers(Mutex<Vec<(Arc<KeyInfo>, Arc<Caller>)>>);

impl Callers {
    fn of(&self, info: &Arc<KeyInfo>) -> Arc<Caller> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, caller)) = known.iter().find(|(one, _)| Arc::ptr_eq(one, info)) {
            return Arc::clone(caller);
        }
        if known.len() >= CALLERS_MAX {
            known.clear();
        }
        let caller = Arc::new(Caller {
            name: info.name.clone(),
            agent: info.agent.clone(),
            providers: info.providers.clone(),
            kind: CallerKind::Key,
        });
        known.push((Arc::clone(info), Arc::clone(&caller)));
        caller
    }
}

/// The hosts by which a request may call us.
#[derive(Debug, Clone, Default)]
struct Hosts {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// Where we listen on every address, any of them may be ours. An address cannot be rebound, a name can.
    any_address: bool,
}

impl Guard {
    /// A guard for what listens on `addresses`. `names` are the host names, besides those of loopback, by which
    /// clients reach it.
    #[must_use]
    pub fn new(sink: Sink, addresses: &[SocketAddr], names: &[String]) -> Self {
        let hosts = Hosts {
            names: names.iter().map(|name| plain_name(name)).collect(),
            addresses: addresses.iter().map(SocketAddr::ip).collect(),
            any_address: addresses.iter().any(|address| address.ip().is_unspecified()),
        };
        Self {
            sink,
            hosts,
            fixed: Vec::new(),
            callers: Arc::default(),
            recent: Arc::default(),
        }
    }

    /// With further keys that are not in the store, for a program that runs a gateway within itself.
    #[must_use]
    pub fn with_keys(mut self, keys: &[(Secret, AgentId)]) -> Self {
        self.fixed = keys.to_vec();
        // Whoever was let in before may be another one by these keys.
        self.recent = Arc::default();
        self
    }

    /// The caller of a request. `peer` is the process at the other end of the Unix socket, and `None` over TCP.
    ///
    /// # Errors
    /// 400 without one Host, 403 for a host that is not ours, a foreign page and a foreign process, 401 without a key
    /// that counts, 500 when the keys cannot be read.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        peer: Option<&Peer>,
    ) -> Result<Arc<Caller>, Refusal> {
        let turn = self.sink.turn().filter(|_| peer.is_none());
        let usual = turn.and_then(|turn| Some((turn, Usual::of(headers, uri.query())?)));
        let Some((turn, usual)) = usual else {
            return self.check(headers, uri, peer);
        };
        if let Some(caller) = self.recent().caller(turn, usual) {
            return Ok(caller);
        }
        let caller = self.check(headers, uri, peer)?;
        self.recent().keep(turn, usual, &caller);
        Ok(caller)
    }

    /// Forgets the keys that were shown: what is kept for a turn is not kept by a gateway that nobody asks any more.
    pub fn sweep(&self) {
        *self.recent() = Recent::default();
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, headers: &HeaderMap, uri: &Uri, peer: Option<&Peer>) -> Result<Arc<Caller>, Refusal> {
        if peer.is_none() {
            self.hosts.check(headers)?;
        }
        check_origin(headers)?;
        let shown = Shown::of(headers, uri.query(), &self.fixed)?;
        match (peer, shown.ours) {
            (_, Some(key)) if let Some(agent) = fixed(&self.fixed, &key) => Ok(Arc::new(Caller {
                name: format!("agent {agent}"),
                agent: agent.clone(),
                providers: None,
                kind: CallerKind::Key,
            })),
            (_, Some(key)) => self.by_key(&key, headers),
            (Some(peer), None) => self.by_peer(peer, headers),
            (None, None) if shown.others => Err(no_key("the credential is no client key of this gateway")),
            (None, None) => Err(no_key("this gateway answers only clients with a key")),
        }
    }

    fn by_key(&self, key: &Secret, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let sink = self.sink.current();
        let check = sink
            .key_verify(key)
            .map_err(|error| Refusal::from_sink(&error, sink.now()))?;
        let info = match check {
            KeyCheck::Valid(info) => info,
            KeyCheck::Revoked { name } => return Err(no_key(format!("the client key {name} was revoked"))),
            KeyCheck::NoAgent { name, agent } => {
                return Err(no_key(format!(
                    "the agent {agent} of the client key {name} exists no longer"
                )));
            }
            KeyCheck::Damaged => return Err(no_key("the client key is cut off or mistyped")),
            KeyCheck::Unknown => return Err(no_key("the client key is not known here")),
        };
        match wanted_agent(headers)? {
            Some(other) if other != info.agent => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "other_agent",
                format!("the client key {} is for agent {} only", info.name, info.agent),
            )),
            _ => Ok(self.callers.of(&info)),
        }
    }

    fn by_peer(&self, peer: &Peer, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let sink = self.sink.current();
        if sink.host().files.user() != peer.user {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "other_user",
                "the socket serves processes of its own user only",
            ));
        }
        let wanted = wanted_agent(headers)?;
        let agent = sink
            .agent(wanted.as_ref().map(AgentId::as_str))
            .map_err(|error| Refusal::from_sink(&error, sink.now()))?;
        Ok(Arc::new(Caller {
            name: peer.to_string(),
            agent,
            providers: None,
            kind: CallerKind::Socket(peer.clone()),
        }))
    }
}

/// The agent that the request names.
fn wanted_agent(headers: &HeaderMap) -> Result<Option<AgentId>, Refusal> {
    let mut named = headers.get_all(AGENT).iter();
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) if !text.trim().is_empty() => Ok(Some(AgentId::normalise(text))),
            _ => Err(Refusal::bad("bad_agent", "x-tokensink-agent holds no agent's id")),
        },
        (Some(_), Some(_)) => Err(Refusal::bad("bad_agent", "x-tokensink-agent is there twice")),
    }
}

/// The credentials that a request shows.
struct Shown {
    /// The one that looks like a client key.
    ours: Option<Secret>,
    /// There are others, which are not for us.
    others: bool,
}

impl Shown {
    /// A request with two different client keys has no sender: somebody has put one to the other's request.
    fn of(headers: &HeaderMap, query: Option<&str>, known: &[(Secret, AgentId)]) -> Result<Self, Refusal> {
        let mut shown = Self {
            ours: None,
            others: false,
        };
        for value in headers.get_all(AUTHORIZATION) {
            let scheme_and_key = value.to_str().ok().and_then(|text| text.trim().split_once(' '));
            match scheme_and_key {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => shown.add(key, known)?,
                _ => shown.others = true,
            }
        }
        for name in &KEY_HEADERS {
            for value in headers.get_all(name) {
                match value.to_str() {
                    Ok(key) => shown.add(key, known)?,
                    Err(_) => shown.others = true,
                }
            }
        }
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if name == KEY_PARAMETER {
                shown.add(&value, known)?;
            }
        }
        Ok(shown)
    }

    fn add(&mut self, text: &str, known: &[(Secret, AgentId)]) -> Result<(), Refusal> {
        let key = Secret::new(text.trim());
        if !Sink::is_client_key(&key) && fixed(known, &key).is_none() {
            self.others |= !key.is_blank();
            return Ok(());
        }
        if self.ours.as_ref().is_some_and(|known| *known != key) {
            return Err(no_key("the request shows two different client keys"));
        }
        self.ours = Some(key);
        Ok(())
    }
}

/// The agent of a key that is not in the store.
fn fixed<'a>(keys: &'a [(Secret, AgentId)], key: &Secret) -> Option<&'a AgentId> {
    keys.iter()
        .find(|(known, _)| known == key)
        .map(|(_, agent)| agent)
}

impl Hosts {
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::bad(
                "no_host",
                "the request needs exactly one Host header",
            ));
        };
        let host = host.to_str().unwrap_or_default();
        if self.is_ours(host) {
            return Ok(());
        }
        let message = "the Host header names a host that this gateway does not serve; \
                       a web page may be behind it (DNS rebinding)";
        Err(Refusal::new(StatusCode::FORBIDDEN, "foreign_host", message)
            .with_fix("call 127.0.0.1 or localhost, or start the gateway with --allow-host <name>"))
    }

    fn is_ours(&self, authority: &str) -> bool {
        let Some(host) = without_port(authority) else {
            return false;
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.any_address || address.is_loopback() || self.addresses.contains(&address);
        }
        let name = plain_name(host);
        name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name)
    }
}

/// The host of an authority; `None` when it is none.
fn without_port(authority: &str) -> Option<&str> {
    let host = match authority.rsplit_once(':') {
        // The colons within brackets are the address's.
        Some((_, port)) if port.ends_with(']') => authority,
        Some((host, port)) => host
            .get(..)
            .filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?,
        None => authority,
    };
    (!host.is_empty() && !host.contains(['@', '/', ' '])).then_some(host)
}

fn plain_name(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

/// A page may call only from this very origin; an app's window and an extension have origins of their own.
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let own = headers.get(HOST).map(HeaderValue::as_bytes);
    let from_here = |origin: &HeaderValue| own.is_some() && origin.as_bytes().strip_prefix(b"http://") == own;
    let foreign_site = |site: &HeaderValue| !matches!(site.as_bytes(), b"none" | b"same-origin");
    if headers.get_all(ORIGIN).iter().all(from_here) && !headers.get_all(FETCH_SITE).iter().any(foreign_site)
    {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "the request comes from a web page of another origin, and no page may use this gateway",
    )
    .with_fix("call it from a program instead of from a page"))
}

fn no_key(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "no_key", message)
        .with_fix(FIX)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests;
