//! Machines with one deliberate mistake each: every invariant must be seen to fail.

use tokensink_refresh::{Action, Answer, Event, Flight, Setup, Verdict};
use tokensink_types::record::{Generation, RecordState};
use tokensink_types::{SpendKey, UnixMillis};

use super::machine::Machine;

/// A flight with the mistake `M`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Broken<M> {
    flight: Flight,
    mistake: M,
}

/// One mistake: it may change what the flight is told and what it asks for.
pub(crate) trait Mistake: Default {
    /// Changes what the flight is made for.
    fn setup(setup: &mut Setup) {
        let _ = setup;
    }
    /// Changes the event, or answers it in place of the flight.
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        let _ = event;
        None
    }
    /// Swallows an action: the flight is told the event instead.
    fn action(&mut self, action: &Action) -> Option<Event> {
        let _ = action;
        None
    }
}

impl<M: Mistake> Machine for Broken<M> {
    fn start(mut setup: Setup) -> (Self, Action) {
        M::setup(&mut setup);
        let (flight, action) = Flight::start(setup);
        let mistake = M::default();
        (Self { flight, mistake }, action)
    }

    fn on(&mut self, mut event: Event, now: UnixMillis) -> Action {
        if let Some(action) = self.mistake.event(&mut event) {
            return action;
        }
        let mut action = self.flight.on(event, now);
        while let Some(event) = self.mistake.action(&action) {
            action = self.flight.on(event, now);
        }
        action
    }
}

fn served() -> Action {
    Action::Finish(Verdict::Served { store_behind: None })
}

/// Sends without a durable word about it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct SkipsAdmit;

impl Mistake for SkipsAdmit {
    fn action(&mut self, action: &Action) -> Option<Event> {
        matches!(action, Action::Admit(_)).then_some(Event::Admitted)
    }
}

/// Takes an unanswered request for one that was never sent.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct ForgetsDoubt;

impl Mistake for ForgetsDoubt {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event
            && let Some(record) = &mut snapshot.record
            && matches!(record.state, RecordState::Sent(_))
        {
            record.state = RecordState::Idle;
        }
        None
    }
}

/// Believes that whatever the store holds is valid.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct IgnoresAncestors;

impl Mistake for IgnoresAncestors {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event
            && let Some(record) = &mut snapshot.record
        {
            record.ancestors.clear();
        }
        None
    }
}

/// Repeats without waiting.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct IgnoresBackOff;

impl Mistake for IgnoresBackOff {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event
            && let Some(record) = &mut snapshot.record
        {
            record.backoff = None;
        }
        None
    }
}

/// Hands out an answer that exists only in its memory.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct HandsOutEarly;

impl Mistake for HandsOutEarly {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        matches!(event, Event::Answer(Answer::Granted(_))).then(served)
    }
}

/// Serves whatever it finds.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct ServesAnything;

impl Mistake for ServesAnything {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        matches!(event, Event::Read(_)).then(served)
    }
}

/// Blanks the login when the server refuses it.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Blanks {
    last: Option<Generation>,
}

impl Mistake for Blanks {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Read(snapshot) = event {
            self.last.clone_from(&snapshot.stored);
        }
        if !matches!(event, Event::Answer(Answer::Refused { .. })) {
            return None;
        }
        let mut blank = self.last.clone()?;
        let expected: Option<SpendKey> = blank.spend_key();
        blank.tokens.refresh = None;
        let generation = Box::new(blank);
        Some(Action::Commit { expected, generation })
    }
}

/// Does not look whose tokens it was given.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct TrustsAnyAccount;

impl Mistake for TrustsAnyAccount {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        if let Event::Answer(Answer::Granted(answer)) = event {
            answer.account = tokensink_types::Account::default();
        }
        None
    }
}

/// Reads for ever where it should give up.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct NeverGivesUp;

impl Mistake for NeverGivesUp {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        matches!(event, Event::Failed(_) | Event::Read(_)).then_some(Action::Read)
    }
}

/// Never repeats a request, whatever happened.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct NeverRepeats;

impl Mistake for NeverRepeats {
    fn event(&mut self, event: &mut Event) -> Option<Action> {
        let Event::Read(snapshot) = event else { return None };
        let record = snapshot.record.as_ref()?;
        matches!(record.state, RecordState::Sent(_)).then(|| {
            Action::Finish(Verdict::TryAgain {
                failure: tokensink_refresh::Failure {
                    reason: "unknown".to_owned(),
                    fix: None,
                },
                until: None,
                outcome_unknown: true,
            })
        })
    }
}
