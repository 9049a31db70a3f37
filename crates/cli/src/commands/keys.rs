//! `keys …`: who may call the gateway.

use serde_json::json;
use tokensink_sink::KeyAdd;

use super::App;
use crate::args::{KeyAddArgs, KeyRevokeArgs, KeysArgs, KeysCommand};
use crate::exit::{OK, Outcome};
use crate::render::keys;

/// Runs what is under `keys`.
pub(super) fn run(app: &mut App<'_>, args: KeysArgs) -> Outcome {
    match args.command {
        KeysCommand::Add(args) => add(app, args),
        KeysCommand::List { json } => list(app, json),
        KeysCommand::Revoke(args) => revoke(app, &args),
    }
}

fn add(app: &mut App<'_>, args: KeyAddArgs) -> Outcome {
    let added = app.sink.key_add(&KeyAdd {
        name: args.name,
        agent: args.agent,
        providers: args.provider,
    })?;
    if args.json {
        let mut value = keys::json(&added.info);
        value["key"] = json!(added.key.expose());
        app.printer.json(&value)?;
        return Ok(OK);
    }
    // Nothing else on standard output, so that a script can take it as it is.
    app.printer.line(added.key.expose())?;
    app.printer.note(&format!(
        "Client key {} for agent {}. It is kept as a hash only and cannot be shown again; end it with: {} keys revoke {}",
        added.info.name,
        added.info.agent,
        app.name().as_str(),
        added.info.name,
    ));
    Ok(OK)
}

fn list(app: &mut App<'_>, json: bool) -> Outcome {
    let infos = app.sink.keys()?;
    if json {
        app.printer.json(&infos.iter().map(keys::json).collect())?;
    } else {
        let text = keys::list(&infos, app.sink.now(), &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

fn revoke(app: &mut App<'_>, args: &KeyRevokeArgs) -> Outcome {
    let info = app.sink.key_revoke(&args.name)?;
    if args.json {
        app.printer.json(&keys::json(&info))?;
    } else {
        app.printer.line(&format!("Revoked: {}", info.name))?;
    }
    Ok(OK)
}
