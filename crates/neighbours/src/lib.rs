//! The logins of other programs on this host, as owner stores under their own locks (design: Logins of other CLIs).
//!
//! A [`Neighbour`] is such a program, a [`Place`] is where a login of it may be, and [`read`] says what is there.
//! [`lock_for_refresh`] keeps the program from refreshing while we do, [`compare_and_set`] writes the new tokens
//! back, [`take_login`] and [`put_login`] move a whole login, and [`wire`] points the program at us instead.
//!
//! It promises: reading changes nothing; a blank, torn or strange store is told as such and never taken for a login;
//! a write replaces an expected login, changes only its tokens, and leaves every other byte; a crash of ours leaves
//! nothing that keeps the program waiting for longer than its own stale limit; no error and no reason holds a secret.
//! It does not know which of these logins may be used, and in which mode: that is the sink's decision.

mod claude;
pub mod cliproxy;
mod codex;
mod dir_lock;
mod error;
mod keychain;
mod load;
mod locks;
mod moving;
mod neighbour;
mod oauth_creds;
pub mod openclaw_db;
mod opencode;
mod owner;
mod place;
mod reading;
mod splice;
pub mod wire;
mod write;

pub use claude::described_account;
pub use error::NeighbourError;
pub use locks::{RefreshLocks, lock_for_refresh};
pub use moving::{put_login, take_login};
pub use neighbour::Neighbour;
pub use place::{Keychain, Origin, Place, PlaceKind, places};
pub use reading::{Login, Named, Reading, read, read_all};
pub use write::{Written, compare_and_set};
