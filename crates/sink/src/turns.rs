//! One look at a file for all requests of one turn of an event loop.
//!
//! A turn begins when the loop has waited for something to happen, and ends when it waits again, after a millisecond at
//! the latest. What arrives during a turn is read in the next one, so a request that arrives after a change on disk is
//! served by what is there then. The one exception is a request that follows another on a connection which is being
//! served at this very moment: it may be served by what was there when the turn began. Without an event loop there are
//! no turns, and every call looks for itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::sink::Sink;

/// The event loops that count turns, and how many they have counted.
#[derive(Debug, Default)]
pub(crate) struct Count {
    loops: AtomicUsize,
    turns: AtomicU64,
}

/// A turn. Two looks in the same one see the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(u64);

/// Milliseconds in a turn's number: enough to tell it from any other with the same count.
const MILLIS_BITS: u32 = 24;

/// An event loop counts its turns, until this is dropped.
#[derive(Debug)]
pub struct Turns(Sink);

impl Drop for Turns {
    fn drop(&mut self) {
        self.0.turn_count().loops.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Turns {
    /// The loop has waited and goes on: what was seen before counts no longer.
    pub fn next(&self) {
        self.0.end_turn();
    }
}

impl Sink {
    /// For an event loop that calls [`Turns::next`] whenever it has waited: from now on [`Sink::key_verify`] and
    /// [`Sink::acquire_ready`] look at a file once in each turn. Several loops may share one count.
    #[must_use]
    pub fn turns(&self) -> Turns {
        let turns = Turns(self.clone());
        turns.next();
        self.turn_count().loops.fetch_add(1, Ordering::AcqRel);
        turns
    }

    /// What this process has changed itself counts at once.
    pub(crate) fn end_turn(&self) {
        self.turn_count().turns.fetch_add(1, Ordering::AcqRel);
    }

    /// The present turn, if there is one: what was found out about files in it holds until it ends, a millisecond at most.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let count = self.turn_count();
        (count.loops.load(Ordering::Acquire) > 0).then(|| {
            let turns = count.turns.load(Ordering::Acquire);
            let millis = self.host().clock.monotonic().as_millis() & ((1 << MILLIS_BITS) - 1);
            Turn(turns << MILLIS_BITS | u64::try_from(millis).unwrap_or(0))
        })
    }
}

impl Turn {
    /// For a place that holds one or none, which is zero.
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}
