//! The judgement: from facts to findings. Pure; the same facts always give the same findings, in the same order.

mod config;
mod files;
mod logins;
mod surroundings;

use std::path::{Path, PathBuf};

use tokensink_types::AgentId;

use super::Finding;
use super::check::{self, Check};
use super::facts::{AgentFacts, Facts, ProfileFacts};
use super::repair::Repair;
use crate::block::quoted;

pub(super) use files::CLI_LOCK_AGE;

/// Everything that is wrong, the worst first.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    files::judge(facts, &mut findings);
    logins::judge(facts, &mut findings);
    config::judge(facts, &mut findings);
    surroundings::judge(facts, &mut findings);
    // Another user's file that we may not read is one thing, not two.
    let foreign: Vec<PathBuf> = paths_of(&check::FOREIGN_OWNER, &findings);
    findings.retain(|one| {
        let is_told = one.path.as_ref().is_some_and(|path| foreign.contains(path));
        *one.check != check::NOT_READABLE || !is_told
    });
    if facts.readonly {
        findings.iter_mut().for_each(|finding| finding.repair = None);
    }
    findings.sort_by(|one, other| {
        let key = |finding: &Finding| (finding.check.severity, finding.check.id, finding.path.clone());
        key(one).cmp(&key(other))
    });
    findings
}

fn paths_of(check: &Check, findings: &[Finding]) -> Vec<PathBuf> {
    let of = findings.iter().filter(|one| one.check == check);
    of.filter_map(|one| one.path.clone()).collect()
}

impl Finding {
    /// A finding that only the user can mend.
    fn by_hand(check: &'static Check, path: Option<&Path>, what: String, fix: impl Into<String>) -> Self {
        Self {
            check,
            what,
            path: path.map(Path::to_owned),
            fix: fix.into(),
            repair: None,
        }
    }

    /// A finding that doctor can mend.
    fn with_repair(
        check: &'static Check,
        path: &Path,
        what: String,
        fix: impl Into<String>,
        repair: Repair,
    ) -> Self {
        Self {
            repair: Some(repair),
            ..Self::by_hand(check, Some(path), what, fix)
        }
    }
}

impl Facts {
    /// Leaves only one agent of its own; main stays in view where it inherits from it.
    pub(super) fn only(&mut self, agent: &AgentId) {
        self.only = Some(agent.clone());
    }

    /// The agents that were asked about.
    fn asked(&self) -> impl Iterator<Item = &AgentFacts> {
        self.agents
            .iter()
            .filter(|agent| self.only.as_ref().is_none_or(|only| *only == agent.id))
    }

    /// True when every store can be read and no link hides one, so that a profile which is in none exists nowhere.
    fn knows_all_profiles(&self) -> bool {
        self.dangling.is_empty() && self.agents.iter().all(|agent| agent.store.is_some())
    }

    /// All profiles of all agents.
    fn profiles(&self) -> impl Iterator<Item = (&AgentFacts, &ProfileFacts)> {
        self.agents.iter().flat_map(|agent| {
            let store = agent.store.iter();
            store.flat_map(move |store| store.profiles.iter().map(move |profile| (agent, profile)))
        })
    }

    fn agent(&self, id: &AgentId) -> Option<&AgentFacts> {
        self.agents.iter().find(|agent| agent.id == *id)
    }
}

/// A path as it stands in a command.
fn word(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The option that names an agent; nothing for main.
fn for_agent(agent: &AgentId) -> String {
    if agent.is_main() {
        String::new()
    } else {
        format!(" --agent {}", quoted(agent.as_str()))
    }
}
