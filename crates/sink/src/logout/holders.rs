//! Who else holds a grant: other profiles and agents, by store and by refresh record. Logins that other programs keep
//! in stores of their own are not looked at.

use tokensink_store::{ProfileEntry, RecordKey, StoreError};
use tokensink_types::record::{Generation, Record};
use tokensink_types::{AgentId, OAuth, SpendKey};

use crate::held::Held;
use crate::owner::Target;
use crate::sink::Sink;

/// What a search for holders found.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// The holders, in words.
    pub(super) found: Vec<String>,
    /// What could not be searched, in words.
    pub(super) not_looked_at: Vec<String>,
}

impl Sink {
    /// The other places whose store or record has a refresh token of this grant: the stored one or the newest.
    pub(super) fn holders_of(&self, target: &Target, held: &Held) -> Holders {
        let keys = keys_of(
            held.credential.as_ref().and_then(|stored| stored.as_oauth()),
            held.record.as_deref(),
        );
        let mut holders = Holders::default();
        let Ok(ours) = self.agent_record_key(&target.owner, &target.profile) else {
            return holders;
        };
        if keys.is_empty() {
            return holders;
        }
        let mut seen = vec![ours];
        match self.store().agents() {
            Ok(agents) => {
                for agent in agents {
                    if let Err(error) = self.holders_in(&agent, &keys, &mut seen, &mut holders) {
                        holders
                            .not_looked_at
                            .push(format!("agent {agent} was not looked at: {error}"));
                    }
                }
            }
            Err(error) => holders
                .not_looked_at
                .push(format!("other agents were not looked at: {error}")),
        }
        match self.journal().list() {
            Ok(scan) => {
                let others = scan
                    .records
                    .iter()
                    .filter(|record| !seen.contains(&RecordKey::of(record)));
                let same = others.filter(|record| meets(&keys, &keys_of(None, Some(record))));
                holders
                    .found
                    .extend(same.map(|record| format!("profile {} of {}", record.profile, record.store)));
            }
            Err(error) => holders
                .not_looked_at
                .push(format!("the refresh records were not looked at: {error}")),
        }
        holders
    }

    /// Two agents may share one file; what was seen under one name is not told again under another.
    fn holders_in(
        &self,
        agent: &AgentId,
        keys: &[SpendKey],
        seen: &mut Vec<RecordKey>,
        holders: &mut Holders,
    ) -> Result<(), StoreError> {
        let store = self.store().load(agent)?;
        for ProfileEntry { id, credential, .. } in store.profiles.entries() {
            let Some(oauth) = credential.as_oauth() else {
                continue;
            };
            let key = self.agent_record_key(agent, id)?;
            if seen.contains(&key) {
                continue;
            }
            // An unreadable record hides nothing that the store says.
            let record = self.journal().read(&key).ok().flatten();
            if meets(keys, &keys_of(Some(oauth), record.as_deref())) {
                holders.found.push(format!("profile {id} of agent {agent}"));
            }
            seen.push(key);
        }
        Ok(())
    }

    /// Another agent whose own store has a profile of the same id. A store that cannot be read may have one.
    pub(super) fn others_with_id(&self, target: &Target) -> Option<AgentId> {
        let ours = self.agent_record_key(&target.owner, &target.profile).ok();
        let agents = self.store().agents().ok()?;
        agents
            .into_iter()
            .filter(|agent| *agent != target.owner)
            .find(|agent| {
                let is_other_file = self.agent_record_key(agent, &target.profile).ok() != ours;
                is_other_file && !matches!(self.store().credential(agent, &target.profile), Ok(None))
            })
    }
}

fn keys_of(stored: Option<&OAuth>, record: Option<&Record>) -> Vec<SpendKey> {
    let stored = stored
        .and_then(|oauth| oauth.tokens.refresh_token())
        .map(SpendKey::of);
    let newest = record
        .and_then(|record| record.generation.as_ref())
        .and_then(Generation::spend_key);
    stored.into_iter().chain(newest).collect()
}

fn meets(ours: &[SpendKey], theirs: &[SpendKey]) -> bool {
    ours.iter().any(|key| theirs.contains(key))
}
