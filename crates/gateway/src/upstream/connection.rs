//! One connection to a provider, with its task and the pulse by which an answer's body knows whether more is ready.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokensink_host::{Dialed, Stream, in_words};

use crate::stream::Upload;

/// Largest head of an answer in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// Most header fields of an answer; providers behind a CDN send about forty.
const HEADER_FIELDS: usize = 200;

/// A connection that can take a request.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) sender: http1::SendRequest<Upload>,
    /// Bytes that the kernel took so far.
    pub(super) written: Arc<AtomicU64>,
    pub(super) pulse: Arc<Pulse>,
}

impl Connection {
    /// Speaks HTTP/1.1 over what was dialed; the connection gets a task of its own.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn over(dialed: Dialed) -> Result<Self, String> {
        let (sender, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES)
            .max_headers(HEADER_FIELDS)
            .handshake(TokioIo::new(dialed.stream))
            .await
            .map_err(|error| in_words(&error))?;
        let pulse = Arc::new(Pulse::default());
        tokio::spawn(Beating {
            connection,
            pulse: Arc::clone(&pulse),
        });
        Ok(Self {
            sender,
            written: dialed.written,
            pulse,
        })
    }
}

/// Counts the turns of a connection's task. After a frame was taken from the task, its next turn either brings another
/// frame or shows that nothing more has arrived.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    turns: AtomicU64,
    is_awaited: AtomicBool,
    waiting: AtomicWaker,
}

impl Pulse {
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// Whether the task had a turn since `seen`; if not, the caller's task is woken after the next one.
    pub(crate) fn has_beaten(&self, seen: u64, context: &mut Context<'_>) -> bool {
        if self.turns() != seen {
            return true;
        }
        self.waiting.register(context.waker());
        self.is_awaited.store(true, Ordering::SeqCst);
        self.turns.load(Ordering::SeqCst) != seen
    }

    fn beat(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
        if self.is_awaited.swap(false, Ordering::SeqCst) {
            self.waiting.wake();
        }
    }
}

/// The connection's task.
struct Beating {
    connection: http1::Connection<TokioIo<Stream>, Upload>,
    pulse: Arc<Pulse>,
}

impl Future for Beating {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = Pin::new(&mut self.connection).poll(context);
        self.pulse.beat();
        polled.map(|result| {
            if let Err(error) = result {
                tracing::debug!("an upstream connection ended: {}", in_words(&error));
            }
        })
    }
}
