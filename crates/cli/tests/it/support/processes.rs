//! The helper processes of a home: finding, stopping and killing them.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::World;

/// How long something may take that takes milliseconds; only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The helper processes that fly for this home, by process id. They are found by what every process shows of itself.
pub(crate) fn helpers_of(world: &World) -> Vec<i32> {
    let home = format!("HOME={}", world.path("").display());
    let home = home.trim_end_matches('/');
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let dir = entry.unwrap().path();
        let Some(pid) = dir.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        if list(&dir.join("cmdline")).get(1).map(String::as_str) == Some("__flight")
            && list(&dir.join("environ"))
                .iter()
                .any(|variable| variable.trim_end_matches('/') == home)
        {
            found.push(pid);
        }
    }
    found
}

/// The one helper of this home.
#[track_caller]
pub(crate) fn helper_of(world: &World) -> i32 {
    let found = helpers_of(world);
    assert_eq!(found.len(), 1, "helpers: {found:?}");
    found[0]
}

/// Waits until no helper flies for this home any more.
#[track_caller]
pub(crate) fn wait_for_landing(world: &World) {
    for helper in helpers_of(world) {
        wait_for_state(helper, None);
    }
}

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Kills a process that may end by itself at any moment, and waits until it is gone.
#[track_caller]
pub(crate) fn kill(pid: i32) {
    match kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => wait_for_state(pid, None),
        Err(error) => panic!("process {pid}: {error}"),
    }
}

/// Waits until the kernel says that the process is in this state: `T` stopped, or gone for `None`.
#[track_caller]
pub(crate) fn wait_for_state(pid: i32, wanted: Option<char>) {
    let until = Instant::now() + PATIENCE;
    loop {
        let state = state_of(pid);
        // A process that ended but was not yet waited for holds nothing any more.
        let state = state.filter(|state| *state != 'Z');
        if state == wanted {
            return;
        }
        assert!(
            Instant::now() < until,
            "process {pid} is {state:?}, not {wanted:?}"
        );
        std::thread::yield_now();
    }
}

/// The state of a process as a letter (`proc_pid_stat(5)`); none for one that is gone.
pub(crate) fn state_of(pid: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// A list of texts that end in NUL; empty where it cannot be read.
fn list(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}
