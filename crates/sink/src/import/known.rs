//! What is here already: every stored credential with all that its refresh record knows of spent keys.

use tokensink_refresh::overlay;
use tokensink_store::RecordKey;
use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{Account, AgentId, Credential, ProfileId, ProviderId, SpendKey, UnixMillis};

use super::{Incoming, account_of};
use crate::error::Result;
use crate::grant::{generation_of, readable, with_generation};
use crate::sink::Sink;

/// A credential that is here.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) agent: AgentId,
    pub(crate) id: ProfileId,
    pub(crate) provider: ProviderId,
    /// With its newest tokens; `None` for a login that only its record holds.
    pub(crate) credential: Option<Credential>,
    pub(crate) account: Account,
    /// What its newest generation may send.
    pub(crate) current: Option<SpendKey>,
    /// Everything that was or may be sent for it, the present key included.
    pub(crate) keys: Vec<SpendKey>,
    /// When its newest access token ends.
    pub(crate) expires: Option<UnixMillis>,
    /// Nothing but a login helps: the server has refused its present key, or it has ended without one.
    pub(crate) dead: bool,
}

impl Known {
    /// What `incoming` becomes once it is stored.
    pub(crate) fn after(incoming: &Incoming, agent: &AgentId, id: &ProfileId) -> Self {
        let key = incoming.spend_key();
        let credential = incoming.entry.credential();
        Self {
            agent: agent.clone(),
            id: id.clone(),
            provider: credential.provider().clone(),
            credential: Some(credential.clone()),
            account: incoming.account(),
            current: key,
            keys: key
                .into_iter()
                .chain(incoming.ancestors.iter().copied())
                .collect(),
            expires: credential.as_oauth().and_then(|oauth| oauth.tokens.expires),
            dead: false,
        }
    }

    fn of(
        agent: &AgentId,
        id: &ProfileId,
        credential: &Credential,
        record: Option<&Record>,
        now: UnixMillis,
    ) -> Self {
        let provider = credential.provider().clone();
        let Some(oauth) = credential.as_oauth() else {
            return Self {
                agent: agent.clone(),
                id: id.clone(),
                provider,
                account: account_of(credential),
                credential: Some(credential.clone()),
                current: None,
                keys: Vec::new(),
                expires: None,
                dead: false,
            };
        };
        let stored = generation_of(oauth);
        let newest = overlay(&stored, record).current;
        let credential = Credential::OAuth(with_generation(oauth, newest));
        let current = newest.spend_key();
        let mut keys: Vec<SpendKey> = current.into_iter().chain(stored.spend_key()).collect();
        keys.extend(record.iter().flat_map(|record| keys_of(record)));
        Self {
            agent: agent.clone(),
            id: id.clone(),
            provider,
            account: account_of(&credential),
            credential: Some(credential),
            current,
            keys,
            expires: newest.tokens.expires,
            dead: match current {
                Some(_) => record.is_some_and(|record| is_refused(record, current)),
                None => newest.tokens.expires.is_some_and(|end| end <= now),
            },
        }
    }

    /// A login that a crash left in its record alone.
    fn lone(agent: &AgentId, record: &Record) -> Self {
        let generation = record.generation.as_ref();
        Self {
            agent: agent.clone(),
            id: record.profile.clone(),
            provider: record.provider.clone(),
            credential: None,
            account: generation.map(|known| known.account.clone()).unwrap_or_default(),
            current: generation.and_then(Generation::spend_key),
            keys: keys_of(record),
            expires: generation.and_then(|known| known.tokens.expires),
            dead: is_refused(record, generation.and_then(Generation::spend_key)),
        }
    }
}

fn keys_of(record: &Record) -> Vec<SpendKey> {
    let newest = record.generation.as_ref().and_then(Generation::spend_key);
    newest
        .into_iter()
        .chain(record.ancestors.iter().copied())
        .collect()
}

fn is_refused(record: &Record, current: Option<SpendKey>) -> bool {
    matches!(&record.state, RecordState::Refused { spent, .. } if current == Some(*spent))
}

impl Sink {
    /// Everything that any agent here holds. Agents that share a file are looked at once.
    ///
    /// # Errors
    /// When a store cannot be read: what it holds might be what is to be imported.
    pub(crate) fn known_credentials(&self) -> Result<Vec<Known>> {
        let mut known = Vec::new();
        let mut stores: Vec<(String, AgentId)> = Vec::new();
        let mut seen: Vec<RecordKey> = Vec::new();
        for agent in self.store().agents()? {
            let path = self.store().owner_path(&agent)?;
            if stores.iter().any(|(known, _)| *known == path) {
                continue;
            }
            stores.push((path, agent.clone()));
            for entry in self.store().load(&agent)?.profiles.entries() {
                let key = self.agent_record_key(&agent, &entry.id)?;
                let record = readable(self.journal().read(&key))?;
                known.push(Known::of(
                    &agent,
                    &entry.id,
                    &entry.credential,
                    record.as_deref(),
                    self.now(),
                ));
                seen.push(key);
            }
        }
        for record in &self.journal().list()?.records {
            let owner = stores.iter().find(|(path, _)| *path == record.store);
            if let Some((_, agent)) = owner.filter(|_| !seen.contains(&RecordKey::of(record))) {
                known.push(Known::lone(agent, record));
            }
        }
        Ok(known)
    }
}
