//! `models auth login` and `models auth add`, and how a finished login is told.

use std::fmt;

use inquire::Select;
use tokensink_sink::{LoginOutcome, LoginRequest, MethodChoice, MethodId, ProfileId, ProviderChoice};

use super::auth::require_terminal;
use super::{App, needs_terminal, paste, remark, somebody_there, unanswered};
use crate::args::{LoginArgs, PasteKeyArgs, PasteTokenArgs, SecretInput};
use crate::exit::{OK, Outcome};
use crate::render::{path, words};

/// Logs in.
pub(super) fn login(app: &mut App<'_>, agent: Option<&str>, args: LoginArgs) -> Outcome {
    let agent = app.agent(agent)?;
    let provider = match args.provider {
        Some(provider) => provider,
        None => pick_provider(app)?.id.as_str().to_owned(),
    };
    if somebody_there()
        && args.method.is_none()
        && !args.device_code
        && let Some(kind) = only_pasted(app, &provider)
    {
        return paste_for(app, Some(agent.as_str()), provider, args.profile_id, kind);
    }
    let request = LoginRequest {
        agent,
        provider,
        method: args.method,
        profile_id: args.profile_id,
        set_default: args.set_default,
        device_code: args.device_code,
        no_browser: args.no_browser,
    };
    let outcome = app.sink.login(&request, &app.terminal())?;
    // The policy note was shown when the login began.
    print_outcome(app, &outcome, false)?;
    Ok(OK)
}

/// Provider and method from menus, then whatever the method needs.
pub(super) fn add(app: &mut App<'_>, agent: Option<&str>) -> Outcome {
    require_terminal(app, "models auth add")?;
    let provider = pick_provider(app)?;
    let method = pick_method(&provider)?;
    let id = provider.id.as_str().to_owned();
    match method.kind {
        kind @ ("token" | "api_key") => paste_for(app, agent, id, None, kind),
        _ => login(app, agent, by_method(id, method.id)),
    }
}

/// Asks for a credential that was made elsewhere: a bearer token for kind `token`, else an API key.
fn paste_for(
    app: &mut App<'_>,
    agent: Option<&str>,
    provider: String,
    profile_id: Option<ProfileId>,
    kind: &str,
) -> Outcome {
    let input = SecretInput { from_file: None };
    if kind == "token" {
        let args = PasteTokenArgs {
            provider,
            profile_id,
            expires_in: None,
            input,
        };
        return paste::token(app, agent, args);
    }
    let args = PasteKeyArgs {
        provider,
        profile_id,
        input,
    };
    paste::api_key(app, agent, args)
}

/// The kind of the first method of a provider whose every method takes a pasted credential. Whoever is told to log in
/// to it (status says so for each provider in use) is asked for the key, not sent to another command.
fn only_pasted(app: &App<'_>, provider: &str) -> Option<&'static str> {
    let choices = app.sink.login_choices();
    let choice = choices.iter().find(|choice| choice.id.as_str() == provider)?;
    let pasted = |method: &MethodChoice| matches!(method.kind, "token" | "api_key");
    let first = choice.methods.first()?;
    choice.methods.iter().all(pasted).then_some(first.kind)
}

fn by_method(provider: String, method: MethodId) -> LoginArgs {
    LoginArgs {
        provider: Some(provider),
        method: Some(method),
        profile_id: None,
        set_default: false,
        device_code: false,
        no_browser: false,
    }
}

/// A line of a menu.
struct Line<T> {
    text: String,
    value: T,
}

impl<T> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn pick_provider(app: &App<'_>) -> tokensink_sink::Result<ProviderChoice> {
    let choices = app.sink.login_choices();
    if !somebody_there() {
        let ids: Vec<&str> = choices.iter().map(|choice| choice.id.as_str()).collect();
        return Err(needs_terminal(
            "choosing a provider from the menu",
            format!("name one with --provider: {}", ids.join(", ")),
        ));
    }
    let lines = choices
        .into_iter()
        .map(|choice| Line {
            text: format!("{} ({})", choice.name, choice.id),
            value: choice,
        })
        .collect();
    pick("Provider", lines)
}

fn pick_method(provider: &ProviderChoice) -> tokensink_sink::Result<MethodChoice> {
    let lines: Vec<Line<MethodChoice>> = provider
        .methods
        .iter()
        .map(|method| Line {
            text: format!("{} ({})", method.label, method.id),
            value: method.clone(),
        })
        .collect();
    if let [only] = lines.as_slice() {
        return Ok(only.value.clone());
    }
    pick("How to log in", lines)
}

fn pick<T>(question: &str, lines: Vec<Line<T>>) -> tokensink_sink::Result<T> {
    let line = Select::new(question, lines).prompt().map_err(unanswered)?;
    Ok(line.value)
}

/// Tells of a credential that was stored: what it is called on standard output, the rest on standard error.
pub(super) fn print_outcome(
    app: &mut App<'_>,
    outcome: &LoginOutcome,
    with_notice: bool,
) -> std::io::Result<()> {
    let printer = &mut *app.printer;
    printer.line(&format!(
        "Auth profile: {} ({}/{})",
        outcome.profile,
        outcome.provider,
        outcome.mode.as_str()
    ))?;
    let identity: Vec<&str> = [
        outcome.account.email.as_deref(),
        outcome.account.account_id.as_deref(),
        outcome.account.plan.as_deref(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !identity.is_empty() {
        printer.line(&format!("Account: {}", identity.join(", ")))?;
    }
    if let Some(at) = outcome.expires {
        printer.line(&format!("Expires: {}", words::relative(at, app.sink.now())))?;
    }
    match &outcome.default_model {
        Some((model, true)) => printer.line(&format!("Default model set to {model}"))?,
        Some((model, false)) => {
            printer.line(&format!(
                "Default model available: {model} (use --set-default to apply)"
            ))?;
        }
        None => {}
    }
    let word = if outcome.updated {
        "Updated in"
    } else {
        "Stored in"
    };
    printer.note(&format!("{word} {}", path(&outcome.store_path)));
    for note in &outcome.notes {
        remark(printer, note);
    }
    if let Some(notice) = outcome.notice.as_deref().filter(|_| with_notice) {
        remark(printer, notice);
    }
    Ok(())
}
