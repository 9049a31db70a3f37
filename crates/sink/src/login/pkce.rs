//! The login in a browser (RFC 6749 section 4.1, RFC 7636, RFC 8252): what is sent to the provider, before and after
//! the wait for its answer. The wait is in `race.rs`.

use tokensink_host::callback::{BindError, CallbackListener};
use tokensink_host::{Random, browser};
use tokensink_oauth::callback::AuthorizationCode;
use tokensink_oauth::pkce::{CodeChallenge, CodeVerifier, StateParam};
use tokensink_providers::{PkceFlow, StateSource};

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::LoginEvent;
use crate::login::choose::{self, Loopback, PkcePlan};
use crate::login::exchange;
use crate::login::run::{Granted, Login, build_error};

/// The secrets of one authorization request, and where its answer goes.
pub(crate) struct Pending {
    verifier: CodeVerifier,
    state: StateParam,
    redirect_uri: String,
}

impl Pending {
    /// What the answer must bring back.
    pub(crate) fn state(&self) -> &StateParam {
        &self.state
    }
}

/// A user who was sent to the provider, and the ways back that are open.
pub(crate) struct Asked {
    pub(crate) pending: Pending,
    /// The listener and the path that the redirect goes to.
    pub(crate) listener: Option<(CallbackListener, String)>,
    /// A paste is asked for.
    pub(crate) paste: bool,
    /// A browser was started here.
    pub(crate) opened: bool,
}

impl Asked {
    /// Where the redirect is awaited.
    pub(crate) fn listens_at(&self) -> Option<&str> {
        self.listener.as_ref().map(|_| self.pending.redirect_uri.as_str())
    }
}

/// Sends the user to the provider. `raced` says that a login by device code is tried where no browser can be started.
///
/// # Errors
/// When nobody could answer, or the authorization request cannot be built.
pub(crate) fn ask(login: &Login<'_>, flow: &PkceFlow, raced: bool) -> Result<Asked> {
    let env = |name: &str| login.host().env.var(name);
    let plan = choose::pkce(flow, login.facts, &env).map_err(|error| build_error(&error))?;
    let (listener, redirect_uri) = match listen(login, &plan)? {
        Some((listener, loopback)) => {
            let uri = loopback.uri_on(listener.port());
            (Some((listener, loopback.path)), uri)
        }
        None => (None, plan.fallback.clone()),
    };
    let pending = pending(login, flow, redirect_uri)?;
    let challenge = CodeChallenge::s256(&pending.verifier);
    let url = flow
        .authorization_url(&pending.redirect_uri, &challenge, &pending.state, &env)
        .map_err(|error| build_error(&error))?;
    let why_not = match plan.why_no_browser {
        Some(why) if raced => Some(why),
        Some(why) => Some(choose::hinted(login.definition, login.facts, &why)),
        None => browser::open(login.host(), &url)
            .err()
            .map(|error| error.to_string()),
    };
    login.ui.show(LoginEvent::OpenUrl {
        url: url.as_str(),
        opened: why_not.is_none(),
        why_not: why_not.as_deref(),
    });
    Ok(Asked {
        pending,
        listener,
        paste: plan.paste,
        opened: why_not.is_none(),
    })
}

/// Exchanges the code.
///
/// # Errors
/// With the provider's own words and the next step. The code is spent then.
pub(crate) fn exchange(
    login: &Login<'_>,
    flow: &PkceFlow,
    pending: &Pending,
    code: &AuthorizationCode,
) -> Result<Granted> {
    let env = |name: &str| login.host().env.var(name);
    let request = flow
        .exchange_request(
            code,
            &pending.verifier,
            &pending.redirect_uri,
            &pending.state,
            &env,
        )
        .map_err(|error| build_error(&error))?;
    let client = flow
        .client
        .resolve(&env, None)
        .map_err(|error| build_error(&error))?;
    let mut sent = vec![code.secret(), pending.verifier.secret(), pending.state.secret()];
    sent.extend(&client.client_secret);
    let (grant, sent_at) = exchange::tokens(login.host(), &request, &sent, &login.again())?;
    Ok(Granted { grant, sent_at })
}

fn pending(login: &Login<'_>, flow: &PkceFlow, redirect_uri: String) -> Result<Pending> {
    let random = &*login.host().random;
    let verifier = CodeVerifier::from_random(bytes(random)?, flow.client.verifier);
    let state = match flow.state {
        StateSource::Random => StateParam::hex(bytes(random)?),
        StateSource::Verifier => StateParam::from_verifier(&verifier),
    };
    Ok(Pending {
        verifier,
        state,
        redirect_uri,
    })
}

/// Fresh random bytes.
///
/// # Errors
/// When the system has none to give; a login with guessable ones is none.
pub(crate) fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|error| {
        let message = format!("the system gave no random bytes for the login: {error}");
        SinkError::new(ErrorKind::Failed, "no_randomness", message).because(error)
    })?;
    Ok(bytes)
}

/// Listens on the first redirect URI whose port is free; `None` where pasting is what is left.
fn listen(login: &Login<'_>, plan: &PkcePlan) -> Result<Option<(CallbackListener, Loopback)>> {
    let mut reasons = Vec::new();
    for loopback in &plan.loopback {
        match CallbackListener::bind(&loopback.hosts, loopback.port) {
            Ok(listener) => return Ok(Some((listener, loopback.clone()))),
            Err(error) => {
                // Without a paste the error below says it, or the way that is left.
                if plan.paste {
                    login.ui.show(LoginEvent::ListenerFailed {
                        reason: &error.to_string(),
                    });
                }
                reasons.push(error);
            }
        }
    }
    if plan.paste {
        return Ok(None);
    }
    Err(match reasons.last() {
        Some(reason) => nobody_listens(login, reason),
        None => choose::nobody_can_answer(
            login.definition,
            login.method,
            "its redirect does not lead to this machine",
        ),
    })
}

/// No listener and nobody to paste.
fn nobody_listens(login: &Login<'_>, reason: &BindError) -> SinkError {
    let why = match reason {
        BindError::InUse { addr } => format!("{addr} is in use by another program"),
        BindError::Forbidden { addr } => format!("this user may not listen on {addr}"),
        BindError::Reserved { addr } => format!("the system has reserved {addr}"),
        other => other.to_string(),
    };
    choose::no_listener(login.definition, &why, &login.again())
}
