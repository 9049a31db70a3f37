//! Credentials that another store holds, as entries that can be taken over whole.
//!
//! An import shows, compares and renames entries before it stores them; until then they are neither ours nor
//! anybody's. An entry keeps every field that it came with, known or not, and its secrets are overwritten when it
//! goes. Which entry may be taken is not decided here.

use serde_json::{Map, Value};
use tokensink_types::{AgentId, Credential, CredentialKind, ProfileId, ProviderId};

use crate::agent_store::{CasOutcome, Expected, FileStore};
use crate::disk;
use crate::error::StoreError;
use crate::json::{self as js, ParseFailure, SecretMap};
use crate::legacy::same_secret;
use crate::profiles::{self, Ignored, ProfilesDocument, flat_entry};
use crate::state_file::StateDocument;

/// One credential of another store.
#[derive(Debug, Clone)]
pub struct ForeignEntry {
    id: ProfileId,
    credential: Credential,
    entry: SecretMap,
}

impl ForeignEntry {
    /// An entry that is made of a credential alone, with the fields in the order in which OpenClaw writes them.
    #[must_use]
    pub fn of(id: ProfileId, credential: Credential) -> Self {
        let mut document = ProfilesDocument::empty();
        document.upsert(&id, &credential);
        let entry = document.raw(&id).cloned().unwrap_or_default();
        Self {
            id,
            credential,
            entry: SecretMap(entry),
        }
    }

    /// The profile.
    #[must_use]
    pub fn id(&self) -> &ProfileId {
        &self.id
    }

    /// What it holds.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Does the entry have this field, whatever its value?
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.entry.0.contains_key(field)
    }

    /// A text field of the entry, trimmed; `None` when it is missing or blank.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<String> {
        js::text(&self.entry.0, field)
    }

    /// The same credential under another id and provider.
    #[must_use]
    pub fn renamed(mut self, id: ProfileId, provider: &ProviderId) -> Self {
        self.id = id;
        self.entry
            .0
            .insert("provider".to_owned(), provider.as_str().into());
        match &mut self.credential {
            Credential::ApiKey(key) => key.provider = provider.clone(),
            Credential::Token(token) => token.provider = provider.clone(),
            Credential::OAuth(oauth) => oauth.provider = provider.clone(),
        }
        self
    }

    /// The entry with another credential in it; its unknown fields stay.
    #[must_use]
    pub fn with_credential(&self, credential: Credential) -> Self {
        let mut document = ProfilesDocument::empty();
        document.insert_raw(&self.id, self.entry.0.clone());
        document.upsert(&self.id, &credential);
        let entry = document.raw(&self.id).cloned().unwrap_or_default();
        Self {
            id: self.id.clone(),
            credential,
            entry: SecretMap(entry),
        }
    }

    /// Do both hold the same secret? For a grant its refresh token decides, or the access token where there is none.
    #[must_use]
    pub fn has_secret_of(&self, other: &Credential) -> bool {
        same_secret(&self.credential, other)
    }

    /// The entry as a JSON object with all of its fields, secrets included: for a sealed export. The caller wipes it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Object(self.entry.0.clone())
    }

    /// The entry that [`ForeignEntry::to_value`] gave.
    ///
    /// # Errors
    /// The reason why it is no credential.
    pub fn from_value(id: ProfileId, value: Value) -> Result<Self, profiles::IgnoredReason> {
        let Value::Object(entry) = value else {
            return Err(profiles::IgnoredReason::NonObject);
        };
        let entry = SecretMap(entry);
        Ok(Self {
            id,
            credential: profiles::parse_credential(&entry.0)?,
            entry,
        })
    }
}

/// Overwrites every text in a value that held secrets.
pub fn wipe(value: &mut Value) {
    js::wipe(value);
}

/// What a file or a database row of another store holds.
#[derive(Debug, Default)]
pub struct ForeignProfiles {
    /// The credentials, in the order of the text.
    pub entries: Vec<ForeignEntry>,
    /// Entries that are none, with the reason.
    pub ignored: Vec<Ignored>,
    /// Order, lastGood and statistics of a one-file layout.
    pub state: StateDocument,
}

/// Reads the text of `auth-profiles.json` of any age, of the JSON in a database of age D, which has its shape, or of
/// the flat form (spec.md 2.1, 2.4.6, 2.8).
///
/// # Errors
/// [`ParseFailure`], which holds nothing of the text.
pub fn parse_profiles(bytes: &[u8]) -> Result<ForeignProfiles, ParseFailure> {
    let document = ProfilesDocument::parse(bytes)?;
    let entries = document.entries().iter().map(|entry| ForeignEntry {
        id: entry.id.clone(),
        credential: entry.credential.clone(),
        entry: SecretMap(document.raw(&entry.id).cloned().unwrap_or_default()),
    });
    let mut state = StateDocument::default();
    state.absorb(&document.state_maps());
    Ok(ForeignProfiles {
        entries: entries.collect(),
        ignored: document.ignored().to_vec(),
        state,
    })
}

/// Reads the text of a legacy `auth.json` (spec.md 2.4.4), or with `kind` of `oauth.json`, whose entries do not say
/// what they are (2.4.5). Each entry becomes `<provider>:default`.
///
/// # Errors
/// [`ParseFailure`], which holds nothing of the text.
pub fn parse_flat(bytes: &[u8], kind: Option<CredentialKind>) -> Result<ForeignProfiles, ParseFailure> {
    let map = SecretMap(js::parse_object(bytes)?);
    let mut found = ForeignProfiles::default();
    for (key, value) in &map.0 {
        let flat = match kind {
            Some(kind) => flat_entry(key, &with_kind(value, kind)),
            None => flat_entry(key, value),
        };
        match flat {
            Ok(flat) => found.entries.push(ForeignEntry {
                id: flat.id,
                credential: flat.credential,
                entry: SecretMap(flat.entry),
            }),
            Err(reason) => found.ignored.push(Ignored {
                key: key.clone(),
                reason,
            }),
        }
    }
    Ok(found)
}

pub(crate) fn with_kind(value: &Value, kind: CredentialKind) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.insert("type".to_owned(), kind.as_str().into());
    }
    value
}

impl FileStore {
    /// The stored entry of a profile with all of its fields.
    ///
    /// # Errors
    /// As for [`FileStore::load`].
    pub fn entry(&self, owner: &AgentId, id: &ProfileId) -> Result<Option<ForeignEntry>, StoreError> {
        let path = self.paths().profiles_file(owner);
        let Some(content) = disk::read(self.host(), self.paths(), &path)? else {
            return Ok(None);
        };
        let found = parse_profiles(content.bytes.expose())
            .map_err(|failure| StoreError::unreadable(&path, failure, "Correct it by hand".to_owned()))?;
        Ok(found.entries.into_iter().find(|entry| entry.id == *id))
    }

    /// Stores an entry of another store under its id, if what is there meets `expected`: a new profile gets all of
    /// its fields, an existing one keeps its own unknown fields. Locks and reading back are those of
    /// [`FileStore::compare_and_set`].
    ///
    /// # Errors
    /// As for [`FileStore::compare_and_set`]; a file that does not parse is left as it is.
    pub fn adopt(
        &self,
        owner: &AgentId,
        entry: &ForeignEntry,
        expected: Expected,
    ) -> Result<CasOutcome, StoreError> {
        self.edit(owner, false, |opened| {
            let current = opened.profiles.get(&entry.id);
            if !expected.is_met_by(current) {
                return CasOutcome::Conflict(current.cloned().map(Box::new));
            }
            if current.is_some() {
                opened.profiles.upsert(&entry.id, &entry.credential);
            } else {
                opened.profiles.insert_raw(&entry.id, fields_of(&entry.entry));
            }
            CasOutcome::Done
        })
    }
}

/// `type` in its usual spelling, so that strict readers see it too (spec.md 2.4.2).
fn fields_of(entry: &SecretMap) -> Map<String, Value> {
    let mut fields = entry.0.clone();
    if !fields.contains_key("type")
        && let Some(mode) = js::take(&mut fields, "mode")
    {
        fields.shift_insert(0, "type".to_owned(), mode);
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tokensink_testkit::TestHost;

    use super::*;
    use crate::Paths;

    fn id(text: &str) -> ProfileId {
        ProfileId::parse(text).unwrap()
    }

    #[test]
    fn an_entry_is_stored_with_every_field_it_came_with() {
        let text = br#"{"version":1,"profiles":{"a:x":{"mode":"oauth","provider":"a","access":"canary-1",
            "refresh":"canary-2","expires":5,"rateLimitTier":"t","later":{"n":[1]}}},"order":{"a":["a:x"]}}"#;
        let found = parse_profiles(text).unwrap();
        assert_eq!(found.state.orders().len(), 1);
        assert!(!format!("{found:?}").contains("canary"));
        let test = TestHost::new();
        let paths = Paths::resolve(&test.env).unwrap();
        let store = FileStore::new(test.host(), paths.clone(), false);
        let main = AgentId::main();
        let done = store.adopt(&main, &found.entries[0], Expected::Absent).unwrap();
        assert_eq!(done, CasOutcome::Done);
        let again = store.adopt(&main, &found.entries[0], Expected::Absent).unwrap();
        assert!(matches!(again, CasOutcome::Conflict(Some(_))));
        let bytes = test.files.snapshot().remove(&paths.profiles_file(&main)).unwrap();
        let stored: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            stored["profiles"]["a:x"],
            json!({"type":"oauth","provider":"a","access":"canary-1","refresh":"canary-2","expires":5,
                "rateLimitTier":"t","later":{"n":[1]}})
        );
    }

    #[test]
    fn flat_files_and_renaming() {
        let cases = [
            (r#"{"zai":{"type":"api_key","key":"k"}}"#, None, "zai:default"),
            (
                r#"{"openai-codex":{"access":"a","refresh":"r","expires":1}}"#,
                Some(CredentialKind::OAuth),
                "openai-codex:default",
            ),
        ];
        for (text, kind, want) in cases {
            let found = parse_flat(text.as_bytes(), kind).unwrap();
            assert_eq!(found.entries[0].id(), &id(want), "{text}");
        }
        let provider = ProviderId::parse("other").unwrap();
        let found = parse_flat(cases[0].0.as_bytes(), None).unwrap();
        let renamed = found.entries[0].clone().renamed(id("other:b"), &provider);
        assert_eq!(renamed.credential().provider(), &provider);
        assert_eq!(renamed.to_value()["provider"], "other");
        let back = ForeignEntry::from_value(id("other:b"), renamed.to_value()).unwrap();
        assert!(back.has_secret_of(found.entries[0].credential()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_profiles(&bytes);
            let _ = parse_flat(&bytes, Some(CredentialKind::OAuth));
        }

        #[test]
        fn any_json_is_read_or_refused(key in ".{0,8}", field in "type|mode|provider|access|key", text in ".{0,8}") {
            let text = json!({"profiles": {key: {field: text}}}).to_string();
            let found = parse_profiles(text.as_bytes()).unwrap();
            prop_assert!(found.entries.is_empty() || found.ignored.is_empty());
        }
    }
}
