//! What an import tells before and after: plain values for rendering. Secrets are in none of them that is shown.

use std::path::PathBuf;

use tokensink_types::{AgentId, CredentialKind, ProfileId, ProviderId};

use super::Incoming;
use super::decide::Write;
use super::programs::Shared;
use super::source::ConfigEntry;
use crate::error::SinkError;

/// What an import would do.
#[derive(Debug)]
pub struct ImportPlan {
    /// Where it comes from, in words.
    pub from: String,
    /// One row per credential that was found.
    pub rows: Vec<ImportRow>,
    /// Orders that would be taken over.
    pub orders: Vec<ImportOrder>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// A grant among the skipped that the program and tokensink can share.
    pub shared: Option<Shared>,
    pub(super) work: Vec<Work>,
}

impl ImportPlan {
    /// Would anything be stored?
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.work.is_empty() || !self.orders.is_empty()
    }
}

/// One write of a plan.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) incoming: Incoming,
    pub(super) write: Write,
    pub(super) config: ConfigEntry,
}

/// What would become of one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// Whose it is.
    pub agent: AgentId,
    /// The profile that it would be; for an entry that is no credential, its key.
    pub profile: String,
    /// Its id at the source, where that is another one.
    pub was: Option<String>,
    /// The provider, where it is known.
    pub provider: Option<ProviderId>,
    /// What sort of credential.
    pub kind: Option<CredentialKind>,
    /// Where it stands.
    pub place: PathBuf,
    /// What would become of it.
    pub action: ImportAction,
}

/// What an import does with one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportAction {
    /// It becomes a new profile.
    New,
    /// It takes the place of older tokens.
    Update {
        /// The profile that gets it.
        profile: ProfileId,
        /// Why it is the newer one.
        why: String,
    },
    /// It is here already; nothing is stored.
    Linked {
        /// Whose profile holds it.
        agent: AgentId,
        /// Which profile.
        profile: ProfileId,
        /// How that is known.
        why: String,
    },
    /// Another credential is stored under this id and stays.
    Kept {
        /// Why.
        why: String,
    },
    /// It cannot be taken over.
    Skipped {
        /// Why.
        why: String,
        /// What helps, where something does: a command.
        fix: Option<String>,
    },
}

impl ImportAction {
    /// The word for programs and tables.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Update { .. } => "update",
            Self::Linked { .. } => "linked",
            Self::Kept { .. } => "kept ours",
            Self::Skipped { .. } => "skipped",
        }
    }
}

/// An order that is taken over because there is none here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOrder {
    /// Whose; `None` for `auth.order` in `openclaw.json`.
    pub agent: Option<AgentId>,
    /// Of which provider.
    pub provider: ProviderId,
    /// The profiles, first choice first.
    pub profiles: Vec<ProfileId>,
}

/// What an import has done.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// What was stored and read back.
    pub stored: Vec<(AgentId, ProfileId)>,
    /// What could not be stored. It is still at its source.
    pub failed: Vec<ImportFailure>,
    /// Orders that were taken over.
    pub orders: Vec<ImportOrder>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// A credential that could not be stored.
#[derive(Debug)]
pub struct ImportFailure {
    /// Whose.
    pub agent: AgentId,
    /// Which.
    pub profile: ProfileId,
    /// Why, and what helps.
    pub error: SinkError,
}
