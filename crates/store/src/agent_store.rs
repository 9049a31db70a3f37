//! The credentials and the state of agents in files (spec.md 2.5 to 2.7; design: On disk).
//!
//! [`FileStore::load`] reads one agent's two files, with at most one `stat` each while nothing changes.
//! [`FileStore::compare_and_set`] and [`FileStore::update_state`] are the only writers: under the store's lock they
//! read again, check, patch, replace the file whole and read it back. A write names the agent that owns the profile;
//! what an agent merely sees of main ([`FileStore::view`]) cannot be written into its own file. A file that does
//! not parse is an error for its agent alone.

mod view;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokensink_host::{Environment, FileStamp, Host};
use tokensink_types::{AgentId, Credential, ProfileId, Revision, SpendKey};

use crate::cache::StampCache;
use crate::disk;
use crate::error::{StoreError, Unreadable};
use crate::json::ParseFailure;
use crate::paths::{Paths, real_path};
use crate::profiles::{self, Ignored, Profiles};
use crate::quarantine;
use crate::state_file::StateDocument;

pub use view::{OwnedProfile, View};
pub use write::STORE_LOCK_WAIT;

/// How often a file that does not parse is read again before that is believed; older programs write in place.
const READS_MAX: u32 = 3;
/// Pause between these reads.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// All agents' stores under one state directory.
#[derive(Debug)]
pub struct FileStore {
    host: Host,
    paths: Paths,
    readonly: bool,
    cache: StampCache<AgentId, AgentStore>,
}

/// One agent's store as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentStore {
    /// Whose it is.
    pub agent: AgentId,
    /// `auth-profiles.json` as named by the layout.
    pub path: PathBuf,
    /// `auth-state.json` as named by the layout.
    pub state_path: PathBuf,
    /// The credentials.
    pub profiles: Profiles,
    /// Order, lastGood and usage, an older one-file layout included.
    pub state: StateDocument,
    /// What the user should know about the files.
    pub warnings: Vec<Warning>,
    /// Stamps of `auth-profiles.json` and `auth-state.json`; `None` for a missing file.
    pub stamps: [Option<FileStamp>; 2],
}

impl AgentStore {
    /// False where `auth-state.json` could not be read, so that `state` says nothing of what stands there.
    #[must_use]
    pub fn is_state_known(&self) -> bool {
        let unreadable = |warning: &Warning| matches!(warning, Warning::StateUnreadable(_));
        !self.warnings.iter().any(unreadable)
    }
}

/// Something about a store's files that does not stop its use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Entries that are kept and not used.
    Ignored {
        /// The file.
        path: PathBuf,
        /// The entries.
        entries: Vec<Ignored>,
    },
    /// `auth-state.json` does not parse; order and statistics are as if there were none.
    StateUnreadable(Unreadable),
    /// Main's `auth-profiles.json` does not parse, so that nothing is inherited from it.
    MainUnreadable(Unreadable),
    /// Unreadable files that were set aside from this one before.
    SetAside {
        /// The file in use.
        path: PathBuf,
        /// Where the older contents are.
        kept: Vec<PathBuf>,
    },
    /// Others than the owner may read the secrets.
    LooseMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// No such profile.
    Absent,
    /// Anything, or nothing.
    Any,
    /// An OAuth profile whose refresh token has this spend key.
    Spend(SpendKey),
    /// An OAuth profile without a refresh token: one that another program has blanked.
    NoRefreshToken,
    /// An OAuth profile of exactly this generation.
    Revision(Revision),
}

impl Expected {
    /// Does `current` meet the expectation?
    #[must_use]
    pub fn is_met_by(&self, current: Option<&Credential>) -> bool {
        let tokens = current.and_then(Credential::as_oauth).map(|oauth| &oauth.tokens);
        match self {
            Self::Absent => current.is_none(),
            Self::Any => true,
            Self::Spend(key) => {
                let found = tokens.and_then(|tokens| tokens.refresh_token()).map(SpendKey::of);
                found == Some(*key)
            }
            Self::NoRefreshToken => tokens.is_some_and(|tokens| tokens.refresh_token().is_none()),
            Self::Revision(revision) => tokens.map(Revision::of) == Some(*revision),
        }
    }
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CasOutcome {
    /// The file holds the new credential; it was read back.
    Done,
    /// Something else was there, and nothing was written.
    Conflict(Option<Box<Credential>>),
}

/// Does the environment forbid writes (`OPENCLAW_AUTH_STORE_READONLY=1`, spec.md 1.9)? Whoever writes `true` or `yes`
/// means it too; only `0`, `false` and nothing at all do not.
#[must_use]
pub fn readonly_requested(env: &dyn Environment) -> bool {
    env.var("OPENCLAW_AUTH_STORE_READONLY")
        .is_some_and(|value| value != "0" && value != "false")
}

impl FileStore {
    /// A store over these paths. With `readonly` (`OPENCLAW_AUTH_STORE_READONLY=1`) every write is refused.
    #[must_use]
    pub fn new(host: Host, paths: Paths, readonly: bool) -> Self {
        Self {
            host,
            paths,
            readonly,
            cache: StampCache::default(),
        }
    }

    /// The layout in use.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// True when writes are refused.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.readonly
    }

    /// The world in use.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The agents whose directories exist or are set in the config; `main` is always among them.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn agents(&self) -> Result<Vec<AgentId>, StoreError> {
        let root = self.paths.state_dir().join("agents");
        let mut agents = self
            .paths
            .agents_on_disk(&*self.host.files)
            .map_err(StoreError::io("list", &root))?;
        if !agents.contains(&AgentId::main()) {
            agents.insert(0, AgentId::main());
        }
        Ok(agents)
    }

    /// The real path of the agent's `auth-profiles.json`, all links resolved, as text: what names its refresh
    /// records. The file need not exist.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn owner_path(&self, agent: &AgentId) -> Result<String, StoreError> {
        let path = self.paths.profiles_file(agent);
        let real = real_path(&*self.host.files, &path).map_err(StoreError::io("resolve", &path))?;
        Ok(real.to_string_lossy().into_owned())
    }

    /// Reads one agent's files; missing ones are empty. While nothing changes this costs one `stat` per file.
    ///
    /// # Errors
    /// [`StoreError::Unreadable`] when `auth-profiles.json` does not parse (an unreadable `auth-state.json` is a
    /// warning), or [`StoreError::Io`].
    pub fn load(&self, agent: &AgentId) -> Result<Arc<AgentStore>, StoreError> {
        // Where the files are was worked out when they were read.
        if let Some(known) = self.cache.known(agent) {
            let stamps = [self.stat(&known.value.path)?, self.stat(&known.value.state_path)?];
            if let Some(store) = known.under(stamps) {
                return Ok(store);
            }
        }
        let store = self.read(agent)?;
        let (stamps, clock) = (store.stamps, &*self.host.clock);
        Ok(self.cache.put(agent.clone(), stamps, store, clock))
    }

    fn stat(&self, path: &Path) -> Result<Option<FileStamp>, StoreError> {
        self.host
            .files
            .stat(path)
            .map_err(StoreError::io("look at", path))
    }

    fn read(&self, agent: &AgentId) -> Result<AgentStore, StoreError> {
        let path = self.paths.profiles_file(agent);
        let state_path = self.paths.state_file(agent);
        let (profiles, profiles_stamp) = self.read_document(&path, profiles::read)?;
        let mut warnings = Vec::new();
        let (state, state_stamp) = match self.read_document(&state_path, StateDocument::parse) {
            Ok(read) => read,
            Err(StoreError::Unreadable(unreadable)) => {
                warnings.push(Warning::StateUnreadable(*unreadable));
                (None, self.stat(&state_path)?)
            }
            Err(error) => return Err(error),
        };
        let (profiles, older_state) = profiles.unwrap_or_default();
        let mut state = state.unwrap_or_default();
        state.absorb(&older_state);
        self.warn_about(&path, &profiles, profiles_stamp, &mut warnings)?;
        Ok(AgentStore {
            agent: agent.clone(),
            path,
            state_path,
            profiles,
            state,
            warnings,
            stamps: [profiles_stamp, state_stamp],
        })
    }

    fn warn_about(
        &self,
        path: &Path,
        profiles: &Profiles,
        stamp: Option<FileStamp>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), StoreError> {
        let path = path.to_owned();
        if !profiles.ignored().is_empty() {
            warnings.push(Warning::Ignored {
                path: path.clone(),
                entries: profiles.ignored().to_vec(),
            });
        }
        if let Some(stamp) = stamp.filter(|stamp| stamp.mode & 0o077 != 0) {
            warnings.push(Warning::LooseMode {
                path: path.clone(),
                mode: stamp.mode,
            });
        }
        let kept = quarantine::set_aside_before(&self.host, &path)?;
        if !kept.is_empty() {
            warnings.push(Warning::SetAside { path, kept });
        }
        Ok(())
    }

    /// Reads and parses a file, again after a pause when it does not parse: older programs write in place.
    fn read_document<T>(
        &self,
        path: &Path,
        parse: impl Fn(&[u8]) -> Result<T, ParseFailure>,
    ) -> Result<(Option<T>, Option<FileStamp>), StoreError> {
        let mut reads = 1;
        loop {
            let Some(content) = disk::read(&self.host, &self.paths, path)? else {
                return Ok((None, None));
            };
            match parse(content.bytes.expose()) {
                Ok(document) => return Ok((Some(document), Some(content.stamp))),
                Err(failure) if reads == READS_MAX => {
                    return Err(StoreError::unreadable(path, failure, fix_for(path)));
                }
                Err(_) => {
                    reads += 1;
                    self.host.clock.sleep(READ_PAUSE);
                }
            }
        }
    }

    /// The credential of one profile in its owner's store.
    ///
    /// # Errors
    /// As for [`FileStore::load`].
    pub fn credential(&self, owner: &AgentId, id: &ProfileId) -> Result<Option<Credential>, StoreError> {
        Ok(self.load(owner)?.profiles.get(id).cloned())
    }
}

/// What the user can do about an unreadable file.
fn fix_for(path: &Path) -> String {
    let path = path.display();
    format!(
        "It was left as it is. Correct it by hand, or move it away (mv '{path}' '{path}.bad') and log in again; a new \
         login moves it away by itself"
    )
}
