//! Events as they come, leaving clients, and upstreams that break off.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tokensink_gateway::Bounds;

use crate::world::{World, client, eventually};

#[test]
fn ten_thousand_events_arrive_complete_and_in_order() {
    let world = World::new(&["one"], |_, talk| {
        talk.begin_events();
        for n in 0..10_000 {
            talk.chunk(format!("event: delta\ndata: {{\"n\":{n}}}\n\n"));
        }
        talk.end();
    });
    let gateway = world.gateway();
    let answer = client(&gateway).post("/rig/x", "{}").answer();
    assert!(answer.complete);
    let want: String = (0..10_000)
        .map(|n| format!("event: delta\ndata: {{\"n\":{n}}}\n\n"))
        .collect();
    assert!(answer.text() == want, "the events differ");
}

#[test]
fn an_event_is_passed_on_before_the_next_one_exists() {
    let (told, heard) = channel::<()>();
    let heard = Mutex::new(heard);
    let world = World::new(&["one"], move |_, talk| {
        talk.begin_events();
        for n in 0..50 {
            talk.chunk(format!("data: {n}\n\n"));
            heard
                .lock()
                .unwrap()
                .recv_timeout(Duration::from_secs(10))
                .unwrap();
        }
        talk.end();
    });
    let gateway = world.gateway();
    let mut client = client(&gateway);
    client.post("/rig/x", "{}").head().unwrap();
    for n in 0..50 {
        assert_eq!(client.chunk().unwrap(), format!("data: {n}\n\n").as_bytes());
        told.send(()).unwrap();
    }
    assert_eq!(client.chunk().unwrap(), b"");
}

/// Whichever of the gateway's threads is faster.
#[test]
fn what_comes_before_a_silence_does_not_wait_for_its_end() {
    let world = World::new(&["one"], |_, talk| {
        talk.begin_events();
        talk.chunk("data: 1\n\n");
        talk.chunk("data: 2\n\n");
        assert!(talk.left_within(Duration::from_secs(20)).is_some());
    });
    let gateway = world.gateway();
    for _ in 0..100 {
        let mut client = client(&gateway);
        client.post("/rig/x", "{}").head().unwrap();
        let mut came = Vec::new();
        while !came.ends_with(b"data: 2\n\n") {
            came.extend(client.chunk().unwrap());
        }
    }
}

#[test]
fn a_burst_of_twenty_events_is_not_slowed_down() {
    let world = World::new(&["one"], |_, talk| {
        talk.begin_events();
        for n in 0..20 {
            talk.chunk(format!("event: delta\ndata: {{\"n\":{n}}}\n\n"));
        }
        talk.end();
    });
    let gateway = world.gateway();
    let mut client = client(&gateway);
    let mut times = Vec::new();
    for _ in 0..30 {
        let began = Instant::now();
        assert!(client.post("/rig/x", "{}").answer().complete);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    // Nagle's algorithm against delayed acknowledgements would cost 40 ms each time.
    assert!(times[0] < Duration::from_millis(5), "{times:?}");
    assert!(times[times.len() / 2] < Duration::from_millis(15), "{times:?}");
}

#[test]
fn events_that_are_there_together_leave_together() {
    let world = World::new(&["one"], |_, talk| {
        talk.begin_events();
        let event = "event: delta\ndata: {\"text\":\"a few words of an answer\"}\n\n";
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        talk.raw(chunk.repeat(20).as_bytes());
        talk.end();
    });
    let gateway = world.gateway();
    let mut client = client(&gateway);
    let mut chunks = 0;
    for _ in 0..30 {
        client.post("/rig/x", "{}").head().unwrap();
        while !client.chunk().unwrap().is_empty() {
            chunks += 1;
        }
    }
    assert!(chunks < 60, "{chunks} writes for 30 bursts of 20 events");
}

#[test]
fn a_client_that_leaves_ends_the_upstream_request() {
    for first in [false, true] {
        let (told, heard) = channel();
        let told = Mutex::new(told);
        let world = World::new(&["one"], move |_, talk| {
            if first {
                talk.begin_events();
                talk.chunk("data: 1\n\n");
            }
            told.lock()
                .unwrap()
                .send(talk.left_within(Duration::from_secs(10)))
                .unwrap();
        });
        let gateway = world.gateway();
        let mut client = client(&gateway);
        client.post("/rig/x", "{}");
        if first {
            client.head().unwrap();
            client.chunk().unwrap();
        }
        eventually("the request", || world.upstream.seen().len() == 1);
        std::thread::sleep(Duration::from_millis(30));
        let left = Instant::now();
        drop(client);
        heard.recv().unwrap().expect("the upstream request ends");
        assert!(
            left.elapsed() < Duration::from_millis(100),
            "{:?}",
            left.elapsed()
        );
    }
}

#[test]
fn a_cut_answer_never_looks_whole() {
    let world = World::new(&["one"], |seen, talk| match &*seen.path {
        "/base/chunked" => {
            talk.begin_events();
            talk.chunk("data: 1\n\n");
            talk.chunk("data: 2\n\n");
            talk.cut();
        }
        "/base/inside" => {
            talk.begin_events();
            talk.raw(b"100\r\ndata: 1\n\ndata: 2\n\n");
            talk.cut();
        }
        _ => {
            talk.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ndata: 1\n\ndata: 2\n\n");
            talk.cut();
        }
    });
    let gateway = world.gateway();
    for path in ["chunked", "inside", "length"] {
        for _ in 0..20 {
            let answer = client(&gateway).post(&format!("/rig/{path}"), "{}").answer();
            assert_eq!((answer.status, answer.complete), (200, false), "{path}");
            assert_eq!(
                answer.text(),
                "data: 1\n\ndata: 2\n\n",
                "{path}: what came is passed on"
            );
        }
    }
}

#[test]
fn an_upstream_that_says_nothing_gives_an_error_of_ours() {
    let world = World::new(&["one"], |seen, talk| match &*seen.path {
        "/base/closed" => talk.cut(),
        "/base/half" => {
            talk.raw(b"HTTP/1.1 200 OK\r\ncontent-le");
            talk.cut();
        }
        "/base/junk" => {
            talk.raw(b"220 mail.example ESMTP\r\n");
            talk.cut();
        }
        _ => {
            let _ = talk.left_within(Duration::from_secs(10));
        }
    });
    let gateway = world.gateway_with(Bounds {
        first_byte: Duration::from_millis(200),
        ..Bounds::default()
    });
    for (path, status) in [("closed", 502), ("half", 502), ("junk", 502), ("silent", 504)] {
        let answer = client(&gateway).post(&format!("/rig/{path}"), "{}").answer();
        assert_eq!((answer.status, answer.complete), (status, true), "{path}");
    }
    assert_eq!(world.upstream.seen().len(), 4, "nothing is sent twice");
}

#[test]
fn a_silent_stream_is_cut_and_a_slow_one_is_not() {
    let world = World::new(&["one"], |seen, talk| {
        talk.begin_events();
        if seen.path.ends_with("slow") {
            for _ in 0..8 {
                std::thread::sleep(Duration::from_millis(100));
                talk.chunk(".");
            }
            talk.end();
        } else {
            talk.chunk("x");
            let _ = talk.left_within(Duration::from_secs(10));
        }
    });
    let gateway = world.gateway_with(Bounds {
        answer_idle: Duration::from_millis(400),
        ..Bounds::default()
    });
    let slow = client(&gateway).post("/rig/slow", "{}").answer();
    assert_eq!((slow.text(), slow.complete), ("........", true));
    let silent = client(&gateway).post("/rig/silent", "{}").answer();
    assert_eq!((silent.text(), silent.complete), ("x", false));
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back() {
    let (told, heard) = channel();
    let told = Mutex::new(told);
    let world = World::new(&["one"], move |_, talk| {
        talk.begin(200, &[]);
        let chunk = vec![b'x'; 64 * 1024];
        for n in 0..2000 {
            if !talk.chunk(&chunk) {
                return;
            }
            told.lock().unwrap().send(n).unwrap();
        }
        talk.end();
    });
    let gateway = world.gateway();
    let mut client = client(&gateway);
    client.post("/rig/x", "{}").head().unwrap();
    let mut sent = 0;
    while let Ok(n) = heard.recv_timeout(Duration::from_millis(500)) {
        sent = n;
    }
    assert!(
        sent < 400,
        "{sent} chunks of 64 KiB were taken for a client that reads nothing"
    );
    let mut total = 0;
    while let Some(chunk) = client.chunk() {
        if chunk.is_empty() {
            break;
        }
        total += chunk.len();
    }
    assert_eq!(total, 2000 * 64 * 1024);
}
