//! What an answer on its way says about its account: error events, limits, the id by which it is referred to, its end.

use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use tokensink_sink::Lease;
use tokio::sync::OwnedSemaphorePermit;

use crate::outcome::{Outcome, Used};
use crate::request::events::{Noticed, Scanner};
use crate::request::kept::ids;
use crate::request::plan::Plan;
use crate::slots::Profile;
use crate::stream::{Ended, Hold};
use crate::ties::Ties;

/// How much of an answer is looked at for the ids of what the provider keeps. Of a response the id comes first, and much
/// may follow; a batch has the files that came of it somewhere in its middle, and a list has many of them.
const IDS_WITHIN: usize = 64 * 1024;
/// The same of an answer whose id comes first.
const FIRST_ID_WITHIN: usize = 1024;

/// The room that a request takes.
#[derive(Debug)]
pub(crate) struct Room {
    /// Among all requests.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(crate) request: Option<OwnedSemaphorePermit>,
    /// Among those of its profile.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(crate) slot: OwnedSemaphorePermit,
    /// The profile's books.
    pub(crate) profile: Arc<Profile>,
}

/// Watches one answer, and holds the room that its request takes.
#[derive(Debug)]
pub(crate) struct Watcher {
    used: Used,
    plan: Arc<Plan>,
    headers: HeaderMap,
    ties: Arc<Ties>,
    look: Look,
    room: Room,
}

/// What is looked at.
#[derive(Debug)]
enum Look {
    Nothing,
    /// And the first event, where its id is that of something that the provider keeps.
    Events(Scanner, Option<Begun>),
    /// A JSON answer.
    Json(Begun),
}

/// The beginning of an answer, in which ids are looked for.
#[derive(Debug, Default)]
struct Begun {
    bytes: Vec<u8>,
    /// How much is looked at.
    within: usize,
    /// How many ids are noted.
    noted: usize,
}

impl Begun {
    fn new(within: usize) -> Self {
        Self {
            within,
            ..Self::default()
        }
    }

    /// Adds what came; `false` when it is all that is looked at.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let left = self.within.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..left]);
        self.bytes.len() < self.within
    }
}

impl Watcher {
    pub(crate) fn new(
        used: Used,
        plan: &Arc<Plan>,
        headers: &HeaderMap,
        ties: &Arc<Ties>,
        room: Room,
    ) -> Self {
        let look = if is_events(headers) {
            let first = plan.keeps.then(|| Begun::new(FIRST_ID_WITHIN));
            Look::Events(Scanner::new(), first)
        } else if plan.keeps && kind(headers).starts_with(b"application/json") {
            let has_it_first = plan.path_and_query.split('?').next();
            let has_it_first = has_it_first.is_some_and(|path| path.ends_with("/responses"));
            Look::Json(Begun::new(if has_it_first {
                FIRST_ID_WITHIN
            } else {
                IDS_WITHIN
            }))
        } else {
            Look::Nothing
        };
        Self {
            used,
            plan: Arc::clone(plan),
            headers: if matches!(look, Look::Events(..)) {
                headers.clone()
            } else {
                HeaderMap::new()
            },
            ties: Arc::clone(ties),
            look,
            room,
        }
    }
}

fn kind(headers: &HeaderMap) -> &[u8] {
    headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], http::HeaderValue::as_bytes)
}

/// Is the answer with these headers a stream of events?
pub(crate) fn is_events(headers: &HeaderMap) -> bool {
    kind(headers).starts_with(b"text/event-stream")
}

/// The ids in the first event of a stream, once that has come; what the stream is about is in it. The events of a response
/// are told by the scanner.
fn first_ids(stream: &[u8]) -> Option<Vec<String>> {
    let begins = memchr::memmem::find(stream, b"data:")? + b"data:".len();
    let line = &stream[begins..];
    Some(ids(&line[..memchr::memchr(b'\n', line)?]))
}

/// Remembers that the account of `lease` made these.
fn note_made(ties: &Ties, plan: &Plan, lease: &Lease, ids: &[String]) {
    for id in ids {
        ties.note(&plan.agent, &plan.provider, id, &lease.profile);
    }
}

impl Hold for Watcher {
    fn saw(&mut self, bytes: &[u8]) {
        match &mut self.look {
            Look::Nothing => {}
            Look::Json(begun) => {
                let goes_on = begun.take(bytes);
                let ids = ids(&begun.bytes);
                // Each time, since the client may refer to it before the end is seen here.
                note_made(&self.ties, &self.plan, self.used.lease(), &ids[begun.noted..]);
                begun.noted = ids.len();
                let has_all = begun.within == FIRST_ID_WITHIN && begun.noted > 0;
                if has_all || !goes_on {
                    self.look = Look::Nothing;
                }
            }
            Look::Events(scanner, first) => {
                if let Some(begun) = first {
                    let goes_on = begun.take(bytes);
                    let ids = first_ids(&begun.bytes);
                    let made = ids.as_deref().unwrap_or_default();
                    note_made(&self.ties, &self.plan, self.used.lease(), made);
                    if ids.is_some() || !goes_on {
                        *first = None;
                    }
                }
                let (used, headers, ties) = (&mut self.used, &self.headers, &self.ties);
                let (agent, provider) = (&self.plan.agent, &self.plan.provider);
                let profile = &self.room.profile;
                scanner.feed(bytes, |noticed| match noticed {
                    Noticed::Error { body } => {
                        profile.failed();
                        used.note(Outcome::Failed {
                            status: None,
                            headers: headers.clone(),
                            body,
                        });
                    }
                    Noticed::Answer { id } => ties.note(agent, provider, &id, &used.lease().profile),
                    Noticed::Limits { body } => used.limits(&body),
                    // The client may leave at this, before the stream has ended.
                    Noticed::Finished => used.finished(),
                    Noticed::Usage(_) => {}
                });
            }
        }
    }

    fn ended(&mut self, how: Ended) {
        match how {
            Ended::Complete => self.used.finished(),
            Ended::CutOff => self.used.note(Outcome::CutOff),
            Ended::TimedOut => self.used.note(Outcome::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_streams_first_event() {
        for (stream, want) in [
            (
                &b"data: {\"id\":\"chatcmpl-1\",\"choices\":[]}\n\n"[..],
                Some(&["chatcmpl-1"][..]),
            ),
            (
                b"event: thread.run.created\ndata: {\"id\": \"run_1\",\"thread_id\":\"thread_1\"}\r\n",
                Some(&["run_1", "thread_1"]),
            ),
            (b"data: {\"id\":\"chatcmpl-1\"", None),
            (b"data: {\"id\":7}\n\"id\":\"x\"\n", Some(&[])),
            (b"", None),
        ] {
            let found = first_ids(stream);
            let found: Option<Vec<&str>> = found.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
            assert_eq!(found.as_deref(), want, "{}", String::from_utf8_lossy(stream));
        }
    }
}
