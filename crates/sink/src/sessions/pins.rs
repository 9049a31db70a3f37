//! A session's profile before and after a request (spec.md 4.5). Which one it becomes is the policy crate's decision.

use tokensink_policy::pin::{Pin, PinSource, Pinned};
use tokensink_policy::{self as policy, SessionPin, Target};
use tokensink_store::{Session, USE_NOTED_EVERY};
use tokensink_types::{AgentId, ProviderId, SessionKey, UnixMillis};

use crate::error::Result;
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;

/// Who chose the stored profile.
pub(crate) fn source_of(session: &Session) -> PinSource {
    PinSource::of_stored(
        session.profile_source.as_deref(),
        session.profile_compactions.is_some(),
    )
}

fn pin_of(session: &Session) -> Option<Pin> {
    Some(Pin {
        profile: session.profile.clone()?,
        source: source_of(session),
        // Who does not say when it was chosen does not want it to end with a compaction.
        compactions: session.profile_compactions.or(session.compactions).unwrap_or(0),
        order_mark: session.order_mark,
    })
}

fn put(session: &mut Session, pin: &Pin) {
    session.profile = Some(pin.profile.clone());
    session.profile_source = Some(pin.source.as_str().to_owned());
    session.profile_compactions = (pin.source == PinSource::Auto).then_some(pin.compactions);
    session.order_mark = pin.order_mark;
}

/// Is its last use to be written down again?
fn is_use_due(session: &Session, now: UnixMillis) -> bool {
    session.made && session.used_at.is_none_or(|at| at.until(now) >= USE_NOTED_EVERY)
}

impl Sink {
    /// What the decision about a request for `provider` is to know of the session. A user's choice for another provider
    /// is none for this one, and stays.
    ///
    /// # Errors
    /// When the sessions cannot be read.
    pub(crate) fn session_pin(
        &self,
        snapshot: &AgentSnapshot,
        key: &SessionKey,
        provider: &ProviderId,
    ) -> Result<SessionPin> {
        let sessions = self.session_store().load(&snapshot.state.agent)?;
        let Some(session) = sessions.map.get(key) else {
            return Ok(SessionPin::default());
        };
        let aliases = &snapshot.config.aliases;
        let of_another = |pin: &Pin| {
            let profile = snapshot.profile(&pin.profile);
            let own = profile.map(|profile| profile.entry.credential.provider());
            pin.source == PinSource::User && own.is_some_and(|own| !aliases.same(own, provider))
        };
        Ok(SessionPin {
            pin: pin_of(session).filter(|pin| !of_another(pin)),
            is_new: session.fresh,
            compactions: session.compactions.unwrap_or(0),
        })
    }

    /// Is there nothing to store of this decision? One look at two files' stamps, for callers that must not write.
    ///
    /// # Errors
    /// When the sessions cannot be read.
    pub(crate) fn is_pin_stored(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        read: &SessionPin,
        pinned: &Pinned,
    ) -> Result<bool> {
        if pinned.profile.is_none() {
            // Nobody serves: the session stays what it was.
            return Ok(true);
        }
        let now = self.now();
        let sessions = self.session_store().load(agent)?;
        let known = sessions.map.get(key);
        let is_due = known.is_some_and(|session| is_use_due(session, now));
        Ok(pinned.pin == read.pin && !read.is_new && !is_due)
    }

    /// Stores what the decision about a request says of its session's profile, if that is anything new. `read` is what
    /// the decision was made on: where the session's profile has been changed since, by its user perhaps, that counts.
    /// A session that does not exist yet is made, for the client that named it. Returns what its user should know.
    ///
    /// # Errors
    /// When the sessions cannot be read or written.
    pub(crate) fn store_pin(
        &self,
        agent: &AgentId,
        key: &SessionKey,
        read: &SessionPin,
        pinned: &Pinned,
    ) -> Result<Option<String>> {
        if self.is_pin_stored(agent, key, read, pinned)? {
            return Ok(None);
        }
        let now = self.now();
        let updated = self.update_session(agent, key, |session| {
            if pin_of(session) != read.pin {
                return;
            }
            let is_first = *session == Session::default();
            match &pinned.pin {
                Some(pin) => put(session, pin),
                None => session.unpin(),
            }
            session.fresh = false;
            session.made |= is_first;
            if is_use_due(session, now) {
                session.used_at = Some(now);
            }
        })?;
        let aside: Vec<String> = updated
            .set_aside
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Ok((!aside.is_empty()).then(|| {
            format!(
                "the sessions of agent {agent} could not be read; the file was set aside as {}",
                aside.join(" and ")
            )
        }))
    }

    /// Gives a session that has begun anew its next profile at once, where one can serve. Where none can, the next
    /// request does it.
    pub(super) fn settle_new_session(&self, agent: &AgentId, key: &SessionKey) -> Result<()> {
        let model = self.session(agent, key)?.model;
        let Some((provider, model)) = self.split_key(&model) else {
            return Ok(());
        };
        let snapshot = self.snapshot(agent)?;
        let read = self.session_pin(&snapshot, key, &provider)?;
        let ask = policy::Request {
            model: Some(model.to_owned()),
            session: Some(read.clone()),
            ..policy::Request::new(Target::Provider(provider))
        };
        let decision = policy::select(&snapshot.config, &snapshot.state, &ask, self.now());
        match decision.ok().and_then(|decision| decision.pin) {
            Some(pinned) => self.store_pin(agent, key, &read, &pinned).map(|_| ()),
            None => Ok(()),
        }
    }
}
