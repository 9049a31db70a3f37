//! Makes text that came from elsewhere fit to be shown: one line, bounded, without control characters and without
//! the secrets that were sent. It knows nothing about where the text came from; every parser of this crate passes
//! error codes and descriptions through [`tidy`].

use std::collections::HashSet;

use tokensink_types::Secret;
use url::form_urlencoded;

/// Longest description that is kept, in characters.
pub const DESCRIPTION_MAX: usize = 300;

/// Longest text that is looked at, in characters; a server's HTML page has no claim to more of our time.
const INPUT_MAX: usize = 8192;

/// A stretch of this many bytes that also stands in a secret counts as a part of it. Servers quote tokens cut short;
/// eleven bytes are less than what [`Secret::masked`] shows on purpose.
const FRAGMENT: usize = 12;

const MARK: &str = "[redacted]";

/// Cleans `text` for people: controls, direction overrides and invisible characters go, white space becomes one
/// space, every trace of `secrets` becomes `[redacted]`, and at most [`DESCRIPTION_MAX`] characters remain.
#[must_use]
pub fn tidy(text: &str, secrets: &[&Secret]) -> String {
    let mut clean = String::new();
    for c in text.chars().take(INPUT_MAX) {
        if c.is_whitespace() {
            if !clean.is_empty() && !clean.ends_with(' ') {
                clean.push(' ');
            }
        } else if !c.is_control() && !is_invisible(c) {
            clean.push(c);
        }
    }
    shorten(redact(clean.trim_end(), secrets))
}

/// Replaces in `text` whatever stands in one of `secrets`, as it is, percent-encoded or JSON-escaped, in any ASCII
/// case, whole or in stretches of at least 12 bytes. Blank secrets are ignored. Clean the text first: a control
/// character inside a token would hide it, which is why [`tidy`] calls this last.
#[must_use]
pub fn redact(text: &str, secrets: &[&Secret]) -> String {
    let haystack = text.to_ascii_lowercase();
    let mut hidden = vec![false; text.len()];
    for secret in secrets.iter().filter(|secret| !secret.is_blank()) {
        for form in spellings(secret.expose().trim()) {
            hide(haystack.as_bytes(), form.as_bytes(), &mut hidden);
        }
    }
    let mut shown = String::with_capacity(text.len());
    let mut in_hidden = false;
    for (at, c) in text.char_indices() {
        let is_hidden = hidden[at..at + c.len_utf8()].contains(&true);
        if !is_hidden {
            shown.push(c);
        } else if !in_hidden {
            shown.push_str(MARK);
        }
        in_hidden = is_hidden;
    }
    shown
}

/// The ways in which a server may echo a value, in lower case.
fn spellings(secret: &str) -> Vec<zeroize::Zeroizing<String>> {
    let plain = secret.to_ascii_lowercase();
    let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let escaped = serde_json::Value::from(secret).to_string();
    let mut forms = vec![plain, encoded.to_ascii_lowercase()];
    forms.push(escaped.trim_matches('"').to_ascii_lowercase());
    forms.retain(|form| !form.is_empty());
    forms.dedup();
    forms.into_iter().map(zeroize::Zeroizing::new).collect()
}

fn hide(text: &[u8], secret: &[u8], hidden: &mut [bool]) {
    let size = secret.len().min(FRAGMENT);
    let pieces: HashSet<&[u8]> = secret.windows(size).collect();
    for (at, piece) in text.windows(size).enumerate() {
        if pieces.contains(piece) {
            hidden[at..at + size].fill(true);
        }
    }
}

fn shorten(text: String) -> String {
    if text.chars().count() <= DESCRIPTION_MAX {
        return text;
    }
    let mut cut: String = text.chars().take(DESCRIPTION_MAX - 1).collect();
    cut.push('…');
    cut
}

/// Zero-width characters and direction overrides, with which a text can show as another than it is.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_become_one_clean_line() {
        let long = "x".repeat(400);
        let cut = format!("{}…", "x".repeat(299));
        let cases = [
            ("plain", "plain"),
            ("  two\r\n\tlines ", "two lines"),
            ("\u{1b}[31mred\u{7}", "[31mred"),
            ("a\u{202e}b\u{200b}c", "abc"),
            ("", ""),
            (long.as_str(), cut.as_str()),
        ];
        for (text, want) in cases {
            assert_eq!(tidy(text, &[]), want, "{text:?}");
        }
    }

    #[test]
    fn secrets_vanish_in_every_spelling() {
        let cases = [
            ("rt-1", "token rt-1 reused", "token [redacted] reused"),
            ("ab", "ab abab cab", "[redacted] [redacted] c[redacted]"),
            ("a/b+c=", "got a%2Fb%2Bc%3D here", "got [redacted] here"),
            ("q\"uote", r#"{"t":"q\"uote"}"#, r#"{"t":"[redacted]"}"#),
            (
                "sk-ant-ort01-0123456789abcdef",
                "starts with SK-ANT-ORT01-0123 it does",
                "starts with [redacted] it does",
            ),
            ("sk-ant-ort01-0123456789", "only sk-ant-", "only sk-ant-"),
            ("  ", "a b", "a b"),
            ("to\u{0}ken", "none", "none"),
        ];
        for (secret, text, want) in cases {
            assert_eq!(redact(text, &[&Secret::new(secret)]), want, "{text:?}");
        }
        assert_eq!(tidy("to\u{0}ken", &[&"token".into()]), MARK);
    }

    proptest! {
        #[test]
        fn no_text_keeps_a_secret(before in ".{0,40}", secret in "[!-~]{4,60}", after in ".{0,40}") {
            // Letters of the mark itself would be found again, so the secret is one that the mark does not hold.
            prop_assume!(!MARK.contains(&secret));
            let shown = tidy(&format!("{before}{secret}{after}"), &[&Secret::new(secret.clone())]);
            prop_assert!(!shown.contains(&secret), "{shown}");
        }
    }
}
