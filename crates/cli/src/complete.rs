//! What the grammar takes from the state dir: ids offered by shell completion, and the options that are made from
//! provider definitions. Read only: no locks, no network, nothing written, and silent when anything is
//! wrong, because the text would land in the middle of the user's command line.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap_complete::CompletionCandidate;
use tokensink_host::{Environment, Host};
use tokensink_sink::{Registry, Sink};

use crate::args::{KeyOption, onboard};

/// Provider ids with their names.
pub(crate) fn providers() -> Vec<CompletionCandidate> {
    let Some(sink) = open() else { return Vec::new() };
    sink.login_choices()
        .iter()
        .map(|choice| CompletionCandidate::new(choice.id.as_str()).help(Some(choice.name.clone().into())))
        .collect()
}

/// Login methods of all providers.
pub(crate) fn methods() -> Vec<CompletionCandidate> {
    let Some(sink) = open() else { return Vec::new() };
    let ids: BTreeSet<String> = sink
        .login_choices()
        .iter()
        .flat_map(|choice| &choice.methods)
        .map(|method| method.id.as_str().to_owned())
        .collect();
    ids.into_iter().map(CompletionCandidate::new).collect()
}

/// Profile ids of all agents.
pub(crate) fn profiles() -> Vec<CompletionCandidate> {
    let Some(sink) = open() else { return Vec::new() };
    let agents = sink.agents().unwrap_or_default();
    let ids: BTreeSet<String> = agents
        .iter()
        .filter_map(|agent| sink.profiles(&agent.id, None).ok())
        .flatten()
        .map(|profile| profile.id.as_str().to_owned())
        .collect();
    ids.into_iter().map(CompletionCandidate::new).collect()
}

/// Agent ids.
pub(crate) fn agents() -> Vec<CompletionCandidate> {
    let Some(sink) = open() else { return Vec::new() };
    let agents = sink.agents().unwrap_or_default();
    agents
        .iter()
        .map(|agent| CompletionCandidate::new(agent.id.as_str()))
        .collect()
}

/// Names of client keys that can be revoked.
pub(crate) fn client_keys() -> Vec<CompletionCandidate> {
    let Some(sink) = open() else { return Vec::new() };
    let keys = sink.keys().unwrap_or_default().into_iter();
    keys.filter(|key| key.revoked_at.is_none())
        .map(|key| CompletionCandidate::new(key.name))
        .collect()
}

/// Auth choices with what they are.
pub(crate) fn auth_choices() -> Vec<CompletionCandidate> {
    let Some(sink) = open() else { return Vec::new() };
    sink.auth_choices()
        .into_iter()
        .filter(|choice| !choice.hidden)
        .map(|choice| CompletionCandidate::new(choice.id).help(Some(choice.name.into())))
        .collect()
}

/// The options of `onboard` that take a key: those of the definitions in force, or the built-in ones where the state
/// dir cannot be read, which the command itself then says.
pub(crate) fn key_options() -> Vec<KeyOption> {
    match open() {
        Some(sink) => onboard::key_options(sink.registry()),
        None => onboard::key_options(&Registry::builtin()),
    }
}

fn open() -> Option<Sink> {
    let mut host = Host::real();
    host.env = Arc::new(ReadOnly(Arc::clone(&host.env)));
    Sink::open(host).ok()
}

/// The environment with `OPENCLAW_AUTH_STORE_READONLY` set (spec.md 1.9), so that reading imports nothing.
#[derive(Debug)]
struct ReadOnly(Arc<dyn Environment>);

impl Environment for ReadOnly {
    fn var(&self, name: &str) -> Option<String> {
        if name == "OPENCLAW_AUTH_STORE_READONLY" {
            return Some("1".to_owned());
        }
        self.0.var(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn home(&self) -> Option<PathBuf> {
        self.0.home()
    }

    fn current_dir(&self) -> Option<PathBuf> {
        self.0.current_dir()
    }
}
