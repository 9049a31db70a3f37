//! A small chat with a model: a turn over the chain of models and their accounts, and the conversation around it.
//!
//! [`Sink::chat`] opens a conversation, [`Sink::chat_turn`] asks one question in it. A turn takes a lease, makes one
//! call, reports what became of it, and goes on with another account or model only where that cannot bill twice: never
//! after text was shown, a time-out or a cut. Money is crossed only where the user allowed it.
//!
//! The pure parts: requests ([`build`]), event streams ([`sse`], [`decode`]), the lines of `claude -p`
//! ([`program_lines`]). The acting ones: a call ([`call`]), a program ([`program`]), the turn ([`turn`]), what is kept
//! ([`transcript`]).

mod ask;
mod build;
mod call;
mod decode;
mod program;
mod program_lines;
mod run;
mod sse;
#[cfg(test)]
mod tests;
mod transcript;
mod turn;
mod via;
mod words;

use tokensink_policy::classify::Reason;
use tokensink_types::{AgentId, BillingClass, ProfileId, SessionKey, UnixMillis};

pub use build::{Message, Role};
pub use decode::Usage;

use crate::error::Result;
use crate::sessions::{CommandReply, SessionInfo};
use crate::sink::Sink;
use transcript::Transcript;

/// A conversation that is to be opened.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The agent that talks.
    pub agent: AgentId,
    /// The session whose model and pin count and are kept; without one, nothing is remembered of the accounts.
    pub session: Option<SessionKey>,
    /// The conversation itself is kept as well, and taken up again; without a session it never is.
    pub kept: bool,
    /// The model, as a user writes it (`opus`, `openai/gpt-5.1`, `opus@anthropic:work`); without one the session's,
    /// else the agent's default.
    pub model: Option<String>,
}

/// An open conversation.
#[derive(Debug)]
pub struct Chat {
    request: ChatRequest,
    transcript: Transcript,
    /// Who answered last; told again when somebody else does.
    serving: Option<Serving>,
}

impl Chat {
    /// The agent that talks.
    #[must_use]
    pub fn agent(&self) -> &AgentId {
        &self.request.agent
    }

    /// Its session.
    #[must_use]
    pub fn session(&self) -> Option<&SessionKey> {
        self.request.session.as_ref()
    }

    /// What was said so far, as far as it is kept.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.transcript.messages
    }

    /// Who answered last.
    #[must_use]
    pub fn serving(&self) -> Option<&Serving> {
        self.serving.as_ref()
    }

    /// From now on the session's model counts, not the one that the conversation was opened with.
    fn follow_session(&mut self) {
        self.request.model = None;
        self.serving = None;
    }

    fn kept_session(&self) -> Option<SessionKey> {
        self.request.session.clone().filter(|_| self.request.kept)
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// `provider/model`.
    pub model: String,
    /// The profile whose login is used; `None` where a program uses its own and tokensink has no profile of it.
    pub profile: Option<ProfileId>,
    /// The account's e-mail address, where it is known.
    pub email: Option<String>,
    /// What it costs.
    pub billing: BillingClass,
    /// The program that answers, for example `claude`; `None` for a call of the provider's API.
    pub program: Option<String>,
}

/// Somebody else goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// What failed.
    pub from: ChatAttempt,
    /// What it would have cost.
    pub from_billing: Option<BillingClass>,
    /// Who goes on.
    pub to: Serving,
}

/// What happens during a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatEvent<'a> {
    /// Somebody else than in the turn before is asked.
    Serving(&'a Serving),
    /// An account or model failed and another one is asked.
    Moved(&'a Moved),
    /// A piece of the answer.
    Text(&'a str),
    /// Something that the user should know.
    Note(&'a str),
}

/// One failed attempt of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatAttempt {
    /// `provider/model`.
    pub model: String,
    /// The profile that was tried; `None` where none could be.
    pub profile: Option<ProfileId>,
    /// Why it did not answer.
    pub reason: Reason,
    /// In words, without secrets.
    pub text: String,
    /// When it is tried again, where that is known.
    pub until: Option<UnixMillis>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatAnswer {
    /// The whole text.
    pub text: String,
    /// Who gave it.
    pub serving: Serving,
    /// What it used, as far as that was told.
    pub usage: Usage,
    /// Why it ended, where it did not end by itself (`max_tokens`).
    pub stop: Option<String>,
    /// What failed before.
    pub attempts: Vec<ChatAttempt>,
}

impl Sink {
    /// Opens a conversation, and takes up what was said where it is kept.
    ///
    /// # Errors
    /// A usage error for a model that cannot be resolved; otherwise when what is kept cannot be read.
    pub fn chat(&self, request: ChatRequest) -> Result<Chat> {
        if let Some(model) = &request.model {
            self.resolve_model(&request.agent, model)?;
        }
        let mut chat = Chat {
            request,
            transcript: Transcript::default(),
            serving: None,
        };
        if let Some(session) = chat.kept_session() {
            chat.transcript = self.transcript(chat.agent(), &session)?;
        }
        Ok(chat)
    }

    /// Carries out a command of the chat (`/model`, `/status`, `/new` and the like) in its session, as
    /// [`Sink::chat_command`] does, and follows it: after another model or account was chosen the session's counts, and
    /// `/new` begins the conversation anew. `None` for a message without a command, and in a chat without a session.
    ///
    /// # Errors
    /// As for [`Sink::chat_command`].
    pub fn chat_directive(&self, chat: &mut Chat, text: &str) -> Result<Option<CommandReply>> {
        let Some(session) = chat.session().cloned() else {
            return Ok(None);
        };
        let chosen = |info: SessionInfo| (info.provider_override, info.model_override, info.pin);
        let agent = chat.agent().clone();
        let before = self.session(&agent, &session)?;
        let model = before.model.clone();
        let Some(mut reply) = self.chat_command(&agent, &session, text)? else {
            return Ok(None);
        };
        if reply.new_session.is_some() {
            self.chat_anew(chat)?;
            chat.serving = None;
        } else if reply.model_chosen || chosen(before) != chosen(self.session(&agent, &session)?) {
            chat.follow_session();
        } else if let Some(opened_with) = &chat.request.model {
            // The session's model is in the answer, and does not serve here.
            let here = self.resolve_model(&agent, opened_with)?.key();
            if here != model {
                let line = format!("Here: {here} (--model), until you choose another with /model");
                reply.lines.push(line);
            }
        }
        Ok(Some(reply))
    }

    /// Begins the conversation anew. What was said is forgotten, also where it was kept.
    ///
    /// # Errors
    /// When the file of the conversation cannot be written.
    pub fn chat_anew(&self, chat: &mut Chat) -> Result<()> {
        if let Some(session) = chat.kept_session() {
            self.change_transcript(chat.agent(), &session, |kept| *kept = Transcript::default())?;
        }
        chat.transcript = Transcript::default();
        Ok(())
    }
}
