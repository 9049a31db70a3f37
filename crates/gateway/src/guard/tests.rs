use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use proptest::prelude::*;
use tokensink_sink::{AgentId, Flights, KeyAdd, ProviderId, Secret, Sink};
use tokensink_testkit::TestHost;

use super::{Caller, CallerKind, Guard, Shown};
use crate::request::errors::Refusal;
use crate::socket::Peer;

const STATE: &str = "/home/user/.openclaw";

/// Headers, by name and value.
type Given<'a> = &'a [(&'static str, &'a str)];

/// A machine with the agents main and work.
struct World {
    test: TestHost,
    sink: Sink,
}

impl World {
    fn new() -> Self {
        let test = TestHost::new();
        let config = "{ agents: { list: [{ id: 'main' }, { id: 'work' }] } }";
        test.files.put(format!("{STATE}/openclaw.json"), config, 0o600);
        let sink = Sink::open_with(test.host(), Flights::inline()).unwrap();
        Self { test, sink }
    }

    fn key(&self, name: &str, agent: &str, providers: &[&str]) -> String {
        let request = KeyAdd {
            name: name.to_owned(),
            agent: agent.to_owned(),
            providers: providers.iter().map(|&id| id.to_owned()).collect(),
        };
        self.sink.key_add(&request).unwrap().key.expose().to_owned()
    }

    fn guard(&self) -> Guard {
        let address = SocketAddr::from(([127, 0, 0, 1], 7465));
        Guard::new(self.sink.clone(), &[address], &["Gate.LAN".to_owned()])
    }

    fn ask(&self, headers: Given<'_>, uri: &str) -> Result<Arc<Caller>, Refusal> {
        let mut headers = header_map(headers);
        headers
            .entry("host")
            .or_insert(HeaderValue::from_static("127.0.0.1:7465"));
        self.guard()
            .authenticate(&headers, &uri.parse::<Uri>().unwrap(), None)
    }
}

/// Appended, so that a name may be there twice.
fn header_map(headers: Given<'_>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        map.append(HeaderName::from_static(name), value);
    }
    map
}

#[test]
fn a_key_is_found_wherever_clients_put_it() {
    let world = World::new();
    let key = world.key("ci", "work", &["anthropic"]);
    let bearer = format!("Bearer {key}");
    let lower = format!("bearer  {key}");
    let query = format!("/v1beta/models?alt=sse&key={key}");
    let cases: [(&str, Given<'_>, &str); 8] = [
        ("OpenAI, Claude Code", &[("authorization", &bearer)], "/"),
        ("another spelling", &[("authorization", &lower)], "/"),
        ("Anthropic", &[("x-api-key", &key)], "/"),
        ("Azure", &[("api-key", &key)], "/"),
        ("Google", &[("x-goog-api-key", &key)], "/"),
        ("Google's query", &[], &query),
        (
            "twice the same",
            &[("x-api-key", &key), ("authorization", &bearer)],
            "/",
        ),
        (
            "beside another's",
            &[("x-api-key", "sk-ant-canary"), ("authorization", &bearer)],
            "/",
        ),
    ];
    for (what, headers, uri) in cases {
        let asked = world.ask(headers, uri);
        let caller = asked.unwrap_or_else(|refusal| panic!("{what}: {refusal:?}"));
        assert_eq!(
            (caller.name.as_str(), caller.agent.as_str()),
            ("ci", "work"),
            "{what}"
        );
        assert_eq!(caller.kind, CallerKind::Key);
        assert!(caller.may_use(&ProviderId::parse("anthropic").unwrap()));
        assert!(!caller.may_use(&ProviderId::parse("openai").unwrap()));
    }
}

#[test]
fn who_shows_no_key_that_counts_is_told_the_command_and_nothing_else() {
    let world = World::new();
    let (one, two) = (world.key("one", "work", &[]), world.key("two", "main", &[]));
    world.sink.key_revoke("two").unwrap();
    let three = world.key("three", "main", &[]);
    let cut = &one[..30];
    let twice = format!("/?key={three}");
    let cases: [(Given<'_>, &str, &str); 9] = [
        (&[], "/", "only clients with a key"),
        (&[("x-api-key", "")], "/", "only clients with a key"),
        (
            &[("x-api-key", "sk-ant-canary")],
            "/",
            "no client key of this gateway",
        ),
        (
            &[("authorization", "Basic Y2FuYXJ5")],
            "/",
            "no client key of this gateway",
        ),
        (
            &[("authorization", "canary")],
            "/",
            "no client key of this gateway",
        ),
        (&[("x-api-key", cut)], "/", "cut off"),
        (&[("x-api-key", &two)], "/", "the client key two was revoked"),
        (
            &[("x-api-key", &one), ("x-api-key", &three)],
            "/",
            "two different",
        ),
        (&[("x-api-key", &one)], &twice, "two different"),
    ];
    for (headers, uri, why) in cases {
        let refusal = world.ask(headers, uri).unwrap_err();
        assert_eq!(refusal.status, StatusCode::UNAUTHORIZED, "{why}");
        let text = refusal.text();
        assert!(
            text.contains(why) && text.contains("tokensink keys add"),
            "{text}"
        );
        assert!(!text.contains("canary") && !text.contains(cut), "{text}");
    }
    world
        .test
        .files
        .put(format!("{STATE}/tokensink/state/keys.json"), "{", 0o600);
    let refusal = world.ask(&[("x-api-key", &one)], "/").unwrap_err();
    assert_eq!(
        refusal.status,
        StatusCode::INTERNAL_SERVER_ERROR,
        "not the client's fault"
    );
}

#[test]
fn a_key_speaks_for_its_agent_only() {
    let world = World::new();
    let key = world.key("ci", "work", &[]);
    for (agent, allowed) in [("work", true), ("Work", true), ("main", false), ("nobody", false)] {
        let asked = world.ask(&[("x-api-key", &key), ("x-tokensink-agent", agent)], "/");
        assert_eq!(asked.is_ok(), allowed, "{agent}");
    }
    let named = "x-tokensink-agent";
    let twice = [("x-api-key", &*key), (named, "work"), (named, "main")];
    assert_eq!(
        world.ask(&twice, "/").unwrap_err().status,
        StatusCode::BAD_REQUEST
    );
}

#[test]
fn only_hosts_that_are_ours_are_served() {
    let world = World::new();
    let key = world.key("ci", "main", &[]);
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 1));
    let guards = [world.guard(), Guard::new(world.sink.clone(), &[everywhere], &[])];
    let cases = [
        ("127.0.0.1:7465", true, true),
        ("127.0.0.1", true, true),
        ("127.9.9.9:1", true, true),
        ("localhost:7465", true, true),
        ("LOCALHOST.", true, true),
        ("app.localhost:80", true, true),
        ("[::1]:7465", true, true),
        ("[::1]", true, true),
        ("gate.lan:7465", true, false),
        ("192.168.1.5:7465", false, true),
        ("[fe80::1]:7465", false, true),
        ("evil.example", false, false),
        ("evil.example:7465", false, false),
        ("127.0.0.1.evil.example", false, false),
        ("localhost.evil.example:7465", false, false),
        ("evillocalhost", false, false),
        ("localhost@evil.example", false, false),
        ("evil.example/localhost", false, false),
        ("", false, false),
        (":7465", false, false),
        ("localhost:74a5", false, false),
    ];
    for (host, ours, on_all) in cases {
        let headers = header_map(&[("host", host), ("x-api-key", &key)]);
        let uri = Uri::from_static("/");
        let found = guards
            .each_ref()
            .map(|guard| guard.authenticate(&headers, &uri, None).is_ok());
        assert_eq!(found, [ours, on_all], "{host}");
    }
    let twice = header_map(&[("host", "localhost"), ("host", "localhost"), ("x-api-key", &key)]);
    let none = header_map(&[("x-api-key", &key)]);
    for headers in [twice, none] {
        let refusal = guards[0]
            .authenticate(&headers, &Uri::from_static("/"), None)
            .unwrap_err();
        assert_eq!(refusal.code, "no_host");
    }
}

#[test]
fn pages_of_other_origins_are_turned_away_even_with_a_key() {
    let world = World::new();
    let key = world.key("ci", "main", &[]);
    let ours = "http://127.0.0.1:7465";
    let cases: [(Given<'_>, bool); 12] = [
        (&[("origin", ours)], true),
        (&[("origin", "http://localhost:7465")], false),
        (&[("origin", "http://127.0.0.1:8080")], false),
        (&[("origin", "https://127.0.0.1:7465")], false),
        (&[("origin", "https://evil.example")], false),
        (&[("origin", "null")], false),
        (&[("origin", "")], false),
        (&[("origin", ours), ("origin", "https://evil.example")], false),
        (&[("sec-fetch-site", "cross-site")], false),
        (&[("sec-fetch-site", "same-site")], false),
        (&[("sec-fetch-site", "none")], true),
        (&[("sec-fetch-site", "same-origin")], true),
    ];
    for (headers, allowed) in cases {
        let all = [headers, &[("x-api-key", &*key)]].concat();
        let refused = world.ask(&all, "/").err().map(|refusal| refusal.code);
        assert_eq!(refused, (!allowed).then_some("foreign_origin"), "{headers:?}");
    }
}

#[test]
fn a_process_of_our_user_needs_no_key_on_the_socket() {
    let world = World::new();
    let host = world.test.host();
    let us = host.files.user();
    let ask = |headers: Given<'_>, user| {
        let peer = Peer::new(&host, user, Some(77));
        world
            .guard()
            .authenticate(&header_map(headers), &Uri::from_static("/"), Some(&peer))
    };
    let headers = [("host", "anything"), ("authorization", "Bearer unused")];
    let caller = ask(&headers, us).unwrap();
    assert_eq!(
        (caller.name.as_str(), caller.agent.as_str()),
        ("process 77", "main")
    );
    assert!(caller.is_local_process());
    assert_eq!(ask(&headers, us + 1).unwrap_err().code, "other_user");
    let work = [("x-tokensink-agent", "work")];
    assert_eq!(ask(&work, us).unwrap().agent, AgentId::normalise("work"));
    let nobody = [("x-tokensink-agent", "nobody")];
    assert_eq!(ask(&nobody, us).unwrap_err().code, "unknown_agent");
    // A key narrows it down.
    let key = world.key("ci", "work", &[]);
    assert_eq!(ask(&[("x-api-key", &key)], us).unwrap().kind, CallerKind::Key);
    let page = [("origin", "https://evil.example")];
    assert_eq!(ask(&page, us).unwrap_err().code, "foreign_origin");
}

#[test]
fn a_caller_is_remembered_for_a_turn_and_for_the_same_request_only() {
    let world = World::new();
    let [one, two] = ["one", "two"].map(|name| world.key(name, "main", &[]));
    world.test.clock.advance(Duration::from_secs(60));
    let guard = world.guard();
    let turns = world.sink.turns();
    let ask = |headers: Given<'_>, uri: &str| {
        let asked = guard.authenticate(&header_map(headers), &uri.parse::<Uri>().unwrap(), None);
        asked
            .map(|caller| caller.name.clone())
            .map_err(|refusal| refusal.code)
    };
    let host = ("host", "127.0.0.1:7465");
    let usual = [host, ("x-api-key", &*one)];
    assert_eq!(ask(&usual, "/").unwrap(), "one");
    // Another process revokes it. In this turn nobody looks again.
    let other = Sink::open_with(world.test.host(), Flights::inline()).unwrap();
    other.key_revoke("one").unwrap();
    assert_eq!(ask(&usual, "/").unwrap(), "one");
    let in_query = format!("/?key={two}");
    let others: [(Given<'_>, &str, Result<&str, &str>); 10] = [
        (&usual, &in_query, Err("no_key")),
        (&[host, ("x-api-key", &two)], "/", Ok("two")),
        (&[host, ("api-key", &two)], "/", Ok("two")),
        (&[host, ("x-api-key", &one[..30])], "/", Err("no_key")),
        (&[host, ("authorization", &one)], "/", Err("no_key")),
        (
            &[("host", "evil.example"), ("x-api-key", &one)],
            "/",
            Err("foreign_host"),
        ),
        (&[host, host, ("x-api-key", &one)], "/", Err("no_host")),
        (
            &[host, ("x-api-key", &one), ("origin", "null")],
            "/",
            Err("foreign_origin"),
        ),
        (
            &[host, ("x-api-key", &one), ("x-api-key", &two)],
            "/",
            Err("no_key"),
        ),
        (
            &[host, ("x-api-key", &one), ("x-tokensink-agent", "work")],
            "/",
            Err("other_agent"),
        ),
    ];
    for (headers, uri, want) in others {
        let name = ask(headers, uri);
        assert_eq!(name.as_deref().map_err(|code| *code), want, "{headers:?}");
    }
    // A guard with keys of its own knows them by these.
    let work = AgentId::normalise("work");
    let with_keys = guard.clone().with_keys(&[(Secret::new(&*one), work.clone())]);
    let caller = with_keys.authenticate(&header_map(&usual), &Uri::from_static("/"), None);
    assert_eq!(caller.unwrap().agent, work);
    turns.next();
    assert_eq!(ask(&usual, "/"), Err("no_key"));
    let usual = [host, ("x-api-key", &*two)];
    assert_eq!(ask(&usual, "/").unwrap(), "two");
    world.sink.key_revoke("two").unwrap();
    assert_eq!(
        ask(&usual, "/"),
        Err("no_key"),
        "what this process does itself counts at once"
    );
}

proptest! {
    #[test]
    fn strangers_bytes_let_nobody_in(
        values in prop::collection::vec(("[ -~]{0,40}", 0_usize..5), 0..6),
        query in prop::option::of("[a-z=&%0-9]{0,40}"),
    ) {
        let names = ["host", "authorization", "x-api-key", "origin", "x-tokensink-agent"];
        let headers: Vec<(&'static str, &str)> =
            values.iter().map(|(text, name)| (names[*name], text.as_str())).collect();
        let headers = header_map(&headers);
        let _shown = Shown::of(&headers, query.as_deref(), &[]);
        let guard = World::new().guard();
        prop_assert!(guard.authenticate(&headers, &Uri::from_static("/"), None).is_err());
    }
}
