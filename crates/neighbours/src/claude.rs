//! The shape of Claude Code's `.credentials.json` and Keychain item (clients.md 3.1; spec.md 10.1).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokensink_host::Host;
use tokensink_store::json::{self as js, SecretMap, parse_object};
use tokensink_types::{
    Account, Body, Credential, Expiry, Labels, OAuth, ProviderId, Secret, SecretSource, StaticToken,
    TokenSet, UnixMillis,
};

use crate::splice::{Edit, quoted};
use crate::{Login, Neighbour, Origin, Place, Reading};

/// The login's section.
pub(crate) const SECTION: &str = "claudeAiOauth";
/// Without this scope or a plan Claude Code does not refresh a login (clients.md 3.1).
const INFERENCE: &str = "user:inference";
/// The fields of the tokens.
const TOKENS: [&str; 3] = ["accessToken", "refreshToken", "expiresAt"];
/// The scopes of a login that does not know its own: those that every login has (clients.md 4).
const USUAL_SCOPES: &str = "user:inference user:profile";

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
    let oauth = |access, refresh, expires| {
        let tokens = TokenSet {
            access,
            refresh,
            expires,
            id_token: None,
        };
        describe(
            section,
            Credential::OAuth(grant_of(section, provider.clone(), tokens)),
        )
    };
    match (access, refresh, end_of(section.get("expiresAt"))) {
        (None, None, _) => Reading::Blanked(oauth("".into(), None, None)),
        (None, Some(_), _) => Reading::unusable("accessToken is blank beside a refreshToken"),
        (Some(_), _, Expiry::Invalid) | (Some(_), Some(_), Expiry::Never) => {
            Reading::unusable("expiresAt is no time in milliseconds")
        }
        (Some(access), Some(refresh), Expiry::At(at)) => {
            let mut login = oauth(access, Some(refresh), Some(at));
            if login.plan.is_none() && !login.scopes.iter().any(|scope| scope == INFERENCE) {
                login.only_borrowed = Some(format!(
                    "Claude Code does not refresh a login without the scope {INFERENCE}"
                ));
            }
            Reading::Login(login)
        }
        (Some(access), None, expires) => {
            let token = StaticToken {
                provider,
                token: SecretSource::inline(access),
                expires,
                labels: Labels::default(),
            };
            Reading::Login(describe(section, Credential::Token(token)))
        }
    }
}

fn grant_of(section: &Map<String, Value>, provider: ProviderId, tokens: TokenSet) -> OAuth {
    OAuth {
        provider,
        tokens,
        account: Account {
            plan: js::text(section, "subscriptionType"),
            ..Account::default()
        },
        client_id: js::text(section, "clientId"),
        fields: fields(section),
        labels: Labels::default(),
    }
}

fn describe(section: &Map<String, Value>, credential: Credential) -> Box<Login> {
    Box::new(Login {
        plan: js::text(section, "subscriptionType"),
        scopes: texts(section.get("scopes")),
        frame: frame_of(section),
        ..Login::of(credential)
    })
}

/// The section without its tokens.
fn frame_of(section: &Map<String, Value>) -> Secret {
    let rest = section
        .iter()
        .filter(|(key, _)| !TOKENS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()));
    Secret::new(Value::Object(rest.collect()).to_string())
}

/// A section of its own for `oauth`: its tokens, then what the frame says. Without scopes Claude Code would not take it
/// for a login of its own (clients.md 3.1).
pub(crate) fn section(oauth: &OAuth, frame: Map<String, Value>) -> Value {
    let mut section = Map::new();
    let refresh = oauth.tokens.refresh_token().map(Secret::expose);
    section.insert(TOKENS[0].to_owned(), oauth.tokens.access.expose().into());
    section.insert(TOKENS[1].to_owned(), refresh.into());
    section.insert(TOKENS[2].to_owned(), oauth.tokens.expires.map(|at| at.0).into());
    section.extend(frame);
    if !section.contains_key("scopes") {
        let scopes = oauth.fields.get("scope").map_or(USUAL_SCOPES, String::as_str);
        let scopes: Vec<&str> = scopes.split_whitespace().collect();
        section.insert("scopes".to_owned(), scopes.into());
    }
    if let Some(plan) = &oauth.account.plan
        && !section.contains_key("subscriptionType")
    {
        section.insert("subscriptionType".to_owned(), plan.as_str().into());
    }
    Value::Object(section)
}

/// The edits that make the login say what `next` says (clients.md 3.1): the tokens and their end, and what a refresh
/// may change besides, where the caller has it among the fields.
pub(crate) fn token_edits(next: &OAuth, login: &Login) -> Vec<Edit<'static>> {
    let mut edits = vec![Edit::Set(
        &[SECTION, "accessToken"],
        quoted(next.tokens.access.expose()),
    )];
    if let Some(refresh) = next.tokens.refresh_token() {
        edits.push(Edit::Set(&[SECTION, "refreshToken"], quoted(refresh.expose())));
    }
    if let Some(expires) = next.tokens.expires {
        edits.push(Edit::Set(&[SECTION, "expiresAt"], expires.to_string().into()));
    }
    let scopes: Option<Vec<&str>> = next
        .fields
        .get("scope")
        .map(|scope| scope.split_whitespace().collect());
    if let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty() && !is_same_set(scopes, &login.scopes)) {
        edits.push(Edit::Set(
            &[SECTION, "scopes"],
            Value::from(scopes).to_string().into(),
        ));
    }
    let end = next
        .fields
        .get("refreshTokenExpiresAt")
        .and_then(|end| end.parse::<i64>().ok());
    if let Some(end) = end {
        edits.push(Edit::Set(
            &[SECTION, "refreshTokenExpiresAt"],
            end.to_string().into(),
        ));
    }
    edits
}

fn is_same_set(some: &[&str], others: &[String]) -> bool {
    some.len() == others.len() && some.iter().all(|one| others.iter().any(|other| other == one))
}

/// The account that Claude Code last signed in with, by its `.claude.json`. Nothing ties that file to the login, so it
/// may be shown, and be a reason to leave a login alone, but never one to use it. Unknown where the file is missing or
/// says nothing.
#[must_use]
pub fn described_account(host: &Host, place: &Place) -> Account {
    let home = place.home();
    // Beside the usual home, and inside of one that is configured; of one that was named we know only the name.
    let beside = home
        .filter(|home| place.origin == Origin::Default || home.ends_with(".claude"))
        .and_then(Path::parent);
    let inside = home.filter(|_| place.origin != Origin::Default);
    let document = [inside, beside]
        .into_iter()
        .flatten()
        .find_map(|dir| host.files.read(&dir.join(".claude.json")).ok())
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
