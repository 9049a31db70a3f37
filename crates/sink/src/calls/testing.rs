//! Saying that a test goes on.
//!
//! A request that tests a bench may wait ten minutes until its answer begins. Its program says meanwhile that it is still
//! there, so that nobody takes the test for given up and makes another.

use std::convert::Infallible;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::lease::Lease;
use crate::sink::Sink;

/// A test that is said to go on until this is dropped.
#[derive(Debug)]
pub struct Testing {
    _until_dropped: Sender<Infallible>,
}

impl Sink {
    /// For whoever waits for an answer: says on a thread, every `every` of real time ([`PROBE_PULSE`](crate::PROBE_PULSE)),
    /// that the request of this lease goes on. `None` where the lease tests nothing, or there is no thread to be had; the
    /// test then counts as given up after a minute.
    #[must_use]
    pub fn keep_testing(&self, lease: &Lease, every: Duration) -> Option<Testing> {
        if !lease.tests {
            return None;
        }
        let (until_dropped, dropped) = channel();
        let (sink, lease) = (self.clone(), lease.clone());
        let saying = move || {
            while dropped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                sink.still_tests(&lease);
            }
        };
        let thread = std::thread::Builder::new().name("tokensink-test".to_owned());
        thread
            .spawn(saying)
            .inspect_err(|error| tracing::warn!("nobody says that a test goes on: {error}"))
            .ok()?;
        Some(Testing {
            _until_dropped: until_dropped,
        })
    }

    /// Says once that the request of a lease that tests a bench still waits for its answer. Writes a file.
    pub fn still_tests(&self, lease: &Lease) {
        if !lease.tests {
            return;
        }
        let now = self.now();
        self.change_benches(&lease.owner, &lease.profile, |entry| {
            let mut benches = entry.all();
            benches.still_probed(lease.model.as_deref(), lease.issued.at, now);
            entry.take(benches, None);
        });
    }
}
