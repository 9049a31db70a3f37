//! What the state machine decides, as it looks from the other end of a connection.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokensink_authserver::{
    Endpoint, Fault, FaultAction, GrantType, Ledger, RevokedBecause, Rotation, Running, ServerConfig,
    StartError, TokenFormat,
};
use tokensink_host::{Clock, Random};
use tokensink_providers::{Registry, check};
use tokensink_testkit::loopback::{Answer, get, post, post_json, query, send};
use tokensink_types::UnixMillis;
use url::Url;

const PATIENCE: Duration = Duration::from_secs(30);
/// The example of RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Time that moves only when told.
#[derive(Debug)]
struct Still(Mutex<UnixMillis>);

impl Still {
    fn pass(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(time);
    }
}

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        UnixMillis(0).until(self.now())
    }

    fn sleep(&self, time: Duration) {
        self.pass(time);
    }
}

#[derive(Debug)]
struct System;

impl Random for System {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buffer).map_err(io::Error::other)
    }
}

fn start(config: ServerConfig) -> (Running, Arc<Still>) {
    let clock = Arc::new(Still(Mutex::new(UnixMillis(1_800_000_000_000))));
    let server = Running::start(config, clock.clone(), Arc::new(System)).unwrap();
    (server, clock)
}

fn strict() -> (Running, Arc<Still>) {
    start(ServerConfig::default())
}

fn refresh(server: &Running, token: &str) -> Answer {
    let pairs = [
        ("grant_type", "refresh_token"),
        ("client_id", "rig"),
        ("refresh_token", token),
    ];
    post(&server.url("/oauth/token"), &pairs)
}

fn first_token(server: &Running) -> String {
    let issued = server.issue("alice", &["openid"]).unwrap();
    issued.refresh_token.unwrap().expose().to_owned()
}

fn api(server: &Running, access: &str) -> u16 {
    let bearer = format!("Bearer {access}");
    send(
        "GET",
        &server.url("/v1/models"),
        &[("authorization", &bearer)],
        "",
    )
    .status
}

#[test]
fn a_login_over_the_socket() {
    let (server, clock) = strict();
    let mut url = Url::parse(&server.url("/oauth/authorize")).unwrap();
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", "rig"),
        ("redirect_uri", "http://127.0.0.1:1455/auth/callback"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("state", "s"),
        ("login_hint", "bob"),
    ]);
    let redirect = Url::parse(&get(url.as_str()).headers["location"]).unwrap();
    assert_eq!(
        (redirect.port(), query(&redirect, "state").as_deref()),
        (Some(1455), Some("s"))
    );
    let tokens = post(
        &server.url("/oauth/token"),
        &[
            ("grant_type", "authorization_code"),
            ("client_id", "rig"),
            ("code", &query(&redirect, "code").unwrap()),
            ("redirect_uri", "http://127.0.0.1:1455/auth/callback"),
            ("code_verifier", VERIFIER),
        ],
    );
    let access = tokens.text("access_token");
    assert_eq!(api(&server, &access), 200);
    clock.pass(Duration::from_secs(3600));
    assert_eq!(api(&server, &access), 401);
    assert_eq!(server.ledger().families[0].account, "bob");
    let metadata = get(&server.url("/.well-known/oauth-authorization-server")).json();
    assert_eq!(
        metadata["token_endpoint"].as_str(),
        Some(server.url("/oauth/token").as_str())
    );
    assert!(server.provider_toml("rig").contains(&server.url("/oauth/token")));
    server.shutdown();
}

#[test]
fn the_provider_definition_holds() {
    let (registry, problems) = Registry::load(&[]);
    assert!(problems.is_empty(), "{problems:?}");
    let opaque = ServerConfig {
        token_format: TokenFormat::Opaque,
        rotation: Rotation::Never,
        ..ServerConfig::default()
    };
    for config in [ServerConfig::default(), opaque] {
        let (server, _) = start(config);
        let text = server.provider_toml("rig");
        let problems = check(Path::new("rig.toml"), &text, &registry);
        assert!(problems.is_empty(), "{problems:?}\n{text}");
    }
}

#[test]
fn cuts_come_where_the_script_says() {
    let cases = [
        (FaultAction::CutBeforeHandling, 0, false),
        (FaultAction::CutBeforeAnswer, 0, true),
        (FaultAction::CutAfterBytes { bytes: 1 }, 1, true),
        (FaultAction::CutAfterBytes { bytes: 200 }, 200, true),
    ];
    for (action, bytes, spent) in cases {
        let (server, _) = strict();
        let token = first_token(&server);
        server.faults().push(Fault::on_refresh(action.clone()));
        assert_eq!(refresh(&server, &token).bytes.len(), bytes, "{action}");
        assert_eq!(server.ledger().refreshes, u64::from(spent), "{action}");
        let next = refresh(&server, &token).status;
        assert_eq!(next, if spent { 400 } else { 200 }, "{action}");
        server.shutdown();
    }
}

#[test]
fn a_huge_answer_arrives_whole() {
    let (server, _) = strict();
    let token = first_token(&server);
    server
        .faults()
        .push(Fault::on_refresh(FaultAction::HugeBody { bytes: 5_000_000 }));
    let answer = refresh(&server, &token);
    assert_eq!(answer.json()["padding"].as_str().unwrap().len(), 5_000_000);
    assert!(!answer.text("refresh_token").is_empty());
}

#[test]
fn a_held_answer_holds_nobody_else() {
    let (server, _) = strict();
    let token = first_token(&server);
    let faults = server.faults();
    faults.push(Fault::on_refresh(FaultAction::Hold));
    std::thread::scope(|scope| {
        let held = scope.spawn(|| refresh(&server, &token));
        assert!(faults.wait_until_held(1, PATIENCE));
        // The token is spent, and the server serves others.
        assert_eq!(server.ledger().refreshes, 1);
        assert_eq!(refresh(&server, &first_token(&server)).status, 200);
        assert!(!held.is_finished());
        assert_eq!((faults.held(), faults.release()), (1, 1));
        assert_eq!(held.join().unwrap().status, 200);
    });
    assert_eq!(faults.held(), 0);
}

#[test]
fn shutting_down_lets_held_answers_go() {
    let (server, _) = strict();
    let token = first_token(&server);
    let url = server.url("/oauth/token");
    let faults = server.faults();
    faults.push(Fault::on_refresh(FaultAction::Hold));
    let held = std::thread::spawn(move || {
        let pairs = [
            ("grant_type", "refresh_token"),
            ("client_id", "rig"),
            ("refresh_token", token.as_str()),
        ];
        post(&url, &pairs)
    });
    assert!(faults.wait_until_held(1, PATIENCE));
    server.shutdown();
    held.join().unwrap();
    assert_eq!(faults.held(), 0);
}

#[test]
fn of_many_at_once_one_is_granted() {
    const CLIENTS: usize = 16;
    let (server, _) = strict();
    let token = first_token(&server);
    let granted = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| refresh(&server, &token).status))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .filter(|status| *status == 200)
            .count()
    });
    assert_eq!(granted, 1);
    let ledger = server.ledger();
    assert_eq!((ledger.refreshes, ledger.reuses), (1, CLIENTS as u64 - 1));
    assert_eq!(ledger.posts(GrantType::RefreshToken), CLIENTS as u64);
    assert_eq!(
        ledger.families[0].revoked,
        Some(RevokedBecause::RefreshTokenReuse)
    );
}

#[test]
fn another_process_can_read_and_steer() {
    let (server, _) = start(ServerConfig {
        control: true,
        ..ServerConfig::default()
    });
    let tokens = post_json(&server.url("/__issue"), &json!({"account": "bob"}));
    let fault = json!({"endpoint": "token", "nth": 2, "action": {"kind": "status", "status": 500}});
    assert_eq!(
        post_json(&server.url("/__faults"), &fault)
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let next = refresh(&server, &tokens.text("refresh_token"));
    assert_eq!(next.status, 200);
    assert_eq!(refresh(&server, &next.text("refresh_token")).status, 500);
    let hold = json!([{"endpoint": "token", "action": {"kind": "hold"}}, {"action": {"kind": "garbage"}}]);
    let _ = post_json(&server.url("/__faults"), &hold);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| refresh(&server, &next.text("refresh_token")));
        assert!(server.faults().wait_until_held(1, PATIENCE));
        assert_eq!(get(&server.url("/__held")).json(), json!({"held": 1}));
        assert_eq!(
            post_json(&server.url("/__release"), &json!({})).json(),
            json!({"held": 1})
        );
        assert_eq!(held.join().unwrap().status, 200);
    });
    assert_eq!(
        send("DELETE", &server.url("/__faults"), &[], "").json(),
        json!([])
    );
    let ledger: Ledger = serde_json::from_str(&get(&server.url("/__ledger")).body).unwrap();
    assert_eq!(ledger, server.ledger());
    assert_eq!(ledger.requests_to(Endpoint::Token).count(), 3);
}

#[test]
fn without_control_there_is_none() {
    let (server, _) = strict();
    for path in ["/__ledger", "/__faults", "/__held"] {
        assert_eq!(get(&server.url(path)).status, 404, "{path}");
    }
    assert_eq!(post_json(&server.url("/__release"), &json!({})).status, 404);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let (server, clock) = strict();
    let taken = ServerConfig {
        listen: server.base_url().socket_addrs(|| None).unwrap()[0],
        ..ServerConfig::default()
    };
    let error = Running::start(taken, clock.clone(), Arc::new(System)).unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(
        error.to_string().contains("give another port in `listen`"),
        "{error}"
    );
    let open = ServerConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..ServerConfig::default()
    };
    let error = Running::start(open, clock, Arc::new(System)).unwrap_err();
    assert!(error.to_string().contains("is not a loopback address"), "{error}");
}
