//! Mistakes that only show where several processes meet.

use std::time::Duration;

use tokensink_refresh::{Action, Event, Setup};
use tokensink_types::record::RecordState;

use crate::shared::variants::Mistake;

/// Looks at no other record that knows its key.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct IgnoresRivals;

impl Mistake for IgnoresRivals {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event {
            snapshot.rivals.clear();
        }
        None
    }
}

/// Takes every process that is not itself for dead.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct TakesRivalsForDead;

impl Mistake for TakesRivalsForDead {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event {
            for rival in &mut snapshot.rivals {
                rival.may_be_alive = false;
            }
        }
        None
    }
}

/// Sends without regard to what became of the key at a copy of the login.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct ForgetsRefusals;

impl Mistake for ForgetsRefusals {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event {
            let refused = |state: &RecordState| matches!(state, RecordState::Refused { .. });
            snapshot.rivals.retain(|rival| !refused(&rival.record.state));
        }
        None
    }
}

/// Asks at once although a copy of the login waits.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct IgnoresTheirBackOff;

impl Mistake for IgnoresTheirBackOff {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event {
            for rival in &mut snapshot.rivals {
                rival.record.backoff = None;
            }
        }
        None
    }
}

/// Does not look at main's store.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct IgnoresHolders;

impl Mistake for IgnoresHolders {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event {
            snapshot.holders.clear();
        }
        None
    }
}

/// Repeats a request long after the server has forgotten its answer.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct StretchesTheGrace;

impl Mistake for StretchesTheGrace {
    fn setup(setup: &mut Setup) {
        setup.policy.replay_grace = Duration::from_secs(24 * 3600);
    }
}
