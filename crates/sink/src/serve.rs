//! Serving an OAuth profile: from what is stored while that is fresh, else after a flight, ours or another's.

use std::time::Duration;

use tokensink_host::lock::{KernelLock, LockError, Wait};
use tokensink_refresh::{Demand, Horizon, Standing, Verdict, alive};
use tokensink_store::OwnedProfile;
use tokensink_types::{AgentId, OAuth, ProfileId, ProviderId};

use crate::block::{Block, no_profile, quoted};
use crate::error::{ErrorKind, Result, SinkError};
use crate::flight::Target;
use crate::flights::Landing;
use crate::grant::{Grant, readable};
use crate::kept::Ready;
use crate::lease::{AcquireRequest, Lease};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// First and longest pause of a caller that waits for another's flight.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How often one call looks again after a flight that was said to serve.
const ROUNDS_MAX: u32 = 6;

impl Sink {
    /// The most common case: the profile was served from this snapshot before, and is still fresh. One `stat`, for the
    /// record; the lease is the one that was built then.
    pub(crate) fn served_again(
        &self,
        snapshot: &AgentSnapshot,
        id: &ProfileId,
        call: &Call<'_>,
    ) -> Result<Option<Lease>> {
        let Some(ready) = snapshot.kept.ready(id) else {
            return Ok(None);
        };
        let record = readable(self.journal().read_at(&ready.place))?;
        Ok(if ready.is_of(record.as_ref()) {
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
        let target = Target {
            owner: profile.owner.clone(),
            profile: id.clone(),
        };
        let Some(key) = snapshot.record_key(&target) else {
            return Ok(None);
        };
        let place = self.journal().place(key);
        let grant = self.overlaid_by(oauth, readable(self.journal().read_at(&place))?);
        let lease = self.grant_lease(profile, &grant, None);
        let ready = Ready { place, grant, lease };
        let lease = self.if_fresh(&ready, call);
        if lease.is_some() {
            snapshot.kept.keep_ready(id.clone(), ready);
        }
        Ok(lease)
    }

    fn if_fresh(&self, ready: &Ready, call: &Call<'_>) -> Option<Lease> {
        let grant = &ready.grant;
        let fresh = !grant.heal && grant.standing(&call.demand, self.now()) == Standing::Fresh;
        fresh.then(|| ready.lease.clone())
    }

    /// Serves an OAuth profile: from what is stored while that is fresh, else after a flight.
    pub(crate) fn oauth_lease(&self, profile: &OwnedProfile, call: &Call<'_>) -> Result<Lease> {
        let target = Target {
            owner: profile.owner.clone(),
            profile: profile.entry.id.clone(),
        };
        let mut rounds = 0;
        let mut pause = PAUSE_MIN;
        loop {
            let Some(grant) = self.grant(&target)? else {
                return Err(no_profile(&target.profile, &call.request.agent));
            };
            let next = match grant.standing(&call.demand, self.now()) {
                Standing::Fresh if grant.heal => Next::Heal,
                Standing::Fresh => return Ok(self.grant_lease(profile, &grant, None)),
                Standing::Due(_) => Next::Fly,
                other => Next::Blocked(Block::of(other, &target.profile, self.now())),
            };
            let block = match next {
                Next::Heal => {
                    // The record serves; whoever finds room moves the tokens into the store.
                    self.heal(&target, &grant, call);
                    return Ok(self.grant_lease(profile, &grant, None));
                }
                Next::Blocked(block) => block,
                Next::Fly => match self.fly_or_wait(profile, &target, &grant, call, &mut pause)? {
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
            if let Some(lease) = self.serve_old(profile, &target, call, &block)? {
                return Ok(lease);
            }
            if !self.wait_out(&block, call) {
                return Err(block.into_error(&target, &grant, &call.request.agent));
            }
        }
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
        Ok(living.map(|grant| {
            self.grant_lease(
                profile,
                &grant,
                Some(format!("the present token is served: {}", block.reason)),
            )
        }))
    }

    /// Waits until the block ends, if that is known and within the call's time.
    fn wait_out(&self, block: &Block, call: &Call<'_>) -> bool {
        let Some(until) = block.until.filter(|_| block.kind == ErrorKind::TryAgain) else {
            return false;
        };
        let needed = self.now().until(until);
        if needed > call.left(self) {
            return false;
        }
        self.host().clock.sleep(needed.max(PAUSE_MIN));
        true
    }

    /// Takes the grant's lock and flies, or waits for the one who has it.
    fn fly_or_wait(
        &self,
        profile: &OwnedProfile,
        target: &Target,
        grant: &Grant,
        call: &Call<'_>,
        pause: &mut Duration,
    ) -> Result<Flown> {
        if self.store().is_readonly() {
            return Ok(Flown::Blocked(Block::readonly()));
        }
        if self.refresher_of(&grant.oauth).is_none() {
            return Ok(Flown::Blocked(self.no_definition(&grant.oauth.provider)));
        }
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        match self.try_lock(&path) {
            Ok(lock) => match self.launch(target, call.demand.clone(), lock, call.left(self)) {
                Landing::Verdict(verdict) => self.after(verdict, target, call),
                Landing::StillFlying => Ok(Flown::Blocked(Block::still_flying(
                    &target.profile,
                    call.request.wait,
                ))),
                Landing::NoWord => Ok(Flown::HelperDied),
            },
            Err(LockError::Busy { holder, .. }) => {
                let block = Block::held(&target.profile, holder.as_deref());
                // Somebody refreshes already: the old token will do unless the caller asked for more.
                let patient = matches!(call.demand.horizon, Horizon::AtLeast(_));
                if !patient && alive(&grant.generation, &call.demand, self.now()) {
                    let note = format!("the present token is served: {}", block.reason);
                    return Ok(Flown::Lease(Box::new(self.grant_lease(
                        profile,
                        grant,
                        Some(note),
                    ))));
                }
                if call.left(self).is_zero() {
                    return Ok(Flown::Blocked(block));
                }
                self.host().clock.sleep((*pause).min(call.left(self)));
                *pause = (*pause * 2).min(PAUSE_MAX);
                Ok(Flown::LookAgain { flew: false })
            }
            Err(error) => Err(lock_error(&error, &target.profile)),
        }
    }

    /// Nobody says how to refresh: the user's file for the provider is missing, or wrong and therefore left out.
    fn no_definition(&self, provider: &ProviderId) -> Block {
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
        let path = self.refresh_lock_path(&grant.oauth.provider, &target.profile);
        let lock = match KernelLock::acquire(self.host(), &path, Wait { deadline: wait }) {
            Ok(lock) => lock,
            Err(LockError::Busy { holder, .. }) => {
                return Ok(Some(Block::held(&target.profile, holder.as_deref())));
            }
            Err(error) => return Err(lock_error(&error, &target.profile)),
        };
        Ok(match self.launch(target, demand.clone(), lock, wait) {
            Landing::StillFlying => Some(Block::still_flying(&target.profile, wait)),
            Landing::Verdict(verdict) => Block::of_verdict(verdict),
            Landing::NoWord => Some(Block::helper_died()),
        })
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
                Ok(Flown::Lease(Box::new(self.oauth_lease(profile, call)?)))
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
            let landing = self.launch(target, call.demand.clone(), lock, call.left(self));
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
        }
    }

    fn left(&self, sink: &Sink) -> Duration {
        self.deadline.saturating_sub(sink.host().clock.monotonic())
    }
}

enum Next {
    Heal,
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
