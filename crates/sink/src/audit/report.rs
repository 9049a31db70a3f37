//! What is told of the audit trail: plain values for rendering.

use std::collections::VecDeque;
use std::path::PathBuf;

use tokensink_types::UnixMillis;

/// Is the audit trail what was written?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditCheck {
    /// The file.
    pub path: PathBuf,
    /// How many lines it has.
    pub lines: usize,
    /// Lines that were cut off while they were written, by number from 1. The lines around them still fit.
    pub cut_off: Vec<usize>,
    /// When the first event was.
    pub first_at: Option<UnixMillis>,
    /// When the last event was.
    pub last_at: Option<UnixMillis>,
    /// The hash of the last line: whoever notes it elsewhere can later tell whether the file was cut short.
    pub head: Option<String>,
    /// Whether the line that was asked for by its hash is there.
    pub head_found: Option<bool>,
    /// The first line that does not follow from the one before.
    pub fault: Option<AuditFault>,
}

impl AuditCheck {
    /// True when nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.fault.is_none() && self.head_found != Some(false)
    }
}

/// A line of the audit trail that does not follow from the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFault {
    /// Its number, from 1.
    pub line: usize,
    /// The hash that it names for the line before it.
    pub names: String,
    /// The hash of the line before it.
    pub found: String,
    /// What that means, in words.
    pub meaning: String,
}

/// The end of the audit trail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditList {
    /// The last lines, oldest first.
    pub lines: VecDeque<AuditLine>,
    /// How many lines there are of what was asked for.
    pub matching: usize,
    /// How many lines are none that we write.
    pub unreadable: usize,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its line, from 1.
    pub number: usize,
    /// When.
    pub at: UnixMillis,
    /// What: `login`, `refresh`, `key_add`, …
    pub event: String,
    /// Whose store or client.
    pub agent: Option<String>,
    /// Which profile.
    pub profile: Option<String>,
    /// Which client of the gateway.
    pub client: Option<String>,
    /// Further words.
    pub detail: Option<String>,
    /// The process.
    pub pid: Option<u64>,
}
