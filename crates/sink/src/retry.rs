//! `models auth retry`: clears what keeps a profile from being tried.
//!
//! It forgets refusals and waiting times, never a doubt: a request whose answer never came stays in the record, since
//! sending its refresh token once more is a decision for the protocol. Another account's tokens stay aside; only a
//! login ends that. A login that never came into the store, because that could not be written, is put there.

#[cfg(test)]
mod tests;

use tokensink_store::{CasOutcome, Expected, OrderPlacement, StoreError};
use tokensink_types::record::{Backoff, Record, RecordState};
use tokensink_types::{
    AgentId, Credential, CredentialKind, ProfileId, SpendKey, UnixMillis, short_remaining, short_wait,
};

use crate::audit;
use crate::block::no_profile;
use crate::error::{ErrorKind, Result, SinkError};
use crate::grant::generation_of;
use crate::held::Held;
use crate::owner::Target;
use crate::report::RetryReport;
use crate::sink::Sink;

impl Sink {
    /// Clears what keeps the profile from being tried: a refusal by the token endpoint, waiting times, the note that
    /// an API rejected its token, and its cooldown and disabled windows. An inherited profile is cleared where it
    /// lives, in main's store. A profile that only its refresh record holds is put back into the store.
    ///
    /// # Errors
    /// [`ErrorKind::LoginNeeded`] when the token endpoint answered with another account's tokens, after everything
    /// else was cleared; a usage error for an unknown profile; [`ErrorKind::TryAgain`] while a refresh is under way;
    /// otherwise when store or record cannot be written.
    pub fn retry(&self, agent: &AgentId, id: &ProfileId) -> Result<RetryReport> {
        self.require_writable("a retry")?;
        let target = self.target_to_retry(agent, id)?;
        let provider = self
            .held(&target)?
            .provider()
            .cloned()
            .ok_or_else(|| no_profile(id, agent))?;
        let _lock = self.lock_grant(&provider, id, "retried")?;
        let mut held = self.held(&target)?;
        if held.provider() != Some(&provider) {
            let message = format!("{id} was changed by another program meanwhile");
            return Err(SinkError::new(ErrorKind::TryAgain, "conflict", message).about(id));
        }
        let mut report = RetryReport {
            profile: id.clone(),
            cleared: Vec::new(),
            notes: Vec::new(),
        };
        match held.unreadable.take() {
            Some(StoreError::Unreadable(_)) => self.set_record_aside(&target, &mut report.cleared)?,
            // What merely could not be read this time is no reason to move it.
            Some(error) => return Err(SinkError::from(error).about(id)),
            None => {}
        }
        // Where another program keeps the login, a missing one is a logout, which is respected.
        if held.credential.is_none() && target.place().is_none() {
            self.put_back(&target, &held, &mut report)?;
        }
        if let Some(record) = &held.record {
            let grant = self.grant(&target)?;
            let present = grant.and_then(|grant| grant.generation.spend_key());
            self.clear_record(record, present, &mut report)?;
        }
        self.clear_windows(&target, &mut report.cleared)?;
        self.audit_retry(&target, &report.cleared);
        match &held.record {
            Some(record) if is_parked(record, &held) => {
                let login = self.remedy(&target, &record.provider);
                Err(parked(&target, &login, &report))
            }
            _ => Ok(report),
        }
    }

    fn audit_retry(&self, target: &Target, cleared: &[String]) {
        if !cleared.is_empty() {
            let detail = cleared.join("; ");
            let Target {
                owner: agent,
                profile,
                ..
            } = target;
            self.audit(&audit::Event {
                what: "retry",
                agent,
                profile,
                detail,
            });
        }
    }

    /// Whose profile is meant: the one that the agent sees, else one that only a refresh record holds.
    fn target_to_retry(&self, agent: &AgentId, id: &ProfileId) -> Result<Target> {
        let snapshot = self.snapshot(agent)?;
        if let Some(profile) = snapshot.profile(id) {
            return Ok(snapshot.target_of(profile));
        }
        let main = Some(AgentId::main()).filter(|_| self.inherits(agent));
        for owner in std::iter::once(agent.clone()).chain(main) {
            let target = Target::of_agent(&owner, id);
            let held = self.held(&target)?;
            if held.credential.is_none() && held.grant().is_some() {
                return Ok(target);
            }
        }
        Err(no_profile(id, agent))
    }

    fn set_record_aside(&self, target: &Target, cleared: &mut Vec<String>) -> Result<()> {
        let Some(key) = self.record_key(target)? else {
            return Ok(());
        };
        let kept = self.journal().set_aside(&key)?;
        cleared.push(format!(
            "a refresh record that could not be read; it is kept as {}",
            kept.display()
        ));
        Ok(())
    }

    /// Puts the login that the record holds into the store, and into `openclaw.json` as a login does.
    fn put_back(&self, target: &Target, held: &Held, report: &mut RetryReport) -> Result<()> {
        let Some(oauth) = held.grant() else { return Ok(()) };
        let Target { owner, profile, .. } = target;
        let (provider, email) = (oauth.provider.clone(), oauth.labels.email.clone());
        let outcome = self.store().compare_and_set(
            owner,
            profile,
            Expected::Absent,
            Some(&Credential::OAuth(oauth)),
        )?;
        if let CasOutcome::Conflict(_) = outcome {
            let message = format!("{profile} was stored by another program meanwhile");
            return Err(SinkError::new(ErrorKind::TryAgain, "conflict", message).about(profile));
        }
        let path = self.paths().profiles_file(owner);
        report.cleared.push(format!(
            "it was missing in {}; it was put back from its refresh record",
            path.display()
        ));
        let mode = CredentialKind::OAuth.as_str();
        let entered = self.edit_config(|editor| {
            editor.apply_profile(profile, &provider, mode, email.as_deref(), OrderPlacement::Front)
        });
        if let Err(error) = entered {
            report
                .notes
                .push(format!("it could not be entered in openclaw.json: {error}"));
        }
        Ok(())
    }

    /// `present` is the refresh token that would be sent: what was said of an earlier one stays said.
    fn clear_record(
        &self,
        record: &Record,
        present: Option<SpendKey>,
        report: &mut RetryReport,
    ) -> Result<()> {
        let now = self.now();
        let mut next = record.clone();
        match &record.state {
            RecordState::Refused { spent, .. } if Some(*spent) != present => {}
            RecordState::Refused { code, at, .. } => {
                let age = short_remaining(at.until(now));
                report.cleared.push(format!("the token endpoint's refusal {code} of {age} ago; the refresh token will be sent again"));
                next.state = RecordState::Idle;
            }
            RecordState::Sent(sent) => report.notes.push(format!(
                "a refresh that {} sent {} ago was never answered; its refresh token is sent again only when the \
                 present access token has ended",
                sent.holder,
                short_remaining(sent.last_at.until(now))
            )),
            RecordState::Idle
            | RecordState::Answered { .. }
            | RecordState::Committed { .. }
            | RecordState::Parked { .. } => {}
        }
        if let Some(backoff) = next.backoff.take() {
            report.cleared.push(wait_words(&backoff, now));
        }
        if next.rejected.take().is_some() {
            report
                .cleared
                .push("the note that an API rejected its access token".to_owned());
        }
        if next != *record {
            self.journal().write(&next)?;
        }
        Ok(())
    }

    /// Clears the profile's benches and the windows of other programs, with the counts that lengthen the next ones
    /// (spec.md 5.5).
    fn clear_windows(&self, target: &Target, cleared: &mut Vec<String>) -> Result<()> {
        let now = self.now();
        let (benches, foreign) = self.new_epoch(&target.owner, &target.profile)?;
        for bench in benches {
            let what = bench.bucket.words();
            let what = what.map_or_else(|| "a bench".to_owned(), |calls| format!("a bench for {calls}"));
            let left = short_wait(now.until(bench.until));
            cleared.push(format!("{what} of {left} more ({})", bench.reason.as_str()));
        }
        for (kind, lane) in [("cooldown", foreign.cooldown), ("disabled", foreign.disabled)] {
            let Some(lane) = lane else { continue };
            let left = short_wait(now.until(lane.until));
            let reason = Some(&*lane.reason).filter(|reason| !reason.is_empty());
            cleared.push(format!(
                "a {kind} window of {left} more ({})",
                reason.unwrap_or("unknown")
            ));
        }
        Ok(())
    }
}

fn wait_words(backoff: &Backoff, now: UnixMillis) -> String {
    let tries = match backoff.failures {
        1 => "a failed refresh".to_owned(),
        n => format!("{n} failed refreshes"),
    };
    let left = short_wait(now.until(backoff.not_before));
    let wait = if now < backoff.not_before {
        format!("a wait of {left} more after {tries}")
    } else {
        tries
    };
    format!("{wait} ({})", backoff.reason)
}

/// Are the other account's tokens the answer to the refresh token that counts now?
fn is_parked(record: &Record, held: &Held) -> bool {
    let RecordState::Parked { spent, .. } = &record.state else {
        return false;
    };
    let current = held.grant().map(|grant| generation_of(&grant));
    current.and_then(|generation| generation.spend_key()) == Some(*spent)
}

fn parked(target: &Target, login: &str, report: &RetryReport) -> SinkError {
    let profile = &target.profile;
    let cleared = if report.cleared.is_empty() {
        String::new()
    } else {
        format!(" (cleared: {})", report.cleared.join("; "))
    };
    let message = format!(
        "only a login helps {profile}: the token endpoint answered a refresh with another account's \
         tokens, which are kept aside and never used{cleared}"
    );
    SinkError::new(ErrorKind::LoginNeeded, "other_account", message)
        .with_fix(login)
        .about(profile)
}
