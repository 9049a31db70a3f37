//! The logins that other programs keep, as text and as JSON.

use serde_json::{Value, json};
use tokensink_sink::{
    ExternalChanged, ExternalInfo, ExternalMode, ExternalWired, ProfileId, ProofOutcome, WireProof,
};
use tokensink_types::UnixMillis;

use super::profile::fix;
use super::table::{Cell, Table};
use super::{Look, colour, path, words};
use crate::name::Name;

/// `external list`.
pub(crate) fn list(logins: &[ExternalInfo], now: UnixMillis, look: &Look) -> String {
    if logins.is_empty() {
        return "No other program on this host has a login that we know of.\n".to_owned();
    }
    table(logins.iter(), now, look)
}

/// The rows of these logins.
pub(crate) fn table<'a>(
    logins: impl Iterator<Item = &'a ExternalInfo>,
    now: UnixMillis,
    look: &Look,
) -> String {
    let mut table = Table::new(&["Program", "Mode", "State", "Expires"]);
    for login in logins {
        let expires = login
            .expires
            .map_or_else(|| "-".to_owned(), |at| words::relative(at, now));
        table.row_with(
            vec![
                login.title.into(),
                login.mode.map_or("not chosen", ExternalMode::as_str).into(),
                Cell::styled(login.state.replace('_', " "), style(login.state)),
                expires.into(),
            ],
            details(login, look),
        );
    }
    table.render(look)
}

fn style(state: &str) -> anstyle::Style {
    match state {
        "usable" | "owned" => colour::GOOD,
        "found" | "off" => colour::FAINT,
        "ended" | "blanked" | "locked" | "same_grant" => colour::WARN,
        _ => colour::BAD,
    }
}

fn details(login: &ExternalInfo, look: &Look) -> Vec<Cell> {
    let mut whose = vec![login.place.clone()];
    whose.extend(login.email.clone());
    whose.extend(login.plan.as_ref().map(|plan| format!("plan {plan}")));
    if login.mode.is_some() {
        whose.extend(login.profile.as_ref().map(|id| format!("profile {id}")));
    }
    let mut lines = vec![Cell::styled(whose.join(", "), colour::FAINT)];
    lines.extend(
        login
            .note
            .as_ref()
            .map(|note| Cell::from(look.name.in_commands(note))),
    );
    lines.extend(login.fix.as_ref().map(|command| fix(command, look)));
    lines
}

/// `external list --json`, and `auth.external` of the status.
pub(crate) fn json(logins: &[ExternalInfo], name: Name) -> Value {
    logins.iter().map(|login| one(login, name)).collect()
}

fn one(login: &ExternalInfo, name: Name) -> Value {
    let command = |text: &Option<String>| text.as_ref().map(|text| name.in_commands(text));
    let mut value = json!({
        "cli": login.cli,
        "name": login.title,
        "place": login.place,
        "mode": login.mode.map(ExternalMode::as_str),
        "profileId": login.profile.as_ref().map(ProfileId::as_str),
        "state": login.state,
        "note": command(&login.note),
        "fix": command(&login.fix),
    });
    let mut put = |key: &str, found: Option<Value>| {
        if let Some(found) = found {
            value[key] = found;
        }
    };
    put("provider", login.provider.as_ref().map(|id| id.as_str().into()));
    put("type", login.kind.map(|kind| kind.as_str().into()));
    put("email", login.email.clone().map(Into::into));
    put("plan", login.plan.clone().map(Into::into));
    put("expiresAt", login.expires.map(|at| at.0.into()));
    put(
        "claimedBy",
        login.claimed_by.as_deref().map(|dir| path(dir).into()),
    );
    put(
        "sameGrantAs",
        login.same_grant_as.as_ref().map(|id| id.as_str().into()),
    );
    value
}

/// `external set --json`.
pub(crate) fn changed(changed: &ExternalChanged, name: Name) -> Value {
    json!({
        "cli": changed.cli,
        "place": changed.place,
        "before": changed.before.map(ExternalMode::as_str),
        "mode": changed.mode.as_str(),
        "profileId": changed.profile.as_str(),
        "notes": changed.notes,
        "next": changed.next.as_ref().map(|next| name.in_commands(next)),
    })
}

/// `external wire` and `external unwire`: the lines that change, then what became of it.
pub(crate) fn wired_text(wired: &ExternalWired, dry_run: bool) -> String {
    let file = path(&wired.file);
    if wired.diff.is_empty() {
        return format!("{file}: nothing to change\n");
    }
    let end = if wired.diff.ends_with('\n') { "" } else { "\n" };
    let what = match (&wired.profile, dry_run) {
        (_, true) => "Nothing was changed.".to_owned(),
        (Some(id), false) => format!("{} asks tokensink for {id} from now on.", wired.title),
        (None, false) => format!("{} is as it was before.", wired.title),
    };
    format!("{}{end}\n{what}\n", wired.diff)
}

/// What the program itself says.
pub(crate) fn proof_text(proof: &WireProof) -> String {
    match &proof.outcome {
        ProofOutcome::Said { code, words } => format!("{} says (exit code {code}): {words}", proof.command),
        ProofOutcome::NotRun(why) => format!("Not proved by `{}`: {why}", proof.command),
    }
}

/// The same with `--json`.
pub(crate) fn wired(wired: &ExternalWired) -> Value {
    let proof = wired.proof.as_ref().map(|proof| match &proof.outcome {
        ProofOutcome::Said { code, words } => {
            json!({"command": proof.command, "exitCode": code, "output": words})
        }
        ProofOutcome::NotRun(why) => json!({"command": proof.command, "notRun": why}),
    });
    json!({
        "cli": wired.cli,
        "file": path(&wired.file),
        "diff": wired.diff,
        "changed": wired.changed,
        "profileId": wired.profile.as_ref().map(ProfileId::as_str),
        "kept": wired.kept,
        "hookFails": wired.hook_fails,
        "proof": proof,
    })
}
