//! Client keys, as text and as JSON.

use serde_json::{Value, json};
use tokensink_sink::{KeyInfo, ProviderId};
use tokensink_types::UnixMillis;

use super::table::{Cell, Table};
use super::{Look, colour, words};

/// `keys list`.
pub(crate) fn list(keys: &[KeyInfo], now: UnixMillis, look: &Look) -> String {
    if keys.is_empty() {
        let command = look.name.in_commands("tokensink keys add <name> --agent <id>");
        return format!("No client has a key. Make one with: {command}\n");
    }
    let mut table = Table::new(&["Name", "Agent", "Providers", "Begins", "Last used", "State"]);
    for key in keys {
        let state = match key.revoked_at {
            None => Cell::styled("valid", colour::GOOD),
            Some(at) => Cell::styled(format!("revoked {}", words::relative(at, now)), colour::BAD),
        };
        let providers = providers(key).map_or_else(|| "all".to_owned(), |ids| ids.join(", "));
        let used = key
            .last_used
            .map_or_else(|| "never".to_owned(), |at| words::relative(at, now));
        table.row(vec![
            key.name.as_str().into(),
            key.agent.as_str().into(),
            providers.into(),
            key.hint.as_str().into(),
            used.into(),
            state,
        ]);
    }
    table.render(look)
}

/// One key, without its text.
pub(crate) fn json(key: &KeyInfo) -> Value {
    json!({
        "name": key.name,
        "agentId": key.agent.as_str(),
        "providers": providers(key),
        "hint": key.hint,
        "createdAt": key.created_at.map(|at| at.0),
        "lastUsedAt": key.last_used.map(|at| at.0),
        "revokedAt": key.revoked_at.map(|at| at.0),
    })
}

fn providers(key: &KeyInfo) -> Option<Vec<&str>> {
    let ids = key.providers.as_ref()?;
    Some(ids.iter().map(ProviderId::as_str).collect())
}
