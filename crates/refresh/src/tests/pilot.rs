//! Flies a flight through a scripted world and writes down what it does, one word per action.

use std::collections::VecDeque;
use std::time::Duration;

use tokensink_types::record::{Generation, Record, RecordState, Rotation};
use tokensink_types::{ProfileId, UnixMillis};

use super::{NOW, generation, process, provider, record};
use crate::{
    Action, Answer, Demand, Event, Failure, Flight, Holder, Policy, Rival, Setup, Snapshot, Verdict,
};

/// The scripted world.
pub(super) struct Pilot {
    pub(super) policy: Policy,
    pub(super) demand: Demand,
    pub(super) stored: Option<Generation>,
    pub(super) record: Option<Record>,
    pub(super) holders: Vec<Holder>,
    pub(super) rivals: Vec<Rival>,
    /// Holders and rivals that appear after the first request.
    pub(super) late_holders: Vec<Holder>,
    pub(super) late_rivals: Vec<Rival>,
    /// What the server answers, one after the other.
    pub(super) answers: VecDeque<Answer>,
    /// Words of actions that fail, each as often as it stands here. `!` before it: every time.
    pub(super) fails: Vec<&'static str>,
    /// What becomes of the store at the n-th action, counted from 0.
    pub(super) disturb: Vec<(usize, Option<Generation>)>,
    pub(super) now: UnixMillis,
    /// Every record that the flight made durable.
    pub(super) written: Vec<Record>,
    pub(super) sends: usize,
    pub(super) flight: Option<Flight>,
}

impl Pilot {
    pub(super) fn new(stored: Generation, record: Option<Record>) -> Self {
        Self {
            policy: Policy::default(),
            demand: Demand::default(),
            stored: Some(stored),
            record,
            holders: Vec::new(),
            rivals: Vec::new(),
            late_holders: Vec::new(),
            late_rivals: Vec::new(),
            answers: VecDeque::new(),
            fails: Vec::new(),
            disturb: Vec::new(),
            now: NOW,
            written: Vec::new(),
            sends: 0,
            flight: None,
        }
    }

    pub(super) fn answering(mut self, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.answers.extend(answers);
        self
    }

    pub(super) fn failing(mut self, fails: &[&'static str]) -> Self {
        self.fails = fails.to_vec();
        self
    }

    /// Flies to the end: the words and the verdict.
    pub(super) fn fly(&mut self) -> (String, Verdict) {
        let (mut flight, mut action) = Flight::start(setup(&self.policy, &self.demand));
        let mut words = Vec::new();
        loop {
            for (at, stored) in &self.disturb {
                if *at == words.len() {
                    self.stored.clone_from(stored);
                }
            }
            words.push(word(&action));
            if let Action::Finish(verdict) = action {
                self.flight = Some(flight);
                return (words.join(" "), verdict);
            }
            assert!(words.len() < 100, "endless: {words:?}");
            let event = self.perform(action);
            action = flight.on(event, self.now);
        }
    }

    fn perform(&mut self, action: Action) -> Event {
        if self.fails_now(word(&action)) {
            return Event::Failed(failure("broken"));
        }
        match action {
            Action::Read => Event::Read(Box::new(Snapshot {
                stored: self.stored.clone(),
                record: self.record.clone(),
                holders: self.holders.clone(),
                rivals: self.rivals.clone(),
            })),
            Action::Connect => Event::Connected,
            Action::Admit(record) => {
                self.write(*record);
                Event::Admitted
            }
            Action::Record(record) => {
                self.write(*record);
                Event::Recorded
            }
            Action::Send(_) => {
                self.sends += 1;
                self.holders.append(&mut self.late_holders);
                self.rivals.append(&mut self.late_rivals);
                Event::Answer(self.answers.pop_front().expect("no answer left"))
            }
            Action::Commit { expected, generation } => {
                if self.stored.as_ref().and_then(Generation::spend_key) != expected {
                    return Event::Conflict(self.stored.clone().map(Box::new));
                }
                self.stored = Some(*generation);
                Event::Committed
            }
            Action::Wait(time) => {
                self.now = self.now.plus(time);
                Event::Waited
            }
            Action::Finish(_) => unreachable!("the end is no action"),
        }
    }

    fn write(&mut self, record: Record) {
        self.written.push(record.clone());
        self.record = Some(record);
    }

    fn fails_now(&mut self, word: &str) -> bool {
        if self
            .fails
            .iter()
            .any(|fails| fails.strip_prefix('!') == Some(word))
        {
            return true;
        }
        let at = self.fails.iter().position(|fails| *fails == word);
        at.map(|at| self.fails.remove(at)).is_some()
    }
}

pub(super) fn setup(policy: &Policy, demand: &Demand) -> Setup {
    Setup {
        provider: provider(),
        profile: ProfileId::parse("rig:work").unwrap(),
        store: "store".to_owned(),
        me: process(1),
        policy: policy.clone(),
        demand: demand.clone(),
        jitter: 0,
    }
}

pub(super) fn failure(reason: &str) -> Failure {
    Failure {
        reason: reason.to_owned(),
        fix: None,
    }
}

/// Reads and sends by their names, records by their state, the end by its verdict.
fn word(action: &Action) -> &'static str {
    match action {
        Action::Read => "read",
        Action::Connect => "connect",
        Action::Admit(_) => "admit",
        Action::Send(_) => "send",
        Action::Commit { .. } => "commit",
        Action::Wait(_) => "wait",
        Action::Record(record) => match &record.state {
            RecordState::Idle => "idle",
            RecordState::Sent(_) => "sent",
            RecordState::Answered { .. } => "answered",
            RecordState::Committed { .. } => "committed",
            RecordState::Parked { .. } => "parked",
            RecordState::Refused { .. } => "refused",
        },
        Action::Finish(verdict) => match verdict {
            Verdict::Served { store_behind: None } => "served",
            Verdict::Served { .. } => "behind",
            Verdict::Elsewhere { .. } => "elsewhere",
            Verdict::TryAgain {
                outcome_unknown: true,
                ..
            } => "unknown",
            Verdict::TryAgain { .. } => "again",
            Verdict::LoginNeeded(_) => "login",
            Verdict::Gone => "gone",
        },
    }
}

pub(super) fn granted(name: &str) -> Answer {
    let mut generation = generation(name, 3600);
    generation.issued_at = Some(NOW);
    Answer::Granted(Box::new(generation))
}

pub(super) fn ambiguous() -> Answer {
    Answer::Ambiguous(failure("cut"))
}

pub(super) fn not_written() -> Answer {
    Answer::NotWritten(failure("closed"))
}

pub(super) fn unavailable(retry_after: u64) -> Answer {
    Answer::Unspent {
        failure: failure("503"),
        retry_after: Some(Duration::from_secs(retry_after)),
    }
}

pub(super) fn no() -> Answer {
    Answer::Refused {
        code: "invalid_grant".to_owned(),
        description: "gone".to_owned(),
    }
}

pub(super) fn grace() -> Policy {
    Policy {
        rotation: Rotation::Always,
        replay_grace: Duration::from_secs(30),
        idle_limit: None,
        first: false,
    }
}

/// A grant whose access token ended a minute ago.
pub(super) fn dead() -> Generation {
    generation("1", -60)
}

/// ... with a record in `state`.
pub(super) fn in_state(state: RecordState) -> Pilot {
    Pilot::new(dead(), Some(record(dead(), state)))
}

pub(super) fn access(generation: Option<&Generation>) -> &str {
    generation.map_or("", |generation| generation.tokens.access.expose())
}
