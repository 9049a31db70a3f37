//! The choice of the profile id, as a table.

use proptest::prelude::*;
use tokensink_types::{Account, CredentialKind, ProviderId};

use crate::login::names::{Choice, Stored, Wish, choose};
use crate::world::id;

fn account(account_id: &str, email: &str) -> Account {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Account {
        account_id: given(account_id),
        email: given(email),
        ..Account::default()
    }
}

fn entry(name: &str, kind: CredentialKind, account: Account) -> Stored {
    Stored {
        id: id(&format!("desk:{name}")),
        kind: Some(kind),
        is_same_provider: true,
        account,
    }
}

fn chosen(stored: &[Stored], account: &Account, name: &str) -> (String, bool) {
    let Choice { id, updates, note } = choose(stored, &wish(&desk(), account, name, &[]));
    assert_eq!(note, None);
    (id.name_part().to_owned(), updates)
}

fn desk() -> ProviderId {
    ProviderId::parse("desk").unwrap()
}

fn wish<'a>(
    provider: &'a ProviderId,
    account: &'a Account,
    name: &'a str,
    reserved: &'a [String],
) -> Wish<'a> {
    Wish {
        provider,
        kind: CredentialKind::OAuth,
        account,
        name,
        wanted: None,
        reserved,
        replaces: false,
    }
}

#[test]
fn a_name_goes_to_whom_it_belongs() {
    use CredentialKind::{ApiKey, OAuth};
    let me = account("org-12345678-9", "me@x");
    let cases: [(&str, Vec<Stored>, &str, bool); 9] = [
        ("nothing there", vec![], "me@x", false),
        (
            "me, under another name",
            vec![entry("old", OAuth, me.clone())],
            "old",
            true,
        ),
        (
            "me, twice",
            vec![entry("old", OAuth, me.clone()), entry("me@x", OAuth, me.clone())],
            "me@x",
            true,
        ),
        (
            "nobody knows whose",
            vec![entry("me@x", OAuth, account("", ""))],
            "me@x",
            true,
        ),
        (
            "another account id",
            vec![entry("me@x", OAuth, account("org-2", "me@x"))],
            "me@x-12345678",
            false,
        ),
        (
            "two others",
            vec![
                entry("me@x", OAuth, account("org-2", "")),
                entry("me@x-12345678", OAuth, account("org-3", "")),
            ],
            "me@x-12345678-2",
            false,
        ),
        (
            "a key",
            vec![entry("me@x", ApiKey, account("", ""))],
            "me@x-12345678",
            false,
        ),
        (
            "a key of mine",
            vec![entry("k", ApiKey, account("", "me@x"))],
            "me@x",
            false,
        ),
        (
            "an entry that is not understood",
            vec![Stored {
                kind: None,
                ..entry("me@x", OAuth, account("", ""))
            }],
            "me@x-12345678",
            false,
        ),
    ];
    for (what, stored, want, updates) in cases {
        assert_eq!(chosen(&stored, &me, "me@x"), (want.to_owned(), updates), "{what}");
    }
}

#[test]
fn an_unknown_identity_takes_only_what_is_nobodys() {
    use CredentialKind::OAuth;
    let unknown = account("", "");
    assert_eq!(
        chosen(&[entry("default", OAuth, unknown.clone())], &unknown, "default"),
        ("default".to_owned(), true)
    );
    let theirs = [entry("default", OAuth, account("a", ""))];
    assert_eq!(
        chosen(&theirs, &unknown, "default"),
        ("default-2".to_owned(), false)
    );
    let foreign = [Stored {
        is_same_provider: false,
        ..entry("default", OAuth, unknown.clone())
    }];
    assert_eq!(
        chosen(&foreign, &unknown, "default"),
        ("default-2".to_owned(), false)
    );
}

#[test]
fn other_programs_profiles_are_left_alone() {
    let me = account("1", "me@x");
    let stored = [entry("claude-cli", CredentialKind::OAuth, me.clone())];
    let reserved = ["claude-cli".to_owned()];
    let provider = desk();
    let choice = choose(&stored, &wish(&provider, &me, "me@x", &reserved));
    assert_eq!((choice.id, choice.updates), (id("desk:me@x"), false));
}

#[test]
fn a_pasted_credential_takes_the_place() {
    let nobody = Account::default();
    let stored = [entry("manual", CredentialKind::OAuth, account("1", "a@x"))];
    let provider = desk();
    let pasted = Wish {
        kind: CredentialKind::Token,
        replaces: true,
        ..wish(&provider, &nobody, "manual", &[])
    };
    let choice = choose(&stored, &pasted);
    assert_eq!((choice.id, choice.updates), (id("desk:manual"), false));
    assert_eq!(
        choice.note.as_deref(),
        Some("it took the place of the login that was stored as desk:manual")
    );
}

proptest! {
    /// Whatever is stored, nobody else's login is ever the one that is replaced.
    #[test]
    fn somebody_elses_login_is_never_replaced(
        stored in prop::collection::vec(("[ab]{0,2}", "[ab]{0,1}", "(me|you|)", any::<bool>()), 0..6),
        ours in ("[ab]{0,1}", "(me|you|)"),
        wanted in prop::option::of("[ab]{1,2}"),
    ) {
        let mut stored: Vec<Stored> = stored
            .iter()
            .map(|(name, account_id, email, is_key)| {
                let kind = if *is_key { CredentialKind::ApiKey } else { CredentialKind::OAuth };
                entry(if name.is_empty() { email } else { name }, kind, account(account_id, email))
            })
            .collect();
        stored.sort_by(|a, b| a.id.cmp(&b.id));
        stored.dedup_by(|a, b| a.id == b.id);
        let me = account(&ours.0, &ours.1);
        let name = if ours.1.is_empty() { "default" } else { &ours.1 };
        let provider = desk();
        let wanted = wanted.map(|name| id(&format!("desk:{name}")));
        let choice = choose(&stored, &Wish { wanted: wanted.as_ref(), ..wish(&provider, &me, name, &[]) });
        let there = stored.iter().find(|entry| entry.id == choice.id);
        prop_assert!(there.is_none_or(|there| there.account.matches(&me) != Some(false)));
        if wanted.is_none() {
            prop_assert!(there.is_none_or(|there| there.kind == Some(CredentialKind::OAuth)));
        }
    }
}
