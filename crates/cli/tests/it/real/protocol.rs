//! What our part of the protocol rests on: when Codex and Claude Code refresh, and which locks they respect
//! (clients.md 2.2, 2.4, 3.2, 3.4). The sink is not in these tests; a new version of either program is.

use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::clis::{Ask, Clis};
use super::rig::Reuse;

/// How long a program may take to start and ask; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both are done well before, and need longer to start than a lock is looked at.
const A_WHILE: Duration = Duration::from_secs(3);

fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::open(path)
        .unwrap()
        .set_times(FileTimes::new().set_modified(then))
        .unwrap();
}

#[test]
fn they_refresh_in_the_last_five_minutes_only() {
    let Some(clis) = Clis::start(Reuse::Revokes) else {
        return;
    };
    for (seconds, refreshes) in [(3600, (0, 0)), (330, (0, 0)), (240, (1, 1)), (-60, (2, 2))] {
        clis.log_in(seconds);
        for ask in Ask::ALL {
            clis.works(ask);
        }
        assert_eq!(clis.refreshes(), refreshes, "with {seconds} s left");
        clis.assert_newest_stored();
    }
}

/// Whoever holds either of Claude Code's locks may refresh in its place.
#[test]
fn claude_waits_for_its_refresh_lock_and_takes_what_came() {
    let Some(clis) = Clis::start(Reuse::Revokes) else {
        return;
    };
    for lock in [".claude/.oauth_refresh.lock", ".claude.lock"] {
        clis.log_in_claude(-60);
        let lock = clis.world.path(lock);
        std::fs::create_dir(&lock).unwrap();
        let asked = clis.start_asking(Ask::ClaudePrompt);
        std::thread::sleep(A_WHILE);
        assert_eq!(clis.refreshes(), (0, 0), "it did not wait for {}", lock.display());
        clis.log_in_claude(3600);
        std::fs::remove_dir(&lock).unwrap();
        clis.ends_well(Ask::ClaudePrompt, asked);
        assert_eq!(clis.refreshes(), (0, 0), "{}", lock.display());
    }
}

/// What a dead holder leaves behind blocks for the stale limit and no longer.
#[test]
fn claude_takes_locks_that_are_too_old() {
    let Some(clis) = Clis::start(Reuse::Revokes) else {
        return;
    };
    clis.log_in_claude(-60);
    for (lock, seconds) in [
        (".claude/.oauth_refresh.lock", 61),
        (".claude.lock", 61),
        (".claude/.storage-write.lock", 16),
    ] {
        let lock = clis.world.path(lock);
        std::fs::create_dir(&lock).unwrap();
        age(&lock, seconds);
    }
    clis.works(Ask::ClaudePrompt);
    assert_eq!(clis.refreshes(), (1, 0));
    clis.log_in_codex(3600);
    clis.assert_newest_stored();
}

/// Codex asks without a lock, and writes under both.
#[test]
fn codex_waits_for_its_write_locks_after_it_has_asked() {
    let Some(clis) = Clis::start(Reuse::Revokes) else {
        return;
    };
    for (round, lock) in [(1, "auth.lock"), (2, "auth.json.lock")] {
        clis.log_in_codex(-60);
        let before = std::fs::read_to_string(clis.auth_json()).unwrap();
        let held = File::create(clis.world.path(".codex").join(lock)).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let asked = clis.start_asking(Ask::CodexExec);
        wait_until("the refresh", || clis.refreshes() == (0, round));
        std::thread::sleep(A_WHILE);
        assert_eq!(
            std::fs::read_to_string(clis.auth_json()).unwrap(),
            before,
            "{lock}"
        );
        drop(held);
        clis.ends_well(Ask::CodexExec, asked);
        assert_ne!(
            std::fs::read_to_string(clis.auth_json()).unwrap(),
            before,
            "{lock}"
        );
    }
    clis.log_in_claude(3600);
    clis.assert_newest_stored();
}
