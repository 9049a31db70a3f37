//! HTTP without a network: scripted answers and faults, or a handler in the same process.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use tokensink_host::{
    AnswerStream, ConnectError, ConnectPhase, Connection, ExchangeError, Limits, Transport,
};
use tokensink_types::Body;
use url::Url;

use crate::FakeClock;
use crate::streams::{ScriptedStream, Step};

/// What one call of the transport comes to.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// The connection fails; nothing was sent.
    NoConnection(ConnectError),
    /// The exchange ends like this.
    Exchange(Result<Response<Body>, ExchangeError>),
    /// The answer comes in steps, after this head. It is for whoever reads it as it comes.
    Streamed(Response<()>, Vec<Step>),
}

impl Scripted {
    /// An answer with this status and JSON body.
    ///
    /// # Panics
    /// When `status` is not between 100 and 999.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(Body::new(body))
            .expect("a valid status");
        Self::Exchange(Ok(response))
    }

    /// No connection in the phase `phase`.
    #[must_use]
    pub fn no_connection(phase: ConnectPhase) -> Self {
        Self::NoConnection(ConnectError {
            origin: "https://scripted.invalid".to_owned(),
            phase,
            cause: "scripted failure".to_owned(),
            hint: None,
        })
    }

    /// The connection stands, but no byte of the request leaves.
    #[must_use]
    pub fn not_written() -> Self {
        Self::Exchange(Err(ExchangeError::NotWritten("scripted failure".to_owned())))
    }

    /// An event stream that comes in steps.
    #[must_use]
    pub fn events(steps: impl Into<Vec<Step>>) -> Self {
        let mut head = Response::new(());
        let kind = http::HeaderValue::from_static("text/event-stream");
        head.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        Self::Streamed(head, steps.into())
    }

    /// The request leaves and no answer comes.
    #[must_use]
    pub fn ambiguous() -> Self {
        Self::Exchange(Err(ExchangeError::Ambiguous("scripted failure".to_owned())))
    }
}

/// Answers requests in the same process.
pub type Exchange = dyn Fn(Request<Body>) -> Result<Response<Body>, ExchangeError> + Send + Sync;

/// A transport by script. What is pushed comes first, in order, one item per connection; then the handler, if there
/// is one; then every connection fails with a message that says so. Clones share one script.
#[derive(Debug, Clone, Default)]
pub struct ScriptedTransport(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    queue: VecDeque<Scripted>,
    handler: Option<Arc<Exchange>>,
    requests: Vec<Request<Body>>,
    connections: usize,
    /// Moves on while a stream is silent.
    clock: Option<FakeClock>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} scripted, {} requests seen",
            self.queue.len(),
            self.requests.len()
        )
    }
}

impl ScriptedTransport {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what the next connection that has no script yet comes to.
    pub fn push(&self, scripted: Scripted) {
        self.script().queue.push_back(scripted);
    }

    /// Answers everything that is not scripted.
    pub fn on_request(
        &self,
        handler: impl Fn(Request<Body>) -> Result<Response<Body>, ExchangeError> + Send + Sync + 'static,
    ) {
        self.script().handler = Some(Arc::new(handler));
    }

    /// While a stream is silent, `clock` moves on by the time for which it is listened to.
    pub fn silence_moves(&self, clock: &FakeClock) {
        self.script().clock = Some(clock.clone());
    }

    /// All requests that were sent so far, in order, those with an unknown outcome among them.
    #[must_use]
    pub fn requests(&self) -> Vec<Request<Body>> {
        self.script().requests.clone()
    }

    /// How many connections were asked for.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.script().connections
    }

    /// How many scripted items are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.script().queue.len()
    }
}

impl Transport for ScriptedTransport {
    fn connect(&self, url: &Url, _deadline: Duration) -> Result<Box<dyn Connection>, ConnectError> {
        let mut script = self.script();
        script.connections += 1;
        let outcome = match script.queue.pop_front() {
            Some(Scripted::NoConnection(error)) => return Err(error),
            Some(Scripted::Exchange(result)) => Outcome::Fixed(result),
            Some(Scripted::Streamed(head, steps)) => Outcome::Streamed(head, steps),
            None => match &script.handler {
                Some(handler) => Outcome::Handler(Arc::clone(handler)),
                None => {
                    return Err(ConnectError {
                        origin: url.origin().ascii_serialization(),
                        phase: ConnectPhase::Tcp,
                        cause: "the test scripted no answer for this connection".to_owned(),
                        hint: None,
                    });
                }
            },
        };
        Ok(Box::new(ScriptedConnection {
            transport: self.clone(),
            outcome,
        }))
    }
}

enum Outcome {
    Fixed(Result<Response<Body>, ExchangeError>),
    Streamed(Response<()>, Vec<Step>),
    Handler(Arc<Exchange>),
}

struct ScriptedConnection {
    transport: ScriptedTransport,
    outcome: Outcome,
}

impl fmt::Debug for ScriptedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedConnection")
    }
}

impl Connection for ScriptedConnection {
    fn exchange(
        self: Box<Self>,
        request: Request<Body>,
        _limits: Limits,
    ) -> Result<Response<Body>, ExchangeError> {
        let Self { transport, outcome } = *self;
        let sent = request.clone();
        let result = match outcome {
            Outcome::Fixed(result) => result,
            Outcome::Handler(handler) => handler(request),
            Outcome::Streamed(..) => panic!("the test scripted a stream for an exchange"),
        };
        if !matches!(result, Err(ExchangeError::NotWritten(_))) {
            transport.script().requests.push(sent);
        }
        result
    }

    fn start(self: Box<Self>, request: Request<Body>) -> Result<Box<dyn AnswerStream>, ExchangeError> {
        let Self { transport, outcome } = *self;
        let clock = transport.script().clock.clone();
        let sent = request.clone();
        let (answer, steps) = match outcome {
            Outcome::Streamed(head, steps) => (Ok(head), steps),
            Outcome::Fixed(result) => whole(result),
            Outcome::Handler(handler) => whole(handler(request)),
        };
        if !matches!(answer, Err(ExchangeError::NotWritten(_))) {
            transport.script().requests.push(sent);
        }
        Ok(Box::new(ScriptedStream::new(clock, answer, steps)))
    }
}

/// A whole answer as a stream.
fn whole(result: Result<Response<Body>, ExchangeError>) -> (Result<Response<()>, ExchangeError>, Vec<Step>) {
    match result {
        Err(error) => (Err(error), Vec::new()),
        Ok(response) => {
            let (parts, body) = response.into_parts();
            (Ok(Response::from_parts(parts, ())), vec![Step::Bytes(body)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(transport: &ScriptedTransport) -> Result<Response<Body>, ExchangeError> {
        let url = Url::parse("https://as.test/token").unwrap();
        let connection = transport.connect(&url, Duration::ZERO).unwrap();
        let limits = Limits {
            time: Duration::from_secs(1),
            body_bytes: 1,
        };
        connection.exchange(Request::new(Body::new("x")), limits)
    }

    #[test]
    fn scripted_items_come_first_then_the_handler() {
        let transport = ScriptedTransport::default();
        transport.push(Scripted::json(400, "{}"));
        transport.push(Scripted::not_written());
        transport.push(Scripted::ambiguous());
        transport.on_request(|_| Ok(Response::new(Body::new("handled"))));
        assert_eq!(exchange(&transport).unwrap().status(), 400);
        assert!(matches!(exchange(&transport), Err(ExchangeError::NotWritten(_))));
        assert!(matches!(exchange(&transport), Err(ExchangeError::Ambiguous(_))));
        assert_eq!(exchange(&transport).unwrap().body().expose(), b"handled");
        assert_eq!(
            transport.requests().len(),
            3,
            "what was not written is no request"
        );
        assert_eq!((transport.connections(), transport.left()), (4, 0));
    }

    #[test]
    fn an_empty_script_says_so() {
        let url = Url::parse("https://as.test/token").unwrap();
        let error = ScriptedTransport::default()
            .connect(&url, Duration::ZERO)
            .unwrap_err();
        assert!(error.cause.contains("scripted no answer"), "{error}");
    }
}
