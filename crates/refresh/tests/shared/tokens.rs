//! Tokens and records as they are when a story begins. Refresh token `r3` comes with access token `a3`, if the server
//! rotates.

use std::collections::BTreeMap;

use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{Account, ProfileId, ProviderId, TokenSet, UnixMillis};

use super::server::{LIFE, Mode, Server};

/// A grant on its second generation, at rest. The first one is spent.
pub(crate) struct Rested {
    pub(crate) server: Server,
    pub(crate) first: Generation,
    pub(crate) second: Generation,
    /// The record of whoever refreshed it.
    pub(crate) record: Record,
}

impl Rested {
    /// The second generation was issued at `start` to `profile` in `store`.
    pub(crate) fn new(mode: Mode, profile: &ProfileId, store: &str, start: UnixMillis) -> Self {
        let earlier = start.minus(LIFE);
        let mut server = Server::new(mode, earlier);
        let first = generation(0, 0, false, earlier);
        server.handle(0, false, start);
        let refresh = u32::from(mode != Mode::NonRotating);
        let second = generation(refresh, 1, false, start);
        let mut record = Record::idle(
            provider(),
            profile.clone(),
            store.to_owned(),
            Some(second.clone()),
        );
        if let Some(key) = first.spend_key().filter(|key| second.spend_key() != Some(*key)) {
            record.push_ancestor(key);
        }
        record.state = RecordState::Committed { at: start };
        Self {
            server,
            first,
            second,
            record,
        }
    }
}

pub(crate) fn provider() -> ProviderId {
    ProviderId::parse("rig").unwrap()
}

/// Tokens as the server gives them, by a request sent when the sender's clock showed `sent`.
pub(crate) fn generation(refresh: u32, access: u32, foreign: bool, sent: UnixMillis) -> Generation {
    let owner = if foreign { "foreign" } else { "ours" };
    Generation {
        tokens: TokenSet {
            access: format!("{owner}-a{access}").into(),
            refresh: Some(format!("{owner}-r{refresh}").into()),
            expires: Some(sent.plus(LIFE)),
            id_token: None,
        },
        account: Account {
            account_id: Some(owner.to_owned()),
            ..Account::default()
        },
        issued_at: Some(sent),
        fields: BTreeMap::new(),
    }
}

pub(crate) fn refresh_of(generation: &Generation) -> String {
    let token = generation.tokens.refresh.as_ref();
    token.map_or_else(String::new, |token| token.expose().to_owned())
}

/// The number in a token's text; 0 for a blank one.
pub(crate) fn number(token: &str) -> u32 {
    token
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap_or(0)
}
