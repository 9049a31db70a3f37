//! One request from its head to the head of its answer: who asks, which account, which way.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use tokensink_host::Dialer;
use tokensink_sink::{AcquireRequest, AgentId, ErrorKind, Lease, Secret, Sink, SinkError, Want};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::Bounds;
use crate::caller::{Caller, authenticate};
use crate::client::Line;
use crate::passthrough::{client_headers, provider_of, upstream_headers};
use crate::refusal::Refusal;
use crate::replay::{Held, Memory};
use crate::server::Options;
use crate::stream::{Answer, Ended, Hold, Upload};
use crate::time::within;
use crate::upstream::{Begun, Endpoint, Fault, Upstream};

/// The attempt loop and what it needs.
#[derive(Debug)]
pub(crate) struct Relay {
    sink: Sink,
    upstream: Upstream,
    keys: Vec<(Secret, AgentId)>,
    memory: Memory,
    requests: Arc<Semaphore>,
    bounds: Bounds,
}

/// What is to be sent.
struct Wanted {
    provider: String,
    /// Path and query below the base URL.
    rest: String,
    agent: AgentId,
}

/// A lease in the form in which it is sent.
struct Ready {
    headers: Vec<(HeaderName, HeaderValue)>,
    endpoint: Arc<Endpoint>,
    profile: HeaderValue,
}

impl Relay {
    pub(crate) fn new(sink: Sink, dialer: Dialer, options: &Options) -> Self {
        Self {
            sink,
            upstream: Upstream::new(dialer, options.bounds),
            keys: options.keys.clone(),
            memory: Memory::new(&options.bounds),
            requests: Arc::new(Semaphore::new(options.bounds.requests)),
            bounds: options.bounds,
        }
    }

    pub(crate) fn sweep(&self) {
        self.upstream.sweep();
    }

    /// Answers a request. Whatever happens, there is an answer.
    pub(crate) async fn answer(&self, line: &Arc<Line>, request: Request<Incoming>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let response = match self.serve(&head, body, line).await {
            Ok(response) => response,
            Err(refusal) => {
                tracing::debug!(peer = %line.peer(), status = %refusal.status, "{}", refusal.message);
                if has_body {
                    line.leave_body_unread();
                }
                refusal.into_response()
            }
        };
        response.map(|body| body.in_turn(line.answering()))
    }

    async fn serve(&self, head: &Parts, body: Incoming, line: &Line) -> Result<Response<Answer>, Refusal> {
        acceptable(head)?;
        let caller = authenticate(&head.headers, &self.keys)?;
        let wanted = wanted(head, caller)?;
        let room = self.room().await?;
        let mut held = self.memory.read(body, self.bounds.upload_idle).await?;
        let lease = self.lease(&wanted).await?;
        let ready = self.ready(&lease)?;
        let begun = self.attempt(head, &wanted, &ready, &mut held).await?;
        if !held.is_whole() {
            line.leave_body_unread();
        }
        Ok(self
            .pass_on(begun, &ready)?
            .map(|answer| answer.holding(Box::new(Room(room)))))
    }

    /// Room among the requests that are served at a time.
    async fn room(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let waiting = within(self.bounds.queue_time, Arc::clone(&self.requests).acquire_owned());
        match waiting.await {
            Some(Ok(room)) => Ok(room),
            _ => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded_error",
                format!("{} requests are under way, and none ended", self.bounds.requests),
            )
            .retry_after(std::time::Duration::from_secs(1))),
        }
    }

    async fn lease(&self, wanted: &Wanted) -> Result<Lease, Refusal> {
        let sink = self.sink.clone();
        let request = AcquireRequest::new(wanted.agent.clone(), Want::Provider(wanted.provider.clone()));
        let leased = tokio::task::spawn_blocking(move || sink.acquire(&request)).await;
        match leased {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(error)) => Err(no_lease(&error, self.sink.now())),
            Err(_) => Err(internal("the lease could not be made")),
        }
    }

    fn ready(&self, lease: &Lease) -> Result<Ready, Refusal> {
        let base_url = lease.base_url.as_deref().ok_or_else(|| {
            let text = format!(
                "the provider {} has no base_url to send requests to",
                lease.provider
            );
            Refusal::new(StatusCode::NOT_FOUND, "not_found_error", text)
        })?;
        let endpoint = self
            .upstream
            .endpoint(base_url)
            .map_err(|error| bad_gateway(&error))?;
        let header = |(name, value): &(String, Secret)| {
            let name = HeaderName::try_from(name).ok()?;
            let mut value = HeaderValue::try_from(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let headers = lease.headers.iter().map(header).collect::<Option<_>>();
        Ok(Ready {
            headers: headers.ok_or_else(|| internal("the lease's headers cannot be sent"))?,
            endpoint,
            profile: HeaderValue::try_from(lease.profile.as_str())
                .map_err(|_| internal("the profile's id cannot be sent"))?,
        })
    }

    /// Sends the request once with this lease.
    async fn attempt(
        &self,
        head: &Parts,
        wanted: &Wanted,
        ready: &Ready,
        held: &mut Held,
    ) -> Result<Begun, Refusal> {
        let path = ready
            .endpoint
            .path(&wanted.rest)
            .map_err(|error| bad_gateway(&error.to_string()))?;
        let mut headers = upstream_headers(&head.headers);
        for (name, value) in &ready.headers {
            headers.insert(name, value.clone());
        }
        headers.insert(HOST, ready.endpoint.host.clone());
        // An empty body is announced only where the client did.
        let announced = head.headers.contains_key(CONTENT_LENGTH);
        let request = || {
            let body = held.upload(self.bounds.upload_idle)?;
            let mut request = Request::new(body);
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = path.clone().into();
            *request.headers_mut() = with_length(headers.clone(), announced, request.body());
            Some(request)
        };
        self.upstream
            .send(&ready.endpoint, request)
            .await
            .map_err(|fault| refused_by(&fault))
    }

    /// The answer's head for the client, with the body behind it.
    fn pass_on(&self, begun: Begun, ready: &Ready) -> Result<Response<Answer>, Refusal> {
        let Begun { response, lending } = begun;
        let (head, body) = response.into_parts();
        let is_redirect = head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED;
        if is_redirect || head.status == StatusCode::SWITCHING_PROTOCOLS {
            let text = format!(
                "the upstream answered with {}, which is not followed",
                head.status
            );
            return Err(bad_gateway(&text));
        }
        let mut response = Response::new(Answer::relayed(body, lending, self.bounds.answer_idle));
        *response.status_mut() = head.status;
        *response.headers_mut() = client_headers(&head.headers);
        response.headers_mut().insert(PROFILE, ready.profile.clone());
        Ok(response)
    }
}

/// The header of an answer that names the account.
const PROFILE: HeaderName = HeaderName::from_static("x-tokensink-profile");

/// Room that a request takes until its answer is over.
#[derive(Debug)]
struct Room(#[expect(dead_code, reason = "it is held, not read")] OwnedSemaphorePermit);

impl Hold for Room {
    fn ended(&mut self, _: Ended) {}
}

/// What cannot be served whatever it is for.
fn acceptable(head: &Parts) -> Result<(), Refusal> {
    if head.version != Version::HTTP_11 {
        // An HTTP/1.0 client could not tell a cut answer from a whole one.
        let text = "HTTP/1.1 is spoken here";
        return Err(Refusal::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "invalid_request_error",
            text,
        ));
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        let text = format!("{} is not served", head.method);
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            text,
        ));
    }
    if head.headers.contains_key(UPGRADE) {
        let text = "connections are not upgraded here; use plain HTTP requests";
        return Err(Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "invalid_request_error",
            text,
        ));
    }
    Ok(())
}

fn wanted(head: &Parts, caller: Caller) -> Result<Wanted, Refusal> {
    let path = head.uri.path_and_query().map_or("*", |path| path.as_str());
    let (provider, rest) = provider_of(path).ok_or_else(|| {
        let text = "the path names no provider: /<provider>/… is passed on to it";
        Refusal::new(StatusCode::NOT_FOUND, "not_found_error", text)
    })?;
    Ok(Wanted {
        provider: provider.to_owned(),
        rest,
        agent: caller.agent,
    })
}

fn with_length(mut headers: HeaderMap, announced: bool, body: &Upload) -> HeaderMap {
    if let Some(length) = body.size_hint().exact().filter(|length| announced || *length > 0) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers
}

fn no_lease(error: &SinkError, now: tokensink_sink::UnixMillis) -> Refusal {
    let (status, kind) = match error.kind() {
        ErrorKind::LoginNeeded => (StatusCode::UNAUTHORIZED, "authentication_error"),
        ErrorKind::TryAgain => (StatusCode::SERVICE_UNAVAILABLE, "overloaded_error"),
        ErrorKind::Usage => (StatusCode::NOT_FOUND, "not_found_error"),
        ErrorKind::Failed => (StatusCode::BAD_GATEWAY, "api_error"),
    };
    let refusal = Refusal::new(status, kind, error.to_string());
    match error.retry_at() {
        Some(until) => refusal.retry_after(now.until(until)),
        None => refusal,
    }
}

fn refused_by(fault: &Fault) -> Refusal {
    match fault {
        Fault::NotConnected(text) | Fault::CutOff(text) => bad_gateway(text),
        Fault::TimedOut(text) => Refusal::new(StatusCode::GATEWAY_TIMEOUT, "timeout_error", text),
        Fault::Client(text) => Refusal::new(StatusCode::BAD_REQUEST, "invalid_request_error", text),
    }
}

fn bad_gateway(text: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, "api_error", text)
}

fn internal(text: &str) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", text)
}
