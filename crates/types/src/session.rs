//! The name of a conversation.

use std::fmt;

use thiserror::Error;

/// The longest key, in bytes. OpenClaw's longest (agent, channel, account, group, topic) stay below 200.
const LENGTH_MAX: usize = 512;

/// Why a text is no key of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionKeyError {
    /// Nothing but white space.
    #[error("the session key is empty; give one like agent:main:main")]
    Empty,
    /// Longer than any key that programs make.
    #[error("the session key has {0} bytes; {LENGTH_MAX} are allowed")]
    TooLong(usize),
    /// A line break or another control character.
    #[error("the session key holds a control character; give one like agent:main:main")]
    Control,
}

/// The key of a session in an agent's `sessions.json`: opaque, by OpenClaw's convention `agent:<agent>:<rest>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(String);

impl SessionKey {
    /// Takes a text of at most 512 bytes without control characters that is not blank, trimmed.
    ///
    /// # Errors
    /// [`SessionKeyError`].
    pub fn parse(text: &str) -> Result<Self, SessionKeyError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SessionKeyError::Empty);
        }
        if text.len() > LENGTH_MAX {
            return Err(SessionKeyError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(SessionKeyError::Control);
        }
        Ok(Self(text.to_owned()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for SessionKey {
    type Err = SessionKeyError;
    fn from_str(text: &str) -> Result<Self, SessionKeyError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let cases = [
            (" agent:main:main ", Ok("agent:main:main")),
            (
                "agent:a:telegram:group:-1@x/äö y",
                Ok("agent:a:telegram:group:-1@x/äö y"),
            ),
            (" \n", Err(SessionKeyError::Empty)),
            ("a\nb", Err(SessionKeyError::Control)),
            ("a\u{7f}", Err(SessionKeyError::Control)),
        ];
        for (text, want) in cases {
            let key = SessionKey::parse(text);
            assert_eq!(
                key.as_ref().map(SessionKey::as_str).map_err(|e| *e),
                want,
                "{text:?}"
            );
        }
        assert!(SessionKey::parse(&"x".repeat(512)).is_ok());
        assert_eq!(
            SessionKey::parse(&"x".repeat(513)),
            Err(SessionKeyError::TooLong(513))
        );
    }
}
