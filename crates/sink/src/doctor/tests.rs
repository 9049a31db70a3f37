use http::Response;
use serde_json::json;
use tokensink_host::{ConnectPhase, Files as _};
use tokensink_testkit::{Errno, Faults, Scripted};
use tokensink_types::Body;

use super::*;
use crate::world::{STATE, World, at, generation, key, oauth};

/// A home with a grant of main, one of agent `work`, and the folders that a first login makes.
fn home() -> World {
    let world = World::new();
    world.store(
        "main",
        &json!({"rig:alice": oauth("rig", "alice"), "rig:key": key("rig")}),
    );
    world.store("work", &json!({"rig:bob": oauth("rig", "bob")}));
    world
}

fn examine(world: &World, net: bool) -> Report {
    let request = Examination {
        net,
        ..Examination::default()
    };
    Doctor::open(world.test.host())
        .unwrap()
        .examine(&request)
        .unwrap()
}

fn ids(report: &Report) -> Vec<&'static str> {
    report.findings.iter().map(|finding| finding.check.id).collect()
}

#[test]
fn disks_that_do_not_hold_what_a_refresh_needs() {
    type Break = fn(&World);
    let cases: [(&str, Break); 5] = [
        ("no-file-locks", |world| world.test.files.set_no_locks(true)),
        ("state-dir-not-writable", |world| {
            world.test.files.set_read_only(true);
        }),
        ("state-dir-not-writable", |world| {
            world.test.files.refuse_renames(Some(Errno::PERM));
        }),
        ("low-disk-space", |world| {
            world.test.files.set_free_space(Some(1024));
        }),
        ("network-file-system", |world| {
            let mounts = "/dev/a / ext4 rw 0 0\nhost:/home /home nfs4 rw 0 0\n";
            world.test.files.put("/proc/mounts", mounts, 0o444);
        }),
    ];
    for (id, spoil) in cases {
        let world = home();
        assert_eq!(ids(&examine(&world, false)), [""; 0]);
        spoil(&world);
        let report = examine(&world, false);
        assert_eq!(ids(&report), [id]);
        assert!(report.findings[0].repair.is_none() && !report.findings[0].fix.is_empty());
        let litter: Vec<_> = world.test.files.snapshot().into_keys().collect();
        let litter = litter
            .iter()
            .filter(|path| path.to_string_lossy().contains(".doctor."));
        assert_eq!(litter.count(), 0, "{id}");
    }
}

#[test]
fn a_disk_without_hard_links_or_fsync() {
    // The calls of the probe, in the order in which they are made.
    let clean = Faults::none();
    let doctor = Doctor::open(home().test.host_with(&clean)).unwrap();
    doctor.examine(&Examination::default()).unwrap();
    let trace = clean.trace();
    let number = |call: &str| {
        1 + trace
            .iter()
            .position(|one| one.split(' ').any(|word| word == call))
            .unwrap()
    };
    for (call, errno, id) in [
        ("hard_link", Errno::OPNOTSUPP, "no-hard-links"),
        ("sync", Errno::IO, "no-fsync"),
    ] {
        let world = home();
        let faults = Faults::fail_at(number(call), errno);
        let doctor = Doctor::open(world.test.host_with(&faults)).unwrap();
        let report = doctor.examine(&Examination::default()).unwrap();
        assert_eq!(ids(&report), [id], "{call}: {trace:?}");
    }
}

/// What is tried is said, also of an agent's folder that lies on another disk.
#[test]
fn the_disks_under_all_folders_are_tried() {
    let config = json!({"agents": {"list": [{"id": "main"}, {"id": "far", "agentDir": "/mnt/disk/agent"}]}});
    let world = home();
    world.put("openclaw.json", &config.to_string());
    let tried = |world: &World| -> Vec<(String, bool)> {
        let disks = examine(world, false).disks;
        let one = |disk: DiskTrial| {
            let works = matches!(&disk.outcome, DiskOutcome::Tried(powers) if powers.all_work());
            (disk.dir.display().to_string(), works)
        };
        disks.into_iter().map(one).collect()
    };
    let far = "/mnt/disk/agent".to_owned();
    assert_eq!(tried(&world), [(STATE.to_owned(), true), (far.clone(), false)]);
    world.test.files.mkdir("/mnt/disk/agent");
    assert_eq!(tried(&world), [(STATE.to_owned(), true), (far, true)]);
    world.test.files.set_no_locks(true);
    assert_eq!(ids(&examine(&world, false)), ["no-file-locks", "no-file-locks"]);
}

#[test]
fn the_way_to_the_token_endpoint() {
    let dated = |date: &str| {
        let response = Response::builder().status(404).header("date", date);
        Scripted::Exchange(Ok(response.body(Body::new("")).unwrap()))
    };
    let cases: [(Scripted, &[&str], Option<i64>); 6] = [
        (dated("Thu, 01 Jan 2026 00:00:20 GMT"), &[], Some(20_000)),
        (
            dated("Thu, 01 Jan 2026 00:05:00 GMT"),
            &["clock-offset"],
            Some(300_000),
        ),
        (
            dated("Wed, 31 Dec 2025 23:00:00 GMT"),
            &["clock-offset"],
            Some(-3_600_000),
        ),
        (dated("at noon"), &[], None),
        (Scripted::ambiguous(), &[], None),
        (
            Scripted::no_connection(ConnectPhase::Tls),
            &["endpoint-unreachable"],
            None,
        ),
    ];
    for (answer, want, offset) in cases {
        let world = home();
        world.test.transport.push(answer);
        let report = examine(&world, true);
        assert_eq!(ids(&report), want);
        assert_eq!(report.network.len(), 1, "two grants, one endpoint");
        assert_eq!(report.network[0].clock_offset_ms, offset);
        for request in world.test.transport.requests() {
            assert!(
                request.body().is_empty() && request.headers().is_empty(),
                "{request:?}"
            );
        }
        assert_eq!(world.test.transport.connections(), 1);
    }
    let world = home();
    examine(&world, false);
    assert_eq!(world.test.transport.connections(), 0, "unasked, nothing leaves");
}

#[test]
fn other_users_files() {
    let world = home();
    let store = at("agents/main/agent/auth-profiles.json");
    world.test.files.chown(&store, 0);
    let report = examine(&world, false);
    assert_eq!(ids(&report), ["foreign-owner"]);
    assert_eq!(
        report.findings[0].fix,
        format!("sudo chown 1000 {}", store.display())
    );
    world
        .test
        .files
        .set_mode(&at("agents/work/agent/auth-profiles.json"), 0o644)
        .unwrap();
    let report = examine(&world, false);
    assert_eq!(ids(&report), ["foreign-owner", "loose-file"]);
    assert_eq!(report.findings[1].mend(), Mend::Safe);
}

#[test]
fn a_store_out_of_reach_removes_nothing_from_the_config() {
    let config = json!({"auth": {"profiles": {"rig:bob": {"provider": "rig", "mode": "oauth"}}},
        "agents": {"list": [{"id": "main"}, {"id": "far", "agentDir": "/mnt/disk/agent"}]}});
    let world = World::new();
    world.store("main", &json!({"rig:alice": oauth("rig", "alice")}));
    world.put("openclaw.json", &config.to_string());
    assert_eq!(
        ids(&examine(&world, false)),
        [""; 0],
        "the disk may not be mounted"
    );
    world.test.files.mkdir("/mnt/disk/agent");
    assert_eq!(ids(&examine(&world, false)), ["missing-profile"]);
}

/// Copies of one grant wherever they are, in whatever form.
#[test]
fn all_planted_copies_are_found() {
    let world = home();
    let token = "refresh-alice-canary";
    let places = [
        (
            "agents/work/agent/auth-profiles.json.bak",
            format!("{{\"x\": [{{\"refreshToken\": \"{token}\"}}]}}"),
        ),
        (
            "agents/main/agent/auth-profiles.json.migrated-2026",
            format!("  \"refresh\": \"{token}\", \"exp"),
        ),
        ("notes.txt", format!("the token is {token}.")),
        ("tokensink/aside/1-auth-profiles.json", format!("TOKEN={token}\n")),
        (
            "credentials/oauth.json",
            format!("{{\"rig\": {{\"refresh\": \"{token}\"}}}}"),
        ),
        (
            "agents/main/agent/auth.json",
            "{\"rig\": {\"refresh\": \"refresh\\u002dalice-canary\"}}".to_owned(),
        ),
    ];
    for (path, text) in &places {
        world.put(path, text);
    }
    let elsewhere = [
        "/home/user/.openclaw.old/agents/main/agent/auth-profiles.json",
        "/home/user/.clawdbot/credentials/oauth.json",
        "/home/user/.claude/.credentials.json",
        "/home/user/.codex/auth.json.bak",
    ];
    for path in elsewhere {
        world
            .test
            .files
            .put(path, format!("{{\"refresh_token\": \"{token}\"}}"), 0o600);
    }
    // Neither a part of a longer word nor what lies in folders of other people's code is a copy.
    world.put("other.txt", &format!("{token}-2 x{token}"));
    world.put("extensions/node_modules/a/b.json", token);
    let report = examine(&world, false);
    assert_eq!(report.copies.len(), 1, "{report:#?}");
    let group = &report.copies[0];
    let mut found: Vec<String> = group
        .places
        .iter()
        .map(|place| place.path.display().to_string())
        .collect();
    let mut want: Vec<String> = places.iter().map(|(path, _)| format!("{STATE}/{path}")).collect();
    want.extend(elsewhere.map(str::to_owned));
    want.push(format!("{STATE}/agents/main/agent/auth-profiles.json"));
    found.sort();
    want.sort();
    assert_eq!(found, want);
    assert_eq!(
        group.places[0].kind,
        CopyKind::OtherProgram("Claude Code"),
        "the owner comes first"
    );
    assert_eq!((group.live(), group.has_owner()), (2, true));
    assert_eq!(
        group.places[1].remedy().unwrap(),
        "tokensink models auth logout rig:alice"
    );
    assert!(!format!("{report:?}").contains(token));
    assert_eq!(ids(&report), ["duplicate-grant"]);
    // Another run has another key; this test's randomness is the same, so that of another process is taken.
    let other = Doctor::open(world.test.other_process(9).host()).unwrap();
    let again = other.examine(&Examination::default()).unwrap();
    assert_ne!(again.copies[0].fingerprint, group.fingerprint);
}

/// A torn store is set aside with every byte, and what the records know is put back.
#[test]
fn a_torn_store_gets_its_logins_back_from_the_records() {
    let world = home();
    let path = at("agents/main/agent/auth-profiles.json");
    world.record("main", "rig:alice", generation("alice", 60), |_| {});
    let text = world.text("agents/main/agent/auth-profiles.json");
    world.test.files.put(&path, &text[..text.len() / 2], 0o600);
    let report = examine(&world, false);
    assert_eq!(ids(&report), ["store-unreadable"]);
    assert_eq!(report.findings[0].mend(), Mend::Asked);
    let doctor = Doctor::open(world.test.host()).unwrap();
    let done = doctor
        .repair(report.findings[0].repair.as_ref().unwrap())
        .unwrap();
    assert!(done.contains("put back rig:alice"), "{done}");
    let entry = &world.json("agents/main/agent/auth-profiles.json")["profiles"]["rig:alice"];
    assert_eq!(entry["refresh"], "refresh-alice-canary");
    assert_eq!(
        (&entry["provider"], &entry["type"]),
        (&json!("rig"), &json!("oauth"))
    );
    assert_eq!(
        world.files_with(&text[..text.len() / 2]).len(),
        1,
        "the torn one is kept"
    );
    assert_eq!(ids(&examine(&world, false)), ["set-aside-file"]);
    // Done again, it changes nothing.
    let done = doctor
        .repair(report.findings[0].repair.as_ref().unwrap())
        .unwrap();
    assert!(done.contains("can be read again"), "{done}");
}

#[test]
fn only_one_agent() {
    let world = home();
    for agent in ["main", "work"] {
        let state = r#"{"version":1,"order":{"rig":["rig:gone"]}}"#;
        world.put(&format!("agents/{agent}/agent/auth-state.json"), state);
    }
    let doctor = Doctor::open(world.test.host()).unwrap();
    let request = |agent: &str| Examination {
        agent: Some(agent.to_owned()),
        net: false,
    };
    let report = doctor.examine(&request("work")).unwrap();
    assert_eq!(ids(&report), ["dead-order"]);
    assert!(report.findings[0].what.contains("agent work"));
    let error = doctor.examine(&request("nobody")).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "unknown_agent"));
}

/// A home with something to mend of every kind, and every call of the mending going wrong once: no secret is lost,
/// and a later run mends the rest.
#[test]
fn a_repair_that_fails_halfway_loses_nothing() {
    let broken = || {
        let world = home();
        world.put(
            "agents/main/agent/auth-profiles.json.unreadable-1",
            "aside-canary",
        );
        world.put("credentials/.oauth.json.0123456789abcdef.tmp", "temporary-canary");
        world.put(
            "agents/work/agent/auth-state.json",
            r#"{"version":1,"order":{"rig":["rig:gone"]}}"#,
        );
        let config = r#"{"auth":{"profiles":{"rig:default":{"provider":"rig","mode":"oauth","email":"bob@example.com"}}}}"#;
        world.put("openclaw.json", config);
        world.put("agents/work/agent/auth-profiles.json.lock", "");
        world.put(
            "tokensink/journal/0000000000000000000000000000000000000000000000000000000000000000",
            "record-canary",
        );
        let store = at("agents/main/agent/auth-profiles.json");
        world.test.files.set_mode(&store, 0o666).unwrap();
        let text = world
            .text("agents/main/agent/auth-profiles.json")
            .replace("sk-canary", "sk-canary\\n");
        world.test.files.put(&store, text, 0o666);
        world.test.clock.advance(std::time::Duration::from_secs(600));
        world
    };
    let canaries = [
        "aside-canary",
        "temporary-canary",
        "record-canary",
        "refresh-alice-canary",
        "refresh-bob-canary",
        "sk-canary",
    ];
    let mend = |host: Host, repairs: &[Repair]| {
        let doctor = Doctor::open(host).unwrap();
        for repair in repairs {
            if let Err(error) = doctor.repair(repair) {
                let text = format!("{error} {error:?}");
                assert!(!canaries.iter().any(|canary| text.contains(canary)), "{text}");
            }
        }
    };
    let assert_kept = |world: &World, faults: &Faults| {
        for canary in canaries {
            assert!(
                !world.files_with(canary).is_empty(),
                "{canary} after {}",
                faults.last()
            );
        }
    };
    let report = examine(&broken(), false);
    let repairs: Vec<Repair> = report
        .to_mend()
        .iter()
        .filter_map(|one| one.repair.clone())
        .collect();
    assert!(repairs.len() >= 8, "{report:#?}");
    for n in 1.. {
        let world = broken();
        let faults = match n % 3 {
            0 => Faults::crash_before(n),
            1 => Faults::crash_after(n),
            _ => Faults::fail_at(n, Errno::IO),
        };
        mend(world.test.host_with(&faults), &repairs);
        assert_kept(&world, &faults);
        // The same again by another process, some time later.
        let later = world.test.other_process(5000);
        later.clock.advance(std::time::Duration::from_secs(600));
        mend(later.host(), &repairs);
        assert_kept(&world, &faults);
        let is_over = !faults.fired();
        if n % 16 == 0 || is_over {
            // What a crash left behind is itself found and mended.
            for _ in 0..2 {
                let repairs = examine(&world, false);
                let repairs: Vec<Repair> = repairs
                    .findings
                    .into_iter()
                    .filter_map(|one| one.repair)
                    .collect();
                mend(later.host(), &repairs);
            }
            assert_eq!(ids(&examine(&world, false)), [""; 0], "after {}", faults.last());
            assert_kept(&world, &faults);
        }
        if is_over {
            assert!(n > 100, "{n} calls");
            break;
        }
    }
}
