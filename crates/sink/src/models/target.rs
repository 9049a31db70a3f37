//! From what a user or client writes for a model to who serves it: provider, model and, behind an `@`, the profile.

use std::collections::BTreeSet;

use tokensink_policy::directive::ModelRef;
use tokensink_store::Config;
use tokensink_types::{AgentId, ProfileId, ProviderId};

use super::key_of;
use crate::block::agent_option;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// A model that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelTarget {
    /// Its provider, canonical.
    pub provider: ProviderId,
    /// The provider's name for it; for a model that is not in the catalogue the text as it was given.
    pub model: String,
    /// The profile that is to serve it; it exists, belongs to the provider and is one of the agent's.
    pub profile: Option<ProfileId>,
    /// The short name that was written instead of the model, as it was written.
    pub alias_of: Option<String>,
}

impl ModelTarget {
    /// `provider/model`.
    #[must_use]
    pub fn key(&self) -> String {
        key_of(&self.provider, &self.model)
    }
}

impl Sink {
    /// Resolves what a user or a client writes for a model: an alias of the config, `provider/model` (the provider by
    /// id or alias, the model by id or short name), a short name of a provider (`Opus`), or a bare model that the
    /// catalogue or the config names, also with a date behind it (`claude-haiku-4-5-20251001`). `@<profile>` may
    /// follow (spec.md 17.2); aliases count in any case. Of several providers with a bare model the profile's counts,
    /// else the only one that the agent has a profile of, else the default model's. A model that a known provider is
    /// not known to have is passed on as it is.
    ///
    /// # Errors
    /// A usage error, with the code `no_model`, `unknown_model`, `unknown_provider`, `profile_not_found` or
    /// `profile_mismatch` (the last two with the sentences of spec.md 17.3); otherwise when the config or the agent's
    /// store cannot be read.
    pub fn resolve_model(&self, agent: &AgentId, text: &str) -> Result<ModelTarget> {
        let snapshot = self.snapshot(agent)?;
        if let Some(known) = snapshot.kept.target(text) {
            return Ok(known);
        }
        let target = self.resolve_on(&snapshot, agent, text)?;
        snapshot.kept.keep_target(text, &target);
        Ok(target)
    }

    fn resolve_on(&self, snapshot: &AgentSnapshot, agent: &AgentId, text: &str) -> Result<ModelTarget> {
        let config = self.config()?;
        let wanted = ModelRef::parse(text);
        let profile = wanted.profile.as_deref();
        let profile = profile.map(|id| self.named_profile(snapshot, id)).transpose()?;
        let hint = profile.as_ref().map(|(_, provider)| provider);
        let key = match self.model_key(&config, &wanted.model) {
            Err(error) if error.code() == "unknown_model" => {
                self.bare_for(&config, (snapshot, agent), &wanted.model, hint, error)?
            }
            other => other?,
        };
        let (provider, model) = match self.split_key(&key) {
            Some((provider, model)) => {
                let model = self.model_name(&provider, model);
                (provider, model)
            }
            // An alias of the config may stand for a bare model.
            None => {
                let again = self.model_key(&config, &key)?;
                let (provider, model) = again.split_once('/').unwrap_or((&again, ""));
                {
                    let provider = self.model_provider(&config, provider)?;
                    let model = self.model_name(&provider, model);
                    (provider, model)
                }
            }
        };
        if let Some((id, own)) = &profile
            && !snapshot.config.aliases.same(own, &provider)
        {
            let message = format!("Auth profile \"{id}\" is for {own}, not {provider}.");
            return Err(SinkError::new(ErrorKind::Usage, "profile_mismatch", message)
                .with_fix(format!(
                    "tokensink models auth list --provider {provider}{}",
                    agent_option(agent)
                ))
                .about(id));
        }
        Ok(ModelTarget {
            alias_of: self.alias_in(&config, &wanted.model),
            profile: profile.map(|(id, _)| id),
            provider,
            model,
        })
    }

    /// The provider's own name of a model that stands behind its id. Where the catalogue has names that begin with the
    /// provider (`openrouter/auto`), a name without a slash is one of those.
    pub(crate) fn model_name(&self, provider: &ProviderId, model: &str) -> String {
        let definition = self.registry().get(provider);
        let known = definition.map_or(&[][..], |definition| &definition.api.models);
        let begins = |known: &String| key_of(provider, known) == *known;
        if !model.contains('/') && !known.iter().any(|one| one == model) && known.iter().any(begins) {
            return format!("{provider}/{model}");
        }
        model.to_owned()
    }

    /// A profile that the agent sees, and its provider.
    fn named_profile(&self, snapshot: &AgentSnapshot, text: &str) -> Result<(ProfileId, ProviderId)> {
        let id = ProfileId::parse(text).ok();
        let found = id.as_ref().and_then(|id| snapshot.profile(id));
        found
            .map(|profile| {
                let provider = profile.entry.credential.provider();
                (profile.entry.id.clone(), self.registry().canonical(provider))
            })
            .ok_or_else(|| {
                let agent = &snapshot.state.agent;
                let message = format!("Auth profile \"{text}\" not found.");
                SinkError::new(ErrorKind::Usage, "profile_not_found", message)
                    .with_fix(format!("tokensink models auth list{}", agent_option(agent)))
            })
    }

    /// A bare model that none, or several, have in their catalogues.
    fn bare_for(
        &self,
        config: &Config,
        (snapshot, agent): (&AgentSnapshot, &AgentId),
        text: &str,
        hint: Option<&ProviderId>,
        error: SinkError,
    ) -> Result<String> {
        let text = text.trim();
        let mut those = self.providers_with(config, text);
        if those.is_empty() {
            those = undated(text).map_or_else(BTreeSet::new, |known| self.providers_with(config, known));
        }
        let same = |one: &ProviderId, other: &ProviderId| snapshot.config.aliases.same(one, other);
        let key = |provider: &ProviderId| Ok(key_of(provider, text));
        if let Some(provider) = hint.and_then(|hint| those.iter().find(|one| same(one, hint))) {
            return key(provider);
        }
        if let [only] = those.iter().collect::<Vec<_>>().as_slice() {
            return key(only);
        }
        let has_profile = |provider: &&ProviderId| {
            let mut profiles = snapshot.view.profiles.iter();
            profiles.any(|profile| same(profile.entry.credential.provider(), provider))
        };
        let served: Vec<&ProviderId> = those.iter().filter(has_profile).collect();
        if let [only] = served.as_slice() {
            return key(only);
        }
        let default = self.models_view(agent)?.resolved_default;
        let default = self.split_key(&default).map(|(provider, _)| provider);
        match default.and_then(|default| those.iter().find(|one| same(one, &default))) {
            Some(provider) => key(provider),
            None => Err(error),
        }
    }

    /// The short name that `text` is: of the config, of a provider, or behind a provider's id.
    fn alias_in(&self, config: &Config, text: &str) -> Option<String> {
        let text = text.trim();
        if super::reference::alias_of(config, text).is_some() {
            return Some(text.to_owned());
        }
        match text.split_once('/') {
            None => self.registry().model_alias(text)?,
            Some((provider, model)) => {
                let definition = self.registry().resolve(provider).ok()?;
                super::reference::short_name(definition, model.trim())?;
                return Some(text.to_owned());
            }
        };
        Some(text.to_owned())
    }
}

/// A model's name without the date behind it: `-20251001` (Anthropic) or `-2024-08-06` (OpenAI).
fn undated(text: &str) -> Option<&str> {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let (rest, last) = text.rsplit_once('-')?;
    if digits(last, 8) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-').filter(|_| digits(last, 2))?;
    let (rest, year) = rest.rsplit_once('-').filter(|_| digits(month, 2))?;
    digits(year, 4).then_some(rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::world::{World, agent, key, oauth};

    const CONFIG: &str = r#"{ agents: { defaults: {
        model: 'anthropic/claude-opus-4-6',
        models: { 'r1g/rig-large': { alias: 'Best' }, 'claude-haiku-4-5': { alias: 'quick' } } } },
      models: { providers: { house: { baseUrl: 'http://127.0.0.1:1/v1', models: [{ id: 'h1' }] } } } }"#;

    fn world() -> World {
        let world = World::new();
        world.put("openclaw.json", CONFIG);
        let profiles =
            json!({"anthropic:work": key("anthropic"), "rig:a@b.c": oauth("rig", "a"), "bare": key("r1g")});
        world.store("main", &profiles);
        world
    }

    #[test]
    fn models_with_profiles() {
        let sink = world().sink();
        let cases = [
            (
                "Opus@anthropic:work",
                "anthropic/claude-opus-4-6",
                Some("anthropic:work"),
                Some("Opus"),
            ),
            ("BEST", "rig/rig-large", None, Some("BEST")),
            ("best@bare", "rig/rig-large", Some("bare"), Some("best")),
            ("quick", "anthropic/claude-haiku-4-5", None, Some("quick")),
            (
                "R1G/tiny@rig:a@b.c",
                "rig/rig-small",
                Some("rig:a@b.c"),
                Some("R1G/tiny"),
            ),
            ("rig/unheard@20250101", "rig/unheard@20250101", None, None),
            // Both rig and mute have it; only of rig there is a profile.
            ("rig-small", "rig/rig-small", None, None),
            ("rig-small@bare", "rig/rig-small", Some("bare"), None),
            ("h1", "house/h1", None, None),
            (
                "claude-haiku-4-5-20251001",
                "anthropic/claude-haiku-4-5-20251001",
                None,
                None,
            ),
            ("openrouter/anthropic/x", "openrouter/anthropic/x", None, None),
            ("openrouter/auto", "openrouter/auto", None, None),
            ("openrouter/openrouter/auto", "openrouter/auto", None, None),
        ];
        for (text, wanted, profile, alias) in cases {
            let target = sink.resolve_model(&agent("main"), text).unwrap();
            let found = (
                target.key(),
                target.profile.as_ref().map(ProfileId::as_str),
                target.alias_of.as_deref(),
            );
            assert_eq!(found, (wanted.to_owned(), profile, alias), "{text}");
        }
        let auto = sink.resolve_model(&agent("main"), "openrouter/auto").unwrap();
        assert_eq!(
            (auto.provider.as_str(), auto.model.as_str()),
            ("openrouter", "openrouter/auto")
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let sink = world().sink();
        let cases = [
            (
                "opus@anthropic:none",
                "profile_not_found",
                "Auth profile \"anthropic:none\" not found.",
            ),
            (
                "opus@bare",
                "profile_mismatch",
                "Auth profile \"bare\" is for rig, not anthropic.",
            ),
            ("unheard-of", "unknown_model", "unheard-of"),
            ("unheard-20250101@bare", "unknown_model", "unheard-20250101"),
            ("antropic/x", "unknown_provider", "did you mean anthropic"),
            ("", "no_model", "a model is needed"),
            ("rig/", "no_model", "names no model"),
        ];
        for (text, code, words) in cases {
            let error = sink.resolve_model(&agent("main"), text).unwrap_err();
            assert_eq!(
                (error.kind(), error.code()),
                (ErrorKind::Usage, code),
                "{text:?}: {error}"
            );
            assert!(error.to_string().contains(words), "{text:?}: {error}");
            assert!(
                error.fix().is_some_and(|fix| fix.starts_with("tokensink ")),
                "{text:?}"
            );
        }
        // Another agent that inherits nothing does not even learn that the profile exists.
        let world = world();
        world.put("tokensink/config.toml", "[agents.other]\ninherit = false\n");
        let error = world
            .sink()
            .resolve_model(&agent("other"), "opus@anthropic:work")
            .unwrap_err();
        assert_eq!(error.code(), "profile_not_found");
        assert!(
            error.fix().is_some_and(|fix| fix.ends_with("--agent other")),
            "{:?}",
            error.fix()
        );
    }

    #[test]
    fn dates() {
        let cases = [
            ("claude-x-20251001", Some("claude-x")),
            ("gpt-4o-2024-08-06", Some("gpt-4o")),
            ("gpt-4o", None),
            ("gpt-4o-08-06", None),
            ("20251001", None),
        ];
        for (text, want) in cases {
            assert_eq!(undated(text), want, "{text}");
        }
    }
}
