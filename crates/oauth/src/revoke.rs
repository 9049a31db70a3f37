//! Token revocation (RFC 7009).

use http::{Request, Response};
use tokensink_types::{Body, Secret};

use crate::answer::ErrorBody;
use crate::request::{Endpoint, Fields, RequestError};
use crate::token::{Refusal, given};

/// What kind of token is revoked (RFC 7009 section 2.1). Revoking a refresh token ends the whole grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTypeHint {
    /// An access token.
    AccessToken,
    /// A refresh token.
    RefreshToken,
}

impl TokenTypeHint {
    fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
        }
    }
}

/// What became of a token that was to be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// It no longer works, or never did: the server does not tell these apart (RFC 7009 section 2.2).
    Revoked,
    /// The server does not revoke tokens of this kind (section 2.2.1); it lives on until it ends by itself.
    Unsupported,
    /// It may still work. With status 503 it does, and the request may be repeated (section 2.2.1).
    Failed(Refusal),
}

/// The revocation request: `token, token_type_hint, client_id`, in this order in both formats.
///
/// # Errors
/// When the endpoint or a header is impossible, or the token is blank.
pub fn request(
    endpoint: &Endpoint<'_>,
    token: &Secret,
    hint: TokenTypeHint,
) -> Result<Request<Body>, RequestError> {
    let fields = Fields::default()
        .add_secret("token", Some(given("token", token)?))
        .add("token_type_hint", hint.as_str())
        .client(endpoint.client);
    endpoint.post(fields)
}

/// Reads the answer. `sent` are the secrets of the request.
#[must_use]
pub fn classify(response: &Response<Body>, sent: &[&Secret]) -> Revocation {
    if response.status().is_success() {
        return Revocation::Revoked;
    }
    let unsupported = ["unsupported_token_type"];
    if ErrorBody::read(response, sent).code_among(&unsupported).is_some() {
        return Revocation::Unsupported;
    }
    Revocation::Failed(Refusal::read(response, sent))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::answer::tests::answer;
    use crate::request::BodyFormat;

    #[test]
    fn requests_in_both_formats() {
        let url = Url::parse("https://auth.openai.com/oauth/revoke").unwrap();
        for (format, hint, want) in [
            (
                BodyFormat::Json,
                TokenTypeHint::RefreshToken,
                r#"{"token":"rt","token_type_hint":"refresh_token","client_id":"app"}"#,
            ),
            (
                BodyFormat::Form,
                TokenTypeHint::AccessToken,
                "token=rt&token_type_hint=access_token&client_id=app",
            ),
        ] {
            let endpoint = Endpoint {
                format,
                ..Endpoint::new(&url, "app")
            };
            let request = request(&endpoint, &"rt".into(), hint).unwrap();
            assert_eq!(request.body().expose(), want.as_bytes());
        }
        assert!(
            request(
                &Endpoint::new(&url, "app"),
                &"".into(),
                TokenTypeHint::AccessToken
            )
            .is_err()
        );
    }

    #[test]
    fn answers() {
        let failed = |status, code: Option<&str>, description: &str| {
            Revocation::Failed(Refusal {
                status,
                code: code.map(str::to_owned),
                description: description.to_owned(),
                retry_after: None,
            })
        };
        let cases = [
            (200, "", Revocation::Revoked),
            (204, "", Revocation::Revoked),
            (
                400,
                r#"{"error":"unsupported_token_type"}"#,
                Revocation::Unsupported,
            ),
            (
                400,
                r#"{"error":"invalid_client"}"#,
                failed(400, Some("invalid_client"), ""),
            ),
            (
                401,
                "rt-canary-1 unknown",
                failed(401, None, "[redacted] unknown"),
            ),
            (503, "", failed(503, None, "")),
        ];
        for (status, body, want) in cases {
            let got = classify(&answer(status, body), &[&"rt-canary-1".into()]);
            assert_eq!(got, want, "{status} {body}");
        }
    }
}
