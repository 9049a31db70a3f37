//! What only we know of sessions: `tokensink/state/sessions/<agent>.json`.
//!
//! A mark belongs to the profile that it names: where another program has pinned another one since, it counts for
//! nothing. Who answered last, and what is kept at further providers, is known whatever is pinned. The file may be lost:
//! an automatic pin is then of the order under which it is used next, and nobody knows who answered.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokensink_types::{ProfileId, ProviderId, SessionKey};

use super::entry::{OtherPin, Session};
use crate::json as js;

const SESSIONS: &str = "sessions";
const ORDER_MARK: &str = "orderMark";

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
        session.order_mark = order_mark(mark).filter(|_| of_this);
        let is = |name: &str| mark.get(name).and_then(Value::as_bool) == Some(true);
        session.made = is("made");
        session.fresh = is("fresh");
        session.used_at = mark.get("usedAt").and_then(js::millis);
        session.served = by_provider(mark, "served", |value| ProfileId::parse(value.as_str()?).ok());
        session.others = by_provider(mark, "others", other_pin);
    }

    pub(super) fn set(&mut self, key: &SessionKey, session: &Session) {
        let mut mark = Map::new();
        if let (Some(profile), Some(number)) = (&session.profile, session.order_mark) {
            mark.insert("profile".to_owned(), json!(profile.as_str()));
            put_order_mark(&mut mark, number);
        }
        for (name, is) in [("made", session.made), ("fresh", session.fresh)] {
            if is {
                mark.insert(name.to_owned(), json!(true));
            }
        }
        if let Some(at) = session.used_at {
            mark.insert("usedAt".to_owned(), at.0.into());
        }
        put_by_provider(&mut mark, "served", &session.served, |profile| {
            json!(profile.as_str())
        });
        put_by_provider(&mut mark, "others", &session.others, other_json);
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

fn order_mark(map: &Map<String, Value>) -> Option<u64> {
    js::text(map, ORDER_MARK).and_then(|text| u64::from_str_radix(&text, 16).ok())
}

/// As text, since other readers of JSON may round a number of this size.
fn put_order_mark(map: &mut Map<String, Value>, number: u64) {
    map.insert(ORDER_MARK.to_owned(), json!(format!("{number:016x}")));
}

/// What cannot be read is left out.
fn by_provider<T>(
    mark: &Map<String, Value>,
    name: &str,
    of: impl Fn(&Value) -> Option<T>,
) -> BTreeMap<ProviderId, T> {
    let all = js::object(mark, name).into_iter().flatten();
    all.filter_map(|(provider, value)| Some((ProviderId::parse(provider).ok()?, of(value)?)))
        .collect()
}

fn put_by_provider<T>(
    mark: &mut Map<String, Value>,
    name: &str,
    all: &BTreeMap<ProviderId, T>,
    json: impl Fn(&T) -> Value,
) {
    if !all.is_empty() {
        let all = all
            .iter()
            .map(|(provider, one)| (provider.as_str().to_owned(), json(one)));
        mark.insert(name.to_owned(), Value::Object(all.collect()));
    }
}

fn other_pin(value: &Value) -> Option<OtherPin> {
    let map = value.as_object()?;
    Some(OtherPin {
        profile: ProfileId::parse(&js::text(map, "profile")?).ok()?,
        compactions: map.get("compactions").and_then(js::count).unwrap_or(0),
        order_mark: order_mark(map),
        conversation: js::text(map, "conversation"),
    })
}

fn other_json(other: &OtherPin) -> Value {
    let mut map = Map::new();
    map.insert("profile".to_owned(), json!(other.profile.as_str()));
    if other.compactions > 0 {
        map.insert("compactions".to_owned(), other.compactions.into());
    }
    if let Some(number) = other.order_mark {
        put_order_mark(&mut map, number);
    }
    if let Some(id) = &other.conversation {
        map.insert("conversation".to_owned(), json!(id));
    }
    Value::Object(map)
}
