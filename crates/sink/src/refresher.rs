//! With what an OAuth profile is refreshed: the method that issued it, its client and its token endpoint.
//!
//! A stored profile does not name its method. What tells it is kept where the definition alone would not find it
//! again: the client identifier, and the token endpoint (`tokenEndpoint`) where several methods share a client or
//! the endpoint was discovered (RFC 8414). A stored endpoint is used only if the definition knows it or trusts its
//! host, so that an edited store cannot send a refresh token elsewhere.

use std::borrow::Cow;
use std::time::Duration;

use tokensink_neighbours::Neighbour;
use tokensink_oauth::metadata::ServerMetadata;
use tokensink_providers::{Definition, Flow, Method, OAuthClient};
use tokensink_types::{CredentialKind, MethodId, OAuth};
use url::Url;

use crate::owner::{Keeper, Target};
use crate::sink::Sink;

/// The field of a stored profile that names its token endpoint.
pub(crate) const ENDPOINT_FIELD: &str = "tokenEndpoint";

/// The definition and client for a grant.
pub(crate) struct Refresher<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) client: Cow<'a, OAuthClient>,
    /// The plugin whose program does it, where the method is of kind `program`.
    pub(crate) program: Option<Program<'a>>,
}

/// A plugin's program and the method that it serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) method: &'a MethodId,
}

fn program_of(method: &Method) -> Option<Program<'_>> {
    match &method.flow {
        Flow::Program(flow) => Some(Program {
            plugin: &flow.plugin,
            method: &method.id,
        }),
        _ => None,
    }
}

impl Sink {
    /// With what the grant is refreshed where it is kept: a login in another program's store by the client of that
    /// program, and with the expiry that the program itself would write. `None` when no definition can refresh it, or
    /// when it may not be refreshed.
    pub(crate) fn refresher_for(&self, target: &Target, oauth: &OAuth) -> Option<Refresher<'_>> {
        match &target.keeper {
            Keeper::Agent => self.refresher_of(oauth),
            Keeper::Borrowed(_) => None,
            Keeper::Cooperative(key) => {
                let neighbour = self.externals().at(key)?.neighbour();
                let definition = self.registry().get(&oauth.provider)?;
                let method = external_method(definition, neighbour)?;
                let mut client = definition.refresh_client(method)?.clone();
                client.expiry_buffer = Duration::ZERO;
                Some(Refresher {
                    definition,
                    client: Cow::Owned(client),
                    program: None,
                })
            }
        }
    }

    /// `None` when no definition can refresh the grant.
    pub(crate) fn refresher_of(&self, oauth: &OAuth) -> Option<Refresher<'_>> {
        let definition = self.registry().get(&oauth.provider)?;
        let stored = oauth
            .fields
            .get(ENDPOINT_FIELD)
            .and_then(|text| Url::parse(text).ok());
        let known = stored.as_ref().and_then(|url| client_at(definition, url));
        if let Some(client) = known {
            return Some(Refresher {
                definition,
                client: Cow::Borrowed(client),
                program: None,
            });
        }
        let method = definition.method_for(CredentialKind::OAuth, oauth.client_id.as_deref())?;
        let client = definition.refresh_client(method)?;
        let discovered = stored
            .filter(|_| client.token_endpoint.is_none())
            .and_then(|url| method.with_metadata(&metadata_of(oauth, url)).ok())
            .and_then(|method| method.oauth_client().cloned());
        Some(Refresher {
            definition,
            client: discovered.map_or(Cow::Borrowed(client), Cow::Owned),
            program: program_of(method),
        })
    }
}

/// Must a grant of `client` carry its endpoint? Yes where the definition alone would choose another one.
pub(crate) fn endpoint_to_store<'a>(definition: &Definition, client: &'a OAuthClient) -> Option<&'a Url> {
    let endpoint = client.token_endpoint.as_ref()?;
    let first = definition
        .method_for(CredentialKind::OAuth, None)
        .and_then(|method| definition.refresh_client(method))?;
    (first.token_endpoint.as_ref() != Some(endpoint)).then_some(endpoint)
}

/// The method of the definition that stands for the login which the program keeps.
pub(crate) fn external_method(definition: &Definition, neighbour: Neighbour) -> Option<&Method> {
    definition
        .methods
        .iter()
        .find(|method| matches!(&method.flow, Flow::External(external) if external.cli == neighbour.as_str()))
}

fn client_at<'a>(definition: &'a Definition, url: &Url) -> Option<&'a OAuthClient> {
    let clients = definition
        .methods
        .iter()
        .filter_map(|method| method.oauth_client());
    clients
        .into_iter()
        .find(|client| client.token_endpoint.as_ref() == Some(url))
}

fn metadata_of(oauth: &OAuth, token_endpoint: Url) -> ServerMetadata {
    ServerMetadata {
        issuer: oauth.fields.get("issuer").cloned().unwrap_or_default(),
        authorization_endpoint: None,
        token_endpoint,
        device_authorization_endpoint: None,
        revocation_endpoint: None,
        userinfo_endpoint: None,
        code_challenge_methods: Vec::new(),
        scopes: Vec::new(),
    }
}
