//! Whose the things are that a request refers to, and who served its session: only that account may serve it.

use std::sync::Arc;
use std::time::Duration;

use tokensink_sink::{Lease, ProfileId, SessionKey, SinkError};

use super::Job;
use crate::request::errors::Refusal;
use crate::request::model::Tie;
use crate::request::plan::UNREAD;
use crate::time::within;

/// How long an answer waits at most until it is stored who gave it.
const STORED_WITHIN: Duration = Duration::from_secs(2);

/// Whose they are.
#[derive(Debug)]
enum Owner {
    /// This one's: it made them, or it served the session.
    Is(ProfileId),
    /// Nobody remembers, but the agent has no other account of the provider.
    Only(ProfileId),
    Unknown,
}

impl Owner {
    /// The only profile that may serve what `ties` say, where the request's model names `named`.
    fn serves(self, named: Option<&ProfileId>, ties: &[Tie]) -> Result<ProfileId, Refusal> {
        match (self, named) {
            (Self::Is(owner), Some(named)) if owner != *named => Err(Refusal::named_another(what_of(ties))),
            (Self::Is(owner), _) => Ok(owner),
            // Nobody knows better than who names it.
            (Self::Only(_) | Self::Unknown, Some(named)) => Ok(named.clone()),
            (Self::Only(only), None) => Ok(only),
            (Self::Unknown, None) => Err(broken(ties)),
        }
    }
}

fn what_of(ties: &[Tie]) -> &'static str {
    ties.first().map_or("something", |tie| tie.what)
}

fn broken(ties: &[Tie]) -> Refusal {
    match what_of(ties) {
        UNREAD => Refusal::not_read(),
        what => Refusal::continuity_break(what),
    }
}

/// The one that all of them are. Things of two accounts are nobody's: none of the two has all.
fn common(owners: impl Iterator<Item = ProfileId>, ties: &[Tie]) -> Result<Option<ProfileId>, Refusal> {
    let mut owner = None;
    for found in owners {
        if owner.get_or_insert_with(|| found.clone()) != &found {
            return Err(broken(ties));
        }
    }
    Ok(owner)
}

impl Job<'_> {
    /// The only profile that may serve what is bound to one, or that the request names. `None` when any may.
    pub(super) async fn bound_to(&self) -> Result<Option<ProfileId>, Refusal> {
        let plan = self.plan;
        if !plan.bound {
            return Ok(plan.profile.clone());
        }
        let owner = match self.owner_in_memory()? {
            Some(known) => Owner::Is(known),
            None => self.stored_owner().await,
        };
        owner.serves(plan.profile.as_ref(), &plan.ties).map(Some)
    }

    /// Who made what the request refers to, else who served its session.
    fn owner_in_memory(&self) -> Result<Option<ProfileId>, Refusal> {
        let ids = self.plan.ties.iter().filter_map(|tie| tie.id.as_deref());
        let made = common(ids.filter_map(|id| self.server_of(id)), &self.plan.ties)?;
        Ok(made.or_else(|| self.server_of(self.plan.session.as_deref()?)))
    }

    /// Who served a session or made a thing, as far as that is in memory.
    fn server_of(&self, what: &str) -> Option<ProfileId> {
        let plan = self.plan;
        self.relay.ties.served(&plan.agent, &plan.provider, what)
    }

    /// The same by what is stored. Who is pinned does not count: that one may have failed when another served.
    async fn stored_owner(&self) -> Owner {
        let plan = self.plan;
        let (sink, agent, session) = (self.sink.clone(), plan.agent.clone(), plan.session.clone());
        let provider = plan.provider.clone();
        let looking = self.relay.threads.run(move || {
            let session = session.as_deref().and_then(|key| SessionKey::parse(key).ok());
            let served = match session {
                // One that is gone has nobody in its place.
                Some(key) => sink.session_served(&agent, &key, &provider)?,
                None => None,
            };
            if let Some(served) = served {
                return Ok(Owner::Is(served));
            }
            // Where there is only one account, it is the one.
            let mut profiles = sink.profiles(&agent, Some(provider.as_str()))?;
            let only = profiles.pop().filter(|_| profiles.is_empty());
            Ok::<_, SinkError>(only.map_or(Owner::Unknown, |only| Owner::Only(only.id)))
        });
        match looking.await {
            Ok(Ok(owner)) => owner,
            _ => Owner::Unknown,
        }
    }

    /// The key of the request's session, if it is not known that this profile served it last.
    pub(super) fn new_server(&self, lease: &Lease) -> Option<SessionKey> {
        let session = self.plan.session.as_deref()?;
        if self.server_of(session).as_ref() == Some(&lease.profile) {
            return None;
        }
        SessionKey::parse(session).ok()
    }

    /// Stores who serves the session, before the client has an answer that it may refer to: a restart must not find
    /// another one. A disk that does not answer holds nobody up for long.
    pub(super) async fn store_server(&self, key: SessionKey, lease: &Lease) {
        let (sink, plan, profile) = (self.sink.clone(), Arc::clone(self.plan), lease.profile.clone());
        let storing = self.relay.threads.run(move || {
            if let Err(error) = sink.note_session_served(&plan.agent, &key, &plan.provider, &profile) {
                tracing::warn!("who serves session {key} was not noted: {error}");
            }
        });
        within(STORED_WITHIN, storing).await;
    }

    /// Remembers who serves the session.
    pub(super) fn note_server(&self, lease: &Lease) {
        let plan = self.plan;
        if let Some(session) = &plan.session {
            self.relay
                .ties
                .note(&plan.agent, &plan.provider, session, &lease.profile);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ProfileId {
        ProfileId::parse(&format!("rig:{name}")).unwrap()
    }

    #[test]
    fn who_may_serve() {
        let ties = |what| [Tie { what, id: None }];
        let (a, b) = (id("a"), id("b"));
        for (owner, named, want) in [
            (Owner::Is(id("a")), None, Ok(&a)),
            (Owner::Is(id("a")), Some(&a), Ok(&a)),
            (
                Owner::Is(id("a")),
                Some(&b),
                Err("which belongs to another account"),
            ),
            (Owner::Only(id("a")), None, Ok(&a)),
            (Owner::Only(id("a")), Some(&b), Ok(&b)),
            (Owner::Unknown, Some(&b), Ok(&b)),
            (Owner::Unknown, None, Err("files")),
        ] {
            let told = format!("{owner:?} {named:?}");
            match (owner.serves(named, &ties("files")), want) {
                (Ok(profile), Ok(want)) => assert_eq!(profile, *want, "{told}"),
                (Err(refusal), Err(words)) => {
                    assert!(format!("{refusal:?}").contains(words), "{told} {refusal:?}");
                }
                (found, _) => panic!("{told}: {found:?}"),
            }
        }
        let unread = Owner::Unknown.serves(None, &ties(UNREAD)).unwrap_err();
        assert!(format!("{unread:?}").contains("cannot be read"), "{unread:?}");
    }

    #[test]
    fn things_of_two_accounts_are_nobodys() {
        let common = |names: &[&str]| common(names.iter().map(|name| id(name)), &[]);
        assert_eq!(common(&[]).unwrap(), None);
        assert_eq!(common(&["a", "a"]).unwrap(), Some(id("a")));
        assert!(common(&["a", "b", "a"]).is_err());
    }
}
