//! The check of one file against the schema: unknown names, wrong types, values that cannot be.
//!
//! It sees one file alone. What is missing shows only after merging, in [`crate::build`].

use crate::check_value::{
    Fault, check_env_name, check_header_name, check_header_value, check_id, check_option_name, check_pointer,
    check_url,
};
use crate::problem::{Place, Problems, nearest, quoted_list};
use crate::schema::{ALTERNATIVES, Field, Shape, find, join, keyed_path, set_entry};
use crate::tree::{Entry, Node, Table, Value};

/// Checks a table of one file against `fields`: unknown names, wrong types, values that cannot be.
pub(crate) fn check_table(table: &Table, fields: &'static [Field], path: &str, problems: &mut Problems) {
    for entry in &table.entries {
        match find(fields, &entry.key) {
            Some(known) => check_field(entry, known, &join(path, known.name), problems),
            None => add_unknown(entry, fields, path, problems),
        }
    }
    for (one, other) in ALTERNATIVES {
        if let (Some(_), Some(second)) = (set_entry(table, one), set_entry(table, other)) {
            let message = format!("{one} and {other} are both set");
            problems.add(
                &second.place,
                &join(path, other),
                message,
                format!("keep one of {one} and {other}"),
            );
        }
    }
}

fn add_unknown(entry: &Entry, fields: &'static [Field], path: &str, problems: &mut Problems) {
    let names = || fields.iter().map(|field| field.name);
    let inside = if path.is_empty() {
        "at the top level".to_owned()
    } else {
        format!("in {path}")
    };
    let message = format!("unknown field {:?} {inside}", entry.key);
    let allowed = names().collect::<Vec<_>>().join(", ");
    let fix = match nearest(&entry.key, names(), 1).first() {
        Some(name) => format!("did you mean {name}? Allowed here: {allowed}"),
        None => format!("allowed here: {allowed}"),
    };
    problems.add(&entry.place, &join(path, &entry.key), message, fix);
}

fn check_field(entry: &Entry, known: &'static Field, path: &str, problems: &mut Problems) {
    let node = &entry.node;
    match known.shape {
        Shape::Table(fields) => {
            if let Some(table) = expect_table(node, path, problems) {
                check_table(table, fields, path, problems);
            }
        }
        Shape::Tables(fields) => {
            for item in expect_list(node, path, problems) {
                if let Some(table) = expect_table(item, path, problems) {
                    check_table(table, fields, path, problems);
                }
            }
        }
        Shape::Keyed(fields) => check_keyed(node, fields, path, problems),
        Shape::Map | Shape::PointerMap | Shape::Headers => check_map(node, known.shape, path, problems),
        Shape::Texts | Shape::EnvNames => {
            for item in expect_list(node, path, problems) {
                check_scalar(item, known.shape, path, problems);
            }
        }
        Shape::Pointers | Shape::Words(_) if matches!(node.value, Value::List(_)) => {
            for item in node.list() {
                check_scalar(item, known.shape, path, problems);
            }
        }
        _ => check_scalar(node, known.shape, path, problems),
    }
}

fn check_keyed(node: &Node, fields: &'static [Field], path: &str, problems: &mut Problems) {
    let (article, noun, array) = if path == "auth" {
        ("a", "login method", "[[auth]]")
    } else {
        ("an", "auth choice", "[[auth.choice]]")
    };
    let mut seen: Vec<String> = Vec::new();
    for item in expect_list(node, path, problems) {
        let Some(table) = expect_table(item, path, problems) else {
            continue;
        };
        let own_path = keyed_path(path, table);
        check_table(table, fields, &own_path, problems);
        let Some(id) = table.text("id") else {
            let message = format!("{article} {noun} ({array}) has no id");
            let id = join(path, "id");
            problems.add(&item.place, &id, message, "add a line like id = \"oauth\"");
            continue;
        };
        let id = id.trim().to_lowercase();
        if seen.contains(&id) {
            let message = format!("the {noun} {id:?} is given twice");
            let fix = format!("keep one {array} for each id");
            problems.add(&item.place, &own_path, message, fix);
        }
        seen.push(id);
    }
}

fn check_map(node: &Node, shape: Shape, path: &str, problems: &mut Problems) {
    let Some(table) = expect_table(node, path, problems) else {
        return;
    };
    for entry in &table.entries {
        let own_path = join(path, &entry.key);
        if let Shape::Headers = shape
            && let Err(fault) = check_header_name(&entry.key)
        {
            problems.add(
                &entry.place,
                &own_path,
                format!("{own_path}: {}", fault.message),
                fault.fix,
            );
        }
        check_scalar(&entry.node, shape, &own_path, problems);
    }
}

/// Checks one value that is neither a table nor an array.
fn check_scalar(node: &Node, shape: Shape, path: &str, problems: &mut Problems) {
    match (shape, &node.value) {
        (Shape::Integer(min, max), Value::Integer(number)) => {
            if !(min..=max).contains(number) {
                let message = format!("{path} = {number} is out of range");
                problems.add(
                    &node.place,
                    path,
                    message,
                    format!("write a number from {min} to {max}"),
                );
            }
        }
        (Shape::Integer(..), _) => wrong_type(node, path, "an integer", problems),
        (Shape::Flag, Value::Flag(_)) => {}
        (Shape::Flag, _) => wrong_type(node, path, "true or false", problems),
        (_, Value::Text(text)) => check_text(text, shape, &node.place, path, problems),
        _ => wrong_type(node, path, wanted(shape), problems),
    }
}

fn wanted(shape: Shape) -> &'static str {
    match shape {
        Shape::Words(_) | Shape::Pointers => "a string or an array of strings",
        _ => "a string",
    }
}

fn check_text(text: &str, shape: Shape, place: &Place, path: &str, problems: &mut Problems) {
    let blank = text.trim().is_empty();
    let outcome = match shape {
        Shape::Texts | Shape::EnvNames if blank => Err(Fault {
            message: "holds an empty string".to_owned(),
            fix: "remove it".to_owned(),
        }),
        Shape::Id => check_id(text),
        // A blank value means absent, which in a file over a built-in definition takes the built-in value away.
        _ if blank => Ok(()),
        Shape::Url => check_url(text),
        Shape::HeaderName => check_header_name(text),
        Shape::EnvName | Shape::EnvNames => check_env_name(text),
        Shape::OptionName => check_option_name(text),
        Shape::Pointers | Shape::PointerMap => check_pointer(text),
        Shape::Headers => check_header_value(text),
        Shape::Word(words) | Shape::Words(words) => check_word(text, words),
        _ => Ok(()),
    };
    if let Err(fault) = outcome {
        problems.add(place, path, format!("{path}: {}", fault.message), fault.fix);
    }
}

fn check_word(text: &str, words: &[&str]) -> Result<(), Fault> {
    if words.contains(&text) {
        return Ok(());
    }
    Err(Fault {
        message: format!("{text:?} is not known"),
        fix: format!("allowed are {}", quoted_list(words.iter().copied())),
    })
}

fn wrong_type(node: &Node, path: &str, wanted: &str, problems: &mut Problems) {
    let message = format!("{path} is {}", node.value.kind());
    problems.add(&node.place, path, message, format!("write {wanted}"));
}

fn expect_table<'a>(node: &'a Node, path: &str, problems: &mut Problems) -> Option<&'a Table> {
    let table = node.table();
    if table.is_none() {
        wrong_type(node, path, "a table", problems);
    }
    table
}

fn expect_list<'a>(node: &'a Node, path: &str, problems: &mut Problems) -> &'a [Node] {
    if !matches!(node.value, Value::List(_)) {
        wrong_type(
            node,
            path,
            if path == "auth" { "[[auth]]" } else { "an array" },
            problems,
        );
    }
    node.list()
}
