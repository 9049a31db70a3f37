//! The refresh locks of Claude Code, in memory with its stale times, and on real files with many holders.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokensink_host::{Host, Liveness};
use tokensink_neighbours::{Neighbour, NeighbourError, Place, RefreshLocks, lock_for_refresh};
use tokensink_testkit::{Errno, TestHost};

use crate::support::{CLAUDE, claude_file, names, place};

const HOME: &str = "/home/user";
const FIRST: &str = "/home/user/.claude/.oauth_refresh.lock";
const SECOND: &str = "/home/user/.claude.lock";

fn claude() -> TestHost {
    let test = TestHost::new();
    test.files.put(CLAUDE, claude_file(1), 0o600);
    test
}

fn lock(test: &TestHost, wait: u64) -> Result<RefreshLocks, NeighbourError> {
    let place = place(test, Neighbour::ClaudeCode);
    lock_for_refresh(&test.host(), &place, Duration::from_secs(wait))
}

#[track_caller]
fn busy(result: Result<RefreshLocks, NeighbourError>) -> String {
    let error = result.expect_err("somebody holds it");
    assert!(error.is_busy(), "{error}");
    error.to_string()
}

#[test]
fn both_locks_are_taken_and_given_back() {
    let test = claude();
    let locks = lock(&test, 0).unwrap();
    assert_eq!(names(&test, HOME), [".claude", ".claude.lock"]);
    assert_eq!(
        names(&test, "/home/user/.claude"),
        [
            ".credentials.json",
            ".oauth_refresh.lock",
            ".oauth_refresh.lock.owner"
        ]
    );
    let other = test.other_process(7);
    other
        .processes
        .set_liveness(test.host().processes.this(), Liveness::Running);
    let told = busy(lock(&other, 3));
    assert!(told.contains(FIRST) && told.contains("waited 3.0 s"), "{told}");
    assert!(!locks.lost() && locks.beat());
    drop(locks);
    assert_eq!(names(&test, HOME), [".claude"]);
    assert_eq!(names(&test, "/home/user/.claude"), [".credentials.json"]);
}

#[test]
fn the_older_lock_alone_keeps_us_out_and_costs_us_the_newer_one() {
    let test = claude();
    test.files.mkdir(SECOND);
    assert!(busy(lock(&test, 3)).contains(SECOND));
    assert_eq!(
        names(&test, "/home/user/.claude"),
        [".credentials.json"],
        "given back between tries"
    );
}

#[test]
fn the_older_lock_is_beside_the_real_home() {
    let test = TestHost::new();
    test.files
        .put("/data/claude/.credentials.json", claude_file(1), 0o600);
    test.files.symlink("/data/claude", "/home/user/.claude");
    let _locks = lock(&test, 0).unwrap();
    assert_eq!(names(&test, "/data"), ["claude", "claude.lock"]);
}

#[test]
fn who_holds_the_locks_is_said_and_a_dead_holders_word_replaced() {
    let test = claude();
    let record = format!("{FIRST}.owner");
    test.files.put(&record, r#"{"pid":1,"lockBirthtimeMs":5}"#, 0o644);
    let locks = lock(&test, 0).unwrap();
    let said = test.files.text(&record);
    assert!(said.contains(r#""pid":4242"#), "{said}");
    // Somebody who took the locks over says so in its turn.
    test.files.put(&record, "another", 0o600);
    drop(locks);
    assert_eq!(test.files.text(&record), "another");
    drop(lock(&test, 0).unwrap());
    assert_eq!(
        names(&test, "/home/user/.claude"),
        [".credentials.json"],
        "ours goes with the locks"
    );
}

#[test]
fn where_the_older_lock_cannot_be_made_the_newer_one_serves() {
    let test = claude();
    test.files.set_fault(SECOND, Some(Errno::ACCESS));
    let locks = lock(&test, 0).unwrap();
    assert!(!locks.lost());
    busy(lock(&test, 0));
}

#[test]
fn an_abandoned_lock_is_taken_over_after_its_stale_time() {
    for abandoned in [FIRST, SECOND] {
        for (age, is_free) in [(59, false), (61, true)] {
            let test = claude();
            let host = test.host();
            test.files.mkdir(abandoned);
            let then = host.clock.now().minus(Duration::from_secs(age));
            host.files.set_modified(abandoned.as_ref(), then).unwrap();
            let result = lock(&test, 0);
            assert_eq!(result.is_ok(), is_free, "{abandoned} untouched for {age} s");
        }
    }
}

#[test]
fn a_beaten_lock_does_not_go_stale() {
    let test = claude();
    let locks = lock(&test, 0).unwrap();
    for _ in 0..30 {
        test.clock.advance(Duration::from_secs(5));
        assert!(locks.beat());
    }
    busy(lock(&test, 0));
    test.clock.advance(Duration::from_secs(61));
    let other = lock(&test, 0).expect("untouched for 61 s");
    assert!(locks.lost());
    assert!(!locks.beat(), "it is not touched for its new holder");
    drop(locks);
    assert!(!other.lost(), "a lock that is not ours is not removed");
}

#[test]
fn a_lock_that_was_removed_or_replaced_is_lost() {
    for replaced in [false, true] {
        let test = claude();
        let host = test.host();
        let locks = lock(&test, 0).unwrap();
        host.files.remove_dir(FIRST.as_ref()).unwrap();
        if replaced {
            host.files.create_dir_new(FIRST.as_ref(), 0o755).unwrap();
        }
        assert!(locks.lost());
        drop(locks);
        let left = host.files.stat(FIRST.as_ref()).unwrap();
        assert_eq!(left.is_some(), replaced, "the other's lock stays");
        assert!(host.files.stat(SECOND.as_ref()).unwrap().is_none(), "ours goes");
    }
}

#[test]
fn what_is_no_lock_is_told_with_its_remedy() {
    let file = claude();
    file.files.put(FIRST, "", 0o600);
    let full = claude();
    full.files.put(format!("{FIRST}/child"), "", 0o600);
    full.clock.advance(Duration::from_secs(61));
    for test in [file, full] {
        let error = lock(&test, 5).expect_err("it is in the way");
        assert!(!error.is_busy());
        assert_eq!(error.command(), Some(format!("rm -r '{FIRST}'")));
    }
}

#[test]
fn codex_has_no_lock_to_take_and_the_others_none_that_we_know() {
    let test = TestHost::new();
    let locks = |neighbour| lock_for_refresh(&test.host(), &place(&test, neighbour), Duration::ZERO);
    assert!(!locks(Neighbour::Codex).unwrap().lost());
    for neighbour in [Neighbour::QwenCode, Neighbour::GeminiCli, Neighbour::OpenCode] {
        let error = locks(neighbour).expect_err("its locks are not known");
        assert!(matches!(error, NeighbourError::OnlyBorrowed { .. }), "{error}");
    }
}

/// Real directories, a real clock, and as many holders as fit: never two inside, and all come through.
#[test]
fn holders_on_a_real_disk_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("home/.credentials.json");
    fs::create_dir(dir.path().join("home")).unwrap();
    fs::write(&file, claude_file(1)).unwrap();
    let inside = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..6 {
            let (inside, done, file) = (Arc::clone(&inside), Arc::clone(&done), file.as_path());
            scope.spawn(move || hold_often(file, &inside, &done));
        }
    });
    assert_eq!(done.load(Ordering::SeqCst), 30);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

fn hold_often(file: &Path, inside: &AtomicBool, done: &AtomicUsize) {
    let host = Host::real();
    let place = Place::file(&host, Neighbour::ClaudeCode, file);
    for _ in 0..5 {
        let locks = lock_for_refresh(&host, &place, Duration::from_secs(60)).unwrap();
        assert!(!inside.swap(true, Ordering::SeqCst), "two holders");
        assert!(locks.beat() && !locks.lost());
        thread::yield_now();
        inside.store(false, Ordering::SeqCst);
        drop(locks);
        done.fetch_add(1, Ordering::SeqCst);
    }
}
