//! What an agent itself holds of a profile: the stored credential and the refresh record beside it.
//!
//! Logout and retry change both, so they look at both, under the grant's lock. What an agent merely inherits is not
//! held by it. A record that cannot be read never hides the credential; the error is kept for whoever must tell it.

use std::sync::Arc;
use std::time::Duration;

use tokensink_host::lock::{LockError, Wait};
use tokensink_refresh::overlay;
use tokensink_store::{GuardedLock, LockKind, StoreError, lock_sibling};
use tokensink_types::record::{Generation, Record};
use tokensink_types::{Credential, Labels, OAuth, ProfileId, ProviderId};

use crate::block::Block;
use crate::error::{ErrorKind, Result, SinkError};
use crate::grant::{generation_of, restored, with_generation};
use crate::owner::Target;
use crate::sink::Sink;

/// How long a change of a grant waits for a refresh that is under way; a healthy one takes a second or two.
const GRANT_LOCK_WAIT: Duration = Duration::from_secs(10);

/// A profile as its owner's store and its refresh record have it.
#[derive(Debug)]
pub(crate) struct Held {
    /// What the store has.
    pub(crate) credential: Option<Credential>,
    /// What the record says, if it can be read.
    pub(crate) record: Option<Arc<Record>>,
    /// Why it cannot: it does not parse, or the system refuses.
    pub(crate) unreadable: Option<StoreError>,
}

impl Held {
    /// The provider of the profile; `None` when nothing is held.
    pub(crate) fn provider(&self) -> Option<&ProviderId> {
        let stored = self.credential.as_ref().map(Credential::provider);
        stored.or_else(|| self.lone_record().map(|record| &record.provider))
    }

    /// The grant with its newest tokens: the store overlaid by the record, or the record alone.
    pub(crate) fn grant(&self) -> Option<OAuth> {
        match &self.credential {
            Some(credential) => {
                let oauth = restored(credential.as_oauth()?, self.record.as_deref());
                let stored = generation_of(&oauth);
                Some(with_generation(
                    &oauth,
                    overlay(&stored, self.record.as_deref()).current,
                ))
            }
            None => {
                let record = self.lone_record()?;
                Some(from_record(&record.provider, record.generation.as_ref()?))
            }
        }
    }

    /// The record of a login that never came into the store.
    fn lone_record(&self) -> Option<&Record> {
        let record = self.record.as_deref()?;
        (self.credential.is_none() && record.generation.is_some()).then_some(record)
    }
}

/// The profile that a record's generation makes where the store has none.
fn from_record(provider: &ProviderId, generation: &Generation) -> OAuth {
    OAuth {
        provider: provider.clone(),
        tokens: generation.tokens.clone(),
        account: generation.account.clone(),
        client_id: None,
        fields: generation.fields.clone(),
        labels: Labels {
            email: generation.account.email.clone(),
            display_name: None,
        },
    }
}

impl Sink {
    /// What the target's owner holds of it now.
    pub(crate) fn held(&self, target: &Target) -> Result<Held> {
        let credential = match target.place() {
            None => self.store().credential(&target.owner, &target.profile)?,
            Some(_) => self.stored_oauth(target)?.map(Credential::OAuth),
        };
        let read = self.record_key(target)?.map(|key| self.journal().read(&key));
        let (record, unreadable) = match read.transpose() {
            Ok(record) => (record.flatten(), None),
            Err(error) => (None, Some(error)),
        };
        Ok(Held {
            credential,
            record,
            unreadable,
        })
    }

    /// Takes both locks under which a grant is refreshed, so that none is refreshed while it is changed: the kernel's
    /// and the `.lock` file of OpenClaw. `doing` says in the error what has to wait.
    pub(crate) fn lock_grant(
        &self,
        provider: &ProviderId,
        profile: &ProfileId,
        doing: &str,
    ) -> Result<GuardedLock> {
        let path = self.refresh_lock_path(provider, profile);
        let wait = Wait {
            deadline: GRANT_LOCK_WAIT,
        };
        let error =
            match GuardedLock::acquire(self.host(), &path, &lock_sibling(&path), LockKind::Refresh, wait) {
                Ok(lock) => return Ok(lock),
                Err(error) => error,
            };
        let busy = |reason: String, fix: Option<String>| {
            let message = format!("{profile} cannot be {doing} now: {reason}");
            SinkError::new(ErrorKind::TryAgain, "refreshing", message)
                .with_fix_if(fix)
                .about(profile)
        };
        Err(match error {
            StoreError::Kernel(LockError::Busy { holder, .. }) => {
                let block = Block::held(profile, holder.as_deref());
                busy(block.reason, block.fix)
            }
            StoreError::Busy(holder) => busy(holder.to_string(), None),
            other => SinkError::from(other).about(profile),
        })
    }

    /// Refuses a change while `OPENCLAW_AUTH_STORE_READONLY` is set (spec.md 1.9), before anything is touched.
    pub(crate) fn require_writable(&self, doing: &str) -> Result<()> {
        if !self.store().is_readonly() {
            return Ok(());
        }
        let message =
            format!("OPENCLAW_AUTH_STORE_READONLY is set, so {doing} is not possible; nothing was changed");
        Err(SinkError::new(ErrorKind::Failed, "readonly", message)
            .with_fix("unset OPENCLAW_AUTH_STORE_READONLY"))
    }
}
