//! The logins of other programs in use as profiles of main.
//!
//! One grant is one profile: a login that main stores under another id is not listed a second time. Nothing is
//! written here, and a borrowed login's refresh token goes no further than the reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokensink_neighbours::{Neighbour, Reading};
use tokensink_store::{AgentStore, OwnedProfile, ProfileEntry};
use tokensink_types::record::{Generation, Record};
use tokensink_types::{Credential, OAuth, ProfileId, SpendKey};

use super::chosen::{Chosen, Externals};
use super::modes::ExternalMode;
use crate::owner::{Keeper, Target};
use crate::report::ProfileOrigin;
use crate::sink::Sink;

/// A profile that is another program's login.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    keeper: Keeper,
    neighbour: Neighbour,
    mode: ExternalMode,
    place: String,
}

impl Guest {
    /// The guest in a report.
    pub(crate) fn told(&self) -> ProfileOrigin {
        ProfileOrigin {
            cli: self.neighbour.as_str(),
            mode: self.mode,
            place: self.place.clone(),
        }
    }
}

/// Those in view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guests(BTreeMap<ProfileId, Guest>);

impl Guests {
    /// Which other program's login a profile is.
    pub(crate) fn of(&self, profile: &OwnedProfile) -> Option<&Guest> {
        let of_main = profile.owner.is_main();
        self.0.get(&profile.entry.id).filter(|_| of_main)
    }

    /// Where a profile is kept.
    pub(crate) fn target_of(&self, profile: &OwnedProfile) -> Target {
        let mut target = Target::of_agent(&profile.owner, &profile.entry.id);
        if let Some(guest) = self.of(profile) {
            target.keeper = guest.keeper.clone();
        }
        target
    }
}

impl Sink {
    /// The profiles that the logins in use make beside those of `main`'s own store.
    pub(crate) fn guests_of(&self, main: &AgentStore, externals: &Externals) -> (Vec<ProfileEntry>, Guests) {
        let mut entries: Vec<ProfileEntry> = Vec::new();
        let mut guests = Guests::default();
        for one in &externals.list {
            let Some(entry) = self.guest_entry(one) else {
                continue;
            };
            let taken = entries.iter().any(|other| other.id == entry.id);
            let oauth = entry.credential.as_oauth();
            let copied = oauth.and_then(|oauth| self.same_grant_as(main, oauth, &entry.id));
            if taken || copied.is_some() {
                continue;
            }
            let keeper = match one.mode() {
                ExternalMode::Cooperative => Keeper::Cooperative(Arc::clone(&one.key)),
                _ => Keeper::Borrowed(Arc::clone(&one.key)),
            };
            let guest = Guest {
                keeper,
                neighbour: one.neighbour(),
                mode: one.mode(),
                place: one.place().to_string(),
            };
            guests.0.insert(entry.id.clone(), guest);
            entries.push(entry);
        }
        (entries, guests)
    }

    fn guest_entry(&self, one: &Chosen) -> Option<ProfileEntry> {
        let mode = one.mode();
        if !matches!(mode, ExternalMode::Borrowed | ExternalMode::Cooperative) {
            return None;
        }
        let login = match one.reading.as_deref()? {
            Reading::Login(login) => login,
            // Blanked by its program: worth something only to whoever still has the grant (clients.md 0.4).
            Reading::Blanked(login) if mode == ExternalMode::Cooperative && self.record_at(one).is_some() => {
                login
            }
            _ => return None,
        };
        let served = matches!(login.credential, Credential::OAuth(_) | Credential::Token(_));
        served.then(|| ProfileEntry {
            id: one.profile().clone(),
            credential: login.credential.clone(),
        })
    }

    /// The refresh record of a login that we refresh in its program's store.
    pub(crate) fn record_at(&self, one: &Chosen) -> Option<Arc<Record>> {
        let target = Target {
            keeper: Keeper::Cooperative(Arc::clone(&one.key)),
            ..Target::of_agent(&tokensink_types::AgentId::main(), one.profile())
        };
        let key = self.record_key(&target).ok().flatten()?;
        self.journal().read(&key).ok().flatten()
    }

    /// The profile of main's own store that holds the same grant as `oauth`, by what it holds or has held; not the
    /// one under `id`, which the login hides while it is in use.
    pub(crate) fn same_grant_as(
        &self,
        main: &AgentStore,
        oauth: &OAuth,
        id: &ProfileId,
    ) -> Option<ProfileId> {
        let key = oauth.tokens.refresh_token().map(SpendKey::of)?;
        self.stored_with(main, key).find(|holder| *holder != id).cloned()
    }

    /// The profiles of main's own store that hold this refresh token, or have held it.
    pub(super) fn stored_with<'a>(
        &'a self,
        main: &'a AgentStore,
        key: SpendKey,
    ) -> impl Iterator<Item = &'a ProfileId> {
        let stored = main.profiles.entries().iter();
        let grants = stored.filter_map(|entry| Some((&entry.id, entry.credential.as_oauth()?)));
        grants
            .filter(move |(id, theirs)| holds(theirs, key) || self.has_held(main, id, key))
            .map(|(id, _)| id)
    }

    fn has_held(&self, main: &AgentStore, id: &ProfileId, key: SpendKey) -> bool {
        let record = self
            .agent_record_key(&main.agent, id)
            .ok()
            .and_then(|record| self.journal().read(&record).ok().flatten());
        record.is_some_and(|record| {
            let newest = record.generation.as_ref().and_then(Generation::spend_key);
            newest == Some(key) || record.is_ancestor(key)
        })
    }
}

fn holds(oauth: &OAuth, key: SpendKey) -> bool {
    oauth.tokens.refresh_token().map(SpendKey::of) == Some(key)
}
