//! A refresh of one profile by OpenClaw and by us at once (openclaw-live.md 12.8): one request reaches the server,
//! and both end with its tokens. Both ask the real endpoint, which a proxy answers from a strict server.

use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokensink_authserver::{
    AnswerConfig, Fault, FaultAction, GrantType, Running, ServerConfig, TokenFormat, fingerprint,
};
use tokensink_conformance::Front;
use tokensink_host::Host;
use tokensink_types::Secret;

use super::agreement::assert_agreement;
use super::openclaw::OpenClaw;
use crate::support::crowd::{finish, start};
use crate::support::stage::{add_profile, stored};
use crate::world::World;

const CLIENT: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
const PROFILE: &str = "anthropic:work";
const OURS: &str = "tokensink token --provider anthropic";
const THEIRS: &str = "models status --probe --json --probe-provider anthropic --probe-profile anthropic:work";

/// How long a request may be on its way; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(40);

/// OpenClaw takes about two seconds until it refreshes.
const THEIR_START: Duration = Duration::from_secs(4);

/// A home with one expired login, and Claude's servers.
struct Race {
    world: World,
    server: Running,
    front: Front,
}

impl Race {
    fn new() -> Self {
        let host = Host::real();
        let config = ServerConfig {
            client_ids: vec![CLIENT.to_owned()],
            token_format: TokenFormat::Opaque,
            access_token_seconds: 28_800,
            answer: AnswerConfig {
                account: true,
                id_token: false,
                ..AnswerConfig::default()
            },
            ..ServerConfig::default()
        };
        let server = Running::start(config, Arc::clone(&host.clock), Arc::clone(&host.random)).unwrap();
        let to = server.base_url().socket_addrs(|| None).unwrap()[0];
        let race = Self {
            world: World::new(),
            front: Front::start(&host, to).unwrap(),
            server,
        };
        let issued = race.server.issue("alice", &["user:inference"]).unwrap();
        let entry = json!({
            "type": "oauth", "provider": "anthropic", "email": "alice@example.com",
            "access": issued.access_token.expose(), "refresh": issued.refresh_token.unwrap().expose(),
            "expires": host.clock.now().0 - 1000,
        });
        add_profile(&race.world, "main", PROFILE, entry);
        race
    }

    fn start_theirs(&self, openclaw: &OpenClaw<'_>) -> Child {
        openclaw.start(openclaw.command(THEIRS).envs(self.front.variables()))
    }

    fn start_ours(&self) -> Child {
        start(&self.world, OURS, &self.front.variables())
    }

    fn hold(&self) {
        self.server.faults().push(Fault::on_refresh(FaultAction::Hold));
    }

    #[track_caller]
    fn wait_until_held(&self) {
        let held = self.server.faults().wait_until_held(1, PATIENCE);
        assert!(held, "no refresh came: {:#?}", self.server.ledger());
    }

    /// Waits until one of our processes holds the kernel's lock in front of the refresh lock, or waits for it.
    #[track_caller]
    fn wait_until_ours_is_there(&self) {
        let until = Instant::now() + PATIENCE;
        let dir = self.world.state("locks/oauth-refresh");
        let is_ours = |entry: std::fs::DirEntry| entry.path().extension().is_none();
        while !std::fs::read_dir(&dir).is_ok_and(|dir| dir.flatten().any(is_ours)) {
            assert!(Instant::now() < until, "no lock of ours in {}", dir.display());
            std::thread::yield_now();
        }
    }

    /// One request reached the server, both ended well, and both see what it brought.
    #[track_caller]
    fn assert_one_request(&self, openclaw: &OpenClaw<'_>, theirs: Child, ours: Child) {
        let (theirs, ours) = (finish(theirs).code(0), finish(ours).code(0));
        let ledger = self.server.ledger();
        assert_eq!(
            (
                ledger.posts(GrantType::RefreshToken),
                ledger.refreshes,
                ledger.reuses
            ),
            (1, 1, 0),
            "requests, refreshes, reuses: {ledger:#?}"
        );
        let probe = &theirs.json()["auth"]["probes"]["results"][0];
        assert_eq!(probe["status"], "ok", "{probe:#}");
        let kept = stored(&self.world, "main", PROFILE);
        assert_eq!(kept["access"], ours.out.trim());
        let refresh = Secret::new(kept["refresh"].as_str().unwrap());
        assert_eq!(
            fingerprint(&refresh),
            ledger.families[0].current,
            "the store holds the newest token"
        );
        assert_agreement(&self.world, openclaw, &["anthropic"]);
        let hosts = self.front.hosts();
        let asked = hosts.iter().filter(|host| *host == "platform.claude.com:443");
        assert_eq!(asked.count(), 1, "{hosts:?}");
    }
}

/// Both start together, and the answer comes when the one that asks has asked.
#[test]
fn started_together() {
    let race = Race::new();
    let Some(openclaw) = OpenClaw::in_home(&race.world) else {
        return;
    };
    race.hold();
    let theirs = race.start_theirs(&openclaw);
    let ours = race.start_ours();
    race.wait_until_held();
    race.server.faults().release();
    race.assert_one_request(&openclaw, theirs, ours);
}

/// OpenClaw's request is on its way when we are asked: we wait for it and take what it brings.
#[test]
fn theirs_is_on_its_way() {
    let race = Race::new();
    let Some(openclaw) = OpenClaw::in_home(&race.world) else {
        return;
    };
    race.hold();
    let theirs = race.start_theirs(&openclaw);
    race.wait_until_held();
    let ours = race.start_ours();
    race.wait_until_ours_is_there();
    race.server.faults().release();
    race.assert_one_request(&openclaw, theirs, ours);
}

/// Our request is on its way when OpenClaw is asked: it waits for its lock and takes what we bring.
#[test]
fn ours_is_on_its_way() {
    let race = Race::new();
    let Some(openclaw) = OpenClaw::in_home(&race.world) else {
        return;
    };
    race.hold();
    let ours = race.start_ours();
    race.wait_until_held();
    let theirs = race.start_theirs(&openclaw);
    // It opens its store's lock file, or looks at it, only after it has ours; what shows that it waits is that it
    // runs and asks nobody.
    std::thread::sleep(THEIR_START);
    race.server.faults().release();
    race.assert_one_request(&openclaw, theirs, ours);
}
