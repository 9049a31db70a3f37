//! `models status`, and `models` alone.

use std::time::Duration;

use tokensink_sink::{AgentId, ProbeRequest, StatusScope};

use super::{App, warn};
use crate::args::{ProbeArgs, StatusArgs};
use crate::exit::{OK, Outcome};
use crate::render::{json, probe, status};

/// Prints the status; with `--check` the exit code tells the health (spec.md 12.5).
pub(super) fn run(app: &mut App<'_>, agent: Option<&str>, args: &StatusArgs) -> Outcome {
    let agent = app.agent(agent)?;
    let scope = if args.all {
        StatusScope::All
    } else {
        StatusScope::InUse
    };
    let probes = args
        .probe
        .probe
        .then(|| app.sink.probe(&probe_request(agent.clone(), &args.probe)));
    let probes = probes.transpose()?;
    let report = app.sink.status(&agent)?;
    for warning in &report.warnings {
        warn(app.printer, warning);
    }
    if args.json {
        let mut value = json::status(&report, app.name());
        if let Some(probes) = &probes {
            value["auth"]["probes"] = probe::json(probes);
        }
        app.printer.json(&value)?;
    } else if args.plain {
        app.printer.line(&report.models.resolved_default)?;
    } else {
        let text = status::text(&report, args.all, &app.printer.look);
        app.printer.data(&text)?;
        if let Some(probes) = &probes {
            let text = probe::text(probes, &app.printer.look);
            app.printer.data(&text)?;
        }
    }
    Ok(if args.check {
        report.check_exit_code(scope)
    } else {
        OK
    })
}

/// The defaults of spec.md 12.1.
fn probe_request(agent: AgentId, args: &ProbeArgs) -> ProbeRequest {
    let concurrency = args.probe_concurrency.unwrap_or(2);
    ProbeRequest {
        agent,
        provider: args.probe_provider.clone(),
        profiles: args.probe_profile.clone(),
        timeout: Duration::from_millis(args.probe_timeout.unwrap_or(8000)),
        concurrency: usize::try_from(concurrency).unwrap_or(1),
        max_tokens: args.probe_max_tokens.unwrap_or(8),
    }
}
