//! One run of the command from arguments to exit code.

use std::ffi::OsString;
use std::io;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap_complete::CompleteEnv;
use tokensink_host::Environment;

use crate::args;
use crate::commands::{self, COMPLETE_VARIABLE};
use crate::exit::{self, FAILED, OK, USAGE};
use crate::logging;
use crate::name::Name;
use crate::printer::Printer;
use crate::render::colour;
use crate::{allocator, complete};

/// Runs the command line `args`, program name included, in the environment `env`, and returns the exit code.
pub(crate) fn run(args: Vec<OsString>, env: &dyn Environment) -> u8 {
    let name = Name::of(args.first().map(OsString::as_os_str));
    if env.var(COMPLETE_VARIABLE).is_some() {
        return completions(name, args, env);
    }
    let cli = match args::parse(name, &args, complete::key_options) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&unquoted(error)),
    };
    let allocator = commands::runs_for_long(&cli.command)
        .then(|| allocator::ensure_settings(&args, env))
        .flatten();
    let mut printer = Printer::standard(name, env);
    if let Some(wrong) = logging::start(cli.verbose, commands::log_format(&cli.command), env) {
        let label = printer.note_look.paint(colour::WARN, "warning:");
        printer.note(&format!("{label} {wrong}"));
    }
    if let Some(error) = allocator {
        tracing::debug!(%error, "the allocator keeps its own settings");
    }
    let json = commands::wants_json(&cli.command);
    let outcome = commands::run(cli.command, &mut printer);
    exit::conclude(outcome, json, &mut printer)
}

/// Without the word that had no place: who types a secret as an argument shall not find it in a log as well.
fn unquoted(mut error: clap::Error) -> clap::Error {
    let bare = |value: &ContextValue| matches!(value, ContextValue::String(word) if !word.starts_with('-'));
    if error.kind() == ErrorKind::UnknownArgument && error.get(ContextKind::InvalidArg).is_some_and(bare) {
        let shown = "(not shown, it may be a secret)".to_owned();
        error.insert(ContextKind::InvalidArg, ContextValue::String(shown));
    }
    error
}

/// Help and version on standard output, usage errors on standard error.
fn not_parsed(error: &clap::Error) -> u8 {
    match error.print() {
        Err(failed) if failed.kind() != io::ErrorKind::BrokenPipe => FAILED,
        Ok(()) | Err(_) if error.use_stderr() => USAGE,
        Ok(()) | Err(_) => OK,
    }
}

/// Answers a completion script. Errors are silent, because they would land in the user's command line.
fn completions(name: Name, args: Vec<OsString>, env: &dyn Environment) -> u8 {
    let current_dir = env.current_dir();
    let _ignored = CompleteEnv::with_factory(|| args::grammar(name, &complete::key_options()))
        .var(COMPLETE_VARIABLE)
        .try_complete(args, current_dir.as_deref());
    OK
}
