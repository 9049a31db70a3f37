//! The commands of a chat: what they change and what they answer (spec.md 17.3 to 17.8).

use tokensink_policy::directive::{self, Directive, ModelRef};
use tokensink_policy::pin::PinSource;
use tokensink_types::{AgentId, SessionKey};

use super::pins::make_way;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// What a command of a chat answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandReply {
    /// The answer, a line each. Secrets are masked.
    pub lines: Vec<String>,
    /// The message without the command, for the model; it may be empty, and may hold another command.
    pub rest: String,
    /// The id of the new conversation, after `/new` and `/reset`: what was said before is not part of it.
    pub new_session: Option<String>,
    /// `/model <model>` (or an alias) was written: the session's model counts from now on, also where it was that before.
    pub model_chosen: bool,
}

impl Sink {
    /// Finds a command in a message, carries it out and answers: `/model`, `/model status`, `/model list`,
    /// `/model <model>[@<profile>]`, `/models [provider]`, `/<alias>` of the config, `/status`, `/new`, `/reset`
    /// (spec.md 17.1). The last two and the lists count only at the beginning of a message. `None` when the message
    /// holds no command.
    ///
    /// # Errors
    /// A usage error, with the sentence of spec.md 17, for what cannot be done: nothing has changed then. Otherwise when
    /// the sessions, the agent's store or the config cannot be read or written.
    pub fn chat_command(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        message: &str,
    ) -> Result<Option<CommandReply>> {
        let models = self.models_view(agent)?;
        let aliases: Vec<&str> = models.aliases.iter().map(|(alias, _)| alias.as_str()).collect();
        let Some(found) = directive::parse(message, &aliases) else {
            return Ok(None);
        };
        let reply = |lines: Vec<String>| CommandReply {
            lines,
            rest: found.rest.clone(),
            new_session: None,
            model_chosen: matches!(found.directive, Directive::SetModel(_)),
        };
        Ok(match &found.directive {
            Directive::Model => Some(reply(self.current_model(agent, key)?)),
            Directive::ModelStatus => Some(reply(self.model_status(agent, key)?)),
            Directive::Status => Some(reply(self.session_status(agent, key)?)),
            Directive::SetModel(wanted) => Some(reply(self.choose_model(agent, key, wanted)?)),
            Directive::Runtime(id) => return Err(no_runtime(id)),
            Directive::ModelList => Some(self.list_of_models(agent, &found.rest)?),
            Directive::NewSession => {
                let (lines, id) = self.new_session(agent, key)?;
                Some(CommandReply {
                    new_session: id,
                    ..reply(lines)
                })
            }
        })
    }

    /// Refuses a message that begins with a `/word` and in which no command was found, so that a typing error does not
    /// become a question that costs something. `more` are the commands of a terminal. A space before the word sends it.
    ///
    /// # Errors
    /// A usage error with the nearest command, or all of them; when the config cannot be read.
    pub fn check_chat_word(&self, agent: &AgentId, message: &str, more: &[&str]) -> Result<()> {
        let Some(word) = directive::leading_word(message) else {
            return Ok(());
        };
        let usage = |code, why: String, fix: String| {
            let message = format!("{why}; with a space before it, it is sent as it stands");
            Err(SinkError::new(ErrorKind::Usage, code, message).with_fix(fix))
        };
        let models = self.models_view(agent)?;
        let aliases = models.aliases.iter().map(|(alias, _)| alias.as_str());
        let known: Vec<&str> = directive::WORDS.into_iter().chain(aliases).collect();
        let is = |one: &&str| one.eq_ignore_ascii_case(word);
        if known.iter().any(is) {
            let fix = "tokensink chat --session <name>".to_owned();
            return usage(
                "no_session",
                format!("/{word} is about a session, and none is named"),
                fix,
            );
        }
        if more.iter().any(is) {
            let fix = if word.eq_ignore_ascii_case("help") {
                with_slashes(&known)
            } else {
                "end the input instead".to_owned()
            };
            return usage("no_terminal", format!("/{word} is a command of a terminal"), fix);
        }
        let known: Vec<&str> = known.into_iter().chain(more.iter().copied()).collect();
        let fix = match tokensink_providers::nearest(word, known.iter().copied(), 1).first() {
            Some(nearest) => format!("/{nearest}"),
            None => with_slashes(&known),
        };
        usage("unknown_command", format!("there is no command /{word}"), fix)
    }

    /// `/model <model>[@<profile>]`: the model is the session's from now on; with a profile it is pinned, without one no
    /// profile is (spec.md 17.4). The default model is not stored, so that the session follows it.
    fn choose_model(&self, agent: &AgentId, key: &SessionKey, wanted: &ModelRef) -> Result<Vec<String>> {
        let default = self.models_view(agent)?.resolved_default;
        let text = match &wanted.profile {
            Some(profile) => format!("{}@{profile}", wanted.model),
            None => wanted.model.clone(),
        };
        check_words(wanted)?;
        let is_default_word = wanted.model.eq_ignore_ascii_case("default");
        let text = match &wanted.profile {
            None if is_default_word => default.clone(),
            Some(profile) if is_default_word => format!("{default}@{profile}"),
            _ => text,
        };
        let target = self.resolve_model(agent, &text)?;
        let is_default = target.key() == default;
        let snapshot = self.snapshot(agent)?;
        self.update_session(agent, key, |session| {
            let chosen = (!is_default).then(|| (target.provider.to_string(), target.model.clone()));
            (session.provider_override, session.model_override) = chosen.unzip();
            make_way(session, &snapshot, &target.provider);
            if let Some(profile) = &target.profile {
                session.profile = Some(profile.clone());
                session.profile_source = Some(PinSource::User.as_str().to_owned());
                session.fresh = false;
            }
            session.made = false;
        })?;
        let named = match &target.alias_of {
            Some(alias) => format!("{alias} ({})", target.key()),
            None => target.key(),
        };
        let mut line = if is_default {
            format!("Model reset to default ({named}).")
        } else {
            format!("Model set to {named}.")
        };
        if let Some(profile) = &target.profile {
            line += &format!(" Auth profile set to {profile}.");
        }
        Ok(vec![line])
    }

    fn new_session(&self, agent: &AgentId, key: &SessionKey) -> Result<(Vec<String>, Option<String>)> {
        let before = self.session(agent, key)?;
        let before = self.pin_of_model(&before).map(|pin| pin.profile.clone());
        let now = self.reset_session(agent, key)?;
        let mut line = "New session started.".to_owned();
        let moved = self
            .pin_of_model(&now)
            .filter(|pin| before.as_ref() != Some(&pin.profile));
        if let Some(pin) = moved {
            let was = before.map_or_else(String::new, |before| format!(", before {before}"));
            line += &format!(" Its account is {}{was}.", pin.profile);
        }
        Ok((vec![line], now.session_id))
    }
}

fn with_slashes(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("/{word}")).collect();
    words.join(", ")
}

/// What cannot be a model (spec.md 17.3, 17.5).
fn check_words(wanted: &ModelRef) -> Result<()> {
    let usage = |code, message: &str| {
        let fix = "/model <provider>/<model>[@<profile>]; /models lists them";
        Err(SinkError::new(ErrorKind::Usage, code, message).with_fix(fix))
    };
    let model = wanted.model.trim();
    let is_word = ["status", "list"]
        .iter()
        .any(|word| model.eq_ignore_ascii_case(word));
    if model.starts_with('@') || (wanted.profile.is_some() && is_word) {
        return usage("no_model", "Auth profile override requires a model selection.");
    }
    if !model.is_empty() && model.bytes().all(|byte| byte.is_ascii_digit()) {
        return usage(
            "numeric_model",
            "Numeric model selection is not supported in chat.",
        );
    }
    Ok(())
}

/// A runtime is not chosen here: which program asks follows from the login that is in use.
fn no_runtime(id: &str) -> SinkError {
    let message = format!(
        "the runtime \"{id}\" cannot be chosen: models of anthropic are asked through claude where its login is in use, \
         every other one by the API of its provider"
    );
    SinkError::new(ErrorKind::Usage, "no_runtime", message).with_fix(
        "/model <provider>/<model>[@<profile>] alone; /model claude-cli/<model> for claude, whatever its login",
    )
}
