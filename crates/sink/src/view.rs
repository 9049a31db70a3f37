//! What settings, provider files and `openclaw.json` say, read as a whole and kept as a whole.
//!
//! An operation works on one view from beginning to end. The next view is built from the one before: a file that
//! cannot be read or does not parse leaves its part as it was and becomes a warning, because in a process that has been
//! serving for days a half-saved file must neither fail requests nor fall back to defaults, which could use a login
//! that must not be used. The first view of a process has nothing to fall back on, and fails instead.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokensink_host::Host;
use tokensink_policy as policy;
use tokensink_providers::{Problem, Registry, UserFile};
use tokensink_store::{Config, ConfigStore, FileStore, Paths, StoreError};
use tokensink_types::{CredentialKind, ProviderId};

use crate::block::quoted;
use crate::calls::limits::Cooldowns;
use crate::error::{ErrorKind, Result, SinkError};
use crate::secrets::config::SecretsConfig;
use crate::settings::Settings;
use crate::snapshot::Snapshots;

/// How often a process looks whether `openclaw.json` has changed.
const CONFIG_RECHECK: Duration = Duration::from_secs(1);
/// How long a file must be gone before it counts as removed: some editors save by removing and writing anew.
pub(crate) const GONE_AFTER: Duration = Duration::from_secs(2);

/// What no reload changes: the world, where things lie, and who edits `openclaw.json`.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) host: Host,
    /// Without the agent directories of the config.
    paths: Paths,
    readonly: bool,
    pub(crate) config_store: ConfigStore,
}

impl Ground {
    pub(crate) fn new(host: Host, paths: Paths) -> Self {
        let readonly = tokensink_store::readonly_requested(&*host.env);
        let config_store = ConfigStore::new(host.clone(), paths.clone(), readonly);
        Self {
            host,
            paths,
            readonly,
            config_store,
        }
    }
}

/// One reading of everything.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) paths: Paths,
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) store: FileStore,
    pub(crate) snapshots: Mutex<Snapshots>,
    config: Mutex<ConfigState>,
    /// The provider files in force.
    files: Vec<UserFile>,
    warnings: Vec<String>,
}

/// `openclaw.json` in the forms in which it is used.
#[derive(Debug, Clone)]
pub(crate) struct LoadedConfig {
    pub(crate) config: Arc<Config>,
    pub(crate) policy: Arc<policy::Config>,
    /// The same when as many calls have moved to a costlier class as may on one day; `None` where there is no such bound.
    pub(crate) capped: Option<Arc<policy::Config>>,
    pub(crate) secrets: Arc<SecretsConfig>,
    pub(crate) cooldowns: Arc<Cooldowns>,
}

#[derive(Debug)]
struct ConfigState {
    loaded: LoadedConfig,
    /// Monotonic.
    checked_at: Duration,
    /// Since when the file is gone, monotonic.
    gone_since: Option<Duration>,
    /// Why the file as it is now is not in force.
    trouble: Option<String>,
}

impl View {
    /// The first view of a process.
    ///
    /// # Errors
    /// When `openclaw.json` does not parse or holds a directory that cannot be resolved.
    pub(crate) fn first(ground: &Ground, settings: Settings) -> Result<Self> {
        let mut warnings = Vec::new();
        let definitions = Definitions::read(&ground.host, &ground.paths, None, &mut warnings);
        let config = ground.config_store.load()?;
        let paths = with_agent_dirs(ground, &config)?;
        Ok(Self::of(
            ground,
            settings,
            definitions,
            (config, None),
            paths,
            warnings,
        ))
    }

    /// The view after this one.
    pub(crate) fn next(&self, ground: &Ground) -> Self {
        let mut warnings = Vec::new();
        let settings = Settings::load(&*ground.host.files, &ground.paths.settings_file());
        let settings = settings.unwrap_or_else(|error| {
            warnings.push(format!("{error}; the settings before it stay in force"));
            self.settings.clone()
        });
        if settings.extra_ca() != self.settings.extra_ca() {
            warnings.push("[network] extra_ca has changed; that takes effect with the next start".to_owned());
        }
        let definitions = Definitions::read(&ground.host, &ground.paths, Some(&self.files), &mut warnings);
        let (config, paths, trouble) = self.next_config(ground);
        for warning in warnings.iter().chain(&trouble) {
            tracing::warn!("{warning}");
        }
        Self::of(ground, settings, definitions, (config, trouble), paths, warnings)
    }

    fn next_config(&self, ground: &Ground) -> (Arc<Config>, Paths, Option<String>) {
        let read = || {
            let config = ground.config_store.load()?;
            let paths = with_agent_dirs(ground, &config)?;
            Ok::<_, SinkError>((config, paths))
        };
        match read() {
            Ok((config, paths)) => (config, paths, None),
            Err(error) => {
                let state = self.config_state();
                let trouble = not_in_force(&error);
                (
                    Arc::clone(&state.loaded.config),
                    self.paths.clone(),
                    Some(trouble),
                )
            }
        }
    }

    fn of(
        ground: &Ground,
        settings: Settings,
        definitions: Definitions,
        (config, trouble): (Arc<Config>, Option<String>),
        paths: Paths,
        mut warnings: Vec<String>,
    ) -> Self {
        warnings.extend(trouble.clone());
        let loaded = LoadedConfig::of(config, &definitions.registry, &paths, &settings);
        Self {
            store: FileStore::new(ground.host.clone(), paths.clone(), ground.readonly),
            paths,
            settings,
            registry: definitions.registry,
            files: definitions.files,
            snapshots: Mutex::default(),
            config: Mutex::new(ConfigState {
                loaded,
                checked_at: ground.host.clock.monotonic(),
                gone_since: None,
                trouble,
            }),
            warnings,
        }
    }

    /// What was found wrong but could be lived with.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn config_state(&self) -> std::sync::MutexGuard<'_, ConfigState> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `openclaw.json` as it is now, looked at again once a second at most; as it was last, while it cannot be read.
    pub(crate) fn config(&self, ground: &Ground) -> LoadedConfig {
        let mut state = self.config_state();
        let now = ground.host.clock.monotonic();
        if now.saturating_sub(state.checked_at) >= CONFIG_RECHECK {
            state.checked_at = now;
            self.recheck(ground, &mut state, now);
        }
        state.loaded.clone()
    }

    fn recheck(&self, ground: &Ground, state: &mut ConfigState, now: Duration) {
        match ground.config_store.load() {
            Ok(config) if Arc::ptr_eq(&config, &state.loaded.config) => {
                state.gone_since = None;
                state.trouble = None;
            }
            Ok(config) => {
                let since = *state.gone_since.get_or_insert(now);
                if is_there(ground) || now.saturating_sub(since) >= GONE_AFTER {
                    state.gone_since = None;
                    state.trouble = None;
                    state.loaded = LoadedConfig::of(config, &self.registry, &self.paths, &self.settings);
                }
            }
            Err(error) => {
                let trouble = not_in_force(&SinkError::from(error));
                if state.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("{trouble}");
                    state.trouble = Some(trouble);
                }
            }
        }
    }

    /// Reads `openclaw.json` again, after an edit of our own.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn reread_config(&self, ground: &Ground) -> std::result::Result<(), StoreError> {
        let config = ground.config_store.load()?;
        let mut state = self.config_state();
        state.loaded = LoadedConfig::of(config, &self.registry, &self.paths, &self.settings);
        state.checked_at = ground.host.clock.monotonic();
        state.trouble = None;
        Ok(())
    }
}

fn is_there(ground: &Ground) -> bool {
    let stamp = ground.host.files.stat(ground.paths.config_file());
    stamp.is_ok_and(|stamp| stamp.is_some())
}

fn not_in_force(error: &SinkError) -> String {
    format!("{error}; what it said before stays in force")
}

fn with_agent_dirs(ground: &Ground, config: &Config) -> Result<Paths> {
    let agents = config.agents();
    let dirs = agents
        .iter()
        .filter_map(|agent| Some((&agent.id, agent.agent_dir.as_deref()?)));
    let paths = ground.paths.clone().with_agent_dirs(dirs);
    paths.map_err(|error| SinkError::new(ErrorKind::Failed, "bad_agent_dir", error.to_string()))
}

impl LoadedConfig {
    fn of(config: Arc<Config>, registry: &Registry, paths: &Paths, settings: &Settings) -> Self {
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
            allow_crossings: settings.crossings(),
            deny: settings.deny(),
        };
        let capped = settings.crossings_per_day().map(|_| {
            Arc::new(policy::Config {
                allow_crossings: BTreeSet::new(),
                ..policy.clone()
            })
        });
        Self {
            capped,
            secrets: Arc::new(SecretsConfig::of(&config, paths)),
            cooldowns: Arc::new(Cooldowns::of(config.cooldowns(), |id| registry.canonical(id))),
            config,
            policy: Arc::new(policy),
        }
    }
}

/// Every further name of a provider and the id that it stands for.
fn aliases(registry: &Registry) -> policy::ProviderAliases {
    let pairs = registry
        .aliases()
        .filter_map(|(alias, id)| Some((ProviderId::parse(alias).ok()?, id.clone())));
    policy::ProviderAliases::new(pairs)
}

/// The provider definitions with the user's files that they were made of.
struct Definitions {
    registry: Registry,
    files: Vec<UserFile>,
}

impl Definitions {
    /// Reads the user's files. One that is wrong is left out, or stays as it was in `before`.
    fn read(host: &Host, paths: &Paths, before: Option<&[UserFile]>, warnings: &mut Vec<String>) -> Self {
        let files = match user_files(host, &paths.providers_dir(), before.unwrap_or_default(), warnings) {
            Ok(files) => files,
            Err(warning) => {
                warnings.push(warning);
                before.unwrap_or_default().to_vec()
            }
        };
        if files.is_empty() {
            let registry = Registry::builtin();
            return Self { registry, files };
        }
        let (registry, problems) = Registry::load(&files);
        let faulty: Vec<PathBuf> = problems.iter().map(|problem| problem.path.clone()).collect();
        let kept = before.and_then(|before| instead(&files, before, &faulty));
        let Some(files) = kept else {
            warnings.extend(per_file(&problems));
            return Self { registry, files };
        };
        warnings.extend(
            per_file(&problems).map(|line| format!("{line}; what the file said before stays in force")),
        );
        let (registry, _) = Registry::load(&files);
        Self { registry, files }
    }
}

/// `files` with those at `faulty` as they were in `before`; `None` when that changes nothing.
fn instead(files: &[UserFile], before: &[UserFile], faulty: &[PathBuf]) -> Option<Vec<UserFile>> {
    let mut kept = files.to_vec();
    let mut any = false;
    for file in kept.iter_mut().filter(|file| faulty.contains(&file.path)) {
        let earlier = before.iter().find(|earlier| earlier.path == file.path);
        if let Some(earlier) = earlier.filter(|earlier| earlier.text != file.text) {
            file.text.clone_from(&earlier.text);
            any = true;
        }
    }
    any.then_some(kept)
}

fn user_files(
    host: &Host,
    dir: &Path,
    before: &[UserFile],
    warnings: &mut Vec<String>,
) -> std::result::Result<Vec<UserFile>, String> {
    let names = host.files.list(dir).map_err(|error| {
        format!(
            "the provider files in {} cannot be listed: {error}",
            dir.display()
        )
    })?;
    let paths = names.into_iter().map(|name| dir.join(name));
    let mut files = Vec::new();
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        match host.files.read(&path) {
            Ok(bytes) => files.push(UserFile {
                path,
                text: String::from_utf8_lossy(&bytes).into_owned(),
            }),
            Err(error) => {
                warnings.push(format!("{} cannot be read: {error}", path.display()));
                files.extend(before.iter().find(|earlier| earlier.path == path).cloned());
            }
        }
    }
    Ok(files)
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
