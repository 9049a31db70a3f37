//! Stored tokens that are exchanged for a short-lived key before use (spec.md 6.7, 8.9): GitHub Copilot.
//!
//! Request out, answer in. When a key is renewed, and where it is kept meanwhile, is the caller's matter.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderName, HeaderValue, Request, Response};
use serde_json::Value;
use thiserror::Error;
use tokensink_oauth::request::RequestError;
use tokensink_oauth::token::Refusal;
use tokensink_types::{Body, Secret, UnixMillis};
use url::Url;

use crate::check_value::check_url;
use crate::definition::{ApiShape, RuntimeKey};

/// A key counts as ended this much before its end (spec.md 8.10).
const EXPIRY_BUFFER: Duration = Duration::from_secs(300);

/// A key that the API takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeCredential {
    /// The key.
    pub key: Secret,
    /// When to stop using it: five minutes before it ends.
    pub expires: UnixMillis,
    /// Where the provider wants it to be spent, if it says so and the host lies beside the definition's `base_url`.
    pub base_url: Option<Url>,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RuntimeKeyError {
    /// The provider said no. With status 401 or 403 the stored token is dead or the account has no plan.
    #[error("{0}")]
    Refused(Refusal),
    /// The provider said yes, but the answer has no usable field of this name.
    #[error("the answer of the key exchange has no usable {field}; try again later")]
    Unusable {
        /// The field.
        field: &'static str,
    },
}

impl RuntimeKey {
    /// The request that exchanges the stored token.
    ///
    /// # Errors
    /// When the token or a header of the definition does not fit HTTP.
    pub fn request(&self, stored: &Secret) -> Result<Request<Body>, RequestError> {
        let mut request = Request::new(Body::default());
        *request.uri_mut() = self
            .endpoint
            .as_str()
            .parse()
            .map_err(|error| RequestError::Endpoint {
                url: self.endpoint.to_string(),
                cause: format!("{error}"),
            })?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            let error = || RequestError::Header { name: name.clone() };
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| error())?;
            headers.insert(key, HeaderValue::from_str(value).map_err(|_| error())?);
        }
        let bearer = Secret::new(format!("Bearer {}", stored.expose().trim()));
        let mut value = HeaderValue::from_str(bearer.expose()).map_err(|_| RequestError::Header {
            name: AUTHORIZATION.to_string(),
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(request)
    }

    /// Reads the answer. `api` is where leases of the method are spent.
    ///
    /// # Errors
    /// See [`RuntimeKeyError`].
    pub fn parse(
        &self,
        response: &Response<Body>,
        stored: &Secret,
        api: &ApiShape,
    ) -> Result<RuntimeCredential, RuntimeKeyError> {
        if !response.status().is_success() {
            return Err(RuntimeKeyError::Refused(Refusal::read(response, &[stored])));
        }
        let answer: Value = serde_json::from_slice(response.body().expose())
            .map_err(|_| RuntimeKeyError::Unusable { field: "token" })?;
        let key = answer.get("token").and_then(Value::as_str).map(Secret::new);
        let key = key
            .filter(|key| !key.is_blank())
            .ok_or(RuntimeKeyError::Unusable { field: "token" })?;
        let expires = answer
            .get("expires_at")
            .and_then(Value::as_i64)
            .filter(|seconds| *seconds > 0)
            .ok_or(RuntimeKeyError::Unusable { field: "expires_at" })?;
        let base_url = answer.pointer("/endpoints/api").and_then(Value::as_str);
        Ok(RuntimeCredential {
            key,
            expires: UnixMillis::from_seconds(expires).minus(EXPIRY_BUFFER),
            base_url: base_url.and_then(|text| neighbour(text, api.base_url.as_ref()?)),
        })
    }
}

/// The URL if it is an https URL on the same domain as `base`: `api.business.example.com` beside `api.example.com`.
fn neighbour(text: &str, base: &Url) -> Option<Url> {
    check_url(text).ok()?;
    let url = Url::parse(text).ok()?;
    let (_, domain) = base.domain()?.split_once('.')?;
    let host = url.domain()?;
    let beside = host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    (beside && domain.contains('.') && url.scheme() == base.scheme()).then_some(url)
}
