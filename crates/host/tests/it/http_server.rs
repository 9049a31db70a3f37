//! The small server, as a client sees it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use tokensink_host::http_server::{Handler, Reply, RequestLimits, Server, plain};
use tokensink_types::Body;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Says what it was asked.
fn echo() -> Handler {
    Arc::new(|request, control| {
        assert!(control.peer().ip().is_loopback() && !control.is_stopping());
        let text = format!(
            "{} {} {}",
            request.method(),
            request.uri(),
            String::from_utf8_lossy(request.body().expose())
        );
        plain(StatusCode::OK, &text).into()
    })
}

fn always(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::start(LOOPBACK, Arc::new(move |_, _| reply())).unwrap()
}

fn ask(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn requests_are_answered_one_per_connection() {
    let server = Server::start(LOOPBACK, echo()).unwrap();
    let cases: [(&[u8], &str); 4] = [
        (b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a?b=c "),
        (
            b"POST /t HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            "POST /t abc",
        ),
        (
            b"POST /t HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
            "POST /t ab",
        ),
        (b"GET http://h/p HTTP/1.0\r\n\r\n", "GET http://h/p "),
    ];
    for (request, body) in cases {
        let answer = ask(server.addr(), request);
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(found, format!("{body}\n"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let length = format!("content-length: {}", found.len());
        assert!(
            head.contains(&length) && head.contains("connection: close"),
            "{head}"
        );
    }
    let head = ask(server.addr(), b"HEAD / HTTP/1.1\r\n\r\n");
    assert!(
        head.contains("content-length: 8") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn a_slow_writer_is_waited_for_and_expectations_are_met() {
    let server = Server::start(LOOPBACK, echo()).unwrap();
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("POST / ok\n"), "{answer}");
}

#[test]
fn bad_requests_get_their_status() {
    let limits = RequestLimits {
        head_bytes: 1024,
        body_bytes: 10,
        ..RequestLimits::default()
    };
    let hurry = RequestLimits {
        time: Duration::from_millis(50),
        ..limits
    };
    let server = Server::start_with(LOOPBACK, limits, echo()).unwrap();
    let impatient = Server::start_with(LOOPBACK, hurry, echo()).unwrap();
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(2000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: x\r\n".repeat(120));
    let cases = [
        ("garbage\r\n\r\n", "400"),
        ("GET /\0 HTTP/1.1\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "400",
        ),
        ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na", "400"),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "411",
        ),
        ("POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n01234567890", "413"),
        (&long, "431"),
        (&many, "431"),
        ("GET / HTTP/1.1\r\n", "408"),
        ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\na", "408"),
    ];
    for (request, status) in cases {
        let server = if status == "408" { &impatient } else { &server };
        let answer = ask(server.addr(), request.as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {answer:?}"
        );
    }
}

#[test]
fn faults_happen_as_asked() {
    let response = || Response::new(Body::new("0123456789"));
    let cut = always(move || Reply::Cut {
        response: response(),
        after_bytes: 20,
    });
    assert_eq!(
        ask(cut.addr(), b"GET / HTTP/1.1\r\n\r\n"),
        "HTTP/1.1 200 OK\r\ncon"
    );
    let whole = always(move || Reply::Cut {
        response: response(),
        after_bytes: 9999,
    });
    assert!(ask(whole.addr(), b"GET / HTTP/1.1\r\n\r\n").ends_with("0123456789"));
    let close = always(|| Reply::Close);
    assert_eq!(ask(close.addr(), b"GET / HTTP/1.1\r\n\r\n"), "");
    let raw = always(|| Reply::Raw(b"not HTTP".to_vec()));
    assert_eq!(ask(raw.addr(), b"GET / HTTP/1.1\r\n\r\n"), "not HTTP");
    let hang = always(|| Reply::Hang);
    let mut stream = TcpStream::connect(hang.addr()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "nothing comes, and nothing ends");
    hang.shutdown();
    stream.set_read_timeout(None).unwrap();
    assert!(
        matches!(stream.read(&mut [0]), Ok(0) | Err(_)),
        "shutting down ends it"
    );
}

#[test]
fn shutting_down_waits_for_handlers_and_frees_the_port() {
    let finished = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&finished);
    let (entered, waiting) = std::sync::mpsc::channel();
    let server = Server::start(
        LOOPBACK,
        Arc::new(move |_, control| {
            entered.send(()).unwrap();
            while !control.is_stopping() {
                std::thread::yield_now();
            }
            flag.store(true, Ordering::SeqCst);
            Reply::Close
        }),
    )
    .unwrap();
    let addr = server.addr();
    let mut idle = TcpStream::connect(addr).unwrap();
    let mut busy = TcpStream::connect(addr).unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    waiting.recv().unwrap();
    server.shutdown();
    assert!(finished.load(Ordering::SeqCst), "the handler came to its end");
    assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(addr).is_err(), "nobody listens");
    drop(Server::start(addr, echo()).expect("the port is free again"));
}

#[test]
fn a_handler_that_panics_takes_nobody_along() {
    let server = Server::start(
        LOOPBACK,
        Arc::new(|request, _| {
            assert_ne!(request.uri().path(), "/panic", "on purpose");
            plain(StatusCode::OK, "fine").into()
        }),
    )
    .unwrap();
    assert_eq!(ask(server.addr(), b"GET /panic HTTP/1.1\r\n\r\n"), "");
    assert!(ask(server.addr(), b"GET / HTTP/1.1\r\n\r\n").ends_with("fine\n"));
}
