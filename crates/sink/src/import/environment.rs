//! Adopting keys of the environment. They are listed and never used until the user says so (design: Money); adopted, they
//! are profiles like any other, that name the variable or, with `copy`, hold its value.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokensink_providers::{Definition, EnvVar, Method};
use tokensink_store::ForeignEntry;
use tokensink_types::{
    AgentId, ApiKey, Credential, CredentialKind, Expiry, Labels, ProfileId, Secret, SecretRef, SecretSource,
    SecretText, StaticToken,
};

use super::Incoming;
use super::report::{ImportAction, ImportPlan, ImportRow};
use super::source::Source;
use crate::error::{ErrorKind, Result, SinkError};
use crate::paste;
use crate::sink::Sink;

/// What `import env` is asked for.
#[derive(Debug, Clone)]
pub struct EnvImport {
    /// Whose the keys become.
    pub agent: AgentId,
    /// Which variables; empty for all that are known and set.
    pub names: Vec<String>,
    /// Of several providers that know a variable, this one.
    pub provider: Option<String>,
    /// Store the value instead of a reference to the variable.
    pub copy: bool,
}

impl Sink {
    /// Looks at the known variables and says what would become of their keys. Changes nothing.
    ///
    /// # Errors
    /// A usage error for a variable that no provider knows or that is not set, and when there is none at all;
    /// otherwise when a store cannot be read.
    pub fn plan_env_import(&self, request: &EnvImport) -> Result<ImportPlan> {
        let mut source = Source {
            from: "the environment".to_owned(),
            ..Source::default()
        };
        let only = match &request.provider {
            None => None,
            Some(text) => Some(self.registry().resolve(text).map_err(|unknown| {
                SinkError::new(ErrorKind::Usage, "unknown_provider", unknown.to_string())
                    .with_fix("tokensink providers list")
            })?),
        };
        let mut seen: Vec<&str> = Vec::new();
        for definition in self.registry().all() {
            if only.is_some_and(|only| only.id != definition.id) {
                continue;
            }
            for variable in &definition.env {
                let name = variable.name.as_str();
                // What other programs need too, such as GITHUB_TOKEN, is adopted only by name.
                let wanted = if request.names.is_empty() {
                    !variable.shared
                } else {
                    request.names.iter().any(|wanted| wanted == name)
                };
                let Some(value) = self.host().env.var(name).filter(|_| wanted) else {
                    continue;
                };
                if seen.contains(&name) {
                    continue;
                }
                seen.push(name);
                self.offer_variable(request, definition, variable, &Secret::new(value), &mut source)?;
            }
        }
        if let Some(missing) = request.names.iter().find(|name| !seen.contains(&name.as_str())) {
            let message = format!("{missing} is not set, or no provider is known to use it");
            return Err(SinkError::new(ErrorKind::Usage, "unknown_variable", message)
                .with_fix("tokensink import env --dry-run"));
        }
        if seen.is_empty() {
            let message = "no variable that holds a provider's key is set";
            return Err(SinkError::new(ErrorKind::Usage, "nothing_to_import", message));
        }
        self.plan_import(source)
    }

    fn offer_variable(
        &self,
        request: &EnvImport,
        definition: &Definition,
        variable: &EnvVar,
        value: &Secret,
        source: &mut Source,
    ) -> Result<()> {
        let kind = kind_of(definition, variable);
        let place = PathBuf::from(format!("${}", variable.name));
        let row = |action| ImportRow {
            agent: request.agent.clone(),
            profile: format!("{}:default", definition.id),
            was: None,
            provider: Some(definition.id.clone()),
            kind: Some(kind),
            place: place.clone(),
            action,
        };
        let skip = |why: String| row(ImportAction::Skipped { why, fix: None });
        if kind == CredentialKind::OAuth {
            source.skipped.push(skip(
                "it holds the token of a login, which cannot be renewed from a variable".to_owned(),
            ));
            return Ok(());
        }
        let method = method_of(definition, variable, kind);
        let accepted = match method {
            Some(method) => paste::accept(definition, method, value),
            None => Ok(value.clone()),
        };
        let secret = match accepted {
            Ok(secret) => secret,
            Err(error) => {
                source.skipped.push(skip(error.to_string()));
                return Ok(());
            }
        };
        if let Some(known) = self.holder_of_value(request, definition, &secret)? {
            let why = "the same secret".to_owned();
            let (agent, profile) = (request.agent.clone(), known);
            source
                .skipped
                .push(row(ImportAction::Linked { agent, profile, why }));
            return Ok(());
        }
        let id = self.free_id(request, definition)?;
        let text = if request.copy {
            SecretSource::inline(secret)
        } else {
            SecretSource {
                inline: None,
                reference: Some(SecretRef {
                    source: "env".to_owned(),
                    provider: Some("default".to_owned()),
                    id: variable.name.clone(),
                }),
            }
        };
        source.incoming.push(Incoming {
            agent: request.agent.clone(),
            entry: ForeignEntry::of(id, credential(definition, kind, text)),
            was: None,
            place,
            ancestors: Vec::new(),
            unverified: None,
            bundle: None,
        });
        Ok(())
    }

    /// `<provider>:default`, or `<provider>:env` where that is taken.
    fn free_id(&self, request: &EnvImport, definition: &Definition) -> Result<ProfileId> {
        let default = ProfileId::of(&definition.id, "default");
        let store = self.store().load(&request.agent)?;
        Ok(match store.profiles.get(&default) {
            None => default,
            Some(_) => ProfileId::of(&definition.id, "env"),
        })
    }

    /// The agent's profile of the provider that holds this very text.
    fn holder_of_value(
        &self,
        request: &EnvImport,
        definition: &Definition,
        secret: &Secret,
    ) -> Result<Option<ProfileId>> {
        let store = self.store().load(&request.agent)?;
        let holds = |credential: &Credential| {
            let source = match credential {
                Credential::ApiKey(key) => &key.key,
                Credential::Token(token) => &token.token,
                Credential::OAuth(_) => return false,
            };
            matches!(&source.inline, Some(SecretText::Plain(known)) if known == secret)
        };
        let entries = store.profiles.entries().iter();
        let mut same = entries.filter(|entry| *entry.credential.provider() == definition.id);
        Ok(same
            .find(|entry| holds(&entry.credential))
            .map(|entry| entry.id.clone()))
    }
}

/// What the variable holds: what the definition says, else what the provider takes.
fn kind_of(definition: &Definition, variable: &EnvVar) -> CredentialKind {
    let takes = |kind| {
        definition
            .methods
            .iter()
            .any(|method| method.stores() == Some(kind))
    };
    let only_tokens = !takes(CredentialKind::ApiKey) && takes(CredentialKind::Token);
    match definition.env_kind(variable) {
        CredentialKind::ApiKey if variable.method.is_none() && only_tokens => CredentialKind::Token,
        kind => kind,
    }
}

fn method_of<'a>(definition: &'a Definition, variable: &EnvVar, kind: CredentialKind) -> Option<&'a Method> {
    let owner = variable.method.as_ref().and_then(|id| definition.method(id));
    owner.or_else(|| {
        definition
            .methods
            .iter()
            .find(|method| method.stores() == Some(kind))
    })
}

fn credential(definition: &Definition, kind: CredentialKind, text: SecretSource) -> Credential {
    let provider = definition.id.clone();
    if kind == CredentialKind::Token {
        return Credential::Token(StaticToken {
            provider,
            token: text,
            expires: Expiry::Never,
            labels: Labels::default(),
        });
    }
    Credential::ApiKey(ApiKey {
        provider,
        key: text,
        metadata: BTreeMap::new(),
        labels: Labels::default(),
    })
}

#[cfg(test)]
mod tests;
