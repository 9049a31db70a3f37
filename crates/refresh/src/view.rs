//! Which generation counts: the owner store overlaid by its refresh record.

use tokensink_types::record::{Generation, Record, RecordState};
use tokensink_types::{Secret, SpendKey};

/// The generation that counts, and whether the owner store still has to be brought up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// The generation to use.
    pub current: &'a Generation,
    /// True when it comes from the record because the store is behind it, was rolled back or blanked; the store is
    /// then to be healed.
    pub heal: bool,
}

/// Overlays the store's generation with the record's (design: Refresh, step 1).
///
/// * The store's key was spent before: the store is behind the record, or somebody put an older copy back; the
///   record counts. Whoever holds the spent key holds the same grant, whatever account the store's labels name.
/// * The same refresh token with another access token (a server that does not rotate): the later expiry counts.
/// * The store has lost its refresh token and holds nothing else that the record does not know: the record counts.
/// * A key that the record has never seen is a newer login: the store counts.
///
/// A generation that the server has refused is not written over anything, not even over what was spent for it.
#[must_use]
pub fn overlay<'a>(stored: &'a Generation, record: Option<&'a Record>) -> View<'a> {
    let from_store = View {
        current: stored,
        heal: false,
    };
    let Some(record) = record else { return from_store };
    let Some(known) = &record.generation else {
        return from_store;
    };
    if same_tokens(known, stored) {
        // The record knows more about the same tokens: when they were issued, when they end, and whose they are.
        return View {
            current: known,
            heal: false,
        };
    }
    if is_behind(stored, known, record) {
        View {
            current: known,
            heal: !is_refused(known, record),
        }
    } else {
        from_store
    }
}

/// Some stores have no field for the expiry, or round it: it does not make another generation.
fn same_tokens(known: &Generation, stored: &Generation) -> bool {
    known.tokens.access == stored.tokens.access && known.spend_key() == stored.spend_key()
}

fn is_behind(stored: &Generation, known: &Generation, record: &Record) -> bool {
    let Some(key) = stored.spend_key() else {
        return is_blanked(stored, known);
    };
    if known.spend_key() == Some(key) {
        return known.tokens.expires > stored.tokens.expires;
    }
    let answers_it = matches!(&record.state, RecordState::Answered { parent, .. } if *parent == key);
    answers_it || record.is_ancestor(key)
}

/// Other programs blank a login whose refresh failed. That is no login of its own, and no reason to forget ours.
fn is_blanked(stored: &Generation, known: &Generation) -> bool {
    let nothing_else = stored.tokens.access.is_blank() || stored.tokens.access == known.tokens.access;
    known.spend_key().is_some() && nothing_else && !stored.account.contradicts(&known.account)
}

fn is_refused(known: &Generation, record: &Record) -> bool {
    matches!(&record.state, RecordState::Refused { spent, .. } if known.spend_key() == Some(*spent))
}

/// Separates, among a record's ancestors, the keys of the present grant (before it) from those of earlier logins
/// (after it). It is the key of the blank token, which no token set ever has.
fn login_boundary() -> SpendKey {
    SpendKey::of(&Secret::new(""))
}

/// The record of a profile that was just logged in or imported: `fresh`, with what must not be forgotten of the
/// record that it replaces, namely which keys are not to be sent again. A stale copy of the store that some other
/// program still writes back is then recognised and healed instead of being taken for a newer login.
///
/// Importing tokens that are known changes nothing about them: a key that was sent stays sent, and for one that is
/// spent already the earlier record is returned as it is.
#[must_use]
pub fn after_login(earlier: Option<&Record>, mut fresh: Record) -> Record {
    let Some(earlier) = earlier else { return fresh };
    let key = fresh.generation.as_ref().and_then(Generation::spend_key);
    if key.is_some_and(|key| earlier.is_ancestor(key)) {
        return earlier.clone();
    }
    if key.is_some() && bound_to(earlier) == key {
        fresh.state = earlier.state.clone();
        fresh.backoff.clone_from(&earlier.backoff);
    }
    let mut kept = earlier.clone();
    note_newer_login(&mut kept, fresh.generation.as_ref());
    let replaced = kept.generation.as_ref().and_then(Generation::spend_key);
    if let Some(replaced) = replaced.filter(|_| replaced != key) {
        kept.push_ancestor(replaced);
        kept.push_ancestor(login_boundary());
    }
    fresh.ancestors = kept.ancestors;
    fresh.rotation = earlier.rotation;
    fresh
}

/// The key that was sent, refused or parked according to the record's state.
fn bound_to(record: &Record) -> Option<SpendKey> {
    match &record.state {
        RecordState::Sent(sent) => Some(sent.spend),
        RecordState::Refused { spent, .. } | RecordState::Parked { spent, .. } => Some(*spent),
        RecordState::Idle | RecordState::Answered { .. } | RecordState::Committed { .. } => None,
    }
}

/// Prepares `record` for `next`, a generation that it may not have seen before. A key of the earlier login that was
/// sent, refused or parked stays spent; the grant that it belonged to is another one.
///
/// The replaced key of the same account is remembered, too: `next` may be another program's refresh of it, and a stale
/// copy that is still written back is then healed. To another account somebody may want to go back.
pub(crate) fn note_newer_login(record: &mut Record, next: Option<&Generation>) {
    let key = next.and_then(Generation::spend_key);
    let doubtful = bound_to(record);
    if let Some(spent) = doubtful.filter(|_| doubtful != key) {
        record.push_ancestor(spent);
    }
    let Some(known) = &record.generation else { return };
    let Some(replaced) = known.spend_key().filter(|replaced| Some(*replaced) != key) else {
        return;
    };
    let same_account = next.is_some_and(|next| known.account.matches(&next.account) == Some(true));
    if same_account {
        record.push_ancestor(replaced);
    }
    record.push_ancestor(login_boundary());
}

/// Is the record's generation of the same grant as `key`, which was spent for it? False when `key` is no ancestor, or
/// when the profile was logged in anew since.
pub(crate) fn descends_from(record: &Record, key: SpendKey) -> bool {
    let boundary = login_boundary();
    record
        .ancestors
        .iter()
        .take_while(|ancestor| **ancestor != boundary)
        .any(|ancestor| *ancestor == key)
}
