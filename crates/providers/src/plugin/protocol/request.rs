//! What a program is asked: its own settings and, where it is about a grant, that profile's own tokens. Nothing else
//! of ours is in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokensink_types::{Account, Body, MethodId, ProfileId, ProviderId, Secret, TokenSet};

use super::Action;

/// A request to a program.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The version that both speak.
    pub version: u32,
    /// The provider.
    pub provider: &'a ProviderId,
    /// The login method.
    pub method: &'a MethodId,
    /// The profile, where there is one already.
    pub profile: Option<&'a ProfileId>,
    /// The plugin's settings.
    pub settings: &'a BTreeMap<String, String>,
    /// The tokens of the profile, for every action but login.
    pub tokens: Option<&'a TokenSet>,
    /// Whose they are, as far as that is known.
    pub account: Option<&'a Account>,
    /// The provider's own fields of the profile.
    pub fields: Option<&'a BTreeMap<String, String>>,
    /// Somebody can answer questions.
    pub interactive: bool,
}

impl Request<'_> {
    /// The line, with its end.
    pub(super) fn line(&self, action: Action) -> Body {
        let mut line = json!({
            "type": "request",
            "version": self.version,
            "action": action.as_str(),
            "provider": self.provider.as_str(),
            "method": self.method.as_str(),
            "interactive": self.interactive,
            "settings": self.settings,
        });
        if let Some(profile) = self.profile {
            line["profile"] = profile.as_str().into();
        }
        if let Some(tokens) = self.tokens {
            line["tokens"] = tokens_value(tokens);
        }
        if let Some(account) = self.account {
            line["account"] = account_value(account);
        }
        if let Some(fields) = self.fields {
            line["fields"] = json!(fields);
        }
        Body::new(format!("{line}\n"))
    }

    /// Every secret in the line.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let tokens = self.tokens.into_iter();
        tokens.flat_map(|tokens| {
            let access = Some(&tokens.access);
            [access, tokens.refresh.as_ref(), tokens.id_token.as_ref()]
                .into_iter()
                .flatten()
        })
    }
}

/// Tokens under their names in RFC 6749; `expires_at` is in seconds since the epoch.
fn tokens_value(tokens: &TokenSet) -> Value {
    let mut value = Map::new();
    value.insert("access_token".to_owned(), tokens.access.expose().into());
    let secrets = [("refresh_token", &tokens.refresh), ("id_token", &tokens.id_token)];
    for (name, secret) in secrets {
        if let Some(secret) = secret {
            value.insert(name.to_owned(), secret.expose().into());
        }
    }
    if let Some(at) = tokens.expires {
        value.insert("expires_at".to_owned(), at.0.div_euclid(1000).into());
    }
    Value::Object(value)
}

fn account_value(account: &Account) -> Value {
    let pairs = [
        ("id", &account.account_id),
        ("email", &account.email),
        ("subject", &account.subject),
        ("plan", &account.plan),
    ];
    let known = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.as_ref()?.as_str()))));
    Value::Object(known.collect())
}
