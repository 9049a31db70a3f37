//! `audit …`: the record of changes.

use super::App;
use crate::args::{AuditArgs, AuditCommand};
use crate::exit::{FAILED, OK, Outcome};
use crate::render::audit;

/// Runs what is under `audit`.
pub(super) fn run(app: &mut App<'_>, args: &AuditArgs) -> Outcome {
    match &args.command {
        AuditCommand::List {
            limit,
            profile,
            agent,
            json,
        } => {
            let list = app
                .sink
                .audit_list(*limit, profile.as_deref(), agent.as_deref())?;
            if *json {
                app.printer.json(&audit::list_json(&list))?;
            } else {
                let text = audit::list(&list, &app.printer.look);
                app.printer.data(&text)?;
                if let Some(note) = audit::left_out(&list) {
                    app.printer.note(&note);
                }
            }
            Ok(OK)
        }
        AuditCommand::Verify { head, json } => {
            let check = app.sink.audit_verify(head.as_deref())?;
            if *json {
                app.printer.json(&audit::check_json(&check))?;
            } else {
                let text = audit::check(&check, &app.printer.look);
                app.printer.data(&text)?;
            }
            Ok(if check.is_whole() { OK } else { FAILED })
        }
    }
}
