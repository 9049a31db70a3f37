//! Answers that are read while they come, over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use http::{Request, StatusCode};
use tokensink_host::{AnswerStream, Arrived, Connection, ExchangeError, HttpTransport, Transport};
use tokensink_testkit::MapEnvironment;
use tokensink_types::Body;
use url::Url;

use crate::peers::{Authority, NOW, read_request, serve, tls_server};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn post(url: &str) -> Request<Body> {
    Request::post(url)
        .header("x-api-key", "canary")
        .body(Body::new("{}"))
        .unwrap()
}

fn connect(url: &str) -> Box<dyn Connection> {
    let transport = HttpTransport::new(Arc::new(MapEnvironment::default()), Vec::new());
    transport.connect(&Url::parse(url).unwrap(), LONG).unwrap()
}

fn start(addr: SocketAddr) -> Box<dyn AnswerStream> {
    let url = format!("http://{addr}/v1/messages");
    connect(&url).start(post(&url)).unwrap()
}

fn bytes(text: &str) -> Arrived {
    Arrived::Bytes(Body::new(text))
}

/// A server that writes what it is told, and tells what it read after the request.
fn puppet() -> (SocketAddr, mpsc::Sender<&'static str>, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel::<&'static str>();
    let (left, has_left) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream).unwrap();
        for text in told {
            stream.write_all(text.as_bytes()).unwrap();
        }
        left.send(stream.read(&mut [0; 8]).unwrap_or(0)).unwrap();
    });
    (addr, tell, has_left)
}

#[test]
fn pieces_are_handed_out_as_they_come() {
    let (addr, tell, _left) = puppet();
    let mut stream = start(addr);
    assert!(stream.head(SHORT).unwrap().is_none(), "there is no head yet");
    tell.send(HEAD).unwrap();
    let head = stream.head(LONG).unwrap().unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.more(SHORT).unwrap(), Arrived::Nothing);
    tell.send("3\r\nabc\r\n").unwrap();
    assert_eq!(stream.more(LONG).unwrap(), bytes("abc"));
    tell.send("2\r\nd").unwrap();
    assert_eq!(stream.more(LONG).unwrap(), bytes("d"));
    assert_eq!(stream.more(SHORT).unwrap(), Arrived::Nothing);
    tell.send("e\r\n0\r\nt: railer\r\n\r\n").unwrap();
    assert_eq!(stream.more(LONG).unwrap(), bytes("e"));
    assert_eq!(stream.more(LONG).unwrap(), Arrived::End);
    assert_eq!(stream.more(LONG).unwrap(), Arrived::End);
}

#[test]
fn a_cut_is_an_error_and_never_an_end() {
    for cut in ["3\r\nabc\r\n", "3\r\nabc\r\n5\r\nxy"] {
        let addr = serve(move |mut stream| {
            read_request(&mut stream).unwrap();
            stream.write_all(format!("{HEAD}{cut}").as_bytes()).unwrap();
        });
        let mut stream = start(addr);
        stream.head(LONG).unwrap().unwrap();
        let error = loop {
            match stream.more(LONG) {
                Ok(Arrived::Bytes(_)) => {}
                Ok(other) => panic!("{cut:?}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ExchangeError::Ambiguous(_)), "{error:?}");
        assert!(stream.more(LONG).is_err(), "nothing more comes");
    }
}

#[test]
fn dropping_it_ends_the_connection() {
    let (addr, tell, has_left) = puppet();
    let mut stream = start(addr);
    tell.send(HEAD).unwrap();
    stream.head(LONG).unwrap().unwrap();
    drop(tell);
    drop(stream);
    assert_eq!(has_left.recv_timeout(LONG).unwrap(), 0);
}

#[test]
fn what_cannot_have_arrived_is_told_apart_from_what_may_have() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/messages", listener.local_addr().unwrap());
    let error = connect(&url).start(post("http://127.0.0.1:1/other")).unwrap_err();
    assert!(matches!(error, ExchangeError::NotWritten(_)), "{error:?}");
    let _elsewhere = listener.accept().unwrap();
    // A reset arrives before the request: the kernel takes no byte any more.
    let connection = connect(&url);
    let (peer, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    let error = connection.start(post(&url)).unwrap().head(LONG).unwrap_err();
    assert!(matches!(error, ExchangeError::NotWritten(_)), "{error:?}");
    // It was read and not answered.
    let silent = serve(|mut stream| {
        read_request(&mut stream).unwrap();
    });
    let error = start(silent).head(LONG).unwrap_err();
    assert!(matches!(&error, ExchangeError::Ambiguous(_)), "{error:?}");
    assert!(error.to_string().contains(&silent.to_string()), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[test]
fn answers_of_any_status_come_with_their_body_and_over_tls() {
    let authority = Authority::new();
    let answer = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nslow";
    let addr = tls_server(authority.server("localhost", NOW), answer);
    let url = format!("https://localhost:{}/v1/messages", addr.port());
    let transport = HttpTransport::new(Arc::new(MapEnvironment::default()), vec![authority.pem()]);
    let connection = transport.connect(&Url::parse(&url).unwrap(), LONG).unwrap();
    let mut stream = connection.start(post(&url)).unwrap();
    let head = stream.head(LONG).unwrap().unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    assert_eq!(stream.more(LONG).unwrap(), bytes("slow"));
    assert_eq!(stream.more(LONG).unwrap(), Arrived::End);
}
