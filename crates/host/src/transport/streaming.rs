//! One request and its answer as it comes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use tokensink_types::Body;

use super::exchange::{in_words, request_on};
use super::{OwnRuntime, Stream};
use crate::{AnswerStream, Arrived, ExchangeError};

type Asking = Pin<Box<dyn Future<Output = Result<Response<Incoming>, String>> + Send>>;

/// How far the request is.
enum State {
    Asking(Asking),
    Answering(Incoming),
    Over,
}

/// A request on a connection of its own. Everything moves only inside of a call.
pub(super) struct HttpStream {
    /// Dropped first, so that nothing moves any more when the rest goes.
    runtime: OwnRuntime,
    state: State,
    written: Arc<AtomicU64>,
    /// What TLS wrote for its handshake does not count.
    before: u64,
    authority: String,
}

impl HttpStream {
    pub(super) fn new(
        runtime: OwnRuntime,
        stream: Stream,
        written: Arc<AtomicU64>,
        request: Request<Full<Bytes>>,
        authority: String,
    ) -> Self {
        Self {
            runtime,
            state: State::Asking(Box::pin(request_on(stream, request))),
            before: written.load(Ordering::SeqCst),
            written,
            authority,
        }
    }

    fn failed(&mut self, cause: &str) -> ExchangeError {
        self.state = State::Over;
        let cause = format!("{}: {cause}", self.authority);
        if self.written.load(Ordering::SeqCst) == self.before {
            ExchangeError::NotWritten(cause)
        } else {
            ExchangeError::Ambiguous(cause)
        }
    }
}

impl fmt::Debug for HttpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpStream({})", self.authority)
    }
}

impl AnswerStream for HttpStream {
    fn head(&mut self, time: Duration) -> Result<Option<Response<()>>, ExchangeError> {
        let State::Asking(asking) = &mut self.state else {
            return Err(self.failed("the head was taken already"));
        };
        let outcome = self
            .runtime
            .block_on(async { tokio::time::timeout(time, asking.as_mut()).await });
        match outcome {
            Err(_) => Ok(None),
            Ok(Ok(response)) => {
                let (parts, body) = response.into_parts();
                self.state = State::Answering(body);
                Ok(Some(Response::from_parts(parts, ())))
            }
            Ok(Err(cause)) => Err(self.failed(&cause)),
        }
    }

    fn more(&mut self, time: Duration) -> Result<Arrived, ExchangeError> {
        let State::Answering(body) = &mut self.state else {
            return Err(self.failed("there is no answer to read"));
        };
        let next = async {
            // Trailers say nothing that anybody here reads.
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.map_err(|error| in_words(&error))?.into_data()
                    && !data.is_empty()
                {
                    return Ok(Arrived::Bytes(Body::new(data.to_vec())));
                }
            }
            Ok::<_, String>(Arrived::End)
        };
        let outcome = self
            .runtime
            .block_on(async { tokio::time::timeout(time, next).await });
        match outcome {
            Err(_) => Ok(Arrived::Nothing),
            Ok(Ok(arrived)) => Ok(arrived),
            Ok(Err(cause)) => Err(self.failed(&cause)),
        }
    }
}
