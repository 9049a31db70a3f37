//! What older programs left behind is brought in once, and nothing of it is lost or comes back.

use serde_json::{Value, json};
use tokensink_store::{Expected, legacy};
use tokensink_testkit::{Faults, TestHost};
use tokensink_types::{ProfileId, Secret, SpendKey};

use super::support::{MAIN, grant, id, main, store, store_on, work};

const AUTH: &str = "/s/agents/main/agent/auth.json";
const OAUTH: &str = "/s/credentials/oauth.json";
const WORK: &str = "/s/agents/work/agent/auth-profiles.json";

fn auth_json() -> Value {
    json!({
        "openrouter": {"type": "api_key", "key": "sk-or", "x": "kept"},
        "zai": {"type": "token", "provider": "zai", "token": "zt", "expires": 5},
        "anthropic": {"type": "oauth", "access": "a1", "refresh": "r1", "expires": 7, "x": [1]},
        "odd": {"type": "other", "key": "k"}
    })
}

fn with_legacy() -> TestHost {
    let test = TestHost::new();
    test.files.put(AUTH, auth_json().to_string(), 0o600);
    let oauth = json!({"anthropic": {"access": "a2", "refresh": "r2"}, "openai-codex": {"access": "c", "refresh": "d", "accountId": "acct"}});
    test.files.put(OAUTH, oauth.to_string(), 0o600);
    test
}

fn ids(test: &TestHost) -> Vec<ProfileId> {
    let loaded = store(test).load(&main()).unwrap();
    loaded
        .profiles
        .entries()
        .iter()
        .map(|entry| entry.id.clone())
        .collect()
}

fn saved(test: &TestHost, path: &str) -> Value {
    serde_json::from_str(&test.files.text(path)).unwrap()
}

#[test]
fn both_files_are_imported_and_keys_leave_auth_json() {
    let test = with_legacy();
    let report = legacy::import(&store(&test), &main()).unwrap();
    assert_eq!(report.imported.len(), 4);
    assert_eq!(
        report.shadowed,
        [(id("anthropic:default"), OAUTH.into())],
        "auth.json wins over oauth.json"
    );
    assert_eq!(report.removed, ["openrouter", "zai"]);
    assert_eq!(report.ignored.len(), 1);
    let want = [
        "openrouter:default",
        "zai:default",
        "anthropic:default",
        "openai-codex:default",
    ]
    .map(id);
    assert_eq!(ids(&test), want);
    let profiles = &saved(&test, MAIN)["profiles"];
    assert_eq!(
        profiles["openrouter:default"]["x"],
        json!("kept"),
        "an entry without provider is not lost"
    );
    assert_eq!(profiles["anthropic:default"]["x"], json!([1]));
    let left = saved(&test, AUTH);
    assert_eq!(
        left.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["anthropic", "odd"],
        "OAuth entries stay"
    );
    assert_eq!(
        saved(&test, OAUTH).as_object().unwrap().len(),
        2,
        "oauth.json is never changed"
    );
    let again = legacy::import(&store(&test), &main()).unwrap();
    assert!(again.imported.is_empty() && again.removed.is_empty() && again.shadowed.is_empty());
}

#[test]
fn a_deleted_profile_does_not_come_back() {
    let test = with_legacy();
    let store = store(&test);
    legacy::import(&store, &main()).unwrap();
    for profile in ids(&test) {
        store
            .compare_and_set(&main(), &profile, Expected::Any, None)
            .unwrap();
    }
    assert!(legacy::import(&store, &main()).unwrap().imported.is_empty());
    assert!(ids(&test).is_empty());
    // A new login by the older program is another secret, and is brought in.
    test.files.put(
        OAUTH,
        r#"{"anthropic": {"access": "a9", "refresh": "r9"}}"#,
        0o600,
    );
    assert_eq!(legacy::import(&store, &main()).unwrap().imported.len(), 1);
}

#[test]
fn what_the_store_has_is_not_overwritten() {
    let test = with_legacy();
    let store = store(&test);
    let newer = grant("anthropic", "newer", "newer");
    store
        .compare_and_set(&main(), &id("anthropic:default"), Expected::Absent, Some(&newer))
        .unwrap();
    let openrouter = super::support::api_key("openrouter", "other");
    store
        .compare_and_set(
            &main(),
            &id("openrouter:default"),
            Expected::Absent,
            Some(&openrouter),
        )
        .unwrap();
    let report = legacy::import(&store, &main()).unwrap();
    assert_eq!(report.shadowed.len(), 3);
    assert_eq!(
        report.removed,
        ["zai"],
        "a key that the store does not hold stays in auth.json"
    );
    assert_eq!(
        store.credential(&main(), &id("anthropic:default")).unwrap(),
        Some(newer)
    );
}

#[test]
fn an_auth_json_of_keys_only_goes_away() {
    let test = TestHost::new();
    test.files
        .put(AUTH, r#"{"zai": {"type": "api_key", "key": "k"}}"#, 0o600);
    legacy::import(&store(&test), &main()).unwrap();
    assert_eq!(test.files.mode(AUTH), None);
    assert_eq!(ids(&test), [id("zai:default")]);
}

#[test]
fn the_installations_file_goes_to_main_only() {
    let test = with_legacy();
    let report = legacy::import(&store(&test), &work()).unwrap();
    assert!(report.is_empty());
    assert_eq!(test.files.mode(WORK), None);
}

#[test]
fn an_unreadable_legacy_file_is_reported_and_left() {
    let test = TestHost::new();
    test.files.put(AUTH, "{\"zai\": ", 0o600);
    let report = legacy::import(&store(&test), &main()).unwrap();
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(test.files.text(AUTH), "{\"zai\": ");
}

#[test]
fn no_crash_loses_a_key() {
    for n in 1.. {
        let test = with_legacy();
        let faults = Faults::crash_after(n);
        let _ = legacy::import(&store_on(test.host_with(&faults)), &main());
        test.files.lose_power();
        let in_auth = test.files.mode(AUTH).is_some() && test.files.text(AUTH).contains("sk-or");
        let in_store = ids(&test).contains(&id("openrouter:default"));
        assert!(in_auth || in_store, "call {n}: {}", faults.last());
        legacy::import(&store(&test.other_process(7)), &main()).unwrap();
        assert_eq!(
            ids(&test).len(),
            4,
            "the next start finishes; call {n}: {}",
            faults.last()
        );
        if !faults.fired() {
            break;
        }
    }
}

#[test]
fn whole_copies_of_main_are_dissolved() {
    let test = TestHost::new();
    let copy = include_str!("../golden/age-a.json");
    test.files.put(MAIN, copy, 0o600);
    test.files.put(WORK, copy, 0o600);
    let store = store(&test);
    // Main has refreshed since: the copy's token is one that main has spent.
    let codex = id("openai-codex:a@example.com");
    let rotated = grant("openai-codex", "new", "new");
    store
        .compare_and_set(&main(), &codex, Expected::Any, Some(&rotated))
        .unwrap();
    let spent = SpendKey::of(&Secret::from("golden-refresh"));
    let none = legacy::dissolve_clones(&store, &main(), &|_, key| key == spent).unwrap();
    assert!(none.is_empty(), "main has no original");
    let removed = legacy::dissolve_clones(&store, &work(), &|_, key| key == spent).unwrap();
    assert_eq!(removed.len(), 3);
    let view = store.view(&work(), true, &Clone::clone).unwrap();
    assert!(view.profiles.iter().all(|profile| profile.inherited) && view.profiles.len() == 3);
    assert_eq!(view.order.len(), 2, "the agent's own order stays");
}

#[test]
fn an_agent_with_a_login_of_its_own_is_left_alone() {
    let test = TestHost::new();
    let copy = include_str!("../golden/age-a.json");
    test.files.put(MAIN, copy, 0o600);
    test.files.put(WORK, copy, 0o600);
    let store = store(&test);
    let own = super::support::api_key("anthropic", "own");
    store
        .compare_and_set(&work(), &id("anthropic:own"), Expected::Absent, Some(&own))
        .unwrap();
    let removed = legacy::dissolve_clones(&store, &work(), &|_, _| false).unwrap();
    assert_eq!(
        removed,
        [id("openai-codex:a@example.com")],
        "anthropic is its own by now"
    );
    let linked = TestHost::new();
    linked.files.put(MAIN, copy, 0o600);
    linked.files.symlink(MAIN, WORK);
    let shared = super::support::store(&linked);
    assert!(
        legacy::dissolve_clones(&shared, &work(), &|_, _| true)
            .unwrap()
            .is_empty(),
        "one file is no copy"
    );
}
