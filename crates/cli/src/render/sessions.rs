//! Sessions, as text and as JSON.

use serde_json::{Value, json};
use tokensink_sink::{SessionInfo, SessionPinInfo, SessionsView};
use tokensink_types::UnixMillis;

use super::status::field;
use super::table::Table;
use super::{Look, words};

/// `sessions list`.
pub(crate) fn list(view: &SessionsView, now: UnixMillis, look: &Look) -> String {
    if view.sessions.is_empty() {
        return format!("Agent {} has no sessions.\n", view.agent);
    }
    let mut table = Table::new(&["Session", "Model", "Account", "Changed"]);
    for session in &view.sessions {
        let changed = session
            .updated_at
            .map_or_else(String::new, |at| words::relative(at, now));
        table.row(vec![
            session.key.as_str().into(),
            session.model.as_str().into(),
            account(session).into(),
            changed.into(),
        ]);
    }
    table.render(look)
}

/// `sessions show`.
pub(crate) fn show(session: &SessionInfo, now: UnixMillis) -> String {
    let mut text = field("Session", session.key.as_str());
    text += &field("Agent", session.agent.as_str());
    let chosen = if session.model_override.is_some() {
        ""
    } else {
        " (the default)"
    };
    text += &field("Model", &format!("{}{chosen}", session.model));
    text += &field("Account", &account(session));
    for pin in &session.other_pins {
        text += &field("Also", &format!("{} (automatic{})", pin.profile, gone(pin)));
    }
    text += &field("Conversation", session.session_id.as_deref().unwrap_or_default());
    text += &field("Compactions", &session.compactions.to_string());
    let changed = session
        .updated_at
        .map_or_else(String::new, |at| words::relative(at, now));
    text += &field("Changed", &changed);
    text
}

/// The profile and who chose it.
fn account(session: &SessionInfo) -> String {
    let Some(pin) = &session.pin else {
        return "not chosen yet".to_owned();
    };
    let by = match pin.source {
        tokensink_sink::PinSource::User => "chosen by the user",
        tokensink_sink::PinSource::Auto if session.is_new => "automatic, the next request takes the next one",
        tokensink_sink::PinSource::Auto => "automatic",
    };
    format!("{} ({by}{})", pin.profile, gone(pin))
}

fn gone(pin: &SessionPinInfo) -> &'static str {
    if pin.exists() {
        ""
    } else {
        "; there is no such profile any more"
    }
}

/// One session.
pub(crate) fn json(session: &SessionInfo) -> Value {
    let pin_json = |pin: &SessionPinInfo| {
        let (id, source) = (pin.profile.as_str(), pin.source.as_str());
        json!({ "profileId": id, "source": source, "exists": pin.exists() })
    };
    json!({
        "key": session.key.as_str(),
        "agentId": session.agent.as_str(),
        "sessionId": session.session_id,
        "updatedAt": session.updated_at.map(|at| at.0),
        "model": session.model,
        "providerOverride": session.provider_override,
        "modelOverride": session.model_override,
        "pin": session.pin.as_ref().map(pin_json),
        "otherPins": session.other_pins.iter().map(pin_json).collect::<Vec<_>>(),
        "compactionCount": session.compactions,
        "isNew": session.is_new,
        "automatic": session.is_automatic,
    })
}
