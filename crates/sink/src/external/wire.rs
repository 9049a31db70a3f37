//! Wiring a program to us: its own settings name the command that prints a lease (clients.md 2.6, 3.5).
//!
//! What was there before is noted before anything is changed, so that `unwire` brings it back whatever happens in
//! between. No secret goes into the settings: the command, the address, and headers that name the account.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokensink_host::{ProcessRequest, StdioSource};
use tokensink_neighbours::wire::{WirePlan, WireRecord, WireRequest, apply, plan, unwire_plan};
use tokensink_neighbours::{Neighbour, NeighbourError};
use tokensink_store::OwnedProfile;
use tokensink_types::{AgentId, Body, Credential, ProfileId, Secret};

use super::choose::known_neighbour;
use super::modes::{ExternalMode, Modes};
use super::words::set_command;
use crate::error::{ErrorKind, Result, SinkError};
use crate::owner::OwnerError;
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// Where Claude Code goes by itself.
const ANTHROPIC: &str = "https://api.anthropic.com";
/// How long the hook may take: a refresh, whose request may take 60 s, and its commit.
const HOOK_TIME: Duration = Duration::from_secs(90);
/// How long a program may take to tell its status; the real ones take a second.
const STATUS_TIME: Duration = Duration::from_secs(20);

/// A program to be wired, or to be released.
#[derive(Debug, Clone)]
pub struct ExternalWire {
    /// The program's word: `claude` or `codex`.
    pub cli: String,
    /// The agent whose lease it is served; the default is main.
    pub agent: Option<AgentId>,
    /// Only tell what would change.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct ExternalWired {
    /// The program's word.
    pub cli: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Its settings.
    pub file: PathBuf,
    /// The lines that change; empty when none do.
    pub diff: String,
    /// False when only the difference was wanted, or there was none.
    pub changed: bool,
    /// The profile that serves the program; `None` when it was released.
    pub profile: Option<ProfileId>,
    /// Keys that the user changed after us and that were left as they are.
    pub kept: Vec<String>,
    /// Why the command that is now in the settings gives no token, if it does not.
    pub hook_fails: Option<String>,
    /// What the program itself says now.
    pub proof: Option<WireProof>,
}

/// The program's own word on its login.
#[derive(Debug, Clone)]
pub struct WireProof {
    /// The command that was run.
    pub command: String,
    /// What came of it.
    pub outcome: ProofOutcome,
}

/// What came of the program's status command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProofOutcome {
    /// It ran.
    Said {
        /// Its exit code.
        code: i32,
        /// What it printed, on one line.
        words: String,
    },
    /// It is not on PATH, or could not be run, with the reason.
    NotRun(String),
}

impl Sink {
    /// Makes the program ask us for each token: writes its hook into its settings and runs its status command.
    ///
    /// # Errors
    /// A usage error for a program without a hook, or where no profile of ours could serve it; otherwise when its
    /// settings cannot be read or written. They are then as they were.
    pub fn external_wire(&self, request: &ExternalWire) -> Result<ExternalWired> {
        let neighbour = known_neighbour(&request.cli)?;
        if !matches!(neighbour, Neighbour::ClaudeCode | Neighbour::Codex) {
            let message = format!(
                "{} has no hook by which it would ask for a token; Claude Code and Codex CLI have one",
                neighbour.title()
            );
            return Err(SinkError::new(ErrorKind::Usage, "no_hook", message)
                .with_fix(set_command(neighbour, ExternalMode::Borrowed)));
        }
        let _lock = (!request.dry_run).then(|| self.lock_choices()).transpose()?;
        let modes = Modes::load(self.host(), &self.external_file())?.0;
        let agent = request.agent.clone().unwrap_or_else(AgentId::main);
        let snapshot = self.snapshot(&agent)?;
        let profile = self.profile_to_serve(neighbour, &agent, &snapshot, &modes)?;
        let id = profile.entry.id.clone();
        let wire = self.wire_request(neighbour, &agent, profile)?;
        let earlier = modes.former(neighbour).and_then(WireRecord::from_json);
        let plan = plan(self.host(), neighbour, &wire, earlier.as_ref()).map_err(wire_error)?;
        let mut wired = told(neighbour, &plan, Some(id));
        if request.dry_run {
            return Ok(wired);
        }
        let record = plan.record.as_ref().map(WireRecord::to_json);
        if record.as_ref() != modes.former(neighbour) {
            self.require_writable("wiring")?;
            self.edit_choices(|modes| modes.set_former(neighbour, record))?;
        }
        apply(self.host(), &plan).map_err(wire_error)?;
        wired.changed = !plan.already();
        wired.hook_fails = self.try_hook(&wire).err();
        wired.proof = Some(self.ask_status(neighbour));
        Ok(wired)
    }

    /// Runs the command as the program will run it. What it prints is a token, and is dropped.
    fn try_hook(&self, wire: &WireRequest) -> std::result::Result<(), String> {
        let request = ProcessRequest {
            program: wire.program.clone().into_os_string(),
            args: wire.args.iter().map(Into::into).collect(),
            set_env: Vec::new(),
            remove_env: Vec::new(),
            stdin: StdioSource::Null,
        };
        let printed = self.host().processes.output(request, HOOK_TIME);
        let printed = Body::new(printed.map_err(|error| error.to_string())?);
        if printed.expose().trim_ascii().is_empty() {
            return Err("it prints nothing".to_owned());
        }
        Ok(())
    }

    /// Brings the program's settings back to what they were before it was wired.
    ///
    /// # Errors
    /// A usage error when it is not wired; otherwise when its settings cannot be read or written.
    pub fn external_unwire(&self, request: &ExternalWire) -> Result<ExternalWired> {
        let neighbour = known_neighbour(&request.cli)?;
        let _lock = (!request.dry_run).then(|| self.lock_choices()).transpose()?;
        let modes = Modes::load(self.host(), &self.external_file())?.0;
        let Some(record) = modes.former(neighbour).and_then(WireRecord::from_json) else {
            let message = format!("{} was not wired by tokensink", neighbour.title());
            return Err(SinkError::new(ErrorKind::Usage, "not_wired", message)
                .with_fix(format!("tokensink external wire {neighbour}")));
        };
        let plan = unwire_plan(self.host(), &record).map_err(wire_error)?;
        let mut wired = told(neighbour, &plan, None);
        if request.dry_run {
            return Ok(wired);
        }
        self.require_writable("unwiring")?;
        apply(self.host(), &plan).map_err(wire_error)?;
        self.edit_choices(|modes| modes.set_former(neighbour, None))?;
        wired.changed = !plan.already();
        wired.proof = Some(self.ask_status(neighbour));
        Ok(wired)
    }

    /// The profile that serves the program: the grant that moved here, else the first of the agent's that could. A
    /// login that the program itself keeps would lead in a circle.
    fn profile_to_serve<'a>(
        &self,
        neighbour: Neighbour,
        agent: &AgentId,
        snapshot: &'a AgentSnapshot,
        modes: &Modes,
    ) -> Result<&'a OwnedProfile> {
        let entries = modes.entries(self.host());
        let moved = entries
            .iter()
            .find(|entry| entry.place.neighbour == neighbour && entry.mode == ExternalMode::Owned)
            .and_then(|entry| snapshot.profile(&entry.profile));
        let provider = neighbour.provider();
        let first = || {
            let ids = snapshot.state.candidates.iter().map(|candidate| &candidate.id);
            let profiles = ids.filter_map(|id| snapshot.profile(id));
            profiles
                .filter(|profile| snapshot.guest(profile).is_none())
                .find(|profile| {
                    let own = self.registry().canonical(profile.entry.credential.provider());
                    provider.as_ref() == Some(&own)
                })
        };
        moved.or_else(first).ok_or_else(|| {
            let title = neighbour.title();
            let message = format!("agent {agent} has no profile of its own that could serve {title}");
            // What was moved in once and is here no more, after a logout or a move to another machine, cannot be moved
            // in again.
            let gone = entries
                .iter()
                .any(|entry| entry.place.neighbour == neighbour && entry.mode == ExternalMode::Owned);
            let fix = match provider.as_ref().filter(|_| gone) {
                Some(provider) => self.first_login_command(provider, agent),
                None => set_command(neighbour, ExternalMode::Owned),
            };
            SinkError::new(ErrorKind::Usage, "no_profile", message).with_fix(fix)
        })
    }

    fn wire_request(
        &self,
        neighbour: Neighbour,
        agent: &AgentId,
        profile: &OwnedProfile,
    ) -> Result<WireRequest> {
        let program = self.host().processes.this_program().map_err(|error| {
            let message = format!("the path of this program is not known: {error}");
            SinkError::new(ErrorKind::Failed, "no_program", message)
        })?;
        let mut args = vec![
            "token".to_owned(),
            "--profile-id".to_owned(),
            profile.entry.id.to_string(),
        ];
        if !agent.is_main() {
            args.extend(["--agent".to_owned(), agent.to_string()]);
        }
        let (program, args) = self.with_state_dir(program, args);
        let (base_url, headers) = self.where_spent(profile);
        // Claude Code finds Anthropic by itself, and treats another address as a gateway.
        let base_url = base_url.filter(|url| neighbour != Neighbour::ClaudeCode || url.as_str() != ANTHROPIC);
        Ok(WireRequest {
            program,
            args,
            base_url,
            headers,
            name: "tokensink".to_owned(),
        })
    }

    /// A state dir that a variable names here is named in the command, since the program may be started elsewhere.
    fn with_state_dir(&self, program: PathBuf, args: Vec<String>) -> (PathBuf, Vec<String>) {
        const VARIABLE: &str = "OPENCLAW_STATE_DIR";
        if self.host().env.var(VARIABLE).is_none() {
            return (program, args);
        }
        let mut all = vec![
            format!("{VARIABLE}={}", self.state_dir().display()),
            program.to_string_lossy().into_owned(),
        ];
        all.extend(args);
        (Path::new("/usr/bin/env").to_owned(), all)
    }

    /// Address and headers of the profile's API, without the one that carries the credential.
    fn where_spent(&self, profile: &OwnedProfile) -> (Option<String>, Vec<(String, String)>) {
        let credential = &profile.entry.credential;
        let Some(definition) = self.registry().get(credential.provider()) else {
            return (None, Vec::new());
        };
        let oauth = credential.as_oauth();
        let client_id = oauth.and_then(|oauth| oauth.client_id.as_deref());
        let api = definition.api_for(credential.kind(), client_id);
        let url = api
            .base_url
            .as_ref()
            .map(|url| url.as_str().trim_end_matches('/').to_owned());
        let (account, fields) = match credential {
            Credential::OAuth(oauth) => (oauth.account.clone(), oauth.fields.clone()),
            Credential::Token(_) | Credential::ApiKey(_) => Default::default(),
        };
        let all = api
            .lease_headers(&Secret::new("lease"), &account, &fields)
            .unwrap_or_default();
        let further = all.into_iter().filter(|(name, _)| *name != api.header);
        let headers = further.map(|(name, value)| (name, value.expose().to_owned()));
        (url, headers.collect())
    }

    /// Runs the program's own status command, which makes no network call (clients.md 1).
    fn ask_status(&self, neighbour: Neighbour) -> WireProof {
        let args: &[&str] = match neighbour {
            Neighbour::Codex => &["login", "status"],
            _ => &["auth", "status"],
        };
        let command = format!("{} {}", neighbour.command(), args.join(" "));
        let request = ProcessRequest {
            program: neighbour.command().into(),
            args: args.iter().map(Into::into).collect(),
            set_env: Vec::new(),
            remove_env: Vec::new(),
            stdin: StdioSource::Null,
        };
        let ended = self
            .host()
            .processes
            .spawn(request)
            .and_then(|mut child| child.wait(STATUS_TIME));
        let outcome = match ended {
            Ok(ended) => ProofOutcome::Said {
                code: ended.code,
                words: summary(&ended.output, &ended.complaint),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                ProofOutcome::NotRun(format!("{} is not on PATH", neighbour.command()))
            }
            Err(error) => ProofOutcome::NotRun(error.to_string()),
        };
        WireProof { command, outcome }
    }
}

fn told(neighbour: Neighbour, plan: &WirePlan, profile: Option<ProfileId>) -> ExternalWired {
    ExternalWired {
        cli: neighbour.as_str(),
        title: neighbour.title(),
        file: plan.file.clone(),
        diff: if plan.already() {
            String::new()
        } else {
            plan.diff.clone()
        },
        changed: false,
        profile,
        kept: plan.kept.clone(),
        hook_fails: None,
        proof: None,
    }
}

/// What a program printed, in one line: of an object what it says about the login, else the last line, before which
/// warnings may stand.
fn summary(output: &[u8], complaint: &[u8]) -> String {
    if let Ok(Value::Object(said)) = serde_json::from_slice(output) {
        let known = ["loggedIn", "authMethod", "subscriptionType"];
        let fields = known.iter().filter_map(|name| {
            let value = said.get(*name).filter(|value| !value.is_null())?;
            Some(format!("{name} {}", value.to_string().trim_matches('"')))
        });
        return fields.collect::<Vec<_>>().join(", ");
    }
    let text = [output, b"\n", complaint].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("nothing").to_owned()
}

fn wire_error(error: NeighbourError) -> SinkError {
    OwnerError::from(error).into()
}

/// The record of a wiring in the choices.
impl Modes {
    /// Is the program wired to us, as far as we know?
    pub(super) fn is_wired(&self, neighbour: Neighbour) -> bool {
        self.former(neighbour).is_some_and(Value::is_object)
    }
}
