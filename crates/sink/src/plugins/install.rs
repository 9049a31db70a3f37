//! Writing a plugin into our folder and taking it out again, so that a crash at any point leaves the old or the new.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokensink_host::atomic;
use tokensink_host::lock::{KernelLock, Wait};

use super::plan::{FileFate, PlannedFile, PluginPlan};
use super::{PluginChange, PluginInfo, PluginKind};
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// How long a change waits for another one, which takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Permission bits of directories that we create.
const DIR_MODE: u32 = 0o700;

impl Sink {
    /// Does what the plan says. A different file that is in the way is replaced only with `replace`, and kept as
    /// `.bak` then. Commands that run later use what was installed; this sink goes on with what it has read.
    ///
    /// # Errors
    /// A usage error for a plan that brings nothing, and for a conflict without `replace`; nothing was changed then.
    /// Otherwise when a file cannot be written.
    pub fn install_plugin(&self, plan: &PluginPlan, replace: bool) -> Result<PluginChange> {
        self.require_writable("installing a plugin")?;
        if plan.files.is_empty() {
            let message = format!(
                "{} brings nothing that can be used: {}",
                plan.source.display(),
                plan.left.join("; ")
            );
            return Err(SinkError::new(ErrorKind::Usage, "empty_plugin", message));
        }
        let _lock = self.lock_plugins()?;
        // Between plan and lock somebody else may have changed what is there.
        let plan = &self.plan_plugin(&plan.source)?;
        if let (Some(first), false) = (plan.conflicts().first(), replace) {
            let message = format!("{} is there already and differs", first.display());
            return Err(
                SinkError::new(ErrorKind::Usage, "plugin_conflict", message).with_fix(format!(
                    "tokensink plugins install {} --replace (the old one is kept as .bak)",
                    plan.source.display()
                )),
            );
        }
        let mut change = PluginChange {
            id: plan.id.clone(),
            files: Vec::new(),
            kept: Vec::new(),
            notes: Vec::new(),
        };
        for file in plan.files.iter().filter(|file| file.fate != FileFate::Same) {
            self.put(file, &mut change)?;
        }
        if plan.program.is_some() {
            self.clear_package(plan, &mut change)?;
        }
        Ok(change)
    }

    /// Takes a plugin out of force; its definition is kept as `.bak`. Stored logins stay.
    ///
    /// # Errors
    /// A usage error when no plugin has this id, else when a file cannot be moved.
    pub fn remove_plugin(&self, id: &str) -> Result<PluginChange> {
        self.require_writable("removing a plugin")?;
        let _lock = self.lock_plugins()?;
        let list = self.plugins()?;
        let Some(plugin) = list.iter().find(|plugin| plugin.id == id.trim().to_lowercase()) else {
            let ids: Vec<&str> = list.iter().map(|plugin| plugin.id.as_str()).collect();
            let known = if ids.is_empty() {
                "none is installed".to_owned()
            } else {
                format!("installed are {}", ids.join(", "))
            };
            return Err(SinkError::new(
                ErrorKind::Usage,
                "unknown_plugin",
                format!("there is no plugin {id:?}; {known}"),
            )
            .with_fix("tokensink plugins list"));
        };
        let mut change = PluginChange {
            id: plugin.id.clone(),
            files: vec![plugin.path.clone()],
            kept: Vec::new(),
            notes: Vec::new(),
        };
        if plugin.kind == PluginKind::Program {
            self.remove_package(plugin, &mut change)?;
        } else {
            change.kept.push(self.back_up(&plugin.path)?);
        }
        self.tell_of_orphans(plugin, &mut change.notes);
        Ok(change)
    }

    fn tell_of_orphans(&self, plugin: &PluginInfo, notes: &mut Vec<String>) {
        for provider in &plugin.providers {
            if self.registry().is_builtin(provider) {
                notes.push(format!("{provider} is again as it is built in"));
            } else {
                notes.push(format!(
                    "logins of {provider} stay stored, but nothing can renew them until a definition of {provider} is \
                     there again"
                ));
            }
        }
    }

    pub(super) fn lock_plugins(&self) -> Result<KernelLock> {
        let path = self.paths().locks_dir().join("plugins");
        let wait = Wait { deadline: LOCK_WAIT };
        KernelLock::acquire(self.host(), &path, wait).map_err(|error| {
            let message = format!("another change of the plugins is under way: {error}");
            SinkError::new(ErrorKind::TryAgain, "busy", message)
        })
    }

    fn put(&self, file: &PlannedFile, change: &mut PluginChange) -> Result<()> {
        let files = &*self.host().files;
        let failed = |error: &dyn std::fmt::Display| {
            let message = format!("{} was not installed: {error}", file.path.display());
            SinkError::new(ErrorKind::Failed, "plugin_not_written", message)
        };
        if let Some(dir) = file.path.parent() {
            atomic::ensure_dir(files, dir, DIR_MODE).map_err(|error| failed(&error))?;
        }
        if file.fate == FileFate::Different && file.keeps_old {
            let old = files.read(&file.path).map_err(|error| failed(&error))?;
            let backup = backup_of(&file.path);
            atomic::replace(files, &*self.host().random, &backup, &old, file.mode)
                .map_err(|error| failed(&error))?;
            change.kept.push(backup);
        }
        atomic::replace(files, &*self.host().random, &file.path, &file.bytes, file.mode)
            .map_err(|error| failed(&error))?;
        change.files.push(file.path.clone());
        Ok(())
    }

    /// Removes what an earlier version of a plugin left, or somebody put there; and gives the program the right to
    /// run where its content was there already.
    fn clear_package(&self, plan: &PluginPlan, change: &mut PluginChange) -> Result<()> {
        let dir = self.package_dir(&plan.id);
        let files = &*self.host().files;
        for file in plan.files.iter().filter(|file| file.path.starts_with(&dir)) {
            files
                .set_mode(&file.path, file.mode)
                .map_err(|error| not_removed(&file.path, &error))?;
        }
        for stranger in &plan.removes {
            files
                .remove(stranger)
                .map_err(|error| not_removed(stranger, &error))?;
            change.notes.push(format!(
                "{} does not belong to it and is gone",
                stranger.display()
            ));
        }
        Ok(())
    }

    /// The record first: without it nothing of the package is run.
    fn remove_package(&self, plugin: &PluginInfo, change: &mut PluginChange) -> Result<()> {
        let files = &*self.host().files;
        let record = self.record_path(&plugin.id);
        files
            .remove(&record)
            .map_err(|error| not_removed(&record, &error))?;
        let definitions = self.definition_files()?;
        let own = definitions
            .iter()
            .filter(|file| file.id.as_ref().is_some_and(|id| plugin.providers.contains(id)));
        for file in own {
            change.kept.push(self.back_up(&file.path)?);
        }
        self.remove_tree(&plugin.path)
            .map_err(|error| not_removed(&plugin.path, &error))
    }

    fn remove_tree(&self, dir: &Path) -> std::io::Result<()> {
        let files = &*self.host().files;
        for name in files.list(dir)? {
            let path = dir.join(name);
            let is_link = files.link_target(&path)?.is_some();
            if !is_link && files.stat(&path)?.is_some_and(|stamp| stamp.is_dir) {
                self.remove_tree(&path)?;
            } else {
                files.remove(&path)?;
            }
        }
        match files.remove_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn back_up(&self, path: &Path) -> Result<PathBuf> {
        let backup = backup_of(path);
        let files = &*self.host().files;
        files
            .rename(path, &backup)
            .map_err(|error| not_removed(path, &error))?;
        Ok(backup)
    }
}

fn not_removed(path: &Path, error: &std::io::Error) -> SinkError {
    let message = format!("{} was not removed: {error}", path.display());
    SinkError::new(ErrorKind::Failed, "plugin_not_removed", message)
}

/// `<path>.bak`, which nothing takes for a definition.
fn backup_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".bak");
    PathBuf::from(name)
}
