//! Programs that are talked to line by line, well-behaved and not.

use std::io::ErrorKind;
use std::time::Duration;

use tokensink_host::{Dialogue, DialogueLimits, DialogueRequest, Heard, Liveness, OsProcesses, Processes};
use tokensink_types::{Body, ProcessId};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

fn sh(script: &str) -> Box<dyn Dialogue> {
    let request = DialogueRequest {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("GIVEN".into(), "yes".into())],
        dir: "/usr".into(),
        limits: DialogueLimits {
            line_bytes: 1000,
            output_bytes: 4000,
            complaint_bytes: 100,
        },
    };
    OsProcesses::new().spawn_dialogue(request).unwrap()
}

fn line(text: &str) -> Heard {
    Heard::Line(Body::new(text))
}

#[test]
fn lines_go_both_ways_and_the_end_is_told() {
    let mut talk = sh("echo hello; read a; echo \"got $a\"; printf rest; echo oops >&2; exit 3");
    assert_eq!(talk.listen(LONG).unwrap(), line("hello"));
    talk.say(&Body::new("you\n"), LONG).unwrap();
    assert_eq!(talk.listen(LONG).unwrap(), line("got you"));
    assert_eq!(talk.listen(LONG).unwrap(), line("rest"));
    assert_eq!(talk.listen(LONG).unwrap(), Heard::End);
    let farewell = talk.end(LONG);
    assert_eq!(
        (farewell.code, farewell.complaint.as_slice()),
        (Some(3), b"oops\n".as_slice())
    );
}

#[test]
fn it_sees_only_what_it_was_given() {
    let mut talk = sh("pwd; env | grep -v '^PWD=\\|^_=\\|^SHLVL=\\|^OLDPWD='; echo end");
    assert_eq!(talk.listen(LONG).unwrap(), line("/usr"));
    assert_eq!(talk.listen(LONG).unwrap(), line("GIVEN=yes"));
    assert_eq!(talk.listen(LONG).unwrap(), line("end"));
}

#[test]
fn who_says_too_much_is_not_listened_to() {
    for (script, told) in [
        ("while :; do echo 0123456789; done", "more than 4000 bytes"),
        (
            "i=0; while [ $i -lt 150 ]; do printf 0123456789; i=$((i+1)); done; sleep 600",
            "a line of more than 1000 bytes",
        ),
    ] {
        let mut talk = sh(script);
        let error = loop {
            match talk.listen(LONG) {
                Ok(Heard::Line(_)) => {}
                Ok(other) => panic!("{script}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::FileTooLarge, "{script}");
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(talk.end(Duration::ZERO).code, None);
    }
    // Standard error is read and forgotten, so that it neither blocks the program nor fills the memory.
    let mut talk = sh("i=0; while [ $i -lt 20000 ]; do echo 0123456789 >&2; i=$((i+1)); done; echo done");
    assert_eq!(talk.listen(LONG).unwrap(), line("done"));
    assert_eq!(talk.end(LONG).complaint.len(), 100);
}

#[test]
fn who_hangs_is_killed_with_everybody_it_started() {
    let mut talk = sh("sleep 600 & echo $! $$; trap '' TERM HUP INT; while :; do sleep 600; done");
    let Heard::Line(pids) = talk.listen(LONG).unwrap() else {
        panic!()
    };
    let text = String::from_utf8(pids.expose().to_vec()).unwrap();
    let processes = OsProcesses::new();
    let ids: Vec<ProcessId> = text
        .split(' ')
        .map(|pid| ProcessId {
            pid: pid.parse().unwrap(),
            start: 0,
            ..processes.this()
        })
        .collect();
    assert!(
        ids.iter().all(|id| processes.liveness(id) == Liveness::Running),
        "{text}"
    );
    assert_eq!(talk.listen(SHORT).unwrap(), Heard::Nothing);
    assert_eq!(talk.end(SHORT).code, None);
    for id in ids {
        let gone = (0..5_000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            processes.liveness(&id) == Liveness::Dead
        });
        assert!(gone, "{id}");
    }
}

#[test]
fn a_grandchild_that_keeps_the_pipe_is_not_waited_for() {
    let mut talk = sh("sleep 600 & echo hello");
    assert_eq!(talk.listen(LONG).unwrap(), line("hello"));
    assert_eq!(talk.listen(LONG).unwrap(), Heard::End);
    assert_eq!(talk.end(LONG).code, Some(0));
}

#[test]
fn what_was_not_taken_is_known() {
    let big = Body::new(vec![b'x'; 1024 * 1024]);
    let mut talk = sh("sleep 600");
    let error = talk.say(&big, SHORT).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::TimedOut);
    assert!(error.written > 0 && error.written < big.len(), "{error}");
    let mut talk = sh("exec <&-; echo closed; sleep 600");
    assert_eq!(talk.listen(LONG).unwrap(), line("closed"));
    let error = talk.say(&Body::new("x\n"), LONG).unwrap_err();
    assert_eq!((error.written, error.source.kind()), (0, ErrorKind::BrokenPipe));
}

#[test]
fn the_end_of_the_input_is_told_while_it_is_listened_to() {
    let mut talk = sh("cat; echo done");
    talk.say(&Body::new("all\n"), LONG).unwrap();
    assert_eq!(talk.listen(LONG).unwrap(), line("all"));
    talk.close_input();
    assert_eq!(talk.listen(LONG).unwrap(), line("done"));
    assert_eq!(talk.listen(LONG).unwrap(), Heard::End);
    assert_eq!(talk.say(&Body::new("more\n"), LONG).unwrap_err().written, 0);
    assert_eq!(talk.end(LONG).code, Some(0));
}
