//! The list of an agent's profiles (spec.md 3.3, 12.8): its own and those that it inherits.

use tokensink_store::OwnedProfile;
use tokensink_types::{AgentId, Credential, Expiry, UnixMillis};

use crate::error::Result;
use crate::report::{ProfileInfo, ProfileState};
use crate::sink::Sink;
use crate::snapshot::AgentSnapshot;
use crate::status::bench_of;

impl Sink {
    /// The profiles that `agent` sees, sorted by id; with `provider` (an id or an alias) only that provider's. Reads,
    /// and changes nothing. A profile whose refresh record cannot be read is listed with the reason.
    ///
    /// # Errors
    /// When the agent's own store or the config cannot be read; a usage error for a provider that is neither defined
    /// nor stored.
    pub fn profiles(&self, agent: &AgentId, provider: Option<&str>) -> Result<Vec<ProfileInfo>> {
        let snapshot = self.snapshot(agent)?;
        let wanted = provider
            .map(|text| self.provider_id(text, &snapshot))
            .transpose()?;
        let aliases = &snapshot.config.aliases;
        let mut list: Vec<ProfileInfo> = snapshot
            .view
            .profiles
            .iter()
            .filter(|profile| {
                let own = profile.entry.credential.provider();
                wanted.as_ref().is_none_or(|wanted| aliases.same(wanted, own))
            })
            .map(|profile| self.profile_info(&snapshot, profile))
            .collect();
        list.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(list)
    }

    fn profile_info(&self, snapshot: &AgentSnapshot, profile: &OwnedProfile) -> ProfileInfo {
        let entry = &profile.entry;
        let credential = &entry.credential;
        let (expires, known_email) = self.newest_end(snapshot, profile);
        let state = self
            .profile_state(snapshot, profile)
            .unwrap_or_else(|error| ProfileState::Waiting {
                reason: error.to_string(),
                until: None,
            });
        ProfileInfo {
            id: entry.id.clone(),
            provider: credential.provider().clone(),
            kind: credential.kind(),
            owner: profile.owner.clone(),
            inherited: profile.inherited,
            label: self.label_of(&entry.id, credential),
            email: credential.labels().email.clone().or(known_email),
            expires,
            bench: bench_of(snapshot, profile, self.now()),
            is_external: snapshot.guest(profile).is_some(),
            state,
        }
    }

    /// When the credential ends and whose it is; for a grant by its newest tokens, which the record may have first.
    fn newest_end(
        &self,
        snapshot: &AgentSnapshot,
        profile: &OwnedProfile,
    ) -> (Option<UnixMillis>, Option<String>) {
        match &profile.entry.credential {
            Credential::ApiKey(_) => (None, None),
            Credential::Token(token) => match token.expires {
                Expiry::At(at) => (Some(at), None),
                Expiry::Never | Expiry::Invalid => (None, None),
            },
            Credential::OAuth(stored) => match self.grant(&snapshot.target_of(profile)) {
                Ok(Some(grant)) => (grant.generation.tokens.expires, grant.generation.account.email),
                _ => (stored.tokens.expires, stored.account.email.clone()),
            },
        }
    }
}

#[cfg(test)]
mod tests;
