//! Serving an OAuth profile: from what is stored while that is fresh, else after a flight, ours or another's.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokensink_host::lock::{KernelLock, LockError, Wait};
use tokensink_refresh::{Demand, Horizon, Standing, Verdict, alive};
use tokensink_store::{OwnedProfile, make_durable};
use tokensink_types::{AgentId, OAuth, ProfileId, ProviderId};

use crate::block::{Block, no_profile, quoted};
use crate::boarding::{Pass, Turn};
use crate::error::{ErrorKind, Result, SinkError};
use crate::flights::{Landing, Patience};
use crate::grant::{Grant, readable};
use crate::kept::Ready;
use crate::lease::{AcquireRequest, Lease};
use crate::login::Cancel;
use crate::owner::Target;
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// First and longest pause of a caller that waits for another's flight.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(40);
/// How long a caller whose present token lives waits for a newer one, unless it has asked for one that lasts.
const OLD_TOKEN_WAIT: Duration = Duration::from_secs(2);
/// How long a caller waits for a store to be brought up to its record; the token that it gets is the same.
const HEAL_WAIT: Duration = Duration::from_secs(2);
/// How often a caller that waits out a back-off looks whether somebody has ended it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What must be left of a caller's time after a back-off for a try to be worth while.
const FLIGHT_ROOM: Duration = Duration::from_millis(300);
/// Longest back-off that a caller waits out while other profiles could be asked.
pub(crate) const SHORT_WAIT: Duration = Duration::from_secs(5);
/// How often one call looks again after a flight that was said to serve.
const ROUNDS_MAX: u32 = 6;

impl Sink {
    /// The most common case: the profile was served from this snapshot before, and is still fresh. One `stat`, for the
    /// record, none where a watch runs; the lease is the one that was built then.
    pub(crate) fn served_again(
        &self,
        snapshot: &AgentSnapshot,
        id: &ProfileId,
        call: &Call<'_>,
    ) -> Result<Option<Lease>> {
        let Some(ready) = snapshot.kept.ready(id) else {
            return Ok(None);
        };
        // Before the record is read, so that what changes meanwhile counts as changed afterwards.
        let generation = self.generation();
        if self.is_watched() && ready.held_at.load(Ordering::Acquire) == generation {
            return Ok(self.if_fresh(&ready, call));
        }
        let record = readable(self.journal().read_at(&ready.place))?;
        Ok(if ready.is_of(record.as_ref()) {
            ready.held_at.store(generation, Ordering::Release);
            self.if_fresh(&ready, call)
        } else {
            None
        })
    }

    /// The common case: what is stored is fresh. One `stat`, for the record.
    pub(crate) fn warm(
        &self,
        snapshot: &AgentSnapshot,
        profile: &OwnedProfile,
        oauth: &OAuth,
        call: &Call<'_>,
    ) -> Result<Option<Lease>> {
        let id = &profile.entry.id;
        let target = snapshot.target_of(profile);
        let Some(key) = snapshot.record_key(&target) else {
            return Ok(None);
        };
        let place = self.journal().place(key);
        let grant = self.overlaid_by(&target, oauth, readable(self.journal().read_at(&place))?);
        let lease = self.grant_lease(profile, &grant, None);
        let held_at = AtomicU64::new(0);
        let ready = Ready {
            place,
            grant,
            lease,
            held_at,
        };
        let lease = self.if_fresh(&ready, call);
        if lease.is_some() {
            snapshot.kept.keep_ready(id.clone(), ready);
        }
        Ok(lease)
    }

    fn if_fresh(&self, ready: &Ready, call: &Call<'_>) -> Option<Lease> {
        let grant = &ready.grant;
        let settled = !grant.heal && !grant.is_unsettled();
        let fresh = settled && grant.standing(&call.demand, self.now()) == Standing::Fresh;
        fresh.then(|| ready.lease.clone())
    }

    /// Serves an OAuth profile: from what is stored while that is fresh, else after a flight.
    pub(crate) fn oauth_lease(
        &self,
        profile: &OwnedProfile,
        target: &Target,
        call: &Call<'_>,
    ) -> Result<Lease> {
        let mut rounds = 0;
        let mut queue = Queue::default();
        loop {
            let Some(grant) = self.grant(target)? else {
                return Err(no_profile(&target.profile, &call.request.agent));
            };
            let next = match grant.standing(&call.demand, self.now()) {
                Standing::Fresh if grant.heal || grant.is_unsettled() => Next::Settle,
                Standing::Fresh => return Ok(self.grant_lease(profile, &grant, None)),
                Standing::Due(_) => Next::Fly,
                other => {
                    if let Some(lease) = self.instead_of_dead(&other, target, &grant, call)? {
                        return Ok(lease);
                    }
                    Next::Blocked(self.block_of(other, target))
                }
            };
            let block = match next {
                Next::Settle => {
                    if grant.heal {
                        // The record serves; whoever finds room moves the tokens into the store.
                        self.heal(target, &grant, call);
                    }
                    if let Some(lease) = self.durable_lease(profile, target, &grant, call, None)? {
                        return Ok(lease);
                    }
                    rounds += 1;
                    if rounds < ROUNDS_MAX {
                        continue;
                    }
                    Block::unstable(format!("{} keeps ending while it is being read", target.profile))
                }
                Next::Blocked(block) => block,
                Next::Fly => match self.fly_or_wait(profile, target, &grant, call, &mut queue)? {
                    Flown::Lease(lease) => return Ok(*lease),
                    Flown::LookAgain { flew } => {
                        rounds += u32::from(flew);
                        if rounds < ROUNDS_MAX {
                            continue;
                        }
                        let reason = format!("{} keeps changing while it is being read", target.profile);
                        Block::unstable(reason)
                    }
                    Flown::HelperDied => {
                        // Whatever it had begun, the next flight takes up from the record.
                        rounds += 1;
                        if rounds < ROUNDS_MAX {
                            continue;
                        }
                        Block::helper_died()
                    }
                    Flown::Blocked(block) => block,
                },
            };
            if let Some(lease) = self.serve_old(profile, target, call, &block)? {
                return Ok(lease);
            }
            if !self.wait_out(&block, target, call)? {
                return Err(block.into_error(target, &self.remedy(target, &grant.oauth.provider)));
            }
        }
    }

    /// A copy that only a login would help follows main, which has been logged in or refreshed since.
    fn instead_of_dead(
        &self,
        standing: &Standing,
        target: &Target,
        grant: &Grant,
        call: &Call<'_>,
    ) -> Result<Option<Lease>> {
        if !matches!(standing, Standing::Dead(_)) || self.grant_ahead(target, grant, &call.demand)?.is_none()
        {
            return Ok(None);
        }
        Ok(match self.serve_from_main(target, call)? {
            Flown::Lease(lease) => Some(*lease),
            _ => None,
        })
    }

    /// The old token, while it lives: better than nothing, and said to be so.
    fn serve_old(
        &self,
        profile: &OwnedProfile,
        target: &Target,
        call: &Call<'_>,
        block: &Block,
    ) -> Result<Option<Lease>> {
        // Read afresh: a flight may have ended since.
        let grant = self.grant(target)?;
        let living = grant.filter(|grant| alive(&grant.generation, &call.demand, self.now()));
        let note = || Some(format!("the present token is served: {}", block.reason));
        match living {
            Some(grant) => self.durable_lease(profile, target, &grant, call, note()),
            None => Ok(None),
        }
    }

    /// A lease of what is durable: a token that stands in the record alone, or in the store alone, may have been written
    /// there by a process that has not yet come to its sync, or was killed before it did. `None` when it has ended
    /// meanwhile: a disk may be slow, and the machine may have been asleep.
    fn durable_lease(
        &self,
        profile: &OwnedProfile,
        target: &Target,
        grant: &Grant,
        call: &Call<'_>,
        note: Option<String>,
    ) -> Result<Option<Lease>> {
        if (grant.heal || grant.is_unsettled())
            && let Some(key) = self.record_key(target)?
        {
            if grant.heal {
                self.journal().make_durable(&key)?;
            } else {
                make_durable(self.host(), Path::new(&key.store))?;
            }
        }
        let lives = alive(&grant.generation, &call.demand, self.now());
        Ok(lives.then(|| self.grant_lease(profile, grant, note)))
    }

    /// Waits until the block ends, or somebody else has ended it, if that is known and within the call's time.
    fn wait_out(&self, block: &Block, target: &Target, call: &Call<'_>) -> Result<bool> {
        let Some(until) = block.until.filter(|_| block.kind == ErrorKind::TryAgain) else {
            return Ok(false);
        };
        let seen = self.grant(target)?;
        let mut needed = self.now().until(until);
        // With less time left than a request takes, the caller is better served with the reason than with "under way".
        if needed > call.longest_wait || needed.saturating_add(FLIGHT_ROOM) > call.left(self) {
            return Ok(false);
        }
        loop {
            self.host().clock.sleep(needed.clamp(PAUSE_MIN, LOOK_EVERY));
            needed = self.now().until(until);
            // The wait counts by a clock that may be put back meanwhile; the caller's time does not.
            if needed.is_zero() || call.left(self).is_zero() {
                return Ok(true);
            }
            let found = self.grant(target)?;
            if !same(seen.as_ref(), found.as_ref()) {
                return Ok(true);
            }
        }
    }

    /// Takes the grant's lock and flies, or waits for the one who has it.
    fn fly_or_wait(
        &self,
        profile: &OwnedProfile,
        target: &Target,
        grant: &Grant,
        call: &Call<'_>,
        queue: &mut Queue,
    ) -> Result<Flown> {
        if self.store().is_readonly() {
            return Ok(Flown::Blocked(Block::readonly()));
        }
        if self.refresher_for(target, &grant.oauth).is_none() {
            return Ok(Flown::Blocked(self.no_definition(&grant.oauth.provider)));
        }
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        // The old token will do while somebody refreshes, unless the caller has asked for more.
        let patient = matches!(call.demand.horizon, Horizon::AtLeast(_));
        let old_will_do = !patient && alive(&grant.generation, &call.demand, self.now());
        let meanwhile = |block: Block, wait: &mut dyn FnMut(Duration)| {
            let left = call.left(self);
            if old_will_do {
                let note = format!("the present token is served: {}", block.reason);
                let lease = self.durable_lease(profile, target, grant, call, Some(note))?;
                return Ok(lease.map_or(Flown::LookAgain { flew: false }, |lease| {
                    Flown::Lease(Box::new(lease))
                }));
            }
            if left.is_zero() {
                return Ok(Flown::Blocked(block));
            }
            wait(left);
            Ok(Flown::LookAgain { flew: false })
        };
        let pass = match queue.turn(self, &path) {
            Turn::Ours(pass) => pass,
            Turn::Theirs(other) => {
                let block = Block::under_way(&target.profile);
                return meanwhile(block, &mut |left| other.wait(call.unwatched(left)));
            }
        };
        match self.try_lock(&path) {
            Ok(lock) => {
                let left = call.left(self);
                let wait = if old_will_do {
                    left.min(OLD_TOKEN_WAIT)
                } else {
                    left
                };
                let patience = Patience::new(wait, call.request.cancel.as_ref());
                match self.launch(target, call.demand.clone(), lock, Some(pass), patience) {
                    Landing::Verdict(verdict) => self.after(verdict, target, call),
                    Landing::StillFlying => Ok(Flown::Blocked(Block::still_flying(&target.profile, wait))),
                    Landing::NoWord => Ok(Flown::HelperDied),
                }
            }
            Err(LockError::Busy { holder, .. }) => {
                let block = Block::held(&target.profile, holder.as_deref());
                let pause = queue.next_pause();
                let flown = meanwhile(block, &mut |left| self.host().clock.sleep(pause.min(left)));
                // The turn is kept while we go on asking for the lock.
                queue.pass = Some(pass);
                flown
            }
            Err(error) => Err(lock_error(&error, &target.profile)),
        }
    }

    /// Nobody says how to refresh: the user's file for the provider is missing, or wrong and therefore left out.
    pub(crate) fn no_definition(&self, provider: &ProviderId) -> Block {
        let file = self.paths().providers_dir().join(format!("{provider}.toml"));
        let fix = if self.host().files.read(&file).is_ok() {
            format!("tokensink providers check {}", quoted(&file.to_string_lossy()))
        } else {
            "tokensink providers list".to_owned()
        };
        Block::no_definition(provider, fix)
    }

    /// Flies for its own sake, waiting at most `wait` for somebody else's flight. `None` when it served.
    pub(crate) fn fly_for(
        &self,
        target: &Target,
        grant: &Grant,
        demand: &Demand,
        wait: Duration,
    ) -> Result<Option<Block>> {
        if self.store().is_readonly() {
            return Ok(Some(Block::readonly()));
        }
        if self.refresher_for(target, &grant.oauth).is_none() {
            return Ok(Some(self.no_definition(&grant.oauth.provider)));
        }
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        let lock = match KernelLock::acquire(self.host(), &path, Wait { deadline: wait }) {
            Ok(lock) => lock,
            Err(LockError::Busy { holder, .. }) => {
                return Ok(Some(Block::held(&target.profile, holder.as_deref())));
            }
            Err(error) => return Err(lock_error(&error, &target.profile)),
        };
        Ok(
            match self.launch(target, demand.clone(), lock, None, wait.into()) {
                Landing::StillFlying => Some(Block::still_flying(&target.profile, wait)),
                Landing::Verdict(verdict) => Block::of_verdict(verdict),
                Landing::NoWord => Some(Block::helper_died()),
            },
        )
    }

    fn after(&self, verdict: Verdict, target: &Target, call: &Call<'_>) -> Result<Flown> {
        match verdict {
            Verdict::Gone => Err(no_profile(&target.profile, &call.request.agent)),
            Verdict::Elsewhere { .. } => self.serve_from_main(target, call),
            other => Ok(Block::of_verdict(other).map_or(Flown::LookAgain { flew: true }, Flown::Blocked)),
        }
    }

    /// Main holds a newer generation of the same grant under the same id: it is refreshed and served from there.
    fn serve_from_main(&self, target: &Target, call: &Call<'_>) -> Result<Flown> {
        let main = AgentId::main();
        let snapshot = self.snapshot(&main)?;
        match snapshot.profile(&target.profile) {
            Some(profile) if target.owner != main => {
                let mains = snapshot.target_of(profile);
                Ok(Flown::Lease(Box::new(self.oauth_lease(profile, &mains, call)?)))
            }
            _ => Ok(Flown::LookAgain { flew: true }),
        }
    }

    /// Moves what the record holds into the store, if nobody else is at it and there is room.
    fn heal(&self, target: &Target, grant: &Grant, call: &Call<'_>) {
        if self.store().is_readonly() {
            return;
        }
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        if let Ok(lock) = self.try_lock(&path) {
            let wait = call.left(self).min(HEAL_WAIT);
            let landing = self.launch(target, call.demand.clone(), lock, None, wait.into());
            tracing::debug!(profile = %target.profile, ?landing, "the store was behind its record");
        }
    }
}

/// One call with its time limit.
pub(crate) struct Call<'a> {
    pub(crate) request: &'a AcquireRequest,
    demand: Demand,
    /// Monotonic.
    deadline: Duration,
    /// Longest back-off that is waited out.
    longest_wait: Duration,
}

impl<'a> Call<'a> {
    pub(crate) fn new(sink: &Sink, request: &'a AcquireRequest) -> Self {
        let horizon = request.min_ttl.map_or(Horizon::Usual, Horizon::AtLeast);
        let deadline = sink.host().clock.monotonic().saturating_add(request.wait);
        Self {
            request,
            demand: Demand {
                horizon,
                rejected: request.rejected.clone(),
            },
            deadline,
            longest_wait: Duration::MAX,
        }
    }

    /// The same call while there are other profiles to ask: it does not wait out a long back-off.
    pub(crate) fn with_others(&self) -> Self {
        Self {
            demand: self.demand.clone(),
            longest_wait: SHORT_WAIT,
            ..*self
        }
    }

    /// What is left of the caller's patience; nothing once it has given up.
    pub(crate) fn left(&self, sink: &Sink) -> Duration {
        if self.request.cancel.as_ref().is_some_and(Cancel::is_set) {
            return Duration::ZERO;
        }
        self.deadline.saturating_sub(sink.host().clock.monotonic())
    }

    /// As much of `time` as may pass until it is looked whether the caller has given up.
    fn unwatched(&self, time: Duration) -> Duration {
        match self.request.cancel {
            Some(_) => time.min(LOOK_EVERY),
            None => time,
        }
    }
}

/// A caller's place among those who go for the same lock.
#[derive(Default)]
struct Queue {
    /// The turn, while the caller has it and another process has the lock.
    pass: Option<Pass>,
    pauses: u32,
}

impl Queue {
    fn turn(&mut self, sink: &Sink, lock: &Path) -> Turn {
        let kept = self.pass.take().filter(|pass| pass.is_for(lock));
        kept.map_or_else(|| sink.flights().turn(lock), Turn::Ours)
    }

    fn next_pause(&mut self) -> Duration {
        let pause = PAUSE_MIN * (1 << self.pauses.min(4));
        self.pauses += 1;
        pause.min(PAUSE_MAX)
    }
}

/// Has nothing happened to the grant?
fn same(one: Option<&Grant>, other: Option<&Grant>) -> bool {
    let known = |grant: &Grant| grant.generation.revision();
    one.map(known) == other.map(known)
        && one.and_then(|grant| grant.record.as_ref()) == other.and_then(|grant| grant.record.as_ref())
}

enum Next {
    Settle,
    Fly,
    Blocked(Block),
}

enum Flown {
    Lease(Box<Lease>),
    LookAgain { flew: bool },
    HelperDied,
    Blocked(Block),
}

fn lock_error(error: &LockError, profile: &ProfileId) -> SinkError {
    SinkError::new(ErrorKind::Failed, "lock", error.to_string()).about(profile)
}
