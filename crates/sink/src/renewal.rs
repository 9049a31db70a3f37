//! Renewal ahead of time for processes that run for long: every owned grant, benched or not, wanted or not (design:
//! Refresh). What falls due when is planned by a pure function; a thread carries it out through the ordinary flights,
//! so that other processes that do the same on one state dir find it done.
//!
//! `renew` for timers is the same judgement once ([`Sink::renew`]): a grant is due when its standing under
//! [`Demand::ahead`] says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokensink_refresh::{Demand, RETRY_AFTER_MAX, Standing, backoff_delay, renewal_due_at};
use tokensink_types::{ProviderId, UnixMillis};

use crate::error::{ErrorKind, Result, SinkError};
use crate::owner::Target;
use crate::pulse::Pulse;
use crate::report::{RenewOutcome, RenewResult};
use crate::sink::Sink;

/// How often the thread looks whether something has changed or fallen due. A renewal begins minutes before it is
/// needed, so a second more or less is nothing.
const TICK: Duration = Duration::from_secs(1);
/// A plan is made anew after this time even if nothing is known to have changed: stores may be changed by programs of
/// which nobody tells us.
const REPLAN: Duration = Duration::from_secs(60);
/// A renewal begins at most this much later than it may, so that grants that were issued together are not renewed
/// together.
const SPREAD: Duration = Duration::from_secs(60);
/// And at most this part of the time that is left then.
const SPREAD_PART: u32 = 5;
/// Renewals of one provider at a time: gentle to its server, and one that hangs leaves room for the others.
const PER_PROVIDER: usize = 4;

/// A grant as the plan sees it.
#[derive(Debug, Clone)]
struct Owned {
    target: Target,
    provider: ProviderId,
    /// Under [`Demand::ahead`].
    standing: Standing,
    /// The store is behind its record.
    heal: bool,
    /// When renewal falls due.
    due_at: Option<UnixMillis>,
    /// When the access token ends.
    expires: Option<UnixMillis>,
}

/// What is remembered of a grant between two plans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tried {
    /// Tries in a row that did not renew it.
    failures: u32,
    /// Not again before.
    not_before: Option<UnixMillis>,
    /// One is under way.
    running: bool,
}

/// What to do now, and when there will be something to do next.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Positions in the list of grants, the most urgent first.
    now: Vec<usize>,
    next: Option<UnixMillis>,
}

/// When each grant is to be renewed: the times of [`begin_at`], none while one of its own is under way, at most
/// [`PER_PROVIDER`] of a provider.
fn plan(
    grants: &[Owned],
    tried: &HashMap<Target, Tried>,
    now: UnixMillis,
    jitter: impl Fn(&Target) -> u8,
) -> Plan {
    let mut room: BTreeMap<&ProviderId, usize> = BTreeMap::new();
    for owned in grants {
        let busy = tried.get(&owned.target).is_some_and(|tried| tried.running);
        let room = room.entry(&owned.provider).or_insert(PER_PROVIDER);
        *room = room.saturating_sub(usize::from(busy));
    }
    let mut due = Vec::new();
    let mut next: Option<UnixMillis> = None;
    for (place, owned) in grants.iter().enumerate() {
        let tried = tried.get(&owned.target).copied().unwrap_or_default();
        let Some(at) = begin_at(owned, now, jitter(&owned.target)).filter(|_| !tried.running) else {
            continue;
        };
        let at = at.max(tried.not_before.unwrap_or(at));
        if at <= now {
            due.push((owned.expires, place));
        } else {
            next = Some(next.map_or(at, |next| next.min(at)));
        }
    }
    // What ends first goes first; what has no known end has time.
    due.sort_by_key(|(expires, place)| (expires.is_none(), *expires, *place));
    let mut chosen = Vec::new();
    for (_, place) in due {
        let room = room.entry(&grants[place].provider).or_insert(0);
        if *room > 0 {
            *room -= 1;
            chosen.push(place);
        }
    }
    Plan { now: chosen, next }
}

/// When a renewal is to begin; `None` when nothing but a change of the grant could make it due.
fn begin_at(owned: &Owned, now: UnixMillis, jitter: u8) -> Option<UnixMillis> {
    match &owned.standing {
        Standing::Fresh if owned.heal => Some(now),
        Standing::Fresh | Standing::Due(_) => match owned.due_at {
            Some(due) => Some(due.plus(spread(due, owned.expires, jitter))),
            // Due for another reason than its age.
            None if matches!(owned.standing, Standing::Due(_)) => Some(now),
            None => None,
        },
        Standing::BackOff { until, .. } | Standing::Unknown { until, .. } => Some(*until),
        Standing::Dead(_) => None,
    }
}

fn spread(due: UnixMillis, expires: Option<UnixMillis>, jitter: u8) -> Duration {
    let most = expires.map_or(SPREAD, |end| (due.until(end) / SPREAD_PART).min(SPREAD));
    most * u32::from(jitter) / 255
}

impl Tried {
    /// What follows from how a try ended.
    fn after(self, result: &RenewResult, now: UnixMillis, jitter: u8) -> Self {
        let failed = |at: Option<UnixMillis>| {
            let failures = self.failures.saturating_add(1);
            let ours = now.plus(backoff_delay(failures, jitter, None));
            Self {
                failures,
                // What has to wait longer stands in the record, and ends with a new login; this does not.
                not_before: Some(at.map_or(ours, |at| at.min(now.plus(RETRY_AFTER_MAX)).max(ours))),
                running: false,
            }
        };
        match result {
            RenewResult::Renewed { .. } | RenewResult::NotDue { .. } => Self::default(),
            RenewResult::TryAgain { at, .. } => failed(*at),
            // A login ends it: the plan then sees another generation, and this wait is short.
            RenewResult::LoginNeeded { .. } | RenewResult::Failed { .. } => failed(None),
        }
    }
}

/// The state of renewal: what was tried, and what is under way.
#[derive(Debug)]
pub struct Renewing {
    sink: Sink,
    tried: HashMap<Target, Tried>,
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewStep {
    /// What was renewed or tried.
    pub outcomes: Vec<RenewOutcome>,
    /// When the next renewal falls due, as far as it is known now.
    pub next: Option<UnixMillis>,
}

impl Renewing {
    /// Renewal of everything that `sink` owns.
    #[must_use]
    pub fn new(sink: &Sink) -> Self {
        Self {
            sink: sink.clone(),
            tried: HashMap::new(),
        }
    }

    /// Renews what is due now, in this thread: for programs with a loop of their own. [`Sink::keep_renewed`] is the
    /// thread that does it by itself.
    pub fn step(&mut self) -> RenewStep {
        let mut outcomes = Vec::new();
        for target in self.due().0 {
            let outcome = self.sink.current().renew_outcome(&target);
            self.ended(&target, &outcome.result);
            outcomes.push(outcome);
        }
        let (again, next) = self.due();
        let next = if again.is_empty() {
            next
        } else {
            Some(self.sink.now())
        };
        RenewStep { outcomes, next }
    }

    /// What is to be begun now, and when something falls due next.
    fn due(&mut self) -> (Vec<Target>, Option<UnixMillis>) {
        let sink = self.sink.current();
        let now = sink.now();
        let grants = sink.grants_to_keep(now);
        self.tried
            .retain(|target, tried| tried.running || grants.iter().any(|owned| owned.target == *target));
        let plan = plan(&grants, &self.tried, now, jitter_of);
        let due = plan.now.iter().map(|place| grants[*place].target.clone());
        let due = due.collect();
        (due, plan.next)
    }

    fn begun(&mut self, target: &Target) {
        self.tried.entry(target.clone()).or_default().running = true;
    }

    fn ended(&mut self, target: &Target, result: &RenewResult) {
        let jitter = self.sink.random_byte();
        let now = self.sink.now();
        let tried = self.tried.entry(target.clone()).or_default();
        *tried = tried.after(result, now, jitter);
        tell(target, result);
    }
}

/// The same grant has the same place in the spread in every process and after every restart.
fn jitter_of(target: &Target) -> u8 {
    let text = format!("{} {}", target.owner, target.profile);
    text.bytes().fold(0x9d_u8, |hash, byte| {
        (hash ^ byte).wrapping_mul(0x6b).rotate_left(3)
    })
}

fn tell(target: &Target, result: &RenewResult) {
    let (agent, profile) = (target.owner.as_str(), target.profile.as_str());
    match result {
        RenewResult::Renewed { expires } => {
            let expires = expires.map(|at| at.0);
            tracing::info!(agent, profile, expires, "renewed ahead of time");
        }
        RenewResult::NotDue { .. } => tracing::debug!(agent, profile, "another process has renewed it"),
        RenewResult::TryAgain { reason, .. } | RenewResult::Failed { reason } => {
            tracing::warn!(agent, profile, reason, "not renewed; it is tried again");
        }
        RenewResult::LoginNeeded { reason, command } => {
            tracing::warn!(agent, profile, reason, command, "not renewed; a login is needed");
        }
    }
}

impl Sink {
    /// Every grant that is renewed here, as it stands. What cannot be read is told and left for the next plan.
    fn grants_to_keep(&self, now: UnixMillis) -> Vec<Owned> {
        let agents = self.store().agents().unwrap_or_else(|error| {
            tracing::warn!(%error, "the agents cannot be listed; their logins are not renewed ahead of time");
            Vec::new()
        });
        let mut all = Vec::new();
        for agent in agents {
            match self.own_grants(&agent) {
                Ok(targets) => all.extend(targets),
                Err(error) => {
                    tracing::warn!(agent = agent.as_str(), %error, "logins are not renewed ahead of time");
                }
            }
        }
        let owned = all.into_iter().filter_map(|(provider, target)| {
            let grant = self.grant(&target).ok().flatten()?;
            Some(Owned {
                standing: grant.standing(&Demand::ahead(), now),
                heal: grant.heal,
                due_at: renewal_due_at(&grant.generation, &grant.policy),
                expires: grant.generation.tokens.expires,
                target,
                provider,
            })
        });
        owned.collect()
    }

    /// Renews every owned grant ahead of time from now on, in threads of its own, until the result is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn keep_renewed(&self) -> Result<Renewal> {
        let shared = Arc::new(Shared::default());
        let running = Arc::clone(&shared);
        let renewing = Renewing::new(self);
        let thread = thread::Builder::new()
            .name("tokensink-renewal".to_owned())
            .spawn(move || run(renewing, &running))
            .map_err(|error| {
                let message = format!("no thread for renewal: {error}");
                SinkError::new(ErrorKind::Failed, "no_thread", message)
            })?;
        Ok(Renewal {
            shared,
            thread: Some(thread),
        })
    }
}

/// Renewal that runs. Dropping it ends it at once: nothing new begins. A refresh that is under way goes on; its record
/// says what became of it, whoever looks next.
#[derive(Debug)]
pub struct Renewal {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Beats when a renewal has ended, and at the end of all.
    bell: Pulse,
    stop: Pulse,
    ended: Mutex<Vec<(Target, RenewResult)>>,
}

/// The count of a [`Pulse`] that has not beaten.
const QUIET: u64 = 1;

impl Drop for Renewal {
    fn drop(&mut self) {
        self.shared.stop.beat();
        self.shared.bell.beat();
        if let Some(thread) = self.thread.take() {
            // A plan that panicked has said so already.
            let _ = thread.join();
        }
    }
}

fn run(mut renewing: Renewing, shared: &Arc<Shared>) {
    let clock = Arc::clone(&renewing.sink.host().clock);
    let mut heard = 0;
    let mut planned: Option<(u64, Duration, Option<UnixMillis>)> = None;
    while shared.stop.count() == QUIET {
        let ended = std::mem::take(&mut *shared.ended.lock().unwrap_or_else(PoisonError::into_inner));
        let (generation, tick) = (renewing.sink.generation(), clock.monotonic());
        let holds = planned.is_some_and(|(seen, at, next)| {
            let waiting = next.is_none_or(|next| renewing.sink.now() < next);
            seen == generation && waiting && tick.saturating_sub(at) < REPLAN
        });
        if !holds || !ended.is_empty() {
            for (target, result) in &ended {
                renewing.ended(target, result);
            }
            let (due, next) = renewing.due();
            planned = Some((generation, tick, next));
            for target in due {
                renewing.begun(&target);
                begin(&renewing.sink, target, shared);
            }
        }
        shared.bell.wait_past(heard, TICK);
        heard = shared.bell.count();
    }
}

/// Renews in a thread of its own, since the provider may hang.
fn begin(sink: &Sink, target: Target, shared: &Arc<Shared>) {
    let (sink, done) = (sink.current(), Arc::clone(shared));
    let named = target.clone();
    let work = move || {
        let outcome = sink.renew_outcome(&target);
        done.note(target, outcome.result);
    };
    let started = thread::Builder::new()
        .name("tokensink-renew".to_owned())
        .spawn(work);
    if let Err(error) = started {
        let reason = format!("no thread for the refresh: {error}");
        shared.note(named, RenewResult::Failed { reason });
    }
}

impl Shared {
    fn note(&self, target: Target, result: RenewResult) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push((target, result));
        drop(ended);
        self.bell.beat();
    }
}

#[cfg(test)]
mod tests;
