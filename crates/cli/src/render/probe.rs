//! What `models status --probe` found, as a table and as JSON (spec.md 12.6).

use serde_json::{Value, json};
use tokensink_sink::{ProbeReport, ProbeRow, ProfileId};

use super::json::put;
use super::table::{Cell, Table};
use super::{Look, colour};

/// The table, sorted by provider and label.
pub(crate) fn text(report: &ProbeReport, look: &Look) -> String {
    let mut text = format!("\n{}\n", look.paint(colour::HEADING, "Auth probes"));
    if report.rows.is_empty() {
        text += "- none\n";
        return text;
    }
    let mut rows: Vec<&ProbeRow> = report.rows.iter().collect();
    rows.sort_by_key(|row| (&row.provider, &row.label));
    let mut table = Table::new(&["Profile", "Type", "Model", "Status"]);
    for row in rows {
        let style = if row.status == "ok" {
            colour::GOOD
        } else {
            colour::BAD
        };
        let took = row
            .latency
            .map_or_else(String::new, |time| format!(" ({} ms)", time.as_millis()));
        let details = row.error.iter().flat_map(|error| error.lines());
        table.row_with(
            vec![
                row.profile.as_str().into(),
                row.kind.as_str().into(),
                row.model.as_deref().unwrap_or("-").into(),
                Cell::styled(format!("{}{took}", row.status), style),
            ],
            details.map(Cell::from).collect(),
        );
    }
    text + &table.render(look)
}

/// Rows and summary; first the rows that were not called.
pub(crate) fn json(report: &ProbeReport) -> Value {
    let request = &report.request;
    let results: Vec<Value> = report.rows.iter().map(row).collect();
    json!({
        "startedAt": report.started.0,
        "finishedAt": report.finished.0,
        "durationMs": report.finished.0.saturating_sub(report.started.0),
        "totalTargets": report.rows.len(),
        "options": {
            "provider": request.provider,
            "profileIds": request.profiles.iter().map(ProfileId::as_str).collect::<Vec<_>>(),
            "timeoutMs": u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX),
            "concurrency": request.concurrency,
            "maxTokens": request.max_tokens,
        },
        "results": results,
    })
}

fn row(row: &ProbeRow) -> Value {
    let mut value = json!({
        "provider": row.provider.as_str(),
        "profileId": row.profile.as_str(),
        "label": row.label,
        "source": "profile",
        "mode": row.kind.as_str(),
        "status": row.status,
    });
    put(&mut value, "model", row.model.as_deref());
    put(&mut value, "reasonCode", row.reason_code.as_deref());
    put(&mut value, "error", row.error.as_deref());
    let latency = row
        .latency
        .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    put(&mut value, "latencyMs", latency);
    value
}
