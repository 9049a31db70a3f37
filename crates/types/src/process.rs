//! The identity of a process that survives pid reuse and reboots.

use std::fmt;

/// One process of one boot of one host. Two processes are the same only if all four agree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// Host name.
    pub host: String,
    /// The kernel's boot id (Linux: `/proc/sys/kernel/random/boot_id`), empty where there is none.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/<pid>/stat`), 0 where unknown.
    pub start: u64,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}
