//! `models …`: the catalogue, the default model, fallbacks and aliases.

use tokensink_sink::{AgentId, ErrorKind, ModelInfo, SinkError};

use super::{App, auth, status};
use crate::args::{AliasCommand, FallbackCommand, ListArgs, ModelsArgs, ModelsCommand, StatusArgs};
use crate::exit::{OK, Outcome};
use crate::render::{json, lists};

/// Runs `models` and what is under it.
pub(super) fn run(app: &mut App<'_>, args: ModelsArgs) -> Outcome {
    let agent = args.agent.as_deref();
    let Some(command) = args.command else {
        let args = StatusArgs {
            json: args.status_json,
            plain: args.status_plain,
            ..StatusArgs::default()
        };
        return status::run(app, agent, &args);
    };
    if args.status_json || args.status_plain {
        return Err(SinkError::new(
            ErrorKind::Usage,
            "usage",
            "an option for `models` alone stands before a subcommand",
        )
        .with_fix("put --json or --plain behind the subcommand")
        .into());
    }
    match command {
        ModelsCommand::Status(args) => status::run(app, agent, &args),
        ModelsCommand::List(args) => list(app, agent, &args),
        ModelsCommand::Set { model, json } => {
            let target = override_of(app, agent)?;
            let set = app.sink.set_default_model(target.as_ref(), &model)?;
            print_set(app, "Default model", "defaultModel", &set, json)
        }
        ModelsCommand::SetImage { model, json } => {
            let target = override_of(app, agent)?;
            let set = app.sink.set_image_model(target.as_ref(), &model)?;
            print_set(app, "Image model", "imageModel", &set, json)
        }
        ModelsCommand::Aliases(command) => aliases(app, agent, command),
        ModelsCommand::Fallbacks(command) => fallbacks(app, agent, command),
        ModelsCommand::ImageFallbacks(command) => image_fallbacks(app, agent, command),
        ModelsCommand::Auth(command) => auth::run(app, agent, command),
    }
}

fn print_set(app: &mut App<'_>, title: &str, field: &str, model: &str, json: bool) -> Outcome {
    if json {
        app.printer.json(&serde_json::json!({ field: model }))?;
    } else {
        app.printer.line(&format!("{title}: {model}"))?;
    }
    Ok(OK)
}

/// The agent whose own setting is to change; `None` for the setting that all share.
fn override_of(app: &App<'_>, agent: Option<&str>) -> tokensink_sink::Result<Option<AgentId>> {
    agent.map(|id| app.agent(Some(id))).transpose()
}

fn list(app: &mut App<'_>, agent: Option<&str>, args: &ListArgs) -> Outcome {
    let agent = app.agent(agent)?;
    let models = app.sink.models_list(&agent, args.provider.as_deref(), args.all)?;
    if args.json {
        app.printer.json(&json::models(&models))?;
    } else if args.plain {
        for ModelInfo { key, .. } in &models {
            app.printer.line(key)?;
        }
    } else if models.is_empty() {
        app.printer.note("No models.");
    } else {
        let text = lists::models(&models, &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

fn aliases(app: &mut App<'_>, agent: Option<&str>, command: AliasCommand) -> Outcome {
    let json = match command {
        AliasCommand::List { json } => json,
        AliasCommand::Add { alias, model, json } => {
            app.sink.alias_add(&alias, &model)?;
            json
        }
        AliasCommand::Remove { alias, json } => {
            app.sink.alias_remove(&alias)?;
            json
        }
    };
    let agent = app.agent(agent)?;
    let view = app.sink.models_view(&agent)?;
    if json {
        let value = serde_json::json!({ "aliases": json::aliases(&view) });
        app.printer.json(&value)?;
    } else {
        print_aliases(app, &view.aliases)?;
    }
    Ok(OK)
}

fn print_aliases(app: &mut App<'_>, aliases: &[(String, String)]) -> std::io::Result<()> {
    app.printer.line(&format!("Aliases ({}):", aliases.len()))?;
    for (alias, model) in aliases {
        app.printer.line(&format!("- {alias} -> {model}"))?;
    }
    Ok(())
}

fn fallbacks(app: &mut App<'_>, agent: Option<&str>, command: FallbackCommand) -> Outcome {
    let target = override_of(app, agent)?;
    let target = target.as_ref();
    let (models, json) = match command {
        FallbackCommand::List { json } => {
            let agent = app.agent(agent)?;
            (app.sink.models_view(&agent)?.fallbacks, json)
        }
        FallbackCommand::Add { model, json } => (app.sink.fallbacks_add(target, &model)?, json),
        FallbackCommand::Remove { model, json } => (app.sink.fallbacks_remove(target, &model)?, json),
        FallbackCommand::Clear { json } => (app.sink.fallbacks_clear(target)?, json),
    };
    print_fallbacks(app, "Fallbacks", "fallbacks", &models, json)
}

fn image_fallbacks(app: &mut App<'_>, agent: Option<&str>, command: FallbackCommand) -> Outcome {
    let (models, json) = match command {
        FallbackCommand::List { json } => {
            let agent = app.agent(agent)?;
            (app.sink.models_view(&agent)?.image_fallbacks, json)
        }
        FallbackCommand::Add { model, json } => (app.sink.image_fallbacks_add(&model)?, json),
        FallbackCommand::Remove { model, json } => (app.sink.image_fallbacks_remove(&model)?, json),
        FallbackCommand::Clear { json } => (app.sink.image_fallbacks_clear()?, json),
    };
    print_fallbacks(app, "Image fallbacks", "imageFallbacks", &models, json)
}

fn print_fallbacks(app: &mut App<'_>, title: &str, field: &str, models: &[String], json: bool) -> Outcome {
    if json {
        app.printer.json(&serde_json::json!({ field: models }))?;
        return Ok(OK);
    }
    app.printer.line(&format!("{title} ({}):", models.len()))?;
    for model in models {
        app.printer.line(&format!("- {model}"))?;
    }
    Ok(OK)
}
