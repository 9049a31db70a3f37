//! The conversation of a session, kept in a file of our own so that it can be taken up again.
//!
//! `tokensink/state/chat/<agent>/<hash of the session key>.json`, mode 0600: `{version, session, dropped, messages:
//! [{role, text}], program?: {session, seen}}`. A turn is added under a lock on what is there by then, so that two chats
//! in one session lose nothing of each other. A file that does not parse is never written over; unknown keys stay.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokensink_host::lock::{KernelLock, Wait};
use tokensink_host::{Host, atomic};
use tokensink_types::{AgentId, SessionKey};

use super::build::{Message, Role};
use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// Most text of one conversation that is kept, in bytes. What is older is dropped; no model takes more of it.
const KEPT_BYTES: usize = 4 << 20;
/// How long another chat of the same session may hold the file.
const LOCK_TIME: Duration = Duration::from_secs(10);

/// What was said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Transcript {
    /// The messages, oldest first.
    pub(super) messages: Vec<Message>,
    /// How many older ones are no longer kept.
    dropped: usize,
    /// The program that knows the conversation under a name of its own.
    pub(super) program: Option<ProgramSession>,
}

/// A conversation as a program knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProgramSession {
    /// The program's name for it.
    pub(super) id: String,
    /// How many messages of ours it has seen.
    pub(super) seen: usize,
}

impl Transcript {
    /// How many messages there were in all.
    pub(super) fn total(&self) -> usize {
        self.dropped + self.messages.len()
    }

    /// Adds a question and its answer; `program` is the program's name for the conversation, where it answered.
    pub(super) fn add(&mut self, question: &str, answer: &str, program: Option<&str>) {
        for (role, text) in [(Role::User, question), (Role::Assistant, answer)] {
            self.messages.push(Message {
                role,
                text: text.to_owned(),
            });
        }
        if let Some(id) = program {
            self.program = Some(ProgramSession {
                id: id.to_owned(),
                seen: self.total(),
            });
        }
        let mut size: usize = self.messages.iter().map(|message| message.text.len()).sum();
        let excess = self.messages.iter().take_while(|message| {
            let too_much = size > KEPT_BYTES;
            size -= message.text.len();
            too_much
        });
        // A question goes with its answer.
        let excess = excess.count().next_multiple_of(2).min(self.messages.len());
        self.messages.drain(..excess);
        self.dropped += excess;
    }

    fn of(map: &Map<String, Value>) -> Option<Self> {
        if map.get("version").and_then(Value::as_u64) != Some(1) {
            return None;
        }
        let number = |value: Option<&Value>| usize::try_from(value?.as_u64()?).ok();
        let message = |value: &Value| {
            let role = match value["role"].as_str()? {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                _ => return None,
            };
            let text = value["text"].as_str()?.to_owned();
            Some(Message { role, text })
        };
        let messages = map.get("messages")?.as_array()?.iter().map(message);
        let program = map.get("program").and_then(|program| {
            Some(ProgramSession {
                id: program["session"].as_str()?.to_owned(),
                seen: number(program.get("seen"))?,
            })
        });
        Some(Self {
            messages: messages.collect::<Option<_>>()?,
            dropped: number(map.get("dropped")).unwrap_or(0),
            program,
        })
    }

    fn put(&self, map: &mut Map<String, Value>, session: &SessionKey) {
        let message = |message: &Message| json!({"role": message.role.as_str(), "text": message.text});
        let messages: Vec<Value> = self.messages.iter().map(message).collect();
        map.insert("version".to_owned(), json!(1));
        map.insert("session".to_owned(), json!(session.as_str()));
        map.insert("dropped".to_owned(), json!(self.dropped));
        map.insert("messages".to_owned(), json!(messages));
        match &self.program {
            Some(program) => {
                let value = json!({"session": program.id, "seen": program.seen});
                map.insert("program".to_owned(), value);
            }
            None => drop(map.shift_remove("program")),
        }
    }
}

impl Sink {
    fn chat_file(&self, agent: &AgentId, session: &SessionKey) -> PathBuf {
        let hash = hex::encode(Sha256::digest(session.as_str()));
        let dir = self.paths().own_state_dir().join("chat").join(agent.as_str());
        dir.join(format!("{}.json", &hash[..32]))
    }

    /// What was said in this session so far.
    pub(super) fn transcript(&self, agent: &AgentId, session: &SessionKey) -> Result<Transcript> {
        let path = self.chat_file(agent, session);
        let map = read(self.host(), &path)?;
        map.map_or_else(|| Ok(Transcript::default()), |map| parsed(&map, &path))
    }

    /// Changes what is kept of this session, and gives what is there afterwards.
    pub(super) fn change_transcript(
        &self,
        agent: &AgentId,
        session: &SessionKey,
        change: impl FnOnce(&mut Transcript),
    ) -> Result<Transcript> {
        let path = self.chat_file(agent, session);
        let host = self.host();
        let failed = |error: &dyn std::fmt::Display| {
            let message = format!(
                "the conversation could not be kept in {}: {error}",
                path.display()
            );
            SinkError::new(ErrorKind::Failed, "chat_not_kept", message)
        };
        let dir = path.parent().unwrap_or(&path);
        atomic::ensure_dir(&*host.files, dir, 0o700).map_err(|error| failed(&error))?;
        let wait = Wait { deadline: LOCK_TIME };
        let lock = self.paths().file_lock(&path);
        let _lock = KernelLock::acquire(host, &lock, wait).map_err(|error| failed(&error))?;
        let mut map = read(host, &path)?.unwrap_or_default();
        let mut transcript = if map.is_empty() {
            Transcript::default()
        } else {
            parsed(&map, &path)?
        };
        change(&mut transcript);
        transcript.put(&mut map, session);
        let text = Value::Object(map).to_string();
        atomic::replace(&*host.files, &*host.random, &path, text.as_bytes(), 0o600)
            .map_err(|error| failed(&error))?;
        Ok(transcript)
    }
}

fn read(host: &Host, path: &Path) -> Result<Option<Map<String, Value>>> {
    let bytes = atomic::read_stable(&*host.files, path).map_err(|error| {
        let message = format!("the conversation in {} cannot be read: {error}", path.display());
        SinkError::new(ErrorKind::Failed, "chat_unreadable", message)
    })?;
    let Some((bytes, _)) = bytes else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| unusable(path).because(error))
}

fn parsed(map: &Map<String, Value>, path: &Path) -> Result<Transcript> {
    Transcript::of(map).ok_or_else(|| unusable(path))
}

fn unusable(path: &Path) -> SinkError {
    let path = quoted(&path.to_string_lossy());
    let message = format!("{path} is no conversation that this version can read; it is left as it is");
    SinkError::new(ErrorKind::Failed, "chat_unreadable", message).with_fix(format!("mv {path} {path}.old"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{World, agent};

    fn key() -> SessionKey {
        SessionKey::parse("agent:main:chat").unwrap()
    }

    #[test]
    fn a_conversation_is_taken_up_again() {
        let world = World::new();
        let (first, second) = (world.sink(), world.sink());
        assert_eq!(
            first.transcript(&agent("main"), &key()).unwrap(),
            Transcript::default()
        );
        let add = |sink: &Sink, question: &str, program: Option<&str>| {
            sink.change_transcript(&agent("main"), &key(), |kept| kept.add(question, "fine", program))
                .unwrap()
        };
        add(&first, "how are you?", None);
        let kept = add(&second, "and now?", Some("s-1"));
        assert_eq!(first.transcript(&agent("main"), &key()).unwrap(), kept);
        let texts: Vec<&str> = kept
            .messages
            .iter()
            .map(|message| message.text.as_str())
            .collect();
        assert_eq!(texts, ["how are you?", "fine", "and now?", "fine"]);
        let program = ProgramSession {
            id: "s-1".to_owned(),
            seen: 4,
        };
        assert_eq!(kept.program, Some(program));
        let other = SessionKey::parse("agent:main:other").unwrap();
        assert_eq!(first.transcript(&agent("main"), &other).unwrap().total(), 0);
        assert_eq!(first.transcript(&agent("work"), &key()).unwrap().total(), 0);
    }

    #[test]
    fn what_is_too_old_is_dropped_in_pairs() {
        let mut transcript = Transcript::default();
        let long = "x".repeat(KEPT_BYTES / 3);
        for _ in 0..4 {
            transcript.add(&long, "short", Some("s-1"));
        }
        assert_eq!((transcript.messages.len(), transcript.total()), (4, 8));
        assert_eq!(transcript.messages[0].role, Role::User);
        assert_eq!(transcript.program.as_ref().map(|program| program.seen), Some(8));
        transcript.add(&"x".repeat(KEPT_BYTES + 1), "", None);
        assert_eq!((transcript.messages.len(), transcript.total()), (0, 10));
    }

    #[test]
    fn a_file_that_is_none_is_left_alone() {
        for text in [
            "{",
            r#"{"version": 2, "messages": []}"#,
            r#"{"version": 1, "messages": [{}]}"#,
            "[]",
        ] {
            let world = World::new();
            let sink = world.sink();
            let path = sink.chat_file(&agent("main"), &key());
            world.test.files.put(&path, text, 0o600);
            let error = sink.transcript(&agent("main"), &key()).unwrap_err();
            assert_eq!(error.code(), "chat_unreadable", "{text}");
            assert!(error.fix().is_some_and(|fix| fix.starts_with("mv ")));
            sink.change_transcript(&agent("main"), &key(), |kept| kept.add("a", "b", None))
                .unwrap_err();
            assert_eq!(world.test.files.snapshot()[&path], text.as_bytes());
        }
    }

    #[test]
    fn keys_of_others_stay() {
        let world = World::new();
        let sink = world.sink();
        let path = sink.chat_file(&agent("main"), &key());
        world.test.files.put(
            &path,
            r#"{"version": 1, "messages": [], "later": {"a": 1}}"#,
            0o600,
        );
        sink.change_transcript(&agent("main"), &key(), |kept| kept.add("a", "b", None))
            .unwrap();
        let text = String::from_utf8(world.test.files.snapshot()[&path].clone()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["later"]["a"], value["messages"].as_array().map(Vec::len)),
            (&json!(1), Some(2))
        );
    }
}
