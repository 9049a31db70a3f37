//! `channels list`: where the documents send people to see which profile ids exist.

use tokensink_sink::ExternalScope;

use super::{App, somebody_there};
use crate::args::{ChannelsArgs, ChannelsCommand};
use crate::exit::{OK, Outcome};
use crate::render::{json, lists};

/// Lists the profiles of the default agent. Chat channels are not ours.
pub(super) fn run(app: &mut App<'_>, args: &ChannelsArgs) -> Outcome {
    // `no_usage` asks for what is always so: nobody is asked how much of a plan is used.
    let ChannelsCommand::List { json, no_usage: _ } = args.command;
    let agent = app.agent(None)?;
    let profiles = app.sink.profiles(&agent, None)?;
    let mut found = app.sink.external_list(&ExternalScope::All, somebody_there());
    found.retain(|login| login.mode.is_none() && login.state == "found");
    if json {
        app.printer.json(&json::channels(&profiles, &found))?;
    } else {
        app.printer.data(&lists::channels(&profiles, &found))?;
    }
    Ok(OK)
}
