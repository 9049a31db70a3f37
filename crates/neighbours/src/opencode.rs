//! opencode's `auth.json`: an object of one entry per provider (clients.md 6).

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokensink_store::json as js;
use tokensink_types::{
    Account, ApiKey, Credential, Expiry, Labels, OAuth, ProviderId, Secret, SecretSource, StaticToken,
    TokenSet, UnixMillis,
};

use crate::{Login, Named, Place, Reading};

/// Every entry, in the file's order. Secrets are moved out of the document.
pub(crate) fn parse(document: &mut Map<String, Value>) -> Vec<Named> {
    let entries = document.iter_mut().map(|(name, value)| {
        let Value::Object(entry) = value else {
            let reason = format!("{name:?} is {}, not an object", js::kind(value));
            return named(name, None, Reading::unusable(reason));
        };
        let kind = js::text(entry, "type").unwrap_or_default();
        let Some(provider) = provider_of(name, &kind) else {
            return named(
                name,
                None,
                Reading::unusable(format!("{name:?} is no provider id")),
            );
        };
        let reading = match kind.as_str() {
            "oauth" => oauth(entry, &provider),
            "api" => api(entry, &provider),
            _ => Reading::unusable(format!("{name:?} has the type {kind:?}, which is not known")),
        };
        named(name, Some(provider), reading)
    });
    entries.collect()
}

/// The reading of a store as a whole: its only login, or why there is none to name.
pub(crate) fn only(place: &Place, mut all: Vec<Named>) -> Reading {
    match all.len() {
        0 => Reading::SignedOut,
        1 => all.remove(0).reading,
        count => Reading::unusable(format!(
            "{place} holds {count} logins; choose among them with `tokensink import opencode`"
        )),
    }
}

fn named(name: &str, provider: Option<ProviderId>, reading: Reading) -> Named {
    Named {
        name: name.to_owned(),
        provider,
        reading,
    }
}

/// opencode names providers as the models.dev catalogue does; a ChatGPT login stands under `openai` there.
fn provider_of(name: &str, kind: &str) -> Option<ProviderId> {
    let ours = match (name, kind) {
        ("openai", "oauth") => "openai-codex",
        (name, _) => name,
    };
    ProviderId::parse(ours).ok()
}

fn oauth(entry: &mut Map<String, Value>, provider: &ProviderId) -> Reading {
    let access = js::take_secret(entry, "access").filter(|token| !token.is_blank());
    let refresh = js::take_secret(entry, "refresh").filter(|token| !token.is_blank());
    let expires = entry
        .get("expires")
        .and_then(js::millis)
        .filter(|at| *at > UnixMillis(0));
    // GitHub's token is exchanged for each use and never refreshed: opencode keeps it as the refresh token.
    if provider.as_str() == "github-copilot"
        && let Some(token) = &refresh
    {
        return Reading::Login(Box::new(Login::of(static_token(token.clone(), provider))));
    }
    let account = Account {
        account_id: js::text(entry, "accountId"),
        ..Account::default()
    };
    let enterprise = js::text(entry, "enterpriseUrl").map(|url| ("enterpriseUrl".to_owned(), url));
    let is_blanked = access.is_none() && refresh.is_none();
    if !is_blanked && (access.is_none() || expires.is_none()) {
        return Reading::unusable("access and expires do not both hold something");
    }
    let login = Box::new(Login::of(Credential::OAuth(OAuth {
        provider: provider.clone(),
        tokens: TokenSet {
            access: access.unwrap_or_else(|| "".into()),
            refresh,
            expires,
            id_token: None,
        },
        account,
        client_id: None,
        fields: enterprise.into_iter().collect::<BTreeMap<_, _>>(),
        labels: Labels::default(),
    })));
    if is_blanked {
        Reading::Blanked(login)
    } else {
        Reading::Login(login)
    }
}

fn static_token(token: Secret, provider: &ProviderId) -> Credential {
    Credential::Token(StaticToken {
        provider: provider.clone(),
        token: SecretSource::inline(token),
        expires: Expiry::Never,
        labels: Labels::default(),
    })
}

fn api(entry: &mut Map<String, Value>, provider: &ProviderId) -> Reading {
    let key = js::take_secret(entry, "key").filter(|key| !key.is_blank());
    let metadata = js::object(entry, "metadata").map_or_else(BTreeMap::new, |metadata| {
        let texts = metadata
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        texts.collect()
    });
    key.map_or(Reading::SignedOut, |key| {
        Reading::Login(Box::new(Login::of(Credential::ApiKey(ApiKey {
            provider: provider.clone(),
            key: SecretSource::inline(key),
            metadata,
            labels: Labels::default(),
        }))))
    })
}
