//! Over real sockets: the loopback listener, its pages, and both flows against a strict authorization server.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response};
use tokensink_authserver::{DeviceConfig, LoginAnswer, Running, ServerConfig};
use tokensink_host::{Host, HttpTransport, Limits, Transport as _};
use tokensink_testkit::{Scripted, SeededRandom};
use tokensink_types::Body;
use url::Url;

use super::{Person, Then, access, body, code_and_state, granted, param, request, told, world};
use crate::error::ErrorKind;
use crate::flights::Flights;
use crate::login::LoginRequest;
use crate::sink::Sink;
use crate::world::{World, id};

/// What the browser saw at the end of each visit: status and text.
type Seen = Arc<Mutex<Vec<(u16, String)>>>;

/// A visit: makes requests to the addresses that follow from the one that was opened, the last one awaited.
type Visit = fn(&Url) -> Vec<(Method, Url)>;

pub(super) fn fetch(method: &Method, url: &Url) -> Option<Response<Body>> {
    let transport = HttpTransport::new(Arc::new(tokensink_testkit::MapEnvironment::default()), Vec::new());
    let connection = transport.connect(url, Duration::from_secs(10)).ok()?;
    let request = Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(Body::default())
        .unwrap();
    connection
        .exchange(
            request,
            Limits {
                time: Duration::from_secs(20),
                body_bytes: 1 << 20,
            },
        )
        .ok()
}

fn seen_of(response: &Response<Body>) -> (u16, String) {
    (
        response.status().as_u16(),
        String::from_utf8_lossy(response.body().expose()).into_owned(),
    )
}

/// Installs a browser that makes `visit`s, each of which follows one redirect.
fn install_browser(world: &World, visit: Visit) -> Seen {
    let seen: Seen = Arc::default();
    world.test.env.set("BROWSER", "test-browser");
    let notes = Arc::clone(&seen);
    world.test.processes.on_start(move |started| {
        let url = Url::parse(started.args[0].to_str().unwrap()).unwrap();
        let notes = Arc::clone(&notes);
        std::thread::spawn(move || {
            for (method, url) in visit(&url) {
                let Some(mut response) = fetch(&method, &url) else {
                    continue;
                };
                if let Some(next) = response.headers().get("location") {
                    let next = url.join(next.to_str().unwrap()).unwrap();
                    let Some(followed) = fetch(&method, &next) else {
                        continue;
                    };
                    response = followed;
                }
                notes
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(seen_of(&response));
            }
        });
        Ok(Vec::new())
    });
    seen
}

/// Waits until the browser has seen `count` pages.
fn pages(seen: &Seen, count: usize) -> Vec<(u16, String)> {
    for _ in 0..2000 {
        let now = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if now.len() >= count {
            return now;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the browser saw {seen:?}");
}

fn straight(url: &Url) -> Vec<(Method, Url)> {
    vec![(Method::GET, url.clone())]
}

/// A machine with the server as its provider `rig`.
pub(super) fn rig(config: ServerConfig) -> (World, Running, Sink) {
    let world = World::new();
    let server = Running::start(
        config,
        Arc::new(world.test.clock.clone()),
        Arc::new(SeededRandom::new(9)),
    )
    .unwrap();
    world.put("tokensink/providers/rig.toml", &server.provider_toml("rig"));
    let transport = HttpTransport::new(Arc::new(world.test.env.clone()), Vec::new());
    let host = Host {
        transport: Arc::new(transport),
        ..world.test.host()
    };
    let sink = Sink::open_with(host, Flights::inline()).unwrap();
    (world, server, sink)
}

pub(super) fn at_rig() -> LoginRequest {
    LoginRequest {
        provider: "rig".to_owned(),
        ..request()
    }
}

#[test]
fn the_browser_comes_back_and_is_told_who_logged_in() {
    let (world, server, sink) = rig(ServerConfig::default());
    let seen = install_browser(&world, straight);
    // Somebody sits at the prompt and is relieved of it.
    let outcome = sink.login(&at_rig(), &Person::who(&world, Then::Waits)).unwrap();
    assert_eq!(outcome.profile, id("rig:alice@example.com"));
    assert_eq!(outcome.account.account_id.as_deref(), Some("acct-alice"));
    let (status, page) = pages(&seen, 1).remove(0);
    assert_eq!(status, 200);
    assert!(
        page.contains("Logged in as alice@example.com") && page.contains("You can close this tab"),
        "{page}"
    );
    assert!(!page.contains("code="));
    assert!(access(&sink, "rig:alice@example.com").starts_with("ey"));

    server.push_login(LoginAnswer::Approve("bob".to_owned()));
    let outcome = sink.login(&at_rig(), &Person::nobody(&world)).unwrap();
    assert_eq!(
        outcome.profile,
        id("rig:bob@example.com"),
        "also without a terminal"
    );
    server.shutdown();
}

#[test]
fn the_port_is_free_again_at_once() {
    let (world, _server, sink) = rig(ServerConfig::default());
    install_browser(&world, straight);
    let person = Person::nobody(&world);
    sink.login(&at_rig(), &person).unwrap();
    let uri = person.said("listening").replace("listening ", "");
    let port = Url::parse(&uri).unwrap().port().unwrap();
    assert_ne!(port, 0, "the redirect URI names the port that was chosen");
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
}

#[test]
fn a_denial_is_told_in_the_browser_and_in_the_terminal() {
    let (world, server, sink) = rig(ServerConfig::default());
    let seen = install_browser(&world, straight);
    server.push_login(LoginAnswer::Deny);
    let error = sink
        .login(&at_rig(), &Person::who(&world, Then::Waits))
        .unwrap_err();
    assert_eq!(error.code(), "login_denied");
    assert!(
        told(&error).starts_with("The provider refused the login: access_denied"),
        "{error}"
    );
    let (status, page) = pages(&seen, 1).remove(0);
    assert_eq!(status, 400);
    assert!(
        page.contains("access_denied") && page.contains("tokensink models auth login --provider rig"),
        "{page}"
    );
}

#[test]
fn the_device_flow_needs_no_terminal() {
    let device = DeviceConfig {
        approve_at_poll: Some(3),
        ..DeviceConfig::default()
    };
    let (world, _server, sink) = rig(ServerConfig {
        device,
        ..ServerConfig::default()
    });
    let login = LoginRequest {
        device_code: true,
        ..at_rig()
    };
    let outcome = sink.login(&login, &Person::nobody(&world)).unwrap();
    assert_eq!(outcome.profile, id("rig:alice@example.com"));
    assert_eq!(world.test.clock.slept(), Duration::from_secs(15));
    assert!(access(&sink, "rig:alice@example.com").starts_with("ey"));
}

/// `desk` with a redirect URI on this machine; the token endpoint is scripted.
pub(super) fn desk_at_home(uri: &str) -> World {
    let world = world();
    world.put(
        "tokensink/providers/desk.toml",
        &super::DESK.replacen("https://desk.test/shown", uri, 1),
    );
    world
}

/// The redirect with these parameters, at the redirect URI of an authorization URL.
fn back(url: &Url, query: &str) -> Url {
    let mut back = Url::parse(&param(url, "redirect_uri")).unwrap();
    back.set_query(Some(&query.replace("{state}", &param(url, "state"))));
    back
}

#[test]
fn strays_are_answered_and_end_nothing() {
    let world = desk_at_home("http://127.0.0.1:0/back");
    let seen = install_browser(&world, |url| {
        let favicon = back(url, "").join("/favicon.ico").unwrap();
        vec![
            (Method::GET, favicon),
            (Method::GET, back(url, "code=evil&state=of-another-login")),
            (Method::GET, back(url, "error=server_error")),
            (Method::GET, back(url, "state={state}")),
            (Method::HEAD, back(url, "code=looked-ahead&state={state}")),
            (Method::GET, back(url, "code=good&state={state}")),
        ]
    });
    world.test.transport.push(granted("alice"));
    let person = Person::who(&world, Then::Waits);
    world.sink().login(&request(), &person).unwrap();
    let pages = pages(&seen, 6);
    let statuses: Vec<u16> = pages.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [404, 400, 400, 400, 200, 200]);
    assert!(pages[1].1.contains("State mismatch") && pages[3].1.contains("Missing authorization code"));
    assert!(pages[5].1.contains("Logged in as alice@example.com"));
    assert!(
        body(&world, 0).contains("&code=good&"),
        "only the last one was used"
    );
    let told: Vec<String> = person
        .heard()
        .words
        .into_iter()
        .filter(|words| words.starts_with("refused"))
        .collect();
    assert!(
        told[0].contains("State mismatch") && told[1].contains("server_error"),
        "{told:?}"
    );
}

#[test]
fn the_page_of_a_failed_exchange_says_so() {
    let world = desk_at_home("http://localhost:0/back");
    let seen = install_browser(&world, |url| {
        vec![(Method::GET, back(url, "code=spent-canary&state={state}"))]
    });
    world
        .test
        .transport
        .push(Scripted::json(400, r#"{"error": "invalid_grant"}"#));
    let error = world
        .sink()
        .login(&request(), &Person::nobody(&world))
        .unwrap_err();
    assert_eq!(error.code(), "exchange_refused");
    let (status, page) = pages(&seen, 1).remove(0);
    assert_eq!(status, 400);
    assert!(
        page.contains("The login at Desk did not work") && page.contains("invalid_grant"),
        "{page}"
    );
    assert!(!page.contains("canary"));
}

#[test]
fn a_port_that_is_taken_falls_through_to_paste() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let world = desk_at_home(&format!("http://127.0.0.1:{port}/back"));
    world.test.transport.push(granted("alice"));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    world.sink().login(&request(), &person).unwrap();
    assert!(
        person
            .said("deaf")
            .contains(&format!("127.0.0.1:{port} is in use by another program"))
    );

    let only_browser = LoginRequest {
        method: Some("oauth".parse().unwrap()),
        ..request()
    };
    let error = world
        .sink()
        .login(&only_browser, &Person::nobody(&world))
        .unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Failed, "no_listener"));
    let told = told(&error);
    assert!(
        told.starts_with(&format!(
            "127.0.0.1:{port} is in use by another program, and standard input"
        )) && told.contains("login --provider desk --device-code"),
        "{told}"
    );
}

#[test]
fn where_the_port_is_taken_the_providers_page_serves() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let redirects = format!(
        "redirects = [{{ uri = \"http://127.0.0.1:{port}/back\" }}, {{ uri = \"https://desk.test/shown\", mode = \"paste\" }}]"
    );
    let world = world();
    world.put(
        "tokensink/providers/desk.toml",
        &super::DESK.replacen("redirect_uri = \"https://desk.test/shown\"", &redirects, 1),
    );
    world.test.transport.push(granted("alice"));
    let person = Person::pasting(&world, vec![code_and_state("c")]);
    world.sink().login(&request(), &person).unwrap();
    assert_eq!(
        param(&person.heard().url.unwrap(), "redirect_uri"),
        "https://desk.test/shown"
    );
}
