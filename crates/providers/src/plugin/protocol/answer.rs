//! What a program answers: tokens under their names in RFC 6749, whose they are, and how long a lease may be reused.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};
use thiserror::Error;
use tokensink_oauth::jwt;
use tokensink_oauth::token::TokenGrant;
use tokensink_types::UnixMillis;

use super::{Action, Violation, shape};

/// How long an access token may be handed out, by the program's wish. The tokens are on our disk in each case: a
/// refresh token that was spent must be able to survive a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheControl {
    /// It counts as ended 60 seconds after it was issued: whoever asks later gets a new one.
    Never,
    /// It counts as ended an hour after it was issued, however long it lives.
    Session,
    /// Until it ends.
    Until,
}

impl CacheControl {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "never" => Some(Self::Never),
            "session" => Some(Self::Session),
            "until" => Some(Self::Until),
            _ => None,
        }
    }

    /// Longest time for which a token counts as valid.
    fn life_max(self) -> Option<Duration> {
        match self {
            // A generation younger than a minute is not refreshed again, so less would mean nothing.
            Self::Never => Some(Duration::from_secs(60)),
            Self::Session => Some(Duration::from_secs(3600)),
            Self::Until => None,
        }
    }
}

/// A `result` message. What is in it may be secret, so `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Answered {
    fields: Map<String, Value>,
    cache: CacheControl,
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answered(..)")
    }
}

/// Why a result cannot be used as tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("its result has no access_token")]
pub struct NoAnswer;

impl Answered {
    /// Reads a result to `action`.
    pub(super) fn read(action: Action, fields: Map<String, Value>) -> Result<Self, Violation> {
        let cache = match fields.get("cache") {
            None | Some(Value::Null) => CacheControl::Until,
            Some(word) => word
                .as_str()
                .and_then(CacheControl::parse)
                .ok_or_else(|| shape("result", "cache is none of never, session and until"))?,
        };
        let number = |name: &str| match fields.get(name) {
            None | Some(Value::Null | Value::Number(_)) => Ok(()),
            Some(_) => Err(shape("result", format!("{name} is not a number of seconds"))),
        };
        number("expires_in")?;
        number("expires_at")?;
        for name in ["account", "fields"] {
            if !matches!(fields.get(name), None | Some(Value::Null | Value::Object(_))) {
                return Err(shape("result", format!("{name} is not an object")));
            }
        }
        let answered = Self { fields, cache };
        match action {
            Action::Login | Action::Refresh if answered.text("access_token").is_none() => {
                Err(shape("result", "there is no access_token"))
            }
            Action::Identity if !answered.has_account() => Err(shape("result", "there is no account")),
            Action::Login | Action::Refresh | Action::Revoke | Action::Identity => Ok(answered),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        let text = self.fields.get(name)?.as_str()?.trim();
        (!text.is_empty()).then_some(text)
    }

    /// The profile that the program says it answers for, if it says one.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.text("profile")
    }

    /// Does it say whose grant it is?
    #[must_use]
    pub fn has_account(&self) -> bool {
        let account = self.fields.get("account").and_then(Value::as_object);
        account.is_some_and(|account| {
            account
                .values()
                .any(|value| value.as_str().is_some_and(|text| !text.trim().is_empty()))
        })
    }

    /// This result with the account that another one names.
    #[must_use]
    pub fn with_account_of(mut self, identity: &Self) -> Self {
        if let Some(account) = identity.fields.get("account") {
            self.fields.insert("account".to_owned(), account.clone());
        }
        self
    }

    /// The tokens, in the form that the answer of a token endpoint has. `sent_at` is when the request was sent, from
    /// which `expires_in` counts.
    ///
    /// # Errors
    /// [`NoAnswer`] when there are none.
    pub fn into_grant(self, sent_at: UnixMillis) -> Result<TokenGrant, NoAnswer> {
        let grant = TokenGrant::from_fields(self.fields).map_err(|_| NoAnswer)?;
        let mut grant = with_end(grant, sent_at);
        if let Some(most) = self.cache.life_max() {
            let own = || jwt::expires(&grant.access_token).map(|at| sent_at.until(at));
            let life = grant.expires_in.or_else(own).unwrap_or(most);
            grant.expires_in = Some(life.min(most));
        }
        Ok(grant)
    }
}

/// `expires_at`, in seconds since the epoch, where there is no `expires_in`. One that has passed is a life of zero.
fn with_end(mut grant: TokenGrant, sent_at: UnixMillis) -> TokenGrant {
    if grant.expires_in.is_none() {
        let at = grant.pointer("/expires_at").and_then(Value::as_f64);
        grant.expires_in = at.map(|at| {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a float beyond i64 saturates, which is meant"
            )]
            let at = UnixMillis((at * 1000.0) as i64);
            sent_at.until(at).min(Duration::from_secs(10 * 366 * 86_400))
        });
    }
    grant
}

/// A number of seconds, at most a day.
pub(super) fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Some(Duration::from_secs_f64(seconds.min(86_400.0)))
}
