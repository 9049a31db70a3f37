//! A session's profile before and after a request (spec.md 4.5). Which one it becomes is the policy crate's decision.

use tokensink_policy::pin::{Pin, PinSource, Pinned};
use tokensink_policy::{self as policy, SessionPin, Target};
use tokensink_store::{OtherPin, Session, USE_NOTED_EVERY};
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

/// Where a session keeps the profile of a provider.
///
/// `sessions.json` has room for one; a session in which several providers are asked keeps the others in a file of ours, so
/// that asking one of them moves nothing at another.
struct Slot<'a> {
    /// By its canonical id.
    provider: &'a ProviderId,
    /// In `sessions.json`, where OpenClaw looks.
    is_own: bool,
}

impl<'a> Slot<'a> {
    /// The place for `provider`: that in `sessions.json` where nobody else's profile is there.
    fn of(session: &Session, snapshot: &'a AgentSnapshot, provider: &'a ProviderId) -> Self {
        let provider = snapshot.config.aliases.canonical(provider);
        let kept = session.profile.as_ref().and_then(|id| snapshot.provider_of(id));
        Self {
            is_own: match kept {
                Some(of) => of == *provider,
                None => !session.others.contains_key(provider),
            },
            provider,
        }
    }

    fn pin(&self, session: &Session) -> Option<Pin> {
        if self.is_own {
            return pin_of(session);
        }
        session.others.get(self.provider).map(|other| Pin {
            profile: other.profile.clone(),
            source: PinSource::Auto,
            compactions: other.compactions,
            order_mark: other.order_mark,
        })
    }

    /// Has a new conversation begun, in which nothing was asked of the provider yet?
    fn is_fresh(&self, session: &Session) -> bool {
        if self.is_own {
            return session.fresh;
        }
        let other = session.others.get(self.provider);
        other.is_some_and(|other| other.conversation != session.session_id)
    }

    fn put(&self, session: &mut Session, pin: Option<&Pin>) {
        match pin {
            Some(pin) if self.is_own => put(session, pin),
            Some(pin) => {
                let other = other_of(pin, session.session_id.clone());
                session.others.insert(self.provider.clone(), other);
            }
            None if self.is_own => session.unpin(),
            None => {}
        }
        if self.is_own {
            session.fresh = false;
        }
        if self.is_own || pin.is_none() {
            session.others.remove(self.provider);
        }
    }
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
    let is_same = pin_of(session).is_some_and(|known| {
        Pin {
            order_mark: pin.order_mark,
            ..known
        } == *pin
    });
    session.order_mark = pin.order_mark;
    if is_same {
        // Another program's fields stay as it wrote them.
        return;
    }
    session.profile = Some(pin.profile.clone());
    session.profile_source = Some(pin.source.as_str().to_owned());
    session.profile_compactions = (pin.source == PinSource::Auto).then_some(pin.compactions);
}

fn other_of(pin: &Pin, conversation: Option<String>) -> OtherPin {
    OtherPin {
        profile: pin.profile.clone(),
        compactions: pin.compactions,
        order_mark: pin.order_mark,
        conversation,
    }
}

/// Makes room in `sessions.json` for what the user chooses for `provider`, of which nothing is kept any more. An automatic
/// choice for another provider stays the session's.
pub(super) fn make_way(session: &mut Session, snapshot: &AgentSnapshot, provider: &ProviderId) {
    let kept = pin_of(session).filter(|pin| pin.source == PinSource::Auto);
    let of = session.profile.as_ref().and_then(|id| snapshot.provider_of(id));
    if let (Some(pin), Some(of)) = (kept, of) {
        let conversation = session.session_id.clone().filter(|_| !session.fresh);
        session.others.insert(of, other_of(&pin, conversation));
    }
    session.others.remove(snapshot.config.aliases.canonical(provider));
    session.unpin();
}

/// Is its last use to be written down again?
fn is_use_due(session: &Session, now: UnixMillis) -> bool {
    session.made && session.used_at.is_none_or(|at| at.until(now) >= USE_NOTED_EVERY)
}

impl Sink {
    /// What the decision about a request for `provider` is to know of the session.
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
        let slot = Slot::of(session, snapshot, provider);
        Ok(SessionPin {
            pin: slot.pin(session),
            is_new: slot.is_fresh(session),
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
    /// the decision was made on: where the session's profile of that provider has been changed since, by its user
    /// perhaps, that counts. A session that does not exist yet is made, for the client that named it. Returns what its
    /// user should know.
    ///
    /// # Errors
    /// When the sessions cannot be read or written.
    pub(crate) fn store_pin(
        &self,
        snapshot: &AgentSnapshot,
        (key, provider): (&SessionKey, &ProviderId),
        read: &SessionPin,
        pinned: &Pinned,
    ) -> Result<Option<String>> {
        let agent = &snapshot.state.agent;
        if self.is_pin_stored(agent, key, read, pinned)? {
            return Ok(None);
        }
        let now = self.now();
        let updated = self.update_session(agent, key, |session| {
            let slot = Slot::of(session, snapshot, provider);
            if slot.pin(session) != read.pin || slot.is_fresh(session) != read.is_new {
                return;
            }
            let is_first = *session == Session::default();
            slot.put(session, pinned.pin.as_ref());
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
            ..policy::Request::new(Target::Provider(provider.clone()))
        };
        let decision = policy::select(&snapshot.config, &snapshot.state, &ask, self.now());
        match decision.ok().and_then(|decision| decision.pin) {
            Some(pinned) => {
                let place = (key, &provider);
                self.store_pin(&snapshot, place, &read, &pinned).map(|_| ())
            }
            None => Ok(()),
        }
    }
}
