//! Writing a login back: under the program's own write locks, on a fresh read, by compare-and-set, and only the fields
//! of the tokens (clients.md 0.3, 0.6, 2.4, 3.4).
//!
//! It promises: unless the login is the expected one, nothing is written; every byte other than the token fields
//! stays; a link stays a link; the mode is 0600, as both programs leave it; a blank token is never written.

use tokensink_host::Host;
use tokensink_host::atomic::{self, ReplaceError};
use tokensink_store::Expected;
use tokensink_store::json::{SecretMap, parse_object};
use tokensink_types::{Body, OAuth, SpendKey, UnixMillis};

use crate::load::{Content, load};
use crate::locks::WriteLocks;
use crate::place::PlaceKind;
use crate::reading::judge;
use crate::splice::{self, Edit};
use crate::{Login, Neighbour, NeighbourError, Place, Reading, claude, codex, keychain};

/// Permission bits of a login.
const MODE: u32 = 0o600;

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The place holds the new login; it was read back.
    Done,
    /// Something else was there, and nothing was written.
    Conflict(Reading),
}

/// Writes the tokens of `next` into the login at `place`, if what is there meets `expected`. Only the token fields
/// change; for Claude Code also `scopes` and `refreshTokenExpiresAt`, where `next.fields` has them as `scope`
/// (separated by spaces) and `refreshTokenExpiresAt` (milliseconds); for Codex `last_refresh` becomes `now`. A login
/// is never created: one that the user removed is a logout.
///
/// # Errors
/// [`NeighbourError::Busy`] when the program keeps its lock, [`NeighbourError::OnlyBorrowed`] for a login that may not
/// be written, or when it cannot be written; what was there is then still there, but for a write in place that failed.
pub fn compare_and_set(
    host: &Host,
    place: &Place,
    expected: Expected,
    next: &OAuth,
    now: UnixMillis,
) -> Result<Written, NeighbourError> {
    if next.tokens.access.is_blank() {
        return Err(edit_error(place, "the new access token is blank"));
    }
    let _locks = WriteLocks::take(host, place)?;
    let content = match load(host, place) {
        Ok(content) => content,
        Err(reading) => return Ok(Written::Conflict(reading)),
    };
    let before = content.bytes.clone();
    let reading = judge(host, place, content);
    let (Reading::Login(login) | Reading::Blanked(login)) = &reading else {
        return Ok(Written::Conflict(reading));
    };
    if !expected.is_met_by(Some(&login.credential)) {
        return Ok(Written::Conflict(reading));
    }
    refuse_borrowed(place, login)?;
    let edits = match place.neighbour {
        Neighbour::ClaudeCode => claude::token_edits(next, login),
        _ => codex::token_edits(next, now),
    };
    let after = edit(place, &before, &edits)?;
    check(host, place, &after, next)?;
    store(host, place, &after)?;
    Ok(Written::Done)
}

/// A login of which we do not know how its program treats it is not written.
pub(crate) fn refuse_borrowed(place: &Place, login: &Login) -> Result<(), NeighbourError> {
    match &login.only_borrowed {
        None => Ok(()),
        Some(reason) => Err(NeighbourError::OnlyBorrowed {
            place: place.to_string(),
            reason: reason.clone(),
        }),
    }
}

/// The content with the edits applied.
pub(crate) fn edit(place: &Place, before: &Body, edits: &[Edit<'_>]) -> Result<Body, NeighbourError> {
    let text = std::str::from_utf8(before.expose()).map_err(|_| edit_error(place, "it is not UTF-8"))?;
    splice::apply(text, edits).map_err(|why| edit_error(place, &why))
}

/// What will be written must read as the login that it is to be.
pub(crate) fn check(host: &Host, place: &Place, after: &Body, next: &OAuth) -> Result<(), NeighbourError> {
    let failed = || edit_error(place, "the edited text does not read as the new login");
    let content = Content {
        bytes: after.clone(),
        map: SecretMap(parse_object(after.expose()).map_err(|_| failed())?),
        stamp: None,
    };
    let key = |oauth: &OAuth| oauth.tokens.refresh_token().map(SpendKey::of);
    let reading = judge(host, place, content);
    let oauth = reading.login().and_then(|login| login.credential.as_oauth());
    let is_right = oauth.is_some_and(|oauth| {
        oauth.tokens.access == next.tokens.access && (key(next).is_none() || key(oauth) == key(next))
    });
    if is_right { Ok(()) } else { Err(failed()) }
}

/// Replaces the content. The caller holds the write locks.
pub(crate) fn store(host: &Host, place: &Place, after: &Body) -> Result<(), NeighbourError> {
    let files = &*host.files;
    let path = match &place.kind {
        PlaceKind::File { path, .. } => path,
        PlaceKind::Keychain { service, account, .. } => {
            return keychain::write(host, place, service, account, after);
        }
        PlaceKind::Environment { variable } => {
            return Err(edit_error(
                place,
                &format!("{variable} is a variable of our caller"),
            ));
        }
    };
    // What crashed writers of ours left behind holds secrets.
    for leftover in atomic::leftovers(files, path).unwrap_or_default() {
        let _ = files.remove(&leftover);
    }
    match atomic::replace(files, &*host.random, path, after.expose(), MODE) {
        // A bind-mounted file, or another user's: the new tokens are in the caller's record, and without them here the
        // program would spend a token that is gone. Its size is below one page, so it is as good as written at once.
        Err(ReplaceError::Refused { .. }) => {
            atomic::overwrite_in_place(files, path, after.expose(), MODE)?;
        }
        result => drop(result?),
    }
    Ok(())
}

pub(crate) fn edit_error(place: &Place, why: &str) -> NeighbourError {
    NeighbourError::Edit {
        place: place.to_string(),
        why: why.to_owned(),
    }
}
