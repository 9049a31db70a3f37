//! Plans and reports of imports and exports.

use std::path::Path;

use serde_json::{Value, json};
use tokensink_sink::{
    AgentId, ExportReport, ImportAction, ImportFailure, ImportOrder, ImportPlan, ImportReport, ImportRow,
    ProfileId,
};

use super::profile::fix as fix_cell;
use super::table::{Cell, Table};
use super::{Look, colour, path};
use crate::name::Name;

/// The plan as a table, with the orders below it.
pub(crate) fn plan(plan: &ImportPlan, look: &Look) -> String {
    let mut text = format!("From {}\n", plan.from);
    let mut places: Vec<&Path> = Vec::new();
    for row in &plan.rows {
        if !places.contains(&row.place.as_path()) {
            places.push(&row.place);
        }
    }
    for place in places {
        let mut table = Table::new(&["Profile", "Agent", "Type", "Action"]);
        for row in plan.rows.iter().filter(|row| row.place == place) {
            let cells = vec![
                row.profile.as_str().into(),
                row.agent.as_str().into(),
                row.kind.map_or("-", |kind| kind.as_str()).into(),
                action(&row.action),
            ];
            table.row_with(cells, details(row, look));
        }
        let title = look.paint(colour::FAINT, &path(place));
        text += &format!("\n{title}\n{}", table.render(look));
    }
    for order in &plan.orders {
        text += &format!("\nOrder of {}\n", order_line(order));
    }
    text
}

fn action(action: &ImportAction) -> Cell {
    let style = match action {
        ImportAction::New | ImportAction::Update { .. } => colour::GOOD,
        ImportAction::Linked { .. } | ImportAction::Kept { .. } => colour::FAINT,
        ImportAction::Skipped { .. } => colour::WARN,
    };
    Cell::styled(action.word(), style)
}

fn details(row: &ImportRow, look: &Look) -> Vec<Cell> {
    let faint = |text: String| Cell::styled(text, colour::FAINT);
    let was = row.was.as_ref();
    let mut details: Vec<Cell> = was
        .map(|was| faint(format!("is {was} there")))
        .into_iter()
        .collect();
    let named = |text: &str| look.name.in_commands(text);
    match &row.action {
        ImportAction::New => {}
        ImportAction::Update { profile, why } => {
            details.push(faint(format!("updates {profile}: {}", named(why))));
        }
        ImportAction::Linked { agent, profile, why } => {
            details.push(faint(format!(
                "is {profile} of agent {agent} here: {}",
                named(why)
            )));
        }
        ImportAction::Kept { why } => details.push(faint(named(why))),
        ImportAction::Skipped { why, fix } => {
            details.push(faint(named(why)));
            details.extend(fix.as_ref().map(|fix| fix_cell(fix, look)));
        }
    }
    details
}

fn order_line(order: &ImportOrder) -> String {
    let ids: Vec<&str> = order.profiles.iter().map(ProfileId::as_str).collect();
    let whose = match &order.agent {
        Some(agent) => format!("agent {agent}"),
        None => "openclaw.json".to_owned(),
    };
    format!("{} for {whose}: {}", order.provider, ids.join(", "))
}

/// What was done.
pub(crate) fn report(report: &ImportReport, look: &Look) -> String {
    let mut text = String::from("\n");
    for (agent, profile) in &report.stored {
        text += &format!("Imported: {profile} (agent {agent})\n");
    }
    for order in &report.orders {
        text += &format!("Order taken over: {}\n", order_line(order));
    }
    text + &failures("Not imported:", &report.failed, look)
}

/// Plan and report as an object; without a report nothing was done.
pub(crate) fn json(plan: &ImportPlan, report: Option<&ImportReport>, name: Name) -> Value {
    let rows: Vec<Value> = plan.rows.iter().map(|row| json_row(row, name)).collect();
    let notes = plan
        .notes
        .iter()
        .chain(report.iter().flat_map(|report| &report.notes));
    let notes: Vec<_> = notes.map(|note| name.in_commands(note)).collect();
    let stored = report.map(|report| &report.stored);
    let stored: Vec<Value> = stored
        .into_iter()
        .flatten()
        .map(|(agent, profile)| json!({"agentId": agent.as_str(), "profileId": profile.as_str()}))
        .collect();
    let failed: Vec<Value> = report
        .into_iter()
        .flat_map(|report| &report.failed)
        .map(|failure| {
            json!({
                "agentId": failure.agent.as_str(),
                "profileId": failure.profile.as_str(),
                "code": failure.error.code(),
                "message": failure.error.to_string(),
                "fix": failure.error.fix().map(|fix| name.in_commands(fix)),
            })
        })
        .collect();
    json!({
        "from": plan.from,
        "done": report.is_some(),
        "rows": rows,
        "orders": plan.orders.iter().map(json_order).collect::<Vec<_>>(),
        "stored": stored,
        "failed": failed,
        "notes": notes,
    })
}

fn json_order(order: &ImportOrder) -> Value {
    json!({
        "agentId": order.agent.as_ref().map(AgentId::as_str),
        "provider": order.provider.as_str(),
        "order": order.profiles.iter().map(ProfileId::as_str).collect::<Vec<_>>(),
    })
}

fn json_row(row: &ImportRow, name: Name) -> Value {
    let mut value = json!({
        "agentId": row.agent.as_str(),
        "profileId": row.profile,
        "action": row.action.word().replace(' ', "_"),
        "place": path(&row.place),
    });
    let mut put = |key: &str, text: Option<String>| {
        if let Some(text) = text {
            value[key] = text.into();
        }
    };
    put("was", row.was.clone());
    put("provider", row.provider.as_ref().map(|id| id.as_str().to_owned()));
    put("type", row.kind.map(|kind| kind.as_str().to_owned()));
    let named = |text: &String| name.in_commands(text);
    match &row.action {
        ImportAction::New => {}
        ImportAction::Update { profile, why } => {
            put("updates", Some(profile.as_str().to_owned()));
            put("why", Some(named(why)));
        }
        ImportAction::Linked { agent, profile, why } => {
            put("linkedAgentId", Some(agent.as_str().to_owned()));
            put("linkedProfileId", Some(profile.as_str().to_owned()));
            put("why", Some(named(why)));
        }
        ImportAction::Kept { why } => put("why", Some(named(why))),
        ImportAction::Skipped { why, fix } => {
            put("why", Some(named(why)));
            put("fix", fix.as_ref().map(named));
        }
    }
    value
}

/// What an export did.
pub(crate) fn exported(report: &ExportReport, look: &Look) -> String {
    let mut text = match &report.file {
        Some(file) => format!("Bundle: {} ({})\n", path(file), short(&report.bundle)),
        None => format!("Bundle: {}\n", short(&report.bundle)),
    };
    for row in &report.rows {
        text += &format!("Exported: {} (agent {})\n", row.profile, row.agent);
    }
    for (agent, profile) in &report.removed {
        text += &format!("Removed here: {profile} (agent {agent})\n");
    }
    text + &failures("Still here:", &report.failed, look)
}

fn failures(label: &str, failed: &[ImportFailure], look: &Look) -> String {
    let label = look.paint(colour::BAD, label);
    let mut text = String::new();
    for failure in failed {
        text += &format!(
            "{label} {} (agent {}): {}\n",
            failure.profile, failure.agent, failure.error
        );
        if let Some(fix) = failure.error.fix() {
            text += &format!("  fix: {}\n", look.name.in_commands(fix));
        }
    }
    text
}

fn short(bundle: &str) -> &str {
    bundle.get(..8).unwrap_or(bundle)
}

/// The same as an object.
pub(crate) fn exported_json(report: &ExportReport, name: Name) -> Value {
    let place = |agent: &AgentId, profile: &ProfileId| json!({"agentId": agent.as_str(), "profileId": profile.as_str()});
    let rows = report.rows.iter().map(|row| {
        let mut value = place(&row.agent, &row.profile);
        value["provider"] = row.provider.as_str().into();
        value["type"] = row.kind.as_str().into();
        value
    });
    let removed = report
        .removed
        .iter()
        .map(|(agent, profile)| place(agent, profile));
    let failed = report.failed.iter().map(|failure| {
        let mut value = place(&failure.agent, &failure.profile);
        value["message"] = failure.error.to_string().into();
        value["fix"] = failure.error.fix().map(|fix| name.in_commands(fix)).into();
        value
    });
    json!({
        "bundle": report.bundle,
        "file": report.file.as_deref().map(path),
        "exported": rows.collect::<Vec<_>>(),
        "removed": removed.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
        "notes": report.notes,
    })
}
