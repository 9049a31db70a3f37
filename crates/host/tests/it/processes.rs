//! Real processes.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokensink_host::{Host, KernelLock, Liveness, OsProcesses, ProcessRequest, Processes, StdioSource};
use tokensink_types::ProcessId;

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> ProcessRequest {
    ProcessRequest {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        set_env: vec![("ADDED".into(), "yes".into())],
        remove_env: vec!["HOME".into()],
        stdin: StdioSource::Null,
    }
}

/// Looks again and again until `liveness` is what is known of `process`.
fn becomes(processes: &OsProcesses, process: &ProcessId, liveness: Liveness) {
    for _ in 0..5_000 {
        if processes.liveness(process) == liveness {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{process} is {:?}, not {liveness:?}", processes.liveness(process));
}

#[test]
fn we_are_somebody() {
    let processes = OsProcesses::new();
    let this = processes.this();
    assert_eq!(this.pid, std::process::id());
    assert!(
        this.start > 0 && !this.boot.is_empty() && !this.host.is_empty(),
        "{this:?}"
    );
    assert_eq!(processes.liveness(&this), Liveness::Running);
    assert!(processes.this_program().unwrap().is_absolute());
}

#[test]
fn liveness_needs_host_boot_pid_and_start() {
    let processes = OsProcesses::new();
    let this = processes.this();
    let other = |change: fn(&mut ProcessId)| {
        let mut id = this.clone();
        change(&mut id);
        processes.liveness(&id)
    };
    assert_eq!(other(|id| id.host.push('x')), Liveness::Unknown);
    assert_eq!(other(|id| id.boot = "another".to_owned()), Liveness::Dead);
    assert_eq!(other(|id| id.boot.push_str("@pid:[1]")), Liveness::Unknown);
    assert_eq!(other(|id| id.boot.clear()), Liveness::Unknown);
    assert_eq!(other(|id| id.start += 1), Liveness::Dead);
    assert_eq!(other(|id| id.start = 0), Liveness::Running);
    assert_eq!(
        other(|id| id.pid = 4_000_000_000),
        Liveness::Unknown,
        "no pid at all"
    );
    assert_eq!(
        other(|id| id.pid = 4_194_304),
        Liveness::Dead,
        "above the kernel's largest"
    );
}

#[test]
fn a_child_is_seen_running_stopped_and_dead() {
    let processes = OsProcesses::new();
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let id = ProcessId {
        pid: child.id(),
        start: 0,
        ..processes.this()
    };
    let pid = Pid::from_child(&child);
    assert_eq!(processes.liveness(&id), Liveness::Running);
    kill_process(pid, Signal::STOP).unwrap();
    becomes(&processes, &id, Liveness::Stopped);
    kill_process(pid, Signal::CONT).unwrap();
    becomes(&processes, &id, Liveness::Running);
    kill_process(pid, Signal::KILL).unwrap();
    becomes(&processes, &id, Liveness::Dead);
    child.wait().unwrap();
    assert_eq!(
        processes.liveness(&id),
        Liveness::Dead,
        "not even a zombie is left"
    );
}

#[test]
fn run_returns_the_exit_code() {
    let processes = OsProcesses::new();
    let cases = [("exit 0", 0), ("exit 75", 75), ("kill -TERM $$", 143)];
    for (script, code) in cases {
        assert_eq!(processes.run(sh(script)).unwrap(), code, "{script}");
    }
    assert_eq!(
        processes
            .run(sh("test \"$ADDED\" = yes && test -z \"$HOME\""))
            .unwrap(),
        0
    );
    let mut missing = sh("");
    missing.program = "/nowhere/program".into();
    assert_eq!(processes.run(missing).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn output_is_collected_and_bounded() {
    let processes = OsProcesses::new();
    let output = |script: &str| processes.output(sh(script), LONG);
    assert_eq!(output("echo out; echo err >&2").unwrap(), b"out\n");
    // More than a pipe holds, on both sides at once.
    let big = output("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2").unwrap();
    assert_eq!(big.len(), 300_000);
    let error = output("echo why >&2; exit 4").unwrap_err().to_string();
    assert!(error.contains("exit code 4") && error.contains("why"), "{error}");
    let error = output("cat /dev/zero").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    // A grandchild that keeps the pipe open does not keep us waiting.
    assert_eq!(output("sleep 5 & echo done").unwrap(), b"done\n");
}

#[test]
fn output_kills_at_the_deadline() {
    let processes = OsProcesses::new();
    let error = processes
        .output(sh("echo $$; exec sleep 600"), Duration::from_millis(100))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("/bin/sh"), "{error}");
}

#[test]
fn children_run_side_by_side_and_can_be_killed() {
    let processes = OsProcesses::new();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut reader = sh("read line < \"$FIFO\"; echo \"got $line\"; echo why >&2; exit 75");
    reader.set_env.push(("FIFO".into(), fifo.clone().into()));
    let mut reader = processes.spawn(reader).unwrap();
    let mut killed = processes.spawn(sh("exec sleep 600")).unwrap();
    let mut writer = sh("echo line > \"$FIFO\"");
    writer.set_env.push(("FIFO".into(), fifo.into()));
    let mut writer = processes.spawn(writer).unwrap();
    let ended = reader.wait(LONG).unwrap();
    assert_eq!(
        (ended.code, &*ended.output, &*ended.complaint),
        (75, &b"got line\n"[..], &b"why\n"[..])
    );
    reader.kill().unwrap();
    assert_eq!(writer.wait(LONG).unwrap().code, 0);
    killed.kill().unwrap();
    let ended = killed.wait(LONG).unwrap();
    assert_eq!((ended.code, ended.output.len()), (137, 0));
}

#[test]
fn a_child_does_not_outlive_its_value() {
    let processes = OsProcesses::new();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut request = sh("echo $$ > \"$FIFO\"; exec sleep 600");
    request.set_env.push(("FIFO".into(), fifo.clone().into()));
    let child = processes.spawn(request).unwrap();
    let pid = std::fs::read_to_string(&fifo).unwrap().trim().parse().unwrap();
    let id = ProcessId {
        pid,
        start: 0,
        ..processes.this()
    };
    assert_eq!(processes.liveness(&id), Liveness::Running);
    drop(child);
    assert_eq!(processes.liveness(&id), Liveness::Dead);
}

#[test]
fn a_helper_reports_and_outlives_its_report() {
    let processes = OsProcesses::new();
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut request = sh("echo begun; read line < \"$FIFO\"; echo \"$line\"; head -c 100000 /dev/zero");
    request.set_env.push(("FIFO".into(), fifo.clone().into()));
    let mut report = processes.spawn_helper(request).unwrap();
    assert_eq!(
        report.wait(Duration::from_millis(20)).unwrap(),
        None,
        "still at work"
    );
    std::fs::write(&fifo, "go\n").unwrap();
    let bytes = report.wait(LONG).unwrap().unwrap();
    assert!(bytes.starts_with(b"begun\ngo\n"));
    assert_eq!(bytes.len(), 64 * 1024, "bounded");
    assert_eq!(
        report.wait(Duration::ZERO).unwrap().unwrap().len(),
        bytes.len(),
        "asked again"
    );

    let mut request = sh("trap '' PIPE; read line < \"$FIFO\"; echo lost; echo kept > \"$FIFO\"");
    request.set_env.push(("FIFO".into(), fifo.clone().into()));
    drop(processes.spawn_helper(request).unwrap());
    std::fs::write(&fifo, "go\n").unwrap();
    assert_eq!(std::fs::read_to_string(&fifo).unwrap(), "kept\n");
}

#[test]
fn a_detached_child_takes_the_lock_along() {
    let dir = tempfile::tempdir().unwrap();
    let (path, fifo) = (dir.path().join("lock"), dir.path().join("fifo"));
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let host = Host::real();
    let fd: OwnedFd = KernelLock::try_acquire(&host, &path).unwrap().into_fd().unwrap();
    let mut request = sh("ps -o pgid= -p $$ > \"$FIFO\"; read line < \"$FIFO\"");
    request.set_env.push(("FIFO".into(), fifo.clone().into()));
    request.stdin = StdioSource::Descriptor(fd);
    host.processes.spawn_detached(request).unwrap();
    let group: u32 = std::fs::read_to_string(&fifo).unwrap().trim().parse().unwrap();
    assert_ne!(group, own_group(), "a process group of its own");
    assert!(
        KernelLock::try_acquire(&host, &path).is_err(),
        "the child holds the lock"
    );
    std::fs::write(&fifo, "end\n").unwrap();
    let wait = tokensink_host::Wait { deadline: LONG };
    KernelLock::acquire(&host, &path, wait).expect("the child ended");
}

fn own_group() -> u32 {
    let output = Command::new("ps")
        .args(["-o", "pgid=", "-p", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn detaching_opens_a_session() {
    tokensink_host::detach_self().unwrap();
    assert_eq!(rustix::process::getsid(None).unwrap(), rustix::process::getpid());
}
