//! Taking over logins that other programs hold: read, plan, show, store.
//!
//! A source is read and never written. What it holds becomes [`Incoming`] credentials; [`decide`] compares them with
//! what is here and says what would happen to each, and that plan is what the user sees. Only then are they stored,
//! one by one, each under its refresh lock, by compare-and-set, with its refresh record, and read back. A grant that
//! is known here already is linked, never copied: two holders of one chain of refresh tokens end each other.

mod apply;
mod archives;
mod decide;
mod environment;
mod ids;
mod known;
mod openclaw;
mod plan;
mod programs;
mod report;
mod source;

use std::path::PathBuf;

use tokensink_store::ForeignEntry;
use tokensink_types::{Account, AgentId, Credential, ProfileId, ProviderId, SpendKey, UnixMillis};

pub use environment::EnvImport;
pub use openclaw::OpenClawImport;
pub use programs::{ProgramImport, Shared};
pub(crate) use source::Source;

pub use report::{ImportAction, ImportFailure, ImportOrder, ImportPlan, ImportReport, ImportRow};

/// A credential that a source offers.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    /// Whose it would be.
    pub(crate) agent: AgentId,
    /// The credential under the id that it would have.
    pub(crate) entry: ForeignEntry,
    /// Its id at the source, where that is another one.
    pub(crate) was: Option<ProfileId>,
    /// Where it stands.
    pub(crate) place: PathBuf,
    /// Keys that the source knows to be spent for it.
    pub(crate) ancestors: Vec<SpendKey>,
    /// Set when somebody may have spent its refresh token since it was written down.
    pub(crate) unverified: Option<Unverified>,
    /// The id of the bundle that it comes from.
    pub(crate) bundle: Option<String>,
}

/// Why nobody can say whether a refresh token is still unspent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unverified {
    /// What it comes from, in words.
    pub(crate) origin: String,
    /// When that was written.
    pub(crate) at: UnixMillis,
}

impl Incoming {
    pub(crate) fn id(&self) -> &ProfileId {
        self.entry.id()
    }

    pub(crate) fn provider(&self) -> &ProviderId {
        self.entry.credential().provider()
    }

    /// What may be sent once, if it is a grant with a refresh token.
    pub(crate) fn spend_key(&self) -> Option<SpendKey> {
        let oauth = self.entry.credential().as_oauth()?;
        oauth.tokens.refresh_token().map(SpendKey::of)
    }

    /// Whose grant it is; labels of static secrets count too.
    pub(crate) fn account(&self) -> Account {
        account_of(self.entry.credential())
    }
}

pub(crate) fn account_of(credential: &Credential) -> Account {
    let mut account = credential
        .as_oauth()
        .map(|oauth| oauth.account.clone())
        .unwrap_or_default();
    account.email = account.email.or_else(|| credential.labels().email.clone());
    account
}

/// An instant in words, UTC.
pub(crate) fn time_of(at: UnixMillis) -> String {
    let known = jiff::Timestamp::from_millisecond(at.0);
    known.map_or_else(
        |_| "an unknown time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}
