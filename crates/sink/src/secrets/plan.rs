//! A plan of references to be written: what `secrets configure` makes and `secrets apply` does (spec.md 16.7).
//!
//! Pure: a plan is read, and everything in it that could be wrong by itself is refused before anything is looked at.
//! The shape is OpenClaw's: `{version: 1, protocolVersion?: 1, targets: [{type, path, pathSegments?, providerId?,
//! agentId?, ref}], providerUpserts?: {alias: provider}, providerDeletes?: [alias], options?}`.

use serde_json::{Map, Value};
use tokensink_types::{AgentId, ProfileId, SecretRef};

use super::reference::is_alias;
use crate::error::{ErrorKind, Result, SinkError};

/// The keys of a plan. `generatedAt`, `generatedBy` and `options` say nothing that changes what is done.
const KEYS: [&str; 8] = [
    "version",
    "protocolVersion",
    "targets",
    "providerUpserts",
    "providerDeletes",
    "options",
    "generatedAt",
    "generatedBy",
];

/// A plan that is well formed.
#[derive(Debug, Clone, Default)]
pub struct SecretsPlan {
    pub(super) targets: Vec<Target>,
    /// Provider entries by alias, as they are to stand in the config.
    pub(super) upserts: Map<String, Value>,
    pub(super) deletes: Vec<String>,
}

/// One reference and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) written: SecretRef,
}

/// Where a reference goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A key of `openclaw.json`.
    Config(Vec<String>),
    /// A profile in an agent's `auth-profiles.json`.
    Profile {
        agent: AgentId,
        id: ProfileId,
        field: Field,
    },
}

/// Which kind of static credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Key,
    Token,
}

impl Field {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Token => "token",
        }
    }
}

fn wrong(why: impl Into<String>) -> SinkError {
    SinkError::new(
        ErrorKind::Usage,
        "bad_plan",
        format!("the plan cannot be applied: {}", why.into()),
    )
    .with_fix("correct the plan, or make a new one with `tokensink secrets configure`")
}

impl SecretsPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// A usage error with what is wrong and where.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            wrong(format!(
                "it is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        Self::of(&value)
    }

    /// Reads a plan that was parsed already.
    ///
    /// # Errors
    /// As for [`SecretsPlan::parse`].
    pub fn of(value: &Value) -> Result<Self> {
        let Some(map) = value.as_object() else {
            return Err(wrong("it is no object"));
        };
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(wrong(format!("there is no key {key:?}")));
        }
        if map.get("version").and_then(Value::as_u64) != Some(1) {
            return Err(wrong("\"version\" is not 1"));
        }
        if map
            .get("protocolVersion")
            .is_some_and(|version| version.as_u64() != Some(1))
        {
            return Err(wrong("\"protocolVersion\" is not 1"));
        }
        let list = |key: &str| match map.get(key) {
            None => Ok(&[][..]),
            Some(value) => value
                .as_array()
                .map(Vec::as_slice)
                .ok_or_else(|| wrong(format!("{key:?} is no list"))),
        };
        let targets = list("targets")?
            .iter()
            .enumerate()
            .map(|(index, target)| target_of(target).map_err(|why| wrong(format!("targets[{index}]: {why}"))))
            .collect::<Result<_>>()?;
        let deletes = list("providerDeletes")?
            .iter()
            .map(|alias| alias.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("\"providerDeletes\" is no list of texts"))?;
        Ok(Self {
            targets,
            upserts: upserts_of(map)?,
            deletes,
        })
    }

    /// Nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.upserts.is_empty() && self.deletes.is_empty()
    }
}

fn upserts_of(map: &Map<String, Value>) -> Result<Map<String, Value>> {
    let upserts = match map.get("providerUpserts") {
        None => return Ok(Map::new()),
        Some(value) => value
            .as_object()
            .ok_or_else(|| wrong("\"providerUpserts\" is no object"))?,
    };
    match upserts.keys().find(|alias| !is_alias(alias)) {
        Some(alias) => Err(wrong(format!("providerUpserts: {alias:?} is no provider alias"))),
        None => Ok(upserts.clone()),
    }
}

fn target_of(value: &Value) -> std::result::Result<Target, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::trim);
    let kind = text("type").ok_or("\"type\" is missing")?;
    let path = text("path")
        .filter(|path| !path.is_empty())
        .ok_or("\"path\" is missing")?;
    check_segments(value, path)?;
    let place = match kind {
        "models.providers.apiKey" => config_place(path, "models.providers", text("providerId"))?,
        "skills.entries.apiKey" => config_place(path, "skills.entries", None)?,
        "auth-profiles.api_key.key" => profile_place(path, Field::Key, text("agentId"))?,
        "auth-profiles.token.token" => profile_place(path, Field::Token, text("agentId"))?,
        _ => return Err(format!("there is no type {kind:?}")),
    };
    Ok(Target {
        place,
        written: reference_of(value.get("ref"))?,
    })
}

/// The two spellings of a path must say the same.
fn check_segments(value: &Value, path: &str) -> std::result::Result<(), String> {
    let Some(segments) = value.get("pathSegments") else {
        return Ok(());
    };
    let segments: Option<Vec<&str>> = segments
        .as_array()
        .and_then(|list| list.iter().map(Value::as_str).collect());
    if segments.is_some_and(|segments| segments.join(".") == path) {
        Ok(())
    } else {
        Err(format!(
            "\"pathSegments\" does not say the same as \"path\" {path}"
        ))
    }
}

/// What stands between `prefix.` and `.suffix` in a path.
fn between<'a>(path: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    let forbidden = ["", "__proto__", "prototype", "constructor"];
    path.strip_prefix(prefix)?
        .strip_prefix('.')?
        .strip_suffix(suffix)?
        .strip_suffix('.')
        .filter(|name| !forbidden.contains(name))
}

fn config_place(path: &str, prefix: &str, id: Option<&str>) -> std::result::Result<Place, String> {
    let name = between(path, prefix, "apiKey")
        .ok_or_else(|| format!("the path {path} is not {prefix}.<id>.apiKey"))?;
    if id.is_some_and(|id| id != name) {
        return Err(format!("\"providerId\" is not the provider of the path {path}"));
    }
    let mut keys: Vec<String> = prefix.split('.').map(str::to_owned).collect();
    keys.extend([name.to_owned(), "apiKey".to_owned()]);
    Ok(Place::Config(keys))
}

fn profile_place(path: &str, field: Field, agent: Option<&str>) -> std::result::Result<Place, String> {
    let name = between(path, "profiles", field.as_str())
        .ok_or_else(|| format!("the path {path} is not profiles.<id>.{}", field.as_str()))?;
    let agent = agent
        .filter(|agent| !agent.is_empty())
        .ok_or("\"agentId\" is missing; it says whose auth-profiles.json is meant")?;
    Ok(Place::Profile {
        agent: AgentId::normalise(agent),
        id: ProfileId::parse(name).map_err(|_| format!("{name:?} is no profile id"))?,
        field,
    })
}

fn reference_of(value: Option<&Value>) -> std::result::Result<SecretRef, String> {
    let text = |key: &str| {
        let text = value.and_then(|value| value.get(key)).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    match (text("source"), text("id")) {
        (Some(source), Some(id)) => Ok(SecretRef {
            source,
            provider: text("provider"),
            id,
        }),
        _ => Err("\"ref\" is no {source, provider, id}".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn plan(target: &Value) -> Value {
        json!({"version": 1, "protocolVersion": 1, "targets": [target]})
    }

    fn target(kind: &str, path: &str) -> Value {
        json!({"type": kind, "path": path, "agentId": "main", "ref": {"source": "env", "provider": "default", "id": "A"}})
    }

    #[test]
    fn places_by_type() {
        let cases = [
            (
                target("models.providers.apiKey", "models.providers.openai.apiKey"),
                "Config([\"models\", \"providers\", \"openai\", \"apiKey\"])",
            ),
            (
                target("auth-profiles.api_key.key", "profiles.openai:default.key"),
                "openai:default",
            ),
            (
                target("auth-profiles.token.token", "profiles.a:b.c@d.token"),
                "a:b.c@d",
            ),
        ];
        for (target, want) in cases {
            let plan = SecretsPlan::of(&plan(&target)).unwrap();
            let place = format!("{:?}", plan.targets[0].place);
            assert!(place.contains(want), "{place}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let edit = |key: &str, value: Value| {
            let mut target = target("models.providers.apiKey", "models.providers.openai.apiKey");
            target[key] = value;
            plan(&target)
        };
        let cases = [
            (json!([]), "no object"),
            (json!({"version": 2}), "\"version\" is not 1"),
            (json!({"version": 1, "target": []}), "no key \"target\""),
            (
                json!({"version": 1, "providerUpserts": {"Bad": {}}}),
                "\"Bad\" is no provider alias",
            ),
            (json!({"version": 1, "providerDeletes": [1]}), "no list of texts"),
            (edit("type", json!("x")), "targets[0]: there is no type"),
            (
                edit("path", json!("models.providers.openai.baseUrl")),
                "is not models.providers.<id>.apiKey",
            ),
            (
                edit("path", json!("models.providers.__proto__.apiKey")),
                "is not models.providers.<id>.apiKey",
            ),
            (edit("pathSegments", json!(["models"])), "does not say the same"),
            (edit("providerId", json!("other")), "\"providerId\""),
            (edit("ref", json!({"source": "env"})), "\"ref\""),
            (
                plan(&json!({"type": "auth-profiles.api_key.key", "path": "profiles.a:b.key"})),
                "\"agentId\" is missing",
            ),
        ];
        for (value, want) in cases {
            let error = SecretsPlan::of(&value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(want), "{error} lacks {want}");
        }
        assert!(
            SecretsPlan::parse("{")
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_plan_or_refused(text in "\\PC{0,60}") {
            let _ = SecretsPlan::parse(&text);
        }
    }
}
