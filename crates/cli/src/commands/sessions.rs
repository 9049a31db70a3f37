//! `sessions …`: which model and account a conversation has.

use tokensink_sink::{ErrorKind, SessionKey, SinkError};

use super::{App, warn};
use crate::args::{SessionsArgs, SessionsCommand};
use crate::exit::{OK, Outcome};
use crate::render::sessions;

/// Runs what is under `sessions`.
pub(super) fn run(app: &mut App<'_>, args: &SessionsArgs) -> Outcome {
    let agent = app.agent(args.agent.as_deref())?;
    let view = app.sink.sessions(&agent)?;
    for warning in &view.warnings {
        warn(app.printer, warning);
    }
    match &args.command {
        SessionsCommand::List { json } => {
            if *json {
                let value = view.sessions.iter().map(sessions::json).collect();
                app.printer.json(&value)?;
            } else {
                let text = sessions::list(&view, app.sink.now(), &app.printer.look);
                app.printer.data(&text)?;
            }
        }
        SessionsCommand::Show { key, json } => {
            let session = app.sink.session(&agent, key)?;
            if !session.exists {
                return Err(no_session(key, args).into());
            }
            show(app, &session, *json)?;
        }
        SessionsCommand::Reset { key, json } => {
            if !app.sink.session(&agent, key)?.exists {
                return Err(no_session(key, args).into());
            }
            let session = app.sink.reset_session(&agent, key)?;
            show(app, &session, *json)?;
        }
    }
    Ok(OK)
}

fn show(app: &mut App<'_>, session: &tokensink_sink::SessionInfo, json: bool) -> std::io::Result<()> {
    if json {
        return app.printer.json(&sessions::json(session));
    }
    let text = sessions::show(session, app.sink.now());
    app.printer.data(&text)
}

fn no_session(key: &SessionKey, args: &SessionsArgs) -> SinkError {
    let of = args
        .agent
        .as_ref()
        .map_or_else(String::new, |agent| format!(" --agent {agent}"));
    SinkError::new(
        ErrorKind::Usage,
        "no_session",
        format!("there is no session {:?}", key.as_str()),
    )
    .with_fix(format!("tokensink sessions list{of}"))
}
