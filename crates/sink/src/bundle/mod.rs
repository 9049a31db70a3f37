//! Bundles: logins in one encrypted file, for moving to another machine, for a backup, for a CI job.
//!
//! A bundle is a JSON text (`format`) that is encrypted by age (`seal`). A grant whose refresh tokens are used once
//! must not be in two places, so it leaves only by a move: the bundle is written and read back first, then the profile
//! is removed here and a tombstone is set. Until the removal the source is whole; after it the bundle is. What comes out
//! of a bundle may have been used since it was written, and is imported with that doubt (see `import`).

mod export;
mod format;
mod restore;
mod seal;

pub use export::{ExportPlan, ExportReport, ExportRequest, Exported};
pub use restore::BundleImport;
pub use seal::{Opener, Sealer};

use tokensink_store::{Tombstone, Tombstones};
use tokensink_types::AgentId;

use crate::import::time_of;
use crate::sink::Sink;

impl Sink {
    /// Where logins went that are no longer here, for status. A file that cannot be read is told as well.
    pub(crate) fn moved_away(&self, agent: &AgentId) -> Vec<String> {
        let stones = match self.tombstones().list() {
            Ok(stones) => stones,
            Err(error) => return vec![error.to_string()],
        };
        let gone = |stone: &&Tombstone| {
            stone.agent == *agent && matches!(self.store().credential(agent, &stone.profile), Ok(None))
        };
        let told = stones.iter().filter(gone).map(|stone| {
            let short: String = stone.bundle.chars().take(8).collect();
            format!(
                "{} was moved into bundle {short} on {}; to bring it back: tokensink import bundle <its file>",
                stone.profile,
                time_of(stone.at)
            )
        });
        told.collect()
    }

    pub(crate) fn tombstones(&self) -> Tombstones {
        Tombstones::new(self.host().clone(), self.paths().clone())
    }
}
