//! Callers that were let in a moment ago: nearly all requests show what the one before has shown.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue};
use tokensink_sink::{Secret, Turn};

use super::{AGENT, Caller, FETCH_SITE, KEY_HEADERS};

/// Most requests whose caller is remembered for a turn.
const RECENT_MAX: usize = 16;
/// Headers that say more of who calls than a host and a credential.
static FURTHER: [HeaderName; 3] = [ORIGIN, FETCH_SITE, AGENT];

/// What of a request decides who calls, where it is no more than a host and one credential, as of nearly all. Not to be
/// printed: the credential may be a key.
#[derive(Clone, Copy)]
pub(super) struct Usual<'a> {
    host: &'a HeaderValue,
    /// The header of the credential.
    name: &'a HeaderName,
    credential: &'a HeaderValue,
}

impl<'a> Usual<'a> {
    /// `None` where it takes more to tell.
    pub(super) fn of(headers: &'a HeaderMap, query: Option<&str>) -> Option<Self> {
        let (mut host, mut credential) = (None, None);
        for (name, value) in headers {
            if name == HOST {
                if host.replace(value).is_some() {
                    return None;
                }
            } else if name == AUTHORIZATION || KEY_HEADERS.contains(name) {
                if credential.replace((name, value)).is_some() {
                    return None;
                }
            } else if FURTHER.contains(name) {
                return None;
            }
        }
        let (name, credential) = credential.filter(|_| query.is_none())?;
        Some(Self {
            host: host?,
            name,
            credential,
        })
    }
}

/// Who called in the present turn of the event loop. What is found out about files in a turn counts until it ends, so that
/// the same request has the same caller.
#[derive(Debug, Default)]
pub(super) struct Recent {
    turn: Option<Turn>,
    callers: Vec<Admitted>,
}

/// A request that was let in.
#[derive(Debug)]
struct Admitted {
    host: Vec<u8>,
    name: HeaderName,
    credential: Secret,
    caller: Arc<Caller>,
}

impl Recent {
    /// Who such a request was from in this turn.
    pub(super) fn caller(&self, turn: Turn, asked: Usual<'_>) -> Option<Arc<Caller>> {
        if self.turn != Some(turn) {
            return None;
        }
        let is_asked = |known: &&Admitted| {
            known.name == asked.name
                && known.host == asked.host.as_bytes()
                && known.credential.is(asked.credential.as_bytes())
        };
        let known = self.callers.iter().find(is_asked);
        known.map(|known| Arc::clone(&known.caller))
    }

    /// Remembers, for this turn, who such a request is from.
    pub(super) fn keep(&mut self, turn: Turn, asked: Usual<'_>, caller: &Arc<Caller>) {
        if self.turn != Some(turn) || self.callers.len() >= RECENT_MAX {
            self.turn = Some(turn);
            self.callers.clear();
        }
        if let Ok(credential) = asked.credential.to_str() {
            self.callers.push(Admitted {
                host: asked.host.as_bytes().to_vec(),
                name: asked.name.clone(),
                credential: Secret::new(credential),
                caller: Arc::clone(caller),
            });
        }
    }
}
