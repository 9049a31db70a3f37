//! The leases that are out: who has which, and since when they are back.
//!
//! A lease is counted from its hand-out until it is given back: by its client, when its process ends, or when its time
//! is over. One that is back is remembered for a while, because a client may still report what became of it. All of
//! it is in memory; after a restart nothing is out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokensink_host::Liveness;
use tokensink_sink::{AgentId, Host, Lease, ProfileId, Secret, Testing, UnixMillis};
use tokensink_types::ProcessId;

use crate::guard::{Caller, CallerKind};
use crate::request::errors::Refusal;

/// Most leases that one client may have out: more is a client that never gives back.
const PER_CLIENT_MAX: usize = 1_000;
/// Most leases that are remembered, those that are back included.
const KEPT_MAX: usize = 20_000;
/// From how many remembered leases on every new one makes room first.
const SWEPT_FROM: usize = 2_000;
/// How long a lease counts whose credential has no end.
const HELD_MAX: Duration = Duration::from_secs(3600);
/// How long a lease is remembered after it is back.
const REMEMBERED: Duration = Duration::from_secs(600);

/// All leases of a gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    kept: HashMap<String, Kept>,
    /// Access tokens that clients have reported as rejected and that have not been replaced yet, by the store that the
    /// profile is of: two agents may have one of the same id.
    rejected: HashMap<(AgentId, ProfileId), Secret>,
    /// Processes whose end somebody waits for.
    watched: HashSet<ProcessId>,
}

#[derive(Debug)]
struct Kept {
    lease: Lease,
    holder: Holder,
    /// Says that the test of a bench which came with it goes on.
    testing: Option<Testing>,
    /// When it counts no longer.
    until: UnixMillis,
    /// When it came back.
    back: Option<UnixMillis>,
}

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    name: String,
    /// Of a local process: it ends with it. All local processes are one user's and may report for each other.
    process: Option<Option<ProcessId>>,
}

impl Holder {
    /// The caller as holder.
    pub(crate) fn of(caller: &Caller) -> Self {
        Self {
            name: caller.name.clone(),
            process: match &caller.kind {
                CallerKind::Key => None,
                CallerKind::Socket(peer) => Some(peer.process.clone()),
            },
        }
    }

    /// The local process, where the system tells which it is.
    pub(crate) fn process(&self) -> Option<&ProcessId> {
        self.process.as_ref()?.as_ref()
    }

    fn may_speak_for(&self, other: &Self) -> bool {
        match (&self.process, &other.process) {
            (Some(_), Some(_)) => true,
            (None, None) => self.name == other.name,
            _ => false,
        }
    }
}

impl Leases {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a lease. Returns whether the holder's process is to be watched from now on.
    ///
    /// # Errors
    /// 429 when the client has too many out.
    pub(crate) fn take(
        &self,
        host: &Host,
        holder: &Holder,
        id: &str,
        lease: &Lease,
    ) -> Result<bool, Refusal> {
        let now = host.clock.now();
        let mut state = self.state();
        let count = |state: &State| {
            state
                .out(now)
                .filter(|kept| kept.holder.name == holder.name)
                .count()
        };
        let mut out = count(&state);
        // Looking at every process costs; most ends are told by the system.
        if out >= PER_CLIENT_MAX || state.kept.len() >= SWEPT_FROM {
            state.sweep(host, now);
            out = count(&state);
        }
        if out >= PER_CLIENT_MAX || state.kept.len() >= KEPT_MAX {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_leases",
                format!("{} has {out} leases out", holder.name),
            )
            .with_fix(
                "give leases back: POST /tokensink/v1/report with {\"lease\":\"<id>\",\"outcome\":\"done\"}",
            ));
        }
        let longest = now.plus(HELD_MAX);
        let kept = Kept {
            lease: lease.clone(),
            holder: holder.clone(),
            testing: None,
            until: lease.expires.unwrap_or(longest).max(now),
            back: None,
        };
        state.kept.insert(id.to_owned(), kept);
        let process = holder.process.clone().flatten();
        Ok(process.is_some_and(|process| state.watched.insert(process)))
    }

    /// Keeps what says that the test of a lease goes on, as long as the lease is out and nothing is reported.
    pub(crate) fn keep_testing(&self, id: &str, testing: Testing) {
        let mut state = self.state();
        if let Some(kept) = state.kept.get_mut(id).filter(|kept| kept.back.is_none()) {
            kept.testing = Some(testing);
        }
    }

    /// Something is reported of a lease: its test has come to an end.
    pub(crate) fn end_testing(&self, id: &str) {
        if let Some(kept) = self.state().kept.get_mut(id) {
            kept.testing = None;
        }
    }

    /// Of how many leases it is said that their tests go on.
    #[cfg(test)]
    pub(crate) fn testing(&self) -> usize {
        let state = self.state();
        state.kept.values().filter(|kept| kept.testing.is_some()).count()
    }

    /// The lease with this id, out or back, if the caller may speak of it.
    pub(crate) fn by_id(&self, holder: &Holder, id: &str) -> Option<Lease> {
        let state = self.state();
        let kept = state.kept.get(id)?;
        holder.may_speak_for(&kept.holder).then(|| kept.lease.clone())
    }

    /// The newest lease with this access token, out or back, if the caller may speak of it.
    pub(crate) fn by_token(&self, holder: &Holder, token: &Secret) -> Option<(String, Lease)> {
        let state = self.state();
        let known = state.kept.iter();
        known
            .filter(|(_, kept)| holder.may_speak_for(&kept.holder) && kept.lease.secret == *token)
            .max_by_key(|(id, kept)| (kept.until, *id))
            .map(|(id, kept)| (id.clone(), kept.lease.clone()))
    }

    /// A lease is given back. `false` when it was back already.
    pub(crate) fn give_back(&self, id: &str, now: UnixMillis) -> bool {
        let mut state = self.state();
        let kept = state.kept.get_mut(id).filter(|kept| kept.back.is_none());
        kept.map(|kept| kept.come_back(now)).is_some()
    }

    /// A process has ended; what it had is back.
    pub(crate) fn process_ended(&self, process: &ProcessId, now: UnixMillis) -> Vec<Lease> {
        let mut state = self.state();
        state.watched.remove(process);
        let theirs = Some(Some(process.clone()));
        let mut back = Vec::new();
        for kept in state.kept.values_mut() {
            if kept.holder.process == theirs && kept.back.is_none() {
                kept.come_back(now);
                back.push(kept.lease.clone());
            }
        }
        back
    }

    /// An access token was rejected by its API: it is not handed out again.
    pub(crate) fn note_rejected(&self, lease: &Lease) {
        let profile = (lease.owner.clone(), lease.profile.clone());
        self.state().rejected.insert(profile, lease.secret.clone());
    }

    /// Was this lease's token rejected before?
    pub(crate) fn is_rejected(&self, lease: &Lease) -> bool {
        let profile = (lease.owner.clone(), lease.profile.clone());
        self.state().rejected.get(&profile) == Some(&lease.secret)
    }

    /// How many leases each client has out.
    pub(crate) fn counts(&self, host: &Host) -> BTreeMap<String, usize> {
        let now = host.clock.now();
        let mut state = self.state();
        state.sweep(host, now);
        let mut counts = BTreeMap::new();
        for kept in state.out(now) {
            *counts.entry(kept.holder.name.clone()).or_insert(0) += 1;
        }
        counts
    }
}

impl Kept {
    fn come_back(&mut self, now: UnixMillis) {
        self.back = Some(now);
        self.testing = None;
    }
}

impl State {
    fn out(&self, now: UnixMillis) -> impl Iterator<Item = &Kept> {
        self.kept
            .values()
            .filter(move |kept| kept.back.is_none() && kept.until > now)
    }

    /// Takes back what processes have that are gone, where nobody waits for their end, and forgets what is old.
    fn sweep(&mut self, host: &Host, now: UnixMillis) {
        let mut gone: HashMap<ProcessId, bool> = HashMap::new();
        for kept in self.kept.values_mut().filter(|kept| kept.back.is_none()) {
            if let Some(Some(process)) = &kept.holder.process {
                let is_gone = gone
                    .entry(process.clone())
                    .or_insert_with(|| host.processes.liveness(process) == Liveness::Dead);
                if *is_gone {
                    kept.come_back(now);
                }
            }
        }
        self.kept.retain(|_, kept| {
            let over = kept.back.unwrap_or(kept.until).min(kept.until);
            over.plus(REMEMBERED) > now
        });
    }
}
