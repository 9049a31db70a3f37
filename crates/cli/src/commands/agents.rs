//! `agents …` (spec.md 15.4, 15.5).

use serde_json::{Value, json};
use tokensink_sink::{AgentAdd, AgentId, Unbind};

use super::{App, needs_terminal, onboard, open_sink, somebody_there, unanswered, warn};
use crate::args::{
    AgentAddArgs, AgentBindArgs, AgentDeleteArgs, AgentUnbindArgs, AgentsArgs, AgentsCommand, OnboardArgs,
};
use crate::ask::GIVEN_UP;
use crate::exit::{FAILED, Failure, OK, Outcome};
use crate::render::{json, lists, path, routing};

/// Runs what is under `agents`.
pub(super) fn run(app: &mut App<'_>, args: AgentsArgs) -> Outcome {
    match args.command {
        AgentsCommand::Add(args) => add(app, args),
        AgentsCommand::List { bindings, json } => list(app, bindings, json),
        AgentsCommand::Bind(args) => bind(app, &args),
        AgentsCommand::Unbind(args) => unbind(app, args),
        AgentsCommand::Bindings { agent, json } => bindings(app, agent.as_deref(), json),
        AgentsCommand::Delete(args) => delete(app, &args),
    }
}

fn add(app: &mut App<'_>, args: AgentAddArgs) -> Outcome {
    let asks = !args.non_interactive
        && !args.json
        && args.workspace.is_none()
        && args.agent_dir.is_none()
        && args.model.is_none()
        && args.bind.is_empty()
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
        bindings: args.bind,
    };
    // Any option makes it a command for scripts (spec.md 15.4). Asked before anything is done.
    let wants_login = asks
        && inquire::Confirm::new("Log in for this agent now?")
            .with_default(false)
            .with_help_message("without logins of its own it uses those of main")
            .prompt()
            .map_err(unanswered)?;
    let added = app.sink.agent_add(&request)?;
    let (bound, conflicts) = routing::bound(&added.bindings);
    if !conflicts.is_empty() {
        warn(app.printer, &conflicts);
    }
    if args.json {
        app.printer.json(&json::agent_added(&added))?;
        return Ok(OK);
    }
    let agent = added.agent;
    app.printer.line(&format!("Agent: {}", agent.id))?;
    app.printer
        .line(&format!("Workspace: {}", path(&agent.workspace)))?;
    app.printer
        .line(&format!("Agent dir: {}", path(&agent.agent_dir)))?;
    if !request.bindings.is_empty() {
        app.printer.data(&bound)?;
    }
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

fn list(app: &mut App<'_>, bindings: bool, json: bool) -> Outcome {
    let agents = app.sink.agents()?;
    let view = bindings.then(|| app.sink.bindings(None)).transpose()?;
    for warning in view.iter().flat_map(|view| &view.warnings) {
        warn(app.printer, warning);
    }
    let of = |agent: &AgentId| {
        let all = view.iter().flat_map(|view| &view.bindings);
        all.filter(|info| info.binding.agent == *agent)
            .map(|info| info.binding.description())
            .collect::<Vec<String>>()
    };
    if json {
        let entry = |agent| {
            let mut value = json::agent(agent);
            if bindings {
                value["bindingDetails"] = of(&agent.id).into();
            }
            value
        };
        let value: Value = agents.iter().map(entry).collect();
        app.printer.json(&value)?;
    } else {
        let text = lists::agents(&agents, |agent| of(&agent.id), &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

/// A chat that another agent answers makes it a failure: what was asked for is not so.
fn bind(app: &mut App<'_>, args: &AgentBindArgs) -> Outcome {
    let agent = app.agent(args.agent.as_deref())?;
    let report = app.sink.bind(&agent, &args.bind)?;
    let (done, conflicts) = routing::bound(&report);
    if args.json {
        let mut value = routing::bound_json(&report);
        value["agentId"] = agent.as_str().into();
        app.printer.json(&value)?;
    } else {
        app.printer.data(&done)?;
    }
    Ok(told(app, &conflicts))
}

fn unbind(app: &mut App<'_>, args: AgentUnbindArgs) -> Outcome {
    let agent = app.agent(args.agent.as_deref())?;
    let which = if args.all {
        Unbind::All
    } else {
        Unbind::Some(args.bind)
    };
    let report = app.sink.unbind(&agent, &which)?;
    let (done, conflicts) = routing::unbound(&report);
    if args.json {
        app.printer.json(&routing::unbound_json(&report))?;
    } else {
        app.printer.data(&done)?;
    }
    Ok(told(app, &conflicts))
}

/// Says what was left to other agents. The exit code.
fn told(app: &mut App<'_>, conflicts: &str) -> u8 {
    if conflicts.is_empty() {
        return OK;
    }
    warn(app.printer, conflicts);
    FAILED
}

fn bindings(app: &mut App<'_>, agent: Option<&str>, json: bool) -> Outcome {
    let agent = agent.map(|agent| app.agent(Some(agent))).transpose()?;
    let view = app.sink.bindings(agent.as_ref())?;
    for warning in &view.warnings {
        warn(app.printer, warning);
    }
    if json {
        app.printer.json(&routing::bindings_json(&view.bindings))?;
    } else {
        app.printer.data(&routing::bindings(&view.bindings))?;
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
