//! How much memory the system's allocator keeps for itself.
//!
//! glibc gives nearly every thread an arena of its own, up to eight for each processor, and what a piece of work needed for a
//! moment stays in the arena of its thread. A gateway that serves hundreds then grows for minutes, though what it has in use
//! does not. The number of arenas is read from the environment when a program starts, and in no other way that safe code
//! has; so a program that is to run for long starts itself anew with it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use tokensink_host::Environment;

/// The variable (mallopt(3), `M_ARENA_MAX`).
const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// One for the event loop's threads and one more where the first is taken: with one only, requests wait for each other.
const ARENAS: &str = "2";

/// Starts this program anew, in the same process, with few arenas, unless their number was chosen already. Comes back where
/// that cannot be done: it then needs a little more memory.
pub(crate) fn start_with_few(args: &[OsString], env: &dyn Environment) {
    let is_glibc = cfg!(all(target_os = "linux", target_env = "gnu"));
    let Some((name, args)) = args.split_first().filter(|_| is_glibc) else {
        return;
    };
    if env.var(VARIABLE).is_some() {
        return;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "it is this program that starts anew, before it has done anything"
    )]
    if let Ok(path) = std::env::current_exe() {
        let error = Command::new(path)
            .arg0(name)
            .args(args)
            .env(VARIABLE, ARENAS)
            .exec();
        tracing::debug!(%error, "the allocator keeps its many arenas");
    }
}
