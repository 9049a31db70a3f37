//! What becomes of each credential that a source offers: a pure decision on what is known here.
//!
//! The first rule that applies decides. A key that is known here, even as a spent one, is the same grant. Between two
//! grants of one account in one agent the newer counts, because the older is most often its spent copy. Another
//! account, or one that nobody can name, never takes the place of what is stored.

use tokensink_store::Expected;
use tokensink_types::{
    AgentId, Credential, CredentialKind, Expiry, OAuth, ProfileId, Revision, SpendKey, UnixMillis,
};

use super::Incoming;
use super::known::Known;
use super::report::ImportAction;
use crate::block::{agent_option, quoted};

/// A write that a plan leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// Whose store.
    pub(crate) agent: AgentId,
    /// Which profile.
    pub(crate) profile: ProfileId,
    /// What must be there, so that what was shown is what is done.
    pub(crate) expected: Expected,
}

/// Decides on one credential. `known` grows with what would be stored, so that a source which holds a grant twice
/// brings it once.
pub(crate) fn decide(
    known: &mut Vec<Known>,
    incoming: &Incoming,
    now: UnixMillis,
) -> (ImportAction, Option<Write>) {
    let action = match incoming.entry.credential() {
        Credential::OAuth(oauth) => on_grant(known, incoming, oauth, now),
        other => on_static(known, incoming, other, now),
    };
    let (agent, profile) = match &action {
        Decision::Act(action) => return (action.clone(), None),
        Decision::New => (incoming.agent.clone(), incoming.id().clone()),
        Decision::Update { with, .. } => (with.agent.clone(), with.id.clone()),
    };
    let (action, expected) = match action {
        Decision::Update { with, why } => {
            let tokens = with.credential.as_ref().and_then(Credential::as_oauth);
            let expected = tokens.map_or(Expected::Any, |oauth| {
                Expected::Revision(Revision::of(&oauth.tokens))
            });
            let profile = profile.clone();
            (ImportAction::Update { profile, why }, expected)
        }
        Decision::New | Decision::Act(_) => (ImportAction::New, Expected::Absent),
    };
    known.retain(|one| one.agent != agent || one.id != profile);
    known.push(Known::after(incoming, &agent, &profile));
    let write = Write {
        agent,
        profile,
        expected,
    };
    (action, Some(write))
}

enum Decision {
    New,
    Update { with: Box<Known>, why: String },
    Act(ImportAction),
}

fn update(with: &Known, why: &str) -> Decision {
    Decision::Update {
        with: Box::new(with.clone()),
        why: why.to_owned(),
    }
}

fn linked(with: &Known, why: &str) -> Decision {
    Decision::Act(ImportAction::Linked {
        agent: with.agent.clone(),
        profile: with.id.clone(),
        why: why.to_owned(),
    })
}

fn kept(why: String) -> Decision {
    Decision::Act(ImportAction::Kept { why })
}

fn skipped(why: &str) -> Decision {
    Decision::Act(ImportAction::Skipped {
        why: why.to_owned(),
        fix: None,
    })
}

fn on_grant(known: &[Known], incoming: &Incoming, oauth: &OAuth, now: UnixMillis) -> Decision {
    let key = incoming.spend_key();
    let tokens = &oauth.tokens;
    if key.is_none() && tokens.access.is_blank() {
        return skipped("it holds no tokens");
    }
    if key.is_none() && tokens.expires.is_some_and(|end| end <= now) {
        return skipped("its access token has ended, and there is no refresh token");
    }
    if let Some(same) = key.and_then(|key| holder_of(known, key)) {
        return on_same_grant(same, incoming, oauth, key);
    }
    let descends = |one: &&Known| one.current.is_some_and(|key| incoming.ancestors.contains(&key));
    if let Some(older) = known.iter().find(|one| one.credential.is_some() && descends(one)) {
        return update(older, "newer tokens of the same grant");
    }
    on_account(known, incoming, tokens.expires)
}

fn holder_of(known: &[Known], key: SpendKey) -> Option<&Known> {
    known.iter().find(|one| one.keys.contains(&key))
}

fn on_same_grant(same: &Known, incoming: &Incoming, oauth: &OAuth, key: Option<SpendKey>) -> Decision {
    let in_place = same.agent == incoming.agent && same.id == *incoming.id();
    if in_place && same.credential.is_none() {
        // A crash came between the record and the store.
        return Decision::New;
    }
    if same.current != key {
        return linked(same, "the same grant, of which newer tokens are here");
    }
    if in_place && is_later(oauth.tokens.expires, same.expires) {
        return update(same, "a newer access token of the same grant");
    }
    linked(same, "the same grant")
}

/// No key is known here: the account decides, within the agent.
fn on_account(known: &[Known], incoming: &Incoming, expires: Option<UnixMillis>) -> Decision {
    let account = incoming.account();
    let own = |one: &&Known| one.agent == incoming.agent && one.credential.is_some();
    let there = known.iter().filter(own).find(|one| one.id == *incoming.id());
    if let Some(there) = there
        && let Some(decision) = other_sort(there, incoming)
    {
        return decision;
    }
    let is_same = |one: &&Known| {
        let grant = one
            .credential
            .as_ref()
            .is_some_and(|known| known.as_oauth().is_some());
        grant && one.provider == *incoming.provider() && one.account.matches(&account) == Some(true)
    };
    let same = there
        .filter(is_same)
        .or_else(|| known.iter().filter(own).find(is_same));
    if let Some(same) = same {
        return if same.dead {
            update(same, "the same account, and the login that is here is dead")
        } else if is_later(expires, same.expires) {
            update(same, "the same account with newer tokens")
        } else {
            linked(same, "the same account, whose tokens here are no older")
        };
    }
    match there {
        Some(there) if there.dead && there.account.matches(&account).is_none() => {
            update(there, "the login that is here is dead")
        }
        Some(there) => {
            let whose = if there.account.matches(&account) == Some(false) {
                "a login of another account is stored under this id"
            } else {
                "a login is stored under this id, and nothing says that it is of the same account"
            };
            kept(format!("{whose}; to take this one: {}", logout(there)))
        }
        None => Decision::New,
    }
}

fn on_static(known: &[Known], incoming: &Incoming, credential: &Credential, now: UnixMillis) -> Decision {
    let (source, end) = match credential {
        Credential::ApiKey(key) => (&key.key, Expiry::Never),
        Credential::Token(token) => (&token.token, token.expires),
        Credential::OAuth(_) => return skipped("it is a grant"),
    };
    if source.is_missing() {
        return skipped("it holds neither a value nor a reference");
    }
    if matches!(end, Expiry::At(end) if end <= now) {
        return skipped("it has ended");
    }
    let own = |one: &&Known| one.agent == incoming.agent;
    let same = |one: &&Known| {
        let stored = one.credential.as_ref();
        stored.is_some_and(|stored| incoming.entry.has_secret_of(stored))
            && one.provider == *incoming.provider()
    };
    let there = known.iter().filter(own).find(|one| one.id == *incoming.id());
    if let Some(there) = there {
        return match other_sort(there, incoming) {
            Some(decision) => decision,
            None if same(&there) => linked(there, "the same secret"),
            None => kept(format!(
                "another secret is stored under this id; to take this one: {}",
                logout(there)
            )),
        };
    }
    match known.iter().filter(own).find(same) {
        Some(same) => linked(same, "the same secret"),
        None => Decision::New,
    }
}

/// What is stored under the id belongs to another provider or is of another kind.
fn other_sort(there: &Known, incoming: &Incoming) -> Option<Decision> {
    let kind = there.credential.as_ref().map(Credential::kind)?;
    let same_kind = kind == incoming.entry.credential().kind();
    if same_kind && there.provider == *incoming.provider() {
        return None;
    }
    let what = match kind {
        CredentialKind::OAuth => "a login",
        CredentialKind::Token => "a token",
        CredentialKind::ApiKey => "an API key",
    };
    Some(kept(format!(
        "{what} of {} is stored under this id; to take this one: {}",
        there.provider,
        logout(there)
    )))
}

fn logout(known: &Known) -> String {
    format!(
        "tokensink models auth logout {}{}",
        quoted(known.id.as_str()),
        agent_option(&known.agent)
    )
}

fn is_later(one: Option<UnixMillis>, other: Option<UnixMillis>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one > other)
}

#[cfg(test)]
mod tests;
