//! The commands: arguments → sink → report. Nothing here decides; it calls the sink and hands the answer to `render`.

mod agents;
mod audit;
mod auth;
mod channels;
mod chat;
mod conformance;
mod doctor;
mod explain;
mod export;
mod external;
mod import;
mod keys;
mod lease;
mod login;
mod models;
mod onboard;
mod order;
mod paste;
mod plugins;
mod providers;
mod route;
mod secrets;
mod secrets_configure;
mod serve;
mod service;
mod sessions;
mod status;
mod tools;

use std::io::{self, IsTerminal as _};

use inquire::InquireError;
use tokensink_host::Host;
use tokensink_sink::{AgentId, ErrorKind, Flights, Sink, SinkError};

use crate::args::{Command, FLIGHT_COMMAND, LogFormat, ModelsCommand, ProvidersCommand};
use crate::demo;
use crate::exit::{OK, Outcome};
use crate::name::Name;
use crate::printer::Printer;
use crate::render::colour;
use crate::ui::Terminal;

pub(crate) use tools::COMPLETE_VARIABLE;

/// What a command works with.
pub(crate) struct App<'a> {
    pub(crate) sink: &'a Sink,
    pub(crate) printer: &'a mut Printer,
}

impl App<'_> {
    fn agent(&self, id: Option<&str>) -> tokensink_sink::Result<AgentId> {
        self.sink.agent(id)
    }

    fn terminal(&self) -> Terminal {
        Terminal::standard(self.printer.note_look.clone())
    }

    fn name(&self) -> Name {
        self.printer.look.name
    }
}

/// Runs a command. Those that need no store run without opening one.
pub(crate) fn run(command: Command, printer: &mut Printer) -> Outcome {
    match command {
        Command::Completions(args) => tools::completions(&args, printer),
        Command::Man(args) => tools::man(&args, &Host::real(), printer),
        Command::Demo(args) => demo::run(&args, &Host::real(), printer),
        Command::Conformance(args) => conformance::run(&args, &Host::real(), printer),
        Command::Doctor(args) => doctor::run(&args, printer),
        Command::Browser { url } => demo::visit(&Host::real(), &url),
        Command::Flight { args } => lease::flight(&args, printer),
        command => with_sink(command, printer),
    }
}

fn with_sink(command: Command, printer: &mut Printer) -> Outcome {
    let sink = open_sink()?;
    // `check` says itself what is wrong with its file.
    if !matches!(&command, Command::Providers(args) if matches!(args.command, ProvidersCommand::Check { .. }))
    {
        for warning in sink.warnings() {
            warn(printer, warning);
        }
    }
    let mut app = App { sink: &sink, printer };
    match command {
        Command::Onboard(args) => onboard::run(&mut app, &args, onboard::Scope::All),
        Command::Configure(args) => onboard::run(&mut app, &args, onboard::Scope::LoginOnly),
        Command::Token(args) => lease::token(&mut app, args),
        Command::Exec(args) => lease::exec(&mut app, args),
        Command::Renew(args) => lease::renew(&mut app, &args),
        Command::Models(args) => models::run(&mut app, args),
        Command::Channels(args) => channels::run(&mut app, &args),
        Command::Agents(args) => agents::run(&mut app, args),
        Command::Route(args) => route::run(&mut app, args),
        Command::Sessions(args) => sessions::run(&mut app, &args),
        Command::Chat(args) => chat::run(&mut app, args),
        Command::External(args) => external::run(&mut app, args),
        Command::Keys(args) => keys::run(&mut app, args),
        Command::Serve(args) => serve::run(&mut app, args),
        Command::Service(args) => service::run(&mut app, &args),
        Command::Providers(args) => providers::run(&mut app, args),
        Command::Plugins(args) => plugins::run(&mut app, args),
        Command::Import(args) => import::run(&mut app, args),
        Command::Secrets(args) => secrets::run(&mut app, args),
        Command::Explain(args) => explain::run(&mut app, args),
        Command::Audit(args) => audit::run(&mut app, &args),
        Command::Export(args) => export::run(&mut app, args),
        Command::Completions(_)
        | Command::Man(_)
        | Command::Demo(_)
        | Command::Conformance(_)
        | Command::Doctor(_)
        | Command::Browser { .. }
        | Command::Flight { .. } => Ok(OK),
    }
}

fn open_sink() -> tokensink_sink::Result<Sink> {
    // A refresh that this command starts outlives it: killing us does not kill a request on its way.
    Sink::open_here(Flights::helper(FLIGHT_COMMAND))
}

/// Something that is wrong but stops nothing.
fn warn(printer: &mut Printer, text: &str) {
    let label = printer.note_look.paint(colour::WARN, "warning:");
    printer.note(&format!("{label} {}", printer.look.name.in_commands(text)));
}

/// Something that the user should know.
fn remark(printer: &mut Printer, text: &str) {
    let label = printer.note_look.paint(colour::WARN, "note:");
    printer.note(&format!("{label} {}", printer.look.name.in_commands(text)));
}

/// The form of the log's lines that the command line asks for.
pub(crate) fn log_format(command: &Command) -> Option<LogFormat> {
    match command {
        Command::Serve(args) => args.log_format,
        _ => None,
    }
}

/// Does the command run until it is told to end?
pub(crate) fn runs_for_long(command: &Command) -> bool {
    matches!(command, Command::Serve(_))
}

/// Whether the command was asked for JSON; an error is then JSON too.
pub(crate) fn wants_json(command: &Command) -> bool {
    match command {
        Command::Onboard(args) | Command::Configure(args) => args.json,
        Command::Token(args) => args.json,
        Command::Renew(args) => args.json,
        Command::Route(args) => args.json,
        Command::Chat(args) => args.json,
        Command::Models(args) => {
            let command = args.command.as_ref();
            command.map_or(args.status_json, ModelsCommand::wants_json)
        }
        Command::Channels(args) => args.command.wants_json(),
        Command::Agents(args) => args.command.wants_json(),
        Command::External(args) => args.command.wants_json(),
        Command::Keys(args) => args.command.wants_json(),
        Command::Providers(args) => args.command.wants_json(),
        Command::Plugins(args) => args.command.wants_json(),
        Command::Secrets(args) => args.command.wants_json(),
        Command::Serve(args) => args.json,
        Command::Service(args) => args.command.wants_json(),
        Command::Sessions(args) => args.command.wants_json(),
        Command::Demo(args) => args.json,
        Command::Conformance(args) => args.command.wants_json(),
        Command::Import(args) => args.command.wants_json(),
        Command::Doctor(args) => args.json,
        Command::Explain(args) => args.json,
        Command::Audit(args) => args.command.wants_json(),
        // A bundle on standard output leaves no room for anything else.
        Command::Export(args) => {
            let to_stdout = args.to == std::path::Path::new("-");
            args.json && !to_stdout
        }
        Command::Exec(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Browser { .. }
        | Command::Flight { .. } => false,
    }
}

/// Whether somebody can answer a question.
fn somebody_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A question that nobody is there to answer.
fn needs_terminal(what: &str, fix: impl Into<String>) -> SinkError {
    SinkError::new(
        ErrorKind::Usage,
        "no_terminal",
        format!("{what} needs a terminal"),
    )
    .with_fix(fix)
}

/// Turns an interrupted or impossible question into an error.
fn unanswered(error: InquireError) -> SinkError {
    let cancelled = SinkError::new(
        ErrorKind::Failed,
        "cancelled",
        "nothing was chosen, so nothing was done",
    );
    match error {
        // Whoever pressed Esc or Ctrl-C knows why.
        InquireError::OperationCanceled | InquireError::OperationInterrupted => cancelled,
        error => cancelled.because(error),
    }
}
