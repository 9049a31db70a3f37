//! Ids that are parsed once at the edge and never handled as raw strings afterwards. They go with every request and
//! every decision, so that a copy shares the text.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// Nothing but white space.
    #[error("{what} is empty; give {example}")]
    Empty {
        /// What kind of id was wanted.
        what: &'static str,
        /// One that would do.
        example: &'static str,
    },
    /// A character that the id may not hold.
    #[error("{what} {text:?} holds {found:?}; allowed are letters, digits and - _ . (for example {example})")]
    Character {
        /// What kind of id was wanted.
        what: &'static str,
        /// What was given.
        text: String,
        /// The first offending character.
        found: char,
        /// One that would do.
        example: &'static str,
    },
}

/// A normalised provider id: trimmed and lower-case (spec.md 3.1). Aliases are resolved by the provider registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProviderId(Arc<str>);

impl ProviderId {
    /// Normalises `text`.
    ///
    /// # Errors
    /// When nothing is left after trimming, or a character is neither a letter, a digit nor one of `- _ .`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        word("provider id", text, "anthropic").map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a login method of a provider (`--method`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MethodId(Arc<str>);

impl MethodId {
    /// Normalises `text` like a provider id.
    ///
    /// # Errors
    /// As for [`ProviderId::parse`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        word("method id", text, "oauth").map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn word(what: &'static str, text: &str, example: &'static str) -> Result<Arc<str>, IdError> {
    let text = text.trim().to_lowercase();
    if text.is_empty() {
        return Err(IdError::Empty { what, example });
    }
    match text
        .chars()
        .find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')))
    {
        Some(found) => Err(IdError::Character {
            what,
            text,
            found,
            example,
        }),
        None => Ok(text.into()),
    }
}

/// The id of one stored credential: opaque, by convention `<provider>:<name>` (spec.md 3.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileId(Arc<str>);

impl ProfileId {
    /// Takes any text that is not blank, trimmed.
    ///
    /// # Errors
    /// When nothing is left after trimming.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(IdError::Empty {
                what: "profile id",
                example: "anthropic:work",
            });
        }
        Ok(Self(text.into()))
    }

    /// `<provider>:<name>`; a blank name becomes `default`.
    #[must_use]
    pub fn of(provider: &ProviderId, name: &str) -> Self {
        let name = name.trim();
        let name = if name.is_empty() { "default" } else { name };
        Self(format!("{provider}:{name}").into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first colon, if there is one.
    #[must_use]
    pub fn provider_part(&self) -> Option<&str> {
        self.0.split_once(':').map(|(provider, _)| provider)
    }

    /// What stands after the first colon; the whole id where there is none.
    #[must_use]
    pub fn name_part(&self) -> &str {
        self.0.split_once(':').map_or(&*self.0, |(_, name)| name)
    }

    /// The name of a wizard profile made from free text (spec.md 3.2): lower-case, runs of other characters than
    /// `a-z 0-9 . _ -` become one dash, dashes at the ends go, nothing left gives `default`.
    #[must_use]
    pub fn slug(name: &str) -> String {
        let mut slug = String::new();
        for c in name.to_lowercase().chars() {
            match c {
                'a'..='z' | '0'..='9' | '.' | '_' => slug.push(c),
                _ if slug.ends_with('-') => {}
                _ => slug.push('-'),
            }
        }
        let slug = slug.trim_matches('-');
        if slug.is_empty() {
            "default".to_owned()
        } else {
            slug.to_owned()
        }
    }
}

macro_rules! display {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl std::str::FromStr for $id {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    )*};
}
display!(ProviderId, MethodId, ProfileId);

impl Borrow<str> for ProviderId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! as_text {
    ($($id:ty),*) => {$(
        impl TryFrom<String> for $id {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }
        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.0.as_ref().to_owned()
            }
        }
    )*};
}
as_text!(ProviderId, ProfileId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_ids_are_normalised() {
        assert_eq!(
            ProviderId::parse(" OpenAI-Codex ").unwrap().as_str(),
            "openai-codex"
        );
        assert_eq!(ProviderId::parse("z.ai").unwrap().as_str(), "z.ai");
        assert!(matches!(ProviderId::parse("  "), Err(IdError::Empty { .. })));
        assert!(matches!(
            ProviderId::parse("a/b"),
            Err(IdError::Character { found: '/', .. })
        ));
    }

    #[test]
    fn ids_are_written_as_text_and_checked_when_read() {
        let id = ProfileId::parse("rig:a").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"rig:a\"");
        assert_eq!(serde_json::from_str::<ProfileId>("\"rig:a\"").unwrap(), id);
        assert!(serde_json::from_str::<ProfileId>("\" \"").is_err());
        assert!(serde_json::from_str::<ProviderId>("\"a/b\"").is_err());
    }

    #[test]
    fn profile_ids_split_at_the_first_colon() {
        let id = ProfileId::parse("openai:user@example.com:x").unwrap();
        assert_eq!(id.provider_part(), Some("openai"));
        assert_eq!(id.name_part(), "user@example.com:x");
        let bare = ProfileId::parse("bare").unwrap();
        assert_eq!((bare.provider_part(), bare.name_part()), (None, "bare"));
        assert_eq!(
            ProfileId::of(&ProviderId::parse("rig").unwrap(), " ").as_str(),
            "rig:default"
        );
    }

    #[test]
    fn slugs() {
        let cases = [
            ("Work Laptop", "work-laptop"),
            ("--a//b--", "a-b"),
            ("", "default"),
            ("€", "default"),
            ("A.b_c-d", "a.b_c-d"),
        ];
        for (name, want) in cases {
            assert_eq!(ProfileId::slug(name), want, "{name:?}");
        }
    }
}
