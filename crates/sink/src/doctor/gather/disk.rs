//! The disks under the state directory and the agents' folders: what they are by the system's word, and whether locks,
//! links, renames and fsync work, by trying them on a file of our own that goes again.

use std::io;
use std::path::{Path, PathBuf};

use tokensink_host::{Files, OpenMode};
use tokensink_store::real_path;

use super::Looking;
use crate::doctor::facts::{DiskFacts, Facts};
use crate::doctor::{DiskOutcome, DiskPowers, DiskTrial};

/// Folders that programs keep equal on several machines, as parts of a path, with the program.
const SYNCED: [(&str, &str); 9] = [
    ("dropbox", "Dropbox"),
    ("onedrive", "OneDrive"),
    ("google drive", "Google Drive"),
    ("googledrive", "Google Drive"),
    ("mobile documents", "iCloud Drive"),
    ("icloud drive", "iCloud Drive"),
    ("nextcloud", "Nextcloud"),
    ("syncthing", "Syncthing"),
    ("pclouddrive", "pCloud"),
];

pub(super) fn look(looking: &Looking<'_>, facts: &mut Facts) {
    let state = looking.paths.state_dir();
    let real_state = real_path(&*looking.doctor.host.files, state).unwrap_or_else(|_| state.to_owned());
    let mut dirs = vec![state];
    for agent in &facts.agents {
        if !agent.real_dir.starts_with(&real_state) && !dirs.contains(&agent.real_dir.as_path()) {
            dirs.push(&agent.real_dir);
        }
    }
    let disks = dirs.into_iter().filter_map(|dir| disk(looking, dir)).collect();
    facts.disks = disks;
}

/// The disk of `dir`; `None` where not even a folder above it exists.
fn disk(looking: &Looking<'_>, dir: &Path) -> Option<DiskFacts> {
    let files = &*looking.doctor.host.files;
    let real = real_path(files, dir).unwrap_or_else(|_| dir.to_owned());
    let there = existing(files, &real)?;
    let file_system = files
        .read(Path::new("/proc/mounts"))
        .ok()
        .and_then(|mounts| file_system(&String::from_utf8_lossy(&mounts), &real));
    let outcome = if there != real {
        DiskOutcome::NotTried("it does not exist yet")
    } else if looking.doctor.readonly {
        DiskOutcome::NotTried("OPENCLAW_AUTH_STORE_READONLY is set")
    } else {
        try_out(looking, &real)
    };
    Some(DiskFacts {
        synced_by: synced_by(&real).or_else(|| synced_by(dir)),
        free_bytes: files.free_space(&there).ok().flatten(),
        trial: DiskTrial {
            dir: dir.to_owned(),
            file_system,
            outcome,
        },
    })
}

/// The nearest folder of `path` that exists.
fn existing(files: &dyn Files, path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|dir| matches!(files.stat(dir), Ok(Some(_))))
        .map(Path::to_owned)
}

fn synced_by(path: &Path) -> Option<String> {
    path.components().find_map(|part| {
        let part = part.as_os_str().to_string_lossy().to_lowercase();
        let (_, name) = SYNCED.iter().find(|(mark, _)| part.contains(mark))?;
        Some((*name).to_owned())
    })
}

/// The type of the file system of `path`. A later mount hides an earlier one.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // Blanks in a mount point are written in octal (fstab(5)).
        let point = point.replace("\\040", " ");
        let depth = Path::new(&point).components().count();
        if path.starts_with(&point) && best.is_none_or(|(known, _)| depth >= known) {
            best = Some((depth, kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// Does what a refresh does, on a file that nobody else knows.
fn try_out(looking: &Looking<'_>, dir: &Path) -> DiskOutcome {
    let host = &looking.doctor.host;
    let files = &*host.files;
    let mut number = [0; 8];
    if host.random.fill(&mut number).is_err() {
        return DiskOutcome::NotTried("the system gives no random numbers");
    }
    let name = format!(".doctor.{:016x}.tmp", u64::from_le_bytes(number));
    let probe = dir.join(&name);
    let link = dir.join(format!("{name}.link"));
    let moved = dir.join(format!("{name}.moved"));
    let written = files
        .create_new(&probe, 0o600)
        .and_then(|mut handle| handle.write_at(0, b"tokensink doctor\n").map(|()| handle.sync()));
    let outcome = match written {
        Ok(synced) => DiskOutcome::Tried(DiskPowers {
            fsync: in_words(synced),
            locks: in_words(locks_exclude(files, &probe)),
            hard_links: in_words(files.hard_link(&probe, &link)),
            renames: in_words(files.rename(&probe, &moved).and_then(|()| files.sync_dir(dir))),
        }),
        Err(error) => DiskOutcome::NotWritable(error.to_string()),
    };
    for path in [&probe, &link, &moved] {
        // Most of them are not there.
        let _ = files.remove(path);
    }
    outcome
}

fn in_words(result: io::Result<()>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

/// The lock of one open file must keep out another.
fn locks_exclude(files: &dyn Files, probe: &Path) -> io::Result<()> {
    let mut first = files.open(probe, OpenMode::ReadWrite)?;
    let mut second = files.open(probe, OpenMode::ReadWrite)?;
    if !first.try_lock()? {
        return Err(io::Error::other("a lock that nobody holds is not given"));
    }
    if second.try_lock()? {
        return Err(io::Error::other("the same lock was given twice"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_counts_is_the_deepest_and_latest() {
        let mounts = "/dev/a / ext4 rw 0 0\nhost:/h /home nfs4 rw 0 0\n/dev/b /home/u/local xfs rw 0 0\n\
                      h:/x /mnt/a\\040b fuse.sshfs rw 0 0\nbad line\nx /srv nfs rw 0 0\ny /srv ext4 rw 0 0\n";
        let cases = [
            ("/var/s", "ext4"),
            ("/home/u/.openclaw", "nfs4"),
            ("/home/u/local/s", "xfs"),
            ("/homes/s", "ext4"),
            ("/mnt/a b/s", "fuse.sshfs"),
            ("/srv/s", "ext4"),
        ];
        for (path, want) in cases {
            let found = file_system(mounts, Path::new(path));
            assert_eq!(found.as_deref(), Some(want), "{path}");
        }
    }

    #[test]
    fn synced_folders_are_known_by_name() {
        let cases = [
            ("/home/u/Dropbox/openclaw", Some("Dropbox")),
            ("/home/u/Library/Mobile Documents/x", Some("iCloud Drive")),
            ("/home/u/OneDrive - Company/x", Some("OneDrive")),
            ("/home/u/.openclaw", None),
        ];
        for (path, want) in cases {
            assert_eq!(synced_by(Path::new(path)).as_deref(), want, "{path}");
        }
    }
}
