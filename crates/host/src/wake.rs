//! A latch that ends a `poll` in another thread.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// The side that waits: readable for ever once the latch is set.
#[derive(Debug)]
pub(crate) struct Latch(PipeReader);

/// The side that sets the latch. All clones set the same one; dropping the last one sets it too.
#[derive(Debug, Clone)]
pub(crate) struct LatchSetter(Arc<Mutex<Option<PipeWriter>>>);

/// A latch that is not set.
///
/// # Errors
/// When the process has no descriptor left.
pub(crate) fn latch() -> io::Result<(LatchSetter, Latch)> {
    let (reader, writer) = io::pipe()?;
    Ok((LatchSetter(Arc::new(Mutex::new(Some(writer)))), Latch(reader)))
}

impl LatchSetter {
    /// Sets the latch: closing the only writer makes the reader's `poll` return from now on.
    pub(crate) fn set(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// True once it is set.
    pub(crate) fn is_set(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

impl AsFd for Latch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
