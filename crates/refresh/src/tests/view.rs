use tokensink_types::record::RecordState;
use tokensink_types::{Account, SpendKey};

use super::{NOW, account, answered, backoff, committed, generation, key, parked, record, refused, sent};
use crate::{Demand, Due, Policy, Standing, after_login, overlay, stand};

#[test]
fn which_generation_counts() {
    let older = |state| {
        let mut record = record(generation("2", 3600), state);
        record.ancestors = vec![key("1"), key("0")];
        record
    };
    let same_refresh = |access: &str, seconds| {
        let mut generation = generation("2", seconds);
        generation.tokens.access = access.into();
        generation
    };
    let blank = |access: &str| {
        let mut generation = same_refresh(access, 0);
        generation.tokens.refresh = Some(" ".into());
        generation
    };
    let labelled = |mut generation: tokensink_types::record::Generation, id| {
        generation.account = account(id);
        generation
    };
    // Store, record, access token that counts, heal.
    let cases = [
        ("no record", generation("1", 0), None, "a1", false),
        (
            "at rest",
            generation("2", 3600),
            Some(older(committed())),
            "a2",
            false,
        ),
        (
            "expiry rounded by the store",
            generation("2", 3599),
            Some(older(committed())),
            "a2",
            false,
        ),
        (
            "answer not committed",
            generation("1", 0),
            Some(record(generation("2", 3600), answered("1"))),
            "a2",
            true,
        ),
        (
            "rolled back by one",
            generation("1", 0),
            Some(older(committed())),
            "a2",
            true,
        ),
        (
            "rolled back by two",
            generation("0", 0),
            Some(older(RecordState::Idle)),
            "a2",
            true,
        ),
        (
            "rolled back while a request is out",
            generation("1", 0),
            Some(older(sent("2", -60, 1))),
            "a2",
            true,
        ),
        (
            "rolled back, and the label edited",
            labelled(generation("1", 0), "edited"),
            Some(older(committed())),
            "a2",
            true,
        ),
        (
            "newer login",
            generation("9", 60),
            Some(older(committed())),
            "a9",
            false,
        ),
        (
            "newer login after a refusal",
            generation("9", 60),
            Some(older(refused("2"))),
            "a9",
            false,
        ),
        (
            "refused, rolled back: not written over it",
            generation("1", 0),
            Some(older(refused("2"))),
            "a2",
            false,
        ),
        (
            "same refresh token, record later",
            same_refresh("x", 60),
            Some(older(committed())),
            "a2",
            true,
        ),
        (
            "same refresh token, store later",
            same_refresh("x", 7200),
            Some(older(committed())),
            "x",
            false,
        ),
        (
            "same refresh token, store later, answer not committed",
            same_refresh("x", 7200),
            Some(older(answered("2"))),
            "x",
            false,
        ),
        ("blanked", blank(""), Some(older(committed())), "a2", true),
        (
            "refresh token blanked",
            blank("a2"),
            Some(older(committed())),
            "a2",
            true,
        ),
        (
            "a login without refresh token",
            blank("x"),
            Some(older(committed())),
            "x",
            false,
        ),
        (
            "another account's blank",
            labelled(blank(""), "two"),
            Some(older(committed())),
            "",
            false,
        ),
    ];
    for (name, stored, record, access, heal) in cases {
        let view = overlay(&stored, record.as_ref());
        assert_eq!(view.current.tokens.access.expose(), access, "{name}");
        assert_eq!(view.heal, heal, "{name}");
    }
}

#[test]
fn the_record_knows_more_about_the_same_tokens() {
    let mut known = generation("1", 3600);
    known.issued_at = Some(NOW);
    let mut stored = generation("1", 3600);
    stored.account = Account::default();
    let record = record(known, committed());
    let view = overlay(&stored, Some(&record));
    assert_eq!(view.current.issued_at, Some(NOW));
    assert_eq!(view.current.account, account("one"));
}

#[test]
fn a_record_without_generation_knows_nothing() {
    let stored = generation("1", 3600);
    let mut record = record(generation("2", 3600), answered("1"));
    record.generation = None;
    assert_eq!(overlay(&stored, Some(&record)).current, &stored);
}

#[test]
fn a_login_remembers_what_must_not_be_sent_again() {
    let cases = [
        ("at rest", committed()),
        ("request out", sent("1", -60, 1)),
        ("refused", refused("1")),
        ("parked", parked("1")),
    ];
    for (name, state) in cases {
        let mut earlier = record(generation("1", 0), state);
        earlier.ancestors = vec![key("0")];
        earlier.backoff = backoff(30);
        let login = generation("9", 3600);
        let fresh = after_login(Some(&earlier), record(login.clone(), RecordState::Idle));
        assert_eq!(fresh.state, RecordState::Idle, "{name}");
        assert_eq!(fresh.backoff, None, "{name}");
        for stale in ["0", "1"] {
            let stale = generation(stale, 0);
            let view = overlay(&stale, Some(&fresh));
            assert_eq!(view.current, &login, "{name}");
            assert!(view.heal, "{name}");
        }
    }
}

#[test]
fn importing_what_is_known_changes_nothing_about_it() {
    let mut earlier = record(generation("2", 0), sent("2", -60, 1));
    earlier.ancestors = vec![key("1")];
    earlier.backoff = backoff(30);
    let again = after_login(Some(&earlier), record(generation("2", 0), RecordState::Idle));
    assert_eq!(again.state, earlier.state);
    assert_eq!(again.backoff, earlier.backoff);
    // An older copy is no login at all.
    let older = after_login(Some(&earlier), record(generation("1", 0), RecordState::Idle));
    assert_eq!(older, earlier);
    assert_eq!(after_login(None, older.clone()), older);
}

#[test]
fn the_boundary_between_logins_is_no_token() {
    let earlier = record(generation("1", 0), committed());
    let fresh = after_login(Some(&earlier), record(generation("9", 3600), RecordState::Idle));
    assert!(fresh.is_ancestor(SpendKey::of(&"".into())));
    let mut blank = generation("9", 0);
    blank.tokens.refresh = Some("".into());
    blank.tokens.access = "x".into();
    assert!(!overlay(&blank, Some(&fresh)).heal);
    let standing = stand(
        &generation("9", 0),
        Some(&fresh),
        &Policy::default(),
        &Demand::default(),
        NOW,
    );
    assert_eq!(standing, Standing::Due(Due::Stale));
}
