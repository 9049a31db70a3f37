//! The file store: credentials, agent state, refresh records, legacy import and `openclaw.json`.
//!
//! Files that OpenClaw knows keep its layout of age C2; what only tokensink knows lies in a folder of its own
//! (design: On disk). Everything reads and writes through the ports of `tokensink-host`. It promises: unknown keys
//! survive every rewrite; a file that does not parse is reported and never written over; every write is made under
//! the locks that OpenClaw respects, on a fresh read, and is read back; no error holds a secret. It does not know
//! when a token must be refreshed or which profile to use.

mod agent_store;
pub mod backend;
mod beliefs;
mod blemish;
mod cache;
mod config;
#[doc(hidden)]
pub mod conformance;
mod disk;
mod error;
pub mod foreign;
mod in_turn;
mod journal;
pub mod json;
pub mod legacy;
mod openclaw_lock;
mod paths;
mod profiles;
mod quarantine;
mod sessions;
mod state_file;
mod tombstones;

pub use agent_store::readonly_requested;
pub use agent_store::{
    AgentStore, CasOutcome, Expected, FileStore, OwnedProfile, STORE_LOCK_WAIT, View, Warning,
};
pub use backend::{CredentialStore, RecordStore};
pub use beliefs::{Beliefs, Believed, Reading};
pub use blemish::{Blemish, BlemishKind, blemishes};
pub use config::{
    AgentEntry, Config, ConfigProfile, ConfigStore, Editor, ModelChoice, ModelEntry, ModelKind,
    OrderPlacement, ProviderConfig,
};
pub use disk::make_durable;
pub use error::{LockBusy, StoreError, Unreadable};
pub use foreign::{ForeignEntry, ForeignProfiles};
pub use in_turn::{InTurn, Queue};
pub use journal::{Journal, RecordKey, RecordPlace, Scan};
pub use json::{ParseFailure, wipe as wipe_json};
pub use openclaw_lock::{
    Cleared, DotLock, GuardedLock, LockKind, LockPlace, LockState, clear_lock, foreign_lock_text, is_held,
    lock_state,
};
pub use paths::{Paths, PathsError, lock_sibling, real_path};
pub use profiles::{Ignored, IgnoredReason, ProfileEntry, Profiles, ProfilesDocument, clean_secret};
pub use quarantine::{set_aside, set_aside_before};
pub use sessions::{
    MADE_KEPT_FOR, MADE_MAX, OtherPin, Session, SessionStore, SessionUpdate, Sessions, USE_NOTED_EVERY,
};
pub use state_file::{StateDocument, Usage};
pub use tombstones::{Tombstone, Tombstones};
