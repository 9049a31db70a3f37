//! Storing what a plan says, one credential after the other.
//!
//! Each is stored under its refresh lock, the record first and the store second, by compare-and-set on what the plan
//! was made for, and read back. What is cut off in between is finished by the same import again: a login that only
//! its record holds counts as new. Nothing of the source is touched, so whatever fails here is still there.
//!
//! A login of which nobody can say whether its refresh token is still unspent (from a bundle, or an archived file) gets
//! a record that says so: a request with this key may have left, and its outcome is unknown. The refresh protocol then
//! does what it does after a crash. The access token serves while it lives; the refresh token is sent only when that
//! is dead or rejected, and a refusal is told as what it is, a generation that has been spent elsewhere.

use tokensink_refresh::after_login;
use tokensink_store::{CasOutcome, OrderPlacement};
use tokensink_types::record::{Record, RecordState, Sent};
use tokensink_types::{Credential, OAuth, ProcessId, ProfileId};

use super::Unverified;
use super::report::{ImportFailure, ImportOrder, ImportPlan, ImportReport, Work};
use crate::audit;
use crate::error::{ErrorKind, Result, SinkError};
use crate::grant::generation_of;
use crate::owner::Target;
use crate::sink::Sink;

impl Sink {
    /// Stores what the plan says. A credential that cannot be stored stops none of the others.
    ///
    /// # Errors
    /// When nothing may be written at all.
    pub fn apply_import(&self, plan: &ImportPlan) -> Result<ImportReport> {
        self.require_writable("an import")?;
        let mut report = ImportReport::default();
        for work in &plan.work {
            let (agent, profile) = (work.write.agent.clone(), work.write.profile.clone());
            match self.store_incoming(work) {
                Ok(()) => {
                    self.enter_into_config(work, &mut report.notes);
                    report.stored.push((agent, profile));
                }
                Err(error) => report.failed.push(ImportFailure {
                    agent,
                    profile,
                    error,
                }),
            }
        }
        for order in &plan.orders {
            match self.take_order(order, &report) {
                Ok(Some(order)) => report.orders.push(order),
                Ok(None) => {}
                Err(error) => report.notes.push(format!(
                    "the order of {} was not taken over: {error}",
                    order.provider
                )),
            }
        }
        Ok(report)
    }

    fn store_incoming(&self, work: &Work) -> Result<()> {
        let write = &work.write;
        let target = Target::of_agent(&write.agent, &write.profile);
        let entry = work.entry();
        let _lock = self.lock_grant(work.incoming.provider(), &target.profile, "imported")?;
        if let Credential::OAuth(oauth) = entry.credential() {
            self.record_incoming(&target, oauth, work)?;
        }
        match self.store().adopt(&target.owner, &entry, write.expected)? {
            CasOutcome::Done => {}
            CasOutcome::Conflict(_) => return Err(changed(&target)),
        }
        self.read_back(&target, entry.credential())?;
        self.begin_anew(&target);
        if work.incoming.bundle.is_some() {
            self.tombstones().clear(&target.owner, &target.profile)?;
        }
        self.audit(&audit::Event {
            what: "import",
            agent: &target.owner,
            profile: &target.profile,
            detail: format!(
                "{}/{}",
                work.incoming.provider(),
                entry.credential().kind().as_str()
            ),
        });
        Ok(())
    }

    /// What was believed of an earlier credential under that id says nothing of the one that was imported. Where nothing
    /// was, nothing is written.
    fn begin_anew(&self, target: &Target) {
        let (owner, id) = (&target.owner, &target.profile);
        let seen = self.calls().benches().read(owner);
        let stored = self.store().load(owner);
        let has_usage = stored.is_ok_and(|stored| stored.state.usage(id).is_some());
        if (has_usage || seen.entry(id).is_some())
            && let Err(error) = self.new_epoch(owner, id)
        {
            tracing::warn!(%owner, profile = %id, %error, "a bench of the credential before is still in force");
        }
    }

    /// Writes the refresh record, unless the store no longer holds what the plan was made for.
    fn record_incoming(&self, target: &Target, oauth: &OAuth, work: &Work) -> Result<()> {
        let held = self.held(target)?;
        if !work.write.expected.is_met_by(held.credential.as_ref()) {
            return Err(changed(target));
        }
        let key = self.agent_record_key(&target.owner, &target.profile)?;
        let idle = |oauth: &OAuth| {
            Record::idle(
                oauth.provider.clone(),
                target.profile.clone(),
                key.store.clone(),
                Some(generation_of(oauth)),
            )
        };
        let earlier = held.record.as_deref().cloned();
        let earlier = match held.credential.as_ref().and_then(Credential::as_oauth) {
            Some(stored) => Some(after_login(earlier.as_ref(), idle(stored))),
            None => earlier,
        };
        let mut record = after_login(earlier.as_ref(), idle(oauth));
        for spent in work.incoming.ancestors.iter().rev() {
            record.push_ancestor(*spent);
        }
        if let Some(unverified) = &work.incoming.unverified {
            self.doubt(&mut record, unverified);
        }
        self.journal().write(&record).map_err(SinkError::from)
    }

    /// Notes in the record that a request with its key may have left elsewhere.
    fn doubt(&self, record: &mut Record, unverified: &Unverified) {
        let key = record
            .generation
            .as_ref()
            .and_then(tokensink_types::record::Generation::spend_key);
        let Some(spend) = key.filter(|_| record.state == RecordState::Idle) else {
            return;
        };
        record.state = RecordState::Sent(Sent {
            spend,
            first_at: unverified.at,
            last_at: unverified.at,
            sends: 1,
            holder: ProcessId::elsewhere(&self.host().processes.this(), &unverified.origin),
        });
    }

    /// Every secret is compared with what the store gives when it is asked anew.
    fn read_back(&self, target: &Target, wanted: &Credential) -> Result<()> {
        let stored = self.store().credential(&target.owner, &target.profile)?;
        let same = match (stored.as_ref(), wanted) {
            (Some(Credential::OAuth(stored)), Credential::OAuth(wanted)) => stored.tokens == wanted.tokens,
            (Some(Credential::ApiKey(stored)), Credential::ApiKey(wanted)) => stored.key == wanted.key,
            (Some(Credential::Token(stored)), Credential::Token(wanted)) => {
                stored.token == wanted.token && stored.expires == wanted.expires
            }
            _ => false,
        };
        if same {
            return Ok(());
        }
        let message = format!(
            "{} was written, but reading it back gave something else; the source still has it",
            target.profile
        );
        Err(SinkError::new(ErrorKind::Failed, "not_read_back", message).about(&target.profile))
    }

    fn enter_into_config(&self, work: &Work, notes: &mut Vec<String>) {
        let id = &work.write.profile;
        let credential = work.incoming.entry.credential();
        let email = work
            .incoming
            .account()
            .email
            .or_else(|| work.config.email.clone());
        let edited = self.edit_config(|editor| {
            editor.apply_profile(
                id,
                credential.provider(),
                credential.kind().as_str(),
                email.as_deref(),
                OrderPlacement::AppendIfMissing,
            )
        });
        if let Err(error) = edited {
            notes.push(format!(
                "openclaw.json does not mention {id}, which is used all the same: {error}"
            ));
        }
    }

    /// Takes an order over, if there still is none and all of its profiles are here: a part of it would stand in the
    /// way of the whole when the import is run again.
    fn take_order(&self, order: &ImportOrder, report: &ImportReport) -> Result<Option<ImportOrder>> {
        let failed = |id: &ProfileId| report.failed.iter().any(|failure| failure.profile == *id);
        if order.profiles.iter().any(failed) || self.has_order(order.agent.as_ref(), &order.provider)? {
            return Ok(None);
        }
        match &order.agent {
            Some(agent) => self
                .store()
                .update_state(agent, |state| state.set_order(&order.provider, &order.profiles))?,
            None => {
                let ids: Vec<String> = order.profiles.iter().map(|id| id.as_str().to_owned()).collect();
                self.edit_config(|editor| {
                    editor.set_list(&["auth", "order", order.provider.as_str()], &ids)
                })?;
            }
        }
        Ok(Some(order.clone()))
    }
}

fn changed(target: &Target) -> SinkError {
    let message = format!(
        "{} was changed by another program since the plan was made",
        target.profile
    );
    SinkError::new(ErrorKind::TryAgain, "conflict", message)
        .with_fix("run the import again")
        .about(&target.profile)
}
