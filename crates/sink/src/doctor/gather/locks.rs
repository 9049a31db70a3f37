//! Locks: OpenClaw's `.lock` files of every kind, and the lock folders of Claude Code (clients.md 3.4).

use std::collections::BTreeSet;
use std::path::PathBuf;

use tokensink_neighbours::{Keychain, Neighbour, places};
use tokensink_store::{LockPlace, LockState, lock_state, real_path};
use tokensink_types::UnixMillis;

use super::Looking;
use crate::doctor::facts::{CliLock, Facts};

pub(super) fn look(looking: &Looking<'_>, facts: &mut Facts) {
    let host = &looking.doctor.host;
    let paths = &looking.paths;
    let mut files: Vec<PathBuf> = vec![paths.config_file().to_owned(), paths.oauth_file()];
    for agent in &facts.agents {
        files.push(paths.profiles_file(&agent.id));
        files.push(paths.state_file(&agent.id));
    }
    let mut found: Vec<LockPlace> = files
        .iter()
        .filter_map(|file| LockPlace::of_file(host, paths, file).ok())
        .collect();
    let refresh = paths.state_dir().join("locks").join("oauth-refresh");
    for name in host.files.list(&refresh).unwrap_or_default() {
        if let Some(kernel) = name.to_str().and_then(|name| name.strip_suffix(".lock")) {
            found.push(LockPlace::of_refresh(&refresh.join(kernel)));
        }
    }
    for place in found {
        // A lock that cannot be looked at is in a folder that cannot, which is a finding of its own.
        match lock_state(host, &place) {
            Ok(LockState::Free | LockState::Held { .. }) | Err(_) => {}
            Ok(state) => facts.locks.push((place, state)),
        }
    }
    for path in claude_locks(looking) {
        let Ok(Some(stamp)) = host.files.stat(&path) else {
            continue;
        };
        if stamp.is_dir {
            let modified = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(i64::MAX);
            facts.cli_locks.push(CliLock {
                age: UnixMillis(modified).until(facts.now),
                empty: host.files.list(&path).is_ok_and(|names| names.is_empty()),
                path,
            });
        }
    }
}

/// The three lock folders of Claude Code: in its own folder, beside it, and the one around its writes.
fn claude_locks(looking: &Looking<'_>) -> BTreeSet<PathBuf> {
    let host = &looking.doctor.host;
    let mut locks = BTreeSet::new();
    for place in places(host, Neighbour::ClaudeCode, Keychain::Absent) {
        let Some(dir) = place.home() else { continue };
        locks.insert(dir.join(".oauth_refresh.lock"));
        locks.insert(dir.join(".storage-write.lock"));
        if let Ok(real) = real_path(&*host.files, dir)
            && let Some(name) = real.file_name()
        {
            let mut name = name.to_owned();
            name.push(".lock");
            locks.insert(real.with_file_name(name));
        }
    }
    locks
}
