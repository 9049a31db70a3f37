//! Which login method is meant, and to which one a stored credential belongs.

use thiserror::Error;
use tokensink_types::{BillingClass, CredentialKind, MethodId, ProviderId};

use crate::definition::{ApiShape, Definition, EnvVar, Flow, Method, OAuthClient, Setting};
use crate::problem::nearest;

/// The provider has no such login method.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{provider} has no login method {text:?}{hint}; known are {known}", hint = hint_words(.nearest.as_deref()), known = id_list(.known))]
pub struct UnknownMethod {
    /// The provider.
    pub provider: ProviderId,
    /// What was asked for.
    pub text: String,
    /// The id that looks most like it.
    pub nearest: Option<String>,
    /// The methods there are.
    pub known: Vec<MethodId>,
}

fn hint_words(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

fn id_list(known: &[MethodId]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    known.iter().map(MethodId::as_str).collect::<Vec<_>>().join(", ")
}

impl Method {
    /// By what a grant of this method is kept and renewed: the authorization server's client for kind `pkce` and
    /// `device`, the rules for the program's answers for kind `program`.
    #[must_use]
    pub fn oauth_client(&self) -> Option<&OAuthClient> {
        match &self.flow {
            Flow::Pkce(flow) => Some(&flow.client),
            Flow::Device(flow) => Some(&flow.client),
            Flow::Program(flow) => Some(&flow.client),
            Flow::Token(_) | Flow::ApiKey(_) | Flow::External(_) => None,
        }
    }

    /// The kind of credential that a login leaves in the store; `None` for a login that stays with its program.
    #[must_use]
    pub fn stores(&self) -> Option<CredentialKind> {
        match &self.flow {
            Flow::Token(_) => Some(CredentialKind::Token),
            Flow::ApiKey(_) => Some(CredentialKind::ApiKey),
            Flow::External(_) => None,
            Flow::Pkce(_) | Flow::Device(_) | Flow::Program(_) => {
                self.oauth_client().map(|client| client.stores)
            }
        }
    }

    fn has_client_id(&self, client_id: &str) -> bool {
        self.oauth_client()
            .is_some_and(|client| client.client_id == Setting::Literal(client_id.to_owned()))
    }
}

impl Definition {
    /// The method with this id.
    #[must_use]
    pub fn method(&self, id: &MethodId) -> Option<&Method> {
        self.methods.iter().find(|method| method.id == *id)
    }

    /// The method that a login takes when none is named: the first that is not another program's.
    #[must_use]
    pub fn default_method(&self) -> Option<&Method> {
        self.methods
            .iter()
            .find(|method| !matches!(method.flow, Flow::External(_)))
    }

    /// The method that a user names with `--method`: by id, then by name, in any case (spec.md 14.5).
    ///
    /// # Errors
    /// [`UnknownMethod`] with all ids.
    pub fn method_named(&self, text: &str) -> Result<&Method, UnknownMethod> {
        let text = text.trim();
        let by_id = self
            .methods
            .iter()
            .find(|method| method.id.as_str().eq_ignore_ascii_case(text));
        let by_name = || {
            self.methods
                .iter()
                .find(|method| method.name.eq_ignore_ascii_case(text))
        };
        by_id.or_else(by_name).ok_or_else(|| {
            let ids = self.methods.iter().map(|method| method.id.as_str());
            UnknownMethod {
                provider: self.id.clone(),
                text: text.to_owned(),
                nearest: nearest(text, ids, 1).first().map(|name| (*name).to_owned()),
                known: self.methods.iter().map(|method| method.id.clone()).collect(),
            }
        })
    }

    /// The method that a stored credential belongs to. Among OAuth methods the one of the stored client counts, else
    /// the first. `None` when no method leaves credentials of that kind.
    #[must_use]
    pub fn method_for(&self, kind: CredentialKind, client_id: Option<&str>) -> Option<&Method> {
        let leaves_it = |method: &&Method| method.stores() == Some(kind);
        let pasted = self
            .methods
            .iter()
            .filter(leaves_it)
            .find(|method| matches!(method.flow, Flow::Token(_) | Flow::ApiKey(_)));
        let of_client = client_id.and_then(|client_id| {
            self.methods
                .iter()
                .filter(leaves_it)
                .find(|method| method.has_client_id(client_id))
        });
        pasted
            .or(of_client)
            .or_else(|| self.methods.iter().find(leaves_it))
    }

    /// Where a lease of a stored credential is spent: its method's API, else the provider's.
    #[must_use]
    pub fn api_for(&self, kind: CredentialKind, client_id: Option<&str>) -> &ApiShape {
        self.method_for(kind, client_id)
            .map_or(&self.api, |method| &method.api)
    }

    /// What a request on a stored credential costs, unless the user says otherwise.
    #[must_use]
    pub fn billing_for(&self, kind: CredentialKind, client_id: Option<&str>) -> BillingClass {
        self.method_for(kind, client_id)
            .map_or(self.billing, |method| method.billing)
    }

    /// The client that refreshes what a method logged in: its own, or the one that an external login belongs to.
    #[must_use]
    pub fn refresh_client<'a>(&'a self, method: &'a Method) -> Option<&'a OAuthClient> {
        match &method.flow {
            Flow::External(external) => self.method(external.refresh_with.as_ref()?)?.oauth_client(),
            _ => method.oauth_client(),
        }
    }

    /// The variables that may hold the key or token of `method` for us alone: its own, else those of no method. One
    /// that other programs need too says nothing about what it holds.
    pub fn variables_of<'a>(&'a self, method: &'a Method) -> impl Iterator<Item = &'a EnvVar> {
        // A variable of no method holds an API key, or what a login of another kind than a paste leaves.
        let takes_any = !matches!(method.flow, Flow::Token(_) | Flow::External(_));
        let fits = move |owner: Option<&MethodId>| owner.map_or(takes_any, |owner| *owner == method.id);
        let own = self.env.iter().filter(|variable| !variable.shared);
        own.filter(move |variable| fits(variable.method.as_ref()))
    }

    /// The kind of credential that a variable holds: that of its method, else an API key.
    #[must_use]
    pub fn env_kind(&self, variable: &EnvVar) -> CredentialKind {
        variable
            .method
            .as_ref()
            .and_then(|id| self.method(id))
            .and_then(Method::stores)
            .unwrap_or(CredentialKind::ApiKey)
    }
}
