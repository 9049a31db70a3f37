//! Real files, real locks, many threads.

use std::sync::Arc;
use std::thread;

use tokensink_host::Host;
use tokensink_store::{CasOutcome, Expected, FileStore, Journal, Paths, RecordKey, conformance};
use tokensink_testkit::MapEnvironment;
use tokensink_types::{SpendKey, UnixMillis};

use super::support::{grant, id, main, provider};

/// Real files under a temporary directory; everything else of the world is real too, but the environment.
fn real(dir: &tempfile::TempDir) -> (Host, Paths) {
    let env = MapEnvironment::of([]);
    env.set("OPENCLAW_STATE_DIR", dir.path().to_string_lossy());
    let paths = Paths::resolve(&env).unwrap();
    let host = Host {
        env: Arc::new(env),
        ..Host::real()
    };
    (host, paths)
}

#[test]
fn the_suites_pass_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let (host, paths) = real(&dir);
    conformance::credentials(&FileStore::new(host.clone(), paths.clone(), false)).unwrap();
    conformance::records(&Journal::new(host, &paths)).unwrap();
}

/// Writers with stores of their own, as in several processes: of each generation one is written, none is lost.
#[test]
fn a_chain_of_generations_has_no_fork() {
    const WRITERS: usize = 4;
    const EACH: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let (host, paths) = real(&dir);
    let open = || FileStore::new(host.clone(), paths.clone(), false);
    let profile = id("rig:a");
    open()
        .compare_and_set(
            &main(),
            &profile,
            Expected::Absent,
            Some(&grant("rig", "a", "r0")),
        )
        .unwrap();
    let written: usize = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = open();
                let profile = &profile;
                scope.spawn(move || {
                    let mut done = 0;
                    while done < EACH {
                        let current = store.credential(&main(), profile).unwrap().unwrap();
                        let refresh = current
                            .as_oauth()
                            .unwrap()
                            .tokens
                            .refresh_token()
                            .unwrap()
                            .clone();
                        let next: usize = refresh.expose()[1..].parse::<usize>().unwrap() + 1;
                        let new = grant("rig", &format!("a{writer}"), &format!("r{next}"));
                        let expected = Expected::Spend(SpendKey::of(&refresh));
                        let outcome = store
                            .compare_and_set(&main(), profile, expected, Some(&new))
                            .unwrap();
                        done += usize::from(outcome == CasOutcome::Done);
                    }
                    store
                        .update_state(&main(), |state| {
                            state.mark_used(&provider("rig"), &id(&format!("rig:{writer}")), UnixMillis(1));
                        })
                        .unwrap();
                    done
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let last = open().credential(&main(), &profile).unwrap().unwrap();
    let refresh = last.as_oauth().unwrap().tokens.refresh_token().unwrap().clone();
    assert_eq!(refresh.expose(), format!("r{written}"));
    assert_eq!(open().load(&main()).unwrap().state.usages().len(), WRITERS);
}

/// A reader beside a writer sees one of the written records, always newer or equal to the last it saw.
#[test]
fn a_reader_never_sees_half_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let (host, paths) = real(&dir);
    let sizes = 1..200_usize;
    let path = "/store".to_owned();
    let record = move |size: usize| {
        let mut record =
            tokensink_types::record::Record::idle(provider("rig"), id("rig:a"), path.clone(), None);
        record.state = tokensink_types::record::RecordState::Committed {
            at: UnixMillis(i64::try_from(size).unwrap()),
        };
        record
    };
    let key = RecordKey::of(&record(0));
    let writer = Journal::new(host.clone(), &paths);
    writer.write(&record(0)).unwrap();
    thread::scope(|scope| {
        let write = scope.spawn(|| sizes.for_each(|size| writer.write(&record(size)).unwrap()));
        let reader = Journal::new(host.clone(), &paths);
        let mut last = 0;
        while !write.is_finished() {
            let read = reader.read(&key).unwrap().unwrap();
            let tokensink_types::record::RecordState::Committed { at } = read.state else {
                panic!("{:?}", read.state)
            };
            assert!(at.0 >= last, "{} after {last}", at.0);
            last = at.0;
        }
    });
    assert_eq!(
        *Journal::new(host, &paths).read(&key).unwrap().unwrap(),
        record(199)
    );
}

/// OpenClaw takes its lock as a file of its own beside the store; two of ours and it exclude each other.
#[test]
fn a_foreign_holder_on_real_files_is_respected() {
    let dir = tempfile::tempdir().unwrap();
    let (host, paths) = real(&dir);
    let store = FileStore::new(host.clone(), paths.clone(), false);
    store
        .compare_and_set(
            &main(),
            &id("rig:a"),
            Expected::Absent,
            Some(&grant("rig", "a", "r")),
        )
        .unwrap();
    let dot = tokensink_store::lock_sibling(&paths.profiles_file(&main()));
    let this = host.processes.this();
    let held = tokensink_store::foreign_lock_text(this.pid, this.start, host.clock.now());
    host.files
        .create_new(&dot, 0o644)
        .unwrap()
        .write_at(0, &held)
        .unwrap();
    assert!(tokensink_store::is_held(&host, &dot, tokensink_store::LockKind::Store).unwrap());
    let waiting = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            store.compare_and_set(
                &main(),
                &id("rig:b"),
                Expected::Absent,
                Some(&grant("rig", "a", "r")),
            )
        });
        host.clock.sleep(std::time::Duration::from_millis(60));
        let waited = !writer.is_finished();
        host.files.remove(&dot).unwrap();
        writer.join().unwrap().unwrap();
        waited
    });
    assert!(waiting, "the holder was alive");
    assert!(host.files.stat(&dot).unwrap().is_none(), "released");
}
