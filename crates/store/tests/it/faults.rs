//! Every call fails, is cut off or crashes once: the store always holds the old content or the new one, and no
//! failure deletes or blanks a secret.

use tokensink_host::{Files, OpenMode};
use tokensink_store::{CasOutcome, Expected, StoreError};
use tokensink_testkit::{Errno, Faults, TestHost};
use tokensink_types::{Credential, SpendKey};

use super::support::{MAIN, grant, id, main, provider, store, store_on};

/// A store of age C2 whose first entry is the grant: when that one grows, every later byte moves, so that a file that
/// is half new and half old is no store.
fn with_grant() -> TestHost {
    let test = TestHost::new();
    let first = r#""profiles": {
    "rig:a": {
      "type": "oauth",
      "provider": "rig",
      "access": "a1",
      "refresh": "r1",
      "expires": 5
    },"#;
    let text = include_str!("../golden/age-c2.json").replace("\"profiles\": {", first);
    test.files.put(MAIN, text, 0o600);
    test
}

fn old() -> Credential {
    grant("rig", "a1", "r1")
}

fn new() -> Credential {
    grant("rig", "a2 is longer", "r2 is longer")
}

fn rotate(test: &TestHost, faults: &Faults) -> Result<CasOutcome, StoreError> {
    let spend = Expected::Spend(SpendKey::of(&"r1".into()));
    store_on(test.host_with(faults)).compare_and_set(&main(), &id("rig:a"), spend, Some(&new()))
}

fn stored(test: &TestHost) -> Credential {
    let loaded = store(test).load(&main()).unwrap();
    assert_eq!(loaded.profiles.entries().len(), 4, "the neighbours are whole");
    assert_eq!(loaded.profiles.ignored().len(), 2);
    loaded.profiles.get(&id("rig:a")).cloned().unwrap()
}

/// Runs `rotate` once for every call that can go wrong.
fn for_every_call(make: &dyn Fn(usize) -> Faults, prepare: &dyn Fn(&TestHost), power_loss: bool) {
    for n in 1.. {
        let test = with_grant();
        prepare(&test);
        let faults = make(n);
        let result = rotate(&test, &faults);
        if power_loss {
            // The system may write back any file at any time: here the store's own, just before the end.
            let store = test.files.open(MAIN.as_ref(), OpenMode::ReadWrite);
            store.unwrap().sync().unwrap();
            test.files.lose_power();
        }
        let found = stored(&test);
        if let Ok(outcome) = &result {
            assert_eq!(*outcome, CasOutcome::Done, "call {n}: {}", faults.last());
            assert_eq!(
                found,
                new(),
                "what was reported as done is there; call {n}: {}",
                faults.last()
            );
        } else {
            assert!(found == old() || found == new(), "call {n}: {}", faults.last());
        }
        // The next writer is not hindered by what was left behind.
        let other = test.other_process(7);
        let next = grant("rig", "a3", "r3");
        let outcome = store(&other)
            .compare_and_set(&main(), &id("rig:a"), Expected::Any, Some(&next))
            .unwrap();
        assert_eq!(outcome, CasOutcome::Done);
        assert_eq!(stored(&test), next);
        if !faults.fired() {
            result.unwrap();
            break;
        }
    }
}

#[test]
fn every_error() {
    for errno in [Errno::NOSPC, Errno::IO, Errno::ACCESS, Errno::ROFS] {
        for_every_call(&|n| Faults::fail_at(n, errno).torn(), &|_| {}, false);
    }
}

#[test]
fn every_crash() {
    for_every_call(&|n| Faults::crash_before(n).torn(), &|_| {}, false);
    for_every_call(&Faults::crash_after, &|_| {}, false);
}

#[test]
fn every_loss_of_power() {
    for_every_call(&|n| Faults::crash_before(n).torn(), &|_| {}, true);
    for_every_call(&Faults::crash_after, &|_| {}, true);
}

/// A bind-mounted file cannot be renamed over. It is written in place, and a crash in the middle is repaired.
#[test]
fn writing_in_place_survives_every_crash() {
    let refuse = |test: &TestHost| test.files.refuse_renames(Some(Errno::BUSY));
    for_every_call(&|n| Faults::crash_before(n).torn(), &refuse, false);
    for_every_call(&Faults::crash_after, &refuse, false);
    for_every_call(&|n| Faults::crash_before(n).torn(), &refuse, true);
    for_every_call(&|n| Faults::fail_at(n, Errno::NOSPC).torn(), &refuse, false);
}

#[test]
fn the_disk_is_full() {
    let test = with_grant();
    test.files.set_free_space(Some(10));
    let text = rotate(&test, &Faults::none()).unwrap_err().to_string();
    assert!(text.contains("df -h"), "{text}");
    assert_eq!(stored(&test), old());
}

#[test]
fn the_file_system_is_read_only() {
    let test = with_grant();
    test.files.set_read_only(true);
    let text = rotate(&test, &Faults::none()).unwrap_err().to_string();
    assert!(!text.contains("longer"), "{text}");
    assert_eq!(stored(&test), old());
}

/// The move of the state maps into their own file loses none of them, wherever it is cut off.
#[test]
fn splitting_the_older_layout_survives_every_crash() {
    for n in 1.. {
        let test = TestHost::new();
        test.files.put(MAIN, include_str!("../golden/age-a.json"), 0o600);
        let faults = Faults::crash_after(n);
        let crashing = store_on(test.host_with(&faults));
        let _ = crashing.update_state(&main(), |state| {
            state.set_last_good(&provider("rig"), &id("rig:a"));
        });
        test.files.lose_power();
        let loaded = store(&test).load(&main()).unwrap();
        assert_eq!(loaded.state.orders().len(), 2, "call {n}: {}", faults.last());
        assert_eq!(loaded.state.usages().len(), 1, "call {n}: {}", faults.last());
        assert_eq!(loaded.profiles.entries().len(), 3, "call {n}: {}", faults.last());
        if !faults.fired() {
            break;
        }
    }
}
