//! What counts as a secret, wherever it comes from.

use std::fmt;

use serde_json::Value;
use tokensink_types::Secret;

/// What OpenClaw shows in the place of a secret; as a value it was pasted by mistake (spec.md 16.6).
pub(crate) const REDACTED: &str = "__OPENCLAW_REDACTED__";

/// A text that is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blank {
    Empty,
    Redacted,
}

impl fmt::Display for Blank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "holds nothing but white space",
            Self::Redacted => "holds the placeholder of a hidden secret, not the secret",
        })
    }
}

/// The secret in `text`: white space around it, such as the line end that most programs print, does not belong to it.
pub(super) fn usable(text: &str) -> Result<Secret, Blank> {
    match text.trim() {
        "" => Err(Blank::Empty),
        REDACTED => Err(Blank::Redacted),
        text => Ok(Secret::new(text)),
    }
}

/// What sort of value it is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
