//! What a directory holds at one moment, so that two moments can be compared.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Every entry below a directory.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, Entry>);

/// One entry. Whatever a write changes changes one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Permission bits.
    pub(crate) mode: u32,
    /// Whether it is a directory.
    pub(crate) dir: bool,
    /// Where a symbolic link leads.
    link: Option<PathBuf>,
    inode: u64,
    /// Of a file, in nanoseconds; a directory's changes with its entries, which are here themselves.
    modified: Option<i128>,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Everything below `dir`, symbolic links not followed.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut entries = BTreeMap::new();
        collect(dir, dir, &mut entries);
        Self(entries)
    }

    /// Its entries by path, relative to the directory.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// Only what stands below `prefix`.
    pub(crate) fn below(&self, prefix: &str) -> Self {
        let chosen = self.0.iter().filter(|(path, _)| path.starts_with(prefix));
        Self(
            chosen
                .map(|(path, entry)| (path.clone(), entry.clone()))
                .collect(),
        )
    }

    /// The contents alone, for the question whether anything was lost.
    pub(crate) fn contents(&self) -> BTreeMap<&Path, &[u8]> {
        let files = self.0.iter().filter(|(_, entry)| !entry.dir);
        files
            .map(|(path, entry)| (path.as_path(), entry.bytes.as_slice()))
            .collect()
    }
}

/// Names and sizes: contents may be secrets, and are long.
impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|(path, entry)| {
            let Entry {
                mode,
                inode,
                modified,
                ..
            } = entry;
            format!(
                "{} {mode:o} {} bytes, inode {inode}, modified {modified:?}",
                path.display(),
                entry.bytes.len()
            )
        });
        f.debug_list().entries(lines).finish()
    }
}

fn collect(root: &Path, dir: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    let Ok(read) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in read {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let is_dir = metadata.is_dir();
        let found = Entry {
            mode: metadata.permissions().mode() & 0o7777,
            dir: is_dir,
            link: std::fs::read_link(&path).ok(),
            inode: metadata.ino(),
            modified: (!is_dir).then_some(modified),
            bytes: if metadata.is_file() {
                std::fs::read(&path).unwrap()
            } else {
                Vec::new()
            },
        };
        entries.insert(path.strip_prefix(root).unwrap().to_owned(), found);
        if is_dir {
            collect(root, &path, entries);
        }
    }
}
