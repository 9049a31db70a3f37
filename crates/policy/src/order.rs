//! The sequence in which the profiles of a provider are tried (spec.md 4.2, age C2).
//!
//! The stored override wins over `auth.order` of the config, that over the profiles listed in `auth.profiles`, and
//! that over everything stored. `lastGood` is no input: a profile that worked once must not push aside the order
//! that the user gave.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tokensink_types::{AgentId, BillingClass, CredentialKind, ProfileId, ProviderId, UnixMillis, short_wait};

use crate::candidate::Standing;
use crate::config::order_for;
use crate::eligibility::kind_of;
use crate::{
    Ask, Candidate, Config, Eligibility, EligibilityCode, OAuthRefError, Purpose, State, Window, eligibility,
};

/// What an order is resolved from.
#[derive(Debug, Clone, Copy)]
pub struct OrderInput<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The agent's view of the store.
    pub state: &'a State,
    /// The provider.
    pub provider: &'a ProviderId,
    /// A profile to try first if it is in the order.
    pub preferred: Option<&'a ProfileId>,
    /// The model that is wanted: windows of other models then do not count. `None` counts every window, as
    /// `models auth order` does.
    pub model: Option<&'a str>,
    /// The present.
    pub now: UnixMillis,
}

/// Where the list of profiles came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderSource {
    /// The order in the store (`models auth order set`).
    #[serde(rename = "stored-order")]
    Stored,
    /// `auth.order` in the config.
    #[serde(rename = "config-order")]
    Config,
    /// The entries of `auth.profiles` in the config.
    #[serde(rename = "config-profiles")]
    Configured,
    /// Everything stored for the provider.
    #[serde(rename = "all-stored")]
    AllStored,
}

impl OrderSource {
    /// The word for JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored-order",
            Self::Config => "config-order",
            Self::Configured => "config-profiles",
            Self::AllStored => "all-stored",
        }
    }

    /// True when somebody wrote down a sequence, which is then kept.
    #[must_use]
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Stored | Self::Config)
    }
}

/// The rule that decided about one profile. The words are stable; a later rule gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Chosen: the first in the order that may be used now.
    Chosen,
    /// Chosen: asked for by its id.
    ChosenById,
    /// Chosen: the session's profile.
    ChosenByPin,
    /// Usable, moved to the front because it is preferred.
    Preferred,
    /// Usable, in its place.
    Usable,
    /// In the order, but cooling down.
    Benched,
    /// In the order, but tried already for this request.
    Tried,
    /// In the order, but costlier than a profile before it, and nobody allowed that.
    TooCostly,
    /// Forbidden by a rule.
    Denied,
    /// Cannot be used at all.
    Ineligible,
    /// Left out by the explicit order.
    NotInOrder,
    /// Left out because `auth.profiles` lists other profiles of the provider.
    NotConfigured,
}

impl Rule {
    /// The word for JSON and `explain`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chosen => "chosen",
            Self::ChosenById => "chosen-by-id",
            Self::ChosenByPin => "chosen-by-pin",
            Self::Preferred => "preferred",
            Self::Usable => "usable",
            Self::Benched => "benched",
            Self::Tried => "tried",
            Self::TooCostly => "too-costly",
            Self::Denied => "denied",
            Self::Ineligible => "ineligible",
            Self::NotInOrder => "not-in-order",
            Self::NotConfigured => "not-configured",
        }
    }
}

/// What was found out about one profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The profile.
    pub profile: ProfileId,
    /// The agent that owns it; `None` when the id is not stored.
    pub owner: Option<AgentId>,
    /// Its place in the order, counted from 0; `None` when it is not in it.
    pub position: Option<usize>,
    /// Whether it can be used at all.
    pub eligibility: Eligibility,
    /// What a request on it costs; `None` when the id is not stored.
    pub billing: Option<BillingClass>,
    /// The window that ends last of those that are open.
    pub bench: Option<Window>,
    /// The window may be tested by a request now, so that it keeps nobody back.
    pub tests: bool,
    /// When its windows give way, by their ends or to a test; `None` when none is open.
    pub free_at: Option<UnixMillis>,
    /// What keeps it from this request apart from a window.
    pub barrier: Option<Barrier>,
    /// The cheapest class that this request would leave for it, by leave of the user.
    pub crosses: Option<BillingClass>,
    /// What decided.
    pub rule: Rule,
}

/// What keeps an eligible profile from one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Barrier {
    /// A rule of the user.
    Denied {
        /// Its id.
        rule: String,
    },
    /// Its price.
    TooCostly {
        /// The cheaper profile before it.
        before: ProfileId,
        /// What that one costs.
        from: BillingClass,
        /// What this one costs.
        to: BillingClass,
    },
    /// It was tried already for this request.
    Tried,
}

impl Verdict {
    /// A window keeps it from being tried.
    #[must_use]
    pub fn is_benched(&self) -> bool {
        self.bench.is_some() && !self.tests
    }

    /// It is in the order, and nothing keeps it from this request.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.position.is_some() && self.barrier.is_none() && !self.is_benched()
    }

    /// A sentence for people, with times relative to `now`.
    #[must_use]
    pub fn why(&self, now: UnixMillis) -> String {
        let bench = self.bench.as_ref().map(|window| {
            let scope = window.bucket.words();
            let scope = scope.map_or_else(String::new, |calls| format!(" for {calls}"));
            let left = short_wait(now.until(window.until));
            format!(
                "{}{scope} for {left} more ({})",
                window.kind.as_str(),
                window.reason
            )
        });
        match (self.rule, bench) {
            (Rule::Chosen, Some(bench)) if self.tests => {
                format!("first in the order that may be used now, as a test of a {bench}")
            }
            (Rule::Chosen, _) => "first in the order that may be used now".to_owned(),
            (Rule::ChosenByPin, None) => "the session's profile".to_owned(),
            (Rule::ChosenByPin, Some(bench)) if self.tests => {
                format!("the session's profile, as a test of a {bench}")
            }
            (Rule::ChosenByPin, Some(bench)) => format!("the session's profile, in spite of a {bench}"),
            (Rule::Tried | Rule::TooCostly | Rule::Denied, _) => self.barred(),
            (Rule::ChosenById, None) => "asked for by its id".to_owned(),
            (Rule::ChosenById, Some(bench)) => format!("asked for by its id, in spite of a {bench}"),
            (Rule::Preferred, _) => "preferred".to_owned(),
            (Rule::Usable, _) => "usable, behind another".to_owned(),
            (Rule::Benched, bench) => bench.unwrap_or_default(),
            (Rule::Ineligible | Rule::NotInOrder | Rule::NotConfigured, _) => self.eligibility.detail.clone(),
        }
    }
}

impl Verdict {
    fn barred(&self) -> String {
        match &self.barrier {
            Some(Barrier::Denied { rule }) => format!("denied by the rule {rule}"),
            Some(Barrier::TooCostly { before, from, to }) => {
                format!(
                    "{to}, and {before} is {from}; by [billing] in tokensink/config.toml no call may move to it now"
                )
            }
            Some(Barrier::Tried) | None => "tried already for this request".to_owned(),
        }
    }
}

/// An order with the reasons for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedOrder {
    /// Where the list came from.
    pub source: OrderSource,
    /// True when the list named only profiles that are not stored, so that everything stored took its place.
    pub repaired: bool,
    /// The provider's profiles of the list that are stored, in its sequence, whatever their state.
    pub sequence: Vec<ProfileId>,
    /// One verdict per profile: first those in the order, by position; then the others that the list names; then
    /// what else is stored for the provider.
    pub verdicts: Vec<Verdict>,
}

impl ResolvedOrder {
    /// The ids in the order.
    pub fn profiles(&self) -> impl Iterator<Item = &ProfileId> {
        self.verdicts
            .iter()
            .filter(|verdict| verdict.position.is_some())
            .map(|verdict| &verdict.profile)
    }

    /// True when somebody wrote the sequence down and it is in force.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.source.is_explicit() && !self.repaired
    }

    /// The verdict about `id`, if it was looked at.
    #[must_use]
    pub fn verdict(&self, id: &ProfileId) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.profile == *id)
    }
}

/// Resolves the order of a provider (spec.md 4.2, steps 1 to 8).
///
/// # Errors
/// When a profile that the order names keeps OAuth tokens as references (spec.md 4.3).
pub fn resolve_order(input: OrderInput<'_>) -> Result<ResolvedOrder, OAuthRefError> {
    let stored: Vec<&Candidate> = stored_for(&input);
    let (source, base) = base(&input, &stored);
    let by_id = by_id(&input.state.candidates);
    let mut judged = judge(&input, base, &by_id)?;
    let repaired = needs_repair(&input, &judged);
    if repaired {
        judged.extend(judge(&input, unique(stored.iter().map(|c| &c.id)), &by_id)?);
    }
    let own = |stored: &Candidate| input.config.aliases.same(&stored.facts.provider, input.provider);
    let in_list = judged.iter().filter(|one| one.stored.is_some_and(own));
    let sequence = in_list.map(|one| one.id.clone()).collect();
    let mut looked_at: HashSet<&ProfileId> = judged.iter().map(|one| one.id).collect();
    let (mut ordered, refused): (Vec<Judged<'_>>, Vec<Judged<'_>>) =
        judged.into_iter().partition(|one| one.eligibility.is_ok());
    arrange(&mut ordered, source.is_explicit());
    if let Some(at) = ordered.iter().position(|one| Some(one.id) == input.preferred) {
        ordered[..=at].rotate_right(1);
    }

    let mut verdicts: Vec<Verdict> = Vec::with_capacity(stored.len());
    for (position, one) in ordered.into_iter().enumerate() {
        let rule = match (one.is_benched(), Some(one.id) == input.preferred) {
            (true, _) => Rule::Benched,
            (false, true) => Rule::Preferred,
            (false, false) => Rule::Usable,
        };
        verdicts.push(one.verdict(Some(position), rule));
    }
    verdicts.extend(refused.into_iter().map(|one| one.verdict(None, Rule::Ineligible)));
    for candidate in stored {
        if looked_at.insert(&candidate.id) {
            verdicts.push(left_out(&input, candidate, source));
        }
    }
    Ok(ResolvedOrder {
        source,
        repaired,
        sequence,
        verdicts,
    })
}

/// A profile of the list, looked at.
struct Judged<'a> {
    id: &'a ProfileId,
    stored: Option<&'a Candidate>,
    eligibility: Eligibility,
    standing: Standing,
}

impl Judged<'_> {
    fn is_benched(&self) -> bool {
        self.standing.window.is_some() && !self.standing.tests
    }

    fn verdict(self, position: Option<usize>, rule: Rule) -> Verdict {
        Verdict {
            profile: self.id.clone(),
            owner: self.stored.map(|candidate| candidate.owner.clone()),
            position,
            eligibility: self.eligibility,
            billing: self.stored.map(|candidate| candidate.billing),
            bench: self.standing.window,
            tests: self.standing.tests,
            free_at: self.standing.free_at,
            barrier: None,
            crosses: None,
            rule,
        }
    }
}

fn stored_for<'a>(input: &OrderInput<'a>) -> Vec<&'a Candidate> {
    let aliases = &input.config.aliases;
    let candidates = &input.state.candidates;
    candidates
        .iter()
        .filter(|candidate| aliases.same(&candidate.facts.provider, input.provider))
        .collect()
}

/// The stored profiles by id; where an id stands twice, the first one counts.
fn by_id(candidates: &[Candidate]) -> HashMap<&ProfileId, &Candidate> {
    let mut map = HashMap::with_capacity(candidates.len());
    for candidate in candidates {
        map.entry(&candidate.id).or_insert(candidate);
    }
    map
}

/// Steps 2 to 4 and 6: the list to judge, without repetitions, and where it came from.
fn base<'a>(input: &OrderInput<'a>, stored: &[&'a Candidate]) -> (OrderSource, Vec<&'a ProfileId>) {
    let Config {
        aliases,
        profiles,
        order,
        ..
    } = input.config;
    let by_store = order_for(&input.state.order, aliases, input.provider).filter(|list| !list.is_empty());
    if let Some(list) = by_store {
        return (OrderSource::Stored, unique(list));
    }
    if let Some(list) = order_for(order, aliases, input.provider) {
        return (OrderSource::Config, unique(list));
    }
    let configured = unique(
        profiles
            .iter()
            .filter(|entry| aliases.same(&entry.provider, input.provider))
            .map(|entry| &entry.id),
    );
    if configured.is_empty() {
        (
            OrderSource::AllStored,
            unique(stored.iter().map(|candidate| &candidate.id)),
        )
    } else {
        (OrderSource::Configured, configured)
    }
}

fn unique<'a>(ids: impl IntoIterator<Item = &'a ProfileId>) -> Vec<&'a ProfileId> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

fn judge<'a>(
    input: &OrderInput<'a>,
    ids: Vec<&'a ProfileId>,
    by_id: &HashMap<&ProfileId, &'a Candidate>,
) -> Result<Vec<Judged<'a>>, OAuthRefError> {
    let ask = Ask {
        config: input.config,
        provider: Some(input.provider),
        purpose: Purpose::Order,
        now: input.now,
    };
    ids.into_iter()
        .map(|id| {
            let stored = by_id.get(id).copied();
            Ok(Judged {
                id,
                stored,
                eligibility: eligibility(id, stored, &ask)?,
                standing: stored.map_or_else(Standing::default, |candidate| {
                    candidate.standing(&input.config.aliases, input.model, input.now)
                }),
            })
        })
        .collect()
}

/// Step 5: config and store have drifted apart when the config lists profiles of the provider and none of the ids
/// in the list is stored any more. An empty list has not drifted; it selects none.
fn needs_repair(input: &OrderInput<'_>, judged: &[Judged<'_>]) -> bool {
    let configured = input
        .config
        .profiles
        .iter()
        .any(|entry| input.config.aliases.same(&entry.provider, input.provider));
    configured && !judged.is_empty() && judged.iter().all(|one| one.stored.is_none())
}

/// Step 7: cooling profiles go last, the one that is free soonest first; one that may be tested keeps its place. Before them an explicit sequence stays as
/// it is; otherwise the kinds take turns by price of use (OAuth, token, key) and the one used longest ago leads.
/// All sorts are stable, so that what is equal stays in store order.
fn arrange(ordered: &mut [Judged<'_>], explicit: bool) {
    ordered.sort_by_key(|one| {
        let window = one.standing.window.as_ref().filter(|_| one.is_benched());
        window.map(|window| window.until)
    });
    if explicit {
        return;
    }
    let usable = ordered.partition_point(|one| !one.is_benched());
    ordered[..usable].sort_by_key(|one| {
        let used = one
            .stored
            .and_then(|candidate| candidate.usage.last_used)
            .unwrap_or_default();
        (
            Reverse(one.stored.map(|c| renewability(kind_of(c.facts.form)))),
            used,
        )
    });
}

/// OAuth before token before key.
fn renewability(kind: CredentialKind) -> u8 {
    match kind {
        CredentialKind::OAuth => 2,
        CredentialKind::Token => 1,
        CredentialKind::ApiKey => 0,
    }
}

fn left_out(input: &OrderInput<'_>, candidate: &Candidate, source: OrderSource) -> Verdict {
    let id = &candidate.id;
    let provider = input.provider;
    let (rule, code, detail) = match source {
        OrderSource::Stored => (
            Rule::NotInOrder,
            EligibilityCode::ExcludedByAuthOrder,
            format!(
                "left out by the stored order; `tokensink models auth order clear --provider {provider}` removes it"
            ),
        ),
        OrderSource::Config => (
            Rule::NotInOrder,
            EligibilityCode::ExcludedByAuthOrder,
            format!("left out by auth.order.{provider} in openclaw.json; add {id} to it"),
        ),
        OrderSource::Configured | OrderSource::AllStored => (
            Rule::NotConfigured,
            EligibilityCode::IneligibleProfile,
            format!(
                "auth.profiles in openclaw.json lists other profiles of {provider}, but not {id}; add it there"
            ),
        ),
    };
    let judged = Judged {
        id,
        stored: Some(candidate),
        eligibility: Eligibility::not(code, detail),
        standing: candidate.standing(&input.config.aliases, input.model, input.now),
    };
    judged.verdict(None, rule)
}

/// A number that changes with the order of a provider that was configured or set, so that automatic pins are looked
/// at anew when it does ([`crate::pin`]). Benches, use, and logins that are added
/// where nobody wrote an order down do not change it. It is the same in every process and every version, and small
/// enough for a JSON number.
#[must_use]
pub fn order_mark(config: &Config, state: &State, provider: &ProviderId) -> u64 {
    let by_store = order_for(&state.order, &config.aliases, provider).filter(|list| !list.is_empty());
    let Some(list) = by_store.or_else(|| order_for(&config.order, &config.aliases, provider)) else {
        return 0;
    };
    // FNV-1a, 64 bit, cut to the 53 bits that every reader of JSON keeps. The separator is no byte of UTF-8.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for id in unique(list) {
        for byte in id.as_str().bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    (hash & ((1 << 53) - 1)).max(1)
}

#[cfg(test)]
mod tests;
