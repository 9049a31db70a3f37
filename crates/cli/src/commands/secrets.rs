//! `secrets …` (spec.md 16.7).

use std::io::{self, Read as _};
use std::path::Path;

use tokensink_sink::{ApplyOptions, ErrorKind, SecretsPlan, SinkError};
use zeroize::Zeroizing;

use super::App;
use crate::args::{SecretsApplyArgs, SecretsArgs, SecretsAuditArgs, SecretsCommand};
use crate::exit::{FAILED, OK, Outcome};
use crate::render::secrets as render;

/// Largest plan in bytes: some hundred times one of 100 targets.
const PLAN_BYTES: u64 = 4 * 1024 * 1024;

/// Runs what is under `secrets`.
pub(super) fn run(app: &mut App<'_>, args: SecretsArgs) -> Outcome {
    match args.command {
        SecretsCommand::Audit(args) => audit(app, &args),
        SecretsCommand::Configure(args) => super::secrets_configure::run(app, &args),
        SecretsCommand::Apply(args) => apply(app, &args),
        SecretsCommand::Reload { json } => reload(app, json),
    }
}

fn audit(app: &mut App<'_>, args: &SecretsAuditArgs) -> Outcome {
    let report = app.sink.secrets_audit(args.allow_exec)?;
    if args.json {
        app.printer.json(&render::audit_json(&report))?;
    } else {
        app.printer
            .data(&render::audit(&report, &app.printer.look.clone()))?;
        note_skipped(app, report.exec_skipped);
    }
    Ok(if args.check && !report.findings.is_empty() {
        FAILED
    } else {
        OK
    })
}

fn note_skipped(app: &mut App<'_>, count: usize) {
    if count > 0 {
        app.printer.note(&format!(
            "Not looked up, because that runs programs: {}. Add --allow-exec to run them.",
            render::counted(count, "reference")
        ));
    }
}

fn apply(app: &mut App<'_>, args: &SecretsApplyArgs) -> Outcome {
    let plan = SecretsPlan::parse(&read_plan(app, &args.from)?)?;
    let options = ApplyOptions {
        dry_run: args.dry_run,
        allow_exec: args.allow_exec,
    };
    apply_plan(app, &plan, options, args.json)
}

/// Applies a plan and says what became of it.
pub(super) fn apply_plan(
    app: &mut App<'_>,
    plan: &SecretsPlan,
    options: ApplyOptions,
    json: bool,
) -> Outcome {
    let applied = app.sink.secrets_apply(plan, options)?;
    if json {
        app.printer
            .json(&render::applied_json(&applied, options.dry_run))?;
        return Ok(OK);
    }
    app.printer.data(&render::applied(&applied, options.dry_run))?;
    note_skipped(app, applied.exec_skipped);
    for (file, place) in &applied.remaining {
        super::remark(
            app.printer,
            &format!(
                "the same secret still stands as plain text in {} ({place})",
                file.display()
            ),
        );
    }
    Ok(OK)
}

fn reload(app: &mut App<'_>, json: bool) -> Outcome {
    let report = app.sink.reload_secrets(true)?;
    if json {
        app.printer.json(&render::reload_json(&report))?;
    } else {
        app.printer
            .data(&render::reload(&report, &app.printer.look.clone()))?;
    }
    Ok(if report.failed.is_empty() { OK } else { FAILED })
}

fn read_plan(app: &App<'_>, from: &Path) -> Result<Zeroizing<String>, SinkError> {
    let failed = |error: io::Error| {
        SinkError::new(
            ErrorKind::Usage,
            "plan_unreadable",
            format!("the plan {} cannot be read", from.display()),
        )
        .because(error)
        .with_fix("name a file that `tokensink secrets configure` has printed")
    };
    let bytes = if from == Path::new("-") {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().take(PLAN_BYTES).read_to_end(&mut bytes);
        read.map_err(failed)?;
        bytes
    } else {
        let host = app.sink.host();
        let path = match host.env.current_dir() {
            Some(current) => current.join(from),
            None => from.to_owned(),
        };
        host.files.read(&path).map_err(failed)?
    };
    // A provider's `env` in a plan may hold a secret.
    let bytes = Zeroizing::new(bytes);
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}
