//! What the user configured and what the store holds, as plain data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokensink_types::{AgentId, BillingClass, CredentialKind, ProfileId, ProviderId, UnixMillis};

use crate::{Candidate, ProviderAliases};

/// Orders by provider id as written; looked up through [`ProviderAliases`].
pub type ProviderOrders = BTreeMap<ProviderId, Vec<ProfileId>>;

/// The part of the configuration that selection depends on (spec.md 2.9).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Which provider ids mean the same.
    pub aliases: ProviderAliases,
    /// `auth.profiles`, in the order of the file.
    pub profiles: Vec<ConfigProfile>,
    /// `auth.order`. An empty list is kept: it selects none (spec.md 4.2).
    pub order: ProviderOrders,
    /// The moves from a cheaper class to a costlier one that the user allows; all others are refused (design: Money).
    #[serde(default)]
    pub allow_crossings: BTreeSet<(BillingClass, BillingClass)>,
    /// What must not be used, whoever asks for it and how.
    #[serde(default)]
    pub deny: Vec<DenyRule>,
}

/// Forbids profiles. Every field that is given must fit; a rule without fields forbids everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyRule {
    /// Its name, which stands in decisions.
    pub id: String,
    /// Only for requests of this agent.
    pub agent: Option<AgentId>,
    /// Only profiles of this provider, by any of its names.
    pub provider: Option<ProviderId>,
    /// Only this profile.
    pub profile: Option<ProfileId>,
    /// Only calls of this model, as the provider names it. A request that does not name its model may be for any, so
    /// the rule holds for it as well.
    pub model: Option<String>,
    /// Only profiles of this class.
    pub billing: Option<BillingClass>,
}

/// What a call would use, as far as rules of the user want to know.
#[derive(Debug, Clone, Copy)]
pub struct Used<'a> {
    /// The profile, where it is one.
    pub profile: Option<&'a ProfileId>,
    /// Its provider.
    pub provider: &'a ProviderId,
    /// What it costs.
    pub billing: BillingClass,
}

/// One entry of `auth.profiles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigProfile {
    /// The key.
    pub id: ProfileId,
    /// `provider`.
    pub provider: ProviderId,
    /// `mode`; `None` for a word that is no kind of stored credential (`aws-sdk`). Such an entry fits nothing.
    pub mode: Option<CredentialKind>,
}

impl Config {
    /// The entry of `auth.profiles` for `id`.
    #[must_use]
    pub fn profile(&self, id: &ProfileId) -> Option<&ConfigProfile> {
        self.profiles.iter().find(|entry| entry.id == *id)
    }

    /// The first rule that forbids `agent` to call `model` on `candidate`.
    #[must_use]
    pub fn denies(&self, agent: &AgentId, candidate: &Candidate, model: Option<&str>) -> Option<&DenyRule> {
        let used = Used {
            profile: Some(&candidate.id),
            provider: &candidate.facts.provider,
            billing: candidate.billing,
        };
        self.denies_use(agent, &used, model)
    }

    /// The same for what may be no profile: a program that has a login of its own.
    #[must_use]
    pub fn denies_use(&self, agent: &AgentId, used: &Used<'_>, model: Option<&str>) -> Option<&DenyRule> {
        let aliases = &self.aliases;
        self.deny.iter().find(|rule| {
            rule.agent.as_ref().is_none_or(|only| only == agent)
                && (rule.profile.as_ref()).is_none_or(|only| used.profile == Some(only))
                && rule.billing.is_none_or(|only| only == used.billing)
                && (rule.provider.as_ref()).is_none_or(|only| aliases.same(only, used.provider))
                && (rule.model.as_deref()).is_none_or(|only| model.is_none_or(|called| called == only))
        })
    }
}

/// What an agent sees: its own profiles and those that it inherits, with their use so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The agent that asks.
    pub agent: AgentId,
    /// The stored order (`auth-state.json`). An empty list means "no override" (spec.md 4.2).
    pub order: ProviderOrders,
    /// The profiles in store order. Nothing outside this list is ever chosen. Where an id stands twice, the first
    /// one counts.
    pub candidates: Vec<Candidate>,
}

impl State {
    /// The profile with that id.
    #[must_use]
    pub fn candidate(&self, id: &ProfileId) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.id == *id)
    }

    /// The first instant after `now` at which a decision about these profiles may come out differently though nobody
    /// does anything: a window or a credential ends, or a bench may be tested. `None` when that never happens. Until then, a decision that was
    /// made at `now` need not be made again.
    #[must_use]
    pub fn next_change(&self, now: UnixMillis) -> Option<UnixMillis> {
        let ends = self.candidates.iter().flat_map(Candidate::ends);
        ends.filter(|end| *end > now).min()
    }
}

/// The list for `provider` in `orders`: the one under the same id, else the first under an id that means the same.
pub(crate) fn order_for<'a>(
    orders: &'a ProviderOrders,
    aliases: &ProviderAliases,
    provider: &ProviderId,
) -> Option<&'a [ProfileId]> {
    let exact = orders.get(provider);
    let canonical = || orders.get(aliases.canonical(provider));
    let same = || {
        orders
            .iter()
            .find(|(key, _)| aliases.same(key, provider))
            .map(|(_, list)| list)
    };
    exact.or_else(canonical).or_else(same).map(Vec::as_slice)
}
