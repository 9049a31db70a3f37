//! Paths as clients and others send them.

use http::HeaderMap;
use proptest::prelude::*;
use url::Url;

use super::*;

fn at(method: &str, path: &str) -> Result<Route, Refusal> {
    route(
        &method.parse().unwrap(),
        &path.parse().unwrap(),
        &HeaderMap::new(),
    )
}

fn passed(provider: &str, rest: &str) -> Route {
    Route::Passthrough {
        provider: provider.to_owned(),
        rest: rest.to_owned(),
    }
}

#[test]
fn what_clients_send() {
    let models = |id: Option<&str>| Route::Models {
        id: id.map(str::to_owned),
    };
    let cases = [
        ("POST", "/v1/messages?beta=true", Route::Model(Call::Messages)),
        (
            "POST",
            "/v1/messages/count_tokens",
            Route::Model(Call::CountTokens),
        ),
        (
            "POST",
            "/v1/chat/completions",
            Route::Model(Call::ChatCompletions),
        ),
        ("POST", "/v1/responses", Route::Model(Call::Responses)),
        (
            "POST",
            "/v1/responses/compact",
            Route::Model(Call::CompactResponse),
        ),
        (
            "POST",
            "/v1/responses/input_tokens",
            Route::Model(Call::ResponseInputTokens),
        ),
        ("GET", "/v1/models?client_version=0.169.0", models(None)),
        (
            "GET",
            "/v1/models/anthropic/claude-opus-4-6",
            models(Some("anthropic/claude-opus-4-6")),
        ),
        (
            "GET",
            "/v1/models/anthropic%2Fopus",
            models(Some("anthropic/opus")),
        ),
        ("POST", "/tokensink/v1/lease", Route::Lease),
        ("POST", "/tokensink/v1/report", Route::Report),
        ("POST", "/tokensink/v1/route", Route::Bindings),
        ("GET", "/tokensink/v1/openapi.json", Route::OpenApi),
        ("GET", "/metrics", Route::Metrics),
        ("GET", "/health", Route::Health),
        ("GET", "/", Route::Unknown),
        ("GET", "/v1/files", Route::Unknown),
        ("GET", "/v1/responses/resp_1", Route::Unknown),
        ("POST", "/v1/messages/", Route::Unknown),
        ("POST", "/anthropic", Route::Unknown),
        (
            "POST",
            "/anthropic/v1/messages?beta=true",
            passed("anthropic", "/v1/messages"),
        ),
        ("GET", "/z.ai/models", passed("z.ai", "/models")),
        (
            "DELETE",
            "/openai/files/file-1",
            passed("openai", "/files/file-1"),
        ),
        (
            "GET",
            "/openrouter/models/org%2Fname/x",
            passed("openrouter", "/models/org%2Fname/x"),
        ),
        ("GET", "/openai//x", passed("openai", "//x")),
        ("GET", "/openai/a..b/...", passed("openai", "/a..b/...")),
    ];
    for (method, path, want) in cases {
        assert_eq!(at(method, path), Ok(want), "{method} {path}");
    }
}

#[test]
fn no_spelling_of_a_reserved_name_is_a_provider() {
    let paths = [
        "/tokensink/v1/keys",
        "/TokenSink/v1/lease",
        "/%74okensink/v1/lease",
        "/tokensink%2fv1%2flease",
        "/V1/messages",
        "/%761/messages",
        "/v1/../tokensink/v1/lease",
        "/v1/v1/messages",
        "//v1/messages",
        "//tokensink/v1/lease",
        "/./anthropic/v1/messages",
        "/../anthropic/v1/messages",
        "/%61nthropic/v1/messages",
        "/anthropic%2fv1/messages",
        "/anthropic;x/v1/messages",
        "/metrics/x",
        "/health/x",
        "/v1beta/models/gemini:generateContent",
    ];
    for path in paths {
        assert_eq!(at("POST", path), Ok(Route::Unknown), "{path}");
    }
}

#[test]
fn dot_segments_are_refused_in_every_spelling() {
    let paths = [
        "/anthropic/../openai/chat/completions",
        "/anthropic/..",
        "/anthropic/.",
        "/anthropic/v1/./messages",
        "/anthropic/%2e%2e/openai/x",
        "/anthropic/.%2E/openai/x",
        "/anthropic/%2e./x",
        "/anthropic/x%2f..%2f..%2fopenai",
        "/anthropic/..%2fopenai/x",
        "/anthropic/..%5copenai/x",
        "/anthropic/%252e%252e/x",
        "/anthropic/%25252e%25252e/x",
        "/anthropic/%252e%252e%252fopenai",
        "/anthropic/..;/openai/x",
        "/anthropic/..;a=b/openai/x",
        "/anthropic/%2e%2e%3bx/openai",
        "/anthropic/x%00",
        "/anthropic/x%0d%0aHost:%20evil",
        "/anthropic/x%250a",
    ];
    for path in paths {
        let refusal = at("GET", path).unwrap_err();
        assert_eq!(
            (refusal.status.as_u16(), refusal.code),
            (400, "bad_path"),
            "{path}"
        );
    }
}

#[test]
fn methods_and_upgrades() {
    let cases = [
        ("GET", "/v1/messages", 405),
        ("PUT", "/tokensink/v1/lease", 405),
        ("POST", "/metrics", 405),
        ("POST", "/v1/models", 405),
        ("TRACE", "/anthropic/v1/messages", 405),
        ("GET", "http://evil.example/v1/models", 400),
        ("GET", "http://127.0.0.1/anthropic/v1/models", 400),
        ("CONNECT", "api.openai.com:443", 405),
    ];
    for (method, path, status) in cases {
        assert_eq!(
            at(method, path).unwrap_err().status.as_u16(),
            status,
            "{method} {path}"
        );
    }
    for value in ["websocket", "WebSocket", "h2c, websocket", "websocket/13"] {
        for path in ["/v1/responses", "/openai-codex/responses"] {
            let headers = HeaderMap::from_iter([(UPGRADE, HeaderValue::from_static(value))]);
            let refusal = route(&Method::GET, &path.parse().unwrap(), &headers).unwrap_err();
            assert_eq!(refusal.status.as_u16(), 426, "{value} {path}");
        }
    }
    let h2c = HeaderMap::from_iter([(UPGRADE, HeaderValue::from_static("h2c"))]);
    assert!(route(&Method::POST, &"/v1/messages".parse().unwrap(), &h2c).is_ok());
}

#[test]
fn unknown_paths_say_what_was_meant() {
    let cases = [
        ("/chat/completions", "http://<host>:<port>/v1"),
        ("/v1/v1/messages", "without a path"),
        ("/v1/files", "name the provider"),
        ("/x", "/v1/messages"),
    ];
    for (path, fix) in cases {
        let refusal = unknown_path(path);
        assert!(
            refusal.fix.as_deref().unwrap().contains(fix),
            "{path}: {refusal:?}"
        );
    }
    assert!(unknown_path(&"/x".repeat(5_000)).text().len() < 400);
}

#[test]
fn addresses_at_the_provider() {
    let cases = [
        (
            "https://api.anthropic.com",
            "/v1/messages?beta=true",
            "https://api.anthropic.com/v1/messages?beta=true",
        ),
        (
            "https://api.anthropic.com/",
            "/v1/messages",
            "https://api.anthropic.com/v1/messages",
        ),
        (
            "https://api.openai.com/v1",
            "/responses",
            "https://api.openai.com/v1/responses",
        ),
        (
            "https://api.openai.com/v1",
            "/v1/responses",
            "https://api.openai.com/v1/responses",
        ),
        ("https://api.openai.com/v1", "/v1", "https://api.openai.com/v1"),
        (
            "https://api.openai.com/v1",
            "/v1?x=1",
            "https://api.openai.com/v1?x=1",
        ),
        (
            "https://api.openai.com/v1",
            "/v1beta/x",
            "https://api.openai.com/v1/v1beta/x",
        ),
        (
            "https://chatgpt.com/backend-api/codex",
            "/codex/x",
            "https://chatgpt.com/backend-api/codex/codex/x",
        ),
        (
            "https://api.openai.com",
            "//evil.example/x",
            "https://api.openai.com//evil.example/x",
        ),
        ("http://[::1]:8080/a", "/b", "http://[::1]:8080/a/b"),
    ];
    for (base, path, want) in cases {
        assert_eq!(
            upstream_uri(base, path).unwrap().to_string(),
            want,
            "{base} {path}"
        );
    }
    for (base, path) in [
        ("https://api.openai.com", "@evil.example/x"),
        ("https://api.openai.com", ".evil.example"),
        ("", "/x"),
        ("/v1", "/x"),
    ] {
        assert!(upstream_uri(base, path).is_err(), "{base} {path}");
    }
}

/// Pieces of which tricks with paths are made.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("/".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%5c".to_owned()),
        Just("%25".to_owned()),
        Just("%252e".to_owned()),
        Just(";".to_owned()),
        Just("@".to_owned()),
        Just(":".to_owned()),
        Just("v1".to_owned()),
        Just("anthropic".to_owned()),
        Just("tokensink".to_owned()),
        "[a-zA-Z0-9._~%?&=-]{0,6}",
    ]
}

proptest! {
    /// Whatever passes stays below the base, also for a server that undoes what browsers undo (WHATWG URL), once more
    /// than it should.
    #[test]
    fn a_passed_path_never_leaves_the_base(pieces in prop::collection::vec(piece(), 0..12)) {
        let path = format!("/anthropic/{}", pieces.concat());
        let Ok(uri) = path.parse::<Uri>() else { return Ok(()) };
        let Ok(Route::Passthrough { provider, rest }) = route(&Method::GET, &uri, &HeaderMap::new()) else {
            return Ok(());
        };
        prop_assert_eq!(provider, "anthropic");
        for base in ["https://api.rig.test", "https://api.rig.test/backend-api/codex", "https://api.rig.test/v1"] {
            let Ok(sent) = upstream_uri(base, &rest) else { continue };
            let once: String = percent_encoding::percent_decode_str(&sent.to_string())
                .decode_utf8_lossy().replace(['?', '#'], "_");
            for text in [sent.to_string(), once] {
                let Ok(read) = Url::parse(&text) else { continue };
                prop_assert_eq!(read.host_str(), Some("api.rig.test"), "{}", &text);
                let below = Url::parse(base).unwrap().path().trim_end_matches('/').to_owned();
                prop_assert!(read.path().starts_with(&below), "{} is not below {}", read, base);
            }
        }
    }

    #[test]
    fn no_path_makes_it_panic(path in "\\PC{0,60}") {
        if let Ok(uri) = path.parse::<Uri>() {
            let _ = route(&Method::POST, &uri, &HeaderMap::new());
            let _ = unknown_path(uri.path());
        }
    }
}
