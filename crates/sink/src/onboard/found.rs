//! What the environment offers that is not stored yet. Listed and never used unless somebody says so (design: Money).

use tokensink_types::{AgentId, CredentialKind, Secret, SecretSource};

use crate::error::Result;
use crate::onboard::{Asked, AuthChoice, KeyRequest, shown};
use crate::paste;
use crate::sink::Sink;

/// A key or token in the environment, with the choice that would store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// The choice.
    pub choice: AuthChoice,
    /// The variable.
    pub variable: String,
    /// Its value, masked.
    pub masked: String,
}

impl Sink {
    /// The keys and tokens in the environment that no profile of the agent's own store holds, one for each choice. A
    /// text that cannot be such a credential is left out.
    ///
    /// # Errors
    /// When the agent's store cannot be read.
    pub fn found_keys(&self, agent: &AgentId) -> Result<Vec<FoundKey>> {
        let mut found = Vec::new();
        for choice in self.registry().choices().filter(|choice| !choice.choice.hidden) {
            let kind = choice
                .method
                .stores()
                .filter(|kind| *kind != CredentialKind::OAuth);
            let (Some(kind), Some(_)) = (kind, &choice.choice.option) else {
                continue;
            };
            let env = &self.host().env;
            let mut variables = choice.definition.variables_of(choice.method);
            let set = variables.find_map(|one| Some((&one.name, Secret::new(env.var(&one.name)?))));
            let Some((variable, value)) = set else { continue };
            let Ok(secret) = paste::accept(choice.definition, choice.method, &value) else {
                continue;
            };
            let asked = Asked {
                request: &KeyRequest::of(agent, &choice.choice.id),
                choice,
                definition: choice.definition,
                method: choice.method,
                kind,
            };
            let is_settled = self
                .place(&asked, &SecretSource::inline(secret))
                .is_ok_and(|place| place.is_settled);
            if !is_settled {
                found.push(FoundKey {
                    choice: shown(&choice),
                    variable: variable.clone(),
                    masked: value.masked(),
                });
            }
        }
        Ok(found)
    }
}
