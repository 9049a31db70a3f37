//! `auth-profiles.json` as a lossless document (spec.md 2.1 to 2.7).
//!
//! The document keeps the JSON object as it was read: unknown keys at every level, the order of keys, entries that
//! are no valid credentials, fractions in numbers. Beside it stands the typed view of the valid entries. A change
//! touches only the known fields of one entry, and of these only those that differ. It does not know where the
//! file is, who owns a profile, or what a credential is used for.

mod parse;
mod patch;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use tokensink_types::{Credential, ProfileId};

use crate::json::{self as js, ParseFailure, SecretMap};

pub(crate) use parse::{Flat, flat_entry, parse_credential, secret_ref, secret_text};
pub use parse::{Ignored, IgnoredReason, clean_secret};

/// One valid entry of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileEntry {
    /// The key in `profiles`, trimmed.
    pub id: ProfileId,
    /// What it holds.
    pub credential: Credential,
}

/// The three state maps of an older one-file layout, as they stand in `auth-profiles.json` (spec.md 2.1).
pub(crate) const STATE_MAPS: [&str; 3] = ["order", "lastGood", "usageStats"];

/// The typed view of a store: what reading is for. Nothing is written from it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profiles {
    entries: Vec<ProfileEntry>,
    /// Of the OAuth entries that hold references: the fields that do.
    oauth_refs: Vec<(ProfileId, Vec<String>)>,
    ignored: Vec<Ignored>,
}

impl Profiles {
    /// The valid entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[ProfileEntry] {
        &self.entries
    }

    /// The entries that are kept in the file and not used, with the reason (spec.md 2.4.1).
    #[must_use]
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// The fields of the OAuth profile `id` that hold a reference, which none may (spec.md 4.3).
    #[must_use]
    pub fn oauth_refs(&self, id: &ProfileId) -> &[String] {
        let found = self.oauth_refs.iter().find(|(known, _)| known == id);
        found.map_or(&[], |(_, fields)| fields)
    }

    /// The same view with further entries, which hide those of the same ids: what is kept elsewhere and counts as if it
    /// were in this store.
    #[must_use]
    pub fn with(mut self, further: Vec<ProfileEntry>) -> Self {
        self.entries
            .retain(|entry| further.iter().all(|other| other.id != entry.id));
        self.oauth_refs
            .retain(|(id, _)| further.iter().all(|other| other.id != *id));
        self.entries.extend(further);
        self
    }

    /// The credential under `id`.
    #[must_use]
    pub fn get(&self, id: &ProfileId) -> Option<&Credential> {
        self.entries
            .iter()
            .find(|entry| entry.id == *id)
            .map(|entry| &entry.credential)
    }
}

/// Reads the text of a store as [`ProfilesDocument::parse`] does, but keeps only the typed view and the state maps of
/// an older layout: the secrets then stand in memory once.
///
/// # Errors
/// As for [`ProfilesDocument::parse`].
pub(crate) fn read(bytes: &[u8]) -> Result<(Profiles, Map<String, Value>), ParseFailure> {
    let mut map = SecretMap(parse_map(bytes)?);
    let state = state_maps(&map.0);
    Ok((parse::take_entries(js::object_at(&mut map.0, "profiles")), state))
}

/// The document with its typed view.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfilesDocument {
    map: SecretMap,
    view: Profiles,
}

impl Default for ProfilesDocument {
    fn default() -> Self {
        Self::empty()
    }
}

impl ProfilesDocument {
    /// A store without profiles.
    #[must_use]
    pub fn empty() -> Self {
        let mut map = Map::new();
        map.insert("version".to_owned(), json!(1));
        map.insert("profiles".to_owned(), json!({}));
        Self::of(map)
    }

    /// Parses the text of a store of age A, B or C (spec.md 2.1), or of the legacy flat form
    /// `{"openrouter": {"apiKey": …}}` (2.4.6), whose entries become `<provider>:default`.
    ///
    /// # Errors
    /// [`ParseFailure`] when the text is no JSON object, or `profiles` is there and no object. The failure holds
    /// nothing of the text.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseFailure> {
        parse_map(bytes).map(Self::of)
    }

    fn of(map: Map<String, Value>) -> Self {
        let mut document = Self {
            map: SecretMap(map),
            view: Profiles::default(),
        };
        document.reread();
        document
    }

    /// The valid entries in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[ProfileEntry] {
        self.view.entries()
    }

    /// The entries that are kept in the file and not used, with the reason (spec.md 2.4.1).
    #[must_use]
    pub fn ignored(&self) -> &[Ignored] {
        self.view.ignored()
    }

    /// The credential under `id`.
    #[must_use]
    pub fn get(&self, id: &ProfileId) -> Option<&Credential> {
        self.view.get(id)
    }

    /// True when there is neither a valid nor an ignored entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty() && self.ignored().is_empty()
    }

    /// The entry's `copyToAgents` (spec.md 2.2, 15.4).
    #[must_use]
    pub fn copy_to_agents(&self, id: &ProfileId) -> Option<bool> {
        self.raw(id)?.get("copyToAgents")?.as_bool()
    }

    /// The entry as it stands in the file, secrets included.
    pub(crate) fn raw(&self, id: &ProfileId) -> Option<&Map<String, Value>> {
        let profiles = js::object(&self.map.0, "profiles")?;
        profiles.get(&key_of(profiles, id)?)?.as_object()
    }

    /// Puts `credential` under `id`: a new entry gets the usual order of fields, an existing one keeps its unknown
    /// fields and the place of the known ones. Keys and tokens are cleaned (spec.md 2.7.6); with a reference, the
    /// value is not written (2.7.2).
    pub fn upsert(&mut self, id: &ProfileId, credential: &Credential) {
        let profiles = self.profiles_mut();
        let key = key_of(profiles, id).unwrap_or_else(|| id.as_str().to_owned());
        match profiles.get_mut(&key).and_then(Value::as_object_mut) {
            Some(entry) => patch::patch(entry, credential),
            None => {
                profiles.insert(key, Value::Object(patch::fresh(credential)));
            }
        }
        self.reread();
    }

    /// Puts a raw entry under `id`, all of its fields included: what an import brings.
    pub(crate) fn insert_raw(&mut self, id: &ProfileId, entry: Map<String, Value>) {
        self.profiles_mut()
            .insert(id.as_str().to_owned(), Value::Object(entry));
        self.reread();
    }

    /// Rewrites texts of one entry in place; nothing else of it changes.
    pub(crate) fn rewrite(&mut self, id: &ProfileId, change: impl Fn(&str, &str) -> Option<String>) {
        let profiles = self.profiles_mut();
        let entry = key_of(profiles, id).and_then(|key| profiles.get_mut(&key)?.as_object_mut());
        for (field, value) in entry.into_iter().flatten() {
            if let Some(new) = value.as_str().and_then(|text| change(field, text)) {
                js::wipe(value);
                *value = Value::String(new);
            }
        }
        self.reread();
    }

    /// Removes the entry under `id`; `false` when there is none.
    pub fn remove(&mut self, id: &ProfileId) -> bool {
        let profiles = self.profiles_mut();
        let removed = key_of(profiles, id).and_then(|key| js::take(profiles, &key));
        let found = removed.is_some();
        if let Some(mut value) = removed {
            js::wipe(&mut value);
        }
        self.reread();
        found
    }

    /// The text of the file: two spaces, a final newline; `version` is there.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        js::to_bytes(&self.map.0)
    }

    /// The state maps of an older layout, as they stand here.
    #[must_use]
    pub fn state_maps(&self) -> Map<String, Value> {
        state_maps(&self.map.0)
    }

    /// Does the file still hold state maps?
    #[must_use]
    pub fn has_state_maps(&self) -> bool {
        STATE_MAPS.iter().any(|key| self.map.0.contains_key(*key))
    }

    /// Removes the state maps; they belong into `auth-state.json` (spec.md 2.1).
    pub(crate) fn drop_state_maps(&mut self) {
        for key in STATE_MAPS {
            js::take(&mut self.map.0, key);
        }
    }

    fn profiles_mut(&mut self) -> &mut Map<String, Value> {
        if !self.map.0.contains_key("version") {
            self.map.0.shift_insert(0, "version".to_owned(), json!(1));
        }
        js::object_at(&mut self.map.0, "profiles")
    }

    fn reread(&mut self) {
        let copy = js::object(&self.map.0, "profiles").cloned().unwrap_or_default();
        self.view = parse::take_entries(&mut SecretMap(copy).0);
    }
}

/// Parses the text of a store and brings the flat form into shape.
fn parse_map(bytes: &[u8]) -> Result<Map<String, Value>, ParseFailure> {
    let mut map = js::parse_object(bytes)?;
    match map.get("profiles") {
        Some(Value::Object(_)) => {}
        Some(other) => {
            return Err(ParseFailure::whole(format!(
                "\"profiles\" is {} where an object was expected",
                js::kind(other)
            )));
        }
        None => adopt_flat(&mut map),
    }
    Ok(map)
}

fn state_maps(map: &Map<String, Value>) -> Map<String, Value> {
    let of = |key: &&str| Some(((*key).to_owned(), map.get(*key)?.clone()));
    STATE_MAPS.iter().filter_map(of).collect()
}

/// The key of `id` as written: exactly, or with blanks around it.
fn key_of(profiles: &Map<String, Value>, id: &ProfileId) -> Option<String> {
    if profiles.contains_key(id.as_str()) {
        return Some(id.as_str().to_owned());
    }
    profiles.keys().find(|key| key.trim() == id.as_str()).cloned()
}

/// Moves the entries of the flat form under `profiles`; everything else stays where it is.
fn adopt_flat(map: &mut Map<String, Value>) {
    let keys: Vec<String> = map
        .iter()
        .filter(|(key, _)| !STATE_MAPS.contains(&key.as_str()))
        .filter(|(key, value)| flat_entry(key, value).is_ok())
        .map(|(key, _)| key.clone())
        .collect();
    let mut profiles = Map::new();
    for key in keys {
        let Some(mut value) = js::take(map, &key) else {
            continue;
        };
        if let Ok(flat) = flat_entry(&key, &value) {
            profiles.insert(flat.id.as_str().to_owned(), Value::Object(flat.entry));
        }
        js::wipe(&mut value);
    }
    map.entry("version").or_insert_with(|| json!(1));
    map.insert("profiles".to_owned(), Value::Object(profiles));
}
