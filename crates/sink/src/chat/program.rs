//! The back end that is a program: `claude -p`, run in the agent's workspace with its own login.
//!
//! The prompt goes to its standard input, never into its arguments. It sees the environment without any provider
//! secret, so that it uses its own login and bills nobody else. Its process group ends with the turn.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokensink_host::{Dialogue, DialogueLimits, DialogueRequest, Heard, atomic};
use tokensink_types::{AgentId, Body};

use super::program_lines::{Failure, Lines, Outcome, Told};
use crate::error::{ErrorKind, Result, SinkError};
use crate::login::Cancel;
use crate::sink::Sink;

/// How long it may say nothing: it may be using tools.
const QUIET: Duration = Duration::from_secs(1800);
/// How long it may take to read the prompt.
const SAY_TIME: Duration = Duration::from_secs(60);
/// How long it may take to end after its result.
const END_TIME: Duration = Duration::from_secs(5);
/// Between two looks whether the person wants no more.
const GLANCE: Duration = Duration::from_millis(100);
/// What it may say. A line holds a whole message, with what tools answered.
const LIMITS: DialogueLimits = DialogueLimits {
    line_bytes: 16 << 20,
    output_bytes: 256 << 20,
    complaint_bytes: 16 * 1024,
};
/// Variables that hold a credential of Claude Code and stand in no provider's definition (clients.md 3.5). With one of
/// them it would not use the login of the user, and bill somebody else.
const OWN_SECRETS: [&str; 3] = [
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_REFRESH_TOKEN",
];

/// What the program is run with.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Its path and the arguments that the definition gives it.
    pub(super) command: Vec<String>,
    /// Where its login is, if that is not where it looks by itself.
    pub(super) home: Option<PathBuf>,
}

impl Program {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}

/// One turn of it.
pub(super) struct Turn<'a> {
    pub(super) program: &'a Program,
    pub(super) agent: &'a AgentId,
    pub(super) model: &'a str,
    pub(super) prompt: &'a str,
    /// The conversation's name in the program, which knows it already.
    pub(super) resume: Option<&'a str>,
    pub(super) cancel: &'a Cancel,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Ran {
    /// It answered; with the name of the conversation, by which it can be resumed.
    Answered {
        usage: super::decode::Usage,
        session: Option<String>,
    },
    /// It no longer has the conversation; nothing was asked.
    NoSuchSession,
    /// It says what went wrong.
    Failed(Failure),
    /// It is not there, or ended before it asked anybody.
    NotThere(String),
    /// It ended, or was ended, without a result.
    Broke(String),
    /// The person wanted no more.
    GivenUp,
}

impl Sink {
    /// The path of a program on `PATH`; relative entries do not count, since it runs in another directory.
    pub(super) fn program_path(&self, name: &str) -> Option<PathBuf> {
        let is_there = |path: &Path| self.host().files.stat(path).is_ok_and(|found| found.is_some());
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| is_there(path));
        }
        let path = self.host().env.var("PATH")?;
        path.split(':')
            .map(Path::new)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(name))
            .find(|path| is_there(path))
    }

    /// Where an agent's programs run; made where it is missing.
    fn made_workspace(&self, agent: &AgentId) -> Result<PathBuf> {
        let agents = self.agents()?;
        let own = agents.into_iter().find(|info| info.id == *agent);
        let dir = own.map_or_else(|| self.paths().workspace_dir(agent), |info| info.workspace);
        atomic::ensure_dir(&*self.host().files, &dir, 0o700).map_err(|error| {
            let message = format!("the workspace {} cannot be made: {error}", dir.display());
            SinkError::new(ErrorKind::Failed, "workspace", message).with_fix("tokensink agents list")
        })?;
        Ok(dir)
    }

    /// Our environment without any provider's secret.
    fn program_environment(&self, program: &Program) -> Vec<(OsString, OsString)> {
        let host = self.host();
        let secrets: Vec<String> = self
            .registry()
            .env_names()
            .into_iter()
            .filter(|env| !env.variable.shared)
            .map(|env| env.variable.name)
            .collect();
        let is_secret = |name: &String| OWN_SECRETS.contains(&name.as_str()) || secrets.contains(name);
        let mut env: Vec<(OsString, OsString)> = host
            .env
            .names()
            .into_iter()
            .filter(|name| !is_secret(name))
            .filter_map(|name| host.env.var(&name).map(|value| (name.into(), value.into())))
            .collect();
        if let Some(home) = &program.home {
            env.retain(|(name, _)| name != "CLAUDE_CONFIG_DIR");
            env.push(("CLAUDE_CONFIG_DIR".into(), home.into()));
        }
        env
    }

    /// Runs one turn.
    pub(super) fn run_program(&self, turn: &Turn<'_>, say: &mut dyn FnMut(&str)) -> Result<Ran> {
        let name = turn.program.name();
        let own = turn.program.command.iter().skip(1);
        let Some(path) = self.program_path(name) else {
            return Ok(Ran::NotThere(format!("{name} is not on PATH")));
        };
        let dir = self.made_workspace(turn.agent)?;
        let words = [
            "--output-format",
            "stream-json",
            "--verbose",
            "--include-partial-messages",
        ];
        let mut args: Vec<OsString> = own.map(OsString::from).chain(words.map(OsString::from)).collect();
        args.extend(["--model", turn.model].map(OsString::from));
        args.extend(
            turn.resume
                .into_iter()
                .flat_map(|id| ["--resume", id])
                .map(OsString::from),
        );
        let request = DialogueRequest {
            program: path,
            args,
            env: self.program_environment(turn.program),
            dir,
            limits: LIMITS,
        };
        let mut talk = match self.host().processes.spawn_dialogue(request) {
            Ok(talk) => talk,
            Err(error) => return Ok(Ran::NotThere(format!("{name} could not be run: {error}"))),
        };
        // A program that ends without reading its prompt says why.
        if talk.say(&Body::new(turn.prompt), SAY_TIME).is_ok() {
            talk.close_input();
        }
        Ok(listen(self, talk, turn, say))
    }
}

/// Hears it out. Whatever ends this ends the program and all that it has started.
fn listen(sink: &Sink, mut talk: Box<dyn Dialogue>, turn: &Turn<'_>, say: &mut dyn FnMut(&str)) -> Ran {
    let clock = &sink.host().clock;
    let mut lines = Lines::default();
    let mut session: Option<String> = None;
    let mut heard_at = clock.monotonic();
    loop {
        if turn.cancel.is_set() {
            return Ran::GivenUp;
        }
        let line = match talk.listen(GLANCE) {
            Ok(Heard::Line(line)) => line,
            Ok(Heard::Nothing) if clock.monotonic().saturating_sub(heard_at) >= QUIET => {
                return Ran::Broke(format!("it said nothing for {} minutes", QUIET.as_secs() / 60));
            }
            Ok(Heard::Nothing) => continue,
            Ok(Heard::End) => break,
            Err(error) => return Ran::Broke(error.to_string()),
        };
        heard_at = clock.monotonic();
        for told in lines.read(&String::from_utf8_lossy(line.expose())) {
            match told {
                Told::Text(text) => say(&text),
                Told::Session(id) => session = Some(id),
                Told::Result(outcome) => {
                    talk.end(END_TIME);
                    return match outcome {
                        Outcome::Answered(usage) => Ran::Answered { usage, session },
                        Outcome::NoSuchSession => Ran::NoSuchSession,
                        Outcome::Failed(failure) => Ran::Failed(failure),
                    };
                }
            }
        }
    }
    let farewell = talk.end(END_TIME);
    match farewell.code {
        Some(0) if lines.is_plain() => Ran::Answered {
            usage: super::decode::Usage::default(),
            session: None,
        },
        Some(code) => {
            let words = format!("it ended with code {code}{}", last_words(&farewell.complaint));
            // Before it has begun a conversation it has asked nobody.
            if session.is_none() && !lines.is_plain() {
                return Ran::NotThere(words);
            }
            Ran::Broke(words)
        }
        None => Ran::Broke("it closed its output and did not end".to_owned()),
    }
}

/// The last line of what it complained of, without control characters.
fn last_words(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.map_or_else(String::new, |line| {
        let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
        format!(": {line}")
    })
}
