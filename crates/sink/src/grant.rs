//! Between the store's view of an OAuth profile and the refresh protocol's: credential and generation.

use std::sync::Arc;

use tokensink_refresh::{Demand, Standing, View, is_ahead, overlay, stand};
use tokensink_store::{RecordKey, StoreError};
use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{Account, AgentId, OAuth, ProviderId, UnixMillis};

use crate::error::Result;
use crate::flight::policy_of;
use crate::owner::{Keeper, OwnerError, Target};
use crate::sink::Sink;

/// The generation that a stored OAuth profile holds.
pub(crate) fn generation_of(oauth: &OAuth) -> Generation {
    Generation {
        tokens: oauth.tokens.clone(),
        account: oauth.account.clone(),
        issued_at: None,
        fields: oauth.fields.clone(),
    }
}

/// `oauth` with the provider's fields that its record still knows and its store has lost: OpenClaw writes a store whole
/// and leaves out what it does not know (`tokenEndpoint`, `resourceUrl`). Fields that belong to other tokens than those
/// of the store, or newer ones that replace them, are not taken.
pub(crate) fn restored(oauth: &OAuth, record: Option<&Record>) -> OAuth {
    let mut whole = oauth.clone();
    let Some(known) = record.and_then(|record| record.generation.as_ref()) else {
        return whole;
    };
    let stored = generation_of(oauth);
    let same_tokens = known.spend_key().is_some() && known.spend_key() == stored.spend_key();
    if same_tokens || overlay(&stored, record).heal {
        for (name, value) in &known.fields {
            whole.fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    whole
}

/// `oauth` with its tokens replaced by `generation`; what the generation does not say about the account is kept.
pub(crate) fn with_generation(oauth: &OAuth, generation: &Generation) -> OAuth {
    let account: Account = oauth.account.updated_by(&generation.account);
    let mut next = oauth.clone();
    next.tokens = generation.tokens.clone();
    next.labels.email = next.labels.email.or_else(|| account.email.clone());
    next.account = account;
    next.fields.extend(generation.fields.clone());
    next
}

/// A stored grant overlaid by its record.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) oauth: OAuth,
    pub(crate) record: Option<Arc<Record>>,
    pub(crate) generation: Generation,
    pub(crate) heal: bool,
    pub(crate) policy: tokensink_refresh::Policy,
}

impl Grant {
    /// The store holds what its record does not know while the record says that a request is out: an answer may be on its
    /// way into the store past a record that could not be written, and may not be durable yet.
    pub(crate) fn is_unsettled(&self) -> bool {
        let state = self.record.as_deref().map(|record| &record.state);
        matches!(state, Some(RecordState::Sent(sent)) if self.generation.spend_key() != Some(sent.spend))
    }

    pub(crate) fn standing(&self, demand: &Demand, now: UnixMillis) -> Standing {
        stand(
            &self.generation,
            self.record.as_deref(),
            &self.policy,
            demand,
            now,
        )
    }
}

impl Sink {
    /// A grant as it stands: the store overlaid by its record. `None` when the store has no such OAuth profile.
    pub(crate) fn grant(&self, target: &Target) -> Result<Option<Grant>> {
        let Some(oauth) = self.stored_oauth(target)? else {
            return Ok(None);
        };
        let key = self.record_key(target)?;
        Ok(Some(self.overlaid(target, &oauth, key.as_ref())?))
    }

    /// The same profile in main's store, where `target` is another agent's own copy of a login of `provider`. One that
    /// the server has refused is of no help and not told.
    pub(crate) fn grant_of_main(
        &self,
        target: &Target,
        provider: &ProviderId,
    ) -> std::result::Result<Option<(Target, Grant)>, OwnerError> {
        let main = AgentId::main();
        if target.owner == main || !self.inherits(&target.owner) {
            return Ok(None);
        }
        let mains = self.target_in(&main, &target.profile);
        let theirs = self.stored_oauth(&mains)?;
        let Some(oauth) = theirs.filter(|theirs| theirs.provider == *provider) else {
            return Ok(None);
        };
        let key = self.record_key(&mains)?;
        let grant = self.overlaid(&mains, &oauth, key.as_ref())?;
        let standing = grant.standing(&Demand::default(), self.now());
        Ok((!matches!(standing, Standing::Dead(_))).then_some((mains, grant)))
    }

    /// Main's grant, where it is ahead of an agent's own copy: that one is left alone then.
    pub(crate) fn grant_ahead(
        &self,
        target: &Target,
        ours: &Grant,
        demand: &Demand,
    ) -> Result<Option<(Target, Grant)>> {
        let mains = self.grant_of_main(target, &ours.oauth.provider)?;
        let record = ours.record.as_deref();
        let is_ahead =
            |theirs: &Grant| is_ahead(&theirs.generation, &ours.generation, record, demand, self.now());
        Ok(mains.filter(|(_, theirs)| is_ahead(theirs)))
    }

    /// The grant that a stored profile makes together with the record under `key`.
    pub(crate) fn overlaid(
        &self,
        target: &Target,
        oauth: &OAuth,
        key: Option<&RecordKey>,
    ) -> std::result::Result<Grant, StoreError> {
        let record = match key {
            Some(key) => readable(self.journal().read(key))?,
            None => None,
        };
        Ok(self.overlaid_by(target, oauth, record))
    }

    /// The grant that a stored profile and its record make together.
    pub(crate) fn overlaid_by(&self, target: &Target, oauth: &OAuth, record: Option<Arc<Record>>) -> Grant {
        let oauth = restored(oauth, record.as_deref());
        let mut stored = generation_of(&oauth);
        if matches!(target.keeper, Keeper::Borrowed(_)) {
            // What is only borrowed cannot be sent, so nothing here shall know it.
            stored.tokens.refresh = None;
        }
        let View { current, heal } = overlay(&stored, record.as_deref());
        let generation = current.clone();
        let policy = self
            .refresher_for(target, &oauth)
            .map(|refresher| policy_of(&refresher.client, &target.keeper))
            .unwrap_or_default();
        Grant {
            oauth,
            record,
            generation,
            heal,
            policy,
        }
    }
}

/// A record that cannot be read counts as none: the next flight moves it aside, and until then the store counts as it
/// stands.
pub(crate) fn readable(
    read: std::result::Result<Option<Arc<Record>>, StoreError>,
) -> std::result::Result<Option<Arc<Record>>, StoreError> {
    match read {
        Err(StoreError::Unreadable(unreadable)) => {
            tracing::warn!(%unreadable, "a refresh record cannot be read");
            Ok(None)
        }
        read => read,
    }
}
