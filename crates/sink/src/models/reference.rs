//! From what a user writes for a model to `provider/model`.

use std::collections::BTreeSet;

use tokensink_providers::Definition;
use tokensink_store::Config;
use tokensink_types::ProviderId;

use super::key_of;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

impl Sink {
    /// The key that `text` stands for: an alias of the config, `provider/model` with the provider's id or alias and
    /// the model's id or short name, a short name alone, or the id of a model that one provider alone has.
    ///
    /// # Errors
    /// A usage error that says what is not known and how to look it up.
    pub(crate) fn model_key(&self, config: &Config, text: &str) -> Result<String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(usage(
                "no_model",
                "a model is needed, as <provider>/<model> or an alias".to_owned(),
            ));
        }
        if let Some(key) = alias_of(config, text) {
            return if key.contains('/') {
                self.full_key(config, &key)
            } else {
                Ok(key)
            };
        }
        if text.contains('/') {
            return self.full_key(config, text);
        }
        if let Some((provider, model)) = self.registry().model_alias(text) {
            return Ok(key_of(provider, model));
        }
        self.bare_model(config, text)
    }

    /// The same for showing: what cannot be resolved stays as it is.
    pub(super) fn model_key_or_text(&self, config: &Config, text: &str) -> String {
        self.model_key(config, text)
            .unwrap_or_else(|_| text.trim().to_owned())
    }

    fn full_key(&self, config: &Config, text: &str) -> Result<String> {
        let (provider, model) = text.split_once('/').unwrap_or((text, ""));
        let model = model.trim();
        if model.is_empty() || model.contains(char::is_whitespace) {
            return Err(usage(
                "no_model",
                format!("{text:?} names no model; write <provider>/<model>"),
            ));
        }
        let id = self.model_provider(config, provider)?;
        let definition = self.registry().get(&id);
        let long = definition
            .and_then(|definition| short_name(definition, model))
            .unwrap_or(model);
        Ok(key_of(&id, long))
    }

    /// The providers that name this model, in their definitions or in the config.
    pub(super) fn providers_with(&self, config: &Config, model: &str) -> BTreeSet<ProviderId> {
        let has_it = |definition: &&Definition| {
            let apis = definition.methods.iter().map(|method| &method.api);
            let mut all = std::iter::once(&definition.api).chain(apis);
            all.any(|api| api.models.iter().any(|known| known == model))
        };
        let defined = self.registry().all().filter(has_it);
        let mut found: BTreeSet<ProviderId> = defined.map(|definition| definition.id.clone()).collect();
        let own = self.own_models(config).into_iter();
        found.extend(own.filter(|(_, own)| *own == model).map(|(provider, _)| provider));
        found
    }

    fn bare_model(&self, config: &Config, text: &str) -> Result<String> {
        let providers = self.providers_with(config, text).into_iter();
        let found: Vec<String> = providers.map(|provider| key_of(&provider, text)).collect();
        match found.as_slice() {
            [key] => Ok(key.clone()),
            [] => Err(usage(
                "unknown_model",
                format!("there is no model or alias {text:?}; write <provider>/<model>"),
            )),
            several => Err(usage(
                "unknown_model",
                format!("{text:?} may be {}; write which", several.join(" or ")),
            )),
        }
    }
}

pub(super) fn short_name<'a>(definition: &'a Definition, model: &str) -> Option<&'a str> {
    let aliases = &definition.api.aliases;
    aliases
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(model))
        .map(|(_, long)| long.as_str())
}

/// The key of the model that has this alias in the config, in any case.
pub(super) fn alias_of(config: &Config, text: &str) -> Option<String> {
    let models = config.models().into_iter();
    models
        .filter(|entry| {
            entry
                .alias
                .as_ref()
                .is_some_and(|alias| alias.trim().eq_ignore_ascii_case(text))
        })
        .map(|entry| entry.key)
        .next()
}

fn usage(code: &'static str, message: String) -> SinkError {
    SinkError::new(ErrorKind::Usage, code, message).with_fix("tokensink models list --all")
}
