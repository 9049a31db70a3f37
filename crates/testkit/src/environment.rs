//! An environment that holds only what a test put there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokensink_host::Environment;

/// Variables in memory, with home `/home/user` and working directory `/work`. Clones share one environment.
#[derive(Debug, Clone, Default)]
pub struct MapEnvironment(Arc<Mutex<Variables>>);

#[derive(Debug)]
struct Variables {
    values: BTreeMap<String, String>,
    home: Option<PathBuf>,
    current_dir: Option<PathBuf>,
}

impl Default for Variables {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            home: Some(PathBuf::from("/home/user")),
            current_dir: Some(PathBuf::from("/work")),
        }
    }
}

impl MapEnvironment {
    /// An environment of these variables.
    #[must_use]
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let environment = Self::default();
        for (name, value) in variables {
            environment.set(name, value);
        }
        environment
    }

    fn variables(&self) -> MutexGuard<'_, Variables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a variable.
    pub fn set(&self, name: &str, value: impl Into<String>) {
        self.variables().values.insert(name.to_owned(), value.into());
    }

    /// Removes a variable.
    pub fn unset(&self, name: &str) {
        self.variables().values.remove(name);
    }

    /// Sets the home directory; `None` for a user without one.
    pub fn set_home(&self, home: Option<PathBuf>) {
        self.variables().home = home;
    }

    /// Sets the working directory.
    pub fn set_current_dir(&self, dir: Option<PathBuf>) {
        self.variables().current_dir = dir;
    }
}

impl Environment for MapEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        let variables = self.variables();
        let value = variables.values.get(name)?.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    fn names(&self) -> Vec<String> {
        self.variables().values.keys().cloned().collect()
    }

    fn home(&self) -> Option<PathBuf> {
        self.variables().home.clone()
    }

    fn current_dir(&self) -> Option<PathBuf> {
        self.variables().current_dir.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_reads_as_unset() {
        let env = MapEnvironment::of([("A", " x "), ("B", "  ")]);
        assert_eq!(env.var("A").as_deref(), Some("x"));
        assert_eq!(env.var("B"), None);
        assert_eq!(env.names(), ["A", "B"]);
        env.unset("A");
        assert_eq!(env.var("A"), None);
    }
}
