//! The nouns of tokensink: ids, secrets, credentials, instants and refresh records.
//!
//! Everything here is plain data with fallible constructors. No I/O, no async, no clock: a type that needs to
//! know the time is given it. Every other crate may use this one; it uses none of ours.

mod account;
mod agent;
mod billing;
mod credential;
mod duration;
mod ids;
mod process;
pub mod record;
mod secret;
mod session;
mod spend;
mod time;

pub use account::Account;
pub use agent::AgentId;
pub use billing::BillingClass;
pub use credential::{
    ApiKey, Credential, CredentialKind, Expiry, Labels, OAuth, SecretRef, SecretSource, SecretText,
    StaticToken, TokenSet,
};
pub use duration::{DurationError, DurationUnit, parse_duration, short_remaining, short_wait};
pub use ids::{IdError, MethodId, ProfileId, ProviderId};
pub use process::ProcessId;
pub use secret::{Body, Secret, wipe};
pub use session::{SessionKey, SessionKeyError};
pub use spend::{Revision, SpendKey};
pub use time::UnixMillis;
