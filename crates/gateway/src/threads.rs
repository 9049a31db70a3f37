//! Short work that reads and writes files, on threads beside the event loop.
//!
//! Most of it goes for the lock of the same few files, so that more threads would only wait together; and each thread
//! that was ever needed keeps memory for a while. What waits for longer, as for a refresh, takes a thread of its own.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Most pieces of work at a time. One may run a program that fetches a secret, and the others should not wait for it.
const AT_A_TIME: usize = 16;

/// The threads.
#[derive(Debug, Clone)]
pub(crate) struct Threads(Arc<Semaphore>);

impl Default for Threads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

impl Threads {
    /// Does the work. It is done also when the caller does not wait for it.
    ///
    /// # Errors
    /// When the work panicked, or the event loop has ended.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }

    /// Has the work done some time. Without an event loop it is not: the gateway has ended.
    pub(crate) fn begin(&self, work: impl FnOnce() + Send + 'static) {
        if let Ok(event_loop) = Handle::try_current() {
            let threads = self.clone();
            event_loop.spawn(async move { threads.run(work).await });
        }
    }
}
