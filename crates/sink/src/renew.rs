//! Renewal ahead of time, for timers: every owned grant, benched or not (design: Refresh).

use std::collections::BTreeMap;
use std::thread;

use tokensink_refresh::{Demand, Standing, renewal_due_at};
use tokensink_types::{AgentId, Credential, ProviderId};

use crate::block::Block;
use crate::error::{ErrorKind, Result};
use crate::grant::Grant;
use crate::lease::WAIT;
use crate::owner::{Keeper, Target};
use crate::report::{RenewOutcome, RenewReport, RenewResult};
use crate::sink::Sink;

impl Sink {
    /// Renews every OAuth profile that is due, in the store of its owner: of one agent, or of all. A profile that
    /// cannot be renewed does not keep the others from it.
    ///
    /// # Errors
    /// When the agents cannot be listed. What is wrong with one store or profile is in the report.
    pub fn renew(&self, agent: Option<&AgentId>) -> Result<RenewReport> {
        let agents = match agent {
            Some(agent) => vec![agent.clone()],
            None => self.store().agents()?,
        };
        let mut report = RenewReport::default();
        let mut targets = Vec::new();
        for agent in agents {
            match self.own_grants(&agent) {
                Ok(grants) => targets.extend(grants),
                Err(error) => report.unreadable.push(error.to_string()),
            }
        }
        report.outcomes = self.renew_all(&targets);
        Ok(report)
    }

    /// The grants that `agent` itself has to renew: those of its own store, and for main the logins of other programs
    /// that are refreshed where they are. What is only borrowed is renewed by its program alone.
    pub(crate) fn own_grants(&self, agent: &AgentId) -> Result<Vec<(ProviderId, Target)>> {
        let snapshot = self.snapshot(agent)?;
        let own = snapshot.view.profiles.iter().filter(|profile| !profile.inherited);
        let grants = own.filter(|profile| matches!(profile.entry.credential, Credential::OAuth(_)));
        let targets = grants.map(|profile| {
            let provider = self.registry().canonical(profile.entry.credential.provider());
            (provider, snapshot.target_of(profile))
        });
        Ok(targets
            .filter(|(_, target)| !matches!(target.keeper, Keeper::Borrowed(_)))
            .collect())
    }

    /// Renews the targets of one provider after the other, and the providers side by side, so that one that hangs
    /// delays no other. The outcomes are in the order of the targets.
    fn renew_all(&self, targets: &[(ProviderId, Target)]) -> Vec<RenewOutcome> {
        let mut by_provider: BTreeMap<&ProviderId, Vec<(usize, &Target)>> = BTreeMap::new();
        for (place, (provider, target)) in targets.iter().enumerate() {
            by_provider.entry(provider).or_default().push((place, target));
        }
        let renew = |targets: &[(usize, &Target)]| -> Vec<(usize, RenewOutcome)> {
            let outcomes = targets
                .iter()
                .map(|(place, target)| (*place, self.renew_outcome(target)));
            outcomes.collect()
        };
        let renew = &renew;
        let mut outcomes: Vec<(usize, RenewOutcome)> = if self.flights().are_inline() {
            by_provider.values().flat_map(|targets| renew(targets)).collect()
        } else {
            thread::scope(|scope| {
                let workers: Vec<_> = by_provider
                    .values()
                    .map(|targets| scope.spawn(move || renew(targets)))
                    .collect();
                workers
                    .into_iter()
                    .flat_map(|worker| {
                        worker
                            .join()
                            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    })
                    .collect()
            })
        };
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    pub(crate) fn renew_outcome(&self, target: &Target) -> RenewOutcome {
        let result = self
            .renew_one(target)
            .unwrap_or_else(|error| RenewResult::Failed {
                reason: error.to_string(),
            });
        RenewOutcome {
            agent: target.owner.clone(),
            profile: target.profile.clone(),
            result,
        }
    }

    fn renew_one(&self, target: &Target) -> Result<RenewResult> {
        let demand = Demand::ahead();
        let Some(before) = self.grant(target)? else {
            return Ok(RenewResult::Failed {
                reason: "the profile is gone".to_owned(),
            });
        };
        if before.standing(&demand, self.now()) == Standing::Fresh && !before.heal {
            return Ok(RenewResult::NotDue {
                due_at: renewal_due_at(&before.generation, &before.policy),
            });
        }
        let blocked = self.fly_for(target, &before, &demand, WAIT)?;
        let Some(after) = self.grant(target)? else {
            return Ok(RenewResult::Failed {
                reason: "the profile is gone".to_owned(),
            });
        };
        if after.generation.revision() != before.generation.revision() {
            return Ok(RenewResult::Renewed {
                expires: after.generation.tokens.expires,
            });
        }
        Ok(blocked.map_or_else(
            || RenewResult::NotDue {
                due_at: renewal_due_at(&after.generation, &after.policy),
            },
            |block| self.told(block, target, &before),
        ))
    }

    fn told(&self, block: Block, target: &Target, grant: &Grant) -> RenewResult {
        match block.kind {
            ErrorKind::LoginNeeded => RenewResult::LoginNeeded {
                reason: block.reason,
                command: self.remedy(target, &grant.oauth.provider),
            },
            ErrorKind::TryAgain => RenewResult::TryAgain {
                reason: block.reason,
                at: block.until,
            },
            ErrorKind::Failed | ErrorKind::Usage => RenewResult::Failed { reason: block.reason },
        }
    }
}
