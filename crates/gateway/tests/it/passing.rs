//! What passes, and how it looks on the other side.

use tokensink_testkit::{Seen, Talk};

use crate::raw::Client;
use crate::world::{KEY, World, client, error, eventually};

fn echo(seen: &Seen, talk: &mut Talk) {
    talk.answer(
        200,
        &[("content-type", "text/plain"), ("x-request-id", "r1")],
        &seen.body,
    );
}

#[test]
fn a_request_goes_out_with_the_accounts_credential_and_nothing_of_the_clients() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway();
    let mut client = client(&gateway);
    client.write(format!(
        "POST /rig/v1/things?x=1 HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\nCookie: c\r\n\
         Connection: x-hop\r\nX-Hop: 1\r\nX-End: 2\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello"
    ));
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.text(), answer.complete),
        (200, "hello", true)
    );
    assert_eq!(answer.header("x-request-id"), Some("r1"));
    assert_eq!(answer.header("x-tokensink-profile"), Some("rig:one"));
    let seen = world.upstream.seen().remove(0);
    assert_eq!((&*seen.method, &*seen.path), ("POST", "/base/v1/things?x=1"));
    assert_eq!(seen.bearer(), "sk-one");
    assert_eq!(seen.header("host"), Some(&*world.upstream.address().to_string()));
    assert_eq!(
        (seen.header("x-end"), seen.header("content-type")),
        (Some("2"), Some("a/b"))
    );
    for gone in ["cookie", "x-hop", "connection"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
}

/// The coding says where the answer ends, whatever the length says (RFC 9112 section 6.3).
#[test]
fn a_length_beside_a_transfer_coding_does_not_pass() {
    for length in ["3", "30"] {
        let world = World::new(&["one"], move |_, talk| {
            talk.begin(200, &[("content-length", length)]);
            talk.chunk("hello");
            talk.end();
        });
        let gateway = world.gateway();
        let answer = client(&gateway).post("/rig/x", "{}").answer();
        assert_eq!(
            (answer.status, answer.text(), answer.complete),
            (200, "hello", true)
        );
        assert_eq!(answer.header("content-length"), None, "{length}");
    }
}

#[test]
fn no_key_no_answer() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway();
    for header in ["", "authorization: Bearer wrong\r\n", "x-api-key: \r\n"] {
        let mut client = client(&gateway);
        client.write(format!(
            "GET /rig/v1/things HTTP/1.1\r\nhost: gateway\r\n{header}\r\n"
        ));
        let answer = client.answer();
        assert_eq!(answer.status, 401, "{header}");
        assert_eq!(error(&answer.body)["code"], "no_key");
    }
    assert_eq!(world.upstream.connections(), 0);
}

#[test]
fn connections_are_kept_on_both_sides() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway();
    let mut client = client(&gateway);
    for n in 0..20 {
        let body = format!("body {n}");
        assert_eq!(client.post("/rig/x", &body).answer().text(), body);
    }
    // Two requests at once come back in their order.
    client.post("/rig/x", "first").post("/rig/x", "second");
    assert_eq!(client.answer().text(), "first");
    assert_eq!(client.answer().text(), "second");
    assert_eq!(world.upstream.connections(), 1);
}

#[test]
fn a_kept_connection_that_died_costs_nothing() {
    let world = World::new(&["one"], |_, talk| {
        talk.json(200, "{}");
        talk.cut();
    });
    let gateway = world.gateway();
    for _ in 0..10 {
        assert_eq!(client(&gateway).post("/rig/x", "{}").answer().status, 200);
        eventually("the end of the connection", || world.upstream.open() == 0);
    }
    assert_eq!(world.upstream.seen().len(), 10);
}

#[test]
fn answers_without_a_body_and_odd_statuses() {
    let world = World::new(&["one"], |seen, talk| match &*seen.path {
        "/base/head" => {
            talk.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\nconnection: close\r\n\r\n");
            talk.cut();
        }
        "/base/none" => {
            talk.raw(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
            talk.cut();
        }
        "/base/same" => {
            talk.raw(b"HTTP/1.1 304 Not Modified\r\netag: \"e\"\r\nconnection: close\r\n\r\n");
            talk.cut();
        }
        "/base/moved" => talk.answer(302, &[("location", "https://elsewhere.example/")], ""),
        "/base/early" => {
            talk.raw(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
            talk.json(200, "{}");
        }
        _ => talk.answer(418, &[], "teapot"),
    });
    let gateway = world.gateway();
    let mut client = client(&gateway);
    let head = client.request("HEAD", "/rig/head", "").answer_to("HEAD");
    assert_eq!((head.status, head.header("content-length")), (200, Some("1234")));
    assert_eq!(client.request("GET", "/rig/none", "").answer().status, 204);
    let same = client
        .request("GET", "/rig/same", "if-none-match: \"e\"\r\n")
        .answer();
    assert_eq!((same.status, same.header("etag")), (304, Some("\"e\"")));
    let moved = client.request("GET", "/rig/moved", "").answer();
    assert_eq!((moved.status, moved.header("location")), (502, None));
    assert_eq!(client.request("GET", "/rig/early", "").answer().status, 200);
    let teapot = client.request("GET", "/rig/other", "").answer();
    assert_eq!((teapot.status, teapot.text()), (418, "teapot"));
}

#[test]
fn what_is_not_spoken_here_is_refused() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway();
    let key = format!("host: g\r\nauthorization: Bearer {KEY}\r\n");
    for (request, status) in [
        (format!("GET /rig/x HTTP/1.0\r\n{key}\r\n"), 505),
        (format!("CONNECT example.com:443 HTTP/1.1\r\n{key}\r\n"), 405),
        (format!("TRACE /rig/x HTTP/1.1\r\n{key}\r\n"), 405),
        (
            format!("GET /rig/x HTTP/1.1\r\n{key}connection: upgrade\r\nupgrade: websocket\r\n\r\n"),
            426,
        ),
        (format!("GET /nosuch/x HTTP/1.1\r\n{key}\r\n"), 404),
        (format!("GET / HTTP/1.1\r\n{key}\r\n"), 404),
        ("nonsense\r\n\r\n".to_owned(), 400),
        (format!("GET /rig/x HTTP/1.1\r\n{key}bad header\r\n\r\n"), 400),
        (
            format!("POST /rig/x HTTP/1.1\r\n{key}content-length: 1\r\ncontent-length: 2\r\n\r\n"),
            400,
        ),
    ] {
        let mut client = Client::connect(gateway.addresses()[0]);
        let answer = client.write(&request).answer();
        assert_eq!(answer.status, status, "{request}");
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway();
    let mut client = client(&gateway);
    client.request("POST", "/rig/x", "expect: 100-continue\r\ncontent-length: 4\r\n");
    // Its 100 comes before the body does; the raw client steps over it.
    std::thread::sleep(std::time::Duration::from_millis(20));
    let answer = client.write("late").answer();
    assert_eq!(answer.text(), "late");
    let mut chunked = Client::connect(gateway.addresses()[0]);
    chunked.request("POST", "/rig/x", "transfer-encoding: chunked\r\n");
    let answer = chunked
        .write("3\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n")
        .answer();
    assert_eq!(answer.text(), "abcde");
}

#[test]
fn shutdown_lets_requests_end_and_takes_no_more() {
    let world = World::new(&["one"], |_, talk| {
        std::thread::sleep(std::time::Duration::from_millis(150));
        talk.json(200, "{}");
    });
    let gateway = world.gateway();
    let address = gateway.addresses()[0];
    let (mut busy, idle) = (client(&gateway), client(&gateway));
    busy.post("/rig/x", "{}");
    eventually("the request", || world.upstream.seen().len() == 1);
    let stopping = std::thread::spawn(move || gateway.shutdown(std::time::Duration::from_secs(10)));
    assert_eq!(busy.answer().status, 200);
    assert!(busy.is_closed());
    stopping.join().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    drop(idle);
}
