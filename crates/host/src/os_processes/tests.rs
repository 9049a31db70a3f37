use super::*;
use proptest::prelude::*;

/// A line of `/proc/<pid>/stat` with this name, state and start, in process group 2.
fn line(name: &str, state: char, start: u64) -> String {
    let between = "1 ".repeat(16);
    format!("4242 ({name}) {state} 1 2 {between}{start} 22 23 24\n")
}

#[test]
fn names_with_brackets_and_blanks_do_not_shift_the_fields() {
    for name in ["sh", "a b", "a) S 1 (b", "))", ""] {
        let stat = parse_stat(&line(name, 'T', 77)).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: 'T',
                group: 2,
                start: 77
            },
            "{name:?}"
        );
    }
}

#[test]
fn states() {
    let cases = [
        ('R', 7, Liveness::Running),
        ('S', 7, Liveness::Running),
        ('D', 7, Liveness::Running),
        ('T', 7, Liveness::Stopped),
        ('t', 7, Liveness::Stopped),
        ('Z', 7, Liveness::Dead),
        ('X', 7, Liveness::Dead),
        ('R', 8, Liveness::Dead),
        ('T', 8, Liveness::Dead),
        ('T', 0, Liveness::Stopped),
    ];
    for (state, start, want) in cases {
        let stat = Stat {
            state,
            group: 2,
            start: 7,
        };
        assert_eq!(stat.liveness(start), want, "{state} {start}");
    }
}

#[test]
fn our_own_line_is_understood() {
    let stat = parse_stat(&fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
    assert_eq!(stat.start, OsProcesses::new().who_we_are().start);
    assert!(stat.start > 0);
    assert_eq!(Pid::from_raw(stat.group), Some(getpgid(None).unwrap()));
}

#[test]
fn the_end_of_a_child_is_seen_and_its_identity_before() {
    let processes = OsProcesses::new();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let id = processes.identify(child.id()).unwrap();
    assert_eq!((id.pid, processes.liveness(&id)), (child.id(), Liveness::Running));
    let end = processes.end_of(child.id()).unwrap().unwrap();
    let ended = |time| {
        let mut fds = [PollFd::new(&end, PollFlags::IN)];
        wait_ready(&mut fds, Deadline::after(time)).unwrap()
    };
    assert!(!ended(Duration::ZERO), "it waits for input");
    child.kill().unwrap();
    assert!(ended(Duration::from_secs(20)));
    child.wait().unwrap();
    assert_eq!(processes.liveness(&id), Liveness::Dead);
    let gone = processes.end_of(child.id()).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert!(processes.identify(child.id()).is_none());
}

proptest! {
    #[test]
    fn any_text_is_a_line_or_none(text: String) {
        let _ = parse_stat(&text);
    }
}
