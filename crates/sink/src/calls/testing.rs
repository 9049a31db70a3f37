//! Saying that a test goes on.
//!
//! A request that tests a bench may wait ten minutes until its answer begins. Its program says meanwhile that it is still
//! there, so that nobody takes the test for given up and makes another.

use std::time::Duration;

use tokensink_host::Ticker;
use tokensink_types::UnixMillis;

use super::benches::About;
use crate::lease::Lease;
use crate::sink::Sink;

/// A test that is said to go on until this is dropped. Dropping it does not wait, not even for a word that is being
/// written: an event loop may have it.
#[derive(Debug)]
pub struct Testing(Option<Ticker>);

impl Drop for Testing {
    fn drop(&mut self) {
        if let Some(ticker) = self.0.take() {
            ticker.let_go();
        }
    }
}

impl Sink {
    /// For whoever waits for an answer: says on a thread, every `every` of real time ([`PROBE_PULSE`](crate::PROBE_PULSE)),
    /// that the request of this lease goes on. `None` where the lease tests nothing, or there is no thread to be had; the
    /// test then counts as given up after a minute.
    #[must_use]
    pub fn keep_testing(&self, lease: &Lease, every: Duration) -> Option<Testing> {
        self.keep_testing_while(lease, every, |_| true)
    }

    /// The same for whoever has given the lease away: not any more once `goes_on`, asked with the time, says no.
    #[must_use]
    pub fn keep_testing_while(
        &self,
        lease: &Lease,
        every: Duration,
        goes_on: impl Fn(UnixMillis) -> bool + Send + 'static,
    ) -> Option<Testing> {
        if !lease.tests {
            return None;
        }
        let (sink, lease) = (self.clone(), lease.clone());
        let ticker = Ticker::start("tokensink-test", every, move || {
            let now = sink.now();
            let goes_on = goes_on(now);
            if goes_on {
                sink.still_tested(&lease, now);
            }
            goes_on
        });
        let ticker = ticker.inspect_err(|error| tracing::warn!("nobody says that a test goes on: {error}"));
        Some(Testing(Some(ticker.ok()?)))
    }

    /// Says once that the request of a lease that tests a bench still waits for its answer. Writes a file.
    pub fn still_tests(&self, lease: &Lease) {
        if lease.tests {
            self.still_tested(lease, self.now());
        }
    }

    fn still_tested(&self, lease: &Lease, now: UnixMillis) {
        self.change_benches(&lease.owner, &lease.profile, |entry| {
            let mut benches = entry.all();
            benches.still_probed(lease.model.as_deref(), lease.issued.at, now);
            entry.take(benches, &About::default());
        });
    }
}
