//! Who waits for a refresh: of all requests that want the same account, one takes a thread and waits in the sink. The
//! others wait for that one, and ask again when it is done.
//!
//! A crowd that meets a token's end would take a thread each, and each thread costs a stack and a share of the
//! allocator's arenas, which a process does not give back for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokensink_sink::{AgentId, ProfileId};
use tokio::sync::watch::{self, Receiver, Sender};

/// The account as an agent sees it.
type Account = (AgentId, ProfileId);

/// What is being waited for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Landings(Arc<Mutex<HashMap<Account, Receiver<()>>>>);

/// A request's part in the waiting.
#[derive(Debug)]
pub(crate) enum Part {
    /// It waits in the sink; the others go on when this is dropped.
    Lead(Lead),
    /// Another request does.
    Follow(Landing),
}

/// Somebody else's wait.
#[derive(Debug)]
pub(crate) struct Landing(Receiver<()>);

/// The wait that the others wait for.
#[derive(Debug)]
pub(crate) struct Lead {
    landings: Landings,
    account: Account,
    /// Its end is the sign.
    _sign: Sender<()>,
}

impl Landings {
    /// Joins those who wait for a token of this account.
    pub(crate) fn join(&self, agent: &AgentId, profile: &ProfileId) -> Part {
        let account = (agent.clone(), profile.clone());
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(landing) = waiting.get(&account) {
            return Part::Follow(Landing(landing.clone()));
        }
        let (sign, landing) = watch::channel(());
        waiting.insert(account.clone(), landing);
        Part::Lead(Lead {
            landings: self.clone(),
            account,
            _sign: sign,
        })
    }
}

impl Landing {
    /// Ends when the leader has its token or its error, or its client has left.
    pub(crate) async fn over(mut self) {
        // Nothing is ever sent: the only change is that the sender goes.
        let _ = self.0.changed().await;
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut waiting = self.landings.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn one_leads_and_the_others_go_on_when_it_is_done() {
        let landings = Landings::default();
        let (agent, other) = (AgentId::main(), AgentId::normalise("other"));
        let (one, two) = (
            ProfileId::parse("rig:one").unwrap(),
            ProfileId::parse("rig:two").unwrap(),
        );
        let Part::Lead(lead) = landings.join(&agent, &one) else {
            panic!("nobody was there before");
        };
        let Part::Follow(landing) = landings.join(&agent, &one) else {
            panic!("one is enough");
        };
        for (agent, profile) in [(&agent, &two), (&other, &one)] {
            assert!(matches!(landings.join(agent, profile), Part::Lead(_)));
        }
        let mut over = pin!(landing.over());
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(over.as_mut().poll(&mut context), Poll::Pending);
        drop(lead);
        assert_eq!(over.as_mut().poll(&mut context), Poll::Ready(()));
        assert!(matches!(landings.join(&agent, &one), Part::Lead(_)));
    }
}
