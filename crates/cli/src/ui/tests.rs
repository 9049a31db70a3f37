use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::name::Name;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn terminal() -> (Terminal, Shared) {
    let notes = Shared::default();
    (Terminal::over(notes.clone(), Look::plain(Name::OWN)), notes)
}

fn answer_to(typed: &[u8]) -> (Option<String>, String) {
    let (mut them, us) = UnixStream::pair().unwrap();
    them.write_all(typed).unwrap();
    drop(them);
    let (terminal, notes) = terminal();
    let answer = terminal.answer(us.as_fd(), false, "Paste", &|| false);
    let said = String::from_utf8(notes.0.lock().unwrap().clone()).unwrap();
    (answer, said)
}

#[test]
fn answers_are_lines_that_are_not_blank() {
    let cases: [(&[u8], Option<&str>); 6] = [
        (b"code#state\n", Some("code#state")),
        (b"code\r", Some("code")),
        (b"  code  ", Some("code")),
        (b"\n\n code\nmore\n", Some("code")),
        (b"\n", None),
        (b"", None),
    ];
    for (typed, want) in cases {
        assert_eq!(answer_to(typed).0.as_deref(), want, "{typed:?}");
    }
    assert_eq!(answer_to(b"\ncode\n").1, "Paste: Paste: ");
}

#[test]
fn the_browser_can_end_the_prompt() {
    let (_them, us) = UnixStream::pair().unwrap();
    let (terminal, notes) = terminal();
    let looks = std::cell::Cell::new(0);
    let cancelled = || {
        looks.set(looks.get() + 1);
        looks.get() > 2
    };
    assert_eq!(terminal.answer(us.as_fd(), false, "Paste", &cancelled), None);
    assert_eq!(notes.0.lock().unwrap().as_slice(), b"Paste: \n");
}

#[test]
fn what_is_said_meanwhile_leaves_the_prompt_below_it() {
    let (_them, us) = UnixStream::pair().unwrap();
    let (terminal, notes) = terminal();
    let looks = std::cell::Cell::new(0);
    let cancelled = || {
        looks.set(looks.get() + 1);
        if looks.get() == 2 {
            terminal.show(LoginEvent::DeviceFailed { reason: "over" });
        }
        looks.get() > 2
    };
    assert_eq!(terminal.answer(us.as_fd(), false, "Paste", &cancelled), None);
    terminal.show(LoginEvent::Notice("after"));
    assert_eq!(
        String::from_utf8(notes.0.lock().unwrap().clone()).unwrap(),
        "Paste: \nNo code for another device: over\nPaste: \nnote: after\n"
    );
}

#[test]
fn a_line_that_the_terminal_cut_is_not_taken() {
    let (mut them, us) = UnixStream::pair().unwrap();
    let mut typed = vec![b'x'; TERMINAL_LINE_MAX];
    typed.extend_from_slice(b"\nshort\n");
    them.write_all(&typed).unwrap();
    let (terminal, notes) = terminal();
    let answer = terminal.answer(us.as_fd(), true, "Paste", &|| false);
    assert_eq!(answer.as_deref(), Some("short"));
    let said = String::from_utf8(notes.0.lock().unwrap().clone()).unwrap();
    assert!(said.contains("cut this line at 4095 characters"), "{said}");
}

#[test]
fn what_follows_the_line_stays() {
    let (mut them, us) = UnixStream::pair().unwrap();
    them.write_all(b"first\nsecond\n").unwrap();
    let (terminal, _) = terminal();
    for want in ["first", "second"] {
        let answer = terminal.answer(us.as_fd(), false, "Paste", &|| false);
        assert_eq!(answer.as_deref(), Some(want));
    }
}

#[test]
fn events_say_what_to_do() {
    let cases = [
        (
            LoginEvent::OpenUrl {
                url: "https://x/a",
                opened: false,
                why_not: Some("no display"),
            },
            "Open this in a browser (no display):\n\n  https://x/a\n\n",
        ),
        (
            LoginEvent::DeviceCode {
                user_code: "AB-12",
                verification_uri: "https://x/device",
                complete: None,
                expires_in: Duration::from_secs(900),
                beside: false,
            },
            "On any device:\n\n  open        : https://x/device\n  enter       : AB-12\n\nThe code ends in 15 minutes.\n",
        ),
        (
            LoginEvent::DeviceCode {
                user_code: "AB-12",
                verification_uri: "https://x/device",
                complete: Some("https://x/device?c=AB-12"),
                expires_in: Duration::from_secs(900),
                beside: true,
            },
            "Or on any device:\n\n  open        : https://x/device\n  enter       : AB-12\n  or directly : \
             https://x/device?c=AB-12\n\nThe code ends in 15 minutes. What answers first wins.\n\n",
        ),
        (
            LoginEvent::DeviceFailed { reason: "404" },
            "No code for another device: 404\n",
        ),
        (
            LoginEvent::PasteRefused {
                reason: "State mismatch",
            },
            "not taken: State mismatch\n",
        ),
        (LoginEvent::Notice("check the terms"), "note: check the terms\n"),
    ];
    for (event, want) in cases {
        assert_eq!(in_words(event, &Look::plain(Name::OWN)), want);
    }
}
