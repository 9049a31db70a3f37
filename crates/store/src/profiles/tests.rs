use proptest::prelude::*;
use serde_json::json;
use tokensink_types::{CredentialKind, Expiry, Secret, SecretRef, SecretSource, SecretText, UnixMillis};

use super::*;

fn document(value: &Value) -> ProfilesDocument {
    ProfilesDocument::parse(value.to_string().as_bytes()).unwrap()
}

fn one(entry: &Value) -> ProfilesDocument {
    document(&json!({"version": 1, "profiles": {"p:1": entry}}))
}

fn id(text: &str) -> ProfileId {
    ProfileId::parse(text).unwrap()
}

fn saved(document: &ProfilesDocument) -> Value {
    serde_json::from_slice(&document.to_bytes()).unwrap()
}

#[test]
fn entries_that_are_no_credentials_are_kept_and_named() {
    let value = json!({"version": 1, "profiles": {
        "a": 5, "b": {"type": "aws-sdk", "provider": "x"}, "c": {"type": "oauth"},
        "d": {"type": "token", "provider": " "}, "e": {"type": "token", "provider": "a/b", "token": "t"},
        " ": {"type": "token", "provider": "x", "token": "t"}, "ok": {"type": "token", "provider": "x", "token": "t"},
        " ok ": {"type": "token", "provider": "x", "token": "u"},
    }});
    let mut document = document(&value);
    let reasons: Vec<_> = document
        .ignored()
        .iter()
        .map(|ignored| (ignored.key.as_str(), ignored.reason.as_str()))
        .collect();
    let want = [
        ("a", "non_object"),
        ("b", "invalid_type"),
        ("c", "missing_provider"),
        ("d", "missing_provider"),
        ("e", "invalid_provider"),
        (" ", "invalid_id"),
        (" ok ", "invalid_id"),
    ];
    assert_eq!(reasons, want);
    assert_eq!(document.entries().len(), 1);
    document.remove(&id("ok"));
    assert!(
        document.get(&id("ok")).is_some(),
        "the shadowed spelling comes into view, and is not lost"
    );
    assert_eq!(saved(&document)["profiles"].as_object().unwrap().len(), 7);
}

#[test]
fn spellings_that_are_tolerated() {
    let reference = json!({"source": "env", "provider": "default", "id": "KEY", "x": 1});
    let expected_ref = SecretRef {
        source: "env".into(),
        provider: Some("default".into()),
        id: "KEY".into(),
    };
    let plain = |text: &str| Some(SecretText::Plain(Secret::from(text)));
    let cases = [
        (
            json!({"mode": "api_key", "provider": "p", "apiKey": "k"}),
            plain("k"),
            None,
        ),
        (
            json!({"type": "api_key", "provider": "p", "key": reference}),
            None,
            Some(&expected_ref),
        ),
        (
            json!({"type": "token", "provider": "p", "token": reference, "tokenRef": {"source": "file", "id": "/x"}}),
            None,
            Some(&SecretRef {
                source: "file".into(),
                provider: None,
                id: "/x".into(),
            }),
        ),
        (
            json!({"type": "token", "provider": "p", "token": "t", "tokenRef": {"id": 1}}),
            plain("t"),
            None,
        ),
        (
            json!({"type": "api_key", "provider": "p", "key": " "}),
            None,
            None,
        ),
    ];
    for (entry, inline, reference) in cases {
        let document = one(&entry);
        let source = match document.get(&id("p:1")).unwrap() {
            Credential::ApiKey(key) => &key.key,
            Credential::Token(token) => &token.token,
            Credential::OAuth(_) => panic!("{entry}"),
        };
        assert_eq!(
            source,
            &SecretSource {
                inline,
                reference: reference.cloned()
            },
            "{entry}"
        );
    }
}

#[test]
fn an_env_template_is_told_from_a_value() {
    let name_of = |text: &str| match parse::secret_text(text) {
        Some(SecretText::EnvTemplate { name, .. }) => Some(name),
        Some(SecretText::Plain(_)) | None => None,
    };
    assert_eq!(name_of("${ANTHROPIC_KEY}").as_deref(), Some("ANTHROPIC_KEY"));
    for text in [
        "${lower}",
        "$KEY",
        "${1A}",
        "x${KEY}",
        "${A-B}",
        &format!("${{{}}}", "A".repeat(129)),
    ] {
        assert_eq!(name_of(text), None, "{text}");
    }
}

#[test]
fn expiry_of_static_tokens() {
    let cases = [
        (json!(null), Expiry::Invalid),
        (json!(0), Expiry::Invalid),
        (json!(-5), Expiry::Invalid),
        (json!("5"), Expiry::Invalid),
        (json!(5), Expiry::At(UnixMillis(5))),
        (json!(5.9), Expiry::At(UnixMillis(5))),
    ];
    for (expires, want) in cases {
        let document = one(&json!({"type": "token", "provider": "p", "token": "t", "expires": expires}));
        let Some(Credential::Token(token)) = document.get(&id("p:1")) else {
            panic!()
        };
        assert_eq!(token.expires, want, "{expires}");
    }
}

#[test]
fn an_upsert_touches_only_what_differs() {
    let entry = json!({"x0": 1, "type": "oauth", "provider": "OpenAI-Codex", "access": "a1", "refresh": "r1",
        "expires": 5.5, "email": " A@b.c ", "accountId": "acct", "copyToAgents": false, "nested": {"k": [1]}});
    let mut document = one(&entry);
    let same = document.get(&id("p:1")).unwrap().clone();
    let before = document.to_bytes();
    document.upsert(&id("p:1"), &same);
    assert_eq!(document.to_bytes(), before, "nothing differs, nothing changes");
    let Credential::OAuth(mut oauth) = same else {
        panic!()
    };
    oauth.tokens.access = "a2".into();
    oauth.tokens.refresh = Some("r2".into());
    oauth.tokens.expires = Some(UnixMillis(9));
    document.upsert(&id("p:1"), &Credential::OAuth(oauth.clone()));
    let mut want = entry.clone();
    want["access"] = json!("a2");
    want["refresh"] = json!("r2");
    want["expires"] = json!(9);
    let saved = saved(&document);
    assert_eq!(
        saved["profiles"]["p:1"].to_string(),
        want.to_string(),
        "same order, same spelling"
    );
    assert_eq!(document.get(&id("p:1")), Some(&Credential::OAuth(oauth)));
    assert_eq!(document.copy_to_agents(&id("p:1")), Some(false));
}

#[test]
fn a_login_of_another_account_leaves_nothing_of_the_old_one() {
    let entry = json!({"type": "oauth", "provider": "p", "access": "a1", "refresh": "r1", "expires": 5, "idToken": "i",
        "email": "old@b.c", "accountId": "old", "projectId": "old", "clientId": "old", "displayName": "mine", "x": "kept"});
    let mut document = one(&entry);
    let fresh = one(&json!({"type": "oauth", "provider": "p", "access": "a2", "refresh": "r2"}));
    document.upsert(&id("p:1"), fresh.get(&id("p:1")).unwrap());
    let want = json!({"type": "oauth", "provider": "p", "access": "a2", "refresh": "r2", "displayName": "mine", "x": "kept"});
    assert_eq!(saved(&document)["profiles"]["p:1"], want);
}

#[test]
fn a_change_of_kind_removes_the_secrets_of_the_other_kind() {
    let secret_fields = [
        "key", "keyRef", "token", "tokenRef", "access", "refresh", "idToken",
    ];
    let entries = [
        json!({"type": "oauth", "provider": "p", "access": "a", "refresh": "r", "idToken": "i", "expires": 5}),
        json!({"type": "token", "provider": "p", "token": "t", "expires": 5}),
        json!({"type": "api_key", "provider": "p", "key": "k"}),
    ];
    for from in &entries {
        for to in &entries {
            let mut document = one(from);
            let new = one(to).get(&id("p:1")).unwrap().clone();
            document.upsert(&id("p:1"), &new);
            assert_eq!(document.get(&id("p:1")), Some(&new), "{from} {to}");
            let saved = saved(&document);
            for field in secret_fields {
                assert_eq!(
                    saved["profiles"]["p:1"].get(field),
                    to.get(field),
                    "{from} {to} {field}"
                );
            }
        }
    }
}

#[test]
fn a_reference_is_written_without_the_value() {
    let mut document = one(&json!({"type": "api_key", "provider": "p", "key": "k", "x": 1}));
    let reference = SecretRef {
        source: "env".into(),
        provider: None,
        id: "KEY".into(),
    };
    let Some(Credential::ApiKey(mut key)) = document.get(&id("p:1")).cloned() else {
        panic!()
    };
    key.key.reference = Some(reference);
    document.upsert(&id("p:1"), &Credential::ApiKey(key.clone()));
    let want = json!({"type": "api_key", "provider": "p", "x": 1, "keyRef": {"source": "env", "id": "KEY"}});
    assert_eq!(saved(&document)["profiles"]["p:1"], want);
    key.key = SecretSource::inline("k2".into());
    document.upsert(&id("p:1"), &Credential::ApiKey(key));
    let want = json!({"type": "api_key", "provider": "p", "x": 1, "key": "k2"});
    assert_eq!(saved(&document)["profiles"]["p:1"], want);
}

#[test]
fn new_entries_have_openclaws_order_of_fields() {
    let mut document = ProfilesDocument::empty();
    let entry = one(
        &json!({"type": "oauth", "provider": "p", "access": "a", "refresh": "r", "expires": 5,
        "accountId": "acct", "email": "a@b.c", "displayName": "d", "projectId": "x"}),
    );
    document.upsert(&id("p:2"), entry.get(&id("p:1")).unwrap());
    let saved = saved(&document);
    let keys: Vec<&String> = saved["profiles"]["p:2"].as_object().unwrap().keys().collect();
    let want = [
        "type",
        "provider",
        "email",
        "access",
        "refresh",
        "accountId",
        "expires",
        "projectId",
        "displayName",
    ];
    assert_eq!(keys, want);
}

#[test]
fn pasted_secrets_are_cleaned() {
    let cases = [
        (" sk-a\r\nb c\u{2028}\u{200b} ", "sk-ab c"),
        ("s\u{e9}\u{100}", "s\u{e9}"),
        ("\n", ""),
    ];
    for (text, want) in cases {
        assert_eq!(clean_secret(text), want, "{text:?}");
    }
    let mut document = ProfilesDocument::empty();
    let token = one(&json!({"type": "token", "provider": "p", "token": "t\nu "}));
    document.upsert(&id("p:1"), token.get(&id("p:1")).unwrap());
    assert_eq!(saved(&document)["profiles"]["p:1"]["token"], json!("tu"));
}

#[test]
fn the_flat_form_is_read_and_nothing_of_it_is_lost() {
    let value = json!({"openrouter": {"apiKey": "k", "x": 1}, "anthropic": {"access": "a", "refresh": "r"},
        "note": "kept", "later": {"no": "credential"}, "order": {"a": ["b"]}});
    let document = document(&value);
    let ids: Vec<_> = document.entries().iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["openrouter:default", "anthropic:default"]);
    let saved = saved(&document);
    assert_eq!(saved["profiles"]["openrouter:default"]["x"], json!(1));
    assert_eq!(saved["profiles"]["openrouter:default"]["key"], json!("k"));
    assert_eq!(
        (&saved["note"], &saved["later"]),
        (&json!("kept"), &json!({"no": "credential"}))
    );
    assert!(document.has_state_maps());
}

#[test]
fn foreign_shapes_are_refused() {
    for text in [
        "",
        "[]",
        "null",
        "{",
        r#"{"profiles": []}"#,
        r#"{"profiles": 1}"#,
        "\u{0}",
    ] {
        assert!(ProfilesDocument::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(ProfilesDocument::parse(b"{}").unwrap().is_empty());
}

#[test]
fn nothing_shows_a_secret() {
    let document = one(
        &json!({"type": "oauth", "provider": "p", "access": "canary", "refresh": "canary",
        "apiToken": "canary", "x": {"y": "canary"}}),
    );
    assert!(!format!("{document:?}").contains("canary"), "{document:?}");
}

fn any_entry() -> impl Strategy<Value = Value> {
    let text = "[a-zA-Z0-9 ._:-]{0,12}";
    let field = prop_oneof![
        text.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(Value::Null),
        text.prop_map(|id| json!({"source": "env", "id": id})),
    ];
    let name = prop::sample::select(vec![
        "type",
        "mode",
        "provider",
        "key",
        "apiKey",
        "keyRef",
        "token",
        "tokenRef",
        "access",
        "refresh",
        "expires",
        "idToken",
        "email",
        "displayName",
        "accountId",
        "clientId",
        "projectId",
        "metadata",
        "x",
        "y",
    ]);
    let kind = prop::sample::select(vec!["oauth", "token", "api_key", "other"]);
    (kind, prop::collection::vec((name, field), 0..12)).prop_map(|(kind, fields)| {
        let mut entry = json!({"type": kind, "provider": "p"});
        for (name, value) in fields {
            entry[name] = value;
        }
        entry
    })
}

proptest! {
    /// Any entry over any other: the result reads back as the credential that was written, and no unknown key is lost.
    #[test]
    fn an_upsert_reads_back_and_keeps_what_it_does_not_know(old in any_entry(), new in any_entry()) {
        let source = one(&new);
        let Some(credential) = source.get(&id("p:1")) else { return Ok(()) };
        let mut document = one(&old);
        document.upsert(&id("p:1"), credential);
        let read = document.get(&id("p:1")).unwrap();
        prop_assert_eq!(read.kind(), credential.kind());
        prop_assert_eq!(read.provider(), credential.provider());
        if let (Credential::OAuth(read), Credential::OAuth(wrote)) = (read, credential) {
            prop_assert_eq!(&read.tokens.access, &wrote.tokens.access);
            prop_assert_eq!(read.tokens.refresh_token(), wrote.tokens.refresh_token());
            prop_assert_eq!(read.tokens.expires, wrote.tokens.expires);
        }
        let saved = saved(&document);
        for key in ["y"] {
            if new.get(key).and_then(Value::as_str).is_none() {
                prop_assert_eq!(saved["profiles"]["p:1"].get(key), old.get(key));
            }
        }
        // A second time changes nothing.
        let bytes = document.to_bytes();
        let again = document.get(&id("p:1")).unwrap().clone();
        document.upsert(&id("p:1"), &again);
        if !matches!(again.kind(), CredentialKind::ApiKey | CredentialKind::Token) {
            prop_assert_eq!(document.to_bytes(), bytes);
        }
    }

    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ProfilesDocument::parse(&bytes);
    }
}
