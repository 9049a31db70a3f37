//! What references have led to, kept in memory (spec.md 16.4).
//!
//! A value is looked up when it is first asked for, and only it. After that it is served from here until its source
//! may have changed: the config's `secrets`, `secrets reload`, the file's stamp, or [`EXEC_KEPT`] for a program. Then
//! all that belongs together is looked up again and swapped in one step, all or nothing: if any of it fails, the last
//! good values stay, which is said once with `SECRETS_RELOADER_DEGRADED` and once with `SECRETS_RELOADER_RECOVERED`.
//! Nothing of this ever reaches a disk, so a new process starts without a last good value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokensink_host::{FileStamp, Host};
use tokensink_types::Secret;

use super::config::{Provider, SecretsConfig};
use super::file;
use super::reference::{Failure, Reference, Source};
use super::resolve::{self, Found};

/// How long a program's answer is served before it is asked again.
pub(crate) const EXEC_KEPT: Duration = Duration::from_secs(300);
/// How long after a failed look-up the last good value is served before the next try.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// A value that the provider's API rejects is looked up again, unless it was looked up less than this ago.
const REJECTED_AFTER: Duration = Duration::from_secs(5);
/// A file is trusted to be unchanged under the same stamp when it was changed this long before it was read.
const SETTLED: Duration = Duration::from_secs(2);

/// A value, and a word to whoever gets it.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) secret: Secret,
    /// Set when it is the last good value and its source fails now.
    pub(crate) stale: Option<Failure>,
}

/// What a reload did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reloaded {
    /// How many references gave a value.
    pub(crate) resolved: usize,
    /// Those that gave none.
    pub(crate) failed: Vec<Failure>,
    /// Those of them whose last good value is still served.
    pub(crate) kept: usize,
}

/// The memory of one sink.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
    /// One look-up at a time; who has a last good value does not wait for it.
    looking: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Grows with every change of the config and every request to reload.
    generation: u64,
    config: Option<Arc<SecretsConfig>>,
    values: HashMap<Reference, Held>,
    /// What fails now although it once gave a value.
    troubles: BTreeMap<Reference, Failure>,
    /// Something to say once.
    recovered: bool,
}

#[derive(Debug, Clone)]
struct Held {
    secret: Secret,
    under: Under,
    rejected: bool,
    /// Under what the last look-up was made that failed for it or for what belongs to it.
    tried: Option<Under>,
}

/// The circumstances of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Under {
    generation: u64,
    /// Monotonic.
    at: Duration,
    stamp: Option<FileStamp>,
    /// The file had stood long enough for its stamp to be trusted.
    settled: bool,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the config in force; a changed one makes every value due.
    pub(crate) fn configure(&self, config: &Arc<SecretsConfig>) {
        let mut state = self.state();
        let same = state.config.as_ref().is_some_and(|known| known == config);
        if !same {
            state.config = Some(Arc::clone(config));
            state.generation += 1;
        }
    }

    /// Makes every value due.
    pub(crate) fn expire(&self) {
        self.state().generation += 1;
    }

    /// The provider's API took this value no more: it is due, unless it was looked up just now.
    pub(crate) fn reject(&self, host: &Host, reference: &Reference, rejected: &Secret) {
        let now = host.clock.monotonic();
        let mut state = self.state();
        if let Some(held) = state.values.get_mut(reference)
            && held.secret == *rejected
            && now.saturating_sub(held.under.at) >= REJECTED_AFTER
        {
            held.rejected = true;
        }
    }

    /// Is a value in memory, good or last good?
    pub(crate) fn holds(&self, reference: &Reference) -> bool {
        self.state().values.contains_key(reference)
    }

    /// The value of a reference. `active` tells which references are in use, where that can be told: what is not is
    /// forgotten instead of looked up again.
    pub(crate) fn get(
        &self,
        host: &Host,
        config: &SecretsConfig,
        reference: &Reference,
        active: &dyn Fn() -> Option<BTreeSet<Reference>>,
    ) -> Result<Served, Failure> {
        if let Some(served) = self.fresh(host, config, reference) {
            return Ok(served);
        }
        let known = self.holds(reference);
        let _looking = match self.looking.try_lock() {
            Ok(guard) => guard,
            // Somebody looks it up already; meanwhile the last good value will do.
            Err(_) if known => {
                if let Some(served) = self.last_good(reference) {
                    return Ok(served);
                }
                self.looking.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Err(_) => self.looking.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if let Some(served) = self.fresh(host, config, reference) {
            return Ok(served);
        }
        if let Some(active) = known.then(active).flatten() {
            let mut state = self.state();
            state
                .values
                .retain(|other, _| other == reference || active.contains(other));
            let State { values, troubles, .. } = &mut *state;
            troubles.retain(|other, _| values.contains_key(other));
        }
        let set = self.what_belongs_to(reference);
        let mut found = self.renew(host, config, &set);
        match self.last_good(reference) {
            Some(served) => Ok(served),
            None => Err(found
                .remove(reference)
                .and_then(Result::err)
                .unwrap_or_else(|| reference.failed(None, "it was not looked up", "try again"))),
        }
    }

    /// Looks everything up now, swaps it in if all of it gave a value, and forgets what is no longer referred to.
    pub(crate) fn reload(
        &self,
        host: &Host,
        config: &SecretsConfig,
        active: &BTreeSet<Reference>,
    ) -> Reloaded {
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        self.expire();
        let found = self.renew(host, config, active);
        let mut state = self.state();
        state.values.retain(|reference, _| active.contains(reference));
        state.troubles.retain(|reference, _| active.contains(reference));
        let mut reloaded = Reloaded {
            resolved: found.values().filter(|value| value.is_ok()).count(),
            ..Reloaded::default()
        };
        let failed: BTreeMap<&Reference, &Failure> = found
            .iter()
            .filter_map(|(reference, value)| Some((reference, value.as_ref().err()?)))
            .collect();
        for (reference, failure) in failed {
            reloaded.kept += usize::from(state.values.contains_key(reference));
            reloaded.failed.push(failure.clone());
        }
        reloaded
    }

    /// What fails now although it once gave a value; the second is true once after all of it works again.
    pub(crate) fn troubles(&self) -> (Vec<Failure>, bool) {
        let mut state = self.state();
        let recovered = std::mem::take(&mut state.recovered);
        (state.troubles.values().cloned().collect(), recovered)
    }

    /// The value, while nothing says that its source may have changed.
    fn fresh(&self, host: &Host, config: &SecretsConfig, reference: &Reference) -> Option<Served> {
        let held = self.state().values.get(reference).cloned()?;
        let now = self.under(host, config, reference);
        let due = held.rejected || is_due(reference.source, &held.under, &now);
        let tried = held
            .tried
            .as_ref()
            .is_some_and(|tried| !retry_is_due(tried, &now));
        if due && !tried {
            return None;
        }
        self.last_good(reference)
    }

    /// The value that was last found, if one ever was.
    pub(crate) fn last_good(&self, reference: &Reference) -> Option<Served> {
        let state = self.state();
        let held = state.values.get(reference)?;
        Some(Served {
            secret: held.secret.clone(),
            stale: state.troubles.get(reference).cloned(),
        })
    }

    /// The reference by itself when it is asked for the first time; all that is known after a change of the config or a
    /// reload; else all that is known of its provider.
    fn what_belongs_to(&self, reference: &Reference) -> BTreeSet<Reference> {
        let state = self.state();
        let Some(held) = state.values.get(reference) else {
            return BTreeSet::from([reference.clone()]);
        };
        let everything = held.under.generation != state.generation;
        let same_provider =
            |other: &&Reference| other.source == reference.source && other.provider == reference.provider;
        let known = state.values.keys();
        known
            .filter(|other| everything || same_provider(other))
            .cloned()
            .collect()
    }

    fn under(&self, host: &Host, config: &SecretsConfig, reference: &Reference) -> Under {
        let stamp = match reference.source {
            Source::File => match config.provider(Source::File, &reference.provider) {
                Ok(Provider::File(provider)) => file::stamp(&*host.files, &provider),
                _ => None,
            },
            Source::Env | Source::Exec => None,
        };
        let wall = i128::from(host.clock.now().0) * 1_000_000;
        let long_ago = i128::try_from(SETTLED.as_nanos()).unwrap_or(i128::MAX);
        Under {
            generation: self.state().generation,
            at: host.clock.monotonic(),
            settled: stamp.is_none_or(|stamp| wall - stamp.modified_ns >= long_ago),
            stamp,
        }
    }

    /// Looks `set` up and swaps it in, all or nothing. What never gave a value before has nothing to lose and is taken
    /// in any case.
    fn renew(&self, host: &Host, config: &SecretsConfig, set: &BTreeSet<Reference>) -> Found {
        // Before the look-up, so that a change during it is not missed.
        let circumstances: HashMap<&Reference, Under> = set
            .iter()
            .map(|reference| (reference, self.under(host, config, reference)))
            .collect();
        let found = resolve::resolve(host, config, set);
        let all = found.values().all(Result::is_ok);
        let mut state = self.state();
        let was_degraded = !state.troubles.is_empty();
        for (reference, under) in circumstances {
            match found.get(reference) {
                Some(Ok(secret)) if all || !state.values.contains_key(reference) => {
                    let held = Held {
                        secret: secret.clone(),
                        under,
                        rejected: false,
                        tried: None,
                    };
                    state.values.insert(reference.clone(), held);
                    state.troubles.remove(reference);
                }
                Some(Ok(_)) => {
                    state.note_try(reference, under);
                    state.troubles.remove(reference);
                }
                Some(Err(failure)) => {
                    let kept = state.note_try(reference, under);
                    if kept {
                        state.troubles.insert(reference.clone(), failure.clone());
                    }
                }
                None => {}
            }
        }
        state.tell(was_degraded);
        found
    }
}

impl State {
    /// Notes a failed look-up on a value that is kept; false when there is none.
    fn note_try(&mut self, reference: &Reference, under: Under) -> bool {
        let held = self.values.get_mut(reference);
        held.map(|held| held.tried = Some(under)).is_some()
    }

    fn tell(&mut self, was_degraded: bool) {
        let is_degraded = !self.troubles.is_empty();
        if is_degraded && !was_degraded {
            for failure in self.troubles.values() {
                tracing::warn!(%failure, "SECRETS_RELOADER_DEGRADED: the last good value is kept");
            }
        } else if was_degraded && !is_degraded {
            self.recovered = true;
            tracing::info!("SECRETS_RELOADER_RECOVERED: every reference gives a value again");
        }
    }
}

/// May the source have changed since the value was looked up?
fn is_due(source: Source, under: &Under, now: &Under) -> bool {
    if under.generation != now.generation {
        return true;
    }
    match source {
        Source::Env => false,
        Source::File => under.stamp != now.stamp || !under.settled,
        Source::Exec => now.at.saturating_sub(under.at) >= EXEC_KEPT,
    }
}

/// Is a failed look-up worth repeating?
fn retry_is_due(tried: &Under, now: &Under) -> bool {
    tried.generation != now.generation
        || tried.stamp != now.stamp
        || now.at.saturating_sub(tried.at) >= RETRY_AFTER
}
