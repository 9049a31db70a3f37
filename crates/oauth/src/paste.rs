//! What a user pastes when no callback can arrive (spec.md 11.2.5, 11.6): the address the browser ended at, the
//! `code#state` that a provider's page shows, a part of either, or the bare code.
//!
//! Terminals wrap and decorate what is pasted, so white space, paste markers and quotes around it are removed first.

use std::fmt;

use thiserror::Error;
use tokensink_types::Secret;

use crate::callback::{AuthorizationCode, Redirect, write_denied};
use crate::pkce::StateParam;
use crate::text::is_invisible;

/// Why a pasted text gives no code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PasteError {
    /// Nothing was pasted; ask again.
    #[error("nothing was pasted; paste the redirect URL (or authorization code)")]
    Empty,
    /// The text holds neither a code nor an error.
    #[error("Missing authorization code: paste the whole address that the browser shows after the login")]
    MissingCode,
    /// The text names another state: it belongs to another login.
    #[error(
        "State mismatch: the pasted text belongs to another login; open the URL shown last and paste its result"
    )]
    StateMismatch,
    /// The authorization server or the user said no (RFC 6749 section 4.1.2.1).
    #[error("{}", Denied(.error, .description))]
    Denied {
        /// The `error` code, cleaned.
        error: String,
        /// The `error_description`, cleaned, or empty.
        description: String,
    },
}

struct Denied<'a>(&'a str, &'a str);

impl fmt::Display for Denied<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_denied(f, self.0, self.1)
    }
}

/// Reads a pasted text; the first rule that applies counts (spec.md 11.2.5): a full URL gives its parameters, text
/// with `#` is `code#state`, text with `code=` is a query string, anything else is the code. A state that is given
/// must be ours; a bare code is taken without one, since the user stands for it.
///
/// # Errors
/// See [`PasteError`].
pub fn parse_paste(text: &str, expected_state: &StateParam) -> Result<AuthorizationCode, PasteError> {
    let text = clean(text);
    let text = text.expose();
    if text.is_empty() {
        return Err(PasteError::Empty);
    }
    let redirect = read(text);
    if redirect
        .state
        .as_ref()
        .is_some_and(|state| !state.is_blank() && !expected_state.matches(state.expose()))
    {
        return Err(PasteError::StateMismatch);
    }
    if let Some((error, description)) = redirect.denial(&[expected_state.secret()]) {
        return Err(PasteError::Denied { error, description });
    }
    redirect
        .code
        .map(AuthorizationCode::new)
        .ok_or(PasteError::MissingCode)
}

fn read(text: &str) -> Redirect {
    if is_address(text) {
        return read_address(text);
    }
    if let Some((code, state)) = text.split_once('#') {
        return Redirect {
            code: present(code),
            state: present(state),
            ..Redirect::default()
        };
    }
    if text.contains("code=") || text.contains("error=") {
        return Redirect::parse(text.strip_prefix('?').unwrap_or(text));
    }
    Redirect {
        code: present(text),
        ..Redirect::default()
    }
}

/// A full URL, or one whose scheme the browser's address bar left out.
fn is_address(text: &str) -> bool {
    let scheme = text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let has_query = ["?code=", "?state=", "?error=", "&code=", "&error="]
        .iter()
        .any(|start| text.contains(start));
    scheme || (has_query && !text.starts_with('?') && text.contains('/'))
}

/// The parameters of the query; of the fragment where only that one has any.
fn read_address(text: &str) -> Redirect {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let redirect = Redirect::parse(query);
    if redirect.is_empty() {
        Redirect::parse(fragment)
    } else {
        redirect
    }
}

fn present(text: &str) -> Option<Secret> {
    Some(Secret::new(text)).filter(|secret| !secret.is_blank())
}

/// Removes what the terminal or the copying added: bracketed paste markers, white space, controls, invisible
/// characters, and quotes or angle brackets around the whole.
fn clean(text: &str) -> Secret {
    let text = text.replace("\u{1b}[200~", "").replace("\u{1b}[201~", "");
    let kept: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control() && !is_invisible(*c))
        .collect();
    Secret::new(kept.trim_matches(['"', '\'', '`', '<', '>']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::*;

    fn state() -> StateParam {
        StateParam::received("st-1".into())
    }

    #[test]
    fn pasted_texts_and_what_they_mean() {
        let denied = |error: &str, description: &str| {
            Err(PasteError::Denied {
                error: error.to_owned(),
                description: description.to_owned(),
            })
        };
        let cases = [
            ("http://localhost:1455/auth/callback?code=c1&state=st-1", Ok("c1")),
            (
                "https://console.anthropic.com/oauth/code/callback?code=c1&state=st-1#x",
                Ok("c1"),
            ),
            ("https://as.example/cb#code=c1&state=st-1", Ok("c1")),
            (
                "https://as.example/cb?lang=en#code=c1&state=no",
                Err(PasteError::StateMismatch),
            ),
            ("HTTP://localhost/cb?code=a%2Fb&state=st-1", Ok("a/b")),
            ("http://localhost/cb?code=c1", Ok("c1")),
            ("localhost:1455/auth/callback?code=c1&state=st-1", Ok("c1")),
            ("localhost:1455/auth/callback?code=c1&state=st-1#", Ok("c1")),
            ("/auth/callback?state=st-1&code=c1", Ok("c1")),
            (" http://localhost/cb?co\r\n  de=c1&sta\nte=st-1\n", Ok("c1")),
            ("\u{1b}[200~c1#st-1\u{1b}[201~", Ok("c1")),
            ("\"c1#st-1\"", Ok("c1")),
            ("<http://localhost/cb?code=c1&state=st-1>", Ok("c1")),
            ("c1#st-1", Ok("c1")),
            ("c1#", Ok("c1")),
            ("c1#other", Err(PasteError::StateMismatch)),
            ("#st-1", Err(PasteError::MissingCode)),
            ("code=c1&state=st-1", Ok("c1")),
            ("?code=c1&state=st-1", Ok("c1")),
            ("state=st-1&code=c1", Ok("c1")),
            ("code=c1&state=other", Err(PasteError::StateMismatch)),
            ("code=&state=st-1", Err(PasteError::MissingCode)),
            (
                "http://localhost/cb?code=c1&state=other",
                Err(PasteError::StateMismatch),
            ),
            ("http://localhost/cb", Err(PasteError::MissingCode)),
            (
                "http://localhost/cb?error=invalid_scope&error_description=no+such&state=st-1",
                denied("invalid_scope", "no such"),
            ),
            ("?error=access_denied", denied("access_denied", "")),
            (
                "http://localhost/cb?error=access_denied&state=other",
                Err(PasteError::StateMismatch),
            ),
            ("4/0AbCd-_~.+x", Ok("4/0AbCd-_~.+x")),
            ("ac_\n  12 34", Ok("ac_1234")),
            ("", Err(PasteError::Empty)),
            (" \n\t ", Err(PasteError::Empty)),
            ("\"\"", Err(PasteError::Empty)),
        ];
        for (text, want) in cases {
            let want = want.map(|code: &str| AuthorizationCode::new(code.into()));
            assert_eq!(parse_paste(text, &state()), want, "{text:?}");
        }
    }

    #[test]
    fn errors_begin_with_the_known_words() {
        assert!(
            PasteError::StateMismatch
                .to_string()
                .starts_with("State mismatch")
        );
        assert!(
            PasteError::MissingCode
                .to_string()
                .starts_with("Missing authorization code")
        );
        let denied = PasteError::Denied {
            error: "access_denied".into(),
            description: "closed".into(),
        };
        assert_eq!(
            denied.to_string(),
            "The provider refused the login: access_denied (closed)"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,200}") {
            let _ = parse_paste(&text, &state());
        }

        #[test]
        fn a_code_comes_through_in_every_form(
            code in "[A-Za-z0-9][A-Za-z0-9/_.~-]{0,60}",
            state in "[A-Za-z0-9_-]{1,40}",
            wrap in 1_usize..30,
        ) {
            let query = form_urlencoded::Serializer::new(String::new())
                .append_pair("code", &code)
                .append_pair("state", &state)
                .finish();
            let forms = [
                format!("http://localhost:1455/auth/callback?{query}"),
                format!("{code}#{state}"),
                query.clone(),
                format!("?{query}"),
                code.clone(),
            ];
            for form in forms {
                let wrapped: Vec<String> = form
                    .as_bytes()
                    .chunks(wrap)
                    .map(|line| String::from_utf8_lossy(line).into_owned())
                    .collect();
                let got = parse_paste(&wrapped.join("\r\n  "), &StateParam::received(state.clone().into()));
                prop_assert_eq!(got, Ok(AuthorizationCode::new(code.clone().into())), "{}", form);
            }
        }
    }
}
