//! The decision: which profile serves a request now.

use std::fmt;
use std::time::Duration;

use tokensink_types::{AgentId, BillingClass, ProfileId, ProviderId, UnixMillis, short_remaining};

use crate::{
    Ask, Candidate, Config, Eligibility, EligibilityCode, OAuthRefError, OrderInput, OrderSource, Purpose,
    ResolvedOrder, Rule, State, Verdict, eligibility, resolve_order,
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Any profile of a provider, or one profile.
    pub target: Target,
    /// With a provider: the profile to try first if it is in the order.
    pub preferred: Option<ProfileId>,
    /// The model that will be called, if it is known: windows of other models then do not count.
    pub model: Option<String>,
}

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// The best profile of this provider.
    Provider(ProviderId),
    /// This profile and no other. It need not be in the order, and a cooldown does not keep it back
    /// (spec.md 6.1, 6.2).
    Profile(ProfileId),
}

/// The answer, with everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub outcome: Outcome,
    /// Where the order came from; `None` when one profile was asked for.
    pub source: Option<OrderSource>,
    /// One verdict per profile that was looked at, those in the order first.
    pub verdicts: Vec<Verdict>,
}

impl Decision {
    /// The chosen profile, if there is one.
    #[must_use]
    pub fn choice(&self) -> Option<&Choice> {
        match &self.outcome {
            Outcome::Chosen(choice) => Some(choice),
            Outcome::Unavailable(_) => None,
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This profile serves the request.
    Chosen(Choice),
    /// None does.
    Unavailable(Unavailable),
}

/// The chosen profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its id.
    pub profile: ProfileId,
    /// The agent in whose store it lives; it is refreshed there.
    pub owner: AgentId,
    /// True when the asking agent only reads it through.
    pub inherited: bool,
    /// The provider of the credential.
    pub provider: ProviderId,
    /// What the request will cost.
    pub billing: BillingClass,
}

/// Why no profile serves. Each variant is a different thing to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// Nothing is stored for the provider: a login is needed.
    NoProfile {
        /// The provider.
        provider: ProviderId,
    },
    /// Profiles are stored, but the order selects none of them: the order is to be changed.
    NoneSelected {
        /// The provider.
        provider: ProviderId,
        /// Where the order came from.
        source: OrderSource,
    },
    /// No profile of the order can be used; a login is needed. The first verdict tells what is wrong.
    NoneEligible {
        /// The provider.
        provider: ProviderId,
        /// The first profile of the order.
        first: ProfileId,
        /// What is wrong with it.
        eligibility: Eligibility,
    },
    /// Every profile is cooling down: try again later.
    AllBenched {
        /// The provider.
        provider: ProviderId,
        /// The one that is free soonest.
        first: ProfileId,
        /// When that is.
        until: UnixMillis,
        /// From now until then.
        wait: Duration,
        /// The failure that opened its window.
        reason: String,
    },
    /// The profile that was asked for cannot be used.
    Profile {
        /// The profile.
        profile: ProfileId,
        /// What is wrong with it.
        eligibility: Eligibility,
    },
}

impl Unavailable {
    /// When it is worth while to ask again without anybody doing anything.
    #[must_use]
    pub fn retry_at(&self) -> Option<UnixMillis> {
        match self {
            Self::AllBenched { until, .. } => Some(*until),
            Self::NoProfile { .. }
            | Self::NoneSelected { .. }
            | Self::NoneEligible { .. }
            | Self::Profile { .. } => None,
        }
    }
}

impl fmt::Display for Unavailable {
    /// A sentence for people, with the command that helps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProfile { provider } => write!(
                f,
                "no profile of {provider} is stored; run `tokensink models auth login --provider {provider}`"
            ),
            Self::NoneSelected {
                provider,
                source: OrderSource::Stored,
            } => write!(
                f,
                "the stored order selects no profile of {provider}; run `tokensink models auth order clear \
                 --provider {provider}`"
            ),
            Self::NoneSelected { provider, .. } => write!(
                f,
                "auth.order.{provider} in openclaw.json selects no profile; add one to it or remove it"
            ),
            Self::NoneEligible {
                provider,
                first,
                eligibility,
            } => write!(
                f,
                "no profile of {provider} can be used: {first}: {}",
                eligibility.detail
            ),
            Self::AllBenched {
                provider,
                first,
                wait,
                reason,
                ..
            } => write!(
                f,
                "every profile of {provider} is cooling down; the first, {first} ({reason}), is free in {}",
                short_remaining(*wait)
            ),
            Self::Profile { profile, eligibility } => {
                write!(f, "{profile} cannot be used: {}", eligibility.detail)
            }
        }
    }
}

/// Decides. Nothing but the arguments has a say, and only profiles in `state` are ever chosen.
///
/// # Errors
/// When a profile that comes into question keeps OAuth tokens as references (spec.md 4.3).
pub fn select(
    config: &Config,
    state: &State,
    request: &Request,
    now: UnixMillis,
) -> Result<Decision, OAuthRefError> {
    match &request.target {
        Target::Profile(id) => by_id(config, state, id, request.model.as_deref(), now),
        Target::Provider(provider) => {
            let order = resolve_order(OrderInput {
                config,
                state,
                provider,
                preferred: request.preferred.as_ref(),
                model: request.model.as_deref(),
                now,
            })?;
            Ok(by_order(state, provider, order, now))
        }
    }
}

fn by_id(
    config: &Config,
    state: &State,
    id: &ProfileId,
    model: Option<&str>,
    now: UnixMillis,
) -> Result<Decision, OAuthRefError> {
    let stored = state.candidate(id);
    let ask = Ask {
        config,
        provider: None,
        purpose: Purpose::Resolve,
        now,
    };
    let eligibility = eligibility(id, stored, &ask)?;
    let usable = stored.filter(|_| eligibility.is_ok());
    let verdict = Verdict {
        profile: id.clone(),
        owner: stored.map(|candidate| candidate.owner.clone()),
        position: usable.map(|_| 0),
        eligibility: eligibility.clone(),
        bench: stored.and_then(|candidate| candidate.bench(&config.aliases, model, now)),
        rule: if usable.is_some() {
            Rule::ChosenById
        } else {
            Rule::Ineligible
        },
    };
    let outcome = match usable {
        Some(candidate) => Outcome::Chosen(choice(candidate)),
        None => Outcome::Unavailable(Unavailable::Profile {
            profile: id.clone(),
            eligibility,
        }),
    };
    Ok(Decision {
        outcome,
        source: None,
        verdicts: vec![verdict],
    })
}

fn by_order(state: &State, provider: &ProviderId, order: ResolvedOrder, now: UnixMillis) -> Decision {
    let ResolvedOrder {
        source, mut verdicts, ..
    } = order;
    let first = verdicts
        .iter_mut()
        .find(|verdict| verdict.position.is_some() && verdict.bench.is_none());
    let outcome = match first.and_then(|verdict| Some((state.candidate(&verdict.profile)?, verdict))) {
        Some((candidate, verdict)) => {
            verdict.rule = Rule::Chosen;
            Outcome::Chosen(choice(candidate))
        }
        None => Outcome::Unavailable(none(provider, source, &verdicts, now)),
    };
    Decision {
        outcome,
        source: Some(source),
        verdicts,
    }
}

fn choice(candidate: &Candidate) -> Choice {
    Choice {
        profile: candidate.id.clone(),
        owner: candidate.owner.clone(),
        inherited: candidate.inherited,
        provider: candidate.facts.provider.clone(),
        billing: candidate.billing,
    }
}

fn none(provider: &ProviderId, source: OrderSource, verdicts: &[Verdict], now: UnixMillis) -> Unavailable {
    let provider = provider.clone();
    let soonest = verdicts
        .iter()
        .filter(|verdict| verdict.position.is_some())
        .filter_map(|verdict| Some((verdict, verdict.bench.as_ref()?)))
        .min_by_key(|(_, window)| window.until);
    if let Some((verdict, window)) = soonest {
        return Unavailable::AllBenched {
            provider,
            first: verdict.profile.clone(),
            until: window.until,
            wait: now.until(window.until),
            reason: window.reason.clone(),
        };
    }
    let refused = verdicts.iter().find(|verdict| verdict.rule == Rule::Ineligible);
    match refused {
        Some(verdict)
            if verdict.eligibility.code == EligibilityCode::ProfileMissing
                && verdicts.iter().all(|other| other.owner.is_none()) =>
        {
            Unavailable::NoProfile { provider }
        }
        Some(verdict) => Unavailable::NoneEligible {
            provider,
            first: verdict.profile.clone(),
            eligibility: verdict.eligibility.clone(),
        },
        None if verdicts.is_empty() => Unavailable::NoProfile { provider },
        None => Unavailable::NoneSelected { provider, source },
    }
}

#[cfg(test)]
mod tests;
