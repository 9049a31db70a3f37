//! What a request to the redirect URI means (RFC 6749 section 4.1.2, RFC 8252 section 7.3).
//!
//! The listener is open to every program and web page on the host, so only a request with our state is believed.
//! A stray request is answered and does not end the wait (spec.md 11.2). Nothing here listens or renders pages.

use std::fmt;

use http::StatusCode;
use tokensink_types::Secret;
use url::form_urlencoded;

use crate::pkce::StateParam;
use crate::text::tidy;

/// An authorization code (RFC 6749 section 1.3.1): can be exchanged once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationCode(Secret);

impl AuthorizationCode {
    /// Wraps a code.
    #[must_use]
    pub fn new(code: Secret) -> Self {
        Self(code)
    }

    /// The value for the `code` parameter.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// What a request to the loopback listener was. `Display` gives a sentence for the browser page (escape it: parts
/// of it come from outside).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callback {
    /// Another path, for example `/favicon.ico`.
    WrongPath,
    /// The state is missing or not ours: another login's answer, or somebody's attempt to slip us a code.
    StateMismatch,
    /// The authorization server or the user said no (RFC 6749 section 4.1.2.1).
    Denied {
        /// The `error` code, cleaned.
        error: String,
        /// The `error_description`, cleaned, or empty.
        description: String,
        /// True when our state came with it. Without it anybody may have sent it: show it, but go on waiting.
        confirmed: bool,
    },
    /// Our state, but neither a code nor an error.
    MissingCode,
    /// The code that was waited for.
    Code(AuthorizationCode),
}

impl Callback {
    /// The status to answer with (spec.md 11.2.4).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::WrongPath => StatusCode::NOT_FOUND,
            Self::StateMismatch | Self::Denied { .. } | Self::MissingCode => StatusCode::BAD_REQUEST,
            Self::Code(_) => StatusCode::OK,
        }
    }

    /// Is the wait over? Only a code or a refusal with our state ends it.
    #[must_use]
    pub fn ends_wait(&self) -> bool {
        match self {
            Self::Code(_) => true,
            Self::Denied { confirmed, .. } => *confirmed,
            Self::WrongPath | Self::StateMismatch | Self::MissingCode => false,
        }
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongPath => f.write_str("Not found"),
            Self::StateMismatch => f.write_str(
                "State mismatch: this answer belongs to another login. Open the address that the terminal shows now.",
            ),
            Self::Denied {
                error, description, ..
            } => write_denied(f, error, description),
            Self::MissingCode => f.write_str("Missing authorization code"),
            Self::Code(_) => f.write_str("Login received. You can close this page and return to the terminal."),
        }
    }
}

pub(crate) fn write_denied(f: &mut fmt::Formatter<'_>, error: &str, description: &str) -> fmt::Result {
    write!(f, "The provider refused the login: {error}")?;
    if description.is_empty() {
        Ok(())
    } else {
        write!(f, " ({description})")
    }
}

/// Reads the target of a request to the listener (`/auth/callback?code=...`; a full URL is fine too). The checks in
/// their order (spec.md 11.2.4): path, state, error, code. An error without any state is reported, unconfirmed,
/// because some servers forget the state when they refuse.
#[must_use]
pub fn parse_callback(target: &str, expected_path: &str, expected_state: &StateParam) -> Callback {
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path_of(path) != expected_path {
        return Callback::WrongPath;
    }
    let redirect = Redirect::parse(query);
    let confirmed = match &redirect.state {
        Some(state) if expected_state.matches(state.expose()) => true,
        None if redirect.error.is_some() => false,
        Some(_) | None => return Callback::StateMismatch,
    };
    if let Some((error, description)) = redirect.denial(&[expected_state.secret()]) {
        return Callback::Denied {
            error,
            description,
            confirmed,
        };
    }
    match redirect.code {
        Some(code) => Callback::Code(AuthorizationCode(code)),
        None => Callback::MissingCode,
    }
}

/// The path of an absolute-form target (RFC 9112 section 3.2.2), else the target as it is.
fn path_of(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphabetic()) => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => target,
    }
}

/// The parameters of a redirect, whichever way they came. The first of each name counts; blank ones are absent,
/// except a blank state, which is a wrong one.
#[derive(Debug, Default)]
pub(crate) struct Redirect {
    pub(crate) code: Option<Secret>,
    pub(crate) state: Option<Secret>,
    pub(crate) error: Option<String>,
    pub(crate) description: Option<String>,
}

impl Redirect {
    pub(crate) fn parse(query: &str) -> Self {
        let mut found = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let blank = value.trim().is_empty();
            match name.as_ref() {
                "code" if !blank && found.code.is_none() => found.code = Some(Secret::new(value)),
                "state" if found.state.is_none() => found.state = Some(Secret::new(value)),
                "error" if !blank && found.error.is_none() => found.error = Some(value.into_owned()),
                "error_description" if found.description.is_none() => {
                    found.description = Some(value.into_owned());
                }
                _ => {}
            }
        }
        found
    }

    /// The error and its description, cleaned, if it is a refusal.
    pub(crate) fn denial(&self, secrets: &[&Secret]) -> Option<(String, String)> {
        let error = self.error.as_deref()?;
        let description = self.description.as_deref().unwrap_or_default();
        Some((tidy(error, secrets), tidy(description, secrets)))
    }

    /// Neither code nor error.
    pub(crate) fn is_empty(&self) -> bool {
        self.code.is_none() && self.error.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATH: &str = "/auth/callback";

    fn denied(error: &str, description: &str, confirmed: bool) -> Callback {
        Callback::Denied {
            error: error.to_owned(),
            description: description.to_owned(),
            confirmed,
        }
    }

    #[test]
    fn targets_and_what_they_mean() {
        let code = |text: &str| Callback::Code(AuthorizationCode::new(text.into()));
        let cases = [
            ("/auth/callback?code=c1&state=st", code("c1"), 200, true),
            (
                "/auth/callback?state=st&code=a%2Fb%2Bc&scope=x",
                code("a/b+c"),
                200,
                true,
            ),
            ("/auth/callback?code=c1&state=st#frag", code("c1"), 200, true),
            (
                "http://localhost:1455/auth/callback?code=c1&state=st",
                code("c1"),
                200,
                true,
            ),
            (
                "/auth/callback?code=c1&code=c2&state=st&state=no",
                code("c1"),
                200,
                true,
            ),
            ("/favicon.ico", Callback::WrongPath, 404, false),
            ("/", Callback::WrongPath, 404, false),
            ("", Callback::WrongPath, 404, false),
            ("/auth/callback/?code=c&state=st", Callback::WrongPath, 404, false),
            (
                "http://localhost:1455?code=c&state=st",
                Callback::WrongPath,
                404,
                false,
            ),
            (
                "/auth/callback?code=c1&state=other",
                Callback::StateMismatch,
                400,
                false,
            ),
            (
                "/auth/callback?code=c1&state=",
                Callback::StateMismatch,
                400,
                false,
            ),
            ("/auth/callback?code=c1", Callback::StateMismatch, 400, false),
            ("/auth/callback", Callback::StateMismatch, 400, false),
            (
                "/auth/callback?error=access_denied&state=other",
                Callback::StateMismatch,
                400,
                false,
            ),
            ("/auth/callback?state=st", Callback::MissingCode, 400, false),
            (
                "/auth/callback?state=st&code=+",
                Callback::MissingCode,
                400,
                false,
            ),
            (
                "/auth/callback?error=invalid_scope&error_description=no+%1B%5B31mscope&state=st",
                denied("invalid_scope", "no [31mscope", true),
                400,
                true,
            ),
            (
                "/auth/callback?error=access_denied&code=c1&state=st",
                denied("access_denied", "", true),
                400,
                true,
            ),
            (
                "/auth/callback?error=server_error",
                denied("server_error", "", false),
                400,
                false,
            ),
        ];
        for (target, want, status, ends) in cases {
            let got = parse_callback(target, PATH, &StateParam::received("st".into()));
            assert_eq!(got, want, "{target:?}");
            assert_eq!(got.status().as_u16(), status, "{target:?}");
            assert_eq!(got.ends_wait(), ends, "{target:?}");
        }
    }

    #[test]
    fn sentences_name_the_cause() {
        assert_eq!(
            denied("invalid_scope", "model.request", true).to_string(),
            "The provider refused the login: invalid_scope (model.request)"
        );
        assert_eq!(Callback::MissingCode.to_string(), "Missing authorization code");
        assert!(Callback::StateMismatch.to_string().starts_with("State mismatch"));
    }

    proptest! {
        #[test]
        fn any_target_is_read(target in ".{0,200}") {
            let got = parse_callback(&target, PATH, &StateParam::received("a state nobody guesses".into()));
            prop_assert!(!matches!(got, Callback::Code(_)));
        }

        #[test]
        fn any_code_comes_through(code in "[^\\s\\x00]{1,60}", state in ".{1,40}") {
            let query: String = form_urlencoded::Serializer::new(String::new())
                .append_pair("state", &state)
                .append_pair("code", &code)
                .finish();
            let got = parse_callback(&format!("{PATH}?{query}"), PATH, &StateParam::received(state.into()));
            prop_assert_eq!(got, Callback::Code(AuthorizationCode::new(code.into())));
        }
    }
}
