//! The environment of a child process that is given one lease and no other provider secret.

use crate::lease::{ChildEnvironment, Lease};
use crate::sink::Sink;

impl Sink {
    /// What to change in the environment so that a program of the lease's provider finds the lease, and nothing of
    /// any other provider that tokensink knows. Variables that other tools share (`GITHUB_TOKEN`) are left alone
    /// unless the lease is handed out in them.
    #[must_use]
    pub fn child_environment(&self, lease: &Lease) -> ChildEnvironment {
        let set: Vec<_> = lease
            .env_name
            .iter()
            .map(|name| {
                let secret = lease.env_secret.as_ref().unwrap_or(&lease.secret);
                (name.clone(), secret.clone())
            })
            .collect();
        let remove = self
            .registry()
            .env_names()
            .into_iter()
            .filter(|env| !env.variable.shared)
            .map(|env| env.variable.name)
            .filter(|name| lease.env_name.as_ref() != Some(name) && self.host().env.var(name).is_some())
            .collect();
        ChildEnvironment { set, remove }
    }
}
