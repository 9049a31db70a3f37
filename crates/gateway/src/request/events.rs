//! What a stream of server-sent events says besides its text: errors, limits, usage, the answer's id. It looks and
//! changes nothing; the bytes pass as they came.
//!
//! Incremental over any chunk borders, with lines ended as the standard allows (WHATWG HTML section 9.2.6). Events
//! whose name says that they carry text are skipped at the speed of a search for a line end. What is held is one
//! event of at most [`EVENT_MAX`] bytes; a longer one is passed over.

use std::sync::LazyLock;

use memchr::{memchr2, memmem};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// The largest event that is looked at, in bytes. Errors and limits have some hundred; the event that ends a response
/// repeats the whole answer, and only for a very long one is its usage not seen.
pub const EVENT_MAX: usize = 512 * 1024;

/// Longest line that may be the name of an event, in bytes.
const NAME_MAX: usize = 64;

/// Longest id of an answer that is kept, in bytes.
const ID_MAX: usize = 200;

/// Something that an event said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noticed {
    /// An error inside of an answer that began well; `body` is what an error answer with that error would hold.
    Error {
        /// JSON.
        body: Vec<u8>,
    },
    /// Limits, as Codex is told them (`codex.rate_limits`).
    Limits {
        /// The event's data: JSON.
        body: Vec<u8>,
    },
    /// How much was used so far. A later one replaces its fields.
    Usage(Usage),
    /// The id by which a later request may refer to this answer.
    Answer {
        /// For example `resp_…`.
        id: String,
    },
    /// The API's own end of the stream.
    Finished,
}

/// Tokens, as far as they are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the request.
    pub input: Option<u64>,
    /// Of the answer.
    pub output: Option<u64>,
    /// Of the request, read from a cache.
    pub cached: Option<u64>,
}

impl Usage {
    /// Takes what `later` says.
    pub fn update(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cached = later.cached.or(self.cached);
    }
}

/// Looks at the chunks of one stream, in order.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The line that has begun, as far as it is wanted.
    line: Vec<u8>,
    /// The event's data so far.
    data: Vec<u8>,
    name: Name,
    /// The line is not wanted: it carries text, or it or its event is too long.
    skipping: bool,
    /// The event is longer than is looked at.
    too_long: bool,
    /// A carriage return was the last byte; a line feed next belongs to it.
    after_return: bool,
}

/// What the name of an event says about its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Name {
    /// There is none; the data tells.
    #[default]
    None,
    /// One that may matter.
    Wanted,
    /// One that carries text.
    Text,
}

impl Scanner {
    /// A scanner at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the next chunk, and tells what its events said.
    pub fn feed(&mut self, chunk: &[u8], mut tell: impl FnMut(Noticed)) {
        let mut rest = chunk;
        if self.after_return
            && let Some((first, after)) = rest.split_first()
        {
            self.after_return = false;
            if *first == b'\n' {
                rest = after;
            }
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            if !self.line.is_empty() || self.skipping {
                self.hold(&rest[..end]);
                let line = std::mem::take(&mut self.line);
                self.line_ends(&line, &mut tell);
                self.line = line;
                self.line.clear();
            } else {
                self.line_ends(&rest[..end], &mut tell);
            }
            let was_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if was_return {
                match rest.split_first() {
                    Some((b'\n', after)) => rest = after,
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
        }
        self.hold(rest);
    }

    /// Keeps the beginning of a line whose end has not come.
    fn hold(&mut self, part: &[u8]) {
        if self.skipping || part.is_empty() {
            return;
        }
        let text = self.name == Name::Text && self.line.is_empty() && part.first() == Some(&b'd');
        if text || self.line.len() + self.data.len() + part.len() > EVENT_MAX {
            self.too_long |= !text;
            self.skipping = true;
            self.line.clear();
            return;
        }
        self.line.extend_from_slice(part);
    }

    fn line_ends(&mut self, line: &[u8], tell: &mut impl FnMut(Noticed)) {
        if std::mem::take(&mut self.skipping) {
            return;
        }
        // Byte order mark, only at the beginning of a stream; elsewhere it makes a field that nobody knows.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if line.is_empty() {
            self.event_ends(tell);
            return;
        }
        if let Some(name) = field(line, b"event") {
            self.name = name_of(name);
        } else if let Some(data) = field(line, b"data").filter(|_| self.name != Name::Text) {
            if self.data.len() + data.len() > EVENT_MAX {
                self.too_long = true;
                return;
            }
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
        }
    }

    fn event_ends(&mut self, tell: &mut impl FnMut(Noticed)) {
        let name = std::mem::take(&mut self.name);
        if !std::mem::take(&mut self.too_long) && name != Name::Text && !self.data.is_empty() {
            look(&self.data, tell);
        }
        self.data.clear();
        // One long event is no reason to hold its room for the rest of a long stream.
        if self.data.capacity() > EVENT_MAX / 8 {
            self.data = Vec::new();
        }
        if self.line.capacity() > EVENT_MAX / 8 {
            self.line = Vec::new();
        }
    }
}

/// The value of a field, without the one space that may come before it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

fn name_of(name: &[u8]) -> Name {
    const TEXTS: [&[u8]; 3] = [b"content_block_", b"response.output_", b"response.reasoning"];
    if name.len() > NAME_MAX || name == b"ping" || name.ends_with(b".delta") {
        return Name::Text;
    }
    if TEXTS.iter().any(|text| name.starts_with(text)) {
        return Name::Text;
    }
    Name::Wanted
}

/// What the data of events of all the APIs has that matters here. Each part is read for itself, so that one of another
/// shape hides nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Data<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    /// OpenAI's.
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    /// Anthropic's.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// Google's.
    #[serde(rename = "usageMetadata", borrow)]
    google: Option<&'a RawValue>,
}

/// `response` of OpenAI, `message` of Anthropic.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Part<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens {
    #[serde(alias = "prompt_tokens", alias = "promptTokenCount")]
    input_tokens: Option<u64>,
    #[serde(alias = "completion_tokens", alias = "candidatesTokenCount")]
    output_tokens: Option<u64>,
    #[serde(alias = "cachedContentTokenCount")]
    cache_read_input_tokens: Option<u64>,
    #[serde(alias = "prompt_tokens_details")]
    input_tokens_details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn usage(raw: Option<&RawValue>) -> Option<Usage> {
    let tokens = read::<Option<Tokens>>(raw)??;
    let cached = tokens
        .input_tokens_details
        .and_then(|details| details.cached_tokens);
    Some(Usage {
        input: tokens.input_tokens,
        output: tokens.output_tokens,
        cached: tokens.cache_read_input_tokens.or(cached),
    })
}

/// One of these is in every event that says something. Within a text of the answer its quotes would be escaped, so that
/// these are keys or whole values.
static MARKS: LazyLock<[memmem::Finder<'static>; 5]> = LazyLock::new(|| {
    [
        "\"error\"",
        "\"usage",
        "codex.rate_limits",
        "\"response\"",
        "\"message_stop\"",
    ]
    .map(memmem::Finder::new)
});

/// Looks at the data of one event.
fn look(data: &[u8], tell: &mut impl FnMut(Noticed)) {
    if data == b"[DONE]" {
        tell(Noticed::Finished);
        return;
    }
    if !MARKS.iter().any(|mark| mark.find(data).is_some()) {
        return;
    }
    let Ok(event) = serde_json::from_slice::<Data<'_>>(data) else {
        return;
    };
    let kind: String = read(event.kind).unwrap_or_default();
    match kind.as_str() {
        "codex.rate_limits" => tell(Noticed::Limits { body: data.to_vec() }),
        // OpenAI's responses have the error's fields beside the type.
        "error" if event.error.is_none() => tell(Noticed::Error { body: as_error(data) }),
        _ => {}
    }
    tell_error(event.error, tell);
    for part in [event.response, event.message] {
        let Some(part) = read::<Part<'_>>(part) else {
            continue;
        };
        tell_error(part.error, tell);
        let id = read::<String>(part.id).filter(|id| !id.is_empty() && id.len() <= ID_MAX);
        if let Some(id) = id.filter(|_| kind == "response.created") {
            tell(Noticed::Answer { id });
        }
        if let Some(usage) = usage(part.usage) {
            tell(Noticed::Usage(usage));
        }
    }
    for used in [event.usage, event.google] {
        if let Some(usage) = usage(used) {
            tell(Noticed::Usage(usage));
        }
    }
    if matches!(
        kind.as_str(),
        "message_stop" | "response.completed" | "response.incomplete" | "response.failed"
    ) {
        tell(Noticed::Finished);
    }
}

fn tell_error(error: Option<&RawValue>, tell: &mut impl FnMut(Noticed)) {
    if let Some(error) = error.filter(|error| is_something(error)) {
        tell(Noticed::Error {
            body: as_error(error.get().as_bytes()),
        });
    }
}

/// `"error": null` is in every answer of some APIs.
fn is_something(error: &RawValue) -> bool {
    !matches!(error.get(), "null" | "{}" | "\"\"" | "false")
}

/// `{"error": …}`, as the body of an error answer has it.
fn as_error(error: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(error).unwrap_or(Value::Null);
    serde_json::json!({ "error": value }).to_string().into_bytes()
}

#[cfg(test)]
mod tests;
