//! What a provider keeps for the account that made it: in which collections of its API, and under which ids an answer
//! tells of it. One list for both sides: what a later request may be bound to is remembered when it is made.

use super::model::{Event, Reader, unescaped};

/// Collections of things that a provider keeps for the account that made them.
const KEPT: [&str; 14] = [
    "files",
    "batches",
    "responses",
    "conversations",
    "containers",
    "vector_stores",
    "assistants",
    "threads",
    "uploads",
    "jobs",
    "skills",
    "evals",
    "videos",
    "completions",
];

/// Collections whose things are usually made from other things that an account keeps. Uploads are not among them: these
/// are no JSON, and refer to nothing.
const REFERRING: [&str; 9] = [
    "responses",
    "conversations",
    "batches",
    "containers",
    "vector_stores",
    "assistants",
    "threads",
    "fine_tuning",
    "evals",
];

/// What may follow a collection and is no id.
const VERBS: [&str; 5] = ["compact", "input_tokens", "search", "count_tokens", "runs"];

/// Longest id that is remembered, in bytes.
const ID_MAX: usize = 200;

/// How many ids of one answer are remembered: a page of a list has a hundred things, and a batch names two more for each.
const IDS_MAX: usize = 300;

/// The first thing in a path that one account keeps, with its collection: `/files/<id>/content`.
pub(crate) fn kept_in_path(path: &str) -> Option<(&'static str, &str)> {
    let pairs = path.split('/').zip(path.split('/').skip(1));
    pairs
        .filter_map(|(collection, id)| {
            let what = KEPT.into_iter().find(|kept| *kept == collection)?;
            (!id.is_empty() && !VERBS.contains(&id)).then_some((what, id))
        })
        .next()
}

/// May the answer to a request at this path tell of something that is kept? `stored` says whether the request asks for
/// its answer to be kept, without which a chat completion is not.
pub(crate) fn is_kept(path: &str, is_made: bool, stored: bool) -> bool {
    let of_one = |name: &str| match name {
        "completions" => stored || !is_made,
        name => KEPT.contains(&name),
    };
    // What somebody wrote into a file tells nothing of whose it is.
    let is_content = matches!(path.rsplit('/').next(), Some("content" | "results"));
    !is_content && path.split('/').any(of_one)
}

/// Are bodies that are sent to this path likely to refer to what an account keeps? Messages and chats are not: what they
/// refer to now and then cannot make all of them that are too large to be read wait for one account.
pub(crate) fn may_refer(path: &str) -> bool {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let is_chat = |name: &str| matches!(name, "messages" | "chat");
    let is_version =
        |name: &str| name.starts_with('v') && name[1..].starts_with(|c: char| c.is_ascii_digit());
    let first = names.clone().find(|name| !is_version(name));
    !first.is_some_and(is_chat) && names.any(|name| REFERRING.contains(&name))
}

/// The ids of kept things in a JSON answer, which need not have come whole, in their order: those of the thing itself, of
/// the things of a list, and of the files that these name.
pub(crate) fn ids(json: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    let valid = match std::str::from_utf8(json) {
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    };
    let Ok(mut reader) = Reader::new(&json[..valid]) else {
        return ids;
    };
    let mut stack: Vec<Level> = Vec::new();
    while let Ok(Some(event)) = reader.next() {
        match event {
            Event::ObjectStart | Event::ArrayStart => {
                let place = Place::below(stack.last(), event == Event::ObjectStart);
                stack.push(Level {
                    place,
                    key: Key::Other,
                });
            }
            Event::End => {
                stack.pop();
            }
            Event::Key(text) => {
                if let Some(level) = stack.last_mut().filter(|level| level.place == Place::Thing) {
                    level.key = Key::of(&unescaped(text));
                }
            }
            Event::Text(raw, _) => {
                let is_id = stack.last().is_some_and(|level| match level.place {
                    Place::Thing => level.key == Key::Id,
                    Place::Ids => true,
                    Place::List | Place::Other => false,
                });
                if is_id && !raw.is_empty() && raw.len() <= ID_MAX && ids.len() < IDS_MAX {
                    ids.push(unescaped(raw).into_owned());
                }
            }
            Event::True | Event::Other => {}
        }
    }
    ids
}

/// An object or array that is open.
struct Level {
    place: Place,
    /// The last key of a thing.
    key: Key,
}

/// What an object or array is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A thing that is kept.
    Thing,
    /// Things.
    List,
    /// Ids.
    Ids,
    /// Nothing that counts; what users write of their own, among others.
    Other,
}

impl Place {
    fn below(parent: Option<&Level>, is_object: bool) -> Self {
        let Some(parent) = parent else {
            return if is_object { Self::Thing } else { Self::Other };
        };
        match (parent.place, parent.key, is_object) {
            (Self::List, _, true) | (Self::Thing, Key::Inner, true) => Self::Thing,
            (Self::Thing, Key::Data, false) => Self::List,
            (Self::Thing, Key::Ids, false) => Self::Ids,
            _ => Self::Other,
        }
    }
}

/// The keys of a thing that mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    /// Of a list.
    Data,
    /// A file within what made it.
    Inner,
    /// Several ids.
    Ids,
    Other,
}

impl Key {
    fn of(text: &str) -> Self {
        match text {
            "id" | "training_file" | "validation_file" | "thread_id" => Self::Id,
            text if text.ends_with("file_id") => Self::Id,
            "data" => Self::Data,
            "file" => Self::Inner,
            "result_files" => Self::Ids,
            _ => Self::Other,
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
            ("/v1/responses", true),
            ("/files/file-1", true),
            ("/files/file-1/content", false),
            ("/v1/messages/batches", true),
            ("/v1/messages/batches/b_1/results", false),
            ("/vector_stores", true),
            ("/fine_tuning/jobs", true),
            ("/v1/messages", false),
            ("/chat/completions", false),
        ] {
            assert_eq!(is_kept(path, true, false), want, "{path}");
        }
        assert!(is_kept("/chat/completions", true, true));
        assert!(is_kept("/chat/completions", false, false));
    }

    #[test]
    fn whose_bodies_refer_to_what_is_kept() {
        for (path, want) in [
            ("/responses", true),
            ("/v1/responses/compact", true),
            ("/batches", true),
            ("/threads/t_1/messages", true),
            ("/fine_tuning/jobs", true),
            ("/files", false),
            ("/uploads/u_1/parts", false),
            ("/videos", false),
            ("/v1/messages", false),
            ("/messages/batches", false),
            ("/v1/messages/batches", false),
            ("/chat/completions", false),
            ("/v", false),
        ] {
            assert_eq!(may_refer(path), want, "{path}");
        }
    }

    #[test]
    fn the_ids_of_an_answer() {
        for (json, want) in [
            (&br#"{"id":"resp_1","object":"response"}"#[..], &["resp_1"][..]),
            (b"{\n  \"id\" : \"file-1\",", &["file-1"]),
            (
                br#"{"object":"batch","input_file_id":"f-1","errors":null,"output_file_id":"f-2","id":"b-1","error_file_id":null}"#,
                &["f-1", "f-2", "b-1"],
            ),
            (
                br#"{"object":"list","data":[{"id":"a","file":{"id":"b"}},{"id":"c","x":[{"id":"no"}]}],"first_id":"a"}"#,
                &["a", "b", "c"],
            ),
            (
                br#"{"metadata":{"id":"no","file_id":"no"},"result_files":["a","b"],"id":"c"}"#,
                &["a", "b", "c"],
            ),
            (b"{\"id\":\"resp", &[]),
            (b"{\"id\":7}", &[]),
            (b"{\"id\":\"\"}", &[]),
            (b"{\"id\":\"a\",\"b\":\"\xc3", &["a"]),
            (b"[{\"id\":\"a\"}]", &[]),
            (b"\xff{\"id\":\"x\"}", &[]),
            (b"{}", &[]),
        ] {
            assert_eq!(ids(json), want, "{}", String::from_utf8_lossy(json));
        }
        let many = format!("{{\"data\":[{}{{}}]}}", "{\"id\":\"a\"},".repeat(10_000));
        assert_eq!(ids(many.as_bytes()).len(), IDS_MAX);
    }
}
