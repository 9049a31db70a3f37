//! `/<provider>/…`: which path goes to whom, and which header fields pass.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that concern one connection only (RFC 9110 section 7.6.1), besides those that Connection names.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// What never goes up: credentials of the client, and what tells of its network.
const NOT_UP: [HeaderName; 11] = [
    AUTHORIZATION,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    CONTENT_LENGTH,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];
/// What never comes down: it would concern the provider's host, and the client sees ours.
const NOT_DOWN: [HeaderName; 3] = [
    HeaderName::from_static("alt-svc"),
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
];

/// The provider that a path names, and the rest of path and query, which begins with a slash.
pub(crate) fn provider_of(path_and_query: &str) -> Option<(&str, String)> {
    let below = path_and_query.strip_prefix('/')?;
    let end = below.find(['/', '?']).unwrap_or(below.len());
    let (provider, rest) = below.split_at(end);
    let rest = if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    };
    (!provider.is_empty()).then_some((provider, rest))
}

/// The fields of the client's request that go up.
pub(crate) fn upstream_headers(sent: &HeaderMap) -> HeaderMap {
    passing(sent, &NOT_UP)
}

/// The fields of the upstream's answer that come down.
pub(crate) fn client_headers(sent: &HeaderMap) -> HeaderMap {
    passing(sent, &NOT_DOWN)
}

fn passing(sent: &HeaderMap, kept_back: &[HeaderName]) -> HeaderMap {
    let named: Vec<&str> = sent
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    let mut passed = HeaderMap::with_capacity(sent.len() + 4);
    for (name, value) in sent {
        let is_kept_back = HOP_BY_HOP.contains(name)
            || kept_back.contains(name)
            || named
                .iter()
                .any(|named| named.eq_ignore_ascii_case(name.as_str()));
        if !is_kept_back {
            passed.append(name, value.clone());
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_provider() {
        for (path, want) in [
            (
                "/anthropic/v1/messages?beta=true",
                Some(("anthropic", "/v1/messages?beta=true")),
            ),
            ("/openai", Some(("openai", "/"))),
            ("/openai?x", Some(("openai", "/?x"))),
            ("/", None),
            ("*", None),
        ] {
            let found = provider_of(path);
            let found = found.as_ref().map(|(provider, rest)| (*provider, &**rest));
            assert_eq!(found, want, "{path}");
        }
    }

    #[test]
    fn credentials_and_hops_stay_behind() {
        let mut sent = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("connection", "X-Mine, close"),
            ("x-mine", "1"),
            ("x-theirs", "2"),
            ("content-type", "a/b"),
            ("cookie", "c"),
        ] {
            sent.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let passed = upstream_headers(&sent);
        let mut names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-theirs"]);
        let mut answer = HeaderMap::new();
        answer.append("alt-svc", HeaderValue::from_static("h3"));
        answer.append("x-request-id", HeaderValue::from_static("r"));
        assert_eq!(client_headers(&answer).len(), 1);
    }
}
