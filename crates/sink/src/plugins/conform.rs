//! The conformance run for authors: the program is started where it lies, and asked what it will be asked.
//!
//! Without a login nothing but made-up tokens is sent. With one, its tokens are refreshed and, where the program can,
//! revoked at the end; nothing of it is stored.

use std::collections::BTreeMap;

use tokensink_host::Environment;
use tokensink_providers::plugin::protocol::{Action, Answered};
use tokensink_providers::{Definition, Flow, Method, ProgramFlow, UserFile};
use tokensink_types::{AgentId, Secret, TokenSet, UnixMillis};

use super::check::Scenario;
use super::package::Package;
use super::session::{About, Ended, Job, Unsent};
use crate::error::Result;
use crate::login::choose::Facts;
use crate::login::program::converse;
use crate::login::run::Login;
use crate::login::{Cancel, LoginEvent, LoginRequest, LoginUi, PromptKind, Question};
use crate::sink::Sink;

/// How a plugin is checked.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Log in for real, then refresh and revoke what that gave.
    pub login: bool,
    /// Answers to the program's questions, by their ids; what is not among them is asked for. For a secret, `env:NAME`
    /// names the variable that holds it.
    pub answers: BTreeMap<String, String>,
}

/// A program under test, for one method.
struct Bench<'a> {
    sink: &'a Sink,
    package: &'a Package,
    definition: &'a Definition,
    method: &'a Method,
    flow: &'a ProgramFlow,
}

impl Sink {
    /// Runs every scenario for the first method of each definition.
    pub(super) fn conform(
        &self,
        package: &Package,
        options: &CheckOptions,
        ui: &dyn LoginUi,
    ) -> Result<Vec<Scenario>> {
        let mut scenarios = Vec::new();
        for name in &package.manifest.providers {
            let path = package.dir.join(name);
            let definition = self.drafted(&UserFile {
                text: self.read_text(&path)?,
                path,
            })?;
            let served = definition.methods.iter().find_map(|method| match &method.flow {
                Flow::Program(flow) => Some((method, flow)),
                _ => None,
            });
            let Some((method, flow)) = served else { continue };
            let bench = Bench {
                sink: self,
                package,
                definition: &definition,
                method,
                flow,
            };
            scenarios.extend(bench.run(options, ui));
        }
        Ok(scenarios)
    }
}

impl Bench<'_> {
    fn run(&self, options: &CheckOptions, ui: &dyn LoginUi) -> Vec<Scenario> {
        let hello = self.hello();
        let speaks = hello.passed == Some(true);
        let mut scenarios = vec![hello];
        if !speaks {
            return scenarios;
        }
        scenarios.push(self.ends());
        scenarios.push(self.unknown());
        scenarios.push(self.dead_token());
        if options.login {
            scenarios.extend(self.login(options, ui));
        } else {
            scenarios.push(skipped(
                "login",
                "run with --login to log in, refresh and revoke for real",
            ));
        }
        scenarios
    }

    fn job(&self, action: Action) -> Job<'_> {
        Job {
            plugin: &self.flow.plugin,
            provider: &self.definition.id,
            method: &self.method.id,
            action,
        }
    }

    fn hello(&self) -> Scenario {
        let clock = &self.sink.host().clock;
        let began = clock.monotonic();
        match self.sink.run_package(self.package, &self.job(Action::Login)) {
            Ok(_) => {
                let took = clock.monotonic().saturating_sub(began).as_millis();
                Scenario::passed("hello", format!("after {took} ms"))
            }
            Err(unusable) => Scenario::failed("hello", unusable.reason),
        }
    }

    /// Tokensink may be gone at any time; a program that then stays is a process that nobody ends.
    fn ends(&self) -> Scenario {
        const ID: &str = "end_of_input";
        let session = match self.sink.run_package(self.package, &self.job(Action::Login)) {
            Ok(session) => session,
            Err(unusable) => return Scenario::failed(ID, unusable.reason),
        };
        if session.ends_alone() {
            Scenario::passed(ID, "it ends when its input ends")
        } else {
            Scenario::failed(ID, "it goes on when its input has ended, and had to be killed")
        }
    }

    fn unknown(&self) -> Scenario {
        const ID: &str = "unknown_request";
        let mut session = match self.sink.run_package(self.package, &self.job(Action::Login)) {
            Ok(session) => session,
            Err(unusable) => return Scenario::failed(ID, unusable.reason),
        };
        if let Err(unsent) = session.request_unknown(self.sink.host()) {
            return Scenario::failed(ID, unsent.into_reason());
        }
        match session.outcome(self.sink.host()) {
            Err(Ended::Fault(fault)) => Scenario::passed(ID, format!("answered with: {fault}")),
            Err(Ended::Broken(reason)) => Scenario::failed(ID, reason),
            Ok(_) => Scenario::failed(ID, "it gave a result for a request that does not exist"),
        }
    }

    /// A token that nobody issued must not give a result.
    fn dead_token(&self) -> Scenario {
        const ID: &str = "unknown_token";
        if !self.package.manifest.can(Action::Refresh) {
            return skipped(ID, "it does not refresh");
        }
        let tokens = TokenSet {
            access: "tokensink-check-access".into(),
            refresh: Some("tokensink-check-refresh".into()),
            expires: Some(UnixMillis(0)),
            id_token: None,
        };
        match self.ask(Action::Refresh, &tokens) {
            Err(Ended::Fault(fault)) => Scenario::passed(ID, format!("answered with: {fault}")),
            Err(Ended::Broken(reason)) => Scenario::failed(ID, reason),
            Ok(_) => Scenario::failed(ID, "it gave a result for a refresh token that nobody issued"),
        }
    }

    fn ask(&self, action: Action, tokens: &TokenSet) -> std::result::Result<Answered, Ended> {
        let mut session = self
            .sink
            .run_package(self.package, &self.job(action))
            .map_err(|unusable| Ended::Broken(unusable.reason))?;
        let about = About {
            tokens: Some(tokens),
            ..About::default()
        };
        session
            .request(self.sink.host(), &about)
            .map_err(|unsent: Unsent| Ended::Broken(unsent.into_reason()))?;
        session.outcome(self.sink.host())
    }

    /// A real login, and what can be done with it.
    fn login(&self, options: &CheckOptions, ui: &dyn LoginUi) -> Vec<Scenario> {
        let mut scenarios = Vec::new();
        let sent_at = self.sink.now();
        let answered = match self.log_in(options, ui) {
            Ok(answered) => answered,
            Err(reason) => return vec![Scenario::failed("login", reason)],
        };
        let whose = answered.has_account();
        let Ok(grant) = answered.into_grant(sent_at) else {
            return vec![Scenario::failed("login", "its result has no access_token")];
        };
        let account = self.flow.client.account(&grant, None);
        let named = account.email.or(account.account_id).or(account.subject);
        scenarios.push(Scenario::passed(
            "login",
            format!("logged in as {}", named.as_deref().unwrap_or("somebody")),
        ));
        let mut tokens = self.flow.client.first_tokens(&grant, sent_at);
        scenarios.push(match (whose, self.package.manifest.can(Action::Identity)) {
            (_, true) => told("identity", self.ask(Action::Identity, &tokens), "it says whose login it is"),
            (true, false) => Scenario::passed("identity", "the login's result says whose it is"),
            (false, false) => Scenario::failed(
                "identity",
                "neither the login nor an identity action says whose login it is, so a refresh for another account \
                 cannot be told",
            ),
        });
        scenarios.push(self.refresh(&mut tokens));
        scenarios.push(if self.package.manifest.can(Action::Revoke) {
            told("revoke", self.ask(Action::Revoke, &tokens), "the login was ended")
        } else {
            skipped(
                "revoke",
                "it does not revoke: the login of this check is still valid at the provider",
            )
        });
        scenarios
    }

    fn refresh(&self, tokens: &mut TokenSet) -> Scenario {
        const ID: &str = "refresh";
        if !self.package.manifest.can(Action::Refresh) || tokens.refresh_token().is_none() {
            return skipped(ID, "there is no refresh token, or it does not refresh");
        }
        let sent_at = self.sink.now();
        match self
            .ask(Action::Refresh, tokens)
            .map(|answered| answered.into_grant(sent_at))
        {
            Ok(Ok(grant)) => {
                let same = grant.access_token == tokens.access;
                *tokens = self.flow.client.merged_tokens(tokens, &grant, sent_at);
                if same {
                    Scenario::failed(ID, "the new access token is the old one")
                } else {
                    Scenario::passed(ID, "a new access token came")
                }
            }
            Ok(Err(error)) => Scenario::failed(ID, error.to_string()),
            Err(ended) => Scenario::failed(ID, ended.to_string()),
        }
    }

    fn log_in(&self, options: &CheckOptions, ui: &dyn LoginUi) -> std::result::Result<Answered, String> {
        let ui = Scripted {
            answers: &options.answers,
            env: &*self.sink.host().env,
            inner: ui,
        };
        let request = LoginRequest {
            agent: AgentId::main(),
            provider: self.definition.id.as_str().to_owned(),
            method: Some(self.method.id.clone()),
            profile_id: None,
            set_default: false,
            device_code: false,
            no_browser: false,
        };
        let facts = Facts::new(&*self.sink.host().env, ui.interactive(), false);
        let login = Login {
            sink: self.sink,
            definition: self.definition,
            method: self.method,
            request: &request,
            ui: &ui,
            facts: &facts,
        };
        let mut session = self
            .sink
            .run_package(self.package, &self.job(Action::Login))
            .map_err(|unusable| unusable.reason)?;
        let about = About {
            interactive: ui.interactive(),
            ..About::default()
        };
        session
            .request(self.sink.host(), &about)
            .map_err(Unsent::into_reason)?;
        converse(&login, self.flow, &mut session).map_err(|error| error.to_string())
    }
}

/// Answers from a list, else from whoever sits there.
struct Scripted<'a> {
    answers: &'a BTreeMap<String, String>,
    env: &'a dyn Environment,
    inner: &'a dyn LoginUi,
}

impl LoginUi for Scripted<'_> {
    fn interactive(&self) -> bool {
        !self.answers.is_empty() || self.inner.interactive()
    }

    fn show(&self, event: LoginEvent<'_>) {
        self.inner.show(event);
    }

    fn ask_paste(&self, prompt: &str, cancel: &Cancel) -> Option<String> {
        self.inner.ask_paste(prompt, cancel)
    }

    fn given_up(&self) -> bool {
        self.inner.given_up()
    }

    fn ask(&self, question: &Question<'_>) -> Option<Secret> {
        match self.answers.get(question.id) {
            // A secret stands in no argument, so that it is named.
            Some(answer) if question.kind == PromptKind::Secret => {
                self.env.var(answer.strip_prefix("env:")?).map(Secret::new)
            }
            Some(answer) => Some(Secret::new(answer.as_str())),
            None if self.inner.interactive() => self.inner.ask(question),
            None => None,
        }
    }
}

fn skipped(id: &'static str, detail: &str) -> Scenario {
    Scenario {
        id,
        passed: None,
        detail: detail.to_owned(),
    }
}

fn told<T>(id: &'static str, ended: std::result::Result<T, Ended>, good: &str) -> Scenario {
    match ended {
        Ok(_) => Scenario::passed(id, good),
        Err(ended) => Scenario::failed(id, ended.to_string()),
    }
}
