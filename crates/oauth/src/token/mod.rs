//! Token requests (RFC 6749 sections 4.1.3 and 6) and what their answers mean (sections 5.1 and 5.2).
//!
//! The classification of a refresh answer is the hinge of the refresh protocol: it says whether the refresh token
//! that was sent may be sent again. It errs towards "nobody knows". It never decides what to do next.

mod grant;
mod retry_after;

use http::{Request, Response, StatusCode};
use thiserror::Error;
use tokensink_types::{Body, Secret};

use crate::answer::{ErrorBody, object, words};
use crate::callback::AuthorizationCode;
use crate::pkce::{CodeVerifier, StateParam};
use crate::request::{BodyFormat, Endpoint, Fields, RequestError};
pub use grant::{TokenGrant, UnusableGrant, instant_of};
pub use retry_after::RetryAfter;

/// The request that turns an authorization code into tokens (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
///
/// The order of the fields belongs to the format, as recorded from OpenClaw (spec.md 11.2, 11.4): in JSON
/// `grant_type, client_id, code, state, redirect_uri, code_verifier`, in a form `grant_type, client_id, code,
/// code_verifier, redirect_uri`. Give `state` only to a server that wants it back (Anthropic).
///
/// # Errors
/// When the endpoint or a header is impossible, or the code is blank.
pub fn exchange(
    endpoint: &Endpoint<'_>,
    code: &AuthorizationCode,
    verifier: &CodeVerifier,
    redirect_uri: &str,
    state: Option<&StateParam>,
) -> Result<Request<Body>, RequestError> {
    let code = given("code", code.secret())?;
    let verifier = Some(verifier.secret());
    let fields = Fields::default()
        .add("grant_type", "authorization_code")
        .client(endpoint.client)
        .add_secret("code", Some(code))
        .add_secret("state", state.map(StateParam::secret));
    endpoint.post(match endpoint.format {
        BodyFormat::Json => fields
            .add("redirect_uri", redirect_uri)
            .add_secret("code_verifier", verifier),
        BodyFormat::Form => fields
            .add_secret("code_verifier", verifier)
            .add("redirect_uri", redirect_uri),
    })
}

/// The request that spends a refresh token (RFC 6749 section 6). In JSON `grant_type, client_id, refresh_token`, in
/// a form `grant_type, refresh_token, client_id`, as recorded from OpenClaw.
///
/// # Errors
/// When the endpoint or a header is impossible, or the token is blank.
pub fn refresh(endpoint: &Endpoint<'_>, refresh_token: &Secret) -> Result<Request<Body>, RequestError> {
    let token = Some(given("refresh_token", refresh_token)?);
    let fields = Fields::default().add("grant_type", "refresh_token");
    endpoint.post(match endpoint.format {
        BodyFormat::Json => fields.client(endpoint.client).add_secret("refresh_token", token),
        BodyFormat::Form => fields.add_secret("refresh_token", token).client(endpoint.client),
    })
}

/// A value that must be there, or the error that names it.
pub(crate) fn given<'a>(field: &'static str, value: &'a Secret) -> Result<&'a Secret, RequestError> {
    if value.is_blank() {
        Err(RequestError::Missing { field })
    } else {
        Ok(value)
    }
}

/// What the answer to a refresh says about the refresh token that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshAnswer {
    /// New tokens; the sent one counts as spent.
    Granted(Box<TokenGrant>),
    /// The provider says that this token will never work again.
    Terminal {
        /// The provider's code, one of its terminal errors.
        code: String,
        /// The provider's words, cleaned, or empty.
        description: String,
    },
    /// A complete answer that leaves the token unspent: a passing failure.
    Unspent {
        /// The HTTP status.
        status: u16,
        /// The provider's code, if it gave one.
        code: Option<String>,
        /// The provider's words, cleaned, or empty.
        description: String,
        /// When to come back.
        retry_after: Option<RetryAfter>,
    },
    /// The token may be spent or not.
    Ambiguous {
        /// The HTTP status.
        status: u16,
        /// Why nobody knows, for people.
        reason: String,
    },
}

/// Reads the answer to a refresh (spec.md 8.5; the product's rule for send-once):
///
/// * 2xx with an access token is a grant; 2xx without one is ambiguous, because the server may have rotated, unless
///   its error code is one of `terminal_errors` (GitHub reports errors with status 200);
/// * 502, 504 and their Cloudflare kin 520, 522 and 524 are ambiguous: a gateway speaks, and the server behind it
///   may have answered;
/// * any 4xx with a code in `terminal_errors` is terminal, whatever its status; a 5xx never is;
/// * every other complete answer leaves the token unspent.
///
/// `sent` are the secrets of the request, which are removed from codes and descriptions.
#[must_use]
pub fn classify_refresh<S: AsRef<str>>(
    response: &Response<Body>,
    terminal_errors: &[S],
    sent: &[&Secret],
) -> RefreshAnswer {
    let status = response.status();
    let unusable = match status.is_success().then(|| TokenGrant::parse(response)) {
        Some(Ok(grant)) => return RefreshAnswer::Granted(Box::new(grant)),
        Some(Err(unusable)) => Some(unusable),
        None => None,
    };
    let error = ErrorBody::read(response, sent);
    let can_be_terminal = status.is_client_error() || unusable.is_some();
    if let Some(code) = error.code_among(terminal_errors).filter(|_| can_be_terminal) {
        return RefreshAnswer::Terminal {
            code: code.to_owned(),
            description: error.description,
        };
    }
    if let Some(unusable) = unusable {
        return RefreshAnswer::Ambiguous {
            status: status.as_u16(),
            reason: unusable.sentence(status, &error),
        };
    }
    if speaks_for_a_gateway(status) {
        return RefreshAnswer::Ambiguous {
            status: status.as_u16(),
            reason: format!("a gateway answered {} for the token endpoint", status.as_u16()),
        };
    }
    RefreshAnswer::Unspent {
        status: status.as_u16(),
        code: error.code,
        description: error.description,
        retry_after: RetryAfter::parse(response.headers()),
    }
}

/// Statuses with which a gateway says that it lost the server behind it after passing the request on (RFC 9110
/// sections 15.6.3 and 15.6.5; 520, 522 and 524 are Cloudflare's).
fn speaks_for_a_gateway(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502 | 504 | 520 | 522 | 524)
}

/// Why a login's token request brought no tokens.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The server said no (RFC 6749 section 5.2).
    #[error("{0}")]
    Refused(Refusal),
    /// The server said yes, but the answer cannot be used. The code is spent: the login must begin again.
    #[error("{0}; begin the login again")]
    Unusable(String),
}

/// A complete answer that says no.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the provider answered {status} ({})", words(.code.as_deref(), .description))]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The provider's code, cleaned, if it gave one.
    pub code: Option<String>,
    /// The provider's words, cleaned, or empty.
    pub description: String,
    /// When to come back.
    pub retry_after: Option<RetryAfter>,
}

impl Refusal {
    /// Reads it; `sent` are the secrets of the request.
    #[must_use]
    pub fn read(response: &Response<Body>, sent: &[&Secret]) -> Self {
        let error = ErrorBody::read(response, sent);
        Self {
            status: response.status().as_u16(),
            code: error.code,
            description: error.description,
            retry_after: RetryAfter::parse(response.headers()),
        }
    }
}

/// Reads the answer to an exchange of a code. `sent` are the secrets of the request: code, verifier, client secret.
///
/// # Errors
/// See [`ExchangeError`].
pub fn classify_exchange(response: &Response<Body>, sent: &[&Secret]) -> Result<TokenGrant, ExchangeError> {
    let refusal = Refusal::read(response, sent);
    if !response.status().is_success() {
        return Err(ExchangeError::Refused(refusal));
    }
    TokenGrant::parse(response).map_err(|unusable| {
        // GitHub answers errors with status 200.
        if object(response).is_some_and(|fields| fields.contains_key("error")) {
            ExchangeError::Refused(refusal)
        } else {
            let error = ErrorBody::read(response, sent);
            ExchangeError::Unusable(unusable.sentence(response.status(), &error))
        }
    })
}

#[cfg(test)]
mod tests;
