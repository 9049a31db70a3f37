//! The suite that every backend must pass. Each check says in its error what the backend did wrong.
//!
//! The backend is given empty, and is shared between threads by the checks on contention.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokensink_types::record::{Generation, Record, RecordState, Rotation};
use tokensink_types::{
    Account, AgentId, ApiKey, Credential, Labels, OAuth, ProfileId, ProviderId, Revision, Secret,
    SecretSource, SpendKey, TokenSet, UnixMillis,
};

use crate::agent_store::{CasOutcome, Expected};
use crate::backend::{CredentialStore, RecordStore};
use crate::journal::RecordKey;

/// What a backend did wrong.
pub type Failure = String;

/// Writers at once in the checks on contention.
const WRITERS: usize = 8;

/// Checks a store of credentials.
///
/// # Errors
/// The first thing that it did wrong.
pub fn credentials(store: &dyn CredentialStore) -> Result<(), Failure> {
    let main = AgentId::main();
    let id = profile("rig:user@example.com")?;
    let first = grant("access-1", "refresh-1", 1)?;
    let second = grant("access-2", "refresh-2", 2)?;
    expect(
        "an empty store has nothing",
        store.list(&main).map_err(text)?.is_empty(),
    )?;

    let set = |expected, new| store.compare_and_set(&main, &id, expected, new).map_err(text);
    let key = |refresh: &str| Expected::Spend(SpendKey::of(&Secret::from(refresh)));
    let done = |outcome: &CasOutcome| *outcome == CasOutcome::Done;
    expect(
        "nothing has no spend key",
        !done(&set(key("refresh-1"), Some(&first))?),
    )?;
    expect(
        "absent is met by nothing",
        done(&set(Expected::Absent, Some(&first))?),
    )?;
    let conflict = set(Expected::Absent, Some(&second))?;
    expect(
        "a conflict shows what is there",
        conflict == CasOutcome::Conflict(Some(Box::new(first.clone()))),
    )?;
    expect(
        "another spend key is refused",
        !done(&set(key("refresh-2"), Some(&second))?),
    )?;
    expect(
        "the spend key is met",
        done(&set(key("refresh-1"), Some(&second))?),
    )?;
    let loaded = store.load(&main, &id).map_err(text)?;
    expect("a read sees the write", loaded.as_ref() == Some(&second))?;
    let revision = second.as_oauth().map(|oauth| Revision::of(&oauth.tokens));
    let revision = revision.ok_or("a grant has no revision")?;
    expect(
        "the revision is met",
        done(&set(Expected::Revision(revision), Some(&first))?),
    )?;
    expect(
        "the old revision is not",
        !done(&set(Expected::Revision(revision), None)?),
    )?;

    listed(store, &main, &id)?;
    contended(store)
}

/// What is listed after one profile, `id`, was written for `main`: it and what comes beside it, of that owner alone.
fn listed(store: &dyn CredentialStore, main: &AgentId, id: &ProfileId) -> Result<(), Failure> {
    let other = AgentId::normalise("work");
    expect("owners are apart", store.list(&other).map_err(text)?.is_empty())?;
    let key_id = profile("rig:key")?;
    let api_key = api_key("sk-1")?;
    store
        .compare_and_set(main, &key_id, Expected::Any, Some(&api_key))
        .map_err(text)?;
    let ids: Vec<ProfileId> = store
        .list(main)
        .map_err(text)?
        .into_iter()
        .map(|entry| entry.id)
        .collect();
    expect(
        "all profiles are listed, in order",
        ids == [id.clone(), key_id.clone()],
    )?;
    let removed = store
        .compare_and_set(main, id, Expected::Any, None)
        .map_err(text)?;
    expect("removing", removed == CasOutcome::Done)?;
    expect(
        "the removed one is gone",
        store.load(main, id).map_err(text)?.is_none(),
    )?;
    let kept = store.load(main, &key_id).map_err(text)?;
    expect("the other one stays", kept == Some(api_key))
}

/// Many writers with the same expectation: exactly one wins. Many writers of different profiles: all win.
fn contended(store: &dyn CredentialStore) -> Result<(), Failure> {
    let owner = AgentId::normalise("crowd");
    let shared = profile("rig:shared")?;
    let wins = AtomicUsize::new(0);
    let results: Vec<Result<(), Failure>> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (owner, shared, wins) = (&owner, &shared, &wins);
                scope.spawn(move || {
                    let credential = grant(&format!("a{number}"), &format!("r{number}"), 1)?;
                    let outcome = store.compare_and_set(owner, shared, Expected::Absent, Some(&credential));
                    if outcome.map_err(text)? == CasOutcome::Done {
                        wins.fetch_add(1, Ordering::Relaxed);
                    }
                    let own = profile(&format!("rig:{number}"))?;
                    let outcome = store.compare_and_set(owner, &own, Expected::Absent, Some(&credential));
                    expect(
                        "different profiles do not conflict",
                        outcome.map_err(text)? == CasOutcome::Done,
                    )
                })
            })
            .collect();
        let joined = writers.into_iter().map(|writer| {
            let joined = writer.join();
            joined.unwrap_or_else(|_| Err("a writer panicked".to_owned()))
        });
        joined.collect()
    });
    results.into_iter().collect::<Result<(), Failure>>()?;
    expect("exactly one of many equal writers wins", wins.into_inner() == 1)?;
    let count = store.list(&owner).map_err(text)?.len();
    expect("no write of another profile was lost", count == WRITERS + 1)
}

/// Checks a store of refresh records.
///
/// # Errors
/// The first thing that it did wrong.
pub fn records(store: &dyn RecordStore) -> Result<(), Failure> {
    let first = record("/s/a", "rig:a", 1)?;
    let key = RecordKey::of(&first);
    let other = record("/s/b", "rig:a", 1)?;
    expect("nothing is nothing", store.read(&key).map_err(text)?.is_none())?;
    store.erase(&key).map_err(text)?;
    store.write(&first).map_err(text)?;
    store.write(&other).map_err(text)?;
    for number in 2..6 {
        let next = record("/s/a", "rig:a", number)?;
        store.write(&next).map_err(text)?;
        let read = store.read(&key).map_err(text)?;
        expect("a read sees the last write", read.as_deref() == Some(&next))?;
    }
    let large = record("/s/a", "rig:a", 100_000)?;
    store.write(&large).map_err(text)?;
    let read = store.read(&key).map_err(text)?;
    expect("a record may grow", read.as_deref() == Some(&large))?;
    let read = store.read(&RecordKey::of(&other)).map_err(text)?;
    expect("records are apart", read.as_deref() == Some(&other))?;
    let scan = store.list().map_err(text)?;
    expect(
        "all are listed",
        scan.records.len() == 2 && scan.unreadable.is_empty(),
    )?;
    store.erase(&key).map_err(text)?;
    expect(
        "the erased one is gone",
        store.read(&key).map_err(text)?.is_none(),
    )?;
    expect(
        "the other one stays",
        store.list().map_err(text)?.records == [other],
    )
}

/// A record that carries `size` bytes of access token.
pub(crate) fn record(store: &str, id: &str, size: usize) -> Result<Record, Failure> {
    let provider = ProviderId::parse("rig").map_err(text)?;
    let generation = Generation {
        tokens: tokens(&"x".repeat(size), "refresh", 5),
        account: Account {
            subject: Some("subject".to_owned()),
            ..Account::default()
        },
        issued_at: Some(UnixMillis(3)),
        fields: BTreeMap::from([("projectId".to_owned(), "p".to_owned())]),
    };
    let mut record = Record::idle(provider, profile(id)?, store.to_owned(), Some(generation));
    record.state = RecordState::Committed { at: UnixMillis(4) };
    record.rotation = Rotation::Always;
    record.push_ancestor(SpendKey::of(&Secret::from("old")));
    Ok(record)
}

fn grant(access: &str, refresh: &str, expires: i64) -> Result<Credential, Failure> {
    Ok(Credential::OAuth(OAuth {
        provider: ProviderId::parse("rig").map_err(text)?,
        tokens: tokens(access, refresh, expires),
        account: Account::default(),
        client_id: None,
        fields: BTreeMap::new(),
        labels: Labels::default(),
    }))
}

fn api_key(key: &str) -> Result<Credential, Failure> {
    Ok(Credential::ApiKey(ApiKey {
        provider: ProviderId::parse("rig").map_err(text)?,
        key: SecretSource::inline(Secret::from(key)),
        metadata: BTreeMap::new(),
        labels: Labels::default(),
    }))
}

fn tokens(access: &str, refresh: &str, expires: i64) -> TokenSet {
    TokenSet {
        access: Secret::from(access),
        refresh: Some(Secret::from(refresh)),
        expires: Some(UnixMillis(expires)),
        id_token: None,
    }
}

fn profile(id: &str) -> Result<ProfileId, Failure> {
    ProfileId::parse(id).map_err(text)
}

fn expect(what: &str, held: bool) -> Result<(), Failure> {
    if held {
        Ok(())
    } else {
        Err(format!("not so: {what}"))
    }
}

fn text(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}
