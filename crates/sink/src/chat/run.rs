//! What one turn has come to so far: who failed and why, the price it began with, what was shown.

use tokensink_policy::chain::{Attempt, Model};
use tokensink_policy::classify::Reason;
use tokensink_types::{BillingClass, ProfileId, UnixMillis};

use super::{ChatAttempt, ChatEvent, Moved, Serving};
use crate::calls::LeaseId;
use crate::error::SinkError;
use crate::login::Cancel;
use crate::sink::Sink;

/// One turn.
pub(super) struct Run<'a> {
    /// Names the turn: its leases are explained together.
    pub(super) id: LeaseId,
    pub(super) prompt: &'a str,
    pub(super) cancel: &'a Cancel,
    tell: &'a mut dyn FnMut(ChatEvent<'_>),
    /// The text that was shown.
    pub(super) shown: String,
    /// Profiles that have failed.
    pub(super) tried: Vec<ProfileId>,
    failed: Vec<Failed>,
    /// The cheapest class that was tried or would have been.
    pub(super) cheapest: Option<BillingClass>,
}

struct Failed {
    model: Model,
    attempt: ChatAttempt,
    billing: Option<BillingClass>,
    /// What to do about it.
    fix: Option<String>,
    /// The next who is asked is told of it.
    is_news: bool,
}

/// A failure that is to be noted.
pub(super) struct Failure {
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
    ) -> Self {
        Self {
            id,
            prompt,
            cancel,
            tell,
            shown: String::new(),
            tried: Vec::new(),
            failed: Vec::new(),
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
        self.tried.extend(failure.profile.clone());
        self.failed.push(Failed {
            model: model.clone(),
            attempt: ChatAttempt {
                model: model.to_string(),
                profile: failure.profile,
                reason: failure.reason,
                text: failure.text,
                until: failure.until,
            },
            billing: failure.billing,
            fix: failure.fix,
            is_news: true,
        });
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
