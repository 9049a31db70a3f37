//! Where secrets stand in a JSON document: as plain text, or as references. Pure.
//!
//! A text counts as a secret by the name of its key, so that what other programs keep in the same file is found as
//! well. Places are named as people write them, `models.providers.openrouter.apiKey`; the values are never in them.

use serde_json::Value;
use tokensink_types::SecretRef;

use super::reference::{Source, is_env_name};
use super::value::REDACTED;

/// How the names of keys end that hold a secret, in lower case and without `_` and `-`.
const ENDINGS: [&str; 6] = [
    "apikey",
    "token",
    "secret",
    "password",
    "passphrase",
    "privatekey",
];

/// What was found in a document.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Plain secrets: the keys that lead there.
    pub(super) plain: Vec<Vec<String>>,
    /// References: the keys that lead there, and what they say.
    pub(super) references: Vec<(Vec<String>, SecretRef)>,
}

/// Looks through a document. In `models.json`, texts in capitals are names of variables (`markers`).
pub(super) fn of(value: &Value, markers: bool) -> Places {
    let mut places = Places::default();
    let mut path = Vec::new();
    places.walk(value, markers, &mut path);
    places
}

impl Places {
    fn walk(&mut self, value: &Value, markers: bool, path: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = reference_of(value) {
                    self.references.push((path.clone(), reference));
                    return;
                }
                for (key, value) in map {
                    path.push(key.clone());
                    self.walk(value, markers, path);
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(format!("[{index}]"));
                    self.walk(item, markers, path);
                    path.pop();
                }
            }
            Value::String(text) => {
                let named = path.last().is_some_and(|key| names_a_secret(key));
                if named && is_plain(text) && !(markers && is_env_name(text)) {
                    self.plain.push(path.clone());
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// `{source, provider?, id}` of a source that there is.
fn reference_of(value: &Value) -> Option<SecretRef> {
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let source = text("source").filter(|word| Source::parse(word).is_some())?;
    Some(SecretRef {
        source,
        provider: text("provider"),
        id: text("id")?,
    })
}

/// Does the name of a key or variable say that a secret is behind it?
pub(super) fn names_a_secret(key: &str) -> bool {
    let plain: String = key
        .chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

/// Is it a secret itself, not blank and no word for one that stands elsewhere?
pub(super) fn is_plain(text: &str) -> bool {
    let text = text.trim();
    let name = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .or_else(|| text.strip_prefix('$'));
    let stands_elsewhere =
        name.is_some_and(is_env_name) || text.starts_with("secretref-") || text == REDACTED;
    !text.is_empty() && !stands_elsewhere
}

/// The keys as one text; a key that holds a dot or a bracket is quoted.
pub(super) fn shown(path: &[String]) -> String {
    let mut text = String::new();
    for key in path {
        if key.starts_with('[') {
            text += key;
        } else if key.contains(['.', '[']) {
            text += &format!("[{key:?}]");
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text += key;
        }
    }
    text
}

/// What stands at a path.
pub(super) fn at<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Array(items) => {
            let index = key.strip_prefix('[')?.strip_suffix(']')?;
            items.get(index.parse::<usize>().ok()?)
        }
        other => other.get(key),
    })
}

/// The variables of a `.env` file: line, name and value (spec.md 1.8).
pub(super) fn variables(text: &str) -> Vec<(usize, &str, &str)> {
    text.lines()
        .enumerate()
        .filter_map(|(number, line)| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            let name = name.trim();
            (!name.starts_with('#')).then_some((number + 1, name, value.trim().trim_matches(['"', '\''])))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_by_the_names_of_their_keys() {
        let value = json!({
            "models": {"providers": {"a.b": {"apiKey": "canary"}, "c": {"apiKey": "${KEY}"}, "d": {"apiKey": ""}}},
            "list": [{"bot_token": "canary", "maxTokens": "9", "tokenEndpoint": "https://x"}],
            "hooks": {"clientSecret": {"source": "exec", "provider": "v", "id": "x"}},
            "gateway": {"auth": {"token": "__OPENCLAW_REDACTED__", "password": "$PASS"}},
        });
        let places = of(&value, false);
        let plain: Vec<String> = places.plain.iter().map(|path| shown(path)).collect();
        assert_eq!(plain, ["models.providers[\"a.b\"].apiKey", "list[0].bot_token"]);
        assert_eq!(places.references.len(), 1);
        assert_eq!(shown(&places.references[0].0), "hooks.clientSecret");
        assert!(of(&json!({"apiKey": "OPENAI_API_KEY"}), true).plain.is_empty());
        assert_eq!(of(&json!({"apiKey": "OPENAI_API_KEY"}), false).plain.len(), 1);
    }

    #[test]
    fn variables_of_a_dotenv_file() {
        let text = "# NOTE=1\nexport A_KEY='canary'\nB = \"x y\" \n\nnonsense\nC=\n";
        assert_eq!(
            variables(text),
            [(2, "A_KEY", "canary"), (3, "B", "x y"), (6, "C", "")]
        );
    }

    proptest! {
        #[test]
        fn any_text_has_variables_or_none(text: String) {
            for (line, name, value) in variables(&text) {
                prop_assert!(line >= 1 && text.contains(name) && text.contains(value));
            }
        }
    }
}
