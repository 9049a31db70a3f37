//! Programs that are asked something, and what they may try.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokensink_host::{
    BoundedEnd, BoundedError, BoundedRequest, Bounds, Files, OsFiles, OsProcesses, Processes,
};
use tokensink_types::{Body, Secret};

const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(30),
    quiet: Duration::from_secs(30),
    output_bytes: 64 * 1024,
};

fn ask_within(script: &str, input: &[u8], bounds: Bounds) -> Result<BoundedEnd, BoundedError> {
    OsProcesses::new().run_bounded(BoundedRequest {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        env: vec![
            ("PATH".into(), Secret::new("/usr/bin:/bin")),
            ("GIVEN".into(), Secret::new("yes")),
        ],
        dir: PathBuf::from("/usr"),
        input: Body::new(input),
        bounds,
    })
}

#[track_caller]
fn said(script: &str, input: &[u8]) -> String {
    let end = ask_within(script, input, BOUNDS).unwrap();
    assert_eq!(end.code, 0, "{script}");
    String::from_utf8(end.output.expose().to_vec()).unwrap()
}

#[test]
fn input_environment_directory_and_output_are_what_was_asked_for() {
    assert_eq!(said("cat", b"question"), "question");
    assert_eq!(said("pwd; echo $GIVEN", b""), "/usr\nyes\n");
    // The shell adds these by itself.
    let names = said("env | cut -d= -f1 | sort | tr '\\n' ' '", b"");
    let added = ["PWD", "SHLVL", "_", "OLDPWD"];
    let given: Vec<&str> = names.split(' ').filter(|name| !added.contains(name)).collect();
    assert_eq!(given, ["GIVEN", "PATH", ""], "{names}");
    assert_eq!(ask_within("exit 7", b"", BOUNDS).unwrap().code, 7);
    assert_eq!(ask_within("kill -9 $$", b"", BOUNDS).unwrap().code, 137);
}

#[test]
fn a_large_input_goes_through_and_an_unread_one_stops_nothing() {
    let large = vec![b'x'; 256 * 1024];
    assert_eq!(said("wc -c", &large).trim(), "262144");
    assert_eq!(said("echo done", &large), "done\n");
    assert_eq!(said("exec <&-; echo done", &large), "done\n");
}

#[test]
fn standard_error_is_dropped_however_much_it_is() {
    let end = ask_within("yes | head -c 1000000 >&2; echo out", b"", BOUNDS).unwrap();
    assert_eq!(end.output.expose(), b"out\n");
}

#[test]
fn a_breach_ends_the_whole_group_in_time() {
    let short = Duration::from_millis(300);
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("survived");
    // Each would write the mark 2 s after its start, if it or its child lived on.
    let late = format!("(sleep 2; touch {}) &", mark.display());
    let cases = [
        (
            "hangs",
            "sleep 600",
            Bounds {
                time: short,
                ..BOUNDS
            },
            "did not end within 300 ms",
        ),
        (
            "is silent",
            "sleep 600",
            Bounds {
                quiet: short,
                ..BOUNDS
            },
            "wrote nothing for 300 ms",
        ),
        ("floods", "exec yes", BOUNDS, "more than 65536 bytes"),
        (
            "drips",
            "while :; do echo x; sleep 0.05; done",
            Bounds {
                time: short,
                ..BOUNDS
            },
            "did not end within",
        ),
        (
            "closes its pipes",
            "exec >&- 2>&-; sleep 600",
            Bounds {
                time: short,
                ..BOUNDS
            },
            "did not end within",
        ),
        (
            "ignores signals",
            "trap '' TERM HUP INT; sleep 600",
            Bounds {
                time: short,
                ..BOUNDS
            },
            "did not end within",
        ),
    ];
    for (name, script, bounds, want) in cases {
        let begun = Instant::now();
        let error = ask_within(&format!("{late} {script}"), b"", bounds).unwrap_err();
        assert!(error.to_string().contains(want), "{name}: {error}");
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{name}: {:?}",
            begun.elapsed()
        );
    }
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(OsFiles.stat(&mark).unwrap(), None, "a grandchild lived on");
}

#[test]
fn a_grandchild_that_keeps_the_pipes_does_not_hold_us() {
    let begun = Instant::now();
    assert_eq!(said("echo out; sleep 10 & exit 0", b""), "out\n");
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[test]
fn what_cannot_be_started_says_so() {
    let error = OsProcesses::new()
        .run_bounded(BoundedRequest {
            program: PathBuf::from("/no/such/program"),
            args: Vec::new(),
            env: Vec::new(),
            dir: PathBuf::from("/"),
            input: Body::default(),
            bounds: BOUNDS,
        })
        .unwrap_err();
    assert!(matches!(error, BoundedError::NotStarted(_)), "{error}");
}
