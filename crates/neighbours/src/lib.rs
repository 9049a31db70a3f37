//! The logins of other programs on this host, as owner stores under their own locks (design: Logins of other CLIs).
//!
//! A [`Neighbour`] is such a program, a [`Place`] is where a login of it may be, and [`read`] says what is there. It
//! promises: reading changes nothing; a blank, torn or strange store is told as such and never taken for a login; no
//! error and no reason holds a secret. It does not know which of these logins may be used, and in which mode: that
//! is the sink's decision.

mod claude;
mod codex;
mod keychain;
mod load;
mod neighbour;
mod oauth_creds;
pub mod openclaw_db;
mod opencode;
mod place;
mod reading;

pub use claude::described_account;
pub use neighbour::Neighbour;
pub use place::{Keychain, Origin, Place, PlaceKind, places};
pub use reading::{Login, Named, Reading, read, read_all};
