//! Short work that reads and writes files, on threads beside the event loop.
//!
//! Most of it goes for the lock of the same few files, so that more threads would only wait together; and each thread
//! that was ever needed keeps memory for a while. What waits for longer, as for a refresh, takes a thread of its own.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Most pieces of work at a time. One may run a program that fetches a secret, and the others should not wait for it;
/// but each thread has an arena of the allocator, which keeps what the largest piece of work ever needed: under load a
/// gateway's memory grows by about a tenth in a minute with eight threads, by a fifteenth with three, which do as much.
const AT_A_TIME: usize = 3;

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
        let turns = Arc::clone(&self.0);
        // A task of its own waits for the turn, so that the work is not lost with a caller that goes before.
        let done = tokio::spawn(async move {
            // Kept until the thread is free again: one that finds none free starts one more.
            let _turn = turns.acquire_owned().await;
            spawn_blocking(work).await
        });
        done.await?
    }

    /// Has the work done some time. Without an event loop it is not: the gateway has ended.
    pub(crate) fn begin(&self, work: impl FnOnce() + Send + 'static) {
        if let Ok(event_loop) = Handle::try_current() {
            let threads = self.clone();
            event_loop.spawn(async move { threads.run(work).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_waits_for_its_turn_is_done_though_the_caller_goes() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let threads = Threads::default();
            let all = u32::try_from(AT_A_TIME).unwrap();
            let busy = Arc::clone(&threads.0).acquire_many_owned(all).await.unwrap();
            let done = Arc::new(AtomicBool::new(false));
            let noted = Arc::clone(&done);
            let caller = tokio::spawn({
                let threads = threads.clone();
                async move { threads.run(move || noted.store(true, Ordering::SeqCst)).await }
            });
            tokio::task::yield_now().await;
            caller.abort();
            assert!(caller.await.unwrap_err().is_cancelled());
            drop(busy);
            // Whoever has all turns again comes after it.
            drop(threads.0.acquire_many(all).await.unwrap());
            assert!(done.load(Ordering::SeqCst));
        });
    }
}
