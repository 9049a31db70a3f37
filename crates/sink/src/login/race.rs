//! The wait for the answer to a login in a browser: a listener on the loopback interface, a prompt for pasted text and
//! a code for another device stand side by side. The first valid answer wins; the others end, and the port is free
//! again at once.
//!
//! The request of the browser that brought the code is handed back unanswered, so that its page can say how the
//! login ended. What wins is exchanged by the caller, once; an answer that comes after it is dropped unused.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use http::Method as HttpMethod;
use tokensink_host::callback::{CallbackListener, CallbackRequest};
use tokensink_oauth::callback::{AuthorizationCode, Callback, parse_callback};
use tokensink_oauth::paste::{PasteError, parse_paste};
use tokensink_oauth::pkce::StateParam;

use crate::error::{ErrorKind, SinkError};
use crate::login::device::{Approval, Polling, Step};
use crate::login::exchange::{self, Answer, Unanswered};
use crate::login::pkce::Asked;
use crate::login::run::Login;
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
pub(crate) struct Answered<'a> {
    pub(crate) won: std::result::Result<Won<'a>, SinkError>,
    pub(crate) browser: Option<CallbackRequest>,
}

/// The first valid answer.
pub(crate) enum Won<'a> {
    /// The login in a browser, by its redirect or by a paste.
    Code(AuthorizationCode),
    /// The login by device code.
    Device(Box<Polling<'a>>, Approval),
}

enum Event {
    Callback(CallbackRequest, Callback),
    Pasted(std::result::Result<AuthorizationCode, PasteError>),
    Polled(std::result::Result<Answer, Unanswered>),
}

/// Waits for the first valid answer. The listener of `asked` is closed on return.
pub(crate) fn race<'a>(login: &Login<'_>, asked: &mut Asked, polling: Option<Polling<'a>>) -> Answered<'a> {
    let deadline = login.host().clock.monotonic().saturating_add(LOGIN_TIME);
    let cancel = Cancel::default();
    let (events, arrived) = mpsc::channel();
    let listener = asked.listener.take();
    let state = asked.pending.state();
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
        if asked.paste {
            let events = events.clone();
            let cancel = &cancel;
            let body = move || ask_paste(login.ui, cancel, state, &events);
            let spawned = thread::Builder::new()
                .name("login-paste".to_owned())
                .spawn_scoped(scope, body);
            broken = broken.or(spawned.err());
        }
        // From here on the channel lives as long as somebody can answer.
        let device = polling.map(|polling| Device::new(polling, events));
        let answered = match broken {
            Some(error) => ended(no_thread(&error)),
            None => wait(login, &arrived, deadline, device),
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
fn wait<'a>(
    login: &Login<'_>,
    arrived: &Receiver<Event>,
    deadline: Duration,
    mut device: Option<Device<'a>>,
) -> Answered<'a> {
    let mut failed = None;
    loop {
        let polled = match arrived.recv_timeout(LOOK) {
            Ok(Event::Callback(request, callback)) => return of_callback(login, request, callback),
            Ok(Event::Pasted(Ok(code))) => {
                return Answered {
                    won: Ok(Won::Code(code)),
                    browser: None,
                };
            }
            Ok(Event::Pasted(Err(error))) => return ended(denied(login, &error.to_string())),
            Ok(Event::Polled(answer)) => Some(answer),
            Err(RecvTimeoutError::Disconnected) if login.ui.given_up() => {
                return ended(given_up(login));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return ended(failed.unwrap_or_else(|| input_ended(login)));
            }
            Err(RecvTimeoutError::Timeout) => None,
        };
        if let Some(waiting) = device.take() {
            match waiting.go_on(polled) {
                Turn::Wait(waiting) => device = Some(waiting),
                Turn::Over(error) => {
                    login.ui.show(LoginEvent::DeviceFailed {
                        reason: &error.to_string(),
                    });
                    failed = Some(error);
                }
                Turn::End(answered) => return answered,
            }
        }
        if login.ui.given_up() {
            return ended(given_up(login));
        }
        if login.host().clock.monotonic() >= deadline {
            return ended(too_late(login));
        }
    }
}

/// The code for another device among those that are waited for.
struct Device<'a> {
    polling: Box<Polling<'a>>,
    events: Sender<Event>,
    /// When the next poll is due, monotonic; `None` while one is on its way.
    due: Option<Duration>,
}

/// What a look at the code for another device came to.
enum Turn<'a> {
    Wait(Device<'a>),
    Over(SinkError),
    End(Answered<'a>),
}

impl<'a> Device<'a> {
    fn new(polling: Polling<'a>, events: Sender<Event>) -> Self {
        let mut new = Self {
            polling: Box::new(polling),
            events,
            due: None,
        };
        new.due = new.next();
        new
    }

    fn now(&self) -> Duration {
        self.polling.login().host().clock.monotonic()
    }

    fn next(&self) -> Option<Duration> {
        self.polling.pause().map(|pause| self.now().saturating_add(pause))
    }

    /// Takes the answer to a poll, or sends the next where it is due.
    fn go_on(mut self, polled: Option<std::result::Result<Answer, Unanswered>>) -> Turn<'a> {
        let Some(answer) = polled else {
            if self.due.is_some_and(|due| due <= self.now()) {
                self.due = None;
                self.poll();
            }
            return Turn::Wait(self);
        };
        match self.polling.read(answer) {
            // Being asked to slow down is nothing to tell beside a prompt.
            Step::Again | Step::Slower => {}
            Step::Approved(approval) => {
                return Turn::End(Answered {
                    won: Ok(Won::Device(self.polling, approval)),
                    browser: None,
                });
            }
            Step::Denied(error) => return Turn::End(ended(error)),
            Step::Over(error) => return Turn::Over(error),
        }
        self.due = self.next();
        match self.due {
            Some(_) => Turn::Wait(self),
            None => Turn::Over(self.polling.expired()),
        }
    }

    /// One poll, in a thread that nobody waits for: when another answer wins, it must not be held up by this one.
    fn poll(&self) {
        let events = self.events.clone();
        let (url, request) = match self.polling.request() {
            Ok(request) => request,
            Err(unanswered) => {
                let _ = events.send(Event::Polled(Err(unanswered)));
                return;
            }
        };
        let host = self.polling.login().host().clone();
        let body = move || {
            let _ = events.send(Event::Polled(exchange::send_once(&host, &url, &request)));
        };
        let spawned = thread::Builder::new().name("login-poll".to_owned()).spawn(body);
        if let Err(error) = spawned {
            let unanswered = Unanswered::NotSent(error.to_string());
            let _ = self.events.send(Event::Polled(Err(unanswered)));
        }
    }
}

fn ended<'a>(error: SinkError) -> Answered<'a> {
    Answered {
        won: Err(error),
        browser: None,
    }
}

fn of_callback<'a>(login: &Login<'_>, request: CallbackRequest, callback: Callback) -> Answered<'a> {
    let won = match callback {
        Callback::Code(code) => Ok(Won::Code(code)),
        refusal => Err(denied(login, &refusal.to_string())),
    };
    Answered {
        won,
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

/// The end of a login that the person stopped.
pub(crate) fn given_up(login: &Login<'_>) -> SinkError {
    let message = format!(
        "the login at {} was given up; nothing was stored",
        login.definition.name
    );
    SinkError::new(ErrorKind::Failed, "login_given_up", message)
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
