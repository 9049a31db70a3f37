//! One request from its head to the head of its answer: who asks, for what, and what is told when it cannot be had.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Bytes, Incoming};
use tokensink_host::Dialer;
use tokensink_sink::{Cancel, Host, Sink};

use crate::api::{Api, BODY_MAX};
use crate::attempts::{Job, PROFILE, REQUEST};
use crate::bounds::Bounds;
use crate::client::Line;
use crate::directory::{Directory, offered};
use crate::guard::{Caller, Guard};
use crate::landings::Landings;
use crate::log::{Told, Trail};
use crate::metrics::{self, Metrics};
use crate::outfit::Outfits;
use crate::replay::{Held, Memory};
use crate::request::decode::{DecodedBody, decode, room};
use crate::request::errors::{ErrorShape, Refusal};
use crate::request::models::models;
use crate::request::plan::{BodyUse, Plan, body_use, error_shape, plan};
use crate::request::route::{Route, route, unknown_path};
use crate::server::Options;
use crate::slots::Slots;
use crate::stream::Answer;
use crate::threads::Threads;
use crate::ties::Ties;
use crate::time::after_the_others;
use crate::upstream::Upstream;

/// Bodies above this size are looked into on another thread: the search runs at about a gigabyte per second, and an
/// event loop should not stand still for a millisecond.
const LOOK_INLINE: usize = 512 * 1024;
/// The same for compressed ones.
const DECODE_INLINE: usize = 16 * 1024;

/// What requests need.
#[derive(Debug)]
pub(crate) struct Relay {
    sink: Sink,
    pub(crate) upstream: Upstream,
    guard: Guard,
    api: Api,
    memory: Memory,
    pub(crate) slots: Slots,
    pub(crate) outfits: Outfits,
    pub(crate) ties: Arc<Ties>,
    pub(crate) threads: Threads,
    pub(crate) landings: Landings,
    pub(crate) bounds: Bounds,
    metrics: Arc<Metrics>,
}

impl Relay {
    pub(crate) fn new(sink: Sink, guard: Guard, dialer: Dialer, options: &Options) -> Self {
        Self {
            guard,
            api: Api::new(sink.clone()),
            sink,
            upstream: Upstream::new(dialer, options.bounds),
            memory: Memory::new(&options.bounds),
            slots: Slots::new(options.bounds),
            outfits: Outfits::default(),
            ties: Arc::default(),
            threads: Threads::default(),
            landings: Landings::default(),
            metrics: Arc::default(),
            bounds: options.bounds,
        }
    }

    /// The world in use.
    pub(crate) fn host(&self) -> &Host {
        self.sink.host()
    }

    pub(crate) fn sweep(&self) {
        self.upstream.sweep();
        self.guard.sweep();
    }

    /// Answers a request. Whatever happens, there is an answer.
    pub(crate) async fn answer(&self, line: &Arc<Line>, request: Request<Incoming>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let sink = self.sink.current();
        let has_body = !body.is_end_stream();
        let mut told = Told::new(&self.metrics, &sink, &head);
        let trail = told.trail();
        let mut response = match self.serve(&sink, &head, body, line, &trail).await {
            Ok(response) => response,
            Err(refusal) => {
                tracing::debug!(peer = %line.peer(), status = %refusal.status, "{}", refusal.message);
                trail.refused(refusal.code);
                if has_body {
                    line.leave_body_unread();
                }
                refusal.answer(shape(&sink, &head), None).map(Answer::whole)
            }
        };
        after_the_others().await;
        told.answers(response.status());
        if !response.status().is_success() {
            response
                .headers_mut()
                .entry(REQUEST)
                .or_insert_with(|| trail.name());
        }
        let response = if response.headers().contains_key(PROFILE) {
            response.map(|body| body.held_by(|inner| told.passes_on(inner)))
        } else {
            told.whole();
            response
        };
        response.map(|body| body.in_turn(line.answering()))
    }

    async fn serve(
        &self,
        sink: &Sink,
        head: &Parts,
        body: Incoming,
        line: &Line,
        trail: &Trail,
    ) -> Result<Response<Answer>, Refusal> {
        speaks(head)?;
        let caller = self.guard.authenticate(&head.headers, &head.uri, line.local())?;
        trail.caller(&caller);
        let route = route(&head.method, &head.uri, &head.headers)?;
        match route {
            Route::Passthrough { .. } | Route::Model(_) => {}
            Route::Models { id } => return Box::pin(list(sink, head, caller, id)).await,
            Route::Lease | Route::Report | Route::Bindings | Route::OpenApi | Route::Health => {
                return Box::pin(self.own(route, caller, body)).await;
            }
            Route::Metrics => return Box::pin(self.numbers(sink, &caller)).await,
            Route::Unknown => return Err(unknown_path(head.uri.path())),
        }
        let room = self.slots.request().await?;
        let must_be_read = body_use(&route, &head.method, &head.headers) == BodyUse::Read;
        let wait = must_be_read.then_some(self.bounds.queue_time);
        let mut held = self.memory.read(body, wait).await?;
        let plan = Arc::new(self.plan(sink, head, route, &caller, &held).await?);
        trail.plan(&plan);
        if let Some(edit) = &plan.body_edit {
            held.replace(|bytes| edit.apply(bytes).into());
        }
        if !held.is_whole() {
            line.leave_body_unread();
        }
        let job = Job {
            relay: self,
            sink,
            head,
            plan: &plan,
            trail,
        };
        job.run(&mut held, room).await
    }

    /// Answers at an endpoint of our own.
    async fn own(
        &self,
        route: Route,
        caller: Arc<Caller>,
        body: Incoming,
    ) -> Result<Response<Answer>, Refusal> {
        let held = self.memory.read(body, Some(self.bounds.queue_time)).await?;
        let Some(bytes) = held.whole().filter(|bytes| bytes.len() <= BODY_MAX) else {
            let text = format!("the body has more than {BODY_MAX} bytes");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
        };
        let api = self.api.clone();
        // A lease may have to wait for a refresh, and each that waits takes a thread: they have room of their own, so that
        // there are threads left for the others. When the caller leaves, the thread ends its waiting. Everything else is
        // answered at once, however many streams there are.
        let room = match route {
            Route::Lease => Some(self.slots.lease().await?),
            _ => None,
        };
        let left = Leaving::default();
        let cancel = left.0.clone();
        let answering = tokio::task::spawn_blocking(move || {
            let answer = api.answer(&route, &caller, &bytes, &cancel);
            drop(room);
            answer
        });
        match answering.await {
            Ok(Some(answer)) => Ok(answer.map(Answer::whole)),
            Ok(None) | Err(_) => Err(internal("the request could not be answered")),
        }
    }

    /// `/metrics`: numbers of all agents, so only for a key of agent main.
    async fn numbers(&self, sink: &Sink, caller: &Caller) -> Result<Response<Answer>, Refusal> {
        if !caller.agent.is_main() {
            let text = "the numbers are of all agents; this key is not of agent main";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "not_main", text)
                .with_fix("tokensink keys add metrics --agent main"));
        }
        let asking = sink.clone();
        let gauges = tokio::task::spawn_blocking(move || asking.gauges()).await;
        let gauges = gauges.map_err(|_| internal("the numbers could not be read"))?;
        let gauges = gauges.map_err(|error| Refusal::from_sink(&error, sink.now()))?;
        let text = self
            .metrics
            .text(&gauges)
            .map_err(|_| internal("the numbers could not be written"))?;
        let mut response = Response::new(Answer::whole(Bytes::from(text)));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
        Ok(response)
    }

    /// What is to be done, by what can be read of the body.
    async fn plan(
        &self,
        sink: &Sink,
        head: &Parts,
        route: Route,
        caller: &Arc<Caller>,
        held: &Held,
    ) -> Result<Plan, Refusal> {
        let wanted = body_use(&route, &head.method, &head.headers);
        let bytes = match wanted {
            BodyUse::None => None,
            BodyUse::Look | BodyUse::Read => held.whole(),
        };
        if wanted == BodyUse::Read && bytes.is_none() {
            return Err(self.memory.refusal());
        }
        let is_encoded = head.headers.contains_key(http::header::CONTENT_ENCODING);
        let inline = if is_encoded { DECODE_INLINE } else { LOOK_INLINE };
        let compressed = bytes.as_ref().filter(|_| is_encoded);
        let needed = compressed.map_or(0, |bytes| room(&head.headers, bytes.len()));
        let memory = match needed {
            0 => None,
            needed => Some(Box::pin(self.memory.to_decode(needed, self.bounds.queue_time)).await?),
        };
        if bytes.as_ref().is_none_or(|bytes| bytes.len() <= inline) {
            return judge(sink, head, &route, caller, bytes, wanted);
        }
        let (sink, head, caller) = (sink.clone(), head.clone(), Arc::clone(caller));
        // It stays taken when the client leaves, for as long as the thread needs it.
        let judging = move || {
            let plan = judge(&sink, &head, &route, &caller, bytes, wanted);
            drop(memory);
            plan
        };
        Box::pin(self.threads.run(judging))
            .await
            .unwrap_or_else(|_| Err(internal("the request could not be judged")))
    }
}

/// Tells a thread that works for a client when the client has left, which drops this.
#[derive(Debug, Default)]
pub(crate) struct Leaving(pub(crate) Cancel);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn judge(
    sink: &Sink,
    head: &Parts,
    route: &Route,
    caller: &Caller,
    bytes: Option<Bytes>,
    wanted: BodyUse,
) -> Result<Plan, Refusal> {
    let decoded: Option<DecodedBody> = match bytes.map(|bytes| decode(&head.headers, &bytes)) {
        Some(Err(refusal)) if wanted == BodyUse::Read => return Err(refusal),
        Some(decoded) => decoded.ok(),
        None => None,
    };
    plan(route, head, decoded.as_ref(), caller.rights(), &Directory(sink))
}

/// What the caller may use. The catalogue is made from files, which is not for an event loop.
async fn list(
    sink: &Sink,
    head: &Parts,
    caller: Arc<Caller>,
    id: Option<String>,
) -> Result<Response<Answer>, Refusal> {
    let (sink, headers) = (sink.clone(), head.headers.clone());
    let listing = tokio::task::spawn_blocking(move || {
        let offered =
            offered(&sink, &caller.agent).map_err(|error| Refusal::from_sink(&error, sink.now()))?;
        models(id.as_deref(), &offered, &headers, caller.rights())
    });
    let list = listing
        .await
        .unwrap_or_else(|_| Err(internal("the models could not be listed")))?;
    let mut response = Response::new(Answer::whole(Bytes::from(list.to_string())));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// How errors of this request are written.
fn shape(sink: &Sink, head: &Parts) -> ErrorShape {
    let route = route(&head.method, &head.uri, &head.headers).unwrap_or(Route::Unknown);
    error_shape(&route, &head.headers, &Directory(sink))
}

/// HTTP/1.1 it must be: a client of HTTP/1.0 could not tell a cut answer from a whole one.
fn speaks(head: &Parts) -> Result<(), Refusal> {
    if head.version == Version::HTTP_11 {
        return Ok(());
    }
    let refusal = Refusal::new(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "http_version",
        "HTTP/1.1 is spoken here",
    );
    Err(refusal.with_fix("set the client to HTTP/1.1"))
}

/// A fault of the gateway's own.
pub(crate) fn internal(text: &str) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
}

/// Says how long a body is, where that is known. An empty one is announced only where the client did.
pub(crate) fn set_length(headers: &mut HeaderMap, length: Option<u64>, announced: Option<&HeaderValue>) {
    if let Some(length) = length.filter(|length| announced.is_some() || *length > 0) {
        let says_so =
            |text: &&HeaderValue| text.to_str().ok().and_then(|text| text.parse().ok()) == Some(length);
        let value = announced.filter(says_so).cloned();
        headers.insert(CONTENT_LENGTH, value.unwrap_or_else(|| HeaderValue::from(length)));
    }
}
