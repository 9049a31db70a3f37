//! One flight: the refresh of one grant under its lock, as events in and actions out.
//!
//! The caller holds the grant's lock from before [`Flight::start`] until after [`Action::Finish`], performs exactly
//! one action at a time and answers with one event. It may be killed between any two of them.
//!
//! This file is the table of phases; `reading` decides what the snapshot means, `sending` admits and sends, `keeping`
//! makes the answer durable.

mod keeping;
mod reading;
mod sending;
mod words;

use std::mem;
use std::time::Duration;

use tokensink_types::record::{Backoff, Generation, Record};
use tokensink_types::{SpendKey, UnixMillis};

use crate::stand::{Standing, alive, backoff_delay, exempt, stand, unanswered};

pub use words::{Action, Answer, Event, Failure, Holder, Rival, Setup, Snapshot, Verdict};

/// How often one flight starts over because somebody else moved the store under it.
const ROUNDS_MAX: u32 = 4;

/// The wait before holders that could not be read are read again, in order to confirm a refusal.
const REREAD_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Before a refusal is believed, every holder is read once more.
    Confirming {
        code: String,
        description: String,
    },
    /// Noting what a copy's record knows of our store.
    Learning {
        refusal: Option<(String, String)>,
    },
    /// Noting a refusal of what the store held before.
    Overtaken,
    /// Bringing the store up to the record.
    Healing,
    /// Noting that the store has caught up.
    Healed,
    Connecting,
    Admitting,
    Sending,
    /// Writing what was learned, then ending with the verdict.
    Settling(Verdict),
    /// Repeating the request within the grace, after the record says so.
    Repeating,
    /// Making the answer durable.
    Keeping {
        tries: u32,
    },
    /// Writing the answer to the store.
    Committing {
        recorded: bool,
        tries: u32,
    },
    /// Noting that the store has the answer.
    Closing,
    Ended,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    setup: Setup,
    phase: Phase,
    /// The record as read, with what this flight has learned since. Until a request is answered it does not say that
    /// one was sent.
    record: Option<Record>,
    /// The record that says that the present request was sent.
    admitted: Option<Record>,
    /// The generation that counts, once read. It is durable.
    current: Option<Generation>,
    /// The generation that is to follow it. It is durable once recorded or committed.
    next: Option<Generation>,
    /// `next` is not an answer to us, but was found in a rival's record.
    adopted: bool,
    /// The key that the store itself holds.
    stored_key: Option<SpendKey>,
    /// Where the generation was restored from, if it was and nothing has been sent for it here before.
    origin: Option<String>,
    rounds: u32,
}

impl Flight {
    /// Begins; the first action is always [`Action::Read`].
    #[must_use]
    pub fn start(setup: Setup) -> (Self, Action) {
        let flight = Self {
            setup,
            phase: Phase::Reading,
            record: None,
            admitted: None,
            current: None,
            next: None,
            adopted: false,
            stored_key: None,
            origin: None,
            rounds: 0,
        };
        (flight, Action::Read)
    }

    /// The next action after `event`. An event that does not belong to the last action ends the flight.
    pub fn on(&mut self, event: Event, now: UnixMillis) -> Action {
        match (mem::replace(&mut self.phase, Phase::Ended), event) {
            (Phase::Reading, Event::Read(snapshot)) => self.on_snapshot(*snapshot, None, now),
            (Phase::Confirming { code, description }, event) => {
                self.on_confirming(code, description, event, now)
            }
            (Phase::Learning { refusal }, Event::Recorded) => self.after_learning(refusal),
            // What the store holds now may serve, whether or not the refusal of its predecessor could be written down.
            (Phase::Overtaken, Event::Recorded | Event::Failed(_)) => self.read_again(),
            (Phase::Healing, Event::Committed) => self.after_heal(now),
            (Phase::Healing, Event::Failed(failure)) => self.go_on(Some(failure), now),
            (Phase::Healed, Event::Recorded | Event::Failed(_)) => self.go_on(None, now),
            (Phase::Connecting, Event::Connected) => self.admit(now),
            (Phase::Admitting, Event::Admitted) => self.send(now),
            (Phase::Admitting, Event::Rival) => self.read_again(),
            (Phase::Sending, Event::Answer(answer)) => self.on_answer(answer, now),
            // Nobody can know that no byte has left.
            (Phase::Sending, Event::Failed(failure)) => self.on_answer(Answer::Ambiguous(failure), now),
            (Phase::Settling(verdict), Event::Recorded | Event::Failed(_)) => Action::Finish(verdict),
            (Phase::Repeating, Event::Recorded | Event::Failed(_)) => {
                self.go(Phase::Connecting, Action::Connect)
            }
            (Phase::Keeping { tries }, Event::Recorded) => self.commit(true, tries),
            (Phase::Keeping { tries }, Event::Failed(_)) => self.commit(false, tries),
            (Phase::Keeping { tries }, Event::Waited) => self.keep(tries),
            (Phase::Committing { .. }, Event::Committed) => self.close(now),
            (Phase::Committing { recorded, tries }, Event::Failed(failure)) => {
                self.on_commit_failed(recorded, tries, failure, now)
            }
            // With the answer in the record the store may be looked at anew; without, it exists only here.
            (
                Phase::Committing {
                    recorded: false,
                    tries,
                },
                Event::Conflict(found),
            ) => self.on_conflict_unrecorded(tries, found.as_deref(), now),
            (Phase::Healing | Phase::Committing { .. }, Event::Conflict(_)) => self.read_again(),
            (Phase::Closing, Event::Recorded | Event::Failed(_)) => self.conclude(None, now),
            (_, Event::Failed(failure)) => self.failed(failure),
            (phase, event) => out_of_turn(&phase, &event),
        }
    }

    /// Can the caller be given the old access token while it waits?
    #[must_use]
    pub fn old_token_lives(&self, now: UnixMillis) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| alive(current, &self.setup.demand, now))
    }

    fn go(&mut self, phase: Phase, action: Action) -> Action {
        self.phase = phase;
        action
    }

    /// Writes `record`, which is what is known from now on, and ends with `verdict` whether that works or not.
    fn settle(&mut self, record: Record, verdict: Verdict) -> Action {
        self.record = Some(record.clone());
        self.go(Phase::Settling(verdict), Action::Record(Box::new(record)))
    }

    /// Somebody moved the store or a rival's record under us: what was decided no longer holds.
    fn read_again(&mut self) -> Action {
        match self.next_round() {
            Ok(()) => self.go(Phase::Reading, Action::Read),
            Err(failure) => self.failed(failure),
        }
    }

    fn next_round(&mut self) -> Result<(), Failure> {
        self.rounds += 1;
        if self.rounds < ROUNDS_MAX {
            return Ok(());
        }
        let reason = format!(
            "the store of {} keeps changing while it is being read",
            self.setup.profile
        );
        Err(Failure { reason, fix: None })
    }

    /// Ends without success. Whether a request is out is read from the record.
    fn failed(&self, failure: Failure) -> Action {
        Action::Finish(Verdict::TryAgain {
            failure,
            until: None,
            outcome_unknown: self.doubt().is_some(),
        })
    }

    /// The standing of what counts here, as far as this flight has read.
    fn standing(&self, now: UnixMillis) -> Option<Standing> {
        let current = self.current.as_ref()?;
        let (policy, demand) = (&self.setup.policy, &self.setup.demand);
        Some(stand(current, self.record.as_ref(), policy, demand, now))
    }

    fn key(&self) -> Option<SpendKey> {
        self.current.as_ref().and_then(Generation::spend_key)
    }

    /// The earlier request with the present key that is unanswered, if repeating it is not free.
    fn doubt(&self) -> Option<&tokensink_types::record::Sent> {
        let record = self.record.as_ref()?;
        unanswered(record, self.key()?).filter(|_| !exempt(&self.setup.policy, record))
    }

    fn record_or_new(&self) -> Record {
        self.record
            .clone()
            .unwrap_or_else(|| new_record(&self.setup, self.current.clone()))
    }

    /// Lets the next try wait, longer after each failure.
    fn back_off(
        &self,
        record: &mut Record,
        reason: &str,
        retry_after: Option<Duration>,
        now: UnixMillis,
    ) -> UnixMillis {
        let earlier = self.record.as_ref().and_then(|record| record.backoff.as_ref());
        let failures = earlier.map_or(0, |backoff| backoff.failures).saturating_add(1);
        let not_before = now.plus(backoff_delay(failures, self.setup.jitter, retry_after));
        record.backoff = Some(Backoff {
            failures,
            not_before,
            reason: reason.to_owned(),
        });
        not_before
    }
}

fn new_record(setup: &Setup, generation: Option<Generation>) -> Record {
    Record::idle(
        setup.provider.clone(),
        setup.profile.clone(),
        setup.store.clone(),
        generation,
    )
}

fn try_again(failure: Failure, until: Option<UnixMillis>) -> Action {
    Action::Finish(Verdict::TryAgain {
        failure,
        until,
        outcome_unknown: false,
    })
}

fn out_of_turn(phase: &Phase, event: &Event) -> Action {
    let event = match event {
        Event::Read(_) => "read",
        Event::Connected => "connected",
        Event::Admitted => "admitted",
        Event::Rival => "rival",
        Event::Answer(_) => "answer",
        Event::Recorded => "recorded",
        Event::Committed => "committed",
        Event::Conflict(_) => "conflict",
        Event::Waited => "waited",
        Event::Failed(_) => "failed",
    };
    let reason = format!("internal error: event {event} in phase {}", phase.name());
    try_again(Failure { reason, fix: None }, None)
}

impl Phase {
    fn name(&self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Confirming { .. } => "confirming",
            Self::Learning { .. } => "learning",
            Self::Overtaken => "overtaken",
            Self::Healing => "healing",
            Self::Healed => "healed",
            Self::Connecting => "connecting",
            Self::Admitting => "admitting",
            Self::Sending => "sending",
            Self::Settling(_) => "settling",
            Self::Repeating => "repeating",
            Self::Keeping { .. } => "keeping",
            Self::Committing { .. } => "committing",
            Self::Closing => "closing",
            Self::Ended => "ended",
        }
    }
}
