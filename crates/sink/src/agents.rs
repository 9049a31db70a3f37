//! Agents: the list, adding and deleting (spec.md 15.1 to 15.5).
//!
//! An agent exists by its entry in `openclaw.json` or by its directory. Deleting one removes the entry and moves its
//! directory to the trash folder of the state dir: a login is never deleted with it, and never moved out of reach.

pub(crate) mod bindings;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokensink_host::{Files, atomic};
use tokensink_store::{AgentEntry, Config, Paths, PathsError, real_path};
use tokensink_types::{AgentId, UnixMillis};

use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::report::{AgentAdd, AgentAdded, AgentDeleted, AgentInfo};
use crate::sink::Sink;

/// Mode of the directories of an agent.
const DIR_MODE: u32 = 0o700;
/// How many names are tried for two agents that are deleted in one second.
const TRASH_NAMES_MAX: u32 = 100;

impl Sink {
    /// All agents: those of the config in its order, then those that only have a directory.
    ///
    /// # Errors
    /// When the config or the state dir cannot be read.
    pub fn agents(&self) -> Result<Vec<AgentInfo>> {
        let config = self.config()?;
        let paths = self.paths_by(&config)?;
        let mut agents: Vec<AgentInfo> = Vec::new();
        for entry in config.agents() {
            if !agents.iter().any(|known| known.id == entry.id) {
                agents.push(self.agent_info(&config, &paths, &entry.id, Some(&entry))?);
            }
        }
        let mut on_disk = self.agents_on_disk()?;
        if !on_disk.iter().any(AgentId::is_main) {
            on_disk.insert(0, AgentId::main());
        }
        for id in on_disk {
            if !agents.iter().any(|known| known.id == id) {
                agents.push(self.agent_info(&config, &paths, &id, None)?);
            }
        }
        Ok(agents)
    }

    /// Adds an agent to the config and makes its directories, with mode 0700. One that has a directory and no entry
    /// keeps what is in the directory. The bindings that are asked for are added as by [`Sink::bind`].
    ///
    /// A sink that was opened before keeps looking for the agent's logins in the default directory when another
    /// `agent_dir` is given; open a new one.
    ///
    /// # Errors
    /// A usage error for a blank or reserved name, an agent that is in the config, a directory that is another
    /// agent's, or a binding that is none; otherwise when the directories cannot be made or `openclaw.json` cannot be changed.
    pub fn agent_add(&self, request: &AgentAdd) -> Result<AgentAdded> {
        self.require_writable("adding an agent")?;
        let config = self.config()?;
        let id = new_id(&request.name, &config)?;
        let wanted = bindings::wanted(&config, &id, &request.bindings)?;
        let paths = self.paths_by(&config)?;
        let workspace = match &request.workspace {
            Some(dir) => absolute(&paths, "--workspace", dir)?,
            None => paths.workspace_dir(&id),
        };
        let agent_dir = request
            .agent_dir
            .as_deref()
            .map(|dir| absolute(&paths, "--agent-dir", dir))
            .transpose()?;
        if let Some(dir) = &agent_dir {
            self.refuse_shared_dir(&id, dir)?;
        }
        let model = request
            .model
            .as_deref()
            .map(|model| self.model_key(&config, model))
            .transpose()?;
        let mut fields = vec![
            ("name", json!(request.name.trim())),
            ("workspace", text_of("--workspace", &workspace)?),
        ];
        if let Some(dir) = &agent_dir {
            fields.push(("agentDir", text_of("--agent-dir", dir)?));
        }
        fields.extend(model.map(|model| ("model", json!(model))));
        let home = agent_dir.unwrap_or_else(|| paths.agent_dir(&id));
        for dir in [&home, &workspace] {
            atomic::ensure_dir(&*self.host().files, dir, DIR_MODE).map_err(|error| no_dir(dir, &error))?;
        }
        let bindings = self.edit_config(|editor| {
            editor.add_agent(&id, &fields)?;
            bindings::bind(editor, &id, &wanted)
        })?;
        let config = self.config()?;
        let entry = config.agents().into_iter().find(|entry| entry.id == id);
        let agent = self.agent_info(&config, &self.paths_by(&config)?, &id, entry.as_ref())?;
        Ok(AgentAdded { agent, bindings })
    }

    /// Deletes an agent: its entry in the config, the bindings that name it and, unless `keep_files`, its directory
    /// `agents/<id>`, which is moved to `trash/<id>-<UTC time>` in the state dir. A directory elsewhere in the state
    /// dir is moved as well if no other agent uses it; what lies outside of the state dir stays where it is. Its client
    /// keys are revoked.
    ///
    /// # Errors
    /// A usage error for `main` and for an unknown agent; otherwise when `openclaw.json` cannot be changed or a
    /// directory cannot be moved. The command can then be repeated.
    pub fn agent_delete(&self, id: &str, keep_files: bool) -> Result<AgentDeleted> {
        self.require_writable("deleting an agent")?;
        let id = known_id(id, &self.agents()?)?;
        let before = self.config()?;
        let paths = self.paths_by(&before)?;
        let agent_dir = paths.agent_dir(&id);
        let others: Vec<PathBuf> = self
            .agents()?
            .into_iter()
            .filter(|agent| agent.id != id)
            .map(|agent| agent.agent_dir)
            .collect();
        // First, so that nobody calls as an agent that is half gone.
        self.revoke_keys_of(&id)?;
        self.edit_config(|editor| {
            bindings::remove_all(editor, &id);
            editor.remove_agent(&id);
            Ok(())
        })?;
        let moved_to = if keep_files {
            Vec::new()
        } else {
            self.move_to_trash(&id, &agent_dir, &others)?
        };
        Ok(AgentDeleted { id, moved_to })
    }

    fn agent_info(
        &self,
        config: &Config,
        paths: &Paths,
        id: &AgentId,
        entry: Option<&AgentEntry>,
    ) -> Result<AgentInfo> {
        let is_default = config.default_agent() == *id;
        // The workspace of `agents.defaults` is the default agent's; others would collide in it.
        let shared = || {
            config
                .at(&["agents", "defaults", "workspace"])
                .and_then(Value::as_str)
        };
        let own = entry.and_then(|entry| entry.workspace.as_deref());
        let workspace = match own.or_else(|| is_default.then(shared).flatten()) {
            Some(text) => paths
                .expand("agents.list[].workspace", text)
                .map_err(|error| bad_path(&error))?,
            None => paths.workspace_dir(id),
        };
        Ok(AgentInfo {
            id: id.clone(),
            name: entry.and_then(|entry| entry.name.clone()),
            workspace,
            agent_dir: paths.agent_dir(id),
            bindings: config
                .bindings()
                .iter()
                .filter(|binding| bindings::names(binding, id))
                .count(),
            is_default,
            model: entry.and_then(|entry| entry.model.primary.clone()),
            inherits: self.inherits(id),
        })
    }

    /// The paths by the config as it is now; the sink's own are by the config as it was at opening.
    fn paths_by(&self, config: &Config) -> Result<Paths> {
        let agents = config.agents();
        let dirs = agents
            .iter()
            .filter_map(|entry| Some((&entry.id, entry.agent_dir.as_deref()?)));
        self.plain_paths()?
            .with_agent_dirs(dirs)
            .map_err(|error| bad_path(&error))
    }

    fn plain_paths(&self) -> Result<Paths> {
        Paths::resolve(&*self.host().env).map_err(|error| bad_path(&error))
    }

    fn agents_on_disk(&self) -> Result<Vec<AgentId>> {
        self.plain_paths()?
            .agents_on_disk(&*self.host().files)
            .map_err(|error| {
                let dir = self.state_dir().join("agents");
                SinkError::new(
                    ErrorKind::Failed,
                    "io",
                    format!("cannot list {}: {error}", dir.display()),
                )
                .with_fix(format!("ls -ld {}", quoted(&dir.to_string_lossy())))
            })
    }

    /// Two agents in one directory would overwrite each other's logins (spec.md 15.3).
    fn refuse_shared_dir(&self, id: &AgentId, dir: &Path) -> Result<()> {
        let files = &*self.host().files;
        let real = |dir: &Path| real_path(files, dir).unwrap_or_else(|_| dir.to_owned());
        let wanted = real(dir);
        let agents = self.agents()?.into_iter();
        let Some(other) = agents
            .filter(|agent| agent.id != *id)
            .find(|agent| real(&agent.agent_dir) == wanted)
        else {
            return Ok(());
        };
        let message = format!("{} holds the logins of agent {} already", dir.display(), other.id);
        Err(
            SinkError::new(ErrorKind::Usage, "shared_agent_dir", message).with_fix(format!(
                "tokensink agents add {id} --agent-dir <another directory>"
            )),
        )
    }

    fn move_to_trash(&self, id: &AgentId, agent_dir: &Path, others: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let files = &*self.host().files;
        let root = self.state_dir().join("agents").join(id.as_str());
        let is_apart = |dir: &&Path| {
            !others
                .iter()
                .any(|other| other.starts_with(dir) || dir.starts_with(other))
        };
        let elsewhere = Some(agent_dir)
            .filter(|dir| !dir.starts_with(&root) && dir.starts_with(self.state_dir()))
            .filter(is_apart);
        let own = Some(root.as_path()).filter(is_apart);
        let mut moved = Vec::new();
        for dir in own.into_iter().chain(elsewhere) {
            let target = self.move_dir(files, id, dir).map_err(|error| {
                let message = format!(
                    "agent {id} is out of openclaw.json, but {} could not be moved to the trash folder: {error}",
                    dir.display()
                );
                SinkError::new(ErrorKind::Failed, "io", message)
                    .with_fix(format!("tokensink agents delete {id} --force"))
            })?;
            moved.extend(target);
        }
        Ok(moved)
    }

    /// Moves a directory to a new name in the trash folder; `None` when there is none.
    fn move_dir(&self, files: &dyn Files, id: &AgentId, dir: &Path) -> io::Result<Option<PathBuf>> {
        if files.stat(dir)?.is_none() {
            return Ok(None);
        }
        let trash = self.state_dir().join("trash");
        atomic::ensure_dir(files, &trash, DIR_MODE)?;
        let stamp = stamp_text(self.now());
        for number in 1..=TRASH_NAMES_MAX {
            let suffix = if number == 1 {
                String::new()
            } else {
                format!("-{number}")
            };
            let target = trash.join(format!("{id}-{stamp}{suffix}"));
            // A rename never takes the place of a directory with something in it.
            if files.stat(&target)?.is_some() {
                continue;
            }
            files.rename(dir, &target)?;
            for changed in [Some(trash.as_path()), dir.parent()].into_iter().flatten() {
                files.sync_dir(changed)?;
            }
            return Ok(Some(target));
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

fn new_id(name: &str, config: &Config) -> Result<AgentId> {
    let usage = |code, message: String| {
        Err(SinkError::new(ErrorKind::Usage, code, message).with_fix("tokensink agents add <another name>"))
    };
    if !name.chars().any(|c| c.is_ascii_alphanumeric() || c == '_') {
        return usage(
            "bad_agent_name",
            format!("{name:?} is no name for an agent; use letters and digits"),
        );
    }
    let id = AgentId::normalise(name);
    if id.is_main() {
        return usage(
            "reserved_agent",
            "\"main\" is reserved: every host has that agent already".to_owned(),
        );
    }
    if config.agents().iter().any(|entry| entry.id == id) {
        return usage("agent_exists", format!("agent \"{id}\" exists already"));
    }
    Ok(id)
}

fn known_id(text: &str, agents: &[AgentInfo]) -> Result<AgentId> {
    let id = AgentId::normalise(text);
    if text.trim().is_empty() || !agents.iter().any(|agent| agent.id == id) {
        let message = format!("there is no agent {:?}", text.trim());
        return Err(
            SinkError::new(ErrorKind::Usage, "unknown_agent", message).with_fix("tokensink agents list")
        );
    }
    if id.is_main() {
        let message = "agent \"main\" cannot be deleted: other agents inherit from it";
        return Err(SinkError::new(ErrorKind::Usage, "reserved_agent", message)
            .with_fix("tokensink models auth logout <profile> --agent main"));
    }
    Ok(id)
}

fn absolute(paths: &Paths, option: &str, dir: &Path) -> Result<PathBuf> {
    let text = dir.to_str().ok_or_else(|| not_text(option, dir))?;
    paths.expand(option, text).map_err(|error| bad_path(&error))
}

fn text_of(option: &str, dir: &Path) -> Result<Value> {
    dir.to_str()
        .map(|text| json!(text))
        .ok_or_else(|| not_text(option, dir))
}

fn not_text(option: &str, dir: &Path) -> SinkError {
    let message = format!(
        "{option}: {} is not UTF-8, so it cannot stand in openclaw.json",
        dir.display()
    );
    SinkError::new(ErrorKind::Usage, "bad_path", message)
        .with_fix(format!("{option} <a directory with a plain name>"))
}

fn bad_path(error: &PathsError) -> SinkError {
    SinkError::new(ErrorKind::Failed, "bad_path", error.to_string())
}

fn no_dir(dir: &Path, error: &io::Error) -> SinkError {
    // The error names the directory that could not be made.
    SinkError::new(ErrorKind::Failed, "io", error.to_string())
        .with_fix(format!("mkdir -p -m 700 {}", quoted(&dir.to_string_lossy())))
}

/// `yyyymmddThhmmssZ`.
fn stamp_text(now: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(now.0).map_or_else(
        |_| now.to_string(),
        |at| at.strftime("%Y%m%dT%H%M%SZ").to_string(),
    )
}
