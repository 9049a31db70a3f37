//! The gateway as a service, and the gateways that run, as text and as JSON.

use serde_json::{Value, json};
use tokensink_sink::{ServerInfo, ServicePlan, ServiceStatus};
use tokensink_types::UnixMillis;

use super::words;

/// Commands under a title, one per line.
pub(crate) fn commands(title: &str, commands: &[String]) -> String {
    let lines: String = commands.iter().map(|command| format!("\n  {command}")).collect();
    format!("{title}{lines}")
}

/// What was, or would be, installed.
pub(crate) fn plan_json(plan: &ServicePlan, is_written: bool) -> Value {
    json!({
        "manager": plan.manager.as_str(),
        "path": plan.path,
        "written": is_written,
        "text": plan.text,
        "start": plan.start,
        "stop": plan.stop,
        "notes": plan.notes,
    })
}

/// `service status`.
pub(crate) fn status(status: &ServiceStatus, servers: &[ServerInfo], now: UnixMillis) -> String {
    let installed = if status.is_installed {
        "installed"
    } else {
        "not installed"
    };
    let state = match (&status.state, &status.unknown_because) {
        (Some(state), _) => format!("{} says: {state}", status.manager.as_str()),
        (None, Some(why)) => format!("{} cannot be asked: {why}", status.manager.as_str()),
        (None, None) => format!("{} was not asked", status.manager.as_str()),
    };
    let mut text = format!("Service: {installed} ({})\n{state}\n", status.path.display());
    if servers.is_empty() {
        text += "No gateway of this state dir runs.\n";
    }
    for server in servers {
        text += &format!("Gateway: {}\n", one_server(server, now));
    }
    text
}

/// A gateway in one line.
pub(crate) fn one_server(server: &ServerInfo, now: UnixMillis) -> String {
    let since = server.since.map_or_else(String::new, |at| {
        format!(", started {}", words::relative(at, now))
    });
    let stopped = if server.is_stopped {
        ", stopped (let it go on: kill -CONT)"
    } else {
        ""
    };
    format!(
        "process {}, {}{since}, version {}{stopped}",
        server.pid,
        server.addresses.join(" "),
        server.version
    )
}

/// `service status --json`.
pub(crate) fn status_json(status: &ServiceStatus, servers: &[ServerInfo]) -> Value {
    json!({
        "manager": status.manager.as_str(),
        "path": status.path,
        "installed": status.is_installed,
        "state": status.state,
        "unknownBecause": status.unknown_because,
        "gateways": servers.iter().map(server_json).collect::<Vec<Value>>(),
    })
}

fn server_json(server: &ServerInfo) -> Value {
    json!({
        "pid": server.pid,
        "since": server.since.map(|at| at.0),
        "addresses": server.addresses,
        "socket": server.socket,
        "version": server.version,
        "stopped": server.is_stopped,
    })
}
