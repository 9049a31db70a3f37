//! Leases in use: each one is reported on, whatever becomes of its request.

use http::HeaderMap;
use tokensink_sink::{CallOutcome, Lease, Proof, Reported, Sink};

use crate::threads::Threads;

/// What became of a call, by value, so that it can be reported from another thread.
#[derive(Debug)]
pub(crate) enum Outcome {
    Served {
        headers: HeaderMap,
        proof: Proof,
    },
    Finished,
    Failed {
        status: Option<u16>,
        headers: HeaderMap,
        body: Vec<u8>,
    },
    NotConnected {
        error: String,
    },
    TimedOut,
    CutOff,
    Abandoned,
}

impl Outcome {
    fn as_call(&self) -> CallOutcome<'_> {
        match self {
            Self::Served { headers, proof } => CallOutcome::Served {
                headers,
                proof: *proof,
            },
            Self::Finished => CallOutcome::Finished,
            Self::Failed {
                status,
                headers,
                body,
            } => CallOutcome::Failed {
                status: *status,
                headers,
                body,
            },
            Self::NotConnected { error } => CallOutcome::NotConnected { error },
            Self::TimedOut => CallOutcome::TimedOut,
            Self::CutOff => CallOutcome::CutOff,
            Self::Abandoned => CallOutcome::Abandoned,
        }
    }
}

/// A lease that is being used. Dropped without a report, it is reported as given up, because others may wait for the
/// outcome of a test.
#[derive(Debug)]
pub(crate) struct Used {
    sink: Sink,
    threads: Threads,
    lease: Lease,
    is_reported: bool,
    /// The beginning of a stream was reported, and its end is to be.
    is_begun: bool,
}

impl Used {
    pub(crate) fn new(sink: &Sink, threads: &Threads, lease: Lease) -> Self {
        Self {
            sink: sink.clone(),
            threads: threads.clone(),
            lease,
            is_reported: false,
            is_begun: false,
        }
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What became of it needs no report: it is like the one before.
    pub(crate) fn is_known(&mut self) {
        self.is_reported = true;
    }

    /// An answer came, and its headers say what is left of the account's limits.
    pub(crate) fn came(&self, headers: &HeaderMap) {
        self.sink.note_limit_headers(&self.lease, headers);
    }

    /// An event inside the answer says what is left of the account's limits.
    pub(crate) fn limits(&self, event: &[u8]) {
        self.sink.note_limits(&self.lease, event);
    }

    /// Reports and waits for what is made of it.
    pub(crate) async fn report(&mut self, outcome: Outcome) -> Reported {
        self.is_reported = true;
        if let Ok(Some(reported)) = self.sink.report_ready(&self.lease, &outcome.as_call()) {
            return reported;
        }
        let (sink, lease) = (self.sink.clone(), self.lease.clone());
        let reporting = self
            .threads
            .run(move || sink.report_rest(&lease, &outcome.as_call()));
        let reported = reporting.await;
        reported
            .ok()
            .and_then(|reported| reported.inspect_err(told).ok())
            .unwrap_or_default()
    }

    /// The stream whose beginning was reported has come to its end, and no error was in it.
    pub(crate) fn finished(&mut self) {
        if self.is_begun {
            self.note(Outcome::Finished);
        }
    }

    /// Nothing was sent with it.
    pub(crate) fn take_back(&mut self) {
        self.is_reported = true;
        let (sink, lease) = (self.sink.clone(), self.lease.clone());
        self.threads.begin(move || {
            sink.take_back(&lease).inspect_err(told).ok();
        });
    }

    /// Reports, and leaves it at that.
    pub(crate) fn note(&mut self, outcome: Outcome) {
        self.is_reported = true;
        self.is_begun = matches!(
            outcome,
            Outcome::Served {
                proof: Proof::Begun,
                ..
            }
        );
        if let Ok(Some(_)) = self.sink.report_ready(&self.lease, &outcome.as_call()) {
            return;
        }
        let (sink, lease) = (self.sink.clone(), self.lease.clone());
        // When the gateway has ended, a test that is not given back is given back by its time.
        self.threads.begin(move || {
            let reported = sink.report_rest(&lease, &outcome.as_call());
            reported.inspect_err(told).ok();
        });
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        if !self.is_reported {
            self.note(Outcome::Abandoned);
        }
    }
}

fn told(error: &tokensink_sink::SinkError) {
    tracing::warn!("an outcome was not noted: {error}");
}
