//! The text of the smaller lists: profiles, agents, models, renewals.

use tokensink_sink::{AgentInfo, ExternalInfo, ModelInfo, ProfileInfo, RenewOutcome, RenewResult};
use tokensink_types::UnixMillis;

use super::profile::{Shown, fix, state_cell};
use super::table::{Cell, Table};
use super::{Look, colour, json, path, words};

/// `models auth list`.
pub(crate) fn profiles(profiles: &[ProfileInfo], now: UnixMillis, look: &Look) -> String {
    let mut table = Table::new(&["Profile", "Type", "State", "Expires"]);
    for profile in profiles {
        let shown = Shown {
            kind: profile.kind,
            state: &profile.state,
            expires: profile.expires,
            bench: profile.bench.as_ref(),
            now,
            absolute: false,
        };
        let mut details = Vec::new();
        if profile.inherited {
            details.push(Cell::styled(
                format!("inherited from agent {}", profile.owner),
                colour::FAINT,
            ));
        }
        if profile.is_external {
            details.push(Cell::styled("owned by another program", colour::FAINT));
        }
        details.extend(shown.details(look));
        table.row_with(
            vec![
                profile.id.as_str().into(),
                profile.kind.as_str().into(),
                state_cell(&profile.state),
                shown.expires_cell(look),
            ],
            details,
        );
    }
    table.render(look)
}

/// `channels list` (spec.md 12.8).
pub(crate) fn channels(profiles: &[ProfileInfo], found: &[ExternalInfo]) -> String {
    let mut text = "Auth providers (OAuth + API keys):\n".to_owned();
    for profile in profiles {
        let synced = if profile.is_external { " (synced)" } else { "" };
        text += &format!("- {} ({}{synced})\n", profile.id, profile.kind.as_str());
    }
    for login in found {
        if let Some(id) = &login.profile {
            text += &format!("- {id} ({}, not used)\n", login.title);
        }
    }
    if profiles.is_empty() && found.is_empty() {
        text += "- none\n";
    }
    text
}

/// `agents list`. `details` are the lines below an agent.
pub(crate) fn agents(
    agents: &[AgentInfo],
    details: impl Fn(&AgentInfo) -> Vec<String>,
    look: &Look,
) -> String {
    let mut table = Table::new(&["Agent", "Model", "Logins", "Workspace"]);
    for agent in agents {
        let name = match agent.name.as_deref() {
            Some(name) if name != agent.id.as_str() => format!(" ({name})"),
            _ => String::new(),
        };
        let default = if agent.is_default { " *" } else { "" };
        let logins = if agent.id.is_main() {
            "own"
        } else if agent.inherits {
            "own, else main's"
        } else {
            "own only"
        };
        let cells = vec![
            format!("{}{name}{default}", agent.id).into(),
            agent.model.as_deref().unwrap_or("default").into(),
            logins.into(),
            path(&agent.workspace).into(),
        ];
        table.row_with(cells, details(agent).into_iter().map(Cell::from).collect());
    }
    table.render(look) + "* the default agent\n"
}

/// `models list`.
pub(crate) fn models(models: &[ModelInfo], look: &Look) -> String {
    let mut table = Table::new(&["Model", "Login", "Tags"]);
    for model in models {
        let login = if model.available {
            Cell::styled("yes", colour::GOOD)
        } else {
            Cell::styled("no", colour::FAINT)
        };
        table.row(vec![
            model.key.as_str().into(),
            login,
            model.tags.join(", ").into(),
        ]);
    }
    table.render(look)
}

/// `renew`.
pub(crate) fn renewals(outcomes: &[RenewOutcome], now: UnixMillis, look: &Look) -> String {
    let mut table = Table::new(&["Profile", "Agent", "Outcome"]);
    for outcome in outcomes {
        let (cell, details) = renewal(&outcome.result, now, look);
        table.row_with(
            vec![
                outcome.profile.as_str().into(),
                outcome.agent.as_str().into(),
                cell,
            ],
            details,
        );
    }
    table.render(look)
}

fn renewal(result: &RenewResult, now: UnixMillis, look: &Look) -> (Cell, Vec<Cell>) {
    let word = json::renewal_word(result).replace('_', " ");
    let with = |prefix: &str, at: &Option<UnixMillis>| {
        at.map(|at| format!("{prefix}{}", words::relative(at, now)))
            .unwrap_or_default()
    };
    match result {
        RenewResult::Renewed { expires } => (
            Cell::styled(format!("{word}{}", with(", expires ", expires)), colour::GOOD),
            Vec::new(),
        ),
        RenewResult::NotDue { due_at } => (
            Cell::styled(format!("{word}{}", with(", due ", due_at)), colour::FAINT),
            Vec::new(),
        ),
        RenewResult::TryAgain { reason, at } => (
            Cell::styled(format!("{word}{}", with(" ", at)), colour::WARN),
            vec![reason.as_str().into()],
        ),
        RenewResult::LoginNeeded { reason, command } => (
            Cell::styled(word, colour::BAD),
            vec![reason.as_str().into(), fix(command, look)],
        ),
        RenewResult::Failed { reason } => (Cell::styled(word, colour::BAD), vec![reason.as_str().into()]),
    }
}

#[cfg(test)]
mod tests;
