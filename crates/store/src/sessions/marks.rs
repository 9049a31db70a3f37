//! What only we know of sessions: `tokensink/state/sessions/<agent>.json`.
//!
//! A mark belongs to the profile that it names: where another program has pinned another one since, it counts for
//! nothing. Who answered last is known whatever is pinned. The file may be lost: an automatic pin then stays over the
//! next change of the order, and nobody knows who answered.

use serde_json::{Map, Value, json};
use tokensink_types::{ProfileId, SessionKey};

use super::entry::Session;
use crate::json as js;

const SESSIONS: &str = "sessions";

/// The file.
pub(super) struct Marks {
    map: Map<String, Value>,
    before: Map<String, Value>,
}

impl Marks {
    pub(super) fn of(map: Map<String, Value>) -> Self {
        Self {
            before: map.clone(),
            map,
        }
    }

    /// Adds to a session what is known of it here.
    pub(super) fn apply(&self, key: &SessionKey, session: &mut Session) {
        let all = js::object(&self.map, SESSIONS);
        let Some(mark) = all.and_then(|all| js::object(all, key.as_str())) else {
            return;
        };
        let of_this = session.profile.is_some()
            && js::text(mark, "profile").as_deref() == session.profile.as_ref().map(ProfileId::as_str);
        session.order_mark = js::text(mark, "orderMark")
            .filter(|_| of_this)
            .and_then(|text| u64::from_str_radix(&text, 16).ok());
        let is = |name: &str| mark.get(name).and_then(Value::as_bool) == Some(true);
        session.made = is("made");
        session.fresh = is("fresh");
        session.used_at = mark.get("usedAt").and_then(js::millis);
        session.served = js::text(mark, "served").and_then(|text| ProfileId::parse(&text).ok());
    }

    pub(super) fn set(&mut self, key: &SessionKey, session: &Session) {
        let mut mark = Map::new();
        if let (Some(profile), Some(number)) = (&session.profile, session.order_mark) {
            mark.insert("profile".to_owned(), json!(profile.as_str()));
            // Other readers of JSON may round a number of this size.
            mark.insert("orderMark".to_owned(), json!(format!("{number:016x}")));
        }
        for (name, is) in [("made", session.made), ("fresh", session.fresh)] {
            if is {
                mark.insert(name.to_owned(), json!(true));
            }
        }
        if let Some(at) = session.used_at {
            mark.insert("usedAt".to_owned(), at.0.into());
        }
        if let Some(profile) = &session.served {
            mark.insert("served".to_owned(), json!(profile.as_str()));
        }
        if mark.is_empty() {
            self.remove(key);
        } else {
            js::object_at(&mut self.map, SESSIONS).insert(key.as_str().to_owned(), Value::Object(mark));
        }
    }

    pub(super) fn remove(&mut self, key: &SessionKey) {
        if let Some(Value::Object(all)) = self.map.get_mut(SESSIONS) {
            js::take(all, key.as_str());
        }
    }

    /// Forgets sessions that are gone.
    pub(super) fn retain(&mut self, keep: impl Fn(&SessionKey) -> bool) {
        if let Some(Value::Object(all)) = self.map.get_mut(SESSIONS) {
            all.retain(|key, _| SessionKey::parse(key).is_ok_and(|key| keep(&key)));
        }
    }

    /// The text of the file, if it is another one than before.
    pub(super) fn changed(&mut self) -> Option<Vec<u8>> {
        if self.map == self.before {
            return None;
        }
        if !self.map.contains_key("version") {
            self.map.shift_insert(0, "version".to_owned(), json!(1));
        }
        Some(js::to_bytes(&self.map))
    }
}
