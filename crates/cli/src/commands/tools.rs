//! `completions` and `man`: made from the same definitions as the grammar.

use std::path::Path;

use clap_complete::env::Shells;
use clap_mangen::Man;
use tokensink_host::{Host, atomic};
use tokensink_sink::{ErrorKind, SinkError};

use crate::args::{self, CompletionsArgs, ManArgs, Shell};
use crate::complete;
use crate::exit::{FAILED, Failure, OK, Outcome};
use crate::printer::Printer;

/// The variable by which a completion script asks for candidates. Not clap's default `COMPLETE`, which another
/// program's script may have left set.
pub(crate) const COMPLETE_VARIABLE: &str = "TOKENSINK_COMPLETE";

/// Manual pages are for everybody.
const PAGE_MODE: u32 = 0o644;

/// The script for bash: clap's does not know that ids hold colons.
const BASH: &str = include_str!("completions.bash");

/// Prints the script for a shell. It calls the command by its name, so that it survives an update.
pub(super) fn completions(args: &CompletionsArgs, printer: &mut Printer) -> Outcome {
    let name = printer.look.name.as_str();
    if args.shell == Shell::Bash {
        printer.data(&bash(name))?;
        return Ok(OK);
    }
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(args.shell.as_str()) else {
        return Ok(FAILED);
    };
    let mut script = Vec::new();
    shell.write_registration(COMPLETE_VARIABLE, name, name, name, &mut script)?;
    printer.data(&String::from_utf8_lossy(&script))?;
    Ok(OK)
}

fn bash(name: &str) -> String {
    BASH.replace("FUNCTION", &format!("complete_{}", name.replace('-', "_")))
        .replace("VARIABLE", COMPLETE_VARIABLE)
        .replace("NAME", name)
}

/// Writes one page per command.
pub(super) fn man(args: &ManArgs, host: &Host, printer: &mut Printer) -> Outcome {
    let dir = match host.env.current_dir() {
        Some(current) => current.join(&args.out),
        None => args.out.clone(),
    };
    atomic::ensure_dir(&*host.files, &dir, 0o755).map_err(|error| failed(&dir, error))?;
    let mut grammar = args::grammar(printer.look.name, &complete::key_options());
    grammar.build();
    let pages = pages(&grammar)?;
    for (name, text) in &pages {
        let path = dir.join(name);
        atomic::replace(&*host.files, &*host.random, &path, text, PAGE_MODE)
            .map_err(|error| failed(&path, error))?;
    }
    printer.line(&format!("{} pages in {}", pages.len(), dir.display()))?;
    Ok(OK)
}

fn failed(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    SinkError::new(
        ErrorKind::Failed,
        "write",
        format!("{} could not be written", path.display()),
    )
    .because(error)
    .into()
}

/// File name and text of the page of `command` and of those below it; hidden commands have none.
fn pages(command: &clap::Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let man = Man::new(command.clone().disable_help_subcommand(true))
        .source(concat!("tokensink ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render(&mut text)?;
    let mut pages = vec![(man.get_filename(), text)];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages.extend(self::pages(below)?);
    }
    Ok(pages)
}
