//! What a bench is about: the credential that failed. A new one begins without benches.
//!
//! A login, a paste, an import and `models auth retry` begin a new epoch, which is counted. A static secret that another
//! program has changed is told by its fingerprint, an OAuth login that another program has replaced by its account. The
//! tokens of a login change all the time; only a bench that says that an access token was not taken is about that token,
//! and ends with it.

use sha2::{Digest, Sha256};
use tokensink_policy::bench::{Bench, Benches};
use tokensink_store::{StoreError, Usage};
use tokensink_types::{AgentId, Credential, OAuth, ProfileId, Secret, SecretSource, SecretText, UnixMillis};

use super::benches::{About, Entry, Noted};
use super::projection::{Lanes, Reconciled, reconcile};
use crate::sink::Sink;

/// What of a credential the benches of its profile depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Of a static secret: its fingerprint, or that of the reference to it. Of an OAuth login: that of the account, where
    /// it is known.
    pub(crate) material: Option<String>,
    /// Of an OAuth login: the fingerprint of the present access token.
    pub(crate) generation: Option<String>,
}

impl Identity {
    /// The identity of a stored credential.
    pub(crate) fn of(credential: &Credential) -> Self {
        match credential {
            Credential::ApiKey(key) => Self::of_static(&key.key),
            Credential::Token(token) => Self::of_static(&token.token),
            Credential::OAuth(oauth) => Self {
                material: account_of(oauth).map(|account| hash(&["account", account])),
                generation: Some(fingerprint(&oauth.tokens.access)),
            },
        }
    }

    fn of_static(source: &SecretSource) -> Self {
        let material = match (&source.inline, &source.reference) {
            (Some(SecretText::Plain(secret)), _) => Some(fingerprint(secret)),
            (Some(SecretText::EnvTemplate { name, .. }), _) => Some(hash(&["template", name])),
            (None, Some(reference)) => {
                let provider = reference.provider.as_deref().unwrap_or_default();
                Some(hash(&[&reference.source, provider, &reference.id]))
            }
            (None, None) => None,
        };
        Self {
            material,
            generation: None,
        }
    }
}

/// Whose login it is: the provider's id of the account, else the address.
pub(super) fn account_of(oauth: &OAuth) -> Option<&str> {
    let email = || oauth.account.email.as_deref().or(oauth.labels.email.as_deref());
    oauth.account.account_id.as_deref().or_else(email)
}

/// Enough of a hash to tell two secrets apart, and too little to find one.
pub(crate) fn fingerprint(secret: &Secret) -> String {
    hash(&["secret", secret.expose()])
}

pub(super) fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"tokensink bench\0");
    for part in parts {
        hash.update(part.as_bytes());
        hash.update(b"\0");
    }
    hex::encode(&hash.finalize()[..8])
}

impl Entry {
    /// The benches that hold for the credential as it is now, and the windows of other programs. `found` is what stands
    /// in `auth-state.json`, read after this entry was; `None` where that is not known, and ends nothing.
    pub(crate) fn in_force(
        &self,
        identity: &Identity,
        found: Option<&Lanes>,
        now: UnixMillis,
    ) -> (Benches, Reconciled) {
        let reconciled = found.map_or_else(Reconciled::default, |found| {
            reconcile(found, &self.projected, self.intended.as_ref(), now)
        });
        let holds = |noted: &&Noted| self.is_about(noted, identity) && !reconciled.has_ended(&noted.bench);
        let all = self.benches.iter().filter(holds).map(|noted| noted.bench.clone());
        (Benches { all: all.collect() }, reconciled)
    }

    /// Drops what no longer holds, before something is added.
    pub(crate) fn settle(&mut self, identity: &Identity, found: Option<&Lanes>, now: UnixMillis) {
        let (held, _) = self.in_force(identity, found, now);
        self.take(held, &About::default());
        self.material.clone_from(&identity.material);
    }

    fn is_about(&self, noted: &Noted, identity: &Identity) -> bool {
        // Whose a login is may become known later, or may not be known for a moment.
        let unknown =
            identity.generation.is_some() && (self.material.is_none() || identity.material.is_none());
        (self.material == identity.material || unknown)
            && (noted.about.generation.is_none() || noted.about.generation == identity.generation)
    }
}

impl Sink {
    /// Begins a new epoch of a profile: it is believed to be well until it fails, and its counters in `auth-state.json`
    /// begin anew (spec.md 5.5). Returns what stood against it until now: our benches, and the windows of other programs.
    ///
    /// # Errors
    /// When `auth-state.json` cannot be written. Our benches are gone then all the same.
    pub(crate) fn new_epoch(
        &self,
        owner: &AgentId,
        id: &ProfileId,
    ) -> std::result::Result<(Vec<Bench>, Lanes), StoreError> {
        let now = self.now();
        self.calls().quotas.forget(owner, id);
        let before = self.change_benches(owner, id, |entry| {
            let known = std::mem::take(entry);
            entry.epoch = known.epoch + 1;
            // Until the windows are gone from `auth-state.json`, they are to be known as ours.
            entry.projected = known.projected.clone();
            entry.intended = Some(Lanes::default());
            known
        });
        let found = self.store().load(owner)?.state.usage(id).unwrap_or_default();
        let read = reconcile(
            &Lanes::of_usage(&found),
            &before.projected,
            before.intended.as_ref(),
            now,
        );
        let kept = |usage: &Usage| Usage {
            last_used: usage.last_used,
            last_failure_at: usage.last_failure_at,
            ..Usage::default()
        };
        if kept(&found) != found {
            self.store().update_state(owner, |state| {
                let usage = state.usage(id).unwrap_or_default();
                state.set_usage(id, &kept(&usage));
            })?;
        }
        self.change_benches(owner, id, |entry| {
            if entry.intended == Some(Lanes::default()) {
                entry.intended = None;
                entry.projected = Lanes::default();
            }
        });
        let held = before
            .all()
            .all
            .into_iter()
            .filter(|bench| bench.holds(None, now));
        Ok((held.collect(), read.foreign))
    }

    /// A reference gives this secret now. If calls failed with another one, what was believed of that is forgotten.
    pub(crate) fn take_referenced(
        &self,
        owner: &AgentId,
        id: &ProfileId,
        secret: &Secret,
    ) -> std::result::Result<(), StoreError> {
        let present = fingerprint(secret);
        let is_of_another = |noted: &Noted| {
            let failed = noted.about.referenced.as_ref();
            failed.is_some_and(|failed| *failed != present)
        };
        let seen = self.calls().benches().read(owner);
        let benches = seen.entry(id).map_or(&[][..], |entry| &entry.benches);
        if benches.iter().any(is_of_another) {
            self.new_epoch(owner, id)?;
        }
        Ok(())
    }

    /// A profile is gone: nothing is believed of it, and calls that are under way say nothing of the next one.
    pub(crate) fn forget_benches(&self, owner: &AgentId, id: &ProfileId) {
        self.calls().quotas.forget(owner, id);
        self.change_benches(owner, id, |entry| {
            *entry = Entry {
                epoch: entry.epoch + 1,
                ..Entry::default()
            };
        });
    }
}
