//! The event loop's time: for time-outs of sockets, which wait in real time whatever a test clock says. What is
//! decided by time (benches, expiry) goes by the sink's clock.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

pub(crate) use tokio::time::Instant;
use tokio::time::Sleep;

/// The present of the event loop.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The present to within a few milliseconds, at a fraction of what the exact time costs: for marks from which seconds are
/// counted, of which each request makes several.
pub(crate) fn lately() -> Instant {
    static BEGIN: LazyLock<(coarsetime::Instant, Instant)> =
        LazyLock::new(|| (coarsetime::Instant::now(), Instant::now()));
    let (coarse, exact) = &*BEGIN;
    *exact + Duration::from(coarse.elapsed())
}

/// Lets the other tasks that are ready go first. What they read and write is then done in one go with what the caller does
/// next, and the programs at the other ends are woken for all of it instead of for each.
pub(crate) async fn after_the_others() {
    tokio::task::yield_now().await;
}

/// A timer that goes off after `time`.
pub(crate) fn sleep(time: Duration) -> Sleep {
    tokio::time::sleep(time)
}

/// A timer for something that is put off again and again. That it was put off is not told to the event loop: it goes off
/// at the time that it was first set to, and is set anew only then.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready from `end` on, which must never be earlier than it was before.
    pub(crate) fn poll(&mut self, end: Instant, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        while sleep.as_mut().poll(context).is_ready() {
            if end <= now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(end);
        }
        Poll::Pending
    }
}

/// `future`, or `None` when it takes longer than `time`.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    // What is there at once needs no timer.
    if let Poll::Ready(output) = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
        return Some(output);
    }
    tokio::time::timeout(time, future).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lately_is_about_now_and_never_goes_back() {
        let marks: Vec<Instant> = (0..1000).map(|_| lately()).collect();
        assert!(marks.is_sorted());
        let (mark, exact) = (lately(), now());
        let apart = exact
            .saturating_duration_since(mark)
            .max(mark.saturating_duration_since(exact));
        // A tick of the kernel is ten milliseconds at most; a busy machine may stop us between the two.
        assert!(apart < Duration::from_secs(1), "{apart:?}");
    }
}
