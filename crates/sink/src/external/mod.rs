//! Logins that other programs keep: found, listed, and used in the mode that the user has chosen (design: Logins of
//! other CLIs).
//!
//! `modes` is what was chosen, `claim` keeps two state dirs from refreshing one login, `chosen` is what is there now,
//! `guests` makes profiles of it, `list` finds and tells, `choose` changes a mode, `own` moves a grant between a
//! program's store and ours, `wire` makes a program ask us. Reading, locking and writing the programs' stores is the neighbours crate's work.

mod choose;
mod chosen;
mod claim;
mod guests;
mod list;
mod modes;
mod own;
mod wire;
mod words;

pub(crate) use chosen::{Cache, Chosen, Externals};
pub(crate) use guests::{Guest, Guests};
pub(crate) use words::{cli_login_command, logout_command};

pub use choose::{ExternalChanged, ExternalSet};
pub use list::{ExternalInfo, ExternalScope};
pub use modes::ExternalMode;
pub use wire::{ExternalWire, ExternalWired, ProofOutcome, WireProof};

use std::path::PathBuf;

use crate::sink::Sink;

impl Sink {
    /// Where the choices are kept.
    pub(crate) fn external_file(&self) -> PathBuf {
        self.paths().own_state_dir().join("external.json")
    }
}
