//! The attempts of one request: lease, send, judge, and what comes next.
//!
//! Another attempt is made only where the policy says so (`policy::failover`): nothing of it may have been billed, and
//! nothing of an answer may have reached the client. What the client gets when nobody can serve is an upstream's own
//! answer, byte for byte: of several the one that says when to come back.

mod left;
mod owner;

use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Body as _;
use tokensink_sink::failover::{Attempted, Happened, Step, next};
use tokensink_sink::{
    AcquireRequest, Class, ErrorKind, Lease, ProfileId, Proof, Reason, SessionKey, Sink, SinkError,
    UnixMillis, Want,
};
use tokio::sync::OwnedSemaphorePermit;

use self::left::{Failure, Left};
use crate::landings::{Lead, Part};
use crate::log::Trail;
use crate::outcome::{Outcome, Used};
use crate::outfit::Outfit;
use crate::relay::{Leaving, Relay, set_length};
use crate::replay::Held;
use crate::request::cost::is_free;
use crate::request::errors::Refusal;
use crate::request::headers::{Dress, keep_for_client, upstream_headers};
use crate::request::plan::Plan;
use crate::slots::Profile;
use crate::stream::{Answer, Peeked};
use crate::time::{lately, now, sleep, within};
use crate::upstream::{Begun, Fault};
use crate::watcher::{Room, Watcher, is_events};

/// The header of an answer that names the account.
pub(crate) const PROFILE: HeaderName = HeaderName::from_static("x-tokensink-profile");
/// The header of an answer by which it is looked up later.
pub(crate) const REQUEST: HeaderName = HeaderName::from_static("x-tokensink-request");

/// How often it is looked whether another request's test of an account is over.
const TEST_PAUSE: Duration = Duration::from_millis(50);
/// The shortest wait for the end of a bench, so that a clock that was put back makes nobody spin.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest one without looking again: benches are ended early by a success, a login or a reading of the limits.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A request that is to be served.
pub(crate) struct Job<'a> {
    pub(crate) relay: &'a Relay,
    pub(crate) sink: &'a Sink,
    pub(crate) head: &'a Parts,
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) trail: &'a Trail,
}

/// What the attempts so far have left.
struct Progress {
    /// The profiles that are out of the question.
    tried: Vec<ProfileId>,
    /// A lease whose token was not taken, with what was said: the next one is of the same profile with another token.
    /// It is reported only if none is to be had, since a token that has ended early says nothing against the account.
    rejected: Option<(Used, Outcome)>,
    attempted: Attempted,
    /// The best answer to pass on if nobody serves.
    left: Option<Left>,
    /// How long is waited before somebody else is asked.
    rest: Duration,
}

/// What one attempt came to.
enum Came {
    Over(Response<Answer>),
    Next,
}

/// How long to wait where nothing but time is missing: the end of a bench, or the outcome of another request's test.
/// `None` where something is under way that is waited for in the sink.
fn pause(error: &SinkError, now: UnixMillis) -> Option<Duration> {
    match error.code() {
        "being_tested" => Some(TEST_PAUSE),
        "all_benched" | "too_costly" | "crossings_spent" => {
            error.retry_at().map(|at| now.until(at).max(PAUSE_MIN))
        }
        _ => None,
    }
}

/// The code of a refusal that says that the provider did not answer in time.
const UPSTREAM_TIMEOUT: &str = "upstream_timeout";
/// The code of one that says that there was no connection, or that it ended before the answer.
const UPSTREAM_UNREACHABLE: &str = "upstream_unreachable";

/// Does a refusal with this code tell of the provider's failure?
pub(crate) fn is_of_upstream(code: &str) -> bool {
    [UPSTREAM_TIMEOUT, UPSTREAM_UNREACHABLE].contains(&code)
}

/// What helps when no connection came about.
const NOT_CONNECTED_FIX: &str = "tokensink doctor --net shows how far connections come; the certificate of an authority \
                                 of your own is trusted when [network] extra_ca in tokensink/config.toml names its file";

/// What is seldom needed is in a box of its own: the library moves the future of every request, so that one is to be
/// small.
impl Job<'_> {
    /// Attempts until one is served or none is left.
    ///
    /// # Errors
    /// What is told to the client where no upstream said anything.
    pub(crate) async fn run(
        &self,
        held: &mut Held,
        room: OwnedSemaphorePermit,
    ) -> Result<Response<Answer>, Refusal> {
        let bound_to = if self.is_fixed() {
            Box::pin(self.bound_to()).await?
        } else {
            None
        };
        let mut room = Some(room);
        let mut progress = Progress {
            tried: Vec::new(),
            rejected: None,
            attempted: Attempted {
                head_sent: false,
                replayable: held.is_whole(),
                refreshed: false,
                tries: 0,
            },
            left: None,
            rest: Duration::ZERO,
        };
        loop {
            let used = match self.lease(&mut progress, bound_to.as_ref()).await {
                Ok(used) => used,
                Err(None) => continue,
                Err(Some(error)) => return self.nobody(progress, &error),
            };
            let rest = std::mem::take(&mut progress.rest);
            if !rest.is_zero() {
                Box::pin(sleep(rest)).await;
            }
            match self.attempt(used, held, &mut progress, &mut room).await? {
                Came::Over(response) => return Ok(response),
                Came::Next => progress.attempted.tries += 1,
            }
        }
    }

    /// The lease of the next attempt. `Err(None)`: nothing came of this one, but there may be another.
    async fn lease(
        &self,
        progress: &mut Progress,
        bound_to: Option<&ProfileId>,
    ) -> Result<Used, Option<SinkError>> {
        if let Some((mut old, outcome)) = progress.rejected.take() {
            let wish = self.wish(progress, Some(old.lease()), bound_to);
            let fresh = Box::pin(self.acquire(wish)).await;
            return match fresh {
                Ok(used) if used.lease().secret != old.lease().secret => {
                    old.is_known();
                    Ok(used)
                }
                // Nothing fresh is to be had of this one: the others may serve.
                _ => {
                    old.report(outcome).await;
                    progress.tried.push(old.lease().profile.clone());
                    progress.attempted.refreshed = false;
                    Err(None)
                }
            };
        }
        let request = self.wish(progress, None, bound_to);
        let used = match self.sink.acquire_ready(&request) {
            Ok(Some(lease)) => Used::new(self.sink, &self.relay.threads, lease),
            _ => Box::pin(self.acquire(request)).await.map_err(Some)?,
        };
        if progress.tried.contains(&used.lease().profile) {
            let text = "every account that may serve this request was tried";
            return Err(Some(SinkError::new(ErrorKind::TryAgain, "all_tried", text)));
        }
        Ok(used)
    }

    /// What is asked of the sink: another token in place of `rejected`'s, or any account that was not tried.
    fn wish(
        &self,
        progress: &Progress,
        rejected: Option<&Lease>,
        bound_to: Option<&ProfileId>,
    ) -> AcquireRequest {
        let plan = self.plan;
        let bounds = &self.relay.bounds;
        let only = rejected.map(|lease| &lease.profile).or(bound_to);
        let want = only.map_or_else(
            || Want::Provider(plan.provider.as_str().to_owned()),
            |profile| Want::Profile(profile.clone()),
        );
        AcquireRequest {
            rejected: rejected.map(|lease| lease.secret.clone()),
            wait: if progress.attempted.tries == 0 || rejected.is_some() {
                bounds.lease_wait
            } else {
                bounds.failover_wait
            },
            model: plan.model.clone(),
            session: plan
                .session
                .as_deref()
                .and_then(|key| SessionKey::parse(key).ok()),
            tried: progress.tried.clone(),
            request_id: Some(self.trail.request()),
            ..AcquireRequest::new(plan.agent.clone(), want)
        }
    }

    /// A lease that may have to be waited for: the end of a bench on a timer, a refresh on a thread, but on one for all,
    /// because hundreds may wait for the same and a thread each would cost more memory than all else. A client that
    /// leaves meanwhile leaves it to its guard.
    async fn acquire(&self, request: AcquireRequest) -> Result<Used, SinkError> {
        let deadline = now() + request.wait;
        loop {
            let at_once = AcquireRequest {
                wait: Duration::ZERO,
                asks_again: true,
                ..request.clone()
            };
            let error = match self.acquire_on_thread(at_once).await {
                Ok(used) => return Ok(used),
                Err(error) if error.kind() == ErrorKind::TryAgain => error,
                Err(error) => return Err(error),
            };
            let left = deadline.saturating_duration_since(now());
            let wait = match pause(&error, self.sink.now()) {
                Some(pause) if pause <= left => {
                    sleep(pause.min(PAUSE_MAX)).await;
                    continue;
                }
                // Asked a last time, for a refusal that `explain` can tell.
                Some(_) => Duration::ZERO,
                None => left,
            };
            let part = error.profile().filter(|_| !wait.is_zero());
            let part = part.map(|profile| self.relay.landings.join(&self.plan.agent, profile));
            let _lead: Option<Lead> = match part {
                Some(Part::Follow(landing)) => {
                    within(wait, landing.over()).await;
                    continue;
                }
                Some(Part::Lead(lead)) => Some(lead),
                None => None,
            };
            return self.acquire_on_thread(AcquireRequest { wait, ..request }).await;
        }
    }

    async fn acquire_on_thread(&self, mut request: AcquireRequest) -> Result<Used, SinkError> {
        let (sink, threads) = (self.sink.clone(), self.relay.threads.clone());
        let left = Leaving::default();
        request.cancel = Some(left.0.clone());
        let is_short = request.wait.is_zero();
        let acquire = move || {
            let lease = sink.acquire(&request)?;
            Ok(Used::new(&sink, &threads, lease))
        };
        let acquired = if is_short {
            self.relay.threads.run(acquire).await
        } else {
            tokio::task::spawn_blocking(acquire).await
        };
        acquired.unwrap_or_else(|_| {
            let text = "the lease could not be made";
            Err(SinkError::new(ErrorKind::Failed, "internal", text))
        })
    }

    /// Nobody serves.
    fn nobody(&self, progress: Progress, error: &SinkError) -> Result<Response<Answer>, Refusal> {
        // The account that is free first may be one that was not asked.
        let unasked = |profile| !progress.tried.contains(profile);
        let free_at = error.retry_at().filter(|_| error.profile().is_some_and(unasked));
        match progress.left {
            Some(left) if free_at.is_some_and(|at| left.says_less_than(at)) => {
                Err(Refusal::from_sink(error, self.sink.now()))
            }
            Some(left) => left.pass_on(self.relay.bounds.answer_idle),
            None if self.plan.bound => {
                let what = self.plan.ties.first().map_or("something", |tie| tie.what);
                let known = Refusal::from_sink(error, self.sink.now());
                let mut broken = Refusal::continuity_break(what);
                broken.until = known.until;
                broken.message = format!("{} ({})", broken.message, known.message);
                Err(broken)
            }
            None => Err(Refusal::from_sink(error, self.sink.now())),
        }
    }

    /// One attempt.
    async fn attempt(
        &self,
        mut used: Used,
        held: &mut Held,
        progress: &mut Progress,
        room: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Came, Refusal> {
        let outfit = self.relay.outfits.of(used.lease(), &self.relay.slots);
        self.trail.outfit(&outfit);
        let slot = match self.relay.slots.of_profile(&outfit.profile, used.lease()).await {
            Ok(slot) => slot,
            Err(busy) => return self.busy(&mut used, busy, progress),
        };
        let testing = self.sink.keep_testing(used.lease(), self.relay.bounds.test_pulse);
        let begun = match self.send(used.lease(), &outfit, held).await? {
            Ok(begun) => begun,
            Err(Fault::Client(text)) => return Err(Refusal::bad("broken_request", text)),
            Err(fault) => return Box::pin(self.faulted(used, fault, progress)).await,
        };
        // The answer's head tells how the test came out; nothing is to be said in between.
        drop(testing);
        let names = self.names(&outfit);
        let (head, body) = begun.response.into_parts();
        used.came(&head.headers);
        let status = head.status;
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED || status.is_informational() {
            let text = format!("the provider answered with {status}, which is not followed");
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, "redirect", text)
                .with_fix("correct the provider's base_url (tokensink providers check)"));
        }
        if status.is_client_error() || status.is_server_error() {
            let failing = async {
                let bounds = &self.relay.bounds;
                let body = Peeked::read(body, begun.lending, bounds.error_body, bounds.error_time).await;
                let failure = Failure {
                    status,
                    headers: head.headers,
                    body,
                    names,
                };
                outfit.profile.failed();
                self.failed(used, failure, progress).await
            };
            return Box::pin(failing).await;
        }
        if status.is_success() {
            if let Some(key) = self.new_server(used.lease()) {
                Box::pin(self.store_server(key, used.lease())).await;
            }
            self.served(&mut used, &outfit.profile, &head.headers);
        }
        let answer = Answer::relayed(body, begun.lending, self.relay.bounds.answer_idle);
        let room = Room {
            request: room.take(),
            slot,
            profile: Arc::clone(&outfit.profile),
        };
        let watcher = Watcher::new(used, self.plan, &head.headers, &self.relay.ties, room);
        let answer = answer.holding(Box::new(watcher));
        Ok(Came::Over(with_names(status, head.headers, answer, names)))
    }

    /// The answer begins well.
    fn served(&self, used: &mut Used, profile: &Profile, headers: &HeaderMap) {
        let lease = used.lease();
        self.note_server(lease);
        if lease.tests || profile.is_news(lease.model.as_deref(), lately()) {
            used.note(Outcome::Served {
                proof: if is_free(&self.head.method, &self.plan.path_and_query) {
                    Proof::Free
                } else if is_events(headers) {
                    Proof::Begun
                } else {
                    Proof::Whole
                },
                headers: headers.clone(),
            });
        } else {
            used.is_known();
        }
    }

    /// The values of [`PROFILE`] and [`REQUEST`].
    fn names(&self, outfit: &Outfit) -> [HeaderValue; 2] {
        [outfit.name.clone(), self.trail.name()]
    }

    /// Sends the request with this lease.
    async fn send(
        &self,
        lease: &Lease,
        outfit: &Outfit,
        held: &mut Held,
    ) -> Result<Result<Begun, Fault>, Refusal> {
        let base_url = lease.base_url.as_deref().ok_or_else(|| {
            let text = format!(
                "the provider {} has no address to send requests to",
                lease.provider
            );
            Refusal::new(StatusCode::NOT_FOUND, "no_base_url", text)
                .with_fix("set base_url in its file (tokensink providers check)")
        })?;
        let path = outfit.path(base_url, &self.plan.path_and_query)?;
        let endpoint = match outfit.endpoint(&self.relay.upstream, base_url) {
            Ok(endpoint) => endpoint,
            Err(text) => return Ok(Err(Fault::NotConnected(text))),
        };
        let made = || {
            let dress = Dress {
                headers: outfit.headers(lease)?,
                betas: &lease.betas,
            };
            let mut headers = upstream_headers(&self.head.headers, dress)?;
            headers.insert(HOST, endpoint.host.clone());
            Ok::<_, Refusal>(headers)
        };
        let mut first = Some(made()?);
        let announced = self.head.headers.get(http::header::CONTENT_LENGTH);
        let request = || {
            let body = held.upload(self.relay.bounds.upload_idle)?;
            let length = body.size_hint().exact();
            let mut request = Request::new(body);
            *request.method_mut() = self.head.method.clone();
            *request.uri_mut() = path.clone().into();
            // A request that was not sent at all is made once more.
            *request.headers_mut() = first.take().or_else(|| made().ok())?;
            set_length(request.headers_mut(), length, announced);
            Some(request)
        };
        Ok(self.relay.upstream.send(&endpoint, request).await)
    }

    /// The account has as many requests as it may have, and none of them has ended in time: another one may have room.
    fn busy(&self, used: &mut Used, busy: Refusal, progress: &mut Progress) -> Result<Came, Refusal> {
        used.take_back();
        if self.is_fixed() {
            return Err(busy);
        }
        progress.tried.push(used.lease().profile.clone());
        progress.attempted.refreshed = false;
        progress.keep(Left::Refusal(Box::new(busy)));
        Ok(Came::Next)
    }

    /// May no other account serve it?
    fn is_fixed(&self) -> bool {
        self.plan.bound || self.plan.profile.is_some()
    }

    /// No answer came.
    async fn faulted(&self, mut used: Used, fault: Fault, progress: &mut Progress) -> Result<Came, Refusal> {
        let text = fault.to_string();
        let (happened, outcome, status) = match fault {
            Fault::NotConnected(error) => (
                Happened::NotConnected,
                Outcome::NotConnected { error },
                StatusCode::BAD_GATEWAY,
            ),
            Fault::TimedOut(_) => (Happened::TimedOut, Outcome::TimedOut, StatusCode::GATEWAY_TIMEOUT),
            Fault::CutOff(_) | Fault::Client(_) => {
                (Happened::CutOff, Outcome::CutOff, StatusCode::BAD_GATEWAY)
            }
        };
        let reported = used.report(outcome).await;
        self.trail
            .failed(reported.class.map_or("timeout", |class| class.rule));
        let code = if status == StatusCode::GATEWAY_TIMEOUT {
            UPSTREAM_TIMEOUT
        } else {
            UPSTREAM_UNREACHABLE
        };
        self.trail.faulted(match happened {
            Happened::TimedOut => "timed_out",
            Happened::CutOff => "cut_off",
            _ => "server_error",
        });
        let mut refusal = Refusal::new(status, code, text);
        if happened == Happened::NotConnected {
            refusal = refusal.with_fix(NOT_CONNECTED_FIX);
        }
        let left = Left::Refusal(Box::new(refusal));
        self.go_on(&used, &happened, left, progress)
    }

    /// An error answer came.
    async fn failed(
        &self,
        mut used: Used,
        failure: Failure,
        progress: &mut Progress,
    ) -> Result<Came, Refusal> {
        let status = failure.status.as_u16();
        let outcome = Outcome::Failed {
            status: Some(status),
            headers: failure.headers.clone(),
            body: failure.body.bytes.to_vec(),
        };
        let refused = Happened::Answered {
            status,
            class: Class {
                reason: Reason::Auth,
                rule: "status",
            },
        };
        // A key may have been replaced too, where it is read from elsewhere.
        if next(&refused, &progress.attempted) == Step::RefreshAndRepeat {
            progress.attempted.refreshed = true;
            progress.keep(Left::Answer(Box::new(failure), None));
            progress.rejected = Some((used, outcome));
            return Ok(Came::Next);
        }
        let reported = used.report(outcome).await;
        let until = reported.bench.as_ref().map(|bench| bench.until);
        let left = Left::Answer(Box::new(failure), until);
        // What no rule knows is judged by its status alone.
        let class = reported.class.unwrap_or(Class {
            reason: Reason::NoErrorDetails,
            rule: "status",
        });
        self.trail.failed(class.reason.as_str());
        progress.rest = reported.rest;
        self.go_on(&used, &Happened::Answered { status, class }, left, progress)
    }

    /// What comes next.
    fn go_on(
        &self,
        used: &Used,
        happened: &Happened,
        left: Left,
        progress: &mut Progress,
    ) -> Result<Came, Refusal> {
        // There is no second fresh token.
        let attempted = Attempted {
            refreshed: true,
            ..progress.attempted
        };
        if next(happened, &attempted) == Step::PassOn || self.is_fixed() {
            return left.pass_on(self.relay.bounds.answer_idle).map(Came::Over);
        }
        progress.tried.push(used.lease().profile.clone());
        progress.attempted.refreshed = false;
        progress.keep(left);
        Ok(Came::Next)
    }
}

impl Progress {
    /// Keeps the better of two things to pass on.
    fn keep(&mut self, left: Left) {
        self.left = Some(Left::or_better(self.left.take(), left));
    }
}

fn with_names(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Answer,
    [profile, request]: [HeaderValue; 2],
) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    keep_for_client(&mut headers);
    headers.insert(PROFILE, profile);
    headers.insert(REQUEST, request);
    *response.headers_mut() = headers;
    response
}
