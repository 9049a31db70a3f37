//! Which profile served what: sessions, and the answers that a later request may refer to.
//!
//! In memory only, and of bounded size. What was forgotten is looked up in the sessions of the sink; a tie that nobody
//! knows is a broken one. A session may go to several providers in turn, and a tie holds within one of them: a request
//! never goes to another provider's account because of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokensink_sink::{AgentId, ProfileId, ProviderId};

/// Most ties that are remembered: at a hundred bytes each, one megabyte.
const TIES_MAX: usize = 10_000;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Ties(Mutex<Known>);

/// Whose, where, and what.
type Key = (AgentId, ProviderId, String);

#[derive(Debug, Default)]
struct Known {
    profiles: HashMap<Key, ProfileId>,
    oldest_first: VecDeque<Key>,
}

impl Ties {
    /// Remembers that `profile` of `provider` served `what`: a session's key or an answer's id.
    pub(crate) fn note(&self, agent: &AgentId, provider: &ProviderId, what: &str, profile: &ProfileId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (agent.clone(), provider.clone(), what.to_owned());
        if let Some(served) = known.profiles.get_mut(&key) {
            served.clone_from(profile);
            return;
        }
        if known.oldest_first.len() >= TIES_MAX
            && let Some(oldest) = known.oldest_first.pop_front()
        {
            known.profiles.remove(&oldest);
        }
        known.oldest_first.push_back(key.clone());
        known.profiles.insert(key, profile.clone());
    }

    /// Who of `provider` served `what`.
    pub(crate) fn served(&self, agent: &AgentId, provider: &ProviderId, what: &str) -> Option<ProfileId> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (agent.clone(), provider.clone(), what.to_owned());
        known.profiles.get(&key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let ties = Ties::default();
        let profile = |name: &str| ProfileId::parse(&format!("rig:{name}")).unwrap();
        let agent = AgentId::main();
        let rig = ProviderId::parse("rig").unwrap();
        ties.note(&agent, &rig, "session", &profile("a"));
        ties.note(&agent, &rig, "session", &profile("b"));
        assert_eq!(ties.served(&agent, &rig, "session"), Some(profile("b")));
        assert_eq!(ties.served(&AgentId::normalise("other"), &rig, "session"), None);
        assert_eq!(
            ties.served(&agent, &ProviderId::parse("other").unwrap(), "session"),
            None
        );
        for n in 0..TIES_MAX {
            ties.note(&agent, &rig, &format!("resp_{n}"), &profile("c"));
        }
        assert_eq!(ties.served(&agent, &rig, "session"), None);
        assert_eq!(ties.served(&agent, &rig, "resp_0"), Some(profile("c")));
        assert_eq!(ties.0.lock().unwrap().profiles.len(), TIES_MAX);
    }
}
