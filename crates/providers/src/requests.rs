//! Joins a definition with the request builders of `tokensink-oauth`: what the one knows of a provider becomes what
//! the other needs for a request.
//!
//! Nothing is sent here and no environment is read: `env` looks a variable up for us, so that a client identifier
//! or secret that stands in the environment (chutes) is found at the moment of use.

use std::collections::BTreeMap;

use http::{Request, Response};
use thiserror::Error;
use tokensink_oauth::authorize::AuthorizationRequest;
use tokensink_oauth::callback::AuthorizationCode;
use tokensink_oauth::device;
use tokensink_oauth::identity::{IdentityRule, IdentitySource, extract};
use tokensink_oauth::merge;
use tokensink_oauth::metadata::{ServerMetadata, well_known_urls};
use tokensink_oauth::pkce::{CodeChallenge, CodeVerifier, StateParam};
use tokensink_oauth::request::{ClientAuth, Endpoint, RequestError};
use tokensink_oauth::revoke::{self, TokenTypeHint};
use tokensink_oauth::token::{self, RefreshAnswer, TokenGrant};
use tokensink_types::{Account, Body, Secret, TokenSet, UnixMillis};
use url::Url;

use crate::definition::{
    DeviceFlow, Flow, Method, OAuthClient, PkceFlow, RequestShape, RequiredIdentity, SecretSetting, Setting,
};

/// Looks up an environment variable; unset and blank are both `None`.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a request cannot be built from a definition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A variable that the definition names is not set.
    #[error(
        "{what} is taken from the environment, but {name} is not set; set it, for example: export {name}=..."
    )]
    EnvMissing {
        /// What it holds.
        what: &'static str,
        /// The variable.
        name: String,
    },
    /// A variable holds something that cannot be used.
    #[error("{name} from the environment: {message}; {fix}")]
    EnvInvalid {
        /// The variable.
        name: String,
        /// What is wrong.
        message: String,
        /// What to write instead.
        fix: String,
    },
    /// The endpoint has to be discovered first; see [`OAuthClient::metadata_urls`].
    #[error(
        "the {what} is not in the provider definition and was not discovered; add {what} to the definition"
    )]
    Endpoint {
        /// The field.
        what: &'static str,
    },
    /// The request itself is impossible.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Discovered metadata that cannot be trusted with credentials.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{issuer} names {endpoint} as its {what}, which lies outside of {trusted}; \
     if that is right, add its domain to trusted_domains of the login method"
)]
pub struct UntrustedEndpoint {
    /// Who named it.
    pub issuer: String,
    /// The field of the metadata.
    pub what: &'static str,
    /// The endpoint.
    pub endpoint: String,
    /// What is trusted, as text.
    pub trusted: String,
}

/// A login brought tokens, but not whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the token answer does not say the {what} (looked at {pointers} in {sources}); log in again")]
pub struct MissingIdentity {
    /// What is missing.
    pub what: &'static str,
    /// The JSON pointers.
    pub pointers: String,
    /// The documents.
    pub sources: String,
}

/// A client with what stood in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedClient {
    /// The client identifier.
    pub client_id: String,
    /// The client secret of a confidential client.
    pub client_secret: Option<Secret>,
}

impl ResolvedClient {
    fn endpoint<'a>(&'a self, url: &'a Url, shape: &'a RequestShape) -> Endpoint<'a> {
        Endpoint {
            url,
            client: ClientAuth {
                client_id: &self.client_id,
                client_secret: self.client_secret.as_ref(),
            },
            format: shape.format,
            params: &shape.params,
            headers: &shape.headers,
        }
    }
}

impl OAuthClient {
    /// Finds client identifier and secret. `stored` is the client that a stored grant was issued to; it wins, for a
    /// refresh token is bound to its client (RFC 6749 section 6).
    ///
    /// # Errors
    /// When a variable that is needed is not set. A secret that is not set is left out: the client may be public.
    pub fn resolve(&self, env: Env<'_>, stored: Option<&str>) -> Result<ResolvedClient, BuildError> {
        let stored = stored.map(str::trim).filter(|id| !id.is_empty());
        let client_id = match (stored, &self.client_id) {
            (Some(id), _) => id.to_owned(),
            (None, Setting::Literal(id)) => id.clone(),
            (None, Setting::Env(name)) => env(name).ok_or_else(|| BuildError::EnvMissing {
                what: "the client identifier",
                name: name.clone(),
            })?,
        };
        let client_secret = match &self.client_secret {
            Some(SecretSetting::Literal(secret)) => Some(secret.clone()),
            Some(SecretSetting::Env(name)) => env(name).map(Secret::new),
            None => None,
        };
        Ok(ResolvedClient {
            client_id,
            client_secret,
        })
    }

    fn token_url(&self) -> Result<&Url, BuildError> {
        self.token_endpoint.as_ref().ok_or(BuildError::Endpoint {
            what: "token_endpoint",
        })
    }

    /// The request that spends `refresh_token` (RFC 6749 section 6). `stored` as for [`OAuthClient::resolve`].
    ///
    /// # Errors
    /// When the client or the token endpoint is not known, or the token is blank.
    pub fn refresh_request(
        &self,
        refresh_token: &Secret,
        stored: Option<&str>,
        env: Env<'_>,
    ) -> Result<Request<Body>, BuildError> {
        let client = self.resolve(env, stored)?;
        Ok(token::refresh(
            &client.endpoint(self.token_url()?, &self.refresh),
            refresh_token,
        )?)
    }

    /// What the answer to a refresh says, by this provider's terminal errors.
    #[must_use]
    pub fn classify_refresh(&self, response: &Response<Body>, sent: &[&Secret]) -> RefreshAnswer {
        token::classify_refresh(response, &self.terminal_errors, sent)
    }

    /// The request that turns a code into tokens (RFC 6749 section 4.1.3). Give `state` where the server wants it
    /// back; [`PkceFlow::exchange_request`] knows that.
    ///
    /// # Errors
    /// When the client or the token endpoint is not known, or the code is blank.
    pub fn exchange_request(
        &self,
        code: &AuthorizationCode,
        verifier: &CodeVerifier,
        redirect_uri: &str,
        state: Option<&StateParam>,
        env: Env<'_>,
    ) -> Result<Request<Body>, BuildError> {
        let client = self.resolve(env, None)?;
        let endpoint = client.endpoint(self.token_url()?, &self.exchange);
        Ok(token::exchange(&endpoint, code, verifier, redirect_uri, state)?)
    }

    /// The request that ends a grant (RFC 7009); `None` where the provider has no revocation endpoint.
    ///
    /// # Errors
    /// When the client is not known, or the token is blank.
    pub fn revocation_request(
        &self,
        token: &Secret,
        hint: TokenTypeHint,
        stored: Option<&str>,
        env: Env<'_>,
    ) -> Result<Option<Request<Body>>, BuildError> {
        let Some(url) = &self.revocation_endpoint else {
            return Ok(None);
        };
        let client = self.resolve(env, stored)?;
        Ok(Some(revoke::request(
            &client.endpoint(url, &self.revocation),
            token,
            hint,
        )?))
    }

    /// Whether the identity stands in the answer of the userinfo endpoint, which then has to be asked.
    #[must_use]
    pub fn needs_userinfo(&self) -> bool {
        self.identity.from.contains(&IdentitySource::UserInfo)
    }

    /// Whose grant it is. What an earlier source says wins over a later one.
    #[must_use]
    pub fn account(&self, grant: &TokenGrant, userinfo: Option<&serde_json::Value>) -> Account {
        let rules = self.identity.from.iter().map(|from| IdentityRule {
            from: *from,
            account: self.identity.account.clone(),
            email: self.identity.email.clone(),
            plan: self.identity.plan.clone(),
            subject: self.identity.subject.clone(),
        });
        rules
            .map(|rule| extract(&rule, grant, userinfo))
            .fold(Account::default(), |known, next| next.updated_by(&known))
    }

    /// [`OAuthClient::account`] for a login, which fails where the provider needs more than it was told (spec.md
    /// 11.2.8: a ChatGPT token without account id is of no use).
    ///
    /// # Errors
    /// [`MissingIdentity`] with what is missing.
    pub fn login_account(
        &self,
        grant: &TokenGrant,
        userinfo: Option<&serde_json::Value>,
    ) -> Result<Account, MissingIdentity> {
        let account = self.account(grant, userinfo);
        for required in &self.identity.required {
            let (what, value, pointers) = match required {
                RequiredIdentity::Account => ("account id", &account.account_id, &self.identity.account),
                RequiredIdentity::Email => ("e-mail address", &account.email, &self.identity.email),
                RequiredIdentity::Subject => ("subject", &account.subject, &self.identity.subject),
            };
            if value.is_none() {
                return Err(MissingIdentity {
                    what,
                    pointers: pointers.join(", "),
                    sources: self
                        .identity
                        .from
                        .iter()
                        .map(|from| source_words(*from))
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            }
        }
        Ok(account)
    }

    /// The store fields that a token answer brings (`resourceUrl`, ...); a field that it lacks is not in the map.
    #[must_use]
    pub fn store_fields(&self, grant: &TokenGrant) -> BTreeMap<String, String> {
        self.fields
            .iter()
            .filter_map(|(field, pointer)| Some((field.clone(), grant.text(pointer)?)))
            .collect()
    }

    /// The tokens of a login whose token request was sent at `sent_at` (spec.md 8.10).
    #[must_use]
    pub fn first_tokens(&self, grant: &TokenGrant, sent_at: UnixMillis) -> TokenSet {
        merge::first(grant, sent_at, self.default_life, self.expiry_buffer)
    }

    /// The tokens after a refresh that was sent at `sent_at` (RFC 6749 section 6, spec.md 8.10).
    #[must_use]
    pub fn merged_tokens(&self, old: &TokenSet, grant: &TokenGrant, sent_at: UnixMillis) -> TokenSet {
        merge::merge(old, grant, sent_at, self.default_life, self.expiry_buffer)
    }

    /// The scopes to ask for: those of the variable where one is named and set.
    #[must_use]
    pub fn requested_scopes(&self, env: Env<'_>) -> Vec<String> {
        match self.scopes_env.as_deref().and_then(env) {
            Some(text) => text.split_whitespace().map(str::to_owned).collect(),
            None => self.scopes.clone(),
        }
    }

    /// Where to ask for metadata, in this order; empty for a client whose endpoints are all in the definition.
    #[must_use]
    pub fn metadata_urls(&self) -> Vec<Url> {
        match (&self.issuer, &self.token_endpoint) {
            (Some(issuer), None) => well_known_urls(issuer),
            _ => Vec::new(),
        }
    }

    /// Takes what the definition leaves open from `metadata`.
    ///
    /// # Errors
    /// When an endpoint lies on a host that is neither the issuer's nor in a trusted domain: tokens would go there.
    fn complete(&mut self, metadata: &ServerMetadata) -> Result<(), UntrustedEndpoint> {
        self.trust("token_endpoint", Some(&metadata.token_endpoint))?;
        self.trust("revocation_endpoint", metadata.revocation_endpoint.as_ref())?;
        self.trust("userinfo_endpoint", metadata.userinfo_endpoint.as_ref())?;
        self.token_endpoint
            .get_or_insert_with(|| metadata.token_endpoint.clone());
        for (own, found) in [
            (&mut self.revocation_endpoint, &metadata.revocation_endpoint),
            (&mut self.userinfo_endpoint, &metadata.userinfo_endpoint),
        ] {
            if own.is_none() {
                own.clone_from(found);
            }
        }
        Ok(())
    }

    fn trust(&self, what: &'static str, endpoint: Option<&Url>) -> Result<(), UntrustedEndpoint> {
        let (Some(issuer), Some(endpoint)) = (&self.issuer, endpoint) else {
            return Ok(());
        };
        let host = endpoint.host_str().unwrap_or_default().to_lowercase();
        let below = |domain: &String| {
            host == *domain
                || host
                    .strip_suffix(domain.as_str())
                    .is_some_and(|rest| rest.ends_with('.'))
        };
        let same_kind = endpoint.scheme() == issuer.scheme();
        if same_kind && (issuer.host_str() == Some(host.as_str()) || self.trusted_domains.iter().any(below)) {
            return Ok(());
        }
        let mut trusted = vec![issuer.host_str().unwrap_or_default().to_owned()];
        trusted.extend(self.trusted_domains.iter().cloned());
        Err(UntrustedEndpoint {
            issuer: issuer.to_string(),
            what,
            endpoint: endpoint.to_string(),
            trusted: trusted.join(", "),
        })
    }
}

fn source_words(from: IdentitySource) -> &'static str {
    match from {
        IdentitySource::AccessToken => "the access token",
        IdentitySource::IdToken => "the id token",
        IdentitySource::Response => "the answer",
        IdentitySource::UserInfo => "the userinfo answer",
    }
}

impl Method {
    /// The method with the endpoints that its definition leaves open taken from `metadata` (RFC 8414).
    ///
    /// # Errors
    /// [`UntrustedEndpoint`] for an endpoint outside of the issuer's host and the trusted domains.
    pub fn with_metadata(&self, metadata: &ServerMetadata) -> Result<Self, UntrustedEndpoint> {
        let mut method = self.clone();
        match &mut method.flow {
            Flow::Pkce(flow) => {
                let found = &metadata.authorization_endpoint;
                flow.client.trust("authorization_endpoint", found.as_ref())?;
                flow.client.complete(metadata)?;
                if flow.authorization_endpoint.is_none() {
                    flow.authorization_endpoint.clone_from(found);
                }
            }
            Flow::Device(flow) => {
                let found = &metadata.device_authorization_endpoint;
                flow.client
                    .trust("device_authorization_endpoint", found.as_ref())?;
                flow.client.complete(metadata)?;
                if flow.device_authorization_endpoint.is_none() {
                    flow.device_authorization_endpoint.clone_from(found);
                }
            }
            Flow::Token(_) | Flow::ApiKey(_) | Flow::External(_) | Flow::Program(_) => {}
        }
        Ok(method)
    }
}

impl PkceFlow {
    /// The redirect URI to use: that of the variable where one is named and set, else the one of
    /// [`PkceFlow::redirect`].
    ///
    /// # Errors
    /// When the variable holds something that is no redirect URI.
    pub fn redirect_uri(&self, remote: bool, env: Env<'_>) -> Result<String, BuildError> {
        let own = || {
            self.redirect(remote)
                .map(|redirect| redirect.uri.clone())
                .unwrap_or_default()
        };
        let Some(name) = &self.redirect_uri_env else {
            return Ok(own());
        };
        let Some(uri) = env(name) else { return Ok(own()) };
        crate::check_value::check_url(&uri).map_err(|fault| BuildError::EnvInvalid {
            name: name.clone(),
            message: fault.message,
            fix: fault.fix,
        })?;
        Ok(uri)
    }

    /// The URL that the user's browser opens (RFC 6749 section 4.1.1, RFC 7636 section 4.3).
    ///
    /// # Errors
    /// When the client or the authorization endpoint is not known.
    pub fn authorization_url(
        &self,
        redirect_uri: &str,
        challenge: &CodeChallenge,
        state: &StateParam,
        env: Env<'_>,
    ) -> Result<Url, BuildError> {
        let client = self.client.resolve(env, None)?;
        let endpoint = self.authorization_endpoint.as_ref().ok_or(BuildError::Endpoint {
            what: "authorization_endpoint",
        })?;
        let request = AuthorizationRequest {
            endpoint,
            client_id: &client.client_id,
            redirect_uri,
            scopes: &self.client.requested_scopes(env),
            challenge,
            state,
            leading: &self.leading_params,
            extra: &self.authorize_params,
        };
        Ok(request.url())
    }

    /// The request that turns the code into tokens; the state goes along where the server wants it back.
    ///
    /// # Errors
    /// When the client or the token endpoint is not known, or the code is blank.
    pub fn exchange_request(
        &self,
        code: &AuthorizationCode,
        verifier: &CodeVerifier,
        redirect_uri: &str,
        state: &StateParam,
        env: Env<'_>,
    ) -> Result<Request<Body>, BuildError> {
        let state = self.exchange_state.then_some(state);
        self.client
            .exchange_request(code, verifier, redirect_uri, state, env)
    }
}

/// A device login with its client, ready to build requests: [`DeviceLogin::wire`] has them.
#[derive(Debug, Clone)]
pub struct DeviceLogin<'a> {
    authorization_url: &'a Url,
    poll_url: &'a Url,
    client: ResolvedClient,
    scopes: Vec<String>,
    begin: RequestShape,
    poll: RequestShape,
    flow: &'a DeviceFlow,
}

impl DeviceFlow {
    /// Prepares a login: client and scopes are looked up once, so that begin and poll agree.
    ///
    /// # Errors
    /// When the client or an endpoint is not known.
    pub fn login(&self, env: Env<'_>) -> Result<DeviceLogin<'_>, BuildError> {
        let authorization_url = self
            .device_authorization_endpoint
            .as_ref()
            .ok_or(BuildError::Endpoint {
                what: "device_authorization_endpoint",
            })?;
        let poll_url = match &self.poll_endpoint {
            Some(url) => url,
            None => self.client.token_url()?,
        };
        let poll = RequestShape {
            format: self.format,
            params: Vec::new(),
            headers: self.headers.clone(),
        };
        Ok(DeviceLogin {
            authorization_url,
            poll_url,
            client: self.client.resolve(env, None)?,
            scopes: self.client.requested_scopes(env),
            begin: RequestShape {
                params: self.params.clone(),
                ..poll.clone()
            },
            poll,
            flow: self,
        })
    }
}

impl DeviceLogin<'_> {
    /// The flow that builds the requests and reads the answers. Give it a challenge where [`DeviceFlow::pkce`] is
    /// set. A [`device::DevicePoll::Code`] is exchanged with [`OAuthClient::exchange_request`] and the flow's
    /// `redirect_uri`.
    #[must_use]
    pub fn wire(&self) -> device::DeviceFlow<'_> {
        device::DeviceFlow {
            dialect: self.flow.dialect,
            authorization: self.client.endpoint(self.authorization_url, &self.begin),
            poll: self.client.endpoint(self.poll_url, &self.poll),
            scopes: &self.scopes,
            verification_uri: self.flow.verification_uri.as_ref().map(Url::as_str),
        }
    }
}
