//! From credentials to raw entries. A known field is touched only where the credential differs from what the entry
//! says; unknown fields are never touched.
//!
//! What a credential does not say is removed only where a loaded credential always carries it and a login that
//! lacks it means its absence (account, client, fields of one provider). Names given by the user, and labels of
//! static secrets, stay.

use serde_json::{Map, Value, json};
use tokensink_types::{
    ApiKey, Credential, Expiry, OAuth, Secret, SecretRef, SecretSource, SecretText, StaticToken, UnixMillis,
};

use super::parse::{self, PROVIDER_FIELDS, clean_secret, parse_credential};
use crate::json as js;

/// A new entry, with the fields in the order that OpenClaw writes them (openclaw-live.md 3).
pub(super) fn fresh(credential: &Credential) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("type".to_owned(), credential.kind().as_str().into());
    entry.insert("provider".to_owned(), credential.provider().as_str().into());
    write_fields(&mut entry, credential, None);
    entry
}

/// Brings an existing entry to say what `credential` says.
pub(super) fn patch(entry: &mut Map<String, Value>, credential: &Credential) {
    let old = parse_credential(entry).ok();
    let kind = credential.kind();
    if old.as_ref().map(Credential::kind) != Some(kind) {
        drop_secrets(entry);
    }
    if old.as_ref().map(Credential::kind) != Some(kind) || !entry.contains_key("type") {
        rename(entry, "mode", "type");
        entry.insert("type".to_owned(), kind.as_str().into());
    }
    if old.as_ref().map(Credential::provider) != Some(credential.provider()) {
        entry.insert("provider".to_owned(), credential.provider().as_str().into());
    }
    let same_kind = old.filter(|old| old.kind() == kind);
    write_fields(entry, credential, same_kind.as_ref());
}

fn write_fields(entry: &mut Map<String, Value>, credential: &Credential, old: Option<&Credential>) {
    match (credential, old) {
        (Credential::ApiKey(new), Some(Credential::ApiKey(old))) => write_api_key(entry, new, Some(old)),
        (Credential::ApiKey(new), _) => write_api_key(entry, new, None),
        (Credential::Token(new), Some(Credential::Token(old))) => write_token(entry, new, Some(old)),
        (Credential::Token(new), _) => write_token(entry, new, None),
        (Credential::OAuth(new), Some(Credential::OAuth(old))) => write_oauth(entry, new, Some(old)),
        (Credential::OAuth(new), _) => write_oauth(entry, new, None),
    }
}

fn write_api_key(entry: &mut Map<String, Value>, new: &ApiKey, old: Option<&ApiKey>) {
    if !entry.contains_key("key") {
        rename(entry, "apiKey", "key");
    }
    write_source(entry, "key", "keyRef", &new.key, old.map(|old| &old.key));
    put(entry, "email", new.labels.email.as_deref());
    put(entry, "displayName", new.labels.display_name.as_deref());
    if !new.metadata.is_empty() {
        let metadata = js::object_at(entry, "metadata");
        for (key, value) in &new.metadata {
            put(metadata, key, Some(value));
        }
    }
}

fn write_token(entry: &mut Map<String, Value>, new: &StaticToken, old: Option<&StaticToken>) {
    write_source(entry, "token", "tokenRef", &new.token, old.map(|old| &old.token));
    if old.is_none_or(|old| old.expires != new.expires) {
        match new.expires {
            Expiry::Never => {
                js::take(entry, "expires");
            }
            Expiry::At(at) => put_millis(entry, "expires", at),
            // There is nothing sensible to write; what the file has stays.
            Expiry::Invalid => {}
        }
    }
    put(entry, "email", new.labels.email.as_deref());
    put(entry, "displayName", new.labels.display_name.as_deref());
}

fn write_oauth(entry: &mut Map<String, Value>, new: &OAuth, old: Option<&OAuth>) {
    let email = new.labels.email.as_ref().or(new.account.email.as_ref());
    let old_email = old.and_then(|old| old.labels.email.as_ref());
    put_or_drop(entry, "email", email, old_email);
    put_secret(
        entry,
        "access",
        Some(&new.tokens.access),
        old.map(|old| &old.tokens.access),
    );
    let old_refresh = old.and_then(|old| old.tokens.refresh.as_ref());
    put_secret(entry, "refresh", new.tokens.refresh.as_ref(), old_refresh);
    let old_account = old.and_then(|old| old.account.account_id.as_ref());
    put_or_drop(entry, "accountId", new.account.account_id.as_ref(), old_account);
    let old_expires = old.and_then(|old| old.tokens.expires);
    match new.tokens.expires {
        Some(at) if old_expires == Some(at) => {}
        Some(at) => put_millis(entry, "expires", at),
        None if old_expires.is_some() => {
            js::take(entry, "expires");
        }
        None => {}
    }
    let old_id_token = old.and_then(|old| old.tokens.id_token.as_ref());
    put_secret(entry, "idToken", new.tokens.id_token.as_ref(), old_id_token);
    let plan_field = plan_field(entry, new);
    let old_plan = old.and_then(|old| old.account.plan.as_ref());
    put_or_drop(entry, plan_field, new.account.plan.as_ref(), old_plan);
    let old_client = old.and_then(|old| old.client_id.as_ref());
    put_or_drop(entry, "clientId", new.client_id.as_ref(), old_client);
    write_provider_fields(entry, new, old);
    put(entry, "displayName", new.labels.display_name.as_deref());
}

fn write_provider_fields(entry: &mut Map<String, Value>, new: &OAuth, old: Option<&OAuth>) {
    for field in PROVIDER_FIELDS {
        let had = old.is_some_and(|old| old.fields.contains_key(field));
        if had && !new.fields.contains_key(field) {
            js::take(entry, field);
        }
    }
    for (field, value) in &new.fields {
        // A field that the typed view would not read back must not be written under a name of its own.
        if parse::is_provider_field(field) {
            put(entry, field, Some(value));
        }
    }
}

/// The plan's field: where one is, it stays; else ChatGPT's name for ChatGPT and the general one for others.
fn plan_field(entry: &Map<String, Value>, new: &OAuth) -> &'static str {
    let chatgpt = matches!(new.provider.as_str(), "openai-codex" | "openai");
    if entry.contains_key("chatgptPlanType") || (chatgpt && !entry.contains_key("subscriptionType")) {
        "chatgptPlanType"
    } else {
        "subscriptionType"
    }
}

/// Writes value and reference of a static secret. An entry with a reference is written without the value
/// (spec.md 2.7.2); the reference's own unknown keys stay while it is the same reference.
fn write_source(
    entry: &mut Map<String, Value>,
    value_field: &str,
    ref_field: &str,
    new: &SecretSource,
    old: Option<&SecretSource>,
) {
    match &new.reference {
        Some(reference) => {
            let written_in_place = entry.get(value_field).and_then(parse::secret_ref);
            let has_own = entry.get(ref_field).and_then(parse::secret_ref).is_some();
            let value = js::take(entry, value_field);
            match value {
                Some(value) if !has_own && written_in_place.as_ref() == Some(reference) => {
                    entry.insert(ref_field.to_owned(), value);
                }
                Some(mut value) => js::wipe(&mut value),
                None => {}
            }
            if entry.get(ref_field).and_then(parse::secret_ref).as_ref() != Some(reference) {
                entry.insert(ref_field.to_owned(), ref_value(reference));
            }
        }
        None => {
            js::take(entry, ref_field);
            if old.is_none_or(|old| old.inline != new.inline || old.reference.is_some()) {
                match new.inline.as_ref().map(text_of) {
                    Some(text) => {
                        entry.insert(value_field.to_owned(), text.into());
                    }
                    None => {
                        js::take(entry, value_field);
                    }
                }
            }
        }
    }
}

fn text_of(text: &SecretText) -> String {
    match text {
        SecretText::Plain(secret) | SecretText::EnvTemplate { literal: secret, .. } => {
            clean_secret(secret.expose())
        }
    }
}

fn ref_value(reference: &SecretRef) -> Value {
    match &reference.provider {
        Some(provider) => json!({"source": reference.source, "provider": provider, "id": reference.id}),
        None => json!({"source": reference.source, "id": reference.id}),
    }
}

/// The secrets of every kind leave an entry that changes its kind or could not be read: a grant must not stand beside
/// a key, nor a new access token beside an older grant's refresh token.
fn drop_secrets(entry: &mut Map<String, Value>) {
    let fields = [
        "key", "apiKey", "keyRef", "token", "tokenRef", "access", "refresh", "idToken", "expires",
    ];
    for field in fields {
        if let Some(mut value) = js::take(entry, field) {
            js::wipe(&mut value);
        }
    }
}

/// Sets a text that differs; an absent one changes nothing.
fn put(entry: &mut Map<String, Value>, field: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| js::text(entry, field).as_deref() != Some(text.trim())) {
        entry.insert(field.to_owned(), text.into());
    }
}

/// Sets a text that differs; an absent one removes what was there.
fn put_or_drop(entry: &mut Map<String, Value>, field: &str, new: Option<&String>, old: Option<&String>) {
    match new {
        Some(text) => put(entry, field, Some(text)),
        None if old.is_some() => {
            js::take(entry, field);
        }
        None => {}
    }
}

fn put_secret(entry: &mut Map<String, Value>, field: &str, new: Option<&Secret>, old: Option<&Secret>) {
    match new {
        Some(secret) if old == Some(secret) && entry.contains_key(field) => {}
        Some(secret) => {
            let before = entry.insert(field.to_owned(), secret.expose().into());
            if let Some(mut before) = before {
                js::wipe(&mut before);
            }
        }
        None if old.is_some() => {
            if let Some(mut before) = js::take(entry, field) {
                js::wipe(&mut before);
            }
        }
        None => {}
    }
}

fn put_millis(entry: &mut Map<String, Value>, field: &str, at: UnixMillis) {
    entry.insert(field.to_owned(), at.0.into());
}

/// Gives a field another name in its place.
fn rename(entry: &mut Map<String, Value>, from: &str, to: &str) {
    if entry.contains_key(to) || !entry.contains_key(from) {
        return;
    }
    let renamed: Map<String, Value> = std::mem::take(entry)
        .into_iter()
        .map(|(key, value)| {
            if key == from {
                (to.to_owned(), value)
            } else {
                (key, value)
            }
        })
        .collect();
    *entry = renamed;
}
