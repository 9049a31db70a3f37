//! `auth-state.json` as a lossless document: order, lastGood and usageStats of one agent (spec.md 2.3, 5.1, 5.2).
//!
//! Older one-file stores keep the three maps in `auth-profiles.json`; they are read from there and lose key by key
//! against this file. The document keeps unknown keys at every level. It does not decide who may be used: that is
//! the policy's work, on the typed values given here.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokensink_types::{ProfileId, ProviderId, UnixMillis};

use crate::json::{self as js, ParseFailure};
use crate::profiles::STATE_MAPS;

/// The usage statistics of one profile (spec.md 5.1). Absent fields are `None`, zero or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Last success.
    pub last_used: Option<UnixMillis>,
    /// Failures in a row.
    pub error_count: u64,
    /// Failures in a row by reason.
    pub failure_counts: BTreeMap<String, u64>,
    /// Last failure.
    pub last_failure_at: Option<UnixMillis>,
    /// End of a short window.
    pub cooldown_until: Option<UnixMillis>,
    /// Reason of the short window.
    pub cooldown_reason: Option<String>,
    /// The only model that the short window blocks; `None` for all.
    pub cooldown_model: Option<String>,
    /// End of a long window.
    pub disabled_until: Option<UnixMillis>,
    /// Reason of the long window.
    pub disabled_reason: Option<String>,
}

/// Fields of an entry of `usageStats` that the typed view has a place for.
const WINDOW_FIELDS: [&str; 5] = [
    "cooldownUntil",
    "cooldownReason",
    "cooldownModel",
    "disabledUntil",
    "disabledReason",
];

/// The document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StateDocument {
    map: Map<String, Value>,
}

impl StateDocument {
    /// Parses the file's text.
    ///
    /// # Errors
    /// [`ParseFailure`] when the text is no JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseFailure> {
        Ok(Self {
            map: js::parse_object(bytes)?,
        })
    }

    /// Adds what an older layout has in `auth-profiles.json`: for each of the three maps the keys that are not here
    /// (spec.md 2.1). Returns whether anything was added.
    pub(crate) fn absorb(&mut self, older: &Map<String, Value>) -> bool {
        let mut added = false;
        for name in STATE_MAPS {
            let Some(older) = js::object(older, name).filter(|map| !map.is_empty()) else {
                continue;
            };
            let mine = js::object_at(&mut self.map, name);
            for (key, value) in older {
                if !mine.contains_key(key) {
                    mine.insert(key.clone(), value.clone());
                    added = true;
                }
            }
        }
        added
    }

    /// The explicit orders (spec.md 2.3): arrays only, entries trimmed, empty ones and providers without any dropped.
    #[must_use]
    pub fn orders(&self) -> Vec<(ProviderId, Vec<ProfileId>)> {
        let Some(map) = js::object(&self.map, "order") else {
            return Vec::new();
        };
        map.iter()
            .filter_map(|(key, value)| {
                let ids = profile_ids(value.as_array()?);
                let provider = ProviderId::parse(key).ok()?;
                (!ids.is_empty()).then_some((provider, ids))
            })
            .collect()
    }

    /// The explicit order of one provider; `None` means no override.
    #[must_use]
    pub fn order(&self, provider: &ProviderId) -> Option<Vec<ProfileId>> {
        self.orders()
            .into_iter()
            .find_map(|(known, ids)| (known == *provider).then_some(ids))
    }

    /// Sets the order of a provider: trimmed by the types, without repetitions, under the normalised provider
    /// (spec.md 12.7). An empty list clears it.
    pub fn set_order(&mut self, provider: &ProviderId, ids: &[ProfileId]) {
        let mut seen: Vec<&str> = Vec::with_capacity(ids.len());
        for id in ids {
            if !seen.contains(&id.as_str()) {
                seen.push(id.as_str());
            }
        }
        if seen.is_empty() {
            self.clear_order(provider);
            return;
        }
        let keys = self.keys_of("order", provider);
        let orders = js::object_at(&mut self.map, "order");
        for key in keys.iter().filter(|key| key.as_str() != provider.as_str()) {
            js::take(orders, key);
        }
        orders.insert(provider.as_str().to_owned(), json!(seen));
    }

    /// Removes the order of a provider, however its key is spelled; `false` when there was none.
    pub fn clear_order(&mut self, provider: &ProviderId) -> bool {
        let keys = self.keys_of("order", provider);
        for key in &keys {
            js::take(js::object_at(&mut self.map, "order"), key);
        }
        !keys.is_empty()
    }

    /// The profile that last finished a run for the provider.
    #[must_use]
    pub fn last_good(&self, provider: &ProviderId) -> Option<ProfileId> {
        let map = js::object(&self.map, "lastGood")?;
        let key = self.keys_of("lastGood", provider).into_iter().next()?;
        ProfileId::parse(map.get(&key)?.as_str()?).ok()
    }

    /// All of `lastGood`.
    #[must_use]
    pub fn last_goods(&self) -> Vec<(ProviderId, ProfileId)> {
        let Some(map) = js::object(&self.map, "lastGood") else {
            return Vec::new();
        };
        map.iter()
            .filter_map(|(key, value)| {
                Some((
                    ProviderId::parse(key).ok()?,
                    ProfileId::parse(value.as_str()?).ok()?,
                ))
            })
            .collect()
    }

    /// Sets the profile that last finished a run.
    pub fn set_last_good(&mut self, provider: &ProviderId, id: &ProfileId) {
        let key = self
            .keys_of("lastGood", provider)
            .into_iter()
            .next()
            .unwrap_or_else(|| provider.as_str().to_owned());
        js::object_at(&mut self.map, "lastGood").insert(key, id.as_str().into());
    }

    /// The statistics of one profile, `None` where there are none.
    #[must_use]
    pub fn usage(&self, id: &ProfileId) -> Option<Usage> {
        js::object(js::object(&self.map, "usageStats")?, id.as_str()).map(usage)
    }

    /// All statistics.
    #[must_use]
    pub fn usages(&self) -> Vec<(ProfileId, Usage)> {
        let Some(map) = js::object(&self.map, "usageStats") else {
            return Vec::new();
        };
        map.iter()
            .filter_map(|(key, value)| Some((ProfileId::parse(key).ok()?, usage(value.as_object()?))))
            .collect()
    }

    /// Writes the statistics of one profile: known fields are set or removed, unknown ones stay.
    pub fn set_usage(&mut self, id: &ProfileId, usage: &Usage) {
        let entry = js::object_at(js::object_at(&mut self.map, "usageStats"), id.as_str());
        put_at(entry, "lastUsed", usage.last_used);
        if usage.error_count > 0 || entry.contains_key("errorCount") {
            entry.insert("errorCount".to_owned(), usage.error_count.into());
        }
        put_at(entry, "cooldownUntil", usage.cooldown_until);
        put_text(entry, "cooldownReason", usage.cooldown_reason.as_deref());
        put_text(entry, "cooldownModel", usage.cooldown_model.as_deref());
        put_at(entry, "disabledUntil", usage.disabled_until);
        put_text(entry, "disabledReason", usage.disabled_reason.as_deref());
        if usage.failure_counts.is_empty() {
            js::take(entry, "failureCounts");
        } else {
            entry.insert("failureCounts".to_owned(), json!(usage.failure_counts));
        }
        put_at(entry, "lastFailureAt", usage.last_failure_at);
    }

    /// Records a success (spec.md 5.2): `lastUsed` is now, `errorCount` 0, all windows and counts are gone, and the
    /// provider's `lastGood` is this profile.
    pub fn mark_used(&mut self, provider: &ProviderId, id: &ProfileId, now: UnixMillis) {
        let entry = js::object_at(js::object_at(&mut self.map, "usageStats"), id.as_str());
        for field in WINDOW_FIELDS {
            js::take(entry, field);
        }
        js::take(entry, "failureCounts");
        entry.insert("lastUsed".to_owned(), now.0.into());
        entry.insert("errorCount".to_owned(), 0.into());
        self.set_last_good(provider, id);
    }

    /// Removes whatever refers to a profile: its statistics, its place in orders, `lastGood`.
    pub fn forget(&mut self, id: &ProfileId) {
        js::take(js::object_at(&mut self.map, "usageStats"), id.as_str());
        js::object_at(&mut self.map, "lastGood").retain(|_, value| value.as_str() != Some(id.as_str()));
        let orders = js::object_at(&mut self.map, "order");
        for value in orders.values_mut() {
            if let Some(ids) = value.as_array_mut() {
                ids.retain(|entry| entry.as_str().map(str::trim) != Some(id.as_str()));
            }
        }
        orders.retain(|_, value| value.as_array().is_none_or(|ids| !ids.is_empty()));
    }

    /// The text of the file, or `None` when nothing is left that is worth a file (spec.md 2.3: with all three maps
    /// empty the file is deleted; an unknown key keeps it).
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut out = Map::new();
        if !self.map.contains_key("version") {
            out.insert("version".to_owned(), json!(1));
        }
        for (key, value) in &self.map {
            let emptied = STATE_MAPS.contains(&key.as_str()) && value.as_object().is_some_and(Map::is_empty);
            if !emptied {
                out.insert(key.clone(), value.clone());
            }
        }
        (out.len() > 1).then(|| js::to_bytes(&out))
    }

    /// The keys of a per-provider map that mean `provider` after normalisation (spec.md 4.2.2).
    fn keys_of(&self, map: &str, provider: &ProviderId) -> Vec<String> {
        js::object(&self.map, map).map_or_else(Vec::new, |map| {
            map.keys()
                .filter(|key| ProviderId::parse(key).is_ok_and(|known| known == *provider))
                .cloned()
                .collect()
        })
    }
}

pub(crate) fn profile_ids(values: &[Value]) -> Vec<ProfileId> {
    values
        .iter()
        .filter_map(|value| ProfileId::parse(value.as_str()?).ok())
        .collect()
}

fn usage(entry: &Map<String, Value>) -> Usage {
    let at = |key: &str| entry.get(key).and_then(js::millis);
    Usage {
        last_used: at("lastUsed"),
        error_count: entry.get("errorCount").and_then(js::count).unwrap_or(0),
        failure_counts: js::object(entry, "failureCounts").map_or_else(BTreeMap::new, |counts| {
            counts
                .iter()
                .filter_map(|(reason, value)| Some((reason.clone(), js::count(value)?)))
                .collect()
        }),
        last_failure_at: at("lastFailureAt"),
        cooldown_until: at("cooldownUntil"),
        cooldown_reason: js::text(entry, "cooldownReason"),
        cooldown_model: js::text(entry, "cooldownModel"),
        disabled_until: at("disabledUntil"),
        disabled_reason: js::text(entry, "disabledReason"),
    }
}

fn put_at(entry: &mut Map<String, Value>, field: &str, at: Option<UnixMillis>) {
    match at {
        // A float that says the same instant stays as it is.
        Some(at) if entry.get(field).and_then(js::millis) == Some(at) => {}
        Some(at) => {
            entry.insert(field.to_owned(), at.0.into());
        }
        None => {
            js::take(entry, field);
        }
    }
}

fn put_text(entry: &mut Map<String, Value>, field: &str, text: Option<&str>) {
    match text {
        Some(text) => {
            entry.insert(field.to_owned(), text.into());
        }
        None => {
            js::take(entry, field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(text: &str) -> ProviderId {
        ProviderId::parse(text).unwrap()
    }

    fn id(text: &str) -> ProfileId {
        ProfileId::parse(text).unwrap()
    }

    #[test]
    fn orders_are_read_by_the_rules() {
        let text = br#"{"version":1,"order":{"Anthropic ":[" anthropic:a ","",5,"anthropic:b"],"x":[" "],"y":"no"}}"#;
        let state = StateDocument::parse(text).unwrap();
        let want = vec![id("anthropic:a"), id("anthropic:b")];
        assert_eq!(state.order(&provider("anthropic")), Some(want));
        assert_eq!(state.orders().len(), 1);
    }

    #[test]
    fn order_is_set_under_the_normalised_key_and_cleared() {
        let mut state =
            StateDocument::parse(br#"{"version":1,"order":{"Rig":["rig:x"]},"future":{"k":1}}"#).unwrap();
        state.set_order(&provider("rig"), &[id("rig:b"), id("rig:a"), id("rig:b")]);
        let text = String::from_utf8(state.to_bytes().unwrap()).unwrap();
        assert!(
            text.contains("\"rig\": [\n      \"rig:b\",\n      \"rig:a\"\n    ]"),
            "{text}"
        );
        assert!(!text.contains("\"Rig\"") && text.contains("\"future\""), "{text}");
        assert!(state.clear_order(&provider("rig")));
        assert!(!state.clear_order(&provider("rig")));
        assert!(state.to_bytes().is_some(), "an unknown key keeps the file");
        assert!(
            StateDocument::parse(br#"{"version":1,"order":{}}"#)
                .unwrap()
                .to_bytes()
                .is_none()
        );
    }

    #[test]
    fn older_maps_lose_key_by_key() {
        let mut state = StateDocument::parse(br#"{"version":1,"lastGood":{"a":"a:new"}}"#).unwrap();
        let older =
            js::parse_object(br#"{"lastGood":{"a":"a:old","b":"b:old"},"order":{"a":["a:1"]}}"#).unwrap();
        assert!(state.absorb(&older));
        assert!(!state.absorb(&older), "the second time there is nothing to add");
        assert_eq!(state.last_good(&provider("a")), Some(id("a:new")));
        assert_eq!(state.last_good(&provider("b")), Some(id("b:old")));
        assert_eq!(state.order(&provider("a")), Some(vec![id("a:1")]));
    }

    #[test]
    fn usage_round_trip_keeps_unknown_fields() {
        let text = br#"{"version":1,"usageStats":{"a:1":{"lastUsed":5,"errorCount":2,"cooldownUntil":1.5,
            "cooldownReason":"rate_limit","failureCounts":{"rate_limit":2},"future":{"deep":[1]}}}}"#;
        let mut state = StateDocument::parse(text).unwrap();
        let mut usage = state.usage(&id("a:1")).unwrap();
        assert_eq!(
            (usage.error_count, usage.cooldown_until),
            (2, Some(UnixMillis(1)))
        );
        state.set_usage(&id("a:1"), &usage);
        let same = String::from_utf8(state.to_bytes().unwrap()).unwrap();
        assert!(same.contains("1.5") && same.contains("\"deep\""), "{same}");
        usage.disabled_until = Some(UnixMillis(9));
        usage.disabled_reason = Some("billing".to_owned());
        state.set_usage(&id("a:1"), &usage);
        assert_eq!(state.usage(&id("a:1")).unwrap(), usage);
        state.mark_used(&provider("a"), &id("a:1"), UnixMillis(7));
        let used = state.usage(&id("a:1")).unwrap();
        let want = Usage {
            last_used: Some(UnixMillis(7)),
            ..Usage::default()
        };
        assert_eq!(used, want);
        let text = String::from_utf8(state.to_bytes().unwrap()).unwrap();
        assert!(
            text.contains("\"deep\"") && text.contains("\"lastGood\""),
            "{text}"
        );
    }

    #[test]
    fn forgetting_a_profile_leaves_nothing_of_it() {
        let text = br#"{"version":1,"order":{"a":["a:1"],"b":["b:1","a:1"]},"lastGood":{"a":"a:1"},"usageStats":{"a:1":{}}}"#;
        let mut state = StateDocument::parse(text).unwrap();
        state.forget(&id("a:1"));
        let text = String::from_utf8(state.to_bytes().unwrap()).unwrap();
        assert!(!text.contains("a:1") && text.contains("b:1"), "{text}");
    }
}
