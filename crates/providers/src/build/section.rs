//! One table of a definition with typed access to its fields.

use std::time::Duration;

use url::Url;

use crate::definition::Pairs;
use crate::problem::{Place, Problems};
use crate::schema::join;
use crate::tree::{Node, Table, Value};

/// A table, what it is called in messages, and where it begins.
pub(crate) struct Section<'a> {
    /// The fields.
    pub(crate) table: &'a Table,
    /// Dotted path of the table; empty at the top.
    pub(crate) path: String,
    /// Where the table begins: what lacks a field is reported there.
    pub(crate) place: Place,
}

impl<'a> Section<'a> {
    /// Wraps `table`.
    pub(crate) fn new(table: &'a Table, path: String, place: Place) -> Self {
        Self { table, path, place }
    }

    /// The table under `key`, empty when it is absent.
    pub(crate) fn sub<'b>(&'b self, key: &str, empty: &'b Table) -> Section<'b> {
        let place = self.table.get(key).map_or(&self.place, |node| &node.place);
        Section::new(
            self.table.table(key).unwrap_or(empty),
            join(&self.path, key),
            place.clone(),
        )
    }

    /// The text under `key`, untrimmed; a blank one counts as absent.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.table.text(key)
    }

    /// The text under `key` even when it is blank.
    pub(crate) fn raw_text(&self, key: &str) -> Option<&'a str> {
        self.table.get(key).and_then(Node::text)
    }

    /// The text under `key`, or a problem that names what to add.
    pub(crate) fn require_text(&self, key: &str, fix: &str, problems: &mut Problems) -> Option<&'a str> {
        let text = self.text(key);
        if text.is_none() {
            self.missing(key, fix, problems);
        }
        text
    }

    /// Reports that `key` is needed here.
    pub(crate) fn missing(&self, key: &str, fix: &str, problems: &mut Problems) {
        let path = join(&self.path, key);
        problems.add(&self.place, &path, format!("{path} is missing"), fix);
    }

    /// Reports that the value of `key` does not fit.
    pub(crate) fn wrong(&self, key: &str, message: &str, fix: &str, problems: &mut Problems) {
        let path = join(&self.path, key);
        let place = self.table.get(key).map_or(&self.place, |node| &node.place);
        problems.add(place, &path, format!("{path}: {message}"), fix);
    }

    /// A word turned into what it stands for.
    pub(crate) fn word<T>(&self, key: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.text(key).and_then(parse)
    }

    /// A flag; absent is `false`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(
            self.table.get(key).map(|node| &node.value),
            Some(Value::Flag(true))
        )
    }

    /// A number of seconds.
    pub(crate) fn seconds(&self, key: &str) -> Option<Duration> {
        self.integer(key).map(Duration::from_secs)
    }

    /// A number that is not negative.
    pub(crate) fn integer(&self, key: &str) -> Option<u64> {
        match self.table.get(key).map(|node| &node.value) {
            Some(Value::Integer(number)) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A URL that the schema has accepted.
    pub(crate) fn url(&self, key: &str) -> Option<Url> {
        self.word(key, |text| Url::parse(text).ok())
    }

    /// A string or an array of strings, as a list.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        let Some(node) = self.table.get(key) else {
            return Vec::new();
        };
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => vec![text.clone()],
            _ => node
                .list()
                .iter()
                .filter_map(Node::text)
                .map(str::to_owned)
                .collect(),
        }
    }

    /// A table of strings in its order; what a blank value deletes is left out.
    pub(crate) fn pairs(&self, key: &str) -> Pairs {
        let Some(table) = self.table.table(key) else {
            return Vec::new();
        };
        table
            .entries
            .iter()
            .filter_map(|entry| entry.node.text().map(|text| (entry.key.clone(), text.to_owned())))
            .filter(|(_, text)| !text.trim().is_empty())
            .collect()
    }
}
