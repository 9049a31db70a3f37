//! The login in a browser and the login by device code side by side: whichever is answered first wins, the other ends.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde_json::json;
use tokensink_authserver::{DeviceConfig, GrantType, ServerConfig};
use tokensink_host::ConnectPhase;
use tokensink_testkit::{Scripted, ScriptedTransport};
use tokensink_types::Body;
use url::Url;

use super::sockets::{at_rig, desk_at_home, fetch, rig};
use super::{Person, Then, body, body_of, code_and_state, granted, request, response, told, world};
use crate::error::ErrorKind;
use crate::login::LoginRequest;
use crate::world::{World, id};

/// Lets time go by while `body` runs.
fn ticking<T>(world: &World, body: impl FnOnce() -> T) -> T {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
                world.test.clock.advance(Duration::from_secs(1));
            }
        });
        let _stop = Stop(&over);
        body()
    })
}

/// `desk` on a machine without a display.
fn headless() -> World {
    let world = world();
    world.test.env.unset("DISPLAY");
    world
}

fn begun() -> Scripted {
    let begun = json!({
        "device_code": "device-canary-0123456789",
        "user_code": "ABCD-1234",
        "verification_uri": "https://desk.test/go",
        "expires_in": 1800,
        "interval": 5,
    });
    Scripted::json(200, &begun.to_string())
}

fn polled(error: &str) -> Scripted {
    Scripted::json(400, &json!({"error": error}).to_string())
}

fn exchanges(transport: &ScriptedTransport) -> usize {
    let requests = transport.requests();
    let codes = requests
        .iter()
        .filter(|request| body_of(request).starts_with("grant_type=authorization_code"));
    codes.count()
}

#[test]
fn the_device_wins_and_the_prompt_ends() {
    let world = headless();
    for answer in [
        begun(),
        polled("authorization_pending"),
        polled("slow_down"),
        Scripted::no_connection(ConnectPhase::Tcp),
        granted("alice"),
    ] {
        world.test.transport.push(answer);
    }
    let person = Person::who(&world, Then::Waits);
    let outcome = ticking(&world, || world.sink().login(&request(), &person)).unwrap();
    assert_eq!(outcome.profile, id("desk:alice@example.com"));
    let heard = person.heard();
    assert_eq!(
        heard.words,
        [
            "notice Desk wants to be asked first.",
            "open opened=false",
            // Its 1,800 s are cut to the time that the whole login has.
            "or device ABCD-1234 https://desk.test/go None 900",
        ]
    );
    assert_eq!(
        heard.why_no_browser.as_deref(),
        Some("neither DISPLAY nor WAYLAND_DISPLAY is set"),
        "no hint at what is done already"
    );
    assert_eq!(
        (exchanges(&world.test.transport), world.test.transport.left()),
        (0, 0)
    );
}

#[test]
fn a_paste_wins_and_waits_for_no_poll() {
    let world = headless();
    world.test.transport.push(begun());
    let (reached, at_poll) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    world.test.transport.on_request(move |request| {
        if body_of(&request).starts_with("grant_type=authorization_code") {
            let Scripted::Exchange(answer) = granted("alice") else {
                unreachable!("a scripted answer");
            };
            return answer;
        }
        let _ = reached.send(());
        // Held until the login is over: nothing may wait for it.
        let _ = held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(Duration::from_secs(20));
        Ok(response(200, &json!({"access_token": "late-canary"})))
    });
    let at_poll = Mutex::new(at_poll);
    let paste = code_and_state("code-canary");
    let person = Person::pasting(
        &world,
        vec![Box::new(move |url: &Url| {
            let at_poll = at_poll.lock().unwrap();
            at_poll.recv_timeout(Duration::from_secs(20)).unwrap();
            paste(url)
        })],
    );
    let outcome = ticking(&world, || world.sink().login(&request(), &person)).unwrap();
    assert_eq!(
        world.test.transport.requests().len(),
        2,
        "the poll is still on its way: a code and its exchange were answered"
    );
    release.send(()).unwrap();
    assert_eq!(outcome.profile, id("desk:alice@example.com"));
    assert_eq!(exchanges(&world.test.transport), 1);
    assert_eq!(world.stored("main").as_object().unwrap().len(), 1);
    assert_eq!(person.said("exchanging"), "exchanging");
}

#[test]
fn a_device_login_that_cannot_be_is_one_line() {
    let cases = [
        (Scripted::json(404, "{}"), "no device https://desk.test/device: "),
        (
            Scripted::no_connection(ConnectPhase::Tcp),
            "no device https://desk.test/device gave no code: no connection",
        ),
        (
            Scripted::ambiguous(),
            "no device https://desk.test/device gave no code: the request was sent",
        ),
    ];
    for (answer, line) in cases {
        let world = headless();
        world.test.transport.push(answer);
        world.test.transport.push(granted("alice"));
        let person = Person::pasting(&world, vec![code_and_state("c")]);
        let outcome = world.sink().login(&request(), &person).unwrap();
        assert_eq!(outcome.profile, id("desk:alice@example.com"));
        person.said(line);
        assert_eq!(world.test.transport.connections(), 2, "asked for once");
        assert_eq!(world.test.clock.slept(), Duration::ZERO);
    }
}

#[test]
fn a_browser_at_hand_asks_for_no_device_code() {
    let world = world();
    world.test.transport.push(granted("alice"));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    world.sink().login(&request(), &person).unwrap();
    assert_eq!(world.test.transport.requests().len(), 1);
    assert!(body(&world, 0).contains("code=c"));

    world.test.transport.push(begun());
    world.test.transport.push(granted("alice"));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    let elsewhere = LoginRequest {
        no_browser: true,
        ..request()
    };
    world.sink().login(&elsewhere, &person).unwrap();
    person.said("or device ABCD-1234");
}

#[test]
fn a_refusal_ends_the_login_and_the_end_of_the_code_only_its_way() {
    // Nobody pastes: the input ends at once, and the device is what is left.
    for (answer, code, line) in [
        ("access_denied", "login_denied", false),
        ("expired_token", "device_expired", true),
        ("invalid_grant", "device_failed", true),
    ] {
        let world = headless();
        world.test.transport.push(begun());
        world.test.transport.push(polled(answer));
        let person = Person::who(&world, Then::Leaves);
        let error = ticking(&world, || world.sink().login(&request(), &person)).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Failed, code));
        assert!(
            told(&error).ends_with("| tokensink models auth login --provider desk"),
            "{error}"
        );
        let lines = person.heard().words.into_iter();
        assert_eq!(
            lines.filter(|words| words.starts_with("no device")).count(),
            usize::from(line)
        );
        assert_eq!(world.test.transport.left(), 0);
    }
}

#[test]
fn a_port_in_use_leaves_the_device_login_where_nobody_can_paste() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    for display in [Some(":0"), None] {
        let world = desk_at_home(&format!("http://127.0.0.1:{port}/back"));
        match display {
            Some(display) => world.test.env.set("DISPLAY", display),
            None => world.test.env.unset("DISPLAY"),
        }
        world.test.transport.push(begun());
        world.test.transport.push(granted("alice"));
        let person = Person::nobody(&world);
        let outcome = world.sink().login(&request(), &person).unwrap();
        assert_eq!(outcome.profile, id("desk:alice@example.com"));
        let words = person.heard().words;
        assert!(
            words[1].starts_with(&format!("deaf 127.0.0.1:{port} is in use by another program")),
            "{words:?}"
        );
        assert!(words[2].starts_with("device ABCD-1234"), "{words:?}");
        assert_eq!(words.len(), 3, "no address that leads nowhere: {words:?}");
    }
}

#[test]
fn over_sockets_the_device_is_approved_while_the_listener_waits() {
    let device = DeviceConfig {
        approve_at_poll: Some(2),
        ..DeviceConfig::default()
    };
    let (world, server, sink) = rig(ServerConfig {
        device,
        ..ServerConfig::default()
    });
    let person = Person::nobody(&world);
    let outcome = ticking(&world, || sink.login(&at_rig(), &person)).unwrap();
    assert_eq!(outcome.profile, id("rig:alice@example.com"));
    let listened = person.said("listening").replace("listening ", "");
    let port = Url::parse(&listened).unwrap().port().unwrap();
    assert!(
        TcpListener::bind(("127.0.0.1", port)).is_ok(),
        "it waits no longer"
    );
    let ledger = server.ledger();
    assert_eq!(ledger.posts(GrantType::AuthorizationCode), 0);
    assert_eq!(ledger.posts(GrantType::DeviceCode), 2);
    assert!(super::access(&sink, "rig:alice@example.com").starts_with("ey"));
}

#[test]
fn over_sockets_the_callback_wins_while_the_device_is_pending() {
    let (world, server, sink) = rig(ServerConfig::default());
    let person = Arc::new(Person::nobody(&world));
    let reader = Arc::clone(&person);
    let visit = std::thread::spawn(move || {
        let url = (0..2000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            // The listener is told of last, so the code was shown before.
            let heard = reader.heard();
            let told = heard.words.iter().any(|words| words.starts_with("listening"));
            heard.url.filter(|_| told)
        });
        let away = fetch(&http::Method::GET, &url.unwrap()).unwrap();
        let back = Url::parse(away.headers()["location"].to_str().unwrap()).unwrap();
        fetch(&http::Method::GET, &back).unwrap()
    });
    let outcome = sink.login(&at_rig(), &*person).unwrap();
    assert_eq!(outcome.profile, id("rig:alice@example.com"));
    let page: Body = visit.join().unwrap().into_body();
    assert!(String::from_utf8_lossy(page.expose()).contains("Logged in as alice@example.com"));
    person.said("or device");
    assert_eq!(server.ledger().posts(GrantType::AuthorizationCode), 1);
}
