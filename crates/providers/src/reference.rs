//! The format of a provider file for people: every field with what it may hold, from the table that checks files.

use crate::problem::quoted_list;
use crate::schema::{DEFINITION, Field, Shape, join};

/// One line of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatField {
    /// Dotted path; `[[auth]]` stands for every method: `auth.token_endpoint`.
    pub path: String,
    /// What it may hold, in words.
    pub allowed: String,
    /// The kinds of login method that it belongs to; empty for all.
    pub kinds: &'static [&'static str],
    /// What it is for.
    pub doc: &'static str,
}

/// The whole format, in the order in which a file is best written.
#[must_use]
pub fn format_reference() -> Vec<FormatField> {
    let mut lines = Vec::new();
    add_fields(DEFINITION, "", &mut lines);
    lines
}

fn add_fields(fields: &'static [Field], path: &str, lines: &mut Vec<FormatField>) {
    for field in fields {
        let own_path = join(path, field.name);
        lines.push(FormatField {
            path: own_path.clone(),
            allowed: allowed(field.shape),
            kinds: field.kinds,
            doc: field.doc,
        });
        if let Shape::Table(inner) | Shape::Tables(inner) | Shape::Keyed(inner) = field.shape {
            add_fields(inner, &own_path, lines);
        }
    }
}

fn allowed(shape: Shape) -> String {
    match shape {
        Shape::Text | Shape::SecretText => "a string".to_owned(),
        Shape::Id => "an id: letters, digits and - _ .".to_owned(),
        Shape::Url => "an https URL, or http on a loopback host".to_owned(),
        Shape::HeaderName => "a header name".to_owned(),
        Shape::EnvName => "the name of an environment variable".to_owned(),
        Shape::OptionName => "an option name such as --rig-api-key".to_owned(),
        Shape::EnvNames => "an array of names of environment variables".to_owned(),
        Shape::Word(words) => format!("one of {}", quoted_list(words.iter().copied())),
        Shape::Words(words) => format!("one or an array of {}", quoted_list(words.iter().copied())),
        Shape::Integer(min, max) => format!("a number from {min} to {max}"),
        Shape::Flag => "true or false".to_owned(),
        Shape::Texts => "an array of strings".to_owned(),
        Shape::Pointers => "a JSON pointer, or an array of them".to_owned(),
        Shape::Map => "a table of strings; \"\" deletes".to_owned(),
        Shape::PointerMap => "a table of JSON pointers; \"\" deletes".to_owned(),
        Shape::Headers => "a table of header values; \"\" deletes".to_owned(),
        Shape::Table(_) => "a table".to_owned(),
        Shape::Tables(_) => "an array of tables".to_owned(),
        Shape::Keyed(_) => "an array of tables, told apart by id".to_owned(),
    }
}
