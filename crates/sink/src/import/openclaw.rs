//! OpenClaw's logins of every age as a source (spec.md 1, 2, 3.5; openclaw-live.md 3, 5b, 7).
//!
//! Each agent's logins are read from the places where that age keeps them, the ones in force first: database, store
//! file, legacy files. What an older file says of an id that was found already does not count.

use std::path::{Path, PathBuf};

use tokensink_host::lock::KernelLock;
use tokensink_neighbours::openclaw_db::{self, Database, Rows};
use tokensink_store::foreign::parse_profiles;
use tokensink_store::{
    Config, ConfigStore, ForeignProfiles, Ignored, Journal, Paths, RecordKey, StateDocument, real_path,
};
use tokensink_types::{AgentId, Credential, Expiry, ProfileId, ProviderId, SpendKey, UnixMillis};

use super::archives::{self, AUTH, archived, fence_of, fenced, parse_named};
use super::ids::{Renamed, former, split_order};
use super::report::{ImportAction, ImportPlan, ImportRow};
use super::source::{Found, Source, read_file, unreadable};
use super::{Incoming, Unverified, time_of};
use crate::block::login_command;
use crate::error::{ErrorKind, Result, SinkError};
use crate::grant::{generation_of, with_generation};
use crate::sink::Sink;

/// The names of the config file, newest first (spec.md 1.7).
const CONFIGS: [&str; 2] = ["openclaw.json", "clawdbot.json"];
/// The state dirs of all ages below the home directory (spec.md 1.1).
const DIRS: [&str; 4] = [".openclaw", ".clawdbot", ".moltbot", ".moldbot"];
/// The shared database below the state dir (spec.md 2.8).
const SHARED_DB: &str = "state/openclaw.sqlite";
/// An agent's own database in its directory.
const AGENT_DB: &str = "openclaw-agent.sqlite";
/// Names of profiles that were copies of other programs' logins (spec.md 3.2), with the program.
const COPIES: [(&str, &str); 4] = [
    ("claude-cli", "claude"),
    ("codex-cli", "codex"),
    ("qwen-cli", "qwen"),
    ("minimax-cli", "minimax"),
];

/// What `import openclaw` is asked for.
#[derive(Debug, Clone, Default)]
pub struct OpenClawImport {
    /// A state dir, or one archived file of it; `None` looks at the usual places.
    pub from: Option<PathBuf>,
    /// Only this agent; for a single file, whose it is.
    pub agent: Option<AgentId>,
}

/// A state dir of another OpenClaw.
struct Place {
    paths: Paths,
    config: Config,
    /// It is the one that we work on: its store file is ours already.
    is_ours: bool,
}

/// One agent of it.
#[derive(Default)]
struct Agent {
    found: Vec<Found>,
    ignored: Vec<(PathBuf, Ignored)>,
    state: Vec<StateDocument>,
    archived: Vec<Found>,
}

impl Agent {
    fn add(&mut self, place: &Path, profiles: ForeignProfiles) {
        let ignored = profiles.ignored.into_iter();
        self.ignored
            .extend(ignored.map(|entry| (place.to_owned(), entry)));
        for entry in profiles.entries {
            if !self.found.iter().any(|known| known.entry.id() == entry.id()) {
                self.found.push(Found {
                    entry,
                    place: place.to_owned(),
                });
            }
        }
        self.state.push(profiles.state);
    }
}

impl Sink {
    /// Reads another OpenClaw's logins and says what would become of them. Changes nothing, neither there nor here.
    ///
    /// # Errors
    /// A usage error when there is nothing at the place; otherwise when a file or database of the source, or a store
    /// of ours, cannot be read.
    pub fn plan_openclaw_import(&self, request: &OpenClawImport) -> Result<ImportPlan> {
        let source = match &request.from {
            Some(from) => {
                let from = self
                    .paths()
                    .expand("--from", &from.to_string_lossy())
                    .map_err(|error| SinkError::new(ErrorKind::Usage, "bad_path", error.to_string()))?;
                match self.host().files.stat(&from) {
                    Ok(Some(stamp)) if stamp.is_dir => self.source_in(&from, request)?,
                    Ok(Some(stamp)) => {
                        let at = UnixMillis(i64::try_from(stamp.modified_ns / 1_000_000).unwrap_or(0));
                        self.source_of_file(&from, at, request)?
                    }
                    Ok(None) => return Err(nothing_at(&from.display().to_string())),
                    Err(error) => {
                        let message = format!("{} cannot be looked at: {error}", from.display());
                        return Err(SinkError::new(ErrorKind::Failed, "source_unreadable", message));
                    }
                }
            }
            None => self.usual_source(request)?,
        };
        self.plan_import(source)
    }

    /// The first of the usual places that holds anything that is not ours already.
    fn usual_source(&self, request: &OpenClawImport) -> Result<Source> {
        let home = self.host().env.home();
        let mut dirs = vec![self.state_dir().to_owned()];
        dirs.extend(self.host().env.var("CLAWDBOT_STATE_DIR").map(PathBuf::from));
        dirs.extend(home.iter().flat_map(|home| DIRS.map(|name| home.join(name))));
        for dir in &dirs {
            let is_dir = self
                .host()
                .files
                .stat(dir)
                .ok()
                .flatten()
                .is_some_and(|stamp| stamp.is_dir);
            if !is_dir {
                continue;
            }
            let source = self.source_in(dir, request)?;
            if !source.incoming.is_empty() || !source.skipped.is_empty() {
                return Ok(source);
            }
        }
        let shown: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        Err(nothing_at(&shown.join(", ")))
    }

    fn source_in(&self, dir: &Path, request: &OpenClawImport) -> Result<Source> {
        let (place, mut notes) = self.place_of(dir)?;
        let mut source = Source {
            from: format!("OpenClaw in {}", dir.display()),
            may_copy_programs: true,
            ..Source::default()
        };
        let mut renamed = Vec::new();
        let mut mains = Vec::new();
        for agent in agents_of(self, &place)? {
            if request.agent.as_ref().is_some_and(|wanted| *wanted != agent) {
                continue;
            }
            let mut read = self.read_agent(&place, &agent, &mut notes)?;
            if agent.is_main() {
                mains.clone_from(&read.found);
            }
            self.link_static_copies(&agent, &mains, &mut read, &mut source);
            renamed.extend(self.take_agent(&place, &agent, &read, &mut source)?);
        }
        for (provider, ids) in place.config.auth_order() {
            let orders = split_order(&provider, &ids, &renamed);
            source
                .orders
                .extend(orders.into_iter().map(|(provider, ids)| (None, provider, ids)));
        }
        source.config = place.config.auth_profiles();
        for entry in &mut source.config {
            if let Some(known) = renamed.iter().find(|one| one.was == entry.id) {
                entry.id = known.now.clone();
            }
        }
        source.notes.extend(notes);
        Ok(source)
    }

    /// One file, most often an archived one: what it holds may have been spent since.
    fn source_of_file(&self, file: &Path, written: UnixMillis, request: &OpenClawImport) -> Result<Source> {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let agent = request.agent.clone().unwrap_or_else(AgentId::main);
        let mut read = Agent::default();
        if let Some(profiles) = read_file(self.host(), file, |bytes| parse_named(name, bytes))? {
            read.add(file, profiles);
        }
        let mut source = Source {
            from: file.display().to_string(),
            may_copy_programs: true,
            ..Source::default()
        };
        source.skip_ignored(&agent, &read.ignored);
        for found in &read.found {
            if let Some(row) = self.not_takeable(&agent, found, &[]) {
                source.skipped.push(row);
                continue;
            }
            source.incoming.push(Incoming {
                agent: agent.clone(),
                entry: found.entry.clone(),
                was: None,
                place: found.place.clone(),
                ancestors: Vec::new(),
                unverified: Some(Unverified {
                    origin: format!("{} of {}", file.display(), time_of(written)),
                    at: written,
                }),
                bundle: None,
            });
        }
        Ok(source)
    }

    fn place_of(&self, dir: &Path) -> Result<(Place, Vec<String>)> {
        let files = &*self.host().files;
        let file = CONFIGS
            .iter()
            .map(|name| dir.join(name))
            .find(|path| matches!(files.stat(path), Ok(Some(_))))
            .unwrap_or_else(|| dir.join(CONFIGS[0]));
        let paths = Paths::of_dir(&*self.host().env, dir.to_owned(), file);
        let mut notes = Vec::new();
        let config = ConfigStore::new(self.host().clone(), paths.clone(), true).load();
        let config = config.map_or_else(
            |error| {
                notes.push(format!(
                    "{error}; its names and orders are left out, and agents are taken from its directories"
                ));
                Config::default()
            },
            |config| (*config).clone(),
        );
        let dirs = config.agents();
        let dirs = dirs
            .iter()
            .filter_map(|agent| Some((&agent.id, agent.agent_dir.as_deref()?)));
        let paths = paths
            .with_agent_dirs(dirs)
            .map_err(|error| SinkError::new(ErrorKind::Failed, "bad_agent_dir", error.to_string()))?;
        let is_ours = real_path(files, dir).ok() == real_path(files, self.state_dir()).ok();
        Ok((
            Place {
                paths,
                config,
                is_ours,
            },
            notes,
        ))
    }

    /// All that one agent has, the places in force first.
    fn read_agent(&self, place: &Place, agent: &AgentId, notes: &mut Vec<String>) -> Result<Agent> {
        let dir = place.paths.agent_dir(agent);
        let mut read = Agent::default();
        for (path, which) in databases(place, agent) {
            let Some(rows) = self.read_database(&path, which)? else {
                continue;
            };
            if which == Database::Shared && !rows.is_main_store {
                if rows.store.is_some() {
                    notes.push(format!(
                        "{} is not marked as the store of agent main, so OpenClaw does not use its logins, and they \
                         are left out",
                        path.display()
                    ));
                }
                continue;
            }
            add_rows(&mut read, &path, &rows)?;
        }
        let host = self.host();
        if read.found.is_empty() && !place.is_ours {
            let path = place.paths.profiles_file(agent);
            if let Some(profiles) = read_file(host, &path, parse_profiles)? {
                read.add(&path, profiles);
            }
            read.state.extend(read_file(
                host,
                &place.paths.state_file(agent),
                StateDocument::parse,
            )?);
        }
        if !place.is_ours {
            let mut legacy = vec![dir.join(AUTH)];
            if agent.is_main() {
                // Older than agents (spec.md 1.5), and the file of the installation (1.6).
                legacy.push(place.paths.state_dir().join("agent").join(archives::PROFILES));
                legacy.push(place.paths.oauth_file());
            }
            for path in legacy {
                let name = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .unwrap_or_default()
                    .to_owned();
                if let Some(profiles) = read_file(host, &path, |bytes| parse_named(&name, bytes))? {
                    read.add(&path, profiles);
                }
            }
        }
        let credentials = place.paths.state_dir().join("credentials");
        read.archived = archived(host, &[dir, credentials]);
        Ok(read)
    }

    fn read_database(&self, path: &Path, which: Database) -> Result<Option<Rows>> {
        let host = self.host();
        if !matches!(host.files.stat(path), Ok(Some(_))) {
            return Ok(None);
        }
        let _lock =
            KernelLock::try_acquire(host, &self.paths().locks_dir().join("import")).map_err(|error| {
                SinkError::new(
                    ErrorKind::TryAgain,
                    "importing",
                    format!("another import is under way: {error}"),
                )
            })?;
        let run = self.paths().run_dir();
        let scratch = run.join("import");
        let prepared = tokensink_host::atomic::ensure_dir(&*host.files, &run, 0o700)
            .and_then(|()| openclaw_db::clear(&*host.files, &scratch));
        prepared.map_err(|error| {
            let message = format!("{} cannot be prepared: {error}", scratch.display());
            SinkError::new(ErrorKind::Failed, "no_scratch", message)
        })?;
        openclaw_db::read(host, path, which, &scratch)
            .map_err(|error| SinkError::new(ErrorKind::Failed, "source_unreadable", error.to_string()))
    }

    /// Copies of main's keys and tokens that an older OpenClaw gave to every agent (openclaw-live.md 8): where all of
    /// a provider are main's, the agent sees main's through here and needs none.
    fn link_static_copies(&self, agent: &AgentId, mains: &[Found], read: &mut Agent, source: &mut Source) {
        if agent.is_main() || !self.inherits(agent) {
            return;
        }
        let now = self.now();
        let is_copy = |found: &Found| {
            let same = |main: &Found| {
                main.entry.id() == found.entry.id() && main.entry.has_secret_of(found.entry.credential())
            };
            !has_ended(found, now) && mains.iter().any(same)
        };
        let provider = |found: &Found| found.entry.credential().provider().clone();
        let own: Vec<ProviderId> = read
            .found
            .iter()
            .filter(|found| !is_copy(found))
            .map(provider)
            .collect();
        let (copies, rest) = std::mem::take(&mut read.found).into_iter().partition(|found| {
            found.entry.credential().as_oauth().is_none() && !own.contains(&provider(found))
        });
        read.found = rest;
        let copies: Vec<Found> = copies;
        for found in copies {
            let mut row = found.skipped(agent, "", None);
            row.action = ImportAction::Linked {
                agent: AgentId::main(),
                profile: found.entry.id().clone(),
                why: "a copy of main's, which the agent sees".to_owned(),
            };
            source.skipped.push(row);
        }
    }

    /// Turns what was read of an agent into what can be decided on; returns which ids are others here.
    fn take_agent(
        &self,
        place: &Place,
        agent: &AgentId,
        read: &Agent,
        source: &mut Source,
    ) -> Result<Vec<Renamed>> {
        source.skip_ignored(agent, &read.ignored);
        let mut renamed = Vec::new();
        let mut taken: Vec<ProfileId> = read.found.iter().map(|found| found.entry.id().clone()).collect();
        for found in &read.found {
            if let Some(row) = self.not_takeable(agent, found, &read.archived) {
                source.skipped.push(row);
                continue;
            }
            let mut incoming = self.overlaid_incoming(place, agent, found)?;
            if let Some((id, provider)) = former(found, &read.archived, &taken) {
                taken.push(id.clone());
                let was = found.entry.id().clone();
                renamed.push(Renamed {
                    was: was.clone(),
                    now: id.clone(),
                    provider: provider.clone(),
                });
                incoming.entry = incoming.entry.renamed(id, &provider);
                incoming.was = Some(was);
            }
            source.incoming.push(incoming);
        }
        for state in &read.state {
            for (provider, ids) in state.orders() {
                let orders = split_order(&provider, &ids, &renamed).into_iter();
                let orders = orders.map(|(provider, ids)| (Some(agent.clone()), provider, ids));
                source.orders.extend(orders);
            }
        }
        Ok(renamed)
    }

    /// An entry whose refresh record stands beside it, where the source is a state dir of ours: the record may be ahead.
    fn overlaid_incoming(&self, place: &Place, agent: &AgentId, found: &Found) -> Result<Incoming> {
        let mut incoming = Incoming {
            agent: agent.clone(),
            entry: found.entry.clone(),
            was: None,
            place: found.place.clone(),
            ancestors: Vec::new(),
            unverified: None,
            bundle: None,
        };
        let Some(oauth) = found.entry.credential().as_oauth() else {
            return Ok(incoming);
        };
        let path = place.paths.profiles_file(agent);
        let Ok(real) = real_path(&*self.host().files, &path) else {
            return Ok(incoming);
        };
        let key = RecordKey {
            store: real.to_string_lossy().into_owned(),
            profile: found.entry.id().clone(),
        };
        let journal = Journal::new(self.host().clone(), &place.paths);
        let Some(record) = crate::grant::readable(journal.read(&key))? else {
            return Ok(incoming);
        };
        let stored = generation_of(oauth);
        let newest = tokensink_refresh::overlay(&stored, Some(&record)).current;
        incoming.entry = found
            .entry
            .with_credential(Credential::OAuth(with_generation(oauth, newest)));
        let spent = stored.spend_key().filter(|key| newest.spend_key() != Some(*key));
        incoming.ancestors = spent
            .into_iter()
            .chain(record.ancestors.iter().copied())
            .collect::<Vec<SpendKey>>();
        Ok(incoming)
    }

    /// The row of an entry that is not taken over whatever is here.
    fn not_takeable(&self, agent: &AgentId, found: &Found, archived: &[Found]) -> Option<ImportRow> {
        let entry = &found.entry;
        let credential = entry.credential();
        if let Some(fence) = fence_of(credential) {
            let mut ancestors: Vec<&Found> = archived
                .iter()
                .filter(|older| archives::is_ancestor(older, found) || same_name(older, found))
                .collect();
            ancestors.dedup_by_key(|older| older.place.clone());
            let (id, provider) = former(found, archived, &[])
                .unwrap_or_else(|| (entry.id().clone(), credential.provider().clone()));
            let login = login_command(&provider, &id, agent);
            let (why, fix) = fenced(agent, found, &fence, &ancestors, login);
            return Some(found.skipped(agent, why, Some(fix)));
        }
        if entry.has("setup") {
            let why = "it was saved by a set-up that was not finished and is not in use there";
            return Some(found.skipped(agent, why, None));
        }
        if let Some(program) = program_of(found) {
            let why = format!(
                "it is a copy of the login of the {program} command, which goes on refreshing its own"
            );
            let fix = format!("tokensink import {program}");
            return Some(found.skipped(agent, why, Some(fix)));
        }
        let tokens = credential.as_oauth().map(|oauth| &oauth.tokens);
        let blank = tokens.is_some_and(|tokens| tokens.access.is_blank() && tokens.refresh_token().is_none());
        (blank && entry.has("oauthRef")).then(|| {
            let fix = login_command(credential.provider(), entry.id(), agent);
            found.skipped(
                agent,
                "its tokens are kept elsewhere (oauthRef) and cannot be read",
                Some(fix),
            )
        })
    }
}

impl Source {
    fn skip_ignored(&mut self, agent: &AgentId, ignored: &[(PathBuf, Ignored)]) {
        let rows = ignored.iter().map(|(place, entry)| ImportRow {
            agent: agent.clone(),
            profile: entry.key.clone(),
            was: None,
            provider: None,
            kind: None,
            place: place.clone(),
            action: ImportAction::Skipped {
                why: format!("it is no credential ({})", entry.reason.as_str()),
                fix: None,
            },
        });
        self.skipped.extend(rows);
    }
}

/// The databases of an agent, the ones in force first.
fn databases(place: &Place, agent: &AgentId) -> Vec<(PathBuf, Database)> {
    let own = (place.paths.agent_dir(agent).join(AGENT_DB), Database::Agent);
    if agent.is_main() {
        let shared = place.paths.state_dir().join(SHARED_DB);
        vec![(shared, Database::Shared), own]
    } else {
        vec![own]
    }
}

fn add_rows(read: &mut Agent, path: &Path, rows: &Rows) -> Result<()> {
    if let Some(store) = &rows.store {
        let profiles = parse_profiles(store.expose()).map_err(|failure| unreadable(path, &failure))?;
        read.add(path, profiles);
    }
    if let Some(state) = &rows.state {
        let state = StateDocument::parse(state.expose()).map_err(|failure| unreadable(path, &failure))?;
        read.state.push(state);
    }
    Ok(())
}

/// Main first, so that what other agents have copied from it is found to be copies.
fn agents_of(sink: &Sink, place: &Place) -> Result<Vec<AgentId>> {
    let mut agents = place.paths.agents_on_disk(&*sink.host().files).map_err(|error| {
        let message = format!("{} cannot be listed: {error}", place.paths.state_dir().display());
        SinkError::new(ErrorKind::Failed, "source_unreadable", message)
    })?;
    agents.extend(place.config.agents().into_iter().map(|agent| agent.id));
    agents.retain(|agent| !agent.is_main());
    agents.sort();
    agents.dedup();
    agents.insert(0, AgentId::main());
    Ok(agents)
}

/// The program whose login an entry was copied from.
fn program_of(found: &Found) -> Option<String> {
    let managed = found
        .entry
        .text("managedBy")
        .and_then(|by| by.strip_suffix("-cli").map(str::to_owned));
    let external = found.entry.text("authFlow").as_deref() == Some("external-cli");
    let name = found.entry.id().name_part();
    let copied = COPIES
        .iter()
        .find(|(copy, _)| *copy == name)
        .map(|(_, program)| (*program).to_owned());
    managed
        .or(copied)
        .or_else(|| external.then(|| "minimax".to_owned()))
}

/// The archived entry of the same name, whatever its provider was called then.
fn same_name(older: &Found, found: &Found) -> bool {
    let (older, found) = (&older.entry, &found.entry);
    older.id() == found.id() || {
        let both = older.credential().as_oauth().is_some() && found.credential().as_oauth().is_some();
        let former = older.credential().provider().as_str() == "openai-codex"
            && found.credential().provider().as_str() == "openai";
        both && former && older.id().name_part() == found.id().name_part()
    }
}

fn has_ended(found: &Found, now: UnixMillis) -> bool {
    match found.entry.credential() {
        Credential::Token(token) => matches!(token.expires, Expiry::At(end) if end <= now),
        Credential::ApiKey(_) | Credential::OAuth(_) => false,
    }
}

fn nothing_at(places: &str) -> SinkError {
    SinkError::new(
        ErrorKind::Usage,
        "nothing_to_import",
        format!("no logins of an OpenClaw were found in {places}"),
    )
    .with_fix("tokensink import openclaw --from <its state directory>")
}

#[cfg(test)]
mod tests;
