//! What installing a plugin would do, found out without doing it.

use std::path::{Path, PathBuf};

use tokensink_providers::plugin::{manifest, openclaw};
use tokensink_providers::{Definition, UserFile};
use tokensink_types::ProviderId;

use super::{PluginKind, unreadable};
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// A plugin that was read and checked, and what installing it would do. Nothing has been written.
#[derive(Debug, Clone)]
pub struct PluginPlan {
    /// The plugin's id.
    pub id: String,
    /// What it is made of.
    pub kind: PluginKind,
    /// Where it was read.
    pub source: PathBuf,
    /// Its providers.
    pub providers: Vec<PlannedProvider>,
    /// The files that it becomes.
    pub files: Vec<PlannedFile>,
    /// Files in its directory that do not belong to it and go.
    pub removes: Vec<PathBuf>,
    /// The program, where there is one.
    pub program: Option<PlannedProgram>,
    /// What was taken over from a foreign manifest, one line each.
    pub taken: Vec<String>,
    /// What of a foreign manifest was left out and why, one line each.
    pub left: Vec<String>,
}

/// A provider that a plugin brings or changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedProvider {
    /// Its id.
    pub id: ProviderId,
    /// Its name.
    pub name: String,
    /// Its login methods.
    pub methods: Vec<String>,
    /// Every host that is sent a secret.
    pub hosts: Vec<String>,
    /// True when it changes a provider that is built in.
    pub changes_builtin: bool,
}

/// A plugin's program, as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedProgram {
    /// The plugin's own version.
    pub version: String,
    /// A line for people, or empty.
    pub description: String,
    /// What it can be asked for.
    pub actions: Vec<&'static str>,
    /// The variables that it is given.
    pub env: Vec<String>,
    /// The settings that the user may make.
    pub settings: Vec<String>,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFate {
    /// It is not there yet.
    New,
    /// It is there just so.
    Same,
    /// Another one is there, which is replaced only if that is asked for.
    Different,
}

impl FileFate {
    /// The word in lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Same => "same",
            Self::Different => "different",
        }
    }
}

/// A file of a plugin in our folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Where it goes.
    pub path: PathBuf,
    /// What becomes of it.
    pub fate: FileFate,
    /// What it holds.
    pub(super) bytes: Vec<u8>,
    /// Its permission bits.
    pub(super) mode: u32,
    /// What it replaces is kept beside it.
    pub(super) keeps_old: bool,
}

impl PluginPlan {
    /// True when everything is there just so already.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.removes.is_empty() && self.files.iter().all(|file| file.fate == FileFate::Same)
    }

    /// The files in whose place others are now.
    #[must_use]
    pub fn conflicts(&self) -> Vec<&Path> {
        let different = self.files.iter().filter(|file| file.fate == FileFate::Different);
        different.map(|file| file.path.as_path()).collect()
    }
}

/// Permission bits of everything that is only read.
const FILE_MODE: u32 = 0o600;

impl Sink {
    /// Reads and checks the plugin at `source`, an absolute path: a provider definition, a directory with one, a
    /// directory with `plugin.toml` and a program, or one with `openclaw.plugin.json`. Nothing is written.
    ///
    /// # Errors
    /// A usage error when nothing at `source` is a plugin, else when it cannot be read or does not hold; the message
    /// names the line.
    pub fn plan_plugin(&self, source: &Path) -> Result<PluginPlan> {
        let stamp = self.host().files.stat(source);
        let stamp = stamp
            .map_err(|error| unreadable(source, &error))?
            .ok_or_else(|| {
                let message = format!("there is nothing at {}", source.display());
                SinkError::new(ErrorKind::Usage, "no_plugin", message)
            })?;
        if !stamp.is_dir {
            return match (source.file_name().and_then(|name| name.to_str()), source.parent()) {
                (Some(openclaw::MANIFEST_NAME), _) => self.plan_openclaw(source),
                (Some(manifest::MANIFEST_NAME), Some(dir)) => self.plan_program(dir),
                _ => self.plan_definition(source),
            };
        }
        let names = self
            .host()
            .files
            .list(source)
            .map_err(|error| unreadable(source, &error))?;
        if names.iter().any(|name| name == manifest::MANIFEST_NAME) {
            return self.plan_program(source);
        }
        if names.iter().any(|name| name == openclaw::MANIFEST_NAME) {
            return self.plan_openclaw(&source.join(openclaw::MANIFEST_NAME));
        }
        let definitions: Vec<PathBuf> = names
            .into_iter()
            .map(|name| source.join(name))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        match definitions.as_slice() {
            [only] => self.plan_definition(only),
            [] => Err(no_plugin(
                source,
                "holds no plugin.toml, no provider definition (*.toml) and no openclaw.plugin.json",
            )),
            _ => Err(no_plugin(
                source,
                "holds several definitions; name the file to install",
            )),
        }
    }

    fn plan_definition(&self, source: &Path) -> Result<PluginPlan> {
        let file = UserFile {
            path: source.to_owned(),
            text: self.read_text(source)?,
        };
        let definition = self.drafted(&file)?;
        Ok(PluginPlan {
            id: definition.id.as_str().to_owned(),
            kind: PluginKind::Definition,
            source: source.to_owned(),
            files: vec![self.planned_definition(&definition.id, file.text)?],
            providers: vec![self.planned_provider(&definition)],
            removes: Vec::new(),
            program: None,
            taken: Vec::new(),
            left: Vec::new(),
        })
    }

    fn plan_openclaw(&self, source: &Path) -> Result<PluginPlan> {
        let text = self.read_text(source)?;
        let manifest = openclaw::read(&text, self.registry()).map_err(|error| {
            let message = format!("{}: {error}", source.display());
            SinkError::new(ErrorKind::Failed, "bad_manifest", message)
        })?;
        let mut plan = PluginPlan {
            id: manifest.id,
            kind: PluginKind::OpenClaw,
            source: source.to_owned(),
            providers: Vec::new(),
            files: Vec::new(),
            removes: Vec::new(),
            program: None,
            taken: manifest.taken,
            left: manifest.left,
        };
        for drafted in manifest.definitions {
            let file = UserFile {
                path: source.to_owned(),
                text: drafted.text,
            };
            let definition = self.drafted(&file)?;
            plan.files
                .push(self.planned_definition(&definition.id, file.text)?);
            plan.providers.push(self.planned_provider(&definition));
        }
        Ok(plan)
    }

    pub(super) fn planned_provider(&self, definition: &Definition) -> PlannedProvider {
        PlannedProvider {
            id: definition.id.clone(),
            name: definition.name.clone(),
            methods: definition
                .methods
                .iter()
                .map(|method| method.id.as_str().to_owned())
                .collect(),
            hosts: definition.secret_hosts(),
            changes_builtin: self.registry().is_builtin(&definition.id),
        }
    }

    /// Where the definition of a provider goes: over the file that defines it now, else under its own name.
    pub(super) fn planned_definition(&self, id: &ProviderId, text: String) -> Result<PlannedFile> {
        let known = self.definition_files()?;
        let own = known.into_iter().find(|file| file.id.as_ref() == Some(id));
        let (path, fate) = match own {
            Some(file) if file.text == text => (file.path, FileFate::Same),
            Some(file) => (file.path, FileFate::Different),
            None => {
                let path = self.paths().providers_dir().join(format!("{id}.toml"));
                let there = self.host().files.stat(&path);
                let there = there.map_err(|error| unreadable(&path, &error))?;
                let fate = there.map_or(FileFate::New, |_| FileFate::Different);
                (path, fate)
            }
        };
        Ok(PlannedFile {
            path,
            fate,
            bytes: text.into_bytes(),
            mode: FILE_MODE,
            keeps_old: true,
        })
    }
}

fn no_plugin(source: &Path, why: &str) -> SinkError {
    SinkError::new(
        ErrorKind::Usage,
        "no_plugin",
        format!("{} {why}", source.display()),
    )
}
