//! What an agent sees: its own profiles, and main's for the providers of which it has none (design: What we implement).
//!
//! A view is computed, never stored. Each profile carries its owner, and a refresh, a rotation or a statistic goes to
//! that owner's store.

use std::collections::{BTreeMap, BTreeSet};

use tokensink_types::{AgentId, ProfileId, ProviderId};

use super::{AgentStore, FileStore, Warning};
use crate::error::StoreError;
use crate::profiles::ProfileEntry;
use crate::state_file::Usage;

/// A profile with the agent whose store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedProfile {
    /// The profile.
    pub entry: ProfileEntry,
    /// Where it is stored, refreshed and counted.
    pub owner: AgentId,
    /// True when it is seen through from main.
    pub inherited: bool,
}

/// All that an agent may use.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// Its own profiles in file order, then the inherited ones in main's order.
    pub profiles: Vec<OwnedProfile>,
    /// Explicit orders by canonical provider; the agent's own win.
    pub order: BTreeMap<ProviderId, Vec<ProfileId>>,
    /// Last good profile by canonical provider; the agent's own win.
    pub last_good: BTreeMap<ProviderId, ProfileId>,
    /// Statistics of the profiles in view, each from its owner's state.
    pub usage: BTreeMap<ProfileId, Usage>,
    /// What the user should know about the files that were read.
    pub warnings: Vec<Warning>,
}

impl View {
    /// What the owner of `own` sees of two stores that were read already: its own, and main's where it inherits.
    #[must_use]
    pub fn of(
        own: &AgentStore,
        main: Option<&AgentStore>,
        canonical: &dyn Fn(&ProviderId) -> ProviderId,
    ) -> Self {
        merge(own, main, canonical)
    }

    /// The profile with this id.
    #[must_use]
    pub fn get(&self, id: &ProfileId) -> Option<&OwnedProfile> {
        self.profiles.iter().find(|profile| profile.entry.id == *id)
    }
}

impl FileStore {
    /// What `agent` sees. It inherits a provider from main only while it has no profile of that provider itself, and
    /// nothing with `inherit` false. `canonical` resolves provider aliases, so that `z.ai` and `zai` count as one.
    ///
    /// # Errors
    /// As for [`FileStore::load`], for the agent's own files. An unreadable file of main leaves the agent its own
    /// profiles and is told by [`Warning::MainUnreadable`]: look there before saying that there is no login.
    pub fn view(
        &self,
        agent: &AgentId,
        inherit: bool,
        canonical: &dyn Fn(&ProviderId) -> ProviderId,
    ) -> Result<View, StoreError> {
        let own = self.load(agent)?;
        if !inherit || agent.is_main() {
            return Ok(merge(&own, None, canonical));
        }
        match self.load(&AgentId::main()) {
            Ok(main) => Ok(merge(&own, Some(&main), canonical)),
            Err(StoreError::Unreadable(unreadable)) => {
                let mut view = merge(&own, None, canonical);
                view.warnings.push(Warning::MainUnreadable(*unreadable));
                Ok(view)
            }
            Err(error) => Err(error),
        }
    }
}

fn merge(own: &AgentStore, main: Option<&AgentStore>, canonical: &dyn Fn(&ProviderId) -> ProviderId) -> View {
    let mut view = View::default();
    let provider_of = |entry: &ProfileEntry| canonical(entry.credential.provider());
    let taken: BTreeSet<ProviderId> = own.profiles.entries().iter().map(provider_of).collect();
    if let Some(main) = main {
        add_state(&mut view, main, canonical, &|provider| !taken.contains(provider));
    }
    add_state(&mut view, own, canonical, &|_| true);
    add_profiles(&mut view, own, false, &|_| true);
    if let Some(main) = main {
        let ids: BTreeSet<&ProfileId> = own.profiles.entries().iter().map(|entry| &entry.id).collect();
        let inherits =
            |entry: &ProfileEntry| !taken.contains(&provider_of(entry)) && !ids.contains(&entry.id);
        add_profiles(&mut view, main, true, &inherits);
    }
    view.warnings.clone_from(&own.warnings);
    if let Some(main) = main {
        view.warnings.extend(main.warnings.iter().cloned());
    }
    view
}

fn add_state(
    view: &mut View,
    store: &AgentStore,
    canonical: &dyn Fn(&ProviderId) -> ProviderId,
    wanted: &dyn Fn(&ProviderId) -> bool,
) {
    for (provider, ids) in store.state.orders() {
        let provider = canonical(&provider);
        if wanted(&provider) {
            view.order.insert(provider, ids);
        }
    }
    for (provider, id) in store.state.last_goods() {
        let provider = canonical(&provider);
        if wanted(&provider) {
            view.last_good.insert(provider, id);
        }
    }
}

fn add_profiles(
    view: &mut View,
    store: &AgentStore,
    inherited: bool,
    wanted: &dyn Fn(&ProfileEntry) -> bool,
) {
    for entry in store.profiles.entries().iter().filter(|entry| wanted(entry)) {
        if let Some(usage) = store.state.usage(&entry.id) {
            view.usage.insert(entry.id.clone(), usage);
        }
        view.profiles.push(OwnedProfile {
            entry: entry.clone(),
            owner: store.agent.clone(),
            inherited,
        });
    }
}
