//! `agents …` (spec.md 15.4, 15.5).

use serde_json::{Value, json};
use tokensink_sink::{AgentAdd, AgentId};

use super::{App, needs_terminal, onboard, open_sink, somebody_there, unanswered};
use crate::args::{AgentAddArgs, AgentDeleteArgs, AgentsArgs, AgentsCommand, OnboardArgs};
use crate::ask::GIVEN_UP;
use crate::exit::{Failure, OK, Outcome};
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
    let asks = !args.non_interactive
        && !args.json
        && args.workspace.is_none()
        && args.agent_dir.is_none()
        && args.model.is_none()
        && somebody_there();
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
    // Any option makes it a command for scripts (spec.md 15.4). Asked before anything is done.
    let wants_login = asks
        && inquire::Confirm::new("Log in for this agent now?")
            .with_default(false)
            .with_help_message("without logins of its own it uses those of main")
            .prompt()
            .map_err(unanswered)?;
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
    if wants_login {
        return log_in(app, &agent.id);
    }
    app.printer.note(&format!(
        "Log in for it with: {} models auth login --agent {} --provider <id>",
        app.name().as_str(),
        agent.id
    ));
    Ok(OK)
}

/// The login step of `configure` for an agent that was just added. Giving it up leaves the agent.
fn log_in(app: &mut App<'_>, agent: &AgentId) -> Outcome {
    let args = OnboardArgs {
        agent: Some(agent.to_string()),
        ..OnboardArgs::default()
    };
    // What was said of the agent stands above the questions.
    app.printer.flush()?;
    // A sink knows the agents that there were when it was opened.
    let sink = open_sink()?;
    let mut app = App {
        sink: &sink,
        printer: &mut *app.printer,
    };
    match onboard::run(&mut app, &args, onboard::Scope::LoginOnly) {
        Err(Failure::Sink(error)) if error.code() == GIVEN_UP => {
            let text = format!("given up: agent {agent} is there and has no login of its own");
            app.printer.note(&text);
            Ok(OK)
        }
        outcome => outcome,
    }
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
