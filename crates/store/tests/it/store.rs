//! Loading, views and conditional writes.

use std::time::Duration;

use tokensink_host::{Files, Host};
use tokensink_store::{CasOutcome, Expected, FileStore, StoreError, Warning, conformance};
use tokensink_testkit::{Faults, TestHost};
use tokensink_types::{AgentId, ProviderId, SpendKey, UnixMillis};

use super::support::{MAIN, MAIN_STATE, api_key, grant, id, main, paths, provider, store, store_on, work};

const WORK: &str = "/s/agents/work/agent/auth-profiles.json";

fn put(test: &TestHost, path: &str, text: &str) {
    test.files.put(path, text, 0o600);
}

fn profiles(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(id, provider)| {
            format!(r#""{id}": {{"type": "api_key", "provider": "{provider}", "key": "k"}}"#)
        })
        .collect();
    format!(r#"{{"version": 1, "profiles": {{{}}}}}"#, entries.join(", "))
}

#[test]
fn conforms() {
    // The suite lets many threads wait for one lock; with a clock that their waiting advances, time would run out.
    let mut host = TestHost::new().host();
    host.clock = Host::real().clock;
    conformance::credentials(&store_on(host)).unwrap();
}

#[test]
fn files_are_private_from_birth() {
    let test = TestHost::new();
    store(&test)
        .compare_and_set(
            &main(),
            &id("rig:a"),
            Expected::Absent,
            Some(&api_key("rig", "k")),
        )
        .unwrap();
    assert_eq!(test.files.mode(MAIN), Some(0o600));
    for dir in [
        "/s",
        "/s/agents",
        "/s/agents/main",
        "/s/agents/main/agent",
        "/s/tokensink",
        "/s/tokensink/locks",
    ] {
        assert_eq!(test.files.mode(dir), Some(0o700), "{dir}");
    }
}

#[test]
fn a_linked_file_is_followed_and_stays_a_link() {
    let test = TestHost::new();
    put(&test, "/elsewhere/profiles.json", &profiles(&[("rig:a", "rig")]));
    test.files.symlink("/elsewhere/profiles.json", MAIN);
    let store = store(&test);
    assert_eq!(store.owner_path(&main()).unwrap(), "/elsewhere/profiles.json");
    store
        .compare_and_set(
            &main(),
            &id("rig:b"),
            Expected::Absent,
            Some(&api_key("rig", "k")),
        )
        .unwrap();
    assert!(test.files.text("/elsewhere/profiles.json").contains("rig:b"));
    assert!(test.files.link_target(MAIN.as_ref()).unwrap().is_some());
}

#[test]
fn the_owner_path_does_not_depend_on_the_file_being_there() {
    let test = TestHost::new();
    test.files.mkdir("/real");
    test.files.symlink("/real", "/s");
    let store = store(&test);
    let before = store.owner_path(&main()).unwrap();
    store
        .compare_and_set(
            &main(),
            &id("rig:a"),
            Expected::Absent,
            Some(&api_key("rig", "k")),
        )
        .unwrap();
    assert_eq!(store.owner_path(&main()).unwrap(), before);
    assert_eq!(before, "/real/agents/main/agent/auth-profiles.json");
}

#[test]
fn an_unchanged_store_costs_one_stat_per_file() {
    let test = TestHost::new();
    put(&test, MAIN, &profiles(&[("rig:a", "rig")]));
    put(
        &test,
        MAIN_STATE,
        r#"{"version": 1, "lastGood": {"rig": "rig:a"}}"#,
    );
    let faults = Faults::none();
    let reader = store_on(test.host_with(&faults));
    reader.load(&main()).unwrap();
    test.clock.advance(Duration::from_millis(60));
    reader.load(&main()).unwrap();
    let before = faults.calls();
    reader.load(&main()).unwrap();
    assert_eq!(faults.calls() - before, 2, "{:?}", faults.trace());
    let writer = store(&test);
    writer
        .compare_and_set(
            &main(),
            &id("rig:b"),
            Expected::Absent,
            Some(&api_key("rig", "k")),
        )
        .unwrap();
    assert_eq!(
        reader.load(&main()).unwrap().profiles.entries().len(),
        2,
        "a change is seen at once"
    );
}

#[test]
fn a_provider_is_inherited_only_while_the_agent_has_none_of_it() {
    let test = TestHost::new();
    put(
        &test,
        MAIN,
        &profiles(&[("a:1", "a"), ("zai:1", "z.ai"), ("b:1", "b")]),
    );
    put(
        &test,
        MAIN_STATE,
        r#"{"order": {"a": ["a:1"], "b": ["b:1"]}, "usageStats": {"b:1": {"lastUsed": 5}}}"#,
    );
    put(&test, WORK, &profiles(&[("a:2", "a"), ("zai:2", "zai")]));
    let aliases = |provider: &ProviderId| match provider.as_str() {
        "z.ai" => super::support::provider("zai"),
        _ => provider.clone(),
    };
    let store = store(&test);
    let view = store.view(&work(), true, &aliases).unwrap();
    let seen: Vec<_> = view
        .profiles
        .iter()
        .map(|profile| {
            (
                profile.entry.id.as_str(),
                profile.owner.as_str(),
                profile.inherited,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("a:2", "work", false),
            ("zai:2", "work", false),
            ("b:1", "main", true)
        ]
    );
    assert_eq!(
        view.order.keys().map(ProviderId::as_str).collect::<Vec<_>>(),
        ["b"]
    );
    assert_eq!(view.usage[&id("b:1")].last_used, Some(UnixMillis(5)));
    let alone = store.view(&work(), false, &aliases).unwrap();
    assert_eq!(alone.profiles.len(), 2);
    let none = store.view(&AgentId::normalise("new"), true, &aliases).unwrap();
    assert_eq!(none.profiles.len(), 3);
    assert_eq!(test.files.mode("/s/agents/new"), None, "looking creates nothing");
}

#[test]
fn an_own_order_over_inherited_profiles_wins() {
    let test = TestHost::new();
    put(&test, MAIN, &profiles(&[("a:1", "a"), ("a:2", "a")]));
    put(
        &test,
        MAIN_STATE,
        r#"{"order": {"a": ["a:1", "a:2"]}, "lastGood": {"a": "a:1"}}"#,
    );
    let store = store(&test);
    store
        .update_state(&work(), |state| state.set_order(&provider("a"), &[id("a:2")]))
        .unwrap();
    let view = store.view(&work(), true, &Clone::clone).unwrap();
    assert_eq!(view.order[&provider("a")], [id("a:2")]);
    assert_eq!(view.last_good[&provider("a")], id("a:1"));
    assert_eq!(
        test.files.mode(WORK),
        None,
        "an order brings no copy of a credential"
    );
}

#[test]
fn one_torn_store_leaves_the_others_alone() {
    let test = TestHost::new();
    put(
        &test,
        MAIN,
        r#"{"version": 1, "profiles": {"a:1": {"type": "api_key", "key": "sk-canary"#,
    );
    put(&test, WORK, &profiles(&[("a:2", "a")]));
    let store = store(&test);
    let error = store.load(&main()).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        text.contains(MAIN) && text.contains("line 1, column") && !text.contains("canary"),
        "{text}"
    );
    let view = store.view(&work(), true, &Clone::clone).unwrap();
    assert_eq!(view.profiles.len(), 1);
    assert!(
        matches!(view.warnings[..], [Warning::MainUnreadable(_)]),
        "{:?}",
        view.warnings
    );
}

#[test]
fn a_login_sets_an_unreadable_file_aside_and_a_refresh_does_not() {
    for torn in [
        "",
        "{\"version\": 1, \"profi",
        "{\"profiles\": []}",
        "\u{0}\u{0}\u{0}",
    ] {
        let test = TestHost::new();
        put(&test, MAIN, torn);
        let store = store(&test);
        let new = grant("rig", "a2", "r2");
        let spend = Expected::Spend(SpendKey::of(&"r1".into()));
        let refused = store.compare_and_set(&main(), &id("rig:a"), spend, Some(&new));
        assert!(matches!(refused, Err(StoreError::Unreadable(_))), "{refused:?}");
        assert!(
            store
                .compare_and_set(&main(), &id("rig:a"), Expected::Any, None)
                .is_err()
        );
        assert_eq!(test.files.text(MAIN), torn, "left as it was");

        let done = store
            .compare_and_set(&main(), &id("rig:a"), Expected::Absent, Some(&new))
            .unwrap();
        assert_eq!(done, CasOutcome::Done);
        let kept = format!("{MAIN}.unreadable-20260101T0000");
        let kept = test
            .files
            .snapshot()
            .into_iter()
            .find(|(path, _)| path.to_string_lossy().starts_with(&kept));
        assert_eq!(kept.unwrap().1, torn.as_bytes(), "every byte is still there");
        let loaded = store.load(&main()).unwrap();
        assert_eq!(loaded.profiles.get(&id("rig:a")), Some(&new));
        assert!(
            matches!(loaded.warnings[..], [Warning::SetAside { .. }]),
            "{:?}",
            loaded.warnings
        );
    }
}

#[test]
fn files_set_aside_in_the_same_second_do_not_meet() {
    let test = TestHost::new();
    for text in ["one", "two", "three"] {
        put(&test, MAIN, text);
        tokensink_store::set_aside(&test.host(), MAIN.as_ref()).unwrap();
    }
    let kept = tokensink_store::set_aside_before(&test.host(), MAIN.as_ref()).unwrap();
    let texts: Vec<_> = kept.iter().map(|path| test.files.text(path)).collect();
    assert_eq!(texts, ["one", "two", "three"]);
}

#[test]
fn an_unreadable_state_file_stops_nobody() {
    let test = TestHost::new();
    put(&test, MAIN, &profiles(&[("a:1", "a")]));
    put(&test, MAIN_STATE, "{");
    let store = store(&test);
    let loaded = store.load(&main()).unwrap();
    assert_eq!(loaded.profiles.entries().len(), 1);
    assert!(
        matches!(loaded.warnings[..], [Warning::StateUnreadable(_)]),
        "{:?}",
        loaded.warnings
    );
    store
        .update_state(&main(), |state| state.set_last_good(&provider("a"), &id("a:1")))
        .unwrap();
    assert_eq!(
        store.load(&main()).unwrap().state.last_good(&provider("a")),
        Some(id("a:1"))
    );
    let kept = tokensink_store::set_aside_before(&test.host(), MAIN_STATE.as_ref()).unwrap();
    assert_eq!(kept.len(), 1);
}

#[test]
fn an_unreadable_store_does_not_stop_the_statistics() {
    let test = TestHost::new();
    put(&test, MAIN, "{");
    let store = store(&test);
    store
        .update_state(&main(), |state| state.set_last_good(&provider("a"), &id("a:1")))
        .unwrap();
    assert!(test.files.text(MAIN_STATE).contains("a:1"));
    assert_eq!(test.files.text(MAIN), "{");
}

#[test]
fn a_crashed_writers_temporary_files_are_removed() {
    let secret_files = |test: &TestHost| {
        let all = test.files.snapshot().into_iter();
        all.filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains("sk-canary"))
            .count()
    };
    let mut seen = 0;
    for n in 1.. {
        let test = TestHost::new();
        let faults = Faults::crash_before(n);
        let crashing = store_on(test.host_with(&faults));
        let _ = crashing.compare_and_set(
            &main(),
            &id("a:1"),
            Expected::Absent,
            Some(&api_key("a", "sk-canary")),
        );
        if test.files.mode(MAIN).is_none() {
            seen += secret_files(&test);
            let other = test.other_process(7);
            let new = api_key("a", "k");
            super::support::store(&other)
                .compare_and_set(&main(), &id("a:1"), Expected::Absent, Some(&new))
                .unwrap();
            assert_eq!(secret_files(&test), 0, "call {n}: {}", faults.last());
        }
        if !faults.fired() {
            break;
        }
    }
    assert!(
        seen > 0,
        "no crash left a temporary file, so this test shows nothing"
    );
}

#[test]
fn readonly_is_asked_for_by_the_environment() {
    for (value, want) in [("1", true), ("0", false), ("", false)] {
        let env = tokensink_testkit::MapEnvironment::of([("OPENCLAW_AUTH_STORE_READONLY", value)]);
        assert_eq!(tokensink_store::readonly_requested(&env), want, "{value:?}");
    }
}

#[test]
fn a_thousand_profiles_are_no_burden() {
    let test = TestHost::new();
    let entries: Vec<(String, String)> = (0..1000).map(|n| (format!("p{n}:x"), format!("p{n}"))).collect();
    let entries: Vec<(&str, &str)> = entries
        .iter()
        .map(|(id, provider)| (id.as_str(), provider.as_str()))
        .collect();
    put(&test, MAIN, &profiles(&entries));
    let store = store(&test);
    let view = store.view(&work(), true, &Clone::clone).unwrap();
    assert_eq!(view.profiles.len(), 1000);
    store
        .compare_and_set(&main(), &id("p5:x"), Expected::Any, Some(&api_key("p5", "new")))
        .unwrap();
    assert_eq!(store.load(&main()).unwrap().profiles.entries().len(), 1000);
}

#[test]
fn an_empty_state_file_is_deleted() {
    let test = TestHost::new();
    let store = store(&test);
    store
        .update_state(&main(), |state| state.set_order(&provider("a"), &[id("a:1")]))
        .unwrap();
    assert_eq!(test.files.mode(MAIN_STATE), Some(0o600));
    store
        .update_state(&main(), |state| state.clear_order(&provider("a")))
        .unwrap();
    assert_eq!(test.files.mode(MAIN_STATE), None);
    store.update_state(&main(), |_| ()).unwrap();
    assert_eq!(test.files.mode(MAIN_STATE), None, "doing nothing writes nothing");
}

#[test]
fn readonly_writes_nothing() {
    let test = TestHost::new();
    put(&test, MAIN, include_str!("../golden/age-a.json"));
    put(
        &test,
        "/s/agents/main/agent/auth.json",
        r#"{"zai": {"type": "api_key", "key": "k"}}"#,
    );
    put(
        &test,
        "/s/credentials/oauth.json",
        r#"{"anthropic": {"access": "a", "refresh": "r"}}"#,
    );
    let before = test.files.snapshot();
    let store = FileStore::new(test.host(), paths(), true);
    assert_eq!(store.load(&main()).unwrap().profiles.entries().len(), 3);
    let written = store.compare_and_set(&main(), &id("rig:a"), Expected::Any, Some(&api_key("rig", "k")));
    let text = written.unwrap_err().to_string();
    assert!(text.contains("OPENCLAW_AUTH_STORE_READONLY"), "{text}");
    assert!(store.update_state(&main(), |_| ()).is_err());
    assert!(
        tokensink_store::legacy::import(&store, &main())
            .unwrap()
            .is_empty()
    );
    let (pending, _) = tokensink_store::legacy::pending(&store, &main()).unwrap();
    assert_eq!(pending.len(), 2, "what would be imported can still be seen");
    assert!(
        tokensink_store::legacy::dissolve_clones(&store, &work(), &|_, _| true)
            .unwrap()
            .is_empty()
    );
    assert_eq!(test.files.snapshot(), before);
}

#[test]
fn what_others_may_read_is_told() {
    let test = TestHost::new();
    test.files.put(MAIN, profiles(&[("a:1", "a")]), 0o644);
    let store = store(&test);
    let loaded = store.load(&main()).unwrap();
    assert!(
        matches!(loaded.warnings[..], [Warning::LooseMode { mode: 0o644, .. }]),
        "{:?}",
        loaded.warnings
    );
    store
        .compare_and_set(&main(), &id("a:2"), Expected::Absent, Some(&api_key("a", "k")))
        .unwrap();
    assert_eq!(test.files.mode(MAIN), Some(0o600));
    assert!(store.load(&main()).unwrap().warnings.is_empty());
}

#[test]
fn agents_are_found_on_disk() {
    let test = TestHost::new();
    for dir in ["work/agent", "Upper/agent", "empty", "main/agent"] {
        test.files.mkdir(format!("/s/agents/{dir}"));
    }
    let agents = store(&test).agents().unwrap();
    assert_eq!(agents, [main(), work()]);
    assert_eq!(store(&TestHost::new()).agents().unwrap(), [main()]);
}
