//! The owner store of a grant: the one place where its present refresh token is kept, read and replaced.
//!
//! Everything that asks "what does the store hold?" or writes an answer into it comes through here, so that a flight,
//! a lease and a status line mean the same place: an agent's own file, or the store of another program whose login
//! is refreshed there. A borrowed login has no owner store of ours: it is read, and that is all. This file does not
//! know when a grant is refreshed.

use std::fmt;
use std::sync::Arc;

use tokensink_neighbours::{NeighbourError, Reading, Written, compare_and_set};
use tokensink_refresh::Failure;
use tokensink_store::{CasOutcome, Expected, RecordKey, StoreError};
use tokensink_types::record::Generation;
use tokensink_types::{AgentId, Credential, OAuth, ProfileId, SpendKey};

use crate::error::{ErrorKind, SinkError};
use crate::external::ExternalMode;
use crate::grant::{generation_of, with_generation};
use crate::sink::Sink;

/// A grant by its place: whose profile it is, and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) owner: AgentId,
    pub(crate) profile: ProfileId,
    pub(crate) keeper: Keeper,
}

/// What keeps a grant. The logins of other programs are named by the keys of their places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Keeper {
    /// The owner's `auth-profiles.json`.
    Agent,
    /// Another program's store, which we may write.
    Cooperative(Arc<str>),
    /// Another program's store, which we only read.
    Borrowed(Arc<str>),
}

impl Target {
    /// The profile with this id in the agent's own store.
    pub(crate) fn of_agent(owner: &AgentId, profile: &ProfileId) -> Self {
        Self {
            owner: owner.clone(),
            profile: profile.clone(),
            keeper: Keeper::Agent,
        }
    }

    /// The key of the other program's place, if the grant is kept there.
    pub(crate) fn place(&self) -> Option<&Arc<str>> {
        match &self.keeper {
            Keeper::Agent => None,
            Keeper::Cooperative(key) | Keeper::Borrowed(key) => Some(key),
        }
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

/// Why an owner store could not be read or written.
#[derive(Debug)]
pub(crate) enum OwnerError {
    Store(StoreError),
    Neighbour(Box<NeighbourError>),
    /// What another program's place holds cannot be used now.
    Unusable {
        reason: String,
        fix: Option<String>,
    },
}

impl OwnerError {
    /// The command that mends it, where one does.
    pub(crate) fn command(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.command(),
            Self::Neighbour(error) => error.command(),
            Self::Unusable { fix, .. } => fix.clone(),
        }
    }

    /// The error in the machine's terms.
    pub(crate) fn failure(&self) -> Failure {
        Failure {
            reason: self.to_string(),
            fix: self.command(),
        }
    }
}

impl fmt::Display for OwnerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Neighbour(error) => error.fmt(f),
            Self::Unusable { reason, .. } => f.write_str(reason),
        }
    }
}

impl From<StoreError> for OwnerError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<NeighbourError> for OwnerError {
    fn from(error: NeighbourError) -> Self {
        Self::Neighbour(Box::new(error))
    }
}

impl From<OwnerError> for SinkError {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Store(error) => error.into(),
            OwnerError::Neighbour(error) if error.is_busy() => {
                Self::new(ErrorKind::TryAgain, "external_busy", error.to_string())
            }
            other => Self::new(ErrorKind::Failed, "external", other.to_string()).with_fix_if(other.command()),
        }
    }
}

impl Sink {
    /// Where the profile `id` of `owner` is kept: main's may be another program's.
    pub(crate) fn target_in(&self, owner: &AgentId, id: &ProfileId) -> Target {
        let mut target = Target::of_agent(owner, id);
        if owner.is_main()
            && let Some(external) = self.externals().serving(id)
        {
            target.keeper = match external.mode() {
                ExternalMode::Cooperative => Keeper::Cooperative(Arc::clone(&external.key)),
                _ => Keeper::Borrowed(Arc::clone(&external.key)),
            };
        }
        target
    }

    /// The OAuth profile as its owner store has it now.
    pub(crate) fn stored_oauth(&self, target: &Target) -> Result<Option<OAuth>, OwnerError> {
        let Some(key) = target.place() else {
            let store = self.store().load(&target.owner)?;
            let stored = store.profiles.get(&target.profile);
            return Ok(stored.and_then(Credential::as_oauth).cloned());
        };
        let externals = self.externals();
        let Some(chosen) = externals.at(key) else {
            return Ok(None);
        };
        // What was chosen otherwise meanwhile is no longer this target.
        let same_mode = match (&target.keeper, chosen.mode()) {
            (Keeper::Cooperative(_), mode) => mode == ExternalMode::Cooperative,
            (_, mode) => matches!(mode, ExternalMode::Borrowed | ExternalMode::Cooperative),
        };
        match chosen.reading.as_deref() {
            _ if !same_mode => Ok(None),
            Some(Reading::Unusable { reason }) => Err(OwnerError::Unusable {
                reason: reason.clone(),
                fix: None,
            }),
            Some(Reading::Locked { hint }) => Err(OwnerError::Unusable {
                reason: format!("{} is locked: {hint}", chosen.place()),
                fix: None,
            }),
            _ => Ok(chosen.oauth().cloned()),
        }
    }

    /// What names the target's refresh record; a borrowed login has none.
    pub(crate) fn record_key(&self, target: &Target) -> Result<Option<RecordKey>, StoreError> {
        match &target.keeper {
            Keeper::Agent => self.agent_record_key(&target.owner, &target.profile).map(Some),
            Keeper::Cooperative(key) => Ok(Some(RecordKey {
                store: key.to_string(),
                profile: target.profile.clone(),
            })),
            Keeper::Borrowed(_) => Ok(None),
        }
    }

    /// What names the refresh record of a profile in the agent's own store.
    pub(crate) fn agent_record_key(&self, owner: &AgentId, id: &ProfileId) -> Result<RecordKey, StoreError> {
        Ok(RecordKey {
            store: self.store().owner_path(owner)?,
            profile: id.clone(),
        })
    }

    /// Writes `next` into the owner store if that still holds the refresh token `expected`, or none where that is
    /// `None`.
    pub(crate) fn replace_tokens(
        &self,
        target: &Target,
        expected: Option<SpendKey>,
        next: &Generation,
    ) -> Result<Replaced, OwnerError> {
        let Some(oauth) = self.stored_oauth(target)? else {
            return Ok(Replaced::Conflict(None));
        };
        let next = with_generation(&oauth, next);
        let expected = expected.map_or(Expected::NoRefreshToken, Expected::Spend);
        match &target.keeper {
            Keeper::Agent => {
                let next = Credential::OAuth(next);
                let outcome =
                    self.store()
                        .compare_and_set(&target.owner, &target.profile, expected, Some(&next))?;
                Ok(match outcome {
                    CasOutcome::Done => Replaced::Done,
                    CasOutcome::Conflict(current) => conflict(current.as_deref()),
                })
            }
            Keeper::Cooperative(key) => self.replace_in_place(key, expected, &next),
            Keeper::Borrowed(_) => Ok(Replaced::Conflict(None)),
        }
    }

    fn replace_in_place(&self, key: &str, expected: Expected, next: &OAuth) -> Result<Replaced, OwnerError> {
        let externals = self.externals();
        let Some(chosen) = externals.at(key) else {
            return Ok(Replaced::Conflict(None));
        };
        let written = compare_and_set(self.host(), chosen.place(), expected, next, self.now());
        self.forget_externals();
        Ok(match written? {
            Written::Done => Replaced::Done,
            Written::Conflict(Reading::Login(login) | Reading::Blanked(login)) => {
                conflict(Some(&login.credential))
            }
            Written::Conflict(Reading::Unusable { reason }) => {
                return Err(OwnerError::Unusable { reason, fix: None });
            }
            Written::Conflict(Reading::Locked { hint }) => {
                return Err(OwnerError::Unusable {
                    reason: hint,
                    fix: None,
                });
            }
            Written::Conflict(Reading::SignedOut | Reading::Missing) => Replaced::Conflict(None),
        })
    }
}

fn conflict(found: Option<&Credential>) -> Replaced {
    let found = found.and_then(Credential::as_oauth);
    Replaced::Conflict(found.map(generation_of).map(Box::new))
}
