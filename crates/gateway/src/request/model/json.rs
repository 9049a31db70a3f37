//! JSON as a sequence of events, without building anything (RFC 8259). Strict, iterative, one look at each byte.

use std::borrow::Cow;
use std::ops::Range;

use super::Malformed;

/// How deep objects and arrays may be nested. Real requests stay below thirty, and the providers' own readers end at
/// 128 to 1,000.
pub(in crate::request) const DEPTH_MAX: usize = 512;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::request) enum Event<'a> {
    /// `{`.
    ObjectStart,
    /// `[`.
    ArrayStart,
    /// `}` or `]`.
    End,
    /// A key of an object, between its quotes.
    Key(&'a str),
    /// A text, between its quotes, and where it stands with them.
    Text(&'a str, Range<usize>),
    /// `true`.
    True,
    /// `false`, `null` or a number.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// A value.
    Value,
    /// A value, or the end of the array that just began.
    ValueOrEnd,
    /// A key, or the end of the object that just began.
    KeyOrEnd,
    /// A key.
    Key,
    /// A comma, or the end of what is open.
    CommaOrEnd,
}

pub(in crate::request) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether each open one is an object.
    open: Open,
    expect: Expect,
}

/// What is open, a bit for each.
#[derive(Default)]
struct Open {
    objects: [u64; DEPTH_MAX.div_ceil(64)],
    depth: usize,
}

impl Open {
    /// There must be room for it.
    fn push(&mut self, is_object: bool) {
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if is_object {
            self.objects[word] |= bit;
        } else {
            self.objects[word] &= !bit;
        }
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn last(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.objects[last / 64] & 1 << (last % 64) != 0)
    }
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`, which must be UTF-8 (RFC 8259 section 8.1).
    pub(in crate::request) fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|error| Malformed::NotJson(error.valid_up_to()))?;
        Ok(Self {
            text,
            at: 0,
            open: Open::default(),
            expect: Expect::Value,
        })
    }

    /// The next event; `None` when the one value and all white space behind it were read.
    pub(in crate::request) fn next(&mut self) -> Result<Option<Event<'a>>, Malformed> {
        self.skip_space();
        if self.expect == Expect::CommaOrEnd {
            let Some(is_object) = self.open.last() else {
                return if self.at == self.text.len() {
                    Ok(None)
                } else {
                    Err(self.wrong())
                };
            };
            match self.peek() {
                Some(b'}') if is_object => return Ok(Some(self.end())),
                Some(b']') if !is_object => return Ok(Some(self.end())),
                Some(b',') => {
                    self.at += 1;
                    self.expect = if is_object { Expect::Key } else { Expect::Value };
                    self.skip_space();
                }
                _ => return Err(self.wrong()),
            }
        }
        match (self.expect, self.peek()) {
            (Expect::KeyOrEnd, Some(b'}')) | (Expect::ValueOrEnd, Some(b']')) => Ok(Some(self.end())),
            (Expect::Key | Expect::KeyOrEnd, Some(b'"')) => self.key().map(Some),
            (Expect::Value | Expect::ValueOrEnd, Some(byte)) => self.value(byte).map(Some),
            _ => Err(self.wrong()),
        }
    }

    fn end(&mut self) -> Event<'a> {
        self.at += 1;
        self.open.pop();
        self.expect = Expect::CommaOrEnd;
        Event::End
    }

    fn key(&mut self) -> Result<Event<'a>, Malformed> {
        let range = self.string()?;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.wrong());
        }
        self.at += 1;
        self.expect = Expect::Value;
        Ok(Event::Key(self.between_quotes(&range)))
    }

    fn value(&mut self, first: u8) -> Result<Event<'a>, Malformed> {
        if matches!(first, b'{' | b'[') {
            if self.open.depth == DEPTH_MAX {
                return Err(Malformed::TooDeep);
            }
            let is_object = first == b'{';
            self.at += 1;
            self.open.push(is_object);
            return Ok(if is_object {
                self.expect = Expect::KeyOrEnd;
                Event::ObjectStart
            } else {
                self.expect = Expect::ValueOrEnd;
                Event::ArrayStart
            });
        }
        self.expect = Expect::CommaOrEnd;
        match first {
            b'"' => {
                let range = self.string()?;
                Ok(Event::Text(self.between_quotes(&range), range))
            }
            b't' => self.word("true").map(|()| Event::True),
            b'f' => self.word("false").map(|()| Event::Other),
            b'n' => self.word("null").map(|()| Event::Other),
            b'-' | b'0'..=b'9' => self.number().map(|()| Event::Other),
            _ => Err(self.wrong()),
        }
    }

    /// A string from its opening quote; its range has the quotes.
    fn string(&mut self) -> Result<Range<usize>, Malformed> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            // Without an early end, so that many bytes are looked at at once.
            let is_control = |found, byte: &u8| found | (*byte < 0x20);
            if rest[..plain].iter().fold(false, is_control) {
                self.at += rest.iter().take_while(|byte| **byte >= 0x20).count();
                return Err(self.wrong());
            }
            self.at += plain;
            match self.peek() {
                Some(b'\\') => self.escape()?,
                Some(_) => break,
                None => return Err(self.wrong()),
            }
        }
        self.at += 1;
        Ok(start..self.at)
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let digits = bytes.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.wrong());
                }
                self.at += 6;
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.wrong())
        } else {
            Ok(())
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Malformed> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.wrong())
    }

    fn between_quotes(&self, range: &Range<usize>) -> &'a str {
        // Quotes are single bytes, so that both ends are borders of characters.
        self.text.get(range.start + 1..range.end - 1).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self) -> Malformed {
        Malformed::NotJson(self.at)
    }
}

/// A text with its escapes undone. Half of a surrogate pair, which stands for nothing, becomes U+FFFD.
pub(in crate::request) fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        match escape {
            b'u' => {
                let (c, after) = unicode(rest);
                text.push(c);
                rest = after;
            }
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            other => text.push(char::from(other)),
        }
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// The character whose four digits `rest` begins with, and what follows it.
fn unicode(rest: &str) -> (char, &str) {
    let unit = |text: &str| {
        text.get(..4)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    let after = rest.get(4..).unwrap_or_default();
    let Some(high) = unit(rest) else {
        return (char::REPLACEMENT_CHARACTER, after);
    };
    if (0xd800..0xdc00).contains(&high) {
        let low = after
            .strip_prefix("\\u")
            .and_then(|low| Some((unit(low)?, low.get(4..)?)));
        if let Some((low, after)) = low.filter(|(low, _)| (0xdc00..0xe000).contains(low)) {
            let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            return (char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER), after);
        }
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), after)
}
