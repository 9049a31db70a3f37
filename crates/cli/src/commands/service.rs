//! `service …`: the gateway as a service of the system.

use std::time::Duration;

use serde_json::json;
use tokensink_sink::{ServiceManagerKind, ServiceRequest};

use super::{App, remark};
use crate::args::{ServiceArgs, ServiceCommand, ServiceFileArgs, ServiceInstallArgs};
use crate::exit::{OK, Outcome};
use crate::render::service;

/// How long the manager waits for the gateway to end: what `serve` gives its requests, and some.
const STOP_TIME: Duration = Duration::from_secs(45);

/// Runs what is under `service`.
pub(super) fn run(app: &mut App<'_>, args: &ServiceArgs) -> Outcome {
    match &args.command {
        ServiceCommand::Install(args) => install(app, args),
        ServiceCommand::Uninstall(args) => uninstall(app, args),
        ServiceCommand::Status(args) => status(app, args),
    }
}

fn manager(args: &ServiceFileArgs) -> ServiceManagerKind {
    args.manager.unwrap_or_else(ServiceManagerKind::of_this_system)
}

fn install(app: &mut App<'_>, args: &ServiceInstallArgs) -> Outcome {
    let port = args.port.map(|port| vec!["--port".to_owned(), port.to_string()]);
    let request = ServiceRequest {
        manager: manager(&args.file),
        program: None,
        args: port.unwrap_or_default(),
        stop_time: STOP_TIME,
    };
    let plan = if args.print {
        app.sink.service_plan(&request)?
    } else {
        app.sink.service_install(&request)?
    };
    for note in &plan.notes {
        remark(app.printer, note);
    }
    if args.file.json {
        app.printer.json(&service::plan_json(&plan, !args.print))?;
    } else if args.print {
        app.printer.data(&plan.text)?;
        app.printer
            .note(&format!("Would be written to {}", plan.path.display()));
    } else {
        app.printer.line(&format!("Written: {}", plan.path.display()))?;
        app.printer
            .note(&service::commands("Start it with:", &plan.start));
    }
    Ok(OK)
}

fn uninstall(app: &mut App<'_>, args: &ServiceFileArgs) -> Outcome {
    let manager = manager(args);
    let plan = app.sink.service_plan(&ServiceRequest {
        manager,
        program: None,
        args: Vec::new(),
        stop_time: STOP_TIME,
    })?;
    let removed = app.sink.service_uninstall(manager)?;
    if args.json {
        app.printer
            .json(&json!({"manager": manager.as_str(), "removed": removed, "stop": plan.stop}))?;
        return Ok(OK);
    }
    match removed {
        Some(path) => {
            app.printer.line(&format!("Removed: {}", path.display()))?;
            app.printer
                .note(&service::commands("If it runs, stop it with:", &plan.stop));
        }
        None => app
            .printer
            .line(&format!("Not installed: {}", plan.path.display()))?,
    }
    Ok(OK)
}

fn status(app: &mut App<'_>, args: &ServiceFileArgs) -> Outcome {
    let status = app.sink.service_status(manager(args))?;
    let servers = app.sink.servers()?;
    if args.json {
        app.printer.json(&service::status_json(&status, &servers))?;
    } else {
        let text = service::status(&status, &servers, app.sink.now());
        app.printer.data(&text)?;
    }
    Ok(OK)
}
