//! Agent ids (spec.md 15.1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest agent id, in characters (spec.md 15.1).
const LENGTH_MAX: usize = 64;

/// A normalised agent id, safe as a directory name: lower-case letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct AgentId(Arc<str>);

impl AgentId {
    /// The agent that every host has; others inherit from it.
    pub const MAIN: &'static str = "main";

    /// Normalises any text (spec.md 15.1): lower-case; characters other than letters, digits, `_` and `-` become
    /// dashes; dashes at the ends go; at most 64 characters; nothing left gives `main`.
    #[must_use]
    pub fn normalise(text: &str) -> Self {
        let lower = text.trim().to_lowercase();
        if is_plain(&lower) {
            return Self(lower.into());
        }
        let mapped: String = lower
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let mut id: String = mapped.trim_matches('-').chars().take(LENGTH_MAX).collect();
        if id.is_empty() {
            id.push_str(Self::MAIN);
        }
        Self(id.into())
    }

    /// The agent `main`.
    #[must_use]
    pub fn main() -> Self {
        Self(Self::MAIN.into())
    }

    /// True for the agent `main`.
    #[must_use]
    pub fn is_main(&self) -> bool {
        *self.0 == *Self::MAIN
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= LENGTH_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for AgentId {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::normalise(text))
    }
}

impl From<String> for AgentId {
    fn from(text: String) -> Self {
        Self::normalise(&text)
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        let long = "x".repeat(80);
        let cases = [
            ("work", "work"),
            (" Work ", "work"),
            ("my agent!", "my-agent"),
            ("../../etc", "etc"),
            ("", "main"),
            ("---", "main"),
            ("a-", "a-"),
            (long.as_str(), &long[..64]),
        ];
        for (text, want) in cases {
            assert_eq!(AgentId::normalise(text).as_str(), want, "{text:?}");
        }
    }
}
