//! Plugins with a program: what is copied when one is installed, and the proof that it is still what was installed.
//!
//! A package is a directory with exactly the files that its manifest names, and beside it a record of their SHA-256
//! that is written last. A package that differs from its record in any file is not run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokensink_providers::plugin::manifest::{MANIFEST_NAME, Manifest};
use tokensink_providers::{Definition, Flow, UserFile};
use tokensink_types::ProviderId;

use super::plan::{FileFate, PlannedFile, PlannedProgram, PluginPlan};
use super::{PluginInfo, PluginKind, PluginState, unreadable};
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// Permission bits of a program.
const PROGRAM_MODE: u32 = 0o700;
/// Permission bits of everything that is only read.
const FILE_MODE: u32 = 0o600;
/// Largest file of a package in bytes.
const FILE_BYTES: u64 = 16 * 1024 * 1024;
/// What Python leaves beside its modules; not ours to judge.
const PYTHON_CACHE: &str = "__pycache__";

/// What was installed: `plugins/<id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Installed {
    /// The layout of this file.
    version: u32,
    id: String,
    #[serde(rename = "pluginVersion")]
    plugin_version: String,
    providers: Vec<String>,
    /// SHA-256 of every file in lower-case hex.
    files: BTreeMap<String, String>,
}

/// An installed plugin whose files are what was installed.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    pub(crate) manifest: Manifest,
    pub(crate) dir: PathBuf,
    providers: Vec<String>,
}

impl Package {
    /// A plugin that is tried out where it lies, without being installed.
    pub(super) fn in_place(manifest: Manifest, dir: PathBuf, providers: Vec<String>) -> Self {
        Self {
            manifest,
            dir,
            providers,
        }
    }

    /// Does the plugin say that it serves this provider? It is told the secrets of no other.
    pub(crate) fn serves(&self, provider: &ProviderId) -> bool {
        self.providers.iter().any(|id| id == provider.as_str())
    }
}

/// Why a plugin's program is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable {
    pub(crate) reason: String,
    pub(crate) fix: Option<String>,
}

impl Unusable {
    fn again(id: &str, reason: String) -> Self {
        Self {
            reason,
            fix: Some(format!(
                "look at what changed, then: tokensink plugins install <directory of {id}> --replace"
            )),
        }
    }
}

impl Sink {
    /// The installed plugin with this id, if its files are still what was installed.
    pub(crate) fn package(&self, id: &str) -> std::result::Result<Package, Unusable> {
        let Some(installed) = self.installed(id)? else {
            return Err(Unusable {
                reason: format!("the plugin {id} is not installed"),
                fix: Some(format!("tokensink plugins install <directory of {id}>")),
            });
        };
        let dir = self.package_dir(id);
        for (file, hash) in &installed.files {
            let bytes = self.host().files.read(&dir.join(file)).map_err(|error| {
                Unusable::again(id, format!("plugin {id}: {file} cannot be read: {error}"))
            })?;
            if sha256(&bytes) != *hash {
                let reason =
                    format!("plugin {id}: {file} was changed after it was installed, so it is not run");
                return Err(Unusable::again(id, reason));
            }
        }
        let strangers = self.strangers(&dir, &installed.files.keys().cloned().collect());
        if let Some(stranger) = strangers.first() {
            let reason = format!(
                "plugin {id}: {} was not there when it was installed, so it is not run",
                stranger.display()
            );
            return Err(Unusable::again(id, reason));
        }
        let manifest = self.host().files.read(&dir.join(MANIFEST_NAME)).ok();
        let manifest = manifest.and_then(|bytes| Manifest::parse(&String::from_utf8(bytes).ok()?).ok());
        let manifest = manifest.filter(|manifest| manifest.id == id).ok_or_else(|| {
            // It held when it was installed, by an older or newer tokensink.
            Unusable::again(
                id,
                format!("plugin {id}: its manifest does not hold for this tokensink"),
            )
        })?;
        Ok(Package {
            manifest,
            dir,
            providers: installed.providers,
        })
    }

    fn installed(&self, id: &str) -> std::result::Result<Option<Installed>, Unusable> {
        let path = self.record_path(id);
        let bytes = match self.host().files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let reason = format!("{} cannot be read: {error}", path.display());
                return Err(Unusable { reason, fix: None });
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(installed) => Ok(Some(installed)),
            Err(error) => {
                let reason = format!("{} does not parse: {error}", path.display());
                Err(Unusable::again(id, reason))
            }
        }
    }

    pub(super) fn package_dir(&self, id: &str) -> PathBuf {
        self.paths().plugins_dir().join(id)
    }

    pub(super) fn record_path(&self, id: &str) -> PathBuf {
        self.paths().plugins_dir().join(format!("{id}.json"))
    }

    /// Files below `dir` that are not among `known`.
    pub(super) fn strangers(&self, dir: &Path, known: &BTreeSet<String>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(here) = open.pop() {
            for name in self.host().files.list(&here).unwrap_or_default() {
                if name == PYTHON_CACHE {
                    continue;
                }
                let path = here.join(name);
                let stamp = self.host().files.stat(&path).ok().flatten();
                if stamp.is_some_and(|stamp| stamp.is_dir) {
                    open.push(path);
                    continue;
                }
                let inside = path.strip_prefix(dir).unwrap_or(&path);
                if !known.contains(&*inside.to_string_lossy()) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// The installed plugins with a program, by id.
    pub(super) fn packages(&self) -> Result<Vec<PluginInfo>> {
        let dir = self.paths().plugins_dir();
        let names = self
            .host()
            .files
            .list(&dir)
            .map_err(|error| unreadable(&dir, &error))?;
        let ids = names
            .iter()
            .filter_map(|name| name.to_str()?.strip_suffix(".json"));
        Ok(ids.map(|id| self.package_info(id)).collect())
    }

    fn package_info(&self, id: &str) -> PluginInfo {
        let installed = self.installed(id).ok().flatten();
        let providers: Vec<ProviderId> = installed
            .iter()
            .flat_map(|installed| &installed.providers)
            .filter_map(|id| ProviderId::parse(id).ok())
            .collect();
        PluginInfo {
            id: id.to_owned(),
            kind: PluginKind::Program,
            version: installed.map(|installed| installed.plugin_version),
            changes_builtin: providers.iter().any(|id| self.registry().is_builtin(id)),
            providers,
            path: self.package_dir(id),
            state: match self.package(id) {
                Ok(_) => PluginState::Ok,
                Err(unusable) => PluginState::Broken(unusable.reason),
            },
        }
    }

    pub(super) fn read_manifest(&self, path: &Path) -> Result<Manifest> {
        Manifest::parse(&self.read_text(path)?).map_err(|error| {
            let message = format!("{} {error}", path.display());
            SinkError::new(ErrorKind::Failed, "bad_manifest", message).with_fix(format!(
                "correct line {} of {}",
                error.line,
                path.display()
            ))
        })
    }

    /// Reads and checks a directory with a manifest.
    pub(super) fn plan_program(&self, source: &Path) -> Result<PluginPlan> {
        let path = source.join(MANIFEST_NAME);
        let text = self.read_text(&path)?;
        let manifest = Manifest::parse(&text).map_err(|error| {
            let message = format!("{} {error}", path.display());
            SinkError::new(ErrorKind::Failed, "bad_manifest", message).with_fix(format!(
                "correct line {} of {}",
                error.line,
                path.display()
            ))
        })?;
        let mut plan = PluginPlan {
            id: manifest.id.clone(),
            kind: PluginKind::Program,
            source: source.to_owned(),
            providers: Vec::new(),
            files: Vec::new(),
            removes: Vec::new(),
            program: None,
            taken: Vec::new(),
            left: Vec::new(),
        };
        let mut definitions = Vec::new();
        let mut installed = Installed {
            version: 1,
            id: manifest.id.clone(),
            plugin_version: manifest.version.clone(),
            providers: Vec::new(),
            files: BTreeMap::new(),
        };
        for name in &manifest.providers {
            let file = UserFile {
                path: source.join(name),
                text: self.read_text(&source.join(name))?,
            };
            let definition = self.drafted(&file)?;
            serves_its_own(&manifest, &definition, &file.path)?;
            installed.providers.push(definition.id.as_str().to_owned());
            definitions.push(self.planned_definition(&definition.id, file.text)?);
            plan.providers.push(self.planned_provider(&definition));
        }
        self.check_env(&manifest, &plan, &path)?;
        for (name, is_program) in manifest.all_files() {
            let bytes = self.read_part(&source.join(name))?;
            installed.files.insert(name.to_owned(), sha256(&bytes));
            let mode = if is_program { PROGRAM_MODE } else { FILE_MODE };
            let path = self.package_dir(&manifest.id).join(name);
            plan.files.push(self.planned_part(path, bytes, mode)?);
        }
        // The record is written when everything that it speaks of is there, and definitions that need it after it.
        let record = serde_json::to_vec_pretty(&installed)
            .map_err(|error| SinkError::new(ErrorKind::Failed, "bad_manifest", error.to_string()))?;
        plan.files
            .push(self.planned_part(self.record_path(&manifest.id), record, FILE_MODE)?);
        plan.files.extend(definitions);
        let known = installed.files.keys().cloned().collect();
        plan.removes = self.strangers(&self.package_dir(&manifest.id), &known);
        plan.program = Some(PlannedProgram {
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            actions: manifest.actions.iter().map(|action| action.as_str()).collect(),
            env: manifest.env.clone(),
            settings: manifest.settings.keys().cloned().collect(),
        });
        Ok(plan)
    }

    fn read_part(&self, path: &Path) -> Result<Vec<u8>> {
        let files = &*self.host().files;
        let stamp = files.stat(path).map_err(|error| unreadable(path, &error))?;
        let size = stamp.map_or(0, |stamp| stamp.size);
        if size > FILE_BYTES {
            let message = format!(
                "{} has {size} bytes; a plugin's file may have {FILE_BYTES}",
                path.display()
            );
            return Err(SinkError::new(ErrorKind::Failed, "bad_manifest", message));
        }
        files.read(path).map_err(|error| unreadable(path, &error))
    }

    fn planned_part(&self, path: PathBuf, bytes: Vec<u8>, mode: u32) -> Result<PlannedFile> {
        let fate = match self.host().files.read(&path) {
            Ok(there) if there == bytes => FileFate::Same,
            Ok(_) => FileFate::Different,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => FileFate::New,
            Err(error) => return Err(unreadable(&path, &error)),
        };
        Ok(PlannedFile {
            path,
            fate,
            bytes,
            mode,
            keeps_old: false,
        })
    }

    /// A plugin may not ask for a variable that holds another provider's secret.
    fn check_env(&self, manifest: &Manifest, plan: &PluginPlan, path: &Path) -> Result<()> {
        let own = |provider: &ProviderId| plan.providers.iter().any(|planned| planned.id == *provider);
        let others = self.registry().env_names();
        let taken = manifest.env.iter().find_map(|name| {
            others
                .iter()
                .find(|env| env.variable.name == *name && !own(&env.provider))
        });
        let Some(taken) = taken else { return Ok(()) };
        let message = format!(
            "{}: env: {} holds a credential of {}, which is none of this plugin's business",
            path.display(),
            taken.variable.name,
            taken.provider
        );
        Err(SinkError::new(ErrorKind::Failed, "foreign_secret", message))
    }
}

/// A definition of a plugin has a method that its program serves, and none that another plugin's does.
fn serves_its_own(manifest: &Manifest, definition: &Definition, path: &Path) -> Result<()> {
    let plugins: Vec<&str> = definition
        .methods
        .iter()
        .filter_map(|method| match &method.flow {
            Flow::Program(flow) => Some(flow.plugin.as_str()),
            _ => None,
        })
        .collect();
    let message = match plugins.iter().find(|plugin| **plugin != manifest.id) {
        Some(other) => format!(
            "{}: a method has plugin = {other:?}, but this plugin is {:?}",
            path.display(),
            manifest.id
        ),
        None if plugins.is_empty() => format!(
            "{}: no method has kind = \"program\", so the program is of no use",
            path.display()
        ),
        None => return Ok(()),
    };
    Err(SinkError::new(ErrorKind::Failed, "bad_manifest", message)
        .with_fix(format!("correct {}", path.display())))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
