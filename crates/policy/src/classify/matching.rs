//! What a rule looks at: the status and the words of a failure.

use super::Failure;

/// Which statuses a rule is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// Every one, and none.
    Always,
    /// These.
    Status(&'static [u16]),
    /// A hundred of them.
    Hundred(u16),
    /// No status, or one that says nothing: 400 and 422.
    Open,
}

impl When {
    /// Is a rule asked for this status?
    pub(super) fn is(self, status: Option<u16>) -> bool {
        match self {
            Self::Always => true,
            Self::Status(statuses) => status.is_some_and(|status| statuses.contains(&status)),
            Self::Hundred(hundred) => status.is_some_and(|status| status / 100 == hundred),
            Self::Open => matches!(status, None | Some(400 | 422)),
        }
    }
}

/// What a rule looks for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Test {
    /// Nothing: the status is enough.
    Any,
    /// There is no text at all.
    Empty,
    /// One of these stands in the text.
    Has(&'static [&'static str]),
    /// One of these stands in the text as a word of its own.
    Word(&'static [&'static str]),
    /// One of these is a code of the error.
    Code(&'static [&'static str]),
    /// Both.
    Both(&'static Test, &'static Test),
    /// One of both.
    Either(&'static Test, &'static Test),
    /// Not this.
    Not(&'static Test),
    /// The text is at most this many characters long.
    Within(usize),
}

impl Test {
    /// Does it hold for this failure, of whose text `words` are looked at?
    pub(super) fn holds(&self, failure: &Failure<'_>, words: &str) -> bool {
        let text = failure.text.text();
        match self {
            Self::Any => true,
            Self::Empty => text.is_empty(),
            Self::Has(wanted) => wanted.iter().any(|wanted| words.contains(wanted)),
            Self::Word(wanted) => wanted.iter().any(|word| has_word(words, word)),
            Self::Code(codes) => failure
                .text
                .codes()
                .iter()
                .any(|code| codes.contains(&code.as_str())),
            Self::Both(one, other) => one.holds(failure, words) && other.holds(failure, words),
            Self::Either(one, other) => one.holds(failure, words) || other.holds(failure, words),
            Self::Not(test) => !test.holds(failure, words),
            Self::Within(length) => text.chars().count() <= *length,
        }
    }
}

/// Is `word` in `text` with nothing that belongs to a word at its sides?
fn has_word(text: &str, word: &str) -> bool {
    let of_word =
        |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !of_word(before) && !of_word(after)
    })
}
