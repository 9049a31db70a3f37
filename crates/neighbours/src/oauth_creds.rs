//! `oauth_creds.json` of Qwen Code, Gemini CLI and MiniMax (clients.md 6; spec.md 10.1): all three kept the shape of
//! Google's auth library.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokensink_oauth::{identity, jwt};
use tokensink_store::json as js;
use tokensink_types::{Account, Credential, Labels, OAuth, TokenSet, UnixMillis};

use crate::{Login, Neighbour, Reading};

/// What the document says. Secrets are moved out of it.
pub(crate) fn parse(neighbour: Neighbour, document: &mut Map<String, Value>) -> Reading {
    let Some(provider) = neighbour.provider() else {
        return Reading::unusable("its provider has no id");
    };
    if !["access_token", "refresh_token", "expiry_date"]
        .iter()
        .any(|key| document.contains_key(*key))
    {
        return Reading::SignedOut;
    }
    let access = js::take_secret(document, "access_token").filter(|token| !token.is_blank());
    let refresh = js::take_secret(document, "refresh_token").filter(|token| !token.is_blank());
    let id_token = js::take_secret(document, "id_token").filter(|token| !token.is_blank());
    let expires = document
        .get("expiry_date")
        .and_then(js::millis)
        .filter(|at| *at > UnixMillis(0));
    let is_blanked = access.is_none() && refresh.is_none();
    if !is_blanked && (access.is_none() || refresh.is_none() || expires.is_none()) {
        return Reading::unusable("access_token, refresh_token and expiry_date do not all hold something");
    }
    let claims = id_token.as_ref().and_then(jwt::claims).unwrap_or_default();
    let account = Account {
        email: js::text(&claims, "email"),
        subject: identity::stable_subject(&claims),
        ..Account::default()
    };
    let resource = js::text(document, "resource_url").map(|url| ("resourceUrl".to_owned(), url));
    let scopes = js::text(document, "scope").unwrap_or_default();
    let login = Box::new(Login {
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        ..Login::of(Credential::OAuth(OAuth {
            provider,
            labels: Labels {
                email: account.email.clone(),
                display_name: None,
            },
            account,
            tokens: TokenSet {
                access: access.unwrap_or_else(|| "".into()),
                refresh,
                expires,
                id_token,
            },
            client_id: None,
            fields: resource.into_iter().collect::<BTreeMap<_, _>>(),
        }))
    });
    if is_blanked {
        Reading::Blanked(login)
    } else {
        Reading::Login(login)
    }
}
