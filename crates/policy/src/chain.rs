//! Which models are tried one after the other (spec.md 6.6, 6.8, 6.10 and 6.11, rules of age C2).
//!
//! Money is not decided here: whether a candidate's account may be used at its price is the selection's question. Nor is
//! whether one whose accounts are all benched is tried all the same (spec.md 6.3, 6.9): a bench that may be tested is
//! open to one request, whatever model's turn it is.

use std::fmt;
use std::time::Duration;

use tokensink_types::{ProviderId, UnixMillis};

use crate::classify::Reason;

/// A model with its provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Model {
    /// The provider, canonical.
    pub provider: ProviderId,
    /// The provider's name for the model.
    pub model: String,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// What the chain is made of.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// The model that was asked for.
    pub requested: &'a Model,
    /// `agents.defaults.model.fallbacks`.
    pub fallbacks: &'a [Model],
    /// The configured default model.
    pub primary: Option<&'a Model>,
    /// Fallbacks that the caller brings; they replace the configured ones, and the default model is then no candidate.
    pub own: Option<&'a [Model]>,
}

impl Chain<'_> {
    /// The models to try, in order, each once (spec.md 6.8).
    #[must_use]
    pub fn candidates(&self) -> Vec<Model> {
        let mut all = vec![self.requested.clone()];
        let mut add = |models: &[Model]| {
            for model in models {
                if !all.contains(model) {
                    all.push(model.clone());
                }
            }
        };
        match self.own {
            Some(own) => add(own),
            None => {
                // Whoever leaves the default's provider on purpose does not want its fallbacks, unless he asked for
                // one of them.
                let left = self
                    .primary
                    .is_some_and(|primary| primary.provider != self.requested.provider);
                if !left || self.fallbacks.contains(self.requested) {
                    add(self.fallbacks);
                }
                add(self.primary.map_or(&[], std::slice::from_ref));
            }
        }
        all
    }
}

/// How far the accounts of one model are changed while other models are left to ask (spec.md 6.6, `auth.cooldowns`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotations {
    /// Changes of the account because its model was overloaded.
    pub overloaded: usize,
    /// ... because its limit was reached.
    pub rate_limited: usize,
    /// How long is waited after an answer that a model is overloaded before somebody else is asked.
    pub overloaded_pause: Duration,
}

impl Default for Rotations {
    /// The values of spec.md 5.4.
    fn default() -> Self {
        Self {
            overloaded: 1,
            rate_limited: 1,
            overloaded_pause: Duration::ZERO,
        }
    }
}

impl Rotations {
    /// Is it another model's turn after `failures` accounts of one have failed for `reason`?
    #[must_use]
    pub fn are_spent(&self, reason: Reason, failures: usize) -> bool {
        match reason {
            Reason::Overloaded => failures > self.overloaded,
            Reason::RateLimit => failures > self.rate_limited,
            _ => false,
        }
    }

    /// How long is waited after a failure for `reason` before somebody else is asked.
    #[must_use]
    pub fn pause(&self, reason: Reason) -> Duration {
        match reason {
            Reason::Overloaded => self.overloaded_pause,
            _ => Duration::ZERO,
        }
    }
}

/// One failed attempt of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The model that was tried or passed over.
    pub model: Model,
    /// Why it did not answer.
    pub reason: Reason,
    /// In words, without secrets.
    pub text: String,
    /// When its provider serves again, where that is known.
    pub until: Option<UnixMillis>,
}

/// Nobody answered (spec.md 6.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What was tried, in order; never empty.
    pub attempts: Vec<Attempt>,
}

impl Summary {
    /// The soonest time at which another try can help.
    #[must_use]
    pub fn soonest(&self) -> Option<UnixMillis> {
        self.attempts.iter().filter_map(|attempt| attempt.until).min()
    }
}

impl fmt::Display for Summary {
    /// One attempt speaks for itself; several are counted and named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.attempts.as_slice() {
            return f.write_str(&only.text);
        }
        write!(f, "All models failed ({}): ", self.attempts.len())?;
        for (at, attempt) in self.attempts.iter().enumerate() {
            let separator = if at == 0 { "" } else { " | " };
            write!(
                f,
                "{separator}{}: {} ({})",
                attempt.model,
                attempt.text,
                attempt.reason.as_str()
            )?;
        }
        Ok(())
    }
}

/// May a failed run go on with the next model (spec.md 6.10)?
#[must_use]
pub fn goes_on(reason: Reason) -> bool {
    reason != Reason::ContextOverflow
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> Model {
        let (provider, model) = text.split_once('/').unwrap();
        Model {
            provider: ProviderId::parse(provider).unwrap(),
            model: model.to_owned(),
        }
    }

    fn models(text: &str) -> Vec<Model> {
        text.split_whitespace().map(model).collect()
    }

    #[test]
    fn candidates() {
        let cases = [
            ("a/1", "b/1 c/1", Some("a/1"), None, "a/1 b/1 c/1"),
            ("a/2", "b/1 a/2 b/1", Some("a/1"), None, "a/2 b/1 a/1"),
            ("b/1", "b/1 c/1", Some("a/1"), None, "b/1 c/1 a/1"),
            // Another provider than the default's: its fallbacks are not meant.
            ("z/1", "b/1 c/1", Some("a/1"), None, "z/1 a/1"),
            ("z/1", "b/1", None, None, "z/1 b/1"),
            ("a/1", "b/1", Some("a/1"), Some("c/1 a/1"), "a/1 c/1"),
            ("a/1", "b/1", Some("a/9"), Some(""), "a/1"),
        ];
        for (requested, fallbacks, primary, own, wanted) in cases {
            let (requested, fallbacks) = (model(requested), models(fallbacks));
            let (primary, own) = (primary.map(model), own.map(models));
            let chain = Chain {
                requested: &requested,
                fallbacks: &fallbacks,
                primary: primary.as_ref(),
                own: own.as_deref(),
            };
            assert_eq!(chain.candidates(), models(wanted), "{wanted}");
        }
    }

    #[test]
    fn rotations() {
        let usual = Rotations::default();
        let cases = [
            (Reason::Overloaded, 1, false),
            (Reason::Overloaded, 2, true),
            (Reason::RateLimit, 1, false),
            (Reason::RateLimit, 2, true),
            (Reason::Auth, 9, false),
            (Reason::Billing, 9, false),
        ];
        for (reason, failures, spent) in cases {
            assert_eq!(usual.are_spent(reason, failures), spent, "{reason:?} {failures}");
        }
        let other = Rotations {
            overloaded: 0,
            rate_limited: 3,
            overloaded_pause: Duration::from_millis(700),
        };
        assert!(other.are_spent(Reason::Overloaded, 1));
        assert!(!other.are_spent(Reason::RateLimit, 3) && other.are_spent(Reason::RateLimit, 4));
        assert_eq!(other.pause(Reason::Overloaded), Duration::from_millis(700));
        assert_eq!(other.pause(Reason::RateLimit), Duration::ZERO);
    }

    #[test]
    fn the_summary_names_every_attempt_and_the_soonest_time() {
        let attempt = |name: &str, reason, text: &str, until: Option<i64>| Attempt {
            model: model(name),
            reason,
            text: text.to_owned(),
            until: until.map(UnixMillis),
        };
        let one = Summary {
            attempts: vec![attempt("a/1", Reason::Auth, "log in again", None)],
        };
        assert_eq!((one.to_string().as_str(), one.soonest()), ("log in again", None));
        let two = Summary {
            attempts: vec![
                attempt("a/1", Reason::RateLimit, "limit", Some(9)),
                attempt("b/1", Reason::Overloaded, "busy", Some(5)),
            ],
        };
        assert_eq!(
            two.to_string(),
            "All models failed (2): a/1: limit (rate_limit) | b/1: busy (overloaded)"
        );
        assert_eq!(two.soonest(), Some(UnixMillis(5)));
    }

    #[test]
    fn a_question_that_is_too_long_is_so_everywhere() {
        assert!(goes_on(Reason::Format) && !goes_on(Reason::ContextOverflow));
    }
}
