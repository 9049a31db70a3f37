//! `tokensink doctor`: what is wrong with a home, why it matters, and how it is put right.
//!
//! Three steps that do not mix: `gather` looks (thin, changes nothing but a probe file of its own), `judge` decides
//! (pure, a function of the facts), `repair` acts (each repair looks again under the right lock, can be repeated, and
//! moves aside what may hold a secret instead of deleting it). It promises to work on a home on which nothing else
//! does: a config, a store or a settings file that does not parse is a finding here and no error. No finding holds a
//! secret.

mod check;
mod copies;
mod facts;
mod gather;
mod judge;
mod repair;
#[cfg(test)]
mod tests;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tokensink_host::Host;
use tokensink_neighbours::Neighbour;
use tokensink_store::{ConfigStore, FileStore, Journal, Paths, SessionStore};
use tokensink_types::{AgentId, ProfileId, ProviderId};

use crate::error::{ErrorKind, Result, SinkError};
use crate::settings::Settings;

pub use check::{CHECKS, Check, Mend, Severity};
pub use copies::{Copies, CopyKind, CopyPlace};
pub use repair::Repair;

/// What to look at.
#[derive(Debug, Clone, Default)]
pub struct Examination {
    /// Only this agent's store; everything that belongs to no agent is looked at as well.
    pub agent: Option<String>,
    /// Try the network: connect to the token endpoint of every provider in use, without any credential.
    pub net: bool,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What was looked for.
    pub check: &'static Check,
    /// What is wrong here, in a sentence without a secret.
    pub what: String,
    /// Where.
    pub path: Option<PathBuf>,
    /// What to do about it: commands or words, one per line.
    pub fix: String,
    /// What `--fix` would do; `None` where only the user can.
    pub repair: Option<Repair>,
}

impl Finding {
    /// Who mends it.
    #[must_use]
    pub fn mend(&self) -> Mend {
        if self.repair.is_some() {
            self.check.mend
        } else {
            Mend::ByHand
        }
    }

    /// True for what only trying the network can show.
    #[must_use]
    pub fn is_about_network(&self) -> bool {
        [&check::ENDPOINT_UNREACHABLE, &check::CLOCK_OFFSET].contains(&self.check)
    }

    /// The finding as it stands in `doctor --json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.check.id,
            "severity": self.check.severity.as_str(),
            "what": self.what,
            "path": self.path.as_deref().map(Path::to_string_lossy),
            "why": self.check.why,
            "fix": self.fix,
            "fixable": self.repair.is_some(),
            "mend": self.mend().as_str(),
        })
    }
}

/// What an examination found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By severity, id and path.
    pub findings: Vec<Finding>,
    /// Every grant that stands in more than one place, backups and files that were set aside among them.
    pub copies: Vec<Copies>,
    /// What trying the network showed; empty when it was not asked for.
    pub network: Vec<NetworkCheck>,
    /// What trying the disk showed: that of the state directory, then those of agents' folders elsewhere.
    pub disks: Vec<DiskTrial>,
}

impl Report {
    /// How many findings of this severity there are.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let of = |finding: &&Finding| finding.check.severity == severity;
        self.findings.iter().filter(of).count()
    }

    /// The findings that can be mended, in the order in which to do it: first what the next write of a store would
    /// tidy away, temporary files of dead writers.
    #[must_use]
    pub fn to_mend(&self) -> Vec<&Finding> {
        let mut findings: Vec<&Finding> = self.findings.iter().filter(|one| one.repair.is_some()).collect();
        findings.sort_by_key(|one| !matches!(one.repair, Some(Repair::MoveAside { .. })));
        findings
    }

    /// This report with what an earlier one found out about the network, which need not be tried twice.
    #[must_use]
    pub fn with_network(
        mut self,
        network: Vec<NetworkCheck>,
        findings: impl IntoIterator<Item = Finding>,
    ) -> Self {
        self.network = network;
        self.findings.extend(findings);
        self.findings.sort_by_key(|finding| finding.check.severity);
        self
    }

    /// True when there is neither an error nor a warning.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.count(Severity::Error) + self.count(Severity::Warning) == 0
    }
}

/// What trying out a folder's file system showed, by a file that comes and goes: the durability of every login rests on
/// these four.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskTrial {
    /// The folder.
    pub dir: PathBuf,
    /// What the system calls its file system, such as `ext4`; `None` where the system does not say.
    pub file_system: Option<String>,
    /// What came of it.
    pub outcome: DiskOutcome,
}

/// What came of trying out a folder's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOutcome {
    /// It was tried.
    Tried(DiskPowers),
    /// Not even a file could be made, for this reason.
    NotWritable(String),
    /// Nothing was tried, for this reason.
    NotTried(&'static str),
}

/// What a file system can, each else with the reason why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskPowers {
    /// A file can be moved to another name for good.
    pub renames: std::result::Result<(), String>,
    /// A lock that one opened file has is not given to another.
    pub locks: std::result::Result<(), String>,
    /// A file can have two names.
    pub hard_links: std::result::Result<(), String>,
    /// What was written can be made durable (fsync).
    pub fsync: std::result::Result<(), String>,
}

impl DiskPowers {
    /// True when all of them were seen to work.
    #[must_use]
    pub fn all_work(&self) -> bool {
        [&self.renames, &self.locks, &self.hard_links, &self.fsync]
            .into_iter()
            .all(std::result::Result::is_ok)
    }
}

/// What became of a connection to a token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkCheck {
    /// The provider.
    pub provider: ProviderId,
    /// Scheme, host and port of its token endpoint.
    pub origin: String,
    /// How long connecting took, proxy and TLS included; else what failed and what helps.
    pub outcome: std::result::Result<Duration, (String, Option<String>)>,
    /// The server's clock less ours, in milliseconds, by its Date header (RFC 9110 section 6.6.1).
    pub clock_offset_ms: Option<i64>,
}

/// A home to look after.
#[derive(Debug)]
pub struct Doctor {
    host: Host,
    paths: Paths,
    readonly: bool,
}

impl Doctor {
    /// The doctor of this machine and this process's environment. Certificates of `[network] extra_ca` are trusted
    /// where the settings can be read.
    ///
    /// # Errors
    /// As for [`Doctor::open`].
    pub fn open_here() -> Result<Self> {
        let doctor = Self::open(Host::real())?;
        let Ok(settings) = Settings::load(&*doctor.host.files, &doctor.paths.settings_file()) else {
            return Ok(doctor);
        };
        let files: Vec<PathBuf> = settings
            .extra_ca()
            .iter()
            .filter_map(|file| doctor.paths.expand("extra_ca", file).ok())
            .collect();
        Self::open(Host::real_with_ca(files))
    }

    /// The doctor of the state directory that the environment names. Opens no file.
    ///
    /// # Errors
    /// When a path of the environment cannot be resolved.
    pub fn open(host: Host) -> Result<Self> {
        let paths = Paths::resolve(&*host.env)
            .map_err(|error| SinkError::new(ErrorKind::Failed, "no_state_dir", error.to_string()))?;
        let readonly = tokensink_store::readonly_requested(&*host.env);
        Ok(Self {
            host,
            paths,
            readonly,
        })
    }

    /// Looks, and changes nothing; a probe file in the state directory comes and goes.
    ///
    /// # Errors
    /// A usage error for an agent that does not exist.
    pub fn examine(&self, request: &Examination) -> Result<Report> {
        let mut facts = gather::gather(self, request.net);
        if let Some(text) = &request.agent {
            let agent = AgentId::normalise(text);
            if !facts.agents.iter().any(|known| known.id == agent) {
                let message = format!("there is no agent {:?}", agent.as_str());
                return Err(SinkError::new(ErrorKind::Usage, "unknown_agent", message)
                    .with_fix("tokensink agents list"));
            }
            facts.only(&agent);
        }
        let findings = judge::judge(&facts);
        Ok(Report {
            findings,
            copies: facts.copies,
            network: facts.network,
            disks: facts.disks.into_iter().map(|disk| disk.trial).collect(),
        })
    }

    /// Does what a finding's repair says, after looking again. Returns what was done, in a sentence.
    ///
    /// # Errors
    /// When it could not be done; nothing is lost then. [`ErrorKind::TryAgain`] when a program is at work there.
    pub fn repair(&self, repair: &Repair) -> Result<String> {
        repair::repair(self, repair)
    }

    fn store(&self) -> FileStore {
        FileStore::new(self.host.clone(), self.paths_of_config(), self.readonly)
    }

    fn config_store(&self) -> ConfigStore {
        ConfigStore::new(self.host.clone(), self.paths.clone(), self.readonly)
    }

    fn sessions(&self) -> SessionStore {
        SessionStore::new(self.host.clone(), self.paths_of_config(), self.readonly)
    }

    fn journal(&self) -> Journal {
        Journal::new(self.host.clone(), &self.paths)
    }

    /// The paths with the agents' folders of the config, as far as it can be read.
    fn paths_of_config(&self) -> Paths {
        let Ok(config) = self.config_store().load() else {
            return self.paths.clone();
        };
        let agents = config.agents();
        let dirs = agents
            .iter()
            .filter_map(|agent| Some((&agent.id, agent.agent_dir.as_deref()?)));
        self.paths
            .clone()
            .with_agent_dirs(dirs)
            .unwrap_or_else(|_| self.paths.clone())
    }
}

/// Profiles that stand for logins of other programs (spec.md 3.2): the config and orders may name them although they
/// are in no store.
fn is_external(id: &ProfileId) -> bool {
    Neighbour::ALL
        .into_iter()
        .any(|neighbour| neighbour.profile_id().is_some_and(|known| known == *id))
}
