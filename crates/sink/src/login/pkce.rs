//! The login in a browser (RFC 6749 section 4.1, RFC 7636, RFC 8252): a listener on the loopback interface and a
//! prompt for pasted text wait side by side. The first valid answer wins; the others end, and the port is free again
//! at once.
//!
//! The request of the browser that brought the code is handed back unanswered, so that its page can say how the
//! login ended.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use http::Method as HttpMethod;
use tokensink_host::callback::{BindError, CallbackListener, CallbackRequest};
use tokensink_host::{Random, browser};
use tokensink_oauth::callback::{AuthorizationCode, Callback, parse_callback};
use tokensink_oauth::paste::{PasteError, parse_paste};
use tokensink_oauth::pkce::{CodeChallenge, CodeVerifier, StateParam};
use tokensink_providers::{PkceFlow, StateSource};

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::choose::{self, Loopback, PkcePlan};
use crate::login::exchange;
use crate::login::run::{Granted, Login, build_error};
use crate::login::{Cancel, LoginEvent, LoginUi, page};

/// How long an answer is waited for. Providers forget an authorization request after about this time.
pub(crate) const LOGIN_TIME: Duration = Duration::from_secs(15 * 60);

/// How often the clock is looked at while waiting.
const LOOK: Duration = Duration::from_millis(100);

/// How many stray requests are told of; any web page can make the browser send them without end.
const STRAYS_SHOWN: u32 = 5;

/// What is asked for (spec.md 11.6).
const PROMPT: &str = "Paste the redirect URL (or authorization code)";

/// What came back, with the browser that waits for its page.
pub(crate) struct Answered {
    pub(crate) code: Result<AuthorizationCode>,
    pub(crate) browser: Option<CallbackRequest>,
}

/// The secrets of one authorization request, and where its answer goes.
pub(crate) struct Pending {
    verifier: CodeVerifier,
    state: StateParam,
    redirect_uri: String,
}

enum Event {
    Callback(CallbackRequest, Callback),
    Pasted(std::result::Result<AuthorizationCode, PasteError>),
}

/// Sends the user to the provider and waits for the answer.
///
/// # Errors
/// When nobody could answer, or the authorization request cannot be built.
pub(crate) fn ask(login: &Login<'_>, flow: &PkceFlow) -> Result<(Pending, Answered)> {
    let env = |name: &str| login.host().env.var(name);
    let plan = choose::pkce(flow, &login.facts, &env).map_err(|error| build_error(&error))?;
    let (listener, redirect_uri) = match listen(login, &plan)? {
        Some((listener, loopback)) => {
            let uri = loopback.uri_on(listener.port());
            login.ui.show(LoginEvent::Listening { uri: &uri });
            (Some((listener, loopback.path)), uri)
        }
        None => (None, plan.fallback.clone()),
    };
    let pending = pending(login, flow, redirect_uri)?;
    let challenge = CodeChallenge::s256(&pending.verifier);
    let url = flow
        .authorization_url(&pending.redirect_uri, &challenge, &pending.state, &env)
        .map_err(|error| build_error(&error))?;
    let why_not = choose::hinted(login.definition, &login.facts, plan.why_no_browser.clone()).or_else(|| {
        let failed = browser::open(login.host(), &url).err();
        failed.map(|error| error.to_string())
    });
    login.ui.show(LoginEvent::OpenUrl {
        url: url.as_str(),
        opened: why_not.is_none(),
        why_not: why_not.as_deref(),
    });
    let answered = race(login, listener, &pending.state, plan.paste);
    Ok((pending, answered))
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
                login.ui.show(LoginEvent::ListenerFailed {
                    reason: &error.to_string(),
                });
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
    choose::nobody_can_answer(login.definition, login.method, &why)
}

/// Waits for the first valid answer.
fn race(
    login: &Login<'_>,
    listener: Option<(CallbackListener, String)>,
    state: &StateParam,
    paste: bool,
) -> Answered {
    let deadline = login.host().clock.monotonic().saturating_add(LOGIN_TIME);
    let cancel = Cancel::default();
    let (events, arrived) = mpsc::channel();
    let answered = thread::scope(|scope| {
        let mut broken = None;
        if let Some((listener, path)) = &listener {
            let events = events.clone();
            let body = move || serve(listener, path, state, login.ui, &events);
            broken = thread::Builder::new()
                .name("login-listener".to_owned())
                .spawn_scoped(scope, body)
                .err();
        }
        if paste {
            let events = events.clone();
            let cancel = &cancel;
            let body = move || ask_paste(login.ui, cancel, state, &events);
            let spawned = thread::Builder::new()
                .name("login-paste".to_owned())
                .spawn_scoped(scope, body);
            broken = broken.or(spawned.err());
        }
        drop(events);
        let answered = match broken {
            Some(error) => ended(no_thread(&error)),
            None => wait(login, &arrived, deadline),
        };
        cancel.set();
        if let Some((listener, _)) = &listener {
            listener.stop_handle().stop();
        }
        answered
    });
    drop(listener);
    for late in arrived.try_iter() {
        if let Event::Callback(request, callback) = late {
            // A browser that is gone misses nothing.
            let _ = request.respond(callback.status(), &page::superseded());
        }
    }
    answered
}

/// `deadline` is monotonic.
fn wait(login: &Login<'_>, arrived: &Receiver<Event>, deadline: Duration) -> Answered {
    loop {
        match arrived.recv_timeout(LOOK) {
            Ok(Event::Callback(request, callback)) => return of_callback(login, request, callback),
            Ok(Event::Pasted(Ok(code))) => {
                return Answered {
                    code: Ok(code),
                    browser: None,
                };
            }
            Ok(Event::Pasted(Err(error))) => return ended(denied(login, &error.to_string())),
            Err(RecvTimeoutError::Disconnected) => return ended(input_ended(login)),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if login.host().clock.monotonic() >= deadline {
            return ended(too_late(login));
        }
    }
}

fn ended(error: SinkError) -> Answered {
    Answered {
        code: Err(error),
        browser: None,
    }
}

fn of_callback(login: &Login<'_>, request: CallbackRequest, callback: Callback) -> Answered {
    let code = match callback {
        Callback::Code(code) => Ok(code),
        refusal => Err(denied(login, &refusal.to_string())),
    };
    Answered {
        code,
        browser: Some(request),
    }
}

fn denied(login: &Login<'_>, reason: &str) -> SinkError {
    SinkError::new(ErrorKind::Failed, "login_denied", reason.to_owned()).with_fix(login.again())
}

fn too_late(login: &Login<'_>) -> SinkError {
    let minutes = LOGIN_TIME.as_secs() / 60;
    let message = format!(
        "no answer of {} came within {minutes} minutes",
        login.definition.name
    );
    SinkError::new(ErrorKind::Failed, "login_timeout", message).with_fix(login.again())
}

fn input_ended(login: &Login<'_>) -> SinkError {
    let message = format!(
        "the login at {} was given up: the input ended without an answer",
        login.definition.name
    );
    SinkError::new(ErrorKind::Failed, "login_given_up", message).with_fix(login.again())
}

fn no_thread(error: &io::Error) -> SinkError {
    SinkError::new(
        ErrorKind::Failed,
        "no_thread",
        format!("no thread could be started to wait for the answer: {error}"),
    )
}

/// The listener's side: answers strays, hands over the first request that ends the wait.
fn serve(
    listener: &CallbackListener,
    path: &str,
    state: &StateParam,
    ui: &dyn LoginUi,
    events: &Sender<Event>,
) {
    let mut shown = 0;
    loop {
        let request = match listener.accept(LOGIN_TIME) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                ui.show(LoginEvent::ListenerFailed {
                    reason: &error.to_string(),
                });
                return;
            }
        };
        let callback = parse_callback(request.target(), path, state);
        // A HEAD comes from something that looks ahead of the user; it must not use the code up.
        if callback.ends_wait() && *request.method() == HttpMethod::GET {
            let _ = events.send(Event::Callback(request, callback));
            return;
        }
        let reason = callback.to_string();
        if !matches!(callback, Callback::WrongPath | Callback::Code(_)) && shown < STRAYS_SHOWN {
            shown += 1;
            ui.show(LoginEvent::PasteRefused { reason: &reason });
        }
        let _ = request.respond(callback.status(), &page::stray(&reason));
    }
}

/// The terminal's side: asks until a text gives a code or a refusal.
fn ask_paste(ui: &dyn LoginUi, cancel: &Cancel, state: &StateParam, events: &Sender<Event>) {
    while let Some(text) = ui.ask_paste(PROMPT, cancel) {
        let text = zeroize::Zeroizing::new(text);
        let parsed = parse_paste(&text, state);
        match parsed {
            Err(error @ (PasteError::Empty | PasteError::MissingCode | PasteError::StateMismatch)) => {
                ui.show(LoginEvent::PasteRefused {
                    reason: &error.to_string(),
                });
            }
            result => {
                let _ = events.send(Event::Pasted(result));
                return;
            }
        }
        if cancel.is_set() {
            return;
        }
    }
}
