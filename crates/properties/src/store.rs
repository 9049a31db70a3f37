//! The files of agents: credentials, state, refresh records, sessions, and what older programs left.

use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokensink_store::{
    CasOutcome, Expected, FileStore, Journal, ProfilesDocument, RecordKey, SessionStore, StateDocument,
    blemishes, foreign, legacy,
};
use tokensink_testkit::TestHost;
use tokensink_types::record::{Generation, Record};
use tokensink_types::{AgentId, Credential, CredentialKind, ProfileId, SessionKey, SpendKey};

use crate::check::{MARK, NOW, choice, grant, hides_mark, hides_secrets, paths, profile, provider};

/// Fields of entries that hold secrets, under the names of all ages (spec.md 2.2, 2.4.2).
pub(crate) const SECRETS: [&str; 7] = [
    "key", "apiKey", "token", "access", "refresh", "idToken", "id_token",
];

const PROFILES: &str = "/s/agents/main/agent/auth-profiles.json";
const STATE_FILE: &str = "/s/agents/main/agent/auth-state.json";
const ADDED: &str = "fuzz:added by the property";

fn json(bytes: &[u8]) -> Option<Value> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    serde_json::from_slice(bytes).ok()
}

/// `auth-profiles.json`: a store that parses is written as what was read, a change touches what it names and nothing
/// else, and a store that does not parse is never written.
pub(crate) fn profiles_file(data: &[u8]) {
    let _ = blemishes(data);
    let read = match ProfilesDocument::parse(data) {
        Err(failure) => {
            hides_mark(&failure);
            return unreadable_stays(data);
        }
        Ok(read) => read,
    };
    let document = json(data).expect("what the store reads is JSON");
    hides_secrets(&read, &document, &SECRETS);
    let written = read.to_bytes();
    let again = ProfilesDocument::parse(&written).expect("what was written parses");
    assert_eq!(again.to_bytes(), written, "writing is stable");
    assert_eq!(
        (again.entries(), again.ignored()),
        (read.entries(), read.ignored())
    );
    foreign_entries(data);

    let mut changed = read.clone();
    if changed.get(&profile(ADDED)).is_none() && !changed.ignored().iter().any(|one| one.key.trim() == ADDED)
    {
        changed.upsert(&profile(ADDED), &grant("fuzz", 1));
        only_differs_in(&again, &changed, ADDED);
        assert_eq!(changed.get(&profile(ADDED)), Some(&grant("fuzz", 1)));
        assert!(changed.remove(&profile(ADDED)));
        assert_eq!(changed.entries(), read.entries());
    }
    let grants = read
        .entries()
        .iter()
        .filter(|entry| entry.credential.as_oauth().is_some());
    if let Some(entry) = grants.clone().next() {
        through_the_store(data, &read, entry);
    }
}

/// A refresh's commit of one entry through files, locks and all.
fn through_the_store(data: &[u8], read: &ProfilesDocument, entry: &tokensink_store::ProfileEntry) {
    let test = TestHost::new();
    test.files.put(PROFILES, data, 0o600);
    let store = FileStore::new(test.host(), paths(), false);
    let Credential::OAuth(mut next) = entry.credential.clone() else {
        return;
    };
    let expected = match next.tokens.refresh_token() {
        Some(token) => Expected::Spend(SpendKey::of(token)),
        None => Expected::NoRefreshToken,
    };
    let fresh = grant("fuzz", 2);
    next.tokens = fresh.as_oauth().expect("a grant").tokens.clone();
    let next = Credential::OAuth(next);
    let outcome = store.compare_and_set(&AgentId::main(), &entry.id, expected, Some(&next));
    assert!(matches!(outcome, Ok(CasOutcome::Done)), "{outcome:?}");
    let after = test.files.text(PROFILES);
    let after = ProfilesDocument::parse(after.as_bytes()).expect("what was written parses");
    let stored = after
        .get(&entry.id)
        .and_then(Credential::as_oauth)
        .expect("a grant");
    assert_eq!(Some(&stored.tokens), next.as_oauth().map(|oauth| &oauth.tokens));
    // Older layouts keep the state beside the profiles; a write moves it to its own file.
    let state = ["order", "lastGood", "usageStats", "version"];
    let key = json(&after.to_bytes()).and_then(|value| {
        let profiles = value.get("profiles")?.as_object()?;
        profiles
            .keys()
            .find(|key| key.trim() == entry.id.as_str())
            .cloned()
    });
    same_but(
        &json(&read.to_bytes()),
        &json(&after.to_bytes()),
        &state,
        key.as_deref().unwrap_or_default(),
    );
}

fn unreadable_stays(data: &[u8]) {
    let test = TestHost::new();
    test.files.put(PROFILES, data, 0o600);
    let store = FileStore::new(test.host(), paths(), false);
    let added = store.compare_and_set(
        &AgentId::main(),
        &profile(ADDED),
        Expected::Spend(SpendKey([0; 32])),
        Some(&grant("fuzz", 1)),
    );
    assert!(added.is_err(), "{added:?}");
    hides_mark(&added);
    kept(&test, data);
}

/// The bytes are still in some file.
#[track_caller]
fn kept(test: &TestHost, data: &[u8]) {
    assert!(
        test.files.snapshot().values().any(|content| content == data),
        "a file that does not parse is never written over"
    );
}

fn foreign_entries(data: &[u8]) {
    let Ok(found) = foreign::parse_profiles(data) else {
        panic!("the same text reads as another program's store");
    };
    for entry in &found.entries {
        let mut value = entry.to_value();
        if !names_itself(entry.id(), &value) {
            hides_mark(&entry);
        }
        let again =
            foreign::ForeignEntry::from_value(entry.id().clone(), value.clone()).expect("it was an entry");
        assert_eq!(again.credential(), entry.credential());
        assert!(again.has_secret_of(entry.credential()) || !entry.has_secret_of(entry.credential()));
        foreign::wipe(&mut value);
    }
    for kind in [None, Some(CredentialKind::OAuth)] {
        let _ = foreign::parse_flat(data, kind);
    }
}

/// Does the mark stand where an entry is named, or says where its secret is? Whoever puts a token there has shown it
/// already.
fn names_itself(id: &ProfileId, value: &Value) -> bool {
    const NAMES: [&str; 11] = [
        "provider",
        "email",
        "displayName",
        "accountId",
        "clientId",
        "subject",
        "plan",
        "chatgptAccountId",
        "keyRef",
        "tokenRef",
        "metadata",
    ];
    let mut named = NAMES.iter().filter_map(|name| value.get(name));
    id.as_str().contains(MARK) || named.any(|value| value.to_string().contains(MARK))
}

#[track_caller]
fn only_differs_in(before: &ProfilesDocument, after: &ProfilesDocument, id: &str) {
    same_but(
        &json(&before.to_bytes()),
        &json(&after.to_bytes()),
        &["version"],
        id,
    );
}

/// Both documents hold the same, but for top-level `keys` and the profile `id`.
#[track_caller]
fn same_but(before: &Option<Value>, after: &Option<Value>, keys: &[&str], id: &str) {
    let without = |value: &Option<Value>| {
        let mut map = value
            .as_ref()
            .and_then(Value::as_object)
            .cloned()
            .expect("an object");
        keys.iter().for_each(|key| drop(map.shift_remove(*key)));
        if let Some(profiles) = map.get_mut("profiles").and_then(Value::as_object_mut) {
            profiles.shift_remove(id);
        }
        map
    };
    assert_eq!(
        without(before),
        without(after),
        "what nobody asked to change stays"
    );
}

/// `auth-state.json`: as for the profiles.
pub(crate) fn state_file(data: &[u8]) {
    let test = TestHost::new();
    test.files.put(STATE_FILE, data, 0o600);
    let store = FileStore::new(test.host(), paths(), false);
    let (rig, id) = (provider("fuzz"), profile(ADDED));
    let read = match StateDocument::parse(data) {
        Err(failure) => {
            hides_mark(&failure);
            // Order and statistics are worth less than a working agent: the file is set aside, never lost.
            let loaded = store
                .load(&AgentId::main())
                .expect("an agent works without its state");
            assert!(!loaded.is_state_known());
            let _ = store.update_state(&AgentId::main(), |state| state.mark_used(&rig, &id, NOW));
            return kept(&test, data);
        }
        Ok(read) => read,
    };
    for (key, order) in read.orders() {
        assert_eq!(
            read.order(&key).is_some(),
            !order.is_empty() || read.order(&key).is_some()
        );
    }
    let _ = (read.last_goods(), read.usages());
    let before = json(data).expect("what is read is JSON");
    let mut changed = read.clone();
    changed.set_order(&rig, std::slice::from_ref(&id));
    changed.mark_used(&rig, &id, NOW);
    let bytes = changed.to_bytes().expect("it is not empty");
    let again = StateDocument::parse(&bytes).expect("what was written parses");
    assert_eq!(again.to_bytes().as_deref(), Some(&bytes[..]), "writing is stable");
    assert_eq!(again.order(&rig), Some(vec![id.clone()]));
    assert_eq!(again.usage(&id).and_then(|usage| usage.last_used), Some(NOW));
    assert_eq!(others(&before, &[]), others(&json(&bytes).expect("JSON"), &[]));
    let done = store.update_state(&AgentId::main(), |state| state.mark_used(&rig, &id, NOW));
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(
        others(&before, &[]),
        others(&json(test.files.text(STATE_FILE).as_bytes()).expect("JSON"), &[])
    );
}

/// What is in a state document besides the provider and profile of the property, and what a change of it makes.
fn others(value: &Value, _: &[&str]) -> Map<String, Value> {
    let mut map = value.as_object().cloned().expect("an object");
    map.shift_remove("version");
    for name in ["order", "lastGood", "usageStats"] {
        let Some(inner) = map.get_mut(name) else { continue };
        // Of another kind it is replaced: nobody can put an entry into a number.
        let empty = match inner.as_object_mut() {
            Some(inner) => {
                inner.retain(|key, _| !key.trim().eq_ignore_ascii_case("fuzz") && key.trim() != ADDED);
                inner.is_empty()
            }
            None => true,
        };
        if empty {
            map.shift_remove(name);
        }
    }
    map
}

/// A refresh record's file: two checksummed pages of which the newest whole one counts.
pub(crate) fn record_pages(data: &[u8]) {
    let (mode, data) = choice(data);
    let test = TestHost::new();
    let journal = Journal::new(test.host(), &paths());
    let mut own = Record::idle(provider("fuzz"), profile(ADDED), PROFILES.to_owned(), None);
    own.generation = Some(Generation {
        tokens: grant("fuzz", 1).as_oauth().expect("a grant").tokens.clone(),
        account: tokensink_types::Account::default(),
        issued_at: Some(NOW),
        fields: std::collections::BTreeMap::new(),
    });
    let key = match mode % 3 {
        // A torn or damaged file: one whole page of ours, and whatever.
        0 => RecordKey::of(&own),
        1 => RecordKey::of(&own),
        // A whole page around a payload of somebody's.
        _ => named_in(data).unwrap_or(RecordKey::of(&own)),
    };
    let path = journal.path(&key);
    match mode % 3 {
        0 => tear(&test, &journal, &own, data),
        1 => test.files.put(&path, data, 0o600),
        _ => test.files.put(&path, page(data), 0o600),
    }
    let before = test.files.snapshot();
    match journal.read(&key) {
        Ok(Some(record)) => {
            assert_eq!(RecordKey::of(&record), key);
            is_written_as_read(&test, &journal, &record);
        }
        Ok(None) => assert!(
            data.iter().all(|byte| *byte == 0),
            "only zeros are a file being erased"
        ),
        Err(error) => {
            hides_mark(&error);
            hides_mark(&error.to_string());
            assert_eq!(test.files.snapshot(), before, "reading changes nothing");
            let mut next = own;
            (next.store, next.profile) = (key.store.clone(), key.profile.clone());
            journal.write(&next).expect("memory takes it");
            let read = journal.read(&key).expect("it was written");
            assert_eq!(read.as_deref(), Some(&next));
            let left = test.files.snapshot();
            let kept = left.values().any(|content| Some(content) == before.get(&path));
            assert!(kept, "what cannot be read is set aside");
        }
    }
}

/// A record of ours, and a whole page of it that is damaged: whatever it says, the other page counts.
fn tear(test: &TestHost, journal: &Journal, own: &Record, data: &[u8]) {
    journal.write(own).expect("memory takes it");
    let key = RecordKey::of(own);
    let path = journal.path(&key);
    let mut file = test.files.snapshot().remove(&path).expect("it was written");
    let half = file.len() / 2;
    let length = data.len().min(half);
    file[half..half + length].copy_from_slice(&data[..length]);
    test.files.put(&path, &file, 0o600);
    if is_sealed(data) {
        // A fuzzer that watches comparisons finds hashes; a crash does not.
        return;
    }
    let read = journal.read(&key).expect("one page is whole");
    assert_eq!(read.as_deref(), Some(own), "a torn page leaves the other");
}

fn is_written_as_read(test: &TestHost, journal: &Journal, record: &Record) {
    hides_mark(&record.state);
    journal.write(record).expect("memory takes it");
    let fresh = Journal::new(test.host(), &paths());
    let again = fresh.read(&RecordKey::of(record)).expect("it was written");
    assert_eq!(
        again.as_deref(),
        Some(record),
        "a record is written as it was read"
    );
    assert_eq!(
        fresh.list().expect("a list").records,
        std::slice::from_ref(record)
    );
}

/// Is it the beginning of a page whose hash is right?
fn is_sealed(page: &[u8]) -> bool {
    let Some((head, rest)) = page.split_at_checked(56) else {
        return false;
    };
    let length = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
    let payload = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    payload.is_some_and(|payload| {
        let digest = Sha256::new().chain_update(&head[8..24]).chain_update(payload);
        digest.finalize()[..] == head[24..]
    })
}

/// The key that a payload names.
fn named_in(payload: &[u8]) -> Option<RecordKey> {
    let value = json(payload)?;
    Some(RecordKey {
        store: value.get("store")?.as_str()?.to_owned(),
        profile: tokensink_types::ProfileId::parse(value.get("profile")?.as_str()?).ok()?,
    })
}

/// A page of a record's file as the store documents it: magic, size, length, sequence, SHA-256, payload, zeros.
fn page(payload: &[u8]) -> Vec<u8> {
    const SIZE: u32 = 16 * 1024;
    let mut numbers = SIZE.to_le_bytes().to_vec();
    numbers.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    numbers.extend(7_u64.to_le_bytes());
    let digest = Sha256::new()
        .chain_update(&numbers)
        .chain_update(payload)
        .finalize();
    let mut page = b"tsrec01\n".to_vec();
    page.extend(numbers);
    page.extend(digest);
    page.extend(payload);
    page.resize(2 * SIZE as usize, 0);
    page
}

/// `auth.json` and `oauth.json` of older programs: brought in once, nothing lost, nothing of others touched.
pub(crate) fn legacy_files(data: &[u8]) {
    const AUTH: &str = "/s/agents/main/agent/auth.json";
    const OAUTH: &str = "/s/credentials/oauth.json";
    let (mode, data) = choice(data);
    let file = if mode % 2 == 0 { AUTH } else { OAUTH };
    let test = TestHost::new();
    test.files.put(file, data, 0o600);
    let store = FileStore::new(test.host(), paths(), false);
    let main = AgentId::main();
    let report = legacy::import(&store, &main).expect("a bad file is in the report");
    let document = json(data);
    if let Some(document) = &document {
        hides_secrets(&report, document, &SECRETS);
    } else {
        hides_mark(&report);
    }
    let snapshot = test.files.snapshot();
    // A file of which nothing is left is removed.
    let now = snapshot.get(Path::new(file)).map_or(&b"{}"[..], Vec::as_slice);
    if file == OAUTH || report.removed.is_empty() {
        assert_eq!(now, data, "what is not emptied stays byte for byte");
    }
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (&document, json(now)) {
        let expected: Vec<_> = before
            .iter()
            .filter(|(key, _)| !report.removed.contains(key))
            .collect();
        assert_eq!(
            after.iter().collect::<Vec<_>>(),
            expected,
            "exactly what was imported is removed"
        );
    }
    let loaded = store.load(&main).expect("a store that parses");
    for (id, _) in &report.imported {
        assert!(loaded.profiles.get(id).is_some(), "{id} was imported");
    }
    let again = legacy::import(&store, &main).expect("a bad file is in the report");
    assert!(
        again.imported.is_empty() && again.removed.is_empty(),
        "each entry is looked at once: {again:?}"
    );
}

/// `sessions.json`: one session changes, and the text around it stays.
pub(crate) fn sessions_file(data: &[u8]) {
    const FILE: &str = "/s/agents/main/sessions/sessions.json";
    let test = TestHost::new();
    test.files.put(FILE, data, 0o600);
    let store = SessionStore::new(test.host(), paths(), false);
    let main = AgentId::main();
    let loaded = store.load(&main).expect("a bad file counts as empty");
    let key = SessionKey::parse("agent:main:main").expect("a key");
    let known = loaded.map.get(&key).cloned();
    let pinned = store.update(&main, &key, |session| {
        session.profile = Some(profile("fuzz:pinned"));
    });
    let snapshot = test.files.snapshot();
    let Ok(updated) = pinned else {
        assert_eq!(
            snapshot.get(Path::new(FILE)).map(Vec::as_slice),
            Some(data),
            "a failure leaves the file"
        );
        return;
    };
    if !updated.set_aside.is_empty() {
        return kept(&test, data);
    }
    assert_eq!(updated.session.profile, Some(profile("fuzz:pinned")));
    let after = &snapshot[Path::new(FILE)];
    let again = SessionStore::new(test.host(), paths(), false)
        .load(&main)
        .expect("it was written");
    for (other, session) in loaded.map.iter().filter(|(other, _)| **other != key) {
        assert_eq!(again.map.get(other), Some(session));
    }
    let (Some(Value::Object(mut old)), Some(Value::Object(mut new))) = (json(data), json(after)) else {
        assert!(
            known.is_none() && json(after).is_some(),
            "what was written is JSON"
        );
        return;
    };
    let (old_one, new_one) = (old.shift_remove(key.as_str()), new.shift_remove(key.as_str()));
    assert_eq!(old, new, "other sessions stay");
    let ours = ["authProfileOverride", "sessionId", "updatedAt"];
    let rest = |value: Option<Value>| {
        let mut map = value
            .and_then(|value| value.as_object().cloned())
            .unwrap_or_default();
        ours.iter().for_each(|field| drop(map.shift_remove(*field)));
        map
    };
    assert_eq!(rest(old_one), rest(new_one), "other fields of the session stay");
}
