//! What a gateway does besides answering: it sees changes of files, renews logins ahead of time, and keeps what was
//! chosen for `explain`.

use tokensink_sink::{Recording, Renewal, Result, Sink, Watch};

/// All of it. Dropping it ends it: nothing new is begun, and the last choices are written.
#[derive(Debug)]
pub(crate) struct Upkeep {
    _renewal: Renewal,
    _recording: Recording,
    _watch: Watch,
}

impl Upkeep {
    /// Begins.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn start(sink: &Sink) -> Result<Self> {
        Ok(Self {
            _watch: sink.watch()?,
            _recording: sink.record_decisions()?,
            _renewal: sink.keep_renewed()?,
        })
    }
}
