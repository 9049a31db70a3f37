//! The ids that logins of OpenClaw's newest age have here: those of their JSON ancestors (spec.md 3.5).
//!
//! The newest age keeps ChatGPT logins as `openai:*` beside the API keys of OpenAI; before they were `openai-codex:*`,
//! as they are here. The archived file, where there is one, says which id a login had.

use tokensink_types::{Credential, ProfileId, ProviderId};

use super::archives::is_ancestor;
use super::source::Found;

/// The provider under which the newest age keeps ChatGPT logins.
const MERGED: &str = "openai";
/// The provider that they had before.
const FORMER: &str = "openai-codex";

/// The id and provider that an entry of a database gets here. `taken` are the ids of the entries before it.
pub(crate) fn former(
    found: &Found,
    archived: &[Found],
    taken: &[ProfileId],
) -> Option<(ProfileId, ProviderId)> {
    let credential = found.entry.credential();
    if !matches!(credential, Credential::OAuth(_)) || credential.provider().as_str() != MERGED {
        return None;
    }
    let provider = ProviderId::parse(FORMER).ok()?;
    let ancestor = archived
        .iter()
        .filter(|older| older.entry.credential().provider() == &provider)
        .find(|older| is_ancestor(older, found));
    let id = match ancestor {
        Some(older) => older.entry.id().clone(),
        None => ProfileId::of(&provider, found.entry.id().name_part()),
    };
    Some((free(id, &provider, taken), provider))
}

fn free(id: ProfileId, provider: &ProviderId, taken: &[ProfileId]) -> ProfileId {
    if !taken.contains(&id) {
        return id;
    }
    (2_u32..)
        .map(|number| ProfileId::of(provider, &format!("{}-{number}", id.name_part())))
        .find(|id| !taken.contains(id))
        .unwrap_or(id)
}

/// What a profile of the source is called here.
#[derive(Debug, Clone)]
pub(crate) struct Renamed {
    pub(crate) was: ProfileId,
    pub(crate) now: ProfileId,
    pub(crate) provider: ProviderId,
}

/// Splits an order of the source by the providers that its profiles have here.
pub(crate) fn split_order(
    provider: &ProviderId,
    ids: &[ProfileId],
    renamed: &[Renamed],
) -> Vec<(ProviderId, Vec<ProfileId>)> {
    let mut orders: Vec<(ProviderId, Vec<ProfileId>)> = Vec::new();
    for id in ids {
        let (provider, id) = match renamed.iter().find(|one| one.was == *id) {
            Some(one) => (one.provider.clone(), one.now.clone()),
            None => (provider.clone(), id.clone()),
        };
        match orders.iter_mut().find(|(known, _)| *known == provider) {
            Some((_, ids)) => ids.push(id),
            None => orders.push((provider, vec![id])),
        }
    }
    orders
}
