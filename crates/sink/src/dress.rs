//! From a credential to a lease: the secret with what the provider's definition says about spending it.

use std::sync::Arc;

use tokensink_providers::{Betas, EnvVar};
use tokensink_store::OwnedProfile;
use tokensink_types::{Account, Credential, Secret, UnixMillis};

use crate::grant::Grant;
use crate::lease::{Lease, Spendable};
use crate::sink::Sink;

impl Sink {
    pub(crate) fn grant_lease(&self, profile: &OwnedProfile, grant: &Grant, note: Option<String>) -> Lease {
        let generation = &grant.generation;
        let account = grant.oauth.account.updated_by(&generation.account);
        self.lease(
            profile,
            generation.tokens.access.clone(),
            generation.tokens.expires,
            account,
            note,
        )
    }

    pub(crate) fn lease(
        &self,
        profile: &OwnedProfile,
        secret: Secret,
        expires: Option<UnixMillis>,
        account: Account,
        note: Option<String>,
    ) -> Lease {
        Lease::of(Arc::new(self.spendable(profile, secret, expires, account)), note)
    }

    pub(crate) fn spendable(
        &self,
        profile: &OwnedProfile,
        secret: Secret,
        expires: Option<UnixMillis>,
        account: Account,
    ) -> Spendable {
        let credential = &profile.entry.credential;
        let mut given = Spendable {
            profile: profile.entry.id.clone(),
            owner: profile.owner.clone(),
            inherited: profile.inherited,
            kind: credential.kind(),
            expires,
            billing: self.billing_of(&profile.entry.id, credential),
            base_url: None,
            headers: Vec::new(),
            betas: Betas::default(),
            env_name: None,
            env_secret: None,
            source: format!("profile:{}", profile.entry.id),
            account,
            secret,
            provider: credential.provider().clone(),
        };
        self.dress(&mut given, credential);
        given
    }

    /// Adds what the provider's definition says about spending it.
    fn dress(&self, given: &mut Spendable, credential: &Credential) {
        let Some(definition) = self.registry().get(&given.provider) else {
            return;
        };
        let client_id = credential.as_oauth().and_then(|oauth| oauth.client_id.as_deref());
        let method = definition.method_for(given.kind, client_id);
        let api = method.map_or(&definition.api, |method| &method.api);
        let fields = credential
            .as_oauth()
            .map(|oauth| oauth.fields.clone())
            .unwrap_or_default();
        given.base_url = api
            .base_url
            .as_ref()
            .map(|url| url.as_str().trim_end_matches('/').to_owned());
        given.betas = api.betas();
        match api.lease_headers(&given.secret, &given.account, &fields) {
            Ok(headers) => given.headers = headers,
            Err(error) => tracing::warn!(profile = %given.profile, %error, "the lease has no headers"),
        }
        let by_method =
            |var: &&EnvVar| var.method.is_some() && var.method.as_ref() == method.map(|method| &method.id);
        let fitting = definition.env.iter().find(by_method);
        let by_kind = || {
            definition
                .env
                .iter()
                .find(|var| definition.env_kind(var) == given.kind)
        };
        given.env_name = fitting
            .or_else(by_kind)
            .or(definition.env.first())
            .map(|var| var.name.clone());
    }
}
