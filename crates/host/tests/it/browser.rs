//! Which program opens a page, and when none should.

use std::io;

use tokensink_host::browser::{BrowserError, is_headless, open};
use tokensink_testkit::{MapEnvironment, Start, TestHost};
use url::Url;

type Variables<'a> = &'a [(&'a str, &'a str)];

const URL: &str = "https://as.test/authorize?a=1&b=%20x";

fn opened(variables: Variables<'_>, failures: usize) -> (Vec<String>, Result<(), BrowserError>) {
    let test = TestHost::new();
    for (name, value) in variables {
        test.env.set(name, *value);
    }
    for _ in 0..failures {
        test.processes.push_result(Err(io::ErrorKind::NotFound.into()));
    }
    let result = open(&test.host(), &Url::parse(URL).unwrap());
    let shown = |started: &tokensink_testkit::Started| {
        assert_eq!(started.start, Start::Detached);
        let mut words = vec![started.program.to_string_lossy().into_owned()];
        words.extend(started.args.iter().map(|arg| arg.to_string_lossy().into_owned()));
        words.join("|")
    };
    (test.processes.started().iter().map(shown).collect(), result)
}

#[test]
fn programs_by_environment() {
    let cases: [(Variables<'_>, usize, Vec<String>); 7] = [
        (&[], 0, vec![format!("xdg-open|{URL}")]),
        (&[("BROWSER", "firefox")], 0, vec![format!("firefox|{URL}")]),
        (
            &[("BROWSER", "'my browser' --new \"a b\" %s -x")],
            0,
            vec![format!("my browser|--new|a b|{URL}|-x")],
        ),
        (
            &[("BROWSER", "open --url=%s")],
            0,
            vec![format!("open|--url={URL}")],
        ),
        (
            &[("BROWSER", "missing:links -g")],
            1,
            vec![format!("missing|{URL}"), format!("links|-g|{URL}")],
        ),
        (
            &[("WSL_DISTRO_NAME", "Ubuntu")],
            0,
            vec![format!("wslview|{URL}")],
        ),
        (
            &[("WSL_INTEROP", "/run/x")],
            1,
            vec![format!("wslview|{URL}"), format!("xdg-open|{URL}")],
        ),
    ];
    for (variables, failures, want) in cases {
        let (started, result) = opened(variables, failures);
        assert_eq!(started, want, "{variables:?}");
        result.unwrap();
    }
}

#[test]
fn a_failure_names_what_was_tried() {
    let (_, result) = opened(&[], 1);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("xdg-open") && error.contains("BROWSER"), "{error}");
    let test = TestHost::new();
    let error = open(&test.host(), &Url::parse("file:///etc/passwd").unwrap()).unwrap_err();
    assert_eq!(
        error,
        BrowserError::Scheme {
            scheme: "file".to_owned()
        }
    );
    assert!(test.processes.started().is_empty());
}

#[test]
fn headless_by_spec() {
    let cases: [(Variables<'_>, Option<&str>); 9] = [
        (&[], Some("DISPLAY")),
        (&[("DISPLAY", ":0")], None),
        (&[("WAYLAND_DISPLAY", "wayland-0")], None),
        (&[("DISPLAY", ":0"), ("SSH_TTY", "/dev/pts/1")], Some("SSH_TTY")),
        (
            &[("DISPLAY", ":0"), ("SSH_CONNECTION", "1")],
            Some("SSH_CONNECTION"),
        ),
        (&[("DISPLAY", ":0"), ("CODESPACES", "true")], Some("CODESPACES")),
        (&[("WSL_DISTRO_NAME", "Ubuntu")], None),
        (&[("SSH_TTY", "/dev/pts/1"), ("BROWSER", "links")], None),
        (&[("DISPLAY", " ")], Some("DISPLAY")),
    ];
    for (variables, want) in cases {
        let env = MapEnvironment::default();
        for (name, value) in variables {
            env.set(name, *value);
        }
        let reason = is_headless(&env);
        match want {
            None => assert_eq!(reason, None, "{variables:?}"),
            Some(word) => assert!(reason.unwrap().contains(word), "{variables:?}"),
        }
    }
}
