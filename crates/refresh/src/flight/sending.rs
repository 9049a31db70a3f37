//! The request itself: admitted durably before its first byte, and what its end means.

use std::time::Duration;

use tokensink_types::UnixMillis;
use tokensink_types::record::{Generation, Record, RecordState, Sent};

use super::{Action, Answer, Failure, Flight, Phase, Verdict};
use crate::stand::{Death, Due, Standing, unanswered};
use crate::view::note_newer_login;

impl Flight {
    /// The last step before the first byte: say durably that the key is about to leave.
    pub(super) fn admit(&mut self, now: UnixMillis) -> Action {
        let Some(current) = self.current.clone() else {
            return self.read_again();
        };
        let Some(spend) = current.spend_key() else {
            return Action::Finish(Verdict::LoginNeeded(Death::NoRefreshToken));
        };
        if let Some(standing) = self.no_longer_due(now) {
            return self.proceed(standing, None, now);
        }
        let mut record = self.record_or_new();
        self.origin = unanswered(&record, spend).and_then(|sent| {
            let origin = sent.holder.origin().map(str::to_owned);
            origin.or_else(|| self.origin.take())
        });
        note_newer_login(&mut record, Some(&current));
        let (first_at, sends) = unanswered(&record, spend).map_or((now, 1), |earlier| {
            (earlier.first_at, earlier.sends.saturating_add(1))
        });
        if self.doubt().is_some() {
            // Written ahead, so that a process that dies each time it sends does not send at each start.
            self.back_off(&mut record, "an earlier refresh is unanswered", None, now);
        }
        record.state = RecordState::Sent(Sent {
            spend,
            first_at,
            last_at: now,
            sends,
            holder: self.setup.me.clone(),
        });
        record.generation = Some(current);
        self.admitted = Some(record.clone());
        self.go(Phase::Admitting, Action::Admit(Box::new(record)))
    }

    /// Connecting and recording take time, in which the replay grace may run out. A first send is not bound to time.
    fn no_longer_due(&self, now: UnixMillis) -> Option<Standing> {
        self.doubt()?;
        self.standing(now)
            .filter(|standing| !matches!(standing, Standing::Due(_)))
    }

    pub(super) fn send(&mut self, now: UnixMillis) -> Action {
        let Some(current) = self.current.clone() else {
            return self.read_again();
        };
        if let Some(standing) = self.no_longer_due(now) {
            return self.proceed(standing, None, now);
        }
        self.go(Phase::Sending, Action::Send(Box::new(current)))
    }

    pub(super) fn on_answer(&mut self, answer: Answer, now: UnixMillis) -> Action {
        let (Some(current), Some(admitted)) = (self.current.clone(), self.admitted.clone()) else {
            return self.read_again();
        };
        match answer {
            Answer::NotWritten(failure) => self.on_not_written(admitted, failure),
            Answer::Unspent { failure, retry_after } => self.on_unspent(admitted, failure, retry_after, now),
            Answer::Ambiguous(failure) => self.on_ambiguous(admitted, failure, now),
            Answer::Refused { code, description } => {
                self.record = Some(admitted);
                self.go(Phase::Confirming { code, description }, Action::Read)
            }
            Answer::Granted(answer) => {
                let grace = self.setup.policy.replay_grace;
                let answer = counted_from_first_send(merged(*answer, &current), &admitted, grace);
                self.record = Some(admitted);
                if current.account.contradicts(&answer.account) {
                    return self.park(&current, answer, now);
                }
                self.accept(answer, false, now)
            }
        }
    }

    /// The state goes back to what it was: nothing happened. What the record has learned about the generation stays,
    /// for the store may have lost it in the meantime.
    fn on_not_written(&mut self, mut record: Record, failure: Failure) -> Action {
        let before = self.record_or_new();
        let outcome_unknown = self.doubt().is_some();
        let same_key = before.generation.as_ref().and_then(Generation::spend_key) == self.key();
        record.state = if same_key { before.state } else { RecordState::Idle };
        record.backoff = before.backoff;
        let verdict = Verdict::TryAgain {
            failure,
            until: None,
            outcome_unknown,
        };
        self.settle(record, verdict)
    }

    fn on_unspent(
        &mut self,
        mut record: Record,
        failure: Failure,
        retry_after: Option<Duration>,
        now: UnixMillis,
    ) -> Action {
        // An answer to this request says nothing about an earlier one that is still unanswered.
        let earlier = self.doubt().cloned();
        let outcome_unknown = earlier.is_some();
        record.state = earlier.map_or(RecordState::Idle, RecordState::Sent);
        let until = self.back_off(&mut record, &failure.reason, retry_after, now);
        let verdict = Verdict::TryAgain {
            failure,
            until: Some(until),
            outcome_unknown,
        };
        self.settle(record, verdict)
    }

    fn on_ambiguous(&mut self, mut record: Record, failure: Failure, now: UnixMillis) -> Action {
        let until = self.back_off(&mut record, &failure.reason, None, now);
        self.record = Some(record.clone());
        if self.standing(now) == Some(Standing::Due(Due::WithinGrace)) {
            return self.go(Phase::Repeating, Action::Record(Box::new(record)));
        }
        let verdict = Verdict::TryAgain {
            failure,
            until: Some(until),
            outcome_unknown: true,
        };
        self.settle(record, verdict)
    }

    fn park(&mut self, current: &Generation, answer: Generation, now: UnixMillis) -> Action {
        let mut record = self.record_or_new();
        if let Some(spent) = current.spend_key() {
            record.state = RecordState::Parked {
                spent,
                answer: Box::new(answer),
                at: now,
            };
        }
        self.settle(record, Verdict::LoginNeeded(Death::OtherAccount))
    }
}

/// Within its grace a server answers a repeated request with the very tokens of the first answer, and their
/// `expires_in` counts from then. Ending a token too early costs one refresh; ending it too late hands out a dead one.
fn counted_from_first_send(mut answer: Generation, admitted: &Record, grace: Duration) -> Generation {
    let RecordState::Sent(sent) = &admitted.state else {
        return answer;
    };
    let lag = sent.first_at.until(sent.last_at);
    if sent.sends > 1 && lag < grace {
        answer.tokens.expires = answer.tokens.expires.map(|end| end.minus(lag));
        answer.issued_at = answer.issued_at.map(|at| at.minus(lag));
    }
    answer
}

/// RFC 6749 section 6: what an answer lacks keeps its value. The caller merges by the provider's rules; this makes
/// sure once more that no answer, however poor, takes anything away.
fn merged(mut answer: Generation, old: &Generation) -> Generation {
    if answer.tokens.refresh_token().is_none() {
        answer.tokens.refresh.clone_from(&old.tokens.refresh);
    }
    if answer.tokens.access.is_blank() {
        answer.tokens.access = old.tokens.access.clone();
        answer.tokens.expires = old.tokens.expires;
        answer.issued_at = old.issued_at;
    }
    if answer.tokens.id_token.is_none() {
        answer.tokens.id_token.clone_from(&old.tokens.id_token);
    }

    for (name, value) in &old.fields {
        answer.fields.entry(name.clone()).or_insert_with(|| value.clone());
    }
    answer
}
