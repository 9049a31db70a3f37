//! The answer: first into the record, then into the store, and only then into anyone's hands.

use std::time::Duration;

use tokensink_types::UnixMillis;
use tokensink_types::record::{Generation, RecordState, Rotation};

use super::{Action, Failure, Flight, Phase, Verdict, try_again};
use crate::stand::{Standing, unanswered};
use crate::view::overlay;

/// How often one flight tries to make an answer durable that exists only in its memory: about five minutes.
const KEEP_TRIES_MAX: u32 = 10;

/// The waits between these tries double up to 2 to this power, in seconds.
const KEEP_WAIT_EXPONENT_MAX: u32 = 6;

impl Flight {
    /// Takes `next` as the generation that follows: first into the record, then into the store.
    pub(super) fn accept(&mut self, mut next: Generation, adopted: bool, now: UnixMillis) -> Action {
        let mut record = self.record_or_new();
        if let Some(old) = &self.current {
            next.account = old.account.updated_by(&next.account);
            if let Some(parent) = old.spend_key() {
                let rotated = next.spend_key() != Some(parent);
                if rotated {
                    record.push_ancestor(parent);
                }
                record.rotation = match (rotated, record.rotation) {
                    (true, _) | (false, Rotation::Always) => Rotation::Always,
                    (false, _) => Rotation::Never,
                };
                // What a copy was answered says nothing about a request of ours with the same key.
                if rotated || !adopted || unanswered(&record, parent).is_none() {
                    record.state = RecordState::Answered { parent, at: now };
                }
            }
            // A refresh was forced and brought nothing new: another one would not either.
            let forced = self.setup.demand.rejects(old) || record.rejected == Some(old.revision());
            let same_access = old.tokens.access == next.tokens.access;
            record.rejected = (forced && same_access).then(|| next.revision());
        }
        if let Some(key) = next.spend_key() {
            record.ancestors.retain(|ancestor| *ancestor != key);
        }
        record.backoff = None;
        record.generation = Some(next.clone());
        self.record = Some(record);
        self.next = Some(next);
        self.adopted = adopted;
        self.keep(0)
    }

    /// Writes the answer into the record.
    pub(super) fn keep(&mut self, tries: u32) -> Action {
        let record = Box::new(self.record_or_new());
        self.go(Phase::Keeping { tries }, Action::Record(record))
    }

    pub(super) fn commit(&mut self, recorded: bool, tries: u32) -> Action {
        let Some(next) = self.next.clone() else {
            return self.read_again();
        };
        let commit = Action::Commit {
            expected: self.stored_key,
            generation: Box::new(next),
        };
        self.go(Phase::Committing { recorded, tries }, commit)
    }

    pub(super) fn on_commit_failed(
        &mut self,
        recorded: bool,
        tries: u32,
        failure: Failure,
        now: UnixMillis,
    ) -> Action {
        if recorded {
            return self.conclude(Some(failure), now);
        }
        if self.adopted {
            // It stays where it was found.
            return try_again(failure, None);
        }
        // Neither record nor store took the answer, and it exists only here: hold on to it for a while.
        if tries < KEEP_TRIES_MAX {
            let wait = Duration::from_secs(1 << tries.min(KEEP_WAIT_EXPONENT_MAX));
            return self.go(Phase::Keeping { tries: tries + 1 }, Action::Wait(wait));
        }
        let reason = format!(
            "the new tokens of {} could be stored neither in its refresh record nor in its store: {}",
            self.setup.profile, failure.reason
        );
        Action::Finish(Verdict::TryAgain {
            failure: Failure {
                reason,
                fix: failure.fix,
            },
            until: None,
            // What is durable says so, and it is what counts from now on.
            outcome_unknown: true,
        })
    }

    /// The store holds something else, and the answer is not in the record either.
    pub(super) fn on_conflict_unrecorded(
        &mut self,
        tries: u32,
        found: Option<&Generation>,
        now: UnixMillis,
    ) -> Action {
        if let Some(found) = found {
            if self.next.as_ref().map(Generation::revision) == Some(found.revision()) {
                return self.close(now);
            }
            // An older copy was put back in the meantime; it may be replaced like the one that was read.
            if overlay(found, self.record.as_ref()).heal {
                self.stored_key = found.spend_key();
            }
        }
        let reason = format!(
            "the store of {} was changed by another program",
            self.setup.profile
        );
        self.on_commit_failed(false, tries, Failure { reason, fix: None }, now)
    }

    pub(super) fn close(&mut self, now: UnixMillis) -> Action {
        let mut record = self.record_or_new();
        if !matches!(record.state, RecordState::Sent(_)) {
            record.state = RecordState::Committed { at: now };
        }
        self.record = Some(record.clone());
        self.go(Phase::Closing, Action::Record(Box::new(record)))
    }

    /// The next generation is durable. Does it serve the demand?
    pub(super) fn conclude(&mut self, store_behind: Option<Failure>, now: UnixMillis) -> Action {
        if self.adopted {
            // It may be as old as ours in every respect but one: it is looked at like any other.
            return self.read_again();
        }
        self.current = self.next.take();
        match self.standing(now) {
            // The answer to a repeated request counts from the first; with a new key the next may be asked for at once.
            Some(Standing::Due(_)) if self.was_repeated() => self.read_again(),
            Some(Standing::Due(_)) | None => {
                let reason = format!(
                    "the access token that {} was given is of no use for this request",
                    self.setup.profile
                );
                try_again(Failure { reason, fix: None }, None)
            }
            Some(standing) => self.proceed(standing, store_behind, now),
        }
    }

    fn was_repeated(&self) -> bool {
        let admitted = self.admitted.as_ref().map(|record| &record.state);
        matches!(admitted, Some(RecordState::Sent(sent)) if sent.sends > 1)
    }
}
