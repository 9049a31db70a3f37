//! Choosing a mode: what is checked, what is written, and in which order.
//!
//! A choice is written under the lock of the choices and the lock of the grant, so that no refresh runs across it. A
//! mode that cannot be kept is refused and nothing is changed, with one exception: where another state dir already
//! refreshes the login, it becomes borrowed here, and that is said.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokensink_host::atomic;
use tokensink_host::lock::{KernelLock, LockError, Wait};
use tokensink_neighbours::{Keychain, Login, Neighbour, Place, PlaceKind, Reading, places, read};
use tokensink_refresh::overlay;
use tokensink_store::{GuardedLock, RecordKey};
use tokensink_types::record::{Record, RecordState};
use tokensink_types::{AgentId, CredentialKind, ProfileId, ProviderId};

use super::claim::Claims;
use super::modes::{Entry, ExternalMode, Modes};
use super::words::{cli_login_command, set_command};
use crate::audit;
use crate::block::quoted;
use crate::error::{ErrorKind, Result, SinkError};
use crate::grant::generation_of;
use crate::lease::WAIT;
use crate::owner::{Keeper, OwnerError, Target};
use crate::sink::Sink;

/// How long a change waits for another one.
const CHOICES_WAIT: Duration = Duration::from_secs(10);

/// A mode for the login of another program.
#[derive(Debug, Clone)]
pub struct ExternalSet {
    /// The program's word: `claude`, `codex`, ...
    pub cli: String,
    /// The mode.
    pub mode: ExternalMode,
    /// Where the login is, or the program's home; the default is where the program itself looks first.
    pub place: Option<PathBuf>,
    /// A person is there whom the system may ask for leave to read the Keychain.
    pub terminal: bool,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct ExternalChanged {
    /// The program's word.
    pub cli: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Where the login is, for people.
    pub place: String,
    /// The mode before, if one was chosen.
    pub before: Option<ExternalMode>,
    /// The mode in force now.
    pub mode: ExternalMode,
    /// The profile under which the login serves, or was stored.
    pub profile: ProfileId,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// The command that comes next, if one does.
    pub next: Option<String>,
}

/// A change under way, with everything that its steps need.
pub(super) struct Change {
    pub(super) place: Place,
    pub(super) before: Option<Entry>,
    /// Choices whose names lead to the place now and led elsewhere when they were made: Claude Code, for one, puts a
    /// file in the place of a link (clients.md 0.7). The new choice takes their place.
    moved: Vec<Entry>,
    pub(super) notes: Vec<String>,
}

impl Change {
    pub(super) fn neighbour(&self) -> Neighbour {
        self.place.neighbour
    }

    /// An entry for the place in this mode.
    pub(super) fn entry(&self, mode: ExternalMode, profile: &ProfileId) -> Entry {
        Entry {
            key: self.place.key(),
            place: self.place.clone(),
            mode,
            profile: profile.clone(),
            moving: None,
        }
    }
}

impl Sink {
    /// Chooses how the login that another program keeps is used from now on.
    ///
    /// # Errors
    /// A usage error for an unknown program, a login that is not there or a mode that it cannot have;
    /// [`ErrorKind::TryAgain`] while a refresh is under way; otherwise when a file cannot be read or written. The
    /// mode is then as it was, or the command can be repeated.
    pub fn external_set(&self, request: &ExternalSet) -> Result<ExternalChanged> {
        self.require_writable("a change of mode")?;
        let neighbour = known_neighbour(&request.cli)?;
        let _lock = self.lock_choices()?;
        self.forget_externals();
        let modes = Modes::load(self.host(), &self.external_file())?.0;
        let keychain = Keychain::of_this_system(request.terminal);
        let entries = modes.entries(self.host());
        let place = self.place_to_set(neighbour, request, &entries, keychain)?;
        let key = place.key();
        let mut change = Change {
            before: entries.iter().find(|entry| entry.key == key).cloned(),
            place,
            moved: moved_entries(&entries, &key),
            notes: Vec::new(),
        };
        let from = change.before.as_ref().map(|entry| entry.mode);
        let profile = match (from, request.mode) {
            (_, ExternalMode::Owned) => self.move_in(&mut change)?,
            (Some(ExternalMode::Owned), _) => {
                self.move_out(&mut change)?;
                self.change_in_place(&mut change, request.mode)?
            }
            _ => self.change_in_place(&mut change, request.mode)?,
        };
        self.forget_moved(&mut change)?;
        self.forget_externals();
        let externals = self.externals();
        let mode = externals.at(&key).map_or(request.mode, super::Chosen::mode);
        self.audit_choice(neighbour, mode, &profile);
        Ok(ExternalChanged {
            cli: neighbour.as_str(),
            title: neighbour.title(),
            place: change.place.to_string(),
            before: from,
            mode,
            next: next_step(neighbour, mode, externals.wired.contains(&neighbour)),
            profile,
            notes: change.notes,
        })
    }

    fn forget_moved(&self, change: &mut Change) -> Result<()> {
        for moved in std::mem::take(&mut change.moved) {
            self.edit_choices(|modes| modes.remove(&moved.key))?;
            let key = RecordKey {
                store: moved.key.clone(),
                profile: moved.profile.clone(),
            };
            // By the file itself: the way to it leads elsewhere now.
            let place = Place::file(self.host(), moved.place.neighbour, Path::new(&moved.key));
            self.let_go_of(&key, &place, &mut change.notes)?;
            let released = Claims::new(self.host(), self.state_dir()).release(&moved.key);
            change.notes.push(match released {
                Ok(()) => format!("it takes the place of the choice for {}", moved.key),
                Err(error) => format!("the claim on {} could not be removed: {error}", moved.key),
            });
        }
        Ok(())
    }

    fn audit_choice(&self, neighbour: Neighbour, mode: ExternalMode, profile: &ProfileId) {
        self.audit(&audit::Event {
            what: "external_mode",
            agent: &AgentId::main(),
            profile,
            detail: format!("{neighbour} {mode}"),
        });
    }

    /// One of the modes in which the login stays where it is.
    fn change_in_place(&self, change: &mut Change, mode: ExternalMode) -> Result<ProfileId> {
        let profile = self.profile_for(change)?;
        let reading = read(self.host(), &change.place);
        if mode != ExternalMode::Off {
            let login = self.usable(change.neighbour(), &change.place, &reading)?;
            self.check_mode(change.neighbour(), login, mode, &profile)?;
        }
        let _grant = self.lock_at_place(change, &profile)?;
        if mode != ExternalMode::Cooperative {
            self.forget_record(change, &profile)?;
        }
        let entry = change.entry(mode, &profile);
        self.write_choice(&entry)?;
        match mode {
            ExternalMode::Cooperative => self.claim_or_borrow(change, entry)?,
            _ => self.release(change),
        }
        if mode != ExternalMode::Off {
            self.tell_surroundings(change, &profile);
        }
        Ok(profile)
    }

    /// The profile under which the login appears; a second login of one program gets a name of its own.
    fn profile_for(&self, change: &Change) -> Result<ProfileId> {
        let neighbour = change.neighbour();
        let plain = neighbour.profile_id().ok_or_else(|| many_logins(neighbour))?;
        if let Some(before) = change
            .before
            .as_ref()
            .filter(|entry| entry.mode != ExternalMode::Owned)
        {
            return Ok(before.profile.clone());
        }
        if let Some(moved) = change.moved.first() {
            return Ok(moved.profile.clone());
        }
        let key = change.place.key();
        let externals = self.externals();
        let taken = externals.serving(&plain).is_some_and(|one| *one.key != *key);
        if !taken {
            return Ok(plain);
        }
        let mut hash = hex::encode(Sha256::digest(key.as_bytes()));
        hash.truncate(8);
        let provider = neighbour.provider().ok_or_else(|| many_logins(neighbour))?;
        Ok(ProfileId::of(&provider, &format!("{}-{hash}", plain.name_part())))
    }

    /// The login at the place, or why there is none to use.
    pub(super) fn usable<'a>(
        &self,
        neighbour: Neighbour,
        place: &Place,
        reading: &'a Reading,
    ) -> Result<&'a Login> {
        let title = neighbour.title();
        let no_login = |what: String| {
            SinkError::new(ErrorKind::LoginNeeded, "no_external_login", what)
                .with_fix(cli_login_command(neighbour))
        };
        match reading {
            Reading::Login(login) if login.credential.kind() == CredentialKind::ApiKey => {
                let message =
                    format!("{place} holds an API key of {title}, which can be imported, not shared");
                Err(SinkError::new(ErrorKind::Usage, "api_key", message)
                    .with_fix(format!("tokensink import {neighbour}")))
            }
            Reading::Login(login) => Ok(login),
            Reading::Blanked(_) => Err(no_login(format!(
                "{title} has blanked its login in {place} after a refresh was refused; log in there again"
            ))),
            Reading::SignedOut | Reading::Missing => Err(no_login(format!(
                "{title} is not logged in: {place} holds no login"
            ))),
            Reading::Unusable { reason } => {
                Err(SinkError::new(ErrorKind::Failed, "external", reason.clone()))
            }
            Reading::Locked { hint } => Err(SinkError::new(
                ErrorKind::Failed,
                "external_locked",
                format!("{place} is locked: {hint}"),
            )),
        }
    }

    fn check_mode(
        &self,
        neighbour: Neighbour,
        login: &Login,
        mode: ExternalMode,
        id: &ProfileId,
    ) -> Result<()> {
        let title = neighbour.title();
        let not_refreshable = if login.credential.kind() == CredentialKind::Token {
            Some("it has no refresh token".to_owned())
        } else {
            login.only_borrowed.clone()
        };
        if let Some(why) = not_refreshable.filter(|_| mode == ExternalMode::Cooperative) {
            let message = format!("the login of {title} can be borrowed only: {why}");
            return Err(SinkError::new(ErrorKind::Usage, "only_borrowed", message)
                .with_fix(set_command(neighbour, ExternalMode::Borrowed)));
        }
        let main = self.store().load(&AgentId::main())?;
        let copied = login
            .credential
            .as_oauth()
            .and_then(|oauth| self.same_grant_as(&main, oauth, id));
        match copied {
            None => Ok(()),
            Some(copy) => {
                let message = format!(
                    "{copy} holds the same grant as {title} in agent main's own store; one of the two must give it up, or a \
                     refresh on one side logs the other out"
                );
                let fix = if neighbour.may_cooperate() {
                    set_command(neighbour, ExternalMode::Owned)
                } else {
                    format!(
                        "tokensink models auth logout {} --agent main",
                        quoted(copy.as_str())
                    )
                };
                Err(SinkError::new(ErrorKind::Usage, "same_grant", message)
                    .with_fix(fix)
                    .about(&copy))
            }
        }
    }

    /// Which place is meant: the one that was named, else one with a choice that matters, else the first with a login.
    fn place_to_set(
        &self,
        neighbour: Neighbour,
        request: &ExternalSet,
        entries: &[Entry],
        keychain: Keychain,
    ) -> Result<Place> {
        if neighbour.profile_id().is_none() {
            return Err(many_logins(neighbour));
        }
        let candidates = places(self.host(), neighbour, keychain);
        if let Some(path) = &request.place {
            return Ok(self.named_place(neighbour, path, &candidates));
        }
        let ours = entries
            .iter()
            .filter(|entry| entry.place.neighbour == neighbour && entry.place.key() == entry.key);
        let (owned, other): (Vec<&Entry>, Vec<&Entry>) =
            ours.partition(|entry| entry.mode == ExternalMode::Owned);
        let has_login = |place: &&Place| matches!(read(self.host(), place), Reading::Login(_));
        let place = owned
            .first()
            .map(|entry| &entry.place)
            .or_else(|| candidates.iter().find(has_login))
            .or_else(|| other.first().map(|entry| &entry.place))
            .or(candidates.first());
        place.cloned().ok_or_else(|| {
            let message = format!(
                "there is no home directory in which {} could be logged in",
                neighbour.title()
            );
            SinkError::new(ErrorKind::Failed, "no_home", message)
        })
    }

    /// A file as it is; of a directory the file in which the program keeps its login.
    fn named_place(&self, neighbour: Neighbour, path: &Path, candidates: &[Place]) -> Place {
        let named = Place::file(self.host(), neighbour, path);
        let PlaceKind::File { path, real } = &named.kind else {
            return named;
        };
        let is_dir = self
            .host()
            .files
            .stat(real)
            .is_ok_and(|stamp| stamp.is_some_and(|stamp| stamp.is_dir));
        let file_name = candidates
            .iter()
            .find_map(|place| place.path().and_then(Path::file_name));
        match file_name.filter(|_| is_dir) {
            Some(name) => Place::file(self.host(), neighbour, &path.join(name)),
            None => named,
        }
    }

    /// The lock under which the grant at the place is refreshed, after what the record is ahead by has been written
    /// there.
    fn lock_at_place(&self, change: &mut Change, profile: &ProfileId) -> Result<Option<GuardedLock>> {
        let Some(provider) = change.neighbour().provider() else {
            return Ok(None);
        };
        let cooperative = change
            .before
            .as_ref()
            .is_some_and(|entry| entry.mode == ExternalMode::Cooperative);
        if cooperative {
            self.bring_up(&self.place_target(change, profile))?;
        }
        self.lock_grant(&provider, profile, "changed").map(Some)
    }

    pub(super) fn place_target(&self, change: &Change, profile: &ProfileId) -> Target {
        Target {
            keeper: Keeper::Cooperative(change.place.key().into()),
            ..Target::of_agent(&AgentId::main(), profile)
        }
    }

    /// Moves what a record is ahead by into its store, as the next use would.
    pub(super) fn bring_up(&self, target: &Target) -> Result<()> {
        let Some(grant) = self.grant(target)?.filter(|grant| grant.heal) else {
            return Ok(());
        };
        let blocked = self.fly_for(target, &grant, &tokensink_refresh::Demand::default(), WAIT)?;
        let behind = self.grant(target)?.is_some_and(|grant| grant.heal);
        if !behind {
            return Ok(());
        }
        let why = blocked.map_or_else(|| "it cannot be written now".to_owned(), |block| block.reason);
        let message = format!(
            "the store of {} is behind its refresh record: {why}",
            target.profile
        );
        Err(SinkError::new(ErrorKind::TryAgain, "behind", message).about(&target.profile))
    }

    /// Nothing of a login that is not refreshed here stays on our disk, with two exceptions: what is known of a request
    /// without an answer, and an answer that exists in the record alone.
    fn forget_record(&self, change: &mut Change, profile: &ProfileId) -> Result<()> {
        let target = self.place_target(change, profile);
        match self.record_key(&target)? {
            Some(key) => self.let_go_of(&key, &change.place, &mut change.notes),
            None => Ok(()),
        }
    }

    /// Erases the record of a place, unless it knows what nobody else does.
    fn let_go_of(&self, key: &RecordKey, place: &Place, notes: &mut Vec<String>) -> Result<()> {
        let record = self.journal().read(key).ok().flatten();
        let Some(record) = record else { return Ok(()) };
        let why = match &record.state {
            RecordState::Sent(_) => "a refresh was sent and never answered",
            _ if self.is_ahead_of(place, &record) => "the program's store is behind what was refreshed here",
            _ => return Ok(self.journal().erase(key)?),
        };
        notes.push(format!(
            "{why}; its record is kept until the login is refreshed here again"
        ));
        Ok(())
    }

    /// Does the record hold what the place lacks? Where the place cannot be read, that is not known.
    fn is_ahead_of(&self, place: &Place, record: &Record) -> bool {
        match read(self.host(), place) {
            Reading::Login(login) | Reading::Blanked(login) => {
                let stored = login.credential.as_oauth().map(generation_of);
                stored.is_some_and(|stored| overlay(&stored, Some(record)).heal)
            }
            Reading::SignedOut | Reading::Missing => false,
            Reading::Unusable { .. } | Reading::Locked { .. } => true,
        }
    }

    /// First the choice and then the claim: of two state dirs that do this at once one at most gets it.
    fn claim_or_borrow(&self, change: &mut Change, mut entry: Entry) -> Result<()> {
        let taken = Claims::new(self.host(), self.state_dir()).take(&entry.key);
        let reason = match taken {
            Ok(None) => return Ok(()),
            Ok(Some(other)) => format!("{} refreshes this login already", other.display()),
            Err(error) => {
                let fix = error.command();
                let fix = fix.map_or_else(String::new, |fix| format!("; fix it and choose again: {fix}"));
                format!("it cannot be made sure that nobody else refreshes it ({error}{fix})")
            }
        };
        entry.mode = ExternalMode::Borrowed;
        self.write_choice(&entry)?;
        change
            .notes
            .push(format!("{reason}, so it is only borrowed here"));
        Ok(())
    }

    /// Is the place ours to refresh? A claim that nobody has is taken.
    pub(crate) fn has_claim(&self, key: &str) -> std::result::Result<bool, OwnerError> {
        match Claims::new(self.host(), self.state_dir()).take(key) {
            Ok(other) => Ok(other.is_none()),
            Err(error) => Err(OwnerError::Unusable {
                fix: error.command(),
                reason: format!("it cannot be made sure that no other state dir refreshes {key}: {error}"),
            }),
        }
    }

    pub(super) fn release(&self, change: &mut Change) {
        if let Err(error) = Claims::new(self.host(), self.state_dir()).release(&change.place.key()) {
            change.notes.push(format!(
                "the claim on it could not be removed, which hinders nobody: {error}"
            ));
        }
    }

    /// What else decides whether the profile is ever used.
    fn tell_surroundings(&self, change: &mut Change, profile: &ProfileId) {
        let Ok(main) = self.store().load(&AgentId::main()) else {
            return;
        };
        if main.profiles.get(profile).is_some() {
            change.notes.push(format!(
                "agent main stores an older profile under {profile}; it is hidden while this login is in use (remove it: \
                 tokensink models auth logout {} --agent main)",
                quoted(profile.as_str())
            ));
        }
        let provider = profile
            .provider_part()
            .and_then(|part| ProviderId::parse(part).ok());
        let Some(provider) = provider else { return };
        let order = main
            .state
            .order(&provider)
            .filter(|order| !order.contains(profile));
        if let Some(order) = order {
            let ids: Vec<String> = order
                .iter()
                .chain([profile])
                .map(|id| quoted(id.as_str()))
                .collect();
            change.notes.push(format!(
                "agent main has an order for {provider} that does not list it: tokensink models auth order set --provider \
                 {provider} {}",
                ids.join(" ")
            ));
        }
    }

    pub(super) fn write_choice(&self, entry: &Entry) -> Result<()> {
        let now = self.now();
        self.edit_choices(|modes| modes.set(entry, now))
    }

    /// Changes the document. The caller holds the lock of the choices.
    pub(super) fn edit_choices(&self, edit: impl FnOnce(&mut Modes)) -> Result<()> {
        let path = self.external_file();
        let mut modes = Modes::load(self.host(), &path)?.0;
        edit(&mut modes);
        let files = &*self.host().files;
        let written = atomic::ensure_dir(files, &self.paths().own_state_dir(), 0o700).and_then(|()| {
            atomic::replace(files, &*self.host().random, &path, &modes.to_bytes(), 0o600)
                .map(|_| ())
                .map_err(Into::into)
        });
        self.forget_externals();
        written.map_err(|error| {
            let message = format!("{} cannot be written: {error}", path.display());
            SinkError::new(ErrorKind::Failed, "external_unwritable", message)
        })
    }

    pub(super) fn lock_choices(&self) -> Result<KernelLock> {
        let path = self.paths().locks_dir().join("external");
        let wait = Wait {
            deadline: CHOICES_WAIT,
        };
        KernelLock::acquire(self.host(), &path, wait).map_err(|error| {
            let kind = if matches!(error, LockError::Busy { .. }) {
                ErrorKind::TryAgain
            } else {
                ErrorKind::Failed
            };
            SinkError::new(kind, "lock", error.to_string())
        })
    }
}

/// A program without its login needs its hook, and one that has it back needs it no more.
fn next_step(neighbour: Neighbour, mode: ExternalMode, wired: bool) -> Option<String> {
    match (mode, wired) {
        (ExternalMode::Owned, false) => Some(format!("tokensink external wire {neighbour}")),
        (ExternalMode::Owned, true) | (_, false) => None,
        (_, true) => Some(format!("tokensink external unwire {neighbour}")),
    }
}

fn moved_entries(entries: &[Entry], key: &str) -> Vec<Entry> {
    let is_moved =
        |entry: &&Entry| entry.key != key && entry.place.key() == key && entry.mode != ExternalMode::Owned;
    entries.iter().filter(is_moved).cloned().collect()
}

pub(super) fn known_neighbour(word: &str) -> Result<Neighbour> {
    Neighbour::parse(word).ok_or_else(|| {
        let known: Vec<&str> = Neighbour::ALL
            .into_iter()
            .filter(|neighbour| neighbour.profile_id().is_some())
            .map(Neighbour::as_str)
            .collect();
        let message = format!(
            "{word:?} is none of the programs that we know: {}",
            known.join(", ")
        );
        SinkError::new(ErrorKind::Usage, "unknown_cli", message).with_fix("tokensink external list")
    })
}

fn many_logins(neighbour: Neighbour) -> SinkError {
    let message = format!(
        "{} keeps logins of several providers, which can be imported, not shared",
        neighbour.title()
    );
    SinkError::new(ErrorKind::Usage, "many_logins", message).with_fix(format!("tokensink import {neighbour}"))
}
