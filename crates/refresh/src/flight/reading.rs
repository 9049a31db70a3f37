//! What the snapshot means: adopt, wait, heal, believe a refusal, or go on to send.

use tokensink_types::record::{Backoff, Generation, Record, RecordState, Sent};
use tokensink_types::{SpendKey, UnixMillis};

use super::{Action, Event, Failure, Rival, Setup, Snapshot, Verdict};
use super::{Flight, Phase, REREAD_WAIT, new_record, try_again};
use crate::stand::{Death, RESTORED_SPENT, Standing, alive, exempt, is_ahead, unanswered};
use crate::view::{descends_from, note_newer_login, overlay};

impl Flight {
    /// `refusal` is a terminal answer that was just received and is believed only if nothing newer is found now.
    pub(super) fn on_snapshot(
        &mut self,
        snapshot: Snapshot,
        refusal: Option<(String, String)>,
        now: UnixMillis,
    ) -> Action {
        let Some(stored) = snapshot.stored else {
            return Action::Finish(Verdict::Gone);
        };
        let asked_before = self.key();
        self.stored_key = stored.spend_key();
        self.record = snapshot.record;
        if let Some((record, key)) = self.record.as_mut().zip(self.stored_key)
            && is_rolled_back(record, &stored, key, &snapshot.rivals)
        {
            // Whoever only reads must come to the same conclusion, so this goes into the record first.
            record.push_ancestor(key);
            let record = Box::new(record.clone());
            return self.go(Phase::Learning { refusal }, Action::Record(record));
        }
        let view = overlay(&stored, self.record.as_ref());
        let (current, heal) = (view.current.clone(), view.heal);
        self.current = Some(current.clone());
        self.admitted = None;
        let refusal = match refusal.zip(asked_before) {
            Some((refusal, spent)) if current.spend_key() != Some(spent) => {
                return self.note_overtaken(&current, spent, refusal, now);
            }
            asked => asked.map(|(refusal, _)| refusal),
        };
        let fresh = self.standing(now) == Some(Standing::Fresh);
        if refusal.is_none() && fresh {
            return self.heal_first(heal, now);
        }
        if let Some(holder) = snapshot.holders.iter().find(|holder| {
            is_ahead(
                &holder.generation,
                &current,
                self.record.as_ref(),
                &self.setup.demand,
                now,
            )
        }) {
            let place = holder.place.clone();
            return self.lead_elsewhere(place, refusal, now);
        }
        if let Some(action) = self.on_rivals(&current, &snapshot.rivals, refusal.is_some(), now) {
            return action;
        }
        if let Some(refusal) = refusal {
            return self.refuse(refusal, now);
        }
        self.heal_first(heal, now)
    }

    /// What a copy knows of our store is noted; the store is looked at anew with it.
    pub(super) fn after_learning(&mut self, refusal: Option<(String, String)>) -> Action {
        match refusal {
            Some((code, description)) => self.go(Phase::Confirming { code, description }, Action::Read),
            None => self.read_again(),
        }
    }

    /// A refusal waits for the holders to be read. If they cannot be, it is not believed, and what is durable goes on
    /// saying that the outcome is unknown.
    pub(super) fn on_confirming(
        &mut self,
        code: String,
        description: String,
        event: Event,
        now: UnixMillis,
    ) -> Action {
        match event {
            Event::Read(snapshot) => self.on_snapshot(*snapshot, Some((code, description)), now),
            Event::Waited => self.go(Phase::Confirming { code, description }, Action::Read),
            Event::Failed(_) if self.next_round().is_ok() => {
                self.go(Phase::Confirming { code, description }, Action::Wait(REREAD_WAIT))
            }
            Event::Failed(failure) => {
                let mut record = self.record_or_new();
                let until = self.back_off(&mut record, &failure.reason, None, now);
                let verdict = Verdict::TryAgain {
                    failure,
                    until: Some(until),
                    outcome_unknown: true,
                };
                self.settle(record, verdict)
            }
            event => super::out_of_turn(&Phase::Confirming { code, description }, &event),
        }
    }

    /// The store was changed under a request that was refused: what it holds now is looked at anew. What was refused
    /// goes into the record first: if a stale copy brings it back, it is not sent again.
    fn note_overtaken(
        &mut self,
        current: &Generation,
        spent: SpendKey,
        refusal: (String, String),
        now: UnixMillis,
    ) -> Action {
        let mut record = self.record_or_new();
        self.mark_refused(&mut record, spent, refusal, now);
        let known = record.generation.as_ref().map(|known| known.tokens.expires);
        // An older copy that was put back is not to drive out what it would replace.
        if known.is_none_or(|end| current.tokens.expires > end) {
            note_newer_login(&mut record, Some(current));
            record.generation = Some(current.clone());
        }
        self.record = Some(record.clone());
        self.go(Phase::Overtaken, Action::Record(Box::new(record)))
    }

    /// A holder is ahead of us. Where that explains a refusal it is believed and kept: if a stale copy brings our
    /// refresh token back, it is not sent again.
    fn lead_elsewhere(
        &mut self,
        place: String,
        refusal: Option<(String, String)>,
        now: UnixMillis,
    ) -> Action {
        let elsewhere = Verdict::Elsewhere { place };
        let Some((refusal, spent)) = refusal.zip(self.key()) else {
            return Action::Finish(elsewhere);
        };
        let mut record = self.record_or_new();
        self.mark_refused(&mut record, spent, refusal, now);
        self.settle(record, elsewhere)
    }

    /// Copies of this grant under other names: the newest generation is adopted, a request under way is waited for.
    fn on_rivals(
        &mut self,
        current: &Generation,
        rivals: &[Rival],
        is_refused: bool,
        now: UnixMillis,
    ) -> Option<Action> {
        let key = current.spend_key()?;
        for rival in rivals {
            let record = &rival.record;
            if record.is_ancestor(key) {
                return Some(match adoptable(current, key, record) {
                    Some(newer) => self.accept(newer.clone(), true, now),
                    None => self.refuse_spent(key, record, now),
                });
            }
            match &record.state {
                RecordState::Sent(sent) if sent.spend == key && rival.may_be_alive => {
                    let reason = format!(
                        "profile {} holds the same login and {} is refreshing it since {} ms",
                        record.profile,
                        sent.holder,
                        sent.last_at.until(now).as_millis()
                    );
                    return Some(try_again(Failure { reason, fix: None }, None));
                }
                // Their holder died after sending: what may have happened to their request may have happened to ours.
                RecordState::Sent(sent) if sent.spend == key && !exempt(&self.setup.policy, record) => {
                    self.inherit_doubt(key, record);
                }
                RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. } if *spent == key => {
                    self.inherit_doubt(key, record);
                }
                // The copy was answered without a new refresh token: what it has is newer all the same.
                _ if !is_refused => {
                    if let Some(newer) = self.lasts_longer(current, record, now) {
                        return Some(self.accept(newer.clone(), true, now));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The copy's generation, if it has our refresh token and an access token that serves where ours does not.
    fn lasts_longer<'a>(
        &self,
        ours: &Generation,
        copy: &'a Record,
        now: UnixMillis,
    ) -> Option<&'a Generation> {
        let theirs = copy.generation.as_ref()?;
        let later = theirs.spend_key() == ours.spend_key() && theirs.tokens.expires > ours.tokens.expires;
        let serves = alive(theirs, &self.setup.demand, now) && !alive(ours, &self.setup.demand, now);
        (later && serves && !ours.account.contradicts(&theirs.account)).then_some(theirs)
    }

    /// A copy of this login has used up the key and leaves us nothing to go on with.
    fn refuse_spent(&mut self, spent: SpendKey, rival: &Record, now: UnixMillis) -> Action {
        let code = "spent_by_copy".to_owned();
        let description = format!(
            "profile {} held the same login, has used up its refresh token and belongs to another login now",
            rival.profile
        );
        let mut record = self.record_or_new();
        note_newer_login(&mut record, self.current.as_ref());
        record.generation.clone_from(&self.current);
        let death = write_refused(&mut record, spent, (code, description), false, now);
        self.settle(record, Verdict::LoginNeeded(death))
    }

    /// What the rival's record says about `key` holds for us, too, and so does its wait: copies of one login must not
    /// take turns in asking at once.
    fn inherit_doubt(&mut self, key: SpendKey, rival: &Record) {
        let state = &rival.state;
        let current = self.current.clone();
        let record = self
            .record
            .get_or_insert_with(|| new_record(&self.setup, current));
        let in_doubt = unanswered(record, key).is_some();
        let known = match &record.state {
            // A definite answer ends our own doubt.
            RecordState::Sent(_) => in_doubt && matches!(state, RecordState::Sent(_)),
            RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. } => *spent == key,
            RecordState::Idle | RecordState::Answered { .. } | RecordState::Committed { .. } => false,
        };
        if !known {
            note_newer_login(record, self.current.as_ref());
            record.state = state.clone();
            if let RecordState::Refused {
                after_lost_answer, ..
            } = &mut record.state
            {
                *after_lost_answer |= in_doubt;
            }
        }
        let end = |backoff: &Option<Backoff>| backoff.as_ref().map(|backoff| backoff.not_before);
        if end(&rival.backoff) > end(&record.backoff) {
            record.backoff.clone_from(&rival.backoff);
        }
    }

    fn heal_first(&mut self, heal: bool, now: UnixMillis) -> Action {
        match self.current.clone() {
            Some(current) if heal => {
                let commit = Action::Commit {
                    expected: self.stored_key,
                    generation: Box::new(current),
                };
                self.go(Phase::Healing, commit)
            }
            _ => self.go_on(None, now),
        }
    }

    pub(super) fn after_heal(&mut self, now: UnixMillis) -> Action {
        self.stored_key = self.key();
        match self.record.as_mut() {
            Some(record) if matches!(record.state, RecordState::Answered { .. }) => {
                record.state = RecordState::Committed { at: now };
                let record = Box::new(record.clone());
                self.go(Phase::Healed, Action::Record(record))
            }
            _ => self.go_on(None, now),
        }
    }

    /// Goes by the standing of this moment: healing took its time.
    pub(super) fn go_on(&mut self, store_behind: Option<Failure>, now: UnixMillis) -> Action {
        match self.standing(now) {
            Some(standing) => self.proceed(standing, store_behind, now),
            None => self.read_again(),
        }
    }

    pub(super) fn proceed(
        &mut self,
        standing: Standing,
        store_behind: Option<Failure>,
        now: UnixMillis,
    ) -> Action {
        match standing {
            Standing::Fresh => Action::Finish(Verdict::Served { store_behind }),
            Standing::Due(_) => self.go(Phase::Connecting, Action::Connect),
            Standing::Unknown { sent, until } => Action::Finish(Verdict::TryAgain {
                failure: unknown_outcome(&self.setup, &sent, now),
                until: Some(until),
                outcome_unknown: true,
            }),
            Standing::BackOff { until, reason } => try_again(Failure { reason, fix: None }, Some(until)),
            Standing::Dead(death) => Action::Finish(Verdict::LoginNeeded(death)),
        }
    }

    fn refuse(&mut self, refusal: (String, String), now: UnixMillis) -> Action {
        let mut record = self.record_or_new();
        let Some(spent) = self.key() else {
            return self.read_again();
        };
        let death = self.mark_refused(&mut record, spent, refusal, now);
        self.settle(record, Verdict::LoginNeeded(death))
    }

    /// Says in the record that the server has refused the key, by its code and description.
    fn mark_refused(
        &mut self,
        record: &mut Record,
        spent: SpendKey,
        (code, description): (String, String),
        now: UnixMillis,
    ) -> Death {
        if let Some(origin) = self.origin.take() {
            let description = format!(
                "it was restored from {origin}, and its refresh token has been used or revoked since: {}",
                format!("{code} {description}").trim()
            );
            return write_refused(
                record,
                spent,
                (RESTORED_SPENT.to_owned(), description),
                false,
                now,
            );
        }
        // More than one send means that an earlier answer may not have reached us: the refusal may be its echo.
        let is_echo = unanswered(record, spent).is_some_and(|sent| sent.sends > 1);
        write_refused(record, spent, (code, description), is_echo, now)
    }
}

fn write_refused(
    record: &mut Record,
    spent: SpendKey,
    (code, description): (String, String),
    after_lost_answer: bool,
    at: UnixMillis,
) -> Death {
    record.state = RecordState::Refused {
        spent,
        code: code.clone(),
        description: description.clone(),
        after_lost_answer,
        at,
    };
    record.backoff = None;
    Death::Refused {
        code,
        description,
        after_lost_answer,
    }
}

/// A key that our record does not know would be a newer login's. It is an older one of our own grant if a copy of the
/// grant has spent it for a generation that we have had since: then the store was rolled back. To the copy that may have
/// been another login, where another program refreshed; then it is an older one if the account is known to be the same.
fn is_rolled_back(record: &Record, stored: &Generation, key: SpendKey, rivals: &[Rival]) -> bool {
    let Some(known) = &record.generation else {
        return false;
    };
    let ours = known.spend_key();
    if ours == Some(key) || record.is_ancestor(key) {
        return false;
    }
    let same_account = stored.account.matches(&known.account) == Some(true);
    rivals.iter().any(|rival| {
        let theirs = rival.record.generation.as_ref().and_then(Generation::spend_key);
        let ours_since = theirs.is_some_and(|theirs| ours == Some(theirs) || descends_from(record, theirs));
        let is_older = descends_from(&rival.record, key) || same_account && rival.record.is_ancestor(key);
        ours_since && is_older
    })
}

/// The rival's generation, if it is certain enough that it was issued for `key` and not to a later login of another
/// account.
fn adoptable<'a>(current: &Generation, key: SpendKey, record: &'a Record) -> Option<&'a Generation> {
    let newer = record.generation.as_ref()?;
    let same_account = current.account.matches(&newer.account) == Some(true);
    let same_grant = descends_from(record, key) && !current.account.contradicts(&newer.account);
    (same_account || same_grant).then_some(newer)
}

fn unknown_outcome(setup: &Setup, sent: &Sent, now: UnixMillis) -> Failure {
    if let Some(origin) = sent.holder.origin() {
        let reason = format!(
            "{} was restored from {origin}; its refresh token may have been used since and is kept until the access token ends",
            setup.profile
        );
        return Failure { reason, fix: None };
    }
    let reason = format!(
        "a refresh of {} was sent {} s ago by {} and its answer never arrived, so it is not known whether the refresh token is spent",
        setup.profile,
        sent.last_at.until(now).as_secs(),
        sent.holder
    );
    Failure { reason, fix: None }
}
