//! Provider plugins: installing, listing and removing what other people wrote about a provider.
//!
//! A plugin is a provider definition, a directory with an OpenClaw manifest from which definitions are made, or a
//! program with a manifest of its own that logs in and renews. What is installed is a copy in our own folder; nothing of it is in force before its whole was checked and the user saw
//! where it sends secrets.

mod check;
mod conform;
mod install;
mod package;
mod plan;
#[cfg(test)]
mod program_tests;
mod session;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use tokensink_providers::{Definition, Problem, UserFile, draft};
use tokensink_types::ProviderId;

use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

pub use check::{CheckReport, Scenario};
pub use conform::CheckOptions;
pub(crate) use package::Unusable;
pub use plan::{FileFate, PlannedFile, PlannedProgram, PlannedProvider, PluginPlan};
pub(crate) use session::{About, Broken, Ended, Job, Session, Unsent};

/// What a plugin is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginKind {
    /// A provider definition in TOML.
    Definition,
    /// The manifest of an OpenClaw plugin, as far as it is data.
    OpenClaw,
    /// A program with its manifest and definitions.
    Program,
}

impl PluginKind {
    /// The word in lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Definition => "definition",
            Self::OpenClaw => "openclaw",
            Self::Program => "program",
        }
    }
}

/// How an installed plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginState {
    /// In force.
    Ok,
    /// Not in force, and why.
    Broken(String),
}

/// An installed plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInfo {
    /// Its id.
    pub id: String,
    /// What it is made of.
    pub kind: PluginKind,
    /// Its own version, where it has one.
    pub version: Option<String>,
    /// Its providers.
    pub providers: Vec<ProviderId>,
    /// True when it changes a provider that is built in.
    pub changes_builtin: bool,
    /// Where it lies.
    pub path: PathBuf,
    /// How it is.
    pub state: PluginState,
}

/// What an installation or a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginChange {
    /// The plugin.
    pub id: String,
    /// The files that are new, replaced or gone.
    pub files: Vec<PathBuf>,
    /// What was there before, kept under another name.
    pub kept: Vec<PathBuf>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// A definition file of the user.
#[derive(Debug, Clone)]
pub(crate) struct DefinitionFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// The provider that it is about, as far as that can be read.
    pub(crate) id: Option<ProviderId>,
}

impl Sink {
    /// The installed plugins, by id.
    ///
    /// # Errors
    /// When a directory cannot be listed or a provider file not be read.
    pub fn plugins(&self) -> Result<Vec<PluginInfo>> {
        let mut list = self.packages()?;
        let of_package = |id: &ProviderId| {
            list.iter()
                .any(|package: &PluginInfo| package.providers.contains(id))
        };
        let mut definitions = self.definition_files()?;
        definitions.retain(|file| !file.id.as_ref().is_some_and(of_package));
        list.extend(definitions.into_iter().map(|file| self.definition_info(file)));
        list.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(list)
    }

    fn definition_info(&self, file: DefinitionFile) -> PluginInfo {
        let name = || {
            let stem = file.path.file_stem().unwrap_or_default();
            stem.to_string_lossy().into_owned()
        };
        let state = match draft(&file.path, &file.text, self.registry()) {
            Ok(_) => PluginState::Ok,
            Err(problems) => PluginState::Broken(in_words(&problems)),
        };
        PluginInfo {
            id: file.id.as_ref().map_or_else(name, |id| id.as_str().to_owned()),
            kind: PluginKind::Definition,
            version: None,
            changes_builtin: file.id.as_ref().is_some_and(|id| self.registry().is_builtin(id)),
            providers: file.id.into_iter().collect(),
            path: file.path,
            state,
        }
    }

    /// Every definition file of the user, by name.
    pub(crate) fn definition_files(&self) -> Result<Vec<DefinitionFile>> {
        let dir = self.paths().providers_dir();
        let names = self
            .host()
            .files
            .list(&dir)
            .map_err(|error| unreadable(&dir, &error))?;
        let mut files = Vec::new();
        for path in names.into_iter().map(|name| dir.join(name)) {
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = self.read_text(&path)?;
                files.push(DefinitionFile {
                    id: id_of(&text),
                    path,
                    text,
                });
            }
        }
        Ok(files)
    }

    fn read_text(&self, path: &Path) -> Result<String> {
        let bytes = self
            .host()
            .files
            .read(path)
            .map_err(|error| unreadable(path, &error))?;
        String::from_utf8(bytes).map_err(|error| {
            let message = format!("{} is not UTF-8 text", path.display());
            SinkError::new(ErrorKind::Failed, "plugin_unreadable", message).because(error)
        })
    }

    /// The definition of a file as it would be in force, or the error that names what is wrong with it.
    fn drafted(&self, file: &UserFile) -> Result<Definition> {
        draft(&file.path, &file.text, self.registry()).map_err(|problems| {
            SinkError::new(ErrorKind::Failed, "bad_definition", in_words(&problems))
                .with_fix(format!("tokensink plugins check {}", file.path.display()))
        })
    }
}

/// The first problem in words, and how many there are besides.
fn in_words(problems: &[Problem]) -> String {
    match problems {
        [] => "it does not hold".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// The provider id that a definition names, whatever else is wrong with it.
fn id_of(text: &str) -> Option<ProviderId> {
    let table: toml::Table = text.parse().ok()?;
    ProviderId::parse(table.get("id")?.as_str()?).ok()
}

fn unreadable(path: &Path, error: &std::io::Error) -> SinkError {
    let message = format!("{} cannot be read: {error}", path.display());
    SinkError::new(ErrorKind::Failed, "plugin_unreadable", message)
}
