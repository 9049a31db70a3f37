//! Lines in, steps out.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokensink_types::{Account, MethodId, ProfileId, ProviderId, TokenSet, UnixMillis};

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// A conversation in which the request was sent, and that request.
fn asked(action: Action) -> (Conversation, Value) {
    let tokens = TokenSet {
        access: "access-canary-0123456789".into(),
        refresh: Some("refresh-canary-0123456789".into()),
        expires: Some(UnixMillis(1_800_000_001_999)),
        id_token: None,
    };
    let account = Account {
        email: Some("a@example.com".to_owned()),
        ..Account::default()
    };
    let provider = ProviderId::parse("rig").unwrap();
    let method = MethodId::parse("oauth").unwrap();
    let profile = ProfileId::parse("rig:a@example.com").unwrap();
    let settings = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    let login = action == Action::Login;
    let mut conversation = Conversation::new(action);
    let hello = conversation.on_line(br#"{"type":"hello","versions":[9,1],"more":true}"#);
    assert_eq!(hello, Ok(Step::Ready(1)));
    let line = conversation
        .request(&Request {
            version: 1,
            provider: &provider,
            method: &method,
            profile: (!login).then_some(&profile),
            settings: &settings,
            tokens: (!login).then_some(&tokens),
            account: (!login).then_some(&account),
            fields: None,
            interactive: login,
        })
        .unwrap();
    assert_eq!(line.expose().last(), Some(&b'\n'));
    (conversation, serde_json::from_slice(line.expose()).unwrap())
}

fn say(conversation: &mut Conversation, value: &Value) -> Result<Step, Violation> {
    conversation.on_line(value.to_string().as_bytes())
}

#[test]
fn a_request_holds_what_belongs_to_it_and_nothing_else() {
    let (_, login) = asked(Action::Login);
    assert_eq!(
        login,
        json!({"type": "request", "version": 1, "action": "login", "provider": "rig", "method": "oauth",
               "interactive": true, "settings": {"region": "eu"}})
    );
    let (_, refresh) = asked(Action::Refresh);
    assert_eq!(
        refresh,
        json!({"type": "request", "version": 1, "action": "refresh", "provider": "rig", "method": "oauth",
               "interactive": false, "settings": {"region": "eu"}, "profile": "rig:a@example.com",
               "tokens": {"access_token": "access-canary-0123456789", "refresh_token": "refresh-canary-0123456789",
                          "expires_at": 1_800_000_001},
               "account": {"email": "a@example.com"}})
    );
    assert_eq!(
        answer_line("q", Some(&"x".into())).expose(),
        b"{\"type\":\"answer\",\"id\":\"q\",\"value\":\"x\"}\n"
    );
    assert_eq!(
        answer_line("q", None).expose(),
        b"{\"type\":\"answer\",\"id\":\"q\",\"cancelled\":true}\n"
    );
}

#[test]
fn a_login_asks_tells_and_ends() {
    let (mut plugin, _) = asked(Action::Login);
    let prompt = json!({"type": "prompt", "id": "p", "kind": "select", "text": "Which\u{1b}[31m one?",
                        "options": [{"value": "a", "label": "A"}, {"value": "b"}]});
    let Step::Ask(prompt) = say(&mut plugin, &prompt).unwrap() else {
        panic!()
    };
    assert_eq!(
        (prompt.text.as_str(), prompt.kind),
        ("Which[31m one?", PromptKind::Select)
    );
    assert_eq!(prompt.options[1].label, "b");
    let open = say(
        &mut plugin,
        &json!({"type": "open_url", "url": "https://rig.example/login?x=1"}),
    );
    assert!(matches!(open, Ok(Step::Open(_))), "{open:?}");
    let tell = say(
        &mut plugin,
        &json!({"type": "progress", "text": "go on", "waiting": true}),
    );
    assert_eq!(
        tell,
        Ok(Step::Tell {
            text: "go on".to_owned(),
            waiting: true
        })
    );
    plugin.told(&"hunter2-hunter2".into());
    let tell = say(
        &mut plugin,
        &json!({"type": "progress", "text": "you said hunter2-hunter2"}),
    );
    assert_eq!(
        tell,
        Ok(Step::Tell {
            text: "you said [redacted]".to_owned(),
            waiting: false
        })
    );
    let result = json!({"type": "result", "access_token": "at", "refresh_token": "rt", "expires_in": 60,
                        "account": {"email": "a@example.com"}, "profile": "rig:x"});
    let Step::Done(answered) = say(&mut plugin, &result).unwrap() else {
        panic!()
    };
    assert!(answered.has_account());
    assert_eq!(answered.profile(), Some("rig:x"));
    assert!(!format!("{answered:?}").contains("rt"));
    let grant = answered.into_grant(NOW).unwrap();
    assert_eq!(grant.access_token, "at".into());
    assert_eq!(grant.text("/account/email").as_deref(), Some("a@example.com"));
    assert_eq!(
        say(&mut plugin, &result),
        Err(Violation::OutOfTurn {
            message: "result",
            expected: "the end"
        })
    );
}

#[test]
fn errors_are_typed_and_clean() {
    let (mut plugin, _) = asked(Action::Refresh);
    let error = json!({"type": "error", "kind": "transient", "message": "busy\nwith refresh-canary-0123456789",
                       "retry_after": 7, "unspent": true});
    let Ok(Step::Failed(fault)) = say(&mut plugin, &error) else {
        panic!()
    };
    assert_eq!(
        fault,
        Fault {
            kind: FaultKind::Transient,
            message: "busy with [redacted]".to_owned(),
            retry_after: Some(Duration::from_secs(7)),
            unspent: true,
        }
    );
    assert_eq!(
        fault.to_string(),
        "it did not work this time: busy with [redacted]"
    );
    for (word, kind) in [
        ("not_supported", FaultKind::NotSupported),
        ("denied", FaultKind::Denied),
        ("terminal", FaultKind::Terminal),
        ("usage", FaultKind::Usage),
    ] {
        let mut plugin = Conversation::new(Action::Login);
        let said = say(
            &mut plugin,
            &json!({"type": "error", "kind": word, "unspent": "yes"}),
        );
        assert!(
            matches!(said, Ok(Step::Failed(ref fault)) if fault.kind == kind && !fault.unspent),
            "{said:?}"
        );
    }
}

#[test]
fn what_breaks_the_rules_is_no_answer() {
    let secret = "refresh-canary-0123456789";
    let cases = [
        (json!([]), "not a JSON object"),
        (json!({"type": secret}), "of a type that version 1 does not know"),
        (json!({"no": "type"}), "of a type that version 1 does not know"),
        (
            json!({"type": "hello", "versions": [1]}),
            "sent a hello message where a result or an error was due",
        ),
        (json!({"type": "result"}), "there is no access_token"),
        (
            json!({"type": "result", "access_token": " "}),
            "there is no access_token",
        ),
        (
            json!({"type": "result", "access_token": 5}),
            "there is no access_token",
        ),
        (
            json!({"type": "result", "access_token": "a", "expires_in": "soon"}),
            "expires_in is not a number",
        ),
        (
            json!({"type": "result", "access_token": "a", "account": secret}),
            "account is not an object",
        ),
        (
            json!({"type": "result", "access_token": "a", "cache": secret}),
            "cache is none of",
        ),
        (json!({"type": "error", "kind": secret}), "kind is none of"),
        (
            json!({"type": "prompt", "id": "1", "kind": "text", "text": "?"}),
            "attention during a refresh",
        ),
        (
            json!({"type": "open_url", "url": "https://x.example"}),
            "attention during a refresh",
        ),
        (
            json!({"type": "progress", "text": "", "waiting": true}),
            "attention during a refresh",
        ),
    ];
    for (line, want) in cases {
        let (mut plugin, _) = asked(Action::Refresh);
        let violation = say(&mut plugin, &line).unwrap_err().to_string();
        assert!(violation.contains(want), "{line}: {violation}");
        assert!(!violation.contains("canary"), "{violation}");
    }
    let cases = [
        (
            json!({"type": "prompt", "id": 1, "kind": "text", "text": "?"}),
            "id is not",
        ),
        (
            json!({"type": "prompt", "id": "1", "kind": "riddle", "text": "?"}),
            "kind is none",
        ),
        (
            json!({"type": "prompt", "id": "1", "kind": "text", "text": "\u{7}"}),
            "text is missing",
        ),
        (
            json!({"type": "prompt", "id": "1", "kind": "select", "text": "?"}),
            "options belong",
        ),
        (
            json!({"type": "prompt", "id": "1", "kind": "text", "text": "?", "options": [{"value": "a"}]}),
            "options belong",
        ),
        (
            json!({"type": "prompt", "id": "1", "kind": "select", "text": "?", "options": ["a"]}),
            "has no value",
        ),
        (
            json!({"type": "open_url", "url": "http://x.example"}),
            "neither https nor http on this machine",
        ),
        (
            json!({"type": "open_url", "url": "file:///etc/passwd"}),
            "neither https nor http",
        ),
        (
            json!({"type": "open_url", "url": "javascript:alert(1)"}),
            "neither https nor http",
        ),
    ];
    for (line, want) in cases {
        let (mut plugin, _) = asked(Action::Login);
        let violation = say(&mut plugin, &line).unwrap_err().to_string();
        assert!(violation.contains(want), "{line}: {violation}");
    }
    let mut early = Conversation::new(Action::Login);
    let violation = say(&mut early, &json!({"type": "result", "access_token": "a"})).unwrap_err();
    assert!(
        violation.to_string().contains("where hello was due"),
        "{violation}"
    );
    let mut other = Conversation::new(Action::Login);
    let violation = say(&mut other, &json!({"type": "hello", "versions": [2, 3]})).unwrap_err();
    assert_eq!(
        violation.to_string(),
        "it speaks versions 2, 3 of the protocol, and this tokensink speaks [1]"
    );
    let mut eager = Conversation::new(Action::Login);
    say(&mut eager, &json!({"type": "hello", "versions": [1]})).unwrap();
    let violation = say(&mut eager, &json!({"type": "progress"})).unwrap_err();
    assert!(
        violation.to_string().contains("where nothing was due"),
        "{violation}"
    );
}

#[test]
fn a_result_may_shorten_its_life() {
    let jwt = {
        // {"alg":"none"}.{"exp":1800000600}: ten minutes from NOW.
        "eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDA2MDB9.".to_owned()
    };
    let minute = Some(Duration::from_secs(60));
    let hour = Some(Duration::from_secs(3600));
    let cases = [
        (json!({"expires_in": 7200}), Some(Duration::from_secs(7200))),
        (
            json!({"expires_in": 7200, "cache": "until"}),
            Some(Duration::from_secs(7200)),
        ),
        (json!({"expires_in": 7200, "cache": "session"}), hour),
        (
            json!({"expires_in": 30, "cache": "session"}),
            Some(Duration::from_secs(30)),
        ),
        (json!({"expires_in": 7200, "cache": "never"}), minute),
        (json!({"cache": "never"}), minute),
        (json!({"cache": "session"}), hour),
        (
            json!({"cache": "session", "access_token": jwt}),
            Some(Duration::from_secs(600)),
        ),
        (json!({}), None),
        (
            json!({"expires_at": 1_800_000_090}),
            Some(Duration::from_secs(90)),
        ),
        (json!({"expires_at": 1_700_000_000}), Some(Duration::ZERO)),
        (
            json!({"expires_at": 1e300}),
            Some(Duration::from_secs(10 * 366 * 86_400)),
        ),
        (
            json!({"expires_at": -1e300, "cache": "session"}),
            Some(Duration::ZERO),
        ),
    ];
    for (more, want) in cases {
        let (mut plugin, _) = asked(Action::Refresh);
        let mut line = json!({"type": "result", "access_token": "a"});
        for (key, value) in more.as_object().unwrap() {
            line[key] = value.clone();
        }
        let Ok(Step::Done(answered)) = say(&mut plugin, &line) else {
            panic!("{line}")
        };
        assert_eq!(answered.into_grant(NOW).unwrap().expires_in, want, "{line}");
    }
}

#[test]
fn who_never_ends_is_not_listened_to() {
    let (mut plugin, _) = asked(Action::Refresh);
    let progress = json!({"type": "progress", "text": "still at it"});
    // The hello was the first.
    for _ in 1..MESSAGES_MAX {
        say(&mut plugin, &progress).unwrap();
    }
    assert_eq!(say(&mut plugin, &progress), Err(Violation::TooMany));
}

#[test]
fn identity_and_revocation_have_results_of_their_own() {
    let (mut plugin, _) = asked(Action::Revoke);
    assert!(matches!(
        say(&mut plugin, &json!({"type": "result"})),
        Ok(Step::Done(_))
    ));
    let (mut plugin, _) = asked(Action::Identity);
    assert!(say(&mut plugin, &json!({"type": "result", "account": {"email": " "}})).is_err());
    let (mut plugin, _) = asked(Action::Identity);
    let Ok(Step::Done(identity)) = say(&mut plugin, &json!({"type": "result", "account": {"id": "7"}}))
    else {
        panic!()
    };
    let (mut plugin, _) = asked(Action::Refresh);
    let Ok(Step::Done(tokens)) = say(&mut plugin, &json!({"type": "result", "access_token": "a"})) else {
        panic!()
    };
    let grant = tokens.with_account_of(&identity).into_grant(NOW).unwrap();
    assert_eq!(grant.text("/account/id").as_deref(), Some("7"));
}

#[test]
fn a_request_that_is_too_long_is_not_made() {
    let (provider, method) = (
        ProviderId::parse("rig").unwrap(),
        MethodId::parse("oauth").unwrap(),
    );
    let settings = BTreeMap::from([("x".to_owned(), "y".repeat(LINE_BYTES))]);
    let request = Request {
        version: 1,
        provider: &provider,
        method: &method,
        profile: None,
        settings: &settings,
        tokens: None,
        account: None,
        fields: None,
        interactive: false,
    };
    assert_eq!(
        Conversation::new(Action::Login).request(&request),
        Err(RequestTooLong)
    );
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("hello"),
            Just("result"),
            Just("error"),
            Just("prompt"),
            Just("open_url"),
            Just("progress"),
            Just("text"),
            Just("select"),
            Just("transient"),
            Just("never"),
            Just("https://x.example/")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let keys = prop_oneof![
            Just("type"),
            Just("versions"),
            Just("access_token"),
            Just("expires_in"),
            Just("expires_at"),
            Just("account"),
            Just("email"),
            Just("cache"),
            Just("kind"),
            Just("id"),
            Just("text"),
            Just("options"),
            Just("value"),
            Just("url"),
            Just("retry_after"),
            Just("message")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..8).prop_map(|pairs| Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

proptest! {
    /// No line makes the machine panic, and after an end nothing counts any more.
    #[test]
    fn any_lines_are_survived(
        lines in prop::collection::vec(prop_oneof![any_value().prop_map(|v| v.to_string().into_bytes()),
                                                   prop::collection::vec(any::<u8>(), 0..40)], 0..6),
        action in prop_oneof![Just(Action::Login), Just(Action::Refresh), Just(Action::Revoke), Just(Action::Identity)],
    ) {
        let (mut plugin, _) = asked(action);
        let mut over = false;
        for line in lines {
            let step = plugin.on_line(&line);
            prop_assert!(!over || step.is_err(), "{step:?}");
            over |= matches!(step, Err(_) | Ok(Step::Done(_) | Step::Failed(_)));
            if let Ok(Step::Done(answered)) = step {
                let _ = answered.into_grant(NOW);
            }
        }
    }

    /// Nothing that the program was sent comes back in words for people.
    #[test]
    fn secrets_never_come_back(text in ".{0,20}") {
        let (mut plugin, _) = asked(Action::Refresh);
        let message = format!("{text}refresh-canary-0123456789{text}");
        let said = say(&mut plugin, &json!({"type": "error", "kind": "denied", "message": message}));
        let Ok(Step::Failed(fault)) = said else { panic!() };
        prop_assert!(!fault.message.contains("canary"), "{}", fault.message);
    }
}
