//! What a snapshot remembers of what it served, so that a warm call decides and builds nothing a second time.
//!
//! A decision is kept until the clock alone could change it, a lease while the grant's refresh record is the same, what is
//! made of a static secret and what a model's name stands for as long as the snapshot.
//! All else that they depend on (stores, config, definitions) belongs to the snapshot, which is replaced when it
//! changes. Nothing here reads a file, and nothing here judges whether a token is fresh.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

// Asked several times for each request, with keys that no stranger chooses or of which few are kept.
use foldhash::HashMap;
use tokensink_policy::{SessionPin, Target as Wanted};
use tokensink_store::RecordPlace;
use tokensink_types::record::Record;
use tokensink_types::{ProfileId, UnixMillis};

use crate::decisions::Made;
use crate::grant::Grant;
use crate::lease::{Lease, Spendable};
use crate::models::ModelTarget;

/// Decisions of one provider or profile that are kept, by model and pin, and names of models; clients choose them.
const EACH_MAX: usize = 64;
/// Longest name of a model that is kept, in bytes.
const NAME_MAX: usize = 200;

/// The decisions and leases of one snapshot. Only what led to a stored profile is kept, so there are no more of them
/// than profiles and providers, and of each no more than [`EACH_MAX`]; and as many names of models.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    decisions: Mutex<HashMap<Wanted, Vec<Decided>>>,
    ready: Mutex<HashMap<ProfileId, Arc<Ready>>>,
    spendable: Mutex<HashMap<ProfileId, Arc<Spendable>>>,
    targets: Mutex<HashMap<String, ModelTarget>>,
}

#[derive(Debug)]
struct Decided {
    until: Option<UnixMillis>,
    made: Arc<Made>,
}

impl Decided {
    fn is_for(&self, model: Option<&str>, session: Option<&SessionPin>) -> bool {
        let request = &self.made.request;
        request.model.as_deref() == model && request.session.as_ref() == session
    }
}

/// A grant as it was last served.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Where its record is.
    pub(crate) place: RecordPlace,
    /// The store overlaid by the record.
    pub(crate) grant: Grant,
    /// What is handed out of it.
    pub(crate) lease: Lease,
    /// The [`Sink::generation`](crate::Sink::generation) under which the record was last looked at.
    pub(crate) held_at: AtomicU64,
}

impl Ready {
    /// Was it built on this very record?
    pub(crate) fn is_of(&self, record: Option<&Arc<Record>>) -> bool {
        match (&self.grant.record, record) {
            (Some(known), Some(now)) => Arc::ptr_eq(known, now),
            (known, now) => known.is_none() && now.is_none(),
        }
    }
}

impl Kept {
    /// What was decided about calls of `model` in such a session by `wanted`, if that still holds at `now`. A clock that
    /// was put back ends it too.
    pub(crate) fn decision(
        &self,
        wanted: &Wanted,
        model: Option<&str>,
        session: Option<&SessionPin>,
        now: UnixMillis,
    ) -> Option<Arc<Made>> {
        let decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = decisions.get(wanted)?.iter();
        let known = known.find(|known| known.is_for(model, session))?;
        let holds = known.made.at <= now && known.until.is_none_or(|until| now < until);
        holds.then(|| Arc::clone(&known.made))
    }

    /// Keeps a decision that holds `until`.
    pub(crate) fn keep_decision(&self, until: Option<UnixMillis>, made: &Arc<Made>) {
        let decided = Decided {
            until,
            made: Arc::clone(made),
        };
        let request = &made.request;
        let mut decisions = self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = decisions.entry(request.target.clone()).or_default();
        let same = |known: &&mut Decided| known.is_for(request.model.as_deref(), request.session.as_ref());
        match known.iter_mut().find(same) {
            Some(known) => *known = decided,
            None => {
                if known.len() >= EACH_MAX {
                    known.clear();
                }
                known.push(decided);
            }
        }
    }

    /// What this name of a model stands for, if it was resolved before.
    pub(crate) fn target(&self, name: &str) -> Option<ModelTarget> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.get(name).cloned()
    }

    /// Keeps what a name of a model stands for.
    pub(crate) fn keep_target(&self, name: &str, target: &ModelTarget) {
        if name.len() > NAME_MAX {
            return;
        }
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if targets.len() >= EACH_MAX {
            targets.clear();
        }
        targets.insert(name.to_owned(), target.clone());
    }

    /// What was made of a profile's static secret.
    pub(crate) fn spendable(&self, id: &ProfileId) -> Option<Arc<Spendable>> {
        let known = self.spendable.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).cloned()
    }

    /// Keeps what was made of a profile's static secret.
    pub(crate) fn keep_spendable(&self, id: ProfileId, made: Spendable) -> Arc<Spendable> {
        let made = Arc::new(made);
        let mut known = self.spendable.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, Arc::clone(&made));
        made
    }

    /// The grant of a profile as it was last served.
    pub(crate) fn ready(&self, id: &ProfileId) -> Option<Arc<Ready>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.get(id).cloned()
    }

    /// Keeps a grant as it is served now.
    pub(crate) fn keep_ready(&self, id: ProfileId, grant: Ready) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.insert(id, Arc::new(grant));
    }
}
