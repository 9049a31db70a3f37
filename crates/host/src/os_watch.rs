//! Being told of changes in directories, by the system's own means (inotify, `FSEvents`).
//!
//! Directories are watched and not files, because a file that is replaced is another file. What the system does not
//! tell (file systems of other machines, a full queue) is not known here: whoever needs certainty looks at stamps as
//! well.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::DirWatch;

/// The system's watcher.
#[derive(Debug)]
pub(crate) struct OsDirWatch {
    watcher: RecommendedWatcher,
    dirs: BTreeSet<PathBuf>,
}

impl OsDirWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the system gives no watcher.
    pub(crate) fn start(on_change: Box<dyn Fn() + Send>) -> io::Result<Self> {
        let heard = move |event: notify::Result<Event>| {
            // An error is a queue that ran over: something did change.
            if event.map_or(true, |event| is_change(event.kind)) {
                on_change();
            }
        };
        let watcher = RecommendedWatcher::new(heard, Config::default()).map_err(io::Error::other)?;
        Ok(Self {
            watcher,
            dirs: BTreeSet::new(),
        })
    }

    fn begin(&mut self, dir: &Path) -> bool {
        self.watcher.watch(dir, RecursiveMode::NonRecursive).is_ok()
    }
}

/// Reading a file changes nothing; we do it ourselves all the time.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(_))
}

impl DirWatch for OsDirWatch {
    fn set(&mut self, dirs: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let gone: Vec<PathBuf> = self.dirs.difference(dirs).cloned().collect();
        for dir in gone {
            // One that was removed is no longer watched anyway.
            let _ = self.watcher.unwatch(&dir);
            self.dirs.remove(&dir);
        }
        let mut left = Vec::new();
        for dir in dirs {
            if self.dirs.contains(dir) {
                continue;
            }
            if self.begin(dir) {
                self.dirs.insert(dir.clone());
            } else {
                left.push(dir.clone());
            }
        }
        left
    }
}
