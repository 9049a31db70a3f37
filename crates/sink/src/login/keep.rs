//! Storing what a login or a paste brought, so that neither a full disk, nor a crash, nor another program that writes
//! an older copy of the store back can lose it.
//!
//! Under the grant's refresh lock the refresh record is written first and the store second (design: Refresh). While
//! one of the two can be written, the tokens are kept. What comes after that (benches, config, audit) may fail
//! without making the login a failed one; each failure becomes a note.

use std::time::Duration;

use tokensink_host::lock::{KernelLock, Wait};
use tokensink_refresh::after_login;
use tokensink_store::{
    AgentStore, DotLock, Expected, LockKind, ModelKind, OrderPlacement, RecordKey, StoreError, lock_sibling,
};
use tokensink_types::record::{Generation, Record};
use tokensink_types::{Account, AgentId, Credential, OAuth, ProfileId, ProviderId, UnixMillis};

use crate::audit;
use crate::block::{agent_option, quoted};
use crate::error::{ErrorKind, Result, SinkError};
use crate::grant::generation_of;
use crate::login::identity::label;
use crate::login::names::{self, Choice, Stored, Wish};
use crate::sink::Sink;

/// How long storing waits for a refresh of the same profile that is under way. The user waits too.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// How often the choice of the id is made again because the store changed meanwhile.
const CHOICES_MAX: u32 = 4;

/// How often a store that cannot be read is looked at again before the tokens go into the refresh record alone.
const LOOKS_MAX: u32 = 3;

/// The pause before each further look.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// A credential that has no place yet.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) agent: AgentId,
    pub(crate) provider: ProviderId,
    pub(crate) credential: Credential,
    pub(crate) account: Account,
    /// When the request that brought it was sent.
    pub(crate) issued_at: Option<UnixMillis>,
    /// The name part of the id by the method's rule.
    pub(crate) name: String,
    pub(crate) wanted: Option<ProfileId>,
    /// Names of other programs' logins.
    pub(crate) reserved: Vec<String>,
    /// Takes the place of what is stored under its id: a pasted credential.
    pub(crate) replaces: bool,
    /// The provider's default model, and whether it is to be set.
    pub(crate) default_model: Option<(String, bool)>,
}

impl Newcomer {
    fn wish(&self) -> Wish<'_> {
        Wish {
            provider: &self.provider,
            kind: self.credential.kind(),
            account: &self.account,
            name: &self.name,
            wanted: self.wanted.as_ref(),
            reserved: &self.reserved,
            replaces: self.replaces,
        }
    }
}

/// Where it went.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) profile: ProfileId,
    pub(crate) updated: bool,
    pub(crate) default_model: Option<(String, bool)>,
    pub(crate) notes: Vec<String>,
}

/// The locks of one grant; whichever could be taken.
struct Guard {
    _dot: Option<DotLock>,
    _kernel: Option<KernelLock>,
    warning: Option<String>,
}

impl Sink {
    /// Refuses an id that belongs to another provider, before anybody is asked for anything.
    pub(crate) fn check_wanted_id(
        &self,
        agent: &AgentId,
        provider: &ProviderId,
        id: &ProfileId,
    ) -> Result<()> {
        let store = self.store().load(agent).ok();
        let there = store.as_ref().and_then(|store| store.profiles.get(id));
        let theirs = match there {
            Some(credential) => Some(self.registry().canonical(credential.provider())),
            None => id
                .provider_part()
                .and_then(|part| self.registry().resolve(part).ok())
                .map(|definition| definition.id.clone()),
        };
        let Some(theirs) = theirs.filter(|theirs| theirs != provider) else {
            return Ok(());
        };
        let message = format!("profile id {id} belongs to provider {theirs}, not to {provider}");
        let fix = format!(
            "--profile-id {}",
            quoted(&format!("{provider}:{}", id.name_part()))
        );
        Err(SinkError::new(ErrorKind::Usage, "other_provider", message)
            .with_fix(fix)
            .about(id))
    }

    /// Stores a credential.
    ///
    /// # Errors
    /// When it is not in the store; the message says whether the tokens are kept in the refresh record.
    pub(crate) fn keep(&self, newcomer: &Newcomer) -> Result<Kept> {
        let (choice, guard) = match self.choose_and_lock(newcomer) {
            Ok(chosen) => chosen,
            Err(error) => return Err(self.keep_in_record(newcomer, &error)),
        };
        let mut notes: Vec<String> = choice.note.iter().chain(&guard.warning).cloned().collect();
        self.write(newcomer, &choice.id, &mut notes)?;
        drop(guard);
        self.clear_benches(newcomer, &choice.id, &mut notes);
        let default_model = self.apply_to_config(newcomer, &choice.id, &mut notes);
        self.warn_of_order(newcomer, &choice.id, &mut notes);
        let detail = format!("{}/{}", newcomer.provider, newcomer.credential.kind().as_str());
        self.audit(&audit::Event {
            what: "login",
            agent: &newcomer.agent,
            profile: &choice.id,
            detail,
        });
        Ok(Kept {
            profile: choice.id,
            updated: choice.updates,
            default_model,
            notes,
        })
    }

    /// Chooses the id and takes the grant's locks; chooses again under them, because another login may have taken
    /// the id meanwhile.
    fn choose_and_lock(&self, newcomer: &Newcomer) -> std::result::Result<(Choice, Guard), StoreError> {
        let mut choice = self.choose_id(newcomer)?;
        for _ in 1..CHOICES_MAX {
            let guard = self.guard_login(&newcomer.provider, &choice.id);
            let now = self.choose_id(newcomer)?;
            if now.id == choice.id {
                return Ok((now, guard));
            }
            choice = now;
        }
        let guard = self.guard_login(&newcomer.provider, &choice.id);
        Ok((choice, guard))
    }

    fn choose_id(&self, newcomer: &Newcomer) -> std::result::Result<Choice, StoreError> {
        for _ in 1..LOOKS_MAX {
            if let Ok(choice) = self.choose_id_once(newcomer) {
                return Ok(choice);
            }
            self.host().clock.sleep(LOOK_PAUSE);
        }
        self.choose_id_once(newcomer)
    }

    fn choose_id_once(&self, newcomer: &Newcomer) -> std::result::Result<Choice, StoreError> {
        let stored = match self.store().load(&newcomer.agent) {
            Ok(store) => self.stored_profiles(&store, newcomer),
            // The write sets a file that does not parse aside and begins a new one.
            Err(StoreError::Unreadable(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(names::choose(&stored, &newcomer.wish()))
    }

    /// The store cannot even be read: what is known of its logins from their records decides the id, and the tokens
    /// go into the record under it.
    fn keep_in_record(&self, newcomer: &Newcomer, error: &StoreError) -> SinkError {
        let Credential::OAuth(oauth) = &newcomer.credential else {
            return not_kept(newcomer, None, error);
        };
        let (Ok(owner), Ok(scan)) = (self.store().owner_path(&newcomer.agent), self.journal().list()) else {
            return not_kept(newcomer, None, error);
        };
        let ours = scan.records.iter().filter(|record| record.store == owner);
        let recorded: Vec<Stored> = ours
            .map(|record| Stored {
                id: record.profile.clone(),
                kind: Some(newcomer.credential.kind()),
                is_same_provider: record.provider == newcomer.provider,
                account: record
                    .generation
                    .as_ref()
                    .map(|known| known.account.clone())
                    .unwrap_or_default(),
            })
            .collect();
        let choice = names::choose(&recorded, &newcomer.wish());
        let _guard = self.guard_login(&newcomer.provider, &choice.id);
        match self.write_record(newcomer, &choice.id, oauth) {
            Ok(()) => kept_in_record(newcomer, &choice.id, error),
            Err(_) => not_kept(newcomer, Some(&choice.id), error),
        }
    }

    fn stored_profiles(&self, store: &AgentStore, newcomer: &Newcomer) -> Vec<Stored> {
        let valid = store.profiles.entries().iter().map(|entry| {
            let is_same_provider =
                self.registry().canonical(entry.credential.provider()) == newcomer.provider;
            let account = match &entry.credential {
                Credential::OAuth(oauth) => self.known_account(&newcomer.agent, &entry.id, oauth),
                other => Account {
                    email: other.labels().email.clone(),
                    ..Account::default()
                },
            };
            Stored {
                id: entry.id.clone(),
                kind: Some(entry.credential.kind()),
                is_same_provider,
                account,
            }
        });
        let ignored = store.profiles.ignored().iter().filter_map(|entry| {
            Some(Stored {
                id: ProfileId::parse(&entry.key).ok()?,
                kind: None,
                is_same_provider: false,
                account: Account::default(),
            })
        });
        valid.chain(ignored).collect()
    }

    /// What store and record together know of an account; only the record has a field for the subject.
    fn known_account(&self, agent: &AgentId, id: &ProfileId, oauth: &OAuth) -> Account {
        let mut account = oauth.account.clone();
        account.email = account.email.or_else(|| oauth.labels.email.clone());
        let record = self
            .key_of(agent, id)
            .ok()
            .and_then(|key| self.journal().read(&key).ok().flatten());
        let known = record.as_deref().and_then(|record| record.generation.as_ref());
        let same = known.filter(|known| known.tokens.access == oauth.tokens.access);
        same.map_or(account.clone(), |known| account.updated_by(&known.account))
    }

    fn key_of(&self, agent: &AgentId, id: &ProfileId) -> std::result::Result<RecordKey, StoreError> {
        self.agent_record_key(agent, id)
    }

    fn guard_login(&self, provider: &ProviderId, id: &ProfileId) -> Guard {
        let wait = Wait { deadline: LOCK_WAIT };
        let path = self.refresh_lock_path(provider, id);
        let kernel = match KernelLock::acquire(self.host(), &path, wait) {
            Ok(kernel) => kernel,
            Err(error) => {
                let warning = Some(format!(
                    "it was stored without waiting for a refresh of {id} any longer: {error}"
                ));
                return Guard {
                    _dot: None,
                    _kernel: None,
                    warning,
                };
            }
        };
        let dot = DotLock::acquire(
            self.host(),
            &kernel,
            &lock_sibling(&path),
            LockKind::Refresh,
            wait,
        );
        let (dot, warning) = match dot {
            Ok(dot) => (Some(dot), None),
            Err(error) => (
                None,
                Some(format!(
                    "it was stored without waiting for another program's refresh of {id}: {error}"
                )),
            ),
        };
        Guard {
            _dot: dot,
            _kernel: Some(kernel),
            warning,
        }
    }

    /// The record first, then the store. One of the two is enough to lose nothing.
    fn write(&self, newcomer: &Newcomer, id: &ProfileId, notes: &mut Vec<String>) -> Result<()> {
        let recorded = match &newcomer.credential {
            Credential::OAuth(oauth) => Some(self.write_record(newcomer, id, oauth)),
            Credential::Token(_) | Credential::ApiKey(_) => None,
        };
        let stored =
            self.store()
                .compare_and_set(&newcomer.agent, id, Expected::Any, Some(&newcomer.credential));
        match (stored, recorded) {
            (Ok(_), Some(Ok(()))) => Ok(()),
            (Ok(_), Some(Err(error))) => {
                notes.push(format!("the refresh record of {id} could not be written, it is made by the first refresh: {error}"));
                Ok(())
            }
            (Ok(_), None) => {
                self.erase_record(newcomer, id, notes);
                Ok(())
            }
            (Err(error), Some(Ok(()))) => Err(kept_in_record(newcomer, id, &error)),
            (Err(error), Some(Err(_)) | None) => Err(not_kept(newcomer, Some(id), &error)),
        }
    }

    fn write_record(
        &self,
        newcomer: &Newcomer,
        id: &ProfileId,
        oauth: &OAuth,
    ) -> std::result::Result<(), StoreError> {
        let key = self.key_of(&newcomer.agent, id)?;
        let idle = |generation: Generation| {
            Record::idle(
                newcomer.provider.clone(),
                id.clone(),
                key.store.clone(),
                Some(generation),
            )
        };
        // One that cannot be read is set aside by the write.
        let earlier = self.journal().read(&key).ok().flatten();
        let stored = self.store().credential(&newcomer.agent, id).ok().flatten();
        let stored = stored.as_ref().and_then(Credential::as_oauth).map(generation_of);
        // What the store holds may be newer than its record; its key is spent for us as well.
        let earlier = match stored {
            Some(stored) => Some(after_login(earlier.as_deref(), idle(stored))),
            None => earlier.map(|earlier| (*earlier).clone()),
        };
        let generation = Generation {
            tokens: oauth.tokens.clone(),
            account: newcomer.account.clone(),
            issued_at: newcomer.issued_at,
            fields: oauth.fields.clone(),
        };
        self.journal()
            .write(&after_login(earlier.as_ref(), idle(generation)))
    }

    /// A static credential has no record; one of an earlier login under the same id would only keep old secrets.
    fn erase_record(&self, newcomer: &Newcomer, id: &ProfileId, notes: &mut Vec<String>) {
        let erased = self
            .key_of(&newcomer.agent, id)
            .and_then(|key| self.journal().erase(&key));
        if let Err(error) = erased {
            notes.push(format!(
                "the refresh record of an earlier login under {id} is still there: {error}"
            ));
        }
    }

    /// A new login ends every bench of its profile (spec.md 5.5): what was wrong belonged to the old tokens.
    fn clear_benches(&self, newcomer: &Newcomer, id: &ProfileId, notes: &mut Vec<String>) {
        if let Err(error) = self.new_epoch(&newcomer.agent, id) {
            notes.push(format!(
                "the cool-down of {id} is still in force (tokensink models auth retry {id}): {error}"
            ));
        }
    }

    /// Enters the profile into `openclaw.json` (spec.md 2.9, 14.5) and returns the default model with whether it is
    /// set.
    fn apply_to_config(
        &self,
        newcomer: &Newcomer,
        id: &ProfileId,
        notes: &mut Vec<String>,
    ) -> Option<(String, bool)> {
        let email = newcomer.account.email.as_deref();
        let mode = newcomer.credential.kind().as_str();
        let model = newcomer.default_model.clone();
        let edited = self.edit_config(|editor| {
            editor.apply_profile(id, &newcomer.provider, mode, email, OrderPlacement::Front)?;
            match &model {
                Some((model, true)) => editor.set_default_model(ModelKind::Text, model),
                Some((_, false)) | None => Ok(()),
            }
        });
        if let Err(error) = &edited {
            notes.push(format!(
                "openclaw.json does not mention {id}, which is used all the same: {error}"
            ));
        }
        model.map(|(model, set)| (model, set && edited.is_ok()))
    }

    /// An explicit order hides what it does not list (spec.md 4.2).
    fn warn_of_order(&self, newcomer: &Newcomer, id: &ProfileId, notes: &mut Vec<String>) {
        let Ok(store) = self.store().load(&newcomer.agent) else {
            return;
        };
        let Some(order) = store
            .state
            .order(&newcomer.provider)
            .filter(|order| !order.contains(id))
        else {
            return;
        };
        let ids: Vec<String> = order.iter().chain([id]).map(|id| quoted(id.as_str())).collect();
        notes.push(format!(
            "agent {} has an order for {} that does not list {id}: tokensink models auth order set --provider {} --agent {} {}",
            newcomer.agent,
            newcomer.provider,
            newcomer.provider,
            newcomer.agent,
            ids.join(" ")
        ));
    }
}

/// `alice@example.com at anthropic`.
fn whose(newcomer: &Newcomer) -> String {
    match label(&newcomer.account) {
        Some(label) => format!("{label} at {}", newcomer.provider),
        None => newcomer.provider.to_string(),
    }
}

fn kept_in_record(newcomer: &Newcomer, id: &ProfileId, error: &StoreError) -> SinkError {
    let agent = &newcomer.agent;
    let option = agent_option(agent);
    let message = format!(
        "the login of {} worked and its tokens are kept in the refresh record of {id}, but they are not in the store: \
         {error}",
        whose(newcomer)
    );
    SinkError::new(ErrorKind::Failed, "kept_in_record", message)
        .with_fix(format!(
            "tokensink models auth retry {}{option}",
            quoted(id.as_str())
        ))
        .about(id)
}

fn not_kept(newcomer: &Newcomer, id: Option<&ProfileId>, error: &StoreError) -> SinkError {
    let what = match newcomer.credential {
        Credential::OAuth(_) => "login",
        Credential::Token(_) => "token",
        Credential::ApiKey(_) => "API key",
    };
    let message = format!("the {what} of {} could not be stored: {error}", whose(newcomer));
    let error = SinkError::new(ErrorKind::Failed, "not_stored", message)
        .with_fix("repair that, then run the command again");
    match id {
        Some(id) => error.about(id),
        None => error,
    }
}
