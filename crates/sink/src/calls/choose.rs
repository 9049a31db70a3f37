//! Choosing for one request: the decision, the test that it may ask for, and waiting until somebody is free.

use std::sync::Arc;
use std::time::Duration;

use tokensink_policy::bench::Gate;
use tokensink_policy::pin::{Pin, Why};
use tokensink_policy::{self as policy, Outcome, Target as Wanted, Unavailable, Verdict};
use tokensink_types::{AgentId, ProfileId, UnixMillis};

use super::Issued;
use super::benches::About;
use super::epoch::Identity;
use crate::decisions::Made;
use crate::error::{ErrorKind, Result, SinkError};
use crate::lease::{AcquireRequest, Lease};
use crate::serve::Call;
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// How often a caller that waits for a bench to end looks whether somebody has ended it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Shortest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// How often one call decides again at once because somebody else was quicker with a test. Then it pauses in between:
/// in a crowd there is always somebody quicker, and the test of one ends in a moment.
const CLAIMS_MAX: u32 = 8;

/// What became of the wish to test a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The test is ours, since this instant.
    Ours(UnixMillis),
    /// There is nothing to test any more.
    Free,
    /// Somebody else tests it.
    Theirs,
}

/// The profiles besides `first` that may serve the request as well, by the same rules, in their order. There may be a
/// thousand.
pub(crate) fn others<'a>(made: &'a Made, first: &'a ProfileId) -> impl Iterator<Item = &'a Verdict> {
    let locked = made.pin.as_ref().is_some_and(|pin| pin.why == Why::Locked);
    let others = made.verdicts.iter().filter(move |_| !locked);
    others.filter(move |verdict| verdict.profile != *first && verdict.is_usable())
}

impl Sink {
    /// Which profile serves now. A choice is kept with the snapshot while it holds.
    pub(crate) fn decide(
        &self,
        snapshot: &AgentSnapshot,
        wanted: Wanted,
        request: &AcquireRequest,
    ) -> Result<Arc<Made>> {
        let session = match (&request.session, &wanted) {
            (Some(key), Wanted::Provider(provider)) => Some(self.session_pin(snapshot, key, provider)?),
            _ => None,
        };
        let now = self.now();
        // What is asked for in a particular way is decided for this request alone.
        let keeps = request.tried.is_empty() && request.preferred.is_none();
        if keeps
            && let Some(made) =
                snapshot
                    .kept
                    .decision(&wanted, request.model.as_deref(), session.as_ref(), now)
        {
            return Ok(made);
        }
        let ask = policy::Request {
            model: request.model.clone(),
            preferred: request.preferred.clone(),
            session,
            tried: request.tried.clone(),
            ..policy::Request::new(wanted)
        };
        let decision = policy::select(&snapshot.config, &snapshot.state, &ask, now)
            .map_err(|error| SinkError::new(ErrorKind::Failed, "oauth_reference", error.to_string()))?;
        let made = Arc::new(Made {
            request: ask,
            at: now,
            decision,
        });
        if keeps && made.choice().is_some() {
            let until = snapshot.state.next_change(now);
            snapshot.kept.keep_decision(until, &made);
        }
        Ok(made)
    }

    /// Chooses and serves; waits where nobody is free and the caller's time allows it.
    pub(crate) fn choose_and_serve(&self, request: &AcquireRequest) -> Result<Lease> {
        let call = Call::new(self, request);
        let mut claims = 0;
        loop {
            let snapshot = self.snapshot(&request.agent)?;
            let wanted = self.wanted(&request.want, &snapshot)?;
            let made = self.decide(&snapshot, wanted, request)?;
            let refused = |error: SinkError| {
                if request.asks_again && error.kind() == ErrorKind::TryAgain {
                    return error;
                }
                let id = self.calls().lease_id();
                self.noted((id, self.now()), Err(error.code()), (&snapshot, &made), request);
                error
            };
            let choice = match &made.outcome {
                Outcome::Chosen(choice) => choice,
                Outcome::Unavailable(why) => {
                    if self.wait_for_one(why, &call) {
                        continue;
                    }
                    return Err(refused(self.refusal(why, (&snapshot, &made.request), request)));
                }
            };
            let claim = if choice.tests {
                self.claim(&snapshot, &choice.profile, request.model.as_deref())
            } else {
                Claim::Free
            };
            if claim == Claim::Theirs {
                claims += 1;
                // A watch tells of it a little later.
                self.moved();
                if claims < CLAIMS_MAX || self.pause_before_the_next_claim(&call) {
                    continue;
                }
                let message = format!("{} is being tested by somebody else", choice.profile);
                let error = SinkError::new(ErrorKind::TryAgain, "being_tested", message);
                return Err(refused(error.about(&choice.profile)));
            }
            let lease = self
                .serve(&made, choice, claim, &snapshot, &call)
                .map_err(refused)?;
            if !self.is_within_bounds(&made, &lease, request) {
                // The next decision knows of it.
                continue;
            }
            let mut lease = self.issued(lease, &snapshot, &made, request);
            self.keep_pin(&made, &mut lease, request);
            return Ok(lease);
        }
    }

    /// Counts a lease that costs more by the user's leave. `false`: another was the last that may today, and what was
    /// claimed for this one is free again.
    fn is_within_bounds(&self, made: &Made, lease: &Lease, request: &AcquireRequest) -> bool {
        let verdict = made.verdict(&lease.profile);
        if verdict.is_none_or(|verdict| verdict.crosses.is_none()) || self.count_crossing() {
            return true;
        }
        self.give_back(&Lease {
            model: request.model.clone(),
            issued: Issued {
                at: self.now(),
                ..lease.issued
            },
            ..lease.clone()
        });
        false
    }

    /// Waits a while if one of the benched is free within the caller's time. `false`: it is not worth while.
    fn wait_for_one(&self, why: &Unavailable, call: &Call<'_>) -> bool {
        let until = match why {
            Unavailable::AllBenched { .. } | Unavailable::TooCostly { .. } => why.retry_at(),
            // What this request has tried already is not free for it.
            _ => None,
        };
        let Some(until) = until else { return false };
        let needed = self.now().until(until);
        if needed > call.left(self) || call.left(self).is_zero() {
            return false;
        }
        self.host().clock.sleep(needed.clamp(PAUSE_MIN, LOOK_EVERY));
        true
    }

    /// Pauses if the caller has time left. `false`: it has none.
    fn pause_before_the_next_claim(&self, call: &Call<'_>) -> bool {
        let left = call.left(self);
        if left < PAUSE_MIN {
            return false;
        }
        self.host().clock.sleep(PAUSE_MIN);
        true
    }

    /// Announces the one request that tests the benches of a profile, to all processes.
    pub(crate) fn claim(&self, snapshot: &AgentSnapshot, id: &ProfileId, model: Option<&str>) -> Claim {
        let Some(profile) = snapshot.profile(id) else {
            return Claim::Free;
        };
        let identity = Identity::of(&profile.entry.credential);
        let now = self.now();
        self.change_benches(&profile.owner, id, |entry| {
            let found = self.lanes_now(&profile.owner, id);
            let (mut benches, _) = entry.in_force(&identity, found.as_ref(), now);
            if benches.gate(model, now) == Gate::Open {
                return Claim::Free;
            }
            if !benches.probe(model, now) {
                return Claim::Theirs;
            }
            entry.take(benches, &About::default());
            Claim::Ours(now)
        })
    }

    /// Gives a claimed test back that did not come to a call.
    pub(crate) fn unclaim(&self, owner: &AgentId, id: &ProfileId, since: UnixMillis) {
        self.change_benches(owner, id, |entry| {
            for noted in &mut entry.benches {
                if noted.bench.probing.is_some_and(|probe| probe.since == since) {
                    noted.bench.probing = None;
                }
            }
        });
    }

    /// Stores the profile that the session stays with, if that is anything new. A session that begins, begins with the
    /// profile that serves, which need not be the first. The lease is good also where this fails, and says so.
    fn keep_pin(&self, made: &Made, lease: &mut Lease, request: &AcquireRequest) {
        let (Some(key), Some(read), Some(pinned)) = (&request.session, &made.request.session, &made.pin)
        else {
            return;
        };
        if self.store().is_readonly() {
            return;
        }
        let mut pinned = pinned.clone();
        let chosen = pinned.profile.clone();
        let is_kept = matches!(pinned.why, Why::Kept | Why::Locked);
        let begins =
            |pin: &Pin| !is_kept && read.pin.as_ref() != Some(pin) && Some(&pin.profile) == chosen.as_ref();
        if let Some(pin) = pinned.pin.as_mut().filter(|pin| begins(pin)) {
            pin.profile.clone_from(&lease.profile);
        }
        let stored = self
            .snapshot(&request.agent)
            .and_then(|snapshot| self.store_pin(&snapshot, (key, &lease.provider), read, &pinned));
        let said = match stored {
            Ok(said) => said,
            Err(error) => Some(format!("the account of session {key} could not be kept: {error}")),
        };
        if let Some(said) = said {
            lease.note = Some(
                lease
                    .note
                    .take()
                    .map_or(said.clone(), |note| format!("{note}; {said}")),
            );
        }
    }

    /// Has the decision nothing to store about the session?
    pub(crate) fn is_pin_kept(&self, made: &Made, request: &AcquireRequest) -> Result<bool> {
        match (&request.session, &made.request.session, &made.pin) {
            (Some(key), Some(read), Some(pinned)) => self.is_pin_stored(&request.agent, key, read, pinned),
            _ => Ok(true),
        }
    }
}
