//! Stored tokens that their API takes only after an exchange for a key of half an hour (spec.md 8.9): GitHub Copilot.
//!
//! The key is kept in a file of its own (`tokensink/state/runtime-keys/`, mode 0600) until it ends, so that a hundred
//! processes need one exchange. One process exchanges at a time; the others find its key. The stored token is neither
//! spent nor changed by an exchange, so one that failed may simply be made again. A key that ended, or that belongs to
//! another stored token, is never handed out.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokensink_host::lock::{KernelLock, LockError, Wait};
use tokensink_host::{Limits, atomic};
use tokensink_providers::{Method, RuntimeCredential, RuntimeKey, RuntimeKeyError};
use tokensink_store::OwnedProfile;
use tokensink_types::{Account, AgentId, Credential, ProfileId, Secret, UnixMillis};
use url::Url;

use crate::block::login_command;
use crate::error::{ErrorKind, Result, SinkError};
use crate::flight::{ANSWER_BYTES, CONNECT_TIME, connect_failure};
use crate::lease::Lease;
use crate::serve::Call;
use crate::sink::Sink;

/// From the first byte of an exchange to the last of its answer.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a key must last when the caller does not say; its end is five minutes early already (spec.md 8.10).
const MARGIN: Duration = Duration::from_secs(60);

/// More than this is not asked of a kept key: a fresh one hardly lasts longer.
const WANTED_MAX: Duration = Duration::from_secs(15 * 60);

/// One exchange: what is exchanged, by which rules, and where the key is kept.
struct Exchange<'a> {
    profile: &'a OwnedProfile,
    method: &'a Method,
    rules: &'a RuntimeKey,
    stored: &'a Secret,
    file: PathBuf,
    lock: PathBuf,
}

/// A key as it was kept, bound to the stored token that it was made of.
struct Kept {
    credential: RuntimeCredential,
    stored: String,
}

impl Sink {
    /// The lease of a stored token whose API wants a key instead; `None` where it takes the token itself.
    pub(crate) fn runtime_key_lease(
        &self,
        profile: &OwnedProfile,
        stored: &Secret,
        call: &Call<'_>,
    ) -> Result<Option<Lease>> {
        let Some(exchange) = self.exchange_of(profile, stored) else {
            return Ok(None);
        };
        if let Some(credential) = self.kept_key(&exchange, call, wanted(call)) {
            return Ok(Some(self.key_lease(&exchange, credential, None)));
        }
        let made = if self.store().is_readonly() {
            // Nothing of the exchange is written then, and nothing needs to be.
            self.make_key(&exchange)
        } else {
            self.make_key_once(&exchange, call)
        };
        match made {
            Ok(credential) => Ok(Some(self.key_lease(&exchange, credential, None))),
            Err(error) => match self.kept_key(&exchange, call, Duration::ZERO) {
                Some(credential) => {
                    let note = format!("the present key is served: {error}");
                    Ok(Some(self.key_lease(&exchange, credential, Some(note))))
                }
                None => Err(error),
            },
        }
    }

    /// Removes a profile's key after its logout.
    pub(crate) fn forget_runtime_key(&self, owner: &AgentId, profile: &ProfileId) -> std::io::Result<()> {
        let file = self.runtime_keys_dir().join(file_name(owner, profile));
        match self.host().files.remove(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Is a stored token of this kind exchanged before it is spent?
    pub(crate) fn exchanges(&self, credential: &Credential) -> bool {
        let definition = self.registry().get(credential.provider());
        let method = definition.and_then(|definition| definition.method_for(credential.kind(), None));
        method
            .and_then(Method::oauth_client)
            .is_some_and(|client| client.runtime_key.is_some())
    }

    fn runtime_keys_dir(&self) -> PathBuf {
        self.paths().own_state_dir().join("runtime-keys")
    }

    fn exchange_of<'a>(&'a self, profile: &'a OwnedProfile, stored: &'a Secret) -> Option<Exchange<'a>> {
        let credential = &profile.entry.credential;
        let definition = self.registry().get(credential.provider())?;
        let method = definition.method_for(credential.kind(), None)?;
        let rules = method.oauth_client()?.runtime_key.as_ref()?;
        let name = file_name(&profile.owner, &profile.entry.id);
        Some(Exchange {
            profile,
            method,
            rules,
            stored,
            file: self.runtime_keys_dir().join(&name),
            lock: self.paths().locks_dir().join(format!("runtime-key-{name}")),
        })
    }

    /// The kept key, if it was made of this token, lasts for the caller and was not rejected.
    fn kept_key(
        &self,
        exchange: &Exchange<'_>,
        call: &Call<'_>,
        margin: Duration,
    ) -> Option<RuntimeCredential> {
        let kept = read_kept(&self.host().files.read(&exchange.file).ok()?)?;
        let lasts = self.now().until(kept.credential.expires) > margin;
        let rejected = call.request.rejected.as_ref() == Some(&kept.credential.key);
        (lasts && !rejected && kept.stored == fingerprint(exchange.stored)).then_some(kept.credential)
    }

    /// One exchange for all who want it at the same time.
    fn make_key_once(&self, exchange: &Exchange<'_>, call: &Call<'_>) -> Result<RuntimeCredential> {
        let wait = Wait {
            deadline: call.left(self),
        };
        let _lock = KernelLock::acquire(self.host(), &exchange.lock, wait)
            .map_err(|error| lock_error(&error, exchange))?;
        if let Some(credential) = self.kept_key(exchange, call, wanted(call)) {
            return Ok(credential);
        }
        let credential = self.make_key(exchange)?;
        // A key that cannot be kept serves this caller all the same.
        if let Err(error) = self.keep_key(exchange, &credential) {
            tracing::warn!(file = %exchange.file.display(), %error, "a runtime key could not be kept");
        }
        Ok(credential)
    }

    fn make_key(&self, exchange: &Exchange<'_>) -> Result<RuntimeCredential> {
        let id = &exchange.profile.entry.id;
        let endpoint = &exchange.rules.endpoint;
        let later = |reason: String, fix: Option<String>| {
            let message = format!("{id} has no key of its API now: {reason}");
            SinkError::new(ErrorKind::TryAgain, "key_exchange", message)
                .with_fix_if(fix)
                .about(id)
        };
        let request = exchange.rules.request(exchange.stored).map_err(|error| {
            SinkError::new(ErrorKind::Failed, "key_exchange", error.to_string()).about(id)
        })?;
        let transport = &self.host().transport;
        let connection = transport.connect(endpoint, CONNECT_TIME).map_err(|error| {
            let failure = connect_failure(error);
            later(failure.reason, failure.fix)
        })?;
        let limits = Limits {
            time: REQUEST_TIME,
            body_bytes: ANSWER_BYTES,
        };
        let response = connection
            .exchange(request, limits)
            .map_err(|error| later(format!("{endpoint}: {error}"), None))?;
        let parsed = exchange
            .rules
            .parse(&response, exchange.stored, &exchange.method.api);
        parsed.map_err(|error| match error {
            RuntimeKeyError::Refused(refusal) if matches!(refusal.status, 401 | 403) => {
                let message = format!("{endpoint} does not take the stored token of {id}: {refusal}");
                let owner = &exchange.profile.owner;
                SinkError::new(ErrorKind::LoginNeeded, "key_exchange", message)
                    .with_fix(login_command(
                        exchange.profile.entry.credential.provider(),
                        id,
                        owner,
                    ))
                    .about(id)
            }
            other => later(format!("{endpoint}: {other}"), None),
        })
    }

    fn keep_key(&self, exchange: &Exchange<'_>, credential: &RuntimeCredential) -> std::io::Result<()> {
        let host = self.host();
        if let Some(dir) = exchange.file.parent() {
            atomic::ensure_dir(&*host.files, dir, 0o700)?;
        }
        let value = json!({
            "stored": fingerprint(exchange.stored),
            "key": credential.key.expose(),
            "expires": credential.expires.0,
            "baseUrl": credential.base_url.as_ref().map(Url::as_str),
        });
        let text = Secret::new(value.to_string());
        atomic::replace(
            &*host.files,
            &*host.random,
            &exchange.file,
            text.expose().as_bytes(),
            0o600,
        )
        .map(|_| ())
        .map_err(|error| std::io::Error::new(error.io().kind(), error.to_string()))
    }

    fn key_lease(
        &self,
        exchange: &Exchange<'_>,
        credential: RuntimeCredential,
        note: Option<String>,
    ) -> Lease {
        let expires = Some(credential.expires);
        let mut given = self.spendable(exchange.profile, credential.key, expires, Account::default());
        if let Some(url) = credential.base_url {
            given.base_url = Some(url.as_str().trim_end_matches('/').to_owned());
        }
        // Programs of the provider make their own key: their variable takes the stored token.
        given.env_secret = Some(exchange.stored.clone());
        Lease::of(Arc::new(given), note)
    }
}

/// How long a kept key must last for this caller.
fn wanted(call: &Call<'_>) -> Duration {
    call.request.min_ttl.unwrap_or(MARGIN).min(WANTED_MAX)
}

/// One name per owner and profile, whatever characters they hold.
fn file_name(owner: &AgentId, profile: &ProfileId) -> String {
    let name = Sha256::new()
        .chain_update(owner.as_str())
        .chain_update([0])
        .chain_update(profile.as_str())
        .finalize();
    hex::encode(name)
}

fn lock_error(error: &LockError, exchange: &Exchange<'_>) -> SinkError {
    let kind = match error {
        LockError::Busy { .. } => ErrorKind::TryAgain,
        _ => ErrorKind::Failed,
    };
    let message = format!("the key of {} cannot be made: {error}", exchange.profile.entry.id);
    SinkError::new(kind, "key_exchange", message).about(&exchange.profile.entry.id)
}

/// Tells stored tokens apart without holding one.
fn fingerprint(stored: &Secret) -> String {
    let hash = Sha256::new()
        .chain_update(b"tokensink runtime key 1\0")
        .chain_update(stored.expose().trim());
    hex::encode(hash.finalize())
}

/// A kept key; anything that is not one counts as none.
fn read_kept(bytes: &[u8]) -> Option<Kept> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    Some(Kept {
        credential: RuntimeCredential {
            key: Secret::new(text("key")?),
            expires: UnixMillis(value.get("expires")?.as_i64()?),
            base_url: text("baseUrl").and_then(|url| Url::parse(url).ok()),
        },
        stored: text("stored")?.to_owned(),
    })
}
