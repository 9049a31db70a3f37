//! The JSON of the read commands. Field names are those of the documented system (spec.md 12.3, 12.7, 12.8 and real
//! OpenClaw 2026.5.28); what we add has names of its own and never changes the meaning of theirs.

use serde_json::{Map, Value, json};
use tokensink_sink::{
    AgentAdded, AgentInfo, Bench, Benched, Bucket, ExternalInfo, Lease, ModelInfo, ModelsView, OrderView,
    ProfileInfo, ProfileOrigin, ProfileState, ProfileStatus, ProviderStatus, Reading, RenewReport,
    RenewResult, StatusReport,
};
use tokensink_types::{ProfileId, UnixMillis};

use super::status::with_oauth_or_tokens;
use super::{external, path, routing, words};
use crate::name::Name;

/// Warning window of the health words in milliseconds (spec.md 12.4).
const WARN_AFTER_MS: u64 = 86_400_000;

/// `models status --json`.
pub(crate) fn status(report: &StatusReport, name: Name) -> Value {
    let models = &report.models;
    json!({
        "configPath": path(&report.config_path),
        "agentId": report.agent.as_str(),
        "agentDir": path(&report.agent_dir),
        "stateDir": path(&report.state_dir),
        "defaultModel": models.default.as_ref().unwrap_or(&models.resolved_default),
        "resolvedDefault": models.resolved_default,
        "fallbacks": models.fallbacks,
        "imageModel": models.image,
        "imageFallbacks": models.image_fallbacks,
        "modelConfig": { "defaultSource": models.default_source, "fallbacksSource": models.fallbacks_source },
        "aliases": aliases(models),
        "allowed": models.allowed,
        "auth": status_auth(report, name),
        "warnings": report.warnings,
    })
}

fn status_auth(report: &StatusReport, name: Name) -> Value {
    let keys: Vec<Value> = report
        .env_keys
        .iter()
        .map(|key| json!({ "name": key.name, "provider": key.provider.as_str(), "value": key.masked, "used": false }))
        .collect();
    json!({
        "storePath": path(&report.store_path),
        "shellEnvFallback": { "enabled": false, "appliedKeys": [] },
        "providersWithOAuth": with_oauth_or_tokens(report).collect::<Vec<_>>(),
        "missingProvidersInUse": report.missing_in_use.iter().map(|one| one.provider.as_str()).collect::<Vec<_>>(),
        "providers": report.providers.iter().map(provider).collect::<Vec<_>>(),
        "unusableProfiles": unusable(report),
        "oauth": {
            "warnAfterMs": WARN_AFTER_MS,
            "profiles": report.profiles.iter().map(|p| profile(p, report.now, name)).collect::<Vec<_>>(),
            "providers": report.providers.iter().map(|p| provider_health(p, report)).collect::<Vec<_>>(),
        },
        "external": external::json(&report.external, name),
        "environmentKeys": keys,
    })
}

fn provider(provider: &ProviderStatus) -> Value {
    let counts = &provider.counts;
    let overrides: Vec<Value> = provider
        .overridden_endpoints
        .iter()
        .map(|(field, value, origin)| {
            // The value comes as it stands in the file; a reader compares a text without its quotes.
            let value: Value = serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into());
            json!({ "field": field, "value": value, "origin": origin })
        })
        .collect();
    json!({
        "provider": provider.provider.as_str(),
        "name": provider.name,
        "effective": { "kind": provider.effective_kind, "detail": provider.effective_detail },
        "profiles": {
            "count": counts.count,
            "oauth": counts.oauth,
            "token": counts.token,
            "apiKey": counts.api_key,
            "labels": provider.labels,
        },
        "inUse": provider.in_use,
        "notice": provider.notice,
        "endpointOverrides": overrides,
    })
}

/// What is not tried for now, soonest end first.
fn unusable(report: &StatusReport) -> Vec<Value> {
    let mut benched: Vec<(&ProfileStatus, &Bench)> = report
        .profiles
        .iter()
        .filter_map(|profile| Some((profile, profile.bench.as_ref()?)))
        .collect();
    benched.sort_by_key(|(_, bench)| bench.until);
    benched
        .into_iter()
        .map(|(profile, bench)| {
            let mut value = json!({
                "profileId": profile.id.as_str(),
                "provider": profile.provider.as_str(),
                "kind": bench.kind,
                "until": bench.until.0,
                "remainingMs": millis_until(report.now, bench.until),
            });
            put(&mut value, "reason", bench.reason.as_deref());
            value
        })
        .collect()
}

fn profile(profile: &ProfileStatus, now: UnixMillis, name: Name) -> Value {
    let mut value = profile_health(profile, now);
    value["state"] = profile.state.word().into();
    put(&mut value, "stateDetail", state_detail(&profile.state, name));
    value["owner"] = profile.owner.as_str().into();
    value["inherited"] = profile.inherited.into();
    value["billing"] = profile.billing.as_str().into();
    value["inUse"] = profile.in_use.into();
    put(&mut value, "position", profile.position);
    put(&mut value, "email", profile.account.email.as_deref());
    put(&mut value, "accountId", profile.account.account_id.as_deref());
    put(&mut value, "plan", profile.account.plan.as_deref());
    value["benches"] = profile.benches.iter().map(|bench| benched(bench, now)).collect();
    value["quota"] = match &*profile.quota {
        [] => "unknown".into(),
        readings => readings.iter().map(|one| reading(one, now)).collect(),
    };
    value
}

/// What a bench keeps from being tried, in one word.
pub(super) fn bucket_word(bucket: &Bucket) -> &'static str {
    match bucket {
        Bucket::Account => "account",
        Bucket::Model(_) => "model",
        Bucket::Unnamed => "unnamed",
    }
}

/// One thing for which a profile is not tried.
fn benched(bench: &Benched, now: UnixMillis) -> Value {
    let mut value = json!({
        "reason": bench.reason,
        "until": bench.until.0,
        "remainingMs": millis_until(now, bench.until),
        "stated": bench.stated,
        "testing": bench.testing,
    });
    put(&mut value, "bucket", Some(bucket_word(&bench.bucket)));
    put(&mut value, "model", bench.bucket.model());
    put(&mut value, "testableAt", bench.testable.map(|at| at.0));
    value
}

/// A share of a division has many digits, of which four mean something.
fn share(share: f64) -> f64 {
    (share * 10_000.0).round() / 10_000.0
}

/// What a provider has said of one limit.
fn reading(reading: &Reading, now: UnixMillis) -> Value {
    let mut value = json!({
        "window": reading.window,
        "used": share(reading.used),
        "source": reading.source.as_str(),
        "at": reading.at.0,
        "ageMs": millis_until(reading.at, now),
    });
    put(&mut value, "resetsAt", reading.resets_at.map(|at| at.0));
    value
}

/// What the documented system says of a profile. The time that remains is negative once it is over.
fn profile_health(profile: &ProfileStatus, now: UnixMillis) -> Value {
    let mut value = json!({
        "profileId": profile.id.as_str(),
        "provider": profile.provider.as_str(),
        "type": profile.kind.as_str(),
        "status": profile.health.as_str(),
        "source": profile.external.as_ref().map_or_else(|| "store".to_owned(), ProfileOrigin::source),
        "label": profile.label,
    });
    put(&mut value, "reasonCode", profile.reason_code.as_deref());
    put(&mut value, "expiresAt", profile.expires.map(|at| at.0));
    let remaining = profile.expires.map(|at| at.0.saturating_sub(now.0));
    put(&mut value, "remainingMs", remaining);
    value
}

/// What belongs to a state, as an object; `None` for states that say it all.
fn state_detail(state: &ProfileState, name: Name) -> Option<Value> {
    match state {
        ProfileState::Usable | ProfileState::Expiring | ProfileState::Refreshable => None,
        ProfileState::Refreshing { holder, since } => Some(json!({ "holder": holder, "since": since.0 })),
        ProfileState::LoginNeeded { reason, command } => {
            Some(json!({ "reason": reason, "fix": name.in_commands(command) }))
        }
        ProfileState::UnresolvedRef { what, fix } => {
            Some(json!({ "reason": what, "fix": name.in_commands(fix) }))
        }
        ProfileState::Waiting { reason, until } => {
            let mut value = json!({ "reason": reason });
            put(&mut value, "until", until.map(|at| at.0));
            Some(value)
        }
    }
}

fn provider_health(provider: &ProviderStatus, report: &StatusReport) -> Value {
    let all = report
        .profiles
        .iter()
        .filter(|profile| profile.provider == provider.provider);
    let effective = provider
        .effective_profiles
        .iter()
        .filter_map(|id| report.profiles.iter().find(|profile| profile.id == *id));
    let health = |profile| profile_health(profile, report.now);
    let mut value = json!({
        "provider": provider.provider.as_str(),
        "status": provider.health.as_str(),
        "profiles": all.map(health).collect::<Vec<_>>(),
        "effectiveProfiles": effective.map(health).collect::<Vec<_>>(),
    });
    put(&mut value, "expiresAt", provider.expires.map(|at| at.0));
    let remaining = provider.expires.map(|at| at.0.saturating_sub(report.now.0));
    put(&mut value, "remainingMs", remaining);
    value
}

/// `models auth list --json`: instants are ISO 8601 here, as in the documented system.
pub(crate) fn auth_list(view: &AuthListView<'_>, name: Name) -> Value {
    let profiles: Vec<Value> = view
        .profiles
        .iter()
        .map(|profile| {
            let mut value = json!({
                "id": profile.id.as_str(),
                "provider": profile.provider.as_str(),
                "type": profile.kind.as_str(),
                "label": profile.label,
            });
            put(&mut value, "email", profile.email.as_deref());
            put(&mut value, "expiresAt", profile.expires.map(words::iso));
            if let Some(bench) = &profile.bench {
                value[format!("{}Until", bench.kind)] = words::iso(bench.until).into();
                put(&mut value, "benchReason", bench.reason.as_deref());
            }
            value["owner"] = profile.owner.as_str().into();
            value["inherited"] = profile.inherited.into();
            value["isExternal"] = profile.is_external.into();
            value["state"] = profile.state.word().into();
            put(&mut value, "stateDetail", state_detail(&profile.state, name));
            value
        })
        .collect();
    json!({
        "agentId": view.agent,
        "agentDir": view.agent_dir,
        "authStatePath": view.state_path,
        "provider": view.provider,
        "profiles": profiles,
    })
}

/// What `models auth list` knows.
pub(crate) struct AuthListView<'a> {
    pub(crate) agent: &'a str,
    pub(crate) agent_dir: String,
    pub(crate) state_path: String,
    pub(crate) provider: Option<String>,
    pub(crate) profiles: &'a [ProfileInfo],
}

/// `channels list --json` (spec.md 12.8): no channels of our own, every profile under `auth`, and the logins of other
/// programs that were found and are not used.
pub(crate) fn channels(profiles: &[ProfileInfo], found: &[ExternalInfo]) -> Value {
    let stored = profiles.iter().map(|profile| {
        json!({
            "id": profile.id.as_str(),
            "provider": profile.provider.as_str(),
            "type": profile.kind.as_str(),
            "isExternal": profile.is_external,
        })
    });
    let unused = found.iter().filter_map(|login| {
        Some(json!({
            "id": login.profile.as_ref()?.as_str(),
            "provider": login.provider.as_ref()?.as_str(),
            "type": login.kind?.as_str(),
            "isExternal": true,
            "used": false,
        }))
    });
    let auth: Vec<Value> = stored.chain(unused).collect();
    json!({ "chat": {}, "auth": auth })
}

/// `models auth order get --json` (spec.md 12.7).
pub(crate) fn order(view: &OrderView) -> Value {
    let ids = |ids: &[ProfileId]| ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
    let mut value = json!({
        "agentId": view.agent.as_str(),
        "agentDir": path(&view.agent_dir),
        "provider": view.provider.as_str(),
        "authStatePath": path(&view.state_path),
        "order": view.order.as_deref().map(ids),
        "effective": ids(&view.effective),
    });
    put(&mut value, "unavailable", view.unavailable.as_deref());
    value
}

/// One agent of `agents list --json`.
pub(crate) fn agent(agent: &AgentInfo) -> Value {
    let mut value = json!({ "id": agent.id.as_str() });
    put(&mut value, "name", agent.name.as_deref());
    value["workspace"] = path(&agent.workspace).into();
    value["agentDir"] = path(&agent.agent_dir).into();
    put(&mut value, "model", agent.model.as_deref());
    value["bindings"] = agent.bindings.into();
    value["isDefault"] = agent.is_default.into();
    value["inherits"] = agent.inherits.into();
    value
}

/// `agents add --json` (spec.md 15.4).
pub(crate) fn agent_added(added: &AgentAdded) -> Value {
    let agent = &added.agent;
    let mut value = json!({
        "agentId": agent.id.as_str(),
        "name": agent.name.as_deref().unwrap_or(agent.id.as_str()),
        "workspace": path(&agent.workspace),
        "agentDir": path(&agent.agent_dir),
    });
    put(&mut value, "model", agent.model.as_deref());
    value["bindings"] = routing::bound_json(&added.bindings);
    value
}

/// `models list --json`.
pub(crate) fn models(models: &[ModelInfo]) -> Value {
    let entries: Vec<Value> = models
        .iter()
        .map(|model| {
            json!({
                "key": model.key,
                "name": model.name,
                "provider": model.provider.as_str(),
                "available": model.available,
                "tags": model.tags,
            })
        })
        .collect();
    json!({ "count": entries.len(), "models": entries })
}

/// `models aliases list --json`.
pub(crate) fn aliases(models: &ModelsView) -> Value {
    let map: Map<String, Value> = models
        .aliases
        .iter()
        .map(|(alias, model)| (alias.clone(), model.clone().into()))
        .collect();
    map.into()
}

/// `token --json`: the one JSON that holds a secret, because it is asked for.
pub(crate) fn lease(lease: &Lease, now: UnixMillis) -> Value {
    let headers: Map<String, Value> = lease
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.expose().into()))
        .collect();
    let mut value = json!({
        "profileId": lease.profile.as_str(),
        "provider": lease.provider.as_str(),
        "type": lease.kind.as_str(),
        "token": lease.secret.expose(),
    });
    put(&mut value, "expiresAt", lease.expires.map(|at| at.0));
    put(
        &mut value,
        "remainingMs",
        lease.expires.map(|at| millis_until(now, at)),
    );
    value["owner"] = lease.owner.as_str().into();
    value["inherited"] = lease.inherited.into();
    put(&mut value, "email", lease.account.email.as_deref());
    put(&mut value, "accountId", lease.account.account_id.as_deref());
    value["billing"] = lease.billing.as_str().into();
    put(&mut value, "baseUrl", lease.base_url.as_deref());
    value["headers"] = headers.into();
    put(&mut value, "envName", lease.env_name.as_deref());
    value["source"] = lease.source.clone().into();
    put(&mut value, "note", lease.note.as_deref());
    value
}

/// `renew --json`: one object per profile, and one without a profile per store that could not be read.
pub(crate) fn renewals(report: &RenewReport, name: Name) -> Value {
    let unreadable = report
        .unreadable
        .iter()
        .map(|reason| json!({ "outcome": "failed", "reason": name.in_commands(reason) }));
    report
        .outcomes
        .iter()
        .map(|outcome| {
            let mut value = json!({
                "agentId": outcome.agent.as_str(),
                "profileId": outcome.profile.as_str(),
                "outcome": renewal_word(&outcome.result),
            });
            match &outcome.result {
                RenewResult::Renewed { expires } => put(&mut value, "expiresAt", expires.map(|at| at.0)),
                RenewResult::NotDue { due_at } => put(&mut value, "dueAt", due_at.map(|at| at.0)),
                RenewResult::TryAgain { reason, at } => {
                    put(&mut value, "reason", Some(reason.as_str()));
                    put(&mut value, "retryAt", at.map(|at| at.0));
                }
                RenewResult::LoginNeeded { reason, command } => {
                    put(&mut value, "reason", Some(reason.as_str()));
                    put(&mut value, "fix", Some(name.in_commands(command)));
                }
                RenewResult::Failed { reason } => put(&mut value, "reason", Some(reason.as_str())),
            }
            value
        })
        .chain(unreadable)
        .collect()
}

/// The word for what became of a renewal.
pub(crate) fn renewal_word(result: &RenewResult) -> &'static str {
    match result {
        RenewResult::Renewed { .. } => "renewed",
        RenewResult::NotDue { .. } => "not_due",
        RenewResult::TryAgain { .. } => "try_again",
        RenewResult::LoginNeeded { .. } => "login_needed",
        RenewResult::Failed { .. } => "failed",
    }
}

/// Sets a field where there is a value.
pub(super) fn put(object: &mut Value, field: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[field] = value.into();
    }
}

fn millis_until(now: UnixMillis, at: UnixMillis) -> i64 {
    at.0.saturating_sub(now.0).max(0)
}

#[cfg(test)]
mod tests;
