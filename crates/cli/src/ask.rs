//! Questions to the person at the terminal: menus, yes or no, a line, a secret.
//!
//! On a terminal that can move its cursor they are inquire's; on a dumb one (`TERM=dumb`) numbered lists and plain
//! lines. Esc, Ctrl-C and the end of the input all mean the same: the whole thing is given up ([`given_up`]). While
//! an [`Asker`] lives, Ctrl-C outside of a question does not kill the process but sets a flag that everything which
//! waits looks at; a second one kills.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use inquire::list_option::ListOption;
use inquire::{Confirm, InquireError, MultiSelect, Password, PasswordDisplayMode, Select, Text};
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use tokensink_host::Environment;
use tokensink_sink::{ErrorKind, Result, Secret, SinkError};
use zeroize::Zeroizing;

use crate::secret_input::Quiet;
use crate::ui::Terminal;

/// Lines of a menu that are shown at once.
const PAGE: usize = 12;

/// The code of [`given_up`].
pub(crate) const GIVEN_UP: &str = "cancelled";

/// Exit code of a process that Ctrl-C ended: 128 and the number of SIGINT.
const KILLED: i32 = 130;

/// Somebody who can be asked.
pub(crate) struct Asker {
    is_dumb: bool,
    interrupted: Arc<AtomicBool>,
    handlers: Vec<signal_hook::SigId>,
}

/// A line of a menu.
pub(crate) struct Line<T> {
    pub(crate) text: String,
    pub(crate) value: T,
}

impl<T> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Asker {
    /// The person at the process's own terminal.
    pub(crate) fn new(env: &dyn Environment) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        // The second handler must look at the flag before the first sets it. Without them Ctrl-C ends the process
        // without a word, which is no harm.
        let handlers = [
            flag::register_conditional_shutdown(SIGINT, KILLED, Arc::clone(&interrupted)),
            flag::register(SIGINT, Arc::clone(&interrupted)),
        ];
        Self {
            is_dumb: env.var("TERM").is_none_or(|term| term == "dumb"),
            interrupted,
            handlers: handlers.into_iter().flatten().collect(),
        }
    }

    /// The flag that Ctrl-C sets.
    pub(crate) fn interrupted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.interrupted)
    }

    /// One of several; `start` is the index of the line that Enter alone takes.
    pub(crate) fn select<T>(
        &self,
        ui: &Terminal,
        question: &str,
        lines: Vec<Line<T>>,
        start: usize,
    ) -> Result<T> {
        if !self.is_dumb {
            // What explains a line is left out once it is taken.
            let summary = |taken: ListOption<&Line<T>>| {
                let text = &taken.value.text;
                text.split_once(": ")
                    .map_or(text.as_str(), |(word, _)| word)
                    .to_owned()
            };
            let menu = Select::new(question, lines)
                .with_formatter(&summary)
                .with_starting_cursor(start)
                .with_page_size(PAGE);
            return Ok(self.answer(|| menu.prompt())?.value);
        }
        self.go_on()?;
        let mut text = format!("{question}\n");
        for (number, line) in lines.iter().enumerate() {
            text.push_str(&format!("  {:>2}  {}\n", number + 1, line.text));
        }
        ui.tell(&text);
        let prompt = format!("Number (Enter for {})", start + 1);
        loop {
            let answer = self.line(ui, &prompt)?;
            let number = match answer.as_str() {
                "" => Some(start),
                answer => answer
                    .parse::<usize>()
                    .ok()
                    .and_then(|number| number.checked_sub(1)),
            };
            if let Some(number) = number.filter(|number| *number < lines.len()) {
                let chosen = lines.into_iter().nth(number);
                return chosen.map(|line| line.value).ok_or_else(given_up);
            }
            ui.tell(&format!("Type a number from 1 to {}.\n", lines.len()));
        }
    }

    /// Any number of several; those whose index is in `marked` are taken by Enter alone.
    pub(crate) fn several<T>(
        &self,
        ui: &Terminal,
        question: &str,
        lines: Vec<Line<T>>,
        marked: &[usize],
    ) -> Result<Vec<T>> {
        if !self.is_dumb {
            let summary = |taken: &[ListOption<&Line<T>>]| match taken {
                [] => "none".to_owned(),
                [one] => one.value.text.clone(),
                several => format!("{} of them", several.len()),
            };
            let menu = MultiSelect::new(question, lines)
                .with_default(marked)
                .with_formatter(&summary)
                .with_page_size(PAGE)
                .with_help_message("space marks, enter goes on, esc gives up");
            let taken = self.answer(|| menu.prompt())?;
            return Ok(taken.into_iter().map(|line| line.value).collect());
        }
        self.go_on()?;
        ui.tell(&format!("{question}\n"));
        let mut taken = Vec::new();
        for (index, line) in lines.into_iter().enumerate() {
            if self.confirm(ui, &line.text, marked.contains(&index))? {
                taken.push(line.value);
            }
        }
        Ok(taken)
    }

    /// Yes or no.
    pub(crate) fn confirm(&self, ui: &Terminal, question: &str, default: bool) -> Result<bool> {
        if !self.is_dumb {
            return self.answer(|| Confirm::new(question).with_default(default).prompt());
        }
        self.go_on()?;
        let prompt = format!("{question} ({})", if default { "Y/n" } else { "y/N" });
        loop {
            match self.line(ui, &prompt)?.to_lowercase().as_str() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => ui.tell("Type y or n.\n"),
            }
        }
    }

    /// A line of text; `default` is what Enter alone takes.
    pub(crate) fn text(&self, ui: &Terminal, question: &str, default: Option<&str>) -> Result<String> {
        self.go_on()?;
        let prompt = match default {
            Some(default) if self.is_dumb => format!("{question} (Enter for {default})"),
            _ => question.to_owned(),
        };
        loop {
            let answer = if self.is_dumb {
                self.line(ui, &prompt)?
            } else {
                let prompt = Text::new(&prompt);
                let prompt = match default {
                    Some(default) => prompt.with_default(default),
                    None => prompt,
                };
                self.answer(|| prompt.prompt())?
            };
            let answer = answer.trim();
            match default {
                Some(default) if answer.is_empty() => return Ok(default.to_owned()),
                None if answer.is_empty() => ui.tell("Something is needed here.\n"),
                _ => return Ok(answer.to_owned()),
            }
        }
    }

    /// A secret, which is not shown; asked for again until `check` takes it.
    pub(crate) fn secret(
        &self,
        ui: &Terminal,
        question: &str,
        check: &dyn Fn(&Secret) -> Result<()>,
    ) -> Result<Secret> {
        self.go_on()?;
        loop {
            let typed = if self.is_dumb {
                // The prompt is an invitation to paste: echo must be off before it is seen.
                let _quiet = Quiet::begin();
                let typed = self.line(ui, &format!("{question} (not shown)"));
                ui.tell("\n");
                typed?
            } else {
                let prompt = Password::new(question)
                    .with_display_mode(PasswordDisplayMode::Masked)
                    .without_confirmation();
                self.answer(|| prompt.prompt())?
            };
            let secret = Secret::new(Zeroizing::new(typed).trim());
            let checked = if secret.is_blank() {
                Err(SinkError::new(ErrorKind::Usage, "secret_input", "Required"))
            } else {
                check(&secret)
            };
            match checked {
                Ok(()) => return Ok(secret),
                Err(error) => ui.refuse(&error),
            }
        }
    }

    /// What the person answers to one of inquire's questions.
    fn answer<T>(&self, prompt: impl FnOnce() -> std::result::Result<T, InquireError>) -> Result<T> {
        // From here on Ctrl-C is a key that the question reads. One that came before has set the flag; one between a look at
        // the flag and this would be lost.
        let _keys = Keys::begin();
        self.go_on()?;
        prompt().map_err(ended)
    }

    /// A typed line, which may be empty.
    fn line(&self, ui: &Terminal, prompt: &str) -> Result<String> {
        let stdin = io::stdin();
        let interrupted = || self.interrupted.load(Ordering::SeqCst);
        ui.line(stdin.as_fd(), stdin.is_terminal(), prompt, &interrupted)
            .ok_or_else(given_up)
    }

    fn go_on(&self) -> Result<()> {
        if self.interrupted.load(Ordering::SeqCst) {
            return Err(given_up());
        }
        Ok(())
    }
}

/// The terminal's keys come as they are, until this is dropped. Where they cannot, the question tells why.
struct Keys;

impl Keys {
    fn begin() -> Self {
        let _told_by_the_question = enable_raw_mode();
        Self
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ended_by_the_question = disable_raw_mode();
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        for handler in &self.handlers {
            signal_hook::low_level::unregister(*handler);
        }
    }
}

/// The person wants no more of it.
pub(crate) fn given_up() -> SinkError {
    SinkError::new(ErrorKind::Failed, GIVEN_UP, "given up: nothing was changed")
}

fn ended(error: InquireError) -> SinkError {
    match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => given_up(),
        error => given_up().because(error),
    }
}
