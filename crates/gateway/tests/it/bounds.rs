//! Bounds: a clear answer, and nothing left behind.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokensink_gateway::{Bounds, Gateway, Options};
use tokensink_testkit::{Seen, Talk};

use crate::raw::Client;
use crate::world::{KEY, World, client, error, eventually};

fn small() -> Bounds {
    Bounds {
        connections: 20,
        requests: 4,
        queue_time: Duration::from_millis(200),
        head_time: Duration::from_millis(300),
        keep_alive: Duration::from_millis(900),
        upload_idle: Duration::from_millis(300),
        head_bytes: 8192,
        ..Bounds::default()
    }
}

fn echo(seen: &Seen, talk: &mut Talk) {
    talk.answer(200, &[], &seen.body);
}

/// Descriptors of this process that lead to sockets of `port`, by the kernel's table.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_head_that_drips_gets_408_and_an_idle_connection_just_closes() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway_with(small());
    let mut slow = client(&gateway);
    let began = Instant::now();
    slow.write("GET /rig/x HT");
    let dripping = std::thread::spawn(move || {
        let answer = slow.answer();
        (answer, slow)
    });
    let (answer, mut slow) = dripping.join().unwrap();
    assert_eq!(answer.status, 408);
    assert_eq!(error(&answer.body)["code"], "slow_request");
    assert!(slow.is_closed());
    assert!(
        began.elapsed() < Duration::from_millis(800),
        "{:?}",
        began.elapsed()
    );
    let mut idle = client(&gateway);
    assert_eq!(idle.post("/rig/x", "1").answer().status, 200);
    let began = Instant::now();
    assert!(idle.is_closed());
    assert!(
        began.elapsed() > Duration::from_millis(700),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_body_that_stops_gets_408_and_one_that_breaks_off_gets_400() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway_with(small());
    let head = format!(
        "POST /rig/x HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\ncontent-length: 100\r\n\r\nsome"
    );
    let mut stopped = client(&gateway);
    assert_eq!(stopped.write(&head).answer().status, 408);
    assert!(stopped.is_closed());
    let mut broken = client(&gateway);
    broken.write(&head).half_close();
    assert_eq!(broken.answer().status, 400);
    let mut cut_head = client(&gateway);
    cut_head.write("GET /rig/x HTTP/1.1\r\nhost:").half_close();
    assert_eq!(cut_head.answer().status, 400);
    assert_eq!(world.upstream.seen().len(), 0);
}

#[test]
fn a_half_closed_client_is_told_and_its_request_ends() {
    let world = World::new(&["one"], |_, talk| {
        assert!(talk.left_within(Duration::from_secs(10)).is_some());
    });
    let gateway = world.gateway();
    let mut half = client(&gateway);
    half.post("/rig/x", "{}");
    eventually("the request", || world.upstream.seen().len() == 1);
    half.half_close();
    let answer = half.answer();
    assert_eq!(answer.status, 400);
    assert!(
        error(&answer.body)["message"]
            .as_str()
            .unwrap()
            .contains("both directions")
    );
    eventually("the end", || world.upstream.open() == 0);
}

#[test]
fn too_much_of_a_head_is_refused() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway_with(small());
    let many = "x-a: 1\r\n".repeat(120);
    let large = format!("x-a: {}\r\n", "a".repeat(10_000));
    let long = format!("/rig/{}", "a".repeat(70_000));
    for (path, headers, status) in [
        ("/rig/x", &many, 431),
        ("/rig/x", &large, 431),
        (&long, &String::new(), 414),
    ] {
        let mut client = client(&gateway);
        client.request("GET", path, headers);
        let answer = client.answer();
        assert!(
            [status, 431].contains(&answer.status),
            "{} for {status}",
            answer.status
        );
        let code = error(&answer.body)["code"].as_str().unwrap().to_owned();
        assert!(["head_too_large", "address_too_long"].contains(&&*code), "{code}");
    }
    assert_eq!(world.upstream.seen().len(), 0);
}

#[test]
fn what_is_no_request_is_told_so() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway();
    for head in [
        "GET /rig/x HTTP/9.9\r\n\r\n",
        "GET /rig/x HTTP/1.1\r\nno colon\r\n\r\n",
        "\u{1}\r\n\r\n",
        "POST /rig/x HTTP/1.1\r\nhost: gateway\r\ncontent-length: many\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let answer = client(&gateway).write(head).answer();
        assert_eq!(answer.status, 400, "{head:?}");
        let told = error(&answer.body);
        assert_eq!(told["code"], "malformed_request", "{head:?}");
        assert!(told["message"].as_str().unwrap().len() > 30, "{told}");
    }
    // What came before it on the same connection was answered.
    let mut pipelined = client(&gateway);
    pipelined.write(format!(
        "GET /rig/x HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\r\nGET /rig/x HTTP/9.9\r\n\r\n"
    ));
    assert_eq!(pipelined.answer().status, 200);
    let answer = pipelined.answer();
    assert_eq!(
        (answer.status, &error(&answer.body)["code"]),
        (400, &"malformed_request".into())
    );
}

#[test]
fn an_account_without_room_leaves_it_to_another() {
    let world = World::new(&["one", "two"], |seen, talk| {
        if seen.path.ends_with("long") {
            let _ = talk.left_within(Duration::from_secs(10));
        }
        talk.json(200, "{}");
    });
    let gateway = world.gateway_with(Bounds {
        requests_per_profile: 1,
        queue_time: Duration::from_millis(200),
        ..Bounds::default()
    });
    let mut long = client(&gateway);
    long.post("/rig/long", "{}");
    eventually("the long one", || world.upstream.seen().len() == 1);
    let answer = client(&gateway).post("/rig/x", "{}").answer();
    assert_eq!(
        (answer.status, answer.header("x-tokensink-profile")),
        (200, Some("rig:two"))
    );
    // Where the user has chosen it, no other may; where none has room, that is told as well.
    let sessions = r#"{"mine": {"authProfileOverride": "rig:one", "authProfileOverrideSource": "user"}}"#;
    world.put("agents/main/sessions/sessions.json", sessions);
    let answer = client(&gateway)
        .request("GET", "/rig/x", "x-tokensink-session: mine\r\n")
        .answer();
    assert_eq!(
        (answer.status, &error(&answer.body)["code"]),
        (503, &"profile_busy".into())
    );
    let mut other = client(&gateway);
    other.post("/rig/long", "{}");
    eventually("both", || world.upstream.seen().len() == 3);
    let answer = client(&gateway).post("/rig/x", "{}").answer();
    assert_eq!(
        (answer.status, &error(&answer.body)["code"]),
        (503, &"profile_busy".into())
    );
}

#[test]
fn connections_and_requests_beyond_the_bound_are_told_to_come_back() {
    let world = World::new(&["one"], |seen, talk| {
        if seen.path.ends_with("long") {
            talk.begin_events();
            let _ = talk.left_within(Duration::from_secs(10));
        } else {
            talk.json(200, "{}");
        }
    });
    let gateway = world.gateway_with(Bounds {
        keep_alive: Duration::from_secs(20),
        ..small()
    });
    let mut busy: Vec<_> = (0..4).map(|_| client(&gateway)).collect();
    for client in &mut busy {
        client.post("/rig/long", "{}").head().unwrap();
    }
    let mut fifth = client(&gateway);
    let answer = fifth.post("/rig/x", "{}").answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    // What is answered at once needs no room of a request, nor does a lease.
    let mut asking = client(&gateway);
    let health = asking.request("GET", "/tokensink/v1/health", "").answer();
    assert_eq!(health.status, 200, "{}", health.text());
    let lease = asking
        .post("/tokensink/v1/lease", r#"{"provider":"rig"}"#)
        .answer();
    assert_eq!(lease.status, 200, "{}", lease.text());
    drop(asking);
    drop(busy.pop());
    eventually("room", || fifth.post("/rig/x", "{}").answer().status == 200);
    let mut idle = Vec::new();
    eventually("all connections but those in use", || {
        // One that just ended may still count, and the next be told to come back.
        let mut next = client(&gateway);
        let answer = next.request("GET", "/tokensink/v1/health", "").answer_to("GET");
        if answer.status == 200 {
            idle.push(next);
        }
        idle.len() == 16
    });
    let mut beyond = Client::connect(gateway.addresses()[0]);
    let answer = beyond.answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    drop(idle);
    eventually("room", || {
        let mut next = Client::connect(gateway.addresses()[0]);
        next.post("/rig/x", "{}")
            .head()
            .is_some_and(|head| head.status == 200)
    });
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_let_go() {
    let world = World::new(&["one"], |_, talk| {
        talk.begin(200, &[]);
        while talk.chunk(vec![b'x'; 64 * 1024]) {}
    });
    let gateway = world.gateway_with(Bounds {
        download_idle: Duration::from_millis(300),
        ..Bounds::default()
    });
    let mut stuck = client(&gateway);
    stuck.post("/rig/x", "{}").head().unwrap();
    eventually("the request", || world.upstream.open() == 1);
    eventually("the end of the request", || world.upstream.open() == 0);
    while stuck.chunk().is_some_and(|chunk| !chunk.is_empty()) {}
    assert!(stuck.chunk().is_none(), "it is cut, not ended");
}

#[test]
fn one_account_that_answers_slowly_leaves_room() {
    let world = World::new(&["one"], |_, talk| {
        talk.begin_events();
        let _ = talk.left_within(Duration::from_secs(10));
    });
    let gateway = world.gateway_with(Bounds {
        requests_per_profile: 1,
        ..small()
    });
    let mut first = client(&gateway);
    first.post("/rig/x", "{}").head().unwrap();
    let answer = client(&gateway).post("/rig/x", "{}").answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(error(&answer.body)["code"], "profile_busy");
    drop(first);
    eventually("room", || {
        let mut next = client(&gateway);
        next.post("/rig/x", "{}").head().unwrap().status == 200
    });
}

#[test]
fn memory_that_others_have_taken_is_no_reason_to_fail_later() {
    let world = World::new(&["one"], |_, talk| {
        talk.begin_events();
        let _ = talk.left_within(Duration::from_secs(10));
    });
    let gateway = world.gateway_with(Bounds {
        replay_body: 100_000,
        replay_total: 150_000,
        queue_time: Duration::from_millis(200),
        ..Bounds::default()
    });
    let body = vec![b' '; 90_000];
    let mut first = client(&gateway);
    // Its body is held for as long as it may have to be sent again: until the answer begins.
    first
        .request("POST", "/rig/x", "content-length: 90000\r\n")
        .write(&body[1..]);
    std::thread::sleep(Duration::from_millis(50));
    let json = format!("{{\"model\":\"small\"{}}}", " ".repeat(89_000));
    let routed = client(&gateway).post("/v1/chat/completions", &json).answer();
    assert_eq!((routed.status, routed.header("retry-after")), (503, Some("1")));
    assert_eq!(error(&routed.body)["code"], "no_memory");
    let routed = in_chunks(&mut client(&gateway), &json).answer();
    assert_eq!((routed.status, routed.header("retry-after")), (503, Some("1")));
    assert_eq!(error(&routed.body)["code"], "no_memory");
    let mut passed = client(&gateway);
    assert_eq!(
        passed.post("/rig/x", &body).head().unwrap().status,
        200,
        "it streams"
    );
    first.write(" ");
    assert_eq!(first.head().unwrap().status, 200);
    eventually("memory", || {
        let mut next = client(&gateway);
        next.post("/v1/chat/completions", &json).head().unwrap().status == 200
    });
}

/// Sends a request that is routed by its model, with a body of which nobody knows the length.
fn in_chunks<'a>(client: &'a mut Client, json: &str) -> &'a mut Client {
    client.request("POST", "/v1/chat/completions", "transfer-encoding: chunked\r\n");
    for part in json.as_bytes().chunks(10_000) {
        client
            .write(format!("{:x}\r\n", part.len()))
            .write(part)
            .write("\r\n");
    }
    client.write("0\r\n\r\n")
}

#[test]
fn who_must_be_read_waits_for_memory() {
    let world = World::new(&["one"], |_, talk| talk.json(200, "{}"));
    let gateway = world.gateway_with(Bounds {
        replay_body: 100_000,
        replay_total: 150_000,
        queue_time: Duration::from_secs(10),
        ..Bounds::default()
    });
    let mut first = client(&gateway);
    first
        .request("POST", "/rig/x", "content-length: 90000\r\n")
        .write(vec![b' '; 89_999]);
    std::thread::sleep(Duration::from_millis(50));
    let json = format!("{{\"model\":\"small\"{}}}", " ".repeat(89_000));
    let (mut announced, mut chunked) = (client(&gateway), client(&gateway));
    announced.post("/v1/chat/completions", &json);
    in_chunks(&mut chunked, &json);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(world.upstream.seen().len(), 0);
    first.write(" ");
    for mut client in [first, announced, chunked] {
        assert_eq!(client.answer().status, 200);
    }
    let too_long = format!("{{\"model\":\"small\"{}}}", " ".repeat(100_000));
    let answer = in_chunks(&mut client(&gateway), &too_long).answer();
    assert_eq!(answer.status, 413, "{}", answer.text());
}

/// Silence alone is no measure: a byte now and then would hold memory and room for ever.
#[test]
fn a_body_that_drips_gets_408_and_one_that_is_long_does_not() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway_with(Bounds {
        upload_grace: Duration::from_millis(400),
        upload_rate: 50_000,
        ..Bounds::default()
    });
    let send = |length: usize, part: usize| {
        let mut client = client(&gateway);
        client.request("POST", "/rig/x", &format!("content-length: {length}\r\n"));
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(60));
            client.write(vec![b'x'; part]);
        }
        client.answer()
    };
    let dripped = send(1000, 1);
    assert_eq!(dripped.status, 408);
    assert_eq!(error(&dripped.body)["code"], "slow_request");
    assert_eq!(world.upstream.seen().len(), 0);
    let long = send(200_000, 20_000);
    assert_eq!((long.status, long.body.len()), (200, 200_000));
}

/// Such a server's connection is ready for the next request only when it has read this one, which may be never.
#[test]
fn a_server_that_answers_and_reads_no_further_keeps_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::new(&["one"], echo);
    world.provider(&format!("http://{}/base", listener.local_addr().unwrap()));
    let gateway = world.gateway();
    let serving = std::thread::spawn(move || {
        let serve = |answer: &str| {
            let mut stream = listener.accept().unwrap().0;
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            stream
        };
        let mut stuck = serve("HTTP/1.1 413 Too Much\r\ncontent-length: 2\r\n\r\n{}");
        let _next = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        // The gateway has closed it: what it took of the body comes, and then an end of either kind.
        let mut scrap = Vec::new();
        match stuck.read_to_end(&mut scrap) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    });
    let large = client(&gateway)
        .post("/rig/x", vec![b'x'; 24 * 1024 * 1024])
        .answer();
    assert_eq!((large.status, large.text()), (413, "{}"));
    let began = Instant::now();
    let small = client(&gateway).request("GET", "/rig/x", "").answer();
    assert_eq!(small.status, 200, "{}", small.text());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    serving.join().unwrap();
}

/// A client that sends while it is turned away hears why, instead of a broken pipe.
#[test]
fn one_connection_too_many_may_send_its_request() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway_with(Bounds {
        connections: 1,
        ..Bounds::default()
    });
    let mut only = client(&gateway);
    assert_eq!(only.post("/rig/x", "1").answer().status, 200);
    for _ in 0..3 {
        let mut beyond = client(&gateway);
        beyond.request("POST", "/rig/x", "content-length: 200\r\n");
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(30));
            beyond.write([b'x'; 50]);
        }
        let answer = beyond.answer();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert!(answer.complete);
        assert_eq!(error(&answer.body)["code"], "too_many_connections");
    }
}

/// So does one on the Unix socket.
#[test]
fn one_local_connection_too_many_is_told_so() {
    let world = World::new(&["one"], echo);
    let options = Options {
        bounds: Bounds {
            connections: 1,
            ..Bounds::default()
        },
        socket: true,
        ..Options::default()
    };
    let gateway = Gateway::start(world.sink(), &options).unwrap();
    let ask = || {
        let mut stream = UnixStream::connect(gateway.socket().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .unwrap();
        stream
    };
    let mut only = ask();
    let mut first = [0; 12];
    only.read_exact(&mut first).unwrap();
    let mut said = String::new();
    ask().read_to_string(&mut said).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 503 ") && said.contains("too_many_connections"),
        "{said}"
    );
    drop(only);
}

#[test]
fn bodies_beyond_the_memory_stream_and_all_come_back_byte_for_byte() {
    let world = World::new(&["one"], echo);
    let gateway = world.gateway_with(Bounds {
        replay_body: 100_000,
        replay_total: 300_000,
        ..Bounds::default()
    });
    let body =
        |length: usize| -> Vec<u8> { (0..length).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect() };
    for length in [0, 1, 4096, 99_999, 100_001, 3_000_000] {
        let sent = body(length);
        let answer = client(&gateway).post("/rig/x", &sent).answer();
        assert!(answer.complete && answer.body == sent, "{length}");
        // The same in chunks, of which nobody knows the length.
        let mut chunked = client(&gateway);
        chunked.request("POST", "/rig/x", "transfer-encoding: chunked\r\n");
        for part in sent.chunks(50_000) {
            chunked
                .write(format!("{:x}\r\n", part.len()))
                .write(part)
                .write("\r\n");
        }
        let answer = chunked.write("0\r\n\r\n").answer();
        assert!(answer.complete && answer.body == sent, "{length} in chunks");
    }
}

#[test]
fn nothing_is_left_behind() {
    let world = World::new(&["one"], |seen, talk| match &*seen.path {
        "/base/cut" => {
            talk.begin_events();
            talk.chunk("x");
            talk.cut();
        }
        "/base/hang" => {
            let _ = talk.left_within(Duration::from_secs(10));
        }
        _ => talk.json(200, "{}"),
    });
    let gateway = world.gateway_with(Bounds {
        pool_idle: Duration::from_millis(200),
        ..small()
    });
    let round = || {
        for path in ["/rig/x", "/rig/cut", "/rig/none/../x"] {
            client(&gateway).post(path, "{}").answer();
        }
        let mut left = client(&gateway);
        left.post("/rig/hang", "{}");
        drop(left);
        let mut drips = client(&gateway);
        drips.write("GET / HT");
        drop(drips);
        let mut half = client(&gateway);
        half.post("/rig/hang", "{}").half_close();
        half.answer();
        let _ = client(&gateway).write("junk\r\n\r\n").head();
    };
    round();
    let settled = || world.upstream.open() == 0;
    eventually("the end of all connections", settled);
    let before = open_descriptors();
    for _ in 0..5 {
        round();
    }
    eventually("the end of all connections", settled);
    eventually("descriptors as before", || open_descriptors() <= before);
}

/// What decompressing may take is reserved before it begins: without room a compressed body waits and is then told to
/// come back, and what is not compressed is none the worse for it.
#[test]
fn decompressing_has_a_memory_of_its_own() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(br#"{"model":"small"}"#).unwrap();
    let body = encoder.finish().unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\
         content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let compressed = [head.as_bytes(), &body].concat();
    let world = World::new(&["one"], echo);
    let mib = 1024 * 1024;
    for (decode_total, status) in [(2 * mib, 200), (2 * mib - 4096, 503)] {
        let gateway = world.gateway_with(Bounds {
            decode_total,
            ..small()
        });
        for _ in 0..3 {
            let answer = client(&gateway).write(&compressed).answer();
            assert_eq!(answer.status, status, "{}", answer.text());
            if status == 503 {
                assert_eq!(error(&answer.body)["code"], "no_memory");
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
        }
        let plain = client(&gateway)
            .post("/v1/chat/completions", r#"{"model":"rig/small"}"#)
            .answer();
        assert_eq!(plain.status, 200);
    }
}
