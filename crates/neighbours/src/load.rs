//! Getting the bytes of a place, whatever holds them, as a JSON object. Reads only.

use std::io;
use std::time::Duration;

use tokensink_host::{FileStamp, Host, atomic};
use tokensink_store::ParseFailure;
use tokensink_store::json::{SecretMap, parse_object};
use tokensink_types::{Body, UnixMillis};

use crate::place::{Place, PlaceKind};
use crate::{Reading, keychain};

/// How often a file that does not parse is read again before that is believed: older Codex versions write in place
/// (clients.md 2.4).
const READS_MAX: u32 = 3;
/// Pause between these reads.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// What a place holds.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) bytes: Body,
    pub(crate) map: SecretMap,
    /// Of a file.
    pub(crate) stamp: Option<FileStamp>,
}

impl Content {
    /// When the content was last written, as far as the place tells.
    pub(crate) fn modified(&self) -> Option<UnixMillis> {
        let millis = self.stamp?.modified_ns / 1_000_000;
        i64::try_from(millis).ok().map(UnixMillis)
    }
}

/// Loads the object; what is not there, or cannot be used, is the reading already.
pub(crate) fn load(host: &Host, place: &Place) -> Result<Content, Reading> {
    let mut failure = None;
    for attempt in 0..READS_MAX {
        if attempt > 0 {
            host.clock.sleep(READ_PAUSE);
        }
        let (bytes, stamp) = fetch(host, place)?;
        match parse_object(bytes.expose()) {
            Ok(map) => {
                return Ok(Content {
                    bytes,
                    map: SecretMap(map),
                    stamp,
                });
            }
            Err(wrong) => failure = Some(wrong),
        }
    }
    let why = failure.map_or_else(String::new, |failure| describe(&failure));
    Err(Reading::Unusable {
        reason: format!("{place} does not parse: {why}"),
    })
}

fn describe(failure: &ParseFailure) -> String {
    if failure.line == 0 {
        failure.why.clone()
    } else {
        format!(
            "{} (line {}, column {})",
            failure.why, failure.line, failure.column
        )
    }
}

fn fetch(host: &Host, place: &Place) -> Result<(Body, Option<FileStamp>), Reading> {
    match &place.kind {
        PlaceKind::File { path, .. } => match atomic::read_stable(&*host.files, path) {
            Ok(Some((bytes, stamp))) => Ok((Body::new(bytes), Some(stamp))),
            Ok(None) => Err(Reading::Missing),
            // A file where the home should be: there is no login either.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(Reading::Missing),
            Err(error) => Err(Reading::Unusable {
                reason: format!("{place} cannot be read: {error}"),
            }),
        },
        PlaceKind::Keychain {
            service,
            account,
            may_prompt,
            ..
        } => keychain::read(host, service, account, *may_prompt).map(|bytes| (bytes, None)),
        PlaceKind::Environment { variable } => host
            .env
            .var(variable)
            .map(|text| (Body::new(text), None))
            .ok_or(Reading::Missing),
    }
}
