//! How much memory the system's allocator keeps for itself.
//!
//! glibc gives nearly every thread an arena of its own, up to eight for each processor, and what a piece of work needed for a
//! moment stays in the arena of its thread. A gateway that serves hundreds then grows for minutes, though what it has in use
//! does not. The settings that end this are read from the environment when a program starts, and in no other way that safe
//! code has; so a program that is to run for long starts itself anew with them.

use std::ffi::OsString;
use std::io;

use tokensink_host::{Environment, start_anew};

/// Variables and their values (mallopt(3), "Environment variables").
const SETTINGS: [(&str, &str); 2] = [
    // One arena for the event loop's threads and one more where the first is taken: with one only, requests wait for each
    // other.
    ("MALLOC_ARENA_MAX", "2"),
    // What is larger has a mapping of its own and goes back to the system when it is freed. This is the value that glibc begins
    // with; it raises it by itself to the largest that was ever freed, unless it is set.
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
];

/// Starts this program anew, in the same process, if a setting is missing. One that is there stays as it is. Where that cannot be
/// done, the program goes on as it is, needs a little more memory, and may tell why.
pub(crate) fn ensure_settings(args: &[OsString], env: &dyn Environment) -> Option<io::Error> {
    let is_glibc = cfg!(all(target_os = "linux", target_env = "gnu"));
    let is_missing = |(name, _): &(&str, &str)| env.var(name).is_none();
    let missing: Vec<_> = SETTINGS.into_iter().filter(is_missing).collect();
    (is_glibc && !missing.is_empty()).then(|| start_anew(args, &missing))
}
