//! `openclaw.json`: JSON5 of the user's, edited as text.

use serde_json::{Value, json};
use tokensink_store::{Config, Editor, ModelKind, OrderPlacement};

use crate::check::{choice, hides_mark, profile, provider};

const KEY: &str = "zz fuzz";

/// What parses is given back byte for byte; an edit does what it says, and every other value stays; taking back what
/// was put in gives the old values.
pub(crate) fn openclaw_config(data: &[u8]) {
    let (edit, data) = choice(data);
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(failure) => {
            hides_mark(&failure);
            let lines = text.replace("\r\n", "\n").matches(['\n', '\r']).count() + 1;
            assert!(failure.line <= lines, "{failure:?}");
            assert!(
                Editor::parse(text).is_err(),
                "what cannot be read cannot be edited"
            );
            return;
        }
    };
    hides_mark(&config);
    let Ok(editor) = Editor::parse(text) else {
        return;
    };
    assert_eq!(editor.text(), text);
    let before = config.raw().clone();
    // Numbers that JSON cannot hold: the values cannot be compared.
    if before.is_null() {
        return;
    }
    match edit % 6 {
        0 => put_and_take(&editor, text, &before),
        1 => list(&editor, &before),
        2 => {
            let done = editor.apply_profile(
                &profile("fuzz:a"),
                &provider("fuzz"),
                "oauth",
                Some("a@b.c"),
                OrderPlacement::Front,
            );
            let after = parsed(&editor);
            if done.is_ok() {
                assert_eq!(after["auth"]["profiles"]["fuzz:a"]["provider"], json!("fuzz"));
            }
            same_outside(&before, &after, &["auth"]);
            let _ = editor.remove_profile(&profile("fuzz:a"));
            same_outside(&before, &parsed(&editor), &["auth"]);
        }
        3 => {
            let _ = editor.set_default_model(ModelKind::Text, "fuzz/m");
            let _ = editor.set_fallbacks(ModelKind::Text, &["fuzz/a".to_owned(), "fuzz/b".to_owned()]);
            let _ = editor.set_alias("fuzz/m", "fuzz-alias");
            same_outside(&before, &parsed(&editor), &["agents"]);
        }
        4 => {
            let _ = editor.rename_profile(&profile("rig:default"), &profile("rig:a@b.c"));
            same_outside(&before, &parsed(&editor), &["auth"]);
        }
        _ => replace_first(&editor, &before),
    }
}

fn parsed(editor: &Editor) -> Value {
    let text = editor.text();
    let config =
        Config::parse(&text).unwrap_or_else(|failure| panic!("an edit broke the text: {failure:?}\n{text}"));
    config.raw().clone()
}

#[track_caller]
fn same_outside(before: &Value, after: &Value, keys: &[&str]) {
    let without = |value: &Value| {
        let mut map = value.as_object().cloned().unwrap_or_default();
        keys.iter().for_each(|key| drop(map.shift_remove(*key)));
        map
    };
    assert_eq!(
        without(before),
        without(after),
        "what nobody asked to change stays"
    );
}

/// A new value at the end of the text is an insertion: every byte of the old text is still there, in order.
fn put_and_take(editor: &Editor, text: &str, before: &Value) {
    if before.get(KEY).is_some() {
        return;
    }
    let value = json!({"a": [1, "two", null], "b": false});
    editor.set(&[KEY], &value).expect("the top is an object");
    let after = editor.text();
    assert_eq!(parsed(editor)[KEY], value);
    same_outside(before, &parsed(editor), &[KEY]);
    comments_stay(text, &after);
    editor
        .set(&[KEY, "c", "d"], &json!("deep"))
        .expect("objects on the way");
    assert_eq!(parsed(editor)[KEY]["c"]["d"], json!("deep"));
    assert!(editor.remove(&[KEY]));
    assert_eq!(parsed(editor), *before, "taken back");
    comments_stay(text, &editor.text());
}

/// No edit of ours takes a comment of the user's away.
#[track_caller]
fn comments_stay(before: &str, after: &str) {
    let of = |text: &str| text.matches("//").count() + text.matches("/*").count();
    assert!(
        of(after) >= of(before),
        "a comment is gone:\n{before}\n=>\n{after}"
    );
}

fn list(editor: &Editor, before: &Value) {
    let wanted: Vec<String> = ["b", "a", "\"quoted\" \u{e9}"].map(str::to_owned).to_vec();
    if editor.set_list(&["list"], &wanted).is_ok() {
        assert_eq!(parsed(editor)["list"], json!(wanted));
        editor.push(&["list"], &json!({"x": 1})).expect("a list");
        assert!(editor.remove_at(&["list"], 0));
        assert!(editor.replace_at(&["list"], 0, &json!("c")));
        assert_eq!(parsed(editor)["list"], json!(["c", wanted[2], {"x": 1}]));
        assert_eq!(editor.set_at(&["list"], 2, &["y", "z"], &json!(2)), Ok(true));
        assert_eq!(parsed(editor)["list"][2], json!({"x": 1, "y": {"z": 2}}));
    } else {
        assert!(before.get("list").is_some_and(|list| !list.is_array()));
    }
    same_outside(before, &parsed(editor), &["list"]);
}

/// The first value of the text becomes another one where it stands.
fn replace_first(editor: &Editor, before: &Value) {
    let Some(key) = before.as_object().and_then(|map| map.keys().next()).cloned() else {
        return;
    };
    let value = json!(["re", "placed"]);
    editor.set(&[&key], &value).expect("the top is an object");
    assert_eq!(parsed(editor)[&key], value);
    same_outside(before, &parsed(editor), &[&key]);
    let text = editor.text();
    editor.set(&[&key], &value).expect("the top is an object");
    assert_eq!(editor.text(), text, "an equal value is left as written");
}
