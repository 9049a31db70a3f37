//! Where text goes: data to standard output, everything else to standard error (style.md 3d 14).
//!
//! A reader that went away (`tokensink … | head -1`) is no failure; every other write error is, because data that
//! was not delivered must not look delivered. Errors of standard error are ignored: there is nobody left to tell.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use tokensink_host::Environment;

use crate::name::Name;
use crate::render::table::fold;
use crate::render::{Look, Zone, colour};

/// The two streams of the process, and how text looks on them.
pub(crate) struct Printer {
    data: Box<dyn Write>,
    notes: Box<dyn Write>,
    /// For text on standard output.
    pub(crate) look: Look,
    /// For text on standard error.
    pub(crate) note_look: Look,
    /// Whether notes are broken at words: on a terminal, which would break them anywhere. Elsewhere a note stays a line.
    folds: bool,
}

impl Printer {
    /// The process's own streams.
    pub(crate) fn standard(name: Name, env: &dyn Environment) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let look = |terminal: bool, width: usize| Look {
            name,
            width,
            colour: colour::wanted(env, terminal),
            zone: Zone::System,
        };
        Self {
            look: look(out.is_terminal(), width_of(env, &out)),
            note_look: look(err.is_terminal(), width_of(env, &err)),
            folds: err.is_terminal(),
            data: Box::new(BufWriter::new(out)),
            notes: Box::new(err),
        }
    }

    /// Writes data as it is.
    ///
    /// # Errors
    /// As the stream gives them, `BrokenPipe` included.
    pub(crate) fn data(&mut self, text: &str) -> io::Result<()> {
        self.data.write_all(text.as_bytes())
    }

    /// Writes one line of data.
    ///
    /// # Errors
    /// As for [`Printer::data`].
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.data(text)?;
        self.data("\n")
    }

    /// Writes a value as indented JSON and a line end.
    ///
    /// # Errors
    /// As for [`Printer::data`].
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.line(&format!("{value:#}"))
    }

    /// Writes a line for people to standard error, after the data that was written before it: on a terminal both
    /// are read in one stream.
    pub(crate) fn note(&mut self, text: &str) {
        // What cannot be written stays in the buffer, and the last flush tells of it.
        let _told_later = self.data.flush();
        let _ignored = if self.folds {
            writeln!(self.notes, "{}", fold(text, self.note_look.width))
        } else {
            writeln!(self.notes, "{text}")
        };
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// As for [`Printer::data`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.data.flush()
    }
}

/// Width of the terminal in columns: `COLUMNS`, else what the terminal says, else 80 (for pipes and files).
fn width_of(env: &dyn Environment, stream: &impl std::os::fd::AsFd) -> usize {
    let said = || {
        let size = rustix::termios::tcgetwinsize(stream).ok()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    };
    env.var("COLUMNS")
        .and_then(|columns| columns.parse().ok())
        .filter(|columns| *columns > 0)
        .or_else(said)
        .unwrap_or(WIDTH_DEFAULT)
        .max(WIDTH_MIN)
}

/// Columns where nothing is known.
const WIDTH_DEFAULT: usize = 80;

/// Columns below which no table makes sense; a narrower terminal wraps.
const WIDTH_MIN: usize = 40;

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// A stream that keeps what it is given.
    #[derive(Clone, Default)]
    pub(crate) struct Kept(Rc<RefCell<Vec<u8>>>);

    impl Kept {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Printer {
        /// A printer over any streams, without colours.
        pub(crate) fn over(data: impl Write + 'static, notes: impl Write + 'static) -> Self {
            Self {
                data: Box::new(data),
                notes: Box::new(notes),
                look: Look::plain(Name::OWN),
                note_look: Look::plain(Name::OWN),
                folds: false,
            }
        }
    }

    /// A printer for tests, without colours, 80 columns wide, in UTC; data first, notes second.
    pub(crate) fn kept(name: Name) -> (Printer, Kept, Kept) {
        let (data, notes) = (Kept::default(), Kept::default());
        let printer = Printer {
            data: Box::new(data.clone()),
            notes: Box::new(notes.clone()),
            look: Look::plain(name),
            note_look: Look::plain(name),
            folds: false,
        };
        (printer, data, notes)
    }

    #[test]
    fn data_and_notes_do_not_mix() {
        let (mut printer, data, notes) = kept(Name::OWN);
        printer.line("token").unwrap();
        printer.note("warning");
        printer.json(&serde_json::json!({"a": 1})).unwrap();
        printer.flush().unwrap();
        assert_eq!(data.text(), "token\n{\n  \"a\": 1\n}\n");
        assert_eq!(notes.text(), "warning\n");
    }
}
