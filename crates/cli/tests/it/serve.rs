//! The gateway as a real process: keys, the Unix socket, signals, and what stays when it is killed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokensink_testkit::{Seen, Talk, Upstream};

use crate::support::server::{Server, log_of};
use crate::world::World;

/// A credential of the upstream; it must never be seen in what we write.
const CREDENTIAL: &str = "sk-rig-canary-0123456789";

/// A home with a provider `rig` at `upstream` and a login of it.
fn world(upstream: &Upstream) -> World {
    let world = World::new();
    let provider = format!(
        "id = \"rig\"\nname = \"Rig\"\nbilling = \"prepaid\"\n[api]\nkind = \"openai-chat\"\nbase_url = \"{}\"\n\
         models = [\"small\"]\n[[auth]]\nid = \"api-key\"\nkind = \"api_key\"\n",
        upstream.url()
    );
    world.write(".openclaw/tokensink/providers/rig.toml", &provider);
    world
        .feed("tokensink models auth paste-api-key --provider rig", CREDENTIAL)
        .code(0);
    world
}

fn new_key(world: &World, line: &str) -> String {
    let said = world.run(&format!("tokensink keys add {line}")).code(0);
    format!("host: localhost\r\nx-api-key: {}\r\n", said.out.trim_end())
}

fn echo(seen: &Seen, talk: &mut Talk) {
    talk.answer(200, &[("content-type", "text/plain")], &seen.body);
}

#[test]
fn a_key_counts_while_it_runs_and_ends_at_once() {
    let upstream = Upstream::start(echo);
    let world = world(&upstream);
    let mut server = Server::start(&world, "");
    let stranger = "host: localhost\r\nauthorization: Bearer stranger-canary\r\n";
    for headers in ["host: localhost\r\n", stranger] {
        let (status, body) = server.ask("POST", "/rig/things", headers, "x");
        assert_eq!(status, 401, "{body}");
        assert!(
            body.contains("tokensink keys add") && !body.contains("canary"),
            "{body}"
        );
    }
    let ci = new_key(&world, "ci --agent main");
    assert_eq!(
        server.ask("POST", "/rig/things", &ci, "hello"),
        (200, "hello".to_owned())
    );
    assert_eq!(upstream.seen()[0].bearer(), CREDENTIAL);
    assert_eq!(upstream.seen()[0].header("x-api-key"), None);
    let narrow = new_key(&world, "narrow --agent main --provider anthropic");
    assert_ne!(server.ask("POST", "/rig/things", &narrow, "x").0, 200);

    let key = ci.split_once("\r\n").unwrap().1;
    for (headers, why) in [
        ("host: evil.example\r\n", "foreign_host"),
        (
            "host: localhost\r\norigin: https://evil.example\r\n",
            "foreign_origin",
        ),
        (
            "host: localhost\r\nsec-fetch-site: cross-site\r\n",
            "foreign_origin",
        ),
    ] {
        let (status, body) = server.ask("POST", "/rig/things", &format!("{headers}{key}"), "x");
        assert!(status == 403 && body.contains(why), "{status} {body}");
        let (status, _) = server.ask("OPTIONS", "/rig/things", headers, "");
        assert_eq!(status, 403, "no preflight: {headers}");
    }
    let list = world.run("tokensink keys list --json").code(0).json();
    assert_eq!(list[0]["name"], "ci");
    world.run("tokensink keys revoke ci").code(0);
    let (status, body) = server.ask("POST", "/rig/things", &ci, "x");
    assert!(status == 401 && body.contains("revoked"), "{status} {body}");
    assert_eq!(upstream.seen().len(), 1);

    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let list = world.run("tokensink keys list --json").code(0).json();
    assert!(list[0]["lastUsedAt"].is_i64(), "written at the end: {list}");
    let log = log_of(&world);
    let secrets = ["canary", key.trim_end().rsplit(' ').next().unwrap()];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    for (path, text) in world.files() {
        let holds = text.contains(secrets[1]) || text.contains("stranger");
        assert!(!holds, "{}", path.display());
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn it_starts_itself_anew_with_settings_of_the_allocator_unless_they_are_set() {
    let upstream = Upstream::start(echo);
    let world = world(&upstream);
    let (arenas, threshold) = ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_");
    let both = [(arenas, "5"), (threshold, "65536")];
    // What a system leaves us that takes such settings away.
    let once = [("TOKENSINK_STARTED_ANEW", "1")];
    for (given, has) in [
        (&both[..0], &[(arenas, "2"), (threshold, "131072")][..]),
        (&both[..1], &[(arenas, "5"), (threshold, "131072")]),
        (&both, &both),
        (&once, &[]),
    ] {
        let variables = given.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let mut server = Server::start_in(&world, "", variables);
        let of_process = format!("/proc/{}", server.child.id());
        let environment = std::fs::read_to_string(format!("{of_process}/environ")).unwrap();
        let mut settings: Vec<_> = environment
            .split('\0')
            .filter(|variable| variable.starts_with("MALLOC_"))
            .collect();
        settings.sort_unstable();
        let has: Vec<_> = has
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(settings, has, "the process that was started has them");
        let line = std::fs::read_to_string(format!("{of_process}/cmdline")).unwrap();
        let words: Vec<&str> = line.split_terminator('\0').skip(1).collect();
        assert_eq!(
            words,
            ["-vv", "serve", "--port", "0", "--json"],
            "and its arguments"
        );
        server.signal("TERM");
        assert_eq!(server.ended(), Some(0));
    }
}

#[test]
fn what_a_process_leased_on_the_socket_comes_back_when_it_is_killed() {
    let upstream = Upstream::start(|seen, talk| {
        if seen.path.ends_with("/hang") {
            // Until the caller is gone.
            let _left = talk.left_within(Duration::from_secs(60));
        } else {
            echo(seen, talk);
        }
    });
    let world = world(&upstream);
    let server = Server::start(&world, "");
    let counts = || {
        let (status, body) = server.ask_locally("GET", "/tokensink/v1/health", "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["clients"].clone()
    };
    assert_eq!(counts(), json!({}));
    let base = "http://localhost";
    let mut holder = Command::new("curl")
        .args(["-sN", "--unix-socket"])
        .arg(server.socket())
        .args(["-d", r#"{"provider":"rig","min_ttl":60}"#])
        .arg(format!("{base}/tokensink/v1/lease"))
        .args(["--next", "-sN", "--unix-socket"])
        .arg(server.socket())
        .arg(format!("{base}/rig/hang"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It has its lease and is still there.
    let mut text = String::new();
    let mut output = holder.stdout.take().unwrap();
    while serde_json::from_str::<Value>(&text).is_err() {
        let mut byte = [0];
        assert_eq!(output.read(&mut byte).unwrap(), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    let lease: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&lease["token"], &lease["profile"]),
        (&json!(CREDENTIAL), &json!("rig:manual")),
        "{lease}"
    );
    let name = format!("process {}", holder.id());
    assert_eq!(counts(), json!({name: 1}));
    holder.kill().unwrap();
    let killed = Instant::now();
    holder.wait().unwrap();
    while counts() != json!({}) {
        assert!(killed.elapsed() < Duration::from_secs(1), "it is still counted");
    }
    // Any process of the user can say what became of it.
    let report = json!({"lease": lease["id"], "outcome": "served"}).to_string();
    let (status, body) = server.ask_locally("POST", "/tokensink/v1/report", &report);
    assert_eq!(status, 200, "{body}");
    // Nothing that changes what is stored is to be had, neither here nor with a key.
    let key = new_key(&world, "ci --agent main");
    for path in [
        "/tokensink/v1/keys",
        "/tokensink/v1/agents",
        "/tokensink/v1/login",
        "/tokensink/v1/refresh",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            assert_eq!(server.ask_locally(method, path, "{}").0, 404, "{method} {path}");
            assert_eq!(server.ask(method, path, &key, "{}").0, 404, "{method} {path}");
        }
    }
    assert!(!log_of(&world).contains("canary"));
}

#[test]
fn a_stream_that_runs_ends_by_itself_after_the_first_signal() {
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::start(move |_, talk| {
        talk.begin_events();
        talk.chunk("data: 1\n\n");
        may_go_on.lock().unwrap().recv().unwrap();
        talk.chunk("data: 2\n\n");
        talk.end();
    });
    let world = world(&upstream);
    let key = new_key(&world, "ci --agent main");
    let mut server = Server::start(&world, "--no-socket");
    assert_eq!(server.ready["socket"], Value::Null);
    let request = format!("GET /rig/stream HTTP/1.1\r\n{key}\r\n");
    let mut stream = server.tcp();
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = String::new();
    while !seen.contains("data: 1") {
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    server.signal("TERM");
    // It takes nobody new.
    let began = Instant::now();
    while TcpStream::connect(server.address()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "it still listens");
    }
    go_on.send(()).unwrap();
    stream.read_to_string(&mut seen).unwrap();
    assert!(
        seen.contains("data: 2\n\n") && seen.ends_with("0\r\n\r\n"),
        "a clean end: {seen}"
    );
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn the_second_signal_ends_it_at_once_and_a_hangup_never() {
    let upstream = Upstream::start(|_, talk| {
        talk.begin_events();
        talk.chunk("data: 1\n\n");
        let _left = talk.left_within(Duration::from_secs(60));
    });
    let world = world(&upstream);
    let key = new_key(&world, "ci --agent main");
    let mut server = Server::start(&world, "--no-socket");
    server.signal("HUP");
    let mut stream = server.tcp();
    stream
        .write_all(format!("GET /rig/stream HTTP/1.1\r\n{key}\r\n").as_bytes())
        .unwrap();
    assert!(
        stream.read(&mut [0; 16]).unwrap() > 0,
        "the hangup changed nothing"
    );
    server.signal("INT");
    let began = Instant::now();
    while TcpStream::connect(server.address()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(10), "it still listens");
    }
    server.signal("INT");
    assert_eq!(server.ended(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_a_killed_gateway_leaves_hinders_nobody() {
    let upstream = Upstream::start(echo);
    let world = world(&upstream);
    let mut first = Server::start(&world, "");
    let mut second = Server::start(&world, "");
    assert_eq!(second.ready["socket"], Value::Null, "one of them has the socket");
    let status = world.run("tokensink service status --json").json();
    assert_eq!(status["gateways"].as_array().unwrap().len(), 2);
    let port = first.address().rsplit(':').next().unwrap().to_owned();
    let said = world.run(&format!("tokensink serve --port {port}")).code(1);
    let holder = format!("process {}", first.child.id());
    assert!(
        said.err.contains(&holder) && said.err.contains("fix: tokensink serve --port"),
        "{said:#?}"
    );
    let socket = first.socket();
    first.signal("KILL");
    first.ended();
    assert!(socket.exists(), "a kill leaves it");
    // The other one sees to it by itself.
    let began = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody takes it over");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, health) = first.ask_locally("GET", "/tokensink/v1/health", "");
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!((status, &health["pid"]), (200, &json!(second.child.id())));
    // It tells so, a moment after it listens.
    let of_second = || {
        let status = world.run("tokensink service status --json").json();
        status["gateways"][0].clone()
    };
    while of_second()["socket"].is_null() {
        assert!(began.elapsed() < Duration::from_secs(20), "{:#}", of_second());
    }
    let told = of_second();
    assert_eq!(
        (&told["pid"], &told["socket"]),
        (&json!(second.child.id()), &json!(socket))
    );
    second.signal("TERM");
    assert_eq!(second.ended(), Some(0));
    let third = Server::start(&world, "");
    assert_eq!(third.socket(), socket);
    assert_eq!(third.ask_locally("GET", "/tokensink/v1/health", "").0, 200);
    let mode = std::fs::metadata(&socket).unwrap();
    let dir = std::fs::metadata(socket.parent().unwrap()).unwrap();
    assert_eq!(
        (
            mode.permissions().mode() & 0o777,
            dir.permissions().mode() & 0o777
        ),
        (0o600, 0o700)
    );
    let status = world.run("tokensink service status --json").json();
    assert_eq!(status["gateways"][0]["pid"], third.child.id());
    drop(third);
}

#[test]
fn the_log_has_the_form_that_is_asked_for() {
    let upstream = Upstream::start(echo);
    for (form, is_json) in [("json", true), ("text", false)] {
        let world = world(&upstream);
        let server = Server::start(&world, &format!("--log-format {form}"));
        assert_eq!(server.ask("GET", "/nowhere", "host: localhost\r\n", "").0, 401);
        drop(server);
        let log = log_of(&world);
        let line = log.lines().find(|line| line.contains("/nowhere")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(line).is_ok(), is_json, "{line}");
    }
}
