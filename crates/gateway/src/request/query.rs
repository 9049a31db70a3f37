//! Credentials in the query: they are for the gateway, and never go up.
//!
//! Everything else of the query stays byte for byte, in its order.

use std::borrow::Cow;

/// Parameters that carry credentials somewhere, compared decoded and in lower case. Google takes `key` and `$key`.
const CREDENTIALS: [&str; 15] = [
    "key",
    "api_key",
    "api-key",
    "apikey",
    "x-api-key",
    "x-goog-api-key",
    "access_token",
    "auth_token",
    "oauth_token",
    "bearer_token",
    "token",
    "authorization",
    "subscription-key",
    "client_secret",
    "password",
];

/// The query without its credentials; `None` when nothing is left. Pieces that some servers separate by `;` count as
/// parameters of their own.
#[must_use]
pub fn without_credentials(query: &str) -> Option<Cow<'_, str>> {
    if !query.split(['&', ';']).any(is_credential) {
        return (!query.is_empty()).then_some(Cow::Borrowed(query));
    }
    let mut kept = String::with_capacity(query.len());
    let mut pending = "";
    for piece in query.split_inclusive(['&', ';']) {
        let (text, separator) = match piece.strip_suffix(['&', ';']) {
            Some(text) => piece.split_at(text.len()),
            None => (piece, ""),
        };
        if is_credential(text) {
            continue;
        }
        if !kept.is_empty() {
            kept.push_str(pending);
        }
        kept.push_str(text);
        pending = separator;
    }
    (!kept.is_empty()).then_some(Cow::Owned(kept))
}

pub(super) fn is_credential(piece: &str) -> bool {
    let name = piece.split_once('=').map_or(piece, |(name, _)| name);
    let name = decoded(name);
    let name = name.trim();
    let name = name.strip_prefix('$').unwrap_or(name);
    CREDENTIALS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_credentials_go() {
        let cases = [
            ("", None),
            ("beta=true", Some("beta=true")),
            ("a=1&&b", Some("a=1&&b")),
            ("key=sk", None),
            ("KEY=sk&alt=sse", Some("alt=sse")),
            ("alt=sse&key=sk", Some("alt=sse")),
            ("a=1&key=sk&b=%20x", Some("a=1&b=%20x")),
            ("a=1;key=sk;b=2", Some("a=1;b=2")),
            ("%6bey=sk&a", Some("a")),
            ("a&%6B%65%79=sk", Some("a")),
            ("+key=sk&a", Some("a")),
            ("$key=sk&a", Some("a")),
            ("api-key=1&api_key=2&apiKey=3&access_token=4&token=5", None),
            (
                "page_token=5&key_id=7&monkey=1",
                Some("page_token=5&key_id=7&monkey=1"),
            ),
            ("key", None),
        ];
        for (query, want) in cases {
            assert_eq!(without_credentials(query).as_deref(), want, "{query}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_counts_as_a_credential_is_left(query in "([a-z$%+]{0,4}|key|token|%6b|ey|[&;=]){0,12}") {
            let kept = without_credentials(&query);
            let kept = kept.as_deref().unwrap_or("");
            prop_assert!(!kept.split(['&', ';']).any(is_credential), "{}", kept);
            let wanted: Vec<&str> = query.split(['&', ';']).filter(|piece| !is_credential(piece)).collect();
            let wanted: Vec<&str> = wanted.into_iter().filter(|piece| !piece.is_empty()).collect();
            let seen: Vec<&str> = kept.split(['&', ';']).filter(|piece| !piece.is_empty()).collect();
            prop_assert_eq!(seen, wanted);
        }
    }
}
