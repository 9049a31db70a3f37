//! A conversation on a terminal: a line editor, and who will answer in the prompt.

use rustyline::error::ReadlineError;
use rustyline::history::{History as _, MemHistory};
use rustyline::{Config, Editor};
use tokensink_sink::{ErrorKind, Role, SinkError};

use super::Talk;
use crate::exit::{self, Failure, OK, Outcome};
use crate::render::chat;

/// Questions that can be called back with the arrow keys.
const REMEMBERED: usize = 1000;

const HELP: &str = "\
/model <model>[@<profile>]  another model or account    /model status  who would serve it
/models [provider]          what there is               /status        this session
/new                        a new conversation          /exit, Ctrl-D  leave
Ctrl-C ends an answer; Alt-Enter begins a new line.";

/// The commands of the terminal itself.
pub(super) const WORDS: &[&str] = &["help", "exit", "quit"];

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Help,
    Leave,
}

/// The terminal's own command with which a line begins, whatever follows it. With a space before it, it is a message.
fn own_command(line: &str) -> Option<Own> {
    let word = line.split(|c: char| c.is_whitespace() || c == ':').next()?;
    match word.to_ascii_lowercase().as_str() {
        "/help" | "/?" => Some(Own::Help),
        "/exit" | "/quit" => Some(Own::Leave),
        _ => None,
    }
}

/// Until the person leaves.
pub(super) fn converse(talk: &mut Talk<'_>) -> Outcome {
    let mut editor = editor().map_err(|error| broken(&error))?;
    for message in talk.chat.messages() {
        if message.role == Role::User {
            editor
                .add_history_entry(&message.text)
                .map_err(|error| broken(&error))?;
        }
    }
    let target = talk.sink.chat_target(&talk.chat)?;
    let hint = format!("{} · /help shows the commands, Ctrl-D leaves", target.key());
    talk.printer.note(&chat::faint(&hint, &talk.printer.note_look));
    while !talk.interrupts.is_over() {
        let line = match editor.readline(&prompt(talk)) {
            Ok(line) => line,
            // Ctrl-C throws away what was typed.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(&error).into()),
        };
        if line.trim().is_empty() {
            continue;
        }
        match own_command(&line) {
            Some(Own::Leave) => break,
            Some(Own::Help) => {
                talk.printer.note(HELP);
                continue;
            }
            None => {}
        }
        match talk.message(&line) {
            Ok(()) => {}
            Err(Failure::Sink(error)) => {
                let words = exit::in_words(&error, &talk.printer.note_look);
                talk.printer.note(&words);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(OK)
}

fn editor() -> rustyline::Result<Editor<(), MemHistory>> {
    let config = Config::builder()
        .max_history_size(REMEMBERED)?
        .auto_add_history(true)
        .build();
    let mut history = MemHistory::with_config(&config);
    history.set_max_len(REMEMBERED)?;
    Editor::with_history(config, history)
}

fn prompt(talk: &Talk<'_>) -> String {
    let model = talk.sink.chat_target(&talk.chat).map(|target| target.key());
    let serving = talk.chat.serving().cloned();
    let serving = serving.or_else(|| talk.sink.chat_prospect(&talk.chat));
    chat::prompt(talk.chat.agent(), &model.unwrap_or_default(), serving.as_ref())
}

fn broken(error: &ReadlineError) -> SinkError {
    SinkError::new(
        ErrorKind::Failed,
        "terminal",
        format!("the terminal cannot be read: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_counts() {
        for (line, want) in [
            ("/help", Some(Own::Help)),
            ("/Help models", Some(Own::Help)),
            ("/help: models", Some(Own::Help)),
            ("/? ", Some(Own::Help)),
            ("/exit now", Some(Own::Leave)),
            ("/QUIT\n", Some(Own::Leave)),
            (" /exit", None),
            ("/exits", None),
            ("/helpme", None),
            ("what does /help do?", None),
            ("", None),
        ] {
            assert_eq!(own_command(line), want, "{line:?}");
        }
        for word in WORDS {
            assert!(own_command(&format!("/{word}")).is_some(), "{word}");
        }
    }
}
