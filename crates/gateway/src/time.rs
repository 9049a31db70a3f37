//! The event loop's time: for time-outs of sockets, which wait in real time whatever a test clock says. What is
//! decided by time (benches, expiry) goes by the sink's clock.

use std::future::Future;
use std::time::Duration;

pub(crate) use tokio::time::Instant;

/// The present of the event loop.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A timer that goes off after `time`.
pub(crate) fn sleep(time: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(time)
}

/// `future`, or `None` when it takes longer than `time`.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(time, future).await.ok()
}
