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

use tokensink_store::Tombstones;

use crate::sink::Sink;

impl Sink {
    pub(crate) fn tombstones(&self) -> Tombstones {
        Tombstones::new(self.host().clone(), self.paths().clone())
    }
}
