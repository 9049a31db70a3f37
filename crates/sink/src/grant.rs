//! Between the store's view of an OAuth profile and the refresh protocol's: credential and generation.

use tokensink_types::record::Generation;
use tokensink_types::{Account, OAuth};

/// The generation that a stored OAuth profile holds.
pub(crate) fn generation_of(oauth: &OAuth) -> Generation {
    Generation {
        tokens: oauth.tokens.clone(),
        account: oauth.account.clone(),
        issued_at: None,
        fields: oauth.fields.clone(),
    }
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
