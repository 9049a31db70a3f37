//! What a flight is given, what it asks for, what it is told and how it ends.

use std::time::Duration;

use tokensink_types::record::{Generation, Record};
use tokensink_types::{ProcessId, ProfileId, ProviderId, SpendKey, UnixMillis};

use crate::stand::{Death, Demand, Policy};

/// Everything a flight is given at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The provider of the grant.
    pub provider: ProviderId,
    /// The profile in the owner store.
    pub profile: ProfileId,
    /// The owner store's real path.
    pub store: String,
    /// Who flies.
    pub me: ProcessId,
    /// The provider's rules.
    pub policy: Policy,
    /// What the caller needs.
    pub demand: Demand,
    /// A random byte that spreads waits.
    pub jitter: u8,
}

/// What was read under the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The profile as the owner store has it; `None` when it is gone.
    pub stored: Option<Generation>,
    /// The grant's record.
    pub record: Option<Record>,
    /// The same profile at other places that may hold a newer generation (main, a neighbour's file).
    pub holders: Vec<Holder>,
    /// Records of other profiles that know the key which counts here: copies of one grant.
    pub rivals: Vec<Rival>,
}

/// The same profile in another store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Where, in words.
    pub place: String,
    /// What it holds.
    pub generation: Generation,
}

/// Another profile's record that knows our key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// The record.
    pub record: Record,
    /// True unless the holder of a request in it is known to be dead.
    pub may_be_alive: bool,
}

/// What the caller is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read store, record, holders and rivals afresh.
    Read,
    /// Open the connection to the token endpoint.
    Connect,
    /// Under the admission lock: check that no rival sent this key since the snapshot, then make the record durable.
    Admit(Box<Record>),
    /// Write the refresh request of this generation and read its answer.
    Send(Box<Generation>),
    /// Make the record durable.
    Record(Box<Record>),
    /// Write the generation to the owner store if the store still holds `expected`, and read it back.
    Commit {
        /// The key that the store must hold.
        expected: Option<SpendKey>,
        /// What to write.
        generation: Box<Generation>,
    },
    /// Wait this long, then report [`Event::Waited`].
    Wait(Duration),
    /// The end.
    Finish(Verdict),
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// [`Action::Read`] is done.
    Read(Box<Snapshot>),
    /// The connection stands.
    Connected,
    /// The record with `sent` in it is durable, and no rival has the key.
    Admitted,
    /// A rival got in first.
    Rival,
    /// The request ended.
    Answer(Answer),
    /// The record is durable.
    Recorded,
    /// The store holds the generation, read back.
    Committed,
    /// The store holds something else; `None` when the profile is gone.
    Conflict(Option<Box<Generation>>),
    /// [`Action::Wait`] is over.
    Waited,
    /// The action failed without effect on what it was to change.
    Failed(Failure),
}

/// Why an action failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed, where and why.
    pub reason: String,
    /// What helps, if something does.
    pub fix: Option<String>,
}

/// How the request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// No byte of it left.
    NotWritten(Failure),
    /// It may have arrived, and no usable answer came.
    Ambiguous(Failure),
    /// A complete answer that leaves the token unspent.
    Unspent {
        /// What the server said.
        failure: Failure,
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// One of the provider's terminal errors.
    Refused {
        /// The server's code.
        code: String,
        /// The server's description, or empty.
        description: String,
    },
    /// New tokens, merged over the old by RFC 6749 section 6: what the answer lacks keeps its value, except the expiry.
    Granted(Box<Generation>),
}

/// How a flight ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The valid generation serves the demand and is durable.
    Served {
        /// Set when the owner store could not be written; the record serves until it can be.
        store_behind: Option<Failure>,
    },
    /// Another place holds the newer generation of this grant.
    Elsewhere {
        /// Where, in words.
        place: String,
    },
    /// Nothing could be done now.
    TryAgain {
        /// Why.
        failure: Failure,
        /// When it makes sense to try again, if that is known.
        until: Option<UnixMillis>,
        /// True when a request is out whose outcome is unknown.
        outcome_unknown: bool,
    },
    /// Only a login helps.
    LoginNeeded(Death),
    /// The profile is no longer in the store.
    Gone,
}
