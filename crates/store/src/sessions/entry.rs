//! The fields of a session that concern models and logins (spec.md 4.4); all others are not looked at.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokensink_types::{ProfileId, ProviderId, UnixMillis};

use crate::json as js;

/// What is known of one session. Absent fields are `None` or zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// `sessionId`: names the transcript; a new conversation gets a new one.
    pub session_id: Option<String>,
    /// `updatedAt`.
    pub updated_at: Option<UnixMillis>,
    /// `providerOverride`.
    pub provider_override: Option<String>,
    /// `modelOverride`.
    pub model_override: Option<String>,
    /// `authProfileOverride`.
    pub profile: Option<ProfileId>,
    /// `authProfileOverrideSource`: `user` or `auto`.
    pub profile_source: Option<String>,
    /// `authProfileOverrideCompactionCount`: how often the session had been compacted when the profile was chosen.
    pub profile_compactions: Option<u64>,
    /// `compactionCount`: how often it has been.
    pub compactions: Option<u64>,
    /// The mark of the order under which the profile was chosen (ours; not in the file).
    pub order_mark: Option<u64>,
    /// Made for a client that named a session in a header, and nobody's choice (ours; not in the file).
    pub made: bool,
    /// A new conversation has begun, and nothing has been asked in it yet (ours; not in the file).
    pub fresh: bool,
    /// When a session that was made for a client was last used, to the hour (ours; not in the file).
    pub used_at: Option<UnixMillis>,
    /// The profile of each provider, by canonical id, that answered last, which need not be the one that it keeps (ours;
    /// not in the file).
    pub served: BTreeMap<ProviderId, ProfileId>,
    /// What it keeps at providers besides that of [`Session::profile`], by canonical id (ours; not in the file, which has
    /// room for one).
    pub others: BTreeMap<ProviderId, OtherPin>,
}

/// The profile that a session keeps at a further provider. No user chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherPin {
    /// The profile.
    pub profile: ProfileId,
    /// How often the session had been compacted when it was chosen.
    pub compactions: u64,
    /// The mark of the order under which it was chosen.
    pub order_mark: Option<u64>,
    /// The [`Session::session_id`] of the conversation in which it was asked last; with another one the session has begun
    /// anew, whoever has begun it.
    pub conversation: Option<String>,
}

const SESSION_ID: &str = "sessionId";
const UPDATED_AT: &str = "updatedAt";
const PROVIDER: &str = "providerOverride";
const MODEL: &str = "modelOverride";
const PROFILE: &str = "authProfileOverride";
const SOURCE: &str = "authProfileOverrideSource";
const PROFILE_COMPACTIONS: &str = "authProfileOverrideCompactionCount";
const COMPACTIONS: &str = "compactionCount";

/// Is it a field of the entries that we make?
pub(super) fn is_ours(field: &str) -> bool {
    [
        SESSION_ID,
        UPDATED_AT,
        PROFILE,
        SOURCE,
        PROFILE_COMPACTIONS,
        COMPACTIONS,
    ]
    .contains(&field)
}

impl Session {
    /// Reads an entry. What has the wrong kind counts as absent.
    pub(super) fn of(entry: &Map<String, Value>) -> Self {
        let count = |key: &str| entry.get(key).and_then(js::count);
        Self {
            session_id: js::text(entry, SESSION_ID),
            updated_at: entry.get(UPDATED_AT).and_then(js::millis),
            provider_override: js::text(entry, PROVIDER),
            model_override: js::text(entry, MODEL),
            profile: js::text(entry, PROFILE).and_then(|text| ProfileId::parse(&text).ok()),
            profile_source: js::text(entry, SOURCE),
            profile_compactions: count(PROFILE_COMPACTIONS),
            compactions: count(COMPACTIONS),
            order_mark: None,
            made: false,
            fresh: false,
            used_at: None,
            served: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// Takes the profile away and what is said of it.
    pub fn unpin(&mut self) {
        self.profile = None;
        self.profile_source = None;
        self.profile_compactions = None;
        self.order_mark = None;
    }

    /// Would both be written the same into `sessions.json`?
    pub(super) fn has_same_fields(&self, other: &Self) -> bool {
        self.fields_that_differ(other).is_empty()
    }

    /// The fields that are not as in `before`, with what they are to be; `None` removes one.
    pub(super) fn fields_that_differ(&self, before: &Self) -> Vec<(&'static str, Option<Value>)> {
        let old = before.fields();
        let new = self.fields().into_iter();
        new.zip(old)
            .filter(|(new, old)| new != old)
            .map(|(new, _)| new)
            .collect()
    }

    fn fields(&self) -> [(&'static str, Option<Value>); 8] {
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let count = |count: Option<u64>| count.map(Value::from);
        [
            (SESSION_ID, text(&self.session_id)),
            (UPDATED_AT, self.updated_at.map(|at| at.0.into())),
            (PROVIDER, text(&self.provider_override)),
            (MODEL, text(&self.model_override)),
            (PROFILE, self.profile.as_ref().map(|id| json!(id.as_str()))),
            (SOURCE, text(&self.profile_source)),
            (PROFILE_COMPACTIONS, count(self.profile_compactions)),
            (COMPACTIONS, count(self.compactions)),
        ]
    }
}
