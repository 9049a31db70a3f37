use super::*;
use crate::{MemFiles, Scripted, TestHost};
use tokensink_host::OpenMode;

/// Five calls: create, write, sync, rename, sync of the directory.
fn five_calls(files: &dyn Files) -> io::Result<()> {
    let (temporary, target) = (Path::new("/t"), Path::new("/file"));
    let mut handle = files.create_new(temporary, 0o600)?;
    handle.write_at(0, b"new!")?;
    handle.sync()?;
    drop(handle);
    files.rename(temporary, target)?;
    files.sync_dir(Path::new("/"))
}

fn disk() -> MemFiles {
    let files = MemFiles::default();
    files.put("/file", "old", 0o600);
    files
}

#[test]
fn every_call_is_counted_and_named() {
    let faults = Faults::none();
    five_calls(&*faults.files(Arc::new(disk()))).unwrap();
    let want = [
        "1 create_new t",
        "2 write_at t",
        "3 sync t",
        "4 rename file",
        "5 sync_dir /",
    ];
    assert_eq!(faults.trace(), want);
    assert_eq!((faults.calls(), faults.fired()), (5, false));
    assert_eq!(faults.last(), want[4]);
}

#[test]
fn a_failing_call_has_no_effect_and_later_ones_work() {
    for n in [1, 2, 3, 4, 5, 9] {
        let (disk, faults) = (disk(), Faults::fail_at(n, Errno::IO));
        let files = faults.files(Arc::new(disk.clone()));
        let result = five_calls(&*files);
        assert_eq!((result.is_err(), faults.fired()), (n <= 5, n <= 5), "{n}");
        let want = if n <= 4 { "old" } else { "new!" };
        assert_eq!(disk.text("/file"), want, "{n}");
        assert_eq!(files.read(Path::new("/file")).unwrap(), want.as_bytes());
    }
}

#[test]
fn a_crash_stops_everything_before_or_after_the_call() {
    for (n, before, after) in [(1, 1, 2), (4, 2, 1), (5, 1, 1)] {
        for (faults, names) in [(Faults::crash_before(n), before), (Faults::crash_after(n), after)] {
            let disk = disk();
            let files = faults.files(Arc::new(disk.clone()));
            let error = five_calls(&*files).unwrap_err();
            assert!(Faults::is_crash(&error) && faults.fired(), "{n}");
            assert_eq!(disk.snapshot().len(), names, "{n} {faults:?}");
            let gone = files.read(Path::new("/file")).unwrap_err();
            assert!(Faults::is_crash(&gone));
            assert_eq!(faults.calls(), n, "the dead make no calls");
        }
    }
}

#[test]
fn a_crash_releases_locks_when_the_code_unwinds() {
    let disk = disk();
    let faults = Faults::crash_after(2);
    let files = faults.files(Arc::new(disk.clone()));
    let mut handle = files.open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
    assert!(handle.try_lock().is_err());
    let mut other = disk.open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
    assert!(!other.try_lock().unwrap(), "the lock was taken before the crash");
    drop(handle);
    assert!(other.try_lock().unwrap());
}

#[test]
fn a_torn_write_leaves_half() {
    for faults in [Faults::fail_at(2, Errno::IO), Faults::crash_before(2)] {
        let disk = disk();
        five_calls(&*faults.torn().files(Arc::new(disk.clone()))).unwrap_err();
        assert_eq!(disk.text("/t"), "ne");
    }
}

#[test]
fn exchanges_fail_in_the_way_that_was_chosen() {
    let cases = [
        (ExchangeFault::NotWritten, false, 0),
        (ExchangeFault::RequestLost, true, 0),
        (ExchangeFault::AnswerLost, true, 1),
    ];
    for (fault, is_ambiguous, arrived) in cases {
        let test = TestHost::new();
        test.transport.push(Scripted::json(200, "{}"));
        let faults = Faults::fail_at(2, Errno::PIPE).exchange(fault);
        let host = test.host_with(&faults);
        let url = Url::parse("https://as.test/token").unwrap();
        let limits = Limits {
            time: Duration::from_secs(1),
            body_bytes: 10,
        };
        let connection = host.transport.connect(&url, Duration::from_secs(1)).unwrap();
        let error = connection
            .exchange(Request::new(Body::new("x")), limits)
            .unwrap_err();
        assert_eq!(
            matches!(error, ExchangeError::Ambiguous(_)),
            is_ambiguous,
            "{fault:?}"
        );
        assert_eq!(test.transport.requests().len(), arrived, "{fault:?}");
        assert_eq!(
            faults.trace(),
            ["1 connect https://as.test/token", "2 exchange GET /"]
        );
    }
}

#[test]
fn connecting_fails_and_crashes_too() {
    let url = Url::parse("https://as.test/token").unwrap();
    for faults in [
        Faults::fail_at(1, Errno::CONNREFUSED),
        Faults::crash_before(1),
        Faults::crash_after(1),
    ] {
        let test = TestHost::new();
        test.transport.on_request(|_| Ok(Response::new(Body::default())));
        let error = test.host_with(&faults).transport.connect(&url, Duration::ZERO);
        assert_eq!(error.unwrap_err().phase, ConnectPhase::Tcp);
        assert_eq!(test.transport.requests().len(), 0);
    }
}
