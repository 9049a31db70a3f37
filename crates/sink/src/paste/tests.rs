//! Pasted tokens and keys: what is taken, what is refused with which next step, and what is stored.

use std::time::Duration;

use serde_json::{Value, json};
use tokensink_types::Secret;

use super::value_of_assignment;
use crate::error::{ErrorKind, Result};
use crate::login::{LoginOutcome, PasteRequest};
use crate::world::{World, agent, id};

const NOW: i64 = 1_767_225_600_000;

fn request(provider: &str) -> PasteRequest {
    PasteRequest {
        agent: agent("main"),
        provider: provider.to_owned(),
        profile_id: None,
        expires_in: None,
        setup_token: false,
    }
}

fn setup(length: usize) -> String {
    format!("sk-ant-oat01-{}", "x".repeat(length - 13))
}

fn told(result: Result<LoginOutcome>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    format!("{error} | {}", error.fix().unwrap_or_default())
}

#[test]
fn the_placeholder_of_a_hidden_secret_is_refused() {
    let world = World::new();
    let sink = world.sink();
    let text = || Secret::new(" __OPENCLAW_REDACTED__\n");
    let key = told(sink.store_api_key(&request("rig"), text()));
    let token = told(sink.store_token(&request("rig"), text()));
    for said in [key, token] {
        assert!(said.contains("not the secret"), "{said}");
    }
    assert_eq!(world.stored("main"), Value::Null);
}

#[test]
fn a_setup_token_is_stored_as_a_token_without_refresh() {
    let world = World::new();
    let sink = world.sink();
    let wrapped = format!(" {}\n  {}\r\n", &setup(80)[..40], &setup(80)[40..]);
    let request = PasteRequest {
        setup_token: true,
        ..request("anthropic")
    };
    let outcome = sink.store_token(&request, Secret::new(wrapped)).unwrap();
    assert_eq!(
        (outcome.profile.as_str(), outcome.mode.as_str()),
        ("anthropic:manual", "token")
    );
    assert!(outcome.notice.is_some(), "the policy note");
    let want = json!({"anthropic:manual": {"type": "token", "provider": "anthropic", "token": setup(80)}});
    assert_eq!(world.stored("main"), want);
    let config = world.json("openclaw.json");
    assert_eq!(
        config,
        json!({"auth": {"profiles": {"anthropic:manual": {"provider": "anthropic", "mode": "token"}}}})
    );
    assert_eq!(world.text("tokensink/journal"), "", "there is nothing to refresh");
}

#[test]
fn pasted_tokens_are_checked() {
    let sink = World::new().sink();
    let anthropic = |text: &str| told(sink.store_token(&request("anthropic"), text.into()));
    assert_eq!(anthropic(" \n"), "Required | ");
    let cut = setup(79);
    assert!(anthropic(&cut).starts_with("Token looks too short; paste the full token"));
    let key = anthropic("sk-ant-api03-abc");
    assert!(
        key.starts_with("Expected token starting with sk-ant-oat01- | "),
        "{key}"
    );
    assert!(key.contains("paste-api-key --provider anthropic"), "{key}");
    let code = anthropic("abcdef#ghijkl");
    assert!(
        code.contains("not a token") && code.ends_with("| tokensink models auth login --provider anthropic"),
        "{code}"
    );
    assert!(sink.check_secret("anthropic", true, &setup(80).into()).is_ok());
    assert!(sink.check_secret("anthropic", true, &cut.into()).is_err());
    let other = PasteRequest {
        setup_token: true,
        ..request("rig")
    };
    assert_eq!(
        told(sink.store_token(&other, "x".into())),
        "rig has no setup-tokens | tokensink models auth paste-token --provider rig"
    );
    let typo = told(sink.store_token(&request("anthropik"), "x".into()));
    assert!(
        typo.contains("anthropic") && typo.ends_with("| tokensink providers list"),
        "{typo}"
    );
}

#[test]
fn expiry_counts_from_now() {
    let world = World::new();
    let sink = world.sink();
    let year = PasteRequest {
        expires_in: Some(Duration::from_secs(365 * 86_400)),
        ..request("openrouter")
    };
    let outcome = sink.store_token(&year, "any text".into()).unwrap();
    assert_eq!(outcome.expires.map(|at| at.0), Some(NOW + 365 * 86_400_000));
    assert_eq!(
        world.stored("main")["openrouter:manual"]["expires"],
        NOW + 365 * 86_400_000
    );
    let zero = PasteRequest {
        expires_in: Some(Duration::ZERO),
        ..request("openrouter")
    };
    assert!(told(sink.store_token(&zero, "x".into())).contains("--expires-in is zero"));
}

#[test]
fn keys_are_stored_under_the_id_that_is_asked_for() {
    let world = World::new();
    let sink = world.sink();
    let named = PasteRequest {
        profile_id: Some(id("openai:work")),
        ..request("openai")
    };
    let outcome = sink
        .store_api_key(&named, "export OPENAI_API_KEY=\"sk-proj-1\";\n".into())
        .unwrap();
    assert_eq!(
        (outcome.profile.as_str(), outcome.mode.as_str(), outcome.updated),
        ("openai:work", "api_key", false)
    );
    assert!(sink.store_api_key(&named, "sk-proj-2".into()).unwrap().updated);
    assert_eq!(
        world.stored("main"),
        json!({"openai:work": {"type": "api_key", "provider": "openai", "key": "sk-proj-2"}})
    );
    let wrong = PasteRequest {
        profile_id: Some(id("openai:work")),
        ..request("anthropic")
    };
    assert!(told(sink.store_api_key(&wrong, "k".into())).contains("belongs to provider openai"));
    assert_eq!(
        told(sink.store_api_key(&request("openai"), "  ".into())),
        "Required | "
    );
    let mistaken = told(sink.store_api_key(&request("anthropic"), setup(80).into()));
    assert!(
        mistaken.ends_with("| tokensink models auth paste-token --provider anthropic"),
        "{mistaken}"
    );
}

#[test]
fn a_token_takes_the_place_of_a_key_and_says_so() {
    let world = World::new();
    let sink = world.sink();
    sink.store_api_key(&request("openrouter"), "k".into()).unwrap();
    let outcome = sink.store_token(&request("openrouter"), "t".into()).unwrap();
    assert_eq!(
        outcome.notes,
        ["it took the place of the API key that was stored as openrouter:manual"]
    );
    assert_eq!(
        world.stored("main"),
        json!({"openrouter:manual": {"type": "token", "provider": "openrouter", "token": "t"}})
    );
}

#[test]
fn a_provider_that_only_the_config_knows_is_known() {
    let world = World::new();
    world.put(
        "openclaw.json",
        r#"{"models": {"providers": {"house": {"baseUrl": "http://127.0.0.1:1/v1"}}}}"#,
    );
    let outcome = world.sink().store_api_key(&request("house"), "k".into()).unwrap();
    assert_eq!(outcome.profile, id("house:manual"));
}

#[test]
fn a_read_only_store_takes_nothing() {
    let world = World::new();
    world.test.env.set("OPENCLAW_AUTH_STORE_READONLY", "1");
    let error = world
        .sink()
        .store_api_key(&request("openai"), "k".into())
        .unwrap_err();
    assert_eq!(error.fix(), Some("unset OPENCLAW_AUTH_STORE_READONLY"));
    assert_eq!(world.stored("main"), Value::Null);
}

#[test]
fn shell_assignments_are_reduced_and_keys_left_alone() {
    let cases = [
        ("export NAME=\"value\";", "value"),
        ("NAME='value'", "value"),
        ("  NAME = `value` ", "value"),
        ("export name=value", "value"),
        ("\"value\"", "value"),
        ("KEY=sk-a=b=", "sk-a=b="),
        ("abc=", "abc="),
        ("ABC==", "ABC=="),
        ("ABCdef=ghi", "ABCdef=ghi"),
        ("sk-or-v1=x", "sk-or-v1=x"),
        ("exportkey", "exportkey"),
        ("9A=b", "9A=b"),
        ("NAME=\"a;b\";", "a;b"),
        ("value;", "value;"),
        ("\"", "\""),
        ("", ""),
    ];
    for (text, want) in cases {
        assert_eq!(value_of_assignment(text), want, "{text:?}");
    }
}
