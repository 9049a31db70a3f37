//! Bodies of clients, bodies of tricksters, and the same question put to `serde_json`.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn openai(body: &str) -> Result<Outline, Malformed> {
    outline(body.as_bytes(), Family::OpenAi)
}

fn ties(body: &str, family: Family) -> Vec<(&'static str, Option<String>)> {
    let outline = outline(body.as_bytes(), family).unwrap();
    outline.ties.into_iter().map(|tie| (tie.what, tie.id)).collect()
}

#[test]
fn the_model_and_where_it_stands() {
    let cases = [
        (r#"{"model":"m"}"#, "m", r#""m""#),
        (
            "\n{ \"a\" : [1, {\"model\": \"x\"}], \"model\"\t: \"p/m@w\" , \"b\":{} } ",
            "p/m@w",
            r#""p/m@w""#,
        ),
        (r#"{"mod\u0065l":"m"}"#, "m", r#""m""#),
        (
            r#"{"\u006D\u006f\u0064\u0065\u006c":"\u006d"}"#,
            "m",
            r#""\u006d""#,
        ),
        (
            r#"{"model":"a\"b\\c\/\ud83d\ude00"}"#,
            "a\"b\\c/😀",
            r#""a\"b\\c\/\ud83d\ude00""#,
        ),
        (
            r#"{"messages":[{"model":"x"}],"metadata":{"model":"y"},"model":"m"}"#,
            "m",
            r#""m""#,
        ),
        (r#"{"model":""}"#, "", r#""""#),
        (r#"{"models":"x","model":"é"}"#, "é", r#""é""#),
    ];
    for (body, text, raw) in cases {
        let field = openai(body).unwrap().model.unwrap();
        assert_eq!(field.text, text, "{body}");
        assert_eq!(&body[field.range], raw, "{body}");
    }
    for body in [
        r"{}",
        r#"{"a":{"model":"x"}}"#,
        r#"{"Model":"x"}"#,
        r#"{"mod\ud800el":"x"}"#,
    ] {
        assert_eq!(openai(body).unwrap().model, None, "{body}");
    }
}

#[test]
fn two_models_are_refused_however_they_are_spelt() {
    let bodies = [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","model":"a"}"#,
        r#"{"model":"a","mod\u0065l":"b"}"#,
        r#"{"mod\u0065l":"a","model":"b"}"#,
        r#"{"model":"a","x":{"y":[]},"MODEL":"b"}"#,
        r#"{"Model":"a","model":"b"}"#,
        r#"{"Model":1,"model":"b"}"#,
        r#"{"model":"a","model":null}"#,
    ];
    for body in bodies {
        assert_eq!(openai(body), Err(Malformed::TwoModels), "{body}");
    }
}

#[test]
fn what_cannot_be_routed_by() {
    use Malformed::{ModelNotText, NotAnObject, TooDeep};
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(600), "]".repeat(600));
    let cases = [
        ("[]", NotAnObject),
        (r#"["model"]"#, NotAnObject),
        ("null", NotAnObject),
        ("true", NotAnObject),
        (r#""model""#, NotAnObject),
        (r#"{"model":1}"#, ModelNotText),
        (r#"{"model":null}"#, ModelNotText),
        (r#"{"model":true}"#, ModelNotText),
        (r#"{"model":["a"]}"#, ModelNotText),
        (r#"{"model":{"model":"a"}}"#, ModelNotText),
        (&deep, TooDeep),
    ];
    for (body, want) in cases {
        assert_eq!(openai(body), Err(want.clone()), "{body}");
        assert_eq!(want.refusal().status, 400);
    }
    let broken = [
        "",
        " ",
        "{",
        "}",
        "{]",
        r#"{"model"}"#,
        r#"{"model":}"#,
        r#"{"model":"a",}"#,
        r#"{,"model":"a"}"#,
        r#"{"model":"a"}x"#,
        r#"{"model":"a"}{"model":"b"}"#,
        r#"{"model":"a"} null"#,
        r#"{'model':'a'}"#,
        r#"{model:"a"}"#,
        r#"{"model":"a"/**/}"#,
        "{\"model\":\"a\u{1}\"}",
        "{\"a\":\"\n\"}",
        r#"{"model":"\x"}"#,
        r#"{"model":"\u12g4"}"#,
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":1e}"#,
        r#"{"a":-}"#,
        r#"{"a":NaN}"#,
        r#"{"a":tru}"#,
        r#"{"a":truex}"#,
        "\u{feff}{}",
        "{\"a\":1,\u{a0}\"b\":2}",
        r#"{"a":[1 2]}"#,
        r#"{"a":[,1]}"#,
        r#"{"a":[1,]}"#,
        "{\"a\":1\u{0}}",
    ];
    for body in broken {
        assert!(matches!(openai(body), Err(Malformed::NotJson(_))), "{body:?}");
    }
    assert!(matches!(
        outline(b"{\"a\":\"\xff\"}", Family::OpenAi),
        Err(Malformed::NotJson(6))
    ));
    // A control character, no end, an escape that is none, each behind what is longer than is looked at at once.
    let long = "x".repeat(100);
    for (end, at) in [("\n\"}", 106), ("", 106), ("\\x\"}", 106), ("\\\"\n\"}", 108)] {
        let body = format!("{{\"a\":\"{long}{end}");
        assert_eq!(openai(&body), Err(Malformed::NotJson(at)), "{end:?}");
    }
}

#[test]
fn streaming() {
    let cases = [
        (r#"{"stream":true}"#, true),
        (r#"{"stream":false}"#, false),
        (r#"{"stream":"true"}"#, false),
        (r#"{"a":{"stream":true}}"#, false),
        (r#"{"stream":true,"stream":false}"#, false),
        (r#"{"str\u0065am":true}"#, true),
    ];
    for (body, want) in cases {
        assert_eq!(openai(body).unwrap().stream, want, "{body}");
    }
}

#[test]
fn what_belongs_to_one_account() {
    use Family::{Anthropic, OpenAi};
    let cases = [
        (
            OpenAi,
            json!({"previous_response_id": "resp_1"}),
            "previous_response_id",
            Some("resp_1"),
        ),
        (
            OpenAi,
            json!({"conversation": "conv_1"}),
            "conversation",
            Some("conv_1"),
        ),
        (
            OpenAi,
            json!({"conversation": {"id": "conv_1"}}),
            "conversation",
            Some("conv_1"),
        ),
        (
            OpenAi,
            json!({"prompt": {"id": "pmpt_1"}}),
            "prompt",
            Some("pmpt_1"),
        ),
        (
            OpenAi,
            json!({"input": [{"id": "rs_1", "encrypted_content": "gAAA"}]}),
            "encrypted_content",
            None,
        ),
        (
            OpenAi,
            json!({"input": [{"type": "reasoning", "id": "rs_1"}]}),
            "reasoning",
            None,
        ),
        (
            OpenAi,
            json!({"input": [{"type": "item_reference", "id": "msg_1"}]}),
            "item_reference",
            None,
        ),
        (
            OpenAi,
            json!({"messages": [{"content": [{"type": "file", "file": {"file_id": "f-1"}}]}]}),
            "file_id",
            Some("f-1"),
        ),
        (
            OpenAi,
            json!({"input_file_id": "f-3", "endpoint": "/v1/responses", "completion_window": "24h"}),
            "file_id",
            Some("f-3"),
        ),
        (
            OpenAi,
            json!({"model": "m", "training_file": "f-4", "suffix": "x"}),
            "file_id",
            Some("f-4"),
        ),
        (
            OpenAi,
            json!({"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}),
            "container",
            Some("cntr_1"),
        ),
        (
            OpenAi,
            json!({"tools": [{"container": {"type": "auto", "file_ids": ["f-2"]}}]}),
            "file_ids",
            Some("f-2"),
        ),
        (
            OpenAi,
            json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
            "vector_store_ids",
            Some("vs_1"),
        ),
        (Anthropic, json!({"container": "c_1"}), "container", Some("c_1")),
        (
            Anthropic,
            json!({"container": {"id": "c_1", "skills": []}}),
            "container",
            Some("c_1"),
        ),
        (
            Anthropic,
            json!({"messages": [{"content": [{"source": {"type": "file", "file_id": "file_1"}}]}]}),
            "file_id",
            Some("file_1"),
        ),
    ];
    for (family, body, what, id) in cases {
        let found = ties(&body.to_string(), family);
        assert_eq!(found, [(what, id.map(str::to_owned))], "{body}");
    }
}

#[test]
fn what_belongs_to_the_user_does_not_tie() {
    use Family::{Anthropic, OpenAi};
    let cases = [
        (
            OpenAi,
            json!({"previous_response_id": null, "conversation": null, "prompt": "text", "container": ""}),
        ),
        (OpenAi, json!({"metadata": {"file_id": "x", "type": "reasoning"}})),
        (
            OpenAi,
            json!({"tools": [{"parameters": {"properties": {"file_id": {"type": "string", "default": "x"}}}}]}),
        ),
        (
            OpenAi,
            json!({"tools": [{"parameters": {"file_id": "x"}}], "reasoning": {"effort": "high"}}),
        ),
        (
            OpenAi,
            json!({"input": [{"previous_response_id": "x", "arguments": "{\"file_id\":\"x\"}"}]}),
        ),
        (
            OpenAi,
            json!({"input": [{"type": "reasoning_text"}, {"id": "msg_1", "type": "message"}], "id": "x"}),
        ),
        (
            Anthropic,
            json!({"messages": [{"content": [{"type": "tool_use", "input": {"file_id": "x", "container": "y"}}]}]}),
        ),
        (
            Anthropic,
            json!({"tools": [{"input_schema": {"container": "x"}}]}),
        ),
        (
            Anthropic,
            json!({"messages": [{"content": [{"type": "thinking", "signature": "x"}]}]}),
        ),
        (
            Anthropic,
            json!({"messages": [{"content": [{"encrypted_content": "x"}]}]}),
        ),
    ];
    for (family, body) in cases {
        assert_eq!(ties(&body.to_string(), family), [], "{body}");
    }
    let many = json!({"input": vec![json!({"file_id": "f".repeat(300)}); 50]}).to_string();
    assert_eq!(ties(&many, OpenAi), vec![("file_id", None); TIES_MAX]);
}

#[test]
fn an_edit_changes_the_value_and_nothing_else() {
    let body = "{ \"a\": 1e5,\r\n\"mod\\u0065l\" :\"opus@work\" , \"b\" : [\"model\", 1.0] }\n";
    let field = openai(body).unwrap().model.unwrap();
    let edited = Edit::of_model(&field, "claude \"x\"\u{1}").apply(body.as_bytes());
    assert_eq!(
        String::from_utf8(edited).unwrap(),
        "{ \"a\": 1e5,\r\n\"mod\\u0065l\" :\"claude \\\"x\\\"\\u0001\" , \"b\" : [\"model\", 1.0] }\n"
    );
    let outside = Edit {
        range: 5..99,
        text: "x".to_owned(),
    };
    assert_eq!(outside.apply(b"abc"), b"abc");
}

fn value() -> impl Strategy<Value = Value> {
    let key = || prop_oneof![Just("model".to_owned()), Just("stream".to_owned()), "\\PC{0,4}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|pairs| Value::from(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Some characters of the texts as escapes, which means the same.
fn escaped(json: &str, which: u64) -> String {
    let mut inside = false;
    // How many characters of an escape follow.
    let mut verbatim = 0;
    let mut out = String::new();
    for (number, c) in json.chars().enumerate() {
        if verbatim > 0 {
            verbatim += if c == 'u' && out.ends_with('\\') { 3 } else { -1 };
        } else if c == '"' {
            inside = !inside;
        } else if c == '\\' {
            verbatim = 1;
        } else if inside && which >> (number % 64) & 1 == 1 {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
            continue;
        }
        out.push(c);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// What is found is what serde_json finds.
    #[test]
    fn as_serde_json_reads_it(value in value(), which in any::<u64>(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let text = escaped(&text, which);
        prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &value, "the test's own escapes");
        let Value::Object(object) = &value else {
            prop_assert_eq!(openai(&text), Err(Malformed::NotAnObject));
            return Ok(());
        };
        match (object.get("model"), openai(&text)) {
            (Some(Value::String(model)), Ok(outline)) => {
                let field = outline.model.unwrap();
                prop_assert_eq!(&field.text, model);
                let edited = Edit::of_model(&field, "new").apply(text.as_bytes());
                let mut want = object.clone();
                want["model"] = "new".into();
                prop_assert_eq!(serde_json::from_slice::<Value>(&edited).unwrap(), Value::Object(want));
                prop_assert_eq!(outline.stream, object.get("stream") == Some(&Value::Bool(true)));
            }
            (None, Ok(outline)) => prop_assert_eq!(outline.model, None),
            (Some(_), seen) => prop_assert_eq!(seen, Err(Malformed::ModelNotText)),
            (None, Err(error)) => prop_assert!(false, "{error:?}"),
        }
    }

    /// What is JSON to us is JSON to serde_json, and the other way round, for texts that nearly are.
    #[test]
    fn nearly_json(
        value in value(),
        bends in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[]\",:\\u0e-+. \ntfn\x01\xff".to_vec())), 0..3),
        insert in any::<bool>(),
    ) {
        let mut text = value.to_string().into_bytes();
        for (at, byte) in bends {
            let at = at.index(text.len());
            if insert { text.insert(at, byte); } else { text[at] = byte; }
        }
        // A value that is asked for nothing but its end checks the grammar alone.
        let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok() && std::str::from_utf8(&text).is_ok();
        let ours = !matches!(outline(&text, Family::OpenAi), Err(Malformed::NotJson(_)));
        let object = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        // Other findings end the reading early.
        if outline(&text, Family::OpenAi).is_ok() {
            prop_assert!(theirs, "{}", String::from_utf8_lossy(&text));
        } else if object && !ours {
            prop_assert!(!theirs, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn any_bytes_do_not_panic(body in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\",:\\\\u0-9a-f model]{0,80}") {
        let _ = outline(&body, Family::OpenAi);
        let _ = outline(text.as_bytes(), Family::Anthropic);
        let _ = json::unescaped(&text);
    }
}
