//! Files of ages A, B2 and C2 load to the same profiles and are saved in the layout of C2, with every unknown key.

use serde_json::{Value, json};
use tokensink_store::{CasOutcome, Expected};
use tokensink_testkit::TestHost;
use tokensink_types::UnixMillis;

use super::support::{MAIN, MAIN_STATE, api_key, id, main, provider, store};

const AGE_A: &str = include_str!("../golden/age-a.json");
const AGE_B2: &str = include_str!("../golden/age-b2.json");
const AGE_C2: &str = include_str!("../golden/age-c2.json");
const AGE_C2_STATE: &str = include_str!("../golden/age-c2-state.json");

fn ages() -> [(&'static str, &'static str, Option<&'static str>); 3] {
    [
        ("A", AGE_A, None),
        ("B2", AGE_B2, None),
        ("C2", AGE_C2, Some(AGE_C2_STATE)),
    ]
}

fn host(profiles: &str, state: Option<&str>) -> TestHost {
    let test = TestHost::new();
    test.files.put(MAIN, profiles, 0o600);
    if let Some(state) = state {
        test.files.put(MAIN_STATE, state, 0o600);
    }
    test
}

fn json_at(test: &TestHost, path: &str) -> Value {
    serde_json::from_str(&test.files.text(path)).unwrap()
}

#[test]
fn all_ages_load_to_the_same_profiles() {
    let loaded: Vec<_> = ages()
        .iter()
        .map(|(_, profiles, state)| store(&host(profiles, *state)).load(&main()).unwrap())
        .collect();
    let ids: Vec<_> = loaded[0]
        .profiles
        .entries()
        .iter()
        .map(|entry| entry.id.as_str())
        .collect();
    assert_eq!(
        ids,
        ["anthropic:work", "anthropic:manual", "openai-codex:a@example.com"]
    );
    for store in &loaded {
        assert_eq!(store.profiles.entries(), loaded[0].profiles.entries());
        assert_eq!(store.profiles.ignored(), loaded[0].profiles.ignored());
        assert_eq!(store.state.orders(), loaded[0].state.orders());
        assert_eq!(store.state.usages(), loaded[0].state.usages());
        assert_eq!(
            store.state.last_good(&provider("openai-codex")),
            Some(id("openai-codex:a@example.com"))
        );
    }
    let oauth = loaded[0].profiles.get(&id("openai-codex:a@example.com")).unwrap();
    assert_eq!(
        oauth.as_oauth().unwrap().tokens.expires,
        Some(UnixMillis(1_795_234_269_543))
    );
}

#[test]
fn reading_changes_no_byte() {
    for (age, profiles, state) in ages() {
        let test = host(profiles, state);
        let before = test.files.snapshot();
        store(&test).load(&main()).unwrap();
        store(&test).view(&main(), true, &Clone::clone).unwrap();
        assert_eq!(test.files.snapshot(), before, "age {age}");
    }
}

#[test]
fn the_first_write_saves_the_layout_of_c2_and_loses_nothing() {
    for (age, profiles, state) in ages() {
        let test = host(profiles, state);
        let store = store(&test);
        let new = api_key("rig", "k");
        let outcome = store
            .compare_and_set(&main(), &id("rig:new"), Expected::Absent, Some(&new))
            .unwrap();
        assert_eq!(outcome, CasOutcome::Done);

        let original: Value = serde_json::from_str(profiles).unwrap();
        let mut want = original.clone();
        let mut want_state = state.map_or_else(
            || json!({"version": 1}),
            |text| serde_json::from_str(text).unwrap(),
        );
        for map in ["order", "lastGood", "usageStats"] {
            if let Some(value) = want.as_object_mut().unwrap().shift_remove(map) {
                want_state[map] = value;
            }
        }
        want["profiles"]["rig:new"] = json!({"type": "api_key", "provider": "rig", "key": "k"});
        // As texts, so that the order of keys and the digits of numbers count too.
        assert_eq!(json_at(&test, MAIN).to_string(), want.to_string(), "age {age}");
        assert_eq!(json_at(&test, MAIN_STATE), want_state, "age {age}");
        assert_eq!(test.files.mode(MAIN_STATE), Some(0o600));
        let text = test.files.text(MAIN);
        assert!(
            text.starts_with("{\n  \"version\": 1,") && text.ends_with("}\n"),
            "{text}"
        );
    }
}

#[test]
fn a_removed_profile_leaves_the_rest() {
    for (age, profiles, state) in ages() {
        let test = host(profiles, state);
        let store = store(&test);
        store
            .compare_and_set(&main(), &id("anthropic:work"), Expected::Any, None)
            .unwrap();
        let saved = json_at(&test, MAIN);
        assert_eq!(saved["profiles"].as_object().unwrap().len(), 4, "age {age}");
        assert_eq!(saved["profiles"]["broken"], json!("not an object"), "age {age}");
        assert_eq!(
            saved["future"]["added"],
            json!([1, 2.5, null, "kept"]),
            "age {age}"
        );
    }
}

#[test]
fn a_success_is_counted_in_the_state_file() {
    for (age, profiles, state) in ages() {
        let test = host(profiles, state);
        let store = store(&test);
        let used = id("anthropic:work");
        store
            .update_state(&main(), |state| {
                state.mark_used(&provider("anthropic"), &used, UnixMillis(9));
            })
            .unwrap();
        let saved = json_at(&test, MAIN_STATE);
        let stat =
            json!({"lastUsed": 9, "errorCount": 0, "lastFailureAt": 1_780_000_000_000_i64, "x-stat": 7});
        assert_eq!(saved["usageStats"]["anthropic:work"], stat, "age {age}");
        assert_eq!(saved["order"]["x-provider"], json!(["x:1"]), "age {age}");
        assert_eq!(json_at(&test, MAIN).get("usageStats"), None, "age {age}");
        assert_eq!(
            store
                .load(&main())
                .unwrap()
                .state
                .last_good(&provider("anthropic")),
            Some(used)
        );
    }
}

#[test]
fn a_cleared_order_does_not_come_back_from_the_older_layout() {
    let test = host(AGE_A, None);
    let store = store(&test);
    assert!(
        store
            .update_state(&main(), |state| state.clear_order(&provider("anthropic")))
            .unwrap()
    );
    assert_eq!(
        store.load(&main()).unwrap().state.order(&provider("anthropic")),
        None
    );
}
