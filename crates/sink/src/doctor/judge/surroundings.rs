//! What is wrong around the home: the environment, the clock, the disk and the network.

use std::collections::BTreeMap;
use std::time::Duration;

use tokensink_types::{BillingClass, ProviderId};

use super::word;
use crate::doctor::check;
use crate::doctor::facts::{DiskFacts, Facts};
use crate::doctor::{DiskOutcome, Finding};

/// Less than this, and a new store or record may not fit, in bytes.
const SPACE_MIN: u64 = 16 * 1024 * 1024;
/// A record's time may be this much ahead of the clock: another process wrote it a moment ago.
const AHEAD_MAX: Duration = Duration::from_secs(120);
/// A clock that is off by more is told of, in milliseconds. A token's life is known to the second, and the server's
/// own Date may be some seconds old.
const OFFSET_MAX_MS: u64 = 60_000;
/// A provider's key is also one for these subscriptions of the same company.
const SAME_COMPANY: [(&str, &str); 3] = [
    ("openai", "openai-codex"),
    ("google", "google-gemini-cli"),
    ("google", "google-antigravity"),
];

/// File systems whose locks may end at this machine, as `/proc/mounts` names them.
const NETWORK: [&str; 17] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "lustre",
    "gpfs",
    "9p",
    "vboxsf",
    "fuse.sshfs",
    "fuse.rclone",
    "fuse.glusterfs",
    "fuse.davfs2",
    "davfs",
];

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    environment(facts, findings);
    clock(facts, findings);
    for one in &facts.disks {
        disk(one, findings);
    }
    network(facts, findings);
}

fn environment(facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.readonly {
        let what = "OPENCLAW_AUTH_STORE_READONLY is set".to_owned();
        let fix = "unset OPENCLAW_AUTH_STORE_READONLY";
        findings.push(Finding::by_hand(&check::READ_ONLY, None, what, fix));
    }
    for (variable, why) in &facts.proxies {
        let what = format!("{variable} {why}");
        let fix = format!("export {variable}=http://[user:password@]host:port, or unset it");
        findings.push(Finding::by_hand(&check::BAD_PROXY, None, what, fix));
    }
    for (setting, why) in &facts.certificates {
        let what = format!("{setting}: {why}");
        let fix = format!("correct or remove {setting}");
        findings.push(Finding::by_hand(&check::CA_FILE, None, what, fix));
    }
    let mut told: BTreeMap<&str, ()> = BTreeMap::new();
    for key in &facts.env_keys {
        let shadows = |provider: &ProviderId| {
            let pair = (key.provider.as_str(), provider.as_str());
            *provider == key.provider || SAME_COMPANY.contains(&pair)
        };
        let shadowed = facts
            .profiles()
            .find(|(_, profile)| profile.billing == BillingClass::Subscription && shadows(&profile.provider));
        let Some((agent, profile)) = shadowed else {
            continue;
        };
        if told.insert(&key.name, ()).is_none() {
            let what = format!("{} is set beside {} of agent {}", key.name, profile.id, agent.id);
            let fix = format!("unset {}", key.name);
            findings.push(Finding::by_hand(&check::ENV_KEY_SHADOWS, None, what, fix));
        }
    }
}

fn clock(facts: &Facts, findings: &mut Vec<Finding>) {
    let newest = facts
        .records
        .iter()
        .filter_map(|record| Some((record.issued_at?, record)))
        .max_by_key(|(at, _)| *at);
    if let Some((at, record)) = newest
        && at > facts.now.plus(AHEAD_MAX)
    {
        let behind = facts.now.until(at).as_secs();
        let what = format!(
            "the clock is {behind} s behind the last refresh of {}",
            record.profile
        );
        let fix = "set the clock (timedatectl set-ntp true), then compare: date -u";
        findings.push(Finding::by_hand(&check::CLOCK_BEHIND, None, what, fix));
    }
}

fn disk(disk: &DiskFacts, findings: &mut Vec<Finding>) {
    let dir = &disk.trial.dir;
    let shown = dir.display();
    let local = "put the state directory on a local disk, and set OPENCLAW_STATE_DIR=/path/to/it";
    let mut add = |kind, what: String, fix: String| {
        findings.push(Finding::by_hand(kind, Some(dir), what, fix));
    };
    let unwritable = match &disk.trial.outcome {
        DiskOutcome::NotWritable(why) => Some(why.clone()),
        DiskOutcome::Tried(powers) => powers.renames.clone().err(),
        DiskOutcome::NotTried(_) => None,
    };
    if let Some(why) = unwritable {
        let what = format!("{shown} cannot be written: {why}");
        let fix = format!("ls -ld {0}; df -h {0}", word(dir));
        add(&check::STATE_DIR_NOT_WRITABLE, what, fix);
    }
    if let DiskOutcome::Tried(powers) = &disk.trial.outcome {
        let tried = [
            (&check::NO_FILE_LOCKS, &powers.locks, "locks do not work"),
            (
                &check::NO_HARD_LINKS,
                &powers.hard_links,
                "files cannot be linked",
            ),
            (&check::NO_FSYNC, &powers.fsync, "data cannot be made durable"),
        ];
        for (kind, outcome, words) in tried {
            if let Err(why) = outcome {
                add(kind, format!("{words} in {shown}: {why}"), local.to_owned());
            }
        }
    }
    let file_system = disk.trial.file_system.as_deref();
    if let Some(kind) = file_system.filter(|kind| NETWORK.contains(kind)) {
        let fix = format!("{local}; or use this one from one machine only");
        add(&check::NETWORK_FILE_SYSTEM, format!("{shown} is on {kind}"), fix);
    }
    if let Some(program) = &disk.synced_by {
        let what = format!("{shown} is in a folder of {program}");
        add(&check::SYNCED_FOLDER, what, local.to_owned());
    }
    if let Some(free) = disk.free_bytes.filter(|free| *free < SPACE_MIN) {
        let what = format!("{} KiB are free at {shown}", free / 1024);
        add(
            &check::LOW_DISK_SPACE,
            what,
            format!("free some space: df -h {}", word(dir)),
        );
    }
}

fn network(facts: &Facts, findings: &mut Vec<Finding>) {
    for one in &facts.network {
        if let Err((why, hint)) = &one.outcome {
            let what = format!("{} of {} cannot be reached: {why}", one.origin, one.provider);
            let fix = hint.clone().unwrap_or_else(|| format!("curl -sv {}", one.origin));
            findings.push(Finding::by_hand(&check::ENDPOINT_UNREACHABLE, None, what, fix));
        }
    }
    let off = facts
        .network
        .iter()
        .filter_map(|one| Some((one.clock_offset_ms?, &one.origin)))
        .filter(|(offset, _)| offset.unsigned_abs() > OFFSET_MAX_MS)
        .min_by_key(|(offset, _)| offset.unsigned_abs());
    if let Some((offset, origin)) = off {
        let direction = if offset > 0 { "behind" } else { "ahead of" };
        let what = format!(
            "this machine's clock is {} s {direction} that of {origin}",
            offset.unsigned_abs() / 1000
        );
        let fix = "set the clock (timedatectl set-ntp true), then compare: date -u";
        findings.push(Finding::by_hand(&check::CLOCK_OFFSET, None, what, fix));
    }
}
