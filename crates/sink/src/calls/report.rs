//! Taking a report: classify, bench or forgive, and show it in `auth-state.json`.

use std::time::Duration;

use tokensink_host::lock::Wait;
use tokensink_policy::bench::{self, Bench, Benches, Failed, is_exempt};
use tokensink_policy::classify::{Blame, Class, ErrorText, Failure, Reason, classify};
use tokensink_policy::quota::{full_windows, stated_wait};
use tokensink_store::{StateDocument, StoreError, Usage};
use tokensink_types::{AgentId, Credential, ProfileId, ProviderId, SecretSource, SecretText, UnixMillis};

use super::benches::{About, Entry};
use super::epoch::{Identity, fingerprint};
use super::projection::{Lanes, merged, reconcile};
use super::quota::limit_headers;
use super::success::{Success, give_back_test};
use super::{BenchInfo, CallOutcome, Proof, Reported, USE_NOTED_EVERY, is_use_due};
use crate::error::Result;
use crate::lease::Lease;
use crate::secrets::static_source;
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// How long showing a bench to other programs waits for the store: they learn it a little later then, we know it.
const SHOW_WAIT: Wait = Wait {
    deadline: Duration::from_secs(1),
};

/// A failure as far as one profile is concerned.
struct Blamed {
    reason: Reason,
    stated: Option<UnixMillis>,
    limits: bench::Limits,
    about: About,
    now: UnixMillis,
}

/// What an answer says of limits that were met.
struct Said {
    /// When the server says that it will serve again.
    free_at: Option<UnixMillis>,
    /// The windows of the plan that are full.
    full: Vec<String>,
}

/// What a failure did.
#[derive(Default)]
struct Benched {
    bench: Option<Bench>,
    /// Something else holds than before.
    changed: bool,
}

impl Sink {
    /// Changes what is believed of one profile (see `benches`), which may change who serves the next call. Every clone
    /// of this sink knows at once: a watch tells of files a little later, and never of what could not be written.
    pub(super) fn change_benches<R>(
        &self,
        owner: &AgentId,
        id: &ProfileId,
        change: impl Fn(&mut Entry) -> R,
    ) -> R {
        let result = self.calls().benches().change(owner, id, change);
        self.moved();
        result
    }

    /// Takes note of what became of a call. A failure benches the profile for what it failed at, in every process on
    /// this state dir; a success ends that. May write files, and then wait for a lock.
    ///
    /// # Errors
    /// When the config or the owner's store cannot be read. What cannot be written is kept in memory and is no error.
    pub fn report(&self, lease: &Lease, outcome: &CallOutcome<'_>) -> Result<Reported> {
        self.take_limits(lease, outcome);
        self.report_rest(lease, outcome)
    }

    /// The same when what the answer says of limits was noted when it came ([`Sink::note_limit_headers`]): noted now, it
    /// would undo what later answers have said meanwhile.
    ///
    /// # Errors
    /// As for [`Sink::report`].
    pub fn report_rest(&self, lease: &Lease, outcome: &CallOutcome<'_>) -> Result<Reported> {
        let sink = self.current();
        let reported = sink.report_now(lease, outcome)?;
        sink.note_attempt(lease, outcome, &reported);
        Ok(reported)
    }

    /// A lease reaches nobody after all: it counts no more as a call that costs more, and a test that came with it is free
    /// for the next request.
    ///
    /// # Errors
    /// As for [`Sink::report`].
    pub fn take_back(&self, lease: &Lease) -> Result<()> {
        if lease.crosses.is_some() {
            self.current().uncount_crossing();
        }
        if lease.tests {
            self.report(lease, &CallOutcome::Abandoned)?;
        }
        Ok(())
    }

    fn take_limits(&self, lease: &Lease, outcome: &CallOutcome<'_>) {
        let headers = match outcome {
            CallOutcome::Served { headers, .. } => headers,
            CallOutcome::Failed {
                status: Some(_),
                headers,
                ..
            } => headers,
            // The headers of an error event are those of an answer that was served, and reported then.
            _ => return,
        };
        self.current().note_limit_headers(lease, headers);
    }

    fn report_now(&self, lease: &Lease, outcome: &CallOutcome<'_>) -> Result<Reported> {
        match outcome {
            CallOutcome::Served { headers, proof } => {
                self.served(&Success::of(lease, *proof, &self.windows_with_room(headers)))?;
                self.write_quotas();
                Ok(Reported::default())
            }
            CallOutcome::Finished => {
                self.served(&Success::of(lease, Proof::Whole, &[]))?;
                Ok(Reported::default())
            }
            CallOutcome::Failed {
                status,
                headers,
                body,
            } => {
                let text = ErrorText::of_body(body);
                let provider = self.registry().canonical(&lease.provider);
                let failure = Failure {
                    provider: &provider,
                    status: *status,
                    text: &text,
                };
                self.write_quotas();
                let (headers, now) = (limit_headers(headers), self.now());
                let said = Said {
                    free_at: stated_wait(&headers, body, now),
                    full: full_windows(&headers, now),
                };
                let class = classify(&failure).map(|class| match said.free_at {
                    Some(_) => class.with_named_wait(*status),
                    None => class,
                });
                match class {
                    Some(class) => self.failed(lease, &provider, class, said),
                    None => Ok(Reported::default()),
                }
            }
            CallOutcome::NotConnected { .. } => Ok(self.unlucky(lease, "not-connected")),
            CallOutcome::TimedOut => Ok(self.unlucky(lease, "timed-out")),
            CallOutcome::CutOff => Ok(self.unlucky(lease, "cut-off")),
            CallOutcome::Abandoned => {
                self.give_back(lease);
                Ok(Reported::default())
            }
        }
    }

    /// [`Sink::report_rest`] for an event loop: `None` when files would be written or waited for, and that is to be called on
    /// a thread. Most successes cost two or three `stat`s and nothing else.
    ///
    /// # Errors
    /// As for [`Sink::report`].
    pub fn report_ready(&self, lease: &Lease, outcome: &CallOutcome<'_>) -> Result<Option<Reported>> {
        let idle = match outcome {
            CallOutcome::Served { headers, proof } => {
                let open = self.windows_with_room(headers);
                let writes = lease.tests
                    || self.is_use_due(lease)
                    || self.is_quota_due(lease)
                    || self.has_to_clear(&Success::of(lease, *proof, &open))?;
                return Ok((!writes).then(Reported::default));
            }
            CallOutcome::Finished => {
                let writes = self.has_to_clear(&Success::of(lease, Proof::Whole, &[]))?;
                return Ok((!writes).then(Reported::default));
            }
            CallOutcome::Failed { .. } => false,
            CallOutcome::NotConnected { .. }
            | CallOutcome::TimedOut
            | CallOutcome::CutOff
            | CallOutcome::Abandoned => !lease.tests,
        };
        if idle {
            self.report_rest(lease, outcome).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Nobody's fault, and nobody is benched.
    fn unlucky(&self, lease: &Lease, rule: &'static str) -> Reported {
        self.give_back(lease);
        Reported {
            class: Some(Class {
                reason: Reason::Timeout,
                rule,
            }),
            ..Reported::default()
        }
    }

    /// A test that came to nothing is free for the next request.
    pub(super) fn give_back(&self, lease: &Lease) {
        if !lease.tests {
            return;
        }
        self.change_benches(&lease.owner, &lease.profile, |entry| {
            for noted in &mut entry.benches {
                give_back_test(&mut noted.bench, lease);
            }
        });
    }

    fn failed(&self, lease: &Lease, provider: &ProviderId, class: Class, said: Said) -> Result<Reported> {
        let cooldowns = self.cooldowns()?;
        let class_only = Reported {
            class: Some(class),
            bench: None,
            rest: cooldowns.rotations().pause(class.reason),
        };
        let (owner, id) = (&lease.owner, &lease.profile);
        let blameless = matches!(
            class.reason.blame(),
            Blame::Network | Blame::Request | Blame::Permission
        );
        if blameless || is_exempt(provider) {
            self.give_back(lease);
            return Ok(class_only);
        }
        let snapshot = self.snapshot(owner)?;
        let Some(profile) = snapshot.profile(id).filter(|profile| profile.owner == *owner) else {
            self.give_back(lease);
            return Ok(class_only);
        };
        let credential = &profile.entry.credential;
        if self.is_of_another_secret(lease, credential) {
            return Ok(class_only);
        }
        let blamed = Blamed {
            reason: class.reason,
            stated: said.free_at,
            limits: cooldowns.limits(provider),
            about: About {
                generation: credential.as_oauth().map(|_| fingerprint(&lease.secret)),
                referenced: self.is_referenced(credential).then(|| fingerprint(&lease.secret)),
                windows: said.full,
            },
            now: self.now(),
        };
        let info = self
            .bench(lease, &Identity::of(credential), &blamed)
            .map(|bench| BenchInfo {
                bucket: bench.bucket,
                until: bench.until,
                stated: bench.stated,
                half_open: bench.half_open,
            });
        Ok(Reported {
            bench: info,
            ..class_only
        })
    }

    /// Writes down what a failure benches, unless the profile has begun anew since the lease was given.
    fn bench(&self, lease: &Lease, identity: &Identity, blamed: &Blamed) -> Option<Bench> {
        let (owner, id) = (&lease.owner, &lease.profile);
        let benched = self.change_benches(owner, id, |entry| {
            if entry.epoch != lease.issued.epoch {
                return Benched::default();
            }
            entry.settle(identity, self.lanes_now(owner, id).as_ref(), blamed.now);
            bench_entry(entry, lease, blamed)
        });
        if benched.changed {
            let count = |usage: &mut Usage| count_failure(usage, blamed);
            self.show(owner, id, None, |state| change_usage(state, id, count));
        }
        benched.bench
    }

    /// What `auth-state.json` says of a profile now; `None` where it cannot be read. To be asked under the lock of the
    /// benches: what was read before may be older than what they say was written there, and would look as if somebody
    /// had cleared it.
    pub(super) fn lanes_now(&self, owner: &AgentId, id: &ProfileId) -> Option<Lanes> {
        let store = self
            .store()
            .load(owner)
            .ok()
            .filter(|store| store.is_state_known())?;
        Some(Lanes::of_usage(&store.state.usage(id).unwrap_or_default()))
    }

    /// Was the call made with a key or token that is no longer the profile's, or with the login of another account? One
    /// that is fetched or exchanged cannot be compared and counts as the present one.
    fn is_of_another_secret(&self, lease: &Lease, credential: &Credential) -> bool {
        if let Some(oauth) = credential.as_oauth() {
            return lease.account.matches(&oauth.account) == Some(false);
        }
        match static_source(credential).and_then(|source| source.inline.as_ref()) {
            Some(SecretText::Plain(stored)) => *stored != lease.secret && !self.exchanges(credential),
            _ => false,
        }
    }

    /// Is what is spent what a reference gives?
    fn is_referenced(&self, credential: &Credential) -> bool {
        static_source(credential).is_some_and(SecretSource::is_reference) && !self.exchanges(credential)
    }

    /// Was the lease made of the login, key or token that the profile holds now?
    pub(super) fn is_of_this_login(&self, snapshot: &AgentSnapshot, lease: &Lease) -> bool {
        let (owner, id) = (&lease.owner, &lease.profile);
        let epoch = snapshot.belief(owner, id).map_or(0, |entry| entry.epoch);
        let credential = snapshot.profile(id).map(|profile| &profile.entry.credential);
        epoch == lease.issued.epoch
            && credential.is_some_and(|credential| !self.is_of_another_secret(lease, credential))
    }

    /// A call was served: the account works, and so does the model's bucket.
    fn served(&self, success: &Success<'_>) -> Result<()> {
        let lease = success.lease;
        let (owner, id) = (&lease.owner, &lease.profile);
        let clear = lease.tests || self.has_to_clear(success)?;
        let due = self.calls().is_due(owner, id, self.host().clock.monotonic());
        if self.store().is_readonly() && !clear {
            return Ok(());
        }
        if clear {
            self.change_benches(owner, id, |entry| success.forgive(entry, self.now()));
        }
        if clear || due {
            let now = self.now();
            let provider = self.registry().canonical(&lease.provider);
            self.show(owner, id, Some(success).filter(|_| clear), |state| {
                if clear && success.proof == Proof::Whole {
                    change_usage(state, id, |usage| {
                        usage.error_count = 0;
                        usage.failure_counts.clear();
                    });
                }
                note_use(state, &provider, id, now, clear);
            });
        }
        Ok(())
    }

    /// Would a success be written down as the profile's last use?
    fn is_use_due(&self, lease: &Lease) -> bool {
        let now = self.host().clock.monotonic();
        self.calls()
            .use_noted(&lease.owner, &lease.profile)
            .is_none_or(|last| is_use_due(last, now))
    }

    /// Does anything stand against the profile that a success would end?
    fn has_to_clear(&self, success: &Success<'_>) -> Result<bool> {
        let (owner, id) = (&success.lease.owner, &success.lease.profile);
        let seen = self.calls().benches().read(owner);
        let now = self.now();
        let benched = seen.entry(id).is_some_and(|entry| {
            let mut benches = entry.benches.iter();
            benches.any(|noted| success.has_to_end(noted, now))
        });
        if benched {
            return Ok(true);
        }
        let usage = self.store().load(owner)?.state.usage(id).unwrap_or_default();
        let found = Lanes::of_usage(&usage);
        let foreign = match seen.entry(id) {
            Some(entry) => reconcile(&found, &entry.projected, entry.intended.as_ref(), now).foreign,
            None => found,
        };
        let counts = usage.error_count > 0 && success.proof == Proof::Whole;
        Ok(counts || success.leaves(&foreign) != foreign)
    }

    /// Brings the benches of a profile into `auth-state.json`, with whatever else `change` does there. The success of
    /// `forgiven` ends other programs' windows as well. What cannot be written now is written by the next report; an
    /// error here would only hide the one that the caller has.
    fn show(
        &self,
        owner: &AgentId,
        id: &ProfileId,
        forgiven: Option<&Success<'_>>,
        change: impl FnOnce(&mut StateDocument),
    ) {
        if self.store().is_readonly() {
            return;
        }
        let queue = self.calls().showing(owner);
        let (_turn, wait) = queue.turn(&*self.host().clock, SHOW_WAIT);
        let now = self.now();
        let shown = self.store().update_state_within(owner, wait, |state| {
            change(state);
            let usage = state.usage(id).unwrap_or_default();
            let found = Lanes::of_usage(&usage);
            let entry = self
                .calls()
                .benches()
                .read(owner)
                .entry(id)
                .cloned()
                .unwrap_or_default();
            let read = reconcile(&found, &entry.projected, entry.intended.as_ref(), now);
            let ours = entry.lanes(now);
            let foreign = match forgiven {
                Some(success) => success.leaves(&read.foreign),
                None => read.foreign,
            };
            let lanes = merged(&ours, &foreign);
            if lanes != found {
                if entry.intended.as_ref() != Some(&ours) {
                    self.intend(owner, id, &ours);
                }
                change_usage(state, id, |usage| lanes.write_to(usage));
            }
            (ours, lanes)
        });
        match shown {
            Ok((ours, lanes)) => self.confirm(owner, id, &ours, &lanes),
            Err(error) => tell(owner, id, &error),
        }
    }

    /// Writes down what the lanes are about to hold, so that a crash after the write is no riddle.
    fn intend(&self, owner: &AgentId, id: &ProfileId, ours: &Lanes) {
        self.change_benches(owner, id, |entry| {
            entry.intended = Some(ours.clone());
        });
    }

    /// Writes down what the lanes hold of ours, unless somebody has intended something else meanwhile.
    fn confirm(&self, owner: &AgentId, id: &ProfileId, ours: &Lanes, lanes: &Lanes) {
        let only_ours = |ours: &Option<_>, lane: &Option<_>| if ours == lane { ours.clone() } else { None };
        let projected = Lanes {
            cooldown: only_ours(&ours.cooldown, &lanes.cooldown),
            disabled: only_ours(&ours.disabled, &lanes.disabled),
        };
        let seen = self.calls().benches().read(owner);
        let known = seen.entry(id);
        let settled = known.map_or(projected.is_empty(), |entry| {
            entry.intended.is_none() && entry.projected == projected
        });
        if settled {
            return;
        }
        self.change_benches(owner, id, |entry| {
            if entry.intended.as_ref().is_none_or(|intended| intended == ours) {
                entry.intended = None;
                entry.projected.clone_from(&projected);
            }
        });
    }
}

fn bench_entry(entry: &mut Entry, lease: &Lease, blamed: &Blamed) -> Benched {
    let mut benches = entry.all();
    let before = benches.clone();
    let failed = Failed {
        reason: blamed.reason,
        model: lease.model.as_deref(),
        stated: blamed.stated,
        test: lease.tests.then_some(lease.issued.at),
        now: blamed.now,
    };
    let bench = benches.fail(&failed, &blamed.limits).cloned();
    if lease.tests {
        // The test has found something else than what it tested: the next may test that again.
        for tested in &mut benches.all {
            if tested.is_probed_since(lease.issued.at) && bench.is_none() {
                tested.probing = None;
            }
        }
    }
    let windows = |benches: &Benches| {
        let window = |bench: &Bench| (bench.bucket.clone(), bench.reason, bench.until, bench.failures);
        benches.all.iter().map(window).collect::<Vec<_>>()
    };
    let changed = windows(&before) != windows(&benches);
    entry.take(benches, &blamed.about);
    if changed {
        entry.intended = Some(entry.lanes(blamed.now));
    }
    Benched { bench, changed }
}

/// The counters of spec.md 5.3; they begin anew when the last window has ended or the last failure is long ago.
fn count_failure(usage: &mut Usage, blamed: &Blamed) {
    let ends = [usage.cooldown_until, usage.disabled_until];
    let over = ends.iter().flatten().all(|end| *end <= blamed.now);
    let old = usage
        .last_failure_at
        .is_none_or(|last| last.until(blamed.now) > blamed.limits.memory);
    if over || old {
        usage.error_count = 0;
        usage.failure_counts.clear();
    }
    usage.error_count = usage.error_count.saturating_add(1);
    let word = blamed.reason.as_str().to_owned();
    let count = usage.failure_counts.entry(word).or_insert(0);
    *count = count.saturating_add(1);
    usage.last_failure_at = Some(blamed.now);
}

fn change_usage(state: &mut StateDocument, id: &ProfileId, change: impl FnOnce(&mut Usage)) {
    let mut usage = state.usage(id).unwrap_or_default();
    let before = usage.clone();
    change(&mut usage);
    if usage != before {
        state.set_usage(id, &usage);
    }
}

/// `lastUsed` and `lastGood` (spec.md 5.2), once a minute over all processes unless the file is written anyway.
fn note_use(state: &mut StateDocument, provider: &ProviderId, id: &ProfileId, now: UnixMillis, anyway: bool) {
    let last = state.usage(id).and_then(|usage| usage.last_used);
    let recent = last.is_some_and(|last| last <= now && last.until(now) < USE_NOTED_EVERY);
    if anyway || !recent {
        change_usage(state, id, |usage| usage.last_used = Some(now));
    }
    if state.last_good(provider).as_ref() != Some(id) {
        state.set_last_good(provider, id);
    }
}

fn tell(owner: &AgentId, id: &ProfileId, error: &StoreError) {
    tracing::warn!(%owner, profile = %id, %error, "other programs do not see a bench yet");
}
