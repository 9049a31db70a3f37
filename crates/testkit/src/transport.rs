//! HTTP without a network: scripted answers and faults, or a handler in the same process.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use tokensink_host::{ConnectError, ConnectPhase, Connection, ExchangeError, Limits, Transport};
use tokensink_types::Body;
use url::Url;

/// What one call of the transport comes to.
#[derive(Debug, Clone)]
pub enum Scripted {
    /// The connection fails; nothing was sent.
    NoConnection(ConnectError),
    /// The exchange ends like this.
    Exchange(Result<Response<Body>, ExchangeError>),
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
        };
        if !matches!(result, Err(ExchangeError::NotWritten(_))) {
            transport.script().requests.push(sent);
        }
        result
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
