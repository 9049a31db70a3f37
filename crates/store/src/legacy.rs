//! Older files as input: `auth.json`, `credentials/oauth.json`, and whole copies of main's store in other agents
//! (spec.md 2.4.4, 2.4.5, 2.5; openclaw-live.md 7, 8; design: What we implement).
//!
//! Each entry is looked at once: a marker on our side (source file, entry, fingerprint of its secret) keeps a profile
//! that was deleted from coming back with a spent token. From `auth.json`, keys and tokens are removed after they were
//! read back from the store, exactly those and nothing else; OAuth entries stay, and `oauth.json` is never changed.
//! What the store has already is never overwritten.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tokensink_types::{
    AgentId, Credential, CredentialKind, ProfileId, ProviderId, Secret, SecretText, SpendKey,
};

use crate::agent_store::FileStore;
use crate::disk;
use crate::error::{StoreError, Unreadable};
use crate::foreign::with_kind;
use crate::json as js;
use crate::paths::{hash_hex, real_path};
use crate::profiles::{Flat, IgnoredReason, flat_entry};

/// An entry of a legacy file that was not looked at before.
#[derive(Debug)]
pub struct Pending {
    /// The file.
    pub source: PathBuf,
    /// Its key there.
    pub key: String,
    /// The profile it becomes.
    pub id: ProfileId,
    /// What it holds.
    pub credential: Credential,
    entry: js::SecretMap,
    marker: String,
}

/// What an import did.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Profiles that are new in the store, with the file they came from.
    pub imported: Vec<(ProfileId, PathBuf)>,
    /// Entries whose profile exists with another secret; the store's was kept.
    pub shadowed: Vec<(ProfileId, PathBuf)>,
    /// Entries that are no credentials: file, key, reason. They stay where they are.
    pub ignored: Vec<(PathBuf, String, IgnoredReason)>,
    /// Keys that were removed from `auth.json` because the store holds them.
    pub removed: Vec<String>,
    /// Files that do not parse. They stay as they are.
    pub unreadable: Vec<Unreadable>,
}

impl ImportReport {
    /// Nothing was found and nothing done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.imported.is_empty()
            && self.shadowed.is_empty()
            && self.ignored.is_empty()
            && self.removed.is_empty()
            && self.unreadable.is_empty()
    }
}

/// The entries that an import would look at, without changing anything: for status, and for read-only stores.
///
/// # Errors
/// [`StoreError::Io`]. An unreadable legacy file is in the report.
pub fn pending(store: &FileStore, agent: &AgentId) -> Result<(Vec<Pending>, ImportReport), StoreError> {
    let mut report = ImportReport::default();
    let mut found = Vec::new();
    let auth_json = store.paths().legacy_auth_file(agent);
    read_source(store, &auth_json, None, &mut found, &mut report)?;
    if agent.is_main() {
        // The file belongs to the installation, and a grant has one owner.
        let oauth_json = store.paths().oauth_file();
        read_source(
            store,
            &oauth_json,
            Some(CredentialKind::OAuth),
            &mut found,
            &mut report,
        )?;
    }
    Ok((found, report))
}

/// Imports the legacy files of one agent; `oauth.json` goes to main. Does nothing on a read-only store.
///
/// # Errors
/// As for [`FileStore::compare_and_set`]; nothing is removed from a legacy file before its entry was read back.
pub fn import(store: &FileStore, agent: &AgentId) -> Result<ImportReport, StoreError> {
    if store.is_readonly() {
        return Ok(ImportReport::default());
    }
    let (found, mut report) = pending(store, agent)?;
    if !found.is_empty() {
        store.edit(agent, false, |opened| {
            for pending in &found {
                match opened.profiles.get(&pending.id) {
                    None => {
                        opened.profiles.insert_raw(&pending.id, pending.entry.0.clone());
                        report.imported.push((pending.id.clone(), pending.source.clone()));
                    }
                    Some(known) if same_secret(known, &pending.credential) => {}
                    Some(_) => report.shadowed.push((pending.id.clone(), pending.source.clone())),
                }
            }
        })?;
        for pending in &found {
            mark(store, pending)?;
        }
    }
    scrub(store, agent, &mut report)?;
    Ok(report)
}

/// Dissolves what an older OpenClaw copied from main into `agent` (openclaw-live.md 8): a provider of which every
/// profile here is also main's, with the same secret or, as `is_ancestor` knows of main's refresh record, one that main
/// has spent since. The copies are removed, and the agent sees main's through. Returns the removed profiles.
///
/// # Errors
/// As for [`FileStore::compare_and_set`].
pub fn dissolve_clones(
    store: &FileStore,
    agent: &AgentId,
    is_ancestor: &dyn Fn(&ProfileId, SpendKey) -> bool,
) -> Result<Vec<ProfileId>, StoreError> {
    let main = AgentId::main();
    if store.is_readonly() || agent.is_main() || store.owner_path(agent)? == store.owner_path(&main)? {
        return Ok(Vec::new());
    }
    let main = store.load(&main)?;
    let is_copy = |id: &ProfileId, ours: &Credential| {
        main.profiles.get(id).is_some_and(|theirs| {
            let spent = spend_key(ours).is_some_and(|key| is_ancestor(id, key));
            ours.provider() == theirs.provider() && (same_secret(ours, theirs) || spent)
        })
    };
    let own = store.load(agent)?;
    if own
        .profiles
        .entries()
        .iter()
        .all(|entry| !is_copy(&entry.id, &entry.credential))
    {
        return Ok(Vec::new());
    }
    store.edit(agent, false, |opened| {
        let entries = opened.profiles.entries();
        let mixed: Vec<ProviderId> = entries
            .iter()
            .filter(|entry| !is_copy(&entry.id, &entry.credential))
            .map(|entry| entry.credential.provider().clone())
            .collect();
        let copies: Vec<ProfileId> = entries
            .iter()
            .filter(|entry| !mixed.contains(entry.credential.provider()))
            .map(|entry| entry.id.clone())
            .collect();
        for id in &copies {
            opened.profiles.remove(id);
        }
        copies
    })
}

/// Reads a flat map of credentials; `kind` is what every entry of the file is, where the file does not say.
fn read_source(
    store: &FileStore,
    path: &Path,
    kind: Option<CredentialKind>,
    found: &mut Vec<Pending>,
    report: &mut ImportReport,
) -> Result<(), StoreError> {
    let Some(map) = read_map(store, path, report)? else {
        return Ok(());
    };
    let files = &*store.host().files;
    let real = real_path(files, path).map_err(StoreError::io("resolve", path))?;
    for (key, value) in &map.0 {
        let flat = match kind {
            Some(kind) => flat_entry(key, &with_kind(value, kind)),
            None => flat_entry(key, value),
        };
        let flat = match flat {
            Ok(flat) => flat,
            Err(reason) => {
                report.ignored.push((path.to_owned(), key.clone(), reason));
                continue;
            }
        };
        let marker = marker(&real, key, &flat.credential);
        let marker_file = marker_file(store, &marker);
        let seen = files
            .stat(&marker_file)
            .map_err(StoreError::io("look at", &marker_file))?;
        if seen.is_none() {
            found.push(pending_of(path, key, flat, marker));
        }
    }
    Ok(())
}

fn pending_of(path: &Path, key: &str, flat: Flat, marker: String) -> Pending {
    Pending {
        source: path.to_owned(),
        key: key.to_owned(),
        id: flat.id,
        credential: flat.credential,
        entry: js::SecretMap(flat.entry),
        marker,
    }
}

/// The file as a map; `None` when it is missing, unreadable (reported), or a store rather than a flat map.
fn read_map(
    store: &FileStore,
    path: &Path,
    report: &mut ImportReport,
) -> Result<Option<js::SecretMap>, StoreError> {
    let Some(content) = disk::read(store.host(), store.paths(), path)? else {
        return Ok(None);
    };
    match js::parse_object(content.bytes.expose()) {
        Ok(map) if map.contains_key("profiles") => Ok(None),
        Ok(map) => Ok(Some(js::SecretMap(map))),
        Err(failure) => {
            report.unreadable.push(Unreadable {
                path: path.to_owned(),
                failure,
                fix: "It is an old file that is only read; correct it, or move it away".to_owned(),
            });
            Ok(None)
        }
    }
}

/// Removes from `auth.json` the keys and tokens that the store holds, as read anew under the store's lock.
fn scrub(store: &FileStore, agent: &AgentId, report: &mut ImportReport) -> Result<(), StoreError> {
    let path = store.paths().legacy_auth_file(agent);
    let Some(map) = read_map(store, &path, &mut ImportReport::default())? else {
        return Ok(());
    };
    if static_keys(&map.0).is_empty() {
        return Ok(());
    }
    let _lock = store.lock(agent)?;
    let Some(mut map) = read_map(store, &path, &mut ImportReport::default())? else {
        return Ok(());
    };
    let stored = store.load(agent)?;
    for key in static_keys(&map.0) {
        let flat = map.0.get(&key).map(|value| flat_entry(&key, value));
        let Some(Ok(flat)) = flat else { continue };
        let held = stored.profiles.get(&flat.id);
        if held.is_some_and(|held| same_secret(held, &flat.credential)) {
            if let Some(mut value) = js::take(&mut map.0, &key) {
                js::wipe(&mut value);
            }
            report.removed.push(key);
        }
    }
    if report.removed.is_empty() {
        Ok(())
    } else if map.0.is_empty() {
        store
            .host()
            .files
            .remove(&path)
            .map_err(StoreError::io("remove", &path))
    } else {
        disk::write(store.host(), store.paths(), &path, &js::to_bytes(&map.0))
    }
}

fn static_keys(map: &Map<String, Value>) -> Vec<String> {
    let is_static = |key: &str, value: &Value| {
        flat_entry(key, value).is_ok_and(|flat| flat.credential.kind() != CredentialKind::OAuth)
    };
    map.iter()
        .filter(|(key, value)| is_static(key, value))
        .map(|(key, _)| key.clone())
        .collect()
}

/// Do both hold the same secret? For a grant its refresh token decides, or the access token where there is none.
pub(crate) fn same_secret(a: &Credential, b: &Credential) -> bool {
    a.kind() == b.kind() && fingerprint(a) == fingerprint(b)
}

fn spend_key(credential: &Credential) -> Option<SpendKey> {
    credential.as_oauth()?.tokens.refresh_token().map(SpendKey::of)
}

/// A hash that tells secrets apart without revealing them.
fn fingerprint(credential: &Credential) -> String {
    let source = match credential {
        Credential::OAuth(oauth) => {
            let secret = oauth.tokens.refresh_token().unwrap_or(&oauth.tokens.access);
            return hex::encode(SpendKey::of(secret).0);
        }
        Credential::ApiKey(key) => &key.key,
        Credential::Token(token) => &token.token,
    };
    let inline = source.inline.as_ref().map(|text| match text {
        SecretText::Plain(secret) | SecretText::EnvTemplate { literal: secret, .. } => secret.clone(),
    });
    let inline = inline.unwrap_or_else(|| Secret::new(""));
    let reference = source.reference.as_ref().map(|reference| {
        format!(
            "{}\0{}\0{}",
            reference.source,
            reference.provider.as_deref().unwrap_or_default(),
            reference.id
        )
    });
    hash_hex(&[
        b"tokensink static 1\0",
        inline.expose().as_bytes(),
        b"\0",
        reference.unwrap_or_default().as_bytes(),
    ])
}

fn marker(source: &Path, key: &str, credential: &Credential) -> String {
    hash_hex(&[
        b"tokensink import 1\0",
        source.as_os_str().as_encoded_bytes(),
        b"\0",
        key.as_bytes(),
        b"\0",
        fingerprint(credential).as_bytes(),
    ])
}

fn marker_file(store: &FileStore, marker: &str) -> PathBuf {
    store.paths().own_state_dir().join("imports").join(marker)
}

/// Notes that an entry was looked at.
fn mark(store: &FileStore, pending: &Pending) -> Result<(), StoreError> {
    let note = json!({
        "source": pending.source.to_string_lossy(),
        "entry": pending.key,
        "profile": pending.id.as_str(),
        "at": store.host().clock.now().0,
    });
    let mut bytes = note.to_string().into_bytes();
    bytes.push(b'\n');
    let file = marker_file(store, &pending.marker);
    disk::write(store.host(), store.paths(), &file, &bytes)
}
