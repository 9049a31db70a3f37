//! Sending to the providers: endpoints, connections kept for the next request, and one request with its answer's head.
//!
//! Nothing is sent twice here, with one exception that cannot be billed: a kept connection that turns out to be dead
//! before a single byte was written is replaced by a new one. No redirect is followed.

mod connection;
mod pool;

use std::collections::HashMap;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use thiserror::Error;
use tokensink_host::{ConnectError, Destination, Dialer, in_words};
use url::Url;

use self::connection::{Connection, Driving};
pub(crate) use self::pool::Lending;
use self::pool::{Place, Pool};
use crate::bounds::Bounds;
use crate::stream::Upload;
use crate::time::{after_the_others, lately, now};

/// How often it is looked, within the time for the first byte, whether the server still takes bytes.
const LOOKS: u32 = 8;

/// Where a base URL leads.
#[derive(Debug)]
pub(crate) struct Endpoint {
    destination: Destination,
    /// Where its unused connections are.
    place: Arc<Place>,
    /// What its Host header says.
    pub(crate) host: HeaderValue,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    /// Nothing of the request was sent.
    #[error("{0}")]
    NotConnected(String),
    /// The server took the request and did not answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// The connection ended after something was sent.
    #[error("{0}")]
    CutOff(String),
    /// The client failed to send its request.
    #[error("{0}")]
    Client(String),
}

/// An answer that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) response: Response<Incoming>,
    pub(crate) lending: Lending,
}

/// The upstream side.
#[derive(Debug)]
pub(crate) struct Upstream {
    dialer: Dialer,
    pool: Arc<Pool>,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    bounds: Bounds,
}

impl Upstream {
    pub(crate) fn new(dialer: Dialer, bounds: Bounds) -> Self {
        Self {
            dialer,
            pool: Arc::new(Pool::new(bounds.pool_idle, bounds.pool_idle_max)),
            endpoints: Mutex::default(),
            bounds,
        }
    }

    /// The endpoint of a base URL.
    ///
    /// # Errors
    /// When it is no http(s) URL that may be connected to.
    pub(crate) fn endpoint(&self, base_url: &str) -> Result<Arc<Endpoint>, String> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(base_url) {
            return Ok(Arc::clone(endpoint));
        }
        let url = Url::parse(base_url).map_err(|error| format!("{base_url}: {error}"))?;
        let destination = self.dialer.destination(&url).map_err(|error| error.to_string())?;
        let host = HeaderValue::from_str(&destination.host_header())
            .map_err(|error| format!("{base_url}: {error}"))?;
        let endpoint = Arc::new(Endpoint {
            place: self.pool.place(&destination),
            destination,
            host,
        });
        endpoints.insert(base_url.to_owned(), Arc::clone(&endpoint));
        Ok(endpoint)
    }

    /// Closes connections that were unused for long.
    pub(crate) fn sweep(&self) {
        self.pool.sweep(lately());
    }

    /// Sends a request and waits for the head of the answer. `again` makes the request once more for as long as it can
    /// be had; it is asked only when nothing of the request before was sent.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(crate) async fn send(
        &self,
        endpoint: &Arc<Endpoint>,
        mut again: impl FnMut() -> Option<Request<Upload>>,
    ) -> Result<Begun, Fault> {
        let mut pending = None;
        loop {
            let kept = self.pool.take(&endpoint.place, lately()).await;
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => Box::pin(self.connect(endpoint)).await?,
            };
            let Some(request) = pending.take().or_else(&mut again) else {
                return Err(Fault::Client("the request can no longer be sent".to_owned()));
            };
            after_the_others().await;
            match self.exchange(&mut connection, request).await {
                Ok((response, driving)) => {
                    let lending = Lending::new(&self.pool, connection, driving, endpoint);
                    return Ok(Begun { response, lending });
                }
                Err(Unanswered::NothingSent { request, .. }) if is_kept => {
                    pending = request.map(|request| *request);
                }
                Err(Unanswered::NothingSent { cause, .. }) => {
                    return Err(Fault::NotConnected(format!("{}: {cause}", endpoint.destination)));
                }
                Err(Unanswered::Fault(fault)) => return Err(fault),
            }
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Fault> {
        let not_connected = |error: ConnectError| Fault::NotConnected(error.to_string());
        let dialed = self
            .dialer
            .dial(&endpoint.destination, self.bounds.connect)
            .await
            .map_err(not_connected)?;
        Connection::over(dialed)
            .await
            .map_err(|cause| Fault::NotConnected(format!("{}: {cause}", endpoint.destination)))
    }

    /// One request over one connection, up to the head of its answer.
    async fn exchange(
        &self,
        connection: &mut Connection,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Option<Driving>), Unanswered> {
        let client = request.body().trouble();
        // A body that still comes goes up also while the answer is not taken, which is for the connection's own task.
        let driving = request.body().is_whole().then(|| connection.drive());
        let written = Arc::clone(&connection.written);
        let before = written.load(Ordering::SeqCst);
        let Connection { sender, alarm, .. } = connection;
        let answer = sender.try_send_request(request);
        tokio::pin!(answer);
        let mut answer = poll_fn(|context| match &driving {
            Some(driving) => driving.poll(context, |context| answer.as_mut().poll(context)),
            None => answer.as_mut().poll(context),
        });
        // The time counts from the last byte that the server took: a long upload is no silence.
        let (mut seen, mut silent) = (before, 0);
        let outcome = loop {
            let look = now() + self.bounds.first_byte / LOOKS;
            let came = poll_fn(|context| match Pin::new(&mut answer).poll(context) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => alarm.poll(look, context).map(|()| None),
            });
            if let Some(outcome) = came.await {
                break outcome;
            }
            let taken = written.load(Ordering::SeqCst);
            silent = if taken == seen { silent + 1 } else { 0 };
            seen = taken;
            if silent >= LOOKS {
                let time = self.bounds.first_byte;
                return Err(Fault::TimedOut(format!("no answer began within {time:?}")).into());
            }
        };
        let mut error = match outcome {
            Ok(response) => return Ok((response, driving)),
            Err(error) => error,
        };
        if let Some(trouble) = client.take() {
            return Err(Fault::Client(trouble).into());
        }
        let request = error.take_message().map(Box::new);
        let cause = in_words(error.error());
        if written.load(Ordering::SeqCst) == before {
            return Err(Unanswered::NothingSent { cause, request });
        }
        Err(Fault::CutOff(format!(
            "the upstream ended the connection before its answer: {cause}"
        ))
        .into())
    }
}

/// How an exchange failed.
enum Unanswered {
    NothingSent {
        cause: String,
        /// The request, where the library gave it back whole.
        request: Option<Box<Request<Upload>>>,
    },
    Fault(Fault),
}

impl From<Fault> for Unanswered {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
