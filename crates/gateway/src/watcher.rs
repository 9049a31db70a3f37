//! What an answer on its way says about its account: error events, limits, the id by which it is referred to, its end.

use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use tokio::sync::OwnedSemaphorePermit;

use crate::outcome::{Outcome, Used};
use crate::request::events::{Noticed, Scanner};
use crate::request::plan::Plan;
use crate::slots::Profile;
use crate::stream::{Ended, Hold};
use crate::ties::Ties;

/// How much of a JSON answer is looked at for its id, which comes first in all of them.
const ID_WITHIN: usize = 1024;

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
    Events(Scanner),
    /// The beginning of a JSON answer.
    Json(Vec<u8>),
}

impl Watcher {
    pub(crate) fn new(
        used: Used,
        plan: &Arc<Plan>,
        headers: &HeaderMap,
        ties: &Arc<Ties>,
        room: Room,
    ) -> Self {
        let kind = headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], http::HeaderValue::as_bytes);
        let look = if kind.starts_with(b"text/event-stream") {
            Look::Events(Scanner::new())
        } else if kind.starts_with(b"application/json") && is_kept(&plan.path_and_query) {
            Look::Json(Vec::new())
        } else {
            Look::Nothing
        };
        Self {
            used,
            plan: Arc::clone(plan),
            headers: if matches!(look, Look::Events(_)) {
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

/// Does the provider keep what such a request makes, so that a later one may refer to it?
fn is_kept(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/')
        .any(|part| matches!(part, "responses" | "files" | "batches" | "conversations"))
}

/// The first `"id": "…"` of a JSON answer.
fn first_id(json: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(json).ok().or_else(|| {
        let valid = std::str::from_utf8(json).err()?.valid_up_to();
        std::str::from_utf8(&json[..valid]).ok()
    })?;
    let (_, after) = text.split_once("\"id\"")?;
    let value = after
        .trim_start()
        .strip_prefix(':')?
        .trim_start()
        .strip_prefix('"')?;
    let (id, _) = value.split_once('"')?;
    (!id.is_empty()).then_some(id)
}

impl Hold for Watcher {
    fn saw(&mut self, bytes: &[u8]) {
        match &mut self.look {
            Look::Nothing => {}
            Look::Json(begun) => {
                let left = ID_WITHIN.saturating_sub(begun.len()).min(bytes.len());
                begun.extend_from_slice(&bytes[..left]);
                if let Some(id) = first_id(begun) {
                    let profile = &self.used.lease().profile;
                    self.ties.note(&self.plan.agent, &self.plan.provider, id, profile);
                    self.look = Look::Nothing;
                } else if begun.len() >= ID_WITHIN {
                    self.look = Look::Nothing;
                }
            }
            Look::Events(scanner) => {
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
                    Noticed::Usage(_) | Noticed::Finished => {}
                });
            }
        }
    }

    fn ended(&mut self, how: Ended) {
        match how {
            Ended::Complete => {}
            Ended::CutOff => self.used.note(Outcome::CutOff),
            Ended::TimedOut => self.used.note(Outcome::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_keeps() {
        for (path, want) in [
            ("/responses", true),
            ("/v1/responses?stream=true", true),
            ("/files/file-1/content", true),
            ("/v1/messages/batches", true),
            ("/chat/completions", false),
            ("/chat/completions?responses", false),
        ] {
            assert_eq!(is_kept(path), want, "{path}");
        }
    }

    #[test]
    fn the_id_of_a_json_answer() {
        for (json, want) in [
            (&br#"{"id":"resp_1","object":"response"}"#[..], Some("resp_1")),
            (b"{\n  \"id\" : \"file-1\",", Some("file-1")),
            (b"{\"id\":\"resp", None),
            (b"{\"id\":7}", None),
            (b"{\"id\":\"\"}", None),
            (b"\xff{\"id\":\"x\"}", None),
            (b"{}", None),
        ] {
            assert_eq!(first_id(json), want, "{}", String::from_utf8_lossy(json));
        }
    }
}
