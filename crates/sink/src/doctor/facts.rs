//! What was found out about a home, as plain values: all that the judgement sees. No secret is among them; a grant is
//! known by a fingerprint under a key of this run.

use std::path::PathBuf;
use std::time::Duration;

use tokensink_providers::Problem;
use tokensink_store::{Blemish, LockPlace, LockState};
use tokensink_types::{AgentId, BillingClass, CredentialKind, ProfileId, ProviderId, SessionKey, UnixMillis};

use super::{Copies, DiskTrial, NetworkCheck};

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) now: UnixMillis,
    /// The one agent that was asked about.
    pub(super) only: Option<AgentId>,
    pub(super) user: Option<u32>,
    pub(super) readonly: bool,
    pub(super) state_dir: PathBuf,
    pub(super) state_owner: Option<u32>,
    pub(super) places: Vec<Place>,
    pub(super) dangling: Vec<(PathBuf, PathBuf)>,
    pub(super) broken: Vec<Broken>,
    pub(super) provider_problems: Vec<Problem>,
    pub(super) agents: Vec<AgentFacts>,
    /// `None` when it cannot be read.
    pub(super) config: Option<ConfigFacts>,
    pub(super) records: Vec<RecordFacts>,
    pub(super) locks: Vec<(LockPlace, LockState)>,
    pub(super) cli_locks: Vec<CliLock>,
    pub(super) litter: Vec<Litter>,
    pub(super) env_keys: Vec<EnvKeyFacts>,
    pub(super) proxies: Vec<(String, String)>,
    pub(super) certificates: Vec<(String, String)>,
    /// The state directory's first, then those of agents' folders elsewhere.
    pub(super) disks: Vec<DiskFacts>,
    pub(super) copies: Vec<Copies>,
    pub(super) network: Vec<NetworkCheck>,
}

/// A file or folder with its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) is_dir: bool,
    pub(super) mode: u32,
    pub(super) owner: u32,
}

/// Which file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BrokenKind {
    /// The system refuses to read it.
    Unreadable,
    Store(AgentId),
    State(AgentId),
    Sessions(AgentId),
    Config,
    Settings,
    OwnState,
    Record,
}

/// A file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) path: PathBuf,
    pub(super) kind: BrokenKind,
    pub(super) why: String,
    pub(super) fix: Option<String>,
}

/// An agent's folder and, where it can be read, its store.
#[derive(Debug, Clone)]
pub(super) struct AgentFacts {
    pub(super) id: AgentId,
    pub(super) dir: PathBuf,
    pub(super) real_dir: PathBuf,
    /// The other state directory that the folder lies in.
    pub(super) other_state: Option<PathBuf>,
    pub(super) inherits: bool,
    pub(super) store: Option<StoreFacts>,
    /// The agent's `sessions.json`.
    pub(super) sessions_path: PathBuf,
    /// Its sessions that keep a profile.
    pub(super) pins: Vec<PinFacts>,
}

/// A session that keeps a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PinFacts {
    pub(super) session: SessionKey,
    pub(super) profile: ProfileId,
    /// Its user chose it.
    pub(super) is_chosen: bool,
}

/// A store without its secrets.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreFacts {
    pub(super) path: PathBuf,
    pub(super) real_path: PathBuf,
    pub(super) state_path: PathBuf,
    pub(super) profiles: Vec<ProfileFacts>,
    pub(super) ignored: Vec<(String, String)>,
    pub(super) blemishes: Vec<Blemish>,
    pub(super) orders: Vec<(ProviderId, Vec<ProfileId>)>,
    /// Ids that lastGood or the statistics speak of.
    pub(super) mentioned: Vec<ProfileId>,
    pub(super) last_good: Vec<(ProviderId, ProfileId)>,
}

/// A profile without its secret.
#[derive(Debug, Clone)]
pub(super) struct ProfileFacts {
    pub(super) id: ProfileId,
    pub(super) provider: ProviderId,
    pub(super) kind: CredentialKind,
    pub(super) email: Option<String>,
    pub(super) expires: Option<UnixMillis>,
    pub(super) has_refresh: bool,
    pub(super) is_known_provider: bool,
    pub(super) billing: BillingClass,
    /// What the provider said when it refused the present refresh token.
    pub(super) refused: Option<String>,
}

/// What the config says of logins.
#[derive(Debug, Clone, Default)]
pub(super) struct ConfigFacts {
    pub(super) path: PathBuf,
    pub(super) profiles: Vec<ConfigProfileFacts>,
    pub(super) orders: Vec<(ProviderId, Vec<ProfileId>)>,
}

/// An entry of `auth.profiles`.
#[derive(Debug, Clone)]
pub(super) struct ConfigProfileFacts {
    pub(super) id: ProfileId,
    pub(super) provider: ProviderId,
    pub(super) mode: String,
    pub(super) email: Option<String>,
}

/// A refresh record.
#[derive(Debug, Clone)]
pub(super) struct RecordFacts {
    pub(super) path: PathBuf,
    pub(super) store: PathBuf,
    pub(super) store_exists: bool,
    pub(super) profile: ProfileId,
    /// When its newest generation was obtained.
    pub(super) issued_at: Option<UnixMillis>,
}

/// A lock directory of Claude Code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CliLock {
    pub(super) path: PathBuf,
    pub(super) age: Duration,
    pub(super) empty: bool,
}

/// A file that nobody wants any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Litter {
    pub(super) path: PathBuf,
    /// Whose temporary file it is; `None` for one that was set aside.
    pub(super) of: Option<PathBuf>,
    pub(super) age: Duration,
}

/// A provider's API key in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EnvKeyFacts {
    pub(super) name: String,
    pub(super) provider: ProviderId,
}

/// A disk, and what trying it out showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DiskFacts {
    pub(super) trial: DiskTrial,
    /// The program whose folder it is in.
    pub(super) synced_by: Option<String>,
    pub(super) free_bytes: Option<u64>,
}
