//! The shape of Claude Code's `.credentials.json` and Keychain item (clients.md 3.1; spec.md 10.1).

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokensink_host::Host;
use tokensink_store::json::{self as js, SecretMap, parse_object};
use tokensink_types::{
    Account, Body, Credential, Expiry, Labels, OAuth, SecretSource, StaticToken, TokenSet, UnixMillis,
};

use crate::{Login, Neighbour, Origin, Place, Reading};

/// The login's section.
pub(crate) const SECTION: &str = "claudeAiOauth";
/// Without this scope or a plan Claude Code does not refresh a login (clients.md 3.1).
const INFERENCE: &str = "user:inference";

/// What the document says. Secrets are moved out of it.
pub(crate) fn parse(document: &mut Map<String, Value>) -> Reading {
    let section = match document.get_mut(SECTION) {
        None | Some(Value::Null) => return Reading::SignedOut,
        Some(Value::Object(section)) => section,
        Some(other) => {
            return Reading::unusable(format!("{SECTION} is {}, not an object", js::kind(other)));
        }
    };
    let Some(provider) = Neighbour::ClaudeCode.provider() else {
        return Reading::unusable("its provider has no id");
    };
    let access = js::take_secret(section, "accessToken").filter(|token| !token.is_blank());
    let refresh = js::take_secret(section, "refreshToken").filter(|token| !token.is_blank());
    let expires = end_of(section.get("expiresAt"));
    let plan = js::text(section, "subscriptionType");
    let scopes = texts(section.get("scopes"));
    let oauth = |access, refresh, expires| {
        Credential::OAuth(OAuth {
            provider: provider.clone(),
            tokens: TokenSet {
                access,
                refresh,
                expires,
                id_token: None,
            },
            account: Account {
                plan: plan.clone(),
                ..Account::default()
            },
            client_id: js::text(section, "clientId"),
            fields: fields(section),
            labels: Labels::default(),
        })
    };
    let describe = |credential| {
        Box::new(Login {
            plan: plan.clone(),
            scopes: scopes.clone(),
            ..Login::of(credential)
        })
    };
    match (access, refresh, expires) {
        (None, None, _) => Reading::Blanked(describe(oauth("".into(), None, None))),
        (None, Some(_), _) => Reading::unusable("accessToken is blank beside a refreshToken"),
        (Some(_), _, Expiry::Invalid) | (Some(_), Some(_), Expiry::Never) => {
            Reading::unusable("expiresAt is no time in milliseconds")
        }
        (Some(access), Some(refresh), Expiry::At(at)) => {
            let mut login = describe(oauth(access, Some(refresh), Some(at)));
            if plan.is_none() && !scopes.iter().any(|scope| scope == INFERENCE) {
                login.only_borrowed = Some(format!(
                    "Claude Code does not refresh a login without the scope {INFERENCE}"
                ));
            }
            Reading::Login(login)
        }
        (Some(access), None, expires) => Reading::Login(describe(Credential::Token(StaticToken {
            provider: provider.clone(),
            token: SecretSource::inline(access),
            expires,
            labels: Labels::default(),
        }))),
    }
}

/// The account that Claude Code last signed in with, by its `.claude.json`. For display only: nothing ties that file
/// to the login, so nothing may be decided by it. Unknown where the file is missing or says nothing.
#[must_use]
pub fn described_account(host: &Host, place: &Place) -> Account {
    let beside = match (place.home(), place.origin) {
        (Some(home), Origin::Default) => home.parent(),
        (home, _) => home,
    };
    let document = beside
        .and_then(|dir| host.files.read(&dir.join(".claude.json")).ok())
        .and_then(|bytes| parse_object(Body::new(bytes).expose()).ok())
        .map(SecretMap);
    let account = document
        .as_ref()
        .and_then(|document| js::object(&document.0, "oauthAccount"));
    let Some(account) = account.filter(|_| place.neighbour == Neighbour::ClaudeCode) else {
        return Account::default();
    };
    Account {
        account_id: js::text(account, "accountUuid"),
        email: js::text(account, "emailAddress"),
        subject: None,
        plan: None,
    }
}

fn end_of(value: Option<&Value>) -> Expiry {
    match value {
        None | Some(Value::Null) => Expiry::Never,
        Some(value) => match js::millis(value) {
            Some(at) if at > UnixMillis(0) => Expiry::At(at),
            Some(_) | None => Expiry::Invalid,
        },
    }
}

fn fields(section: &Map<String, Value>) -> BTreeMap<String, String> {
    let tier = js::text(section, "rateLimitTier").map(|tier| ("rateLimitTier".to_owned(), tier));
    tier.into_iter().collect()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let texts = items.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
