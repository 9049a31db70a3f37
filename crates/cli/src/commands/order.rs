//! `models auth order …` (spec.md 12.7).

use tokensink_sink::{OrderView, ProfileId};

use super::App;
use crate::args::OrderCommand;
use crate::exit::{OK, Outcome};
use crate::render::{json, path};

/// Shows, sets or removes the order of a provider's profiles for one agent.
pub(super) fn run(app: &mut App<'_>, agent: Option<&str>, command: OrderCommand) -> Outcome {
    let agent = app.agent(agent)?;
    match command {
        OrderCommand::Get { provider, json } => {
            let view = app.sink.order_get(&agent, &provider)?;
            if json {
                app.printer.json(&json::order(&view))?;
            } else {
                head(app, &view)?;
                app.printer
                    .line(&format!("Auth state file: {}", path(&view.state_path)))?;
                stored(app, &view)?;
                app.printer
                    .line(&format!("Tried in this order: {}", ids(&view.effective)))?;
                if let Some(why) = &view.unavailable {
                    app.printer.line(&format!("Now: {why}"))?;
                }
            }
        }
        OrderCommand::Set {
            provider,
            profile_ids,
        } => {
            let view = app.sink.order_set(&agent, &provider, &profile_ids)?;
            head(app, &view)?;
            stored(app, &view)?;
        }
        OrderCommand::Clear { provider } => {
            let view = app.sink.order_clear(&agent, &provider)?;
            head(app, &view)?;
            app.printer.line("Cleared per-agent order override.")?;
        }
    }
    Ok(OK)
}

fn head(app: &mut App<'_>, view: &OrderView) -> std::io::Result<()> {
    app.printer.line(&format!("Agent: {}", view.agent))?;
    app.printer.line(&format!("Provider: {}", view.provider))
}

fn stored(app: &mut App<'_>, view: &OrderView) -> std::io::Result<()> {
    let order = view.order.as_deref().map_or_else(|| "(none)".to_owned(), ids);
    app.printer.line(&format!("Order override: {order}"))
}

fn ids(ids: &[ProfileId]) -> String {
    if ids.is_empty() {
        return "(none)".to_owned();
    }
    ids.iter().map(ProfileId::as_str).collect::<Vec<_>>().join(", ")
}
