//! What is wrong with a provider file: where, which field, what is allowed, and what to do.
//!
//! A problem never carries the value of a secret field; the schema decides which fields are secret.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One fault in one provider file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as it was named to us.
    pub path: PathBuf,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Dotted path of the field, for example `auth.oauth.token_endpoint`; empty for a fault of the whole file.
    pub field: String,
    /// What is wrong, naming the field.
    pub message: String,
    /// What to write instead: the allowed values, the nearest name, or an example.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.path.display(),
            self.line,
            self.column,
            self.message
        )?;
        if self.fix.is_empty() {
            Ok(())
        } else {
            write!(f, "; {}", self.fix)
        }
    }
}

/// A position in a definition's text. `file` is `None` for a built-in definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The user's file.
    pub(crate) file: Option<Arc<Path>>,
    /// Line, counted from 1.
    pub(crate) line: usize,
    /// Column in characters, counted from 1.
    pub(crate) column: usize,
}

/// Collects the problems of one file. A fault that shows only in the merged whole is pinned to the nearest line of
/// the user's file, for that is what the user can change.
#[derive(Debug)]
pub(crate) struct Problems {
    file: Arc<Path>,
    list: Vec<Problem>,
}

impl Problems {
    /// An empty collection for `file`.
    pub(crate) fn new(file: Arc<Path>) -> Self {
        Self {
            file,
            list: Vec::new(),
        }
    }

    /// Adds one, at `place` if that lies in the user's file, else at its first line.
    pub(crate) fn add(&mut self, place: &Place, field: &str, message: String, fix: impl Into<String>) {
        let (line, column) = match &place.file {
            Some(file) if *file == self.file => (place.line, place.column),
            _ => (1, 1),
        };
        self.list.push(Problem {
            path: self.file.to_path_buf(),
            line,
            column,
            field: field.to_owned(),
            message,
            fix: fix.into(),
        });
    }

    /// Nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems in the order of their lines.
    pub(crate) fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|problem| (problem.line, problem.column));
        self.list
    }
}

/// The candidates that look most like `text`, best first, at most `count`; nothing that is too far off.
#[must_use]
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    /// Similarity below which a name is another name rather than a typing error.
    const SIMILARITY_MIN: f64 = 0.6;
    let text = text.to_lowercase();
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(&text, candidate),
                candidate,
            )
        })
        .filter(|(score, _)| *score >= SIMILARITY_MIN)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(count).map(|(_, name)| name).collect()
}

/// `"a", "b", "c"` for a message.
pub(crate) fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words
        .into_iter()
        .map(|word| format!("{word:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}
