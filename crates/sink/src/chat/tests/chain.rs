//! Several accounts and several models: who is asked in which order (spec.md 6.6, 6.8).

use tokensink_policy::chain::{Model, Rotations};
use tokensink_types::ProviderId;

use super::program::with_claude;
use super::*;
use crate::chat::run::{Failure, Run, Scope};
use crate::external::ExternalMode;

const BUSY: &str = r#"{"error":{"message":"Overloaded","type":"overloaded_error"}}"#;
const BROKE: &str = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota","type":"insufficient_quota"}}"#;

/// Two models of the same accounts.
const TWO_MODELS: &str =
    "{ agents: { defaults: { model: { primary: 'rig/rig-small', fallbacks: ['rig/rig-large'] } } } }";

/// Three accounts of rig and one of mute, which comes after rig.
fn chain(cooldowns: &str) -> World {
    let config = format!(
        "{{ agents: {{ defaults: {{ model: {{ primary: 'rig/rig-small', fallbacks: ['mute/rig-large'] }} }} }},
            auth: {{ cooldowns: {cooldowns} }} }}"
    );
    let profiles = json!({"rig:a": oauth("rig", "a"), "rig:b": oauth("rig", "b"), "rig:c": oauth("rig", "c"),
        "mute:d": oauth("mute", "d")});
    world(&config, &profiles)
}

/// Who was asked, by the letter of the token.
fn asked(world: &World) -> String {
    let letter = |bearer: String| bearer.trim_start_matches("access-").chars().next();
    bearers(world).into_iter().filter_map(letter).collect()
}

#[test]
fn after_a_few_accounts_another_model_is_asked() {
    for (cooldowns, body, status, want) in [
        ("{}", SLOW, 429, "abd"),
        ("{ rateLimitedProfileRotations: 0 }", SLOW, 429, "ad"),
        ("{ rateLimitedProfileRotations: 2 }", SLOW, 429, "abcd"),
        ("{ rateLimitedProfileRotations: 0 }", BUSY, 529, "abd"),
        ("{ overloadedProfileRotations: 0 }", BUSY, 529, "ad"),
        // Only time helps a limit; what ails an account is its own matter.
        ("{}", BROKE, 402, "abcd"),
    ] {
        let world = chain(cooldowns);
        for _ in 1..want.len() {
            refuses(&world, status, None, body);
        }
        answers(&world, &["hello"]);
        let (answer, _) = ask(&world);
        assert_eq!(answer.unwrap().text, "hello", "{cooldowns} {status}");
        assert_eq!(asked(&world), want, "{cooldowns} {status}");
    }
}

#[test]
fn who_was_passed_over_is_asked_before_nobody_answers() {
    let world = chain("{}");
    for _ in 0..3 {
        refuses(&world, 429, None, SLOW);
    }
    answers(&world, &["hello"]);
    let (answer, _) = ask(&world);
    assert_eq!(profile_of(&answer.unwrap()), "rig:c");
    assert_eq!(asked(&world), "abdc");
}

#[test]
fn a_dearer_model_waits_for_cheaper_accounts() {
    let world = chain("{}");
    let profiles = json!({"rig:a": oauth("rig", "a"), "rig:b": oauth("rig", "b"), "rig:c": oauth("rig", "c"),
        "openai:key": key("openai")});
    world.store("main", &profiles);
    world.put(
        "openclaw.json",
        "{ agents: { defaults: { model: { primary: 'rig/rig-small', fallbacks: ['openai/gpt-5.1'] } } } }",
    );
    world.put(
        "tokensink/config.toml",
        "[billing]\nallow = [\"subscription -> metered\"]\ncrossings_per_day = 1\n",
    );
    for _ in 0..3 {
        refuses(&world, 429, None, SLOW);
    }
    answers(&world, &["hello"]);
    let (answer, _) = ask(&world);
    assert_eq!(profile_of(&answer.unwrap()), "openai:key");
    let requests = world.test.transport.requests();
    assert!(asked(&world).starts_with("abc"), "{}", asked(&world));
    assert_eq!(requests.len(), 4);
}

#[test]
fn a_call_with_another_token_is_the_same_call() {
    let world = world(
        SMALL,
        &json!({"rig:a": oauth("rig", "a"), "rig:b": oauth("rig", "b")}),
    );
    world.put(
        "tokensink/config.toml",
        "[profiles.\"rig:b\"]\nbilling = \"metered\"\n[billing]\nallow = [\"subscription -> metered\"]\n\
         crossings_per_day = 1\n",
    );
    // A token that has just been made is not refreshed.
    world.test.clock.advance(Duration::from_secs(600));
    refuses(&world, 429, Some(("retry-after", "600")), SLOW);
    refuses(&world, 401, None, DENIED);
    renews(&world, "new");
    answers(&world, &["hello"]);
    assert_eq!(profile_of(&ask(&world).0.unwrap()), "rig:b");
}

/// Of another account of the model as of another model, each counted once.
#[test]
fn as_many_turns_a_day_cost_more_as_the_user_says() {
    for dearer in ["rig:b", "mute:b"] {
        let provider = dearer.trim_end_matches(":b");
        let models = "{ primary: 'rig/rig-small', fallbacks: ['mute/rig-large'] }";
        let world = world(
            &format!("{{ agents: {{ defaults: {{ model: {models} }} }} }}"),
            &json!({"rig:a": oauth("rig", "a"), dearer: oauth(provider, "b")}),
        );
        let settings = format!(
            "[profiles.\"{dearer}\"]\nbilling = \"metered\"\n[billing]\nallow = [\"subscription -> metered\"]\n\
             crossings_per_day = 2\n"
        );
        world.put("tokensink/config.toml", &settings);
        refuses(&world, 429, Some(("retry-after", "600")), SLOW);
        for _ in 0..2 {
            answers(&world, &["hello"]);
            assert_eq!(profile_of(&ask(&world).0.unwrap()), dearer);
        }
        let error = failed(ask(&world).0);
        assert_eq!(asked(&world), "abb", "{dearer}");
        assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
        assert!(
            error
                .to_string()
                .contains("as many calls as may on one day (crossings_per_day: 2)"),
            "{error}"
        );
        assert!(
            error.fix().is_some_and(|fix| fix.contains("crossings_per_day")),
            "{error:?}"
        );
    }
}

#[test]
fn whoever_was_not_asked_is_asked_for_another_model() {
    let profiles = json!({"rig:a": oauth("rig", "a"), "rig:b": oauth("rig", "b")});
    let world = world(TWO_MODELS, &profiles);
    // One is out of money, the other at the limit of a model.
    refuses(&world, 402, None, BROKE);
    refuses(&world, 429, Some(("retry-after", "600")), SLOW);
    answers(&world, &["hello"]);
    ask(&world).0.unwrap();
    assert_eq!(asked(&world), "abb");
    answers(&world, &["hello"]);
    let (answer, _) = ask(&world);
    assert_eq!(answer.unwrap().serving.model, "rig/rig-large");
    assert_eq!(asked(&world), "abbb");
}

#[test]
fn a_model_whose_servers_fail_gives_way_to_a_sibling() {
    let world = world(TWO_MODELS, &json!({"rig:a": oauth("rig", "a")}));
    refuses(
        &world,
        500,
        None,
        r#"{"error":{"message":"The server had an error","type":"server_error"}}"#,
    );
    answers(&world, &["hello"]);
    let (answer, _) = ask(&world);
    assert_eq!(answer.unwrap().serving.model, "rig/rig-large");
}

#[test]
fn who_gives_up_while_an_overloaded_model_rests_asks_nobody_else() {
    let world = two_accounts();
    let (cancel, mut tell) = (Cancel::default(), |_: ChatEvent<'_>| {});
    let rotations = Rotations {
        overloaded_pause: Duration::from_millis(700),
        ..Rotations::default()
    };
    let id = world.sink().calls().lease_id();
    let mut run = Run::new("hi", &cancel, &mut tell, id, rotations);
    let model = Model {
        provider: ProviderId::parse("rig").unwrap(),
        model: "rig-small".to_owned(),
    };
    run.fail(
        &model,
        Failure {
            scope: Scope::Model,
            profile: None,
            reason: Reason::Overloaded,
            text: String::new(),
            until: None,
            billing: None,
            fix: None,
        },
    );
    cancel.set();
    let before = world.test.clock.slept();
    let rest = run.take_rest(&world.test.clock);
    assert_eq!(rest.map_err(|error| error.code()), Err("cancelled"));
    assert_eq!(world.test.clock.slept(), before);
}

#[test]
fn an_overloaded_model_is_given_time() {
    let world = chain("{ overloadedBackoffMs: 700 }");
    let before = world.test.clock.slept();
    refuses(&world, 529, None, BUSY);
    answers(&world, &["hello"]);
    ask(&world).0.unwrap();
    let waited = world.test.clock.slept() - before;
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    // Where nobody is left to be asked, nothing is waited for.
    let world = self::world(
        "{ agents: { defaults: { model: 'rig/rig-small' } }, auth: { cooldowns: { overloadedBackoffMs: 700 } } }",
        &json!({"rig:a": oauth("rig", "a")}),
    );
    let before = world.test.clock.slept();
    refuses(&world, 529, None, BUSY);
    failed(ask(&world).0);
    let waited = world.test.clock.slept() - before;
    assert!(waited < Duration::from_millis(700), "{waited:?}");
}

#[test]
fn a_limit_of_one_model_says_nothing_of_another_one_of_the_same_account() {
    let one = || world(TWO_MODELS, &json!({"rig:a": oauth("rig", "a")}));
    let world = one();
    refuses(&world, 429, None, SLOW);
    answers(&world, &["hello"]);
    let (answer, told) = ask(&world);
    assert_eq!(answer.unwrap().serving.model, "rig/rig-large");
    assert_eq!(told.moved.len(), 1);
    // A refused login is the account's: the other model is not asked with it.
    let world = one();
    refuses(&world, 403, None, DENIED);
    let (answer, _) = ask(&world);
    assert_eq!(failed(answer).kind(), ErrorKind::LoginNeeded);
    assert_eq!(asked(&world), "a");
}

#[test]
fn the_summary_says_what_benched_the_accounts() {
    let config =
        "{ agents: { defaults: { model: { primary: 'rig/rig-small', fallbacks: ['mute/rig-large'] } } } }";
    let world = world(
        config,
        &json!({"rig:a": oauth("rig", "a"), "mute:d": oauth("mute", "d")}),
    );
    refuses(&world, 402, None, BROKE);
    refuses(&world, 402, None, BROKE);
    failed(ask(&world).0);
    let again = failed(ask(&world).0);
    assert_eq!(asked(&world), "ad", "nobody is asked in vain");
    let text = again.to_string();
    assert!(text.starts_with("All models failed (2): "), "{text}");
    assert_eq!(
        text.matches("(billing)").count(),
        4,
        "of each the account's and the model's: {text}"
    );
}

/// A program has a price, too, and is not started to find out.
#[test]
fn a_program_costs_what_its_login_costs() {
    let world = with_claude(&json!({"rig:a": oauth("rig", "a")}), ExternalMode::Off);
    let models = "{ primary: 'rig/rig-small', fallbacks: ['claude-cli/opus'] }";
    world.put(
        "openclaw.json",
        &format!("{{ agents: {{ defaults: {{ model: {models} }} }} }}"),
    );
    world.put(
        "tokensink/config.toml",
        "[profiles.\"rig:a\"]\nbilling = \"free\"\n",
    );
    refuses(&world, 429, Some(("retry-after", "600")), SLOW);
    let error = failed(ask(&world).0);
    let words = "claude-cli/opus costs more (subscription instead of free)";
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(world.test.processes.started().len(), 0);
}
