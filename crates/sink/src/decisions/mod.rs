//! What was decided, kept for `explain`: every choice with what it was made of, and what became of its calls.
//!
//! Noting costs a lock and two reference counts; nothing is put into text before it is written. A process that runs for
//! long writes every second ([`Sink::record_decisions`]); any other process writes only what is notable, at once: a
//! choice that was not the first of its order, one that could not be made, a call that failed. Losing a note loses an
//! explanation and nothing else, so what cannot be written is told to the log and forgotten.
//!
//! No note holds a secret: a decision is made of none, and of a failed call only its status and rule are kept.

mod book;
mod explain;
mod parts;
mod report;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokensink_host::Ticker;
use tokensink_policy::record::RecordedDecision;
use tokensink_policy::{Config, Decision, OrderSource, Request, State, Target, Verdict};
use tokensink_types::{ProfileId, UnixMillis};

use crate::calls::{CallOutcome, LeaseId, Reported};
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

use book::Book;
pub use report::{
    Asked, ExplainAsk, ExplainedAttempt, ExplainedBench, ExplainedChoice, ExplainedProfile, Explanation,
    Reproduced,
};

/// How many choices wait for being written; the ring. Older ones are dropped.
const RING: usize = 1000;
/// The same for what is notable, which is dropped last.
const NOTABLE: usize = 4000;
/// How often they are written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// A decision with what was asked and when, shared by all who are served by it. Configuration and state belong to the
/// snapshot on which it was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) request: Request,
    pub(crate) at: UnixMillis,
    pub(crate) decision: Decision,
}

impl Deref for Made {
    type Target = Decision;

    fn deref(&self) -> &Decision {
        &self.decision
    }
}

/// One choice.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) id: LeaseId,
    /// The request that it was made for, where that had an id of its own.
    pub(crate) request: Option<LeaseId>,
    pub(crate) at: UnixMillis,
    /// What it was made of. Only that of the snapshot: with it, the stores of every moment would be kept until the notes
    /// are written.
    pub(crate) config: Arc<Config>,
    pub(crate) state: Arc<State>,
    pub(crate) made: Arc<Made>,
    /// Whose credential was handed out, or the code of the error.
    pub(crate) served: std::result::Result<ProfileId, &'static str>,
}

impl Choice {
    /// The decision with its inputs, in the form in which it is kept.
    fn recorded(&self) -> RecordedDecision {
        let Made {
            request,
            at,
            decision,
        } = &*self.made;
        RecordedDecision::of(&self.config, &self.state, request, *at, Ok(decision.clone()))
    }

    /// Did the first of the order serve, at the first try?
    fn is_first(&self) -> bool {
        let (Ok(served), true) = (&self.served, self.made.request.tried.is_empty()) else {
            return false;
        };
        match self.listed() {
            Some(listed) => listed.first() == Some(served),
            // Without a written order it is the one that nobody was passed over for.
            None => {
                let chosen = self.made.choice().map(|choice| &choice.profile);
                let passed_over = |verdict: &Verdict| verdict.is_benched() || verdict.barrier.is_some();
                chosen == Some(served) && !self.made.verdicts.iter().any(passed_over)
            }
        }
    }

    /// The order as somebody wrote it, where one is in force.
    fn listed(&self) -> Option<&[ProfileId]> {
        let Target::Provider(provider) = &self.made.request.target else {
            return None;
        };
        let orders = match self.made.source? {
            OrderSource::Stored => &self.state.order,
            OrderSource::Config => &self.config.order,
            OrderSource::Configured | OrderSource::AllStored => return None,
        };
        let mut orders = orders.iter();
        let found = orders.find(|(id, _)| self.config.aliases.same(id, provider));
        found.map(|(_, listed)| listed.as_slice())
    }
}

impl Sink {
    /// An id for a request that may take several leases ([`crate::AcquireRequest::request_id`]): by it `explain` tells
    /// all of its choices, also where none of them came to a lease.
    #[must_use]
    pub fn request_id(&self) -> LeaseId {
        self.calls().lease_id()
    }
}

/// What became of a call.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) lease: LeaseId,
    pub(crate) at: UnixMillis,
    pub(crate) profile: ProfileId,
    /// `served`, `failed`, `not-connected`, `timed-out`, `cut-off` or `abandoned`.
    pub(crate) outcome: &'static str,
    pub(crate) status: Option<u16>,
    pub(crate) reported: Reported,
}

#[derive(Debug, Clone)]
enum Note {
    Choice(Choice),
    Attempt(Attempt),
}

impl Note {
    fn is_notable(&self) -> bool {
        match self {
            // Where nothing is stored nobody was passed over; the answer says all there is to say.
            Self::Choice(choice) => !choice.made.verdicts.is_empty() && !choice.is_first(),
            Self::Attempt(attempt) => !matches!(attempt.outcome, "served" | "abandoned"),
        }
    }
}

/// What waits for being written.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    waiting: Mutex<Waiting>,
    /// Somebody writes every second.
    recorded: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Waiting {
    plain: VecDeque<Note>,
    notable: VecDeque<Note>,
    dropped: usize,
}

impl Waiting {
    fn push(&mut self, note: Note) {
        let (queue, most) = if note.is_notable() {
            (&mut self.notable, NOTABLE)
        } else {
            (&mut self.plain, RING)
        };
        if queue.len() >= most {
            queue.pop_front();
            self.dropped += 1;
        }
        queue.push_back(note);
    }
}

impl Decisions {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decisions are being written, and what answers have said of limits. Dropping it writes the rest and ends that.
#[derive(Debug)]
pub struct Recording {
    sink: Sink,
    ticker: Option<Ticker>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        drop(self.ticker.take());
        self.sink.decisions().recorded.store(false, Ordering::Release);
        self.sink.flush_decisions();
        self.sink.flush_quotas(true);
    }
}

impl Sink {
    /// Keeps every choice for `explain` from now on, not only the notable ones, and writes them every second. What answers
    /// have said of limits is written too, whether or not further answers come.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn record_decisions(&self) -> Result<Recording> {
        let sink = self.clone();
        let write = move || {
            sink.flush_decisions();
            sink.flush_quotas(false);
            true
        };
        let ticker = Ticker::start("tokensink-decisions", FLUSH_EVERY, write).map_err(|error| {
            let message = format!("no thread for writing decisions: {error}");
            SinkError::new(ErrorKind::Failed, "no_thread", message)
        })?;
        self.decisions().recorded.store(true, Ordering::Release);
        Ok(Recording {
            sink: self.clone(),
            ticker: Some(ticker),
        })
    }

    /// Does a [`Recording`] write what is not written now?
    pub(crate) fn is_recording(&self) -> bool {
        self.decisions().recorded.load(Ordering::Acquire)
    }

    pub(crate) fn note_choice(&self, choice: Choice) {
        self.note(Note::Choice(choice));
    }

    /// Notes what became of a call.
    pub(crate) fn note_attempt(&self, lease: &crate::Lease, outcome: &CallOutcome<'_>, reported: &Reported) {
        let (word, status) = match outcome {
            CallOutcome::Served { .. } => ("served", None),
            CallOutcome::Failed { status, .. } => ("failed", *status),
            CallOutcome::NotConnected { .. } => ("not-connected", None),
            CallOutcome::TimedOut => ("timed-out", None),
            CallOutcome::CutOff => ("cut-off", None),
            CallOutcome::Abandoned => ("abandoned", None),
            // Its beginning was noted.
            CallOutcome::Finished => return,
        };
        self.note(Note::Attempt(Attempt {
            lease: lease.id,
            at: self.now(),
            profile: lease.profile.clone(),
            outcome: word,
            status,
            reported: reported.clone(),
        }));
    }

    fn note(&self, note: Note) {
        let recorded = self.is_recording();
        if !recorded && !note.is_notable() {
            return;
        }
        self.decisions().waiting().push(note);
        if !recorded {
            self.flush_decisions();
        }
    }

    /// Writes what waits.
    pub(crate) fn flush_decisions(&self) {
        let decisions = self.decisions();
        // One at a time, so that notes are written in their order.
        let mut book = decisions.book.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = std::mem::take(&mut *decisions.waiting());
        if waiting.plain.is_empty() && waiting.notable.is_empty() || self.store().is_readonly() {
            return;
        }
        if waiting.dropped > 0 {
            tracing::debug!(dropped = waiting.dropped, "more choices than are kept");
        }
        if let Err(error) = book.write(self.host(), self.paths(), &waiting.plain, &waiting.notable) {
            tracing::warn!(%error, "decisions could not be kept for explain");
        }
    }
}

#[cfg(test)]
mod tests;
