//! Which session a request belongs to, so that it stays with its account.
//!
//! The key is looked up among the sessions of the caller's agent only, so a key that names another agent's session is
//! just a new one.

use http::{HeaderMap, HeaderName};

use super::errors::Refusal;

/// The header by which a program names its session.
pub const SESSION: HeaderName = HeaderName::from_static("x-tokensink-session");

/// Longest key, in bytes. Real ones are UUIDs or chat keys of some dozen characters.
const LENGTH_MAX: usize = 200;

/// The clients' own headers, and what goes before their keys, so that they cannot meet those of chats (clients.md 2.5,
/// 3.5). A session comes before a thread.
static CLIENTS: [(HeaderName, &str); 6] = [
    (HeaderName::from_static("x-claude-code-session-id"), "claude-code"),
    (HeaderName::from_static("session-id"), "codex"),
    (HeaderName::from_static("session_id"), "codex"),
    (HeaderName::from_static("thread-id"), "codex"),
    (HeaderName::from_static("conversation_id"), "codex"),
    (HeaderName::from_static("x-session-id"), "client"),
];

/// The key of the request's session: what the program says itself, else what its client says, else none.
///
/// # Errors
/// When [`SESSION`] is there twice or is no key. A client's own header that is no key does not count.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut named = None;
    let mut clients: Option<(usize, &str)> = None;
    let mut seen = [false; CLIENTS.len()];
    // Most requests have none of them, so that one pass is less than a search for each.
    for (name, value) in headers {
        let text = || value.to_str().ok().map(str::trim).filter(|text| is_key(text));
        if *name == SESSION {
            match (named, text()) {
                (None, Some(text)) => named = Some(text),
                _ => return Err(bad_session()),
            }
        } else if let Some(rank) = CLIENTS.iter().position(|(own, _)| own == name)
            // Of a header that is there twice the first counts, be it a key or not.
            && !std::mem::replace(&mut seen[rank], true)
            && clients.is_none_or(|(best, _)| rank < best)
            && let Some(text) = text()
        {
            clients = Some((rank, text));
        }
    }
    let own = || clients.map(|(rank, text)| format!("{}:{text}", CLIENTS[rank].1));
    Ok(named.map(str::to_owned).or_else(own))
}

fn bad_session() -> Refusal {
    Refusal::bad(
        "bad_session",
        format!("{SESSION} must be one text of 1 to {LENGTH_MAX} printable ASCII characters"),
    )
    .with_fix(format!("send one {SESSION}, or none"))
}

fn is_key(text: &str) -> bool {
    (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers, and the key that they give.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);

    fn of(pairs: &[(&str, &str)]) -> Result<Option<String>, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                name.parse::<HeaderName>().unwrap(),
                http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        key(&headers)
    }

    #[test]
    fn who_names_the_session() {
        let long = "x".repeat(201);
        let cases: [Case<'_>; 10] = [
            (&[], None),
            (&[("x-claude-code-session-id", "u-1")], Some("claude-code:u-1")),
            (&[("session-id", "s"), ("thread-id", "t")], Some("codex:s")),
            (&[("thread-id", "t")], Some("codex:t")),
            (
                &[("session-id", "s"), ("x-tokensink-session", " mine ")],
                Some("mine"),
            ),
            (&[("session-id", "")], None),
            (&[("session-id", &long)], None),
            (&[("session-id", "é"), ("thread-id", "t")], Some("codex:t")),
            (&[("session-id", "a"), ("session-id", "b")], Some("codex:a")),
            (&[("session-id", ""), ("session-id", "b")], None),
        ];
        for (headers, want) in cases {
            assert_eq!(of(headers).unwrap().as_deref(), want, "{headers:?}");
        }
    }

    #[test]
    fn a_session_of_ones_own_is_meant() {
        let long = "x".repeat(201);
        let cases: [&[(&str, &str)]; 4] = [
            &[("x-tokensink-session", "")],
            &[("x-tokensink-session", &long)],
            &[("x-tokensink-session", "a"), ("x-tokensink-session", "b")],
            &[("x-tokensink-session", "é")],
        ];
        for headers in cases {
            assert_eq!(of(headers).unwrap_err().code, "bad_session", "{headers:?}");
        }
    }
}
