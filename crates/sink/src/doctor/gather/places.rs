//! Files and folders that hold logins: their modes, owners and links, and what dead writers left among them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokensink_types::UnixMillis;
use zeroize::Zeroizing;

use super::Looking;
use crate::doctor::facts::{Broken, BrokenKind, Facts, Litter, Place};

/// What a set-aside file has in its name.
pub(super) const SET_ASIDE: &str = ".unreadable-";
/// Files of which OpenClaw makes temporary ones.
const REPLACED: [&str; 5] = [
    "auth-profiles.json",
    "auth-state.json",
    "auth.json",
    "oauth.json",
    "openclaw.json",
];

pub(super) fn look(looking: &Looking<'_>, facts: &mut Facts) {
    let files = &*looking.doctor.host.files;
    let state = files.stat(looking.paths.state_dir()).ok().flatten();
    facts.state_owner = state.map(|stamp| stamp.uid);
    own_state(looking, facts);
    let (dirs, mut files) = layout(looking, facts);
    for dir in &dirs {
        litter(looking, dir, facts);
    }
    files.extend(facts.litter.iter().map(|one| one.path.clone()));
    for path in dirs.iter().chain(&files) {
        place(looking, path, facts);
    }
}

/// Our own records that are JSON: each must parse.
fn own_state(looking: &Looking<'_>, facts: &mut Facts) {
    let files = &*looking.doctor.host.files;
    let dir = looking.paths.own_state_dir();
    for name in files.list(&dir).unwrap_or_default() {
        let path = dir.join(name);
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Ok(bytes) = files.read(&path).map(Zeroizing::new) else {
            continue;
        };
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
            // The parser's words name kinds of tokens and a place, never the text.
            facts.broken.push(Broken {
                why: format!("{} does not parse: {error}", path.display()),
                path,
                kind: BrokenKind::OwnState,
                fix: None,
            });
        }
    }
}

/// The folders and files that may hold logins, whether they exist or not.
fn layout(looking: &Looking<'_>, facts: &Facts) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let paths = &looking.paths;
    let mut dirs: BTreeSet<PathBuf> = [
        paths.state_dir().to_owned(),
        paths.own_dir(),
        paths.journal_dir(),
        paths.own_state_dir(),
    ]
    .into();
    let oauth_file = paths.oauth_file();
    dirs.extend(oauth_file.parent().map(Path::to_owned));
    let mut files: BTreeSet<PathBuf> = [
        paths.config_file().to_owned(),
        oauth_file,
        paths.env_file(),
        paths.settings_file(),
        paths.audit_file(),
    ]
    .into();
    for agent in &facts.agents {
        dirs.insert(agent.dir.clone());
        files.insert(paths.profiles_file(&agent.id));
        files.insert(paths.state_file(&agent.id));
        files.insert(paths.legacy_auth_file(&agent.id));
    }
    let files_port = &*looking.doctor.host.files;
    let agents = paths.state_dir().join("agents");
    for name in files_port.list(&agents).unwrap_or_default() {
        // Also of agents that a link to nowhere keeps from being seen.
        dirs.insert(agents.join(name).join("agent"));
    }
    let journal = paths.journal_dir();
    let records = files_port.list(&journal).unwrap_or_default();
    files.extend(records.into_iter().map(|name| journal.join(name)));
    (dirs, files)
}

fn place(looking: &Looking<'_>, path: &Path, facts: &mut Facts) {
    let files = &*looking.doctor.host.files;
    let seen = files.stat(path).and_then(|stamp| match stamp {
        Some(stamp) => Ok((Some(stamp), None)),
        None => files.link_target(path).map(|target| (None, target)),
    });
    match seen {
        Ok((Some(stamp), _)) => facts.places.push(Place {
            path: path.to_owned(),
            is_dir: stamp.is_dir,
            mode: stamp.mode,
            owner: stamp.uid,
        }),
        Ok((None, Some(target))) => facts.dangling.push((path.to_owned(), target)),
        Ok((None, None)) => {}
        Err(error) => facts.broken.push(Broken {
            path: path.to_owned(),
            kind: BrokenKind::Unreadable,
            why: format!("{} cannot be looked at: {error}", path.display()),
            fix: None,
        }),
    }
}

/// What writers that died left in `dir`, and what was set aside there.
fn litter(looking: &Looking<'_>, dir: &Path, facts: &mut Facts) {
    let files = &*looking.doctor.host.files;
    for name in files.list(dir).unwrap_or_default() {
        let path = dir.join(&name);
        let Ok(Some(stamp)) = files.stat(&path) else {
            continue;
        };
        let modified = i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(i64::MAX);
        let age: Duration = UnixMillis(modified).until(facts.now);
        let is_aside = name.to_string_lossy().contains(SET_ASIDE);
        let of = temporary_of(&name).map(|base| dir.join(base));
        if !stamp.is_dir && (is_aside || of.is_some()) {
            facts.litter.push(Litter { path, of, age });
        }
    }
}

/// The file that a temporary file was to become. Ours are `.<name>.<16 hex>.tmp`; those of locks
/// `<name>.lock.<16 hex>.tmp`; OpenClaw's end in `.tmp` behind the name and random parts.
fn temporary_of(name: &OsStr) -> Option<String> {
    let name = name.to_str()?.strip_suffix(".tmp")?;
    let bare = name.strip_prefix('.').unwrap_or(name);
    if let Some((base, random)) = bare.rsplit_once('.')
        && random.len() == 16
        && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Some(base.to_owned());
    }
    let known = REPLACED.iter().find(|known| bare.starts_with(**known))?;
    Some((*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_are_known_by_their_names() {
        let cases = [
            (
                ".auth-profiles.json.0123456789abcdef.tmp",
                Some("auth-profiles.json"),
            ),
            (
                "auth-profiles.json.lock.0123456789abcdef.tmp",
                Some("auth-profiles.json.lock"),
            ),
            ("openclaw.json.4711.9c1f.tmp", Some("openclaw.json")),
            ("notes.tmp", None),
            ("auth-profiles.json", None),
            ("auth-profiles.json.bak", None),
        ];
        for (name, want) in cases {
            assert_eq!(temporary_of(OsStr::new(name)).as_deref(), want, "{name}");
        }
    }
}
