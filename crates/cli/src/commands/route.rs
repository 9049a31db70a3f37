//! `route`: which agent answers a chat (spec.md 15.7).

use tokensink_sink::RouteRequest;

use super::{App, warn};
use crate::args::RouteArgs;
use crate::exit::{OK, Outcome};
use crate::render::routing;

/// Prints the agent alone; the reason goes to standard error.
pub(super) fn run(app: &mut App<'_>, args: RouteArgs) -> Outcome {
    let route = app.sink.route(&RouteRequest {
        channel: args.channel,
        account: args.account,
        peer: args.peer,
        guild: args.guild,
        team: args.team,
    })?;
    for warning in &route.warnings {
        warn(app.printer, warning);
    }
    if args.json {
        app.printer.json(&routing::route_json(&route))?;
    } else {
        app.printer.line(route.agent.as_str())?;
        app.printer.note(&routing::reason(&route));
    }
    Ok(OK)
}
