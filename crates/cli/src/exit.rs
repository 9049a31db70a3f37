//! How a command ends: one table from the kind of an error to the exit code (design.md 9), and one way to print it.

use std::error::Error;
use std::io;

use serde_json::{Value, json};
use tokensink_sink::{ErrorKind, SinkError};

use crate::name::Name;
use crate::printer::Printer;
use crate::render::{Look, colour};

/// What a command returns when it did its work: the exit code, mostly [`OK`].
pub(crate) type Outcome = Result<u8, Failure>;

/// All is well.
pub(crate) const OK: u8 = 0;
/// It failed.
pub(crate) const FAILED: u8 = 1;
/// The command line was wrong.
pub(crate) const USAGE: u8 = 2;
/// Somebody must log in.
pub(crate) const LOGIN_NEEDED: u8 = 3;
/// The same command may work later (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const TRY_AGAIN: u8 = 75;

/// Why a command did not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The sink said so.
    Sink(SinkError),
    /// Standard output could not be written.
    Output(io::Error),
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The exit code of an error.
pub(crate) fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Failed => FAILED,
        ErrorKind::Usage => USAGE,
        ErrorKind::LoginNeeded => LOGIN_NEEDED,
        ErrorKind::TryAgain => TRY_AGAIN,
    }
}

/// What it is when a file that was named as an argument cannot be read: a wrong argument where there is none.
pub(crate) fn unreadable(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            ErrorKind::Usage
        }
        _ => ErrorKind::Failed,
    }
}

/// Prints what is to be said of the end of a command and returns the exit code. With `json`, standard output gets an
/// object with the error as well, so that it always holds exactly one JSON value.
pub(crate) fn conclude(outcome: Outcome, json: bool, printer: &mut Printer) -> u8 {
    let outcome = match outcome {
        Err(Failure::Sink(error)) if json => {
            report(&error, printer);
            let value = as_json(&error, printer.look.name);
            printer
                .json(&value)
                .map(|()| code_of(error.kind()))
                .map_err(Failure::Output)
        }
        other => other,
    };
    match outcome.and_then(|code| Ok(printer.flush().map(|()| code)?)) {
        Ok(code) => code,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => OK,
        Err(Failure::Output(error)) => {
            let label = printer.note_look.paint(colour::BAD, "error:");
            printer.note(&format!("{label} standard output could not be written: {error}"));
            FAILED
        }
        Err(Failure::Sink(error)) => {
            report(&error, printer);
            code_of(error.kind())
        }
    }
}

fn report(error: &SinkError, printer: &mut Printer) {
    let text = in_words(error, &printer.note_look);
    printer.note(&text);
}

/// `error: …`, its causes one per line, and `fix: …` for every line of the fix.
pub(crate) fn in_words(error: &SinkError, look: &Look) -> String {
    let mut text = format!(
        "{} {}",
        look.paint(colour::BAD, "error:"),
        look.name.in_commands(&error.to_string())
    );
    for cause in causes(error) {
        text.push_str(&format!("\n  because: {}", look.name.in_commands(&cause)));
    }
    for fix in error.fix().into_iter().flat_map(str::lines) {
        text.push_str(&format!(
            "\n{} {}",
            look.paint(colour::COMMAND, "fix:"),
            look.name.in_commands(fix)
        ));
    }
    text
}

/// The error as an object: `{"error": {code, message, causes, fix?, profile?, retryAt?}}`.
pub(crate) fn as_json(error: &SinkError, name: Name) -> Value {
    let mut object = json!({
        "code": error.code(),
        "message": name.in_commands(&error.to_string()),
        "causes": causes(error),
    });
    if let Some(fix) = error.fix() {
        object["fix"] = name.in_commands(fix).into();
    }
    if let Some(profile) = error.profile() {
        object["profile"] = profile.as_str().into();
    }
    if let Some(at) = error.retry_at() {
        object["retryAt"] = at.0.into();
    }
    json!({ "error": object })
}

/// The chain of sources, each in one line, without what the line before already said.
fn causes(error: &SinkError) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string().replace('\n', " ");
        if !said.contains(&text) {
            causes.push(text.clone());
        }
        said = text;
        next = cause.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::printer::tests::{Kept, kept};

    #[test]
    fn every_kind_has_its_code() {
        let cases = [
            (ErrorKind::Failed, 1),
            (ErrorKind::Usage, 2),
            (ErrorKind::LoginNeeded, 3),
            (ErrorKind::TryAgain, 75),
        ];
        for (kind, want) in cases {
            assert_eq!(code_of(kind), want, "{kind:?}");
        }
    }

    fn sample() -> SinkError {
        SinkError::new(ErrorKind::LoginNeeded, "no_credential", "anthropic has no login")
            .because(io::Error::other("the store is empty"))
            .with_fix("tokensink models auth login --provider anthropic")
    }

    #[test]
    fn an_error_names_its_causes_and_its_fix() {
        let (mut printer, data, notes) = kept(Name::of(Some("clawdbot".as_ref())));
        let code = conclude(Err(sample().into()), false, &mut printer);
        assert_eq!(code, 3);
        assert_eq!(data.text(), "");
        assert_eq!(
            notes.text(),
            "\
error: anthropic has no login
  because: the store is empty
fix: clawdbot models auth login --provider anthropic
"
        );
    }

    #[test]
    fn json_output_stays_one_value() {
        let (mut printer, data, notes) = kept(Name::OWN);
        assert_eq!(conclude(Err(sample().into()), true, &mut printer), 3);
        let value: Value = serde_json::from_str(&data.text()).unwrap();
        assert_eq!(
            value,
            json!({"error": {"code": "no_credential", "message": "anthropic has no login",
                "causes": ["the store is empty"], "fix": "tokensink models auth login --provider anthropic"}})
        );
        assert!(notes.text().starts_with("error: anthropic has no login"));
    }

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_quiet_and_a_full_disk_is_not() {
        let cases = [
            (io::ErrorKind::BrokenPipe, OK, ""),
            (
                io::ErrorKind::StorageFull,
                FAILED,
                "error: standard output could not",
            ),
        ];
        for (kind, want, said) in cases {
            let notes = Kept::default();
            let mut printer = Printer::over(Failing(kind), notes.clone());
            let outcome = printer.line("data").map(|()| OK).map_err(Failure::Output);
            assert_eq!(conclude(outcome, false, &mut printer), want, "{kind}");
            assert!(notes.text().starts_with(said), "{}", notes.text());
            assert_eq!(conclude(Ok(OK), false, &mut printer), want, "{kind} on flush");
        }
    }
}
