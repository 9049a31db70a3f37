//! Small helpers over JSON values that may hold secrets: parsing, numbers as instants, order-keeping removal, wiping,
//! the house's layout.
//!
//! Nothing here knows what a credential is.

use std::fmt;
use std::mem;

use serde_json::{Map, Value};
use tokensink_types::{Secret, UnixMillis, wipe as wipe_bytes};

/// Where and why a text is not what it should be. Holds nothing of the text itself, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseFailure {
    /// Line, counted from 1; 0 where the place is not known.
    pub line: usize,
    /// Column, counted from 1; 0 where the place is not known.
    pub column: usize,
    /// What is wrong, in words.
    pub why: String,
}

impl ParseFailure {
    /// A failure that concerns the file as a whole.
    pub(crate) fn whole(why: impl Into<String>) -> Self {
        Self {
            line: 0,
            column: 0,
            why: why.into(),
        }
    }
}

impl From<&serde_json::Error> for ParseFailure {
    fn from(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or_default().to_owned();
        Self {
            line: error.line(),
            column: error.column(),
            why,
        }
    }
}

/// A JSON object whose texts may be secrets: `Debug` shows the number of keys only, and the memory of every text
/// is overwritten on drop.
#[derive(Clone, Default, PartialEq)]
pub struct SecretMap(pub Map<String, Value>);

impl fmt::Debug for SecretMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretMap({} keys)", self.0.len())
    }
}

impl Drop for SecretMap {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Overwrites every text in `value`.
pub fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => wipe_bytes(&mut mem::take(text).into_bytes()),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Parses an object; a byte order mark in front is skipped.
///
/// # Errors
/// When the text is no JSON, or something else than an object.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ParseFailure> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(ParseFailure::whole("the file is empty"));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(mut other) => {
            let kind = kind(&other);
            wipe(&mut other);
            Err(ParseFailure::whole(format!(
                "the file holds {kind} where an object was expected"
            )))
        }
        Err(error) => Err(ParseFailure::from(&error)),
    }
}

/// What sort of value it is, in words.
#[must_use]
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The layout of all JSON files of the state directory: two spaces and a final newline (spec.md 1.11).
pub(crate) fn to_bytes(map: &Map<String, Value>) -> Vec<u8> {
    // An in-memory map with text keys cannot fail to serialise; the fallback keeps the signature plain.
    let mut bytes = serde_json::to_vec_pretty(map).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Removes a key and keeps the order of the others.
pub fn take(map: &mut Map<String, Value>, key: &str) -> Option<Value> {
    map.shift_remove(key)
}

/// A text that is not blank, trimmed.
#[must_use]
pub fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    let text = map.get(key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A secret text, as it stands. It is moved out, so that there is no second copy; a blank one stays in its place.
pub fn take_secret(map: &mut Map<String, Value>, key: &str) -> Option<Secret> {
    match map.get_mut(key)? {
        Value::String(text) => Some(Secret::new(mem::take(text))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// An instant in milliseconds; fractions are cut off (age A wrote file times as floats).
#[must_use]
pub fn millis(value: &Value) -> Option<UnixMillis> {
    if let Some(whole) = value.as_i64() {
        return Some(UnixMillis(whole));
    }
    let float = value.as_f64().filter(|float| float.is_finite())?;
    // The float type's limits lie outside of any date, so anything beyond 2^53 is no instant.
    if float.abs() > 9_007_199_254_740_992.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    Some(UnixMillis(float as i64))
}

/// A count; anything that is no whole number of at least 0 reads as `None`.
pub(crate) fn count(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| millis(value).and_then(|whole| u64::try_from(whole.0).ok()))
}

/// The object under `key`, made if it is missing; a value of another kind is replaced.
pub(crate) fn object_at<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = map
        .entry(key.to_owned())
        .or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("the slot was made an object above")
        }
    }
}

/// The object under `key`, if there is one.
#[must_use]
pub fn object<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    map.get(key)?.as_object()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_as_instants() {
        let cases = [
            (json!(5), Some(5)),
            (json!(1_795_234_269_543.101), Some(1_795_234_269_543)),
            (json!(-3), Some(-3)),
            (json!(1e300), None),
            (json!("5"), None),
            (json!(null), None),
        ];
        for (value, want) in cases {
            assert_eq!(millis(&value).map(|at| at.0), want, "{value}");
        }
    }

    #[test]
    fn failures_do_not_quote_the_text() {
        let failure = parse_object(b"{\n  \"a\": sk-canary }").unwrap_err();
        assert_eq!((failure.line, failure.column), (2, 8));
        assert!(!failure.why.contains("canary"), "{}", failure.why);
        assert!(parse_object(b"[1]").unwrap_err().why.contains("an array"));
        assert_eq!(parse_object(b"").unwrap_err().why, "the file is empty");
        assert!(parse_object(b"\xef\xbb\xbf{}").is_ok());
    }

    #[test]
    fn debug_hides_the_texts() {
        let map = SecretMap(parse_object(br#"{"key":"canary"}"#).unwrap());
        assert_eq!(format!("{map:?}"), "SecretMap(1 keys)");
    }
}
