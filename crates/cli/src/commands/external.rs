//! `external …`: the logins that other programs keep.

use tokensink_sink::{ExternalMode, ExternalScope, ExternalSet, ExternalWire, ExternalWired, Sink};

use super::{App, needs_terminal, remark, somebody_there, unanswered};
use crate::args::{ExternalArgs, ExternalCommand, ExternalSetArgs, ExternalWireArgs};
use crate::exit::{OK, Outcome};
use crate::render::external;

/// Runs what is under `external`.
pub(super) fn run(app: &mut App<'_>, args: ExternalArgs) -> Outcome {
    match args.command {
        ExternalCommand::List { json } => list(app, json),
        ExternalCommand::Set(args) => set(app, args),
        ExternalCommand::Wire(args) => wire(app, args, Sink::external_wire),
        ExternalCommand::Unwire(args) => wire(app, args, Sink::external_unwire),
    }
}

fn list(app: &mut App<'_>, json: bool) -> Outcome {
    let logins = app.sink.external_list(&ExternalScope::All, somebody_there());
    if json {
        app.printer.json(&external::json(&logins, app.name()))?;
    } else {
        let text = external::list(&logins, app.sink.now(), &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

fn set(app: &mut App<'_>, args: ExternalSetArgs) -> Outcome {
    if args.mode == ExternalMode::Owned && !args.yes && !confirmed(app, &args)? {
        app.printer.note("Nothing was done.");
        return Ok(OK);
    }
    let changed = app.sink.external_set(&ExternalSet {
        cli: args.cli,
        mode: args.mode,
        place: args.place,
        terminal: somebody_there(),
    })?;
    for note in &changed.notes {
        remark(app.printer, note);
    }
    if args.json {
        app.printer.json(&external::changed(&changed, app.name()))?;
        return Ok(OK);
    }
    app.printer.line(&format!(
        "{}: {} ({})",
        changed.title,
        changed.mode,
        changed.mode.meaning()
    ))?;
    app.printer.line(&format!("Login: {}", changed.place))?;
    if changed.mode != ExternalMode::Off {
        app.printer.line(&format!("Profile: {}", changed.profile))?;
    }
    if let Some(next) = &changed.next {
        let next = app.name().in_commands(next);
        app.printer.note(&format!("Next: {next}"));
    }
    Ok(OK)
}

/// Wires or releases a program. The difference is data; what the program itself says about it is not.
fn wire(
    app: &mut App<'_>,
    args: ExternalWireArgs,
    act: fn(&Sink, &ExternalWire) -> tokensink_sink::Result<ExternalWired>,
) -> Outcome {
    let agent = args.agent.as_deref().map(|id| app.agent(Some(id))).transpose()?;
    let wired = act(
        app.sink,
        &ExternalWire {
            cli: args.cli,
            agent,
            dry_run: args.dry_run,
        },
    )?;
    if args.json {
        app.printer.json(&external::wired(&wired))?;
        return Ok(OK);
    }
    app.printer.data(&external::wired_text(&wired, args.dry_run))?;
    for key in &wired.kept {
        remark(
            app.printer,
            &format!("{key} was changed since and is left as it is"),
        );
    }
    if let Some(proof) = &wired.proof {
        app.printer.note(&external::proof_text(proof));
        if wired.profile.is_some() && wired.cli == "codex" {
            app.printer
                .note("(It tells of a login of its own only; what it sends comes from tokensink.)");
        }
    }
    if let Some(why) = &wired.hook_fails {
        remark(
            app.printer,
            &format!("the command in its settings gives no token now: {why}"),
        );
    }
    Ok(OK)
}

fn confirmed(app: &App<'_>, args: &ExternalSetArgs) -> Result<bool, crate::exit::Failure> {
    if !somebody_there() {
        let fix = format!("{} external set {} owned --yes", app.name().as_str(), args.cli);
        return Err(needs_terminal("asking whether the login is to be moved", fix).into());
    }
    let question = format!(
        "Move the login of {} into tokensink? It is signed out there until it is wired to tokensink.",
        args.cli
    );
    let answer = inquire::Confirm::new(&question).with_default(false).prompt();
    Ok(answer.map_err(unanswered)?)
}
