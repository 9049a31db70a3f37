//! One connection to a provider, and whose task brings it on.
//!
//! The HTTP library reads and writes when its connection is polled, by whatever task. Between two requests a task of the
//! connection's own does that, so that it is seen when the server closes. While a request is under way the request's
//! task does it: an answer then needs no change of tasks for each of its frames, and whether more of it has arrived is
//! known by looking.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokensink_host::{Dialed, Stream, in_words};

use crate::stream::Upload;
use crate::time::Alarm;

/// Largest head of an answer in bytes.
const HEAD_BYTES: usize = 64 * 1024;

/// A connection that can take a request.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) sender: http1::SendRequest<Upload>,
    /// Bytes that the kernel took so far.
    pub(super) written: Arc<AtomicU64>,
    /// For the time until an answer begins. The next request takes it over.
    pub(super) alarm: Alarm,
    engine: Arc<Engine>,
}

impl Connection {
    /// Speaks HTTP/1.1 over what was dialed; the connection gets a task of its own.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn over(dialed: Dialed) -> Result<Self, String> {
        // Of header fields the library takes 100, which it need not make room for; providers behind a CDN send about 40.
        let (sender, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES)
            .handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|error| in_words(&error))?;
        let engine = Arc::new(Engine {
            state: Mutex::new(State {
                connection: Some(connection),
                keeper: None,
            }),
            is_driven: Arc::default(),
        });
        tokio::spawn(Keeper(Arc::clone(&engine)));
        Ok(Self {
            sender,
            written: dialed.written,
            alarm: Alarm::default(),
            engine,
        })
    }

    /// From now on the caller's task brings the connection on.
    pub(super) fn drive(&self) -> Driving {
        self.engine.is_driven.store(true, Ordering::Release);
        Driving(Arc::clone(&self.engine))
    }
}

/// The library closes a connection that is ready for a request by itself, and properly. One that still has something to
/// write it would keep until the server takes that, which may be never.
impl Drop for Connection {
    fn drop(&mut self) {
        if !self.sender.is_ready() {
            self.engine.end();
        }
    }
}

/// What reads and writes.
struct Engine {
    state: Mutex<State>,
    /// A request's task brings it on.
    is_driven: Arc<AtomicBool>,
}

struct State {
    /// `None` when it has ended.
    connection: Option<http1::Connection<TokioIo<Stream>, Upload>>,
    /// Wakes the connection's own task while no request drives. Whoever has driven polls with it at the end, so that
    /// nothing is missed that happened meanwhile.
    keeper: Option<Waker>,
}

/// Wakes the connection's own task only when that one is to bring it on: handing over a request would wake it each time.
struct Undriven {
    is_driven: Arc<AtomicBool>,
    task: Waker,
}

impl Wake for Undriven {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_driven.load(Ordering::Acquire) {
            self.task.wake_by_ref();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine(..)")
    }
}

impl Engine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection as it is.
    fn end(&self) {
        let (connection, keeper) = {
            let mut state = self.state();
            (state.connection.take(), state.keeper.clone())
        };
        drop(connection);
        // Its own task finds nothing left to do.
        if let Some(keeper) = keeper {
            keeper.wake();
        }
    }
}

impl State {
    /// Reads and writes what can be read and written now. Ready when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(());
        };
        let Poll::Ready(result) = Pin::new(connection).poll(context) else {
            return Poll::Pending;
        };
        if let Err(error) = result {
            tracing::debug!("an upstream connection ended: {}", in_words(&error));
        }
        self.connection = None;
        Poll::Ready(())
    }
}

/// The connection's own task.
struct Keeper(Arc<Engine>);

impl Future for Keeper {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        let keeper = state.keeper.get_or_insert_with(|| {
            let undriven = Undriven {
                is_driven: Arc::clone(&self.0.is_driven),
                task: context.waker().clone(),
            };
            Waker::from(Arc::new(undriven))
        });
        let keeper = keeper.clone();
        if self.0.is_driven.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        state.poll(&mut Context::from_waker(&keeper))
    }
}

/// The right and the duty to bring a connection on. Dropped, it goes back to the connection's own task.
#[derive(Debug)]
pub(crate) struct Driving(Arc<Engine>);

impl Driving {
    /// Takes what `next` gives, a part of the connection's answer; if there is none, lets the connection read and write
    /// and asks once more. Nobody else brings the connection on, so it is the connection alone that wakes the caller.
    pub(super) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut next: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut nobody = Context::from_waker(Waker::noop());
        let there = next(&mut nobody);
        if there.is_ready() {
            return there;
        }
        // An end shows in what comes next.
        let _ended = self.0.state().poll(context);
        next(&mut nobody)
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        let mut state = self.0.state();
        self.0.is_driven.store(false, Ordering::Release);
        // By this the connection wakes its own task from now on. Without a waker that has yet to begin, and looks itself.
        if let Some(keeper) = state.keeper.clone()
            && state.poll(&mut Context::from_waker(&keeper)).is_ready()
        {
            keeper.wake();
        }
    }
}
