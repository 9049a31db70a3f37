//! Which models an agent uses (spec.md 12.2), and the list of those that are known.
//!
//! A model is named `provider/model`, by an alias of the config, by a short name of a provider (`opus`), or bare where
//! one provider alone serves it ([`reference`]). Reading is lenient: what cannot be resolved is shown as it is
//! written. Changes are strict ([`edit`]). Nothing here asks a provider what it serves.

mod chain;
mod edit;
mod reference;
mod target;
#[cfg(test)]
mod tests;

use serde_json::Value;
use tokensink_store::{Config, ModelKind};
use tokensink_types::{AgentId, ProviderId};

use crate::acquire::unknown_provider;
use crate::error::Result;
use crate::report::{ModelInfo, ModelsView, ProfileState};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

pub use target::ModelTarget;

/// What counts as the default model where none is configured: the short name `opus` of the built-in provider
/// `anthropic`, or this where that has been taken away.
const FALLBACK_DEFAULT: &str = "anthropic/claude-opus-4-6";

impl Sink {
    /// The models that `agent` uses. `default` is as written, everything else as `provider/model` where it can be
    /// resolved. Without a configured default, `resolved_default` is what the short name `opus` of the provider
    /// `anthropic` stands for.
    ///
    /// # Errors
    /// When the config cannot be read.
    pub fn models_view(&self, agent: &AgentId) -> Result<ModelsView> {
        let config = self.config()?;
        let resolve = |text: &String| self.model_key_or_text(&config, text);
        let resolve_all = |texts: &[String]| texts.iter().map(resolve).collect::<Vec<_>>();
        let own = config
            .agents()
            .into_iter()
            .find(|entry| entry.id == *agent)
            .and_then(|entry| entry.model.primary);
        let shared = config.default_model(ModelKind::Text);
        let default_source = if own.is_some() { "agent" } else { "defaults" };
        let default = own.or(shared.primary);
        let own = own_fallbacks(&config, agent);
        let fallbacks_source = if own.is_some() { "agent" } else { "defaults" };
        let fallbacks = own.unwrap_or(shared.fallbacks);
        let image = config.default_model(ModelKind::Image);
        let models = config.models();
        let aliased = |entry: &tokensink_store::ModelEntry| Some((entry.alias.clone()?, resolve(&entry.key)));
        Ok(ModelsView {
            resolved_default: default.as_ref().map_or_else(|| self.fallback_default(), resolve),
            default,
            default_source,
            fallbacks_source,
            fallbacks: resolve_all(&fallbacks),
            image: image.primary.as_ref().map(resolve),
            image_fallbacks: resolve_all(&image.fallbacks),
            aliases: models.iter().filter_map(aliased).collect(),
            allowed: models.iter().map(|entry| resolve(&entry.key)).collect(),
        })
    }

    fn fallback_default(&self) -> String {
        let anthropic = self.registry().resolve("anthropic").ok();
        let opus = anthropic.and_then(|definition| {
            let (_, model) = definition.api.aliases.iter().find(|(name, _)| name == "opus")?;
            Some(key_of(&definition.id, model))
        });
        opus.unwrap_or_else(|| FALLBACK_DEFAULT.to_owned())
    }

    /// The models that `agent` uses or, with `all`, every model that is known as well; with `provider` (an id or an
    /// alias) only that provider's. The default comes first, then the fallbacks, the image models, the configured
    /// ones, and the catalogue by provider.
    ///
    /// # Errors
    /// A usage error for an unknown provider; otherwise when the agent's store or the config cannot be read.
    pub fn models_list(&self, agent: &AgentId, provider: Option<&str>, all: bool) -> Result<Vec<ModelInfo>> {
        let snapshot = self.snapshot(agent)?;
        let config = self.config()?;
        let wanted = provider
            .map(|text| self.model_provider(&config, text))
            .transpose()?;
        let mut list = Listed::default();
        self.list_used(&self.models_view(agent)?, &mut list);
        if all {
            self.list_known(&config, &mut list);
        }
        let mut usable: Vec<(ProviderId, bool)> = Vec::new();
        let mut models = Vec::with_capacity(list.0.len());
        for (key, tags) in list.0 {
            let Some((provider, name)) = self.split_key(&key) else {
                continue;
            };
            if wanted.as_ref().is_some_and(|wanted| *wanted != provider) {
                continue;
            }
            let known = usable
                .iter()
                .find(|(known, _)| *known == provider)
                .map(|(_, usable)| *usable);
            let available = known.unwrap_or_else(|| {
                let found = self.has_usable_profile(&snapshot, &provider);
                usable.push((provider.clone(), found));
                found
            });
            models.push(ModelInfo {
                name: name.to_owned(),
                provider,
                available,
                tags,
                key,
            });
        }
        Ok(models)
    }

    fn list_used(&self, view: &ModelsView, list: &mut Listed) {
        list.add(&view.resolved_default, Some("default".to_owned()));
        for (number, key) in view.fallbacks.iter().enumerate() {
            list.add(key, Some(format!("fallback#{}", number + 1)));
        }
        if let Some(key) = &view.image {
            list.add(key, Some("image".to_owned()));
        }
        for (number, key) in view.image_fallbacks.iter().enumerate() {
            list.add(key, Some(format!("image-fallback#{}", number + 1)));
        }
        for key in &view.allowed {
            list.add(key, Some("configured".to_owned()));
        }
        for (alias, key) in &view.aliases {
            list.add(key, Some(format!("alias:{alias}")));
        }
    }

    fn list_known(&self, config: &Config, list: &mut Listed) {
        for definition in self.registry().all() {
            let apis = definition.methods.iter().map(|method| &method.api);
            for model in std::iter::once(&definition.api)
                .chain(apis)
                .flat_map(|api| &api.models)
            {
                list.add(&key_of(&definition.id, model), None);
            }
        }
        for (provider, model) in self.own_models(config) {
            list.add(&key_of(&provider, model), Some("configured".to_owned()));
        }
    }

    /// The models that the config itself gives to providers, with those.
    fn own_models<'a>(&self, config: &'a Config) -> Vec<(ProviderId, &'a str)> {
        let providers = config.at(&["models", "providers"]).and_then(Value::as_object);
        let mut found = Vec::new();
        for (provider, entry) in providers.into_iter().flatten() {
            let Ok(provider) = ProviderId::parse(provider) else {
                continue;
            };
            let models = entry.get("models").and_then(Value::as_array);
            let ids = models
                .into_iter()
                .flatten()
                .filter_map(|model| model.get("id")?.as_str());
            found.extend(ids.map(|id| (self.registry().canonical(&provider), id)));
        }
        found
    }

    /// The canonical provider and the model of a key; `None` for a text that names none.
    pub(crate) fn split_key<'a>(&self, key: &'a str) -> Option<(ProviderId, &'a str)> {
        let (provider, model) = key.split_once('/')?;
        Some((
            self.registry().canonical(&ProviderId::parse(provider).ok()?),
            model,
        ))
    }

    fn has_usable_profile(&self, snapshot: &AgentSnapshot, provider: &ProviderId) -> bool {
        snapshot.view.profiles.iter().any(|profile| {
            let own = profile.entry.credential.provider();
            snapshot.config.aliases.same(own, provider)
                && self.profile_state(snapshot, profile).is_ok_and(|state| {
                    use ProfileState::{Expiring, Refreshable, Refreshing, Usable};
                    matches!(state, Usable | Expiring | Refreshable | Refreshing { .. })
                })
        })
    }

    /// A provider that is defined, or that the config describes itself.
    fn model_provider(&self, config: &Config, text: &str) -> Result<ProviderId> {
        match self.registry().resolve(text) {
            Ok(definition) => Ok(definition.id.clone()),
            Err(unknown) => ProviderId::parse(text)
                .ok()
                .filter(|id| config.providers().iter().any(|provider| provider.id == *id))
                .ok_or_else(|| unknown_provider(&unknown)),
        }
    }
}

/// `provider/model`, and the model alone where its name begins with its provider's already (`openrouter/auto`).
pub(crate) fn key_of(provider: &ProviderId, model: &str) -> String {
    let own = model.strip_prefix(provider.as_str());
    if own.is_some_and(|rest| rest.starts_with('/')) {
        return model.to_owned();
    }
    format!("{provider}/{model}")
}

/// Keys with their tags, in the order in which they were first named.
#[derive(Default)]
struct Listed(Vec<(String, Vec<String>)>);

impl Listed {
    fn add(&mut self, key: &str, tag: Option<String>) {
        let index = self
            .0
            .iter()
            .position(|(known, _)| known == key)
            .unwrap_or_else(|| {
                self.0.push((key.to_owned(), Vec::new()));
                self.0.len() - 1
            });
        let tags = &mut self.0[index].1;
        tags.extend(tag.filter(|tag| !tags.contains(tag)));
    }
}

/// The agent's own fallbacks. An empty list of its own means none; without a list the shared ones count.
fn own_fallbacks(config: &Config, agent: &AgentId) -> Option<Vec<String>> {
    let list = config.at(&["agents", "list"])?.as_array()?;
    let model = list.iter().find(|entry| is_agent(entry, agent))?.get("model")?;
    edit::fallbacks_of(model)
}

fn is_agent(entry: &Value, agent: &AgentId) -> bool {
    let id = entry.get("id").and_then(Value::as_str);
    id.is_some_and(|id| AgentId::normalise(id) == *agent)
}
