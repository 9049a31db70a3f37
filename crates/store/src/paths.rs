//! Where everything lies (design: On disk; spec.md 1).
//!
//! Computed from the environment once; nothing here opens a file except [`Paths::agents_on_disk`] and
//! [`real_path`]. It promises absolute paths. It does not know what the files hold.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;
use tokensink_host::{Environment, Files};
use tokensink_types::{AgentId, ProfileId, ProviderId};

/// Why the paths cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathsError {
    /// Neither a home directory nor a state directory is known.
    #[error("the home directory is not known; set HOME, or OPENCLAW_STATE_DIR=/path/to/state")]
    NoHome,
    /// A relative path was given and the working directory cannot be read.
    #[error(
        "{name}={text:?} is a relative path, and the working directory is not known; give an absolute path"
    )]
    Relative {
        /// The variable or config key.
        name: String,
        /// What it held.
        text: String,
    },
}

/// The directories and files of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    home: Option<PathBuf>,
    current_dir: Option<PathBuf>,
    state_dir: PathBuf,
    config_file: PathBuf,
    oauth_dir: PathBuf,
    agent_dirs: BTreeMap<AgentId, PathBuf>,
    main_from_env: bool,
}

impl Paths {
    /// Reads the environment (spec.md 1.1 to 1.7): `OPENCLAW_STATE_DIR`, else `~/.openclaw`; `OPENCLAW_CONFIG_PATH`,
    /// else `<state>/openclaw.json`; `OPENCLAW_AGENT_DIR`, else `PI_CODING_AGENT_DIR`, else
    /// `<state>/agents/main/agent` for the agent `main`; `OPENCLAW_OAUTH_DIR`, else `<state>/credentials`.
    ///
    /// # Errors
    /// [`PathsError`] when home or working directory are needed and not known.
    pub fn resolve(env: &dyn Environment) -> Result<Self, PathsError> {
        let home = env.home();
        let current_dir = env.current_dir();
        let given = |name: &str| -> Result<Option<PathBuf>, PathsError> {
            env.var(name)
                .filter(|text| !text.trim().is_empty())
                .map(|text| expand(name, &text, home.as_deref(), current_dir.as_deref()))
                .transpose()
        };
        let state_dir = match given("OPENCLAW_STATE_DIR")? {
            Some(dir) => dir,
            None => home.as_ref().ok_or(PathsError::NoHome)?.join(".openclaw"),
        };
        let config_file = given("OPENCLAW_CONFIG_PATH")?.unwrap_or_else(|| state_dir.join("openclaw.json"));
        let oauth_dir = given("OPENCLAW_OAUTH_DIR")?.unwrap_or_else(|| state_dir.join("credentials"));
        let main_dir = match given("OPENCLAW_AGENT_DIR")? {
            Some(dir) => Some(dir),
            None => given("PI_CODING_AGENT_DIR")?,
        };
        Ok(Self {
            home,
            current_dir,
            state_dir,
            config_file,
            oauth_dir,
            main_from_env: main_dir.is_some(),
            agent_dirs: main_dir.map(|dir| (AgentId::main(), dir)).into_iter().collect(),
        })
    }

    /// The layout of another program's state directory, whatever this process's own is: an import's source. Only the
    /// home and the working directory come from the environment; `config_file` is the config that stands there.
    #[must_use]
    pub fn of_dir(env: &dyn Environment, state_dir: PathBuf, config_file: PathBuf) -> Self {
        Self {
            home: env.home(),
            current_dir: env.current_dir(),
            oauth_dir: state_dir.join("credentials"),
            state_dir,
            config_file,
            agent_dirs: BTreeMap::new(),
            main_from_env: false,
        }
    }

    /// Adds the `agents.list[].agentDir` of the config (spec.md 1.4). The environment's directory for `main` stays.
    ///
    /// # Errors
    /// As for [`Paths::expand`].
    pub fn with_agent_dirs<'a>(
        mut self,
        dirs: impl IntoIterator<Item = (&'a AgentId, &'a str)>,
    ) -> Result<Self, PathsError> {
        for (agent, text) in dirs {
            let dir = self.expand("agents.list[].agentDir", text)?;
            if !(agent.is_main() && self.main_from_env) {
                self.agent_dirs.insert(agent.clone(), dir);
            }
        }
        Ok(self)
    }

    /// A path as users write it (spec.md 1.2): a leading `~` is the home directory, a relative path counts from the
    /// working directory. `name` says in errors where the text stood.
    ///
    /// # Errors
    /// [`PathsError`] when home or working directory are needed and not known.
    pub fn expand(&self, name: &str, text: &str) -> Result<PathBuf, PathsError> {
        expand(name, text, self.home.as_deref(), self.current_dir.as_deref())
    }

    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// `openclaw.json`.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config_file
    }

    /// The legacy `credentials/oauth.json` (spec.md 1.6).
    #[must_use]
    pub fn oauth_file(&self) -> PathBuf {
        self.oauth_dir.join("oauth.json")
    }

    /// The shared variables file `.env` (spec.md 1.8).
    #[must_use]
    pub fn env_file(&self) -> PathBuf {
        self.state_dir.join(".env")
    }

    /// The agent's own directory, `agents/<id>/agent` unless overridden.
    #[must_use]
    pub fn agent_dir(&self, agent: &AgentId) -> PathBuf {
        self.agent_dirs
            .get(agent)
            .cloned()
            .unwrap_or_else(|| self.agent_root(agent).join("agent"))
    }

    /// `auth-profiles.json` of the agent.
    #[must_use]
    pub fn profiles_file(&self, agent: &AgentId) -> PathBuf {
        self.agent_dir(agent).join("auth-profiles.json")
    }

    /// `auth-state.json` of the agent.
    #[must_use]
    pub fn state_file(&self, agent: &AgentId) -> PathBuf {
        self.agent_dir(agent).join("auth-state.json")
    }

    /// The legacy `auth.json` of the agent.
    #[must_use]
    pub fn legacy_auth_file(&self, agent: &AgentId) -> PathBuf {
        self.agent_dir(agent).join("auth.json")
    }

    /// The agent's `sessions/sessions.json`.
    #[must_use]
    pub fn sessions_file(&self, agent: &AgentId) -> PathBuf {
        self.agent_root(agent).join("sessions").join("sessions.json")
    }

    /// The agent's default workspace.
    #[must_use]
    pub fn workspace_dir(&self, agent: &AgentId) -> PathBuf {
        self.agent_root(agent).join("workspace")
    }

    /// The agents that have a directory `agents/<id>/agent`, and those whose directory was set elsewhere; sorted.
    /// Names that are not ids as they stand are skipped.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn agents_on_disk(&self, files: &dyn Files) -> std::io::Result<Vec<AgentId>> {
        let root = self.state_dir.join("agents");
        let mut found: Vec<AgentId> = self.agent_dirs.keys().cloned().collect();
        for name in files.list(&root)? {
            let Some(name) = name.to_str() else { continue };
            let agent = AgentId::normalise(name);
            let is_agent = agent.as_str() == name
                && files
                    .stat(&root.join(name).join("agent"))?
                    .is_some_and(|stamp| stamp.is_dir);
            if is_agent {
                found.push(agent);
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The folder that only tokensink uses.
    #[must_use]
    pub fn own_dir(&self) -> PathBuf {
        self.state_dir.join("tokensink")
    }

    /// `tokensink/config.toml`.
    #[must_use]
    pub fn settings_file(&self) -> PathBuf {
        self.own_dir().join("config.toml")
    }

    /// Provider definitions of the user.
    #[must_use]
    pub fn providers_dir(&self) -> PathBuf {
        self.own_dir().join("providers")
    }

    /// Programs of provider plugins, a directory and a record for each.
    #[must_use]
    pub fn plugins_dir(&self) -> PathBuf {
        self.own_dir().join("plugins")
    }

    /// Refresh records.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.own_dir().join("journal")
    }

    /// Our kernel locks; its files are never removed.
    #[must_use]
    pub fn locks_dir(&self) -> PathBuf {
        self.own_dir().join("locks")
    }

    /// Our typed records.
    #[must_use]
    pub fn own_state_dir(&self) -> PathBuf {
        self.own_dir().join("state")
    }

    /// Socket and pid.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.own_dir().join("run")
    }

    /// The audit trail.
    #[must_use]
    pub fn audit_file(&self) -> PathBuf {
        self.own_dir().join("audit.jsonl")
    }

    /// The kernel lock that admits one holder per spend key (design: Refresh, step 4).
    #[must_use]
    pub fn admission_lock(&self) -> PathBuf {
        self.locks_dir().join("admission")
    }

    /// The kernel lock of a file of the state directory, named after its real path.
    #[must_use]
    pub fn file_lock(&self, real_path: &Path) -> PathBuf {
        let hash = hash_hex(&[real_path.as_os_str().as_encoded_bytes()]);
        self.locks_dir().join(format!("file-{hash}"))
    }

    /// The refresh lock of a grant: `locks/oauth-refresh/sha256-<hex>`, with hex = SHA-256 of provider, NUL and
    /// profile id, so that OpenClaw and we meet at the same name (openclaw-live.md 6). The kernel lock is taken on
    /// this file, OpenClaw's is the same name with `.lock` appended: see [`lock_sibling`].
    #[must_use]
    pub fn refresh_lock(&self, provider: &ProviderId, profile: &ProfileId) -> PathBuf {
        let hash = hash_hex(&[provider.as_str().as_bytes(), b"\0", profile.as_str().as_bytes()]);
        self.state_dir
            .join("locks")
            .join("oauth-refresh")
            .join(format!("sha256-{hash}"))
    }

    fn agent_root(&self, agent: &AgentId) -> PathBuf {
        self.state_dir.join("agents").join(agent.as_str())
    }
}

/// `<path>.lock`.
#[must_use]
pub fn lock_sibling(path: &Path) -> PathBuf {
    with_suffix(path, ".lock")
}

/// `path` with `suffix` appended to its last part.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// SHA-256 of the parts in sequence, as lower-case hex.
pub(crate) fn hash_hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// The path with every link resolved as far as it exists; the missing rest is appended as it stands. A file that
/// is created later has the same real path as before.
///
/// # Errors
/// As the system gives them, other than `NotFound`; for a cycle of links the system's `ELOOP`.
pub fn real_path(files: &dyn Files, path: &Path) -> std::io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match files.canonical(existing) {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |real, part| real.join(part))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                existing = parent;
            }
            _ => return Ok(path.to_owned()),
        }
    }
}

/// The path with the links of its directory resolved and its own name as it stands: where OpenClaw puts the
/// `.lock` file of a store that is itself a link.
///
/// # Errors
/// As for [`real_path`].
pub(crate) fn real_dir_path(files: &dyn Files, path: &Path) -> std::io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(dir), Some(name)) => Ok(real_path(files, dir)?.join(name)),
        _ => real_path(files, path),
    }
}

fn expand(name: &str, text: &str, home: Option<&Path>, cwd: Option<&Path>) -> Result<PathBuf, PathsError> {
    let text = text.trim();
    let path = match text.strip_prefix('~') {
        Some("") => home.ok_or(PathsError::NoHome)?.to_owned(),
        Some(rest) if rest.starts_with(['/', '\\']) => home
            .ok_or(PathsError::NoHome)?
            .join(rest.trim_start_matches(['/', '\\'])),
        Some(_) | None => PathBuf::from(text),
    };
    let path = if path.is_absolute() {
        path
    } else {
        let cwd = cwd.ok_or_else(|| PathsError::Relative {
            name: name.to_owned(),
            text: text.to_owned(),
        })?;
        cwd.join(path)
    };
    Ok(without_dots(&path))
}

/// Removes `.` and resolves `..` by name, as OpenClaw does when it makes a path absolute.
fn without_dots(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Env(Vec<(&'static str, &'static str)>);

    impl Environment for Env {
        fn var(&self, name: &str) -> Option<String> {
            let found = self.0.iter().find(|(known, _)| *known == name)?;
            Some(found.1.trim().to_owned()).filter(|text| !text.is_empty())
        }
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
        fn home(&self) -> Option<PathBuf> {
            Some(PathBuf::from("/home/u"))
        }
        fn current_dir(&self) -> Option<PathBuf> {
            Some(PathBuf::from("/cwd"))
        }
    }

    fn paths(vars: &[(&'static str, &'static str)]) -> Paths {
        Paths::resolve(&Env(vars.to_vec())).unwrap()
    }

    #[test]
    fn state_dir_and_config() {
        let cases = [
            (&[][..], "/home/u/.openclaw", "/home/u/.openclaw/openclaw.json"),
            (
                &[("OPENCLAW_STATE_DIR", "  ")],
                "/home/u/.openclaw",
                "/home/u/.openclaw/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "~/s")],
                "/home/u/s",
                "/home/u/s/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "a/../b/.")],
                "/cwd/b",
                "/cwd/b/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "/s"), ("OPENCLAW_CONFIG_PATH", "~")],
                "/s",
                "/home/u",
            ),
        ];
        for (vars, state, config) in cases {
            let paths = paths(vars);
            assert_eq!(paths.state_dir(), Path::new(state), "{vars:?}");
            assert_eq!(paths.config_file(), Path::new(config), "{vars:?}");
        }
    }

    #[test]
    fn agent_dirs() {
        let main = AgentId::main();
        let work = AgentId::normalise("work");
        let from_env = paths(&[("PI_CODING_AGENT_DIR", "/pi"), ("OPENCLAW_STATE_DIR", "/s")]);
        assert_eq!(from_env.agent_dir(&main), Path::new("/pi"));
        let both = paths(&[("PI_CODING_AGENT_DIR", "/pi"), ("OPENCLAW_AGENT_DIR", "/oc")])
            .with_agent_dirs([(&main, "/config"), (&work, "~/w")])
            .unwrap();
        assert_eq!(both.agent_dir(&main), Path::new("/oc"));
        assert_eq!(
            both.profiles_file(&work),
            Path::new("/home/u/w/auth-profiles.json")
        );
        let plain = paths(&[("OPENCLAW_STATE_DIR", "/s")]);
        assert_eq!(
            plain.state_file(&work),
            Path::new("/s/agents/work/agent/auth-state.json")
        );
        assert_eq!(plain.oauth_file(), Path::new("/s/credentials/oauth.json"));
        assert_eq!(
            paths(&[("OPENCLAW_OAUTH_DIR", "/o")]).oauth_file(),
            Path::new("/o/oauth.json")
        );
    }

    #[test]
    fn refresh_lock_is_named_as_openclaw_names_it() {
        let paths = paths(&[("OPENCLAW_STATE_DIR", "/s")]);
        let provider = ProviderId::parse("anthropic").unwrap();
        let profile = ProfileId::parse("anthropic:work").unwrap();
        let lock = paths.refresh_lock(&provider, &profile);
        let name = lock.file_name().unwrap().to_str().unwrap();
        // Measured on a running OpenClaw: openclaw-live.md 6.
        assert!(
            name.starts_with("sha256-4d19937b") && name.ends_with("4257"),
            "{name}"
        );
        assert!(lock_sibling(&lock).to_str().unwrap().ends_with("4257.lock"));
    }
}
