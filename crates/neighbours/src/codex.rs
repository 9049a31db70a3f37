//! The shape of Codex' `auth.json` and Keychain item (clients.md 2.1; spec.md 10.1).

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokensink_host::Host;
use tokensink_oauth::{identity, jwt};
use tokensink_store::json as js;
use tokensink_types::{
    Account, ApiKey, Credential, Labels, OAuth, ProviderId, Secret, SecretSource, TokenSet, UnixMillis,
};

use crate::place::PlaceKind;
use crate::splice::{Edit, quoted};
use crate::{Login, Neighbour, Place, Reading};

/// The tokens' section.
pub(crate) const SECTION: &str = "tokens";
/// Its secrets.
const TOKENS: [&str; 3] = ["id_token", "access_token", "refresh_token"];
/// What an access token is worth that does not say when it ends (spec.md 10.1).
const USUAL_LIFE: Duration = Duration::from_secs(3600);
/// Longest name of a mode that is repeated, in bytes; the longest that Codex has is `chatgptAuthTokens`.
const MODE_MAX: usize = 24;
/// Claims of OpenAI's tokens.
const AUTH_CLAIM: &str = "https://api.openai.com/auth";
const PROFILE_CLAIM: &str = "https://api.openai.com/profile";

/// What the document says, written at `written`. Secrets are moved out of it.
pub(crate) fn parse(document: &mut Map<String, Value>, written: UnixMillis) -> Reading {
    let key = js::take_secret(document, "OPENAI_API_KEY").filter(|key| !key.is_blank());
    let mode = js::text(document, "auth_mode");
    let implied = if key.is_some() { "apikey" } else { "chatgpt" };
    let mode = mode.as_deref().unwrap_or(implied);
    if mode == "apikey" {
        return key.map_or(Reading::SignedOut, api_key);
    }
    let refreshed = js::text(document, "last_refresh")
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map(|at| UnixMillis(at.as_millisecond()));
    let tokens = match document.get_mut(SECTION) {
        None | Some(Value::Null) if mode == "chatgpt" => return Reading::SignedOut,
        None | Some(Value::Null) => {
            return Reading::unusable(format!("{} without tokens is not known", told(mode)));
        }
        Some(Value::Object(tokens)) => tokens,
        Some(other) => {
            return Reading::unusable(format!("{SECTION} is {}, not an object", js::kind(other)));
        }
    };
    let frame = frame_of(mode, tokens);
    let mut reading = chatgpt(tokens, refreshed.unwrap_or(written));
    let (Reading::Login(login) | Reading::Blanked(login)) = &mut reading else {
        return reading;
    };
    login.frame = frame;
    if mode != "chatgpt" {
        login.only_borrowed = Some(format!("{} is not Codex' own ChatGPT login", told(mode)));
    }
    reading
}

/// Names the mode, if it looks like a name: what else may stand there is not repeated, it may be a token that somebody
/// put into the wrong place.
fn told(mode: &str) -> String {
    let is_name = mode.len() <= MODE_MAX && mode.chars().all(|c| c.is_ascii_alphabetic());
    if is_name {
        format!("auth_mode {mode:?}")
    } else {
        "an auth_mode that is no name".to_owned()
    }
}

fn api_key(key: Secret) -> Reading {
    ProviderId::parse("openai").map_or_else(
        |error| Reading::unusable(error.to_string()),
        |provider| {
            Reading::Login(Box::new(Login::of(Credential::ApiKey(ApiKey {
                provider,
                key: SecretSource::inline(key),
                metadata: BTreeMap::new(),
                labels: Labels::default(),
            }))))
        },
    )
}

fn chatgpt(tokens: &mut Map<String, Value>, refreshed: UnixMillis) -> Reading {
    let Some(provider) = Neighbour::Codex.provider() else {
        return Reading::unusable("its provider has no id");
    };
    let access = js::take_secret(tokens, "access_token").filter(|token| !token.is_blank());
    let refresh = js::take_secret(tokens, "refresh_token").filter(|token| !token.is_blank());
    let id_token = js::take_secret(tokens, "id_token").filter(|token| !token.is_blank());
    let is_blanked = access.is_none() && refresh.is_none();
    let (access, refresh) = match (access, refresh) {
        (None, None) => ("".into(), None),
        (Some(access), Some(refresh)) => (access, Some(refresh)),
        (None, Some(_)) => return Reading::unusable("access_token is blank beside a refresh_token"),
        (Some(_), None) => return Reading::unusable("refresh_token is blank beside an access_token"),
    };
    let account = account_of(&access, id_token.as_ref(), js::text(tokens, "account_id"));
    let expires = jwt::expires(&access).unwrap_or_else(|| refreshed.plus(USUAL_LIFE));
    let login = Box::new(Login {
        plan: account.plan.clone(),
        ..Login::of(Credential::OAuth(OAuth {
            provider,
            labels: Labels {
                email: account.email.clone(),
                display_name: None,
            },
            account,
            tokens: TokenSet {
                access,
                refresh,
                expires: (!is_blanked).then_some(expires),
                id_token,
            },
            client_id: None,
            fields: BTreeMap::new(),
        }))
    });
    if is_blanked {
        Reading::Blanked(login)
    } else {
        Reading::Login(login)
    }
}

/// Whose the tokens are: the access token's claims before the id token's, as the provider definition reads them.
fn account_of(access: &Secret, id_token: Option<&Secret>, account_id: Option<String>) -> Account {
    let claims: Vec<Map<String, Value>> = [jwt::claims(access), id_token.and_then(jwt::claims)]
        .into_iter()
        .flatten()
        .collect();
    let first = |read: &dyn Fn(&Map<String, Value>) -> Option<String>| claims.iter().find_map(read);
    let nested = |section: &'static str, name: &'static str| {
        first(&|claims| js::text(js::object(claims, section)?, name))
    };
    Account {
        account_id: account_id.or_else(|| nested(AUTH_CLAIM, "chatgpt_account_id")),
        email: nested(PROFILE_CLAIM, "email").or_else(|| first(&|claims| js::text(claims, "email"))),
        subject: first(&identity::stable_subject),
        plan: nested(AUTH_CLAIM, "chatgpt_plan_type"),
    }
}

/// The mode, and the tokens' section without its secrets.
fn frame_of(mode: &str, tokens: &Map<String, Value>) -> Secret {
    let rest: Map<String, Value> = tokens
        .iter()
        .filter(|(key, _)| !TOKENS.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Secret::new(json!({"auth_mode": mode, SECTION: rest}).to_string())
}

/// Does the document hold anything but this login?
pub(crate) fn holds_more(document: &Map<String, Value>) -> bool {
    let ours = ["auth_mode", SECTION, "last_refresh"];
    document
        .iter()
        .any(|(key, value)| !value.is_null() && !ours.contains(&key.as_str()))
}

/// The parts of a document for `oauth`, in Codex' order.
///
/// # Errors
/// When there is nothing that Codex could read the account from.
pub(crate) fn sections(
    oauth: &OAuth,
    mut frame: Map<String, Value>,
    now: UnixMillis,
) -> Result<Vec<(&'static str, Value)>, &'static str> {
    // Codex reads only claims from the id token, and the access token has the same.
    let access_claims = jwt::claims(&oauth.tokens.access).map(|_| &oauth.tokens.access);
    let id_token = oauth.tokens.id_token.as_ref().or(access_claims);
    let id_token = id_token.ok_or("Codex wants an id token, and none was kept with this login")?;
    let refresh = oauth.tokens.refresh_token().map(Secret::expose);
    let mut tokens = Map::new();
    tokens.insert(TOKENS[0].to_owned(), id_token.expose().into());
    tokens.insert(TOKENS[1].to_owned(), oauth.tokens.access.expose().into());
    tokens.insert(TOKENS[2].to_owned(), refresh.into());
    if let Some(Value::Object(rest)) = js::take(&mut frame, SECTION) {
        tokens.extend(rest);
    }
    if !tokens.contains_key("account_id") {
        let account = oauth.account.account_id.as_deref();
        tokens.insert("account_id".to_owned(), account.into());
    }
    let mode = js::text(&frame, "auth_mode").unwrap_or_else(|| "chatgpt".to_owned());
    Ok(vec![
        ("auth_mode", mode.into()),
        (SECTION, Value::Object(tokens)),
        ("last_refresh", timestamp(now).into()),
    ])
}

/// RFC 3339 with nanoseconds, in UTC.
fn timestamp(at: UnixMillis) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(format!("{at:.9}"))
}

/// The edits that make the login say what `next` says, refreshed at `now` (clients.md 2.1).
pub(crate) fn token_edits(next: &OAuth, now: UnixMillis) -> Vec<Edit<'static>> {
    let mut edits = vec![Edit::Set(
        &[SECTION, "access_token"],
        quoted(next.tokens.access.expose()),
    )];
    if let Some(id_token) = &next.tokens.id_token {
        edits.push(Edit::Set(&[SECTION, "id_token"], quoted(id_token.expose())));
    }
    if let Some(refresh) = next.tokens.refresh_token() {
        edits.push(Edit::Set(&[SECTION, "refresh_token"], quoted(refresh.expose())));
    }
    if let Some(at) = timestamp(now) {
        edits.push(Edit::Set(&["last_refresh"], quoted(&at)));
    }
    edits
}

/// Why `auth.json` is not what Codex goes by: `cli_auth_credentials_store` in its `config.toml` names another store
/// (clients.md 2.1), or cannot be read. `None` for the file store. How
/// Codex locks its Keychain item is not known.
pub(crate) fn other_store(host: &Host, place: &Place) -> Option<String> {
    let PlaceKind::File { path, .. } = &place.kind else {
        return Some("it is not known by which locks Codex writes its Keychain item".to_owned());
    };
    let config = path.parent()?.join("config.toml");
    let store = match host.files.read(&config) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(_) => None,
        Ok(bytes) => String::from_utf8(bytes).ok(),
    };
    match store.map(|text| configured_store(&text)) {
        Some(Ok(store)) if store == "file" => None,
        Some(Ok(store)) => Some(format!(
            "{} says cli_auth_credentials_store = {store:?}, so auth.json may not be what Codex uses",
            config.display()
        )),
        Some(Err(())) | None => Some(format!(
            "{} cannot be read, so it is not known where Codex keeps its login",
            config.display()
        )),
    }
}

fn configured_store(config: &str) -> Result<String, ()> {
    let config: toml_edit::DocumentMut = config.parse().map_err(drop)?;
    let store = config
        .get("cli_auth_credentials_store")
        .map_or(Some("file"), toml_edit::Item::as_str);
    store.map(str::to_owned).ok_or(())
}
