//! What is explored: the machine of production, or one with a mistake.

use tokensink_refresh::{Action, Event, Flight, Setup};
use tokensink_types::UnixMillis;

/// The machine, or a deliberately broken variant of it.
pub(crate) trait Machine {
    fn start(setup: Setup) -> (Self, Action)
    where
        Self: Sized;
    fn on(&mut self, event: Event, now: UnixMillis) -> Action;
}

impl Machine for Flight {
    fn start(setup: Setup) -> (Self, Action) {
        Self::start(setup)
    }

    fn on(&mut self, event: Event, now: UnixMillis) -> Action {
        self.on(event, now)
    }
}
