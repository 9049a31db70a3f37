//! The terminal's side of a login: what the sink wants said goes to standard error, and a pasted answer is read from
//! standard input in a way that can be given up at once when the browser answers first.

mod question;

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokensink_sink::{Cancel, LoginEvent, LoginUi, Question, Secret, SinkError};
use zeroize::Zeroizing;

use crate::exit;
use crate::render::table::fold;
use crate::render::{Look, colour, words};

/// How long one look at standard input takes before the cancellation is looked at again.
const LOOK: Duration = Duration::from_millis(50);

/// Longest answer in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Bytes that Linux gives a program of one typed line (`N_TTY_BUF_SIZE` less the line end); the rest is lost silently.
const TERMINAL_LINE_MAX: usize = 4095;

/// A person at a terminal, or nobody.
pub(crate) struct Terminal {
    notes: Mutex<Notes>,
    look: Look,
    /// Whether text is broken at words, as a terminal needs it.
    folds: bool,
    /// Set when the person wants no more of it.
    interrupted: Option<Arc<AtomicBool>>,
}

struct Notes {
    out: Box<dyn Write + Send>,
    /// The prompt that the cursor stands behind.
    open: Option<String>,
}

impl Notes {
    fn write(&mut self, text: &str) {
        let _ignored = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
    }
}

impl Terminal {
    /// The process's own terminal.
    pub(crate) fn standard(look: Look) -> Self {
        Self {
            folds: io::stderr().is_terminal(),
            ..Self::over(io::stderr(), look)
        }
    }

    /// The same, given up once `interrupted` is set.
    pub(crate) fn interruptible(look: Look, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            interrupted: Some(interrupted),
            ..Self::standard(look)
        }
    }

    fn over(notes: impl Write + Send + 'static, look: Look) -> Self {
        Self {
            notes: Mutex::new(Notes {
                out: Box::new(notes),
                open: None,
            }),
            look,
            folds: false,
            interrupted: None,
        }
    }

    /// Says something; below a prompt that is open, which is then repeated.
    fn say(&self, text: &str) {
        if let Ok(mut notes) = self.notes.lock() {
            match notes.open.clone() {
                Some(prompt) if !text.is_empty() => notes.write(&format!("\n{text}{prompt}: ")),
                _ => notes.write(text),
            }
        }
    }

    fn open(&self, prompt: &str) {
        if let Ok(mut notes) = self.notes.lock() {
            notes.write(&format!("{prompt}: "));
            notes.open = Some(prompt.to_owned());
        }
    }

    /// The prompt was answered, or is given up; then the cursor has to leave its line.
    fn close(&self, answered: bool) {
        if let Ok(mut notes) = self.notes.lock()
            && notes.open.take().is_some()
            && !answered
        {
            notes.write("\n");
        }
    }
}

impl LoginUi for Terminal {
    fn interactive(&self) -> bool {
        io::stdin().is_terminal()
    }

    fn show(&self, event: LoginEvent<'_>) {
        self.tell(&in_words(event, &self.look));
    }

    fn ask_paste(&self, prompt: &str, cancel: &Cancel) -> Option<String> {
        let stdin = io::stdin();
        let over = || cancel.is_set() || self.given_up();
        self.answer(stdin.as_fd(), stdin.is_terminal(), prompt, &over)
    }

    fn ask(&self, question: &Question<'_>) -> Option<Secret> {
        question::ask(question, &|prompt| {
            let stdin = io::stdin();
            self.answer(stdin.as_fd(), stdin.is_terminal(), prompt, &|| self.given_up())
        })
    }

    fn given_up(&self) -> bool {
        let flag = self.interrupted.as_ref();
        flag.is_some_and(|flag| flag.load(Ordering::SeqCst))
    }
}

impl Terminal {
    /// Says something as it is, broken at words where a terminal needs it.
    pub(crate) fn tell(&self, text: &str) {
        if self.folds {
            self.say(&fold(text, self.look.width));
        } else {
            self.say(text);
        }
    }

    /// Says why an answer is not taken.
    pub(crate) fn refuse(&self, error: &SinkError) {
        self.tell(&format!("{}\n", exit::in_words(error, &self.look)));
    }

    /// Reads one line that is not empty from `input`; `None` at its end, on an error, or once `cancelled`.
    fn answer(
        &self,
        input: BorrowedFd<'_>,
        terminal: bool,
        prompt: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Option<String> {
        loop {
            let line = self.line(input, terminal, prompt, cancelled)?;
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    /// Reads one line, which may be empty, without the white space around it; `None` as for an answer.
    pub(crate) fn line(
        &self,
        input: BorrowedFd<'_>,
        terminal: bool,
        prompt: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Option<String> {
        let mut line = Zeroizing::new(Vec::new());
        self.open(prompt);
        while !cancelled() {
            match next_byte(input) {
                Next::Nothing => {}
                Next::End if line.is_empty() => break,
                Next::End | Next::Byte(b'\n' | b'\r') => {
                    self.close(true);
                    if !(terminal && line.len() >= TERMINAL_LINE_MAX) {
                        return Some(String::from_utf8_lossy(&line).trim().to_owned());
                    }
                    self.say(&format!(
                        "The terminal cut this line at {TERMINAL_LINE_MAX} characters. Paste only the part after \
                         `code=`.\n"
                    ));
                    line.clear();
                    self.open(prompt);
                }
                Next::Byte(byte) if line.len() < ANSWER_MAX => line.push(byte),
                Next::Byte(_) => break,
            }
        }
        self.close(false);
        None
    }
}

enum Next {
    Nothing,
    End,
    Byte(u8),
}

/// Waits up to [`LOOK`] for one byte. Byte by byte, because what follows the line belongs to whoever reads next.
fn next_byte(input: BorrowedFd<'_>) -> Next {
    let mut fds = [PollFd::new(&input, PollFlags::IN)];
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(LOOK.subsec_nanos()),
    };
    match poll(&mut fds, Some(&time)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Next::Nothing,
        Ok(_) => {}
        Err(_) => return Next::End,
    }
    let mut byte = [0_u8];
    match rustix::io::read(input, &mut byte) {
        Ok(1) => Next::Byte(byte[0]),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Next::Nothing,
        Ok(_) | Err(_) => Next::End,
    }
}

/// What an event of a login says, ended by a line end.
fn in_words(event: LoginEvent<'_>, look: &Look) -> String {
    let strong = |text: &str| look.paint(colour::COMMAND, text);
    match event {
        LoginEvent::Notice(text) => format!("{} {text}\n", look.paint(colour::WARN, "note:")),
        LoginEvent::OpenUrl {
            url, opened: true, ..
        } => {
            format!(
                "Your browser was opened. If it shows nothing, open:\n\n  {}\n\n",
                strong(url)
            )
        }
        LoginEvent::OpenUrl { url, why_not, .. } => {
            let why = why_not.map(|why| format!(" ({why})")).unwrap_or_default();
            format!("Open this in a browser{why}:\n\n  {}\n\n", strong(url))
        }
        LoginEvent::DeviceCode {
            user_code,
            verification_uri,
            complete,
            expires_in,
            beside,
        } => {
            let direct = complete
                .map(|uri| format!("  or directly : {}\n", strong(uri)))
                .unwrap_or_default();
            let title = if beside {
                "Or on any device:"
            } else {
                "On any device:"
            };
            format!(
                "{title}\n\n  open        : {}\n  enter       : {}\n{direct}\nThe code ends in {}.{}\n",
                strong(verification_uri),
                look.paint(colour::HEADING, user_code),
                words::length(expires_in),
                if beside { " What answers first wins.\n" } else { "" },
            )
        }
        LoginEvent::DeviceFailed { reason } => format!("No code for another device: {reason}\n"),
        LoginEvent::Listening { uri } => format!("Waiting for the browser to come back to {uri}\n"),
        LoginEvent::ListenerFailed { reason } => {
            format!("The browser cannot come back by itself: {reason}\n")
        }
        LoginEvent::PasteRefused { reason } => {
            format!("{} {reason}\n", look.paint(colour::WARN, "not taken:"))
        }
        LoginEvent::Exchanging => "The answer came; fetching the tokens …\n".to_owned(),
        LoginEvent::SlowedDown => "The provider asked us to ask less often; still waiting …\n".to_owned(),
        LoginEvent::Plugin { plugin, text } => {
            format!("{} {text}\n", look.paint(colour::FAINT, &format!("{plugin}:")))
        }
        other => {
            tracing::debug!(?other, "a login event without words");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests;
