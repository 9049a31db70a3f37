//! `import …`: show the plan, ask, store, tell.

use std::path::PathBuf;

use tokensink_sink::{
    AgentId, BundleImport, EnvImport, ErrorKind, ExternalMode, ImportPlan, ImportReport, OpenClawImport,
    Opener, ProgramImport, SinkError,
};

use super::export::{self, absolute};
use super::{App, needs_terminal, remark, somebody_there, unanswered};
use crate::args::{
    ExternalArgs, ExternalCommand, ExternalSetArgs, ImportArgs, ImportBundleArgs, ImportCommand,
    ImportEnvArgs, ImportManner, ImportOpenClawArgs, ImportProgramArgs,
};
use crate::exit::{FAILED, OK, Outcome};
use crate::render::{import as render, path, quoted};

/// Runs what is under `import`.
pub(super) fn run(app: &mut App<'_>, args: ImportArgs) -> Outcome {
    match args.command {
        ImportCommand::Openclaw(args) => openclaw(app, args),
        ImportCommand::Bundle(args) => bundle(app, &args),
        ImportCommand::Env(args) => env(app, args),
        ImportCommand::Claude(args) => program(app, "claude", args),
        ImportCommand::Codex(args) => program(app, "codex", args),
        ImportCommand::Opencode(args) => program(app, "opencode", args),
        ImportCommand::Gemini(args) => program(app, "gemini", args),
        ImportCommand::Qwen(args) => program(app, "qwen", args),
        ImportCommand::Minimax(args) => program(app, "minimax", args),
        ImportCommand::Cliproxyapi(args) => program(app, "cliproxyapi", args),
    }
}

fn openclaw(app: &mut App<'_>, args: ImportOpenClawArgs) -> Outcome {
    let again = again(&args);
    let request = OpenClawImport {
        from: args.from,
        agent: args.agent.as_deref().map(AgentId::normalise),
    };
    let plan = app.sink.plan_openclaw_import(&request)?;
    carry_out(app, &plan, &args.manner, &again)
}

fn bundle(app: &mut App<'_>, args: &ImportBundleArgs) -> Outcome {
    let file = absolute(app, &args.file);
    let opener = match &args.identity {
        Some(identity) => Opener::by_identities(&export::identity_file(app, identity)?)?,
        None if app.sink.bundle_wants_passphrase(&file)? => {
            Opener::by_passphrase(export::passphrase(app, &args.passphrase, "Passphrase", false)?)
        }
        None => {
            let message = format!("{} is encrypted to a recipient", file.display());
            return Err(SinkError::new(ErrorKind::Usage, "needs_identity", message)
                .with_fix(format!(
                    "tokensink import bundle {} --identity <file>",
                    quoted(&path(&args.file))
                ))
                .into());
        }
    };
    let request = BundleImport {
        file,
        agent: args.agent.as_deref().map(AgentId::normalise),
    };
    let plan = app.sink.plan_bundle_import(&request, &opener)?;
    let again = format!("tokensink import bundle {} --yes", quoted(&path(&args.file)));
    carry_out(app, &plan, &args.manner, &again)
}

fn env(app: &mut App<'_>, args: ImportEnvArgs) -> Outcome {
    let mut again = "tokensink import env --yes".to_owned();
    for name in &args.names {
        again += &format!(" {}", quoted(name));
    }
    let request = EnvImport {
        agent: app.agent(args.agent.as_deref())?,
        names: args.names,
        provider: args.provider,
        copy: args.copy,
    };
    let plan = app.sink.plan_env_import(&request)?;
    carry_out(app, &plan, &args.manner, &again)
}

fn program(app: &mut App<'_>, program: &str, args: ImportProgramArgs) -> Outcome {
    if args.moves {
        return share(app, program, args.place, ExternalMode::Owned, args.manner.yes);
    }
    let again = format!("tokensink import {program} --yes");
    let request = ProgramImport {
        program: program.to_owned(),
        agent: app.agent(args.agent.as_deref())?,
        place: args.place.clone(),
        take_over: args.take_over,
        terminal: somebody_there(),
    };
    let plan = app.sink.plan_program_import(&request)?;
    let Some(shared) = plan
        .shared
        .as_ref()
        .filter(|_| !plan.has_work() && !args.manner.dry_run)
    else {
        return carry_out(app, &plan, &args.manner, &again);
    };
    if !args.manner.json {
        let text = render::plan(&plan, &app.printer.look);
        app.printer.data(&text)?;
    }
    app.printer.flush()?;
    if !(shared.cooperates && somebody_there()) || args.manner.yes || args.manner.json {
        let message = format!(
            "the login of {} is not copied, because {0} goes on refreshing it",
            shared.title
        );
        return Err(SinkError::new(ErrorKind::Usage, "grant_stays", message)
            .with_fix(shared.command())
            .into());
    }
    let choices = [
        (
            "share it: both refresh it, under the locks of the program",
            Some(ExternalMode::Cooperative),
        ),
        (
            "move it here: the program gets its tokens from tokensink",
            Some(ExternalMode::Owned),
        ),
        ("leave it alone", None),
    ];
    let question = format!("What is to be done with the login of {}?", shared.title);
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let chosen = inquire::Select::new(&question, words)
        .raw_prompt()
        .map_err(unanswered)?;
    match choices[chosen.index].1 {
        Some(mode) => share(app, program, args.place, mode, true),
        None => {
            app.printer.note("Nothing was done.");
            Ok(OK)
        }
    }
}

/// What `external set` does.
fn share(app: &mut App<'_>, program: &str, place: Option<PathBuf>, mode: ExternalMode, yes: bool) -> Outcome {
    let args = ExternalArgs {
        command: ExternalCommand::Set(ExternalSetArgs {
            cli: program.to_owned(),
            mode,
            place,
            yes,
            json: false,
        }),
    };
    super::external::run(app, args)
}

/// The same command without a question.
fn again(args: &ImportOpenClawArgs) -> String {
    let from = args
        .from
        .as_ref()
        .map(|from| format!(" --from {}", quoted(&path(from))));
    let agent = args
        .agent
        .as_ref()
        .map(|agent| format!(" --agent {}", quoted(agent)));
    format!(
        "tokensink import openclaw{}{} --yes",
        from.unwrap_or_default(),
        agent.unwrap_or_default()
    )
}

/// Shows a plan and does it, as far as that is wanted.
fn carry_out(app: &mut App<'_>, plan: &ImportPlan, manner: &ImportManner, again: &str) -> Outcome {
    if !manner.json {
        let text = render::plan(plan, &app.printer.look);
        app.printer.data(&text)?;
        for note in &plan.notes {
            remark(app.printer, note);
        }
    }
    if manner.dry_run || !plan.has_work() {
        if manner.json {
            app.printer.json(&render::json(plan, None, app.name()))?;
        } else if manner.dry_run {
            app.printer.note("Nothing was changed (--dry-run).");
        } else {
            app.printer.note("There is nothing to import.");
        }
        return Ok(OK);
    }
    // A question goes to another stream.
    app.printer.flush()?;
    if !manner.yes && !confirmed(app, again)? {
        app.printer.note("Nothing was done.");
        return Ok(OK);
    }
    let report = app.sink.apply_import(plan)?;
    tell(app, plan, &report, manner.json)
}

fn confirmed(app: &App<'_>, again: &str) -> tokensink_sink::Result<bool> {
    if !somebody_there() {
        return Err(needs_terminal("asking whether to import", again));
    }
    let question = format!("Import into {}?", app.sink.state_dir().display());
    inquire::Confirm::new(&question)
        .with_default(true)
        .prompt()
        .map_err(unanswered)
}

fn tell(app: &mut App<'_>, plan: &ImportPlan, report: &ImportReport, json: bool) -> Outcome {
    if json {
        app.printer.json(&render::json(plan, Some(report), app.name()))?;
    } else {
        let text = render::report(report, &app.printer.look);
        app.printer.data(&text)?;
        for note in &report.notes {
            remark(app.printer, note);
        }
    }
    Ok(if report.failed.is_empty() { OK } else { FAILED })
}
