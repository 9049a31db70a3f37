//! Answers and refusals. Every answer of this server is marked `no-store` (RFC 6749 section 5.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use tokensink_types::{Body, Secret};
use url::form_urlencoded;

use crate::config::ErrorStyle;

/// What an endpoint comes to.
pub(super) type Reply<T = Response<Body>> = Result<T, Refusal>;

/// A request that is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For the log: why exactly.
    pub(super) reason: &'static str,
    /// The error code of the RFC.
    code: &'static str,
    /// OpenAI's code, where it has one of its own.
    openai_code: Option<&'static str>,
    status: StatusCode,
    description: String,
    /// Answered in the RFC's shape in every style.
    standard: bool,
}

impl Refusal {
    fn new(
        status: StatusCode,
        code: &'static str,
        reason: &'static str,
        description: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            code,
            openai_code: None,
            status,
            description: description.into(),
            standard: false,
        }
    }

    /// `invalid_request` (RFC 6749 section 5.2).
    pub(super) fn request(reason: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", reason, description)
    }

    /// `invalid_client`.
    pub(super) fn client(reason: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", reason, description)
    }

    /// `invalid_grant`.
    pub(super) fn grant(reason: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", reason, description)
    }

    /// `invalid_scope`.
    pub(super) fn scope(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", "bad_scope", description)
    }

    /// `unsupported_grant_type`.
    pub(super) fn grant_type() -> Self {
        let description = "grant_type is missing, or none of authorization_code, refresh_token and \
                           urn:ietf:params:oauth:grant-type:device_code";
        Self::new(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "unsupported_grant_type",
            description,
        )
    }

    /// The server has no randomness and so cannot make tokens.
    pub(super) fn unavailable(why: &std::io::Error) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "temporarily_unavailable",
            "no_randomness",
            format!("no random bytes: {why}"),
        )
    }

    /// A poll that brings no token (RFC 8628 section 3.5); its code is its reason.
    pub(super) fn poll(code: &'static str, description: &str) -> Self {
        Self {
            standard: true,
            ..Self::new(StatusCode::BAD_REQUEST, code, code, description)
        }
    }

    /// The resource owner, or the test in its place, said no (RFC 6749 section 4.1.2.1).
    pub(super) fn denied(description: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "access_denied",
            "access_denied",
            description,
        )
    }

    /// Device login is switched off.
    pub(super) fn no_devices() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request",
            "device_login_off",
            "device login is not enabled",
        )
    }

    /// A token of another client (RFC 7009 section 2.1).
    pub(super) fn foreign_token() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "client_mismatch",
            "the token was issued to another client",
        )
    }

    /// The same refusal with a code of OpenAI's own.
    pub(super) fn openai(mut self, code: &'static str) -> Self {
        self.openai_code = Some(code);
        self
    }

    /// The code of the RFC, for a redirect (RFC 6749 section 4.1.2.1).
    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// What went wrong, in words.
    pub(super) fn description(&self) -> &str {
        &self.description
    }

    pub(super) fn answer(self, style: ErrorStyle) -> Response<Body> {
        if style == ErrorStyle::Openai && !self.standard {
            let status = match self.code {
                "invalid_grant" => StatusCode::UNAUTHORIZED,
                _ => self.status,
            };
            let error = json!({
                "message": self.description,
                "type": "invalid_request_error",
                "param": null,
                "code": self.openai_code.unwrap_or(self.code),
            });
            return json_answer(status, &json!({"error": error}));
        }
        let mut response = json_answer(
            self.status,
            &json!({"error": self.code, "error_description": self.description}),
        );
        if self.code == "invalid_client" {
            // RFC 6749 section 5.2: the answer names the scheme that the client may use.
            response.headers_mut().insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"token\""),
            );
        }
        response
    }
}

/// An answer of any kind.
pub(super) fn raw_answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A JSON answer.
pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    raw_answer(status, "application/json", body.to_string().into_bytes())
}

/// A page.
pub(super) fn page_answer(status: StatusCode, html: &str) -> Response<Body> {
    raw_answer(status, "text/html; charset=utf-8", html.as_bytes().to_vec())
}

/// The credential of an `Authorization` header with this scheme, the scheme's case aside.
pub(super) fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (found, credential) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| credential.trim())
}

/// Client id and secret by HTTP Basic, each form-encoded (RFC 6749 section 2.3.1).
pub(super) fn basic_credentials(headers: &HeaderMap) -> Reply<Option<(String, Secret)>> {
    let Some(credential) = authorization(headers, "basic") else {
        return Ok(None);
    };
    let decoded = STANDARD
        .decode(credential)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let Some((id, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
        return Err(Refusal::client(
            "bad_basic",
            "the Authorization header cannot be read",
        ));
    };
    Ok(Some((form_decoded(id), Secret::new(form_decoded(secret)))))
}

fn form_decoded(text: &str) -> String {
    // A whole text is one form value when no `&` or `=` in it is taken for a separator.
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(format!("v={escaped}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
