//! Event streams (WHATWG HTML, section 9.2 "Server-sent events"): from bytes in any pieces to events.
//!
//! It knows nothing of what the events say. An event that never ends is refused before it fills the memory.

/// Most bytes of one event, its unfinished line included. Models answer in events of a few kilobytes; the whole answer
/// that some repeat in the last event stays far below this.
const EVENT_BYTES: usize = 16 << 20;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its `event` field; empty where there is none.
    pub(crate) name: String,
    /// Its `data` lines, joined by line feeds.
    pub(crate) data: String,
}

/// An event was larger than any that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// What of a stream is not an event yet.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The line that has not ended.
    line: Vec<u8>,
    /// The last line ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// The first line has passed, which alone may begin with a byte order mark.
    begun: bool,
    event: Event,
    has_data: bool,
}

impl Events {
    /// Takes the next bytes and gives the events that they complete.
    ///
    /// # Errors
    /// [`TooLong`]; the stream is of no use then.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut found = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    found.extend(self.line_ended(&line));
                }
                _ => {
                    if self.line.len() + self.event.data.len() >= EVENT_BYTES {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(found)
    }

    /// The stream has ended: the event that only lacks its blank line. By the letter it is lost, but servers that
    /// close right after their last line mean it.
    pub(crate) fn finish(mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.line_ended(&line);
        }
        self.line_ended(b"")
    }

    fn line_ended(&mut self, line: &[u8]) -> Option<Event> {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.begun => rest,
            _ => line,
        };
        self.begun = true;
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.event.name),
            // Comments keep the connection alive; ids and retry times are for clients that connect again.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(chunks: &[&[u8]]) -> Vec<Event> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for chunk in chunks {
            found.extend(events.feed(chunk).unwrap());
        }
        found.extend(events.finish());
        found
    }

    fn event(name: &str, data: &str) -> Event {
        Event {
            name: name.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let cases: [(&str, &[Event]); 9] = [
            ("event: a\ndata: {}\n\n", &[event("a", "{}")]),
            ("data:x\r\ndata: y\r\n\r\n", &[event("", "x\ny")]),
            ("data: x\r\rdata:  y\r\r", &[event("", "x"), event("", " y")]),
            ("\u{feff}data: x\n\n\u{feff}data: y\n\n", &[event("", "x")]),
            (
                ": ping\n\ndata: x\nid: 1\nretry: 5\nwhat: ever\n\n",
                &[event("", "x")],
            ),
            // An event without data is none, and its name does not stay.
            ("event: a\n\ndata: x\n\n", &[event("", "x")]),
            ("data\n\n", &[event("", "")]),
            ("data: [DONE]", &[event("", "[DONE]")]),
            ("\n\n\n", &[]),
        ];
        for (text, want) in cases {
            assert_eq!(all(&[text.as_bytes()]), want, "{text:?}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        let line = format!("data: {}\n", "x".repeat(1 << 20));
        let outcome = (0..20).try_for_each(|_| events.feed(line.as_bytes()).map(drop));
        assert_eq!(outcome, Err(TooLong));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "(data: |event: |:|data|\\{\"a\":1\\}|ä|\n|\n\n|\r\n|\r){0,40}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            chunks.push(&bytes[from..]);
            prop_assert_eq!(all(&chunks), all(&[bytes]));
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            all(&[&bytes]);
        }
    }
}
