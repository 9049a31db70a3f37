//! What is data in `openclaw.plugin.json`, read into provider definitions (spec.md 14.7).
//!
//! Such a manifest says which providers a plugin has, which variables hold their keys, and how onboarding offers their
//! logins. Where requests go and how a login runs stands in the plugin's program, so the definitions made here have
//! no API of their own (`kind = "none"`: leases only) and no methods but those that take a pasted credential.

mod draft;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;
use tokensink_types::ProviderId;

use crate::check_value::{check_env_name, check_option_name};
use crate::registry::Registry;

/// The file name of such a manifest.
pub const MANIFEST_NAME: &str = "openclaw.plugin.json";

/// Why a manifest cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// It is JSON, but no manifest.
    #[error("it is no plugin manifest: {0}")]
    Shape(&'static str),
}

/// A manifest as far as it is data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The plugin's id.
    pub id: String,
    /// The definitions that follow from it, one for each provider that can be used without a program.
    pub definitions: Vec<Drafted>,
    /// What was taken over, one line each.
    pub taken: Vec<String>,
    /// What was left out and why, one line each.
    pub left: Vec<String>,
}

/// The text of a definition that was made from a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafted {
    /// The provider.
    pub id: ProviderId,
    /// The definition in the user's format.
    pub text: String,
}

/// A way to log in that the manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    method: String,
    /// The onboarding choices that lead to it (spec.md 13.3).
    choices: Vec<WayChoice>,
    kind: WayKind,
}

/// An entry of `providerAuthChoices`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct WayChoice {
    id: String,
    label: Option<String>,
    hint: Option<String>,
    group: Option<String>,
    option: Option<String>,
    deprecated: Vec<String>,
    hidden: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WayKind {
    ApiKey,
    Token,
    Program,
}

/// One provider of the manifest.
#[derive(Debug, Default)]
struct Entry {
    env: Vec<String>,
    aliases: Vec<String>,
    ways: Vec<Way>,
}

/// Reads a manifest. Providers that `registry` has built in are left as they are.
///
/// # Errors
/// [`ManifestError`] for a text that is no manifest; single fields that cannot be used are listed in
/// [`Manifest::left`].
pub fn read(text: &str, registry: &Registry) -> Result<Manifest, ManifestError> {
    let value: Value = serde_json::from_str(text).map_err(|error| ManifestError::Json(error.to_string()))?;
    let root = value
        .as_object()
        .ok_or(ManifestError::Shape("an object is expected"))?;
    let id = text_of(root, "id").ok_or(ManifestError::Shape("it has no id"))?;
    let mut reading = Reading::default();
    reading.read_providers(root);
    reading.read_env(root);
    reading.read_aliases(root);
    reading.read_choices(root);
    reading.read_setup_methods(root);
    reading.name_what_is_code(root);
    Ok(reading.finish(id, registry))
}

#[derive(Debug, Default)]
struct Reading {
    providers: BTreeMap<ProviderId, Entry>,
    taken: Vec<String>,
    left: Vec<String>,
}

impl Reading {
    fn leave(&mut self, what: impl Into<String>) {
        self.left.push(what.into());
    }

    fn provider(&mut self, text: &str) -> Option<ProviderId> {
        match ProviderId::parse(text) {
            Ok(id) => Some(id),
            Err(error) => {
                self.leave(format!("provider {text:?}: {error}"));
                None
            }
        }
    }

    fn read_providers(&mut self, root: &Map<String, Value>) {
        let listed = list(root, "providers").iter().filter_map(Value::as_str);
        let set_up = setup(root).filter_map(|provider| provider.get("id").and_then(Value::as_str));
        for text in listed.chain(set_up) {
            if let Some(id) = self.provider(text) {
                self.providers.entry(id).or_default();
            }
        }
    }

    /// `setup.providers[].envVars`, else the older `providerAuthEnvVars`.
    fn read_env(&mut self, root: &Map<String, Value>) {
        let older = root.get("providerAuthEnvVars").and_then(Value::as_object);
        let older = older
            .into_iter()
            .flatten()
            .map(|(id, names)| (id.as_str(), names));
        let newer = setup(root).filter_map(|provider| {
            Some((
                provider.get("id").and_then(Value::as_str)?,
                provider.get("envVars")?,
            ))
        });
        for (text, names) in newer.chain(older) {
            let Some(id) = self.provider(text) else { continue };
            for name in names.as_array().into_iter().flatten().filter_map(Value::as_str) {
                let name = name.trim();
                match check_env_name(name) {
                    Err(fault) => self.leave(format!("{id}: variable {name:?} {}", fault.message)),
                    Ok(()) => push_new(
                        &mut self.providers.entry(id.clone()).or_default().env,
                        name.to_owned(),
                    ),
                }
            }
        }
    }

    /// `providerAuthAliases`: the credentials of one provider serve for another (spec.md 3.1).
    fn read_aliases(&mut self, root: &Map<String, Value>) {
        let aliases = root.get("providerAuthAliases").and_then(Value::as_object);
        for (from, to) in aliases.into_iter().flatten() {
            let Some(to) = to.as_str().and_then(|to| self.provider(to)) else {
                continue;
            };
            let Some(from) = self.provider(from) else {
                continue;
            };
            match self.providers.get_mut(&to) {
                Some(entry) => push_new(&mut entry.aliases, from.as_str().to_owned()),
                None => self.leave(format!(
                    "alias {from}: add {from:?} to aliases in tokensink/providers/{to}.toml, since {to} is not this \
                     plugin's provider",
                    from = from.as_str()
                )),
            }
        }
    }

    fn read_choices(&mut self, root: &Map<String, Value>) {
        for choice in list(root, "providerAuthChoices")
            .iter()
            .filter_map(Value::as_object)
        {
            let (Some(provider), Some(method), Some(choice_id)) = (
                text_of(choice, "provider"),
                text_of(choice, "method"),
                text_of(choice, "choiceId"),
            ) else {
                self.leave("an entry of providerAuthChoices without provider, method or choiceId");
                continue;
            };
            let Some(id) = self.provider(&provider) else {
                continue;
            };
            let names_key = ["cliFlag", "optionKey"]
                .iter()
                .filter_map(|key| text_of(choice, key))
                .any(|flag| kind_of(&flag) == WayKind::ApiKey);
            let way = Way {
                kind: if names_key {
                    WayKind::ApiKey
                } else {
                    kind_of(&method)
                },
                choices: self.read_choice(choice_id, choice).into_iter().collect(),
                method,
            };
            self.add_way(id, way);
        }
    }

    fn read_choice(&mut self, id: String, choice: &Map<String, Value>) -> Option<WayChoice> {
        if let Err(error) = ProviderId::parse(&id) {
            self.leave(format!("choice {id:?}: {error}"));
            return None;
        }
        let deprecated = list(choice, "deprecatedChoiceIds");
        Some(WayChoice {
            label: text_of(choice, "choiceLabel"),
            hint: text_of(choice, "choiceHint"),
            group: text_of(choice, "groupLabel"),
            option: text_of(choice, "cliFlag").filter(|flag| check_option_name(flag).is_ok()),
            deprecated: deprecated
                .iter()
                .filter_map(|word| Some(word.as_str()?.trim().to_owned()))
                .filter(|word| !word.is_empty())
                .collect(),
            hidden: text_of(choice, "assistantVisibility").as_deref() == Some("manual-only"),
            id,
        })
    }

    fn read_setup_methods(&mut self, root: &Map<String, Value>) {
        for provider in setup(root) {
            let Some(id) = text_of(provider, "id").and_then(|text| self.provider(&text)) else {
                continue;
            };
            for method in list(provider, "authMethods").iter().filter_map(Value::as_str) {
                let way = Way {
                    method: method.to_owned(),
                    choices: Vec::new(),
                    kind: kind_of(method),
                };
                self.add_way(id.clone(), way);
            }
        }
    }

    fn add_way(&mut self, id: ProviderId, way: Way) {
        let ways = &mut self.providers.entry(id).or_default().ways;
        let same = |known: &Way| known.method.eq_ignore_ascii_case(&way.method);
        match ways.iter_mut().find(|known| same(known)) {
            None => ways.push(way),
            Some(known) => {
                if known.kind == WayKind::Program {
                    known.kind = way.kind;
                }
                let new = way.choices.into_iter();
                let unknown: Vec<_> = new.filter(|choice| !known.choices.contains(choice)).collect();
                known.choices.extend(unknown);
            }
        }
    }

    /// Fields that only a program can give a meaning to.
    fn name_what_is_code(&mut self, root: &Map<String, Value>) {
        const CODE: [(&str, &str); 5] = [
            (
                "/contracts/externalAuthProviders",
                "logins of other programs are read by the plugin's program",
            ),
            (
                "/syntheticAuthRefs",
                "credentials that the plugin's program makes up",
            ),
            (
                "/nonSecretAuthMarkers",
                "markers that the plugin's program understands",
            ),
            ("/autoEnableWhenConfiguredProviders", "no part of a login"),
            ("/configSchema", "settings of the plugin's program"),
        ];
        let root = Value::Object(root.clone());
        for (pointer, why) in CODE {
            if root.pointer(pointer).is_some_and(|value| !is_empty(value)) {
                let name = pointer.trim_start_matches('/').replace('/', ".");
                self.leave(format!("{name}: {why}"));
            }
        }
        let evidence = root.pointer("/setup/providers").and_then(Value::as_array);
        if evidence
            .into_iter()
            .flatten()
            .any(|provider| provider.get("authEvidence").is_some_and(|value| !is_empty(value)))
        {
            self.leave("setup.providers[].authEvidence: local files are looked at by the plugin's program");
        }
    }

    fn finish(mut self, plugin: String, registry: &Registry) -> Manifest {
        let mut definitions = Vec::new();
        for (id, entry) in std::mem::take(&mut self.providers) {
            if registry.is_builtin(&id) {
                self.leave(format!("{id}: tokensink has this provider built in"));
                continue;
            }
            if let Some(drafted) = self.draft(&plugin, id, entry, registry) {
                definitions.push(drafted);
            }
        }
        Manifest {
            id: plugin,
            definitions,
            taken: self.taken,
            left: self.left,
        }
    }
}

/// What a method's name says about it; what it does not say is a matter of the program.
fn kind_of(name: &str) -> WayKind {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    match plain.as_str() {
        "token" | "setuptoken" | "pastetoken" => WayKind::Token,
        name if name.ends_with("apikey") || name == "key" => WayKind::ApiKey,
        _ => WayKind::Program,
    }
}

fn setup(root: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    let providers = root.get("setup").and_then(|setup| setup.get("providers"));
    providers
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
}

fn list<'a>(table: &'a Map<String, Value>, key: &str) -> &'a [Value] {
    table
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text_of(table: &Map<String, Value>, key: &str) -> Option<String> {
    let text = table.get(key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(table) => table.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn push_new(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests;
