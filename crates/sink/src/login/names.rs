//! Under which profile id a credential is stored (spec.md 3.2), as a pure function of what the store holds.
//!
//! One rule stands above the names: what belongs to somebody else is never replaced. A second login of the same
//! identity updates its profile, whatever that is called; the same e-mail address with another account id becomes
//! another profile, named `<provider>:<name>-<first characters of the account id>`, and where that is taken as well,
//! with `-2`, `-3` and so on at the end.

use tokensink_types::{Account, CredentialKind, ProfileId, ProviderId};

use crate::login::identity::label;

/// How much of an account id tells one profile from another.
const ACCOUNT_CHARS: usize = 8;

/// A profile in the store, as far as the choice needs it.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) id: ProfileId,
    /// `None` for an entry that cannot be used and is kept as it is.
    pub(crate) kind: Option<CredentialKind>,
    pub(crate) is_same_provider: bool,
    pub(crate) account: Account,
}

/// What is to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Wish<'a> {
    pub(crate) provider: &'a ProviderId,
    pub(crate) kind: CredentialKind,
    pub(crate) account: &'a Account,
    /// The name part by the method's rule.
    pub(crate) name: &'a str,
    /// The id that the user asked for.
    pub(crate) wanted: Option<&'a ProfileId>,
    /// Names that belong to the logins of other programs.
    pub(crate) reserved: &'a [String],
    /// A pasted credential takes the place of what is there; a login never does that to somebody else's.
    pub(crate) replaces: bool,
}

/// The id to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) id: ProfileId,
    /// The same identity is there already.
    pub(crate) updates: bool,
    /// What the user should know about it.
    pub(crate) note: Option<String>,
}

/// Chooses the id.
pub(crate) fn choose(stored: &[Stored], wish: &Wish<'_>) -> Choice {
    if let Some(wanted) = wish.wanted {
        return choose_wanted(stored, wish, wanted);
    }
    if wish.replaces {
        return replace(stored, wish, &ProfileId::of(wish.provider, wish.name));
    }
    choose_free(stored, wish)
}

fn choose_wanted(stored: &[Stored], wish: &Wish<'_>, wanted: &ProfileId) -> Choice {
    let there = stored.iter().find(|entry| entry.id == *wanted);
    let is_somebody_else = there.is_some_and(|there| there.account.matches(wish.account) == Some(false));
    if wish.replaces || !is_somebody_else {
        return replace(stored, wish, wanted);
    }
    // The tokens are here and must not be lost; the profile of somebody else must not be lost either.
    let other = choose_free(stored, wish);
    let theirs = there.and_then(|there| label(&there.account)).unwrap_or_default();
    let ours = label(wish.account).unwrap_or_default();
    let note = format!(
        "{wanted} belongs to {theirs}, but the browser logged in {ours}, which is stored as {} instead; to put it \
         under {wanted}, log that out first (tokensink models auth logout {wanted}); to log in {theirs}, use a private \
         browser window",
        other.id
    );
    Choice {
        note: Some(note),
        ..other
    }
}

/// The id is decided; what is there makes room.
fn replace(stored: &[Stored], wish: &Wish<'_>, id: &ProfileId) -> Choice {
    let there = stored.iter().find(|entry| entry.id == *id);
    let other_kind = there
        .and_then(|there| there.kind)
        .filter(|kind| *kind != wish.kind);
    Choice {
        id: id.clone(),
        updates: there.is_some() && other_kind.is_none(),
        note: other_kind
            .map(|kind| format!("it took the place of the {} that was stored as {id}", words(kind))),
    }
}

fn words(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::OAuth => "login",
        CredentialKind::Token => "token",
        CredentialKind::ApiKey => "API key",
    }
}

fn choose_free(stored: &[Stored], wish: &Wish<'_>) -> Choice {
    let plain = ProfileId::of(wish.provider, wish.name);
    let is_reserved = |id: &ProfileId| wish.reserved.iter().any(|name| id.name_part() == name);
    let same: Vec<&Stored> = stored
        .iter()
        .filter(|entry| entry.is_same_provider && entry.kind == Some(wish.kind) && !is_reserved(&entry.id))
        .filter(|entry| entry.account.matches(wish.account) == Some(true))
        .collect();
    if let Some(known) = same.iter().find(|entry| entry.id == plain).or(same.first()) {
        return Choice {
            id: known.id.clone(),
            updates: true,
            note: None,
        };
    }
    let takes = |id: &ProfileId| match stored.iter().find(|entry| entry.id == *id) {
        None => Some(false),
        Some(there) => {
            let ours = there.is_same_provider
                && there.kind == Some(wish.kind)
                && there.account.may_adopt(wish.account);
            ours.then_some(true)
        }
    };
    let named = std::iter::once(plain.clone()).chain(alternatives(wish));
    let mut open = named.filter_map(|id| takes(&id).map(|updates| (id, updates)));
    let (id, updates) = open.next().unwrap_or((plain, true));
    Choice {
        id,
        updates,
        note: None,
    }
}

/// Further names, without end.
fn alternatives<'a>(wish: &'a Wish<'_>) -> impl Iterator<Item = ProfileId> + 'a {
    let mark = wish
        .account
        .account_id
        .as_deref()
        .map(account_mark)
        .filter(|mark| !mark.is_empty());
    let base = match &mark {
        Some(mark) => format!("{}-{mark}", wish.name),
        None => wish.name.to_owned(),
    };
    let first = mark.map(|_| base.clone());
    let numbered = (2_u32..).map(move |number| format!("{base}-{number}"));
    first
        .into_iter()
        .chain(numbered)
        .map(|name| ProfileId::of(wish.provider, &name))
}

fn account_mark(account_id: &str) -> String {
    // Ids of one provider often share their beginning up to a dash (`acct-`, `user-`).
    let slug = ProfileId::slug(account_id);
    let telling = slug
        .split_once('-')
        .filter(|(head, _)| head.len() < ACCOUNT_CHARS)
        .map_or(slug.as_str(), |(_, tail)| tail);
    telling
        .chars()
        .take(ACCOUNT_CHARS)
        .collect::<String>()
        .trim_matches('-')
        .to_owned()
}
