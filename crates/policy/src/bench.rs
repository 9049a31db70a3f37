//! How long a profile that failed is not tried, for what, and how that ends (spec.md 5.3 to 5.5).
//!
//! A [`Bench`] belongs to one bucket of one profile and to one reason. The benches of a profile are a set: a new one
//! never widens another, and only the account's own faults keep the whole account back. What a server says of its
//! limits beats our steps. A failure inside a window does not make it longer, so that a burst of failed calls counts as
//! one; only a guess of ours gives way to what the server says.
//!
//! A bench is a belief. At its half-open point one real request may test it; whoever makes it says so first
//! ([`Benches::probe`]), and the others wait for the outcome. New secret material begins a new epoch, in which older
//! benches count for nothing.
//!
//! All of this is data in, data out: who stores it, and for which profile, is the caller's matter.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokensink_types::{ProviderId, UnixMillis};

use crate::classify::{Blame, Reason};

/// The steps of a short window by the number of failures (spec.md 5.3.4, age C2).
const STEPS: [Duration; 3] = [
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];
/// A short window's failure counts no more when this much time has passed since the window ended.
const STEP_MEMORY: Duration = Duration::from_secs(10 * 60);
/// How long a window is believed without a test. A limit may be lifted early.
const HALF_OPEN_AFTER: Duration = Duration::from_secs(5 * 60);
/// The same for the account's own faults, which end less often by themselves.
const HALF_OPEN_AFTER_ACCOUNT: Duration = Duration::from_secs(30 * 60);
/// A test of which nobody has said for this long that it goes on counts as given up: its program has died, or was given
/// the lease and has forgotten to report.
const PROBE_PATIENCE: Duration = Duration::from_secs(60);
/// How often whoever makes a test says that it goes on ([`Benches::still_probed`]): an answer may take ten minutes to begin.
pub const PROBE_PULSE: Duration = Duration::from_secs(20);
/// No server-stated wait is believed beyond this; weekly limits are the longest that exist.
pub(crate) const STATED_MAX: Duration = Duration::from_secs(8 * 24 * 3600);
/// Providers that are never benched: they spread requests over accounts themselves (spec.md 5.1).
const EXEMPT: [&str; 2] = ["openrouter", "kilocode"];
/// How far in the future a failure may lie to be believed.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
/// Most benches of single models that one profile has. Clients make up the names of models, and a provider that refuses
/// them with a limit must not fill our files; real programs use a handful.
const MODELS_MAX: usize = 64;
/// Doublings beyond this change nothing any more (spec.md 5.3.3).
const DOUBLINGS_MAX: u32 = 10;

/// `auth.cooldowns` of the config (spec.md 5.4), as durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// First window after a billing failure.
    pub billing: Duration,
    /// Longest window after a billing failure.
    pub billing_max: Duration,
    /// First window after a key or account was switched off.
    pub auth_permanent: Duration,
    /// Longest of these.
    pub auth_permanent_max: Duration,
    /// A failure of the account counts no more after this time.
    pub memory: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            billing: Duration::from_secs(5 * HOUR),
            billing_max: Duration::from_secs(24 * HOUR),
            auth_permanent: Duration::from_secs(600),
            auth_permanent_max: Duration::from_secs(HOUR),
            memory: Duration::from_secs(24 * HOUR),
        }
    }
}

/// What a bench keeps from being tried.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// The whole account.
    Account,
    /// One model of it.
    Model(String),
    /// Calls of it that name no model: files, batches, bodies that were not read. What they failed at says nothing of any
    /// model.
    Unnamed,
}

impl Bucket {
    /// That of a model, or the account's where none is named: how other programs write it (spec.md 5.1).
    #[must_use]
    pub fn of_model(model: Option<String>) -> Self {
        model.map_or(Self::Account, Self::Model)
    }

    /// The one model that it is of.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::Model(model) => Some(model),
            Self::Account | Self::Unnamed => None,
        }
    }

    /// The calls that it is of, in words; `None` for all of the account's.
    #[must_use]
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Account => None,
            Self::Model(model) => Some(model),
            Self::Unnamed => Some("calls without a model"),
        }
    }

    /// Does a bench of this bucket concern a call of `model`? Without a model every bench does.
    #[must_use]
    pub fn concerns(&self, model: Option<&str>) -> bool {
        match (self, model) {
            (Self::Account, _) | (Self::Model(_) | Self::Unnamed, None) => true,
            (Self::Model(benched), Some(wanted)) => benched == wanted,
            (Self::Unnamed, Some(_)) => false,
        }
    }
}

/// One bench of one profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bench {
    /// What it keeps from being tried.
    pub bucket: Bucket,
    /// Why.
    pub reason: Reason,
    /// When the failure happened that opened the window.
    pub since: UnixMillis,
    /// When the window ends.
    pub until: UnixMillis,
    /// The end is the server's word, not our step.
    pub stated: bool,
    /// Failures in a row that each opened a window.
    pub failures: u32,
    /// From when on one request may test it.
    pub half_open: UnixMillis,
    /// The request that is testing it.
    pub probing: Option<Probe>,
}

/// A request that tests a bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When it was announced.
    pub since: UnixMillis,
    /// When it was last said to go on.
    pub seen: UnixMillis,
}

impl Probe {
    /// One that begins.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        Self {
            since: now,
            seen: now,
        }
    }

    /// From when on it counts as given up.
    fn over(&self) -> UnixMillis {
        self.seen.plus(PROBE_PATIENCE)
    }
}

/// A failed call, as far as benches are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed<'a> {
    /// Why it failed.
    pub reason: Reason,
    /// The model that was called, where it is known.
    pub model: Option<&'a str>,
    /// When the server said that it will serve again.
    pub stated: Option<UnixMillis>,
    /// When the lease of a call that tests benches was handed out; `None` for any other, which may have been made because
    /// its user asked for this profile.
    pub test: Option<UnixMillis>,
    /// When.
    pub now: UnixMillis,
}

/// The benches of one profile in one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Benches {
    /// One per bucket and reason, open or remembered for their counters.
    pub all: Vec<Bench>,
}

/// What stands between a call and a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate<'a> {
    /// Nothing.
    Open,
    /// A bench that one request may test now, and nobody does.
    HalfOpen(&'a Bench),
    /// A bench that holds.
    Shut(&'a Bench),
}

impl Benches {
    /// Takes note of a failure. Returns the bench that it opened or that it fell into; `None` when nobody is benched
    /// for such a failure, because it is the network's or the request's fault.
    pub fn fail(&mut self, failed: &Failed<'_>, limits: &Limits) -> Option<&Bench> {
        let bucket = bucket_of(failed)?;
        self.forget(failed.now, limits);
        let same = |bench: &Bench| bench.bucket == bucket && bench.reason == failed.reason;
        if !self.all.iter().any(same) {
            self.make_room(&bucket);
        }
        let at = match self.all.iter().position(same) {
            Some(at) => {
                renew(&mut self.all[at], failed, limits);
                at
            }
            None => {
                self.all.push(open(bucket, failed, 1, limits));
                self.all.len() - 1
            }
        };
        self.all.get(at)
    }

    /// Drops the bench of a model that ends first, or has ended the longest time ago, where one more of `bucket` would be
    /// too many. The account's own stay.
    fn make_room(&mut self, bucket: &Bucket) {
        let of_model = |bench: &Bench| matches!(bench.bucket, Bucket::Model(_));
        let is_one = matches!(bucket, Bucket::Model(_));
        if !is_one || self.all.iter().filter(|bench| of_model(bench)).count() < MODELS_MAX {
            return;
        }
        let all = self.all.iter().enumerate();
        let first = all
            .filter(|(_, bench)| of_model(bench))
            .min_by_key(|(_, bench)| bench.until);
        if let Some((at, _)) = first {
            self.all.remove(at);
        }
    }

    /// Takes note of a call that was served: the account works, and so does the model's bucket. Benches of other
    /// models stay. Returns whether anything ended.
    pub fn succeed(&mut self, model: Option<&str>) -> bool {
        let before = self.all.len();
        self.all.retain(|bench| match (&bench.bucket, model) {
            (Bucket::Account, _) | (Bucket::Unnamed, None) => false,
            (Bucket::Model(benched), Some(used)) => benched != used,
            (Bucket::Model(_), None) | (Bucket::Unnamed, Some(_)) => true,
        });
        self.all.len() != before
    }

    /// May `model` be called now? The window that ends last decides.
    #[must_use]
    pub fn gate(&self, model: Option<&str>, now: UnixMillis) -> Gate<'_> {
        let holding = self
            .all
            .iter()
            .filter(|bench| bench.holds(model, now))
            .max_by_key(|bench| bench.until);
        match holding {
            None => Gate::Open,
            Some(bench) if self.may_test(model, now) => Gate::HalfOpen(bench),
            Some(bench) => Gate::Shut(bench),
        }
    }

    /// Announces a request that tests the benches in the way of `model`. `false` when they are not half-open, or
    /// somebody else tests them already: whoever gets `true` must make the request, and the others wait.
    pub fn probe(&mut self, model: Option<&str>, now: UnixMillis) -> bool {
        if !self.may_test(model, now) {
            return false;
        }
        let tested = self.all.iter_mut().filter(|bench| bench.holds(model, now));
        for bench in tested {
            bench.probing = Some(Probe::new(now));
        }
        true
    }

    /// The request that was announced by `issued` and tests the benches in the way of `model` still waits for its answer.
    pub fn still_probed(&mut self, model: Option<&str>, issued: UnixMillis, now: UnixMillis) {
        let concerned = self.all.iter_mut().filter(|bench| bench.bucket.concerns(model));
        for bench in concerned.filter(|bench| bench.is_probed_since(issued)) {
            if let Some(probe) = &mut bench.probing {
                probe.seen = now;
            }
        }
    }

    /// Every bench in the way is half-open, and nobody tests one of them.
    pub(crate) fn may_test(&self, model: Option<&str>, now: UnixMillis) -> bool {
        let mut holding = self.all.iter().filter(|bench| bench.holds(model, now)).peekable();
        holding.peek().is_some() && holding.all(|bench| bench.half_open <= now && !bench.is_probed(now))
    }

    /// Drops what neither holds nor counts any more.
    pub fn forget(&mut self, now: UnixMillis, limits: &Limits) {
        self.all
            .retain(|bench| now < bench.until.plus(memory_of(bench.reason, limits)));
    }

    /// When a call of `model` may be made, by the ends of the benches in its way or as a test; `None` when it may now.
    #[must_use]
    pub fn soonest(&self, model: Option<&str>, now: UnixMillis) -> Option<UnixMillis> {
        let holding = self.all.iter().filter(|bench| bench.holds(model, now));
        // All of them must give way, so the last one counts.
        holding
            .map(|bench| bench.until.min(bench.testable().max(now)))
            .max()
    }
}

impl Bench {
    /// Does it stand in the way of a call of `model` now? One from the future is the trace of a clock that was wrong.
    #[must_use]
    pub fn holds(&self, model: Option<&str>, now: UnixMillis) -> bool {
        self.since <= now.plus(CLOCK_SLACK) && now < self.until && self.bucket.concerns(model)
    }

    /// From when on a request may test it: its half-open point, or later when a test that is under way counts as
    /// given up.
    #[must_use]
    pub fn testable(&self) -> UnixMillis {
        let given_up = self.probing.map(|probe| probe.over());
        given_up.map_or(self.half_open, |at| at.max(self.half_open))
    }

    /// It holds no longer, and counts for as long as if it had ended by itself now.
    pub fn end(&mut self, now: UnixMillis) {
        self.until = self.until.min(now);
        self.half_open = self.half_open.min(now);
        self.probing = None;
    }

    /// Every instant at which it may decide otherwise though nothing is reported.
    pub(crate) fn changes(&self) -> impl Iterator<Item = UnixMillis> + use<> {
        let begins = self.since.minus(CLOCK_SLACK);
        [
            Some(begins),
            Some(self.until),
            Some(self.half_open),
            self.probing.map(|probe| probe.seen),
            Some(self.testable()),
        ]
        .into_iter()
        .flatten()
    }

    /// Is somebody testing it, who may still report?
    #[must_use]
    pub fn is_probed(&self, now: UnixMillis) -> bool {
        self.probing
            .is_some_and(|probe| probe.seen <= now && now < probe.over())
    }

    /// Is it tested by a request that was announced by `issued`, the time of its lease? A later one is somebody else's.
    #[must_use]
    pub fn is_probed_since(&self, issued: UnixMillis) -> bool {
        self.probing.is_some_and(|probe| probe.since <= issued)
    }
}

/// Is this provider, by its canonical id, never benched?
#[must_use]
pub fn is_exempt(provider: &ProviderId) -> bool {
    EXEMPT.contains(&provider.as_str())
}

/// Only the account's own faults concern the whole account. Where no model was asked for, none can be missing: it is
/// something else that does not exist, and the request's fault.
fn bucket_of(failed: &Failed<'_>) -> Option<Bucket> {
    match (failed.reason.blame(), failed.model) {
        (Blame::Account, _) => Some(Bucket::Account),
        (Blame::Bucket | Blame::Unknown, Some(model)) => Some(Bucket::Model(model.to_owned())),
        (Blame::Bucket | Blame::Unknown, None) => {
            (failed.reason != Reason::ModelNotFound).then_some(Bucket::Unnamed)
        }
        (Blame::Network | Blame::Request | Blame::Permission, _) => None,
    }
}

/// A further failure in a bucket that has a bench of this reason.
fn renew(bench: &mut Bench, failed: &Failed<'_>, limits: &Limits) {
    let tested = failed.test.is_some_and(|issued| bench.is_probed_since(issued));
    let inside = failed.now < bench.until && bench.since <= failed.now;
    let count = if inside {
        bench.failures
    } else {
        bench.failures.saturating_add(1)
    };
    let probing = bench.probing.take().filter(|_| inside && !tested);
    let fresh = Bench {
        // Somebody else's test goes on.
        probing,
        ..open(bench.bucket.clone(), failed, count, limits)
    };
    // What the server says replaces our guess. An end that it named before gives way to an earlier one only, and that only
    // where a test brought it: then a limit was lifted. Calls that were under way together may meet several limits, and the
    // end of the short one says nothing of the long one.
    let is_better = fresh.stated && (!bench.stated || (tested && fresh.until < bench.until));
    if !inside || is_better {
        *bench = fresh;
        return;
    }
    bench.probing = probing;
    if tested {
        // The belief was right so far: its end stays, and the next test comes as late as the first did.
        bench.half_open = bench.until.min(failed.now.plus(patience_of(failed.reason)));
    }
}

fn open(bucket: Bucket, failed: &Failed<'_>, failures: u32, limits: &Limits) -> Bench {
    let stated = failed
        .stated
        .filter(|end| failed.now < *end)
        .map(|end| end.min(failed.now.plus(STATED_MAX)));
    let until = stated.unwrap_or_else(|| failed.now.plus(step(failed.reason, failures, limits)));
    let patience = patience_of(failed.reason);
    Bench {
        bucket,
        reason: failed.reason,
        since: failed.now,
        until,
        stated: stated.is_some(),
        failures,
        half_open: until.min(failed.now.plus(patience)),
        probing: None,
    }
}

/// How long a window is believed without a test.
fn patience_of(reason: Reason) -> Duration {
    match reason.blame() {
        Blame::Account => HALF_OPEN_AFTER_ACCOUNT,
        Blame::Bucket | Blame::Network | Blame::Request | Blame::Permission | Blame::Unknown => {
            HALF_OPEN_AFTER
        }
    }
}

/// How long the window is that the n-th failure in a row opens (spec.md 5.3, age C2).
fn step(reason: Reason, failures: u32, limits: &Limits) -> Duration {
    let doubled = |base: Duration, max: Duration| {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        base.saturating_mul(1 << doublings).min(max.max(base))
    };
    match reason {
        Reason::Billing => doubled(limits.billing, limits.billing_max),
        Reason::AuthPermanent => doubled(limits.auth_permanent, limits.auth_permanent_max),
        // What no rule knows gets the shortest bench, however often it happens.
        Reason::NoErrorDetails | Reason::Unclassified => STEPS[0],
        _ => {
            let last = STEPS.len() - 1;
            let at = usize::try_from(failures.saturating_sub(1)).map_or(last, |at| at.min(last));
            STEPS[at]
        }
    }
}

/// How long after its end a window still counts.
fn memory_of(reason: Reason, limits: &Limits) -> Duration {
    match reason {
        Reason::Billing | Reason::AuthPermanent => limits.memory,
        _ => STEP_MEMORY.min(limits.memory),
    }
}
