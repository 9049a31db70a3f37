//! What keeps an eligible profile from one request though no window does: the user's rules, money, and what was tried.
//!
//! A profile is too costly when one that comes before it costs less and the user did not allow that very crossing.
//! Before it come: in a sequence that somebody wrote down, those that stand before it, whatever their state, so that
//! no failure of a cheaper account opens a costlier one; where nobody wrote a sequence, all others; the profiles that
//! were tried for this request; and the one that the session stays with. A profile that the caller prefers is not
//! compared with the order.

use std::collections::{BTreeMap, HashMap};

use tokensink_types::{BillingClass, ProfileId};

use super::World;
use crate::{Barrier, Candidate, Config, ResolvedOrder, Rule, State, Verdict};

/// Says of every profile in the order what keeps it from this request.
pub(super) fn raise(world: &World<'_>, order: &mut ResolvedOrder, keeps: Option<&ProfileId>) {
    let World { config, request, .. } = world;
    let kept = request.tried.iter().chain(keeps);
    let kept = kept.filter_map(|id| world.state.candidate(id));
    let money = Money::of(order, kept.map(|candidate| (candidate.billing, &candidate.id)));
    let prices: Vec<Price> = order
        .verdicts
        .iter()
        .map(|verdict| money.judge(config, verdict, request.preferred.as_ref()))
        .collect();
    for (verdict, price) in order.verdicts.iter_mut().zip(prices) {
        if verdict.position.is_none() {
            continue;
        }
        // Looked up only where there are rules, for there may be a thousand profiles.
        let subject = (!config.deny.is_empty()).then(|| world.state.candidate(&verdict.profile));
        let denied = (subject.flatten())
            .and_then(|candidate| denied(config, world.state, candidate, request.model.as_deref()));
        let tried = || request.tried.contains(&verdict.profile).then_some(Barrier::Tried);
        verdict.crosses = price.crosses;
        verdict.barrier = denied.or(price.barrier).or_else(tried);
        if let Some(barrier) = verdict.barrier.as_ref().filter(|_| !hides_bench(verdict)) {
            verdict.rule = rule(barrier);
        }
    }
}

/// Of a profile that was tried and that has a window, the window says more.
fn hides_bench(verdict: &Verdict) -> bool {
    verdict.is_benched() && verdict.barrier == Some(Barrier::Tried)
}

/// The rule of the user that forbids `candidate`.
pub(super) fn denied(
    config: &Config,
    state: &State,
    candidate: &Candidate,
    model: Option<&str>,
) -> Option<Barrier> {
    let rule = config.denies(&state.agent, candidate, model)?;
    Some(Barrier::Denied {
        rule: rule.id.clone(),
    })
}

/// The word that goes with a barrier.
pub(super) fn rule(barrier: &Barrier) -> Rule {
    match barrier {
        Barrier::Denied { .. } => Rule::Denied,
        Barrier::TooCostly { .. } => Rule::TooCostly,
        Barrier::Tried => Rule::Tried,
    }
}

/// The first profile of each class among those that come before another.
type Firsts<'a> = BTreeMap<BillingClass, &'a ProfileId>;

struct Money<'a> {
    /// What comes before every profile.
    kept: Firsts<'a>,
    /// What comes before a profile by the order.
    before: HashMap<&'a ProfileId, Firsts<'a>>,
    /// The same for one that the order does not have.
    all: Firsts<'a>,
}

struct Price {
    barrier: Option<Barrier>,
    crosses: Option<BillingClass>,
}

impl<'a> Money<'a> {
    fn of(order: &'a ResolvedOrder, kept: impl Iterator<Item = (BillingClass, &'a ProfileId)>) -> Self {
        let classes: HashMap<&ProfileId, BillingClass> = order
            .verdicts
            .iter()
            .filter_map(|verdict| Some((&verdict.profile, verdict.billing?)))
            .collect();
        let mut firsts = Firsts::new();
        let mut before = HashMap::new();
        for id in &order.sequence {
            if order.is_explicit() {
                before.insert(id, firsts.clone());
            }
            if let Some(class) = classes.get(id) {
                firsts.entry(*class).or_insert(id);
            }
        }
        let mut always = Firsts::new();
        for (class, id) in kept {
            always.entry(class).or_insert(id);
        }
        Self {
            kept: always,
            before,
            all: firsts,
        }
    }

    fn judge(&self, config: &Config, verdict: &Verdict, preferred: Option<&ProfileId>) -> Price {
        let mut price = Price {
            barrier: None,
            crosses: None,
        };
        let Some(to) = verdict.billing else {
            return price;
        };
        let by_order = self.before.get(&verdict.profile).unwrap_or(&self.all);
        let by_order = Some(by_order).filter(|_| preferred != Some(&verdict.profile));
        for from in BillingClass::ALL.into_iter().filter(|from| *from < to) {
            let first = self.kept.get(&from).or_else(|| by_order?.get(&from));
            let Some(before) = first else {
                continue;
            };
            if config.allow_crossings.contains(&(from, to)) {
                price.crosses = price.crosses.or(Some(from));
            } else {
                price.crosses = None;
                price.barrier = Some(Barrier::TooCostly {
                    before: (*before).clone(),
                    from,
                    to,
                });
                break;
            }
        }
        price
    }
}
