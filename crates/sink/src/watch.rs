//! Seeing what others change, for processes that run for long: config, settings, provider files, stores, refresh
//! records, benches, and the logins of other programs in use.
//!
//! Two things find a change: the system's notices of changes in directories, which come at once, and a look at all
//! stamps every second, which sees what no notice tells (file systems of other machines, a full queue, a directory
//! that was replaced). Either leads to the same look, so nothing depends on what a notice says. Whatever has changed
//! moves [`Sink::generation`]; changes of settings, provider files and `openclaw.json` give a new view for
//! [`Sink::current`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokensink_host::{DirWatch, FileStamp, Files};

use crate::error::{ErrorKind, Result, SinkError};
use crate::external::Externals;
use crate::pulse::Pulse;
use crate::sink::Sink;
use crate::view::GONE_AFTER;

/// How often all stamps are looked at, notices or not: what a user notices as "at once" (issue: within a second),
/// less the time for the look.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// Least time between two looks, so that a burst of notices is one change.
const GAP: Duration = Duration::from_millis(10);
/// A look may take at most one part in this many of a processor.
const SHARE: u32 = 10;
/// After this time a change is taken to have happened once more: a file that is written twice within one step of the
/// file system's clock looks the same after both writes.
const SETTLE: Duration = Duration::from_millis(60);

/// A watch that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    sink: Sink,
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

/// Wakes the watch, and ends it.
#[derive(Debug, Default)]
struct Bell {
    rings: Pulse,
    stop: Pulse,
}

/// The count of a [`Bell::stop`] that nobody has used.
const RUNNING: u64 = 1;

impl Sink {
    /// Sees from now on what other processes change, within a second, mostly at once: see [`Sink::current`] and
    /// [`Sink::generation`]. Where the system does not tell of changes, looking every second has to do.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(&self) -> Result<Watch> {
        let bell = Arc::new(Bell::default());
        let ringing = Arc::clone(&bell);
        let notices = self.host().files.watch(Box::new(move || ringing.rings.beat()));
        let notices = notices
            .inspect_err(
                |error| tracing::info!(%error, "the system tells of no changes; files are looked at"),
            )
            .ok();
        // What was changed since this sink was opened.
        self.reload();
        let mut round = Round {
            looker: Looker::new(self.clone()),
            notices,
            told: BTreeMap::new(),
        };
        round.attend();
        let heard = Arc::clone(&bell);
        let thread = thread::Builder::new()
            .name("tokensink-watch".to_owned())
            .spawn(move || round.run(&heard))
            .map_err(|error| {
                let message = format!("no thread for watching files: {error}");
                SinkError::new(ErrorKind::Failed, "no_thread", message)
            })?;
        self.watch_begins();
        Ok(Watch {
            sink: self.clone(),
            bell,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // First of all nobody relies on it any more.
        self.sink.watch_ends();
        self.bell.stop.beat();
        self.bell.rings.beat();
        if let Some(thread) = self.thread.take() {
            // A look that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The thread's work.
#[derive(Debug)]
struct Round {
    looker: Looker,
    notices: Option<Box<dyn DirWatch>>,
    /// The directories that the system tells of, by device and inode.
    told: BTreeMap<PathBuf, (u64, u64)>,
}

impl Round {
    fn run(mut self, bell: &Bell) {
        let mut heard = 0;
        let mut wait = Duration::ZERO;
        loop {
            bell.rings.wait_past(heard, wait);
            // Whatever rings from now on may be of something that this look does not see.
            heard = bell.rings.count();
            let clock = Arc::clone(&self.looker.sink.host().clock);
            let begun = clock.monotonic();
            let again = self.looker.look();
            self.attend();
            let took = clock.monotonic().saturating_sub(begun);
            if bell
                .stop
                .wait_past(RUNNING, (took * SHARE).clamp(GAP, LOOK_EVERY))
            {
                return;
            }
            wait = if again { SETTLE } else { LOOK_EVERY };
        }
    }

    /// Has the system tell of the directories that matter now.
    fn attend(&mut self) {
        let Some(notices) = &mut self.notices else { return };
        let dirs = self.looker.dirs();
        if dirs == self.told {
            return;
        }
        // A directory that was replaced by another of the same name is no longer watched.
        let same =
            |(path, id): &(&PathBuf, &(u64, u64))| self.told.get(*path).is_none_or(|known| known == *id);
        notices.set(&dirs.iter().filter(same).map(|(path, _)| path.clone()).collect());
        let left = notices.set(&dirs.keys().cloned().collect::<BTreeSet<_>>());
        for dir in &left {
            tracing::info!(dir = %dir.display(), "the system tells of no changes here; its files are looked at");
        }
        self.told = dirs;
    }
}

/// What the files looked like at the last look.
#[derive(Debug)]
struct Looker {
    sink: Sink,
    /// Settings, provider files, `openclaw.json`.
    view: Stamps,
    /// Everything else that decides what is handed out.
    data: Stamps,
    externals: Arc<Externals>,
    /// Since when a file of `view` is gone, monotonic.
    gone: HashMap<PathBuf, Duration>,
    settling: Settling,
}

type Stamps = BTreeMap<PathBuf, FileStamp>;

/// What has just changed, and is taken to have changed once more at the next look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Settling {
    Nothing,
    Data,
    View,
}

impl Looker {
    fn new(sink: Sink) -> Self {
        let mut looker = Self {
            view: Stamps::new(),
            data: Stamps::new(),
            externals: sink.externals(),
            gone: HashMap::new(),
            settling: Settling::Nothing,
            sink,
        };
        looker.view = looker.view_now();
        looker.data = data_now(&looker.sink.current(), &looker.externals);
        looker
    }

    /// Looks at everything. Returns whether to look again soon.
    fn look(&mut self) -> bool {
        let mut found = Settling::Nothing;
        let view = self.view_now();
        if view != self.view || self.settling == Settling::View {
            if view != self.view {
                found = Settling::View;
            }
            self.view = view;
            self.sink.reload();
        }
        let sink = self.sink.current();
        let externals = sink.externals();
        let data = data_now(&sink, &externals);
        let moved = data != self.data || !Arc::ptr_eq(&externals, &self.externals);
        if moved {
            found = found.max(Settling::Data);
        }
        if moved || self.settling == Settling::Data {
            sink.moved();
        }
        self.data = data;
        self.externals = externals;
        self.settling = found;
        found != Settling::Nothing
    }

    /// The stamps of the files of the view. One that is gone counts as it was for a while.
    fn view_now(&mut self) -> Stamps {
        let paths = self.sink.paths();
        let files = &*self.sink.host().files;
        let mut stamps = Stamps::new();
        add(&mut stamps, files, paths.config_file().to_owned());
        add(&mut stamps, files, paths.settings_file());
        add_all(&mut stamps, files, &paths.providers_dir());
        let now = self.sink.host().clock.monotonic();
        for (path, stamp) in &self.view {
            if stamps.contains_key(path) {
                self.gone.remove(path);
                continue;
            }
            let since = *self.gone.entry(path.clone()).or_insert(now);
            if now.saturating_sub(since) < GONE_AFTER {
                stamps.insert(path.clone(), *stamp);
            } else {
                self.gone.remove(path);
            }
        }
        stamps
    }

    /// The directories in which changes matter, those that exist, by device and inode.
    fn dirs(&self) -> BTreeMap<PathBuf, (u64, u64)> {
        let sink = self.sink.current();
        let paths = sink.paths();
        let mut dirs = BTreeSet::from([
            paths.state_dir().to_owned(),
            paths.state_dir().join("agents"),
            paths.own_dir(),
            paths.providers_dir(),
            paths.own_state_dir(),
            paths.own_state_dir().join(BENCHES),
            paths.journal_dir(),
        ]);
        let files = self.view.keys().chain(self.data.keys());
        dirs.extend(files.filter_map(|path| path.parent().map(Path::to_owned)));
        dirs.extend(sink.agent_dirs());
        let files = &*sink.host().files;
        let stamped = dirs.into_iter().filter_map(|dir| {
            let stamp = files.stat(&dir).ok().flatten().filter(|stamp| stamp.is_dir)?;
            Some((dir, (stamp.device, stamp.inode)))
        });
        stamped.collect()
    }
}

/// Below `tokensink/state`: one file per agent that owns benches.
const BENCHES: &str = "benches";

fn data_now(sink: &Sink, externals: &Externals) -> Stamps {
    let paths = sink.paths();
    let files = &*sink.host().files;
    let mut stamps = Stamps::new();
    for agent in sink.store().agents().unwrap_or_default() {
        add(&mut stamps, files, paths.profiles_file(&agent));
        add(&mut stamps, files, paths.state_file(&agent));
        add(&mut stamps, files, paths.sessions_file(&agent));
    }
    add_all(&mut stamps, files, &paths.journal_dir());
    add_all(&mut stamps, files, &paths.own_state_dir());
    add_all(&mut stamps, files, &paths.own_state_dir().join(BENCHES));
    for place in externals.list.iter().filter_map(|one| one.place().path()) {
        add(&mut stamps, files, place.to_owned());
    }
    stamps
}

fn add(stamps: &mut Stamps, files: &dyn Files, path: PathBuf) {
    // What cannot be looked at is as good as gone until it can; whoever reads it says why.
    if let Ok(Some(stamp)) = files.stat(&path) {
        stamps.insert(path, stamp);
    }
}

/// The files in a directory, not those below it.
fn add_all(stamps: &mut Stamps, files: &dyn Files, dir: &Path) {
    for name in files.list(dir).unwrap_or_default() {
        let path = dir.join(name);
        if let Ok(Some(stamp)) = files.stat(&path)
            && !stamp.is_dir
        {
            stamps.insert(path, stamp);
        }
    }
}

impl Sink {
    /// The directories of the agents' stores and sessions.
    fn agent_dirs(&self) -> Vec<PathBuf> {
        let paths = self.paths();
        let agents = self.store().agents().unwrap_or_default().into_iter();
        agents
            .flat_map(|agent| {
                [
                    Some(paths.agent_dir(&agent)),
                    paths.sessions_file(&agent).parent().map(Path::to_owned),
                ]
            })
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests;
