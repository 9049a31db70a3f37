//! `models status`, and `models` alone.

use tokensink_sink::StatusScope;

use super::{App, warn};
use crate::args::StatusArgs;
use crate::exit::{OK, Outcome};
use crate::render::{json, status};

/// Prints the status; with `--check` the exit code tells the health (spec.md 12.5).
pub(super) fn run(app: &mut App<'_>, agent: Option<&str>, args: StatusArgs) -> Outcome {
    let agent = app.agent(agent)?;
    let scope = if args.all {
        StatusScope::All
    } else {
        StatusScope::InUse
    };
    let report = app.sink.status(&agent)?;
    for warning in &report.warnings {
        warn(app.printer, warning);
    }
    if args.json {
        let value = json::status(&report, app.name());
        app.printer.json(&value)?;
    } else if args.plain {
        app.printer.line(&report.models.resolved_default)?;
    } else {
        let text = status::text(&report, args.all, &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(if args.check {
        report.check_exit_code(scope)
    } else {
        OK
    })
}
