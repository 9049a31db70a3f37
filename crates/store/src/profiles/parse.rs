//! From raw entries to credentials (spec.md 2.2, 2.4): which spellings are tolerated, and what is ignored.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};
use tokensink_types::{
    Account, ApiKey, Credential, CredentialKind, Expiry, Labels, OAuth, ProfileId, ProviderId, Secret,
    SecretRef, SecretSource, SecretText, StaticToken, TokenSet,
};

use super::{ProfileEntry, Profiles};
use crate::json::{self as js, SecretMap};

/// An entry that stays in the file and is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: IgnoredReason,
}

/// Why an entry is not used (spec.md 2.4.1; the last two are ours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IgnoredReason {
    /// The entry is no object.
    NonObject,
    /// `type` is none of the three.
    InvalidType,
    /// No `provider`, or a blank one.
    MissingProvider,
    /// `provider` holds characters that no provider id has.
    InvalidProvider,
    /// The key is blank, or names the same profile as another key.
    InvalidId,
}

impl IgnoredReason {
    /// The word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NonObject => "non_object",
            Self::InvalidType => "invalid_type",
            Self::MissingProvider => "missing_provider",
            Self::InvalidProvider => "invalid_provider",
            Self::InvalidId => "invalid_id",
        }
    }
}

/// Text fields of an OAuth entry that belong to the provider and to one login: a later login that does not bring
/// them removes them (spec.md 2.2).
pub(super) const PROVIDER_FIELDS: [&str; 8] = [
    "enterpriseUrl",
    "projectId",
    "resourceUrl",
    "rateLimitTier",
    "tokenEndpoint",
    "deviceAuthorizationEndpoint",
    "issuer",
    "authFlow",
];

/// Fields of an OAuth entry that the typed view has a place for.
const OAUTH_FIELDS: [&str; 14] = [
    "type",
    "mode",
    "provider",
    "access",
    "refresh",
    "expires",
    "idToken",
    "email",
    "displayName",
    "accountId",
    "clientId",
    "chatgptPlanType",
    "subscriptionType",
    "managedBy",
];

/// Fields of any entry that hold a secret or a reference to one.
const SECRET_FIELDS: [&str; 6] = ["access", "refresh", "token", "tokenRef", "key", "keyRef"];

/// The typed view of all entries: the valid ones, then the ignored ones. The secrets are moved out of `profiles`.
pub(super) fn take_entries(profiles: &mut Map<String, Value>) -> Profiles {
    let shadowed: HashSet<String> = profiles
        .keys()
        .filter(|key| key.trim() != *key && profiles.contains_key(key.trim()))
        .cloned()
        .collect();
    let mut found = Profiles {
        entries: Vec::with_capacity(profiles.len()),
        oauth_refs: Vec::new(),
        ignored: Vec::new(),
    };
    let mut seen = HashSet::with_capacity(profiles.len());
    for (key, value) in profiles.iter_mut() {
        let entry = match ProfileId::parse(key) {
            Ok(id) if !shadowed.contains(key) && seen.insert(key.trim()) => {
                let map = value.as_object_mut().ok_or(IgnoredReason::NonObject);
                let refs = map
                    .as_ref()
                    .map_or_else(|_| Vec::new(), |map| fields_with_refs(map));
                map.and_then(take_credential)
                    .inspect(|credential| {
                        if credential.as_oauth().is_some() && !refs.is_empty() {
                            found.oauth_refs.push((id.clone(), refs));
                        }
                    })
                    .map(|credential| ProfileEntry { id, credential })
            }
            Ok(_) | Err(_) => Err(IgnoredReason::InvalidId),
        };
        match entry {
            Ok(entry) => found.entries.push(entry),
            Err(reason) => found.ignored.push(Ignored {
                key: key.clone(),
                reason,
            }),
        }
    }
    found
}

/// The fields for secrets that hold something shaped like a reference: an object, a `${NAME}` text, or the older marker
/// `secretref-env:NAME` (spec.md 4.3, 16.1).
fn fields_with_refs(entry: &Map<String, Value>) -> Vec<String> {
    let is_ref = |value: &Value| match value {
        Value::String(text) => {
            text.trim().starts_with("secretref-env:")
                || matches!(secret_text(text), Some(SecretText::EnvTemplate { .. }))
        }
        other => secret_ref(other).is_some(),
    };
    SECRET_FIELDS
        .into_iter()
        .filter(|field| entry.get(*field).is_some_and(is_ref))
        .map(str::to_owned)
        .collect()
}

/// One entry as a credential.
pub(crate) fn parse_credential(entry: &Map<String, Value>) -> Result<Credential, IgnoredReason> {
    take_credential(&mut SecretMap(entry.clone()).0)
}

/// One entry as a credential; the secrets are moved out of it.
fn take_credential(entry: &mut Map<String, Value>) -> Result<Credential, IgnoredReason> {
    let kind = declared_kind(entry).ok_or(IgnoredReason::InvalidType)?;
    let provider = js::text(entry, "provider").ok_or(IgnoredReason::MissingProvider)?;
    let provider = ProviderId::parse(&provider).map_err(|_| IgnoredReason::InvalidProvider)?;
    Ok(match kind {
        CredentialKind::ApiKey => Credential::ApiKey(api_key(entry, provider)),
        CredentialKind::Token => Credential::Token(static_token(entry, provider)),
        CredentialKind::OAuth => Credential::OAuth(oauth(entry, provider)),
    })
}

/// `type`, or `mode` where `type` is missing (spec.md 2.4.2).
fn declared_kind(entry: &Map<String, Value>) -> Option<CredentialKind> {
    let word = match entry.get("type") {
        Some(word) => word,
        None => entry.get("mode")?,
    };
    CredentialKind::parse(word.as_str()?.trim())
}

fn api_key(entry: &Map<String, Value>, provider: ProviderId) -> ApiKey {
    let value_field = if entry.contains_key("key") {
        "key"
    } else {
        "apiKey"
    };
    let metadata = js::object(entry, "metadata").map_or_else(BTreeMap::new, |map| {
        map.iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    });
    ApiKey {
        provider,
        key: source(entry, value_field, "keyRef"),
        metadata,
        labels: labels(entry),
    }
}

fn static_token(entry: &Map<String, Value>, provider: ProviderId) -> StaticToken {
    StaticToken {
        provider,
        token: source(entry, "token", "tokenRef"),
        expires: expiry(entry.get("expires")),
        labels: labels(entry),
    }
}

fn oauth(entry: &mut Map<String, Value>, provider: ProviderId) -> OAuth {
    let labels = labels(entry);
    let fields = entry
        .iter()
        .filter(|(key, _)| is_provider_field(key))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    OAuth {
        provider,
        tokens: TokenSet {
            access: js::take_secret(entry, "access").unwrap_or_else(|| Secret::new("")),
            refresh: js::take_secret(entry, "refresh"),
            expires: entry.get("expires").and_then(js::millis),
            id_token: js::take_secret(entry, "idToken"),
        },
        account: Account {
            account_id: js::text(entry, "accountId"),
            email: labels.email.clone(),
            subject: None,
            plan: js::text(entry, "chatgptPlanType").or_else(|| js::text(entry, "subscriptionType")),
        },
        client_id: js::text(entry, "clientId"),
        fields,
        labels,
    }
}

/// A text field that may go into a lease header. Names that speak of secrets stay out: these fields are shown.
pub(super) fn is_provider_field(key: &str) -> bool {
    if PROVIDER_FIELDS.contains(&key) {
        return true;
    }
    let lower = key.to_ascii_lowercase();
    let secretive = ["secret", "token", "key", "password", "credential", "cookie"];
    !OAUTH_FIELDS.contains(&key) && !secretive.iter().any(|word| lower.contains(word))
}

fn labels(entry: &Map<String, Value>) -> Labels {
    Labels {
        email: js::text(entry, "email"),
        display_name: js::text(entry, "displayName"),
    }
}

/// Value and reference of a static secret (spec.md 2.4.3): an object in the place of the value is a reference,
/// unless the reference field has a valid one.
fn source(entry: &Map<String, Value>, value_field: &str, ref_field: &str) -> SecretSource {
    let value = entry.get(value_field);
    let reference = entry
        .get(ref_field)
        .and_then(secret_ref)
        .or_else(|| value.and_then(secret_ref));
    SecretSource {
        inline: value.and_then(Value::as_str).and_then(secret_text),
        reference,
    }
}

/// A value that is not blank: plain, or a `${NAME}` template (spec.md 16.1).
pub(crate) fn secret_text(text: &str) -> Option<SecretText> {
    let literal = Secret::new(text);
    if literal.is_blank() {
        return None;
    }
    let name = text
        .trim()
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| is_env_name(name));
    Some(match name {
        Some(name) => SecretText::EnvTemplate {
            name: name.to_owned(),
            literal,
        },
        None => SecretText::Plain(literal),
    })
}

/// A capital letter, then up to 127 capitals, digits and underscores (spec.md 16.1).
fn is_env_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_uppercase())
        && name
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// `{source, provider?, id}` (spec.md 16.1).
pub(crate) fn secret_ref(value: &Value) -> Option<SecretRef> {
    let map = value.as_object()?;
    Some(SecretRef {
        source: js::text(map, "source")?,
        provider: js::text(map, "provider"),
        id: js::text(map, "id")?,
    })
}

fn expiry(value: Option<&Value>) -> Expiry {
    match value {
        None => Expiry::Never,
        Some(value) => match js::millis(value) {
            Some(at) if at.0 > 0 => Expiry::At(at),
            Some(_) | None => Expiry::Invalid,
        },
    }
}

/// An entry of a flat file (`auth.json`, 2.4.4; the flat form of 2.4.6), made into an entry of a store.
#[derive(Debug)]
pub(crate) struct Flat {
    /// `<provider>:default`.
    pub(crate) id: ProfileId,
    /// The entry with `type` and `provider` in place, all other fields kept.
    pub(crate) entry: Map<String, Value>,
    /// Its typed view.
    pub(crate) credential: Credential,
}

/// Reads an entry of a flat file. The credential's own provider wins; without one the key is the provider. A
/// missing `type` follows from the fields that are there.
pub(crate) fn flat_entry(key: &str, value: &Value) -> Result<Flat, IgnoredReason> {
    let source = value.as_object().ok_or(IgnoredReason::NonObject)?;
    let kind = if source.contains_key("type") || source.contains_key("mode") {
        declared_kind(source)
    } else {
        implied_kind(source)
    }
    .ok_or(IgnoredReason::InvalidType)?;
    let provider = js::text(source, "provider").unwrap_or_else(|| key.to_owned());
    let provider = ProviderId::parse(&provider).map_err(|_| IgnoredReason::InvalidProvider)?;
    let mut entry = Map::new();
    entry.insert("type".to_owned(), kind.as_str().into());
    entry.insert("provider".to_owned(), provider.as_str().into());
    for (field, value) in source {
        match field.as_str() {
            "type" | "mode" | "provider" => {}
            "apiKey" if kind == CredentialKind::ApiKey && !source.contains_key("key") => {
                entry.insert("key".to_owned(), value.clone());
            }
            _ => {
                entry.insert(field.clone(), value.clone());
            }
        }
    }
    let credential = parse_credential(&entry)?;
    let id = ProfileId::of(&provider, "default");
    Ok(Flat {
        id,
        entry,
        credential,
    })
}

fn implied_kind(source: &Map<String, Value>) -> Option<CredentialKind> {
    let has = |names: &[&str]| names.iter().any(|name| source.contains_key(*name));
    if has(&["access", "refresh"]) {
        Some(CredentialKind::OAuth)
    } else if has(&["token", "tokenRef"]) {
        Some(CredentialKind::Token)
    } else if has(&["key", "apiKey", "keyRef"]) {
        Some(CredentialKind::ApiKey)
    } else {
        None
    }
}

/// Cleans a pasted key or token (spec.md 2.7.6): line breaks and Unicode line separators go, characters above
/// U+00FF go, the ends are trimmed, inner spaces stay.
#[must_use]
pub fn clean_secret(text: &str) -> String {
    let kept: String = text
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n' | '\u{85}') && u32::from(*c) <= 0xff)
        .collect();
    kept.trim().to_owned()
}
