//! Which models are tried one after the other, and which are passed over (spec.md 6.8 to 6.11, rules of age C2).
//!
//! Money is not decided here: whether a candidate's account may be used at its price is the selection's question.

use std::fmt;

use tokensink_types::{ProviderId, UnixMillis};

use crate::classify::{Blame, Reason};

/// How long a probe of a provider that is all benched keeps the next one away, in milliseconds.
const PROBE_PAUSE: i64 = 30_000;
/// How long before the soonest end of its benches a provider may be probed, in milliseconds.
const PROBE_EARLY: i64 = 120_000;

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

/// A candidate all of whose profiles are benched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllBenched {
    /// What benched them, the gravest first (spec.md 5.7).
    pub reason: Reason,
    /// The model that was asked for, not a fallback.
    pub is_requested: bool,
    /// When the first of them is free again.
    pub soonest: Option<UnixMillis>,
    /// When this provider was last probed.
    pub last_probe: Option<UnixMillis>,
    /// A sibling of the same provider was tried in this run already.
    pub sibling_tried: bool,
    /// Now.
    pub now: UnixMillis,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Go on with the next model.
    Skip,
    /// One request may be made all the same.
    Probe,
}

impl AllBenched {
    /// Passed over, or tried once (spec.md 6.9)?
    #[must_use]
    pub fn step(&self) -> Step {
        let may = match self.reason {
            Reason::Auth | Reason::AuthPermanent => false,
            Reason::Billing => self.is_requested && self.is_due(),
            reason if self.is_requested => reason.blame() != Blame::Request && self.is_due(),
            // Another model of the provider may have a limit of its own.
            reason => matches!(reason.blame(), Blame::Bucket | Blame::Unknown) && !self.sibling_tried,
        };
        if may { Step::Probe } else { Step::Skip }
    }

    /// Not probed within half a minute, and near the end of the benches or without a known one.
    fn is_due(&self) -> bool {
        let rested = self
            .last_probe
            .is_none_or(|at| self.now.0.saturating_sub(at.0).abs() >= PROBE_PAUSE);
        let near = self
            .soonest
            .is_none_or(|end| self.now.0 >= end.0.saturating_sub(PROBE_EARLY));
        rested && near
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

/// The gravest of several reasons: what a user must deal with first (spec.md 5.7).
#[must_use]
pub fn gravest(reasons: impl IntoIterator<Item = Reason>) -> Option<Reason> {
    const ORDER: [Reason; 8] = [
        Reason::AuthPermanent,
        Reason::Auth,
        Reason::Billing,
        Reason::Format,
        Reason::ModelNotFound,
        Reason::Overloaded,
        Reason::Timeout,
        Reason::RateLimit,
    ];
    let rank = |reason: &Reason| ORDER.iter().position(|one| one == reason).unwrap_or(ORDER.len());
    reasons.into_iter().min_by_key(rank)
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
    fn benched_candidates() {
        let now = UnixMillis(1_000_000);
        let base = AllBenched {
            reason: Reason::RateLimit,
            is_requested: true,
            soonest: None,
            last_probe: None,
            sibling_tried: false,
            now,
        };
        let at = |offset: i64| Some(UnixMillis(now.0 + offset));
        let sibling = AllBenched {
            is_requested: false,
            ..base
        };
        let cases = [
            (base, Step::Probe),
            (
                AllBenched {
                    soonest: at(120_000),
                    ..base
                },
                Step::Probe,
            ),
            (
                AllBenched {
                    soonest: at(120_001),
                    ..base
                },
                Step::Skip,
            ),
            (
                AllBenched {
                    last_probe: at(-29_999),
                    ..base
                },
                Step::Skip,
            ),
            (
                AllBenched {
                    last_probe: at(-30_000),
                    ..base
                },
                Step::Probe,
            ),
            (
                AllBenched {
                    reason: Reason::Auth,
                    ..base
                },
                Step::Skip,
            ),
            (
                AllBenched {
                    reason: Reason::AuthPermanent,
                    ..sibling
                },
                Step::Skip,
            ),
            (
                AllBenched {
                    reason: Reason::Billing,
                    ..base
                },
                Step::Probe,
            ),
            (
                AllBenched {
                    reason: Reason::Billing,
                    ..sibling
                },
                Step::Skip,
            ),
            (
                AllBenched {
                    soonest: at(500_000),
                    ..sibling
                },
                Step::Probe,
            ),
            (
                AllBenched {
                    sibling_tried: true,
                    ..sibling
                },
                Step::Skip,
            ),
        ];
        for (benched, step) in cases {
            assert_eq!(benched.step(), step, "{benched:?}");
        }
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
    fn the_gravest_reason() {
        assert_eq!(gravest([]), None);
        assert_eq!(
            gravest([Reason::RateLimit, Reason::Billing, Reason::Timeout]),
            Some(Reason::Billing)
        );
        assert_eq!(
            gravest([Reason::Unclassified, Reason::RateLimit]),
            Some(Reason::RateLimit)
        );
        assert!(goes_on(Reason::Format) && !goes_on(Reason::ContextOverflow));
    }
}
