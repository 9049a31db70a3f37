//! `agents …` (spec.md 15.4, 15.5).

use serde_json::{Value, json};
use tokensink_sink::AgentAdd;

use super::{App, needs_terminal, somebody_there, unanswered};
use crate::args::{AgentAddArgs, AgentDeleteArgs, AgentsArgs, AgentsCommand};
use crate::exit::{OK, Outcome};
use crate::render::{json, lists, path};

/// Runs what is under `agents`.
pub(super) fn run(app: &mut App<'_>, args: AgentsArgs) -> Outcome {
    match args.command {
        AgentsCommand::Add(args) => add(app, args),
        AgentsCommand::List { json } => list(app, json),
        AgentsCommand::Delete(args) => delete(app, &args),
    }
}

fn add(app: &mut App<'_>, args: AgentAddArgs) -> Outcome {
    let name = match args.name {
        Some(name) => name,
        None if args.non_interactive || !somebody_there() => {
            let fix = format!("{} agents add <name>", app.name().as_str());
            return Err(needs_terminal("asking for the name of the agent", fix).into());
        }
        None => inquire::Text::new("Name of the agent")
            .prompt()
            .map_err(unanswered)?,
    };
    let request = AgentAdd {
        name,
        workspace: args.workspace,
        agent_dir: args.agent_dir,
        model: args.model,
    };
    let agent = app.sink.agent_add(&request)?;
    if args.json {
        app.printer.json(&json::agent_added(&agent))?;
        return Ok(OK);
    }
    app.printer.line(&format!("Agent: {}", agent.id))?;
    app.printer
        .line(&format!("Workspace: {}", path(&agent.workspace)))?;
    app.printer
        .line(&format!("Agent dir: {}", path(&agent.agent_dir)))?;
    app.printer.note(&format!(
        "Log in for it with: {} models auth login --agent {} --provider <id>",
        app.name().as_str(),
        agent.id
    ));
    Ok(OK)
}

fn list(app: &mut App<'_>, json: bool) -> Outcome {
    let agents = app.sink.agents()?;
    if json {
        let value: Value = agents.iter().map(json::agent).collect();
        app.printer.json(&value)?;
    } else {
        let text = lists::agents(&agents, &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

fn delete(app: &mut App<'_>, args: &AgentDeleteArgs) -> Outcome {
    if !args.force {
        if !somebody_there() {
            let fix = format!("{} agents delete {} --force", app.name().as_str(), args.id);
            return Err(needs_terminal("asking whether the agent is to be deleted", fix).into());
        }
        let question = format!("Delete agent {}?", args.id);
        let yes = inquire::Confirm::new(&question)
            .with_default(false)
            .prompt()
            .map_err(unanswered)?;
        if !yes {
            app.printer.note("Nothing was done.");
            return Ok(OK);
        }
    }
    let deleted = app.sink.agent_delete(&args.id, args.keep_files)?;
    let moved: Vec<String> = deleted.moved_to.iter().map(|to| path(to)).collect();
    if args.json {
        app.printer
            .json(&json!({ "agentId": deleted.id.as_str(), "movedTo": moved }))?;
        return Ok(OK);
    }
    app.printer.line(&format!("Deleted agent: {}", deleted.id))?;
    for to in moved {
        app.printer.note(&format!("Its files are in {to}"));
    }
    Ok(OK)
}
