//! `models auth …`: which command goes where, and the short ones: list, logout, retry.

use std::path::PathBuf;

use tokensink_sink::{AgentId, LogoutReport, ProfileId, Revocation};

use super::{App, login, needs_terminal, order, paste, remark, somebody_there, unanswered, warn};
use crate::args::{AuthCommand, AuthListArgs, LoginArgs, LogoutArgs};
use crate::exit::{FAILED, OK, Outcome};
use crate::render::json::AuthListView;
use crate::render::{json, lists, path};

/// The provider of `login-github-copilot`.
const COPILOT: &str = "github-copilot";

/// Runs what is under `models auth`.
pub(super) fn run(app: &mut App<'_>, agent: Option<&str>, command: AuthCommand) -> Outcome {
    match command {
        AuthCommand::Login(args) => login::login(app, agent, args),
        AuthCommand::LoginGithubCopilot { profile_id } => {
            let args = LoginArgs {
                provider: Some(COPILOT.to_owned()),
                method: None,
                profile_id: Some(profile_id),
                set_default: false,
                device_code: false,
                no_browser: false,
            };
            login::login(app, agent, args)
        }
        AuthCommand::Add => login::add(app, agent),
        AuthCommand::SetupToken(args) => paste::setup_token(app, agent, args),
        AuthCommand::PasteToken(args) => paste::token(app, agent, args),
        AuthCommand::PasteApiKey(args) => paste::api_key(app, agent, args),
        AuthCommand::List(args) => list(app, agent, &args),
        AuthCommand::Logout(args) => logout(app, agent, &args),
        AuthCommand::Retry { profile_id } => retry(app, agent, &profile_id),
        AuthCommand::Order(command) => order::run(app, agent, command),
    }
}

fn list(app: &mut App<'_>, agent: Option<&str>, args: &AuthListArgs) -> Outcome {
    let agent = app.agent(agent)?;
    let profiles = app.sink.profiles(&agent, args.provider.as_deref())?;
    if args.json {
        let agent_dir = agent_dir(app, &agent)?;
        let provider = args.provider.as_deref().map(|text| {
            let known = app.sink.registry().resolve(text);
            known.map_or_else(
                |_| text.to_owned(),
                |definition| definition.id.as_str().to_owned(),
            )
        });
        let view = AuthListView {
            agent: agent.as_str(),
            state_path: path(&agent_dir.join("auth-state.json")),
            agent_dir: path(&agent_dir),
            provider,
            profiles: &profiles,
        };
        let value = json::auth_list(&view, app.name());
        app.printer.json(&value)?;
    } else if profiles.is_empty() {
        app.printer.note(&format!(
            "Agent {agent} has no profiles. Log in with: {} models auth login",
            app.name().as_str()
        ));
    } else {
        let text = lists::profiles(&profiles, app.sink.now(), &app.printer.look);
        app.printer.data(&text)?;
    }
    Ok(OK)
}

/// Where the logins of an agent are.
fn agent_dir(app: &App<'_>, id: &AgentId) -> tokensink_sink::Result<PathBuf> {
    let agents = app.sink.agents()?;
    let known = agents.into_iter().find(|agent| agent.id == *id);
    Ok(known.map_or_else(
        || {
            app.sink
                .state_dir()
                .join("agents")
                .join(id.as_str())
                .join("agent")
        },
        |agent| agent.agent_dir,
    ))
}

fn logout(app: &mut App<'_>, agent: Option<&str>, args: &LogoutArgs) -> Outcome {
    let agent = app.agent(agent)?;
    if args.revoke && !args.yes && somebody_there() {
        let question = format!(
            "Revoke the grant of {} at its provider? Every program that uses the same grant is logged out too.",
            args.profile_id
        );
        let yes = inquire::Confirm::new(&question)
            .with_default(false)
            .prompt()
            .map_err(unanswered)?;
        if !yes {
            app.printer.note("Nothing was done.");
            return Ok(OK);
        }
    }
    let report = app.sink.logout(&agent, &args.profile_id, args.revoke)?;
    print_logout(app, &report)
}

fn print_logout(app: &mut App<'_>, report: &LogoutReport) -> Outcome {
    app.printer.line(&format!(
        "Logged out: {} (removed from {})",
        report.profile,
        path(&report.removed_from)
    ))?;
    let code = match &report.revoked {
        Revocation::NotAsked => OK,
        Revocation::Done => {
            app.printer.line("Revoked at the provider.")?;
            OK
        }
        Revocation::NotSupported => {
            warn(
                app.printer,
                "not revoked: this provider has no revocation endpoint, or the profile holds no grant",
            );
            FAILED
        }
        Revocation::Failed(why) => {
            warn(app.printer, &format!("not revoked: {why}"));
            FAILED
        }
    };
    for reached in &report.reaches {
        app.printer.note(&format!("- {reached}"));
    }
    for note in &report.notes {
        remark(app.printer, note);
    }
    Ok(code)
}

fn retry(app: &mut App<'_>, agent: Option<&str>, id: &ProfileId) -> Outcome {
    let agent = app.agent(agent)?;
    let report = app.sink.retry(&agent, id)?;
    if report.cleared.is_empty() {
        app.printer
            .line(&format!("Nothing stood in the way of {}.", report.profile))?;
    }
    for cleared in &report.cleared {
        app.printer
            .line(&format!("Cleared for {}: {cleared}", report.profile))?;
    }
    Ok(OK)
}

/// For commands that only make sense with somebody there.
pub(super) fn require_terminal(app: &App<'_>, what: &str) -> tokensink_sink::Result<()> {
    if somebody_there() {
        return Ok(());
    }
    Err(needs_terminal(
        what,
        format!(
            "{0} models auth paste-token --provider <id>, {0} models auth paste-api-key --provider <id>",
            app.name().as_str()
        ),
    ))
}
