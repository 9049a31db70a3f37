//! Doing what was chosen: storing a key, logging in, defining a provider.

use tokensink_sink::{
    AgentId, AuthChoice, CredentialKind, CustomProvider, ErrorKind, ExternalMode, GivenSecret, KeyOrigin,
    KeyOutcome, KeyRequest, LoginRequest, ModelWish, SinkError,
};

use super::{CUSTOM, keys};
use crate::args::onboard::CUSTOM_KEY;
use crate::args::{CustomArgs, OnboardArgs, SecretMode};
use crate::commands::{App, open_sink, somebody_there};
use crate::render::onboard::{Settled, SettledProfile};
use crate::render::path;
use crate::ui::Terminal;

/// What all that is done has in common.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) args: &'a OnboardArgs,
    pub(super) agent: &'a AgentId,
    pub(super) model: ModelWish,
}

impl Task<'_> {
    fn request(&self, choice: &AuthChoice, given: Option<GivenSecret>) -> KeyRequest {
        KeyRequest {
            provider: self.args.token_provider.clone(),
            profile_id: self.args.token_profile_id.clone(),
            expires_in: self.args.token_expires_in,
            given,
            as_reference: self.args.secret_input_mode == SecretMode::Ref,
            model: self.model,
            ..KeyRequest::of(self.agent, &choice.id)
        }
    }
}

/// Stores the key of a choice: the given one, or what the environment or the store has.
pub(super) fn key(
    app: &App<'_>,
    task: Task<'_>,
    choice: &AuthChoice,
    given: Option<GivenSecret>,
) -> tokensink_sink::Result<Settled> {
    let outcome = app.sink.settle_key(&task.request(choice, given))?;
    Ok(of_key(choice, outcome))
}

/// Logs in with somebody's approval.
pub(super) fn login(
    app: &App<'_>,
    task: Task<'_>,
    choice: &AuthChoice,
    ui: &Terminal,
) -> tokensink_sink::Result<Settled> {
    let request = LoginRequest {
        agent: task.agent.clone(),
        provider: choice.provider.as_str().to_owned(),
        method: Some(choice.method.clone()),
        profile_id: task.args.token_profile_id.clone(),
        set_default: false,
        device_code: false,
        no_browser: task.args.no_browser,
    };
    let outcome = app.sink.login(&request, ui)?;
    let default_model = app
        .sink
        .settle_model(task.agent, &choice.provider, &choice.method, task.model)?;
    Ok(Settled {
        choice: choice.id.clone(),
        profiles: vec![SettledProfile {
            id: outcome.profile,
            provider: outcome.provider,
            kind: outcome.mode,
            change: if outcome.updated { "updated" } else { "stored" },
            source: "login".to_owned(),
            is_ours: true,
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
            is_ours: true,
        }],
        default_model: outcome.default_model,
        notice: Some(choice.notice.clone()).filter(|notice| !notice.is_empty()),
        notes: outcome.notes,
    }
}

/// Defines the provider of `custom-api-key` and settles its key. `typed` is the key that somebody was asked for.
pub(super) fn custom(
    app: &mut App<'_>,
    task: Task<'_>,
    custom: &CustomArgs,
    typed: Option<GivenSecret>,
) -> tokensink_sink::Result<Settled> {
    // The key is read first: a file that cannot be read must not leave half a provider behind.
    let given = match typed {
        Some(typed) => Some(typed),
        None => keys::given(app, task.args, Some(CUSTOM_KEY))?,
    };
    let custom = custom_of(custom, given.is_some())?;
    let defined = app.sink.define_custom(&custom)?;
    if defined.written {
        let text = format!("Provider {} is defined in {}", defined.id, path(&defined.path));
        app.printer.note(&text);
    }
    // A sink knows the providers that were defined when it was opened.
    let sink = open_sink()?;
    let choice = sink.auth_choice(&defined.choice)?;
    let outcome = sink.settle_key(&KeyRequest {
        provider: None,
        ..task.request(&choice, given)
    })?;
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

/// Puts the login of another program to use. `choice` is its auth choice, where it has one.
pub(super) fn guest(
    app: &App<'_>,
    task: Task<'_>,
    cli: &str,
    choice: Option<&AuthChoice>,
    mode: Option<ExternalMode>,
) -> tokensink_sink::Result<Settled> {
    let outcome = app.sink.settle_guest(cli, mode, somebody_there())?;
    let default_model = match choice {
        Some(choice) => app
            .sink
            .settle_model(task.agent, &choice.provider, &choice.method, task.model)?,
        None => None,
    };
    let provider = outcome.provider.or(choice.map(|choice| choice.provider.clone()));
    let profile = provider.map(|provider| SettledProfile {
        id: outcome.profile,
        provider,
        kind: CredentialKind::OAuth,
        change: outcome.change.as_str(),
        source: format!("{cli}, {}", outcome.mode),
        is_ours: outcome.mode == ExternalMode::Owned,
    });
    let mut notes = outcome.notes;
    notes.extend(outcome.next.map(|next| format!("next: {next}")));
    let notice = choice.map(|choice| choice.notice.clone());
    Ok(Settled {
        choice: choice.map_or(cli, |choice| choice.id.as_str()).to_owned(),
        profiles: profile.into_iter().collect(),
        default_model,
        notice: notice.filter(|notice| !notice.is_empty()),
        notes,
    })
}
