//! Typed getters. They are as tolerant as OpenClaw's reading: what has the wrong kind counts as absent.

use serde_json::{Map, Value};
use tokensink_types::{AgentId, ProfileId, ProviderId, SecretSource};

use super::Config;
use crate::json as js;
use crate::profiles::{secret_ref, secret_text};
use crate::state_file::profile_ids;

/// An entry of `auth.profiles` (spec.md 2.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProfile {
    /// Its key.
    pub id: ProfileId,
    /// `provider`.
    pub provider: ProviderId,
    /// `mode`: `api_key`, `oauth`, `token`, or a word of a later age such as `aws-sdk`.
    pub mode: String,
    /// `email`.
    pub email: Option<String>,
    /// `displayName`.
    pub display_name: Option<String>,
}

/// An entry of `agents.list` (spec.md 15.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentEntry {
    /// `id`, normalised.
    pub id: AgentId,
    /// `name`.
    pub name: Option<String>,
    /// `default: true`.
    pub is_default: bool,
    /// `workspace`, as written.
    pub workspace: Option<String>,
    /// `agentDir`, as written.
    pub agent_dir: Option<String>,
    /// `model`.
    pub model: ModelChoice,
}

/// A model with its fallbacks: a text, or `{primary, fallbacks}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelChoice {
    /// The first choice.
    pub primary: Option<String>,
    /// What to try after it, in order.
    pub fallbacks: Vec<String>,
}

/// Which of the two default models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// `agents.defaults.model`.
    Text,
    /// `agents.defaults.imageModel`.
    Image,
}

impl ModelKind {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Text => "model",
            Self::Image => "imageModel",
        }
    }
}

/// An entry of `agents.defaults.models`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// `provider/model`.
    pub key: String,
    /// `alias`.
    pub alias: Option<String>,
}

/// An entry of `models.providers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderConfig {
    /// Its key, normalised.
    pub id: ProviderId,
    /// `apiKey`: a value, a `${NAME}` template or a reference.
    pub api_key: SecretSource,
    /// `auth`, for example `aws-sdk`.
    pub auth: Option<String>,
    /// `baseUrl`.
    pub base_url: Option<String>,
}

impl Config {
    /// `auth.profiles`, in the order of the file. Entries without a valid provider or mode are left out.
    #[must_use]
    pub fn auth_profiles(&self) -> Vec<ConfigProfile> {
        self.entries(&["auth", "profiles"], |key, entry| {
            let entry = entry.as_object()?;
            Some(ConfigProfile {
                id: ProfileId::parse(key).ok()?,
                provider: ProviderId::parse(&js::text(entry, "provider")?).ok()?,
                mode: js::text(entry, "mode")?,
                email: js::text(entry, "email"),
                display_name: js::text(entry, "displayName"),
            })
        })
    }

    /// `auth.order`. An empty list is an order too: it selects none (spec.md 4.2).
    #[must_use]
    pub fn auth_order(&self) -> Vec<(ProviderId, Vec<ProfileId>)> {
        self.entries(&["auth", "order"], |key, ids| {
            Some((ProviderId::parse(key).ok()?, profile_ids(ids.as_array()?)))
        })
    }

    /// `auth.cooldowns` as it stands (spec.md 5.4).
    #[must_use]
    pub fn cooldowns(&self) -> Option<&Map<String, Value>> {
        self.at(&["auth", "cooldowns"])?.as_object()
    }

    /// `agents.list`. Entries without an id are left out.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentEntry> {
        let list = self.at(&["agents", "list"]).and_then(Value::as_array);
        list.map_or_else(Vec::new, |list| list.iter().filter_map(agent).collect())
    }

    /// The default agent: the first with `default: true`, else the first, else `main` (spec.md 15.2).
    #[must_use]
    pub fn default_agent(&self) -> AgentId {
        let agents = self.agents();
        agents
            .iter()
            .find(|agent| agent.is_default)
            .or_else(|| agents.first())
            .map_or_else(AgentId::main, |agent| agent.id.clone())
    }

    /// The default model of all agents.
    #[must_use]
    pub fn default_model(&self, kind: ModelKind) -> ModelChoice {
        self.at(&["agents", "defaults", kind.key()])
            .map_or_else(ModelChoice::default, model_choice)
    }

    /// `agents.defaults.models`: the catalogue with its aliases.
    #[must_use]
    pub fn models(&self) -> Vec<ModelEntry> {
        self.entries(&["agents", "defaults", "models"], |key, entry| {
            Some(ModelEntry {
                key: key.to_owned(),
                alias: entry.as_object().and_then(|entry| js::text(entry, "alias")),
            })
        })
    }

    /// `models.providers`.
    #[must_use]
    pub fn providers(&self) -> Vec<ProviderConfig> {
        self.entries(&["models", "providers"], |key, entry| {
            let entry = entry.as_object()?;
            let key_value = entry.get("apiKey");
            Some(ProviderConfig {
                id: ProviderId::parse(key).ok()?,
                api_key: SecretSource {
                    inline: key_value.and_then(Value::as_str).and_then(secret_text),
                    reference: key_value.and_then(secret_ref),
                },
                auth: js::text(entry, "auth"),
                base_url: js::text(entry, "baseUrl"),
            })
        })
    }

    /// `bindings`, as they stand (spec.md 15.6).
    #[must_use]
    pub fn bindings(&self) -> &[Value] {
        self.at(&["bindings"])
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// The value under a path of keys.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self.raw(), |value, key| value.get(key))
    }

    fn entries<T>(&self, path: &[&str], read: impl Fn(&str, &Value) -> Option<T>) -> Vec<T> {
        let map = self.at(path).and_then(Value::as_object);
        map.map_or_else(Vec::new, |map| {
            map.iter().filter_map(|(key, value)| read(key, value)).collect()
        })
    }
}

fn agent(value: &Value) -> Option<AgentEntry> {
    let entry = value.as_object()?;
    Some(AgentEntry {
        id: AgentId::normalise(&js::text(entry, "id")?),
        name: js::text(entry, "name"),
        is_default: entry.get("default").and_then(Value::as_bool) == Some(true),
        workspace: js::text(entry, "workspace"),
        agent_dir: js::text(entry, "agentDir"),
        model: entry.get("model").map_or_else(ModelChoice::default, model_choice),
    })
}

pub(super) fn model_choice(value: &Value) -> ModelChoice {
    match value {
        Value::String(text) => ModelChoice {
            primary: Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            fallbacks: Vec::new(),
        },
        Value::Object(map) => ModelChoice {
            primary: js::text(map, "primary"),
            fallbacks: map
                .get("fallbacks")
                .and_then(Value::as_array)
                .map_or_else(Vec::new, |list| {
                    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => ModelChoice::default(),
    }
}
