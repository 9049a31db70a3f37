//! `tokensink/state/keys.json`: who may call the gateway, by the hash of each client's key.
//!
//! One entry per name. Keys that we do not know stay, at every level; an entry that we do not understand lets nobody
//! in and is kept. The file holds no key. When a key was last used stands in `keys-used.json`, so that a server never
//! writes the file that says who may call it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tokensink_types::{AgentId, ProviderId, UnixMillis};

/// A key as its file tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) digest: [u8; 32],
    pub(crate) agent: AgentId,
    pub(crate) providers: Option<BTreeSet<ProviderId>>,
    pub(crate) hint: String,
    pub(crate) created_at: Option<UnixMillis>,
    pub(crate) revoked_at: Option<UnixMillis>,
}

/// The document.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Document {
    map: Map<String, Value>,
}

impl Document {
    /// Reads the file's text.
    ///
    /// # Errors
    /// Why it does not parse, in words.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) if map.get("keys").is_none_or(Value::is_object) => Ok(Self { map }),
            Ok(Value::Object(_)) => Err("\"keys\" is no object".to_owned()),
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The text of the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        format!("{:#}\n", Value::Object(self.map.clone())).into_bytes()
    }

    /// The entries that we understand, in the order in which they were made.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let keys = self.map.get("keys").and_then(Value::as_object);
        keys.into_iter()
            .flatten()
            .filter_map(|(name, value)| entry(name, value))
            .collect()
    }

    /// The names of the entries that let nobody in because they are not understood.
    pub(crate) fn blemished(&self) -> Vec<&str> {
        let keys = self.map.get("keys").and_then(Value::as_object);
        keys.into_iter()
            .flatten()
            .filter(|(name, value)| entry(name, value).is_none())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Is the name taken by anything other than a revoked key?
    pub(crate) fn is_taken(&self, name: &str) -> bool {
        let value = self.map.get("keys").and_then(|keys| keys.get(name));
        value.is_some_and(|value| entry(name, value).is_none_or(|entry| entry.revoked_at.is_none()))
    }

    /// Adds an entry; a revoked one of the same name gives way.
    pub(crate) fn add(&mut self, entry: &Entry) {
        self.map.entry("version").or_insert(json!(1));
        let mut value = json!({
            "sha256": hex::encode(entry.digest),
            "agent": entry.agent.as_str(),
            "hint": entry.hint,
        });
        if let Some(providers) = &entry.providers {
            let ids: Vec<&str> = providers.iter().map(ProviderId::as_str).collect();
            value["providers"] = json!(ids);
        }
        if let Some(at) = entry.created_at {
            value["createdAt"] = at.0.into();
        }
        if let Value::Object(keys) = self.map.entry("keys").or_insert_with(|| json!({})) {
            keys.shift_remove(&entry.name);
            keys.insert(entry.name.clone(), value);
        }
    }

    /// Marks an entry as revoked; its hash goes, so that not even an older program lets it in.
    pub(crate) fn revoke(&mut self, name: &str, now: UnixMillis) {
        let entry = self.map.get_mut("keys").and_then(|keys| keys.get_mut(name));
        if let Some(Value::Object(entry)) = entry {
            let digest = entry.shift_remove("sha256");
            entry.insert("revokedAt".to_owned(), now.0.into());
            // So that whoever still calls with it is told what happened.
            entry.insert("revokedSha256".to_owned(), digest.unwrap_or_default());
        }
    }
}

/// `None` unless everything that limits the key is understood: a list of providers that cannot be read is not "all".
fn entry(name: &str, value: &Value) -> Option<Entry> {
    let at = |field: &str| value.get(field).and_then(Value::as_i64).map(UnixMillis);
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let revoked_at = match value.get("revokedAt") {
        None => None,
        Some(_) => Some(at("revokedAt")?),
    };
    let field = if revoked_at.is_some() {
        "revokedSha256"
    } else {
        "sha256"
    };
    let mut digest = [0; 32];
    hex::decode_to_slice(text(field)?, &mut digest).ok()?;
    let agent = text("agent")?;
    let providers = match value.get("providers") {
        None => None,
        Some(list) => Some(
            list.as_array()?
                .iter()
                .map(|id| ProviderId::parse(id.as_str()?).ok())
                .collect::<Option<BTreeSet<_>>>()?,
        ),
    };
    Some(Entry {
        name: name.to_owned(),
        digest,
        agent: (AgentId::normalise(agent).as_str() == agent).then(|| AgentId::normalise(agent))?,
        providers,
        hint: text("hint").unwrap_or_default().to_owned(),
        created_at: at("createdAt"),
        revoked_at,
    })
}

/// When each key was last used, from the text of `keys-used.json`. What does not parse is nothing worth an error.
pub(crate) fn uses(bytes: &[u8]) -> BTreeMap<String, UnixMillis> {
    let times: BTreeMap<String, i64> = serde_json::from_slice(bytes).unwrap_or_default();
    times
        .into_iter()
        .map(|(name, at)| (name, UnixMillis(at)))
        .collect()
}

/// The text of `keys-used.json`.
pub(crate) fn uses_to_bytes(uses: &BTreeMap<String, UnixMillis>) -> Vec<u8> {
    let times: Map<String, Value> = uses
        .iter()
        .map(|(name, at)| (name.clone(), at.0.into()))
        .collect();
    format!("{:#}\n", Value::Object(times)).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(name: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            digest: [7; 32],
            agent: AgentId::normalise("work"),
            providers: Some(BTreeSet::from([ProviderId::parse("rig").unwrap()])),
            hint: "tsink_abcd".to_owned(),
            created_at: Some(UnixMillis(5)),
            revoked_at: None,
        }
    }

    #[test]
    fn entries_round_trip_and_foreign_words_stay() {
        let text = br#"{"future":1,"keys":{"old":{"sha256":"zz","x":2}}}"#;
        let mut document = Document::parse(text).unwrap();
        document.add(&sample("ci"));
        let again = Document::parse(&document.to_bytes()).unwrap();
        assert_eq!(again.entries(), [sample("ci")]);
        assert_eq!(again.blemished(), ["old"]);
        assert!(again.is_taken("ci") && again.is_taken("old") && !again.is_taken("new"));
        let mut revoked = again;
        revoked.revoke("ci", UnixMillis(9));
        let entry = revoked.entries().remove(0);
        assert_eq!((entry.revoked_at, entry.digest), (Some(UnixMillis(9)), [7; 32]));
        assert!(!revoked.is_taken("ci"));
        assert_eq!(revoked.map["keys"]["ci"].get("sha256"), None);
        assert_eq!(
            (&revoked.map["future"], &revoked.map["keys"]["old"]["x"]),
            (&json!(1), &json!(2))
        );
    }

    #[test]
    fn what_limits_a_key_must_be_understood() {
        let good = json!({"sha256": "07".repeat(32), "agent": "work"});
        let cases = [
            ("nothing else", json!({}), true),
            ("providers", json!({"providers": ["rig"]}), true),
            ("no provider at all", json!({"providers": []}), true),
            ("providers of another shape", json!({"providers": "rig"}), false),
            (
                "a provider that is no text",
                json!({"providers": ["rig", 5]}),
                false,
            ),
            ("a blank provider", json!({"providers": [" "]}), false),
            (
                "a revocation of another shape",
                json!({"revokedAt": "yesterday"}),
                false,
            ),
            ("a short hash", json!({"sha256": "07"}), false),
            ("no agent", json!({"agent": null}), false),
            ("an agent that is none", json!({"agent": "Work!"}), false),
        ];
        for (what, change, understood) in cases {
            let mut value = good.clone();
            for (key, new) in change.as_object().unwrap() {
                value[key] = new.clone();
            }
            assert_eq!(entry("ci", &value).is_some(), understood, "{what}");
        }
        let none = entry(
            "ci",
            &json!({"sha256": "07".repeat(32), "agent": "a", "providers": []}),
        )
        .unwrap();
        assert_eq!(
            none.providers,
            Some(BTreeSet::new()),
            "an empty list allows nothing"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_document_or_an_error(bytes: Vec<u8>, text in "\\{\"keys\":\\{\"a\":\\PC{0,40}\\}\\}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let _times = uses(bytes);
                if let Ok(document) = Document::parse(bytes) {
                    let _all = (document.entries(), document.blemished());
                }
            }
        }
    }
}
