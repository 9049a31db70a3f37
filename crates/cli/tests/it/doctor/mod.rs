//! `doctor`: each fault of a data file is planted into a healthy home of its own, found by its id and nothing else,
//! mended where that is safe, and gone then.

mod plant;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokensink_sink::doctor::{CHECKS, Mend};

use self::plant::{Fault, Home};
use crate::support::snapshot::Snapshot;
use crate::world::World;

const FAULTS: &str = include_str!("faults.toml");
const PAGE: &str = include_str!("../../../../../docs/doctor.md");

/// Checks whose fault needs a disk or a server that no test can have here; the library's tests plant them in memory.
const ELSEWHERE: [&str; 7] = [
    "state-dir-not-writable",
    "no-file-locks",
    "no-hard-links",
    "no-fsync",
    "network-file-system",
    "low-disk-space",
    "clock-offset",
];

fn faults() -> Vec<Fault> {
    plant::parse(FAULTS)
}

/// The ids that a report names.
fn ids(report: &Value) -> BTreeSet<String> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|finding| finding["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Nothing but the word on the disk, and the last line.
fn is_well(said: &str) -> bool {
    let paragraphs: Vec<&str> = said.split("\n\n").collect();
    matches!(paragraphs[..], [disk, "Nothing is wrong.\n"] if disk.starts_with("Disk: "))
}

#[test]
fn a_healthy_home_has_nothing() {
    let home = Home::new();
    let before = Snapshot::of(&home.stage.world.state(""));
    let said = home.doctor(&Fault::none(), "").code(0);
    assert!(is_well(&said.out), "{said:#?}");
    let works = format!(
        "Disk: locks, links, renames and fsync work in {}",
        home.stage.world.state("").display()
    );
    let said_in_one = said.out.replace('\n', " ");
    assert!(said_in_one.starts_with(works.trim_end_matches('/')), "{said:#?}");
    let report = home.doctor(&Fault::none(), "--json --net").code(0).json();
    for power in ["tried", "locks", "hardLinks", "renames", "fsync"] {
        assert_eq!(report["disks"][0][power], true, "{report:#}");
    }
    assert_eq!(ids(&report), BTreeSet::new(), "{report:#}");
    assert_eq!(report["network"][0]["reached"], true, "{report:#}");
    let said = home.doctor(&Fault::none(), "--fix --yes").code(0);
    assert!(is_well(&said.out), "{said:#?}");
    let said = home.doctor(&Fault::none(), "--duplicates").code(0);
    assert_eq!(said.out, "No grant stands in more than one place.\n", "{said:#?}");
    assert_eq!(
        Snapshot::of(&home.stage.world.state("")),
        before,
        "looking changes nothing"
    );
    // A home in which nothing was ever done.
    let said = World::new().run("tokensink doctor").code(0);
    assert!(is_well(&said.out), "{said:#?}");
    assert!(
        said.out.contains("was not tried: it does not exist yet"),
        "{said:#?}"
    );
}

#[test]
fn every_planted_fault_is_found_and_mended() {
    let faults = faults();
    assert!(faults.len() >= 20);
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let may_run = !fault.root || rustix::process::geteuid().is_root();
                    if may_run && std::panic::catch_unwind(|| check(fault)).is_err() {
                        failed.lock().unwrap().push(fault.name());
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner().unwrap(), [""; 0]);
}

fn check(fault: &Fault) {
    let name = &fault.name();
    let mut home = Home::new();
    home.plant(fault);
    let secrets = home.secrets();
    let hold_tongue = |said: &crate::world::Said| {
        for secret in &secrets {
            let shown = said.out.contains(secret.as_str()) || said.err.contains(secret.as_str());
            assert!(!shown, "{name}: a secret in {said:#?}");
        }
    };
    let wanted: BTreeSet<String> = [fault.id.clone()].into();
    let said = home.doctor(fault, "--json");
    hold_tongue(&said);
    let report = said.json();
    assert_eq!(ids(&report), wanted, "{name}: {report:#}");
    let check = CHECKS.iter().find(|check| check.id == fault.id).unwrap();
    let counts = check.severity != tokensink_sink::doctor::Severity::Note;
    assert_eq!(said.code, i32::from(counts), "{name}: {said:#?}");
    for finding in report["findings"].as_array().unwrap() {
        assert_eq!(finding["mend"], fault.fix.as_str(), "{name}: {finding:#}");
        for field in ["what", "why", "fix"] {
            assert!(
                finding[field].as_str().is_some_and(|text| text.len() > 3),
                "{name}: {finding:#}"
            );
        }
    }
    let said = home.doctor(fault, "");
    hold_tongue(&said);
    assert!(
        said.out.contains(&format!("  {}\n    ", fault.id)) && said.out.contains("    fix: "),
        "{said:#?}"
    );
    let before = Snapshot::of(&home.stage.world.path(""));
    let fixed = home.doctor(fault, "--fix");
    hold_tongue(&fixed);
    let fixed = if fault.fix == "asked" {
        // Without a terminal nobody can be asked.
        assert_eq!(
            Snapshot::of(&home.stage.world.path("")),
            before,
            "{name}: {fixed:#?}"
        );
        home.doctor(fault, "--fix --yes")
    } else {
        fixed
    };
    hold_tongue(&fixed);
    if fault.fix == "by-hand" {
        assert_eq!(
            Snapshot::of(&home.stage.world.path("")),
            before,
            "{name}: {fixed:#?}"
        );
        assert_eq!(ids(&home.doctor(fault, "--json").json()), wanted, "{name}");
        return;
    }
    assert_eq!(fixed.code, 0, "{name}: {fixed:#?}");
    assert!(fixed.out.contains("fixed: "), "{name}: {fixed:#?}");
    let report = home.doctor(fault, "--json").code(0).json();
    assert_eq!(ids(&report), BTreeSet::new(), "{name}: {report:#}");
    home.assert_nothing_lost(name);
}

#[test]
fn on_a_terminal_it_asks_before_it_sets_a_store_aside() {
    let home = Home::new();
    let store = home.stage.world.state("agents/main/agent/auth-profiles.json");
    std::fs::write(&store, "{ torn").unwrap();
    let question = "Set it aside, and put back what the refresh records know?";
    // Both the key that leaves and a plain Enter mean no.
    for answer in ["\u{1b}", "\r"] {
        let said = home
            .stage
            .world
            .on_terminal("tokensink doctor --fix", &[(question, answer)])
            .code(1);
        assert!(said.out.contains("store-unreadable"), "{said:#?}");
        assert_eq!(said.out.matches("fixed:").count(), 0, "{said:#?}");
        assert_eq!(std::fs::read_to_string(&store).unwrap(), "{ torn");
    }
    let said = home
        .stage
        .world
        .on_terminal("tokensink doctor --fix", &[(question, "y\r")])
        .code(0);
    assert!(said.out.contains("Nothing is wrong."), "{said:#?}");
    let kept = home.stage.world.files();
    assert_eq!(kept.iter().filter(|(_, text)| text == "{ torn").count(), 1);
}

#[test]
fn the_faults_and_the_page_know_every_check() {
    let planted: BTreeSet<String> = faults().into_iter().map(|fault| fault.id).collect();
    for check in CHECKS {
        let elsewhere = ELSEWHERE.contains(&check.id);
        assert!(
            planted.contains(check.id) != elsewhere,
            "{check} is planted nowhere, or twice"
        );
        let mend = match check.mend {
            Mend::Safe => "yes",
            Mend::Asked => "asks",
            Mend::ByHand => "no",
        };
        let row = format!(
            "| `{}` | {} | {mend} | {}: {} |",
            check.id,
            check.severity.as_str(),
            check.what,
            check.why
        );
        assert!(PAGE.contains(&row), "docs/doctor.md lacks the row\n{row}");
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(
        rows,
        CHECKS.len(),
        "docs/doctor.md has rows of checks that are gone"
    );
}
