//! Importing a bundle: opened, then planned and stored like every other import.

use std::path::{Path, PathBuf};

use tokensink_types::{AgentId, Body};

use super::format::Bundle;
use super::seal::{Opener, is_by_passphrase};
use crate::error::{ErrorKind, Result, SinkError};
use crate::import::{ImportPlan, Incoming, Source, Unverified};
use crate::sink::Sink;

/// What `import bundle` is asked for.
#[derive(Debug, Clone, Default)]
pub struct BundleImport {
    /// The file.
    pub file: PathBuf,
    /// Only the logins of this agent.
    pub agent: Option<AgentId>,
}

impl Sink {
    /// Does the bundle open by a passphrase, rather than by an identity?
    ///
    /// # Errors
    /// When the file cannot be read or is no encrypted file.
    pub fn bundle_wants_passphrase(&self, file: &Path) -> Result<bool> {
        is_by_passphrase(self.bundle_text(file)?.expose()).ok_or_else(|| {
            let message = format!("{} is no bundle: it is not encrypted by age", file.display());
            SinkError::new(ErrorKind::Failed, "not_a_bundle", message)
        })
    }

    /// Opens a bundle and says what would become of its logins. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be read or opened or is no bundle, or a store of ours cannot be read.
    pub fn plan_bundle_import(&self, request: &BundleImport, opener: &Opener) -> Result<ImportPlan> {
        let plain = opener.open(self.bundle_text(&request.file)?.expose())?;
        let bundle = Bundle::decode(&plain).map_err(|why| {
            let message = format!("{} was opened, but {why}", request.file.display());
            SinkError::new(ErrorKind::Failed, "not_a_bundle", message)
        })?;
        let name = bundle.name();
        let wanted = |agent: &AgentId| request.agent.as_ref().is_none_or(|only| only == agent);
        let mut source = Source {
            from: format!("{name}, made on {}", bundle.host),
            may_copy_programs: true,
            ..Source::default()
        };
        for packed in bundle.entries.into_iter().filter(|packed| wanted(&packed.agent)) {
            source.incoming.push(Incoming {
                agent: packed.agent,
                entry: packed.entry,
                was: None,
                place: request.file.clone(),
                ancestors: packed.ancestors,
                unverified: Some(Unverified {
                    origin: name.clone(),
                    at: bundle.created_at,
                }),
                bundle: Some(bundle.id.clone()),
            });
        }
        let orders = bundle.orders.into_iter().filter(|(agent, ..)| wanted(agent));
        source.orders = orders
            .map(|(agent, provider, ids)| (Some(agent), provider, ids))
            .collect();
        self.plan_import(source)
    }

    fn bundle_text(&self, file: &Path) -> Result<Body> {
        self.host().files.read(file).map(Body::new).map_err(|error| {
            let message = format!("the bundle {} cannot be read: {error}", file.display());
            // A bundle that is not there is a wrong argument.
            let kind = match error.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::Usage,
                _ => ErrorKind::Failed,
            };
            SinkError::new(kind, "bundle_unreadable", message)
                .with_fix("tokensink import bundle <file that tokensink export wrote>")
        })
    }
}
