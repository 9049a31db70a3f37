//! `onboard` and `configure` with questions. All of them are asked before anything is done, so that giving up at any
//! of them leaves everything as it was; then the login comes first, because it can still be given up.

mod plan;

use std::cmp::Reverse;

use tokensink_host::browser;
use tokensink_sink::{
    AgentId, AuthChoice, ErrorKind, ExternalInfo, ExternalMode, ExternalScope, FoundKey, GivenSecret,
    ModelWish, Secret, SinkError,
};

use self::plan::{Guest, Plan, Step};
use super::settle::{self, Task};
use super::{CUSTOM, CUSTOM_KEY, SKIP, Scope, Wanted, has_key, is_login, keys, report, wanted};
use crate::args::{CustomArgs, OnboardArgs};
use crate::ask::{Asker, Line, given_up};
use crate::commands::{App, needs_terminal, remark, somebody_there};
use crate::exit::{OK, Outcome};
use crate::render::onboard::{self as render, Settled};
use crate::render::{lists, path};
use crate::ui::Terminal;

/// Asks for what the options leave open, and does it.
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
    let plan = person.plan(app, args, &agent, scope)?;
    if plan.steps.is_empty() {
        return report(app, args, &agent, &Settled::nothing(SKIP));
    }
    person.ui.tell(&plan.words(&app.printer.note_look));
    if !person.asker.confirm(&person.ui, "Go ahead?", true)? {
        app.printer.note("Nothing was changed.");
        return Ok(OK);
    }
    let settled = perform(app, args, &agent, &person.ui, &plan)?;
    report(app, args, &agent, &settled)?;
    if !args.json {
        let profiles = app.sink.profiles(&agent, None)?;
        let look = &app.printer.look;
        let table = lists::profiles(&profiles, app.sink.now(), look);
        let is_default = app.sink.default_agent()? == agent;
        let next = render::next(&settled, Some(&agent).filter(|_| !is_default), look);
        app.printer.data(&format!("\n{table}"))?;
        if scope == Scope::All {
            app.printer.data(&format!("\n{next}"))?;
        }
    }
    Ok(OK)
}

/// Does what was decided. What was done before a step fails is told.
fn perform(
    app: &mut App<'_>,
    args: &OnboardArgs,
    agent: &AgentId,
    ui: &Terminal,
    plan: &Plan,
) -> tokensink_sink::Result<Settled> {
    let mut all = Settled::nothing(SKIP);
    for (index, step) in plan.steps.iter().enumerate() {
        let wish = if plan.model.as_deref() == Some(step.id()) {
            ModelWish::Always
        } else {
            ModelWish::Keep
        };
        let task = Task {
            args,
            agent,
            model: wish,
        };
        let done = match step {
            Step::Login(choice) => settle::login(app, task, choice, ui),
            Step::Custom(custom, given) => settle::custom(app, task, custom, Some(given.clone())),
            Step::Key(choice, given) => settle::key(app, task, choice, Some(given.clone())),
            Step::Guest(guest) => {
                settle::guest(app, task, &guest.cli, guest.choice.as_ref(), Some(guest.mode))
            }
        };
        let done = done.inspect_err(|_| {
            for profile in &all.profiles {
                remark(app.printer, &format!("done before: {}", profile.id));
            }
        })?;
        if let (Some(first), Some(profile)) = (plan.first, done.profiles.first())
            && index == 0
        {
            app.sink
                .order_place(agent, &profile.provider, &profile.id, first)?;
        }
        all.add(done);
    }
    Ok(all)
}

/// Who answers, and where.
struct Person {
    asker: Asker,
    ui: Terminal,
}

impl Person {
    /// Every question, and nothing else.
    fn plan(
        &self,
        app: &App<'_>,
        args: &OnboardArgs,
        agent: &AgentId,
        scope: Scope,
    ) -> tokensink_sink::Result<Plan> {
        let mut plan = Plan::default();
        let picked = match &args.auth_choice {
            Some(text) => wanted(app, text, args)?,
            None => {
                let name = app.name().as_str();
                self.ui.tell(&format!(
                    "Logins of agent {agent}. Esc or Ctrl-C leaves everything as it was; `{name} onboard --help` shows \
                     how to do this without questions.\n\n"
                ));
                plan.steps = self.found(app, args, agent)?;
                self.pick(app, args, agent, !plan.steps.is_empty())?
            }
        };
        let own = match picked {
            Wanted::Skip => None,
            Wanted::Custom => Some(self.custom(app, args)?),
            Wanted::Choice(choice) => Some(self.step_of(app, args, *choice)?),
        };
        if let Some(step) = own {
            plan.first = self.place(app, agent, &step)?;
            // The one that can still be given up goes first.
            plan.steps.insert(0, step);
        }
        if scope == Scope::All {
            plan.model = self.model(app, args, agent, &plan)?;
        }
        Ok(plan)
    }

    /// What is on this host already, and what of it is to be used.
    fn found(&self, app: &App<'_>, args: &OnboardArgs, agent: &AgentId) -> tokensink_sink::Result<Vec<Step>> {
        let profiles = app.sink.profiles(agent, None)?;
        if !profiles.is_empty() {
            let ids: Vec<&str> = profiles.iter().map(|profile| profile.id.as_str()).collect();
            self.ui.tell(&format!("Stored already: {}\n\n", ids.join(", ")));
        }
        self.tell_old_stores(app);
        let mut steps = self.guests(app, args)?;
        let keys = app.sink.found_keys(agent)?;
        if keys.is_empty() {
            return Ok(steps);
        }
        let lines = keys.into_iter().map(|found| Line {
            text: format!("{} = {} ({})", found.variable, found.masked, found.choice.name),
            value: found,
        });
        let question = "The environment holds keys. Which are to be stored?";
        let taken = self.asker.several(&self.ui, question, lines.collect(), &[])?;
        steps.extend(taken.into_iter().map(step_of_found));
        Ok(steps)
    }

    /// State dirs of earlier versions beside ours (spec.md 1.1): they are imported by a command of its own.
    fn tell_old_stores(&self, app: &App<'_>) {
        let host = app.sink.host();
        let Some(home) = host.env.home() else { return };
        for name in OLD_DIRS {
            let dir = home.join(name);
            let is_there = host.files.stat(&dir).is_ok_and(|stat| stat.is_some());
            if is_there && dir != app.sink.state_dir() {
                self.ui.tell(&format!(
                    "An older store is in {0}. To take it over:\n  {1} import openclaw --from {0}\n\n",
                    path(&dir),
                    app.name().as_str()
                ));
            }
        }
    }

    /// The logins of other programs about which nobody has decided yet.
    fn guests(&self, app: &App<'_>, args: &OnboardArgs) -> tokensink_sink::Result<Vec<Step>> {
        let known = app.sink.external_list(&ExternalScope::All, true);
        let choices = app.sink.auth_choices();
        let mut steps = Vec::new();
        for info in known.into_iter().filter(|info| info.suggested.is_some()) {
            let choice = choices
                .iter()
                .find(|choice| choice.cli.as_deref() == Some(info.cli));
            if let Some(mode) = self.mode(app, args, &info)? {
                steps.push(guest_step(&info, mode, choice.cloned()));
            }
        }
        Ok(steps)
    }

    /// How the login of another program is to be used; `None` for not now.
    fn mode(
        &self,
        app: &App<'_>,
        args: &OnboardArgs,
        info: &ExternalInfo,
    ) -> tokensink_sink::Result<Option<ExternalMode>> {
        if args.external_mode.is_some() {
            return Ok(args.external_mode);
        }
        let unattended = browser::is_headless(&*app.sink.host().env).is_some();
        let (modes, start) = modes_for(info, unattended);
        let question = format!(
            "How to use the login of {}? ({} suits this host)",
            info.title, modes[start]
        );
        let mut lines: Vec<Line<Option<ExternalMode>>> = modes
            .into_iter()
            .map(|mode| Line {
                text: format!("{mode}: {}", mode.meaning()),
                value: Some(mode),
            })
            .collect();
        lines.push(Line {
            text: "not now".to_owned(),
            value: None,
        });
        self.ui.tell(&render::found_login(info, app.sink.now()));
        self.asker.select(&self.ui, &question, lines, start)
    }

    fn pick(
        &self,
        app: &App<'_>,
        args: &OnboardArgs,
        agent: &AgentId,
        has_steps: bool,
    ) -> tokensink_sink::Result<Wanted> {
        let choices: Vec<AuthChoice> = app
            .sink
            .auth_choices()
            .into_iter()
            .filter(|choice| !choice.hidden && choice.kind != "external")
            .collect();
        let has_logins = has_steps || !app.sink.profiles(agent, None)?.is_empty();
        let question = if has_logins {
            "Log in to another provider?"
        } else {
            "Which provider?"
        };
        let group = self
            .asker
            .select(&self.ui, question, groups(&choices, has_logins), 0)?;
        match group.as_str() {
            SKIP => Ok(Wanted::Skip),
            CUSTOM => Ok(Wanted::Custom),
            group => {
                let lines = choices.iter().filter(|choice| choice.group == group);
                let choice = self.one_of(lines.cloned().collect())?;
                wanted(app, &choice.id, args)
            }
        }
    }

    fn one_of(&self, mut choices: Vec<AuthChoice>) -> tokensink_sink::Result<AuthChoice> {
        if choices.len() == 1 {
            return Ok(choices.remove(0));
        }
        // A plan that is paid for already comes before what is billed by use.
        choices.sort_by_key(|choice| choice.kind == "api_key");
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

    /// The step that a choice becomes. Its key is asked for here, since every question comes before the first step.
    fn step_of(&self, app: &App<'_>, args: &OnboardArgs, choice: AuthChoice) -> tokensink_sink::Result<Step> {
        if choice.kind == "external" {
            return self.guest(app, args, choice);
        }
        if is_login(&choice) && !has_key(args, &choice) {
            return Ok(Step::Login(Box::new(choice)));
        }
        let given = match keys::given(app, args, choice.option.as_deref())? {
            Some(given) => given,
            None => self.key(app, args, &choice)?,
        };
        Ok(Step::Key(Box::new(choice), given))
    }

    /// A choice that uses the login of another program. One that is in use already stays as it is, unless an option
    /// says otherwise.
    fn guest(&self, app: &App<'_>, args: &OnboardArgs, choice: AuthChoice) -> tokensink_sink::Result<Step> {
        let cli = choice.cli.as_deref().unwrap_or_default();
        let known = app.sink.external_list(&ExternalScope::All, true).into_iter();
        let info = known
            .filter(|info| info.cli == cli)
            .find(|info| info.suggested.is_some() || info.mode.is_some());
        let Some(info) = info else {
            let message = format!("{cli} keeps no login on this host that could be used");
            let error = SinkError::new(ErrorKind::Failed, "no_external_login", message);
            return Err(error.with_fix("tokensink external list"));
        };
        let mode = match info.mode {
            Some(mode) => Some(args.external_mode.unwrap_or(mode)),
            None => self.mode(app, args, &info)?,
        };
        let mode = mode.ok_or_else(given_up)?;
        Ok(guest_step(&info, mode, Some(choice)))
    }

    /// The key of a choice: that of the environment where the person agrees (spec.md 11.9), else a typed one.
    fn key(
        &self,
        app: &App<'_>,
        args: &OnboardArgs,
        choice: &AuthChoice,
    ) -> tokensink_sink::Result<GivenSecret> {
        let env = &app.sink.host().env;
        let mut names = choice.env.iter();
        let found = names.find_map(|name| Some((name, Secret::new(env.var(name)?))));
        if let Some((name, secret)) = found {
            let question = format!("Use {name} of the environment ({})?", secret.masked());
            if self.asker.confirm(&self.ui, &question, true)? {
                return Ok(GivenSecret::Env(name.clone()));
            }
        }
        if choice.id == SETUP_TOKEN {
            self.ui.tell(
                "Run `claude setup-token` on any machine with a browser, then paste the token that it prints.\n",
            );
        }
        let check = |secret: &Secret| {
            app.sink
                .check_choice_secret(&choice.id, args.token_provider.as_deref(), secret)
        };
        let secret = self.asker.secret(&self.ui, &choice.name, &check)?;
        Ok(GivenSecret::Value(secret))
    }

    fn custom(&self, app: &App<'_>, args: &OnboardArgs) -> tokensink_sink::Result<Step> {
        let mut custom: CustomArgs = args.custom.clone();
        let ask = |value: Option<String>, question: &str| match value {
            Some(value) => Ok(value),
            None => self.asker.text(&self.ui, question, None),
        };
        let address = "Address of its API, e.g. https://llm.example.com/v1";
        custom.custom_base_url = Some(ask(custom.custom_base_url, address)?);
        custom.custom_model_id = Some(ask(custom.custom_model_id, "Model that it serves")?);
        let given = match keys::given(app, args, Some(CUSTOM_KEY))? {
            Some(given) => given,
            None => {
                let secret = self.asker.secret(&self.ui, "API key", &|_| Ok(()))?;
                GivenSecret::Value(secret)
            }
        };
        Ok(Step::Custom(Box::new(custom), given))
    }

    /// Whether the new login is tried before those that the agent has of the same provider.
    fn place(&self, app: &App<'_>, agent: &AgentId, step: &Step) -> tokensink_sink::Result<Option<bool>> {
        let Some(choice) = step.choice() else {
            return Ok(None);
        };
        let there = app.sink.profiles(agent, Some(choice.provider.as_str()))?;
        let Some(one) = there.first() else {
            return Ok(None);
        };
        let others = match there.len() {
            1 => one.id.to_string(),
            count => format!("the {count} that are stored"),
        };
        let question = format!("Try the new login of {} before {others}?", choice.provider);
        self.asker.confirm(&self.ui, &question, true).map(Some)
    }

    /// Which step's model becomes the default.
    fn model(
        &self,
        app: &App<'_>,
        args: &OnboardArgs,
        agent: &AgentId,
        plan: &Plan,
    ) -> tokensink_sink::Result<Option<String>> {
        let view = app.sink.models_view(agent)?;
        let offered: Vec<(&str, &str)> = plan
            .steps
            .iter()
            .filter_map(Step::choice)
            .filter_map(|choice| Some((choice.id.as_str(), choice.model.as_deref()?)))
            .filter(|(_, model)| view.default.is_none() || *model != view.resolved_default)
            .collect();
        if plan.steps.iter().any(|step| matches!(step, Step::Custom(..))) {
            return Ok(view.default.is_none().then(|| CUSTOM.to_owned()));
        }
        let Some((first, _)) = offered.first() else {
            return Ok(None);
        };
        if args.set_default {
            return Ok(Some((*first).to_owned()));
        }
        let keep = match &view.default {
            Some(_) => format!("Keep {}", view.resolved_default),
            None => format!("None now ({} is assumed)", view.resolved_default),
        };
        let mut lines: Vec<Line<Option<String>>> = offered
            .iter()
            .map(|(id, model)| Line {
                text: (*model).to_owned(),
                value: Some((*id).to_owned()),
            })
            .collect();
        lines.push(Line {
            text: keep,
            value: None,
        });
        let start = if view.default.is_some() {
            lines.len() - 1
        } else {
            0
        };
        self.asker.select(&self.ui, "Default model?", lines, start)
    }
}

/// The choice that takes what `claude setup-token` prints.
const SETUP_TOKEN: &str = "setup-token";

/// State dirs of earlier versions.
const OLD_DIRS: [&str; 3] = [".clawdbot", ".moltbot", ".moldbot"];

/// The modes that a login can have, and which of them is recommended: where nobody sits, nobody runs the program, so
/// that it renews its login.
fn modes_for(info: &ExternalInfo, unattended: bool) -> (Vec<ExternalMode>, usize) {
    if info.suggested == Some(ExternalMode::Borrowed) {
        return (vec![ExternalMode::Borrowed], 0);
    }
    let modes = vec![
        ExternalMode::Cooperative,
        ExternalMode::Borrowed,
        ExternalMode::Owned,
    ];
    (modes, usize::from(!unattended))
}

fn guest_step(info: &ExternalInfo, mode: ExternalMode, choice: Option<AuthChoice>) -> Step {
    Step::Guest(Box::new(Guest {
        cli: info.cli.to_owned(),
        title: info.title.to_owned(),
        profile: info
            .profile
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        mode,
        choice,
    }))
}

fn step_of_found(found: FoundKey) -> Step {
    Step::Key(Box::new(found.choice), GivenSecret::Env(found.variable))
}

/// A menu line for each group, those with the most ways to log in first, and for the choices that belong to none.
fn groups(choices: &[AuthChoice], has_logins: bool) -> Vec<Line<String>> {
    let mut names: Vec<&str> = choices.iter().map(|choice| choice.group.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let ways = |name: &str| choices.iter().filter(|choice| choice.group == name).count();
    names.sort_by_key(|name| (Reverse(ways(name)), name.to_lowercase()));
    let line = |text: &str, value: &str| Line {
        text: text.to_owned(),
        value: value.to_owned(),
    };
    let mut lines: Vec<Line<String>> = names.into_iter().map(|name| line(name, name)).collect();
    lines.push(line("Another service with OpenAI's or Anthropic's API", CUSTOM));
    if has_logins {
        lines.insert(0, line("No", SKIP));
    } else {
        lines.push(line("None now", SKIP));
    }
    lines
}
