//! A user's file laid over another definition (design: Providers).
//!
//! Tables merge by key, arrays of plain values replace, `[[auth]]` merges by `id`. Nothing is removed here: a blank
//! text and `disabled = true` stay in the tree as marks that [`crate::build`] obeys, so that `providers show` can
//! say which line took a value away.

use crate::problem::{Problems, quoted_list};
use crate::schema::{ALTERNATIVES, DEFINITION, Field, Shape, find, keyed_path, method_path, set_entry};
use crate::tree::{Entry, Node, Table, Value};

/// Lays `over` over `base`. `over` has passed the check of its own file.
pub(crate) fn merge_definition(base: &Table, over: &Table, problems: &mut Problems) -> Table {
    check_disabled(base, over, problems);
    merge_table(base, over, DEFINITION)
}

/// Lays one table over another by the rules of `fields`.
pub(crate) fn merge_table(base: &Table, over: &Table, fields: &'static [Field]) -> Table {
    let mut merged = base.clone();
    for (one, other) in ALTERNATIVES {
        for (set, gone) in [(one, other), (other, one)] {
            if set_entry(over, set).is_some() && over.entry(gone).is_none() {
                merged.remove(gone);
            }
        }
    }
    for entry in &over.entries {
        let shape = find(fields, &entry.key).map(|field| field.shape);
        let node = match (base.get(&entry.key), shape) {
            (Some(below), Some(shape)) => merge_node(below, &entry.node, shape),
            _ => entry.node.clone(),
        };
        merged.put(Entry {
            key: entry.key.clone(),
            place: entry.place.clone(),
            node,
        });
    }
    merged
}

fn merge_node(base: &Node, over: &Node, shape: Shape) -> Node {
    let value = match (shape, &base.value, &over.value) {
        (Shape::Table(fields), Value::Table(below), Value::Table(above)) => {
            Value::Table(merge_table(below, above, fields))
        }
        (Shape::Map | Shape::PointerMap | Shape::Headers, Value::Table(below), Value::Table(above)) => {
            Value::Table(merge_map(below, above, matches!(shape, Shape::Headers)))
        }
        (Shape::Keyed(fields), Value::List(below), Value::List(above)) => {
            Value::List(merge_keyed(below, above, fields))
        }
        (_, _, above) => above.clone(),
    };
    Node {
        value,
        place: over.place.clone(),
    }
}

/// Header names are the same in any case (RFC 9110 section 5.1), other keys are not.
fn merge_map(base: &Table, over: &Table, any_case: bool) -> Table {
    let mut merged = base.clone();
    for entry in &over.entries {
        if any_case
            && let Some(same) = merged
                .entries
                .iter()
                .find(|old| old.key.eq_ignore_ascii_case(&entry.key))
                .map(|old| old.key.clone())
        {
            merged.put(Entry {
                key: same,
                ..entry.clone()
            });
        } else {
            merged.put(entry.clone());
        }
    }
    merged
}

fn merge_keyed(base: &[Node], over: &[Node], fields: &'static [Field]) -> Vec<Node> {
    let mut merged = base.to_vec();
    for node in over {
        let Some(table) = node.table() else { continue };
        match merged.iter_mut().find(|old| same_id(old, table)) {
            Some(old) => {
                let below = old.table().cloned().unwrap_or_default();
                *old = Node {
                    value: Value::Table(merge_table(&below, table, fields)),
                    place: node.place.clone(),
                };
            }
            None => merged.push(node.clone()),
        }
    }
    merged
}

fn same_id(node: &Node, table: &Table) -> bool {
    node.table()
        .is_some_and(|other| keyed_path("", other) == keyed_path("", table))
}

/// `disabled = true` for a method that is not there is a typing error.
fn check_disabled(base: &Table, over: &Table, problems: &mut Problems) {
    let known: Vec<String> = base
        .get("auth")
        .map(Node::list)
        .unwrap_or_default()
        .iter()
        .filter_map(|node| node.table().and_then(|table| table.text("id")))
        .map(str::to_lowercase)
        .collect();
    for node in over.get("auth").map(Node::list).unwrap_or_default() {
        let Some(table) = node.table() else { continue };
        let id = table.text("id").unwrap_or("").trim().to_lowercase();
        if is_disabled(table) && !known.contains(&id) {
            let path = method_path(table);
            let message = format!("{path} is disabled, but there is no method {id:?} to take away");
            let fix = if known.is_empty() {
                "remove this [[auth]]".to_owned()
            } else {
                format!("known are {}", quoted_list(known.iter().map(String::as_str)))
            };
            problems.add(&node.place, &path, message, fix);
        }
    }
}

/// Whether the table of a method or choice carries `disabled = true`.
pub(crate) fn is_disabled(table: &Table) -> bool {
    matches!(
        table.get("disabled").map(|node| &node.value),
        Some(Value::Flag(true))
    )
}
