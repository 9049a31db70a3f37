//! `chat`: one question (`-p`), questions line by line from a pipe, or a conversation on a terminal.
//!
//! Answers go to standard output as they come, everything else to standard error. What a turn does is the sink's work.

mod interrupts;
mod terminal;

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use tokensink_sink::{
    Chat, ChatAnswer, ChatEvent, ChatRequest, ErrorKind, SessionKey, Sink, SinkError, UnixMillis,
};

use self::interrupts::Interrupts;
use super::{App, remark};
use crate::args::ChatArgs;
use crate::exit::{Failure, OK, Outcome};
use crate::printer::Printer;
use crate::render::chat;

/// The longest question that is read from standard input, in bytes: more than any model takes.
const QUESTION_MAX: u64 = 8 << 20;

/// `chat`.
pub(super) fn run(app: &mut App<'_>, args: ChatArgs) -> Outcome {
    let agent = app.agent(args.agent.as_deref())?;
    let named = args
        .session
        .as_deref()
        .map(|text| session_key(agent.as_str(), text))
        .transpose()?;
    let question = args.prompt.map(question).transpose()?;
    // One question leaves no trace unless a session is named; a conversation can choose its model for later ones, too.
    let of_terminal = || session_key(agent.as_str(), "terminal");
    let session = match (&named, &question) {
        (None, None) => Some(of_terminal()?),
        _ => named.clone(),
    };
    let chat = app.sink.chat(ChatRequest {
        agent,
        session,
        kept: named.is_some(),
        model: args.model,
    })?;
    let mut talk = Talk {
        sink: app.sink,
        interrupts: Interrupts::new()?,
        filters: io::stdout().is_terminal(),
        printer: app.printer,
        chat,
    };
    match question {
        Some(question) => talk.once(&question, args.json),
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => terminal::converse(&mut talk),
        None => talk.lines(),
    }
}

/// A session by its key, or by a word that stands for one of the agent's.
fn session_key(agent: &str, text: &str) -> Result<SessionKey, SinkError> {
    let text = text.trim();
    let whole = if text.is_empty() || text.contains(':') {
        text.to_owned()
    } else {
        format!("agent:{agent}:{text}")
    };
    SessionKey::parse(&whole)
        .map_err(|error| SinkError::new(ErrorKind::Usage, "bad_session", error.to_string()))
}

/// The question itself, read from standard input where it is `-`.
fn question(text: String) -> Result<String, SinkError> {
    let unusable = |why: String| SinkError::new(ErrorKind::Usage, "no_question", why);
    let text = if text == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .take(QUESTION_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| unusable(format!("the question could not be read: {error}")))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > QUESTION_MAX) {
            return Err(unusable(format!(
                "the question is longer than {QUESTION_MAX} bytes"
            )));
        }
        String::from_utf8(bytes).map_err(|_| unusable("the question is not UTF-8".to_owned()))?
    } else {
        text
    };
    if text.trim().is_empty() {
        return Err(
            unusable("the question is empty".to_owned()).with_fix("tokensink chat -p 'your question'")
        );
    }
    Ok(text)
}

/// A conversation and where it is shown.
struct Talk<'a> {
    sink: &'a Sink,
    printer: &'a mut Printer,
    chat: Chat,
    interrupts: Interrupts,
    /// Answers go to a terminal, which they must not steer.
    filters: bool,
}

impl Talk<'_> {
    /// `-p`: the answer and nothing else.
    fn once(&mut self, question: &str, as_json: bool) -> Outcome {
        if let Some(rest) = self.command(question)? {
            return if rest.is_empty() {
                Ok(OK)
            } else {
                self.once(&rest, as_json)
            };
        }
        self.check_word(question)?;
        let answer = self.ask(question, !as_json)?;
        if as_json {
            self.printer.json(&chat::answer(&answer))?;
        }
        Ok(OK)
    }

    /// Questions from a pipe, a line each; the first that fails ends it, since the next may build on it.
    fn lines(&mut self) -> Outcome {
        for line in io::stdin().lock().lines() {
            let line = line.map_err(Failure::Output)?;
            if line.trim().is_empty() {
                continue;
            }
            self.message(&line)?;
            if self.interrupts.is_over() {
                break;
            }
        }
        Ok(OK)
    }

    /// A message: commands are carried out, and what is left of it is asked.
    fn message(&mut self, text: &str) -> Result<(), Failure> {
        let mut rest = text.to_owned();
        while let Some(left) = self.command(&rest)? {
            rest = left;
        }
        if !rest.trim().is_empty() {
            self.check_word(&rest)?;
            self.ask(&rest, true)?;
        }
        Ok(())
    }

    /// Nobody pays for a mistyped command.
    fn check_word(&self, text: &str) -> Result<(), SinkError> {
        self.sink
            .check_chat_word(self.chat.agent(), text, terminal::WORDS)
    }

    /// Carries out a command of a message and answers it; the rest of the message, or `None` where there is none.
    fn command(&mut self, text: &str) -> Result<Option<String>, Failure> {
        let Some(reply) = self.sink.chat_directive(&mut self.chat, text)? else {
            return Ok(None);
        };
        for line in &reply.lines {
            self.printer.line(&chat::harmless(line))?;
        }
        self.printer.flush()?;
        Ok(Some(reply.rest))
    }

    /// Asks, and shows the answer as it comes.
    fn ask(&mut self, question: &str, shows: bool) -> Result<ChatAnswer, Failure> {
        let now = self.sink.now();
        let mut screen = Screen {
            printer: self.printer,
            filters: self.filters,
            shows,
            now,
            mid_line: false,
            failed: None,
        };
        let turn = self.interrupts.turn();
        let answer = self
            .sink
            .chat_turn(&mut self.chat, question, turn.cancel(), &mut |event| {
                screen.show(event);
                if screen.failed.is_some() {
                    turn.cancel().set();
                }
            });
        drop(turn);
        if screen.mid_line {
            screen.end_line();
        }
        if let Some(error) = screen.failed {
            return Err(Failure::Output(error));
        }
        let answer = answer?;
        if let Some(stop) = &answer.stop {
            remark(self.printer, &chat::stopped(stop));
        }
        Ok(answer)
    }
}

/// Where a turn is shown.
struct Screen<'a> {
    printer: &'a mut Printer,
    filters: bool,
    shows: bool,
    now: UnixMillis,
    /// The last piece did not end its line.
    mid_line: bool,
    /// The output is gone, so the answer need not go on.
    failed: Option<io::Error>,
}

impl Screen<'_> {
    fn show(&mut self, event: ChatEvent<'_>) {
        match event {
            ChatEvent::Text(text) if self.shows && self.failed.is_none() => self.text(text),
            ChatEvent::Moved(moved) => {
                let line = chat::moved(moved, self.now, &self.printer.note_look);
                remark(self.printer, &chat::harmless(&line));
            }
            ChatEvent::Note(note) => remark(self.printer, &chat::harmless(note)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        let text = if self.filters {
            chat::harmless(text)
        } else {
            text.to_owned()
        };
        self.mid_line = !text.is_empty() && !text.ends_with('\n') || text.is_empty() && self.mid_line;
        self.failed = self.printer.data(&text).and_then(|()| self.printer.flush()).err();
    }

    fn end_line(&mut self) {
        if self.failed.is_none() {
            self.failed = self.printer.line("").and_then(|()| self.printer.flush()).err();
        }
    }
}
