//! Headers as clients send them, and as somebody sends them who wants something to pass.

use proptest::prelude::*;

use super::*;

/// What the client sends as features, for which lease, and what goes up.
type BetaCase<'a> = (
    &'a [&'a str],
    &'a Betas,
    &'a [(&'a str, &'a str)],
    Option<&'a str>,
);

const OAUTH: &str = "oauth-2025-04-20";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn betas(add: &[&str], remove: &[&str]) -> Betas {
    Betas {
        header: "anthropic-beta".to_owned(),
        add: add.iter().map(|&text| text.to_owned()).collect(),
        remove: remove.iter().map(|&text| text.to_owned()).collect(),
    }
}

fn up(client: &[(&str, &str)], lease: &[(&str, &str)], betas: &Betas) -> HeaderMap {
    let lease: Vec<(String, Secret)> = lease
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
        .collect();
    let dress = Dress {
        headers: &lease_headers(&lease).unwrap(),
        betas,
    };
    upstream_headers(&headers(client), dress).unwrap()
}

#[test]
fn no_credential_of_the_client_goes_up_in_any_form() {
    let names = [
        "authorization",
        "Authorization",
        "proxy-authorization",
        "x-api-key",
        "X-API-KEY",
        "api-key",
        "apikey",
        "x-goog-api-key",
        "cookie",
        "cookie2",
        "set-cookie",
        "x-auth-token",
        "x-access-token",
        "ocp-apim-subscription-key",
        "x-amz-security-token",
        "chatgpt-account-id",
    ];
    for name in names {
        let sent = up(
            &[(name, "Bearer client"), (name, "again"), ("x", "y")],
            &[],
            &Betas::default(),
        );
        assert_eq!(sent, headers(&[("x", "y")]), "{name}");
    }
}

#[test]
fn what_is_of_the_connection_or_of_the_way_stays() {
    let client = [
        ("connection", "close, X-Hop ,te"),
        ("Connection", "x-second"),
        ("x-hop", "1"),
        ("x-second", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "x"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("host", "127.0.0.1:1"),
        ("content-length", "5"),
        ("expect", "100-continue"),
        ("forwarded", "for=1"),
        ("x-forwarded-for", "1"),
        ("x-forwarded-host", "evil"),
        ("via", "1.1 x"),
        ("x-real-ip", "1"),
        ("x-tokensink-session", "s"),
        ("X-Tokensink-Agent", "personal"),
        ("x-tokensink-anything", "s"),
    ];
    assert_eq!(up(&client, &[], &Betas::default()), HeaderMap::new());
}

#[test]
fn the_rest_passes_as_it_was_sent() {
    let client = [
        ("user-agent", "claude-cli/2.1.329 (external, sdk-cli)"),
        ("x-app", "cli"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a , b"),
        ("anthropic-beta", "c"),
        ("content-type", "application/json"),
        ("content-encoding", "zstd"),
        ("accept", "text/event-stream"),
        ("x-stainless-lang", "js"),
        ("originator", "codex_exec"),
        ("openai-organization", "org-1"),
        ("x-bytes", "\u{e9}"),
    ];
    assert_eq!(up(&client, &[], &Betas::default()), headers(&client));
}

#[test]
fn answers_are_wanted_as_they_can_be_read() {
    let identity = headers(&[("accept-encoding", "identity")]);
    for client in [
        &[("accept-encoding", "gzip, br")][..],
        &[("accept-encoding", "br"), ("accept-encoding", "zstd")],
    ] {
        assert_eq!(up(client, &[], &Betas::default()), identity);
    }
}

#[test]
fn the_leases_headers_win_and_cannot_be_taken_away() {
    let client = [
        ("connection", "authorization, chatgpt-account-id, anthropic-beta"),
        ("authorization", "Bearer client"),
        ("chatgpt-account-id", "theirs"),
        ("anthropic-beta", "x"),
    ];
    let lease = [("authorization", "Bearer lease"), ("chatgpt-account-id", "ours")];
    let sent = up(&client, &lease, &betas(&[OAUTH], &[]));
    let want = [
        ("authorization", "Bearer lease"),
        ("chatgpt-account-id", "ours"),
        ("anthropic-beta", OAUTH),
    ];
    assert_eq!(sent, headers(&want));
    assert!(sent["authorization"].is_sensitive());
    assert!(!format!("{sent:?}").contains("lease"));
}

#[test]
fn beta_features_by_lease() {
    let oauth = betas(&[OAUTH], &[]);
    let key = betas(&[], &[OAUTH]);
    let bearer = [("authorization", "Bearer t"), ("anthropic-beta", OAUTH)];
    let bare = [("x-api-key", "k")];
    let cases: [BetaCase<'_>; 9] = [
        (&[], &oauth, &bearer, Some(OAUTH)),
        (&["a,b"], &oauth, &bearer, Some("a,b,oauth-2025-04-20")),
        (&["oauth-2025-04-20"], &oauth, &bearer, Some(OAUTH)),
        (
            &["a", "oauth-2025-04-20", "b"],
            &oauth,
            &bearer,
            Some("a,oauth-2025-04-20,b"),
        ),
        (&["\u{e9}", "a"], &oauth, &bearer, Some("a,oauth-2025-04-20")),
        (&[], &key, &bare, None),
        (&["oauth-2025-04-20"], &key, &bare, None),
        (&["a, oauth-2025-04-20,b"], &key, &bare, Some("a,b")),
        (&["a"], &key, &bare, Some("a")),
    ];
    for (sent, betas, lease, want) in cases {
        let mut client = vec![("x-api-key", "client"), ("authorization", "Bearer client")];
        client.extend(sent.iter().map(|value| ("anthropic-beta", *value)));
        let up = up(&client, lease, betas);
        let seen: Vec<&HeaderValue> = up.get_all("anthropic-beta").iter().collect();
        assert_eq!(seen, want.into_iter().collect::<Vec<_>>(), "{sent:?}");
        assert_eq!(
            up.contains_key("x-api-key"),
            lease[0].0 == "x-api-key",
            "{sent:?}"
        );
        assert!(!format!("{up:?}").contains("client"), "{sent:?}");
    }
}

#[test]
fn a_lease_that_cannot_be_written_is_told() {
    for (name, value) in [("a b", "x"), ("x", "a\nb")] {
        let refusal = lease_headers(&[(name.to_owned(), Secret::new(value))]).unwrap_err();
        assert_eq!(refusal.code, "bad_lease_header");
        assert!(!refusal.text().contains('\n'));
    }
}

#[test]
fn what_goes_down() {
    let upstream = [
        ("content-type", "text/event-stream"),
        ("content-length", "12"),
        ("retry-after", "5"),
        ("anthropic-ratelimit-unified-status", "allowed"),
        ("x-codex-primary-used-percent", "5"),
        ("request-id", "req_1"),
        ("server", "cloudflare"),
        ("content-encoding", "gzip"),
    ];
    let stays = [
        ("alt-svc", "h3=\":443\""),
        ("set-cookie", "__cf_bm=x"),
        ("set-cookie", "second"),
        ("set-cookie2", "x"),
        ("strict-transport-security", "max-age=1"),
        ("clear-site-data", "*"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("trailer", "x"),
        ("upgrade", "h2"),
        ("proxy-authenticate", "Basic"),
        ("x-tokensink-profile", "forged"),
    ];
    let mut all: Vec<_> = stays.iter().chain(&upstream).copied().collect();
    assert_eq!(client_headers(&headers(&all)), headers(&upstream));
    // The length means nothing then, and the client would take it for the answer's.
    all.push(("transfer-encoding", "chunked"));
    let mut down = headers(&upstream);
    down.remove(CONTENT_LENGTH);
    assert_eq!(client_headers(&headers(&all)), down);
}

proptest! {
    /// Whatever the client sends, in whatever order, the only credential that goes up is the lease's.
    #[test]
    fn only_the_lease_speaks_for_the_request(
        pairs in prop::collection::vec((prop::sample::select(vec![
            "authorization", "x-api-key", "api-key", "cookie", "connection", "anthropic-beta", "chatgpt-account-id",
            "x-tokensink-agent", "host", "x-goog-api-key", "x-other",
        ]), "(secret|close|authorization|x-api-key|anthropic-beta|[a-z,;= ]{0,8}){0,3}"), 0..12),
        oauth in any::<bool>(),
    ) {
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (lease, betas) = if oauth {
            ([("authorization", "Bearer lease")], betas(&[OAUTH], &[]))
        } else {
            ([("x-api-key", "lease")], betas(&[], &[OAUTH]))
        };
        let sent = up(&pairs, &lease, &betas);
        for (name, value) in &sent {
            if is_credential(name.as_str()) {
                prop_assert_eq!((name.as_str(), value.to_str().unwrap()), lease[0]);
            }
            prop_assert!(matches!(name.as_str(), "authorization" | "x-api-key" | "anthropic-beta" | "x-other"));
        }
        let features = sent.get("anthropic-beta").map_or("", |value| value.to_str().unwrap());
        prop_assert_eq!(features.split(',').filter(|feature| *feature == OAUTH).count(), usize::from(oauth));
    }
}
