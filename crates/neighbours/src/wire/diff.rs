//! What changes between two texts, line by line, fit to be shown: lines that stay are left out, since they are none of
//! our business, and words that look like secrets are cut.

use std::path::Path;

use similar::{ChangeTag, TextDiff};
use tokensink_types::Body;

/// A word of so many letters and digits may be a secret, whatever it begins with.
const LONG_WORD: usize = 32;
/// How much of such a word is shown.
const SHOWN: usize = 8;

/// The lines that go, marked `-`, and those that come, marked `+`, under the names of the two states.
pub(super) fn of(file: &Path, before: Option<&Body>, after: Option<&Body>) -> String {
    if before == after {
        return String::new();
    }
    let text = |body: Option<&Body>| {
        body.map_or_else(String::new, |body| {
            String::from_utf8_lossy(body.expose()).into_owned()
        })
    };
    let name =
        |body: Option<&Body>| body.map_or_else(|| "/dev/null".to_owned(), |_| file.display().to_string());
    let (old, new) = (text(before), text(after));
    let mut shown = format!("--- {}\n+++ {}\n", name(before), name(after));
    for change in TextDiff::from_lines(&old, &new).iter_all_changes() {
        let mark = match change.tag() {
            ChangeTag::Equal => continue,
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        shown.push(mark);
        shown.push_str(&masked(change.value().trim_end_matches(['\r', '\n'])));
        shown.push('\n');
    }
    shown
}

/// The line with every word cut that may be a secret.
fn masked(line: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '=' | '.');
    let mut shown = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let same = is_word(first);
        let end = rest.find(|c| is_word(c) != same).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let count = word.chars().count();
        if same && (count >= LONG_WORD || (word.starts_with("sk-") && count > SHOWN)) {
            shown.extend(word.chars().take(SHOWN));
            shown.push('…');
        } else {
            shown.push_str(word);
        }
        rest = after;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_lines_show_and_no_secret_among_them() {
        let before = Body::new("keep sk-ant-api03-canary\nhelper = \"echo sk-ant-oat01-canary\"\nlast\n");
        let after = Body::new("keep sk-ant-api03-canary\nhelper = \"/usr/bin/tokensink token\"\nlast\n");
        assert_eq!(
            of(Path::new("/h/s"), Some(&before), Some(&after)),
            "--- /h/s\n+++ /h/s\n-helper = \"echo sk-ant-o…\"\n+helper = \"/usr/bin/tokensink token\"\n"
        );
        assert_eq!(of(Path::new("/h/s"), Some(&after), Some(&after)), "");
        assert_eq!(
            of(Path::new("/h/s"), None, Some(&Body::new("a"))),
            "--- /dev/null\n+++ /h/s\n+a\n"
        );
    }

    #[test]
    fn long_words_are_cut() {
        let word = "a1".repeat(16);
        assert_eq!(masked(&format!("x = \"{word}\"")), "x = \"a1a1a1a1…\"");
        let path = "/usr/local/share/some/rather/long/path/to/tokensink";
        assert_eq!(masked(path), path);
    }
}
