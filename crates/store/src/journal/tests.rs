use std::time::Duration;

use proptest::prelude::*;
use tokensink_host::Files;
use tokensink_testkit::{Errno, Faults, MapEnvironment, TestHost};
use tokensink_types::record::{Backoff, RecordState, Rotation, Sent};
use tokensink_types::{ProcessId, Revision, Secret, SpendKey, UnixMillis};

use super::*;
use crate::conformance;

fn journal(test: &TestHost) -> Journal {
    let env = MapEnvironment::of([("OPENCLAW_STATE_DIR", "/s")]);
    Journal::new(test.host(), &Paths::resolve(&env).unwrap())
}

fn record(size: usize) -> Record {
    conformance::record("/s/agents/main/agent/auth-profiles.json", "rig:a", size).unwrap()
}

fn holder() -> ProcessId {
    ProcessId {
        host: "h".into(),
        boot: "b".into(),
        pid: 7,
        start: 8,
    }
}

/// A record in every state, with every optional part there and absent.
fn all_states() -> Vec<Record> {
    let spent = SpendKey::of(&Secret::from("refresh"));
    let at = UnixMillis(1_795_234_269_543);
    let full = record(10);
    let answer = full.generation.clone().unwrap();
    let sent = Sent {
        spend: spent,
        first_at: at,
        last_at: at,
        sends: 3,
        holder: holder(),
    };
    let states = [
        RecordState::Idle,
        RecordState::Sent(sent),
        RecordState::Answered { parent: spent, at },
        RecordState::Committed { at },
        RecordState::Parked {
            spent,
            answer: Box::new(answer),
            at,
        },
        RecordState::Refused {
            spent,
            code: "invalid_grant".into(),
            description: "\"quoted\" \u{e9}".into(),
            after_lost_answer: true,
            at,
        },
    ];
    let mut records = Vec::new();
    for state in states {
        let mut with = full.clone();
        with.state = state.clone();
        with.backoff = Some(Backoff {
            failures: 2,
            not_before: at,
            reason: "no network".into(),
        });
        with.rejected = Some(Revision([7; 32]));
        let mut without = Record::idle(
            full.provider.clone(),
            full.profile.clone(),
            full.store.clone(),
            None,
        );
        without.state = state;
        without.rotation = Rotation::Never;
        records.extend([with, without]);
    }
    records
}

#[test]
fn conforms() {
    conformance::records(&journal(&TestHost::new())).unwrap();
}

#[test]
fn every_state_survives_the_encoding() {
    for record in all_states() {
        assert_eq!(codec::decode(&codec::encode(&record)).unwrap(), record);
    }
}

#[test]
fn other_formats_are_not_guessed_at() {
    let text = String::from_utf8(codec::encode(&record(1)).to_vec()).unwrap();
    let newer = text.replace("\"v\":1", "\"v\":2");
    assert!(codec::decode(newer.as_bytes()).unwrap_err().contains("format 2"));
    for (from, to) in [
        ("\"committed\"", "\"later\""),
        ("\"always\"", "\"x\""),
        ("\"store\"", "\"st\""),
        ("\"ancestors\":[\"", "\"ancestors\":[\"zz"),
    ] {
        let damaged = text.replace(from, to);
        assert_ne!(damaged, text, "{from}");
        assert!(codec::decode(damaged.as_bytes()).is_err(), "{from}");
    }
}

#[test]
fn the_file_has_its_size_and_mode_from_the_start() {
    let test = TestHost::new();
    let journal = journal(&test);
    let first = record(100);
    journal.write(&first).unwrap();
    let path = journal.path(&RecordKey::of(&first));
    assert_eq!(test.files.mode(&path), Some(0o600));
    assert_eq!(test.files.mode("/s/tokensink/journal"), Some(0o700));
    let size = test.files.read(&path).unwrap().len();
    assert_eq!(size, 32 * 1024);
    journal.write(&record(200)).unwrap();
    assert_eq!(test.files.read(&path).unwrap().len(), size);
    // A payload needs a third of the page when its file is made.
    journal.write(&record(20_000)).unwrap();
    assert_eq!(test.files.read(&path).unwrap().len(), 128 * 1024);
}

#[test]
fn a_full_disk_does_not_hinder_a_record_that_exists() {
    let test = TestHost::new();
    let journal = journal(&test);
    journal.write(&record(100)).unwrap();
    test.files.set_free_space(Some(0));
    for size in [200, 300, 4_000] {
        journal.write(&record(size)).unwrap();
        assert_eq!(
            journal.read(&RecordKey::of(&record(1))).unwrap().as_deref(),
            Some(&record(size))
        );
    }
    let error = journal.write(&record(100_000)).unwrap_err().to_string();
    assert!(error.contains("Free some space"), "{error}");
    assert_eq!(
        journal.read(&RecordKey::of(&record(1))).unwrap().as_deref(),
        Some(&record(4_000))
    );
}

/// Whatever call of the second write fails, crashes or is cut off, the reader gets the first record or the second.
#[test]
fn no_fault_loses_the_record() {
    for size in [200, 100_000] {
        for make in [Faults::crash_before, Faults::crash_after, |n| {
            Faults::fail_at(n, Errno::IO)
        }] {
            for n in 1.. {
                let test = TestHost::new();
                journal(&test).write(&record(100)).unwrap();
                let faults = make(n).torn();
                let mut faulty = journal(&test);
                faulty.host = test.host_with(&faults);
                let result = faulty.write(&record(size));
                test.files.lose_power();
                let read = journal(&test).read(&RecordKey::of(&record(1))).unwrap();
                let read = read.as_deref();
                if result.is_ok() {
                    assert_eq!(read, Some(&record(size)), "call {n}: {}", faults.last());
                } else {
                    let whole = [Some(&record(100)), Some(&record(size))].contains(&read);
                    assert!(whole, "call {n}: {}", faults.last());
                }
                if !faults.fired() {
                    break;
                }
            }
        }
    }
}

#[test]
fn an_unreadable_record_is_reported_then_set_aside_by_the_next_write() {
    for damaged in [&b""[..], b"garbage", &[1; 32 * 1024]] {
        let test = TestHost::new();
        let journal = journal(&test);
        let key = RecordKey::of(&record(1));
        let path = journal.path(&key);
        test.files.put(&path, damaged, 0o600);
        let error = journal.read(&key).unwrap_err();
        assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
        assert_eq!(journal.list().unwrap().unreadable.len(), 1);
        assert_eq!(test.files.read(&path).unwrap(), damaged, "a read changes nothing");
        journal.write(&record(5)).unwrap();
        assert_eq!(journal.read(&key).unwrap().as_deref(), Some(&record(5)));
        let kept = set_aside_files(&test);
        assert_eq!(kept.len(), 1);
        assert_eq!(test.files.read(&kept[0]).unwrap(), damaged);
    }
}

fn set_aside_files(test: &TestHost) -> Vec<PathBuf> {
    let all = test.files.snapshot().into_keys();
    all.filter(|path| path.to_string_lossy().contains(".unreadable-"))
        .collect()
}

#[test]
fn a_record_under_another_name_is_not_believed() {
    let test = TestHost::new();
    let journal = journal(&test);
    journal.write(&record(5)).unwrap();
    let other = RecordKey {
        store: "/elsewhere".into(),
        profile: record(1).profile,
    };
    let bytes = test
        .files
        .read(&journal.path(&RecordKey::of(&record(1))))
        .unwrap();
    test.files.put(journal.path(&other), bytes, 0o600);
    let error = journal.read(&other).unwrap_err().to_string();
    assert!(error.contains("another profile"), "{error}");
    let scan = journal.list().unwrap();
    assert_eq!((scan.records.len(), scan.unreadable.len()), (1, 1));
}

#[test]
fn an_unchanged_record_costs_one_stat() {
    let test = TestHost::new();
    let writer = journal(&test);
    writer.write(&record(5)).unwrap();
    let faults = Faults::none();
    let mut reader = journal(&test);
    reader.host = test.host_with(&faults);
    let key = RecordKey::of(&record(1));
    reader.read(&key).unwrap();
    test.clock.advance(Duration::from_millis(60));
    reader.read(&key).unwrap();
    let before = faults.calls();
    reader.read(&key).unwrap();
    assert_eq!(faults.calls() - before, 1, "{:?}", faults.trace());
    writer.write(&record(6)).unwrap();
    assert_eq!(
        reader.read(&key).unwrap().as_deref(),
        Some(&record(6)),
        "a change is seen"
    );
}

/// Erasing is for a logout: the secret is gone from the bytes, and a crash in the middle shows no older record.
#[test]
fn erasing_overwrites_the_newest_page_last() {
    for n in 1.. {
        let test = TestHost::new();
        let writer = journal(&test);
        for size in [1, 2, 3] {
            writer.write(&record(size)).unwrap();
        }
        let faults = Faults::crash_after(n);
        let mut faulty = journal(&test);
        faulty.host = test.host_with(&faults);
        let result = faulty.erase(&RecordKey::of(&record(1)));
        let read = journal(&test).read(&RecordKey::of(&record(1))).unwrap();
        assert!(
            read.is_none() || read.as_deref() == Some(&record(3)),
            "call {n}: {}",
            faults.last()
        );
        if !faults.fired() {
            result.unwrap();
            assert!(
                test.files
                    .snapshot()
                    .keys()
                    .all(|path| !path.starts_with("/s/tokensink/journal"))
            );
            break;
        }
    }
}

#[test]
fn the_admission_lock_excludes() {
    let test = TestHost::new();
    let wait = Wait {
        deadline: Duration::ZERO,
    };
    let held = journal(&test).admission(wait).unwrap();
    assert!(journal(&test).admission(wait).unwrap_err().is_transient());
    drop(held);
    journal(&test).admission(wait).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A file with one damaged place, or cut off anywhere, gives one of the two records in it, or an error, and while
    /// the damage is in one page only, the other page's record.
    #[test]
    fn damage_never_gives_a_wrong_record(writes in 1_usize..5, at in 0_usize..40_000, flip in 1_u8..=255, cut in any::<bool>()) {
        let test = TestHost::new();
        let journal = journal(&test);
        for size in 1..=writes {
            journal.write(&record(size)).unwrap();
        }
        let key = RecordKey::of(&record(1));
        let path = journal.path(&key);
        let mut bytes = test.files.read(&path).unwrap();
        let page = bytes.len() / 2;
        let newest_page = (writes + 1) % 2;
        // Half of the cases hit the few hundred bytes that are in use.
        let at = if at % 2 == 0 { at % bytes.len() } else { (at % 900) + page * (at / 2 % 2) };
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= flip;
        }
        test.files.put(&path, &bytes, 0o600);
        let fresh = self::journal(&test);
        let previous = (writes > 1).then(|| record(writes - 1));
        match fresh.read(&key) {
            Ok(Some(read)) => {
                let known = *read == record(writes) || Some(&*read) == previous.as_ref();
                prop_assert!(known);
            }
            Ok(None) => prop_assert!(false, "a damaged file is not a missing one"),
            Err(StoreError::Unreadable(_)) => {
                // Only where the one page that was in use is hit, or both are.
                let both_gone = if cut { at < page } else { previous.is_none() };
                prop_assert!(both_gone || (previous.is_none() && at / page == newest_page));
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let image = Image::new(bytes.clone());
        prop_assert!(Pages::of(&image).newest().is_none());
        let _ = codec::decode(&bytes);
    }
}

/// A process is killed after it has made the journal's directory, or the record, and before their names are durable.
/// The next one must not rely on them.
#[test]
fn a_record_that_somebody_left_without_a_durable_name_is_durable_after_the_next_write() {
    for n in 1.. {
        let test = TestHost::new();
        test.files.mkdir("/s");
        let faults = Faults::crash_before(n);
        let env = MapEnvironment::of([("OPENCLAW_STATE_DIR", "/s")]);
        let killed = Journal::new(test.host_with(&faults), &Paths::resolve(&env).unwrap());
        let _ = killed.write(&record(10));
        let mut next = record(10);
        next.rotation = Rotation::Always;
        journal(&test).write(&next).unwrap();
        test.files.lose_power();
        let found = journal(&test).read(&RecordKey::of(&next)).unwrap();
        assert_eq!(found.as_deref(), Some(&next), "after {}", faults.last());
        if !faults.fired() {
            break;
        }
    }
}
