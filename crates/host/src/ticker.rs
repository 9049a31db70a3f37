//! A heartbeat: a function that is called at regular intervals while something lasts.
//!
//! It runs in a thread of its own and by real time, not by a [`Clock`](crate::Clock): what it keeps alive is watched
//! by other programs, which know nothing of a test's clock, and a clock whose sleep returns at once would make it
//! spin.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A running heartbeat. Dropping it ends it, after a call that is under way; [`Ticker::let_go`] does not wait for that.
#[derive(Debug)]
pub struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Calls `tick` every `period`, first after one period, until it returns `false` or the ticker is dropped.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        name: &str,
        period: Duration,
        mut tick: impl FnMut() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) && tick() {}
        })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Ends it without waiting: a call that is under way is the last one. For whoever must not stand still, such as an
    /// event loop.
    pub fn let_go(mut self) {
        self.thread = None;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A tick that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ticks_until_told_otherwise() {
        let (told, heard) = mpsc::channel();
        let mut left = 3;
        let ticker = Ticker::start("test", Duration::from_millis(1), move || {
            left -= 1;
            told.send(left).is_ok() && left > 0
        })
        .unwrap();
        assert_eq!(heard.iter().collect::<Vec<_>>(), [2, 1, 0], "it ended by itself");
        drop(ticker);
    }

    #[test]
    fn dropping_ends_it_without_waiting_for_the_next_tick() {
        let (told, heard) = mpsc::channel::<()>();
        let ticker = Ticker::start("test", Duration::from_secs(3600), move || told.send(()).is_ok()).unwrap();
        drop(ticker);
        assert!(heard.recv().is_err(), "its thread is gone and has never ticked");
    }

    #[test]
    fn letting_go_ends_it_without_waiting_for_the_tick_under_way() {
        let (told, heard) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let ticker = Ticker::start("test", Duration::from_millis(1), move || {
            told.send(()).is_ok() && released.recv().is_ok()
        })
        .unwrap();
        heard.recv().unwrap();
        ticker.let_go();
        release.send(()).unwrap();
        assert!(heard.recv().is_err(), "that tick was the last");
    }
}
