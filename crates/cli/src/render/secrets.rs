//! What `secrets audit`, `apply` and `reload` show. No secret is in any of it.

use serde_json::{Value, json};
use tokensink_sink::{SecretsApplied, SecretsAudit, SecretsReload};

use super::{Look, colour, path};

/// `1 file`, `2 files`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// The findings, file by file.
pub(crate) fn audit(report: &SecretsAudit, look: &Look) -> String {
    let mut text = String::new();
    let mut file = None;
    for finding in &report.findings {
        if file != Some(&finding.file) {
            file = Some(&finding.file);
            text += &format!("{}\n", look.paint(colour::HEADING, &path(&finding.file)));
        }
        let place = if finding.path.is_empty() {
            String::new()
        } else {
            format!(" {}", finding.path)
        };
        text += &format!(
            "- {}{place}: {}\n    fix: {}\n",
            look.paint(colour::WARN, finding.code),
            finding.message,
            look.paint(colour::COMMAND, &look.name.in_commands(&finding.fix)),
        );
    }
    let files = counted(report.files.len(), "file");
    text + &format!(
        "{files} looked at, {}\n",
        counted(report.findings.len(), "finding")
    )
}

/// `{findings: [{code, file, path, message, fix}], files, execSkipped}`.
pub(crate) fn audit_json(report: &SecretsAudit) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.code, "file": path(&finding.file), "path": finding.path,
                "message": finding.message, "fix": finding.fix,
            })
        })
        .collect();
    let files: Vec<String> = report.files.iter().map(|file| path(file)).collect();
    json!({"findings": findings, "files": files, "execSkipped": report.exec_skipped})
}

/// What a plan changed, one line each.
pub(crate) fn applied(applied: &SecretsApplied, dry_run: bool) -> String {
    if applied.changes.is_empty() {
        return "Everything is as the plan says already.\n".to_owned();
    }
    let mut text = String::new();
    for (file, place, what) in &applied.changes {
        text += &format!("{}: {place} -> {what}\n", path(file));
    }
    let count = counted(applied.changes.len(), "change");
    text + &if dry_run {
        format!("dry run: {count}, nothing was written\n")
    } else {
        format!("{count} written\n")
    }
}

/// `{dryRun, changes: [{file, path, value}], execSkipped, remaining: [{file, path}]}`.
pub(crate) fn applied_json(applied: &SecretsApplied, dry_run: bool) -> Value {
    let changes: Vec<Value> = applied
        .changes
        .iter()
        .map(|(file, place, what)| json!({"file": path(file), "path": place, "value": what}))
        .collect();
    let remaining: Vec<Value> = applied
        .remaining
        .iter()
        .map(|(file, place)| json!({"file": path(file), "path": place}))
        .collect();
    json!({
        "dryRun": dry_run, "changes": changes, "execSkipped": applied.exec_skipped, "remaining": remaining,
    })
}

/// How many references gave a value, and why others did not.
pub(crate) fn reload(report: &SecretsReload, look: &Look) -> String {
    let mut text = format!("{} give a value\n", counted(report.resolved, "reference"));
    for (message, fix) in &report.failed {
        text += &format!(
            "- {message}\n    fix: {}\n",
            look.paint(colour::COMMAND, &look.name.in_commands(fix))
        );
    }
    if !report.failed.is_empty() {
        text += "Processes that had values before keep them until all of this works.\n";
    }
    text
}

/// `{resolved, failed: [{message, fix}], announced}`.
pub(crate) fn reload_json(report: &SecretsReload) -> Value {
    let failed: Vec<Value> = report
        .failed
        .iter()
        .map(|(message, fix)| json!({"message": message, "fix": fix}))
        .collect();
    json!({"resolved": report.resolved, "failed": failed, "announced": report.announced})
}
