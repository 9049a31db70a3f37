//! Bindings and routes, as text and as JSON (spec.md 15.4 to 15.7).

use serde_json::{Value, json};
use tokensink_sink::{AgentId, BindConflict, BindReport, BindingInfo, RouteReport, UnbindReport};

/// `agents bindings`.
pub(crate) fn bindings(bindings: &[BindingInfo]) -> String {
    if bindings.is_empty() {
        return "Bindings: none\n".to_owned();
    }
    let mut text = "Bindings:\n".to_owned();
    for BindingInfo { binding, .. } in bindings {
        text += &format!("- {} <- {}\n", binding.agent, binding.description());
    }
    text
}

/// `agents bindings --json`.
pub(crate) fn bindings_json(bindings: &[BindingInfo]) -> Value {
    bindings.iter().map(binding_json).collect()
}

fn binding_json(info: &BindingInfo) -> Value {
    let binding = &info.binding;
    let mut conditions = json!({ "channel": binding.channel });
    let ids = [
        ("accountId", &binding.account),
        ("guildId", &binding.guild),
        ("teamId", &binding.team),
    ];
    for (key, value) in ids {
        if let Some(value) = value {
            conditions[key] = value.as_str().into();
        }
    }
    if let Some(peer) = &binding.peer {
        conditions["peer"] = json!({ "kind": peer.kind, "id": peer.id });
    }
    json!({
        "index": info.index,
        "agentId": binding.agent.as_str(),
        "match": conditions,
        "description": binding.description(),
    })
}

/// What became of bindings, and whose are those that were left alone.
pub(crate) fn bound(report: &BindReport) -> (String, String) {
    let done = [
        ("Added", &report.added),
        ("Updated", &report.updated),
        ("Already there", &report.skipped),
    ];
    (sections(&done), conflicts(&report.conflicts))
}

/// The same of bindings that were to go.
pub(crate) fn unbound(report: &UnbindReport) -> (String, String) {
    let done = [("Removed", &report.removed), ("Not there", &report.missing)];
    (sections(&done), conflicts(&report.conflicts))
}

fn sections(parts: &[(&str, &Vec<String>)]) -> String {
    let mut text = String::new();
    for (title, lines) in parts.iter().filter(|(_, lines)| !lines.is_empty()) {
        text += &format!("{title}:\n");
        for line in *lines {
            text += &format!("- {line}\n");
        }
    }
    if text.is_empty() {
        "No binding was changed.\n".to_owned()
    } else {
        text
    }
}

fn conflicts(conflicts: &[BindConflict]) -> String {
    let held: Vec<String> = conflicts
        .iter()
        .map(|conflict| format!("{} belongs to agent {}", conflict.binding, conflict.agent))
        .collect();
    held.join("; ")
}

/// `agents bind --json`; without `agentId` it is the `bindings` of `agents add --json`.
pub(crate) fn bound_json(report: &BindReport) -> Value {
    json!({
        "added": report.added,
        "updated": report.updated,
        "skipped": report.skipped,
        "conflicts": conflicts_json(&report.conflicts),
    })
}

/// `agents unbind --json`.
pub(crate) fn unbound_json(report: &UnbindReport) -> Value {
    json!({
        "agentId": report.agent.as_str(),
        "removed": report.removed,
        "missing": report.missing,
        "conflicts": conflicts_json(&report.conflicts),
    })
}

fn conflicts_json(conflicts: &[BindConflict]) -> Value {
    conflicts
        .iter()
        .map(|conflict| format!("{} (agent={})", conflict.binding, conflict.agent))
        .collect()
}

/// `route`: why.
pub(crate) fn reason(route: &RouteReport) -> String {
    match &route.binding {
        Some(info) => format!(
            "by {}: bindings[{}], {}",
            route.degree.as_str(),
            info.index,
            info.binding.description()
        ),
        None => "by default: no binding fits".to_owned(),
    }
}

/// `route --json`.
pub(crate) fn route_json(route: &RouteReport) -> Value {
    json!({
        "agentId": route.agent.as_str(),
        "degree": route.degree.as_str(),
        "binding": route.binding.as_ref().map(binding_json),
        "unknownAgentId": route.unknown_agent.as_ref().map(AgentId::as_str),
        "warnings": route.warnings,
    })
}
