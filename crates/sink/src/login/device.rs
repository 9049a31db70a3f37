//! The login with a code that is typed on another device (RFC 8628): shows the code and polls until the user has
//! decided or the code has ended. Needs neither a terminal nor a browser here.

use tokensink_oauth::device::{DeviceAuthorization, DeviceDialect, DeviceError, DevicePoll, PollSchedule};
use tokensink_oauth::pkce::{CodeChallenge, CodeVerifier, StateParam};
use tokensink_providers::{DeviceFlow, DeviceLogin};
use tokensink_types::Secret;
use url::Url;

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::LoginEvent;
use crate::login::choose::login_of;
use crate::login::exchange::{self, Unanswered, endpoint_of};
use crate::login::pkce::bytes;
use crate::login::run::{Granted, Login, build_error};

/// Logs in by device code.
///
/// # Errors
/// With the provider's own words and the next step.
pub(crate) fn run(login: &Login<'_>, flow: &DeviceFlow) -> Result<Granted> {
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
    let authorization = begin(login, &device, verifier.as_ref(), state.as_ref())?;
    login.ui.show(LoginEvent::DeviceCode {
        user_code: &authorization.user_code,
        verification_uri: authorization.verification_uri.as_str(),
        complete: authorization.verification_uri_complete.as_ref().map(Url::as_str),
        expires_in: authorization.expires_in,
    });
    let poller = Poller {
        login,
        flow,
        device: &device,
        authorization: &authorization,
        verifier: verifier.as_ref(),
    };
    poller.poll()
}

fn begin(
    login: &Login<'_>,
    device: &DeviceLogin<'_>,
    verifier: Option<&CodeVerifier>,
    state: Option<&StateParam>,
) -> Result<DeviceAuthorization> {
    let wire = device.wire();
    let challenge = verifier.map(CodeChallenge::s256);
    let request = wire
        .authorization_request(challenge.as_ref(), state)
        .map_err(|error| build_error(&error.into()))?;
    let endpoint = endpoint_of(&request);
    let answer = exchange::send(login.host(), &request)
        .map_err(|error| error.into_error(&format!("{endpoint} gave no code"), &login.again()))?;
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

struct Poller<'a> {
    login: &'a Login<'a>,
    flow: &'a DeviceFlow,
    device: &'a DeviceLogin<'a>,
    authorization: &'a DeviceAuthorization,
    verifier: Option<&'a CodeVerifier>,
}

impl Poller<'_> {
    fn poll(&self) -> Result<Granted> {
        let clock = &self.login.host().clock;
        let mut schedule = PollSchedule::new(self.authorization, clock.monotonic());
        let mut trouble = None;
        while let Some(pause) = schedule.next(clock.monotonic()) {
            clock.sleep(pause);
            match self.poll_once() {
                Ok((DevicePoll::Pending, _)) => trouble = None,
                Ok((DevicePoll::SlowDown, _)) => {
                    trouble = None;
                    schedule.slow_down();
                    self.login.ui.show(LoginEvent::SlowedDown);
                }
                Ok((decided, sent_at)) => return self.decided(decided, sent_at),
                // RFC 8628 section 3.5: after a lost connection the polls go on, more slowly.
                Err(unanswered) => {
                    trouble = Some(unanswered.reason());
                    schedule.slow_down();
                }
            }
        }
        Err(self.over("device_expired", &expired(trouble.as_deref())))
    }

    fn poll_once(&self) -> std::result::Result<(DevicePoll, tokensink_types::UnixMillis), Unanswered> {
        let wire = self.device.wire();
        let request = wire
            .poll_request(self.authorization, self.verifier)
            .map_err(|error| Unanswered::NotSent(error.to_string()))?;
        let url =
            Url::parse(&request.uri().to_string()).map_err(|error| Unanswered::NotSent(error.to_string()))?;
        let answer = exchange::send_once(self.login.host(), &url, &request)?;
        Ok((
            wire.parse_poll(&answer.response, &self.sent(), answer.sent_at),
            answer.sent_at,
        ))
    }

    fn sent(&self) -> Vec<&Secret> {
        let verifier = self.verifier.map(CodeVerifier::secret);
        std::iter::once(&self.authorization.device_code)
            .chain(verifier)
            .collect()
    }

    fn decided(&self, poll: DevicePoll, sent_at: tokensink_types::UnixMillis) -> Result<Granted> {
        let failure = poll.failure();
        match poll {
            DevicePoll::Granted(grant) => Ok(Granted {
                grant: *grant,
                sent_at,
            }),
            DevicePoll::Code { code, verifier } => {
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
                let (grant, sent_at) =
                    exchange::tokens(self.login.host(), &request, &sent, &self.login.again())?;
                Ok(Granted { grant, sent_at })
            }
            DevicePoll::Expired => Err(self.over("device_expired", &failure.unwrap_or_default())),
            DevicePoll::Denied { .. } => Err(self.over("login_denied", &failure.unwrap_or_default())),
            DevicePoll::Failed { .. } | DevicePoll::Pending | DevicePoll::SlowDown => {
                Err(self.over("device_failed", &failure.unwrap_or_default()))
            }
        }
    }

    fn over(&self, code: &'static str, message: &str) -> SinkError {
        SinkError::new(ErrorKind::Failed, code, message.to_owned()).with_fix(self.login.again())
    }
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
