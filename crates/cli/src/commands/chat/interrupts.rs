//! Ctrl-C and its relatives: during a turn they end the turn, and with it the upstream request or the program that
//! answers; between turns they do what they always do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tokensink_sink::{Cancel, ErrorKind, SinkError};

/// Exit code of a process that Ctrl-C ended: 128 and the number of SIGINT.
const KILLED: i32 = 130;

/// What signals do to a chat.
pub(super) struct Interrupts {
    /// Nothing is under way: a signal ends the process.
    idle: Arc<AtomicBool>,
    /// The turn is to end.
    stop: Arc<AtomicBool>,
    /// The chat is to end with it.
    over: Arc<AtomicBool>,
}

/// A turn is under way while this lives.
pub(super) struct TurnGuard {
    idle: Arc<AtomicBool>,
    cancel: Cancel,
}

impl Interrupts {
    /// Takes the signals for the rest of the process.
    ///
    /// # Errors
    /// When the system does not give them.
    pub(super) fn new() -> Result<Self, SinkError> {
        let made = Self {
            idle: Arc::new(AtomicBool::new(true)),
            stop: Arc::default(),
            over: Arc::default(),
        };
        made.register().map_err(|error| {
            SinkError::new(ErrorKind::Failed, "signals", "the signals cannot be taken").because(error)
        })?;
        Ok(made)
    }

    fn register(&self) -> io::Result<()> {
        // Those that look at a flag must come before those that set it.
        flag::register_conditional_shutdown(SIGINT, KILLED, Arc::clone(&self.stop))?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_conditional_default(signal, Arc::clone(&self.idle))?;
            flag::register(signal, Arc::clone(&self.stop))?;
        }
        for signal in [SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&self.over))?;
        }
        Ok(())
    }

    /// From now on a signal ends the turn. A second Ctrl-C ends the process.
    pub(super) fn turn(&self) -> TurnGuard {
        self.stop.store(false, Ordering::SeqCst);
        self.idle.store(false, Ordering::SeqCst);
        TurnGuard {
            idle: Arc::clone(&self.idle),
            cancel: Cancel::from(Arc::clone(&self.stop)),
        }
    }

    /// Is the chat to end?
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl TurnGuard {
    /// Set when the turn is to end.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }
}

impl Drop for TurnGuard {
    fn drop(&mut self) {
        self.idle.store(true, Ordering::SeqCst);
    }
}
