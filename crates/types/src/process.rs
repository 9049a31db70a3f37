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

/// How the boot of a process begins that is none of this host's.
const ELSEWHERE: &str = "elsewhere: ";

impl ProcessId {
    /// Stands for whoever may have used what was read from `origin` (a bundle, an archived file) before it came to the
    /// host of `here`. No such process runs: its boot is none of this host's.
    #[must_use]
    pub fn elsewhere(here: &Self, origin: &str) -> Self {
        Self {
            host: here.host.clone(),
            boot: format!("{ELSEWHERE}{origin}"),
            pid: 0,
            start: 0,
        }
    }

    /// Where what [`ProcessId::elsewhere`] stands for was read from.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.boot.strip_prefix(ELSEWHERE).filter(|_| self.pid == 0)
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}
