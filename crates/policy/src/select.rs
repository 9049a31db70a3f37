//! The decision: which profile serves a request now.
//!
//! First the order of the provider ([`resolve_order`]), then what keeps a profile of it from this request ([`barriers`]:
//! rules, money, what was tried), then the session's pin ([`pin::resolve`]), then the first that is left. A user's pin
//! and a profile that is asked for by its id stand outside the order: neither a window nor a price keeps them back,
//! only a rule does.

mod barriers;
mod unavailable;

use serde::{Deserialize, Serialize};
use tokensink_types::{AgentId, BillingClass, ProfileId, ProviderId, UnixMillis};

use crate::pin::{self, Pin, PinSource, Pinned, Place, Session, Why};
use crate::{
    Ask, Barrier, Candidate, Config, OAuthRefError, OrderInput, OrderSource, Purpose, ResolvedOrder, Rule,
    State, Verdict, eligibility, order_mark, resolve_order,
};

pub use unavailable::{Soonest, Unavailable};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Any profile of a provider, or one profile.
    pub target: Target,
    /// With a provider: the profile to try first if it is in the order. Its price needs no further leave.
    pub preferred: Option<ProfileId>,
    /// The model that will be called, if it is known: windows of other models then do not count.
    pub model: Option<String>,
    /// With a provider: the session whose profile it keeps. `None` for a request outside any session.
    pub session: Option<SessionPin>,
    /// The profiles that were tried for this request already; none is tried twice.
    pub tried: Vec<ProfileId>,
}

impl Request {
    /// A request for `target` and nothing else.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            preferred: None,
            model: None,
            session: None,
            tried: Vec::new(),
        }
    }
}

/// A session as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPin {
    /// Its pin.
    pub pin: Option<Pin>,
    /// The first run after `/new`, `/reset` or the session's expiry.
    pub is_new: bool,
    /// How often the session has been compacted.
    pub compactions: u64,
}

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The best profile of this provider.
    Provider(ProviderId),
    /// This profile and no other. It need not be in the order, and a cooldown does not keep it back
    /// (spec.md 6.1, 6.2).
    Profile(ProfileId),
}

/// The answer, with everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What was decided.
    pub outcome: Outcome,
    /// Where the order came from; `None` when one profile was asked for.
    pub source: Option<OrderSource>,
    /// What the session is to store, and why; `None` without a session. Where nobody serves, its pin is what it was.
    pub pin: Option<Pinned>,
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

    /// The verdict about `id`, if it was looked at.
    #[must_use]
    pub fn verdict(&self, id: &ProfileId) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.profile == *id)
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// This profile serves the request.
    Chosen(Choice),
    /// None does.
    Unavailable(Unavailable),
}

/// The chosen profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The cheapest class that the request leaves for it, by leave of the user; to be told to whoever pays.
    pub crosses: Option<BillingClass>,
    /// The request tests a bench. Claim the test first ([`crate::bench::Benches::probe`]); whoever cannot decides
    /// again, with a state that says that it is being tested.
    pub tests: bool,
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
    let world = World {
        config,
        state,
        request,
        now,
    };
    match &request.target {
        Target::Profile(id) => world.by_id(id, None, Rule::ChosenById),
        Target::Provider(provider) => world.by_order(provider),
    }
}

/// Everything that has a say.
#[derive(Clone, Copy)]
struct World<'a> {
    config: &'a Config,
    state: &'a State,
    request: &'a Request,
    now: UnixMillis,
}

impl World<'_> {
    /// One profile and no other, of `provider` where one is given.
    fn by_id(
        &self,
        id: &ProfileId,
        provider: Option<&ProviderId>,
        rule: Rule,
    ) -> Result<Decision, OAuthRefError> {
        let stored = self.state.candidate(id);
        let ask = Ask {
            config: self.config,
            provider,
            purpose: Purpose::Resolve,
            now: self.now,
        };
        let eligibility = eligibility(id, stored, &ask)?;
        let model = self.request.model.as_deref();
        let standing = stored.map(|candidate| candidate.standing(&self.config.aliases, model, self.now));
        let standing = standing.unwrap_or_default();
        let usable = stored.filter(|_| eligibility.is_ok());
        let barrier = usable.and_then(|candidate| {
            let tried = || self.request.tried.contains(id).then_some(Barrier::Tried);
            barriers::denied(self.config, self.state, candidate, model).or_else(tried)
        });
        let verdict = Verdict {
            profile: id.clone(),
            owner: stored.map(|candidate| candidate.owner.clone()),
            position: usable.map(|_| 0),
            eligibility,
            billing: stored.map(|candidate| candidate.billing),
            bench: standing.window,
            tests: standing.tests,
            free_at: standing.free_at,
            crosses: None,
            rule: match (usable, &barrier) {
                (None, _) => Rule::Ineligible,
                (_, Some(barrier)) => barriers::rule(barrier),
                (Some(_), None) => rule,
            },
            barrier,
        };
        let outcome = match usable.filter(|_| verdict.barrier.is_none()) {
            Some(candidate) => Outcome::Chosen(choice(candidate, &verdict)),
            None => Outcome::Unavailable(unavailable::of_profile(&verdict, stored, self.now)),
        };
        Ok(Decision {
            outcome,
            source: None,
            pin: None,
            verdicts: vec![verdict],
        })
    }

    fn by_order(&self, provider: &ProviderId) -> Result<Decision, OAuthRefError> {
        let mut order = resolve_order(OrderInput {
            config: self.config,
            state: self.state,
            provider,
            preferred: self.request.preferred.as_ref(),
            model: self.request.model.as_deref(),
            now: self.now,
        })?;
        let mark = order_mark(self.config, self.state, provider);
        barriers::raise(self, &mut order, self.keeps(mark));
        let Some(session) = &self.request.session else {
            let first = order.verdicts.iter().position(Verdict::is_usable);
            return Ok(self.decided(provider, order, first, Rule::Chosen, None));
        };
        let pinned = self.pinned(provider, session, &order, mark);
        if let (Why::Locked, Some(id)) = (pinned.why, &pinned.profile) {
            return self.locked(provider, order, id, &pinned);
        }
        let chosen =
            |verdict: &Verdict| Some(&verdict.profile) == pinned.profile.as_ref() && verdict.is_usable();
        let at = order.verdicts.iter().position(chosen);
        let rule = match pinned.why {
            Why::Kept | Why::Cheaper => Rule::ChosenByPin,
            _ => Rule::Chosen,
        };
        let pinned = match at {
            Some(_) => pinned,
            None => unmoved(session, pinned.why),
        };
        Ok(self.decided(provider, order, at, rule, Some(pinned)))
    }

    /// The profile that the session stays with unless something speaks against it: what costs more is a crossing.
    fn keeps(&self, mark: u64) -> Option<&ProfileId> {
        let session = self.request.session.as_ref().filter(|session| !session.is_new)?;
        let auto =
            |pin: &&Pin| pin.source == PinSource::Auto && pin.order_mark.is_none_or(|under| under == mark);
        session.pin.as_ref().filter(auto).map(|pin| &pin.profile)
    }

    /// Resolves the session's pin among the profiles that may serve it at all.
    fn pinned(
        &self,
        provider: &ProviderId,
        session: &SessionPin,
        order: &ResolvedOrder,
        mark: u64,
    ) -> Pinned {
        let may = |verdict: &&Verdict| {
            let barred = matches!(
                verdict.barrier,
                Some(Barrier::Denied { .. } | Barrier::TooCostly { .. })
            );
            verdict.position.is_some() && !barred
        };
        let places: Vec<Place> = order
            .verdicts
            .iter()
            .filter(may)
            .map(|verdict| Place {
                profile: verdict.profile.clone(),
                benched: !verdict.is_usable(),
            })
            .collect();
        let aliases = &self.config.aliases;
        let exists = |id: &ProfileId| {
            let stored = self.state.candidate(id);
            stored.is_some_and(|candidate| aliases.same(&candidate.facts.provider, provider))
        };
        // Where a session may cross to a costlier class, it lives with a cheaper one and returns there.
        let home = order
            .verdicts
            .iter()
            .filter(may)
            .find(|verdict| verdict.crosses.is_none());
        let homeward = |pin: &Pin| {
            let crosses = order
                .verdict(&pin.profile)
                .is_some_and(|verdict| verdict.crosses.is_some());
            let home = home.filter(|_| crosses && pin.source == PinSource::Auto)?;
            Some(Pin {
                profile: home.profile.clone(),
                ..pin.clone()
            })
        };
        let moved = session.pin.as_ref().and_then(homeward);
        let mut pinned = pin::resolve(
            &Session {
                pin: moved.as_ref().or(session.pin.as_ref()),
                is_new: session.is_new,
                compactions: session.compactions,
                order_mark: mark,
            },
            &places,
            &exists,
        );
        if moved.is_some() && pinned.why == Why::Kept {
            pinned.why = Why::Cheaper;
        }
        if let Some(moved) = pinned.pin.as_ref().and_then(homeward) {
            pinned.pin = Some(moved);
        }
        pinned
    }

    /// A user's pin: its profile serves or nobody does. The others are told what they would have been.
    fn locked(
        &self,
        provider: &ProviderId,
        order: ResolvedOrder,
        id: &ProfileId,
        pinned: &Pinned,
    ) -> Result<Decision, OAuthRefError> {
        let mut decision = self.by_id(id, Some(provider), Rule::ChosenByPin)?;
        let ResolvedOrder {
            source, mut verdicts, ..
        } = order;
        let own = decision.verdicts.pop();
        match (verdicts.iter().position(|verdict| verdict.profile == *id), own) {
            (Some(at), Some(own)) => {
                let position = verdicts[at].position;
                verdicts[at] = Verdict { position, ..own };
            }
            (None, Some(own)) => verdicts.push(Verdict {
                position: None,
                ..own
            }),
            (_, None) => {}
        }
        decision.verdicts = verdicts;
        decision.source = Some(source);
        decision.pin = Some(match decision.choice() {
            Some(_) => pinned.clone(),
            None => Pinned {
                profile: None,
                ..pinned.clone()
            },
        });
        Ok(decision)
    }

    fn decided(
        &self,
        provider: &ProviderId,
        order: ResolvedOrder,
        at: Option<usize>,
        rule: Rule,
        pin: Option<Pinned>,
    ) -> Decision {
        let ResolvedOrder {
            source, mut verdicts, ..
        } = order;
        let chosen = at.and_then(|at| verdicts.get_mut(at));
        let outcome =
            match chosen.and_then(|verdict| Some((self.state.candidate(&verdict.profile)?, verdict))) {
                Some((candidate, verdict)) => {
                    verdict.rule = rule;
                    Outcome::Chosen(choice(candidate, verdict))
                }
                None => Outcome::Unavailable(unavailable::of_order(provider, source, &verdicts, self.now)),
            };
        Decision {
            outcome,
            source: Some(source),
            pin,
            verdicts,
        }
    }
}

/// Nobody serves, so the session stays what it was.
fn unmoved(session: &SessionPin, why: Why) -> Pinned {
    Pinned {
        profile: None,
        pin: session.pin.clone(),
        why,
    }
}

fn choice(candidate: &Candidate, verdict: &Verdict) -> Choice {
    Choice {
        profile: candidate.id.clone(),
        owner: candidate.owner.clone(),
        inherited: candidate.inherited,
        provider: candidate.facts.provider.clone(),
        billing: candidate.billing,
        crosses: verdict.crosses,
        tests: verdict.tests,
    }
}

#[cfg(test)]
mod exhaustive_tests;
#[cfg(test)]
mod inputs_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace_tests;
