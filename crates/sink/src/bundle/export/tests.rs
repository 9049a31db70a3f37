//! Two machines in memory and a file that is carried from one to the other.

use serde_json::json;
use tokensink_testkit::Faults;
use tokensink_types::record::RecordState;

use super::*;
use crate::bundle::BundleImport;
use crate::flights::Flights;
use crate::world::{World, agent, generation, id, key, oauth, spend};

const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const FILE: &str = "/home/user/bundle.age";

fn sealer() -> Sealer {
    Sealer::to_recipients(&[RECIPIENT.to_owned()]).unwrap()
}

fn opener() -> Opener {
    Opener::by_identities(&IDENTITY.into()).unwrap()
}

fn request(moves: bool) -> ExportRequest {
    ExportRequest {
        moves,
        ..ExportRequest::default()
    }
}

/// A grant whose record is a generation ahead of the store, a key, a grant of another agent, an order.
fn source() -> World {
    let world = World::new();
    let mut alice = oauth("rig", "alice");
    alice["note"] = json!("kept");
    world.store("main", &json!({"rig:alice": alice, "rig:key": key("rig")}));
    world.store("work", &json!({"rig:bob": oauth("rig", "bob")}));
    world.put(
        "agents/main/agent/auth-state.json",
        r#"{"version":1,"order":{"rig":["rig:key","rig:alice"]}}"#,
    );
    world.record("main", "rig:alice", generation("alice2", 90), |record| {
        record.push_ancestor(spend("alice"));
    });
    world
}

fn export(sink: &Sink, request: &ExportRequest) -> Result<ExportReport> {
    let plan = sink.plan_export(request)?;
    sink.export(&plan, Some(Path::new(FILE)), &sealer())
}

fn import(world: &World) -> Vec<String> {
    let sink = world.sink();
    let request = BundleImport {
        file: FILE.into(),
        agent: None,
    };
    let plan = sink.plan_bundle_import(&request, &opener()).unwrap();
    let report = sink.apply_import(&plan).unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let rows = plan.rows.iter();
    rows.map(|row| format!("{}/{} {}", row.agent, row.profile, row.action.word()))
        .collect()
}

/// Another machine with the file.
fn carried(from: &World) -> World {
    let to = World::new();
    let bytes = from.test.files.snapshot().remove(Path::new(FILE)).unwrap();
    to.test.files.put(FILE, bytes, 0o600);
    to
}

#[test]
fn a_move_leaves_a_tombstone_and_the_newest_generation_arrives() {
    let from = source();
    let report = export(&from.sink(), &request(true)).unwrap();
    assert_eq!(report.removed.len(), 3);
    assert!(report.failed.is_empty() && report.notes.is_empty(), "{report:?}");
    assert_eq!((from.stored("main"), from.stored("work")), (json!({}), json!({})));
    assert_eq!(from.recorded("main", "rig:alice"), None);
    for text in ["alice2-canary", "alice-canary", "bob-canary", "sk-canary"] {
        let holders = from.files_with(text);
        assert!(holders.is_empty(), "{text} is still in {holders:?}");
    }
    let stones = from.json("tokensink/state/tombstones.json");
    assert_eq!(stones["tombstones"][0]["bundle"], report.bundle);

    let told = from.sink().status(&agent("main")).unwrap().warnings;
    assert!(
        told.len() == 2 && told[0].starts_with("rig:alice was moved into bundle"),
        "{told:?}"
    );

    let to = carried(&from);
    assert_eq!(
        import(&to),
        ["main/rig:alice new", "main/rig:key new", "work/rig:bob new"]
    );
    assert_eq!(to.stored("main")["rig:alice"]["refresh"], "refresh-alice2-canary");
    assert_eq!(to.stored("main")["rig:alice"]["note"], "kept");
    assert_eq!(
        to.state("main")["order"],
        json!({"rig": ["rig:key", "rig:alice"]})
    );
    let record = to.recorded("main", "rig:alice").unwrap();
    assert!(record.is_ancestor(spend("alice")));
    let RecordState::Sent(sent) = record.state else {
        panic!("{:?}", record.state)
    };
    assert_eq!(sent.spend, spend("alice2"));
    assert!(sent.holder.origin().unwrap().starts_with("bundle "));
    // Back home: the same bundle is allowed and clears the tombstones.
    import(&from);
    assert_eq!(from.stored("work")["rig:bob"], oauth("rig", "bob"));
    assert_eq!(
        from.json("tokensink/state/tombstones.json")["tombstones"],
        json!([])
    );
}

#[test]
fn an_older_copy_of_what_was_moved_is_not_taken_in() {
    let world = source();
    export(&world.sink(), &request(true)).unwrap();
    let copy = json!({"profiles": {"rig:alice": oauth("rig", "alice"), "rig:x": oauth("rig", "alice2")}});
    world.test.files.put(
        "/home/user/.clawdbot/agents/main/agent/auth-profiles.json",
        copy.to_string(),
        0o600,
    );
    let plan = world
        .sink()
        .plan_openclaw_import(&crate::OpenClawImport::default())
        .unwrap();
    let words: Vec<&str> = plan.rows.iter().map(|row| row.action.word()).collect();
    assert_eq!(words, ["skipped", "skipped"]);
    assert!(!plan.has_work());
}

#[test]
fn a_grant_leaves_only_by_a_move_or_without_its_refresh_token() {
    let world = source();
    let error = export(&world.sink(), &request(false)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "would_copy"));
    assert!(error.fix().unwrap().contains("--move"));
    let keys = ExportRequest {
        profiles: vec![id("rig:key")],
        ..request(false)
    };
    export(&world.sink(), &keys).unwrap();
    assert_eq!(
        world.stored("main")["rig:key"],
        key("rig"),
        "an export takes nothing away"
    );
    let again = export(&world.sink(), &keys).unwrap_err();
    assert_eq!(again.code(), "file_exists");
    let plan = world.sink().plan_export(&request(true)).unwrap();
    let error = world.sink().export(&plan, None, &sealer()).unwrap_err();
    assert_eq!(error.code(), "move_needs_file");
    let nobody = ExportRequest {
        profiles: vec![id("rig:nobody")],
        ..request(false)
    };
    assert_eq!(
        world.sink().plan_export(&nobody).unwrap_err().code(),
        "no_profile"
    );
    assert_eq!(
        World::new()
            .sink()
            .plan_export(&request(false))
            .unwrap_err()
            .code(),
        "nothing_to_export"
    );
}

#[test]
fn access_tokens_alone_end_in_time_and_can_be_brought_again() {
    let from = source();
    let access = |minutes: u64| ExportRequest {
        access_only: Some(Duration::from_secs(minutes * 60)),
        agents: vec![agent("main")],
        ..ExportRequest::default()
    };
    let report = export(&from.sink(), &access(10)).unwrap();
    assert_eq!(report.rows.len(), 1, "keys do not end: {:?}", report.notes);
    assert!(report.notes[0].contains("rig:key"));
    assert!(from.files_with("alice2-canary").len() > 1, "it is still here");
    let to = carried(&from);
    assert_eq!(import(&to), ["main/rig:alice new"]);
    let stored = &to.stored("main")["rig:alice"];
    assert_eq!(stored["access"], "access-alice2-canary");
    assert_eq!(stored["refresh"], json!(null));
    assert_eq!(stored["expires"], 1_767_225_600_000_i64 + 600_000);
    let want = AcquireRequest::new(agent("main"), Want::Profile(id("rig:alice")));
    assert_eq!(
        to.sink().acquire(&want).unwrap().secret.expose(),
        "access-alice2-canary"
    );
    to.test.clock.advance(Duration::from_secs(601));
    assert_eq!(
        to.sink().acquire(&want).unwrap_err().kind(),
        ErrorKind::LoginNeeded
    );
    from.test.files.put(FILE, "", 0o600);
    tokensink_host::Files::remove(&from.test.files, Path::new(FILE)).unwrap();
    export(&from.sink(), &access(60)).unwrap();
    let bytes = from.test.files.snapshot().remove(Path::new(FILE)).unwrap();
    to.test.files.put(FILE, bytes, 0o600);
    assert_eq!(import(&to), ["main/rig:alice update"]);
    assert_eq!(
        to.sink().acquire(&want).unwrap().secret.expose(),
        "access-alice2-canary"
    );
}

#[test]
fn a_grant_in_doubt_or_refused_is_not_moved() {
    let doubtful = |state: RecordState| {
        let world = source();
        world.record("main", "rig:alice", generation("alice2", 90), |record| {
            record.push_ancestor(spend("alice"));
            record.state = state;
        });
        let before = world.stored("main");
        let error = export(&world.sink(), &request(true)).unwrap_err();
        assert_eq!(world.stored("main"), before);
        assert!(!world.test.files.snapshot().contains_key(Path::new(FILE)));
        error.code()
    };
    let at = UnixMillis(1);
    let sent = RecordState::Sent(tokensink_types::record::Sent {
        spend: spend("alice2"),
        first_at: at,
        last_at: at,
        sends: 1,
        holder: World::new().test.host().processes.this(),
    });
    let refused = RecordState::Refused {
        spent: spend("alice2"),
        code: "invalid_grant".to_owned(),
        description: String::new(),
        after_lost_answer: false,
        at,
    };
    assert_eq!([doubtful(sent), doubtful(refused)], ["outcome_unknown", "dead"]);
    let world = source();
    let _lock = world.refreshing_elsewhere("rig", "rig:bob");
    let error = export(&world.sink(), &request(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
}

#[test]
fn a_bundle_that_does_not_open_changes_nothing() {
    let world = source();
    let keys = ExportRequest {
        profiles: vec![id("rig:key")],
        ..request(false)
    };
    export(&world.sink(), &keys).unwrap();
    let to = carried(&world);
    let request = BundleImport {
        file: FILE.into(),
        agent: None,
    };
    let wrong = to
        .sink()
        .plan_bundle_import(&request, &Opener::by_passphrase("other".into()));
    assert_eq!(wrong.unwrap_err().code(), "not_opened");
    assert!(!to.sink().bundle_wants_passphrase(Path::new(FILE)).unwrap());
    let (sealed, _) = sealer().seal(b"{}").unwrap();
    to.test.files.put(FILE, sealed, 0o600);
    let error = to.sink().plan_bundle_import(&request, &opener()).unwrap_err();
    assert_eq!(error.code(), "not_a_bundle", "{error}");
    to.test.files.put(FILE, "text", 0o600);
    assert_eq!(
        to.sink()
            .bundle_wants_passphrase(Path::new(FILE))
            .unwrap_err()
            .code(),
        "not_a_bundle"
    );
    assert_eq!(to.stored("main"), json!(null));
}

#[test]
fn a_move_that_is_cut_off_anywhere_leaves_the_source_or_the_bundle() {
    type Make = fn(usize) -> Faults;
    let full: Make = |n| Faults::fail_at(n, tokensink_testkit::Errno::NOSPC);
    for make in [Faults::crash_before as Make, full] {
        for n in 1.. {
            let world = World::new();
            world.store("main", &json!({"rig:alice": oauth("rig", "alice")}));
            let faults = make(n).torn();
            let first = Sink::open_with(world.test.host_with(&faults), Flights::inline());
            let _ = first.and_then(|sink| export(&sink, &request(true)));
            let was = world.test.host().processes.this();
            world
                .test
                .processes
                .set_liveness(was, tokensink_host::Liveness::Dead);
            let next = World {
                test: world.test.other_process(5000),
            };
            let after = faults.last();
            let is_here = next.stored("main")["rig:alice"] == oauth("rig", "alice");
            let is_there = next.test.files.snapshot().contains_key(Path::new(FILE));
            assert!(is_here || is_there, "after {after}");
            // While it is here, a file that may be there as well holds an older copy from its next refresh on.
            if !is_here {
                assert_eq!(import(&carried(&next)), ["main/rig:alice new"], "after {after}");
                assert_eq!(
                    import(&next),
                    ["main/rig:alice new"],
                    "the bundle comes home after {after}"
                );
                assert_eq!(next.stored("main")["rig:alice"], oauth("rig", "alice"));
            } else if n % 10 == 0 {
                let _ = tokensink_host::Files::remove(&next.test.files, Path::new(FILE));
                let report = export(&next.sink_with_warnings(), &request(true)).unwrap();
                assert!(report.failed.is_empty(), "{report:?} after {after}");
            }
            if !faults.fired() {
                assert!(n > 50, "only {n} calls were tried");
                break;
            }
        }
    }
}
