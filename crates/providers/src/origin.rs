//! Where each field of a merged definition was written: what `providers show` prints.

use std::path::PathBuf;

use crate::problem::Place;
use crate::schema::{DEFINITION, Field, Shape, find, join, keyed_path};
use crate::tree::{Node, Table, Value, to_toml_value};

/// One field with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldOrigin {
    /// Dotted path; methods by their id: `auth.oauth.token_endpoint`.
    pub path: String,
    /// The value as it would be written in a file; `""` where a file deletes a value. Secrets are hidden.
    pub value: String,
    /// Where it was written.
    pub origin: Origin,
}

/// Where a field was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the built-in definition.
    Builtin,
    /// In a file of the user.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
}

impl Origin {
    /// Whether a user's file set the field.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }

    fn of(place: &Place) -> Self {
        match &place.file {
            None => Self::Builtin,
            Some(path) => Self::File {
                path: path.to_path_buf(),
                line: place.line,
            },
        }
    }
}

/// The fields of a whole definition in their order.
pub(crate) fn fields(tree: &Table) -> Vec<FieldOrigin> {
    let mut found = Vec::new();
    walk_table(&masked(tree), DEFINITION, "", &mut found);
    found
}

fn walk_table(table: &Table, fields: &'static [Field], path: &str, found: &mut Vec<FieldOrigin>) {
    for entry in &table.entries {
        let Some(field) = find(fields, &entry.key) else {
            continue;
        };
        let own_path = join(path, field.name);
        match (field.shape, &entry.node.value) {
            (Shape::Table(inner), Value::Table(sub)) => walk_table(sub, inner, &own_path, found),
            (Shape::Keyed(inner), Value::List(list)) => {
                for table in list.iter().filter_map(Node::table) {
                    walk_table(table, inner, &keyed_path(&own_path, table), found);
                }
            }
            (_, Value::Table(map)) => {
                for entry in &map.entries {
                    found.push(field_origin(&join(&own_path, &entry.key), &entry.node));
                }
            }
            _ => found.push(field_origin(&own_path, &entry.node)),
        }
    }
}

fn field_origin(path: &str, node: &Node) -> FieldOrigin {
    FieldOrigin {
        path: path.to_owned(),
        value: to_toml_value(&node.value).to_string(),
        origin: Origin::of(&node.place),
    }
}

/// The tree with the values of secret fields hidden.
pub(crate) fn masked(tree: &Table) -> Table {
    let mut tree = tree.clone();
    mask_table(&mut tree, DEFINITION);
    tree
}

fn mask_table(table: &mut Table, fields: &'static [Field]) {
    for entry in &mut table.entries {
        match (
            find(fields, &entry.key).map(|field| field.shape),
            &mut entry.node.value,
        ) {
            (Some(Shape::SecretText), Value::Text(text)) if !text.trim().is_empty() => {
                *text = "(hidden)".to_owned();
            }
            (Some(Shape::Table(inner)), Value::Table(sub)) => mask_table(sub, inner),
            (Some(Shape::Keyed(inner) | Shape::Tables(inner)), Value::List(list)) => {
                for node in list {
                    if let Value::Table(sub) = &mut node.value {
                        mask_table(sub, inner);
                    }
                }
            }
            _ => {}
        }
    }
}
