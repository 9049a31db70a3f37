//! Auth choices: what `onboard` and `configure` offer, and settling one that brings a key or token (spec.md 13).
//!
//! Settling is repeatable: what is already as the choice leaves it is not written again. A credential of another kind
//! never makes room for the new one, which then gets another name. Logins in a browser or on another device are made
//! by [`Sink::login`]; logins of other programs stay with them.

mod custom;
mod found;
mod guest;
mod place;

use std::collections::BTreeMap;
use std::time::Duration;

use tokensink_providers::{ChoiceRef, Definition, Flow, Method, UnknownChoice};
use tokensink_types::{
    Account, AgentId, ApiKey, Credential, CredentialKind, Expiry, Labels, MethodId, ProfileId, ProviderId,
    Secret, SecretRef, SecretSource, StaticToken,
};

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::keep::Newcomer;
use crate::models::key_of;
use crate::paste;
use crate::sink::Sink;

pub use custom::{CustomDefined, CustomProvider};
pub use found::FoundKey;
pub use guest::GuestOutcome;

/// An auth choice, for menus and lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthChoice {
    /// The word after `--auth-choice`.
    pub id: String,
    /// Further words that stand for it.
    pub deprecated: Vec<String>,
    /// A line for people.
    pub name: String,
    /// A few words beside that line, or empty.
    pub hint: String,
    /// The menu entry that it stands under.
    pub group: String,
    /// The option that takes its secret, with its dashes.
    pub option: Option<String>,
    /// It is left out of menus.
    pub hidden: bool,
    /// Its provider.
    pub provider: ProviderId,
    /// The provider's method that it takes.
    pub method: MethodId,
    /// `pkce`, `device`, `program`, `token`, `api_key` or `external`.
    pub kind: &'static str,
    /// The profile that it leaves: an id, or a pattern such as `openai-codex:<e-mail>`.
    pub leaves: String,
    /// The variables that may hold its credential.
    pub env: Vec<String>,
    /// The policy note of its method, or empty.
    pub notice: String,
    /// The program whose login it uses, for kind `external`.
    pub cli: Option<String>,
    /// The first model of its method, as `provider/model`.
    pub model: Option<String>,
}

/// A key or token to settle.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// The agent whose store takes it.
    pub agent: AgentId,
    /// The auth choice.
    pub choice: String,
    /// Another provider than the choice's, whose tokens are meant (`--token-provider`).
    pub provider: Option<String>,
    /// The profile id; the default is the one that the choice leaves.
    pub profile_id: Option<ProfileId>,
    /// When a token ends, from now.
    pub expires_in: Option<Duration>,
    /// What was given for it; without it the environment and the stored profiles are looked at (spec.md 13.2).
    pub given: Option<GivenSecret>,
    /// Store a reference to the variable instead of its value.
    pub as_reference: bool,
    /// What becomes of the default model.
    pub model: ModelWish,
}

impl KeyRequest {
    /// The request for a choice and nothing else.
    #[must_use]
    pub fn of(agent: &AgentId, choice: &str) -> Self {
        Self {
            agent: agent.clone(),
            choice: choice.to_owned(),
            provider: None,
            profile_id: None,
            expires_in: None,
            given: None,
            as_reference: false,
            model: ModelWish::IfNone,
        }
    }
}

/// What becomes of the default model when a choice is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelWish {
    /// It stays, even where none is set.
    Keep,
    /// The first model of the choice's method becomes the default where none is set at all. Only the default agent's
    /// choices do that.
    IfNone,
    /// It becomes the default; for another agent than the default one, that agent's own.
    Always,
}

/// Where a secret comes from.
#[derive(Debug, Clone)]
pub enum GivenSecret {
    /// The secret itself, read by the caller.
    Value(Secret),
    /// This variable holds it.
    Env(String),
}

/// Where the secret of a settled choice came from (spec.md 13.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The caller gave it.
    Given,
    /// This variable held it.
    Env(String),
    /// A stored profile has one already.
    Profile,
}

/// What settling a choice did to its profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChange {
    /// It is new.
    Stored,
    /// It holds another secret than before.
    Updated,
    /// It was as it should be.
    Unchanged,
}

impl KeyChange {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// A choice that was settled.
#[derive(Debug, Clone)]
pub struct KeyOutcome {
    /// The profile that holds the credential.
    pub profile: ProfileId,
    /// Its provider.
    pub provider: ProviderId,
    /// What kind of credential it is.
    pub mode: CredentialKind,
    /// Where the secret came from.
    pub origin: KeyOrigin,
    /// What was done.
    pub change: KeyChange,
    /// The default model, where this choice set it.
    pub default_model: Option<String>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// A request with what it refers to.
struct Asked<'a> {
    request: &'a KeyRequest,
    choice: ChoiceRef<'a>,
    definition: &'a Definition,
    method: &'a Method,
    kind: CredentialKind,
}

/// A secret with its origin, and the variable that a reference would name.
struct Found {
    secret: Secret,
    origin: KeyOrigin,
}

impl Sink {
    /// All auth choices, those of the built-in providers first.
    #[must_use]
    pub fn auth_choices(&self) -> Vec<AuthChoice> {
        self.registry().choices().map(|choice| shown(&choice)).collect()
    }

    /// The choice that `text` names, in any case, by its id or a deprecated one.
    ///
    /// # Errors
    /// A usage error for a word that nobody knows, and one that names the provider file to write for a documented
    /// choice whose provider is not defined.
    pub fn auth_choice(&self, text: &str) -> Result<AuthChoice> {
        Ok(shown(&self.choice(text)?))
    }

    fn choice(&self, text: &str) -> Result<ChoiceRef<'_>> {
        self.registry()
            .choice(text)
            .map_err(|unknown| self.unknown_choice(&unknown))
    }

    fn unknown_choice(&self, unknown: &UnknownChoice) -> SinkError {
        let fix = match unknown.undefined {
            Some(provider) => format!(
                "write {} (`tokensink providers show openai-compatible` is a pattern), then run the command again",
                self.paths()
                    .providers_dir()
                    .join(format!("{provider}.toml"))
                    .display()
            ),
            None => "tokensink providers list".to_owned(),
        };
        SinkError::new(ErrorKind::Usage, "unknown_choice", unknown.to_string()).with_fix(fix)
    }

    /// Stores the key or token of a choice: the given one, else the first variable that holds one, else nothing
    /// where a stored profile has one already (spec.md 13.2).
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] when there is no secret in any of these places or it could not be stored,
    /// [`ErrorKind::Usage`] for a choice that takes none, a text that cannot be such a credential, or a reference to
    /// something else than a variable.
    pub fn settle_key(&self, request: &KeyRequest) -> Result<KeyOutcome> {
        self.require_writable("storing a credential")?;
        let asked = self.asked(request)?;
        if let Some(id) = &request.profile_id {
            self.check_wanted_id(&request.agent, &asked.definition.id, id)?;
        }
        let mut outcome = match self.find_secret(&asked)? {
            Some(found) => self.settle_found(&asked, found)?,
            None => self.stored_already(&asked)?.ok_or_else(|| missing(&asked))?,
        };
        let (provider, method) = (&asked.definition.id, &asked.method.id);
        outcome.default_model = self.settle_model(&request.agent, provider, method, request.model)?;
        Ok(outcome)
    }

    /// Checks a secret for a choice without storing it, for prompts that ask again. `provider` is another one than the
    /// choice's, as in [`KeyRequest`].
    ///
    /// # Errors
    /// A usage error when the text cannot be such a credential.
    pub fn check_choice_secret(&self, choice: &str, provider: Option<&str>, secret: &Secret) -> Result<()> {
        let request = KeyRequest {
            provider: provider.map(str::to_owned),
            ..KeyRequest::of(&AgentId::main(), choice)
        };
        let asked = self.asked(&request)?;
        paste::accept(asked.definition, asked.method, secret).map(drop)
    }

    /// Makes the method's first model the default as `wish` says. Returns the model if it was set; changes nothing if
    /// it is set already.
    ///
    /// # Errors
    /// A usage error for [`ModelWish::Always`] and a method without known models; otherwise when `openclaw.json` cannot
    /// be read or changed.
    pub fn settle_model(
        &self,
        agent: &AgentId,
        provider: &ProviderId,
        method: &MethodId,
        wish: ModelWish,
    ) -> Result<Option<String>> {
        let config = self.config()?;
        let is_default_agent = config.default_agent() == *agent;
        let view = self.models_view(agent)?;
        let wanted = match wish {
            ModelWish::Keep => false,
            ModelWish::IfNone => view.default.is_none() && is_default_agent,
            ModelWish::Always => true,
        };
        if !wanted {
            return Ok(None);
        }
        let definition = self.registry().get(provider);
        let method = definition.and_then(|definition| definition.method(method));
        let Some(model) = method.and_then(|method| method.api.models.first()) else {
            if wish == ModelWish::IfNone {
                return Ok(None);
            }
            let message = format!("no model of {provider} is known, so none can be made the default");
            return Err(SinkError::new(ErrorKind::Usage, "no_model", message)
                .with_fix(format!("tokensink models set {provider}/<model>")));
        };
        let key = key_of(provider, model);
        if view.resolved_default == key && view.default.is_some() {
            return Ok(None);
        }
        let own = Some(agent).filter(|_| !is_default_agent);
        self.set_default_model(own, &key).map(Some)
    }

    fn asked<'a>(&'a self, request: &'a KeyRequest) -> Result<Asked<'a>> {
        let choice = self.choice(&request.choice)?;
        let (definition, method) = match &request.provider {
            None => (choice.definition, choice.method),
            Some(text) => self.token_method(&choice, text)?,
        };
        let kind = method
            .stores()
            .filter(|kind| *kind != CredentialKind::OAuth)
            .ok_or_else(|| no_secret(&choice))?;
        Ok(Asked {
            request,
            choice,
            definition,
            method,
            kind,
        })
    }

    /// The method of `--token-provider`: the choice's own at its provider, else the first for tokens.
    fn token_method<'a>(
        &'a self,
        choice: &ChoiceRef<'a>,
        text: &str,
    ) -> Result<(&'a Definition, &'a Method)> {
        let definition = self.registry().resolve(text).map_err(|unknown| {
            SinkError::new(ErrorKind::Usage, "unknown_provider", unknown.to_string())
                .with_fix("tokensink providers list")
        })?;
        if definition.id == choice.definition.id {
            return Ok((choice.definition, choice.method));
        }
        let takes_tokens = |method: &&Method| matches!(method.flow, Flow::Token(_));
        let method = definition.methods.iter().find(takes_tokens).ok_or_else(|| {
            let message = format!("{} takes no pasted tokens", definition.id);
            let known = self.registry().choices_of(&definition.id);
            let fix = known
                .first()
                .map(|choice| format!("--auth-choice {}", choice.choice.id));
            SinkError::new(ErrorKind::Usage, "no_token_method", message).with_fix_if(fix)
        })?;
        Ok((definition, method))
    }

    fn find_secret(&self, asked: &Asked<'_>) -> Result<Option<Found>> {
        match &asked.request.given {
            Some(GivenSecret::Value(_)) if asked.request.as_reference => Err(needs_variable(asked)),
            Some(GivenSecret::Value(secret)) => Ok(Some(Found {
                secret: secret.clone(),
                origin: KeyOrigin::Given,
            })),
            Some(GivenSecret::Env(name)) => self.in_variable(name).map(Some).ok_or_else(|| {
                let message = format!("the environment variable {name} is not set or blank");
                SinkError::new(ErrorKind::Failed, "no_variable", message)
                    .with_fix(format!("set {name}, then run the command again"))
            }),
            None => Ok(asked.variables().iter().find_map(|name| self.in_variable(name))),
        }
    }

    fn in_variable(&self, name: &str) -> Option<Found> {
        let value = self.host().env.var(name)?;
        Some(Found {
            secret: Secret::new(value),
            origin: KeyOrigin::Env(name.to_owned()),
        })
    }

    fn settle_found(&self, asked: &Asked<'_>, found: Found) -> Result<KeyOutcome> {
        let secret = paste::accept(asked.definition, asked.method, &found.secret)?;
        let source = match &found.origin {
            KeyOrigin::Env(name) if asked.request.as_reference => reference_to(name)?,
            _ => SecretSource::inline(secret),
        };
        let place = self.place(asked, &source)?;
        if place.is_settled {
            let notes = self.enter_in_config(&place.id, asked)?;
            return Ok(asked.outcome(place.id, found.origin, KeyChange::Unchanged, notes));
        }
        let kept = self.keep(&Newcomer {
            agent: asked.request.agent.clone(),
            provider: asked.definition.id.clone(),
            credential: self.credential(asked, source),
            account: Account::default(),
            issued_at: None,
            name: place.id.name_part().to_owned(),
            wanted: Some(place.id),
            reserved: Vec::new(),
            replaces: true,
            default_model: None,
        })?;
        let change = if kept.updated {
            KeyChange::Updated
        } else {
            KeyChange::Stored
        };
        Ok(asked.outcome(kept.profile, found.origin, change, kept.notes))
    }

    fn credential(&self, asked: &Asked<'_>, source: SecretSource) -> Credential {
        let provider = asked.definition.id.clone();
        if asked.kind == CredentialKind::ApiKey {
            return Credential::ApiKey(ApiKey {
                provider,
                key: source,
                metadata: BTreeMap::new(),
                labels: Labels::default(),
            });
        }
        let expires = asked
            .request
            .expires_in
            .map_or(Expiry::Never, |time| Expiry::At(self.now().plus(time)));
        Credential::Token(StaticToken {
            provider,
            token: source,
            expires,
            labels: Labels::default(),
        })
    }

    /// A profile of the provider that holds such a credential already; nothing is written then.
    fn stored_already(&self, asked: &Asked<'_>) -> Result<Option<KeyOutcome>> {
        let snapshot = self.snapshot(&asked.request.agent)?;
        let profiles = snapshot.view.profiles.iter();
        let mut fitting = profiles.filter(|profile| {
            let credential = &profile.entry.credential;
            self.registry().canonical(credential.provider()) == asked.definition.id
                && credential.kind() == asked.kind
                && place::source_of(credential).is_some_and(|source| !source.is_missing())
                && asked
                    .request
                    .profile_id
                    .as_ref()
                    .is_none_or(|wanted| *wanted == profile.entry.id)
        });
        let found = fitting.next().map(|first| {
            let usual = ProfileId::of(&asked.definition.id, asked.name());
            let id = std::iter::once(first)
                .chain(fitting)
                .map(|profile| &profile.entry.id)
                .find(|id| **id == usual)
                .unwrap_or(&first.entry.id);
            asked.outcome(id.clone(), KeyOrigin::Profile, KeyChange::Unchanged, Vec::new())
        });
        Ok(found)
    }
}

impl Asked<'_> {
    /// The name part of the profile that the choice leaves.
    fn name(&self) -> &str {
        match &self.choice.choice.profile_name {
            tokensink_providers::ProfileName::Fixed(name) => name,
            // Nothing is known of whose key it is.
            _ => place::DEFAULT,
        }
    }

    fn variables(&self) -> Vec<String> {
        names_of(self.definition, self.method)
    }

    fn outcome(
        &self,
        profile: ProfileId,
        origin: KeyOrigin,
        change: KeyChange,
        notes: Vec<String>,
    ) -> KeyOutcome {
        KeyOutcome {
            profile,
            provider: self.definition.id.clone(),
            mode: self.kind,
            origin,
            change,
            default_model: None,
            notes,
        }
    }
}

fn names_of(definition: &Definition, method: &Method) -> Vec<String> {
    let variables = definition.variables_of(method);
    variables.map(|variable| variable.name.clone()).collect()
}

fn shown(choice: &ChoiceRef<'_>) -> AuthChoice {
    let method = choice.method;
    AuthChoice {
        id: choice.choice.id.clone(),
        deprecated: choice.choice.deprecated.clone(),
        name: choice.choice.name.clone(),
        hint: choice.choice.hint.clone(),
        group: choice.choice.group.clone(),
        option: choice.choice.option.clone(),
        hidden: choice.choice.hidden,
        provider: choice.definition.id.clone(),
        method: method.id.clone(),
        kind: method.flow.kind(),
        leaves: choice.leaves(),
        env: names_of(choice.definition, method),
        notice: method.notice.clone(),
        cli: match &method.flow {
            Flow::External(external) => Some(external.cli.clone()),
            _ => None,
        },
        model: method
            .api
            .models
            .first()
            .map(|model| key_of(&choice.definition.id, model)),
    }
}

/// The reference that a store keeps instead of a variable's value (spec.md 16.1, 16.2).
fn reference_to(name: &str) -> Result<SecretSource> {
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let plain = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.len() <= 128;
    if !plain || !name.chars().all(upper) {
        let message = format!("{name} cannot be referred to: only capitals, digits and underscores can");
        return Err(SinkError::new(ErrorKind::Usage, "bad_variable", message)
            .with_fix("rename the variable, or use --secret-input-mode plaintext"));
    }
    Ok(SecretSource {
        inline: None,
        reference: Some(SecretRef {
            source: "env".to_owned(),
            provider: Some("default".to_owned()),
            id: name.to_owned(),
        }),
    })
}

fn no_secret(choice: &ChoiceRef<'_>) -> SinkError {
    let message = format!(
        "auth choice {} logs in to {} and takes no key",
        choice.choice.id, choice.definition.name
    );
    SinkError::new(ErrorKind::Usage, "no_secret_taken", message)
        .with_fix(format!("tokensink onboard --auth-choice {}", choice.choice.id))
}

fn option_of<'a>(asked: &'a Asked<'_>) -> &'a str {
    asked.choice.choice.option.as_deref().unwrap_or("the secret")
}

fn needs_variable(asked: &Asked<'_>) -> SinkError {
    let option = option_of(asked);
    let message = format!(
        "--secret-input-mode ref stores a reference to an environment variable, but {option} was given a value"
    );
    SinkError::new(ErrorKind::Failed, "ref_needs_variable", message)
        .with_fix(format!("{option} env:NAME, or --secret-input-mode plaintext"))
}

/// The sentence of spec.md 13.2.
fn missing(asked: &Asked<'_>) -> SinkError {
    let option = option_of(asked);
    let kind = match asked.kind {
        CredentialKind::ApiKey => "API-key",
        CredentialKind::Token | CredentialKind::OAuth => "token",
    };
    let variables = asked.variables();
    let mut places = Vec::new();
    if !variables.is_empty() {
        places.push(format!("{} in env", variables.join(" or ")));
    }
    places.push(format!("existing {} {kind} profile", asked.definition.id));
    let message = format!("Missing {option} (or {}).", places.join(", or "));
    SinkError::new(ErrorKind::Failed, "missing_secret", message).with_fix(format!(
        "{option} - (standard input), {option} file:PATH, or {option} env:NAME"
    ))
}
