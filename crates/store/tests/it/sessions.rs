//! `sessions.json`: OpenClaw's file, of which one value at a time is changed.

use std::time::Duration;

use tokensink_host::{Files, OpenMode};
use tokensink_store::{MADE_KEPT_FOR, MADE_MAX, OtherPin, Session, SessionStore, StoreError};
use tokensink_testkit::{Errno, Faults, TestHost};
use tokensink_types::{ProfileId, ProviderId, SessionKey, UnixMillis};

use super::support::{id, main, paths};

const FILE: &str = "/s/agents/main/sessions/sessions.json";
const MARKS: &str = "/s/tokensink/state/sessions/main.json";

/// As OpenClaw writes it, with numbers and texts that a rewrite would respell.
const TEXT: &str = r#"{
  "agent:main:main": {
    "sessionId": "0c1d",
    "updatedAt": 1795234269543.5,
    "compactionCount": 2,
    "big": 123456789012345678901234567890,
    "text": "caf\u00e9",
    "nested": {"a":  [1.0, 1e3]}
  },
  "agent:main:telegram:group:-1": {
    "sessionId": "1c1d",
    "providerOverride": "rig",
    "modelOverride": "rig-large",
    "authProfileOverride": "rig:a",
    "authProfileOverrideSource": "auto",
    "authProfileOverrideCompactionCount": 1,
    "updatedAt": 5
  },
  "odd": 7
}
"#;

fn with_sessions() -> TestHost {
    let test = TestHost::new();
    test.files.put(FILE, TEXT, 0o600);
    test
}

fn store(test: &TestHost) -> SessionStore {
    SessionStore::new(test.host(), paths(), false)
}

fn key(text: &str) -> SessionKey {
    SessionKey::parse(text).unwrap()
}

fn text(test: &TestHost, path: &str) -> String {
    let bytes = test.files.snapshot().remove(path.as_ref() as &std::path::Path);
    String::from_utf8(bytes.unwrap_or_default()).unwrap()
}

fn session(test: &TestHost, name: &str) -> Session {
    let sessions = store(test).load(&main()).unwrap();
    sessions.map.get(&key(name)).cloned().unwrap_or_default()
}

fn pin(session: &mut Session, profile: &str) {
    session.profile = Some(id(profile));
    session.profile_source = Some("auto".to_owned());
    session.profile_compactions = Some(2);
    session.order_mark = Some(u64::MAX);
}

#[test]
fn fields_are_read() {
    let test = with_sessions();
    let sessions = store(&test).load(&main()).unwrap();
    assert_eq!(sessions.map.len(), 2, "{:?}", sessions.map.keys());
    let group = session(&test, "agent:main:telegram:group:-1");
    assert_eq!(
        group,
        Session {
            session_id: Some("1c1d".to_owned()),
            updated_at: Some(UnixMillis(5)),
            provider_override: Some("rig".to_owned()),
            model_override: Some("rig-large".to_owned()),
            profile: Some(id("rig:a")),
            profile_source: Some("auto".to_owned()),
            profile_compactions: Some(1),
            ..Session::default()
        }
    );
    assert_eq!(session(&test, "agent:main:main").compactions, Some(2));
}

/// OpenClaw's file has room for the profile of one provider.
#[test]
fn what_is_kept_at_further_providers_is_ours_alone() {
    let test = with_sessions();
    let rig = ProviderId::parse("rig").unwrap();
    let kept = OtherPin {
        profile: id("rig:b"),
        compactions: 2,
        order_mark: Some(u64::MAX),
        conversation: Some("0c1d".to_owned()),
    };
    let put = |session: &mut Session| {
        session.others.insert(rig.clone(), kept.clone());
    };
    store(&test)
        .update(&main(), &key("agent:main:main"), put)
        .unwrap();
    assert_eq!(text(&test, FILE), TEXT);
    assert_eq!(session(&test, "agent:main:main").others[&rig], kept);
}

#[test]
fn only_what_changes_is_written() {
    let test = with_sessions();
    let updated = store(&test)
        .update(&main(), &key("agent:main:main"), |session| pin(session, "rig:b"))
        .unwrap();
    assert!(updated.set_aside.is_empty());
    let now = test.host().clock.now();
    let wanted = TEXT.replace("1795234269543.5", &now.0.to_string()).replace(
        "[1.0, 1e3]}\n",
        "[1.0, 1e3]},\n    \"authProfileOverride\": \"rig:b\",\n    \"authProfileOverrideSource\": \"auto\",\n    \
         \"authProfileOverrideCompactionCount\": 2\n",
    );
    assert_eq!(text(&test, FILE), wanted);
    let found = session(&test, "agent:main:main");
    assert_eq!(
        (found.order_mark, found.session_id.as_deref()),
        (Some(u64::MAX), Some("0c1d"))
    );
    // What only we know is not in OpenClaw's file, and counts for nothing once OpenClaw has pinned another profile.
    assert!(text(&test, MARKS).contains("ffffffffffffffff"));
    let other = text(&test, FILE).replace("\"rig:b\"", "\"rig:c\"");
    test.files.put(FILE, other, 0o600);
    assert_eq!(session(&test, "agent:main:main").order_mark, None);
    // Nothing changes, so nothing is written.
    let before = test.files.snapshot();
    store(&test)
        .update(&main(), &key("agent:main:main"), |_| {})
        .unwrap();
    store(&test).update(&main(), &key("none"), |_| {}).unwrap();
    assert_eq!(
        test.files.snapshot().get(FILE.as_ref() as &std::path::Path),
        before.get(FILE.as_ref() as &std::path::Path)
    );
    // Taking the pin away leaves the entry as OpenClaw had it.
    store(&test)
        .update(&main(), &key("agent:main:main"), Session::unpin)
        .unwrap();
    assert_eq!(
        text(&test, FILE),
        TEXT.replace("1795234269543.5", &now.0.to_string())
    );
    assert!(!text(&test, MARKS).contains("agent:main:main"));
}

#[test]
fn a_new_session_has_what_openclaw_needs() {
    let test = TestHost::new();
    store(&test)
        .update(&main(), &key("new"), |session| pin(session, "rig:b"))
        .unwrap();
    let found = session(&test, "new");
    let id = found.session_id.unwrap();
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
    assert_eq!(&id[14..15], "4", "{id}");
    assert_eq!(found.updated_at, Some(test.host().clock.now()));
}

#[test]
fn a_broken_file_is_set_aside_and_never_written_over() {
    let broken = "{ \"agent:main:main\": { \"authProfileOverride\": \"rig:a\"";
    let test = TestHost::new();
    test.files.put(FILE, broken, 0o600);
    let sessions = store(&test).load(&main()).unwrap();
    assert!(sessions.map.is_empty());
    let said = sessions.unreadable.first().unwrap().to_string();
    assert!(said.contains(FILE) && !said.contains("rig:a"), "{said}");
    assert_eq!(text(&test, FILE), broken, "looking changes nothing");
    let updated = store(&test)
        .update(&main(), &key("k"), |session| pin(session, "rig:b"))
        .unwrap();
    let [aside] = updated.set_aside.as_slice() else {
        panic!("{:?}", updated.set_aside)
    };
    assert_eq!(text(&test, &aside.display().to_string()), broken);
    assert_eq!(session(&test, "k").profile, Some(id("rig:b")));
    // The same for our own file.
    test.files.put(MARKS, "[", 0o600);
    assert_eq!(session(&test, "k").order_mark, None);
    let updated = store(&test)
        .update(&main(), &key("k"), |session| session.order_mark = Some(1))
        .unwrap();
    assert_eq!(updated.set_aside.len(), 1);
    assert_eq!(session(&test, "k").order_mark, Some(1));
}

#[test]
fn what_may_not_be_written_is_not() {
    let test = with_sessions();
    let readonly = SessionStore::new(test.host(), paths(), true);
    let change = |session: &mut Session| pin(session, "rig:b");
    let error = readonly.update(&main(), &key("k"), change).unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    let error = store(&test).update(&main(), &key("odd"), change).unwrap_err();
    assert!(matches!(error, StoreError::Edit { .. }), "{error}");
    // OpenClaw holds the file's lock.
    let lock = tokensink_store::foreign_lock_text(4712, 4712, test.host().clock.now());
    test.processes.set_liveness(
        tokensink_testkit::FakeProcesses::id(4712),
        tokensink_host::Liveness::Running,
    );
    test.files
        .put("/s/agents/main/sessions/sessions.json.lock", lock, 0o600);
    let error = store(&test).update(&main(), &key("k"), change).unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)), "{error}");
    assert_eq!(text(&test, FILE), TEXT);
}

#[test]
fn sessions_made_for_clients_are_bounded_and_others_stay() {
    let test = with_sessions();
    let store = store(&test);
    let make = |name: &str| {
        let now = test.host().clock.now();
        store
            .update(&main(), &key(name), |session| {
                pin(session, "rig:b");
                session.made = true;
                session.used_at = Some(now);
            })
            .unwrap();
        test.clock.advance(Duration::from_secs(1));
    };
    let count = || store.load(&main()).unwrap().map.len();
    for number in 0..=MADE_MAX {
        make(&format!("made-{number:03}"));
    }
    assert_eq!(count(), MADE_MAX + 2, "the oldest went, OpenClaw's stay");
    let known = |name: &str| store.load(&main()).unwrap().map.contains_key(&key(name));
    assert!(!known("made-000") && known("made-001") && known("agent:main:main"));
    // One that a user chose for, and one that OpenClaw took over, outlive the rest.
    store
        .update(&main(), &key("made-001"), |session| session.made = false)
        .unwrap();
    let taken = text(&test, FILE).replacen("\"made-002\": {", "\"made-002\": { \"systemSent\": true,", 1);
    test.files.put(FILE, taken, 0o600);
    test.clock.advance(MADE_KEPT_FOR + Duration::from_secs(3600));
    make("young");
    assert_eq!(count(), 5);
    assert!(known("made-001") && known("made-002") && known("young"));
    assert!(
        !text(&test, MARKS).contains("made-003"),
        "nothing is kept of those that are gone"
    );
}

/// Every call fails, is cut off or crashes once: the file holds the old text or the new one.
fn for_every_call(make: &dyn Fn(usize) -> Faults, prepare: &dyn Fn(&TestHost), power_loss: bool) {
    let name = "agent:main:telegram:group:-1";
    let change = |session: &mut Session| pin(session, "rig:b, which is longer");
    let wanted = {
        let test = with_sessions();
        store(&test).update(&main(), &key(name), change).unwrap();
        text(&test, FILE)
    };
    for n in 1.. {
        let test = with_sessions();
        prepare(&test);
        let faults = make(n);
        let result =
            SessionStore::new(test.host_with(&faults), paths(), false).update(&main(), &key(name), change);
        if power_loss {
            test.files
                .open(FILE.as_ref(), OpenMode::ReadWrite)
                .unwrap()
                .sync()
                .unwrap();
            test.files.lose_power();
        }
        let found = session(&test, name);
        let profile = found.profile.as_ref().map(ProfileId::as_str);
        match (&result, profile) {
            (Ok(_), profile) => assert_eq!(
                profile,
                Some("rig:b, which is longer"),
                "call {n}: {}",
                faults.last()
            ),
            (Err(_), Some("rig:a")) => assert_eq!(found.order_mark, None, "a mark without its pin; call {n}"),
            (Err(_), profile) => assert_eq!(
                profile,
                Some("rig:b, which is longer"),
                "call {n}: {}",
                faults.last()
            ),
        }
        // The next writer is not hindered, and both files are whole.
        let other = test.other_process(7);
        let updated = store(&other).update(&main(), &key(name), change).unwrap();
        assert!(updated.set_aside.is_empty(), "call {n}: {}", faults.last());
        assert_eq!(text(&test, FILE), wanted, "call {n}: {}", faults.last());
        if !faults.fired() {
            result.unwrap();
            break;
        }
    }
}

#[test]
fn every_failure() {
    for errno in [Errno::NOSPC, Errno::IO, Errno::ACCESS] {
        for_every_call(&|n| Faults::fail_at(n, errno).torn(), &|_| {}, false);
    }
    for power_loss in [false, true] {
        for_every_call(&|n| Faults::crash_before(n).torn(), &|_| {}, power_loss);
        for_every_call(&Faults::crash_after, &|_| {}, power_loss);
    }
    // Both files are there and cannot be renamed over, as where each is mounted by itself.
    let refuse = |test: &TestHost| {
        test.files.put(MARKS, "{\"version\": 1}", 0o600);
        test.files.refuse_renames(Some(Errno::BUSY));
    };
    for_every_call(&|n| Faults::crash_before(n).torn(), &refuse, false);
}
