//! The login that a plugin's program makes: its questions reach the user, its answer is kept like a server's.

use tokensink_host::browser;
use tokensink_providers::plugin::protocol::{Action, Answered, Fault, FaultKind, Prompt, PromptKind, Step};
use tokensink_providers::{Flow, Method, ProgramFlow};
use tokensink_types::{MethodId, ProfileId, Secret, TokenSet, UnixMillis};
use url::Url;

use crate::error::{ErrorKind, Result, SinkError};
use crate::login::race::given_up;
use crate::login::run::{Granted, Login};
use crate::login::{LoginEvent, Question};
use crate::plugins::{About, Broken, Job, Session, Unsent, Unusable};

/// The code of a login that this way cannot make; another may.
pub(crate) const NOT_SUPPORTED: &str = "not_supported";

/// Logs in.
///
/// # Errors
/// With the program's own words, or what it did wrong. Nothing was stored then.
pub(crate) fn run(login: &Login<'_>, flow: &ProgramFlow) -> Result<Granted> {
    let again = login.again();
    let mut session = login
        .sink
        .start_program(&job(login, flow, Action::Login))
        .map_err(|unusable| not_run(unusable, &again))?;
    let sent_at = login.sink.now();
    let about = About {
        profile: login.request.profile_id.as_ref(),
        interactive: login.ui.interactive(),
        ..About::default()
    };
    session
        .request(login.host(), &about)
        .map_err(|unsent| failed(&unsent.into_reason(), &again))?;
    let answered = converse(login, flow, &mut session)?;
    same_profile(login, flow, &answered)?;
    let answered = with_account(login, flow, answered, sent_at);
    let grant = answered
        .into_grant(sent_at)
        .map_err(|error| failed(&format!("plugin {}: {error}", flow.plugin), &again))?;
    Ok(Granted { grant, sent_at })
}

/// The next method after `method` that could log in.
pub(crate) fn next_after<'a>(login: &Login<'a>, method: &MethodId) -> Option<&'a Method> {
    let mut methods = login.definition.methods.iter();
    methods.find(|known| known.id == *method)?;
    methods.find(|next| matches!(next.flow, Flow::Pkce(_) | Flow::Device(_) | Flow::Program(_)))
}

fn job<'a>(login: &Login<'a>, flow: &'a ProgramFlow, action: Action) -> Job<'a> {
    Job {
        plugin: &flow.plugin,
        provider: &login.definition.id,
        method: &login.method.id,
        action,
    }
}

/// Passes messages on until there is an answer.
pub(crate) fn converse(login: &Login<'_>, flow: &ProgramFlow, session: &mut Session) -> Result<Answered> {
    let again = login.again();
    let broken = |Broken(reason): Broken| {
        if login.ui.given_up() {
            given_up(login)
        } else {
            failed(&reason, &again)
        }
    };
    let mut waiting = false;
    loop {
        let step = session
            .next(login.host(), waiting, &|| login.ui.given_up())
            .map_err(broken)?;
        waiting = false;
        match step {
            Step::Ask(prompt) => {
                let answer = ask(login, flow, &prompt)?;
                session.answer(&prompt, answer.as_ref()).map_err(broken)?;
            }
            Step::Open(url) => {
                open(login, &url);
                waiting = true;
            }
            Step::Tell { text, waiting: waits } => {
                waiting = waits;
                login.ui.show(LoginEvent::Plugin {
                    plugin: &flow.plugin,
                    text: &text,
                });
            }
            Step::Done(answered) => return Ok(answered),
            Step::Failed(fault) => return Err(refused(&flow.plugin, &fault, login)),
            Step::Ready(_) => {
                return Err(failed(
                    &format!("plugin {} said hello twice", flow.plugin),
                    &again,
                ));
            }
        }
    }
}

fn ask(login: &Login<'_>, flow: &ProgramFlow, prompt: &Prompt) -> Result<Option<Secret>> {
    if !login.ui.interactive() {
        let message = format!(
            "models auth login requires an interactive TTY: plugin {} asks {:?}, and standard input is no terminal",
            flow.plugin, prompt.text
        );
        return Err(SinkError::new(ErrorKind::Usage, "no_terminal", message)
            .with_fix(format!("run it in a terminal: {}", login.again())));
    }
    let answer = login.ui.ask(&Question {
        id: &prompt.id,
        asker: &flow.plugin,
        kind: prompt.kind,
        text: &prompt.text,
        options: &prompt.options,
    });
    let fits = |answer: &Secret| match prompt.kind {
        PromptKind::Text | PromptKind::Secret => true,
        PromptKind::Confirm => matches!(answer.expose(), "yes" | "no"),
        PromptKind::Select => prompt
            .options
            .iter()
            .any(|option| option.value == answer.expose()),
    };
    Ok(answer.filter(fits))
}

fn open(login: &Login<'_>, url: &Url) {
    let why_not = match login.facts.why_no_browser() {
        Some(why) => Some(why),
        None => browser::open(login.host(), url)
            .err()
            .map(|error| error.to_string()),
    };
    login.ui.show(LoginEvent::OpenUrl {
        url: url.as_str(),
        opened: why_not.is_none(),
        why_not: why_not.as_deref(),
    });
}

/// A program that answers for another profile than it was asked about is not believed.
fn same_profile(login: &Login<'_>, flow: &ProgramFlow, answered: &Answered) -> Result<()> {
    let Some(said) = answered.profile() else {
        return Ok(());
    };
    let wanted = login.request.profile_id.as_ref().map(ProfileId::as_str);
    let provider = said.split_once(':').map_or(said, |(provider, _)| provider);
    if wanted.is_none_or(|wanted| wanted == said) && provider == login.definition.id.as_str() {
        return Ok(());
    }
    let message = format!(
        "plugin {} answered for another profile than it was asked for; nothing was stored",
        flow.plugin
    );
    Err(SinkError::new(ErrorKind::Failed, "other_profile", message))
}

/// Asks whose login it is where the answer does not say, and the program can be asked.
fn with_account(login: &Login<'_>, flow: &ProgramFlow, answered: Answered, sent_at: UnixMillis) -> Answered {
    if answered.has_account() || !login.sink.plugin_can(&flow.plugin, Action::Identity) {
        return answered;
    }
    let Ok(grant) = answered.clone().into_grant(sent_at) else {
        return answered;
    };
    let tokens = flow.client.first_tokens(&grant, sent_at);
    match identity(login, flow, &tokens) {
        Ok(identity) => answered.with_account_of(&identity),
        Err(reason) => {
            login.ui.show(LoginEvent::Plugin {
                plugin: &flow.plugin,
                text: &format!("the identity could not be asked for: {reason}"),
            });
            answered
        }
    }
}

fn identity(
    login: &Login<'_>,
    flow: &ProgramFlow,
    tokens: &TokenSet,
) -> std::result::Result<Answered, String> {
    let mut session = login
        .sink
        .start_program(&job(login, flow, Action::Identity))
        .map_err(|unusable| unusable.reason)?;
    let about = About {
        tokens: Some(tokens),
        ..About::default()
    };
    session
        .request(login.host(), &about)
        .map_err(Unsent::into_reason)?;
    session
        .outcome(login.host())
        .map_err(|failure| failure.to_string())
}

fn not_run(unusable: Unusable, again: &str) -> SinkError {
    SinkError::new(ErrorKind::Failed, "plugin_not_run", unusable.reason)
        .with_fix(unusable.fix.unwrap_or_else(|| again.to_owned()))
}

fn failed(reason: &str, again: &str) -> SinkError {
    SinkError::new(
        ErrorKind::Failed,
        "plugin_failed",
        format!("{reason}; nothing was stored"),
    )
    .with_fix(again.to_owned())
}

/// What the program's error means for whoever logs in.
fn refused(plugin: &str, fault: &Fault, login: &Login<'_>) -> SinkError {
    let (kind, code) = match fault.kind {
        FaultKind::NotSupported => (ErrorKind::Usage, NOT_SUPPORTED),
        FaultKind::Denied => (ErrorKind::Failed, "denied"),
        FaultKind::Transient => (ErrorKind::TryAgain, "plugin_transient"),
        FaultKind::Terminal => (ErrorKind::Failed, "plugin_refused"),
        FaultKind::Usage => (ErrorKind::Usage, "plugin_usage"),
    };
    let until = fault.retry_after.map(|after| login.sink.now().plus(after));
    SinkError::new(kind, code, format!("plugin {plugin}: {fault}"))
        .until(until)
        .with_fix(login.again())
}
