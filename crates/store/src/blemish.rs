//! Marks of a hasty paste in stored secrets, for those who look after a store.
//!
//! Works on the text of `auth-profiles.json`, because the typed view has cleaned what it read already (spec.md 2.7.6)
//! while other programs take the text as it stands. It tells where a mark is, never what the secret is.

use serde_json::{Map, Value};
use tokensink_types::{AgentId, ProfileId};

use crate::agent_store::FileStore;
use crate::error::StoreError;
use crate::json::{self as js, ParseFailure, SecretMap};
use crate::profiles::clean_secret;

/// Fields that hold a secret, under the names of all ages (spec.md 2.2, 2.4.2).
const SECRET_FIELDS: [&str; 6] = ["key", "apiKey", "token", "access", "refresh", "idToken"];

/// What is wrong with a stored secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlemishKind {
    /// It holds a `#`: a code with its state was pasted where a token belongs (spec.md 18.5).
    CodeAndState,
    /// White space or line breaks around or in it that a new write would take away.
    Untidy,
    /// White space in the middle of it. Nobody can know what was meant.
    InnerSpace,
}

/// A mark in one field of one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blemish {
    /// The profile.
    pub id: ProfileId,
    /// The field.
    pub field: &'static str,
    /// What is wrong.
    pub kind: BlemishKind,
}

/// Looks through the text of a store, in the order of the file. Entries whose key is no profile id are left out.
///
/// # Errors
/// [`ParseFailure`] when the text is no JSON object; it holds nothing of the text.
pub fn blemishes(bytes: &[u8]) -> Result<Vec<Blemish>, ParseFailure> {
    let map = SecretMap(js::parse_object(bytes)?);
    let mut found = Vec::new();
    for (key, value) in js::object(&map.0, "profiles").into_iter().flatten() {
        let (Ok(id), Some(entry)) = (ProfileId::parse(key), value.as_object()) else {
            continue;
        };
        found.extend(SECRET_FIELDS.iter().filter_map(|field| {
            Some(Blemish {
                id: id.clone(),
                field,
                kind: kind_of(entry, field)?,
            })
        }));
    }
    Ok(found)
}

impl FileStore {
    /// Takes the white space away around the secrets of one profile; what is in the middle of one stays.
    ///
    /// # Errors
    /// As for [`FileStore::compare_and_set`].
    pub fn tidy(&self, owner: &AgentId, id: &ProfileId) -> Result<(), StoreError> {
        self.edit(owner, false, |opened| {
            opened.profiles.rewrite(id, |field, text| {
                let is_secret = SECRET_FIELDS.contains(&field) && !text.trim().is_empty();
                is_secret.then(|| clean_secret(text))
            });
        })
    }
}

fn kind_of(entry: &Map<String, Value>, field: &str) -> Option<BlemishKind> {
    let text = entry
        .get(field)?
        .as_str()
        .filter(|text| !text.trim().is_empty())?;
    let clean = zeroize::Zeroizing::new(clean_secret(text));
    if clean.contains('#') {
        Some(BlemishKind::CodeAndState)
    } else if clean.contains(char::is_whitespace) {
        Some(BlemishKind::InnerSpace)
    } else if *clean != text {
        Some(BlemishKind::Untidy)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_are_told_by_field() {
        let text = json!({"profiles": {
            "a:good": {"type": "oauth", "access": "x.y-z", "refresh": ""},
            "a:code": {"type": "token", "token": " abc#state\n"},
            "a:ends": {"type": "api_key", "key": "abc\n"},
            "a:inner": {"type": "oauth", "access": "ab cd", "refresh": "ok\r\n"},
            " ": {"type": "token", "token": "a b"},
            "a:none": 5,
        }});
        let found: Vec<(String, &str, BlemishKind)> = blemishes(text.to_string().as_bytes())
            .unwrap()
            .into_iter()
            .map(|one| (one.id.to_string(), one.field, one.kind))
            .collect();
        let want = [
            ("a:code", "token", BlemishKind::CodeAndState),
            ("a:ends", "key", BlemishKind::Untidy),
            ("a:inner", "access", BlemishKind::InnerSpace),
            ("a:inner", "refresh", BlemishKind::Untidy),
        ];
        assert_eq!(
            found,
            want.map(|(id, field, kind)| (id.to_owned(), field, kind))
                .to_vec()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through(bytes: Vec<u8>) {
            let _ = blemishes(&bytes);
        }
    }
}
