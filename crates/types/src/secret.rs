//! Secrets as a type that cannot be printed by accident.

use std::fmt;
use std::mem;
use std::sync::Arc;

use zeroize::optimization_barrier;

/// A token, key or code. It has no `Display` and no serializer; `Debug` shows only that something is there.
/// [`Secret::expose`] marks every place where the text leaves the type. A clone shares the text, so that there is one
/// copy of it in memory; that is overwritten when the last clone is dropped.
#[derive(Clone)]
pub struct Secret(Arc<Text>);

/// The one copy of a secret's text.
struct Text(String);

impl Drop for Text {
    fn drop(&mut self) {
        wipe(&mut mem::take(&mut self.0).into_bytes());
    }
}

/// Overwrites all that `bytes` has room for, and empties it. As `zeroize` does, but as fast as memory is: that writes
/// byte by byte, and a store of 1,000 logins holds megabytes.
pub fn wipe(bytes: &mut Vec<u8>) {
    blank(bytes);
    // Without it, the compiler might leave out writes to memory that is about to be freed.
    optimization_barrier(bytes.as_slice());
    bytes.clear();
}

/// Zeros from the first byte to the end of the room: what lies behind the end may be left of a longer content.
fn blank(bytes: &mut Vec<u8>) {
    // Growing to the capacity moves nothing.
    bytes.resize(bytes.capacity(), 0);
    bytes.fill(0);
}

impl Secret {
    /// Wraps `text` as it is; cleaning pasted input is the caller's work.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Text(text.into())))
    }

    /// The text itself. Only request builders, the store and the final hand-out call this.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0.0
    }

    /// Is this its text? Compares without stopping at the first difference, so that timing tells nothing but the length.
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        let own = self.expose().as_bytes();
        own.len() == text.len() && own.iter().zip(text).fold(0_u8, |acc, (x, y)| acc | (x ^ y)) == 0
    }

    /// True when nothing but white space is there; such a value counts as absent everywhere.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.expose().trim().is_empty()
    }

    /// A label that identifies the secret to its owner without giving it away (spec.md 12.2, age C2):
    /// up to 6 characters show one at each end, up to 16 two, longer ones eight.
    #[must_use]
    pub fn masked(&self) -> String {
        let chars: Vec<char> = self.expose().trim().chars().collect();
        let shown = match chars.len() {
            0 => return "missing".to_owned(),
            1..=6 => 1,
            7..=16 => 2,
            _ => 8,
        };
        let head: String = chars[..shown].iter().collect();
        let tail: String = chars[chars.len() - shown..].iter().collect();
        format!("{head}...{tail}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    /// As [`Secret::is`].
    fn eq(&self, other: &Self) -> bool {
        self.is(other.expose().as_bytes())
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// The bytes of a request or response body. Token endpoints answer with secrets, so `Debug` shows the length only.
/// Overwritten on drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Body(Vec<u8>);

impl Drop for Body {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl Body {
    /// Wraps the bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for a body of no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("sk-canary")), "Secret(..)");
        assert_eq!(format!("{:?}", Body::new("canary")), "Body(6 bytes)");
    }

    #[test]
    fn masks_by_length() {
        let cases = [
            ("", "missing"),
            ("  ", "missing"),
            ("a", "a...a"),
            ("abcdef", "a...f"),
            ("abcdefg", "ab...fg"),
            ("0123456789abcdef", "01...ef"),
            ("0123456789abcdefg", "01234567...9abcdefg"),
        ];
        for (text, want) in cases {
            assert_eq!(Secret::new(text).masked(), want, "{text:?}");
        }
    }

    #[test]
    fn the_whole_room_is_blanked_where_it_is() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"a canary, and more of it behind the end");
        bytes.truncate(8);
        let (place, room) = (bytes.as_ptr(), bytes.capacity());
        blank(&mut bytes);
        assert_eq!((bytes.as_ptr(), bytes.len()), (place, room));
        assert!(bytes.iter().all(|byte| *byte == 0));
        wipe(&mut bytes);
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_clone_is_no_second_copy() {
        let secret = Secret::new("sk-canary");
        assert_eq!(secret.expose().as_ptr(), secret.clone().expose().as_ptr());
    }

    #[test]
    fn equality_is_by_text() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("ab"));
    }
}
