//! What one turn has come to so far: who failed and why, the price it began with, what was shown.

use std::time::Duration;

use tokensink_host::Clock;
use tokensink_policy::chain::{Attempt, Model, Rotations};
use tokensink_policy::classify::{Blame, Reason};
use tokensink_types::{BillingClass, ProfileId, UnixMillis};

use super::ask::given_up;
use super::{ChatAttempt, ChatEvent, Moved, Serving};
use crate::calls::LeaseId;
use crate::error::{Result, SinkError};
use crate::login::Cancel;
use crate::sink::Sink;

/// How often it is looked whether the turn is given up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One turn.
pub(super) struct Run<'a> {
    /// Names the turn: its leases are explained together.
    pub(super) id: LeaseId,
    pub(super) prompt: &'a str,
    pub(super) cancel: &'a Cancel,
    tell: &'a mut dyn FnMut(ChatEvent<'_>),
    /// The text that was shown.
    pub(super) shown: String,
    failed: Vec<Failed>,
    rotations: Rotations,
    /// How long is waited before somebody else is asked.
    rest: Duration,
    /// The cheapest class that was tried or would have been.
    pub(super) cheapest: Option<BillingClass>,
}

struct Failed {
    model: Model,
    attempt: ChatAttempt,
    scope: Scope,
    billing: Option<BillingClass>,
    /// What to do about it.
    fix: Option<String>,
    /// The next who is asked is told of it.
    is_news: bool,
}

/// For which models of its provider a profile is out of the question after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// For all: the account's own fault, or the provider cannot be reached.
    Provider,
    /// For the one that was asked.
    Model,
    /// For none: it was not asked.
    Nothing,
}

impl Scope {
    /// Of a failure for this reason of a profile that was asked.
    pub(super) fn of(reason: Reason) -> Self {
        match reason.blame() {
            Blame::Account => Self::Provider,
            Blame::Bucket | Blame::Network | Blame::Request | Blame::Permission | Blame::Unknown => {
                Self::Model
            }
        }
    }
}

/// A failure that is to be noted.
pub(super) struct Failure {
    pub(super) scope: Scope,
    pub(super) profile: Option<ProfileId>,
    pub(super) reason: Reason,
    pub(super) text: String,
    pub(super) until: Option<UnixMillis>,
    pub(super) billing: Option<BillingClass>,
    pub(super) fix: Option<String>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        prompt: &'a str,
        cancel: &'a Cancel,
        tell: &'a mut dyn FnMut(ChatEvent<'_>),
        id: LeaseId,
        rotations: Rotations,
    ) -> Self {
        Self {
            id,
            prompt,
            cancel,
            tell,
            shown: String::new(),
            failed: Vec::new(),
            rotations,
            rest: Duration::ZERO,
            cheapest: None,
        }
    }

    /// Shows a piece of the answer.
    pub(super) fn say(&mut self, text: &str) {
        self.shown.push_str(text);
        (self.tell)(ChatEvent::Text(text));
    }

    pub(super) fn note(&mut self, text: &str) {
        (self.tell)(ChatEvent::Note(text));
    }

    /// Somebody is asked; told where it is somebody else than before.
    pub(super) fn asks(&mut self, serving: &Serving, before: Option<&Serving>) {
        self.price(serving.billing);
        match self.failed.last_mut().filter(|failed| failed.is_news) {
            Some(failed) => {
                failed.is_news = false;
                let moved = Moved {
                    from: failed.attempt.clone(),
                    from_billing: failed.billing,
                    to: serving.clone(),
                };
                (self.tell)(ChatEvent::Moved(&moved));
            }
            None if before != Some(serving) => (self.tell)(ChatEvent::Serving(serving)),
            None => {}
        }
    }

    /// Takes note of a price.
    pub(super) fn price(&mut self, billing: BillingClass) {
        self.cheapest = Some(self.cheapest.map_or(billing, |cheapest| cheapest.min(billing)));
    }

    pub(super) fn fail(&mut self, model: &Model, failure: Failure) {
        if let Some(billing) = failure.billing {
            self.price(billing);
        }
        self.rest = self.rotations.pause(failure.reason);
        self.failed.push(Failed {
            model: model.clone(),
            attempt: ChatAttempt {
                model: model.to_string(),
                profile: failure.profile,
                reason: failure.reason,
                text: failure.text,
                until: failure.until,
            },
            scope: failure.scope,
            billing: failure.billing,
            fix: failure.fix,
            is_news: true,
        });
    }

    /// The profiles that are out of the question for a model. Those of other providers are none of its, but what they
    /// cost counts.
    pub(super) fn tried(&self, model: &Model) -> Vec<ProfileId> {
        let counts = |failed: &&Failed| {
            failed.model.provider != model.provider
                || match failed.scope {
                    Scope::Provider => true,
                    Scope::Model => failed.model == *model,
                    Scope::Nothing => false,
                }
        };
        let counting = self.failed.iter().filter(counts);
        counting
            .filter_map(|failed| failed.attempt.profile.clone())
            .collect()
    }

    pub(super) fn has_tried(&self, profile: &ProfileId, model: &Model) -> bool {
        self.tried(model).contains(profile)
    }

    /// Have enough accounts of a model failed for the reason of the last one that other models come first?
    pub(super) fn is_others_turn(&self, model: &Model) -> bool {
        let of_model = || self.failed.iter().filter(|failed| failed.model == *model);
        of_model().next_back().is_some_and(|last| {
            let reason = last.attempt.reason;
            let same = of_model().filter(|failed| failed.attempt.reason == reason);
            self.rotations.are_spent(reason, same.count())
        })
    }

    /// Waits, where the last who was asked is overloaded, before somebody else is asked (spec.md 6.6).
    ///
    /// # Errors
    /// When the turn is given up.
    pub(super) fn take_rest(&mut self, clock: &dyn Clock) -> Result<()> {
        let mut left = std::mem::take(&mut self.rest);
        loop {
            if self.cancel.is_set() {
                return Err(given_up());
            }
            if left.is_zero() {
                return Ok(());
            }
            let piece = left.min(LOOK_EVERY);
            clock.sleep(piece);
            left -= piece;
        }
    }

    pub(super) fn attempts(self) -> Vec<ChatAttempt> {
        self.failed.into_iter().map(|failed| failed.attempt).collect()
    }

    /// Nobody answered: every attempt, and the soonest time at which another try can help (spec.md 6.11).
    pub(super) fn summary(&self, sink: &Sink) -> SinkError {
        let attempt = |failed: &Failed| Attempt {
            model: failed.model.clone(),
            reason: failed.attempt.reason,
            text: match &failed.attempt.profile {
                Some(profile) if !failed.attempt.text.contains(profile.as_str()) => {
                    format!("{profile}: {}", failed.attempt.text)
                }
                _ => failed.attempt.text.clone(),
            },
            until: failed.attempt.until,
        };
        let error = sink.all_models_failed(self.failed.iter().map(attempt).collect());
        // The first who says what helps says more than the general advice.
        let fix = self.failed.iter().find_map(|failed| failed.fix.clone());
        error.with_fix_if(fix)
    }
}
