//! The record of changes, as text and as JSON.

use serde_json::{Value, json};
use tokensink_sink::{AuditCheck, AuditLine, AuditList, UnixMillis};

use super::table::Table;
use super::{Look, colour, words};

/// `audit list`.
pub(crate) fn list(list: &AuditList, look: &Look) -> String {
    if list.lines.is_empty() {
        return "Nothing was changed yet.\n".to_owned();
    }
    let mut table = Table::new(&["When", "Event", "Agent", "Profile or client", "Detail"]);
    for line in &list.lines {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let about = line.profile.as_ref().or(line.client.as_ref()).cloned();
        table.row(vec![
            words::local(line.at, &look.zone).into(),
            line.event.as_str().into(),
            text(&line.agent).into(),
            about.unwrap_or_default().into(),
            text(&line.detail).into(),
        ]);
    }
    table.render(look)
}

/// What the list does not show.
pub(crate) fn left_out(list: &AuditList) -> Option<String> {
    let earlier = list.matching - list.lines.len();
    let mut notes = Vec::new();
    if earlier > 0 {
        notes.push(format!("{earlier} earlier not shown (--limit)"));
    }
    if list.unreadable > 0 {
        notes.push(format!("{} cut off or not ours (audit verify)", list.unreadable));
    }
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// `audit list --json`.
pub(crate) fn list_json(list: &AuditList) -> Value {
    list.lines.iter().map(line_json).collect()
}

fn line_json(line: &AuditLine) -> Value {
    json!({
        "line": line.number,
        "at": line.at.0,
        "event": line.event,
        "agentId": line.agent,
        "profileId": line.profile,
        "client": line.client,
        "detail": line.detail,
        "pid": line.pid,
    })
}

/// `audit verify`.
pub(crate) fn check(check: &AuditCheck, look: &Look) -> String {
    let path = check.path.display();
    if check.lines == 0 && check.is_whole() {
        return format!("{path}: nothing was changed yet, so there is nothing to check.\n");
    }
    let lines = plural(check.lines);
    let mut text = match &check.fault {
        None => format!(
            "{} {path}: {lines}, each follows from the one before",
            look.paint(colour::GOOD, "whole:")
        ),
        Some(fault) => format!(
            "{} {path} line {}: {}",
            look.paint(colour::BAD, "broken:"),
            fault.line,
            fault.meaning
        ),
    };
    if let (None, Some((first, last))) = (&check.fault, check.first_at.zip(check.last_at)) {
        text += &format!(
            " ({} to {})",
            words::local(first, &look.zone),
            words::local(last, &look.zone)
        );
    }
    text.push('\n');
    if let Some(fault) = &check.fault {
        text += &format!("  it names  {}\n  there is  {}\n", fault.names, fault.found);
    }
    if !check.cut_off.is_empty() {
        let numbers: Vec<String> = check.cut_off.iter().map(ToString::to_string).collect();
        text += &format!(
            "cut off while it was written, by a crash: line {}\n",
            numbers.join(", ")
        );
    }
    match check.head_found {
        Some(true) => text += "the line with that hash is there\n",
        Some(false) => {
            text += &format!(
                "{} no line has that hash: the record was cut short or made up anew since you noted it\n",
                look.paint(colour::BAD, "broken:")
            );
        }
        None => {}
    }
    if let Some(head) = &check.head {
        text += &format!("last line: {head}\n");
    }
    text
}

fn plural(lines: usize) -> String {
    if lines == 1 {
        "1 line".to_owned()
    } else {
        format!("{lines} lines")
    }
}

/// `audit verify --json`.
pub(crate) fn check_json(check: &AuditCheck) -> Value {
    let millis = |at: Option<UnixMillis>| at.map(|at| at.0);
    let fault = check.fault.as_ref().map(|fault| {
        json!({
            "line": fault.line,
            "names": fault.names,
            "found": fault.found,
            "meaning": fault.meaning,
        })
    });
    json!({
        "path": check.path,
        "whole": check.is_whole(),
        "lines": check.lines,
        "cutOff": check.cut_off,
        "firstAt": millis(check.first_at),
        "lastAt": millis(check.last_at),
        "head": check.head,
        "headFound": check.head_found,
        "fault": fault,
    })
}
