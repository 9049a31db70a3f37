//! What is wrong with files, folders and locks.

use std::path::Path;
use std::time::Duration;

use tokensink_store::LockState;

use super::word;
use crate::doctor::Finding;
use crate::doctor::check;
use crate::doctor::facts::{Broken, BrokenKind, Facts, Place};
use crate::doctor::repair::Repair;

/// A temporary file that is younger may still be being written.
const TEMPORARY_AGE: Duration = Duration::from_secs(5 * 60);
/// Claude Code touches its locks every 5 s and takes them for abandoned after 60 s (clients.md 3.4).
pub(in crate::doctor) const CLI_LOCK_AGE: Duration = Duration::from_secs(60);

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    owners(facts, findings);
    for place in &facts.places {
        modes(facts, place, findings);
    }
    for (path, target) in &facts.dangling {
        let what = format!(
            "{} leads to {}, which is not there",
            path.display(),
            target.display()
        );
        let fix = format!(
            "mount or restore what it leads to; if that is gone for good: rm {}",
            word(path)
        );
        findings.push(Finding::by_hand(&check::DANGLING_LINK, Some(path), what, fix));
    }
    findings.extend(facts.broken.iter().map(broken));
    for problem in &facts.provider_problems {
        let what = problem.to_string();
        let fix = format!("tokensink providers check {}", word(&problem.path));
        findings.push(Finding::by_hand(
            &check::PROVIDER_FILE_INVALID,
            Some(&problem.path),
            what,
            fix,
        ));
    }
    litter(facts, findings);
    locks(facts, findings);
}

/// Who should own the files: the user who acts; under sudo, the owner of the state directory.
fn owners(facts: &Facts, findings: &mut Vec<Finding>) {
    let (Some(user), Some(state_owner)) = (facts.user, facts.state_owner) else {
        return;
    };
    let wanted = if user == 0 { state_owner } else { user };
    if user == 0 && state_owner != 0 {
        let what = format!("{} belongs to user {state_owner}", facts.state_dir.display());
        let fix = "run tokensink doctor as that user, without sudo";
        findings.push(Finding::by_hand(
            &check::RUN_AS_ROOT,
            Some(&facts.state_dir),
            what,
            fix,
        ));
    }
    for place in facts.places.iter().filter(|place| place.owner != wanted) {
        let what = format!(
            "{} belongs to user {}, not {wanted}",
            place.path.display(),
            place.owner
        );
        let deep = if place.is_dir { "-R " } else { "" };
        let fix = format!("sudo chown {deep}{wanted} {}", word(&place.path));
        findings.push(Finding::by_hand(
            &check::FOREIGN_OWNER,
            Some(&place.path),
            what,
            fix,
        ));
    }
}

fn modes(facts: &Facts, place: &Place, findings: &mut Vec<Finding>) {
    if place.mode & 0o077 == 0 {
        return;
    }
    let (kind, mode) = if place.is_dir {
        (&check::LOOSE_DIRECTORY, 0o700)
    } else {
        (&check::LOOSE_FILE, 0o600)
    };
    let path = &place.path;
    let what = format!("{} has mode {:04o}", path.display(), place.mode);
    let fix = format!("chmod {mode:o} {}", word(path));
    // The mode of another user's file is that user's to set.
    let ours = facts.user.is_none_or(|user| user == 0 || user == place.owner);
    findings.push(if ours {
        let path = path.clone();
        Finding::with_repair(kind, &place.path, what, fix, Repair::SetMode { path, mode })
    } else {
        Finding::by_hand(kind, Some(path), what, format!("sudo {fix}"))
    });
}

fn broken(broken: &Broken) -> Finding {
    let path = &broken.path;
    let what = broken.why.clone();
    let fix = || {
        broken
            .fix
            .clone()
            .unwrap_or_else(|| format!("ls -ld {}", word(path)))
    };
    match &broken.kind {
        BrokenKind::Unreadable => Finding::by_hand(&check::NOT_READABLE, Some(path), what, fix()),
        BrokenKind::Config => Finding::by_hand(&check::CONFIG_UNREADABLE, Some(path), what, fix()),
        BrokenKind::Settings => Finding::by_hand(&check::SETTINGS_INVALID, Some(path), what, fix()),
        BrokenKind::Store(agent) => {
            let fix = format!(
                "correct it by hand ({}), or let doctor set it aside and log in again",
                fix()
            );
            let agent = agent.clone();
            Finding::with_repair(
                &check::STORE_UNREADABLE,
                path,
                what,
                fix,
                Repair::SetStoreAside { agent },
            )
        }
        BrokenKind::State(agent) => {
            let agent = agent.clone();
            let fix = "tokensink doctor --fix sets it aside";
            Finding::with_repair(
                &check::STATE_UNREADABLE,
                path,
                what,
                fix,
                Repair::SetStateAside { agent },
            )
        }
        BrokenKind::Sessions(agent) => {
            let agent = agent.clone();
            let fix = "correct it by hand, or let doctor set it aside: tokensink doctor --yes";
            Finding::with_repair(
                &check::SESSIONS_UNREADABLE,
                path,
                what,
                fix,
                Repair::SetSessionsAside { agent },
            )
        }
        BrokenKind::OwnState => {
            let fix = "let doctor move it to tokensink/aside, then choose again, for example: tokensink external list";
            let repair = Repair::MoveAside {
                path: path.clone(),
                of: None,
            };
            Finding::with_repair(&check::OWN_STATE_UNREADABLE, path, what, fix, repair)
        }
        BrokenKind::Record => {
            let fix = "tokensink doctor --fix sets it aside; the login goes on with what its store holds";
            let record = path.clone();
            Finding::with_repair(
                &check::RECORD_UNREADABLE,
                path,
                what,
                fix,
                Repair::SetRecordAside { record },
            )
        }
    }
}

fn litter(facts: &Facts, findings: &mut Vec<Finding>) {
    for litter in &facts.litter {
        let path = &litter.path;
        let repair = Repair::MoveAside {
            path: path.clone(),
            of: litter.of.clone(),
        };
        let fix = "tokensink doctor --fix moves it to tokensink/aside";
        match &litter.of {
            Some(_) if litter.age < TEMPORARY_AGE => {}
            Some(of) => {
                let what = format!("{} was to become {}", path.display(), name(of));
                findings.push(Finding::with_repair(
                    &check::TEMPORARY_FILE,
                    path,
                    what,
                    fix,
                    repair,
                ));
            }
            None => {
                let what = format!("{} did not parse once", path.display());
                findings.push(Finding::with_repair(
                    &check::SET_ASIDE_FILE,
                    path,
                    what,
                    fix,
                    repair,
                ));
            }
        }
    }
}

fn locks(facts: &Facts, findings: &mut Vec<Finding>) {
    for (place, state) in &facts.locks {
        let path = &place.dot;
        let shown = path.display();
        let old = |age: &Duration| format!("for {} s", age.as_secs());
        let (kind, what) = match state {
            LockState::Free | LockState::Held { .. } => continue,
            LockState::Stale { age } => (
                &check::STALE_LOCK,
                format!("{shown} has had no living holder {}", old(age)),
            ),
            LockState::Torn { age: Some(age) } => (
                &check::TORN_LOCK,
                format!("{shown} has named no holder {}", old(age)),
            ),
            LockState::Torn { age: None } => {
                (&check::TORN_LOCK, format!("{shown} is a link that leads nowhere"))
            }
            LockState::Directory { age, .. } => (
                &check::LOCK_DIRECTORY,
                format!("{shown} is a folder, untouched {}", old(age)),
            ),
        };
        let is_full = matches!(state, LockState::Directory { empty: false, .. });
        let fix = if is_full {
            format!("rm -r {}", word(path))
        } else if matches!(state, LockState::Directory { .. }) {
            format!("rmdir {}", word(path))
        } else {
            format!("rm {}", word(path))
        };
        let place = place.clone();
        findings.push(Finding::with_repair(
            kind,
            path,
            what,
            fix,
            Repair::ClearLock { place },
        ));
    }
    for lock in facts.cli_locks.iter().filter(|lock| lock.age > CLI_LOCK_AGE) {
        let path = lock.path.clone();
        let what = format!(
            "{} has not been touched for {} s",
            path.display(),
            lock.age.as_secs()
        );
        findings.push(if lock.empty {
            let fix = format!("rmdir {}", word(&path));
            Finding::with_repair(
                &check::STALE_CLI_LOCK,
                &lock.path,
                what,
                fix,
                Repair::RemoveCliLock { path },
            )
        } else {
            Finding::by_hand(
                &check::STALE_CLI_LOCK,
                Some(&path),
                what,
                format!("rm -r {}", word(&path)),
            )
        });
    }
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
