//! Names, looked up in the sink.

use tokensink_sink::providers::ApiKind;
use tokensink_sink::{AgentId, ProfileId, ProviderId, Sink, SinkError};

use crate::request::models::Offered;
use crate::request::plan::{self, Provider, Target};

/// The names that the sink knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory<'a>(pub(crate) &'a Sink);

impl plan::Directory for Directory<'_> {
    fn provider(&self, name: &str) -> Option<Provider> {
        let definition = self.0.registry().resolve(name).ok()?;
        Some(Provider {
            id: definition.id.clone(),
            kind: definition.api.kind,
            models: definition.api.models.clone(),
        })
    }

    fn kind(&self, id: &ProviderId) -> Option<ApiKind> {
        let definition = self.0.registry().resolve(id.as_str()).ok()?;
        Some(definition.api.kind)
    }

    fn resolve_model(&self, agent: &AgentId, text: &str) -> Result<Target, SinkError> {
        let target = self.0.resolve_model(agent, text)?;
        Ok(Target {
            provider: target.provider,
            model: target.model,
            profile: target.profile,
        })
    }

    fn provider_of(&self, agent: &AgentId, profile: &ProfileId) -> Option<ProviderId> {
        let mut profiles = self.0.profiles(agent, None).ok()?.into_iter();
        let found = profiles.find(|known| known.id == *profile)?;
        Some(self.0.registry().canonical(&found.provider))
    }

    fn with_profiles(&self, agent: &AgentId) -> Vec<Provider> {
        let profiles = self.0.profiles(agent, None).unwrap_or_default();
        let mut ids: Vec<_> = profiles
            .iter()
            .map(|profile| self.0.registry().canonical(&profile.provider))
            .collect();
        ids.sort();
        ids.dedup();
        ids.iter().filter_map(|id| self.provider(id.as_str())).collect()
    }
}

/// The models that `agent` can use now, as far as the catalogue knows them.
///
/// # Errors
/// When the agent's store or the config cannot be read.
pub(crate) fn offered(sink: &Sink, agent: &AgentId) -> Result<Vec<Offered>, SinkError> {
    let models = sink.models_list(agent, None, true)?.into_iter();
    Ok(models
        .filter(|model| model.available)
        .filter_map(|model| {
            let kind = sink.registry().get(&model.provider)?.api.kind;
            Some(Offered {
                provider: model.provider,
                kind,
                model: model.name,
            })
        })
        .collect())
}
