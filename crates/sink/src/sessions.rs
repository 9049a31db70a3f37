//! Sessions: which model and which account a conversation has (spec.md 4.4, 4.5), and the commands of a chat that
//! change it (spec.md 17).
//!
//! They are kept in `sessions.json`, where OpenClaw keeps them, so that both see the same. What a session's profile
//! becomes is decided by the policy crate; here it is looked up before a request ([`pins`]) and stored after it.

mod command;
mod pins;
mod words;

use std::path::PathBuf;

use tokensink_policy::pin::PinSource;
use tokensink_store::{Session, SessionUpdate};
use tokensink_types::{AgentId, ProfileId, ProviderId, SessionKey, UnixMillis};

use crate::error::Result;
use crate::models::key_of;
use crate::report::ModelsView;
use crate::sink::Sink;

pub use command::CommandReply;
pub(crate) use pins::source_of;

/// One session of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The agent.
    pub agent: AgentId,
    /// Its key.
    pub key: SessionKey,
    /// False for one that nothing is stored of.
    pub exists: bool,
    /// The id of the conversation; a new one is given by `/new`.
    pub session_id: Option<String>,
    /// When it last changed.
    pub updated_at: Option<UnixMillis>,
    /// The provider that was chosen for it.
    pub provider_override: Option<String>,
    /// The model that was chosen for it.
    pub model_override: Option<String>,
    /// The model in force, as `provider/model`.
    pub model: String,
    /// The profile that it keeps.
    pub pin: Option<SessionPinInfo>,
    /// Those that it keeps at further providers, by the provider's id.
    pub other_pins: Vec<SessionPinInfo>,
    /// How often it has been compacted.
    pub compactions: u64,
    /// A new conversation has begun, and nothing has been asked in it yet: the next request takes the next profile.
    pub is_new: bool,
    /// Made for a client that named it in a header. It goes some day; others never do.
    pub is_automatic: bool,
}

/// The profile that a session keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPinInfo {
    /// The profile.
    pub profile: ProfileId,
    /// Its provider, by canonical id; `None` when the agent has no such profile any more.
    pub provider: Option<ProviderId>,
    /// Who chose it.
    pub source: PinSource,
}

impl SessionPinInfo {
    /// Is there such a profile? Where there is none, the next request chooses anew.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.provider.is_some()
    }
}

impl SessionInfo {
    /// What it keeps at a provider, by its canonical id; what it keeps in `sessions.json` also where that is gone and
    /// nobody knows whose it was.
    #[must_use]
    pub fn pin_at(&self, provider: &ProviderId) -> Option<&SessionPinInfo> {
        let mut all = self.pin.iter().chain(&self.other_pins);
        let own = self.pin.as_ref().filter(|pin| !pin.exists());
        all.find(|pin| pin.provider.as_ref() == Some(provider)).or(own)
    }
}

/// The sessions of an agent.
#[derive(Debug, Clone)]
pub struct SessionsView {
    /// The agent.
    pub agent: AgentId,
    /// Its file.
    pub path: PathBuf,
    /// What changed last comes first.
    pub sessions: Vec<SessionInfo>,
    /// What is wrong with the file.
    pub warnings: Vec<String>,
}

impl Sink {
    /// One session; fine when there is none of this key yet.
    ///
    /// # Errors
    /// When the sessions, the agent's store or the config cannot be read.
    pub fn session(&self, agent: &AgentId, key: &SessionKey) -> Result<SessionInfo> {
        let sessions = self.session_store().load(agent)?;
        let known = sessions.map.get(key);
        let snapshot = self.snapshot(agent)?;
        let provider_of = |id: &ProfileId| snapshot.provider_of(id);
        let session = known.cloned().unwrap_or_default();
        let info = self.session_info(agent, key, &session, &self.models_view(agent)?, &provider_of);
        Ok(SessionInfo {
            exists: known.is_some(),
            ..info
        })
    }

    /// The profile of a provider, by its canonical id, that answered last in a session, as far as
    /// [`Sink::note_session_served`] was told. It need not be the one that the session keeps: that one may have failed, or
    /// rest, while another answered.
    ///
    /// # Errors
    /// When the sessions cannot be read.
    pub fn session_served(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        provider: &ProviderId,
    ) -> Result<Option<ProfileId>> {
        let sessions = self.session_store().load(agent)?;
        let session = sessions.map.get(key);
        Ok(session.and_then(|session| session.served.get(provider).cloned()))
    }

    /// Notes who answered in a session, so that what is bound to an account finds it after a restart, too. Nothing is
    /// written while it is the same one, nor of a session that nothing is stored of.
    ///
    /// # Errors
    /// When the sessions cannot be read or written.
    pub fn note_session_served(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        provider: &ProviderId,
        profile: &ProfileId,
    ) -> Result<()> {
        let sessions = self.session_store().load(agent)?;
        let is_noted = |session: &Session| session.served.get(provider) == Some(profile);
        if self.store().is_readonly() || sessions.map.get(key).is_none_or(is_noted) {
            return Ok(());
        }
        self.update_session(agent, key, |session| {
            // It may have gone meanwhile, and is not made again for this.
            if *session != Session::default() {
                session.served.insert(provider.clone(), profile.clone());
            }
        })?;
        Ok(())
    }

    /// All sessions of an agent, OpenClaw's and ours.
    ///
    /// # Errors
    /// As for [`Sink::session`]. A file that does not parse is no error but a warning.
    pub fn sessions(&self, agent: &AgentId) -> Result<SessionsView> {
        let sessions = self.session_store().load(agent)?;
        let snapshot = self.snapshot(agent)?;
        let provider_of = |id: &ProfileId| snapshot.provider_of(id);
        let models = self.models_view(agent)?;
        let all = sessions.map.iter();
        let mut list: Vec<SessionInfo> = all
            .map(|(key, session)| self.session_info(agent, key, session, &models, &provider_of))
            .collect();
        list.sort_by(|a, b| b.updated_at.cmp(&a.updated_at).then_with(|| a.key.cmp(&b.key)));
        Ok(SessionsView {
            agent: agent.clone(),
            path: self.session_store().path(agent),
            sessions: list,
            warnings: sessions.unreadable.iter().map(ToString::to_string).collect(),
        })
    }

    /// Begins a new conversation in a session, as `/new` does: it gets a new id, and the next profile of the order, also
    /// where the user had pinned one (spec.md 4.5.5). What was chosen as its model stays. With a single profile, or
    /// while no other can serve, it keeps the one that it has, as an automatic choice.
    ///
    /// # Errors
    /// When the sessions cannot be read or written.
    pub fn reset_session(&self, agent: &AgentId, key: &SessionKey) -> Result<SessionInfo> {
        let id = self.session_store().new_id()?;
        self.update_session(agent, key, |session| {
            session.session_id = Some(id);
            session.compactions = session.compactions.map(|_| 0);
            session.fresh = true;
            session.made = false;
        })?;
        self.settle_new_session(agent, key)?;
        self.session(agent, key)
    }

    /// Changes a session. A file that had to be set aside is told in the log.
    fn update_session(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        change: impl FnOnce(&mut Session),
    ) -> Result<SessionUpdate> {
        let updated = self.session_store().update(agent, key, change)?;
        self.moved();
        Ok(updated)
    }

    fn session_info(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        session: &Session,
        models: &ModelsView,
        provider_of: &dyn Fn(&ProfileId) -> Option<ProviderId>,
    ) -> SessionInfo {
        let kept = |profile: &ProfileId, source: PinSource| SessionPinInfo {
            provider: provider_of(profile),
            source,
            profile: profile.clone(),
        };
        let others = session.others.values();
        SessionInfo {
            agent: agent.clone(),
            key: key.clone(),
            exists: true,
            session_id: session.session_id.clone(),
            updated_at: session.updated_at,
            provider_override: session.provider_override.clone(),
            model_override: session.model_override.clone(),
            model: self.session_model(session, &models.resolved_default),
            pin: (session.profile.as_ref()).map(|profile| kept(profile, pins::source_of(session))),
            other_pins: others
                .map(|other| kept(&other.profile, PinSource::Auto))
                .collect(),
            compactions: session.compactions.unwrap_or(0),
            is_new: session.fresh,
            is_automatic: session.made,
        }
    }

    /// The model of a session as `provider/model`; `default` where none was chosen for it.
    fn session_model(&self, session: &Session, default: &str) -> String {
        let Some(model) = &session.model_override else {
            return default.to_owned();
        };
        let provider = match &session.provider_override {
            Some(provider) => provider.as_str(),
            // Some programs write both into one field.
            None if model.contains('/') => return model.clone(),
            None => default.split_once('/').map_or(default, |(provider, _)| provider),
        };
        match ProviderId::parse(provider) {
            Ok(id) => key_of(&self.registry().canonical(&id), model),
            Err(_) => format!("{provider}/{model}"),
        }
    }
}

#[cfg(test)]
mod tests;
