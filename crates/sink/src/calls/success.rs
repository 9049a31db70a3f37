//! What a call that was served says of what stands against its account. How much that is depends on the call: one that costs
//! nothing proves less, and so does the beginning of a stream.

use tokensink_policy::bench::{Bench, Bucket};
use tokensink_policy::classify::Reason;
use tokensink_types::UnixMillis;

use super::Proof;
use super::benches::{Entry, Noted};
use super::projection::{Lane, Lanes};
use crate::lease::Lease;

/// A call that was served, as far as benches are concerned.
pub(super) struct Success<'a> {
    pub(super) lease: &'a Lease,
    pub(super) proof: Proof,
    /// The windows of the plan that have room, by the answer.
    open: &'a [String],
}

impl<'a> Success<'a> {
    pub(super) fn of(lease: &'a Lease, proof: Proof, open: &'a [String]) -> Self {
        Self { lease, proof, open }
    }

    /// Does it disprove the bench? One of a limit also where the answer says that the windows of the plan have room which
    /// were full; a limit of another kind is not touched by what is left of a plan. Not if that was opened after the
    /// lease was handed out: the call may have been on its way before.
    fn disproves(&self, noted: &Noted) -> bool {
        let Noted { bench, about } = noted;
        let costs = self.proof != Proof::Free;
        let works = match &bench.bucket {
            Bucket::Account => costs || is_of_login(bench.reason),
            Bucket::Model(model) => costs && self.lease.model.as_ref() == Some(model),
            Bucket::Unnamed => costs && self.lease.model.is_none(),
        };
        let has_room =
            !about.windows.is_empty() && about.windows.iter().all(|window| self.open.contains(window));
        (works || has_room) && bench.since < self.lease.issued.at
    }

    /// Is there anything of it to end? The beginning of a stream ends what still holds and leaves what is counted.
    pub(super) fn has_to_end(&self, noted: &Noted, now: UnixMillis) -> bool {
        self.disproves(noted) && (self.proof != Proof::Begun || now < noted.bench.until)
    }

    pub(super) fn forgive(&self, entry: &mut Entry, now: UnixMillis) {
        if self.proof == Proof::Begun {
            for noted in &mut entry.benches {
                if self.disproves(noted) {
                    noted.bench.end(now);
                }
            }
        } else {
            entry.benches.retain(|noted| !self.disproves(noted));
        }
        // What it tested and did not disprove is for the next request to test.
        if self.lease.tests {
            for noted in &mut entry.benches {
                give_back_test(&mut noted.bench, self.lease);
            }
        }
        entry.intended = Some(entry.lanes(now));
    }

    /// What it leaves of other programs' windows: those of another model, and those that it says nothing of.
    pub(super) fn leaves(&self, foreign: &Lanes) -> Lanes {
        let is_left = |lane: &Lane| match self.proof {
            Proof::Free => !Reason::parse(&lane.reason).is_some_and(is_of_login),
            Proof::Begun | Proof::Whole => lane.model.is_some() && lane.model != self.lease.model,
        };
        Lanes {
            cooldown: foreign.cooldown.clone().filter(is_left),
            disabled: foreign.disabled.clone().filter(is_left),
        }
    }
}

/// Does a call that costs nothing show that this is over?
fn is_of_login(reason: Reason) -> bool {
    matches!(reason, Reason::Auth | Reason::AuthPermanent)
}

/// A test by this lease is free for the next request.
pub(super) fn give_back_test(bench: &mut Bench, lease: &Lease) {
    if bench.bucket.concerns(lease.model.as_deref()) && bench.is_probed_since(lease.issued.at) {
        bench.probing = None;
    }
}
