//! The owner store of a grant: the one place where its present refresh token is kept, read and replaced.
//!
//! Everything that asks "what does the store hold?" or writes an answer into it comes through here, so that a flight,
//! a lease and a status line mean the same place. It does not know when a grant is refreshed.

use tokensink_store::{CasOutcome, Expected, OwnedProfile, RecordKey, StoreError};
use tokensink_types::record::Generation;
use tokensink_types::{AgentId, Credential, OAuth, ProfileId, SpendKey};

use crate::grant::{generation_of, with_generation};
use crate::sink::Sink;

/// A grant by its place: a profile in the store of the agent that owns it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) owner: AgentId,
    pub(crate) profile: ProfileId,
}

impl Target {
    /// The profile with this id in the agent's own store.
    pub(crate) fn of_agent(owner: &AgentId, profile: &ProfileId) -> Self {
        Self {
            owner: owner.clone(),
            profile: profile.clone(),
        }
    }

    /// Where a profile that somebody sees is kept.
    pub(crate) fn of(profile: &OwnedProfile) -> Self {
        Self::of_agent(&profile.owner, &profile.entry.id)
    }
}

/// What became of a conditional write into an owner store.
#[derive(Debug)]
pub(crate) enum Replaced {
    /// The store holds the new generation; it was read back.
    Done,
    /// It held something else, and nothing was written; `None` when the profile is gone.
    Conflict(Option<Box<Generation>>),
}

impl Sink {
    /// The OAuth profile as its owner store has it now.
    pub(crate) fn stored_oauth(&self, target: &Target) -> Result<Option<OAuth>, StoreError> {
        let store = self.store().load(&target.owner)?;
        Ok(store
            .profiles
            .get(&target.profile)
            .and_then(Credential::as_oauth)
            .cloned())
    }

    /// What names the target's refresh record.
    pub(crate) fn record_key(&self, target: &Target) -> Result<RecordKey, StoreError> {
        Ok(RecordKey {
            store: self.store().owner_path(&target.owner)?,
            profile: target.profile.clone(),
        })
    }

    /// Writes `next` into the owner store if that still holds the refresh token `expected`, or none where that is
    /// `None`.
    pub(crate) fn replace_tokens(
        &self,
        target: &Target,
        expected: Option<SpendKey>,
        next: &Generation,
    ) -> Result<Replaced, StoreError> {
        let Some(oauth) = self.stored_oauth(target)? else {
            return Ok(Replaced::Conflict(None));
        };
        let next = Credential::OAuth(with_generation(&oauth, next));
        let expected = expected.map_or(Expected::NoRefreshToken, Expected::Spend);
        let outcome = self
            .store()
            .compare_and_set(&target.owner, &target.profile, expected, Some(&next))?;
        Ok(match outcome {
            CasOutcome::Done => Replaced::Done,
            CasOutcome::Conflict(current) => {
                let found = current.as_deref().and_then(Credential::as_oauth);
                Replaced::Conflict(found.map(generation_of).map(Box::new))
            }
        })
    }
}
