use tokensink_testkit::{FakeProcesses, TestHost};

use super::*;
use crate::openclaw_lock::{GuardedLock, foreign_lock_text};

fn place(kind: LockKind) -> LockPlace {
    LockPlace {
        kernel: "/s/tokensink/locks/file-x".into(),
        dot: "/s/a.json.lock".into(),
        kind,
    }
}

fn state_after(test: &TestHost, seconds: u64) -> LockState {
    test.clock.advance(Duration::from_secs(seconds));
    lock_state(&test.host(), &place(LockKind::Store)).unwrap()
}

fn held(pid: Option<u32>, liveness: Liveness) -> LockState {
    LockState::Held { pid, liveness }
}

#[test]
fn what_cannot_be_held_is_cleared_and_what_can_is_left() {
    let now = |test: &TestHost| tokensink_host::Clock::now(&test.clock);
    let file = |bytes: &[u8], seconds: u64| {
        let test = TestHost::new();
        test.files.put("/s/a.json.lock", bytes, 0o644);
        let state = state_after(&test, seconds);
        (test, state)
    };
    let text = foreign_lock_text(7, 7, now(&TestHost::new()));
    for bytes in [&b""[..], b"{\"pid\": 1", b"[]", b"\xff"] {
        let (test, state) = file(bytes, 5);
        assert_eq!(
            state,
            held(None, Liveness::Unknown),
            "{bytes:?}: it may be being written"
        );
        let cleared = clear_lock(&test.host(), &place(LockKind::Store)).unwrap();
        assert_eq!(cleared, Cleared::Held, "{bytes:?}");
        assert!(test.files.mode("/s/a.json.lock").is_some(), "{bytes:?}");
        let (test, state) = file(bytes, 31);
        assert!(
            matches!(state, LockState::Torn { age: Some(_) }),
            "{bytes:?}: {state:?}"
        );
        let refresh = lock_state(&test.host(), &place(LockKind::Refresh)).unwrap();
        assert_eq!(refresh, held(None, Liveness::Unknown), "180 s for a refresh");
        assert_eq!(
            clear_lock(&test.host(), &place(LockKind::Store)).unwrap(),
            Cleared::Gone
        );
        assert_eq!(test.files.mode("/s/a.json.lock"), None);
    }
    let (test, state) = file(&text, 1);
    assert!(
        matches!(state, LockState::Stale { .. }),
        "process 7 is dead: {state:?}"
    );
    assert_eq!(
        clear_lock(&test.host(), &place(LockKind::Store)).unwrap(),
        Cleared::Gone
    );
    assert_eq!(test.files.mode("/s/a.json.lock"), None);
    let (test, _) = file(&text, 1);
    test.processes
        .set_liveness(FakeProcesses::id(7), Liveness::Stopped);
    assert_eq!(state_after(&test, 900), held(Some(7), Liveness::Stopped));
    assert_eq!(
        clear_lock(&test.host(), &place(LockKind::Store)).unwrap(),
        Cleared::Held
    );
    assert!(test.files.mode("/s/a.json.lock").is_some());
}

#[test]
fn directories_and_links_in_the_place_of_a_lock() {
    let test = TestHost::new();
    test.files.mkdir("/s/a.json.lock");
    assert_eq!(
        state_after(&test, 5),
        held(None, Liveness::Unknown),
        "age A keeps it fresh"
    );
    let state = state_after(&test, 60);
    assert!(
        matches!(state, LockState::Directory { empty: true, .. }),
        "{state:?}"
    );
    assert_eq!(
        clear_lock(&test.host(), &place(LockKind::Store)).unwrap(),
        Cleared::Gone
    );
    test.files.put("/s/a.json.lock/note", "x", 0o600);
    let state = state_after(&test, 60);
    assert!(
        matches!(state, LockState::Directory { empty: false, .. }),
        "{state:?}"
    );
    assert_eq!(
        clear_lock(&test.host(), &place(LockKind::Store)).unwrap(),
        Cleared::NotEmpty
    );
    assert_eq!(test.files.text("/s/a.json.lock/note"), "x");

    let test = TestHost::new();
    test.files.mkdir("/s");
    test.files.symlink("/nowhere", "/s/a.json.lock");
    assert_eq!(state_after(&test, 0), LockState::Torn { age: None });
    assert_eq!(
        clear_lock(&test.host(), &place(LockKind::Store)).unwrap(),
        Cleared::Gone
    );
    assert_eq!(state_after(&test, 0), LockState::Free);
}

#[test]
fn ours_is_not_cleared_while_we_are_at_work() {
    let test = TestHost::new();
    let place = place(LockKind::Store);
    let wait = Wait {
        deadline: Duration::ZERO,
    };
    let lock = GuardedLock::acquire(&test.host(), &place.kernel, &place.dot, place.kind, wait).unwrap();
    let error = clear_lock(&test.other_process(9).host(), &place).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(lock.is_intact(&test.host()).unwrap());
}
