//! The device flow (RFC 8628) and two dialects of it: the user types a short code on any device, we poll.
//!
//! | dialect | asks with | polls with | pending is |
//! |---|---|---|---|
//! | `Rfc8628` (GitHub, Qwen, xAI) | client id, scope, challenge | device code | `authorization_pending` |
//! | `OpenAi` | JSON client id | device auth id and user code | status 403 or 404; success is a code to exchange |
//! | `UserCode` (minimax) | `response_type=code`, challenge, state | user code | `status` other than `success` |
//!
//! Requests and meanings only: who waits, and when it has been too long, is the caller's with [`PollSchedule`].

mod schedule;

use std::time::Duration;

use http::{Request, Response, StatusCode};
use serde_json::{Map, Value};
use thiserror::Error;
use tokensink_types::{Body, Secret, UnixMillis};
use url::Url;

use crate::answer::{ErrorBody, number_of, object, text_of, words};
use crate::callback::AuthorizationCode;
use crate::pkce::{CodeChallenge, CodeVerifier, StateParam};
use crate::request::{BodyFormat, Endpoint, Fields, RequestError};
use crate::text::tidy;
use crate::token::{Refusal, TokenGrant, given, instant_of};
pub use schedule::PollSchedule;

/// How long a user code lives where the server does not say (spec.md 11.3).
const EXPIRES_IN_DEFAULT: Duration = Duration::from_secs(900);

/// Longest time a login is waited for, whatever the server says.
const EXPIRES_IN_MAX: Duration = Duration::from_secs(24 * 3600);

/// The interval between polls where the server does not say (RFC 8628 section 3.2).
const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);

/// minimax's interval where it does not say.
const USER_CODE_INTERVAL_DEFAULT: Duration = Duration::from_secs(2);

/// Shortest interval between polls (spec.md 11.3).
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Which protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceDialect {
    /// RFC 8628, also with PKCE (Qwen) and with errors under status 200 (GitHub).
    #[default]
    Rfc8628,
    /// OpenAI's, spec.md 11.3: ends in a code and its verifier, which are exchanged at the token endpoint.
    OpenAi,
    /// minimax's, grant `urn:ietf:params:oauth:grant-type:user_code`, with PKCE and state.
    UserCode,
}

/// A provider's device flow.
#[derive(Debug, Clone, Copy)]
pub struct DeviceFlow<'a> {
    /// Which protocol.
    pub dialect: DeviceDialect,
    /// Where the flow begins: `device_authorization_endpoint` of RFC 8628.
    pub authorization: Endpoint<'a>,
    /// Where it is polled: the token endpoint; for OpenAI see [`OpenAiDeviceUrls`].
    pub poll: Endpoint<'a>,
    /// What is asked for.
    pub scopes: &'a [String],
    /// Where the user goes when the answer does not say (OpenAI).
    pub verification_uri: Option<&'a str>,
}

/// OpenAI's device endpoints, which all follow from one (spec.md 11.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAiDeviceUrls {
    /// Where the flow begins.
    pub user_code_endpoint: Url,
    /// Where it is polled.
    pub poll_endpoint: Url,
    /// Where the user types the code.
    pub verification_uri: Url,
    /// The redirect URI for the exchange of the code.
    pub redirect_uri: Url,
}

impl OpenAiDeviceUrls {
    const USER_CODE_PATH: &'static str = "/api/accounts/deviceauth/usercode";

    /// The endpoints of an issuer such as `https://auth.openai.com`.
    #[must_use]
    pub fn of_issuer(issuer: &Url) -> Self {
        let base = issuer.path().trim_end_matches('/');
        let at = |path: &str| {
            let mut url = issuer.clone();
            url.set_query(None);
            url.set_fragment(None);
            url.set_path(&format!("{base}{path}"));
            url
        };
        Self {
            user_code_endpoint: at(Self::USER_CODE_PATH),
            poll_endpoint: at("/api/accounts/deviceauth/token"),
            verification_uri: at("/codex/device"),
            redirect_uri: at("/deviceauth/callback"),
        }
    }

    /// The endpoints beside a user code endpoint, `None` when its path is not OpenAI's.
    #[must_use]
    pub fn beside(user_code_endpoint: &Url) -> Option<Self> {
        let base = user_code_endpoint.path().strip_suffix(Self::USER_CODE_PATH)?;
        let mut issuer = user_code_endpoint.clone();
        issuer.set_path(base);
        Some(Self::of_issuer(&issuer))
    }
}

/// What the user is shown, and what is polled with (RFC 8628 section 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAuthorization {
    /// What identifies this login to the server: `device_code`, OpenAI's `device_auth_id`, minimax's user code.
    pub device_code: Secret,
    /// What the user types.
    pub user_code: String,
    /// Where.
    pub verification_uri: Url,
    /// The same with the code in it, for a link or a QR code.
    pub verification_uri_complete: Option<Url>,
    /// How long the codes live; 15 min where the server does not say, at most a day.
    pub expires_in: Duration,
    /// How long to wait between polls; 5 s (minimax 2 s) where the server does not say, at least 1 s.
    pub interval: Duration,
}

/// Why a device flow could not begin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// OpenAI answers 404 where device login is switched off (spec.md 11.3).
    #[error(
        "device login is not enabled for this account; allow device code login in the ChatGPT security settings, or \
         log in by browser"
    )]
    NotEnabled,
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The server said yes, but something is missing or wrong in its answer.
    #[error("the device authorization endpoint's answer has no usable {field} ({words})")]
    Unusable {
        /// The field.
        field: &'static str,
        /// What the server said, cleaned.
        words: String,
    },
    /// The answer belongs to another request.
    #[error(
        "State mismatch: the device authorization endpoint answered another request; begin the login again"
    )]
    StateMismatch,
}

/// What a poll said (RFC 8628 section 3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicePoll {
    /// The user has not decided. Poll again after the interval.
    Pending,
    /// Poll again, but slower: [`PollSchedule::slow_down`]. Also for 429 and server errors, which end no login.
    SlowDown,
    /// The user said no.
    Denied {
        /// The server's words, cleaned, or empty.
        description: String,
    },
    /// The code was not used in time. Begin again.
    Expired,
    /// Logged in.
    Granted(Box<TokenGrant>),
    /// Logged in: exchange this at the token endpoint with the redirect URI of [`OpenAiDeviceUrls`].
    Code {
        /// The authorization code.
        code: AuthorizationCode,
        /// The verifier, which the server made up.
        verifier: CodeVerifier,
    },
    /// It cannot succeed any more.
    Failed {
        /// The HTTP status.
        status: u16,
        /// The server's code, cleaned, if it gave one.
        code: Option<String>,
        /// The server's words, cleaned, or empty.
        description: String,
    },
}

impl DeviceFlow<'_> {
    /// The request that begins the flow (RFC 8628 section 3.1). `challenge` where the provider wants PKCE; `state`
    /// for minimax.
    ///
    /// # Errors
    /// When the endpoint or a header is impossible.
    pub fn authorization_request(
        &self,
        challenge: Option<&CodeChallenge>,
        state: Option<&StateParam>,
    ) -> Result<Request<Body>, RequestError> {
        let client = self.authorization.client;
        if self.dialect == DeviceDialect::OpenAi {
            return json(self.authorization).post(Fields::default().client(client));
        }
        let scope = self.scopes.join(" ");
        let mut fields = Fields::default();
        if self.dialect == DeviceDialect::UserCode {
            fields = fields.add("response_type", "code");
        }
        fields = fields.client(client).add("scope", &scope);
        if let Some(challenge) = challenge {
            fields = fields
                .add("code_challenge", challenge.as_str())
                .add("code_challenge_method", CodeChallenge::METHOD);
        }
        if self.dialect == DeviceDialect::UserCode {
            fields = fields.add_secret("state", state.map(StateParam::secret));
        }
        self.authorization.post(fields)
    }

    /// Reads the answer to [`Self::authorization_request`]. `state` as given there; `now` for expiries that are dates.
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub fn parse_authorization(
        &self,
        response: &Response<Body>,
        state: Option<&StateParam>,
        now: UnixMillis,
    ) -> Result<DeviceAuthorization, DeviceError> {
        let status = response.status();
        if self.dialect == DeviceDialect::OpenAi && status == StatusCode::NOT_FOUND {
            return Err(DeviceError::NotEnabled);
        }
        let sent: Vec<&Secret> = self.authorization.client.client_secret.into_iter().collect();
        let fields = status.is_success().then(|| object(response)).flatten();
        let Some(fields) = fields.filter(|fields| !fields.contains_key("error")) else {
            return Err(DeviceError::Refused(Refusal::read(response, &sent)));
        };
        if let Some(state) = state
            && self.dialect == DeviceDialect::UserCode
            && !state.matches(fields.get("state").and_then(Value::as_str).unwrap_or_default())
        {
            return Err(DeviceError::StateMismatch);
        }
        let answer = Answer(&fields);
        self.read_authorization(&answer, now)
            .map_err(|field| DeviceError::Unusable {
                field,
                words: ErrorBody::read(response, &sent).words(),
            })
    }

    fn read_authorization(
        &self,
        answer: &Answer<'_>,
        now: UnixMillis,
    ) -> Result<DeviceAuthorization, &'static str> {
        let (code_names, expiry_name, interval_default): (&[&str], _, _) = match self.dialect {
            DeviceDialect::Rfc8628 => (&["device_code"], "expires_in", INTERVAL_DEFAULT),
            DeviceDialect::OpenAi => (&["device_auth_id"], "expires_in", INTERVAL_DEFAULT),
            DeviceDialect::UserCode => (&["user_code"], "expired_in", USER_CODE_INTERVAL_DEFAULT),
        };
        let user_code = answer.text(&["user_code", "usercode"]).ok_or("user_code")?;
        let device_code = answer.text(code_names).ok_or(match self.dialect {
            DeviceDialect::OpenAi => "device_auth_id",
            DeviceDialect::Rfc8628 | DeviceDialect::UserCode => "device_code",
        })?;
        let uri = answer.text(&["verification_uri", "verification_url"]);
        let uri = uri.or_else(|| self.verification_uri.map(str::to_owned));
        let expires_at = answer.value(expiry_name).and_then(|value| instant_of(value, now));
        Ok(DeviceAuthorization {
            device_code: Secret::new(device_code),
            user_code: tidy(&user_code, &[]),
            verification_uri: uri.as_deref().and_then(web_page).ok_or("verification_uri")?,
            verification_uri_complete: answer
                .text(&["verification_uri_complete"])
                .and_then(|uri| web_page(&uri)),
            expires_in: expires_at.map_or(EXPIRES_IN_DEFAULT, |at| now.until(at).min(EXPIRES_IN_MAX)),
            interval: self
                .interval(answer)
                .unwrap_or(interval_default)
                .max(INTERVAL_MIN),
        })
    }

    /// The server's interval. minimax counts in milliseconds; nobody asks for 100 s between polls, so a number from
    /// 100 on is one of these.
    fn interval(&self, answer: &Answer<'_>) -> Option<Duration> {
        let number = number_of(answer.value("interval")?).filter(|number| *number > 0.0)?;
        let in_millis = self.dialect == DeviceDialect::UserCode && number >= 100.0;
        let seconds = if in_millis { number / 1000.0 } else { number };
        Some(Duration::from_secs_f64(seconds.min(EXPIRES_IN_MAX.as_secs_f64())))
    }

    /// The request that asks whether the user has decided (RFC 8628 section 3.4). `verifier` belongs to the
    /// challenge that was given at the beginning.
    ///
    /// # Errors
    /// When the endpoint or a header is impossible, or the device code is blank.
    pub fn poll_request(
        &self,
        authorization: &DeviceAuthorization,
        verifier: Option<&CodeVerifier>,
    ) -> Result<Request<Body>, RequestError> {
        let code = Some(given("device_code", &authorization.device_code)?);
        if self.dialect == DeviceDialect::OpenAi {
            let fields = Fields::default().add_secret("device_auth_id", code);
            return json(self.poll).post(fields.add("user_code", &authorization.user_code));
        }
        let (grant_type, code_name) = match self.dialect {
            DeviceDialect::UserCode => ("urn:ietf:params:oauth:grant-type:user_code", "user_code"),
            DeviceDialect::Rfc8628 | DeviceDialect::OpenAi => {
                ("urn:ietf:params:oauth:grant-type:device_code", "device_code")
            }
        };
        let fields = Fields::default()
            .add("grant_type", grant_type)
            .client(self.poll.client)
            .add_secret(code_name, code)
            .add_secret("code_verifier", verifier.map(CodeVerifier::secret));
        self.poll.post(fields)
    }

    /// Reads the answer to a poll. `sent` are the secrets of the request; `sent_at` is when it was sent.
    #[must_use]
    pub fn parse_poll(&self, response: &Response<Body>, sent: &[&Secret], sent_at: UnixMillis) -> DevicePoll {
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            // RFC 8628 section 3.5 asks for slower polls after failures; the login itself lives on. A decision of
            // the server counts even with such a status.
            return match by_code(response, sent) {
                Some(decided) if decided != DevicePoll::Pending => decided,
                _ => DevicePoll::SlowDown,
            };
        }
        match self.dialect {
            DeviceDialect::Rfc8628 => poll_rfc8628(response, sent),
            DeviceDialect::OpenAi => poll_openai(response, sent),
            DeviceDialect::UserCode => poll_user_code(response, sent, sent_at),
        }
    }
}

fn poll_rfc8628(response: &Response<Body>, sent: &[&Secret]) -> DevicePoll {
    let grant = response
        .status()
        .is_success()
        .then(|| TokenGrant::parse(response));
    match grant {
        Some(Ok(grant)) => DevicePoll::Granted(Box::new(grant)),
        // GitHub answers errors with status 200.
        Some(Err(_)) | None => by_code(response, sent).unwrap_or_else(|| failed(response, sent)),
    }
}

fn poll_openai(response: &Response<Body>, sent: &[&Secret]) -> DevicePoll {
    match response.status() {
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => DevicePoll::Pending,
        status if status.is_success() => {
            let fields = object(response).unwrap_or_default();
            let answer = Answer(&fields);
            match (
                answer.text(&["authorization_code"]),
                answer.text(&["code_verifier"]),
            ) {
                (Some(code), Some(verifier)) => DevicePoll::Code {
                    code: AuthorizationCode::new(Secret::new(code)),
                    verifier: CodeVerifier::received(Secret::new(verifier)),
                },
                _ => failed(response, sent),
            }
        }
        _ => by_code(response, sent).unwrap_or_else(|| failed(response, sent)),
    }
}

fn poll_user_code(response: &Response<Body>, sent: &[&Secret], sent_at: UnixMillis) -> DevicePoll {
    if !response.status().is_success() {
        return by_code(response, sent).unwrap_or_else(|| failed(response, sent));
    }
    let Some(fields) = object(response) else {
        return failed(response, sent);
    };
    let state = Answer(&fields).text(&["status"]);
    match state.as_deref() {
        Some("error") => failed(response, sent),
        Some("success") | None => match TokenGrant::parse(response) {
            Ok(grant) => DevicePoll::Granted(Box::new(grant.with_expiry_from("/expired_in", sent_at))),
            Err(_) => by_code(response, sent).unwrap_or_else(|| failed(response, sent)),
        },
        Some(_) => DevicePoll::Pending,
    }
}

/// The decisions that have a code (RFC 8628 section 3.5), whatever the status.
fn by_code(response: &Response<Body>, sent: &[&Secret]) -> Option<DevicePoll> {
    let error = ErrorBody::read(response, sent);
    let known = [
        "authorization_pending",
        "slow_down",
        "access_denied",
        "authorization_declined",
        "expired_token",
    ];
    Some(match error.code_among(&known)? {
        "authorization_pending" => DevicePoll::Pending,
        "slow_down" => DevicePoll::SlowDown,
        "expired_token" => DevicePoll::Expired,
        // `access_denied`, and Microsoft's name for it.
        _ => DevicePoll::Denied {
            description: error.description,
        },
    })
}

fn failed(response: &Response<Body>, sent: &[&Secret]) -> DevicePoll {
    let refusal = Refusal::read(response, sent);
    DevicePoll::Failed {
        status: refusal.status,
        code: refusal.code,
        description: refusal.description,
    }
}

impl DevicePoll {
    /// A sentence for people where the login is over without success, else `None`.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Denied { description } => Some(format!(
                "The provider refused the login ({})",
                words(Some("access_denied"), description)
            )),
            Self::Expired => Some("The code was not entered in time; begin the login again".to_owned()),
            Self::Failed {
                status,
                code,
                description,
            } => Some(format!(
                "The device login failed: the provider answered {status} ({})",
                words(code.as_deref(), description)
            )),
            Self::Pending | Self::SlowDown | Self::Granted(_) | Self::Code { .. } => None,
        }
    }
}

/// OpenAI's endpoints take JSON only.
fn json(endpoint: Endpoint<'_>) -> Endpoint<'_> {
    Endpoint {
        format: BodyFormat::Json,
        ..endpoint
    }
}

/// A page that a browser may be sent to; anything but http and https is none.
fn web_page(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Fields of an answer by several names.
struct Answer<'a>(&'a Map<String, Value>);

impl Answer<'_> {
    fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| text_of(self.value(name)?))
    }
}

#[cfg(test)]
mod tests;
