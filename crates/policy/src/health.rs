//! The words of `models status` and the exit code of its `--check` (spec.md 12.4, 12.5).
//!
//! Health is about how long a credential lasts, and asks [`eligibility()`] for everything else, so that status never
//! calls a profile usable that a request would not get.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokensink_types::{AgentId, CredentialKind, Expiry, ProfileId, ProviderId, UnixMillis};

use crate::eligibility::{kind_of, of_credential};
use crate::{
    Ask, Candidate, Config, CredentialForm, EligibilityCode, OrderInput, Purpose, Rule, State, Verdict,
    Window, eligibility, resolve_order,
};

/// A credential that ends within this time is `expiring` (`warnAfterMs`).
pub const WARN_WITHIN: Duration = Duration::from_hours(24);

/// The status words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthStatus {
    /// Lasts for more than [`WARN_WITHIN`].
    Ok,
    /// Ends within [`WARN_WITHIN`].
    Expiring,
    /// Has ended.
    Expired,
    /// There is no usable credential, or nobody knows when it ends. Text output prints `unknown`.
    Missing,
    /// Does not end.
    Static,
}

impl HealthStatus {
    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Missing => "missing",
            Self::Static => "static",
        }
    }

    /// The word in text output (spec.md 12.2).
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "unknown",
            Self::Ok | Self::Expiring | Self::Expired | Self::Static => self.as_str(),
        }
    }
}

/// One profile's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileHealth {
    /// The profile.
    pub profile: ProfileId,
    /// The agent that owns it.
    pub owner: AgentId,
    /// True when the asking agent only reads it through.
    pub inherited: bool,
    /// The provider in the store, as written there.
    pub provider: ProviderId,
    /// The stored type.
    pub kind: CredentialKind,
    /// The status word.
    pub status: HealthStatus,
    /// Why the profile cannot be used; `None` when it can.
    pub reason: Option<EligibilityCode>,
    /// The sentence that goes with `reason`; empty when there is none.
    pub detail: String,
    /// When it ends; `None` when it does not, when that is unknown, and for a token that is not eligible, as real
    /// OpenClaw 2026.5.28 has it.
    pub expires_at: Option<UnixMillis>,
    /// Milliseconds until `expires_at`, negative once it has passed.
    pub remaining_ms: Option<i64>,
    /// Its place in the provider's order; `None` when it is not in it.
    pub position: Option<usize>,
    /// True when the order leaves it out on purpose.
    pub excluded: bool,
}

/// A provider's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderHealth {
    /// The provider, with aliases resolved.
    pub provider: ProviderId,
    /// The roll-up over `effective`; `missing` where no profile can be used although none has ended.
    pub status: HealthStatus,
    /// All its stored profiles, by id.
    pub profiles: Vec<ProfileHealth>,
    /// The profiles that the roll-up looks at: those in the order, by position; where there is none, those that the
    /// order does not leave out.
    pub effective: Vec<ProfileId>,
    /// True when a profile is in the order, so that a request can be served now or after a cooldown.
    pub usable: bool,
    /// The earliest end among `effective`.
    pub expires_at: Option<UnixMillis>,
    /// Milliseconds until then.
    pub remaining_ms: Option<i64>,
}

/// The health of everything in `state`, by provider.
#[must_use]
pub fn health(config: &Config, state: &State, now: UnixMillis) -> Vec<ProviderHealth> {
    let mut by_provider: BTreeMap<&ProviderId, BTreeMap<&ProfileId, &Candidate>> = BTreeMap::new();
    for candidate in &state.candidates {
        by_provider
            .entry(config.aliases.canonical(&candidate.facts.provider))
            .or_default()
            .entry(&candidate.id)
            .or_insert(candidate);
    }
    by_provider
        .into_iter()
        .map(|(provider, candidates)| of_provider(config, state, provider, candidates.into_values(), now))
        .collect()
}

fn of_provider<'a>(
    config: &Config,
    state: &State,
    provider: &ProviderId,
    candidates: impl Iterator<Item = &'a Candidate>,
    now: UnixMillis,
) -> ProviderHealth {
    let order = resolve_order(OrderInput {
        config,
        state,
        provider,
        preferred: None,
        model: None,
        now,
    })
    .ok();
    let verdicts: BTreeMap<&ProfileId, &Verdict> = order
        .iter()
        .flat_map(|order| &order.verdicts)
        .map(|verdict| (&verdict.profile, verdict))
        .collect();
    let profiles: Vec<ProfileHealth> = candidates
        .map(|candidate| of_profile(config, candidate, verdicts.get(&candidate.id).copied(), now))
        .collect();
    let mut effective: Vec<&ProfileHealth> = profiles.iter().filter(|one| one.position.is_some()).collect();
    effective.sort_by_key(|one| one.position);
    let usable = !effective.is_empty();
    if !usable {
        effective = profiles.iter().filter(|one| !one.excluded).collect();
    }
    let expires_at = effective.iter().filter_map(|one| one.expires_at).min();
    ProviderHealth {
        provider: provider.clone(),
        status: match roll_up(&effective) {
            HealthStatus::Expired => HealthStatus::Expired,
            _ if !usable => HealthStatus::Missing,
            status => status,
        },
        effective: effective.iter().map(|one| one.profile.clone()).collect(),
        usable,
        expires_at,
        remaining_ms: expires_at.map(|at| remaining(at, now)),
        profiles,
    }
}

fn of_profile(
    config: &Config,
    candidate: &Candidate,
    verdict: Option<&Verdict>,
    now: UnixMillis,
) -> ProfileHealth {
    let ask = Ask {
        config,
        provider: None,
        purpose: Purpose::Order,
        now,
    };
    let (code, detail) = match eligibility(&candidate.id, Some(candidate), &ask) {
        Ok(eligibility) => (eligibility.code, eligibility.detail),
        Err(error) => (EligibilityCode::IneligibleProfile, error.to_string()),
    };
    let (status, expires_at) = match code {
        EligibilityCode::IneligibleProfile => (HealthStatus::Missing, None),
        _ => lasting(candidate, now),
    };
    ProfileHealth {
        profile: candidate.id.clone(),
        owner: candidate.owner.clone(),
        inherited: candidate.inherited,
        provider: candidate.facts.provider.clone(),
        kind: kind_of(candidate.facts.form),
        status,
        reason: (code != EligibilityCode::Ok).then_some(code),
        detail,
        expires_at,
        remaining_ms: expires_at.map(|at| remaining(at, now)),
        position: verdict.and_then(|verdict| verdict.position),
        excluded: verdict
            .is_some_and(|verdict| matches!(verdict.rule, Rule::NotInOrder | Rule::NotConfigured)),
    }
}

/// The status word and the end that is shown with it (spec.md 12.4), of the credential by itself. That the config
/// does not fit it is said by the reason code alone.
fn lasting(candidate: &Candidate, now: UnixMillis) -> (HealthStatus, Option<UnixMillis>) {
    let code = of_credential(candidate, now).code;
    let end = match candidate.facts.form {
        CredentialForm::ApiKey(_) => None,
        CredentialForm::Token { expires, .. } => match expires {
            Expiry::At(at) => Some(at),
            Expiry::Never | Expiry::Invalid => None,
        },
        CredentialForm::OAuth { expires, .. } => expires.filter(|at| at.0 > 0),
    };
    match (kind_of(candidate.facts.form), code) {
        (CredentialKind::OAuth, EligibilityCode::Ok | EligibilityCode::Expired) => {
            (end.map_or(HealthStatus::Missing, |at| by_end(at, now)), end)
        }
        (_, EligibilityCode::Ok) => (end.map_or(HealthStatus::Static, |at| by_end(at, now)), end),
        (_, EligibilityCode::Expired) => (HealthStatus::Expired, None),
        _ => (HealthStatus::Missing, None),
    }
}

fn by_end(at: UnixMillis, now: UnixMillis) -> HealthStatus {
    if at <= now {
        HealthStatus::Expired
    } else if now.until(at) <= WARN_WITHIN {
        HealthStatus::Expiring
    } else {
        HealthStatus::Ok
    }
}

fn remaining(at: UnixMillis, now: UnixMillis) -> i64 {
    at.0.saturating_sub(now.0)
}

fn roll_up(profiles: &[&ProfileHealth]) -> HealthStatus {
    let ends: Vec<HealthStatus> = profiles
        .iter()
        .filter(|one| one.kind != CredentialKind::ApiKey)
        .map(|one| one.status)
        .collect();
    let broken = |status: &HealthStatus| matches!(status, HealthStatus::Expired | HealthStatus::Missing);
    match ends.as_slice() {
        [] if profiles.iter().any(|one| one.status == HealthStatus::Static) => HealthStatus::Static,
        [] => HealthStatus::Missing,
        ends if ends.iter().any(broken) => HealthStatus::Expired,
        ends if ends.contains(&HealthStatus::Expiring) => HealthStatus::Expiring,
        _ => HealthStatus::Ok,
    }
}

/// A provider that a configured model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderInUse {
    /// The provider of a default, fallback or image model.
    pub provider: ProviderId,
    /// True when it has credentials other than profiles: an adopted environment variable or a key in the config.
    pub other_auth: bool,
}

/// Which profiles `--check` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckScope {
    /// Those of providers in use that the order does not leave out, as OpenClaw 2026.5.28 does.
    InUse,
    /// Every stored one (`--all`), as the oldest versions did.
    All,
}

/// What `models status --check` says by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckExit {
    /// 0.
    Healthy,
    /// 1: something has ended or is missing.
    Failing,
    /// 2: something ends within [`WARN_WITHIN`].
    Expiring,
}

impl CheckExit {
    /// The exit code (spec.md 12.5).
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Failing => 1,
            Self::Expiring => 2,
        }
    }
}

/// The outcome of `--check` (spec.md 12.5): failing when a provider in use has no credentials or an OAuth or token
/// profile in scope has ended or is missing; else expiring when one is about to end. API keys are judged only
/// through their provider.
#[must_use]
pub fn check_exit_code(
    config: &Config,
    health: &[ProviderHealth],
    in_use: &[ProviderInUse],
    scope: CheckScope,
) -> CheckExit {
    let needed = |provider: &ProviderId| {
        in_use
            .iter()
            .any(|one| config.aliases.same(&one.provider, provider))
    };
    let statuses: BTreeSet<HealthStatus> = health
        .iter()
        .filter(|one| scope == CheckScope::All || needed(&one.provider))
        .flat_map(|one| &one.profiles)
        .filter(|one| scope == CheckScope::All || !one.excluded)
        .filter(|one| one.kind != CredentialKind::ApiKey)
        .map(|one| one.status)
        .collect();
    if statuses.contains(&HealthStatus::Expired)
        || statuses.contains(&HealthStatus::Missing)
        || !missing_in_use(config, health, in_use).is_empty()
    {
        CheckExit::Failing
    } else if statuses.contains(&HealthStatus::Expiring) {
        CheckExit::Expiring
    } else {
        CheckExit::Healthy
    }
}

/// The providers in use that have no credentials at all (`missingProvidersInUse`), each once.
#[must_use]
pub fn missing_in_use<'a>(
    config: &Config,
    health: &[ProviderHealth],
    in_use: &'a [ProviderInUse],
) -> Vec<&'a ProviderId> {
    let served = |wanted: &ProviderInUse| {
        wanted.other_auth
            || health
                .iter()
                .any(|one| one.usable && config.aliases.same(&one.provider, &wanted.provider))
    };
    let missing: BTreeSet<&ProviderId> = in_use
        .iter()
        .filter(|wanted| !served(wanted))
        .map(|wanted| &wanted.provider)
        .collect();
    missing.into_iter().collect()
}

/// A profile that is not tried at present (`unusableProfiles`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableProfile {
    /// The profile.
    pub profile: ProfileId,
    /// The provider in the store.
    pub provider: ProviderId,
    /// The window that ends last.
    pub window: Window,
    /// Milliseconds until its end.
    pub remaining_ms: i64,
}

/// The profiles that are cooling down, the soonest end first (spec.md 12.3).
#[must_use]
pub fn unusable_profiles(config: &Config, state: &State, now: UnixMillis) -> Vec<UnusableProfile> {
    let mut list: Vec<UnusableProfile> = state
        .candidates
        .iter()
        .filter_map(|candidate| {
            let window = candidate.bench(&config.aliases, None, now)?;
            Some(UnusableProfile {
                profile: candidate.id.clone(),
                provider: candidate.facts.provider.clone(),
                remaining_ms: remaining(window.until, now),
                window,
            })
        })
        .collect();
    list.sort_by_key(|one| one.remaining_ms);
    list
}

#[cfg(test)]
mod tests;
