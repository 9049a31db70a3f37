//! What an answer to a malformed request repeats of it: values in quotes, places in it, addresses that it names.
//!
//! Whoever makes a request chooses these words, and they must not decide what an account is blamed for: a role that is
//! called "payment required" says nothing of a bill, and `messages.401` is the 402nd message.

/// Where the status of a failure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// The answer has one.
    OfAnswer,
    /// In the text, if anywhere: an event in a stream has none, nor has what a program says.
    InText,
}

/// Longest value in quotes that is taken out, in bytes. A lone quotation mark must not hide all that follows it.
const QUOTED_MAX: usize = 512;
/// Fields of an error inside a text; what they hold is what somebody's server said, though it stands in quotes.
const FIELDS: [&str; 7] = [
    "message",
    "msg",
    "detail",
    "error",
    "code",
    "reason",
    "error_description",
];

/// `text`, which is in lower case, without the values in its quotes, addresses and places in a request
/// (`messages.401.content`). The quotation marks stay. A text that is one quotation is no echo. Where the answer has a
/// status, bare ones go as well: they are somebody else's, or count something.
pub(super) fn without_echoes(text: &str, status: Status) -> String {
    let mut own = String::with_capacity(text.len());
    let mut at = 0;
    // The mark that ends a field's value or the whole text, which begins nothing.
    let mut value_end = None;
    if let Some(end) = whole_end(text) {
        own.push_str(&text[..1]);
        (at, value_end) = (1, Some(end));
    }
    while let Some(letter) = text[at..].chars().next() {
        let next = at + letter.len_utf8();
        if let Some(end) = quoted_end(text, at, letter).filter(|_| value_end != Some(at)) {
            own.push(letter);
            if is_field(&text[..at]) {
                value_end = Some(end);
                at = next;
            } else {
                at = end;
                let mark = text[at..].chars().next();
                own.extend(mark);
                at += mark.map_or(0, char::len_utf8);
            }
            continue;
        }
        let starts = !text[..at].chars().next_back().is_some_and(is_of_place);
        if starts && is_of_place(letter) {
            let length = text[at..].find(|c| !is_of_place(c)).unwrap_or(text.len() - at);
            let token = &text[at..at + length];
            if text[at + length..].starts_with("://") {
                at += text[at..].find(char::is_whitespace).unwrap_or(text.len() - at);
            } else {
                let is_other = status == Status::OfAnswer && is_status(token.trim_matches('.'));
                if !is_place(token) && !is_other {
                    own.push_str(token);
                }
                at += length;
            }
            continue;
        }
        own.push(letter);
        at = next;
    }
    own
}

/// Where the one quotation ends that the whole of `text` is.
fn whole_end(text: &str) -> Option<usize> {
    let mark = text.chars().next().filter(|mark| "\"'`".contains(*mark))?;
    let inner = text[1..].strip_suffix(mark)?;
    (!inner.contains(mark)).then_some(1 + inner.len())
}

/// Where the quotation ends that `mark` at `at` begins: the place of its second mark. An apostrophe inside a word begins
/// and ends none.
fn quoted_end(text: &str, at: usize, mark: char) -> Option<usize> {
    let closing = match mark {
        '\'' | '"' | '`' => mark,
        '\u{201c}' => '\u{201d}',
        '\u{2018}' => '\'',
        _ => return None,
    };
    let is_of_word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    let from = at + mark.len_utf8();
    if is_of_word(text[..at].chars().next_back()) || text[from..].starts_with(char::is_whitespace) {
        return None;
    }
    let longest = if is_field(&text[..at]) {
        text.len()
    } else {
        QUOTED_MAX
    };
    text[from..]
        .match_indices(closing)
        .take_while(|(length, _)| *length <= longest)
        .find(|(length, closing)| !is_of_word(text[from + length + closing.len()..].chars().next()))
        .map(|(length, _)| from + length)
}

/// Is what follows `before` the value of an error's field, in JSON or in how a program prints it?
fn is_field(before: &str) -> bool {
    let key = before
        .trim_end_matches(['\\', ' '])
        .strip_suffix(':')
        .map(str::trim_end)
        .and_then(|before| before.strip_suffix(['"', '\'']))
        .map(|before| before.trim_end_matches('\\'));
    let is = |key: &str, field: &str| {
        key.strip_suffix(field)
            .is_some_and(|before| before.ends_with(['"', '\'']))
    };
    key.is_some_and(|key| FIELDS.iter().any(|field| is(key, field)))
}

fn is_of_place(letter: char) -> bool {
    letter.is_alphanumeric() || "_-.[]$".contains(letter)
}

/// A place in a request has parts, one of which is a number: `messages.401.content`, `input[403].x`.
fn is_place(token: &str) -> bool {
    let parts = token.split(['.', '[', ']']).filter(|part| !part.is_empty());
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    token.trim_matches('.').contains(['.', '[']) && parts.into_iter().any(is_number)
}

/// A bare number that could be a status.
fn is_status(token: &str) -> bool {
    token.len() == 3 && token.starts_with(['4', '5']) && token.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn echoes() {
        let long = "x".repeat(QUOTED_MAX + 1);
        let cases = [
            (
                "invalid value: 'payment required'. supported values are: 'system'",
                "invalid value: ''. supported values are: ''",
            ),
            ("invalid role \"forbidden\"", "invalid role \"\""),
            (
                "tool `rate_limit` \u{201c}a 'b' c\u{201d} \u{2018}d'",
                "tool `` \u{201c}\u{201d} \u{2018}'",
            ),
            ("value 'it's forbidden' is odd", "value '' is odd"),
            // Apostrophes are no quotation marks.
            (
                "you're out of the users' quota, can't go on",
                "you're out of the users' quota, can't go on",
            ),
            ("5' of it ' and 'that", "5' of it ' and 'that"),
            // Places, numbers, addresses.
            ("messages.401.content.0: odd", ": odd"),
            ("input[403].x and messages.[2].role: odd", " and : odd"),
            ("upstream status code: 403.", "upstream status code: "),
            ("max_tokens: 500 > 4096", "max_tokens:  > 4096"),
            (
                "sonnet-4-5 takes 128000 in 5-hour windows",
                "sonnet-4-5 takes 128000 in 5-hour windows",
            ),
            ("no. 1.429 of 5 hours.", "no.  of 5 hours."),
            ("see https://x.y/429?forbidden now", "see  now"),
            // The answer of somebody else, in JSON and as a program prints it; what it quotes is an echo again.
            (
                "oh - {\"error\":{\"message\":\"no credit, not 'b'\",\"x\":\"c\"}}",
                "oh - {\"\":{\"\":\"no credit, not ''\",\"\":\"\"}}",
            ),
            ("oh: {'message': 'no credit'}", "oh: {'': 'no credit'}"),
            (r#"oh {\"message\":\"no credit\"}"#, r#"oh {\"":\"no credit\"}"#),
            ("input={'role': 'no credit'}", "input={'': ''}"),
            ("\"just text\"", "\"just text\""),
            ("'forbidden' is no role, 'user' is", "'' is no role, '' is"),
            ("\"", "\""),
            ("", ""),
        ];
        for (text, own) in cases {
            assert_eq!(without_echoes(text, Status::OfAnswer), own, "{text}");
        }
        let text = format!("a '{long}' b");
        assert_eq!(
            without_echoes(&text, Status::OfAnswer),
            text,
            "a lone mark hides little"
        );
    }

    #[test]
    fn a_status_in_a_text_counts_where_there_is_no_other() {
        let text = "api error: 401 in messages.403.content, not '402'";
        assert_eq!(without_echoes(text, Status::OfAnswer), "api error:  in , not ''");
        assert_eq!(without_echoes(text, Status::InText), "api error: 401 in , not ''");
    }

    proptest! {
        #[test]
        fn nothing_is_added(text in "[a-z0-9 .:'\"`\\[\\]{}\u{201c}\u{201d}\u{2018}\u{e4}\\\\/-]{0,60}") {
            for status in [Status::OfAnswer, Status::InText] {
                let own = without_echoes(&text, status);
                prop_assert!(own.len() <= text.len());
                let mut letters = text.chars();
                prop_assert!(own.chars().all(|letter| letters.any(|other| other == letter)), "{}", own);
            }
        }
    }
}
