//! A successful token answer (RFC 6749 section 5.1).

use std::fmt;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Map, Value};
use thiserror::Error;
use tokensink_types::{Body, Secret, UnixMillis};

use crate::answer::{ErrorBody, number_of, object, text_of};

/// Longest life of a token that is believed, in seconds: ten years, so that no sum of it and the present overflows.
const LIFE_MAX: f64 = 10.0 * 366.0 * 86_400.0;

/// What an authorization server granted. The tokens are taken out of the raw answer, which keeps everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrant {
    /// The access token; never blank.
    pub access_token: Secret,
    /// The refresh token, where the answer has one that is not blank.
    pub refresh_token: Option<Secret>,
    /// How long the access token lives, counted from the answer's request. At most ten years.
    pub expires_in: Option<Duration>,
    /// The OpenID Connect id token.
    pub id_token: Option<Secret>,
    /// `Bearer`, mostly.
    pub token_type: Option<String>,
    /// The granted scope, space-separated; absent when it is what was asked for.
    pub scope: Option<String>,
    rest: Rest,
}

/// The answer without its tokens; it may hold more that is nobody's business, so `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
struct Rest(Value);

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// Why an answer is no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnusableGrant {
    /// Neither JSON nor form fields, or above 1 MiB.
    #[error("an answer that is not a JSON object")]
    NotAnObject,
    /// No `access_token`, or a blank one.
    #[error("an answer without access_token")]
    NoAccessToken,
}

impl UnusableGrant {
    /// One sentence for people, with what the server said.
    pub(crate) fn sentence(self, status: StatusCode, error: &ErrorBody) -> String {
        let status = status.as_u16();
        format!(
            "the token endpoint gave status {status} and {self} ({})",
            error.words()
        )
    }
}

impl TokenGrant {
    /// Reads a successful answer. The status is the caller's matter.
    ///
    /// # Errors
    /// When there is no access token in it.
    pub fn parse(response: &Response<Body>) -> Result<Self, UnusableGrant> {
        Self::from_fields(object(response).ok_or(UnusableGrant::NotAnObject)?)
    }

    /// Reads the fields of a successful answer.
    ///
    /// # Errors
    /// When there is no access token among them.
    pub fn from_fields(mut fields: Map<String, Value>) -> Result<Self, UnusableGrant> {
        let access_token = take(&mut fields, "access_token").ok_or(UnusableGrant::NoAccessToken)?;
        let text = |name: &str| fields.get(name).and_then(text_of);
        Ok(Self {
            access_token,
            token_type: text("token_type"),
            scope: text("scope"),
            expires_in: fields.get("expires_in").and_then(lifetime_of),
            refresh_token: take(&mut fields, "refresh_token"),
            id_token: take(&mut fields, "id_token"),
            rest: Rest(Value::Object(fields)),
        })
    }

    /// A value of the raw answer by JSON pointer (RFC 6901). The three tokens are not there.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        self.rest.0.pointer(pointer)
    }

    /// A string or number of the raw answer as text, trimmed; `None` when it is missing, blank or something else.
    /// For provider-owned fields such as `resource_url`.
    #[must_use]
    pub fn text(&self, pointer: &str) -> Option<String> {
        text_of(self.pointer(pointer)?)
    }

    /// The whole raw answer without its tokens.
    pub(crate) fn rest(&self) -> &Value {
        &self.rest.0
    }

    /// The names of `refresh_token` and `expires_in`, as far as they are missing: a login that needs them names them
    /// (spec.md 11.2.7).
    #[must_use]
    pub fn missing_fields(&self) -> Vec<&'static str> {
        let refresh = self.refresh_token.is_none().then_some("refresh_token");
        let expires = self.expires_in.is_none().then_some("expires_in");
        refresh.into_iter().chain(expires).collect()
    }

    /// For providers that put the expiry elsewhere: takes it from `pointer` in any of the forms of [`instant_of`],
    /// if it is there and `expires_in` is not.
    #[must_use]
    pub fn with_expiry_from(mut self, pointer: &str, sent_at: UnixMillis) -> Self {
        if self.expires_in.is_none() {
            let at = self.pointer(pointer).and_then(|value| instant_of(value, sent_at));
            self.expires_in = at.map(|at| sent_at.until(at));
        }
        self
    }
}

/// A token field: a string that is not blank, and of which no byte was lost to an encoding that we do not know. It is
/// moved out, so that no copy stays in the raw answer.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<Secret> {
    let is_whole =
        |token: &Secret| !token.is_blank() && !token.expose().contains(char::REPLACEMENT_CHARACTER);
    match fields.shift_remove(name) {
        Some(Value::String(text)) => Some(Secret::new(text)).filter(is_whole),
        _ => None,
    }
}

/// A life in seconds: number, fraction or numeric text, not negative, at most ten years (RFC 6749 section 5.1).
pub(crate) fn lifetime_of(value: &Value) -> Option<Duration> {
    let seconds = number_of(value).filter(|seconds| *seconds >= 0.0)?;
    Some(Duration::from_secs_f64(seconds.min(LIFE_MAX)))
}

/// The instant that a number means, for servers that do not say whether it is a duration or a date (minimax's
/// `expired_in`, `expires_at` of others): below 10^9 seconds from `sent_at`, below 10^11 seconds since the epoch,
/// else milliseconds since the epoch. 10^9 seconds are 31 years as a life and the year 2001 as a date; 10^11 are
/// the years 5138 and, in milliseconds, 1973.
#[must_use]
pub fn instant_of(value: &Value, sent_at: UnixMillis) -> Option<UnixMillis> {
    let number = number_of(value).filter(|number| *number > 0.0)?;
    if number < 1e9 {
        return Some(sent_at.plus(Duration::from_secs_f64(number.min(LIFE_MAX))));
    }
    let millis = if number < 1e11 { number * 1000.0 } else { number };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float beyond i64 saturates, which is meant"
    )]
    Some(UnixMillis(millis as i64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::answer::tests::answer;

    fn parse(value: &Value) -> Result<TokenGrant, UnusableGrant> {
        TokenGrant::parse(&answer(200, &value.to_string()))
    }

    #[test]
    fn reads_all_fields_and_keeps_the_rest() {
        let grant = parse(&json!({
            "token_type": "Bearer", "access_token": "at-canary", "refresh_token": "rt-canary", "id_token": "it-canary",
            "expires_in": 3600, "scope": "a b", "organization": {"uuid": "o1"}, "n": 7, "secret": "x-canary",
        }))
        .unwrap();
        assert_eq!(grant.access_token, "at-canary".into());
        assert_eq!(grant.refresh_token, Some("rt-canary".into()));
        assert_eq!(grant.id_token, Some("it-canary".into()));
        assert_eq!(grant.token_type.as_deref(), Some("Bearer"));
        assert_eq!(grant.scope.as_deref(), Some("a b"));
        assert_eq!(grant.expires_in, Some(Duration::from_secs(3600)));
        assert_eq!(grant.text("/organization/uuid").as_deref(), Some("o1"));
        assert_eq!(grant.text("/n").as_deref(), Some("7"));
        assert_eq!(grant.text("/organization"), None);
        assert_eq!(grant.pointer("/access_token"), None);
        assert!(grant.missing_fields().is_empty());
        assert!(!format!("{grant:?}").contains("canary"));
    }

    #[test]
    fn lives_in_all_spellings() {
        let ten_years = Duration::from_secs(10 * 366 * 86_400);
        let cases = [
            (json!(3600), Some(Duration::from_secs(3600))),
            (json!(0), Some(Duration::ZERO)),
            (json!(1.5), Some(Duration::from_millis(1500))),
            (json!("3600"), Some(Duration::from_secs(3600))),
            (json!(" 60.0 "), Some(Duration::from_secs(60))),
            (json!(1e300), Some(ten_years)),
            (json!(u64::MAX), Some(ten_years)),
            (json!(-1), None),
            (json!("soon"), None),
            (json!("NaN"), None),
            (json!("inf"), None),
            (json!(null), None),
            (json!(true), None),
        ];
        for (value, want) in cases {
            let grant = parse(&json!({"access_token": "a", "expires_in": value})).unwrap();
            assert_eq!(grant.expires_in, want, "{value}");
        }
    }

    #[test]
    fn blank_tokens_are_absent() {
        let grant = parse(&json!({"access_token": "a", "refresh_token": " ", "id_token": null})).unwrap();
        assert_eq!((&grant.refresh_token, &grant.id_token), (&None, &None));
        assert_eq!(grant.missing_fields(), ["refresh_token", "expires_in"]);
        for value in [json!({}), json!({"access_token": ""}), json!({"access_token": 1})] {
            assert_eq!(parse(&value), Err(UnusableGrant::NoAccessToken));
        }
        for body in ["", "[]", "{", "<html>", "\"a\""] {
            let got = TokenGrant::parse(&answer(200, body));
            assert_eq!(got, Err(UnusableGrant::NotAnObject), "{body}");
        }
        let huge = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(1024 * 1024));
        assert_eq!(
            TokenGrant::parse(&answer(200, &huge)),
            Err(UnusableGrant::NotAnObject)
        );
    }

    #[test]
    fn other_dialects_of_expiry() {
        let sent_at = UnixMillis(1_700_000_000_000);
        let cases = [
            (json!(3600), Some(1_700_003_600_000)),
            (json!("3600"), Some(1_700_003_600_000)),
            (json!(1_700_007_200), Some(1_700_007_200_000)),
            (json!(1_700_007_200_500_i64), Some(1_700_007_200_500)),
            (json!(0), None),
            (json!("x"), None),
        ];
        for (value, want) in cases {
            assert_eq!(instant_of(&value, sent_at), want.map(UnixMillis), "{value}");
        }
        let grant = |value: Value| {
            parse(&value)
                .unwrap()
                .with_expiry_from("/expired_in", sent_at)
                .expires_in
        };
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(
            grant(json!({"access_token": "a", "expired_in": 1_700_003_600_000_i64})),
            hour
        );
        assert_eq!(
            grant(json!({"access_token": "a", "expired_in": 60, "expires_in": 3600})),
            hour
        );
        assert_eq!(grant(json!({"access_token": "a"})), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read(body in "\\PC{0,200}", number in any::<f64>()) {
            let _ = TokenGrant::parse(&answer(200, &body));
            let _ = instant_of(&json!(number), UnixMillis(i64::MAX));
            let _ = parse(&json!({"access_token": "a", "expires_in": number}));
        }
    }
}
