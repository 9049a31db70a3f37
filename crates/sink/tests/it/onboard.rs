//! Settling auth choices: every call failing in turn, and what the environment offers.

use serde_json::{Value, json};
use tokensink_sink::{
    AgentId, CustomProvider, ErrorKind, Flights, GivenSecret, KeyChange, KeyRequest, ModelWish, Secret, Sink,
};
use tokensink_testkit::{Errno, Faults, TestHost};

use crate::world::{STATE, store_path};

fn key(choice: &str, secret: &str) -> KeyRequest {
    KeyRequest {
        given: Some(GivenSecret::Value(Secret::new(secret))),
        ..KeyRequest::of(&AgentId::main(), choice)
    }
}

/// A machine without any server.
fn machine() -> TestHost {
    TestHost::new()
}

fn open(test: &TestHost) -> Sink {
    Sink::open_with(test.host(), Flights::inline()).unwrap()
}

fn faulty(test: &TestHost, faults: &Faults) -> tokensink_sink::Result<Sink> {
    Sink::open_with(test.host_with(faults), Flights::inline())
}

/// A machine with an old key of Anthropic and a config that says so.
fn with_a_key() -> TestHost {
    let test = machine();
    open(&test).settle_key(&key("apiKey", "sk-old")).unwrap();
    test
}

fn stored_key(test: &TestHost) -> Value {
    let store: Value = serde_json::from_str(&test.files.text(store_path("main"))).unwrap();
    store["profiles"]["anthropic:default"]["key"].clone()
}

#[test]
fn no_failing_call_loses_the_key_that_was_there() {
    let mut points = 0;
    for n in 1.. {
        for make in [
            |n| Faults::fail_at(n, Errno::NOSPC),
            Faults::crash_before,
            Faults::crash_after,
        ] {
            let test = with_a_key();
            let faults = make(n);
            let request = key("apiKey", "sk-new");
            let done = faulty(&test, &faults).and_then(|sink| sink.settle_key(&request));
            let there = stored_key(&test);
            assert!(
                there == "sk-old" || there == "sk-new",
                "{there} after {}",
                faults.last()
            );
            if done.is_ok() {
                assert_eq!(there, "sk-new", "after {}", faults.last());
            }
            if !faults.fired() {
                assert!(points > 20, "only {points} calls were tried");
                return;
            }
            points += 1;
            // The same command on a healthy machine settles it.
            let crashed = test.host().processes.this();
            test.processes
                .set_liveness(crashed, tokensink_host::Liveness::Dead);
            let later = test.other_process(5000);
            open(&later).settle_key(&request).unwrap();
            assert_eq!(stored_key(&later), "sk-new", "after {}", faults.last());
            let again = open(&later).settle_key(&request).unwrap();
            assert_eq!(again.change, KeyChange::Unchanged, "after {}", faults.last());
        }
    }
}

#[test]
fn a_provider_of_the_users_own_is_written_whole_or_not_at_all() {
    let custom = CustomProvider {
        id: Some("mine".to_owned()),
        base_url: "https://llm.example.com/v1".to_owned(),
        model: "my \"model\"\\".to_owned(),
        is_anthropic: false,
        has_key: true,
    };
    let path = format!("{STATE}/tokensink/providers/mine.toml");
    let whole = machine();
    let defined = open(&whole).define_custom(&custom).unwrap();
    assert!(defined.written && defined.choice == "mine-api-key");
    let text = whole.files.text(&path);
    let sink = open(&whole);
    let choice = sink.auth_choice("mine-api-key").unwrap();
    assert_eq!(choice.model.as_deref(), Some("mine/my \"model\"\\"), "{text}");
    assert!(!sink.define_custom(&custom).unwrap().written);
    for n in 1.. {
        let test = machine();
        let faults = Faults::fail_at(n, Errno::NOSPC);
        let done = faulty(&test, &faults).and_then(|sink| sink.define_custom(&custom));
        let there = test.files.snapshot().get(std::path::Path::new(&path)).cloned();
        assert!(
            there.as_deref().is_none_or(|bytes| bytes == text.as_bytes()),
            "after {}",
            faults.last()
        );
        assert!(done.is_err() || there.is_some(), "after {}", faults.last());
        if !faults.fired() {
            assert!(n > 5);
            return;
        }
    }
}

#[test]
fn what_the_environment_offers_is_listed_until_it_is_stored() {
    let test = machine();
    let variables = [
        ("GROQ_API_KEY", "gsk-canary-0123456789abcdef"),
        ("ANTHROPIC_OAUTH_TOKEN", "sk-ant-oat01-too-short"),
        ("GITHUB_TOKEN", "ghp-of-git"),
    ];
    for (name, value) in variables {
        test.env.set(name, value);
    }
    let main = AgentId::main();
    let found = open(&test).found_keys(&main).unwrap();
    let [groq] = found.as_slice() else {
        panic!("a token that is none, and one of other programs, are left out: {found:?}");
    };
    assert_eq!(
        (groq.choice.id.as_str(), groq.variable.as_str()),
        ("groq-api-key", "GROQ_API_KEY")
    );
    assert!(!format!("{found:?}").contains("canary-0123456789"), "{found:?}");
    let request = KeyRequest {
        given: Some(GivenSecret::Env("GROQ_API_KEY".to_owned())),
        model: ModelWish::Keep,
        ..KeyRequest::of(&main, "groq-api-key")
    };
    open(&test).settle_key(&request).unwrap();
    assert!(open(&test).found_keys(&main).unwrap().is_empty());
}

#[test]
fn a_store_that_must_not_be_written_stays() {
    let test = with_a_key();
    let before = test.files.snapshot();
    test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let sink = open(&test);
    let refused = sink
        .settle_key(&key("openrouter-api-key", "sk-or-new"))
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Failed, "{refused}");
    assert!(sink.settle_guest("claude", None, false).is_err());
    assert_eq!(test.files.snapshot(), before);
}

#[test]
fn a_profile_is_placed_in_its_order_only_where_that_changes_something() {
    let test = machine();
    let main = AgentId::main();
    let sink = open(&test);
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let request = KeyRequest {
            profile_id: Some(format!("openrouter:{name}").parse().unwrap()),
            ..key("openrouter-api-key", &format!("sk-or-{name}"))
        };
        let outcome = sink.settle_key(&request).unwrap();
        ids.push((outcome.provider, outcome.profile));
    }
    let (provider, c) = ids.pop().unwrap();
    assert!(sink.order_place(&main, &provider, &c, true).unwrap());
    let state: Value =
        serde_json::from_str(&test.files.text(store_path("main").replace("profiles", "state"))).unwrap();
    assert_eq!(
        state["order"],
        json!({"openrouter": ["openrouter:c", "openrouter:a", "openrouter:b"]})
    );
    let before = test.files.snapshot();
    assert!(!sink.order_place(&main, &provider, &c, true).unwrap());
    assert_eq!(test.files.snapshot(), before);
    assert!(sink.order_place(&main, &provider, &c, false).unwrap());
}
