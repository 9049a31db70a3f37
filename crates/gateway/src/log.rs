//! What is told of each request when it is over: one line of log and the counters.
//!
//! A line names who asked, for what, who served and how it ended. It holds no header, no query, no body and nothing of
//! a lease but its id; paths are cut, since clients make them up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use tokensink_host::Clock;
use tokensink_sink::{LeaseId, ProfileId, Sink};

use crate::attempts::is_of_upstream;
use crate::guard::Caller;
use crate::metrics::{Metrics, SERVED};
use crate::outfit::Outfit;
use crate::request::plan::Plan;
use crate::stream::{Ended, Hold};

/// The target of the lines.
const ACCESS: &str = "tokensink_gateway::access";
/// How much of a path stands in a line, in characters.
const PATH_MAX: usize = 80;

/// What is known of a request so far.
#[derive(Debug)]
pub(crate) struct Trail {
    request: LeaseId,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    caller: Option<Arc<Caller>>,
    plan: Option<Arc<Plan>>,
    /// Of the account that is to serve.
    outfit: Option<Arc<Outfit>>,
    tries: u32,
    /// Why attempts failed.
    failures: Vec<&'static str>,
    /// How the last attempt to which no answer came ended, in the word for the counters.
    fault: Option<&'static str>,
    code: Option<&'static str>,
}

impl Trail {
    fn new(request: LeaseId) -> Self {
        Self {
            request,
            facts: Mutex::default(),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who asks.
    pub(crate) fn caller(&self, caller: &Arc<Caller>) {
        self.facts().caller = Some(Arc::clone(caller));
    }

    /// For what.
    pub(crate) fn plan(&self, plan: &Arc<Plan>) {
        self.facts().plan = Some(Arc::clone(plan));
    }

    /// Who is to serve.
    pub(crate) fn outfit(&self, outfit: &Arc<Outfit>) {
        let mut facts = self.facts();
        facts.outfit = Some(Arc::clone(outfit));
        facts.tries += 1;
    }

    /// The request's id.
    pub(crate) fn request(&self) -> LeaseId {
        self.request
    }

    /// The same as the value of a header.
    pub(crate) fn name(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.request.digits()).unwrap_or(HeaderValue::from_static("-"))
    }

    /// An attempt failed.
    pub(crate) fn failed(&self, reason: &'static str) {
        self.facts().failures.push(reason);
    }

    /// No answer came to an attempt: this is the outcome if that is what the client is told.
    pub(crate) fn faulted(&self, outcome: &'static str) {
        self.facts().fault = Some(outcome);
    }

    /// The gateway refuses, with this code.
    pub(crate) fn refused(&self, code: &'static str) {
        self.facts().code = Some(code);
    }
}

/// A request on its way. When it is dropped, it is over.
#[derive(Debug)]
pub(crate) struct Told {
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    trail: Arc<Trail>,
    /// Monotonic.
    begun: Duration,
    method: Method,
    /// Where lines are written.
    path: Option<String>,
    status: Option<StatusCode>,
    head_after: Option<Duration>,
    bytes: u64,
    end: &'static str,
    is_stream: bool,
}

impl Told {
    pub(crate) fn new(metrics: &Arc<Metrics>, sink: &Sink, head: &Parts) -> Self {
        let clock = &sink.host().clock;
        Self {
            metrics: Arc::clone(metrics),
            clock: Arc::clone(clock),
            trail: Arc::new(Trail::new(sink.request_id())),
            begun: clock.monotonic(),
            method: head.method.clone(),
            path: tracing::enabled!(target: ACCESS, tracing::Level::INFO)
                .then(|| head.uri.path().chars().take(PATH_MAX).collect()),
            status: None,
            head_after: None,
            bytes: 0,
            end: "client_left",
            is_stream: false,
        }
    }

    pub(crate) fn trail(&self) -> Arc<Trail> {
        Arc::clone(&self.trail)
    }

    fn taken(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.begun)
    }

    /// The head goes to the client.
    pub(crate) fn answers(&mut self, status: StatusCode) {
        let after = self.taken();
        self.status = Some(status);
        self.head_after = Some(after);
        let facts = self.trail.facts();
        match (&facts.plan, &facts.outfit) {
            (Some(plan), Some(outfit)) => outfit.head(&self.metrics, &plan.provider, after),
            (Some(plan), None) => self.metrics.head(plan.provider.as_str(), after),
            (None, _) => {}
        }
    }

    /// It was answered whole, by the gateway itself.
    pub(crate) fn whole(mut self) {
        self.end = "complete";
    }

    /// The answer is passed on from now on; `inner` is told as before.
    pub(crate) fn passes_on(mut self, inner: Option<Box<dyn Hold>>) -> Box<dyn Hold> {
        self.metrics.stream_begins();
        self.is_stream = true;
        Box::new(Passing { inner, told: self })
    }
}

/// An answer that is passed on.
#[derive(Debug)]
struct Passing {
    inner: Option<Box<dyn Hold>>,
    told: Told,
}

impl Hold for Passing {
    fn saw(&mut self, bytes: &[u8]) {
        self.told.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        if let Some(inner) = &mut self.inner {
            inner.saw(bytes);
        }
    }

    fn ended(&mut self, how: Ended) {
        self.told.end = match how {
            Ended::Complete => "complete",
            Ended::CutOff => "cut_off",
            Ended::TimedOut => "timed_out",
        };
        if let Some(inner) = &mut self.inner {
            inner.ended(how);
        }
    }
}

/// How a request ended, in one word for the counters.
fn outcome(facts: &Facts, status: Option<StatusCode>, end: &'static str) -> &'static str {
    let Some(status) = status else {
        return "client_left";
    };
    match status.as_u16() {
        _ if facts.code.is_some_and(is_of_upstream) => facts.fault.unwrap_or("server_error"),
        _ if facts.code.is_some() => "refused",
        200..=399 if end == "complete" => SERVED,
        200..=399 => end,
        401 | 403 => "unauthorized",
        429 => "rate_limited",
        400..=499 => "client_error",
        _ => "server_error",
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if self.is_stream {
            self.metrics.stream_ends();
        }
        let facts = self.trail.facts();
        let plan = facts.plan.as_deref();
        let provider = plan.map(|plan| plan.provider.as_str());
        let outcome = outcome(&facts, self.status, self.end);
        // Of what was refused before an account was chosen, the provider may be a word of the client's.
        let known = provider.filter(|_| facts.outfit.is_some()).unwrap_or_default();
        let profile = facts.outfit.as_ref().map(|outfit| &outfit.id);
        match (plan, &facts.outfit) {
            (Some(plan), Some(outfit)) if outcome == SERVED => outfit.served(&self.metrics, &plan.provider),
            _ => self.metrics.ended(known, profile, outcome),
        }
        for reason in facts.failures.iter().take(facts.tries.saturating_sub(1) as usize) {
            self.metrics.retried(known, reason);
        }
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: ACCESS,
            request = %self.trail.request(),
            agent = facts.caller.as_ref().map(|caller| caller.agent.as_str()),
            method = %self.method,
            path = self.path,
            provider,
            model = plan.and_then(|plan| plan.model.as_deref()),
            profile = profile.map(ProfileId::as_str),
            status = self.status.map(|status| status.as_u16()),
            code = facts.code,
            outcome,
            end = self.end,
            tries = facts.tries,
            failures = (!facts.failures.is_empty()).then(|| facts.failures.join(",")),
            head_ms = self.head_after.map(millis),
            ms = millis(self.taken()),
            bytes = self.bytes,
            "request"
        );
    }
}
