//! Running a plugin's program: started, greeted, asked one thing, listened to within limits, and gone afterwards.
//!
//! It is started in its own directory with an environment that holds nothing but what its manifest names, and is told
//! nothing but its settings and the tokens of the one profile that it is asked about. What it does wrong ends its own
//! conversation and nothing else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use tokensink_host::{Dialogue, DialogueLimits, DialogueRequest, Heard, Host};
use tokensink_providers::plugin::manifest::{Limits, Manifest};
use tokensink_providers::plugin::protocol::{
    Action, Answered, Conversation, Fault, LINE_BYTES, OUTPUT_BYTES, Prompt, Request, Step, answer_line,
};
use tokensink_types::{Account, Body, MethodId, ProfileId, ProviderId, Secret, TokenSet};

use super::package::{Package, Unusable};
use crate::sink::Sink;

/// A whole login.
const LOGIN_TIME: Duration = Duration::from_secs(600);
/// How often it is looked whether the user has given up.
const GLANCE: Duration = Duration::from_millis(200);
/// How long a line may take to be read.
const SAY_TIME: Duration = Duration::from_secs(20);
/// How long a program that gave its answer may take to end.
const FAREWELL_TIME: Duration = Duration::from_secs(2);
/// Most standard error that is kept for a message, in bytes.
const COMPLAINT_BYTES: usize = 16 * 1024;

/// What a program is to be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) provider: &'a ProviderId,
    pub(crate) method: &'a MethodId,
    pub(crate) action: Action,
}

/// What it is told of a profile, and whether somebody can answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) profile: Option<&'a ProfileId>,
    pub(crate) tokens: Option<&'a TokenSet>,
    pub(crate) account: Option<&'a Account>,
    pub(crate) fields: Option<&'a BTreeMap<String, String>>,
    pub(crate) interactive: bool,
}

/// A request that did not reach the program whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The program has nothing of it.
    Nothing(String),
    /// It may have read all that matters.
    Perhaps(String),
}

impl Unsent {
    /// The sentence for people.
    pub(crate) fn into_reason(self) -> String {
        match self {
            Self::Nothing(reason) | Self::Perhaps(reason) => reason,
        }
    }
}

/// Why a conversation is over without an answer; a sentence about the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

/// How a conversation in which nobody is asked anything ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The program reported an error.
    Fault(Fault),
    /// It did not keep to the rules or the limits.
    Broken(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "the plugin says: {fault}"),
            Self::Broken(reason) => f.write_str(reason),
        }
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Session {
    plugin: String,
    provider: ProviderId,
    method: MethodId,
    settings: BTreeMap<String, String>,
    version: u32,
    dialogue: Option<Box<dyn Dialogue>>,
    talk: Conversation,
    limits: Limits,
    is_login: bool,
    /// Monotonic.
    deadline: Duration,
    time: Duration,
}

impl Sink {
    /// Can the plugin be asked for this? `false` also for one that is not there.
    pub(crate) fn plugin_can(&self, plugin: &str, action: Action) -> bool {
        self.package(plugin)
            .is_ok_and(|package| package.manifest.can(action))
    }

    /// Starts the program and waits for its hello. Nothing was told to it yet, so a failure costs nothing.
    ///
    /// # Errors
    /// [`Unusable`], with the next step where there is one.
    pub(crate) fn start_program(&self, job: &Job<'_>) -> std::result::Result<Session, Unusable> {
        self.run_package(&self.package(job.plugin)?, job)
    }

    /// The same for a package that is at hand.
    pub(super) fn run_package(
        &self,
        package: &Package,
        job: &Job<'_>,
    ) -> std::result::Result<Session, Unusable> {
        let plain = |reason: String| Unusable { reason, fix: None };
        if !package.serves(job.provider) {
            return Err(plain(format!(
                "plugin {} is not for provider {}",
                job.plugin, job.provider
            )));
        }
        if !package.manifest.can(job.action) {
            return Err(plain(format!(
                "plugin {} has no {:?} among its actions",
                job.plugin,
                job.action.as_str()
            )));
        }
        let request = DialogueRequest {
            program: package.dir.join(&package.manifest.program),
            args: package.manifest.args.iter().map(OsString::from).collect(),
            env: self.plugin_env(&package.manifest, job.provider),
            dir: package.dir.clone(),
            limits: DialogueLimits {
                line_bytes: LINE_BYTES,
                output_bytes: OUTPUT_BYTES,
                complaint_bytes: COMPLAINT_BYTES,
            },
        };
        let dialogue = self.host().processes.spawn_dialogue(request).map_err(|error| {
            plain(format!(
                "the program of plugin {} cannot be started: {error}",
                job.plugin
            ))
        })?;
        let limits = package.manifest.limits;
        let hello = Duration::from_secs(limits.hello_seconds);
        let mut session = Session {
            plugin: job.plugin.to_owned(),
            provider: job.provider.clone(),
            method: job.method.clone(),
            settings: package.manifest.settings_from(self.plugin_settings(job.plugin)),
            version: 0,
            dialogue: Some(dialogue),
            talk: Conversation::new(job.action),
            limits,
            is_login: job.action == Action::Login,
            deadline: self.host().clock.monotonic() + hello,
            time: hello,
        };
        match session.next(self.host(), true, &|| false) {
            Ok(Step::Ready(version)) => {
                session.version = version;
                Ok(session)
            }
            Ok(Step::Failed(fault)) => Err(plain(format!("plugin {}: {fault}", job.plugin))),
            Ok(_) => Err(plain(format!("plugin {} did not say hello", job.plugin))),
            Err(Broken(reason)) => Err(plain(reason)),
        }
    }

    /// The variables that the manifest names, but none that holds a credential of another provider.
    fn plugin_env(&self, manifest: &Manifest, provider: &ProviderId) -> Vec<(OsString, OsString)> {
        let credentials = self.registry().env_names();
        let foreign = |name: &String| {
            let mut holders = credentials
                .iter()
                .filter(|env| env.variable.name == *name)
                .peekable();
            holders.peek().is_some() && holders.all(|env| env.provider != *provider)
        };
        manifest
            .env
            .iter()
            .filter(|name| !foreign(name))
            .filter_map(|name| Some((name.into(), self.host().env.var(name)?.into())))
            .collect()
    }
}

impl Session {
    /// Sends the request; from now on the program has its time to answer.
    ///
    /// # Errors
    /// [`Unsent`], which says whether the program can have read it.
    pub(crate) fn request(&mut self, host: &Host, about: &About<'_>) -> Result<(), Unsent> {
        self.send(host, about, |line| line)
    }

    fn send(&mut self, host: &Host, about: &About<'_>, change: impl Fn(Body) -> Body) -> Result<(), Unsent> {
        let line = self.talk.request(&Request {
            version: self.version,
            provider: &self.provider,
            method: &self.method,
            profile: about.profile,
            settings: &self.settings,
            tokens: about.tokens,
            account: about.account,
            fields: about.fields,
            interactive: about.interactive,
        });
        let line = change(line.map_err(|error| Unsent::Nothing(error.to_string()))?);
        self.time = if self.is_login {
            LOGIN_TIME
        } else {
            Duration::from_secs(self.limits.answer_seconds)
        };
        self.deadline = host.clock.monotonic() + self.time;
        let Some(dialogue) = &mut self.dialogue else {
            return Err(Unsent::Nothing("the program is over".to_owned()));
        };
        dialogue.say(&line, SAY_TIME).map_err(|error| {
            let reason = format!(
                "plugin {} did not take the request: {}",
                self.plugin, error.source
            );
            if error.written == 0 {
                Unsent::Nothing(reason)
            } else {
                Unsent::Perhaps(reason)
            }
        })
    }

    /// Sends a request for something that no version of the protocol has.
    pub(super) fn request_unknown(&mut self, host: &Host) -> Result<(), Unsent> {
        let about = About::default();
        self.send(host, &about, |line| {
            let text = String::from_utf8_lossy(line.expose()).replacen("\"login\"", "\"tokensink-check\"", 1);
            Body::new(text)
        })
    }

    /// Closes the program's input; does it end then?
    pub(super) fn ends_alone(mut self) -> bool {
        let dialogue = self.dialogue.take();
        dialogue.is_some_and(|dialogue| dialogue.end(FAREWELL_TIME).code.is_some())
    }

    /// Gives the user's answer to a question; `None` where there is none.
    pub(crate) fn answer(&mut self, prompt: &Prompt, value: Option<&Secret>) -> Result<(), Broken> {
        if let Some(value) = value {
            self.talk.told(value);
        }
        let said = match &mut self.dialogue {
            Some(dialogue) => dialogue.say(&answer_line(&prompt.id, value), SAY_TIME),
            None => return Err(self.broken("is over")),
        };
        said.map_err(|error| self.broken(&format!("did not take the answer: {}", error.source)))
    }

    /// The program's next step. Unless somebody is `waiting`ed for, a login may not be silent for long; once `given_up`
    /// says so, the program is not listened to any longer.
    ///
    /// # Errors
    /// [`Broken`]; the program is gone then.
    pub(crate) fn next(
        &mut self,
        host: &Host,
        waiting: bool,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Step, Broken> {
        let silence = Duration::from_secs(self.limits.silence_seconds);
        let silence = Some(silence).filter(|_| self.is_login && !waiting);
        let left = self.deadline.saturating_sub(host.clock.monotonic());
        let wait = silence.map_or(left, |silence| silence.min(left));
        let heard = self.hear(host, wait, given_up);
        if given_up() {
            return Err(self.end("was given up", false));
        }
        let step = match heard {
            Ok(Heard::Line(line)) => match self.talk.on_line(line.expose()) {
                Ok(step) => step,
                Err(violation) => return Err(self.end(&format!("broke the protocol: {violation}"), false)),
            },
            Ok(Heard::End) => return Err(self.end("ended without an answer", true)),
            Ok(Heard::Nothing) => {
                let passed = host.clock.monotonic() >= self.deadline;
                let what = match silence.filter(|_| !passed) {
                    Some(silence) => format!("said nothing for {} seconds", silence.as_secs()),
                    None => format!("took longer than {} seconds", self.time.as_secs()),
                };
                return Err(self.end(&what, false));
            }
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(self.end(&format!("said too much: {error}"), false));
            }
            Err(error) => return Err(self.end(&format!("could not be listened to: {error}"), false)),
        };
        if matches!(step, Step::Done(_) | Step::Failed(_))
            && let Some(dialogue) = self.dialogue.take()
        {
            dialogue.end(FAREWELL_TIME);
        }
        Ok(step)
    }

    /// Listens for at most `wait`, looking now and then whether it was given up.
    fn hear(&mut self, host: &Host, wait: Duration, given_up: &dyn Fn() -> bool) -> std::io::Result<Heard> {
        let until = host.clock.monotonic() + wait;
        loop {
            let left = until.saturating_sub(host.clock.monotonic());
            let Some(dialogue) = self.dialogue.as_mut().filter(|_| !left.is_zero() && !given_up()) else {
                return Ok(Heard::Nothing);
            };
            match dialogue.listen(left.min(GLANCE))? {
                Heard::Nothing => {}
                heard => return Ok(heard),
            }
        }
    }

    /// The answer to a request in which nobody is asked anything.
    ///
    /// # Errors
    /// [`Ended`]; the program is gone in any case.
    pub(crate) fn outcome(&mut self, host: &Host) -> Result<Answered, Ended> {
        loop {
            match self.next(host, true, &|| false) {
                Ok(Step::Done(answered)) => return Ok(answered),
                Ok(Step::Failed(fault)) => return Err(Ended::Fault(fault)),
                Ok(Step::Tell { .. }) => {}
                Ok(Step::Ready(_) | Step::Ask(_) | Step::Open(_)) => {
                    let Broken(reason) = self.end("spoke out of turn", false);
                    return Err(Ended::Broken(reason));
                }
                Err(Broken(reason)) => return Err(Ended::Broken(reason)),
            }
        }
    }

    /// Ends the program, and says what it did with what it complained of.
    fn end(&mut self, what: &str, closed: bool) -> Broken {
        let Some(dialogue) = self.dialogue.take() else {
            return self.broken(what);
        };
        // Whoever closed its output is about to end by itself, and its exit code says something.
        let farewell = dialogue.end(if closed { FAREWELL_TIME } else { Duration::ZERO });
        let mut text = what.to_owned();
        if let Some(code) = farewell.code.filter(|code| *code != 0) {
            text.push_str(&format!(" (exit code {code})"));
        }
        let complaint = self.talk.clean(&String::from_utf8_lossy(&farewell.complaint));
        if !complaint.is_empty() {
            text.push_str(&format!("; it complained: {complaint}"));
        }
        self.broken(&text)
    }

    fn broken(&self, what: &str) -> Broken {
        Broken(format!("plugin {} {what}", self.plugin))
    }
}
