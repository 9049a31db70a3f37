//! The sink itself: what it reads when it is opened, and what the other modules share.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokensink_host::{Host, lock::KernelLock};
use tokensink_policy as policy;
use tokensink_providers::Registry;
use tokensink_store::{Config, ConfigStore, FileStore, Journal, Paths, SessionStore};
use tokensink_types::{AgentId, BillingClass, Credential, ProfileId, ProviderId, UnixMillis};

use crate::audit;
use crate::calls::Calls;
use crate::calls::limits::Cooldowns;
use crate::client_keys;
use crate::decisions::Decisions;
use crate::error::{ErrorKind, Result, SinkError};
use crate::external;
use crate::flights::Flights;
use crate::gauges::Tally;
use crate::pulse::Pulse;
use crate::secrets::ReloadWatch;
use crate::secrets::config::SecretsConfig;
use crate::secrets::memory::Memory;
use crate::settings::Settings;
use crate::snapshot::Snapshots;
use crate::turns;
use crate::view::{Ground, View};

/// The one place of a process through which credentials are stored and handed out. Cheap to clone; all clones share
/// caches and flights.
///
/// What settings, provider files and `openclaw.json` say is one `View`, which a `Sink` keeps for its whole life, so
/// that no operation sees half of a change. [`Sink::current`] is the sink on the newest one.
#[derive(Debug, Clone)]
pub struct Sink {
    shared: Arc<Inner>,
    view: Arc<View>,
}

/// What all sinks of a process share, whichever view they are on.
#[derive(Debug)]
struct Inner {
    ground: Ground,
    journal: Journal,
    sessions: SessionStore,
    newest: RwLock<Arc<View>>,
    /// Counts everything that may change what is handed out.
    generation: Pulse,
    turns: turns::Count,
    /// Watches that run.
    watches: AtomicUsize,
    /// The logins of other programs in use, as last looked at.
    external: Mutex<external::Cache>,
    /// Who may call the gateway.
    client_keys: Mutex<client_keys::Cache>,
    flights: Flights,
    /// What was decided, for `explain`.
    decisions: Decisions,
    /// How refreshes ended.
    tally: Tally,
    /// What is known of calls.
    calls: Calls,
    /// What references have led to; in memory only.
    secrets: Memory,
    reload_watch: Mutex<ReloadWatch>,
    /// Agents whose legacy files were looked at, with what there was to say.
    imported: Mutex<HashMap<AgentId, Vec<String>>>,
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
        let files = extra_ca(&settings, &paths)?;
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
        let journal = Journal::new(host.clone(), &paths);
        let readonly = tokensink_store::readonly_requested(&*host.env);
        let sessions = SessionStore::new(host.clone(), paths.clone(), readonly);
        let calls = Calls::new(&host, &paths, readonly);
        let ground = Ground::new(host, paths);
        let view = Arc::new(View::first(&ground, settings)?);
        let shared = Inner {
            ground,
            journal,
            sessions,
            newest: RwLock::new(Arc::clone(&view)),
            generation: Pulse::default(),
            turns: turns::Count::default(),
            watches: AtomicUsize::new(0),
            external: Mutex::default(),
            client_keys: Mutex::default(),
            flights,
            calls,
            secrets: Memory::default(),
            reload_watch: Mutex::default(),
            decisions: Decisions::default(),
            tally: Tally::default(),
            imported: Mutex::new(HashMap::new()),
        };
        Ok(Self {
            shared: Arc::new(shared),
            view,
        })
    }

    /// The sink on what settings, provider files and `openclaw.json` say now, as far as a watch
    /// ([`Sink::watch`](crate::Sink::watch)) has seen. Without one it is this sink. A long-running program takes it once
    /// per request.
    #[must_use]
    pub fn current(&self) -> Self {
        let newest = self.shared.newest.read().unwrap_or_else(PoisonError::into_inner);
        Self {
            shared: Arc::clone(&self.shared),
            view: Arc::clone(&newest),
        }
    }

    /// A number that moves whenever something may have changed that decides what is handed out: a store, a refresh
    /// record, a bench, the config, a definition. While [`Sink::is_watched`] and it stands still, what was handed out is
    /// still right, apart from what the clock alone ends.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.count()
    }

    /// The turns of an event loop.
    pub(crate) fn turn_count(&self) -> &turns::Count {
        &self.shared.turns
    }

    /// Waits until [`Sink::generation`] is above `seen`, at most `time`. Returns whether it is.
    #[must_use]
    pub fn wait_for_change(&self, seen: u64, time: Duration) -> bool {
        self.shared.generation.wait_past(seen, time)
    }

    /// Does a watch see what other programs change?
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.shared.watches.load(Ordering::Acquire) > 0
    }

    /// Something was changed, by this process or seen by its watch: see [`Sink::generation`].
    pub(crate) fn moved(&self) {
        self.shared.generation.beat();
    }

    pub(crate) fn watch_begins(&self) {
        self.shared.watches.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn watch_ends(&self) {
        self.shared.watches.fetch_sub(1, Ordering::AcqRel);
    }

    /// Reads settings, provider files and `openclaw.json` again, for all who ask for [`Sink::current`] from now on. What
    /// cannot be read stays as it was, with a warning.
    pub(crate) fn reload(&self) {
        let mut newest = self.shared.newest.write().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::new(newest.next(&self.shared.ground));
        drop(newest);
        self.moved();
    }

    /// What was found wrong with settings, provider files and `openclaw.json` but could be lived with.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.view.warnings()
    }

    /// The world in use.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.shared.ground.host
    }

    /// The certificate files that are trusted besides the system's (`[network] extra_ca` in the settings), for
    /// whoever connects on its own.
    ///
    /// # Errors
    /// When one of the paths cannot be resolved.
    pub fn extra_ca(&self) -> Result<Vec<PathBuf>> {
        extra_ca(&self.view.settings, &self.view.paths)
    }

    /// The state dir.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.view.paths.state_dir()
    }

    /// `openclaw.json`, whether it exists or not.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        self.view.paths.config_file()
    }

    /// The provider definitions in force.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.view.registry
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.host().clock.now()
    }

    /// The agent that a command is for when it names none: the config's default, else its first, else `main`.
    ///
    /// # Errors
    /// None while the config is a file: one that no longer parses stays as it was.
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
        &self.view.paths
    }

    pub(crate) fn store(&self) -> &FileStore {
        &self.view.store
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    pub(crate) fn session_store(&self) -> &SessionStore {
        &self.shared.sessions
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.shared.flights
    }

    pub(crate) fn snapshots(&self) -> &Mutex<Snapshots> {
        &self.view.snapshots
    }

    pub(crate) fn external_cache(&self) -> &Mutex<external::Cache> {
        &self.shared.external
    }

    /// Who may call the gateway.
    pub(crate) fn client_keys(&self) -> &Mutex<client_keys::Cache> {
        &self.shared.client_keys
    }

    /// What was decided, for `explain`.
    pub(crate) fn decisions(&self) -> &Decisions {
        &self.shared.decisions
    }

    /// How refreshes ended.
    pub(crate) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// Agents whose legacy files were looked at, with what there was to say.
    pub(crate) fn imported(&self) -> &Mutex<HashMap<AgentId, Vec<String>>> {
        &self.shared.imported
    }

    pub(crate) fn plugin_settings(&self, plugin: &str) -> &BTreeMap<String, String> {
        self.view.settings.plugin(plugin)
    }

    pub(crate) fn inherits(&self, agent: &AgentId) -> bool {
        self.view.settings.inherits(agent)
    }

    pub(crate) fn config_store(&self) -> &ConfigStore {
        &self.shared.ground.config_store
    }

    /// `openclaw.json` as it is now, looked at again once a second at most.
    pub(crate) fn config(&self) -> Result<Arc<Config>> {
        Ok(self.view.config(&self.shared.ground).config)
    }

    pub(crate) fn policy_config(&self) -> Result<Arc<policy::Config>> {
        let loaded = self.view.config(&self.shared.ground);
        let capped = loaded.capped.filter(|_| self.are_crossings_spent());
        Ok(capped.unwrap_or(loaded.policy))
    }

    /// The same, however many calls have moved to a costlier class today.
    pub(crate) fn unbounded_policy(&self) -> Arc<policy::Config> {
        self.view.config(&self.shared.ground).policy
    }

    /// How many calls may move to a costlier class on one day, where the user has set that.
    pub(crate) fn crossings_per_day(&self) -> Option<u32> {
        self.view.settings.crossings_per_day()
    }

    /// `secrets` of `openclaw.json` as it is now.
    pub(crate) fn secrets_config(&self) -> Result<Arc<SecretsConfig>> {
        Ok(self.view.config(&self.shared.ground).secrets)
    }

    /// `auth.cooldowns` of `openclaw.json` as it is now.
    pub(crate) fn cooldowns(&self) -> Result<Arc<Cooldowns>> {
        Ok(self.view.config(&self.shared.ground).cooldowns)
    }

    /// What is known of calls.
    pub(crate) fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// What references have led to.
    pub(crate) fn secrets(&self) -> &Memory {
        &self.shared.secrets
    }

    pub(crate) fn reload_watch(&self) -> MutexGuard<'_, ReloadWatch> {
        self.shared
            .reload_watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was read of the config, after an edit of our own.
    pub(crate) fn config_changed(&self) -> Result<()> {
        self.view.reread_config(&self.shared.ground)?;
        self.moved();
        Ok(())
    }

    /// What using a profile costs: the user's word, else the method's, else the provider's, else metered.
    pub(crate) fn billing_of(&self, id: &ProfileId, credential: &Credential) -> BillingClass {
        let by_definition = || {
            let client_id = credential.as_oauth().and_then(|oauth| oauth.client_id.as_deref());
            self.registry()
                .billing_for(credential.provider(), credential.kind(), client_id)
        };
        self.view
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
        // What is audited is a change.
        self.moved();
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
        self.moved();
    }
}

fn extra_ca(settings: &Settings, paths: &Paths) -> Result<Vec<PathBuf>> {
    let files = settings
        .extra_ca()
        .iter()
        .map(|file| paths.expand("extra_ca", file))
        .collect::<std::result::Result<_, _>>();
    files.map_err(|error| SinkError::new(ErrorKind::Failed, "bad_extra_ca", error.to_string()))
}

fn resolve_paths(host: &Host) -> Result<Paths> {
    Paths::resolve(&*host.env)
        .map_err(|error| SinkError::new(ErrorKind::Failed, "no_state_dir", error.to_string()))
}
