//! `conformance`: the kit runs, and its report is printed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;

use tokensink_conformance::{NotFound, Options, Progress, Script, ServeError, Serving, Stop, find};
use tokensink_host::{Host, atomic};
use tokensink_sink::{ErrorKind, SinkError};

use crate::args::{ConformanceArgs, ConformanceCommand, ConformanceRunArgs, ConformanceServeArgs};
use crate::exit::{FAILED, Failure, OK, Outcome};
use crate::printer::Printer;
use crate::render::conformance;

/// Runs `conformance`.
pub(super) fn run(args: &ConformanceArgs, host: &Host, printer: &mut Printer) -> Outcome {
    match &args.command {
        ConformanceCommand::List { json } => list(*json, printer),
        ConformanceCommand::Serve(args) => serve(args, host, printer),
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
        stop: stopped_by_signals()?,
    };
    let mut told =
        |progress: &Progress<'_>| printer.note(&conformance::progress(progress, &printer.note_look.clone()));
    let report = tokensink_conformance::run(host, &*client, &options, &mut told).map_err(|why| {
        SinkError::new(ErrorKind::Usage, "unknown_scenario", why).with_fix("tokensink conformance list")
    })?;
    if let Some(file) = &args.html {
        write(host, file, &tokensink_conformance::page(&report))?;
        printer.note(&format!("Written: {}", file.display()));
    }
    if args.json {
        printer.json(&report.json())?;
    } else {
        printer.data(&conformance::report(&report, &printer.look))?;
    }
    // Cut short, nothing is known of the rest.
    Ok(if report.is_clean() && !options.stop.is_set() {
        OK
    } else {
        FAILED
    })
}

/// What a signal sets: the programs under test are to end with us, and their homes to be removed.
fn stopped_by_signals() -> Result<Stop, Failure> {
    let signals = super::serve::signals()?;
    let stop = Stop::default();
    let told = stop.clone();
    let watching = thread::Builder::new()
        .name("interrupted".to_owned())
        .spawn(move || {
            if signals.recv().is_ok() {
                told.stop();
            }
        });
    watching
        .map(|_| stop)
        .map_err(|error| SinkError::new(ErrorKind::Failed, "signals", format!("no signals: {error}")).into())
}

/// Writes a page where the user wants it, by way of the working directory.
fn write(host: &Host, file: &Path, text: &str) -> Result<(), SinkError> {
    let failed = |why: String| {
        SinkError::new(
            ErrorKind::Failed,
            "not_written",
            format!("{}: {why}", file.display()),
        )
    };
    let here = host.env.current_dir().unwrap_or_default();
    atomic::replace(
        &*host.files,
        &*host.random,
        &here.join(file),
        text.as_bytes(),
        0o644,
    )
    .map_err(|error| failed(error.to_string()))?;
    Ok(())
}

/// Serves until a signal ends it.
fn serve(args: &ConformanceServeArgs, host: &Host, printer: &mut Printer) -> Outcome {
    // Before anything is served, so that no signal finds us without an answer.
    let signals = super::serve::signals()?;
    let failed = |error: ServeError| {
        let kind = match error {
            ServeError::Script { .. } => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        SinkError::new(kind, "not_served", error.to_string())
    };
    let mut script = match &args.script {
        Some(path) => Script::read(host, path).map_err(failed)?,
        None => Script::default(),
    };
    adjust(&mut script, args);
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let serving = Serving::start(host, script, listen).map_err(failed)?;
    if args.json {
        printer.json(&conformance::serving_json(&serving, &args.provider))?;
    } else {
        printer.data(&conformance::serving(&serving, &args.provider, &printer.look))?;
    }
    printer.flush()?;
    // SIGHUP ends it as well: there is nothing to read again.
    let _signal = signals.recv();
    let ledger = serving.ledger();
    let summary = tokensink_conformance::summary(&ledger);
    if args.json {
        printer.note(&summary);
    } else {
        printer.line(&format!("\n{summary}"))?;
    }
    Ok(OK)
}

/// What is said on the command line goes before the script.
fn adjust(script: &mut Script, args: &ConformanceServeArgs) {
    let server = &mut script.server;
    if let Some(grace) = args.grace {
        server.replay_grace_seconds = grace.as_secs();
    }
    if let Some(life) = args.access_life {
        server.access_token_seconds = life.as_secs();
    }
    if let Some(limit) = args.idle_limit {
        server.idle_limit_seconds = Some(limit.as_secs());
    }
    if args.no_revoke {
        server.reuse_detection = false;
    }
}

fn not_found(error: &NotFound) -> SinkError {
    let text = error.to_string();
    match error {
        NotFound::NotInstalled { install, .. } => {
            SinkError::new(ErrorKind::Failed, "not_installed", text).with_fix(install.clone())
        }
        NotFound::SaysItself { path } => SinkError::new(ErrorKind::Usage, "usage", text)
            .with_fix(format!("tokensink conformance run {}", path.display())),
        _ => SinkError::new(ErrorKind::Usage, "unknown_client", text)
            .with_fix("tokensink conformance run tokensink"),
    }
}
