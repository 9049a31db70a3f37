//! The references that are in use, and looking all of them up again (spec.md 16.4).
//!
//! In use are those of every profile of every agent. A reload is asked for in this process by
//! [`Sink::reload_secrets`], in others by a stamp file in `tokensink/state/`, which each of them looks at once a second.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokensink_host::{FileStamp, atomic};
use tokensink_types::{AgentId, ProfileId};

use super::config::SecretsConfig;
use super::memory::Reloaded;
use super::reference::{Failure, Reference};
use super::static_source;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// How often the stamp file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When the stamp file was looked at, and what it was.
#[derive(Debug, Default)]
pub(crate) struct ReloadWatch {
    looked_at: Option<Duration>,
    stamp: Option<FileStamp>,
}

/// A profile that refers to a secret.
struct Referring {
    agent: AgentId,
    profile: ProfileId,
    reference: std::result::Result<Reference, Failure>,
}

/// What a reload of all references did.
#[derive(Debug, Clone)]
pub struct SecretsReload {
    /// How many references gave a value.
    pub resolved: usize,
    /// One sentence for each that gave none, with what helps.
    pub failed: Vec<(String, String)>,
    /// How many of those are still served with their last good value by this process.
    pub kept: usize,
    /// True when other processes were told to reload too.
    pub announced: bool,
}

impl Sink {
    /// Looks the references of all agents' profiles up now. If any gives no value, none of those that once did is
    /// replaced: the last good values stay. With `announce`, the long-running processes on this state dir are told
    /// to do the same.
    ///
    /// # Errors
    /// When the config or a store cannot be read, or the announcement cannot be written. References that give no value
    /// are no error but part of the report.
    pub fn reload_secrets(&self, announce: bool) -> Result<SecretsReload> {
        let config = self.secrets_config()?;
        self.take_note_of_reloads(&config);
        let (active, malformed) = self.active_references(&config)?;
        let Reloaded {
            resolved,
            failed,
            kept,
        } = self.secrets().reload(self.host(), &config, &active);
        self.take_new_secrets(&config)?;
        if announce {
            self.announce_reload()?;
        }
        let sentences = |failure: Failure| (failure.to_string(), failure.fix);
        Ok(SecretsReload {
            resolved,
            failed: malformed.into_iter().chain(failed).map(sentences).collect(),
            kept,
            announced: announce,
        })
    }

    /// What was believed of a profile whose reference gave another secret is about that.
    fn take_new_secrets(&self, config: &SecretsConfig) -> Result<()> {
        for Referring {
            agent,
            profile,
            reference,
        } in self.referring(config)?
        {
            let given = reference
                .ok()
                .and_then(|reference| self.secrets().last_good(&reference));
            if let Some(served) = given {
                self.take_referenced(&agent, &profile, &served.secret)?;
            }
        }
        Ok(())
    }

    /// The profiles of every agent that refer to a secret, with the reference.
    fn referring(&self, config: &SecretsConfig) -> Result<Vec<Referring>> {
        let mut all = Vec::new();
        for agent in self.store().agents()? {
            let store = self.store().load(&agent)?;
            for entry in store.profiles.entries() {
                let source = static_source(&entry.credential).filter(|source| source.is_reference());
                if let Some(written) = source.and_then(|source| source.reference.as_ref()) {
                    all.push(Referring {
                        agent: agent.clone(),
                        profile: entry.id.clone(),
                        reference: Reference::of(written, config),
                    });
                }
            }
        }
        Ok(all)
    }

    /// The references of every agent's profiles, and what is wrong with those that are none.
    pub(super) fn active_references(
        &self,
        config: &SecretsConfig,
    ) -> Result<(BTreeSet<Reference>, Vec<Failure>)> {
        let mut active = BTreeSet::new();
        let mut malformed = Vec::new();
        for referring in self.referring(config)? {
            match referring.reference {
                Ok(reference) => {
                    active.insert(reference);
                }
                Err(failure) => malformed.push(failure),
            }
        }
        Ok((active, malformed))
    }

    /// What `status` says of values that are kept although their source fails, and once that all is well again.
    pub(crate) fn secrets_warnings(&self) -> Vec<String> {
        let (troubles, recovered) = self.secrets().troubles();
        let degraded = troubles.iter().map(|failure| {
            format!(
                "SECRETS_RELOADER_DEGRADED: {failure}; the last good value is kept; {}",
                failure.fix
            )
        });
        let recovered = (recovered && troubles.is_empty())
            .then(|| "SECRETS_RELOADER_RECOVERED: every reference gives a value again".to_owned());
        degraded.chain(recovered).collect()
    }

    /// Makes what is in memory due where the config has changed or somebody has asked for a reload.
    pub(super) fn take_note_of_reloads(&self, config: &Arc<SecretsConfig>) {
        self.secrets().configure(config);
        let now = self.host().clock.monotonic();
        let asked = {
            let mut watch = self.reload_watch();
            let recent = |at: Duration| now.saturating_sub(at) < LOOK_EVERY;
            if watch.looked_at.is_some_and(recent) {
                return;
            }
            let stamp = self.host().files.stat(&self.reload_stamp()).ok().flatten();
            let first = watch.looked_at.replace(now).is_none();
            std::mem::replace(&mut watch.stamp, stamp) != stamp && !first
        };
        if asked {
            self.secrets().expire();
        }
    }

    fn reload_stamp(&self) -> PathBuf {
        self.paths().own_state_dir().join("secrets-reload")
    }

    pub(super) fn announce_reload(&self) -> Result<()> {
        let path = self.reload_stamp();
        let files = &*self.host().files;
        let failed = |why: String| {
            SinkError::new(
                ErrorKind::Failed,
                "announce",
                format!(
                    "other processes could not be told to reload: {}: {why}",
                    path.display()
                ),
            )
        };
        if self.store().is_readonly() {
            return Err(failed("OPENCLAW_AUTH_STORE_READONLY is set".to_owned())
                .with_fix("unset OPENCLAW_AUTH_STORE_READONLY"));
        }
        let dir = self.paths().own_state_dir();
        atomic::ensure_dir(files, &dir, 0o700).map_err(|error| failed(error.to_string()))?;
        let text = format!("{}\n", self.now().0);
        atomic::replace(files, &*self.host().random, &path, text.as_bytes(), 0o600)
            .map_err(|error| failed(error.to_string()))?;
        let stamp = files.stat(&path).ok().flatten();
        // Ours is done.
        self.reload_watch().stamp = stamp;
        Ok(())
    }
}
