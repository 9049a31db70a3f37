//! Kernel locks, in memory and on real files.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokensink_host::{Clock, Host, KernelLock, Liveness, LockError, Wait};
use tokensink_testkit::{Errno, FakeProcesses, Faults, TestHost};

const LOCK: &str = "/state/locks/store";

fn wait(seconds: u64) -> Wait {
    Wait {
        deadline: Duration::from_secs(seconds),
    }
}

#[test]
fn the_file_is_made_once_and_stays() {
    let test = TestHost::new();
    let host = test.host();
    let lock = KernelLock::try_acquire(&host, Path::new(LOCK)).unwrap();
    assert_eq!(
        (test.files.mode(LOCK), test.files.mode("/state/locks")),
        (Some(0o600), Some(0o700))
    );
    assert!(lock.is_intact(&host).unwrap());
    assert_eq!(lock.path(), Path::new(LOCK));
    drop(lock);
    assert!(test.files.mode(LOCK).is_some(), "it is never unlinked");
    drop(KernelLock::try_acquire(&host, Path::new(LOCK)).unwrap());
}

#[test]
fn a_busy_lock_names_its_holder_and_waits_to_the_deadline() {
    let test = TestHost::new();
    let path = Path::new(LOCK);
    let held = KernelLock::try_acquire(&test.host(), path).unwrap();
    let other = test.other_process(17);
    let holder = FakeProcesses::id(4242);
    let cases = [
        (Liveness::Running, "by process 4242 on testhost for 7"),
        (Liveness::Unknown, "by process 4242 on testhost for 7"),
        (Liveness::Stopped, "which is stopped"),
        (
            Liveness::Dead,
            "a successor of process 4242 on testhost, which has ended",
        ),
    ];
    test.clock.advance(Duration::from_secs(70));
    for (liveness, words) in cases {
        other.processes.set_liveness(holder.clone(), liveness);
        let before = test.clock.monotonic();
        let error = KernelLock::acquire(&other.host(), path, wait(2)).unwrap_err();
        assert_eq!(
            test.clock.monotonic() - before,
            Duration::from_secs(2),
            "exactly the deadline"
        );
        let text = error.to_string();
        assert!(
            text.contains(words) && text.contains(LOCK) && text.contains("waited 2.0 s"),
            "{text}"
        );
        let LockError::Busy {
            holder: Some(named),
            waited,
            ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(
            (&named.process, named.liveness, waited),
            (&holder, liveness, Duration::from_secs(2))
        );
    }
    drop(held);
    KernelLock::acquire(&other.host(), path, wait(0)).unwrap();
    assert!(
        test.files.text(LOCK).starts_with("17 17 "),
        "the new holder signed"
    );
}

#[test]
fn a_file_of_somebody_elses_making_has_no_holder() {
    let test = TestHost::new();
    for text in ["", "no line end", "a b c d e\n", "1 2 3\n", "\u{0}\n"] {
        test.files.put(LOCK, text, 0o600);
        let other = test.files.clone();
        let mut handle =
            tokensink_host::Files::open(&other, Path::new(LOCK), tokensink_host::OpenMode::ReadWrite)
                .unwrap();
        assert!(handle.try_lock().unwrap());
        let error = KernelLock::try_acquire(&test.host(), Path::new(LOCK)).unwrap_err();
        assert!(
            matches!(error, LockError::Busy { holder: None, .. }),
            "{text:?}: {error:?}"
        );
        assert!(error.to_string().contains("another process"), "{error}");
    }
}

#[test]
fn no_fault_gives_two_holders_and_none_wedges_the_lock() {
    let path = Path::new(LOCK);
    for n in 1.. {
        for faults in [
            Faults::fail_at(n, Errno::IO),
            Faults::crash_before(n),
            Faults::crash_after(n),
        ] {
            let test = TestHost::new();
            let lock = KernelLock::acquire(&test.host_with(&faults), path, wait(1));
            let other = KernelLock::try_acquire(&test.other_process(2).host(), path);
            assert!(lock.is_err() || other.is_err(), "{}", faults.last());
            drop(lock);
            KernelLock::try_acquire(&test.host(), path)
                .map(drop)
                .unwrap_or_else(|error| assert!(other.is_ok(), "{} {error}", faults.last()));
            if !faults.fired() {
                assert!(n > 5, "{:?}", faults.trace());
                return;
            }
        }
    }
}

#[test]
fn a_lock_without_a_note_is_a_lock() {
    let test = TestHost::new();
    test.files.put(LOCK, "", 0o600);
    test.files.set_free_space(Some(0));
    let lock = KernelLock::try_acquire(&test.host(), Path::new(LOCK)).unwrap();
    assert!(lock.is_intact(&test.host()).unwrap());
}

#[test]
fn a_lock_file_that_was_replaced_is_not_believed() {
    let test = TestHost::new();
    let host = test.host();
    let lock = KernelLock::try_acquire(&host, Path::new(LOCK)).unwrap();
    tokensink_host::Files::remove(&test.files, Path::new(LOCK)).unwrap();
    assert!(!lock.is_intact(&host).unwrap());
    test.files.put(LOCK, "", 0o600);
    assert!(!lock.is_intact(&host).unwrap());
}

#[test]
fn a_file_system_without_locks_is_named() {
    let test = TestHost::new();
    test.files.set_no_locks(true);
    let error = KernelLock::try_acquire(&test.host(), Path::new(LOCK)).unwrap_err();
    assert!(matches!(error, LockError::Unsupported { .. }));
    assert!(error.to_string().contains("OPENCLAW_STATE_DIR"), "{error}");
}

#[test]
fn a_directory_or_a_forbidden_place_is_an_error_with_its_path() {
    let test = TestHost::new();
    test.files.mkdir(LOCK);
    let error = KernelLock::try_acquire(&test.host(), Path::new(LOCK)).unwrap_err();
    assert!(
        matches!(error, LockError::Io { .. }) && error.to_string().contains(LOCK),
        "{error}"
    );
    test.files.set_read_only(true);
    let error = KernelLock::try_acquire(&test.host(), Path::new("/new/lock")).unwrap_err();
    assert!(error.to_string().contains("/new/lock"), "{error}");
}

#[test]
fn real_locks_exclude_threads_and_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path: Arc<Path> = dir.path().join("locks/one").into();
    let (inside, total) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (path, inside, total) = (path.clone(), inside.clone(), total.clone());
            std::thread::spawn(move || {
                let host = Host::real();
                for _ in 0..25 {
                    let _lock = KernelLock::acquire(&host, &path, wait(60)).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    total.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(total.load(Ordering::SeqCst), 100);
}

#[test]
fn a_descriptor_carries_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("lock"), dir.path().join("other"));
    let host = Host::real();
    drop(KernelLock::try_acquire(&host, &other).unwrap());
    let fd = KernelLock::try_acquire(&host, &path).unwrap().into_fd().unwrap();
    let busy = KernelLock::try_acquire(&host, &path).unwrap_err();
    let LockError::Busy {
        holder: Some(holder), ..
    } = busy
    else {
        panic!("{busy:?}");
    };
    assert_eq!(
        (holder.process, holder.liveness),
        (host.processes.this(), Liveness::Running)
    );
    let copy = fd.try_clone().unwrap();
    let wrong = KernelLock::from_fd(&host, &other, copy).unwrap_err();
    assert!(wrong.to_string().contains("another file"), "{wrong}");
    let lock = KernelLock::from_fd(&host, &path, fd).unwrap();
    assert!(KernelLock::try_acquire(&host, &path).is_err());
    drop(lock);
    drop(KernelLock::try_acquire(&host, &path).unwrap());
}

#[test]
fn a_lock_comes_as_standard_input_and_goes_when_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let host = Host::real();
    let fd = KernelLock::try_acquire(&host, &path).unwrap().into_fd().unwrap();
    rustix::stdio::dup2_stdin(&fd).unwrap();
    drop(fd);
    let lock = KernelLock::adopt_stdin(&host, &path).unwrap();
    assert!(KernelLock::try_acquire(&host, &path).is_err());
    drop(lock);
    drop(KernelLock::try_acquire(&host, &path).unwrap());
    let error = KernelLock::adopt_stdin(&host, &path).unwrap_err();
    assert!(
        matches!(error, LockError::Io { .. }),
        "standard input is empty now: {error:?}"
    );
}

#[test]
fn a_lock_that_was_handed_over_names_the_child_before_it_does_anything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let host = Host::real();
    let fd = KernelLock::try_acquire(&host, &path).unwrap().into_fd().unwrap();
    let copy = fd.try_clone().unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(fd).spawn().unwrap();
    let id = host.processes.identify(child.id()).unwrap();
    KernelLock::note_for(&host, copy, &id);
    let busy = KernelLock::try_acquire(&host, &path).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    let LockError::Busy {
        holder: Some(holder), ..
    } = busy
    else {
        panic!("{busy:?}");
    };
    assert_eq!((holder.process, holder.liveness), (id, Liveness::Running));
    drop(KernelLock::try_acquire(&host, &path).expect("the copy is closed, and the child is gone"));
}
