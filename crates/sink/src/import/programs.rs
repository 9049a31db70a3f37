//! The logins of other programs as sources: what may be copied, and what may not.
//!
//! Keys and bearer tokens are copied. A grant whose refresh tokens are used once is not, as long as a living program
//! goes on refreshing it: where we know the program's locks the two can share it or the grant can move (`external
//! set`), elsewhere the user must say that the program will not use it any more (`take_over`).

use std::path::{Path, PathBuf};

use tokensink_neighbours::{Keychain, Named, Neighbour, Place, Reading, cliproxy, places, read_all};
use tokensink_store::ForeignEntry;
use tokensink_types::{AgentId, Credential, OAuth, ProfileId, ProviderId, SpendKey};

use super::Incoming;
use super::report::{ImportAction, ImportPlan, ImportRow};
use super::source::Source;
use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::sink::Sink;

/// The word for `CLIProxyAPI`.
const PROXY: &str = "cliproxyapi";

/// What `import claude|codex|…` is asked for.
#[derive(Debug, Clone)]
pub struct ProgramImport {
    /// The program's word: `claude`, `codex`, `qwen`, `gemini`, `minimax`, `opencode` or `cliproxyapi`.
    pub program: String,
    /// Whose the logins become.
    pub agent: AgentId,
    /// Where its logins are; the default is where the program looks.
    pub place: Option<PathBuf>,
    /// Take grants as well: the program will not use them any more.
    pub take_over: bool,
    /// A person is there whom the system may ask for leave to read the Keychain.
    pub terminal: bool,
}

/// A grant that stays where it is, and how it can be used all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The program's word.
    pub program: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Where the login is, if it was named.
    pub place: Option<PathBuf>,
    /// We know the program's locks, so that both can refresh it, or it can move.
    pub cooperates: bool,
}

impl Shared {
    /// The command that uses the grant all the same.
    #[must_use]
    pub fn command(&self) -> String {
        let program = self.program;
        let place = self.place.as_ref().map_or_else(String::new, |place| {
            format!(" --place {}", quoted(&place.to_string_lossy()))
        });
        if self.cooperates {
            format!("tokensink external set {program} cooperative{place}")
        } else {
            format!("tokensink import {program} --take-over{place}")
        }
    }
}

/// A grant that a program on this host holds.
pub(crate) struct Beside {
    key: SpendKey,
    neighbour: Neighbour,
    place: String,
}

impl Sink {
    /// Reads a program's logins and says what would become of them. Changes nothing.
    ///
    /// # Errors
    /// A usage error for an unknown program, when there is nothing, or for `take_over` where the grant can be moved
    /// properly; otherwise when a store of ours cannot be read.
    pub fn plan_program_import(&self, request: &ProgramImport) -> Result<ImportPlan> {
        if request.program == PROXY {
            return self.plan_proxy_import(request);
        }
        let neighbour = Neighbour::parse(&request.program).ok_or_else(|| {
            let message = format!("{:?} is no program that we know", request.program);
            SinkError::new(ErrorKind::Usage, "unknown_cli", message).with_fix("tokensink import --help")
        })?;
        if request.take_over && neighbour.may_cooperate() {
            let message = format!("the login of {} can be moved without a guess", neighbour.title());
            return Err(SinkError::new(ErrorKind::Usage, "use_move", message)
                .with_fix(format!("tokensink external set {neighbour} owned")));
        }
        let places = match &request.place {
            Some(path) => vec![self.place_named(neighbour, path)],
            None => places(self.host(), neighbour, Keychain::of_this_system(request.terminal)),
        };
        let mut source = Source {
            from: neighbour.title().to_owned(),
            ..Source::default()
        };
        let mut shared = false;
        for place in &places {
            for named in read_all(self.host(), place) {
                shared |= self.offer(request, place, named, &mut source);
            }
        }
        if source.incoming.is_empty() && source.skipped.is_empty() {
            return Err(no_login(neighbour, &places));
        }
        let mut plan = self.plan_import(source)?;
        plan.shared = shared.then(|| Shared {
            program: neighbour.as_str(),
            title: neighbour.title(),
            place: request.place.clone(),
            cooperates: neighbour.may_cooperate(),
        });
        Ok(plan)
    }

    fn place_named(&self, neighbour: Neighbour, path: &Path) -> Place {
        let is_dir = |path: &Path| {
            self.host()
                .files
                .stat(path)
                .ok()
                .flatten()
                .is_some_and(|stamp| stamp.is_dir)
        };
        let named = Place::file(self.host(), neighbour, path);
        let known = places(self.host(), neighbour, Keychain::Absent);
        let name = known
            .iter()
            .find_map(|place| place.path().and_then(Path::file_name));
        match (named.path(), name) {
            (Some(dir), Some(name)) if is_dir(dir) => Place::file(self.host(), neighbour, &dir.join(name)),
            _ => named,
        }
    }

    /// Sorts one login; `true` when it stays where it is and could be shared.
    fn offer(&self, request: &ProgramImport, place: &Place, named: Named, source: &mut Source) -> bool {
        let neighbour = place.neighbour;
        let shown = PathBuf::from(place.to_string());
        let name = named
            .provider
            .as_ref()
            .map_or(named.name.clone(), ProviderId::to_string);
        let skip = |source: &mut Source, why: String, fix: Option<String>| {
            source.skipped.push(skipped(
                &request.agent,
                &name,
                named.provider.clone(),
                &shown,
                why,
                fix,
            ));
        };
        let login = match named.reading {
            Reading::Missing => return false,
            Reading::SignedOut => {
                skip(source, format!("{} is signed out there", neighbour.title()), None);
                return false;
            }
            Reading::Blanked(_) => {
                skip(
                    source,
                    "its tokens were blanked after a refresh was refused".to_owned(),
                    None,
                );
                return false;
            }
            Reading::Unusable { reason } => {
                skip(source, reason, None);
                return false;
            }
            Reading::Locked { hint } => {
                skip(source, format!("it is locked: {hint}"), None);
                return false;
            }
            Reading::Login(login) => login,
        };
        let provider = login.credential.provider().clone();
        let rotating = login
            .credential
            .as_oauth()
            .is_some_and(|oauth| self.may_rotate(oauth));
        if rotating && !request.take_over {
            let title = neighbour.title();
            let why = format!("{title} goes on refreshing it, and whoever refreshes second loses the login");
            let fix = if neighbour.may_cooperate() {
                format!("tokensink external set {neighbour} cooperative")
            } else {
                format!("once {title} no longer uses it: tokensink import {neighbour} --take-over")
            };
            skip(source, why, Some(fix));
            return true;
        }
        if rotating {
            source.notes.push(format!(
                "{} must not use its login of {provider} any more; remove it from {place} once this is done",
                neighbour.title()
            ));
        }
        let id = ProfileId::of(&provider, name_of(neighbour, &login.credential));
        source
            .incoming
            .push(incoming(&request.agent, id, login.credential, &shown));
        false
    }

    /// Can a copy of this grant end the original? Only a definition that says so makes it safe.
    fn may_rotate(&self, oauth: &OAuth) -> bool {
        let never = self
            .refresher_of(oauth)
            .is_some_and(|refresher| refresher.client.rotation == tokensink_types::record::Rotation::Never);
        oauth.tokens.refresh_token().is_some() && !never
    }

    /// The proxy's folder: as the user named it, else the one in the home directory.
    fn proxy_dir(&self, request: &ProgramImport) -> Result<PathBuf> {
        match (&request.place, self.host().env.home()) {
            (Some(dir), _) => self
                .paths()
                .expand("--place", &dir.to_string_lossy())
                .map_err(|error| SinkError::new(ErrorKind::Usage, "bad_path", error.to_string())),
            (None, Some(home)) => Ok(home.join(cliproxy::DIR)),
            (None, None) => Ok(PathBuf::from(cliproxy::DIR)),
        }
    }

    /// Puts the login of one of the proxy's files where it belongs in the plan. Returns whether it stays with the
    /// proxy.
    fn place_proxy_login(
        &self,
        request: &ProgramImport,
        path: &Path,
        login: std::result::Result<Box<OAuth>, String>,
        source: &mut Source,
    ) -> bool {
        let agent = &request.agent;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        match login {
            Err(why) => {
                source.skipped.push(skipped(agent, &name, None, path, why, None));
                false
            }
            Ok(oauth) if self.may_rotate(&oauth) && !request.take_over => {
                let why = "the proxy goes on refreshing it, and whoever refreshes second loses the login";
                let fix = format!("stop the proxy, then: tokensink import {PROXY} --take-over");
                let provider = Some(oauth.provider);
                let row = skipped(agent, &name, provider, path, why.to_owned(), Some(fix));
                source.skipped.push(row);
                true
            }
            Ok(oauth) => {
                let name = oauth.account.email.as_deref().unwrap_or(PROXY);
                let id = ProfileId::of(&oauth.provider, name);
                let credential = Credential::OAuth(*oauth);
                source.incoming.push(incoming(agent, id, credential, path));
                false
            }
        }
    }

    fn plan_proxy_import(&self, request: &ProgramImport) -> Result<ImportPlan> {
        let dir = self.proxy_dir(request)?;
        let files = cliproxy::read_dir(self.host(), &dir).map_err(|error| {
            let message = format!("{} cannot be listed: {error}", dir.display());
            SinkError::new(ErrorKind::Failed, "source_unreadable", message)
        })?;
        let mut stays = false;
        let mut source = Source {
            from: format!("CLIProxyAPI in {}", dir.display()),
            ..Source::default()
        };
        for file in files {
            stays |= self.place_proxy_login(request, &file.path, file.login, &mut source);
        }
        if source.incoming.is_empty() && source.skipped.is_empty() {
            let message = format!("{} holds no logins of CLIProxyAPI", dir.display());
            return Err(SinkError::new(ErrorKind::Usage, "nothing_to_import", message)
                .with_fix(format!("tokensink import {PROXY} --place <its directory>")));
        }
        if request.take_over && !source.incoming.is_empty() {
            source.notes.push(format!(
                "the proxy must not use these logins any more; remove their files from {} once this is done",
                dir.display()
            ));
        }
        let mut plan = self.plan_import(source)?;
        plan.shared = stays.then(|| Shared {
            program: PROXY,
            title: "CLIProxyAPI",
            place: request.place.clone(),
            cooperates: false,
        });
        Ok(plan)
    }

    /// The grants that the programs of this host hold in stores of their own. What cannot be read is passed over.
    pub(crate) fn grants_beside(&self) -> Vec<Beside> {
        let mut found = Vec::new();
        for neighbour in Neighbour::ALL {
            for place in places(self.host(), neighbour, Keychain::of_this_system(false)) {
                for named in read_all(self.host(), &place) {
                    let oauth = named
                        .reading
                        .login()
                        .and_then(|login| login.credential.as_oauth());
                    let key = oauth
                        .and_then(|oauth| oauth.tokens.refresh_token())
                        .map(SpendKey::of);
                    found.extend(key.map(|key| Beside {
                        key,
                        neighbour,
                        place: place.to_string(),
                    }));
                }
            }
        }
        found
    }
}

/// Why a copy of a grant that a living program holds is not taken in.
pub(crate) fn held_beside(beside: &[Beside], incoming: &Incoming) -> Option<ImportAction> {
    let key = incoming.spend_key()?;
    let holder = beside.iter().find(|holder| holder.key == key)?;
    Some(ImportAction::Skipped {
        why: format!(
            "{} holds the same grant in {} and goes on refreshing it",
            holder.neighbour.title(),
            holder.place
        ),
        fix: Some(format!("tokensink import {}", holder.neighbour)),
    })
}

/// What the profile is called after its provider: the program, or for a grant the account where it is known.
fn name_of(neighbour: Neighbour, credential: &Credential) -> &str {
    let email = credential
        .as_oauth()
        .and_then(|oauth| oauth.account.email.as_deref());
    email.unwrap_or(neighbour.as_str())
}

fn incoming(agent: &AgentId, id: ProfileId, credential: Credential, place: &Path) -> Incoming {
    Incoming {
        agent: agent.clone(),
        entry: ForeignEntry::of(id, credential),
        was: None,
        place: place.to_owned(),
        ancestors: Vec::new(),
        unverified: None,
        bundle: None,
    }
}

fn skipped(
    agent: &AgentId,
    name: &str,
    provider: Option<ProviderId>,
    place: &Path,
    why: String,
    fix: Option<String>,
) -> ImportRow {
    ImportRow {
        agent: agent.clone(),
        profile: name.to_owned(),
        was: None,
        provider,
        kind: None,
        place: place.to_owned(),
        action: ImportAction::Skipped { why, fix },
    }
}

fn no_login(neighbour: Neighbour, places: &[Place]) -> SinkError {
    let shown: Vec<String> = places.iter().map(ToString::to_string).collect();
    let message = format!(
        "no login of {} was found in {}",
        neighbour.title(),
        shown.join(", ")
    );
    SinkError::new(ErrorKind::Usage, "nothing_to_import", message).with_fix(format!(
        "tokensink import {neighbour} --place <file or directory>"
    ))
}
