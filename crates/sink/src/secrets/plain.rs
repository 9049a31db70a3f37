//! Plain secrets that stand in files: going through them, and choosing which become references.

use std::path::Path;

use serde_json::{Value, json};
use tokensink_store::wipe_json;
use tokensink_types::{AgentId, CredentialKind, SecretText, wipe};

use super::config::Provider;
use super::reference::{self, Source};
use super::{places, static_source};
use crate::error::Result;
use crate::sink::Sink;

/// Is told the file, the keys that lead to a plain secret, and the secret.
type Visitor<'a> = dyn FnMut(&Path, &[String], &str) + 'a;

/// A plain secret that can become a reference.
#[derive(Debug, Clone)]
pub struct SecretCandidate {
    /// What it is, for people: never the secret.
    pub label: String,
    /// The target of a plan (`type`, `path`, `agentId` or `providerId`), still without `ref`.
    pub target: Value,
}

/// A secret provider as it is configured.
#[derive(Debug, Clone)]
pub struct SecretProviderInfo {
    /// Its alias.
    pub alias: String,
    /// `env`, `file` or `exec`; `None` when its entry is wrong.
    pub source: Option<&'static str>,
    /// What is wrong with its entry.
    pub problem: Option<String>,
    /// A file that is one secret: its only id is `value`.
    pub single_value: bool,
}

impl Sink {
    /// The static secrets that stand as plain text where a reference could stand: those of one agent's profiles, or of
    /// all agents' and of `models.providers` in the config.
    ///
    /// # Errors
    /// When the config or a store cannot be read.
    pub fn secret_candidates(&self, agent: Option<&AgentId>) -> Result<Vec<SecretCandidate>> {
        let agents = match agent {
            Some(agent) => vec![agent.clone()],
            None => self.store().agents()?,
        };
        let mut found = Vec::new();
        for agent in &agents {
            for entry in self.store().load(agent)?.profiles.entries() {
                let source = static_source(&entry.credential);
                if !source.is_some_and(|source| matches!(source.inline, Some(SecretText::Plain(_)))) {
                    continue;
                }
                let (kind, field) = match entry.credential.kind() {
                    CredentialKind::Token => ("auth-profiles.token.token", "token"),
                    CredentialKind::ApiKey | CredentialKind::OAuth => ("auth-profiles.api_key.key", "key"),
                };
                found.push(SecretCandidate {
                    label: format!("{} of agent {agent} ({})", entry.id, entry.credential.kind().as_str()),
                    target: json!({
                        "type": kind, "path": format!("profiles.{}.{field}", entry.id), "agentId": agent.as_str(),
                    }),
                });
            }
        }
        if agent.is_none() {
            found.extend(self.config_candidates()?);
        }
        Ok(found)
    }

    fn config_candidates(&self) -> Result<Vec<SecretCandidate>> {
        let config = self.config()?;
        let Some(providers) = config.at(&["models", "providers"]).and_then(Value::as_object) else {
            return Ok(Vec::new());
        };
        let plain = providers.iter().filter(|(_, entry)| {
            let key = entry.get("apiKey").and_then(Value::as_str);
            key.is_some_and(places::is_plain)
        });
        Ok(plain
            .map(|(provider, _)| SecretCandidate {
                label: format!("models.providers.{provider}.apiKey in openclaw.json"),
                target: json!({
                    "type": "models.providers.apiKey", "path": format!("models.providers.{provider}.apiKey"),
                    "providerId": provider,
                }),
            })
            .collect())
    }

    /// The configured secret providers, in alphabetical order.
    ///
    /// # Errors
    /// When the config cannot be read.
    pub fn secret_providers(&self) -> Result<Vec<SecretProviderInfo>> {
        let config = self.secrets_config()?;
        Ok(config
            .providers()
            .map(|(alias, provider)| SecretProviderInfo {
                alias: alias.to_owned(),
                source: provider.as_ref().ok().map(|provider| provider.source().as_str()),
                problem: provider
                    .as_ref()
                    .err()
                    .map(|problem| format!("{}: {}", problem.key, problem.why)),
                single_value: matches!(provider, Ok(Provider::File(file)) if file.single),
            })
            .collect())
    }

    /// Is this text an id of the source (spec.md 16.2)? `None` when it is; else what is wrong with it.
    #[must_use]
    pub fn secret_id_problem(&self, source: &str, id: &str) -> Option<String> {
        match Source::parse(source) {
            Some(source) => reference::check_id(source, id).err(),
            None => Some(format!("there is no source {source:?}")),
        }
    }

    /// Shows `visit` every plain secret in the files that an audit looks at. What cannot be read is passed over.
    pub(super) fn each_plain(&self, visit: &mut Visitor<'_>) {
        if let Ok(config) = self.config() {
            each_in(self.config_path(), config.raw(), false, visit);
        }
        for agent in self.store().agents().unwrap_or_default() {
            self.each_profile(&agent, visit);
            let models = self.paths().agent_dir(&agent).join("models.json");
            self.each_in_file(&models, true, visit);
            self.each_legacy(&self.paths().legacy_auth_file(&agent), visit);
        }
        let env = self.paths().env_file();
        if let Ok(mut bytes) = self.host().files.read(&env) {
            for (_, name, value) in places::variables(&String::from_utf8_lossy(&bytes)) {
                visit(&env, &[name.to_owned()], value);
            }
            wipe(&mut bytes);
        }
    }

    fn each_profile(&self, agent: &AgentId, visit: &mut Visitor<'_>) {
        let Ok(store) = self.store().load(agent) else {
            return;
        };
        let file = self.paths().profiles_file(agent);
        for entry in store.profiles.entries() {
            let inline = static_source(&entry.credential).and_then(|source| source.inline.as_ref());
            let field = match entry.credential.kind() {
                CredentialKind::Token => "token",
                CredentialKind::ApiKey | CredentialKind::OAuth => "key",
            };
            if let Some(SecretText::Plain(secret)) = inline {
                let path = ["profiles".to_owned(), entry.id.to_string(), field.to_owned()];
                visit(&file, &path, secret.expose());
            }
        }
    }

    fn json_of(&self, file: &Path) -> Option<Value> {
        let mut bytes = self.host().files.read(file).ok()?;
        let value = serde_json::from_slice(&bytes).ok();
        wipe(&mut bytes);
        value
    }

    fn each_in_file(&self, file: &Path, markers: bool, visit: &mut Visitor<'_>) {
        if let Some(mut value) = self.json_of(file) {
            each_in(file, &value, markers, visit);
            wipe_json(&mut value);
        }
    }

    /// A legacy file names its secrets `key` and `token`.
    fn each_legacy(&self, file: &Path, visit: &mut Visitor<'_>) {
        let Some(mut value) = self.json_of(file) else {
            return;
        };
        for (provider, entry) in value.as_object().into_iter().flatten() {
            for field in ["key", "apiKey", "token"] {
                if let Some(text) = entry.get(field).and_then(Value::as_str) {
                    visit(file, &[provider.clone(), field.to_owned()], text);
                }
            }
        }
        wipe_json(&mut value);
    }
}

fn each_in(file: &Path, value: &Value, markers: bool, visit: &mut Visitor<'_>) {
    for path in places::of(value, markers).plain {
        if let Some(Value::String(text)) = places::at(value, &path) {
            visit(file, &path, text);
        }
    }
}
