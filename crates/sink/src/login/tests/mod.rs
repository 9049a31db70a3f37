//! Logins on a machine in memory: a provider `desk` whose answers are scripted, and a person whose answers are too.

#![expect(
    clippy::disallowed_methods,
    reason = "the person's thread really waits until the login no longer needs it"
)]

mod anthropic;
mod choose;
mod device;
mod keep;
mod names;
mod page;
mod pkce;
mod race;
mod sockets;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use serde_json::{Value, json};
use tokensink_host::Clock as _;
use tokensink_testkit::{FakeClock, Scripted};
use tokensink_types::Body;
use url::Url;

use crate::error::{Result, SinkError};
use crate::login::{Cancel, LoginEvent, LoginOutcome, LoginRequest, LoginUi};
use crate::sink::Sink;
use crate::world::{World, agent, id};

/// A provider whose browser login ends on a page of its own, with a device login beside it.
pub(crate) const DESK: &str = r#"
id = "desk"
name = "Desk"
billing = "subscription"
notice = "Desk wants to be asked first."
[api]
kind = "openai-chat"
base_url = "https://api.desk.test/v1"
models = ["desk-1"]
[[auth]]
id = "oauth"
kind = "pkce"
client_id = "desk-client"
authorization_endpoint = "https://desk.test/auth"
token_endpoint = "https://desk.test/token"
redirect_uri = "https://desk.test/shown"
scopes = ["openid", "email"]
identity = { from = "response", account = "/account/uuid", email = "/account/email_address", plan = "/plan" }
rotation = "always"
terminal_errors = ["invalid_grant"]
[[auth]]
id = "device"
kind = "device"
client_id = "desk-client"
device_authorization_endpoint = "https://desk.test/device"
token_endpoint = "https://desk.test/token"
identity = { from = "response", account = "/account/uuid", email = "/account/email_address" }
[[auth]]
id = "token"
kind = "token"
[[auth]]
id = "api-key"
kind = "api_key"
"#;

/// A text that somebody pastes, made from the address that was shown.
type Paste = Box<dyn Fn(&Url) -> String + Send + Sync>;

/// What the person does when there is nothing more to paste.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Ends the input.
    Leaves,
    /// Sits there until it is over.
    Waits,
    /// Lets the login's whole time go by.
    Sleeps,
}

/// The person.
pub(crate) struct Person {
    interactive: bool,
    pastes: Mutex<VecDeque<Paste>>,
    then: Then,
    clock: FakeClock,
    heard: Mutex<Heard>,
}

/// What was shown.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard {
    pub(crate) url: Option<Url>,
    pub(crate) why_no_browser: Option<String>,
    pub(crate) words: Vec<String>,
}

impl Person {
    pub(crate) fn pasting(world: &World, pastes: Vec<Paste>) -> Self {
        Self {
            interactive: true,
            pastes: Mutex::new(pastes.into()),
            then: Then::Leaves,
            clock: world.test.clock.clone(),
            heard: Mutex::default(),
        }
    }

    pub(crate) fn nobody(world: &World) -> Self {
        Self {
            interactive: false,
            ..Self::pasting(world, Vec::new())
        }
    }

    pub(crate) fn who(world: &World, then: Then) -> Self {
        Self {
            then,
            ..Self::pasting(world, Vec::new())
        }
    }

    fn heard_mut(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard_mut().clone()
    }

    /// The one thing shown that begins with `start`.
    pub(crate) fn said(&self, start: &str) -> String {
        let heard = self.heard();
        let found = heard.words.iter().find(|words| words.starts_with(start));
        found
            .cloned()
            .unwrap_or_else(|| panic!("{start:?} is not among {:?}", heard.words))
    }
}

impl LoginUi for Person {
    fn interactive(&self) -> bool {
        self.interactive
    }

    fn show(&self, event: LoginEvent<'_>) {
        let mut heard = self.heard_mut();
        let words = match event {
            LoginEvent::Notice(text) => format!("notice {text}"),
            LoginEvent::OpenUrl { url, opened, why_not } => {
                heard.url = Some(Url::parse(url).unwrap());
                heard.why_no_browser = why_not.map(str::to_owned);
                format!("open opened={opened}")
            }
            LoginEvent::DeviceCode {
                user_code,
                verification_uri,
                complete,
                expires_in,
                beside,
            } => {
                let device = if beside { "or device" } else { "device" };
                format!(
                    "{device} {user_code} {verification_uri} {complete:?} {}",
                    expires_in.as_secs()
                )
            }
            LoginEvent::DeviceFailed { reason } => format!("no device {reason}"),
            LoginEvent::Listening { uri } => format!("listening {uri}"),
            LoginEvent::ListenerFailed { reason } => format!("deaf {reason}"),
            LoginEvent::PasteRefused { reason } => format!("refused {reason}"),
            LoginEvent::Exchanging => "exchanging".to_owned(),
            LoginEvent::SlowedDown => "slower".to_owned(),
            LoginEvent::Plugin { plugin, text } => format!("plugin {plugin} {text}"),
        };
        heard.words.push(words);
    }

    fn ask_paste(&self, prompt: &str, cancel: &Cancel) -> Option<String> {
        assert_eq!(prompt, "Paste the redirect URL (or authorization code)");
        let next = self
            .pastes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        if let Some(paste) = next {
            let url = self
                .heard()
                .url
                .expect("the address is shown before anything is asked");
            return Some(paste(&url));
        }
        match self.then {
            Then::Leaves => return None,
            Then::Waits => {}
            Then::Sleeps => self.clock.sleep(Duration::from_secs(901)),
        }
        while !cancel.is_set() {
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

/// The parameter `name` of an address.
pub(crate) fn param(url: &Url, name: &str) -> String {
    let found = url.query_pairs().find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// The text itself.
pub(crate) fn text(paste: &'static str) -> Paste {
    Box::new(move |_| paste.to_owned())
}

/// `code#state` with the right state.
pub(crate) fn code_and_state(code: &'static str) -> Paste {
    Box::new(move |url| format!("{code}#{}", param(url, "state")))
}

/// A machine with `desk`, a desktop, and nobody logged in.
pub(crate) fn world() -> World {
    let world = World::new();
    world.put("tokensink/providers/desk.toml", DESK);
    world.test.env.set("DISPLAY", ":0");
    world
}

pub(crate) fn request() -> LoginRequest {
    LoginRequest {
        agent: agent("main"),
        provider: "desk".to_owned(),
        method: None,
        profile_id: None,
        set_default: false,
        device_code: false,
        no_browser: false,
    }
}

/// A token answer for `name`, account id `uuid-<name>`.
pub(crate) fn granted(name: &str) -> Scripted {
    granted_to(name, &format!("uuid-{name}"), &format!("{name}@example.com"))
}

/// A token answer for an account; `name` tells its tokens apart.
pub(crate) fn granted_to(name: &str, account: &str, email: &str) -> Scripted {
    let body = json!({
        "token_type": "Bearer",
        "access_token": format!("fresh-access-{name}-canary"),
        "refresh_token": format!("fresh-refresh-{name}-canary"),
        "expires_in": 3600,
        "plan": "plus",
        "account": {"uuid": account, "email_address": email},
    });
    Scripted::json(200, &body.to_string())
}

/// Logs in with one paste, the token endpoint answering for `name`.
pub(crate) fn log_in(world: &World, sink: &Sink, name: &str, request: &LoginRequest) -> Result<LoginOutcome> {
    world.test.transport.push(granted(name));
    sink.login(
        request,
        &Person::pasting(world, vec![code_and_state("code-canary")]),
    )
}

/// The body of the `n`-th request as text.
pub(crate) fn body(world: &World, n: usize) -> String {
    body_of(&world.test.transport.requests()[n])
}

pub(crate) fn body_of(request: &Request<Body>) -> String {
    String::from_utf8(request.body().expose().to_vec()).unwrap()
}

/// An answer of the token endpoint as a handler gives it.
pub(crate) fn response(status: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .body(Body::new(body.to_string()))
        .unwrap()
}

/// Everything that an error tells, with its fix.
pub(crate) fn told(error: &SinkError) -> String {
    let told = format!("{error} | {}", error.fix().unwrap_or_default());
    assert!(!told.contains("canary"), "a secret is told: {told}");
    assert!(
        !format!("{error:?}").contains("canary"),
        "a secret is in the error: {error:?}"
    );
    told
}

/// The access token that an agent is given now.
pub(crate) fn access(sink: &Sink, profile: &str) -> String {
    let want = crate::lease::Want::Profile(id(profile));
    let lease = sink
        .acquire(&crate::lease::AcquireRequest::new(agent("main"), want))
        .unwrap();
    lease.secret.expose().to_owned()
}
