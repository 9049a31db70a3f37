//! What the sink tells about itself: plain values for rendering.

use std::path::PathBuf;
use std::time::Duration;

use crate::agents::bindings::BindReport;
use tokensink_policy::HealthStatus as Health;
use tokensink_policy::bench::Bucket;
use tokensink_policy::quota::Reading;
use tokensink_types::{Account, AgentId, BillingClass, CredentialKind, ProfileId, ProviderId, UnixMillis};

use crate::external::{ExternalInfo, ExternalMode};

/// The answer to `models status` (spec.md 12.2, 12.3).
#[derive(Debug, Clone)]
pub struct StatusReport {
    /// Path of the config file, whether it exists or not.
    pub config_path: PathBuf,
    /// The agent that was asked about.
    pub agent: AgentId,
    /// Its directory.
    pub agent_dir: PathBuf,
    /// Its credential file.
    pub store_path: PathBuf,
    /// The state dir.
    pub state_dir: PathBuf,
    /// Models in use.
    pub models: ModelsView,
    /// One entry per provider with a profile, sorted by id.
    pub providers: Vec<ProviderStatus>,
    /// Providers of models in use that have no profile.
    pub missing_in_use: Vec<MissingProvider>,
    /// Every profile that the agent sees, sorted by provider, then id.
    pub profiles: Vec<ProfileStatus>,
    /// Logins of other programs whose providers are in scope, used or not.
    pub external: Vec<ExternalInfo>,
    /// Known provider keys in the environment. They are listed and never used.
    pub env_keys: Vec<EnvKey>,
    /// Things that are wrong but did not stop the report.
    pub warnings: Vec<String>,
    /// What `--check` says of the providers in use: 0, 1 or 2 (spec.md 12.5).
    pub check_in_use: u8,
    /// What `--check --all` says.
    pub check_all: u8,
    /// When the report was made.
    pub now: UnixMillis,
}

impl StatusReport {
    /// The exit code of `models status --check` in this scope (spec.md 12.5).
    #[must_use]
    pub fn check_exit_code(&self, scope: StatusScope) -> u8 {
        match scope {
            StatusScope::InUse => self.check_in_use,
            StatusScope::All => self.check_all,
        }
    }
}

/// A provider that a configured model needs and that has no profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingProvider {
    /// Its id.
    pub provider: ProviderId,
    /// The command that gives the agent a login of it.
    pub fix: String,
}

/// A provider secret found in the environment.
#[derive(Debug, Clone)]
pub struct EnvKey {
    /// The variable.
    pub name: String,
    /// The provider that it belongs to.
    pub provider: ProviderId,
    /// The value, masked.
    pub masked: String,
}

/// Which models an agent uses.
#[derive(Debug, Clone, Default)]
pub struct ModelsView {
    /// The default as configured.
    pub default: Option<String>,
    /// The default as `provider/model`.
    pub resolved_default: String,
    /// `agent` when the agent has its own, else `defaults`.
    pub default_source: &'static str,
    /// `agent` when the agent has its own fallbacks, else `defaults`.
    pub fallbacks_source: &'static str,
    /// Fallbacks in order.
    pub fallbacks: Vec<String>,
    /// The image model.
    pub image: Option<String>,
    /// Its fallbacks.
    pub image_fallbacks: Vec<String>,
    /// Aliases: name and model.
    pub aliases: Vec<(String, String)>,
    /// The configured models; empty means all.
    pub allowed: Vec<String>,
}

/// Numbers of profiles by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub count: usize,
    /// OAuth.
    pub oauth: usize,
    /// Static tokens.
    pub token: usize,
    /// API keys.
    pub api_key: usize,
}

/// One provider in the status.
#[derive(Debug, Clone)]
pub struct ProviderStatus {
    /// Its id.
    pub provider: ProviderId,
    /// Its name for people.
    pub name: String,
    /// `profiles` or `missing`.
    pub effective_kind: &'static str,
    /// The store that the profiles come from.
    pub effective_detail: String,
    /// How many of each kind.
    pub counts: Counts,
    /// Masked labels (spec.md 12.2).
    pub labels: Vec<String>,
    /// Health over the effective profiles.
    pub health: Health,
    /// The profiles that would be tried, in order.
    pub effective_profiles: Vec<ProfileId>,
    /// The earliest end among them.
    pub expires: Option<UnixMillis>,
    /// True when a configured model uses it.
    pub in_use: bool,
    /// The provider's policy note.
    pub notice: Option<String>,
    /// Endpoints that a user's file points elsewhere: field, value, origin.
    pub overridden_endpoints: Vec<(String, String, String)>,
}

/// A period in which a profile is not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bench {
    /// `cooldown` or `disabled`.
    pub kind: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// Until when.
    pub until: UnixMillis,
}

/// One thing for which a profile is not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Benched {
    /// What it keeps from being tried.
    pub bucket: Bucket,
    /// Why, in the words of spec.md 7.1.
    pub reason: String,
    /// When it ends.
    pub until: UnixMillis,
    /// The end is the provider's word.
    pub stated: bool,
    /// From when on one real request tests it; `None` for what another program has written, which is not tested.
    pub testable: Option<UnixMillis>,
    /// A request tests it now.
    pub testing: bool,
}

/// One profile in the status.
#[derive(Debug, Clone)]
pub struct ProfileStatus {
    /// Its id.
    pub id: ProfileId,
    /// Its provider.
    pub provider: ProviderId,
    /// What kind of credential it is.
    pub kind: CredentialKind,
    /// The agent whose store owns it.
    pub owner: AgentId,
    /// True when it is inherited from main.
    pub inherited: bool,
    /// Label for people (spec.md 3.3).
    pub label: String,
    /// Label with the masked secret (spec.md 12.2).
    pub secret_label: String,
    /// Whose it is.
    pub account: Account,
    /// What a caller would get now.
    pub state: ProfileState,
    /// Health word of spec.md 12.4.
    pub health: Health,
    /// Why it is not eligible, as a code of spec.md 4.3.
    pub reason_code: Option<String>,
    /// When the token ends.
    pub expires: Option<UnixMillis>,
    /// How long it lasts; `None` when unknown or over.
    pub remaining: Option<Duration>,
    /// Set while it is not tried.
    pub bench: Option<Bench>,
    /// Everything for which it is not tried, soonest end first.
    pub benches: Vec<Benched>,
    /// What its provider has said of its limits; empty where nothing is known.
    pub quota: Vec<Reading>,
    /// What using it costs.
    pub billing: BillingClass,
    /// Its place in the provider's order; `None` when it is not in it.
    pub position: Option<usize>,
    /// True when a configured model uses its provider.
    pub in_use: bool,
    /// Set for a login that another program keeps.
    pub external: Option<ProfileOrigin>,
}

/// Where a profile comes from that is no entry of an agent's own store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileOrigin {
    /// The program's word on our command line.
    pub cli: &'static str,
    /// How its login is used.
    pub mode: ExternalMode,
    /// Where the login is, for people.
    pub place: String,
}

impl ProfileOrigin {
    /// The word in JSON: `claude-cli`, `codex-cli`, ... (openclaw-live.md 4).
    #[must_use]
    pub fn source(&self) -> String {
        format!("{}-cli", self.cli)
    }
}

/// What a caller who asks for the profile now would get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileState {
    /// A valid credential.
    Usable,
    /// A valid credential that ends within 24 hours and cannot be refreshed.
    Expiring,
    /// The access token has ended or is about to; it would be refreshed.
    Refreshable,
    /// A refresh is under way.
    Refreshing {
        /// Who refreshes.
        holder: String,
        /// Since when.
        since: UnixMillis,
    },
    /// Only a login helps.
    LoginNeeded {
        /// Why.
        reason: String,
        /// The command.
        command: String,
    },
    /// A reference to a secret cannot be resolved.
    UnresolvedRef {
        /// Which.
        what: String,
        /// What helps.
        fix: String,
    },
    /// Nothing can be done before some time has passed.
    Waiting {
        /// Why.
        reason: String,
        /// Until when, if that is known.
        until: Option<UnixMillis>,
    },
}

impl ProfileState {
    /// The word in JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Expiring => "expiring",
            Self::Refreshable => "refreshable",
            Self::Refreshing { .. } => "refreshing",
            Self::LoginNeeded { .. } => "login_needed",
            Self::UnresolvedRef { .. } => "unresolved_ref",
            Self::Waiting { .. } => "waiting",
        }
    }
}

/// Which profiles `--check` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusScope {
    /// Providers of configured models (OpenClaw 2026.5.28).
    InUse,
    /// Every profile.
    All,
}

/// One profile in a list.
#[derive(Debug, Clone)]
pub struct ProfileInfo {
    /// Its id.
    pub id: ProfileId,
    /// Its provider.
    pub provider: ProviderId,
    /// What kind of credential it is.
    pub kind: CredentialKind,
    /// The agent whose store owns it.
    pub owner: AgentId,
    /// True when it is inherited from main.
    pub inherited: bool,
    /// Label for people.
    pub label: String,
    /// E-mail address, where known.
    pub email: Option<String>,
    /// When the token ends.
    pub expires: Option<UnixMillis>,
    /// Set while it is not tried.
    pub bench: Option<Bench>,
    /// True for a login that another program owns.
    pub is_external: bool,
    /// What a caller would get now.
    pub state: ProfileState,
}

/// A stored order and what follows from it.
#[derive(Debug, Clone)]
pub struct OrderView {
    /// The agent.
    pub agent: AgentId,
    /// Its directory.
    pub agent_dir: PathBuf,
    /// The provider.
    pub provider: ProviderId,
    /// The file that holds the order.
    pub state_path: PathBuf,
    /// The stored override.
    pub order: Option<Vec<ProfileId>>,
    /// The order in which profiles would be tried now.
    pub effective: Vec<ProfileId>,
    /// Set while none of them serves: why, and what is free first.
    pub unavailable: Option<String>,
}

/// What a logout did.
#[derive(Debug, Clone)]
pub struct LogoutReport {
    /// The profile that is gone.
    pub profile: ProfileId,
    /// The file that it was removed from.
    pub removed_from: PathBuf,
    /// Whether the grant was revoked at the server.
    pub revoked: Revocation,
    /// What revoking reaches, in words.
    pub reaches: Vec<String>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// What became of a revocation (RFC 7009).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// It was not asked for.
    NotAsked,
    /// The server confirmed it.
    Done,
    /// The provider has no revocation endpoint, or the profile no grant.
    NotSupported,
    /// It failed; the local logout stands.
    Failed(String),
}

/// What `models auth retry` cleared.
#[derive(Debug, Clone)]
pub struct RetryReport {
    /// The profile.
    pub profile: ProfileId,
    /// What stood in the way and no longer does, in words; empty when nothing did.
    pub cleared: Vec<String>,
    /// What stays as it is, and what else the user should know.
    pub notes: Vec<String>,
}

/// What became of one profile in a renewal run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewOutcome {
    /// The agent that owns it.
    pub agent: AgentId,
    /// The profile.
    pub profile: ProfileId,
    /// What happened.
    pub result: RenewResult,
}

/// The result for one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenewResult {
    /// It has a new access token.
    Renewed {
        /// When that ends.
        expires: Option<UnixMillis>,
    },
    /// It is not due yet.
    NotDue {
        /// When it will be, if it ever is.
        due_at: Option<UnixMillis>,
    },
    /// It could not be done now.
    TryAgain {
        /// Why.
        reason: String,
        /// When to try again.
        at: Option<UnixMillis>,
    },
    /// Only a login helps.
    LoginNeeded {
        /// Why.
        reason: String,
        /// The command.
        command: String,
    },
    /// Something else failed.
    Failed {
        /// What.
        reason: String,
    },
}

/// What a renewal run did.
#[derive(Debug, Clone, Default)]
pub struct RenewReport {
    /// One entry per owned OAuth profile.
    pub outcomes: Vec<RenewOutcome>,
    /// Stores that could not be read, in words.
    pub unreadable: Vec<String>,
}

/// One agent.
#[derive(Debug, Clone)]
pub struct AgentInfo {
    /// Its id.
    pub id: AgentId,
    /// Its name, where one is configured.
    pub name: Option<String>,
    /// Its workspace.
    pub workspace: PathBuf,
    /// Its directory.
    pub agent_dir: PathBuf,
    /// How many bindings name it.
    pub bindings: usize,
    /// True for the default agent.
    pub is_default: bool,
    /// Its own model, where one is configured.
    pub model: Option<String>,
    /// False when `[agents.<id>] inherit = false` keeps it from main's profiles.
    pub inherits: bool,
}

/// A new agent.
#[derive(Debug, Clone)]
pub struct AgentAdd {
    /// Its name; the id follows from it.
    pub name: String,
    /// Its workspace; the default is a folder in the state dir.
    pub workspace: Option<PathBuf>,
    /// Its directory; the default is in the state dir.
    pub agent_dir: Option<PathBuf>,
    /// Its own model.
    pub model: Option<String>,
    /// The chats that it answers, each `channel` or `channel:account`.
    pub bindings: Vec<String>,
}

/// An agent that was added.
#[derive(Debug, Clone)]
pub struct AgentAdded {
    /// The agent.
    pub agent: AgentInfo,
    /// What became of the bindings that were asked for.
    pub bindings: BindReport,
}

/// What `agents delete` did.
#[derive(Debug, Clone)]
pub struct AgentDeleted {
    /// The agent that is gone from the config.
    pub id: AgentId,
    /// Where its folders were moved to.
    pub moved_to: Vec<PathBuf>,
}

/// One model in a list.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `provider/model`.
    pub key: String,
    /// The model's name.
    pub name: String,
    /// Its provider.
    pub provider: ProviderId,
    /// True when the agent has a usable profile of the provider.
    pub available: bool,
    /// `default`, `fallback#1`, `alias:opus`, `configured`, ...
    pub tags: Vec<String>,
}
