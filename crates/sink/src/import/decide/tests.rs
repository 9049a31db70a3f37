//! Every rule once, on values.

use serde_json::{Value, json};
use tokensink_store::ForeignEntry;
use tokensink_types::{Account, AgentId, ProfileId, SpendKey, UnixMillis};

use super::*;
use crate::import::Incoming;
use crate::world::{agent, id, key, oauth};

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
const HOUR: i64 = 3_600_000;

fn incoming(owner: &str, profile: &str, entry: Value) -> Incoming {
    Incoming {
        agent: agent(owner),
        entry: ForeignEntry::from_value(id(profile), entry).unwrap(),
        was: None,
        place: "/there".into(),
        ancestors: Vec::new(),
        unverified: None,
        bundle: None,
    }
}

/// What is here after an import of `entry`.
fn known(owner: &str, profile: &str, entry: Value) -> Known {
    Known::after(&incoming(owner, profile, entry), &agent(owner), &id(profile))
}

fn with(mut entry: Value, field: &str, value: impl Into<Value>) -> Value {
    entry[field] = value.into();
    entry
}

fn without(mut entry: Value, field: &str) -> Value {
    entry.as_object_mut().unwrap().remove(field);
    entry
}

fn spent(name: &str) -> SpendKey {
    crate::world::spend(name)
}

/// The word, and the profile that is written if one is.
fn decided(here: &[Known], incoming: &Incoming) -> (&'static str, Option<String>) {
    let mut here = here.to_vec();
    let (action, write) = decide(&mut here, incoming, NOW);
    let written = write.map(|write| format!("{}/{}", write.agent, write.profile));
    (action.word(), written)
}

/// Name, what is here, what comes, the word, what is written.
type Case = (
    &'static str,
    Vec<Known>,
    Incoming,
    &'static str,
    Option<&'static str>,
);

#[test]
fn grants() {
    let alice = || oauth("rig", "alice");
    let here = || known("main", "rig:alice", alice());
    let at = |hours: i64| NOW.0 + hours * HOUR;
    let later_login = |hours| {
        with(
            with(
                with(oauth("rig", "alice2"), "accountId", "account-alice"),
                "email",
                "alice@example.com",
            ),
            "expires",
            at(hours),
        )
    };
    let dead = || Known { dead: true, ..here() };
    let rotated = || Known {
        keys: vec![spent("new"), spent("alice")],
        current: Some(spent("new")),
        ..here()
    };
    let lone = || Known {
        credential: None,
        ..here()
    };
    let nobody = |name: &str| without(without(oauth("rig", name), "accountId"), "email");
    let cases: Vec<Case> = vec![
        (
            "nothing here",
            vec![],
            incoming("main", "rig:alice", alice()),
            "new",
            Some("main/rig:alice"),
        ),
        (
            "the same",
            vec![here()],
            incoming("main", "rig:alice", alice()),
            "linked",
            None,
        ),
        (
            "the same under another id",
            vec![here()],
            incoming("main", "rig:x", alice()),
            "linked",
            None,
        ),
        (
            "the same in another agent",
            vec![here()],
            incoming("work", "rig:alice", alice()),
            "linked",
            None,
        ),
        (
            "spent here",
            vec![rotated()],
            incoming("main", "rig:alice", alice()),
            "linked",
            None,
        ),
        (
            "only recorded",
            vec![lone()],
            incoming("main", "rig:alice", alice()),
            "new",
            Some("main/rig:alice"),
        ),
        (
            "only recorded, elsewhere",
            vec![lone()],
            incoming("main", "rig:other", alice()),
            "linked",
            None,
        ),
        (
            "a newer access token",
            vec![here()],
            incoming("main", "rig:alice", with(alice(), "expires", at(9))),
            "update",
            Some("main/rig:alice"),
        ),
        (
            "newer, same account",
            vec![here()],
            incoming("main", "rig:alice", later_login(9)),
            "update",
            Some("main/rig:alice"),
        ),
        (
            "newer, same account, other id",
            vec![here()],
            incoming("main", "rig:y", later_login(9)),
            "update",
            Some("main/rig:alice"),
        ),
        (
            "older, same account",
            vec![here()],
            incoming("main", "rig:alice", later_login(0)),
            "linked",
            None,
        ),
        (
            "older, ours dead",
            vec![dead()],
            incoming("main", "rig:alice", later_login(0)),
            "update",
            Some("main/rig:alice"),
        ),
        (
            "same account, other agent",
            vec![here()],
            incoming("work", "rig:alice", later_login(9)),
            "new",
            Some("work/rig:alice"),
        ),
        (
            "another account",
            vec![here()],
            incoming("main", "rig:alice", oauth("rig", "bob")),
            "kept ours",
            None,
        ),
        (
            "another account, other id",
            vec![here()],
            incoming("main", "rig:bob", oauth("rig", "bob")),
            "new",
            Some("main/rig:bob"),
        ),
        (
            "no account",
            vec![here()],
            incoming("main", "rig:alice", nobody("carol")),
            "kept ours",
            None,
        ),
        (
            "no account, ours dead",
            vec![dead()],
            incoming("main", "rig:alice", nobody("carol")),
            "update",
            Some("main/rig:alice"),
        ),
        (
            "a key is here",
            vec![known("main", "rig:alice", key("rig"))],
            incoming("main", "rig:alice", alice()),
            "kept ours",
            None,
        ),
        (
            "another provider",
            vec![known("main", "rig:alice", oauth("mute", "x"))],
            incoming("main", "rig:alice", alice()),
            "kept ours",
            None,
        ),
        (
            "no tokens",
            vec![],
            incoming(
                "main",
                "rig:a",
                json!({"type":"oauth","provider":"rig","access":"","refresh":" ","expires":1}),
            ),
            "skipped",
            None,
        ),
        (
            "ended",
            vec![],
            incoming(
                "main",
                "rig:a",
                json!({"type":"oauth","provider":"rig","access":"a","expires":1}),
            ),
            "skipped",
            None,
        ),
    ];
    for (name, here, incoming, word, written) in cases {
        assert_eq!(
            decided(&here, &incoming),
            (word, written.map(str::to_owned)),
            "{name}"
        );
    }
}

#[test]
fn a_source_that_knows_our_key_as_spent_is_ahead() {
    let here = known("main", "rig:mine", oauth("rig", "alice"));
    let mut ahead = incoming(
        "work",
        "rig:x",
        without(without(oauth("rig", "new"), "accountId"), "email"),
    );
    assert_eq!(decided(std::slice::from_ref(&here), &ahead).0, "new");
    ahead.ancestors = vec![spent("alice")];
    assert_eq!(
        decided(&[here], &ahead),
        ("update", Some("main/rig:mine".to_owned()))
    );
}

#[test]
fn keys_and_tokens() {
    let token =
        |text: &str, expires: i64| json!({"type":"token","provider":"rig","token":text,"expires":expires});
    let future = NOW.0 + HOUR;
    let other = || with(key("rig"), "key", "sk-other");
    let cases: Vec<(&str, Vec<Known>, Incoming, &str)> = vec![
        (
            "nothing here",
            vec![],
            incoming("main", "rig:k", key("rig")),
            "new",
        ),
        (
            "the same",
            vec![known("main", "rig:k", key("rig"))],
            incoming("main", "rig:k", key("rig")),
            "linked",
        ),
        (
            "the same, other id",
            vec![known("main", "rig:j", key("rig"))],
            incoming("main", "rig:k", key("rig")),
            "linked",
        ),
        (
            "the same, other agent",
            vec![known("main", "rig:k", key("rig"))],
            incoming("work", "rig:k", key("rig")),
            "new",
        ),
        (
            "the same text, other provider",
            vec![known("main", "rig:j", key("mute"))],
            incoming("main", "rig:k", key("rig")),
            "new",
        ),
        (
            "another",
            vec![known("main", "rig:k", other())],
            incoming("main", "rig:k", key("rig")),
            "kept ours",
        ),
        (
            "another kind",
            vec![known("main", "rig:k", key("rig"))],
            incoming("main", "rig:k", token("t", future)),
            "kept ours",
        ),
        (
            "a reference",
            vec![],
            incoming(
                "main",
                "rig:k",
                json!({"type":"api_key","provider":"rig","keyRef":{"source":"env","id":"K"}}),
            ),
            "new",
        ),
        (
            "blank",
            vec![],
            incoming("main", "rig:k", with(key("rig"), "key", " ")),
            "skipped",
        ),
        (
            "lives",
            vec![],
            incoming("main", "rig:k", token("t", future)),
            "new",
        ),
        (
            "has ended",
            vec![],
            incoming("main", "rig:k", token("t", NOW.0)),
            "skipped",
        ),
    ];
    for (name, here, incoming, word) in cases {
        assert_eq!(decided(&here, &incoming).0, word, "{name}");
    }
}

#[test]
fn a_grant_that_the_source_holds_twice_comes_once() {
    let mut here = Vec::new();
    let first = incoming("main", "rig:a", oauth("rig", "alice"));
    let second = incoming("work", "rig:b", oauth("rig", "alice"));
    assert_eq!(decide(&mut here, &first, NOW).0.word(), "new");
    let (action, write) = decide(&mut here, &second, NOW);
    assert!(write.is_none());
    let ImportAction::Linked { agent, profile, .. } = action else {
        panic!("{action:?}");
    };
    assert_eq!(
        (agent, profile),
        (AgentId::main(), ProfileId::parse("rig:a").unwrap())
    );
    assert_eq!(
        here[0].account,
        Account {
            account_id: Some("account-alice".to_owned()),
            email: Some("alice@example.com".to_owned()),
            ..Account::default()
        }
    );
}
