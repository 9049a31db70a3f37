//! `export`: logins into an encrypted file. Passphrases and identities come from a prompt, a pipe, a file or a variable,
//! never from an argument.

use std::path::{Path, PathBuf};

use tokensink_sink::{AgentId, ErrorKind, ExportPlan, ExportRequest, Sealer, Secret, SinkError};

use super::{App, needs_terminal, remark, somebody_there, unanswered};
use crate::args::{ExportArgs, KeySource, PassphraseArgs, SecretInput};
use crate::exit::{FAILED, OK, Outcome};
use crate::render::{import as render, path, quoted};
use crate::secret_input;

/// The word for standard output.
const STDOUT: &str = "-";

/// Runs `export`.
pub(super) fn run(app: &mut App<'_>, args: ExportArgs) -> Outcome {
    let again = again(&args);
    let request = ExportRequest {
        agents: args
            .agent
            .iter()
            .map(|text| app.agent(Some(text)))
            .collect::<Result<Vec<AgentId>, _>>()?,
        profiles: args.profile_id,
        moves: args.moves,
        access_only: args.ttl.filter(|_| args.access_only),
    };
    let to = (args.to != Path::new(STDOUT)).then(|| absolute(app, &args.to));
    let plan = app.sink.plan_export(&request)?;
    if args.moves && !args.yes && !confirmed(&plan, &again)? {
        app.printer.note("Nothing was done.");
        return Ok(OK);
    }
    let sealer = if args.recipient.is_empty() {
        Sealer::by_passphrase(passphrase(
            app,
            &args.passphrase,
            "Passphrase of the bundle",
            true,
        )?)?
    } else {
        Sealer::to_recipients(&args.recipient)?
    };
    let report = app.sink.export(&plan, to.as_deref(), &sealer)?;
    if let Some(text) = &report.text {
        app.printer.data(text)?;
        app.printer
            .note(render::exported(&report, &app.printer.note_look).trim_end());
    } else if args.json {
        app.printer.json(&render::exported_json(&report, app.name()))?;
    } else {
        app.printer.data(&render::exported(&report, &app.printer.look))?;
    }
    for note in &report.notes {
        remark(app.printer, note);
    }
    Ok(if report.failed.is_empty() { OK } else { FAILED })
}

/// The same move without a question.
fn again(args: &ExportArgs) -> String {
    let mut line = format!("tokensink export --to {} --move --yes", quoted(&path(&args.to)));
    for id in &args.profile_id {
        line += &format!(" --profile-id {}", quoted(id.as_str()));
    }
    for agent in &args.agent {
        line += &format!(" --agent {}", quoted(agent));
    }
    for recipient in &args.recipient {
        line += &format!(" --recipient {}", quoted(recipient));
    }
    line
}

fn confirmed(plan: &ExportPlan, again: &str) -> tokensink_sink::Result<bool> {
    if !somebody_there() {
        return Err(needs_terminal("asking whether to remove the logins here", again));
    }
    let ids: Vec<&str> = plan.rows.iter().map(|row| row.profile.as_str()).collect();
    let question = format!("Remove {} here once the bundle is written?", ids.join(", "));
    inquire::Confirm::new(&question)
        .with_default(false)
        .prompt()
        .map_err(unanswered)
}

/// A path of an argument, from the working directory.
pub(super) fn absolute(app: &App<'_>, path: &Path) -> PathBuf {
    match app.sink.host().env.current_dir() {
        Some(dir) => dir.join(path),
        None => path.to_owned(),
    }
}

/// The passphrase; one that is typed to make a bundle is asked for twice.
///
/// # Errors
/// When the source holds none, the two differ, or nobody can be asked.
pub(super) fn passphrase(
    app: &App<'_>,
    args: &PassphraseArgs,
    prompt: &str,
    twice: bool,
) -> tokensink_sink::Result<Secret> {
    let wrong = |code, message: String| SinkError::new(ErrorKind::Usage, code, message);
    let from_file = match &args.passphrase_from {
        Some(KeySource::Bare) => {
            let message = "--passphrase-from takes no passphrase as it is, because every process of this host can \
                           read arguments (it is not shown here)";
            return Err(wrong("bare_secret", message.to_owned())
                .with_fix("--passphrase-from - (standard input), file:PATH, or env:NAME"));
        }
        Some(KeySource::Env(name)) => {
            let value = app.sink.host().env.var(name);
            return value.map(Secret::new).ok_or_else(|| {
                wrong(
                    "secret_input",
                    format!("the environment variable {name} is not set"),
                )
            });
        }
        Some(KeySource::File(path)) => Some(absolute(app, path)),
        Some(KeySource::Stdin) => Some(PathBuf::from("-")),
        None if somebody_there() => None,
        None => {
            let fix = "--passphrase-from - (standard input), file:PATH, or env:NAME";
            return Err(needs_terminal("asking for the passphrase", fix));
        }
    };
    let is_typed = from_file.is_none();
    let input = SecretInput { from_file };
    let files = &*app.sink.host().files;
    let first = secret_input::read(&input, files, prompt, &|_| Ok(()))?;
    if is_typed && twice {
        let again = secret_input::read(&input, files, "The same again", &|_| Ok(()))?;
        if again != first {
            return Err(wrong(
                "secret_input",
                "the two passphrases differ; nothing was done".to_owned(),
            ));
        }
    }
    Ok(first)
}

/// The text of an identity file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn identity_file(app: &App<'_>, path: &Path) -> tokensink_sink::Result<Secret> {
    let input = SecretInput {
        from_file: Some(absolute(app, path)),
    };
    secret_input::read(&input, &*app.sink.host().files, "", &|_| Ok(()))
}
