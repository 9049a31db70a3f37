use tokensink_host::lock::LockError;
use tokensink_host::{HelperReport, ProcessRequest, Processes};
use tokensink_testkit::{Errno, FakeProcesses, Faults, TestHost};

use super::*;

const DOT: &str = "/s/agents/main/agent/auth-profiles.json.lock";
const KERNEL: &str = "/s/tokensink/locks/file-x";

fn acquire(test: &TestHost, kind: LockKind, wait: u64) -> Result<GuardedLock, StoreError> {
    let wait = Wait {
        deadline: Duration::from_secs(wait),
    };
    GuardedLock::acquire(&test.host(), Path::new(KERNEL), Path::new(DOT), kind, wait)
}

fn foreign(test: &TestHost, pid: u32, start: u64) -> Vec<u8> {
    foreign_lock_text(pid, start, test.clock.now_millis())
}

trait NowMillis {
    fn now_millis(&self) -> UnixMillis;
}

impl NowMillis for tokensink_testkit::FakeClock {
    fn now_millis(&self) -> UnixMillis {
        tokensink_host::Clock::now(self)
    }
}

#[test]
fn the_file_is_what_openclaw_reads() {
    let test = TestHost::new();
    let lock = acquire(&test, LockKind::Store, 0).unwrap();
    let map = js::parse_object(test.files.text(DOT).as_bytes()).unwrap();
    assert_eq!(map["pid"], json!(4242));
    assert_eq!(map["starttime"], json!(4242));
    assert_eq!(map["createdAt"], json!("2026-01-01T00:00:00.000Z"));
    assert!(lock.is_intact(&test.host()).unwrap());
    drop(lock);
    assert_eq!(test.files.mode(DOT), None, "released");
    assert_eq!(
        test.files.mode(KERNEL),
        Some(0o600),
        "kernel locks are never unlinked"
    );
    let litter: Vec<_> = test
        .files
        .snapshot()
        .into_keys()
        .filter(|path| path.to_string_lossy().contains("tmp"))
        .collect();
    assert!(litter.is_empty(), "{litter:?}");
}

#[test]
fn a_foreign_holder() {
    let cases = [
        // pid, start time, what is known, kind, age in seconds, taken over?
        (7, 7, Liveness::Dead, 0, true),
        (7, 7, Liveness::Running, 3600, false),
        (7, 7, Liveness::Stopped, 3600, false),
        (7, 7, Liveness::Unknown, 3600, false),
    ];
    for (pid, start, liveness, age, taken) in cases {
        let test = TestHost::new();
        test.processes.set_liveness(FakeProcesses::id(pid), liveness);
        test.files.put(DOT, foreign(&test, pid, start), 0o644);
        test.clock.advance(Duration::from_secs(age));
        let result = acquire(&test, LockKind::Store, 3);
        assert_eq!(result.is_ok(), taken, "{liveness:?} {result:?}");
        if let Err(error) = result {
            let text = error.to_string();
            let named = text.contains("process 7") || text.contains(&format!("rm '{DOT}'"));
            assert!(named && text.contains(DOT), "{text}");
            assert!(test.files.text(DOT).contains("\"pid\": 7"), "it was not touched");
        }
    }
}

#[test]
fn a_pid_that_was_given_to_another_process_is_dead() {
    let test = TestHost::new();
    test.processes
        .set_liveness(FakeProcesses::id(7), Liveness::Running);
    test.files.put(DOT, foreign(&test, 7, 99), 0o644);
    acquire(&test, LockKind::Store, 0).unwrap();
}

#[test]
fn age_counts_only_without_a_pid() {
    for (kind, limit) in [(LockKind::Store, 30), (LockKind::Refresh, 180)] {
        let test = TestHost::new();
        let text = br#"{"createdAt":"2026-01-01T00:00:00.000Z"}"#;
        test.files.put(DOT, text, 0o644);
        test.clock.advance(Duration::from_secs(limit - 10));
        assert!(acquire(&test, kind, 2).is_err(), "{kind:?}");
        test.clock.advance(Duration::from_secs(12));
        acquire(&test, kind, 0).unwrap();
    }
}

#[test]
fn an_empty_or_half_written_lock_is_reported_and_left() {
    for text in ["", "{\"pid\": 7", "[]"] {
        let test = TestHost::new();
        test.files.put(DOT, text, 0o644);
        test.clock.advance(Duration::from_secs(3600));
        let error = acquire(&test, LockKind::Store, 5).unwrap_err().to_string();
        assert!(error.contains(&format!("rm '{DOT}'")), "{error}");
        assert_eq!(test.files.text(DOT), text);
        assert!(
            test.clock.slept() >= Duration::from_secs(5),
            "its maker had time to finish it"
        );
    }
}

#[test]
fn a_holder_that_lets_go_is_waited_for() {
    let test = TestHost::new();
    // It must not wait in vain before this thread has run once.
    test.clock.be_patient();
    test.processes
        .set_liveness(FakeProcesses::id(7), Liveness::Running);
    test.files.put(DOT, foreign(&test, 7, 7), 0o644);
    let files = test.files.clone();
    let start = test.clock.now_millis();
    let waiter = test.clone();
    let thread = std::thread::spawn(move || acquire(&waiter, LockKind::Store, 100_000).map(drop));
    while start.until(test.clock.now_millis()) < Duration::from_secs(1) {
        std::thread::yield_now();
    }
    files.remove(Path::new(DOT)).unwrap();
    thread.join().unwrap().unwrap();
}

#[test]
fn a_directory_of_age_a_is_held_while_fresh() {
    let test = TestHost::new();
    test.files.mkdir(DOT);
    assert!(acquire(&test, LockKind::Store, 1).is_err());
    test.clock.advance(Duration::from_secs(31));
    acquire(&test, LockKind::Store, 0).unwrap();
    let test = TestHost::new();
    test.files.put(format!("{DOT}/x"), "", 0o600);
    test.clock.advance(Duration::from_secs(31));
    let error = acquire(&test, LockKind::Store, 1).unwrap_err().to_string();
    assert!(error.contains(&format!("rm -r '{DOT}'")), "{error}");
}

#[test]
fn our_own_leftover_is_known_by_its_guard() {
    let test = TestHost::new();
    let killed = test.other_process(7);
    std::mem::forget(acquire(&killed, LockKind::Store, 0).unwrap());
    test.files.lose_power();
    let error = acquire(&test, LockKind::Store, 0);
    assert!(
        error.is_ok(),
        "the kernel lock is free, so its file has no holder: {error:?}"
    );

    // The same file under another kernel lock (a second state directory) is judged by its pid.
    let test = TestHost::new();
    let other = test.other_process(7);
    test.processes
        .set_liveness(FakeProcesses::id(7), Liveness::Running);
    let wait = Wait {
        deadline: Duration::ZERO,
    };
    let held = GuardedLock::acquire(
        &other.host(),
        Path::new("/t/lock"),
        Path::new(DOT),
        LockKind::Store,
        wait,
    )
    .unwrap();
    assert!(matches!(
        acquire(&test, LockKind::Store, 0),
        Err(StoreError::Busy(_))
    ));
    drop(held);
    acquire(&test, LockKind::Store, 0).unwrap();
}

#[test]
fn among_ourselves_the_kernel_lock_decides() {
    let test = TestHost::new();
    let held = acquire(&test, LockKind::Store, 0).unwrap();
    let error = acquire(&test.other_process(7), LockKind::Store, 1).unwrap_err();
    assert!(
        matches!(error, StoreError::Kernel(LockError::Busy { .. })),
        "{error}"
    );
    assert!(error.is_transient());
    drop(held);
    acquire(&test, LockKind::Store, 0).unwrap();
}

/// Processes that see everybody dead, while a living OpenClaw puts its own lock in the place of the dead one's.
#[derive(Debug)]
struct Racing(TestHost);

impl Processes for Racing {
    fn this(&self) -> ProcessId {
        self.0.processes.this()
    }
    fn this_program(&self) -> io::Result<PathBuf> {
        self.0.processes.this_program()
    }
    fn liveness(&self, process: &ProcessId) -> Liveness {
        if process.pid == 9 {
            return Liveness::Running;
        }
        self.0.files.put(DOT, foreign(&self.0, 9, 9), 0o644);
        Liveness::Dead
    }
    fn spawn_detached(&self, request: ProcessRequest) -> io::Result<()> {
        self.0.processes.spawn_detached(request)
    }
    fn spawn_helper(&self, request: ProcessRequest) -> io::Result<Box<dyn HelperReport>> {
        self.0.processes.spawn_helper(request)
    }
    fn run(&self, request: ProcessRequest) -> io::Result<i32> {
        self.0.processes.run(request)
    }
    fn output(&self, request: ProcessRequest, deadline: Duration) -> io::Result<Vec<u8>> {
        self.0.processes.output(request, deadline)
    }
}

#[test]
fn a_lock_that_took_the_stale_ones_place_is_put_back() {
    let test = TestHost::new();
    test.files.put(DOT, foreign(&test, 7, 7), 0o644);
    let mut host = test.host();
    host.processes = Arc::new(Racing(test.clone()));
    let wait = Wait {
        deadline: Duration::ZERO,
    };
    let result = GuardedLock::acquire(&host, Path::new(KERNEL), Path::new(DOT), LockKind::Store, wait);
    assert!(matches!(result, Err(StoreError::Busy(_))), "{result:?}");
    assert!(test.files.text(DOT).contains("\"pid\": 9"));
}

#[test]
fn a_kernel_lock_that_was_handed_over_gets_its_file_in_the_child() {
    let test = TestHost::new();
    let child = test.other_process(7).host();
    let kernel = KernelLock::try_acquire(&test.host(), Path::new(KERNEL)).unwrap();
    let wait = Wait {
        deadline: Duration::ZERO,
    };
    let held = GuardedLock::behind(&child, kernel, Path::new(DOT), LockKind::Refresh, wait).unwrap();
    assert!(
        test.files.text(DOT).contains("\"pid\": 7"),
        "the file names who works under it"
    );
    drop(held);
    acquire(&test, LockKind::Refresh, 0).unwrap();
}

#[test]
fn a_lock_that_is_not_ours_any_more_is_left() {
    let test = TestHost::new();
    let lock = acquire(&test, LockKind::Store, 0).unwrap();
    test.files.put(DOT, foreign(&test, 9, 9), 0o644);
    assert!(!lock.is_intact(&test.host()).unwrap());
    drop(lock);
    assert!(test.files.text(DOT).contains("\"pid\": 9"));
}

/// Whatever call crashes, OpenClaw never meets a lock file that it cannot read.
#[test]
fn no_crash_leaves_an_empty_lock_file() {
    for n in 1.. {
        let test = TestHost::new();
        let faults = Faults::crash_before(n).torn();
        let host = test.host_with(&faults);
        let wait = Wait {
            deadline: Duration::ZERO,
        };
        drop(GuardedLock::acquire(
            &host,
            Path::new(KERNEL),
            Path::new(DOT),
            LockKind::Store,
            wait,
        ));
        // The name may have become durable by somebody else's sync of the directory, the content has to be.
        test.files
            .sync_dir(Path::new(DOT).parent().unwrap())
            .unwrap_or_default();
        test.files.lose_power();
        if let Ok(bytes) = test.files.read(Path::new(DOT)) {
            assert!(js::parse_object(&bytes).is_ok(), "call {n}: {}", faults.last());
        }
        let other = test.other_process(7);
        assert!(
            acquire(&other, LockKind::Store, 0).is_ok(),
            "call {n}: {}",
            faults.last()
        );
        if !faults.fired() {
            break;
        }
    }
}

#[test]
fn without_hard_links_the_error_says_so() {
    for n in 1.. {
        let test = TestHost::new();
        let faults = Faults::fail_at(n, Errno::PERM);
        let host = test.host_with(&faults);
        let wait = Wait {
            deadline: Duration::ZERO,
        };
        let result = GuardedLock::acquire(&host, Path::new(KERNEL), Path::new(DOT), LockKind::Store, wait);
        if faults
            .trace()
            .get(n - 1)
            .is_some_and(|call| call.contains("hard_link"))
        {
            let text = result.unwrap_err().to_string();
            assert!(
                text.contains("hard links") && text.contains("OPENCLAW_STATE_DIR"),
                "{text}"
            );
            return;
        }
        assert!(faults.fired(), "hard_link was never called");
    }
}
