//! What a failed call of a model API means: whose fault it is, and under which rule (spec.md 7).
//!
//! The rules are a table ([`RULES`]) that is read from the top; the first that matches decides, and its id goes into
//! every decision. What no rule knows is [`Reason::Unclassified`]. An answer that was served (2xx) is no failure,
//! whatever its headers or its text say; an error event inside a stream is classified like a failure without status.
//!
//! It does not know how long anybody is benched, and it never sees a credential.

mod body;
mod echo;
mod matching;
mod rules;
mod words;

use serde::{Deserialize, Serialize};
use tokensink_types::ProviderId;

pub use body::ErrorText;
pub use rules::{RULES, Rule};

/// Longest part of a message that is looked at, in characters. Real ones are far shorter; what follows is quoted input.
pub(crate) const TEXT_MAX: usize = 4096;

/// Why a call failed (spec.md 7.1), with the word that stands in `auth-state.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The credential was not taken; a refresh or a login may help.
    Auth,
    /// The key or account was switched off; only a new one helps.
    AuthPermanent,
    /// The account has run out of money or credits.
    Billing,
    /// The account has used up what it may use for a while.
    RateLimit,
    /// The provider has more work than it can take.
    Overloaded,
    /// The network or the server failed; the account has nothing to do with it.
    Timeout,
    /// The model does not exist, or not for this account.
    ModelNotFound,
    /// A stored conversation or CLI session has ended.
    SessionExpired,
    /// The request is longer than the model or the API takes.
    ContextOverflow,
    /// The request is malformed.
    Format,
    /// The provider does not serve such a request, from this program, place or account: trying others is no remedy.
    Refused,
    /// The credential lacks what this one operation takes, a scope usually; it may do others, and others may do this.
    NotPermitted,
    /// An error that says of itself that it has no details.
    NoErrorDetails,
    /// No rule knows it.
    Unclassified,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Auth,
        Self::AuthPermanent,
        Self::Billing,
        Self::RateLimit,
        Self::Overloaded,
        Self::Timeout,
        Self::ModelNotFound,
        Self::SessionExpired,
        Self::ContextOverflow,
        Self::Format,
        Self::Refused,
        Self::NotPermitted,
        Self::NoErrorDetails,
        Self::Unclassified,
    ];

    /// The word in files and JSON (spec.md 7.1).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthPermanent => "auth_permanent",
            Self::Billing => "billing",
            Self::RateLimit => "rate_limit",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::ModelNotFound => "model_not_found",
            Self::SessionExpired => "session_expired",
            Self::ContextOverflow => "context_overflow",
            Self::Format => "format",
            Self::Refused => "refused",
            Self::NotPermitted => "not_permitted",
            Self::NoErrorDetails => "no_error_details",
            Self::Unclassified => "unclassified",
        }
    }

    /// The reason with that word. `unknown`, which other programs write, is unclassified.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == word);
        known.or_else(|| (word == "unknown").then_some(Self::Unclassified))
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Self::Auth | Self::AuthPermanent | Self::Billing => Blame::Account,
            Self::RateLimit | Self::Overloaded | Self::ModelNotFound => Blame::Bucket,
            Self::Timeout => Blame::Network,
            Self::SessionExpired | Self::ContextOverflow | Self::Format | Self::Refused => Blame::Request,
            Self::NotPermitted => Blame::Permission,
            Self::NoErrorDetails | Self::Unclassified => Blame::Unknown,
        }
    }
}

/// Whose fault a failure is, which decides who is benched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The whole account.
    Account,
    /// The account for one model.
    Bucket,
    /// Nobody: the network, or the provider's servers.
    Network,
    /// The request; another account would fail as well.
    Request,
    /// The account for this one operation: another one may be allowed to do it, and nobody is benched.
    Permission,
    /// Not known; the shortest bench.
    Unknown,
}

/// A failed call.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// The provider that was called, by its canonical id.
    pub provider: &'a ProviderId,
    /// The HTTP status; `None` when there was no answer, and for an error event inside a stream.
    pub status: Option<u16>,
    /// What the answer said, or the system or TLS library where there was none.
    pub text: &'a ErrorText,
}

impl Failure<'_> {
    /// The words by which it is decided whether `reason` is why it failed. A status that may mean that the request is at
    /// fault comes with words of the request, and these blame nobody but the request. An event in a stream has no status,
    /// and its text may repeat the request as well.
    fn words(&self, reason: Reason) -> &str {
        match self.status {
            _ if reason.blame() == Blame::Request => self.text.text(),
            Some(400 | 404 | 410 | 422) => self.text.own_words(),
            Some(_) => self.text.text(),
            None => self.text.own_words_and_statuses(),
        }
    }
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Why it failed.
    pub reason: Reason,
    /// The rule that said so; `unclassified` when none did.
    pub rule: &'static str,
}

impl Class {
    /// The same of an answer in which the server names a wait: a server error with one is too much work for it, and the
    /// account rests for so long. Of one without nobody knows how long it lasts, and nobody rests.
    #[must_use]
    pub fn with_named_wait(self, status: Option<u16>) -> Self {
        let is_servers = status.is_some_and(|status| status / 100 == 5);
        if is_servers && self.reason == Reason::Timeout {
            return Self {
                reason: Reason::Overloaded,
                rule: "server-named-wait",
            };
        }
        self
    }
}

/// Classifies a failed call; `None` for an answer that was served.
#[must_use]
pub fn classify(failure: &Failure<'_>) -> Option<Class> {
    classify_by(RULES, failure)
}

/// The same by other rules: for the test that leaves one out.
#[must_use]
pub fn classify_by(rules: &[Rule], failure: &Failure<'_>) -> Option<Class> {
    if failure.status.is_some_and(|status| (200..300).contains(&status)) {
        return None;
    }
    let decided = rules.iter().find(|rule| rule.matches(failure));
    Some(decided.map_or(
        Class {
            reason: Reason::Unclassified,
            rule: "unclassified",
        },
        |rule| Class {
            reason: rule.reason,
            rule: rule.id,
        },
    ))
}
