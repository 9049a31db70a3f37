//! Sending what a login sends, and what it means when that fails.
//!
//! What failed before a byte left is tried again at once, a few times: it is free. What may have arrived is never sent
//! again: an authorization code works once, and a second try would tell the user a wrong reason.

use std::time::Duration;

use http::{Request, Response};
use tokensink_host::{ConnectError, ExchangeError, Host, Limits};
use tokensink_oauth::token::{self, Refusal, TokenGrant};
use tokensink_types::{Body, Secret, UnixMillis};
use url::Url;

use crate::error::{ErrorKind, SinkError};
use crate::flight::{ANSWER_BYTES, CONNECT_TIME, REQUEST_TIME};

/// How often a request is tried while nothing of it has left.
const TRIES_MAX: u32 = 3;

/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// A complete answer and when its request was sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) sent_at: UnixMillis,
}

/// No complete answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// No connection, also not on the last try.
    NoConnection(ConnectError),
    /// The connection stood, but nothing left.
    NotSent(String),
    /// The request may have arrived.
    Unknown(String),
}

impl Unanswered {
    /// One sentence for people.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::NoConnection(error) => error.to_string(),
            Self::NotSent(reason) => format!("the request was not sent: {reason}"),
            Self::Unknown(reason) => format!("the request was sent, but no complete answer came: {reason}"),
        }
    }

    /// The error of a step (`what`) that cannot go on, fixed by `again` unless the network says better.
    pub(crate) fn into_error(self, what: &str, again: &str) -> SinkError {
        let reason = self.reason();
        let (kind, code, hint) = match self {
            Self::NoConnection(error) => (ErrorKind::TryAgain, "no_connection", error.hint),
            Self::NotSent(_) => (ErrorKind::TryAgain, "no_connection", None),
            Self::Unknown(_) => (ErrorKind::Failed, "no_answer", None),
        };
        SinkError::new(kind, code, format!("{what}: {reason}"))
            .with_fix(hint.unwrap_or_else(|| again.to_owned()))
    }
}

/// Sends `request`, again while nothing of it has left.
///
/// # Errors
/// See [`Unanswered`].
pub(crate) fn send(host: &Host, request: &Request<Body>) -> Result<Answer, Unanswered> {
    let url = url_of(request)?;
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES_MAX {
        match send_once(host, &url, request) {
            Err(Unanswered::NoConnection(_) | Unanswered::NotSent(_)) => {}
            outcome => return outcome,
        }
        host.clock.sleep(pause);
        pause *= 2;
    }
    send_once(host, &url, request)
}

/// Sends `request` once.
///
/// # Errors
/// See [`Unanswered`].
pub(crate) fn send_once(host: &Host, url: &Url, request: &Request<Body>) -> Result<Answer, Unanswered> {
    attempt(host, url, request, (CONNECT_TIME, REQUEST_TIME))
}

/// Sends `request` once, with limits of its own for connecting and for the answer.
///
/// # Errors
/// See [`Unanswered`].
pub(crate) fn send_within(
    host: &Host,
    request: &Request<Body>,
    limits: (Duration, Duration),
) -> Result<Answer, Unanswered> {
    attempt(host, &url_of(request)?, request, limits)
}

/// Where a request goes.
pub(crate) fn url_of(request: &Request<Body>) -> Result<Url, Unanswered> {
    Url::parse(&request.uri().to_string()).map_err(|error| Unanswered::NotSent(error.to_string()))
}

fn attempt(
    host: &Host,
    url: &Url,
    request: &Request<Body>,
    (connect, answer): (Duration, Duration),
) -> Result<Answer, Unanswered> {
    let connection = host
        .transport
        .connect(url, connect)
        .map_err(Unanswered::NoConnection)?;
    let sent_at = host.clock.now();
    let limits = Limits {
        time: answer,
        body_bytes: ANSWER_BYTES,
    };
    match connection.exchange(request.clone(), limits) {
        Ok(response) => Ok(Answer { response, sent_at }),
        Err(ExchangeError::NotWritten(reason)) => Err(Unanswered::NotSent(reason)),
        Err(error) => Err(Unanswered::Unknown(match error {
            ExchangeError::Ambiguous(reason) => reason,
            other => other.to_string(),
        })),
    }
}

/// Turns an authorization code into tokens. `sent` are the secrets of the request; `again` is the command of this
/// login. Whatever goes wrong, the code counts as spent.
///
/// # Errors
/// With the provider's own words and the next step.
pub(crate) fn tokens(
    host: &Host,
    request: &Request<Body>,
    sent: &[&Secret],
    again: &str,
) -> Result<(TokenGrant, UnixMillis), SinkError> {
    let endpoint = endpoint_of(request);
    let answer = send(host, request)
        .map_err(|error| error.into_error(&format!("{endpoint} did not give tokens for the code"), again))?;
    match token::classify_exchange(&answer.response, sent) {
        Ok(grant) => Ok((grant, answer.sent_at)),
        Err(token::ExchangeError::Refused(refusal)) => Err(refused(&endpoint, &refusal, again)),
        Err(error) => Err(SinkError::new(
            ErrorKind::Failed,
            "unusable_answer",
            format!("{endpoint}: {error}"),
        )
        .with_fix(again.to_owned())),
    }
}

fn refused(endpoint: &str, refusal: &Refusal, again: &str) -> SinkError {
    let next = match refusal.code.as_deref() {
        Some("invalid_grant") => {
            "; the code was used before, has ended (it lives for minutes), or belongs to another login"
        }
        Some("invalid_client" | "unauthorized_client") => {
            "; the provider definition's client identifier or secret is wrong"
        }
        Some("invalid_scope") => "; the provider definition asks for a scope that this account cannot have",
        _ => "",
    };
    let message = format!("{endpoint} refused the code: {refusal}{next}");
    SinkError::new(ErrorKind::Failed, "exchange_refused", message).with_fix(again.to_owned())
}

/// Scheme, host and path of a request, for messages.
pub(crate) fn endpoint_of(request: &Request<Body>) -> String {
    let uri = request.uri();
    let origin = uri.authority().map(ToString::to_string).unwrap_or_default();
    format!("{}://{origin}{}", uri.scheme_str().unwrap_or("https"), uri.path())
}
