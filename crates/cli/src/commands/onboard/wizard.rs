//! The same with questions: every one of them is asked before anything is written, so that giving up at any of them
//! leaves everything as it was.

use tokensink_sink::{AgentId, AuthChoice, GivenSecret, Secret};

use super::{CUSTOM, CUSTOM_KEY, SKIP, Scope, Wanted, report, settle_custom, settle_with, wanted};
use crate::args::{KeySource, OnboardArgs};
use crate::ask::{Asker, Line};
use crate::commands::{App, needs_terminal, somebody_there};
use crate::exit::Outcome;
use crate::render::onboard::Settled;
use crate::ui::Terminal;

/// Asks for what the options leave open, and settles it.
pub(super) fn run(app: &mut App<'_>, args: &OnboardArgs, scope: Scope) -> Outcome {
    if !somebody_there() {
        let name = app.name().as_str();
        let fix = format!("{name} onboard --non-interactive --accept-risk --auth-choice <choice>");
        return Err(needs_terminal("onboarding", fix).into());
    }
    let agent = app.agent(args.agent.as_deref())?;
    let asker = Asker::new(&*app.sink.host().env);
    let ui = Terminal::interruptible(app.printer.note_look.clone(), asker.interrupted());
    let person = Person { asker, ui };
    let settled = match person.choose(app, args)? {
        Wanted::Skip => Settled::nothing(SKIP),
        Wanted::Custom => person.custom(app, args, &agent)?,
        Wanted::Choice(choice) => person.settle(app, args, &agent, &choice, scope)?,
    };
    report(app, args, &agent, &settled)
}

/// Who answers, and where.
struct Person {
    asker: Asker,
    ui: Terminal,
}

impl Person {
    fn choose(&self, app: &App<'_>, args: &OnboardArgs) -> tokensink_sink::Result<Wanted> {
        if let Some(text) = &args.auth_choice {
            return wanted(app, text, args);
        }
        let choices: Vec<AuthChoice> = app
            .sink
            .auth_choices()
            .into_iter()
            .filter(|choice| !choice.hidden)
            .collect();
        let group = self
            .asker
            .select(&self.ui, "Which provider?", groups(&choices), 0)?;
        let choice = match group.as_str() {
            SKIP => return Ok(Wanted::Skip),
            CUSTOM => return Ok(Wanted::Custom),
            group => {
                let lines = choices.iter().filter(|choice| choice.group == group);
                self.one_of(lines.cloned().collect())?
            }
        };
        wanted(app, &choice.id, args)
    }

    fn one_of(&self, mut choices: Vec<AuthChoice>) -> tokensink_sink::Result<AuthChoice> {
        if choices.len() == 1 {
            return Ok(choices.remove(0));
        }
        let lines = choices
            .into_iter()
            .map(|choice| Line {
                text: match choice.hint.as_str() {
                    "" => choice.name.clone(),
                    hint => format!("{} ({hint})", choice.name),
                },
                value: choice,
            })
            .collect();
        self.asker.select(&self.ui, "How to log in?", lines, 0)
    }

    fn settle(
        &self,
        app: &mut App<'_>,
        args: &OnboardArgs,
        agent: &AgentId,
        choice: &AuthChoice,
        scope: Scope,
    ) -> tokensink_sink::Result<Settled> {
        let is_pasted = matches!(choice.kind, "token" | "api_key");
        let is_given = choice
            .option
            .as_ref()
            .is_some_and(|option| args.keys.given.contains_key(option));
        let given = if is_pasted && !is_given {
            Some(self.key(app, args, choice)?)
        } else {
            None
        };
        settle_with(app, args, agent, choice, scope, &self.ui, given)
    }

    /// The key of a choice: that of the environment where the person agrees (spec.md 11.9), else a typed one.
    fn key(
        &self,
        app: &App<'_>,
        args: &OnboardArgs,
        choice: &AuthChoice,
    ) -> tokensink_sink::Result<GivenSecret> {
        let env = &app.sink.host().env;
        let found = choice
            .env
            .iter()
            .find_map(|name| Some((name, Secret::new(env.var(name)?))));
        if let Some((name, secret)) = found {
            let question = format!("Use {name} of the environment ({})?", secret.masked());
            if self.asker.confirm(&self.ui, &question, true)? {
                return Ok(GivenSecret::Env(name.clone()));
            }
        }
        let provider = args.token_provider.as_deref().unwrap_or(choice.provider.as_str());
        let check = |secret: &Secret| match choice.kind {
            "token" => app
                .sink
                .check_secret(provider, choice.id == "setup-token", secret),
            _ => Ok(()),
        };
        self.asker
            .secret(&self.ui, &choice.name, &check)
            .map(GivenSecret::Value)
    }

    fn custom(
        &self,
        app: &mut App<'_>,
        args: &OnboardArgs,
        agent: &AgentId,
    ) -> tokensink_sink::Result<Settled> {
        let mut custom = args.custom.clone();
        let ask = |value: Option<String>, question: &str| match value {
            Some(value) => Ok(value),
            None => self.asker.text(&self.ui, question, None),
        };
        custom.custom_base_url = Some(ask(
            custom.custom_base_url,
            "Address of the API, e.g. https://llm.example.com/v1",
        )?);
        custom.custom_model_id = Some(ask(custom.custom_model_id, "Model")?);
        let given = match args.keys.given.get(CUSTOM_KEY) {
            Some(KeySource::Stdin | KeySource::File(_) | KeySource::Env(_) | KeySource::Bare) => None,
            None => Some(GivenSecret::Value(self.asker.secret(
                &self.ui,
                "API key",
                &|_| Ok(()),
            )?)),
        };
        settle_custom(app, args, &custom, agent, given)
    }
}

/// A menu line for each group, by name, then the choices that belong to none.
fn groups(choices: &[AuthChoice]) -> Vec<Line<String>> {
    let mut names: Vec<&str> = choices.iter().map(|choice| choice.group.as_str()).collect();
    names.sort_unstable_by_key(|name| name.to_lowercase());
    names.dedup();
    let line = |text: &str, value: &str| Line {
        text: text.to_owned(),
        value: value.to_owned(),
    };
    let groups = names.into_iter().map(|name| line(name, name));
    let others = [
        line("Another service that speaks OpenAI's or Anthropic's API", CUSTOM),
        line("None now", SKIP),
    ];
    groups.chain(others).collect()
}
