//! The gateway as people use it: real processes on one state dir, several accounts, and a provider that refuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokensink_authserver::ServerConfig;
use tokensink_testkit::loopback::Answer;
use tokensink_testkit::{Seen, Talk, Upstream};

use crate::support::server::{Server, log_of};
use crate::support::stage::Stage;
use crate::world::World;

const CHAT: &str = "/v1/chat/completions";

/// How long something may take that takes less than a second; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Within so long a gateway sees what others changed: a second, and what a busy machine adds to it.
const SEEN_WITHIN: Duration = Duration::from_secs(3);

fn question() -> Value {
    json!({"model": "rig/small", "messages": [{"role": "user", "content": "hi"}]})
}

/// The account whose key came.
fn account(seen: &Seen) -> &str {
    let key = seen.bearer().strip_prefix("sk-").unwrap_or_default();
    key.split('-').next().unwrap_or_default()
}

/// Says who was asked.
fn serve(seen: &Seen, talk: &mut Talk) {
    talk.json(200, &json!({"by": account(seen)}).to_string());
}

fn refuse(talk: &mut Talk, seconds: u32) {
    let body = r#"{"error":{"type":"rate_limit_error","message":"Slow down"}}"#;
    let seconds = seconds.to_string();
    let headers = [("content-type", "application/json"), ("retry-after", &*seconds)];
    talk.answer(429, &headers, body);
}

fn define(world: &World, id: &str, url: &str, more: &str) {
    let text = format!(
        "id = \"{id}\"\nname = \"{id}\"\nbilling = \"subscription\"\n[api]\nkind = \"openai-chat\"\n\
         base_url = \"{url}\"\nmodels = [\"small\"]\n[[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n{more}"
    );
    world.write(&format!(".openclaw/tokensink/providers/{id}.toml"), &text);
}

fn key_of(name: &str) -> String {
    format!("sk-{name}-canary-0123456789")
}

fn log_in(world: &World, provider: &str, name: &str) {
    let line =
        format!("tokensink models auth paste-api-key --provider {provider} --profile-id {provider}:{name}");
    world.feed(&line, &key_of(name)).code(0);
}

fn set_order(world: &World, names: &[&str]) {
    let order: Vec<_> = names.iter().map(|name| format!("rig:{name}")).collect();
    let order = order.join(" ");
    world
        .run(&format!("tokensink models auth order set --provider rig {order}"))
        .code(0);
}

/// A home with a provider `rig` at `upstream` and these accounts of it, in this order; and a client's key.
fn world(upstream: &Upstream, names: &[&str]) -> (World, String) {
    let world = World::new();
    define(&world, "rig", &upstream.url(), "");
    for name in names {
        log_in(&world, "rig", name);
    }
    set_order(&world, names);
    let key = new_key(&world, "ci");
    (world, key)
}

fn new_key(world: &World, name: &str) -> String {
    let said = world
        .run(&format!("tokensink keys add {name} --agent main"))
        .code(0);
    said.out.trim_end().to_owned()
}

fn ask(server: &Server, key: &str) -> Answer {
    server.post(CHAT, &[("x-api-key", key)], &question())
}

fn ask_in(server: &Server, key: &str, session: &str) -> Answer {
    let headers = [("x-api-key", key), ("x-tokensink-session", session)];
    server.post(CHAT, &headers, &question())
}

/// Who answered; fails unless it was a good answer whose header says the same.
#[track_caller]
fn by(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let by = answer.text("by");
    assert_eq!(
        answer.headers["x-tokensink-profile"],
        format!("rig:{by}"),
        "{answer:?}"
    );
    by
}

/// Asks again and again until it holds, and not longer than `time`; how long it took.
#[track_caller]
fn eventually(what: &str, time: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < time, "{what} does not come about");
        thread::sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

/// How often each account was asked.
fn asked(upstream: &Upstream) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for seen in upstream.seen() {
        *counts.entry(account(&seen).to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn a_limited_account_is_passed_over_explained_and_used_again_by_itself() {
    let limited = AtomicBool::new(true);
    let upstream = Upstream::start(move |seen, talk| {
        if account(seen) == "a" && limited.swap(false, Ordering::SeqCst) {
            refuse(talk, 2);
        } else {
            serve(seen, talk);
        }
    });
    let (world, key) = world(&upstream, &["a", "b"]);
    let mut server = Server::start(&world, "");
    let answer = ask(&server, &key);
    assert_eq!(by(&answer), "b", "one good answer");
    // Told at once, though the server writes it down a little later.
    let id = &answer.headers["x-tokensink-request"];
    world.run(&format!("tokensink explain {id}")).code(0);
    assert_eq!(
        asked(&upstream),
        BTreeMap::from([("a".into(), 1), ("b".into(), 1)])
    );
    eventually("the first account", PATIENCE, || by(&ask(&server, &key)) == "a");
    let of_a: Vec<_> = upstream
        .seen()
        .into_iter()
        .filter(|seen| account(seen) == "a")
        .collect();
    let window = of_a[1].at - of_a[0].at;
    assert!(of_a.len() == 2 && window >= Duration::from_secs(2), "{window:?}");
    assert!(server.child.try_wait().unwrap().is_none(), "the same process");

    let line = format!("tokensink explain {id}");
    let said = world.run(&line).code(0);
    for part in [
        "rig:a",
        "rig:b",
        "429",
        "rate_limit",
        "Chosen: rig:b",
        "Reproduced: ",
    ] {
        assert!(said.out.contains(part), "{part}: {said:#?}");
    }
    let told = world.run(&format!("{line} --json")).code(0).json();
    let choices = told["choices"].as_array().unwrap();
    let served: Vec<_> = choices.iter().map(|choice| &choice["served"]).collect();
    assert_eq!(served, ["rig:a", "rig:b"], "{told:#}");
    for choice in choices {
        assert_eq!(choice["reproduced"], true, "{told:#}");
    }
    let attempt = &choices[0]["attempts"][0];
    assert!(
        attempt["rule"].is_string() && attempt["bench"].is_object(),
        "{told:#}"
    );
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(!log_of(&world).contains("canary"));
}

#[test]
fn a_locked_session_stays_over_a_restart_and_a_new_order_until_it_begins_anew() {
    let upstream = Upstream::start(serve);
    let (world, key) = world(&upstream, &["a", "b", "c"]);
    let session = "agent:main:notes";
    world
        .feed("tokensink chat --session notes", "/model rig/small@rig:b\n")
        .code(0);
    let mut server = Server::start(&world, "");
    assert_eq!(by(&ask_in(&server, &key, session)), "b");
    assert_eq!(by(&ask_in(&server, &key, "other")), "a");
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));

    let server = Server::start(&world, "");
    assert_eq!(by(&ask_in(&server, &key, session)), "b", "over a restart");
    set_order(&world, &["c", "a", "b"]);
    // An automatic one moves at once; the locked one does not.
    eventually("the new order", SEEN_WITHIN, || {
        assert_eq!(by(&ask_in(&server, &key, session)), "b");
        by(&ask_in(&server, &key, "other")) == "c"
    });
    assert_eq!(by(&ask_in(&server, &key, session)), "b", "over a new order");
    let show = format!("tokensink sessions show {session} --json");
    let pin = world.run(&show).code(0).json()["pin"].clone();
    assert_eq!(pin["source"], "user", "{pin}");

    // The next of the order after b, with c again behind the last (spec.md 4.5.5).
    world.feed("tokensink chat --session notes", "/new\n").code(0);
    let pin = world.run(&show).code(0).json()["pin"].clone();
    assert_eq!(
        (&pin["profileId"], &pin["source"]),
        (&json!("rig:c"), &json!("auto"))
    );
    eventually("the move", SEEN_WITHIN, || {
        by(&ask_in(&server, &key, session)) == "c"
    });
    world.run(&format!("tokensink sessions reset {session}")).code(0);
    eventually("the next move", SEEN_WITHIN, || {
        by(&ask_in(&server, &key, session)) == "a"
    });
}

/// Asks every gateway at once, each `times` times; who answered.
fn storm(servers: &[Server], key: &str, times: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    thread::scope(|scope| {
        let threads: Vec<_> = servers
            .iter()
            .map(|server| scope.spawn(move || (0..times).map(|_| by(&ask(server, key))).collect::<Vec<_>>()))
            .collect();
        for one in threads {
            for name in one.join().unwrap() {
                *counts.entry(name).or_default() += 1;
            }
        }
    });
    counts
}

#[test]
fn eight_gateways_know_of_one_refusal_and_test_it_once() {
    let slow = Arc::new(AtomicBool::new(false));
    let upstream = {
        let slow = Arc::clone(&slow);
        Upstream::start(move |seen, talk| {
            if account(seen) == "a" {
                if slow.load(Ordering::SeqCst) {
                    // All others ask meanwhile.
                    thread::sleep(Duration::from_secs(1));
                }
                refuse(talk, 1_200);
            } else {
                serve(seen, talk);
            }
        })
    };
    let (world, key) = world(&upstream, &["a", "b"]);
    let start = |seconds| -> Vec<_> {
        (0..8)
            .map(|_| Server::start_at(&world, "--no-socket", seconds))
            .collect()
    };
    let servers = start(0);
    assert_eq!(by(&ask(&servers[0], &key)), "b");
    assert_eq!(storm(&servers, &key, 4), BTreeMap::from([("b".into(), 32)]));
    let calls = asked(&upstream)["a"];
    assert!(calls <= 2, "{calls} calls to a bucket that is closed");
    drop(servers);

    // Behind the half-open point one request of all gateways tests it, and the others do not wait for that.
    let servers = start(400);
    slow.store(true, Ordering::SeqCst);
    assert_eq!(storm(&servers, &key, 4), BTreeMap::from([("b".into(), 32)]));
    assert_eq!(asked(&upstream)["a"], calls + 1, "one test");
}

#[test]
fn changes_by_others_are_seen_while_it_runs() {
    let upstream = Upstream::start(serve);
    let other = Upstream::start(serve);
    let (world, key) = world(&upstream, &["a", "b"]);
    world
        .run("tokensink models auth order clear --provider rig")
        .code(0);
    let order = |first, second| {
        let text = format!("{{ auth: {{ order: {{ rig: ['rig:{first}', 'rig:{second}'] }} }} }}");
        world.write(".openclaw/openclaw.json", &text);
    };
    order("a", "b");
    let servers = [Server::start(&world, ""), Server::start(&world, "")];
    let both = |what: &str, holds: &dyn Fn(&Server) -> bool| {
        eventually(what, SEEN_WITHIN, || servers.iter().all(holds));
    };
    for server in &servers {
        assert_eq!(by(&ask(server, &key)), "a");
    }
    order("b", "a");
    both("the edited openclaw.json", &|server| {
        by(&ask(server, &key)) == "b"
    });

    define(&world, "rig", &other.url(), "");
    let before = other.seen().len();
    both("the provider's new address", &|server| {
        let count = other.seen().len();
        by(&ask(server, &key));
        other.seen().len() > count
    });
    assert!(other.seen().len() > before);

    let new = |server: &Server| {
        server
            .post("/new/things", &[("x-api-key", &*key)], &json!({}))
            .status
    };
    assert_eq!(new(&servers[0]), 404);
    define(&world, "new", &other.url(), "");
    both("the new provider", &|server| new(server) == 503);
    log_in(&world, "new", "z");
    both("its login", &|server| new(server) == 200);

    world.run("tokensink keys revoke ci").code(0);
    for server in &servers {
        assert_eq!(ask(server, &key).status, 401, "from the next request on");
    }
}

#[test]
fn a_token_that_the_provider_refuses_is_refreshed_once() {
    let stage = Stage::new(ServerConfig::default());
    stage.store(&stage.world, "main", "rig:alice", "alice", 3_600);
    let key = new_key(&stage.world, "ci");
    let server = Server::start(&stage.world, "");
    let ask = || {
        let url = format!("http://{}/rig/models", server.address());
        tokensink_testkit::loopback::send("GET", &url, &[("x-api-key", &*key)], "")
    };
    assert_eq!(ask().status, 200);
    stage.assert_refreshes(0);
    stage.server.invalidate_access_tokens();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let answer = ask();
                assert_eq!(answer.status, 200, "{answer:?}");
            });
        }
    });
    stage.assert_refreshes(1);
    // It was the token's fault, not the account's.
    let status = stage.world.run("tokensink models status --json").code(0).json();
    let profile = &status["auth"]["oauth"]["profiles"][0];
    assert_eq!(profile["benches"], json!([]), "{status:#}");
}

#[test]
fn money_is_spent_by_leave_only_and_waits_are_told() {
    let upstream = Upstream::start(|seen, talk| {
        if account(seen) == "plan" {
            refuse(talk, 1_200);
        } else {
            serve(seen, talk);
        }
    });
    let world = World::new();
    let plan = "[[auth]]\nid = \"plan\"\nkind = \"token\"\n";
    define(&world, "rig", &upstream.url(), plan);
    let file = ".openclaw/tokensink/providers/rig.toml";
    let text = std::fs::read_to_string(world.path(file)).unwrap();
    let metered = "kind = \"api_key\"\nbilling = \"metered\"";
    world.write(file, &text.replace("kind = \"api_key\"", metered));
    world
        .feed(
            "tokensink models auth paste-token --provider rig --profile-id rig:plan",
            &key_of("plan"),
        )
        .code(0);
    let key = new_key(&world, "ci");
    let server = Server::start(&world, "");

    let first = ask(&server, &key);
    assert_eq!((first.status, &*first.headers["retry-after"]), (429, "1200"));
    assert!(first.body.contains("Slow down"), "the provider's own: {first:?}");
    let second = ask(&server, &key);
    let wait: u64 = second.headers["retry-after"].parse().unwrap();
    assert!(
        second.status == 429 && (250..=1_200).contains(&wait),
        "{second:?}"
    );
    assert_eq!(second.json()["error"]["code"], "all_benched");
    assert!(second.body.contains("rig:plan"), "{second:?}");

    log_in(&world, "rig", "dear");
    let mut refusal = second;
    eventually("the second login", SEEN_WITHIN, || {
        refusal = ask(&server, &key);
        refusal.json()["error"]["code"] != "all_benched"
    });
    assert_eq!(refusal.json()["error"]["code"], "too_costly", "{refusal:?}");
    assert!(refusal.headers.contains_key("retry-after"), "{refusal:?}");
    for part in ["rig:dear", "[billing]", "subscription -> metered", "config.toml"] {
        assert!(refusal.body.contains(part), "{part}: {refusal:?}");
    }
    assert_eq!(
        asked(&upstream),
        BTreeMap::from([("plan".into(), 1)]),
        "nothing was spent"
    );

    let leave = "[billing]\nallow = [\"subscription -> metered\"]\n";
    world.write(".openclaw/tokensink/config.toml", leave);
    eventually("the leave", SEEN_WITHIN, || ask(&server, &key).status == 200);
    assert_eq!(by(&ask(&server, &key)), "dear");

    let forbidden = "[[deny]]\nid = \"house-rule\"\nprovider = \"rig\"\n";
    world.write(".openclaw/tokensink/config.toml", forbidden);
    eventually("the prohibition", SEEN_WITHIN, || {
        refusal = ask(&server, &key);
        refusal.status != 200
    });
    assert_eq!(refusal.status, 403, "{refusal:?}");
    assert!(refusal.body.contains("house-rule"), "{refusal:?}");
}
