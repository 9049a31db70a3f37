//! The listener for OAuth redirects.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use http::{Method, StatusCode};
use tokensink_host::{BindError, CallbackListener};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const LONG: Duration = Duration::from_secs(30);

fn listen() -> CallbackListener {
    CallbackListener::bind(&[V4, V6], 0).unwrap()
}

fn client(listener: &CallbackListener, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect((V4, listener.port())).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_redirect_arrives_and_is_answered() {
    let listener = listen();
    let request = "GET /auth/callback?code=canary&state=s HTTP/1.1\r\nHost: localhost:1455\r\n\r\n";
    let stream = client(&listener, request);
    let request = listener.accept(LONG).unwrap().unwrap();
    assert_eq!(request.target(), "/auth/callback?code=canary&state=s");
    assert_eq!(request.method(), Method::GET);
    assert_eq!(format!("{request:?}"), "CallbackRequest(GET /auth/callback)");
    let reader = std::thread::spawn(move || answer(stream));
    request.respond(StatusCode::OK, "<p>done</p>").unwrap();
    let text = reader.join().unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("<p>done</p>"),
        "{text}"
    );
    for field in [
        "text/html; charset=utf-8",
        "no-store",
        "no-referrer",
        "default-src 'none'",
    ] {
        assert!(text.contains(field), "{text}");
    }
}

#[test]
fn others_are_turned_away_while_it_waits() {
    let listener = listen();
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(9000));
    let cases = [
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
            "405",
        ),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
        ("GET / HTTP/1.1\r\n\r\n", "403"),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            "403",
        ),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", "403"),
        ("nonsense\r\n\r\n", "400"),
        (&long, "431"),
    ];
    let strangers: Vec<_> = cases
        .iter()
        .map(|(request, _)| {
            let stream = client(&listener, request);
            std::thread::spawn(move || answer(stream))
        })
        .collect();
    let mut pending = vec![
        client(&listener, ""),
        client(&listener, "GET /half"),
        client(&listener, "GET / HTTP/1.1\r\n"),
    ];
    drop(pending.pop());
    for host in ["127.0.0.1", "[::1]:8080", "LOCALHOST"] {
        // Held until the end of the turn: dropped sooner it would be a client that left.
        let good = client(&listener, &format!("HEAD /ok HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let request = listener
            .accept(LONG)
            .unwrap()
            .expect("the good one, past all others");
        assert_eq!((request.target(), request.method()), ("/ok", &Method::HEAD));
        drop(good);
    }
    for (stranger, (request, status)) in strangers.into_iter().zip(cases) {
        let text = stranger.join().unwrap();
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {text}"
        );
    }
}

#[test]
fn many_silent_clients_do_not_keep_a_good_one_out() {
    let listener = listen();
    let silent: Vec<_> = (0..60).map(|_| client(&listener, "G")).collect();
    let good = client(&listener, "GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let request = listener.accept(LONG).unwrap().unwrap();
    assert_eq!(request.target(), "/good");
    drop((good, silent));
}

#[test]
fn it_ends_at_the_deadline_or_when_stopped() {
    let listener = listen();
    assert!(listener.accept(Duration::from_millis(20)).unwrap().is_none());
    let silent = client(&listener, "GET /late");
    assert!(listener.accept(Duration::from_millis(20)).unwrap().is_none());
    let stop = listener.stop_handle();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| listener.accept(LONG));
        std::thread::sleep(Duration::from_millis(10));
        stop.stop();
        assert!(waiting.join().unwrap().unwrap().is_none());
    });
    assert!(listener.accept(LONG).unwrap().is_none(), "and stays ended");
    drop(silent);
}

#[test]
fn a_request_that_was_half_read_is_finished_by_the_next_accept() {
    let listener = listen();
    let mut stream = client(&listener, "GET /later HTTP/1.1\r\n");
    assert!(listener.accept(Duration::from_millis(20)).unwrap().is_none());
    stream.write_all(b"Host: localhost\r\n\r\n").unwrap();
    assert_eq!(listener.accept(LONG).unwrap().unwrap().target(), "/later");
}

#[test]
fn both_families_listen_on_one_port_and_the_network_does_not() {
    let listener = listen();
    let addrs = listener.addrs();
    assert!(
        addrs
            .iter()
            .all(|addr| addr.ip().is_loopback() && addr.port() == listener.port())
    );
    assert!(addrs.iter().any(SocketAddr::is_ipv4));
    let error = CallbackListener::bind(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED)], 0).unwrap_err();
    assert!(matches!(error, BindError::NotLoopback { .. }), "{error}");
    let error = CallbackListener::bind(&[], 0).unwrap_err();
    assert!(matches!(error, BindError::Other { .. }), "{error}");
}

#[test]
fn a_taken_port_is_told_from_a_forbidden_one() {
    let taken = TcpListener::bind((V4, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = CallbackListener::bind(&[V4, V6], port).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("sport = :{port}")), "{error}");
    drop(taken);
    drop(CallbackListener::bind(&[V4, V6], port).expect("free again"));
    let Ok(v6) = TcpListener::bind((V6, 0)) else {
        return;
    };
    let port = v6.local_addr().unwrap().port();
    let error = CallbackListener::bind(&[V4, V6], port).unwrap_err();
    assert!(
        matches!(error, BindError::InUse { addr } if addr.is_ipv6()),
        "{error:?}"
    );
}
