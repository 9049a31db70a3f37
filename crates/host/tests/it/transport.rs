//! The HTTP transport against real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokensink_host::http_server::{Reply, Server, plain};
use tokensink_host::{
    ConnectError, ConnectPhase, Connection, ExchangeError, HttpTransport, Limits, Transport,
};
use tokensink_testkit::MapEnvironment;
use tokensink_types::Body;
use url::Url;

use crate::peers::{Authority, ConnectProxy, NOW, read_request, serve, tls_server};

const LONG: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits {
    time: LONG,
    body_bytes: 1000,
};
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn transport(env: &MapEnvironment) -> HttpTransport {
    HttpTransport::new(Arc::new(env.clone()), Vec::new())
}

fn connect(env: &MapEnvironment, url: &str) -> Result<Box<dyn Connection>, ConnectError> {
    transport(env).connect(&Url::parse(url).unwrap(), LONG)
}

fn post(url: &str) -> Request<Body> {
    Request::post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", "Bearer canary")
        .body(Body::new("refresh_token=canary"))
        .unwrap()
}

fn exchange(url: &str) -> Result<Response<Body>, ExchangeError> {
    exchange_within(url, LIMITS)
}

fn exchange_within(url: &str, limits: Limits) -> Result<Response<Body>, ExchangeError> {
    let connection = connect(&MapEnvironment::default(), url).unwrap();
    connection.exchange(post(url), limits)
}

/// A server that does `reply` with every request.
fn server(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (Server, String) {
    let addr: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(addr, Arc::new(move |_, _| reply())).unwrap();
    let url = format!("http://{}/token", server.addr());
    (server, url)
}

#[test]
fn a_request_arrives_as_it_should() {
    let seen = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&seen);
    let addr = serve(move |mut stream| {
        *note.lock().unwrap() = read_request(&mut stream).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let url = format!("http://{addr}/token?a=b");
    let response = exchange(&url).unwrap();
    assert_eq!(
        (response.status(), response.body().expose()),
        (StatusCode::OK, &b"hi"[..])
    );
    let seen = seen.lock().unwrap().clone();
    let version = env!("CARGO_PKG_VERSION");
    let wanted = [
        "POST /token?a=b HTTP/1.1\r\n".to_owned(),
        format!("host: {addr}\r\n"),
        "connection: close\r\n".to_owned(),
        format!("user-agent: tokensink/{version}\r\n"),
        "content-length: 20\r\n".to_owned(),
        "authorization: Bearer canary\r\n".to_owned(),
    ];
    for part in wanted {
        assert!(seen.contains(&part), "{part:?} in {seen:?}");
    }
    assert!(seen.ends_with("\r\n\r\nrefresh_token=canary"), "{seen:?}");
}

#[test]
fn answers_of_any_status_are_answers_and_nothing_is_followed() {
    for status in [200, 302, 400, 401, 429, 500, 502, 504] {
        let (_server, url) = server(move || {
            let mut response = plain(StatusCode::from_u16(status).unwrap(), "text");
            let location = http::HeaderValue::from_static("http://127.0.0.1:1/");
            response.headers_mut().insert("location", location);
            response.into()
        });
        let response = exchange(&url).unwrap();
        assert_eq!(
            (response.status().as_u16(), response.body().expose()),
            (status, &b"text\n"[..])
        );
        assert!(response.headers().contains_key("location"));
    }
}

#[test]
fn bodies_of_all_framings_are_read() {
    let cases = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nabcde",
        "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nabcde",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde",
    ];
    for answer in cases {
        let (_server, url) = server(move || Reply::Raw(answer.as_bytes().to_vec()));
        assert_eq!(exchange(&url).unwrap().body().expose(), b"abcde", "{answer:?}");
    }
}

#[test]
fn whatever_ends_a_sent_request_is_ambiguous() {
    let response = || Response::new(Body::new("0123456789"));
    let cut = move |after_bytes| {
        move || Reply::Cut {
            response: response(),
            after_bytes,
        }
    };
    let cases = [
        server(|| Reply::Close),
        server(cut(5)),
        server(cut(30)),
        server(cut(60)),
        server(|| Reply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec())),
        server(|| Reply::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc".to_vec())),
    ];
    for (n, (_server, url)) in cases.iter().enumerate() {
        let error = exchange(url).unwrap_err();
        assert!(matches!(error, ExchangeError::Ambiguous(_)), "{n}: {error:?}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn limits_hold() {
    let (_big, url) = server(|| Response::new(Body::new(vec![b'x'; 1001])).into());
    let error = exchange(&url).unwrap_err();
    assert!(
        matches!(&error, ExchangeError::Ambiguous(why) if why.contains("1000 bytes")),
        "{error}"
    );
    let (_fits, url) = server(|| Response::new(Body::new(vec![b'x'; 1000])).into());
    assert_eq!(exchange(&url).unwrap().body().len(), 1000);
    let head = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(1_000_000));
    let (_head, url) = server(move || Reply::Raw(head.clone().into_bytes()));
    let error = exchange(&url);
    assert!(matches!(error, Err(ExchangeError::Ambiguous(_))));
    let (_slow, url) = server(|| Reply::Hang);
    let limits = Limits {
        time: Duration::from_millis(100),
        ..LIMITS
    };
    let error = exchange_within(&url, limits).unwrap_err();
    assert!(
        matches!(&error, ExchangeError::Ambiguous(why) if why.contains("0.1 s")),
        "{error}"
    );
    let (_drip, url) = server(|| Reply::Cut {
        response: Response::new(Body::new("x")),
        after_bytes: 0,
    });
    assert!(matches!(
        exchange_within(&url, limits),
        Err(ExchangeError::Ambiguous(_))
    ));
}

#[test]
fn a_request_for_elsewhere_is_not_sent() {
    let (_server, url) = server(|| Reply::Close);
    for other in ["http://127.0.0.1:1/token", "https://127.0.0.1/token", "/token"] {
        let connection = connect(&MapEnvironment::default(), &url).unwrap();
        let error = connection.exchange(post(other), LIMITS).unwrap_err();
        assert!(
            matches!(error, ExchangeError::NotWritten(_)),
            "{other}: {error:?}"
        );
    }
}

#[test]
fn a_connection_that_is_dead_before_the_request_is_not_written() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let connection = connect(&MapEnvironment::default(), &url).unwrap();
    let (stream, _) = listener.accept().unwrap();
    // A reset (not an orderly end) arrives before the request: the kernel takes no byte any more.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    let error = connection.exchange(post(&url), LIMITS).unwrap_err();
    assert!(matches!(error, ExchangeError::NotWritten(_)), "{error:?}");
}

#[test]
fn no_time_at_all_gives_no_answer() {
    let (_server, url) = server(|| Reply::Hang);
    let limits = Limits {
        time: Duration::ZERO,
        ..LIMITS
    };
    // Whether the first poll writes is not for the test to know; the count says it.
    assert!(exchange_within(&url, limits).is_err());
}

#[test]
fn a_refused_connection_says_who_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = connect(
        &MapEnvironment::default(),
        &format!("http://{addr}/token?secret=canary"),
    )
    .unwrap_err();
    assert_eq!(error.phase, ConnectPhase::Tcp);
    assert_eq!(error.origin, format!("http://{addr}"));
    assert!(error.cause.contains(&addr.to_string()), "{error}");
    assert!(!error.to_string().contains("canary"));
}

#[test]
fn localhost_is_loopback_by_any_family() {
    let (server, _) = server(|| plain(StatusCode::OK, "x").into());
    let url = format!("http://localhost:{}/", server.addr().port());
    assert_eq!(exchange(&url).unwrap().status(), StatusCode::OK);
}

#[test]
fn plain_http_and_other_schemes_are_refused() {
    for url in [
        "http://as.test/token",
        "http://10.0.0.1/token",
        "http://localhost.as.test/",
    ] {
        let error = connect(&MapEnvironment::default(), url).unwrap_err();
        assert!(error.cause.contains("plain http"), "{url}: {error}");
        assert!(error.hint.unwrap().contains("https://"));
    }
    assert!(connect(&MapEnvironment::default(), "ftp://as.test/").is_err());
}

#[test]
fn an_unknown_name_fails_in_the_dns_phase() {
    let url = Url::parse("https://no-such-host.invalid/token").unwrap();
    let authority = Authority::new();
    let env = MapEnvironment::of([("SSL_CERT_FILE", authority.pem().to_str().unwrap())]);
    let error = transport(&env).connect(&url, Duration::from_secs(5)).unwrap_err();
    assert_eq!(error.phase, ConnectPhase::Dns, "{error}");
    assert!(error.hint.unwrap().contains("HTTPS_PROXY"));
}

#[test]
fn silence_in_the_handshake_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = Authority::new();
    let env = MapEnvironment::of([("SSL_CERT_FILE", authority.pem().to_str().unwrap())]);
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let error = transport(&env)
        .connect(&url, Duration::from_millis(100))
        .unwrap_err();
    assert_eq!(error.phase, ConnectPhase::Tls);
    assert!(error.cause.contains("0.1 s"), "{error}");
}

#[test]
fn certificates_come_from_where_the_user_says() {
    let authority = Authority::new();
    let addr = tls_server(authority.server("localhost", NOW), OK);
    let url = format!("https://localhost:{}/token", addr.port());
    let pem = authority.pem();
    let file = pem.to_str().unwrap();
    let cases = [
        (MapEnvironment::of([("SSL_CERT_FILE", file)]), Vec::new()),
        (MapEnvironment::of([("NODE_EXTRA_CA_CERTS", file)]), Vec::new()),
        (MapEnvironment::default(), vec![pem.clone()]),
    ];
    for (env, extra) in cases {
        let transport = HttpTransport::new(Arc::new(env.clone()), extra);
        for _ in 0..2 {
            let connection = transport.connect(&Url::parse(&url).unwrap(), LONG).unwrap();
            let response = connection.exchange(post(&url), LIMITS).unwrap();
            assert_eq!(response.body().expose(), b"hi", "{env:?}");
        }
    }
}

#[test]
fn a_certificate_file_that_is_no_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    for file in [empty, dir.path().join("missing.pem")] {
        let env = MapEnvironment::of([("SSL_CERT_FILE", file.to_str().unwrap())]);
        let error = connect(&env, "https://127.0.0.1:1/").unwrap_err();
        assert_eq!(error.phase, ConnectPhase::Tls);
        assert!(error.cause.contains(file.to_str().unwrap()), "{error}");
        assert!(error.hint.unwrap().contains("SSL_CERT_FILE"));
        // Once it is there, it is used.
        let authority = Authority::new();
        std::fs::copy(authority.pem(), &file).unwrap();
        let addr = tls_server(authority.server("127.0.0.1", NOW), OK);
        connect(&env, &format!("https://{addr}/")).unwrap();
    }
}

#[test]
fn bad_certificates_are_explained() {
    let (ours, other) = (Authority::new(), Authority::new());
    let cases = [
        (other.server("localhost", NOW), "extra_ca"),
        (ours.server("localhost", (2000, 2001)), "clock"),
        (ours.server("localhost", (2119, 2120)), "clock"),
        (ours.server("elsewhere.test", NOW), "another server"),
    ];
    for (config, hint) in cases {
        let addr = tls_server(config, OK);
        let env = MapEnvironment::of([("SSL_CERT_FILE", ours.pem().to_str().unwrap())]);
        let error = connect(&env, &format!("https://localhost:{}/", addr.port())).unwrap_err();
        assert_eq!(error.phase, ConnectPhase::Tls, "{error}");
        assert!(
            error.hint.as_ref().is_some_and(|found| found.contains(hint)),
            "{error:?}"
        );
    }
    let (server, _) = server(|| Reply::Close);
    let env = MapEnvironment::of([("SSL_CERT_FILE", ours.pem().to_str().unwrap())]);
    let error = connect(&env, &format!("https://localhost:{}/", server.addr().port())).unwrap_err();
    assert_eq!(error.phase, ConnectPhase::Tls, "not TLS at all: {error}");
}

#[test]
fn a_tls_exchange_that_breaks_is_told_apart() {
    let authority = Authority::new();
    let config = authority.server("localhost", NOW);
    let env = MapEnvironment::of([("SSL_CERT_FILE", authority.pem().to_str().unwrap())]);
    // Cut in the body: the request was written.
    let addr = tls_server(
        Arc::clone(&config),
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi",
    );
    let url = format!("https://localhost:{}/", addr.port());
    let error = connect(&env, &url)
        .unwrap()
        .exchange(post(&url), LIMITS)
        .unwrap_err();
    assert!(matches!(error, ExchangeError::Ambiguous(_)), "{error:?}");
    // Reset after the handshake: no application record was written, whatever the handshake wrote.
    let (reset, was_reset) = std::sync::mpsc::channel();
    let addr = serve(move |mut stream| {
        let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        connection.complete_io(&mut stream).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        reset.send(()).unwrap();
    });
    let url = format!("https://localhost:{}/", addr.port());
    let connection = connect(&env, &url).unwrap();
    was_reset.recv().unwrap();
    let error = connection.exchange(post(&url), LIMITS).unwrap_err();
    assert!(matches!(error, ExchangeError::NotWritten(_)), "{error:?}");
}

#[test]
fn a_proxy_is_used_for_what_is_not_loopback() {
    let authority = Authority::new();
    let addr = tls_server(authority.server("as.test", NOW), OK);
    let proxy = ConnectProxy::start(addr, None);
    let url = "https://as.test/token";
    for (variable, authorization) in [
        ("HTTPS_PROXY", ""),
        ("https_proxy", "user:p%40ss@"),
        ("all_proxy", ""),
    ] {
        let env = MapEnvironment::of([("SSL_CERT_FILE", authority.pem().to_str().unwrap())]);
        env.set(variable, format!("http://{authorization}{}", proxy.addr));
        let response = connect(&env, url).unwrap().exchange(post(url), LIMITS).unwrap();
        assert_eq!(response.body().expose(), b"hi");
        let head = proxy.heads().pop().unwrap();
        assert!(
            head.starts_with("CONNECT as.test:443 HTTP/1.1\r\nHost: as.test:443\r\n"),
            "{head}"
        );
        // user:p@ss
        let basic = "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n";
        assert_eq!(head.contains(basic), !authorization.is_empty(), "{head}");
        assert!(!head.contains("canary"), "{head}");
    }
}

#[test]
fn loopback_and_no_proxy_go_past_the_proxy() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", dead.local_addr().unwrap());
    drop(dead);
    let (server, url) = server(|| plain(StatusCode::OK, "x").into());
    let env = MapEnvironment::of([
        ("HTTPS_PROXY", &*proxy),
        ("ALL_PROXY", &*proxy),
        ("HTTP_PROXY", &*proxy),
    ]);
    connect(&env, &url).unwrap();
    let authority = Authority::new();
    let env = MapEnvironment::of([
        ("SSL_CERT_FILE", authority.pem().to_str().unwrap()),
        ("HTTPS_PROXY", &*proxy),
    ]);
    let past = [
        "*",
        "invalid",
        ".invalid",
        "*.invalid",
        "x, host.invalid",
        "host.invalid:443",
        "HOST.invalid",
    ];
    for no_proxy in past {
        env.set("NO_PROXY", no_proxy);
        let url = Url::parse("https://host.invalid/").unwrap();
        let error = transport(&env).connect(&url, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.phase, ConnectPhase::Dns, "{no_proxy}: {error}");
    }
    for no_proxy in ["other.invalid", "host.invalid:8443", "ost.invalid"] {
        env.set("NO_PROXY", no_proxy);
        let error = connect(&env, "https://host.invalid/").unwrap_err();
        assert_eq!(error.phase, ConnectPhase::Tcp, "{no_proxy}: {error}");
        assert!(error.hint.unwrap().contains("HTTPS_PROXY"));
        assert!(error.cause.contains("the proxy"), "{}", error.cause);
    }
    drop(server);
}

#[test]
fn proxies_that_do_not_help_are_explained() {
    let authority = Authority::new();
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let cases = [
        (
            Some("HTTP/1.1 403 Forbidden\r\n\r\n"),
            "403 Forbidden",
            "NO_PROXY",
        ),
        (
            Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            "407",
            "user:password@",
        ),
        (Some("SSH-2.0-OpenSSH\r\n\r\n"), "no HTTP", "HTTPS_PROXY"),
        (Some(""), "no answer", "HTTPS_PROXY"),
    ];
    for (refusal, cause, hint) in cases {
        let proxy = ConnectProxy::start(nowhere, refusal);
        let env = MapEnvironment::of([("SSL_CERT_FILE", authority.pem().to_str().unwrap())]);
        env.set("HTTPS_PROXY", format!("http://{}", proxy.addr));
        let error = connect(&env, "https://as.test/").unwrap_err();
        assert_eq!(error.phase, ConnectPhase::Proxy);
        assert!(error.cause.contains(cause), "{error}");
        assert!(
            error.hint.as_ref().is_some_and(|found| found.contains(hint)),
            "{error:?}"
        );
    }
    for value in ["socks5://127.0.0.1:1080", "::::"] {
        let env = MapEnvironment::of([("HTTPS_PROXY", value)]);
        let error = connect(&env, "https://as.test/").unwrap_err();
        assert_eq!(
            error.phase,
            ConnectPhase::Proxy,
            "{value}: never past a proxy in silence"
        );
        assert!(error.hint.unwrap().contains("HTTPS_PROXY=http://"));
    }
}

#[test]
fn a_proxy_over_tls_works_too() {
    let authority = Authority::new();
    let config = authority.server("localhost", NOW);
    // It answers CONNECT inside TLS and then ends; that it was asked properly is what matters.
    let addr = tls_server(config, "HTTP/1.1 503 Busy\r\n\r\n");
    let env = MapEnvironment::of([("SSL_CERT_FILE", authority.pem().to_str().unwrap())]);
    env.set("HTTPS_PROXY", format!("https://localhost:{}", addr.port()));
    let error = connect(&env, "https://as.test/").unwrap_err();
    assert!(error.cause.contains("503 Busy"), "{error}");
}

#[test]
fn the_answer_may_come_in_drips() {
    let addr = serve(|mut stream| {
        stream.set_nodelay(true).unwrap();
        read_request(&mut stream).unwrap();
        for byte in OK.as_bytes() {
            stream.write_all(&[*byte]).unwrap();
        }
        let _ = stream.read(&mut [0]);
    });
    let url = format!("http://{addr}/");
    assert_eq!(exchange(&url).unwrap().body().expose(), b"hi");
}
