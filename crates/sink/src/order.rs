//! `models auth order`: the sequence of a provider's profiles that one agent was given (spec.md 4.2, 12.7).

use tokensink_policy::{self as policy, OrderInput};
use tokensink_store::StateDocument;
use tokensink_types::{AgentId, ProfileId, ProviderId};

use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::report::OrderView;
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

impl Sink {
    /// The order that is stored for `agent`, and the one in which profiles would be tried now. What the agent merely
    /// inherits of main's order shows in the latter.
    ///
    /// # Errors
    /// A usage error for an unknown provider; otherwise when a store or the config cannot be read.
    pub fn order_get(&self, agent: &AgentId, provider: &str) -> Result<OrderView> {
        let snapshot = self.snapshot(agent)?;
        let provider = self.provider_id(provider, &snapshot)?;
        self.order_view(agent, provider, &snapshot)
    }

    /// Stores an order for `agent`, under the provider's canonical id and without repetitions. It takes the place of
    /// one that is stored under an alias.
    ///
    /// # Errors
    /// A usage error, and nothing written, when there is no id, one is not in the agent's view, or one belongs to
    /// another provider; otherwise when the state cannot be written.
    pub fn order_set(&self, agent: &AgentId, provider: &str, ids: &[ProfileId]) -> Result<OrderView> {
        self.require_writable("setting an order")?;
        let snapshot = self.snapshot(agent)?;
        let provider = self.provider_id(provider, &snapshot)?;
        if ids.is_empty() {
            return Err(SinkError::new(
                ErrorKind::Usage,
                "no_profiles",
                "an order needs at least one profile id",
            )
            .with_fix(list_command(agent, &provider)));
        }
        for id in ids {
            self.check_in_order(agent, &provider, id, &snapshot)?;
        }
        self.store().update_state(agent, |state| {
            self.clear_same(state, &provider);
            state.set_order(&provider, ids);
        })?;
        self.order_view(agent, provider, &*self.snapshot(agent)?)
    }

    /// Removes the order that is stored for `agent`; fine when there is none.
    ///
    /// # Errors
    /// A usage error for an unknown provider; otherwise when the state cannot be written.
    pub fn order_clear(&self, agent: &AgentId, provider: &str) -> Result<OrderView> {
        self.require_writable("clearing an order")?;
        let snapshot = self.snapshot(agent)?;
        let provider = self.provider_id(provider, &snapshot)?;
        if self.stored_order(agent, &provider)?.is_some() {
            self.store()
                .update_state(agent, |state| self.clear_same(state, &provider))?;
        }
        self.order_view(agent, provider, &*self.snapshot(agent)?)
    }

    /// Puts a profile before or behind the others of its provider for `agent`. Nothing is written where it stands so
    /// already, or where it is the only one. True when the order was changed.
    ///
    /// # Errors
    /// As for [`Sink::order_set`].
    pub fn order_place(
        &self,
        agent: &AgentId,
        provider: &ProviderId,
        id: &ProfileId,
        first: bool,
    ) -> Result<bool> {
        let view = self.order_get(agent, provider.as_str())?;
        let now = match view.order {
            Some(order) => order,
            // An order hides what it does not list, so that it must list those too that cannot be tried now.
            None => {
                let all = self.profiles(agent, Some(provider.as_str()))?;
                let ids = all.into_iter().map(|profile| profile.id);
                let mut now = view.effective;
                let rest: Vec<ProfileId> = ids.filter(|known| !now.contains(known)).collect();
                now.extend(rest);
                now
            }
        };
        let mut wanted: Vec<ProfileId> = now.iter().filter(|known| *known != id).cloned().collect();
        let at = if first { 0 } else { wanted.len() };
        wanted.insert(at, id.clone());
        if wanted == now || wanted.len() < 2 {
            return Ok(false);
        }
        self.order_set(agent, provider.as_str(), &wanted).map(|_| true)
    }

    fn check_in_order(
        &self,
        agent: &AgentId,
        provider: &ProviderId,
        id: &ProfileId,
        snapshot: &AgentSnapshot,
    ) -> Result<()> {
        let Some(profile) = snapshot.profile(id) else {
            if let Some(error) = &snapshot.main_error {
                let message =
                    format!("{id} is not in the store of agent {agent}, and main's cannot be read: {error}");
                return Err(SinkError::new(ErrorKind::Failed, "store", message).about(id));
            }
            let dir = self.paths().agent_dir(agent);
            let message = format!("Auth profile \"{id}\" not found in {}.", dir.display());
            return Err(SinkError::new(ErrorKind::Usage, "no_profile", message)
                .with_fix(list_command(agent, provider))
                .about(id));
        };
        let own = profile.entry.credential.provider();
        if snapshot.config.aliases.same(own, provider) {
            return Ok(());
        }
        let message = format!("Auth profile \"{id}\" is for {own}, not {provider}.");
        Err(SinkError::new(ErrorKind::Usage, "other_provider", message)
            .with_fix(list_command(agent, provider))
            .about(id))
    }

    /// Removes the order of a provider under whatever name it is stored.
    fn clear_same(&self, state: &mut StateDocument, provider: &ProviderId) {
        for (known, _) in state.orders() {
            if self.registry().canonical(&known) == *provider {
                state.clear_order(&known);
            }
        }
    }

    /// The agent's own order; where it stands under several names, the canonical one counts.
    fn stored_order(&self, agent: &AgentId, provider: &ProviderId) -> Result<Option<Vec<ProfileId>>> {
        let state = &self.store().load(agent)?.state;
        let same = || {
            let orders = state.orders().into_iter();
            orders
                .filter(|(known, _)| self.registry().canonical(known) == *provider)
                .map(|(_, ids)| ids)
                .next()
        };
        Ok(state.order(provider).or_else(same))
    }

    fn order_view(
        &self,
        agent: &AgentId,
        provider: ProviderId,
        snapshot: &AgentSnapshot,
    ) -> Result<OrderView> {
        let resolved = policy::resolve_order(OrderInput {
            config: &snapshot.config,
            state: &snapshot.state,
            provider: &provider,
            preferred: None,
            model: None,
            now: self.now(),
        })
        .map_err(|error| SinkError::new(ErrorKind::Failed, "oauth_reference", error.to_string()))?;
        let ask = policy::Request::new(policy::Target::Provider(provider.clone()));
        let decision = policy::select(&snapshot.config, &snapshot.state, &ask, self.now());
        let unavailable = decision.ok().and_then(|decision| match decision.outcome {
            policy::Outcome::Unavailable(why) => Some(why),
            policy::Outcome::Chosen(_) => None,
        });
        Ok(OrderView {
            // Where nothing is in the order, the list says so itself.
            unavailable: unavailable
                .filter(|why| why.retry_at().is_some())
                .map(|why| why.to_string()),
            agent: agent.clone(),
            agent_dir: self.paths().agent_dir(agent),
            state_path: self.paths().state_file(agent),
            order: self.stored_order(agent, &provider)?,
            effective: resolved.profiles().cloned().collect(),
            provider,
        })
    }
}

fn list_command(agent: &AgentId, provider: &ProviderId) -> String {
    let for_agent = if agent.is_main() {
        String::new()
    } else {
        format!(" --agent {}", quoted(agent.as_str()))
    };
    format!("tokensink models auth list --provider {provider}{for_agent}")
}

#[cfg(test)]
mod tests;
