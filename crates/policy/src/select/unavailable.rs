//! Why nobody serves a request, and what to do about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokensink_types::{BillingClass, ProfileId, ProviderId, UnixMillis, short_wait};

use crate::candidate::{Window, WindowKind};
use crate::classify::Reason;
use crate::{Barrier, Candidate, Eligibility, EligibilityCode, OrderSource, Rule, Verdict};

/// Why no profile serves. Each variant is a different thing to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        /// When that is: its window ends, or a request may test it.
        until: UnixMillis,
        /// When its window ends.
        ends: UnixMillis,
        /// From now until `until`.
        wait: Duration,
        /// The failure that opened its window.
        reason: String,
        /// What benched all of them, in one word.
        cause: Reason,
    },
    /// Only profiles that cost more are left, and nobody allowed that.
    TooCostly {
        /// The provider.
        provider: ProviderId,
        /// The first that is left.
        profile: ProfileId,
        /// The cheaper one before it.
        before: ProfileId,
        /// What that one costs.
        from: BillingClass,
        /// What the one that is left costs.
        to: BillingClass,
        /// The one without such an obstacle that is free soonest, where one is benched.
        soonest: Option<Soonest>,
    },
    /// A rule forbids what is left.
    Denied {
        /// The first profile that it forbids.
        profile: ProfileId,
        /// The rule's id.
        rule: String,
    },
    /// All were tried for this request.
    AllTried {
        /// The first of them.
        first: ProfileId,
        /// The one that is free soonest for another request, where one is benched.
        soonest: Option<Soonest>,
    },
    /// The profile that was asked for cannot be used.
    Profile {
        /// The profile.
        profile: ProfileId,
        /// What is wrong with it.
        eligibility: Eligibility,
    },
}

/// A benched profile that is free again without anybody doing anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soonest {
    /// The profile.
    pub profile: ProfileId,
    /// When: its window ends, or a request may test it.
    pub until: UnixMillis,
    /// When its window ends.
    pub ends: UnixMillis,
    /// From now until `until`.
    pub wait: Duration,
    /// The failure that opened its window.
    pub reason: String,
}

impl Soonest {
    fn of<'a>(verdicts: impl Iterator<Item = &'a Verdict>, now: UnixMillis) -> Option<Self> {
        let benched =
            verdicts.filter_map(|verdict| Some((verdict, verdict.bench.as_ref()?, verdict.free_at?)));
        let (verdict, window, until) = benched.min_by_key(|(_, _, free_at)| *free_at)?;
        Some(Self {
            profile: verdict.profile.clone(),
            until,
            ends: window.until,
            wait: now.until(until),
            reason: window.reason.clone(),
        })
    }
}

impl Unavailable {
    /// When it is worth while to ask again without anybody doing anything.
    #[must_use]
    pub fn retry_at(&self) -> Option<UnixMillis> {
        match self {
            Self::AllBenched { until, .. } => Some(*until),
            Self::TooCostly { soonest, .. } | Self::AllTried { soonest, .. } => {
                soonest.as_ref().map(|soonest| soonest.until)
            }
            Self::NoProfile { .. }
            | Self::NoneSelected { .. }
            | Self::NoneEligible { .. }
            | Self::Denied { .. }
            | Self::Profile { .. } => None,
        }
    }
}

/// Why a profile that is the only one in question does not serve.
pub(super) fn of_profile(verdict: &Verdict, stored: Option<&Candidate>, now: UnixMillis) -> Unavailable {
    let profile = verdict.profile.clone();
    match (&verdict.barrier, stored) {
        (Some(Barrier::Denied { rule }), _) => Unavailable::Denied {
            profile,
            rule: rule.clone(),
        },
        (Some(_), Some(_)) => Unavailable::AllTried {
            first: profile,
            soonest: Soonest::of(std::iter::once(verdict), now),
        },
        _ => Unavailable::Profile {
            profile,
            eligibility: verdict.eligibility.clone(),
        },
    }
}

/// Why none of an order serves: what time alone mends comes first, money before that.
pub(super) fn of_order(
    provider: &ProviderId,
    source: OrderSource,
    verdicts: &[Verdict],
    now: UnixMillis,
) -> Unavailable {
    let placed = || verdicts.iter().filter(|verdict| verdict.position.is_some());
    let free = placed().filter(|verdict| verdict.barrier.is_none());
    let soonest = Soonest::of(free.clone(), now);
    let costly = placed()
        .filter(|verdict| !verdict.is_benched())
        .find_map(|verdict| match &verdict.barrier {
            Some(Barrier::TooCostly { before, from, to }) => Some((verdict, before, *from, *to)),
            _ => None,
        });
    if let Some((verdict, before, from, to)) = costly {
        return Unavailable::TooCostly {
            provider: provider.clone(),
            profile: verdict.profile.clone(),
            before: before.clone(),
            from,
            to,
            soonest,
        };
    }
    if let Some(soonest) = soonest {
        return Unavailable::AllBenched {
            provider: provider.clone(),
            first: soonest.profile,
            until: soonest.until,
            ends: soonest.ends,
            wait: soonest.wait,
            reason: soonest.reason,
            cause: cause(free.filter_map(|verdict| verdict.bench.as_ref())),
        };
    }
    let tried = || placed().filter(|verdict| verdict.barrier == Some(Barrier::Tried));
    if let Some(first) = tried().next() {
        return Unavailable::AllTried {
            first: first.profile.clone(),
            soonest: Soonest::of(tried(), now),
        };
    }
    placed()
        .find_map(denied)
        .unwrap_or_else(|| nothing(provider, source, verdicts))
}

/// The reason of most weight, of equal ones the gravest (spec.md 5.7): a long window of a known reason weighs more than
/// any number of short ones.
fn cause<'a>(windows: impl Iterator<Item = &'a Window>) -> Reason {
    let mut weights = [0_u64; GRAVEST_FIRST.len()];
    for window in windows {
        let reason = Reason::parse(&window.reason).unwrap_or(Reason::Unclassified);
        let weight = match window.kind {
            WindowKind::Disabled if reason != Reason::Unclassified => 1000,
            _ => 1,
        };
        for (_, sum) in GRAVEST_FIRST
            .iter()
            .zip(&mut weights)
            .filter(|(one, _)| **one == reason)
        {
            *sum += weight;
        }
    }
    let weighed = GRAVEST_FIRST.into_iter().zip(weights).rev();
    let heaviest = weighed
        .filter(|(_, weight)| *weight > 0)
        .max_by_key(|(_, weight)| *weight);
    heaviest.map_or(Reason::Unclassified, |(reason, _)| reason)
}

/// What a user must deal with first comes first.
const GRAVEST_FIRST: [Reason; 9] = [
    Reason::AuthPermanent,
    Reason::Auth,
    Reason::Billing,
    Reason::Format,
    Reason::ModelNotFound,
    Reason::Overloaded,
    Reason::Timeout,
    Reason::RateLimit,
    Reason::Unclassified,
];

fn denied(verdict: &Verdict) -> Option<Unavailable> {
    match &verdict.barrier {
        Some(Barrier::Denied { rule }) => Some(Unavailable::Denied {
            profile: verdict.profile.clone(),
            rule: rule.clone(),
        }),
        _ => None,
    }
}

/// The order is empty.
fn nothing(provider: &ProviderId, source: OrderSource, verdicts: &[Verdict]) -> Unavailable {
    let provider = provider.clone();
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
                short_wait(*wait)
            ),
            Self::TooCostly {
                profile,
                before,
                from,
                to,
                soonest,
                ..
            } => {
                write!(
                    f,
                    "only {profile} is left, which is {to}, while {before} is {from}; add \"{from} -> {to}\" to `allow` \
                     under [billing] in tokensink/config.toml to let it serve"
                )?;
                or_wait(f, soonest.as_ref())
            }
            Self::Denied { profile, rule } => write!(
                f,
                "{profile} is denied by the rule {rule}; change it in tokensink/config.toml"
            ),
            Self::AllTried { first, soonest } => {
                write!(
                    f,
                    "{first} was tried for this request, and nobody is left to take its place"
                )?;
                or_wait(f, soonest.as_ref())
            }
            Self::Profile { profile, eligibility } => {
                write!(f, "{profile} cannot be used: {}", eligibility.detail)
            }
        }
    }
}

/// What waiting would help, after a sentence that says what else does.
fn or_wait(f: &mut fmt::Formatter<'_>, soonest: Option<&Soonest>) -> fmt::Result {
    soonest.map_or(Ok(()), |soonest| write!(f, "; {soonest}"))
}

impl fmt::Display for Soonest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = short_wait(self.wait);
        write!(f, "{} ({}) is free in {left}", self.profile, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bucket;

    #[test]
    fn what_benched_all() {
        let of = |windows: &[(WindowKind, &str)]| {
            let windows: Vec<Window> = windows
                .iter()
                .map(|(kind, reason)| Window {
                    kind: *kind,
                    until: UnixMillis(1),
                    reason: (*reason).to_owned(),
                    bucket: Bucket::Account,
                    ours: None,
                })
                .collect();
            cause(windows.iter())
        };
        let short = |reason| (WindowKind::Cooldown, reason);
        let long = |reason| (WindowKind::Disabled, reason);
        let cases: [(&[_], Reason); 8] = [
            (&[], Reason::Unclassified),
            (&[short("rate_limit")], Reason::RateLimit),
            (&[short("rate_limit"), short("overloaded")], Reason::Overloaded),
            (
                &[short("rate_limit"), short("rate_limit"), short("auth")],
                Reason::RateLimit,
            ),
            (
                &[short("rate_limit"), short("rate_limit"), long("billing")],
                Reason::Billing,
            ),
            (&[long("billing"), long("auth_permanent")], Reason::AuthPermanent),
            (
                &[long("unknown"), short("timeout"), short("timeout")],
                Reason::Timeout,
            ),
            (&[short("what other programs may say")], Reason::Unclassified),
        ];
        for (windows, want) in cases {
            assert_eq!(of(windows), want, "{windows:?}");
        }
    }
}
