//! `onboard` and `configure` (spec.md 13): an auth choice by menu or by option, and what it leaves.
//!
//! Both ways end in the same place ([`settle`]). Without questions every reason to stop is found before anything is
//! written.

mod keys;
mod settle;
mod wizard;

use tokensink_sink::{AgentId, AuthChoice, ErrorKind, ModelWish, SinkError};

use self::settle::Task;
use super::{App, remark};
use crate::args::onboard::CUSTOM_KEY;
use crate::args::{KeySource, OnboardArgs};
use crate::exit::{OK, Outcome};
use crate::render::onboard::{Settled, Summary};
use crate::render::{onboard as render, path};

/// The choices that stand for no method of a provider.
const SKIP: &str = "skip";
const CUSTOM: &str = "custom-api-key";

/// Which of the two commands runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// `onboard`.
    All,
    /// `configure`: the login alone.
    LoginOnly,
}

/// What is to be settled.
enum Wanted {
    Skip,
    Custom,
    Choice(Box<AuthChoice>),
}

/// Runs either command.
pub(super) fn run(app: &mut App<'_>, args: &OnboardArgs, scope: Scope) -> Outcome {
    if !args.keys.ignored.is_empty() {
        let names = args.keys.ignored.join(", ");
        let text = format!("no effect here: {names} (they concern OpenClaw's gateway and channels)");
        remark(app.printer, &text);
    }
    keys::refuse_bare(&args.keys)?;
    if args.non_interactive {
        without_questions(app, args, scope)
    } else {
        wizard::run(app, args, scope)
    }
}

fn without_questions(app: &mut App<'_>, args: &OnboardArgs, scope: Scope) -> Outcome {
    if !args.accept_risk {
        return Err(needs_consent(app).into());
    }
    let agent = app.agent(args.agent.as_deref())?;
    let text = chosen(app, args)?;
    let wanted = wanted(app, &text, args)?;
    let task = Task {
        args,
        agent: &agent,
        model: match (args.set_default, scope) {
            (true, _) => ModelWish::Always,
            (false, Scope::All) => ModelWish::IfNone,
            (false, Scope::LoginOnly) => ModelWish::Keep,
        },
    };
    let settled = match wanted {
        Wanted::Skip => Settled::nothing(SKIP),
        Wanted::Custom => settle::custom(app, task, &args.custom, None)?,
        Wanted::Choice(choice) if choice.kind == "external" => {
            let cli = choice.cli.as_deref().unwrap_or_default();
            settle::guest(app, task, cli, Some(&choice), args.external_mode)
                .map_err(|error| with_alternatives(app, &choice, error))?
        }
        Wanted::Choice(choice) => {
            refuse_login(app, &choice)?;
            let given = keys::given(app, args, choice.option.as_deref())?;
            settle::key(app, task, &choice, given)?
        }
    };
    report(app, args, &agent, &settled)
}

/// The word after `--auth-choice`, else the choice of the one key that was given.
fn chosen(app: &App<'_>, args: &OnboardArgs) -> tokensink_sink::Result<String> {
    if let Some(text) = &args.auth_choice {
        return Ok(text.trim().to_owned());
    }
    let mut given = args.keys.given.keys();
    let choice = match (given.next(), given.next()) {
        (Some(option), None) if option == CUSTOM_KEY => Some(CUSTOM.to_owned()),
        (Some(option), None) => app
            .sink
            .auth_choices()
            .into_iter()
            .find(|choice| choice.option.as_ref() == Some(option))
            .map(|choice| choice.id),
        _ => None,
    };
    choice.ok_or_else(|| {
        SinkError::new(
            ErrorKind::Usage,
            "no_choice",
            "--non-interactive needs --auth-choice, which says how to log in",
        )
        .with_fix("--auth-choice <choice> (`tokensink providers list` shows all), or --auth-choice skip")
    })
}

/// What the word stands for, with every option fitting it.
fn wanted(app: &App<'_>, text: &str, args: &OnboardArgs) -> tokensink_sink::Result<Wanted> {
    let (wanted, own) = if text.eq_ignore_ascii_case(SKIP) {
        (Wanted::Skip, None)
    } else if text.eq_ignore_ascii_case(CUSTOM) {
        (Wanted::Custom, Some(CUSTOM_KEY.to_owned()))
    } else {
        let choice = app.sink.auth_choice(text)?;
        let own = choice.option.clone();
        (Wanted::Choice(Box::new(choice)), own)
    };
    let stranger = args.keys.given.keys().find(|name| Some(*name) != own.as_ref());
    match stranger {
        None => Ok(wanted),
        Some(name) => {
            let message = format!("{name} does not belong to auth choice {text}");
            let fix = match own {
                Some(own) => format!("remove it, or use {own}"),
                None => "remove it".to_owned(),
            };
            Err(SinkError::new(ErrorKind::Usage, "other_choice", message).with_fix(fix))
        }
    }
}

fn needs_consent(app: &App<'_>) -> SinkError {
    SinkError::new(
        ErrorKind::Failed,
        "risk_not_accepted",
        "Non-interactive onboarding requires explicit risk acknowledgement: agents act with the logins that they \
         are given, and a provider may end a login whose use breaks its terms",
    )
    .with_fix(format!(
        "{} onboard --non-interactive --accept-risk ...",
        app.name().as_str()
    ))
}

/// A login in a browser or on another device asks somebody (spec.md 11.6).
fn refuse_login(app: &App<'_>, choice: &AuthChoice) -> tokensink_sink::Result<()> {
    let takes_key = choice.option.is_some();
    if !is_login(choice) || takes_key {
        return Ok(());
    }
    let name = app.name().as_str();
    let message = format!(
        "OAuth requires interactive mode. Auth choice {:?} logs in to {} with somebody's approval",
        choice.id, choice.provider
    );
    let mut ways = vec![format!(
        "run {name} onboard --auth-choice {} in a terminal",
        choice.id
    )];
    ways.extend(with_keys(app, choice));
    Err(SinkError::new(ErrorKind::Failed, "oauth_needs_terminal", message)
        .with_fix(ways.join(", or without one ")))
}

/// The choices of the same menu entry that take a secret, as options.
fn with_keys(app: &App<'_>, choice: &AuthChoice) -> Vec<String> {
    let others = app.sink.auth_choices().into_iter();
    others
        .filter(|other| other.group == choice.group && !other.hidden)
        .filter_map(|other| Some(format!("--auth-choice {} {} -", other.id, other.option?)))
        .collect()
}

/// The failure of a choice that needs a login which is not there, with what else would do.
fn with_alternatives(app: &App<'_>, choice: &AuthChoice, error: SinkError) -> SinkError {
    if error.code() != "no_external_login" {
        return error;
    }
    let ways = error
        .fix()
        .map(str::to_owned)
        .into_iter()
        .chain(with_keys(app, choice));
    let fix = ways.collect::<Vec<_>>().join(", or ");
    SinkError::new(error.kind(), error.code(), error.to_string()).with_fix(fix)
}

/// Whether somebody approves it, in a browser, on another device or by a plugin's questions.
fn is_login(choice: &AuthChoice) -> bool {
    !matches!(choice.kind, "token" | "api_key" | "external")
}

fn has_key(args: &OnboardArgs, choice: &AuthChoice) -> bool {
    let option = choice.option.as_ref();
    option.is_some_and(|option| args.keys.given.contains_key(option))
}

/// Tells what was done: an object with `--json`, else a line for each profile.
fn report(app: &mut App<'_>, args: &OnboardArgs, agent: &AgentId, settled: &Settled) -> Outcome {
    let agents = app.sink.agents()?;
    let workspace = agents
        .iter()
        .find(|known| known.id == *agent)
        .map(|known| path(&known.workspace));
    let summary = Summary {
        agent,
        workspace,
        settled,
    };
    if let Some(notice) = &settled.notice {
        remark(app.printer, notice);
    }
    for note in &settled.notes {
        remark(app.printer, note);
    }
    if args.json {
        app.printer.json(&render::json(&summary))?;
    } else {
        app.printer.data(&render::text(&summary))?;
    }
    Ok(OK)
}

/// Whether the option of a key was given as something that can be read.
fn is_readable(source: &KeySource) -> bool {
    !matches!(source, KeySource::Bare)
}
