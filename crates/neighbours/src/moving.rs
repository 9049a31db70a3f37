//! Moving a grant between its program and us (design: mode `owned`): [`take_login`] removes the login's section and
//! [`put_login`] gives it back.
//!
//! It promises: only the expected login is taken, and everything else in the store is kept; a login is only put where
//! there is none. The caller holds the program's refresh locks, has stored the grant and the login's
//! [`frame`](crate::Login::frame) before it takes, and removes its own copy after it has put.

use serde_json::{Map, Value, json};
use tokensink_host::Host;
use tokensink_store::Expected;
use tokensink_store::json as js;
use tokensink_types::{Body, OAuth, Secret, SpendKey, UnixMillis};

use crate::load::load;
use crate::locks::WriteLocks;
use crate::place::PlaceKind;
use crate::reading::judge;
use crate::splice::Edit;
use crate::write::{Written, check, edit, edit_error, refuse_borrowed, store};
use crate::{Neighbour, NeighbourError, Place, Reading, claude, codex};

/// Removes the login from `place`, if its refresh token has this spend key. Codex takes any `auth.json` for a login,
/// so one that holds nothing else is removed, as `codex logout` does; a link to it stays.
///
/// # Errors
/// As for [`compare_and_set`](crate::compare_and_set).
pub fn take_login(host: &Host, place: &Place, expected: SpendKey) -> Result<Written, NeighbourError> {
    let _locks = WriteLocks::take(host, place)?;
    let content = match load(host, place) {
        Ok(content) => content,
        Err(reading) => return Ok(Written::Conflict(reading)),
    };
    let before = content.bytes.clone();
    let holds_more = place.neighbour != Neighbour::Codex || codex::holds_more(&content.map.0);
    let reading = judge(host, place, content);
    let Reading::Login(login) = &reading else {
        return Ok(Written::Conflict(reading));
    };
    if !Expected::Spend(expected).is_met_by(Some(&login.credential)) {
        return Ok(Written::Conflict(reading));
    }
    refuse_borrowed(place, login)?;
    match &place.kind {
        PlaceKind::File { real, .. } if !holds_more => {
            host.files
                .remove(real)
                .map_err(NeighbourError::io("remove", real))?;
            let dir = real.parent().unwrap_or(real);
            host.files
                .sync_dir(dir)
                .map_err(NeighbourError::io("make durable", dir))?;
        }
        _ => {
            let edits: &[Edit<'_>] = match place.neighbour {
                Neighbour::ClaudeCode => &[Edit::Remove(&[claude::SECTION])],
                _ => &[Edit::Remove(&[codex::SECTION]), Edit::Remove(&["last_refresh"])],
            };
            store(host, place, &edit(place, &before, edits)?)?;
        }
    }
    Ok(Written::Done)
}

/// Puts the login back to `place`, where there is none: never logged in, logged out, or blanked. `frame` is what
/// [`Login::frame`](crate::Login::frame) was when it was taken; without it the login has what a blanked
/// section still says, else what `oauth` knows.
///
/// # Errors
/// As for [`compare_and_set`](crate::compare_and_set).
pub fn put_login(
    host: &Host,
    place: &Place,
    oauth: &OAuth,
    frame: Option<&Secret>,
    now: UnixMillis,
) -> Result<Written, NeighbourError> {
    if oauth.tokens.access.is_blank() {
        return Err(edit_error(place, "the access token to put there is blank"));
    }
    let _locks = WriteLocks::take(host, place)?;
    let (before, reading) = match load(host, place) {
        Ok(content) => (content.bytes.clone(), judge(host, place, content)),
        Err(Reading::Missing) => (Body::default(), Reading::Missing),
        Err(reading) => return Ok(Written::Conflict(reading)),
    };
    if !matches!(
        reading,
        Reading::SignedOut | Reading::Missing | Reading::Blanked(_)
    ) {
        return Ok(Written::Conflict(reading));
    }
    let blanked = match &reading {
        Reading::Blanked(login) => Some(&login.frame),
        _ => None,
    };
    let frame = frame
        .or(blanked)
        .and_then(|frame| js::parse_object(frame.expose().as_bytes()).ok())
        .unwrap_or_default();
    let sections = match place.neighbour {
        Neighbour::ClaudeCode => vec![(claude::SECTION, claude::section(oauth, frame))],
        _ => codex::sections(oauth, frame, now).map_err(|why| edit_error(place, why))?,
    };
    let after = if before.is_empty() {
        whole(place, sections)?
    } else {
        let edits: Vec<([&str; 1], Secret)> = sections
            .into_iter()
            .map(|(key, value)| ([key], written(value)))
            .collect();
        let edits: Vec<Edit<'_>> = edits
            .iter()
            .map(|(path, value)| Edit::Set(path, value.clone()))
            .collect();
        edit(place, &before, &edits)?
    };
    check(host, place, &after, oauth)?;
    store(host, place, &after)?;
    Ok(Written::Done)
}

/// A value as JSON text; the value's own texts are overwritten.
fn written(mut value: Value) -> Secret {
    let text = Secret::new(value.to_string());
    js::wipe(&mut value);
    text
}

/// A new document, in the layout of its program.
fn whole(place: &Place, sections: Vec<(&'static str, Value)>) -> Result<Body, NeighbourError> {
    let mut document = Map::new();
    for (key, value) in sections {
        document.insert(key.to_owned(), value);
    }
    let mut document = Value::Object(document);
    let bytes = match place.neighbour {
        Neighbour::ClaudeCode => serde_json::to_vec(&document),
        _ => {
            if let Some(map) = document.as_object_mut() {
                map.shift_insert(1, "OPENAI_API_KEY".to_owned(), json!(null));
            }
            serde_json::to_vec_pretty(&document)
        }
    };
    js::wipe(&mut document);
    bytes
        .map(Body::new)
        .map_err(|error| edit_error(place, &error.to_string()))
}
