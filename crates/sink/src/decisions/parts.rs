//! What many decisions have in common stands once in a file: of a hundred accounts that one is chosen from, a decision
//! tells a hundred states and a hundred verdicts, and nearly all of them are as they were the time before.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The lists of a record whose items are parts.
const LISTS: [&str; 2] = ["/state/candidates", "/result/Ok/verdicts"];
/// What an item of a list may say of its own place in it. Left out where it is right, so that an account's part stays
/// the same when another one moves up.
const POSITION: &str = "position";

/// A part or a decision, by the beginning of its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name(u64);

impl Name {
    pub(super) fn of(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// As it stands in a file.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_ours = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u64::from_str_radix(text, 16).ok().filter(|_| is_ours).map(Self)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Takes the parts out of a record and leaves their names in their places. Returns them as JSON.
pub(super) fn fold(record: &mut Value) -> Vec<(Name, String)> {
    let mut parts = Vec::new();
    for list in LISTS {
        let items = record.pointer_mut(list).and_then(Value::as_array_mut);
        for (place, item) in items.into_iter().flatten().enumerate() {
            if let Some(fields) = item.as_object_mut()
                && fields.get(POSITION) == Some(&json!(place))
            {
                fields.shift_remove(POSITION);
            }
            let text = item.to_string();
            let name = Name::of(&text);
            *item = Value::String(name.to_string());
            parts.push((name, text));
        }
    }
    parts
}

/// Puts the parts back. `None` when one of them is not there. What stands there whole, as it always did at first, stays.
pub(super) fn unfold(mut record: Value, parts: &HashMap<Name, Value>) -> Option<Value> {
    for list in LISTS {
        let items = record.pointer_mut(list).and_then(Value::as_array_mut);
        for (place, item) in items.into_iter().flatten().enumerate() {
            let Some(name) = item.as_str() else { continue };
            let mut part = parts.get(&Name::parse(name)?)?.clone();
            if list.ends_with("verdicts")
                && let Some(fields) = part.as_object_mut()
            {
                fields.entry(POSITION).or_insert_with(|| json!(place));
            }
            *item = part;
        }
    }
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(verdicts: &Value) -> Value {
        json!({"state": {"agent": "main", "candidates": [{"id": "a"}, {"id": "b"}]}, "result": {"Ok": {"verdicts": verdicts}}})
    }

    fn kept(parts: &[(Name, String)]) -> HashMap<Name, Value> {
        let read = |(name, text): &(Name, String)| (*name, serde_json::from_str(text).unwrap());
        parts.iter().map(read).collect()
    }

    #[test]
    fn what_is_folded_is_unfolded_as_it_was() {
        for verdicts in [
            json!([]),
            json!([{"profile": "a", "position": 0}, {"profile": "b", "position": 1}]),
            // Places that are not those in the list, and none.
            json!([{"profile": "a", "position": 1}, {"profile": "b", "position": null}]),
        ] {
            let whole = record(&verdicts);
            let mut folded = whole.clone();
            let parts = fold(&mut folded);
            assert!(folded.to_string().len() < whole.to_string().len() || parts.len() < 5);
            assert_eq!(
                unfold(folded.clone(), &kept(&parts)),
                Some(whole.clone()),
                "{verdicts}"
            );
            assert_eq!(
                unfold(whole.clone(), &HashMap::new()),
                Some(whole),
                "as it was written at first"
            );
            assert_eq!(unfold(folded, &kept(&parts[1..])), None, "a part is missing");
        }
    }

    #[test]
    fn a_part_is_the_same_wherever_it_stands() {
        let of = |verdicts: Value| fold(&mut record(&verdicts));
        let before = of(json!([{"profile": "a", "position": 0}, {"profile": "b", "position": 1}]));
        let after = of(json!([{"profile": "b", "position": 0}, {"profile": "a", "position": 1}]));
        assert_eq!(kept(&before), kept(&after));
    }

    #[test]
    fn only_a_name_is_one() {
        let name = Name::of("x");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for text in [
            "",
            "12",
            "+123456789abcdef",
            "0123456789abcdefg",
            "0123456789abcdeg",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_has_no_verdicts() {
        let mut record = json!({"state": {"candidates": []}, "result": {"Err": "x"}});
        assert_eq!(fold(&mut record), []);
        assert_eq!(unfold(record.clone(), &HashMap::new()), Some(record));
    }
}
