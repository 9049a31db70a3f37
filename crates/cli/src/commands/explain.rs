//! `explain`: why an account was chosen.

use tokensink_sink::{Asked, ErrorKind, ExplainAsk, SessionKey, SinkError};

use super::App;
use crate::args::ExplainArgs;
use crate::exit::{OK, Outcome};
use crate::render::explain;

/// That nothing was chosen yet is no failure.
const NOTHING_KEPT: &str = "No choice is kept yet: `serve` keeps all, any other command only those that were not the \
first of their order.\nWhat would be chosen now: tokensink explain --provider <id>";

/// Tells about a choice. That nobody could be chosen is an answer like any other.
pub(super) fn run(app: &mut App<'_>, args: ExplainArgs) -> Outcome {
    let asked = match (args.provider, args.id) {
        (Some(provider), _) => Asked::Now(ExplainAsk {
            agent: app.agent(args.agent.as_deref())?,
            provider,
            model: args.model,
            session: args.session.as_deref().map(session_key).transpose()?,
        }),
        (None, Some(id)) => Asked::Id(id),
        (None, None) => Asked::Last,
    };
    let told = app.sink.explain(&asked)?;
    if args.json {
        app.printer.json(&explain::json(&told))?;
    } else if told.choices.is_empty() {
        app.printer.note(NOTHING_KEPT);
    } else {
        let text = explain::text(&told, &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

fn session_key(text: &str) -> Result<SessionKey, SinkError> {
    SessionKey::parse(text)
        .map_err(|error| SinkError::new(ErrorKind::Usage, "bad_session", error.to_string()))
}
