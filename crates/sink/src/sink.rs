//! The sink itself: what it reads when it is opened, and what the other modules share.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokensink_host::{Host, lock::KernelLock};
use tokensink_policy as policy;
use tokensink_providers::{Problem, Registry, UserFile};
use tokensink_store::{Config, ConfigStore, FileStore, Journal, Paths};
use tokensink_types::{AgentId, BillingClass, Credential, CredentialKind, ProfileId, ProviderId, UnixMillis};

use crate::audit;
use crate::block::quoted;
use crate::client_keys;
use crate::error::{ErrorKind, Result, SinkError};
use crate::external;
use crate::flights::Flights;
use crate::secrets::ReloadWatch;
use crate::secrets::config::SecretsConfig;
use crate::secrets::memory::Memory;
use crate::settings::Settings;
use crate::snapshot::AgentSnapshot;

/// How often a long-running process looks whether `openclaw.json` has changed.
const CONFIG_RECHECK: Duration = Duration::from_secs(1);

/// The one place of a process through which credentials are stored and handed out. Cheap to clone; all clones share
/// caches and flights.
#[derive(Debug, Clone)]
pub struct Sink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Host,
    paths: Paths,
    settings: Settings,
    registry: Registry,
    store: FileStore,
    journal: Journal,
    config_store: ConfigStore,
    config: Mutex<LoadedConfig>,
    snapshots: Mutex<HashMap<AgentId, Arc<AgentSnapshot>>>,
    /// The logins of other programs in use, as last looked at.
    external: Mutex<external::Cache>,
    /// Who may call the gateway.
    client_keys: Mutex<client_keys::Cache>,
    flights: Flights,
    /// What references have led to; in memory only.
    secrets: Memory,
    reload_watch: Mutex<ReloadWatch>,
    warnings: Vec<String>,
    /// Agents whose legacy files were looked at, with what there was to say.
    imported: Mutex<HashMap<AgentId, Vec<String>>>,
}

#[derive(Debug)]
struct LoadedConfig {
    config: Arc<Config>,
    policy: Arc<policy::Config>,
    secrets: Arc<SecretsConfig>,
    /// Monotonic.
    checked_at: Duration,
}

impl Sink {
    /// Opens the sink of this machine and this process's environment, for a command or a program of its own. The
    /// certificates of `[network] extra_ca` in the settings are trusted.
    ///
    /// # Errors
    /// As for [`Sink::open`].
    pub fn open_here(flights: Flights) -> Result<Self> {
        let host = Host::real();
        let paths = resolve_paths(&host)?;
        let settings = Settings::load(&*host.files, &paths.settings_file())?;
        if settings.extra_ca().is_empty() {
            return Self::assemble(host, paths, settings, flights);
        }
        let files = settings
            .extra_ca()
            .iter()
            .map(|file| paths.expand("extra_ca", file))
            .collect::<std::result::Result<_, _>>();
        let files =
            files.map_err(|error| SinkError::new(ErrorKind::Failed, "bad_extra_ca", error.to_string()))?;
        Self::assemble(Host::real_with_ca(files), paths, settings, flights)
    }

    /// Opens the sink of the state dir that the environment names. Reads the settings, `openclaw.json` and the
    /// user's provider files; creates nothing.
    ///
    /// # Errors
    /// When a path cannot be resolved, or the settings or `openclaw.json` do not parse.
    pub fn open(host: Host) -> Result<Self> {
        Self::open_with(host, Flights::threads())
    }

    /// The same with another way of running flights.
    ///
    /// # Errors
    /// As for [`Sink::open`].
    pub fn open_with(host: Host, flights: Flights) -> Result<Self> {
        let paths = resolve_paths(&host)?;
        let settings = Settings::load(&*host.files, &paths.settings_file())?;
        Self::assemble(host, paths, settings, flights)
    }

    fn assemble(host: Host, paths: Paths, settings: Settings, flights: Flights) -> Result<Self> {
        let (registry, warnings) = load_registry(&host, &paths);
        let readonly = tokensink_store::readonly_requested(&*host.env);
        let config_store = ConfigStore::new(host.clone(), paths.clone(), readonly);
        let loaded = load_config(&host, &config_store, &registry, &paths)?;
        let agents = loaded.config.agents();
        let paths = paths
            .with_agent_dirs(
                agents
                    .iter()
                    .filter_map(|agent| Some((&agent.id, agent.agent_dir.as_deref()?))),
            )
            .map_err(|error| SinkError::new(ErrorKind::Failed, "bad_agent_dir", error.to_string()))?;
        let store = FileStore::new(host.clone(), paths.clone(), readonly);
        let journal = Journal::new(host.clone(), &paths);
        Ok(Self(Arc::new(Inner {
            host,
            paths,
            settings,
            registry,
            store,
            journal,
            config_store,
            config: Mutex::new(loaded),
            snapshots: Mutex::new(HashMap::new()),
            external: Mutex::default(),
            client_keys: Mutex::default(),
            flights,
            secrets: Memory::default(),
            reload_watch: Mutex::default(),
            warnings,
            imported: Mutex::new(HashMap::new()),
        })))
    }

    /// What was found wrong at opening but could be lived with.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The world in use.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// The state dir.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.0.paths.state_dir()
    }

    /// `openclaw.json`, whether it exists or not.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        self.0.paths.config_file()
    }

    /// The provider definitions in force.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.0.host.clock.now()
    }

    /// The agent that a command is for when it names none: the config's default, else its first, else `main`.
    ///
    /// # Errors
    /// When the config no longer parses.
    pub fn default_agent(&self) -> Result<AgentId> {
        Ok(self.config()?.default_agent())
    }

    /// The agent with this id, normalised; `None` means the default agent.
    ///
    /// # Errors
    /// A usage error when neither the config nor the disk knows it.
    pub fn agent(&self, id: Option<&str>) -> Result<AgentId> {
        let Some(text) = id else {
            return self.default_agent();
        };
        let agent = AgentId::normalise(text);
        let known = agent.is_main()
            || self.config()?.agents().iter().any(|entry| entry.id == agent)
            || self.store().agents()?.contains(&agent);
        if known {
            return Ok(agent);
        }
        Err(SinkError::new(
            ErrorKind::Usage,
            "unknown_agent",
            format!("there is no agent {agent:?}", agent = agent.as_str()),
        )
        .with_fix(format!("tokensink agents add {agent}")))
    }

    pub(crate) fn paths(&self) -> &Paths {
        &self.0.paths
    }

    pub(crate) fn store(&self) -> &FileStore {
        &self.0.store
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.0.flights
    }

    pub(crate) fn snapshots(&self) -> &Mutex<HashMap<AgentId, Arc<AgentSnapshot>>> {
        &self.0.snapshots
    }

    pub(crate) fn external_cache(&self) -> &Mutex<external::Cache> {
        &self.0.external
    }

    /// Who may call the gateway.
    pub(crate) fn client_keys(&self) -> &Mutex<client_keys::Cache> {
        &self.0.client_keys
    }

    /// Agents whose legacy files were looked at, with what there was to say.
    pub(crate) fn imported(&self) -> &Mutex<HashMap<AgentId, Vec<String>>> {
        &self.0.imported
    }

    pub(crate) fn plugin_settings(&self, plugin: &str) -> &BTreeMap<String, String> {
        self.0.settings.plugin(plugin)
    }

    pub(crate) fn inherits(&self, agent: &AgentId) -> bool {
        self.0.settings.inherits(agent)
    }

    pub(crate) fn config_store(&self) -> &ConfigStore {
        &self.0.config_store
    }

    /// `openclaw.json` as it is now, looked at again once a second at most.
    pub(crate) fn config(&self) -> Result<Arc<Config>> {
        self.with_config(|loaded| Arc::clone(&loaded.config))
    }

    pub(crate) fn policy_config(&self) -> Result<Arc<policy::Config>> {
        self.with_config(|loaded| Arc::clone(&loaded.policy))
    }

    /// `secrets` of `openclaw.json` as it is now.
    pub(crate) fn secrets_config(&self) -> Result<Arc<SecretsConfig>> {
        self.with_config(|loaded| Arc::clone(&loaded.secrets))
    }

    /// What references have led to.
    pub(crate) fn secrets(&self) -> &Memory {
        &self.0.secrets
    }

    pub(crate) fn reload_watch(&self) -> MutexGuard<'_, ReloadWatch> {
        self.0.reload_watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_config<T>(&self, read: impl FnOnce(&LoadedConfig) -> T) -> Result<T> {
        let inner = &self.0;
        let mut loaded = inner.config.lock().unwrap_or_else(PoisonError::into_inner);
        let now = inner.host.clock.monotonic();
        if now.saturating_sub(loaded.checked_at) >= CONFIG_RECHECK {
            let config = inner.config_store.load()?;
            if Arc::ptr_eq(&config, &loaded.config) {
                loaded.checked_at = now;
            } else {
                *loaded = load_config(&inner.host, &inner.config_store, &inner.registry, &inner.paths)?;
            }
        }
        Ok(read(&loaded))
    }

    /// Forgets what was read of the config, after an edit of our own.
    pub(crate) fn config_changed(&self) -> Result<()> {
        let mut loaded = self.0.config.lock().unwrap_or_else(PoisonError::into_inner);
        *loaded = load_config(
            &self.0.host,
            &self.0.config_store,
            &self.0.registry,
            &self.0.paths,
        )?;
        Ok(())
    }

    /// What using a profile costs: the user's word, else the method's, else the provider's, else metered.
    pub(crate) fn billing_of(&self, id: &ProfileId, credential: &Credential) -> BillingClass {
        let by_definition = || {
            let client_id = credential.as_oauth().and_then(|oauth| oauth.client_id.as_deref());
            self.registry()
                .billing_for(credential.provider(), credential.kind(), client_id)
        };
        self.0
            .settings
            .billing(id)
            .or_else(by_definition)
            .unwrap_or(BillingClass::Metered)
    }

    pub(crate) fn refresh_lock_path(&self, provider: &ProviderId, profile: &ProfileId) -> PathBuf {
        self.paths().refresh_lock(provider, profile)
    }

    pub(crate) fn try_lock(
        &self,
        path: &Path,
    ) -> std::result::Result<KernelLock, tokensink_host::lock::LockError> {
        KernelLock::try_acquire(self.host(), path)
    }

    pub(crate) fn random_byte(&self) -> u8 {
        let mut byte = [0; 1];
        // Without randomness the waits of several hosts are merely not spread.
        if self.host().random.fill(&mut byte).is_err() {
            return 0;
        }
        byte[0]
    }

    pub(crate) fn audit(&self, event: &audit::Event<'_>) {
        let lock = self.paths().locks_dir().join("audit");
        audit::append(self.host(), &self.paths().audit_file(), &lock, event);
    }

    /// The same for what is about a client of the gateway.
    pub(crate) fn audit_client(&self, what: &'static str, agent: &AgentId, client: &str, detail: String) {
        let lock = self.paths().locks_dir().join("audit");
        let event = audit::ClientEvent {
            what,
            agent,
            client,
            detail,
        };
        audit::append(self.host(), &self.paths().audit_file(), &lock, &event);
    }
}

fn resolve_paths(host: &Host) -> Result<Paths> {
    Paths::resolve(&*host.env)
        .map_err(|error| SinkError::new(ErrorKind::Failed, "no_state_dir", error.to_string()))
}

fn load_registry(host: &Host, paths: &Paths) -> (Registry, Vec<String>) {
    let dir = paths.providers_dir();
    let names = match host.files.list(&dir) {
        Ok(names) => names,
        Err(error) => {
            let warning = format!(
                "the provider files in {} cannot be listed: {error}",
                dir.display()
            );
            return (Registry::builtin(), vec![warning]);
        }
    };
    let mut warnings = Vec::new();
    let mut files = Vec::new();
    for name in names {
        let path = dir.join(name);
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        match host.files.read(&path) {
            Ok(bytes) => files.push(UserFile {
                path,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }),
            Err(error) => warnings.push(format!("{} cannot be read: {error}", path.display())),
        }
    }
    if files.is_empty() {
        return (Registry::builtin(), warnings);
    }
    let (registry, problems) = Registry::load(&files);
    warnings.extend(per_file(&problems));
    (registry, warnings)
}

/// One line per faulty provider file: its first fault, and the command that shows all of them with what is allowed.
fn per_file(problems: &[Problem]) -> impl Iterator<Item = String> + '_ {
    problems
        .chunk_by(|one, next| one.path == next.path)
        .map(|faults| {
            let first = &faults[0];
            let path = first.path.to_string_lossy();
            let more = match faults.len() {
                1 => String::new(),
                many => format!(" (and {} more)", many - 1),
            };
            format!(
                "{path}:{}:{}: {}{more}; see tokensink providers check {}",
                first.line,
                first.column,
                first.message,
                quoted(&path)
            )
        })
}

fn load_config(host: &Host, store: &ConfigStore, registry: &Registry, paths: &Paths) -> Result<LoadedConfig> {
    let config = store.load()?;
    let policy = policy::Config {
        aliases: aliases(registry),
        profiles: config
            .auth_profiles()
            .into_iter()
            .map(|entry| policy::ConfigProfile {
                mode: CredentialKind::parse(&entry.mode),
                id: entry.id,
                provider: entry.provider,
            })
            .collect(),
        order: config.auth_order().into_iter().collect(),
    };
    let checked_at = host.clock.monotonic();
    Ok(LoadedConfig {
        secrets: Arc::new(SecretsConfig::of(&config, paths)),
        config,
        policy: Arc::new(policy),
        checked_at,
    })
}

/// Every further name of a provider and the id that it stands for.
fn aliases(registry: &Registry) -> policy::ProviderAliases {
    let pairs = registry
        .aliases()
        .filter_map(|(alias, id)| Some((ProviderId::parse(alias).ok()?, id.clone())));
    policy::ProviderAliases::new(pairs)
}
