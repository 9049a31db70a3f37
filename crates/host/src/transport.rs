//! HTTP/1.1 to token endpoints over a connection of its own: hyper without a pool, redirects or retries.
//!
//! Connecting (name, TCP, proxy, TLS) and the exchange are separate steps, so that everything that can fail for free
//! fails before a refresh is recorded as sent. A byte counter between TLS and the kernel then decides whether a
//! failed exchange can have reached the server ([`ExchangeError`]); no error text of a library is interpreted for it.
//!
//! Plain http is accepted for loopback hosts only, and those are never reached through a proxy.
//! Every connection has a small runtime of its own, so callers need none. They must not *be* on one: an async program
//! calls this from a blocking thread.

mod dial;
mod exchange;
mod joined;
mod proxy;
mod streaming;
mod tls;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use url::Url;

pub use self::dial::{ByteStream, CONNECT_TIME, Destination, Dialed, Dialer, Stream};
use self::exchange::HttpConnection;
pub use self::exchange::in_words;
pub use self::joined::poll_write_parts;
use crate::{ConnectError, ConnectPhase, Connection, Environment, Transport};

/// The real [`Transport`].
#[derive(Debug)]
pub struct HttpTransport {
    dialer: Dialer,
}

impl HttpTransport {
    /// A transport that connects as [`Dialer::new`] says.
    #[must_use]
    pub fn new(env: Arc<dyn Environment>, extra_ca: Vec<PathBuf>) -> Self {
        Self {
            dialer: Dialer::new(env, extra_ca),
        }
    }
}

impl Transport for HttpTransport {
    fn connect(&self, url: &Url, deadline: Duration) -> Result<Box<dyn Connection>, ConnectError> {
        let to = self.dialer.destination(url)?;
        let runtime = OwnRuntime::new().map_err(|cause| ConnectError {
            origin: to.to_string(),
            phase: ConnectPhase::Dns,
            cause,
            hint: None,
        })?;
        let dialed = runtime.block_on(self.dialer.dial(&to, deadline))?;
        Ok(Box::new(HttpConnection::new(runtime, dialed, to)))
    }
}

/// A runtime that does not wait for a name lookup that hangs when it is dropped.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .map_err(|error| format!("no event loop: {error}"))?;
        Ok(Self(Some(runtime)))
    }

    #[expect(clippy::expect_used, reason = "only drop takes the runtime out")]
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("the runtime is there").block_on(future)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
