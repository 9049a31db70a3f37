//! What the user allows to cost more is written into the audit trail when it does: not each request, but that it happens
//! and since when.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokensink_types::{AgentId, BillingClass, ProfileId};

use crate::audit::Event;
use crate::decisions::Made;
use crate::sink::Sink;

/// How often a crossing of one agent to one profile is written at most, by one process.
const NOTED_EVERY: Duration = Duration::from_secs(3600);

/// When crossings were last written, monotonic.
#[derive(Debug, Default)]
pub(super) struct Crossings(Mutex<HashMap<(AgentId, ProfileId, BillingClass), Duration>>);

impl Crossings {
    fn is_due(&self, key: &(AgentId, ProfileId, BillingClass), now: Duration) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted
            .get(key)
            .is_none_or(|last| now.saturating_sub(*last) >= NOTED_EVERY)
    }

    /// Is it due, and from now on not any more?
    fn take(&self, key: (AgentId, ProfileId, BillingClass), now: Duration) -> bool {
        let is_due = self.is_due(&key, now);
        if is_due {
            let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            noted.insert(key, now);
        }
        is_due
    }
}

impl Sink {
    /// Does handing out `profile` cross a billing class, and is that to be written down?
    pub(crate) fn is_crossing_due(&self, made: &Made, profile: &ProfileId, agent: &AgentId) -> bool {
        let crosses = made.verdict(profile).and_then(|verdict| verdict.crosses);
        crosses.is_some_and(|left| {
            let key = (agent.clone(), profile.clone(), left);
            self.calls().crossings.is_due(&key, self.host().clock.monotonic())
        })
    }

    /// Writes down that a profile is used that costs more than the class that was left for it, if that is due.
    pub(crate) fn note_crossing(
        &self,
        profile: &ProfileId,
        (left, billing): (BillingClass, BillingClass),
        agent: &AgentId,
    ) {
        let key = (agent.clone(), profile.clone(), left);
        if self.calls().crossings.take(key, self.host().clock.monotonic()) {
            self.audit(&Event {
                what: "crossing",
                agent,
                profile,
                detail: format!("{left} -> {billing}, as [billing] allow says"),
            });
        }
    }
}
