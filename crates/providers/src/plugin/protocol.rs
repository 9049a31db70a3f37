//! What we and a plugin's program say to each other: JSON objects, one per line, over its standard streams.
//!
//! The program says hello with the versions that it speaks; we pick one and send one request; the program asks,
//! tells, and ends with one result or one error. One process serves one request. [`Conversation`] is that as a
//! machine: lines in, steps out. It promises that no line makes it panic, that a program's words are cleaned of
//! control characters and of every secret that it was sent before anybody sees them, and that nothing which breaks
//! the rules is taken for an answer. It does not know processes, time limits or what an answer means for a grant.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use tokensink_oauth::text::tidy;
use tokensink_types::{Body, Secret};
use url::Url;

use crate::check_value::check_url;

pub use answer::{Answered, CacheControl, NoAnswer};
pub use request::Request;

/// The versions of the protocol that we speak.
pub const VERSIONS: &[u32] = &[1];

/// Longest line in bytes, in either direction.
pub const LINE_BYTES: usize = 64 * 1024;

/// Most bytes that a program may say in one conversation.
pub const OUTPUT_BYTES: usize = 1024 * 1024;

/// Most messages of one conversation.
pub const MESSAGES_MAX: u32 = 1000;

/// Most options of one question.
const OPTIONS_MAX: usize = 100;

/// What a program can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Log in.
    Login,
    /// Spend a refresh token (RFC 6749 section 6).
    Refresh,
    /// End a grant (RFC 7009).
    Revoke,
    /// Tell whose grant it is.
    Identity,
}

impl Action {
    /// The word in requests and manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::Identity => "identity",
        }
    }
}

/// How a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// A line of text.
    Text,
    /// A line that is not shown while it is typed.
    Secret,
    /// Yes or no; the answer is `yes` or `no`.
    Confirm,
    /// One of the options; the answer is its value.
    Select,
}

/// One of several answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptOption {
    /// What the program gets back.
    pub value: String,
    /// What people see.
    pub label: String,
}

/// A question for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// How the program knows the answer.
    pub id: String,
    /// How it is asked.
    pub kind: PromptKind,
    /// The question.
    pub text: String,
    /// The answers to choose from, for [`PromptKind::Select`].
    pub options: Vec<PromptOption>,
}

/// What a program's error means for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The program cannot do this: try the next way.
    NotSupported,
    /// The user or the provider said no.
    Denied,
    /// It may work later.
    Transient,
    /// This grant will never work again: log in.
    Terminal,
    /// The request or a setting is wrong.
    Usage,
}

/// An error that a program reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What it means.
    pub kind: FaultKind,
    /// The program's words.
    pub message: String,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// The program knows that the refresh token was not spent.
    pub unspent: bool,
}

/// What a line of the program means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It said hello; send the request in this version.
    Ready(u32),
    /// Ask the user, then send [`answer_line`].
    Ask(Prompt),
    /// Show the user this page; the user is waited for until the program says the next thing.
    Open(Url),
    /// Tell the user.
    Tell {
        /// The words.
        text: String,
        /// The user is waited for until the program says the next thing.
        waiting: bool,
    },
    /// It did what it was asked for.
    Done(Answered),
    /// It did not.
    Failed(Fault),
}

/// A line that breaks the rules. The text never holds what the program said.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// Not a JSON object.
    #[error("it said something that is not a JSON object")]
    NotJson,
    /// A field is missing or of the wrong type.
    #[error("its {message} message is not what the protocol wants: {reason}")]
    Shape {
        /// The message.
        message: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A message that does not exist.
    #[error("it sent a message of a type that version 1 does not know")]
    UnknownType,
    /// A message at the wrong time.
    #[error("it sent a {message} message where {expected} was due")]
    OutOfTurn {
        /// The message.
        message: &'static str,
        /// What was due.
        expected: &'static str,
    },
    /// No version in common.
    #[error("it speaks versions {theirs} of the protocol, and this tokensink speaks {ours:?}", ours = VERSIONS)]
    Version {
        /// Its versions.
        theirs: String,
    },
    /// It does not come to an end.
    #[error("it sent more than {MESSAGES_MAX} messages")]
    TooMany,
    /// It asks for something that this action has no room for.
    #[error("it wants the user's attention during a {action}, when nobody is there")]
    Unattended {
        /// What it was asked for.
        action: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Hello,
    Request,
    Answer,
    Over,
}

impl Phase {
    fn expected(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Request => "nothing",
            Self::Answer => "a result or an error",
            Self::Over => "the end",
        }
    }
}

/// One conversation with a program.
#[derive(Debug)]
pub struct Conversation {
    action: Action,
    phase: Phase,
    messages: u32,
    secrets: Vec<Secret>,
}

impl Conversation {
    /// A conversation about `action` with a program that was started.
    #[must_use]
    pub fn new(action: Action) -> Self {
        Self {
            action,
            phase: Phase::Hello,
            messages: 0,
            secrets: Vec::new(),
        }
    }

    /// The line to send after [`Step::Ready`]; the machine then waits for the answer. The secrets in it are taken out
    /// of everything that the program says from now on.
    ///
    /// # Errors
    /// [`RequestTooLong`] above [`LINE_BYTES`].
    pub fn request(&mut self, request: &Request<'_>) -> Result<Body, RequestTooLong> {
        let line = request.line(self.action);
        if line.len() > LINE_BYTES {
            return Err(RequestTooLong);
        }
        self.secrets.extend(request.secrets().cloned());
        self.phase = Phase::Answer;
        Ok(line)
    }

    /// The program's own complaint (standard error), fit to be shown.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        let secrets: Vec<&Secret> = self.secrets.iter().collect();
        tidy(text, &secrets)
    }

    /// Takes note of something secret that the program was told, so that it cannot be shown.
    pub fn told(&mut self, secret: &Secret) {
        self.secrets.push(secret.clone());
    }

    /// What a line means.
    ///
    /// # Errors
    /// [`Violation`]; the conversation is over then.
    pub fn on_line(&mut self, line: &[u8]) -> Result<Step, Violation> {
        let step = self.read(line);
        if matches!(step, Err(_) | Ok(Step::Done(_) | Step::Failed(_))) {
            self.phase = Phase::Over;
        }
        step
    }

    fn read(&mut self, line: &[u8]) -> Result<Step, Violation> {
        self.messages += 1;
        if self.messages > MESSAGES_MAX {
            return Err(Violation::TooMany);
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
            return Err(Violation::NotJson);
        };
        let name = fields.get("type").and_then(Value::as_str).unwrap_or_default();
        let message = ["hello", "prompt", "open_url", "progress", "result", "error"]
            .into_iter()
            .find(|known| *known == name)
            .ok_or(Violation::UnknownType)?;
        match (self.phase, message) {
            (Phase::Hello, "hello") => self.on_hello(&fields),
            (Phase::Hello | Phase::Answer, "error") => self.on_error(&fields).map(Step::Failed),
            (Phase::Answer, "prompt") => self.attended(self.on_prompt(&fields)?).map(Step::Ask),
            (Phase::Answer, "open_url") => self.attended(open_url(&fields)?).map(Step::Open),
            (Phase::Answer, "progress") => self.on_progress(&fields),
            (Phase::Answer, "result") => Answered::read(self.action, fields).map(Step::Done),
            (phase, message) => Err(Violation::OutOfTurn {
                message,
                expected: phase.expected(),
            }),
        }
    }

    fn on_hello(&mut self, fields: &Map<String, Value>) -> Result<Step, Violation> {
        let versions = fields.get("versions").and_then(Value::as_array);
        let theirs: Vec<u64> = versions
            .ok_or_else(|| shape("hello", "versions is not an array"))?
            .iter()
            .filter_map(Value::as_u64)
            .collect();
        let common = VERSIONS
            .iter()
            .rev()
            .find(|ours| theirs.contains(&u64::from(**ours)));
        let Some(version) = common else {
            let theirs = theirs.iter().map(ToString::to_string).collect::<Vec<_>>();
            return Err(Violation::Version {
                theirs: tidy(&theirs.join(", "), &[]),
            });
        };
        self.phase = Phase::Request;
        Ok(Step::Ready(*version))
    }

    /// Only a login has somebody in front of it.
    fn attended<T>(&self, what: T) -> Result<T, Violation> {
        if self.action == Action::Login {
            Ok(what)
        } else {
            Err(Violation::Unattended {
                action: self.action.as_str(),
            })
        }
    }

    fn on_prompt(&self, fields: &Map<String, Value>) -> Result<Prompt, Violation> {
        let id = match fields.get("id") {
            Some(Value::String(id)) if id.len() <= 200 => id.clone(),
            _ => return Err(shape("prompt", "id is not a short string")),
        };
        let kind = fields.get("kind").cloned().unwrap_or_default();
        let kind: PromptKind = serde_json::from_value(kind)
            .map_err(|_| shape("prompt", "kind is none of text, secret, confirm and select"))?;
        let text = self.text_of(fields, "text");
        if text.is_empty() {
            return Err(shape("prompt", "text is missing or blank"));
        }
        let options = self.options(fields)?;
        if (kind == PromptKind::Select) == options.is_empty() {
            return Err(shape("prompt", "options belong to kind select, and only there"));
        }
        Ok(Prompt {
            id,
            kind,
            text,
            options,
        })
    }

    fn options(&self, fields: &Map<String, Value>) -> Result<Vec<PromptOption>, Violation> {
        let Some(options) = fields.get("options").filter(|options| !options.is_null()) else {
            return Ok(Vec::new());
        };
        let list = options
            .as_array()
            .filter(|list| list.len() <= OPTIONS_MAX)
            .ok_or_else(|| shape("prompt", "options is not an array of at most 100"))?;
        list.iter()
            .map(|option| {
                let value = option.get("value").and_then(Value::as_str);
                let value = value.ok_or_else(|| shape("prompt", "an option has no value"))?;
                let label = option.get("label").and_then(Value::as_str).unwrap_or(value);
                Ok(PromptOption {
                    value: value.to_owned(),
                    label: self.clean(label),
                })
            })
            .collect()
    }

    fn on_progress(&self, fields: &Map<String, Value>) -> Result<Step, Violation> {
        let text = self.text_of(fields, "text");
        let waiting = fields.get("waiting") == Some(&Value::Bool(true));
        if waiting {
            self.attended(())?;
        }
        Ok(Step::Tell { text, waiting })
    }

    fn on_error(&self, fields: &Map<String, Value>) -> Result<Fault, Violation> {
        let kind = fields.get("kind").cloned().unwrap_or_default();
        let kind: FaultKind = serde_json::from_value(kind).map_err(|_| {
            let reason = "kind is none of not_supported, denied, transient, terminal and usage";
            shape("error", reason)
        })?;
        Ok(Fault {
            kind,
            message: self.text_of(fields, "message"),
            retry_after: fields.get("retry_after").and_then(answer::seconds),
            unspent: fields.get("unspent") == Some(&Value::Bool(true)),
        })
    }

    fn text_of(&self, fields: &Map<String, Value>, key: &str) -> String {
        fields
            .get(key)
            .and_then(Value::as_str)
            .map(|text| self.clean(text))
            .unwrap_or_default()
    }
}

/// A request that does not fit into a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the request is longer than a line of the protocol may be ({LINE_BYTES} bytes)")]
pub struct RequestTooLong;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.kind {
            FaultKind::NotSupported => "it cannot do this",
            FaultKind::Denied => "denied",
            FaultKind::Transient => "it did not work this time",
            FaultKind::Terminal => "this login is over",
            FaultKind::Usage => "the request or a setting is wrong",
        };
        if self.message.is_empty() {
            f.write_str(word)
        } else {
            write!(f, "{word}: {}", self.message)
        }
    }
}

/// The line that answers a question; `None` says that the user gave no answer.
#[must_use]
pub fn answer_line(id: &str, value: Option<&Secret>) -> Body {
    let value = match value {
        Some(value) => serde_json::json!({"type": "answer", "id": id, "value": value.expose()}),
        None => serde_json::json!({"type": "answer", "id": id, "cancelled": true}),
    };
    Body::new(format!("{value}\n"))
}

fn open_url(fields: &Map<String, Value>) -> Result<Url, Violation> {
    let text = fields.get("url").and_then(Value::as_str).unwrap_or_default();
    check_url(text).map_err(|_| shape("open_url", "url is neither https nor http on this machine"))?;
    Url::parse(text).map_err(|error| shape("open_url", error.to_string()))
}

fn shape(message: &'static str, reason: impl Into<String>) -> Violation {
    Violation::Shape {
        message,
        reason: reason.into(),
    }
}
