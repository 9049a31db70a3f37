//! A crowd of clients before one `tokensink serve`, while tokens live for seconds and the provider refuses one call in
//! twenty: no client is told of a failure that another account could have mended, no grant is refreshed twice, and the
//! process takes no more memory and no more descriptors than it needs.

mod api;
mod client;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokensink_authserver::{AccountConfig, GrantType, ServerConfig};
use tokensink_testkit::Upstream;

use self::api::Api;
use self::client::{Client, Got};
use crate::support::full;
use crate::support::stage::Stage;
use crate::world::World;

/// Clients at a time; every other one asks for streams.
const CLIENTS: usize = 256;
/// The accounts that may serve them.
const ACCOUNTS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// How long an access token lives: the shortest life that is believed. It is renewed at its half or a little later, so
/// that with four accounts there is a refresh about every two seconds; the provider refuses the old one at once then.
const TOKEN_SECONDS: u64 = 10;

/// How long it lasts, when memory is measured first, and how much more there may be at the end.
struct Extent {
    lasts: Duration,
    settled: Duration,
    growth: f64,
}

#[test]
fn a_crowd_is_served_while_tokens_and_accounts_fail() {
    let extent = if full() {
        Extent {
            lasts: Duration::from_secs(60),
            settled: Duration::from_secs(10),
            growth: 1.1,
        }
    } else {
        // What a process takes in its first seconds is not settled yet.
        Extent {
            lasts: Duration::from_secs(5),
            settled: Duration::from_secs(2),
            growth: 1.3,
        }
    };
    let api = Arc::new(Api::default());
    let upstream = {
        let api = Arc::clone(&api);
        Upstream::start(move |seen, talk| api.answer(seen, talk))
    };
    let stage = stage(&upstream);
    let server = Server::start(&stage.world);
    let first = Client::new(&server).ask(0, false);
    assert!(matches!(first, Got::Served), "{first:?}");
    upstream.hang_up();
    let descriptors = server.settled_descriptors();

    let (settled_kib, end_kib) = run(&extent, &server, &api);

    upstream.hang_up();
    let left = server.settled_descriptors();
    let figures = api.figures();
    eprintln!(
        "{figures:?}; {settled_kib} KiB after {:?}, {end_kib} KiB after {:?}; {descriptors} descriptors, then {left}",
        extent.settled, extent.lasts
    );
    assert!(
        left <= descriptors,
        "{left} descriptors, {descriptors} at the start: {:#?}",
        server.descriptors()
    );
    #[expect(clippy::cast_precision_loss, reason = "a size in KiB")]
    let growth = end_kib as f64 / settled_kib as f64;
    assert!(growth <= extent.growth, "{settled_kib} KiB, then {end_kib} KiB");
    // A load test without load would show nothing.
    let least = 20 * extent.lasts.as_secs();
    assert!(
        figures.served > least && figures.refused > least / 20,
        "{figures:?}"
    );
    assert_refreshes(&stage, &api, extent.lasts);
}

/// Four grants, and a provider whose API is `upstream`.
fn stage(upstream: &Upstream) -> Stage {
    let stage = Stage::new(ServerConfig {
        accounts: ACCOUNTS.map(AccountConfig::named).to_vec(),
        access_token_seconds: TOKEN_SECONDS,
        ..ServerConfig::default()
    });
    let definition = stage.server.provider_toml("rig");
    let own = format!("base_url = \"{}\"", stage.server.url("/v1"));
    assert!(definition.contains(&own), "{definition}");
    let definition = definition.replace(&own, &format!("base_url = \"{}/v1\"", upstream.url()));
    stage
        .world
        .write(".openclaw/tokensink/providers/rig.toml", &definition);
    for account in ACCOUNTS {
        stage.store(&stage.world, "main", &format!("rig:{account}"), account, 0);
    }
    stage
}

/// Lets the crowd loose; memory after a while and at the end.
fn run(extent: &Extent, server: &Server, api: &Api) -> (u64, u64) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let over = &over;
                scope.spawn(move || crowd_member(number, server, api, over))
            })
            .collect();
        std::thread::sleep(extent.settled);
        let settled = server.resident_kib();
        std::thread::sleep(extent.lasts - extent.settled);
        let end = server.resident_kib();
        over.store(true, Ordering::SeqCst);
        for member in crowd {
            member.join().unwrap();
        }
        (settled, end)
    })
}

/// One client: asks until it is over.
fn crowd_member(number: usize, server: &Server, api: &Api, over: &AtomicBool) {
    let mut client = Client::new(server);
    let mut asked = 0;
    while !over.load(Ordering::SeqCst) {
        asked += 1;
        let request = number * 1_000_000 + asked;
        match client.ask(request, number % 2 == 1) {
            Got::Served => api.forget(request),
            Got::Refused { status, body } => {
                let able = api.able_accounts(request, &ACCOUNTS);
                assert!(
                    able.is_empty(),
                    "request {request} got {status} although {able:?} could serve it: {body}\n{:?}",
                    api.attempts(request)
                );
            }
        }
    }
}

/// No grant was refreshed more often than its tokens ran out, and no refresh token was used twice.
#[track_caller]
fn assert_refreshes(stage: &Stage, api: &Api, lasts: Duration) {
    let ledger = stage.server.ledger();
    let posts = ledger.posts(GrantType::RefreshToken);
    assert_eq!((posts, ledger.reuses), (ledger.refreshes, 0), "{ledger:#?}");
    assert!(ledger.refreshes >= lasts.as_secs() / 4, "{ledger:#?}");
    let tokens: BTreeMap<String, u64> = api.tokens_by_account();
    // The crowd takes a while to come and to go.
    let most = (lasts.as_secs() + 10) / (TOKEN_SECONDS / 2) + 1;
    for account in ACCOUNTS {
        let refreshes: u64 = ledger.families_of(account).map(|family| family.refreshes).sum();
        let seen = tokens.get(account).copied().unwrap_or_default();
        assert!(
            seen <= refreshes && refreshes <= most,
            "{account}: {refreshes} refreshes, {seen} tokens in use"
        );
    }
}

/// `tokensink serve`; it ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Server {
    fn start(world: &World) -> Self {
        let said = world.run("tokensink keys add crowd --agent main --json");
        let key = said.code(0).json()["key"].as_str().unwrap().to_owned();
        let mut child = world
            .command(&["tokensink", "serve", "--port", "0"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let at = line.find("127.0.0.1:").unwrap_or_else(|| panic!("{line:?}"));
        let address: String = line[at..]
            .chars()
            .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
            .collect();
        Self {
            child,
            address: address.trim_end_matches(['.', ':']).parse().unwrap(),
            key,
        }
    }

    fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// What the descriptors of the process lead to.
    fn descriptors(&self) -> Vec<String> {
        let dir = format!("/proc/{}/fd", self.child.id());
        let mut leads: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        leads.sort();
        leads
    }

    /// How many descriptors there are when nothing closes any more.
    fn settled_descriptors(&self) -> usize {
        let mut fewest = usize::MAX;
        let mut unchanged = 0;
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(25));
            let now = self.descriptors().len();
            unchanged = if now < fewest { 0 } else { unchanged + 1 };
            fewest = fewest.min(now);
            if unchanged >= 20 {
                break;
            }
        }
        fewest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen then.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}
