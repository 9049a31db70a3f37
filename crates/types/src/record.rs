//! The refresh record: what is known of one grant beyond its owner store (design: Refresh).
//!
//! Plain data. The machine in `tokensink-refresh` decides what becomes of it, `tokensink-store` keeps it on disk in
//! checksummed pages. A record never says less than what happened: it is written before a refresh token leaves
//! the process, and again before an answer is shown to anyone.

use std::collections::BTreeMap;

use crate::{Account, ProcessId, ProfileId, ProviderId, Revision, SpendKey, TokenSet, UnixMillis};

/// How many spent keys a record remembers. A store that was rolled back further than this many generations counts
/// as a newer login.
pub const ANCESTORS_MAX: usize = 8;

/// Everything that is known about one (owner store, profile).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The provider of the grant.
    pub provider: ProviderId,
    /// The profile in the owner store.
    pub profile: ProfileId,
    /// The owner store's real path, as text: with `profile` it names the record.
    pub store: String,
    /// Where the protocol stands.
    pub state: RecordState,
    /// The newest generation that is known to be good: answered, committed, or seen in the store at a login.
    pub generation: Option<Generation>,
    /// Keys that were spent before the present one, newest first, at most [`ANCESTORS_MAX`].
    pub ancestors: Vec<SpendKey>,
    /// Whether the server rotates refresh tokens, as learned from its answers.
    pub rotation: Rotation,
    /// Set while tries wait after failures.
    pub backoff: Option<Backoff>,
    /// The generation whose access token an API rejected and for which a refresh was forced; it is forced once.
    pub rejected: Option<Revision>,
}

/// One generation of a grant with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The tokens.
    pub tokens: TokenSet,
    /// Whose they are, as far as known.
    pub account: Account,
    /// When the request that brought them was sent; `None` for a generation that we did not obtain.
    pub issued_at: Option<UnixMillis>,
    /// Provider-owned text fields of the store that came with the answer.
    pub fields: BTreeMap<String, String>,
}

impl Generation {
    /// What may be sent once, if there is a refresh token.
    #[must_use]
    pub fn spend_key(&self) -> Option<SpendKey> {
        self.tokens.refresh_token().map(SpendKey::of)
    }

    /// The change notice of this generation.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision::of(&self.tokens)
    }
}

/// Where the refresh protocol stands for a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// Nothing is under way and nothing is in doubt.
    Idle,
    /// A request with this key may have left. Without a live holder the outcome is unknown.
    Sent(Sent),
    /// `generation` is the answer to `parent`; the owner store may not have it yet.
    Answered {
        /// The key that was spent for it.
        parent: SpendKey,
        /// When the answer was complete.
        at: UnixMillis,
    },
    /// `generation` was read back from the owner store.
    Committed {
        /// When.
        at: UnixMillis,
    },
    /// The answer belonged to another account. It is kept here, never handed out; a login ends this.
    Parked {
        /// The key that was spent.
        spent: SpendKey,
        /// What the server gave for it.
        answer: Box<Generation>,
        /// When.
        at: UnixMillis,
    },
    /// The server refused this key for good (RFC 6749 section 5.2). Bound to the key: a newer one ends it.
    Refused {
        /// The key that was refused.
        spent: SpendKey,
        /// The server's error code.
        code: String,
        /// The server's description, or empty.
        description: String,
        /// True when an earlier request with the key may have been answered without our seeing it, so that the
        /// refusal is the echo of a lost answer.
        after_lost_answer: bool,
        /// When.
        at: UnixMillis,
    },
}

/// A request that may have left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The key in the request.
    pub spend: SpendKey,
    /// When it was sent first; a server's replay grace counts from here.
    pub first_at: UnixMillis,
    /// When it was sent last.
    pub last_at: UnixMillis,
    /// How often it was sent.
    pub sends: u32,
    /// Who sent it last.
    pub holder: ProcessId,
}

/// Whether a server issues a new refresh token with each answer (RFC 9700 section 4.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// Not known yet; treated like [`Rotation::Always`].
    #[default]
    Unknown,
    /// The old token is spent by its use.
    Always,
    /// The token stays; such a grant is exempt from send-once.
    Never,
}

/// A wait after failed tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// Failed tries in a row.
    pub failures: u32,
    /// No try before this instant.
    pub not_before: UnixMillis,
    /// What failed last, without secrets, for status.
    pub reason: String,
}

impl Record {
    /// A record for a grant that is at rest.
    #[must_use]
    pub fn idle(
        provider: ProviderId,
        profile: ProfileId,
        store: String,
        generation: Option<Generation>,
    ) -> Self {
        Self {
            provider,
            profile,
            store,
            state: RecordState::Idle,
            generation,
            ancestors: Vec::new(),
            rotation: Rotation::Unknown,
            backoff: None,
            rejected: None,
        }
    }

    /// Was `key` spent before the present generation?
    #[must_use]
    pub fn is_ancestor(&self, key: SpendKey) -> bool {
        self.ancestors.contains(&key)
    }

    /// Is `key` the present generation's, or was it sent, or is it about to be, as far as this record can tell?
    #[must_use]
    pub fn knows(&self, key: SpendKey) -> bool {
        let in_state = match &self.state {
            RecordState::Sent(sent) => sent.spend == key,
            RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. } => *spent == key,
            RecordState::Answered { parent, .. } => *parent == key,
            RecordState::Idle | RecordState::Committed { .. } => false,
        };
        let present = self.generation.as_ref().and_then(Generation::spend_key);
        in_state || present == Some(key) || self.is_ancestor(key)
    }

    /// Remembers `key` as spent.
    pub fn push_ancestor(&mut self, key: SpendKey) {
        self.ancestors.retain(|known| *known != key);
        self.ancestors.insert(0, key);
        self.ancestors.truncate(ANCESTORS_MAX);
    }
}
