//! Static secrets: the value in the file, or what a reference leads to (spec.md 8.1, 16).
//!
//! A profile's own value wins over its reference (8.1). A reference is looked up in the environment, in a file or by
//! a program ([`resolve`]), and what it led to is kept in memory ([`memory`]), never on disk. Failures name the
//! reference, the config key, the cause and what helps, and never a value.

mod active;
mod apply;
mod audit;
pub(crate) mod config;
mod exec;
mod file;
mod guard;
pub(crate) mod memory;
mod places;
mod plain;
mod plan;
pub(crate) mod reference;
mod resolve;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::sync::Arc;

use tokensink_policy as policy;
use tokensink_types::{Credential, Secret, SecretSource, SecretText};

use crate::error::Result;
use crate::sink::Sink;

use self::config::{Provider, SecretsConfig};
use self::reference::{Failure, Reference, Source};

pub(crate) use self::active::ReloadWatch;
pub use self::active::SecretsReload;
pub use self::apply::{ApplyOptions, SecretsApplied};
pub use self::audit::{SecretFinding, SecretsAudit};
pub use self::plain::{SecretCandidate, SecretProviderInfo};
pub use self::plan::SecretsPlan;

/// A secret that can be handed out.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) secret: Secret,
    /// A word to the caller: the last good value is served.
    pub(crate) note: Option<String>,
}

impl From<Secret> for Resolved {
    fn from(secret: Secret) -> Self {
        Self { secret, note: None }
    }
}

/// Why a secret is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unresolved {
    /// Neither value nor reference.
    Missing,
    /// The reference gives no value.
    Reference(Failure),
}

impl Sink {
    /// The secret of `source`: a plain value as it is; a `${NAME}` value from the environment, or literally when the
    /// variable cannot be had; otherwise what the reference leads to. A value that was `rejected` by the provider's API is looked up
    /// again.
    pub(crate) fn secret_of(
        &self,
        source: &SecretSource,
        rejected: Option<&Secret>,
    ) -> Result<std::result::Result<Resolved, Unresolved>> {
        let config = self.secrets_config()?;
        Ok(match &source.inline {
            Some(SecretText::Plain(secret)) => Ok(secret.clone().into()),
            Some(SecretText::EnvTemplate { literal, name }) => {
                Ok(match self.look_up(&config, &Reference::env(name, &config)) {
                    Ok(resolved) => resolved,
                    Err(failure) => {
                        tracing::debug!(%failure, "the value is taken as it is written");
                        literal.clone().into()
                    }
                })
            }
            None => match &source.reference {
                None => Err(Unresolved::Missing),
                Some(written) => Reference::of(written, &config)
                    .and_then(|reference| {
                        if let Some(rejected) = rejected {
                            self.secrets().reject(self.host(), &reference, rejected);
                        }
                        self.look_up(&config, &reference)
                    })
                    .map_err(Unresolved::Reference),
            },
        })
    }

    fn look_up(
        &self,
        config: &Arc<SecretsConfig>,
        reference: &Reference,
    ) -> std::result::Result<Resolved, Failure> {
        self.take_note_of_reloads(config);
        let active = || Some(self.active_references(config).ok()?.0);
        let served = self.secrets().get(self.host(), config, reference, &active)?;
        Ok(Resolved {
            note: served.stale.map(|failure| {
                format!("SECRETS_RELOADER_DEGRADED: the last good value is served, for {failure}")
            }),
            secret: served.secret,
        })
    }

    /// Whether the reference of a credential gives a value, as far as that can be told without running a program or
    /// reading a file.
    pub(crate) fn references_of(
        &self,
        credential: &Credential,
        config: &SecretsConfig,
    ) -> policy::References {
        let Some(source) = static_source(credential) else {
            return policy::References::Unchecked;
        };
        let Some(written) = source.reference.as_ref().filter(|_| source.inline.is_none()) else {
            return policy::References::Resolved;
        };
        match self.glance(written, config) {
            Ok(true) => policy::References::Resolved,
            Ok(false) => policy::References::Unchecked,
            Err(_) => policy::References::Failed,
        }
    }

    /// True when the reference is known to give a value, false when only looking would tell.
    fn glance(
        &self,
        written: &tokensink_types::SecretRef,
        config: &SecretsConfig,
    ) -> std::result::Result<bool, Failure> {
        let reference = Reference::of(written, config)?;
        if self.secrets().holds(&reference) {
            return Ok(true);
        }
        let provider = config
            .provider(reference.source, &reference.provider)
            .map_err(|problem| resolve::misconfigured(&reference, &problem))?;
        match provider {
            Provider::Env(_) => {
                let set = std::collections::BTreeSet::from([reference.clone()]);
                let found = resolve::resolve(self.host(), config, &set).remove(&reference);
                found.transpose().map(|value| value.is_some())
            }
            Provider::File(_) | Provider::Exec(_) => Ok(false),
        }
    }

    /// Why a profile's reference gives no value now, for status: files are read, programs are not run. `None` when it
    /// gives one, or only running would tell.
    pub(crate) fn trouble_with(&self, credential: &Credential) -> Result<Option<Failure>> {
        let Some(written) = static_source(credential)
            .filter(|source| source.inline.is_none())
            .and_then(|source| source.reference.as_ref())
        else {
            return Ok(None);
        };
        let config = self.secrets_config()?;
        let looked = match self.glance(written, &config) {
            Ok(false) if Source::parse(&written.source) == Some(Source::File) => {
                Reference::of(written, &config)
                    .and_then(|reference| self.look_up(&config, &reference).map(drop))
            }
            other => other.map(drop),
        };
        Ok(looked.err())
    }
}

/// Where the secret of a key or token comes from; `None` for OAuth.
pub(crate) fn static_source(credential: &Credential) -> Option<&SecretSource> {
    match credential {
        Credential::ApiKey(key) => Some(&key.key),
        Credential::Token(token) => Some(&token.token),
        Credential::OAuth(_) => None,
    }
}
