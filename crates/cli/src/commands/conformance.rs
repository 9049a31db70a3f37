//! `conformance`: the kit runs, and its report is printed.

use tokensink_conformance::{NotFound, Options, Progress, find};
use tokensink_host::Host;
use tokensink_sink::{ErrorKind, SinkError};

use crate::args::{ConformanceArgs, ConformanceCommand, ConformanceRunArgs};
use crate::exit::{FAILED, OK, Outcome};
use crate::printer::Printer;
use crate::render::conformance;

/// Runs `conformance`.
pub(super) fn run(args: &ConformanceArgs, host: &Host, printer: &mut Printer) -> Outcome {
    match &args.command {
        ConformanceCommand::List { json } => list(*json, printer),
        ConformanceCommand::Run(args) => put_to_the_test(args, host, printer),
    }
}

fn list(json: bool, printer: &mut Printer) -> Outcome {
    if json {
        printer.json(&conformance::scenarios_json())?;
    } else {
        printer.data(&conformance::scenarios(&printer.look))?;
    }
    Ok(OK)
}

fn put_to_the_test(args: &ConformanceRunArgs, host: &Host, printer: &mut Printer) -> Outcome {
    let client = find(host, &args.client, args.program.clone()).map_err(|error| not_found(&error))?;
    let options = Options {
        only: args.scenario.clone(),
        jobs: args.jobs,
    };
    let mut told =
        |progress: &Progress<'_>| printer.note(&conformance::progress(progress, &printer.note_look.clone()));
    let report = tokensink_conformance::run(host, &*client, &options, &mut told).map_err(|why| {
        SinkError::new(ErrorKind::Usage, "unknown_scenario", why).with_fix("tokensink conformance list")
    })?;
    if args.json {
        printer.json(&report.json())?;
    } else {
        printer.data(&conformance::report(&report, &printer.look))?;
    }
    Ok(if report.is_clean() { OK } else { FAILED })
}

fn not_found(error: &NotFound) -> SinkError {
    let text = error.to_string();
    match error {
        NotFound::NotInstalled { install, .. } => {
            SinkError::new(ErrorKind::Failed, "not_installed", text).with_fix(install.clone())
        }
        _ => SinkError::new(ErrorKind::Usage, "unknown_client", text)
            .with_fix("tokensink conformance run tokensink"),
    }
}
