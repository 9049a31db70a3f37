//! What a JSON body says about its routing: the model and where it stands, whether the answer is to stream, and what in
//! it belongs to one account.
//!
//! One pass, nothing built. It accepts exactly what RFC 8259 calls JSON, so that no other reader finds another model in
//! the same bytes: a key is compared as it reads after its escapes are undone, and a second `model`, in any case of its
//! letters, is an error, since readers differ in which one they take.
//!
//! Where a state of the provider is referred to is known by the APIs' field names. Values below a tool's schema, a
//! tool call's arguments and `metadata` are the user's own and do not count.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use super::errors::Refusal;
use super::route::Family;

mod json;

pub(super) use json::unescaped;
pub(super) use json::{Event, Reader};

/// How many references to an account's state are kept; one is enough to decide.
const TIES_MAX: usize = 8;

/// The longest text of a reference that is kept, in bytes.
const TIE_ID_MAX: usize = 200;

/// What a body says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The one top-level `model`, if there is one.
    pub model: Option<ModelField>,
    /// `"stream": true` at the top.
    pub stream: bool,
    /// `"store": true` at the top: the provider is to keep its answer.
    pub store: bool,
    /// What belongs to one account, in the order of the text.
    pub ties: Vec<Tie>,
}

/// The top-level `model` of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelField {
    /// Where its value stands, with its quotes, in bytes.
    pub range: Range<usize>,
    /// What it reads.
    pub text: String,
}

/// Something that only the account that made it can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// The API's word for it, for example `previous_response_id`.
    pub what: &'static str,
    /// Its id, where it has one of reasonable length.
    pub id: Option<String>,
}

/// Why a body cannot be routed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// Not JSON, at this byte.
    NotJson(usize),
    /// JSON, but no object.
    NotAnObject,
    /// Nested deeper than is read.
    TooDeep,
    /// More than one top-level `model`.
    TwoModels,
    /// `model` is not a text.
    ModelNotText,
}

impl Malformed {
    /// As an answer.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::NotJson(at) => Refusal::bad(
                "not_json",
                format!("the body is not JSON: byte {at} is not what it should be"),
            )
            .with_fix("send a JSON object with a model"),
            Self::NotAnObject => Refusal::bad("not_an_object", "the body is JSON, but not an object")
                .with_fix("send a JSON object with a model"),
            Self::TooDeep => Refusal::bad(
                "too_deep",
                format!("the body is nested more than {} deep", json::DEPTH_MAX),
            )
            .with_fix("send it to /<provider>/… where it is not read"),
            Self::TwoModels => Refusal::bad(
                "two_models",
                "the body names the model twice, and programs differ in which one they take",
            )
            .with_fix("send one \"model\""),
            Self::ModelNotText => Refusal::bad("bad_model", "the model is not a text")
                .with_fix("send the model as \"<provider>/<model>\", an alias, or a model's name"),
        }
    }
}

/// A change of a body: these bytes are another text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced, in bytes.
    pub range: Range<usize>,
    /// By what.
    pub text: String,
}

impl Edit {
    /// The edit that makes `field` name `model`.
    #[must_use]
    pub fn of_model(field: &ModelField, model: &str) -> Self {
        Self {
            range: field.range.clone(),
            text: Value::from(model).to_string(),
        }
    }

    /// The body after the change. A range outside of the body changes nothing.
    #[must_use]
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        match (body.get(..self.range.start), body.get(self.range.end..)) {
            (Some(before), Some(after)) => [before, self.text.as_bytes(), after].concat(),
            _ => body.to_vec(),
        }
    }
}

/// Reads `body`.
///
/// # Errors
/// See [`Malformed`].
pub fn outline(body: &[u8], family: Family) -> Result<Outline, Malformed> {
    let mut reader = Reader::new(body)?;
    let mut walk = Walk {
        family,
        outline: Outline::default(),
        stack: Vec::new(),
    };
    while let Some(event) = reader.next()? {
        match event {
            Event::ObjectStart | Event::ArrayStart => {
                if walk.stack.is_empty() && event != Event::ObjectStart {
                    return Err(Malformed::NotAnObject);
                }
                walk.enter()?;
            }
            Event::End => {
                walk.stack.pop();
            }
            Event::Key(text) => walk.key(&json::unescaped(text))?,
            Event::Text(text, range) => walk.text(text, range)?,
            Event::True => walk.scalar(true)?,
            Event::Other => walk.scalar(false)?,
        }
    }
    Ok(walk.outline)
}

/// The keys that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Model,
    Stream,
    Store,
    PreviousResponseId,
    Conversation,
    Container,
    Prompt,
    EncryptedContent,
    FileId,
    FileIds,
    VectorStoreIds,
    Id,
    Type,
    Input,
    UsersOwn,
    Other,
}

impl Key {
    fn of(text: &str, depth: usize) -> Self {
        match text {
            "model" if depth == 1 => Self::Model,
            "stream" if depth == 1 => Self::Stream,
            "store" if depth == 1 => Self::Store,
            "previous_response_id" if depth == 1 => Self::PreviousResponseId,
            "conversation" if depth == 1 => Self::Conversation,
            "prompt" if depth == 1 => Self::Prompt,
            "metadata" if depth == 1 => Self::UsersOwn,
            "container" => Self::Container,
            "encrypted_content" => Self::EncryptedContent,
            // What batches, fine-tuning and evaluations are made from.
            "file_id" | "input_file_id" | "training_file" | "validation_file" => Self::FileId,
            "file_ids" => Self::FileIds,
            "vector_store_ids" => Self::VectorStoreIds,
            "id" => Self::Id,
            "type" => Self::Type,
            // Below an item or a block it is what a tool was called with; at the top it is the conversation.
            "input" if depth > 1 => Self::Input,
            "input_schema" | "parameters" | "schema" | "arguments" => Self::UsersOwn,
            _ => Self::Other,
        }
    }
}

/// Where the walk is: one of these for each open object or array.
struct Level {
    /// The key under which the object or array stands.
    under: Key,
    /// The last key within it.
    key: Key,
    /// Nothing below counts.
    users_own: bool,
}

struct Walk {
    family: Family,
    outline: Outline,
    stack: Vec<Level>,
}

impl Walk {
    fn enter(&mut self) -> Result<(), Malformed> {
        let Some(level) = self.stack.last() else {
            self.stack.push(Level {
                under: Key::Other,
                key: Key::Other,
                users_own: false,
            });
            return Ok(());
        };
        let (under, users_own) = (level.key, level.users_own);
        if under == Key::Model && self.stack.len() == 1 {
            return Err(Malformed::ModelNotText);
        }
        self.stack.push(Level {
            under,
            // The elements of an array stand under its key.
            key: under,
            users_own: users_own || matches!(under, Key::UsersOwn | Key::Input),
        });
        Ok(())
    }

    fn key(&mut self, text: &str) -> Result<(), Malformed> {
        let depth = self.stack.len();
        if depth == 1 && text.eq_ignore_ascii_case("model") {
            // `Model` alone is no model, but beside `model` it is one to some readers (Go's encoding/json).
            let known = self.outline.model.is_some();
            if known || self.stack.first().is_some_and(|level| level.under == Key::Model) {
                return Err(Malformed::TwoModels);
            }
            // The first level stands under nothing; there it is remembered that the key was seen.
            if let Some(level) = self.stack.first_mut() {
                level.under = Key::Model;
            }
        }
        if let Some(level) = self.stack.last_mut() {
            level.key = Key::of(text, depth);
        }
        Ok(())
    }

    fn text(&mut self, raw: &str, range: Range<usize>) -> Result<(), Malformed> {
        let Some(level) = self.stack.last() else {
            return Err(Malformed::NotAnObject);
        };
        if self.stack.len() == 1 && level.key == Key::Model {
            self.outline.model = Some(ModelField {
                range,
                text: json::unescaped(raw).into_owned(),
            });
            return Ok(());
        }
        if level.users_own || raw.is_empty() {
            return Ok(());
        }
        let openai = self.family == Family::OpenAi;
        let what = match (level.key, level.under) {
            (Key::PreviousResponseId, _) => "previous_response_id",
            (Key::Conversation, _) | (Key::Id, Key::Conversation) => "conversation",
            (Key::Container, _) | (Key::Id, Key::Container) => "container",
            (Key::Id, Key::Prompt) => "prompt",
            (Key::FileId, _) => "file_id",
            (Key::FileIds, _) => "file_ids",
            (Key::VectorStoreIds, _) => "vector_store_ids",
            (Key::EncryptedContent, _) if openai => "encrypted_content",
            (Key::Type, _) if openai => match &*json::unescaped(raw) {
                "item_reference" => "item_reference",
                // With its content encrypted, or by its id only.
                "reasoning" | "reasoning.encrypted" => "reasoning",
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        // Not an id, and long.
        let has_id = !matches!(what, "encrypted_content" | "item_reference" | "reasoning");
        self.tie(what, has_id.then(|| json::unescaped(raw)));
        Ok(())
    }

    fn tie(&mut self, what: &'static str, id: Option<Cow<'_, str>>) {
        if self.outline.ties.len() < TIES_MAX {
            let id = id.filter(|id| id.len() <= TIE_ID_MAX).map(Cow::into_owned);
            self.outline.ties.push(Tie { what, id });
        }
    }

    fn scalar(&mut self, is_true: bool) -> Result<(), Malformed> {
        match self.stack.last() {
            None => Err(Malformed::NotAnObject),
            Some(level) if self.stack.len() == 1 && level.key == Key::Model => Err(Malformed::ModelNotText),
            Some(level) => {
                match level.key {
                    Key::Stream if self.stack.len() == 1 => self.outline.stream = is_true,
                    Key::Store if self.stack.len() == 1 => self.outline.store = is_true,
                    _ => {}
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
