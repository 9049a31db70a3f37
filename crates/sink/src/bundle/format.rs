//! The text of a bundle: JSON, version 1 (docs/bundles.md). Entries have the shape of `auth-profiles.json` with every
//! field they had.

use serde_json::{Map, Value, json};
use tokensink_store::ForeignEntry;
use tokensink_types::{AgentId, Body, ProfileId, ProviderId, SpendKey, UnixMillis};

/// What the text says of itself.
const FORMAT: &str = "tokensink-bundle";
/// The version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// A bundle.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    /// 32 hex digits.
    pub(super) id: String,
    /// When it was made.
    pub(super) created_at: UnixMillis,
    /// The host that made it, for people.
    pub(super) host: String,
    /// Its logins were removed from where they were.
    pub(super) moved: bool,
    pub(super) entries: Vec<Packed>,
    pub(super) orders: Vec<(AgentId, ProviderId, Vec<ProfileId>)>,
}

/// One login.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) agent: AgentId,
    pub(super) entry: ForeignEntry,
    /// Refresh tokens that were spent for it, newest first.
    pub(super) ancestors: Vec<SpendKey>,
}

impl Bundle {
    /// What it is called in messages.
    pub(super) fn name(&self) -> String {
        let short: String = self.id.chars().take(8).collect();
        format!("bundle {short} of {}", crate::import::time_of(self.created_at))
    }

    /// The text, secrets included.
    pub(super) fn encode(&self) -> Body {
        let entries = self.entries.iter().map(|packed| {
            json!({
                "agent": packed.agent.as_str(),
                "profile": packed.entry.id().as_str(),
                "credential": packed.entry.to_value(),
                "ancestors": packed.ancestors.iter().map(|key| hex::encode(key.0)).collect::<Vec<_>>(),
            })
        });
        let orders = self.orders.iter().map(|(agent, provider, ids)| {
            let ids: Vec<&str> = ids.iter().map(ProfileId::as_str).collect();
            json!({"agent": agent.as_str(), "provider": provider.as_str(), "order": ids})
        });
        let mut value = json!({
            "format": FORMAT,
            "version": VERSION,
            "id": self.id,
            "created_at": self.created_at.0,
            "host": self.host,
            "moved": self.moved,
            "entries": entries.collect::<Vec<_>>(),
            "orders": orders.collect::<Vec<_>>(),
        });
        let body = Body::new(value.to_string().into_bytes());
        tokensink_store::foreign::wipe(&mut value);
        body
    }

    /// The bundle in a text.
    ///
    /// # Errors
    /// What is wrong with it, without any of the text.
    pub(super) fn decode(text: &Body) -> Result<Self, String> {
        let parsed = serde_json::from_slice(text.expose());
        let mut value: Value = parsed.map_err(|_| "it is no JSON text".to_owned())?;
        let bundle = value
            .as_object()
            .ok_or("it is no object".to_owned())
            .and_then(read);
        tokensink_store::foreign::wipe(&mut value);
        bundle
    }
}

fn read(map: &Map<String, Value>) -> Result<Bundle, String> {
    if map.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err("it is no bundle of tokensink".to_owned());
    }
    match map.get("version").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(version) => return Err(format!("its version {version} is of a newer tokensink")),
        None => return Err("it names no version".to_owned()),
    }
    let text = |name: &str| {
        let text = map.get(name).and_then(Value::as_str);
        text.map(str::to_owned).ok_or(format!("its {name} is missing"))
    };
    let list = |name: &str| {
        let list = map.get(name).and_then(Value::as_array);
        list.ok_or(format!("its {name} are missing"))
    };
    Ok(Bundle {
        id: text("id")?,
        created_at: UnixMillis(
            map.get("created_at")
                .and_then(Value::as_i64)
                .ok_or("its time is missing")?,
        ),
        host: text("host")?,
        moved: map.get("moved").and_then(Value::as_bool).unwrap_or(false),
        entries: list("entries")?.iter().map(packed).collect::<Result<_, _>>()?,
        orders: list("orders")?.iter().filter_map(order).collect(),
    })
}

fn packed(value: &Value) -> Result<Packed, String> {
    let key = value["profile"].as_str().unwrap_or_default();
    let id = ProfileId::parse(key).map_err(|_| "an entry has no valid id".to_owned())?;
    let entry = ForeignEntry::from_value(id, value["credential"].clone())
        .map_err(|reason| format!("entry {key:?} is no credential ({})", reason.as_str()))?;
    let ancestors = value["ancestors"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    Ok(Packed {
        agent: AgentId::normalise(value["agent"].as_str().unwrap_or("main")),
        entry,
        ancestors: ancestors.iter().filter_map(spend_key).collect(),
    })
}

fn spend_key(text: &Value) -> Option<SpendKey> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.as_str()?, &mut bytes).ok()?;
    Some(SpendKey(bytes))
}

fn order(value: &Value) -> Option<(AgentId, ProviderId, Vec<ProfileId>)> {
    let ids = value["order"].as_array()?.iter();
    let ids = ids.filter_map(|id| ProfileId::parse(id.as_str()?).ok());
    let agent = AgentId::normalise(value["agent"].as_str()?);
    Some((
        agent,
        ProviderId::parse(value["provider"].as_str()?).ok()?,
        ids.collect(),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::world::{id, oauth, spend};

    fn bundle() -> Bundle {
        Bundle {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            created_at: UnixMillis(1_767_225_600_000),
            host: "laptop".to_owned(),
            moved: true,
            entries: vec![Packed {
                agent: AgentId::normalise("work"),
                entry: ForeignEntry::from_value(id("rig:a"), oauth("rig", "alice")).unwrap(),
                ancestors: vec![spend("older")],
            }],
            orders: vec![(
                AgentId::main(),
                ProviderId::parse("rig").unwrap(),
                vec![id("rig:a")],
            )],
        }
    }

    #[test]
    fn written_and_read() {
        let text = bundle().encode();
        let read = Bundle::decode(&text).unwrap();
        assert_eq!(read.name(), "bundle 01234567 of 2026-01-01 00:00 UTC");
        assert_eq!(read.encode(), text);
        assert!(!format!("{read:?}").contains("canary"));
    }

    #[test]
    fn what_is_no_bundle() {
        let good: Value = serde_json::from_slice(bundle().encode().expose()).unwrap();
        let with = |field: &str, value: Value| {
            let mut changed = good.clone();
            changed[field] = value;
            changed.to_string()
        };
        let cases = [
            ("{".to_owned(), "JSON"),
            ("[]".to_owned(), "object"),
            (with("format", json!("other")), "no bundle"),
            (with("version", json!(2)), "newer"),
            (with("version", json!(null)), "no version"),
            (with("id", json!(null)), "id"),
            (with("entries", json!(null)), "entries"),
            (
                with(
                    "entries",
                    json!([{"profile": "rig:a", "credential": {"type": "x"}}]),
                ),
                "invalid_type",
            ),
            (
                with("entries", json!([{"profile": " ", "credential": {}}])),
                "no valid id",
            ),
        ];
        for (text, want) in cases {
            let error = Bundle::decode(&Body::new(text.clone().into_bytes())).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Bundle::decode(&Body::new(bytes)).is_err());
        }

        #[test]
        fn any_values_are_read_or_refused(field in "id|host|moved|entries|orders|created_at", text in ".{0,8}") {
            let mut value: Value = serde_json::from_slice(bundle().encode().expose()).unwrap();
            value[field] = json!([text, {"agent": text, "profile": text, "ancestors": [text], "order": [text]}]);
            let _ = Bundle::decode(&Body::new(value.to_string().into_bytes()));
        }
    }
}
