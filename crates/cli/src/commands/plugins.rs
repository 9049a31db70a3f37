//! `plugins …`: what other people wrote about providers.

use std::path::{Path, PathBuf};

use inquire::Confirm;
use tokensink_sink::CheckOptions;

use super::{App, needs_terminal, remark, somebody_there, unanswered};
use crate::args::{PluginsArgs, PluginsCommand};
use crate::exit::{FAILED, OK, Outcome};
use crate::render::{path as shown, plugins as render};

/// Runs what is under `plugins`.
pub(super) fn run(app: &mut App<'_>, args: PluginsArgs) -> Outcome {
    match args.command {
        PluginsCommand::Install { path, yes, replace } => install(app, &path, yes, replace),
        PluginsCommand::List { json } => list(app, json),
        PluginsCommand::Check {
            path,
            login,
            answer,
            json,
        } => {
            let answers = answer.into_iter().collect();
            check(app, &path, &CheckOptions { login, answers }, json)
        }
        PluginsCommand::Remove { id } => remove(app, &id),
    }
}

fn install(app: &mut App<'_>, path: &Path, yes: bool, replace: bool) -> Outcome {
    let plan = app.sink.plan_plugin(&absolute(app, path))?;
    let text = render::plan(&plan, &app.printer.look);
    app.printer.data(&text)?;
    if plan.is_installed() && !plan.files.is_empty() {
        app.printer.line("It is installed just so already.")?;
        return Ok(OK);
    }
    // What cannot be installed is refused below, without a question.
    if !yes && !plan.files.is_empty() && (replace || plan.conflicts().is_empty()) {
        if !somebody_there() {
            return Err(needs_terminal(
                "a plugin decides where logins are sent, so installing one",
                format!(
                    "look at the plan above, then: tokensink plugins install {} --yes",
                    path.display()
                ),
            )
            .into());
        }
        app.printer.flush()?;
        let wanted = Confirm::new("Install it?").with_default(false).prompt();
        if !wanted.map_err(unanswered)? {
            app.printer.note("nothing was installed");
            return Ok(FAILED);
        }
    }
    let change = app.sink.install_plugin(&plan, replace)?;
    app.printer.line(&format!("Installed: {}", change.id))?;
    for kept in &change.kept {
        app.printer
            .note(&format!("The old one is kept as {}", shown(kept)));
    }
    for note in &change.notes {
        remark(app.printer, note);
    }
    Ok(OK)
}

fn list(app: &mut App<'_>, json: bool) -> Outcome {
    let plugins = app.sink.plugins()?;
    if json {
        app.printer.json(&render::list_json(&plugins))?;
    } else {
        let text = render::list(&plugins, &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

fn check(app: &mut App<'_>, path: &Path, options: &CheckOptions, json: bool) -> Outcome {
    let report = app
        .sink
        .check_plugin(&absolute(app, path), options, &app.terminal())?;
    if json {
        app.printer.json(&render::check_json(&report))?;
    } else {
        let text = render::check(&report, &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(if report.passed() { OK } else { FAILED })
}

fn remove(app: &mut App<'_>, id: &str) -> Outcome {
    let change = app.sink.remove_plugin(id)?;
    app.printer.line(&format!("Removed: {}", change.id))?;
    for kept in &change.kept {
        app.printer
            .note(&format!("Its definition is kept as {}", shown(kept)));
    }
    for note in &change.notes {
        remark(app.printer, note);
    }
    Ok(OK)
}

fn absolute(app: &App<'_>, path: &Path) -> PathBuf {
    let dir = app.sink.host().env.current_dir();
    dir.map_or_else(|| path.to_owned(), |dir| dir.join(path))
}
