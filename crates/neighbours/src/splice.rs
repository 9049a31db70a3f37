//! Edits of a JSON text that leave every byte alone that they do not replace (pains: partial answers wipe fields).
//!
//! The text is that of another program, so not even white space, the order of keys or the spelling of a number may
//! change. Where a key stands twice, the last one counts, as it does for the readers of these files.

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use tokensink_types::{Body, Secret};

/// A change of one value, by its path of keys.
#[derive(Debug)]
pub(crate) enum Edit<'a> {
    /// The value becomes this JSON text; a missing last key is appended to its object. A text that says the same
    /// already stays as it is written.
    Set(&'a [&'a str], Secret),
    /// The last key goes, with its value.
    Remove(&'a [&'a str]),
}

/// Applies the edits one after the other.
///
/// # Errors
/// A sentence without any of the text, when it does not parse or an object on a path is missing.
pub(crate) fn apply(text: &str, edits: &[Edit<'_>]) -> Result<Body, String> {
    let mut body = Body::new(text);
    for edit in edits {
        let text = std::str::from_utf8(body.expose()).map_err(|error| error.to_string())?;
        let splice = match edit {
            Edit::Set(path, value) => set(text, path, value)?,
            Edit::Remove(path) => remove(text, path)?,
        };
        if let Some(splice) = splice {
            body = splice.done(text);
        }
    }
    Ok(body)
}

/// The value of a text as JSON.
pub(crate) fn quoted(text: &str) -> Secret {
    Secret::new(serde_json::Value::from(text).to_string())
}

/// Bytes from `start` to `end` become `new`.
struct Splice {
    start: usize,
    end: usize,
    new: Vec<Secret>,
}

impl Splice {
    fn done(self, text: &str) -> Body {
        let added: usize = self.new.iter().map(|part| part.expose().len()).sum();
        // Room for all of it at once: a vector that grew would leave copies of secrets behind.
        let mut bytes = Vec::with_capacity(text.len() + added);
        bytes.extend_from_slice(&text.as_bytes()[..self.start]);
        for part in &self.new {
            bytes.extend_from_slice(part.expose().as_bytes());
        }
        bytes.extend_from_slice(&text.as_bytes()[self.end..]);
        Body::new(bytes)
    }
}

const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Where the plain text begins.
fn mark(text: &str) -> usize {
    if text.starts_with('\u{feff}') {
        '\u{feff}'.len_utf8()
    } else {
        0
    }
}

/// The object under a path of keys, with `then` applied to it.
fn within<T>(
    text: &str,
    path: &[&str],
    then: impl FnOnce(&str, &Object<'_>) -> T,
) -> Result<Option<T>, String> {
    let plain = &text[mark(text)..];
    let parsed = parse_to_ast(plain, &CollectOptions::default(), &STRICT)
        .map_err(|_| "it does not parse as JSON".to_owned())?;
    let Some(Value::Object(root)) = parsed.value else {
        return Err("it holds no object".to_owned());
    };
    let mut object = &root;
    for key in path {
        match property(object, key).map(|property| &property.value) {
            Some(Value::Object(inner)) => object = inner,
            Some(_) | None => return Ok(None),
        }
    }
    Ok(Some(then(plain, object)))
}

fn property<'o, 'a>(object: &'o Object<'a>, key: &str) -> Option<&'o ObjectProp<'a>> {
    let mut properties = object.properties.iter().rev();
    properties.find(|property| property.name.as_str() == key)
}

fn set(text: &str, path: &[&str], value: &Secret) -> Result<Option<Splice>, String> {
    let (key, parents) = path.split_last().ok_or("an empty path cannot be set")?;
    let splice = within(text, parents, |plain, object| match property(object, key) {
        Some(property) => {
            let range = property.value.range();
            (&plain[range.start..range.end] != value.expose()).then(|| Splice {
                start: range.start,
                end: range.end,
                new: vec![value.clone()],
            })
        }
        None => Some(append(plain, object, key, value)),
    })?;
    match splice {
        Some(splice) => Ok(splice.map(|splice| moved(splice, mark(text)))),
        None => Err(format!("there is no object at {}", parents.join("."))),
    }
}

/// A new property behind the last one, spaced as its neighbours are.
fn append(plain: &str, object: &Object<'_>, key: &str, value: &Secret) -> Splice {
    let key = quoted(key);
    let Some(last) = object.properties.last() else {
        let at = object.range.start + 1;
        return Splice {
            start: at,
            end: at,
            new: vec![key, ":".into(), value.clone()],
        };
    };
    let first = &object.properties[0];
    let indent = &plain[object.range.start + 1..first.range.start];
    let colon = &plain[last.name.range().end..last.value.range().start];
    let at = last.range.end;
    Splice {
        start: at,
        end: at,
        new: vec![
            ",".into(),
            indent.into(),
            key,
            colon.into(),
            indented(value, indent),
        ],
    }
}

/// A value in the layout of its surroundings: on several lines where they are.
fn indented(value: &Secret, indent: &str) -> Secret {
    if !indent.contains('\n') {
        return value.clone();
    }
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(value.expose());
    let Some(pretty) = parsed
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
    else {
        return value.clone();
    };
    Secret::new(pretty.replace('\n', indent))
}

fn remove(text: &str, path: &[&str]) -> Result<Option<Splice>, String> {
    let (key, parents) = path.split_last().ok_or("an empty path cannot be removed")?;
    let splice = within(text, parents, |_, object| {
        let property = property(object, key)?;
        let index = object
            .properties
            .iter()
            .position(|other| other.range.start == property.range.start)?;
        let next = object.properties.get(index + 1);
        let before = index
            .checked_sub(1)
            .and_then(|before| object.properties.get(before));
        let (start, end) = match (before, next) {
            (_, Some(next)) => (property.range.start, next.range.start),
            (Some(before), None) => (before.range.end, property.range.end),
            (None, None) => (object.range.start + 1, object.range.end - 1),
        };
        Some(Splice {
            start,
            end,
            new: Vec::new(),
        })
    })?;
    Ok(splice.flatten().map(|splice| moved(splice, mark(text))))
}

fn moved(splice: Splice, by: usize) -> Splice {
    Splice {
        start: splice.start + by,
        end: splice.end + by,
        ..splice
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json, json};

    use super::*;

    fn text_of(body: &Body) -> String {
        String::from_utf8(body.expose().to_vec()).unwrap()
    }

    #[test]
    fn edits_touch_nothing_else() {
        let set = |path, value: &str| Edit::Set(path, value.into());
        let cases: Vec<(&str, Edit<'_>, &str)> = vec![
            (
                r#"{"a":{"t":"x","n":1.50},"b":2}"#,
                set(&["a", "t"], r#""y""#),
                r#"{"a":{"t":"y","n":1.50},"b":2}"#,
            ),
            (
                "{\n  \"a\" : {\n    \"t\" : \"x\"\n  }\n}",
                set(&["a", "u"], "5"),
                "{\n  \"a\" : {\n    \"t\" : \"x\",\n    \"u\" : 5\n  }\n}",
            ),
            (
                "{\n  \"a\": 1\n}\n",
                set(&["b"], r#"{"x":1}"#),
                "{\n  \"a\": 1,\n  \"b\": {\n    \"x\": 1\n  }\n}\n",
            ),
            ("{}", set(&["a"], "1"), r#"{"a":1}"#),
            (r#"{"a":1,"a":2}"#, set(&["a"], "3"), r#"{"a":1,"a":3}"#),
            ("\u{feff}{\"a\":1}", set(&["a"], "3"), "\u{feff}{\"a\":3}"),
            (r#"{"\u0061":1}"#, set(&["a"], "3"), r#"{"\u0061":3}"#),
            (
                r#"{"a":1, "b":2,"c":3}"#,
                Edit::Remove(&["b"]),
                r#"{"a":1, "c":3}"#,
            ),
            (r#"{"a":1, "b":2}"#, Edit::Remove(&["b"]), r#"{"a":1}"#),
            (r#"{ "b":2 }"#, Edit::Remove(&["b"]), "{}"),
            (r#"{"b":2}"#, Edit::Remove(&["c"]), r#"{"b":2}"#),
            (r#"{"b":2}"#, Edit::Remove(&["c", "d"]), r#"{"b":2}"#),
        ];
        for (text, edit, want) in cases {
            let edited = apply(text, &[edit]).unwrap();
            assert_eq!(text_of(&edited), want, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_edited_is_told_without_its_text() {
        for text in [
            "canary",
            "[\"canary\"]",
            "{\"a\": canary}",
            "{\"a\":1,}",
            "{/*canary*/}",
        ] {
            let why = apply(text, &[Edit::Set(&["a"], "1".into())]).unwrap_err();
            assert!(!why.contains("canary"), "{why}");
        }
        assert!(apply("{}", &[Edit::Set(&["a", "b"], "1".into())]).is_err());
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            "\\PC{0,8}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                proptest::collection::vec(("\\PC{0,6}", inner), 0..4)
                    .prop_map(|entries| Json::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Any document, in two layouts: an edit is the edit of the value, and all bytes around it stay.
        #[test]
        fn an_edit_is_the_edit_of_the_value(
            entries in proptest::collection::vec(("[a-d]|\\PC{0,4}", any_json()), 0..5),
            value in any_json(),
            pretty: bool,
        ) {
            let map: Map<String, Json> = entries.into_iter().collect();
            let text = if pretty { serde_json::to_string_pretty(&map) } else { serde_json::to_string(&map) }.unwrap();
            let parse = |text: &str| serde_json::from_str::<Map<String, Json>>(text).unwrap();

            let edited = text_of(&apply(&text, &[Edit::Set(&["a"], value.to_string().into())]).unwrap());
            let mut want = map.clone();
            want.insert("a".to_owned(), value);
            prop_assert_eq!(parse(&edited), want);

            let removed = text_of(&apply(&edited, &[Edit::Remove(&["a"])]).unwrap());
            let mut want = map.clone();
            want.shift_remove("a");
            prop_assert_eq!(parse(&removed), want);
            if !map.contains_key("a") && !map.is_empty() {
                prop_assert_eq!(removed, text, "appended and removed leaves what was there");
            }
        }

        #[test]
        fn any_text_is_edited_or_refused(text in "\\PC{0,60}|[\\[\\]{}\":, a0\\\\]{0,30}") {
            let _ = apply(&text, &[Edit::Set(&["a", "b"], json!(1).to_string().into()), Edit::Remove(&["a"])]);
        }
    }
}
