//! From a source to a plan: every credential decided on, the orders that are missing here, what the user should know.

use tokensink_store::{StateDocument, Tombstone};
use tokensink_types::{AgentId, Credential, ProfileId, ProviderId};

use super::decide::{Write, decide};
use super::known::Known;
use super::programs::held_beside;
use super::report::{ImportAction, ImportOrder, ImportPlan, ImportRow, Work};
use super::source::{ConfigEntry, Source};
use super::{Incoming, time_of};
use crate::error::Result;
use crate::sink::Sink;

/// A profile of the source and what stands for it here.
struct Place {
    agent: AgentId,
    theirs: ProfileId,
    owner: AgentId,
    ours: ProfileId,
}

impl Sink {
    /// Decides on everything that a source offers.
    pub(crate) fn plan_import(&self, source: Source) -> Result<ImportPlan> {
        let mut known = self.known_credentials()?;
        let mut plan = ImportPlan {
            from: source.from,
            rows: Vec::new(),
            orders: Vec::new(),
            notes: source.notes,
            shared: None,
            work: Vec::new(),
        };
        let mut places = Vec::new();
        let stones = self.tombstones().list()?;
        let beside = if source.may_copy_programs {
            self.grants_beside()
        } else {
            Vec::new()
        };
        for incoming in source.incoming {
            let refused = moved_away(&stones, &incoming).or_else(|| held_beside(&beside, &incoming));
            let (action, write) = match refused {
                Some(action) => (action, None),
                None => decide(&mut known, &incoming, self.now()),
            };
            places.extend(place_of(&incoming, &action));
            plan.rows.push(row_of(&incoming, action));
            if let Some(write) = write {
                let entry = source.config.iter().find(|entry| entry.id == *incoming.id());
                let config = ConfigEntry {
                    email: entry.and_then(|entry| entry.email.clone()),
                };
                plan.work.push(Work {
                    incoming,
                    write,
                    config,
                });
            }
        }
        plan.rows.extend(source.skipped);
        plan.rows
            .sort_by(|a, b| (!a.agent.is_main(), &a.agent).cmp(&(!b.agent.is_main(), &b.agent)));
        for (agent, provider, ids) in source.orders {
            self.plan_order(&mut plan, &known, &places, agent, provider, &ids)?;
        }
        self.add_notes(&mut plan);
        Ok(plan)
    }

    /// An order is taken over where there is none here, with the profiles that are here then.
    fn plan_order(
        &self,
        plan: &mut ImportPlan,
        known: &[Known],
        places: &[Place],
        agent: Option<AgentId>,
        provider: ProviderId,
        ids: &[ProfileId],
    ) -> Result<()> {
        let planned = |order: &ImportOrder| order.agent == agent && order.provider == provider;
        if plan.orders.iter().any(planned) || self.has_order(agent.as_ref(), &provider)? {
            return Ok(());
        }
        let mut profiles: Vec<ProfileId> = Vec::new();
        for id in ids {
            let of = |place: &&Place| {
                place.theirs == *id && agent.as_ref().is_none_or(|agent| place.agent == *agent)
            };
            let (owner, ours) = places
                .iter()
                .find(of)
                .map_or((agent.as_ref(), id), |place| (Some(&place.owner), &place.ours));
            let is_here = |one: &Known| {
                one.id == *ours && owner.is_none_or(|owner| one.agent == *owner || one.agent.is_main())
            };
            if known.iter().any(is_here) && !profiles.contains(ours) {
                profiles.push(ours.clone());
            }
        }
        if !profiles.is_empty() {
            plan.orders.push(ImportOrder {
                agent,
                provider,
                profiles,
            });
        }
        Ok(())
    }

    pub(super) fn has_order(&self, agent: Option<&AgentId>, provider: &ProviderId) -> Result<bool> {
        let canonical =
            |id: &ProviderId| self.registry().canonical(id) == self.registry().canonical(provider);
        Ok(match agent {
            None => self
                .config()?
                .auth_order()
                .iter()
                .any(|(known, _)| canonical(known)),
            Some(agent) => {
                let has = |state: &StateDocument| state.orders().iter().any(|(known, _)| canonical(known));
                has(&self.store().load(agent)?.state)
            }
        })
    }

    fn add_notes(&self, plan: &mut ImportPlan) {
        let count = |unverified: bool| {
            let grants = plan.work.iter().map(|work| &work.incoming);
            let grants = grants.filter(|one| one.spend_key().is_some());
            grants
                .filter(|one| one.unverified.is_some() == unverified)
                .count()
        };
        let (copied, restored) = (count(false), count(true));
        if copied > 0 {
            plan.notes.push(format!(
                "{} will be at two places, and most providers let each refresh token be used once: stop the other \
                 program or log out there, so that only tokensink refreshes",
                logins(copied)
            ));
        }
        if restored > 0 {
            plan.notes.push(format!(
                "{} may have been used since being written down: the access token serves while it lives, and the \
                 refresh token is tried only after that",
                logins(restored)
            ));
        }
        let mut unknown: Vec<&ProviderId> = plan
            .work
            .iter()
            .filter(|work| matches!(work.incoming.entry.credential(), Credential::OAuth(_)))
            .map(|work| work.incoming.provider())
            .filter(|provider| self.registry().resolve(provider.as_str()).is_err())
            .collect();
        unknown.sort();
        unknown.dedup();
        let notes: Vec<String> = unknown
            .iter()
            .map(|provider| {
                format!("no definition of provider {provider} is known, so its logins are stored but cannot be refreshed")
            })
            .collect();
        plan.notes.extend(notes);
    }
}

/// Why a grant that was moved away from here is not taken in from anywhere but its bundle.
fn moved_away(stones: &[Tombstone], incoming: &Incoming) -> Option<ImportAction> {
    let key = incoming.spend_key()?;
    let stone = stones.iter().find(|stone| stone.keys.contains(&key))?;
    if incoming.bundle.as_ref() == Some(&stone.bundle) {
        return None;
    }
    let short: String = stone.bundle.chars().take(8).collect();
    Some(ImportAction::Skipped {
        why: format!(
            "it was moved from here into bundle {short} on {}, and belongs to whoever opened that",
            time_of(stone.at)
        ),
        fix: Some("tokensink import bundle <its file>".to_owned()),
    })
}

fn place_of(incoming: &Incoming, action: &ImportAction) -> Option<Place> {
    let (owner, ours) = match action {
        ImportAction::New => (incoming.agent.clone(), incoming.id().clone()),
        ImportAction::Update { profile, .. } => (incoming.agent.clone(), profile.clone()),
        ImportAction::Linked { agent, profile, .. } => (agent.clone(), profile.clone()),
        ImportAction::Kept { .. } | ImportAction::Skipped { .. } => return None,
    };
    Some(Place {
        agent: incoming.agent.clone(),
        theirs: incoming.id().clone(),
        owner,
        ours,
    })
}

fn logins(count: usize) -> String {
    if count == 1 {
        "1 login".to_owned()
    } else {
        format!("each of {count} logins")
    }
}

fn row_of(incoming: &Incoming, action: ImportAction) -> ImportRow {
    let credential = incoming.entry.credential();
    ImportRow {
        agent: incoming.agent.clone(),
        profile: incoming.id().as_str().to_owned(),
        was: incoming.was.as_ref().map(|id| id.as_str().to_owned()),
        provider: Some(credential.provider().clone()),
        kind: Some(credential.kind()),
        place: incoming.place.clone(),
        action,
    }
}

impl Work {
    /// The entry under the id that it is stored under.
    pub(super) fn entry(&self) -> tokensink_store::ForeignEntry {
        let Write { profile, .. } = &self.write;
        self.incoming
            .entry
            .clone()
            .renamed(profile.clone(), self.incoming.provider())
    }
}
