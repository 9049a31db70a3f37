//! `token`, `exec`, `renew` and the helper process of a refresh.

use std::ffi::OsString;
use std::io;

use tokensink_host::{ProcessRequest, StdioSource, detach_self};
use tokensink_sink::{
    AcquireRequest, Asked, ChildEnvironment, ErrorKind, ExplainAsk, FlightArgs, Flights, Lease, RenewResult,
    Sink, SinkError, Want,
};

use super::{App, remark, warn};
use crate::args::{ExecArgs, LeaseArgs, RenewArgs, TokenArgs};
use crate::exit::{FAILED, LOGIN_NEEDED, OK, Outcome, TRY_AGAIN};
use crate::printer::Printer;
use crate::render::{colour, json, lists};

/// Exit code when there is no such program (as in POSIX shells).
const NOT_FOUND: u8 = 127;
/// Exit code when the program cannot be run (as in POSIX shells).
const NOT_RUNNABLE: u8 = 126;

/// `token`: the secret alone on standard output.
pub(super) fn token(app: &mut App<'_>, args: TokenArgs) -> Outcome {
    let lease = acquire(app, args.lease)?;
    if args.json {
        let value = json::lease(&lease, app.sink.now());
        app.printer.json(&value)?;
    } else {
        app.printer.line(lease.secret.expose())?;
    }
    Ok(OK)
}

fn acquire(app: &mut App<'_>, args: LeaseArgs) -> Result<Lease, SinkError> {
    let agent = app.agent(args.agent.as_deref())?;
    let want = match (args.wanted.profile_id, args.wanted.provider) {
        (Some(profile), _) => Want::Profile(profile),
        (None, Some(provider)) => Want::Provider(provider),
        (None, None) => {
            return Err(SinkError::new(
                ErrorKind::Usage,
                "usage",
                "name a --provider or a --profile-id",
            ));
        }
    };
    let mut request = AcquireRequest::new(agent, want);
    request.min_ttl = args.min_ttl;
    request.wait = args.wait.unwrap_or(request.wait);
    if let Some(why) = long_wait(app.sink, &request) {
        remark(app.printer, &format!("{why}; waiting for that (--wait)"));
    }
    let lease = app.sink.acquire(&request)?;
    if let Some(note) = &lease.note {
        remark(app.printer, note);
    }
    Ok(lease)
}

/// Why the request will wait for the end of a bench, so that a person knows what the silence means.
fn long_wait(sink: &Sink, request: &AcquireRequest) -> Option<String> {
    let Want::Provider(provider) = &request.want else {
        return None;
    };
    let told = sink.explain(&Asked::Now(ExplainAsk {
        agent: request.agent.clone(),
        provider: provider.clone(),
        model: request.model.clone(),
        session: None,
    }));
    let told = told.ok()?;
    let [choice] = &*told.choices else { return None };
    let left = told.now.until(choice.retry_at?);
    (left <= request.wait)
        .then(|| choice.unavailable.clone())
        .flatten()
}

/// `exec`: the child's exit code is ours.
pub(super) fn exec(app: &mut App<'_>, args: ExecArgs) -> Outcome {
    let lease = acquire(app, args.lease)?;
    let ChildEnvironment { set, remove } = app.sink.child_environment(&lease);
    let mut command = args.command.into_iter();
    let program = command.next().unwrap_or_default();
    let request = ProcessRequest {
        program: program.clone(),
        args: command.collect(),
        set_env: set
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value.expose())))
            .collect(),
        remove_env: remove.into_iter().map(OsString::from).collect(),
        stdin: StdioSource::Inherit,
    };
    match app.sink.host().processes.run(request) {
        Ok(code) => Ok(u8::try_from(code).unwrap_or(FAILED)),
        Err(error) => {
            let label = app.printer.note_look.paint(colour::BAD, "error:");
            app.printer.note(&format!(
                "{label} {} could not be run: {error}\n{} give a program on PATH or an absolute path after --",
                program.to_string_lossy(),
                app.printer.note_look.paint(colour::COMMAND, "fix:"),
            ));
            Ok(if error.kind() == io::ErrorKind::NotFound {
                NOT_FOUND
            } else {
                NOT_RUNNABLE
            })
        }
    }
}

/// `renew`: every login that is due; the exit code tells the worst that happened.
pub(super) fn renew(app: &mut App<'_>, args: &RenewArgs) -> Outcome {
    let agent = args.agent.as_deref().map(|id| app.agent(Some(id))).transpose()?;
    let report = app.sink.renew(agent.as_ref())?;
    for problem in &report.unreadable {
        warn(app.printer, problem);
    }
    if args.json {
        let value = json::renewals(&report, app.name());
        app.printer.json(&value)?;
    } else if report.outcomes.is_empty() && report.unreadable.is_empty() {
        app.printer.note("There is no login that could be renewed.");
    } else if !report.outcomes.is_empty() {
        let text = lists::renewals(&report.outcomes, app.sink.now(), &app.printer.look);
        app.printer.data(&text)?;
    }
    if !report.unreadable.is_empty() {
        return Ok(FAILED);
    }
    Ok(worst(report.outcomes.iter().map(|outcome| &outcome.result)))
}

/// A failure is worse than a login that is needed, and that worse than something that mends itself.
fn worst<'a>(results: impl Iterator<Item = &'a RenewResult>) -> u8 {
    const ORDER: [u8; 4] = [OK, TRY_AGAIN, LOGIN_NEEDED, FAILED];
    let rank = results
        .map(|result| match result {
            RenewResult::Renewed { .. } | RenewResult::NotDue { .. } => 0,
            RenewResult::TryAgain { .. } => 1,
            RenewResult::LoginNeeded { .. } => 2,
            RenewResult::Failed { .. } => 3,
        })
        .max()
        .unwrap_or(0);
    ORDER[rank]
}

/// The body of the detached helper that carries one refresh to its end. Whoever started it may be gone by then, so
/// a broken pipe is no failure.
pub(super) fn flight(args: &[String], printer: &mut Printer) -> Outcome {
    let args = FlightArgs::parse(args)?;
    // Where it is refused, no key of the terminal reaches us anyway.
    let _already_alone = detach_self();
    let sink = Sink::open_here(Flights::inline())?;
    let verdict = sink.run_flight(&args)?;
    printer.line(&verdict)?;
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_outcome_decides() {
        let renewed = RenewResult::Renewed { expires: None };
        let later = RenewResult::TryAgain {
            reason: String::new(),
            at: None,
        };
        let login = RenewResult::LoginNeeded {
            reason: String::new(),
            command: String::new(),
        };
        let failed = RenewResult::Failed {
            reason: String::new(),
        };
        let cases: [(&[&RenewResult], u8); 5] = [
            (&[], 0),
            (&[&renewed], 0),
            (&[&renewed, &later], 75),
            (&[&login, &later], 3),
            (&[&login, &failed, &later], 1),
        ];
        for (results, want) in cases {
            assert_eq!(worst(results.iter().copied()), want, "{results:?}");
        }
    }
}
