//! What `doctor` prints: findings grouped by severity, each with its reason and its fix, and a count at the end.

use std::path::PathBuf;

use anstyle::Style;
use serde_json::{Value, json};
use tokensink_sink::SinkError;
use tokensink_sink::doctor::{
    Check, Copies, DiskOutcome, DiskTrial, Finding, Mend, NetworkCheck, Repair, Report, Severity,
};

use super::table::fold;
use super::{Look, colour, path};

/// Something that `--fix` tried.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) check: &'static Check,
    pub(crate) what: String,
    pub(crate) path: Option<PathBuf>,
    pub(crate) repair: Repair,
    /// What was done, in a sentence, or why it could not be done.
    pub(crate) outcome: Result<String, SinkError>,
}

/// The headings, the worst first.
const GROUPS: [(Severity, &str, &str, Style); 3] = [
    (Severity::Error, "error", "errors", colour::BAD),
    (Severity::Warning, "warning", "warnings", colour::WARN),
    (Severity::Note, "note", "notes", colour::FAINT),
];

/// The report for people.
pub(crate) fn text(report: &Report, attempts: &[Attempt], look: &Look) -> String {
    let mut out = String::new();
    for attempt in attempts {
        let line = match &attempt.outcome {
            Ok(done) => format!("{} {done}", look.paint(colour::GOOD, "fixed:")),
            Err(error) => format!("{} {error}", look.paint(colour::BAD, "not fixed:")),
        };
        push(&mut out, &line, look);
    }
    for check in &report.network {
        push(&mut out, &network_line(check, look), look);
    }
    for disk in &report.disks {
        if let Some(line) = disk_line(disk, look) {
            push(&mut out, &line, look);
        }
    }
    for (severity, one, many, style) in GROUPS {
        let of: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|finding| finding.check.severity == severity)
            .collect();
        if of.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let heading = capital(if of.len() == 1 { one } else { many });
        push(&mut out, &look.paint(style, &heading), look);
        for finding in of {
            push_finding(&mut out, finding, look);
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    push(&mut out, &last_line(report, attempts, look), look);
    out
}

fn push_finding(out: &mut String, finding: &Finding, look: &Look) {
    let id = look.paint(colour::HEADING, finding.check.id);
    push(out, &format!("  {id}"), look);
    push(out, &format!("    {}.", finding.what), look);
    let why = look.paint(colour::FAINT, &format!("{}.", capital(finding.check.why)));
    push(out, &format!("    {why}"), look);
    for fix in finding.fix.lines() {
        let fix = look.paint(colour::COMMAND, &format!("fix: {fix}"));
        push(out, &format!("    {fix}"), look);
    }
}

fn push(out: &mut String, line: &str, look: &Look) {
    out.push_str(&fold(&look.name.in_commands(line), look.width));
    out.push('\n');
}

fn network_line(check: &NetworkCheck, look: &Look) -> String {
    let word = |style, word| look.paint(style, word);
    match &check.outcome {
        Ok(took) => {
            let clock = check.clock_offset_ms.map_or_else(
                || "it told no date".to_owned(),
                |offset| format!("clocks differ by {:.1} s", offset.unsigned_abs() as f64 / 1000.0),
            );
            let reached = word(colour::GOOD, "reached:");
            format!(
                "{reached} {} of {} in {} ms; {clock}",
                check.origin,
                check.provider,
                took.as_millis()
            )
        }
        Err(_) => format!(
            "{} {} of {}",
            word(colour::BAD, "not reached:"),
            check.origin,
            check.provider
        ),
    }
}

/// Where all of it works, or why nothing was tried; what does not work is a finding.
fn disk_line(disk: &DiskTrial, look: &Look) -> Option<String> {
    let dir = path(&disk.dir);
    match &disk.outcome {
        DiskOutcome::Tried(powers) if powers.all_work() => {
            let file_system = disk.file_system.as_deref();
            let kind = file_system.map(|kind| format!(" ({kind})")).unwrap_or_default();
            let word = look.paint(colour::GOOD, "Disk:");
            Some(format!(
                "{word} locks, links, renames and fsync work in {dir}{kind}."
            ))
        }
        DiskOutcome::Tried(_) | DiskOutcome::NotWritable(_) => None,
        DiskOutcome::NotTried(why) => {
            let word = look.paint(colour::FAINT, "Disk:");
            Some(format!("{word} {dir} was not tried: {why}."))
        }
    }
}

/// `2 errors and 1 note. tokensink doctor --fix mends 1 of them.`
fn last_line(report: &Report, attempts: &[Attempt], look: &Look) -> String {
    let parts: Vec<String> = GROUPS
        .iter()
        .map(|(severity, one, many, _)| (report.count(*severity), one, many))
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
        .collect();
    let fixed = attempts.iter().filter(|attempt| attempt.outcome.is_ok()).count();
    let before = if fixed > 0 {
        format!("{fixed} fixed. ")
    } else {
        String::new()
    };
    if parts.is_empty() {
        return look.paint(colour::GOOD, &format!("{before}Nothing is wrong."));
    }
    let of = |mend: Mend| {
        let findings = report.findings.iter();
        findings.filter(|finding| finding.mend() == mend).count()
    };
    let after = match (of(Mend::Safe), of(Mend::Asked)) {
        _ if !attempts.is_empty() => String::new(),
        (0, 0) => String::new(),
        (safe, 0) => format!(" tokensink doctor --fix mends {safe} of them."),
        (0, asked) => format!(" tokensink doctor --fix asks about {asked} of them."),
        (safe, asked) => format!(" tokensink doctor --fix mends {safe} of them and asks about {asked}."),
    };
    format!("{before}{}.{after}", parts.join(", "))
}

/// Copies of grants for people: each with its places, the owner's first.
pub(crate) fn duplicates(copies: &[Copies], look: &Look) -> String {
    let mut out = String::new();
    for group in copies {
        let heading = format!("Grant {} in {} places", group.fingerprint, group.places.len());
        push(&mut out, &look.paint(colour::HEADING, &heading), look);
        for (index, place) in group.places.iter().enumerate() {
            let owner = index == 0 && group.has_owner();
            let note = if owner { " (owner: keep this one)" } else { "" };
            push(&mut out, &format!("  {}{note}", place.in_words()), look);
            push(&mut out, &format!("    {}", path(&place.path)), look);
            if let Some(fix) = place.remedy().filter(|_| !owner) {
                let fix = look.paint(colour::COMMAND, &format!("fix: {fix}"));
                push(&mut out, &format!("    {fix}"), look);
            }
        }
        out.push('\n');
    }
    let last = match copies.len() {
        0 => "No grant stands in more than one place.".to_owned(),
        1 => "1 grant stands in more than one place.".to_owned(),
        count => format!("{count} grants stand in more than one place."),
    };
    push(&mut out, &last, look);
    out
}

/// The report for programs.
pub(crate) fn json(report: &Report, attempts: &[Attempt]) -> Value {
    let attempt = |attempt: &Attempt| {
        json!({
            "id": attempt.check.id,
            "what": attempt.what,
            "path": attempt.path.as_deref().map(path),
            "done": attempt.outcome.as_ref().ok(),
            "error": attempt.outcome.as_ref().err().map(ToString::to_string),
        })
    };
    let network = |check: &NetworkCheck| {
        json!({
            "provider": check.provider.as_str(),
            "origin": check.origin,
            "reached": check.outcome.is_ok(),
            "milliseconds": check.outcome.as_ref().ok().map(|took| u64::try_from(took.as_millis()).ok()),
            "error": check.outcome.as_ref().err().map(|(why, _)| why),
            "clockOffsetMs": check.clock_offset_ms,
        })
    };
    let disk = |disk: &DiskTrial| {
        let powers = match &disk.outcome {
            DiskOutcome::Tried(powers) => Some(powers),
            DiskOutcome::NotWritable(_) | DiskOutcome::NotTried(_) => None,
        };
        json!({
            "path": path(&disk.dir),
            "fileSystem": disk.file_system,
            "tried": powers.is_some(),
            "locks": powers.map(|powers| powers.locks.is_ok()),
            "hardLinks": powers.map(|powers| powers.hard_links.is_ok()),
            "renames": powers.map(|powers| powers.renames.is_ok()),
            "fsync": powers.map(|powers| powers.fsync.is_ok()),
        })
    };
    json!({
        "ok": report.is_well(),
        "errors": report.count(Severity::Error),
        "warnings": report.count(Severity::Warning),
        "notes": report.count(Severity::Note),
        "findings": report.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
        "fixes": attempts.iter().map(attempt).collect::<Vec<_>>(),
        "duplicates": report.copies.iter().map(Copies::to_json).collect::<Vec<_>>(),
        "network": report.network.iter().map(network).collect::<Vec<_>>(),
        "disks": report.disks.iter().map(disk).collect::<Vec<_>>(),
    })
}

/// The copies for programs.
pub(crate) fn duplicates_json(report: &Report) -> Value {
    json!({
        "ok": report.is_well(),
        "duplicates": report.copies.iter().map(Copies::to_json).collect::<Vec<_>>(),
    })
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
