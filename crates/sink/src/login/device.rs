//! The login with a code that is typed on another device (RFC 8628): shows the code and polls until the user has
//! decided or the code has ended. Needs neither a terminal nor a browser here.
//!
//! [`run`] is this login alone. Beside a login in a browser, [`Polling`] is one of those that race; see `race.rs`.

use std::time::Duration;

use http::Request;
use tokensink_oauth::callback::AuthorizationCode;
use tokensink_oauth::device::{DeviceAuthorization, DeviceDialect, DeviceError, DevicePoll, PollSchedule};
use tokensink_oauth::pkce::{CodeChallenge, CodeVerifier, StateParam};
use tokensink_providers::{DeviceFlow, DeviceLogin, OAuthClient};
use tokensink_types::{Body, Secret, UnixMillis};
use url::Url;

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::LoginEvent;
use crate::login::choose::login_of;
use crate::login::exchange::{self, Answer, Unanswered, endpoint_of};
use crate::login::pkce::bytes;
use crate::login::race::given_up;
use crate::login::run::{Granted, Login, build_error};

/// How long a code is waited for while a login in a browser waits for it: connecting, then the answer.
const SHORT: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(6));

/// How long a pause goes on before it is looked whether the person has given up.
const LOOK: Duration = Duration::from_millis(200);

/// How much of a login this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it: the request for a code is tried several times.
    Alone,
    /// One of several ways: the request for a code is made once and soon given up. The others end after this time.
    Beside(Duration),
}

/// What a poll came to.
pub(crate) enum Step {
    /// Nothing yet.
    Again,
    /// The server asked for a longer pause, and is given one.
    Slower,
    /// The user has approved.
    Approved(Approval),
    /// The user has refused.
    Denied(SinkError),
    /// This way leads nowhere any more.
    Over(SinkError),
}

/// What an approval gives: tokens, or what is exchanged for them.
pub(crate) enum Approval {
    Tokens(Granted),
    Code {
        code: AuthorizationCode,
        verifier: CodeVerifier,
    },
}

/// Logs in by device code.
///
/// # Errors
/// With the provider's own words and the next step.
pub(crate) fn run(login: &Login<'_>, flow: &DeviceFlow) -> Result<Granted> {
    let mut polling = Polling::begin(login, flow, Part::Alone)?;
    while let Some(pause) = polling.pause() {
        if !slept(login, pause) {
            return Err(given_up(login));
        }
        let answer = polling
            .request()
            .and_then(|(url, request)| exchange::send_once(login.host(), &url, &request));
        match polling.read(answer) {
            Step::Again => {}
            Step::Slower => login.ui.show(LoginEvent::SlowedDown),
            Step::Approved(approval) => return polling.redeem(approval),
            Step::Denied(error) | Step::Over(error) => return Err(error),
        }
    }
    Err(polling.expired())
}

/// Waits until the next poll is due; false when the person gives up meanwhile.
fn slept(login: &Login<'_>, pause: Duration) -> bool {
    let clock = &login.host().clock;
    let due = clock.monotonic().saturating_add(pause);
    loop {
        let left = due.saturating_sub(clock.monotonic());
        if login.ui.given_up() {
            return false;
        }
        if left.is_zero() {
            return true;
        }
        clock.sleep(left.min(LOOK));
    }
}

/// A code that was shown and is polled for.
pub(crate) struct Polling<'a> {
    login: &'a Login<'a>,
    flow: &'a DeviceFlow,
    device: DeviceLogin<'a>,
    verifier: Option<CodeVerifier>,
    authorization: DeviceAuthorization,
    schedule: PollSchedule,
    trouble: Option<String>,
}

impl<'a> Polling<'a> {
    /// Asks for a code and shows it.
    ///
    /// # Errors
    /// When there is none to be had, with the provider's own words and the next step.
    pub(crate) fn begin(login: &'a Login<'a>, flow: &'a DeviceFlow, part: Part) -> Result<Self> {
        let env = |name: &str| login.host().env.var(name);
        let device = flow.login(&env).map_err(|error| build_error(&error))?;
        let random = &*login.host().random;
        let verifier = match flow.pkce {
            true => Some(CodeVerifier::from_random(bytes(random)?, flow.client.verifier)),
            false => None,
        };
        let state = match flow.dialect {
            DeviceDialect::UserCode => Some(StateParam::hex(bytes(random)?)),
            DeviceDialect::Rfc8628 | DeviceDialect::OpenAi => None,
        };
        let authorization = authorize(login, &device, verifier.as_ref(), state.as_ref(), part)?;
        let expires_in = match part {
            Part::Alone => authorization.expires_in,
            Part::Beside(others) => authorization.expires_in.min(others),
        };
        login.ui.show(LoginEvent::DeviceCode {
            user_code: &authorization.user_code,
            verification_uri: authorization.verification_uri.as_str(),
            complete: authorization.verification_uri_complete.as_ref().map(Url::as_str),
            expires_in,
            beside: part != Part::Alone,
        });
        Ok(Self {
            login,
            flow,
            device,
            verifier,
            schedule: PollSchedule::new(&authorization, login.host().clock.monotonic()),
            authorization,
            trouble: None,
        })
    }

    /// The login that this is.
    pub(crate) fn login(&self) -> &'a Login<'a> {
        self.login
    }

    /// The client that the tokens are for.
    pub(crate) fn client(&self) -> &'a OAuthClient {
        &self.flow.client
    }

    /// How long to wait before the next poll; `None` when the code has ended.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.schedule.next(self.login.host().clock.monotonic())
    }

    /// The next poll.
    pub(crate) fn request(&self) -> std::result::Result<(Url, Request<Body>), Unanswered> {
        let request = self
            .device
            .wire()
            .poll_request(&self.authorization, self.verifier.as_ref())
            .map_err(|error| Unanswered::NotSent(error.to_string()))?;
        Ok((exchange::url_of(&request)?, request))
    }

    /// What the answer to a poll means. After a lost connection the polls go on, more slowly (RFC 8628 section 3.5).
    pub(crate) fn read(&mut self, answer: std::result::Result<Answer, Unanswered>) -> Step {
        let answer = match answer {
            Ok(answer) => answer,
            Err(unanswered) => {
                self.trouble = Some(unanswered.reason());
                self.schedule.slow_down();
                return Step::Again;
            }
        };
        self.trouble = None;
        let poll = self
            .device
            .wire()
            .parse_poll(&answer.response, &self.sent(), answer.sent_at);
        self.step(poll, answer.sent_at)
    }

    fn step(&mut self, poll: DevicePoll, sent_at: UnixMillis) -> Step {
        let failure = poll.failure().unwrap_or_default();
        match poll {
            DevicePoll::Pending => Step::Again,
            DevicePoll::SlowDown => {
                self.schedule.slow_down();
                Step::Slower
            }
            DevicePoll::Granted(grant) => Step::Approved(Approval::Tokens(Granted {
                grant: *grant,
                sent_at,
            })),
            DevicePoll::Code { code, verifier } => Step::Approved(Approval::Code { code, verifier }),
            DevicePoll::Denied { .. } => Step::Denied(self.over("login_denied", &failure)),
            DevicePoll::Expired => Step::Over(self.over("device_expired", &failure)),
            DevicePoll::Failed { .. } => Step::Over(self.over("device_failed", &failure)),
        }
    }

    fn sent(&self) -> Vec<&Secret> {
        let verifier = self.verifier.as_ref().map(CodeVerifier::secret);
        std::iter::once(&self.authorization.device_code)
            .chain(verifier)
            .collect()
    }

    /// Turns an approval into tokens. A code is spent then, whatever comes of it.
    ///
    /// # Errors
    /// With the provider's own words and the next step.
    pub(crate) fn redeem(&self, approval: Approval) -> Result<Granted> {
        let (code, verifier) = match approval {
            Approval::Tokens(granted) => return Ok(granted),
            Approval::Code { code, verifier } => (code, verifier),
        };
        self.login.ui.show(LoginEvent::Exchanging);
        let env = |name: &str| self.login.host().env.var(name);
        let redirect_uri = self
            .flow
            .redirect_uri
            .as_ref()
            .map(Url::as_str)
            .unwrap_or_default();
        let request = self
            .flow
            .client
            .exchange_request(&code, &verifier, redirect_uri, None, &env)
            .map_err(|error| build_error(&error))?;
        let sent = [code.secret(), verifier.secret()];
        let (grant, sent_at) = exchange::tokens(self.login.host(), &request, &sent, &self.login.again())?;
        Ok(Granted { grant, sent_at })
    }

    /// The error for a code that has ended.
    pub(crate) fn expired(&self) -> SinkError {
        self.over("device_expired", &expired(self.trouble.as_deref()))
    }

    fn over(&self, code: &'static str, message: &str) -> SinkError {
        SinkError::new(ErrorKind::Failed, code, message.to_owned()).with_fix(self.login.again())
    }
}

fn authorize(
    login: &Login<'_>,
    device: &DeviceLogin<'_>,
    verifier: Option<&CodeVerifier>,
    state: Option<&StateParam>,
    part: Part,
) -> Result<DeviceAuthorization> {
    let wire = device.wire();
    let challenge = verifier.map(CodeChallenge::s256);
    let request = wire
        .authorization_request(challenge.as_ref(), state)
        .map_err(|error| build_error(&error.into()))?;
    let endpoint = endpoint_of(&request);
    let answer = match part {
        Part::Alone => exchange::send(login.host(), &request),
        Part::Beside(_) => exchange::send_within(login.host(), &request, SHORT),
    };
    let answer =
        answer.map_err(|error| error.into_error(&format!("{endpoint} gave no code"), &login.again()))?;
    wire.parse_authorization(&answer.response, state, answer.sent_at)
        .map_err(|error| {
            let fix = match error {
                DeviceError::NotEnabled => login_of(login.definition),
                _ => login.again(),
            };
            SinkError::new(
                ErrorKind::Failed,
                "device_refused",
                format!("{endpoint}: {error}"),
            )
            .with_fix(fix)
        })
}

fn expired(trouble: Option<&str>) -> String {
    let ended = "The code was not entered in time";
    match trouble {
        Some(trouble) => {
            format!("{ended}, and the last question whether it was could not be asked: {trouble}")
        }
        None => format!("{ended}; begin the login again"),
    }
}
