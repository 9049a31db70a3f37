//! `onboard` and `configure` (spec.md 13): an auth choice by menu or by option, and what it leaves.
//!
//! Both ways end in the same place ([`settle`]). Without questions every reason to stop is found before anything is
//! written.

mod keys;
mod wizard;

use tokensink_sink::{
    AgentId, AuthChoice, CustomProvider, ErrorKind, GivenSecret, KeyOrigin, KeyOutcome, KeyRequest,
    LoginRequest, SinkError,
};

use super::{App, remark};
use crate::args::onboard::CUSTOM_KEY;
use crate::args::{CustomArgs, KeySource, OnboardArgs, SecretMode};
use crate::exit::{OK, Outcome};
use crate::render::onboard::{Settled, SettledProfile, Summary};
use crate::render::{onboard as render, path};
use crate::ui::Terminal;

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
    let settled = match wanted {
        Wanted::Skip => Settled::nothing(SKIP),
        Wanted::Custom => settle_custom(app, args, &args.custom, &agent, None)?,
        Wanted::Choice(choice) => {
            refuse_login(app, &choice)?;
            let nobody = app.terminal();
            settle_with(app, args, &agent, &choice, scope, &nobody, None)?
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
    if !matches!(choice.kind, "pkce" | "device") || takes_key {
        return Ok(());
    }
    let name = app.name().as_str();
    let message = format!(
        "OAuth requires interactive mode. Auth choice {:?} logs in to {} with somebody's approval",
        choice.id, choice.provider
    );
    let others = app.sink.auth_choices().into_iter();
    let mut ways: Vec<String> = others
        .filter(|other| other.group == choice.group && !other.hidden)
        .filter_map(|other| Some(format!("--auth-choice {} {} -", other.id, other.option?)))
        .collect();
    ways.insert(
        0,
        format!("run {name} onboard --auth-choice {} in a terminal", choice.id),
    );
    Err(SinkError::new(ErrorKind::Failed, "oauth_needs_terminal", message)
        .with_fix(ways.join(", or without one ")))
}

/// Settles a choice of a provider: stores its key, or logs in. `typed` is the key that somebody was asked for.
fn settle_with(
    app: &mut App<'_>,
    args: &OnboardArgs,
    agent: &AgentId,
    choice: &AuthChoice,
    scope: Scope,
    ui: &Terminal,
    typed: Option<GivenSecret>,
) -> tokensink_sink::Result<Settled> {
    match choice.kind {
        "external" => Err(stays_there(app, choice)),
        "pkce" | "device" if !args.non_interactive && !has_key(args, choice) => {
            log_in(app, args, agent, choice, scope, ui)
        }
        _ => {
            let given = match typed {
                Some(typed) => Some(typed),
                None => keys::given(app, args, choice.option.as_deref())?,
            };
            let request = KeyRequest {
                agent: agent.clone(),
                choice: choice.id.clone(),
                provider: args.token_provider.clone(),
                profile_id: args.token_profile_id.clone(),
                expires_in: args.token_expires_in,
                given,
                as_reference: args.secret_input_mode == SecretMode::Ref,
                set_default: args.set_default,
                keeps_model: scope == Scope::LoginOnly && !args.set_default,
            };
            let outcome = app.sink.settle_key(&request)?;
            Ok(of_key(choice, outcome))
        }
    }
}

fn has_key(args: &OnboardArgs, choice: &AuthChoice) -> bool {
    let option = choice.option.as_ref();
    option.is_some_and(|option| args.keys.given.contains_key(option))
}

fn log_in(
    app: &mut App<'_>,
    args: &OnboardArgs,
    agent: &AgentId,
    choice: &AuthChoice,
    scope: Scope,
    ui: &Terminal,
) -> tokensink_sink::Result<Settled> {
    let request = LoginRequest {
        agent: agent.clone(),
        provider: choice.provider.as_str().to_owned(),
        method: Some(choice.method.clone()),
        profile_id: args.token_profile_id.clone(),
        set_default: false,
        device_code: false,
        no_browser: args.no_browser,
    };
    let outcome = app.sink.login(&request, ui)?;
    let keeps_model = scope == Scope::LoginOnly && !args.set_default;
    let default_model = if keeps_model {
        None
    } else {
        app.sink
            .settle_model(agent, &choice.provider, &choice.method, args.set_default)?
    };
    Ok(Settled {
        choice: choice.id.clone(),
        profiles: vec![SettledProfile {
            id: outcome.profile,
            provider: outcome.provider,
            kind: outcome.mode,
            change: if outcome.updated { "updated" } else { "stored" },
            source: "login".to_owned(),
        }],
        default_model,
        // The policy note was shown when the login began.
        notice: None,
        notes: outcome.notes,
    })
}

fn of_key(choice: &AuthChoice, outcome: KeyOutcome) -> Settled {
    Settled {
        choice: choice.id.clone(),
        profiles: vec![SettledProfile {
            id: outcome.profile,
            provider: outcome.provider,
            kind: outcome.mode,
            change: outcome.change.as_str(),
            source: match outcome.origin {
                KeyOrigin::Given => "given".to_owned(),
                KeyOrigin::Env(name) => format!("env: {name}"),
                KeyOrigin::Profile => "profile".to_owned(),
            },
        }],
        default_model: outcome.default_model,
        notice: Some(choice.notice.clone()).filter(|notice| !notice.is_empty()),
        notes: outcome.notes,
    }
}

/// The login of another program.
fn stays_there(app: &App<'_>, choice: &AuthChoice) -> SinkError {
    let cli = choice.cli.as_deref().unwrap_or_default();
    let message = format!(
        "auth choice {} would use the login that {cli} keeps for itself, which this version cannot",
        choice.id
    );
    let others = app.sink.auth_choices().into_iter();
    let ways: Vec<String> = others
        .filter(|other| other.group == choice.group && !other.hidden && other.kind != "external")
        .map(|other| format!("--auth-choice {}", other.id))
        .collect();
    SinkError::new(ErrorKind::Failed, "external_login", message).with_fix(ways.join(", or "))
}

/// Defines the provider of `custom-api-key` and settles its key.
fn settle_custom(
    app: &mut App<'_>,
    args: &OnboardArgs,
    custom: &CustomArgs,
    agent: &AgentId,
    typed: Option<GivenSecret>,
) -> tokensink_sink::Result<Settled> {
    // The key is read first: a file that cannot be read must not leave half a provider behind.
    let given = match typed {
        Some(typed) => Some(typed),
        None => keys::given(app, args, Some(CUSTOM_KEY))?,
    };
    let custom = custom_of(custom, given.is_some())?;
    let defined = app.sink.define_custom(&custom)?;
    if defined.written {
        app.printer.note(&format!(
            "Provider {} is defined in {}",
            defined.id,
            path(&defined.path)
        ));
    }
    // A sink knows the providers that were defined when it was opened.
    let sink = super::open_sink()?;
    let choice = sink.auth_choice(&defined.choice)?;
    let request = KeyRequest {
        agent: agent.clone(),
        choice: defined.choice,
        provider: None,
        profile_id: args.token_profile_id.clone(),
        expires_in: None,
        given,
        as_reference: args.secret_input_mode == SecretMode::Ref,
        set_default: args.set_default,
        keeps_model: false,
    };
    let outcome = sink.settle_key(&request)?;
    Ok(Settled {
        choice: CUSTOM.to_owned(),
        ..of_key(&choice, outcome)
    })
}

fn custom_of(args: &CustomArgs, has_key: bool) -> tokensink_sink::Result<CustomProvider> {
    let need = |value: &Option<String>, option: &str| {
        value.clone().ok_or_else(|| {
            SinkError::new(ErrorKind::Usage, "missing_option", format!("Missing {option}."))
                .with_fix(format!("{option} <value>"))
        })
    };
    Ok(CustomProvider {
        id: args.custom_provider_id.clone(),
        base_url: need(&args.custom_base_url, "--custom-base-url")?,
        model: need(&args.custom_model_id, "--custom-model-id")?,
        is_anthropic: args.custom_compatibility == "anthropic",
        has_key,
    })
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
