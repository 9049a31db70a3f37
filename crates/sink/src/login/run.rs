//! One login from the request to the stored profile.

use std::borrow::Cow;

use http::StatusCode;
use tokensink_host::Host;
use tokensink_oauth::token::TokenGrant;
use tokensink_providers::{
    BuildError, Definition, Flow, Method, OAuthClient, PkceFlow, ProgramFlow, Setting,
};
use tokensink_types::{
    Account, ApiKey, Credential, CredentialKind, Expiry, Labels, OAuth, ProviderId, SecretSource,
    StaticToken, UnixMillis,
};

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::choose::{self, Facts};
use crate::login::device::{Part, Polling};
use crate::login::identity::{self, label};
use crate::login::keep::Newcomer;
use crate::login::race::{LOGIN_TIME, Won, race};
use crate::login::{
    LoginEvent, LoginOutcome, LoginRequest, LoginUi, MethodChoice, ProviderChoice, device, discover, page,
    pkce, program,
};
use crate::models::key_of;
use crate::refresher::{ENDPOINT_FIELD, endpoint_to_store};
use crate::sink::Sink;

/// A login under way.
#[derive(Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) sink: &'a Sink,
    pub(crate) definition: &'a Definition,
    pub(crate) method: &'a Method,
    pub(crate) request: &'a LoginRequest,
    pub(crate) ui: &'a dyn LoginUi,
    pub(crate) facts: &'a Facts,
}

/// What the provider gave, and when it was asked for.
pub(crate) struct Granted {
    pub(crate) grant: TokenGrant,
    pub(crate) sent_at: UnixMillis,
}

impl Sink {
    /// Logs in at a provider and stores what it grants. Blocks until the login is over: at most 15 minutes in a
    /// browser, as long as the code lives by device code.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a provider, method or profile id that does not fit and for a login that nobody here
    /// could complete, [`ErrorKind::TryAgain`] when the provider cannot be reached, else [`ErrorKind::Failed`] with
    /// what the provider said. Tokens that could not be put into the store are kept in the refresh record, and the
    /// error says so.
    pub fn login(&self, request: &LoginRequest, ui: &dyn LoginUi) -> Result<LoginOutcome> {
        self.require_writable("a login")?;
        let definition = self.login_definition(&request.provider)?;
        let facts = Facts::new(&*self.host().env, ui.interactive(), request.no_browser);
        let ways = choose::ways(definition, request, &facts)?;
        if let Some(id) = &request.profile_id {
            self.check_wanted_id(&request.agent, &definition.id, id)?;
        }
        let login = Login {
            sink: self,
            definition,
            method: ways.method,
            request,
            ui,
            facts: &facts,
        };
        login.notice();
        let method = login.discovered(ways.method)?;
        login.by(&method).run(ways.device)
    }

    /// The providers that can be logged in to or given a credential, with their methods, for pickers. Logins that
    /// stay with another program are not among them.
    #[must_use]
    pub fn login_choices(&self) -> Vec<ProviderChoice> {
        let definitions = self.registry().all().filter(|definition| !definition.template);
        definitions.filter_map(choice_of).collect()
    }

    fn login_definition(&self, text: &str) -> Result<&Definition> {
        let definition = self.registry().resolve(text).map_err(|unknown| {
            SinkError::new(ErrorKind::Usage, "unknown_provider", unknown.to_string())
                .with_fix("tokensink providers list")
        })?;
        if definition.template {
            let message = format!(
                "{} is a pattern for providers of your own, not a provider",
                definition.id
            );
            return Err(
                SinkError::new(ErrorKind::Usage, "template", message).with_fix(format!(
                    "write a provider file with extends = \"{}\"",
                    definition.id
                )),
            );
        }
        Ok(definition)
    }
}

fn choice_of(definition: &Definition) -> Option<ProviderChoice> {
    let methods: Vec<MethodChoice> = definition
        .methods
        .iter()
        .filter(|method| !matches!(method.flow, Flow::External(_)))
        .map(|method| MethodChoice {
            id: method.id.clone(),
            kind: method.flow.kind(),
            label: method.name.clone(),
        })
        .collect();
    (!methods.is_empty()).then(|| ProviderChoice {
        id: definition.id.clone(),
        name: definition.name.clone(),
        methods,
    })
}

impl Login<'_> {
    pub(crate) fn host(&self) -> &Host {
        self.sink.host()
    }

    /// The command that makes this login again.
    pub(crate) fn again(&self) -> String {
        choose::again(self.definition, self.request)
    }

    /// The same login by another method.
    fn by<'b>(&'b self, method: &'b Method) -> Login<'b> {
        Login { method, ..*self }
    }

    fn discovered(&self, method: &Method) -> Result<Method> {
        discover::complete(self.host(), method, &self.again())
    }

    fn notice(&self) {
        if !self.method.notice.is_empty() {
            self.ui.show(LoginEvent::Notice(&self.method.notice));
        }
    }

    fn run(&self, device: Option<&Method>) -> Result<LoginOutcome> {
        match &self.method.flow {
            Flow::Pkce(flow) => match (self.in_browser(flow, device), device) {
                (Err(error), Some(device)) if error.code() == choose::NO_LISTENER => {
                    let reason = error.to_string();
                    self.ui.show(LoginEvent::ListenerFailed { reason: &reason });
                    let device = self.discovered(device)?;
                    self.by(&device).run(None)
                }
                (outcome, _) => outcome,
            },
            Flow::Device(flow) => {
                let granted = device::run(self, flow)?;
                self.finish(&flow.client, &granted)
            }
            Flow::Program(flow) => self.by_program(flow),
            // The choice of the method has refused these.
            other => {
                let message = format!("method {} of kind {} is no login", self.method.id, other.kind());
                Err(SinkError::new(ErrorKind::Usage, "no_login_method", message))
            }
        }
    }

    /// Logs in by a plugin's program; by the provider's next method where it says that it cannot.
    fn by_program(&self, flow: &ProgramFlow) -> Result<LoginOutcome> {
        let granted = match program::run(self, flow) {
            Ok(granted) => granted,
            Err(error) if error.code() == program::NOT_SUPPORTED && self.request.method.is_none() => {
                let Some(next) = program::next_after(self, &self.method.id) else {
                    return Err(error);
                };
                self.ui.show(LoginEvent::Plugin {
                    plugin: &flow.plugin,
                    text: &format!("{error}; trying method {}", next.id),
                });
                let next = self.discovered(next)?;
                return self.by(&next).run(None);
            }
            Err(error) => return Err(error),
        };
        self.finish(&flow.client, &granted)
    }

    /// Logs in with the user's browser, or by `device` where none can be started here and its code is approved first.
    fn in_browser(&self, flow: &PkceFlow, device: Option<&Method>) -> Result<LoginOutcome> {
        let mut asked = pkce::ask(self, flow, device.is_some())?;
        let device = device
            .filter(|_| !asked.opened)
            .and_then(|device| self.or_told(self.discovered(device)));
        let beside = device.as_ref().map(|device| self.by(device));
        let polling = beside.as_ref().and_then(|beside| match &beside.method.flow {
            Flow::Device(flow) => self.or_told(Polling::begin(beside, flow, Part::Beside(LOGIN_TIME))),
            _ => None,
        });
        if let Some(uri) = asked.listens_at() {
            self.ui.show(LoginEvent::Listening { uri });
        }
        let answered = race(self, &mut asked, polling);
        let outcome = answered.won.and_then(|won| match won {
            Won::Code(code) => {
                self.ui.show(LoginEvent::Exchanging);
                let granted = pkce::exchange(self, flow, &asked.pending, &code)?;
                self.finish(&flow.client, &granted)
            }
            Won::Device(polling, approval) => {
                let granted = polling.redeem(approval)?;
                polling.login().finish(polling.client(), &granted)
            }
        });
        if let Some(browser) = answered.browser {
            let (status, html) = self.page(&outcome);
            // A browser that is gone misses nothing; the terminal says the same.
            let _ = browser.respond(status, &html);
        }
        outcome
    }

    /// A device login that cannot be is told in a line, and the other ways go on.
    fn or_told<T>(&self, result: Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                let reason = error.to_string();
                self.ui.show(LoginEvent::DeviceFailed { reason: &reason });
            })
            .ok()
    }

    fn page(&self, outcome: &Result<LoginOutcome>) -> (StatusCode, String) {
        let name = &self.definition.name;
        match outcome {
            Ok(outcome) => {
                let account = label(&outcome.account);
                (
                    StatusCode::OK,
                    page::success(name, account.as_deref(), outcome.profile.as_str()),
                )
            }
            Err(error) => (
                StatusCode::BAD_REQUEST,
                page::failure(name, &error.to_string(), error.fix()),
            ),
        }
    }

    /// Verifies whose tokens these are and stores them.
    fn finish(&self, client: &OAuthClient, granted: &Granted) -> Result<LoginOutcome> {
        let (account, note) = identity::verify(self.host(), client, &granted.grant, &self.again())?;
        let credential = self.credential(client, granted, &account)?;
        let mut notes: Vec<String> = note.into_iter().collect();
        notes.extend(no_refresh_token(&credential, &self.definition.id));
        let expires = end_of(&credential);
        let mode = credential.kind();
        let kept = self.sink.keep(&Newcomer {
            agent: self.request.agent.clone(),
            provider: self.definition.id.clone(),
            name: self.method.profile_name(&account),
            account: account.clone(),
            credential,
            issued_at: Some(granted.sent_at),
            wanted: self.request.profile_id.clone(),
            reserved: reserved_names(self.definition),
            replaces: false,
            default_model: self.default_model(&mut notes),
        })?;
        notes.extend(kept.notes);
        Ok(LoginOutcome {
            profile: kept.profile,
            provider: self.definition.id.clone(),
            mode,
            account,
            updated: kept.updated,
            store_path: self.sink.paths().profiles_file(&self.request.agent),
            expires,
            default_model: kept.default_model,
            notes,
            notice: Some(self.method.notice.clone()).filter(|notice| !notice.is_empty()),
        })
    }

    fn default_model(&self, notes: &mut Vec<String>) -> Option<(String, bool)> {
        let id = &self.definition.id;
        let model = self.method.api.models.first().map(|model| key_of(id, model));
        if model.is_none() && self.request.set_default {
            notes.push(format!(
                "no model of {id} is known; set one with: tokensink models set {id}/<model>"
            ));
        }
        model.map(|model| (model, self.request.set_default))
    }

    fn credential(&self, client: &OAuthClient, granted: &Granted, account: &Account) -> Result<Credential> {
        let provider = self.definition.id.clone();
        let tokens = client.first_tokens(&granted.grant, granted.sent_at);
        let labels = Labels {
            email: account.email.clone(),
            display_name: None,
        };
        Ok(match client.stores {
            CredentialKind::ApiKey => Credential::ApiKey(ApiKey {
                provider,
                key: SecretSource::inline(tokens.access),
                metadata: std::collections::BTreeMap::new(),
                labels,
            }),
            CredentialKind::Token => Credential::Token(StaticToken {
                provider,
                token: SecretSource::inline(tokens.access),
                expires: tokens.expires.map_or(Expiry::Never, Expiry::At),
                labels,
            }),
            CredentialKind::OAuth => Credential::OAuth(OAuth {
                provider,
                tokens,
                account: account.clone(),
                client_id: self.client_to_store(client)?,
                fields: self.fields(client, &granted.grant),
                labels,
            }),
        })
    }

    /// The client identifier, where the definition alone would not find it again: it came from the environment, or
    /// another method of the provider has another one.
    fn client_to_store(&self, client: &OAuthClient) -> Result<Option<String>> {
        let others = self.definition.methods.iter().filter_map(Method::oauth_client);
        let is_plain = matches!(client.client_id, Setting::Literal(_));
        if is_plain
            && others
                .into_iter()
                .all(|other| other.client_id == client.client_id)
        {
            return Ok(None);
        }
        let env = |name: &str| self.host().env.var(name);
        let resolved = client.resolve(&env, None).map_err(|error| build_error(&error))?;
        Ok(Some(resolved.client_id))
    }

    /// Provider-owned fields of the store, and where the tokens are refreshed when the definition alone would not say.
    fn fields(&self, client: &OAuthClient, grant: &TokenGrant) -> std::collections::BTreeMap<String, String> {
        let mut fields = client.store_fields(grant);
        if let Some(endpoint) = endpoint_to_store(self.definition, client) {
            fields.insert(ENDPOINT_FIELD.to_owned(), endpoint.to_string());
            fields.extend(
                client
                    .issuer
                    .as_ref()
                    .map(|issuer| ("issuer".to_owned(), issuer.to_string())),
            );
        }
        fields
    }
}

/// Names of profiles that stand for other programs' logins; a login of ours never takes one.
fn reserved_names(definition: &Definition) -> Vec<String> {
    let external = definition
        .methods
        .iter()
        .filter(|method| matches!(method.flow, Flow::External(_)));
    external
        .map(|method| method.profile_name(&Account::default()))
        .filter(|name| name != "default")
        .collect()
}

fn no_refresh_token(credential: &Credential, provider: &ProviderId) -> Option<String> {
    let oauth = credential.as_oauth()?;
    oauth.tokens.refresh_token().is_none().then(|| {
        format!(
            "{provider} gave no refresh token, so this login ends with its access token and cannot be renewed"
        )
    })
}

/// When the access token ends.
pub(crate) fn end_of(credential: &Credential) -> Option<UnixMillis> {
    match credential {
        Credential::OAuth(oauth) => oauth.tokens.expires,
        Credential::Token(token) => match token.expires {
            Expiry::At(at) => Some(at),
            Expiry::Never | Expiry::Invalid => None,
        },
        Credential::ApiKey(_) => None,
    }
}

/// The error for a request that cannot be built from the definition.
pub(crate) fn build_error(error: &BuildError) -> SinkError {
    let fix: Option<Cow<'static, str>> = match error {
        BuildError::EnvMissing { name, .. } => Some(format!("export {name}=...").into()),
        BuildError::EnvInvalid { fix, .. } => Some(fix.clone().into()),
        BuildError::Endpoint { what } => Some(format!("add {what} to the provider definition").into()),
        _ => None,
    };
    SinkError::new(ErrorKind::Failed, "bad_definition", error.to_string()).with_fix_if(fix)
}
