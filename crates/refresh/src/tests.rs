//! What the tests share: one grant, its records, and a moment.

mod flight;
mod keeping;
mod pilot;
mod rivals;
mod stand;
mod view;

use std::collections::BTreeMap;
use std::time::Duration;

use tokensink_types::record::{Backoff, Generation, Record, RecordState, Sent};
use tokensink_types::{Account, ProcessId, ProfileId, ProviderId, SpendKey, TokenSet, UnixMillis};

/// The moment at which everything happens.
const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

/// `seconds` after (or before) [`NOW`].
fn at(seconds: i64) -> UnixMillis {
    UnixMillis(NOW.0 + seconds * 1000)
}

/// Access token `a<name>` and refresh token `r<name>` of account `one`, ending `seconds` after [`NOW`].
fn generation(name: &str, seconds: i64) -> Generation {
    Generation {
        tokens: TokenSet {
            access: format!("a{name}").into(),
            refresh: Some(format!("r{name}").into()),
            expires: Some(at(seconds)),
            id_token: None,
        },
        account: account("one"),
        issued_at: None,
        fields: BTreeMap::new(),
    }
}

fn account(id: &str) -> Account {
    Account {
        account_id: Some(id.to_owned()),
        ..Account::default()
    }
}

/// The key of refresh token `r<name>`.
fn key(name: &str) -> SpendKey {
    SpendKey::of(&format!("r{name}").into())
}

fn process(pid: u32) -> ProcessId {
    ProcessId {
        host: "host".to_owned(),
        boot: "boot".to_owned(),
        pid,
        start: 1,
    }
}

fn provider() -> ProviderId {
    ProviderId::parse("rig").unwrap()
}

fn record_of(profile: &str, generation: Generation, state: RecordState) -> Record {
    let profile = ProfileId::parse(profile).unwrap();
    let mut record = Record::idle(provider(), profile, "store".to_owned(), Some(generation));
    record.state = state;
    record
}

fn record(generation: Generation, state: RecordState) -> Record {
    record_of("rig:work", generation, state)
}

/// A request with `r<name>`, sent first and last `seconds` after [`NOW`].
fn sent(name: &str, seconds: i64, sends: u32) -> RecordState {
    RecordState::Sent(Sent {
        spend: key(name),
        first_at: at(seconds),
        last_at: at(seconds),
        sends,
        holder: process(7),
    })
}

fn answered(parent: &str) -> RecordState {
    RecordState::Answered {
        parent: key(parent),
        at: at(-60),
    }
}

fn refused(name: &str) -> RecordState {
    RecordState::Refused {
        spent: key(name),
        code: "invalid_grant".to_owned(),
        description: String::new(),
        after_lost_answer: false,
        at: at(-60),
    }
}

fn parked(name: &str) -> RecordState {
    RecordState::Parked {
        spent: key(name),
        answer: Box::new(generation("other", 3600)),
        at: at(-60),
    }
}

fn committed() -> RecordState {
    RecordState::Committed { at: at(-60) }
}

fn backoff(seconds: i64) -> Option<Backoff> {
    Some(Backoff {
        failures: 1,
        not_before: at(seconds),
        reason: "503".to_owned(),
    })
}
