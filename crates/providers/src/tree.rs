//! A definition as a tree of values that know where they were written.
//!
//! This is the form in which files are checked and merged; it knows TOML and positions, but not what any field
//! means. A blank text stays in the tree as it is: merging needs it as the mark of a deletion.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Place, Problem, Problems};

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Table),
    /// A value of a kind that no field takes (float, date), with the name of its kind.
    Other(&'static str),
}

impl Value {
    /// The kind in words, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Flag(_) => "true or false",
            Self::List(_) => "an array",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) value: Value,
    /// Where it stands.
    pub(crate) place: Place,
}

impl Node {
    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a table.
    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements of an array; empty for anything else.
    pub(crate) fn list(&self) -> &[Node] {
        match &self.value {
            Value::List(list) => list,
            _ => &[],
        }
    }
}

/// One `key = value` of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) place: Place,
    /// Its value.
    pub(crate) node: Node,
}

/// A table, in the order in which it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// The entries; keys are unique.
    pub(crate) entries: Vec<Entry>,
}

impl Table {
    /// The entry under `key`.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value under `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The text under `key`; a blank one counts as absent.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)
            .and_then(Node::text)
            .filter(|text| !text.trim().is_empty())
    }

    /// The table under `key`.
    pub(crate) fn table(&self, key: &str) -> Option<&Table> {
        self.get(key).and_then(Node::table)
    }

    /// Puts `entry` in the place of the one with its key, or at the end.
    pub(crate) fn put(&mut self, entry: Entry) {
        match self.entries.iter_mut().find(|old| old.key == entry.key) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// Takes the entry under `key` away.
    pub(crate) fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }
}

/// Turns byte offsets into lines and columns.
struct Locator<'a> {
    text: &'a str,
    file: Option<Arc<Path>>,
    line_starts: Vec<usize>,
}

impl Locator<'_> {
    fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        Place {
            file: self.file.clone(),
            line,
            column: before.chars().count() + 1,
        }
    }
}

fn locator(text: &str, file: Option<Arc<Path>>) -> Locator<'_> {
    let line_starts = std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect();
    Locator {
        text,
        file,
        line_starts,
    }
}

/// Reads a file's text. `file` is `None` for a built-in definition.
///
/// # Errors
/// Every fault of the TOML syntax with its place; at least one when this is an error.
pub(crate) fn parse(text: &str, file: Option<Arc<Path>>) -> Result<Table, Vec<Problem>> {
    let locator = locator(text, file.clone());
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(convert_table(table.get_ref(), &locator));
    }
    let mut problems = Problems::new(file.unwrap_or_else(|| Arc::from(Path::new("built-in"))));
    for error in errors {
        let place = locator.place(error.span().map_or(0, |span| span.start));
        let message = format!("not valid TOML: {}", error.message().trim().replace('\n', ", "));
        problems.add(&place, "", message, "correct the syntax (https://toml.io)");
    }
    Err(problems.into_sorted())
}

fn convert_table(table: &DeTable<'_>, locator: &Locator<'_>) -> Table {
    let entries = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            place: locator.place(key.span().start),
            node: convert(value, locator),
        })
        .collect();
    Table { entries }
}

fn convert(value: &Spanned<DeValue<'_>>, locator: &Locator<'_>) -> Node {
    let converted = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("an integer beyond 64 bits"), Value::Integer),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(list.iter().map(|item| convert(item, locator)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table, locator)),
    };
    Node {
        value: converted,
        place: locator.place(value.span().start),
    }
}

/// The tree as a TOML document in the user's format.
pub(crate) fn to_toml(table: &Table) -> toml::Table {
    table
        .entries
        .iter()
        .map(|entry| (entry.key.clone(), to_toml_value(&entry.node.value)))
        .collect()
}

/// One value as TOML.
pub(crate) fn to_toml_value(value: &Value) -> toml::Value {
    match value {
        Value::Text(text) => toml::Value::String(text.clone()),
        Value::Integer(number) => toml::Value::Integer(*number),
        Value::Flag(flag) => toml::Value::Boolean(*flag),
        Value::List(list) => toml::Value::Array(list.iter().map(|node| to_toml_value(&node.value)).collect()),
        Value::Table(table) => toml::Value::Table(to_toml(table)),
        // No field takes such a value, so no checked tree holds one.
        Value::Other(kind) => toml::Value::String((*kind).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let table = parse("a = 1\n\n[b]\n\"é\" = \"x\"  # c\n", None).unwrap();
        assert_eq!(
            table.get("a").unwrap().place,
            Place {
                file: None,
                line: 1,
                column: 5
            }
        );
        let inner = table.table("b").unwrap().entry("é").unwrap();
        assert_eq!((inner.place.line, inner.place.column), (4, 1));
        assert_eq!((inner.node.place.line, inner.node.place.column), (4, 7));
    }

    #[test]
    fn syntax_faults_have_a_line() {
        let problems = parse("id = \"a\"\nname = = 3\n", Some(Arc::from(Path::new("p")))).unwrap_err();
        assert_eq!(problems[0].line, 2, "{problems:?}");
        assert!(
            problems[0].message.starts_with("not valid TOML: "),
            "{problems:?}"
        );
    }
}
