//! The gateway's own endpoints: leases and reports for programs that call the API themselves, routes, health, and the
//! document that describes all of it.
//!
//! No verb here changes what is stored about logins, agents or keys: whoever has a client key can use accounts, not
//! manage them. Blocking: to be called on a thread that may wait.

pub(crate) mod shapes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokensink_host::{EndWatch, Liveness};
use tokensink_sink::{
    AcquireRequest, AgentId, CallOutcome, Cancel, Lease, PROBE_PULSE, ProfileId, Proof, Secret, SessionKey,
    Sink, SinkError, WAIT, Want,
};
use tokensink_types::ProcessId;

use crate::guard::{Caller, CallerKind};
use crate::leases::{Holder, Leases};
use crate::openapi;
use crate::request::errors::{ErrorShape, Refusal};
use crate::request::route::Route;
use crate::socket::Peer;
use shapes::{
    HealthAnswer, LeaseAnswer, LeaseRequest, Outcome, ReportAnswer, ReportRequest, RouteAnswer, RouteRequest,
};

/// Largest body of a request to these endpoints, in bytes: a report may quote the beginning of an error answer.
pub const BODY_MAX: usize = 256 * 1024;
/// Longest wait that a caller may ask for.
const DEADLINE_MAX: Duration = Duration::from_secs(600);
/// How long a process that has a lease counts as testing with it: an answer may take so long to begin.
const TEST_MAX: Duration = Duration::from_secs(600);
/// Longest life of a token that a caller may ask for.
const MIN_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The endpoints. Cheap to clone; clones share the leases.
#[derive(Debug, Clone)]
pub struct Api {
    sink: Sink,
    leases: Leases,
    /// Waits for the ends of processes that have leases.
    ends: Option<Arc<EndWatch>>,
    /// How often it is said that a test goes on, in real time.
    test_pulse: Duration,
    version: Arc<str>,
}

type Answered = Result<Response<Bytes>, Refusal>;

impl Api {
    /// The endpoints over a sink.
    #[must_use]
    pub fn new(sink: Sink) -> Self {
        let leases = Leases::default();
        let ends = {
            let (sink, leases) = (sink.clone(), leases.clone());
            EndWatch::start(move |process| process_ended(&sink, &leases, process))
        };
        if let Err(error) = &ends {
            tracing::warn!(%error, "the ends of processes are noticed when leases are counted");
        }
        Self {
            sink,
            leases,
            ends: ends.ok().map(Arc::new),
            test_pulse: PROBE_PULSE,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Answers a request to one of these endpoints; `None` for a route that is not one of them. May wait as long as the
    /// request allows and it is not cancelled, so it is called on a thread of its own.
    #[must_use]
    pub fn answer(
        &self,
        route: &Route,
        caller: &Caller,
        body: &[u8],
        cancel: &Cancel,
    ) -> Option<Response<Bytes>> {
        let answered = match route {
            Route::Lease => self.lease(caller, body, cancel),
            Route::Report => self.report(caller, body),
            Route::Bindings => self.route(caller, body),
            Route::Health => Ok(self.health(caller)),
            Route::OpenApi => Ok(json(&openapi::document())),
            Route::Passthrough { .. }
            | Route::Model(_)
            | Route::Models { .. }
            | Route::Metrics
            | Route::Unknown => return None,
        };
        Some(answered.unwrap_or_else(|refusal| refusal.answer(ErrorShape::OpenAi, None)))
    }

    /// How many leases each client has out.
    #[must_use]
    pub fn leases_out(&self) -> BTreeMap<String, usize> {
        self.leases.counts(self.sink.host())
    }

    fn lease(&self, caller: &Caller, body: &[u8], cancel: &Cancel) -> Answered {
        let wanted: LeaseRequest = read(body)?;
        let sink = self.sink.current();
        let agent = self.agent_of(&sink, caller, &wanted)?;
        let mut request = request_of(&sink, caller, &agent, &wanted)?;
        request.cancel = Some(cancel.clone());
        let holder = Holder::of(caller);
        let acquire = |request: &AcquireRequest| {
            sink.acquire(request)
                .map(|lease| Unclaimed::new(&sink, lease))
                .map_err(|error| Refusal::from_sink(&error, sink.now()))
        };
        let mut got = acquire(&request)?;
        if request.rejected.is_none() && self.leases.is_rejected(&got.lease) {
            request.rejected = Some(got.lease.secret.clone());
            drop(got);
            got = acquire(&request)?;
        }
        if !caller.may_use(&got.lease.provider) {
            return Err(not_theirs(got.lease.provider.as_str()));
        }
        if cancel.is_set() {
            let text = "the client has left";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "client_left", text));
        }
        let id = got.lease.id.to_string();
        if self.leases.take(sink.host(), &holder, &id, &got.lease)?
            && let CallerKind::Socket(peer) = &caller.kind
        {
            self.watch(peer);
        }
        self.keep_testing(&sink, &holder, &id, &got.lease);
        Ok(json(&lease_answer(&sink, &agent, &got.handed_out())))
    }

    /// Says that the test which came with a lease goes on, as long as its process is there. Of others it is not known whether they
    /// are, and their test counts as given up after a minute.
    fn keep_testing(&self, sink: &Sink, holder: &Holder, id: &str, lease: &Lease) {
        let Some(process) = holder.process().cloned() else {
            return;
        };
        let (processes, end) = (Arc::clone(&sink.host().processes), lease.issued.at.plus(TEST_MAX));
        let goes_on = move |now| now <= end && processes.liveness(&process) != Liveness::Dead;
        if let Some(testing) = sink.keep_testing_while(lease, self.test_pulse, goes_on) {
            self.leases.keep_testing(id, testing);
        }
    }

    /// For whom: the key's agent and no other; on the socket the one that is named, or that the bindings find.
    fn agent_of(&self, sink: &Sink, caller: &Caller, wanted: &LeaseRequest) -> Result<AgentId, Refusal> {
        let from_sink = |error| Refusal::from_sink(&error, sink.now());
        let named = wanted.agent.as_deref().map(AgentId::normalise);
        let routed = match &wanted.channel {
            Some(channel) => {
                let request = tokensink_sink::RouteRequest {
                    channel: channel.clone(),
                    account: wanted.account.clone(),
                    peer: wanted.peer.clone(),
                    guild: wanted.guild.clone(),
                    team: wanted.team.clone(),
                };
                Some(sink.route(&request).map_err(from_sink)?.agent)
            }
            None if [&wanted.account, &wanted.peer, &wanted.guild, &wanted.team]
                .iter()
                .any(|part| part.is_some()) =>
            {
                return Err(Refusal::bad(
                    "no_channel",
                    "account, peer, guild and team need a channel beside them",
                ));
            }
            None => None,
        };
        let asked = match (named, routed) {
            (Some(named), Some(routed)) if named != routed => {
                let message = format!("the channel belongs to agent {routed}, and agent {named} is named");
                return Err(Refusal::bad("other_agent", message));
            }
            (named, routed) => named.or(routed),
        };
        match asked {
            None => Ok(caller.agent.clone()),
            Some(agent) if agent == caller.agent => Ok(agent),
            Some(agent) if caller.is_local_process() => sink.agent(Some(agent.as_str())).map_err(from_sink),
            // Which agents there are is not a client's business.
            Some(_) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "other_agent",
                format!(
                    "the client key {} is for agent {} only",
                    caller.name, caller.agent
                ),
            )),
        }
    }

    fn report(&self, caller: &Caller, body: &[u8]) -> Answered {
        let report: ReportRequest = read(body)?;
        let sink = self.sink.current();
        let (id, lease) = self.reported_lease(caller, &report)?;
        let headers = header_map(&report.headers)?;
        let body = report.body.as_deref().unwrap_or_default();
        let outcome = match report.outcome {
            Outcome::Served => Some(CallOutcome::Served {
                headers: &headers,
                proof: Proof::Whole,
            }),
            Outcome::Failed => Some(CallOutcome::Failed {
                status: report.status,
                headers: &headers,
                body: body.as_bytes(),
            }),
            Outcome::NotConnected => Some(CallOutcome::NotConnected { error: body }),
            Outcome::TimedOut => Some(CallOutcome::TimedOut),
            Outcome::CutOff => Some(CallOutcome::CutOff),
            Outcome::Rejected | Outcome::Abandoned => Some(CallOutcome::Abandoned),
            Outcome::Done => None,
        };
        self.leases.end_testing(&id);
        if report.outcome == Outcome::Rejected {
            // No bench: a new token is the answer to a rejected one.
            self.leases.note_rejected(&lease);
        }
        let reported = match outcome {
            Some(outcome) => sink
                .report(&lease, &outcome)
                .map_err(|error| Refusal::from_sink(&error, sink.now()))?,
            None => tokensink_sink::Reported::default(),
        };
        let ends = matches!(
            report.outcome,
            Outcome::Rejected | Outcome::Abandoned | Outcome::Done
        );
        let returned = ends && self.leases.give_back(&id, sink.now());
        Ok(json(&ReportAnswer {
            lease: id,
            returned,
            reason: reported.class.map(|class| class.reason.as_str().to_owned()),
            rule: reported.class.map(|class| class.rule.to_owned()),
            benched_until: reported.bench.map(|bench| bench.until.0),
        }))
    }

    fn reported_lease(&self, caller: &Caller, report: &ReportRequest) -> Result<(String, Lease), Refusal> {
        let holder = Holder::of(caller);
        let found = match (&report.lease, &report.token) {
            (Some(id), None) => self.leases.by_id(&holder, id).map(|lease| (id.clone(), lease)),
            (None, Some(token)) => self.leases.by_token(&holder, &Secret::new(token.as_str())),
            _ => return Err(Refusal::bad("bad_report", "give either lease or token")),
        };
        found.ok_or_else(|| {
            let message = "you have no such lease, or it ended too long ago";
            Refusal::new(StatusCode::NOT_FOUND, "unknown_lease", message)
        })
    }

    fn route(&self, caller: &Caller, body: &[u8]) -> Answered {
        let wanted: RouteRequest = read(body)?;
        let sink = self.sink.current();
        let found = sink
            .route(&tokensink_sink::RouteRequest {
                channel: wanted.channel,
                account: wanted.account,
                peer: wanted.peer,
                guild: wanted.guild,
                team: wanted.team,
            })
            .map_err(|error| Refusal::from_sink(&error, sink.now()))?;
        if found.agent != caller.agent && !caller.is_local_process() {
            let message = format!("the chat does not belong to agent {}", caller.agent);
            return Err(Refusal::new(StatusCode::FORBIDDEN, "other_agent", message));
        }
        Ok(json(&RouteAnswer {
            agent: found.agent.to_string(),
            binding: found.binding.as_ref().map(|info| info.index),
            description: found.binding.as_ref().map(|info| info.binding.description()),
            warnings: found.warnings,
        }))
    }

    fn health(&self, caller: &Caller) -> Response<Bytes> {
        let counts = self.leases_out();
        json(&HealthAnswer {
            status: "ok".to_owned(),
            version: self.version.to_string(),
            pid: self.sink.host().processes.this().pid,
            leases: counts.get(&caller.name).copied().unwrap_or_default(),
            clients: caller.is_local_process().then_some(counts),
        })
    }

    /// Gives back what a process has out as soon as it ends.
    fn watch(&self, peer: &Peer) {
        if let (Some(ends), Some(end), Some(process)) = (&self.ends, &peer.end, &peer.process) {
            ends.watch(process.clone(), Arc::clone(end));
        }
    }
}

/// A lease that nobody has yet. Dropped, it is taken back, so that others need not wait for an outcome that nobody will report,
/// nor does a call count that nobody makes.
struct Unclaimed<'a> {
    lease: Lease,
    sink: Option<&'a Sink>,
}

impl<'a> Unclaimed<'a> {
    fn new(sink: &'a Sink, lease: Lease) -> Self {
        Self {
            lease,
            sink: Some(sink),
        }
    }

    /// It goes to its client, who reports.
    fn handed_out(mut self) -> Lease {
        self.sink = None;
        self.lease.clone()
    }
}

impl Drop for Unclaimed<'_> {
    fn drop(&mut self) {
        let taken_back = self.sink.map(|sink| sink.take_back(&self.lease));
        if let Some(Err(error)) = taken_back {
            not_given_back(&self.lease, &error);
        }
    }
}

/// A process has ended: nobody will report about what it had.
fn process_ended(sink: &Sink, leases: &Leases, process: &ProcessId) {
    for lease in leases.process_ended(process, sink.now()) {
        give_back(&sink.current(), &lease);
    }
}

/// Nobody will report about the lease; a test that came with it is free for others.
fn give_back(sink: &Sink, lease: &Lease) {
    if lease.tests
        && let Err(error) = sink.report(lease, &CallOutcome::Abandoned)
    {
        not_given_back(lease, &error);
    }
}

fn not_given_back(lease: &Lease, error: &SinkError) {
    tracing::warn!(profile = %lease.profile, %error, "a test could not be given back");
}

/// What is asked of the sink.
fn request_of(
    sink: &Sink,
    caller: &Caller,
    agent: &AgentId,
    wanted: &LeaseRequest,
) -> Result<AcquireRequest, Refusal> {
    let (want, model) = want_of(sink, caller, agent, wanted)?;
    let mut request = AcquireRequest::new(agent.clone(), want);
    request.model = model;
    request.min_ttl = seconds("min_ttl", wanted.min_ttl, MIN_TTL_MAX)?;
    request.wait = seconds("deadline", wanted.deadline, DEADLINE_MAX)?.unwrap_or(WAIT);
    request.rejected = wanted.rejected.as_deref().map(Secret::new);
    let session = wanted.session.as_deref().map(SessionKey::parse).transpose();
    request.session = session.map_err(|error| Refusal::bad("bad_session", error.to_string()))?;
    Ok(request)
}

fn want_of(
    sink: &Sink,
    caller: &Caller,
    agent: &AgentId,
    wanted: &LeaseRequest,
) -> Result<(Want, Option<String>), Refusal> {
    let model = wanted.model.clone();
    match (&wanted.provider, &wanted.profile, &wanted.model) {
        (Some(provider), None, _) => {
            let definition = sink.registry().resolve(provider);
            let allowed = definition.is_ok_and(|definition| caller.may_use(&definition.id));
            if caller.providers.is_some() && !allowed {
                return Err(not_theirs(provider));
            }
            Ok((Want::Provider(provider.clone()), model))
        }
        (None, Some(profile), _) => {
            let id = ProfileId::parse(profile)
                .map_err(|error| Refusal::bad("bad_profile", format!("{profile:?}: {error}")))?;
            Ok((Want::Profile(id), model))
        }
        (None, None, Some(text)) => {
            let target = sink
                .resolve_model(agent, text)
                .map_err(|error| Refusal::from_sink(&error, sink.now()))?;
            if !caller.may_use(&target.provider) {
                return Err(not_theirs(text));
            }
            let want = match target.profile {
                Some(profile) => Want::Profile(profile),
                None => Want::Provider(target.provider.to_string()),
            };
            Ok((want, Some(target.model)))
        }
        _ => Err(Refusal::bad(
            "bad_lease",
            "give one of provider, profile and model",
        )),
    }
}

fn not_theirs(what: &str) -> Refusal {
    let message = format!("the client key does not allow {what}");
    Refusal::new(StatusCode::FORBIDDEN, "provider_not_allowed", message)
}

fn seconds(name: &str, given: Option<u64>, max: Duration) -> Result<Option<Duration>, Refusal> {
    let given = given.map(Duration::from_secs);
    if given.is_some_and(|given| given > max) {
        let message = format!("{name} may be {} seconds at most", max.as_secs());
        return Err(Refusal::bad("too_long", message));
    }
    Ok(given)
}

fn header_map(given: &BTreeMap<String, String>) -> Result<HeaderMap, Refusal> {
    given
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::bad("bad_report", "headers holds something that is no header field"))
}

fn lease_answer(sink: &Sink, agent: &AgentId, lease: &Lease) -> LeaseAnswer {
    let text = |(name, value): &(String, Secret)| (name.to_ascii_lowercase(), value.expose().to_owned());
    LeaseAnswer {
        id: lease.id.to_string(),
        agent: agent.to_string(),
        profile: lease.profile.to_string(),
        provider: lease.provider.to_string(),
        kind: lease.kind.as_str().to_owned(),
        token: lease.secret.expose().to_owned(),
        headers: lease.headers.iter().map(text).collect(),
        base_url: lease.base_url.clone(),
        expires_at: lease.expires.map(|at| at.0),
        expires_in: lease.expires.map(|at| sink.now().until(at).as_secs()),
        billing: lease.billing.as_str().to_owned(),
        model: lease.model.clone(),
        why: lease.why.to_owned(),
        tests: lease.tests,
        note: lease.note.clone(),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // The parser's words name fields and places; values of ours it could quote are no secrets.
    serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => error.to_string(),
            _ => format!("it is no JSON (line {}, column {})", error.line(), error.column()),
        };
        Refusal::bad("bad_body", format!("the body cannot be used: {what}"))
            .with_fix("see GET /tokensink/v1/openapi.json")
    })
}

fn json<T: Serialize>(value: &T) -> Response<Bytes> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = Response::new(Bytes::from(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
